package cache

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/chain"
	"github.com/dragoman-mt/dragoman/stages/provider"
	"github.com/dragoman-mt/dragoman/stages/queue"
	"github.com/dragoman-mt/dragoman/stages/ratelimit"
)

// In these tests the cache stands above a real line, so that flights know when
// they have their turn.

// A service is what is upstream. It notes who calls, and answers as it is told.
type service struct {
	mu      sync.Mutex
	asked   []string // texts
	answers []func(ctx context.Context, req *core.Request) (*core.Result, error)
}

func (u *service) Translate(ctx context.Context, req *core.Request) (*core.Result, error) {
	u.mu.Lock()
	u.asked = append(u.asked, req.Text)
	n := len(u.asked)
	u.mu.Unlock()
	return u.answers[min(n, len(u.answers))-1](ctx, req)
}

// calls returns how many came for one of texts, or for any when there are none.
func (u *service) calls(texts ...string) (n int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, text := range u.asked {
		if len(texts) == 0 || slices.Contains(texts, text) {
			n++
		}
	}
	return n
}

func answersAfter(d time.Duration) func(context.Context, *core.Request) (*core.Result, error) {
	return func(ctx context.Context, req *core.Request) (*core.Result, error) {
		select {
		case <-time.After(d):
			return &core.Result{Text: "es:" + req.Text}, nil
		case <-ctx.Done():
			return nil, core.ContextError(ctx, "up")
		}
	}
}

// lined runs test in a bubble with a cache above ratelimit, a queue and a
// provider.
func lined(t *testing.T, u *service, slots int, test func(t *testing.T, c core.Translator, s *Stage)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := New(core.Env{Name: "cache"}, small())
		if err := s.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		q := queue.Defaults()
		q.MaxConcurrent, q.MinInterval = slots, 0
		p := provider.New(core.Env{Name: "provider"}, provider.Config{Use: core.Names{"up"}, Retries: 1})
		l, err := chain.Link([]chain.Place{
			{Name: "cache", Item: s}, {Name: "ratelimit", Item: ratelimit.New(ratelimit.Defaults())},
			{Name: "queue", Item: queue.New(q)}, {Name: "provider", Item: p},
		}, func(string) (core.Provider, bool) {
			return core.Provider{Name: "up", Translator: u, Fingerprint: "x"}, true
		}, &chain.Watch{})
		if err != nil {
			t.Fatal(err)
		}
		test(t, l, s)
	})
}

// For is a request for text by client in lane.
func of(client, text string, lane core.Lane) *core.Request {
	return &core.Request{ID: client, Client: client, Text: text, Target: "es", Lane: lane, Trace: core.NewTrace(nil)}
}

func ends(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestATextIsUpstreamOnce(t *testing.T) {
	t.Run("bulk work and finals that leave", func(t *testing.T) {
		u := &service{answers: []func(context.Context, *core.Request) (*core.Result, error){answersAfter(time.Second)}}
		lined(t, u, 6, func(t *testing.T, c core.Translator, s *Stage) {
			all := []<-chan reply{asks(t.Context(), c, of("a", "x", core.LaneBulk))}
			for range 5 {
				time.Sleep(50 * time.Millisecond)
				ctx, leave := context.WithCancel(t.Context())
				final := asks(ctx, c, of("b", "x", core.LaneFinal))
				leave()
				if r := <-final; core.KindOf(r.err) != core.Canceled {
					t.Error(r.err)
				}
				all = append(all, asks(t.Context(), c, of("c", "x", core.LaneBulk)))
			}
			for _, ch := range all {
				if r := <-ch; r.err != nil {
					t.Error(r.err)
				}
			}
			if u.calls() != 1 {
				t.Errorf("%d calls", u.calls())
			}
		})
	})
	t.Run("a final joins the partial that has its turn", func(t *testing.T) {
		u := &service{answers: []func(context.Context, *core.Request) (*core.Result, error){answersAfter(300 * time.Millisecond)}}
		lined(t, u, 6, func(t *testing.T, c core.Translator, s *Stage) {
			partial := asks(t.Context(), c, of("a", "x", core.LanePartial))
			time.Sleep(250 * time.Millisecond)
			final := asks(t.Context(), c, of("a", "x", core.LaneFinal))
			p, f := <-partial, <-final
			if p.err != nil || f.err != nil || f.after != 50*time.Millisecond || u.calls() != 1 {
				t.Errorf("partial %v; final %v after %v; %d calls", p.err, f.err, f.after, u.calls())
			}
		})
	})
	t.Run("all begin while everybody is paused", func(t *testing.T) {
		u := &service{answers: []func(context.Context, *core.Request) (*core.Result, error){
			func(context.Context, *core.Request) (*core.Result, error) {
				return nil, &core.Error{Kind: core.RateLimited, RetryAfter: time.Second}
			}, answersAfter(100 * time.Millisecond),
		}}
		lined(t, u, 6, func(t *testing.T, c core.Translator, s *Stage) {
			<-asks(t.Context(), c, of("x", "other", core.LaneFinal)) // brings the pause
			var all []<-chan reply
			for i := range 30 {
				all = append(all, asks(t.Context(), c, of(fmt.Sprint("client ", i%10), "x", core.Lane(i%3))))
			}
			for _, ch := range all {
				if r := <-ch; r.err != nil {
					t.Error(r.err)
				}
			}
			if u.calls() != 2 {
				t.Errorf("%d calls", u.calls())
			}
		})
	})
}

// A client that has much before it in the line holds nobody up who wants one of
// its texts.
func TestAJoinerDoesNotInheritTheLeadersPlace(t *testing.T) {
	for _, c := range []struct {
		name     string
		lead, by core.Lane
	}{{"another client", core.LaneFinal, core.LaneFinal}, {"a higher lane", core.LaneBulk, core.LaneFinal}} {
		t.Run(c.name, func(t *testing.T) {
			u := &service{answers: []func(context.Context, *core.Request) (*core.Result, error){answersAfter(100 * time.Millisecond)}}
			lined(t, u, 1, func(t *testing.T, top core.Translator, s *Stage) {
				for i := range 20 {
					asks(t.Context(), top, of("a", fmt.Sprint("text ", i), c.lead))
				}
				leader := asks(t.Context(), top, of("a", "x", c.lead))
				joiner := <-asks(t.Context(), top, of("b", "x", c.by))
				l := <-leader
				if joiner.err != nil || joiner.after > 300*time.Millisecond {
					t.Errorf("the joiner: %v after %v", joiner.err, joiner.after)
				}
				if l.err != nil || l.after > joiner.after {
					t.Errorf("the leader: %v after %v", l.err, l.after)
				}
				if n := u.calls("x"); n != 1 {
					t.Errorf("%d calls", n)
				}
			})
		})
	}
}

func TestAJoinerNeverFailsForTheLeadersDeadline(t *testing.T) {
	limited := func(context.Context, *core.Request) (*core.Result, error) {
		time.Sleep(200 * time.Millisecond)
		return nil, &core.Error{Kind: core.RateLimited, RetryAfter: 2 * time.Second, Retryable: true}
	}
	for _, c := range []struct {
		name    string
		answers []func(context.Context, *core.Request) (*core.Result, error)
		behind  bool // another text has the one slot
		leads   time.Duration
		joins   time.Duration // later
		kind    core.ErrorKind
		calls   int // for the text
		after   time.Duration
	}{
		{"a pause outlasts it", []func(context.Context, *core.Request) (*core.Result, error){limited, answersAfter(100 * time.Millisecond)},
			true, time.Second, 0, core.RateLimited, 1, 0},
		{"it passes in the line", []func(context.Context, *core.Request) (*core.Result, error){answersAfter(2 * time.Second), answersAfter(100 * time.Millisecond)},
			true, time.Second, 0, core.DeadlineExceeded, 1, 2100 * time.Millisecond},
		{"it passes upstream", []func(context.Context, *core.Request) (*core.Result, error){answersAfter(3 * time.Second)},
			false, time.Second, 0, core.DeadlineExceeded, 1, 3 * time.Second},
		{"the joiner comes late", []func(context.Context, *core.Request) (*core.Result, error){answersAfter(3 * time.Second)},
			false, time.Second, 900 * time.Millisecond, core.DeadlineExceeded, 1, 2100 * time.Millisecond},
		{"the one who calls took the deadline at the start", []func(context.Context, *core.Request) (*core.Result, error){
			func(ctx context.Context, _ *core.Request) (*core.Result, error) {
				until, _ := ctx.Deadline()
				time.Sleep(time.Until(until))
				return nil, &core.Error{Kind: core.DeadlineExceeded, Retryable: true}
			}, answersAfter(time.Second)}, false, time.Second, 0, core.DeadlineExceeded, 2, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			u := &service{answers: c.answers}
			lined(t, u, 1, func(t *testing.T, top core.Translator, s *Stage) {
				if c.behind {
					asks(t.Context(), top, of("z", "other", core.LaneFinal))
				}
				leader := asks(ends(t, c.leads), top, of("a", "x", core.LaneFinal))
				time.Sleep(c.joins)
				joiner := <-asks(ends(t, 4500*time.Millisecond), top, of("b", "x", core.LaneFinal))
				l := <-leader
				if core.KindOf(l.err) != c.kind || l.after > c.leads {
					t.Errorf("the leader: %v after %v", l.err, l.after)
				}
				if joiner.err != nil || c.after > 0 && joiner.after != c.after {
					t.Errorf("the joiner: %v after %v", joiner.err, joiner.after)
				}
				if n := u.calls("x"); n != c.calls {
					t.Errorf("%d calls", n)
				}
			})
		})
	}
}

// A newer revision takes the place of the one that waits. Whoever else waits for
// the text of that one goes on waiting.
func TestASupersededLeaderLeavesTheFlightToTheOthers(t *testing.T) {
	for _, session := range []string{"its own", "the same"} {
		t.Run(session, func(t *testing.T) {
			u := &service{answers: []func(context.Context, *core.Request) (*core.Result, error){answersAfter(time.Second)}}
			lined(t, u, 1, func(t *testing.T, c core.Translator, s *Stage) {
				revision := func(client, segment, text string, n int64) *core.Request {
					r := of(client, text, core.LanePartial)
					r.Session, r.Segment, r.Revision = "s", segment, n
					return r
				}
				asks(t.Context(), c, of("z", "other", core.LaneFinal))
				leader := asks(t.Context(), c, revision("a", "1", "yes", 1))
				other := revision("b", "1", "yes", 1)
				if session == "the same" {
					other = revision("a", "2", "yes", 1)
				}
				joiner := asks(t.Context(), c, other)
				newer := asks(t.Context(), c, revision("a", "1", "yes sir", 2))
				if l := <-leader; core.KindOf(l.err) != core.Superseded || l.after != 0 {
					t.Errorf("the leader: %v after %v", l.err, l.after)
				}
				for name, ch := range map[string]<-chan reply{"joiner": joiner, "newer revision": newer} {
					if r := <-ch; r.err != nil || r.after > 3*time.Second {
						t.Errorf("the %s: %v after %v", name, r.err, r.after)
					}
				}
				if n := u.calls(); n != 3 {
					t.Errorf("%d calls", n)
				}
			})
		})
	}
}

// Who may not wait in the line, since that is full, still waits for those who
// do.
func TestAFullLineDoesNotRefuseAJoiner(t *testing.T) {
	u := &service{answers: []func(context.Context, *core.Request) (*core.Result, error){answersAfter(100 * time.Millisecond)}}
	lined(t, u, 1, func(t *testing.T, c core.Translator, s *Stage) {
		asks(t.Context(), c, of("z", "other", core.LaneFinal))
		var all []<-chan reply
		for i := range queue.Defaults().MaxWaiting + 500 {
			all = append(all, asks(t.Context(), c, of(fmt.Sprint("client ", i), "x", core.LaneFinal)))
		}
		for _, ch := range all {
			if r := <-ch; r.err != nil || r.after > 200*time.Millisecond {
				t.Fatalf("%v after %v", r.err, r.after)
			}
		}
		if u.calls() != 2 {
			t.Errorf("%d calls", u.calls())
		}
	})
}

// After a failure that passes, the call waits for another turn: whoever has
// joined by then, with a better place, asks in that place.
func TestARetryIsMadeInTheBestPlace(t *testing.T) {
	u := &service{answers: []func(context.Context, *core.Request) (*core.Result, error){
		func(ctx context.Context, req *core.Request) (*core.Result, error) {
			time.Sleep(500 * time.Millisecond)
			return nil, &core.Error{Kind: core.ProviderFailed, Retryable: true}
		}, answersAfter(100 * time.Millisecond),
	}}
	lined(t, u, 1, func(t *testing.T, c core.Translator, s *Stage) {
		leader := asks(t.Context(), c, of("a", "x", core.LaneBulk))
		for i := range 20 {
			asks(t.Context(), c, of("b", fmt.Sprint("text ", i), core.LanePartial))
		}
		final := <-asks(t.Context(), c, of("c", "x", core.LaneFinal))
		l := <-leader
		if final.err != nil || l.err != nil || final.after > 800*time.Millisecond {
			t.Errorf("the final: %v after %v; the leader: %v", final.err, final.after, l.err)
		}
		if n := u.calls("x"); n != 2 {
			t.Errorf("%d calls", n)
		}
	})
}
