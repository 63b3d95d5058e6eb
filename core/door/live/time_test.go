package live

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/door"
	"github.com/dragoman-mt/dragoman/core/live"
)

// pipes is a listener whose connections are in memory, so that what runs over them lives in
// virtual time.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error   { p.once.Do(func() { close(p.done) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }

func (p *pipes) DialContext(context.Context, string, string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case p.conns <- local{theirs}:
		return ours, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

// local is a connection from this machine.
type local struct{ net.Conn }

func (local) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

// inVirtualTime runs test in a bubble with a door of its own.
func inVirtualTime(t *testing.T, l live.Config, f translator, test func(t *testing.T, d *Door, dial func() *client, web *http.Client)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := door.Defaults()
		if err := c.Check(); err != nil {
			t.Fatal(err)
		}
		d := New(l, door.New(c, f), door.NewMetrics(prometheus.NewRegistry()), zap.NewNop())
		listener := &pipes{conns: make(chan net.Conn), done: make(chan struct{})}
		server := &http.Server{Handler: d}
		served := make(chan struct{})
		go func() { defer close(served); server.Serve(listener) }()
		transport := &http.Transport{DialContext: listener.DialContext}
		web := &http.Client{Transport: transport}
		var open []*client
		test(t, d, func() *client {
			ws, _, err := websocket.Dial(t.Context(), "ws://localhost/v1/live", &websocket.DialOptions{Subprotocols: []string{Protocol}, HTTPClient: web})
			if err != nil {
				t.Fatal(err)
			}
			ws.SetReadLimit(-1)
			c := &client{t: t, ws: ws}
			open = append(open, c)
			return c
		}, web)
		for _, c := range open {
			c.ws.CloseNow()
		}
		d.Close()
		server.Close()
		transport.CloseIdleConnections()
		<-served
	})
}

// Who answers no ping for ten seconds is gone, and may come back to its session.
func TestWhoAnswersNoPingIsGoneAndMayComeBack(t *testing.T) {
	inVirtualTime(t, plain(), shout, func(t *testing.T, d *Door, dial func() *client, web *http.Client) {
		conn, err := web.Transport.(*http.Transport).DialContext(t.Context(), "", "")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "GET /v1/live HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n\r\n",
			base64.StdEncoding.EncodeToString(make([]byte, 16)))
		in := bufio.NewReader(conn)
		if res, err := http.ReadResponse(in, nil); err != nil || res.StatusCode != http.StatusSwitchingProtocols {
			t.Fatal(res, err)
		}
		if _, err := conn.Write(masked(0x81, begin)); err != nil {
			t.Fatal(err)
		}
		ready := make([]byte, 4096)
		n, err := in.Read(ready)
		if err != nil {
			t.Fatal(err)
		}
		var f got
		if err := json.Unmarshal(ready[bytes.IndexByte(ready, '{'):n], &f); err != nil || f.Type != "ready" {
			t.Fatalf("%q %v", ready[:n], err)
		}
		began := time.Now()
		io.Copy(io.Discard, in) // it reads, and answers nothing
		if gone := time.Since(began); gone < pingEvery+pongWait || gone > pingEvery+pongWait+2*time.Second {
			t.Errorf("gone after %s", gone)
		}
		again := dial().say(fmt.Sprintf(`{"type":"start","resume":%q,"after":1}`, f.Resume))
		if r := again.until("ready"); !r.Resumed {
			t.Errorf("%+v", r)
		}
	})
}

// Who answers pings, and says that it is there, stays for as long as it likes; who says
// nothing is ended after live.idle; who does not come back after live.resume_window is
// told so.
func TestIdleSessionsEndAndThoseThatAreLeftCanBeContinuedForSoLong(t *testing.T) {
	l := plain()
	l.Idle, l.ResumeWindow = 2*time.Minute, 30*time.Second
	inVirtualTime(t, l, shout, func(t *testing.T, d *Door, dial func() *client, _ *http.Client) {
		c := dial().say(begin)
		c.until("ready")
		began := time.Now()
		go func() {
			for range 10 {
				time.Sleep(time.Minute)
				c.ws.Write(context.Background(), websocket.MessageText, []byte(`{"type":"keepalive"}`))
			}
		}()
		closed := func() websocket.StatusCode { // as long as it takes
			for {
				if _, _, err := c.ws.Read(context.Background()); err != nil {
					return websocket.CloseStatus(err)
				}
			}
		}()
		if idle := time.Since(began); closed != 1001 || idle < 12*time.Minute || idle > 12*time.Minute+5*time.Second {
			t.Errorf("closed with %d after %s", closed, idle)
		}
		for _, row := range []struct {
			away    time.Duration
			resumed bool
		}{{25 * time.Second, true}, {35 * time.Second, false}} {
			c := dial().say(strings.Replace(begin, "room", fmt.Sprint("away ", row.away), 1))
			r := c.until("ready")
			c.say(source("a", "It is said.", true))
			c.final()
			c.ws.CloseNow()
			time.Sleep(row.away)
			synctest.Wait()
			again := dial().say(fmt.Sprintf(`{"type":"start","session":%q,"targets":["es"],"resume":%q,"after":%d}`, r.Session, r.Resume, c.seq))
			if f := again.until("ready"); f.Resumed != row.resumed || f.Session != r.Session {
				t.Errorf("away for %s: %+v", row.away, f)
			}
		}
	})
}

// Events have a comment every 15 s, so that what is between does not close the connection,
// and measures come every 30 s.
func TestEventsAreKeptAliveByComments(t *testing.T) {
	inVirtualTime(t, plain(), shout, func(t *testing.T, d *Door, _ func() *client, web *http.Client) {
		res, err := web.Post("http://localhost/v1/live", "application/json", strings.NewReader(begin))
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		events, err := web.Get("http://localhost/v1/live/room")
		if err != nil {
			t.Fatal(err)
		}
		defer events.Body.Close()
		began := time.Now()
		seen, buf := "", make([]byte, 4096)
		for strings.Count(seen, "\n:") < 3 && time.Since(began) < 5*time.Minute {
			n, err := events.Body.Read(buf)
			if err != nil {
				t.Fatal(err)
			}
			seen += string(buf[:n])
		}
		if took := time.Since(began); took < 40*time.Second || took > 50*time.Second {
			t.Errorf("three comments in %s: %q", took, seen)
		}
	})
}

// A connection without a start is closed soon.
func TestWhoSaysNoStartIsClosed(t *testing.T) {
	inVirtualTime(t, plain(), shout, func(t *testing.T, d *Door, dial func() *client, _ *http.Client) {
		c, began := dial(), time.Now()
		if code := c.closes(); code != 1008 || time.Since(began) != hello {
			t.Errorf("closed with %d after %s", code, time.Since(began))
		}
	})
}

// A tenth of the clients read nothing: each of them is cut, and the others have their finals
// as early as without them, to the millisecond.
func TestWhoReadsNothingIsCutAndDelaysNobody(t *testing.T) {
	const sessions, finals = 20, 40
	run := func(deaf int) (lags []time.Duration) {
		inVirtualTime(t, plain(), func(ctx context.Context, r *core.Request) (*core.Result, error) {
			time.Sleep(300 * time.Millisecond)
			return &core.Result{Text: strings.Repeat(r.Text+" ", 20)}, nil
		}, func(t *testing.T, d *Door, dial func() *client, _ *http.Client) {
			var all sync.WaitGroup
			var mu sync.Mutex
			for n := range sessions {
				c := dial().say(strings.Replace(begin, "room", fmt.Sprint("room ", n), 1))
				if r := c.until("ready"); r.Seq != 1 {
					t.Errorf("%+v", r)
				}
				all.Go(func() {
					for i := range finals {
						time.Sleep(time.Second)
						if n >= deaf {
							said := time.Now()
							c.say(source(fmt.Sprint(i), fmt.Sprintf("This is number %d.", i), true))
							c.final()
							lag := time.Since(said)
							mu.Lock()
							lags = append(lags, lag)
							mu.Unlock()
							continue
						}
						ctx, cancel := context.WithTimeout(t.Context(), time.Second)
						c.ws.Write(ctx, websocket.MessageText, []byte(source(fmt.Sprint(i), fmt.Sprintf("This is number %d.", i), true)))
						cancel()
					}
				})
			}
			all.Wait()
			cut := 0
			for _, s := range d.Sessions() {
				if !s.Connected {
					cut++
				}
			}
			if cut != deaf && len(d.Sessions()) != sessions-deaf { // those that did not come back in time have ended
				t.Errorf("%d of %d that read nothing are cut, %d sessions", cut, deaf, len(d.Sessions()))
			}
		})
		slices.Sort(lags)
		return lags
	}
	alone, beside := run(0), run(sessions/10)
	if p99 := func(l []time.Duration) time.Duration { return l[len(l)*99/100] }; p99(beside) != p99(alone) || len(beside) != finals*(sessions-sessions/10) {
		t.Errorf("p99 of %d finals is %s beside clients that do not read, and %s without them", len(beside), p99(beside), p99(alone))
	}
}
