package openai

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"testing"
)

const typical = `{"id":"chatcmpl-1","object":"chat.completion","created":1795424400,"model":"gpt-5.4-nano","choices":[{"index":0,"message":{"role":"assistant","content":"Buenos días. El coche nuevo es muy rápido.","refusal":null,"annotations":[]},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":101,"completion_tokens":12,"total_tokens":113,"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}},"service_tier":"default","system_fingerprint":null}`

func serve(b *testing.B) *httptest.Server {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		h := w.Header()
		for _, name := range []string{"Requests", "Tokens"} {
			h["X-Ratelimit-Limit-"+name] = []string{"5000"}
			h["X-Ratelimit-Remaining-"+name] = []string{"4999"}
			h["X-Ratelimit-Reset-"+name] = []string{"12ms"}
		}
		h["Content-Type"] = []string{"application/json"}
		io.WriteString(w, typical)
	}))
	b.Cleanup(srv.Close)
	return srv
}

const sentence = "Good morning. The new car is very fast."

// BenchmarkTranslate and BenchmarkReverseProxy make the same call over the same
// kind of transport: what the provider adds to a bare proxy is the difference.
func BenchmarkTranslate(b *testing.B) {
	p := provide(b, serve(b).URL+"/v1", nil, nil)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			req := ask(sentence)
			if _, err := p.Translate(b.Context(), req); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkReverseProxy(b *testing.B) {
	srv := serve(b)
	target, _ := url.Parse(srv.URL)
	p := provide(b, srv.URL+"/v1", nil, nil)
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.Transport = p.env.Upstream
	body := p.encode(ask(sentence), p.params.Load(), false)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			r := httptest.NewRequest(http.MethodPost, "/v1/chat/completions", bytes.NewReader(body))
			w := httptest.NewRecorder()
			if proxy.ServeHTTP(w, r); w.Code != http.StatusOK {
				b.Fatal(w.Code)
			}
		}
	})
}

func BenchmarkEncode(b *testing.B) {
	p := provide(b, "http://127.0.0.1:1/v1", nil, nil)
	req := ask(sentence)
	b.ReportAllocs()
	for b.Loop() {
		p.encode(req, p.params.Load(), false)
	}
}

func BenchmarkRead(b *testing.B) {
	p := provide(b, "http://127.0.0.1:1/v1", nil, nil)
	body := []byte(typical)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := p.read(nil, nil, body); err != nil {
			b.Fatal(err)
		}
	}
}
