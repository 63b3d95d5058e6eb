package usage

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"pgregory.net/rapid"

	"github.com/dragoman-mt/dragoman/core/coretest/property"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// open opens the book in folder, and closes it when the test ends.
func open(t testing.TB, folder string) (*Book, *observer.ObservedLogs) {
	t.Helper()
	core, logs := observer.New(zap.InfoLevel)
	b := Open(folder, nil, zap.New(core))
	t.Cleanup(b.Close)
	return b, logs
}

// kill ends a book as the end of its process does: nothing is written any more, and its
// locks are free.
func (b *Book) kill() {
	d := b.disk
	d.end()
	d.running.Wait()
	if g := b.group; g != nil {
		g.end()
		g.running.Wait()
	}
	if d.lock != nil {
		d.lock.Close()
	}
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
	if err := b.Enter(t.Context(), "a", limits, 7); err != nil {
		t.Fatal(err)
	}
	over, _ := errors.AsType[*Exceeded](b.Enter(t.Context(), "a", limits, 4))
	if over == nil || over.Used != 7 || over.Most != 10 || over.Asked != 4 || over.Wait <= 0 {
		t.Errorf("with 7 under way 4 more: %+v", over)
	}
	if err := b.Enter(t.Context(), "a", limits, 3); err != nil {
		t.Errorf("the last 3: %v", err)
	}
	b.Release("a", 3)
	b.Settle(Who{Client: "a"}, Use{Characters: 7}, 7, true)
	if err := b.Enter(t.Context(), "a", limits, 4); err == nil {
		t.Error("with 7 used 4 more")
	}
	if err := b.Enter(t.Context(), "a", limits, 3); err != nil {
		t.Errorf("what was given back: %v", err)
	}
	if err := b.Enter(t.Context(), "b", Limits{CharactersPerMonth: 1}, 2); err == nil {
		t.Error("one text above the limit")
	}
	if err := b.Enter(t.Context(), "c", Limits{}, 1<<40); err != nil {
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
	if err := b.Enter(t.Context(), "a", Limits{CharactersPerMonth: 3}, 1); err == nil {
		t.Error("the limit does not hold")
	}
	if r, err := b.Report(ByKey, "", nil); err != nil || r.Total.Characters != 3 || r.Notice == "" {
		t.Errorf("%+v %v", r, err)
	}
	os.Remove(folder)
	b.disk.keep()
	if b.Notice() != "" || logs.FilterMessageSnippet("kept on disk again").Len() != 1 {
		t.Errorf("%q %v", b.Notice(), logs.All())
	}
	settle(b, "a", 1)
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

// A process may die after its journal is folded, and before it is removed.
func TestAJournalIsFoldedOnce(t *testing.T) {
	folder := t.TempDir()
	b, _ := open(t, folder)
	settle(b, "a", 5)
	names, err := b.disk.journals()
	if err != nil || len(names) != 1 {
		t.Fatal(names, err)
	}
	path := filepath.Join(folder, names[0])
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b.disk.keep()
	write(t, path, raw)
	b.kill()
	for range 3 {
		b, _ = open(t, folder)
		settle(b, "a", 1)
		b.kill()
	}
	b, _ = open(t, folder)
	if got := b.Month("a"); got != 8 {
		t.Errorf("%d characters, want 8", got)
	}
}

// A commit may fail and be done all the same; then it is not done again.
func TestABatchThatWasStoredAllTheSameIsNotStoredTwice(t *testing.T) {
	folder := t.TempDir()
	b, _ := open(t, folder)
	settle(b, "a", 5)
	b.disk.keep()
	for _, was := range []bool{true, false} {
		before := b.Month("a")
		const name = "batch-that-failed"
		if was {
			db, err := b.disk.openStore(false)
			if err != nil {
				t.Fatal(err)
			}
			err = db.Update(func(tx *bolt.Tx) error { return tx.Bucket(folded).Put([]byte(name), nil) })
			if db.Close(); err != nil {
				t.Fatal(err)
			}
		}
		b.disk.unsure = batch{name, map[row]Use{{day: b.now().UTC().Format(time.DateOnly), client: "a"}: {Texts: 1, Characters: 100}}}
		settle(b, "a", 1)
		want := before + 1
		if !was {
			want += 100
		}
		for _, when := range []string{"before", "after"} {
			if r, err := b.Report(ByKey, "", nil); err != nil || r.Total.Characters != want {
				t.Errorf("%s: %+v %v, want %d", when, r, err, want)
			}
			b.disk.keep()
		}
	}
}

func TestNoSixtySecondsHaveMoreCallsThanAllowed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		most := rapid.Int64Range(1, 20).Draw(t, "most")
		var w window
		var taken []time.Time
		now := time.Unix(1_700_000_000, 0)
		for range rapid.IntRange(1, 200).Draw(t, "calls") {
			now = now.Add(time.Duration(rapid.Int64Range(0, int64(20*time.Second)).Draw(t, "pause")))
			wait := w.take(now, most)
			if wait == 0 {
				taken = append(taken, now)
				continue
			}
			if wait < 0 || wait > 61*time.Second {
				t.Fatalf("told to wait for %v", wait)
			}
			later := w
			if more := later.take(now.Add(wait), most); more != 0 {
				t.Fatalf("after the %v it was told to wait, %v more", wait, more)
			}
		}
		for i := range taken {
			if j := i + int(most); j < len(taken) && taken[j].Sub(taken[i]) < time.Minute {
				t.Fatalf("%d calls within %v", most+1, taken[j].Sub(taken[i]))
			}
		}
	})
}

func TestMonthsEndByUTC(t *testing.T) {
	b := New()
	now := time.Date(2026, 11, 30, 23, 59, 59, 0, time.UTC).In(time.FixedZone("", -5*3600))
	b.now = func() time.Time { return now }
	limits := Limits{CharactersPerMonth: 10}
	settle(b, "a", 10)
	over, _ := errors.AsType[*Exceeded](b.Enter(t.Context(), "a", limits, 1))
	if over == nil || over.Wait != time.Second {
		t.Fatalf("%+v", over)
	}
	now = now.Add(time.Second)
	if err := b.Enter(t.Context(), "a", limits, 10); err != nil {
		t.Errorf("in the next month: %v", err)
	}
	for month, want := range map[string]int64{"2026-11": 10, "2026-12": 0, "": 0} {
		if r, err := b.Report(ByDay, month, nil); err != nil || r.Total.Characters != want {
			t.Errorf("%s: %+v %v, want %d", month, r, err, want)
		}
	}
}

// Two hundred clients at once, of which none is above its limit, and none is held to
// less.
func TestLimitsHoldWhoeverAsksAtOnce(t *testing.T) {
	b, _ := open(t, t.TempDir())
	var all sync.WaitGroup
	for range 200 {
		all.Go(func() {
			for range 20 {
				if b.Enter(t.Context(), "a", Limits{CharactersPerMonth: 3001}, 3) == nil {
					b.Settle(Who{Client: "a"}, Use{Texts: 1, Characters: 3}, 3, true)
				}
			}
		})
	}
	all.Wait()
	if got := b.Month("a"); got != 3000 {
		t.Errorf("%d characters, want 3000", got)
	}
}

func TestSessionsAreBounded(t *testing.T) {
	property.WithoutRace(t) // it is one goroutine
	folder := t.TempDir()
	b, _ := open(t, folder)
	for n := range mostSessions + 5 {
		b.Settle(Who{Client: "a", Session: fmt.Sprint(n)}, Use{Texts: 1, Characters: 1}, 0, false)
	}
	if n := len(b.sessions); n > mostSessions {
		t.Errorf("%d sessions are kept", n)
	}
	b.Close()
	b, _ = open(t, folder)
	if n := len(b.sessions); n > mostSessions || n < mostSessions/2 {
		t.Errorf("%d sessions are known after a start", n)
	}
	if got := b.Month("a"); got != mostSessions+5 {
		t.Errorf("%d characters", got)
	}
}

func FuzzJournal(f *testing.F) {
	f.Add(string(appendLine(nil, row{"2026-11-30", "native", "a", "s\t\n\"é"}, Use{Texts: 1, Characters: 3, Cost: Cost{{"EUR", 5}, {"USD", -7}}})))
	f.Add("00000000\t\n")
	f.Add("")
	f.Fuzz(func(t *testing.T, content string) {
		rows := map[row]Use{}
		if _, err := readJournal(strings.NewReader(content), func(r row, u Use) { rows[r] = rows[r].Plus(u) }); err != nil {
			t.Fatal(err)
		}
		// What was read can be written, and reads back as the same.
		for r, u := range rows {
			line := appendLine(nil, r, u)
			back, v, err := parseLine(string(line[:len(line)-1]))
			if err != nil || back != r || !reflect.DeepEqual(u, v) {
				t.Fatalf("%q: %+v %+v %v", line, back, v, err)
			}
		}
	})
}
