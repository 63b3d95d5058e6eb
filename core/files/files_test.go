package files

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Each of these would hold its reader up, or never end.
func TestOnlyRegularFilesAreOpened(t *testing.T) {
	folder := t.TempDir()
	at := func(name string) string { return filepath.Join(folder, name) }
	if err := syscall.Mkfifo(at("pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	socket, err := net.Listen("unix", at("socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	for name, to := range map[string]string{"to the pipe": at("pipe"), "to zeros": "/dev/zero", "to itself": at("to itself"), "to nothing": at("nothing")} {
		if err := os.Symlink(to, at(name)); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{
		at("pipe"): "this is a pipe", at("to the pipe"): "this is a pipe",
		"/dev/zero": "this is a device", "/dev/null": "this is a device", at("to zeros"): "this is a device", "/dev/tty": "",
		folder: "this is a folder", at("socket"): "this is a socket", at("to itself"): "", at("to nothing"): "", at("none"): "",
	} {
		for _, read := range []func(string) error{
			func(name string) error { _, err := Open(name); return err },
			func(name string) error { _, err := Head(name, 1); return err },
			func(name string) error { _, err := Read(name, 1<<20); return err },
		} {
			err := read(name)
			if _, ok := errors.AsType[*fs.PathError](err); !ok || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: got %v, want it and %q", name, err, want)
			}
		}
	}
	if _, err := Read(at("none"), 1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestNoMoreIsReadThanMayBe(t *testing.T) {
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, []byte("1234567890"), 0o600); err != nil {
		t.Fatal(err)
	}
	for most, want := range map[int64]string{0: "", 9: "123456789", 10: "1234567890", 11: "1234567890"} {
		if got, err := Head(name, most); err != nil || got == nil || string(got) != want {
			t.Errorf("%d: got %q, %v", most, got, err)
		}
		got, err := Read(name, most)
		if fits := most >= 10; fits != (err == nil) || fits && string(got) != want {
			t.Errorf("%d: got %q, %v", most, got, err)
		}
	}
	if err := os.Truncate(name, 1<<40); err != nil {
		t.Skip(err) // no sparse files here
	}
	if _, err := Read(name, 1<<20); err == nil || !strings.Contains(err.Error(), "longer than the 1 MiB") {
		t.Errorf("got %v", err)
	}
}

func TestAFileIsReplacedInOneStepOrNotAtAll(t *testing.T) {
	folder := t.TempDir()
	name := filepath.Join(folder, "a")
	for _, content := range []string{"one", "two, which is longer", ""} {
		if err := Replace(name, []byte(content), 0o640); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(name)
		info, _ := os.Stat(name)
		if err != nil || string(got) != content || info.Mode().Perm() != 0o640 {
			t.Errorf("%q %v %v", got, info.Mode(), err)
		}
	}
	// A folder cannot be replaced by a file: it stays, and nothing is left beside it.
	if err := os.MkdirAll(filepath.Join(folder, "b", "c"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Replace(filepath.Join(folder, "b"), []byte("x"), 0o600); err == nil {
		t.Error("a folder was replaced")
	}
	if err := Replace(filepath.Join(folder, "none", "a"), nil, 0o600); err == nil {
		t.Error("a file was written into no folder")
	}
	left, err := os.ReadDir(folder)
	if err != nil || len(left) != 2 {
		t.Errorf("%v %v", left, err)
	}
}

// TestAJournalHoldsWhatWasAddedWholeOrNotAtAll wherever a kill has cut its last line off.
func TestAJournalHoldsWhatWasAddedWholeOrNotAtAll(t *testing.T) {
	type note struct{ Text string }
	name := filepath.Join(t.TempDir(), "journal")
	added := func(want ...string) {
		t.Helper()
		j, notes, err := OpenJournal[note](name, 1<<10)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, n := range notes {
			got = append(got, n.Text)
		}
		if strings.Join(got, "|") != strings.Join(want, "|") {
			t.Errorf("it holds %q, want %q", got, want)
		}
		if err := errors.Join(j.Add(note{"<one>\nline"}), j.Close()); err != nil {
			t.Fatal(err)
		}
	}
	added()
	added("<one>\nline")
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	line := len(whole) / 2
	for cut := line; cut < len(whole); cut++ {
		if err := os.WriteFile(name, whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		added("<one>\nline")
		if again, err := os.ReadFile(name); err != nil || string(again) != string(whole) {
			t.Fatalf("cut after %d bytes, and added to, it is %q: %v", cut, again, err)
		}
	}
	if err := os.WriteFile(name, append([]byte("no JSON\n"), whole...), 0o600); err != nil {
		t.Fatal(err)
	}
	added("<one>\nline", "<one>\nline")
	if _, _, err := OpenJournal[note](name, 10); err == nil || !strings.Contains(err.Error(), "longer than the 10 bytes") {
		t.Errorf("a journal beyond its limit: %v", err)
	}
}
