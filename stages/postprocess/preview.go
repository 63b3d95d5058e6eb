package postprocess

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/dragoman-mt/dragoman/core"
)

// hold is how much of an answer, in code points, is there and found good before
// the first delta leaves.
const hold = 64

// maxEarly is how many think blocks of an answer are noticed at once when they
// end.
const maxEarly = 8

// A preview is what a caller hears of an answer while it comes in. What has left
// is always the beginning of what judged makes of the whole answer. So nothing
// leaves while
//
//   - less than hold of the repaired text is there,
//   - a repair may still take off its beginning: a think block is open, a fence,
//     tag or quotation mark may be round all of it, an announcement has not
//     ended,
//   - a judge finds so much of it a refusal, an echo or in the wrong alphabet,
//
// and after that not what a repair may still take off the end: white space, a
// rule, a line or bracket that may be a note, all from the tag of a think block
// on. What was kept back follows when the answer is complete. There is one thing
// that nobody can tell beforehand: that an answer begins with thoughts whose
// opening tag the server swallowed. If more than hold of them came before the
// closing one, they have left, and nothing follows: the result is the text.
//
// It holds the answer once, and as much of it as the provider lets come. Like
// OnDelta it is used by one goroutine at a time.
type preview struct {
	stage  *Stage
	q      *question       // of the caller
	answer strings.Builder // all that came
	again  int             // how long the answer is before it is worth another look
	early  int             // how often it was looked at before that
	past   int             // how much of it is thoughts that have ended

	begun    bool
	from, to int         // what has left of the answer
	before   string      // what left ahead of that: the white space before the text
	refusal  *core.Error // of what is there
	err      error       // why no more is wanted
}

// stream answers req, whose caller hears deltas.
func (s *Stage) stream(ctx context.Context, next core.Translator, req *core.Request) (*core.Result, error) {
	p := &preview{stage: s, q: newQuestion(ctx, req), again: hold}
	heard := *req
	heard.OnDelta = p.hear
	res, err := next.Translate(ctx, &heard)
	switch {
	case p.refusal != nil:
		return nil, p.refusal
	case p.err != nil:
		return nil, p.err // whatever next made of it
	case err != nil || res == nil:
		return res, err
	}
	sent := p.sent()
	res, refusal := s.judged(p.q, res, sent)
	if refusal != nil {
		return nil, refusal
	}
	if rest, ok := strings.CutPrefix(res.Text, sent); ok && rest != "" && p.answer.Len() > 0 {
		if p.say(rest); p.err != nil {
			return nil, p.err
		}
	}
	return res, nil
}

// sent returns what has left so far.
func (p *preview) sent() string { return p.before + p.answer.String()[p.from:p.to] }

// hear takes a piece of the answer from below, which may end within a
// character.
func (p *preview) hear(piece string) error {
	if p.err != nil {
		return p.err
	}
	p.answer.WriteString(piece)
	answer := p.answer.String()
	// To look each time that a 16th of what is held back has come keeps long
	// answers cheap. The end of a think block is worth a look at once.
	if len(answer) < p.again {
		i := strings.LastIndexByte(piece, '>')
		if i < 0 || p.begun || p.early == maxEarly || !endsThought(p.q, answer[:len(answer)-len(piece)+i+1]) {
			return nil
		}
		p.early++
	}
	if p.begun || p.begin(answer) {
		at := p.to
		if p.to = p.from + p.stage.settled(p.q, answer[p.from:], at-p.from); p.to > at {
			more := answer[at:p.to]
			if !p.begun {
				p.begun, more = true, p.before+more
			}
			p.say(more)
		}
	}
	held := len(answer) - p.past
	if p.begun {
		held = len(answer) - p.to
	}
	if p.again = len(answer) + held/16; held > 4<<10 {
		p.again = len(answer) + held/4
	}
	if p.q.over && p.err == nil {
		p.err = core.ContextError(p.q.ctx, p.stage.name)
	}
	return p.err
}

// say hands a delta to the caller.
func (p *preview) say(text string) {
	p.err = p.q.req.OnDelta(text)
	if _, ok := errors.AsType[*core.Error](p.err); p.err != nil && !ok {
		p.err = p.stage.unwanted(fmt.Errorf("a delta was refused: %w", p.err))
	}
}

// unwanted is what ends an answer of which no more is wanted.
func (s *Stage) unwanted(why error) *core.Error {
	return &core.Error{Kind: core.Canceled, Stage: s.name, Detail: "the answer is not wanted any more", Cause: why}
}

// begin says whether the first delta may leave, and finds where it begins.
func (p *preview) begin(answer string) bool {
	s := p.stage
	if p.q.source == "" {
		return false // left as it is, unless something is found: judged knows at the end
	}
	answer = strings.TrimRightFunc(answer, unicode.IsSpace)
	came := strings.TrimLeftFunc(answer[p.past:], unicode.IsSpace)
	if at := len(answer) - len(came); at > 0 && p.past == 0 && !s.space {
		return false // and so does this
	}
	if s.think {
		if rest := withoutFirstThoughts(p.q, came); rest != came {
			came, p.past = rest, len(answer)-len(rest)
		}
	}
	text := s.repaired(p.q, came, true)
	head := len(came) - len(text)
	p.from = len(answer) - len(text)
	p.to = p.from
	p.q.ahead = reach{}
	text = text[:s.settled(p.q, text, 0)]
	if utf8.RuneCountInString(text) < hold {
		return false
	}
	// What is not settled may be taken out, so it says nothing about what stands
	// before it.
	if s.repaired(p.q, came[:head+len(text)], true) != text {
		return false
	}
	for _, j := range s.judges {
		if j.early == nil {
			continue
		}
		if f := j.early(p.q, text); f.kind != "" {
			// A text this short has no translation that is too long for a refusal.
			if f.kind == core.ProviderRefused && longBy*len(p.q.source)+longMin <= maxRefusal {
				p.refusal = s.refuse(j.at, nil, f)
				p.err = s.unwanted(p.refusal)
			}
			return false // it may yet turn out well
		}
	}
	if s.space {
		p.before, _, _ = strings.Cut(p.q.req.Text, p.q.source)
	}
	return true
}

// maxTails is how often something else is looked for before what may be taken off the
// end: behind more kinds of it nothing is heard before the end.
const maxTails = 3

// settled returns how much of the beginning of answer no repair will take off
// its end, however it goes on; no less than from, which it has returned before.
func (s *Stage) settled(q *question, answer string, from int) int {
	end := wholeRunes(answer)
	for round := 0; ; round++ { // behind what one takes off, another may find something
		before := end
		for _, r := range s.repairs {
			if r.loose != nil {
				end = r.loose(q, answer[:end], from)
			}
		}
		switch {
		case end == before:
			return len(strings.TrimRightFunc(answer[:end], unicode.IsSpace))
		case round == maxTails:
			return from
		}
	}
}

// wholeRunes returns how much of s there is before a character at its end that
// is not complete.
func wholeRunes(s string) int {
	for i := len(s) - 1; i >= 0 && i >= len(s)-utf8.UTFMax; i-- {
		if utf8.RuneStart(s[i]) {
			if !utf8.FullRuneInString(s[i:]) {
				return i
			}
			break
		}
	}
	return len(s)
}
