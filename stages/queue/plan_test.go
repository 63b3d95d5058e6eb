package queue

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/line"
)

func plan(t *testing.T, s *Stage, c Config) {
	t.Helper()
	apply, err := s.Plan(&c)
	if err != nil {
		t.Fatal(err)
	}
	apply()
	synctest.Wait()
}

// A crowd asks for turns and notes who starts when.
type crowd struct {
	t     *testing.T
	stage *Stage
	began time.Time
	all   sync.WaitGroup

	mu      sync.Mutex
	starts  []string
	at      []time.Duration
	running int
	most    int // at once since it was reset
}

// ask asks for a turn and holds it for so long.
func (c *crowd) ask(req *core.Request, hold time.Duration) {
	c.all.Go(func() {
		turn, err := c.stage.Line().Turn(c.t.Context(), req, guard(c.stage), line.How{})
		if err != nil {
			c.t.Error(req.ID, err)
			return
		}
		c.mu.Lock()
		c.starts, c.at = append(c.starts, req.ID), append(c.at, time.Since(c.began))
		c.running++
		c.most = max(c.most, c.running)
		c.mu.Unlock()
		time.Sleep(hold)
		c.mu.Lock()
		c.running--
		c.mu.Unlock()
		turn.Give(core.Outcome{})
	})
	synctest.Wait()
}

func (c *crowd) count() (started, running int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.starts), c.running
}

func TestMoreSlotsServeWhoWaitsAtOnceAndInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{MaxConcurrent: 1, MaxWaiting: 1000})
		c := &crowd{t: t, stage: s, began: time.Now()}
		if s.Holds() != "" {
			t.Errorf("an empty line holds %q", s.Holds())
		}
		const sessions, each = 25, 20
		c.ask(&core.Request{ID: "holds the slot"}, time.Hour)
		want := map[string][]string{}
		for i := range each {
			for j := range sessions {
				name := fmt.Sprint("session ", j)
				id := fmt.Sprint(name, ", text ", i)
				want[name] = append(want[name], id)
				c.ask(&core.Request{ID: id, Session: name}, time.Second)
			}
		}
		if got := s.Holds(); got != "500 waiting" {
			t.Errorf("holds %q", got)
		}
		plan(t, s, Config{MaxConcurrent: 501, MaxWaiting: 10})
		if n, running := c.count(); n != 501 || running != 501 {
			t.Fatalf("%d have started, %d run", n, running)
		}
		// That several run does not tell in which order they were let through, so
		// once more, with one slot more at a time.
		c.all.Wait()
		c.starts = nil
		plan(t, s, Config{MaxConcurrent: 1, MaxWaiting: 1000})
		c.ask(&core.Request{ID: "holds the slot"}, time.Hour)
		for i := range each {
			for name := range want {
				c.ask(&core.Request{ID: want[name][i], Session: name}, time.Minute)
			}
		}
		for slots := 2; slots <= 501; slots++ {
			plan(t, s, Config{MaxConcurrent: slots, MaxWaiting: 1000})
			if n, _ := c.count(); n != slots {
				t.Fatalf("%d have started with %d slots", n, slots)
			}
		}
		for name, ids := range want {
			var got []string
			for _, id := range c.starts {
				if slices.Contains(ids, id) {
					got = append(got, id)
				}
			}
			if !slices.Equal(got, ids) {
				t.Errorf("%s started in the order %v", name, got)
			}
		}
		c.all.Wait()
		if s.Holds() != "" || s.inFlight != 0 {
			t.Errorf("at the end it holds %q, and %d slots are taken", s.Holds(), s.inFlight)
		}
	})
}

func TestFewerSlotsStartNothingUntilEnoughHaveEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{MaxConcurrent: 8, MaxWaiting: 100})
		c := &crowd{t: t, stage: s, began: time.Now()}
		for i := range 8 {
			c.ask(&core.Request{ID: fmt.Sprint(i)}, time.Duration(i+1)*time.Second)
		}
		for i := range 6 {
			c.ask(&core.Request{ID: fmt.Sprint("late ", i)}, time.Second/2)
		}
		plan(t, s, Config{MaxConcurrent: 3, MaxWaiting: 2}) // less room than wait, too
		if s.Holds() != "6 waiting" {
			t.Errorf("holds %q", s.Holds())
		}
		if _, err := s.Line().Turn(t.Context(), &core.Request{}, guard(s), line.How{}); core.KindOf(err) != core.Overloaded {
			t.Errorf("error %v, want overloaded", err)
		}
		time.Sleep(5*time.Second + time.Second/10) // 5 of 8 have ended
		if n, running := c.count(); n != 8 || running != 3 {
			t.Errorf("%d have started, %d run; want 8 and 3", n, running)
		}
		c.mu.Lock()
		c.most = 0
		c.mu.Unlock()
		c.all.Wait()
		if n, _ := c.count(); n != 14 || c.most > 3 {
			t.Errorf("%d have started, at most %d at once; want 14 and 3", n, c.most)
		}
	})
}

func TestTheIntervalChangesThoughATimerIsSet(t *testing.T) {
	for _, tc := range []struct {
		name         string
		first, then  time.Duration
		second, last time.Duration // when the second and the third start
	}{
		{"shorter", 10 * time.Second, 2 * time.Second, 3 * time.Second, 5 * time.Second}, // 2 s after the first is over by then
		{"longer", 5 * time.Second, 20 * time.Second, 20 * time.Second, 40 * time.Second},
		{"none", 10 * time.Second, 0, 3 * time.Second, 3 * time.Second},
		{"the same", 10 * time.Second, 10 * time.Second, 10 * time.Second, 20 * time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := New(Config{MaxConcurrent: 9, MinInterval: tc.first, MaxWaiting: 9})
				c := &crowd{t: t, stage: s, began: time.Now()}
				for i := range 3 {
					c.ask(&core.Request{ID: fmt.Sprint(i)}, time.Millisecond)
				}
				time.Sleep(3 * time.Second)
				plan(t, s, Config{MaxConcurrent: 9, MinInterval: tc.then, MaxWaiting: 9})
				c.all.Wait()
				if want := []time.Duration{0, tc.second, tc.last}; !slices.Equal(c.at, want) {
					t.Errorf("starts at %v, want %v", c.at, want)
				}
			})
		})
	}
}

// Whoever leaves while limits change takes nothing along.
func TestChangesUnderLoadLoseNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{MaxConcurrent: 2, MaxWaiting: 1000})
		var all sync.WaitGroup
		for i := range 400 {
			all.Go(func() {
				time.Sleep(time.Duration(i%100) * 10 * time.Millisecond)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if i%7 == 0 {
					defer time.AfterFunc(time.Duration(i)*time.Millisecond, cancel).Stop()
				}
				turn, err := s.Line().Turn(ctx, &core.Request{Session: fmt.Sprint(i % 9)}, guard(s), line.How{})
				if err != nil {
					if i%7 != 0 {
						t.Error(err)
					}
					return
				}
				time.Sleep(20 * time.Millisecond)
				turn.Give(core.Outcome{Unused: i%5 == 0})
			})
		}
		for i := range 60 {
			time.Sleep(15 * time.Millisecond)
			plan(t, s, Config{MaxConcurrent: 1 + i*7%13, MinInterval: time.Duration(i%4) * time.Millisecond, MaxWaiting: 1000})
		}
		all.Wait()
		if s.inFlight != 0 || s.Holds() != "" {
			t.Errorf("%d slots are held at the end, %s", s.inFlight, s.Holds())
		}
	})
}
