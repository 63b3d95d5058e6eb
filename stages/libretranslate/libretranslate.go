// Package libretranslate is the provider kind `libretranslate`: it translates with a
// LibreTranslate server over the process's upstream connections.
package libretranslate

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

// Config is an entry of `providers:` of type libretranslate.
type Config struct {
	BaseURL string        `json:"base_url" credentials:"true" jsonschema:"minLength=1" jsonschema_description:"Where the server is, as its own clients take it: http://127.0.0.1:5000. /translate and /languages are added to its path."`
	APIKey  core.Secret   `json:"api_key" jsonschema_description:"The key that the server's operator gave you, sent in the body as api_key. Empty: not sent; libretranslate.com needs one."`
	Timeout time.Duration `json:"timeout" jsonschema_extras:"minDuration=10ms,maxDuration=10m" jsonschema_description:"The longest that one attempt may take, from the first byte sent to the last one received."`
	Price   *core.Price   `json:"price" jsonschema_description:"What the provider takes, so that usage is told in money too."`
}

const hosted = "libretranslate.com"

func defaults() Config {
	return Config{BaseURL: "https://" + hosted, Timeout: 3 * time.Second}
}

// Longest returns how long one attempt may take.
func (c *Config) Longest() time.Duration { return c.Timeout }

// Kind declares the provider kind `libretranslate`.
func Kind() core.Kind {
	return core.NewKind("libretranslate", core.RoleProvider, "Translates with a LibreTranslate server.", defaults, build)
}

func build(env core.Env, c *Config) (any, error) {
	base, err := exchange.Base(c.BaseURL, "http://127.0.0.1:5000")
	if err != nil {
		return nil, exchange.About(env, "base_url", err)
	}
	base.Path = strings.TrimSuffix(strings.TrimRight(base.Path, "/"), "/translate")
	key := strings.TrimSpace(c.APIKey.Reveal())
	set := exchange.Settings{System: "libretranslate", Base: base, Secrets: []string{key}, Timeout: c.Timeout}
	if key == "" && strings.EqualFold(base.Hostname(), hosted) {
		set.NeedsKey = "set LIBRETRANSLATE_API_KEY, or name a server of your own in base_url"
	}
	return exchange.NewEngine(env, set, dialect{key})
}

// dialect speaks LibreTranslate's API, with key.
type dialect struct{ key string }

// body is what a call sends.
type body struct {
	Texts  []string `json:"q"`
	Source string   `json:"source"`
	Target string   `json:"target"`
	Format string   `json:"format"`
	Key    string   `json:"api_key,omitempty"`
}

// Code writes a script where LibreTranslate has two, and Brazil's Portuguese, which
// stands beside Portugal's; of everything else the language alone.
func (dialect) Code(l core.Language, _ bool) string {
	script, _ := l.Tag().Script()
	switch base := l.Base(); {
	case base == "zh" && script == language.MustParseScript("Hant"):
		return "zh-Hant"
	case base == "zh":
		return "zh-Hans"
	case l == "pt-BR":
		return "pt-BR"
	case base == "no":
		return "nb"
	case base == "fil":
		return "tl"
	default:
		return base
	}
}

// Parse knows LibreTranslate's former names as well.
func (dialect) Parse(code string) core.Language {
	switch strings.ToLower(code) {
	case "zt":
		return "zh-Hant"
	case "zh":
		return "zh-Hans"
	case "pb":
		return "pt-BR"
	}
	return exchange.Parse(code)
}

// Limit is what servers take unless they are told otherwise; a longest text of its own
// is in a server's settings.
func (dialect) Limit() exchange.Limit { return exchange.Limit{Texts: 50, Told: true} }

func (d dialect) Call(t exchange.Task) (exchange.Call, error) {
	b := body{Source: t.Source, Target: t.Target, Format: "text", Key: d.key}
	if b.Source == "" {
		b.Source = "auto"
	}
	for _, req := range t.Reqs {
		b.Texts = append(b.Texts, req.Text)
	}
	return exchange.JSON("/translate", b)
}

type detected struct {
	Language string `json:"language"`
}

func (dialect) Read(raw []byte, n int) ([]exchange.Translation, error) {
	var answer struct {
		Texts    json.RawMessage `json:"translatedText"`
		Detected json.RawMessage `json:"detectedLanguage"`
	}
	if err := json.Unmarshal(raw, &answer); err != nil {
		return nil, err
	}
	var texts []string
	if one := ""; json.Unmarshal(answer.Texts, &one) == nil && n == 1 && one != "" {
		texts = []string{one}
	} else if err := json.Unmarshal(answer.Texts, &texts); err != nil {
		return nil, err
	}
	var sources []detected
	if one := (detected{}); json.Unmarshal(answer.Detected, &one) == nil {
		sources = []detected{one}
	} else if json.Unmarshal(answer.Detected, &sources) != nil {
		sources = nil // it is not asked for when the source is known
	}
	all := make([]exchange.Translation, len(texts))
	for i, text := range texts {
		all[i].Text = text
		if i < len(sources) {
			all[i].Detected = sources[i].Language
		}
	}
	return all, nil
}

func (dialect) Refused(status int, f exchange.Fault) (core.ErrorKind, string) {
	switch {
	case f.Says("api key"):
		return core.Unauthorized, ""
	case f.Says("too many request"), f.Says("slowdown"):
		return core.RateLimited, ""
	case status == http.StatusBadRequest && f.Says("exceeds text limit", "exceeds character limit"):
		return core.TooLarge, ""
	case status == http.StatusBadRequest && f.Says("not available as a target"):
		return core.UnsupportedLanguage, "target"
	case status == http.StatusBadRequest && f.Says("is not supported") && !f.Says("format is not supported"):
		return core.UnsupportedLanguage, ""
	}
	return "", ""
}

func (dialect) Lists() []exchange.Call {
	return []exchange.Call{{Path: "/languages"}, {Path: "/frontend/settings", Optional: true}}
}

func (d dialect) ReadLists(bodies [][]byte) (*exchange.Offer, error) {
	var list []struct {
		Code    string   `json:"code"`
		Targets []string `json:"targets"`
	}
	if len(bodies) == 0 {
		return nil, errors.New("there is no list")
	}
	if err := json.Unmarshal(bodies[0], &list); err != nil {
		return nil, err
	}
	names := make([]string, len(list))
	for i, l := range list {
		names[i] = l.Code
	}
	o := &exchange.Offer{Sources: exchange.Codes(names, d.Parse), Targets: exchange.Codes(names, d.Parse)}
	for _, l := range list {
		targets := l.Targets
		if targets == nil { // servers before 1.3.10 do not say
			targets = names
		}
		source, to := d.Parse(l.Code), []core.Language(nil)
		for _, c := range exchange.Codes(targets, d.Parse) {
			if c.Language != source {
				to = append(to, c.Language)
			}
		}
		if source != "" {
			o.Add(source, to)
		}
	}
	var settings struct {
		Most int `json:"charLimit"`
	}
	if len(bodies) > 1 && json.Unmarshal(bodies[1], &settings) == nil && settings.Most > 0 {
		o.Characters = settings.Most
	}
	return o, nil
}

// Knock is a call without a text: a key that is wrong is refused before that is seen.
func (d dialect) Knock() exchange.Call {
	c, _ := exchange.JSON("/translate", map[string]string{"source": "en", "target": "es", "api_key": d.key})
	return c
}

// Keyed is false: anybody may ask for the list.
func (dialect) Keyed() bool { return false }
