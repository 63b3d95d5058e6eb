package door

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/dragoman-mt/dragoman/core"
)

// A running is a server between Listen and the end of Serve.
type running struct {
	*Server
	t    *testing.T
	log  *observer.ObservedLogs
	stop func()        // tells it to stop, and returns at once
	done chan struct{} // closed when Serve has returned
}

// run serves doors; the admin door answers with its path.
func run(t *testing.T, c Config, doors http.HandlerFunc) *running {
	t.Helper()
	if c.Listen == Defaults().Listen {
		c.Listen = "127.0.0.1:0"
	}
	if err := c.Check(); err != nil {
		t.Fatal(err)
	}
	seen, logs := observer.New(zap.DebugLevel)
	admin := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "admin "+r.URL.Path) })
	s := NewServer(Options{
		Config: c, Service: New(c, nil), Doors: doors, Admin: admin,
		Metrics: NewMetrics(prometheus.NewRegistry()), Log: zap.New(seen),
	})
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{Server: s, t: t, log: logs, stop: cancel, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		if err := s.Serve(ctx); err != nil {
			t.Error(err)
		}
	}()
	t.Cleanup(func() { cancel(); <-r.done })
	return r
}

// get asks over a connection of its own and returns status and body.
func (r *running) get(addr, path string, header ...string) (int, string) {
	r.t.Helper()
	req, err := http.NewRequest(http.MethodGet, "http://"+addr+path, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			req.Host = header[i+1]
		}
		req.Header.Set(header[i], header[i+1])
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

func text(s string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, s) }
}

func TestAdminIsServedWhereTheConfigurationSays(t *testing.T) {
	type want map[string]int // path: status
	all := Defaults()
	keyed := Defaults()
	keyed.Keys = []Key{{Key: "k"}}
	own := Defaults()
	own.Admin = "127.0.0.1:0"
	far := keyed
	far.Listen = "0.0.0.0:0"
	farOwn := keyed
	farOwn.Admin = "0.0.0.0:0"
	operated := far
	operated.Keys = []Key{{Key: "k2"}, {Key: "k", Role: Operate}}
	for name, c := range map[string]struct {
		config Config
		public want
		admin  want
	}{
		"on loopback, together":           {all, want{"/metrics": 200, "/admin/status": 200, "/healthz": 200, "/readyz": 200}, want{"/metrics": 200}},
		"on loopback with keys, together": {keyed, want{"/metrics": 403, "/admin/status": 403, "/healthz": 200, "/readyz": 200}, nil},
		"on its own":                      {own, want{"/metrics": 418, "/admin/status": 418, "/healthz": 200, "/readyz": 200}, want{"/metrics": 200, "/readyz": 200, "/v1/translate": 200}},
		"beyond loopback: off":            {far, want{"/metrics": 403, "/admin/status": 403, "/healthz": 200}, nil},
		"beyond loopback, on its own":     {farOwn, want{"/metrics": 418}, want{"/metrics": 403, "/readyz": 200}},
		"beyond loopback, for operators":  {operated, want{"/metrics": 401, "/admin/status": 401, "/readyz": 200}, want{"/admin/tap": 401}},
	} {
		t.Run(name, func(t *testing.T) {
			r := run(t, c.config, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusTeapot) })
			if (r.AdminAddr() == "") != (c.admin == nil) {
				t.Fatalf("admin at %q", r.AdminAddr())
			}
			for path, want := range c.public {
				if got, body := r.get(r.Addr(), path); got != want {
					t.Errorf("public %s: %d %s, want %d", path, got, body, want)
				}
			}
			for path, want := range c.admin {
				if got, body := r.get(r.AdminAddr(), path); got != want {
					t.Errorf("admin %s: %d %s, want %d", path, got, body, want)
				}
				if want == http.StatusUnauthorized {
					if got, body := r.get(r.AdminAddr(), path, "Authorization", "Bearer k"); got != 200 {
						t.Errorf("admin %s with the key: %d %s", path, got, body)
					}
				}
			}
		})
	}
}

func TestALoopbackListenerGoesByLoopbackNamesOnly(t *testing.T) {
	c := Defaults()
	c.Origins = []string{"https://app.example.com"}
	r := run(t, c, text("door"))
	for host, want := range map[string]int{
		"localhost": 200, "localhost:8080": 200, "127.0.0.1:99": 200, "[::1]:8080": 200, "gateway.localhost": 200, "app.example.com": 200, "APP.example.com:444": 200,
		"evil.example": 403, "127.0.0.1.evil.example": 403, "localhost.evil.example:8080": 403, "192.168.0.1": 403,
	} {
		for _, path := range []string{"/v1/translate", "/metrics", "/admin/status", "/readyz"} {
			want := want
			if strings.Contains(host, "app.example.com") || strings.Contains(host, "APP.") {
				if path == "/metrics" || path == "/admin/status" {
					want = 403 // a proxy's name is not an operator's
				}
			}
			if got, body := r.get(r.Addr(), path, "Host", host); got != want {
				t.Errorf("%s for %s: %d %s, want %d", path, host, got, body, want)
			}
		}
	}
	conn, err := net.Dial("tcp", r.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "GET /healthz HTTP/1.0\r\n\r\n")
	if line, _ := bufio.NewReader(conn).ReadString('\n'); !strings.Contains(line, " 200 ") {
		t.Errorf("HTTP/1.0 without Host: %q", line)
	}
}

func TestATakenPortIsSaidInOneLine(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, key := range []string{"listen", "admin"} {
		c := Defaults()
		c.Listen = "127.0.0.1:0"
		if key == "listen" {
			c.Listen = taken.Addr().String()
		} else {
			c.Admin = taken.Addr().String()
		}
		s := NewServer(Options{Config: c, Service: New(c, nil), Doors: text(""), Admin: text(""), Metrics: NewMetrics(prometheus.NewRegistry()), Log: zap.NewNop()})
		err := s.Listen()
		s.Close()
		fault, ok := errors.AsType[*Fault](err)
		if !ok || fault.Key != key || strings.Contains(err.Error(), "\n") {
			t.Fatalf("%v", err)
		}
		want := "server." + key + ": ADDR is in use by another program; stop that one, or listen elsewhere: --set server." + key + "=127.0.0.1:0 takes a free port"
		if got := strings.Replace(err.Error(), taken.Addr().String(), "ADDR", 1); got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
	}
}

func TestStoppingFinishesWhatIsInFlightAndSaysSoInReadyz(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	r := run(t, Defaults(), func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			close(entered)
			<-release
		}
		io.WriteString(w, "done")
	})
	got := make(chan string, 1)
	go func() {
		_, body := r.get(r.Addr(), "/slow")
		got <- body
	}()
	<-entered
	if status, _ := r.get(r.Addr(), "/readyz"); status != 200 {
		t.Errorf("/readyz before: %d", status)
	}
	r.stop()
	for !r.draining.Load() {
	}
	if status, body := r.get(r.Addr(), "/readyz"); status != 503 || !strings.Contains(body, "stopping") {
		t.Errorf("/readyz while stopping: %d %s", status, body)
	}
	if status, _ := r.get(r.Addr(), "/quick"); status != 200 {
		t.Errorf("a call that still came: %d", status)
	}
	close(release)
	if body := <-got; body != "done" {
		t.Errorf("the call in flight got %q", body)
	}
	<-r.done
	if conn, err := net.Dial("tcp", r.Addr()); err == nil {
		conn.Close()
		t.Error("it listens still")
	}
	if n := r.log.FilterMessage("stopped").All()[0].ContextMap()["ended"]; n != int64(0) {
		t.Errorf("%v calls were ended, want none", n)
	}
}

func TestStoppingTakesNoLongerThanItMay(t *testing.T) {
	c := Defaults()
	c.DrainTimeout = 50 * time.Millisecond
	entered := make(chan struct{})
	r := run(t, c, func(w http.ResponseWriter, r *http.Request) {
		close(entered)
		<-r.Context().Done()
		WriteError(w, r, core.ContextError(r.Context(), "test"))
	})
	type answer struct {
		status int
		body   string
	}
	got := make(chan answer, 1)
	go func() {
		status, body := r.get(r.Addr(), "/slow")
		got <- answer{status, body}
	}()
	<-entered
	r.stop()
	if a := <-got; a.status != 503 || !strings.Contains(a.body, "unavailable") {
		t.Errorf("the call that was ended got %d %s", a.status, a.body)
	}
	<-r.done
	if n := r.log.FilterMessage("stopped").All()[0].ContextMap()["ended"]; n != int64(1) {
		t.Errorf("%v calls were ended, want 1", n)
	}
}

func TestAPanicEndsItsOwnCallOnly(t *testing.T) {
	r := run(t, Defaults(), func(w http.ResponseWriter, r *http.Request) { panic("a defect") })
	for range 2 {
		status, body := r.get(r.Addr(), "/")
		var a struct{ Error Problem }
		if err := json.Unmarshal([]byte(body), &a); err != nil || status != 500 || a.Error.Kind != core.Internal || strings.Contains(body, "defect") {
			t.Errorf("%d %s", status, body)
		}
	}
	if logged := r.log.FilterMessage("internal error"); logged.Len() != 2 || !strings.Contains(fmt.Sprint(logged.All()[0].ContextMap()["cause"]), "a defect") {
		t.Errorf("%v", logged.All())
	}
}

func TestAHeaderBeyondBoundsIsRefused(t *testing.T) {
	r := run(t, Defaults(), text("door"))
	if status, _ := r.get(r.Addr(), "/", "X-Long", strings.Repeat("x", 2*maxHeader)); status != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("%d", status)
	}
}
