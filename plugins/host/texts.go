package host

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/dragoman-mt/dragoman/core"
)

// private is what a call is about, of which nothing may be in a log. It is taken
// apart only when something has to be said.
type private struct {
	req    *core.Request // nil when a call is about no request
	answer string        // what After was given
}

func (p private) texts() []string {
	if p.req == nil {
		return nil
	}
	all := []string{p.req.Text, p.answer}
	for _, pair := range p.req.Context {
		all = append(all, pair.Source, pair.Target)
	}
	return append(all, p.req.Instructions...)
}

// inPlace stands where a text stood.
const inPlace = "[text]"

// quoteLength is how much of a text makes a quote of it, in bytes of letters and
// digits: about two words, or four characters of Chinese. A text that is shorter
// is found as a whole, and so is what stands between quotation marks.
const quoteLength = 12

// without returns message without what it quotes of texts: whoever made it may
// have put a text into it, whole or in part, in other case or with other marks
// between its words. Message is short; the time that this takes grows with the
// length of the texts.
func without(message string, texts []string) string {
	if message == "" {
		return ""
	}
	m := bare(message)
	cut := make([]bool, len(m.letters)) // which bytes go
	windows := map[string][]int{}       // where each run of quoteLength bytes begins
	for i := 0; i+quoteLength <= len(m.letters); i++ {
		run := m.letters[i : i+quoteLength]
		windows[run] = append(windows[run], i)
	}
	mark := func(from, n int) {
		for i := from; i < from+n; i++ {
			cut[i] = true
		}
	}
	quotes := m.quotes(message)
	for _, text := range texts {
		t := bare(text).letters
		if len(windows) > 0 {
			for j := 0; j+quoteLength <= len(t); j++ {
				for _, i := range windows[t[j:j+quoteLength]] {
					mark(i, quoteLength)
				}
			}
		}
		if n := len(t); n > 1 && n < quoteLength {
			for i := 0; ; {
				at := strings.Index(m.letters[i:], t)
				if at < 0 {
					break
				}
				if i += at; m.whole(message, i, n) {
					mark(i, n)
				}
				i++
			}
		}
		for _, q := range quotes {
			if strings.Contains(t, m.letters[q[0]:q[1]]) {
				mark(q[0], q[1]-q[0])
			}
		}
	}
	var out strings.Builder
	kept := 0
	for i := 0; i < len(cut); i++ {
		if !cut[i] {
			continue
		}
		last := i
		for last+1 < len(cut) && cut[last+1] {
			last++
		}
		out.WriteString(message[kept:m.at[i]])
		out.WriteString(inPlace)
		_, size := utf8.DecodeRuneInString(message[m.at[last]:])
		kept = m.at[last] + size
		i = last
	}
	out.WriteString(message[kept:])
	return out.String()
}

// A bared string has letters and digits alone, in lower case.
type bared struct {
	letters string
	at      []int // of each byte of letters: where its rune begins in the original
}

func bare(s string) bared {
	var b strings.Builder
	b.Grow(len(s))
	at := make([]int, 0, len(s))
	for i, r := range s {
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) && !unicode.IsMark(r) {
			continue
		}
		before := b.Len()
		b.WriteRune(unicode.ToLower(r))
		for range b.Len() - before {
			at = append(at, i)
		}
	}
	return bared{b.String(), at}
}

// whole says whether n bytes from i on are no part of a longer word.
func (b bared) whole(s string, i, n int) bool {
	isWord := func(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }
	before, _ := utf8.DecodeLastRuneInString(s[:b.at[i]])
	last := b.at[i+n-1]
	_, size := utf8.DecodeRuneInString(s[last:])
	after, _ := utf8.DecodeRuneInString(s[last+size:])
	first, _ := utf8.DecodeRuneInString(s[b.at[i]:])
	return first > 0x2e80 || !isWord(before) && !isWord(after) // scripts without blanks have no words to speak of
}

// quotes returns where in letters stands what is between quotation marks in s.
func (b bared) quotes(s string) (found [][2]int) {
	open := -1
	for i, r := range s {
		if !strings.ContainsRune("\"'`“”„‘’«»‹›「」『』", r) {
			continue
		}
		if open >= 0 {
			from, to := b.from(open), b.from(i)
			if to-from > 1 {
				found = append(found, [2]int{from, to})
			}
		}
		open = i
	}
	return found
}

// from returns the first of letters that stands at or after the byte at of the
// original.
func (b bared) from(at int) int {
	for i, a := range b.at {
		if a >= at {
			return i
		}
	}
	return len(b.at)
}
