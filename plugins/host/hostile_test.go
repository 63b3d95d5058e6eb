package host

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"pgregory.net/rapid"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/chain"
	"github.com/dragoman-mt/dragoman/plugins/wire"
)

// An actor is a plugin at an address that does what a test wants. Nil functions
// do what a good plugin does.
type actor struct {
	wire.UnimplementedPluginServer
	wire.UnimplementedProviderServer
	wire.UnimplementedStageServer

	describe  func(*wire.Description)
	configure func() (*wire.ConfigReply, error)
	health    func() error
	answer    func(*wire.Text) (*wire.Event, error)
	stream    func(grpc.ServerStreamingServer[wire.Event]) error
	before    func(*wire.Text) (*wire.Verdict, error)
	after     func(*wire.Done) (*wire.Reply, error)

	configured, answered, asked atomic.Int64
	released                    atomic.Int64
}

func (a *actor) Describe(context.Context, *wire.DescribeRequest) (*wire.Description, error) {
	d := &wire.Description{Name: "actor", Version: "1", Protocol: wire.Protocol, Parts: []*wire.Part{{Role: wire.Role_ROLE_PROVIDER}, {Role: wire.Role_ROLE_STAGE, Before: true, After: true}}}
	if a.describe != nil {
		a.describe(d)
	}
	return d, nil
}

func (a *actor) Configure(context.Context, *wire.Config) (*wire.ConfigReply, error) {
	a.configured.Add(1)
	if a.configure != nil {
		return a.configure()
	}
	return &wire.ConfigReply{}, nil
}

func (a *actor) Release(context.Context, *wire.Instance) (*wire.Released, error) {
	a.released.Add(1)
	return &wire.Released{}, nil
}

func (a *actor) Health(context.Context, *wire.Instance) (*wire.State, error) {
	a.asked.Add(1)
	if a.health != nil {
		return &wire.State{}, a.health()
	}
	return &wire.State{}, nil
}

func (a *actor) Answer(_ context.Context, v *wire.Visit) (*wire.Event, error) {
	a.answered.Add(1)
	return a.answer(v.GetText())
}

func (a *actor) Translate(_ *wire.Call, out grpc.ServerStreamingServer[wire.Event]) error {
	a.answered.Add(1)
	return a.stream(out)
}

func (a *actor) Before(_ context.Context, v *wire.Visit) (*wire.Verdict, error) {
	if a.before == nil {
		return &wire.Verdict{}, nil
	}
	return a.before(v.GetText())
}

func (a *actor) After(_ context.Context, d *wire.Done) (*wire.Reply, error) { return a.after(d) }

// serve serves a at an address until the test ends.
func (a *actor) serve(t *testing.T) (address string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "at")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer(grpc.MaxSendMsgSize(64<<20), grpc.MaxRecvMsgSize(64<<20))
	wire.RegisterPluginServer(g, a)
	wire.RegisterProviderServer(g, a)
	wire.RegisterStageServer(g, a)
	served := make(chan struct{})
	go func() { defer close(served); g.Serve(l) }()
	t.Cleanup(func() { g.Stop(); <-served })
	return "unix:" + l.Addr().String()
}

func atAddress(address string) string {
	return "\nproviders:\n  odd: {type: plugin, address: '" + address + "'}\nstages:\n  - plugin: {address: '" + address + "'}\n    name: stage\n  - provider: {use: odd}\n"
}

func request(text string) *core.Request {
	return &core.Request{ID: "r", Text: text, Source: "en", Target: "es", Trace: core.NewTrace(nil)}
}

// unsaid fails when a line was logged that holds part.
func (b *bench) unsaid(part string) {
	b.Helper()
	for _, e := range b.logs.All() {
		if line := fmt.Sprint(e.Message, e.ContextMap()); strings.Contains(line, part) {
			b.Errorf("it was logged: %s", line)
		}
	}
}

func TestAPluginThatAnswersWithAFailureLives(t *testing.T) {
	for name, c := range map[string]struct {
		code codes.Code
		says string
		want core.ErrorKind
	}{
		"UNAVAILABLE":        {codes.Unavailable, "my own upstream is down", core.Unavailable},
		"CANCELLED":          {codes.Canceled, "I have let go", core.Unavailable},
		"RESOURCE_EXHAUSTED": {codes.ResourceExhausted, "no room", core.ProviderFailed},
		"UNAUTHENTICATED":    {codes.Unauthenticated, "no key", core.ProviderFailed},
		"DEADLINE_EXCEEDED":  {codes.DeadlineExceeded, "too slow", core.DeadlineExceeded},
	} {
		fail := status.Error(c.code, c.says)
		a := &actor{
			answer: func(*wire.Text) (*wire.Event, error) { return nil, fail },
			stream: func(grpc.ServerStreamingServer[wire.Event]) error { return fail },
			before: func(*wire.Text) (*wire.Verdict, error) { return nil, fail },
		}
		b := newBench(t, atAddress(a.serve(t)))
		p, s := b.provider("odd"), b.start("stage").(stage)
		streamed, backed := request("x"), request("x")
		streamed.OnDelta = func(string) error { return nil }
		backed.Backed = true
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		for way, err := range map[string]func() error{
			"answer": func() error { _, err := p.Translate(ctx, request("x")); return err },
			"stream": func() error { _, err := p.Translate(ctx, streamed); return err },
			"backed": func() error { _, err := p.Translate(ctx, backed); return err },
			"stage":  func() error { _, err := s.Before(ctx, request("x")); return err },
		} {
			began := time.Now()
			e := core.AsError(err(), "")
			if e == nil || e.Kind != c.want || !e.Retryable || e.RetryAfter != 0 || !strings.Contains(e.Error(), c.says) {
				t.Errorf("%s, %s: %+v", name, way, e)
			}
			if waited := time.Since(began); waited > moment/2 {
				t.Errorf("%s, %s: it waited %v", name, way, waited)
			}
		}
		cancel()
		if n := a.answered.Load(); n != 3 {
			t.Errorf("%s: it was asked %d times by 3 calls", name, n)
		}
		if n := p.again.Load() + s.again.Load(); n != 0 {
			t.Errorf("%s: %d calls were made again", name, n)
		}
		if st := b.host.Status()[0]; st.State != Ready || st.Restarts != 0 {
			t.Errorf("%s: %+v", name, st)
		}
		b.unsaid("died")
		b.unsaid("connection to the plugin")
	}
}

// TestAStreamThatIsRefusedIsNoDeath has something between that answers in the
// plugin's place: gRPC makes the same statuses of it by itself.
func TestAStreamThatIsRefusedIsNoDeath(t *testing.T) {
	for name, refuse := range map[string]http.HandlerFunc{
		"503":   func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) },
		"reset": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		a := &actor{}
		g := grpc.NewServer()
		wire.RegisterPluginServer(g, a)
		dir, err := os.MkdirTemp("", "at")
		if err != nil {
			t.Fatal(err)
		}
		l, err := net.Listen("unix", filepath.Join(dir, "s"))
		if err != nil {
			t.Fatal(err)
		}
		between := &http.Server{Protocols: new(http.Protocols), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "/Answer") {
				refuse(w, r)
				return
			}
			g.ServeHTTP(w, r)
		})}
		between.Protocols.SetUnencryptedHTTP2(true)
		served := make(chan struct{})
		go func() { defer close(served); between.Serve(l) }()
		t.Cleanup(func() { between.Close(); <-served; g.Stop(); os.RemoveAll(dir) })
		b := newBench(t, atAddress("unix:"+l.Addr().String()))
		p := b.provider("odd")
		began := time.Now()
		_, err = p.Translate(t.Context(), request("x"))
		if e := core.AsError(err, ""); e == nil || time.Since(began) > moment/2 || p.again.Load() != 0 {
			t.Errorf("%s: after %v, made again %d times: %v", name, time.Since(began), p.again.Load(), err)
		}
		if st := b.host.Status()[0]; st.State != Ready || st.Restarts != 0 {
			t.Errorf("%s: %+v", name, st)
		}
		b.unsaid("connection to the plugin")
	}
}

func TestAConnectionThatBreaksIsMadeAgainAndNobodyHasDied(t *testing.T) {
	dir, err := os.MkdirTemp("", "at")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	at := filepath.Join(dir, "s")
	serve := func(answer func(*wire.Text) (*wire.Event, error)) (*actor, func()) {
		os.Remove(at)
		l, err := net.Listen("unix", at)
		if err != nil {
			t.Fatal(err)
		}
		a := &actor{answer: answer}
		g := grpc.NewServer()
		wire.RegisterPluginServer(g, a)
		wire.RegisterProviderServer(g, a)
		served := make(chan struct{})
		go func() { defer close(served); g.Serve(l) }()
		return a, func() { g.Stop(); <-served }
	}
	inside, out := make(chan struct{}), make(chan struct{})
	_, stop := serve(func(*wire.Text) (*wire.Event, error) { close(inside); <-out; return nil, nil })
	b := newBench(t, "\nproviders:\n  odd: {type: plugin, address: 'unix:"+at+"'}\nstages: [provider: {use: odd}]\n")
	p := b.provider("odd")
	type answer struct {
		*core.Result
		error
	}
	answered := make(chan answer, 1)
	go func() { res, err := p.Translate(t.Context(), request("x")); answered <- answer{res, err} }()
	receive(t, inside)
	stopped := make(chan struct{})
	go func() { defer close(stopped); stop() }() // it waits for its handler
	b.logged("the connection to the plugin is lost and made again")
	close(out)
	receive(t, stopped)
	again, end := serve(func(t *wire.Text) (*wire.Event, error) {
		return &wire.Event{What: &wire.Event_Result{Result: &wire.Result{Text: "es:" + t.GetText()}}}, nil
	})
	defer end()
	// The call is made again when the other is there in time, and fails at most.
	if a := receive(t, answered); a.error != nil && core.KindOf(a.error) != core.Unavailable || a.error == nil && a.Text != "es:x" {
		t.Errorf("%+v", a)
	}
	p.process().becomes(t, Ready)
	if res := p.ask(t, "y"); res.Text != "es:y" || again.configured.Load() != 1 {
		t.Errorf("%+v, configured %d times", res, again.configured.Load())
	}
	b.unsaid("died")
}

func TestAPluginThatSaysThatItIsUnwellIsNotKilled(t *testing.T) {
	var sick atomic.Bool
	sick.Store(true)
	a := &actor{health: func() error {
		if sick.Load() {
			return status.Error(codes.Unavailable, "I am loading my model")
		}
		return nil
	}}
	b := newBench(t, atAddress(a.serve(t)))
	p := b.provider("odd")
	p.process().becomes(t, Degraded)
	for a.asked.Load() <= healthMisses+1 { // it is asked every second
		time.Sleep(10 * time.Millisecond)
	}
	sick.Store(false)
	p.process().becomes(t, Ready)
	if st := b.host.Status()[0]; st.Restarts != 0 || a.configured.Load() != 1 {
		t.Errorf("%+v, configured %d times", st, a.configured.Load())
	}
	if n := b.logs.FilterMessageSnippet("answers that it is not well").Len(); n != 1 {
		t.Errorf("that it is unwell was logged %d times", n)
	}
}

func TestAPluginThatNeedsMoreThanMaxMemoryIsGivenUpWithTheReason(t *testing.T) {
	if memory(os.Getpid()) == 0 {
		t.Skip("not tested: nobody knows the memory of a process here")
	}
	b := newBench(t, strings.Replace(one, "[SELF]", "[SELF], max_memory: 1MiB", 1))
	p := b.provider("odd")
	p.process().becomes(t, Failed)
	if st := b.host.Status()[0]; st.Restarts > 3 {
		t.Errorf("it was started %d times again", st.Restarts)
	}
	_, err := p.Translate(t.Context(), request("x"))
	e := core.AsError(err, "")
	if e == nil || e.Kind != core.Unavailable || e.Retryable || !strings.Contains(err.Error(), "MiB of memory before its first call, and max_memory is 1MiB; raise max_memory") {
		t.Errorf("got %v", err)
	}
	b.logged("is given up")
	b.unsaid("died")
}

func TestMemoryThatGrowsSlowlyIsNoReasonToGiveUp(t *testing.T) {
	var d deaths
	now := time.Now()
	for n := range 100 {
		now = now.Add(deathWindow / (maxDeaths - 2))
		if !d.add(now, 1, false) {
			t.Fatalf("given up after %d restarts that are far apart", n+1)
		}
		if !d.add(now, 1, true) {
			t.Fatal("given up after a restart of one that had served for long")
		}
	}
	soon := overweight{called: true}
	if w := soon.weight(time.Second); w != 1 {
		t.Errorf("one that grew in its calls weighs %d", w)
	}
	if w := (overweight{}).weight(time.Second); w != idleWeight {
		t.Errorf("one that was never called weighs %d", w)
	}
	if w := (overweight{}).weight(grown); w != 1 {
		t.Errorf("one that was well for long weighs %d", w)
	}
}

// What has no After need not see the answer, so its pieces pass as they come.
func TestDeltasPassAStageThatSaysThatItHasNoAfter(t *testing.T) {
	for _, after := range []bool{false, true} {
		a := &actor{
			describe: func(d *wire.Description) { d.Parts[1].After = after },
			before: func(text *wire.Text) (*wire.Verdict, error) {
				text.Text += " changed"
				return &wire.Verdict{What: &wire.Verdict_Request{Request: text}}, nil
			},
			after: func(d *wire.Done) (*wire.Reply, error) {
				return &wire.Reply{What: &wire.Reply_Result{Result: d.GetResult()}}, nil
			},
		}
		s := newBench(t, atAddress(a.serve(t))).start("stage").(stage)
		pieces := core.TranslatorFunc(func(_ context.Context, req *core.Request) (*core.Result, error) {
			if req.OnDelta != nil {
				for word := range strings.FieldsSeq(req.Text) {
					if err := req.OnDelta(word); err != nil {
						return nil, err
					}
				}
			}
			return &core.Result{Text: req.Text}, nil
		})
		linked, err := chain.Link([]chain.Place{{Name: "s", Item: s}, {Name: "provider", Item: only{}}},
			func(string) (core.Provider, bool) { return core.Provider{Name: "p", Translator: pieces}, true }, &chain.Watch{})
		if err != nil {
			t.Fatal(err)
		}
		var said []string
		res, err := linked.Translate(t.Context(), &core.Request{Text: "one", Target: "es", OnDelta: func(s string) error { said = append(said, s); return nil }})
		if err != nil || res.Text != "one changed" {
			t.Fatalf("after %v: %+v, %v", after, res, err)
		}
		if want := map[bool]string{false: "one|changed", true: ""}[after]; strings.Join(said, "|") != want {
			t.Errorf("after %v: got the deltas %q, want %q", after, said, want)
		}
	}
}

// only calls the provider p, once.
type only struct{}

func (only) Call(below core.Below) (core.Translator, error) {
	p, _ := below.Provider("p")
	return below.Around(p), nil
}

func TestWhatAPluginSaysBesideItsTextsIsBounded(t *testing.T) {
	flags := make([]string, 100_000)
	for i := range flags {
		flags[i] = fmt.Sprintf("flag-%d", i)
	}
	odd := []string{"rough", "", "Upper", "with blank", "line\nbreak", strings.Repeat("x", wire.MaxFlag+1), "ok.1:2_3"}
	limit := &wire.Limit{Limit: 1 << 62, Remaining: 1 << 62, Reset_: &durationpb.Duration{Seconds: 1 << 38}}
	var result *wire.Result
	event := func() *wire.Event {
		return &wire.Event{What: &wire.Event_Result{Result: result}, Limits: &wire.Limits{Requests: limit, Tokens: limit}}
	}
	a := &actor{
		answer: func(*wire.Text) (*wire.Event, error) { return event(), nil },
		stream: func(out grpc.ServerStreamingServer[wire.Event]) error { return out.Send(event()) },
		after: func(*wire.Done) (*wire.Reply, error) {
			return &wire.Reply{What: &wire.Reply_Result{Result: result}}, nil
		},
		before: func(*wire.Text) (*wire.Verdict, error) {
			return &wire.Verdict{What: &wire.Verdict_Result{Result: result}}, nil
		},
	}
	b := newBench(t, atAddress(a.serve(t)))
	p, s := b.provider("odd"), b.start("stage").(stage)
	for _, r := range []*wire.Result{
		{Text: "t", Flags: flags, Model: strings.Repeat("m", 1<<20), Usage: &wire.Usage{PromptTokens: 1 << 62, CompletionTokens: 1 << 62, CachedTokens: 1 << 62}},
		{Text: "t", Flags: odd, Model: "a\nb\x1b[31m\u202e", Usage: &wire.Usage{PromptTokens: -1 << 62, CompletionTokens: -1, CachedTokens: 7}},
	} {
		result = r
		streamed := request("x")
		streamed.OnDelta = func(string) error { return nil }
		plain := request("x")
		for way, ask := range map[string]func() (*core.Result, error){
			"answer": func() (*core.Result, error) { return p.Translate(t.Context(), plain) },
			"stream": func() (*core.Result, error) { return p.Translate(t.Context(), streamed) },
			"before": func() (*core.Result, error) { v, err := s.Before(t.Context(), plain); return v.Result, err },
			"after":  func() (*core.Result, error) { return s.After(t.Context(), plain, &core.Result{Text: "t"}, []byte{}) },
		} {
			res, err := ask()
			if err != nil || res.Text != "t" {
				t.Fatalf("%s: %+v, %v", way, res, err)
			}
			if len(res.Flags) > wire.MaxFlags || len(res.Model) > wire.MaxName || strings.ContainsAny(strings.Join(res.Flags, "")+res.Model, "\n\x1b \u202e") {
				t.Errorf("%s: %d flags, model %.50q", way, len(res.Flags), res.Model)
			}
			if u := res.Usage; u.PromptTokens < 0 || u.CompletionTokens < 0 || u.CachedTokens > u.PromptTokens || u.PromptTokens+u.CompletionTokens > 3*ownTokens {
				t.Errorf("%s: usage %+v", way, u)
			}
			if l := res.Limits; l != nil && (l.Tokens.Limit > 1_000_000_000 || l.Tokens.Remaining > l.Tokens.Limit || l.Requests.Reset > 24*time.Hour) {
				t.Errorf("%s: limits %+v", way, l)
			} else if l == nil && (way == "answer" || way == "stream") {
				t.Errorf("%s: no limits", way)
			}
		}
	}
	if n := b.logs.FilterMessageSnippet("not all is taken").Len(); n != 1 {
		t.Errorf("what is left out was told %d times", n)
	}
}

func TestAPluginThatIsRefusedIsAFailureOfItsOwnAndNotTheClients(t *testing.T) {
	b := newBench(t, one)
	p := b.provider("odd")
	a := &actor{before: func(text *wire.Text) (*wire.Verdict, error) {
		return &wire.Verdict{What: &wire.Verdict_Error{Error: &wire.Error{Kind: text.GetText(), Field: "text", Detail: "the account 4711 may not"}}}, nil
	}}
	s := newBench(t, atAddress(a.serve(t))).start("stage").(stage)
	for _, kind := range []core.ErrorKind{core.Unauthorized, core.Forbidden, core.NotFound} {
		_, provider := p.Translate(t.Context(), request("kind "+string(kind)))
		_, stage := s.Before(t.Context(), request(string(kind)))
		for from, err := range map[string]error{"provider": provider, "stage": stage} {
			e := core.AsError(err, "")
			if e == nil || e.Kind != core.ProviderFailed || e.Field != "" || strings.Contains(e.Detail, "4711") {
				t.Errorf("%s, %s: got %+v", from, kind, e)
			} else if !strings.Contains(e.Error(), string(kind)) || !strings.Contains(e.Error(), "4711") {
				t.Errorf("%s, %s: its log does not say why: %v", from, kind, e)
			}
		}
	}
	if n := b.logs.FilterMessageSnippet("says that it is refused").Len(); n != 1 {
		t.Errorf("it was said %d times", n)
	}
	p.ask(t, "x")
	p.Translate(t.Context(), request("kind unauthorized"))
	if n := b.logs.FilterMessageSnippet("says that it is refused").Len(); n != 2 {
		t.Errorf("after an answer it was said %d times", n)
	}
}

func TestNoTextIsInWhatAPluginsErrorSays(t *testing.T) {
	const text = "patient John Smith has Creutzfeldt-Jakob, room 7"
	a := &actor{
		answer: func(t *wire.Text) (*wire.Event, error) {
			return nil, status.Errorf(codes.Internal, "cannot do %q", t.GetText())
		},
		after: func(d *wire.Done) (*wire.Reply, error) {
			return &wire.Reply{What: &wire.Reply_Error{Error: &wire.Error{Kind: "bad_answer", Detail: "not good: " + d.GetResult().GetText(), Cause: d.GetText().GetContext()[0].GetTarget()}}}, nil
		},
	}
	b := newBench(t, atAddress(a.serve(t)))
	p, s := b.provider("odd"), b.start("stage").(stage)
	own := newBench(t, one).provider("odd")
	said := request(text)
	said.Context = []core.Pair{{Source: "Where is Doctor Miller?", Target: "¿Dónde está el doctor Miller?"}}
	_, failed := p.Translate(t.Context(), said)
	_, after := s.After(t.Context(), said, &core.Result{Text: "el paciente Juan Herrero, habitación siete"}, []byte{})
	_, quoted := own.Translate(t.Context(), request("quote "+text))
	for name, err := range map[string]error{"a status": failed, "an error of After": after, "an error of a provider": quoted} {
		if err == nil {
			t.Fatalf("%s: there is none", name)
		}
		for _, secret := range []string{"John", "Smith", "Creutzfeldt", "Miller", "Herrero"} {
			if strings.Contains(err.Error(), secret) || strings.Contains(fmt.Sprintf("%+v", *core.AsError(err, "")), secret) {
				t.Errorf("%s holds %s: %v", name, secret, err)
			}
		}
		if !strings.Contains(err.Error(), inPlace) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWhatIsQuotedIsCutOutAndNothingElse(t *testing.T) {
	for _, c := range []struct{ message, text, want string }{
		{"the model is loading", "The weather is fine today.", "the model is loading"},
		{`invalid content: "The weather is fine today."`, "The weather is fine today.", `invalid content: "[text]."`},
		{"near: WEATHER\\nis fine", "The weather is fine today.", "near: WEATHER\\nis fine"},
		{"near: the  Weather, is-FINE", "The weather is fine today.", "near: [text]"},
		{"bad term 'Smith' there", "Ask John Smith about it.", "bad term '[text]' there"},
		{"it says Yes to all yesterdays", "yes", "it says [text] to all yesterdays"},
		{"内容违规:今天天气很好", "今天天气很好。", "内容违规:[text]"},
		{"part of 我们今天天气很好 is bad", "听说今天天气很好。", "part of 我们[text] is bad"},
		{"", "x", ""},
		{"a b c", "a", "a b c"},
	} {
		if got := without(c.message, []string{c.text}); got != c.want {
			t.Errorf("%q of %q: got %q, want %q", c.message, c.text, got, c.want)
		}
	}
}

// TestAQuoteLeavesNoTrace puts a piece of a text into a message.
func TestAQuoteLeavesNoTrace(t *testing.T) {
	words := []string{"patient", "John", "Smith", "7", "está", "天气", "très", "of", "room", "Straße", "x-ray", "\"", "\n", "İstanbul"}
	rapid.Check(t, func(t *rapid.T) {
		text := strings.Join(rapid.SliceOfN(rapid.SampledFrom(words), 4, 40).Draw(t, "words"), " ")
		runes := []rune(text)
		from := rapid.IntRange(0, len(runes)-1).Draw(t, "from")
		to := rapid.IntRange(from+1, len(runes)).Draw(t, "to")
		piece := string(runes[from:to])
		message := "upstream 400: »" + rapid.SampledFrom([]string{piece, strings.ToUpper(piece), strings.ReplaceAll(piece, " ", "  ")}).Draw(t, "as") + "« ###"
		got := without(message, []string{text})
		if left := bare(got).letters; len(bare(piece).letters) >= quoteLength && strings.Contains(left, bare(piece).letters[:quoteLength]) {
			t.Fatalf("%q of %q: %q", message, text, got)
		}
		if !strings.HasPrefix(got, "upstream 400: »") || !strings.HasSuffix(got, "« ###") {
			t.Fatalf("%q became %q", message, got)
		}
	})
}

func FuzzWithout(f *testing.F) {
	f.Add("invalid: The weather", "The weather is fine")
	f.Add("İ\xff", "i̇")
	f.Fuzz(func(t *testing.T, message, text string) {
		got := without(message, []string{text})
		if !strings.Contains(got, inPlace) && got != message {
			t.Errorf("%q became %q, and nothing was cut", message, got)
		}
	})
}

func TestADescriptionIsBounded(t *testing.T) {
	many := make([]*wire.Languages, 50*wire.MaxSources)
	for i := range many {
		many[i] = &wire.Languages{}
	}
	wide := &wire.Languages{Source: "en", Targets: make([]string, wire.MaxPairs+1)}
	complaints := make([]*wire.ConfigError, 10_000)
	for i := range complaints {
		complaints[i] = &wire.ConfigError{Field: "f", Detail: fmt.Sprintf("wrong %d %s", i, strings.Repeat("x", 500))}
	}
	for name, c := range map[string]struct {
		actor *actor
		want  string
	}{
		"parts":      {&actor{describe: func(d *wire.Description) { d.Parts = make([]*wire.Part, 1000) }}, "describes 1000 parts, and 8 are the most"},
		"schema":     {&actor{describe: func(d *wire.Description) { d.Parts[0].ConfigSchema = make([]byte, wire.MaxSchema+1) }}, "the schema of its configuration has"},
		"languages":  {&actor{configure: func() (*wire.ConfigReply, error) { return &wire.ConfigReply{Languages: many}, nil }}, "100000 languages"},
		"pairs":      {&actor{configure: func() (*wire.ConfigReply, error) { return &wire.ConfigReply{Languages: []*wire.Languages{wide}}, nil }}, "200001 pairs"},
		"complaints": {&actor{configure: func() (*wire.ConfigReply, error) { return &wire.ConfigReply{Errors: complaints}, nil }}, "wrong 31 "},
	} {
		b := newBench(t, atAddress(c.actor.serve(t)))
		began := time.Now()
		err := b.build("odd").(core.Starter).Start(t.Context())
		if err == nil || !strings.Contains(err.Error(), c.want) || len(err.Error()) > 64<<10 {
			t.Errorf("%s: %.300v", name, err)
		}
		t.Logf("%s: %v", name, time.Since(began).Round(time.Millisecond))
	}
	loud := &actor{describe: func(d *wire.Description) {
		d.Name, d.Version = strings.Repeat("n", 1<<20), "1\n\x1b[2J"+strings.Repeat("v", 1<<20)
	}}
	b := newBench(t, atAddress(loud.serve(t)))
	b.provider("odd")
	line := b.logged("the plugin serves").ContextMap()
	if n, v := line["name"].(string), line["version"].(string); len(n) != wire.MaxName || len(v) > wire.MaxName || strings.ContainsAny(v, "\n\x1b") {
		t.Errorf("%d, %q", len(n), v)
	}
	if v := b.host.Status()[0].Version; len(v) > wire.MaxName {
		t.Errorf("a version of %d bytes is shown", len(v))
	}
}

func TestPiecesThatSayNothingComeToAnEnd(t *testing.T) {
	a := &actor{stream: func(out grpc.ServerStreamingServer[wire.Event]) error {
		for {
			if err := out.Send(&wire.Event{What: &wire.Event_Delta{}}); err != nil {
				return err
			}
		}
	}}
	p := newBench(t, atAddress(a.serve(t))).provider("odd")
	req := request("x")
	req.OnDelta = func(string) error { t.Error("nothing was passed on"); return nil }
	if _, err := p.Translate(t.Context(), req); core.KindOf(err) != core.ProviderFailed || !strings.Contains(err.Error(), "pieces") {
		t.Errorf("got %v", err)
	}
}

func TestHeadersAreBounded(t *testing.T) {
	a := &actor{answer: func(*wire.Text) (*wire.Event, error) {
		return nil, status.Error(codes.Internal, strings.Repeat("x", 1<<20))
	}}
	p := newBench(t, atAddress(a.serve(t))).provider("odd")
	if _, err := p.Translate(t.Context(), request("x")); core.AsError(err, "") == nil || len(err.Error()) > 1000 {
		t.Errorf("got %.300v", err)
	}
}

func TestAPluginTriedByCheckIsConfiguredAndLetGo(t *testing.T) {
	for name, c := range map[string]struct{ keys, want string }{
		"good":    {"", ""},
		"refused": {", config: {prefix: 'no'}", ": providers.odd.config.prefix: must not say no"},
		"dies":    {", env: {DRAGOMAN_TEST_DIES: 'yes'}", "cannot find my model"},
	} {
		b := newBench(t, strings.Replace(one, "[SELF]", "[SELF]"+c.keys, 1))
		b.host.SetMode(Try)
		p := b.build("odd").(provider)
		err := p.Start(t.Context())
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v", name, err)
		}
		if p.process() != nil || len(b.host.Status()) != 0 {
			t.Errorf("%s: it was kept", name)
		}
	}
	// What serves others goes on, and forgets what was tried.
	a := &actor{}
	b := newBench(t, atAddress(a.serve(t)))
	b.host.SetMode(Try)
	if err := b.build("stage").(core.Starter).Start(t.Context()); err != nil || a.configured.Load() != 1 || a.released.Load() != 1 {
		t.Errorf("%v: configured %d times, released %d times", err, a.configured.Load(), a.released.Load())
	}
	refusing := &actor{configure: func() (*wire.ConfigReply, error) {
		return &wire.ConfigReply{Errors: []*wire.ConfigError{{Detail: "no such place"}}}, nil
	}}
	b = newBench(t, atAddress(refusing.serve(t)))
	b.host.SetMode(Try)
	if err := b.build("stage").(core.Starter).Start(t.Context()); err == nil || !strings.Contains(err.Error(), "no such place") || !strings.Contains(err.Error(), "pipeline.yaml:") {
		t.Errorf("a stage that refuses: %v", err)
	}
}

func TestOnlyTheGatewayCanCallAPlugin(t *testing.T) {
	b := newBench(t, one)
	p := b.provider("odd")
	address := p.process().current.link.address
	other, err := wire.NewSecret()
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	for name, options := range map[string][]grpc.DialOption{"without a secret": nil, "with another": other.Dial()} {
		conn, err := grpc.NewClient("unix:"+address, append(options, grpc.WithTransportCredentials(insecure.NewCredentials()))...)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_, describe := wire.NewPluginClient(conn).Describe(t.Context(), &wire.DescribeRequest{})
		_, answer := wire.NewProviderClient(conn).Answer(t.Context(), &wire.Visit{Instance: p.id, Text: &wire.Text{Text: "x", Target: "es"}})
		stop := conn.Invoke(t.Context(), "/plugin.GRPCController/Shutdown", &wire.Released{}, &wire.Released{})
		stream, err := wire.NewProviderClient(conn).Translate(t.Context(), &wire.Call{Instance: p.id})
		if err == nil {
			_, err = stream.Recv()
		}
		for call, err := range map[string]error{"Describe": describe, "Answer": answer, "Shutdown": stop, "Translate": err} {
			if status.Code(err) != codes.Unauthenticated {
				t.Errorf("%s, %s: %v", call, name, err)
			}
		}
	}
	if p.ask(t, "x").Text != "es:x" {
		t.Error("the gateway cannot call it any more")
	}
	for _, kv := range strings.Split(p.ask(t, "environ").Text, "\n") {
		if strings.HasPrefix(kv, wire.SecretKey) {
			t.Errorf("it leaves %s to what it starts", kv)
		}
	}
}

func TestTheSweepTakesOnlyWhatAHostHasMade(t *testing.T) {
	dir, err := os.MkdirTemp("", "s")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	prefix := fmt.Sprintf("dragoman-%d-", os.Getuid())
	old := time.Now().Add(-time.Hour)
	make := func(name string, mode os.FileMode, files ...string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.Mkdir(path, 0o700); err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if err := os.WriteFile(filepath.Join(path, f), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		os.Chmod(path, mode)
		os.Chtimes(path, old, old)
		return path
	}
	for path, stays := range map[string]bool{
		make(prefix+"state", 0o700, "lock"):          true,
		make(prefix+"state-1", 0o700):                true,
		make(prefix+"12345678901", 0o700, "lock"):    true,
		make(prefix+"123x", 0o700, "lock"):           true,
		make("dragoman-99999-1", 0o700, "lock"):      true,
		make(prefix+"1", 0o755, "lock"):              true,
		make(prefix+"2", 0o700, "kept.yaml"):         true,
		make(prefix+"3", 0o700, "kept.yaml", "lock"): false,
		make(prefix+"4", 0o700):                      false,
		make(prefix+"5", 0o700, "lock~"):             false,
	} {
		s, err := newSockets(dir, zap.NewNop())
		if err != nil {
			t.Fatal(err)
		}
		s.close()
		if _, err := os.Stat(path); (err == nil) != stays {
			t.Errorf("%s stays: %v, want %v", filepath.Base(path), err == nil, stays)
		}
	}
	if err := os.Symlink(make("elsewhere", 0o700, "lock"), filepath.Join(dir, prefix+"7")); err != nil {
		t.Fatal(err)
	}
	s, err := newSockets(dir, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	s.close()
	if _, err := os.Stat(filepath.Join(dir, "elsewhere")); err != nil {
		t.Error("it follows links")
	}
}
