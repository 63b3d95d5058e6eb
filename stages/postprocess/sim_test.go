package postprocess

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"go.uber.org/zap"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/chain"
	"github.com/dragoman-mt/dragoman/stages/openai"
	"github.com/dragoman-mt/dragoman/stages/openai/openaitest"
	"github.com/dragoman-mt/dragoman/stages/provider"
)

// table is an engine that knows the pairs of this test.
type table []pair

func (t table) Translate(_ context.Context, text string, _, target core.Language) (string, error) {
	for _, p := range t {
		if p.text == text && p.target == target {
			return p.answer, nil
		}
	}
	return "", errors.New("not in the table")
}

// chatty are texts that the simulator is asked for with every bad habit.
var chatty = table{
	{"", "en", "es", "Good morning. The new car is very fast.", "Buenos días. El coche nuevo es muy rápido."},
	{"", "en", "de", "Where is the station? I have been looking for it.", "Wo ist der Bahnhof? Ich habe ihn gesucht."},
	{"", "en", "ru", "The library is open until eight o'clock in the evening.", "Библиотека открыта до восьми часов вечера."},
	{"", "en", "ja", "Please take off your shoes before you enter the house.", "家に入る前に靴を脱いでください。"},
	{"", "es", "en", "Mañana por la mañana saldremos temprano hacia la montaña.", "Tomorrow morning we'll leave early for the mountains."},
	{"", "de", "en", "Das Wetter ist heute wunderschön, und wir gehen alle in den Park.", "The weather is beautiful today, and we're all going to the park."},
	{"", "ru", "en", "Завтра мы поедем за город, если будет хорошая погода.", "Tomorrow we'll go to the country if the weather is good."},
	{"", "en", "fr", "First line of the poem\nSecond line of the poem: the end", "Premier vers du poème\nSecond vers du poème : la fin"},
	{"", "en", "pt", "Here is the translation: the boat leaves at 10:30 (local time).", "Aqui está a tradução: o barco sai às 10:30 (hora local)."},
	{"", "en", "es", english, spanish},
	{"", "en", "de", "The committee met on Tuesday to discuss the budget for the coming year. After a long debate, the members agreed to spend more on schools.",
		"Das Komitee traf sich am Dienstag, um über den Haushalt des kommenden Jahres zu beraten. Nach langer Debatte beschlossen die Mitglieder, mehr für Schulen auszugeben."},
	{"", "en", "ru", "The museum was founded in 1872 by a group of merchants who wanted to show their collections to the public.", "Музей был основан в 1872 году группой купцов, которые хотели показать свои коллекции публике."},
	{"", "en", "ja", "To install the application, download the package from our website, open it and follow the instructions on the screen until it says that it is done.",
		"アプリケーションをインストールするには、当社のウェブサイトからパッケージをダウンロードして開き、完了したと表示されるまで画面の指示に従ってください。"},
}

// habits is what becomes of each: it is repaired, or refused as a kind.
var habits = map[string]core.ErrorKind{
	openaitest.ChatterQuotes: repaired, openaitest.ChatterPrefix: repaired, openaitest.ChatterThink: repaired,
	openaitest.ChatterFence: repaired, openaitest.ChatterNote: repaired,
	// These texts have no placeholders.
	openaitest.ChatterPlaceholder: repaired, openaitest.ChatterDrop: repaired, openaitest.ChatterTranslate: repaired,
	openaitest.ChatterDouble: repaired, openaitest.ChatterReorder: repaired, openaitest.ChatterSpace: repaired,
	openaitest.ChatterBoth: repaired, openaitest.ChatterJSON: repaired, openaitest.ChatterToken: repaired,
	openaitest.ChatterEcho: core.BadAnswer, openaitest.ChatterWrongScript: core.BadAnswer, openaitest.ChatterRepetition: core.BadAnswer,
	openaitest.ChatterRefusal: core.ProviderRefused,
	openaitest.Empty:          core.BadAnswer, openaitest.Length: core.BadAnswer, openaitest.ContentFilter: core.ProviderRefused,
}

const repaired core.ErrorKind = "repaired"

// TestEveryBadHabitOfTheSimulatorIsRepairedOrRefused asks a real server for
// real answers with each habit, over HTTP.
func TestEveryBadHabitOfTheSimulatorIsRepairedOrRefused(t *testing.T) {
	sim, err := openaitest.Start(openaitest.Config{Engine: chatty, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer sim.Close()
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()

	stage := New("postprocess", Config{}).Wrap(core.TranslatorFunc(func(_ context.Context, req *core.Request) (*core.Result, error) {
		return ask(client, sim.URL(), req)
	}))
	for _, kind := range openaitest.ChatterKinds() {
		if habits[kind] == "" {
			t.Errorf("the simulator has a habit that this test does not know: %s", kind)
		}
	}
	for kind, outcome := range habits {
		for _, p := range chatty {
			if kind == openaitest.ChatterEcho && p.target == "fr" {
				continue // its words are too few to tell the languages apart
			}
			for range 6 { // the simulator has several phrasings of each
				sim.FailNext(1, kind)
				res, err := stage.Translate(t.Context(), p.request())
				if outcome != repaired {
					if got := core.KindOf(err); got != outcome {
						t.Errorf("%s, %s -> %s: %q: got %+v, %v, want %s", kind, p.source, p.target, p.text, res, err, outcome)
					}
					continue
				}
				if err != nil || res.Text != p.answer || res.NoStore {
					t.Errorf("%s, %s -> %s: got %+v, %v, want %q", kind, p.source, p.target, res, err, p.answer)
				}
			}
		}
	}
}

// an upstream is connections without a pool.
type upstream struct{ http.Transport }

func (*upstream) Warm(string) (func(), error) { return func() {}, nil }

// streaming links the real provider, which calls the simulator, with this stage
// behind it.
func streaming(t *testing.T, sim *openaitest.Server) core.Translator {
	t.Helper()
	connections := &upstream{}
	t.Cleanup(connections.CloseIdleConnections)
	kind := openai.Kind()
	cfg := kind.Config().(*openai.Config)
	cfg.BaseURL, cfg.APIKey = sim.URL(), "sk-test"
	built, err := kind.Build(core.Env{Name: "openai", Log: zap.NewNop(), Upstream: connections}, cfg)
	if err != nil {
		t.Fatal(err)
	}
	calls := provider.New(core.Env{Name: "provider", Log: zap.NewNop()}, provider.Config{Use: core.Names{"openai"}, Retries: 1})
	linked, err := chain.Link(
		[]chain.Place{{Name: "provider", Item: calls}, {Name: "postprocess", Item: New("postprocess", Config{})}},
		func(name string) (core.Provider, bool) {
			return core.Provider{Name: name, Translator: built.(core.Translator)}, name == "openai"
		}, &chain.Watch{})
	if err != nil {
		t.Fatal(err)
	}
	return linked
}

// TestALiveListenerHearsTheTranslationAlone streams answers with each habit
// from the simulator, token by token, through the real provider.
func TestALiveListenerHearsTheTranslationAlone(t *testing.T) {
	sim, err := openaitest.Start(openaitest.Config{Engine: chatty, Seed: 3, TokensPerSecond: 10_000})
	if err != nil {
		t.Fatal(err)
	}
	defer sim.Close()
	top := streaming(t, sim)
	for kind, outcome := range habits {
		if outcome != repaired {
			continue
		}
		for _, p := range chatty {
			for _, fault := range []string{"", kind} {
				sim.FailNext(1, fault)
				req, deltas := p.request(), []string(nil)
				req.OnDelta = func(text string) error { deltas = append(deltas, text); return nil }
				res, err := top.Translate(t.Context(), req)
				if err != nil || res.Text != p.answer || strings.Join(deltas, "") != p.answer || res.NoStore {
					t.Errorf("%s: heard %q, got %+v, %v, want %q", kind, deltas, res, err, p.answer)
				}
				if fault == "" && utf8.RuneCountInString(p.answer) > 2*hold && len(deltas) < 3 {
					t.Errorf("%q was not heard as it came: %q", p.answer, deltas)
				}
			}
		}
	}
}

// TestARefusedStreamIsAskedForAgain: as long as nothing has left, the listener
// hears of the second attempt alone; after that, of the first.
func TestARefusedStreamIsAskedForAgain(t *testing.T) {
	for _, c := range []struct {
		kind     string
		attempts int
		flags    []string
	}{
		{openaitest.ChatterEcho, 2, nil},
		{openaitest.ChatterWrongScript, 2, nil},
		{openaitest.ChatterRepetition, 1, []string{core.FlagCut}}, // the output cap ends it
		{openaitest.Length, 1, []string{core.FlagCut}},
	} {
		sim, err := openaitest.Start(openaitest.Config{Engine: chatty, Seed: 4, TokensPerSecond: 10_000})
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range chatty {
			if p.target != "de" || utf8.RuneCountInString(p.answer) < 2*hold {
				continue
			}
			sim.FailNext(1, c.kind)
			req, heard := p.request(), ""
			req.OnDelta = func(text string) error { heard += text; return nil }
			res, err := streaming(t, sim).Translate(t.Context(), req)
			if err != nil || heard != res.Text || !slices.Equal(res.Flags, c.flags) || res.NoStore != (c.flags != nil) || c.flags == nil && heard != p.answer {
				t.Errorf("%s: heard %q, got %+v, %v", c.kind, heard, res, err)
			}
			if n := len(sim.Stats().Records); n != c.attempts {
				t.Errorf("%s: %d attempts, want %d", c.kind, n, c.attempts)
			}
		}
		sim.Close()
	}
}

// ask is the least that a provider could be.
func ask(client *http.Client, url string, req *core.Request) (*core.Result, error) {
	body, err := json.Marshal(map[string]any{
		"model": "gpt-5.4-nano",
		"messages": []map[string]string{
			{"role": "system", "content": "Translate from X (" + string(req.Source) + ") to Y (" + string(req.Target) + ")."},
			{"role": "user", "content": req.Text},
		},
	})
	if err != nil {
		return nil, err
	}
	post, err := http.NewRequest(http.MethodPost, url+"/chat/completions", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	post.Header.Set("Authorization", "Bearer sk-test")
	resp, err := client.Do(post)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var answer struct {
		Choices []struct {
			Message      struct{ Content string }
			FinishReason core.Finish `json:"finish_reason"`
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return nil, err
	}
	if len(answer.Choices) != 1 {
		return nil, errors.New("no choice: " + resp.Status)
	}
	c := answer.Choices[0]
	return &core.Result{Text: c.Message.Content, Finish: c.FinishReason}, nil
}
