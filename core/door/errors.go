package door

import (
	"bytes"
	"encoding/json"
	"math"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/dragoman-mt/dragoman/core"
)

// A Row of the error table says how one kind of failure is answered.
type Row struct {
	Kind   core.ErrorKind
	Public core.ErrorKind // what a client reads
	Status int            // of HTTP
	// Wait is what Retry-After says when the failure does not know better; 0
	// when waiting is no remedy.
	Wait time.Duration
	// Meaning is the message when the failure brings none, and the text of the
	// table in the manual.
	Meaning string
}

// statusClientLeft is nginx's. It appears in logs and metrics; nobody is there
// to read it.
const statusClientLeft = 499

// Table returns how every kind is answered. It is the one place that says so.
func Table() []Row {
	return []Row{
		{core.InvalidRequest, core.InvalidRequest, http.StatusBadRequest, 0, "the request is not understood"},
		{core.UnsupportedLanguage, core.UnsupportedLanguage, http.StatusBadRequest, 0, "the language is not supported"},
		{core.UnsupportedEncoding, core.UnsupportedEncoding, http.StatusUnsupportedMediaType, 0, "the body is packed in a way that is not taken"},
		{core.TooLarge, core.TooLarge, http.StatusRequestEntityTooLarge, 0, "the request is larger than the limit"},
		{core.Unauthorized, core.Unauthorized, http.StatusUnauthorized, 0, "the key is missing or wrong"},
		{core.Forbidden, core.Forbidden, http.StatusForbidden, 0, "the request comes from where none is taken"},
		{core.NotFound, core.NotFound, http.StatusNotFound, 0, "there is nothing at this address"},
		{core.Superseded, core.Superseded, http.StatusConflict, 0, "a newer revision took the place of this one"},
		{core.Overloaded, core.Overloaded, http.StatusServiceUnavailable, time.Second, "more requests wait than can be served in time"},
		{core.Unavailable, core.Unavailable, http.StatusServiceUnavailable, time.Second, "no provider can answer at the moment"},
		{core.RateLimited, core.RateLimited, http.StatusTooManyRequests, time.Second, "the provider's rate limit is reached"},
		{core.QuotaExceeded, core.QuotaExceeded, http.StatusTooManyRequests, time.Minute, "the provider's quota is used up"},
		{core.DeadlineExceeded, core.DeadlineExceeded, http.StatusGatewayTimeout, 0, "the deadline of the request has passed"},
		{core.ProviderFailed, core.ProviderFailed, http.StatusBadGateway, 0, "the provider gave no translation"},
		{core.ProviderRefused, core.ProviderRefused, http.StatusBadGateway, 0, "the provider would not translate this text"},
		{core.BadAnswer, core.ProviderFailed, http.StatusBadGateway, 0, "the provider's answer was not a translation"},
		{core.Canceled, core.Canceled, statusClientLeft, 0, "the client left"},
		{core.Internal, core.Internal, http.StatusInternalServerError, 0, "an internal error; the log tells more under this request's id"},
	}
}

var rows = func() map[core.ErrorKind]Row {
	m := map[core.ErrorKind]Row{}
	for _, r := range Table() {
		m[r.Kind] = r
	}
	return m
}()

// Answer returns the row of kind; that of internal for a kind without one.
func Answer(kind core.ErrorKind) Row {
	if r, ok := rows[kind]; ok {
		return r
	}
	return rows[core.Internal]
}

// A Problem is a failure as a client reads it. It holds nothing of the cause.
type Problem struct {
	Kind         core.ErrorKind `json:"kind"`
	Message      string         `json:"message"`
	Field        string         `json:"field,omitempty"`
	RetryAfterMS int64          `json:"retry_after_ms,omitempty"`
	RequestID    string         `json:"request_id,omitempty"`

	Status int `json:"-"`
}

// ProblemOf returns err, which is not nil, as a client reads it.
func ProblemOf(err error, id string) Problem {
	e := core.AsError(err, "door")
	row := Answer(e.Kind)
	p := Problem{Kind: row.Public, Message: e.Detail, Field: e.Field, RequestID: id, Status: row.Status}
	if p.Message == "" {
		p.Message = row.Meaning
	}
	if row.Wait > 0 {
		wait := row.Wait
		if e.RetryAfter > 0 {
			wait = e.RetryAfter
		}
		p.RetryAfterMS = int64(math.Ceil(float64(wait) / float64(time.Millisecond)))
	}
	return p
}

// Headers sets what a client is told outside the body. Retry-After counts whole
// seconds (RFC 9110 section 10.2.3), so it is rounded up.
func (p Problem) Headers(h http.Header) {
	if p.RetryAfterMS > 0 {
		h.Set("Retry-After", strconv.FormatInt((p.RetryAfterMS+999)/1000, 10))
	}
	switch p.Status {
	case http.StatusUnauthorized:
		h.Set("WWW-Authenticate", `Bearer realm="dragoman"`)
	case http.StatusUnsupportedMediaType:
		h.Set("Accept-Encoding", encodings) // RFC 9110 section 12.5.3
	}
}

// WriteError answers with err in the shape of the native door.
func WriteError(w http.ResponseWriter, r *http.Request, err error) {
	p := ProblemOf(err, RequestID(w, r))
	p.Headers(w.Header())
	WriteJSON(w, p.Status, struct {
		Error Problem `json:"error"`
	}{p})
}

// WriteJSON answers with v. Characters such as < are left as they are, for
// people who read answers in a terminal; the content type keeps browsers from
// taking them for markup.
func WriteJSON(w http.ResponseWriter, status int, v any) {
	e := encoders.Get().(*encoder)
	defer encoders.Put(e)
	e.body.Reset()
	if err := e.json.Encode(v); err != nil {
		panic(err) // the doors' own types can be encoded
	}
	WriteBody(w, status, e.body.Bytes())
}

// WriteBody answers with encoded JSON.
func WriteBody(w http.ResponseWriter, status int, body []byte) {
	h := w.Header()
	h["Content-Type"] = contentType
	h["X-Content-Type-Options"] = noSniff
	w.WriteHeader(status)
	w.Write(body) // the client may have left; there is nobody else to tell
}

// An encoder is used again, since each answer needs one.
type encoder struct {
	body bytes.Buffer
	json *json.Encoder
}

var encoders = sync.Pool{New: func() any {
	e := &encoder{}
	e.json = json.NewEncoder(&e.body)
	e.json.SetEscapeHTML(false)
	return e
}}

// Shared by all answers, so that setting them allocates nothing. Nobody writes
// to them: net/http only reads header values.
var (
	contentType = []string{"application/json; charset=utf-8"}
	noSniff     = []string{"nosniff"}
)

// NotFound answers 404 in the shape of the native door.
func NotFound(w http.ResponseWriter, r *http.Request) {
	WriteError(w, r, &core.Error{Kind: core.NotFound, Detail: "there is nothing at this address; POST /v1/translate translates, GET /v1/languages lists languages. Clients of OpenAI come to /v1/chat/completions, of DeepL to /v2/translate, of LibreTranslate to /translate"})
}

// Allow says whether r uses one of methods; else it has answered 405. A GET
// among them allows HEAD.
func Allow(w http.ResponseWriter, r *http.Request, methods ...string) bool {
	for _, m := range methods {
		if r.Method == m || (r.Method == http.MethodHead && m == http.MethodGet) {
			return true
		}
	}
	allowed := methods[0]
	for _, m := range methods[1:] {
		allowed += ", " + m
	}
	w.Header().Set("Allow", allowed)
	p := ProblemOf(&core.Error{Kind: core.InvalidRequest, Detail: "this address takes " + allowed + " only"}, RequestID(w, r))
	WriteJSON(w, http.StatusMethodNotAllowed, struct {
		Error Problem `json:"error"`
	}{p})
	return false
}
