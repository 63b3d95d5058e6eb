package openaitest

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/text/phrases"
	"golang.org/x/text/language/display"
	"pgregory.net/rapid"
)

func TestLanguagesAreReadFromThePrompt(t *testing.T) {
	for system, want := range map[string][2]core.Language{
		"Translate from English (en) to Spanish (es).":                                             {"en", "es"},
		"translate FROM English (en)\nto Brazilian Portuguese (pt-BR)":                             {"en", "pt-BR"},
		"Translate the text to Spanish (es). Output only the translation.":                         {"", "es"},
		"Translate to Serbian (Latin, Serbia) (sr-Latn-RS) now":                                    {"", "sr-Latn-RS"},
		"From Serbian (Cyrillic) (sr-Cyrl) to Chinese (Taiwan) (zh_TW).":                           {"sr-Cyrl", "zh-TW"},
		"You translate (as you do) into French (fr).":                                              {"", "fr"},
		"You translate text from Hindi (hi) into Irish (ga). The user may be (at most) impolite.":  {"hi", "ga"},
		"You are a translator (be nice). Translate from English (en) to Spanish (es), and only so": {"en", "es"},
		"You are helpful.": {"", ""},
		"":                 {"", ""},
	} {
		if source, target := languages(system); source != want[0] || target != want[1] {
			t.Errorf("%q: %q to %q, want %q to %q", system, source, target, want[0], want[1])
		}
	}
}

// Names of languages have parentheses of their own.
func TestLanguagesAreReadUnderTheirEnglishNames(t *testing.T) {
	name := func(l core.Language) string { return display.English.Tags().Name(l.Tag()) + " (" + string(l) + ")" }
	for _, l := range []core.Language{"en", "es-419", "es-AR", "pt-BR", "zh-Hant", "zh-Hant-HK", "sr-Latn", "sr-Cyrl-RS", "fr-CH", "ar-AE", "haw", "yue", "gsw", "ca-valencia", "en-US", "nb", "fil"} {
		for _, m := range []core.Language{"de", "es-PE", "uz-Arab-AF"} {
			text := "Translate each user message from " + name(l) + " to " + name(m) + ". Output the translation only."
			if s, d := languages(text); s != l || d != m {
				t.Errorf("%q: %q to %q", text, s, d)
			}
			text = "Translate each user message to " + name(l) + ". Do not add (or remove) anything (at all)."
			if s, d := languages(text); s != "" || d != l {
				t.Errorf("%q: %q to %q", text, s, d)
			}
		}
	}
}

func TestPromptTakesWhatClientsSend(t *testing.T) {
	cfg := &Config{}
	if err := cfg.check(); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		body  string
		text  string
		param string
	}{
		"parts":       {`{"model":"gpt-5.4-nano","messages":[{"role":"developer","content":"to Spanish (es)"},{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}]}`, "ab", ""},
		"null":        {`{"model":"gpt-5.4-nano","messages":[{"role":"user","content":"a"},{"role":"assistant","content":null}],"max_completion_tokens":null}`, "a", ""},
		"bad content": {`{"model":"gpt-5.4-nano","messages":[{"role":"user","content":5}]}`, "", "messages[0].content"},
		"bad role":    {`{"model":"gpt-5.4-nano","messages":[{"role":"boss","content":"a"}]}`, "", "messages[0].role"},
		"unknown":     {`{"model":"gpt-5.4-nano","messages":[{"role":"user","content":"a"}],"tempreature":0}`, "", "tempreature"},
		"wrong type":  {`{"model":"gpt-5.4-nano","messages":[{"role":"user","content":"a"}],"stream":"yes"}`, "", "stream"},
	} {
		p, bad := parsePrompt([]byte(c.body), cfg)
		switch {
		case c.param != "":
			if bad == nil || bad.status != 400 || bad.body.Param == nil || *bad.body.Param != c.param {
				t.Errorf("%s: %+v", name, bad)
			}
		case bad != nil || p.text != c.text:
			t.Errorf("%s: %+v, %+v", name, p, bad)
		}
	}
}

func TestTableKnowsItsPhrases(t *testing.T) {
	list, err := phrases.Read(strings.NewReader("en\tes\tGood morning\tBuenos días\n"))
	if err != nil {
		t.Fatal(err)
	}
	table := NewTable(list)
	for _, c := range []struct {
		text           string
		source, target core.Language
		want           string
	}{
		{"Good morning", "en", "es", "Buenos días"}, {" Good morning\n", "en-GB", "es-MX", "Buenos días"}, {"Good morning", "", "es", "Buenos días"},
		{"Good morning", "en", "fr", "[fr?] Good morning"}, {"good night", "en", "es", "[es?] good night"},
	} {
		if got, err := table.Translate(t.Context(), c.text, c.source, c.target); err != nil || got != c.want {
			t.Errorf("%q from %q to %q: %q, %v", c.text, c.source, c.target, got, err)
		}
	}
}

func FuzzPrompt(f *testing.F) {
	f.Add([]byte(`{"model":"gpt-5.4-nano","messages":[{"role":"system","content":"from English (en) to Spanish (es)"},{"role":"user","content":"a"}]}`))
	f.Add([]byte(`{"model":"gpt-5.4-nano","messages":[{"role":"user","content":[{"type":"text","text":"a"}]}]}`))
	f.Add([]byte(`{"model":"gpt-5.4-nano","messages":[{}],"n":1e999}`))
	cfg := &Config{}
	if err := cfg.check(); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		p, bad := parsePrompt(body, cfg)
		if (p == nil) == (bad == nil) {
			t.Fatal("exactly one of prompt and error")
		}
		if bad != nil && (bad.status < 400 || bad.body.Message == "" || len(bad.body.Message) > 300) {
			t.Errorf("%+v", bad)
		}
		if p != nil && p.maxTokens < 0 {
			t.Errorf("%+v", p)
		}
	})
}

func TestPiecesAreTheText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.String().Draw(t, "text")
		var all strings.Builder
		for _, p := range pieces(text) {
			if p == "" {
				t.Fatal("an empty piece")
			}
			if utf8.ValidString(text) && !utf8.ValidString(p) {
				t.Fatalf("%q is cut in a character", p)
			}
			all.WriteString(p)
		}
		if all.String() != text {
			t.Fatalf("%q became %q", text, all.String())
		}
	})
}

// In any minute no more than a full bucket and what flowed in meanwhile, and
// what the headers promise is true.
func TestBucketKeepsItsLimit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.IntRange(1, 100).Draw(t, "limit")
		s := &Server{}
		cfg := &Config{RPM: limit}
		now := time.Unix(1e9, 0)
		var taken []time.Time
		for range rapid.IntRange(1, 300).Draw(t, "calls") {
			now = now.Add(time.Duration(rapid.Int64Range(0, int64(2*time.Second)).Draw(t, "gap")))
			h := http.Header{}
			if refused := s.limit(cfg, h, "m", 1, now); refused == nil {
				taken = append(taken, now)
			} else {
				early := refused.retryAfter - time.Millisecond
				if early > 0 && s.limit(cfg, h, "m", 1, now.Add(early)) == nil {
					t.Fatalf("free %v after a refusal that said %v", early, refused.retryAfter)
				}
				now = now.Add(refused.retryAfter)
				if s.limit(cfg, h, "m", 1, now) != nil {
					t.Fatalf("refused after the %v it said", refused.retryAfter)
				}
				taken = append(taken, now)
			}
		}
		for i := range taken {
			n := 0
			for _, u := range taken[i:] {
				if u.Sub(taken[i]) < time.Minute {
					n++
				}
			}
			if n > 2*limit {
				t.Fatalf("%d in a minute at a limit of %d", n, limit)
			}
		}
	})
}

func TestLimitsRefuseWithTheTimeToWait(t *testing.T) {
	s := start(t, Config{RPM: 2, TPM: 1000})
	hc := client(t, s)
	for i, want := range []int{200, 200, 429} {
		res, data, err := post(t, t.Context(), hc, s, "x", nil)
		if err != nil || res.StatusCode != want {
			t.Fatal(i, res, err)
		}
		if want == 429 {
			code("rate_limit_exceeded", "requests")(t, res, data, nil)
			if res.Header.Get("retry-after") != "30" || res.Header.Get("x-ratelimit-remaining-requests") != "0" {
				t.Error(res.Header)
			}
		}
	}
	if err := s.Configure(func(c *Config) { c.RPM = 0 }); err != nil {
		t.Fatal(err)
	}
	for text, wait := range map[string]bool{"too large for any minute ": false} {
		res, data, err := post(t, t.Context(), hc, s, strings.Repeat(text, 300), nil)
		if err != nil || res.StatusCode != 429 || (res.Header.Get("retry-after") != "") != wait {
			t.Error(res, err)
		}
		code("rate_limit_exceeded", "tokens")(t, res, data, nil)
		if res.Header.Get("x-ratelimit-limit-requests") != "" {
			t.Error("a limit that does not exist is shown")
		}
	}
}

func TestChatterIsWrongAndBelievable(t *testing.T) {
	const text = `Hello {name}, 5 <b>new</b> cars`
	const right = `[es] ` + text
	wrong := map[string]func(got string) bool{
		ChatterQuotes:      func(g string) bool { return len(g) > len(right) && strings.Contains(g, right) },
		ChatterPrefix:      func(g string) bool { return strings.HasSuffix(g, right) && strings.Contains(g, "ranslation:") },
		ChatterRefusal:     func(g string) bool { return strings.HasPrefix(g, "I'm sorry") },
		ChatterEcho:        func(g string) bool { return g == text },
		ChatterThink:       func(g string) bool { return strings.HasPrefix(g, "<think>") && strings.HasSuffix(g, right) },
		ChatterFence:       func(g string) bool { return strings.HasPrefix(g, "```") && strings.HasSuffix(g, right+"\n```") },
		ChatterNote:        func(g string) bool { return strings.HasPrefix(g, right) && strings.Contains(g, "ote") },
		ChatterWrongScript: func(g string) bool { return !strings.Contains(g, "Hello") && strings.Contains(g, "5") },
		ChatterRepetition:  func(g string) bool { return strings.Count(g, right) == 12 },
		ChatterPlaceholder: func(g string) bool { return g == "[es] Hello , 5 new cars" },
		ChatterDrop: func(g string) bool {
			return strings.Count(g, "{")+strings.Count(g, "<") == 2 && strings.HasSuffix(g, "cars")
		},
		ChatterTranslate: func(g string) bool { return strings.Count(g, "{")+strings.Count(g, "<") == 3 },
		ChatterDouble:    func(g string) bool { return strings.Count(g, "{")+strings.Count(g, "<") == 4 },
		ChatterReorder:   func(g string) bool { return len(g) == len(right) },
		ChatterSpace:     func(g string) bool { return len([]rune(g)) == len(right)+1 },
		ChatterBoth:      func(g string) bool { return strings.HasPrefix(g, text) && strings.HasSuffix(g, right) },
		ChatterJSON: func(g string) bool {
			return strings.ContainsAny(g, "{[") && strings.Contains(g, `"[es] Hello {name}, 5 `)
		},
		ChatterToken: func(g string) bool { return strings.HasPrefix(g, right+"<") },
	}
	if len(wrong) != len(ChatterKinds()) {
		t.Fatal("a kind is not tested")
	}
	for kind, is := range wrong {
		for seed := range uint64(8) {
			s := start(t, Config{Seed: seed, Faults: map[string]float64{kind: 1}})
			_, data, err := post(t, t.Context(), client(t, s), s, text, nil)
			if err != nil {
				t.Fatal(err)
			}
			if got := *answered(t, data).Choices[0].Message.Content; !is(got) {
				t.Errorf("%s: %q", kind, got)
			}
		}
	}
}

func TestBadRequestsAreAnsweredNotServed(t *testing.T) {
	s := start(t, Config{})
	hc := client(t, s)
	for _, c := range []struct {
		method, path, key, body string
		status                  int
	}{
		{"POST", "/chat/completions", "k", `{"model":`, 400},
		{"POST", "/chat/completions", "k", `[]`, 400},
		{"POST", "/chat/completions", "k", `null`, 400},
		{"POST", "/chat/completions", "", `{}`, 401},
		{"POST", "/chat/completions", "k", strings.Repeat(" ", maxBody+1), 413},
		{"GET", "/chat/completions", "k", "", 405},
		{"POST", "/models", "k", "", 405},
		{"GET", "/completions", "k", "", 404},
		{"GET", "/models/gpt-4.1-nano", "k", "", 404},
		{"GET", "/models", "", "", 401},
	} {
		req, err := http.NewRequestWithContext(t.Context(), c.method, s.URL()+c.path, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		if c.key != "" {
			req.Header.Set("Authorization", "Bearer "+c.key)
		}
		res, err := hc.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		var e struct{ Error errorBody }
		var b bytes.Buffer
		b.ReadFrom(res.Body)
		res.Body.Close()
		if err := json.Unmarshal(b.Bytes(), &e); err != nil || res.StatusCode != c.status || e.Error.Message == "" {
			t.Errorf("%s %s %.20q: %d, want %d: %s", c.method, c.path, c.body, res.StatusCode, c.status, b.Bytes())
		}
	}
}
