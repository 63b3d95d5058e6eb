package live

import (
	"context"
	"fmt"
	mathrand "math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/coretest/property"
	"github.com/dragoman-mt/dragoman/core/door"
	"github.com/dragoman-mt/dragoman/core/live"
	"github.com/dragoman-mt/dragoman/core/shared"
	"github.com/dragoman-mt/dragoman/core/shared/sharedtest"
)

// A cable is the way of one gateway to the store, which can be cut, slowed, and made to lose.
type cable struct {
	core.Shared
	core.Room
	dead   atomic.Bool  // the gateway is: what it does reaches nobody
	slow   atomic.Int64 // nanoseconds
	losing atomic.Bool  // one call in four does not arrive, and one answer in four
}

func (c *cable) State() core.Room { return c }
func (c *cable) Up() bool         { return !c.dead.Load() && c.Room.Up() }

func (c *cable) call(call func(context.Context, *core.Script, string, ...string) ([]string, error), ctx context.Context, s *core.Script, key string, args []string) ([]string, error) {
	lost := c.losing.Load()
	if c.dead.Load() || lost && mathrand.IntN(4) == 0 {
		return nil, context.DeadlineExceeded
	}
	time.Sleep(time.Duration(c.slow.Load()))
	list, err := call(ctx, s, key, args...)
	if lost && mathrand.IntN(4) == 0 {
		return nil, context.DeadlineExceeded
	}
	return list, err
}

func (c *cable) Ask(ctx context.Context, s *core.Script, key string, args ...string) ([]string, error) {
	return c.call(c.Room.Ask, ctx, s, key, args)
}

func (c *cable) Run(ctx context.Context, s *core.Script, key string, args ...string) ([]string, error) {
	return c.call(c.Room.Run, ctx, s, key, args)
}

func (c *cable) Later(s *core.Script, key string, args ...string) {
	if !c.dead.Load() {
		c.Room.Later(s, key, args...)
	}
}

// A member is a gateway of a group.
type member struct {
	*gateway
	cable *cable
	logs  *observer.ObservedLogs
}

// join starts one. Its store and its log are its own.
func join(t testing.TB, r *sharedtest.Redis, c door.Config, l live.Config, f translator) *member {
	t.Helper()
	core, logs := observer.New(zap.InfoLevel)
	log := zap.New(core)
	s, err := shared.New(shared.Config{URL: r.URL, Prefix: "group", Encrypt: "a secret of the whole group"}, fmt.Sprint("machine-", mathrand.Int()), log)
	if err != nil {
		t.Fatal(err)
	}
	s.Start(shared.Member{PID: os.Getpid(), Started: time.Now()})
	t.Cleanup(s.Close)
	for !s.State().Up() {
		time.Sleep(time.Millisecond)
	}
	k := &cable{Shared: s, Room: s.State()}
	m := &member{serveLogged(t, log, c, l, f, k), k, logs}
	m.door.group.wait = time.Second // a busy machine is no slow store
	return m
}

func (m *member) dial(header ...string) *client {
	m.t.Helper()
	c := m.gateway.dial(header...)
	c.far = true
	return c
}

// settles waits until all that its sessions have sent is in their records.
func (m *member) settles() {
	m.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		m.door.mu.Lock()
		var all []*session
		for _, s := range m.door.sessions {
			all = append(all, s)
		}
		m.door.mu.Unlock()
		settled := true
		for _, s := range all {
			s.mu.Lock()
			settled = settled && s.live.Out().Proven() && !s.live.Out().Unsaved() && !s.kept.saving
			s.mu.Unlock()
		}
		if settled {
			return
		}
		if time.Now().After(deadline) {
			m.t.Fatal("its sessions are not in the store after 10 s")
		}
	}
}

// kill is as near to kill -9 as one process allows: from now on nothing of it reaches anybody.
func (m *member) kill() {
	m.cable.dead.Store(true)
	m.door.mu.Lock()
	var all []*session
	for _, s := range m.door.sessions {
		all = append(all, s)
	}
	m.door.mu.Unlock()
	for _, s := range all {
		s.mu.Lock()
		if c, is := s.conn.(*connection); is {
			c.under.Close()
		}
		s.mu.Unlock()
	}
}

// Whichever of three gateways is killed when, and however slow or lossy the store is, each final
// comes once and in order. DRAGOMAN_SOAK=1 makes it three hundred sessions.
func TestEachFinalComesOnceThoughGatewaysAreKilled(t *testing.T) {
	for name, losing := range map[string]bool{"and the store is there": false, "and the store loses what it is told": true} {
		t.Run(name, func(t *testing.T) { killed(t, losing) })
	}
}

func killed(t *testing.T, losing bool) {
	r := sharedtest.Start(t)
	sessions, segments := property.Rounds(300, 9), property.Rounds(15, 8)
	pause := time.Duration(property.Rounds(2000, 1)) * time.Millisecond
	l := plain()
	l.MaxSessions = sessions
	slowly := func(ctx context.Context, q *core.Request) (*core.Result, error) {
		time.Sleep(mathrand.N(20 * time.Millisecond))
		return shout(ctx, q)
	}
	var mu sync.Mutex
	all := []*member{}
	for range 3 {
		all = append(all, join(t, r, door.Defaults(), l, slowly))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	var cuts atomic.Int64
	var running sync.WaitGroup
	speakers := make([]*speaker, sessions)
	for i := range speakers {
		s := &speaker{
			name: fmt.Sprint("speaker-", i), rand: mathrand.New(mathrand.NewPCG(1, uint64(i))), cuts: &cuts,
			pause: pause, unfinished: map[int]string{}, concluded: map[string]string{}, finals: map[string]int{},
		}
		s.move = func(s *speaker) {
			mu.Lock()
			defer mu.Unlock()
			alive := slices.DeleteFunc(slices.Clone(all), func(m *member) bool { return m.cable.dead.Load() })
			m := alive[s.rand.IntN(len(alive))]
			s.g, s.gone = m.gateway, m.cable.dead.Load
		}
		speakers[i] = s
		running.Go(func() { s.speak(ctx, segments) })
	}
	killed := make(chan struct{})
	go func() {
		defer close(killed)
		for n := range 2 {
			for cuts.Load() < int64((n+1)*sessions*segments/12) && ctx.Err() == nil {
				time.Sleep(time.Millisecond)
			}
			mu.Lock()
			all[n].cable.dead.Store(true)
			mu.Unlock()
			all[n].kill()
			all[2].cable.losing.Store(losing && n == 0)
		}
	}()
	running.Wait()
	cancel()
	<-killed
	anew := 0
	for _, s := range speakers {
		anew += s.anew
		for _, w := range s.wrong {
			t.Error(w)
		}
		if len(s.wrong) == 0 && len(s.finals) != segments {
			t.Errorf("%s: %d finals", s.name, len(s.finals))
		}
	}
	var taken, unstored int64
	for _, m := range all {
		taken += m.door.group.taken.Load()
		unstored += m.door.group.unstored.Load()
	}
	t.Logf("%d sessions of %d segments, %d cuts, %d handed over, %d begun anew, %d times unstored", sessions, segments, cuts.Load(), taken, anew, unstored)
	if anew > 0 && unstored == 0 {
		t.Errorf("%d sessions were begun anew, and all was stored", anew)
	}
	if taken == 0 && unstored == 0 {
		t.Error("nothing was handed over: the test looks at nothing")
	}
}

// What lies where a record should, and cannot be used, stays as it is; the session is one of
// this gateway alone, and one line says why.
func TestWhatIsNoRecordIsLeftAloneAndTheSessionLives(t *testing.T) {
	r := sharedtest.Start(t)
	m := join(t, r, door.Defaults(), plain(), shout)
	key := "group:" + shelf(m.door.group.handle(owner{"127.0.0.1", "room"}))
	for _, is := range [][]string{{"set", key, "mine"}, {"hset", key, "v", "2", "fence", "1", "n", "1", "epoch", "1", "data", "later"}} {
		r.Do("del", key)
		r.Do(is...)
		was := r.Do("dump", key)
		c := m.dial().say(begin, source("s1", "It lives.", true))
		if f := c.final(); f.Text != "IT LIVES./es" {
			t.Errorf("%+v", f)
		}
		c.say(`{"type":"end"}`)
		if code := c.closes(); code != closeNormal {
			t.Errorf("closed with %d", code)
		}
		if now := r.Do("dump", key); now != was {
			t.Errorf("%v became %q", is, now)
		}
	}
	if n := m.logs.FilterMessageSnippet("the record of a live session").Len(); n != 1 {
		t.Errorf("it is said %d times: %v", n, m.logs.All())
	}
}

// Only the key whose session it is goes on with it, and only with its token.
func TestARecordIsOfItsKeyAndOfNobodyElse(t *testing.T) {
	r := sharedtest.Start(t)
	a, b := join(t, r, keyed("one", "two"), plain(), shout), join(t, r, keyed("one", "two"), plain(), shout)
	c := a.dial(bearerOf("one")...).say(begin)
	ready := c.until("ready")
	a.settles()
	if code := b.dial(bearerOf("two")...).say(resumes(ready, 1)).closes(); code != closeUnauthorized {
		t.Errorf("another key's is closed with %d", code)
	}
	for name, start := range map[string]string{
		"a token that was guessed":     fmt.Sprintf(`{"type":"start","targets":["es"],"resume":%q,"after":1}`, newToken(a.door.group.handle(owner{"one", "room"}))),
		"a frame that was never there": fmt.Sprintf(`{"type":"start","targets":["es"],"session":"other","resume":%q,"after":99999}`, ready.Resume),
	} {
		if f := b.dial(bearerOf("one")...).say(start).until("ready"); f.Resumed {
			t.Errorf("%s: %+v", name, f)
		}
	}
	if f := b.dial(bearerOf("one")...).say(resumes(ready, 1)).until("ready"); !f.Resumed {
		t.Errorf("%+v", f)
	}
}

func FuzzStored(f *testing.F) {
	f.Add([]byte(`{"v":1,"session":"room","tokens":[{"digest":[1]}],"live":{"targets":[{"language":"es"}],"out":{"upto":9,"begun":[1]}}}`))
	d := New(plain(), door.New(door.Defaults(), translator(shout)), nil, zap.NewNop())
	f.Fuzz(func(t *testing.T, raw []byte) {
		w, err := readStored(raw)
		if err != nil {
			return
		}
		w.shows("token")
		if s, err := d.restore(&w, time.Unix(1000, 0)); err == nil && len(s.live.Targets()) > 100 {
			t.Error("more targets than there are languages")
		}
	})
}

func resumes(f got, after int64) string {
	return fmt.Sprintf(`{"type":"start","resume":%q,"after":%d}`, f.Resume, after)
}

// A session goes on with another gateway as if nothing had been: what was not received comes
// again, what was received does not, what was said and not answered is translated, and the
// former gateway closes what it has with 4409.
func TestASessionGoesOnWithAnotherGateway(t *testing.T) {
	r := sharedtest.Start(t)
	hang := make(chan struct{})
	a := join(t, r, door.Defaults(), plain(), func(ctx context.Context, q *core.Request) (*core.Result, error) {
		if strings.Contains(q.Text, "hang") {
			select {
			case <-hang:
			case <-ctx.Done():
			}
			return nil, core.ContextError(ctx, "test")
		}
		return shout(ctx, q)
	})
	defer close(hang)
	b := join(t, r, door.Defaults(), plain(), shout)

	one := a.dial().say(begin)
	ready := one.until("ready")
	if ready.Resumed || ready.Epoch != 1 {
		t.Fatalf("%+v", ready)
	}
	one.say(source("s1", "It is heard.", true))
	heard := one.final()
	one.say(source("s2", "It is lost.", true))
	one.final() // but its client does not have it
	one.say(source("s3", "It may hang.", true), source("s4", "It is open and", false))
	for len(a.door.Sessions()) == 0 || a.door.Sessions()[0].Revisions < 4 {
		time.Sleep(time.Millisecond)
	}
	a.settles()

	two := b.dial().say(resumes(ready, heard.Seq))
	again := two.until("ready")
	if !again.Resumed || again.Epoch != 1 || again.Session != "room" || again.Resume == ready.Resume || again.Seq <= heard.Seq {
		t.Fatalf("%+v", again)
	}
	if f := two.final(); f.Segment != "s2" || f.Text != "IT IS LOST./es" || f.Concluded != f.Text {
		t.Errorf("%+v", f)
	}
	if f := two.final(); f.Segment != "s3" || f.Text != "IT MAY HANG./es" {
		t.Errorf("%+v", f)
	}
	// What is said again is passed over.
	two.say(source("s1", "It is heard.", true), source("s2", "It is lost.", true), source("s3", "It may hang.", true), source("s4", "It is open and over.", true))
	if f := two.final(); f.Segment != "s4" || f.Text != "IT IS OPEN AND OVER./es" {
		t.Errorf("%+v", f)
	}
	if code := one.closes(); code != closeTaken {
		t.Errorf("the former connection was closed with %d", code)
	}
	if n := a.door.group.fenced.Load(); n != 1 || len(a.door.Sessions()) != 0 {
		t.Errorf("%d sessions were handed over, and %v are there", n, a.door.Sessions())
	}
	b.settles()
	// And back again, with nothing but the token.
	three := a.dial().say(resumes(again, two.seq))
	if f := three.until("ready"); !f.Resumed {
		t.Errorf("%+v", f)
	}
	three.say(`{"type":"end"}`)
	if code := three.closes(); code != closeNormal {
		t.Errorf("closed with %d", code)
	}
	if left := r.Do("hgetall", "group:"+shelf(a.door.group.handle(owner{"127.0.0.1", "room"}))); strings.Contains(left, "data") {
		t.Errorf("of a session that has ended there is %q", left)
	}
	if keys := r.Do("--raw", "keys", "*"); strings.Contains(keys, "room") {
		t.Errorf("the store tells names: %s", keys)
	}
}
