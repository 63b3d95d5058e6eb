package door

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dragoman-mt/dragoman/core"
)

// Clients that keep their connections, and clients that do not, none of which
// sends a call again: whatever they sent before nobody listened any more is
// answered.
func TestStoppingUnderLoadBreaksNoCall(t *testing.T) {
	var broken, calls atomic.Int64
	c := Defaults()
	c.DrainTimeout = 6 * time.Second // half of it under load: time for each client to hear of the end
	for range 2 {
		r := run(t, c, func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			time.Sleep(2 * time.Millisecond) // an upstream
			io.WriteString(w, "done")
		})
		var clients sync.WaitGroup
		begun := make(chan struct{}, 32)
		for i := range 32 {
			clients.Go(func() {
				transport := &http.Transport{DisableKeepAlives: i%4 == 0}
				defer transport.CloseIdleConnections()
				client := &http.Client{Transport: transport}
				for n := 0; ; n++ {
					if n == 10 {
						begun <- struct{}{}
					}
					// A body without GetBody: net/http cannot send it again.
					req, err := http.NewRequest(http.MethodPost, "http://"+r.Addr(), io.MultiReader(strings.NewReader("text")))
					if err != nil {
						t.Error(err)
						return
					}
					res, err := client.Do(req)
					if dial, ok := errors.AsType[*net.OpError](err); ok && dial.Op == "dial" {
						return // nothing was sent
					}
					calls.Add(1)
					if err != nil {
						broken.Add(1)
						t.Logf("call %d of client %d: %v", n, i, err)
						continue
					}
					io.Copy(io.Discard, res.Body)
					res.Body.Close()
				}
			})
		}
		for range 32 {
			<-begun
		}
		r.stop()
		clients.Wait()
		<-r.done
	}
	t.Logf("%d of %d calls were broken", broken.Load(), calls.Load())
	if broken.Load() > 0 {
		t.Fail()
	}
}

// A door that takes its connection over, as a WebSocket does.
func takeOver(t *testing.T, ended chan<- error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		fmt.Fprint(rw, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n")
		rw.Flush()
		<-r.Context().Done()
		ended <- context.Cause(r.Context())
	}
}

func upgrade(t *testing.T, addr, origin string) (net.Conn, string) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	fmt.Fprintf(conn, "GET /v1/live HTTP/1.1\r\nHost: localhost\r\nOrigin: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", origin)
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return conn, line
}

func TestASessionThatTookItsConnectionOverIsWaitedForAndThenTold(t *testing.T) {
	c := Defaults()
	c.DrainTimeout = 300 * time.Millisecond
	ended := make(chan error, 1)
	r := run(t, c, takeOver(t, ended))
	if _, line := upgrade(t, r.Addr(), "http://localhost"); !strings.Contains(line, " 101 ") {
		t.Fatal(line)
	}
	begin := time.Now()
	r.stop()
	<-r.done
	if took := time.Since(begin); took < c.DrainTimeout {
		t.Errorf("it was waited for for %v, want %v", took, c.DrainTimeout)
	}
	select {
	case cause := <-ended:
		if core.KindOf(cause) != core.Unavailable {
			t.Errorf("the session was told %v", cause)
		}
	default:
		t.Error("the session goes on")
	}
}

func TestAPageOfAnotherOriginTakesNoConnectionOver(t *testing.T) {
	c := Defaults()
	c.Origins = []string{"https://app.example.com"}
	c.DrainTimeout = 0
	for origin, want := range map[string]string{"https://evil.example": " 403 ", "null": " 403 ", "https://app.example.com": " 101 ", "http://localhost": " 101 "} {
		r := run(t, c, takeOver(t, make(chan error, 1)))
		if _, line := upgrade(t, r.Addr(), origin); !strings.Contains(line, want) {
			t.Errorf("%s: %s", origin, line)
		}
	}
}
