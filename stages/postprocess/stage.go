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
//
// Deltas are looked at as well: what leaves is the beginning of the repaired
// text, and nothing leaves before its first 64 code points are found good. From
// then on no answer is refused any more: see preview.
package postprocess

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/dragoman-mt/dragoman/core"
)

// Flags of answers that may not be translations.
const (
	FlagUntranslated = "untranslated"  // equal to the text, of which some words look like the source language's
	FlagMixedScript  = "mixed_script"  // some letters are of an alphabet that neither the text nor the target language uses
	FlagMaybeRefused = "maybe_refused" // reads like a refusal, and the text may be one too
)

// Flags that only an answer carries of which a delta had left when it turned
// out bad. The flags above are for such answers too.
const (
	FlagWithheld  = "withheld"   // the provider withheld a part of it
	FlagEmpty     = "empty"      // nothing of it is a translation; its text is what had left
	FlagOddLength = "odd_length" // far longer or shorter than the text
	FlagRepeats   = "repeats"    // the same again and again
	FlagWrapped   = "wrapped"    // JSON, of which it cannot be told what the translation is
)

// rules is the version of the steps' rules. It is part of the fingerprint:
// answers that were cached under older rules are not used under newer ones.
const rules = "5"

// Kind declares the stage `postprocess`.
func Kind() core.Kind {
	return core.NewKind("postprocess", core.RoleStage, "Repairs answers that carry more than the translation, and refuses those that are none.", Defaults,
		func(env core.Env, c *Config) (any, error) {
			if _, err := shipped(); err != nil {
				return nil, err
			}
			return New(env.Name, *c), nil
		})
}

// A Stage looks at answers. It is safe for concurrent use; its only state are
// its counters.
type Stage struct {
	name    string
	repairs []repair
	judges  []judge
	finish  bool
	space   bool
	think   bool
	length  bool
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

// Where the steps stand in order that are part of judged itself.
const atFinish, atFence, atSpace, atLength = 0, 2, 5, 9

type (
	// A repair returns answer without what it looks for, or answer itself.
	// Neither text has white space round it, and what is returned is a part of
	// answer.
	repair struct {
		at  int // index in order
		fix func(q *question, answer string) string
		beginning
	}
	// A beginning is what a repair knows of an answer of which only the beginning
	// is there. Any of it may be nil.
	beginning struct {
		// start returns answer without what fix will take off its beginning
		// however it goes on; what is returned is an end of answer.
		start func(q *question, answer string) string
		// waits says whether fix may take off the beginning of answer when more
		// of it is there.
		waits func(q *question, answer string) bool
		// loose returns from where on fix may take off the end of answer,
		// depending on how it goes on. It is no less than from, up to which it
		// has said already that nothing is.
		loose func(q *question, answer string, from int) int
	}
	// A judge says what is wrong with answer.
	judge struct {
		at   int
		find func(q *question, answer string) finding
		// early does so when only the beginning of the answer is there; nil when
		// that says nothing.
		early func(q *question, answer string) finding
	}
	// A finding is a reason to refuse an answer, when it has a kind, else a flag
	// for it; the zero finding is neither. The flag of a reason is for an answer
	// that cannot be refused any more.
	finding struct {
		kind   core.ErrorKind
		detail string
		flag   string
	}
)

// empty is what is found in an answer of which nothing is left.
var empty = finding{kind: core.BadAnswer, detail: "the answer is empty", flag: FlagEmpty}

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
			s.think = true
			s.repairs = append(s.repairs, repair{at, withoutMarkedThoughts, beginning{start: startsMarkedThoughts, waits: opensMarkedThoughts}},
				repair{at, withoutThoughts, beginning{start: withoutFirstThoughts, waits: holdsThoughts, loose: thoughtsAt}})
		case Fence:
			s.repairs = append(s.repairs, repair{at, withoutTurn, beginning{start: startsTurn, waits: opensTurn}}, repair{at, withoutFence, beginning{waits: opensFence}},
				repair{at, withoutJSON, beginning{waits: opensJSON}}, repair{at, withoutTokens, beginning{loose: tokensAt}})
			s.judges = append(s.judges, judge{at, unclear, nil})
		case Chatter:
			s.repairs = append(s.repairs, repair{at, withoutSource, beginning{waits: opensSource, loose: sourceTailAt}},
				repair{at, withoutChatter, beginning{start: withoutAnnouncements, waits: opensHead, loose: tailAt}},
				repair{at, withoutTransliteration, beginning{loose: transliterationAt}})
		case Quotes:
			s.repairs = append(s.repairs, repair{at, withoutQuotes, beginning{waits: opensQuotes}})
		case Space:
			s.space = true
		case Refusal:
			s.judges = append(s.judges, judge{at, refused, refused})
		case Echo:
			s.judges = append(s.judges, judge{at, echoed, echoing})
		case Script:
			s.judges = append(s.judges, judge{at, misspelt, misspelt})
		case Length:
			s.length = true
			s.judges = append(s.judges, judge{at, misfit, nil})
		case Repetition:
			s.judges = append(s.judges, judge{at, looped, nil})
		}
	}
	return s
}

// Wrap looks at every answer of next.
func (s *Stage) Wrap(next core.Translator) core.Translator {
	return core.TranslatorFunc(func(ctx context.Context, req *core.Request) (*core.Result, error) {
		if req.OnDelta != nil {
			return s.stream(ctx, next, req)
		}
		res, err := next.Translate(ctx, req)
		if err != nil || res == nil {
			return res, err
		}
		res, refusal := s.judged(newQuestion(ctx, req), res, "")
		if refusal != nil {
			return nil, refusal
		}
		return res, nil
	})
}

// judged returns res, a changed copy of it, or why it cannot be used. Sent is
// what has left of it as deltas: when there is any, it is used whatever is found.
func (s *Stage) judged(q *question, res *core.Result, sent string) (*core.Result, *core.Error) {
	var flags []string
	bad := false
	if s.finish {
		if f := unfinished(res); f.kind != "" {
			if sent == "" {
				return nil, s.refuse(atFinish, res, f)
			}
			flags, bad = s.flag(flags, atFinish, res, f), true
		}
	}

	source, answer := q.source, strings.TrimSpace(res.Text)
	if source == "" {
		return res, nil
	}
	if s.length && !bad {
		if f := absurd(q, answer); f.kind != "" {
			if sent == "" {
				return nil, s.refuse(atLength, res, f)
			}
			flags, bad = s.flag(flags, atLength, res, f), true
		}
	}
	text, came := res.Text, answer
	if answer = s.repaired(q, answer, false); answer != came {
		text = answer
	}
	switch {
	case q.over:
		return nil, core.ContextError(q.ctx, s.name)
	case answer == "" && sent == "":
		return nil, s.refuse(atSpace, res, empty)
	case answer == "":
		return marked(res, sent, s.flag(flags, atSpace, res, empty)), nil
	}
	if s.space {
		text = answer
		if before, after, _ := strings.Cut(q.req.Text, source); before != "" || after != "" {
			text = before + answer + after
		}
		if text != res.Text && came == answer {
			s.counts[atSpace].repaired.Add(1)
		}
	}

	for i := 0; i < len(s.judges) && !bad; i++ {
		j := &s.judges[i]
		f := j.find(q, answer)
		if q.over {
			return nil, core.ContextError(q.ctx, s.name)
		}
		if bad = f.kind != ""; bad && sent == "" {
			return nil, s.refuse(j.at, res, f)
		}
		if f.flag != "" {
			flags = s.flag(flags, j.at, res, f)
		}
	}

	if bad || flags != nil {
		return marked(res, text, flags), nil
	}
	if text == res.Text {
		return res, nil
	}
	changed := *res
	changed.Text = text
	return &changed, nil
}

// unfinished finds an answer that was cut, or withheld.
func unfinished(res *core.Result) finding {
	switch res.Finish {
	case core.FinishLength:
		return finding{kind: core.BadAnswer, detail: "the answer was cut at the output limit", flag: core.FlagCut}
	case core.FinishFiltered:
		return finding{kind: core.ProviderRefused, detail: "the provider withheld the answer or a part of it", flag: FlagWithheld}
	}
	return finding{}
}

// maxRounds is how often the repairs are made: what is wrapped deeper than any
// model wraps a translation, is none.
const maxRounds = 16

// repaired returns answer, which has no white space round it, without what the
// repairs take off. Of a partial answer it takes off what they will take off its
// beginning however it goes on, and returns nothing while that cannot be told.
func (s *Stage) repaired(q *question, answer string, partial bool) string {
	// A repair may uncover work for an earlier one: a fence behind an
	// announcement, an announcement in quotation marks.
	for range maxRounds {
		again := false
		for i := range s.repairs {
			r := &s.repairs[i]
			if answer == "" || q.over {
				break
			}
			fix := r.fix
			if partial {
				fix = r.start
			}
			if fix != nil {
				if fixed := fix(q, answer); fixed != answer {
					answer, again = strings.TrimSpace(fixed), true
					if partial {
						break // what an earlier repair waits for may stand first now
					}
					s.counts[r.at].repaired.Add(1)
				}
			}
			if partial && r.waits != nil && r.waits(q, answer) {
				return "" // what comes behind r may see another beginning
			}
		}
		if !again {
			return answer
		}
	}
	return ""
}

// flag counts a flag and adds it to those found so far, unless res has it.
func (s *Stage) flag(flags []string, at int, res *core.Result, f finding) []string {
	s.counts[at].flagged.Add(1)
	if slices.Contains(res.Flags, f.flag) || slices.Contains(flags, f.flag) {
		return flags
	}
	return append(flags, f.flag)
}

// marked returns res with another text and more flags. Nobody stores it.
func marked(res *core.Result, text string, flags []string) *core.Result {
	if text == res.Text && flags == nil && res.NoStore {
		return res
	}
	changed := *res
	changed.Text, changed.NoStore = text, true
	if flags != nil {
		changed.Flags = append(slices.Clone(res.Flags), flags...)
	}
	return &changed
}

// refuse counts a refusal of res, which is nil while it is on its way, and returns
// it. A bad answer may be a better one next
// time; who declines once declines again.
func (s *Stage) refuse(at int, res *core.Result, f finding) *core.Error {
	s.counts[at].refused.Add(1)
	e := &core.Error{Kind: f.kind, Stage: s.name, Detail: f.detail, Retryable: f.kind == core.BadAnswer}
	if res != nil {
		e.Usage, e.Limits = res.Usage, res.Limits
	}
	return e
}

// SetDeadline has nothing to change: what looks at an answer is bounded by the
// request. The counters stay.
func (s *Stage) SetDeadline(time.Duration) {}

// Fingerprint names the steps in use and the version of their rules.
func (s *Stage) Fingerprint() string {
	var b strings.Builder
	b.WriteString("postprocess " + rules)
	if s.finish {
		b.WriteString(" " + string(Finish))
	}
	for i, r := range s.repairs {
		if i == 0 || r.at != s.repairs[i-1].at {
			b.WriteString(" " + string(order[r.at]))
		}
	}
	if s.space {
		b.WriteString(" " + string(Space))
	}
	for _, j := range s.judges {
		if j.at != atFence { // which repairs as well
			b.WriteString(" " + string(order[j.at]))
		}
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
	judged := func(at int) {
		count("postprocess_refusals_total", "Answers that a step refused.", at, &s.counts[at].refused)
		count("postprocess_flags_total", "Answers that a step let pass with a flag.", at, &s.counts[at].flagged)
	}
	judged(atFinish)
	for i, r := range s.repairs {
		if i == 0 || r.at != s.repairs[i-1].at { // a step may make several repairs
			repaired(r.at)
		}
	}
	repaired(atSpace)
	judged(atSpace) // nothing but space
	for _, j := range s.judges {
		judged(j.at)
	}
}
