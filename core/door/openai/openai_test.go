package openai_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"go.uber.org/zap"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/door"
	"github.com/dragoman-mt/dragoman/core/door/doortest"
	"github.com/dragoman-mt/dragoman/core/door/openai"
)

func serve(t testing.TB, c door.Config, own openai.Config, translator core.Translator) string {
	t.Helper()
	return doortest.Serve(t, c, translator, func(s *door.Service, m *door.Metrics, log *zap.Logger) door.Dialect {
		return openai.New(own, s, m, log).Dialect()
	})
}

func models() openai.Config {
	c := openai.Defaults()
	c.Models = map[string]openai.Model{"captions-es": {Translate: openai.Translate{Target: "es", Source: "en"}}, "gpt-4o-mini": {Translate: openai.Translate{Target: "de"}}}
	c.Advertise = []string{"fr", "pt-br"}
	return c
}

func quoted(s string) string {
	raw, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return string(raw)
}

// content returns what most clients show of an answer.
func content(t *testing.T, body string) string {
	t.Helper()
	var answer struct {
		Choices []struct {
			Message struct {
				Content *string
			}
		}
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil || len(answer.Choices) != 1 || answer.Choices[0].Message.Content == nil {
		t.Fatalf("%v: %s", err, body)
	}
	return *answer.Choices[0].Message.Content
}

// TestWhatClientsSendIsTranslated: the shapes of their prompts, and what they would
// have shown.
func TestWhatClientsSendIsTranslated(t *testing.T) {
	url := serve(t, door.Defaults(), models(), doortest.Pseudo(new(atomic.Int64)))
	const system = `{"role":"system","content":"You are a translator. Translate into es."}`
	user := func(text string) string { return `{"role":"user","content":` + quoted(text) + `}` }
	lct := func(more string) string {
		return `{"model":"translate/es","messages":[` + system + `,` + user("🔤 Good morning 🔤") + `],"temperature":1.0,"max_tokens":128,"stream":false` + more + `}`
	}
	for _, call := range []struct {
		name, path, body string
		rule             string
		want             string
	}{
		{"LiveCaptions-Translator, first shape", "/v1/chat/completions", lct(`,"keep_alive":600,"think":false,"enable_thinking":false,"reasoning_effort":"low","reasoning":{"exclude":true,"enabled":false,"effort":"low"},"thinking":{"type":"disabled"}`), "d", "[es] Good morning"},
		{"LiveCaptions-Translator, think", "/v1/chat/completions", lct(`,"think":false`), "d", "[es] Good morning"},
		{"LiveCaptions-Translator, enable_thinking", "/v1/chat/completions", lct(`,"enable_thinking":false`), "d", "[es] Good morning"},
		{"LiveCaptions-Translator, reasoning", "/v1/chat/completions", lct(`,"reasoning":{"effort":"low"}`), "d", "[es] Good morning"},
		{"LiveCaptions-Translator, thinking", "/v1/chat/completions", lct(`,"thinking":{"type":"disabled"}`), "d", "[es] Good morning"},
		{"LiveCaptions-Translator, plain", "/v1/chat/completions", lct(""), "d", "[es] Good morning"},
		{"LiveCaptions-Translator, with context, newest first", "/v1/chat/completions", `{"model":"translate/es","messages":[` + system + `,` + user("🔤 second 🔤") + `,{"role":"assistant","content":"🔤 segundo 🔤"},` + user("🔤 first 🔤") + `,{"role":"assistant","content":"🔤 primero 🔤"},` + user("🔤 third 🔤") + `]}`, "d", "[es] third"},
		{"Subtitle Edit: an instruction, no system", "/v1/chat/completions", `{"model":"translate/es","messages":[` + user("Translate from English to Spanish, keep punctuation as input, do not censor the translation, give only the output without comments:\n\nGood morning.\nHow are you?") + `]}`, "e", "[es] Good morning.\nHow are you?"},
		{"Subtitle Edit without a model", "/v1/chat/completions", `{"messages":[` + user("x") + `]}`, "", "404"},
		{"Lingarr, a line", "/v1/chat/completions", `{"model":"translate/es","messages":[` + system + `,` + user("Hello: there\n\nyou") + `]}`, "g", "[es] Hello: there\n\nyou"},
		{"Lingarr, a batch with a schema", "/v1/chat/completions", `{"model":"translate/es","messages":[` + system + `,` + user(`[{"position":7,"line":"a"},{"position":9,"line":"b"}]`) + `],"response_format":{"type":"json_schema","json_schema":{"name":"x"}}}`, "b", `{"translations":[{"position":7,"line":"[es] a"},{"position":9,"line":"[es] b"}]}`},
		{"Lingarr, a batch without", "/v1/chat/completions", `{"model":"translate/es","messages":[` + system + `,` + user(`[{"position":7,"line":"a"},{"position":9,"line":"b"}]`) + `]}`, "b", `[{"position":7,"line":"[es] a"},{"position":9,"line":"[es] b"}]`},
		{"Bazarr: an array", "/v1/chat/completions", `{"model":"translate/es","messages":[` + system + `,` + user(`["a","<i>b</i>",""]`) + `],"max_tokens":4096,"chat_template_kwargs":{"enable_thinking":false}}`, "b", `["[es] a","[es] <i>b</i>",""]`},
		{"KISS: segments", "/v1/chat/completions", `{"model":"translate/es","messages":[` + system + `,` + user(`{"targetLanguage":"es","title":"t","segments":[{"id":1,"text":"a"},{"id":"x","text":"b"}],"glossary":{},"tone":"formal"}`) + `],"temperature":0}`, "b", `...[{"id":1,"text":"[es] a","sourceLanguage":"`},
		{"KISS, one", "/v1/chat/completions", `{"model":"translate/es","messages":[` + system + `,` + user("Translate into es.\n\nSource Text: Hello\n\nTranslated Text:") + `]}`, "d", "[es] Hello"},
		{"PDFMathTranslate", "/v1/chat/completions", `{"model":"translate/es","messages":[` + user("You are a professional translation engine. Only output the translation.\n\nSource Text: The {{v1}} is x\n\nTranslated Text:") + `],"temperature":0}`, "d", "[es] The {{v1}} is x"},
		{"LunaTranslator: history with a key of its own, a prefill", "/v1/chat/completions", `{"model":"translate/ja/es","messages":[` + system + `,{"role":"user","content":"a","query_1":"z"},{"role":"assistant","content":"b"},` + user("c") + `,{"role":"assistant","content":"Sure:"}],"top_p":0.3}`, "g", "[es] c"},
		{"Pot: triple quotes, its path", "/v1/v1/chat/completions", `{"model":"translate/es","messages":[` + system + `,` + user("\"\"\"\nhello\n\"\"\"") + `],"temperature":0.1}`, "d", "[es] hello"},
		{"Read Frog: separators", "/v1/chat/completions", `{"model":"translate/es","messages":[` + system + `,` + user("one\n%%\ntwo\n\n%%\nthree") + `]}`, "f", "[es] one\n%%\n[es] two\n\n%%\n[es] three"},
		{"Zotero, Azure's path, Qwen-MT", "/openai/deployments/translate/chat/completions?api-version=1", `{"messages":[` + user("Hello:\n\nyou 🔤") + `],"translation_options":{"source_lang":"auto","target_lang":"Spanish","domains":"law"}}`, "a", "[es] Hello:\n\nyou 🔤"},
		{"a model in another case", "/v1/chat/completions", `{"model":"Translate/ES","messages":[` + system + `,` + user("{\\an8}x") + `]}`, "g", "[es] {\\an8}x"},
		{"a model of the operator's", "/chat/completions", `{"model":"captions-es","messages":[` + user("x") + `]}`, "g", "[es] x"},
		{"parts of content", "/chat/completions", `{"model":"translate/EN/pt_br","messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url","image_url":{}},{"type":"text","text":"b"}]}]}`, "g", "[pt-BR] ab"},

		{"bilingual_book_maker's probe", "/v1/chat/completions", `{"model":"translate/es","messages":[` + user("Say hello in plain text") + `],"response_format":{"type":"json_schema","json_schema":{"name":"probe"}}}`, "", "unsupported_prompt"},
		{"tools", "/v1/chat/completions", `{"model":"translate/es","messages":[` + user("x") + `],"tools":[{"type":"function"}]}`, "", "unsupported_prompt"},
		{"llm-subtrans", "/v1/chat/completions", `{"model":"translate/es","messages":[` + user("#1\nOriginal>\nx\nTranslation>\n") + `]}`, "", "unsupported_prompt"},
		{"a batch with a hole", "/v1/chat/completions", `{"model":"translate/es","messages":[` + user(`["a",null]`) + `]}`, "", "unsupported_prompt"},
		{"GalTransl: JSON on lines", "/v1/chat/completions", `{"model":"translate/es","messages":[` + system + `,` + user("{\"id\":1,\"src\":\"a\"}\n{\"id\":2,\"src\":\"b\"}") + `]}`, "", "unsupported_prompt"},
		{"JSON in a fence", "/v1/chat/completions", `{"model":"translate/es","messages":[` + system + `,` + user("```json\n[\"a\"]\n```") + `]}`, "", "unsupported_prompt"},
		{"options of no language", "/v1/chat/completions", `{"model":"translate","messages":[` + user("x") + `],"translation_options":{"target_lang":"Klingon"}}`, "", `"param":"translation_options"`},
		{"an unknown model", "/v1/chat/completions", `{"model":"gpt-9","messages":[` + user("x") + `]}`, "", "model_not_found"},
		{"an unknown language", "/v1/chat/completions", `{"model":"translate/zz","messages":[` + user("x") + `]}`, "", "model_not_found"},
		{"no language", "/v1/chat/completions", `{"model":"translate","messages":[` + user("x") + `]}`, "", "translation_options"},
		{"no messages", "/v1/chat/completions", `{"model":"translate/es","messages":[]}`, "", `"param":"messages"`},
		{"an empty message", "/v1/chat/completions", `{"model":"translate/es","messages":[` + user(" ") + `]}`, "", "400"},
		{"broken JSON", "/v1/chat/completions", `{"model":`, "", "400"},
		{"a form", "/v1/chat/completions", `model=x`, "", "400"},
		{"embeddings", "/v1/embeddings", `{}`, "", "not_found"},
	} {
		res, body := doortest.Do(t, "POST", url+call.path, call.body, "Content-Type", "application/json", "Authorization", "Bearer any")
		if call.rule == "" {
			status := fmt.Sprint(res.StatusCode)
			if res.StatusCode < 400 || res.StatusCode >= 500 || call.want != status && !strings.Contains(body, call.want) || res.Header.Get("X-Should-Retry") != "false" || !strings.HasPrefix(body, `{"error":{"message":`) {
				t.Errorf("%s: %d %s, want %s", call.name, res.StatusCode, body, call.want)
			}
			continue
		}
		if res.StatusCode != 200 {
			t.Errorf("%s: %d %s", call.name, res.StatusCode, body)
			continue
		}
		got := content(t, body)
		part, some := strings.CutPrefix(call.want, "...")
		if rule := res.Header.Get("X-Dragoman-Extract"); rule != call.rule || !some && got != call.want || some && !strings.Contains(got, part) {
			t.Errorf("%s: by rule %s %q, want by %s %q", call.name, rule, got, call.rule, call.want)
		}
		// Subtitle Edit takes the first text under a key content.
		if at := strings.Index(body, `"content":`); !strings.HasPrefix(body[at+len(`"content":`):], quotedPlain(got)) {
			t.Errorf("%s: the first content is not the translation: %s", call.name, body)
		}
	}
}

func quotedPlain(s string) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		panic(err)
	}
	return strings.TrimSpace(b.String())
}

// TestEarlierTurnsAreContext, unwrapped as the text is, and terms are a glossary, beside that of
// the model.
func TestEarlierTurnsAreContext(t *testing.T) {
	var got atomic.Value
	url := serve(t, door.Defaults(), models(), doortest.Translator(func(_ context.Context, req *core.Request) (*core.Result, error) {
		got.Store(fmt.Sprint(req.Source, req.Target, req.Context, req.Instructions, req.Terms))
		return &core.Result{Text: "x"}, nil
	}))
	doortest.Do(t, "POST", url+"/v1/chat/completions", `{"model":"translate/en/es","messages":[{"role":"system","content":"s"},{"role":"user","content":"🔤 one 🔤"},{"role":"assistant","content":"🔤 uno 🔤"},{"role":"user","content":"🔤 two 🔤"}]}`)
	if want := "enes[{one uno}] [] []"; strings.Join(strings.Fields(got.Load().(string)), " ") != want {
		t.Errorf("%s, want %s", got.Load(), want)
	}
	doortest.Do(t, "POST", url+"/v1/chat/completions", `{"model":"translate","messages":[{"role":"user","content":"The cat."}],"translation_options":{"source_lang":"English","target_lang":"Spanish","domains":"A zoo.","terms":[{"source":"cat","target":"minino"}]}}`)
	if want := `[A zoo.] [{cat minino}]`; !strings.Contains(got.Load().(string), want) {
		t.Errorf("%s, want %s", got.Load(), want)
	}
	res, body := doortest.Do(t, "POST", url+"/v1/chat/completions", `{"model":"translate/en/es","messages":[{"role":"user","content":"The cat."}],"translation_options":{"terms":[{"source":"cat","target":"minino"}]}}`)
	if flags := res.Header.Get("X-Dragoman-Flags"); flags != "glossary_missed" {
		t.Errorf("a translation that lacks the term: %q, %s", flags, body)
	}
	if res, body := doortest.Do(t, "POST", url+"/v1/chat/completions", `{"model":"translate/en/es","messages":[{"role":"user","content":"cat"}],"translation_options":{"terms":[{"source":"cat","target":"minino"}]}}`); content(t, body) != "minino" || res.Header.Get("X-Dragoman-Flags") != "glossary" {
		t.Errorf("a text that is a term: %s", body)
	}
	if res, body := doortest.Do(t, "POST", url+"/v1/chat/completions", `{"model":"translate/en/es","messages":[{"role":"user","content":"cat"}],"translation_options":{"terms":[{"source":"cat","target":""}]}}`); res.StatusCode != 400 || !strings.Contains(body, `"param":"translation_options.terms[0]"`) {
		t.Errorf("an empty term: %d %s", res.StatusCode, body)
	}
}

// TestNoTranslationIsTakenForTwo: of a text whose translation holds a line that parts
// texts, another is asked for, and then the call fails.
func TestNoTranslationIsTakenForTwo(t *testing.T) {
	var asked atomic.Int64
	url := serve(t, door.Defaults(), models(), doortest.Translator(func(_ context.Context, req *core.Request) (*core.Result, error) {
		if req.Text == "bad" || req.Text == "odd" && asked.Add(1) == 1 {
			return &core.Result{Text: "two\n %% \ntexts"}, nil
		}
		return &core.Result{Text: "x"}, nil
	}))
	ask := func(texts string) (*http.Response, string) {
		return doortest.Do(t, "POST", url+"/v1/chat/completions", `{"model":"translate/es","messages":[{"role":"system","content":"s"},{"role":"user","content":`+quoted(texts)+`}]}`)
	}
	if res, body := ask("odd\n%%\none"); res.StatusCode != 200 || content(t, body) != "x\n%%\nx" {
		t.Errorf("%d %s", res.StatusCode, body)
	}
	if res, body := ask("one\n%%\nbad"); res.StatusCode != 502 {
		t.Errorf("%d %s", res.StatusCode, body)
	}
}

// TestABatchIsWholeOrFails: one text that fails is asked for once more, and half an
// array is never an answer.
func TestABatchIsWholeOrFails(t *testing.T) {
	for _, fails := range []int64{1, 2} {
		var calls atomic.Int64
		url := serve(t, door.Defaults(), models(), doortest.Translator(func(_ context.Context, req *core.Request) (*core.Result, error) {
			if req.Text == "bad" && calls.Add(1) <= fails {
				return nil, &core.Error{Kind: core.ProviderFailed}
			}
			return &core.Result{Text: strings.ToUpper(req.Text)}, nil
		}))
		res, body := doortest.Do(t, "POST", url+"/v1/chat/completions", `{"model":"translate/es","messages":[{"role":"user","content":"[\"a\",\"bad\",\"c\"]"}]}`)
		if fails == 1 {
			if got := content(t, body); got != `["A","BAD","C"]` {
				t.Errorf("after one failure: %s", got)
			}
		} else if res.StatusCode != 502 || !strings.Contains(body, `"code":"upstream_error"`) || res.Header.Get("X-Should-Retry") != "true" {
			t.Errorf("after two failures: %d %s", res.StatusCode, body)
		}
	}
}

// TestAStreamIsReadByTheRulesOfItsClients: those that split it at "data:", and those
// that read lines.
func TestAStreamIsReadByTheRulesOfItsClients(t *testing.T) {
	const said = `metadata: "día" 🎉 data: {x}` + "\n\nend"
	url := serve(t, door.Defaults(), models(), doortest.Translator(func(context.Context, *core.Request) (*core.Result, error) {
		return &core.Result{Text: said, Usage: core.Usage{PromptTokens: 3, CompletionTokens: 4}}, nil
	}))
	for _, usage := range []bool{false, true} {
		body := `{"model":"translate/es","stream":true,"messages":[{"role":"user","content":"x"}]`
		if usage {
			body += `,"stream_options":{"include_usage":true}`
		}
		res, raw := doortest.Do(t, "POST", url+"/v1/chat/completions", body+"}")
		if res.Header.Get("Content-Type") != "text/event-stream" || res.Header.Get("Cache-Control") != "no-cache" || res.Header.Get("X-Accel-Buffering") != "no" {
			t.Errorf("%v", res.Header)
		}
		if strings.ContainsFunc(raw, func(r rune) bool { return r > 0x7e }) {
			t.Error("it is not ASCII")
		}
		type piece struct {
			Choices []struct {
				Delta  struct{ Role, Content string }
				Finish *string `json:"finish_reason"`
			}
			Usage *struct {
				Total int `json:"total_tokens"`
			}
		}
		// Pot and Zotero: whatever stands between two "data:" is JSON, or [DONE].
		text, finished, total, last := "", 0, 0, ""
		parts := strings.Split(raw, "data:")
		for _, part := range parts[1:] {
			last = strings.TrimSpace(part)
			if last == "[DONE]" {
				continue
			}
			var p piece
			if err := json.Unmarshal([]byte(last), &p); err != nil {
				t.Fatalf("%v: %q", err, part)
			}
			for _, c := range p.Choices {
				text += c.Delta.Content
				if c.Finish != nil && *c.Finish == "stop" {
					finished++
				}
			}
			if p.Usage != nil {
				total = p.Usage.Total
			}
		}
		if text != said || finished != 1 || last != "[DONE]" || parts[0] != "" {
			t.Errorf("read %q, finished %d times, at the end %q", text, finished, last)
		}
		if usage != (total == 7) || !usage && total != 0 {
			t.Errorf("usage asked for: %v; told: %d", usage, total)
		}
		for line := range strings.Lines(raw) {
			if line != "\n" && !strings.HasPrefix(line, "data: ") {
				t.Errorf("a line %q", line)
			}
		}
	}
}

// TestALongTextIsShownAsItComes, and a short one, or one of several, in one piece. What was
// shown is never taken back: another answer in the end is a failure, and no end.
func TestALongTextIsShownAsItComes(t *testing.T) {
	long := strings.Repeat("A long text. ", 20) + "End"
	read := make(chan bool) // the client has the first piece
	url := serve(t, door.Defaults(), models(), doortest.Translator(func(ctx context.Context, req *core.Request) (*core.Result, error) {
		if req.OnDelta == nil {
			return &core.Result{Text: "whole"}, nil
		}
		if err := req.OnDelta("\none "); err != nil {
			return nil, err
		}
		select {
		case <-read:
		case <-ctx.Done():
			return nil, core.ContextError(ctx, "")
		}
		if err := req.OnDelta("dós"); err != nil {
			return nil, err
		}
		if strings.HasPrefix(req.Text, "other") {
			return &core.Result{Text: "another"}, nil
		}
		if strings.HasPrefix(req.Text, "blank") {
			return &core.Result{Text: "one dós"}, req.OnDelta(" ")
		}
		return &core.Result{Text: "one dós three"}, nil
	}))
	for _, call := range []struct {
		text, want string
		done       bool
	}{
		{long, "|one |dós| three", true},
		{`"""` + long + `"""`, "|one |dós| three", true},
		{"other " + long, "|one |dós", false},
		{"blank " + long, "|one |dós| ", true},
		{"short", "|whole", true},
		{long + "\n%%\n" + long, "|whole\n%%\nwhole", true},
	} {
		req, err := http.NewRequest(http.MethodPost, url+"/v1/chat/completions", strings.NewReader(`{"model":"translate/es","stream":true,"messages":[{"role":"system","content":"x"},{"role":"user","content":`+quoted(call.text)+`}]}`))
		if err != nil {
			t.Fatal(err)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		got, done, failed := "", false, false
		for lines := bufio.NewScanner(res.Body); lines.Scan(); {
			data, ok := strings.CutPrefix(lines.Text(), "data: ")
			var event struct {
				Choices []struct{ Delta struct{ Content string } }
				Error   *struct{ Code string }
			}
			switch {
			case !ok:
			case data == "[DONE]":
				done = true
			case json.Unmarshal([]byte(data), &event) != nil:
				t.Fatalf("%q", data)
			case event.Error != nil:
				failed = event.Error.Code == "upstream_error"
			case len(event.Choices) > 0 && event.Choices[0].Delta.Content != "":
				if got += "|" + event.Choices[0].Delta.Content; got == "|one " {
					read <- true
				}
			}
		}
		res.Body.Close()
		if got != call.want || done != call.done || failed == call.done {
			t.Errorf("%.20q: %q, done %v, failed %v; want %q", call.text, got, done, failed, call.want)
		}
	}
}

// TestAFailedStreamIsAnErrorOfHTTP as long as nothing was sent.
func TestAFailedStreamIsAnErrorOfHTTP(t *testing.T) {
	url := serve(t, door.Defaults(), models(), doortest.Translator(func(context.Context, *core.Request) (*core.Result, error) {
		return nil, &core.Error{Kind: core.ProviderRefused}
	}))
	res, body := doortest.Do(t, "POST", url+"/v1/chat/completions", `{"model":"translate/es","stream":true,"messages":[{"role":"user","content":"x"}]}`)
	if res.StatusCode != 502 || res.Header.Get("Content-Type") != "application/json; charset=utf-8" || !strings.Contains(body, "upstream_error") {
		t.Errorf("%d %v %s", res.StatusCode, res.Header, body)
	}
}

// TestModelsAreListed for whoever has a key: it is the test button of many clients.
func TestModelsAreListed(t *testing.T) {
	c := door.Defaults()
	c.Keys = []door.Key{{Key: "right"}}
	url := serve(t, c, models(), doortest.Pseudo(new(atomic.Int64)))
	for _, path := range []string{"/v1/models", "/models"} {
		res, body := doortest.Do(t, "GET", url+path, "", "Authorization", "Bearer right")
		var list struct {
			Object string
			Data   []struct {
				ID      string
				Created int64
			}
		}
		if err := json.Unmarshal([]byte(body), &list); err != nil || res.StatusCode != 200 || list.Object != "list" || strings.Contains(body, `"error"`) {
			t.Fatalf("%d %s", res.StatusCode, body)
		}
		var ids []string
		for _, m := range list.Data {
			ids = append(ids, m.ID)
		}
		if got := strings.Join(ids, " "); got != "captions-es gpt-4o-mini translate translate/fr translate/pt-BR" {
			t.Errorf("listed: %s", got)
		}
	}
	for path, want := range map[string]int{"/v1/models/translate/en/fr": 200, "/v1/models/captions-es": 200, "/v1/models/translate": 200, "/v1/models/gpt-9": 404} {
		if res, body := doortest.Do(t, "GET", url+path, "", "api-key", "right"); res.StatusCode != want {
			t.Errorf("%s: %d %s", path, res.StatusCode, body)
		}
	}
	for _, key := range []string{"", "Bearer wrong"} {
		if res, body := doortest.Do(t, "GET", url+"/v1/models", "", "Authorization", key); res.StatusCode != 401 || !strings.Contains(body, `"code":"invalid_api_key"`) {
			t.Errorf("%q: %d %s", key, res.StatusCode, body)
		}
	}
}

// TestAnAddressIsWhatItsUserTypedAndWhatHisClientAdds: one ends in /v1 or does not, or
// is whole already, and the other adds what it always adds.
func TestAnAddressIsWhatItsUserTypedAndWhatHisClientAdds(t *testing.T) {
	url := serve(t, door.Defaults(), models(), doortest.Pseudo(new(atomic.Int64)))
	const body = `{"model":"translate/es","messages":[{"role":"user","content":"x"}],"input":"x"}`
	for _, typed := range []string{"", "/", "/v1", "/v1/", "//v1", "/v2", "/openai/v1", "/api/v1", "/v1/chat/completions", "/openai/deployments/captions-es"} {
		for _, added := range []string{"/chat/completions", "/v1/chat/completions", "/v1/chat/completions/", "/chat/completions?api-version=2024-10-21"} {
			if res, got := doortest.Do(t, "POST", url+typed+added, body); res.StatusCode != 200 || content(t, got) != "[es] x" {
				t.Errorf("%s and %s: %d %s", typed, added, res.StatusCode, got)
			}
		}
		for _, added := range []string{"/models", "/v1/models", "/models/"} {
			if res, got := doortest.Do(t, "GET", url+typed+added, ""); res.StatusCode != 200 || !strings.Contains(got, `"object":"list"`) {
				t.Errorf("%s and %s: %d %s", typed, added, res.StatusCode, got)
			}
		}
		if res, got := doortest.Do(t, "POST", url+typed+"/v1/responses", body); res.StatusCode != 200 || !strings.Contains(got, `"output_text":"[es] x"`) {
			t.Errorf("%s and responses: %d %s", typed, res.StatusCode, got)
		}
	}
	for call, allow := range map[string]string{"GET /v1/chat/completions": "POST", "GET /v1/responses": "POST", "POST /v1/models": "GET"} {
		method, path, _ := strings.Cut(call, " ")
		if res, got := doortest.Do(t, method, url+path, ""); res.StatusCode != 405 || res.Header.Get("Allow") != allow {
			t.Errorf("%s: %d %s, allowed %q", call, res.StatusCode, got, res.Header.Get("Allow"))
		}
	}
}

// TestAClientOfAnOlderHTTPIsAnswered, streamed and not: it knows no chunks, and the end of the
// connection is the end of the answer. One that waits to be told to send its body is told.
func TestAClientOfAnOlderHTTPIsAnswered(t *testing.T) {
	url := serve(t, door.Defaults(), models(), doortest.Pseudo(new(atomic.Int64)))
	body := func(more string) string {
		return `{"model":"translate/es","messages":[{"role":"user","content":"x"}]` + more + `}`
	}
	for name, call := range map[string]struct {
		head, body string
		want       []string
		never      string
	}{
		"HTTP/1.0":           {"POST /v1/chat/completions HTTP/1.0\r\n", body(""), []string{"HTTP/1.0 200 OK\r\n", `"content":"[es] x"`}, "chunked"},
		"HTTP/1.0, a stream": {"POST /v1/chat/completions HTTP/1.0\r\n", body(`,"stream":true`), []string{"HTTP/1.0 200 OK\r\n", "\r\n\r\ndata: {", "data: [DONE]\n\n"}, "chunked"},
		"a body on demand":   {"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nExpect: 100-continue\r\n", body(""), []string{"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n", `"content":"[es] x"`}, "417"},
	} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "%sContent-Length: %d\r\n\r\n%s", call.head, len(call.body), call.body)
		raw, err := io.ReadAll(conn)
		conn.Close()
		for _, want := range call.want {
			if err != nil || !strings.Contains(string(raw), want) || strings.Contains(string(raw), call.never) {
				t.Errorf("%s: %v, %q lacks %q, or has %q", name, err, raw, want, call.never)
			}
		}
	}
}

// TestResponsesAreAnswered for Bob, which can use nothing else.
func TestResponsesAreAnswered(t *testing.T) {
	url := serve(t, door.Defaults(), models(), doortest.Pseudo(new(atomic.Int64)))
	const body = `{"model":"translate/es","instructions":"You translate.","temperature":0.2,"input":"Translate from English to Spanish:\n\nHello"`
	_, raw := doortest.Do(t, "POST", url+"/v1/responses", body+"}")
	var whole struct {
		Text   string `json:"output_text"`
		Output []struct {
			Content []struct{ Type, Text string }
		}
	}
	if err := json.Unmarshal([]byte(raw), &whole); err != nil || whole.Text != "[es] Hello" || whole.Output[0].Content[0].Text != "[es] Hello" || whole.Output[0].Content[0].Type != "output_text" {
		t.Errorf("%v: %s", err, raw)
	}
	_, raw = doortest.Do(t, "POST", url+"/v1/responses", body+`,"stream":true}`)
	if !strings.Contains(raw, "event: response.output_text.delta\ndata: {") || !strings.Contains(raw, `"delta":"[es] Hello"`) || !strings.Contains(raw, `"type":"response.completed"`) {
		t.Errorf("%s", raw)
	}
}

// TestADefaultTakesEveryName that a client has compiled in.
func TestADefaultTakesEveryName(t *testing.T) {
	own := models()
	own.Default = "translate/fr"
	if key, why := own.Check(); key != "" {
		t.Fatal(key, why)
	}
	url := serve(t, door.Defaults(), own, doortest.Pseudo(new(atomic.Int64)))
	for _, model := range []string{`"model":"gpt-9",`, ``, `"model":null,`} {
		if _, body := doortest.Do(t, "POST", url+"/v1/chat/completions", `{`+model+`"messages":[{"role":"user","content":"x"}]}`); content(t, body) != "[fr] x" {
			t.Errorf("%s: %s", model, body)
		}
	}
	for _, wrong := range []openai.Config{{Default: "translate"}, {Models: map[string]openai.Model{"translate": {Translate: openai.Translate{Target: "es"}}}}, {Models: map[string]openai.Model{"x": {}}}, {Advertise: []string{"!"}}} {
		if key, _ := wrong.Check(); key == "" {
			t.Errorf("%+v is taken", wrong)
		}
	}
}

// TestOpenAIsLibraryRunsUnmodified with nothing but another baseURL.
func TestOpenAIsLibraryRunsUnmodified(t *testing.T) {
	c := door.Defaults()
	c.Keys = []door.Key{{Key: "right"}}
	var failures atomic.Int64
	url := serve(t, c, models(), doortest.Translator(func(_ context.Context, req *core.Request) (*core.Result, error) {
		if req.Text == "again" && failures.Add(1) == 1 {
			return nil, &core.Error{Kind: core.ProviderFailed}
		}
		return &core.Result{Text: "[" + string(req.Target) + "] " + req.Text + " ñ", Usage: core.Usage{PromptTokens: 1, CompletionTokens: 2}}, nil
	}))
	got := doortest.Node(t, []string{"openai@6.9.1"}, `
import OpenAI from 'openai';
const c = new OpenAI({apiKey: 'right', baseURL: process.env.URL + '/v1'});
const ask = (content, more) => c.chat.completions.create({model: 'translate/es', messages: [{role: 'user', content}], ...more});
const one = await ask('Hello');
console.log(one.choices[0].message.content, one.choices[0].finish_reason, one.usage.total_tokens, one.model);
let text = '', chunks = 0;
for await (const chunk of await ask('streamed', {stream: true})) { text += chunk.choices[0]?.delta?.content ?? ''; chunks++; }
console.log(text, chunks);
console.log((await ask('again')).choices[0].message.content);
const ids = []; for await (const m of await c.models.list()) ids.push(m.id);
console.log(ids.join(' '));
console.log((await c.responses.create({model: 'translate/es', input: 'Hello'})).output_text);
await c.chat.completions.create({model: 'gpt-9', messages: [{role: 'user', content: 'x'}]}).catch(e => console.log(e.constructor.name, e.status, e.code));
await ask('x', {tools: [{type: 'function', function: {name: 'f'}}]}).catch(e => console.log(e.constructor.name, e.status, e.code));
await new OpenAI({apiKey: 'wrong', baseURL: process.env.URL + '/v1'}).models.list().catch(e => console.log(e.constructor.name, e.status, e.code));
`, "URL="+url)
	want := `[es] Hello ñ stop 3 translate/es
[es] streamed ñ 3
[es] again ñ
captions-es gpt-4o-mini translate translate/fr translate/pt-BR
[es] Hello ñ
NotFoundError 404 model_not_found
BadRequestError 400 unsupported_prompt
AuthenticationError 401 invalid_api_key
`
	if got != want {
		t.Errorf("it printed\n%s\nwant\n%s", got, want)
	}
}
