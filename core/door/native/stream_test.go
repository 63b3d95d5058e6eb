package native_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/chain"
	"github.com/dragoman-mt/dragoman/core/door"
)

// An event is what a client is told at once: its name and the JSON of its data.
// A comment has the name ":".
type event struct {
	name string
	data struct {
		Index     *int
		Text      *string
		Target    string
		Error     *problem
		RequestID string `json:"request_id"`
		Timing    map[string]any
	}
	raw string
}

// A reading is a stream that is read by a client.
type reading struct {
	t   testing.TB
	res *http.Response
	in  *bufio.Reader
}

// open makes a call whose answer is a stream.
func (g *doorway) open(ctx context.Context, body string, header ...string) *reading {
	g.t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+g.addr+"/v1/translate", strings.NewReader(body))
	if err != nil {
		g.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := g.client.Do(req)
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { res.Body.Close() })
	if res.StatusCode != 200 || res.Header.Get("Content-Type") != "text/event-stream" {
		body, _ := io.ReadAll(res.Body)
		g.t.Fatalf("%d %v\n%s", res.StatusCode, res.Header, body)
	}
	return &reading{t: g.t, res: res, in: bufio.NewReader(res.Body)}
}

// read returns the next event or comment, nil at the end. Whatever is not one
// fails the test.
func (r *reading) read() *event {
	r.t.Helper()
	e := &event{}
	for {
		line, err := r.in.ReadString('\n')
		if err == io.EOF && line == "" && e.name == "" {
			return nil
		}
		if err != nil {
			r.t.Fatalf("after %q %q: %v", e.name, line, err)
		}
		line = strings.TrimSuffix(line, "\n")
		switch name, isName := strings.CutPrefix(line, "event: "); {
		case isName:
			e.name = name
		case line == ":":
			e.name = ":"
		case strings.HasPrefix(line, "data: ") && e.raw == "":
			e.raw = strings.TrimPrefix(line, "data: ")
			if err := json.Unmarshal([]byte(e.raw), &e.data); err != nil {
				r.t.Fatalf("%s: %v", e.raw, err)
			}
		case line == "" && e.name != "" && (e.raw == "") == (e.name == ":"):
			return e
		default:
			r.t.Fatalf("%q within event %q %q", line, e.name, e.raw)
		}
	}
}

// next returns the next event, which must have that name.
func (r *reading) next(name string) *event {
	r.t.Helper()
	e := r.read()
	if e == nil || e.name != name {
		r.t.Fatalf("the next event is %+v, want %s", e, name)
	}
	return e
}

// rest returns everything until the end, comments left out.
func (r *reading) rest() (all []*event) {
	r.t.Helper()
	for e := r.read(); e != nil; e = r.read() {
		if e.name != ":" {
			all = append(all, e)
		}
	}
	return all
}

// said is a short form of events.
func said(events []*event) (all []string) {
	for _, e := range events {
		switch d := e.data; {
		case e.name == "done":
			all = append(all, "done")
		case d.Error != nil:
			all = append(all, fmt.Sprintf("%s %d %s", e.name, *d.Index, d.Error.Kind))
		default:
			all = append(all, fmt.Sprintf("%s %d %q", e.name, *d.Index, *d.Text))
		}
	}
	return all
}

// A speaker is a translator that says a word of the text in capitals each time
// it is told to, and all of it unless it is asked for deltas.
type speaker struct {
	shout
	say chan struct{} // nil: at once
}

func (s *speaker) Translate(ctx context.Context, req *core.Request) (*core.Result, error) {
	if req.OnDelta != nil {
		for word := range strings.SplitAfterSeq(strings.ToUpper(req.Text), " ") {
			if s.say != nil {
				select {
				case <-s.say:
				case <-ctx.Done():
					return nil, core.ContextError(ctx, "speaker")
				}
			}
			if err := req.OnDelta(word); err != nil {
				return nil, err
			}
		}
	}
	return s.shout.Translate(ctx, req)
}

func TestAStreamBringsEachPieceAsItComesThenTheResultThenDone(t *testing.T) {
	s := &speaker{say: make(chan struct{})}
	g := serve(t, door.Defaults(), s)
	const call = `{"text":"one\r\u2028two three","target":"es","session":"s","revision":7,"stream":%t}`
	go func() { s.say <- struct{}{} }()
	r := g.open(t.Context(), fmt.Sprintf(call, true), "X-Request-Id", "mine")
	for name, want := range map[string]string{"Cache-Control": "no-store", "X-Accel-Buffering": "no", "X-Request-Id": "mine", "X-Content-Type-Options": "nosniff"} {
		if got := r.res.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	// The first piece is here before the second one is said.
	if d := r.next("delta").data; *d.Index != 0 || *d.Text != "ONE\r\u2028TWO " {
		t.Errorf("%d %q", *d.Index, *d.Text)
	}
	s.say <- struct{}{}
	if d := r.next("delta").data; *d.Text != "THREE" {
		t.Errorf("%q", *d.Text)
	}

	// Result and done are what the JSON answer holds.
	result, done := r.next("result").raw, r.next("done")
	if e := r.read(); e != nil {
		t.Errorf("after done comes %+v", e)
	}
	a := g.post(fmt.Sprintf(call, false))
	var whole struct {
		Translations []json.RawMessage
		Timing       map[string]any
	}
	if err := json.Unmarshal([]byte(a.raw), &whole); err != nil {
		t.Fatal(err)
	}
	if want := `{"index":0,` + string(whole.Translations[0][1:]); result != want {
		t.Errorf("result %s\nwant %s", result, want)
	}
	if done.data.RequestID != "mine" || done.data.Timing["total_ms"].(float64) <= 0 {
		t.Errorf("%s", done.raw)
	}
	delete(done.data.Timing, "total_ms")
	delete(whole.Timing, "total_ms")
	if diff := cmp.Diff(whole.Timing, done.data.Timing); diff != "" {
		t.Errorf("timing (-JSON +stream):\n%s", diff)
	}
}

func TestTheItemsOfAStreamGoTheirOwnWays(t *testing.T) {
	s := &speaker{say: make(chan struct{})}
	g := serve(t, door.Defaults(), s)
	go func() {
		for range 10 {
			s.say <- struct{}{}
		}
	}()
	r := g.open(t.Context(), `{"text":["one two three","four five"],"targets":["es","fr"],"stream":true}`)
	texts, results, targets := map[int]string{}, map[int]string{}, map[int]string{}
	all := r.rest()
	for i, e := range all {
		d := e.data
		switch {
		case e.name == "done":
			if i != len(all)-1 {
				t.Error("something comes after done")
			}
		case results[*d.Index] != "":
			t.Errorf("%s after the result", e.raw)
		case e.name == "delta":
			texts[*d.Index] += *d.Text
		default:
			results[*d.Index], targets[*d.Index] = *d.Text, d.Target
		}
	}
	want := map[int]string{0: "ONE TWO THREE", 1: "ONE TWO THREE", 2: "FOUR FIVE", 3: "FOUR FIVE"}
	if diff := cmp.Diff(want, results); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(want, texts); diff != "" {
		t.Errorf("the pieces do not make the text: %s", diff)
	}
	if diff := cmp.Diff(map[int]string{0: "es", 1: "fr", 2: "es", 3: "fr"}, targets); diff != "" {
		t.Error(diff)
	}
	if all[len(all)-1].name != "done" {
		t.Errorf("%v", said(all))
	}
}

func TestWhatNeedsNoCallIsStreamedAsResultAndDone(t *testing.T) {
	g := serve(t, door.Defaults(), core.TranslatorFunc(func(context.Context, *core.Request) (*core.Result, error) {
		return benchResult, nil // as the cache does
	}))
	for body, want := range map[string]string{
		`{"text":"a","target":"es","stream":true}`:               benchResult.Text,
		`{"text":" ","target":"es","stream":true}`:               " ",
		`{"text":"a","source":"es","target":"es","stream":true}`: "a",
	} {
		if diff := cmp.Diff([]string{fmt.Sprintf("result 0 %q", want), "done"}, said(g.open(t.Context(), body).rest())); diff != "" {
			t.Errorf("%s:\n%s", body, diff)
		}
	}
}

func TestTheFieldStreamDecidesAndWithoutItAccept(t *testing.T) {
	g := serve(t, door.Defaults(), &shout{})
	for _, c := range []struct {
		field, accept string
		stream        bool
	}{
		{``, ``, false},
		{``, `*/*`, false},
		{``, `application/json`, false},
		{``, `text/event-stream`, true},
		{``, `Text/Event-Stream; q=0.9 , */*;q=0.1`, true},
		{``, `application/json, text/event-stream`, false},
		{``, `text/event-stream, application/json`, false},
		{``, `text/event-streams`, false},
		{`,"stream":null`, `text/event-stream`, true},
		{`,"stream":false`, `text/event-stream`, false},
		{`,"stream":true`, `application/json`, true},
		{`,"stream":true`, ``, true},
	} {
		req, _ := http.NewRequest("POST", "http://"+g.addr+"/v1/translate", strings.NewReader(`{"text":"a","target":"es"`+c.field+`}`))
		if c.accept != "" {
			req.Header.Set("Accept", c.accept)
		}
		res, err := g.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, res.Body)
		res.Body.Close()
		if got := res.Header.Get("Content-Type") == "text/event-stream"; got != c.stream || res.StatusCode != 200 {
			t.Errorf("stream %q, Accept %q: %d %s", c.field, c.accept, res.StatusCode, res.Header.Get("Content-Type"))
		}
	}
}

func TestAStreamThatHasNotBegunFailsAsJSON(t *testing.T) {
	// A heartbeat is due all the time, and begins nothing.
	g := serveImpatient(t, door.Defaults(), core.TranslatorFunc(func(ctx context.Context, req *core.Request) (*core.Result, error) {
		if req.Text == "slow" {
			<-ctx.Done()
			return nil, core.ContextError(ctx, "test")
		}
		return nil, &core.Error{Kind: core.RateLimited, RetryAfter: 1200 * time.Millisecond}
	}), time.Millisecond, door.Patience)
	for body, want := range map[string]int{
		`{"text":"a","stream":true}`:                                   400,
		`{"text":"a","target":"es","stream":"yes"}`:                    400,
		`{"text":"a","target":"es","stream":true}`:                     429,
		`{"text":["a"],"target":"es","stream":true}`:                   429,
		`{"text":"slow","target":"es","deadline_ms":50,"stream":true}`: 504,
	} {
		a := g.post(body, "Accept", "text/event-stream")
		if a.status != want || a.Error == nil || a.header.Get("Content-Type") != "application/json; charset=utf-8" || (want == 429) != (a.header.Get("Retry-After") == "2") {
			t.Errorf("%s: %d %v %s", body, a.status, a.header, a.raw)
		}
	}
}

func TestAFailureWithinAStreamIsTheResultOfItsItem(t *testing.T) {
	heard := make(chan struct{})
	g := serve(t, door.Defaults(), core.TranslatorFunc(func(ctx context.Context, req *core.Request) (*core.Result, error) {
		switch req.Text {
		case "breaks":
			req.OnDelta("half")
			<-heard
			return nil, &core.Error{Kind: core.ProviderFailed, Detail: "broken off", Cause: io.ErrUnexpectedEOF}
		case "panics":
			panic("a defect")
		case "fails":
			return nil, &core.Error{Kind: core.RateLimited, RetryAfter: time.Second}
		}
		return &core.Result{Text: "fine"}, nil
	}))
	r := g.open(t.Context(), `{"text":"breaks","target":"es","stream":true}`)
	got := []*event{r.next("delta")}
	close(heard)
	got = append(got, r.rest()...)
	if diff := cmp.Diff([]string{`delta 0 "half"`, "result 0 provider_failed", "done"}, said(got)); diff != "" {
		t.Error(diff)
	}
	if e := got[1].data; e.Target != "es" || e.Error.Message != "broken off" || e.Text != nil {
		t.Errorf("%s", got[1].raw)
	}

	all := g.open(t.Context(), `{"text":["fine","fails","panics","a\u0000"],"target":"es","stream":true}`).rest()
	results := map[int]string{}
	for _, e := range all[:len(all)-1] {
		if e.data.Error != nil {
			results[*e.data.Index] = e.data.Error.Kind + " " + e.data.Error.Field
		} else {
			results[*e.data.Index] = *e.data.Text
		}
	}
	if diff := cmp.Diff(map[int]string{0: "fine", 1: "rate_limited ", 2: "internal ", 3: "invalid_request text[3]"}, results); diff != "" || all[len(all)-1].name != "done" {
		t.Errorf("%v\n%s", said(all), diff)
	}
	want := `
# HELP dragoman_requests_total Texts that were answered, and calls that were refused as a whole, by door and kind of failure (ok when there was none).
# TYPE dragoman_requests_total counter
dragoman_requests_total{door="native",kind="internal"} 1
dragoman_requests_total{door="native",kind="invalid_request"} 1
dragoman_requests_total{door="native",kind="ok"} 1
dragoman_requests_total{door="native",kind="provider_failed"} 1
dragoman_requests_total{door="native",kind="rate_limited"} 1
`
	if err := testutil.GatherAndCompare(g.registry, strings.NewReader(want), "dragoman_requests_total"); err != nil {
		t.Error(err)
	}
}

func TestAPanicFailsOneOfSeveralTextsAlone(t *testing.T) {
	g := serve(t, door.Defaults(), core.TranslatorFunc(func(_ context.Context, req *core.Request) (*core.Result, error) {
		if req.Text == "panics" {
			panic("a defect")
		}
		return &core.Result{Text: "fine"}, nil
	}))
	a := g.post(`{"text":["panics","a"],"target":"es"}`)
	if a.status != 200 || a.Translations[0].Error.Kind != "internal" || *a.Translations[1].Text != "fine" || strings.Contains(a.raw, "defect") {
		t.Errorf("%d %s", a.status, a.raw)
	}
}

func TestAClientThatReadsNothingIsDroppedAndDelaysNobody(t *testing.T) {
	large := strings.Repeat("palabra ", 2<<20) // more than two sockets hold
	said, ended := make(chan struct{}), make(chan error, 1)
	g := serveImpatient(t, door.Defaults(), core.TranslatorFunc(func(ctx context.Context, req *core.Request) (*core.Result, error) {
		switch req.Text {
		case "large":
			for range 1000 { // without waiting for anybody
				if err := req.OnDelta(large[:8<<10]); err != nil {
					return nil, err
				}
			}
			said <- struct{}{}
			return &core.Result{Text: large}, nil
		case "beside":
			<-ctx.Done()
			ended <- ctx.Err()
			return nil, core.ContextError(ctx, "test")
		}
		return &core.Result{Text: "fine"}, nil
	}), door.Heartbeat, 500*time.Millisecond)
	for i, text := range []string{`["large","beside"]`, `"large"`} {
		conn, err := net.Dial("tcp", g.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		body := `{"text":` + text + `,"target":"es","stream":true}`
		fmt.Fprintf(conn, "POST /v1/translate HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		<-said
		if got := g.open(t.Context(), `{"text":"a","target":"es","stream":true}`).next("result"); *got.data.Text != "fine" {
			t.Errorf("another client got %s", got.raw)
		}
		g.served(2*i+1, 200)
		g.served(2*i+2, 499)
	}
	if err := <-ended; err != context.Canceled {
		t.Errorf("the text beside ended with %v, want %v", err, context.Canceled)
	}
}

// served waits for the n-th call that the log says was answered, which must have
// status.
func (g *doorway) served(n int, status int64) {
	g.t.Helper()
	served := g.log.FilterMessage("served")
	for ; served.Len() < n; served = g.log.FilterMessage("served") {
	}
	if got := served.All()[n-1].ContextMap()["status"]; got != status {
		g.t.Errorf("status %v in the log, want %d", got, status)
	}
}

func TestAClientThatLeavesAStreamEndsItsWork(t *testing.T) {
	began, left := make(chan struct{}, 2), make(chan error, 2)
	g := serve(t, door.Defaults(), core.TranslatorFunc(func(ctx context.Context, req *core.Request) (*core.Result, error) {
		began <- struct{}{}
		req.OnDelta("half")
		<-ctx.Done()
		left <- context.Cause(ctx)
		return nil, core.ContextError(ctx, "test")
	}))
	ctx, leave := context.WithCancel(t.Context())
	g.open(ctx, `{"text":["a","b"],"target":"es","stream":true}`).next("delta")
	<-began
	<-began // for a client that has left no work is begun
	leave()
	for range 2 {
		if err := <-left; err != context.Canceled {
			t.Errorf("the work ended with %v, want %v", err, context.Canceled)
		}
	}
	g.served(1, 499)
}

// A client may say that it sends nothing more and go on reading; net/http takes
// that for its leaving.
func TestAStreamIsEndedInOrderForAClientThatStillReads(t *testing.T) {
	g := serve(t, door.Defaults(), &speaker{say: make(chan struct{})})
	conn, err := net.Dial("tcp", g.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	body := `{"text":["a"," "],"target":"es","stream":true}`
	fmt.Fprintf(conn, "POST /v1/translate HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	r := &reading{t: t, res: res, in: bufio.NewReader(res.Body)}
	r.next("result")
	conn.(*net.TCPConn).CloseWrite()
	if diff := cmp.Diff([]string{"result 0 canceled", "done"}, said(r.rest())); diff != "" {
		t.Error(diff)
	}
	g.served(1, 499)
}

func TestASilentStreamSaysThatItLives(t *testing.T) {
	s := &speaker{say: make(chan struct{})}
	g := serveImpatient(t, door.Defaults(), s, time.Millisecond, door.Patience)
	go func() { s.say <- struct{}{} }()
	r := g.open(t.Context(), `{"text":"one two","target":"es","stream":true}`)
	r.next("delta")
	r.next(":")
	r.next(":")
	s.say <- struct{}{}
	if diff := cmp.Diff([]string{`delta 0 "TWO"`, `result 0 "ONE TWO"`, "done"}, said(r.rest())); diff != "" {
		t.Error(diff)
	}
}

func TestStoppingFinishesStreams(t *testing.T) {
	s := &speaker{say: make(chan struct{})}
	g := serve(t, door.Defaults(), s)
	go func() { s.say <- struct{}{} }()
	r := g.open(t.Context(), `{"text":"one two","target":"es","stream":true}`)
	r.next("delta")
	g.stop()
	for g.log.FilterMessage("stopping").Len() == 0 {
	}
	s.say <- struct{}{}
	if diff := cmp.Diff([]string{`delta 0 "TWO"`, `result 0 "ONE TWO"`, "done"}, said(r.rest())); diff != "" {
		t.Error(diff)
	}
	<-g.done
	if n := g.log.FilterMessage("stopped").All()[0].ContextMap()["ended"]; n != int64(0) {
		t.Errorf("%v calls were ended, want none", n)
	}
}

func TestAStreamThatStoppingEndsSaysWhy(t *testing.T) {
	c := door.Defaults()
	c.DrainTimeout = 50 * time.Millisecond
	s := &speaker{say: make(chan struct{})}
	g := serve(t, c, s)
	go func() { s.say <- struct{}{} }()
	r := g.open(t.Context(), `{"text":"one two","target":"es","stream":true}`)
	r.next("delta")
	g.stop()
	if diff := cmp.Diff([]string{"result 0 unavailable", "done"}, said(r.rest())); diff != "" {
		t.Error(diff)
	}
}

func TestTheConnectionOfAStreamIsUsedAgain(t *testing.T) {
	g := serve(t, door.Defaults(), &speaker{})
	var mu sync.Mutex
	var reused []bool
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) {
		mu.Lock()
		defer mu.Unlock()
		reused = append(reused, i.Reused)
	}})
	for range 3 {
		r := g.open(ctx, `{"text":"one two","target":"es","stream":true}`)
		if all := r.rest(); all[len(all)-1].name != "done" {
			t.Errorf("%v", said(all))
		}
		r.res.Body.Close()
	}
	if diff := cmp.Diff([]bool{false, true, true}, reused); diff != "" {
		t.Error(diff)
	}
}

// An ear is hooks that only hear of requests: deltas pass it as they are.
type ear struct{}

func (ear) Before(context.Context, *core.Request) (core.Verdict, error) { return core.Verdict{}, nil }

func (ear) After(_ context.Context, _ *core.Request, res *core.Result, _ []byte) (*core.Result, error) {
	return res, nil
}

func (ear) Deltas(*core.Request, []byte) (each func(string) (string, error), ok bool) {
	return nil, true
}

// A whisperer is hooks that write everything small, deltas too.
type whisperer struct{ ear }

func (whisperer) After(_ context.Context, _ *core.Request, res *core.Result, _ []byte) (*core.Result, error) {
	small := *res
	small.Text = strings.ToLower(res.Text)
	return &small, nil
}

func (whisperer) Deltas(*core.Request, []byte) (each func(string) (string, error), ok bool) {
	return func(text string) (string, error) { return strings.ToLower(text), nil }, true
}

// A wholeReader is hooks that have to see the whole.
type wholeReader struct{ core.Hooks }

// alone calls the provider p, once.
type alone struct{}

func (alone) Call(below core.Below) (core.Translator, error) {
	p, _ := below.Provider("p")
	return below.Around(p), nil
}

func TestHooksKeepAStreamAliveThatNeedNotSeeTheWhole(t *testing.T) {
	for name, c := range map[string]struct {
		hooks          core.Hooks
		deltas, result string
	}{
		"without an After":      {ear{}, "ONE TWO", "ONE TWO"},
		"with one for deltas":   {whisperer{}, "one two", "one two"},
		"with an After for all": {wholeReader{whisperer{}}, "", "one two"},
	} {
		linked, err := chain.Link([]chain.Place{{Name: "hooks", Item: c.hooks}, {Name: "provider", Item: alone{}}},
			func(string) (core.Provider, bool) { return core.Provider{Name: "p", Translator: &speaker{}}, true }, &chain.Watch{})
		if err != nil {
			t.Fatal(err)
		}
		g := serve(t, door.Defaults(), linked)
		var deltas, result string
		for _, e := range g.open(t.Context(), `{"text":"one two","target":"es","stream":true}`).rest() {
			switch e.name {
			case "delta": // one event may bring several pieces
				deltas += *e.data.Text
			case "result":
				result = *e.data.Text
			}
		}
		if deltas != c.deltas || result != c.result {
			t.Errorf("%s: got the deltas %q and the result %q, want %q and %q", name, deltas, result, c.deltas, c.result)
		}
	}
}
