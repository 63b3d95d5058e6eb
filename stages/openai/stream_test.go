package openai

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/exchange"
	"github.com/dragoman-mt/dragoman/stages/openai/openaitest"
)

// heard is a request that keeps the deltas it gets.
func heard(text string) (req *core.Request, deltas *[]string) {
	deltas = new([]string)
	req = ask(text)
	req.OnDelta = func(text string) error { *deltas = append(*deltas, text); return nil }
	return req, deltas
}

func TestStreamsTheAnswerAsItComes(t *testing.T) {
	sim := simulate(t, openaitest.Config{TLS: true, RPM: 500})
	p := provide(t, sim.URL(), sim.CA(), nil)
	for _, fault := range []string{"", openaitest.Comments, ""} {
		sim.FailNext(1, fault)
		req, deltas := heard("Good \"morning\",\n\u2028dear 😀 listeners of this programme")
		res, err := p.Translate(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		if want := "[es] " + req.Text; res.Text != want || strings.Join(*deltas, "") != want || len(*deltas) < 3 {
			t.Errorf("got %q in the deltas %q, want %q", res.Text, *deltas, want)
		}
		if res.Finish != core.FinishStop || res.Model != "gpt-5.4-nano" || res.Usage.CompletionTokens == 0 || res.Limits == nil || !res.Limits.Requests.Known {
			t.Errorf("got %+v", res)
		}
	}
	stats := sim.Stats()
	if stats.Connections != 1 {
		t.Errorf("%d connections: a stream was not read to its end", stats.Connections)
	}
	if !stats.Records[0].Stream {
		t.Error("no stream was asked for")
	}
}

func TestNobodyAsksForAStreamThatNobodyHears(t *testing.T) {
	sim := simulate(t, openaitest.Config{})
	if _, err := provide(t, sim.URL(), nil, nil).Translate(t.Context(), ask("x")); err != nil || sim.Stats().Records[0].Stream {
		t.Errorf("err %v, stats %+v", err, sim.Stats().Records)
	}
}

// What can befall a stream, and whether a part of it was heard before.
func TestBadStream(t *testing.T) {
	for _, c := range []struct {
		fault string
		kind  core.ErrorKind
		again bool
		spoke bool
	}{
		{openaitest.Error500, core.ProviderFailed, true, false},
		{openaitest.RateLimit, core.RateLimited, true, false},
		{openaitest.InsufficientQuota, core.QuotaExceeded, false, false},
		{openaitest.ContextLength, core.TooLarge, false, false},
		{openaitest.Empty, core.ProviderFailed, true, false},
		{openaitest.Refusal, core.ProviderRefused, false, false},
		{openaitest.Garbage, core.ProviderFailed, true, false},
		{openaitest.ResetAfter, core.ProviderFailed, true, false},
		{openaitest.Hang, core.DeadlineExceeded, true, false},
		{openaitest.Truncated, core.ProviderFailed, true, true},
		{openaitest.StreamError, core.ProviderFailed, true, true},
		{openaitest.Cut, core.ProviderFailed, true, true},
		{openaitest.Stall, core.DeadlineExceeded, true, true},
	} {
		t.Run(c.fault, func(t *testing.T) {
			t.Parallel()
			sim := simulate(t, openaitest.Config{})
			sim.FailNext(1, c.fault)
			p := provide(t, sim.URL(), nil, func(cfg *Config) {
				if c.kind == core.DeadlineExceeded {
					cfg.Timeout = 200 * time.Millisecond
				}
			})
			req, deltas := heard("The secret plan has many words")
			res, err := p.Translate(t.Context(), req)
			e, ok := errors.AsType[*core.Error](err)
			if res != nil || !ok {
				t.Fatalf("got %+v, %v", res, err)
			}
			if e.Kind != c.kind || e.Retryable != c.again || e.Stage != "main" || len(*deltas) > 0 != c.spoke {
				t.Errorf("got kind %s, retryable %v, stage %q after %d deltas, want %s, %v", e.Kind, e.Retryable, e.Stage, len(*deltas), c.kind, c.again)
			}
			if e.Detail == "" || strings.Contains(e.Error(), "secret") {
				t.Errorf("tells too much or too little: %v", e)
			}
		})
	}
}

func TestACutStreamIsMarked(t *testing.T) {
	sim := simulate(t, openaitest.Config{})
	sim.FailNext(1, openaitest.Length)
	req, deltas := heard("A sentence that is long enough to be cut somewhere")
	res, err := provide(t, sim.URL(), nil, nil).Translate(t.Context(), req)
	if err != nil || res.Finish != core.FinishLength || !res.NoStore || !slices.Contains(res.Flags, core.FlagCut) || strings.Join(*deltas, "") != res.Text {
		t.Errorf("got %+v, %v, deltas %q", res, err, *deltas)
	}
}

const (
	hola  = `data: {"model":"m","choices":[{"index":0,"delta":{"content":"hola"}}]}`
	mundo = `data: {"choices":[{"delta":{"content":" mundo"},"finish_reason":null}],"usage":null}`
	stop  = `data: {"choices":[{"delta":{},"finish_reason":"stop"}]}`
	spent = `data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":2}}`
	end   = `data: [DONE]`
)

// Streams as servers write them, whole and byte by byte.
func TestOddStreams(t *testing.T) {
	lines := func(l ...string) string { return strings.Join(l, "\n\n") + "\n\n" }
	for _, c := range []struct {
		name, body string
		kind       core.ErrorKind // empty: it is the answer "hola mundo"
		usage      int
	}{
		{"as documented", lines(hola, mundo, stop, spent, end), "", 7},
		{"CRLF", strings.ReplaceAll(lines(hola, mundo, stop, spent, end), "\n", "\r\n"), "", 7},
		{"CR", strings.ReplaceAll(lines(hola, mundo, stop, spent, end), "\n", "\r"), "", 7},
		{"a byte order mark", "\ufeff" + lines(hola, mundo, stop, end), "", 0},
		{"no blank lines", strings.Join([]string{hola, mundo, stop, spent, end}, "\n") + "\n", "", 7},
		{"no blank behind the colon", strings.ReplaceAll(lines(hola, mundo, stop, spent, end), "data: ", "data:"), "", 7},
		{"comments and other fields", ": hello\n\nevent: message\nid: 7\nretry: 10\n" + lines(hola, ":", "data:", mundo, stop, end), "", 0},
		{"no line end behind the last", lines(hola, mundo, stop) + end, "", 0},
		{"no [DONE]", lines(hola, mundo, stop, spent), "", 7},
		{"no finish reason", lines(hola, mundo, end), "", 0},
		{"usage in every chunk", lines(strings.Replace(hola, `"model"`, `"usage":{"prompt_tokens":3},"model"`, 1), mundo, stop, spent, end), "", 7},
		{"an error that is null", lines(strings.Replace(hola, `"model"`, `"error":null,"model"`, 1), mundo, stop, end), "", 0},
		{"something behind the end", lines(hola, mundo, stop, end, `data: {"choices":[{"delta":{"content":"!"}}]}`), "", 0},

		{"an early end", lines(hola, mundo), core.ProviderFailed, 0},
		{"nothing", "", core.ProviderFailed, 0},
		{"the end alone", lines(end), core.ProviderFailed, 0},
		{"HTML", "<html>\n<body>Welcome</body>\n</html>", core.ProviderFailed, 0},
		{"an error", lines(`data: {"error":{"message":"m","code":"server_error"}}`), core.ProviderFailed, 0},
		{"a late error", lines(hola, `data: {"error":{"message":"m","code":500}}`), core.ProviderFailed, 0},
		{"a limit", lines(`data: {"error":{"code":"rate_limit_exceeded"}}`), core.RateLimited, 0},
		{"no quota", lines(hola, `data: {"error":{"type":"insufficient_quota"}}`), core.QuotaExceeded, 0},
		{"a line that is too long", "data: \"" + strings.Repeat("x", exchange.MaxAnswer+1) + "\"\n", core.ProviderFailed, 0},
		{"a text that is too long", strings.Repeat(`data: {"choices":[{"delta":{"content":"`+strings.Repeat("x", 1<<16)+`"}}]}`+"\n", 17), core.ProviderFailed, 0},
	} {
		for _, cut := range []bool{false, true} {
			if cut && len(c.body) > 10_000 {
				continue
			}
			name := c.name
			if cut {
				name += ", byte by byte"
			}
			t.Run(name, func(t *testing.T) {
				p, _ := canned(t, func(w http.ResponseWriter, r *http.Request) {
					io.Copy(io.Discard, r.Body)
					w.Header().Set("Content-Type", "text/event-stream")
					if !cut {
						io.WriteString(w, c.body)
						return
					}
					for i := range len(c.body) {
						io.WriteString(w, c.body[i:i+1])
						w.(http.Flusher).Flush()
					}
				})
				req, deltas := heard("hello world")
				res, err := p.Translate(t.Context(), req)
				if core.KindOf(err) != c.kind {
					t.Fatalf("got %v, want kind %q", err, c.kind)
				}
				if c.kind != "" {
					return
				}
				if diff := cmp.Diff([]string{"hola", " mundo"}, *deltas); diff != "" || res.Text != "hola mundo" || res.Usage.PromptTokens != c.usage {
					t.Errorf("got %+v, deltas %q", res, *deltas)
				}
			})
		}
	}
}

// A server that does not know streams answers in one piece.
func TestAnAnswerInOnePieceIsTaken(t *testing.T) {
	p, _ := canned(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		io.WriteString(w, `{"choices":[{"message":{"content":"hola"},"finish_reason":"stop"}]}`)
	})
	req, deltas := heard("hello")
	if res, err := p.Translate(t.Context(), req); err != nil || res.Text != "hola" || len(*deltas) != 0 {
		t.Errorf("got %+v, %v, deltas %q", res, err, *deltas)
	}
}

// A server that keeps a complete stream open, with or without [DONE], does not
// keep the answer.
func TestACompleteStreamThatStaysOpenIsAnAnswer(t *testing.T) {
	for _, last := range []string{stop, end} {
		p, _ := canned(t, func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			w.Header().Set("Content-Type", "text/event-stream")
			io.WriteString(w, hola+"\n\n"+last+"\n\n")
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		})
		p.cfg.Timeout = time.Minute
		req, _ := heard("hello")
		if res, err := p.Translate(t.Context(), req); err != nil || res.Text != "hola" {
			t.Errorf("after %s: got %+v, %v", last, res, err)
		}
	}
}

func TestARefusedDeltaEndsTheUpstreamCall(t *testing.T) {
	gone := &core.Error{Kind: core.Canceled, Stage: "door", Detail: "the client does not read"}
	for _, c := range []struct{ err, want error }{{gone, gone}, {io.ErrClosedPipe, io.ErrClosedPipe}} {
		sim := simulate(t, openaitest.Config{})
		sim.FailNext(1, openaitest.Stall) // goes on until the client leaves
		req := ask("one two three four five six")
		calls := 0
		req.OnDelta = func(string) error { calls++; return c.err }
		res, err := provide(t, sim.URL(), nil, nil).Translate(t.Context(), req)
		if res != nil || !errors.Is(err, c.want) || core.KindOf(err) != core.Canceled || calls != 1 {
			t.Errorf("got %+v, %v after %d deltas", res, err, calls)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if stats, err := sim.Settled(ctx); err != nil || stats.Aborted != 1 {
			t.Errorf("the upstream call goes on: %+v, %v", stats, err)
		}
	}
}

func TestStreamingParametersAreLeftOutWhenRefused(t *testing.T) {
	var mu sync.Mutex
	var asked []string
	sim := simulate(t, openaitest.Config{
		Models: []openaitest.Model{{ID: "plain", Refuses: []string{"stream_options"}}, {ID: "mute", Refuses: []string{"stream=true"}}},
		Observe: func(_ *http.Request, body []byte) {
			var b struct {
				Model   string
				Stream  bool
				Options any `json:"stream_options"`
			}
			json.Unmarshal(body, &b)
			said := b.Model
			if b.Stream {
				said += " stream"
			}
			if b.Options != nil {
				said += " options"
			}
			mu.Lock()
			asked = append(asked, said)
			mu.Unlock()
		},
	})
	for _, model := range []string{"plain", "mute"} {
		p := provide(t, sim.URL(), nil, func(c *Config) { c.Model = model })
		for range 2 {
			req, deltas := heard("Good morning to all of you")
			res, err := p.Translate(t.Context(), req)
			if err != nil || res.Text != "[es] "+req.Text || (len(*deltas) > 0) != (model == "plain") {
				t.Errorf("%s: got %+v, %v, deltas %q", model, res, err, *deltas)
			}
		}
	}
	want := []string{"plain stream options", "plain stream", "plain stream", "mute stream options", "mute", "mute"}
	if diff := cmp.Diff(want, asked); diff != "" {
		t.Errorf("asked for (-want +got):\n%s", diff)
	}
}

// A line of half a megabyte, byte by byte, would be looked at for a minute if each
// byte had all before it looked at again.
func TestALongEventInSmallPiecesIsReadOnce(t *testing.T) {
	line := "data: " + strings.Repeat("x", 512<<10)
	started := time.Now()
	data, err := newEvents(iotest.OneByteReader(strings.NewReader(line+"\n")), nil).next()
	if err != nil || string(data) != line[len("data: "):] {
		t.Errorf("got %d bytes, %v", len(data), err)
	}
	if took := time.Since(started); took > 20*time.Second {
		t.Errorf("it took %v", took)
	}
}

// However a stream is cut into reads, it holds the same events, none of which
// is blank, has a line end or is longer than was read.
func FuzzEvents(f *testing.F) {
	f.Add([]byte(hola + "\n\n" + stop + "\r\n\r\n: x\r\r" + end))
	f.Add([]byte("\ufeffdata:a\ndata: \ndata\nevent: b\rdata:  c \xff"))
	f.Fuzz(func(t *testing.T, in []byte) {
		read := func(r io.Reader) (all []string) {
			e := newEvents(r, make([]byte, 0, 16))
			for {
				data, err := e.next()
				if err == io.EOF {
					return all
				}
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, string(data))
			}
		}
		whole := read(bytes.NewReader(in))
		if diff := cmp.Diff(whole, read(iotest.OneByteReader(bytes.NewReader(in)))); diff != "" {
			t.Errorf("in one piece and byte by byte differ:\n%s", diff)
		}
		total := 0
		for _, data := range whole {
			total += len(data) + len("data:")
			if strings.TrimSpace(data) == "" || strings.Contains(data, "\r") {
				t.Errorf("the event %q", data)
			}
		}
		if total > len(in) {
			t.Errorf("%d bytes of events in %d", total, len(in))
		}
	})
}

// A stream that cannot be read ends as an error or an answer, never as both,
// whatever it holds.
func FuzzStream(f *testing.F) {
	for _, seed := range []string{
		hola + "\n\n" + mundo + "\n\n" + stop + "\n\n" + spent + "\n\n" + end,
		`data: {"error":{"code":"rate_limit_exceeded","param":3}}`, `data: {"choices":[{"delta":null}]}` + "\n" + end,
		`data: {"choices":[{"delta":{"refusal":"no"},"finish_reason":"content_filter"}]}`, "data: [DONE]", "data: {",
	} {
		f.Add([]byte(seed))
	}
	p := provide(f, "http://127.0.0.1:1/v1", nil, nil)
	f.Fuzz(func(t *testing.T, in []byte) {
		resp := &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(in))}
		var text strings.Builder
		req := ask("x")
		req.OnDelta = func(s string) error { text.WriteString(s); return nil }
		res, usage, err := p.stream(t.Context(), t.Context(), func() {}, req, p.params.Load(), resp, new(bytes.Buffer))
		if (res == nil) == (err == nil) {
			t.Fatalf("got %+v and %v", res, err)
		}
		if res != nil && (res.Text != text.String() || res.Usage != usage) {
			t.Errorf("the deltas say %q, the result %+v", text.String(), res)
		}
		if usage.PromptTokens < 0 || usage.CompletionTokens < 0 {
			t.Errorf("usage %+v", usage)
		}
	})
}
