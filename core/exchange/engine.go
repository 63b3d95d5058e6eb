package exchange

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"go.uber.org/zap"

	"github.com/dragoman-mt/dragoman/core"
)

// A Call is a request to a server.
type Call struct {
	Method string // empty: POST
	Path   string // behind that of base_url
	Query  url.Values
	Body   []byte // JSON; nil: none
	// Optional says that the server may not know it.
	Optional bool
}

// A Task is what one call translates: one or more texts that share everything else.
type Task struct {
	Reqs []*core.Request
	// Source and Target are the codes of the server; Source is empty for one that the
	// server has to find.
	Source, Target string
}

// A Translation is one text of an answer.
type Translation struct {
	Text string
	// Detected is the code of the source that the server found; empty when it was told.
	Detected string
	// Characters is how many the server bills; 0 when it does not say.
	Characters int
	Model      string
}

// A Limit is the most that one call may hold; 0 stands for no limit.
type Limit struct {
	Texts, Characters, Bytes int
	// Told says that texts share a call only if their source is known: the server finds
	// one for all of them.
	Told bool
}

// A Dialect is how one kind of server is spoken to. It has no state and is safe for
// concurrent use.
type Dialect interface {
	// Code returns how the server writes l, as far as that is known without its own
	// list; empty for a language that it cannot have.
	Code(l core.Language, target bool) string
	// Parse returns the language that a code of the server stands for; empty for none.
	Parse(code string) core.Language
	Limit() Limit
	// Call returns the call that does t.
	Call(t Task) (Call, error)
	// Read reads the answer to a call with n texts, in their order.
	Read(body []byte, n int) ([]Translation, error)
	// Refused returns the kind of an answer that is no translation, and the field of
	// the request at fault; an empty kind leaves it to the status.
	Refused(status int, f Fault) (kind core.ErrorKind, field string)
	// Lists returns the calls that ask what the server translates, and ReadLists reads
	// the answers, of which those to optional calls may be nil.
	Lists() []Call
	ReadLists(bodies [][]byte) (*Offer, error)
	// Knock returns a call that a server which translates refuses with 400, at no cost;
	// Keyed says that Lists wants a key that is right, so that no knock is needed.
	Knock() Call
	Keyed() bool
}

// Settings are what an Engine is made of.
type Settings struct {
	// System is what kind of server it is, such as deepl.
	System  string
	Base    *url.URL // without a slash at the end of its path
	Header  http.Header
	Secrets []string // that Header, or a call, holds
	Timeout time.Duration
	// NeedsKey is what to do about an empty key, where the server wants one; else empty.
	NeedsKey string
	// Options is what else changes an answer.
	Options string
}

// An Engine is a provider that asks one server. It is safe for concurrent use.
type Engine struct {
	env     core.Env
	set     Settings
	dialect Dialect
	secrets *Secrets

	offer  atomic.Pointer[Offer]
	notice atomic.Pointer[string]

	mu   sync.Mutex
	stop func() // ends what Start began
}

var (
	_ core.Translator    = (*Engine)(nil)
	_ core.Batcher       = (*Engine)(nil)
	_ core.Starter       = (*Engine)(nil)
	_ core.Closer        = (*Engine)(nil)
	_ core.Prober        = (*Engine)(nil)
	_ core.Languager     = (*Engine)(nil)
	_ core.Heir          = (*Engine)(nil)
	_ core.Deadliner     = (*Engine)(nil)
	_ core.Fingerprinter = (*Engine)(nil)
	_ core.Accounter     = (*Engine)(nil)
)

// NewEngine returns a provider that speaks d.
func NewEngine(env core.Env, set Settings, d Dialect) (*Engine, error) {
	if env.Log == nil {
		env.Log = zap.NewNop()
	}
	header := http.Header{
		"Content-Type": {"application/json"}, "Accept": {"application/json"},
		"User-Agent": {"dragoman"}, "Accept-Encoding": {"identity"},
	}
	for name, values := range set.Header {
		for _, value := range values {
			if !IsFieldValue(value) {
				return nil, fmt.Errorf("what is sent as %s holds a character that no header may hold", name)
			}
		}
		header[name] = values
	}
	set.Header = header
	base := *set.Base
	base.Path, base.RawPath = strings.TrimRight(base.Path, "/"), strings.TrimRight(base.RawPath, "/")
	set.Base = &base
	return &Engine{env: env, set: set, dialect: d, secrets: NewSecrets(set.Secrets...)}, nil
}

// Inherit takes over what former knew of the same server.
func (e *Engine) Inherit(former any) {
	if f, ok := former.(*Engine); ok && f.Account() == e.Account() {
		e.offer.Store(f.offer.Load())
	}
}

// refresh is how often a server is asked what it translates, which changes with its
// installation; soonAgain is for one that has not said so yet.
const (
	refresh   = time.Hour
	soonAgain = time.Minute
)

// Start keeps connections ready for the server, and asks it now and then what it
// translates, until Close.
func (e *Engine) Start(context.Context) error {
	if err := e.keyed(core.Unauthorized); err != nil {
		return err
	}
	release, err := e.env.Upstream.Warm(e.set.Base.Scheme + "://" + e.set.Base.Host)
	if err != nil {
		return fmt.Errorf("preparing connections to %s: %w", e.set.Base.Host, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var asking sync.WaitGroup
	asking.Go(func() { e.follow(ctx) })
	e.began(func() { cancel(); asking.Wait(); release() })
	return nil
}

// began makes stop what Close does, after it has ended what was begun before.
func (e *Engine) began(stop func()) {
	e.mu.Lock()
	former := e.stop
	e.stop = stop
	e.mu.Unlock()
	if former != nil {
		former()
	}
}

// Close ends what Start began.
func (e *Engine) Close() error {
	e.began(nil)
	return nil
}

func (e *Engine) follow(ctx context.Context) {
	for {
		wait := refresh
		if e.offer.Load() == nil {
			wait = soonAgain
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		if offer, _ := e.ask(ctx); offer != nil {
			e.offer.Store(offer)
		}
	}
}

// keyed returns an error of kind when there is no key for a server that is known to
// want one.
func (e *Engine) keyed(kind core.ErrorKind) error {
	if e.set.NeedsKey == "" {
		return nil
	}
	return e.fail(kind, fmt.Sprintf("providers.%s.api_key is empty; %s", e.env.Name, e.set.NeedsKey), nil)
}

// SetDeadline has nothing to change: timeout bounds a call.
func (e *Engine) SetDeadline(time.Duration) {}

// Fingerprint names what changes an answer: not the key, not the timeout.
func (e *Engine) Fingerprint() string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%T\x00%s\x00%s", e.dialect, e.set.Base, e.set.Options))
	return hex.EncodeToString(sum[:12])
}

// Account names whom the upstream bills: its address and all that is sent to say who
// calls.
func (e *Engine) Account() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s://%s", e.set.Base.Scheme, strings.ToLower(e.set.Base.Host))
	for _, name := range slices.Sorted(maps.Keys(e.set.Header)) {
		fmt.Fprintf(&b, "\n%s: %q", name, e.set.Header[name])
	}
	fmt.Fprintf(&b, "\n%q", e.set.Secrets)
	return b.String()
}

// Languages returns what the server said it translates; nil until it has said so.
func (e *Engine) Languages() []core.LanguageInfo {
	if o := e.offer.Load(); o != nil {
		return o.Pairs
	}
	return nil
}

// Translate makes one call.
func (e *Engine) Translate(ctx context.Context, req *core.Request) (*core.Result, error) {
	all, err := e.TranslateAll(ctx, []*core.Request{req})
	if err != nil {
		return nil, err
	}
	return all[0], nil
}

// Together returns how many of reqs, from the first on, one call may hold.
func (e *Engine) Together(reqs []*core.Request) int {
	most := e.most()
	characters, size := 0, 0
	for i, req := range reqs {
		characters += utf8.RuneCountInString(req.Text)
		size += weight(req.Text)
		over := most.Texts > 0 && i >= most.Texts || most.Characters > 0 && characters > most.Characters || most.Bytes > 0 && size > most.Bytes
		if i > 0 && (over || !alike(reqs[0], req) || most.Told && req.Source == "") {
			return i
		}
	}
	return len(reqs)
}

// weight is what text takes in a body, in bytes.
func weight(text string) int {
	quoted, _ := json.Marshal(text)
	return len(quoted) + 16
}

// alike says whether a and b may share a call: they differ in their texts alone.
func alike(a, b *core.Request) bool {
	return a.Source == b.Source && a.Target == b.Target && a.Formality == b.Formality && a.Glossary == b.Glossary && a.GlossaryVersion == b.GlossaryVersion &&
		slices.Equal(a.Instructions, b.Instructions) && slices.Equal(a.Context, b.Context)
}

func (e *Engine) most() Limit {
	most := e.dialect.Limit()
	if o := e.offer.Load(); o != nil && o.Characters > 0 {
		most.Characters = o.Characters
	}
	return most
}

// TranslateAll translates all of reqs with one call. They fit and are alike, as
// Together says.
func (e *Engine) TranslateAll(ctx context.Context, reqs []*core.Request) ([]*core.Result, error) {
	if ctx.Err() != nil {
		return nil, core.ContextError(ctx, e.env.Name)
	}
	if err := e.keyed(core.ProviderFailed); err != nil {
		return nil, err
	}
	task, err := e.task(reqs)
	if err != nil {
		return nil, err
	}
	call, err := e.dialect.Call(task)
	if err != nil {
		return nil, core.AsError(err, e.env.Name)
	}
	status, header, body, err := e.send(ctx, e.set.Timeout, call, reqs)
	switch {
	case err != nil:
		return nil, err
	case !IsGood(status):
		return nil, e.failed(reqs, status, header, body)
	}
	all, err := e.dialect.Read(body, len(reqs))
	if err != nil || len(all) != len(reqs) {
		if f := ReadFault(body); f.Status != 0 {
			return nil, e.failed(reqs, f.Status, header, body)
		}
		return nil, e.again(core.ProviderFailed, "the provider's answer is no translation", fmt.Errorf("%d bytes of %s", len(body), LooksLike(body)))
	}
	results := make([]*core.Result, len(all))
	for i, t := range all {
		text := plain(t.Text)
		if strings.TrimSpace(text) == "" {
			return nil, e.again(core.ProviderFailed, "the provider's answer is empty", nil)
		}
		r := &core.Result{Text: text, Finish: core.FinishStop, Model: t.Model, Usage: core.Usage{Characters: t.Characters}}
		if most := 4*utf8.RuneCountInString(reqs[i].Text) + 100; r.Usage.Characters <= 0 || r.Usage.Characters > most {
			r.Usage.Characters = utf8.RuneCountInString(reqs[i].Text)
		}
		if task.Source == "" {
			r.Source = e.dialect.Parse(t.Detected)
		}
		results[i] = r
	}
	return results, nil
}

// plain returns text without control characters other than tab and line ends.
func plain(text string) string {
	control := func(r rune) bool { return r < ' ' && r != '\t' && r != '\n' && r != '\r' || r == 0x7f }
	if strings.IndexFunc(text, control) < 0 {
		return text
	}
	return strings.Map(func(r rune) rune {
		if control(r) {
			return -1
		}
		return r
	}, text)
}

// task finds the codes for reqs.
func (e *Engine) task(reqs []*core.Request) (Task, error) {
	t, req, most := Task{Reqs: reqs}, reqs[0], e.most()
	if n := utf8.RuneCountInString(req.Text); most.Characters > 0 && n > most.Characters || most.Bytes > 0 && weight(req.Text) > most.Bytes {
		return t, e.fail(core.TooLarge, fmt.Sprintf("the text has %d characters, which is more than the provider takes in one call", n), nil)
	}
	o := e.offer.Load()
	code := func(l core.Language, field string) (name string, err error) {
		target := field == "target"
		name = e.dialect.Code(l, target)
		if o != nil {
			codes := o.Sources
			if target {
				codes = o.Targets
			}
			// A list may have two names for one language, of which the usual is taken.
			if at := slices.IndexFunc(codes, func(c Code) bool { return strings.EqualFold(c.Name, name) && (!target || sameScript(c.Language, l)) }); at >= 0 {
				name = codes[at].Name
			} else {
				name, _ = Find(l, codes, target)
			}
		}
		if name == "" {
			err = &core.Error{Kind: core.UnsupportedLanguage, Stage: e.env.Name, Field: field, Detail: fmt.Sprintf("the provider does not translate %s as a %s", l, field)}
		}
		return name, err
	}
	var err error
	if req.Source != "" {
		if t.Source, err = code(req.Source, "source"); err != nil {
			return t, err
		}
	}
	t.Target, err = code(req.Target, "target")
	return t, err
}

// send makes one call within timeout and returns what came.
func (e *Engine) send(ctx context.Context, timeout time.Duration, c Call, reqs []*core.Request) (int, http.Header, []byte, error) {
	call, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	to := *e.set.Base
	to.Path, to.RawPath = to.Path+c.Path, ""
	if len(c.Query) > 0 {
		query := to.Query()
		maps.Copy(query, c.Query)
		to.RawQuery = query.Encode()
	}
	r := &http.Request{
		Method: c.Method, URL: &to, Host: to.Host, Header: maps.Clone(e.set.Header),
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}
	if c.Method == "" {
		r.Method = http.MethodPost
	}
	if c.Body == nil {
		delete(r.Header, "Content-Type")
	} else {
		r.Body, r.ContentLength = Body(c.Body), int64(len(c.Body))
		r.GetBody = func() (io.ReadCloser, error) { return Body(c.Body), nil }
	}
	if len(reqs) > 0 {
		Trace(reqs[0], r.Header, e.set.System, &to)
	}
	var buf bytes.Buffer
	resp, err := e.env.Upstream.RoundTrip(r.WithContext(call))
	if err == nil {
		if len(reqs) > 0 {
			Traced(reqs[0], resp.StatusCode)
		}
		if err = Unpack(resp); err == nil {
			err = Receive(ctx, cancel, resp, &buf, json.Valid)
		} else {
			resp.Body.Close()
		}
	}
	switch {
	case err == nil:
		return resp.StatusCode, resp.Header, buf.Bytes(), nil
	case ctx.Err() != nil:
		return 0, nil, nil, core.ContextError(ctx, e.env.Name)
	case call.Err() != nil:
		return 0, nil, nil, e.again(core.DeadlineExceeded, fmt.Sprintf("the provider did not answer within %v", timeout), nil)
	case errors.Is(err, ErrTooLong):
		return 0, nil, nil, e.again(core.ProviderFailed, "the provider's answer does not end", err)
	}
	return 0, nil, nil, e.again(core.ProviderFailed, "the connection to the provider failed", e.secrets.Hush(reqs...).Failure(err))
}

// failed turns an answer to reqs that is no translation into an error.
func (e *Engine) failed(reqs []*core.Request, status int, h http.Header, body []byte) *core.Error {
	f, hush := ReadFault(body), e.secrets.Hush(reqs...)
	cause := e.cause(status, f, hush)
	f.Message = hush.Cut(f.Message) // a text does not tell what kind of error it met
	kind, field := e.dialect.Refused(status, f)
	if kind == "" {
		kind = kindOf(status)
	}
	var failed *core.Error
	switch kind {
	case core.QuotaExceeded:
		failed = e.fail(kind, "the provider's account has no quota left", cause)
	case core.RateLimited:
		failed = e.again(kind, "the provider's account has reached its limit", cause)
		failed.RetryAfter = RetryAfter(h, time.Now())
	case core.Unauthorized:
		failed = e.fail(kind, "the provider does not accept this gateway's key", cause)
	case core.NotFound:
		failed = e.fail(kind, "the provider does not know the address that was called", cause)
	case core.UnsupportedLanguage:
		failed = e.fail(kind, "the provider does not translate this pair of languages", cause)
		failed.Field = field
	case core.TooLarge:
		failed = e.fail(kind, "the text is longer than the provider takes", cause)
	case core.ProviderRefused:
		failed = e.fail(kind, "the provider refused the text", cause)
	default:
		failed = e.fail(core.ProviderFailed, fmt.Sprintf("the provider answered with status %d", status), cause)
		switch {
		case status >= 500:
			failed.Retryable, failed.RetryAfter = true, RetryAfter(h, time.Now())
		case status == http.StatusRequestTimeout, status == http.StatusConflict, status == http.StatusTooEarly:
			failed.Retryable = true
		case status < http.StatusBadRequest:
			failed.Odd = true
			failed.Detail += ", which is neither an answer nor an error; redirects are not followed"
		}
	}
	return failed
}

// kindOf is what a status says by itself. 456 is DeepL's own, and 529 what some say for
// 429.
func kindOf(status int) core.ErrorKind {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusProxyAuthRequired:
		return core.Unauthorized
	case http.StatusPaymentRequired, 456:
		return core.QuotaExceeded
	case http.StatusNotFound, http.StatusMethodNotAllowed:
		return core.NotFound
	case http.StatusRequestEntityTooLarge, http.StatusRequestURITooLong:
		return core.TooLarge
	case http.StatusTooManyRequests, 529:
		return core.RateLimited
	}
	return core.ProviderFailed
}

// cause tells the log what the server said.
func (e *Engine) cause(status int, f Fault, hush Hush) error {
	text := fmt.Sprintf("status %d", status)
	for _, code := range f.Codes[:min(len(f.Codes), 3)] {
		text += ", " + hush.Code(code)
	}
	if said := hush.Message(f.Message); said != "" {
		text += ", message " + said
	}
	return errors.New(text)
}

func (e *Engine) fail(kind core.ErrorKind, detail string, cause error) *core.Error {
	return &core.Error{Kind: kind, Stage: e.env.Name, Detail: detail, Cause: cause}
}

func (e *Engine) again(kind core.ErrorKind, detail string, cause error) *core.Error {
	return &core.Error{Kind: kind, Stage: e.env.Name, Detail: detail, Retryable: true, Cause: cause}
}

// LooksLike says what an answer that is no translation is, by how it begins.
func LooksLike(body []byte) string {
	switch s := strings.TrimSpace(string(body[:min(len(body), 64)])); {
	case s == "":
		return "nothing"
	case s[0] == '<':
		return "HTML or XML"
	case s[0] == '{' || s[0] == '[':
		return "JSON, cut or of another shape"
	}
	return "something else"
}
