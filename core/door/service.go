package door

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"go.uber.org/zap"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/trace"
	"github.com/dragoman-mt/dragoman/core/usage"
)

// A Service is what every door and the command line share: limits, keys, and
// what is answered without a translator. It is safe for concurrent use.
type Service struct {
	// Traces are those of requests that a door asks for.
	Traces core.Traces

	translator core.Translator
	tags       map[string]core.Language // two-letter tags, parsed ahead
	rules      atomic.Pointer[Rules]
	bodies     *bodies
	strangers  strangers
	slow       func() time.Duration
	access     func() *zap.Logger // of every text; nil when there is none
	recent     Recent
	visits     visits        // of operators' browsers
	tracer     *trace.Tracer // nil: nothing is traced
	usage      *usage.Book
	glossaries atomic.Pointer[Glossaries]
	infer      Inferrer
	stopping   chan struct{} // closed when the gateway begins to stop
	stop       func()        // closes it
}

// New returns a service in front of t, for a c that has passed Check. When t is
// a core.Languager, its languages are what Languages returns.
func New(c Config, t core.Translator) *Service {
	s := &Service{translator: t, tags: map[string]core.Language{}, bodies: newBodies(), slow: func() time.Duration { return 0 }, access: func() *zap.Logger { return nil }, usage: usage.New(), stopping: make(chan struct{})}
	s.stop = sync.OnceFunc(func() { close(s.stopping) })
	for a := byte('a'); a <= 'z'; a++ {
		for b := byte('a'); b <= 'z'; b++ {
			tag := string([]byte{a, b})
			if l, err := core.ParseLanguage(tag); err == nil {
				s.tags[tag] = l
			}
		}
	}
	s.rules.Store(s.newRules(c))
	return s
}

// SlowFrom makes Slow return what slow says at the time. It comes before the first
// call.
func (s *Service) SlowFrom(slow func() time.Duration) { s.slow = slow }

// AccessTo gives each text, and each call that is refused as a whole, a line in the log that
// access returns at the time, if it returns one. It comes before the first call.
func (s *Service) AccessTo(access func() *zap.Logger) { s.access = access }

// TraceBy tells tracer of every text. It comes before the first call.
func (s *Service) TraceBy(tracer *trace.Tracer) { s.tracer = tracer }

// Recent is what is looked back at, latest first.
func (s *Service) Recent() []Past { return s.recent.All() }

// An Inferrer may answer a text of a door by itself, or with other options: it asks for what
// it needs, at most once. It is told of texts that belong to no session, and which glossary
// holds, by name and version.
type Inferrer func(ctx context.Context, door, glossary string, req *core.Request, ask func(*core.Request) (*core.Result, error)) (*core.Result, error)

// InferBy gives the texts of all doors to infer first. It comes before the first call.
func (s *Service) InferBy(infer Inferrer) { s.infer = infer }

// CountIn makes book count what clients use, in place of one that is kept nowhere. It
// comes before the first call.
func (s *Service) CountIn(book *usage.Book) { s.usage = book }

// Usage is what clients have used.
func (s *Service) Usage() *usage.Book { return s.usage }

// Limits are those of the keys that translate, by name.
func (s *Service) Limits() map[string]usage.Limits {
	all := map[string]usage.Limits{}
	for _, k := range s.Rules().keys {
		if !k.operates {
			all[k.client] = k.limits
		}
	}
	return all
}

// Slow is how long a text takes at least to leave a line in the log; 0 when none does.
func (s *Service) Slow() time.Duration { return s.slow() }

// Stopping is closed when the gateway begins to stop: calls in flight go on, and what
// lasts, such as a session that took its connection over, is told to end.
func (s *Service) Stopping() <-chan struct{} { return s.stopping }

// Rules returns what holds for calls that arrive now.
func (s *Service) Rules() *Rules { return s.rules.Load() }

// Translate translates one text as the rules of this moment say; see
// Rules.Translate.
func (s *Service) Translate(ctx context.Context, req *core.Request) (*core.Result, error) {
	return s.Rules().Translate(ctx, req)
}

// Language reads a tag as core.ParseLanguage does. An error names field.
func (s *Service) Language(tag, field string) (core.Language, error) {
	if l, ok := s.tags[tag]; ok {
		return l, nil
	}
	l, err := core.ParseLanguage(tag)
	if err != nil {
		named := *core.AsError(err, "door")
		named.Field = field
		return "", &named
	}
	return l, nil
}

// Languages returns what can be translated; nil means any language to any
// other.
func (s *Service) Languages() []core.LanguageInfo {
	if l, ok := s.translator.(core.Languager); ok {
		return l.Languages()
	}
	return nil
}

// Chats returns the models that answer chats, that of the provider in use first.
func (s *Service) Chats() []core.ChatModel {
	if c, ok := s.translator.(interface{ Chats() []core.ChatModel }); ok {
		return c.Chats()
	}
	return nil
}

// Translate translates one text as a client gave it, white space round it
// included. Source and Target of req are canonical (see core.ParseLanguage); a
// req without a Trace gets one. Without a sooner deadline in ctx it takes at
// most server.deadline.
//
// A blank text, or one whose languages are the same, comes back as it is,
// without a call of the translator, and so does the translation of one that is a term
// of the glossary that holds (see Under). White space round the text is split off
// before it and put back after it. A chat has no text, and goes on as it is.
func (r *Rules) Translate(ctx context.Context, req *core.Request) (*core.Result, error) {
	if req.Chat != nil {
		ctx, cancel := r.bounded(ctx)
		defer cancel()
		return r.send(ctx, req)
	}
	if err := r.checkText(req.Text); err != nil {
		return nil, err
	}
	text := strings.TrimSpace(req.Text)
	if text == "" {
		return &core.Result{Text: req.Text}, nil
	}
	if req.Source == req.Target {
		return &core.Result{Text: req.Text, Flags: sameLanguage}, nil
	}
	if err := r.Offered(req); err != nil {
		return nil, err
	}

	ctx, cancel := r.bounded(ctx)
	defer cancel()
	if len(text) != len(req.Text) || req.Trace == nil || r.glossary != nil {
		inner := *req
		inner.Text = text
		if inner.Trace == nil {
			inner.Trace = core.NewTrace(nil)
		}
		send := r.send
		if r.glossary != nil {
			send = r.consulted
		}
		res, err := send(ctx, &inner)
		if err == nil && len(text) != len(req.Text) {
			begin := strings.Index(req.Text, text)
			outer := *res
			outer.Text = req.Text[:begin] + res.Text + req.Text[begin+len(text):]
			res = &outer
		}
		return res, err
	}
	return r.send(ctx, req)
}

// bounded returns ctx with the deadline of r, unless it has a sooner one.
func (r *Rules) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if until, ok := ctx.Deadline(); ok && time.Until(until) <= r.Deadline {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, r.Deadline)
}

// send sends req on, if there is time.
func (r *Rules) send(ctx context.Context, req *core.Request) (*core.Result, error) {
	if ctx.Err() != nil {
		return nil, core.ContextError(ctx, "door")
	}
	res, err := r.service.translator.Translate(ctx, req)
	if err != nil {
		return nil, becauseOf(ctx, err)
	}
	return res, nil
}

// sameLanguage is shared by results; nobody changes a result.
var sameLanguage = []string{core.FlagSameLanguage}

// becauseOf returns the reason for which a context was ended when that is why a
// call failed: a gateway that stops is not a client that left.
func becauseOf(ctx context.Context, err error) error {
	if core.KindOf(err) == core.Canceled {
		if cause, ok := context.Cause(ctx).(*core.Error); ok {
			return cause
		}
	}
	return err
}

func (r *Rules) checkText(text string) error {
	if n := len(text); n > r.MaxText {
		if n = utf8.RuneCountInString(text); n > r.MaxText {
			return &core.Error{Kind: core.TooLarge, Field: "text", Detail: fmt.Sprintf("the text has %d code points; at most %d are taken (server.max_text)", n, r.MaxText)}
		}
	}
	return CheckText(text, "text")
}

// CheckText refuses what is not UTF-8 and what holds a NUL; field names what
// was checked.
func CheckText(text, field string) error {
	if !utf8.ValidString(text) {
		return &core.Error{Kind: core.InvalidRequest, Field: field, Detail: field + " is not valid UTF-8"}
	}
	if strings.IndexByte(text, 0) >= 0 {
		return &core.Error{Kind: core.InvalidRequest, Field: field, Detail: field + " holds a NUL character, which is not text"}
	}
	return nil
}

// Lane returns the lane of a request that a client marked as final or bulk.
func Lane(final, bulk bool) core.Lane {
	switch {
	case bulk:
		return core.LaneBulk
	case final:
		return core.LaneFinal
	}
	return core.LanePartial
}

// Bearer returns the key that r carries, empty when it carries none.
func Bearer(r *http.Request) string {
	const scheme = "Bearer "
	h := r.Header.Get("Authorization")
	if len(h) < len(scheme) || !strings.EqualFold(h[:len(scheme)], scheme) {
		return ""
	}
	return strings.TrimSpace(h[len(scheme):])
}

// maxID is the longest X-Request-Id taken from a client, in bytes.
const maxID = 128

// RequestID returns the id that the answer w carries in X-Request-Id. The first
// call decides: the client's own when it is printable ASCII without blanks and
// at most 128 bytes, else a random one.
func RequestID(w http.ResponseWriter, r *http.Request) string {
	const header = "X-Request-Id"
	if v := w.Header()[header]; len(v) == 1 {
		return v[0]
	}
	id := r.Header.Get(header)
	if !printable(id) {
		id = NewID()
	}
	w.Header()[header] = []string{id}
	return id
}

func printable(id string) bool {
	if id == "" || len(id) > maxID {
		return false
	}
	for i := 0; i < len(id); i++ {
		if id[i] <= ' ' || id[i] > '~' {
			return false
		}
	}
	return true
}

// NewID returns a random request id.
func NewID() string {
	const digits = "0123456789abcdef"
	var id [16]byte
	for i, n := 0, rand.Uint64(); i < len(id); i, n = i+1, n>>4 {
		id[i] = digits[n&15]
	}
	return string(id[:])
}
