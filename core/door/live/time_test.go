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
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

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
