package ratelimit

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/coretest/property"
	"github.com/dragoman-mt/dragoman/core/shared"
	"github.com/dragoman-mt/dragoman/core/shared/sharedtest"
)

// joined are n gateways' gates that share accounts over the Redis at url.
func joined(t *testing.T, url string, n int, c Config) (all []*Stage, logs *observer.ObservedLogs) {
	t.Helper()
	seen, logs := observer.New(zap.DebugLevel)
	for i := range n {
		store, err := shared.New(shared.Config{URL: url, Prefix: "test"}, fmt.Sprint("machine", i), zap.New(seen))
		if err != nil {
			t.Fatal(err)
		}
		store.Start(shared.Member{})
		t.Cleanup(store.Close)
		built, err := Kind().Build(core.Env{Name: "ratelimit", Log: zap.New(seen), Shared: store, Deadline: time.Second}, &c)
		if err != nil {
			t.Fatal(err)
		}
		s := built.(*Stage)
		if err := s.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		all = append(all, s)
	}
	return all, logs
}

// until waits for what is to become so.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !is(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}

// leased is what is known of the lease of s, after its first answer.
func (s *Stage) leased() (l lease, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current.lease == nil {
		return l, false
	}
	return *s.current.lease, true
}

// learned has the store believe that what it holds is all there is.
func learned(r *sharedtest.Redis) {
	for key := range strings.Lines(r.Do("KEYS", "test:lease:*")) {
		if key = strings.TrimSpace(key); key != "" {
			r.Do("HSET", key, "epoch", "1")
		}
	}
}

// What one gateway was told by the upstream the others keep to at once, and at its end one
// of them asks whether it is over, for all.
func TestOne429PausesAllGatewaysAndOneProbes(t *testing.T) {
	r := sharedtest.Start(t)
	gates, _ := joined(t, r.URL, 4, Config{RequestsPerMinute: 60000, WhenUnreachable: Share})
	const pause, probe = 1200 * time.Millisecond, 300 * time.Millisecond
	var mu sync.Mutex
	type start struct {
		gate int
		at   time.Time
	}
	var starts []start
	var refused time.Time // when the 429 came
	refuse := false
	stop := make(chan struct{})
	var running sync.WaitGroup
	for i, s := range gates {
		running.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(3 * time.Millisecond):
				}
				req := &core.Request{Text: "x", Account: "acct"}
				if ok, _ := s.Take(req, time.Now()); !ok {
					continue
				}
				mu.Lock()
				starts = append(starts, start{i, time.Now()})
				after, o := 5*time.Millisecond, core.Outcome{}
				switch {
				case refuse && refused.IsZero():
					o.Err = &core.Error{Kind: core.RateLimited, RetryAfter: pause}
					refused, after = time.Now(), 0
				case !refused.IsZero():
					after = probe
				}
				mu.Unlock()
				running.Go(func() {
					time.Sleep(after)
					o.At = time.Now()
					s.Give(req, o)
				})
			}
		})
	}
	until(t, "every gateway has heard of the group", func() bool {
		for _, s := range gates {
			if l, ok := s.leased(); !ok || l.sent.IsZero() || l.asking || l.members != len(gates) {
				return false
			}
		}
		return true
	})
	learned(r)
	until(t, "every gateway has a lease", func() bool {
		for _, s := range gates {
			if l, ok := s.leased(); !ok || l.shares || !l.holds(time.Now()) {
				return false
			}
		}
		return true
	})
	mu.Lock()
	refuse = true
	mu.Unlock()
	until(t, "all start again", func() bool {
		mu.Lock()
		defer mu.Unlock()
		var who [4]bool
		for _, s := range starts {
			if !refused.IsZero() && s.at.After(refused.Add(pause)) {
				who[s.gate] = true
			}
		}
		return who == [4]bool{true, true, true, true}
	})
	close(stop)
	running.Wait()
	var late, first time.Duration
	probes := 0
	for _, s := range starts {
		switch after := s.at.Sub(refused); {
		case after <= 0:
		case after < pause-lag:
			late = max(late, after)
		default:
			if first == 0 {
				first = after
			}
			if after < first+probe {
				probes++
			}
		}
	}
	t.Logf("the last start after the 429: %v; the first after the pause of %v: %v, with %d in its time", late, pause, first, probes)
	if late > 20*time.Millisecond {
		t.Errorf("a call was started %v after the 429", late)
	}
	if probes != 1 || first > pause+time.Second {
		t.Errorf("%d calls asked whether the pause is over, the first %v after it", probes, first-pause)
	}
}

// A gateway that says good-bye leaves its part to the others at once; one of which nothing
// is heard any more keeps it.
func TestWhoIsGoneKeepsItsPartUnlessItSaidSo(t *testing.T) {
	property.WithoutRace(t)
	store, client := fake(t)
	for _, goodbye := range []bool{true, false} {
		g := newGroup(t, store, client, 600, 2)
		for _, m := range g.gates {
			m.rate = 10
		}
		g.pass(150 * time.Second)
		gone := g.gates[1]
		if goodbye {
			for _, a := range gone.stage.accounts {
				if _, err := gone.Run(t.Context(), leaseScript, a.lease.key, a.lease.request(a, gone, longest, g.now, true)...); err != nil {
					t.Fatal(err)
				}
			}
		}
		g.gates = g.gates[:1]
		g.pass(90 * time.Second)
		from := len(g.starts)
		g.pass(time.Minute)
		if used := len(g.starts) - from; goodbye != (used > 550) || !goodbye && (used < 250 || used > 300) {
			t.Errorf("good-bye %v: the other one used %d of 600", goodbye, used)
		}
	}
}

// An account that was forgotten and is used again is shared again.
func TestAnAccountThatIsUsedAgainIsSharedAgain(t *testing.T) {
	property.WithoutRace(t)
	store, client := fake(t)
	g := newGroup(t, store, client, 600, 2)
	for _, m := range g.gates {
		m.rate = 1
	}
	g.pass(80 * time.Second)
	m := g.gates[0]
	m.rate = 0
	g.pass(2 * time.Second)
	m.stage.mu.Lock()
	m.stage.leave("acct", m.stage.accounts["acct"])
	m.stage.mu.Unlock()
	g.pass(2 * time.Second)
	m.rate = 1
	g.pass(2 * time.Second)
	if l := m.stage.accounts["acct"].lease; l.shares || !l.holds(g.now) {
		t.Errorf("it keeps to its share: %v; its lease lasts: %v", l.shares, l.holds(g.now))
	}
}

// One that is killed and begins anew is not two, also while each keeps to its share.
func TestWhoBeginsAnewTakesNoShareFromTheOthers(t *testing.T) {
	property.WithoutRace(t)
	store, client := fake(t)
	g := newGroup(t, store, client, 600, 4)
	for _, m := range g.gates {
		m.rate = 10
	}
	g.pass(80 * time.Second)
	store.FlushAll()
	g.pass(2 * time.Second)
	g.begin(1)
	g.pass(5 * time.Second)
	for i, m := range g.gates {
		if l := m.stage.current.lease; !l.shares || l.members != 4 {
			t.Errorf("gateway %d keeps to its share: %v, of %d", i, l.shares, l.members)
		}
	}
}

// A final on one gateway does not wait behind the bulk of another.
func TestBulkOnOneGatewayDoesNotStarveFinalsOnAnother(t *testing.T) {
	property.WithoutRace(t)
	store, client := fake(t)
	g := newGroup(t, store, client, 600, 2)
	g.gates[0].rate, g.gates[0].lane = 100, core.LaneBulk
	g.pass(80 * time.Second)
	g.gates[1].rate, g.gates[1].lane = 2, core.LaneFinal
	worst := 0.
	for range 60 * 50 {
		g.pass(step)
		worst = max(worst, g.gates[1].backlog)
	}
	if worst > 3 {
		t.Errorf("up to %.1f finals waited", worst)
	}
	if n := g.gates[1].started; n < 115 {
		t.Errorf("%d of 120 finals were started", n)
	}
}

// What an upstream said of its limit to one gateway holds for all.
func TestALimitThatOneLearnedAllKeepTo(t *testing.T) {
	property.WithoutRace(t)
	store, client := fake(t)
	g := newGroup(t, store, client, 600, 3)
	for _, m := range g.gates {
		m.rate = 10
	}
	g.pass(100 * time.Second)
	req := &core.Request{Text: "x", Account: "acct"}
	ok := false
	for i := 0; i < 500 && !ok; i++ {
		g.pass(step)
		ok, _ = g.gates[0].stage.Take(req, g.now)
	}
	g.gates[0].stage.Give(req, core.Outcome{At: g.now, Limits: core.Limits{Requests: core.Limit{Known: true, Limit: 300, Remaining: 100, Reset: time.Minute}}})
	g.pass(2 * time.Second)
	for i, m := range g.gates {
		if limit := m.stage.current.requests.limit; limit != 300 {
			t.Errorf("gateway %d keeps to %v", i, limit)
		}
	}
}

// What the others spend is not known when the store is away: then each has its share, or, if
// the file says so, nothing.
func TestWithoutTheStoreAGatewayHasItsShareOrStops(t *testing.T) {
	property.WithoutRace(t)
	for _, when := range []string{Share, Stop} {
		store, client := fake(t)
		g := newGroup(t, store, client, 600, 3)
		for _, m := range g.gates {
			m.stage.config.WhenUnreachable, m.rate = when, 10
		}
		g.pass(80 * time.Second)
		g.down = true
		g.pass(80 * time.Second)
		from := len(g.starts)
		g.pass(time.Minute)
		switch used := len(g.starts) - from; {
		case when == Stop && used != 0:
			t.Errorf("%d calls were started", used)
		case when == Share && (used < 560 || used > 600):
			t.Errorf("%d calls of 600 were started", used)
		}
		g.down = false
		g.pass(3 * time.Second)
		if from = len(g.starts); when == Stop {
			g.pass(5 * time.Second)
			if len(g.starts) == from {
				t.Error("nothing is started though the store is back")
			}
		}
	}
}

// A record that nobody here understands, or a key that is another program's, leaves each
// gateway with its share.
func TestWhatTheStoreHoldsOfOthersStopsNobody(t *testing.T) {
	for name, tc := range map[string]struct {
		spoil []string
		want  string
	}{
		"a later version's record": {[]string{"HSET", "KEY", "g:later", `{"v":2,"q":[1,2]}`}, "later version"},
		"nonsense":                 {[]string{"HSET", "KEY", "g:odd", `nonsense`}, "later version"},
		"another program's value":  {[]string{"SET", "KEY", "theirs"}, "cannot be used"},
	} {
		t.Run(name, func(t *testing.T) {
			r := sharedtest.Start(t)
			gates, logs := joined(t, r.URL, 1, Config{RequestsPerMinute: 6000, WhenUnreachable: Share})
			req := &core.Request{Text: "x", Account: "acct"}
			gates[0].Take(req, time.Now())
			until(t, "it has asked", func() bool { l, _ := gates[0].leased(); return !l.sent.IsZero() && !l.asking })
			key := r.Do("KEYS", "test:lease:*")
			if tc.spoil[0] == "SET" {
				r.Do("DEL", key)
			}
			for i, word := range tc.spoil {
				if word == "KEY" {
					tc.spoil[i] = key
				}
			}
			r.Do(tc.spoil...)
			until(t, "a line says so", func() bool { return logs.FilterMessageSnippet(tc.want).Len() == 1 })
			time.Sleep(granted)
			started := 0
			for range 100 {
				if ok, _ := gates[0].Take(req, time.Now()); ok {
					started++
				}
				time.Sleep(2 * time.Millisecond)
			}
			if l, _ := gates[0].leased(); started == 0 || !l.shares {
				t.Errorf("%d started, with its share: %v", started, l.shares)
			}
			if n := logs.FilterMessageSnippet(tc.want).Len(); n != 1 {
				t.Errorf("%d lines", n)
			}
			if tc.spoil[0] == "SET" && r.Do("GET", key) != "theirs" {
				t.Error("their value is gone")
			}
		})
	}
}

func FuzzAgreement(f *testing.F) {
	f.Add("\n0\n2\n5\n600\n0\n0")
	f.Add("stale")
	f.Add("paused\n250\n4\n0\n600\n0\n0\nnewer")
	f.Fuzz(func(t *testing.T, said string) {
		g, err := parseAgreement(strings.Split(said, "\n"))
		if err == nil && (g.members < 0 || g.wait < 0 || g.grant[0] < 0 || g.limit[1] < 0) {
			t.Errorf("%q: %+v", said, g)
		}
	})
}

func TestWhatIsRememberedIsCheckedBeforeItIsBelieved(t *testing.T) {
	for said, good := range map[string]bool{`{"gateways":4}`: true, `{"gateways":0}`: false, `{"gateways":1e9}`: false, `x`: false, `{}`: false} {
		s := New(Defaults())
		if err := s.Recall([]byte(said)); (err == nil) != good {
			t.Errorf("%s: %v", said, err)
		}
	}
}
