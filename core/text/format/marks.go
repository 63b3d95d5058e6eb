package format

import (
	"html"
	"slices"
	"strings"
	"unicode"

	"github.com/dragoman-mt/dragoman/core/lazy"
)

// Marks are what stands in a text and is not language: how its format writes it.
type Marks string

const (
	NoMarks  Marks = ""
	HTML     Marks = "html"     // tags and entities
	XML      Marks = "xml"      // tags, and entities but for the five that every XML has
	Override Marks = "override" // {\i1} of subtitles, and tags
	Markdown Marks = "markdown" // code, links, emphasis
)

// Same says whether answer has the marks of text, each as often, and nested as well. Those of a
// text that begins or ends within an element are in their order.
func (m Marks) Same(text, answer string) bool {
	if m == NoMarks {
		return true
	}
	want, whole := m.all(text)
	got, nested := m.all(answer)
	if !whole {
		return slices.Equal(want, got)
	}
	slices.Sort(want)
	slices.Sort(got)
	return nested && slices.Equal(want, got)
}

// Split returns the texts between the marks that have something to translate, and what puts
// their translations into their places.
func (m Marks) Split(text string) (pieces []string, join func([]string) string) {
	type part struct {
		raw   string
		piece bool
	}
	var parts []part
	for raw, mark := range m.parts(text) {
		bare := strings.TrimSpace(raw)
		if mark || !strings.ContainsFunc(bare, unicode.IsLetter) {
			parts = append(parts, part{raw: raw})
			continue
		}
		begin := strings.Index(raw, bare)
		parts = append(parts, part{raw: raw[:begin]}, part{raw: bare, piece: true}, part{raw: raw[begin+len(bare):]})
		if m == HTML || m == XML {
			bare = html.UnescapeString(bare)
		}
		pieces = append(pieces, bare)
	}
	return pieces, func(answers []string) string {
		var b strings.Builder
		i := 0
		for _, p := range parts {
			switch {
			case !p.piece:
				b.WriteString(p.raw)
				continue
			case answers[i] == pieces[i]:
				b.WriteString(p.raw)
			case m == HTML || m == XML:
				b.WriteString(escapeMarkup(answers[i]))
			default:
				b.WriteString(answers[i])
			}
			i++
		}
		return b.String()
	}
}

var escaper = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")

func escapeMarkup(s string) string { return escaper.Replace(legal(s)) }

// legal is s without what no XML may hold, and what is no character (XML 1.0, section 2.2): one
// such byte of an answer would make the whole file one that cannot be opened.
func legal(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' && r != '\n' && r != '\r' || r == 0xFFFE || r == 0xFFFF {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, ""))
}

// all returns the marks of text, sorted into what must be there, and whether they are nested
// as their format wants it.
func (m Marks) all(text string) (marks []string, nested bool) {
	var open []string
	nested = true
	for raw, mark := range m.parts(text) {
		if !mark {
			continue
		}
		marks = append(marks, raw)
		name := tagName(raw)
		switch {
		case m == Markdown || name == "" || m == HTML && void[name] || strings.HasSuffix(raw, "/>") || strings.HasSuffix(raw, ">") && strings.Contains(raw, "</") && raw[1] != '/':
		case strings.HasPrefix(raw, "</"):
			if len(open) == 0 || open[len(open)-1] != name {
				nested = false
			} else {
				open = open[:len(open)-1]
			}
		default:
			open = append(open, name)
		}
	}
	return marks, nested && len(open) == 0
}

// tagName is the name of a tag in lower case; empty when raw is none.
func tagName(raw string) string {
	if len(raw) < 3 || raw[0] != '<' {
		return ""
	}
	name := strings.TrimPrefix(raw[1:], "/")
	if name[0] >= '0' && name[0] <= '9' { // a time in a cue
		return ""
	}
	end := strings.IndexFunc(name, func(c rune) bool { return c == '>' || c == '/' || c == '.' || unicode.IsSpace(c) })
	if end <= 0 {
		return ""
	}
	return strings.ToLower(name[:end])
}

var (
	overrideMark = lazy.Regexp(`\{\\[^{}]*\}|</?[A-Za-z](?:[^<>])*>|<\d[\d:.]*>|\\h`)
	markdownMark = lazy.Regexp("`+[^`]+`+" + `|!?\[|\]\((?:[^()\s]|\([^()\s]*\))*(?:\s+"[^"]*")?\)|\]\[[^\]]*\]|\]|\*{1,3}|~~|<[^<>\s][^<>]*>|\{\{[^{}]*\}\}|https?://[^\s<>)]+`)
)

// parts are the marks of text and what stands between them, in order.
func (m Marks) parts(text string) func(yield func(raw string, mark bool) bool) {
	var find func(from int) (begin, end int)
	switch m {
	case NoMarks:
		return func(yield func(string, bool) bool) { yield(text, false) }
	case HTML, XML:
		find = newScan(text, m).next
	default:
		re := overrideMark()
		if m == Markdown {
			re = markdownMark()
		}
		find = func(from int) (int, int) {
			if found := re.FindStringIndex(text[from:]); found != nil {
				return from + found[0], from + found[1]
			}
			return -1, -1
		}
	}
	return func(yield func(string, bool) bool) {
		at := 0
		for {
			begin, end := find(at)
			if begin < 0 {
				break
			}
			if begin > at && !yield(text[at:begin], false) || !yield(text[begin:end], true) {
				return
			}
			at = end
		}
		if at < len(text) {
			yield(text[at:], false)
		}
	}
}

// characters are the entities that every XML has.
var characters = []string{"&amp;", "&lt;", "&gt;", "&quot;", "&apos;"}

// void are the elements without an end (WHATWG HTML standard, section 13.1.2). It is written
// to by nobody.
var void = map[string]bool{
	"area": true, "base": true, "br": true, "col": true, "embed": true, "hr": true, "img": true, "input": true, "link": true, "meta": true,
	"source": true, "track": true, "wbr": true,
}
