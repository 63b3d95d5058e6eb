package files

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
)

// A Journal is a file of notes, a line of JSON each, that is only added to: of a process that
// was killed, each note is there whole or not at all. It is used by one goroutine at a time.
type Journal[T any] struct{ file *os.File }

// OpenJournal opens the journal name, which only its owner may read, and makes it if it is not
// there; its folder is. It returns the notes that it holds. A line that a kill has cut off is
// taken away, and one that is no T is not returned. One of more than most bytes is refused.
func OpenJournal[T any](name string, most int64) (*Journal[T], []T, error) {
	content, err := Read(name, most)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err
	}
	whole := content[:bytes.LastIndexByte(content, '\n')+1]
	var notes []T
	for line := range bytes.Lines(whole) {
		var note T
		if json.Unmarshal(line, &note) == nil {
			notes = append(notes, note)
		}
	}
	file, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, nil, err
	}
	if len(whole) < len(content) {
		if err := file.Truncate(int64(len(whole))); err != nil {
			return nil, nil, errors.Join(err, file.Close())
		}
	}
	return &Journal[T]{file}, notes, nil
}

// Add adds a note, which is there after a kill of this process.
func (j *Journal[T]) Add(note T) error {
	var line bytes.Buffer
	enc := json.NewEncoder(&line)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(note); err != nil {
		return err
	}
	_, err := j.file.Write(line.Bytes())
	return err
}

// Close closes the file, which stays.
func (j *Journal[T]) Close() error { return j.file.Close() }
