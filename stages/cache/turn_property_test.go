package cache

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/chain"
	"github.com/dragoman-mt/dragoman/core/coretest/property"
	"github.com/dragoman-mt/dragoman/stages/provider"
	"github.com/dragoman-mt/dragoman/stages/queue"
	"github.com/dragoman-mt/dragoman/stages/ratelimit"
)

// An asker is a request above a real line.
type asker struct {
	text            string
	client, session string
	segment         string
	revision        int64
	lane            core.Lane
	comes           time.Duration
	leaves, limit   time.Duration // counted from when it comes
	lingers         time.Duration
	listens, fresh  bool
}

func askers(texts []string, patient bool, most int) *rapid.Generator[[]asker] {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) asker {
		ms := func(name string, most int) time.Duration {
			return time.Duration(rapid.IntRange(0, most).Draw(t, name)) * 10 * time.Millisecond
		}
		a := asker{
			text:   rapid.SampledFrom(texts).Draw(t, "text"),
			client: rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "client"), session: rapid.SampledFrom([]string{"", "s", "t"}).Draw(t, "session"),
			lane:  core.Lane(rapid.IntRange(0, int(core.Lanes)-1).Draw(t, "lane")),
			comes: ms("comes", 150), leaves: time.Hour, limit: time.Hour,
		}
		if patient {
			return a
		}
		a.listens, a.fresh = rapid.Bool().Draw(t, "listens"), rapid.IntRange(0, 9).Draw(t, "fresh") == 0
		if rapid.Bool().Draw(t, "has a segment") {
			a.segment, a.revision = rapid.SampledFrom([]string{"1", "2"}).Draw(t, "segment"), int64(rapid.IntRange(1, 3).Draw(t, "revision"))
		}
		switch rapid.IntRange(0, 3).Draw(t, "patience") {
		case 0:
			a.leaves = 1 + ms("leaves", 300)
		case 1:
			a.limit = 1 + ms("limit", 300)
		}
		a.lingers = rapid.SampledFrom([]time.Duration{0, 0, time.Second}).Draw(t, "lingers")
		return a
	}), 1, most)
}

func (a asker) request() *core.Request {
	r := request(a.text)
	r.Client, r.Session, r.Segment, r.Revision, r.Lane, r.Linger, r.NoCache = a.client, a.session, a.segment, a.revision, a.lane, a.lingers, a.fresh
	r.Final = a.lane == core.LaneFinal
	return r
}

// above links a cache, if any, above a line and upstream.
func above(r *rapid.T, cache *Stage, q *queue.Stage, up core.TranslatorFunc) core.Translator {
	places := []chain.Place{
		{Name: "ratelimit", Item: ratelimit.New(ratelimit.Defaults())}, {Name: "queue", Item: q},
		{Name: "provider", Item: provider.New(core.Env{Name: "provider"}, provider.Config{Use: core.Names{"up"}, Retries: 1})},
	}
	if cache != nil {
		places = append([]chain.Place{{Name: "cache", Item: cache}}, places...)
	}
	l, err := chain.Link(places, func(string) (core.Provider, bool) {
		return core.Provider{Name: "up", Translator: up, Fingerprint: "x"}, true
	}, &chain.Watch{})
	if err != nil {
		r.Fatal(err)
	}
	return l
}

// Whatever lanes, clients, sessions, revisions, deadlines and pauses there are: a
// text is upstream once; each answer is that of its own text, and so is what was
// heard before; who can wait fails for no trouble but its own; and nothing is
// left, in the line or of the flights.
func TestATextIsUpstreamOnceWhoeverWaitsForIt(t *testing.T) {
	property.Few(t, 30)
	property.InBubbles(t, func(t *testing.T, r *rapid.T) {
		all := askers([]string{"quick", "slow", "failing", "limited"}, false, 25).Draw(r, "askers")
		slots := rapid.IntRange(1, 3).Draw(r, "slots")
		var mu sync.Mutex
		flying, calls := map[string]int{}, map[string]int{}
		count := func(req *core.Request, n int) (call int) {
			mu.Lock()
			defer mu.Unlock()
			if !req.NoCache {
				if flying[req.Text] += n; flying[req.Text] > 1 {
					r.Errorf("%q is upstream %d times at once", req.Text, flying[req.Text])
				}
			}
			if n > 0 {
				calls[req.Text]++
			}
			return calls[req.Text]
		}
		up := func(ctx context.Context, req *core.Request) (*core.Result, error) {
			call := count(req, 1)
			defer count(req, -1)
			res, _ := echo(ctx, req)
			for _, piece := range strings.SplitAfter(res.Text, " ") {
				select {
				case <-time.After(map[string]time.Duration{"quick": 50, "slow": 500, "failing": 150, "limited": 100}[req.Text] * time.Millisecond):
				case <-ctx.Done():
					return nil, core.ContextError(ctx, "up")
				}
				switch {
				case req.Text == "failing":
					return nil, &core.Error{Kind: core.ProviderFailed, Stage: "up", Retryable: call%2 == 0}
				case req.Text == "limited" && call%3 == 1:
					return nil, &core.Error{Kind: core.RateLimited, Stage: "up", Retryable: true, RetryAfter: 400 * time.Millisecond}
				}
				if req.OnDelta != nil {
					if err := req.OnDelta(piece); err != nil {
						return nil, err
					}
				}
			}
			return res, nil
		}
		s := New(core.Env{Name: "cache"}, small())
		if err := s.Start(t.Context()); err != nil {
			r.Fatal(err)
		}
		defer s.Close()
		q := queue.New(queue.Config{MaxConcurrent: slots, MaxWaiting: 1000})
		c := above(r, s, q, up)

		var waiting sync.WaitGroup
		for _, a := range all {
			waiting.Go(func() {
				time.Sleep(a.comes)
				ctx, cancel := context.WithTimeout(t.Context(), a.limit)
				defer cancel()
				ctx, leave := context.WithCancel(ctx)
				defer leave()
				defer time.AfterFunc(a.leaves, leave).Stop()
				req, heard := a.request(), ""
				var over atomic.Bool
				if a.listens {
					req.OnDelta = func(text string) error {
						if over.Load() {
							r.Errorf("%+v heard %q after the end", a, text)
						}
						heard += text
						return nil
					}
				}
				began := time.Now()
				res, err := c.Translate(ctx, req)
				over.Store(true)
				took := time.Since(began)
				if took > min(a.leaves, a.limit)+parting {
					r.Errorf("%+v was kept for %v", a, took)
				}
				want, _ := echo(ctx, req)
				if err == nil && (a.text == "failing" || res.Text != want.Text) || !strings.HasPrefix(want.Text, heard) {
					r.Errorf("%+v heard %q and got %+v", a, heard, res)
				}
				own := a.limit < time.Hour // the line may say so before it is over
				switch core.KindOf(err) {
				case "":
				case core.Canceled:
					own = took >= a.leaves
				case core.Superseded:
					own = false
					for _, o := range all {
						newer := o.revision > a.revision || o.revision == a.revision && o.lane == core.LaneFinal && a.lane != core.LaneFinal
						own = own || newer && o.segment == a.segment && o.client == a.client && o.session == a.session && a.segment != "" && a.session != ""
					}
				case core.ProviderFailed:
					own = a.text == "failing"
				case core.RateLimited:
					own = own || a.text == "limited"
				case core.DeadlineExceeded, core.Overloaded:
				default:
					own = false
				}
				if err != nil && !own {
					r.Errorf("%+v got %v after %v", a, err, took)
				}
			})
		}
		waiting.Wait()
		time.Sleep(2 * time.Hour) // more than what may linger
		s.flights.mu.Lock()
		left := len(s.flights.all) + len(s.flights.joining)
		s.flights.mu.Unlock()
		mu.Lock()
		defer mu.Unlock()
		for _, n := range flying {
			left += n
		}
		if left += q.Line().Waiting(); left != 0 {
			r.Errorf("%d flights, calls or waiting ones are left", left)
		}
	})
}

// Whoever joins waits no longer than it would if nobody shared anything, but for
// the one call that is under way.
func TestNobodyWaitsLongerForAFlightThanAlone(t *testing.T) {
	property.Few(t, 40)
	const call = 100 * time.Millisecond
	property.InBubbles(t, func(t *testing.T, r *rapid.T) {
		all := askers([]string{"u", "v", "w", "x", "y", "z"}, true, 30).Draw(r, "askers")
		play := func(cache *Stage) []time.Duration {
			q := queue.New(queue.Config{MaxConcurrent: 1, MaxWaiting: 1000})
			c := above(r, cache, q, func(ctx context.Context, req *core.Request) (*core.Result, error) {
				time.Sleep(call)
				return echo(ctx, req)
			})
			after := make([]time.Duration, len(all))
			var waiting sync.WaitGroup
			for i, a := range all {
				waiting.Go(func() {
					time.Sleep(a.comes + time.Duration(i)) // one after the other, in both plays
					began := time.Now()
					if _, err := c.Translate(t.Context(), a.request()); err != nil {
						r.Errorf("%+v got %v", a, err)
					}
					after[i] = time.Since(began)
				})
			}
			waiting.Wait()
			return after
		}
		alone := play(nil)
		s := New(core.Env{Name: "cache"}, small())
		if err := s.Start(t.Context()); err != nil {
			r.Fatal(err)
		}
		defer s.Close()
		for i, took := range play(s) {
			if took > alone[i]+call {
				r.Errorf("%+v waited for %v, and alone %v", all[i], took, alone[i])
			}
		}
	})
}
