// Package openai is the provider kind `openai`: it translates with chat
// completions, by OpenAI or any server that speaks its API, over the process's
// upstream connections.
//
// A call costs one pass over the text: the body is a beginning that was encoded
// once for the pair of languages, the text as a JSON string, and an end that
// was encoded once for the model.
package openai

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
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/exchange"
)

// A Provider is one entry of `providers:` of type openai. It is safe for
// concurrent use.
type Provider struct {
	env     core.Env
	cfg     Config
	chat    *url.URL
	model   *url.URL
	header  http.Header // of every request; its slices are shared
	secrets *exchange.Secrets
	extra   map[string]json.RawMessage // request.extra, encoded

	template *template
	grows    bool // see template.grows
	prompts  prompts
	params   atomic.Pointer[params]
	scripts  scripts
	lists    lists
	taught   lesson                    // by chats
	worked   atomic.Bool               // a translation has come
	answered atomic.Pointer[time.Time] // when the last one came
	loaded   atomic.Bool               // the model is, as far as warm is known to have loaded it
	buffers  sync.Pool                 // of *bytes.Buffer, for answers
	notice   atomic.Pointer[string]

	mu      sync.Mutex
	release func() // ends what Start began
}

var (
	_ core.Translator    = (*Provider)(nil)
	_ core.Starter       = (*Provider)(nil)
	_ core.Heir          = (*Provider)(nil)
	_ core.Prober        = (*Provider)(nil)
	_ core.Deadliner     = (*Provider)(nil)
	_ core.Closer        = (*Provider)(nil)
	_ core.Fingerprinter = (*Provider)(nil)
	_ core.Accounter     = (*Provider)(nil)
)

func build(env core.Env, cfg *Config) (any, error) {
	base, err := cfg.base()
	if err != nil {
		return nil, about(env, "base_url", err)
	}
	if word := cfg.placeholder(); word != "" {
		return nil, about(env, "instructions", fmt.Errorf("instructions hold %s, which nothing replaces: languages and text are added by themselves; leave it out", word))
	}
	header, err := cfg.header()
	if err != nil {
		return nil, err
	}
	if env.Log == nil {
		env.Log = zap.NewNop()
	}
	extra, at, err := cfg.Request.extra()
	if err != nil {
		if env.Origin != nil {
			return nil, env.Origin.Complain("request.extra."+at, err.Error())
		}
		return nil, fmt.Errorf("request.extra.%s: %w", at, err)
	}
	p := &Provider{env: env, cfg: *cfg, header: header, secrets: cfg.secrets(base), extra: extra}
	if p.template, at, err = cfg.makeTemplate(); err != nil {
		if env.Origin != nil {
			return nil, env.Origin.Complain(at, err.Error())
		}
		return nil, fmt.Errorf("%s: %w", at, err)
	}
	p.grows = p.template.grows(cfg.Model)
	base.Path, base.RawPath = strings.TrimRight(base.Path, "/"), strings.TrimRight(base.RawPath, "/")
	p.cfg.BaseURL = base.String()
	if base.Path == "" {
		base.Path = "/" // else what is joined is no path of a request
	}
	p.chat = base.JoinPath("chat", "completions")
	p.model = base.JoinPath("models", url.PathEscape(cfg.Model))
	p.params.Store(p.known(refusals{}))
	p.buffers.New = func() any { return new(bytes.Buffer) }
	return p, nil
}

// about gives err the place of key, of which it speaks, if there is a file.
func about(env core.Env, key string, err error) error {
	if env.Origin == nil {
		return err
	}
	return env.Origin.Complain(key, err.Error())
}

// Inherit leaves out from the first call on what former found that its model
// refuses, if the same is asked of the same model. Whether a model streams
// depends on the account as well, which may be another.
func (p *Provider) Inherit(former any) {
	f, ok := former.(*Provider)
	if !ok || f.cfg.BaseURL != p.cfg.BaseURL || f.cfg.Model != p.cfg.Model || f.cfg.Prompt != p.cfg.Prompt || !reflect.DeepEqual(f.cfg.Request, p.cfg.Request) {
		return
	}
	refused := f.params.Load().refused
	refused.stream = false
	p.params.Store(p.known(refused))
	p.scripts.inherit(&f.scripts)
	p.loaded.Store(f.loaded.Load())
	p.answered.Store(f.answered.Load())
}

// Start keeps connections ready for the upstream, until Close.
func (p *Provider) Start(context.Context) error {
	if err := p.keyed(core.Unauthorized); err != nil {
		return err
	}
	release, err := p.env.Upstream.Warm(p.chat.Scheme + "://" + p.chat.Host)
	if err != nil {
		return fmt.Errorf("preparing connections to %s: %w", p.chat.Host, err)
	}
	if !p.tellsWho() && !exchange.IsLoopback(p.chat) {
		p.env.Log.Info("calls go beyond this machine without a key, as api_key is empty", zap.String("host", p.chat.Host))
	}
	stop := release
	if p.cfg.Warm > 0 {
		ctx, cancel := context.WithCancel(context.Background())
		var warming sync.WaitGroup
		warming.Go(func() { p.stayWarm(ctx) })
		stop = func() { cancel(); warming.Wait(); release() }
	}
	p.mu.Lock()
	former := p.release
	p.release = stop
	p.mu.Unlock()
	if former != nil {
		former()
	}
	return nil
}

// Close ends what Start began.
func (p *Provider) Close() error {
	p.mu.Lock()
	release := p.release
	p.release = nil
	p.mu.Unlock()
	if release != nil {
		release()
	}
	return nil
}

// tellsWho says whether anything is sent that says who calls.
func (p *Provider) tellsWho() bool {
	for name := range p.header {
		if mayBeKey(name) {
			return true
		}
	}
	for name := range p.chat.Query() {
		if mayBeKey(name) {
			return true
		}
	}
	return false
}

// keyed returns an error of kind when there is no key for a server that is known
// to want one.
func (p *Provider) keyed(kind core.ErrorKind) error {
	if p.header["Authorization"] != nil || !isOpenAI(p.chat) {
		return nil
	}
	return p.fail(kind, fmt.Sprintf("providers.%s.api_key is empty; set OPENAI_API_KEY, or name another provider in use", p.env.Name), nil)
}

// SetDeadline has nothing to change: timeout bounds a call, and the deadline of a
// request comes with it. What was learned of the model stays.
func (p *Provider) SetDeadline(time.Duration) {}

// Fingerprint names what changes an answer: not the key, not the timeout.
func (p *Provider) Fingerprint() string {
	r := &p.cfg.Request
	all := fmt.Appendf(nil, "openai\x00%s\x00%s\x00%s\x00%s\x00%g\x00%s\x00%d",
		promptVersion, p.cfg.BaseURL, p.cfg.Model, p.cfg.Instructions,
		r.Temperature, r.ReasoningEffort, r.MaxOutput)
	for _, name := range slices.Sorted(slices.Values(r.Omit)) {
		all = fmt.Appendf(all, "\x00omit %s", name)
	}
	if r.PassUnknown {
		all = append(all, "\x00pass unknown"...)
	}
	for _, name := range slices.Sorted(maps.Keys(p.extra)) {
		all = fmt.Appendf(all, "\x00extra %q %s", name, p.extra[name])
	}
	if p.cfg.Prompt != defaults().Prompt {
		all = fmt.Appendf(all, "\x00prompt %q", p.cfg.Prompt)
	}
	sum := sha256.Sum256(all)
	return hex.EncodeToString(sum[:12])
}

// Account names whom the upstream bills: its address and all that is sent to say
// who calls, which is the key or a header of the configuration.
func (p *Provider) Account() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s://%s", p.chat.Scheme, strings.ToLower(p.chat.Host))
	for _, name := range slices.Sorted(maps.Keys(p.header)) {
		fmt.Fprintf(&b, "\n%s: %q", name, p.header[name])
	}
	return b.String()
}

// Translate makes one call. When the model refuses a parameter or a role that can
// be left out, or needs more room for its thoughts, that is remembered and the call
// is made again at once.
func (p *Provider) Translate(ctx context.Context, req *core.Request) (*core.Result, error) {
	if err := p.keyed(core.ProviderFailed); err != nil { // the client's own key is not at fault
		return nil, err
	}
	if req.Chat != nil {
		return p.converse(ctx, req)
	}
	return p.translate(ctx, req, p.cfg.Timeout)
}

// translate is Translate within timeout.
func (p *Provider) translate(ctx context.Context, req *core.Request, timeout time.Duration) (*core.Result, error) {
	call, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	buf := p.buffers.Get().(*bytes.Buffer)
	defer func() {
		if buf.Cap() <= maxKept {
			p.buffers.Put(buf)
		}
	}()
	var former core.Usage // of calls that had to be made again
	for {
		// Each round knows more of the model than the one before, so there are few.
		sent := p.params.Load()
		res, usage, limits, err := p.call(ctx, call, cancel, req, sent, buf)
		again, is := errors.AsType[*askAgain](err)
		if is {
			err = again.failed
		}
		usage.PromptTokens += former.PromptTokens
		usage.CompletionTokens += former.CompletionTokens
		usage.CachedTokens += former.CachedTokens
		if is && call.Err() == nil {
			former = usage
			continue
		}
		if res != nil {
			res.Usage, res.Limits = usage, limits
			if !p.worked.Load() {
				p.worked.Store(true)
			}
			if p.cfg.Warm > 0 {
				now := time.Now()
				p.answered.Store(&now)
			}
		}
		if err != nil {
			return nil, core.AsError(err, p.env.Name).Charged(usage, limits)
		}
		return res, nil
	}
}

// askAgain is the failure of a call that taught something of the model: another,
// made at once, will do better.
type askAgain struct{ failed error }

func (a *askAgain) Error() string { return a.failed.Error() }

// call makes the call that translates req, with the parameters sent. The usage and
// the limits hold even when there is an error.
func (p *Provider) call(ctx, call context.Context, cancel func(), req *core.Request, sent *params, buf *bytes.Buffer) (*core.Result, core.Usage, *core.Limits, error) {
	out := p.request(call, req, sent)
	resp, err := p.env.Upstream.RoundTrip(out)
	if err != nil {
		return nil, core.Usage{}, nil, p.broken(ctx, call, req, err)
	}
	exchange.Traced(req, resp.StatusCode)
	l := limits(resp.Header)
	good := exchange.IsGood(resp.StatusCode)
	streamed := false
	if err := exchange.Unpack(resp); err == nil && good && sent.streams(req) {
		streamed, err = isStream(resp)
		if err != nil {
			resp.Body.Close()
			return nil, core.Usage{}, believed(l, core.Usage{}), p.broken(ctx, call, req, err)
		}
	} else if err != nil {
		resp.Body.Close()
		return nil, core.Usage{}, believed(l, core.Usage{}), p.again(core.ProviderFailed, "the provider's answer is packed in a way that was not asked for", p.hush(req).Failure(err))
	}
	if !streamed {
		if err := receive(ctx, cancel, resp, buf); err != nil {
			return nil, core.Usage{}, believed(l, core.Usage{}), p.broken(ctx, call, req, err)
		}
		if err := unpack(buf); err != nil {
			return nil, core.Usage{}, believed(l, core.Usage{}), p.again(core.ProviderFailed, "the provider's answer is packed and cannot be unpacked", p.hush(req).Failure(err))
		}
	}
	if !good {
		return nil, core.Usage{}, believed(l, core.Usage{}), p.adapted(req, sent, p.failed(req, resp.StatusCode, resp.Header, buf.Bytes()), resp.StatusCode, buf.Bytes())
	}
	var res *core.Result
	var usage core.Usage
	switch {
	case streamed:
		defer resp.Body.Close()
		res, usage, err = p.stream(ctx, call, cancel, req, sent, resp, buf)
	case looksStreamed(buf.Bytes()):
		whole := *resp
		whole.Body = exchange.Body(asEvents(buf.Bytes()))
		res, usage, err = p.stream(ctx, call, cancel, req, sent, &whole, buf)
	default:
		res, usage, err = p.read(req, resp.Header, buf.Bytes())
		switch e, _ := errors.AsType[*core.Error](err); {
		case e == nil:
		case resp.StatusCode != http.StatusOK && !readRefusal(buf.Bytes()).isError:
			err = p.failed(req, resp.StatusCode, resp.Header, nil) // the status says more
		default:
			err = p.adapted(req, sent, e, 0, buf.Bytes())
		}
	}
	res, err = p.roomier(req, sent, res, err)
	usage = p.bounded(usage, out.ContentLength, res)
	if res != nil {
		res.Model = p.named(res.Model, req)
	}
	return res, usage, believed(l, usage), err
}

// adapted is failed, as one to ask again after when body says what the model would
// not take and that is left out from now on. Status 0 is the one in body.
func (p *Provider) adapted(req *core.Request, sent *params, failed *core.Error, status int, body []byte) error {
	if failed.Kind != core.ProviderFailed {
		return failed
	}
	r := readRefusal(body)
	if status == 0 {
		status = r.status()
	}
	r.Message = p.hush(req).Cut(r.Message)
	learned := false
	if status == http.StatusBadRequest || status == http.StatusUnprocessableEntity {
		for _, name := range r.refused(sent.names(req)) {
			learned = p.learn(sent, name, r.ofValue()) || learned
		}
	}
	if !learned && r.noSystem(status) {
		learned = p.learn(sent, "system", false)
	}
	if learned {
		return &askAgain{failed}
	}
	return failed
}

// learn remembers that the model refuses the parameter name, and says whether
// sent held it.
func (p *Provider) learn(sent *params, name string, value bool) bool {
	if _, had := sent.without(name, value); !had {
		return false
	}
	for {
		known := p.params.Load()
		refused, is := known.without(name, value)
		if !is {
			return true // another call has learned it meanwhile
		}
		if p.params.CompareAndSwap(known, p.known(refused)) {
			p.env.Log.Info("the model refuses a parameter, it is left out from now on", zap.String("parameter", name), zap.String("model", p.cfg.Model))
			return true
		}
	}
}

// request builds the call that translates req.
func (p *Provider) request(ctx context.Context, req *core.Request, params *params) *http.Request {
	return p.post(ctx, req, p.encode(req, params, isList(ctx)))
}

// post builds the call for req with the body encoded.
func (p *Provider) post(ctx context.Context, req *core.Request, encoded []byte) *http.Request {
	h := p.headers()
	if id := req.ID; id != "" && len(id) <= 400 && exchange.IsFieldValue(id) && isASCII(id) {
		if req.Attempt > 0 {
			id += "-" + strconv.Itoa(req.Attempt)
		}
		h["X-Client-Request-Id"] = []string{id}
	}
	exchange.Trace(req, h, "openai", p.chat)
	if span := req.Trace.Traced(); span != nil {
		span.Operation, span.Model = "chat", p.cfg.Model
		if req.Chat != nil && req.Chat.Model != "" && req.Chat.Provider == p.env.Name {
			span.Model = req.Chat.Model
		}
		asks(span, encoded)
	}
	r := &http.Request{
		Method: http.MethodPost, URL: p.chat, Host: p.chat.Host, Header: h,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Body: exchange.Body(encoded), ContentLength: int64(len(encoded)),
		// What the connection needs to send it again, when it was not sent at all.
		GetBody: func() (io.ReadCloser, error) { return exchange.Body(encoded), nil },
	}
	return r.WithContext(ctx)
}

func (p *Provider) headers() http.Header {
	h := make(http.Header, len(p.header)+1)
	for name, value := range p.header {
		h[name] = value
	}
	return h
}

func isASCII(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] > 0x7e {
			return false
		}
	}
	return true
}

// maxKept is the largest buffer that is kept for the next answer, in bytes.
const maxKept = 64 << 10

// receive reads the answer to its end, or until it has said what it has to say
// and its end does not come.
func receive(ctx context.Context, cancel func(), resp *http.Response, buf *bytes.Buffer) error {
	return exchange.Receive(ctx, cancel, resp, buf, whole)
}

// whole says whether b is a JSON object, or a stream with its end.
func whole(b []byte) bool {
	return bytes.HasSuffix(bytes.TrimRight(b, " \t\r\n"), done) || json.Valid(b)
}

// broken turns the failure of a connection into an error: of the request, when
// that is over; of the attempt, when it took too long; else of the provider.
func (p *Provider) broken(ctx, call context.Context, req *core.Request, err error) error {
	switch {
	case ctx.Err() != nil:
		return core.ContextError(ctx, p.env.Name)
	case call.Err() != nil:
		return p.again(core.DeadlineExceeded, fmt.Sprintf("the provider did not answer within %v", p.cfg.Timeout), nil)
	}
	return p.again(core.ProviderFailed, "the connection to the provider failed", p.hush(req).Failure(err))
}

// Probe asks for the model: it proves the key, the address and the model. Of a server
// that has no such call it asks whether it translates at all, with a call that is
// refused and costs nothing; then it is taken as well.
func (p *Provider) Probe(ctx context.Context) error {
	if err := p.keyed(core.Unauthorized); err != nil {
		return err
	}
	call, cancel := context.WithTimeout(ctx, max(p.cfg.Timeout, 5*time.Second))
	defer cancel()
	status, header, body, err := p.knock(ctx, call, cancel, http.MethodGet, p.model, "")
	if err != nil {
		return err
	}
	key := "providers." + p.env.Name
	switch {
	case status == http.StatusOK && !isPage(header, body):
		p.note(p.shutdown(body, time.Now()))
		return nil
	case (status == http.StatusForbidden || status == http.StatusUnauthorized && mayElse(body)) && p.chats(call):
		p.note(fmt.Sprintf("the key of %s may translate, but not ask %s about model %q (status %d): whether the model ends soon is not known", key, p.chat.Host, p.cfg.Model, status))
		return nil
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return p.refused(status, header, body)
	case status == http.StatusNotFound && readRefusal(body).Code == "model_not_found":
		return p.fail(core.NotFound, fmt.Sprintf("%s knows no model %q; change %s.model", p.chat.Host, p.cfg.Model, key), p.cause(nil, status, header, readRefusal(body)))
	case status == http.StatusTooManyRequests:
		if err := p.failed(nil, status, header, body); err.Kind == core.QuotaExceeded {
			return err
		}
		return nil // at its limit, so it serves
	case status >= 500 && status != http.StatusNotImplemented:
		return p.failed(nil, status, header, body)
	case status < http.StatusOK:
		return p.again(core.Unavailable, fmt.Sprintf("%s leaves HTTP (status %d) instead of answering", p.chat.Host, status), nil)
	}
	asked := status
	status, header, body, err = p.knock(ctx, call, cancel, http.MethodPost, p.chat, "{}")
	switch {
	case err != nil:
		return err
	case isPage(header, body) && status < 500:
		return p.astray(status, "with a web page", "the API may be under another path or host")
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return p.refused(status, header, body)
	case status == http.StatusNotFound && !bytes.Contains(bytes.ToLower(body), []byte("model")), status == http.StatusMethodNotAllowed:
		return p.astray(status, fmt.Sprintf("with status %d", status), "its path may be wrong")
	case status >= 300 && status < 400:
		return p.astray(status, fmt.Sprintf("with status %d", status), "redirects are not followed: name the address to which it leads")
	}
	p.note(fmt.Sprintf("%s does not tell about model %q (status %d): its key and model are found right or wrong by the first translation", p.chat.Host, p.cfg.Model, asked))
	return nil
}

// Ready says so while the model is being loaded, which only one with warm knows. How the
// calls go, the stage that makes them knows.
func (p *Provider) Ready() error {
	if p.cfg.Warm > 0 && !p.loaded.Load() && !p.worked.Load() {
		return errLoading
	}
	return nil
}

// knock makes one call of a probe, within call, and returns what came.
func (p *Provider) knock(ctx, call context.Context, cancel func(), method string, to *url.URL, content string) (int, http.Header, []byte, error) {
	r := &http.Request{
		Method: method, URL: to, Host: to.Host, Header: p.headers(),
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}
	if content == "" {
		delete(r.Header, "Content-Type")
	} else {
		r.Body, r.ContentLength = exchange.Body([]byte(content)), int64(len(content))
		r.GetBody = func() (io.ReadCloser, error) { return exchange.Body([]byte(content)), nil }
	}
	var buf bytes.Buffer
	resp, err := p.env.Upstream.RoundTrip(r.WithContext(call))
	if err == nil {
		if err = exchange.Unpack(resp); err == nil {
			err = receive(ctx, cancel, resp, &buf)
		} else {
			resp.Body.Close()
		}
	}
	if err != nil {
		err := core.AsError(p.broken(ctx, call, nil, err), p.env.Name)
		if err.Kind == core.ProviderFailed {
			err.Kind, err.Detail = core.Unavailable, p.chat.Host+" cannot be reached"
		}
		return 0, nil, nil, err
	}
	return resp.StatusCode, resp.Header, buf.Bytes(), nil
}

// mayElse says whether a refusal is of this call alone, and not of the key.
func mayElse(body []byte) bool {
	r := readRefusal(body)
	return saysAny(r.words(), "scope", "permission", "not authorized to")
}

// refused is the answer to a key that is not right.
func (p *Provider) refused(status int, header http.Header, body []byte) error {
	return p.fail(core.Unauthorized, fmt.Sprintf("%s refuses providers.%s.api_key (status %d); check the key and what it may do", p.chat.Host, p.env.Name, status), p.cause(nil, status, header, readRefusal(body)))
}

var hasVersion = regexp.MustCompile(`/v[0-9]`)

// astray says that nothing translates at base_url, and why that may be.
func (p *Provider) astray(status int, how, why string) error {
	if !hasVersion.MatchString(p.chat.Path) && (status < 300 || status >= 400) {
		why = "it may lack /v1 at its end, as in " + strings.TrimSuffix(p.address(), "/chat/completions") + "/v1"
	}
	detail := fmt.Sprintf("%s is answered %s, so nothing translates there; change providers.%s.base_url: %s", p.address(), how, p.env.Name, why)
	return p.fail(core.NotFound, p.secrets.Redact(detail), fmt.Errorf("status %d", status))
}

// isPage says whether an answer is meant for a browser.
func isPage(header http.Header, body []byte) bool {
	return strings.HasPrefix(strings.ToLower(exchange.First(header, "Content-Type")), "text/html") || exchange.LooksLike(body) == "HTML or XML"
}

// chats says whether a translation has come, or comes now: a key may be good for
// chats alone, and who waits for readiness sends no text before.
func (p *Provider) chats(ctx context.Context) bool {
	if p.worked.Load() {
		return true
	}
	_, err := p.Translate(ctx, &core.Request{Text: "Good morning.", Source: "en", Target: "es", Trace: core.NewTrace(nil)})
	return err == nil
}

// shutdownNear is how long before a model's end it is worth a warning.
const shutdownNear = 60 * 24 * time.Hour

// shutdown says so when the model's end is near or past, and else nothing.
func (p *Provider) shutdown(body []byte, now time.Time) string {
	var model struct {
		Shutdown any `json:"shutdown_date"`
	}
	if json.Unmarshal(body, &model) != nil {
		return ""
	}
	date, _ := model.Shutdown.(string)
	end, err := time.Parse(time.DateOnly, date)
	switch {
	case err != nil || end.Sub(now) > shutdownNear:
		return ""
	case end.After(now):
		return fmt.Sprintf("model %q will be shut down on %s; change providers.%s.model", p.cfg.Model, date, p.env.Name)
	}
	return fmt.Sprintf("model %q was to be shut down on %s; change providers.%s.model", p.cfg.Model, date, p.env.Name)
}

// note logs a warning, once until it changes.
func (p *Provider) note(text string) {
	if former := p.notice.Swap(&text); text != "" && (former == nil || *former != text) {
		p.env.Log.Warn(text)
	}
}

// Notice returns what the last Probe found that an operator should know though
// it does not keep the provider from serving; empty for nothing.
func (p *Provider) Notice() string {
	if s := p.notice.Load(); s != nil {
		return *s
	}
	return ""
}
