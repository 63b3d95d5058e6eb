package ratelimit

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/rueidis"
	"pgregory.net/rapid"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/coretest/property"
	"github.com/dragoman-mt/dragoman/core/shared/sharedtest"
)

// A group is gateways that share one account over one store, in a time that a test moves.
type group struct {
	t      rapid.TB
	store  clocked
	client rueidis.Client
	script *rueidis.Lua
	limit  int
	began  time.Time
	now    time.Time
	down   bool // the store is
	gates  []*member
	starts []time.Duration // of calls, of all
	made   int
	calls  int // of the store
}

// A clocked store has the time that a test says.
type clocked interface {
	SetTime(time.Time)
	FlushAll()
	Keys() []string
	HKeys(key string) ([]string, error)
	HGet(key, field string) string
	HSet(key string, fieldsAndValues ...string)
}

// A served store is that of a redis-server, whose script is told what time it is.
type served struct {
	client rueidis.Client
	t      testing.TB
	now    time.Time
}

func (s *served) SetTime(now time.Time) { s.now = now }

func (s *served) do(words ...string) rueidis.RedisResult {
	res := s.client.Do(context.Background(), s.client.B().Arbitrary(words...).Build())
	if err := res.Error(); err != nil && !rueidis.IsRedisNil(err) {
		s.t.Errorf("%v: %v", words, err)
	}
	return res
}

func (s *served) FlushAll() { s.do("FLUSHALL") }

func (s *served) Keys() []string {
	all, _ := s.do("KEYS", "*").AsStrSlice()
	return all
}

func (s *served) HKeys(key string) ([]string, error) { return s.do("HKEYS", key).AsStrSlice() }

func (s *served) HGet(key, field string) string {
	value, _ := s.do("HGET", key, field).ToString()
	return value
}

func (s *served) HSet(key string, fieldsAndValues ...string) {
	s.do(append([]string{"HSET", key}, fieldsAndValues...)...)
}

// A member is one gateway. It is its own core.Shared.
type member struct {
	core.Shared
	core.Room
	group   *group
	stage   *Stage
	name    string
	machine string
	cut     bool // it cannot reach the store
	lane    core.Lane
	rate    float64 // texts a second that come
	backlog float64
	again   time.Time
	ends    []ending
	started int
}

type ending struct {
	at  time.Time
	req *core.Request
	o   core.Outcome
}

func (m *member) Self() string           { return m.name }
func (m *member) Machine() string        { return m.machine }
func (m *member) Name(key string) string { return key }
func (m *member) State() core.Room       { return m }
func (m *member) Up() bool               { return !m.cut && !m.group.down }
func (m *member) Run(ctx context.Context, s *core.Script, key string, args ...string) ([]string, error) {
	if !m.Up() {
		return nil, errors.New("away")
	}
	m.group.calls++
	m.group.store.SetTime(m.group.now)
	if s, ok := m.group.store.(*served); ok {
		args = append(args[:len(args):len(args)], fmt.Sprint(s.now.Unix()), fmt.Sprint(s.now.Nanosecond()/1000))
	}
	return m.group.script.Exec(ctx, m.group.client, []string{"p:" + key}, append([]string{"p:news"}, args...)).AsStrSlice()
}

const longest = 8 * time.Second

func newGroup(t rapid.TB, store clocked, client rueidis.Client, limit, gateways int) *group {
	source := leaseSource
	if _, ok := store.(*served); ok {
		source = strings.Replace(source, "redis.call('TIME')", "{ARGV[#ARGV - 1], ARGV[#ARGV]}", 1)
	}
	g := &group{t: t, store: store, client: client, script: rueidis.NewLuaScript(source), limit: limit, began: time.Now()}
	g.now = g.began
	store.FlushAll()
	for i := range gateways {
		g.gates = append(g.gates, &member{group: g, machine: fmt.Sprint("m", i)})
		g.begin(i)
	}
	return g
}

// blind is how many calls gateway i may start too much when it is killed and begins anew: where
// each keeps to its share it does not know what its former self has spent of that. Either starts
// one at once, and paced from then on.
func (g *group) blind(i int) int {
	m := g.gates[i]
	if l := m.stage.current.lease; m.Up() && l != nil && !l.shares {
		return 0
	}
	return 2
}

// begin starts gateway i anew: what it knew is lost, what it called goes on upstream.
func (g *group) begin(i int) {
	m := g.gates[i]
	g.made++
	var remembered []byte
	if m.stage != nil {
		remembered = m.stage.Remember()
	}
	m.name = fmt.Sprint("g", g.made)
	m.stage = New(Config{RequestsPerMinute: g.limit, WhenUnreachable: Share})
	m.stage.shared, m.stage.longest = m, longest
	if remembered != nil {
		if err := m.stage.Recall(remembered); err != nil {
			g.t.Fatal(err)
		}
	}
	m.ends, m.again = nil, time.Time{}
}

// step is how fine the time of a test is.
const step = 20 * time.Millisecond

// pass lets d go by, with each gateway trying what it may.
func (g *group) pass(d time.Duration) {
	for end := g.now.Add(d); g.now.Before(end); g.now = g.now.Add(step) {
		for _, m := range g.gates {
			m.step()
		}
	}
}

func (m *member) step() {
	g := m.group
	for len(m.ends) > 0 && !m.ends[0].at.After(g.now) {
		e := m.ends[0]
		m.ends = m.ends[1:]
		e.o.At = g.now
		m.stage.Give(e.req, e.o)
	}
	m.backlog = min(m.backlog+m.rate*step.Seconds(), 1000)
	for m.backlog >= 1 && !g.now.Before(m.again) {
		req := &core.Request{Text: "x", Account: "acct", Lane: m.lane}
		ok, wait := m.stage.Take(req, g.now)
		if !ok {
			m.again = g.now.Add(min(max(wait, time.Millisecond), 100*time.Millisecond))
			break
		}
		m.backlog--
		m.started++
		g.starts = append(g.starts, g.now.Sub(g.began))
		m.ends = append(m.ends, ending{at: g.now.Add(300 * time.Millisecond), req: req})
	}
	due, _ := m.stage.due(g.now)
	for _, d := range due {
		list, err := m.Run(context.Background(), leaseScript, d.account.lease.key, d.args...)
		m.stage.answered(d, list, err, g.now)
		m.again = time.Time{} // the line is woken
	}
}

// fake is a store with a clock that a test sets.
func fake(t *testing.T) (*miniredis.Miniredis, rueidis.Client) {
	t.Helper()
	store := miniredis.RunT(t)
	client, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{store.Addr()}, DisableCache: true, ForceSingleClient: true, PipelineMultiplex: 0})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return store, client
}

// Whatever becomes of the gateways and of the store, in no 60 seconds they start more calls
// together than the account allows; and only a gateway that alone cannot reach the store may
// add its share to that.
func TestAllGatewaysTogetherKeepToTheLimit(t *testing.T) {
	property.WithoutRace(t) // it is one goroutine
	property.Few(t, 12)
	store, client := fake(t)
	property.Check(t, func(r *rapid.T) { keepsToTheLimit(r, store, client) })
}

// A real Redis reads and writes what the script does as the fake one does.
func TestAllGatewaysTogetherKeepToTheLimitOverARealRedis(t *testing.T) {
	property.WithoutRace(t)
	property.Few(t, 3)
	redis := sharedtest.Start(t)
	client, err := rueidis.NewClient(rueidis.ClientOption{
		InitAddress: []string{strings.TrimPrefix(redis.URL, "unix://")}, DisableCache: true, ForceSingleClient: true,
		DialCtxFn: func(ctx context.Context, at string, d *net.Dialer, _ *tls.Config) (net.Conn, error) {
			return d.DialContext(ctx, "unix", at)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	property.Check(t, func(r *rapid.T) { keepsToTheLimit(r, &served{client: client, t: t}, client) })
}

func keepsToTheLimit(r *rapid.T, store clocked, client rueidis.Client) {
	n := rapid.IntRange(2, 4).Draw(r, "gateways")
	limit := rapid.SampledFrom([]int{30, 120, 600}).Draw(r, "limit")
	g := newGroup(r, store, client, limit, n)
	for _, m := range g.gates {
		m.rate = float64(limit) / 60 * rapid.SampledFrom([]float64{0, 1, 5}).Draw(r, "rate at first")
	}
	g.pass(3 * time.Second) // each has heard how many they are
	cut, blind := map[int]bool{}, 0
	var saved map[string]map[string]string
	for range rapid.IntRange(4, 12).Draw(r, "events") {
		i := rapid.IntRange(0, n-1).Draw(r, "gateway")
		switch what := rapid.SampledFrom([]string{"demand", "kill", "flush", "save", "crash", "down", "up", "cut", "join", "goodbye"}).Draw(r, "what"); what {
		case "demand":
			g.gates[i].rate = float64(limit) / 60 * rapid.SampledFrom([]float64{0, 0.1, 1, 5}).Draw(r, "rate")
		case "kill":
			blind += g.blind(i)
			g.begin(i)
		case "flush":
			store.FlushAll()
		case "save":
			saved = hashes(store)
		case "crash": // it begins with what it saved once
			store.FlushAll()
			for key, fields := range saved {
				for field, value := range fields {
					store.HSet(key, field, value)
				}
			}
		case "down":
			g.down = true
		case "up":
			g.down = false
		case "cut":
			g.gates[i].cut, cut[i] = true, true
		case "join":
			g.gates[i].cut = false
		case "goodbye":
			for _, m := range g.gates[i].stage.accounts {
				g.gates[i].Run(context.Background(), leaseScript, m.lease.key, m.lease.request(m, g.gates[i], longest, g.now, true)...)
			}
			blind += g.blind(i)
			g.begin(i)
		}
		g.pass(time.Duration(rapid.IntRange(100, 20_000).Draw(r, "ms")) * time.Millisecond)
	}
	allowed := limit + blind
	allowed += len(cut) * limit / n
	if got := most(g.starts); got > allowed {
		r.Fatalf("%d calls were started in 60 s by %d gateways; the limit is %d", got, n, limit)
	}
}

// hashes are all that store holds.
func hashes(store clocked) map[string]map[string]string {
	all := map[string]map[string]string{}
	for _, key := range store.Keys() {
		all[key] = map[string]string{}
		fields, _ := store.HKeys(key)
		for _, field := range fields {
			all[key][field] = store.HGet(key, field)
		}
	}
	return all
}

// Under load hardly anything of the limit is left unused, however the load lies, and each
// gateway asks the store at most four times a second.
func TestTheGroupUsesWhatTheAccountAllows(t *testing.T) {
	property.WithoutRace(t)
	store, client := fake(t)
	for _, tc := range []struct {
		name  string
		rates []float64 // of the limit
		kills bool
	}{
		{"one is busy, and the others a little", []float64{2, 0.02, 0.02, 0.02}, false},
		{"all are, and one begins anew each half minute", []float64{1, 1, 1, 1}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			const limit = 600
			g := newGroup(t, store, client, limit, 4)
			g.pass(70 * time.Second) // nothing is known at first of what others spend
			for i, share := range tc.rates {
				g.gates[i].rate = share * limit / 60
			}
			g.pass(70 * time.Second)
			from, asked := len(g.starts), g.calls
			for i := range 8 {
				if tc.kills && i%2 == 0 {
					g.begin(i % 4)
				}
				g.pass(15 * time.Second)
			}
			used := len(g.starts) - from
			if got := most(g.starts); got > limit {
				t.Errorf("%d in 60 s", got)
			}
			calls := float64(g.calls-asked) / 4 / 120
			t.Logf("%.1f %% of the limit used, %.2f calls of the store a second and gateway", float64(used)/2/limit*100, calls)
			if used < 2*limit*97/100 || calls > 4 {
				t.Errorf("%d of %d used, %.2f calls of the store a second and gateway", used, 2*limit, calls)
			}
			for i, m := range g.gates {
				if tc.rates[i] == 0.02 && m.backlog > 3 {
					t.Errorf("%v texts wait at gateway %d, which has hardly any", m.backlog, i)
				}
			}
		})
	}
}
