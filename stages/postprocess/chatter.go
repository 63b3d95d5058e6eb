package postprocess

import (
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
	start := answer[:min(len(answer), maxHead)]
	end, size := strings.IndexByte(start, ':'), 1
	if wide := strings.Index(start, "："); wide >= 0 && (end < 0 || wide < end) {
		end, size = wide, len("：")
	}
	if line := strings.IndexByte(start, '\n'); line > 0 && (end < 0 || line < end) {
		end, size = line, 1
	}
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
		if answer[end] != '\n' && !strings.ContainsAny(source, ":：\n-–—|/") && !strings.Contains(kept, "\n") {
			return kept
		}
	}
	return answer
}

// withoutAssent takes off an English "Sure!" before an answer in another
// language. ok says that there was one.
func withoutAssent(source, answer string, target core.Language) (kept string, ok bool) {
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
			if rest = strings.TrimSpace(rest); hasWord(rest) {
				return rest, true
			}
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

// isNote says whether line begins with a word that introduces a note, such as
// "Note:"; inBracket ones need no colon after "literally".
func isNote(line string, bracketed bool) bool {
	line = strings.TrimLeft(line, "*_#>-•([（【 \t")
	for _, word := range notes {
		rest, ok := cutFold(line, word)
		if !ok {
			continue
		}
		rest = strings.TrimLeft(rest, "*_ \u00a0])）】")
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

// isAside says whether line talks to the reader about the translation.
func isAside(line string) bool {
	line = strings.TrimLeft(line, "*_([ \t")
	for _, words := range asides {
		if _, ok := cutFold(line, words); ok {
			return true
		}
	}
	return false
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

// containsFold says whether s has part, which is in lower case, in any case.
func containsFold(s, part string) bool {
	return strings.Contains(strings.ReplaceAll(strings.ToLower(s), "’", "'"), part)
}
