package gateway

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/dragoman-mt/dragoman/core/coretest/property"
	"github.com/dragoman-mt/dragoman/stages/openai/openaitest"
)

// A visitor is a client of another service as far as a test has to know it: it calls,
// and reads what it is answered by the rules of that client's own code.
type visitor struct {
	t   *testing.T
	url string
}

// call makes a call as a client does and returns what came, whatever its status.
func (v visitor) call(method, path, kind, body string, header ...string) (int, string) {
	v.t.Helper()
	r, err := http.NewRequestWithContext(v.t.Context(), method, v.url+path, strings.NewReader(body))
	if err != nil {
		v.t.Fatal(err)
	}
	if kind != "" {
		r.Header.Set("Content-Type", kind)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		v.t.Fatal(err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		v.t.Fatal(err)
	}
	return res.StatusCode, string(raw)
}

const asJSON, asForm = "application/json", "application/x-www-form-urlencoded"

// chat asks for a chat completion of the model and returns the whole body. Content is
// that of the last message of the user; before are messages in front of it, and more
// are further parameters.
func (v visitor) chat(model, before, content, more string) (int, string) {
	quoted, _ := json.Marshal(content)
	return v.call("POST", "/v1/chat/completions", asJSON, `{"model":"`+model+`","messages":[`+before+`{"role":"user","content":`+string(quoted)+`}]`+more+`}`, "Authorization", "Bearer x")
}

// content is what most clients read: choices[0].message.content.
func (v visitor) content(status int, body string) string {
	var a struct {
		Choices []struct{ Message struct{ Content *string } }
	}
	if err := json.Unmarshal([]byte(body), &a); err != nil || status != 200 || len(a.Choices) != 1 || a.Choices[0].Message.Content == nil {
		return fmt.Sprintf("[ERROR] %d %s", status, body)
	}
	return *a.Choices[0].Message.Content
}

// typed reads as LiveCaptions-Translator's deserialiser: numbers are integers and never
// null, logprobs is text, null or absent. It strips thoughts and its marks.
func (v visitor) typed(status int, body string) string {
	var a struct {
		Created *float64
		Choices []struct {
			Message  struct{ Content *string }
			Logprobs *string
		}
		Usage map[string]json.RawMessage
	}
	if err := json.Unmarshal([]byte(body), &a); err != nil || status != 200 || a.Created == nil || *a.Created != math.Trunc(*a.Created) {
		return fmt.Sprintf("[ERROR] %d %s", status, body)
	}
	for _, key := range []string{"prompt_tokens", "completion_tokens", "total_tokens"} {
		var n int
		if json.Unmarshal(a.Usage[key], &n) != nil || string(a.Usage[key]) == "null" {
			return "[ERROR] " + key
		}
	}
	text := regexp.MustCompile(`(?s)<think>.*?</think>`).ReplaceAllString(*a.Choices[0].Message.Content, "")
	return strings.TrimSpace(strings.ReplaceAll(text, "🔤", ""))
}

// firstContent reads as Subtitle Edit: the first text under a key `content`, anywhere.
func (v visitor) firstContent(status int, body string) string {
	m := regexp.MustCompile(`"content"\s*:\s*("(?:[^"\\]|\\.)*")`).FindStringSubmatch(body)
	var text string
	if status != 200 || m == nil || json.Unmarshal([]byte(m[1]), &text) != nil {
		return fmt.Sprintf("[ERROR] %d %s", status, body)
	}
	return strings.Trim(text, `"`)
}

// lines reads a stream as LunaTranslator: lines that begin with "data: ", until one says
// that it is finished.
func (v visitor) lines(status int, body string) (text string) {
	for line := range strings.Lines(body) {
		data, ok := strings.CutPrefix(strings.TrimRight(line, "\r\n"), "data: ")
		if !ok || data == "[DONE]" {
			continue
		}
		var c struct {
			Choices []struct {
				Delta  struct{ Content string }
				Finish *string `json:"finish_reason"`
			}
		}
		if err := json.Unmarshal([]byte(data), &c); err != nil {
			return "[ERROR] " + data
		}
		if len(c.Choices) == 0 {
			continue
		}
		if c.Choices[0].Finish != nil && c.Choices[0].Delta.Content == "" {
			return text
		}
		text += c.Choices[0].Delta.Content
	}
	return fmt.Sprintf("[ERROR] %d it never finished: %s", status, body)
}

// split reads a stream as Pot and Zotero do: what stands between two "data:" is JSON.
func (v visitor) split(status int, body string) (text string) {
	parts := strings.Split(body, "data:")
	for _, part := range parts[1:] {
		if strings.TrimSpace(part) == "[DONE]" {
			return text
		}
		var c struct {
			Choices []struct{ Delta struct{ Content string } }
		}
		if err := json.Unmarshal([]byte(part), &c); err != nil || len(c.Choices) == 0 {
			return "[ERROR] " + part
		}
		text += c.Choices[0].Delta.Content
	}
	return fmt.Sprintf("[ERROR] %d %s", status, body)
}

// deltas reads a stream of a response as Bob does: what its deltas add up to, once it is
// completed.
func (v visitor) deltas(body string) (text string) {
	kind := ""
	for line := range strings.Lines(body) {
		line = strings.TrimRight(line, "\r\n")
		if name, ok := strings.CutPrefix(line, "event: "); ok {
			kind = name
		}
		data, ok := strings.CutPrefix(line, "data: ")
		var e struct{ Type, Delta string }
		switch {
		case !ok:
		case json.Unmarshal([]byte(data), &e) != nil || e.Type != kind:
			return "[ERROR] " + line
		case e.Type == "response.output_text.delta":
			text += e.Delta
		case e.Type == "response.completed":
			return text
		}
	}
	return "[ERROR] " + body
}

// field returns what stands at a path of names and places in JSON.
func field(body string, path ...any) string {
	var v any
	if err := json.Unmarshal([]byte(body), &v); err != nil {
		return "[ERROR] " + body
	}
	for _, step := range path {
		switch s := step.(type) {
		case string:
			m, _ := v.(map[string]any)
			v = m[s]
		case int:
			list, _ := v.([]any)
			if s >= len(list) {
				return "[ERROR] " + body
			}
			v = list[s]
		}
	}
	text, ok := v.(string)
	if !ok {
		return "[ERROR] " + body
	}
	return text
}

// TestClientsShowTheirUsersTheTranslation: each is sent as that client's code sends it,
// and read as that client's code reads.
func TestClientsShowTheirUsersTheTranslation(t *testing.T) {
	sim, err := openaitest.Start(openaitest.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sim.Close() })
	base := indoors(t, `version: 1
log: {level: error}
server: {languages: {target: [es, de, fr]}}
doors: {openai: {models: {gpt-4o-mini: {translate: {source: en, target: es}}}}}
providers:
  main: {type: openai, api_key: x, base_url: "`+sim.URL()+`"}
stages:
  - cache
  - queue: {max_concurrent: 8}
  - provider: {use: main}
  - postprocess
`)
	v := visitor{t, base}
	const system = `{"role":"system","content":"As an professional simultaneous interpreter, translate the sentence in 🔤 to es."},`
	const context = system + `{"role":"user","content":"🔤 Second. 🔤"},{"role":"assistant","content":"🔤 Segundo. 🔤"},{"role":"user","content":"🔤 First. 🔤"},{"role":"assistant","content":"🔤 Primero. 🔤"},`
	var rows []struct{ client, shown, want string }
	show := func(client, shown, want string) {
		rows = append(rows, struct{ client, shown, want string }{client, shown, want})
	}

	// LiveCaptions-Translator: all of its shapes, without and with context, on four protocols.
	for i, more := range []string{
		`,"temperature":1,"max_tokens":128,"stream":false,"keep_alive":600,"think":false,"enable_thinking":false,"reasoning_effort":"low","reasoning":{"exclude":true,"enabled":false,"effort":"low"},"thinking":{"type":"disabled"}`,
		`,"temperature":1,"max_tokens":128,"stream":false,"keep_alive":600,"think":false`, `,"temperature":1,"max_tokens":128,"stream":false,"enable_thinking":false`,
		`,"temperature":1,"max_tokens":128,"stream":false,"reasoning_effort":"low"`, `,"temperature":1,"max_tokens":128,"stream":false,"reasoning":{"exclude":true}`,
		`,"temperature":1,"max_tokens":128,"stream":false,"thinking":{"type":"disabled"}`, `,"temperature":1,"max_tokens":128,"stream":false`, `,"max_tokens":128,"stream":false`,
	} {
		for _, before := range []string{system, context} {
			show(fmt.Sprintf("LiveCaptions-Translator, shape %d", i+1), v.typed(v.chat("gpt-4o-mini", before, "🔤 The train is late. 🔤", more)), "[es] The train is late.")
		}
	}
	_, body := v.call("POST", "/v2/translate", asJSON, `{"text":["One. 🔤 Two. 🔤"],"target_lang":"ES"}`, "Authorization", "DeepL-Auth-Key x")
	show("LiveCaptions-Translator, DeepL with context", strings.TrimSpace(strings.Split(field(body, "translations", 0, "text")+"🔤🔤", "🔤")[1]), "Two.")
	_, body = v.call("POST", "/translate", asJSON, `{"q":"The train is late.","source":"auto","target":"es","format":"text","api_key":""}`)
	show("LiveCaptions-Translator, LibreTranslate", field(body, "translatedText"), "[es] The train is late.")
	_, body = v.call("POST", "/translate", asJSON, `{"text":"The train is late.","from":"en","to":"es"}`, "Authorization", "Bearer x")
	show("LiveCaptions-Translator, MTranServer", field(body, "result"), "[es] The train is late.")

	// Subtitle Edit.
	show("Subtitle Edit, OpenAI compatible", v.firstContent(v.chat("gpt-4o-mini", "", "Translate from English to Spanish, keep punctuation as input, do not censor the translation, give only the output without comments:\n\nHello.\nBye.", "")), "[es] Hello.\nBye.")
	lines := `{"history":[{"source":"Hi.","translation":"Hola."}],"lines":[{"n":3,"text":"Where is it?"},{"n":4,"text":"In the\nhouse."}]}`
	show("Subtitle Edit, advanced", v.content(v.chat("gpt-4o-mini", system, lines, `,"response_format":{"type":"json_schema","json_schema":{"name":"translations","strict":true,"schema":{"type":"object","properties":{"3":{"type":"string"},"4":{"type":"string"}}}}}`)),
		`{"3":"[es] Where is it?","4":"[es] In the\nhouse."}`)
	_, body = v.call("POST", "/translate", asJSON, `{"q":"Hello.","source":"en","target":"es","api_key":""}`)
	show("Subtitle Edit, LibreTranslate", field(body, "translatedText"), "[es] Hello.")
	_, body = v.call("POST", "/v2/translate", asForm, url.Values{"text": {"Hello."}, "target_lang": {"es"}, "source_lang": {"en"}}.Encode(), "Authorization", "DeepL-Auth-Key x")
	show("Subtitle Edit, DeepL", field(body, "translations", 0, "text"), "[es] Hello.")
	_, body = v.call("POST", "/translate", "text/plain; charset=utf-8", `{"text":"Hello.","source_lang":"EN","target_lang":"ES"}`)
	if strings.Contains(body, `"alternatives":[]`) {
		show("Subtitle Edit, DeepLX", field(body, "data"), "[es] Hello.")
	} else {
		show("Subtitle Edit, DeepLX", field(body, "alternatives", 0), "[es] Hello.")
	}

	// Weblate: it wants the model in the list, and every placeholder back.
	_, body = v.call("GET", "/v1/models", "", "", "Authorization", "Bearer x")
	show("Weblate, models", fmt.Sprint(strings.Contains(body, `"id":"gpt-4o-mini"`)), "true")
	strings1 := `{"source_language":"en","target_language":"es","glossary":[],"strings":[{"source":"Hello, @@PH7@@!","parts":[{"type":"text","text":"Hello, "},{"type":"placeholder","id":"@@PH7@@","kind":"syntax","text":"%s","translatable":false},{"type":"text","text":"!"}],"placeholders":{"@@PH7@@":"%s"}},{"source":"Save"}]}`
	example := system + `{"role":"user","content":"{\"source_language\":\"en\",\"target_language\":\"es\",\"strings\":[{\"source\":\"x\"}]}"},{"role":"assistant","content":"[\"x\"]"},`
	show("Weblate, OpenAI", v.content(v.chat("gpt-4o-mini", example, strings1, "")), `["[es] Hello, @@PH7@@!","[es] Save"]`)
	show("Weblate, OpenAI, older", v.content(v.chat("gpt-4o-mini", system, "Hello.\n==WEBLATE_PART==\nBye.", "")), "[es] Hello.\n==WEBLATE_PART==\n[es] Bye.")
	_, body = v.call("POST", "/translate", asJSON, `{"api_key":"","q":["Hello.","Save"],"source":"en","target":"es"}`)
	show("Weblate, LibreTranslate", field(body, "translatedText", 0)+field(body, "translatedText", 1), "[es] Hello.[es] Save")
	_, body = v.call("POST", "/v2/translate", asJSON, `{"text":["Hello <x id=\"7\"></x>."],"source_lang":"EN","target_lang":"ES","tag_handling":"xml","ignore_tags":["x"],"formality":"prefer_less"}`, "Authorization", "DeepL-Auth-Key x")
	show("Weblate, DeepL", field(body, "translations", 0, "text"), `[es] Hello <x id="7"></x>.`)

	// Mastodon builds its menu from targets.
	_, body = v.call("GET", "/languages", "", "")
	var languages []struct {
		Code    string
		Targets []string
	}
	_ = json.Unmarshal([]byte(body), &languages)
	show("Mastodon, languages", fmt.Sprint(len(languages) > 0 && len(languages[0].Targets) > 0), "true")
	_, body = v.call("POST", "/translate", asJSON, `{"q":["<p>The train is late.</p>"],"source":"auto","target":"es","format":"html","api_key":null}`)
	show("Mastodon", field(body, "translatedText", 0)+" "+field(body, "detectedLanguage", 0, "language"), "<p>[es] The train is late.</p> en")

	// Discourse: forms, and the language first.
	_, body = v.call("POST", "/detect", asForm, url.Values{"q": {"The train is late today, and nobody knows why."}}.Encode())
	show("Discourse, detect", field(body, 0, "language"), "en")
	_, body = v.call("POST", "/translate", asForm, url.Values{"q": {"<p>Hello.</p>"}, "source": {"en"}, "target": {"es"}, "format": {"html"}, "api_key": {""}}.Encode())
	show("Discourse", field(body, "translatedText"), "<p>[es] Hello.</p>")

	// LunaTranslator, with history and an extra key.
	history := system + `{"role":"user","content":"One.","query_1":"One."},{"role":"assistant","content":"Uno.","query_1":"One."},`
	show("LunaTranslator", v.lines(v.chat("gpt-4o-mini", history, "Two data: 日本.", `,"temperature":0,"top_p":0.3,"max_tokens":1024,"stream":true`)), "[es] Two data: 日本.")

	// KISS Translator in batches, streamed.
	segments := `{"targetLanguage":"es","title":"t","description":"","glossary":{},"tone":"neutral","segments":[{"id":0,"text":"Hello."},{"id":1,"text":"Save"}]}`
	show("KISS Translator", v.lines(v.chat("gpt-4o-mini", system, segments, `,"temperature":0,"max_completion_tokens":20480,"stream":true`)),
		`{"translations":[{"id":0,"text":"[es] Hello.","sourceLanguage":"en"},{"id":1,"text":"[es] Save","sourceLanguage":"en"}]}`)
	_, body = v.call("POST", "/translate", asJSON, `{"text":"Hello.","from":"","to":"es"}`, "Authorization", "Bearer x")
	show("KISS Translator, custom", field(body, "text"), "[es] Hello.")

	show("Read Frog", v.content(v.chat("gpt-4o-mini", system, "Hello.\n%%\nSave", "")), "[es] Hello.\n%%\n[es] Save")
	show("Pot", strings.Trim(v.split(v.chat("gpt-4o-mini", system, "\"\"\"\nHello, data: 日本.\n\"\"\"", `,"temperature":0.1,"top_p":0.99,"frequency_penalty":0,"presence_penalty":0,"stream":true`)), `"`), "[es] Hello, data: 日本.")
	show("Zotero", v.split(v.chat("gpt-4o-mini", "", "As an academic expert, translate from en to es. 🔤Hello.🔤", `,"temperature":1.0,"stream":true`)), "[es] Hello.")
	show("Zotero, Qwen-MT", v.content(v.chat("translate", "", "Hello:\n\nyou.", `,"translation_options":{"source_lang":"auto","target_lang":"Spanish","domains":"law"}`)), "[es] Hello:\n\nyou.")
	show("Lingarr, a line", v.content(v.chat("gpt-4o-mini", system, "Hello.", "")), "[es] Hello.")
	batch := `[{"position":7,"line":"Hello."},{"position":9,"line":"Save"}]`
	show("Lingarr, a batch by schema", v.content(v.chat("gpt-4o-mini", system, batch, `,"response_format":{"type":"json_schema","json_schema":{"name":"b"}}`)), `{"translations":[{"position":7,"line":"[es] Hello."},{"position":9,"line":"[es] Save"}]}`)
	show("Lingarr, a batch", v.content(v.chat("gpt-4o-mini", system, batch, "")), `[{"position":7,"line":"[es] Hello."},{"position":9,"line":"[es] Save"}]`)
	show("Bazarr", v.content(v.chat("gpt-4o-mini", system, `["Hello.","Save"]`, `,"chat_template_kwargs":{"enable_thinking":false}`)), `["[es] Hello.","[es] Save"]`)
	_, body = v.call("POST", "/translate", asJSON, `{"q":"Hello.","source":"__en__","target":"__es__","api_key":"x"}`)
	show("obs-localvocal", field(body, "translatedText"), "[es] Hello.")
	_, body = v.call("POST", "/translate?token=x", asJSON, `{"source_lang":"auto","target_lang":"es","text_list":["Hello.","Save"]}`)
	show("Immersive Translate", field(body, "translations", 0, "text")+field(body, "translations", 1, "text"), "[es] Hello.[es] Save")

	// Bob, which speaks of responses alone, streamed and not.
	const bob = `{"model":"gpt-4o-mini","temperature":0.2,"instructions":"You translate.","input":"Translate from English to Spanish:\n\nHello."`
	_, body = v.call("POST", "/v1/responses", asJSON, bob+`,"stream":false}`, "Authorization", "Bearer x")
	show("Bob", field(body, "output_text"), "[es] Hello.")
	_, body = v.call("POST", "/v1/responses", asJSON, bob+`,"stream":true}`, "Authorization", "Bearer x")
	show("Bob, streamed", v.deltas(body), "[es] Hello.")
	show("PDFMathTranslate", v.content(v.chat("gpt-4o-mini", "", "You are a professional, authentic machine translation engine.\n\nKeep the formula notation {v*} unchanged.\n\nSource Text: Let {v1} be {{v2}}.\n\nTranslated Text:", `,"temperature":0`)), "[es] Let {v1} be {{v2}}.")
	_, body = v.call("POST", "/api/translate/content", asJSON, `{"arrMediaId":1,"title":"t","sourceLanguage":"en","targetLanguage":"es","mediaType":"movie","lines":[{"position":2,"line":"Hello."},{"position":5,"line":""}]}`, "X-Api-Key", "x")
	show("Bazarr, through Lingarr's API", field(body, 0, "line")+"|"+field(body, 1, "line"), "[es] Hello.|")
	_, body = v.call("GET", "/translate_a/single?client=gtx&sl=auto&tl=es&dt=t&q=Hello%3B+you.", "", "")
	show("Pot, Google", field(body, 0, 0, 0), "[es] Hello; you.")
	_, body = v.call("GET", "/translate_a/single?client=gtx&dj=1&dt=t&sl=auto&tl=es&q=100%25%20sure", "", "")
	show("KISS Translator, Google", field(body, "sentences", 0, "trans"), "[es] 100% sure")
	_, body = v.call("POST", "/translate?api-version=3.0&from=&to=es", asJSON, `[{"Text":"Hello."},{"text":"Save"}]`, "Ocp-Apim-Subscription-Key", "x")
	show("KISS Translator, Azure", field(body, 0, "translations", 0, "text")+field(body, 1, "translations", 0, "text"), "[es] Hello.[es] Save")
	_, body = v.call("POST", "/v2/translate", asJSON, `{"text":["Hello.","Save"],"source_lang":"","target_lang":"ES","split_sentences":"0","model_type":"latency_optimized"}`, "Authorization", "DeepL-Auth-Key x")
	show("KISS Translator, DeepL", field(body, "translations", 0, "text")+field(body, "translations", 1, "text"), "[es] Hello.[es] Save")
	_, body = v.call("POST", "/v2/translate", asJSON, `{"text":"Hello.","source_lang":"EN","target_lang":"ES"}`, "Authorization", "DeepL-Auth-Key x")
	show("Zotero, DeepL custom", field(body, "translations", 0, "text"), "[es] Hello.")
	_, body = v.call("POST", "/deeplx/translate", "", `{"text":"Hello.","source_lang":"auto","target_lang":"spanish"}`)
	show("bilingual_book_maker, custom", field(body, "data"), "[es] Hello.")
	_, body = v.call("POST", "/translate", asForm, "q=100%+of%20it%3B&source=en&target=es")
	show("libretranslatepy", field(body, "translatedText"), "[es] 100% of it;")

	// bilingual_book_maker asks for a schema first; refused, it uses separators of its own.
	status, body := v.chat("gpt-4o-mini", "", "Reply in plain text with the word no.", `,"response_format":{"type":"json_schema","json_schema":{"name":"probe","schema":{}}}`)
	show("bilingual_book_maker, probe", fmt.Sprint(status, " ", field(body, "error", "code")), "400 unsupported_prompt")

	clients := map[string]bool{}
	for _, r := range rows {
		name, _, _ := strings.Cut(r.client, ",")
		clients[name] = true
		if r.shown != r.want {
			t.Errorf("%s shows %q, want %q", r.client, r.shown, r.want)
		}
	}
	if len(clients) < 12 {
		t.Errorf("%d clients", len(clients))
	}
}

// TestABatchComesBackInCountOrderAndIDs whatever habits the model has: each item is the
// translation of the text in its place, under its id, or the call fails as a whole.
func TestABatchComesBackInCountOrderAndIDs(t *testing.T) {
	faults := map[string]float64{}
	for _, kind := range openaitest.ChatterKinds() {
		faults[kind] = 0.02
	}
	sim, err := openaitest.Start(openaitest.Config{Faults: faults})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sim.Close() })
	base := indoors(t, `version: 1
log: {level: error}
providers:
  main: {type: openai, api_key: x, base_url: "`+sim.URL()+`"}
stages:
  - queue: {max_concurrent: 16, max_waiting: 10000, min_interval: 0s}
  - provider: {use: main, breaker: {failures: 0}}
  - postprocess
`)
	calls := property.Rounds(10000, 200)
	type shape struct {
		pack func(texts []string) (content, more string)
		read func(content string, n int) []string // in the order of the texts
	}
	numbered := func(name string, text func(i int, s string) any, key string) shape {
		return shape{
			func(texts []string) (string, string) {
				list := make([]any, len(texts))
				for i, s := range texts {
					list[i] = text(i, s)
				}
				var all any = list
				if name != "" {
					all = map[string]any{name: list, "targetLanguage": "es", "history": []any{}}
				}
				raw, _ := json.Marshal(all)
				return string(raw), ""
			},
			func(content string, n int) []string {
				var list []map[string]any
				var in struct{ Translations []map[string]any }
				if json.Unmarshal([]byte(content), &list) != nil && json.Unmarshal([]byte(content), &in) == nil {
					list = in.Translations
				}
				out := make([]string, n)
				for i, item := range list {
					id := item["id"]
					if id == nil {
						id = item["position"]
					}
					if i >= n || fmt.Sprint(id) != fmt.Sprint(i*3) {
						return nil
					}
					out[i], _ = item[key].(string)
				}
				return out
			},
		}
	}
	list := func(content string, _ int) (texts []string) {
		_ = json.Unmarshal([]byte(content), &texts)
		return texts
	}
	marks := func(separator string) shape {
		return shape{
			func(texts []string) (string, string) { return strings.Join(texts, "\n"+separator+"\n"), "" },
			func(content string, _ int) []string { return strings.Split(content, "\n"+separator+"\n") },
		}
	}
	shapes := []shape{
		{func(texts []string) (string, string) { raw, _ := json.Marshal(texts); return string(raw), "" }, list},
		numbered("", func(i int, s string) any { return map[string]any{"position": i * 3, "line": s} }, "line"),
		numbered("segments", func(i int, s string) any { return map[string]any{"id": i * 3, "text": s} }, "text"),
		{
			func(texts []string) (string, string) {
				lines := make([]any, len(texts))
				for i, s := range texts {
					lines[i] = map[string]any{"n": i * 3, "text": s}
				}
				raw, _ := json.Marshal(map[string]any{"history": []any{}, "lines": lines})
				return string(raw), `,"response_format":{"type":"json_schema","json_schema":{}}`
			},
			func(content string, n int) []string {
				var m map[string]string
				_ = json.Unmarshal([]byte(content), &m)
				if len(m) != n {
					return nil
				}
				out := make([]string, n)
				for i := range out {
					out[i] = m[fmt.Sprint(i*3)]
				}
				return out
			},
		},
		{func(texts []string) (string, string) {
			all := make([]any, len(texts))
			for i, s := range texts {
				all[i] = map[string]any{"source": s}
			}
			raw, _ := json.Marshal(map[string]any{"target_language": "es", "strings": all})
			return string(raw), ""
		}, list},
		marks("%%"),
		marks("==WEBLATE_PART=="),
	}
	var good atomic.Int64
	var all sync.WaitGroup
	next := make(chan int)
	for range 8 {
		all.Go(func() {
			v := visitor{t, base}
			for k := range next {
				s := shapes[k%len(shapes)]
				texts := make([]string, 1+k%6)
				if len(texts) == 1 && k%len(shapes) >= 5 {
					texts = make([]string, 2) // one text alone has no separator
				}
				for i := range texts {
					texts[i] = fmt.Sprintf("The train number %d to platform %d is late.", k, i+100)
				}
				content, more := s.pack(texts)
				read := v.content
				if k%2 == 1 {
					read, more = v.lines, more+`,"stream":true`
				}
				status, body := v.chat("translate/en/es", "", content, more)
				if status == 502 {
					continue
				}
				if status != 200 {
					t.Errorf("call %d: %d %s", k, status, body)
					continue
				}
				got := s.read(read(status, body), len(texts))
				if len(got) != len(texts) {
					t.Errorf("call %d of %d texts: %s", k, len(texts), body)
					continue
				}
				for i, text := range got {
					if !strings.Contains(text, fmt.Sprintf(" %d ", k)) || !strings.Contains(text, fmt.Sprintf(" %d ", i+100)) {
						t.Errorf("call %d, text %d: %q", k, i, text)
					}
				}
				good.Add(1)
			}
		})
	}
	for k := range calls {
		next <- k
	}
	close(next)
	all.Wait()
	n := int(good.Load())
	t.Logf("%d calls, %d answered, each as it was packed; the others failed as a whole", calls, n)
	if n < calls*9/10 {
		t.Errorf("%d of %d were answered", n, calls)
	}
}
