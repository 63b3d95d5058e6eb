package azure

import (
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/exchange/exchangetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConforms(t *testing.T) { exchangetest.Conforms(t, Kind(), configured(exchangetest.Azure(t))) }

// FuzzAnswer reads answers and lists of languages, which nobody vouches for.
func FuzzAnswer(f *testing.F) { exchangetest.FuzzAnswer(f, dialect{}, seeds) }

var seeds = []string{
	`[{"detectedLanguage":{"language":"en","score":1.0},"translations":[{"text":"a","to":"de"}]}]`, `[{"translations":[]}]`,
	`{"translation":{"zh-Hans":{"name":"x"},"en":{}}}`, `{"error":{"code":403001,"message":"x"}}`, `[]`,
}

func configured(s *exchangetest.Server) *Config {
	c := defaults()
	c.BaseURL, c.APIKey, c.Region = s.URL, exchangetest.Key, "westeurope"
	return &c
}

func TestItHoldsWhatEveryEngineHolds(t *testing.T) {
	server := exchangetest.Azure(t)
	exchangetest.Holds(t, Kind(), configured(server), server, []exchangetest.Answer{
		{Name: "the free quota", Status: 403, Body: `{"error":{"code":403001,"message":"The operation isn't allowed because the subscription has exceeded its free quota."}}`, Kind: core.QuotaExceeded},
		{Name: "another 403", Status: 403, Body: `{"error":{"code":403000,"message":"The operation isn't allowed."}}`, Kind: core.Unauthorized},
		{Name: "a quota in API management's words", Status: 403, Body: `{"statusCode":403,"message":"Out of call volume quota. Quota will be replenished in 12:00:00."}`, Kind: core.QuotaExceeded},
		{Name: "a key for another API", Status: 401, Body: `{"error":{"code":401015,"message":"The credentials provided are for the Speech API."}}`, Kind: core.Unauthorized},
		{Name: "its limit", Status: 429, Header: map[string]string{"Retry-After": "1"}, Body: `{"error":{"code":429001,"message":"exceeded request limits"}}`, Kind: core.RateLimited, Wait: time.Second, Again: true},
		{Name: "a target", Status: 400, Body: `{"error":{"code":400036,"message":"The target language is not valid."}}`, Kind: core.UnsupportedLanguage, Field: "target"},
		{Name: "a source", Status: 400, Body: `{"error":{"code":400035,"message":"The source language is not valid."}}`, Kind: core.UnsupportedLanguage, Field: "source"},
		{Name: "a pair", Status: 400, Body: `{"error":{"code":"400023","message":"x"}}`, Kind: core.UnsupportedLanguage},
		{Name: "too large", Status: 400, Body: `{"error":{"code":400077,"message":"x"}}`, Kind: core.TooLarge},
		{Name: "a system that is being loaded", Status: 408, Body: `{"error":{"code":408001,"message":"x"}}`, Kind: core.ProviderFailed, Again: true},
		{Name: "its failure", Status: 503, Body: `{"error":{"code":503000,"message":"Service is temporarily unavailable."}}`, Kind: core.ProviderFailed, Again: true},
	})
}

func TestCodesAreThoseOfMicrosoft(t *testing.T) {
	for _, known := range []bool{true, false} {
		server := exchangetest.Azure(t)
		p, _ := exchangetest.Build(t, Kind(), configured(server))
		if known {
			if err := p.Probe(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		for target, want := range map[core.Language]string{
			"zh-CN": "[zh-hans]", "zh-TW": "[zh-hant]", "no": "[nb]", "fil": "[fil]", "pt-BR": "[pt]", "pt-PT": "[pt-pt]", "sr": "[sr-cyrl]", "sr-Latn": "[sr-latn]", "he": "[he]",
		} {
			if res, err := p.Translate(t.Context(), exchangetest.Ask("x", "en", target)); err != nil || res.Text != want+" x" {
				t.Errorf("known=%v, %s: %+v, %v, want %s", known, target, res, err, want)
			}
		}
	}
}

// The list of languages is for anybody, so a probe proves the key by a call of its own.
// TestTermsAreTheDynamicDictionary where Microsoft takes one.
func TestTermsAreTheDynamicDictionary(t *testing.T) {
	terms := []core.Pair{{Source: "Car", Target: `Wagen "A"`}}
	for _, c := range []struct {
		source, target core.Language
		text, want     string
	}{
		{"en", "de", "A Car, a scarf, a Car.", `A <mstrans:dictionary translation="Wagen &#34;A&#34;">Car</mstrans:dictionary>, a scarf, a <mstrans:dictionary translation="Wagen &#34;A&#34;">Car</mstrans:dictionary>.`},
		{"", "de", "A Car.", "A Car."}, {"fr", "de", "A Car.", "A Car."}, {"en", "de", "A Car & more.", "A Car & more."},
	} {
		if got := marked(&core.Request{Text: c.text, Source: c.source, Target: c.target, Terms: terms}, string(c.source)); got != c.want {
			t.Errorf("%s to %s: %s, want %s", c.source, c.target, got, c.want)
		}
	}
}

func TestAKeyOrRegionThatIsRefusedIsToldByAProbe(t *testing.T) {
	for _, change := range []func(*Config){func(c *Config) { c.APIKey = "wrong-and-long" }, func(c *Config) { c.Region = "eastus" }} {
		c := configured(exchangetest.Azure(t))
		change(c)
		p, _ := exchangetest.Build(t, Kind(), c)
		if err := p.Probe(t.Context()); core.KindOf(err) != core.Unauthorized || !strings.Contains(err.Error(), "providers.engine.api_key") {
			t.Errorf("%v", err)
		}
	}
}

func TestAResourcesOwnAddressHasAPathOfItsOwn(t *testing.T) {
	for base, want := range map[string]string{
		"https://mine.cognitiveservices.azure.com":                                "/translator/text/v3.0",
		"https://mine.cognitiveservices.azure.com/":                               "/translator/text/v3.0",
		"https://mine.cognitiveservices.azure.com/translator/text/v3.0":           "/translator/text/v3.0",
		"https://mine.cognitiveservices.azure.com/translator/text/v3.0/translate": "/translator/text/v3.0",
		"https://api-eur.cognitive.microsofttranslator.com":                       "",
		"https://api.cognitive.microsofttranslator.com/translate":                 "",
	} {
		if u, err := address(base); err != nil || u.Path != want {
			t.Errorf("%s: %v, %v, want %q", base, u, err, want)
		}
	}
}
