package google

import (
	"fmt"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/exchange/exchangetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConforms(t *testing.T) { exchangetest.Conforms(t, Kind(), configured(exchangetest.Google(t))) }

// FuzzAnswer reads answers and lists of languages, which nobody vouches for.
func FuzzAnswer(f *testing.F) { exchangetest.FuzzAnswer(f, dialect{}, seeds) }

var seeds = []string{
	`{"data":{"translations":[{"translatedText":"a","detectedSourceLanguage":"iw","model":"nmt"}]}}`, `{"data":{"translations":[{}]}}`,
	`{"data":{"languages":[{"language":"zh-CN"},{"language":"iw"},{"language":"x"}]}}`, `{"error":{"code":403}}`, `[]`,
}

func configured(s *exchangetest.Server) *Config {
	c := defaults()
	c.BaseURL, c.APIKey = s.URL, exchangetest.Key
	return &c
}

func TestItHoldsWhatEveryEngineHolds(t *testing.T) {
	server := exchangetest.Google(t)
	said := func(code int, message, reason string) string {
		return fmt.Sprintf(`{"error":{"code":%d,"message":%q,"errors":[{"message":%q,"domain":"usageLimits","reason":%q}]}}`, code, message, message, reason)
	}
	exchangetest.Holds(t, Kind(), configured(server), server, []exchangetest.Answer{
		{Name: "a quota a day", Status: 403, Body: said(403, "Daily Limit Exceeded", "dailyLimitExceeded"), Kind: core.QuotaExceeded},
		{Name: "a limit of characters a minute", Status: 403, Body: said(403, "User Rate Limit Exceeded", "userRateLimitExceeded"), Kind: core.RateLimited, Again: true},
		{Name: "a limit, as newer servers write it", Status: 429, Body: `{"error":{"code":429,"message":"Quota exceeded for quota metric 'v2 and v3 general model requests' and limit 'requests per minute per project'","status":"RESOURCE_EXHAUSTED","details":[{"reason":"RATE_LIMIT_EXCEEDED"}]}}`, Kind: core.RateLimited, Again: true},
		{Name: "no billing", Status: 403, Body: said(403, "This API method requires billing to be enabled.", "billingNotEnabled"), Kind: core.QuotaExceeded},
		{Name: "an API that is off", Status: 403, Body: said(403, "Cloud Translation API has not been used in project 1 before or it is disabled.", "accessNotConfigured"), Kind: core.Unauthorized},
		{Name: "no key", Status: 403, Body: said(403, "The request is missing a valid API key.", "forbidden"), Kind: core.Unauthorized},
		{Name: "a wrong key", Status: 400, Body: `{"error":{"code":400,"message":"API key not valid. Please pass a valid API key.","errors":[{"reason":"badRequest"}],"status":"INVALID_ARGUMENT","details":[{"reason":"API_KEY_INVALID"}]}}`, Kind: core.Unauthorized},
		{Name: "a list round an error", Status: 403, Body: "[" + said(403, "Daily Limit Exceeded", "dailyLimitExceeded") + "]", Kind: core.QuotaExceeded},
		{Name: "a target", Status: 400, Body: said(400, "Invalid Value", "invalid"), Kind: core.UnsupportedLanguage, Field: "target"},
		{Name: "a pair", Status: 400, Body: said(400, "Bad language pair: {0}", "badRequest"), Kind: core.UnsupportedLanguage},
		{Name: "a long text", Status: 400, Body: said(400, "Text too long", "invalid"), Kind: core.TooLarge},
		{Name: "too large a body", Status: 413, Body: `<html>`, Kind: core.TooLarge},
	})
}

func TestCodesAreThoseOfGoogle(t *testing.T) {
	for _, known := range []bool{true, false} {
		server := exchangetest.Google(t)
		p, _ := exchangetest.Build(t, Kind(), configured(server))
		if known {
			if err := p.Probe(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		for target, want := range map[core.Language]string{
			"zh": "[zh-cn]", "zh-Hans": "[zh-cn]", "zh-Hant": "[zh-tw]", "zh-HK": "[zh-tw]", "he": "[iw]", "nb": "[no]", "no": "[no]", "fil": "[tl]", "pt": "[pt]", "pt-PT": "[pt-pt]", "de-CH": "[de]",
		} {
			if res, err := p.Translate(t.Context(), exchangetest.Ask("x", "en", target)); err != nil || res.Text != want+" x" {
				t.Errorf("known=%v, %s: %+v, %v, want %s", known, target, res, err, want)
			}
		}
		if _, err := p.Translate(t.Context(), exchangetest.Ask("x", "en", "he-Latn")); core.KindOf(err) != core.UnsupportedLanguage && known {
			t.Errorf("Hebrew in Latin script, which Google has not: %v", err)
		}
		if res, err := p.Translate(t.Context(), exchangetest.Ask("x", "", "es")); err != nil || res.Source != "he" {
			t.Errorf("a source found as iw: %+v, %v", res, err)
		}
		for _, call := range server.Calls("/language/translate/v2") {
			if len(call.Query) > 0 {
				t.Errorf("the address holds %v", call.Query)
			}
		}
	}
}

func TestAKeyThatIsRefusedIsToldByAProbe(t *testing.T) {
	for _, key := range []core.Secret{"wrong-and-long", ""} {
		c := configured(exchangetest.Google(t))
		c.APIKey = key
		p, _ := exchangetest.Build(t, Kind(), c)
		if err := p.Probe(t.Context()); core.KindOf(err) != core.Unauthorized || !strings.Contains(err.Error(), "providers.engine.api_key") {
			t.Errorf("%v", err)
		}
	}
}
