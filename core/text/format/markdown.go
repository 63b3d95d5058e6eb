package format

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	extensions "github.com/yuin/goldmark/extension/ast"
	"github.com/yuin/goldmark/text"

	"github.com/dragoman-mt/dragoman/core/lazy"
)

var (
	frontMatter  = lazy.Regexp(`\A(?:---[ \t]*\r?\n(?s:.*?)\n---[ \t]*(?:\r?\n|\z)|\+\+\+[ \t]*\r?\n(?s:.*?)\n\+\+\+[ \t]*(?:\r?\n|\z))`)
	taskMark     = lazy.Regexp(`^\[[ xX]\]\s+`)
	blockMark    = lazy.Regexp(`^(?:[-+*>#=|~]|\d{1,9}[.)]|` + "```" + `|<[A-Za-z/!?]|\[[^\]]*\]:)`)
	numbered     = lazy.Regexp(`^(\d{1,9})([.)])`)
	anyMarkdown  = lazy.Regexp("[`*_\\[\\]<>&~\\\\]|https?:")
	unescapedBar = lazy.Regexp(`(^|[^\\])\|`)
)

// readMarkdown reads Markdown (CommonMark, and GitHub's tables) by goldmark, which says where
// each block's lines stand. Code, HTML blocks, link definitions and what stands before the
// text in a block of its own (front matter) stay.
func readMarkdown(r *reader) error {
	skipped := len(frontMatter().FindString(r.text))
	source := []byte(r.text[skipped:])
	if deep(r.text) {
		return r.fail(0, "quotes or lists are nested more than %d deep", maxDepth)
	}
	root := goldmark.New(goldmark.WithExtensions(extension.Table)).Parser().Parse(text.NewReader(source))
	return ast.Walk(root, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if !entering || n.Type() != ast.TypeBlock {
			return ast.WalkContinue, nil
		}
		cell := false
		switch n.Kind() {
		case ast.KindParagraph, ast.KindTextBlock, ast.KindHeading:
		case extensions.KindTableCell:
			cell = true
		default:
			return ast.WalkContinue, nil
		}
		lines := n.Lines()
		var part []span
		for i := range lines.Len() {
			l := lines.At(i)
			s := span{l.Start + skipped, l.Stop + skipped}
			raw := strings.TrimRight(r.of(s), "\r\n")
			s.end = s.start + len(raw)
			hard := strings.HasSuffix(raw, "  ") || strings.HasSuffix(raw, `\`) && i+1 < lines.Len()
			s = r.trimmed(s)
			if hard && s.end > s.start && r.text[s.end-1] == '\\' {
				s.end--
			}
			if s.end > s.start {
				part = append(part, s)
			}
			if hard {
				r.paragraph(part, cell)
				part = nil
			}
		}
		r.paragraph(part, cell)
		return ast.WalkSkipChildren, nil
	})
}

// deep says whether a line opens more blocks than can be wanted.
func deep(text string) bool {
	for line := range strings.Lines(text) {
		n := 0
		for _, c := range line {
			if c == '>' || c == '-' || c == '*' || c == '+' {
				n++
			} else if c != ' ' && c != '\t' {
				break
			}
			if n > maxDepth && strings.Trim(line, "-*_=+> \t\r\n") != "" {
				return true
			}
		}
	}
	return false
}

// paragraph adds lines that are one text.
func (r *reader) paragraph(lines []span, cell bool) {
	if len(lines) == 0 {
		return
	}
	lines[0].start += len(taskMark().FindString(r.of(lines[0])))
	whole, width := make([]string, len(lines)), 0
	for i, l := range lines {
		whole[i] = r.of(l)
		width = max(width, utf8.RuneCountInString(whole[i]))
	}
	s := Segment{Text: strings.Join(whole, " ")}
	if !strings.ContainsFunc(s.Text, unicode.IsLetter) {
		return
	}
	if anyMarkdown().MatchString(s.Text) {
		if pieces, _ := Markdown.Split(s.Text); len(pieces) == 0 {
			return
		}
		s.Marks = Markdown
	}
	start, end := lines[0].start, lines[len(lines)-1].end
	lead := ""
	if len(lines) > 1 {
		begin := strings.LastIndexByte(r.text[:lines[1].start], '\n') + 1
		lead = r.text[begin:lines[1].start]
	}
	opened := blockMark().MatchString(s.Text)
	r.add(start, s, func(answer string) []edit {
		answer = strings.Join(strings.Fields(answer), " ")
		if cell {
			answer = unescapedBar().ReplaceAllString(unescapedBar().ReplaceAllString(answer, `$1\|`), `$1\|`)
		}
		if !opened && blockMark().MatchString(answer) && !strings.HasPrefix(answer, "**") && !strings.HasPrefix(answer, "*") {
			if m := numbered().FindStringSubmatchIndex(answer); m != nil {
				answer = answer[:m[4]] + `\` + answer[m[4]:]
			} else {
				answer = `\` + answer
			}
		}
		if len(lines) > 1 && strings.TrimLeft(lead, "> \t") == "" {
			wrapped := wrapWords(answer, max(width, 40))
			sound := true
			for _, l := range wrapped[1:] {
				sound = sound && !blockMark().MatchString(l)
			}
			for _, l := range wrapped[:len(wrapped)-1] {
				sound = sound && !strings.HasSuffix(l, `\`)
			}
			if sound {
				answer = strings.Join(wrapped, r.eol+lead)
			}
		}
		return []edit{{start, end, answer}}
	})
}

// wrapWords breaks text into lines, as long as most where words allow it.
func wrapWords(text string, most int) (lines []string) {
	line, n := "", 0
	for _, word := range strings.Fields(text) {
		w := utf8.RuneCountInString(word)
		if line != "" && n+1+w > most {
			lines = append(lines, line)
			line, n = "", 0
		}
		if line != "" {
			line, n = line+" ", n+1
		}
		line, n = line+word, n+w
	}
	return append(lines, line)
}
