package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
)

// roleFlag starts this program as one part of a measurement.
const roleFlag = "--role"

// play serves a role until standard input ends.
func play(args []string) int {
	var h http.Handler
	switch {
	case len(args) == 1 && args[0] == "upstream":
		h = http.HandlerFunc(upstream)
	case len(args) == 1 && args[0] == "streaming":
		h = http.HandlerFunc(streaming)
	case len(args) == 1 && args[0] == "collector":
		h = http.HandlerFunc(collector)
	case len(args) == 1 && args[0] == "blackhole":
		h = http.HandlerFunc(blackhole)
	case len(args) == 1 && args[0] == "bare":
		h = http.HandlerFunc(bare)
	case len(args) == 1 && args[0] == "echo":
		serveEcho()
	case len(args) == 1 && args[0] == "bare-echo":
		serveBareEcho()
		return 0
	case len(args) == 2 && args[0] == "proxy":
		to, err := url.Parse(args[1])
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 2
		}
		h = proxy(to)
	default:
		fmt.Fprintf(os.Stderr, "bench: no role %q\n", args)
		return 2
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	server := &http.Server{Handler: h}
	fmt.Println("http://" + ln.Addr().String())
	go func() {
		io.Copy(io.Discard, os.Stdin)
		server.Close()
	}()
	server.Serve(ln)
	return 0
}

// translation is what the instant upstream answers to every text: as long as
// the texts are, in the language asked for, and clean.
const translation = "El tren de las ocho menos cuarto sale hoy del andén número tres"

// completion is the answer of the instant upstream, with all that OpenAI sends.
var completion = []byte(`{"id":"chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT","object":"chat.completion","created":1741569952,"model":"gpt-5.4-nano",` +
	`"choices":[{"index":0,"message":{"role":"assistant","content":"` + translation + `","refusal":null,"annotations":[]},"logprobs":null,"finish_reason":"stop"}],` +
	`"usage":{"prompt_tokens":95,"completion_tokens":18,"total_tokens":113,"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},` +
	`"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}},` +
	`"service_tier":"default","system_fingerprint":null}`)

// upstream answers at once.
func upstream(w http.ResponseWriter, r *http.Request) {
	io.Copy(io.Discard, r.Body)
	w.Header().Set("Content-Type", "application/json")
	w.Write(completion)
}

// proxy is the reverse proxy of the standard library, which may keep as many
// connections as it likes.
func proxy(to *url.URL) http.Handler {
	p := &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(to) },
		Transport: &http.Transport{MaxIdleConns: 512, MaxIdleConnsPerHost: 512},
		ErrorLog:  log.New(io.Discard, "", 0),
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Else the first byte of an answer closes a body whose end was not looked for yet, and
		// that breaks the stream off.
		_ = http.NewResponseController(w).EnableFullDuplex()
		p.ServeHTTP(w, r)
	})
}

type bareRequest struct {
	Text   string `json:"text"`
	Source string `json:"source"`
	Target string `json:"target"`
}

type bareAnswer struct {
	Translations []bareTranslation `json:"translations"`
	ID           string            `json:"request_id"`
	Timing       bareTiming        `json:"timing"`
}

type bareTranslation struct {
	Text     string   `json:"text"`
	Target   string   `json:"target"`
	Provider string   `json:"provider"`
	Model    string   `json:"model"`
	Cached   bool     `json:"cached"`
	Flags    []string `json:"flags"`
}

type bareTiming struct {
	Total    float64            `json:"total_ms"`
	Stages   map[string]float64 `json:"stages"`
	Attempts int                `json:"attempts"`
}

// bare decodes what the native door takes and encodes what it answers, and does
// nothing else.
func bare(w http.ResponseWriter, r *http.Request) {
	var req bareRequest
	body, err := io.ReadAll(r.Body)
	if err == nil {
		err = json.Unmarshal(body, &req)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	out, err := json.Marshal(bareAnswer{
		Translations: []bareTranslation{{Text: translation, Target: req.Target, Provider: "openai", Model: "gpt-5.4-nano", Cached: true, Flags: []string{}}},
		ID:           "5b1e0c9a7d3f2468", Timing: bareTiming{Total: 0.012, Stages: map[string]float64{"cache": 0.002}},
	})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Write(out)
}
