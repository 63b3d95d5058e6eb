package usage

import (
	"path/filepath"
	"syscall"
	"testing"
)

// TestAStoreThatBecameReadOnlyIsReadAndCountedOn: what it holds, and what a process that died
// left beside it, counts against the limits, the rest is counted in memory, and all of it is
// written once it can be.
func TestAStoreThatBecameReadOnlyIsReadAndCountedOn(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("none", dir, "tmpfs", 0, "size=4m"); err != nil {
		t.Skip("not tested: only root can mount a file system: ", err)
	}
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
	again := func(flags uintptr) {
		t.Helper()
		if err := syscall.Mount("none", dir, "tmpfs", syscall.MS_REMOUNT|flags, "size=4m"); err != nil {
			t.Skip("not tested: ", err)
		}
	}
	folder := filepath.Join(dir, "usage")
	b, _ := open(t, folder)
	settle(b, "a", 4)
	b.disk.keep() // in the store
	settle(b, "a", 2)
	b.kill() // in a journal
	again(syscall.MS_RDONLY)

	b, logs := open(t, folder)
	if got := b.Month("a"); got != 6 {
		t.Errorf("%d characters are known of a store that can be read, want 6", got)
	}
	if b.Notice() == "" || logs.FilterMessageSnippet("cannot be kept").Len() != 1 {
		t.Errorf("%q %v", b.Notice(), logs.All())
	}
	settle(b, "a", 3)
	b.disk.keep()
	if err := b.Enter(t.Context(), "a", Limits{CharactersPerMonth: 10}, 2); err == nil {
		t.Error("the limit does not hold")
	}
	if r, err := b.Report(ByKey, "", nil); err != nil || r.Total.Characters != 9 || r.Notice == "" {
		t.Errorf("%+v %v", r, err)
	}

	again(0)
	b.disk.keep()
	if b.Notice() != "" || logs.FilterMessageSnippet("kept on disk again").Len() != 1 {
		t.Errorf("%q %v", b.Notice(), logs.All())
	}
	settle(b, "a", 1)
	b.kill()
	b, _ = open(t, folder)
	if got := b.Month("a"); got != 10 {
		t.Errorf("%d characters, want 10", got)
	}
	if r, err := b.Report(ByKey, "", nil); err != nil || r.Total.Characters != 10 {
		t.Errorf("%+v %v", r, err)
	}
}
