package config

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/dragoman-mt/dragoman/core/files"
)

// MaxNamed is the longest file that ${file:PATH} reads, in bytes: a key is far
// shorter, and so is what a short list of them takes.
const MaxNamed = 64 << 10

// A named file is one that a reference names, as it was when it was read.
type named struct {
	path  string // absolute
	text  string // what it gives: without a mark of the byte order and line ends behind it
	empty bool
	err   error    // why it gives nothing
	sum   [32]byte // of what it held, or of why it could not be read
}

// readNamed reads the file at path.
func readNamed(path string) *named {
	n := &named{path: path}
	data, err := files.Read(path, MaxNamed)
	if err != nil {
		n.err = err
		n.sum = sha256.Sum256([]byte("\x00" + err.Error()))
		return n
	}
	n.sum = sha256.Sum256(data)
	data = bytes.TrimPrefix(data, []byte("\uFEFF"))
	n.text = strings.TrimRight(string(data), "\r\n")
	n.empty = strings.TrimSpace(n.text) == ""
	return n
}

// prefixFile begins a reference to a file, within its braces.
const prefixFile = "file:"

// file returns what the file gives that a reference names, without a default or with
// one; missing names a variable in its path that is not set.
func (e *expander) file(ref string, hasDefault bool, fallback string) (text string, missing string, err error) {
	path, missing, err := e.path(ref)
	if err != nil || missing != "" {
		return "", missing, err
	}
	n := e.files[path]
	if n == nil {
		n = readNamed(path)
		if e.files == nil {
			e.files = map[string]*named{}
		}
		e.files[path] = n
	}
	why := ""
	switch gone := errors.Is(n.err, fs.ErrNotExist); {
	case hasDefault && (gone || n.err == nil && n.empty):
		return strings.ReplaceAll(fallback, "$$", "$"), "", nil
	case e.offline && (n.err != nil || n.empty):
		return "", prefixFile + ref, nil
	case gone:
		why = "is not there; create it, or give a default: ${" + prefixFile + ref + ":-...}"
	case errors.Is(n.err, fs.ErrPermission):
		why = "may not be read by this user; change its owner or its mode"
	case n.err != nil:
		why = "cannot be read: " + errors.Unwrap(n.err).Error()
	case n.empty:
		why = "is empty; write the value into it, or give a default: ${" + prefixFile + ref + ":-...}"
	case !utf8.ValidString(n.text) || strings.ContainsRune(n.text, 0):
		why = "is not text in UTF-8"
	default:
		return n.text, "", nil
	}
	return "", "", fmt.Errorf("the file %.400s %s", path, why)
}

// path is where a reference says that its file is: absolute, or from the folder of the
// configuration on, or from one that a variable names, as $CREDENTIALS_DIRECTORY/key.
func (e *expander) path(ref string) (path, missing string, err error) {
	inner, variableFirst := strings.CutPrefix(ref, "$")
	switch {
	case variableFirst:
		name, rest, _ := strings.Cut(inner, "/")
		folder, set := "", false
		if variable.MatchString(name) {
			folder, set = e.lookup(name)
		}
		switch {
		case !variable.MatchString(name), strings.Trim(rest, "/") == "":
			return "", "", errors.New("a file in a folder that a variable names is ${file:$NAME/FILE}")
		case folder == "" && e.offline:
			return "", name, nil
		case folder == "" && name == "CREDENTIALS_DIRECTORY":
			return "", "", fmt.Errorf("the variable CREDENTIALS_DIRECTORY is not set; systemd sets it for a service with LoadCredential=%s:PATH or the like in its unit", clip(rest))
		case !set || folder == "":
			return "", "", fmt.Errorf("the variable %s is not set, or empty; it names the folder of a file", name)
		}
		return filepath.Join(under(e.folder, folder), rest), "", nil
	case strings.TrimSpace(ref) == "":
		return "", "", errors.New("a reference to a file is ${file:PATH}")
	case strings.ContainsRune(ref, 0):
		return "", "", errors.New("no path holds a NUL byte")
	}
	return filepath.Clean(under(e.folder, ref)), "", nil
}

// Outdated says whether a file that the configuration names with ${file:PATH} holds
// anything else by now than when it was loaded.
func (f *File) Outdated() bool {
	for _, n := range f.named {
		if readNamed(n.path).sum != n.sum {
			return true
		}
	}
	return false
}

var anyFile = regexp.MustCompile(`\$\{file:([^{}]*)\}`)

// maxFollowedFiles is how many files one configuration can have followed.
const maxFollowedFiles = 256

// Named returns the files that content, that of the configuration file, may name with
// ${file:PATH}: absolute paths, each once, those in comments included. It is for whoever
// follows them, and needs no content that can be loaded.
func Named(content []byte, file string, lookup func(string) (string, bool)) []string {
	folder, err := filepath.Abs(filepath.Dir(file))
	if err != nil {
		return nil
	}
	e := expander{lookup: lookup, folder: folder, offline: true}
	var all []string
	seen := map[string]bool{}
	for _, m := range anyFile.FindAllSubmatch(content, -1) {
		ref, _, _ := strings.Cut(string(m[1]), ":-")
		path, missing, err := e.path(ref)
		if err != nil || missing != "" || seen[path] || len(all) == maxFollowedFiles {
			continue
		}
		seen[path] = true
		all = append(all, path)
	}
	return all
}
