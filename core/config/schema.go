package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"sync"
	"time"

	"github.com/invopop/jsonschema"
	validator "github.com/santhosh-tekuri/jsonschema/v6"
	"golang.org/x/text/message"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/fields"
)

// namePattern is what a provider or a stage may be called: it becomes a label
// of metrics and a part of a `--set` key.
const namePattern = `^[a-z0-9_-]{1,64}$`

// JSONSchema returns the JSON Schema (draft 2020-12) of the file, for editors.
// It is the one that Load checks with.
func (s Schema) JSONSchema() ([]byte, error) { return checkerOf(s.document()).text() }

// text writes the schema for people, if it can be used.
func (c *checker) text() ([]byte, error) {
	if _, err := c.validator(); err != nil {
		return nil, err
	}
	return indented(c.document)
}

// validator returns the schema compiled.
func (c *checker) validator() (*validator.Compiler, error) {
	compiler, err := c.compiled()
	if err != nil {
		return nil, fmt.Errorf("the schema is broken: %w", err)
	}
	return compiler, nil
}

// indented writes a schema for people.
func indented(schema *jsonschema.Schema) ([]byte, error) {
	compact, err := json.Marshal(schema)
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
	quick    quick
	raw      map[string]any
	// compiled is the schema as the validator wants it, made when somebody asks.
	compiled func() (*validator.Compiler, error)
}

func (s Schema) checker() *checker { return checkerOf(s.document()) }

// checkerOf returns the checker of a schema that structs describe.
func checkerOf(document *jsonschema.Schema) *checker {
	whole, _ := raw(document).(map[string]any)
	return &checker{document: document, quick: quick{map[string]*regexp.Regexp{}}, raw: whole, compiled: sync.OnceValues(func() (*validator.Compiler, error) {
		text, err := json.Marshal(document)
		if err != nil {
			return nil, err
		}
		return compile(text)
	})}
}

// foreignChecker returns the checker of another program's schema.
func foreignChecker(text []byte) (*checker, error) {
	compiler, err := compile(text)
	if err != nil {
		return nil, err
	}
	var whole any
	if err := json.Unmarshal(text, &whole); err != nil {
		return nil, err
	}
	document, _ := whole.(map[string]any)
	return &checker{raw: document, compiled: func() (*validator.Compiler, error) { return compiler, nil }}, nil
}

// documentURL names the document to the validator; nothing is fetched.
const documentURL = "urn:dragoman:pipeline"

// compile reads a document. No reference out of it is followed.
func compile(text []byte) (*validator.Compiler, error) {
	parsed, err := validator.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	c := validator.NewCompiler()
	c.UseLoader(nowhere{})
	c.AssertFormat()
	c.AssertVocabs()
	c.RegisterFormat(&validator.Format{Name: fields.DurationFormat, Validate: func(v any) error {
		text, ok := v.(string)
		if !ok {
			return nil
		}
		_, err := time.ParseDuration(text)
		return err
	}})
	c.RegisterFormat(&validator.Format{Name: fields.SizeFormat, Validate: func(v any) error {
		text, ok := v.(string)
		if !ok {
			return nil
		}
		_, err := core.ParseSize(text)
		return err
	}})
	c.RegisterVocabulary(&validator.Vocabulary{
		URL:     "urn:dragoman:bounds",
		Compile: compileBounds,
	})
	if err := c.AddResource(documentURL, parsed); err != nil {
		return nil, err
	}
	if _, err := c.Compile(documentURL); err != nil {
		return nil, err
	}
	return c, nil
}

// nowhere is where other documents are looked for.
type nowhere struct{}

func (nowhere) Load(url string) (any, error) {
	return nil, fmt.Errorf("a schema refers to nothing outside itself, and this refers to %s", clip(url))
}

// check returns what is wrong with value by the definition def, or by the whole
// document when def is empty.
func (c *checker) check(def string, value any) (*validator.ValidationError, error) {
	url, shape := documentURL, c.document
	if def != "" {
		url += "#/$defs/" + def
		if shape != nil {
			shape = shape.Definitions[def]
		}
	}
	if shape != nil && c.quick.allows(shape, value) {
		return nil, nil
	}
	compiler, err := c.validator()
	if err != nil {
		return nil, err
	}
	schema, err := compiler.Compile(url)
	if err != nil {
		return nil, err
	}
	err = schema.Validate(value)
	if err == nil {
		return nil, nil
	}
	invalid, ok := err.(*validator.ValidationError)
	if !ok {
		return nil, err
	}
	return invalid, nil
}

// bounds are the keywords that JSON Schema lacks: the range of a duration or a
// size.
type bounds []limit

type limit struct {
	keyword string
	measure func(any) (int64, bool)
	text    string
	value   int64
	above   bool // the value is a maximum
}

func compileBounds(_ *validator.CompilerContext, schema map[string]any) (validator.SchemaExt, error) {
	b, err := boundsOf(schema)
	if b == nil || err != nil {
		return nil, err
	}
	return b, nil
}

// boundsOf finds the bounds among the keywords of a schema.
func boundsOf(schema map[string]any) (b bounds, err error) {
	for _, l := range []limit{
		{keyword: "minDuration", measure: measureDuration},
		{keyword: "maxDuration", measure: measureDuration, above: true},
		{keyword: "minSize", measure: measureSize},
		{keyword: "maxSize", measure: measureSize, above: true},
	} {
		value, ok := schema[l.keyword]
		if !ok {
			continue
		}
		l.text = fmt.Sprint(value)
		if l.value, ok = l.measure(value); !ok {
			return nil, fmt.Errorf("%s: %q cannot be read", l.keyword, l.text)
		}
		b = append(b, l)
	}
	return b, nil
}

func measureDuration(v any) (int64, bool) {
	text, ok := v.(string)
	if !ok {
		return 0, false
	}
	d, err := time.ParseDuration(text)
	return int64(d), err == nil
}

func measureSize(v any) (int64, bool) {
	size, err := core.ParseSize(fmt.Sprint(v))
	return int64(size), err == nil
}

func (b bounds) Validate(ctx *validator.ValidatorContext, v any) {
	for _, l := range b {
		if l.passed(v) {
			ctx.AddError(&outOfBounds{l})
		}
	}
}

// passed says that v is a measure beyond l.
func (l limit) passed(v any) bool {
	got, ok := l.measure(v)
	return ok && (l.above && got > l.value || !l.above && got < l.value)
}

// outOfBounds is the kind of a validation error.
type outOfBounds struct{ limit }

func (o *outOfBounds) KeywordPath() []string { return []string{o.keyword} }

func (o *outOfBounds) LocalizedString(p *message.Printer) string {
	return p.Sprintf("%s: %s", o.keyword, o.text)
}
