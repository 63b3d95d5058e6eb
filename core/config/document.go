package config

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/invopop/jsonschema"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/fields"
)

// A Document is a file beside pipeline.yaml that one struct is filled from. It
// is read, checked and complained about as pipeline.yaml is, but that it has no
// references: its texts are what they are, dollars included.
type Document struct {
	// Title and Doc say in the JSON Schema what it is.
	Title, Doc string
	// Config returns a pointer to a struct that holds the defaults, new each
	// time. Its tags are those of core.Kind.
	Config func() any
	// Key is one that no such file can do without.
	Key string
	// Remedy says what to do when there is no such file.
	Remedy string
}

// Load reads and checks a file, and says what is wrong beyond the schema: check
// is called with what Config returned, filled in, and complains about paths such
// as tests[2].request. The error is a Complaints, unless the document itself is
// unusable. The origin complains about paths later on.
func (d Document) Load(file string, check func(config any, complain func(path, message string))) (any, core.Origin, error) {
	data, err := readFile(file, d.Remedy)
	if err != nil {
		return nil, nil, Complaints{{File: file, Message: err.Error()}}
	}
	return d.loadBytes(data, file, check)
}

// loadBytes is Load without its I/O.
func (d Document) loadBytes(data []byte, file string, check func(config any, complain func(path, message string))) (any, core.Origin, error) {
	shape := d.shape()
	folder, err := filepath.Abs(filepath.Dir(file))
	if err != nil {
		return nil, nil, Complaints{{File: file, Message: "its folder cannot be found: " + err.Error()}}
	}
	l := &loader{Options: Options{File: file}, checker: checkerOf(shape), folder: folder, said: map[Complaint]bool{}}
	r := reader{
		literal: true, complain: l.complain,
		emptyFile: fmt.Sprintf("the file is empty; it needs at least `%s:`", d.Key),
		noMapping: fmt.Sprintf("this file is a mapping (`version: 1`, `%s: ...`)", d.Key),
	}
	root := r.read(data)
	p := &part{file: root, shape: shape, config: d.Config()}
	if root != nil && !r.full {
		p.pos = root.pos
		if err := l.check(p); err != nil {
			return nil, nil, fmt.Errorf("checking %s: %w", file, err)
		}
		if len(l.complaints) == 0 {
			if err := l.decode(p); err != nil {
				return nil, nil, fmt.Errorf("checking %s: %w", file, err)
			}
		}
	}
	at := &origin{l, p}
	if len(l.complaints) == 0 {
		check(p.config, func(path, message string) {
			for _, c := range AsComplaints(at.Complain(path, message)) {
				l.add(c)
			}
		})
	}
	if len(l.complaints) > 0 {
		l.complaints.sort()
		return nil, nil, l.complaints
	}
	return p.config, at, nil
}

// JSONSchema returns the JSON Schema (draft 2020-12) of the file, for editors.
// It is the one that Load checks with.
func (d Document) JSONSchema() ([]byte, error) { return checkerOf(d.shape()).text() }

func (d Document) shape() *jsonschema.Schema {
	shape := fields.Schema(d.Config(), d.Doc)
	shape.Version, shape.Title = jsonschema.Version, d.Title
	return shape
}

// Unknown ends a complaint about a name that is not among known: with the one
// that was meant, else with all that are known.
func Unknown(name string, known []string) string {
	return strings.TrimPrefix(orKnown(name, known), "; ")
}
