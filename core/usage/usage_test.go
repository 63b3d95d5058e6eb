package usage

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// open opens the book in folder, and closes it when the test ends.
func open(t testing.TB, folder string) (*Book, *observer.ObservedLogs) {
	t.Helper()
	core, logs := observer.New(zap.InfoLevel)
	b := Open(folder, zap.New(core))
	t.Cleanup(b.Close)
	return b, logs
}

// kill ends a book as the end of its process does: nothing is written any more, and its
// locks are free.
func (b *Book) kill() {
	d := b.disk
	d.end()
	d.running.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.turn()
	for _, j := range d.past {
		j.Close()
	}
	d.past, d.off, b.disk = nil, true, nil
}

func settle(b *Book, client string, characters int64) {
	b.Settle(Who{Client: client, Door: "native"}, Use{Texts: 1, Characters: characters}, 0, true)
}

func TestAKeyStopsAtItsLimitToTheCharacter(t *testing.T) {
	b := New()
	limits := Limits{CharactersPerMonth: 10}
	if err := b.Enter("a", limits, 7); err != nil {
		t.Fatal(err)
	}
	over, _ := errors.AsType[*Exceeded](b.Enter("a", limits, 4))
	if over == nil || over.Used != 7 || over.Most != 10 || over.Asked != 4 || over.Wait <= 0 {
		t.Errorf("with 7 under way 4 more: %+v", over)
	}
	if err := b.Enter("a", limits, 3); err != nil {
		t.Errorf("the last 3: %v", err)
	}
	b.Release("a", 3)
	b.Settle(Who{Client: "a"}, Use{Characters: 7}, 7, true)
	if err := b.Enter("a", limits, 4); err == nil {
		t.Error("with 7 used 4 more")
	}
	if err := b.Enter("a", limits, 3); err != nil {
		t.Errorf("what was given back: %v", err)
	}
	if err := b.Enter("b", Limits{CharactersPerMonth: 1}, 2); err == nil {
		t.Error("one text above the limit")
	}
	if err := b.Enter("c", Limits{}, 1<<40); err != nil {
		t.Errorf("without a limit: %v", err)
	}
}

func TestUsageOutlivesAKillToTheCharacter(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "usage")
	want := int64(0)
	for round := range 5 {
		b, logs := open(t, folder)
		if got := b.Month("a"); got != want {
			t.Fatalf("round %d: %d, want %d", round, got, want)
		}
		for n := range int64(20) {
			settle(b, "a", n)
			want += n
			if n == int64(4*round) {
				b.disk.keep()
			}
		}
		b.kill()
		if logs.Len() > 0 {
			t.Errorf("%v", logs.All())
		}
	}
	b, _ := open(t, folder)
	r, err := b.Report(ByKey, "", map[string]Limits{"a": {CharactersPerMonth: 5}})
	if err != nil || len(r.Rows) != 1 || r.Rows[0].Characters != want || r.Rows[0].Texts != 100 || r.Rows[0].Limit != 5 {
		t.Errorf("%+v, %v", r, err)
	}
	b.Close()
	names, _ := os.ReadDir(folder)
	if len(names) != 1 || names[0].Name() != storeName {
		t.Errorf("%v is left", names)
	}
}

func TestAStoreThatIsDamagedIsKeptAndCountingGoesOn(t *testing.T) {
	for _, damage := range []struct {
		name string
		do   func(t *testing.T, path string)
	}{
		{"text", func(t *testing.T, path string) { write(t, path, []byte("this is no store")) }},
		{"nothing", func(t *testing.T, path string) { write(t, path, nil) }},
		{"cut off", func(t *testing.T, path string) {
			if err := os.Truncate(path, 9000); err != nil {
				t.Fatal(err)
			}
		}},
		{"zeros behind the meta pages", func(t *testing.T, path string) {
			raw, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			clear(raw[2*os.Getpagesize():])
			write(t, path, raw)
		}},
		{"noise behind the meta pages", func(t *testing.T, path string) {
			raw, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			for i := 2 * os.Getpagesize(); i < len(raw); i++ {
				raw[i] = byte(i*i>>3 ^ i)
			}
			write(t, path, raw)
		}},
	} {
		t.Run(damage.name, func(t *testing.T) {
			folder := t.TempDir()
			b, _ := open(t, folder)
			settle(b, "a", 5)
			b.Close()
			damage.do(t, filepath.Join(folder, storeName))
			b, logs := open(t, folder)
			settle(b, "a", 2)
			b.Close()
			b, _ = open(t, folder)
			if got := b.Month("a"); got != 2 {
				t.Errorf("%d characters, want 2", got)
			}
			aside, _ := filepath.Glob(filepath.Join(folder, storeName+aside+"*"))
			if damage.name != "nothing" && (len(aside) != 1 || logs.FilterMessageSnippet("damaged").Len() != 1) {
				t.Errorf("put aside: %v; %v", aside, logs.All())
			}
		})
	}
}

func write(t *testing.T, path string, raw []byte) {
	t.Helper()
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestADiskThatTakesNothingIsSaidOnceAndWrittenLater(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "usage")
	write(t, folder, []byte("a file where the folder should be"))
	b, logs := open(t, folder)
	for range 3 {
		settle(b, "a", 1)
		b.disk.keep()
	}
	if b.Notice() == "" || logs.FilterMessageSnippet("cannot be kept").Len() != 1 || logs.Len() != 1 {
		t.Errorf("%q %v", b.Notice(), logs.All())
	}
	if err := b.Enter("a", Limits{CharactersPerMonth: 3}, 1); err == nil {
		t.Error("the limit does not hold")
	}
	if r, err := b.Report(ByKey, "", nil); err != nil || r.Total.Characters != 3 || r.Notice == "" {
		t.Errorf("%+v %v", r, err)
	}
	os.Remove(folder)
	b.disk.keep()
	settle(b, "a", 1)
	if b.Notice() != "" || logs.FilterMessageSnippet("kept on disk again").Len() != 1 {
		t.Errorf("%q %v", b.Notice(), logs.All())
	}
	b.kill()
	b, _ = open(t, folder)
	if got := b.Month("a"); got != 4 {
		t.Errorf("%d characters, want 4", got)
	}
}

func TestTwoProcessesShareAStore(t *testing.T) {
	folder := t.TempDir()
	a, _ := open(t, folder)
	settle(a, "k", 1)
	b, _ := open(t, folder)
	settle(b, "k", 2)
	b.disk.keep()
	a.disk.keep()
	settle(a, "k", 4)
	a.disk.keep()
	settle(b, "k", 8)
	b.disk.keep()
	if got := b.Month("k"); got != 15 {
		t.Errorf("%d characters, want 15", got)
	}
	settle(b, "k", 16)
	b.kill()
	settle(a, "k", 32)
	a.disk.keep() // takes what the other has left
	if got := a.Month("k"); got != 63 {
		t.Errorf("%d characters, want 63", got)
	}
}

func TestALineThatWasCutOffIsNobodys(t *testing.T) {
	folder := t.TempDir()
	whole := appendLine(nil, row{"2026-11-30", "native", "a", ""}, Use{Texts: 1, Characters: 3})
	for n := range len(whole) {
		write(t, filepath.Join(folder, fmt.Sprint(journalName, n)), append(append([]byte(nil), whole...), whole[:n]...))
	}
	b, logs := open(t, folder)
	r, err := b.Report(ByKey, "2026-11", nil)
	if err != nil || r.Total.Characters != int64(3*len(whole)) || logs.Len() != 0 {
		t.Errorf("%+v %v %v", r, err, logs.All())
	}
	b.Close()
	write(t, filepath.Join(folder, journalName+"bad"), append([]byte("0"+string(whole)), whole...))
	b, logs = open(t, folder)
	r, err = b.Report(ByKey, "2026-11", nil)
	if err != nil || r.Total.Characters != int64(3*len(whole)+3) || logs.FilterMessageSnippet("not what was written").Len() != 1 {
		t.Errorf("%+v %v %v", r, err, logs.All())
	}
	if kept, _ := filepath.Glob(filepath.Join(folder, journalName+"bad"+aside+"*")); len(kept) != 1 {
		t.Error("the damaged journal is gone")
	}
}
