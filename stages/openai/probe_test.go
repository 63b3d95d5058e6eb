package openai

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.uber.org/zap"

	"github.com/dragoman-mt/dragoman/core"
)

// Servers that have no /models answer a call without a model in their own ways, and
// so do those that are something else.
func TestABaseURLThatLeadsNowhereIsToldByAProbe(t *testing.T) {
	const page = "<!doctype html><title>Welcome</title>"
	answer := func(status int, kind, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			if kind != "" {
				w.Header().Set("Content-Type", kind)
			}
			w.WriteHeader(status)
			io.WriteString(w, body)
		}
	}
	for _, c := range []struct {
		name, path   string
		models, chat http.HandlerFunc // of /v1; nil: not there
		other        http.HandlerFunc // of everything else
		want         string           // of the error; "" when there is none
		notice       bool
	}{
		{"Ollama without /v1", "", nil, nil, answer(404, "text/plain", "404 page not found"), "/chat/completions is answered with status 404, so nothing translates there; change providers.main.base_url: it may lack /v1 at its end, as in http://", false},
		{"OpenAI without /v1", "", nil, nil, answer(404, "application/json", `{"error":{"message":"Invalid URL (POST /chat/completions)","type":"invalid_request_error"}}`), "may lack /v1", false},
		{"FastAPI under another path", "/api/v1", nil, nil, answer(404, "application/json", `{"detail":"Not Found"}`), "/api/v1/chat/completions is answered with status 404, so nothing translates there; change providers.main.base_url: its path may be wrong", false},
		{"a site that answers everything", "/v1", nil, nil, answer(200, "text/html; charset=utf-8", page), "is answered with a web page", false},
		{"a site without a path", "", nil, nil, answer(200, "", page), "may lack /v1", false},
		{"a site that says 404 with a page about models", "/v1", nil, nil, answer(404, "text/html", page+"our models"), "is answered with a web page", false},
		{"static files", "/v1", nil, nil, answer(405, "text/plain", "Method Not Allowed"), "with status 405", false},
		{"a redirect", "/v1", nil, nil, answer(301, "", ""), "redirects are not followed", false},
		{"Azure, which has no models there", "/v1", nil, answer(400, "application/json", `{"error":{"message":"you must provide a model parameter"}}`), answer(404, "application/json", `{"error":{"code":"404","message":"Resource not found"}}`), "", true},
		{"FastAPI that validates", "/v1", nil, answer(422, "application/json", `{"detail":[{"loc":["body","messages"]}]}`), answer(404, "application/json", `{"detail":"Not Found"}`), "", true},
		{"a model that is not known as 404", "/v1", nil, answer(404, "application/json", `{"error":{"message":"model '' not found"}}`), answer(404, "", ""), "", true},
		{"a server that fails on it", "/v1", nil, answer(500, "application/json", `{"error":"'messages'"}`), answer(404, "", ""), "", true},
		{"a page for /models beside an API", "/v1", answer(200, "text/html", page), answer(400, "application/json", `{"error":{}}`), answer(200, "text/html", page), "", true},
		{"a key that is wrong and no /models", "/v1", nil, answer(401, "application/json", `{"error":{}}`), answer(404, "", ""), "refuses providers.main.api_key", false},
		{"a list of models", "/v1", answer(200, "application/json", `{"id":"m"}`), nil, answer(404, "", ""), "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			mux := http.NewServeMux()
			mux.HandleFunc("/", c.other)
			if c.models != nil {
				mux.HandleFunc("GET /v1/models/{model...}", c.models)
			}
			if c.chat != nil {
				mux.HandleFunc("POST /v1/chat/completions", func(w http.ResponseWriter, r *http.Request) {
					if body, err := io.ReadAll(r.Body); err != nil || string(body) != "{}" {
						t.Errorf("sent %s, %v: it could be translated, which costs", body, err)
					}
					c.chat(w, r)
				})
			}
			server := httptest.NewServer(mux)
			defer server.Close()
			p := provide(t, server.URL+c.path, nil, nil)
			err := p.Probe(t.Context())
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if kind := core.KindOf(err); err != nil && kind != core.NotFound && kind != core.Unauthorized {
				t.Errorf("%v is of kind %s, which is no mistake", err, kind)
			}
			if (p.Notice() != "") != c.notice {
				t.Errorf("notice %q", p.Notice())
			}
		})
	}
}

func TestABaseURLThatCannotBeOneIsRefused(t *testing.T) {
	for base, want := range map[string]string{
		"https://api.example.com/v1/chat/completions": "ends with /chat/completions, which is added to it; write https://api.example.com/v1", "https://api.example.com/chat/completions/": "write https://api.example.com",
		"https://$HOST/v1": "${NAME}", "https://{host}/v1": "${NAME}", "https://<host>/v1": "",
	} {
		cfg := defaults()
		cfg.BaseURL, cfg.APIKey = base, "k"
		if _, err := build(core.Env{Name: "test", Log: zap.NewNop()}, &cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", base, err, want)
		}
	}
}

func TestWhatNothingReplacesInInstructionsIsComplainedOf(t *testing.T) {
	for text, word := range map[string]string{
		"Translate into {targetLanguage}.": "{targetLanguage}", "From {{source}} please.": "{{source}}", "To {target_lang}: {text}": "{target_lang}", "{text}": "{text}", "Translate {{ text }} to {{to}}": "{{ text }}",
		"{{.TargetLanguage}}": "{{.TargetLanguage}}", "{source_language_name}": "{source_language_name}", "{{to}}": "{{to}}", "{Source Language}": "{Source Language}", "%(target_lang)s": "%(target_lang)s", "{lang}": "{lang}",
		"Keep {name} and {{user}} as they are.": "", "Keep {0}, %s and {count} as they are.": "", "The source text is a caption, the target a screen.": "", "Answer with {}.": "", "{to} stays": "", "JSON such as {\"text\": 1} stays.": "", "": "",
	} {
		cfg := defaults()
		cfg.Instructions = text
		_, err := build(core.Env{Name: "test", Log: zap.NewNop()}, &cfg)
		switch {
		case word == "" && err != nil:
			t.Errorf("%s: %v", text, err)
		case word != "" && (err == nil || !strings.Contains(err.Error(), "hold "+word+", which nothing replaces: languages and text are added by themselves")):
			t.Errorf("%s: got %v", text, err)
		}
	}
}
