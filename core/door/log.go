package door

import (
	"slices"
	"sync"
	"time"
	"unicode/utf8"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/usage"
)

// A Journal writes failures to the log: numbers, kinds and causes, never a
// text. It is safe for concurrent use.
type Journal struct {
	log     *zap.Logger
	sampled func() *zap.Logger // some lines a second; half a megabyte, once something failed
}

// NewJournal returns a journal that writes to log.
func NewJournal(log *zap.Logger) *Journal {
	// When an upstream is down every request fails alike; some lines a second
	// tell as much as all of them.
	sample := zap.WrapCore(func(c zapcore.Core) zapcore.Core {
		return zapcore.NewSamplerWithOptions(c, time.Second, 5, 100)
	})
	return &Journal{log: log, sampled: sync.OnceValue(func() *zap.Logger { return log.WithOptions(sample) })}
}

// Failed notes that the call id failed with err, before any of its texts was asked
// for. A defect of ours is an error, an upstream that failed is a warning, and what
// the gateway could not do in time is for information; of each a few a second are
// written. Anything else is the client's business and shows at debug level.
func (j *Journal) Failed(id string, err error, more ...zap.Field) {
	e := core.AsError(err, "door")
	if ce := j.check(e); ce != nil {
		ce.Write(slices.Concat([]zap.Field{zap.String("request", id)}, more, failure(e))...)
	}
}

// An Asked is what became of one text that a door asked for.
type Asked struct {
	Door    string
	Request *core.Request // with its trace
	Result  *core.Result  // nil when it failed
	Err     *core.Error
	Begin   time.Time // when its call arrived
	Took    time.Duration
}

// Asked leaves one line about a text that failed, as Failed does, or took at least as
// long as slow, or was answered by a fallback. Slow is 0 when nothing is.
func (j *Journal) Asked(a Asked, slow time.Duration) {
	var ce *zapcore.CheckedEntry
	switch {
	case a.Err != nil:
		ce = j.check(a.Err)
	case slices.Contains(a.Result.Flags, core.FlagFallback):
		ce = j.sampled().Check(zap.InfoLevel, "a fallback answered")
	case slow > 0 && a.Took >= slow:
		ce = j.sampled().Check(zap.InfoLevel, "request was slow")
	}
	if ce == nil {
		return
	}
	r := a.Request
	fields := []zap.Field{
		zap.String("request", r.ID), zap.String("door", a.Door), zap.String("client", r.Client),
		zap.String("source", string(r.Source)), zap.String("target", string(r.Target)),
		zap.Stringer("lane", r.Lane), zap.Int("code_points", utf8.RuneCountInString(r.Text)), zap.Duration("took", a.Took),
	}
	if r.Session != "" {
		fields = append(fields, zap.String("session", r.Session))
	}
	fields = append(fields, traceFields(r.Trace)...)
	if r.Trace != nil {
		fields = append(fields, zap.Int("attempts", r.Trace.Attempts), zap.Object("stages", spans(r.Trace.Spans())))
	}
	if a.Err != nil {
		fields = append(fields, failure(a.Err)...)
	} else {
		fields = append(fields, zap.String("provider", a.Result.Provider), zap.Bool("cached", a.Result.Cached))
	}
	ce.Write(fields...)
}

// access writes a's line of the access log.
func (a *Asked) access(log *zap.Logger, use usage.Use) {
	r := a.Request
	fields := []zap.Field{
		zap.String("door", a.Door), zap.String("request", r.ID), zap.String("client", r.Client), zap.String("session", r.Session),
		zap.String("source", string(r.Source)), zap.String("target", string(r.Target)), zap.Stringer("lane", r.Lane),
		zap.Int("characters", r.Characters()), zap.String("kind", kindOr(a.Err, "ok")), zap.Duration("took", a.Took),
	}
	if a.Err != nil {
		fields = append(fields, zap.String("stage", a.Err.Stage))
	} else {
		fields = append(fields, zap.String("provider", a.Result.Provider), zap.String("model", a.Result.Model), zap.Bool("cached", a.Result.Cached))
	}
	fields = append(fields, zap.Int64("prompt_tokens", use.PromptTokens), zap.Int64("completion_tokens", use.CompletionTokens), zap.Int64("cached_tokens", use.CachedTokens))
	for _, c := range use.Cost { // of one answer: one currency
		fields = append(fields, zap.String("cost", c.Decimal()), zap.String("currency", c.Currency))
	}
	if t := r.Trace; t != nil {
		fields = append(fields, zap.Bool("joined", t.Joined), zap.Int("attempts", t.Attempts), zap.Duration("waited", t.Waited), zap.Object("stages", spans(t.Spans())))
	}
	log.Info("text", append(fields, traceFields(r.Trace)...)...)
}

// traceFields name the span of a request that has one.
func traceFields(t *core.Trace) []zap.Field { return spanFields(t.Traced()) }

// spanFields name span, if there is one.
func spanFields(span *core.Traced) []zap.Field {
	if span == nil {
		return nil
	}
	return []zap.Field{zap.String("trace_id", span.Context.TraceID()), zap.String("span_id", span.Context.SpanID())}
}

func kindOr(err *core.Error, none string) string {
	if err == nil {
		return none
	}
	return string(err.Kind)
}

// check returns the line for a failure, nil when none is written.
func (j *Journal) check(e *core.Error) *zapcore.CheckedEntry {
	if OwnLimit(e) != nil {
		return j.log.Check(zap.DebugLevel, "request failed")
	}
	switch e.Kind {
	case core.Internal:
		return j.sampled().Check(zap.ErrorLevel, "internal error")
	case core.ProviderFailed, core.ProviderRefused, core.BadAnswer, core.QuotaExceeded, core.Unavailable, core.RateLimited:
		if e.Cause != nil {
			return j.sampled().Check(zap.WarnLevel, "provider failed")
		}
	case core.DeadlineExceeded, core.Overloaded:
	default:
		return j.log.Check(zap.DebugLevel, "request failed")
	}
	return j.sampled().Check(zap.InfoLevel, "request failed")
}

// failure says what failed, without a word of what the client wrote.
func failure(e *core.Error) []zap.Field {
	fields := []zap.Field{zap.String("kind", string(e.Kind)), zap.String("stage", e.Stage)}
	if !quotes(e.Kind) {
		fields = append(fields, zap.String("detail", e.Detail))
	}
	return append(fields, zap.NamedError("cause", e.Cause))
}

// spans are the times that a text spent in each stage.
type spans []core.Span

func (s spans) MarshalLogObject(e zapcore.ObjectEncoder) error {
	for _, span := range s {
		e.AddDuration(span.Name, span.Self)
	}
	return nil
}

// Served notes a call that was answered with status.
func (j *Journal) Served(door, id, client string, status, texts int, took time.Duration) {
	if ce := j.log.Check(zap.DebugLevel, "served"); ce != nil {
		ce.Write(zap.String("door", door), zap.String("request", id), zap.String("client", client),
			zap.Int("status", status), zap.Int("texts", texts), zap.Duration("took", took))
	}
}
