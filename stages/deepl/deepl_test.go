package deepl

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/exchange/exchangetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConforms(t *testing.T) { exchangetest.Conforms(t, Kind(), configured(exchangetest.DeepL(t))) }

// FuzzAnswer reads answers and lists of languages, which nobody vouches for.
func FuzzAnswer(f *testing.F) { exchangetest.FuzzAnswer(f, dialect{}, seeds) }

var seeds = []string{
	`{"translations":[{"detected_source_language":"EN","text":"a","billed_characters":11,"model_type_used":"quality_optimized"}]}`,
	`{"translations":[{"text":null}]}`, `[{"language":"DE","name":"German"},{"language":"ZH-HANS"},{"language":"ZZZZ"}]`, `{"message":"x"}`, `[]`,
}

func configured(s *exchangetest.Server) *Config {
	c := defaults()
	c.BaseURL, c.APIKey = s.URL, exchangetest.Key
	return &c
}

func TestItHoldsWhatEveryEngineHolds(t *testing.T) {
	server := exchangetest.DeepL(t)
	exchangetest.Holds(t, Kind(), configured(server), server, []exchangetest.Answer{
		{Name: "its quota", Status: 456, Body: `{"message":"Quota for this billing period has been exceeded."}`, Kind: core.QuotaExceeded},
		{Name: "its quota as 403", Status: 403, Body: `{"message":"Quota Exceeded"}`, Kind: core.QuotaExceeded},
		{Name: "a wrong key", Status: 403, Kind: core.Unauthorized},
		{Name: "a wrong host for the key", Status: 403, Body: `{"message":"Wrong endpoint. Use https://api-free.deepl.com"}`, Kind: core.Unauthorized},
		{Name: "its limit", Status: 529, Body: `{"message":"Too many requests"}`, Kind: core.RateLimited, Again: true},
		{Name: "a target", Status: 400, Body: `{"message":"Value for 'target_lang' not supported."}`, Kind: core.UnsupportedLanguage, Field: "target"},
		{Name: "a source", Status: 400, Body: `{"message":"Value for 'source_lang' not supported."}`, Kind: core.UnsupportedLanguage, Field: "source"},
		{Name: "a glossary", Status: 404, Body: `{"message":"Glossary not found"}`, Kind: core.NotFound},
		{Name: "its address is too long", Status: 414, Kind: core.TooLarge},
		{Name: "one text more", Status: 200, Body: `{"translations":[{"text":"a"},{"text":"b"}]}`, Kind: core.ProviderFailed, Again: true},
		{Name: "an empty text", Status: 200, Body: `{"translations":[{"text":""}]}`, Kind: core.ProviderFailed, Again: true},
	})
}

func TestTheKeySaysWhichHostIsCalled(t *testing.T) {
	for _, c := range []struct{ base, key, want string }{
		{"", "abc:fx", "https://api-free.deepl.com"},
		{"", "abc", "https://api.deepl.com"},
		{"https://api-free.deepl.com/v2", "abc", "https://api-free.deepl.com"},
		{"https://api.deepl.com/", "abc:fx", "https://api.deepl.com"},
		{"http://127.0.0.1:8080/deepl/v2/translate", "", "http://127.0.0.1:8080/deepl"},
	} {
		cfg := defaults()
		cfg.BaseURL, cfg.APIKey = c.base, core.Secret(c.key)
		built, err := Kind().Build(core.Env{Name: "deepl"}, &cfg)
		if err != nil {
			t.Errorf("%+v: %v", c, err)
			continue
		}
		account := built.(core.Accounter).Account()
		if !strings.HasPrefix(account, strings.TrimSuffix(c.want, "/deepl")+"\n") {
			t.Errorf("%+v: %s", c, account)
		}
	}
}

func TestVariantsArriveAsDeepLNamesThem(t *testing.T) {
	for _, known := range []bool{true, false} {
		server := exchangetest.DeepL(t)
		p, _ := exchangetest.Build(t, Kind(), configured(server))
		if known {
			if err := p.Probe(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		for target, want := range map[core.Language]string{
			"en": "[en-us]", "en-GB": "[en-gb]", "en-AU": "[en-gb]", "pt": "[pt-br]", "pt-PT": "[pt-pt]", "pt-AO": "[pt-pt]", "zh-TW": "[zh-hant]", "zh-CN": "[zh-hans]",
			"es-MX": "[es-419]", "es": "[es]", "no": "[nb]", "nb": "[nb]", "de-AT": "[de]",
		} {
			if res, err := p.Translate(t.Context(), exchangetest.Ask("x", "ja", target)); err != nil || res.Text != want+" x" {
				t.Errorf("known=%v, %s: %+v, %v, want %s", known, target, res, err, want)
			}
		}
		if res, err := p.Translate(t.Context(), exchangetest.Ask("x", "zh-Hant", "de")); err != nil || res.Text != "[de] x" {
			t.Errorf("known=%v: %+v, %v", known, res, err)
		}
	}
}

func TestWishesArriveInDeepLsWords(t *testing.T) {
	server := exchangetest.DeepL(t)
	c := configured(server)
	c.Glossaries = map[string]string{"house": "def3a26b-3e84-45b3-84ae-0c0aaf3525f7"}
	p, _ := exchangetest.Build(t, Kind(), c)
	ask := func(change func(*core.Request)) (sent body) {
		t.Helper()
		req := exchangetest.Ask("x", "en", "de")
		change(req)
		if _, err := p.Translate(t.Context(), req); err != nil {
			t.Error(err)
		}
		for _, call := range server.Calls("/v2/translate") {
			if err := json.Unmarshal([]byte(call.Body), &sent); err != nil {
				t.Error(err)
			}
		}
		return sent
	}
	if b := ask(func(r *core.Request) { r.Formality, r.Glossary = core.Formal, "house" }); b.Formality != "prefer_more" || b.Glossary != c.Glossaries["house"] || !b.Billed {
		t.Errorf("%+v", b)
	}
	if b := ask(func(r *core.Request) { r.Formality, r.Glossary, r.Source = core.Informal, "house", "" }); b.Formality != "prefer_less" || b.Glossary != "" {
		t.Errorf("%+v", b)
	}
	if b := ask(func(r *core.Request) { r.Formality, r.Target = core.Formal, "ja" }); b.Formality != "prefer_more" {
		t.Errorf("%+v", b)
	}
	wishes := append([]string{"Be\n brief", strings.Repeat("long ", 100)}, make([]string, 20)...)
	for i := range wishes[2:] {
		wishes[i+2] = "wish"
	}
	if b := ask(func(r *core.Request) { r.Instructions = wishes }); len(b.Instructions) != 10 || b.Instructions[0] != "Be brief" {
		t.Errorf("%q", b.Instructions)
	}
	if b := ask(func(r *core.Request) { r.Instructions, r.Target = wishes, "pt" }); len(b.Instructions) != 0 {
		t.Errorf("DeepL takes no instructions for Portuguese: %q", b.Instructions)
	}
	if b := ask(func(r *core.Request) {
		r.Context = []core.Pair{{Source: strings.Repeat("a", 3000), Target: "b"}, {Source: "One.", Target: "Eins."}, {Source: "Two.", Target: "Zwei."}}
	}); b.Context != "One.\nTwo." {
		t.Errorf("%q", b.Context)
	}
	if b := ask(func(r *core.Request) {
		r.Context = []core.Pair{{Source: strings.Repeat("ä", 1990)}, {Source: "One.", Target: "Eins."}, {Source: "Two.", Target: "Zwei."}}
	}); b.Context != strings.Repeat("ä", 1990)+"\nTwo." {
		t.Errorf("what is around goes first: %q", b.Context)
	}
	terms := []core.Pair{{Source: "car", Target: "Wagen"}, {Source: "bus", Target: "Bus"}}
	if b := ask(func(r *core.Request) { r.Glossary, r.Terms = "other", terms }); b.Glossary != "" || !slices.Equal(b.Instructions, []string{`Translate "car" as "Wagen".`, `Translate "bus" as "Bus".`}) {
		t.Errorf("terms of a glossary that DeepL has not: %+v", b)
	}
	if b := ask(func(r *core.Request) { r.Glossary, r.Terms = "house", terms }); b.Glossary == "" || len(b.Instructions) != 0 {
		t.Errorf("terms of a glossary that DeepL has: %+v", b)
	}
}

func TestAServerThatHasNoListServesWithANotice(t *testing.T) {
	// As DeepLX, which has /v2/translate alone.
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v2/translate" {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		w.WriteHeader(http.StatusBadRequest)
	}))
	defer server.Close()
	c := defaults()
	c.BaseURL = server.URL
	p, _ := exchangetest.Build(t, Kind(), &c)
	if err := p.Probe(t.Context()); err != nil || !strings.Contains(p.Notice(), "does not tell what it translates") || p.Languages() != nil {
		t.Errorf("%v, %q", err, p.Notice())
	}
}

func TestAnAddressWhereNothingTranslatesIsTold(t *testing.T) {
	for name, handler := range map[string]http.HandlerFunc{
		"a page":   func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<!doctype html>") },
		"nothing":  func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404) },
		"redirect": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "https://example.com/", 301) },
	} {
		server := httptest.NewServer(handler)
		c := defaults()
		c.BaseURL, c.APIKey = server.URL, exchangetest.Key
		p, _ := exchangetest.Build(t, Kind(), &c)
		if err := p.Probe(t.Context()); core.KindOf(err) != core.NotFound || !strings.Contains(err.Error(), "change providers.engine.base_url") {
			t.Errorf("%s: %v", name, err)
		}
		server.Close()
	}
}
