package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// Bounds of a file. They are far above any real one and keep a hostile or
// broken one from costing memory or time.
const (
	MaxFile  = 1 << 20 // bytes
	maxDepth = 32      // levels, aliases followed
	maxNodes = 10_000  // values, aliases followed: a billion laughs end here
	maxText  = 4 << 20 // bytes of text that references gave
)

// A node is one value of the file, or of a `--set`, with its place: YAML with
// aliases, merge keys and references resolved.
type node struct {
	pos
	kind    yaml.Kind // MappingNode, SequenceNode or ScalarNode
	entries []member  // of a mapping, in the order of the file
	items   []*node   // of a sequence
	value   any       // of a scalar: nil, bool, int64, float64 or string
	text    string    // of a scalar, as it stood after expansion

	// via names the variables, and as file:PATH the files, that it came through.
	via []string
	// missing says that one of them is not set, which only Offline lets pass.
	missing bool
	// plain says that the text stands without quotes, and not in the file but
	// in a variable or a --set: where text is wanted, it stays text.
	plain bool
	// alone says that it is one reference in quotes and nothing else: it has the
	// type that is wanted, since within { } a reference cannot stand without quotes.
	alone bool
	// raw is a scalar of the file as it stands there.
	raw string
	// bad says that it was complained about.
	bad bool
	// secret says that neither it nor anything below it may be shown.
	secret bool
	// filed says that some of it came from a file, which makes it secret whatever its
	// key is.
	filed bool
	// set is the key of the `--set` that gave it; empty for the file.
	set string
}

type member struct {
	name string
	pos
	value *node
}

type pos struct{ line, col int }

// get returns the entry of a mapping.
func (n *node) get(name string) (member, bool) {
	if n != nil {
		for _, e := range n.entries {
			if e.name == name {
				return e, true
			}
		}
	}
	return member{}, false
}

// at returns the value at path, or nil.
func (n *node) at(path []string) *node {
	for _, step := range path {
		if n == nil {
			return nil
		}
		switch n.kind {
		case yaml.MappingNode:
			e, _ := n.get(step)
			n = e.value
		case yaml.SequenceNode:
			i, err := strconv.Atoi(step)
			if err != nil || i < 0 || i >= len(n.items) {
				return nil
			}
			n = n.items[i]
		default:
			return nil
		}
	}
	return n
}

func (n *node) isNull() bool { return n.known() && n.kind == yaml.ScalarNode && n.value == nil }

// known says that n has a value to look at.
func (n *node) known() bool { return !n.missing && !n.bad }

// data is n as maps, slices and scalars. What is not known is left out when
// onlyKnown is set.
func (n *node) data(onlyKnown bool) any {
	switch n.kind {
	case yaml.MappingNode:
		m := make(map[string]any, len(n.entries))
		for _, e := range n.entries {
			if onlyKnown && !e.value.known() {
				continue
			}
			m[e.name] = e.value.data(onlyKnown)
		}
		return m
	case yaml.SequenceNode:
		list := make([]any, 0, len(n.items))
		for _, item := range n.items {
			if onlyKnown && item.missing && item.secret {
				// There is one, and nobody knows it: no list of keys is empty for that.
				list = append(list, "${"+strings.Join(item.via, ",")+"}")
				continue
			}
			if onlyKnown && !item.known() {
				continue
			}
			list = append(list, item.data(onlyKnown))
		}
		return list
	}
	return n.value
}

// describe says what n is, in the words of a complaint.
func (n *node) describe() string {
	switch {
	case n.kind == yaml.MappingNode:
		return "a mapping"
	case n.kind == yaml.SequenceNode:
		return "a list"
	case n.value == nil:
		return "nothing"
	}
	s, isText := n.value.(string)
	switch {
	case n.secret && isText:
		return "text"
	case n.secret && (n.value == any(true) || n.value == any(false)):
		return "true or false"
	case n.secret:
		return "a number"
	case isText:
		return quote(withoutUser(s))
	}
	return clip(n.text)
}

// variables names what n and everything in it came through.
func (n *node) variables() []string {
	via := slices.Clone(n.via)
	for _, item := range n.items {
		via = append(via, item.variables()...)
	}
	for _, e := range n.entries {
		via = append(via, e.value.variables()...)
	}
	slices.Sort(via)
	return slices.Compact(via)
}

// hasFiled says whether n, or anything in it, came from a file.
func (n *node) hasFiled() bool {
	return n != nil && (n.filed || slices.ContainsFunc(n.items, (*node).hasFiled) ||
		slices.ContainsFunc(n.entries, func(e member) bool { return e.value.hasFiled() }))
}

// maxShown is how much of a value a complaint repeats, in code points.
const maxShown = 60

func clip(s string) string {
	if r := []rune(s); len(r) > maxShown {
		return string(r[:maxShown]) + "..."
	}
	return s
}

func quote(s string) string { return strconv.Quote(clip(s)) }

// A reader turns the bytes of one file into nodes and collects complaints.
type reader struct {
	expand   expander
	literal  bool // nothing is expanded: a --set
	complain func(p pos, path, message string)
	// What is said of a file that is empty, and of one that is no mapping.
	emptyFile, noMapping string

	nodes    int
	textLeft int
	full     bool                // over a bound: said once, and no more is read
	within   map[*yaml.Node]bool // anchored nodes being converted
}

// read parses data. It returns nil when there is nothing to go on with.
func (r *reader) read(data []byte) *node {
	if p, why := unreadable(data); why != "" {
		r.complain(p, "", why)
		return nil
	}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var doc yaml.Node
	switch err := decoder.Decode(&doc); {
	case errors.Is(err, io.EOF):
		r.complain(pos{1, 1}, "", r.emptyFile)
		return nil
	case err != nil:
		r.syntax(data, err)
		return nil
	}
	var second yaml.Node
	switch err := decoder.Decode(&second); {
	case err == nil:
		r.complain(place(&second), "", "a second document starts here; a file is one document, without ---")
	case !errors.Is(err, io.EOF):
		r.syntax(data, err)
		return nil
	}
	r.textLeft = maxText
	r.within = map[*yaml.Node]bool{}
	root := r.node(doc.Content[0], "", 0)
	switch {
	case r.full || root.bad:
		return nil
	case root.isNull():
		r.complain(pos{1, 1}, "", r.emptyFile)
		return nil
	case root.kind != yaml.MappingNode:
		root.secret = true // it may be the value of any key
		r.complain(root.pos, "", r.noMapping+", got "+root.describe())
		return nil
	}
	return root
}

// unreadable says where and why data cannot be a configuration at all.
func unreadable(data []byte) (pos, string) {
	at := func(i int) pos {
		lines := splitLines(string(data[:i]))
		return pos{len(lines), utf8.RuneCountInString(lines[len(lines)-1]) + 1}
	}
	if len(data) > MaxFile {
		return pos{1, 1}, fmt.Sprintf("the file is larger than %d KiB", MaxFile>>10)
	}
	for i := 0; i < len(data); {
		c, size := utf8.DecodeRune(data[i:])
		if c == 0 {
			return at(i), "there is a NUL byte here; the file must be text in UTF-8"
		}
		if c == utf8.RuneError && size == 1 {
			return at(i), "this is not valid UTF-8; save the file in UTF-8"
		}
		i += size
	}
	return pos{}, ""
}

var (
	yamlError     = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)
	fromParser    = regexp.MustCompile(`^did not find expected ('|key|node|<)`)
	percents      = regexp.MustCompile(`[:\-\[,] +%\w`)
	oneReference  = regexp.MustCompile(`^\$\{[^{}]*\}$`)
	unknownAnchor = regexp.MustCompile(`^unknown anchor '(.+)' referenced`)
)

// syntax complains about what the parser could not read. Of the place it knows
// at best the line where the broken part begins.
func (r *reader) syntax(data []byte, err error) {
	message := err.Error()
	p := pos{1, 1}
	lines := splitLines(string(data))
	if m := yamlError.FindStringSubmatch(message); m != nil {
		message = message[len(m[0]):]
		p.line, _ = strconv.Atoi(m[1])
		if p.line > 0 && fromParser.MatchString(message) {
			p.line++ // the library counts lines from 0 in these
		}
	}
	p.line = min(max(p.line, 1), len(lines))
	if m := unknownAnchor.FindStringSubmatch(message); m != nil {
		for i, line := range lines {
			if at := strings.Index(line, "*"+m[1]); at >= 0 {
				// The name may be all of a secret that begins with *.
				r.complain(pos{i + 1, utf8.RuneCountInString(line[:at]) + 1}, "", "there is no anchor of this name above this alias; quote text that begins with *")
				return
			}
		}
	}
	// The tab is in the line named or in the next.
	for l := p.line; l <= min(p.line+1, len(lines)); l++ {
		text := lines[l-1]
		if i := strings.IndexByte(text, '\t'); i >= 0 && strings.TrimSpace(text[:i]) == "" {
			r.complain(pos{l, i + 1}, "", "a tab; YAML is indented with blanks")
			return
		}
	}
	for l := p.line; l <= min(p.line+1, len(lines)); l++ {
		if at := percents.FindStringIndex(lines[l-1]); at != nil {
			r.complain(pos{l, utf8.RuneCountInString(lines[l-1][:at[1]-1])}, "", "text that begins with % needs quotes; if this is a reference to a variable, it is written ${NAME}")
			return
		}
	}
	if strings.Contains(lines[p.line-1], "${") {
		message += "; within { } or [ ], quote a reference: \"${NAME}\""
	}
	r.complain(p, "", "not valid YAML from about here: "+message)
}

var lineBreaks = strings.NewReplacer("\r\n", "\n", "\r", "\n", "\u0085", "\n", "\u2028", "\n", "\u2029", "\n")

// splitLines splits as the parser counts lines, by YAML 1.1.
func splitLines(s string) []string { return strings.Split(lineBreaks.Replace(s), "\n") }

func place(y *yaml.Node) pos { return pos{max(y.Line, 1), max(y.Column, 1)} }

// fail complains and returns what stands in for the value: nobody looks at it
// again, so that one mistake is one complaint.
func (r *reader) fail(p pos, path, message string) *node {
	r.complain(p, path, message)
	return &node{pos: p, kind: yaml.ScalarNode, bad: true}
}

// node converts y, which stands at path.
func (r *reader) node(y *yaml.Node, path string, depth int) *node {
	r.nodes++
	switch {
	case r.full:
		return &node{bad: true}
	case r.nodes > maxNodes:
		r.full = true
		return r.fail(place(y), path, fmt.Sprintf("the file has more than %d values once its aliases are followed", maxNodes))
	case depth > maxDepth:
		return r.fail(place(y), path, fmt.Sprintf("more than %d levels deep", maxDepth))
	}
	if y.Anchor != "" {
		r.within[y] = true
		defer delete(r.within, y)
	}
	switch y.Kind {
	case yaml.AliasNode:
		if r.within[y.Alias] {
			return r.fail(place(y), path, "the alias *"+clip(y.Value)+" stands inside what it repeats")
		}
		return r.node(y.Alias, path, depth+1)
	case yaml.MappingNode:
		return r.mapping(y, path, depth)
	case yaml.SequenceNode:
		return r.sequence(y, path, depth)
	}
	return r.scalar(y, path)
}

func (r *reader) sequence(y *yaml.Node, path string, depth int) *node {
	n := &node{pos: place(y), kind: yaml.SequenceNode}
	if y.ShortTag() != "!!seq" {
		return r.fail(n.pos, path, noTag)
	}
	for i, child := range y.Content {
		n.items = append(n.items, r.node(child, fmt.Sprintf("%s[%d]", path, i), depth+1))
	}
	return n
}

// mapping converts y. What merge keys bring in yields to the mapping's own
// keys, and of several the first wins (yaml.org/type/merge.html).
func (r *reader) mapping(y *yaml.Node, path string, depth int) *node {
	n := &node{pos: place(y), kind: yaml.MappingNode}
	if y.ShortTag() != "!!map" {
		return r.fail(n.pos, path, noTag)
	}
	seen := map[string]pos{}
	var merges []*yaml.Node
	for i := 0; i+1 < len(y.Content); i += 2 {
		key, value, at := y.Content[i], y.Content[i+1], place(y.Content[i])
		if key.Kind == yaml.AliasNode {
			key = key.Alias
		}
		if key.Kind == yaml.MappingNode && len(y.Content) == 2 {
			return r.fail(n.pos, path, "a key must be a word; if this is a reference to a variable, it is written ${NAME}")
		}
		if key.Kind != yaml.ScalarNode || key.Value == "" {
			r.complain(at, path, "a key must be a word")
			continue
		}
		if key.ShortTag() == "!!merge" {
			merges = append(merges, value)
			continue
		}
		if first, twice := seen[key.Value]; twice {
			r.complain(at, join(path, key.Value), fmt.Sprintf("the key stands here twice, first in line %d", first.line))
			continue
		}
		seen[key.Value] = at
		v := r.node(value, join(path, key.Value), depth+1)
		if value.Kind == yaml.ScalarNode && value.Value == "" && v.isNull() {
			v.pos = at // nothing has no place of its own
		}
		n.entries = append(n.entries, member{key.Value, at, v})
	}
	for _, y := range merges {
		from := r.node(y, path, depth+1)
		sources := []*node{from}
		if from.kind == yaml.SequenceNode {
			sources = from.items
		}
		for _, source := range sources {
			if source.kind != yaml.MappingNode && !source.bad {
				source.secret = true // nobody knows yet what stands here
				r.complain(place(y), path, "<< merges mappings, and this is "+source.describe())
			}
			for _, e := range source.entries {
				if _, has := seen[e.name]; !has {
					seen[e.name] = e.pos
					n.entries = append(n.entries, e)
				}
			}
		}
	}
	return n
}

// join writes a key as part of a path.
func join(path, key string) string {
	if path == "" {
		return clip(keyOf(key))
	}
	return path + "." + clip(keyOf(key))
}

// keyOf is a key as complaints write it. When no blank stands after the colon, all
// of `key:value` is one key to YAML, and the value may be a secret.
func keyOf(key string) string {
	if i := strings.IndexByte(key, ':'); i >= 0 {
		return key[:i+1] + "..."
	}
	return key
}

// noTag does not repeat the tag: it may be a secret that begins with !.
const noTag = "a tag, a word that begins with !, means nothing here; quote text that begins with !"

func (r *reader) scalar(y *yaml.Node, path string) *node {
	n := &node{pos: place(y), kind: yaml.ScalarNode, text: y.Value}
	quoted := y.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) != 0
	tag := ""
	if y.Style&yaml.TaggedStyle != 0 {
		tag = y.ShortTag()
		switch tag {
		case "!!str", "!!int", "!!float", "!!bool", "!!null":
		default:
			return r.fail(n.pos, path, noTag)
		}
	}
	if !r.literal {
		n.raw = y.Value
	}
	if !r.literal && strings.Contains(y.Value, "$") {
		text, via, err := r.expand.text(y.Value)
		if missing, ok := errors.AsType[missingError](err); ok && r.expand.offline {
			n.missing, n.via, n.text, n.value = true, missing, "", ""
			return n
		}
		if err != nil {
			if why := r.expand.misspelt(y.Value, true); why != "" {
				return r.fail(n.pos, path, why)
			}
			return r.fail(n.pos, path, err.Error())
		}
		if r.textLeft -= len(text); r.textLeft < 0 {
			r.full = true
			return r.fail(n.pos, path, fmt.Sprintf("the variables of this file are more than %d MiB of text", maxText>>20))
		}
		n.text, n.via = text, via
		n.filed = slices.ContainsFunc(via, func(name string) bool { return strings.HasPrefix(name, prefixFile) })
		n.secret = n.filed
	}
	n.plain = !quoted && tag == "" && (r.literal || strings.Contains(y.Value, "${"))
	if quoted && tag == "" {
		n.alone = !r.literal && oneReference.MatchString(y.Value)
		tag = "!!str"
	}
	value, err := typed(n.text, tag)
	if err != nil {
		return r.fail(n.pos, path, err.Error())
	}
	n.value = value
	return n
}

// typed gives a scalar the type that its tag says, or that YAML gives it. Dates
// stay text, as no key is one.
func typed(text, tag string) (any, error) {
	if tag == "!!str" {
		return text, nil
	}
	var value any
	if err := (&yaml.Node{Kind: yaml.ScalarNode, Value: text, Tag: tag}).Decode(&value); err != nil {
		return nil, fmt.Errorf("this is not a value of the type %s", tag)
	}
	switch v := value.(type) {
	case nil, bool, string, int64:
		return v, nil
	case int:
		return int64(v), nil
	case uint64:
		return nil, errors.New("the number is too large")
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return nil, errors.New("this is not a finite number")
		}
		return v, nil
	}
	return text, nil
}
