// Package schema says what a JSON Schema does not allow, and where. It knows the
// keywords of draft 2020-12 and the two by which draft 7 says the same in another way,
// and beside them the bounds of durations and sizes. A schema refers to nothing outside
// itself.
//
// No library does this, because the one that says where a mistake is compiles the schemas of
// all drafts in every program that links it: a third of what each command cost.
package schema

import (
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/lazy"
)

// A Schema is one whose keywords can be understood. It does not change any more, and
// may be used from several goroutines.
type Schema struct {
	root, rule any
	patterns   map[string]func() *regexp.Regexp
	// tracks says that a keyword depends on what others have looked at.
	tracks bool
}

// Parse reads a schema, which may be another program's.
func Parse(text []byte) (*Schema, error) {
	var root any
	if err := json.Unmarshal(text, &root); err != nil {
		return nil, fmt.Errorf("it is no JSON: %w", err)
	}
	return New(root)
}

// New takes a schema as encoding/json would hold it.
func New(root any) (*Schema, error) {
	s := &Schema{root: root, rule: root, patterns: map[string]func() *regexp.Regexp{}}
	r := reader{s, map[string]bool{}}
	if wrong := r.schema(root); wrong != nil {
		return nil, fmt.Errorf("#%s: %s", clip(wrong.at), wrong.what)
	}
	return s, nil
}

// Definition is one of the definitions in the schema.
func (s *Schema) Definition(name string) (*Schema, error) {
	rule, ok := Follow(s.root, "#/$defs/"+Escape(name))
	if !ok {
		return nil, fmt.Errorf("there is no definition %q", name)
	}
	definition := *s
	definition.rule = rule
	return &definition, nil
}

// Escape writes a name as a step of a JSON Pointer.
func Escape(step string) string { return strings.NewReplacer("~", "~0", "/", "~1").Replace(step) }

// Follow finds what a reference within the document root means, if it is a JSON Pointer.
func Follow(root any, ref string) (any, bool) {
	pointer, ok := strings.CutPrefix(ref, "#")
	if !ok || pointer != "" && pointer[0] != '/' {
		return nil, false
	}
	at := root
	for _, step := range strings.Split(pointer, "/")[1:] {
		step = strings.NewReplacer("~1", "/", "~0", "~").Replace(step)
		switch holder := at.(type) {
		case map[string]any:
			at = holder[step]
		case []any:
			i, err := strconv.Atoi(step)
			if err != nil || i < 0 || i >= len(holder) {
				return nil, false
			}
			at = holder[i]
		default:
			return nil, false
		}
	}
	return at, at != nil
}

// A reader finds out whether the keywords of a schema can be understood.
type reader struct {
	*Schema
	followed map[string]bool
}

// A fault is why a schema cannot be understood, and the place as a JSON Pointer.
type fault struct{ at, what string }

// under adds a step to the place of what is wrong below it.
func (f *fault) under(step string) *fault {
	if f != nil {
		f.at = "/" + Escape(step) + f.at
	}
	return f
}

func must(be string) *fault { return &fault{what: "must be " + be} }

var types = []string{"object", "array", "string", "integer", "number", "boolean", "null"}

func (r reader) schema(raw any) *fault {
	if _, truth := raw.(bool); truth {
		return nil
	}
	m, ok := raw.(map[string]any)
	if !ok {
		return must("a schema: a mapping, true or false")
	}
	for key, value := range m {
		if wrong := r.keyword(key, value); wrong != nil {
			return wrong.under(key)
		}
	}
	return nil
}

func (r reader) keyword(key string, value any) *fault {
	switch key {
	case "unevaluatedProperties", "unevaluatedItems":
		r.tracks = true
		return r.schema(value)
	case "additionalProperties", "additionalItems", "propertyNames", "contains", "not", "if", "then", "else":
		return r.schema(value)
	case "allOf", "anyOf", "oneOf", "prefixItems":
		return r.schemas(value)
	case "items":
		if _, several := value.([]any); several { // as draft 7 says what prefixItems says
			return r.schemas(value)
		}
		return r.schema(value)
	case "properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependentRequired", "dependencies":
		all, ok := value.(map[string]any)
		if !ok {
			return must("a mapping")
		}
		for name, value := range all {
			if wrong := r.named(key, name, value); wrong != nil {
				return wrong.under(name)
			}
		}
	case "$ref", "$dynamicRef":
		ref, ok := value.(string)
		if !ok {
			return must("text")
		}
		return r.reference(ref)
	case "$recursiveRef":
		return &fault{what: "write $ref, with a place in the schema such as #/$defs/NAME"}
	case "type":
		if one, ok := value.(string); ok {
			value = []any{one}
		}
		all := list(value)
		if len(all) == 0 || slices.ContainsFunc(all, func(one any) bool { name, _ := one.(string); return !slices.Contains(types, name) }) {
			return must("one of " + strings.Join(types, ", ") + ", or a list of them")
		}
	case "enum":
		if _, ok := value.([]any); !ok {
			return must("a list")
		}
	case "required":
		return names(value)
	case "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum":
		if _, ok := value.(float64); !ok {
			return must("a number")
		}
	case "multipleOf":
		if n, ok := value.(float64); !ok || n <= 0 {
			return must("a number above 0")
		}
	case "minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties", "minContains", "maxContains":
		if n, ok := value.(float64); !ok || n < 0 || n != math.Trunc(n) {
			return must("a whole number from 0")
		}
	case "uniqueItems":
		if _, ok := value.(bool); !ok {
			return must("true or false")
		}
	case "format":
		if _, ok := value.(string); !ok {
			return must("text")
		}
	case "pattern":
		pattern, ok := value.(string)
		if !ok {
			return must("text")
		}
		return r.pattern(pattern)
	case "minDuration", "maxDuration", "minSize", "maxSize":
		if _, ok := measures[key](value); !ok {
			return &fault{what: fmt.Sprintf("%q cannot be read", clip(fmt.Sprint(value)))}
		}
	}
	return nil
}

// named reads what a keyword that is a mapping says of one name.
func (r reader) named(keyword, name string, value any) *fault {
	if keyword == "patternProperties" {
		if wrong := r.pattern(name); wrong != nil {
			return wrong
		}
	}
	if _, several := value.([]any); keyword == "dependentRequired" || keyword == "dependencies" && several {
		return names(value)
	}
	return r.schema(value)
}

func (r reader) schemas(value any) *fault {
	all := list(value)
	if len(all) == 0 {
		return must("a list of schemas")
	}
	for i, one := range all {
		if wrong := r.schema(one); wrong != nil {
			return wrong.under(strconv.Itoa(i))
		}
	}
	return nil
}

// reference reads what is referred to, which may stand where nothing else is read.
func (r reader) reference(ref string) *fault {
	if r.followed[ref] {
		return nil
	}
	r.followed[ref] = true
	to, found := Follow(r.root, ref)
	if !found {
		return &fault{what: "refers to " + clip(ref) + ", and a schema refers to nothing but places in itself, such as #/$defs/NAME"}
	}
	return r.schema(to)
}

func (r reader) pattern(pattern string) *fault {
	if r.patterns[pattern] != nil {
		return nil
	}
	if _, err := syntax.Parse(pattern, syntax.Perl); err != nil {
		return &fault{what: clip(err.Error())}
	}
	r.patterns[pattern] = lazy.Regexp(pattern)
	return nil
}

// names holds value to be a list of keys.
func names(value any) *fault {
	all, ok := value.([]any)
	if !ok || slices.ContainsFunc(all, func(one any) bool { _, text := one.(string); return !text }) {
		return must("a list of keys")
	}
	return nil
}

// clip shortens what another program says.
func clip(text string) string {
	const most = 100
	if runes := []rune(text); len(runes) > most {
		text = string(runes[:most]) + "..."
	}
	return text
}

// measures are the keywords that JSON Schema lacks: the range of a duration or a size.
var measures = map[string]func(any) (int64, bool){
	"minDuration": duration, "maxDuration": duration, "minSize": size, "maxSize": size,
}

func duration(v any) (int64, bool) {
	text, ok := v.(string)
	if !ok {
		return 0, false
	}
	d, err := time.ParseDuration(text)
	return int64(d), err == nil
}

func size(v any) (int64, bool) {
	if n, ok := v.(float64); ok {
		v = strconv.FormatFloat(n, 'f', -1, 64)
	}
	size, err := core.ParseSize(fmt.Sprint(v))
	return int64(size), err == nil
}
