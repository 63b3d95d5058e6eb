package door

import (
	"context"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/usage"
)

// HeaderKeys returns what a call may show as its key in headers, wherever clients of
// other services put theirs.
func HeaderKeys(r *http.Request) (keys []string) {
	if h := strings.TrimSpace(r.Header.Get("Authorization")); h != "" {
		if scheme, key, two := strings.Cut(h, " "); two && (strings.EqualFold(scheme, "Bearer") || strings.EqualFold(scheme, "DeepL-Auth-Key")) {
			h = strings.TrimSpace(key)
		}
		keys = append(keys, h)
	}
	for _, name := range []string{"Api-Key", "X-Api-Key", "Ocp-Apim-Subscription-Key", "X-Goog-Api-Key"} {
		if key := strings.TrimSpace(r.Header.Get(name)); key != "" {
			keys = append(keys, key)
		}
	}
	return keys
}

// Keys returns what a call shows as its key: in headers, in the query, and in the
// fields of its body, which may be nil.
func Keys(r *http.Request, body *Params) []string {
	keys := HeaderKeys(r)
	query := r.URL.Query()
	for _, name := range []string{"token", "key", "auth_key", "api_key"} {
		if key := strings.TrimSpace(query.Get(name)); key != "" {
			keys = append(keys, key)
		}
	}
	if body != nil {
		for _, name := range []string{"api_key", "auth_key"} {
			if key := strings.TrimSpace(body.Text(name)); key != "" {
				keys = append(keys, key)
			}
		}
	}
	return keys
}

// ClientOf is Client for a call that shows several keys, one of which may be meant
// for us.
func (r *Rules) ClientOf(from *http.Request, shown []string, door string) (string, error) {
	key := ""
	for _, s := range shown {
		if key == "" || r.known(s) != nil {
			key = s
		}
	}
	return r.Client(from, key, door)
}

// Sender names whose share a body is received in before it is known whose it is: a
// key may stand in the body itself.
func (r *Rules) Sender(from *http.Request, shown []string, door string) string {
	if client, err := r.ClientOf(from, shown, door); err == nil {
		return client
	}
	return host(from.RemoteAddr)
}

// AsForeign returns the row that answers a failure on the doors of other services,
// whose clients switch a service off, or drop a page, for a refusal that would pass:
// 429 is for a client's own limit alone, and 503 for a gateway that stops. What is
// left is 504 when time ran out, and 502 when a provider is at fault.
func AsForeign(err error) Row {
	e := core.AsError(err, "door")
	row := Answer(e.Kind)
	if over := OwnLimit(err); over != nil {
		// Its own month does not end by waiting a moment.
		if row.Wait = 0; over.Limit != usage.CharactersPerMonth {
			row.Wait = over.Wait
		}
		return row
	}
	switch e.Kind {
	case core.Overloaded, core.RateLimited, core.DeadlineExceeded:
		row.Status = http.StatusGatewayTimeout
	case core.Unavailable:
		if !IsStopping(err) {
			row.Status = http.StatusBadGateway
		}
	case core.QuotaExceeded:
		row.Status = http.StatusBadGateway
	}
	if e.RetryAfter > 0 && row.Wait > 0 {
		row.Wait = e.RetryAfter
	}
	return row
}

// Message is what a client reads of err: never a cause.
func Message(err error) string {
	e := core.AsError(err, "door")
	if e.Detail != "" {
		return e.Detail
	}
	return Answer(e.Kind).Meaning
}

// RetryAfter writes a wait as the header of that name, in whole seconds, rounded up.
func RetryAfter(h http.Header, wait time.Duration) {
	if wait > 0 {
		h.Set("Retry-After", strconv.Itoa(int(math.Ceil(wait.Seconds()))))
	}
}

// IsStopping says whether a call failed because the gateway stops.
func IsStopping(err error) bool { return core.AsError(err, "") == errStopping }

// Bounds of the time between two attempts of a patient door: what it waits when the
// failure does not say how long, and what it leaves for the last attempt.
const (
	patienceStep = 500 * time.Millisecond
	patienceEnd  = 150 * time.Millisecond
)

// patiently asks until something other than a refusal that will pass comes back, or
// the time is nearly over. Passes says which those are.
func (t *Teller) patiently(ctx context.Context, passes func(error) bool, ask func() (*core.Result, error)) (*core.Result, error) {
	for {
		res, err := ask()
		if err == nil || !passes(err) {
			return res, err
		}
		until, bounded := ctx.Deadline()
		wait := core.AsError(err, "door").RetryAfter
		if wait <= 0 {
			wait = patienceStep
		}
		if left := time.Until(until) - patienceEnd; bounded && wait > left {
			wait = left
		}
		if wait <= 0 {
			return nil, err
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-t.Service.Stopping():
			timer.Stop()
			return nil, err
		case <-ctx.Done():
			timer.Stop()
			return nil, err
		}
	}
}

// passes says whether a failure is one that waiting mends.
func passes(err error) bool {
	switch core.KindOf(err) {
	case core.Overloaded, core.RateLimited, core.Unavailable:
		return !IsStopping(err)
	}
	return false
}
