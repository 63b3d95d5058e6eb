package protect

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/chain"
	"github.com/dragoman-mt/dragoman/core/coretest/property"
	apertium "github.com/dragoman-mt/dragoman/plugins/apertium/engine"
	"github.com/dragoman-mt/dragoman/stages/openai"
	"github.com/dragoman-mt/dragoman/stages/openai/openaitest"
	"github.com/dragoman-mt/dragoman/stages/postprocess"
	"github.com/dragoman-mt/dragoman/stages/provider"
)

var vocabulary = strings.Fields("the a file files message messages user was were deleted sent opened in to from of and with new old big please click here now press key page number there are not found open close save")

// atoms are placeholders of every kind that stand among words.
var atoms = []string{
	"%s", "%d", "%1$s", "%2$-5d", "%5.2f", "%@", "%(name)s", "%{count}", "{0}", "{name}", "{price:N2}", "{}", "{{count}}", "{{ user.name }}", "${x}", "#{y}", "$t(a.b)", "$NAME$",
	"@@PH1@@", "__name__", "https://example.com/a?b=c", "ann@example.com", "`make test`", "&nbsp;", "&amp;", "<br/>", "<0/>", `<span translate="no">Ann Lee</span>`, "{date, date, short}", "%%",
	"%1%", "$HOME", "$user->name", "{t('key')}", "{{ x | f:{a: 1} }}", "<%= n %>", "<@42>", "[[Main Page]]", "B<--all>", "\\fB\\-a\\fR", "$x<y$", "<https://x.org/a>", `<ph id="1">&lt;b&gt;</ph>`, "{1:d MMM yyyy}",
	"<x1/>", "XQ2X", "{% if x %}", "<img src='a.png'>", "www.example.org", "{n, plural, one {# file was sent} other {# files were sent}}",
}

// tags are pairs that stand round words, and round each other.
var tags = [][2]string{{"<b>", "</b>"}, {`<a href="/x?y=1">`, "</a>"}, {"<0>", "</0>"}, {"<em class='k'>", "</em>"}, {"<g id=\"1\">", "</g>"}, {"{{#if x}}", "{{/if}}"}, {"[b]", "[/b]"}}

// sentence is a text with placeholders, and what of it must come back.
func sentence(r *rand.Rand, depth int) (text string, kept []string) {
	var b strings.Builder
	for i := range 2 + r.IntN(8) {
		if i > 0 {
			b.WriteString(" ")
		}
		switch n := r.IntN(10); {
		case n < 6:
			b.WriteString(vocabulary[r.IntN(len(vocabulary))])
		case n < 9 || depth > 2:
			p := atoms[r.IntN(len(atoms))]
			b.WriteString(p)
			if strings.Contains(p, "plural") {
				kept = append(kept, "{n, plural, one {", "} other {")
			} else {
				kept = append(kept, p)
			}
		default:
			tag := tags[r.IntN(len(tags))]
			inner, more := sentence(r, depth+1)
			b.WriteString(tag[0] + inner + tag[1])
			kept = append(append(kept, tag[0], tag[1]), more...)
		}
	}
	if depth == 0 {
		b.WriteString(".")
	}
	return b.String(), kept
}

// damaged says what of kept is not in text as often as in source, or that tags are nested
// in another way.
func damaged(source, text string, kept []string) string {
	for _, k := range kept {
		if want, got := strings.Count(source, k), strings.Count(text, k); want != got {
			return fmt.Sprintf("%s stands there %d times, not %d", k, got, want)
		}
	}
	var open []string
	for i := range text {
		for _, tag := range tags {
			if strings.HasPrefix(text[i:], tag[0]) {
				open = append(open, tag[1])
			} else if strings.HasPrefix(text[i:], tag[1]) {
				if len(open) == 0 || open[len(open)-1] != tag[1] {
					return tag[1] + " ends what is not open"
				}
				open = open[:len(open)-1]
			}
		}
	}
	if len(open) > 0 {
		return open[0] + " is missing"
	}
	return ""
}

// an upstream is connections without a pool.
type upstream struct{ http.Transport }

func (*upstream) Warm(string) (func(), error) { return func() {}, nil }

// gateway links the real provider with the simulator, and what stands behind it.
func gateway(t *testing.T, sim *openaitest.Server) (core.Translator, *Stage) {
	t.Helper()
	connections := &upstream{http.Transport{MaxIdleConnsPerHost: 16}}
	t.Cleanup(connections.CloseIdleConnections)
	kind := openai.Kind()
	cfg := kind.Config().(*openai.Config)
	cfg.BaseURL, cfg.APIKey, cfg.Timeout = sim.URL(), "sk-test", time.Minute // a machine may be busy
	built, err := kind.Build(core.Env{Name: "openai", Log: zap.NewNop(), Upstream: connections}, cfg)
	if err != nil {
		t.Fatal(err)
	}
	stage, err := Kind().Build(core.Env{Name: "protect", Log: zap.NewNop()}, &Config{Patterns: []string{`__\w+?__`}})
	if err != nil {
		t.Fatal(err)
	}
	calls := provider.New(core.Env{Name: "provider", Log: zap.NewNop()}, provider.Config{Use: core.Names{"openai"}, Retries: 1})
	linked, err := chain.Link(
		[]chain.Place{{Name: "provider", Item: calls}, {Name: "postprocess", Item: postprocess.New("postprocess", postprocess.Config{Skip: []postprocess.Step{postprocess.Echo}})}, {Name: "protect", Item: stage}},
		func(name string) (core.Provider, bool) {
			return core.Provider{Name: name, Translator: built.(core.Translator)}, name == "openai"
		}, &chain.Watch{})
	if err != nil {
		t.Fatal(err)
	}
	return linked, stage.(*Stage)
}

// TestNoHabitOfAModelDamagesAPlaceholder sends generated texts with placeholders and tags
// of every kind to a model with each habit, and says what became of them.
func TestNoHabitOfAModelDamagesAPlaceholder(t *testing.T) {
	rounds := property.Rounds(10_000, 150)
	for _, habit := range []string{"", openaitest.ChatterDrop, openaitest.ChatterTranslate, openaitest.ChatterDouble, openaitest.ChatterReorder, openaitest.ChatterSpace, openaitest.ChatterPlaceholder} {
		t.Run(habit, func(t *testing.T) {
			cfg := openaitest.Config{Seed: 7}
			if habit != "" {
				cfg.Faults = map[string]float64{habit: 0.7}
			}
			sim, err := openaitest.Start(cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer sim.Close()
			linked, stage := gateway(t, sim)
			survive(t, linked, stage, rounds, "es", habit != "")
		})
	}
}

// survive sends rounds texts through c.
func survive(t *testing.T, c core.Translator, stage *Stage, rounds int, target core.Language, flags bool) {
	t.Helper()
	var mu sync.Mutex
	flagged, failed := 0, 0
	var all sync.WaitGroup
	for worker := range 8 {
		all.Go(func() {
			r := rand.New(rand.NewPCG(uint64(worker), 11))
			for range rounds / 8 {
				text, kept := sentence(r, 0)
				res, err := c.Translate(t.Context(), &core.Request{Text: text, Source: "en", Target: target, Final: true})
				mu.Lock()
				switch {
				case err != nil:
					failed++
					t.Errorf("%q: %v", text, err)
				case slices.Contains(res.Flags, core.FlagPlaceholderMoved):
					flagged++
					if !res.NoStore {
						t.Errorf("%q is stored: %+v", text, res)
					}
				}
				mu.Unlock()
				if err != nil {
					return
				}
				if why := damaged(text, res.Text, kept); why != "" {
					t.Errorf("%q\n came back as %q:\n %s", text, res.Text, why)
				}
			}
		})
	}
	all.Wait()
	if flagged > 0 && !flags {
		t.Errorf("%d answers of a model without that habit have lost placeholders", flagged)
	}
	n := func(outcome int) int64 { return stage.counts[outcome].Load() }
	t.Logf("%d texts: %d answers whole, %d repaired, %d asked for again or moved, %d texts moved; %d without words", rounds, n(whole), n(repaired), n(again), flagged, n(untouched))
}

// TestWhatProgramsWriteSurvivesEveryHabit sends texts of frameworks, wikis, chats and manual
// pages through all of them: what a program needs of each is there as often as it was.
func TestWhatProgramsWriteSurvivesEveryHabit(t *testing.T) {
	raw, err := os.ReadFile("../../core/text/protect/testdata/programs.txt")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(string(raw), "\n"), "\n")
	engines := map[string]openaitest.Config{"none": {}}
	for _, habit := range []string{openaitest.ChatterDrop, openaitest.ChatterTranslate, openaitest.ChatterDouble, openaitest.ChatterReorder, openaitest.ChatterSpace, openaitest.ChatterPlaceholder} {
		engines[habit] = openaitest.Config{Seed: 3, Faults: map[string]float64{habit: 0.8}}
	}
	if e, err := apertium.New(apertium.Options{}); err == nil {
		defer e.Close()
		engines["Apertium"] = openaitest.Config{Engine: e}
	}
	for name, cfg := range engines {
		t.Run(name, func(t *testing.T) {
			sim, err := openaitest.Start(cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer sim.Close()
			linked, _ := gateway(t, sim)
			for i := 0; i+1 < len(lines); i += 2 {
				text, kept := lines[i], strings.Split(strings.TrimPrefix(lines[i+1], "\t"), " ¦ ")
				res, err := linked.Translate(t.Context(), &core.Request{Text: text, Source: "en", Target: "es", Final: true})
				if err != nil {
					t.Errorf("%q: %v", text, err)
					continue
				}
				for _, k := range kept {
					if want, got := strings.Count(text, k), strings.Count(res.Text, k); want != got {
						t.Errorf("%q\n came back as %q:\n %s stands there %d times, not %d", text, res.Text, k, got, want)
					}
				}
				if name == "none" && len(res.Flags) > 0 {
					t.Errorf("%q came back as %q, flagged %v", text, res.Text, res.Flags)
				}
				t.Logf("%s\n%s %v", text, res.Text, res.Flags)
			}
		})
	}
}

// TestPlaceholdersSurviveApertium does the same with a real engine, when it is installed.
func TestPlaceholdersSurviveApertium(t *testing.T) {
	e, err := apertium.New(apertium.Options{})
	if err != nil {
		t.Skip(err)
	}
	defer e.Close()
	sim, err := openaitest.Start(openaitest.Config{Engine: e})
	if err != nil {
		t.Fatal(err)
	}
	defer sim.Close()
	linked, stage := gateway(t, sim)
	survive(t, linked, stage, property.Rounds(10_000, 120), "es", true)
}

// TestOrdinarySentencesPassUnmangled has percent signs, braces and angle brackets in prose.
func TestOrdinarySentencesPassUnmangled(t *testing.T) {
	signs := []string{
		"50 % of it", "50% of it", "about 5 % or 7%", "100%", "a < b", "b > a", "1 < 2 > 0", "a<=b", "x <- y", "if a <b and c> d", "{see below}", "{a, b, c}", "{1, 2, 3}", "{ and }", "I <3 you", "<< old >>",
		"it costs $5 and $ 7", "C# or F#", "#1", "R&D", "Q&A", "@ann", "3 @ 5", "at 12:30", "the %age", "20%-30%", "x->y", "(50 %)", "{", "}", "<", ">", "%", "a & b", "5 % d", "note: this", "50%!", "[sic]", "[1]", "US$5", "$5 and $7", "if B<C and D>E", "and/or", "a[0]",
	}
	r := rand.New(rand.NewPCG(1, 2))
	var saw string
	stage := over(t, Config{}, func(req *core.Request) (*core.Result, error) { saw = req.Text; return says(req.Text) })
	for range 10_000 {
		var words []string
		for range 2 + r.IntN(8) {
			if r.IntN(3) == 0 {
				words = append(words, signs[r.IntN(len(signs))])
			} else {
				words = append(words, vocabulary[r.IntN(len(vocabulary))])
			}
		}
		text := strings.Join(words, " ")
		res, err := stage.Translate(t.Context(), &core.Request{Text: text})
		if err != nil || res.Text != text {
			t.Fatalf("%q: %+v, %v", text, res, err)
		}
		if saw != text {
			t.Fatalf("an engine is sent %q for %q", saw, text)
		}
	}
}
