package documents

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dragoman-mt/dragoman/core/files"
)

// A journal keeps the answers of a run that is not done: whoever starts it again after
// whatever ended it asks for nothing twice. It holds texts, so it is this user's alone, and
// goes when the file is written.
type journal struct {
	name string
	file *os.File
}

// journalKept is how long one stays whose run was never finished.
const journalKept = 30 * 24 * time.Hour

// A remembered answer is a line of a journal.
type remembered struct {
	Text        string   `json:"s"`
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
	content, err := os.ReadFile(j.name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err
	}
	// What a kill cut off in the middle of a line was not answered.
	whole := content[:bytes.LastIndexByte(content, '\n')+1]
	var all []remembered
	for line := range bytes.Lines(whole) {
		var n remembered
		if json.Unmarshal(line, &n) == nil && n.Text != "" {
			all = append(all, n)
		}
	}
	if j.file, err = os.OpenFile(j.name, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600); err != nil {
		return nil, nil, err
	}
	if len(whole) < len(content) {
		if err := j.file.Truncate(int64(len(whole))); err != nil {
			j.file.Close()
			return nil, nil, err
		}
	}
	return j, all, nil
}

// note adds an answer, which is there after a kill of this process.
func (j *journal) note(n remembered) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(n); err != nil {
		return err
	}
	if _, err := j.file.Write(b.Bytes()); err != nil {
		return fmt.Errorf("noting what was answered: %w", err)
	}
	return nil
}

// close closes the journal, which goes when the job is done.
func (j *journal) close(done bool) error {
	err := j.file.Close()
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
