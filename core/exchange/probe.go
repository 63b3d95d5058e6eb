package exchange

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"go.uber.org/zap"

	"github.com/dragoman-mt/dragoman/core"
)

// probing is the longest that one call of a probe may take at least.
const probing = 5 * time.Second

// Probe asks the server what it translates, and by that whether it takes the key. One
// that does not say, or says it to anybody, gets a call that it refuses at no cost.
func (e *Engine) Probe(ctx context.Context) error {
	if err := e.keyed(core.Unauthorized); err != nil {
		return err
	}
	offer, failed := e.ask(ctx)
	if offer != nil {
		e.offer.Store(offer)
		if e.dialect.Keyed() {
			e.note("")
			return nil
		}
	}
	if failed != nil {
		switch failed.Kind {
		case core.Unauthorized:
			if !e.dialect.Keyed() {
				break // the list alone may be closed
			}
			return e.refused(failed)
		case core.RateLimited:
			return nil // at its limit, so it serves
		case core.NotFound, core.ProviderFailed:
			if failed.Retryable {
				return e.away(failed)
			}
		default:
			return failed
		}
	}
	status, header, body, err := e.send(ctx, max(e.set.Timeout, probing), e.dialect.Knock(), nil)
	if err != nil {
		return e.away(core.AsError(err, e.env.Name))
	}
	said := e.failed(nil, status, header, body)
	switch {
	case IsGood(status) && LooksLike(body) == "HTML or XML":
		return e.astray("with a web page")
	case IsGood(status):
	case said.Kind == core.Unauthorized:
		return e.refused(said)
	case said.Kind == core.NotFound, status >= 300 && status < 400:
		return e.astray(fmt.Sprintf("with status %d", status))
	case said.Kind == core.QuotaExceeded:
		return said
	case status >= 500, status < 200:
		return e.away(said)
	}
	if offer == nil {
		e.note(fmt.Sprintf("%s does not tell what it translates (%v): which languages it has is found by the first translation", e.set.Base.Host, failed.Cause))
		return nil
	}
	e.note("")
	return nil
}

// Ready is nil: how the calls go, the stage that makes them knows.
func (e *Engine) Ready() error { return nil }

// ask asks what the server translates.
func (e *Engine) ask(ctx context.Context) (*Offer, *core.Error) {
	var bodies [][]byte
	for _, c := range e.dialect.Lists() {
		c.Method = http.MethodGet
		status, header, body, err := e.send(ctx, max(e.set.Timeout, probing), c, nil)
		switch {
		case c.Optional && (err != nil || !IsGood(status)):
			body = nil
		case err != nil:
			return nil, core.AsError(err, e.env.Name)
		case !IsGood(status):
			return nil, e.failed(nil, status, header, body)
		}
		bodies = append(bodies, body)
	}
	offer, err := e.dialect.ReadLists(bodies)
	if err == nil && len(offer.Pairs) == 0 {
		err = errors.New("it names no language that is known here")
	}
	if err != nil {
		return nil, e.fail(core.ProviderFailed, "the provider's list of languages cannot be read", errors.New("its list of languages is none"))
	}
	return offer, nil
}

func (e *Engine) refused(failed *core.Error) error {
	return e.fail(core.Unauthorized, fmt.Sprintf("%s refuses providers.%s.api_key; check the key and what it may do", e.set.Base.Host, e.env.Name), failed.Cause)
}

// away is failed as that of a server which cannot be asked now.
func (e *Engine) away(failed *core.Error) error {
	if failed.Kind == core.ProviderFailed {
		return e.again(core.Unavailable, e.set.Base.Host+" cannot be asked now", failed.Cause)
	}
	return failed
}

// astray says that nothing translates at base_url.
func (e *Engine) astray(how string) error {
	to := e.set.Base.Scheme + "://" + e.set.Base.Host + e.set.Base.EscapedPath() + e.dialect.Knock().Path
	return e.fail(core.NotFound, fmt.Sprintf("%s is answered %s, so nothing translates there; change providers.%s.base_url", e.secrets.Redact(to), how, e.env.Name), nil)
}

// note logs a warning, once until it changes.
func (e *Engine) note(text string) {
	if former := e.notice.Swap(&text); text != "" && (former == nil || *former != text) {
		e.env.Log.Warn(text, zap.String("provider", e.env.Name))
	}
}

// Notice returns what the last Probe found that an operator should know though it does
// not keep the provider from serving; empty for nothing.
func (e *Engine) Notice() string {
	if s := e.notice.Load(); s != nil {
		return *s
	}
	return ""
}
