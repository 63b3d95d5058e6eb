package postprocess

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// thoughtTags are round what reasoning models write before they answer.
var thoughtTags = [...]string{"think", "thinking", "thought", "thoughts", "reasoning", "scratchpad"}

// A tag stands in an answer from at to end.
type tag struct {
	name    int // index in thoughtTags
	closing bool
	at, end int
}

// nextTag finds the first tag of a think block in answer from from on.
func nextTag(q *question, answer string, from int) (tag, bool) {
	for at := from; ; at++ {
		i := strings.IndexByte(answer[at:], '<')
		if i < 0 {
			return tag{}, false
		}
		at += i
		name, closing := strings.CutPrefix(answer[at+1:], "/")
		for n, want := range thoughtTags {
			if isTag(name, want) && !q.thinks(n) {
				return tag{n, closing, at, len(answer) - len(name) + len(want) + 1}, true
			}
		}
	}
}

// isTag says whether s, which stands behind a bracket, is name and the bracket
// that closes the tag.
func isTag(s, name string) bool {
	return len(s) > len(name) && s[len(name)] == '>' && strings.EqualFold(s[:len(name)], name)
}

// thinks says whether the text has tags of that name itself, an index in
// thoughtTags.
func (q *question) thinks(name int) bool {
	return q.once(&q.thoughts[name], func(string) bool {
		return strings.Contains(q.fold(), "<"+thoughtTags[name]+">") || strings.Contains(q.fold(), "</"+thoughtTags[name]+">")
	})
}

// withoutThoughts takes out think blocks, so that what stands behind one is not
// looked at together with another. Some servers swallow the opening tag, so a
// closing one at the end of a line ends a block too. A block that stands first
// and never ends leaves nothing.
func withoutThoughts(q *question, answer string) string {
	if strings.IndexByte(answer, '<') < 0 {
		return answer
	}
	q.spend(3 * len(answer))
	var last [len(thoughtTags)]int // where the last block of each name ends
	for t, ok := nextTag(q, answer, 0); ok; t, ok = nextTag(q, answer, t.end) {
		if t.closing {
			last[t.name] = t.end
		}
	}
	var kept strings.Builder
	at, from, blank := 0, 0, true // answer[from:at] is to be kept; blank: nothing but white space was
	for {
		t, ok := nextTag(q, answer, at)
		if !ok {
			break
		}
		blank = blank && strings.TrimSpace(answer[at:t.at]) == ""
		at = t.end
		switch {
		case t.closing && endsLine(answer[t.end:]):
			kept.Reset()
			from, blank = at, true
		case t.closing, last[t.name] < t.end && !blank:
			blank = false
		case last[t.name] < t.end:
			return ""
		default:
			kept.WriteString(strings.TrimRight(answer[from:t.at], " "))
			at = blockEnd(q, answer, t)
			from = at
		}
	}
	if from == 0 {
		return answer
	}
	kept.WriteString(answer[from:])
	return kept.String()
}

// blockEnd finds the end of the block that t opens; 0 when it has none.
func blockEnd(q *question, answer string, t tag) int {
	for end, ok := nextTag(q, answer, t.end); ok; end, ok = nextTag(q, answer, end.end) {
		if end.closing && end.name == t.name {
			return end.end
		}
	}
	return 0
}

// withoutFirstThoughts takes off the think blocks that stand first.
func withoutFirstThoughts(q *question, answer string) string {
	for q.spend(1) {
		t, ok := nextTag(q, answer, 0)
		end := t.end
		switch {
		case !ok, t.closing && !endsLine(answer[end:]):
			return answer
		case !t.closing:
			if end = blockEnd(q, answer, t); end == 0 || strings.TrimSpace(answer[:t.at]) != "" {
				q.spend(len(answer))
				return answer
			}
		}
		q.spend(end)
		answer = strings.TrimSpace(answer[end:])
	}
	return answer
}

// holdsThoughts says whether a think block, or what may become one, stands in
// answer: what stands round it comes together without it.
func holdsThoughts(q *question, answer string) bool { return thoughtsAt(q, answer, 0) < len(answer) }

// thoughtsAt finds the first tag of a think block from from on, or what may
// become one.
func thoughtsAt(q *question, answer string, from int) int {
	q.spend(len(answer) - from)
	for at := from; ; at++ {
		i := strings.IndexByte(answer[at:], '<')
		if i < 0 {
			return len(answer)
		}
		at += i
		if opensThought(q, strings.TrimPrefix(answer[at+1:], "/")) {
			return at
		}
	}
}

// opensThought says whether s is, begins with or may become the name of a think
// block that the text has not.
func opensThought(q *question, s string) bool {
	for name, tag := range thoughtTags {
		n := min(len(s), len(tag))
		if strings.EqualFold(s[:n], tag[:n]) && (n == len(s) || s[n] == '>') && !q.thinks(name) {
			return true
		}
	}
	return false
}

// endsThought says whether a think block ends at the end of s.
func endsThought(q *question, s string) bool {
	s = s[max(0, len(s)-16):]
	if i := strings.LastIndex(s, "</"); i >= 0 {
		for n, name := range thoughtTags {
			if isTag(s[i+2:], name) {
				return !q.thinks(n)
			}
		}
	}
	return false
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
func withoutFence(q *question, answer string) string {
	if len(answer) < 6 {
		return answer
	}
	switch answer[0] {
	case '`', '~':
		fence := answer[:3]
		if fence != "```" && fence != "~~~" || q.says(fence) || !strings.HasSuffix(answer, fence) {
			return answer
		}
		q.spend(2 * len(answer))
		inside := answer[3 : len(answer)-3]
		if strings.Count(answer, fence) != 2 || !hasWord(inside) {
			return answer
		}
		// The word behind the opening fence names a language, unless the text
		// needs the line.
		if word, rest, ok := strings.Cut(inside, "\n"); ok && isInfo(strings.TrimSpace(word)) && hasWord(rest) {
			need := reach{need: counts{ofLines: q.count()[ofLines]}, ready: true}
			if need.covers(q, rest, len(rest)) || strings.TrimSpace(word) == "json" && opensJSON(q, strings.TrimSpace(rest)) {
				return rest
			}
		}
		return inside
	case '<':
		for _, name := range wrapTags {
			if end := len(answer) - len(name) - 3; end > 0 && isTag(answer[1:], name) && strings.HasPrefix(answer[end:], "</") && isTag(answer[end+2:], name) && !q.says("<"+name+">") {
				inside := answer[len(name)+2 : end]
				q.spend(len(inside))
				if closesTag(inside, name) {
					return answer
				}
				return inside
			}
		}
	}
	return answer
}

// closesTag says whether a tag of that name closes in s.
func closesTag(s, name string) bool {
	for {
		_, rest, ok := strings.Cut(s, "</")
		if !ok || isTag(rest, name) {
			return ok
		}
		s = rest
	}
}

// opensFence says whether answer begins with a fence or a tag that withoutFence
// takes off when the end is right.
func opensFence(q *question, answer string) bool {
	for _, fence := range [...]string{"```", "~~~"} {
		if strings.HasPrefix(answer, fence) {
			return !q.says(fence)
		}
	}
	return answer != "" && answer[0] == '<' && slices.ContainsFunc(wrapTags, func(name string) bool {
		return isTag(answer[1:], name) && !q.says("<"+name+">")
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
func withoutQuotes(q *question, answer string) string {
	first, _ := utf8.DecodeRuneInString(answer)
	if !isQuote(first) && first != '*' {
		return answer
	}
	for _, mark := range quotes {
		inside, ok := strings.CutPrefix(answer, mark.open)
		if !ok {
			continue
		}
		if inside, ok = strings.CutSuffix(inside, mark.shut); !ok {
			continue
		}
		if q.spend(2 * len(inside)); !hasWord(inside) {
			continue
		}
		if mark.open == "**" {
			if q.says("**") || strings.Contains(inside, "**") {
				return answer
			}
			return inside
		}
		if q.hasSpeech() || hasQuotes(inside, mark.open, mark.shut) {
			return answer
		}
		return inside
	}
	return answer
}

// opensQuotes says whether answer begins with a mark that withoutQuotes takes
// off when the end is right.
func opensQuotes(q *question, answer string) bool {
	for _, mark := range quotes {
		if strings.HasPrefix(answer, mark.open) {
			if mark.open == "**" {
				return !q.says("**")
			}
			return !q.hasSpeech()
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
