package core

import (
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"strings"
	"time"
)

// A SpanContext is a place in a distributed trace, as W3C Trace Context has it
// (https://www.w3.org/TR/trace-context/).
type SpanContext struct {
	Trace [16]byte
	Span  [8]byte
	// Sampled says that who called has recorded its part.
	Sampled bool
	// State is the tracestate that came with it, which is passed on as it is.
	State string
}

// IsZero says whether c is no place at all.
func (c SpanContext) IsZero() bool { return c.Trace == [16]byte{} || c.Span == [8]byte{} }

// TraceID is the id of the trace in hexadecimal digits, SpanID that of the place.
func (c SpanContext) TraceID() string { return hex.EncodeToString(c.Trace[:]) }
func (c SpanContext) SpanID() string  { return hex.EncodeToString(c.Span[:]) }

// Traceparent is c as a header.
func (c SpanContext) Traceparent() string {
	b := make([]byte, 0, 55)
	b = hex.AppendEncode(append(b, "00-"...), c.Trace[:])
	b = hex.AppendEncode(append(b, '-'), c.Span[:])
	if c.Sampled {
		return string(append(b, "-01"...))
	}
	return string(append(b, "-00"...))
}

// Child returns another place in the trace of c, or the first of a new trace when c is zero.
func (c SpanContext) Child() SpanContext {
	if c.Trace == [16]byte{} {
		binary.LittleEndian.PutUint64(c.Trace[:8], rand.Uint64())
		binary.LittleEndian.PutUint64(c.Trace[8:], rand.Uint64()|1)
	}
	binary.LittleEndian.PutUint64(c.Span[:], rand.Uint64()|1)
	return c
}

// ParseTraceparent reads the headers traceparent and tracestate. What is no place in a
// trace, or in a version that nobody can read, is none: a client goes on without.
func ParseTraceparent(parent, state string) (c SpanContext, ok bool) {
	// A later version may be longer, with another dash (section 4.3).
	if len(parent) < 55 || parent[2] != '-' || parent[35] != '-' || parent[52] != '-' || parent[:2] == "ff" ||
		len(parent) > 55 && (parent[:2] == "00" || parent[55] != '-') || strings.ToLower(parent[:55]) != parent[:55] {
		return c, false
	}
	var version, flags [1]byte
	for _, part := range []struct {
		to   []byte
		from string
	}{{version[:], parent[:2]}, {c.Trace[:], parent[3:35]}, {c.Span[:], parent[36:52]}, {flags[:], parent[53:55]}} {
		if _, err := hex.Decode(part.to, []byte(part.from)); err != nil {
			return SpanContext{}, false
		}
	}
	if c.IsZero() {
		return SpanContext{}, false
	}
	c.Sampled = flags[0]&1 != 0
	if len(state) <= mostState && printableASCII(state) {
		c.State = state
	}
	return c, true
}

// mostState is the longest tracestate that is passed on, in bytes (section 3.3.1.5).
const mostState = 512

func printableASCII(s string) bool {
	for i := 0; i < len(s); i++ {
		if (s[i] < ' ' || s[i] > '~') && s[i] != '\t' {
			return false
		}
	}
	return true
}

// A Tracer is told of attempts whose spans are recorded.
type Tracer interface {
	// Attempted is told of an attempt that was made for req, once it has ended.
	Attempted(span *Traced, req *Request, a *Attempted)
}

// A Traced is the span of a request, or of an attempt, in a distributed trace.
type Traced struct {
	Context SpanContext
	// Parent is what the span is part of; zero for the first of its trace.
	Parent SpanContext
	// Detail says that each stage has a span as well.
	Detail bool

	// The rest is of an attempt: what the provider says of its call, on the goroutine that
	// makes it.

	// Operation is chat, for one that asks a model by its chat completions.
	Operation string
	// Model is the one that is asked.
	Model string
	// System is whose server it is, such as openai; Address is its host and port.
	System, Address string
	// Parameters are those that were sent to the model and say how it is to answer, such as
	// temperature, by the names of chat completions: numbers, never a text.
	Parameters []ChatField
	// Stream says that the answer was asked for in pieces.
	Stream bool
	// Status is that of the answer over HTTP; 0 when there was none.
	Status int
	// AnswerID is what the server calls its answer.
	AnswerID string
	// Reasoning is the part of the tokens of the answer that the model thought with.
	Reasoning int

	tracer Tracer
}

// A Step is one stage that a request passed, with all below it.
type Step struct {
	Name  string
	Start time.Time
	Took  time.Duration
	Under SpanContext
}

// Follow makes t that of the span of a request; tracer is told of its attempts.
func (t *Trace) Follow(span *Traced, tracer Tracer) {
	span.tracer = tracer
	t.traced = span
}

// Traced is the span that t is of; nil when its request belongs to no distributed trace.
func (t *Trace) Traced() *Traced {
	if t == nil {
		return nil
	}
	return t.traced
}

// ForkAttempt is Fork for an attempt that is about to be made, why: it has a span of its own.
func (t *Trace) ForkAttempt(why string) (fork *Trace, done func()) {
	fork, done = t.Fork()
	fork.Attempts, fork.Attempt = 1, why
	if of := t.traced; of != nil {
		fork.traced = &Traced{Context: of.Context.Child(), Parent: of.Context, Detail: of.Detail, tracer: of.tracer}
	}
	return fork, done
}

// Tell tells the tracer of an attempt, whose trace t is, that it has ended: with a. Running
// says that it has not, and that nobody waits for it any more: what its provider says is
// not known then.
func (t *Trace) Tell(req *Request, a *Attempted, running bool) {
	span := t.traced
	if span == nil || span.tracer == nil || !span.Context.Sampled {
		return
	}
	if running {
		span = &Traced{Context: span.Context, Parent: span.Parent, tracer: span.tracer}
	}
	span.tracer.Attempted(span, req, a)
}

// Join notes that the call was made for another request, whose trace is by, or for an attempt
// of its.
func (t *Trace) Join(by *Trace) {
	if t.traced != nil && by != nil && by.traced != t.traced {
		t.joined = by.traced
	}
}

// JoinedTo is the span for which the call was made, when that was not for this request; nil
// when it is not known, or there was none.
func (t *Trace) JoinedTo() *Traced { return t.joined }

// Steps are the stages that were passed, if the span wants them, in the order in which they
// were left.
func (t *Trace) Steps() []Step { return t.steps }
