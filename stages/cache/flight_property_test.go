package cache

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/coretest/property"
)

// A passenger is a caller who comes at a time, and leaves after another unless
// it has its answer.
type passenger struct {
	text          string
	comes, leaves time.Duration
	limit         time.Duration // its deadline, counted from when it comes
	lane          core.Lane
	lingers       time.Duration
	listens       bool
}

func passengers(patient bool) *rapid.Generator[[]passenger] {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) passenger {
		ms := func(name string, most int) time.Duration {
			return time.Duration(rapid.IntRange(1, most).Draw(t, name)) * time.Millisecond
		}
		p := passenger{
			text:  rapid.SampledFrom([]string{"quick", "slow", "failing"}).Draw(t, "text"),
			comes: ms("comes", 4000), leaves: time.Hour, limit: time.Hour,
			lane: core.Lane(rapid.IntRange(0, int(core.Lanes)-1).Draw(t, "lane")), listens: rapid.Bool().Draw(t, "listens"),
		}
		if !patient {
			p.leaves, p.limit = ms("leaves", 4000), ms("limit", 4000)
			p.lingers = rapid.SampledFrom([]time.Duration{0, 0, time.Second}).Draw(t, "lingers")
		}
		return p
	}), 1, 20)
}

// Callers come and leave as they like. Whoever gets an answer gets that to its
// own text, and heard nothing else before; whoever gets none left, ran out of
// time, or was told what happened below. Nobody waits longer than it wants, few
// calls are made for a text at the same time, and nothing is left.
func TestNobodyGetsAnothersAnswerAndNobodyIsKept(t *testing.T) {
	property.Few(t, 40)
	property.InBubbles(t, func(t *testing.T, r *rapid.T) { fly(t, r, passengers(false).Draw(r, "passengers")) })
}

// While all stay, a text that can be translated is asked for once in each lane
// that could not join a lower one.
func TestPatientCallersShareTheirCalls(t *testing.T) {
	property.Few(t, 40)
	property.InBubbles(t, func(t *testing.T, r *rapid.T) {
		all := passengers(true).Draw(r, "passengers")
		for i := range all {
			all[i].lane = core.LanePartial
		}
		for text, calls := range fly(t, r, all) {
			if text != "failing" && calls != 1 {
				r.Errorf("%d calls for %q", calls, text)
			}
		}
	})
}

// fly plays what happens, checks it, and returns how often each text was asked
// for below.
func fly(t *testing.T, r *rapid.T, all []passenger) map[string]int {
	var (
		mu        sync.Mutex
		now, asks = map[string]int{}, map[string]int{}
	)
	count := func(text string, n int) {
		mu.Lock()
		defer mu.Unlock()
		if now[text] += n; n > 0 {
			asks[text]++
		}
		if now[text] > int(core.Lanes) {
			r.Errorf("%d calls for %q at once", now[text], text)
		}
	}
	b := &below{answer: func(ctx context.Context, req *core.Request) (*core.Result, error) {
		count(req.Text, 1)
		defer count(req.Text, -1)
		res, _ := echo(ctx, req)
		pieces := strings.SplitAfter(res.Text, " ")
		for _, piece := range pieces {
			select {
			case <-time.After(map[string]time.Duration{"quick": 100, "slow": 1000, "failing": 300}[req.Text] * time.Millisecond):
			case <-ctx.Done():
				return nil, core.ContextError(ctx, "below")
			}
			if req.Text == "failing" {
				return nil, &core.Error{Kind: core.ProviderFailed, Stage: "below"}
			}
			if req.OnDelta != nil {
				if err := req.OnDelta(piece); err != nil {
					return nil, err
				}
			}
		}
		return res, nil
	}}
	s := New(core.Env{Name: "cache"}, small())
	if err := s.Start(t.Context()); err != nil {
		r.Fatal(err)
	}
	defer s.Close()
	c := s.Wrap(b)

	var waiting sync.WaitGroup
	for _, p := range all {
		waiting.Go(func() {
			time.Sleep(p.comes)
			ctx, cancel := context.WithTimeout(t.Context(), p.limit)
			defer cancel()
			ctx, leave := context.WithCancel(ctx)
			defer leave()
			defer time.AfterFunc(p.leaves, leave).Stop()
			req := request(p.text)
			req.Lane, req.Linger = p.lane, p.lingers
			heard := ""
			if p.listens {
				req.OnDelta = func(text string) error { heard += text; return nil }
			}
			began := time.Now()
			res, err := c.Translate(ctx, req)
			took := time.Since(began)
			if took > min(p.leaves, p.limit)+parting {
				r.Errorf("%+v was kept for %v", p, took)
			}
			want, _ := echo(ctx, req)
			switch core.KindOf(err) {
			case "":
				if p.text == "failing" || res.Text != want.Text || !strings.HasPrefix(want.Text, heard) {
					r.Errorf("%+v heard %q and got %q", p, heard, res.Text)
				}
			case core.Canceled:
				if took < p.leaves {
					r.Errorf("%+v got %v after %v", p, err, took)
				}
			case core.DeadlineExceeded:
				if took < p.limit {
					r.Errorf("%+v got %v after %v", p, err, took)
				}
			default:
				if p.text != "failing" {
					r.Errorf("%+v got %v", p, err)
				}
			}
		})
	}
	waiting.Wait()
	time.Sleep(2 * time.Hour) // more than what may linger
	s.flights.mu.Lock()
	left := len(s.flights.all) + len(s.flights.joining)
	s.flights.mu.Unlock()
	if left != 0 {
		r.Errorf("%d flights are left", left)
	}
	return asks
}
