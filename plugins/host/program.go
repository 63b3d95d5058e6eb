package host

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// resolve makes the name of the program absolute, or says why there is none.
func (p *Program) resolve(folder string) (string, error) {
	name := p.Command[0]
	if strings.ContainsRune(name, filepath.Separator) {
		return under(folder, name), nil
	}
	found, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("there is no program %q in PATH; a program beside this file is named with a slash: ./%[1]s", name)
	}
	return filepath.Abs(found)
}

func under(folder, name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(folder, name)
}

// identity changes with anything that would make another process of p: what is
// run, with what, and the content of every file that takes part.
func (p *Program) identity(folder string) (string, error) {
	h := sha256.New()
	if p.Address != "" {
		fmt.Fprintf(h, "address\x00%s", p.Address)
		return hex.EncodeToString(h.Sum(nil)), nil
	}
	fmt.Fprintf(h, "command\x00%s\x00%s\x00%d\x00", folder, strings.Join(p.Command, "\x00"), p.MaxMemory)
	for _, name := range slices.Sorted(maps.Keys(p.Env)) {
		fmt.Fprintf(h, "%s=%s\x00", name, p.Env[name].Reveal())
	}
	files, err := p.open(folder, true)
	if err != nil {
		return "", err
	}
	defer files.close()
	for _, f := range files {
		fmt.Fprintf(h, "%s\x00%s\x00", f.name, f.sum)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// A file that takes part in a program, open since it was summed.
type file struct {
	name    string // absolute
	arg     int    // which word of the command it is; -1 for none
	sum     string // SHA-256 of its content, in hexadecimal; empty when nobody asked
	checked bool   // sum was compared with what the configuration says
	*os.File
}

type files []*file

func (fs files) close() {
	for _, f := range fs {
		f.Close()
	}
}

// open opens the program, those of its arguments that are files, and everything
// that has a checksum, and sums these, or all. A checksum that is wrong is an
// error.
func (p *Program) open(folder string, sumAll bool) (all files, err error) {
	defer func() {
		if err != nil {
			all.close()
		}
	}()
	want := map[string]string{}
	for name, sum := range p.SHA256 {
		want[under(folder, name)] = strings.ToLower(sum)
	}
	add := func(name string, arg int) error {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		one := &file{name: name, arg: arg, File: f}
		all = append(all, one)
		sum, named := want[name]
		if !named && !sumAll {
			return nil
		}
		h := sha256.New()
		if _, err := io.Copy(h, f); err != nil {
			return err
		}
		one.sum = hex.EncodeToString(h.Sum(nil))
		if named {
			if sum != one.sum {
				return fmt.Errorf("%s is another file than sha256 says: its sum is %s; nothing was started", name, one.sum)
			}
			one.checked = true
			delete(want, name)
		}
		return nil
	}
	for i, word := range p.Command {
		name := under(folder, word)
		if i == 0 {
			if name, err = p.resolve(folder); err != nil {
				return all, err
			}
		} else if info, err := os.Stat(name); word == "" || err != nil || !info.Mode().IsRegular() {
			continue // an argument of another sort
		}
		if err := add(name, i); err != nil {
			return all, plainly(err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if err := add(name, -1); err != nil {
			return all, plainly(err)
		}
	}
	return all, nil
}

// plainly says what the reader of a configuration can do about err.
func plainly(err error) error {
	if os.IsNotExist(err) {
		if e, ok := err.(*fs.PathError); ok {
			return fmt.Errorf("there is no file %s; `make build` builds the plugins that come with the gateway", e.Path)
		}
	}
	return err
}

// command returns what starts p, with nothing of the gateway's environment. The
// words that were checked are executed by the files that were summed, whatever
// their names mean by then.
func (p *Program) command(folder string, all files) *exec.Cmd {
	cmd := &exec.Cmd{Args: slices.Clone(p.Command), Dir: folder, Env: []string{}}
	for _, f := range all {
		name := f.name
		if f.checked && f.arg >= 0 {
			if path, ok := pathOf(3 + len(cmd.ExtraFiles)); ok {
				name = path
				cmd.ExtraFiles = append(cmd.ExtraFiles, f.File)
			}
		}
		switch {
		case f.arg == 0:
			cmd.Path = name
		case f.arg > 0 && f.checked:
			cmd.Args[f.arg] = name
		}
	}
	for _, name := range slices.Sorted(maps.Keys(p.Env)) {
		cmd.Env = append(cmd.Env, name+"="+p.Env[name].Reveal())
	}
	return cmd
}

// name is what p is called in messages.
func (p *Program) name() string {
	if p.Address != "" {
		return p.Address
	}
	return filepath.Base(p.Command[0])
}

// clip returns the first line of s, at most most bytes of it.
func clip(s string, most int) string {
	line, _, _ := bytes.Cut([]byte(s), []byte("\n"))
	return strings.ToValidUTF8(string(line[:min(len(line), most)]), "")
}
