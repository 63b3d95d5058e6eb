package postprocess

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// This file is about answers that give the text and its translation both.

// maxLabel is the longest label before the text or its translation, in bytes.
const maxLabel = 40

// around are marks that stand round a text which is quoted.
const around = "\"“”„«»‹›'‘’「」『』`*_ \t>#|•"

// strong stand between a text and its translation and hardly within either. It is
// written to by nobody.
var strong = []string{"\n", "\r\n", "→", "->", "=>", "➜", "⟶", "⇒", "➡️", "➡", "⟹", "↦", "|", "\t"}

// weak may stand within a text as well: what is before them has to be a sentence. It is
// written to by nobody.
var weak = []string{"=", ":", "：", "–", "—", "- ", "/ ", "(", "（"}

// withoutSource takes off the text itself where it stands, word for word, before or
// behind its translation: above or below it, at one end of an arrow, each with a label
// or not, in brackets.
func withoutSource(q *question, answer string) string {
	if q.source == "" || len(answer) <= len(q.source) {
		return answer
	}
	q.spend(len(q.source) + 2*maxLabel)
	if rest, labelled, ok := sourceFirst(q, answer); ok {
		if kept, ok := behindSource(q, rest, labelled); ok {
			return kept
		}
	}
	if kept, ok := beforeSource(q, answer); ok {
		return kept
	}
	return answer
}

// sourceFirst returns what stands behind the text that answer begins with, which may be
// quoted, and have a label.
func sourceFirst(q *question, answer string) (rest string, labelled, ok bool) {
	if rest, ok = strings.CutPrefix(answer, q.source); ok {
		return rest, false, true
	}
	bare := strings.TrimLeft(answer, around)
	if rest, ok = strings.CutPrefix(bare, q.source); ok {
		return rest, false, true
	}
	at, size := labelEnd(bare)
	if at < 0 || q.names(labelIn(bare[:at])) {
		return "", false, false // or what stands there is said to be the translation
	}
	inner := strings.TrimLeft(bare[at+size:], " \t\r\n*_")
	if rest, ok = strings.CutPrefix(inner, q.source); ok {
		return rest, true, true
	}
	rest, ok = strings.CutPrefix(strings.TrimLeft(inner, around), q.source)
	return rest, true, ok
}

// labelEnd finds what ends the label that s begins with: a colon, or a bracket as in
// "[EN]"; -1 when it begins with none.
func labelEnd(s string) (at, size int) {
	for i, r := range s[:min(len(s), maxLabel)] {
		switch {
		case r == ':' || r == '：':
			return i, utf8.RuneLen(r)
		case (r == ']' || r == '】') && i > 0 && (s[0] == '[' || strings.HasPrefix(s, "【")):
			if rest := s[i+utf8.RuneLen(r):]; strings.HasPrefix(rest, ":") {
				return i + utf8.RuneLen(r), 1
			}
			return i, utf8.RuneLen(r)
		case r == '\n', endsSentence(r) && r != '.':
			return -1, 0
		}
	}
	return -1, 0
}

// behindSource returns the translation that stands behind the text, of which rest is
// what follows.
func behindSource(q *question, rest string, labelled bool) (string, bool) {
	rest = strings.TrimLeft(rest, "\"”»›'’」』`*_")
	bare := strings.TrimLeft(rest, " \t")
	found := ""
	for _, mark := range strong {
		if strings.HasPrefix(bare, mark) || mark == "\t" && strings.HasPrefix(rest, mark) {
			found = mark
			break
		}
	}
	switch {
	case found != "":
		bare = strings.TrimPrefix(bare, found)
	case !labelled && !q.speaks():
		return "", false
	default:
		for _, mark := range weak {
			if strings.HasPrefix(bare, mark) {
				found = mark
				break
			}
		}
		switch end, _ := utf8.DecodeLastRuneInString(q.source); {
		case found != "":
			bare = strings.TrimPrefix(bare, found)
			if found == "(" || found == "（" {
				inside := strings.TrimRight(bare, ".。 ")
				if trimmed := strings.TrimRight(inside, ")）"); len(trimmed) < len(inside) {
					bare = trimmed
				}
			}
		case bare == rest || !endsSentence(end) || beginsSmall(bare) && !beginsSmall(q.source):
			return "", false // it goes on, or nothing stands between the two
		}
	}
	kept := strings.TrimSpace(strings.Trim(bare, "|"))
	if at, size := labelEnd(strings.TrimLeft(kept, around)); at >= 0 {
		inner := strings.TrimSpace(strings.TrimLeft(strings.TrimLeft(kept, around)[at+size:], "*_ "))
		label := labelIn(strings.TrimLeft(kept, around)[:at])
		if covered(q, inner) && (labelled || q.names(label)) {
			kept = inner
		}
	}
	if !hasWord(kept) || strings.Contains(kept, q.source) || strings.Contains(q.source, kept) || !coversLines(q, kept) {
		return "", false
	}
	return kept, true
}

// labelIn returns a label without the marks round it.
func labelIn(s string) string { return strings.Trim(s, around+"[]【】()") }

// beginsSmall says whether s begins with a small letter, as what goes on does.
func beginsSmall(s string) bool {
	first, _ := utf8.DecodeRuneInString(s)
	return unicode.IsLower(first)
}

// names says whether label names the target language, or a translation.
func (q *question) names(label string) bool {
	if what := q.words.announces(label, "\x00", q.req.Target); what == announcement || what == languageName {
		return true
	}
	return strings.EqualFold(label, string(q.req.Target)) || strings.EqualFold(label, q.req.Target.Base())
}

// covered says whether kept has as many lines, labels and brackets as the text.
func covered(q *question, kept string) bool {
	need := reach{}
	return need.covers(q, kept+" ", len(kept)+1)
}

// coversLines says whether kept has as many lines as the text.
func coversLines(q *question, kept string) bool {
	need := reach{need: counts{ofLines: q.count()[ofLines]}, ready: true}
	return need.covers(q, kept, len(kept))
}

// speaks says whether the text is more than a name, which its translation may have in
// it: it has words of the grammar of its language, or another alphabet than the target
// language.
func (q *question) speaks() bool {
	return q.once(&q.spokenFor, func(source string) bool {
		if foreign, native := alien(source, q.req.Target); foreign >= 4 && foreign > native {
			return true
		}
		if looksLikeCode(source) {
			return false
		}
		from, to := q.req.Source.Base(), q.req.Target.Base()
		var found evidence
		if from == "" {
			_, found = q.words.guess(source, to)
		} else {
			found = q.words.grammarOf(source, from, to)
		}
		return found.words >= 1 && found.ordinary >= 1 && found.all >= 3
	})
}

// maxBelow is the longest text that is looked for behind its translation, in bytes, and
// maxBounds how many lines, brackets and arrows it may have: each may be where it begins.
const (
	maxBelow  = 1 << 10
	maxBounds = 16
)

// bounds are where the text may begin behind its translation.
const bounds = "\n(（[←"

// beforeSource returns the translation that stands before the text.
func beforeSource(q *question, answer string) (string, bool) {
	if len(q.source) > maxBelow || q.bounds() > maxBounds {
		return "", false
	}
	before, ok := strings.CutSuffix(answer, q.source)
	if !ok {
		if before, ok = strings.CutSuffix(strings.TrimRight(answer, around+")）]"), q.source); !ok {
			return "", false
		}
	}
	at := strings.LastIndexAny(before, bounds)
	if at < 0 || !isLead(before[at:]) {
		return "", false
	}
	if before[at] != '\n' && !q.speaks() {
		return "", false
	}
	kept := strings.TrimSpace(strings.TrimRight(before[:at], "-*_= \t\r\n"))
	if !hasWord(kept) || strings.Contains(kept, q.source) || strings.Contains(q.source, kept) || !coversLines(q, kept) {
		return "", false
	}
	if end, size := labelEnd(strings.TrimLeft(kept, around)); end >= 0 {
		bare := strings.TrimLeft(kept, around)
		if inner := strings.TrimSpace(strings.TrimLeft(bare[end+size:], "*_ ")); q.names(labelIn(bare[:end])) && covered(q, inner) {
			kept = inner
		}
	}
	return kept, true
}

// bounds returns how often a line, bracket or arrow stands in the text.
func (q *question) bounds() int {
	n := q.count()
	return n[ofLines] + n[ofBrackets] + strings.Count(q.source, "←")
}

// isLead says whether s is what may stand between a translation and the text behind it:
// a bound, a label, and marks.
func isLead(s string) bool {
	_, size := utf8.DecodeRuneInString(s)
	s = strings.TrimLeft(s[size:], around+"\r\n(（[")
	if s == "" {
		return true
	}
	at, size := labelEnd(s)
	return at > 0 && strings.Trim(s[at+size:], around+"\r\n(（[") == ""
}

// longStart is how many bytes are taken to have a word among them.
const longStart = 64

// sourceTailAt finds from where on beforeSource may take off the end of answer.
func sourceTailAt(q *question, answer string, from int) int {
	end := len(answer)
	if len(q.source) > maxBelow {
		return end
	}
	most := q.bounds()
	if most > maxBounds {
		return end
	}
	for at, tries := end, 0; tries <= most+2; tries++ {
		i := strings.LastIndexAny(answer[from:at], bounds)
		if i < 0 {
			break
		}
		at = from + i
		// A long start is not read again for each delta: to hold back what would stay does no harm.
		if (at > longStart || hasWord(answer[:at])) && mayBeSource(q, answer[at:]) {
			end = at
		}
	}
	return max(from, len(strings.TrimRightFunc(answer[:end], isRule)))
}

// mayBeSource says whether s, which begins with a bound, is or may become the text
// behind its translation.
func mayBeSource(q *question, s string) bool {
	_, size := utf8.DecodeRuneInString(s)
	rest := s[size:]
	q.spend(min(len(rest), len(q.source)) + maxLabel)
	fits := func(rest string) bool {
		for _, rest := range [...]string{rest, strings.TrimLeft(rest, around+"\r\n(（[")} {
			if strings.HasPrefix(q.source, rest) {
				return true
			}
			if behind, is := strings.CutPrefix(rest, q.source); is && strings.Trim(behind, around+")）]\r\n") == "" {
				return true
			}
		}
		return false
	}
	if fits(rest) {
		return true
	}
	bare := strings.TrimLeft(rest, around+"\r\n(（[")
	at, size := labelEnd(bare)
	switch {
	case at > 0:
		return fits(bare[at+size:])
	case len(bare) < maxLabel:
		return !strings.ContainsAny(bare, "\n.!?。！？")
	}
	return false
}

// opensSource says whether answer begins with the text, or is a part of it so far,
// and the translation may follow. A text that is echoed and nothing else is for its
// judge.
func opensSource(q *question, answer string) bool {
	if answer == "" || q.source == "" {
		return false
	}
	q.spend(min(len(q.source), len(answer)) + maxLabel)
	opens := func(s string) bool {
		rest, is := strings.CutPrefix(s, q.source)
		if !is {
			return s != "" && strings.HasPrefix(q.source, s)
		}
		return mayBePair(q, rest)
	}
	bare := strings.TrimLeft(answer, around)
	if opens(answer) || opens(bare) {
		return true
	}
	if at, size := labelEnd(bare); at > 0 && !q.names(labelIn(bare[:at])) {
		inner := strings.TrimLeft(bare[at+size:], " \t\r\n*_")
		return inner == "" || opens(inner) || opens(strings.TrimLeft(inner, around))
	}
	return false
}

// mayBePair says whether a translation may follow in rest, which stands behind the text.
func mayBePair(q *question, rest string) bool {
	bare := strings.TrimLeft(strings.TrimLeft(rest, "\"”»›'’」』`*_"), " \t\r")
	if bare == "" {
		return true
	}
	for _, marks := range [...][]string{strong, weak} {
		for _, mark := range marks {
			if strings.HasPrefix(bare, mark) || strings.HasPrefix(mark, bare) {
				return true
			}
		}
	}
	end, _ := utf8.DecodeLastRuneInString(q.source)
	first, _ := utf8.DecodeRuneInString(rest)
	return endsSentence(end) && unicode.IsSpace(first) && q.speaks()
}
