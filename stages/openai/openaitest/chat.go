package openaitest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dragoman-mt/dragoman/core"
)

// chat answers one chat completion.
func (c *call) chat() {
	fault := c.fault()
	c.note(fault)
	if fault == ResetBefore {
		c.reset()
		return
	}
	if !c.read() {
		return
	}
	if c.cfg.Observe != nil {
		c.cfg.Observe(c.r, c.body)
	}
	if fault == IdleClose {
		c.close()
		return
	}
	if !c.authorized() {
		c.note("")
		return
	}
	p, bad := parsePrompt(c.body, c.cfg)
	if bad == nil {
		c.rec.stream(c.s, p.stream)
		bad = c.s.limit(c.cfg, c.w.Header(), p.model, max(p.maxTokens, p.tokens), c.rec.Start)
	}
	if bad != nil {
		c.note("")
		c.refuse(bad)
		return
	}
	if e := errorFault(fault, p.model, c.cfg); e != nil {
		c.refuse(e)
		return
	}
	if fault == RefusedParameter {
		c.refuse(refusesParameter(c.body))
		return
	}
	if fault == Hang {
		c.gone()
		return
	}
	first := c.rec.Start.Add(c.latency())
	text, err := translate(c.r.Context(), c.cfg.Engine, p.text, p.source, p.target)
	if c.r.Context().Err() != nil {
		return
	}
	if err != nil {
		c.note("")
		c.refuse(engineError(err))
		return
	}
	if !c.until(first) {
		return
	}
	if fault == ResetAfter {
		c.reset()
		return
	}
	a := answer{id: "chatcmpl-" + strings.ToUpper(strconv.FormatUint(c.rng.Uint64(), 36)), created: c.rec.Start.Unix(),
		model: p.model, text: c.chatter(fault, text, p), finish: "stop", prompt: p.tokens}
	a.apply(fault)
	a.cap(p.maxTokens)
	if !c.cfg.Bare {
		c.w.Header().Set("openai-processing-ms", strconv.FormatInt(time.Since(c.rec.Start).Milliseconds(), 10))
	}
	if p.stream {
		c.stream(&a, p, fault, first)
	} else {
		c.plain(&a, fault, first)
	}
}

// note records the fault that was met. Stats may be read meanwhile.
func (c *call) note(fault string) {
	c.s.mu.Lock()
	c.rec.Fault = fault
	c.s.mu.Unlock()
}

func (r *Record) stream(s *Server, is bool) {
	s.mu.Lock()
	r.Stream = is
	s.mu.Unlock()
}

func engineError(err error) *apiError {
	if core.KindOf(err) == core.UnsupportedLanguage {
		return badRequest("messages", "", "The engine of this simulator cannot translate this pair of languages.")
	}
	return errorOf(http.StatusInternalServerError, "server_error", "", "", "The engine of this simulator failed.")
}

// An answer is what the model says.
type answer struct {
	id, model string
	created   int64
	text      string
	refusal   string
	finish    string
	prompt    int
}

// apply bends a right answer into the fault kind, when that is one of content.
func (a *answer) apply(kind string) {
	switch kind {
	case Empty:
		a.text = ""
	case Thoughts:
		a.text, a.finish = "", "length"
	case Refusal:
		a.text, a.refusal = "", "I'm sorry, but I can't help with that."
	case Length:
		a.text, a.finish = firstHalf(a.text), "length"
	case ContentFilter:
		a.text, a.finish = firstHalf(a.text), "content_filter"
	}
}

// cap cuts the text at the output cap; 0 is none.
func (a *answer) cap(tokens int) {
	if tokens == 0 || tokensOf(a.text) <= tokens {
		return
	}
	kept := pieces(a.text)
	for len(kept) > 0 && tokensOf(strings.Join(kept, "")) > tokens {
		kept = kept[:len(kept)-1]
	}
	a.text, a.finish = strings.Join(kept, ""), "length"
}

func firstHalf(s string) string {
	runes := []rune(s)
	return string(runes[:len(runes)/2])
}

// pieces cuts text as a model streams it: a word with the blank before it.
func pieces(text string) []string {
	var out []string
	start, runes, blank := 0, 0, true
	for i, r := range text {
		isBlank := r == ' ' || r == '\n' || r == '\t'
		if i > start && (isBlank && !blank || runes == 8) {
			out = append(out, text[start:i])
			start, runes = i, 0
		}
		runes++
		blank = isBlank
	}
	if start < len(text) {
		out = append(out, text[start:])
	}
	return out
}

// tokensOf estimates what a text costs: four ASCII characters or three of
// others make two tokens at most.
func tokensOf(text string) int {
	ascii := 0
	for i := range len(text) {
		if text[i] < utf8.RuneSelf {
			ascii++
		}
	}
	if text == "" {
		return 0
	}
	return 1 + ascii/4 + (utf8.RuneCountInString(text)-ascii)*2/3
}

type usage struct {
	Prompt     int `json:"prompt_tokens"`
	Completion int `json:"completion_tokens"`
	Total      int `json:"total_tokens"`
	PromptMore struct {
		Cached int `json:"cached_tokens"`
		Audio  int `json:"audio_tokens"`
	} `json:"prompt_tokens_details"`
	CompletionMore struct {
		Reasoning int `json:"reasoning_tokens"`
		Audio     int `json:"audio_tokens"`
		Accepted  int `json:"accepted_prediction_tokens"`
		Rejected  int `json:"rejected_prediction_tokens"`
	} `json:"completion_tokens_details"`
}

func (a *answer) usage() *usage {
	u := &usage{Prompt: a.prompt, Completion: tokensOf(a.text) + tokensOf(a.refusal)}
	u.Total = u.Prompt + u.Completion
	return u
}

type message struct {
	Role        string   `json:"role"`
	Content     *string  `json:"content"`
	Refusal     *string  `json:"refusal"`
	Annotations []string `json:"annotations"`
}

type choice struct {
	Index    int     `json:"index"`
	Message  message `json:"message"`
	LogProbs any     `json:"logprobs"`
	Finish   string  `json:"finish_reason"`
}

type completion struct {
	ID          string   `json:"id"`
	Object      string   `json:"object"`
	Created     int64    `json:"created"`
	Model       string   `json:"model"`
	Choices     []choice `json:"choices"`
	Usage       *usage   `json:"usage"`
	ServiceTier string   `json:"service_tier"`
	Fingerprint *string  `json:"system_fingerprint"`
}

func (a *answer) completion() completion {
	m := message{Role: "assistant", Content: &a.text, Annotations: []string{}}
	if a.refusal != "" {
		m.Content, m.Refusal = nil, &a.refusal
	}
	return completion{ID: a.id, Object: "chat.completion", Created: a.created, Model: a.model,
		Choices: []choice{{Message: m, Finish: a.finish}}, Usage: a.usage(), ServiceTier: "default"}
}

// encode writes v as the API does: text as it is, without \u003c.
func encode(v any) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic(fmt.Sprintf("openaitest: encode %T: %v", v, err)) // strings and numbers alone
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// plain sends the whole answer at once, as far as the fault lets it.
func (c *call) plain(a *answer, fault string, first time.Time) {
	if !c.until(c.paced(first, tokensOf(a.text))) {
		return
	}
	body := append(encode(a.completion()), '\n')
	h := c.w.Header()
	h.Set("Content-Type", "application/json")
	switch fault {
	case Truncated:
		body = body[:len(body)/2]
	case Garbage:
		body = []byte("\x00\xff<garbage>{{{ this is no JSON")
	case StreamError:
		body = encode(map[string]errorBody{"error": errorFault(Error500, a.model, c.cfg).body})
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	c.w.WriteHeader(http.StatusOK)
	switch fault {
	case Drip:
		c.drip(body)
	case Cut, Stall:
		c.w.Write(body[:len(body)/2])
		c.w.flush()
		c.breakOff(fault)
	default:
		c.w.Write(body)
	}
}

// paced is when n tokens have flowed, from first on.
func (c *call) paced(first time.Time, n int) time.Time {
	if c.cfg.TokensPerSecond == 0 {
		return first
	}
	return first.Add(time.Duration(float64(n) / c.cfg.TokensPerSecond * float64(time.Second)))
}

// breakOff ends an answer in its middle.
func (c *call) breakOff(fault string) {
	if fault == Cut {
		c.ours = true
		c.conn.Close()
		return
	}
	c.gone()
}

// drip writes a byte at a time.
func (c *call) drip(data []byte) bool {
	for i := range data {
		if i > 0 && !c.until(time.Now().Add(c.cfg.Drip)) {
			return false
		}
		if _, err := c.w.Write(data[i : i+1]); err != nil {
			return false
		}
		c.w.flush()
	}
	return true
}

type delta struct {
	Role    string  `json:"role,omitempty"`
	Content *string `json:"content,omitempty"`
	Refusal *string `json:"refusal,omitempty"`
}

type chunkChoice struct {
	Index    int     `json:"index"`
	Delta    delta   `json:"delta"`
	LogProbs any     `json:"logprobs"`
	Finish   *string `json:"finish_reason"`
}

type chunk struct {
	ID          string        `json:"id"`
	Object      string        `json:"object"`
	Created     int64         `json:"created"`
	Model       string        `json:"model"`
	ServiceTier string        `json:"service_tier"`
	Fingerprint *string       `json:"system_fingerprint"`
	Choices     []chunkChoice `json:"choices"`
}

// A chunk of a stream that ends with its usage says "usage": null.
type chunkWithUsage struct {
	chunk
	Usage *usage `json:"usage"`
}

// stream sends the answer in events, as far as the fault lets it.
func (c *call) stream(a *answer, p *prompt, fault string, first time.Time) {
	h := c.w.Header()
	h.Set("Content-Type", "text/event-stream; charset=utf-8")
	h.Set("Cache-Control", "no-cache")
	send := func(data []byte) bool {
		event := append(append([]byte("data: "), data...), "\n\n"...)
		if fault == Drip {
			return c.drip(event)
		}
		_, err := c.w.Write(event)
		c.w.flush()
		return err == nil
	}
	event := func(choices []chunkChoice, u *usage) []byte {
		k := chunk{ID: a.id, Object: "chat.completion.chunk", Created: a.created, Model: a.model,
			ServiceTier: "default", Choices: choices}
		if p.includeUsage {
			return encode(chunkWithUsage{k, u})
		}
		return encode(k)
	}
	say := func(d delta, finish *string) []byte { return event([]chunkChoice{{Delta: d, Finish: finish}}, nil) }

	empty := ""
	opening := delta{Role: "assistant", Content: &empty}
	text := pieces(a.text)
	if a.refusal != "" {
		opening.Content = nil
		text = pieces(a.refusal)
	}
	if fault == Garbage {
		send([]byte("{garbage"))
		return
	}
	if fault == Comments {
		io.WriteString(c.w, ": processing\n\n\n")
	}
	if !send(say(opening, nil)) {
		return
	}
	sent := 0
	for i, piece := range text {
		if i >= len(text)/2 && slices.Contains([]string{Truncated, StreamError, Cut, Stall}, fault) {
			break
		}
		if !c.until(c.paced(first, sent)) {
			return
		}
		if fault == Comments {
			io.WriteString(c.w, ": keep-alive\n\n: \n:\n\n\n")
		}
		d := delta{Content: &piece}
		if a.refusal != "" {
			d = delta{Refusal: &piece}
		}
		if !send(say(d, nil)) {
			return
		}
		sent += tokensOf(piece)
	}
	switch fault {
	case Truncated:
		whole := say(delta{Content: &a.text}, nil)
		io.WriteString(c.w, "data: "+string(whole[:len(whole)/2]))
		return
	case StreamError:
		send(encode(map[string]errorBody{"error": errorFault(Error500, a.model, c.cfg).body}))
		return
	case Cut, Stall:
		c.breakOff(fault)
		return
	}
	if !send(say(delta{}, &a.finish)) {
		return
	}
	if p.includeUsage && !send(event([]chunkChoice{}, a.usage())) {
		return
	}
	send([]byte("[DONE]"))
}
