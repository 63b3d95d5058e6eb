package provider

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/chain"
	"github.com/dragoman-mt/dragoman/core/line"
)

// An inn is a stage linked with fakes by name, below a gate that owns the line.
type inn struct {
	diary  diary
	stage  *Stage
	queue  slots
	fakes  map[string]*fake
	limits map[string]core.Allowance
	shares map[string]int // accounts of an entry, called NAME/1 and so on
	weight []int
	top    core.Translator
}

func newInn(t *testing.T, slotsFree int, cfg Config, fakes map[string][]answer, change ...func(*inn)) *inn {
	t.Helper()
	b := &inn{fakes: map[string]*fake{}, limits: map[string]core.Allowance{}, shares: map[string]int{}}
	var quiet diary
	b.queue = slots{gate{diary: &quiet, slots: slotsFree}, line.New(1000)}
	for name, answers := range fakes {
		b.fakes[name] = &fake{name: name, diary: &b.diary, answers: answers}
	}
	for _, c := range change {
		c(b)
	}
	if err := cfg.check(nil); err != nil {
		t.Fatal(err)
	}
	b.stage = New(core.Env{Name: "provider"}, cfg)
	if err := b.link(); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *inn) provider(name string) (core.Provider, bool) {
	if n := b.shares[name]; n > 0 {
		p := core.Provider{Name: name, Fingerprint: name, Limits: b.limits[name]}
		for i := 1; i <= n; i++ {
			place := fmt.Sprintf("%s/%d", name, i)
			share := core.Provider{Name: name, Fingerprint: name, Limits: b.limits[name], Share: i, Weight: 1, Account: place, Translator: b.fakes[place]}
			if b.weight != nil {
				share.Weight = b.weight[i-1]
			}
			p.Shares = append(p.Shares, share)
		}
		p.Translator = p.Shares[0].Translator
		return p, true
	}
	f, ok := b.fakes[name]
	return core.Provider{Name: name, Translator: f, Fingerprint: name, Limits: b.limits[name]}, ok
}

func (b *inn) link() error {
	linked, err := chain.Link([]chain.Place{{Name: "queue", Item: &b.queue}, {Name: "provider", Item: b.stage}}, b.provider, &chain.Watch{})
	b.top = linked
	return err
}

func (b *inn) ask(ctx context.Context, req core.Request) (*core.Result, *core.Error) {
	if req.Text == "" {
		req.Text = "hello"
	}
	if req.Target == "" {
		req.Target = "es"
	}
	req.Trace = core.NewTrace(nil)
	res, err := b.top.Translate(ctx, &req)
	return res, core.AsError(err, "test")
}

func (b *inn) calls(name string) int {
	f := b.fakes[name]
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls
}

// crowd asks n times at once, each with a deadline of its own, and returns how many
// ended with which kind of error; the empty one is none.
func (b *inn) crowd(t *testing.T, n int, deadline time.Duration) map[core.ErrorKind]int {
	var mu sync.Mutex
	ended := map[core.ErrorKind]int{}
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), deadline)
			defer cancel()
			_, err := b.ask(ctx, core.Request{Text: fmt.Sprint("text ", i)})
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				ended[err.Kind]++
			} else {
				ended[""]++
			}
		})
	}
	all.Wait()
	return ended
}

func lasts(d time.Duration, then answer) answer {
	return func(ctx context.Context, req *core.Request) (*core.Result, error) {
		select {
		case <-time.After(d):
			return then(ctx, req)
		case <-ctx.Done():
			return nil, core.ContextError(ctx, "fake")
		}
	}
}

func TestTheFirstRouteThatTakesARequestSaysWhoTranslatesIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newInn(t, 100, Config{Use: core.Names{"main"}, Fallback: []string{"spare"}, Routes: []Route{
			{Sources: []string{"en"}, Targets: []string{"de", "pt-BR", "zh-Hant"}, Use: core.Names{"deep"}},
			{Client: "captions", Use: core.Names{"fast"}},
			{Lane: "bulk", Targets: []string{"de"}, Use: core.Names{"slow"}, Private: true},
			{Lane: "bulk", Use: core.Names{"spare"}},
		}}, map[string][]answer{"main": {well}, "spare": {well}, "deep": {well}, "fast": {well}, "slow": {well}})
		for _, c := range []struct {
			req  core.Request
			want string
		}{
			{core.Request{Source: "en", Target: "de"}, "deep"},
			{core.Request{Source: "en-GB", Target: "de-AT"}, "deep"},
			{core.Request{Source: "en", Target: "pt-BR"}, "deep"},
			{core.Request{Source: "en", Target: "pt"}, "main"},
			{core.Request{Source: "en", Target: "pt-PT"}, "main"},
			{core.Request{Source: "en", Target: "zh-Hant-TW"}, "deep"},
			{core.Request{Source: "en", Target: "zh"}, "main"},
			{core.Request{Target: "de"}, "main"}, // of an unknown language
			{core.Request{Source: "fr", Target: "de"}, "main"},
			{core.Request{Source: "en", Target: "de", Client: "captions"}, "deep"},
			{core.Request{Target: "de", Client: "captions", Lane: core.LaneBulk}, "fast"},
			{core.Request{Target: "de", Lane: core.LaneBulk}, "slow"},
			{core.Request{Target: "es", Lane: core.LaneBulk}, "spare"},
			{core.Request{Target: "es", Lane: core.LanePartial}, "main"},
		} {
			res, err := b.ask(t.Context(), c.req)
			if err != nil || res.Provider != c.want || res.NoStore || len(res.Flags) > 0 {
				t.Errorf("%+v: %+v %v, want %s", c.req, res, err, c.want)
			}
		}
		routed := map[string]float64{}
		b.stage.Measure(func(m core.Measure) {
			if m.Name == "provider_routed_total" {
				routed[m.Labels[1]] = m.Value
			}
		})
		if fmt.Sprint(routed) != "map[routes[0]:5 routes[1]:1 routes[2]:1 routes[3]:1 use:6]" {
			t.Errorf("counted: %v", routed)
		}
	})
}

func TestAPrivateRouteAsksNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, private := range []bool{false, true} {
			b := newInn(t, 100, Config{Use: core.Names{"main"}, Fallback: []string{"spare"}, Routes: []Route{
				{Targets: []string{"de"}, Use: core.Names{"own", "own2"}, Private: private},
			}}, map[string][]answer{"main": {well}, "spare": {well}, "own": {fails(core.Unavailable)}, "own2": {fails(core.Unavailable)}})
			res, err := b.ask(ends(t, time.Second), core.Request{Target: "de"})
			if private != (err != nil) || private && (b.calls("main") != 0 || b.calls("spare") != 0 || err.Kind != core.Unavailable) {
				t.Errorf("private %v: %+v %v, happened: %v", private, res, err, &b.diary)
			}
			if b.calls("own") == 0 || b.calls("own2") == 0 {
				t.Errorf("private %v: happened: %v", private, &b.diary)
			}
		}
	})
}

// What is kept of one way is not found on another, unless the same providers answer
// there, whatever their order; and a private one shares with nobody.
func TestTheAnswersOfDifferentRoutesAreToldApart(t *testing.T) {
	fakes := map[string][]answer{"a": {well}, "b": {well}, "c": {well}}
	of := func(cfg Config) []string {
		b := newInn(t, 1, cfg, fakes)
		return b.top.(*chain.Chain).Routes()
	}
	single := of(Config{Use: core.Names{"a"}})
	routed := of(Config{Use: core.Names{"a"}, Fallback: []string{"c"}, Routes: []Route{
		{Targets: []string{"de"}, Use: core.Names{"b"}},
		{Targets: []string{"fr"}, Use: core.Names{"a"}},
		{Targets: []string{"it"}, Use: core.Names{"a"}, Private: true},
		{Targets: []string{"pl"}, Use: core.Names{"a", "b"}},
		{Targets: []string{"cs"}, Use: core.Names{"b", "a"}},
	}})
	if len(single) != 1 || len(routed) != 6 {
		t.Fatalf("%d and %d ways", len(single), len(routed))
	}
	de, fr, it, pl, cs, use := routed[0], routed[1], routed[2], routed[3], routed[4], routed[5]
	if use != single[0] || fr != use || cs != pl {
		t.Errorf("what is answered alike is told apart: %v, %v", single, routed)
	}
	if de == use || it == use || pl == use || pl == de || it == de {
		t.Errorf("what is answered in different ways is not told apart: %v", routed)
	}
}

func TestARouteThatCanNeverMatchIsComplainedOf(t *testing.T) {
	for want, routes := range map[string][]Route{
		"": {{Targets: []string{"de-AT"}}, {Targets: []string{"de"}}, {}},
		"routes[1]: can never match: routes[0] takes all":                        {{Targets: []string{"de"}}, {Targets: []string{"de-AT"}, Lane: "bulk", Client: "c"}},
		"routes[2]: can never match: routes[0] and routes[1] take":               {{Targets: []string{"de"}}, {Targets: []string{"fr"}}, {Targets: []string{"fr", "de"}}},
		"routes[3]: can never match: routes[0] and routes[1] and routes[2] take": {{Lane: "bulk"}, {Lane: "final"}, {Lane: "partial"}, {Targets: []string{"de"}}},
		"routes[1]: can never match: routes[0] takes":                            {{}, {Client: "c"}},
		"routes[0].targets[1]: \"xx-nowhere-at-all\" is not a language":          {{Targets: []string{"de", "xx-nowhere-at-all"}}},
	} {
		err := (&Config{Routes: routes}).check(nil)
		if got := strings.ReplaceAll(fmt.Sprint(err), "takes all that it would", "takes all"); want == "" && err != nil || want != "" && !strings.HasPrefix(strings.ReplaceAll(got, "] takes", "] take"), strings.ReplaceAll(want, "] takes", "] take")) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// Whatever the routes: one is said never to match just when there is no request that
// it takes and none before it does.
func TestRoutesAreRefusedJustWhenTheyNeverMatch(t *testing.T) {
	languages := []string{"de", "de-AT", "fr", "pt-BR"}
	rapid.Check(t, func(t *rapid.T) {
		some := rapid.SliceOfNDistinct(rapid.SampledFrom(languages), 0, 2, rapid.ID[string])
		var former []matcher
		for range rapid.IntRange(1, 5).Draw(t, "routes") {
			r := Route{Sources: some.Draw(t, "sources"), Targets: some.Draw(t, "targets"),
				Lane: rapid.SampledFrom([]string{"", "bulk", "final", "partial"}).Draw(t, "lane"), Client: rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "client")}
			m := r.matcher()
			reached := false
			for _, source := range append(languages, "", "ja") {
				for _, target := range append(languages, "ja") {
					for lane := range core.Lanes {
						for _, client := range []string{"a", "b", "other"} {
							req := &core.Request{Source: core.Language(source), Target: core.Language(target), Lane: lane, Client: client}
							taken := m.takes(req)
							for i := range former {
								taken = taken && !former[i].takes(req)
							}
							reached = reached || taken
						}
					}
				}
			}
			if covered := m.coveredBy(former) != nil; covered == reached {
				t.Fatalf("%+v after %+v: said to be covered: %v, is reached: %v", r, former, covered, reached)
			}
			former = append(former, m)
		}
	})
}

type knowing struct {
	fake
	languages []core.LanguageInfo
}

func (k *knowing) Languages() []core.LanguageInfo { return k.languages }

func TestARouteWhosePairNobodyTranslatesIsComplainedOf(t *testing.T) {
	limited := &knowing{fake{name: "limited", diary: &diary{}, answers: []answer{well}}, []core.LanguageInfo{{Source: "en", Targets: []core.Language{"es", "de"}}}}
	open := &fake{name: "open", diary: &diary{}, answers: []answer{well}}
	for _, c := range []struct {
		route    Route
		fallback []string
		want     string
	}{
		{Route{Targets: []string{"es", "fr"}}, nil, "routes[0].targets[1]: no provider that this route asks translates to fr"},
		{Route{Targets: []string{"es", "fr"}}, []string{"open"}, ""},
		{Route{Targets: []string{"es", "fr"}, Private: true}, []string{"open"}, "routes[0].targets[1]: no provider that this route asks translates to fr"},
		{Route{Sources: []string{"en", "fr"}}, nil, "routes[0].sources[1]: no provider that this route asks translates from fr"},
		{Route{Sources: []string{"en", "de"}, Targets: []string{"es"}}, nil, "routes[0].targets[0]: no provider that this route asks translates from de to es"},
		{Route{Sources: []string{"en-GB"}, Targets: []string{"de-AT"}}, nil, ""},
	} {
		c.route.Use = core.Names{"limited"}
		s := New(core.Env{}, Config{Use: core.Names{"open"}, Fallback: c.fallback, Routes: []Route{c.route}})
		if c.fallback != nil {
			s.cfg.Use = core.Names{"limited"}
		}
		_, err := s.Call(core.Below{
			Provider: func(name string) (core.Provider, bool) {
				p := core.Provider{Name: name, Translator: open}
				if name == "limited" {
					p.Translator = limited
				}
				return p, true
			},
			Around: func(p core.Provider) core.Translator { return p.Translator },
		})
		if got := fmt.Sprint(err); (c.want != "" || err != nil) && got != c.want {
			t.Errorf("%+v: got %s, want %s", c.route, got, c.want)
		}
	}
}
