package config

import (
	"slices"
	"strings"

	"github.com/invopop/jsonschema"
	"go.yaml.in/yaml/v3"
)

// A setting is one `--set KEY=VALUE`.
type setting struct {
	key   string
	steps []string
	value *node
}

// overlay lays the settings over the parts and finds out the providers' kinds,
// which a setting may change.
func (l *loader) overlay() {
	var settings []setting
	for _, arg := range l.Set {
		if s, ok := l.setting(arg); ok {
			settings = append(settings, s)
		}
	}
	for _, s := range settings {
		if p := l.named(l.providers, s, "providers"); p != nil && slices.Equal(s.steps[2:], []string{"type"}) {
			p.typ = s.value
		}
	}
	for _, p := range l.providers {
		l.resolve(p)
	}
	for _, s := range settings {
		l.apply(s)
	}
}

// setting reads one argument. Its value is written as YAML would write it on
// one line, but only a leading bracket or quote makes it more than a word.
func (l *loader) setting(arg string) (setting, bool) {
	key, text, ok := strings.Cut(arg, "=")
	key = strings.TrimSpace(key)
	if !ok || key == "" {
		l.add(Complaint{File: "--set", Message: "write --set KEY=VALUE, such as --set pool.mode=direct"})
		return setting{}, false
	}
	fail := func(_ pos, path, message string) {
		l.add(Complaint{File: "--set " + key, Path: path, Message: message})
	}
	s := setting{key: key, steps: strings.Split(key, ".")}
	if p, why := unreadable([]byte(arg)); p.line > 0 {
		fail(p, "", why)
		return s, false
	}
	if trimmed := strings.TrimSpace(text); trimmed != "" && strings.ContainsAny(trimmed[:1], `[{"'`) {
		var doc yaml.Node
		if err := yaml.Unmarshal([]byte(trimmed), &doc); err != nil || len(doc.Content) != 1 {
			fail(pos{}, "", "the value is not YAML: a bracket or a quote has no partner, or stands where it may not")
			return s, false
		}
		r := reader{complain: fail, within: map[*yaml.Node]bool{}, literal: true}
		s.value = r.node(doc.Content[0], key, 0)
	} else {
		value, err := typed(text, "")
		if err != nil {
			fail(pos{}, "", err.Error())
			return s, false
		}
		s.value = &node{kind: yaml.ScalarNode, value: value, text: text, plain: true}
	}
	s.value.mark(key)
	return s, s.value.known()
}

// mark notes that n came from `--set key`, which has no place in the file.
func (n *node) mark(key string) {
	n.set, n.pos = key, pos{}
	for _, item := range n.items {
		item.mark(key)
	}
	for i := range n.entries {
		n.entries[i].pos = pos{}
		n.entries[i].value.mark(key)
	}
}

// named returns the part that s is about, if it is one of parts.
func (l *loader) named(parts []*part, s setting, section string) *part {
	if len(s.steps) < 2 || s.steps[0] != section {
		return nil
	}
	for _, p := range parts {
		if p.name == s.steps[1] {
			return p
		}
	}
	return nil
}

func (l *loader) apply(s setting) {
	complain := func(message string) {
		l.add(Complaint{File: "--set " + s.key, Message: message})
	}
	var p *part
	steps := s.steps[1:]
	switch top := s.steps[0]; top {
	case "version":
		complain("the version belongs to the file; change it there")
		return
	case "providers", "stages":
		parts := l.providers
		if top == "stages" {
			parts = l.stages
		}
		if len(s.steps) < 2 {
			complain("name one of them: --set " + top + ".NAME.KEY=VALUE")
			return
		}
		if p = l.named(parts, s, top); p == nil {
			var names []string
			for _, p := range parts {
				names = append(names, p.name)
			}
			complain("the file has no " + strings.TrimSuffix(top, "s") + " of this name" + orKnown(s.steps[1], names))
			return
		}
		steps = s.steps[2:]
	default:
		known := []string{"providers", "stages"}
		for _, section := range l.sections {
			known = append(known, section.name)
			if section.name == top {
				p = section
			}
		}
		if p == nil {
			complain(unknownKey(top, known))
			return
		}
	}
	switch {
	case p.config == nil: // complained about already
	case p.kind.Name != "" && p.typ == nil && slices.Equal(steps, []string{"enabled"}):
		p.enabled = s.value
	case len(steps) == 0 && s.value.kind != yaml.MappingNode:
		s.value.hide(l.checker.viewOf(p.def), false)
		complain("must be a mapping of keys to values, such as {key: value}, got " + s.value.describe())
	default:
		if p.set == nil {
			p.set = &node{kind: yaml.MappingNode, set: s.key}
		}
		if why := p.set.put(steps, s.value, p.shape); why != "" {
			complain(why)
		}
	}
}

// put lays value over n at steps. Below shape, the schema of n, keys are
// separated by dots; where any key may stand, what is left is one key. It
// returns what is wrong with steps.
func (n *node) put(steps []string, value *node, shape *jsonschema.Schema) string {
	if len(steps) == 0 {
		for _, e := range value.entries {
			n.replace(e.name, e.value)
		}
		return ""
	}
	name, rest := steps[0], steps[1:]
	next := below(shape, name)
	switch {
	case shape == nil || shape.Type != "object":
		return "there is no key below a value that is not a mapping"
	case shape.Properties == nil: // a mapping of free names
		name, rest = strings.Join(steps, "."), nil
	case next == nil:
		return unknownKey(name, keys(shape))
	}
	if len(rest) == 0 {
		n.replace(name, value)
		return ""
	}
	e, ok := n.get(name)
	if !ok || e.value.kind != yaml.MappingNode {
		e.value = &node{kind: yaml.MappingNode, set: value.set}
	}
	why := e.value.put(rest, value, next)
	if why == "" {
		n.replace(name, e.value)
	}
	return why
}

// replace sets one entry of a mapping.
func (n *node) replace(name string, value *node) {
	for i := range n.entries {
		if n.entries[i].name == name {
			n.entries[i].value = value
			return
		}
	}
	n.entries = append(n.entries, member{name: name, value: value})
}
