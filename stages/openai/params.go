package openai

import (
	"strconv"

	"github.com/dragoman-mt/dragoman/core"
)

// params are the parameters that may be left out, encoded, as far as the model
// is known to take them. They are not changed once made.
type params struct {
	refused refusals
	tail    []byte // closes the messages and holds what is sent of them
	cap     string // the name of the output cap; empty: none is sent
	// thinking is the room that the cap leaves for a model's reasoning, in
	// tokens: it is counted as output.
	thinking int
}

// refusals says which parameters the model refused.
type refusals struct {
	temperature, effort, effortValue, store, completionTokens, maxTokens bool
	stream, streamOptions                                                bool
}

// thinkingRoom is what a model may spend on reasoning that cannot be switched
// off, in tokens.
const thinkingRoom = 1024

func (r *Request) params(refused refusals) *params {
	p := &params{refused: refused, tail: []byte{']'}}
	if !refused.temperature {
		p.tail = append(p.tail, `,"temperature":`...)
		p.tail = strconv.AppendFloat(p.tail, r.Temperature, 'f', -1, 64)
	}
	if effort := r.ReasoningEffort; effort != "" && !refused.effort {
		p.tail = append(p.tail, `,"reasoning_effort":`...)
		p.tail = appendString(p.tail, effort)
		if effort != "none" {
			p.thinking = thinkingRoom
		}
	} else if refused.effortValue {
		// It reasons, and not as shortly as it was asked to.
		p.thinking = thinkingRoom
	}
	if !refused.store {
		// New accounts keep what passes unless they are told not to.
		p.tail = append(p.tail, `,"store":false`...)
	}
	switch {
	case !refused.completionTokens:
		p.cap = "max_completion_tokens"
	case !refused.maxTokens:
		p.cap = "max_tokens"
	}
	return p
}

// streams says whether the answer to req is asked for as a stream.
func (p *params) streams(req *core.Request) bool { return req.OnDelta != nil && !p.refused.stream }

// without returns the refusals after the model has refused name as well, and
// whether name had been sent at all. value says that it was the value that it
// refused.
func (p *params) without(name string, value bool) (refusals, bool) {
	r := p.refused
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
	}
	return r, r != p.refused
}
