package config

import (
	"encoding"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/fields"
)

// eachLeaf calls visit for every value under v that is one to a user, with its
// path and the tag of its field. A list is one value. Nil pointers are none.
func eachLeaf(v reflect.Value, visit func(path []string, tag reflect.StructTag, leaf reflect.Value)) {
	var walk func(v reflect.Value, path []string, tag reflect.StructTag)
	walk = func(v reflect.Value, path []string, tag reflect.StructTag) {
		switch {
		case v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface:
			if !v.IsNil() {
				walk(v.Elem(), path, tag)
			}
		case !fields.IsLeaf(v.Type()):
			fields.Each(v, func(name string, tag reflect.StructTag, field reflect.Value) {
				walk(field, append(slices.Clip(path), name), tag)
			})
		case v.Kind() == reflect.Map:
			keys := map[string]reflect.Value{}
			for _, key := range v.MapKeys() {
				keys[fmt.Sprint(key)] = key
			}
			for _, name := range slices.Sorted(maps.Keys(keys)) {
				walk(v.MapIndex(keys[name]), append(slices.Clip(path), name), tag)
			}
		default:
			visit(path, tag, v)
		}
	}
	walk(v, nil, "")
}

// absolute makes every path under v start at folder.
func absolute(v reflect.Value, folder string) {
	if m := reflect.Indirect(v); m.Kind() == reflect.Map && m.Type().Elem() == fields.PathType {
		for _, name := range m.MapKeys() { // what is in a map cannot be set below
			m.SetMapIndex(name, reflect.ValueOf(core.Path(under(folder, m.MapIndex(name).String()))))
		}
		return
	}
	eachLeaf(v, func(_ []string, tag reflect.StructTag, leaf reflect.Value) {
		one := func(v reflect.Value) {
			if (v.Type() == fields.PathType || tag.Get("path") == "true") && v.Kind() == reflect.String && v.CanSet() {
				v.SetString(under(folder, v.String()))
			}
		}
		if leaf.Kind() != reflect.Slice {
			one(leaf)
			return
		}
		for i := range leaf.Len() {
			one(leaf.Index(i))
		}
	})
}

// shown is leafText with what the tag of the leaf's field says of what may be seen.
func shown(leaf reflect.Value, tag reflect.StructTag) string {
	text := leafText(leaf, false)
	switch {
	case tag.Get("secret") == "true" && !leaf.IsZero():
		return redacted
	case tag.Get("credentials") == "true":
		return withoutUser(text)
	}
	return text
}

// leafText writes a leaf as `--set` takes it. Secrets are [redacted], unless they
// are to be shown: then the text tells any two values apart.
func leafText(leaf reflect.Value, reveal bool) string {
	if leaf.Kind() != reflect.Slice {
		return scalarText(leaf, reveal, false)
	}
	if names, ok := leaf.Interface().(core.Names); ok && len(names) == 1 {
		return plainText(names[0], false)
	}
	items := make([]string, leaf.Len())
	for i := range items {
		items[i] = itemText(leaf.Index(i), reveal)
	}
	return "[" + strings.Join(items, ", ") + "]"
}

// itemText writes a value inside a list.
func itemText(v reflect.Value, reveal bool) string {
	for v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface {
		if v.IsNil() {
			return "null"
		}
		v = v.Elem()
	}
	switch {
	case v.Kind() == reflect.Slice:
		if names, ok := v.Interface().(core.Names); ok && len(names) == 1 {
			return plainText(names[0], true)
		}
		return leafText(v, reveal)
	case v.Kind() == reflect.Map || !fields.IsLeaf(v.Type()):
		var entries []string
		field, hasShort := fields.Short(v.Type())
		if hasShort {
			rest := reflect.New(v.Type()).Elem()
			rest.FieldByIndex(field.Index).Set(v.FieldByIndex(field.Index))
			if reflect.DeepEqual(v.Interface(), rest.Interface()) {
				return itemText(v.FieldByIndex(field.Index), reveal)
			}
		}
		eachLeaf(v, func(path []string, tag reflect.StructTag, leaf reflect.Value) {
			if hasShort && leaf.IsZero() {
				return
			}
			text := itemText(leaf, reveal)
			if !reveal && (tag.Get("secret") == "true" || tag.Get("credentials") == "true") {
				text = shown(leaf, tag)
			}
			entries = append(entries, scalarText(reflect.ValueOf(strings.Join(path, ".")), reveal, true)+": "+text)
		})
		return "{" + strings.Join(entries, ", ") + "}"
	}
	return scalarText(v, reveal, true)
}

func scalarText(v reflect.Value, reveal, inFlow bool) string {
	switch value := v.Interface().(type) {
	case core.Secret:
		if !reveal {
			if value == "" {
				return `""`
			}
			return value.String()
		}
		return plainText(value.Reveal(), inFlow)
	case time.Duration:
		return fields.DurationText(value)
	case encoding.TextMarshaler:
		if text, err := value.MarshalText(); err == nil {
			return plainText(string(text), inFlow)
		}
	}
	if v.Kind() == reflect.String {
		s := v.String()
		if !reveal {
			s = withoutPassword(s)
		}
		return plainText(s, inFlow)
	}
	return fmt.Sprint(v.Interface())
}

// plainText writes s without quotes where that reads back as the same text.
func plainText(s string, inFlow bool) string {
	if s == "" || strings.TrimSpace(s) != s || strings.ContainsAny(s[:1], `[{"'`) || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return strconv.Quote(s)
	}
	if inFlow {
		if typed, err := typed(s, ""); err != nil || typed != any(s) || strings.ContainsAny(s, "[]{},#&*!|>%@`:?\"'") || s[0] == '-' {
			return strconv.Quote(s)
		}
	}
	return s
}
