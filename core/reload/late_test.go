package reload

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dragoman-mt/dragoman/core/config"
	"github.com/dragoman-mt/dragoman/core/engine/enginetest"
)

// sleepy is a site whose one stage is a Sloth.
func sleepy(t *testing.T, kind, first string) (*site, *enginetest.Den) {
	d := &enginetest.Den{Free: make(chan struct{})}
	h := &enginetest.House{}
	s := newSiteWith(t, first, func(s *site, content []byte) (*config.File, error) {
		if string(content) == "check" {
			<-d.Free
		}
		f := h.File(d.Stage(kind, string(content)))
		f.Path = s.file
		return f, nil
	})
	return s, d
}

func TestNoReloadWaitsForAPartThatDoesNotReturn(t *testing.T) {
	for _, c := range []struct{ kind, hangs, says string }{
		{"hard", "check", "pipeline.yaml: checking has not returned after 10.5s"},
		{"hard", "build", "stages/a: building has not returned after 10.5s"},
		{"hard", "start", "stages/a: starting has not returned after 30.5s"},
		{"hard", "probe", "stages/a: probing has not returned after 5.5s"},
		{"hard", "refused, and close", "unauthorized"},
		{"soft", "plan", "stages/a: planning has not returned after 10.5s"},
		{"hard", "panic", "stages/a: building panicked"},
	} {
		t.Run(c.hangs, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, d := sleepy(t, c.kind, "1")
				s.save(c.hangs)
				begun := time.Now()
				v := s.reloader.Reload(t.Context(), "test")
				if took := time.Since(begun); v.Outcome != Refused || !strings.Contains(v.Err.Error(), c.says) || took > 31*time.Second {
					t.Errorf("after %v: %v", took, v)
				}
				if late := s.engine.Late(); c.hangs != "panic" && len(late) != 1 {
					t.Errorf("late: %q", late)
				}
				atOnce(t, s, "2")
				wake(t, s, d)
			})
		})
	}
}

// atOnce reloads the content, goes back, and forth again, without waiting.
func atOnce(t *testing.T, s *site, content string) {
	t.Helper()
	begun := time.Now()
	s.save(content)
	for range 2 {
		if v := s.reloader.Reload(t.Context(), "test"); v.Outcome != Reloaded {
			t.Errorf("the next reload: %v", v)
		}
		if v := s.reloader.Previous(t.Context(), "test"); v.Outcome != Reloaded {
			t.Errorf("back: %v", v)
		}
	}
	if took := time.Since(begun); took > 0 {
		t.Errorf("what came after waited %v", took)
	}
}

// wake lets the sloths go, and sees that every part was closed once, and when the
// engine has ended, all.
func wake(t *testing.T, s *site, d *enginetest.Den) {
	t.Helper()
	close(d.Free)
	synctest.Wait()
	if late := s.engine.Late(); late != nil {
		t.Errorf("still late: %q", late)
	}
	s.engine.Close(t.Context())
	synctest.Wait()
	for i, times := range d.Closed() {
		if times != 1 {
			t.Errorf("part %d was closed %d times", i, times)
		}
	}
}

// What serves and hangs is in the way of nobody: it is not asked again while it
// does, and its place is taken by another.
func TestAPartThatServesAndDoesNotReturnIsReplaced(t *testing.T) {
	for _, c := range []struct{ kind, hangs string }{
		{"hard", "outdated"}, {"hard", "close"}, {"soft", "apply"},
	} {
		t.Run(c.hangs, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, d := sleepy(t, c.kind, "1")
				s.save(c.hangs)
				if v := s.reloader.Reload(t.Context(), "test"); v.Outcome != Reloaded {
					t.Fatal(v)
				}
				begun := time.Now()
				s.reloader.Reload(t.Context(), "test") // looks at its files
				if took := time.Since(begun); took > 3*time.Second {
					t.Errorf("looking at its files took %v", took)
				}
				s.save("2")
				begun = time.Now()
				if v := s.reloader.Reload(t.Context(), "test"); v.Outcome != Reloaded || time.Since(begun) > 0 {
					t.Errorf("the next one, after %v: %v", time.Since(begun), v)
				}
				if v := s.reloader.Previous(t.Context(), "test"); v.Outcome != Reloaded {
					t.Errorf("back: %v", v)
				}
				time.Sleep(6 * time.Second)
				if late := s.engine.Late(); len(late) == 0 {
					t.Errorf("late: %q", late)
				}
				wake(t, s, d)
			})
		})
	}
}

// mostLate is how many calls the engine lets be late at the same time.
const mostLate = 64

func TestSoMuchMayBeLateAndNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, d := sleepy(t, "hard", "1")
		for i := range mostLate + 3 {
			s.save(fmt.Sprint("build"))
			v := s.reloader.Reload(t.Context(), "test")
			if v.Outcome != Refused || i >= mostLate && !strings.Contains(v.Err.Error(), "restart the gateway") {
				t.Fatalf("%d: %v", i, v)
			}
		}
		if late := s.engine.Late(); len(late) != mostLate {
			t.Errorf("%d are late", len(late))
		}
		wake(t, s, d)
	})
}
