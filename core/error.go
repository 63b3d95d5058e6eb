package core

import (
	"context"
	"errors"
	"strings"
	"time"
)

// An ErrorKind says what went wrong in a word that clients, logs and metrics
// share. The doors map it to a status in one table.
type ErrorKind string

const (
	InvalidRequest      ErrorKind = "invalid_request"
	UnsupportedLanguage ErrorKind = "unsupported_language"
	UnsupportedEncoding ErrorKind = "unsupported_encoding" // of a body
	TooLarge            ErrorKind = "too_large"
	Unauthorized        ErrorKind = "unauthorized"
	Forbidden           ErrorKind = "forbidden"
	NotFound            ErrorKind = "not_found"
	Superseded          ErrorKind = "superseded"        // a newer revision took its place; not a fault
	Overloaded          ErrorKind = "overloaded"        // more waits than may wait, or than can be served in time
	Unavailable         ErrorKind = "unavailable"       // nobody can answer at the moment
	RateLimited         ErrorKind = "rate_limited"      // the account's limit, for longer than the caller can wait
	QuotaExceeded       ErrorKind = "quota_exceeded"    // the account's money or quota is gone
	DeadlineExceeded    ErrorKind = "deadline_exceeded" // the caller's time, or an attempt's, is over
	ProviderFailed      ErrorKind = "provider_failed"   // the provider answered, but not with a translation
	ProviderRefused     ErrorKind = "provider_refused"  // the provider would not translate this text
	BadAnswer           ErrorKind = "bad_answer"        // a stage after the provider rejected the answer
	Canceled            ErrorKind = "canceled"          // the caller left
	Internal            ErrorKind = "internal"          // a defect of ours
)

// An Error is why a request has no result. One is built for each failure and
// not changed after it was returned; it is told apart by Kind, never by text.
type Error struct {
	Kind ErrorKind
	// Stage is where it arose: the name of a stage, gate or provider.
	Stage string
	// Field is the path of the request field at fault: "targets[1]".
	Field string
	// Detail is a sentence for the client: it holds no text of a request, no
	// key and nothing that an upstream server wrote.
	Detail string
	// Retryable says that another attempt may succeed.
	Retryable bool
	// RetryAfter is how long to wait before that; 0 when unknown.
	RetryAfter time.Duration
	// Own says that the failure concerns this request alone: its deadline, its
	// place in the line, its being superseded, its client that left. Another
	// request that wants the same answer never fails for it, and it says
	// nothing about a provider. It is marked where the error is made.
	Own bool
	// Odd says that the provider is there, and that its answer to this request is
	// none: nothing about how it would answer the next. Breakers do not count it.
	Odd bool
	// Usage is what the calls cost that this failure ended, and Limits what the
	// upstream said of its limits; nil when it said nothing. The gates settle
	// with them. A stage that rejects an answer hands on those of the answer.
	Usage  Usage
	Limits *Limits
	// Instead is what was made of an answer that was rejected: it is safe to use, says
	// by a flag what is wrong with it, and is not stored. The stage `provider` returns it when
	// no further attempt has a better one.
	Instead *Result
	// Cause is for the log alone, and for every level of it. Whoever sets it
	// redacts keys, and keeps of what an upstream server wrote its status and
	// the type, the code, the location and the message of its error: nothing
	// that may be a piece of a text, which a message may quote.
	Cause error
}

// Error is for logs and terminals; doors answer with Kind and Detail.
func (e *Error) Error() string {
	var b strings.Builder
	if e.Stage != "" {
		b.WriteString(e.Stage)
		b.WriteString(": ")
	}
	b.WriteString(string(e.Kind))
	if e.Field != "" {
		b.WriteString(": ")
		b.WriteString(e.Field)
	}
	if e.Detail != "" {
		b.WriteString(": ")
		b.WriteString(e.Detail)
	}
	if e.Cause != nil {
		b.WriteString(": ")
		b.WriteString(e.Cause.Error())
	}
	return b.String()
}

func (e *Error) Unwrap() error { return e.Cause }

// Charged returns e with what the call cost that it ended, and with what the
// upstream said of its limits: a copy, for others may know e.
func (e *Error) Charged(usage Usage, limits *Limits) *Error {
	if e.Usage == usage && e.Limits == limits {
		return e
	}
	charged := *e
	charged.Usage, charged.Limits = usage, limits
	return &charged
}

// KindOf returns the kind of err: that of the first *Error in its chain, else
// canceled or deadline_exceeded for a context's error, else internal. It is
// empty for nil.
func KindOf(err error) ErrorKind {
	if err == nil {
		return ""
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return DeadlineExceeded
	case errors.Is(err, context.Canceled):
		return Canceled
	}
	return Internal
}

// AsError returns err as an *Error, naming stage when it has to make one. It is
// nil for nil.
func AsError(err error, stage string) *Error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	e := &Error{Kind: KindOf(err), Stage: stage, Cause: err}
	switch e.Kind {
	case DeadlineExceeded:
		e.Detail, e.Own = "the deadline of the request has passed", true
	case Canceled:
		e.Detail, e.Own = "the client left", true
	default:
		e.Detail = "an internal error; the log tells more under this request's id"
	}
	return e
}

// ContextError returns the error of a request whose ctx is done, as raised in
// stage.
func ContextError(ctx context.Context, stage string) *Error {
	return AsError(context.Cause(ctx), stage)
}
