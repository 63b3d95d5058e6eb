package coretest

import (
	"context"
	"reflect"
	"regexp"
	"strings"
	"time"

	"github.com/dragoman-mt/dragoman/core"
)

// Kind checks the declaration of kind and the life of what it builds from
// config, a pointer as kind.Config gives it; nil stands for the defaults.
//
// The declaration has a name, a line of help, and for every key a description
// and bounds. Build does no I/O, starts no goroutine, leaves the configuration
// alone and returns what the role says. Close works without Start, after it, and
// twice. Equal configurations have equal fingerprints, and Plan takes one.
func Kind(t T, kind core.Kind, config any) {
	t.Helper()
	newPart(t, kind, config).declared()
	newPart(t, kind, config).lives()
}

var (
	kindName  = regexp.MustCompile(`^[a-z][a-z0-9-]*$`)
	snakeCase = regexp.MustCompile(`^[a-z][a-z0-9]*(_[a-z0-9]+)*$`)
)

// declared checks what a configuration file and its schema are made from.
func (p *part) declared() {
	p.Helper()
	if !kindName.MatchString(p.kind.Name) {
		p.Errorf("the kind's name is %q, want a lower-case word", p.kind.Name)
	}
	if p.kind.Doc == "" || strings.Contains(p.kind.Doc, "\n") {
		p.Errorf("the kind's doc is %q, want one line", p.kind.Doc)
	}
	if p.kind.Config == nil || p.kind.Build == nil {
		p.Fatalf("the kind has no Config or no Build")
	}
	one, two := reflect.ValueOf(p.kind.Config()), reflect.ValueOf(p.kind.Config())
	if one.Kind() != reflect.Pointer || one.Elem().Kind() != reflect.Struct {
		p.Fatalf("Config returns a %v, want a pointer to a struct", one.Type())
	}
	// Structs without fields may share one address.
	if one.Pointer() == two.Pointer() && one.Elem().NumField() > 0 {
		p.Errorf("Config returns the same pointer twice")
	}
	p.separate("", one.Elem(), two.Elem())
	p.described("", one.Elem().Type())
	if _, err := p.kind.Build(p.env, struct{}{}); err == nil {
		p.Errorf("Build takes a configuration of another type")
	}
}

// separate checks that two sets of defaults share no memory.
func (p *part) separate(path string, a, b reflect.Value) {
	p.Helper()
	for i := range a.NumField() {
		f := a.Type().Field(i)
		if !f.IsExported() {
			continue
		}
		switch x, y := a.Field(i), b.Field(i); x.Kind() {
		case reflect.Struct:
			p.separate(path+f.Name+".", x, y)
		case reflect.Map, reflect.Pointer:
			if !x.IsNil() && x.Pointer() == y.Pointer() {
				p.Errorf("Config: the defaults of two calls share %s%s", path, f.Name)
			}
		case reflect.Slice:
			if x.Cap() > 0 && x.Pointer() == y.Pointer() {
				p.Errorf("Config: the defaults of two calls share %s%s", path, f.Name)
			}
		}
	}
}

// described checks that every exported key of a configuration has a name, help
// and bounds.
func (p *part) described(path string, t reflect.Type) {
	p.Helper()
	for i := range t.NumField() {
		f := t.Field(i)
		if !f.IsExported() {
			continue
		}
		key, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous || options == "inline" {
			p.described(path, f.Type)
			continue
		}
		if key == "-" {
			continue
		}
		at := path + f.Name
		if !snakeCase.MatchString(key) {
			p.Errorf("Config: the key of %s is %q, want snake case", at, key)
		}
		if f.Tag.Get("jsonschema_description") == "" {
			p.Errorf("Config: %s has no jsonschema_description", at)
		}
		p.bounded(at, f)
		elem := f.Type
		for elem.Kind() == reflect.Pointer || elem.Kind() == reflect.Slice || elem.Kind() == reflect.Map {
			elem = elem.Elem()
		}
		if elem.Kind() == reflect.Struct && elem.NumField() > 0 {
			p.described(at+".", elem)
		}
	}
}

// bounded checks that a number, a duration and a size have bounds.
func (p *part) bounded(at string, f reflect.StructField) {
	p.Helper()
	tag, low, high := "jsonschema", "minimum=", "maximum="
	t := f.Type
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case t == reflect.TypeFor[time.Duration]():
		tag, low, high = "jsonschema_extras", "minDuration=", "maxDuration="
	case t == reflect.TypeFor[core.Size]():
		tag, low, high = "jsonschema_extras", "minSize=", "maxSize="
	case t.Kind() >= reflect.Int && t.Kind() <= reflect.Float64:
	default:
		return
	}
	for _, bound := range []string{low, high} {
		if !strings.Contains(strings.ToLower(f.Tag.Get(tag)), strings.ToLower(bound)) {
			p.Errorf("Config: %s has no %s in its %s tag", at, strings.TrimSuffix(bound, "="), tag)
		}
	}
}

// lives checks what every item does, whatever its role.
func (p *part) lives() {
	p.Helper()
	left := p.goroutines()

	// Build.
	config, same := p.fresh(), p.fresh()
	item, err := p.kind.Build(p.env, config)
	if err != nil {
		p.Fatalf("build: %v", err)
	}
	left("after Build")
	if p.calls.asked.Load() > 0 {
		p.Errorf("Build uses the upstream, which is for Start")
	}
	if !reflect.DeepEqual(config, same) {
		p.Errorf("Build changes its configuration")
	}
	if err := p.kind.Fits(item); err != nil {
		p.Fatalf("Build returned a %T: %v", item, err)
	}
	measured(p, item, false)
	p.fingerprinted(item)

	// Close without Start, and twice.
	p.close(item)
	p.close(item)
	measured(p, item, false)

	// Start, Close and Close.
	started, stop := p.start()
	measured(p, started, false)
	p.planned(started)
	stop()
	stop()
	measured(p, started, false)

	// Start that the caller gave up.
	if s, ok := p.build().(core.Starter); ok {
		ctx, cancel := context.WithCancel(p.Context())
		cancel()
		p.soon("start with a context that is done", func() { s.Start(ctx) })
		p.close(s)
	}
	left("after Close")
}

// fingerprinted checks that equal configurations have equal fingerprints.
func (p *part) fingerprinted(item any) {
	p.Helper()
	f, ok := item.(core.Fingerprinter)
	if !ok {
		return
	}
	other := p.build()
	one, again, two := f.Fingerprint(), f.Fingerprint(), other.(core.Fingerprinter).Fingerprint()
	if one != again {
		p.Errorf("Fingerprint changes from call to call: %q, %q", one, again)
	} else if one != two {
		p.Errorf("Fingerprint differs for equal configurations: %q, %q", one, two)
	}
	p.close(other)
}

// planned checks that an item takes the configuration that it has.
func (p *part) planned(item any) {
	p.Helper()
	planner, ok := item.(core.Planner)
	if !ok {
		return
	}
	apply, err := planner.Plan(p.fresh())
	if err != nil || apply == nil {
		p.Errorf("Plan refuses the configuration that is in use: %v", err)
		return
	}
	before := ""
	if f, ok := item.(core.Fingerprinter); ok {
		before = f.Fingerprint()
	}
	p.soon("apply", apply)
	if f, ok := item.(core.Fingerprinter); ok && f.Fingerprint() != before {
		p.Errorf("Plan with an equal configuration changes the fingerprint")
	}
	if _, err := planner.Plan(struct{}{}); err == nil {
		p.Errorf("Plan takes a configuration of another type")
	}
}
