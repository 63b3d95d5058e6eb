package format

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A scan finds the marks of HTML and XML in a text, from its beginning to its end. What
// ends a mark is looked for once for all marks that it could end, so that no text takes
// more time than its length: an expression would look to the end of the text for each
// comment that has none.
type scan struct {
	text  string
	marks Marks
	tags  []span         // what may be a tag, the last one first
	found map[string]int // where what ends a mark is, behind the last place from which it was looked for
}

func newScan(text string, m Marks) *scan {
	s := &scan{text: text, marks: m, found: map[string]int{}}
	// Where a tag ends depends on what is behind it alone: on the quotes. So from behind
	// it is known for what is outside of quotes, and within either.
	outside, double, single := -1, -1, -1
	for i := len(text) - 1; i >= 0; i-- {
		switch text[i] {
		case '>':
			outside = i + 1
		case '<':
			if outside >= 0 {
				s.tags = append(s.tags, span{i, outside})
			}
			outside = -1
		case '"':
			outside, double = double, outside
		case '\'':
			outside, single = single, outside
		}
	}
	return s
}

// next returns the first mark from the byte from on; -1 for none.
func (s *scan) next(from int) (begin, end int) {
	for at := from; at < len(s.text); at++ {
		i := strings.IndexAny(s.text[at:], "<&")
		if i < 0 {
			break
		}
		at += i
		if end := s.mark(at); end > 0 {
			return at, end
		}
	}
	return -1, -1
}

// mark returns where the mark ends that begins at i; 0 when there is none.
func (s *scan) mark(i int) int {
	rest := s.text[i:]
	switch {
	case strings.HasPrefix(rest, "<!--"):
		return s.behind(i+len("<!--"), "-->")
	case s.marks == XML && strings.HasPrefix(rest, "<![CDATA["):
		return s.behind(i+len("<![CDATA["), "]]>")
	case s.marks == XML && strings.HasPrefix(rest, "<?"):
		return s.behind(i+len("<?"), "?>")
	case rest[0] == '&':
		return s.entity(i)
	case s.marks == HTML && len(rest) > 1 && isDigit(rest[1]): // a time in a cue
		n := 1
		for n < len(rest) && (isDigit(rest[n]) || rest[n] == ':' || rest[n] == '.') {
			n++
		}
		if n < len(rest) && rest[n] == '>' {
			return i + n + 1
		}
		return 0
	}
	if s.marks == HTML {
		if end := s.element(i); end > 0 {
			return end
		}
	}
	name, _ := utf8.DecodeRuneInString(strings.TrimPrefix(rest[1:], "/"))
	if !isASCIILetter(name) && (s.marks == HTML || name != '_' && name != ':' && !unicode.IsLetter(name)) {
		return 0
	}
	for last := len(s.tags) - 1; last >= 0 && s.tags[last].start <= i; last-- {
		if s.tags[last].start == i {
			return s.tags[last].end
		}
		s.tags = s.tags[:last]
	}
	return 0
}

// wordless are the elements whose content is no language: each is one mark. It is written
// to by nobody.
var wordless = []string{"code", "kbd", "samp", "var", "tt", "script", "style", "svg", "math"}

// element returns where the wordless element ends that begins at i.
func (s *scan) element(i int) int {
	name := s.text[i+1:]
	at := slices.IndexFunc(wordless, func(w string) bool {
		return len(name) > len(w) && strings.EqualFold(name[:len(w)], w) && strings.IndexByte(" \t\n\f\r>", name[len(w)]) >= 0
	})
	if at < 0 {
		return 0
	}
	w := wordless[at]
	begin := s.find(i+1+len(w)+1, w, func(from int) int {
		for ; from < len(s.text); from++ {
			n := strings.Index(s.text[from:], "</")
			if n < 0 {
				break
			}
			from += n
			if s.closing(from, w) > 0 {
				return from
			}
		}
		return -1
	})
	if begin < 0 {
		return 0
	}
	return s.closing(begin, w)
}

// closing returns where the end tag of the element name ends that begins at i.
func (s *scan) closing(i int, name string) int {
	rest := s.text[i+len("</"):]
	if len(rest) < len(name) || !strings.EqualFold(rest[:len(name)], name) {
		return 0
	}
	rest = strings.TrimLeft(rest[len(name):], " \t\n\f\r")
	if !strings.HasPrefix(rest, ">") {
		return 0
	}
	return len(s.text) - len(rest) + 1
}

// behind returns where the next what ends from the byte from on.
func (s *scan) behind(from int, what string) int {
	at := s.find(from, what, func(from int) int {
		if n := strings.Index(s.text[from:], what); n >= 0 {
			return from + n
		}
		return -1
	})
	if at < 0 {
		return 0
	}
	return at + len(what)
}

// find is look(from), of which the answer for an earlier place may still be right.
func (s *scan) find(from int, what string, look func(from int) int) int {
	at, known := s.found[what]
	if !known || at >= 0 && at < from {
		at = look(from)
		s.found[what] = at
	}
	return at
}

// entity returns where the entity ends that begins at i, if it is a mark.
func (s *scan) entity(i int) int {
	if s.marks != XML {
		return 0
	}
	for n, c := range s.text[i+1:] {
		switch {
		case c == '_' || c == ':' || unicode.IsLetter(c):
		case n > 0 && c == ';':
			if end := i + 1 + n + 1; !slices.Contains(characters, s.text[i:end]) {
				return end
			}
			return 0
		case n > 0 && (c == '.' || c == '-' || unicode.IsNumber(c)):
		default:
			return 0
		}
	}
	return 0
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func isASCIILetter(c rune) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' && c < utf8.RuneSelf }
