package config

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/invopop/jsonschema"

	"github.com/dragoman-mt/dragoman/core"
)

// An origin is a part of a file that was loaded. Nothing in it changes any more:
// whoever complains does so with a loader and nodes of his own.
type origin struct {
	l *loader
	p *part
}

var _ core.Origin = (*origin)(nil)

func (o *origin) Folder() string { return o.l.folder }

// maxSchema is the longest schema that Check takes, in bytes.
const maxSchema = 1 << 20

// Check holds the value of key against schema, that of an object. The error is a Complaints, unless the schema itself is broken.
func (o *origin) Check(key string, schema []byte) error {
	shape, err := shapeOf(schema)
	if err != nil {
		return err
	}
	checker, err := foreignChecker(schema)
	if err != nil {
		return fmt.Errorf("the schema of %s cannot be used: %w", key, err)
	}
	l := o.again()
	l.checker = checker
	p := &part{
		pos: o.p.pos, path: join(o.p.path, key), key: o.p.key + "." + key, shape: shape,
		file: o.p.file.at([]string{key}).clone(), set: o.p.set.at([]string{key}).clone(),
	}
	if p.file != nil {
		p.pos = p.file.pos
	}
	if err := l.check(p); err != nil {
		return err
	}
	if len(l.complaints) == 0 {
		return nil
	}
	l.complaints.sort()
	return l.complaints
}

// Complain returns a Complaints about the value at path, or about the nearest
// thing above it that stands in the file.
func (o *origin) Complain(path, message string) error {
	steps := strings.FieldsFunc(path, func(r rune) bool { return r == '.' || r == '[' || r == ']' })
	var n *node
	for i := len(steps); i > 0 && n == nil; i-- {
		n = o.p.find(steps[:i])
	}
	at := o.p.pos
	if n != nil {
		at = n.pos
	}
	l := o.again()
	place, key := o.p.path, o.p.key
	if len(steps) > 0 && o.p.own != "" {
		if _, is := o.p.ownNode.get(steps[0]); is {
			place, key = o.p.own, o.p.own
		}
	}
	l.about(n, at, deeper(place, path), deeper(key, path), message)
	return l.complaints
}

// deeper is path below prefix, both of which may be empty.
func deeper(prefix, path string) string {
	return strings.Trim(prefix+"."+path, ".")
}

// again returns a loader without complaints.
func (o *origin) again() *loader {
	return &loader{Options: o.l.Options, schema: o.l.schema, folder: o.l.folder, said: map[Complaint]bool{}}
}

// shapeOf reads a schema for what complaints say beyond the mistake itself.
// A value of several types has none here.
func shapeOf(schema []byte) (*jsonschema.Schema, error) {
	if len(schema) > maxSchema {
		return nil, fmt.Errorf("the schema is longer than %d KiB", maxSchema>>10)
	}
	var raw any
	if err := json.Unmarshal(schema, &raw); err != nil {
		return nil, fmt.Errorf("the schema is no JSON: %w", err)
	}
	single(raw)
	text, err := json.Marshal(raw)
	if err != nil {
		return nil, err
	}
	shape := &jsonschema.Schema{}
	if err := json.Unmarshal(text, shape); err != nil {
		return nil, fmt.Errorf("the schema cannot be read: %w", err)
	}
	return shape, nil
}

// single drops every list of types below raw.
func single(raw any) {
	switch raw := raw.(type) {
	case map[string]any:
		if _, several := raw["type"].([]any); several {
			delete(raw, "type")
		}
		for _, value := range raw {
			single(value)
		}
	case []any:
		for _, value := range raw {
			single(value)
		}
	}
}

// clone returns a copy of n that can be fitted to another schema.
func (n *node) clone() *node {
	if n == nil {
		return nil
	}
	c := *n
	c.entries, c.items = slices.Clone(n.entries), slices.Clone(n.items)
	for i := range c.entries {
		c.entries[i].value = c.entries[i].value.clone()
	}
	for i := range c.items {
		c.items[i] = c.items[i].clone()
	}
	return &c
}
