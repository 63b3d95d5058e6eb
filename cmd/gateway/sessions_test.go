package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/dragoman-mt/dragoman/core/coretest/property"
	"github.com/dragoman-mt/dragoman/stages/openai/openaitest"
)

// A speaker is the client of one live session. It comes back when its connection is lost,
// and then says again what it has no final of.
type speaker struct {
	name string
	at   *atomic.Pointer[string] // the address of the gateway
	rand *rand.Rand

	ws     *websocket.Conn
	where  string // the address that it is connected to
	seq    int64
	resume string
	epoch  int64

	unfinished map[string]string // the latest frame of each segment without a final
	taken      map[string]bool   // of those, whose final the gateway has acknowledged
	finals     map[string]int
	overtaken  map[string]bool // of those without a final, those after which a segment began that has one
	told       int             // times that it heard of a gateway that does not know its session
	cuts       int
	wrong      []string
}

func (s *speaker) complain(format string, args ...any) {
	if len(s.wrong) < 3 {
		s.wrong = append(s.wrong, s.name+": "+fmt.Sprintf(format, args...))
	}
}

func (s *speaker) connect(ctx context.Context) error {
	for ctx.Err() == nil {
		where := *s.at.Load()
		ws, _, err := websocket.Dial(ctx, strings.Replace(where, "http", "ws", 1)+"/v1/live", &websocket.DialOptions{Subprotocols: []string{"dragoman.live.v1"}})
		if err != nil { // it stops, or starts
			time.Sleep(20 * time.Millisecond)
			continue
		}
		ws.SetReadLimit(1 << 20)
		start := map[string]any{"type": "start", "session": s.name, "source": "en", "targets": []string{"es"}, "acks": true}
		if s.resume != "" {
			start["resume"], start["after"] = s.resume, s.seq
		}
		raw, err := json.Marshal(start)
		if err != nil {
			return err
		}
		if ws.Write(ctx, websocket.MessageText, raw) != nil {
			continue
		}
		f, err := s.read(ctx, ws)
		if err != nil {
			continue
		}
		switch {
		case f.Type != "ready":
			s.complain("in place of ready: %+v", f)
		case s.resume != "" && where == s.where && (!f.Resumed || f.Epoch != s.epoch || f.Seq <= s.seq):
			s.complain("the same gateway, after %d: %+v", s.seq, f)
		case s.resume != "" && where != s.where && f.Resumed:
			s.complain("another gateway goes on with what it never had: %+v", f)
		case s.resume != "" && where != s.where:
			s.told++
		}
		s.ws, s.where, s.resume, s.seq, s.epoch, s.taken = ws, where, f.Resume, f.Seq, f.Epoch, map[string]bool{}
		if !f.Resumed { // another session, which has heard nothing of what came before
			s.overtaken = map[string]bool{}
		}
		for _, id := range slices.Sorted(maps.Keys(s.unfinished)) {
			ws.Write(ctx, websocket.MessageText, []byte(s.unfinished[id]))
		}
		return nil
	}
	return context.Cause(ctx)
}

type liveFrame struct {
	Type, Segment, Text, Resume, Message string
	Seq, Epoch, Revision                 int64
	Resumed, Final, Late                 bool
	Error                                any
}

func (s *speaker) read(ctx context.Context, ws *websocket.Conn) (f liveFrame, err error) {
	_, raw, err := ws.Read(ctx)
	if err == nil {
		err = json.Unmarshal(raw, &f)
	}
	return f, err
}

// said is the last revision, which is the segment's final.
const lastRevision = 3

func (s *speaker) text(segment string) string {
	return fmt.Sprintf("Segment %s of %s is over.", segment, s.name)
}

// say says a segment, a revision after the other.
func (s *speaker) say(ctx context.Context, segment string) {
	words := strings.Fields(s.text(segment))
	for revision := 1; revision <= lastRevision; revision++ {
		n := len(words) * revision / lastRevision
		s.unfinished[segment] = fmt.Sprintf(`{"type":"source","segment":%q,"revision":%d,"text":%q,"final":%v}`, segment, revision, strings.Join(words[:n], " "), revision == lastRevision)
		s.ws.Write(ctx, websocket.MessageText, []byte(s.unfinished[segment])) // what is lost is said again
	}
}

// hear takes what comes until no more than so many finals are missing; for none, until
// another gateway has been met as well.
func (s *speaker) hear(ctx context.Context, missing int) error {
	for len(s.unfinished) > missing || missing == 0 && s.told == 0 {
		f, err := s.read(ctx, s.ws)
		if err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if websocket.CloseStatus(err) == websocket.StatusServiceRestart && len(s.taken) > 0 {
				s.complain("the gateway stopped, and owes the finals of %v", slices.Sorted(maps.Keys(s.taken)))
			}
			if err := s.connect(ctx); err != nil {
				return err
			}
			continue
		}
		switch {
		case f.Type == "ack":
			if _, is := s.unfinished[f.Segment]; is && f.Revision == lastRevision {
				s.taken[f.Segment] = true
			}
			continue
		case f.Seq != s.seq+1:
			s.complain("frame %d after %d", f.Seq, s.seq)
		case f.Type == "error":
			s.complain("%s", f.Message)
		}
		s.seq = f.Seq
		if f.Type != "target" || !f.Final {
			continue
		}
		if s.finals[f.Segment]++; s.finals[f.Segment] > 1 {
			s.complain("%d finals of %s", s.finals[f.Segment], f.Segment)
		}
		if want := "[es] " + s.text(f.Segment); f.Text != want {
			s.complain("%s: %q and error %v, want %q", f.Segment, f.Text, f.Error, want)
		}
		delete(s.unfinished, f.Segment)
		delete(s.taken, f.Segment)
		if f.Late != s.overtaken[f.Segment] {
			s.complain("%s: late is %v, and of what it was overtaken by: %v", f.Segment, f.Late, s.overtaken[f.Segment])
		}
		for earlier := range s.unfinished {
			if earlier < f.Segment { // segments are named in the order in which they begin
				s.overtaken[earlier] = true
			}
		}
		if s.rand.IntN(8) == 0 {
			s.ws.CloseNow()
			s.cuts++
		}
	}
	return nil
}

// A hundred sessions go on while the plugin that translates for them is killed, the file is
// changed and read anew, and connections are cut; then the gateway stops, and another one
// starts. Every final comes once, is right, and stands in the order of its segments or is
// marked late; those that the gateway had acknowledged come before it closes, and every
// client is told that the other gateway does not know its session.
func TestAHundredLiveSessionsOutliveKillsReloadsAndAnotherGateway(t *testing.T) {
	if testing.Short() {
		t.Skip("not tested: it takes many seconds")
	}
	sessions, segments := 100, property.Rounds(50, 8)
	slow := openaitest.Config{Latency: 40 * time.Millisecond, LatencyP99: 400 * time.Millisecond} // answers overtake each other
	primary, spare := upstream(t, slow), upstream(t, slow)
	yaml := func(mask int) []byte {
		return fmt.Appendf(nil, `version: 1
log: {level: error}
server: {listen: "127.0.0.1:0", deadline: 30s, drain_timeout: 20s}
providers:
  main: {type: openai, base_url: "%s", api_key: test}
  spare: {type: openai, base_url: "%s", api_key: test}
  direct: {type: plugin, command: [%s], config_from: main}
stages:
  - cache
  - queue: {min_interval: 0s, max_concurrent: 64}
  - provider: {use: direct, fallback: [spare], breaker: {open_for: 100ms}}
live: {context: 0, queue_budget: 20s, mask: %d}
`, primary.URL(), spare.URL(), filepath.Join(programs, "openai-direct"), mask)
	}
	file := write(t, string(yaml(2)))
	g := serveFile(t, file, nil)
	var at atomic.Pointer[string]
	at.Store(&g.url)

	ctx := patiently(t)
	var all sync.WaitGroup
	var done atomic.Int64 // segments, of all
	speakers := make([]*speaker, sessions)
	stopped := make(chan struct{})
	for i := range speakers {
		s := &speaker{
			name: fmt.Sprint("speaker ", i), at: &at, rand: rand.New(rand.NewPCG(1, uint64(i))),
			unfinished: map[string]string{}, taken: map[string]bool{}, finals: map[string]int{},
		}
		speakers[i] = s
		all.Go(func() {
			err := s.connect(ctx)
			for n := 0; err == nil && n < segments; n++ {
				if n == segments-2 { // the last two are said while the gateway stops
					select {
					case <-stopped:
					case <-ctx.Done():
					}
				}
				s.say(ctx, fmt.Sprintf("%02d", n))
				err = s.hear(ctx, 2)
				done.Add(1)
			}
			if err == nil {
				err = s.hear(ctx, 0)
			}
			if err != nil {
				s.complain("%v, without the finals of %v", err, slices.Sorted(maps.Keys(s.unfinished)))
			}
			if s.ws != nil {
				s.ws.CloseNow()
			}
		})
	}
	// Each time that some more was said, the plugin is killed, and the file changed: seldom enough for the
	// gateway not to give the plugin up, as it does after eight deaths in two minutes.
	pid, kills := 0, 0
	for n := int64(sessions); n < int64(sessions*(segments-3)); n += int64(sessions * max(2, segments/7)) {
		until(t, func() bool { return done.Load() >= n || ctx.Err() != nil })
		pid = g.plugin(pid)
		syscall.Kill(pid, syscall.SIGKILL)
		kills++
		do(t, os.WriteFile(file, yaml(kills%4), 0o600))
		if v, err := askReload(g.url, ""); err != nil || v.Outcome == "failed" {
			t.Fatalf("%+v, %v", v, err)
		}
	}
	until(t, func() bool { return done.Load() >= int64(sessions*(segments-2)) || ctx.Err() != nil })
	close(stopped)
	g.signal(syscall.SIGTERM)
	next := serveFile(t, file, nil)
	at.Store(&next.url)
	all.Wait()
	cuts, told := 0, 0
	for _, s := range speakers {
		for _, w := range s.wrong {
			t.Error(w)
		}
		if len(s.wrong) == 0 && len(s.finals) != segments {
			t.Errorf("%s: %d finals", s.name, len(s.finals))
		}
		cuts, told = cuts+s.cuts, told+s.told
	}
	if told != sessions {
		t.Errorf("%d of %d clients were told that the other gateway does not know their session", told, sessions)
	}
	t.Logf("%d sessions of %d segments, %d kills and reloads, %d cuts", sessions, segments, kills, cuts)
}
