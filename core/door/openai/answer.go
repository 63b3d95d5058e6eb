package openai

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/door"
)

// A sending is the answer to one call, streamed or not.
type sending struct {
	w       http.ResponseWriter
	k       *call
	id      string
	created int64
	out     *door.Stream    // nil unless it is streamed
	begun   bool            // the chunk with the role, or the begin of a response, was sent
	text    strings.Builder // of a response, as far as it was streamed
	number  int             // of its next event
	broken  bool            // the client takes nothing more
	pieces  chan string     // of a translation, as they come
	shown   string          // what of it was sent; it cannot be taken back
}

func (d *Door) newSending(w http.ResponseWriter, k *call, c *door.Call) *sending {
	s := &sending{w: w, k: k, id: c.ID, created: c.Begin.Unix()}
	if k.stream {
		w.Header().Set("Cache-Control", "no-cache")
		s.out = door.NewStream(w, door.Patience)
	}
	return s
}

// while waits for work, and keeps a stream alive meanwhile: with chunks of nothing,
// for there are clients that take a comment for text.
func (s *sending) while(work func() []door.Item) []door.Item {
	if s.out == nil || s.k.responses {
		return work()
	}
	done := make(chan []door.Item, 1)
	go func() { done <- work() }()
	silent := time.NewTicker(door.Heartbeat)
	defer silent.Stop()
	for {
		select {
		case items := <-done:
			return items
		case text := <-s.pieces:
			if s.shown == "" {
				text = strings.TrimLeftFunc(text, unicode.IsSpace) // no text begins with a blank
			}
			if text != "" {
				s.begin()
				s.chunk(delta{Content: &text}, nil)
				s.shown += text
				silent.Reset(door.Heartbeat)
			}
		case <-silent.C:
			s.begin()
			s.chunk(delta{Content: new(string)}, nil)
		}
	}
}

type delta struct {
	Role    string            `json:"role,omitempty"`
	Content *string           `json:"content,omitempty"`
	Calls   []json.RawMessage `json:"tool_calls,omitempty"`
}

type counts struct {
	Prompt     int `json:"prompt_tokens"`
	Completion int `json:"completion_tokens"`
	Total      int `json:"total_tokens"`
}

type choice struct {
	Index  int     `json:"index"`
	Delta  delta   `json:"delta"`
	Finish *string `json:"finish_reason"`
}

type chunk struct {
	ID      string   `json:"id"`
	Object  string   `json:"object"`
	Created int64    `json:"created"`
	Model   string   `json:"model"`
	Choices []choice `json:"choices"`
	Usage   *counts  `json:"usage,omitempty"`
}

func (s *sending) begin() {
	if !s.begun {
		s.begun = true
		s.chunk(delta{Role: "assistant", Content: new(string)}, nil)
	}
}

func (s *sending) chunk(d delta, finish *string) {
	s.event("", chunk{"chatcmpl-" + s.id, "chat.completion.chunk", s.created, s.k.model, []choice{{0, d, finish}}, nil})
}

// event sends one event: a line that begins with "data: ", and an empty one.
func (s *sending) event(kind string, v any) {
	if s.broken {
		return
	}
	var b []byte
	if kind != "" {
		b = append(append(append(b, "event: "...), kind...), '\n')
	}
	b = append(append(append(b, field...), ascii(encode(v))...), "\n\n"...)
	s.broken = s.out.Send(b) != nil
}

// ascii returns JSON with escapes for everything beyond ASCII, and for the colon of
// "data:" in a text: there are clients that decode each piece by itself, and that
// split what they get at that word.
func ascii(text string) string {
	const hex = "0123456789abcdef"
	var b strings.Builder
	b.Grow(len(text) + len(text)/2)
	unit := func(r rune) {
		b.WriteString(`\u`)
		for shift := 12; shift >= 0; shift -= 4 {
			b.WriteByte(hex[r>>shift&15])
		}
	}
	for _, r := range text {
		switch {
		case r == ':' && strings.HasSuffix(b.String(), "data"): // the d may be the last of an escape
			unit(r)
		case r < 0x7f:
			b.WriteByte(byte(r))
		case r > 0xffff:
			one, two := utf16.EncodeRune(r)
			unit(one)
			unit(two)
		default:
			unit(r)
		}
	}
	return b.String()
}

// streams says whether the pieces of a translation are shown as they come: not when
// several are put together, or looked at before, and a short one comes in one piece.
func (s *sending) streams(j job) bool {
	return s.out != nil && !s.k.responses && strings.Contains("adeg", j.rule) && j.keeps == nil &&
		utf8.RuneCountInString(j.texts[0]) >= longText && strings.TrimSpace(j.texts[0]) == j.texts[0]
}

// longText is how long a text is at least whose translation is worth reading before its
// end, in code points.
const longText = 200

// show returns what hands on the pieces of a translation until ctx ends.
func (s *sending) show(ctx context.Context) func(string) error {
	s.pieces = make(chan string)
	return func(text string) error {
		select {
		case s.pieces <- text:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// rest returns what is to be shown of a translation after what was; ok is false when that
// is another. A blank at its end may have been too much.
func (s *sending) rest(text string) (rest string, ok bool) {
	if s.shown == "" {
		return text, true
	}
	text = strings.TrimLeftFunc(text, unicode.IsSpace)
	if rest, ok = strings.CutPrefix(text, s.shown); !ok {
		return "", text == strings.TrimRightFunc(s.shown, unicode.IsSpace)
	}
	return rest, ok
}

// fail answers with a failure. When something was streamed already, it is the last
// that comes, and nothing says that all is done.
func (s *sending) fail(w http.ResponseWriter, r *http.Request, err error) {
	if s.out == nil || !s.out.Begun() {
		refuse(w, r, err)
		return
	}
	_, f := failed(err)
	s.event("", map[string]failure{"error": f})
}

// answer sends the translation, or what is left of it: what was shown is its begin.
func (s *sending) answer(text string, u core.Usage) {
	if !utf8.ValidString(text) {
		text = strings.ToValidUTF8(text, "\uFFFD")
	}
	usage := counts{u.PromptTokens, u.CompletionTokens, u.PromptTokens + u.CompletionTokens}
	switch {
	case s.k.responses:
		s.response(text, usage)
	case s.out != nil:
		stop := "stop"
		s.begin()
		if rest, ok := s.rest(text); ok && rest != "" || s.shown == "" {
			s.chunk(delta{Content: &rest}, nil)
		}
		s.chunk(delta{}, &stop)
		if s.k.usage {
			s.event("", chunk{"chatcmpl-" + s.id, "chat.completion.chunk", s.created, s.k.model, []choice{}, &usage})
		}
		if !s.broken {
			s.out.Send([]byte("data: [DONE]\n\n"))
		}
	default:
		type said struct {
			Role    string `json:"role"`
			Content string `json:"content"`
		}
		type choice struct {
			Index   int    `json:"index"`
			Message said   `json:"message"`
			Finish  string `json:"finish_reason"`
		}
		door.WriteJSON(s.w, http.StatusOK, struct {
			ID      string   `json:"id"`
			Object  string   `json:"object"`
			Created int64    `json:"created"`
			Model   string   `json:"model"`
			Choices []choice `json:"choices"`
			Usage   counts   `json:"usage"`
		}{"chatcmpl-" + s.id, "chat.completion", s.created, s.k.model, []choice{{0, said{"assistant", text}, "stop"}}, usage})
	}
}

// A part, an output and a response are what the API of responses answers with.
type part struct {
	Type        string   `json:"type"`
	Text        string   `json:"text"`
	Annotations []string `json:"annotations"`
}

type output struct {
	Type    string `json:"type"`
	ID      string `json:"id"`
	Status  string `json:"status"`
	Role    string `json:"role"`
	Content []part `json:"content"`
}

type response struct {
	ID      string         `json:"id"`
	Object  string         `json:"object"`
	Created int64          `json:"created_at"`
	Status  string         `json:"status"`
	Model   string         `json:"model"`
	Output  []output       `json:"output"`
	Text    string         `json:"output_text"`
	Usage   map[string]int `json:"usage,omitempty"`
}

// response answers a call of responses, with one text.
func (s *sending) response(text string, u counts) {
	if s.out == nil {
		door.WriteJSON(s.w, http.StatusOK, s.responded(text, u))
		return
	}
	s.said(text)
	s.responseEnds(u)
}

func (s *sending) responded(text string, u counts) response {
	return response{
		"resp_" + s.id, "response", s.created, "completed", s.k.model,
		[]output{{"message", "msg_" + s.id, "completed", "assistant", []part{{"output_text", text, []string{}}}}}, text,
		map[string]int{"input_tokens": u.Prompt, "output_tokens": u.Completion, "total_tokens": u.Total},
	}
}

// said streams a piece of the text of a response.
func (s *sending) said(text string) {
	if !s.begun {
		s.begun = true
		whole := s.responded("", counts{})
		whole.Status, whole.Output, whole.Usage = "in_progress", []output{}, nil
		s.numbered("response.created", map[string]any{"response": whole})
	}
	s.text.WriteString(text)
	s.numbered("response.output_text.delta", map[string]any{"item_id": "msg_" + s.id, "output_index": 0, "content_index": 0, "delta": text})
}

// responseEnds ends the stream of a response.
func (s *sending) responseEnds(u counts) {
	text := s.text.String()
	s.numbered("response.output_text.done", map[string]any{"item_id": "msg_" + s.id, "output_index": 0, "content_index": 0, "text": text})
	s.numbered("response.completed", map[string]any{"response": s.responded(text, u)})
}

// numbered sends one event of a response.
func (s *sending) numbered(kind string, more map[string]any) {
	more["type"], more["sequence_number"] = kind, s.number
	s.number++
	s.event(kind, more)
}
