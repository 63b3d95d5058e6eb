package libretranslate

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/exchange/exchangetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConforms(t *testing.T) {
	exchangetest.Conforms(t, Kind(), configured(exchangetest.LibreTranslate(t)))
}

// FuzzAnswer reads answers and lists of languages, which nobody vouches for.
func FuzzAnswer(f *testing.F) { exchangetest.FuzzAnswer(f, dialect{}, seeds) }

var seeds = []string{
	`{"translatedText":["a","b"],"detectedLanguage":[{"confidence":90.0,"language":"en"}]}`, `{"translatedText":"a","detectedLanguage":{"language":"zt"}}`,
	`[{"code":"en","targets":["es","zt"]},{"code":"es"}]`, `{"charLimit":2000}`, `{"error":"x"}`, `[]`,
}

func configured(s *exchangetest.Server) *Config {
	c := defaults()
	c.BaseURL, c.APIKey = s.URL, exchangetest.Key
	return &c
}

func TestItHoldsWhatEveryEngineHolds(t *testing.T) {
	server := exchangetest.LibreTranslate(t)
	exchangetest.Holds(t, Kind(), configured(server), server, []exchangetest.Answer{
		{Name: "a wrong key", Status: 403, Body: `{"error":"Invalid API key"}`, Kind: core.Unauthorized},
		{Name: "no key", Status: 400, Body: `{"error":"Please contact the server operator to get an API key"}`, Kind: core.Unauthorized},
		{Name: "no key, with an address", Status: 400, Body: `{"error":"Visit https://portal.libretranslate.com to get an API key"}`, Kind: core.Unauthorized},
		{Name: "a flood", Status: 403, Body: `{"error":"Too many request limits violations"}`, Kind: core.RateLimited, Again: true},
		{Name: "its limit", Status: 429, Body: `{"error":"Slowdown: 30 per 1 minute"}`, Kind: core.RateLimited, Again: true},
		{Name: "a language", Status: 400, Body: `{"error":"zz is not supported"}`, Kind: core.UnsupportedLanguage},
		{Name: "a pair", Status: 400, Body: `{"error":"Spanish (es) is not available as a target language from Klingon (tlh)"}`, Kind: core.UnsupportedLanguage, Field: "target"},
		{Name: "a long text", Status: 400, Body: `{"error":"Invalid request: request (2001) exceeds text limit (2000)"}`, Kind: core.TooLarge},
		{Name: "a format", Status: 400, Body: `{"error":"xml format is not supported"}`, Kind: core.ProviderFailed},
		{Name: "its failure", Status: 500, Body: `{"error":"Cannot translate text: list index out of range"}`, Kind: core.ProviderFailed, Again: true},
		{Name: "one text more", Status: 200, Body: `{"translatedText":["a","b"]}`, Kind: core.ProviderFailed, Again: true},
		{Name: "an empty text", Status: 200, Body: `{"translatedText":[" "]}`, Kind: core.ProviderFailed, Again: true},
	})
}

func TestALanguageIsAskedForAsTheServerWritesIt(t *testing.T) {
	server := exchangetest.LibreTranslate(t)
	p, _ := exchangetest.Build(t, Kind(), configured(server))
	if err := p.Probe(t.Context()); err != nil {
		t.Fatal(err)
	}
	for target, want := range map[core.Language]string{"zh-TW": "[zh-hant] x", "pt": "[pt-br] x", "es-MX": "[es] x"} {
		if res, err := p.Translate(t.Context(), exchangetest.Ask("x", "en", target)); err != nil || res.Text != want {
			t.Errorf("%s: %+v, %v, want %s", target, res, err, want)
		}
	}
	if _, err := p.Translate(t.Context(), exchangetest.Ask("x", "en", "zh")); core.KindOf(err) != core.UnsupportedLanguage {
		t.Errorf("Chinese in the script that the server has not: %v", err)
	}
	// A text that is longer than the server said is not sent.
	server.Calls("/translate")
	long := make([]byte, 2001)
	for i := range long {
		long[i] = 'a'
	}
	if _, err := p.Translate(t.Context(), exchangetest.Ask(string(long), "en", "es")); core.KindOf(err) != core.TooLarge || len(server.Calls("/translate")) != 0 {
		t.Errorf("%v", err)
	}
	// The server finds one language for all texts of a call.
	if n := p.Together([]*core.Request{exchangetest.Ask("Hello", "", "es"), exchangetest.Ask("Hallo", "", "es")}); n != 1 {
		t.Errorf("%d texts of unknown languages share a call", n)
	}
}

func TestAKeyThatIsRefusedIsToldByAProbe(t *testing.T) {
	for key, want := range map[core.Secret]core.ErrorKind{exchangetest.Key: "", "wrong-and-long": core.Unauthorized, "": core.Unauthorized} {
		server := exchangetest.LibreTranslate(t)
		c := configured(server)
		c.APIKey = key
		p, _ := exchangetest.Build(t, Kind(), c)
		if err := p.Probe(t.Context()); core.KindOf(err) != want {
			t.Errorf("key %q: %v, want %q", key.Reveal(), err, want)
		}
	}
}

func TestTheAddressIsTakenAsClientsWriteIt(t *testing.T) {
	for _, path := range []string{"", "/", "/translate", "/translate/"} {
		server := exchangetest.LibreTranslate(t)
		c := configured(server)
		c.BaseURL += path
		p, _ := exchangetest.Build(t, Kind(), c)
		if res, err := p.Translate(t.Context(), exchangetest.Ask("x", "en", "es")); err != nil || res.Text != "[es] x" {
			t.Errorf("%q: %+v, %v", path, res, err)
		}
	}
}
