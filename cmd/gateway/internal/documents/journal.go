package documents

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dragoman-mt/dragoman/core/files"
	"github.com/dragoman-mt/dragoman/core/text/format"
)

// A journal keeps the answers of a run that is not done: whoever starts it again after
// whatever ended it asks for nothing twice. It holds texts, so it is this user's alone, and
// goes when the file is written.
type journal struct {
	name  string
	notes *files.Journal[remembered]
}

// journalKept is how long one stays whose run was never finished.
const journalKept = 30 * 24 * time.Hour

// mostJournal bounds one: the texts of a file and their translations, with what JSON adds.
const mostJournal = 8 * format.MaxSize

// A remembered answer is a line of a journal.
type remembered struct {
	Text        string   `json:"s"`
	Context     string   `json:"c,omitempty"`
	Translation string   `json:"t"`
	Flags       []string `json:"f,omitempty"`
}

// openJournal opens the one of a job, which what names, in folder, and returns what it holds.
func openJournal(folder string, what ...string) (*journal, []remembered, error) {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, nil, err
	}
	old, err := os.ReadDir(folder)
	if err != nil {
		return nil, nil, err
	}
	for _, e := range old {
		if info, err := e.Info(); err == nil && strings.HasSuffix(e.Name(), ".journal") && time.Since(info.ModTime()) > journalKept {
			_ = os.Remove(filepath.Join(folder, e.Name())) // another run may have been faster
		}
	}
	sum := sha256.Sum256([]byte(strings.Join(what, "\x00")))
	j := &journal{name: filepath.Join(folder, hex.EncodeToString(sum[:12])+".journal")}
	notes, held, err := files.OpenJournal[remembered](j.name, mostJournal)
	if err != nil {
		return nil, nil, err
	}
	j.notes = notes
	return j, slices.DeleteFunc(held, func(n remembered) bool { return n.Text == "" }), nil
}

// note adds an answer, which is there after a kill of this process.
func (j *journal) note(n remembered) error {
	if err := j.notes.Add(n); err != nil {
		return fmt.Errorf("noting what was answered: %w", err)
	}
	return nil
}

// close closes the journal, which goes when the job is done.
func (j *journal) close(done bool) error {
	err := j.notes.Close()
	if done {
		err = errors.Join(err, os.Remove(j.name))
	}
	return err
}

// replaceFile puts content in the place of the file name in one step, with its mode.
func replaceFile(name string, content []byte) error {
	if to, err := filepath.EvalSymlinks(name); err == nil {
		name = to // the link stays
	}
	mode := fs.FileMode(0o644)
	if info, err := os.Stat(name); err == nil {
		mode = info.Mode().Perm()
	}
	return files.Replace(name, content, mode)
}
