package cache

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dragoman-mt/dragoman/core"
)

// In these tests time is the bubble's: what runs below takes seconds that cost
// nothing, and synctest.Wait returns when everybody waits for somebody.

// bubble runs test in a synctest bubble with a started cache above b.
func bubble(t *testing.T, b *below, test func(t *testing.T, s *Stage, c core.Translator)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := New(core.Env{Name: "cache"}, small())
		if err := s.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		test(t, s, s.Wrap(b))
	})
}

// takes answers after d, or with the end of ctx.
func takes(d time.Duration) func(context.Context, *core.Request) (*core.Result, error) {
	return func(ctx context.Context, req *core.Request) (*core.Result, error) {
		select {
		case <-time.After(d):
			return echo(ctx, req)
		case <-ctx.Done():
			return nil, core.ContextError(ctx, "below")
		}
	}
}

// A reply is what a call came back with, and when.
type reply struct {
	res   *core.Result
	err   error
	after time.Duration
	trace *core.Trace
}

// asks calls c on a goroutine of its own, and returns where the reply will be
// once that goroutine waits.
func asks(ctx context.Context, c core.Translator, req *core.Request) <-chan reply {
	ch := make(chan reply, 1)
	began := time.Now()
	go func() {
		res, err := c.Translate(ctx, req)
		ch <- reply{res, err, time.Since(began), req.Trace}
	}()
	synctest.Wait()
	return ch
}

func TestRequestsThatWantTheSameShareOneCall(t *testing.T) {
	b := &below{answer: takes(3 * time.Second)}
	bubble(t, b, func(t *testing.T, s *Stage, c core.Translator) {
		leader := asks(t.Context(), c, request("x"))
		time.Sleep(time.Second)
		joiner := asks(t.Context(), c, request(" x "))
		if n := measured(s, "cache_flights"); n != 1 {
			t.Errorf("%v flights", n)
		}

		l, j := <-leader, <-joiner
		if l.err != nil || j.err != nil {
			t.Fatal(l.err, j.err)
		}
		if l.after != 3*time.Second || j.after != 2*time.Second {
			t.Errorf("answers after %v and %v", l.after, j.after)
		}
		if l.res.Cached || l.res.Usage.PromptTokens != 61 {
			t.Errorf("the leader did not get the answer as it came: %+v", l.res)
		}
		// Nobody pays twice: the joiner made no call.
		want := &core.Result{Text: "[es] x", Provider: "openai", Model: "m", Finish: core.FinishStop, Cached: true}
		if diff := cmp.Diff(want, j.res); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff([]core.Span{{Name: "flight", Self: 2 * time.Second}}, j.trace.Spans()); diff != "" {
			t.Error(diff)
		}
		if n := b.calls.Load(); n != 1 {
			t.Errorf("%d calls", n)
		}
		if n := measured(s, "cache_joins_total"); n != 1 {
			t.Errorf("%v joins", n)
		}
	})
}

// Who asks that the provider in use is left alone does not wait for its call, and what it
// gets instead is for nobody else; what is stored it gets as everybody does.
func TestWhoRelievesTheProviderSharesNoFlightWithWhoDoesNot(t *testing.T) {
	b := &below{answer: takes(3 * time.Second)}
	bubble(t, b, func(t *testing.T, s *Stage, c core.Translator) {
		relieves := func() *core.Request { r := request("x"); r.Relieve = true; return r }
		one, other := asks(t.Context(), c, relieves()), asks(t.Context(), c, relieves())
		ordinary := asks(t.Context(), c, request("x"))
		for _, ch := range []<-chan reply{one, other} {
			if r := <-ch; r.err != nil {
				t.Error(r.err)
			}
		}
		if n := b.calls.Load(); n != 2 {
			t.Errorf("%d calls, want one for both that relieve and one for who does not", n)
		}
		if r := <-ordinary; r.err != nil || r.res.Cached {
			t.Errorf("%+v", r)
		}
		synctest.Wait()
		if r := <-asks(t.Context(), c, relieves()); r.err != nil || !r.res.Cached || r.after != 0 || b.calls.Load() != 2 {
			t.Errorf("what is stored: %+v after %d calls", r, b.calls.Load())
		}
		if r := <-asks(t.Context(), c, func() *core.Request { r := request("y"); r.Relieve = true; return r }()); r.err != nil {
			t.Error(r.err)
		}
		if r := <-asks(t.Context(), c, request("y")); r.err != nil || r.res.Cached {
			t.Errorf("a fallback's answer was stored: %+v", r)
		}
	})
}

func TestLeaderMayLeaveItsFlight(t *testing.T) {
	b := &below{answer: takes(3 * time.Second)}
	bubble(t, b, func(t *testing.T, s *Stage, c core.Translator) {
		ctx, leave := context.WithCancel(t.Context())
		leader := asks(ctx, c, request("x"))
		joiner := asks(t.Context(), c, request("x"))
		time.Sleep(time.Second)
		leave()
		if l := <-leader; core.KindOf(l.err) != core.Canceled || l.after != time.Second {
			t.Errorf("the leader got %v after %v", l.err, l.after)
		}
		if j := <-joiner; j.err != nil || j.after != 3*time.Second {
			t.Errorf("the joiner got %v after %v", j.err, j.after)
		}
		if n := b.calls.Load(); n != 1 {
			t.Errorf("%d calls", n)
		}
	})
}

// TestACallIsCountedOnceWhoeverLeaves: for the one that made it, or of those who wait the one
// that came first, be it an answer or a failure that cost something.
func TestACallIsCountedOnceWhoeverLeaves(t *testing.T) {
	failed := &core.Error{Kind: core.ProviderFailed, Usage: core.Usage{PromptTokens: 7}}
	for name, c := range map[string]struct {
		fails, leaves bool
		payer         int
	}{
		"the leader stays": {false, false, 0}, "the leader leaves": {false, true, 1},
		"the leader stays, it fails": {true, false, 0}, "the leader leaves, it fails": {true, true, 1},
	} {
		t.Run(name, func(t *testing.T) {
			b := &below{answer: func(ctx context.Context, req *core.Request) (*core.Result, error) {
				time.Sleep(3 * time.Second)
				req.Trace.Attempts++
				if c.fails {
					return nil, failed
				}
				return &core.Result{Text: "x", Usage: core.Usage{PromptTokens: 7}}, nil
			}}
			bubble(t, b, func(t *testing.T, s *Stage, chain core.Translator) {
				ctx, leave := context.WithCancel(t.Context())
				defer leave()
				var reqs []*core.Request
				var answers []<-chan reply
				for i := range 4 {
					req := request("x")
					reqs = append(reqs, req)
					of := t.Context()
					if i == 0 {
						of = ctx
					}
					answers = append(answers, asks(of, chain, req))
					time.Sleep(100 * time.Millisecond)
				}
				if c.leaves {
					leave()
				}
				paid := []int{}
				for i, a := range answers {
					o := <-a
					if reqs[i].Trace.Attempts > 0 && (o.err != nil || !o.res.Cached) {
						paid = append(paid, i)
					}
				}
				if len(paid) != 1 || paid[0] != c.payer {
					t.Errorf("paid by %v, want by %d alone", paid, c.payer)
				}
				if n := b.calls.Load(); n != 1 {
					t.Errorf("%d calls", n)
				}
			})
		})
	}
}

func TestLastToLeaveEndsTheFlight(t *testing.T) {
	var ended atomic.Int64
	b := &below{answer: func(ctx context.Context, req *core.Request) (*core.Result, error) {
		began := time.Now()
		<-ctx.Done()
		ended.Store(int64(time.Since(began)))
		return nil, core.ContextError(ctx, "below")
	}}
	for _, linger := range []time.Duration{0, 5 * time.Second} {
		t.Run(linger.String(), func(t *testing.T) {
			bubble(t, b, func(t *testing.T, s *Stage, c core.Translator) {
				ended.Store(0)
				ctx1, leave1 := context.WithCancel(t.Context())
				ctx2, leave2 := context.WithCancel(t.Context())
				req := func() *core.Request { r := request("x"); r.Linger = linger; return r }
				first, second := asks(ctx1, c, req()), asks(ctx2, c, req())
				time.Sleep(time.Second)
				leave1()
				<-first
				time.Sleep(time.Second)
				if ended.Load() != 0 {
					t.Fatal("ended with a caller aboard")
				}
				leave2()
				if r := <-second; core.KindOf(r.err) != core.Canceled || r.after != 2*time.Second {
					t.Errorf("%v after %v", r.err, r.after)
				}
				s.flights.running.Wait()
				if got, want := time.Duration(ended.Load()), 2*time.Second+linger; got != want {
					t.Errorf("the flight ended after %v, want %v", got, want)
				}
			})
		})
	}
}

func TestLingeringFlightIsJoinedAndStored(t *testing.T) {
	b := &below{answer: takes(4 * time.Second)}
	bubble(t, b, func(t *testing.T, s *Stage, c core.Translator) {
		lingers := func(text string) *core.Request { r := request(text); r.Linger = 2 * time.Second; return r }
		ctx, leave := context.WithTimeout(t.Context(), time.Second)
		defer leave()
		<-asks(ctx, c, lingers("joined"))
		time.Sleep(time.Second)
		// It comes back in time, and the flight outlives the linger, but not the
		// leader's deadline plus linger, which is 3s: nobody has an answer then.
		back, gone := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer gone()
		r := <-asks(back, c, lingers("joined"))
		if core.KindOf(r.err) != core.DeadlineExceeded || b.calls.Load() != 1 {
			t.Errorf("%v after %d calls", r.err, b.calls.Load())
		}
		s.flights.running.Wait()

		b.answer = takes(2 * time.Second)
		ctx, leave = context.WithTimeout(t.Context(), time.Second)
		defer leave()
		<-asks(ctx, c, lingers("stored"))
		s.flights.running.Wait()
		if r := <-asks(t.Context(), c, request("stored")); r.err != nil || !r.res.Cached || r.after != 0 {
			t.Errorf("%+v %v after %v", r.res, r.err, r.after)
		}
	})
}

func TestJoinerStopsTheLingering(t *testing.T) {
	b := &below{answer: takes(10 * time.Second)}
	bubble(t, b, func(t *testing.T, s *Stage, c core.Translator) {
		req := request("x")
		req.Linger = 2 * time.Second
		ctx, leave := context.WithCancel(t.Context())
		first := asks(ctx, c, req)
		leave()
		<-first
		time.Sleep(time.Second)
		if r := <-asks(t.Context(), c, request("x")); r.err != nil || r.after != 9*time.Second || b.calls.Load() != 1 {
			t.Errorf("%v after %v, %d calls", r.err, r.after, b.calls.Load())
		}
	})
}

func TestRequestsJoinOnlyTheirOwnLaneOrAHigherOne(t *testing.T) {
	for lead := range core.Lanes {
		for join := range core.Lanes {
			t.Run(fmt.Sprint(join, " to ", lead), func(t *testing.T) {
				b := &below{answer: takes(time.Second)}
				bubble(t, b, func(t *testing.T, s *Stage, c core.Translator) {
					first, second := request("x"), request("x")
					first.Lane, second.Lane = lead, join
					a, b2 := asks(t.Context(), c, first), asks(t.Context(), c, second)
					want := int64(1)
					if join < lead {
						want = 2
					}
					if n := b.calls.Load(); n != want {
						t.Errorf("%d calls, want %d", n, want)
					}
					// Whoever comes now joins the flight of the highest lane.
					third := request("x")
					third.Lane = min(lead, join)
					d := asks(t.Context(), c, third)
					if n := b.calls.Load(); n != want {
						t.Errorf("%d calls after the third, want %d", n, want)
					}
					for _, r := range []reply{<-a, <-b2, <-d} {
						if r.err != nil {
							t.Error(r.err)
						}
					}
				})
			})
		}
	}
}

func TestWhatConcernsTheLeaderAloneIsNotShared(t *testing.T) {
	for _, kind := range []core.ErrorKind{core.Superseded, core.DeadlineExceeded, core.Canceled} {
		t.Run(string(kind), func(t *testing.T) {
			b := &below{}
			b.answer = func(ctx context.Context, req *core.Request) (*core.Result, error) {
				time.Sleep(time.Second)
				if b.calls.Load() == 1 {
					return nil, &core.Error{Kind: kind, Stage: "queue"}
				}
				return echo(ctx, req)
			}
			bubble(t, b, func(t *testing.T, s *Stage, c core.Translator) {
				leader := asks(t.Context(), c, request("x"))
				var joiners []<-chan reply
				for range 3 {
					joiners = append(joiners, asks(t.Context(), c, request("x")))
				}
				if l := <-leader; core.KindOf(l.err) != kind {
					t.Errorf("the leader got %v", l.err)
				}
				paid := 0
				for _, ch := range joiners {
					j := <-ch
					if j.err != nil || j.after != 2*time.Second {
						t.Errorf("a joiner got %v after %v", j.err, j.after)
					} else if !j.res.Cached {
						paid++
					}
				}
				if n := b.calls.Load(); n != 2 || paid != 1 {
					t.Errorf("%d calls, %d joiners paid; want 2 and 1", n, paid)
				}
			})
		})
	}
}

func TestJoinerOutlivesTheDeadlineOfTheLeader(t *testing.T) {
	b := &below{answer: takes(3 * time.Second)}
	bubble(t, b, func(t *testing.T, s *Stage, c core.Translator) {
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		leader := asks(short, c, request("x"))
		joiner := asks(t.Context(), c, request("x"))
		if l := <-leader; core.KindOf(l.err) != core.DeadlineExceeded || l.after != time.Second {
			t.Errorf("the leader got %v after %v", l.err, l.after)
		}
		if j := <-joiner; j.err != nil || j.after != 4*time.Second {
			t.Errorf("the joiner got %v after %v, want an answer of its own after 1s + 3s", j.err, j.after)
		}
	})
}

func TestFlightKeepsTheDeadlineOfALeaderWhoLeft(t *testing.T) {
	var told time.Time
	b := &below{answer: func(ctx context.Context, req *core.Request) (*core.Result, error) {
		if told.IsZero() {
			told, _ = ctx.Deadline()
		}
		return takes(3*time.Second)(ctx, req)
	}}
	bubble(t, b, func(t *testing.T, s *Stage, c core.Translator) {
		began := time.Now()
		two, done := context.WithTimeout(t.Context(), 2*time.Second)
		defer done()
		ctx, leave := context.WithCancel(two)
		leader := asks(ctx, c, request("x"))
		joiner := asks(t.Context(), c, request("x"))
		time.Sleep(time.Second)
		leave()
		if l := <-leader; core.KindOf(l.err) != core.Canceled {
			t.Errorf("the leader got %v", l.err)
		}
		if j := <-joiner; j.err != nil || j.after != 5*time.Second {
			t.Errorf("the joiner got %v after %v, want an answer of its own after 2s + 3s", j.err, j.after)
		}
		if told.Sub(began) != 2*time.Second {
			t.Errorf("below was told to end after %v, want 2s", told.Sub(began))
		}
	})
}

func TestDeadlineIsBlamedOnTheStageThatTookTheTime(t *testing.T) {
	b := &below{answer: takes(time.Hour)}
	bubble(t, b, func(t *testing.T, s *Stage, c core.Translator) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		r := <-asks(ctx, c, request("x"))
		if e := core.AsError(r.err, ""); e.Kind != core.DeadlineExceeded || e.Stage != "below" || r.after != time.Second {
			t.Errorf("%v after %v", e, r.after)
		}
	})
}

func TestCallerLeavesInTimeWhateverRunsBelow(t *testing.T) {
	stuck := make(chan struct{})
	b := &below{answer: func(ctx context.Context, req *core.Request) (*core.Result, error) {
		<-stuck
		return echo(ctx, req)
	}}
	bubble(t, b, func(t *testing.T, s *Stage, c core.Translator) {
		stuck = make(chan struct{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		r := <-asks(ctx, c, request("x"))
		if e := core.AsError(r.err, ""); e.Kind != core.DeadlineExceeded || e.Stage != "cache" || r.after > time.Second+parting {
			t.Errorf("%v after %v", e, r.after)
		}
		close(stuck)
	})
}

func TestFailureOfTheProviderIsShared(t *testing.T) {
	failure := &core.Error{Kind: core.ProviderFailed, Stage: "openai"}
	b := &below{answer: func(context.Context, *core.Request) (*core.Result, error) {
		time.Sleep(time.Second)
		return nil, failure
	}}
	bubble(t, b, func(t *testing.T, s *Stage, c core.Translator) {
		l, watchL := linked(t, s, b)
		leader, joiner := asks(t.Context(), l, request("x")), asks(t.Context(), l, request("x"))
		for _, r := range []reply{<-leader, <-joiner} {
			if r.err != failure {
				t.Errorf("got %v", r.err)
			}
		}
		if n := b.calls.Load(); n != 1 {
			t.Errorf("%d calls", n)
		}
		watchL.Measure(func(m core.Measure) {
			if m.Name == "stage_errors_total" && m.Labels[1] == "cache" {
				t.Errorf("counted as an error of the cache: %+v", m)
			}
			if m.Name == "stage_passed_errors_total" && m.Labels[1] == "cache" && m.Value != 2 {
				t.Errorf("%v errors passed on, want 2", m.Value)
			}
		})
	})
}

func TestNoCacheNeitherJoinsNorIsJoined(t *testing.T) {
	b := &below{answer: takes(time.Second)}
	bubble(t, b, func(t *testing.T, s *Stage, c core.Translator) {
		fresh := func() *core.Request { r := request("x"); r.NoCache = true; return r }
		var all []<-chan reply
		for _, req := range []*core.Request{fresh(), request("x"), fresh(), request("x")} {
			all = append(all, asks(t.Context(), c, req))
		}
		if n := b.calls.Load(); n != 3 {
			t.Errorf("%d calls, want 3: the two that may share do", n)
		}
		for i, ch := range all {
			if r := <-ch; r.err != nil || r.res.Cached != (i == 3) {
				t.Errorf("%d: %+v %v", i, r.res, r.err)
			}
		}
	})
}

// streams sends the words of the text one second apart.
func streams(ctx context.Context, req *core.Request) (*core.Result, error) {
	for _, word := range strings.SplitAfter(req.Text, " ") {
		time.Sleep(time.Second)
		if ctx.Err() != nil {
			return nil, core.ContextError(ctx, "below")
		}
		if req.OnDelta != nil {
			if err := req.OnDelta(word); err != nil {
				return nil, err
			}
		}
	}
	return echo(ctx, req)
}

// A reader notes what OnDelta brings it, and when.
type reader struct {
	got      []string
	slow     time.Duration
	gone     atomic.Bool
	inside   atomic.Bool
	problems []string
}

func (r *reader) read(text string) error {
	if r.inside.Swap(true) {
		r.problems = append(r.problems, "two calls at a time")
	}
	if r.gone.Load() {
		r.problems = append(r.problems, "called after the end")
	}
	time.Sleep(r.slow)
	r.got = append(r.got, text)
	r.inside.Store(false)
	return nil
}

func TestJoinerGetsTheTextSoFarFirst(t *testing.T) {
	bubble(t, &below{answer: streams}, func(t *testing.T, s *Stage, c core.Translator) {
		first, second, slow := &reader{}, &reader{}, &reader{slow: 2500 * time.Millisecond}
		with := func(r *reader) *core.Request {
			req := request("uno dos tres cuatro cinco")
			req.OnDelta = r.read
			return req
		}
		a := asks(t.Context(), c, with(first))
		d := asks(t.Context(), c, with(slow))
		time.Sleep(3500 * time.Millisecond)
		b := asks(t.Context(), c, with(second))
		ra, rb, rd := <-a, <-b, <-d
		for name, c := range map[string]struct {
			r     *reader
			reply reply
			want  []string
			after time.Duration
		}{
			"leader":      {first, ra, []string{"uno ", "dos ", "tres ", "cuatro ", "cinco"}, 5 * time.Second},
			"late joiner": {second, rb, []string{"uno dos tres ", "cuatro ", "cinco"}, 1500 * time.Millisecond},
			// It delays nobody, and what came meanwhile comes at once.
			"slow joiner": {slow, rd, []string{"uno ", "dos tres ", "cuatro cinco"}, 8500 * time.Millisecond},
		} {
			c.r.gone.Store(true)
			if c.reply.err != nil || c.reply.after != c.after {
				t.Errorf("%s: %v after %v, want %v", name, c.reply.err, c.reply.after, c.after)
			}
			if diff := cmp.Diff(c.want, c.r.got); diff != "" {
				t.Errorf("%s: %s", name, diff)
			}
			if c.r.problems != nil {
				t.Errorf("%s: %v", name, c.r.problems)
			}
		}
	})
}

func TestErrorOfAReaderEndsItsOwnCallAlone(t *testing.T) {
	b := &below{answer: streams}
	bubble(t, b, func(t *testing.T, s *Stage, c core.Translator) {
		closed := errors.New("the connection is closed")
		req := request("uno dos tres")
		req.OnDelta = func(string) error { return closed }
		leader, joiner := asks(t.Context(), c, req), asks(t.Context(), c, request("uno dos tres"))
		if l := <-leader; !errors.Is(l.err, closed) || l.after != time.Second {
			t.Errorf("%v after %v", l.err, l.after)
		}
		if j := <-joiner; j.err != nil || j.after != 3*time.Second || b.calls.Load() != 1 {
			t.Errorf("%v after %v, %d calls", j.err, j.after, b.calls.Load())
		}
	})
}

func TestPanicOfAReaderLeavesTheFlight(t *testing.T) {
	b := &below{answer: streams}
	bubble(t, b, func(t *testing.T, s *Stage, c core.Translator) {
		req := request("uno dos tres")
		req.OnDelta = func(string) error { panic("reader") }
		func() {
			defer func() { _ = recover() }()
			c.Translate(t.Context(), req)
		}()
		s.flights.running.Wait()
		if n := measured(s, "cache_flights"); n != 0 {
			t.Errorf("%v flights left", n)
		}
		if ask(t, c, request("uno dos tres")).Cached {
			t.Error("a flight that nobody waited for went on")
		}
	})
}

func TestPreviewIsNotStartedTwice(t *testing.T) {
	// The leader is superseded after words were shown: the joiner's own flight
	// cannot take them back, so it shows no others.
	b := &below{}
	b.answer = func(ctx context.Context, req *core.Request) (*core.Result, error) {
		if b.calls.Load() > 1 {
			return streams(ctx, req)
		}
		req.OnDelta("one ")
		time.Sleep(time.Second)
		return nil, &core.Error{Kind: core.Superseded}
	}
	bubble(t, b, func(t *testing.T, s *Stage, c core.Translator) {
		first, second := &reader{}, &reader{}
		with := func(r *reader) *core.Request { req := request("uno dos"); req.OnDelta = r.read; return req }
		leader, joiner := asks(t.Context(), c, with(first)), asks(t.Context(), c, with(second))
		<-leader
		if j := <-joiner; j.err != nil || strings.Join(second.got, "|") != "one " {
			t.Errorf("%v, shown %q", j.err, second.got)
		}
	})
}

// pins counts who keeps a generation open.
type pins struct{ n, most atomic.Int64 }

func (p *pins) Pin() func() {
	p.most.Store(max(p.most.Load(), p.n.Add(1)))
	return func() { p.n.Add(-1) }
}

func TestFlightPinsItsGenerationUntilItEnds(t *testing.T) {
	bubble(t, &below{answer: takes(time.Second)}, func(t *testing.T, s *Stage, c core.Translator) {
		generation := &pins{}
		req := request("x")
		req.Trace = core.NewTrace(generation)
		req.Linger = time.Hour
		ctx, leave := context.WithCancel(t.Context())
		r := asks(ctx, c, req)
		leave()
		<-r
		if n := generation.n.Load(); n != 1 {
			t.Errorf("%d pins with a flight on its way", n)
		}
		s.flights.running.Wait()
		if n := generation.n.Load(); n != 0 || generation.most.Load() != 1 {
			t.Errorf("%d pins after it, %d at most", n, generation.most.Load())
		}
	})
}

func TestTraceOfTheLeaderTellsWhatHappenedBelow(t *testing.T) {
	bubble(t, &below{answer: takes(time.Second)}, func(t *testing.T, s *Stage, c core.Translator) {
		l, _ := linked(t, s, &below{answer: takes(time.Second)})
		req := request("x")
		if _, err := l.Translate(t.Context(), req); err != nil {
			t.Fatal(err)
		}
		want := []core.Span{{Name: "provider", Self: time.Second}, {Name: "cache"}}
		if diff := cmp.Diff(want, req.Trace.Spans()); diff != "" {
			t.Error(diff)
		}
	})
}

func TestCloseEndsTheFlights(t *testing.T) {
	b := &below{answer: takes(time.Hour)}
	bubble(t, b, func(t *testing.T, s *Stage, c core.Translator) {
		r := asks(t.Context(), c, request("x"))
		fresh := request("x")
		fresh.NoCache = true
		q := asks(t.Context(), c, fresh)
		s.Close()
		for _, r := range []reply{<-r, <-q} {
			if core.KindOf(r.err) != core.Unavailable || r.after != 0 {
				t.Errorf("%v after %v", r.err, r.after)
			}
		}
		if n := measured(s, "cache_flights"); n != 0 {
			t.Errorf("%v flights left", n)
		}
	})
}

func TestRequestThatIsOverStartsNothing(t *testing.T) {
	b := &below{}
	bubble(t, b, func(t *testing.T, s *Stage, c core.Translator) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := c.Translate(ctx, request("x")); core.KindOf(err) != core.Canceled || b.calls.Load() != 0 {
			t.Errorf("%v, %d calls", err, b.calls.Load())
		}
	})
}

// TestTenThousandAtOnce: whatever callers do, each answer is that of its own
// text, each text that can be answered is answered, and nothing is left behind.
func TestTenThousandAtOnce(t *testing.T) {
	const callers, texts = 10_000, 300
	b := &below{}
	b.answer = func(ctx context.Context, req *core.Request) (*core.Result, error) {
		for i := range rand.IntN(4) {
			if req.OnDelta != nil {
				req.OnDelta(fmt.Sprint(req.Text, i, " "))
			}
			if ctx.Err() != nil {
				return nil, core.ContextError(ctx, "below")
			}
		}
		switch rand.IntN(20) {
		case 0:
			return nil, &core.Error{Kind: core.Superseded}
		case 1:
			return nil, &core.Error{Kind: core.ProviderFailed}
		case 2:
			panic("now and then")
		}
		return echo(ctx, req)
	}
	s := start(t, Config{MaxSize: 1 << 20, TTL: time.Hour})
	c := s.Wrap(b)
	var all sync.WaitGroup
	gate := make(chan struct{})
	for range callers {
		all.Go(func() {
			<-gate
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			req := request(fmt.Sprint("text ", rand.IntN(texts)))
			req.Lane = core.Lane(rand.IntN(int(core.Lanes)))
			req.NoCache = rand.IntN(20) == 0
			req.Linger = time.Duration(rand.IntN(2)) * time.Millisecond
			var over atomic.Bool
			leaves := rand.IntN(10) == 0
			req.OnDelta = func(text string) error {
				if over.Load() {
					t.Error("a delta after the end")
				}
				if !strings.HasPrefix(text, req.Text) {
					t.Errorf("%q was shown for %q", text, req.Text)
				}
				if leaves {
					cancel()
				}
				return nil
			}
			res, err := c.Translate(ctx, req)
			over.Store(true)
			switch kind := core.KindOf(err); {
			case err == nil && res.Text != "[es] "+req.Text:
				t.Errorf("%q was answered %q", req.Text, res.Text)
			case kind == core.Canceled && !leaves:
				t.Errorf("%q: %v without having left", req.Text, err)
			case kind == core.DeadlineExceeded:
				t.Errorf("%q: %v without a deadline", req.Text, err)
			}
		})
	}
	close(gate)
	all.Wait()
	s.flights.running.Wait()
	if n := measured(s, "cache_flights"); n != 0 || len(s.flights.joining) != 0 {
		t.Errorf("%v flights, %d of them open, are left", n, len(s.flights.joining))
	}
}

// What may still change is looked up and shared, and kept for nobody, unless somebody who
// wants it kept shares it.
func TestWhatIsTransientIsKeptForNobody(t *testing.T) {
	b := &below{answer: takes(time.Second)}
	bubble(t, b, func(t *testing.T, s *Stage, c core.Translator) {
		partial := func(text string) *core.Request {
			r := request(text)
			r.Transient = true
			return r
		}
		for _, step := range []struct {
			what  string
			asked []*core.Request
			calls int64
		}{
			{"a partial is asked for", []*core.Request{partial("x")}, 1},
			{"and again", []*core.Request{partial("x")}, 2},
			{"two share a call", []*core.Request{partial("x"), partial("x")}, 3},
			{"a final shares that of a partial", []*core.Request{partial("x"), request("x")}, 4},
			{"and is kept", []*core.Request{partial("x"), request("x")}, 4},
		} {
			var replies []<-chan reply
			for _, r := range step.asked {
				replies = append(replies, asks(t.Context(), c, r))
			}
			for _, r := range replies {
				if got := <-r; got.err != nil {
					t.Fatal(got.err)
				}
			}
			if n := b.calls.Load(); n != step.calls {
				t.Errorf("%s: %d calls, want %d", step.what, n, step.calls)
			}
		}
	})
}
