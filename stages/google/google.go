// Package google is the provider kind `google`: it translates with Google Cloud
// Translation, version 2 (basic), by an API key, over the process's upstream connections.
package google

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"golang.org/x/text/language"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/exchange"
)

// Config is an entry of `providers:` of type google.
type Config struct {
	BaseURL string        `json:"base_url" credentials:"true" jsonschema:"minLength=1" jsonschema_description:"Where the API is: https://translation.googleapis.com, with or without /language/translate/v2."`
	APIKey  core.Secret   `json:"api_key" jsonschema_description:"An API key of a project with the Cloud Translation API, usually ${GOOGLE_TRANSLATE_API_KEY:-}, sent as X-Goog-Api-Key. Google needs one."`
	Timeout time.Duration `json:"timeout" jsonschema_extras:"minDuration=10ms,maxDuration=10m" jsonschema_description:"The longest that one attempt may take, from the first byte sent to the last one received."`
	Price   *core.Price   `json:"price" jsonschema_description:"What the provider takes, so that usage is told in money too."`
}

const (
	hosted = "translation.googleapis.com"
	path   = "/language/translate/v2"
)

func defaults() Config { return Config{BaseURL: "https://" + hosted, Timeout: 3 * time.Second} }

// Longest returns how long one attempt may take.
func (c *Config) Longest() time.Duration { return c.Timeout }

// Kind declares the provider kind `google`.
func Kind() core.Kind {
	return core.NewKind("google", core.RoleProvider, "Translates with Google Cloud Translation (v2), by an API key.", defaults, build)
}

func build(env core.Env, c *Config) (any, error) {
	base, err := exchange.Base(c.BaseURL, "https://"+hosted)
	if err != nil {
		return nil, exchange.About(env, "base_url", err)
	}
	base.Path = strings.TrimSuffix(strings.TrimRight(base.Path, "/"), path)
	key := strings.TrimSpace(c.APIKey.Reveal())
	// The key goes into a header: an address is written to logs on its way.
	set := exchange.Settings{System: "google", Base: base, Secrets: []string{key}, Timeout: c.Timeout, Header: http.Header{}}
	switch host := strings.ToLower(base.Hostname()); {
	case key != "":
		set.Header["X-Goog-Api-Key"] = []string{key}
	case host == "googleapis.com" || strings.HasSuffix(host, ".googleapis.com"):
		set.NeedsKey = "set GOOGLE_TRANSLATE_API_KEY, or name another provider in use"
	}
	return exchange.NewEngine(env, set, dialect{})
}

type dialect struct{}

// Code writes what Google names by codes of its own, and of everything else the
// language, with its script if that is not the usual one.
func (dialect) Code(l core.Language, target bool) string {
	script, _ := l.Tag().Script()
	hant := script == language.MustParseScript("Hant")
	switch base := l.Base(); {
	case base == "zh" && hant:
		return "zh-TW"
	case base == "zh":
		return "zh-CN"
	case l == "pt-PT" && target, l == "fr-CA" && target:
		return string(l)
	case base == "nb":
		return "no"
	case base == "he":
		return "iw"
	case base == "jv":
		return "jw"
	case base == "fil":
		return "tl"
	default:
		return base
	}
}

// Parse knows the codes of former standards that Google still writes.
func (dialect) Parse(code string) core.Language {
	switch strings.ToLower(code) {
	case "iw":
		return "he"
	case "jw":
		return "jv"
	case "zh", "zh-cn":
		return "zh-Hans"
	case "zh-tw":
		return "zh-Hant"
	}
	return exchange.Parse(code)
}

// Limit is 128 texts and 30,000 code points, which is what Google refuses above.
func (dialect) Limit() exchange.Limit {
	return exchange.Limit{Texts: 128, Characters: 30_000, Bytes: 100 << 10}
}

type body struct {
	Texts  []string `json:"q"`
	Source string   `json:"source,omitempty"`
	Target string   `json:"target"`
	Format string   `json:"format"` // else texts are HTML, and come back with its entities
}

func (dialect) Call(t exchange.Task) (exchange.Call, error) {
	b := body{Source: t.Source, Target: t.Target, Format: "text"}
	for _, req := range t.Reqs {
		b.Texts = append(b.Texts, req.Text)
	}
	return exchange.JSON(path, b)
}

func (dialect) Read(raw []byte, _ int) ([]exchange.Translation, error) {
	var answer struct {
		Data struct {
			Translations []struct {
				Text     *string `json:"translatedText"`
				Detected string  `json:"detectedSourceLanguage"`
				Model    string  `json:"model"`
			} `json:"translations"`
		} `json:"data"`
	}
	if err := json.Unmarshal(raw, &answer); err != nil {
		return nil, err
	}
	all := make([]exchange.Translation, len(answer.Data.Translations))
	for i, t := range answer.Data.Translations {
		if t.Text == nil {
			return nil, errors.New("a translation has no text")
		}
		all[i] = exchange.Translation{Text: *t.Text, Detected: t.Detected}
		if len(t.Model) <= 64 && exchange.IsCode(t.Model) {
			all[i].Model = t.Model
		}
	}
	return all, nil
}

// Refused tells apart what Google says with 403: a limit a minute, a quota a day, a
// project without billing, and a key that may not call.
func (dialect) Refused(status int, f exchange.Fault) (core.ErrorKind, string) {
	switch {
	case f.Is("userratelimitexceeded", "ratelimitexceeded", "rate_limit_exceeded", "resource_exhausted") && !f.Is("dailylimitexceeded") && !f.Says("daily", "per day"):
		return core.RateLimited, ""
	case f.Is("dailylimitexceeded", "quotaexceeded", "billingnotenabled", "dailylimitexceededunreg", "billing_disabled"):
		return core.QuotaExceeded, ""
	case status == http.StatusTooManyRequests && f.Says("daily", "per day"):
		return core.QuotaExceeded, ""
	case status == http.StatusForbidden && f.Says("daily limit", "quota", "billing"):
		return core.QuotaExceeded, ""
	case status == http.StatusForbidden && f.Says("rate limit"):
		return core.RateLimited, ""
	case f.Is("keyinvalid", "api_key_invalid", "keyexpired", "api_key_expired", "accessnotconfigured", "service_disabled", "api_key_service_blocked"), f.Says("api key not valid", "api key expired"):
		return core.Unauthorized, ""
	case f.Is("toolong", "uploadtoolarge"), f.Says("text too long", "too many text segments", "request payload size"):
		return core.TooLarge, ""
	case status == http.StatusBadRequest && f.Says("bad language pair"):
		return core.UnsupportedLanguage, ""
	case status == http.StatusBadRequest && f.Says("target"), status == http.StatusBadRequest && f.Says("invalid value") && !f.Says("source"):
		return core.UnsupportedLanguage, "target"
	case status == http.StatusBadRequest && f.Says("source"):
		return core.UnsupportedLanguage, "source"
	}
	return "", ""
}

func (dialect) Lists() []exchange.Call { return []exchange.Call{{Path: path + "/languages"}} }

func (d dialect) ReadLists(bodies [][]byte) (*exchange.Offer, error) {
	var list struct {
		Data struct {
			Languages []struct {
				Language string `json:"language"`
			} `json:"languages"`
		} `json:"data"`
	}
	if len(bodies) == 0 {
		return nil, errors.New("there is no list")
	}
	if err := json.Unmarshal(bodies[0], &list); err != nil {
		return nil, err
	}
	var names []string
	for _, l := range list.Data.Languages {
		names = append(names, l.Language)
	}
	codes := exchange.Codes(names, d.Parse)
	return exchange.Every(codes, codes), nil
}

// Knock is a call without a text.
func (dialect) Knock() exchange.Call { return exchange.Call{Path: path, Body: []byte("{}")} }

// Keyed is true: the list of languages wants the key.
func (dialect) Keyed() bool { return true }
