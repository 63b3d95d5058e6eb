package deepl_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/zap"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/door"
	"github.com/dragoman-mt/dragoman/core/door/deepl"
	"github.com/dragoman-mt/dragoman/core/door/doortest"
	"github.com/dragoman-mt/dragoman/core/text/glossary"
)

func serve(t testing.TB, c door.Config, folder string, translator core.Translator) string {
	t.Helper()
	return doortest.Serve(t, c, translator, func(s *door.Service, m *door.Metrics, log *zap.Logger) door.Dialect {
		return deepl.New(deepl.Defaults(), folder, s, m, log).Dialect()
	})
}

const (
	form   = "application/x-www-form-urlencoded"
	asJSON = "application/json"
)

// TestDeepLsAnswers are those that its libraries and its clients rely on.
func TestDeepLsAnswers(t *testing.T) {
	var calls atomic.Int64
	url := serve(t, door.Defaults(), "", doortest.Pseudo(&calls))
	fifty := "target_lang=de" + strings.Repeat("&text=x", 50)
	for _, call := range []struct {
		name, method, path, kind, body string
		status                         int
		want                           string // what the answer holds; the whole after "="
	}{
		{"deepl-node: a form", "POST", "/v2/translate", form, "target_lang=de&text=proton+beam&source_lang=en&show_billed_characters=1", 200, `={"translations":[{"detected_source_language":"EN","text":"[de] proton beam","billed_characters":11}]}`},
		{"deepl-python: JSON", "POST", "/v2/translate", asJSON, `{"target_lang":"DE","text":["proton beam"],"source_lang":"EN","show_billed_characters":true}`, 200, `={"translations":[{"detected_source_language":"EN","text":"[de] proton beam","billed_characters":11}]}`},
		{"texts in their order", "POST", "/v2/translate", form, "target_lang=es&text=one&text=&text=three&source_lang=en", 200, `={"translations":[{"detected_source_language":"EN","text":"[es] one"},{"detected_source_language":"EN","text":""},{"detected_source_language":"EN","text":"[es] three"}]}`},
		{"Zotero: text is a string", "POST", "/v2/translate", asJSON, `{"target_lang":"ES","text":"x","source_lang":"EN"}`, 200, `"text":"[es] x"`},
		{"KISS: an empty source", "POST", "/v2/translate", asJSON, `{"target_lang":"ZH-HANS","text":["x"],"source_lang":""}`, 200, `"text":"[zh-Hans] x"`},
		{"Subtitle Edit: zh-hans, es-419", "POST", "/v2/translate", form, `target_lang=es-419&text=x`, 200, `"text":"[es-419] x"`},
		{"targets that a library would refuse", "POST", "/v2/translate", form, `target_lang=PT&text=x`, 200, `"text":"[pt] x"`},
		{"Weblate: placeholders, formality, beta", "POST", "/v2/translate", asJSON, `{"target_lang":"DE","text":["Hello <x id=\"1\"></x>!"],"source_lang":"EN","tag_handling":"xml","ignore_tags":["x"],"formality":"prefer_less","model_type":"prefer_quality_optimized","enable_beta_languages":true}`, 200, `={"translations":[{"detected_source_language":"EN","text":"[de] Hello <x id=\"1\"></x>!","model_type_used":"quality_optimized","tag_handling_version":"v1"}]}`},
		{"parameters that nobody knows", "POST", "/v2/translate", form, "target_lang=de&text=x&example_extra_param=true&splitting_tags=a,b&outline_detection=0&preserve_formatting=1&non_splitting_tags=c&source_lang=en", 200, `"text":"[de] x"`},
		{"splitting tags", "POST", "/v2/translate", form, "text=<par>One</par>+<Par>Two+x</Par><i/>+tail&target_lang=de&source_lang=en&tag_handling=xml&splitting_tags=par,i&non_splitting_tags=b", 200, `"text":"<par>[de] One</par> <Par>[de] Two x</Par><i/> [de] tail"`},
		{"splitting tags within what is ignored", "POST", "/v2/translate", form, "text=A+<x><par>One</par></x>+B&target_lang=de&source_lang=en&tag_handling=xml&splitting_tags=par&ignore_tags=x", 200, `"text":"[de] A <x><par>One</par></x> B"`},
		{"nothing between splitting tags", "POST", "/v2/translate", form, "text=<par>5</par><par/>&target_lang=de&source_lang=en&tag_handling=xml&splitting_tags=par", 200, `"text":"<par>5</par><par/>"`},
		{"a language is told for every text", "POST", "/v2/translate", form, "target_lang=de&text=%F0%9F%8E%89", 200, `"detected_source_language":"EN"`},
		{"50 texts", "POST", "/v2/translate", form, fifty, 200, ""},

		{"51 texts", "POST", "/v2/translate", form, fifty + "&text=x", 400, `'text'`},
		{"no text", "POST", "/v2/translate", form, "target_lang=de", 400, `={"message":"Parameter 'text' not specified"}`},
		{"no target", "POST", "/v2/translate", form, "text=x", 400, `'target_lang'`},
		{"an unknown target", "POST", "/v2/translate", form, "text=x&target_lang=zz", 400, `={"message":"Value for 'target_lang' not supported."}`},
		{"an unknown source", "POST", "/v2/translate", form, "text=x&target_lang=de&source_lang=zz", 400, `={"message":"Value for 'source_lang' not supported."}`},
		{"split_sentences", "POST", "/v2/translate", form, "text=x&target_lang=de&split_sentences=perhaps", 400, `split_sentences`},
		{"formality", "POST", "/v2/translate", form, "text=x&target_lang=de&formality=rude", 400, `formality`},
		{"tag_handling", "POST", "/v2/translate", form, "text=x&target_lang=de&tag_handling=md", 400, `tag_handling`},
		{"a glossary without source_lang", "POST", "/v2/translate", form, "text=x&target_lang=de&glossary_id=00000000-0000-4000-8000-000000000000", 400, `={"message":"Use of a glossary requires the source_lang parameter to be specified"}`},
		{"an unknown glossary", "POST", "/v2/translate", form, "text=x&target_lang=de&source_lang=en&glossary_id=00000000-0000-4000-8000-000000000000", 404, `not found`},
		{"no id of a glossary", "POST", "/v2/translate", form, "text=x&target_lang=de&source_lang=en&glossary_id=mine", 400, `glossary`},
		{"a style", "POST", "/v2/translate", form, "text=x&target_lang=de&style_id=x", 404, `style_id`},
		{"too many instructions", "POST", "/v2/translate", asJSON, `{"text":"x","target_lang":"de","custom_instructions":["1","2","3","4","5","6","7","8","9","10","11"]}`, 400, `custom_instructions`},
		{"broken JSON", "POST", "/v2/translate", asJSON, `{"text":`, 400, `={"message":"Invalid JSON format"}`},
		{"128 KiB and one", "POST", "/v2/translate", form, strings.Repeat("x", 128<<10+1), 413, `message`},
		{"write", "POST", "/v2/write/rephrase", form, "text=x", 404, `message`},

		{"languages", "GET", "/v2/languages", "", "", 200, `{"language":"EN","name":"English"}`},
		{"targets", "GET", "/v2/languages?type=target", "", "", 200, `{"language":"DE","name":"German","supports_formality":true}`},
		{"targets that are variants", "GET", "/v2/languages?type=target", "", "", 200, `{"language":"EN-GB","name":"British English","supports_formality":false}`},
		{"languages of another type", "GET", "/v2/languages?type=x", "", "", 400, `={"message":"Parameter 'type' is invalid. 'source' and 'target' are valid values."}`},
		{"languages v3", "GET", "/v3/languages?resource=translate_text", "", "", 200, `{"lang":"de","name":"German","usable_as_source":true,"usable_as_target":true,"status":"stable","features":{"formality":{"status":"stable"}}}`},
		{"languages v3, English is a source", "GET", "/v3/languages?resource=translate_text", "", "", 200, `{"lang":"en","name":"English","usable_as_source":true,"usable_as_target":false,"status":"stable","features":{}}`},
		{"languages v3 without a resource", "GET", "/v3/languages", "", "", 400, `resource`},
		{"languages v3 of a product", "GET", "/v3/languages?product=x", "", "", 400, `={"message":"Bad request. Reason: The 'product' parameter has been renamed to 'resource'."}`},
		{"styles", "GET", "/v3/style_rules", "", "", 200, `={"style_rules":[]}`},
		{"memories", "GET", "/v3/translation_memories", "", "", 200, `"translation_memories":[]`},
		{"pairs of glossaries", "GET", "/v2/glossary-language-pairs", "", "", 200, `{"source_lang":"de","target_lang":"en"}`},
	} {
		res, body := doortest.Do(t, call.method, url+call.path, call.body, "Content-Type", call.kind, "Authorization", "DeepL-Auth-Key any")
		body = strings.TrimSpace(body)
		whole, exact := strings.CutPrefix(call.want, "=")
		if res.StatusCode != call.status || exact && body != whole || !exact && !strings.Contains(body, call.want) {
			t.Errorf("%s: %d %.300s\nwant %d %s", call.name, res.StatusCode, body, call.status, call.want)
		}
		if res.Header.Get("X-Trace-Id") == "" && call.status != 413 {
			t.Errorf("%s: no X-Trace-ID", call.name)
		}
	}
}

// TestAKeyIsAskedForAsDeepLDoes: 403 and nothing else, wherever the key may stand.
func TestAKeyIsAskedForAsDeepLDoes(t *testing.T) {
	var calls atomic.Int64
	c := door.Defaults()
	c.Keys = []door.Key{{Key: "right", Name: "captions"}}
	url := serve(t, c, "", doortest.Pseudo(&calls))
	for _, call := range []struct {
		path, body, header string
		status             int
	}{
		{"/v2/translate", "text=x&target_lang=de", "", 403},
		{"/v2/translate", "text=x&target_lang=de", "DeepL-Auth-Key wrong", 403},
		{"/v2/usage", "", "", 403},
		{"/v2/translate", "text=x&target_lang=de", "DeepL-Auth-Key right", 200},
		{"/v2/translate", "text=x&target_lang=de&auth_key=right", "", 200},
		{"/v2/translate?auth_key=right", "text=x&target_lang=de", "", 200},
	} {
		res, body := doortest.Do(t, "POST", url+call.path, call.body, "Authorization", call.header, "Content-Type", form)
		if res.StatusCode != call.status {
			t.Errorf("%+v: %d %s", call, res.StatusCode, body)
		}
	}
	_, body := doortest.Do(t, "GET", url+"/v2/usage", "", "Authorization", "DeepL-Auth-Key right")
	if want := `{"character_count":3,"character_limit":1000000000000}`; strings.TrimSpace(body) != want {
		t.Errorf("usage: %s, want %s", body, want)
	}
}

// TestAFailureThatWillNotChangeIsNotAskedForAgain: the libraries send everything from
// 500 on, and 429, up to five times more.
func TestAFailureThatWillNotChangeIsNotAskedForAgain(t *testing.T) {
	for kind, want := range map[core.ErrorKind]int{core.ProviderRefused: 400, core.TooLarge: 413, core.UnsupportedLanguage: 400, core.ProviderFailed: 502, core.QuotaExceeded: 502} {
		url := serve(t, door.Defaults(), "", doortest.Translator(func(context.Context, *core.Request) (*core.Result, error) {
			return nil, &core.Error{Kind: kind, Detail: "why"}
		}))
		if res, body := doortest.Do(t, "POST", url+"/v2/translate", "text=x&target_lang=de", "Content-Type", form); res.StatusCode != want {
			t.Errorf("%s: %d %s, want %d", kind, res.StatusCode, body, want)
		}
	}
}

// A client makes calls that must have one status, and reads their answers.
type client struct {
	t   *testing.T
	url string
}

func (c client) do(method, path, kind, body string, status int) map[string]any {
	c.t.Helper()
	res, raw := doortest.Do(c.t, method, c.url+path, body, "Content-Type", kind)
	if res.StatusCode != status {
		c.t.Fatalf("%s %s: %d %s, want %d", method, path, res.StatusCode, raw, status)
	}
	var answer map[string]any
	if raw != "" && json.Unmarshal([]byte(raw), &answer) != nil {
		return map[string]any{"text": raw}
	}
	return answer
}

// TestTheOperatorsGlossariesAreThere for every client, under an id that stays and by their name,
// and no client changes them.
func TestTheOperatorsGlossariesAreThere(t *testing.T) {
	house, err := glossary.Read("house", "house.tsv", []byte("en\tde\tpt-BR\nartist\tMaler\tpintor\nprize\tGewinn\t\n"))
	if err != nil {
		t.Fatal(err)
	}
	var asked atomic.Value
	engine := doortest.Translator(func(_ context.Context, req *core.Request) (*core.Result, error) {
		asked.Store(fmt.Sprint(req.Terms, req.Glossary))
		return &core.Result{Text: "Ein Maler kam."}, nil
	})
	var ids []string
	for range 2 {
		c := client{t, doortest.Serve(t, door.Defaults(), engine, func(s *door.Service, m *door.Metrics, log *zap.Logger) door.Dialect {
			s.UseGlossaries(door.Glossaries{"house": house})
			return deepl.New(deepl.Defaults(), "", s, m, log).Dialect()
		})}
		all := c.do("GET", "/v3/glossaries", "", "", 200)["glossaries"].([]any)
		if len(all) != 1 || all[0].(map[string]any)["name"] != "house" || len(all[0].(map[string]any)["dictionaries"].([]any)) != 6 {
			t.Fatalf("%v", all)
		}
		id := all[0].(map[string]any)["glossary_id"].(string)
		ids = append(ids, id)
		if e := fmt.Sprint(c.do("GET", "/v3/glossaries/"+id+"/entries?source_lang=en&target_lang=de", "", "", 200)); !strings.Contains(e, "artist\tMaler\nprize\tGewinn") {
			t.Errorf("entries: %s", e)
		}
		for _, named := range []string{id, "house"} {
			asked.Store("")
			c.do("POST", "/v2/translate", form, "text=An+Artist+came&target_lang=DE&source_lang=EN&glossary_id="+named, 200)
			if got := asked.Load(); got != "[{Artist Maler}]house" {
				t.Errorf("%s: the engine was told %v", named, got)
			}
		}
		c.do("POST", "/v2/translate", form, "text=x&target_lang=FR&source_lang=EN&glossary_id=house", 400)
		c.do("DELETE", "/v2/glossaries/"+id, "", "", 403)
		c.do("PATCH", "/v3/glossaries/"+id, asJSON, `{"name":"mine"}`, 403)
		own := c.do("POST", "/v2/glossaries", asJSON, `{"name":"house","source_lang":"en","target_lang":"de","entries":"prize\tPreis","entries_format":"tsv"}`, 201)["glossary_id"].(string)
		c.do("POST", "/v2/translate", asJSON, `{"text":["An artist and a prize"],"target_lang":"DE","source_lang":"EN","glossary_ids":["`+own+`","house"]}`, 200)
		if got := asked.Load(); got != "[{artist Maler} {prize Preis}]" {
			t.Errorf("two glossaries: the engine was told %v", got)
		}
	}
	if ids[0] != ids[1] {
		t.Errorf("after a restart the id is %s, it was %s", ids[1], ids[0])
	}
}

// TestAGlossaryLives from its creation to its end, in both versions of the protocol and
// over a restart, and reaches those who translate.
func TestAGlossaryLives(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "glossaries")
	var asked atomic.Value
	engine := doortest.Translator(func(_ context.Context, req *core.Request) (*core.Result, error) {
		asked.Store(fmt.Sprint(req.Instructions, req.Context, req.Terms, req.Glossary))
		return &core.Result{Text: "x"}, nil
	})
	c := client{t, serve(t, door.Defaults(), folder, engine)}
	id := c.do("POST", "/v2/glossaries", form, "name=mine&source_lang=en-US&target_lang=DE&entries_format=tsv&entries=artist%09Maler%0Aprize%09Gewinn", 201)["glossary_id"].(string)
	if g := c.do("GET", "/v2/glossaries/"+id, "", "", 200); g["source_lang"] != "en" || g["entry_count"] != 2.0 || g["ready"] != true || g["name"] != "mine" {
		t.Errorf("%v", g)
	}
	// deepl-node writes the dictionaries of version 3 in this form.
	v3 := c.do("POST", "/v3/glossaries", form, "name=two&dictionaries[0].source_lang=en&dictionaries[0].target_lang=de&dictionaries[0].entries_format=csv&dictionaries[0].entries="+url.QueryEscape("\"a, b\",\"c \"\"d\"\"\",en,de\ne,f")+"&dictionaries[1][source_lang]=en&dictionaries[1][target_lang]=fr&dictionaries[1][entries_format]=tsv&dictionaries[1][entries]=cat%09chat", 201)
	if len(v3["dictionaries"].([]any)) != 2 {
		t.Errorf("%v", v3)
	}
	multi := v3["glossary_id"].(string)
	if e := fmt.Sprint(c.do("GET", "/v3/glossaries/"+multi+"/entries?source_lang=en&target_lang=de", "", "", 200)); !strings.Contains(e, "a, b\tc \"d\"\ne\tf") {
		t.Errorf("entries: %s", e)
	}
	c.do("PATCH", "/v3/glossaries/"+multi, asJSON, `{"name":"three","dictionaries":[{"source_lang":"en","target_lang":"fr","entries":"cat\tchatte\ndog\tchien","entries_format":"tsv"}]}`, 200)
	c.do("PUT", "/v3/glossaries/"+multi+"/dictionaries", asJSON, `{"source_lang":"en","target_lang":"es","entries":"cat\tgato","entries_format":"tsv"}`, 200)
	c.do("DELETE", "/v3/glossaries/"+multi+"/dictionaries?source_lang=en&target_lang=de", "", "", 204)
	c.do("GET", "/v3/glossaries/"+multi+"/entries?source_lang=en&target_lang=de", "", "", 404)

	// Another gateway finds the same.
	c.url = serve(t, door.Defaults(), folder, engine)
	if e := fmt.Sprint(c.do("GET", "/v3/glossaries/"+multi+"/entries?source_lang=en&target_lang=fr", "", "", 200)); !strings.Contains(e, "cat\tchatte\ndog\tchien") {
		t.Errorf("entries after a restart: %s", e)
	}
	if n := len(c.do("GET", "/v2/glossaries", "", "", 200)["glossaries"].([]any)); n != 2 {
		t.Errorf("%d glossaries are listed", n)
	}
	c.do("POST", "/v2/translate", form, "text=An+Artist+came&target_lang=DE&source_lang=EN&context=A+film&glossary_id="+id, 200)
	if got := asked.Load().(string); got != "[] [{A film }] [{Artist Maler}]" {
		t.Errorf("the engine was told %q", got)
	}
	c.do("POST", "/v2/translate", form, "text=x&target_lang=FR&source_lang=EN&glossary_id="+id, 400)
	asked.Store("")
	if got := fmt.Sprint(c.do("POST", "/v2/translate", form, "text=Prize&target_lang=DE&source_lang=EN&glossary_id="+id, 200)); !strings.Contains(got, "text:Gewinn") || asked.Load() != "" {
		t.Errorf("a text that is a term: %s, and the engine was told %q", got, asked.Load())
	}
	c.do("DELETE", "/v2/glossaries/"+id, "", "", 204)
	c.do("GET", "/v2/glossaries/"+id, "", "", 404)
	c.do("DELETE", "/v3/glossaries/"+multi, "", "", 204)
	if left, err := os.ReadDir(folder); err != nil || len(left) > 0 {
		t.Errorf("left in the folder: %v, %v", left, err)
	}
}

// TestEntriesOfAGlossaryComeBackAsDeepLSendsThem
func TestEntriesOfAGlossaryComeBackAsDeepLSendsThem(t *testing.T) {
	c := client{t, serve(t, door.Defaults(), "", doortest.Pseudo(new(atomic.Int64)))}
	id := c.do("POST", "/v2/glossaries", asJSON, `{"name":"n","source_lang":"en","target_lang":"de","entries":"a\tb\nc\td","entries_format":"tsv"}`, 201)["glossary_id"].(string)
	res, body := doortest.Do(t, "GET", c.url+"/v2/glossaries/"+id+"/entries", "", "Accept", "text/tab-separated-values")
	if body != "a\tb\nc\td" || res.Header.Get("Content-Type") != "text/tab-separated-values; charset=UTF-8" {
		t.Errorf("%q as %s", body, res.Header.Get("Content-Type"))
	}
	res, body = doortest.Do(t, "GET", c.url+"/v2/glossaries/"+id+"/entries", "", "Accept", "text/csv")
	if res.StatusCode != 415 || !strings.Contains(body, "No supported media type specified in Accept header") {
		t.Errorf("%d %s", res.StatusCode, body)
	}
}

// TestABrokenRowOfAGlossaryIsNamed
func TestABrokenRowOfAGlossaryIsNamed(t *testing.T) {
	c := client{t, serve(t, door.Defaults(), "", doortest.Pseudo(new(atomic.Int64)))}
	for _, call := range []struct{ name, pair, format, entries, want string }{
		{"n", "en de", "tsv", "a\tb\na\tc", "Key with the index 1 (starting at position 4) duplicates key with the index 0 (starting at position 0)"},
		{"n", "en de", "tsv", "a\tb\nc", "misses tab separator (row 2)"},
		{"n", "en de", "tsv", "a\tb\tc", "row 1, column 3"},
		{"n", "en de", "tsv", "a\t ", "row 1, column 2: the term is empty"},
		{"n", "en de", "tsv", strings.Repeat("a", 1025) + "\tb", "row 1, column 1"},
		{"n", "en de", "tsv", "\n", "No entries"},
		{"n", "en de", "csv", "a,b\n\"c,d", "row 2, column"},
		{"n", "en de", "csv", "a,b\nc", "row 2 has 1 columns"},
		{"n", "en de", "csv", "a,b,en,fr", "row 1, column 3"},
		{"n", "en de", "xls", "a,b", "Unsupported entry format specified"},
		{"n", "en en", "tsv", "a\tb", "Unsupported glossary source and target language pair"},
		{"n", "en zz", "tsv", "a\tb", "Unsupported glossary source and target language pair"},
		{"", "en de", "tsv", "a\tb", "Missing or invalid argument: name'"},
	} {
		source, target, _ := strings.Cut(call.pair, " ")
		form1 := url.Values{"name": {call.name}, "source_lang": {source}, "target_lang": {target}, "entries_format": {call.format}, "entries": {call.entries}}
		if got := fmt.Sprint(c.do("POST", "/v2/glossaries", form, form1.Encode(), 400)); !strings.Contains(got, call.want) {
			t.Errorf("%+v: %s", call, got)
		}
	}
	c.do("GET", "/v2/glossaries/mine", "", "", 400)
}

// TestTwoWhoChangeAGlossaryUndoNothing of each other's.
func TestTwoWhoChangeAGlossaryUndoNothing(t *testing.T) {
	c := client{t, serve(t, door.Defaults(), t.TempDir(), doortest.Pseudo(new(atomic.Int64)))}
	id := c.do("POST", "/v3/glossaries", asJSON, `{"name":"n","dictionaries":[{"source_lang":"en","target_lang":"de","entries":"a\tb","entries_format":"tsv"}]}`, 201)["glossary_id"].(string)
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			body := fmt.Sprintf(`{"dictionaries":[{"source_lang":"en","target_lang":"de","entries":"t%d\tb","entries_format":"tsv"}]}`, i)
			r, err := http.NewRequest(http.MethodPatch, c.url+"/v3/glossaries/"+id, strings.NewReader(body))
			if err != nil {
				t.Error(err)
				return
			}
			res, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Error(err)
				return
			}
			res.Body.Close()
		})
	}
	all.Wait()
	if g := c.do("GET", "/v2/glossaries/"+id, "", "", 200); g["entry_count"] != 21.0 {
		t.Errorf("%v", g)
	}
}

// TestOneClientsGlossariesAreNotAnothers
func TestOneClientsGlossariesAreNotAnothers(t *testing.T) {
	config := door.Defaults()
	config.Keys = []door.Key{{Key: "one"}, {Key: "two"}}
	url := serve(t, config, "", doortest.Pseudo(new(atomic.Int64)))
	_, body := doortest.Do(t, "POST", url+"/v2/glossaries", `{"name":"n","source_lang":"en","target_lang":"de","entries":"a\tb"}`, "Authorization", "DeepL-Auth-Key one")
	var g struct {
		ID string `json:"glossary_id"`
	}
	if err := json.Unmarshal([]byte(body), &g); err != nil || g.ID == "" {
		t.Fatalf("%v: %s", err, body)
	}
	for key, want := range map[string]int{"one": 200, "two": 404} {
		if res, _ := doortest.Do(t, "GET", url+"/v2/glossaries/"+g.ID, "", "Authorization", "DeepL-Auth-Key "+key); res.StatusCode != want {
			t.Errorf("the key %s gets %d", key, res.StatusCode)
		}
	}
}

// upload sends a document and returns its id and key.
func upload(t *testing.T, url, name, content, fields string, status int) (id, key string) {
	t.Helper()
	body := "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"" + name + "\"\r\n\r\n" + content + "\r\n"
	for field := range strings.SplitSeq(fields, "&") {
		name, value, _ := strings.Cut(field, "=")
		body += "--b\r\nContent-Disposition: form-data; name=\"" + name + "\"\r\n\r\n" + value + "\r\n"
	}
	res, raw := doortest.Do(t, "POST", url+"/v2/document", body+"--b--\r\n", "Content-Type", "multipart/form-data; boundary=b")
	var answer struct {
		ID      string `json:"document_id"`
		Key     string `json:"document_key"`
		Message string
	}
	if err := json.Unmarshal([]byte(raw), &answer); err != nil || res.StatusCode != status {
		t.Fatalf("%s: %d %s", name, res.StatusCode, raw)
	}
	return answer.ID, answer.Key
}

// TestADocumentIsFetchedOnceByWhoHasItsKey
func TestADocumentIsFetchedOnceByWhoHasItsKey(t *testing.T) {
	gate := make(chan struct{})
	url := serve(t, door.Defaults(), "", doortest.Translator(func(_ context.Context, req *core.Request) (*core.Result, error) {
		<-gate
		if req.Text == "bad" {
			return nil, &core.Error{Kind: core.ProviderRefused}
		}
		return &core.Result{Text: strings.ToUpper(req.Text)}, nil
	}))
	c := client{t, url}
	upload(t, url, "a.pdf", "x", "target_lang=de", 400)
	upload(t, url, "a.txt", "", "target_lang=de", 400)
	upload(t, url, "a.txt", "\xff", "target_lang=de", 400)
	upload(t, url, "a.txt", "x", "target_lang=de&source_lang=de", 400)
	upload(t, url, "a.txt", "x", "target_lang=zz", 400)
	id, key := upload(t, url, "../a.txt", "one\r\n\r\ntwo", "target_lang=de&source_lang=en", 200)
	at := "/v2/document/" + id
	if got := c.do("POST", at, form, "document_key="+key, 200); got["status"] != "translating" {
		t.Errorf("%v", got)
	}
	c.do("POST", at+"/result", form, "document_key="+key, 503)
	c.do("POST", at, form, "document_key=wrong", 404)
	close(gate)
	wait := func(at, key string) map[string]any {
		for {
			if got := c.do("POST", at, asJSON, `{"document_key":"`+key+`"}`, 200); got["status"] != "translating" {
				return got
			}
		}
	}
	if got := wait(at, key); got["status"] != "done" || got["billed_characters"] != 10.0 {
		t.Errorf("%v", got)
	}
	res, body := doortest.Do(t, "POST", url+at+"/result", "document_key="+key, "Content-Type", form)
	if body != "ONE\r\n\r\nTWO" || res.Header.Get("Content-Disposition") != "attachment; filename=a.txt" {
		t.Errorf("%q, %v", body, res.Header)
	}
	c.do("POST", at+"/result", form, "document_key="+key, 404)
	id, key = upload(t, url, "a.txt", "one\nbad", "target_lang=de&source_lang=en", 200)
	if got := wait("/v2/document/"+id, key); got["status"] != "error" || got["error_message"] == "" {
		t.Errorf("%v", got)
	}
}

// TestATextOfSeveralContextsHasATranslationInEach of a catalogue, unless the operator wants nothing
// of clients in prompts.
func TestATextOfSeveralContextsHasATranslationInEach(t *testing.T) {
	for instructions, want := range map[string]string{"on": "OPEN verb|OPEN state|SAVE ", "off": "OPEN |OPEN |SAVE "} {
		rules := door.Defaults()
		rules.Instructions = instructions
		c := client{t, serve(t, rules, "", doortest.Translator(func(_ context.Context, req *core.Request) (*core.Result, error) {
			around := ""
			for _, p := range req.Context {
				around += p.Source
			}
			return &core.Result{Text: strings.ToUpper(req.Text) + " " + around}, nil
		}))}
		id, key := upload(t, c.url, "a.po", `msgctxt "verb"
msgid "Open"
msgstr ""

msgctxt "state"
msgid "Open"
msgstr ""

msgctxt "menu"
msgid "Save"
msgstr ""
`, "target_lang=de&source_lang=en", 200)
		for got := (map[string]any{"status": "translating"}); got["status"] == "translating"; {
			got = c.do("POST", "/v2/document/"+id, form, "document_key="+key, 200)
		}
		_, body := doortest.Do(t, "POST", c.url+"/v2/document/"+id+"/result", "document_key="+key, "Content-Type", form)
		var said []string
		for _, m := range regexp.MustCompile(`msgstr "([^"]+)"`).FindAllStringSubmatch(body, -1) {
			said = append(said, m[1])
		}
		if got := strings.Join(said, "|"); got != want {
			t.Errorf("instructions %s: %q, want %q, of\n%s", instructions, got, want, body)
		}
	}
}

// TestADocumentGoesOnAfterARestart of the gateway, and no text is asked for twice.
func TestADocumentGoesOnAfterARestart(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "glossaries")
	var content strings.Builder
	for i := range 200 {
		fmt.Fprintf(&content, "Line %d.\n", i)
	}
	var mu sync.Mutex
	asked := map[string]int{}
	stuck := make(chan struct{})
	begin := func(allowed int) (url string, d *deepl.Door) {
		var once sync.Once
		url = doortest.Serve(t, door.Defaults(), doortest.Translator(func(ctx context.Context, req *core.Request) (*core.Result, error) {
			mu.Lock()
			n := len(asked)
			mu.Unlock()
			if n >= allowed {
				once.Do(func() { close(stuck) })
				<-ctx.Done()
				return nil, core.ContextError(ctx, "")
			}
			mu.Lock()
			asked[req.Text]++
			mu.Unlock()
			return &core.Result{Text: strings.ToUpper(req.Text)}, nil
		}), func(s *door.Service, m *door.Metrics, log *zap.Logger) door.Dialect {
			d = deepl.New(deepl.Defaults(), folder, s, m, log)
			return d.Dialect()
		})
		return url, d
	}
	url, first := begin(100)
	id, key := upload(t, url, "a.txt", content.String(), "target_lang=de&source_lang=en", 200)
	<-stuck
	first.Close()
	kept := len(asked)
	stuck = make(chan struct{})
	url, second := begin(1000)
	second.Resume()
	defer second.Close()
	c := client{t, url}
	got := map[string]any{"status": "translating"}
	for got["status"] == "translating" {
		got = c.do("POST", "/v2/document/"+id, form, "document_key="+key, 200)
	}
	if got["status"] != "done" {
		t.Fatalf("%v", got)
	}
	if _, body := doortest.Do(t, "POST", url+"/v2/document/"+id+"/result", "document_key="+key, "Content-Type", form); body != strings.ToUpper(content.String()) {
		t.Errorf("%q", body)
	}
	twice := 0
	for _, n := range asked {
		twice += n - 1
	}
	if len(asked) != 200 || kept < 100 || twice > 0 {
		t.Errorf("%d texts were asked for, %d of them before, %d twice", len(asked), kept, twice)
	}
	if names, _ := filepath.Glob(filepath.Join(filepath.Dir(folder), "documents", "*")); len(names) != 0 {
		t.Errorf("%v is left", names)
	}
}
