package live

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/coretest/property"
	"github.com/dragoman-mt/dragoman/core/door"
)

// A speaker is a client whose connection is cut at random, and who comes back.
type speaker struct {
	g      *gateway
	move   func(*speaker) // to another gateway, before it connects; nil for staying
	gone   func() bool    // its gateway has been killed; nil for never
	pause  time.Duration  // between segments, at the most
	anew   int            // how often its session was begun anew
	name   string
	rand   *rand.Rand
	ws     *websocket.Conn
	seq    int64
	resume string
	epoch  int64
	cuts   *atomic.Int64

	unfinished map[int]string
	concluded  map[string]string
	finals     map[string]int
	order      []int
	wrong      []string
}

func (s *speaker) complain(format string, args ...any) {
	if len(s.wrong) < 5 {
		s.wrong = append(s.wrong, s.name+": "+fmt.Sprintf(format, args...))
	}
}

// connect opens a connection, and returns when its session is ready.
func (s *speaker) connect(ctx context.Context) error {
	for ctx.Err() == nil {
		if s.move != nil {
			s.move(s)
		}
		ws, _, err := websocket.Dial(ctx, strings.Replace(s.g.url, "http", "ws", 1)+"/v1/live", &websocket.DialOptions{Subprotocols: []string{Protocol}, HTTPHeader: http.Header{}})
		if err != nil {
			return err
		}
		s.ws = ws
		start := map[string]any{"type": "start", "session": s.name, "source": "en", "targets": []string{"es"}}
		if s.resume != "" {
			start["resume"], start["after"] = s.resume, s.seq
		}
		if s.write(ctx, start) != nil {
			continue
		}
		if s.resume != "" && s.rand.IntN(5) == 0 {
			ws.CloseNow() // before it has heard ready
			s.cuts.Add(1)
			continue
		}
		f, err := s.read(ctx)
		if err != nil {
			continue
		}
		if s.gone != nil && s.gone() {
			ws.CloseNow() // it says nothing any more
			continue
		}
		if again := s.resume != "" && !f.Resumed; f.Type != "ready" || again && s.move == nil {
			s.complain("after %d: %+v", s.seq, f)
		} else if again {
			s.anew++
			for n := range s.unfinished {
				delete(s.concluded, fmt.Sprint(n))
			}
		}
		s.resume, s.seq, s.epoch = f.Resume, f.Seq, f.Epoch
		for _, n := range slices.Sorted(maps.Keys(s.unfinished)) {
			s.ws.Write(ctx, websocket.MessageText, []byte(s.unfinished[n]))
		}
		return nil
	}
	return context.Cause(ctx)
}

func (s *speaker) write(ctx context.Context, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return s.ws.Write(ctx, websocket.MessageText, raw)
}

func (s *speaker) read(ctx context.Context) (f got, err error) {
	_, raw, err := s.ws.Read(ctx)
	if err == nil {
		err = json.Unmarshal(raw, &f)
	}
	return f, err
}

// take takes what the gateway sends until nothing of it is missing for fewer than most
// segments, and comes back when the connection is lost.
func (s *speaker) take(ctx context.Context, most int) error {
	for len(s.unfinished) > most {
		f, err := s.read(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err := s.connect(ctx); err != nil {
				return err
			}
			continue
		}
		if f.Seq <= s.seq || f.Seq != s.seq+1 && s.move == nil {
			s.complain("frame %d after %d", f.Seq, s.seq)
		}
		s.seq = f.Seq
		if f.Type == "error" {
			s.complain("%s", f.Message)
		}
		if f.Type != "target" {
			continue
		}
		s.concluded[f.Segment] += f.Concluded
		if !f.Final {
			continue
		}
		if s.finals[f.Segment]++; s.finals[f.Segment] > 1 {
			s.complain("%s: %d finals", f.Segment, s.finals[f.Segment])
		}
		if f.Error == nil && f.Corrected == 0 && s.concluded[f.Segment] != f.Text {
			s.complain("%s: concluded %q of %q", f.Segment, s.concluded[f.Segment], f.Text)
		}
		n := 0
		fmt.Sscan(f.Segment, &n)
		if last := len(s.order) - 1; last >= 0 && s.order[last] > n && fmt.Sprint(f.Late) != "true" {
			s.complain("%d after %d", n, s.order[last])
		}
		s.order = append(s.order, n)
		delete(s.unfinished, n)
		if s.rand.IntN(4) == 0 {
			s.ws.CloseNow()
			s.cuts.Add(1)
		}
	}
	return nil
}

// speak says so many segments, and hears all their finals.
func (s *speaker) speak(ctx context.Context, segments int) {
	if err := s.connect(ctx); err != nil {
		s.complain("%v", err)
		return
	}
	for n := range segments {
		time.Sleep(rand.N(s.pause + 1))
		words := strings.Fields(fmt.Sprintf("This is number %d of %s and it is long enough. It has two sentences, of which this is the other.", n, s.name))
		for i := 4; i <= len(words); i += 3 {
			final := i+3 > len(words)
			if final {
				i = len(words)
			}
			said := fmt.Sprintf(`{"type":"source","segment":"%d","revision":%d,"text":%q,"final":%v}`, n, i, strings.Join(words[:i], " "), final)
			s.unfinished[n] = said
			s.ws.Write(ctx, websocket.MessageText, []byte(said)) // when it is cut it is said again
		}
		if err := s.take(ctx, 3); err != nil {
			s.complain("%v, of %v", err, s.unfinished)
			return
		}
	}
	if err := s.take(ctx, 0); err != nil {
		s.complain("%v, of %v", err, s.unfinished)
	}
	s.ws.CloseNow()
}

// Whatever is cut when, each final comes once and in order, and nothing of what is
// concluded is missing or doubled. `make soak` makes it a thousand sessions of fifty segments.
func TestNothingIsDroppedInvertedOrDoubledThoughConnectionsAreCut(t *testing.T) {
	sessions, segments := property.Rounds(1000, 12), property.Rounds(50, 20)
	l := plain()
	l.MaxSessions = sessions
	kinds := []core.ErrorKind{
		core.InvalidRequest, core.UnsupportedLanguage, core.TooLarge, core.Unauthorized, core.Forbidden, core.Superseded, core.Overloaded, core.Unavailable,
		core.RateLimited, core.QuotaExceeded, core.DeadlineExceeded, core.ProviderFailed, core.ProviderRefused, core.BadAnswer, core.Canceled, core.Internal,
	}
	c := door.Defaults()
	c.Deadline = time.Second
	g := serve(t, c, l, func(ctx context.Context, r *core.Request) (*core.Result, error) {
		select {
		case <-time.After(rand.N(8 * time.Millisecond)):
		case <-ctx.Done():
			return nil, core.ContextError(ctx, "test")
		}
		if rand.IntN(50) > 0 {
			return shout(ctx, r)
		}
		// One call in fifty meets something.
		switch rand.IntN(len(kinds) + 2) {
		case 0:
			panic("a fault")
		case 1: // it hangs for as long as it may
			<-ctx.Done()
			return nil, core.ContextError(ctx, "test")
		default:
			return nil, &core.Error{Kind: kinds[rand.IntN(len(kinds))], Detail: "a fault", RetryAfter: time.Millisecond}
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	var cuts atomic.Int64
	var all sync.WaitGroup
	speakers := make([]*speaker, sessions)
	for i := range speakers {
		s := &speaker{
			g: g, name: fmt.Sprint("speaker-", i), rand: rand.New(rand.NewPCG(1, uint64(i))), cuts: &cuts,
			unfinished: map[int]string{}, concluded: map[string]string{}, finals: map[string]int{},
		}
		speakers[i] = s
		all.Go(func() { s.speak(ctx, segments) })
	}
	// Meanwhile the file is read anew, again and again.
	done := make(chan struct{})
	var reloads sync.WaitGroup
	reloads.Go(func() {
		for n := 0; ; n++ {
			select {
			case <-done:
				return
			case <-time.After(50 * time.Millisecond):
			}
			c, l := g.config, l
			c.MaxText -= n % 2
			l.Mask = n % 3
			for _, plan := range []func() (func(), error){func() (func(), error) { return g.server.Plan(&c) }, func() (func(), error) { return g.door.Plan(&l) }} {
				apply, err := plan()
				if err != nil {
					t.Error(err)
					return
				}
				apply()
			}
		}
	})
	all.Wait()
	close(done)
	reloads.Wait()
	for _, s := range speakers {
		for _, w := range s.wrong {
			t.Error(w)
		}
		if len(s.wrong) == 0 && len(s.finals) != segments {
			t.Errorf("%s: %d finals", s.name, len(s.finals))
		}
	}
	t.Logf("%d sessions of %d segments, %d cuts, %d resumed", sessions, segments, cuts.Load(), g.door.metrics.resumed.Load())
}
