package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/config"
)

// A sloth is a stage that does not return from the call that its configuration
// names, whatever becomes of the context.
type sloth struct {
	*den
	v      string
	closed int // guarded by den.mu
}

// A den is where sloths live, until free is closed.
type den struct {
	free chan struct{}
	mu   sync.Mutex
	all  []*sloth
}

func (s *sloth) at(call string) {
	if s.v == call {
		<-s.free
	}
}

func (s *sloth) Wrap(next core.Translator) core.Translator { return next }
func (s *sloth) Start(context.Context) error               { s.at("start"); return nil }
func (s *sloth) Outdated() bool                            { s.at("outdated"); return false }

func (s *sloth) Probe(context.Context) error {
	s.at("probe")
	if s.v == "refused, and close" {
		return &core.Error{Kind: core.Unauthorized}
	}
	return nil
}

func (s *sloth) Close() error {
	s.at("close")
	if s.v == "refused, and close" {
		<-s.free
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed++
	return nil
}

// A softSloth takes another configuration in place.
type softSloth struct{ *sloth }

func (s softSloth) Plan(c any) (func(), error) {
	v := c.(*setting).V
	if v == "plan" {
		<-s.free
	}
	return func() {
		if v == "apply" {
			<-s.free
		}
	}, nil
}

func (d *den) stage(kind, v string) config.Item {
	k := core.NewKind(kind, core.RoleStage, "", func() setting { return setting{} }, func(_ core.Env, c *setting) (any, error) {
		s := &sloth{den: d, v: c.V}
		s.at("build")
		if c.V == "panic" {
			panic("no such luck")
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		d.all = append(d.all, s)
		if kind == "soft" {
			return softSloth{s}, nil
		}
		return s, nil
	})
	return config.Item{Name: "a", Kind: k, Config: &setting{v}, Enabled: true, Path: "stages.a", Line: 7, Column: 3, Digest: kind + v}
}

// sleepy is a site whose one stage is a sloth.
func sleepy(t *testing.T, kind, first string) (*site, *den) {
	d := &den{free: make(chan struct{})}
	h := &house{}
	s := newSiteWith(t, first, func(s *site, content []byte) (*config.File, error) {
		if string(content) == "check" {
			<-d.free
		}
		f := h.file(d.stage(kind, string(content)))
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
				d.wake(t, s)
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
func (d *den) wake(t *testing.T, s *site) {
	t.Helper()
	close(d.free)
	synctest.Wait()
	if late := s.engine.Late(); late != nil {
		t.Errorf("still late: %q", late)
	}
	s.engine.Close(t.Context())
	synctest.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	for i, part := range d.all {
		if part.closed != 1 {
			t.Errorf("part %d (%s) was closed %d times", i, part.v, part.closed)
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
				time.Sleep(closeTimeout + 2*patience)
				if late := s.engine.Late(); len(late) == 0 {
					t.Errorf("late: %q", late)
				}
				d.wake(t, s)
			})
		})
	}
}

// A probe that hangs is one goroutine, however often it would be asked again.
func TestAHungProbeIsNotAskedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &den{free: make(chan struct{})}
		e := New(nowhere{}, zap.NewNop())
		g := serve(t, e, (&house{}).file(d.stage("hard", "probe")))
		g.Watch()
		time.Sleep(10 * time.Minute)
		if late := e.Late(); len(late) != 1 || !strings.HasPrefix(late[0], "stages/a: probing, for 10m") {
			t.Errorf("late: %q", late)
		}
		if err := g.Ready(); err == nil || !strings.Contains(err.Error(), "has not returned") {
			t.Errorf("ready: %v", err)
		}
		close(d.free)
		time.Sleep(probeSlowest + time.Second)
		if err := g.Ready(); err != nil {
			t.Errorf("it has returned, and %v", err)
		}
		e.Close(t.Context())
	})
}

func TestTheEndWaitsForNoPart(t *testing.T) {
	for _, hangs := range []string{"probe", "close"} {
		t.Run(hangs, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := &den{free: make(chan struct{})}
				e := New(nowhere{}, zap.NewNop())
				g := serve(t, e, (&house{}).file(d.stage("hard", hangs)))
				g.Watch()
				synctest.Wait()
				ctx, cancel := context.WithTimeout(t.Context(), 0)
				defer cancel()
				begun := time.Now()
				e.Close(ctx)
				if took := time.Since(begun); took > closeTimeout+2*patience {
					t.Errorf("took %v", took)
				}
				if late := e.Late(); len(late) != 1 {
					t.Errorf("late: %q", late)
				}
				close(d.free)
				synctest.Wait()
				if d.all[0].closed != 1 {
					t.Errorf("closed %d times", d.all[0].closed)
				}
			})
		})
	}
}

// A generation that drains for long is not waited for at the end.
func TestTheEndWaitsForNoFormerGeneration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var events, others []string
		inside, leave := make(chan struct{}), make(chan struct{})
		a := &fake{name: "a", events: &events, do: func(context.Context, *core.Request) (*core.Result, error) {
			close(inside)
			<-leave
			return &core.Result{}, nil
		}}
		e := serving(t, file([]string{"a"}, a))
		var calls sync.WaitGroup
		calls.Go(func() { e.Translate(t.Context(), &core.Request{Text: "x"}) })
		<-inside
		serve(t, e, file([]string{"b"}, &fake{name: "b", events: &others}))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begun := time.Now()
		e.Close(ctx)
		if took := time.Since(begun); took > 2*time.Second {
			t.Errorf("took %v", took)
		}
		if left := e.Unfinished(); len(left) != 1 || !strings.HasPrefix(left[0], "generation 1: requests inside (1), for ") {
			t.Errorf("unfinished: %q", left)
		}
		close(leave)
		calls.Wait()
		if left := e.Unfinished(); left != nil {
			t.Errorf("unfinished: %q", left)
		}
	})
}

func TestSoMuchMayBeLateAndNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, d := sleepy(t, "hard", "1")
		for i := range maxLate + 3 {
			s.save(fmt.Sprint("build"))
			v := s.reloader.Reload(t.Context(), "test")
			if v.Outcome != Refused || i >= maxLate && !strings.Contains(v.Err.Error(), "restart the gateway") {
				t.Fatalf("%d: %v", i, v)
			}
		}
		if late := s.engine.Late(); len(late) != maxLate {
			t.Errorf("%d are late", len(late))
		}
		d.wake(t, s)
	})
}

func TestALateCallIsToldApartFromAFailedOne(t *testing.T) {
	_, err := Unwell(errors.Join(fmt.Errorf("p.yaml:1:1: x: %w", &LateError{What: "x: probing", Waited: time.Second})))
	if _, late := errors.AsType[*LateError](err); !late {
		t.Errorf("got %v, want a refusal", err)
	}
}
