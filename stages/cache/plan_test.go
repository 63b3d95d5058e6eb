package cache

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dragoman-mt/dragoman/core"
)

func TestHoldsCountsWhatIsStoredAndNotWhatIsPreloaded(t *testing.T) {
	c := Defaults()
	c.Preload = []core.Path{write(t, "a.tsv", "en\tes\tYes\tSí\n")}
	s := start(t, c)
	if got := s.Holds(); got != "" {
		t.Errorf("an empty cache holds %q", got)
	}
	top := s.Wrap(&below{})
	for i := range 1234 {
		ask(t, top, request(fmt.Sprint("text ", i)))
		ask(t, top, request("Yes"))
		if got := s.Holds(); i == 0 && got != "1 entry" {
			t.Errorf("holds %q", got)
		}
	}
	if got := s.Holds(); got != "1,234 entries" {
		t.Errorf("holds %q", got)
	}
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", 48112: "48,112", 1234567: "1,234,567", 100000: "100,000"} {
		if got := thousands(n); got != want {
			t.Errorf("%d is written %s", n, got)
		}
	}
}

func TestAnotherPreloadFileIsNoticed(t *testing.T) {
	const table = "en\tes\tYes\tSí\n"
	age := time.Now().Add(-time.Hour)
	for name, c := range map[string]struct {
		change   func(t *testing.T, file string)
		outdated bool
	}{
		"nothing": {func(*testing.T, string) {}, false},
		"it is read": {func(t *testing.T, file string) {
			if _, err := os.ReadFile(file); err != nil {
				t.Fatal(err)
			}
		}, false},
		"longer":         {func(t *testing.T, file string) { put(t, file, table+"en\tes\tNo\tNo\n", age) }, true},
		"as long, later": {func(t *testing.T, file string) { put(t, file, strings.ToUpper(table), time.Now()) }, true},
		"another of the same size and time": {func(t *testing.T, file string) {
			put(t, file+".new", table, age)
			if err := os.Rename(file+".new", file); err != nil {
				t.Fatal(err)
			}
		}, true},
		"a link to another": {func(t *testing.T, file string) {
			put(t, file+".new", table, age)
			os.Remove(file)
			if err := os.Symlink(file+".new", file); err != nil {
				t.Fatal(err)
			}
		}, true},
		"gone": {func(t *testing.T, file string) { os.Remove(file) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "a.tsv")
			put(t, file, table, age)
			c0 := Defaults()
			c0.Preload = []core.Path{core.Path(file)}
			s := start(t, c0)
			c.change(t, file)
			if got := s.Outdated(); got != c.outdated {
				t.Fatalf("outdated: %v", got)
			}
			apply, err := s.Plan(&c0)
			if name == "gone" {
				if err == nil || !strings.Contains(err.Error(), file) {
					t.Errorf("%v, want the name of the file", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if s.Outdated() != c.outdated {
				t.Error("planning alone changed something")
			}
			apply()
			if s.Outdated() {
				t.Error("it is outdated after it was read anew")
			}
		})
	}
	if start(t, Defaults()).Outdated() {
		t.Error("outdated without a file")
	}
}

// put writes a file that was changed at a given time.
func put(t *testing.T, name, table string, at time.Time) {
	t.Helper()
	if err := os.WriteFile(name, []byte(table), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(name, at, at); err != nil {
		t.Fatal(err)
	}
}

// What another model has answered is kept for the way back, and is not carried over.
func TestHoldsCountsWhatTheChainCanFind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t, Config{MaxSize: 4 << 20, TTL: time.Hour})
		top := s.Wrap(&below{name: "one"})
		for i := range 1500 {
			ask(t, top, request(fmt.Sprint("text ", i)))
		}
		ask(t, s.Wrap(&below{name: "two"}), request("text"))
		for _, step := range []struct{ name, want string }{{"two", "1 entry"}, {"three", ""}, {"one", "1,500 entries"}} {
			if s.Wrap(&below{name: step.name}); s.Holds() != step.want {
				t.Errorf("above %s: %q, want %q", step.name, s.Holds(), step.want)
			}
		}
		time.Sleep(2 * time.Hour)
		if got := s.Holds(); got != "" {
			t.Errorf("of what has expired it holds %q", got)
		}
	})
}

func TestAPlanThatFailsNamesTheLineAndChangesNothing(t *testing.T) {
	good := write(t, "good.tsv", "en\tes\tYes\tSí\n")
	wrong := write(t, "wrong.tsv", "# ours\nen\tes\tNo\n")
	c := Config{MaxSize: 4 << 20, TTL: time.Hour, Preload: []core.Path{good}}
	s := start(t, c)
	b := &below{}
	top := s.Wrap(b)
	for i := range 2000 {
		ask(t, top, request(fmt.Sprint("text ", i)))
	}
	check := func() {
		t.Helper()
		if got := s.Holds(); got != "2,000 entries" {
			t.Errorf("holds %q", got)
		}
		if got := time.Duration(s.memory.ttl.Load()); got != time.Hour {
			t.Errorf("ttl %v", got)
		}
		if got := ask(t, top, request("Yes")).Text; got != "Sí" {
			t.Errorf("preloaded: %q", got)
		}
		if s.Outdated() {
			t.Error("outdated")
		}
	}
	_, err := s.Plan(&Config{MaxSize: 1 << 20, TTL: time.Second, Preload: []core.Path{good, wrong}})
	if want := "preload: " + string(wrong) + ": line 2: "; err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("%v, want %s...", err, want)
	}
	check()
	// Nor does one that is never applied, as when another part refuses.
	if _, err := s.Plan(&Config{MaxSize: 1 << 20, TTL: time.Second}); err != nil {
		t.Fatal(err)
	}
	check()
}

func TestAnotherSizeKeepsWhatFits(t *testing.T) {
	s := start(t, Config{MaxSize: 8 << 20, TTL: time.Hour})
	b := &below{}
	top := s.Wrap(b)
	const n = 1000 // a third of 1 MiB
	for i := range n {
		ask(t, top, request(fmt.Sprint("text ", i)))
	}
	for _, size := range []core.Size{1 << 20, 64 << 20, 1 << 20} {
		plan(t, s, Config{MaxSize: size, TTL: time.Hour})
		for i := range n {
			if !ask(t, top, request(fmt.Sprint("text ", i))).Cached {
				t.Fatalf("with %v, text %d is gone", size, i)
			}
		}
	}
	if b.calls.Load() != n {
		t.Errorf("%d calls", b.calls.Load())
	}
	// Grown, it has room for more than before.
	plan(t, s, Config{MaxSize: 16 << 20, TTL: time.Hour})
	for i := range 10_000 {
		ask(t, top, request(fmt.Sprint("more ", i)))
	}
	if got := measured(s, "cache_bytes"); got < 2<<20 {
		t.Errorf("%v bytes are stored", got)
	}
}

func plan(t *testing.T, s *Stage, c Config) {
	t.Helper()
	apply, err := s.Plan(&c)
	if err != nil {
		t.Fatal(err)
	}
	apply()
}

func TestAnotherTTLHoldsForWhatIsStoredAlready(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(core.Env{Name: "cache"}, Config{MaxSize: 1 << 20, TTL: time.Hour})
		if err := s.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		top := s.Wrap(&below{})
		ask(t, top, request("a"))
		cached := func(want bool) {
			t.Helper()
			if got := s.memory.get(appendKey(slices.Clip(top.(*place).below[0]), request("a")), core.Clock()) != nil; got != want {
				t.Errorf("stored: %v", got)
			}
		}
		time.Sleep(30 * time.Minute)
		cached(true)
		plan(t, s, Config{MaxSize: 1 << 20, TTL: 10 * time.Minute})
		cached(false)
		plan(t, s, Config{MaxSize: 1 << 20, TTL: 24 * time.Hour})
		cached(true)
		time.Sleep(23*time.Hour + 31*time.Minute)
		cached(false)
	})
}
