package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"sync"

	"github.com/invopop/jsonschema"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/fields"
	"github.com/dragoman-mt/dragoman/core/schema"
)

// namePattern is what a provider or a stage may be called: it becomes a label
// of metrics and a part of a `--set` key.
const namePattern = `^[a-z0-9_-]{1,64}$`

// JSONSchema returns the JSON Schema (draft 2020-12) of the file, for editors.
// It is the one that Load checks with.
func (s Schema) JSONSchema() ([]byte, error) { return checkerOf(s.document()).text() }

// text writes the schema for people, if it can be used.
func (c *checker) text() ([]byte, error) {
	if _, err := c.rules(); err != nil {
		return nil, err
	}
	return indented(c.document)
}

// indented writes a schema for people.
func indented(document *jsonschema.Schema) ([]byte, error) {
	compact, err := json.Marshal(document)
	if err != nil {
		return nil, fmt.Errorf("writing the JSON Schema: %w", err)
	}
	var b bytes.Buffer
	if err := json.Indent(&b, compact, "", "  "); err != nil {
		return nil, fmt.Errorf("writing the JSON Schema: %w", err)
	}
	b.WriteByte('\n')
	return b.Bytes(), nil
}

// Names of the definitions in the document.
func sectionDef(name string) string  { return "section." + name }
func providerDef(kind string) string { return "provider." + kind }
func stageDef(kind string) string    { return "stage." + kind }

func reference(def string) *jsonschema.Schema { return &jsonschema.Schema{Ref: "#/$defs/" + def} }

// document is the schema of the whole file.
func (s Schema) document() *jsonschema.Schema {
	root := fields.Object("pipeline.yaml of Dragoman: one file, one chain.")
	root.Version = jsonschema.Version
	root.Title = "Dragoman pipeline"
	root.Required = []string{"stages"}
	root.Definitions = jsonschema.Definitions{}
	root.Properties.Set("version", &jsonschema.Schema{
		Type: "integer", Const: 1, Default: 1, Description: "The version of this format.",
	})

	root.PatternProperties = map[string]*jsonschema.Schema{
		"^" + ours: {Description: "Your own: nothing reads it. A place for anchors that are used further down."},
	}

	for _, section := range s.Sections {
		root.Definitions[sectionDef(section.Name)] = fields.Schema(section.Config(), section.Doc)
		root.Properties.Set(section.Name, reference(sectionDef(section.Name)))
	}

	var types []any
	var providers []*jsonschema.Schema
	for _, kind := range s.kinds(true) {
		def := fields.Schema(kind.Config(), kind.Doc)
		with := fields.Object(kind.Doc)
		with.Properties.Set("type", &jsonschema.Schema{Type: "string", Const: kind.Name, Description: kind.Doc})
		for p := def.Properties.Oldest(); p != nil; p = p.Next() {
			with.Properties.Set(p.Key, p.Value)
		}
		shareSchema(with)
		with.Required = append([]string{"type"}, def.Required...)
		root.Definitions[providerDef(kind.Name)] = with
		types = append(types, kind.Name)
		providers = append(providers, reference(providerDef(kind.Name)))
	}
	root.Properties.Set("providers", &jsonschema.Schema{
		Type:          "object",
		Description:   "What can translate, by a name of your choice.",
		PropertyNames: &jsonschema.Schema{Pattern: namePattern},
		AdditionalProperties: &jsonschema.Schema{
			Type: "object", Required: []string{"type"},
			OneOf:  providers,
			Extras: map[string]any{"properties": map[string]any{"type": map[string]any{"enum": types}}},
		},
	})

	var bare []any
	item := fields.Object("One stage: the name of its kind, with its keys.")
	item.Properties.Set("name", &jsonschema.Schema{
		Type: "string", Pattern: namePattern,
		Description: "What to call this stage in logs, metrics and --set; the name of its kind by default.",
	})
	item.Properties.Set("enabled", &jsonschema.Schema{
		Type: "boolean", Default: true,
		Description: "false leaves the stage out of the chain and keeps what it has learned.",
	})
	for _, kind := range s.kinds(false) {
		def := fields.Schema(kind.Config(), kind.Doc)
		root.Definitions[stageDef(kind.Name)] = def
		branch := reference(stageDef(kind.Name))
		if len(def.Required) == 0 {
			bare = append(bare, kind.Name)
			branch = &jsonschema.Schema{AnyOf: []*jsonschema.Schema{branch, {Type: "null"}}, Description: kind.Doc}
		}
		item.Properties.Set(kind.Name, branch)
		item.OneOf = append(item.OneOf, &jsonschema.Schema{Required: []string{kind.Name}})
	}
	forms := []*jsonschema.Schema{item}
	if len(bare) > 0 {
		forms = append(forms, &jsonschema.Schema{Type: "string", Enum: bare})
	}
	root.Properties.Set("stages", &jsonschema.Schema{
		Type:        "array",
		Description: "The chain: a request walks down to the stage that calls a provider, the answer walks back up.",
		Items:       &jsonschema.Schema{OneOf: forms},
	})
	return root
}

// kinds returns the kinds that stand in providers, or those that stand in
// stages.
func (s Schema) kinds(providers bool) []core.Kind {
	var kinds []core.Kind
	for _, kind := range s.Kinds {
		if (kind.Role == core.RoleProvider) == providers {
			kinds = append(kinds, kind)
		}
	}
	return kinds
}

// A checker says what is wrong with the values of a schema.
type checker struct {
	// document is the schema when it is one of ours, described by structs, else nil.
	document *jsonschema.Schema
	raw      map[string]any
	// rules are the schema read, when somebody asks.
	rules func() (*schema.Schema, error)
}

func (s Schema) checker() *checker { return checkerOf(s.document()) }

// checkerOf returns the checker of a schema that structs describe.
func checkerOf(document *jsonschema.Schema) *checker {
	whole, _ := raw(document).(map[string]any)
	return &checker{document: document, raw: whole, rules: sync.OnceValues(func() (*schema.Schema, error) {
		rules, err := schema.New(whole)
		if err != nil {
			return nil, fmt.Errorf("the schema is broken: %w", err)
		}
		return rules, nil
	})}
}

// foreignChecker returns the checker of another program's schema.
func foreignChecker(text []byte) (*checker, error) {
	var whole any
	if err := json.Unmarshal(text, &whole); err != nil {
		return nil, err
	}
	rules, err := schema.New(whole)
	if err != nil {
		return nil, err
	}
	document, _ := whole.(map[string]any)
	return &checker{raw: document, rules: func() (*schema.Schema, error) { return rules, nil }}, nil
}

// check returns what is wrong with value by the definition def, or by the whole
// document when def is empty.
func (c *checker) check(def string, value any) ([]schema.Mistake, error) {
	rules, err := c.rules()
	if err == nil && def != "" {
		rules, err = rules.Definition(def)
	}
	if err != nil {
		return nil, err
	}
	return rules.Check(value), nil
}
