// Package fields says what the fields of a configuration struct look like from
// outside: the JSON Schema of its keys, defaults and bounds, and how text becomes
// their values. The struct and its tags, which core.Kind describes, are the only
// source.
//
// core/config checks pipeline.yaml with it, and a plugin tells the schema of its
// own configuration with it.
package fields

import (
	"encoding"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strings"
	"time"

	"github.com/go-viper/mapstructure/v2"
	"github.com/invopop/jsonschema"

	"github.com/dragoman-mt/dragoman/core"
)

// Schema makes the schema of one config struct, inline, with the values of config
// as defaults.
func Schema(config any, doc string) *jsonschema.Schema {
	r := jsonschema.Reflector{
		Anonymous: true, DoNotReference: true, RequiredFromJSONSchemaTags: true, Mapper: mapType,
	}
	def := r.Reflect(config)
	def.Version, def.Definitions, def.Description = "", nil, doc
	if def.Properties == nil {
		def.Properties = jsonschema.NewProperties()
	}
	complete(def, reflect.ValueOf(config))
	return def
}

// Formats and types that are written as text.
const (
	DurationFormat  = "go-duration"
	durationPattern = `^(0|([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))*)$`
	SizeFormat      = "size"
	sizePattern     = `^[0-9]+ *(KiB|MiB|GiB|KB|MB|GB|B)?$`
)

var (
	durationType    = reflect.TypeFor[time.Duration]()
	sizeType        = reflect.TypeFor[core.Size]()
	secretType      = reflect.TypeFor[core.Secret]()
	namesType       = reflect.TypeFor[core.Names]()
	PathType        = reflect.TypeFor[core.Path]()
	textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// mapType gives the types that are written as text their schema.
func mapType(t reflect.Type) *jsonschema.Schema {
	if short, ok := Short(t); ok {
		return shortened(t, short)
	}
	switch {
	case t == durationType:
		return &jsonschema.Schema{Type: "string", Format: DurationFormat, Pattern: durationPattern}
	case t == sizeType:
		return &jsonschema.Schema{
			Format: SizeFormat, Pattern: sizePattern, Minimum: "0",
			Extras: map[string]any{"type": []string{"string", "integer"}},
		}
	case t == secretType:
		return &jsonschema.Schema{Type: "string", WriteOnly: true}
	case t == namesType:
		one := uint64(1)
		return &jsonschema.Schema{
			MinLength: &one, MinItems: &one, UniqueItems: true, Items: &jsonschema.Schema{Type: "string", MinLength: &one},
			Extras: map[string]any{"type": []string{"string", "array"}},
		}
	case t == PathType, reflect.PointerTo(t).Implements(textUnmarshaler):
		return &jsonschema.Schema{Type: "string"}
	}
	return nil
}

// Short returns the field of the struct t whose value may stand in place of the
// whole mapping: `- KEY` for `- {key: KEY}`. Its tag is `short:"true"`.
func Short(t reflect.Type) (field reflect.StructField, ok bool) {
	if t.Kind() != reflect.Struct {
		return field, false
	}
	for i := range t.NumField() {
		if f := t.Field(i); f.Tag.Get("short") == "true" {
			return f, true
		}
	}
	return field, false
}

// shortened is the schema of a struct that text may stand for: both at once, for
// what it says of keys holds for mappings alone, and that the text is a secret for
// text alone.
func shortened(t reflect.Type, short reflect.StructField) *jsonschema.Schema {
	whole := make([]reflect.StructField, t.NumField())
	for i := range whole {
		whole[i] = t.Field(i)
		whole[i].Tag = reflect.StructTag(strings.Replace(string(whole[i].Tag), `short:"true"`, "", 1))
	}
	r := jsonschema.Reflector{
		Anonymous: true, DoNotReference: true, RequiredFromJSONSchemaTags: true, Mapper: mapType,
	}
	def := r.ReflectFromType(reflect.StructOf(whole))
	def.Version, def.Definitions, def.Type = "", nil, ""
	of := "string"
	if short.Type.Kind() == reflect.Bool {
		of = "boolean"
	}
	def.Extras = map[string]any{"type": []string{of, "object"}}
	def.WriteOnly = short.Type == secretType
	return def
}

// complete puts into def what reflection over types cannot know: the defaults,
// and the range of a Go integer that is narrower than the schema's.
func complete(def *jsonschema.Schema, v reflect.Value) {
	Each(v, func(name string, tag reflect.StructTag, field reflect.Value) {
		property, ok := def.Properties.Get(name)
		if !ok {
			return
		}
		property.WriteOnly = property.WriteOnly || tag.Get("secret") == "true"
		for field.Kind() == reflect.Pointer && !field.IsNil() {
			field = field.Elem()
		}
		if property.Type == "object" && property.Properties != nil {
			if field.Kind() == reflect.Pointer {
				field = reflect.New(field.Type().Elem()).Elem()
			}
			complete(property, field)
			return
		}
		if property.Type == "integer" {
			bound(property, field.Type())
		}
		if text := defaultOf(field); text != nil {
			property.Default = text
		}
	})
}

func bound(property *jsonschema.Schema, t reflect.Type) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	number := func(have json.Number, n any) json.Number {
		if have != "" {
			return have
		}
		return json.Number(fmt.Sprint(n))
	}
	switch bits := t.Bits(); {
	case t.Kind() >= reflect.Uint && t.Kind() <= reflect.Uint64:
		property.Minimum = number(property.Minimum, 0)
		if bits < 64 {
			property.Maximum = number(property.Maximum, uint64(1)<<bits-1)
		}
	case bits < 64:
		property.Minimum = number(property.Minimum, int64(math.MinInt64)>>(64-bits))
		property.Maximum = number(property.Maximum, int64(math.MaxInt64)>>(64-bits))
	}
}

// defaultOf is v as a default in a JSON Schema; nil when there is nothing worth
// showing. Secrets have none.
func defaultOf(v reflect.Value) any {
	switch plain := Native(v).(type) {
	case nil, core.Secret:
		return nil
	case time.Duration:
		return DurationText(plain)
	case core.Size:
		return plain.String()
	case []any:
		if len(plain) == 0 {
			return nil
		}
		list := make([]any, len(plain))
		for i := range plain {
			if list[i] = defaultOf(reflect.ValueOf(plain[i])); list[i] == nil {
				list[i] = ""
			}
		}
		return list
	case map[string]any:
		if len(plain) == 0 {
			return nil
		}
		m := make(map[string]any, len(plain))
		for k, v := range plain {
			m[k] = defaultOf(reflect.ValueOf(v))
		}
		return m
	default:
		if v := reflect.ValueOf(plain); v.Kind() == reflect.String && v.Len() == 0 {
			return nil
		}
		return plain
	}
}

// DurationText is d as people write it: 24h, not 24h0m0s.
func DurationText(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return s
}

func Object(doc string) *jsonschema.Schema {
	return &jsonschema.Schema{
		Type: "object", Description: doc,
		Properties: jsonschema.NewProperties(), AdditionalProperties: jsonschema.FalseSchema,
	}
}

// Each calls visit for every key of the struct that v is or points to, as
// encoding/json would name them.
func Each(v reflect.Value, visit func(name string, tag reflect.StructTag, field reflect.Value)) {
	for v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return
		}
		v = v.Elem()
	}
	if v.Kind() != reflect.Struct {
		return
	}
	for i := range v.NumField() {
		field := v.Type().Field(i)
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		switch {
		case name == "-":
		case field.Anonymous && name == "":
			Each(v.Field(i), visit)
		case field.IsExported():
			if name == "" {
				name = field.Name
			}
			visit(name, field.Tag, v.Field(i))
		}
	}
}

// IsLeaf says that a value of type t is one value to a user, though it may be a
// struct to Go.
func IsLeaf(t reflect.Type) bool {
	return t.Kind() != reflect.Struct || reflect.PointerTo(t).Implements(textUnmarshaler)
}

// Native is v as koanf layers it: structs and maps are map[string]any, slices
// are []any, structs that are written as text are text, and everything else
// keeps its Go type. A nil pointer is nil.
func Native(v reflect.Value) any {
	switch {
	case !v.IsValid():
		return nil
	case v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface:
		if v.IsNil() {
			return nil
		}
		return Native(v.Elem())
	case !IsLeaf(v.Type()):
		m := map[string]any{}
		Each(v, func(name string, _ reflect.StructTag, field reflect.Value) {
			if value := Native(field); value != nil {
				m[name] = value
			}
		})
		return m
	case v.Kind() == reflect.Map:
		m := map[string]any{}
		for iter := v.MapRange(); iter.Next(); {
			m[fmt.Sprint(iter.Key())] = Native(iter.Value())
		}
		return m
	case v.Kind() == reflect.Slice:
		list := make([]any, v.Len())
		for i := range list {
			list[i] = Native(v.Index(i))
		}
		return list
	}
	if marshaler, ok := v.Interface().(encoding.TextMarshaler); ok && v.Kind() == reflect.Struct {
		// koanf copies what it layers and would lose unexported fields.
		if text, err := marshaler.MarshalText(); err == nil && len(text) > 0 {
			return string(text)
		}
		return nil
	}
	return v.Interface()
}

// Plain returns a configuration as JSON would hold it, for a program that decodes
// it again: durations and sizes are text, and secrets are revealed.
func Plain(config any) map[string]any {
	m, _ := plain(Native(reflect.ValueOf(config))).(map[string]any)
	return m
}

func plain(value any) any {
	switch value := value.(type) {
	case core.Secret:
		return value.Reveal()
	case time.Duration:
		return value.String()
	case core.Size:
		return value.String()
	case map[string]any:
		for key := range value {
			value[key] = plain(value[key])
		}
	case []any:
		for i := range value {
			value[i] = plain(value[i])
		}
	}
	return value
}

// Strict is how a configuration is decoded: a key that no field has is an error,
// and no value is turned into another type, but that text becomes durations,
// sizes and whatever reads its own text.
func Strict() *mapstructure.DecoderConfig {
	return &mapstructure.DecoderConfig{
		ErrorUnused: true, WeaklyTypedInput: false, ZeroFields: true, Squash: true,
		DecodeHook: mapstructure.ComposeDecodeHookFunc(fromText, mapstructure.TextUnmarshallerHookFunc()),
	}
}

// Root is what Decode calls the whole.
const Root = "config"

// Decode lays values over what config, a pointer to a struct, holds: mappings are
// merged, everything else is replaced. The error joins one
// *mapstructure.DecodeError for each value that does not fit, whose name starts
// with Root.
func Decode(values map[string]any, config any) error {
	defaults, _ := Native(reflect.ValueOf(config)).(map[string]any)
	how := Strict()
	how.TagName, how.Result, how.RootName = "json", config, Root
	decoder, err := mapstructure.NewDecoder(how)
	if err != nil {
		return err
	}
	return decoder.Decode(merge(defaults, values))
}

// merge lays above over below, which it changes.
func merge(below, above map[string]any) map[string]any {
	for key, value := range above {
		if m, ok := value.(map[string]any); ok {
			if under, ok := below[key].(map[string]any); ok {
				value = merge(under, m)
			}
		}
		below[key] = value
	}
	return below
}

// fromText reads durations, sizes, and what stands for a struct.
func fromText(_, to reflect.Type, data any) (any, error) {
	if short, ok := Short(to); ok {
		_, text := data.(string)
		_, secret := data.(core.Secret)
		_, truth := data.(bool)
		if text || secret || truth && short.Type.Kind() == reflect.Bool {
			name, _, _ := strings.Cut(short.Tag.Get("json"), ",")
			return map[string]any{name: data}, nil
		}
	}
	switch to {
	case namesType:
		if text, ok := data.(string); ok {
			return []string{text}, nil
		}
	case durationType:
		if text, ok := data.(string); ok {
			return time.ParseDuration(text)
		}
	case sizeType:
		switch v := data.(type) {
		case string:
			return core.ParseSize(v)
		case int64:
			return core.Size(v), nil
		}
	}
	return data, nil
}
