package state

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// fullDisk mounts a file system of so little room that it is full, and returns its
// folder and what makes room.
func fullDisk(t *testing.T) (dir string, room func()) {
	t.Helper()
	dir = t.TempDir()
	unmount, err := mountSmall(dir)
	if err != nil {
		t.Skip("not tested: only root can mount a file system that is full, on Linux: ", err)
	}
	t.Cleanup(unmount)
	filler := filepath.Join(dir, "filler")
	f, err := os.Create(filler)
	must(t, err)
	defer f.Close()
	if _, err := f.Write(make([]byte, 1<<20)); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("the disk is not full: %v", err)
	}
	return dir, func() { must(t, os.Remove(filler)) }
}

func newPast(s Folder) (*Past, *observer.ObservedLogs) {
	seen, logs := observer.New(zap.InfoLevel)
	return &Past{Folder: s, log: zap.New(seen)}, logs
}

func walkBack(t *testing.T, p *Past, from string) (all string) {
	t.Helper()
	for {
		k, err := p.Before(Hash([]byte(from)))
		if errors.Is(err, ErrNothingOlder) {
			return strings.TrimSpace(all)
		}
		must(t, err)
		if from = string(k.Content); k.Hash != Hash([]byte(from)) {
			t.Errorf("%s has the hash %s", from, k.Hash)
		}
		all += from + " "
	}
}

func TestOnAFullDiskTheWayBackIsInMemoryAndWrittenOnceThereIsRoom(t *testing.T) {
	dir, room := fullDisk(t)
	s := stateIn(t, filepath.Join(dir, "state"))
	p, logs := newPast(s)
	for i, c := range []string{"a", "b", "c"} {
		p.Note([]byte(c), at(i), false)
	}
	if got := walkBack(t, p, "c"); got != "b a" {
		t.Errorf("with a full disk: %q", got)
	}
	if _, err := s.Announce(Address{PID: os.Getpid(), Started: at(1)}); err == nil {
		t.Error("it is announced on a disk that is full")
	}
	p.Persist()
	if n := logs.FilterMessageSnippet("cannot be kept on disk").Len(); n != 1 {
		t.Errorf("%d warnings", n)
	}
	room()
	p.Persist()
	p.Persist()
	if n := logs.FilterMessageSnippet("kept on disk again").Len(); n != 1 {
		t.Errorf("told %d times that it is kept again", n)
	}
	// As after a restart: nothing but the disk is known.
	after, _ := newPast(s)
	if got := walkBack(t, after, "c"); got != "b a" {
		t.Errorf("after a restart: %q", got)
	}
	if k, err := s.Latest(); err != nil || string(k.Content) != "c" || !k.At.Equal(at(2)) {
		t.Errorf("the latest on disk is %q of %v, %v", k.Content, k.At, err)
	}
	withdraw, err := s.Announce(Address{PID: os.Getpid(), Started: at(1)})
	must(t, err)
	must(t, withdraw())
}

func TestAFolderThatWasRemovedIsWrittenAgain(t *testing.T) {
	s := newFolder(t)
	p, _ := newPast(s)
	for i, c := range []string{"a", "b", "c", "d", "e", "f", "g"} {
		p.Note([]byte(c), at(i), false)
	}
	must(t, os.RemoveAll(s.base))
	if got := walkBack(t, p, "g"); got != "f e d c" {
		t.Errorf("with the folder removed: %q", got)
	}
	p.Persist()
	after, _ := newPast(s)
	if got := walkBack(t, after, "g"); got != "f e d c" {
		t.Errorf("after a restart: %q", got)
	}
	all, err := after.Kept()
	must(t, err)
	if len(all) != 5 || string(all[4].Content) != "c" || !all[4].At.Equal(at(2)) {
		t.Errorf("kept: %v", all)
	}
}

// It has a name that older versions of Dragoman, which sweep the folder for
// temporary files, leave alone, and what those kept is found.
func TestTheStateOfAnOlderVersionIsTakenOver(t *testing.T) {
	tmp := t.TempDir()
	s, err := Of("/etc/dragoman/pipeline.yaml", env("TMPDIR="+tmp))
	must(t, err)
	if swept, _ := filepath.Glob(filepath.Join(tmp, fmt.Sprintf("dragoman-%d-*", os.Getuid()))); strings.HasPrefix(filepath.Base(s.base), fmt.Sprintf("dragoman-%d-", os.Getuid())) || len(swept) > 0 {
		t.Errorf("%s goes with the next sweep", s.base)
	}
	old, has := s.older()
	if !has {
		t.Fatal("no older folder is known")
	}
	must(t, old.Served([]byte("a"), at(1)))
	must(t, old.WentBack([]byte("b"), at(2)))
	withdraw, err := old.Announce(Address{PID: 7, Started: at(3), Admin: "http://127.0.0.1:1"})
	must(t, err)
	if k, err := s.Latest(); err != nil || string(k.Content) != "b" {
		t.Errorf("before anything is written: %q %v", k.Content, err)
	}
	if a, err := s.Find(); err != nil || a.PID != 7 || a.Socket != "" {
		t.Errorf("a gateway of that version: %+v %v", a, err)
	}
	must(t, s.Served([]byte("c"), at(4)))
	if got := back(t, s, "c", at(5)); got != "b" {
		t.Errorf("back from the first that is new: %s", got)
	}
	if k, err := old.Latest(); err != nil || string(k.Content) != "b" {
		t.Errorf("what the older version has: %q %v", k.Content, err)
	}
	must(t, withdraw())
	if _, err := s.Find(); err == nil {
		t.Error("a gateway that has ended is found")
	}
}

func TestASocketIsThisUsersAloneHoweverLongItsPath(t *testing.T) {
	for name, dir := range map[string]string{"short": "s", "long": strings.Repeat("long/", 40) + "s"} {
		t.Run(name, func(t *testing.T) {
			s := stateIn(t, filepath.Join(t.TempDir(), dir))
			ln, socket, err := s.Listen()
			must(t, err)
			info, err := os.Lstat(filepath.Join(s.Path(), socket))
			must(t, err)
			if info.Mode() != os.ModeSocket|0o600 {
				t.Errorf("mode %v", info.Mode())
			}
			go func() {
				for {
					conn, err := ln.Accept()
					if err != nil {
						return
					}
					io.WriteString(conn, "hello")
					conn.Close()
				}
			}()
			address := Address{PID: os.Getpid(), Started: at(1), Socket: socket}
			withdraw, err := s.Announce(address) // sweeps what is stale, and this is not
			must(t, err)
			defer withdraw()
			found, err := s.Find()
			must(t, err)
			conn, err := s.Dial(t.Context(), found)
			must(t, err)
			if said, err := io.ReadAll(conn); string(said) != "hello" || err != nil {
				t.Errorf("%s %v", said, err)
			}
			conn.Close()
			if !s.Announced(address) {
				t.Error("it is not announced")
			}
			must(t, os.Chmod(filepath.Join(s.Path(), socket), 0o622))
			if _, err := s.Dial(t.Context(), found); err == nil || !strings.Contains(err.Error(), "may be written by other users") {
				t.Errorf("a socket that others may write: %v", err)
			}
			ln.Close()
			if _, err := os.Lstat(filepath.Join(s.Path(), socket)); err == nil || s.Announced(address) {
				t.Errorf("it is there after it was closed: %v", err)
			}
		})
	}
}

func TestASocketThatAKilledGatewayLeftIsSwept(t *testing.T) {
	s := newFolder(t)
	must(t, s.Served([]byte("a"), at(1)))
	ln, name, err := s.Listen()
	must(t, err)
	left := filepath.Join(s.Path(), name)
	must(t, ln.(*socket).UnixListener.Close()) // as a kill does
	withdraw, err := s.Announce(Address{PID: 1, Started: at(1)})
	must(t, err)
	defer withdraw()
	if _, err := os.Lstat(left); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is there still: %v", err)
	}
	for _, name := range []string{"../gateway-1-x.sock", "x.sock", "gateway-1-x.sock/..", "gateway-/../x.sock"} {
		if _, err := parseAddress(fmt.Appendf(nil, `{"pid": 1, "started": "2026-11-23T00:00:00Z", "socket": %q}`, name)); err == nil {
			t.Errorf("an address may name %s", name)
		}
	}
}

// Served notes content in s as a gateway does that has noted nothing else.
func (s Folder) Served(content []byte, at time.Time) error { return s.noted(content, at, false) }

// WentBack is Served for a content that was gone back to.
func (s Folder) WentBack(content []byte, at time.Time) error { return s.noted(content, at, true) }

func (s Folder) noted(content []byte, at time.Time, back bool) error {
	p := NewPast(s, zap.NewNop())
	p.Note(content, at, back)
	return p.flush()
}
