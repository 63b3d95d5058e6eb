// Package scaffold writes the folder that an author of a plugin starts from: a
// program that builds, a test that passes, a pipeline.yaml that calls it. It is
// what `dragoman plugin new` does.
package scaffold

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"

	"github.com/dragoman-mt/dragoman/core/lazy"
)

// Languages are those that a plugin can be written in.
func Languages() []string { return []string{"go", "python", "node"} }

// Roles are what a plugin can be.
func Roles() []string { return []string{"provider", "stage"} }

// A Plugin says what is wanted.
type Plugin struct {
	// Name is a lower-case word: of the kind, the program and its folder.
	Name string
	Lang string // one of Languages
	Role string // one of Roles
	// Checkout is the folder of Dragoman's sources, absolute. A Go plugin is
	// built with it, one in another language gets a copy of its SDK.
	Checkout string
	// Replace is how a go.mod names it, absolute or from the new folder.
	Replace string
}

// Import is the path of a Go plugin's package.
func (p Plugin) Import() string { return "example.com/" + p.Name }

// Package is the name of a Go plugin's package.
func (p Plugin) Package() string { return strings.ReplaceAll(p.Name, "-", "") }

// Module is the name of a Python plugin's module, which hides none of Python's
// own.
func (p Plugin) Module() string { return strings.ReplaceAll(p.Name, "-", "_") + "_plugin" }

// Command is what starts the plugin, as pipeline.yaml names it.
func (p Plugin) Command() string {
	switch p.Lang {
	case "python":
		return "[/usr/bin/python3, " + p.Module() + ".py]"
	case "node":
		return "[node, " + p.Name + ".js]"
	}
	return "[./" + p.Name + "]"
}

// all: for the names that begin with a dot.
//
//go:embed all:templates
var templates embed.FS

// Names of plugins, as core/coretest wants those of kinds.
var name = lazy.Regexp(`^[a-z][a-z0-9-]{0,39}$`)

// Write writes the plugin to dir, which it makes and which must not be there,
// and returns the names of the files in it.
func Write(dir string, p Plugin) (files []string, err error) {
	if !name().MatchString(p.Name) {
		return nil, fmt.Errorf("%q cannot be the name of a plugin: take a word of at most 40 lower-case letters, digits and dashes", p.Name)
	}
	contents := map[string][]byte{}
	for _, folder := range []string{p.Lang, p.Lang + "-" + p.Role} {
		if err := p.fill(contents, folder); err != nil {
			return nil, err
		}
	}
	if p.Lang == "go" {
		err = p.module(contents)
	} else {
		err = p.sdk(contents)
	}
	if err != nil {
		return nil, err
	}
	if err := os.Mkdir(dir, 0o777); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("%s is there already: take another name, or remove it", dir)
		}
		return nil, err
	}
	for file, content := range contents {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, file)), 0o777); err != nil {
			return nil, err
		}
		if err := os.WriteFile(filepath.Join(dir, file), content, 0o666); err != nil {
			return nil, err
		}
		files = append(files, file)
	}
	return files, nil
}

// fill adds the templates of one folder.
func (p Plugin) fill(contents map[string][]byte, folder string) error {
	all, err := templates.ReadDir("templates/" + folder)
	if err != nil {
		return fmt.Errorf("there is no plugin of this language and role: %w", err)
	}
	// Not text/template: with it in it a program holds whatever method anybody could
	// call by name.
	filled := strings.NewReplacer(
		"{{.Name}}", p.Name, "{{.Role}}", p.Role, "{{.Command}}", p.Command(), "{{.Import}}", p.Import(), "{{.Package}}", p.Package(), "{{.Module}}", p.Module(),
	)
	for _, file := range all {
		content, err := templates.ReadFile("templates/" + folder + "/" + file.Name())
		if err != nil {
			return err
		}
		to := strings.NewReplacer("MODULE", p.Module(), "NAME", p.Name).Replace(strings.TrimSuffix(file.Name(), ".tmpl"))
		if to == "main.go" { // beside the package, which may be linked into a gateway as well
			to = "cmd/" + p.Name + "/main.go"
		}
		contents[to] = []byte(filled.Replace(string(content)))
	}
	return nil
}

// module adds a go.mod that builds with the checkout and holds the modules that a
// plugin is made of, at the versions that the checkout pins, so that nothing has to be
// looked up. Without Go, which knows these modules, it holds all of the checkout's.
func (p Plugin) module(contents map[string][]byte) error {
	name := filepath.Join(p.Checkout, "go.mod")
	raw, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	theirs, err := modfile.Parse(name, raw, nil)
	if err != nil {
		return err
	}
	needed := p.modules()
	var direct, indirect []*modfile.Require
	for _, r := range theirs.Require {
		switch why, is := needed[r.Mod.Path]; {
		case needed != nil && !is:
		case why:
			direct = append(direct, &modfile.Require{Mod: r.Mod})
		default:
			indirect = append(indirect, &modfile.Require{Mod: r.Mod, Indirect: true})
		}
	}
	direct = append(direct, &modfile.Require{Mod: module.Version{Path: dragoman, Version: "v0.0.0"}})
	ours := &modfile.File{}
	for _, err := range []error{ours.AddModuleStmt(p.Import()), ours.AddGoStmt(theirs.Go.Version)} {
		if err != nil {
			return err
		}
	}
	ours.SetRequireSeparateIndirect(append(direct, indirect...))
	ours.Cleanup()
	contents["go.mod"] = fmt.Appendf(modfile.Format(ours.Syntax), "\n// Where Dragoman's sources are.\nreplace %s => %s\n", dragoman, strconv.Quote(p.Replace))
	contents["go.sum"], err = os.ReadFile(filepath.Join(p.Checkout, "go.sum"))
	return err
}

// imported are the packages that a Go plugin and its test import.
var imported = []string{"./core", "./core/coretest", "./plugins/sdk", "go.uber.org/zap"}

// modules returns the modules that the packages of a Go plugin come from, and whether
// one of them is imported by the plugin itself; nil when that cannot be told.
func (p Plugin) modules() map[string]bool {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	list := exec.CommandContext(ctx, "go", append([]string{"list", "-deps", "-f", "{{with .Module}}{{.Path}} {{$.ImportPath}}{{end}}"}, imported...)...)
	list.Dir = p.Checkout
	out, err := list.Output()
	if err != nil {
		return nil
	}
	needed := map[string]bool{}
	for line := range strings.Lines(string(out)) {
		if from, path, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			needed[from] = needed[from] || slices.Contains(imported, path)
		}
	}
	return needed
}

// sdk adds the SDK of a language whose plugins have a copy of it.
func (p Plugin) sdk(contents map[string][]byte) (err error) {
	from := map[string]string{"dragoman_plugin.py": "plugins/sdk/python/dragoman_plugin.py", "dragoman_plugin.binpb": "plugins/sdk/python/dragoman_plugin.binpb"}
	if p.Lang == "node" {
		from = map[string]string{"dragoman_plugin.js": "plugins/sdk/node/dragoman_plugin.js", "dragoman_plugin.proto": "plugins/wire/plugin.proto"}
	}
	for file, place := range from {
		if contents[file], err = os.ReadFile(filepath.Join(p.Checkout, filepath.FromSlash(place))); err != nil {
			return err
		}
	}
	return nil
}

const dragoman = "github.com/dragoman-mt/dragoman"

// Checkout returns the folder of Dragoman's sources that one of the places is
// in, absolute. Empty places are passed over.
func Checkout(places ...string) (string, error) {
	for _, place := range places {
		if place == "" || !filepath.IsAbs(place) {
			continue
		}
		for dir := filepath.Clean(place); ; dir = filepath.Dir(dir) {
			raw, err := os.ReadFile(filepath.Join(dir, "go.mod"))
			if first, _, _ := strings.Cut(string(raw), "\n"); err == nil && strings.TrimSpace(first) == "module "+dragoman {
				return dir, nil
			}
			if dir == filepath.Dir(dir) {
				break
			}
		}
	}
	return "", errors.New("there are no sources of Dragoman where this program is or where it was started: name their folder with --dragoman")
}
