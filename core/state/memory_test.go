package state

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What is remembered is what was written last, for this user alone; what nobody of us
// wrote is an error that says what to do.
func TestAMemoryOutlivesItsWriter(t *testing.T) {
	s := newFolder(t)
	if memory, err := s.Recall(); memory != nil || err != nil {
		t.Fatalf("of nothing: %q, %v", memory, err)
	}
	for _, want := range []string{"{}", `{"a":1}`} {
		if err := s.Remember([]byte(want)); err != nil {
			t.Fatal(err)
		}
		if got, err := s.Recall(); string(got) != want || err != nil {
			t.Fatalf("got %q, %v, want %q", got, err, want)
		}
	}
	path := filepath.Join(s.Path(), memoryName)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	left, err := os.ReadDir(s.Path())
	if err != nil || len(left) != 1 {
		t.Errorf("%v, %v", left, err)
	}
	for name, spoil := range map[string]func() error{
		"a folder":            func() error { os.Remove(path); return os.Mkdir(path, 0o700) },
		"one that is large":   func() error { os.Remove(path); return os.WriteFile(path, make([]byte, mostMemory+1), 0o600) },
		"one others write":    func() error { os.Remove(path); os.WriteFile(path, nil, 0o600); return os.Chmod(path, 0o666) },
		"a link to nowhere":   func() error { os.Remove(path); return os.Symlink("/nonexistent/x", path) },
		"a link to elsewhere": func() error { os.Remove(path); return os.Symlink("/etc/hostname", path) },
	} {
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		if got, err := s.Recall(); err == nil && got != nil || err != nil && !strings.Contains(err.Error(), memoryName) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}
