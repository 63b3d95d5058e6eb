package openai

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/dragoman-mt/dragoman/core"
	jsontext "github.com/dragoman-mt/dragoman/core/text/json"
)

// params are the parameters that may be left out, encoded, as far as the model
// is known to take them. They are not changed once made.
type params struct {
	refused refusals
	tail    []byte // closes the messages and holds what is sent of them
	cap     string // the name of the output cap; empty: none is sent
	options bool   // stream_options go with a stream
	extra   map[string]json.RawMessage
	// thinking is the room that the cap leaves for a model's reasoning, in
	// tokens: it is counted as output.
	thinking int
}

// refusals says what was learned of the model: which parameters it refused, and
// how much room its thoughts take.
type refusals struct {
	temperature, effort, effortValue, store, completionTokens, maxTokens bool
	stream, streamOptions                                                bool
	format                                                               bool   // the schema of a list
	system                                                               bool   // the role of that name
	extra                                                                string // keys of request.extra, each behind a line end
	room                                                                 int
}

// known returns what is sent to a model that refused so much.
func (p *Provider) known(refused refusals) *params {
	r := &p.cfg.Request
	m := &params{refused: refused, tail: []byte{']'}, extra: p.extra}
	// own says whether the provider sends the parameter itself.
	own := func(name string, refused bool) bool {
		_, replaced := p.extra[name]
		return !refused && !replaced && !slices.Contains(r.Omit, name)
	}
	if own("temperature", refused.temperature) {
		m.tail = append(m.tail, `,"temperature":`...)
		m.tail = strconv.AppendFloat(m.tail, r.Temperature, 'f', -1, 64)
	}
	if effort := r.ReasoningEffort; effort != "" && own("reasoning_effort", refused.effort) {
		m.tail = append(m.tail, `,"reasoning_effort":`...)
		m.tail = jsontext.AppendString(m.tail, effort)
		if effort != "none" {
			m.thinking = thinkingRoom
		}
	} else if refused.effortValue {
		// It reasons, and not as shortly as it was asked to.
		m.thinking = thinkingRoom
	}
	m.thinking = max(m.thinking, refused.room)
	if isOpenAI(p.chat) && own("store", refused.store) {
		// New accounts keep what passes unless they are told not to.
		m.tail = append(m.tail, `,"store":false`...)
	}
	for _, name := range slices.Sorted(maps.Keys(p.extra)) {
		// A template adds the languages to these.
		if in := name == "translation_options" && p.template != nil && p.template.options != nil; !in && !refused.holds(name) {
			m.tail = append(m.tail, ',')
			m.tail = jsontext.AppendString(m.tail, name)
			m.tail = append(m.tail, ':')
			m.tail = append(m.tail, p.extra[name]...)
		}
	}
	_, replaced := p.extra["max_completion_tokens"]
	_, also := p.extra["max_tokens"]
	switch {
	case replaced || also:
	case own("max_completion_tokens", refused.completionTokens):
		m.cap = "max_completion_tokens"
	case own("max_tokens", refused.maxTokens):
		m.cap = "max_tokens"
	}
	m.options = own("stream_options", refused.streamOptions)
	m.refused.system = m.refused.system || p.cfg.Prompt.Roles == "user-only" || p.template != nil
	m.refused.stream = m.refused.stream || slices.Contains(r.Omit, "stream")
	return m
}

// holds says whether name of request.extra was refused.
func (r refusals) holds(name string) bool { return strings.Contains(r.extra+"\n", "\n"+name+"\n") }

// streams says whether the answer to req is asked for as a stream.
func (p *params) streams(req *core.Request) bool { return req.OnDelta != nil && !p.refused.stream }

// names returns the parameters that are sent for req and may be left out.
func (p *params) names(req *core.Request) []string {
	names := []string{"temperature", "reasoning_effort", "store", "response_format"}
	if p.cap != "" {
		names = append(names, p.cap)
	}
	if p.streams(req) {
		names = append(names, "stream", "stream_options")
	}
	for _, name := range slices.Sorted(maps.Keys(p.extra)) {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return slices.DeleteFunc(names, func(name string) bool {
		_, left := p.without(name, false)
		return !left
	})
}

// without returns the refusals after the model has refused name as well, and
// whether name had been sent at all. value says that it was the value that it
// refused.
func (p *params) without(name string, value bool) (refusals, bool) {
	r := p.refused
	if _, is := p.extra[name]; is {
		if !r.holds(name) {
			r.extra += "\n" + name
		}
		return r, r != p.refused
	}
	switch name {
	case "temperature":
		r.temperature = true
	case "reasoning_effort":
		r.effort, r.effortValue = true, value
	case "store":
		r.store = true
	case "max_completion_tokens":
		r.completionTokens = true
	case "max_tokens":
		r.maxTokens = r.completionTokens
	case "stream":
		// Some models stream for verified organizations alone.
		r.stream = true
	case "stream_options", "stream_options.include_usage":
		r.streamOptions = true
	case "response_format":
		r.format = true
	case "system":
		r.system = true
	}
	return r, r != p.refused
}
