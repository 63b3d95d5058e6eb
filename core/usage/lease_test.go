package usage

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/rueidis"
	"pgregory.net/rapid"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/coretest/property"
)

// A world is gateways that share the keys of one configuration over one store, in a time that
// a test moves.
type world struct {
	t       rapid.TB
	store   *miniredis.Miniredis
	client  rueidis.Client
	luas    map[*core.Script]*rueidis.Lua
	now     time.Time
	down    bool
	limits  Limits
	gates   []*gate
	slack   int64     // in flight when a gateway or the store was lost, and what both lost at once knew alone
	emptied time.Time // the store, last
	calls   []time.Time
}

// A gate is one gateway of a world. It is its own core.Shared.
type gate struct {
	core.Shared
	core.Room
	world *world
	name  string
	book  *Book // nil: it was killed
	taken int64
	own   int64 // what its journal holds
	loses bool  // the next answer
	back  time.Time
	fly   []int64
	next  time.Time
	told  time.Time
	used  []spending
}

// A spending is what a gateway counted at one time.
type spending struct {
	at time.Time
	n  int64
}

// lately is what g used that others may not have heard of yet.
func (g *gate) lately() (n int64) {
	for _, u := range g.used {
		if g.world.now.Sub(u.at) < 6*time.Second {
			n += u.n
		}
	}
	return n
}

func (g *gate) Self() string     { return fmt.Sprint(g.name, "-", g.taken) }
func (g *gate) Machine() string  { return g.name }
func (g *gate) State() core.Room { return g }
func (g *gate) Up() bool         { return !g.world.down }
func (g *gate) Ask(ctx context.Context, s *core.Script, key string, args ...string) ([]string, error) {
	return g.Run(ctx, s, key, args...)
}
func (g *gate) Run(ctx context.Context, s *core.Script, key string, args ...string) ([]string, error) {
	w := g.world
	if w.down {
		return nil, errors.New("away")
	}
	w.store.SetTime(w.now)
	lua := w.luas[s]
	if lua == nil {
		lua = rueidis.NewLuaScript(s.Source)
		w.luas[s] = lua
	}
	list, err := lua.Exec(context.Background(), w.client, []string{"p:" + key}, append([]string{"p:news"}, args...)).AsStrSlice()
	if err != nil {
		w.t.Fatal(err)
	}
	if g.loses {
		g.loses = false
		return nil, errors.New("late")
	}
	return list, nil
}

// begin starts a gateway, as one does that reads its journal.
func (g *gate) begin() {
	b := New()
	b.now = func() time.Time { return g.world.now }
	b.group = newGroup(b, g)
	g.taken++
	g.book, b.group.writer, b.group.taken = b, "w"+g.name, g.taken
	c := b.client("k", b.now())
	p := b.group.part("k", c)
	p.own, p.told, p.sent, p.base, c.used = g.own, g.own, g.own, g.own, g.own
	p.limits, p.active = g.world.limits, b.now()
	for _, other := range g.world.gates {
		if other != g && !other.told.After(g.world.emptied) {
			g.world.slack += other.own // it knows nothing of the others, and the store as little
		}
	}
	g.tell()
	if !p.agreed {
		g.world.slack += b.group.share(c, p) - g.own // nobody else knows of that
	}
}

func (g *gate) tell() {
	g.next = g.world.now.Add(tells)
	if !g.world.down && !g.loses {
		g.told = g.world.now
	}
	for _, names := range g.book.group.due(false) {
		g.book.group.call(context.Background(), names, false)
	}
}

func (w *world) flying() (n int64) {
	for _, g := range w.gates {
		for _, f := range g.fly {
			n += f
		}
	}
	return n
}

// pass moves the time.
func (w *world) pass(d time.Duration) {
	for end := w.now.Add(d); w.now.Before(end); {
		w.now = w.now.Add(100 * time.Millisecond)
		for _, g := range w.gates {
			switch {
			case g.book == nil && !w.now.Before(g.back):
				g.begin()
			case g.book != nil && (!w.now.Before(g.next) || len(g.book.group.kick) > 0 && !w.now.Before(g.next.Add(hastily-tells))):
				select {
				case <-g.book.group.kick:
				default:
				}
				g.tell()
			}
		}
	}
}

func (w *world) enter(g *gate, n int64) bool {
	if g.book == nil || g.book.Enter(context.Background(), "k", w.limits, n) != nil {
		return false
	}
	w.calls = append(w.calls, w.now)
	g.fly = append(g.fly, n)
	return true
}

func (w *world) settle(g *gate) {
	if g.book == nil || len(g.fly) == 0 {
		return
	}
	n := g.fly[0]
	g.fly = g.fly[1:]
	g.book.Settle(Who{Client: "k", Door: "native"}, Use{Texts: 1, Characters: n}, n, false)
	g.own += n
	g.used = append(g.used, spending{g.world.now, n})
}

func newWorld(t rapid.TB, store *miniredis.Miniredis, client rueidis.Client, gates int, limits Limits) *world {
	store.FlushAll()
	w := &world{t: t, store: store, client: client, luas: map[*core.Script]*rueidis.Lua{}, now: time.Date(2026, 11, 10, 12, 0, 0, 0, time.UTC), limits: limits}
	for i := range gates {
		w.gates = append(w.gates, &gate{world: w, name: fmt.Sprint("m", i)})
		w.gates[i].begin()
	}
	w.pass(11 * time.Second) // the store is new so long
	return w
}

// fake is a store whose clock the test sets, and a client of it.
func fake(t *testing.T) (*miniredis.Miniredis, rueidis.Client) {
	store := miniredis.RunT(t)
	client, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{store.Addr()}, DisableCache: true, ForceSingleClient: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return store, client
}

// Whatever is lost, late, emptied or killed: all gateways together use no more of a month
// than a key may, but for what was in flight when a gateway or the store was lost. They
// agree on the sum as soon as they can, and what is left is to be had.
func TestALimitHoldsWhateverIsLost(t *testing.T) {
	property.WithoutRace(t) // it is one goroutine
	property.Few(t, 12)
	store, client := fake(t)
	property.Check(t, func(t *rapid.T) {
		limits := Limits{CharactersPerMonth: rapid.Int64Range(1, 20_000).Draw(t, "limit")}
		w := newWorld(t, store, client, rapid.IntRange(1, 4).Draw(t, "gateways"), limits)
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			g := rapid.SampledFrom(w.gates).Draw(t, "gateway")
			switch rapid.IntRange(0, 13).Draw(t, "what") {
			case 0:
				if g.book != nil {
					w.slack += w.flying()
					// What was in flight may be in the journal, or not.
					for rapid.Bool().Draw(t, "answered") && len(g.fly) > 0 {
						w.settle(g)
					}
					if !g.told.After(w.emptied) {
						w.slack += g.lately() // nobody else knows of it now
					}
					g.book, g.fly = nil, nil
					g.back = w.now.Add(time.Duration(rapid.IntRange(0, 3000).Draw(t, "gone")) * time.Millisecond)
				}
			case 1:
				w.slack += w.flying()
				w.store.FlushAll()
				w.emptied = w.now
				for _, g := range w.gates {
					w.slack += g.lately() // the others may not have heard of it, and ask before it is told again
				}
			case 2:
				w.slack += w.flying()
				w.down = !w.down
			case 3:
				g.loses = true
			case 4, 5:
				w.pass(time.Duration(rapid.IntRange(100, 4000).Draw(t, "ms")) * time.Millisecond)
			case 6, 7:
				w.settle(g)
			default:
				for range rapid.IntRange(1, 20).Draw(t, "calls") {
					if n := rapid.Int64Range(1, max(1, limits.CharactersPerMonth/20)).Draw(t, "n"); w.enter(g, n) && rapid.Bool().Draw(t, "at once") {
						w.settle(g)
					}
				}
			}
			sum := w.flying()
			for _, g := range w.gates {
				sum += g.own
			}
			if sum > limits.CharactersPerMonth+w.slack {
				t.Fatalf("%d of %d, with %d that were in flight", sum, limits.CharactersPerMonth, w.slack)
			}
		}
		w.down = false
		sum := int64(0)
		for _, g := range w.gates {
			g.loses = false
			for len(g.fly) > 0 && g.book != nil {
				w.settle(g)
			}
		}
		w.pass(25 * time.Second)
		for _, g := range w.gates {
			sum += g.own
		}
		for _, g := range w.gates {
			if got := g.book.all("k"); got != sum {
				t.Fatalf("%s knows %d of %d", g.name, got, sum)
			}
		}
		// One uses what is left.
		g := w.gates[0]
		for turn := 0; turn < 200 && sum < limits.CharactersPerMonth; turn++ {
			for left := limits.CharactersPerMonth - sum; left > 0; left = min(left/2, limits.CharactersPerMonth-sum) {
				if w.enter(g, left) {
					w.settle(g)
					sum += left
				}
			}
			w.pass(300 * time.Millisecond)
		}
		if sum < limits.CharactersPerMonth {
			t.Fatalf("%d of %d are not to be had", limits.CharactersPerMonth-sum, limits.CharactersPerMonth)
		}
	})
}

// Gateways that ask for the last characters of a month at once do not keep each other from them by
// what is too little for any of their texts.
func TestGatewaysThatAskAtOnceLeaveNothingThatFits(t *testing.T) {
	property.WithoutRace(t) // it is one goroutine
	property.Few(t, 12)
	store, client := fake(t)
	property.Check(t, func(t *rapid.T) {
		limits := Limits{CharactersPerMonth: rapid.Int64Range(100, 5000).Draw(t, "limit")}
		text := rapid.Int64Range(2, limits.CharactersPerMonth/4).Draw(t, "text")
		w := newWorld(t, store, client, rapid.IntRange(2, 5).Draw(t, "gateways"), limits)
		sum := int64(0)
		for turn := 0; turn < 300 && sum <= limits.CharactersPerMonth-text; turn++ {
			for _, g := range w.gates {
				for w.enter(g, text) {
					w.settle(g)
					sum += text
				}
			}
			w.pass(100 * time.Millisecond)
		}
		if sum <= limits.CharactersPerMonth-text {
			t.Fatalf("%d of %d were to be had in texts of %d", sum, limits.CharactersPerMonth, text)
		}
	})
}

// What was used in the last second of a month, and not told yet, is told when the month is
// over, and no lease of one is one of the next.
func TestTheEndOfAMonthIsToldAfterIt(t *testing.T) {
	store, client := fake(t)
	w := newWorld(t, store, client, 2, Limits{CharactersPerMonth: 1000})
	w.now = time.Date(2026, 11, 30, 23, 59, 50, 0, time.UTC)
	w.pass(9900 * time.Millisecond)
	if !w.enter(w.gates[0], 300) {
		t.Fatal("300 of 1000 are refused")
	}
	w.settle(w.gates[0])
	w.now = w.now.Add(200 * time.Millisecond)
	if !w.enter(w.gates[0], 20) {
		t.Fatal("20 of the new month are refused")
	}
	w.settle(w.gates[0])
	for _, g := range w.gates {
		if got := g.book.all("k"); g == w.gates[0] && got != 20 {
			t.Errorf("%s knows %d of the new month", g.name, got)
		}
		g.book.group.tellLate(t.Context())
	}
	if got := store.HGet("p:usage:2026-11", "c k wm0"); !strings.HasPrefix(got, "1 300 ") {
		t.Errorf("of the month that is over the store has %q", got)
	}
	w.pass(3 * time.Second)
	if got := w.gates[1].book.all("k"); got != 20 {
		t.Errorf("the other knows %d of the new month, want 20", got)
	}
}

// FuzzStore reads what a store may answer, whoever has written it.
func FuzzStore(f *testing.F) {
	f.Add("\n1\n2\n10\n20\n0\n30\n40\n0\n0\n0", "w1 native k", `7 {"texts":1,"characters":5}`)
	f.Add("copied\nm1", "", "")
	f.Add("stale", "w  ", "0 {}")
	f.Fuzz(func(t *testing.T, list, field, value string) {
		a, err := parseAgreement(strings.Split(list, "\n"), 1)
		if err == nil && a.state != "stale" && a.state != "copied" && (len(a.parts) != 1 || a.members < 1 || a.parts[0].cap < 0) {
			t.Errorf("%+v", a)
		}
		if told, _, ok := parseRow(field, value); ok && strings.Contains(told.writer+told.door+told.client, " ") {
			t.Errorf("%+v", told)
		}
	})
}

// In no 60 seconds do gateways that have a store make more calls than a key may, and nearly
// as many they can make.
func TestNoMinuteOfAGroupHasMoreCallsThanAllowed(t *testing.T) {
	property.WithoutRace(t) // it is one goroutine
	property.Few(t, 12)
	store, client := fake(t)
	property.Check(t, func(t *rapid.T) {
		limits := Limits{RequestsPerMinute: rapid.Int64Range(1, 120).Draw(t, "limit")}
		w := newWorld(t, store, client, rapid.IntRange(1, 3).Draw(t, "gateways"), limits)
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			g := rapid.SampledFrom(w.gates).Draw(t, "gateway")
			for range rapid.IntRange(0, 30).Draw(t, "calls") {
				if w.enter(g, 1) {
					w.settle(g)
				}
			}
			w.pass(time.Duration(rapid.IntRange(100, 5000).Draw(t, "ms")) * time.Millisecond)
			if g.loses = rapid.IntRange(0, 9).Draw(t, "loses") == 0; g.loses {
				w.pass(100 * time.Millisecond)
			}
		}
		most := int(limits.RequestsPerMinute)
		for i := range w.calls {
			if j := i + most; j < len(w.calls) && w.calls[j].Sub(w.calls[i]) < time.Minute {
				t.Fatalf("%d calls within %v", most+1, w.calls[j].Sub(w.calls[i]))
			}
		}
		w.pass(63 * time.Second)
		made := len(w.calls)
		for range 30 {
			for _, g := range w.gates {
				if w.enter(g, 1) {
					w.settle(g)
				}
			}
			if len(w.calls) < made+20 && len(w.calls) < made+most {
				w.pass(300 * time.Millisecond)
			}
		}
		if got := len(w.calls) - made; got < min(most, 20) {
			t.Fatalf("%d calls of %d are to be had", got, most)
		}
	})
}
