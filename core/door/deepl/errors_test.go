package deepl_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/door"
	"github.com/dragoman-mt/dragoman/core/door/doortest"
)

// TestEveryErrorIsDeepLs: its status, its words, and what a client may do about it. What
// the libraries send again are 429 and every status from 500 on.
func TestEveryErrorIsDeepLs(t *testing.T) {
	config := door.Defaults()
	config.Keys = []door.Key{
		{Name: "free", Key: "free"}, {Name: "poor", Key: "poor", CharactersPerMonth: 3}, {Name: "hasty", Key: "hasty", RequestsPerMinute: 1},
		{Name: "elsewhere", Key: "elsewhere", Doors: []string{"openai"}}, {Name: "ops", Key: "ops", Role: door.Operate},
	}
	var calls atomic.Int64
	url := serve(t, config, "", doortest.Translator(func(ctx context.Context, req *core.Request) (*core.Result, error) {
		if kind, ok := strings.CutPrefix(req.Text, "fails: "); ok {
			return nil, &core.Error{Kind: core.ErrorKind(kind), Detail: "why"}
		}
		return doortest.Pseudo(&calls)(ctx, req)
	}))
	made := func(path, body string) string {
		_, raw := doortest.Do(t, "POST", url+path, body, "Content-Type", form, "Authorization", "DeepL-Auth-Key free")
		_, rest, _ := strings.Cut(raw, `"glossary_id":"`)
		id, _, _ := strings.Cut(rest, `"`)
		return id
	}
	id := made("/v2/glossaries", "name=n&source_lang=en&target_lang=de&entries_format=tsv&entries=a%09b")
	if id == "" {
		t.Fatal("no glossary was made")
	}
	const unknown = "00000000-0000-4000-8000-000000000000"
	x := "text=x&target_lang=de"
	for _, call := range []struct {
		name, method, path, key, body string
		status                        int
		want                          string // what the message holds
		again                         bool   // Retry-After says when
	}{
		{"no key", "POST", "/v2/translate", "", x, 403, "key", false},
		{"a wrong key", "POST", "/v2/translate", "nobodys", x, 403, "key", false},
		{"an operator's key", "POST", "/v2/translate", "ops", x, 403, "operator", false},
		{"a key for other doors", "POST", "/v2/translate", "elsewhere", x, 403, "other doors", false},
		{"a wrong key, version 3", "GET", "/v3/glossaries", "nobodys", "", 403, "key", false},
		{"the quota is used up", "POST", "/v2/translate", "poor", "text=four&target_lang=de", 456, "Quota for this billing period has been exceeded.", false},
		{"too many calls: the first", "GET", "/v2/translate?text=x&target_lang=de", "hasty", "", 200, "", false},
		{"too many calls", "GET", "/v2/translate?text=x&target_lang=de", "hasty", "", 429, "Too many requests", true},

		{"formality of a language without", "POST", "/v2/translate", "free", "text=x&target_lang=sv&formality=more", 400, "'formality' is not supported for given 'target_lang'", false},
		{"formality that is only preferred", "POST", "/v2/translate", "free", "text=x&target_lang=sv&formality=prefer_more", 200, "", false},
		{"formality in capitals", "POST", "/v2/translate", "free", "text=x&target_lang=DE&formality=LESS", 200, "", false},
		{"instructions of a fast model", "POST", "/v2/translate", "free", x + "&custom_instructions=Be+brief&model_type=latency_optimized", 400, "custom_instructions", false},
		{"an instruction that is too long", "POST", "/v2/translate", "free", x + "&custom_instructions=" + strings.Repeat("x", 301), 400, "custom_instructions", false},
		{"model_type", "POST", "/v2/translate", "free", x + "&model_type=best", 400, "model_type", false},
		{"tag_handling_version", "POST", "/v2/translate", "free", x + "&tag_handling=xml&tag_handling_version=v9", 400, "tag_handling_version", false},
		{"a memory", "POST", "/v2/translate", "free", x + "&translation_memory_id=" + unknown, 404, "translation_memory_id", false},
		{"two ways to name glossaries", "POST", "/v2/translate", "free", x + "&source_lang=en&glossary_id=" + id + "&glossary_ids=" + id, 400, "glossary_ids", false},
		{"glossaries without a source", "POST", "/v2/translate", "free", x + "&glossary_ids=" + id, 400, "source_lang", false},
		{"six glossaries", "POST", "/v2/translate", "free", x + "&source_lang=en&glossary_ids=" + strings.Repeat(id+",", 6), 400, "glossary_ids", false},
		{"a glossary of other languages", "POST", "/v2/translate", "free", "text=x&target_lang=fr&source_lang=en&glossary_ids=" + id, 400, "glossary", false},
		{"another method", "DELETE", "/v2/translate", "free", "", 405, "Method not allowed", false},
		{"another path", "GET", "/v2/admin/analytics", "free", "", 404, "Not found", false},

		{"a glossary without a name", "POST", "/v2/glossaries", "free", "source_lang=en&target_lang=de&entries=a%09b&entries_format=tsv", 400, "Missing or invalid argument: name'", false},
		{"a glossary of version 3 without dictionaries", "POST", "/v3/glossaries", "free", "name=n", 400, "dictionaries", false},
		{"one that there is not", "GET", "/v3/glossaries/" + unknown, "free", "", 404, "not found", false},
		{"one that is no id", "DELETE", "/v3/glossaries/mine", "free", "", 400, "Invalid glossary id", false},
		{"entries that there are not", "GET", "/v3/glossaries/" + id + "/entries?source_lang=de&target_lang=en", "free", "", 404, "Dictionary not found", false},
		{"a dictionary that there is not", "DELETE", "/v3/glossaries/" + id + "/dictionaries?source_lang=de&target_lang=en", "free", "", 404, "Dictionary not found", false},
		{"two dictionaries in one change", "PATCH", "/v3/glossaries/" + id, "free", "dictionaries[0].source_lang=en&dictionaries[0].target_lang=de&dictionaries[0].entries=a%09b&dictionaries[1].source_lang=en&dictionaries[1].target_lang=fr&dictionaries[1].entries=a%09b", 400, "dictionar", false},
		{"glossaries by another method", "PUT", "/v2/glossaries", "free", "", 405, "Method not allowed", false},

		{"a document without a file", "POST", "/v2/document", "free", "target_lang=de", 400, "Invalid file data.", false},
		{"a document that there is not", "POST", "/v2/document/" + strings.Repeat("0", 32), "free", "document_key=" + strings.Repeat("0", 64), 404, "", false},
		{"its result", "POST", "/v2/document/" + strings.Repeat("0", 32) + "/result", "free", "document_key=" + strings.Repeat("0", 64), 404, "", false},

		{"what a model will not translate", "POST", "/v2/translate", "free", "text=fails:+provider_refused&target_lang=de", 400, "", false},
		{"a provider that fails", "POST", "/v2/translate", "free", "text=fails:+provider_failed&target_lang=de", 502, "why", false},
		{"a provider whose own quota is used up", "POST", "/v2/translate", "free", "text=fails:+quota_exceeded&target_lang=de", 502, "why", true},
		{"a defect of ours", "POST", "/v2/translate", "free", "text=fails:+internal&target_lang=de", 500, "", false},
		{"time that ran out", "POST", "/v2/translate", "free", "text=fails:+deadline_exceeded&target_lang=de", 504, "why", false},
	} {
		auth := ""
		if call.key != "" {
			auth = "DeepL-Auth-Key " + call.key
		}
		res, body := doortest.Do(t, call.method, url+call.path, call.body, "Content-Type", form, "Authorization", auth)
		if res.StatusCode != call.status || !strings.Contains(body, call.want) || call.status >= 400 && !strings.HasPrefix(body, `{"message":"`) {
			t.Errorf("%s: %d %.300s\nwant %d %s", call.name, res.StatusCode, body, call.status, call.want)
		}
		if got := res.Header.Get("Retry-After") != ""; got != call.again {
			t.Errorf("%s: Retry-After %q", call.name, res.Header.Get("Retry-After"))
		}
		if res.Header.Get("X-Trace-Id") == "" {
			t.Errorf("%s: no X-Trace-ID", call.name)
		}
	}
	if n := calls.Load(); n != 3 {
		t.Errorf("%d texts were asked for, of three calls that were right", n)
	}
}
