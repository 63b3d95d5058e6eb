package line

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/dragoman-mt/dragoman/core"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A door is a gate for tests: slots, an interval, a pause. It counts what it is
// asked.
type door struct {
	mu       sync.Mutex
	slots    int
	interval time.Duration
	until    time.Time // of a pause
	last     time.Time
	before   time.Time
	asked    int
	taken    int
	unused   int
}

func (d *door) Take(_ *core.Request, now time.Time) (bool, time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked++
	if wait := d.until.Sub(now); wait > 0 {
		return false, wait
	}
	if d.taken >= d.slots {
		return false, 0
	}
	if wait := d.interval - now.Sub(d.last); wait > 0 {
		return false, wait
	}
	d.taken++
	d.before, d.last = d.last, now
	return true, 0
}

func (d *door) Give(_ *core.Request, o core.Outcome) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.taken--
	if o.Unused {
		d.unused++
		d.last = d.before
	}
	if o.Err != nil && o.Err.Kind == core.RateLimited {
		d.until = o.At.Add(o.Err.RetryAfter)
	}
}

func (d *door) held() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.taken
}

// Scope is everybody: a door is as shut for one as for another.
func (*door) Scope() core.Scope { return core.ScopeAll }

// An owner is a door that says so.
type owner struct {
	door
	line *Line
}

func (o *owner) Line() *Line { return o.line }

func guard(gates ...core.Gate) []core.Guard {
	var g []core.Guard
	for i, gate := range gates {
		g = append(g, core.Guard{Name: fmt.Sprintf("gate%d", i+1), Gate: gate})
	}
	return g
}

// A crowd asks for turns in goroutines of its own and notes in which order they
// start.
type crowd struct {
	t     *testing.T
	line  *Line
	gates []core.Guard

	mu     sync.Mutex
	starts []string
	errs   map[string]error
	turns  map[string]*Turn
}

func newCrowd(t *testing.T, l *Line, gates ...core.Gate) *crowd {
	return &crowd{t: t, line: l, gates: guard(gates...), errs: map[string]error{}, turns: map[string]*Turn{}}
}

// ask asks for a turn and returns when it is known whether that has to wait.
func (c *crowd) ask(ctx context.Context, id string, req core.Request, how How) {
	req.ID = id
	go func() {
		turn, err := c.line.Turn(ctx, &req, c.gates, how)
		c.mu.Lock()
		defer c.mu.Unlock()
		if err != nil {
			c.errs[id] = err
			return
		}
		c.starts = append(c.starts, id)
		c.turns[id] = turn
	}()
	synctest.Wait()
}

func (c *crowd) give(id string, o core.Outcome) {
	c.mu.Lock()
	turn := c.turns[id]
	delete(c.turns, id)
	c.mu.Unlock()
	if turn == nil {
		c.t.Fatalf("%s has no turn", id)
	}
	turn.Give(o)
	synctest.Wait()
}

// drain gives turns back, one after the other, until nobody holds one, and
// returns who started in which order.
func (c *crowd) drain() []string {
	for {
		c.mu.Lock()
		id := ""
		for id = range c.turns {
			break
		}
		starts := c.starts
		c.mu.Unlock()
		if id == "" {
			return starts
		}
		c.give(id, core.Outcome{})
	}
}

// refused checks that id got no turn for this reason.
func (c *crowd) refused(id string, kind core.ErrorKind, stage string) *core.Error {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	var e *core.Error
	if !errors.As(c.errs[id], &e) {
		c.t.Fatalf("%s: error %v, want %s", id, c.errs[id], kind)
	}
	if e.Kind != kind || e.Stage != stage {
		c.t.Fatalf("%s: %v, want %s of %s", id, e, kind, stage)
	}
	return e
}

// waits checks that id got neither a turn nor an error.
func (c *crowd) waits(ids ...string) {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, id := range ids {
		if c.errs[id] != nil || slices.Contains(c.starts, id) {
			c.t.Fatalf("%s does not wait: error %v, starts %v", id, c.errs[id], c.starts)
		}
	}
}

func (c *crowd) started(want ...string) {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if !slices.Equal(c.starts, want) {
		c.t.Fatalf("started %v, want %v", c.starts, want)
	}
}

// empty checks that the line remembers nobody.
func (c *crowd) empty() {
	c.t.Helper()
	l := c.line
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.waiting != 0 || l.out != 0 || len(l.segments) != 0 || len(l.tracks) != 0 {
		c.t.Errorf("the line remembers %d waiting, %d out, %d segments, %d tracks", l.waiting, l.out, len(l.segments), len(l.tracks))
	}
	for i := range l.lanes {
		if ln := &l.lanes[i]; len(ln.sessions) != 0 || ln.ring.n != 0 || ln.ring.front != nil || ln.waiting != 0 || ln.takes != 0 {
			c.t.Errorf("lane %s remembers %d sessions, %d in its ring, %d waiting that take %v", core.Lane(i), len(ln.sessions), ln.ring.n, ln.waiting, ln.takes)
		}
	}
	if len(l.clients) != 0 || l.weights.most != 0 || l.running != 0 {
		c.t.Errorf("the line remembers %d clients, of which one has %d waiting, and calls that take %v", len(l.clients), l.weights.most, l.running)
	}
}

var bg = context.Background()

func TestFreeTurnIsGivenAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &door{slots: 1}
		l := New(0) // nobody may wait
		turn, err := l.Turn(bg, &core.Request{}, guard(d), How{})
		if err != nil {
			t.Fatal(err)
		}
		if turn.Waits() != nil || turn.Paced() != 0 || !turn.Since().Equal(time.Now()) {
			t.Errorf("waits %v, paced %v, since %v", turn.Waits(), turn.Paced(), turn.Since())
		}
		turn.Give(core.Outcome{})
		turn.Give(core.Outcome{}) // ignored
		if d.held() != 0 {
			t.Errorf("%d slots are held after a turn was given twice", d.held())
		}
	})
}

func TestRefusalGivesBackWhatWasTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, second := &door{slots: 9}, &door{slots: 1}
		c := newCrowd(t, New(10), first, second)
		c.ask(bg, "a", core.Request{}, How{})
		c.ask(bg, "b", core.Request{}, How{})
		c.waits("b")
		if first.held() != 1 || first.unused == 0 {
			t.Errorf("the first gate counts %d held and %d unused, want 1 and some", first.held(), first.unused)
		}
		c.drain()
		c.started("a", "b")
		c.empty()
	})
}

func TestFinalsBeforePartialsBeforeBulk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, New(10), &door{slots: 1})
		c.ask(bg, "held", core.Request{}, How{})
		c.ask(bg, "bulk", core.Request{Lane: core.LaneBulk}, How{})
		c.ask(bg, "partial", core.Request{Lane: core.LanePartial}, How{})
		c.ask(bg, "final", core.Request{Lane: core.LaneFinal}, How{})
		c.drain()
		c.started("held", "final", "partial", "bulk")
		c.empty()
	})
}

func TestRetryKeepsItsSeniority(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, New(10), &door{slots: 1})
		c.ask(bg, "first", core.Request{Client: "x"}, How{})
		since := c.turns["first"].Since()
		time.Sleep(time.Millisecond)
		for i := range 3 {
			c.ask(bg, fmt.Sprint("later", i), core.Request{Client: "x"}, How{})
		}
		c.ask(bg, "retry", core.Request{Client: "x"}, How{Since: since})
		c.ask(bg, "between", core.Request{Client: "x"}, How{Since: since.Add(time.Microsecond)})
		c.drain()
		c.started("first", "retry", "between", "later0", "later1", "later2")
	})
}

func TestNowIsForTurnsThatAreFree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, New(10), &door{slots: 2})
		c.ask(bg, "a", core.Request{}, How{})
		c.ask(bg, "hedge", core.Request{}, How{Now: true})
		c.started("a", "hedge")
		c.ask(bg, "second", core.Request{}, How{Now: true})
		c.refused("second", core.Overloaded, "gate1")
		c.drain()
		c.empty()
	})
}

func TestNewerRevisionReplacesTheWaiting(t *testing.T) {
	rev := func(n int64, final bool) core.Request {
		lane := core.LanePartial
		if final {
			lane = core.LaneFinal
		}
		return core.Request{Client: "x", Session: "s", Segment: "1", Target: "es", Revision: n, Final: final, Lane: lane}
	}
	ask := func(t *testing.T, reqs map[string]core.Request, order ...string) *crowd {
		c := newCrowd(t, New(10), &door{slots: 1})
		c.ask(bg, "held", core.Request{}, How{})
		for _, id := range order {
			c.ask(bg, id, reqs[id], How{})
		}
		return c
	}
	cases := map[string]struct {
		reqs  map[string]core.Request
		order []string
		gone  []string
	}{
		"a newer partial":           {map[string]core.Request{"3": rev(3, false), "4": rev(4, false)}, []string{"3", "4"}, []string{"3"}},
		"an older one that is late": {map[string]core.Request{"3": rev(3, false), "4": rev(4, false)}, []string{"4", "3"}, []string{"3"}},
		"a final":                   {map[string]core.Request{"3": rev(3, false), "final": rev(9, true)}, []string{"3", "final"}, []string{"3"}},
		"a partial after the final": {map[string]core.Request{"3": rev(3, false), "final": rev(9, true)}, []string{"final", "3"}, []string{"3"}},
		"a final of the same number": {map[string]core.Request{"3": rev(3, false), "final": rev(3, true)},
			[]string{"3", "final"}, []string{"3"}},
		"two finals":        {map[string]core.Request{"3": rev(3, true), "4": rev(4, true)}, []string{"3", "4"}, nil},
		"the same revision": {map[string]core.Request{"3": rev(3, false), "again": rev(3, false)}, []string{"3", "again"}, nil},
		"another target": {map[string]core.Request{"3": rev(3, false), "fr": func() core.Request { r := rev(4, false); r.Target = "fr"; return r }()},
			[]string{"3", "fr"}, nil},
		"another client's session": {map[string]core.Request{"3": rev(3, false), "y": func() core.Request { r := rev(4, false); r.Client = "y"; return r }()},
			[]string{"3", "y"}, nil},
		"no session": {map[string]core.Request{"3": {Segment: "1", Revision: 3}, "4": {Segment: "1", Revision: 4}}, []string{"3", "4"}, nil},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := ask(t, tc.reqs, tc.order...)
				for _, id := range tc.gone {
					c.refused(id, core.Superseded, "gate1")
				}
				if starts := c.drain(); len(starts) != 1+len(tc.reqs)-len(tc.gone) {
					t.Errorf("started %v, want all but %v", starts, tc.gone)
				}
				c.empty()
			})
		})
	}
}

// A speaker whose revisions follow each other faster than turns come free must
// not lose his place with each of them.
func TestRevisionTakesOverThePlaceOfTheOneItReplaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, New(10), &door{slots: 1})
		c.ask(bg, "held", core.Request{}, How{})
		rev := func(n int64) core.Request {
			return core.Request{Session: "talks", Segment: "1", Revision: n, Lane: core.LanePartial}
		}
		c.ask(bg, "r1", rev(1), How{})
		c.ask(bg, "other", core.Request{Session: "other", Lane: core.LanePartial}, How{})
		c.ask(bg, "own", core.Request{Session: "talks", Segment: "2", Lane: core.LanePartial}, How{})
		time.Sleep(time.Second)
		c.ask(bg, "r2", rev(2), How{})
		c.drain()
		c.started("held", "r2", "other", "own")
	})
}

func TestWhoLeavesLeavesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, New(10), &door{slots: 1})
		c.ask(bg, "held", core.Request{}, How{})
		ctx, cancel := context.WithCancel(bg)
		c.ask(ctx, "leaver", core.Request{}, How{})
		c.ask(bg, "stays", core.Request{}, How{})
		cancel()
		synctest.Wait()
		c.refused("leaver", core.Canceled, "gate1")
		c.ask(ctx, "gone before", core.Request{}, How{})
		c.refused("gone before", core.Canceled, "gate1")
		c.drain()
		c.started("held", "stays")
		c.empty()
	})
}

// The first of the line may need more than those behind it.
func TestNextIsAskedWhenTheFirstLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &picky{}
		c := newCrowd(t, New(10), d)
		ctx, cancel := context.WithCancel(bg)
		c.ask(ctx, "long", core.Request{Text: "long"}, How{})
		c.ask(bg, "short", core.Request{}, How{})
		c.waits("long", "short")
		cancel()
		synctest.Wait()
		c.started("short")
	})
}

// A final goes before the bulk that a gate refused, and may need less.
func TestFinalIsAskedThoughTheGateRefusedBulk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(bg)
		c := newCrowd(t, New(10), &picky{})
		c.ask(ctx, "long bulk", core.Request{Text: "long", Lane: core.LaneBulk}, How{})
		c.ask(bg, "short bulk", core.Request{Lane: core.LaneBulk}, How{})
		c.ask(bg, "final", core.Request{}, How{})
		c.started("final")
		c.waits("long bulk", "short bulk")
		cancel()
		synctest.Wait()
	})
}

// picky refuses every text.
type picky struct{}

func (*picky) Take(req *core.Request, _ time.Time) (bool, time.Duration) {
	return req.Text == "", time.Hour
}
func (*picky) Give(*core.Request, core.Outcome) {}

func TestTurnThatMeetsALeaverGoesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &door{slots: 1}
		l := New(10)
		gates := guard(d)
		held, _ := l.Turn(bg, &core.Request{}, gates, How{})
		ctx, cancel := context.WithCancel(bg)
		w, _, _ := l.ask(&core.Request{}, gates, How{}, time.Time{})
		cancel()
		held.Give(core.Outcome{}) // w has the slot, and has not seen it
		l.leave(ctx, w)
		if core.KindOf(w.err) != core.Canceled || d.held() != 0 {
			t.Errorf("error %v, %d slots held; want canceled, none", w.err, d.held())
		}
	})
}

func TestTooManyWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, New(3), &door{slots: 1})
		c.ask(bg, "held", core.Request{}, How{})
		c.ask(bg, "bulk1", core.Request{Lane: core.LaneBulk}, How{})
		c.ask(bg, "partial", core.Request{Lane: core.LanePartial}, How{})
		c.ask(bg, "bulk2", core.Request{Lane: core.LaneBulk}, How{})
		c.ask(bg, "bulk3", core.Request{Lane: core.LaneBulk}, How{})
		if e := c.refused("bulk3", core.Overloaded, "gate1"); e.RetryAfter <= 0 || !e.Retryable {
			t.Errorf("retryable %v after %v", e.Retryable, e.RetryAfter)
		}
		for i, loser := range []string{"bulk2", "bulk1", "partial"} { // the youngest of the lowest lane
			c.ask(bg, fmt.Sprint("final", i), core.Request{}, How{})
			c.refused(loser, core.Overloaded, "gate1")
		}
		c.ask(bg, "final3", core.Request{}, How{})
		c.refused("final3", core.Overloaded, "gate1")

		c.line.SetMaxWaiting(4)
		c.ask(bg, "final4", core.Request{}, How{})
		c.waits("final4")
		c.drain()
		c.started("held", "final0", "final1", "final2", "final4")
		c.empty()
	})
}

// A newer revision needs no place of its own.
func TestRevisionReplacesInAFullLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, New(1), &door{slots: 1})
		c.ask(bg, "held", core.Request{}, How{})
		c.ask(bg, "r1", core.Request{Session: "s", Segment: "1", Revision: 1, Lane: core.LanePartial}, How{})
		c.ask(bg, "r2", core.Request{Session: "s", Segment: "1", Revision: 2, Lane: core.LanePartial}, How{})
		c.refused("r1", core.Superseded, "gate1")
		c.drain()
		c.started("held", "r2")
	})
}

func TestPauseFailsThoseItOutlasts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &door{slots: 1}
		c := newCrowd(t, New(10), d)
		within := func(d time.Duration) context.Context {
			ctx, cancel := context.WithTimeout(bg, d)
			t.Cleanup(cancel)
			return ctx
		}
		began := time.Now()
		c.ask(bg, "held", core.Request{}, How{})
		c.ask(within(6*time.Second), "long", core.Request{}, How{})
		c.ask(within(4*time.Second), "behind", core.Request{Lane: core.LaneBulk}, How{})
		c.ask(within(4*time.Second), "short", core.Request{Client: "x"}, How{})
		c.ask(bg, "ever", core.Request{}, How{})
		time.Sleep(time.Second)
		c.give("held", core.Outcome{Err: &core.Error{Kind: core.RateLimited, RetryAfter: 4 * time.Second}})

		for _, id := range []string{"short", "behind"} {
			if e := c.refused(id, core.RateLimited, "gate1"); e.RetryAfter != 4*time.Second {
				t.Errorf("%s: retry after %v, want 4s", id, e.RetryAfter)
			}
		}
		c.waits("long", "ever")
		time.Sleep(time.Second)
		c.ask(within(2*time.Second), "new", core.Request{Client: "y"}, How{})
		if e := c.refused("new", core.RateLimited, "gate1"); e.RetryAfter != 3*time.Second {
			t.Errorf("new: retry after %v, want 3s", e.RetryAfter)
		}
		if d := time.Since(began); d != 2*time.Second {
			t.Errorf("all that took %v, want 2s: they are failed at once", d)
		}
		time.Sleep(3 * time.Second)
		synctest.Wait()
		c.started("held", "long")
		if waits := c.turns["long"].Waits(); !slices.Equal(waits, []core.Span{{Name: "gate1", Self: 5 * time.Second}}) {
			t.Errorf("waits %v, want 5s of gate1", waits)
		}
		c.drain()
		c.empty()
	})
}

func TestDeadlineNamesTheGateThatRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, New(10), &door{slots: 9}, &door{slots: 1})
		c.ask(bg, "held", core.Request{}, How{})
		ctx, cancel := context.WithTimeout(bg, time.Second)
		defer cancel()
		c.ask(ctx, "late", core.Request{}, How{})
		time.Sleep(2 * time.Second)
		c.refused("late", core.DeadlineExceeded, "gate2")
		c.drain()
		c.empty()
	})
}

// run makes n attempts of d each, one after the other, with two waiting.
func run(c *crowd, n int, d time.Duration) {
	for i := range n + 2 {
		c.ask(bg, fmt.Sprint("run", i), core.Request{}, How{})
		if i >= 2 {
			time.Sleep(d)
			c.give(fmt.Sprint("run", i-2), core.Outcome{})
		}
	}
	c.drain()
}

func TestWhatCannotMakeItsDeadlineCostsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &door{slots: 1}
		c := newCrowd(t, New(100), d)
		short, cancel := context.WithTimeout(bg, time.Minute)
		defer cancel()
		run(c, 20, 300*time.Millisecond)

		// The line is free, but a call takes 300 ms and 100 ms are left.
		within := func(d time.Duration) context.Context {
			ctx, cancel := context.WithTimeout(bg, d)
			t.Cleanup(cancel)
			return ctx
		}
		c.ask(within(100*time.Millisecond), "too short", core.Request{}, How{})
		c.refused("too short", core.DeadlineExceeded, "gate1")
		c.ask(within(250*time.Millisecond), "perhaps", core.Request{}, How{}) // not clearly
		c.give("perhaps", core.Outcome{})

		// Ten wait, a start comes free every 300 ms, and 2 s are left.
		c.ask(bg, "held", core.Request{}, How{})
		for i := range 10 {
			c.ask(short, fmt.Sprint("waits", i), core.Request{Client: fmt.Sprint(i)}, How{})
		}
		var through int
		for i := range 20 {
			id := fmt.Sprint("hopeless", i)
			c.ask(within(2*time.Second), id, core.Request{Client: id}, How{})
			if c.errs[id] == nil {
				through++
				continue
			}
			if e := c.refused(id, core.Overloaded, "gate1"); e.RetryAfter < time.Second {
				t.Errorf("retry after %v, want about 3s", e.RetryAfter)
			}
		}
		if through != 2 {
			t.Errorf("%d of 20 were let through regardless, want 2", through)
		}
		c.ask(within(10*time.Second), "enough time", core.Request{Client: "y"}, How{})
		c.waits("enough time")

		// What was seen is forgotten.
		time.Sleep(3 * memory)
		c.ask(within(2*time.Second), "later", core.Request{Client: "z"}, How{})
		c.waits("later")
		c.drain()
		c.empty()
	})
}

func TestWhoWaitedTooLongDoesNotStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, New(100), &door{slots: 1})
		run(c, 20, 300*time.Millisecond)
		c.ask(bg, "held", core.Request{}, How{})
		ctx, cancel := context.WithTimeout(bg, time.Second)
		defer cancel()
		c.ask(ctx, "late", core.Request{}, How{})
		c.ask(bg, "next", core.Request{}, How{})
		time.Sleep(900 * time.Millisecond)
		c.give("held", core.Outcome{})
		c.refused("late", core.DeadlineExceeded, "gate1") // a call takes 300 ms, 100 are left
		if c.turns["next"] == nil {
			t.Error("the next did not start in its place")
		}
		c.drain()
	})
}

func TestWaitsAreByGateAndPacedIsTheInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(10)
		first := &door{slots: 9}
		q := &owner{door: door{slots: 1, interval: 400 * time.Millisecond}, line: l}
		c := newCrowd(t, l, first, q)
		c.ask(bg, "a", core.Request{}, How{}) // at 0
		c.ask(bg, "b", core.Request{}, How{})
		time.Sleep(100 * time.Millisecond)
		c.ask(bg, "c", core.Request{}, How{})
		c.give("a", core.Outcome{}) // at 100 ms: a slot is free, the interval has 300 ms to go
		time.Sleep(300 * time.Millisecond)
		synctest.Wait()
		c.started("a", "b") // at 400 ms
		want := []core.Span{{Name: "gate2", Self: 400 * time.Millisecond}}
		if b := c.turns["b"]; !slices.Equal(b.Waits(), want) || b.Paced() != 300*time.Millisecond {
			t.Errorf("b: waits %v, paced %v; want %v, 300ms", b.Waits(), b.Paced(), want)
		}
		time.Sleep(500 * time.Millisecond) // the interval is over, the slot is not free
		first.mu.Lock()
		first.until = time.Now().Add(time.Second)
		first.mu.Unlock()
		c.give("b", core.Outcome{}) // at 900 ms: now the first gate is shut
		time.Sleep(time.Second)
		synctest.Wait()
		want = []core.Span{{Name: "gate1", Self: time.Second}, {Name: "gate2", Self: 800 * time.Millisecond}}
		if x := c.turns["c"]; !slices.Equal(x.Waits(), want) || x.Paced() != 300*time.Millisecond {
			t.Errorf("c: waits %v, paced %v; want %v, 300ms", x.Waits(), x.Paced(), want)
		}
		c.drain()
	})
}

func TestWakeStartsWhoCanStartNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &door{slots: 0, until: time.Now().Add(time.Hour)}
		c := newCrowd(t, New(10), d)
		c.ask(bg, "a", core.Request{}, How{})
		c.ask(bg, "b", core.Request{}, How{})
		d.mu.Lock()
		d.slots, d.until = 1, time.Time{}
		d.mu.Unlock()
		c.line.Wake()
		synctest.Wait()
		c.started("a")
		c.drain()
		c.started("a", "b")
	})
}

// A gate that says "after the next Give" while nothing is out would never be
// asked again.
func TestGateIsAskedAgainWhenNoGiveCanCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &door{}
		c := newCrowd(t, New(10), d)
		c.ask(bg, "a", core.Request{}, How{})
		d.mu.Lock()
		d.slots = 1
		d.mu.Unlock()
		time.Sleep(unheard)
		synctest.Wait()
		c.started("a")
	})
}

func TestAGiveAsksOnlyTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &door{slots: 1}
		c := newCrowd(t, New(1000), d)
		c.ask(bg, "held", core.Request{}, How{})
		for i := range 500 {
			c.ask(bg, fmt.Sprint(i), core.Request{Client: fmt.Sprint(i)}, How{})
		}
		if d.asked > 3 {
			t.Errorf("the gate was asked %d times while 500 joined, want 3: one taken, one refused twice", d.asked)
		}
		before := d.asked
		c.give("held", core.Outcome{})
		if n := d.asked - before; n > 2 {
			t.Errorf("a give asked the gate %d times, want 2: one starts, the next is refused", n)
		}
		c.drain()
		c.empty()
	})
}

// After a reload waiters with different gates share a line.
func TestGenerationsShareALine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(10)
		shared, old := &door{slots: 1}, &door{slots: 9, until: time.Now().Add(time.Hour)}
		before, after := newCrowd(t, l, old, shared), newCrowd(t, l, shared)
		before.ask(bg, "paused", core.Request{Client: "x"}, How{})
		after.ask(bg, "held", core.Request{Client: "y"}, How{})
		after.ask(bg, "same session", core.Request{Client: "x"}, How{})
		after.ask(bg, "y1", core.Request{Client: "y"}, How{})
		after.ask(bg, "y2", core.Request{Client: "y"}, How{})
		after.ask(bg, "z", core.Request{Client: "z"}, How{})
		after.drain()
		// "held" came while "paused" waited at a gate that is not its own.
		after.started("held", "y1", "z", "y2")
		after.waits("same session") // its session's order is kept
		old.mu.Lock()
		old.until = time.Time{}
		old.mu.Unlock()
		l.Wake()
		synctest.Wait()
		before.drain()
		before.started("paused")
		after.drain()
		after.started("held", "y1", "z", "y2", "same session")
		after.empty()
	})
}

// After a reload that added or removed a queue, a gate has turns out in two
// lines: what one line gives back, the other may wait for.
func TestAGateOfTwoLinesForgetsNeither(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shared := &door{slots: 1}
		one, other := newCrowd(t, New(10), shared), newCrowd(t, New(10), &door{slots: 9}, shared)
		one.ask(bg, "a", core.Request{}, How{})
		other.ask(bg, "b", core.Request{}, How{})
		other.ask(bg, "c", core.Request{}, How{})
		one.give("a", core.Outcome{})
		time.Sleep(unheard)
		synctest.Wait()
		other.started("b")
		one.ask(bg, "d", core.Request{}, How{})
		other.give("b", core.Outcome{}) // c is of its own line
		other.started("b", "c")
		other.give("c", core.Outcome{})
		time.Sleep(unheard)
		synctest.Wait()
		one.started("a", "d")
		one.give("d", core.Outcome{})
		one.empty()
		other.empty()

		// Also while turns of its own line are out, which hold other gates.
		own := &door{slots: 9}
		third := newCrowd(t, other.line, own)
		third.ask(bg, "long", core.Request{Client: "x"}, How{})
		one.ask(bg, "e", core.Request{}, How{})
		other.ask(bg, "f", core.Request{}, How{})
		one.give("e", core.Outcome{})
		time.Sleep(unheard)
		synctest.Wait()
		other.started("b", "c", "f")
		other.drain()
		third.drain()
	})
}

// An opener is given other limits between its refusal and when it hears who
// waits.
type opener struct {
	door
	told int
}

var _ core.Opener = (*opener)(nil)

func (o *opener) Refused(core.Line) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.told++
	o.until = time.Time{}
	return o.told == 1
}

func TestAChangeWhileAGateRefusesIsNotMissed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &opener{door: door{slots: 1, until: time.Now().Add(time.Hour)}}
		c := newCrowd(t, New(10), g)
		c.ask(bg, "a", core.Request{}, How{})
		c.started("a")
		c.drain()
		c.empty()
	})
}

func TestMeasures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, New(1), &door{slots: 1})
		c.ask(bg, "held", core.Request{}, How{})
		time.Sleep(time.Second)
		c.ask(bg, "waits", core.Request{Lane: core.LanePartial, Session: "s", Segment: "1"}, How{})
		time.Sleep(time.Second)
		c.ask(bg, "newer", core.Request{Lane: core.LanePartial, Session: "s", Segment: "1", Revision: 1}, How{})
		c.ask(bg, "full", core.Request{Lane: core.LaneBulk}, How{})
		got := map[string]float64{}
		c.line.Measure(func(m core.Measure) { got[fmt.Sprint(m.Name, m.Labels)] = m.Value })
		for name, want := range map[string]float64{
			"line_waiting[lane partial]":      1,
			"line_waiting[lane bulk]":         0,
			"line_starts_total[lane final]":   1,
			"line_superseded_total[]":         1,
			"line_refused_total[reason full]": 1,
			"line_waited_seconds_total[]":     1,
		} {
			if v, ok := got[name]; !ok || v != want {
				t.Errorf("%s = %v, %v; want %v", name, v, ok, want)
			}
		}
		c.drain()
	})
}
