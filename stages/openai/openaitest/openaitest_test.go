package openaitest

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func start(t *testing.T, cfg Config) *Server {
	t.Helper()
	s, err := Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// client returns a client of its own that trusts s; it is closed with the test.
func client(t *testing.T, s *Server, change ...func(*http.Transport)) *http.Client {
	t.Helper()
	tr := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{ClientSessionCache: tls.NewLRUClientSessionCache(8)}}
	if s.CA() != nil {
		tr.TLSClientConfig.RootCAs = x509.NewCertPool()
		tr.TLSClientConfig.RootCAs.AppendCertsFromPEM(s.CA())
	}
	for _, f := range change {
		f(tr)
	}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

func http1(tr *http.Transport) {
	tr.ForceAttemptHTTP2 = false
	tr.Protocols = new(http.Protocols)
	tr.Protocols.SetHTTP1(true)
}

const system = "Translate from English (en) to Spanish (es). Output the translation only."

func body(t *testing.T, text string, more map[string]any) *bytes.Reader {
	t.Helper()
	fields := map[string]any{"model": "gpt-5.4-nano", "messages": []map[string]string{
		{"role": "system", "content": system}, {"role": "user", "content": text}}}
	for k, v := range more {
		if v == nil {
			delete(fields, k)
		} else {
			fields[k] = v
		}
	}
	data, err := json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.NewReader(data)
}

func post(t *testing.T, ctx context.Context, hc *http.Client, s *Server, text string, more map[string]any) (*http.Response, []byte, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, "POST", s.URL()+"/chat/completions", body(t, text, more))
	if err != nil {
		t.Fatal(err)
	}
	// Without GetBody net/http resends nothing: what is seen here is what the
	// server did.
	req.GetBody = nil
	req.Header.Set("Authorization", "Bearer sk-test")
	req.Header.Set("X-Client-Request-Id", "client-"+text)
	res, err := hc.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer res.Body.Close()
	got, err := io.ReadAll(res.Body)
	return res, got, err
}

func settled(t *testing.T, s *Server) Stats {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	stats, err := s.Settled(ctx)
	if err != nil {
		t.Fatal("requests are still in flight")
	}
	return stats
}

// seen returns a configuration that tells of each chat request that arrived.
func seen(cfg Config) (Config, <-chan struct{}) {
	arrived := make(chan struct{}, 16)
	cfg.Observe = func(*http.Request, []byte) { arrived <- struct{}{} }
	return cfg, arrived
}

func answered(t *testing.T, data []byte) completion {
	t.Helper()
	var c completion
	if err := json.Unmarshal(data, &c); err != nil {
		t.Fatalf("%v in %q", err, data)
	}
	return c
}

func TestZeroConfigAnswersAPseudoTranslation(t *testing.T) {
	s := start(t, Config{})
	res, data, err := post(t, t.Context(), client(t, s), s, "Good morning", nil)
	if err != nil || res.StatusCode != 200 {
		t.Fatal(res, err)
	}
	c := answered(t, data)
	if got := *c.Choices[0].Message.Content; got != "[es] Good morning" {
		t.Errorf("text %q", got)
	}
	if c.Usage.Total != c.Usage.Prompt+c.Usage.Completion || c.Usage.Prompt < 10 || c.Usage.Completion < 2 {
		t.Errorf("usage %+v", c.Usage)
	}
	stats := settled(t, s)
	r := stats.Records[0]
	if r.ID != res.Header.Get("x-request-id") || r.ClientID != "client-Good morning" || r.Status != 200 || r.Fault != "" {
		t.Errorf("record %+v", r)
	}
}

func TestTLSOffersBothProtocolsAndResumes(t *testing.T) {
	s := start(t, Config{TLS: true})
	for _, c := range []struct {
		name  string
		proto string
		with  []func(*http.Transport)
	}{{"http1", "HTTP/1.1", []func(*http.Transport){http1}}, {"http2", "HTTP/2.0", nil}} {
		t.Run(c.name, func(t *testing.T) {
			s.ResetStats()
			hc := client(t, s, c.with...)
			for range 2 {
				res, _, err := post(t, t.Context(), hc, s, "x", nil)
				if err != nil || res.Proto != c.proto {
					t.Fatal(res, err)
				}
				hc.CloseIdleConnections()
			}
			stats := s.Stats()
			if stats.Connections != 2 || stats.Handshakes != 2 || stats.Resumptions != 1 {
				t.Errorf("connections %d, handshakes %d, resumptions %d", stats.Connections, stats.Handshakes, stats.Resumptions)
			}
		})
	}
}

func TestCertificateHoldsForEveryNameOfThisMachine(t *testing.T) {
	s := start(t, Config{TLS: true})
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(s.CA())
	_, port, _ := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(s.URL(), "https://"), "/v1"), ":")
	for _, name := range []string{"127.0.0.1", "localhost", "::1"} {
		c, err := tls.Dial("tcp", "127.0.0.1:"+port, &tls.Config{RootCAs: pool, ServerName: name})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		c.Close()
	}
}

// Each fault, seen from a client.
func TestFaultsLookLikeTheRealThing(t *testing.T) {
	const text = "The new car is very fast and it is red."
	const whole = "[es] " + text
	for _, c := range []struct {
		kind   string
		status int // 0: the call fails
		check  func(t *testing.T, res *http.Response, body []byte, err error)
	}{
		{"", 200, nil},
		{Error500, 500, code("", "server_error")},
		{Error502, 502, html}, {Error503, 503, html}, {Error504, 504, html},
		{RateLimit, 429, func(t *testing.T, res *http.Response, b []byte, err error) {
			code("rate_limit_exceeded", "requests")(t, res, b, err)
			if res.Header.Get("retry-after") != "2" || res.Header.Get("retry-after-ms") != "1500" {
				t.Error(res.Header)
			}
		}},
		{RateLimitBare, 429, func(t *testing.T, res *http.Response, b []byte, err error) {
			code("rate_limit_exceeded", "requests")(t, res, b, err)
			if res.Header.Get("retry-after") != "" || res.Header.Get("retry-after-ms") != "" {
				t.Error(res.Header)
			}
		}},
		{InsufficientQuota, 429, code("insufficient_quota", "insufficient_quota")},
		{Error401, 401, code("invalid_api_key", invalid)},
		{Error404, 404, code("model_not_found", invalid)},
		{ContextLength, 400, code("context_length_exceeded", invalid)},
		{Empty, 200, func(t *testing.T, _ *http.Response, b []byte, _ error) {
			if m := answered(t, b).Choices[0].Message; m.Content == nil || *m.Content != "" {
				t.Errorf("%+v", m)
			}
		}},
		{Refusal, 200, func(t *testing.T, _ *http.Response, b []byte, _ error) {
			if m := answered(t, b).Choices[0].Message; m.Content != nil || *m.Refusal == "" {
				t.Errorf("%+v", m)
			}
		}},
		{Length, 200, finish("length")},
		{ContentFilter, 200, finish("content_filter")},
		{Truncated, 200, func(t *testing.T, res *http.Response, b []byte, err error) {
			if err != nil || json.Valid(b) || len(b) == 0 || int64(len(b)) != res.ContentLength {
				t.Errorf("%v, %q", err, b)
			}
		}},
		{Garbage, 200, func(t *testing.T, _ *http.Response, b []byte, err error) {
			if err != nil || json.Valid(b) {
				t.Errorf("%v, %q", err, b)
			}
		}},
		{StreamError, 200, code("", "server_error")},
		{Comments, 200, func(t *testing.T, _ *http.Response, b []byte, _ error) {
			if got := *answered(t, b).Choices[0].Message.Content; got != whole {
				t.Error(got)
			}
		}},
		{ResetBefore, 0, broken}, {ResetAfter, 0, broken},
		{Cut, 200, func(t *testing.T, _ *http.Response, _ []byte, err error) {
			if err == nil {
				t.Error("the answer was whole")
			}
		}},
		{Drip, 200, func(t *testing.T, _ *http.Response, b []byte, _ error) {
			if got := *answered(t, b).Choices[0].Message.Content; got != whole {
				t.Error(got)
			}
		}},
	} {
		for _, secure := range []bool{false, true} {
			t.Run(c.kind+map[bool]string{true: "/tls"}[secure], func(t *testing.T) {
				s := start(t, Config{TLS: secure, RetryAfter: 1500 * time.Millisecond, Drip: 20 * time.Microsecond})
				s.FailNext(1, c.kind)
				hc := client(t, s, http1)
				res, b, err := post(t, t.Context(), hc, s, text, nil)
				switch {
				case c.status == 0 && res != nil:
					t.Fatalf("answered %d", res.StatusCode)
				case c.status != 0 && (res == nil || res.StatusCode != c.status):
					t.Fatal(res, err)
				}
				if c.check != nil {
					c.check(t, res, b, err)
				}
				stats := settled(t, s)
				if r := stats.Records[0]; r.Fault != c.kind || r.Status != c.status || r.Aborted {
					t.Errorf("record %+v", r)
				}
				if c.kind != "" && stats.Faults[c.kind] != 1 {
					t.Errorf("faults %v", stats.Faults)
				}
				if _, b, err := post(t, t.Context(), hc, s, text, nil); err != nil || *answered(t, b).Choices[0].Message.Content != whole {
					t.Errorf("the next call: %v, %q", err, b)
				}
			})
		}
	}
}

func code(code, kind string) func(*testing.T, *http.Response, []byte, error) {
	return func(t *testing.T, _ *http.Response, b []byte, _ error) {
		var e struct{ Error errorBody }
		if err := json.Unmarshal(b, &e); err != nil {
			t.Fatal(err)
		}
		if got := e.Error.Code; (got == nil) != (code == "") || got != nil && *got != code {
			t.Errorf("code in %s", b)
		}
		if e.Error.Type != kind || e.Error.Message == "" {
			t.Errorf("error %s", b)
		}
	}
}

func finish(want string) func(*testing.T, *http.Response, []byte, error) {
	return func(t *testing.T, _ *http.Response, b []byte, _ error) {
		if c := answered(t, b).Choices[0]; c.Finish != want || *c.Message.Content == "" {
			t.Errorf("%s", b)
		}
	}
}

func html(t *testing.T, res *http.Response, b []byte, _ error) {
	if !strings.HasPrefix(string(b), "<html>") || res.Header.Get("Content-Type") != "text/html" {
		t.Errorf("%q", b)
	}
}

func broken(t *testing.T, _ *http.Response, _ []byte, err error) {
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%v, want a reset", err)
	}
}

func TestHangAndStallEndWhenTheClientLeaves(t *testing.T) {
	for _, kind := range []string{Hang, Stall} {
		t.Run(kind, func(t *testing.T) {
			cfg, arrived := seen(Config{TLS: true})
			s := start(t, cfg)
			s.FailNext(1, kind)
			ctx, leave := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() {
				_, _, err := post(t, ctx, client(t, s, http1), s, "x", nil)
				done <- err
			}()
			<-arrived
			leave()
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
			if stats := settled(t, s); stats.Aborted != 1 || !stats.Records[0].Aborted {
				t.Errorf("%+v", stats)
			}
		})
	}
}

func TestCloseEndsWhatHangs(t *testing.T) {
	cfg, arrived := seen(Config{RTT: 10 * time.Millisecond})
	s := start(t, cfg)
	s.FailNext(3, Hang)
	hc := client(t, s)
	var calls sync.WaitGroup
	for range 3 {
		calls.Go(func() { post(t, t.Context(), hc, s, "x", nil) })
	}
	for range 3 {
		<-arrived
	}
	s.Close()
	calls.Wait()
	if stats := s.Stats(); stats.Open != 0 || stats.InFlight != 0 || stats.MaxInFlight != 3 || stats.Aborted != 0 {
		t.Errorf("%+v", stats)
	}
}

func TestIdleCloseWaitsForAUsedConnection(t *testing.T) {
	for _, secure := range []bool{false, true} {
		s := start(t, Config{TLS: secure})
		s.FailNext(1, IdleClose)
		hc := client(t, s, http1)
		if _, _, err := post(t, t.Context(), hc, s, "first", nil); err != nil {
			t.Fatal("a new connection met it:", err)
		}
		if _, _, err := post(t, t.Context(), hc, s, "second", nil); err == nil || errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%v, want the orderly end of the connection", err)
		}
		if _, _, err := post(t, t.Context(), hc, s, "third", nil); err != nil {
			t.Error(err)
		}
		if got := settled(t, s).Faults[IdleClose]; got != 1 {
			t.Error(got)
		}
	}
}

func TestIdleConnectionsAreClosed(t *testing.T) {
	for name, cfg := range map[string]Config{
		"after an answer": {IdleTimeout: 20 * time.Millisecond},
		"never used":      {FreshTimeout: 20 * time.Millisecond},
		"too old":         {MaxAge: 20 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			cfg.TLS = true
			s := start(t, cfg)
			pool := x509.NewCertPool()
			pool.AppendCertsFromPEM(s.CA())
			host := strings.TrimSuffix(strings.TrimPrefix(s.URL(), "https://"), "/v1")
			c, err := tls.Dial("tcp", host, &tls.Config{RootCAs: pool})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(5 * time.Second))
			if name == "after an answer" {
				io.WriteString(c, "GET /v1/models HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer x\r\n\r\n")
			}
			if _, err := io.Copy(io.Discard, c); err != nil { // an orderly end
				t.Error(err)
			}
		})
	}
}

// A lateConn is of a client that takes its time over the handshake: each write
// after the first waits. It counts what it hears after that.
type lateConn struct {
	net.Conn
	wait          time.Duration
	writes, heard atomic.Int32
}

func (c *lateConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.writes.Load() > 1 {
		c.heard.Add(int32(n))
	}
	return n, err
}

func (c *lateConn) Write(b []byte) (int, error) {
	if c.writes.Add(1) > 1 {
		time.Sleep(c.wait)
	}
	return c.Conn.Write(b)
}

func TestAConnectionIsNotIdleWhileItIsSetUp(t *testing.T) {
	for name, cfg := range map[string]Config{
		"never used": {FreshTimeout: time.Millisecond},
		"too old":    {MaxAge: time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			cfg.TLS = true
			s := start(t, cfg)
			pool := x509.NewCertPool()
			pool.AppendCertsFromPEM(s.CA())
			raw, err := net.Dial("tcp", strings.TrimSuffix(strings.TrimPrefix(s.URL(), "https://"), "/v1"))
			if err != nil {
				t.Fatal(err)
			}
			defer raw.Close()
			raw.SetDeadline(time.Now().Add(20 * time.Second))
			late := &lateConn{Conn: raw, wait: 100 * time.Millisecond}
			c := tls.Client(late, &tls.Config{RootCAs: pool, ServerName: "127.0.0.1"})
			if err := c.Handshake(); err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, c); err != nil || late.heard.Load() == 0 {
				t.Errorf("got %v and %d bytes after the handshake; want TLS's good-bye", err, late.heard.Load())
			}
		})
	}
}

func TestStaleConnectionsAreReset(t *testing.T) {
	s := start(t, Config{Stale: time.Nanosecond})
	if _, _, err := post(t, t.Context(), client(t, s), s, "x", nil); !errors.Is(err, syscall.ECONNRESET) {
		t.Error(err)
	}
	if err := s.Configure(func(c *Config) { c.Stale = time.Hour }); err != nil {
		t.Fatal(err)
	}
	if _, _, err := post(t, t.Context(), client(t, s), s, "x", nil); err != nil {
		t.Error(err)
	}
}

func TestWhatComesOnAForgottenConnectionIsLost(t *testing.T) {
	s := start(t, Config{TLS: true})
	hc := client(t, s, http1)
	ask := func(ctx context.Context) error {
		_, _, err := post(t, ctx, hc, s, "x", nil)
		return err
	}
	forget := func(silence, reset time.Duration) {
		t.Helper()
		if err := s.Configure(func(c *Config) { c.Forget, c.ForgetReset = silence, reset }); err != nil {
			t.Fatal(err)
		}
	}
	if err := ask(t.Context()); err != nil {
		t.Fatal(err)
	}
	forget(time.Hour, 0) // it was used in time
	if err := ask(t.Context()); err != nil {
		t.Fatal(err)
	}
	forget(1, 0)
	ctx, leave := context.WithCancel(t.Context())
	go func() {
		defer leave()
		for s.Stats().Forgotten == 0 && t.Context().Err() == nil {
			time.Sleep(time.Millisecond)
		}
	}()
	if err := ask(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("the firewall says nothing, and the client heard %v", err)
	}
	forget(0, 0)
	if err := ask(t.Context()); err != nil { // on a new one, and leaves it there
		t.Fatal(err)
	}
	forget(1, 1)
	if err := ask(t.Context()); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the firewall resets, and the client heard %v", err)
	}
	if got := settled(t, s); got.Forgotten != 2 || got.Chats != 3 || got.Connections != 2 {
		t.Errorf("%d connections were forgotten of %d, %d requests arrived", got.Forgotten, got.Connections, got.Chats)
	}
}

// A new connection costs a round trip, its handshake another, a request one:
// three, and one on a connection that is there.
func TestRoundTripsAreEmulated(t *testing.T) {
	const rtt = 40 * time.Millisecond
	for _, c := range []struct {
		secure bool
		cold   int
	}{{false, 2}, {true, 3}} {
		s := start(t, Config{TLS: c.secure, RTT: rtt})
		hc := client(t, s, http1)
		for i, want := range []int{c.cold, 1, 1} {
			reused := false
			ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
				GotConn: func(i httptrace.GotConnInfo) { reused = i.Reused }})
			began := time.Now()
			if _, _, err := post(t, ctx, hc, s, "x", nil); err != nil {
				t.Fatal(err)
			}
			took := time.Since(began)
			if least := time.Duration(want) * rtt; took < least {
				t.Errorf("tls %v, call %d (reused %v): %v, want at least %v", c.secure, i, reused, took, least)
			}
		}
	}
}

// What is sent together arrives together, one round trip after it was sent;
// what a new connection brings comes one later still.
func TestDelayIsOneRoundTripAndNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rtt = 50 * time.Millisecond
		near, far := net.Pipe()
		d := newDelay(far, rtt)
		var running sync.WaitGroup
		running.Go(d.run)
		began := time.Now()
		read := func(want string, at time.Duration, wantErr error) {
			t.Helper()
			b := make([]byte, 64)
			n, err := d.Read(b)
			if string(b[:n]) != want || !errors.Is(err, wantErr) || time.Since(began) != at {
				t.Errorf("%q, %v after %v; want %q, %v after %v", b[:n], err, time.Since(began), want, wantErr, at)
			}
		}
		io.WriteString(near, "hello")
		io.WriteString(near, "finished")
		read("hello", 2*rtt, nil)
		read("finished", 2*rtt, nil)
		io.WriteString(near, "request")
		time.Sleep(rtt / 2)
		io.WriteString(near, "more")
		read("request", 3*rtt, nil)
		read("more", 3*rtt+rtt/2, nil)

		d.setDeadline(time.Now().Add(rtt / 2)) // while nothing comes
		read("", 4*rtt, os.ErrDeadlineExceeded)
		d.setDeadline(time.Time{})
		io.WriteString(near, "late")
		d.setDeadline(time.Now().Add(rtt / 2)) // while it is on its way: nothing is lost
		read("", 4*rtt+rtt/2, os.ErrDeadlineExceeded)
		d.setDeadline(time.Time{})
		read("late", 5*rtt, nil)

		near.Close()
		read("", 6*rtt, io.EOF)
		read("", 6*rtt, io.EOF)
		d.close()
		running.Wait()
	})
}

func TestAClientThatLeavesIsNoticedThroughTheEmulatedNetwork(t *testing.T) {
	cfg, arrived := seen(Config{RTT: 5 * time.Millisecond})
	s := start(t, cfg)
	s.FailNext(1, Hang)
	ctx, leave := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); post(t, ctx, client(t, s), s, "x", nil) }()
	<-arrived
	leave()
	<-done
	if stats := settled(t, s); stats.Aborted != 1 {
		t.Errorf("%+v", stats)
	}
}

func TestSameSeedSameFaults(t *testing.T) {
	run := func() (faults []string) {
		s := start(t, Config{Seed: 7, Faults: map[string]float64{Error500: 0.3, RateLimit: 0.2, ChatterQuotes: 0.1}})
		hc := client(t, s)
		for range 300 {
			if _, _, err := post(t, t.Context(), hc, s, "x", nil); err != nil {
				t.Fatal(err)
			}
		}
		for _, r := range settled(t, s).Records {
			faults = append(faults, r.Fault)
		}
		return faults
	}
	a, b := run(), run()
	count := map[string]int{}
	for i := range a {
		if a[i] != b[i] {
			t.Fatalf("request %d met %q, and %q with the same seed", i, a[i], b[i])
		}
		count[a[i]]++
	}
	if n := count[Error500]; n < 60 || n > 120 {
		t.Errorf("%d of 300 at a rate of 0.3: %v", n, count)
	}
}

func TestLatencyHasItsPercentiles(t *testing.T) {
	s := &Server{}
	cfg := &Config{Latency: 300 * time.Millisecond, LatencyP99: 900 * time.Millisecond}
	over50, over99 := 0, 0
	for i := range 20000 {
		c := &call{s: s, cfg: cfg, rng: newRand(1, uint64(i))}
		if d := c.latency(); d > cfg.Latency {
			over50++
			if d > cfg.LatencyP99 {
				over99++
			}
		}
	}
	if over50 < 9700 || over50 > 10300 || over99 < 150 || over99 > 250 {
		t.Errorf("%d above p50, %d above p99 of 20,000", over50, over99)
	}
}

func TestConfigIsChangedOverHTTP(t *testing.T) {
	s := start(t, Config{})
	base := strings.TrimSuffix(s.URL(), "/v1")
	hc := client(t, s)
	set := func(body string) (int, string) {
		res, err := hc.Post(base+"/sim/config", "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, _ := io.ReadAll(res.Body)
		return res.StatusCode, string(b)
	}
	if status, got := set(`{"latency":"30ms","rpm":5,"faults":{"500":0.5},"schedule":[{"kind":"429","count":2}]}`); status != 200 ||
		!strings.Contains(got, `"latency": "30ms"`) || !strings.Contains(got, `"count": 2`) {
		t.Fatal(status, got)
	}
	if c := s.config(); c.Latency != 30*time.Millisecond || c.RPM != 5 || c.Faults["500"] != 0.5 {
		t.Errorf("%+v", c)
	}
	if res, _, err := post(t, t.Context(), hc, s, "x", nil); err != nil || res.StatusCode != 429 {
		t.Error(res, err)
	}
	for _, bad := range []string{`{`, `{"latency":5}`, `{"latency":"-1s"}`, `{"faults":{"nonsense":1}}`, `{"faults":{"500":0.7,"429":0.7}}`,
		`{"schedule":[{"kind":"500","count":0}]}`, `{"nonsense":1}`} {
		before := *s.config()
		if status, got := set(bad); status != 400 {
			t.Errorf("%s: %d %s", bad, status, got)
		}
		if after := *s.config(); after.Latency != before.Latency || len(after.Faults) != len(before.Faults) {
			t.Errorf("%s changed something", bad)
		}
	}
	res, err := hc.Get(base + "/sim/stats?records=1")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var stats Stats
	if err := json.NewDecoder(res.Body).Decode(&stats); err != nil || stats.Requests != 1 || len(stats.Records) != 1 || stats.Faults["429"] != 1 {
		t.Errorf("%v %+v", err, stats)
	}
}

func TestStatsTellIntervalsAndWindows(t *testing.T) {
	at := func(ms ...int) (s Stats) {
		for _, n := range ms {
			s.Records = append(s.Records, Record{Start: time.Unix(0, int64(n)*1e6)})
		}
		return s
	}
	s := at(0, 25, 50, 1000, 1010, 1020)
	if got := s.ShortestSpan(2); got != 10*time.Millisecond {
		t.Error(got)
	}
	if got := s.ShortestSpan(4); got != 970*time.Millisecond {
		t.Error(got) // 50, 1000, 1010, 1020
	}
	if got := s.ShortestSpan(7); got != 0 {
		t.Error(got)
	}
	if got := s.MostWithin(time.Second); got != 5 {
		t.Error(got) // 25, 50, 1000, 1010, 1020
	}
}

func TestStatsTellHowManyWereInFlightTogether(t *testing.T) {
	const ms = time.Millisecond
	record := func(start, took time.Duration) Record { return Record{Start: time.Unix(0, int64(start)), Took: took} }
	s := Stats{Records: []Record{
		record(0, 100*ms), record(50*ms, 100*ms), record(98*ms, 100*ms), record(140*ms, 4*ms),
		record(150*ms, 0), // runs still
	}}
	for less, want := range map[time.Duration]int{0: 3, ms: 3, 2 * ms: 3, 5 * ms: 2, 60 * ms: 1} {
		if got := s.MostTogether(less); got != want {
			t.Errorf("for more than %v: %d together, want %d", less, got, want)
		}
	}
}

func TestRecordsAreBounded(t *testing.T) {
	s := &Server{}
	for i := range keptRecords + 10 {
		s.stats.add(&Record{Start: time.Unix(int64(i), 0)})
	}
	got := s.Stats().Records
	if len(got) != keptRecords || got[0].Start.Unix() != 10 || got[len(got)-1].Start.Unix() != keptRecords+9 {
		t.Error(len(got), got[0].Start, got[len(got)-1].Start)
	}
}
