package openai

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/dragoman-mt/dragoman/core"
)

// answer is what is read of a chat completion.
type answer struct {
	Model   string   `json:"model"`
	Choices []choice `json:"choices"`
	Usage   usage    `json:"usage"`
}

type choice struct {
	FinishReason string  `json:"finish_reason"`
	Message      message `json:"message"`
}

type message struct {
	Content string `json:"content"`
	Refusal string `json:"refusal"`
}

type usage struct {
	PromptTokens     int `json:"prompt_tokens"`
	CompletionTokens int `json:"completion_tokens"`
	Details          struct {
		CachedTokens int `json:"cached_tokens"`
	} `json:"prompt_tokens_details"`
}

func (u *usage) counted() core.Usage {
	return core.Usage{
		PromptTokens:     max(u.PromptTokens, 0),
		CompletionTokens: max(u.CompletionTokens, 0),
		CachedTokens:     max(u.Details.CachedTokens, 0),
	}
}

// unseen is how many tokens a server may add to a prompt that are not in what it
// was sent: marks of its template, rules of its own.
const unseen = 1024

// bounded returns u, made to be no more than a call can have cost: a token is a
// byte at least, of what was sent or of the answer, and an answer with its hidden
// reasoning has no more than max_output. A server that says otherwise is wrong, and
// what it says would be held against the account's limit.
func (p *Provider) bounded(u core.Usage, sent int64, res *core.Result) core.Usage {
	most := p.cfg.Request.MaxOutput
	if res != nil {
		most = max(most, len(res.Text))
	}
	u.PromptTokens = min(max(u.PromptTokens, 0), int(sent)+unseen)
	u.CompletionTokens = min(max(u.CompletionTokens, 0), most)
	u.CachedTokens = min(max(u.CachedTokens, 0), u.PromptTokens)
	return u
}

// said is what an answer says, in one piece or streamed.
type said struct {
	text, refusal, finish, model string
	usage                        core.Usage
}

// read turns the body of a 200 into a result. The usage holds even when there
// is an error.
func (p *Provider) read(body []byte) (*core.Result, core.Usage, error) {
	var a answer
	if !a.read(body) {
		return nil, core.Usage{}, p.garbled("the provider's answer was not the JSON that was asked for", body)
	}
	says := said{model: a.Model, usage: a.Usage.counted()}
	if len(a.Choices) == 0 {
		return nil, says.usage, p.garbled("the provider's answer held no translation", body)
	}
	choice := &a.Choices[0]
	says.text, says.refusal, says.finish = choice.Message.Content, choice.Message.Refusal, choice.FinishReason
	res, err := p.result(says)
	return res, says.usage, err
}

// result turns what a complete answer says into a result.
func (p *Provider) result(a said) (*core.Result, error) {
	if strings.TrimSpace(a.text) == "" {
		switch {
		case a.refusal != "":
			return nil, p.fail(core.ProviderRefused, "the model refused to translate this text", nil)
		case a.finish == "content_filter":
			return nil, p.fail(core.ProviderRefused, "the provider's content filter withheld the translation", nil)
		}
		return nil, p.again(core.ProviderFailed, "the provider's answer was empty", nil)
	}
	res := &core.Result{Text: a.text, Provider: p.env.Name, Model: a.model, Usage: a.usage}
	switch a.finish {
	case "stop":
		res.Finish = core.FinishStop
	case "length":
		res.Finish, res.NoStore, res.Flags = core.FinishLength, true, []string{core.FlagCut}
	case "content_filter":
		res.Finish, res.NoStore = core.FinishFiltered, true
	}
	return res, nil
}

// named returns the model's name as the answer to req gave it, if that is one.
func (p *Provider) named(model string, req *core.Request) string {
	switch {
	case model == p.cfg.Model:
	case len(model) > 200 || !codeShape.MatchString(model):
	case strings.HasPrefix(model, p.cfg.Model) && len(model) <= len(p.cfg.Model)+16:
		return model // with the date of its making
	case !p.hush(req).holds(model):
		return model
	}
	return p.cfg.Model
}

// refusal is the `error` of an answer that is none. Compatible servers write a
// number into code, and leave out what they like.
type refusal struct {
	Type  string
	Param string
	Code  string
}

// readRefusal reads as much of an error's body as it can.
func readRefusal(body []byte) (r refusal) {
	var outer struct {
		Error json.RawMessage `json:"error"`
	}
	var inner struct {
		Type, Param, Code any
	}
	if json.Unmarshal(body, &outer) != nil || json.Unmarshal(outer.Error, &inner) != nil {
		return r
	}
	r.Type, _ = inner.Type.(string)
	r.Param, _ = inner.Param.(string)
	r.Code, _ = inner.Code.(string)
	return r
}

// refuses says whether the answer refuses a parameter that may be left out, and
// whether it is the value that is refused.
func (r refusal) refuses(status int) (param string, value bool) {
	if status != http.StatusBadRequest && status != http.StatusUnprocessableEntity {
		return "", false
	}
	switch r.Code {
	case "unsupported_value":
		return r.Param, true
	case "unsupported_parameter", "unknown_parameter":
		return r.Param, false
	}
	return "", false
}

// failed turns an answer to req that is not a 200 into an error.
func (p *Provider) failed(req *core.Request, status int, h http.Header, body []byte) *core.Error {
	r := readRefusal(body)
	cause := p.cause(req, status, h, r)
	wait := func(e *core.Error) *core.Error {
		e.RetryAfter = retryAfter(h, time.Now())
		return e
	}
	switch {
	case r.Code == "insufficient_quota", r.Type == "insufficient_quota", r.Code == "billing_hard_limit_reached", status == http.StatusPaymentRequired:
		return p.fail(core.QuotaExceeded, "the provider's account has no quota left", cause)
	case status == http.StatusTooManyRequests:
		return wait(p.again(core.RateLimited, "the provider's account has reached its limit", cause))
	case r.Code == "context_length_exceeded", r.Code == "string_above_max_length", status == http.StatusRequestEntityTooLarge:
		return p.fail(core.TooLarge, "the text, with its context and instructions, is too long for the model", cause)
	case status == http.StatusBadRequest && (r.Code == "content_filter" || r.Code == "content_policy_violation"):
		return p.fail(core.ProviderRefused, "the provider's content filter refused the text", cause)
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return p.fail(core.ProviderFailed, "the provider does not accept this gateway's key", cause)
	case status == http.StatusNotFound:
		return p.fail(core.ProviderFailed, "the provider does not know the model or the address", cause)
	case status >= 500:
		return wait(p.again(core.ProviderFailed, fmt.Sprintf("the provider answered with status %d", status), cause))
	case status == http.StatusRequestTimeout, status == http.StatusConflict, status == http.StatusTooEarly:
		return p.again(core.ProviderFailed, fmt.Sprintf("the provider answered with status %d", status), cause)
	case status < http.StatusBadRequest:
		e := p.fail(core.ProviderFailed, fmt.Sprintf("the provider answered with status %d, which is neither an answer nor an error", status), cause)
		e.Odd = true
		return e
	}
	return p.fail(core.ProviderFailed, fmt.Sprintf("the provider answered with status %d", status), cause)
}

// fail makes an error that another attempt would meet again; again makes one
// that it may not.
func (p *Provider) fail(kind core.ErrorKind, detail string, cause error) *core.Error {
	return &core.Error{Kind: kind, Stage: p.env.Name, Detail: detail, Cause: cause}
}

func (p *Provider) again(kind core.ErrorKind, detail string, cause error) *core.Error {
	return &core.Error{Kind: kind, Stage: p.env.Name, Detail: detail, Retryable: true, Cause: cause}
}

// garbled is an answer with a good status that cannot be used. What it says is
// not logged: it may be the translation of somebody's text.
func (p *Provider) garbled(detail string, body []byte) *core.Error {
	return p.again(core.ProviderFailed, detail, fmt.Errorf("%d bytes of %s", len(body), looksLike(body)))
}

func looksLike(body []byte) string {
	s := strings.TrimSpace(string(body[:min(len(body), 64)]))
	switch {
	case s == "":
		return "nothing"
	case s[0] == '<':
		return "HTML or XML"
	case s[0] == '{':
		return "JSON, cut or of another shape"
	}
	return "something else"
}

// maxCause is the most that is kept of the reason for a failed connection, in
// characters.
const maxCause = 200

// cause tells the log what the upstream said: the status, the upstream's name for
// the request, and type, code and location of the error. Its message is not for the
// log: it may quote the text.
func (p *Provider) cause(req *core.Request, status int, h http.Header, r refusal) error {
	hush := p.hush(req)
	text := fmt.Sprintf("status %d", status)
	for _, part := range []struct{ name, value string }{
		{"upstream request", first(h, "X-Request-Id")}, {"type", r.Type}, {"code", r.Code}, {"param", r.Param},
	} {
		if value := hush.code(part.value); value != "" {
			text += ", " + part.name + " " + value
		}
	}
	return errors.New(text)
}

// redact removes every secret of the configuration and keeps at most most
// characters, on one line.
func (p *Provider) redact(s string, most int) string {
	s = p.secrets.Replace(s)
	var b strings.Builder
	blank := false
	for _, r := range s {
		if most == 0 {
			break
		}
		if unicode.IsSpace(r) || !unicode.IsPrint(r) {
			blank = b.Len() > 0
			continue
		}
		if blank {
			b.WriteByte(' ')
			blank = false
			if most--; most == 0 {
				break
			}
		}
		if r == utf8.RuneError {
			r = '?'
		}
		b.WriteRune(r)
		most--
	}
	return b.String()
}

// secrets finds what must never reach a log: the key and the values of headers
// that may be keys, as they are and as JSON writes them.
func (c *Config) secrets() *strings.Replacer {
	var pairs []string
	add := func(secret string) {
		if secret = strings.TrimSpace(secret); secret == "" {
			return
		}
		quoted := string(appendString(nil, secret))
		for _, form := range []string{secret, quoted[1 : len(quoted)-1], strings.ReplaceAll(secret, "/", `\/`)} {
			pairs = append(pairs, form, "[redacted]")
		}
	}
	add(c.APIKey.Reveal())
	for _, value := range c.Headers {
		if len(value) >= 8 {
			add(value.Reveal())
		}
	}
	return strings.NewReplacer(pairs...)
}
