// Package azure is the provider kind `azure`: it translates with Azure Translator,
// version 3, over the process's upstream connections.
package azure

import (
	"encoding/json"
	"errors"
	"html"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/text/language"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/exchange"
	"github.com/dragoman-mt/dragoman/core/text/glossary"
)

// Config is an entry of `providers:` of type azure.
type Config struct {
	BaseURL  string        `json:"base_url" credentials:"true" jsonschema:"minLength=1" jsonschema_description:"Where the API is: that of all resources, of a geography (https://api-eur.cognitive.microsofttranslator.com), or your resource's own (https://NAME.cognitiveservices.azure.com)."`
	APIKey   core.Secret   `json:"api_key" jsonschema_description:"A key of your Translator resource, usually ${AZURE_TRANSLATOR_KEY:-}, sent as Ocp-Apim-Subscription-Key. Microsoft needs one."`
	Region   string        `json:"region" jsonschema:"maxLength=64" jsonschema_description:"The region of your resource, such as westeurope, sent as Ocp-Apim-Subscription-Region. Empty for a global resource."`
	Category string        `json:"category" jsonschema:"maxLength=200" jsonschema_description:"The category of a system of your own, of Custom Translator; empty: the general one."`
	Timeout  time.Duration `json:"timeout" jsonschema_extras:"minDuration=10ms,maxDuration=10m" jsonschema_description:"The longest that one attempt may take, from the first byte sent to the last one received."`
	Price    *core.Price   `json:"price" jsonschema_description:"What the provider takes, so that usage is told in money too."`
}

const example = "https://api.cognitive.microsofttranslator.com"

func defaults() Config { return Config{BaseURL: example, Timeout: 3 * time.Second} }

// Longest returns how long one attempt may take.
func (c *Config) Longest() time.Duration { return c.Timeout }

// Kind declares the provider kind `azure`.
func Kind() core.Kind {
	return core.NewKind("azure", core.RoleProvider, "Translates with Azure Translator (v3).", defaults, build)
}

// ofResource is the path of the API at a resource's own address.
const ofResource = "/translator/text/v3.0"

func build(env core.Env, c *Config) (any, error) {
	base, err := address(c.BaseURL)
	if err != nil {
		return nil, exchange.About(env, "base_url", err)
	}
	key, region := strings.TrimSpace(c.APIKey.Reveal()), strings.TrimSpace(c.Region)
	set := exchange.Settings{System: "azure", Base: base, Secrets: []string{key}, Timeout: c.Timeout, Header: http.Header{}, Options: c.Category}
	switch host := strings.ToLower(base.Hostname()); {
	case key != "":
		set.Header["Ocp-Apim-Subscription-Key"] = []string{key}
	case isResource(base), strings.Contains(host, "microsofttranslator."), strings.Contains(host, "translator.azure."):
		set.NeedsKey = "set AZURE_TRANSLATOR_KEY, or name another provider in use"
	}
	if region != "" {
		set.Header["Ocp-Apim-Subscription-Region"] = []string{region}
	}
	return exchange.NewEngine(env, set, dialect{c.Category})
}

// address reads base_url.
func address(raw string) (*url.URL, error) {
	base, err := exchange.Base(raw, example)
	if err != nil {
		return nil, err
	}
	base.Path = strings.TrimSuffix(strings.TrimRight(base.Path, "/"), "/translate")
	if isResource(base) && base.Path == "" {
		base.Path = ofResource
	}
	return base, nil
}

// isResource says whether u is the address of one resource.
func isResource(u *url.URL) bool {
	return strings.Contains(strings.ToLower(u.Hostname()), ".cognitiveservices.azure.")
}

type dialect struct{ category string }

func (dialect) Code(l core.Language, target bool) string {
	if target && slices.Contains([]core.Language{"pt-PT", "fr-CA"}, l) {
		return strings.ToLower(string(l))
	}
	script, _ := l.Tag().Script()
	switch base := l.Base(); {
	case base == "zh" && script == language.MustParseScript("Hant"):
		return "zh-Hant"
	case base == "zh":
		return "zh-Hans"
	case base == "sr" && script == language.MustParseScript("Cyrl"):
		return "sr-Cyrl"
	case base == "sr":
		return "sr-Latn"
	case base == "no":
		return "nb"
	case base == "mn":
		return "mn-Cyrl"
	default:
		return base
	}
}

func (dialect) Parse(code string) core.Language { return exchange.Parse(code) }

func (dialect) Limit() exchange.Limit { return exchange.Limit{Texts: 1000, Characters: 50_000} }

// version is that of the API that is asked for.
const version = "3.0"

func (d dialect) Call(t exchange.Task) (exchange.Call, error) {
	type text struct {
		Text string `json:"Text"`
	}
	var body []text
	for _, req := range t.Reqs {
		body = append(body, text{marked(req, t.Source)})
	}
	c, err := exchange.JSON("/translate", body)
	c.Query = url.Values{"api-version": {version}, "to": {t.Target}, "textType": {"plain"}}
	if t.Source != "" {
		c.Query.Set("from", t.Source)
	}
	if d.category != "" {
		c.Query.Set("category", d.category)
	}
	return c, err
}

// marked returns the text of req with its terms as Microsoft's dynamic dictionary wants them
// (https://learn.microsoft.com/azure/ai-services/translator/dynamic-dictionary): from or into
// English, and with the source language said. A text with signs of markup is left as it is.
func marked(req *core.Request, source string) string {
	if source == "" || len(req.Terms) == 0 || req.Source.Base() != "en" && req.Target.Base() != "en" || strings.ContainsAny(req.Text, "<>&") {
		return req.Text
	}
	return glossary.Mark(req.Text, req.Terms, func(term, translation string) string {
		return `<mstrans:dictionary translation="` + html.EscapeString(translation) + `">` + term + `</mstrans:dictionary>`
	})
}

func (dialect) Read(raw []byte, _ int) ([]exchange.Translation, error) {
	var answer []struct {
		Detected struct {
			Language string `json:"language"`
		} `json:"detectedLanguage"`
		Translations []struct {
			Text *string `json:"text"`
		} `json:"translations"`
	}
	if err := json.Unmarshal(raw, &answer); err != nil {
		return nil, err
	}
	all := make([]exchange.Translation, len(answer))
	for i, t := range answer {
		if len(t.Translations) == 0 || t.Translations[0].Text == nil {
			return nil, errors.New("a translation has no text")
		}
		all[i] = exchange.Translation{Text: *t.Translations[0].Text, Detected: t.Detected.Language}
	}
	return all, nil
}

// Refused reads Microsoft's codes: a status and three digits more.
func (dialect) Refused(status int, f exchange.Fault) (core.ErrorKind, string) {
	switch {
	case f.Is("403001"), f.Is("outofcallvolumequota"), status == http.StatusForbidden && f.Says("quota", "call volume"):
		return core.QuotaExceeded, ""
	case f.Is("400036", "400004"):
		return core.UnsupportedLanguage, "target"
	case f.Is("400035", "400018"):
		return core.UnsupportedLanguage, "source"
	case f.Is("400003", "400006", "400019", "400023", "400075", "400079"):
		return core.UnsupportedLanguage, ""
	case f.Is("400050", "400072", "400077"):
		return core.TooLarge, ""
	}
	return "", ""
}

func (dialect) Lists() []exchange.Call {
	return []exchange.Call{{Path: "/languages", Query: url.Values{"api-version": {version}, "scope": {"translation"}}}}
}

func (d dialect) ReadLists(bodies [][]byte) (*exchange.Offer, error) {
	var list struct {
		Translation map[string]json.RawMessage `json:"translation"`
	}
	if len(bodies) == 0 {
		return nil, errors.New("there is no list")
	}
	if err := json.Unmarshal(bodies[0], &list); err != nil {
		return nil, err
	}
	var names []string
	for name := range list.Translation {
		names = append(names, name)
	}
	slices.Sort(names)
	codes := exchange.Codes(names, d.Parse)
	return exchange.Every(codes, codes), nil
}

// Knock is a call with no texts.
func (dialect) Knock() exchange.Call {
	return exchange.Call{Path: "/translate", Body: []byte("[]"), Query: url.Values{"api-version": {version}, "to": {"es"}, "textType": {"plain"}}}
}

// Keyed is false: anybody may ask for the list.
func (dialect) Keyed() bool { return false }
