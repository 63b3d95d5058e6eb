package postprocess

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/dragoman-mt/dragoman/core"
)

// withoutChatter takes off announcements before the translation ("Here is the
// translation:") and notes to the reader after it. What stays must have as many
// lines, labels and brackets as the text has: else what looks like chatter may
// be the translation of something in the text.
func withoutChatter(q *question, answer string) string {
	return withoutTails(q, withoutHeads(q, answer, false))
}

// maxHead is the longest announcement, in bytes.
const maxHead = 160

// withoutAnnouncements is withoutHeads of an answer that goes on.
func withoutAnnouncements(q *question, answer string) string { return withoutHeads(q, answer, true) }

// withoutHeads takes announcements off: lines, or beginnings that end in a
// colon, that are made of nothing but the words which announce a translation. Of
// an answer that goes on the name of a language stays, since it is taken off
// only when no line follows.
func withoutHeads(q *question, answer string, partial bool) string {
	least, line := -1, -1 // bytes at the end: what must be left, and what the last line end stands before
	for !q.over {
		kept, what := behindHead(q, answer)
		q.spend(min(len(answer)-len(kept), 2*maxHead))
		switch what {
		case otherHead:
			return answer
		case announcement:
			if least < 0 {
				need := q.needs()
				need[ofMentions] = q.mentions()
				least = leastBehind(q, answer, need)
			}
			if len(kept) < least {
				return answer
			}
		case languageName:
			// "Spanish: Hola". The text may name the language in its own words, so
			// it must not have a shape in which it could.
			if partial || !q.isPlain() {
				return answer
			}
			if line < 0 {
				q.spend(len(answer))
				line = len(answer) - strings.LastIndexByte(answer, '\n')
			}
			if len(kept) >= line {
				return answer
			}
		}
		answer = kept
	}
	return answer
}

// behindHead returns what stands behind the head of answer, and what that is;
// it is otherHead when it is none to be taken off.
func behindHead(q *question, answer string) (kept string, what headKind) {
	if kept, ok := behindAssent(q, answer); ok && hasWord(kept) {
		return kept, assent
	}
	end, size := headEnd(answer)
	// Quotation marks round everything are taken off first, by their own step.
	if first, _ := utf8.DecodeRuneInString(answer); end <= 0 || isQuote(first) || first == '{' {
		return "", otherHead
	}
	// "**Translation:** Hola": the marks go with what they mark.
	head, kept := answer[:end], answer[end+size:]
	if rest, ok := strings.CutPrefix(kept, "**"); ok && strings.Count(head, "**") == 1 {
		kept = rest
	}
	what = q.words.announces(head, q.source, q.req.Target)
	if what == otherHead || what == languageName && answer[end] == '\n' {
		return "", otherHead
	}
	if kept = strings.TrimSpace(kept); !hasWord(kept) {
		return "", otherHead
	}
	return kept, what
}

// headEnd finds the colon or the end of a line that a head would end with; end
// is -1 when there is none.
func headEnd(answer string) (end, size int) {
	start := answer[:min(len(answer), maxHead)]
	end, size = strings.IndexByte(start, ':'), 1
	if wide := strings.Index(start, "："); wide >= 0 && (end < 0 || wide < end) {
		end, size = wide, len("：")
	}
	if line := strings.IndexByte(start, '\n'); line > 0 && (end < 0 || line < end) {
		end, size = line, 1
	}
	return end, size
}

// opensHead says whether answer begins with what withoutHeads takes off when
// enough stands behind it.
func opensHead(q *question, answer string) bool {
	q.spend(maxHead)
	if _, ok := behindAssent(q, answer); ok {
		return true
	}
	end, _ := headEnd(answer)
	if answer != "" && answer[0] == '{' {
		return false
	}
	if end < 0 {
		return len(answer) < maxHead && q.words.opensAnnouncement(answer, q.source, q.req.Target)
	}
	head := q.words.announces(answer[:end], q.source, q.req.Target)
	return head == announcement || head == languageName && answer[end] != '\n' && q.isPlain()
}

// opensAnnouncement says whether a head that begins with start may announce a
// translation. Its last word may not be all there.
func (v *vocabulary) opensAnnouncement(start, source string, target core.Language) bool {
	fits := func(start string) bool {
		words := strings.TrimRightFunc(start, isWordRune)
		return v.announces(words+" translation", source, target) == announcement
	}
	if fits(start) {
		return true
	}
	// "The translation of «Hel": the text itself may be on its way.
	for i := range start {
		if len(source) < maxHead && strings.HasPrefix(source, start[i:]) && fits(start[:i]) {
			return true
		}
	}
	return false
}

// behindAssent returns what stands behind an English "Sure!" before an answer in
// another language.
func behindAssent(q *question, answer string) (rest string, ok bool) {
	if q.req.Target.Base() == "en" {
		return "", false
	}
	for _, word := range q.words.assents.of(answer) {
		if rest, found := cutFold(answer, word); found && rest != "" && (rest[0] == ' ' || rest[0] == '\n') && !q.says(word[:len(word)-1]) {
			return strings.TrimSpace(rest), true
		}
	}
	return "", false
}

// What a head may be.
type headKind int

const (
	otherHead    headKind = iota
	assent                // it says "Sure!"
	announcement          // it announces a translation
	languageName          // it is the name of the target language
)

// announces says what head, the beginning of an answer, is.
func (v *vocabulary) announces(head, source string, target core.Language) headKind {
	keyword, language, words := false, false, 0
	inWordSet := func(word string) bool {
		words++
		switch {
		case v.announceKeys[word]:
			keyword = true
		case v.languageNames[word] != "":
			language = language || v.languageNames[word] == target.Base()
		case !v.announceWords[word]:
			return false
		}
		return true
	}
	// Most heads fail at their first word, so nothing is allocated before.
	rest := head
	for rest != "" {
		start := strings.IndexFunc(rest, isWordRune)
		if start < 0 {
			break
		}
		rest = rest[start:]
		end := strings.IndexFunc(rest, func(r rune) bool { return !isWordRune(r) })
		if end < 0 {
			end = len(rest)
		}
		if end > 40 || !inWordSet(lowerWord(rest[:end])) {
			// "The translation of «Hello» is": the text itself may be in it.
			if quoted := strings.Replace(head, source, "", 1); quoted != head && len(source) < maxHead {
				return v.announces(quoted, "\x00", target)
			}
			return otherHead
		}
		rest = rest[end:]
	}
	switch {
	case keyword:
		return announcement
	case language && words == 1:
		return languageName
	}
	return otherHead
}

func isWordRune(r rune) bool {
	return unicode.IsLetter(r) || unicode.IsMark(r) || r == '\'' || r == '’' || r == '-'
}

// lowerWord returns word in lower case, with straight apostrophes.
func lowerWord(word string) string {
	return strings.ReplaceAll(strings.ToLower(word), "’", "'")
}

// withoutTails takes notes to the reader off: the first line that begins like
// one and everything behind it, and those in brackets at the end of the last
// line.
func withoutTails(q *question, answer string) string {
	var enough, more reach
	for !q.over {
		switch last, _ := utf8.DecodeLastRuneInString(answer); last {
		case ')', '）', ']':
			at := lastBracket(answer)
			q.spend(len(answer) - max(at, 0))
			if at > 0 && q.words.isNote(inBracket(answer[at:]), true) {
				if !more.ready { // a note that the text has itself is none to the reader
					more = reach{need: counts{ofShut: q.count()[ofShut] + 1}, ready: true}
				}
				if kept := strings.TrimSpace(answer[:at]); more.covers(q, answer, len(answer)) && enough.covers(q, answer, len(kept)) {
					answer = kept
					continue
				}
			}
		}
		kept := withoutNotes(q, answer, &enough)
		if kept == answer {
			kept = withoutInlineNote(q, answer, &enough)
		}
		if kept == answer {
			break
		}
		answer = kept
	}
	return answer
}

// withoutNotes takes off the first line that begins like a note to the reader,
// and everything behind it. Lines that the text has as well are not chatter, and
// neither is a line that stands first.
func withoutNotes(q *question, answer string, enough *reach) string {
	at := strings.IndexByte(answer, '\n')
	if at < 0 {
		return answer
	}
	var longer, said reach
	for !q.over {
		rest := strings.TrimLeft(answer[at:], " \t\r\n")
		line, _, more := strings.Cut(rest, "\n")
		q.spend(len(answer) - at - len(rest) + len(line))
		if note := q.words.isNote(line, false); note || q.words.isAside(line) {
			if !longer.ready {
				has := q.count()
				longer = reach{need: counts{ofLines: has[ofLines] + 1}, ready: true}
				said = reach{need: counts{ofSentences: has[ofSentences]}, ready: true}
			}
			if !longer.covers(q, answer, len(answer)) {
				return answer
			}
			kept := strings.TrimSpace(answer[:at])
			if enough.covers(q, answer, len(kept)) && (note || said.covers(q, answer, len(kept))) {
				// A rule above the note belongs to it.
				if cut := strings.TrimRight(kept, "-*_= \t\r\n"); strings.HasSuffix(kept, "\n---") || strings.HasSuffix(kept, "\n***") {
					kept = cut
				}
				return kept
			}
		}
		if !more {
			return answer
		}
		at = len(answer) - len(rest) + len(line)
	}
	return answer
}

// withoutInlineNote takes off the first note that begins behind a sentence, in the same
// line, if as many sentences stand before it as the text has.
func withoutInlineNote(q *question, answer string, enough *reach) string {
	said := reach{need: counts{ofSentences: q.count()[ofSentences]}, ready: true}
	for at := nextSentence(answer, 0); at < len(answer) && q.spend(maxLead); at = nextSentence(answer, at) {
		if q.words.isNote(answer[at:], false) {
			kept := strings.TrimSpace(answer[:at])
			if enough.covers(q, answer, len(kept)) && said.covers(q, answer, len(kept)) {
				return kept
			}
			return answer
		}
	}
	return answer
}

// nextSentence finds where the next sentence of the same line begins behind at; it is the
// length of s when none does.
func nextSentence(s string, at int) int {
	for i, r := range s[at:] {
		if !endsSentence(r) {
			continue
		}
		rest := s[at+i+utf8.RuneLen(r):]
		begin := strings.TrimLeft(rest, " \u00a0")
		if len(begin) < len(rest) || r > unicode.MaxLatin1 {
			return len(s) - len(begin)
		}
	}
	return len(s)
}

// tailAt finds from where on withoutTails may take off the end of answer: a line
// or a bracket that is, or may become, a note, and the rule above it.
func tailAt(q *question, answer string, from int) int {
	q.spend(2 * (len(answer) - from))
	end := len(answer)
	for at := from; ; {
		i := strings.IndexByte(answer[at:end], '\n')
		if i < 0 {
			break
		}
		at += i
		rest := strings.TrimLeft(answer[at:], " \t\r\n")
		line, _, whole := strings.Cut(rest, "\n")
		if (q.words.isNote(line, false) || q.words.isAside(line) || !whole && (q.words.opensNote(line, false) || q.words.opensAside(line))) && q.ahead.covers(q, answer, at) {
			end = at
			break
		}
		at = len(answer) - len(rest)
	}

	// The sentence that goes on may have begun before from.
	for at := nextSentence(answer[:end], max(0, from-maxLead)); at < end; at = nextSentence(answer[:end], at) {
		if rest := answer[at:end]; at >= from && (q.words.isNote(rest, false) || q.words.opensNote(rest, false)) && q.ahead.covers(q, answer, at) {
			end = at
			break
		}
	}

	trim := func(end int) int { return max(from, len(strings.TrimRightFunc(answer[:end], isRule))) }
	end = trim(end)
	depth, last := 0, false // of the brackets that close behind i, and whether the outermost closes at end
	for i := end; i > from; {
		r, size := utf8.DecodeLastRuneInString(answer[:i])
		i -= size
		switch r {
		case ')', '）', ']':
			if depth == 0 {
				last = i+size == end
			}
			depth++
		case '(', '（', '[':
			if depth > 0 {
				if depth--; !last {
					continue // more stands behind it
				}
			}
			inside := answer[i+size : end]
			if (q.words.isNote(inside, true) || q.words.opensNote(inside, true)) && q.ahead.covers(q, answer, i) {
				end = trim(i)
			}
		}
	}
	return end
}

// isRule says whether r may be a part of what goes with a note behind it. A
// colon is none, but what it is depends on what follows; see labels.
func isRule(r rune) bool { return strings.ContainsRune("-*_=:：", r) || unicode.IsSpace(r) }

// What may stand before the word that introduces a note or an aside, and behind
// it.
func beforeNote(r rune) bool {
	switch r {
	case '*', '_', '#', '>', '-', '•', '(', '[', '（', '【', ' ', '\t':
		return true
	}
	return false
}

func behindNote(r rune) bool {
	switch r {
	case '*', '_', ' ', '\u00a0', ']', ')', '）', '】':
		return true
	}
	return false
}

func beforeAside(r rune) bool {
	switch r {
	case '*', '_', '(', '[', ' ', '\t':
		return true
	}
	return false
}

// maxLead is how many bytes may stand before the word that introduces a note, and
// between it and its colon.
const maxLead = 32

// trimLead returns s without the characters of a lead that it begins with, but
// for more than one has.
func trimLead(s string, isLead func(rune) bool) string {
	lead := s[:min(len(s), maxLead)]
	return s[len(lead)-len(strings.TrimLeftFunc(lead, isLead)):]
}

// isNote says whether line begins with a word that introduces a note, such as
// "Note:"; inBracket ones need no colon after "literally".
func (v *vocabulary) isNote(line string, bracketed bool) bool {
	line = trimLead(line, beforeNote)
	for _, word := range v.notes.of(line) {
		rest, ok := cutFold(line, word)
		if !ok {
			continue
		}
		rest = trimLead(rest, behindNote)
		if strings.HasPrefix(rest, ":") || strings.HasPrefix(rest, "：") {
			return true
		}
	}
	if bracketed {
		for _, word := range v.bracketNotes {
			if rest, ok := cutFold(line, word); ok && rest != "" && (rest[0] == ' ' || rest[0] == ',') {
				return true
			}
		}
	}
	return false
}

// opensNote says whether a line that begins with start may become a note.
func (v *vocabulary) opensNote(start string, bracketed bool) bool {
	if start = trimLead(start, beforeNote); start == "" {
		return true
	}
	for _, word := range v.notes.of(start) {
		if rest, ok := cutFold(start, word); ok && trimLead(rest, behindNote) == "" || opensFold(start, word) {
			return true
		}
	}
	return bracketed && slices.ContainsFunc(v.bracketNotes, func(word string) bool { return opensFold(start, word) })
}

// isAside says whether line talks to the reader about the translation.
func (v *vocabulary) isAside(line string) bool {
	line = trimLead(line, beforeAside)
	for _, words := range v.asides.of(line) {
		if _, ok := cutFold(line, words); ok {
			return true
		}
	}
	return false
}

// opensAside says whether a line that begins with start may become an aside.
func (v *vocabulary) opensAside(start string) bool {
	start = trimLead(start, beforeAside)
	return start == "" || slices.ContainsFunc(v.asides.of(start), func(words string) bool { return opensFold(start, words) })
}

// lastBracket finds the bracket that the one at the end of s closes; -1 when
// there is none.
func lastBracket(s string) int {
	depth := 0
	for i := len(s); i > 0; {
		r, size := utf8.DecodeLastRuneInString(s[:i])
		i -= size
		switch r {
		case ')', '）', ']':
			depth++
		case '(', '（', '[':
			if depth--; depth == 0 {
				return i
			}
		}
	}
	return -1
}

// inBracket returns what is in the brackets round s.
func inBracket(s string) string {
	_, open := utf8.DecodeRuneInString(s)
	_, shut := utf8.DecodeLastRuneInString(s)
	return s[open : len(s)-shut]
}

// cutFold returns s without prefix, which is in lower case with straight
// apostrophes; s may have any.
func cutFold(s, prefix string) (rest string, ok bool) {
	for _, want := range prefix {
		r, size := utf8.DecodeRuneInString(s)
		if !sameFold(r, want) {
			return "", false
		}
		s = s[size:]
	}
	return s, true
}

// opensFold says whether s is a beginning, or all, of words as cutFold compares
// them.
func opensFold(s, words string) bool {
	for _, want := range words {
		if s == "" {
			return true
		}
		r, size := utf8.DecodeRuneInString(s)
		if !sameFold(r, want) {
			return false
		}
		s = s[size:]
	}
	return s == ""
}

// sameFold says whether r is want, which is in lower case and straight.
func sameFold(r, want rune) bool {
	return r == want || want == '\'' && r == '’' || unicode.ToLower(r) == want
}

// firstRunes returns the first n code points of s, or all of it.
func firstRunes(s string, n int) string {
	for i := range s {
		if n == 0 {
			return s[:i]
		}
		n--
	}
	return s
}
