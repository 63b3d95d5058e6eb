package protect

import (
	"strings"
	"unicode/utf8"

	"github.com/dragoman-mt/dragoman/core/lazy"
)

// What wikis, forums, chats, manual pages and formulas write among words.

// maxCode is how far ahead what begins here may end, in bytes.
const maxCode = 1 << 10

// within returns where what begins at i, with open, ends with end: the place of end; -1 when
// it does not within maxCode bytes.
func within(t string, i int, open, end byte) int {
	depth := 0
	for j := i; j < len(t) && j-i < maxCode; j++ {
		switch t[j] {
		case open:
			depth++
		case end:
			if depth--; depth == 0 {
				return j
			}
		}
	}
	return -1
}

// element adds the beginning of an element, and notes its end, which stands from end to after.
func (f *finder) element(from, to, end, after int, kind Kind, name string) int {
	f.ahead = append(f.ahead, span{from: end, to: after, kind: kind, role: ends, name: name})
	return f.add(span{from: from, to: to, kind: kind, role: opens, name: name})
}

// due adds the end of an element that stands at i, if one does, and returns its end.
func (f *finder) due(i int) int {
	for n := len(f.ahead) - 1; n >= 0 && f.ahead[n].from <= i; n-- {
		s := f.ahead[n]
		f.ahead = f.ahead[:n]
		if s.from == i { // else something else went over it, and the beginning stands alone
			return f.add(s)
		}
	}
	return i
}

// square looks for a link of a wiki, [[page]] or [[page|words]], and a tag of BBCode.
func (f *finder) square(i int) int {
	t := f.text
	if at(t, i+1) == '[' {
		line, _, _ := strings.Cut(t[i+2:min(len(t), i+maxCode)], "\n")
		n := strings.Index(line, "]]")
		if n < 1 || strings.Contains(line[:n], "[[") {
			return i
		}
		end := i + 2 + n
		// [[${x}]] of Thymeleaf, and [[a]] with nothing to say.
		if bar := strings.LastIndexByte(line[:n], '|'); bar > 0 && hasLetter(line[bar+1:n]) {
			return f.element(i, i+2+bar+1, end, end+2, Tag, "[[")
		}
		return f.add(span{from: i, to: end + 2, kind: Tag})
	}
	m := bbcode().FindStringSubmatchIndex(t[i:min(len(t), i+maxField)])
	if m == nil {
		return i
	}
	slash, name := m[3] > m[2], strings.ToLower(t[i+m[4]:i+m[5]])
	s := span{from: i, to: i + m[1], kind: Tag, role: ends, name: "[" + name}
	if slash {
		if f.forum[name] == 0 {
			return i // it ends nothing
		}
		return f.add(s)
	}
	close := f.forum[name]
	if close <= i {
		n := strings.Index(strings.ToLower(t[i:min(len(t), i+maxTag)]), "[/"+name+"]")
		if n < 0 {
			return i // [i]t is: an editor's
		}
		if f.forum == nil {
			f.forum = map[string]int{}
		}
		close = i + n
		f.forum[name] = close
	}
	s.role, s.ignore = opens, name == "code" || name == "img" || name == "email" || name == "video" || name == "youtube"
	return f.add(s)
}

// bbcode is a tag of forums: what phpBB and XenForo know.
var bbcode = lazy.Regexp(`^(?i)\[(/?)(b|i|u|s|url|img|quote|code|color|size|list|center|left|right|spoiler|email|font|table|tr|td|th|li|ul|ol|sup|sub|user|video|youtube)(?:=[^\[\]\n]*|(?: \w+=(?:"[^"\n]*"|[^\s\[\]]+))+)?\]`)

var (
	// chat is whom or what a message of Discord or Slack names.
	chat = lazy.Regexp(`^<(?:@[!&]?\w+|#\w+|![a-z]+(?:\^\w+)?|a?:\w+:\d+|t:-?\d+(?::[a-zA-Z])?)(?:\|[^<>|\n]*)?>`)
	// autolink is an address in brackets, as CommonMark and mail have it; in Slack's there are
	// words behind it.
	autolink = lazy.Regexp(`^<(?:(?:https?|ftp|mailto|tel)://?[^\s<>|]+|(?:mailto:|tel:)?[\w.+-]+@[\w-]+(?:\.[\w-]+)+|tel:[+\d-]+)(\||>)`)
)

// chatted looks for what chats and mail put in angle brackets.
func (f *finder) chatted(i int) int {
	t := f.text
	if m := chat().FindStringIndex(t[i:min(len(t), i+maxField)]); m != nil && (f.o.Markup == Plain || t[i+1] != '!') {
		return f.add(span{from: i, to: i + m[1], kind: Mark})
	}
	m := autolink().FindStringSubmatchIndex(t[i:min(len(t), i+maxTag)])
	if m == nil {
		return i
	}
	if at(t, i+m[2]) == '>' {
		return f.add(span{from: i, to: i + m[1], kind: URL})
	}
	line, _, _ := strings.Cut(t[i+m[1]:min(len(t), i+m[1]+maxField)], "\n")
	n := strings.IndexAny(line, "<>")
	if n < 0 || line[n] == '<' {
		return i
	}
	return f.element(i, i+m[1], i+m[1]+n, i+m[1]+n+1, URL, "<|")
}

// pod looks for a formatting code of manual pages, B<ls>, whose bracket is at i (perlpod, and
// the catalogues that po4a makes). Code and names are literal; words are translated.
func (f *finder) pod(i int) int {
	t := f.text
	if i == 0 || f.o.Markup != Plain || strings.IndexByte("BISCEFLXZRW", t[i-1]) < 0 {
		return i
	}
	from := i - 1
	if t[from] == 'W' {
		if from--; at(t, from) != 'C' {
			return i
		}
	}
	code := t[from]
	if from < f.last || wordBefore(t, from) && !(f.last == from) {
		return i
	}
	end := within(t, i, '<', '>')
	if end < 0 {
		return i
	}
	inside := t[i+1 : end]
	name, _, _ := strings.Cut(strings.ToLower(inside), " ")
	blanks := strings.ContainsAny(inside, " \t\n")
	next := at(t, end+1)
	switch {
	case inside == "" && code != 'Z', f.html(name, i, end): // Vitamin B<sub>12</sub>
		return i
	case inside != strings.TrimSpace(inside) && !strings.HasPrefix(inside, "<"),
		blanks && (isWord(next) && at(t, end+2) != '<' || isDigit(next)): // if B<C and D>E
		return i
	}
	literal := code != 'I' && code != 'S' && code != 'B' || next == '(' && isDigit(at(t, end+2))
	if code == 'B' && !blanks {
		literal = literal || !plainWord().MatchString(inside)
	}
	if code == 'S' && strings.ContainsRune(inside, '<') {
		literal = false
	}
	if literal || !hasLetter(inside) {
		return f.add(span{from: from, to: end + 1, kind: Code})
	}
	return f.element(from, i+1, end, end+1, Tag, t[from:i+1])
}

// plainWord is one that a page sets in bold and that is language: B<Warning>. Commands and
// options are not.
var plainWord = lazy.Regexp(`^\p{Lu}\p{Ll}+[.:!]?$`)

// html says whether what stands in the brackets from i to end is a tag of HTML rather: one
// that has another end, or needs none.
func (f *finder) html(name string, i, end int) bool {
	if strings.TrimSuffix(name, "/") == "br" || name == "img" || name == "hr" || name == "wbr" {
		return true
	}
	other := func(part, want string) bool { return name != "" && strings.Contains(strings.ToLower(part), want) }
	if shut, is := strings.CutPrefix(name, "/"); is {
		return other(f.text[max(0, i-maxCode):i], "<"+shut)
	}
	return other(f.text[end:min(len(f.text), end+maxCode)], "</"+name+">")
}

var (
	// font is what sets one in troff, and literal what stands in bold or in a typewriter's
	// letters without a blank: a command, an option (man-pages(7)).
	font    = lazy.Regexp(`^\\f(?:[BCIRPS1-9]|\([A-Z]{2}|\[[A-Z]*\])`)
	literal = lazy.Regexp(`^\\f(?:B|\(C[WRB]|\[C?[BWR]\])([^\s\\]|\\[-&.e])+\\f(?:[RP1]|\[\]|\[R\])`)
	// glyph is a sign or a string of troff.
	glyph = lazy.Regexp(`^\\(?:\((?:[a-zA-Z][a-zA-Z"']|[a-zA-Z*+<>=!-]{2})|\[[a-zA-Z0-9_]+\]|\*(?:\([a-zA-Z<>"']{2}|\[[^\]\s]+\])|s[-+]?\d|u[0-9a-fA-F]{4})`)
)

// backslash looks for what a backslash begins: a formula of LaTeX, an escape of troff, a line
// end that is written as \n.
func (f *finder) backslash(i int) int {
	t := f.text
	ahead := t[i:min(len(t), i+maxCode)]
	switch c := at(t, i+1); c {
	case '(', '[':
		end := `\)`
		if c == '[' {
			end = `\]`
		}
		if n := strings.Index(ahead[2:], end); n > 0 {
			return f.add(span{from: i, to: i + 2 + n + 2, kind: Code})
		}
	case 'f':
		if m := literal().FindStringIndex(ahead[:min(len(ahead), 128)]); m != nil && !plainWord().MatchString(strings.Trim(font().ReplaceAllString(ahead[:m[1]], ""), `\fRP1[]`)) {
			return f.add(span{from: i, to: i + m[1], kind: Code})
		}
		if m := font().FindStringIndex(ahead[:min(len(ahead), 12)]); m != nil {
			s := span{from: i, to: i + m[1], kind: Tag, role: opens, name: `\f`}
			if strings.Contains("\\fR\\fP\\f1\\f[]\\f[R]", t[i:i+m[1]]) {
				s.role = ends
			}
			return f.add(s)
		}
		return i
	case '-', '&', 'e', '|', '^', '~', '0':
		if c == '-' && wordBefore(t, i) || c == 'e' && isLetter(at(t, i+2)) || c == '0' && isDigit(at(t, i+2)) {
			return i
		}
		return f.add(span{from: i, to: i + 2, kind: Escape})
	case 'n', 'r', 't':
		if next := at(t, i+2); next >= 'a' && next <= 'z' {
			return i // C:\new
		}
		return f.add(span{from: i, to: i + 2, kind: Escape})
	}
	if m := glyph().FindStringIndex(ahead[:min(len(ahead), 64)]); m != nil {
		return f.add(span{from: i, to: i + m[1], kind: Escape})
	}
	return i
}

// prose is what no formula has: words side by side.
var prose = lazy.Regexp(`\pL{2,}[,;:]?\s+\pL{2,}`)

// path looks for a name of a file that cannot be taken for words, whose first slash or drive is
// at i: /etc/fstab, ./configure, C:\Users.
func (f *finder) path(i int) int {
	t := f.text
	if at(t, i) == ':' {
		if at(t, i+1) != '\\' || i == f.last || !isLetter(at(t, i-1)) || wordBefore(t, i-1) || !isWord(at(t, i+2)) {
			return i
		}
		j := i + 1
		for j < len(t) && j-i < maxField && (isName(t[j]) || t[j] == '\\') {
			j++
		}
		for t[j-1] == '.' || t[j-1] == '-' {
			j--
		}
		return f.add(span{from: i - 1, to: j, kind: Code})
	}
	from := i
	for from > f.last && i-from < 2 && strings.IndexByte(".~", t[from-1]) >= 0 {
		from--
	}
	if from > 0 && strings.IndexByte(" \t\n\"'([=,", t[from-1]) < 0 {
		return i
	}
	j, parts, empty := i, 0, true
	for j < len(t) && j-i < maxField && (t[j] == '/' || t[j] < utf8.RuneSelf && isName(t[j]) || t[j] == '+') {
		if t[j] == '/' {
			if empty && j > i {
				return i
			}
			empty = true
		} else if empty {
			empty = false
			parts++
		}
		j++
	}
	for t[j-1] == '.' || t[j-1] == '-' {
		j--
	}
	if parts < 2 && from == i || parts < 1 || wordAfter(t, j) {
		return i // either/or, /s
	}
	return f.add(span{from: from, to: j, kind: Code})
}

// wordAfter says whether a letter stands at i.
func wordAfter(t string, i int) bool { return lettersAfter(t, i, 1) > 0 }

// option looks for a long option of a command, --all.
func (f *finder) option(i int) int {
	t := f.text
	if !strings.HasPrefix(t[i:], "--") || i > 0 && strings.IndexByte(" \t\n\"'(<[|,", t[i-1]) < 0 {
		return i
	}
	j := i + 2
	for j < len(t) && j-i < 64 && (isLetter(t[j]) || isDigit(t[j]) || t[j] == '-' && isLetter(at(t, j+1))) {
		j++
	}
	if j < i+4 || !isLetter(t[i+2]) || wordAfter(t, j) {
		return i
	}
	return f.add(span{from: i, to: j, kind: Code})
}

// formula looks for one between dollars, by Pandoc's rule for which those are, which has
// something in it that no sum of money has.
func (f *finder) formula(i int) int {
	t := f.text
	line := t[i+1 : min(len(t), i+maxField)]
	if strings.HasPrefix(line, "$") {
		if n := strings.Index(t[i+2:min(len(t), i+maxCode)], "$$"); n > 0 {
			return f.add(span{from: i, to: i + n + 4, kind: Code})
		}
		return i
	}
	line, _, _ = strings.Cut(line, "\n")
	n := strings.IndexByte(line, '$')
	if n < 1 || wordBefore(t, i) || isDigit(at(t, i+n+2)) || isWord(at(t, i+n+2)) || line[0] == ' ' || line[n-1] == ' ' || !strings.ContainsAny(line[:n], `\^_={}<>`) {
		return i
	}
	if strings.ContainsAny(line[:n], "%\"") || strings.Contains(line[:n], "{{") || prose().MatchString(line[:n]) {
		return i // $HOME <b>or else</b> 5$
	}
	return f.add(span{from: i, to: i + n + 2, kind: Code})
}
