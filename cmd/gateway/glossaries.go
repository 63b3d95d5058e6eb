package gateway

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/config"
	"github.com/dragoman-mt/dragoman/core/door"
	"github.com/dragoman-mt/dragoman/core/files"
	"github.com/dragoman-mt/dragoman/core/text/glossary"
)

// glossariesConfig is the section `glossaries`: the file of each, by its name.
type glossariesConfig map[string]core.Path

func glossariesDefaults() glossariesConfig { return glossariesConfig{} }

// checkGlossaries finds what names a glossary that file has not: a model of the door for
// OpenAI's clients, a key. The error is each, joined, and begins with its key.
func checkGlossaries(file *config.File) error {
	all := *glossariesSection.Of(file)
	there := "there are none (glossaries)"
	if len(all) > 0 {
		there = "there are " + strings.Join(slices.Sorted(maps.Keys(all)), ", ")
	}
	var missing []error
	look := func(key, name string) {
		if _, ok := all[name]; name != "" && !ok {
			missing = append(missing, fmt.Errorf("%s: there is no glossary %q; %s", key, name, there))
		}
	}
	models := doorsSection.Of(file).OpenAI.Models
	for _, name := range slices.Sorted(maps.Keys(models)) {
		look("doors.openai.models."+name+".translate.glossary", models[name].Translate.Glossary)
	}
	for i, k := range serverSection.Of(file).Keys {
		look(fmt.Sprintf("server.keys[%d].glossary", i), k.Glossary)
	}
	return file.Place(errors.Join(missing...))
}

// glossaries are what the section names, read, and the files as they were then.
type glossaries struct {
	all  door.Glossaries
	was  map[string]os.FileInfo
	take func(door.Glossaries) // told of others; nil while nobody serves
}

// readGlossaries reads the file of each. The error is each that cannot be read, joined, and
// begins with its key.
func readGlossaries(c glossariesConfig) (*glossaries, error) {
	g := &glossaries{all: door.Glossaries{}, was: map[string]os.FileInfo{}}
	var refused []error
	for _, name := range slices.Sorted(maps.Keys(c)) {
		path := string(c[name])
		one, err := g.read(name, path)
		if err != nil {
			refused = append(refused, fmt.Errorf("glossaries.%s: %w", name, err))
			continue
		}
		g.all[name] = one
	}
	return g, errors.Join(refused...)
}

func (g *glossaries) read(name, path string) (*glossary.Glossary, error) {
	if !goodGlossary(name) {
		return nil, errors.New("a name is 1 to 64 letters, digits, dots, - and _")
	}
	was, err := os.Stat(path) // before it is read: what is written meanwhile counts as a change
	if err != nil {
		return nil, err
	}
	content, err := files.Read(path, glossary.MostFile)
	if err != nil {
		return nil, err
	}
	g.was[path] = was
	one, err := glossary.Read(name, path, content)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Base(path), err)
	}
	return one, nil
}

func goodGlossary(name string) bool {
	for _, r := range name {
		if !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '.' || r == '-' || r == '_') {
			return false
		}
	}
	return 0 < len(name) && len(name) <= 64
}

// Plan reads what another section names, and takes it in place for the calls that arrive
// after apply.
func (g *glossaries) Plan(config any) (apply func(), err error) {
	c, ok := config.(*glossariesConfig)
	if !ok {
		return nil, fmt.Errorf("glossaries: planned with a %T, want a %T", config, c)
	}
	next, err := readGlossaries(*c)
	if err != nil {
		return nil, err
	}
	return func() {
		g.all, g.was = next.all, next.was
		g.take(g.all)
	}, nil
}

// Outdated says whether a file is another than the one that was read, by its size, its
// time or which file it is.
func (g *glossaries) Outdated() bool {
	for path, was := range g.was {
		is, err := os.Stat(path)
		if err != nil || !os.SameFile(is, was) || is.Size() != was.Size() || !is.ModTime().Equal(was.ModTime()) {
			return true
		}
	}
	return false
}
