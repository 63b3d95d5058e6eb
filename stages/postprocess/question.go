package postprocess

import (
	"context"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/dragoman-mt/dragoman/core"
)

// A question is a request as the steps see it: the text to be translated,
// without the white space round it, and what is known of it. Each of that is
// found out once, when a step first asks, for an answer that streams in is
// looked at again and again. It is used by one goroutine at a time.
//
// It also counts what is looked at. An answer may be made to be looked at for
// long, so every step says how many bytes it is about to read, and stops when
// the request is over.
type question struct {
	ctx    context.Context
	req    *core.Request
	source string
	words  *vocabulary

	spent int  // bytes that were looked at
	due   int  // of spent, when ctx is asked next
	over  bool // nobody waits for an answer any more

	known     map[string]bool // whether the text holds a part, by the part
	folded    string          // the text in lower case, with straight apostrophes
	counts    *counts         // of the text, but for what it mentions
	spoken    *int            // how often the text speaks of translating
	plain     *bool           // see isPlain, and so on
	speech    *bool
	stands    *stance
	spokenFor *bool // see speaks
	spelt     *bool // see mayBeSpelt
	thoughts  [len(thoughtTags)]*bool
	echo      *finding        // of the text itself as an answer
	runs      map[string]bool // the runs of letters in the text
	strange   int             // runs of the answers that are looked for in all of the text
	ahead     reach           // of the answer that streams in
}

// patience is how many bytes are looked at before ctx is asked again. Most
// answers are done before that.
const patience = 64 << 10

func newQuestion(ctx context.Context, req *core.Request) *question {
	return &question{ctx: ctx, req: req, source: strings.TrimSpace(req.Text), words: words(), due: patience}
}

// spend says that n more bytes are looked at. It is false when the request is
// over: then whatever is found does not matter any more.
func (q *question) spend(n int) bool {
	q.spent += n
	if q.spent >= q.due && !q.over {
		q.due = q.spent + patience
		q.over = q.ctx.Err() != nil
	}
	return !q.over
}

// fold returns the text in lower case, with straight apostrophes.
func (q *question) fold() string {
	if q.folded == "" && q.source != "" {
		q.spend(2 * len(q.source))
		q.folded = lowerWord(q.source)
	}
	return q.folded
}

// says says whether the text has part, one of the words of this package in lower
// case, in any case.
func (q *question) says(part string) bool {
	has, ok := q.known[part]
	if !ok {
		if q.known == nil {
			q.known = map[string]bool{}
		}
		q.spend(len(q.source))
		has = strings.Contains(q.fold(), part)
		q.known[part] = has
	}
	return has
}

// once finds something out about the text when it is first asked for.
func (q *question) once(known **bool, find func(source string) bool) bool {
	if *known == nil {
		q.spend(len(q.source))
		found := find(q.source)
		*known = &found
	}
	return **known
}

// isPlain says that the text is one line without a label, a dash or a list.
func (q *question) isPlain() bool {
	return q.once(&q.plain, func(source string) bool { return !strings.ContainsAny(source, ":：\n-–—|/") })
}

// hasSpeech says whether the text marks speech or a title in any way.
func (q *question) hasSpeech() bool { return q.once(&q.speech, hasSpeech) }

// What is counted in texts and answers.
const (
	ofLines     = iota // lines that are not blank
	ofLabels           // colons that end a label: those in 10:30 and https:// do not
	ofBrackets         // brackets that open
	ofShut             // brackets that shut
	ofWords            // whether there is a letter or a digit: 0 or 1
	ofSentences        // ends of sentences
	ofMentions         // of translating, in any language
	kinds
)

type counts [kinds]int

// count returns what is in the text; see mentions for the rest.
func (q *question) count() counts {
	if q.counts == nil {
		q.spend(len(q.source))
		var t tally
		t.read(q.source, true, nil, nil)
		q.counts = &t.found
	}
	return *q.counts
}

// mentions returns how often the text speaks of translating.
func (q *question) mentions() int {
	if q.spoken == nil {
		q.spend(len(q.source))
		n := q.words.mentions(q.source)
		q.spoken = &n
	}
	return *q.spoken
}

// mentions counts how often s speaks of translating, in any language.
func (v *vocabulary) mentions(s string) int {
	var t tally
	t.read(s, true, v.translateStems, nil)
	return t.found[ofMentions]
}

// needs returns what must be left of an answer if it may still be a translation
// of all of the text: as many lines, labels and brackets, and a word.
func (q *question) needs() counts {
	n := q.count()
	n[ofWords], n[ofSentences], n[ofShut] = 1, 0, 0
	return n
}

// A tally counts what is in a text, which may come piece by piece.
type tally struct {
	found         counts
	at            int  // how much of the text was read
	inLine, ended bool // whether the line has begun, and the sentence has ended
}

// read goes on through s to its end, or until each says that it is enough; each
// is told the kind of what was found, and where. It counts mentions if stems are
// given. Of a text that goes on it leaves a colon at the end for later: what
// follows says what it is.
func (t *tally) read(s string, whole bool, stems *prefixes, each func(kind, at, size int) bool) {
	found := func(kind, size int) bool {
		t.found[kind]++
		return each == nil || each(kind, t.at, size)
	}
	for t.at < len(s) {
		if stems == nil && t.inLine && t.found[ofWords] > 0 && isPlainByte(s[t.at]) {
			t.ended = false
			t.at++
			continue
		}
		r, size := rune(s[t.at]), 1
		if r >= utf8.RuneSelf {
			r, size = utf8.DecodeRuneInString(s[t.at:])
		}
		if r == ':' && t.at+1 == len(s) && !whole {
			return
		}
		more := true
		switch {
		case r == '\n':
			t.inLine = false
		case !t.inLine && !unicode.IsSpace(r):
			t.inLine = true
			more = found(ofLines, size)
		}
		switch r {
		case '(', '（', '[':
			more = found(ofBrackets, size) && more
		case ')', '）', ']':
			more = found(ofShut, size) && more
		case '：':
			more = found(ofLabels, size) && more
		case ':':
			if rest := s[t.at+1:]; rest == "" || rest[0] >= utf8.RuneSelf || strings.IndexByte(" \t\r\n*\"'(", rest[0]) >= 0 {
				more = found(ofLabels, size) && more
			}
		}
		end := endsSentence(r)
		if end && !t.ended {
			more = found(ofSentences, size) && more
		}
		t.ended = end
		if t.found[ofWords] == 0 && (unicode.IsLetter(r) || unicode.IsNumber(r)) {
			more = found(ofWords, size) && more
		}
		if stems != nil && stems.first[s[t.at]] {
			for _, stem := range stems.by[unicode.ToLower(r)] {
				if _, ok := cutFold(s[t.at:], stem); ok {
					more = found(ofMentions, size) && more
				}
			}
		}
		t.at += size
		if !more {
			return
		}
	}
}

// isPlainByte says whether c, in a line and behind a word, is nothing that is
// counted, as most of most texts.
func isPlainByte(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' || c == ' ' || c == ',' }

func endsSentence(r rune) bool {
	switch r {
	case '.', '!', '?', '。', '！', '？', '؟', '।', '…':
		return true
	}
	return false
}

// A reach finds how much of the beginning of an answer holds what is needed. The
// answer may be cut behind that, or go on.
type reach struct {
	need  counts
	ready bool // need is set; else it is what the question needs
	tally tally
	end   int // 0 while something is missing
}

// covers says whether the first n bytes of answer hold all that r needs.
func (r *reach) covers(q *question, answer string, n int) bool {
	if r.end == 0 && r.tally.at < len(answer) {
		if !r.ready {
			r.need, r.ready = q.needs(), true
		}
		from := r.tally.at
		left := 0
		for kind, need := range r.need {
			left += max(need-r.tally.found[kind], 0)
		}
		r.tally.read(answer, false, nil, func(kind, at, size int) bool {
			if r.tally.found[kind] <= r.need[kind] {
				if left--; left == 0 {
					r.end = at + size
				}
			}
			return left > 0
		})
		q.spend(r.tally.at - from)
	}
	return r.end > 0 && n >= r.end
}

// leastBehind returns how many bytes at the end of answer hold all that need
// names; more than there are when they do not.
func leastBehind(q *question, answer string, need counts) int {
	one := counts{ofLines: 1, ofWords: 1}
	if need == one || need == (counts{ofLines: 1}) {
		return 1
	}
	var stems *prefixes
	if need[ofMentions] > 0 {
		stems = q.words.translateStems
	}
	q.spend(2 * len(answer))
	var all, t tally
	all.read(answer, true, stems, nil)
	spare := counts{}
	for kind, n := range need {
		if kind == ofWords {
			continue // there once at most; whoever cuts looks for one
		}
		if spare[kind] = all.found[kind] - n; n > 0 && spare[kind] < 0 {
			return len(answer) + 1
		}
	}
	start := len(answer)
	t.read(answer, true, stems, func(kind, at, _ int) bool {
		switch {
		case need[kind] == 0 || kind == ofWords:
		case kind == ofLines && t.found[kind] > spare[kind]+1:
			start = at - 1 // a line that has begun counts still
		case kind != ofLines && t.found[kind] > spare[kind]:
			start = at
		default:
			return true
		}
		return need[kind] == 0 || kind == ofWords
	})
	return len(answer) - start
}

// prefixes finds which of many words a text begins with.
type prefixes struct {
	first [256]bool // by the first byte of the text: whether it may be any
	by    map[rune][]string
}

func prefixesOf(words []string) *prefixes {
	p := &prefixes{by: map[rune][]string{}}
	for _, word := range words {
		r, _ := utf8.DecodeRuneInString(word)
		p.by[r] = append(p.by[r], word)
		for _, first := range []rune{r, unicode.ToUpper(r), unicode.ToTitle(r)} {
			p.first[string(first)[0]] = true
		}
	}
	return p
}

// of returns the words that s may begin with, by its first character.
func (p *prefixes) of(s string) []string {
	if s == "" || !p.first[s[0]] {
		return nil
	}
	r, _ := utf8.DecodeRuneInString(s)
	return p.by[unicode.ToLower(r)]
}
