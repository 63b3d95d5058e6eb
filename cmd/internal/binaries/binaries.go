// Package binaries has tests drive the programs of this repository, built as users have them.
package binaries

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
)

// Folder is the variable that names the folder in which `make build` has just put the programs of cmd/ and
// plugins/. `make test` sets it: several packages drive the same programs, and to link them once more
// takes seconds of a processor each time.
const Folder = "DRAGOMAN_TEST_BINARIES"

// Into puts the programs of these packages, such as "cmd/dragoman", into dir, each named like its package. What
// Folder has is copied; all else is built, without the race detector.
func Into(dir string, packages ...string) error {
	const module = "github.com/dragoman-mt/dragoman/"
	build := []string{"build", "-ldflags=-s", "-o", dir}
	for _, p := range packages {
		from := ""
		switch path.Dir(p) {
		case "cmd":
			from = path.Base(p)
		case "plugins":
			from = p
		}
		folder := os.Getenv(Folder)
		if folder == "" || from == "" {
			build = append(build, module+p)
			continue
		}
		if err := copyFile(filepath.Join(dir, path.Base(p)), filepath.Join(folder, from)); err != nil {
			return fmt.Errorf("taking a program from the folder that %s names: %w", Folder, err)
		}
	}
	if len(build) == 4 {
		return nil
	}
	cmd := exec.Command("go", build...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // as make builds them
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go %v: %w\n%s", build, err, out)
	}
	return nil
}

// copyFile copies a program: a copy stays what it is, whatever make builds meanwhile.
func copyFile(to, from string) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	made, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(made, source)
	return errors.Join(err, made.Close())
}
