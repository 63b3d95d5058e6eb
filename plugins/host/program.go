package host

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/plugins/wire"
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

// A version says which files a process was made of.
type version struct {
	stamp    string // name, size, time and number of each: cheap to compare
	identity string // of their content, and where they are
	answers  string // the same wherever the files are
}

// identity changes with anything that would make another process of p: what is
// run, with what, and the content of every file that takes part.
func (p *Program) identity(folder string) (string, error) {
	v, err := p.version(folder)
	return v.identity, err
}

func (p *Program) version(folder string) (version, error) {
	files, err := p.open(folder, true)
	if err != nil {
		return version{}, err
	}
	defer files.close()
	return p.identify(folder, files, version{})
}

// identify returns the version of files, and sums no content when they are those
// of known.
func (p *Program) identify(folder string, files files, known version) (v version, err error) {
	for _, f := range files {
		info, err := f.Stat()
		if err != nil {
			return v, err
		}
		v.stamp += stamp(f.name, info)
	}
	if known.identity != "" && v.stamp == known.stamp {
		return known, nil
	}
	h := sha256.New()
	if p.Address != "" {
		fmt.Fprintf(h, "address\x00%s", p.Address)
		v.identity = hex.EncodeToString(h.Sum(nil))
		v.answers = v.identity
		return v, nil
	}
	same := sha256.New()
	fmt.Fprintf(h, "command\x00%s\x00%s\x00%d\x00", folder, strings.Join(p.Command, "\x00"), p.MaxMemory)
	for _, name := range slices.Sorted(maps.Keys(p.Env)) {
		fmt.Fprintf(h, "%s=%s\x00", name, p.Env[name].Reveal())
		fmt.Fprintf(same, "%s=%s\x00", name, p.Env[name].Reveal())
	}
	words := slices.Clone(p.Command)
	for _, f := range files {
		if err := f.digest(); err != nil {
			return v, err
		}
		fmt.Fprintf(h, "%s\x00%s\x00", f.name, f.sum)
		name := filepath.Base(f.name)
		if f.arg >= 0 {
			words[f.arg], name = "", "" // what is in it counts, and not what it is called
		}
		fmt.Fprintf(same, "%s\x00%s\x00", name, f.sum)
	}
	fmt.Fprintf(same, "command\x00%s", strings.Join(words, "\x00"))
	v.identity, v.answers = hex.EncodeToString(h.Sum(nil)), hex.EncodeToString(same.Sum(nil))
	return v, nil
}

func stamp(name string, info fs.FileInfo) string {
	number := uint64(0)
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		number = uint64(s.Ino)
	}
	return fmt.Sprintf("%s\x00%d\x00%d\x00%d\x00", name, info.Size(), info.ModTime().UnixNano(), number)
}

// since returns the version that the files have now, and whether their content
// is another than that of v. Files that are not there, or cannot be looked at,
// are no other: there is nothing to run instead.
func (p *Program) since(folder string, v version) (version, bool) {
	named, err := p.files(folder)
	if err != nil {
		return v, false
	}
	now := ""
	for _, f := range named {
		info, err := os.Stat(f.name)
		if err != nil {
			return v, false
		}
		now += stamp(f.name, info)
	}
	if now == v.stamp {
		return v, false
	}
	w, err := p.version(folder)
	if err != nil {
		// Another file than its checksum says is another.
		return v, !errors.Is(err, fs.ErrNotExist)
	}
	return w, w.identity != v.identity
}

// A file that takes part in a program. It stays open once it was summed.
type file struct {
	name    string // absolute
	arg     int    // which word of the command it is; -1 for none
	sum     string // SHA-256 of its content, in hexadecimal; empty when nobody asked
	checked bool   // sum was compared with what the configuration says
	copied  bool   // File is a copy that nobody can change
	*os.File
}

type files []*file

func (fs files) close() {
	for _, f := range fs {
		f.Close()
	}
}

// digest sums the content, once.
func (f *file) digest() error {
	if f.sum != "" {
		return nil
	}
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return err
	}
	f.sum = hex.EncodeToString(h.Sum(nil))
	return nil
}

// maxCopied is the longest word of a command that is copied before it is summed,
// in bytes. A longer program is refused; a longer argument is no script.
const maxCopied = 512 << 20

// fix makes f a copy of itself that nobody can write to, where there is such a
// thing, so that what is summed is what is executed: whoever may write to a file
// can do so between the two, and an interpreter reads its script when it likes.
func (f *file) fix() error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Size() > maxCopied {
		if f.arg == 0 {
			return fmt.Errorf("%s is longer than the %s that a program with a checksum may be", f.name, core.Size(maxCopied))
		}
		return nil
	}
	copied, err := sealed(f.File, info, f.arg == 0, maxCopied)
	if err != nil {
		return fmt.Errorf("%s has a checksum, so a copy of it is executed, and that cannot be made: %w", f.name, err)
	}
	if copied != nil {
		f.File.Close()
		f.File, f.copied = copied, true
	}
	return nil
}

// openFile opens a file that takes part in a program. It waits for nobody, as a
// pipe would, and takes nothing that has no end, as a device has none.
func openFile(name string) (*os.File, error) {
	regular := func(info fs.FileInfo, err error) error {
		if err == nil && !info.Mode().IsRegular() {
			err = fmt.Errorf("%s is %s; a plugin is made of regular files", name, sort(info.Mode()))
		}
		return err
	}
	if err := regular(os.Stat(name)); err != nil {
		return nil, err // to open it may already do something
	}
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	if err := regular(f.Stat()); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// sort says what a file is that is no regular one.
func sort(mode fs.FileMode) string {
	switch {
	case mode.IsDir():
		return "a folder"
	case mode&fs.ModeNamedPipe != 0:
		return "a pipe"
	case mode&fs.ModeSocket != 0:
		return "a socket"
	case mode&fs.ModeDevice != 0:
		return "a device"
	}
	return "no regular file"
}

// files names the program, those of its arguments that are files, and everything
// that has a checksum. None is open.
func (p *Program) files(folder string) (all files, err error) {
	named := map[string]bool{}
	for i, word := range p.Command {
		name := under(folder, word)
		if i == 0 {
			if name, err = p.resolve(folder); err != nil {
				return nil, err
			}
		} else if info, err := os.Stat(name); word == "" || err != nil || !info.Mode().IsRegular() {
			continue // an argument of another sort
		}
		all = append(all, &file{name: name, arg: i})
		named[name] = true
	}
	for _, name := range slices.Sorted(maps.Keys(p.SHA256)) {
		if name = under(folder, name); !named[name] {
			all = append(all, &file{name: name, arg: -1})
			named[name] = true
		}
	}
	return all, nil
}

// open opens the files of p, and sums those that have a checksum, or all. A
// checksum that is wrong is an error.
func (p *Program) open(folder string, sumAll bool) (all files, err error) {
	want := map[string]string{}
	for name, sum := range p.SHA256 {
		want[under(folder, name)] = strings.ToLower(sum)
	}
	if all, err = p.files(folder); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			all.close()
		}
	}()
	for _, f := range all {
		if f.File, err = openFile(f.name); err != nil {
			return all, plainly(err)
		}
		sum, checked := want[f.name]
		if !checked && !sumAll {
			continue
		}
		if checked && f.arg >= 0 {
			if err := f.fix(); err != nil {
				return all, err
			}
		}
		if err := f.digest(); err != nil {
			return all, plainly(err)
		}
		if checked && sum != f.sum {
			return all, fmt.Errorf("%s is another file than sha256 says: its sum is %s; nothing was started", f.name, f.sum)
		}
		f.checked = checked
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
// their names mean by then. What is a copy has lost its name and its neighbours:
// where the original stands is said in the environment.
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
	if p.MaxMemory > 0 { // a program in Go then collects its garbage before that is too much
		cmd.Env = append(cmd.Env, fmt.Sprintf("GOMEMLIMIT=%d", p.MaxMemory/4*3))
	}
	for _, name := range slices.Sorted(maps.Keys(p.Env)) { // the last one of a name counts
		cmd.Env = append(cmd.Env, name+"="+p.Env[name].Reveal())
	}
	cmd.Env = append(cmd.Env, p.origin(all)...)
	return cmd
}

// origin is what the environment says of a program that is executed as a copy:
// where the original stands. Python finds its modules beside its script, so it
// is told where that is; an interpreter is known by its name alone.
func (p *Program) origin(all files) (env []string) {
	for _, f := range all {
		if !f.copied {
			continue
		}
		env = []string{wire.OriginalKey + "=" + f.name} // of the last: the script, when there is one
		if words := strings.Join(p.Command[:f.arg], " ") + " " + f.interpreter(); strings.Contains(words, "python") {
			path := filepath.Dir(f.name)
			if more := p.Env["PYTHONPATH"].Reveal(); more != "" {
				path += ":" + more
			}
			env = append(env, "PYTHONPATH="+path)
		}
	}
	return env
}

// interpreter returns the first line of a copy that begins with #!.
func (f *file) interpreter() string {
	start := make([]byte, 128)
	n, _ := f.ReadAt(start, 0)
	line, _, _ := bytes.Cut(start[:n], []byte("\n"))
	if !bytes.HasPrefix(line, []byte("#!")) {
		return ""
	}
	return string(line)
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
