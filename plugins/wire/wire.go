// Package wire is the protocol between the gateway and its plugins: plugin.proto,
// the code that is generated from it (`make generate`), and the conversion to and
// from the types of core. Its README is the contract, for the authors of plugins
// in any language.
package wire

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/dragoman-mt/dragoman/core"
)

const (
	// Protocol is the version of plugin.proto. It is what a host offers in
	// PLUGIN_PROTOCOL_VERSIONS and what Describe answers.
	Protocol = 1
	// CookieKey and CookieValue are set in the environment of a plugin, so that
	// a plugin which somebody starts by hand can say what it is.
	CookieKey   = "DRAGOMAN_PLUGIN"
	CookieValue = "a plugin of dragoman"

	// SecretKey is set in the environment of a plugin to the number of a
	// descriptor, from which it reads a secret, once. A call that does not carry
	// that secret under SecretHeader is not the gateway's: other processes of the
	// same user can reach the socket as well.
	SecretKey    = "PLUGIN_SECRET_FD"
	SecretHeader = "dragoman-secret"
	// OriginalKey is set in the environment of a plugin that is executed as a
	// copy, for its checksum's sake: where the original stands.
	OriginalKey = "PLUGIN_FILE"

	// MaxMessage is the longest message that either side takes, in bytes.
	MaxMessage = 8 << 20
	// MaxState is the most that Before may hand to After, in bytes.
	MaxState = 64 << 10

	maxDetail = 300 // code points of Error.Detail that are kept
	maxCause  = 200 // code points of Error.Cause that are kept
)

// EncodeRequest returns req as a plugin gets it.
func EncodeRequest(req *core.Request) *Text {
	t := &Text{
		Id: req.ID, Text: req.Text, Source: string(req.Source), Target: string(req.Target),
		Formality: string(req.Formality), Glossary: req.Glossary, GlossaryVersion: req.GlossaryVersion, Instructions: req.Instructions,
		Client: req.Client, Session: req.Session, Segment: req.Segment, Revision: req.Revision,
		Final: req.Final, Lane: Lane(req.Lane), NoCache: req.NoCache,
		Attempt: int32(req.Attempt), Deltas: req.OnDelta != nil,
	}
	t.Context, t.Terms = encodePairs(req.Context), encodePairs(req.Terms)
	return t
}

func encodePairs(pairs []core.Pair) (all []*Pair) {
	for _, p := range pairs {
		all = append(all, &Pair{Source: p.Source, Target: p.Target})
	}
	return all
}

func decodePairs(pairs []*Pair) (all []core.Pair) {
	for _, p := range pairs {
		all = append(all, core.Pair{Source: p.GetSource(), Target: p.GetTarget()})
	}
	return all
}

// DecodeRequest returns what t says, with a trace of its own and without
// OnDelta. The languages are taken as they come: a gateway sends them in
// canonical form.
func DecodeRequest(t *Text) *core.Request {
	req := &core.Request{
		ID: t.GetId(), Source: core.Language(t.GetSource()), Target: core.Language(t.GetTarget()),
		Client: t.GetClient(), Session: t.GetSession(), Segment: t.GetSegment(), Revision: t.GetRevision(),
		Final: t.GetFinal(), Lane: core.Lane(min(max(t.GetLane(), 0), Lane_LANE_BULK)), Attempt: int(t.GetAttempt()),
		Trace: core.NewTrace(nil),
	}
	put(req, t)
	return req
}

// Change returns req as the Before of a plugin wants it to go on: a copy with
// the text, the languages and the options of t. Who asks, and in which order,
// stays as it is. The error is an unsupported_language or an invalid_request.
func Change(req *core.Request, t *Text) (*core.Request, error) {
	changed := *req
	put(&changed, t)
	for _, l := range []struct {
		field string
		tag   string
		into  *core.Language
	}{{"source", t.GetSource(), &changed.Source}, {"target", t.GetTarget(), &changed.Target}} {
		if l.tag == string(*l.into) {
			continue // also when both are empty
		}
		if l.tag == "" {
			*l.into = ""
			continue
		}
		language, err := core.ParseLanguage(l.tag)
		if err != nil {
			named := *core.AsError(err, "")
			named.Field = l.field
			return nil, &named
		}
		*l.into = language
	}
	switch {
	case strings.TrimSpace(changed.Text) == "" || strings.ContainsRune(changed.Text, 0):
		return nil, &core.Error{Kind: core.InvalidRequest, Field: "text", Detail: "the text that goes on is blank or holds a NUL"}
	case changed.Target == "":
		return nil, &core.Error{Kind: core.InvalidRequest, Field: "target", Detail: "the text that goes on has no target language"}
	}
	return &changed, nil
}

// put sets what a plugin may change, but for the languages.
func put(req *core.Request, t *Text) {
	if t.GetGlossaryVersion() != "" || t.GetGlossary() != req.Glossary {
		// A plugin that is older than these fields leaves them out, and means no change.
		req.GlossaryVersion, req.Terms = t.GetGlossaryVersion(), decodePairs(t.GetTerms())
	}
	req.Text, req.Formality, req.Glossary = t.GetText(), core.Formality(t.GetFormality()), t.GetGlossary()
	req.Instructions, req.NoCache, req.Context = t.GetInstructions(), t.GetNoCache(), decodePairs(t.GetContext())
}

// EncodeResult returns res as it travels.
func EncodeResult(res *core.Result) *Result {
	return &Result{
		Text: res.Text, Source: string(res.Source), Provider: res.Provider, Model: res.Model, Finish: string(res.Finish),
		Flags: res.Flags, Usage: EncodeUsage(res.Usage), Cached: res.Cached, NoStore: res.NoStore,
	}
}

// DecodeResult returns what r says. A language that is none is left out, a
// finish that is not known is unknown; what Excess complains of is cut or left
// out.
func DecodeResult(r *Result) *core.Result {
	res := &core.Result{
		Text: r.GetText(), Provider: r.GetProvider(), Model: name(r.GetModel()), Finish: core.Finish(r.GetFinish()),
		Flags: flags(r.GetFlags()), Usage: DecodeUsage(r.GetUsage()), Cached: r.GetCached(), NoStore: r.GetNoStore(),
	}
	if r.GetSource() != "" { // else it would cost an error
		res.Source, _ = core.ParseLanguage(r.GetSource())
	}
	switch res.Finish {
	case core.FinishStop, core.FinishLength, core.FinishFiltered:
	default:
		res.Finish = core.FinishUnknown
	}
	return res
}

// EncodeUsage returns u as it travels.
func EncodeUsage(u core.Usage) *Usage {
	if u == (core.Usage{}) {
		return nil
	}
	return &Usage{PromptTokens: int64(u.PromptTokens), CompletionTokens: int64(u.CompletionTokens), CachedTokens: int64(u.CachedTokens)}
}

// DecodeUsage returns what u says; a negative count is none, and none is more
// than anything can cost.
func DecodeUsage(u *Usage) core.Usage {
	count := func(n int64) int { return int(min(max(n, 0), maxTokens)) }
	return core.Usage{PromptTokens: count(u.GetPromptTokens()), CompletionTokens: count(u.GetCompletionTokens()), CachedTokens: count(u.GetCachedTokens())}
}

// EncodeLimits returns l as it travels: what the upstream left out is nil.
func EncodeLimits(l *core.Limits) *Limits {
	if l == nil || !l.Requests.Known && !l.Tokens.Known {
		return nil
	}
	one := func(l core.Limit) *Limit {
		if !l.Known {
			return nil
		}
		return &Limit{Limit: int64(l.Limit), Remaining: int64(l.Remaining), Reset_: durationpb.New(l.Reset)}
	}
	return &Limits{Requests: one(l.Requests), Tokens: one(l.Tokens)}
}

// DecodeLimits returns what l says; nil for nothing. A limit of nothing at all is
// not known.
func DecodeLimits(l *Limits) *core.Limits {
	one := func(l *Limit) core.Limit {
		if l.GetLimit() <= 0 {
			return core.Limit{}
		}
		most := min(l.GetLimit(), maxTokens)
		return core.Limit{Known: true, Limit: int(most), Remaining: int(min(max(l.GetRemaining(), 0), most)), Reset: pause(l.GetReset_())}
	}
	limits := core.Limits{Requests: one(l.GetRequests()), Tokens: one(l.GetTokens())}
	if !limits.Requests.Known && !limits.Tokens.Known {
		return nil
	}
	return &limits
}

// pause returns d, within bounds.
func pause(d *durationpb.Duration) time.Duration { return min(max(d.AsDuration(), 0), maxPause) }

// EncodeError returns err as it travels; nil for nil.
func EncodeError(err error) *Error {
	if err == nil {
		return nil
	}
	e := core.AsError(err, "")
	out := &Error{Kind: string(e.Kind), Field: clip(e.Field, maxCause), Detail: clip(e.Detail, maxDetail), Retryable: e.Retryable}
	if e.RetryAfter > 0 {
		out.RetryAfter = durationpb.New(e.RetryAfter)
	}
	if e.Cause != nil {
		out.Cause = clip(e.Cause.Error(), maxCause)
	}
	return out
}

// DecodeError returns what e says, as raised in stage. It is never nil. What a
// plugin writes is cut and stripped of control characters; a kind that is not
// known is provider_failed.
func DecodeError(e *Error, stage string) *core.Error {
	out := &core.Error{
		Kind: core.ErrorKind(e.GetKind()), Stage: stage, Field: clip(e.GetField(), maxCause), Detail: clip(e.GetDetail(), maxDetail),
		Retryable: e.GetRetryable(), RetryAfter: pause(e.GetRetryAfter()),
	}
	if !slices.Contains(kinds(), out.Kind) {
		out.Kind = core.ProviderFailed
	}
	if out.Detail == "" {
		out.Detail = "the plugin gave no reason"
	}
	if cause := clip(e.GetCause(), maxCause); cause != "" {
		out.Cause = errors.New(cause)
	}
	return out
}

// kinds are those that a plugin may answer with.
func kinds() []core.ErrorKind {
	return []core.ErrorKind{
		core.InvalidRequest, core.UnsupportedLanguage, core.TooLarge, core.Unauthorized, core.Forbidden, core.NotFound,
		core.Overloaded, core.Unavailable, core.RateLimited, core.QuotaExceeded, core.DeadlineExceeded,
		core.ProviderFailed, core.ProviderRefused, core.BadAnswer, core.Canceled, core.Internal,
	}
}

// clip returns at most most code points of s, on one line.
func clip(s string, most int) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s[:min(len(s), 4*most)], ""))
	if utf8.RuneCountInString(s) > most {
		s = string([]rune(s)[:most])
	}
	return strings.TrimSpace(s)
}

// EncodeLanguages returns languages as they travel.
func EncodeLanguages(languages []core.LanguageInfo) []*Languages {
	var out []*Languages
	for _, l := range languages {
		one := &Languages{Source: string(l.Source)}
		for _, target := range l.Targets {
			one.Targets = append(one.Targets, string(target))
		}
		out = append(out, one)
	}
	return out
}

// DecodeLanguages returns what said says. The error names a tag that is none, or
// says that there are too many.
func DecodeLanguages(said []*Languages) ([]core.LanguageInfo, error) {
	pairs := 0
	for _, l := range said {
		pairs += len(l.GetTargets())
	}
	if len(said) > MaxSources || pairs > MaxPairs {
		return nil, fmt.Errorf("%d languages and %d pairs of them; %d and %d are the most", len(said), pairs, MaxSources, MaxPairs)
	}
	known := languages{}
	var out []core.LanguageInfo
	for _, l := range said {
		source, err := known.parse(l.GetSource())
		if err != nil {
			return nil, err
		}
		one := core.LanguageInfo{Source: source}
		for _, tag := range l.GetTargets() {
			target, err := known.parse(tag)
			if err != nil {
				return nil, err
			}
			one.Targets = append(one.Targets, target)
		}
		out = append(out, one)
	}
	return out, nil
}

// Within returns ctx when its deadline is at most longest away, else one that
// ends then. Nearly every call has a nearer deadline of its own, and another
// context costs both sides more than the message does.
func Within(ctx context.Context, longest time.Duration) (context.Context, context.CancelFunc) {
	if at, has := ctx.Deadline(); has && time.Until(at) <= longest {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, longest)
}

// Deadline returns d, or what a host that names none means.
func Deadline(d *durationpb.Duration) time.Duration {
	if d == nil || d.AsDuration() <= 0 {
		return time.Minute
	}
	return d.AsDuration()
}
