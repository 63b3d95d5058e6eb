// Package files reads the files that a configuration names, its own included.
// Whoever may write such a name must not be able to stop the gateway with it, so
// only regular files are read, and never more of one than its reader can use. To
// open a named pipe would wait for its writer, a device may never end, and some do
// something when they are opened.
//
// What a part writes in a folder it writes in one step, with Replace, or note by note, in a
// Journal.
//
// It imports nothing of this module, and every part that reads or writes such a file
// may import it.
package files

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Open opens a regular file for reading. The error is a *fs.PathError: of anything
// else it says what it is.
func Open(name string) (*os.File, error) {
	regular := func(info fs.FileInfo, err error) error {
		if err == nil && !info.Mode().IsRegular() {
			err = irregular(info.Mode())
		}
		if err == nil {
			return nil
		}
		if e, ok := errors.AsType[*fs.PathError](err); ok {
			err = e.Err
		}
		return &fs.PathError{Op: "open", Path: name, Err: err}
	}
	if err := regular(os.Stat(name)); err != nil {
		return nil, err // before it is opened
	}
	// Another file may have come into its place.
	file, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	if err := regular(file.Stat()); err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

// Head returns the beginning of a regular file, at most most bytes. It never
// returns nil without an error.
func Head(name string, most int64) ([]byte, error) {
	file, err := Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, most))
}

// Read returns what a regular file holds. One that is longer than most bytes is
// refused.
func Read(name string, most int64) ([]byte, error) {
	data, err := Head(name, most+1)
	if err == nil && int64(len(data)) > most {
		return nil, TooLong(name, most)
	}
	return data, err
}

// Replace puts content into the file name in one step: whoever reads it, after a crash as
// well, finds all of it or what was there before. The file gets mode. Its folder is there
// already, and holds a file .new-* meanwhile.
func Replace(name string, content []byte, mode fs.FileMode) error {
	file, err := os.CreateTemp(filepath.Dir(name), ".new-*")
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	if err = errors.Join(err, file.Chmod(mode), file.Sync(), file.Close()); err == nil {
		err = os.Rename(file.Name(), name)
	}
	if err != nil {
		return errors.Join(err, os.Remove(file.Name()))
	}
	// After a crash the name is there once the folder is written too.
	folder, err := os.Open(filepath.Dir(name))
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

// TooLong is what is said of a file that is longer than most bytes.
func TooLong(name string, most int64) error {
	size := fmt.Sprintf("%d bytes", most)
	if most >= 1<<20 {
		size = fmt.Sprintf("%d MiB", most>>20)
	}
	return &fs.PathError{Op: "read", Path: name, Err: errors.New("it is longer than the " + size + " that such a file may have")}
}

// irregular says what a file is that is no regular one.
type irregular fs.FileMode

func (i irregular) Error() string {
	what := "something else"
	switch mode := fs.FileMode(i); {
	case mode.IsDir():
		what = "a folder"
	case mode&fs.ModeNamedPipe != 0:
		what = "a pipe"
	case mode&fs.ModeSocket != 0:
		what = "a socket"
	case mode&fs.ModeDevice != 0:
		what = "a device"
	}
	return "this is " + what + ", so it is not a regular file"
}
