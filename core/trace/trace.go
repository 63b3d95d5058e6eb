// Package trace tells a collector of OpenTelemetry what became of requests: a span each,
// and one for each attempt. Spans are made after the fact, in this package alone, of what
// core.Trace keeps anyway; no part knows more of them than the ids that travel. Its README
// is the manual.
package trace

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"maps"
	"math"
	"net"
	"runtime/debug"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/dragoman-mt/dragoman/core"
)

// A Tracer decides which requests are traced, and sends their spans. It is safe for
// concurrent use. One that was told of no collector does nothing, and asks for no memory.
type Tracer struct {
	log *zap.Logger
	env func(string) string
	on  atomic.Pointer[exporter] // nil while nothing is traced

	ending        sync.WaitGroup // former ones
	sent, dropped atomic.Int64   // spans
	rooms         sync.Pool      // of *[spanRoom]byte, where spans are written
}

var (
	_ core.Tracer   = (*Tracer)(nil)
	_ core.Planner  = (*Tracer)(nil)
	_ core.Measurer = (*Tracer)(nil)
)

// New returns a tracer for a c that has passed Check. What c leaves out is asked of env, by
// the name of a variable. Close ends it.
func New(c Config, env func(string) string, log *zap.Logger) (*Tracer, error) {
	t := &Tracer{log: log, env: env}
	apply, err := t.Plan(&c)
	if err != nil {
		return nil, err
	}
	apply()
	return t, nil
}

// Plan takes another section `trace` in place, for the requests that begin after apply.
func (t *Tracer) Plan(config any) (apply func(), err error) {
	c, ok := config.(*Config)
	if !ok {
		return nil, fmt.Errorf("trace: planned with a %T, want a %T", config, c)
	}
	s, err := c.settings(t.env)
	if err != nil {
		return nil, err
	}
	var client *client
	if s.url != "" {
		if client, err = newClient(s); err != nil {
			return nil, err
		}
	}
	return func() {
		var out *exporter
		if s.url != "" {
			out = newExporter(t, s, client)
		}
		if former := t.on.Swap(out); former != nil {
			t.ending.Go(func() { former.close(parting) })
		}
	}, nil
}

// parting is the longest that the last spans of a collector may take.
const parting = 2 * time.Second

// Close sends what waits, for a while.
func (t *Tracer) Close() {
	if out := t.on.Swap(nil); out != nil {
		out.close(parting)
	}
	t.ending.Wait()
}

// On says whether anything is traced.
func (t *Tracer) On() bool { return t != nil && t.on.Load() != nil }

// Begin gives a request whose trace is trace a span of its own, below parent unless that
// is zero. It does nothing for a request that is not traced.
func (t *Tracer) Begin(trace *core.Trace, parent core.SpanContext) {
	if t == nil {
		return
	}
	out := t.on.Load()
	if out == nil {
		return
	}
	s := &out.s
	own := parent.Child()
	own.Sampled = s.sampler.takes(parent, own)
	if !own.Sampled && parent.IsZero() {
		return // nobody knows of it
	}
	trace.Follow(&core.Traced{Context: own, Parent: parent, Detail: s.detail && own.Sampled}, t)
}

// takes decides by the id of the trace, so that all who ask the same share of it agree.
func (s sampler) takes(parent, own core.SpanContext) bool {
	if s.parent && !parent.IsZero() {
		return parent.Sampled
	}
	return s.share >= 1 || s.share > 0 && float64(binary.BigEndian.Uint64(own.Trace[8:])>>1) < s.share*(1<<63)
}

// A Request is one that has ended.
type Request struct {
	Door    string
	Request *core.Request // with its trace
	Result  *core.Result  // nil when it failed
	Err     *core.Error
	// Failed says that the gateway or who translates is to blame for Err. A server's span has
	// not failed when its client has made a mistake, or has left.
	Failed bool
	Begin  time.Time // when its call arrived
	Took   time.Duration
}

// Ended is told of a request whose trace Begin has seen, once its attempts have been told of.
func (t *Tracer) Ended(r Request) {
	trace := r.Request.Trace
	of := trace.Traced()
	if of == nil || !of.Context.Sampled {
		return
	}
	name := r.Door + " translate"
	if r.Request.Chat != nil {
		name = r.Door + " chat"
	}
	s := t.begin(name, kindServer, of.Context, of.Parent, r.Begin, r.Took)
	s.text(dragomanDoor, r.Door)
	s.text(dragomanRequest, r.Request.ID)
	s.text(dragomanClient, r.Request.Client)
	s.text(dragomanSession, r.Request.Session)
	s.text(dragomanSource, string(r.Request.Source))
	s.text(dragomanTarget, string(r.Request.Target))
	s.text(dragomanLane, r.Request.Lane.String())
	s.number(dragomanLength, r.Request.Characters())
	s.number(dragomanAttempts, trace.Attempts)
	cache := "miss"
	switch {
	case r.Result != nil && r.Result.Cached && trace.Attempts == 0 && !trace.Joined:
		cache = "hit"
	case trace.Joined && trace.Attempts == 0:
		cache = "joined"
	}
	s.text(dragomanCache, cache)
	if trace.Waited > 0 {
		s.real(dragomanWaited, float64(trace.Waited)/float64(time.Millisecond))
	}
	for _, stage := range trace.Spans() {
		s.real(dragomanStageTime+stage.Name, float64(stage.Self)/float64(time.Millisecond))
	}
	if r.Err != nil {
		s.ended(r.Err, r.Failed)
	} else {
		s.text(dragomanProvider, r.Result.Provider)
		s.texts(dragomanFlags, r.Result.Flags)
	}
	if flight := trace.JoinedTo(); flight != nil {
		s.link(flight.Context)
	}
	t.send(s)
	for _, step := range trace.Steps() {
		one := t.begin("stage "+step.Name, kindInternal, step.Under.Child(), step.Under, step.Start, step.Took)
		one.text(dragomanStage, step.Name)
		t.send(one)
	}
}

// A Call is one that was refused as a whole.
type Call struct {
	Door   string
	ID     string
	Client string           // empty when it is not known
	Method string           // of HTTP
	Parent core.SpanContext // what its client says that it is part of
	Err    *core.Error
	Failed bool // as in a Request
	Begin  time.Time
	Took   time.Duration
}

// Refused is told of a call none of whose texts was asked for, and returns its span; nil
// when nothing is traced of it.
func (t *Tracer) Refused(c Call) *core.Traced {
	if !t.On() {
		return nil
	}
	var trace core.Trace
	t.Begin(&trace, c.Parent)
	of := trace.Traced()
	if of == nil || !of.Context.Sampled {
		return of
	}
	s := t.begin(c.Door+" call", kindServer, of.Context, of.Parent, c.Begin, c.Took)
	s.text(httpMethod, c.Method)
	s.text(dragomanDoor, c.Door)
	s.text(dragomanRequest, c.ID)
	s.text(dragomanClient, c.Client)
	s.ended(c.Err, c.Failed)
	t.send(s)
	return of
}

// Attempted is told of an attempt that has ended.
func (t *Tracer) Attempted(of *core.Traced, req *core.Request, a *core.Attempted) {
	operation := of.Operation
	if operation == "" {
		operation = "translate"
	}
	name := operation + " " + a.Provider
	if of.Model != "" {
		name = operation + " " + of.Model
	}
	s := t.begin(name, kindClient, of.Context, of.Parent, a.Start, a.Took)
	s.text(genOperation, operation)
	s.text(genProvider, of.System)
	s.text(genModel, of.Model)
	if of.Stream {
		s.flag(genStream, true)
	}
	s.parameters(of.Parameters)
	s.text(genResponseID, of.AnswerID)
	s.text(genResponseModel, a.Model)
	if a.Finish != "" {
		s.texts(genFinishReasons, []string{string(a.Finish)})
	}
	if a.Spoke > 0 {
		s.real(genFirstChunk, a.Spoke.Seconds())
	}
	for _, u := range []struct {
		name string
		n    int
	}{{genInputTokens, a.Usage.PromptTokens}, {genOutputTokens, a.Usage.CompletionTokens}, {genCachedTokens, a.Usage.CachedTokens}, {genReasoning, min(of.Reasoning, a.Usage.CompletionTokens)}, {billedCharacters, a.Usage.Characters}} {
		if u.n > 0 {
			s.number(u.name, u.n)
		}
	}
	if host, port, err := net.SplitHostPort(of.Address); err == nil {
		s.text(serverAddress, host)
		if n, err := strconv.Atoi(port); err == nil {
			s.number(serverPort, n)
		}
	} else {
		s.text(serverAddress, of.Address)
	}
	if of.Status > 0 {
		s.number(httpStatus, of.Status)
	}
	s.text(dragomanProvider, a.Provider)
	s.text(dragomanAttempt, a.Why)
	if a.Lost {
		s.flag(dragomanLost, true)
	}
	if a.Err != nil {
		s.ended(a.Err, true)
	}
	t.send(s)
}

// parameters writes what was sent to a model, of each attribute the first that it can hold.
func (s *span) parameters(all []core.ChatField) {
	written := make([]string, 0, 8)
	for _, p := range all {
		name, whole := genParameter(p.Name)
		if name == "" || slices.Contains(written, name) {
			continue
		}
		written = append(written, name)
		v, err := strconv.ParseFloat(string(p.Value), 64)
		switch {
		case name == genOutput && string(p.Value) == "text":
			s.text(genOutput, "text")
		case name == genOutput:
			s.text(genOutput, "json")
		case err != nil, name == genChoices && v == 1: // one is what nobody has to say
		case !whole:
			s.real(name, v)
		case v == math.Trunc(v) && math.Abs(v) < 1<<53:
			s.number(name, int(v))
		}
	}
}

// begin begins a span in room that was used before: send gives it back.
func (t *Tracer) begin(name string, kind uint64, c, parent core.SpanContext, start time.Time, took time.Duration) span {
	room, ok := t.rooms.Get().(*[spanRoom]byte)
	if !ok {
		room = new([spanRoom]byte)
	}
	return begin(room[:0], name, kind, c, parent, start, took)
}

// spanRoom is what most spans have room in, in bytes.
const spanRoom = 1024

func (t *Tracer) send(s span) {
	if out := t.on.Load(); out != nil {
		out.add(s)
	} else {
		t.dropped.Add(1)
	}
	if cap(s) == spanRoom {
		t.rooms.Put((*[spanRoom]byte)(s[:spanRoom]))
	}
}

// Measure reports what became of spans.
func (t *Tracer) Measure(emit func(core.Measure)) {
	const help = "Spans, by what became of them: sent to the collector, or dropped since it did not take them in time."
	emit(core.Measure{Name: "trace_spans_total", Help: help, Counter: true, Value: float64(t.sent.Load()), Labels: []string{"outcome", "sent"}})
	emit(core.Measure{Name: "trace_spans_total", Help: help, Counter: true, Value: float64(t.dropped.Load()), Labels: []string{"outcome", "dropped"}})
}

// resource is who sends spans: this process, and what the environment says of it.
func resource(env func(string) string) []byte {
	own := map[string]string{serviceName: "dragoman"}
	var id [16]byte
	rand.Read(id[:]) // it never fails
	own[serviceInstanceID] = hex.EncodeToString(id[:])
	if info, ok := debug.ReadBuildInfo(); ok {
		own[serviceVersion] = info.Main.Version
	}
	for name, value := range pairs(env("OTEL_RESOURCE_ATTRIBUTES")) {
		own[name] = value
	}
	if name := env("OTEL_SERVICE_NAME"); name != "" {
		own[serviceName] = name
	}
	var b []byte
	for _, name := range slices.Sorted(maps.Keys(own)) {
		value := clip(own[name])
		n := sizeOf(len(value))
		b = str(pair(field(b, 1, sizePair(name, n)), name, n), 1, value)
	}
	return b
}
