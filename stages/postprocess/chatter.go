package postprocess

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/dragoman-mt/dragoman/core"
)

// withoutChatter takes off an announcement before the translation ("Here is the
// translation:") and notes to the reader after it. What stays must have as many
// lines, labels and brackets as the text has: else what looks like chatter may
// be the translation of something in the text.
func withoutChatter(source, answer string, target core.Language) string {
	if kept := withoutHead(source, answer, target); kept != answer {
		return kept
	}
	return withoutTail(source, answer, target)
}

// maxHead is the longest announcement, in bytes.
const maxHead = 160

// withoutHead takes an announcement off: a line, or a beginning that ends in a
// colon, that is made of nothing but the words which announce a translation.
func withoutHead(source, answer string, target core.Language) string {
	if kept, ok := withoutAssent(source, answer, target); ok {
		return kept
	}
	end, size := headEnd(answer)
	// Quotation marks round everything are taken off first, by their own step.
	if first, _ := utf8.DecodeRuneInString(answer); end <= 0 || isQuote(first) {
		return answer
	}
	// "**Translation:** Hola": the marks go with what they mark.
	head, kept := answer[:end], answer[end+size:]
	if rest, ok := strings.CutPrefix(kept, "**"); ok && strings.Count(head, "**") == 1 {
		kept = rest
	}
	if kept = strings.TrimSpace(kept); !hasWord(kept) {
		return answer
	}
	switch announces(head, source, target) {
	case announcement:
		if complete(kept, source) && mentions(kept) >= mentions(source) {
			return kept
		}
	case languageName:
		// "Spanish: Hola". The text may name the language in its own words, so
		// it must not have a shape in which it could.
		if answer[end] != '\n' && isPlain(source) && !strings.Contains(kept, "\n") {
			return kept
		}
	}
	return answer
}

// isPlain says that source is one line without a label, a dash or a list.
func isPlain(source string) bool { return !strings.ContainsAny(source, ":：\n-–—|/") }

// withoutAnnouncement is withoutHead of an answer that goes on: the name of a
// language stays, since it is taken off only when no line follows.
func withoutAnnouncement(source, answer string, target core.Language) string {
	if end, _ := headEnd(answer); end > 0 && announces(answer[:end], source, target) == languageName {
		return answer
	}
	return withoutHead(source, answer, target)
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

// opensHead says whether answer begins with what withoutHead takes off when
// enough stands behind it.
func opensHead(source, answer string, target core.Language) bool {
	if _, ok := behindAssent(source, answer, target); ok {
		return true
	}
	end, _ := headEnd(answer)
	if end < 0 {
		return len(answer) < maxHead && opensAnnouncement(answer, source, target)
	}
	head := announces(answer[:end], source, target)
	return head == announcement || head == languageName && answer[end] != '\n' && isPlain(source)
}

// opensAnnouncement says whether a head that begins with start may announce a
// translation. Its last word may not be all there.
func opensAnnouncement(start, source string, target core.Language) bool {
	fits := func(start string) bool {
		words := strings.TrimRightFunc(start, isWordRune)
		return announces(words+" translation", source, target) == announcement
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

// withoutAssent takes off an English "Sure!" before an answer in another
// language. ok says that there was one.
func withoutAssent(source, answer string, target core.Language) (kept string, ok bool) {
	rest, ok := behindAssent(source, answer, target)
	return rest, ok && hasWord(rest)
}

// behindAssent returns what stands behind an English "Sure!".
func behindAssent(source, answer string, target core.Language) (rest string, ok bool) {
	switch answer[0] | 0x20 {
	case 's', 'o', 'c', 'a':
	default:
		return "", false
	}
	if target.Base() == "en" {
		return "", false
	}
	for _, word := range assents {
		if rest, found := cutFold(answer, word); found && rest != "" && (rest[0] == ' ' || rest[0] == '\n') && !containsFold(source, word[:len(word)-1]) {
			return strings.TrimSpace(rest), true
		}
	}
	return "", false
}

// What a head may be.
type headKind int

const (
	otherHead    headKind = iota
	announcement          // it announces a translation
	languageName          // it is the name of the target language
)

// announces says what head, the beginning of an answer, is.
func announces(head, source string, target core.Language) headKind {
	keyword, language, words := false, false, 0
	inWordSet := func(word string) bool {
		words++
		switch {
		case announceKeys[word]:
			keyword = true
		case languageNames[word] != "":
			language = language || languageNames[word] == target.Base()
		case !announceWords[word]:
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
				return announces(quoted, "\x00", target)
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

// withoutTail takes notes to the reader off: the first line that begins like
// one and everything behind it, or a bracketed one at the end of the last line.
func withoutTail(source, answer string, target core.Language) string {
	if strings.HasSuffix(answer, ")") || strings.HasSuffix(answer, "）") || strings.HasSuffix(answer, "]") {
		if at := lastBracket(answer); at > 0 && isNote(inBracket(answer[at:]), true) {
			if kept := strings.TrimSpace(answer[:at]); hasWord(kept) && complete(kept, source) {
				return kept
			}
		}
	}
	// Lines that the text has as well are not chatter, and neither is a line
	// that stands first.
	at := strings.IndexByte(answer, '\n')
	if at < 0 || lines(answer) <= lines(source) {
		return answer
	}
	for at >= 0 {
		rest := strings.TrimLeft(answer[at:], " \t\r\n")
		kept := strings.TrimSpace(answer[:at])
		line, _, more := strings.Cut(rest, "\n")
		note := isNote(line, false)
		if (note || isAside(line) && sentences(kept) >= sentences(source)) && hasWord(kept) && complete(kept, source) {
			// A rule above the note belongs to it.
			if cut := strings.TrimRight(kept, "-*_= \t\r\n"); strings.HasSuffix(kept, "\n---") || strings.HasSuffix(kept, "\n***") {
				kept = cut
			}
			return kept
		}
		if !more {
			return answer
		}
		at = len(answer) - len(rest) + len(line)
	}
	return answer
}

// maxTold is how many notes tailAt looks at before it gives up and keeps all
// back: a model that runs away may write nothing but brackets.
const maxTold = 32

// tailAt finds from where on withoutTail may take off the end of answer: a line
// or a bracket that is, or may become, a note, and the rule above it.
func tailAt(source, answer string, from int) int {
	tries := 0
	told := func(at int, note bool) bool {
		if !note {
			return false
		}
		tries++
		return complete(answer[:at], source)
	}
	end := len(answer)
	for at := from; ; {
		i := strings.IndexByte(answer[at:end], '\n')
		if i < 0 {
			break
		}
		at += i
		rest := strings.TrimLeft(answer[at:], " \t\r\n")
		line, _, whole := strings.Cut(rest, "\n")
		if told(at, isNote(line, false) || isAside(line) || !whole && (opensNote(line, false) || opensAside(line))) {
			end = at
			break
		}
		at = len(answer) - len(rest)
	}

	trim := func(end int) int { return len(strings.TrimRightFunc(answer[:end], isRule)) }
	end = trim(end)
	depth, last := 0, false // of the brackets that close behind i, and whether the outermost closes at end
	for i := end; i > from; {
		if tries > maxTold {
			return from
		}
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
			if told(i, isNote(inside, true) || opensNote(inside, true)) {
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
const (
	beforeNote  = "*_#>-•([（【 \t"
	behindNote  = "*_ \u00a0])）】"
	beforeAside = "*_([ \t"
)

// isNote says whether line begins with a word that introduces a note, such as
// "Note:"; inBracket ones need no colon after "literally".
func isNote(line string, bracketed bool) bool {
	line = strings.TrimLeft(line, beforeNote)
	for _, word := range notes {
		rest, ok := cutFold(line, word)
		if !ok {
			continue
		}
		rest = strings.TrimLeft(rest, behindNote)
		if strings.HasPrefix(rest, ":") || strings.HasPrefix(rest, "：") {
			return true
		}
	}
	if bracketed {
		for _, word := range bracketNotes {
			if rest, ok := cutFold(line, word); ok && rest != "" && (rest[0] == ' ' || rest[0] == ',') {
				return true
			}
		}
	}
	return false
}

// opensNote says whether a line that begins with start may become a note.
func opensNote(start string, bracketed bool) bool {
	start = strings.TrimLeft(start, beforeNote)
	for _, word := range notes {
		if rest, ok := cutFold(start, word); ok && strings.TrimLeft(rest, behindNote) == "" || opensFold(start, word) {
			return true
		}
	}
	return bracketed && slices.ContainsFunc(bracketNotes, func(word string) bool { return opensFold(start, word) })
}

// isAside says whether line talks to the reader about the translation.
func isAside(line string) bool {
	line = strings.TrimLeft(line, beforeAside)
	for _, words := range asides {
		if _, ok := cutFold(line, words); ok {
			return true
		}
	}
	return false
}

// opensAside says whether a line that begins with start may become an aside.
func opensAside(start string) bool {
	start = strings.TrimLeft(start, beforeAside)
	return slices.ContainsFunc(asides, func(words string) bool { return opensFold(start, words) })
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

// complete says whether kept may still be a translation of all of source: it
// has at least as many lines, labels and brackets.
func complete(kept, source string) bool {
	return lines(kept) >= lines(source) && labels(kept) >= labels(source) && brackets(kept) >= brackets(source)
}

// lines counts the lines of s that are not blank.
func lines(s string) int {
	n := 0
	for line := range strings.SplitSeq(s, "\n") {
		if strings.TrimSpace(line) != "" {
			n++
		}
	}
	return n
}

// labels counts the colons of s that end a label: those in 10:30 and https://
// do not.
func labels(s string) int {
	n := strings.Count(s, "：")
	for i := 0; i < len(s); i++ {
		if s[i] == ':' && (i+1 == len(s) || strings.IndexByte(" \t\r\n*\"'(", s[i+1]) >= 0 || s[i+1] >= utf8.RuneSelf) {
			n++
		}
	}
	return n
}

func brackets(s string) int {
	return strings.Count(s, "(") + strings.Count(s, "（") + strings.Count(s, "[")
}

// sentences counts the ends of sentences in s.
func sentences(s string) int {
	n, ended := 0, false
	for _, r := range s {
		end := strings.ContainsRune(".!?。！？؟।…", r)
		if end && !ended {
			n++
		}
		ended = end
	}
	return n
}

// mentions counts how often s speaks of translating, in any language.
func mentions(s string) int {
	s = strings.ToLower(s)
	n := 0
	for _, stem := range translateStems {
		n += strings.Count(s, stem)
	}
	return n
}

// cutFold returns s without prefix, which is in lower case with straight
// apostrophes; s may have any.
func cutFold(s, prefix string) (rest string, ok bool) {
	for _, want := range prefix {
		r, size := utf8.DecodeRuneInString(s)
		if r != want && (want != '\'' || r != '’') && unicode.ToLower(r) != want {
			return "", false
		}
		s = s[size:]
	}
	return s, true
}

// opensFold says whether s is a beginning, or all, of words as cutFold compares
// them.
func opensFold(s, words string) bool {
	rest, ok := cutFold(s, firstRunes(words, utf8.RuneCountInString(s)))
	return ok && rest == ""
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

// containsFold says whether s has part, which is in lower case, in any case.
func containsFold(s, part string) bool {
	return strings.Contains(strings.ReplaceAll(strings.ToLower(s), "’", "'"), part)
}
