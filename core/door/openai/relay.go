package openai

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/door"
)

// A relay is the answer to one chat on its way to the client: as it came, but for the
// name of the model, which is the one that was asked for.
type relay struct {
	*sending
	door  *Door
	p     *passage
	req   *core.Request
	model []byte // JSON

	mu     sync.Mutex // of a stream: a heartbeat may write as well
	beat   *time.Timer
	ended  bool
	spoken bool // events have been sent on
	think  thoughts
	// line and sent are an event as it came, and events as they leave: room that is used
	// again, for a stream has hundreds.
	line, sent []byte
	cost       counts // of a response, as far as it is known
}

func (d *Door) newRelay(w http.ResponseWriter, k *call, c *door.Call, p *passage, req *core.Request) *relay {
	r := &relay{sending: d.newSending(w, k, c), door: d, p: p, req: req, model: []byte(encode(k.model))}
	if k.stream && !k.responses {
		r.beat = time.AfterFunc(door.Heartbeat, r.heartbeat)
	}
	return r
}

// end comes when the call has its answer: no heartbeat follows.
func (r *relay) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = true
	if r.beat != nil {
		r.beat.Stop()
	}
}

// heartbeat sends a chunk of nothing: there are clients that take a comment for text.
func (r *relay) heartbeat() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		return
	}
	r.begin()
	r.chunk(delta{Content: new(string)}, nil)
	r.beat.Reset(door.Heartbeat)
}

// told writes what the headers say of the answer.
func (r *relay) told(res *core.Result) {
	h := r.w.Header()
	if h.Get("X-Dragoman-Cache") != "" {
		return
	}
	how := "miss"
	switch {
	case r.req.Trace.Joined:
		how = "join"
	case res != nil && res.Cached:
		how = "hit"
	case !r.req.Chat.Keep:
		how = "off"
	}
	h.Set("X-Dragoman-Cache", how)
	if res != nil {
		h.Set("X-Dragoman-Model", res.Model)
		if len(res.Flags) > 0 {
			h.Set("X-Dragoman-Flags", strings.Join(res.Flags, ","))
		}
	}
}

// events sends on what the provider streams: events, each on a line.
func (r *relay) events(lines string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.told(nil)
	r.spoken = true
	out := r.sent[:0]
	for line := range strings.Lines(lines) {
		r.line = append(r.line[:0], strings.TrimSuffix(line, "\n")...)
		if r.k.responses {
			r.piece(r.line)
			continue
		}
		out = r.event1(out, r.line)
	}
	r.sent = out
	if len(out) > 0 && !r.broken {
		r.broken = r.out.Send(out) != nil
		if r.beat != nil {
			r.beat.Reset(door.Heartbeat)
		}
	}
	if r.broken {
		return &core.Error{Kind: core.Canceled, Stage: "door", Detail: "the client left", Own: true}
	}
	return nil
}

// event1 appends one event as its client gets it: with the model that was asked for, and
// what it cost only when that was asked for.
func (r *relay) event1(out, data []byte) []byte {
	if len(r.p.Strip) > 0 {
		data = r.think.event(data)
	}
	begin := len(out)
	out = append(out, field...)
	from, empty, cost := 0, false, false
	each(data, func(m member) bool {
		switch string(m.key) {
		case "model":
			out = append(append(out, data[from:m.from]...), r.model...)
			from = m.to
		case "choices":
			empty = string(m.value) == "[]"
		case "usage":
			if !cost && !r.k.usage {
				out = append(out, data[from:m.begin]...)
				from = m.end
			}
			cost = true
		}
		return true
	})
	if empty && cost && !r.k.usage {
		return out[:begin] // it was asked for by the gateway alone
	}
	out = append(out, data[from:]...)
	if said := out[begin+len(field):]; !plain(said) {
		out = append(out[:begin+len(field)], ascii(string(said))...)
	}
	return append(out, "\n\n"...)
}

// field is what an event begins with.
const field = "data: "

// piece sends on the text of one event to a client that wants it as a response.
func (r *relay) piece(data []byte) {
	var c struct {
		Choices []struct {
			Delta struct {
				Content *string `json:"content"`
			} `json:"delta"`
		} `json:"choices"`
		Usage *counts `json:"usage"`
	}
	_ = json.Unmarshal(data, &c) // the provider has read it; what is odd in it is no text
	if c.Usage != nil {
		r.cost = *c.Usage
	}
	if len(c.Choices) == 0 || c.Choices[0].Delta.Content == nil {
		return
	}
	text := *c.Choices[0].Delta.Content
	if len(r.p.Strip) > 0 {
		text = r.think.piece(text)
	}
	if text != "" {
		r.said(text)
	}
}

// plain says whether ascii would leave data as it is.
func plain(data []byte) bool {
	for _, c := range data {
		if c >= 0x7f {
			return false
		}
	}
	return !bytes.Contains(data, []byte("data:"))
}

// fail answers with a failure; see sending.fail.
func (r *relay) fail(from *http.Request, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sending.fail(r.w, from, err)
}

// answer sends the answer, or the end of what was streamed, and says whether the client
// has taken it.
func (r *relay) answer(res *core.Result) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.told(res)
	switch {
	case r.spoken:
		r.finish()
	case r.k.responses || r.out != nil:
		a := readAnswer(res.Text)
		if len(r.p.Strip) > 0 {
			a.content = stripped(a.content)
		}
		r.whole(a)
	default:
		body := replaced([]byte(res.Text), "model", r.model)
		if len(r.p.Strip) > 0 {
			body = strippedAnswer(body)
		}
		h := r.w.Header()
		h.Set("Content-Type", "application/json")
		h.Set("X-Content-Type-Options", "nosniff")
		_, err := r.w.Write(append(body, '\n'))
		r.broken = err != nil
	}
	return !r.broken
}

// finish ends a stream of which all has been sent on.
func (r *relay) finish() {
	switch {
	case r.broken:
	case r.k.responses:
		if rest := r.think.rest(); rest != "" || !r.begun {
			r.said(rest)
		}
		r.responseEnds(r.cost)
	default:
		if rest := r.think.rest(); rest != "" {
			r.chunk(delta{Content: &rest}, nil)
		}
		r.broken = r.out.Send([]byte("data: [DONE]\n\n")) != nil
	}
}

// An answered is what a whole answer says.
type answered struct {
	content, finish string
	calls           []json.RawMessage
	usage           counts
}

func readAnswer(body string) (a answered) {
	var whole struct {
		Choices []struct {
			Message struct {
				Content *string           `json:"content"`
				Calls   []json.RawMessage `json:"tool_calls"`
			} `json:"message"`
			Finish string `json:"finish_reason"`
		} `json:"choices"`
		Usage counts `json:"usage"`
	}
	_ = json.Unmarshal([]byte(body), &whole) // what cannot be read is left out: the body is a completion
	if len(whole.Choices) > 0 {
		c := whole.Choices[0]
		a.finish, a.calls = c.Finish, c.Message.Calls
		if c.Message.Content != nil {
			a.content = *c.Message.Content
		}
	}
	if a.finish == "" {
		a.finish = "stop"
	}
	a.usage = whole.Usage
	return a
}

// whole sends an answer that came in one piece to a client that wants it in another
// form.
func (r *relay) whole(a answered) {
	if r.k.responses {
		r.response(a.content, a.usage)
		return
	}
	r.begin()
	if a.content != "" {
		r.chunk(delta{Content: &a.content}, nil)
	}
	if len(a.calls) > 0 {
		for i, call := range a.calls {
			a.calls[i] = numbered1(call, i)
		}
		r.chunk(delta{Calls: a.calls}, nil)
	}
	r.chunk(delta{}, &a.finish)
	if r.k.usage {
		r.event("", chunk{"chatcmpl-" + r.id, "chat.completion.chunk", r.created, r.k.model, []choice{}, &a.usage})
	}
	if !r.broken {
		r.broken = r.out.Send([]byte("data: [DONE]\n\n")) != nil
	}
}

// numbered1 returns a call of a tool as a stream holds it: with its place in the list.
func numbered1(call json.RawMessage, i int) json.RawMessage {
	var m map[string]json.RawMessage
	if json.Unmarshal(call, &m) != nil || m == nil {
		return call
	}
	m["index"], _ = json.Marshal(i)
	with, err := json.Marshal(m)
	if err != nil {
		return call
	}
	return with
}
