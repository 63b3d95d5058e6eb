package schema

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	other "github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
	"pgregory.net/rapid"
)

// What is allowed, and which keyword finds what else at which place wrong, is what another
// judge of JSON Schema says, whatever schema it is.
func TestMistakesAreThoseThatAnotherJudgeFinds(t *testing.T) {
	allowed, refused := 0, map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		g := generator{old: rapid.IntRange(0, 3).Draw(t, "draft 7") == 0}
		document := g.schema(t, 3)
		definitions := map[string]any{}
		for _, name := range names3 {
			definitions[name] = g.schema(t, 1)
		}
		if whole, ok := document.(map[string]any); ok {
			whole["$defs"] = definitions
			if g.old {
				whole["$schema"] = "http://json-schema.org/draft-07/schema#"
			}
		}
		text, err := json.Marshal(document)
		if err != nil {
			t.Fatal(err)
		}
		s, err := Parse(text)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		judge, err := compile(text)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		for range 10 {
			value := anything(3).Draw(t, "value")
			var got, want []string
			for _, m := range s.Check(value) {
				got = append(got, fmt.Sprintf("%q %s %q", m.At, m.Keyword, m.Names))
				refused[m.Keyword]++
			}
			if err := judge.Validate(value); err != nil {
				want = told(err)
			} else {
				allowed++
			}
			slices.Sort(got)
			slices.Sort(want)
			if diff := cmp.Diff(slices.Compact(want), slices.Compact(got)); diff != "" {
				t.Fatalf("%s\nof %#v (-other judge +ours):\n%s", text, value, diff)
			}
		}
	})
	t.Logf("%d allowed, refused by %v", allowed, refused)
	if allowed == 0 || len(refused) < 5 {
		t.Error("the test proves nothing")
	}
}

// told lists the mistakes that have no finer ones below them.
func told(err error) (all []string) {
	var wrong *other.ValidationError
	if !errors.As(err, &wrong) {
		return []string{err.Error()}
	}
	switch wrong.ErrorKind.(type) {
	case *kind.Schema, *kind.Group, *kind.Reference, *kind.AllOf:
		for _, cause := range wrong.Causes {
			all = append(all, told(cause)...)
		}
		return all
	}
	at, keyword, names := wrong.InstanceLocation, "", []string(nil)
	if path := wrong.ErrorKind.KeywordPath(); len(path) > 0 {
		keyword = path[0]
	}
	switch k := wrong.ErrorKind.(type) {
	case *kind.Required:
		names = k.Missing
	case *kind.DependentRequired:
		keyword, names = "required", k.Missing
	case *kind.Dependency:
		keyword, names = "required", k.Missing
	case *kind.AdditionalProperties:
		names = slices.Sorted(slices.Values(k.Properties))
	case *kind.AdditionalItems: // of several, while ours are told one by one
		keyword = "additionalItems"
	case *kind.PropertyNames:
		names = []string{k.Property}
	case *kind.FalseSchema:
		keyword = ""
	case *kind.Not:
		keyword = "not"
	case *kind.InvalidJsonValue: // a bound, below
		keyword = k.Value.(string)
	case *kind.MinContains, *kind.MaxContains:
		keyword = "contains"
	case *kind.RefCycle:
		keyword = "$ref"
	}
	return []string{fmt.Sprintf("%q %s %q", at, keyword, names)}
}

// compile reads a schema with the other judge, who is taught the keywords that are ours.
func compile(text []byte) (*other.Schema, error) {
	parsed, err := other.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	c := other.NewCompiler()
	c.AssertFormat()
	c.AssertVocabs()
	for _, name := range []string{"go-duration", "size"} {
		c.RegisterFormat(&other.Format{Name: name, Validate: func(v any) error {
			if text, ok := v.(string); ok && !formatted(name, text) {
				return errors.New("no " + name)
			}
			return nil
		}})
	}
	c.RegisterVocabulary(&other.Vocabulary{URL: "urn:bounds", Compile: func(_ *other.CompilerContext, schema map[string]any) (other.SchemaExt, error) {
		bounds := bound{}
		for keyword, want := range schema {
			if measures[keyword] != nil {
				bounds[keyword] = fmt.Sprint(want)
			}
		}
		return bounds, nil
	}})
	if err := c.AddResource("urn:test", parsed); err != nil {
		return nil, err
	}
	return c.Compile("urn:test")
}

type bound map[string]string

func (b bound) Validate(ctx *other.ValidatorContext, v any) {
	for keyword, want := range b {
		limit, _ := measures[keyword](want)
		got, ok := measures[keyword](v)
		if ok && (strings.HasPrefix(keyword, "min") && got < limit || strings.HasPrefix(keyword, "max") && got > limit) {
			ctx.AddError(&kind.InvalidJsonValue{Value: keyword})
		}
	}
}

var names3 = []string{"a", "b", "c/d~"}

var leaves = []any{"", "a", "b", "ab", "c/d~", "5s", "1ms", "-1s", "64KiB", "1MiB", "£", "127.0.0.1", "2020-02-30", "2020-02-29", int64(0), int64(1), int64(2), int64(-3), int64(1) << 53,
	0.0, 0.5, 0.3, 2.0, 1e30, true, false, nil}

func anything(depth int) *rapid.Generator[any] {
	leaf := rapid.SampledFrom(leaves)
	if depth == 0 {
		return leaf
	}
	return rapid.OneOf(leaf,
		rapid.Map(rapid.SliceOfN(anything(depth-1), 0, 3), func(l []any) any { return l }),
		rapid.Map(rapid.MapOfN(rapid.SampledFrom(names3), anything(depth-1), 0, 3), func(m map[string]any) any { return m }),
		rapid.Map(rapid.MapOfN(rapid.SampledFrom(names3), leaf, 0, 3), func(m map[string]any) any { return m }),
	)
}

// A generator makes schemas, in the words of draft 7 or in those of 2020-12.
type generator struct{ old bool }

func (g generator) schema(t *rapid.T, depth int) any {
	switch rapid.IntRange(0, 11).Draw(t, "what") {
	case 0:
		return true
	case 1:
		if depth < 3 {
			return false
		}
	}
	m := map[string]any{}
	for range rapid.IntRange(0, 3).Draw(t, "keywords") {
		g.keyword(t, m, depth)
	}
	return m
}

func (g generator) keyword(t *rapid.T, m map[string]any, depth int) {
	below := func() any { return g.schema(t, depth-1) }
	several := func() []any {
		all := []any{below()}
		for range rapid.IntRange(0, 2).Draw(t, "more") {
			all = append(all, below())
		}
		return all
	}
	mapping := func(make func() any) map[string]any {
		all := map[string]any{}
		for _, name := range rapid.SliceOfNDistinct(rapid.SampledFrom(names3), 1, 2, rapid.ID).Draw(t, "names") {
			all[name] = make()
		}
		return all
	}
	names := func() any {
		return rapid.SliceOfNDistinct(rapid.SampledFrom(names3), 0, 2, rapid.ID).Draw(t, "names")
	}
	plain := []string{"type", "types", "const", "enum", "format", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength", "pattern",
		"minItems", "maxItems", "uniqueItems", "minProperties", "maxProperties", "required"}
	deep := []string{"properties", "patternProperties", "additionalProperties", "propertyNames", "items", "contains", "allOf", "anyOf", "oneOf", "not", "if", "properties", "items"}
	if g.old {
		deep = append(deep, "tuple", "additionalItems", "dependencies")
	} else {
		plain = append(plain, "minDuration", "maxSize", "dependentRequired")
		deep = append(deep, "prefixItems", "dependentSchemas", "unevaluatedProperties", "unevaluatedItems", "minContains", "$ref")
	}
	if depth > 0 {
		plain = append(plain, append(deep, deep...)...)
	}
	switch key := rapid.SampledFrom(plain).Draw(t, "keyword"); key {
	case "type":
		m["type"] = rapid.SampledFrom(types).Draw(t, "type")
	case "types":
		m["type"] = rapid.SliceOfNDistinct(rapid.SampledFrom(types), 1, 3, rapid.ID).Draw(t, "types")
	case "const":
		m["const"] = anything(1).Draw(t, "const")
	case "enum":
		m["enum"] = rapid.SliceOfNDistinct(anything(1), 1, 3, func(v any) string { return fmt.Sprint(v) }).Draw(t, "enum")
	case "format":
		m["format"] = rapid.SampledFrom([]string{"go-duration", "size", "date", "ipv4", "nobody's"}).Draw(t, "format")
	case "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum":
		m[key] = rapid.SampledFrom([]float64{0, 1, 0.3, -3, 1 << 53}).Draw(t, "bound")
	case "multipleOf":
		m[key] = rapid.SampledFrom([]float64{1, 0.1, 2}).Draw(t, "of")
	case "minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties":
		m[key] = rapid.IntRange(0, 3).Draw(t, "count")
	case "pattern":
		m[key] = rapid.SampledFrom([]string{"^a", "b$", "^$"}).Draw(t, "pattern")
	case "uniqueItems":
		m[key] = true
	case "minDuration":
		m[key] = "1ms"
	case "maxSize":
		m[key] = "64KiB"
	case "required":
		m[key] = names()
	case "dependentRequired":
		m[key] = mapping(names)
	case "properties", "dependentSchemas":
		m[key] = mapping(below)
	case "dependencies":
		m[key] = mapping(func() any {
			if rapid.Bool().Draw(t, "names") {
				return names()
			}
			return below()
		})
	case "patternProperties":
		m[key] = map[string]any{rapid.SampledFrom([]string{"^a", "b"}).Draw(t, "pattern"): below()}
	case "additionalProperties", "propertyNames", "contains", "not", "items", "unevaluatedProperties", "unevaluatedItems":
		m[key] = below()
	case "additionalItems":
		m[key] = map[string]any{"type": "integer"}
	case "tuple":
		m["items"] = several()
	case "allOf", "anyOf", "oneOf", "prefixItems":
		m[key] = several()
	case "minContains":
		m["contains"] = below()
		m["minContains"] = rapid.IntRange(0, 2).Draw(t, "least")
		m["maxContains"] = rapid.IntRange(0, 2).Draw(t, "most")
	case "if":
		m["if"], m["then"], m["else"] = below(), below(), below()
	case "$ref":
		if depth > 1 { // below, there are the definitions, which refer to nothing
			m["$ref"] = "#/$defs/" + Escape(rapid.SampledFrom(names3).Draw(t, "definition"))
		}
	}
}

// A schema that cannot be understood is told by the place and what belongs there.
func TestABrokenSchemaIsToldByItsPlace(t *testing.T) {
	for text, want := range map[string]string{
		`{`:                                 "it is no JSON: unexpected end of JSON input",
		`3`:                                 "#: must be a schema: a mapping, true or false",
		`{"properties": 3}`:                 "#/properties: must be a mapping",
		`{"properties": {"a/b": 3}}`:        "#/properties/a~1b: must be a schema: a mapping, true or false",
		`{"items": [true, 3]}`:              "#/items/1: must be a schema: a mapping, true or false",
		`{"anyOf": []}`:                     "#/anyOf: must be a list of schemas",
		`{"type": "text"}`:                  "#/type: must be one of object, array, string, integer, number, boolean, null, or a list of them",
		`{"type": ["string", 1]}`:           "#/type: must be one of object, array, string, integer, number, boolean, null, or a list of them",
		`{"enum": "a"}`:                     "#/enum: must be a list",
		`{"required": [1]}`:                 "#/required: must be a list of keys",
		`{"dependentRequired": {"a": 1}}`:   "#/dependentRequired/a: must be a list of keys",
		`{"exclusiveMinimum": true}`:        "#/exclusiveMinimum: must be a number",
		`{"multipleOf": 0}`:                 "#/multipleOf: must be a number above 0",
		`{"minLength": -1}`:                 "#/minLength: must be a whole number from 0",
		`{"maxItems": 1.5}`:                 "#/maxItems: must be a whole number from 0",
		`{"uniqueItems": 1}`:                "#/uniqueItems: must be true or false",
		`{"format": 1}`:                     "#/format: must be text",
		`{"pattern": "("}`:                  "#/pattern: error parsing regexp: missing closing ): `(`",
		`{"patternProperties":{"(":true}}`:  "#/patternProperties/(: error parsing regexp: missing closing ): `(`",
		`{"minDuration": "soon"}`:           `#/minDuration: "soon" cannot be read`,
		`{"maxSize": 1.5}`:                  `#/maxSize: "1.5" cannot be read`,
		`{"$ref": "https://example.org"}`:   "#/$ref: refers to https://example.org, and a schema refers to nothing but places in itself, such as #/$defs/NAME",
		`{"$ref": "#/$defs/none"}`:          "#/$ref: refers to #/$defs/none, and a schema refers to nothing but places in itself, such as #/$defs/NAME",
		`{"$ref": "#/x", "x": {"type": 1}}`: "#/$ref/type: must be one of object, array, string, integer, number, boolean, null, or a list of them",
		`{"$recursiveRef": "#"}`:            "#/$recursiveRef: write $ref, with a place in the schema such as #/$defs/NAME",
	} {
		if _, err := Parse([]byte(text)); err == nil || err.Error() != want {
			t.Errorf("%s\n got %v\nwant %s", text, err, want)
		}
	}
}

// A schema may say things that never end, and they end.
func TestASchemaThatGoesRoundInCirclesIsNotFollowedForEver(t *testing.T) {
	wide := map[string]any{"$defs": map[string]any{"d40": false}, "$ref": "#/$defs/d0"}
	for i := range 40 { // 2 to the power of 40 looks
		next := map[string]any{"$ref": fmt.Sprintf("#/$defs/d%d", i+1)}
		wide["$defs"].(map[string]any)[fmt.Sprintf("d%d", i)] = map[string]any{"anyOf": []any{map[string]any{"items": next}, map[string]any{"items": next}}}
	}
	var deep any = "x"
	for range 60 {
		deep = []any{deep}
	}
	for name, tt := range map[string]struct{ schema, value any }{
		"circle":  {map[string]any{"$ref": "#"}, "x"},
		"in two":  {map[string]any{"$defs": map[string]any{"a": map[string]any{"anyOf": []any{map[string]any{"$ref": "#"}}}}, "$ref": "#/$defs/a"}, "x"},
		"endless": {wide, deep},
	} {
		s, err := New(tt.schema)
		if err != nil {
			t.Fatal(err)
		}
		if wrong := s.Check(tt.value); len(wrong) == 0 {
			t.Errorf("%s: what nobody can look at is allowed", name)
		}
	}
}

func TestFormatsAreThoseOfTheStandard(t *testing.T) {
	for format, texts := range map[string][2][]string{
		"go-duration":   {{"300ms", "0", "1h30m"}, {"", "5", "soon"}},
		"size":          {{"64MiB", "5"}, {"", "much"}},
		"date-time":     {{"2020-02-29T23:59:59Z", "2020-02-29t10:00:00.5+01:00"}, {"2020-02-30T10:00:00Z", "2020-02-29 10:00:00Z", "2020-02-29T10:00:00"}},
		"date":          {{"2020-02-29"}, {"2020-02-30", "20200229"}},
		"time":          {{"10:00:00Z", "10:00:00.25+01:00"}, {"25:00:00Z", "10:00"}},
		"duration":      {{"P1D", "PT5M", "P1Y2M3DT4H5M6S", "P2W"}, {"", "P", "PT", "1D", "P1S", "P1DT"}},
		"email":         {{"joe@example.org", "joe@[127.0.0.1]"}, {"joe", "joe@", "joe smith@example.org"}},
		"hostname":      {{"example.org", "localhost", "a-b"}, {"", "-a", "a..b", "a_b"}},
		"ipv4":          {{"127.0.0.1"}, {"::1", "127.0.0", "256.0.0.1"}},
		"ipv6":          {{"::1"}, {"127.0.0.1", "fe80::1%eth0", ":"}},
		"uri":           {{"https://example.org/a?b#c", "urn:a:b"}, {"/a", "", `https://example.org\a`, "http://[::1"}},
		"uri-reference": {{"/a", "a#b", ""}, {`\a`, "http://[::1"}},
		"uuid":          {{"2eb8aa08-aa98-11ea-b4aa-73b441d16380"}, {"2eb8aa08aa9811eab4aa73b441d16380", ""}},
		"regex":         {{"^a$"}, {"("}},
		"json-pointer":  {{"", "/a/~0~1"}, {"a", "/~2"}},
		"nobody's":      {{"anything", ""}, nil},
	} {
		judge, err := compile([]byte(`{"format": "` + format + `"}`))
		if err != nil {
			t.Fatal(err)
		}
		for i, all := range texts {
			for _, text := range all {
				if got := formatted(format, text); got != (i == 0) {
					t.Errorf("%s: %q: %v", format, text, got)
				}
				if err := judge.Validate(text); (err == nil) != (i == 0) {
					t.Errorf("%s: %q: the other judge says %v", format, text, err)
				}
			}
		}
	}
}

// Whatever another program sends as a schema, it is refused or judges any value.
func FuzzSchema(f *testing.F) {
	f.Add([]byte(`{"type": "object", "properties": {"a": {"$ref": "#/$defs/a"}}, "required": ["a"], "$defs": {"a": {"enum": [1], "pattern": "^a"}}}`), []byte(`{"a": 1}`))
	f.Add([]byte(`{"items": [{"format": "date"}], "additionalItems": false, "contains": {"multipleOf": 0.1}, "unevaluatedItems": false}`), []byte(`["x", 0.3]`))
	f.Add([]byte(`{"dependencies": {"a": ["b"]}, "patternProperties": {"a": {"minSize": "1KiB"}}, "oneOf": [{"$ref": "#"}, true]}`), []byte(`{"a": "2KiB"}`))
	f.Fuzz(func(t *testing.T, text, plain []byte) {
		var value any
		s, err := Parse(text)
		if err == nil && json.Unmarshal(plain, &value) == nil {
			s.Check(value)
		}
	})
}
