// Package postprocess looks at every answer before anybody else does. It takes
// off what a model puts round a translation (a think block, a code fence, "Here
// is the translation:", quotation marks, a note), and refuses what is not a
// translation (a refusal, the text itself, another alphabet, a loop, a cut).
//
// It stands after the stage `provider`, so it is linked round each attempt: an
// answer that it refuses as bad_answer fails that attempt alone, and the
// provider stage makes another.
//
// A clean answer that is changed or refused does more harm than a bad one that
// is missed. So every step judges by the text that was to be translated: what
// the text has itself is never taken away and never held against the answer.
// Where a step cannot be sure, the answer passes with a flag and is not stored.
// An answer in which nothing was found is handed on as it came, the same
// pointer.
package postprocess

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/dragoman-mt/dragoman/core"
)

// Flags of answers that may not be translations.
const (
	FlagUntranslated = "untranslated"  // equal to the text, of which some words look like the source language's
	FlagMixedScript  = "mixed_script"  // some letters are of an alphabet that neither the text nor the target language uses
	FlagMaybeRefused = "maybe_refused" // reads like a refusal, and the text may be one too
)

// rules is the version of the steps' rules. It is part of the fingerprint:
// answers that were cached under older rules are not used under newer ones.
const rules = "1"

// Kind declares the stage `postprocess`.
func Kind() core.Kind {
	return core.NewKind("postprocess", core.RoleStage, "Repairs answers that carry more than the translation, and refuses those that are none.", Defaults,
		func(env core.Env, c *Config) (any, error) { return New(env.Name, *c), nil })
}

// A Stage looks at answers. It is safe for concurrent use; its only state are
// its counters.
type Stage struct {
	name    string
	repairs []repair
	judges  []judge
	finish  bool
	space   bool
	counts  [len(order)]struct{ repaired, refused, flagged atomic.Int64 }
}

var (
	_ core.Stage         = (*Stage)(nil)
	_ core.Fingerprinter = (*Stage)(nil)
	_ core.Measurer      = (*Stage)(nil)
)

// order is how the steps follow each other. Repairs come before judgements, so
// that a judgement sees what the caller would get; refusal is the first of
// those, since a refusal often has the wrong alphabet and length as well.
var order = [...]Step{Finish, Think, Fence, Chatter, Quotes, Space, Refusal, Echo, Script, Length, Repetition}

// Where the two steps stand in order that are part of look itself.
const atFinish, atSpace = 0, 5

type (
	// A repair returns answer without what it looks for, or answer itself.
	// Neither text has white space round it, and what is returned is a part of
	// answer.
	repair struct {
		at  int // index in order
		fix func(source, answer string, target core.Language) string
	}
	// A judge says what is wrong with answer.
	judge struct {
		at   int
		find func(req *core.Request, source, answer string) finding
	}
	// A finding is a reason to refuse an answer, or a flag for it; the zero
	// finding is neither.
	finding struct {
		kind   core.ErrorKind
		detail string
		flag   string
	}
)

// New returns a stage named name with all steps that c does not skip.
func New(name string, c Config) *Stage {
	s := &Stage{name: name}
	for at, step := range order {
		if slices.Contains(c.Skip, step) {
			continue
		}
		switch step {
		case Finish:
			s.finish = true
		case Think:
			s.repairs = append(s.repairs, repair{at, withoutThoughts})
		case Fence:
			s.repairs = append(s.repairs, repair{at, withoutFence})
		case Chatter:
			s.repairs = append(s.repairs, repair{at, withoutChatter})
		case Quotes:
			s.repairs = append(s.repairs, repair{at, withoutQuotes})
		case Space:
			s.space = true
		case Refusal:
			s.judges = append(s.judges, judge{at, refused})
		case Echo:
			s.judges = append(s.judges, judge{at, echoed})
		case Script:
			s.judges = append(s.judges, judge{at, misspelt})
		case Length:
			s.judges = append(s.judges, judge{at, misfit})
		case Repetition:
			s.judges = append(s.judges, judge{at, looped})
		}
	}
	return s
}

// Wrap looks at every answer of next.
func (s *Stage) Wrap(next core.Translator) core.Translator {
	return core.TranslatorFunc(func(ctx context.Context, req *core.Request) (*core.Result, error) {
		res, err := next.Translate(ctx, req)
		if err != nil || res == nil {
			return res, err
		}
		res, refusal := s.look(req, res)
		if refusal != nil {
			return nil, refusal
		}
		return res, nil
	})
}

// look returns res, a changed copy of it, or why it cannot be used.
func (s *Stage) look(req *core.Request, res *core.Result) (*core.Result, *core.Error) {
	if s.finish {
		switch res.Finish {
		case core.FinishLength:
			return s.refuse(atFinish, req, res, finding{kind: core.BadAnswer, detail: "the answer was cut at the output limit"})
		case core.FinishFiltered:
			return s.refuse(atFinish, req, res, finding{kind: core.ProviderRefused, detail: "the provider withheld the answer or a part of it"})
		}
	}

	// A repair may uncover work for an earlier one: a fence behind an
	// announcement, an announcement in quotation marks. Each shortens the text,
	// so this ends.
	source, answer := strings.TrimSpace(req.Text), strings.TrimSpace(res.Text)
	if source == "" {
		return res, nil
	}
	text := res.Text
	for again := true; again; {
		again = false
		for _, r := range s.repairs {
			if answer == "" {
				break
			}
			if fixed := r.fix(source, answer, req.Target); fixed != answer {
				answer = strings.TrimSpace(fixed)
				text, again = answer, true
				s.counts[r.at].repaired.Add(1)
			}
		}
	}
	if answer == "" {
		return s.refuse(atSpace, req, res, finding{kind: core.BadAnswer, detail: "the answer is empty"})
	}
	if s.space {
		text = answer
		if before, after, _ := strings.Cut(req.Text, source); before != "" || after != "" {
			text = before + answer + after
		}
		if text != res.Text && strings.TrimSpace(res.Text) == answer {
			s.counts[atSpace].repaired.Add(1)
		}
	}

	var flags []string
	for _, j := range s.judges {
		f := j.find(req, source, answer)
		if f.kind != "" {
			return s.refuse(j.at, req, res, f)
		}
		if f.flag != "" && !slices.Contains(res.Flags, f.flag) {
			flags = append(flags, f.flag)
			s.counts[j.at].flagged.Add(1)
		}
	}

	if text == res.Text && flags == nil {
		return res, nil
	}
	changed := *res
	changed.Text = text
	if flags != nil {
		changed.Flags = append(slices.Clone(res.Flags), flags...)
		changed.NoStore = true
	}
	return &changed, nil
}

// refuse counts a refusal and returns it. A bad answer may be a better one next
// time; who declines once declines again.
func (s *Stage) refuse(at int, req *core.Request, res *core.Result, f finding) (*core.Result, *core.Error) {
	s.counts[at].refused.Add(1)
	if req.Trace != nil {
		req.Trace.Usage = res.Usage
	}
	return nil, &core.Error{Kind: f.kind, Stage: s.name, Detail: f.detail, Retryable: f.kind == core.BadAnswer}
}

// Fingerprint names the steps in use and the version of their rules.
func (s *Stage) Fingerprint() string {
	var b strings.Builder
	b.WriteString("postprocess " + rules)
	if s.finish {
		b.WriteString(" " + string(Finish))
	}
	for _, r := range s.repairs {
		b.WriteString(" " + string(order[r.at]))
	}
	if s.space {
		b.WriteString(" " + string(Space))
	}
	for _, j := range s.judges {
		b.WriteString(" " + string(order[j.at]))
	}
	return b.String()
}

// Measure reports what was found so far, by step.
func (s *Stage) Measure(emit func(core.Measure)) {
	count := func(name, help string, at int, n *atomic.Int64) {
		emit(core.Measure{Name: name, Help: help, Counter: true, Value: float64(n.Load()), Labels: []string{"step", string(order[at])}})
	}
	repaired := func(at int) {
		count("postprocess_repairs_total", "Answers from which a step took something off.", at, &s.counts[at].repaired)
	}
	refused := func(at int) {
		count("postprocess_refusals_total", "Answers that a step refused.", at, &s.counts[at].refused)
	}
	refused(atFinish)
	for _, r := range s.repairs {
		repaired(r.at)
	}
	repaired(atSpace)
	refused(atSpace) // nothing but space
	for _, j := range s.judges {
		refused(j.at)
		count("postprocess_flags_total", "Answers that a step let pass with a flag.", j.at, &s.counts[j.at].flagged)
	}
}
