package admin_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/chain"
	"github.com/dragoman-mt/dragoman/core/door/admin"
)

// upper is a stage that calls itself upper and shouts.
type upper struct{}

func (upper) Wrap(next core.Translator) core.Translator {
	return core.TranslatorFunc(func(ctx context.Context, req *core.Request) (*core.Result, error) {
		res, err := next.Translate(ctx, req)
		if err != nil {
			return nil, err
		}
		return &core.Result{Text: strings.ToUpper(res.Text)}, nil
	})
}

// echoes ends a chain with the text as it came, after 20 ms.
type echoes struct{}

func (echoes) Call(core.Below) (core.Translator, error) {
	return core.TranslatorFunc(func(_ context.Context, req *core.Request) (*core.Result, error) {
		time.Sleep(20 * time.Millisecond)
		if req.Text == "fail" {
			return nil, &core.Error{Kind: core.ProviderFailed, Stage: "openai"}
		}
		return &core.Result{Text: req.Text}, nil
	}), nil
}

// A tappable is an admin door over pipes, in a bubble of testing/synctest, and a
// chain that it can tap. Its listener has the timeouts of a real one.
type tappable struct {
	t      *testing.T
	watch  chain.Watch
	chain  *chain.Chain
	stop   context.CancelFunc
	logs   *observer.ObservedLogs
	client http.Client
	conns  chan *watched // the server's end of each connection
}

func newTappable(t *testing.T) *tappable {
	x := &tappable{t: t, conns: make(chan *watched, 100)}
	var err error
	x.chain, err = chain.Link([]chain.Place{{Name: "upper", Item: upper{}}, {Name: "provider", Item: echoes{}}}, nil, &x.watch)
	if err != nil {
		t.Fatal(err)
	}
	seen, logs := observer.New(zap.DebugLevel)
	x.logs = logs
	stopping, stop := context.WithCancel(context.Background())
	x.stop = stop
	ln := make(listener)
	server := &http.Server{
		Handler: admin.New(admin.Options{
			Gatherer: prometheus.NewRegistry(), Tap: x.watch.Tap, Stopping: stopping.Done(), Log: zap.New(seen),
		}),
		ReadTimeout: 24 * time.Second, WriteTimeout: 34 * time.Second,
	}
	served := make(chan struct{})
	go func() { defer close(served); server.Serve(ln) }()
	transport := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		near, far := net.Pipe()
		w := &watched{Conn: far, closed: make(chan struct{})}
		ln <- w
		x.conns <- w
		return near, nil
	}}
	x.client.Transport = transport
	t.Cleanup(func() { // in the bubble, whose goroutines must all have ended
		stop()
		transport.CloseIdleConnections()
		server.Close()
		<-served
	})
	return x
}

func (x *tappable) translate(text string) {
	x.chain.Translate(context.Background(), &core.Request{ID: "id<1>", Session: "s", Text: text, Source: "en", Target: "es"})
}

// open asks for a tap; what it answers is read line by line.
func (x *tappable) open(ctx context.Context, query string, header ...string) (*http.Response, *bufio.Reader) {
	x.t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost/admin/tap"+query, nil)
	if err != nil {
		x.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := x.client.Do(req)
	if err != nil {
		x.t.Fatal(err)
	}
	x.t.Cleanup(func() { res.Body.Close() })
	return res, bufio.NewReader(res.Body)
}

func (x *tappable) next(r *bufio.Reader) string {
	x.t.Helper()
	line, err := r.ReadString('\n')
	if err != nil {
		x.t.Fatalf("%q, %v", line, err)
	}
	return strings.TrimSuffix(line, "\n")
}

const zero = `{"tally":{"seen":0,"shown":0,"left_out":0,"dropped":0}}`

func TestATapStreamsWhatPassesUpToItsLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newTappable(t)
		res, r := x.open(t.Context(), "?limit=4")
		_, texts := x.open(t.Context(), "?texts=1&stage=upper&session=s&limit=2")
		if got := res.Header.Get("Content-Type"); res.StatusCode != 200 || got != "application/x-ndjson" || res.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%d %v", res.StatusCode, res.Header)
		}
		for _, r := range []*bufio.Reader{r, texts} {
			if got := x.next(r); got != zero {
				t.Errorf("it begins with %s", got)
			}
		}
		begin := time.Now()
		at := func(ms int) string {
			return begin.Add(time.Duration(ms) * time.Millisecond).UTC().Format(time.RFC3339Nano)
		}
		x.translate("canción")
		x.translate("fail")
		for _, want := range []string{
			`{"time":"` + at(20) + `","request":"id<1>","session":"s","stage":"provider","source":"en","target":"es","lane":"final","outcome":"answered","total_ms":20,"self_ms":20,"in":7,"out":7}`,
			`{"time":"` + at(20) + `","request":"id<1>","session":"s","stage":"upper","source":"en","target":"es","lane":"final","outcome":"went_on","total_ms":20,"self_ms":0,"in":7,"out":7}`,
			`{"time":"` + at(40) + `","request":"id<1>","session":"s","stage":"provider","source":"en","target":"es","lane":"final","outcome":"failed","error":"provider_failed","from":"openai","total_ms":20,"self_ms":20,"in":4,"out":0}`,
			`{"time":"` + at(40) + `","request":"id<1>","session":"s","stage":"upper","source":"en","target":"es","lane":"final","outcome":"failed","error":"provider_failed","from":"openai","total_ms":20,"self_ms":0,"in":4,"out":0}`,
			`{"tally":{"seen":4,"shown":4,"left_out":0,"dropped":0,"end":"limit"}}`,
		} {
			if got := x.next(r); got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		}
		if rest, err := io.ReadAll(r); len(rest) > 0 || err != nil {
			t.Errorf("after the limit: %q, %v", rest, err)
		}
		all, err := io.ReadAll(texts)
		if err != nil || !strings.Contains(string(all), `"text_in":"canción","text_out":"CANCIÓN"`) || !strings.Contains(string(all), `"text_in":"fail"}`) || strings.Contains(string(all), `"provider"`) {
			t.Errorf("%s, %v", all, err)
		}

		said := x.logs.TakeAll()
		if len(said) != 1 || said[0].Message != "somebody taps texts" || said[0].ContextMap()["stage"] != "upper" {
			t.Errorf("the log says %v", said)
		}
		if strings.Contains(fmt.Sprint(said), "canci") {
			t.Error("a text is in the log")
		}
	})
}

// A tap is open for longer than a call may take, and says that it lives.
func TestAQuietTapOutlivesTheTimeoutsOfItsListener(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newTappable(t)
		_, r := x.open(t.Context(), "?stage=upper")
		begin := time.Now()
		for i := range 25 {
			if got := x.next(r); got != zero || time.Since(begin) != time.Duration(i)*admin.TapHeartbeat {
				t.Fatalf("after %v: %s", time.Since(begin), got)
			}
		}
		x.translate("x")
		if got := x.next(r); !strings.Contains(got, `"stage":"upper"`) {
			t.Errorf("after %v: %s", time.Since(begin), got)
		}
		if got := x.next(r); !strings.Contains(got, `"seen":1,"shown":1`) {
			t.Errorf("the tally after it: %s", got)
		}
	})
}

func TestTapsEndWhenTheGatewayStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newTappable(t)
		_, r := x.open(t.Context(), "")
		begin := time.Now()
		x.stop()
		all, err := io.ReadAll(r)
		if took := time.Since(begin); err != nil || !strings.HasSuffix(string(all), `"end":"stopping"}}`+"\n") || took > 0 {
			t.Errorf("%s, %v after %v", all, err, took)
		}
	})
}

func TestAtMostFourTapsAndAnotherWhenOneLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newTappable(t)
		ctx, leave := context.WithCancel(t.Context())
		for i := range chain.MaxTaps {
			with := t.Context()
			if i == 0 {
				with = ctx
			}
			x.open(with, "")
		}
		res, r := x.open(t.Context(), "")
		if body, _ := io.ReadAll(r); res.StatusCode != http.StatusServiceUnavailable || !strings.Contains(string(body), "4 taps are open, which is the most at once") {
			t.Errorf("a fifth: %d %s", res.StatusCode, body)
		}
		leave()
		synctest.Wait() // nothing has passed that would show that the client has left
		if res, _ := x.open(t.Context(), ""); res.StatusCode != 200 {
			t.Errorf("after one has left: %d", res.StatusCode)
		}
	})
}

// The client reads the beginning and then nothing any more.
func TestATapThatNobodyReadsIsCutAndNoRequestWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newTappable(t)
		_, r := x.open(t.Context(), "?texts=1")
		x.next(r)
		conn := <-x.conns
		begin := time.Now()
		text := strings.Repeat("x", chain.MaxTapped)
		for range 1000 {
			x.translate(text)
		}
		if took, want := time.Since(begin), 1000*20*time.Millisecond; took != want {
			t.Errorf("1,000 requests took %v, want %v", took, want)
		}
		<-conn.closed
		synctest.Wait()
		for range chain.MaxTaps {
			if res, _ := x.open(t.Context(), ""); res.StatusCode != 200 {
				t.Errorf("after it was cut: %d", res.StatusCode)
			}
		}
	})
}

func TestATapSaysWhatIsWrongWithItsQuery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newTappable(t)
		for _, c := range []struct {
			query  string
			header []string
			status int
			want   string
		}{
			{"?limit=0", nil, 400, "limit is a number of passings from 1"},
			{"?limit=many", nil, 400, `"field":"limit"`},
			{"?texts=perhaps", nil, 400, "texts is 1 or 0"},
			{"?stage=a&stage=b", nil, 400, "stage is given 2 times"},
			{"?provider=openai", nil, 400, "there are stage, session, texts and limit"},
			{"?stage=%zz", nil, 400, "cannot be understood"},
			{"", []string{"Origin", "https://app.example.com"}, 403, "not for web pages"},
			{"", []string{"Sec-Fetch-Site", "cross-site"}, 403, "not for web pages"},
		} {
			res, r := x.open(t.Context(), c.query, c.header...)
			if body, _ := io.ReadAll(r); res.StatusCode != c.status || !strings.Contains(string(body), c.want) {
				t.Errorf("%s %v: %d %s, want %q", c.query, c.header, res.StatusCode, body, c.want)
			}
		}
		for method, want := range map[string]int{http.MethodHead: 200, http.MethodPost: http.StatusMethodNotAllowed} {
			req, _ := http.NewRequest(method, "http://localhost/admin/tap", nil)
			res, err := x.client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			if res.Body.Close(); res.StatusCode != want {
				t.Errorf("%s: %d, want %d", method, res.StatusCode, want)
			}
		}
	})
}
