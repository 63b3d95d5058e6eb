// Package protect is the stage that lets texts survive: placeholders, tags, addresses and
// code go round the engine and stand in its answer as they stood in the text.
//
// It stands after the stage `provider`, as the last one: it is linked round each attempt,
// outermost, so that all stages below it see the text that the engine sees. An answer that
// does not tell where each placeholder belongs fails its attempt as bad_answer, and the next
// attempt has marks of another style. The error carries what can be made of the answer,
// flagged, for when no attempt does better.
package protect

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/text/protect"
)

// rules is the version of what is found and how it is sent. It is part of the fingerprint:
// answers that were cached under older rules are not used under newer ones.
const rules = "2"

// Kind declares the stage `protect`.
func Kind() core.Kind {
	return core.NewKind("protect", core.RoleStage, "Brings placeholders, tags, addresses and code through every engine unharmed.", Defaults,
		func(env core.Env, c *Config) (any, error) {
			s := &Stage{name: env.Name, engines: map[string]*engine{}, print: "protect " + rules}
			for i, pattern := range c.Patterns {
				p, err := regexp.Compile(pattern)
				if err == nil && p.MatchString("") {
					err = errors.New("it matches nothing as well as something; make it match at least one character")
				}
				if err != nil {
					if env.Origin != nil {
						return nil, env.Origin.Complain(fmt.Sprintf("patterns[%d]", i), err.Error())
					}
					return nil, fmt.Errorf("patterns[%d]: %w", i, err)
				}
				s.options.Patterns = append(s.options.Patterns, p)
				s.print += fmt.Sprintf(" %q", pattern)
			}
			return s, nil
		})
}

// A Stage protects texts. It is safe for concurrent use; its state are its counters, and
// what it has learnt of engines.
type Stage struct {
	name    string
	options protect.Options
	print   string
	counts  [outcomes]atomic.Int64

	mu      sync.Mutex
	engines map[string]*engine // by their fingerprints
}

var (
	_ core.Stage         = (*Stage)(nil)
	_ core.Fingerprinter = (*Stage)(nil)
	_ core.Measurer      = (*Stage)(nil)
	_ core.Deadliner     = (*Stage)(nil)
)

// What became of texts with placeholders.
const (
	whole = iota
	repaired
	again
	moved
	untouched
	outcomes
)

var outcomeNames = [outcomes]string{"whole", "repaired", "rejected", "moved", "nothing_to_translate"}

// SetDeadline has nothing to change. What was learnt of engines stays.
func (s *Stage) SetDeadline(time.Duration) {}

// Fingerprint names what changes answers.
func (s *Stage) Fingerprint() string { return s.print }

// Measure reports what became of texts with placeholders so far.
func (s *Stage) Measure(emit func(core.Measure)) {
	for i := range s.counts {
		emit(core.Measure{Name: "protect_texts_total", Help: "Answers to texts with placeholders, by what became of them.", Counter: true,
			Value: float64(s.counts[i].Load()), Labels: []string{"outcome", outcomeNames[i]}})
	}
}

// maxEngines bounds what is remembered of engines, of which reloads may bring new ones.
const maxEngines = 256

// engine returns what is known of the one below.
func (s *Stage) engine(next core.Translator) *engine {
	print := ""
	if f, ok := next.(core.Fingerprinter); ok {
		print = f.Fingerprint()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.engines[print]
	if e == nil {
		if len(s.engines) >= maxEngines {
			clear(s.engines) // those in use keep what they have
		}
		e = &engine{}
		s.engines[print] = e
	}
	return e
}

// An engine is how well one keeps marks of each style. It is safe for concurrent use.
type engine struct {
	asked, lost [protect.Styles]atomic.Int64
}

// enough is how many answers it takes to judge a style.
const enough = 16

// style returns which one the attempt uses: the first that is kept well, and for a further
// attempt another one.
func (e *engine) style(attempt int) protect.Style {
	best, least := 0, 2.0
	for i := range protect.Styles {
		// What is not known yet is taken for a little worse than good.
		share := 0.05
		if n := e.asked[i].Load(); n >= enough {
			share = float64(e.lost[i].Load()) / float64(n)
		} else if i == 0 {
			share = 0
		}
		if share < least-0.02 { // a difference that matters
			best, least = i, share
		}
	}
	return protect.Style((best + attempt) % protect.Styles)
}

func (e *engine) note(s protect.Style, lost bool) {
	e.asked[s].Add(1)
	if lost {
		e.lost[s].Add(1)
	}
}

// Wrap protects the texts that go to next.
func (s *Stage) Wrap(next core.Translator) core.Translator {
	e := s.engine(next)
	return core.TranslatorFunc(func(ctx context.Context, req *core.Request) (*core.Result, error) {
		o := &s.options
		if m := req.Markup; m != nil {
			o = &protect.Options{Markup: protect.HTML, Ignore: m.Ignore, Patterns: s.options.Patterns}
			if m.XML {
				o.Markup = protect.XML
			}
		}
		text := protect.Of(req.Text, o)
		if text == nil {
			return next.Translate(ctx, req)
		}
		return s.translate(ctx, next, e, req, text)
	})
}

func (s *Stage) translate(ctx context.Context, next core.Translator, e *engine, req *core.Request, text *protect.Text) (*core.Result, error) {
	if text.Nothing() {
		if ctx.Err() != nil {
			return nil, core.ContextError(ctx, s.name)
		}
		s.counts[untouched].Add(1)
		if req.OnDelta != nil {
			if err := req.OnDelta(req.Text); err != nil {
				return nil, s.unwanted(err)
			}
		}
		return &core.Result{Text: req.Text, Finish: core.FinishStop}, nil
	}
	style, masked, err := s.masked(e, req, text)
	if err != nil {
		return nil, err
	}
	down := *req
	down.Text, down.Markup = masked, nil // what is sent is words and marks
	stream := text.Stream(style)
	var failed error
	if req.OnDelta != nil {
		down.OnDelta = func(piece string) error {
			if out := stream.Write(piece); out != "" && failed == nil {
				if err := req.OnDelta(out); err != nil {
					failed = s.unwanted(err)
				}
			}
			return failed
		}
	}
	res, err := next.Translate(ctx, &down)
	switch {
	case failed != nil:
		return nil, failed
	case err != nil || res == nil:
		return res, err
	}
	restored, found, sent := stream.Close(res.Text)
	e.note(style, found == protect.Damaged)
	out := *res
	out.Text = restored
	switch found {
	case protect.Clean:
		s.counts[whole].Add(1)
	case protect.Repaired:
		s.counts[repaired].Add(1)
	case protect.Damaged:
		out = *res.WithFlag(core.FlagPlaceholderMoved)
		out.Text, out.NoStore = restored, true
		if sent == "" {
			s.counts[again].Add(1)
			return nil, &core.Error{
				Kind: core.BadAnswer, Stage: s.name, Detail: "the answer has lost or misplaced a placeholder", Retryable: true,
				Usage: res.Usage, Limits: res.Limits, Instead: &out,
			}
		}
		s.counts[moved].Add(1)
	}
	if req.OnDelta != nil {
		if rest, ok := strings.CutPrefix(restored, sent); ok && rest != "" && stream.Heard() {
			if err := req.OnDelta(rest); err != nil {
				return nil, s.unwanted(err)
			}
		}
	}
	return &out, nil
}

// masked returns what is sent in place of the text.
func (s *Stage) masked(e *engine, req *core.Request, text *protect.Text) (protect.Style, string, error) {
	if text.Marks() > protect.MaxMarks {
		return 0, "", &core.Error{Kind: core.TooLarge, Stage: s.name, Field: "text",
			Detail: fmt.Sprintf("the text has %d placeholders and tags among its words; at most %d are taken: send it in parts", text.Marks(), protect.MaxMarks)}
	}
	for i := range protect.Styles {
		style := e.style(req.Attempt + i)
		if masked, ok := text.Masked(style); ok {
			return style, masked, nil
		}
	}
	return 0, "", &core.Error{Kind: core.InvalidRequest, Stage: s.name, Field: "text", Detail: "the text has something in it that cannot be told from any of the gateway's own marks"}
}

// unwanted is what ends an answer of which no more is wanted.
func (s *Stage) unwanted(why error) error {
	if e, ok := errors.AsType[*core.Error](why); ok {
		return e
	}
	return &core.Error{Kind: core.Canceled, Stage: s.name, Detail: "the answer is not wanted any more", Cause: why}
}
