package chain_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/chain"
)

// mark is a stage that writes its name round the text on both ways.
type mark string

func (m mark) Wrap(next core.Translator) core.Translator {
	return core.TranslatorFunc(func(ctx context.Context, req *core.Request) (*core.Result, error) {
		r := *req
		r.Text = req.Text + ">" + string(m)
		res, err := next.Translate(ctx, &r)
		if err != nil {
			return nil, err
		}
		c := *res
		c.Text += "<" + string(m)
		return &c, nil
	})
}

// once is the smallest caller: one attempt with the provider "p".
type once struct{ gates []core.Guard }

func (o *once) Call(below core.Below) (core.Translator, error) {
	p, ok := below.Provider("p")
	if !ok {
		return nil, errors.New("no provider p")
	}
	o.gates = below.Gates
	return below.Around(p), nil
}

type gate struct{}

func (gate) Take(*core.Request, time.Time) (bool, time.Duration) { return true, 0 }
func (gate) Give(*core.Request, core.Outcome)                    {}

func provider(t core.TranslatorFunc) func(string) (core.Provider, bool) {
	return func(name string) (core.Provider, bool) {
		return core.Provider{Name: name, Translator: t, Fingerprint: "f1"}, name == "p"
	}
}

func echo(_ context.Context, req *core.Request) (*core.Result, error) {
	return &core.Result{Text: req.Text + "!"}, nil
}

func link(t testing.TB, below core.TranslatorFunc, places ...chain.Place) *chain.Chain {
	t.Helper()
	c, err := chain.Link(places, provider(below), &chain.Watch{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestTheListIsTheOrder(t *testing.T) {
	caller := &once{}
	c := link(t, echo,
		chain.Place{Name: "a", Item: mark("a")},
		chain.Place{Name: "g", Item: gate{}},
		chain.Place{Name: "b", Item: mark("b")},
		chain.Place{Name: "provider", Item: caller},
		chain.Place{Name: "c", Item: mark("c")},
		chain.Place{Name: "d", Item: mark("d")},
	)
	res, err := c.Translate(t.Context(), &core.Request{Text: "x"})
	if err != nil {
		t.Fatal(err)
	}
	// c is listed first, so it is innermost: it sees the answer before d does.
	if want := "x>a>b>d>c!<c<d<b<a"; res.Text != want {
		t.Errorf("got %q, want %q", res.Text, want)
	}
	if len(caller.gates) != 1 || caller.gates[0].Name != "g" {
		t.Errorf("gates handed to the caller: %v, want g alone", caller.gates)
	}
}

func TestLinkRefusesAChainThatCannotWork(t *testing.T) {
	p := chain.Place{Name: "provider", Item: &once{}}
	for name, c := range map[string]struct {
		places []chain.Place
		want   string
	}{
		"no caller":       {[]chain.Place{{Name: "a", Item: mark("a")}}, "no stage that calls a provider"},
		"two callers":     {[]chain.Place{p, {Name: "again", Item: &once{}}}, "calls providers already"},
		"gate below":      {[]chain.Place{p, {Name: "queue", Item: gate{}}}, `stands before "provider"`},
		"caller's own no": {[]chain.Place{{Name: "provider", Item: refusing{}}}, "no such provider"},
	} {
		_, err := chain.Link(c.places, provider(echo), &chain.Watch{})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q in it", name, err, c.want)
		}
	}
}

type refusing struct{}

func (refusing) Call(core.Below) (core.Translator, error) { return nil, errors.New("no such provider") }

func TestAPanicBecomesAnInternalErrorOfItsStage(t *testing.T) {
	c := link(t, func(context.Context, *core.Request) (*core.Result, error) { panic("boom") },
		chain.Place{Name: "a", Item: mark("a")}, chain.Place{Name: "provider", Item: &once{}})
	_, err := c.Translate(t.Context(), &core.Request{Text: "x"})
	e, ok := errors.AsType[*core.Error](err)
	if !ok || e.Kind != core.Internal || e.Stage != "p" || !strings.Contains(e.Cause.Error(), "boom") {
		t.Errorf("got %v", err)
	}
	if strings.Contains(e.Detail, "boom") {
		t.Errorf("the client is told %q", e.Detail)
	}
}

func TestNeitherResultNorErrorIsAnInternalError(t *testing.T) {
	c := link(t, func(context.Context, *core.Request) (*core.Result, error) { return nil, nil },
		chain.Place{Name: "provider", Item: &once{}})
	if res, err := c.Translate(t.Context(), &core.Request{Text: "x"}); res != nil || core.KindOf(err) != core.Internal {
		t.Errorf("got %v, %v", res, err)
	}
}

func TestErrorsAreCountedOnceWhereTheyArose(t *testing.T) {
	watch := &chain.Watch{}
	c, err := chain.Link([]chain.Place{{Name: "a", Item: mark("a")}, {Name: "provider", Item: &once{}}},
		provider(func(ctx context.Context, _ *core.Request) (*core.Result, error) {
			return nil, &core.Error{Kind: core.ProviderFailed}
		}), watch)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := c.Translate(t.Context(), &core.Request{Text: "x"}); core.KindOf(err) != core.ProviderFailed {
			t.Fatal(err)
		}
	}
	got := measures(watch)
	for metric, want := range map[string]float64{
		"stage_errors_total stage=providers/p kind=provider_failed": 3,
		"stage_passed_errors_total stage=providers/p":               0,
		"stage_passed_errors_total stage=provider":                  3,
		"stage_passed_errors_total stage=a":                         3,
		"stage_errors_total stage=a kind=provider_failed":           0,
		"stage_calls_total stage=a":                                 3,
		"stage_answers_total stage=a":                               0,
	} {
		if got[metric] != want {
			t.Errorf("%s = %v, want %v", metric, got[metric], want)
		}
	}
}

func measures(m core.Measurer) map[string]float64 {
	got := map[string]float64{}
	m.Measure(func(x core.Measure) {
		key := x.Name
		for i := 0; i < len(x.Labels); i += 2 {
			key += " " + x.Labels[i] + "=" + x.Labels[i+1]
		}
		got[key] = x.Value
	})
	return got
}

// answering answers by itself.
type answering struct{}

func (answering) Before(context.Context, *core.Request) (core.Verdict, error) {
	return core.Verdict{Result: &core.Result{Text: "mine"}}, nil
}
func (answering) After(context.Context, *core.Request, *core.Result, []byte) (*core.Result, error) {
	panic("After without an answer from below")
}

func TestAnAnswerWithoutGoingOnIsCounted(t *testing.T) {
	watch := &chain.Watch{}
	c, err := chain.Link([]chain.Place{{Name: "top", Item: mark("top")}, {Name: "short", Item: answering{}}, {Name: "provider", Item: &once{}}}, provider(echo), watch)
	if err != nil {
		t.Fatal(err)
	}
	res, err := c.Translate(t.Context(), &core.Request{Text: "x"})
	if err != nil || res.Text != "mine<top" {
		t.Fatal(res, err)
	}
	got := measures(watch)
	if got["stage_answers_total stage=short"] != 1 || got["stage_answers_total stage=top"] != 0 || got["stage_calls_total stage=provider"] != 0 {
		t.Error(got)
	}
}

// masking replaces the text and keeps what it was in its state.
type masking struct{}

func (masking) Before(_ context.Context, req *core.Request) (core.Verdict, error) {
	if req.Text == "huge" {
		return core.Verdict{State: make([]byte, 64<<10+1)}, nil
	}
	r := *req
	r.Text, r.Trace = "masked", nil
	return core.Verdict{Request: &r, State: []byte(req.Text)}, nil
}
func (masking) After(_ context.Context, req *core.Request, res *core.Result, state []byte) (*core.Result, error) {
	return &core.Result{Text: res.Text + " " + string(state) + " " + req.Text}, nil
}

func TestHooksHandTheirStateFromBeforeToAfter(t *testing.T) {
	c := link(t, echo, chain.Place{Name: "mask", Item: masking{}}, chain.Place{Name: "provider", Item: &once{}})
	res, err := c.Translate(t.Context(), &core.Request{Text: "secret", OnDelta: func(string) error { t.Error("a delta passed by After"); return nil }})
	if err != nil || res.Text != "masked! secret secret" {
		t.Errorf("got %v, %v", res, err)
	}
	if _, err := c.Translate(t.Context(), &core.Request{Text: "huge"}); core.KindOf(err) != core.Internal {
		t.Errorf("64 KiB and one byte of state: got %v", err)
	}
}

// replacing is hooks that make another answer of each, or reject it.
type replacing struct{}

func (replacing) Before(context.Context, *core.Request) (core.Verdict, error) {
	return core.Verdict{}, nil
}

func (replacing) After(_ context.Context, req *core.Request, _ *core.Result, _ []byte) (*core.Result, error) {
	if req.Text == "reject" {
		return nil, errors.New("no")
	}
	return &core.Result{Text: "another", Usage: core.Usage{PromptTokens: 99}}, nil
}

func TestWhatHooksMakeOfAnAnswerCostsWhatTheAnswerDid(t *testing.T) {
	usage, limits := core.Usage{PromptTokens: 5, CompletionTokens: 3}, &core.Limits{Tokens: core.Limit{Known: true, Limit: 100}}
	paid := func(context.Context, *core.Request) (*core.Result, error) {
		return &core.Result{Text: "x", Usage: usage, Limits: limits}, nil
	}
	c := link(t, paid, chain.Place{Name: "provider", Item: &once{}}, chain.Place{Name: "hooks", Item: replacing{}})
	res, err := c.Translate(t.Context(), &core.Request{Text: "x"})
	if err != nil || res.Text != "another" || res.Usage != usage || res.Limits != limits {
		t.Errorf("replaced: got %+v, %v", res, err)
	}
	_, err = c.Translate(t.Context(), &core.Request{Text: "reject"})
	if e, ok := errors.AsType[*core.Error](err); !ok || e.Stage != "hooks" || e.Usage != usage || e.Limits != limits {
		t.Errorf("rejected: got %+v", err)
	}
}

// streaming is hooks that say what becomes of deltas.
type streaming struct {
	replacing
	each func(string) (string, error)
	ok   bool
}

func (s streaming) Before(_ context.Context, req *core.Request) (core.Verdict, error) {
	// A request of its own, without OnDelta.
	return core.Verdict{Request: &core.Request{Text: req.Text + "+", Target: req.Target}, State: []byte("s")}, nil
}

func (s streaming) Deltas(_ *core.Request, state []byte) (func(string) (string, error), bool) {
	if string(state) != "s" {
		return nil, false
	}
	return s.each, s.ok
}

func TestHooksSayWhetherDeltasPassAndAsWhat(t *testing.T) {
	pieces := func(_ context.Context, req *core.Request) (*core.Result, error) {
		for _, piece := range []string{req.Text, "b", "c"} {
			if req.OnDelta == nil {
				break
			}
			if err := req.OnDelta(piece); err != nil {
				return nil, err
			}
		}
		return &core.Result{Text: "abc"}, nil
	}
	broken := errors.New("broken")
	for name, c := range map[string]struct {
		hooks core.Hooks
		want  string
		kind  core.ErrorKind
	}{
		"hooks that do not say":  {masking{}, "", ""},
		"held back":              {streaming{ok: false}, "", ""},
		"as they are":            {streaming{ok: true}, "a+|b|c", ""},
		"as others":              {streaming{ok: true, each: func(s string) (string, error) { return strings.ToUpper(s), nil }}, "A+|B|C", ""},
		"one is kept for later":  {streaming{ok: true, each: func(s string) (string, error) { return strings.Trim(s, "b"), nil }}, "a+|c", ""},
		"an error ends the call": {streaming{ok: true, each: func(s string) (string, error) { return s, broken }}, "", core.Internal},
	} {
		for _, places := range [][]chain.Place{
			{{Name: "hooks", Item: c.hooks}, {Name: "provider", Item: &once{}}},
			{{Name: "provider", Item: &once{}}, {Name: "hooks", Item: c.hooks}},
		} {
			var said []string
			_, err := link(t, pieces, places...).Translate(t.Context(), &core.Request{Text: "a", OnDelta: func(s string) error { said = append(said, s); return nil }})
			if got := strings.Join(said, "|"); got != c.want || core.KindOf(err) != c.kind {
				t.Errorf("%s: got deltas %q and %v, want %q", name, got, err, c.want)
			}
			if _, err := link(t, pieces, places...).Translate(t.Context(), &core.Request{Text: "a"}); err != nil {
				t.Errorf("%s: without deltas: %v", name, err)
			}
		}
	}
}

func TestTheFingerprintFollowsEverythingThatChangesAnAnswer(t *testing.T) {
	base := func() []chain.Place {
		return []chain.Place{{Name: "a", Item: mark("a"), Digest: "d1"}, {Name: "q", Item: gate{}, Digest: "g"}, {Name: "provider", Item: &once{}}, {Name: "post", Item: mark("z"), Digest: "d2"}}
	}
	of := func(change func([]chain.Place)) string {
		places := base()
		change(places)
		return link(t, echo, places...).Fingerprint()
	}
	same := of(func([]chain.Place) {})
	if same == "" || same != of(func([]chain.Place) {}) {
		t.Fatalf("not stable: %q", same)
	}
	if same != of(func(p []chain.Place) { p[1].Digest = "other" }) {
		t.Error("a gate changed it")
	}
	if same == of(func(p []chain.Place) { p[0].Digest = "other" }) {
		t.Error("a stage above did not change it")
	}
	if same == of(func(p []chain.Place) { p[3].Digest = "other" }) {
		t.Error("a stage after the provider did not change it")
	}
}

func TestTheTraceTellsSelfTimes(t *testing.T) {
	c := link(t, echo, chain.Place{Name: "a", Item: mark("a")}, chain.Place{Name: "provider", Item: &once{}}, chain.Place{Name: "post", Item: mark("p")})
	trace := core.NewTrace(nil)
	if _, err := c.Translate(t.Context(), &core.Request{Text: "x", Trace: trace}); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range trace.Spans() {
		if s.Self < 0 {
			t.Errorf("%s took %v", s.Name, s.Self)
		}
		names = append(names, s.Name)
	}
	if got := strings.Join(names, " "); got != "provider post a" {
		t.Errorf("spans %q", got)
	}
}

// nothing is a stage that does nothing, with nothing allocated.
type nothing struct{}

func (nothing) Wrap(next core.Translator) core.Translator { return &nothingLinked{next} }

type nothingLinked struct{ next core.Translator }

func (n *nothingLinked) Translate(ctx context.Context, req *core.Request) (*core.Result, error) {
	return n.next.Translate(ctx, req)
}

// BenchmarkNothing measures a stage that does nothing, linked and observed, as
// the difference that ten of them make.
func BenchmarkNothing(b *testing.B) {
	res := &core.Result{Text: "x"}
	bottom := func(context.Context, *core.Request) (*core.Result, error) { return res, nil }
	for _, n := range []int{0, 10} {
		b.Run(map[int]string{0: "none", 10: "ten"}[n], func(b *testing.B) {
			places := []chain.Place{}
			for range n {
				places = append(places, chain.Place{Name: "n", Item: nothing{}})
			}
			c := link(b, bottom, append(places, chain.Place{Name: "provider", Item: &once{}})...)
			req := &core.Request{Text: "x", Trace: core.NewTrace(nil)}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.Translate(b.Context(), req); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// oneWay sees no answer.
type oneWay struct{}

func (oneWay) Before(_ context.Context, req *core.Request) (core.Verdict, error) {
	changed := *req
	changed.Text += "!"
	return core.Verdict{Request: &changed, State: []byte("nobody's")}, nil
}

func TestAStageWithoutAnAfterLetsAnAnswerBeHeardWhileItComes(t *testing.T) {
	below := core.TranslatorFunc(func(_ context.Context, req *core.Request) (*core.Result, error) {
		for _, piece := range []string{"¡", req.Text} {
			if err := req.OnDelta(piece); err != nil {
				return nil, err
			}
		}
		return &core.Result{Text: "¡" + req.Text}, nil
	})
	var heard []string
	req := &core.Request{Text: "hi", OnDelta: func(text string) error { heard = append(heard, text); return nil }}
	res, err := link(t, below, chain.Place{Name: "above", Item: oneWay{}}, chain.Place{Name: "provider", Item: &once{}}).Translate(t.Context(), req)
	if err != nil || res.Text != "¡hi!" || len(heard) != 2 || heard[0]+heard[1] != res.Text {
		t.Errorf("%+v, %v, heard %q", res, err, heard)
	}
}
