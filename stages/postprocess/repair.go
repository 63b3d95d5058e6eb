package postprocess

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/dragoman-mt/dragoman/core"
)

// thoughtTags are round what reasoning models write before they answer.
var thoughtTags = []string{"think", "thinking", "thought", "thoughts", "reasoning", "scratchpad"}

// withoutThoughts takes out think blocks, so that what stands behind one is not
// looked at together with another. Neither text has white space round it.
func withoutThoughts(source, answer string, _ core.Language) string {
	for strings.Contains(answer, "<") {
		rest := strings.TrimSpace(withoutThought(source, answer))
		if rest == answer {
			break
		}
		answer = rest
	}
	return answer
}

// withoutThought takes out the first think block. Some servers swallow the
// opening tag, so a closing one at the end of a line ends a block too. A block
// that never ends leaves nothing.
func withoutThought(source, answer string) string {
	for _, tag := range thoughtTags {
		if indexTag(answer, "<", tag) < 0 && indexTag(answer, "</", tag) < 0 ||
			indexTag(source, "<", tag) >= 0 || indexTag(source, "</", tag) >= 0 {
			continue
		}
		open, size := indexTag(answer, "<", tag), len(tag)+2
		end := indexTag(answer, "</", tag)
		switch {
		case open == 0 && end < 0:
			return ""
		case open == 0, open < 0 && end >= 0 && endsLine(answer[end+size+1:]):
			return answer[end+size+1:]
		case open > 0 && end > open:
			return strings.TrimRight(answer[:open], " ") + answer[end+size+1:]
		}
	}
	return answer
}

// withoutFirstThought takes out a think block that stands first.
func withoutFirstThought(source, answer string, _ core.Language) string {
	if rest := withoutThought(source, answer); strings.HasSuffix(answer, rest) {
		return rest
	}
	return answer
}

// holdsThoughts says whether a think block, or what may become one, stands in
// answer: what stands round it comes together without it.
func holdsThoughts(source, answer string, _ core.Language) bool {
	return thoughtsAt(source, answer, 0) < len(answer)
}

// thoughtsAt finds the first tag of a think block from from on, or what may
// become one.
func thoughtsAt(source, answer string, from int) int {
	for at := from; ; at++ {
		i := strings.IndexByte(answer[at:], '<')
		if i < 0 {
			return len(answer)
		}
		at += i
		if opensThought(source, strings.TrimPrefix(answer[at+1:], "/")) {
			return at
		}
	}
}

// opensThought says whether s is, begins with or may become the name of a think
// block that the text has not.
func opensThought(source, s string) bool {
	for _, tag := range thoughtTags {
		n := min(len(s), len(tag))
		if strings.EqualFold(s[:n], tag[:n]) && (n == len(s) || s[n] == '>') && indexTag(source, "<", tag) < 0 && indexTag(source, "</", tag) < 0 {
			return true
		}
	}
	return false
}

// indexTag finds the tag bracket+name+">" in s, in any case; -1 when it is not
// there.
func indexTag(s, bracket, name string) int {
	for at := 0; ; {
		i := strings.Index(s[at:], bracket)
		if i < 0 {
			return -1
		}
		at += i
		rest := s[at+len(bracket):]
		if len(rest) > len(name) && rest[len(name)] == '>' && strings.EqualFold(rest[:len(name)], name) {
			return at
		}
		at += len(bracket)
	}
}

// endsLine says that rest goes on with a new line.
func endsLine(rest string) bool {
	rest = strings.TrimLeft(rest, " \t\r")
	return rest != "" && rest[0] == '\n'
}

// wrapTags are round an answer of models that like to mark it.
var wrapTags = []string{"translation", "translated_text", "translated", "answer", "output", "result"}

// withoutFence takes a code fence off that is round the whole answer, or a tag
// such as <translation>.
func withoutFence(source, answer string, _ core.Language) string {
	if len(answer) < 6 {
		return answer
	}
	switch answer[0] {
	case '`', '~':
		fence := answer[:3]
		if fence != "```" && fence != "~~~" || strings.Contains(source, fence) || strings.Count(answer, fence) != 2 || !strings.HasSuffix(answer, fence) {
			return answer
		}
		inside := answer[3 : len(answer)-3]
		if !hasWord(inside) {
			return answer
		}
		// The word behind the opening fence names a language, unless the text
		// needs the line.
		if word, rest, ok := strings.Cut(inside, "\n"); ok && hasWord(rest) && isInfo(strings.TrimSpace(word)) && lines(rest) >= lines(source) {
			return rest
		}
		return inside
	case '<':
		for _, tag := range wrapTags {
			if end := len(answer) - len(tag) - 3; end > 0 && indexTag(answer, "<", tag) == 0 && indexTag(answer, "</", tag) == end && indexTag(source, "<", tag) < 0 {
				return answer[len(tag)+2 : end]
			}
		}
	}
	return answer
}

// opensFence says whether answer begins with a fence or a tag that withoutFence
// takes off when the end is right.
func opensFence(source, answer string, _ core.Language) bool {
	for _, fence := range [...]string{"```", "~~~"} {
		if strings.HasPrefix(answer, fence) {
			return !strings.Contains(source, fence)
		}
	}
	return answer != "" && answer[0] == '<' && slices.ContainsFunc(wrapTags, func(tag string) bool {
		return indexTag(answer, "<", tag) == 0 && indexTag(source, "<", tag) < 0
	})
}

// isInfo says whether word may be the info string of a fence.
func isInfo(word string) bool {
	for i := 0; i < len(word); i++ {
		if c := word[i]; !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '+' || c == '_') {
			return false
		}
	}
	return len(word) <= 20
}

// quotes are the marks that languages open a quotation with, and those that
// close it then.
var quotes = []struct{ open, shut string }{
	{`"`, `"`}, {"'", "'"}, {"“", "”"}, {"‘", "’"}, {"„", "“"}, {"„", "”"}, {"‚", "‘"}, {"”", "”"}, {"’", "’"},
	{"«", "»"}, {"»", "«"}, {"‹", "›"}, {"›", "‹"}, {"「", "」"}, {"『", "』"}, {"`", "`"}, {"**", "**"},
}

// withoutQuotes takes quotation marks off that are round the whole answer. It
// leaves them when the text has any of its own, for quotations are marked in
// one way here and in another there, and when it begins with a dash, which is
// how many languages mark speech.
func withoutQuotes(source, answer string, _ core.Language) string {
	first, _ := utf8.DecodeRuneInString(answer)
	if !isQuote(first) && first != '*' {
		return answer
	}
	for _, q := range quotes {
		inside, ok := strings.CutPrefix(answer, q.open)
		if !ok {
			continue
		}
		if inside, ok = strings.CutSuffix(inside, q.shut); !ok || !hasWord(inside) {
			continue
		}
		if q.open == "**" {
			if strings.Contains(source, "**") || strings.Contains(inside, "**") {
				return answer
			}
			return inside
		}
		if hasQuotes(inside, q.open, q.shut) || hasSpeech(source) {
			return answer
		}
		return inside
	}
	return answer
}

// opensQuotes says whether answer begins with a mark that withoutQuotes takes
// off when the end is right.
func opensQuotes(source, answer string, _ core.Language) bool {
	for _, q := range quotes {
		if strings.HasPrefix(answer, q.open) {
			if q.open == "**" {
				return !strings.Contains(source, "**")
			}
			return !hasSpeech(source)
		}
	}
	return false
}

func isQuote(r rune) bool {
	switch r {
	case '"', '\'', '`', '“', '”', '„', '‟', '‘', '’', '‚', '«', '»', '‹', '›', '「', '」', '『', '』':
		return true
	}
	return false
}

// hasQuotes says whether s holds open or shut other than as an apostrophe.
func hasQuotes(s, open, shut string) bool {
	for i := range s {
		for _, mark := range [2]string{open, shut} {
			if strings.HasPrefix(s[i:], mark) && !(isApostrophe(mark) && inWord(s, i, len(mark))) {
				return true
			}
		}
	}
	return false
}

// hasSpeech says whether the text marks speech or a title in any way.
func hasSpeech(s string) bool {
	for i, r := range s {
		switch {
		case i == 0 && strings.ContainsRune("-–—―*_", r):
			return true
		case strings.ContainsRune("《》〈〉〝〞〟＂＇", r):
			return true
		case isQuote(r) && !(isApostrophe(string(r)) && inWord(s, i, utf8.RuneLen(r))):
			return true
		}
	}
	return false
}

func isApostrophe(mark string) bool { return mark == "'" || mark == "’" }

// inWord says whether s has letters on both sides of the mark at i.
func inWord(s string, i, size int) bool {
	before, _ := utf8.DecodeLastRuneInString(s[:i])
	after, _ := utf8.DecodeRuneInString(s[i+size:])
	return unicode.IsLetter(before) && unicode.IsLetter(after)
}

func hasWord(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return unicode.IsLetter(r) || unicode.IsNumber(r) })
}
