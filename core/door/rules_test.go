package door

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/dragoman-mt/dragoman/core"
)

// plan changes what s was told.
func plan(t *testing.T, s *Server, c Config) {
	t.Helper()
	apply, err := s.Plan(&c)
	if err != nil {
		t.Fatal(err)
	}
	apply()
}

// told returns the configuration that s holds now.
func (r *running) told() Config { return r.o.Service.Rules().Config }

func TestAddressesCannotChangeAndAreRefusedByName(t *testing.T) {
	c := Defaults()
	c.Listen, c.Admin = "127.0.0.1:0", "127.0.0.1:0"
	r := run(t, c, text("door"))
	for name, tc := range map[string]struct {
		change func(*Config)
		want   []string
	}{
		"listen": {func(c *Config) { c.Listen = "127.0.0.1:9999" },
			[]string{`server.listen: cannot change from "127.0.0.1:0" to "127.0.0.1:9999" while the gateway runs; restart the gateway, or set it back`}},
		"admin": {func(c *Config) { c.Admin = "" },
			[]string{`server.admin: cannot change from "127.0.0.1:0" to "" while the gateway runs; restart the gateway, or set it back`}},
		"both, and a key that cannot be one": {func(c *Config) { c.Listen, c.Admin, c.Keys = "127.0.0.1:1", "127.0.0.1:2", []Key{{Key: "a b"}} },
			[]string{"server.keys[0]: a key is made of", "server.listen: cannot change", "server.admin: cannot change"}},
		"an origin": {func(c *Config) { c.Origins = []string{"*"} }, []string{"server.origins[0]: "}},
	} {
		c := c
		c.MaxText = 1
		tc.change(&c)
		_, err := r.Plan(&c)
		if err == nil {
			t.Errorf("%s: planned", name)
			continue
		}
		faults := err.(interface{ Unwrap() []error }).Unwrap()
		if len(faults) != len(tc.want) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for i, f := range faults {
			if _, ok := errors.AsType[*Fault](f); !ok || !strings.HasPrefix(f.Error(), tc.want[i]) {
				t.Errorf("%s: %v, want %s", name, f, tc.want[i])
			}
		}
	}
	if got := r.told().MaxText; got != Defaults().MaxText {
		t.Errorf("a refused plan changed max_text to %d", got)
	}
	if _, err := r.Plan(c); err == nil {
		t.Error("a configuration of another type was taken")
	}
}

// The listener stays open beyond loopback whatever the file says, so no file may
// take its keys away.
func TestNoChangeOpensAListenerToEverybody(t *testing.T) {
	far := Defaults()
	far.Listen, far.Keys = "0.0.0.0:0", []Key{{Key: "k"}}
	r := run(t, far, text("door"))
	for name, change := range map[string]func(*Config){
		"without keys":                    func(c *Config) { c.Keys = nil },
		"without keys, on loopback":       func(c *Config) { c.Keys, c.Listen = nil, "127.0.0.1:0" },
		"an empty key":                    func(c *Config) { c.Keys = []Key{{Key: ""}} },
		"admin beyond loopback, no keys":  func(c *Config) { c.Keys, c.Admin = nil, "0.0.0.0:9090" },
		"admin on loopback, without keys": func(c *Config) { c.Keys, c.Admin = nil, "127.0.0.1:9090" },
		"an empty key beside one that is": func(c *Config) { c.Keys = []Key{{Key: "k"}, {Key: ""}} },
	} {
		c := far
		change(&c)
		if _, err := r.Plan(&c); err == nil {
			t.Errorf("%s: planned", name)
		}
	}
	if keys := r.told().Keys; len(keys) != 1 || keys[0].Key != "k" {
		t.Error("the keys have changed")
	}
}

func TestKeysRotateWithoutAMomentThatIsOpen(t *testing.T) {
	r := run(t, Defaults(), text("door")) // admin on the public listener
	with := func(key string) int {
		status, _ := r.get(r.Addr(), "/metrics", "Authorization", "Bearer "+key)
		return status
	}
	if got := with(""); got != 200 {
		t.Fatalf("without keys: %d", got)
	}
	for _, step := range []struct{ keys, in, out string }{
		{"one", "one", "two"}, {"one two", "one", "three"}, {"one two", "two", ""}, {"two", "two", "one"},
	} {
		c := r.told()
		c.Keys = nil
		for _, k := range strings.Fields(step.keys) {
			c.Keys = append(c.Keys, Key{Key: core.Secret(k), Role: Operate})
		}
		plan(t, r.Server, c)
		if got := with(step.in); got != 200 {
			t.Errorf("with keys %q, key %q: %d", step.keys, step.in, got)
		}
		if got := with(step.out); got != 401 {
			t.Errorf("with keys %q, key %q: %d", step.keys, step.out, got)
		}
	}
	// While they rotate, a key that is in both lists is taken at any time, and
	// one that is in neither never. An operator's key alone leaves translation open.
	c := r.told()
	c.Keys = []Key{{Key: "stays"}}
	plan(t, r.Server, c)
	var all sync.WaitGroup
	stop := make(chan struct{})
	req := &http.Request{RemoteAddr: "127.0.0.1:1"}
	for range 4 {
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				rules := r.o.Service.Rules()
				if _, err := rules.Client(req, "stays", "native"); err != nil {
					t.Error(err)
				}
				if _, err := rules.Client(req, "never", "native"); err == nil {
					t.Error("a key that was never one is taken")
				}
			}
		})
	}
	for i := range 1000 {
		c := r.told()
		c.Keys = []Key{{Key: "stays"}, {Key: core.Secret(fmt.Sprint("key", i))}}
		plan(t, r.Server, c)
	}
	close(stop)
	all.Wait()
	c = r.told()
	c.Keys = nil
	plan(t, r.Server, c)
	if got := with(""); got != 200 {
		t.Errorf("after the last key was removed, on loopback: %d", got)
	}
}

func TestOriginsChangeForCallsThatArriveAfterwards(t *testing.T) {
	r := run(t, Defaults(), text("door"))
	for _, origins := range [][]string{nil, {"https://app.example.com"}, {"https://other.example.com"}} {
		c := r.told()
		c.Origins = origins
		plan(t, r.Server, c)
		want := 403
		if len(origins) > 0 && origins[0] == "https://app.example.com" {
			want = 200
		}
		req, _ := http.NewRequest(http.MethodPost, "http://"+r.Addr(), nil)
		req.Header.Set("Origin", "https://app.example.com")
		res, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if host, _ := r.get(r.Addr(), "/", "Host", "app.example.com"); res.StatusCode != want || host != want {
			t.Errorf("with %v: page %d, host %d, want %d", origins, res.StatusCode, host, want)
		}
	}
}

func TestACallKeepsTheLimitsWithWhichItCame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		took := make(chan time.Duration, 2)
		c := Defaults()
		c.MaxText = 10
		service := New(c, core.TranslatorFunc(func(ctx context.Context, _ *core.Request) (*core.Result, error) {
			begin := time.Now()
			<-ctx.Done()
			took <- time.Since(begin)
			return nil, context.Cause(ctx)
		}))
		s := NewServer(Options{Config: c, Service: service, Log: zap.NewNop()})
		came := service.Rules()
		next := c
		next.Deadline, next.MaxText = time.Second, 5
		next.Keys = []Key{{Key: "new"}}
		req := &core.Request{Text: "seven c", Target: "es"}
		apply, err := s.Plan(&next)
		if err != nil {
			t.Fatal(err)
		}
		if service.Rules() != came {
			t.Error("planning alone changed something")
		}
		var calls sync.WaitGroup
		calls.Go(func() { came.Translate(t.Context(), req) }) // is on its way
		synctest.Wait()
		apply()
		came.Translate(t.Context(), req) // was read, and is asked for only now
		calls.Wait()
		for range 2 {
			if d := <-took; d != c.Deadline {
				t.Errorf("a call that came before was ended after %v, want %v", d, c.Deadline)
			}
		}
		if _, err := came.Client(&http.Request{RemoteAddr: "[::1]:1"}, "", "native"); err != nil {
			t.Error(err)
		}
		if _, err := service.Translate(t.Context(), req); core.KindOf(err) != core.TooLarge {
			t.Errorf("a call that comes now: %v, want too_large", err)
		}
		service.Translate(t.Context(), &core.Request{Text: "four", Target: "es"})
		if d := <-took; d != time.Second {
			t.Errorf("a call that comes now is ended after %v", d)
		}
	})
}

// A pipe is a listener for connections within a test, on which time can pass.
type pipe struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newPipe() *pipe { return &pipe{conns: make(chan net.Conn), done: make(chan struct{})} }

func (p *pipe) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}
func (p *pipe) Close() error   { p.once.Do(func() { close(p.done) }); return nil }
func (p *pipe) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

func (p *pipe) dial(context.Context, string, string) (net.Conn, error) {
	client, server := net.Pipe()
	p.conns <- server
	return client, nil
}

// The bounds of a connection are those of the http.Server, which were made for
// the deadline that it began with.
func TestALongerDeadlineIsNotCutByTheConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := Defaults()
		c.Listen = "127.0.0.1:0"
		ended := make(chan error, 1)
		s := NewServer(Options{
			Config: c, Service: New(c, nil), Admin: text(""), Metrics: NewMetrics(prometheus.NewRegistry()), Log: zap.NewNop(),
			Doors: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				all, err := io.ReadAll(r.Body) // then the server reads on, for a client that leaves
				if err != nil {
					t.Error(err)
				}
				if r.URL.Path == "/long" {
					select {
					case <-time.After(5 * time.Minute):
					case <-r.Context().Done():
						ended <- context.Cause(r.Context())
					}
				}
				w.Write(all)
			}),
		})
		if err := s.Listen(); err != nil {
			t.Fatal(err)
		}
		s.public.listener.Close()
		p := newPipe()
		s.public.listener = p
		ctx, stop := context.WithCancel(t.Context())
		served := make(chan struct{})
		go func() {
			defer close(served)
			if err := s.Serve(ctx); err != nil {
				t.Error(err)
			}
		}()
		transport := &http.Transport{DialContext: p.dial}
		client := &http.Client{Transport: transport}
		ask := func(path string) error {
			res, err := client.Post("http://127.0.0.1:1"+path, "text/plain", strings.NewReader("hello"))
			if err != nil {
				return err
			}
			defer res.Body.Close()
			body, err := io.ReadAll(res.Body)
			if err == nil && string(body) != "hello" {
				err = fmt.Errorf("%q", body)
			}
			return err
		}
		if err := ask("/short"); err != nil { // on the connection that is used below
			t.Fatal(err)
		}
		longer := c
		longer.Deadline = 10 * time.Minute
		plan(t, s, longer)
		if err := ask("/long"); err != nil {
			t.Errorf("a call of 5 minutes with a deadline of 10: %v", err)
		}
		select {
		case err := <-ended:
			t.Errorf("it was ended: %v", err)
		default:
		}
		plan(t, s, c)
		if err := ask("/long"); err == nil { // the proof that the bounds were in the way
			t.Error("the connection's bound does not hold any more")
		}
		transport.CloseIdleConnections()
		stop()
		<-served
	})
}

func TestNothingIsSetOnAConnectionWhoseBoundsAreWide(t *testing.T) {
	for deadline, want := range map[time.Duration]bool{time.Second: false, 4500 * time.Millisecond: false, 5 * time.Second: true} {
		c := Defaults()
		c.Deadline = deadline
		g := &guard{
			service: New(c, nil), deadline: 4500 * time.Millisecond, next: text(""),
			journal: NewJournal(zap.NewNop()), metrics: NewMetrics(prometheus.NewRegistry()),
		}
		w := &bounded{ResponseRecorder: httptest.NewRecorder()}
		g.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
		if w.set != want {
			t.Errorf("%v: a deadline was set: %v", deadline, w.set)
		}
	}
}

type bounded struct {
	*httptest.ResponseRecorder
	set bool
}

func (b *bounded) SetWriteDeadline(time.Time) error { b.set = true; return nil }

func TestTheDrainTimeoutIsThatOfTheMomentItIsNeeded(t *testing.T) {
	entered := make(chan struct{})
	r := run(t, Defaults(), func(w http.ResponseWriter, r *http.Request) {
		close(entered)
		<-r.Context().Done()
	})
	c := r.told()
	c.DrainTimeout = 0
	plan(t, r.Server, c)
	go (&http.Transport{DisableKeepAlives: true}).RoundTrip(httptest.NewRequest(http.MethodGet, "http://"+r.Addr()+"/", nil))
	<-entered
	begin := time.Now()
	r.stop()
	<-r.done
	if d := time.Since(begin); d > Defaults().DrainTimeout/2 {
		t.Errorf("it took %v to stop", d)
	}
}
