package postprocess

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"testing"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/stages/openai/openaitest"
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
}

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
	repaired, refused := core.ErrorKind("repaired"), core.BadAnswer
	want := map[string]core.ErrorKind{
		openaitest.ChatterQuotes: repaired, openaitest.ChatterPrefix: repaired, openaitest.ChatterThink: repaired,
		openaitest.ChatterFence: repaired, openaitest.ChatterNote: repaired,
		openaitest.ChatterPlaceholder: repaired, // these texts have none
		openaitest.ChatterEcho:        refused, openaitest.ChatterWrongScript: refused, openaitest.ChatterRepetition: refused,
		openaitest.ChatterRefusal: core.ProviderRefused,
		openaitest.Empty:          refused, openaitest.Length: refused, openaitest.ContentFilter: core.ProviderRefused,
	}
	for _, kind := range openaitest.ChatterKinds() {
		if want[kind] == "" {
			t.Errorf("the simulator has a habit that this test does not know: %s", kind)
		}
	}
	for kind, outcome := range want {
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
