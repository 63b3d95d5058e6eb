package door

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dragoman-mt/dragoman/core"
)

// A Reason is why a text is looked back at.
type Reason string

const (
	// WasSlow took at least as long as log.slow says.
	WasSlow Reason = "slow"
	// HasFailed is for what the gateway or who translates is to blame.
	HasFailed Reason = "failed"
	// FellOver was answered by a fallback.
	FellOver Reason = "fell_over"
	// WasRefused is what the client is to blame for: a mistake of its call, a limit of its
	// key.
	WasRefused Reason = "refused"
)

// Reasons are all of them.
var Reasons = []Reason{WasSlow, HasFailed, FellOver, WasRefused}

// MostRecent is how many texts of each reason are kept. A flood of one makes the others
// no shorter.
const MostRecent = 100

// A Past is one text, or one call that was refused as a whole, as it is looked back at. It
// holds nothing that a client wrote but the names that it gave.
type Past struct {
	At     time.Time `json:"time"` // when it was answered
	Reason Reason    `json:"reason"`
	Door   string    `json:"door"`
	// Request is its id, and TraceID that of the trace that it belongs to.
	Request    string `json:"request"`
	TraceID    string `json:"trace_id,omitempty"`
	Client     string `json:"client,omitempty"`
	Session    string `json:"session,omitempty"`
	Source     string `json:"source,omitempty"`
	Target     string `json:"target,omitempty"`
	Lane       string `json:"lane,omitempty"`
	Characters int    `json:"characters"`

	Provider string   `json:"provider,omitempty"`
	Model    string   `json:"model,omitempty"`
	Cached   bool     `json:"cached"`
	Joined   bool     `json:"joined"` // it sat in the flight of another
	Flags    []string `json:"flags,omitempty"`
	Failure  *Failure `json:"error,omitempty"`

	// TookMS is from the arrival of its call to its answer.
	TookMS   float64       `json:"took_ms"`
	Stages   []StageTime   `json:"stages,omitempty"`
	Attempts []PastAttempt `json:"attempts,omitempty"`
}

// A Failure is why something failed.
type Failure struct {
	Kind   core.ErrorKind `json:"kind"`
	Stage  string         `json:"stage,omitempty"`
	Detail string         `json:"detail,omitempty"`
	Cause  string         `json:"cause,omitempty"`
}

// String is f in a line.
func (f *Failure) String() string {
	said := string(f.Kind)
	if f.Stage != "" {
		said += " from " + f.Stage
	}
	if f.Detail != "" {
		said += ", " + f.Detail
	}
	if f.Cause != "" {
		said += " (" + f.Cause + ")"
	}
	return said
}

// A StageTime is how long one stage took by itself.
type StageTime struct {
	Stage string  `json:"stage"`
	MS    float64 `json:"ms"`
}

// A PastAttempt is one call of a provider.
type PastAttempt struct {
	Provider string `json:"provider"`
	Why      string `json:"why"` // first, retry, hedge, fallback or moved
	// AfterMS is from the arrival of the call to its beginning.
	AfterMS float64 `json:"after_ms"`
	TookMS  float64 `json:"took_ms"`
	// SpokeMS is from its beginning to the first piece of its answer, if that came in
	// pieces.
	SpokeMS float64 `json:"spoke_ms,omitempty"`
	Lost    bool    `json:"lost,omitempty"`   // another was faster
	Shared  bool    `json:"shared,omitempty"` // the call carried several texts
	// Failure is nil for one that answered.
	Failure *Failure `json:"error,omitempty"`
}

// A Recent keeps what is looked back at. The zero value is ready; it is safe for
// concurrent use.
type Recent struct {
	mu    sync.Mutex
	rings map[Reason]*ring
}

// A ring holds the last ones, next being the oldest.
type ring struct {
	all  []Past
	next int
}

// All returns what is kept, latest first.
func (r *Recent) All() (all []Past) {
	r.mu.Lock()
	for _, ring := range r.rings {
		all = append(all, ring.all...)
	}
	r.mu.Unlock()
	slices.SortFunc(all, func(a, b Past) int { return b.At.Compare(a.At) })
	return all
}

// asked keeps a, if there is a reason to.
func (r *Recent) asked(a *Asked, slow time.Duration) {
	if reason := a.reason(slow); reason != "" {
		r.keep(a.past(reason))
	}
}

// failed keeps a call none of whose texts was asked for.
func (r *Recent) failed(door, id, client string, took time.Duration, e *core.Error, span *core.Traced) {
	reason := blames(e)
	if reason == "" {
		return
	}
	p := Past{At: time.Now(), Reason: reason, Door: door, Request: strings.Clone(id), Client: strings.Clone(client), TookMS: Milliseconds(took), Failure: failureOf(e)}
	if span != nil {
		p.TraceID = span.Context.TraceID()
	}
	r.keep(p)
}

func (r *Recent) keep(p Past) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.rings == nil {
		r.rings = map[Reason]*ring{}
	}
	in := r.rings[p.Reason]
	if in == nil {
		in = &ring{}
		r.rings[p.Reason] = in
	}
	if len(in.all) < MostRecent {
		in.all = append(in.all, p)
		return
	}
	in.all[in.next] = p
	in.next = (in.next + 1) % MostRecent
}

// reason is why a is looked back at; empty when it is not.
func (a *Asked) reason(slow time.Duration) Reason {
	switch {
	case a.Err != nil:
		return blames(a.Err)
	case slices.Contains(a.Result.Flags, core.FlagFallback):
		return FellOver
	case slow > 0 && a.Took >= slow:
		return WasSlow
	}
	return ""
}

// blames says whose doing e is. A client that left, or has sent a newer revision, is
// nobody's.
func blames(e *core.Error) Reason {
	switch {
	case e.Kind == core.Canceled, e.Kind == core.Superseded:
		return ""
	case OwnLimit(e) != nil:
		return WasRefused
	}
	switch e.Kind {
	case core.InvalidRequest, core.UnsupportedLanguage, core.UnsupportedEncoding, core.TooLarge, core.Unauthorized, core.Forbidden, core.NotFound:
		return WasRefused
	}
	return HasFailed
}

// past is a as it is kept: with strings of its own, so that it holds no body of a call.
func (a *Asked) past(reason Reason) Past {
	r := a.Request
	p := Past{
		At: time.Now(), Reason: reason, Door: a.Door,
		Request: strings.Clone(r.ID), Client: strings.Clone(r.Client), Session: strings.Clone(r.Session),
		Source: string(r.Source), Target: string(r.Target), Lane: r.Lane.String(), Characters: r.Characters(),
		TookMS: Milliseconds(a.Took),
	}
	if a.Err != nil {
		p.Failure = failureOf(a.Err)
	} else {
		p.Provider, p.Model, p.Cached, p.Flags = a.Result.Provider, strings.Clone(a.Result.Model), a.Result.Cached, slices.Clone(a.Result.Flags)
	}
	t := r.Trace
	if t == nil {
		return p
	}
	if span := t.Traced(); span != nil {
		p.TraceID = span.Context.TraceID()
	}
	p.Joined = t.Joined
	for _, s := range t.Spans() {
		p.Stages = append(p.Stages, StageTime{s.Name, Milliseconds(s.Self)})
	}
	for made := range t.AttemptsMade() {
		if len(p.Attempts) == mostAttempts {
			break
		}
		one := PastAttempt{
			Provider: made.Provider, Why: made.Why, AfterMS: Milliseconds(max(made.Start.Sub(a.Begin), 0)), TookMS: Milliseconds(made.Took),
			SpokeMS: Milliseconds(made.Spoke), Lost: made.Lost, Shared: made.Shared,
		}
		if made.Err != nil {
			one.Failure = failureOf(made.Err)
		}
		p.Attempts = append(p.Attempts, one)
	}
	return p
}

// mostAttempts bounds those that are kept of one text.
const mostAttempts = 20

// mostCause is how much of a cause is kept, in bytes.
const mostCause = 200

// failureOf is e without a word of what a client wrote. Of a defect of ours the log tells
// more: its cause may hold anything.
func failureOf(e *core.Error) *Failure {
	f := &Failure{Kind: e.Kind, Stage: e.Stage}
	if quotes(e.Kind) {
		return f
	}
	f.Detail = e.Detail
	if e.Cause == nil || e.Kind == core.Internal {
		return f
	}
	cause, _, _ := strings.Cut(e.Cause.Error(), "\n")
	if len(cause) > mostCause {
		cause = strings.ToValidUTF8(cause[:mostCause], "")
	}
	f.Cause = strings.Clone(cause)
	return f
}

// quotes says whether Field and Detail of an error quote what the client wrote, which may
// be a text in the wrong place.
func quotes(kind core.ErrorKind) bool {
	switch kind {
	case core.InvalidRequest, core.UnsupportedLanguage, core.UnsupportedEncoding:
		return true
	}
	return false
}

// Milliseconds returns d to the microsecond.
func Milliseconds(d time.Duration) float64 {
	return float64(d.Round(time.Microsecond)) / float64(time.Millisecond)
}
