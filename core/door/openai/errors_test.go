package openai_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/door"
	"github.com/dragoman-mt/dragoman/core/door/doortest"
)

// TestEveryErrorIsOpenAIs: its status, its code, and what the libraries go by when they
// decide whether to ask again.
func TestEveryErrorIsOpenAIs(t *testing.T) {
	config := door.Defaults()
	config.MaxText = 30
	config.Keys = []door.Key{
		{Name: "free", Key: "free"}, {Name: "poor", Key: "poor", CharactersPerMonth: 3}, {Name: "hasty", Key: "hasty", RequestsPerMinute: 1},
		{Name: "elsewhere", Key: "elsewhere", Doors: []string{"deepl"}},
	}
	url := serve(t, config, models(), doortest.Translator(func(ctx context.Context, req *core.Request) (*core.Result, error) {
		if kind, ok := strings.CutPrefix(req.Text, "fails: "); ok {
			return nil, &core.Error{Kind: core.ErrorKind(kind), Detail: "why"}
		}
		return &core.Result{Text: "x"}, nil
	}))
	says := func(content string) string {
		return `{"model":"translate/es","messages":[{"role":"user","content":` + quoted(content) + `}]}`
	}
	const chat = "/v1/chat/completions"
	for _, call := range []struct {
		name, method, path, key, body string
		status                        int
		kind, code, param             string
		again, when                   bool // x-should-retry, Retry-After and retry-after-ms
	}{
		{"no key", "POST", chat, "", says("x"), 401, "invalid_request_error", "invalid_api_key", "", false, false},
		{"a wrong key", "POST", chat, "nobodys", says("x"), 401, "invalid_request_error", "invalid_api_key", "", false, false},
		{"a wrong key for models", "GET", "/v1/models", "nobodys", "", 401, "invalid_request_error", "invalid_api_key", "", false, false},
		{"a key for other doors", "POST", chat, "elsewhere", says("x"), 403, "invalid_request_error", "forbidden", "", false, false},
		{"the quota is used up", "POST", chat, "poor", says("four"), 429, "insufficient_quota", "insufficient_quota", "", false, false},
		{"too many calls: the first", "POST", chat, "hasty", says("x"), 200, "", "", "", false, false},
		{"too many calls", "POST", chat, "hasty", says("x"), 429, "requests", "rate_limit_exceeded", "", true, true},

		{"an unknown model", "POST", chat, "free", `{"model":"gpt-9","messages":[{"role":"user","content":"x"}]}`, 404, "invalid_request_error", "model_not_found", "model", false, false},
		{"a model of no language", "POST", chat, "free", `{"model":"translate/nonsense","messages":[{"role":"user","content":"x"}]}`, 404, "invalid_request_error", "model_not_found", "model", false, false},
		{"a model that says no language", "POST", chat, "free", `{"model":"translate","messages":[{"role":"user","content":"x"}]}`, 400, "invalid_request_error", "", "model", false, false},
		{"a model that is not listed", "GET", "/v1/models/gpt-9", "free", "", 404, "invalid_request_error", "model_not_found", "model", false, false},
		{"tools", "POST", chat, "free", strings.TrimSuffix(says("x"), "}") + `,"tools":[{"type":"function"}]}`, 400, "invalid_request_error", "unsupported_prompt", "messages", false, false},
		{"a schema", "POST", chat, "free", strings.TrimSuffix(says("x"), "}") + `,"response_format":{"type":"json_schema"}}`, 400, "invalid_request_error", "unsupported_prompt", "messages", false, false},
		{"a prompt for a chat", "POST", chat, "free", says(`{"task":"x"}`), 400, "invalid_request_error", "unsupported_prompt", "messages", false, false},
		{"broken JSON", "POST", chat, "free", `{"model":`, 400, "invalid_request_error", "", "", false, false},
		{"no JSON", "POST", chat, "free", `model=x`, 400, "invalid_request_error", "", "", false, false},
		{"no messages", "POST", chat, "free", `{"model":"translate/es"}`, 400, "invalid_request_error", "", "messages", false, false},
		{"no message of a user", "POST", chat, "free", `{"model":"translate/es","messages":[{"role":"system","content":"x"}]}`, 400, "invalid_request_error", "", "messages", false, false},
		{"messages that are none", "POST", chat, "free", `{"model":"translate/es","messages":"x"}`, 400, "invalid_request_error", "", "messages", false, false},
		{"a text that is too long", "POST", chat, "free", says(strings.Repeat("x", 31)), 400, "invalid_request_error", "context_length_exceeded", "text", false, false},
		{"a body that is too large", "POST", chat, "free", says(strings.Repeat("x", 1<<20)), 400, "invalid_request_error", "context_length_exceeded", "", false, false},
		{"another method", "GET", chat, "free", "", 405, "invalid_request_error", "", "", false, false},
		{"what there is not", "POST", "/v1/embeddings", "free", `{}`, 404, "invalid_request_error", "not_found", "", false, false},
		{"completions of old", "POST", "/v1/completions", "free", `{}`, 404, "invalid_request_error", "not_found", "", false, false},

		{"a provider that fails", "POST", chat, "free", says("fails: provider_failed"), 502, "server_error", "upstream_error", "", true, false},
		{"what a model will not translate", "POST", chat, "free", says("fails: provider_refused"), 502, "server_error", "upstream_error", "", true, false},
		{"a provider whose own quota is used up", "POST", chat, "free", says("fails: quota_exceeded"), 502, "server_error", "upstream_error", "", true, true},
		{"a pair that nobody translates", "POST", chat, "free", says("fails: unsupported_language"), 400, "invalid_request_error", "", "", false, false},
		{"time that ran out", "POST", chat, "free", says("fails: deadline_exceeded"), 504, "server_error", "timeout", "", true, false},
		{"a defect of ours", "POST", chat, "free", says("fails: internal"), 500, "server_error", "", "", true, false},
	} {
		auth := ""
		if call.key != "" {
			auth = "Bearer " + call.key
		}
		res, body := doortest.Do(t, call.method, url+call.path, call.body, "Content-Type", "application/json", "Authorization", auth)
		var got struct {
			Error struct {
				Message, Type string
				Param, Code   *string
			}
		}
		err := json.Unmarshal([]byte(body), &got)
		str := func(s *string) string {
			if s == nil {
				return ""
			}
			return *s
		}
		e := got.Error
		if res.StatusCode != call.status || err != nil || e.Type != call.kind || str(e.Code) != call.code || str(e.Param) != call.param || call.status >= 400 && e.Message == "" {
			t.Errorf("%s: %d %.400s\nwant %d %s %s %s", call.name, res.StatusCode, body, call.status, call.kind, call.code, call.param)
		}
		h := res.Header
		if call.status >= 400 && (h.Get("X-Should-Retry") == "true") != call.again || (h.Get("Retry-After") != "") != call.when || (h.Get("Retry-After-Ms") != "") != call.when {
			t.Errorf("%s: %v", call.name, h)
		}
		if h.Get("X-Request-Id") == "" || call.status >= 400 && h.Get("Content-Type") != "application/json; charset=utf-8" {
			t.Errorf("%s: %v", call.name, h)
		}
	}
}
