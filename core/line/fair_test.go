package line

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dragoman-mt/dragoman/core"
)

// serve makes a call of takes for req within the deadline, 0 for none, and
// returns how long it took in all.
func serve(t *testing.T, l *Line, gates []core.Guard, req *core.Request, deadline, takes time.Duration) (time.Duration, error) {
	ctx, cancel := context.Background(), func() {}
	if deadline > 0 {
		ctx, cancel = context.WithTimeout(ctx, deadline)
	}
	defer cancel()
	began := time.Now()
	turn, err := l.Turn(ctx, req, gates, How{})
	if err != nil {
		return time.Since(began), err
	}
	select {
	case <-time.After(takes):
		turn.Give(core.Outcome{})
	case <-ctx.Done():
		err = core.ContextError(ctx, "upstream")
		turn.Give(core.Outcome{Err: core.AsError(err, "upstream")})
	}
	return time.Since(began), err
}

// A client that floods the line, with whatever sessions and lanes, makes another
// wait for its own turns and no longer, and gets nothing of it refused.
func TestAFloodOfSessionsStarvesNoOtherClient(t *testing.T) {
	const call, flooding = 300 * time.Millisecond, 100
	victim := func(t *testing.T, l *Line, gates []core.Guard, lane core.Lane) (slowest time.Duration) {
		for i := range 10 {
			req := &core.Request{Client: "victim", Session: "one", Segment: fmt.Sprint(i), Lane: lane}
			d, err := serve(t, l, gates, req, 4500*time.Millisecond, call)
			if err != nil {
				t.Fatalf("text %d of the victim: %v", i, err)
			}
			slowest = max(slowest, d)
			time.Sleep(50 * time.Millisecond)
		}
		return slowest
	}
	flood := map[string]func(i int) *core.Request{
		"one session":                  func(int) *core.Request { return &core.Request{Session: "s"} },
		"a session for each request":   func(i int) *core.Request { return &core.Request{Session: fmt.Sprint(i)} },
		"as many sessions, all finals": func(i int) *core.Request { return &core.Request{Session: fmt.Sprint(i), Final: true} },
		"sessions and segments, bulk": func(i int) *core.Request {
			return &core.Request{Session: fmt.Sprint(i), Segment: "1", Lane: core.LaneBulk}
		},
		"sessions in all lanes":            func(i int) *core.Request { return &core.Request{Session: fmt.Sprint(i), Lane: core.Lane(i % 3)} },
		"sessions that go to two accounts": func(i int) *core.Request { return &core.Request{Session: fmt.Sprint(i), Account: fmt.Sprint(i % 2)} },
	}
	for name, req := range flood {
		for _, most := range []int{1000, 60, 5} {
			t.Run(fmt.Sprint(name, ", room for ", most), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					l, gates := New(most), guard(&door{slots: 6})
					alone := victim(t, l, gates, core.LaneFinal)
					stop := make(chan struct{})
					var all sync.WaitGroup
					for i := range flooding {
						all.Go(func() {
							for n := i; ; n += flooding {
								select {
								case <-stop:
									return
								default:
								}
								r := req(n)
								r.Client = "attacker"
								if _, err := serve(t, l, gates, r, 0, call); err != nil {
									time.Sleep(100 * time.Millisecond) // refused, and soon back
								}
							}
						})
					}
					time.Sleep(time.Second)
					if slowest := victim(t, l, gates, core.LaneFinal); slowest > 2*alone {
						t.Errorf("beside the flood a text of the victim takes up to %v, alone %v", slowest, alone)
					}
					// In lanes below the flood's it has one start of ten, or of two in
					// those ten, six of which come in the time of a call.
					if slowest := victim(t, l, gates, core.LanePartial); slowest > 5*alone {
						t.Errorf("beside the flood a partial of the victim takes up to %v, alone %v", slowest, alone)
					}
					close(stop)
					all.Wait()
					newCrowd(t, l).empty()
				})
			})
		}
	}
}

func TestAFullLineGivesTheClientWithLessAPlace(t *testing.T) {
	type asks struct {
		id, client string
		lane       core.Lane
	}
	final, partial, bulk := core.LaneFinal, core.LanePartial, core.LaneBulk
	for name, tc := range map[string]struct {
		most    int
		waiting []asks
		then    asks
		loser   string // "" when it is who comes
	}{
		"of the same lane": {3, []asks{{"a1", "a", final}, {"a2", "a", final}, {"a3", "a", final}}, asks{"b1", "b", final}, "a3"},
		"the youngest of the lowest lane": {4, []asks{{"a1", "a", final}, {"a2", "a", bulk}, {"a3", "a", bulk}, {"a4", "a", final}},
			asks{"b1", "b", final}, "a3"},
		"even a final to bulk": {3, []asks{{"a1", "a", final}, {"a2", "a", final}, {"a3", "a", final}}, asks{"b1", "b", bulk}, "a3"},
		"of who has most": {4, []asks{{"c1", "c", bulk}, {"a1", "a", final}, {"a2", "a", final}, {"a3", "a", final}},
			asks{"b1", "b", final}, "a3"},
		"until both have as many": {4, []asks{{"a1", "a", final}, {"a2", "a", final}, {"b1", "b", final}, {"b2", "b", final}},
			asks{"b3", "b", final}, ""},
		"not for one more than the other keeps": {3, []asks{{"a1", "a", final}, {"a2", "a", final}, {"b1", "b", final}}, asks{"b2", "b", final}, ""},
		"but for what is more urgent":           {3, []asks{{"a1", "a", bulk}, {"a2", "a", bulk}, {"b1", "b", final}}, asks{"b2", "b", final}, "a2"},
		"a flood of finals leaves another's bulk alone": {4, []asks{{"a1", "a", bulk}, {"b1", "b", final}, {"b2", "b", final}, {"b3", "b", final}},
			asks{"b4", "b", final}, ""},
		"within a client to what is more urgent": {4, []asks{{"a1", "a", bulk}, {"b1", "b", final}, {"b2", "b", final}, {"b3", "b", partial}},
			asks{"b4", "b", final}, "b3"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCrowd(t, New(tc.most), &door{slots: 1})
				c.ask(bg, "held", core.Request{}, How{})
				ask := func(a asks) {
					c.ask(bg, a.id, core.Request{Client: a.client, Session: a.id, Lane: a.lane}, How{})
				}
				for _, a := range tc.waiting {
					ask(a)
					c.waits(a.id)
				}
				ask(tc.then)
				loser := tc.loser
				if loser == "" {
					loser = tc.then.id
				}
				c.refused(loser, core.Overloaded, "gate1")
				for _, a := range append(tc.waiting, tc.then) {
					if a.id != loser {
						c.waits(a.id)
					}
				}
				c.drain()
				c.empty()
			})
		})
	}
}

// Whatever comes and goes, the heaviest client is one of which nobody has more.
func TestTheHeaviestClientIsKnown(t *testing.T) {
	var w weights
	clients := make([]*client, 5)
	for i := range clients {
		clients[i] = newClient(fmt.Sprint(i))
	}
	for i := range 2000 {
		c := clients[i*i*7%len(clients)]
		if n := 1; i*13%5 < 2 && c.waiting > 0 {
			w.add(c, -n)
		} else if i%400 < 200 {
			w.add(c, n)
		} else if c.waiting > 0 {
			w.add(c, -n)
		}
		most := slices.MaxFunc(clients, func(a, b *client) int { return a.waiting - b.waiting }).waiting
		switch h := w.heaviest(); {
		case h == nil && most > 0, h != nil && h.waiting != most:
			t.Fatalf("after %d changes the heaviest is %+v, one has %d", i+1, h, most)
		}
	}
}

// A quota is a gate that refuses one client only, and says nothing about whom
// its refusals are.
type quota struct {
	shut string
	wait time.Duration
}

func (g *quota) Take(req *core.Request, now time.Time) (bool, time.Duration) {
	return req.Client != g.shut, g.wait
}
func (g *quota) Give(*core.Request, core.Outcome) {}

func TestAGateThatRefusesOneClientHoldsNobodyElse(t *testing.T) {
	for _, wait := range []time.Duration{0, time.Second, 30 * time.Second} {
		t.Run(fmt.Sprint(wait), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g, slots := &quota{shut: "a", wait: wait}, &door{slots: 1}
				c := newCrowd(t, New(100), g, slots)
				c.ask(bg, "a1", core.Request{Client: "a"}, How{})
				c.ask(bg, "b1", core.Request{Client: "b"}, How{})
				c.started("b1") // at once
				c.ask(bg, "a2", core.Request{Client: "a"}, How{})
				c.ask(bg, "b2", core.Request{Client: "b"}, How{}) // no slot is free
				c.ask(bg, "b3", core.Request{Client: "b", Lane: core.LaneBulk}, How{})
				c.waits("a1", "a2", "b2", "b3")
				c.give("b1", core.Outcome{})
				c.give("b2", core.Outcome{})
				c.started("b1", "b2", "b3")
				c.give("b3", core.Outcome{})
				c.ask(bg, "hedge", core.Request{Client: "b"}, How{Now: true})
				c.started("b1", "b2", "b3", "hedge")
				g.shut = ""
				c.give("hedge", core.Outcome{})
				c.drain()
				c.started("b1", "b2", "b3", "hedge", "a1", "a2")
				c.empty()
			})
		})
	}
}

// sized is a gate with room for so many bytes of text, for everybody or for the
// requests to an account.
type sized struct {
	scope core.Scope
	room  int
}

func (g *sized) Scope() core.Scope { return g.scope }
func (g *sized) Take(req *core.Request, now time.Time) (bool, time.Duration) {
	if len(req.Text) > g.room {
		return false, time.Hour
	}
	g.room -= len(req.Text)
	return true, 0
}
func (g *sized) Give(*core.Request, core.Outcome) {}

func TestWithinAScopeNobodyOvertakesWhoWasRefused(t *testing.T) {
	for _, tc := range []struct {
		name  string
		gates func(g *sized) []core.Gate
		scope core.Scope
		held  []string // who waits behind the long text, besides its own client's
	}{
		{"everybody", func(g *sized) []core.Gate { return []core.Gate{g} }, core.ScopeAll, []string{"other client", "other account"}},
		{"the account", func(g *sized) []core.Gate { return []core.Gate{g} }, core.ScopeAccount, []string{"other client"}},
		{"the client", func(g *sized) []core.Gate { return []core.Gate{g} }, core.ScopeClient, nil},
		{"everybody, behind a gate by client", func(g *sized) []core.Gate { return []core.Gate{&quota{shut: "nobody"}, g} }, core.ScopeAll, []string{"other client", "other account"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := &sized{scope: tc.scope, room: 3}
				c := newCrowd(t, New(100), tc.gates(g)...)
				c.ask(bg, "long", core.Request{Client: "a", Account: "x", Text: "long"}, How{})
				c.ask(bg, "same client", core.Request{Client: "a", Account: "x", Text: "s"}, How{})
				c.ask(bg, "same client, another session", core.Request{Client: "a", Session: "s", Account: "x", Text: "s"}, How{})
				c.ask(bg, "other client", core.Request{Client: "b", Account: "x", Text: "s"}, How{})
				c.ask(bg, "other account", core.Request{Client: "b", Account: "y", Text: "s"}, How{})
				held := append([]string{"long", "same client", "same client, another session"}, tc.held...)
				c.waits(held...)
				if len(c.starts) != 5-len(held) {
					t.Errorf("started %v, want all but %v", c.starts, held)
				}
				g.room = len("long")
				c.line.Wake()
				synctest.Wait()
				c.waits(held[1:]...)
				if n := len(c.starts); c.starts[n-1] != "long" {
					t.Errorf("started %v, want the long text first of %v", c.starts, held)
				}
				g.room = 100
				c.line.Wake()
				synctest.Wait()
				c.drain()
				if len(c.starts) != 5 {
					t.Errorf("started %v, want all", c.starts)
				}
				c.empty()
			})
		})
	}
}

// An accounted gate is shut for some accounts.
type accounted struct{ shut map[string]time.Duration }

func (*accounted) Scope() core.Scope { return core.ScopeAccount }
func (g *accounted) Take(req *core.Request, now time.Time) (bool, time.Duration) {
	wait, shut := g.shut[req.Account]
	return !shut, wait
}
func (g *accounted) Give(*core.Request, core.Outcome) {}

// What waits for one account holds up nothing that goes to another: not of its
// session, not in the ring, not by its pause, and not by the slots.
func TestAnAccountThatIsShutHoldsUpNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &accounted{shut: map[string]time.Duration{"old": time.Hour}}
		c := newCrowd(t, New(100), g, &door{slots: 2})
		for i := range 5 {
			c.ask(bg, fmt.Sprint("old", i), core.Request{Session: "s", Account: "old"}, How{})
		}
		short, cancel := context.WithTimeout(bg, time.Second)
		defer cancel()
		c.ask(short, "too short for the pause", core.Request{Account: "old"}, How{})
		c.refused("too short for the pause", core.RateLimited, "gate1")
		for i := range 4 {
			c.ask(short, fmt.Sprint("new", i), core.Request{Session: "s", Account: "new"}, How{})
		}
		c.started("new0", "new1")
		c.ask(bg, "hedge", core.Request{Account: "new"}, How{Now: true})
		c.refused("hedge", core.Overloaded, "gate1")
		c.give("new0", core.Outcome{})
		c.give("new1", core.Outcome{})
		c.started("new0", "new1", "new2", "new3")
		c.give("new2", core.Outcome{})
		c.ask(bg, "hedge again", core.Request{Account: "new"}, How{Now: true})
		c.started("new0", "new1", "new2", "new3", "hedge again")
		delete(g.shut, "old")
		c.give("new3", core.Outcome{})
		c.drain()
		c.started("new0", "new1", "new2", "new3", "hedge again", "old0", "old1", "old2", "old3", "old4")
		c.empty()
	})
}
