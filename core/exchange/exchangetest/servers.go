// Package exchangetest has servers for tests that answer as DeepL, LibreTranslate,
// Google Cloud Translation (v2) and Azure Translator (v3) document it, and what their
// providers are held to. A translation is the target in brackets, and the text.
package exchangetest

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"
)

// Key is the one that the servers take.
const Key = "0123-the-key-4567"

// A Server is one of them. It is safe for concurrent use.
type Server struct {
	*httptest.Server

	mu    sync.Mutex
	fail  http.HandlerFunc
	calls []Seen
}

// Seen is a call that a server got.
type Seen struct {
	Method, Path string
	Header       http.Header
	Query        map[string][]string
	Body         string
}

// Fail makes f answer every call that translates; nil ends it.
func (s *Server) Fail(f http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = f
}

// Calls returns the calls with path that came, and forgets them.
func (s *Server) Calls(path string) []Seen {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []Seen
	s.calls = slices.DeleteFunc(s.calls, func(c Seen) bool {
		if c.Path == path {
			all = append(all, c)
			return true
		}
		return false
	})
	return all
}

func serve(t testing.TB, translate string, handlers map[string]http.HandlerFunc) *Server {
	s := &Server{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
		r.Body = io.NopCloser(strings.NewReader(string(body)))
		s.mu.Lock()
		s.calls = append(s.calls, Seen{r.Method, r.URL.Path, r.Header.Clone(), r.URL.Query(), string(body)})
		fail := s.fail
		s.mu.Unlock()
		h := handlers[r.Method+" "+r.URL.Path]
		switch {
		case fail != nil && r.Method+" "+r.URL.Path == translate:
			fail(w, r)
		case h == nil:
			say(w, http.StatusNotFound, map[string]any{"message": "Not found"})
		default:
			h(w, r)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

func say(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v)
}

func translated(target, text string) string { return "[" + strings.ToLower(target) + "] " + text }

// DeepL answers as https://developers.deepl.com has it.
func DeepL(t testing.TB) *Server {
	bad := func(w http.ResponseWriter, message string) { say(w, 400, map[string]string{"message": message}) }
	sources := []string{"DE", "EN", "ES", "JA", "NB", "PT", "ZH"}
	targets := []string{"DE", "EN-GB", "EN-US", "ES", "ES-419", "JA", "NB", "PT-BR", "PT-PT", "ZH", "ZH-HANS", "ZH-HANT"}
	keyed := func(h http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Trace-ID", "1")
			if r.Header.Get("Authorization") != "DeepL-Auth-Key "+Key {
				w.WriteHeader(http.StatusForbidden)
				return
			}
			h(w, r)
		}
	}
	return serve(t, "POST /v2/translate", map[string]http.HandlerFunc{
		"GET /v2/languages": keyed(func(w http.ResponseWriter, r *http.Request) {
			var list []map[string]any
			all := sources
			if r.URL.Query().Get("type") == "target" {
				all = targets
			}
			for _, code := range all {
				list = append(list, map[string]any{"language": code, "name": code})
			}
			say(w, 200, list)
		}),
		"POST /v2/translate": keyed(func(w http.ResponseWriter, r *http.Request) {
			var b struct {
				Text         []string `json:"text"`
				Source       string   `json:"source_lang"`
				Target       string   `json:"target_lang"`
				Formality    string   `json:"formality"`
				Glossary     string   `json:"glossary_id"`
				Instructions []string `json:"custom_instructions"`
				Billed       bool     `json:"show_billed_characters"`
			}
			if json.NewDecoder(r.Body).Decode(&b) != nil {
				bad(w, "Bad request")
				return
			}
			switch {
			case len(b.Text) == 0:
				bad(w, "Parameter 'text' not specified")
			case len(b.Text) > 50:
				bad(w, "Too many texts")
			case r.ContentLength > 128<<10:
				say(w, 413, map[string]string{"message": "Request too large"})
			case !slices.Contains(targets, strings.ToUpper(b.Target)):
				bad(w, "Value for 'target_lang' not supported.")
			case b.Source != "" && !slices.Contains(sources, strings.ToUpper(b.Source)):
				bad(w, "Value for 'source_lang' not supported.")
			case b.Glossary != "" && b.Source == "":
				bad(w, "Use of a glossary requires the source_lang parameter to be specified")
			case (b.Formality == "more" || b.Formality == "less") && b.Target == "JA":
				bad(w, "'formality' is not supported for given 'target_lang'.")
			case len(b.Instructions) > 10 || len(b.Instructions) > 0 && strings.HasPrefix(b.Target, "PT"):
				bad(w, "custom_instructions are not supported")
			default:
				var all []map[string]any
				for _, text := range b.Text {
					one := map[string]any{"detected_source_language": "EN", "text": translated(b.Target, text)}
					if b.Source != "" {
						one["detected_source_language"] = b.Source
					}
					if b.Billed {
						one["billed_characters"] = utf8.RuneCountInString(text)
					}
					all = append(all, one)
				}
				say(w, 200, map[string]any{"translations": all})
			}
		}),
	})
}

// LibreTranslate answers as version 1.9 does. It wants Key, and takes 2,000 characters.
func LibreTranslate(t testing.TB) *Server {
	bad := func(w http.ResponseWriter, status int, message string, args ...any) {
		say(w, status, map[string]string{"error": fmt.Sprintf(message, args...)})
	}
	list := map[string][]string{"en": {"es", "de", "zh-Hant", "pt-BR"}, "es": {"en"}, "de": {"en"}, "zh-Hant": {"en"}, "pt-BR": {"en"}}
	return serve(t, "POST /translate", map[string]http.HandlerFunc{
		"GET /languages": func(w http.ResponseWriter, r *http.Request) {
			var all []map[string]any
			for _, code := range slices.Sorted(maps.Keys(list)) {
				all = append(all, map[string]any{"code": code, "name": code, "targets": list[code]})
			}
			say(w, 200, all)
		},
		"GET /frontend/settings": func(w http.ResponseWriter, r *http.Request) {
			say(w, 200, map[string]any{"charLimit": 2000, "keyRequired": true})
		},
		"POST /translate": func(w http.ResponseWriter, r *http.Request) {
			var b struct {
				Q      any    `json:"q"`
				Source string `json:"source"`
				Target string `json:"target"`
				Format string `json:"format"`
				Key    string `json:"api_key"`
			}
			if json.NewDecoder(r.Body).Decode(&b) != nil {
				bad(w, 400, "Invalid JSON format")
				return
			}
			var texts []string
			many, isList := b.Q.([]any)
			for _, q := range many {
				texts = append(texts, q.(string))
			}
			if q, is := b.Q.(string); is && q != "" {
				texts = []string{q}
			}
			switch {
			case b.Key == "":
				bad(w, 400, "Please contact the server operator to get an API key")
			case b.Key != Key:
				bad(w, 403, "Invalid API key")
			case len(texts) == 0:
				bad(w, 400, "Invalid request: missing q parameter")
			case len(texts) > 50:
				bad(w, 400, "Invalid request: request (%d) exceeds text limit (50)", len(texts))
			case utf8.RuneCountInString(strings.Join(texts, "")) > 2000:
				bad(w, 400, "Invalid request: request (%d) exceeds text limit (2000)", utf8.RuneCountInString(strings.Join(texts, "")))
			case b.Source != "auto" && list[b.Source] == nil:
				bad(w, 400, "%s is not supported", b.Source)
			case list[b.Target] == nil:
				bad(w, 400, "%s is not supported", b.Target)
			case b.Source != "auto" && !slices.Contains(list[b.Source], b.Target):
				bad(w, 400, "%s is not available as a target language from %s", b.Target, b.Source)
			case b.Format != "text":
				bad(w, 400, "%s format is not supported", b.Format)
			default:
				out := map[string]any{}
				var all []string
				var detected []map[string]any
				for _, text := range texts {
					all = append(all, translated(b.Target, text))
					detected = append(detected, map[string]any{"confidence": 90.0, "language": "en"})
				}
				if out["translatedText"] = any(all); !isList {
					out["translatedText"] = all[0]
				}
				if b.Source == "auto" {
					if out["detectedLanguage"] = any(detected); !isList {
						out["detectedLanguage"] = detected[0]
					}
				}
				say(w, 200, out)
			}
		},
	})
}

// Google answers as version 2 does.
func Google(t testing.TB) *Server {
	bad := func(w http.ResponseWriter, status int, message, reason string) {
		say(w, status, map[string]any{"error": map[string]any{"code": status, "message": message, "errors": []any{map[string]string{"message": message, "domain": "global", "reason": reason}}}})
	}
	codes := []string{"de", "en", "es", "fr", "iw", "no", "pt", "pt-PT", "tl", "zh", "zh-CN", "zh-TW"}
	keyed := func(h http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			switch key := r.Header.Get("X-Goog-Api-Key"); {
			case r.URL.Query().Has("key"):
				bad(w, 400, "the key stands in the address", "badRequest")
			case key == "":
				bad(w, 403, "Method doesn't allow unregistered callers (callers without established identity).", "forbidden")
			case key != Key:
				say(w, 400, map[string]any{"error": map[string]any{"code": 400, "message": "API key not valid. Please pass a valid API key.", "status": "INVALID_ARGUMENT",
					"errors": []any{map[string]string{"message": "API key not valid. Please pass a valid API key.", "domain": "global", "reason": "badRequest"}}, "details": []any{map[string]string{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}}}})
			default:
				h(w, r)
			}
		}
	}
	return serve(t, "POST /language/translate/v2", map[string]http.HandlerFunc{
		"GET /language/translate/v2/languages": keyed(func(w http.ResponseWriter, r *http.Request) {
			var all []map[string]string
			for _, code := range codes {
				all = append(all, map[string]string{"language": code})
			}
			say(w, 200, map[string]any{"data": map[string]any{"languages": all}})
		}),
		"POST /language/translate/v2": keyed(func(w http.ResponseWriter, r *http.Request) {
			var b struct {
				Q                      []string
				Source, Target, Format string
			}
			if json.NewDecoder(r.Body).Decode(&b) != nil {
				bad(w, 400, "Invalid JSON payload received.", "parseError")
				return
			}
			switch {
			case len(b.Q) == 0:
				bad(w, 400, "Required Text", "required")
			case len(b.Q) > 128:
				bad(w, 400, "Too many text segments", "invalid")
			case utf8.RuneCountInString(strings.Join(b.Q, "")) > 30_000:
				bad(w, 400, "Text too long", "invalid")
			case !slices.Contains(codes, b.Target):
				bad(w, 400, "Invalid Value", "invalid")
			case b.Source != "" && !slices.Contains(codes, b.Source):
				bad(w, 400, "Bad language pair: "+b.Source+"|"+b.Target, "badRequest")
			default:
				var all []map[string]string
				for _, text := range b.Q {
					if text = translated(b.Target, text); b.Format != "text" {
						text = strings.NewReplacer("&", "&amp;", "'", "&#39;", `"`, "&quot;").Replace(text)
					}
					one := map[string]string{"translatedText": text, "model": "nmt"}
					if b.Source == "" {
						one["detectedSourceLanguage"] = "iw"
					}
					all = append(all, one)
				}
				say(w, 200, map[string]any{"data": map[string]any{"translations": all}})
			}
		}),
	})
}

// Azure answers as version 3.0 does, for a resource in westeurope.
func Azure(t testing.TB) *Server {
	bad := func(w http.ResponseWriter, code int, message string) {
		say(w, code/1000, map[string]any{"error": map[string]any{"code": code, "message": message}})
	}
	codes := []string{"de", "en", "es", "fil", "he", "nb", "pt", "pt-pt", "sr-Cyrl", "sr-Latn", "zh-Hans", "zh-Hant"}
	return serve(t, "POST /translate", map[string]http.HandlerFunc{
		"GET /languages": func(w http.ResponseWriter, r *http.Request) {
			all := map[string]any{}
			for _, code := range codes {
				all[code] = map[string]string{"name": code, "nativeName": code, "dir": "ltr"}
			}
			say(w, 200, map[string]any{"translation": all})
		},
		"POST /translate": func(w http.ResponseWriter, r *http.Request) {
			q := r.URL.Query()
			var b []struct{ Text string }
			characters := 0
			failed := json.NewDecoder(r.Body).Decode(&b) != nil
			for _, one := range b {
				characters += utf8.RuneCountInString(one.Text)
			}
			switch {
			case r.Header.Get("Ocp-Apim-Subscription-Key") != Key || r.Header.Get("Ocp-Apim-Subscription-Region") != "westeurope":
				bad(w, 401000, "The request is not authorized because credentials are missing or invalid.")
			case q.Get("api-version") != "3.0":
				bad(w, 400021, "The API version parameter is missing or invalid.")
			case failed:
				bad(w, 400074, "The body of the request is not valid JSON.")
			case len(b) == 0:
				bad(w, 400005, "An input text is missing or invalid.")
			case len(b) > 1000:
				bad(w, 400072, "The array of input text has too many elements.")
			case characters > 50_000:
				bad(w, 400077, "The maximum request size has been exceeded.")
			case !slices.Contains(codes, q.Get("to")):
				bad(w, 400036, "The target language is not valid.")
			case q.Has("from") && !slices.Contains(codes, q.Get("from")):
				bad(w, 400035, "The source language is not valid.")
			case q.Get("textType") != "plain":
				bad(w, 400071, "The textType value is not valid.")
			default:
				w.Header().Set("X-Metered-Usage", fmt.Sprint(characters))
				var all []map[string]any
				for _, one := range b {
					each := map[string]any{"translations": []any{map[string]string{"text": translated(q.Get("to"), one.Text), "to": q.Get("to")}}}
					if !q.Has("from") {
						each["detectedLanguage"] = map[string]any{"language": "en", "score": 1.0}
					}
					all = append(all, each)
				}
				say(w, 200, all)
			}
		},
	})
}
