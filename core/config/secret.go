package config

import (
	"encoding/json"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"github.com/invopop/jsonschema"
	"go.yaml.in/yaml/v3"

	"github.com/dragoman-mt/dragoman/core/lazy"
	"github.com/dragoman-mt/dragoman/core/schema"
)

// A view is all that a schema says about one value, in as many places as it says
// something: it may combine schemas, refer to others and make them conditional. It
// is for finding out what must not be shown, so it takes every branch.
type view struct {
	document map[string]any
	at       []map[string]any
	// opaque says that a part of it could not be followed.
	opaque bool
}

// Bounds of a schema, which may be another program's: how deep schemas refer to
// each other, and how many speak about one value.
const (
	maxFollowed = 32
	maxBranches = 1000
)

// viewOf is what the definition def says, or the whole document when def is empty.
func (c *checker) viewOf(def string) view {
	v := view{document: c.raw}
	if def == "" {
		v.add(c.raw, 0)
	} else {
		v.add(map[string]any{"$ref": "#/$defs/" + schema.Escape(def)}, 0)
	}
	return v
}

func (v *view) add(raw any, depth int) {
	s, ok := raw.(map[string]any)
	switch {
	case !ok:
		return // true and false say nothing
	case depth > maxFollowed || len(v.at) >= maxBranches:
		v.opaque = true
		return
	}
	v.at = append(v.at, s)
	for _, key := range []string{"$ref", "$dynamicRef"} {
		if ref, ok := s[key].(string); ok {
			to, found := schema.Follow(v.document, ref)
			v.add(to, depth+1)
			v.opaque = v.opaque || !found
		}
	}
	for _, key := range []string{"allOf", "anyOf", "oneOf"} {
		branches, _ := s[key].([]any)
		for _, branch := range branches {
			v.add(branch, depth+1)
		}
	}
	for _, key := range []string{"if", "then", "else", "not"} {
		v.add(s[key], depth+1)
	}
	dependent, _ := s["dependentSchemas"].(map[string]any)
	for _, branch := range dependent {
		v.add(branch, depth+1)
	}
}

// key is what is said about the value of a key.
func (v view) key(name string) view {
	next := view{document: v.document, opaque: v.opaque}
	for _, s := range v.at {
		named := false
		if properties, ok := s["properties"].(map[string]any); ok {
			if property, ok := properties[name]; ok {
				named = true
				next.add(property, 0)
			}
		}
		patterns, _ := s["patternProperties"].(map[string]any)
		for pattern, property := range patterns {
			if matches, err := regexp.MatchString(pattern, name); matches || err != nil {
				named = true
				next.add(property, 0)
			}
		}
		if !named {
			next.add(s["additionalProperties"], 0)
			next.add(s["unevaluatedProperties"], 0)
		}
	}
	return next
}

// item is what is said about an item of a list.
func (v view) item(i int) view {
	next := view{document: v.document, opaque: v.opaque}
	for _, s := range v.at {
		for _, key := range []string{"prefixItems", "items"} {
			if list, ok := s[key].([]any); ok && i < len(list) {
				next.add(list[i], 0)
			}
		}
		for _, key := range []string{"items", "additionalItems", "unevaluatedItems", "contains"} {
			next.add(s[key], 0)
		}
	}
	return next
}

// says reports whether any schema of v has one of keywords.
func (v view) says(keywords ...string) bool {
	for _, s := range v.at {
		for _, keyword := range keywords {
			if value, ok := s[keyword]; ok && value != false {
				return true
			}
		}
	}
	return false
}

func (v view) empty() bool { return len(v.at) == 0 }

// secret says that the value is one. Of a mapping with keys of its own, which text
// may stand for, only the text is.
func (v view) secret(kind yaml.Kind) bool {
	return v.opaque || v.says("writeOnly") && (kind != yaml.MappingNode || !v.says("properties"))
}

// holds says that the value, or one below it, is a secret.
func (v view) holds() bool {
	if v.opaque {
		return true
	}
	left := 100 * maxBranches
	var within func(raw any, depth int) bool
	within = func(raw any, depth int) bool {
		if left--; left < 0 || depth > maxFollowed {
			return true // nobody knows
		}
		switch raw := raw.(type) {
		case map[string]any:
			if raw["writeOnly"] == true {
				return true
			}
			if ref, ok := raw["$ref"].(string); ok {
				if to, found := schema.Follow(v.document, ref); !found || within(to, depth+1) {
					return true
				}
			}
			for key, value := range raw {
				if key != "$defs" && key != "definitions" && within(value, depth+1) {
					return true
				}
			}
		case []any:
			for _, value := range raw {
				if within(value, depth+1) {
					return true
				}
			}
		}
		return false
	}
	for _, s := range v.at {
		if within(s, 0) {
			return true
		}
	}
	return false
}

// hide marks what is secret in n, of which v is said: what has to be, in whatever
// shape it stands there, and whatever stands in the place of something that would
// hold a secret.
func (n *node) hide(v view, secret bool) {
	if n == nil {
		return
	}
	if !secret {
		secret = v.secret(n.kind) || v.misplaced(n.kind) && v.holds()
	}
	n.secret = secret || n.filed
	for i, item := range n.items {
		item.hide(v.item(i), secret)
	}
	for _, e := range n.entries {
		next := v.key(e.name)
		e.value.hide(next, secret || next.empty() && v.holds())
	}
}

// misplaced says that nothing in v is about a value of that kind.
func (v view) misplaced(kind yaml.Kind) bool {
	switch kind {
	case yaml.MappingNode:
		return !v.says("properties", "additionalProperties", "patternProperties", "unevaluatedProperties")
	case yaml.SequenceNode:
		return !v.says("items", "prefixItems", "additionalItems", "unevaluatedItems", "contains")
	}
	return v.says("properties", "additionalProperties", "patternProperties", "items", "prefixItems")
}

var pathSteps = regexp.MustCompile(`\[(\d+)\]|[^.\[\]]+`)

// public is the part of a path, in the document that v is of, that holds no text
// from a value that may be secret: a key may have been written where one belongs.
func (v view) public(path string) string {
	for _, at := range pathSteps.FindAllStringSubmatchIndex(path, -1) {
		step, index := path[at[0]:at[1]], at[2] >= 0
		kind, next := yaml.MappingNode, view{}
		if index {
			i, _ := strconv.Atoi(path[at[2]:at[3]])
			kind, next = yaml.SequenceNode, v.item(i)
		} else {
			next = v.key(step)
		}
		switch {
		case !index && (v.secret(kind) || v.misplaced(kind) && v.holds()):
			return strings.TrimSuffix(path[:at[0]], ".")
		case next.empty() && index:
			continue // a number tells nothing
		case next.empty():
			return path[:at[1]] // a slip of a key
		}
		v = next
	}
	return path
}

const redacted = "[redacted]"

var (
	afterScheme = regexp.MustCompile(`://[^\s"'<>]*`)
	hostAndPort = regexp.MustCompile(`^(\[[0-9A-Fa-f:.]*\]|[^:@]*)(:[0-9]{0,5})?$`)
	// inQuery finds what a query says under the name of a secret, such as ?key= or
	// &subscription-key=, but not api-version=.
	inQuery = lazy.Regexp(`(?i)([?&;](?:[^=&;#]*(?:key|token|secret|signature|passw|credential)[^=&;#]*|auth|code|pass|pwd|sig)=)[^&;#\s"'<>]+`)
)

// withoutKeys hides what the query of an address says under the name of a secret.
func withoutKeys(s string) string { return inQuery().ReplaceAllString(s, "${1}"+redacted) }

// withoutPassword hides the name and the password of every URL in s, and the keys in
// its query. What a person wrote with a / or an @ in it is a password all the same.
func withoutPassword(s string) string {
	return afterScheme.ReplaceAllStringFunc(s, func(rest string) string {
		rest = rest[len("://"):]
		at := strings.LastIndexByte(rest, '@')
		host := rest
		if end := strings.IndexAny(rest, "/?#"); end >= 0 {
			host = rest[:end]
		}
		if at < 0 || hostAndPort.MatchString(host) {
			return "://" + withoutKeys(rest)
		}
		return "://" + redacted + withoutKeys(rest[at:])
	})
}

// withoutUser hides whatever stands before an @ in s, which may be an address
// without a scheme, and the keys in its query.
func withoutUser(s string) string {
	s = withoutKeys(s)
	at := strings.LastIndexByte(s, '@')
	if at < 0 {
		return s
	}
	scheme := ""
	if i := strings.Index(s[:at], "://"); i >= 0 {
		scheme = s[:i+len("://")]
	}
	return scheme + redacted + s[at:]
}

// raw is s as JSON would hold it, less what is only for people. The way through JSON itself
// takes several times as long, at every start.
func raw(s *jsonschema.Schema) any {
	switch {
	case s == jsonschema.FalseSchema:
		return false
	case s == jsonschema.TrueSchema, reflect.ValueOf(*s).IsZero():
		return true
	}
	m := map[string]any{}
	one := func(key string, s *jsonschema.Schema) {
		if s != nil {
			m[key] = raw(s)
		}
	}
	list := func(key string, all []*jsonschema.Schema) {
		if len(all) > 0 {
			branches := make([]any, len(all))
			for i, s := range all {
				branches[i] = raw(s)
			}
			m[key] = branches
		}
	}
	named := func(key string, all map[string]*jsonschema.Schema) {
		if len(all) > 0 {
			branches := make(map[string]any, len(all))
			for name, s := range all {
				branches[name] = raw(s)
			}
			m[key] = branches
		}
	}
	if s.Ref != "" {
		m["$ref"] = s.Ref
	}
	if s.DynamicRef != "" {
		m["$dynamicRef"] = s.DynamicRef
	}
	if s.WriteOnly {
		m["writeOnly"] = true
	}
	list("allOf", s.AllOf)
	list("anyOf", s.AnyOf)
	list("oneOf", s.OneOf)
	list("prefixItems", s.PrefixItems)
	for key, s := range map[string]*jsonschema.Schema{
		"not": s.Not, "if": s.If, "then": s.Then, "else": s.Else, "items": s.Items, "contains": s.Contains,
		"additionalProperties": s.AdditionalProperties, "propertyNames": s.PropertyNames,
	} {
		one(key, s)
	}
	named("$defs", s.Definitions)
	named("dependentSchemas", s.DependentSchemas)
	named("patternProperties", s.PatternProperties)
	if s.Properties != nil {
		properties := make(map[string]any, s.Properties.Len())
		for p := s.Properties.Oldest(); p != nil; p = p.Next() {
			properties[p.Key] = raw(p.Value)
		}
		m["properties"] = properties
	}
	for key, n := range map[string]*uint64{
		"minLength": s.MinLength, "maxLength": s.MaxLength, "minItems": s.MinItems, "maxItems": s.MaxItems,
		"minContains": s.MinContains, "maxContains": s.MaxContains, "minProperties": s.MinProperties, "maxProperties": s.MaxProperties,
	} {
		if n != nil {
			m[key] = float64(*n)
		}
	}
	for key, n := range map[string]json.Number{
		"minimum": s.Minimum, "maximum": s.Maximum, "exclusiveMinimum": s.ExclusiveMinimum, "exclusiveMaximum": s.ExclusiveMaximum,
		"multipleOf": s.MultipleOf,
	} {
		if n != "" {
			m[key] = plain(n)
		}
	}
	for key, text := range map[string]string{"type": s.Type, "format": s.Format, "pattern": s.Pattern} {
		if text != "" {
			m[key] = text
		}
	}
	if s.Const != nil {
		m["const"] = plain(s.Const)
	}
	if len(s.Enum) > 0 {
		m["enum"] = plain(s.Enum)
	}
	if len(s.Required) > 0 {
		m["required"] = plain(s.Required)
	}
	if s.UniqueItems {
		m["uniqueItems"] = true
	}
	for key, value := range s.Extras {
		m[key] = plain(value)
	}
	return m
}

// plain is what stands in a schema as encoding/json would hold it.
func plain(v any) any {
	switch v := v.(type) {
	case json.Number:
		if n, err := v.Float64(); err == nil {
			return n
		}
		return string(v)
	case int:
		return float64(v)
	case []string:
		return listed(v)
	case []any:
		return listed(v)
	case map[string]any:
		m := make(map[string]any, len(v))
		for key, value := range v {
			m[key] = plain(value)
		}
		return m
	}
	return v
}

func listed[T any](all []T) []any {
	list := make([]any, len(all))
	for i := range all {
		list[i] = plain(all[i])
	}
	return list
}
