// Package deepl is the provider kind `deepl`: it translates with DeepL, or a server that
// speaks its API, over the process's upstream connections.
package deepl

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/exchange"
)

// Config is an entry of `providers:` of type deepl.
type Config struct {
	BaseURL    string            `json:"base_url" credentials:"true" jsonschema_description:"Where the API is, as DeepL's own libraries take it: https://api-free.deepl.com, with or without /v2. Empty: DeepL's, for free accounts if api_key ends in :fx."`
	APIKey     core.Secret       `json:"api_key" jsonschema_description:"The key of your account, usually ${DEEPL_API_KEY:-}, sent as Authorization: DeepL-Auth-Key. Empty: not sent, as servers of your own may want it."`
	Timeout    time.Duration     `json:"timeout" jsonschema_extras:"minDuration=10ms,maxDuration=10m" jsonschema_description:"The longest that one attempt may take, from the first byte sent to the last one received."`
	Glossaries map[string]string `json:"glossaries" jsonschema_description:"Names of glossaries, as requests use them, and the glossary_id that each has at DeepL."`
	Price      *core.Price       `json:"price" jsonschema_description:"What the provider takes, so that usage is told in money too."`
}

func defaults() Config { return Config{Timeout: 3 * time.Second} }

// Longest returns how long one attempt may take.
func (c *Config) Longest() time.Duration { return c.Timeout }

// Kind declares the provider kind `deepl`.
func Kind() core.Kind {
	return core.NewKind("deepl", core.RoleProvider, "Translates with DeepL, or a server that speaks its API.", defaults, build)
}

func build(env core.Env, c *Config) (any, error) {
	key := strings.TrimSpace(c.APIKey.Reveal())
	raw := c.BaseURL
	switch {
	case strings.TrimSpace(raw) != "":
	case strings.HasSuffix(key, ":fx"):
		raw = "https://api-free.deepl.com"
	default:
		raw = "https://api.deepl.com"
	}
	base, err := exchange.Base(raw, "https://api-free.deepl.com")
	if err != nil {
		return nil, exchange.About(env, "base_url", err)
	}
	base.Path = strings.TrimSuffix(strings.TrimSuffix(strings.TrimRight(base.Path, "/"), "/translate"), "/v2")
	set := exchange.Settings{System: "deepl", Base: base, Secrets: []string{key}, Timeout: c.Timeout, Header: http.Header{}}
	for _, name := range slices.Sorted(maps.Keys(c.Glossaries)) {
		if strings.TrimSpace(c.Glossaries[name]) == "" {
			return nil, exchange.About(env, "glossaries."+name, fmt.Errorf("is empty; write the glossary_id that DeepL gave"))
		}
		set.Options += fmt.Sprintf("%q=%q\n", name, c.Glossaries[name])
	}
	switch host := strings.ToLower(base.Hostname()); {
	case key != "":
		set.Header["Authorization"] = []string{"DeepL-Auth-Key " + key}
	case host == "deepl.com" || strings.HasSuffix(host, ".deepl.com"):
		set.NeedsKey = "set DEEPL_API_KEY, or name another provider in use"
	}
	return exchange.NewEngine(env, set, dialect{c.Glossaries})
}

type dialect struct{ glossaries map[string]string }

// variants are the targets that DeepL tells apart within a language.
var variants = exchange.Codes([]string{"EN-US", "EN-GB", "PT-BR", "PT-PT", "ZH-HANS", "ZH-HANT", "ES", "ES-419"}, exchange.Parse)

func (dialect) Code(l core.Language, target bool) string {
	if target {
		if code, ok := exchange.Find(l, variants, true); ok {
			return code
		}
	}
	switch base := l.Base(); base {
	case "no":
		return "NB"
	case "fil":
		return "TL"
	default:
		return strings.ToUpper(base)
	}
}

func (dialect) Parse(code string) core.Language {
	if strings.EqualFold(code, "zh") {
		return "zh" // of both scripts
	}
	return exchange.Parse(code)
}

func (dialect) Limit() exchange.Limit {
	// The body may have 128 KiB; what is not a text takes some of it.
	return exchange.Limit{Texts: 50, Bytes: 128<<10 - 16<<10}
}

type body struct {
	Texts        []string `json:"text"`
	Source       string   `json:"source_lang,omitempty"`
	Target       string   `json:"target_lang"`
	Formality    string   `json:"formality,omitempty"`
	Glossary     string   `json:"glossary_id,omitempty"`
	Context      string   `json:"context,omitempty"`
	Instructions []string `json:"custom_instructions,omitempty"`
	Billed       bool     `json:"show_billed_characters"`
}

const (
	mostInstructions   = 10
	longestInstruction = 300
	longestContext     = 2000 // in code points; it is not billed, and read all the same
)

// instructed are the targets for which DeepL takes instructions.
var instructed = []string{"de", "en", "es", "fr", "it", "ja", "ko", "zh"}

func (d dialect) Call(t exchange.Task) (exchange.Call, error) {
	req := t.Reqs[0]
	b := body{Source: t.Source, Target: t.Target, Billed: true, Context: before(req.Context)}
	for _, r := range t.Reqs {
		b.Texts = append(b.Texts, r.Text)
	}
	// Those without prefer_ are refused for languages that have one form of address.
	switch req.Formality {
	case core.Formal:
		b.Formality = "prefer_more"
	case core.Informal:
		b.Formality = "prefer_less"
	}
	if t.Source != "" { // DeepL wants it with a glossary
		b.Glossary = d.glossaries[req.Glossary]
	}
	if slices.Contains(instructed, req.Target.Base()) {
		for _, wish := range append(slices.Clip(req.Instructions), terms(t.Reqs, b.Glossary)...) {
			if wish = strings.Join(strings.Fields(wish), " "); wish != "" && utf8.RuneCountInString(wish) <= longestInstruction && len(b.Instructions) < mostInstructions {
				b.Instructions = append(b.Instructions, wish)
			}
		}
	}
	return exchange.JSON("/v2/translate", b)
}

// terms returns what is said of the terms that occur in texts, unless they are in a
// glossary that DeepL has.
func terms(reqs []*core.Request, glossary string) (wishes []string) {
	if glossary != "" {
		return nil
	}
	for _, r := range reqs {
		for _, t := range r.Terms {
			if wish := fmt.Sprintf("Translate %q as %q.", t.Source, t.Target); !slices.Contains(wishes, wish) {
				wishes = append(wishes, wish)
			}
		}
	}
	return wishes
}

// before returns the text around, cut if it is long, or else the texts that came before,
// the newest of them if they are many.
func before(pairs []core.Pair) string {
	room := longestContext
	for i, pair := range pairs {
		if pair.Target != "" {
			continue
		}
		around := []rune(pair.Source)
		around = around[:min(len(around), room)]
		if room -= len(around) + 1; room < 0 || len(pairs) == 1 {
			return string(around)
		}
		return strings.TrimSpace(string(around) + "\n" + earlier(slices.Delete(slices.Clone(pairs), i, i+1), room))
	}
	return earlier(pairs, room)
}

func earlier(pairs []core.Pair, room int) string {
	var texts []string
	for _, pair := range slices.Backward(pairs) {
		if room -= utf8.RuneCountInString(pair.Source) + 1; room < 0 {
			break
		}
		texts = append(texts, pair.Source)
	}
	slices.Reverse(texts)
	return strings.Join(texts, "\n")
}

func (dialect) Read(raw []byte, _ int) ([]exchange.Translation, error) {
	var answer struct {
		Translations []struct {
			Text     *string `json:"text"`
			Detected string  `json:"detected_source_language"`
			Billed   float64 `json:"billed_characters"`
			Model    string  `json:"model_type_used"`
		} `json:"translations"`
	}
	if err := json.Unmarshal(raw, &answer); err != nil {
		return nil, err
	}
	all := make([]exchange.Translation, len(answer.Translations))
	for i, t := range answer.Translations {
		if t.Text == nil {
			return nil, errors.New("a translation has no text")
		}
		all[i] = exchange.Translation{Text: *t.Text, Detected: t.Detected}
		if t.Billed > 0 && t.Billed < 1<<30 {
			all[i].Characters = int(t.Billed)
		}
	}
	return all, nil
}

func (dialect) Refused(status int, f exchange.Fault) (core.ErrorKind, string) {
	switch {
	case status == http.StatusForbidden && f.Says("quota", "limit"):
		return core.QuotaExceeded, ""
	case status == http.StatusBadRequest && f.Says("target_lang"):
		return core.UnsupportedLanguage, "target"
	case status == http.StatusBadRequest && f.Says("source_lang") && !f.Says("glossary"):
		return core.UnsupportedLanguage, "source"
	case status == http.StatusBadRequest && f.Says("too large", "too long"):
		return core.TooLarge, ""
	}
	return "", ""
}

func (dialect) Lists() []exchange.Call {
	list := func(of string) exchange.Call {
		return exchange.Call{Path: "/v2/languages", Query: url.Values{"type": {of}}}
	}
	return []exchange.Call{list("source"), list("target")}
}

func (d dialect) ReadLists(bodies [][]byte) (*exchange.Offer, error) {
	var lists [2][]exchange.Code
	for i, raw := range bodies[:min(len(bodies), len(lists))] {
		var list []struct {
			Language string `json:"language"`
		}
		if err := json.Unmarshal(raw, &list); err != nil {
			return nil, err
		}
		var names []string
		for _, l := range list {
			names = append(names, l.Language)
		}
		lists[i] = exchange.Codes(names, d.Parse)
	}
	return exchange.Every(lists[0], lists[1]), nil
}

// Knock is a call without a text.
func (dialect) Knock() exchange.Call { return exchange.Call{Path: "/v2/translate", Body: []byte("{}")} }

// Keyed is true: the list of languages wants the key.
func (dialect) Keyed() bool { return true }
