package config

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/agnivade/levenshtein"
	"github.com/go-viper/mapstructure/v2"
	"github.com/invopop/jsonschema"
	"github.com/knadh/koanf/providers/confmap"
	"github.com/knadh/koanf/v2"
	"go.yaml.in/yaml/v3"

	"github.com/dragoman-mt/dragoman/core/fields"
	"github.com/dragoman-mt/dragoman/core/schema"
)

// delimiter never occurs in a key that matters; a dot does, in model names.
const delimiter = "::"

// layers lays maps over each other, the last on top. Lists are replaced.
func layers(maps ...map[string]any) (*koanf.Koanf, error) {
	k := koanf.New(delimiter)
	for _, m := range maps {
		if err := k.Load(confmap.Provider(m, ""), nil); err != nil {
			return nil, err
		}
	}
	return k, nil
}

// object returns n as a map, nil when there is none.
func (n *node) object(onlyKnown bool) map[string]any {
	if n == nil {
		return nil
	}
	m, _ := n.data(onlyKnown).(map[string]any)
	return m
}

// check validates what the file and --set say of p against the schema.
func (l *loader) check(p *part) error {
	v := l.checker.viewOf(p.def)
	p.file.hide(v, false)
	p.set.hide(v, false)
	l.fit(p, p.file, p.shape, nil)
	l.fit(p, p.set, p.shape, nil)
	if p.enabled != nil {
		l.checkEnabled(p)
	}
	if p.file != nil {
		if !p.file.known() {
			return nil
		}
		if p.file.kind != yaml.MappingNode {
			l.complain(p.file.pos, p.path, "must be a mapping of keys to values, got "+p.file.describe())
			return nil
		}
	}
	k, err := layers(p.file.object(false), p.set.object(false))
	if err != nil {
		return err
	}
	wrong, err := l.checker.check(p.def, k.Raw())
	for _, m := range wrong {
		l.translate(p, m)
	}
	return err
}

func (l *loader) checkEnabled(p *part) {
	n := p.enabled
	n.become("boolean")
	if _, ok := n.value.(bool); n.known() && !ok {
		path, _, _ := strings.Cut(p.path, "]")
		l.about(n, n.pos, path+"].enabled", p.key+".enabled", "must be true or false, got "+n.describe())
	}
}

// fit gives values the form that the schema wants where YAML leaves it open: a
// key with nothing under it is an empty mapping or list, text from a variable
// or a --set stays text where text is wanted, and a whole number is an integer.
func (l *loader) fit(p *part, n *node, shape *jsonschema.Schema, path []string) {
	if n == nil || shape == nil || !n.known() {
		return
	}
	if l.foreign(p, n, shape, path) {
		return
	}
	n.become(shape.Type)
	switch {
	case n.plain && n.kind == yaml.ScalarNode && (shape.Type == "string" || several(shape) || short(shape) && !truth(shape)):
		n.value = n.text
	case n.isNull() && shape.Type == "object":
		n.kind = yaml.MappingNode
	case n.isNull() && shape.Type == "array":
		n.kind = yaml.SequenceNode
	case shape.Type == "integer":
		if f, ok := n.value.(float64); ok && f == math.Trunc(f) {
			if math.Abs(f) < 1<<53 {
				n.value = int64(f)
				return
			}
			n.bad = true
			l.about(n, n.pos, p.write(p.path, path), p.write(p.key, path), "the number is too large")
		}
	}
	for i, item := range n.items {
		l.fit(p, item, shape.Items, append(slices.Clip(path), strconv.Itoa(i)))
	}
	for _, e := range n.entries {
		next := below(shape, e.name)
		// Of a mapping in the place of a secret, the keys may be the secret.
		if v := e.value; v.secret && !n.secret && v.kind == yaml.ScalarNode {
			_, ours := property(shape, e.name)
			switch colon := strings.Contains(e.name, ":"); {
			case !colon && v.isNull() && !ours && next != nil && next.WriteOnly:
				// As `{SECRET}` is read: the name may be what should be its value.
				l.about(v, e.pos, p.write(p.path, path), p.write(p.key, path), "holds a name without a value; write NAME: VALUE")
				v.bad = true
			case !colon:
			case v.text == "":
				l.aboutKey(p, path, e.name, "has no value; write a blank after the colon")
				v.bad = true
			case next != nil && next.WriteOnly: // a name of the user's own, which is shown
				l.aboutKey(p, path, e.name, "a name has no colon here; write a blank after the first, and quote a value that has one")
				v.bad = true
			}
		}
		l.fit(p, e.value, next, append(slices.Clip(path), e.name))
	}
}

// become gives one reference in quotes the type that is wanted.
func (n *node) become(want string) {
	if !n.alone || want != "integer" && want != "number" && want != "boolean" {
		return
	}
	switch value, err := typed(n.text, ""); value.(type) {
	case bool, int64, float64:
		if err == nil {
			n.value = value
		}
	}
}

// foreign complains about a reference as another program would write it, where there
// are references, and says
// whether n is one.
func (l *loader) foreign(p *part, n *node, shape *jsonschema.Schema, path []string) bool {
	wanted := shape.Type != "" && shape.Type != "object" && shape.Type != "array" || short(shape) || several(shape) || shape.Format == fields.SizeFormat
	raw := n.raw
	if n.kind == yaml.MappingNode && len(n.entries) == 1 && n.entries[0].value.isNull() {
		raw = "{" + n.entries[0].name + "}" // as YAML reads it without quotes
	}
	if !wanted || raw == "" || l.LookupEnv == nil {
		return false
	}
	why := expander{lookup: l.LookupEnv}.misspelt(raw, n.secret)
	if why == "" {
		return false
	}
	if name := strings.Trim(raw, "${}%() "); l.refers(p, path) && slices.ContainsFunc(l.providers, func(p *part) bool { return p.name == name }) {
		why = fmt.Sprintf("names no provider; write %s for the one of that name, and ${%[1]s} for the one that a variable names", name)
	}
	n.bad = true
	l.about(n, n.pos, p.write(p.path, path), p.write(p.key, path), why)
	return true
}

// refers says whether what stands at path names a provider.
func (l *loader) refers(p *part, path []string) (yes bool) {
	if p.config == nil {
		return false
	}
	eachReference(reflect.TypeOf(p.config), nil, func(at []string) {
		yes = yes || len(path) >= len(at) && len(path) <= len(at)+1 && slices.EqualFunc(path[:len(at)], at, func(step, wanted string) bool {
			return step == wanted || wanted == anyItem
		})
	})
	return yes
}

// short says that text may stand in place of the mapping that shape describes.
func short(shape *jsonschema.Schema) bool { return shape.Type == "" && shape.Properties != nil }

// several says that text may stand in place of the list that shape describes.
func several(shape *jsonschema.Schema) bool { return shape.Type == "" && shape.Items != nil }

// truth says that it is true or false that may stand there.
func truth(shape *jsonschema.Schema) bool {
	types, _ := shape.Extras["type"].([]string)
	return slices.Contains(types, "boolean")
}

// below is the schema of one key, nil when there is none.
func below(shape *jsonschema.Schema, key string) *jsonschema.Schema {
	if shape == nil {
		return nil
	}
	if known, ok := property(shape, key); ok {
		return known
	}
	if shape.AdditionalProperties == jsonschema.FalseSchema {
		return nil
	}
	return shape.AdditionalProperties
}

// property is the schema of one key that the schema of its object names.
func property(shape *jsonschema.Schema, key string) (*jsonschema.Schema, bool) {
	if shape.Properties == nil {
		return nil, false
	}
	return shape.Properties.Get(key)
}

// keys lists what may stand in an object.
func keys(shape *jsonschema.Schema) []string {
	var names []string
	if shape != nil && shape.Properties != nil {
		for p := shape.Properties.Oldest(); p != nil; p = p.Next() {
			names = append(names, p.Key)
		}
	}
	return names
}

// find returns the value at path that is in effect, or nil for a default.
func (p *part) find(path []string) *node {
	n := p.file.at(path)
	if set := p.set.at(path); set != nil && (n == nil || set.kind != yaml.MappingNode) {
		return set
	}
	return n
}

// write appends path to prefix as a complaint writes it.
func (p *part) write(prefix string, path []string) string {
	for i, step := range path {
		if holder := p.find(path[:i]); holder != nil && holder.kind == yaml.SequenceNode {
			prefix += "[" + step + "]"
		} else {
			prefix = join(prefix, step)
		}
	}
	return prefix
}

// translate turns a mistake into a complaint. Of several about one value the first is
// enough.
func (l *loader) translate(p *part, m schema.Mistake) {
	path := m.At
	n := p.find(path)
	if n != nil && !n.known() {
		return
	}
	at := p.pos
	if n != nil {
		at = n.pos
	}
	shape := p.shape
	for _, step := range path {
		if shape != nil && shape.Type == "array" {
			shape = shape.Items
		} else {
			shape = below(shape, step)
		}
	}
	switch m.Keyword {
	case "additionalProperties":
		for _, name := range m.Names {
			if shape != nil && short(shape) && shape.WriteOnly && nearest(name, keys(shape)) == "" {
				// `- SECRET: name` is no slip of a key.
				l.about(n, at, p.write(p.path, path), p.write(p.key, path), "holds a key that is none of "+list(keys(shape)))
				continue
			}
			l.aboutKey(p, path, name, unknownKey(name, keys(shape)))
		}
		return
	case "propertyNames":
		l.aboutKey(p, path, m.Names[0], "this is not a name that can stand here")
		return
	case "required":
		for _, name := range m.Names {
			l.about(n, at, p.write(p.path, path), p.write(p.key, path), "lacks the key "+name)
		}
		return
	}
	l.about(n, at, p.write(p.path, path), p.write(p.key, path), mistake(m, shape, n))
	if n != nil {
		n.bad = true
	}
}

// aboutKey complains about a key rather than its value.
func (l *loader) aboutKey(p *part, path []string, name, message string) {
	below := append(slices.Clip(path), name)
	n := p.find(below)
	at := p.pos
	if e, ok := p.file.at(path).get(name); ok {
		at = e.pos
	}
	l.about(n, at, p.write(p.path, below), p.write(p.key, below), message)
}

// mistake says what is wrong with the value n. A secret is not repeated.
func mistake(m schema.Mistake, shape *jsonschema.Schema, n *node) string {
	want, _ := m.Want.([]any)
	got := ""
	hidden := n != nil && n.secret && n.kind == yaml.ScalarNode && n.value != nil
	if n != nil && (!hidden || m.Keyword == "type" && !slices.Contains(want, any("string"))) {
		got = ", got " + n.describe()
	}
	format := ""
	if shape != nil {
		format = shape.Format
	}
	switch m.Keyword {
	case "type", "format":
		switch format {
		case fields.DurationFormat:
			return "must be a duration such as 300ms or 24h" + got
		case fields.SizeFormat:
			return "must be a size such as 64MiB" + got
		}
		if m.Keyword == "format" {
			return "must be a " + format + got
		}
		words := make([]string, len(want))
		for i := range want {
			words[i] = typeWords[fmt.Sprint(want[i])]
		}
		only := func(one string) bool { return len(want) == 1 && want[0] == one }
		if n != nil && n.kind == yaml.ScalarNode && n.value != nil && (only("string") || shape != nil && short(shape) && !truth(shape)) {
			got += "; put it in quotes"
		}
		if n != nil && n.kind == yaml.ScalarNode && only("array") {
			got += "; write one as [ITEM], two as [ITEM, ITEM]"
		}
		return "must be " + strings.Join(words, " or ") + got
	case "enum":
		word := ""
		if n != nil && !hidden { // else what was meant would tell of what is there
			word, _ = n.value.(string)
		}
		words := make([]string, len(want))
		for i := range want {
			words[i] = text(want[i])
		}
		return oneOf(words, strings.TrimPrefix(got, ", got "), word)
	case "const":
		return "must be " + text(m.Want) + got
	case "minimum", "minDuration", "minSize":
		return "must be at least " + text(m.Want) + got
	case "maximum", "maxDuration", "maxSize":
		return "must be at most " + text(m.Want) + got
	case "exclusiveMinimum":
		return "must be more than " + text(m.Want) + got
	case "exclusiveMaximum":
		return "must be less than " + text(m.Want) + got
	case "multipleOf":
		return "must be a multiple of " + text(m.Want) + got
	case "minLength", "minItems", "minProperties":
		if m.Want == 1. && m.Keyword != "minProperties" {
			return "must not be empty"
		}
		return fmt.Sprintf("must have at least %s %s, has %d", text(m.Want), countWords[m.Keyword], m.Got)
	case "maxLength", "maxItems", "maxProperties":
		return fmt.Sprintf("must have at most %s %s, has %d", text(m.Want), countWords[m.Keyword], m.Got)
	case "uniqueItems":
		return fmt.Sprintf("the items %d and %d are the same", m.Same[0], m.Same[1])
	case "pattern":
		pattern := text(m.Want)
		if words, ok := patternWords[pattern]; ok {
			return "must be " + words + got
		}
		return "must match " + pattern + got
	}
	return "is not what may stand here" + got
}

// patternWords says what a pattern means, where a person would not read it.
var patternWords = map[string]string{
	"^[0-9a-fA-F]{64}$":      "a SHA-256 sum, 64 hexadecimal digits, as `printf %s KEY | sha256sum` prints it",
	"^[A-Za-z0-9._-]{1,64}$": "1 to 64 letters, digits, dots, - and _",
}

var typeWords = map[string]string{
	"object": "a mapping of keys to values", "array": "a list", "string": "text",
	"integer": "a whole number", "number": "a number", "boolean": "true or false", "null": "nothing",
}

var countWords = map[string]string{
	"minLength": "characters", "maxLength": "characters", "minItems": "items", "maxItems": "items",
	"minProperties": "keys", "maxProperties": "keys",
}

// text writes what a schema names as a person would.
func text(v any) string {
	if n, ok := v.(float64); ok && n == math.Trunc(n) {
		return strconv.FormatFloat(n, 'f', -1, 64)
	}
	return fmt.Sprint(v)
}

// list writes names with commas.
func list(names []string) string { return strings.Join(names, ", ") }

// oneOf says which words may stand, and which of them was meant.
func oneOf(want []string, got, word string) string {
	message := "must be one of " + list(want)
	if len(want) == 1 {
		message = "must be " + want[0]
	}
	if got != "" {
		message += ", got " + got
	}
	if meant := nearest(word, want); meant != "" {
		message += fmt.Sprintf("; did you mean %s?", meant)
	}
	return message
}

func unknownKey(name string, known []string) string {
	return "there is no such key here" + orKnown(name, known)
}

// orKnown ends a complaint about a name that is not known: with the one that
// was meant, else with all that are known.
func orKnown(name string, known []string) string {
	if head, value, ok := strings.Cut(name, ":"); ok && value != "" && slices.Contains(known, head) {
		return "; a blank is missing after the colon of " + head + ":"
	}
	if meant := nearest(name, known); meant != "" {
		return fmt.Sprintf("; did you mean %s?", meant)
	}
	if len(known) == 0 {
		return ""
	}
	return "; known are " + list(known)
}

// nearest returns the candidate that word is most likely a slip of, or "".
func nearest(word string, candidates []string) string {
	simple := func(s string) string { return strings.ToLower(strings.NewReplacer("-", "_", " ", "_").Replace(s)) }
	if word = simple(word); word == "" || len(word) > 64 {
		return ""
	}
	best, least := "", math.MaxInt
	for _, candidate := range candidates {
		distance := levenshtein.ComputeDistance(word, simple(candidate))
		if len(word) >= 3 && strings.HasPrefix(simple(candidate), word) {
			distance = min(distance, 1)
		}
		if distance <= (len(candidate)+1)/3 && distance < least {
			best, least = candidate, distance
		}
	}
	return best
}

// decode fills p.config: the defaults, what the file says, what --set says.
func (l *loader) decode(p *part) error {
	defaults, _ := fields.Native(reflect.ValueOf(p.config)).(map[string]any)
	file, set := p.file.object(true), p.set.object(true)
	if p.typ != nil { // type chose the struct and is no field of it, and there are others
		if err := l.decodeShared(p, file, set); err != nil {
			return err
		}
	}
	k, err := layers(defaults, file, set)
	if err != nil {
		return err
	}
	err = k.UnmarshalWithConf("", p.config, koanf.UnmarshalConf{
		Tag: "json", DecoderConfig: fields.Strict(),
	})
	if err != nil {
		l.undecodable(p, err)
		return nil
	}
	absolute(reflect.ValueOf(p.config), l.folder)
	return nil
}

// undecodable complains about what the schema let pass and the field's type did
// not: a type that reads its own text.
func (l *loader) undecodable(p *part, err error) {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, err := range joined.Unwrap() {
			l.undecodable(p, err)
		}
		return
	}
	e, ok := err.(*mapstructure.DecodeError)
	if wrapped := errors.Unwrap(err); !ok && wrapped != nil {
		l.undecodable(p, wrapped)
		return
	}
	at, path := p.pos, []string(nil)
	var n *node
	if ok {
		path = strings.FieldsFunc(e.Name(), func(r rune) bool { return r == '.' || r == '[' || r == ']' })
		if n = p.find(path); n != nil {
			at = n.pos
		}
		err = e.Unwrap()
	}
	message := "cannot be read"
	if n != nil && !n.secret || n == nil && !l.checker.viewOf(p.def).holds() {
		message += ": " + err.Error() // which may quote the value
	}
	l.about(n, at, p.write(p.path, path), p.write(p.key, path), message)
}

// under makes name start at folder, unless it is absolute or empty.
func under(folder, name string) string {
	if name == "" || filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(folder, name)
}
