package config

import (
	"encoding/json"
	"errors"
	"maps"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	validator "github.com/santhosh-tekuri/jsonschema/v6"
	"pgregory.net/rapid"
)

// What the quick look lets pass the validator does, whatever value stands where: the
// quick look only ever saves the validator's work.
func TestWhatIsSurelyRightIsRight(t *testing.T) {
	leaves := []any{"", "a", "ab", "A", "x", "pooled", "echo", "script", "0", "1s", "5s", "-1s", "1ns", "2h", "720h", "64KiB", "1MiB", "3TiB", "1 MiB", "£", "abcdef",
		int64(0), int64(1), int64(-1), int64(5), int64(7), int64(70000), int64(1) << 60, 0.0, 0.5, 1.0, 2.5, 1e30, true, false, nil}
	allowed, refused := 0, 0
	for _, s := range []Schema{testSchema(), oddSchema(), vaultSchema()} {
		c := s.checker()
		compiled, err := c.compiled()
		if err != nil {
			t.Fatal(err)
		}
		// What may stand where, by what the definitions name, and anything else.
		var names []string
		for _, def := range c.document.Definitions {
			names = append(names, keys(def)...)
		}
		slices.Sort(names)
		names = append(slices.Compact(names), "for", "other", "temperature", "max_output")
		var anything *rapid.Generator[any]
		anything = rapid.Deferred(func() *rapid.Generator[any] {
			return rapid.OneOf(
				rapid.SampledFrom(leaves), rapid.SampledFrom(leaves), rapid.SampledFrom(leaves),
				rapid.Map(rapid.SliceOfN(rapid.SampledFrom(leaves), 0, 3), func(l []any) any { return l }),
				rapid.Map(rapid.SliceOfN(anything, 0, 2), func(l []any) any { return l }),
				rapid.Map(rapid.MapOfN(rapid.SampledFrom(names), anything, 0, 3), func(m map[string]any) any { return m }),
			)
		})
		defs := slices.Sorted(maps.Keys(c.document.Definitions))
		rapid.Check(t, func(t *rapid.T) {
			def := rapid.SampledFrom(defs).Draw(t, "definition")
			shape := c.document.Definitions[def]
			value := map[string]any{}
			for _, key := range shape.Required {
				value[key] = anything.Draw(t, key)
			}
			if all := keys(shape); len(all) > 0 {
				for _, key := range rapid.SliceOfNDistinct(rapid.SampledFrom(all), 0, 2, rapid.ID).Draw(t, "keys") {
					value[key] = anything.Draw(t, key)
				}
			}
			surely := c.quick.allows(shape, value)
			schema, err := compiled.Compile(documentURL + "#/$defs/" + def)
			if err != nil {
				t.Fatal(err)
			}
			err = schema.Validate(value)
			if wrong := (*validator.ValidationError)(nil); surely && err != nil {
				t.Fatalf("%s: %v surely fits, but %v", def, value, err)
			} else if err != nil && !errors.As(err, &wrong) {
				t.Fatal(err)
			}
			if surely {
				allowed++
			} else {
				refused++
			}
		})
	}
	if allowed == 0 || refused == 0 {
		t.Errorf("%d allowed and %d not: the test proves nothing", allowed, refused)
	}
}

// TestARightFileCompilesNoSchema is what the start of a gateway is quick by.
func TestARightFileCompilesNoSchema(t *testing.T) {
	text, err := os.ReadFile("testdata/pipeline.yaml")
	if err != nil {
		t.Fatal(err)
	}
	c := testSchema().checker()
	c.compiled = func() (*validator.Compiler, error) { return nil, errors.New("somebody compiles") }
	o := Options{File: "/etc/p.yaml", LookupEnv: env("OPENAI_API_KEY", "x"), Set: []string{"server.max_body=2MiB", "stages.queue.max_waiting=7", "providers.openai.request.temperature=0.5"}}
	if _, err := testSchema().loadBytes(text, c, o); err != nil {
		t.Error(err)
	}
	if _, err := testSchema().loadBytes([]byte(with("pool: {mode: fast}")), c, o); err == nil {
		t.Error("a file with a mistake is right without the validator's word")
	}
}

// What is secret is found in a document as in the JSON that it is for others.
func TestADocumentIsReadAsItsJSON(t *testing.T) {
	for _, s := range []Schema{testSchema(), oddSchema(), vaultSchema()} {
		document := s.document()
		text, err := json.Marshal(document)
		if err != nil {
			t.Fatal(err)
		}
		var whole any
		if err := json.Unmarshal(text, &whole); err != nil {
			t.Fatal(err)
		}
		text, err = json.Marshal(raw(document))
		if err != nil {
			t.Fatal(err)
		}
		var got any
		if err := json.Unmarshal(text, &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(onlyRead(whole), onlyRead(got)); diff != "" {
			t.Errorf("(-JSON +document):\n%s", diff)
		}
	}
}

// onlyRead is a schema less the keywords that no view looks at.
func onlyRead(s any) any {
	m, ok := s.(map[string]any)
	if !ok {
		return s
	}
	kept := map[string]any{}
	for key, value := range m {
		switch key {
		case "$ref", "$dynamicRef", "writeOnly":
			kept[key] = value
		case "properties", "patternProperties", "$defs", "dependentSchemas":
			all := map[string]any{}
			for name, s := range value.(map[string]any) {
				all[name] = onlyRead(s)
			}
			kept[key] = all
		case "allOf", "anyOf", "oneOf", "prefixItems":
			var all []any
			for _, s := range value.([]any) {
				all = append(all, onlyRead(s))
			}
			kept[key] = all
		case "not", "if", "then", "else", "items", "contains", "additionalProperties":
			kept[key] = onlyRead(value)
		}
	}
	return kept
}
