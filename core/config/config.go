// Package config turns pipeline.yaml into checked values. It parses the file
// once to nodes that know their line and column, expands references, lays
// `--set` over it, checks it all with the JSON Schema that it generates from
// the kinds' own structs, and decodes what passed over the kinds' defaults.
//
// A file is either good, and comes back as a File, or it is not, and every
// mistake in it comes back at once, each with its place. Nothing here does
// more I/O than to read the file, the environment, and the files that it names with
// ${file:PATH}.
package config

import (
	"errors"
	"fmt"
	"strings"

	"github.com/dragoman-mt/dragoman/core"
)

// A Schema is what a configuration may consist of. It is a plain value, safe
// for concurrent use as long as it is not changed.
type Schema struct {
	// Sections are the keys at the top beside version, providers and stages.
	Sections []Section
	// Kinds are what `providers:` and `stages:` may name.
	Kinds []core.Kind
}

// A Section is a top-level key with a struct of its own, such as `pool`.
type Section struct {
	Name, Doc string
	// Config returns a pointer to a struct that holds the defaults, new each
	// time. Its tags are those of core.Kind.
	Config func() any
}

// A Typed section is one whose struct is a T: it is declared once, and nobody who
// reads it has to guess its name or its type.
type Typed[T any] struct {
	Section
	defaults func() T
}

// NewSection declares a section; defaults returns its struct, new each time.
func NewSection[T any](name, doc string, defaults func() T) Typed[T] {
	return Typed[T]{Section{Name: name, Doc: doc, Config: func() any { c := defaults(); return &c }}, defaults}
}

// Of returns what f says in s, filled in. Of a file that was not loaded with s it
// returns the defaults.
func (s Typed[T]) Of(f *File) *T {
	if c, ok := f.Sections[s.Name].(*T); ok {
		return c
	}
	c := s.defaults()
	return &c
}

// Options say what to load.
type Options struct {
	// File is the name of the file, as complaints will write it.
	File string
	// Content is what to load in place of what File holds; nil for that. Paths
	// still start at the folder of File.
	Content []byte
	// Set holds what `--set` gave, each as key=value. It lies over the file.
	Set []string
	// LookupEnv finds the variables of ${NAME}; nil for the process's own.
	LookupEnv func(string) (string, bool)
	// Offline lets variables be missing, and files that references name: a value
	// that names one has its default, and is not checked.
	Offline bool
}

// A File is a checked configuration.
type File struct {
	// Path is Options.File.
	Path string
	// Hash changes with the content of the file.
	Hash string
	// Sections holds, by name, what Section.Config returned, filled in.
	Sections map[string]any
	// Providers and Stages are in the order of the file, disabled ones
	// included.
	Providers, Stages []Item
	// Values are all effective values, in the order of the file.
	Values []Value
	// Origins complain about keys of the sections, by name.
	Origins map[string]core.Origin

	unknown []string // paths of values that name a variable which is not set
	named   []*named // the files that references name
}

// An Item is an entry of `providers:` or `stages:`.
type Item struct {
	// Name is unique among its like; a stage's default is the name of its kind.
	Name string
	Kind core.Kind
	// Config is what Kind.Config returned, filled in.
	Config any
	// Enabled is false for a stage that is to be left out of the chain.
	Enabled bool
	// Path is where the item stands: "stages[2].queue", "providers.openai".
	Path         string
	Line, Column int
	// Digest changes with anything in Config, secrets included.
	Digest string
	// Origin complains about keys of this item.
	Origin core.Origin
	// Limits is what may be spent of an account of an entry of `providers:`, and
	// Accounts are those of one that has several, each as an item of its own: NAME/1
	// and so on, with its Weight.
	Limits   core.Allowance
	Accounts []Item
	Weight   int
}

// A Value is one effective value, for `explain`.
type Value struct {
	// Path is the key as `--set` takes it: "stages.queue.max_concurrent".
	Path string
	// Text is the value as `--set` takes it; a secret is [redacted].
	Text string
	// From is "default", "--set", "pipeline.yaml:14", or
	// "pipeline.yaml:14 via OPENAI_BASE_URL".
	From string
	// Sum tells apart two values that Text shows alike, such as two secrets. It
	// means nothing to another process.
	Sum uint64
	// Below tells what the file says where From is --set, as Sum does; 0 when it
	// says nothing there.
	Below uint64
}

// Complaints are everything that is wrong with a configuration, in the order
// of the file. As an error, each has a line of its own.
type Complaints []Complaint

func (c Complaints) Error() string {
	lines := make([]string, len(c))
	for i, complaint := range c {
		lines[i] = complaint.String()
	}
	return strings.Join(lines, "\n")
}

// AsComplaints returns err as complaints, those that it joins included; nil when
// some of it is anything else.
func AsComplaints(err error) Complaints {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		all, _ := errors.AsType[Complaints](err)
		return all
	}
	var all Complaints
	for _, err := range joined.Unwrap() {
		one := AsComplaints(err)
		if one == nil {
			return nil
		}
		all = append(all, one...)
	}
	return all
}

// A Complaint is one mistake.
type Complaint struct {
	// File is the file's name, or the `--set KEY` that is at fault.
	File string
	// Line and Column count from 1; they are 0 where there is no place to name.
	Line, Column int
	// Path is the key at fault: "stages[2].queue.max_concurrent".
	Path string
	// Message says what is wrong and what would be right. It holds no secret.
	Message string
}

// String is the complaint as one line: file:line:column: path: message.
func (c Complaint) String() string {
	var b strings.Builder
	b.WriteString(c.File)
	if c.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", c.Line, c.Column)
	}
	if c.Path != "" && c.File != "--set "+c.Path {
		b.WriteString(": ")
		b.WriteString(c.Path)
	}
	b.WriteString(": ")
	b.WriteString(c.Message)
	return b.String()
}
