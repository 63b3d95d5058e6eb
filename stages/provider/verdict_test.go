package provider

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/chain"
)

// takes answers after d, or fails as a provider does whose call has ended.
func takes(d time.Duration) answer { return plays("a", nil, d, nil) }

// hurried fails as a plugin does that was given a part of the request's time and
// needs more.
func hurried(part time.Duration) answer {
	return func(ctx context.Context, _ *core.Request) (*core.Result, error) {
		time.Sleep(part)
		return nil, &core.Error{Kind: core.DeadlineExceeded, Stage: "fake", Retryable: true, Own: true}
	}
}

func TestABreakerCountsOnlyWhatIsTheProvidersDoing(t *testing.T) {
	for _, c := range []struct {
		name   string
		main   answer
		limit  time.Duration // of each request
		opens  bool
		before []answer
	}{
		{"it fails", fails(core.ProviderFailed, never), time.Second, true, nil},
		{"it is away", fails(core.Unavailable, never), time.Second, true, nil},
		{"its own time-out", hangs(300 * ms), time.Second, true, nil},
		{"it refuses a text", fails(core.ProviderRefused, never), time.Second, false, nil},
		{"it finds a text too long", fails(core.TooLarge, never), time.Second, false, nil},
		{"it does not know the pair", fails(core.UnsupportedLanguage, never), time.Second, false, nil},
		{"a client's short deadline", takes(time.Second), 100 * ms, false, nil},
		{"a part of a client's short deadline", hurried(50 * ms), 100 * ms, false, nil},
		{"the same, of one that needs a little less", hurried(50 * ms), 100 * ms, false, []answer{takes(40 * ms)}},
		{"far more than it needs, of a longer one", hurried(time.Second), 2 * time.Second, true, []answer{takes(40 * ms)}},
		{"a clock that goes ahead of ours", func(ctx context.Context, _ *core.Request) (*core.Result, error) {
			until, _ := ctx.Deadline()
			time.Sleep(time.Until(until) - 5*ms)
			return nil, &core.Error{Kind: core.DeadlineExceeded, Stage: "fake", Retryable: true}
		}, 100 * ms, false, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(Config{Breaker: Breaker{Failures: 5, OpenFor: 10 * time.Second}}, append(c.before, c.main), []answer{well})
				for range c.before {
					b.ask(t.Context())
				}
				for range 5 {
					b.ask(ends(t, c.limit))
				}
				opened := 0.0
				b.stage.Measure(func(m core.Measure) {
					if m.Name == "provider_breaker_opened_total" && m.Labels[1] == "main" {
						opened = m.Value
					}
				})
				if opened > 0 != c.opens {
					t.Errorf("opened %v times: %s", opened, &b.diary)
				}
			})
		})
	}
}

// The call that tries whether a provider is back may belong to a client with
// little time. It says nothing then, and the next one tries.
func TestAProbeWithTooLittleTimeIsHandedOn(t *testing.T) {
	for _, short := range []answer{takes(300 * ms), hurried(50 * ms)} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(Config{Breaker: Breaker{Failures: 1, OpenFor: time.Second}}, []answer{fails(core.ProviderFailed, never), short, short, takes(300 * ms)})
			b.ask(t.Context())
			time.Sleep(time.Second)
			for range 2 {
				if _, err := b.ask(ends(t, 100*ms)); core.KindOf(asError(err)) != core.DeadlineExceeded {
					t.Error(err)
				}
			}
			if _, err := b.ask(ends(t, time.Second)); err != nil {
				t.Error(err)
			}
			if _, err := b.ask(ends(t, time.Second)); err != nil || b.fakes["main"].calls != 5 {
				t.Errorf("%v after %d calls: the breaker has not closed", err, b.fakes["main"].calls)
			}
		})
	}
}

// A knower is a provider that lists the pairs it translates.
type knower struct {
	*fake
	pairs []core.LanguageInfo
}

func (k knower) Languages() []core.LanguageInfo { return k.pairs }

func TestAPairThatAProviderDoesNotListFallsOver(t *testing.T) {
	esEn := []core.LanguageInfo{{Source: "es", Targets: []core.Language{"en", "ca"}}}
	enDe := []core.LanguageInfo{{Source: "en", Targets: []core.Language{"de"}}, {Source: "es", Targets: []core.Language{"en", "pt"}}}
	for _, c := range []struct {
		name           string
		source, target core.Language
		spare          []core.LanguageInfo
		want           string
		kind           core.ErrorKind
	}{
		{"listed", "es", "en", nil, "main#0", ""},
		{"with a region", "es-MX", "en-GB", nil, "main#0", ""},
		{"of an unknown language", "", "ca", nil, "main#0", ""},
		{"not listed", "en", "de", nil, "spare#0", ""},
		{"not in this direction", "en", "es", nil, "spare#0", ""},
		{"listed by the other", "en", "de", enDe, "spare#0", ""},
		{"listed by nobody", "fr", "de", enDe, "", core.UnsupportedLanguage},
	} {
		t.Run(c.name, func(t *testing.T) {
			var d diary
			main := knower{&fake{name: "main", diary: &d, answers: []answer{well}}, esEn}
			var spare core.Translator = &fake{name: "spare", diary: &d, answers: []answer{well}}
			if c.spare != nil {
				spare = knower{spare.(*fake), c.spare}
			}
			s := New(core.Env{}, Config{Use: core.Names{"main"}, Fallback: []string{"spare"}, Breaker: Breaker{Failures: 1, OpenFor: time.Second}})
			l, err := chain.Link([]chain.Place{{Name: "provider", Item: s}}, func(name string) (core.Provider, bool) {
				return core.Provider{Name: name, Translator: map[string]core.Translator{"main": main, "spare": spare}[name]}, true
			}, &chain.Watch{})
			if err != nil {
				t.Fatal(err)
			}
			for range 2 {
				_, err = l.Translate(t.Context(), &core.Request{Text: "x", Source: c.source, Target: c.target})
				if core.KindOf(err) != c.kind {
					t.Error(err)
				}
			}
			if want := strings.Trim(c.want+", "+c.want, ", "); d.String() != want {
				t.Errorf("asked %s, want %s", &d, want)
			}
			s.Measure(func(m core.Measure) {
				if m.Name == "provider_breaker_state" && m.Value != 0 {
					t.Errorf("a breaker has opened: %+v", m)
				}
			})
			languages := l.Languages()
			if c.spare == nil && languages != nil {
				t.Errorf("languages %v, though one translates any pair", languages)
			}
			if c.spare != nil {
				want := []core.LanguageInfo{{Source: "es", Targets: []core.Language{"en", "ca", "pt"}}, {Source: "en", Targets: []core.Language{"de"}}}
				if !slices.EqualFunc(languages, want, func(a, b core.LanguageInfo) bool { return a.Source == b.Source && slices.Equal(a.Targets, b.Targets) }) {
					t.Errorf("languages %v, want %v", languages, want)
				}
				if len(esEn[0].Targets) != 2 {
					t.Error("the provider's own list was changed")
				}
			}
		})
	}
}

// A key that an upstream does not take, and a model that it does not know, are
// for the operator to mend: he reads it in the log, and no client hears a word
// that is about his own key.
func TestAProvidersRefusalOfTheGatewayIsNotTheClients(t *testing.T) {
	for _, kind := range []core.ErrorKind{core.Unauthorized, core.Forbidden, core.NotFound} {
		t.Run(string(kind), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				seen, logs := observer.New(zap.InfoLevel)
				s := New(core.Env{Log: zap.New(seen)}, Config{Use: core.Names{"main"}, Retries: 1})
				calls := 0
				below := core.TranslatorFunc(func(context.Context, *core.Request) (*core.Result, error) {
					calls++
					return nil, &core.Error{Kind: kind, Field: "api_key", Detail: "key 7 has expired", Retryable: true, Cause: errors.New("the text: hello")}
				})
				l, err := chain.Link([]chain.Place{{Name: "provider", Item: s}}, func(name string) (core.Provider, bool) {
					return core.Provider{Name: name, Translator: below}, true
				}, &chain.Watch{})
				if err != nil {
					t.Fatal(err)
				}
				for range 3 {
					_, err := l.Translate(t.Context(), &core.Request{Text: "hello", Target: "es"})
					e := core.AsError(err, "")
					if e.Kind != core.ProviderFailed || e.Retryable || e.Field != "" || e.Stage != "main" || strings.Contains(e.Detail, "key 7") {
						t.Errorf("%#v", e)
					}
				}
				if calls != 3 {
					t.Errorf("%d calls for 3 requests: it is asked again for what stays", calls)
				}
				if n := logs.Len(); n != 1 {
					t.Fatalf("%d lines in the log", n)
				}
				line := logs.All()[0]
				if f := line.ContextMap(); f["provider"] != "main" || f["kind"] != string(kind) || f["detail"] != "key 7 has expired" {
					t.Errorf("logged %v", f)
				}
				time.Sleep(time.Minute)
				l.Translate(t.Context(), &core.Request{Text: "hello", Target: "es"})
				if n := logs.Len(); n != 2 {
					t.Errorf("%d lines in the log a minute later", n)
				}
			})
		})
	}
}

// While a hedge runs no third attempt is made, whatever the first failed with:
// two answers would meet in one preview.
func TestNoRetryBesideARunningHedge(t *testing.T) {
	for _, kind := range []core.ErrorKind{core.Overloaded, core.Internal, core.InvalidRequest, core.ProviderFailed} {
		t.Run(string(kind), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(Config{Retries: 3, Hedge: Hedge{After: "100ms"}}, []answer{
					plays("first", nil, 150*ms, &core.Error{Kind: kind, Retryable: true}),
					plays("hedge", []time.Duration{200 * ms, 50 * ms}, 300*ms, nil),
					plays("retry", nil, 250*ms, nil),
				})
				said := ""
				req := &core.Request{ID: "r", Text: "hello", Target: "es", Trace: core.NewTrace(nil), OnDelta: func(s string) error { said += s; return nil }}
				res, err := b.top.Translate(t.Context(), req)
				if err != nil || said != "hedge0 hedge1 " || res.Text != said+"hedge" || b.fakes["main"].calls != 2 {
					t.Errorf("heard %q, got %+v, %v; %s", said, res, err, &b.diary)
				}
				b.stage.Close()
				b.balanced(t)
			})
		})
	}
}
