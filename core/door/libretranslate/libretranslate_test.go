package libretranslate_test

import (
	"strings"
	"sync/atomic"
	"testing"

	"go.uber.org/zap"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/door"
	"github.com/dragoman-mt/dragoman/core/door/doortest"
	"github.com/dragoman-mt/dragoman/core/door/libretranslate"
)

func serve(t testing.TB, c door.Config, translator core.Translator) string {
	t.Helper()
	return serveFrom(t, "", c, translator)
}

// serveFrom serves a door that keeps its files in folder.
func serveFrom(t testing.TB, folder string, c door.Config, translator core.Translator) string {
	t.Helper()
	return doortest.Serve(t, c, translator, func(s *door.Service, m *door.Metrics, log *zap.Logger) door.Dialect {
		return libretranslate.New(libretranslate.Defaults(), folder, s, m, log).Dialect()
	})
}

const (
	form  = "application/x-www-form-urlencoded"
	json  = "application/json"
	plain = "text/plain; charset=utf-8"
)

// A call and what its client reads of the answer.
type call struct {
	name, method, path, kind, body string
	status                         int
	want                           string // the whole body, or what it holds after "..."
}

func (c call) check(t *testing.T, url string) {
	t.Helper()
	res, body := doortest.Do(t, c.method, url+c.path, c.body, "Content-Type", c.kind)
	body = strings.TrimSpace(body)
	part, some := strings.CutPrefix(c.want, "...")
	if res.StatusCode != c.status || !some && body != c.want || some && !strings.Contains(body, part) {
		t.Errorf("%s: %d %s\nwant %d %s", c.name, res.StatusCode, body, c.status, c.want)
	}
}

// TestLibreTranslatesAnswers are those that its own tests and its clients rely on.
func TestLibreTranslatesAnswers(t *testing.T) {
	var calls atomic.Int64
	c := door.Defaults()
	c.MaxTexts = 3
	c.MaxText = 200
	url := serve(t, c, doortest.Pseudo(&calls))
	const sentence = "The weather is very nice today, and we are going to walk along the river."
	for _, call := range []call{
		{"text", "POST", "/translate", json, `{"q":"Hello","source":"en","target":"es"}`, 200, `{"translatedText":"[es] Hello"}`},
		{"Subtitle Edit: no type that says so, LibreTranslate's codes", "POST", "/translate", plain, `{"q":"Hello","source":"en","target":"pb","api_key":""}`, 200, `{"translatedText":"[pt-BR] Hello"}`},
		{"libretranslatepy: a form", "POST", "/translate", form, "q=Hello+you&source=en&target=zt", 200, `{"translatedText":"[zh-Hant] Hello you"}`},
		{"a form's line ends", "POST", "/translate", form, "q=a%0D%0Ab&source=en&target=es", 200, `{"translatedText":"[es] a\nb"}`},
		{"the query", "POST", "/translate?q=Hello&source=en&target=es", "", "", 200, `{"translatedText":"[es] Hello"}`},
		{"Weblate: an array", "POST", "/translate", json, `{"q":["one","two"],"source":"en","target":"de","api_key":""}`, 200, `{"translatedText":["[de] one","[de] two"]}`},
		{"Mastodon: html, auto, a null key", "POST", "/translate", json, `{"q":["<p>` + sentence + `</p>"],"source":"auto","target":"de","format":"html","api_key":null}`, 200, `..."translatedText":["<p>[de] ` + sentence + `</p>"],"detectedLanguage":[{"confidence":`},
		{"OBS: a template", "POST", "/translate", json, `{"q":"Hello","source":"__en__","target":"__es__","api_key":""}`, 200, `{"translatedText":"[es] Hello"}`},
		{"fields that nobody knows", "POST", "/translate", json, `{"q":"Hello","source":"en","target":"es","x":{"y":1},"secret":"s"}`, 200, `{"translatedText":"[es] Hello"}`},
		{"nothing to translate", "POST", "/translate", json, `{"q":"🎉 12:30","source":"auto","target":"es"}`, 200, `{"translatedText":"🎉 12:30","detectedLanguage":{"confidence":0,"language":"en"}}`},
		{"an empty text in an array", "POST", "/translate", json, `{"q":["","x"],"source":"en","target":"es"}`, 200, `{"translatedText":["","[es] x"]}`},
		{"a bar in a text", "POST", "/translate", json, `{"q":["a|b"],"source":"en","target":"es"}`, 200, `{"translatedText":["[es] a|b"]}`},
		{"alternatives", "POST", "/translate", json, `{"q":"x","source":"en","target":"es","alternatives":2}`, 200, `{"translatedText":"[es] x","alternatives":[]}`},
		{"alternatives of an array", "POST", "/translate", json, `{"q":["x"],"source":"en","target":"es","alternatives":2}`, 200, `{"translatedText":["[es] x"],"alternatives":[[]]}`},
		{"the same language", "POST", "/translate", json, `{"q":"x","source":"es","target":"es"}`, 200, `{"translatedText":"x"}`},

		{"no q", "POST", "/translate", json, `{"source":"en","target":"es"}`, 400, `{"error":"Invalid request: missing q parameter"}`},
		{"an empty q", "POST", "/translate", json, `{"q":"","source":"en","target":"es"}`, 400, `{"error":"Invalid request: missing q parameter"}`},
		{"an empty array", "POST", "/translate", json, `{"q":[],"source":"en","target":"es"}`, 400, `{"error":"Invalid request: missing q parameter"}`},
		{"no source", "POST", "/translate", json, `{"q":"x","target":"es"}`, 400, `{"error":"Invalid request: missing source parameter"}`},
		{"no target", "POST", "/translate", form, `q=x&source=en`, 400, `{"error":"Invalid request: missing target parameter"}`},
		{"an unknown target", "POST", "/translate", form, `q=x&source=en&target=zz`, 400, `{"error":"zz is not supported"}`},
		{"an unknown source", "POST", "/translate", form, `q=x&source=zz&target=en`, 400, `{"error":"zz is not supported"}`},
		{"an unknown format", "POST", "/translate", form, `q=x&source=en&target=es&format=xyz`, 400, `{"error":"xyz format is not supported"}`},
		{"alternatives that are no number", "POST", "/translate", form, `q=x&source=en&target=es&alternatives=x`, 400, `{"error":"Invalid request: alternatives parameter is not a number"}`},
		{"too many texts", "POST", "/translate", json, `{"q":["1","2","3","4"],"source":"en","target":"es"}`, 400, `{"error":"Invalid request: request (4) exceeds text limit (3)"}`},
		{"too long a text", "POST", "/translate", form, `q=` + strings.Repeat("x", 201) + `&source=en&target=es`, 400, `{"error":"Invalid request: request (201) exceeds text limit (200)"}`},
		{"broken JSON", "POST", "/translate", json, `{"q":`, 400, `{"error":"Invalid JSON format"}`},
		{"a GET", "GET", "/translate", "", "", 405, `...{"error":"405`},

		{"detect", "POST", "/detect", form, "q=" + strings.ReplaceAll(sentence, " ", "+"), 200, `..."language":"en"}]`},
		{"detect without q", "POST", "/detect", form, "", 400, `{"error":"Invalid request: missing q parameter"}`},
		{"detect what says nothing", "POST", "/detect", form, "q=123", 200, `[{"confidence":0,"language":"en"}]`},
		{"detect by GET", "GET", "/detect", "", "", 405, `...405`},
		{"languages with a body", "GET", "/languages", form, "api_key=x", 200, `...{"code":"en","name":"English","targets":["ar","bg"`},
		{"languages by POST", "POST", "/languages", "", "", 405, `...405`},
		{"settings", "GET", "/frontend/settings", "", "", 200, `..."charLimit":200`},
		{"suggest", "POST", "/suggest", form, "q=x", 403, `{"error":"Suggestions are disabled on this server."}`},
		{"a file", "POST", "/translate_file", form, "", 400, `{"error":"Invalid request: missing source parameter"}`},
		{"a file that there is not", "GET", "/download_file/x.txt", "", "", 404, `{"error":"404 Not Found"}`},
	} {
		call.check(t, url)
	}
}

// TestOnePathSpeaksSeveralDialects: who shares /translate is told apart by what it
// sends.
func TestOnePathSpeaksSeveralDialects(t *testing.T) {
	var calls atomic.Int64
	url := serve(t, door.Defaults(), doortest.Pseudo(&calls))
	for _, call := range []call{
		{"DeepLX, Subtitle Edit: JSON as text", "POST", "/translate", plain, `{"text":"Hello","source_lang":"EN","target_lang":"ES"}`, 200, `..."data":"[es] Hello"`},
		{"DeepLX: no alternatives, which would be taken in place of data", "POST", "/translate", json, `{"text":"Hello","source_lang":"auto","target_lang":"ES"}`, 200, `..."alternatives":[]`},
		{"DeepLX under a prefix, a language's name", "POST", "/deeplx/translate?token=any", json, `{"text":"Hello","source_lang":"auto","target_lang":"Traditional Chinese"}`, 200, `..."data":"[zh-Hant] Hello"`},
		{"DeepLX: tags", "POST", "/translate", json, `{"text":"x","target_lang":"ES","tag_handling":"md"}`, 400, `{"code":400,"message":"Invalid tag_handling value. Allowed values are 'html' and 'xml'."}`},
		{"DeepLX: an unknown language", "POST", "/translate", json, `{"text":"x","target_lang":"ZZ"}`, 400, `{"code":400,"message":"the target language is not supported"}`},
		{"MTranServer", "POST", "/translate", json, `{"text":"Hello","from":"en","to":"es"}`, 200, `{"result":"[es] Hello","src":"en","text":"[es] Hello"}`},
		{"KISS, several", "POST", "/kiss", json, `{"texts":["a","b"],"from":"","to":"es"}`, 200, `..."translations":[{"text":"[es] a","src":"`},
		{"Immersive", "POST", "/imme?token=x", json, `{"source_lang":"en","target_lang":"es","text_list":["a {0}","b"]}`, 200, `{"translations":[{"detected_source_lang":"en","text":"[es] a {0}"},{"detected_source_lang":"en","text":"[es] b"}]}`},
		{"Azure, from left empty", "POST", "/translate?api-version=3.0&from=&to=es&to=de", json, `[{"Text":"Hello"},{"text":"x"}]`, 200, `..."translations":[{"text":"[es] x","to":"es"},{"text":"[de] x","to":"de"}]}]`},
		{"Azure, languages", "GET", "/languages?api-version=3.0&scope=translation", "", "", 200, `..."es":{"name":"Spanish","nativeName":"Spanish","dir":"ltr"}`},
		{"Azure, detect", "POST", "/detect?api-version=3.0", json, `[{"Text":"The weather is very nice today, and we are going to walk along the river."}]`, 200, `..."isTranslationSupported":true`},
		{"Azure, no language", "POST", "/translate?api-version=3.0", json, `[{"Text":"Hello"}]`, 400, `...{"error":{"code":400000`},
		{"Azure, no texts", "POST", "/translate?api-version=3.0&to=es", json, `{}`, 400, `...{"error":{"code":400000`},
		{"Google, arrays", "GET", "/translate_a/single?client=gtx&sl=en&tl=es&dt=t&q=Hello", "", "", 200, `[[["[es] Hello","Hello"]],null,"en"]`},
		{"Google, an object", "GET", "/translate_a/single?client=gtx&sl=auto&tl=es&dj=1&q=Hello", "", "", 200, `..."sentences":[{"orig":"Hello","trans":"[es] Hello"}]`},
		{"Lingarr", "POST", "/api/translate/content", json, `{"sourceLanguage":"en","targetLanguage":"es","lines":[{"position":7,"line":"a"},{"position":9,"line":"b"}]}`, 200, `[{"position":7,"line":"[es] a"},{"position":9,"line":"[es] b"}]`},
		{"nobody's", "POST", "/translate", json, `{"hello":"x"}`, 400, `{"error":"Invalid request: missing q parameter"}`},
	} {
		call.check(t, url)
	}
}

// TestAKeyCountsWhereverAClientPutsIt
func TestAKeyCountsWhereverAClientPutsIt(t *testing.T) {
	var calls atomic.Int64
	c := door.Defaults()
	c.Keys = []door.Key{{Key: "right"}, {Key: "ops", Name: "ops", Role: door.Operate}}
	url := serve(t, c, doortest.Pseudo(&calls))
	const fields = `"q":"x","source":"en","target":"es"`
	for name, call := range map[string]struct {
		query, body string
		header      []string
		status      int
		want        string
	}{
		"none":                    {"", "{" + fields + "}", nil, 400, `{"error":"Please contact the server operator to get an API key"}`},
		"an empty one":            {"", `{"api_key":"",` + fields + "}", nil, 400, `...contact`},
		"a wrong one":             {"", `{"api_key":"wrong",` + fields + "}", nil, 403, `{"error":"Invalid API key"}`},
		"an operator's":           {"", `{"api_key":"ops",` + fields + "}", nil, 403, `...operator`},
		"in the body":             {"", `{"api_key":"right",` + fields + "}", nil, 200, ""},
		"in the query":            {"?api_key=right", "{" + fields + "}", nil, 200, ""},
		"Bearer":                  {"", "{" + fields + "}", []string{"Authorization", "Bearer right"}, 200, ""},
		"bare":                    {"", "{" + fields + "}", []string{"Authorization", "right"}, 200, ""},
		"api-key":                 {"", "{" + fields + "}", []string{"api-key", "right"}, 200, ""},
		"a wrong one beside it":   {"", `{"api_key":"wrong",` + fields + "}", []string{"X-Api-Key", "right"}, 200, ""},
		"Azure's":                 {"", "{" + fields + "}", []string{"Ocp-Apim-Subscription-Key", "right"}, 200, ""},
		"another page with a key": {"", `{"api_key":"right",` + fields + "}", []string{"Origin", "https://other.example"}, 200, ""},
	} {
		res, body := doortest.Do(t, "POST", url+"/translate"+call.query, call.body, call.header...)
		if res.StatusCode != call.status || !strings.Contains(body, strings.TrimPrefix(call.want, "...")) {
			t.Errorf("%s: %d %s, want %d %s", name, res.StatusCode, body, call.status, call.want)
		}
		if got := res.Header.Get("Access-Control-Allow-Origin"); got != "*" {
			t.Errorf("%s: pages may call: %q", name, got)
		}
	}
}

// TestTagsComeBackWhateverTheAnswerLost: an engine that drops or spoils tags costs a
// sentence its context, never a document its structure.
func TestTagsComeBackWhateverTheAnswerLost(t *testing.T) {
	const page = `<p>Hello <a href="https://x.example/?a=1&amp;b=2">dear friend</a> &amp; all<br>of <b>you</b></p><script>var x = "Hello";</script><i translate="no">Dragoman</i>`
	for name, engine := range map[string]struct {
		say  func(string) string
		want string
	}{
		"keeps them": {func(s string) string { return strings.ReplaceAll(s, "Hello ", "Hola ") }, strings.Replace(page, "<p>Hello ", "<p>Hola ", 1)},
		"drops them": {func(s string) string { return strings.NewReplacer("<b>", "", "</b>", "").Replace(strings.ToUpper(s)) }, `<p>HELLO <a href="https://x.example/?a=1&amp;b=2">DEAR FRIEND</a> &amp; ALL<br>OF <b>YOU</b></p><script>var x = "Hello";</script><i translate="no">Dragoman</i>`},
		"adds some":  {func(s string) string { return s + "<b>" }, `<p>Hello&lt;b&gt; <a href="https://x.example/?a=1&amp;b=2">dear friend&lt;b&gt;</a> &amp; all&lt;b&gt;<br>of&lt;b&gt; <b>you&lt;b&gt;</b></p><script>var x = "Hello";</script><i translate="no">Dragoman</i>`},
	} {
		url := serve(t, door.Defaults(), doortest.Translator(func(_ ctx, req *core.Request) (*core.Result, error) {
			return &core.Result{Text: engine.say(req.Text)}, nil
		}))
		_, body := doortest.Do(t, "POST", url+"/translate", `{"format":"html","source":"en","target":"es","q":`+quoted(page)+`}`)
		if got := read(t, body); got != engine.want {
			t.Errorf("an engine that %s: %s\nwant %s", name, got, engine.want)
		}
	}
}

// TestAnEngineThatNeedsALanguageIsTold which one its text seems to be in.
func TestAnEngineThatNeedsALanguageIsTold(t *testing.T) {
	var asked atomic.Value
	engine := doortest.Limited{
		Translator: func(_ ctx, req *core.Request) (*core.Result, error) {
			asked.Store(req.Source)
			return &core.Result{Text: "x"}, nil
		},
		Known: []core.LanguageInfo{{Source: "en", Targets: []core.Language{"es"}}, {Source: "es", Targets: []core.Language{"en"}}},
	}
	url := serve(t, door.Defaults(), engine)
	res, body := doortest.Do(t, "POST", url+"/translate", `{"q":"The weather is very nice today, and we are going to walk along the river.","source":"auto","target":"es"}`)
	if asked.Load() != core.Language("en") || res.StatusCode != 200 || !strings.Contains(body, `"language":"en"`) {
		t.Errorf("the engine was told %v: %d %s", asked.Load(), res.StatusCode, body)
	}
	for _, call := range []call{
		{"a pair that there is not", "POST", "/translate", json, `{"q":"x","source":"en","target":"fr"}`, 400, `{"error":"fr is not supported"}`},
		{"languages", "GET", "/languages", "", "", 200, `[{"code":"en","name":"English","targets":["es"]},{"code":"es","name":"Spanish","targets":["en"]}]`},
	} {
		call.check(t, url)
	}
}
