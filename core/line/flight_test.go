package line

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dragoman-mt/dragoman/core"
)

// A flight lets the first that starts, and no other.
type flight struct{ starts int }

func (*flight) Waits() {}

func (f *flight) Starts() error {
	if f.starts++; f.starts > 1 {
		return &core.Error{Kind: core.Canceled, Own: true}
	}
	return nil
}

func TestOfAFlightOnlyOneStarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(100)
		g := &pausing{until: time.Now().Add(time.Second)}
		gates := []core.Guard{{Name: "pause", Gate: g}}
		f := &flight{}
		var all sync.WaitGroup
		var mu sync.Mutex
		started, refused := 0, 0
		for _, client := range []string{"a", "b", "c", "d", "alone"} {
			all.Go(func() {
				req := &core.Request{Client: client, Target: "es", Flight: f}
				if client == "alone" {
					req.Flight = nil
				}
				turn, err := l.Turn(t.Context(), req, gates, How{})
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					started++
					turn.Give(core.Outcome{})
				} else if core.AsError(err, "").Own {
					refused++
				}
			})
		}
		all.Wait()
		if started != 2 || refused != 3 {
			t.Errorf("%d started and %d heard that another had, want 2 and 3", started, refused)
		}
		if _, err := l.Turn(t.Context(), &core.Request{Client: "late", Target: "es", Flight: f}, gates, How{}); err == nil {
			t.Error("one that came late started beside it")
		}
		if g.held != 0 || l.Waiting() != 0 {
			t.Errorf("%d turns are missing, %d wait", g.held, l.Waiting())
		}
	})
}

// A pausing gate lets nobody in for a while, and counts.
type pausing struct {
	until time.Time
	held  int
}

func (g *pausing) Take(_ *core.Request, now time.Time) (bool, time.Duration) {
	if wait := g.until.Sub(now); wait > 0 {
		return false, wait
	}
	g.held++
	return true, 0
}

func (g *pausing) Give(*core.Request, core.Outcome) { g.held-- }
