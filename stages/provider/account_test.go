package provider

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/chain"
)

// A book is a gate that counts by account, and notes whose turn it was asked
// for, with what is asked.
type book struct {
	diary diary
	held  map[string]int
}

func (l *book) Scope() core.Scope { return core.ScopeAccount }

func (l *book) Take(req *core.Request, _ time.Time) (bool, time.Duration) {
	l.held[req.Account]++
	l.diary.note("take %s", l.tell(req))
	return true, 0
}

func (l *book) Give(req *core.Request, o core.Outcome) {
	l.held[req.Account]--
	ending := "ok"
	switch {
	case o.Unused:
		ending = "unused"
	case o.Err != nil:
		ending = string(o.Err.Kind)
	}
	if !o.Unused && o.Account != req.Account {
		ending += " of " + o.Account
	}
	l.diary.note("give %s %s", l.tell(req), ending)
}

// tell names the account of req, and says so when req is not the request that
// was asked for.
func (l *book) tell(req *core.Request) string {
	said := req.Account
	if req.Fallback {
		said += " (fallback)"
	}
	if req.Text != "hello" || req.Client != "c" || req.Target != "es" {
		said += " with nothing of the request"
	}
	return said
}

// Each attempt takes what it needs of the account that it is charged to, for the
// text that it is for, and tells that account how it went.
func TestEveryTurnIsAskedForWithTheAccountThatItIsFor(t *testing.T) {
	for _, c := range []struct {
		name  string
		cfg   Config
		main  []answer
		spare []answer
		want  string
	}{
		{"the first attempt", Config{}, []answer{well}, nil, "take account of main, give account of main ok"},
		{"a retry", Config{Retries: 1}, []answer{fails(core.ProviderFailed), well}, nil,
			"take account of main, give account of main provider_failed, take account of main, give account of main ok"},
		{"a fallback with the slot that is held", Config{}, []answer{fails(core.ProviderFailed)}, []answer{well},
			"take account of main, give account of main provider_failed, take account of spare1 (fallback), give account of spare1 (fallback) ok"},
		{"a fallback after a 429", Config{}, []answer{fails(core.RateLimited, 2*time.Second)}, []answer{well},
			"take account of main, give account of main rate_limited, take account of spare1 (fallback), give account of spare1 (fallback) ok"},
		{"a fallback that fails too", Config{}, []answer{fails(core.ProviderFailed)}, []answer{fails(core.BadAnswer)},
			"take account of main, give account of main provider_failed, take account of spare1 (fallback), give account of spare1 (fallback) bad_answer"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var spares [][]answer
				if c.spare != nil {
					spares = append(spares, c.spare)
				}
				b := newBench(c.cfg, c.main, spares...)
				l := &book{held: map[string]int{}}
				top, err := chain.Link([]chain.Place{{Name: "ratelimit", Item: l}, {Name: "queue", Item: &b.queue}, {Name: "provider", Item: b.stage}},
					func(name string) (core.Provider, bool) {
						p, ok := b.provider(name)
						p.Account = "account of " + name
						return p, ok
					}, &chain.Watch{})
				if err != nil {
					t.Fatal(err)
				}
				req := &core.Request{ID: "r", Client: "c", Text: "hello", Target: "es", Account: "what a client cannot say"}
				before := *req
				_, err = top.Translate(ends(t, time.Second), req)
				if (err == nil) == strings.HasSuffix(c.want, "bad_answer") {
					t.Errorf("%v", err)
				}
				if got := l.diary.String(); got != c.want {
					t.Errorf("\ngot  %s\nwant %s", got, c.want)
				}
				for account, n := range l.held {
					if n != 0 {
						t.Errorf("%d turns of %s are held", n, account)
					}
				}
				if req.Account != before.Account || req.Trace != nil {
					t.Errorf("the request has changed: %+v", req)
				}
			})
		})
	}
}

// A hedge is another call to the same account.
func TestAHedgeIsChargedToTheAccountOfTheFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(Config{Hedge: Hedge{After: "50ms"}}, []answer{func(ctx context.Context, req *core.Request) (*core.Result, error) {
			return hangs(time.Second)(ctx, req)
		}, well})
		l := &book{held: map[string]int{}}
		top, err := chain.Link([]chain.Place{{Name: "ratelimit", Item: l}, {Name: "queue", Item: &b.queue}, {Name: "provider", Item: b.stage}}, b.provider, &chain.Watch{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := top.Translate(ends(t, 2*time.Second), &core.Request{Client: "c", Text: "hello", Target: "es"}); err != nil {
			t.Fatal(err)
		}
		b.stage.running.Wait()
		// A provider that names no account has one of its own.
		if got := l.diary.String(); strings.Count(got, "take main") != 2 || strings.Count(got, "give main") != 2 || l.held["main"] != 0 {
			t.Errorf("%s", got)
		}
	})
}
