package config

import (
	"math"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/invopop/jsonschema"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/fields"
)

// A quick look knows what config structs are described with and nothing else of
// JSON Schema. Nearly every file that is loaded is right, and to compile all schemas
// for the validator, so that it says so, took a third of the start of the gateway.
type quick struct {
	patterns map[string]*regexp.Regexp
}

// allows says whether value is surely what s allows. When it says no, nobody knows yet:
// the validator has the last word, and all the words.
func (q *quick) allows(s *jsonschema.Schema, value any) bool {
	if s == nil || s == jsonschema.TrueSchema {
		return true
	}
	if !known(s) || !q.typed(s, value) {
		return false
	}
	if len(s.Enum) > 0 && !slices.ContainsFunc(s.Enum, func(one any) bool {
		_, text := one.(string)
		return text && one == value
	}) {
		return false
	}
	if text, ok := s.Const.(string); s.Const != nil && (!ok || value != any(text)) {
		return false
	}
	switch value := value.(type) {
	case string:
		return q.allowsText(s, value)
	case int64:
		return allowsNumber(s, float64(value)) && value > -1<<53 && value < 1<<53 && measured(s, value)
	case float64:
		return allowsNumber(s, value) && measured(s, value)
	case bool:
		return true
	case map[string]any:
		return q.allowsKeys(s, value)
	case []any:
		return q.allowsItems(s, value)
	}
	return false
}

// known says whether s says nothing that allows does not look at.
func known(s *jsonschema.Schema) bool {
	for key, value := range s.Extras {
		switch key {
		case "type":
			if _, ok := value.([]string); !ok {
				return false
			}
		case "minDuration", "maxDuration", "minSize", "maxSize":
		default:
			return false
		}
	}
	rest := *s
	rest.Description, rest.Default, rest.WriteOnly, rest.Extras = "", nil, false, nil // which forbid nothing
	rest.Type, rest.Const, rest.Enum, rest.Format, rest.Pattern, rest.MinLength, rest.MaxLength = "", nil, nil, "", "", nil, nil
	rest.Minimum, rest.Maximum = "", ""
	rest.Items, rest.MinItems, rest.MaxItems, rest.UniqueItems = nil, nil, nil, false
	rest.Properties, rest.AdditionalProperties, rest.Required = nil, nil, nil
	return reflect.ValueOf(rest).IsZero()
}

// typed says whether value has one of the types that s asks for.
func (q *quick) typed(s *jsonschema.Schema, value any) bool {
	wanted, _ := s.Extras["type"].([]string)
	if s.Type != "" {
		wanted = []string{s.Type}
	}
	if len(wanted) == 0 {
		return true
	}
	is := func(names ...string) bool {
		return slices.ContainsFunc(names, func(name string) bool { return slices.Contains(wanted, name) })
	}
	switch value.(type) {
	case string:
		return is("string")
	case int64:
		return is("integer", "number")
	case float64:
		return is("number")
	case bool:
		return is("boolean")
	case map[string]any:
		return is("object")
	case []any:
		return is("array")
	}
	return false
}

func (q *quick) allowsText(s *jsonschema.Schema, text string) bool {
	length := uint64(utf8.RuneCountInString(text))
	if s.MinLength != nil && length < *s.MinLength || s.MaxLength != nil && length > *s.MaxLength {
		return false
	}
	switch s.Format {
	case "":
	case fields.DurationFormat:
		if _, err := time.ParseDuration(text); err != nil {
			return false
		}
	case fields.SizeFormat:
		if _, err := core.ParseSize(text); err != nil {
			return false
		}
	default:
		return false
	}
	if s.Pattern != "" {
		pattern, compiled := q.patterns[s.Pattern]
		if !compiled {
			pattern, _ = regexp.Compile(s.Pattern) // nil is for the validator to tell
			q.patterns[s.Pattern] = pattern
		}
		if pattern == nil || !pattern.MatchString(text) {
			return false
		}
	}
	return measured(s, text)
}

// measured says whether value is within the bounds of a duration or a size.
func measured(s *jsonschema.Schema, value any) bool {
	if len(s.Extras) == 0 {
		return true
	}
	b, err := boundsOf(s.Extras)
	return err == nil && !slices.ContainsFunc(b, func(l limit) bool { return l.passed(value) })
}

func allowsNumber(s *jsonschema.Schema, n float64) bool {
	least, most := math.Inf(-1), math.Inf(1)
	var err1, err2 error
	if s.Minimum != "" {
		least, err1 = strconv.ParseFloat(string(s.Minimum), 64)
	}
	if s.Maximum != "" {
		most, err2 = strconv.ParseFloat(string(s.Maximum), 64)
	}
	return err1 == nil && err2 == nil && n >= least && n <= most
}

func (q *quick) allowsKeys(s *jsonschema.Schema, m map[string]any) bool {
	for _, name := range s.Required {
		if _, ok := m[name]; !ok {
			return false
		}
	}
	for name, value := range m {
		shape, ours := property(s, name)
		if !ours {
			shape = s.AdditionalProperties
		}
		if shape == jsonschema.FalseSchema || !q.allows(shape, value) {
			return false
		}
	}
	return true
}

func (q *quick) allowsItems(s *jsonschema.Schema, items []any) bool {
	n := uint64(len(items))
	if s.MinItems != nil && n < *s.MinItems || s.MaxItems != nil && n > *s.MaxItems {
		return false
	}
	seen := map[string]bool{}
	for _, item := range items {
		if s.UniqueItems {
			text, ok := item.(string)
			if !ok || seen[text] {
				return false
			}
			seen[text] = true
		}
		if !q.allows(s.Items, item) {
			return false
		}
	}
	return true
}
