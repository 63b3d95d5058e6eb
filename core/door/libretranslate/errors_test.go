package libretranslate_test

import (
	"context"
	"strings"
	"testing"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/door"
	"github.com/dragoman-mt/dragoman/core/door/doortest"
)

// TestEveryErrorIsInTheWordsOfItsProtocol: those of LibreTranslate, and of the small
// protocols that share its path.
func TestEveryErrorIsInTheWordsOfItsProtocol(t *testing.T) {
	config := door.Defaults()
	config.Keys = []door.Key{
		{Name: "free", Key: "free"}, {Name: "poor", Key: "poor", CharactersPerMonth: 3}, {Name: "hasty", Key: "hasty", RequestsPerMinute: 1},
		{Name: "elsewhere", Key: "elsewhere", Doors: []string{"openai"}},
	}
	engine := doortest.Limited{
		Translator: func(_ context.Context, req *core.Request) (*core.Result, error) {
			if kind, ok := strings.CutPrefix(req.Text, "fails: "); ok {
				return nil, &core.Error{Kind: core.ErrorKind(kind), Detail: "why"}
			}
			return &core.Result{Text: "x"}, nil
		},
		Known: []core.LanguageInfo{{Source: "en", Targets: []core.Language{"es", "fr"}}, {Source: "es", Targets: []core.Language{"en"}}},
	}
	url := serve(t, config, engine)
	q := func(text, key string) string {
		return `{"q":` + quoted(text) + `,"source":"en","target":"es","api_key":"` + key + `"}`
	}
	deeplx := func(text string) string { return `{"text":` + quoted(text) + `,"source_lang":"EN","target_lang":"ES"}` }
	const (
		azure  = "/translate?api-version=3.0&from=en&to=es&key=free"
		google = "/translate_a/single?client=gtx&sl=en&tl=es&dt=t&key="
	)
	for _, call := range []call{
		{"no key", "POST", "/translate", json, q("x", ""), 400, `{"error":"Please contact the server operator to get an API key"}`},
		{"a wrong key", "POST", "/translate", json, q("x", "nobodys"), 403, `{"error":"Invalid API key"}`},
		{"a key for other doors", "POST", "/translate", json, q("x", "elsewhere"), 403, `..."error":"the key is for other doors`},
		{"no key to detect", "POST", "/detect", json, `{"q":"x"}`, 400, `{"error":"Please contact the server operator to get an API key"}`},
		{"the quota is used up", "POST", "/translate", json, q("four", "poor"), 403, `..."error":"Too many request limits violations`},
		{"too many calls: the first", "POST", "/translate", json, q("x", "hasty"), 200, `{"translatedText":"x"}`},
		{"too many calls", "POST", "/translate", json, q("x", "hasty"), 429, `{"error":"Slowdown: 1 per 1 minute"}`},
		{"a pair that there is not", "POST", "/translate", json, `{"q":"fails: unsupported_language","source":"es","target":"fr","api_key":"free"}`, 400, `{"error":"French (fr) is not available as a target language from Spanish (es)"}`},
		{"the order of checks", "POST", "/translate", json, `{"q":"x","source":"zz","target":"yy","format":"xyz","alternatives":"x","api_key":"free"}`, 400, `{"error":"Invalid request: alternatives parameter is not a number"}`},
		{"source before target before format", "POST", "/translate", json, `{"q":"x","source":"zz","target":"yy","format":"xyz","api_key":"free"}`, 400, `{"error":"zz is not supported"}`},
		{"a provider that fails", "POST", "/translate", json, q("fails: provider_failed", "free"), 502, `{"error":"why"}`},
		{"time that ran out", "POST", "/translate", json, q("fails: deadline_exceeded", "free"), 504, `{"error":"why"}`},
		{"a defect of ours", "POST", "/translate", json, q("fails: internal", "free"), 500, `..."error":"`},

		{"DeepLX: no key", "POST", "/translate", json, deeplx("x"), 401, `{"code":401,"message":"Invalid access token"}`},
		{"DeepLX: a wrong key", "POST", "/translate?token=nobodys", json, deeplx("x"), 401, `{"code":401,"message":"Invalid access token"}`},
		{"DeepLX: the quota is used up", "POST", "/translate?token=poor", json, deeplx("four"), 429, `..."code":429,"message":"`},
		{"DeepLX: a provider that fails", "POST", "/translate?token=free", json, deeplx("fails: provider_failed"), 502, `{"code":502,"message":"why"}`},
		{"DeepLX: broken JSON under its prefix", "POST", "/deeplx/translate?token=free", json, `{"text":`, 400, `..."code":400,"message":"`},
		{"Azure: no key", "POST", "/translate?api-version=3.0&to=es", json, `[{"Text":"x"}]`, 401, `...{"error":{"code":401000,"message":"`},
		{"Azure: a provider that fails", "POST", azure, json, `[{"Text":"fails: provider_failed"}]`, 502, `...{"error":{"code":502000,"message":"why"`},
		{"Google: a wrong key", "GET", google + "nobodys&q=x", "", "", 401, `{"code":401,"message":"Invalid access token"}`},
		{"Lingarr: a wrong key", "POST", "/api/translate/content", json, `{"sourceLanguage":"en","targetLanguage":"es","lines":[{"position":1,"line":"x"}]}`, 401, `{"code":401,"message":"Invalid access token"}`},
		{"Lingarr: no lines", "POST", "/api/translate/content?key=free", json, `{"sourceLanguage":"en","targetLanguage":"es","lines":7}`, 400, `..."code":400,"message":"lines is not`},
		{"Immersive: a wrong key", "POST", "/translate?token=nobodys", json, `{"source_lang":"en","target_lang":"es","text_list":["x"]}`, 401, `{"code":401,"message":"Invalid access token"}`},
		{"KISS: a wrong key", "POST", "/kiss", json, `{"text":"x","from":"en","to":"es"}`, 401, `{"code":401,"message":"Invalid access token"}`},
		{"KISS: no language", "POST", "/kiss?key=free", json, `{"text":"x"}`, 400, `..."code":400,"message":"`},
		{"Azure: detect without texts", "POST", "/detect?api-version=3.0&key=free", json, `{}`, 400, `...{"error":{"code":400000,"message":"`},
		{"Azure: broken JSON", "POST", azure, json, `[{"Text":`, 400, `...{"error":{"code":400000,"message":"`},
		{"MTranServer: a provider that fails", "POST", "/translate?token=free", json, `{"text":"fails: provider_failed","from":"en","to":"es"}`, 502, `...why`},
	} {
		call.check(t, url)
	}
}
