package schema

import (
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strconv"
	"unicode/utf8"
)

// A Mistake is one thing that a schema does not allow.
type Mistake struct {
	// At is the way to the value: the keys, and the numbers of items.
	At []string
	// Keyword is the one that the value does not obey; empty for a value where nothing may stand.
	Keyword string
	// Want is what the keyword says, a list if it is "type".
	Want any
	// Got is how many characters, items or keys there are.
	Got int
	// Names are the keys that are missing, or that nobody knows.
	Names []string
	// Same are two items that are the same.
	Same [2]int
}

// Bounds of what is looked at, for a schema may be another program's: how often schemas
// refer to others before a value below is looked at, and how many are looked at in all.
const (
	maxFollowed = 32
	maxSteps    = 200_000
)

// Check returns what is wrong with value, which holds what encoding/json does, and int64: no number
// of it is infinite.
func (s *Schema) Check(value any) []Mistake {
	j := judge{Schema: s, left: maxSteps}
	return j.look(s.rule, value, 0, j.nothing())
}

// A judge looks at one value after the other.
type judge struct {
	*Schema
	at   []string // the way to the value that is looked at
	left int
}

func (j *judge) wrong(keyword string, want any) Mistake {
	return Mistake{At: slices.Clone(j.at), Keyword: keyword, Want: want}
}

// below looks at a value below another.
func (j *judge) below(rule any, step string, value any) []Mistake {
	j.at = append(j.at, step)
	defer func() { j.at = j.at[:len(j.at)-1] }()
	return j.look(rule, value, 0, j.nothing())
}

// seen are the keys or the numbers of items that some keyword has looked at; nil when no
// keyword asks for that.
type seen map[string]bool

func (j *judge) nothing() seen {
	if j.tracks {
		return seen{}
	}
	return nil
}

func (s seen) add(step string) {
	if s != nil {
		s[step] = true
	}
}

// look holds a value against one schema, to which followed references led since another value
// was looked at. Of several mistakes of one value the one that says most comes first.
func (j *judge) look(rule, value any, followed int, saw seen) (wrong []Mistake) {
	m, ok := rule.(map[string]any)
	if !ok {
		if rule == false {
			return []Mistake{j.wrong("", nil)}
		}
		return nil
	}
	if j.left--; j.left < 0 {
		return []Mistake{j.wrong("$ref", nil)}
	}
	for _, key := range []string{"type", "const", "enum", "format"} {
		if want, ok := m[key]; ok && !is(key, want, value) {
			if one, ok := want.(string); ok && key == "type" {
				want = []any{one}
			}
			return []Mistake{j.wrong(key, want)}
		}
	}
	switch v := value.(type) {
	case map[string]any:
		wrong = j.keys(m, v, saw)
	case []any:
		wrong = j.items(m, v, saw)
	case string:
		wrong = j.text(m, v)
	case int64, float64:
		wrong = j.numbers(m, v)
	}
	wrong = append(wrong, j.others(m, value, followed, saw)...)
	for _, key := range []string{"minDuration", "maxDuration", "minSize", "maxSize"} {
		if want, ok := m[key]; ok {
			limit, _ := measures[key](want)
			if got, ok := measures[key](value); ok && (got < limit) == (key[:3] == "min") && got != limit {
				wrong = append(wrong, j.wrong(key, want))
			}
		}
	}
	return append(wrong, j.rest(m, value, saw)...)
}

// others are the schemas that a schema holds about the same value.
func (j *judge) others(m map[string]any, value any, followed int, saw seen) (wrong []Mistake) {
	// fits adds to what was seen only if the schema allows the value.
	fits := func(rule any) []Mistake {
		also := j.nothing()
		wrong := j.look(rule, value, followed, also)
		if len(wrong) == 0 {
			maps.Copy(saw, also)
		}
		return wrong
	}
	for _, key := range []string{"$ref", "$dynamicRef"} {
		if ref, ok := m[key].(string); ok {
			if followed++; followed > maxFollowed {
				return append(wrong, j.wrong(key, nil))
			}
			to, _ := Follow(j.root, ref)
			wrong = append(wrong, fits(to)...)
		}
	}
	if rule, ok := m["not"]; ok && len(j.look(rule, value, followed, j.nothing())) == 0 {
		wrong = append(wrong, j.wrong("not", nil))
	}
	for _, rule := range list(m["allOf"]) {
		wrong = append(wrong, fits(rule)...)
	}
	for _, key := range []string{"anyOf", "oneOf"} {
		fit := 0
		for _, rule := range list(m[key]) {
			if len(fits(rule)) == 0 {
				fit++
			}
		}
		if _, ok := m[key]; ok && (fit == 0 || key == "oneOf" && fit > 1) {
			wrong = append(wrong, j.wrong(key, nil))
		}
	}
	if rule, ok := m["if"]; ok {
		then := "then"
		if len(fits(rule)) > 0 {
			then = "else"
		}
		if rule, ok := m[then]; ok {
			wrong = append(wrong, fits(rule)...)
		}
	}
	if keys, ok := value.(map[string]any); ok {
		for _, keyword := range []string{"dependentSchemas", "dependentRequired", "dependencies"} {
			dependent, _ := m[keyword].(map[string]any)
			for _, name := range slices.Sorted(maps.Keys(dependent)) {
				if _, there := keys[name]; !there {
					continue
				}
				if names, ok := dependent[name].([]any); ok {
					wrong = append(wrong, j.missing(names, keys)...)
				} else {
					wrong = append(wrong, fits(dependent[name])...)
				}
			}
		}
	}
	return wrong
}

func (j *judge) keys(m, keys map[string]any, saw seen) (wrong []Mistake) {
	wrong = append(j.counted(m, "Properties", len(keys)), j.missing(list(m["required"]), keys)...)
	named, _ := m["properties"].(map[string]any)
	patterns, _ := m["patternProperties"].(map[string]any)
	additional, more := m["additionalProperties"]
	var unknown []string
	for _, name := range slices.Sorted(maps.Keys(keys)) {
		rule, known := named[name]
		if known {
			wrong = append(wrong, j.below(rule, name, keys[name])...)
		}
		for pattern, rule := range patterns {
			if j.patterns[pattern]().MatchString(name) {
				known = true
				wrong = append(wrong, j.below(rule, name, keys[name])...)
			}
		}
		switch {
		case known:
		case additional == false:
			unknown = append(unknown, name)
			continue
		case more:
			wrong = append(wrong, j.below(additional, name, keys[name])...)
		default:
			continue
		}
		saw.add(name)
	}
	if len(unknown) > 0 {
		wrong = append(wrong, Mistake{At: slices.Clone(j.at), Keyword: "additionalProperties", Names: unknown})
	}
	if rule, ok := m["propertyNames"]; ok {
		for _, name := range slices.Sorted(maps.Keys(keys)) {
			if len(j.below(rule, name, name)) > 0 {
				wrong = append(wrong, Mistake{At: slices.Clone(j.at), Keyword: "propertyNames", Names: []string{name}})
			}
		}
	}
	return wrong
}

func (j *judge) items(m map[string]any, items []any, saw seen) (wrong []Mistake) {
	wrong = j.counted(m, "Items", len(items))
	if m["uniqueItems"] == true {
		if one, other, ok := twice(items); ok {
			wrong = append(wrong, Mistake{At: slices.Clone(j.at), Keyword: "uniqueItems", Same: [2]int{one, other}})
		}
	}
	first, rest := list(m["prefixItems"]), "items"
	if several, ok := m["items"].([]any); ok { // as draft 7 says it
		first, rest = several, "additionalItems"
	}
	all, more := m[rest]
	held := 0
	for i, item := range items {
		step := strconv.Itoa(i)
		switch {
		case i < len(first):
			wrong = append(wrong, j.below(first[i], step, item)...)
			saw.add(step)
		case more:
			wrong = append(wrong, j.below(all, step, item)...)
			saw.add(step)
		}
		if rule, ok := m["contains"]; ok && len(j.below(rule, step, item)) == 0 {
			held++
			saw.add(step)
		}
	}
	if _, ok := m["contains"]; ok {
		least, most := 1., float64(len(items))
		if n, ok := m["minContains"].(float64); ok {
			least = n
		}
		if n, ok := m["maxContains"].(float64); ok {
			most = n
		}
		if n := float64(held); n < least || n > most {
			wrong = append(wrong, j.wrong("contains", nil))
		}
	}
	return wrong
}

// rest looks at what nobody has.
func (j *judge) rest(m map[string]any, value any, saw seen) (wrong []Mistake) {
	look := func(keyword, step string, value any) {
		if rule, ok := m[keyword]; ok && !saw[step] {
			wrong = append(wrong, j.below(rule, step, value)...)
			saw.add(step)
		}
	}
	switch v := value.(type) {
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(v)) {
			look("unevaluatedProperties", name, v[name])
		}
	case []any:
		for i := range v {
			look("unevaluatedItems", strconv.Itoa(i), v[i])
		}
	}
	return wrong
}

func (j *judge) text(m map[string]any, text string) (wrong []Mistake) {
	wrong = j.counted(m, "Length", utf8.RuneCountInString(text))
	if pattern, ok := m["pattern"].(string); ok && !j.patterns[pattern]().MatchString(text) {
		wrong = append(wrong, j.wrong("pattern", pattern))
	}
	return wrong
}

func (j *judge) numbers(m map[string]any, v any) (wrong []Mistake) {
	for _, key := range []string{"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"} {
		want, ok := m[key]
		if !ok {
			continue
		}
		got, limit := number(v), number(want)
		order := got.Cmp(limit)
		if key == "minimum" && order < 0 || key == "maximum" && order > 0 || key == "exclusiveMinimum" && order <= 0 ||
			key == "exclusiveMaximum" && order >= 0 || key == "multipleOf" && !got.Quo(got, limit).IsInt() {
			wrong = append(wrong, j.wrong(key, want))
		}
	}
	return wrong
}

// counted holds n against the keywords of which what is the end.
func (j *judge) counted(m map[string]any, what string, n int) (wrong []Mistake) {
	if least, ok := m["min"+what].(float64); ok && float64(n) < least {
		wrong = append(wrong, Mistake{At: slices.Clone(j.at), Keyword: "min" + what, Want: least, Got: n})
	}
	if most, ok := m["max"+what].(float64); ok && float64(n) > most {
		wrong = append(wrong, Mistake{At: slices.Clone(j.at), Keyword: "max" + what, Want: most, Got: n})
	}
	return wrong
}

func (j *judge) missing(names []any, keys map[string]any) []Mistake {
	var lacking []string
	for _, name := range names {
		if _, there := keys[name.(string)]; !there {
			lacking = append(lacking, name.(string))
		}
	}
	if lacking == nil {
		return nil
	}
	return []Mistake{{At: slices.Clone(j.at), Keyword: "required", Names: lacking}}
}

func list(raw any) []any {
	all, _ := raw.([]any)
	return all
}

// is says whether a value obeys a keyword that says what it is.
func is(keyword string, want, value any) bool {
	switch keyword {
	case "const":
		return same(want, value)
	case "enum":
		return slices.ContainsFunc(list(want), func(one any) bool { return same(one, value) })
	case "format":
		text, ok := value.(string)
		return !ok || formatted(want.(string), text)
	}
	if one, ok := want.(string); ok {
		return typed(one, value)
	}
	return slices.ContainsFunc(list(want), func(one any) bool { return typed(one.(string), value) })
}

func typed(want string, value any) bool {
	switch value.(type) {
	case nil:
		return want == "null"
	case bool:
		return want == "boolean"
	case string:
		return want == "string"
	case int64, float64:
		return want == "number" || want == "integer" && number(value).IsInt()
	case []any:
		return want == "array"
	case map[string]any:
		return want == "object"
	}
	return false
}

// number is exact: the decimal number that a person would read, not its nearest in binary.
func number(v any) *big.Rat {
	n, _ := new(big.Rat).SetString(fmt.Sprint(v)) // it is one: JSON and the loader know no infinite numbers
	return n
}

// same says whether two values are, whatever type of Go their numbers have.
func same(a, b any) bool {
	switch a := a.(type) {
	case int64, float64:
		switch b.(type) {
		case int64, float64:
			return number(a).Cmp(number(b)) == 0
		}
		return false
	case []any:
		b, ok := b.([]any)
		return ok && slices.EqualFunc(a, b, same)
	case map[string]any:
		b, ok := b.(map[string]any)
		return ok && maps.EqualFunc(a, b, same)
	}
	switch b.(type) {
	case []any, map[string]any:
		return false // which Go cannot compare
	}
	return a == b
}

// twice finds the first item that stands in a list again.
func twice(items []any) (one, other int, ok bool) {
	texts := map[string]int{}
	for i, item := range items {
		if text, ok := item.(string); ok {
			if before, again := texts[text]; again {
				return before, i, true
			}
			texts[text] = i
			continue
		}
		for before := range i {
			if same(items[before], item) {
				return before, i, true
			}
		}
	}
	return 0, 0, false
}
