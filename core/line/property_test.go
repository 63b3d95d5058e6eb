package line

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/coretest/property"
)

// Random requests come, wait, start, leave, supersede each other and time out.
// Whatever happens: no gate is exceeded, nothing is lost, no slot is leaked and
// the line forgets them all.
func TestRandomCrowdLosesNothing(t *testing.T) {
	type visitor struct {
		req              core.Request
		at, hold         time.Duration
		leave, deadline  time.Duration // 0 for never
		since            time.Duration // before at
		now, old, unused bool
		pause            time.Duration
	}
	draw := rapid.Custom(func(t *rapid.T) visitor {
		ms := func(name string, most int) time.Duration {
			return time.Duration(rapid.IntRange(0, most).Draw(t, name)) * time.Millisecond
		}
		final := rapid.Bool().Draw(t, "final")
		v := visitor{
			req: core.Request{
				Client: rapid.SampledFrom([]string{"x", "y"}).Draw(t, "client"), Session: rapid.SampledFrom([]string{"", "s", "t"}).Draw(t, "session"),
				Segment: rapid.SampledFrom([]string{"", "1", "2"}).Draw(t, "segment"), Revision: int64(rapid.IntRange(0, 5).Draw(t, "revision")),
				Final: final, Lane: core.Lane(rapid.IntRange(0, 2).Draw(t, "lane")),
			},
			at: ms("at", 2000), hold: ms("hold", 400),
			now: rapid.IntRange(0, 9).Draw(t, "now") == 0, old: rapid.Bool().Draw(t, "old"), unused: rapid.IntRange(0, 9).Draw(t, "unused") == 0,
		}
		switch rapid.IntRange(0, 4).Draw(t, "ends") {
		case 0:
			v.leave = ms("leave", 500)
		case 1:
			v.deadline = ms("deadline", 1500) + 1
		case 2:
			v.since = ms("since", 300)
		}
		if rapid.IntRange(0, 20).Draw(t, "429") == 0 {
			v.pause = ms("pause", 1000)
		}
		return v
	})
	property.Check(t, func(rt *rapid.T) {
		visitors := rapid.SliceOfN(draw, 1, 80).Draw(rt, "visitors")
		slots := rapid.IntRange(1, 6).Draw(rt, "slots")
		interval := time.Duration(rapid.IntRange(0, 30).Draw(rt, "interval")) * time.Millisecond
		most := rapid.IntRange(0, 40).Draw(rt, "most")
		var wrong []string
		synctest.Test(t, func(t *testing.T) {
			l := New(most)
			shared, old := &door{slots: slots, interval: interval}, &door{slots: 3}
			now, before := guard(shared), guard(old, shared)
			c := newCrowd(t, l, shared)
			var mu sync.Mutex
			var starts []time.Time
			held, answered := 0, 0
			var wg sync.WaitGroup
			for _, v := range visitors {
				wg.Go(func() {
					time.Sleep(v.at)
					ctx, cancel := context.WithCancel(context.Background())
					defer cancel()
					if v.deadline > 0 {
						ctx, cancel = context.WithTimeout(ctx, v.deadline)
						defer cancel()
					}
					if v.leave > 0 {
						defer time.AfterFunc(v.leave, cancel).Stop()
					}
					how := How{Now: v.now}
					if v.since > 0 {
						how.Since = time.Now().Add(-v.since)
					}
					gates := now
					if v.old {
						gates = before
					}
					turn, err := l.Turn(ctx, &v.req, gates, how)
					mu.Lock()
					answered++
					if (turn == nil) == (err == nil) {
						wrong = append(wrong, fmt.Sprintf("turn %v and error %v", turn, err))
					}
					if err == nil {
						held++
						if held > slots {
							wrong = append(wrong, fmt.Sprintf("%d turns are held, there are %d slots", held, slots))
						}
						if !v.unused {
							starts = append(starts, turn.began)
						}
					} else if v.req.Final && core.KindOf(err) == core.Superseded {
						wrong = append(wrong, "a final was superseded")
					}
					mu.Unlock()
					if err != nil {
						return
					}
					if v.unused {
						mu.Lock()
						held--
						mu.Unlock()
						turn.Give(core.Outcome{Unused: true})
						return
					}
					time.Sleep(v.hold)
					mu.Lock()
					held--
					mu.Unlock()
					var o core.Outcome
					if v.pause > 0 {
						o.Err = &core.Error{Kind: core.RateLimited, RetryAfter: v.pause}
					}
					turn.Give(o)
				})
			}
			wg.Wait()
			slices.SortFunc(starts, time.Time.Compare)
			for i := 1; i < len(starts); i++ {
				if d := starts[i].Sub(starts[i-1]); d < interval {
					wrong = append(wrong, fmt.Sprintf("two starts are %v apart, want %v", d, interval))
				}
			}
			if answered != len(visitors) || shared.held() != 0 || old.held() != 0 {
				wrong = append(wrong, fmt.Sprintf("%d of %d answered, %d and %d slots are still held", answered, len(visitors), shared.held(), old.held()))
			}
			c.empty()
		})
		if len(wrong) > 0 || t.Failed() {
			rt.Fatal(wrong)
		}
	})
}

// The same with real threads, for the race detector.
func TestParallelCrowdLosesNothing(t *testing.T) {
	const slots = 3
	l, d := New(50), &door{slots: slots}
	gates := guard(d)
	var held, starts atomic.Int64
	var wg sync.WaitGroup
	for g := range 32 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(1, uint64(g)))
			for i := range 100 {
				ctx, cancel := context.WithCancel(context.Background())
				if r.IntN(4) == 0 {
					go cancel()
				}
				req := &core.Request{
					Client: "x", Session: fmt.Sprint(r.IntN(5)), Segment: fmt.Sprint(r.IntN(5)),
					Revision: int64(i), Lane: core.Lane(r.IntN(3)),
				}
				turn, err := l.Turn(ctx, req, gates, How{Now: r.IntN(10) == 0})
				if err == nil {
					starts.Add(1)
					if n := held.Add(1); n > slots {
						t.Errorf("%d turns are held, there are %d slots", n, slots)
					}
					runtime.Gosched()
					held.Add(-1)
					turn.Give(core.Outcome{Unused: r.IntN(5) == 0})
				}
				cancel()
			}
		})
	}
	wg.Wait()
	if d.held() != 0 || starts.Load() == 0 {
		t.Errorf("%d slots are still held after %d starts", d.held(), starts.Load())
	}
	newCrowd(t, l).empty()
}

// feed keeps a line of one slot supplied and returns who started, in order.
// Of each source there are always as many waiting as it says, until it has sent
// all.
type source struct {
	client  string
	lane    core.Lane
	waiting int
	all     int
}

func feed(t *testing.T, sources []source) (starts []*core.Request) {
	synctest.Test(t, func(t *testing.T) {
		l, gates := New(1<<20), guard(&door{slots: 1})
		turns := make(chan *Turn, 1)
		sent := make([]int, len(sources))
		ask := func(i int) {
			s := sources[i]
			req := &core.Request{ID: fmt.Sprint(sent[i]), Client: s.client, Lane: s.lane}
			sent[i]++
			go func() {
				turn, err := l.Turn(context.Background(), req, gates, How{})
				if err == nil {
					turns <- turn
				}
			}()
			synctest.Wait()
			time.Sleep(time.Nanosecond)
		}
		held, _ := l.Turn(context.Background(), &core.Request{}, gates, How{})
		for i, s := range sources {
			for range min(s.waiting, s.all) {
				ask(i)
			}
		}
		for held.Give(core.Outcome{}); ; {
			synctest.Wait()
			select {
			case turn := <-turns:
				starts = append(starts, turn.req)
				for i, s := range sources {
					if s.client == turn.req.Client && s.lane == turn.req.Lane && sent[i] < s.all {
						ask(i)
					}
				}
				turn.Give(core.Outcome{})
				continue
			default:
			}
			return
		}
	})
	return starts
}

// With S sessions waiting all the time, each gets at least floor(n/S)-1 of any n
// consecutive starts of its lane, and its own start in the order they came.
func TestSessionsGetTheirShare(t *testing.T) {
	property.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(2, 6).Draw(rt, "sessions")
		var sources []source
		for i := range n {
			sources = append(sources, source{client: fmt.Sprint(i), waiting: rapid.IntRange(1, 30).Draw(rt, "waiting"), all: 40})
		}
		starts := feed(t, sources)
		if len(starts) != 40*n {
			rt.Fatalf("%d starts, want %d", len(starts), 40*n)
		}
		next := map[string]int{}
		for _, r := range starts {
			if r.ID != fmt.Sprint(next[r.Client]) {
				rt.Fatalf("session %s started %s before %d", r.Client, r.ID, next[r.Client])
			}
			next[r.Client]++
		}
		for from := range starts {
			got := make([]int, n)
			for i, r := range starts[from:] {
				session, _ := strconv.Atoi(r.Client)
				got[session]++
				if least := slices.Min(got); least < (i+1)/n-1 {
					rt.Fatalf("a session got %d of %d starts from %d on, of %d sessions", least, i+1, from, n)
				}
			}
		}
	})
}

// Every lane with somebody waiting gets at least one of ten consecutive starts.
func TestNoLaneStarves(t *testing.T) {
	starts := feed(t, []source{
		{client: "x", lane: core.LaneFinal, waiting: 3, all: 200},
		{client: "y", lane: core.LaneFinal, waiting: 3, all: 200},
		{client: "x", lane: core.LanePartial, waiting: 2, all: 60},
		{client: "x", lane: core.LaneBulk, waiting: 20, all: 60},
	})
	for from := range 400 {
		var got [core.Lanes]int
		for _, r := range starts[from : from+share] {
			got[r.Lane]++
		}
		for lane, n := range got {
			if n == 0 {
				t.Fatalf("lane %s got none of the %d starts from %d on: %v", core.Lane(lane), share, from, got)
			}
		}
		if got[core.LaneFinal] < share-4 {
			t.Fatalf("finals got %d of the %d starts from %d on", got[core.LaneFinal], share, from)
		}
	}
}

// Requests of all lanes and sessions come and leave as they like, one slot is
// given back again and again. Whatever happens:
//
//   - while somebody waits, a slot that is free is a start, and within a session
//     and lane it is that of who asked first;
//   - a client that has somebody waiting all the while gets at least
//     floor(n/C)-1 of any n consecutive starts of its lane, C being the most
//     clients that waited there at one of them, however many sessions they have;
//     and so does a session of its client's starts there;
//   - a lane that has somebody waiting all the while gets one of any ten
//     consecutive starts, and only for that goes before a higher one: else the
//     next to start is of the highest lane that waits;
//   - who does not leave, starts.
func TestWhoIsNextWhateverComesAndLeaves(t *testing.T) {
	property.Few(t, 40)
	type step struct {
		do              int // below busy ask, 8 and above leave, else give
		lane            core.Lane
		client, session int
		who             int
	}
	draw := rapid.Custom(func(t *rapid.T) step {
		return step{
			rapid.IntRange(0, 9).Draw(t, "do"), rapid.SampledFrom([]core.Lane{0, 0, 0, 1, 1, 2}).Draw(t, "lane"),
			rapid.IntRange(0, 2).Draw(t, "client"), rapid.IntRange(0, 2).Draw(t, "session"), rapid.IntRange(0, 99).Draw(t, "who"),
		}
	})
	type place struct {
		lane            core.Lane
		client, session int // -1 for the client, and for the lane itself
	}
	within := func(p, outer place) bool {
		return p.lane == outer.lane && (outer.client < 0 || outer.client == p.client) && (outer.session < 0 || outer.session == p.session)
	}
	around := func(p place) []place { return []place{p, {p.lane, p.client, -1}, {p.lane, -1, -1}} }
	// A start is one, and which places had somebody waiting before it: the same
	// number as at an earlier start says that it was so all the while.
	type start struct {
		place
		waiting map[place]int
	}
	type waiter struct {
		id    string
		place place
		leave context.CancelFunc
	}
	property.Check(t, func(rt *rapid.T) {
		busy := rapid.IntRange(3, 6).Draw(rt, "busy")
		crowd := rapid.IntRange(0, 60).Draw(rt, "crowd")
		steps := append(rapid.SliceOfN(draw, crowd, crowd).Draw(rt, "first"), rapid.SliceOfN(draw, 100, 300).Draw(rt, "steps")...)
		for i := range crowd {
			steps[i].do = 0
		}
		var starts []start
		var wrong string
		synctest.Test(t, func(t *testing.T) {
			c := newCrowd(t, New(1<<20), &door{slots: 1})
			c.ask(bg, "held", core.Request{}, How{})
			var waiting []waiter
			since := map[place]int{} // when somebody began to wait there
			gone := func(i int) {
				p := waiting[i].place
				waiting[i].leave()
				waiting = slices.Delete(waiting, i, i+1)
				for _, p := range around(p) {
					if !slices.ContainsFunc(waiting, func(w waiter) bool { return within(w.place, p) }) {
						delete(since, p)
					}
				}
			}
			held := "held"
			give := func() {
				before := len(c.starts)
				c.give(held, core.Outcome{})
				if held = ""; len(waiting) == 0 {
					return
				}
				if len(c.starts) != before+1 {
					wrong = fmt.Sprintf("%d started though %d wait", len(c.starts)-before, len(waiting))
					return
				}
				held = c.starts[before]
				i := slices.IndexFunc(waiting, func(w waiter) bool { return w.id == held })
				p := waiting[i].place
				if first := slices.IndexFunc(waiting, func(w waiter) bool { return w.place == p }); first != i {
					wrong = fmt.Sprintf("%s started before %s of the same session and lane", held, waiting[first].id)
				}
				starts = append(starts, start{p, maps.Clone(since)})
				gone(i)
			}
			for n, s := range steps {
				switch {
				case wrong != "":
				case s.do < busy:
					ctx, leave := context.WithCancel(bg)
					w := waiter{fmt.Sprint(n), place{s.lane, s.client, s.session}, leave}
					c.ask(ctx, w.id, core.Request{Client: fmt.Sprint(s.client), Session: fmt.Sprint(s.session), Lane: s.lane}, How{})
					if held == "" {
						held = w.id
						break
					}
					waiting = append(waiting, w)
					for _, p := range around(w.place) {
						if _, ok := since[p]; !ok {
							since[p] = n + 1 // not 0, which is nobody
						}
					}
				case s.do >= 8 && len(waiting) > 0:
					gone(s.who % len(waiting))
					synctest.Wait()
				case s.do >= busy && s.do < 8 && held != "":
					give()
				}
				time.Sleep(time.Nanosecond) // the next one asks later
			}
			for held != "" && wrong == "" {
				give()
			}
			for _, w := range waiting { // none, unless something is wrong
				w.leave()
			}
			synctest.Wait()
			if wrong == "" {
				c.empty()
			}
		})
		if wrong != "" || t.Failed() {
			rt.Fatal(wrong)
		}
		for from := range starts {
			for p, since := range starts[from].waiting {
				outer := place{p.lane, p.client, -1} // what p shares with its like
				if p.session < 0 {
					outer.client = -1
				}
				all, got, most := 0, 0, 0
				for i, s := range starts[from:] {
					if still, ok := s.waiting[p]; !ok || still != since {
						break
					}
					if p.client < 0 {
						if s.lane == p.lane {
							break
						}
						if i+1 == share {
							rt.Fatalf("lane %s got none of the %d starts from %d on", p.lane, share, from)
						}
						continue
					}
					if !within(s.place, outer) {
						continue
					}
					here := 0
					for q := range s.waiting {
						if within(q, outer) && q.client >= 0 && (q.session < 0) == (p.session < 0) {
							here++
						}
					}
					most = max(most, here)
					if all++; within(s.place, p) {
						got++
					}
					if got < all/most-1 {
						rt.Fatalf("%v got %d of %d starts from %d on, of %d like it", p, got, all, from, most)
					}
				}
			}
		}
		for i, s := range starts {
			for higher := range s.lane {
				if _, ok := s.waiting[place{higher, -1, -1}]; !ok {
					continue
				}
				for _, earlier := range starts[max(i-due, 0):i] {
					if earlier.lane == s.lane || earlier.waiting[place{s.lane, -1, -1}] != s.waiting[place{s.lane, -1, -1}] {
						rt.Fatalf("start %d is of lane %s though lane %s waits and it was not passed over %d times", i, s.lane, higher, due)
					}
				}
				if i < due {
					rt.Fatalf("start %d is of lane %s though lane %s waits", i, s.lane, higher)
				}
			}
		}
	})
}

func TestListKeepsItsOrder(t *testing.T) {
	var l list[int]
	nodes := map[int]*node[int]{}
	var want []int
	for i := range 200 {
		if len(want) > 0 && rand.IntN(3) == 0 {
			j := rand.IntN(len(want))
			l.remove(nodes[want[j]])
			want = slices.Delete(want, j, j+1)
			continue
		}
		n := &node[int]{of: i}
		nodes[i] = n
		if j := rand.IntN(len(want) + 1); j < len(want) {
			l.insertBefore(nodes[want[j]], n)
			want = slices.Insert(want, j, i)
		} else {
			l.pushBack(n)
			want = append(want, i)
		}
	}
	var there, back []int
	for n := l.front; n != nil; n = n.next {
		there = append(there, n.of)
	}
	for n := l.back; n != nil; n = n.prev {
		back = append(back, n.of)
	}
	slices.Reverse(back)
	if !slices.Equal(there, want) || !slices.Equal(back, want) || l.n != len(want) {
		t.Errorf("forwards %v, backwards %v, %d; want %v", there, back, l.n, want)
	}
}
