package protect

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// A Stream puts placeholders into an answer while it comes in. What has left is always the
// beginning of what Close returns, as long as that is made of what came. At the first thing
// that is not plain it stops, and the rest follows at the end. It is used by one goroutine
// at a time.
type Stream struct {
	t     *Text
	s     Style
	st    *state
	raw   strings.Builder // all that came
	done  int             // how much of it is in items
	items []item
	held  bool
	heard bool
}

// Stream returns one for an answer about Masked(s).
func (t *Text) Stream(s Style) *Stream { return &Stream{t: t, s: s, st: t.state()} }

// Heard says whether any of the answer came as pieces.
func (s *Stream) Heard() bool { return s.heard }

// Write takes a piece of the answer, which may end within a character, and returns what
// can leave by now.
func (s *Stream) Write(piece string) string {
	s.heard = true
	s.raw.WriteString(piece)
	if s.held {
		return ""
	}
	raw := s.raw.String()[s.done:]
	begun := len(s.items) > 0
	// What stands last waits for what touches it; so does what a mark may begin with.
	end := s.settled(raw)
	var out strings.Builder
	for _, it := range s.s.items(raw[:end]) {
		if it.mark != 0 && !(s.loose(it) && s.st.take(it.mark)) || it.mark == 0 && s.t.odd(s.items, it.text) {
			s.held = true
			break
		}
		if !begun {
			begun = true
			out.WriteString(s.t.pre)
		}
		s.items = append(s.items, it)
		if it.mark > 0 {
			s.done += len(it.text)
			out.WriteString(s.t.marks[it.mark-1].text)
		} else {
			s.done += len(it.text)
			out.WriteString(s.t.written(it.text))
		}
	}
	return out.String()
}

// settled returns up to where raw can be told from a mark and from what belongs to one.
func (s *Stream) settled(raw string) int {
	end := 0
	for i := 0; i < len(raw); {
		_, n, short := s.s.read(raw, i)
		switch {
		case short:
			return end
		case n > i:
			i, end = n, n
		default:
			r, size := utf8.DecodeRuneInString(raw[i:])
			if r == utf8.RuneError && !utf8.FullRuneInString(raw[i:]) {
				return end
			}
			i += size
			if unicode.IsSpace(r) || r >= 0x3000 && unicode.IsLetter(r) { // scripts without blanks
				end = i
			}
		}
	}
	return end
}

// loose says whether a mark has on its left what keeps it apart, as it had in the source.
func (s *Stream) loose(it item) bool {
	if len(s.items) == 0 || it.mark < 1 || it.mark > len(s.t.marks) || s.t.marks[it.mark-1].structure {
		return true
	}
	last := s.items[len(s.items)-1]
	if last.mark > 0 {
		return s.t.marks[last.mark-1].structure
	}
	r, _ := utf8.DecodeLastRuneInString(last.text)
	return unicode.IsSpace(r) || strings.ContainsRune(`("'«“„¿¡`, r) || unicode.IsLetter(r) && r >= 0x3000
}

// odd says whether text, behind items, has something in it that is to be looked at as a
// whole: a placeholder that the engine made up, or one that becomes another with what
// stands before it.
func (t *Text) odd(items []item, text string) bool {
	if t.o.Markup == Plain && find(text, t.o) != nil {
		return true
	}
	if len(items) == 0 || items[len(items)-1].mark <= 0 || t.marks[items[len(items)-1].mark-1].structure {
		return false
	}
	r, _ := utf8.DecodeRuneInString(text)
	return !unicode.IsSpace(r) && !strings.ContainsRune(`.,;:!?)"'»”…`, r) && r < 0x3000
}

// Close returns the whole answer with its placeholders, what was found in it, and what of
// it has left.
func (s *Stream) Close(answer string) (text string, found Finding, sent string) {
	fixed := len(s.items)
	if !strings.HasPrefix(answer, s.raw.String()[:s.done]) {
		fixed = 0 // it is not what came
	}
	items := s.items[:fixed:fixed]
	rest := answer
	if fixed > 0 {
		rest = answer[s.done:]
	}
	return s.t.restore(append(items, s.s.items(rest)...), fixed)
}
