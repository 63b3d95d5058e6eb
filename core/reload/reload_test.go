package reload

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/config"
	"github.com/dragoman-mt/dragoman/core/engine"
	"github.com/dragoman-mt/dragoman/core/engine/enginetest"
	"github.com/dragoman-mt/dragoman/core/state"
)

// A site is a gateway's file and what reloads it. What the file holds is the
// configuration of one stage, "soft" in front of a text that changes in place.
type site struct {
	*enginetest.House
	t        *testing.T
	engine   *engine.Engine
	reloader *Reloader
	file     string
}

func newSite(t *testing.T, first string) *site { return newSiteWith(t, first, (*site).load) }

// newSiteWith is newSite with another meaning of what the file holds.
func newSiteWith(t *testing.T, first string, load func(*site, []byte) (*config.File, error)) *site {
	s := &site{House: &enginetest.House{}, t: t, engine: engine.New(enginetest.Nowhere{}, zap.NewNop()), file: filepath.Join(t.TempDir(), "pipeline.yaml")}
	past, err := state.Of(s.file, func(name string) (string, bool) { return filepath.Dir(s.file), name == "STATE_DIRECTORY" })
	if err != nil {
		t.Fatal(err)
	}
	s.save(first)
	loaded, err := load(s, []byte(first))
	if err != nil {
		t.Fatal(err)
	}
	g, err := s.engine.Build(loaded, time.Second)
	if err == nil {
		err = g.Start(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	s.engine.Serve(g, time.Minute)
	s.reloader = New(Options{
		Engine: s.engine, File: s.file, Load: func(content []byte) (*config.File, error) { return load(s, content) }, Past: past, Log: zap.NewNop(),
		Times:     func(*config.File) (deadline, drain time.Duration) { return time.Second, time.Minute },
		Warnings:  func(*config.File) []string { return nil },
		Processes: func() []int { return []int{7} },
	}, loaded, []byte(first), false)
	t.Cleanup(func() { s.engine.Close(context.Background()) })
	return s
}

func (s *site) save(content string) {
	s.t.Helper()
	err := os.WriteFile(s.file+".new", []byte(content), 0o600)
	if err == nil {
		err = os.Rename(s.file+".new", s.file) // nobody reads half of it
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) load(content []byte) (*config.File, error) {
	v := string(content)
	if strings.Contains(v, "broken") {
		return nil, config.Complaints{{File: s.file, Line: 1, Column: 1, Message: "is broken"}}
	}
	f := s.House.File(s.Stage("a", "soft", v, true))
	f.Path = s.file
	f.Values = []config.Value{{Path: "stages.a.v", Text: v, Sum: uint64(len(v))<<32 | uint64(v[0])}}
	return f, nil
}

// timeless is a verdict without how long it took and when something served.
func timeless(v Report) string {
	text := regexp.MustCompile(`(in|after) [0-9.]+[mµn]?s`).ReplaceAllString(v.String(), "$1 TIME")
	return regexp.MustCompile(`\d\d:\d\d:\d\d( on [0-9-]+)?`).ReplaceAllString(text, "TIME")
}

func (s *site) expect(v Report, want string) {
	s.t.Helper()
	if got := strings.ReplaceAll(timeless(v), s.file, "FILE"); got != want {
		s.t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestTheVerdictSaysWhatChangedAndWhatWasCarriedOver(t *testing.T) {
	s := newSite(t, "1")
	s.expect(s.reloader.Reload(t.Context(), "test"), "nothing to do: generation 1 serves this already, since TIME")
	s.save("2")
	s.expect(s.reloader.Reload(t.Context(), "test"), "reloaded generation 2 (was 1) in TIME: stages.a.v 1 -> 2; carried over: a Brick 1, 1 plugin")
	if got := s.Says(t, s.engine); got != "hi 12" {
		t.Errorf("what serves says %q", got)
	}
	s.reloader.Reload(t.Context(), "test")
	if now := s.reloader.Serving(); now.Last.Outcome != Reloaded {
		t.Errorf("what changed last is hidden by %v", now.Last)
	}
	s.save("broken")
	s.expect(s.reloader.Reload(t.Context(), "test"), "refused after TIME, generation 2 serves on; the file on disk differs from what serves:\nFILE:1:1: is broken")
	s.save("bad")
	s.expect(s.reloader.Reload(t.Context(), "test"), "refused after TIME, generation 2 serves on; the file on disk differs from what serves:\nFILE:7:3: stages.a: no such stuff")
	if err := os.Remove(s.file); err != nil {
		t.Fatal(err)
	}
	if v := s.reloader.Reload(t.Context(), "test"); v.Outcome != Refused || !errors.Is(v.Err, os.ErrNotExist) || !v.Differs {
		t.Errorf("without a file: %v", v)
	}
	if got := s.Says(t, s.engine); got != "hi 12" {
		t.Errorf("what serves says %q", got)
	}
	now := s.reloader.Serving()
	if now.Last == nil || now.Last.Outcome != Refused || !now.Differs || now.Hash != state.Hash([]byte("2")) {
		t.Errorf("%+v", now)
	}
}

func TestPreviousGoesOneStepFurtherBackEachTime(t *testing.T) {
	s := newSite(t, "1")
	for _, v := range []string{"2", "3", "broken by an update", "4"} {
		s.save(v)
		s.reloader.Reload(t.Context(), "test")
	}
	s.expect(s.reloader.Previous(t.Context(), "test"), "reloaded generation 5 (was 4) in TIME: stages.a.v 4 -> 3; back to what served at TIME; carried over: a Brick 1, 1 plugin; the file on disk differs from what serves")
	s.expect(s.reloader.Previous(t.Context(), "test"), "reloaded generation 6 (was 5) in TIME: stages.a.v 3 -> 2; back to what served at TIME; carried over: a Brick 1, 1 plugin; the file on disk differs from what serves")
	s.expect(s.reloader.Reload(t.Context(), "test"), "reloaded generation 7 (was 6) in TIME: stages.a.v 2 -> 4; carried over: a Brick 1, 1 plugin")
	if v := s.reloader.Previous(t.Context(), "test"); v.Outcome != Reloaded || v.Changes[0].New != "2" {
		t.Errorf("back from the file: %v", v)
	}
}

func TestAnUndoIsNotUndoneByWhoeverHearsOfTheFileLate(t *testing.T) {
	s := newSite(t, "1")
	s.save("2")
	s.reloader.Reload(t.Context(), "admin")
	s.reloader.Previous(t.Context(), "admin")
	if v := s.reloader.Content(t.Context(), "file", []byte("2")); v.Outcome != Unchanged {
		t.Errorf("got %v", v)
	}
	if got := s.Says(t, s.engine); got != "hi 11" {
		t.Errorf("what serves says %q", got)
	}
	if now := s.reloader.Serving(); now.Last.Trigger != "admin" || !now.Differs {
		t.Errorf("%+v", now.Last)
	}
	// Another edit counts, and so does the way back from it.
	for _, v := range []string{"3", "2"} {
		s.save(v)
		if got := s.reloader.Content(t.Context(), "file", []byte(v)); got.Outcome != Reloaded {
			t.Errorf("%s: %v", v, got)
		}
	}
}

func TestPreviousPassesOverWhatCannotBeServedAnyMore(t *testing.T) {
	s := newSite(t, "1")
	s.save("2")
	s.reloader.Reload(t.Context(), "test")
	s.save("3")
	s.reloader.Reload(t.Context(), "test")
	load := s.load
	s.reloader.o.Load = func(content []byte) (*config.File, error) {
		if string(content) == "2" {
			return nil, errors.New("its plugin is gone")
		}
		return load(content)
	}
	v := s.reloader.Previous(t.Context(), "test")
	if v.Outcome != Reloaded || v.Changes[0].New != "1" || len(v.Warnings) != 1 || !strings.Contains(v.Warnings[0], "its plugin is gone") {
		t.Errorf("%v, %q", v, v.Warnings)
	}
	if v := s.reloader.Previous(t.Context(), "test"); v.Outcome != Refused || !errors.Is(v.Err, state.ErrNothingOlder) {
		t.Errorf("at the end of the walk: %v", v)
	}
	if got := s.Says(t, s.engine); got != "hi 11" {
		t.Errorf("what serves says %q", got)
	}
}

func TestAnEditThatASetHidesIsSaidByTheReloadThatBringsItAndByNoLaterOne(t *testing.T) {
	s := newSiteWith(t, "1", func(s *site, content []byte) (*config.File, error) {
		f, err := s.load(content)
		if err == nil {
			f.Values = append(f.Values, config.Value{Path: "pool.mode", Text: "direct", From: "--set", Below: uint64(content[0])})
		}
		return f, err
	})
	const want = "what the file says about pool.mode changed, and it stays direct by a --set that this gateway was started with; start it without that for the file to count"
	for _, c := range []struct {
		content, warns string
	}{{"2", want}, {"22", ""}, {"33", want}} {
		s.save(c.content)
		if v := s.reloader.Rehearse(t.Context(), Target{}); strings.Join(v.Warnings, "; ") != c.warns {
			t.Errorf("%s, rehearsed: %q", c.content, v.Warnings)
		}
		if v := s.reloader.Reload(t.Context(), "test"); v.Outcome != Reloaded || strings.Join(v.Warnings, "; ") != c.warns {
			t.Errorf("%s: %v, %q", c.content, v, v.Warnings)
		}
	}
}

func TestReloadsThatComeTogetherEndWithTheNewestFile(t *testing.T) {
	s := newSite(t, "1")
	var all sync.WaitGroup
	for i := range 20 {
		s.save(string(rune('a' + i)))
		all.Go(func() { s.reloader.Reload(t.Context(), "test") })
	}
	all.Wait()
	s.expect(s.reloader.Reload(t.Context(), "test"), "nothing to do: generation "+strconv.FormatInt(s.engine.Number(), 10)+" serves this already, since TIME")
	if got := s.Says(t, s.engine); got != "hi 1t" {
		t.Errorf("what serves says %q", got)
	}
}

func TestAReloadWaitsForItsTurnNoLongerThanItsCaller(t *testing.T) {
	s := newSite(t, "1")
	s.save("2")
	begun, end := make(chan struct{}), make(chan struct{})
	load := s.load
	s.reloader.o.Load = func(content []byte) (*config.File, error) {
		close(begun)
		<-end
		return load(content)
	}
	done := make(chan Report)
	go func() { done <- s.reloader.Reload(context.Background(), "first") }()
	<-begun
	ctx, leave := context.WithCancel(t.Context())
	leave()
	if v := s.reloader.Reload(ctx, "second"); v.Outcome != Refused || !strings.Contains(v.Err.Error(), "another reload is running") {
		t.Errorf("got %v", v)
	}
	close(end)
	if v := <-done; v.Outcome != Reloaded {
		t.Errorf("the first: %v", v)
	}
}

func TestReloadsAreMeasured(t *testing.T) {
	s := newSite(t, "1")
	s.save("2")
	s.reloader.Reload(t.Context(), "test")
	s.save("broken")
	s.reloader.Reload(t.Context(), "test")
	got := map[string]float64{}
	s.reloader.Measure(func(m core.Measure) { got[strings.Join(append([]string{m.Name}, m.Labels...), " ")] = m.Value })
	for name, want := range map[string]float64{
		"reloads_total outcome reloaded": 1, "reloads_total outcome refused": 1, "reloads_total outcome unchanged": 0,
		"config_last_reload_success": 0, "config_file_differs": 1,
		"config_info hash " + state.Hash([]byte("2"))[:12]: 1,
	} {
		if got[name] != want {
			t.Errorf("%s: got %v, want %v", name, got[name], want)
		}
	}
}

func TestAReloadDoesNotWaitForTheWriterOfAPipe(t *testing.T) {
	s := newSite(t, "1")
	if err := os.Remove(s.file); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(s.file, 0o600); err != nil {
		t.Skip("not tested: no named pipe can be made: ", err)
	}
	if v := s.reloader.Reload(t.Context(), "test"); v.Outcome != Refused || !strings.Contains(v.Err.Error(), "not a regular file") || !v.Differs {
		t.Errorf("got %v", v)
	}
}

func TestAfterARefusedSaveThereIsNothingToUndoWhichIsSaidOnce(t *testing.T) {
	s := newSite(t, "1")
	s.save("2")
	s.reloader.Reload(t.Context(), "test")
	for range 2 {
		s.save("broken")
		s.reloader.Content(t.Context(), "file", []byte("broken"))
		const want = "nothing to undo: the file was refused, so what served before it serves still; mend the file and save it, or ask again to go further back; generation 2 serves on; the file on disk differs from what serves"
		s.expect(s.reloader.Rehearse(t.Context(), Target{Previous: true}), want)
		v := s.reloader.Previous(t.Context(), "test")
		s.expect(v, want)
		if got := s.Says(t, s.engine); got != "hi 12" || v.Outcome != Unchanged {
			t.Errorf("what serves says %q, %s", got, v.Outcome)
		}
		if now := s.reloader.Serving(); now.Last.Outcome != Refused {
			t.Errorf("what was refused is hidden by %v", now.Last)
		}
		s.save("broken again")
		s.reloader.Reload(t.Context(), "test")
	}
	s.reloader.Previous(t.Context(), "test")
	s.expect(s.reloader.Previous(t.Context(), "test"), "reloaded generation 3 (was 2) in TIME: stages.a.v 2 -> 1; back to what served at TIME; carried over: a Brick 1, 1 plugin; the file on disk differs from what serves")
	// Once a file was taken, it is undone at once.
	s.save("3")
	s.reloader.Reload(t.Context(), "test")
	if v := s.reloader.Previous(t.Context(), "test"); v.Outcome != Reloaded || v.Changes[0].New != "1" {
		t.Errorf("got %v", v)
	}
}

func TestAReloadGoesToWhatHasTheNumber(t *testing.T) {
	s := newSite(t, "1")
	for _, v := range []string{"2", "3"} {
		s.save(v)
		s.reloader.Reload(t.Context(), "test")
	}
	list, err := s.reloader.Kept()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, l := range list {
		line := string(l.Content)
		if l.Serves {
			line += " serves"
		}
		for _, c := range l.Changes {
			line += " " + c.String()
		}
		got = append(got, line)
	}
	if want := "3 serves, 2 stages.a.v 3 -> 2, 1 stages.a.v 3 -> 1"; strings.Join(got, ", ") != want {
		t.Errorf("kept: %q", got)
	}
	for _, n := range []int{9, 4, -1} {
		if v := s.reloader.Serve(t.Context(), "test", Target{To: n}); v.Outcome != Refused || !strings.Contains(v.Err.Error(), "numbered from 1 to 3") {
			t.Errorf("number %d: %v", n, v)
		}
	}
	s.expect(s.reloader.Serve(t.Context(), "test", Target{To: 3}), "reloaded generation 4 (was 3) in TIME: stages.a.v 3 -> 1; back to what served at TIME; carried over: a Brick 1, 1 plugin; the file on disk differs from what serves")
	s.expect(s.reloader.Serve(t.Context(), "test", Target{To: 1}), "nothing to do: generation 4 serves this already, since TIME; the file on disk differs from what serves")
	s.expect(s.reloader.Previous(t.Context(), "test"), "reloaded generation 5 (was 4) in TIME: stages.a.v 1 -> 2; back to what served at TIME; carried over: a Brick 1, 1 plugin; the file on disk differs from what serves")
}

func TestADryRunSaysWhatAReloadWouldDoAndDoesNothing(t *testing.T) {
	s := newSite(t, "1")
	s.save("2")
	s.reloader.Reload(t.Context(), "test")
	before, was := s.reloader.Serving(), s.engine.Number()
	for name, c := range map[string]struct {
		file, want string
		to         Target
	}{
		"the file":           {"3", "a reload would change generation 2: stages.a.v 2 -> 3; changed: stages/a; the file on disk differs from what serves", Target{}},
		"a broken file":      {"broken", "a reload would be refused, and generation 2 serve on; the file on disk differs from what serves:\nFILE:1:1: is broken", Target{}},
		"one with a mistake": {"bad", "a reload would be refused, and generation 2 serve on; the file on disk differs from what serves:\nFILE:7:3: stages.a: no such stuff", Target{}},
		"the same file":      {"2", "nothing to do: generation 2 serves this already, since TIME", Target{}},
		"the one before":     {"2", "a reload would change generation 2: stages.a.v 2 -> 1; back to what served at TIME; changed: stages/a", Target{Previous: true}},
		"one with a number":  {"2", "a reload would change generation 2: stages.a.v 2 -> 1; back to what served at TIME; changed: stages/a", Target{To: 2}},
		"a number too high":  {"2", "a reload would be refused, and generation 2 serve on:\nthere is no 9: what is kept is numbered from 1 to 2, latest first; `dragoman reload --list` shows it", Target{To: 9}},
	} {
		s.save(c.file)
		t.Log(name)
		s.expect(s.reloader.Rehearse(t.Context(), c.to), c.want)
	}
	s.save("2")
	now := s.reloader.Serving()
	if now.Last != before.Last || now.Hash != before.Hash || s.engine.Number() != was || s.Says(t, s.engine) != "hi 12" {
		t.Errorf("it did something: %+v", now)
	}
	if all, err := s.reloader.Kept(); err != nil || len(all) != 2 || !all[0].Serves {
		t.Errorf("it is kept: %v %v", all, err)
	}
	// What was only rehearsed is no file that was loaded.
	s.save("3")
	s.reloader.Rehearse(t.Context(), Target{})
	if v := s.reloader.Content(t.Context(), "file", []byte("3")); v.Outcome != Reloaded {
		t.Errorf("got %v", v)
	}
}

func TestAWarningThatStandsIsSaidOnce(t *testing.T) {
	s := newSite(t, "1")
	standing := []string{"too short"}
	s.reloader.o.Warnings = func(*config.File) []string { return standing }
	for _, step := range []struct {
		file string
		now  []string
		want string
	}{
		{"2", standing, "too short"},
		{"3", standing, ""},
		{"4", []string{"too short", "too long"}, "too long"},
		{"5", nil, ""},
		{"6", standing, "too short"}, // it came back
	} {
		standing = step.now
		s.save(step.file)
		if v := s.reloader.Reload(t.Context(), "test"); strings.Join(v.Warnings, ", ") != step.want {
			t.Errorf("%s: warned of %q, want %q", step.file, v.Warnings, step.want)
		}
	}
}
