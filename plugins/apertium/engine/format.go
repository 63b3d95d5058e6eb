package engine

import (
	"bytes"
	"errors"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Apertium's stream is not text: \ [ ] { } ^ $ / @ < > have a meaning in it
// and are written with a backslash before them (as apertium-destxt does), and
// what stands in [ ] is a blank that passes through the chain as it is.
const reserved = `\[]{}^$/@<>`

// A frame says which lines of a text go through the chain, and puts them back
// where they were.
type frame struct {
	token string // of this text alone
	lines []line
}

// A line is one line of the text: only words goes through the chain.
type line struct{ lead, words, trail string }

// newFrame takes text apart. Token is made of letters and digits.
func newFrame(text, token string) *frame {
	f := &frame{token: token}
	for l := range strings.Lines(text) {
		rest := strings.TrimLeftFunc(l, unicode.IsSpace)
		words := strings.TrimRightFunc(rest, unicode.IsSpace)
		f.lines = append(f.lines, line{lead: l[:len(l)-len(rest)], words: words, trail: rest[len(words):]})
	}
	return f
}

// encode writes what the chain reads, without the NUL at the end: the token as
// a blank, then each line and a full stop of ours, the empty blank that tells it
// from one of the text, and the token again. An answer counts only with all of
// them in place, so it belongs to this text and to no other.
func (f *frame) encode() []byte {
	b := []byte(f.open())
	for _, l := range f.lines {
		if l.words != "" {
			b = append(escape(b, l.words), f.mark()...)
		}
	}
	return b
}

func (f *frame) open() string { return "[" + f.token + "]" }
func (f *frame) mark() string { return ".[][" + f.token + "]" }

var errFrame = errors.New("the answer of the process chain does not belong to the text")

// decode makes the translation from what the chain wrote, without its NUL.
func (f *frame) decode(answer []byte) (string, error) {
	rest, ok := bytes.CutPrefix(answer, []byte(f.open()))
	if !ok {
		return "", errFrame
	}
	var text strings.Builder
	for _, l := range f.lines {
		text.WriteString(l.lead)
		if l.words != "" {
			var part []byte
			if part, rest, ok = bytes.Cut(rest, []byte(f.mark())); !ok {
				return "", errFrame
			}
			words, err := unescape(part)
			if err != nil {
				return "", err
			}
			text.WriteString(matchCase(l.words, strings.TrimSpace(words)))
		}
		text.WriteString(l.trail)
	}
	if len(bytes.TrimSpace(rest)) != 0 {
		return "", errFrame
	}
	return text.String(), nil
}

// escape appends text as the chain reads it. White space that is more than one
// blank goes as a blank of the stream, and so does "~", which wakes the
// post-generator.
func escape(b []byte, text string) []byte {
	for text != "" {
		n := len(text) - len(strings.TrimLeftFunc(text, unicode.IsSpace))
		switch {
		case n == 1 && text[0] == ' ':
			b = append(b, ' ')
		case n > 0:
			b = append(append(append(b, '['), text[:n]...), ']')
		case text[0] == '~':
			n = 1
			b = append(b, "[~]"...)
		default:
			if strings.IndexByte(reserved, text[0]) >= 0 {
				b = append(b, '\\')
			}
			_, n = utf8.DecodeRuneInString(text)
			b = append(b, text[:n]...)
		}
		text = text[n:]
	}
	return b
}

// unescape reads what the chain wrote.
func unescape(b []byte) (string, error) {
	var text strings.Builder
	blank := false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case c == '\\':
			if i++; i == len(b) || b[i] == 0 {
				return "", errFrame
			}
			text.WriteByte(b[i])
		case c == '[' && !blank, c == ']' && blank:
			blank = !blank
		case c == 0, c == '[', c == ']':
			return "", errFrame
		default:
			text.WriteByte(c)
		}
	}
	if blank || !utf8.ValidString(text.String()) {
		return "", errFrame
	}
	return text.String(), nil
}

// matchCase gives the translation of a line the case that its first letter had:
// Apertium begins a sentence with a capital where the text, often a part of one,
// did not. A first word with more than one capital keeps them.
func matchCase(source, target string) string {
	from, ok := firstLetter(source)
	if !ok {
		return target
	}
	to, ok := firstLetter(target)
	if !ok {
		return target
	}
	a, _ := utf8.DecodeRuneInString(source[from:])
	b, size := utf8.DecodeRuneInString(target[to:])
	switch {
	case unicode.IsLower(a) && unicode.IsUpper(b):
		next, _ := utf8.DecodeRuneInString(target[to+size:])
		if unicode.IsUpper(next) {
			return target
		}
		b = unicode.ToLower(b)
	case unicode.IsUpper(a) && unicode.IsLower(b):
		b = unicode.ToUpper(b)
	default:
		return target
	}
	return target[:to] + string(b) + target[to+size:]
}

func firstLetter(s string) (int, bool) {
	i := strings.IndexFunc(s, unicode.IsLetter)
	return max(i, 0), i >= 0
}
