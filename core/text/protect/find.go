package protect

import (
	"html"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/dragoman-mt/dragoman/core/lazy"
)

// A Kind is what a placeholder is.
type Kind string

const (
	Printf   Kind = "printf"   // %s, %1$-10.2f, %@, %(name)s, %{name}, %%, %NAME%
	Brace    Kind = "brace"    // {0}, {name}, {price:N2}, {{name}}, ${name}, #{name}, {% tag %}
	Nesting  Kind = "nesting"  // $t(key), @:key, $NAME$
	Message  Kind = "message"  // the frame of an ICU plural or select, and its #
	Tag      Kind = "tag"      // <b>, </b>, <0>, <br/>, <!-- -->, and elements that are not to be translated
	URL      Kind = "url"      // https://example.com/a?b=c
	Email    Kind = "email"    // ann@example.com
	Code     Kind = "code"     // `x`, ```x```, $x<y$, /etc/fstab, --all
	Entity   Kind = "entity"   // &nbsp;
	Escape   Kind = "escape"   // \n, \(aq, \-
	Mark     Kind = "mark"     // @@PH1@@, 🔤, and what looks like a mark of ours
	Declared Kind = "declared" // what a pattern of the operator's matches
)

// A role is what a span does to the nesting of what stands round it.
type role uint8

const (
	atom  role = iota // stands by itself, among words
	lone              // stands by itself and belongs to the structure: <br>
	opens             // begins an element
	ends              // ends one
)

// A span is a placeholder in a text.
type span struct {
	from, to int
	kind     Kind
	role     role
	name     string // of an element
	partner  int    // where the other end of the element is; -1 without one
	ordered  bool   // what fills it depends on how many such stand before it
	branch   bool   // an element in which everything stays that is in it
	ignore   bool   // the element's content is not to be translated
}

// A finder goes through a text once. What it looks ahead is bounded, so a text of n
// bytes costs time in proportion to n.
type finder struct {
	text      string
	o         *Options
	spans     []span
	last      int              // the end of the last span
	depth     []int            // of ICU messages: how deep their braces are
	unquote   [2]int           // quotation marks, double and single: none stand before that
	nomessage bool             // none of ICU's closes
	nofence   [4]bool          // backticks by their number: no closing ones stand ahead
	ahead     []span           // ends of elements that are known, the innermost last
	framed    [len(frames)]int // where the next end of one of frames stands; the text's end for none
	forum     map[string]int   // where the next end of a tag of BBCode stands, at least once there was one
}

// How far ahead a placeholder may end, in bytes. What is longer is none.
const (
	maxField = 256
	maxTag   = 4 << 10
)

// frames are what a comment, a section or an instruction begins and ends with.
var frames = [...][2]string{{"<!--", "-->"}, {"<![CDATA[", "]]>"}, {"<?", "?>"}, {"<%", "%>"}}

// triggers are the bytes at which a placeholder may be found.
var triggers = func() (t [256]bool) {
	for _, c := range []byte("%{}$<>&@#`:wWxX[]\\/-") {
		t[c] = true
	}
	for _, other := range []string{"🔤", "⟦", "х", "Х"} { // the last two are of Cyrillic: what engines write for an x
		t[other[0]] = true
	}
	return t
}()

// find returns the placeholders of text, in order; nil when there are none.
func find(text string, o *Options) []span {
	f := finder{text: text, o: o}
	for i := 0; i < len(text); {
		if !triggers[text[i]] {
			i++
			continue
		}
		if n := f.at(i); n > i {
			i = n
		} else {
			i++
		}
	}
	if len(o.Patterns) > 0 {
		f.declared()
	}
	return f.spans
}

// declared adds what the operator's patterns match, where nothing else was found.
func (f *finder) declared() {
	for _, p := range f.o.Patterns {
		for _, at := range p.FindAllStringIndex(f.text, -1) {
			if at[0] == at[1] || slices.ContainsFunc(f.spans, func(s span) bool { return s.from < at[1] && at[0] < s.to }) {
				continue
			}
			f.spans = append(f.spans, span{from: at[0], to: at[1], kind: Declared, partner: -1})
		}
	}
	slices.SortFunc(f.spans, func(a, b span) int { return a.from - b.from })
}

// add notes a span, and returns its end.
func (f *finder) add(s span) int {
	s.partner = -1
	f.spans = append(f.spans, s)
	f.last = s.to
	return s.to
}

// at looks for a placeholder at i, and returns its end; i when there is none.
func (f *finder) at(i int) int {
	t := f.text
	if len(f.ahead) > 0 {
		if n := f.due(i); n > i {
			return n
		}
	}
	switch t[i] {
	case '[':
		return f.square(i)
	case '\\':
		return f.backslash(i)
	case '%':
		return f.percent(i)
	case '{':
		return f.brace(i)
	case '}':
		return f.closing(i)
	case '$':
		return f.dollar(i)
	case '<':
		return f.angle(i)
	case '&':
		return f.entity(i)
	case '@':
		return f.atSign(i)
	case '#':
		switch {
		case i+1 < len(t) && t[i+1] == '{':
			if n := balanced(t, i+1, '{', '}'); n > i+3 {
				return f.add(span{from: i, to: n, kind: Brace})
			}
		case len(f.depth) > 0:
			return f.add(span{from: i, to: i + 1, kind: Message})
		}
	case '`':
		return f.code(i)
	case ':':
		if n := f.url(i); n > i {
			return n
		}
		return f.path(i)
	case '/':
		return f.path(i)
	case '-':
		return f.option(i)
	case 'w', 'W':
		if len(t) >= i+5 && strings.EqualFold(t[i:i+4], "www.") && !wordBefore(t, i) {
			if n := urlEnd(t, i+4); strings.Contains(t[i+4:n], ".") {
				return f.add(span{from: i, to: n, kind: URL})
			}
		}
	default:
		if strings.HasPrefix(t[i:], "🔤") {
			return f.add(span{from: i, to: i + len("🔤"), kind: Mark, role: lone})
		}
		for s := range Styles {
			if _, n := Style(s).parse(t, i); n > i {
				return f.add(span{from: i, to: n, kind: Mark})
			}
		}
	}
	return i
}

func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }
func isDigit(c byte) bool  { return c >= '0' && c <= '9' }
func isWord(c byte) bool   { return isLetter(c) || isDigit(c) || c == '_' }

// isName says whether c may stand in a name that programs use.
func isName(c byte) bool { return isWord(c) || c == '-' || c == '.' || c >= utf8.RuneSelf }

func at(t string, i int) byte {
	if i >= 0 && i < len(t) {
		return t[i]
	}
	return 0
}

// wordBefore says whether a letter or a digit stands before i.
func wordBefore(t string, i int) bool {
	r, _ := utf8.DecodeLastRuneInString(t[:i])
	return unicode.IsLetter(r) || unicode.IsDigit(r)
}

// lettersAfter counts the letters from i on, up to most.
func lettersAfter(t string, i, most int) (n int) {
	for _, r := range t[i:] {
		if !unicode.IsLetter(r) || n == most {
			return n
		}
		n++
	}
	return n
}

// balanced returns the end of what begins at i with open, or i when it does not end
// within maxField bytes of one line.
func balanced(t string, i int, open, end byte) int {
	depth := 0
	for j := i; j < len(t) && j-i < maxField && t[j] != '\n'; j++ {
		switch t[j] {
		case open:
			depth++
		case end:
			if depth--; depth == 0 {
				return j + 1
			}
		}
	}
	return i
}

// Conversions of printf and its descendants (C, POSIX, Python, PHP, Java, Go, Objective-C,
// strftime), as far as a letter alone may stand for one; and those that are often followed by
// letters of a unit, such as %dpx and %ss.
const (
	conversions = "aAbBcCdDeEfFgGhHiIjklLmMnNopPqQrRsStTuUvVwWxXyYzZ@"
	printf      = "diouxXeEfFgGaAcspnbhvq@" // after a width
	common      = "sdiufcxX@"
)

func (f *finder) percent(i int) int {
	t := f.text
	digit := f.last != i && isDigit(at(t, i-1))
	switch at(t, i+1) {
	case '%':
		return f.add(span{from: i, to: i + 2, kind: Printf})
	case '{':
		if n := balanced(t, i+1, '{', '}'); n > i+3 {
			return f.add(span{from: i, to: n, kind: Printf})
		}
		return i
	case '(', '<': // Python: %(name)s, Ruby: %<name>s
		end := byte(')')
		if t[i+1] == '<' {
			end = '>'
		}
		n := balanced(t, i+1, t[i+1], end)
		if n <= i+3 || strings.ContainsAny(t[i+2:n-1], " \t") {
			return i
		}
		if m := conversion(t, n); m > n {
			return f.add(span{from: i, to: m, kind: Printf})
		}
		return i
	case '#': // Objective-C: %#@name@
		if at(t, i+2) == '@' {
			for j := i + 3; j < len(t) && j-i < maxField && isWord(t[j]); j++ {
				if at(t, j+1) == '@' {
					return f.add(span{from: i, to: j + 2, kind: Printf})
				}
			}
		}
	}
	if j := i + 1; isLetter(at(t, j)) || at(t, j) == '_' { // Symfony, Windows: %name%
		for j < len(t) && j-i < 64 && (isWord(t[j]) || t[j] == '.' || t[j] == '-') {
			j++
		}
		if at(t, j) == '%' && at(t, j+1) != '%' && j-i > 3 && !digit {
			return f.add(span{from: i, to: j + 1, kind: Printf})
		}
	}
	j, numbered := i+1, false
	for isDigit(at(t, j)) {
		j++
	}
	switch {
	case at(t, j) == '%' && j > i+1 && j <= i+3 && t[i+1] != '0' && !digit && !isWord(at(t, j+1)): // Boost: %1%
		return f.add(span{from: i, to: j + 1, kind: Printf})
	case j > i+1 && (at(t, j) == '$' || at(t, j) == ':' && isLetter(at(t, j+1))): // POSIX: %1$s; Pascal: %0:s
		j, numbered = j+1, true
	case j > i+1 && j <= i+3 && t[i+1] != '0' && !digit && !isWord(at(t, j)) && at(t, j) != '.' && at(t, j) != '%': // Qt: %1
		return f.add(span{from: i, to: j, kind: Printf})
	default:
		j = i + 1
		if at(t, j) == 'L' && isDigit(at(t, j+1)) && !isWord(at(t, j+2)) { // Qt: %L1
			return f.add(span{from: i, to: j + 2, kind: Printf})
		}
	}
	n := conversion(t, j)
	if n == j {
		return i
	}
	c := t[n-1]
	after := lettersAfter(t, n, 3)
	plain := n == i+2 // nothing between the sign and the letter
	switch {
	case at(t, n) == '\'' && isLetter(at(t, n+1)) && plain && afterNumber(t[:i]): // 5 %d'augmentation, but not %s's name
		return i
	case digit && (after > 0 || strings.IndexByte("sd@", c) < 0) && !numbered: // 50%of
		return i
	case plain && strings.IndexByte(common, c) < 0 && after > 0: // the %age
		return i
	case plain && after > 2: // %share
		return i
	}
	return f.add(span{from: i, to: n, kind: Printf, ordered: !numbered})
}

// conversion returns the end of the flags, width, precision, length and letter of a
// conversion that stand from i on; i when they are none. A blank as a flag is prose:
// "50 % of it".
func conversion(t string, i int) int {
	j := i
	for j < len(t) && strings.IndexByte("+-#0,('", t[j]) >= 0 {
		j++
	}
	for j < len(t) && (isDigit(t[j]) || t[j] == '*' || t[j] == '$' && isDigit(t[j-1])) { // a width may be of another argument: *2$
		j++
	}
	bare := j == i
	if at(t, j) == '.' {
		for j++; j < len(t) && (isDigit(t[j]) || t[j] == '*'); j++ {
		}
	}
	k := j
	for k < len(t) && k < j+2 && strings.IndexByte("hlqLjzt", t[k]) >= 0 {
		k++
	}
	if k > j && k < len(t) && strings.IndexByte("diouxXeEfFgGaAcspn", t[k]) >= 0 {
		return k + 1
	}
	if at(t, j) == 't' || at(t, j) == 'T' { // Java: %tY
		if isLetter(at(t, j+1)) && !isLetter(at(t, j+2)) {
			return j + 2
		}
	}
	if j < len(t) && j-i < 16 && (strings.IndexByte(printf, t[j]) >= 0 || bare && strings.IndexByte(conversions, t[j]) >= 0) {
		return j + 1
	}
	return i
}

// brace looks for {name} and everything that looks like it.
func (f *finder) brace(i int) int {
	t := f.text
	switch at(t, i+1) {
	case '{':
		double := "}}"
		if at(t, i+2) == '{' {
			double = "}}}"
		}
		inside := t[i+len(double) : min(len(t), i+maxField)]
		n := strings.Index(inside, double)
		if whole := balanced(t, i, '{', '}'); n >= 0 && strings.Contains(inside[:n], "{") && whole > i && strings.HasSuffix(t[i:whole], double) {
			n = whole - i - 2*len(double) // Angular: {{ x | f:{a: 1} }}
		} else if n < 0 || strings.ContainsAny(inside[:n], "{\n") {
			return i
		}
		if n <= 0 || strings.TrimSpace(inside[:n]) == "" {
			return i
		}
		s := span{from: i, to: i + len(double) + n + len(double), kind: Brace}
		switch name := strings.TrimSpace(inside[:n]); name[0] { // Handlebars, Mustache
		case '#', '^':
			s.role, s.name = opens, "{{"+firstWord(name[1:])
		case '/':
			s.role, s.name = ends, "{{"+firstWord(name[1:])
		}
		return f.add(s)
	case '%', '#': // Jinja, Liquid, Twig
		if n := strings.Index(t[i+2:min(len(t), i+maxField)], t[i+1:i+2]+"}"); n > 0 {
			return f.add(span{from: i, to: i + n + 4, kind: Brace, role: lone})
		}
	case '}':
		return f.add(span{from: i, to: i + 2, kind: Brace, ordered: true})
	}
	j := i + 1
	for at(t, j) == ' ' && j < i+3 {
		j++
	}
	blank := j > i+1
	for j < len(t) && strings.IndexByte("$@#/^&!-", t[j]) >= 0 && j < i+4 {
		j++
	}
	begin := j
	for j < len(t) && j-i < maxField && (isName(t[j]) || t[j] == '[' && j > begin) {
		if t[j] == '[' { // Python: {a[0]}
			n := balanced(t, j, '[', ']')
			if n == j || strings.ContainsAny(t[j:n], " {}") {
				return i
			}
			j = n
			continue
		}
		j++
	}
	if t[j-1] == '-' && at(t, j) == '>' && t[i+1] == '$' { // PHP, Smarty: {$user->name}
		for j++; isWord(at(t, j)); j++ {
		}
	}
	if q := at(t, j); j == begin && (q == '\'' || q == '"') { // Vue: {'@'}, Fluent: {"x"}
		if n := balanced(t, i, '{', '}'); n > j+2 && strings.IndexByte(t[j+1:n], q) == len(strings.TrimRight(t[j+1:n-1], " "))-1 {
			return f.add(span{from: i, to: n, kind: Brace})
		}
		return i
	}
	if j > begin && (at(t, j) == '(' || at(t, j) == '?' && at(t, j+1) == '.') { // JSX: {t('key')}, {user?.name ?? 'x'}; Fluent: { NUMBER($n) }
		if n := balanced(t, i, '{', '}'); n > i {
			return f.add(span{from: i, to: n, kind: Brace})
		}
		return i
	}
	if j == begin && !(at(t, j) == ':' || at(t, j) == '!') { // Python: {:>10}
		return i
	}
	k := j
	for at(t, k) == ' ' || at(t, k) == '\t' || at(t, k) == '\n' {
		k++
	}
	switch at(t, k) {
	case '}':
		if k > j != blank || blank && begin == i+2 && !strings.ContainsAny(t[begin+1:j], "ABCDEFGHIJKLMNOPQRSTUVWXYZ_.0123456789") {
			return i // "{ and }" is prose, { $name } is Fluent's, { userName } is a program's
		}
		return f.add(span{from: i, to: k + 1, kind: Brace})
	case ',':
		return f.message(i, k)
	case '!', ':':
		if k > j || j == begin && blank {
			return i
		}
		n := balanced(t, i, '{', '}')
		if n == i {
			return i
		}
		spec := t[k:n]
		number := strings.Trim(t[begin:j], "0123456789") == "" && j > begin // .NET: {2:yyyy-MM-dd HH:mm}
		if strings.ContainsAny(spec, " \t") && !strings.Contains(spec, "%") && (!number || spec[1] == ' ') || len(spec) < 3 {
			return i
		}
		return f.add(span{from: i, to: n, kind: Brace, ordered: j == begin})
	case '|': // Weblate's and others' filters
		if n := balanced(t, i, '{', '}'); n > i && !strings.Contains(t[i:n], " ") {
			return f.add(span{from: i, to: n, kind: Brace})
		}
	}
	return i
}

func firstWord(s string) string {
	first, _, _ := strings.Cut(strings.TrimSpace(s), " ")
	return first
}

// message looks at what an ICU message has behind the comma at k: {count, plural, one {# file}
// other {# files}}, {0, number, #.##}; and at .NET's {0,10:F2}.
func (f *finder) message(i, k int) int {
	t := f.text
	j := k + 1
	for at(t, j) == ' ' || at(t, j) == '\n' {
		j++
	}
	begin := j
	for isWord(at(t, j)) || j == begin && at(t, j) == '-' {
		j++
	}
	switch t[begin:j] {
	case "plural", "select", "selectordinal":
		if at(t, j) != ',' {
			return i
		}
		n := branch(t, j+1)
		if n < 0 || len(f.depth) == 0 && !f.closes(i) {
			return i
		}
		f.add(span{from: i, to: j + 1, kind: Message, role: opens, name: "{"})
		f.depth = append(f.depth, 0)
		return f.add(span{from: j + 1, to: n, kind: Message, role: opens, name: "{", branch: true})
	case "number", "date", "time", "spellout", "ordinal", "duration", "choice", "list":
	default:
		digits := strings.TrimLeft(t[begin:j], "-")
		if digits == "" || strings.Trim(digits, "0123456789") != "" || at(t, j) != '}' && at(t, j) != ':' {
			return i
		}
	}
	if n := balanced(t, i, '{', '}'); n > i {
		return f.add(span{from: i, to: n, kind: Brace})
	}
	return i
}

// branch returns where the text of a branch begins whose keyword stands from i on, as in
// "one {"; -1 when none does.
func branch(t string, i int) int {
	space := func() {
		for i < len(t) && strings.IndexByte(" \t\r\n", t[i]) >= 0 {
			i++
		}
	}
	space()
	if strings.HasPrefix(t[i:], "offset:") {
		for i += len("offset:"); isDigit(at(t, i)); i++ {
		}
		space()
	}
	begin := i
	for i < len(t) && i-begin < 64 && (isName(t[i]) || t[i] == '=' && i == begin) {
		i++
	}
	if i == begin {
		return -1
	}
	space()
	if at(t, i) != '{' {
		return -1
	}
	return i + 1
}

// closes says whether the braces that open at i are closed. Once some are not, no more
// messages are looked for: to look again and again would cost the square of the length.
func (f *finder) closes(i int) bool {
	depth := 0
	for j := i; j < len(f.text) && !f.nomessage; j++ {
		switch f.text[j] {
		case '{':
			depth++
		case '}':
			if depth--; depth == 0 {
				return true
			}
		}
	}
	f.nomessage = true
	return false
}

// closing ends a branch of an ICU message, and begins its next one or ends the message.
func (f *finder) closing(i int) int {
	if len(f.depth) == 0 {
		return i
	}
	t := f.text
	f.add(span{from: i, to: i + 1, kind: Message, role: ends, name: "{"})
	if n := branch(t, i+1); n >= 0 {
		return f.add(span{from: i + 1, to: n, kind: Message, role: opens, name: "{", branch: true})
	}
	j := i + 1
	for j < len(t) && strings.IndexByte(" \t\r\n", t[j]) >= 0 {
		j++
	}
	if at(t, j) != '}' {
		return f.last
	}
	f.depth = f.depth[:len(f.depth)-1]
	return f.add(span{from: i + 1, to: j + 1, kind: Message, role: ends, name: "{"})
}

func (f *finder) dollar(i int) int {
	t := f.text
	switch {
	case at(t, i+1) == '{':
		if n := balanced(t, i+1, '{', '}'); n > i+3 {
			return f.add(span{from: i, to: n, kind: Brace})
		}
	case strings.HasPrefix(t[i:], "$t("):
		if n := balanced(t, i+2, '(', ')'); n > i+4 {
			return f.add(span{from: i, to: n, kind: Nesting})
		}
	case at(t, i+1) == '(': // VS Code: $(gear)
		if n := balanced(t, i+1, '(', ')'); n > i+3 && !strings.ContainsAny(t[i:n], " \t") {
			return f.add(span{from: i, to: n, kind: Nesting})
		}
	case (isLetter(at(t, i+1)) || at(t, i+1) == '_') && !wordBefore(t, i): // Chrome: $NAME$; shells, PHP: $NAME, $user->name, $a[key]
		j := i + 1
		for j < len(t) && j-i < 64 && (isWord(t[j]) || t[j] == '@') {
			j++
		}
		if at(t, j) == '$' {
			return f.add(span{from: i, to: j + 1, kind: Nesting})
		}
		if n := f.formula(i); n > i {
			return n
		}
		for t[j-1] == '@' {
			j--
		}
		if n := balanced(t, j, '[', ']'); n > j+2 && !strings.ContainsAny(t[j:n], " {/") {
			j = n
		}
		if strings.HasPrefix(t[j:], "->") && isLetter(at(t, j+2)) {
			for j += 2; isWord(at(t, j)); j++ {
			}
		}
		return f.add(span{from: i, to: j, kind: Nesting})
	}
	return f.formula(i)
}

func (f *finder) atSign(i int) int {
	t := f.text
	switch at(t, i+1) {
	case '@':
		for j := i + 2; j < len(t) && j-i < 64; j++ {
			if t[j] == '@' && j > i+2 && at(t, j+1) == '@' {
				return f.add(span{from: i, to: j + 2, kind: Mark})
			}
			if !isWord(t[j]) && t[j] != '-' {
				break
			}
		}
		return i
	case '{':
		if n := balanced(t, i+1, '{', '}'); n > i+3 {
			return f.add(span{from: i, to: n, kind: Brace})
		}
		return i
	case ':', '.': // Vue: @:key, @.lower:key, @:(key)
		j := i + 1
		if t[j] == '.' {
			for j++; isLetter(at(t, j)); j++ {
			}
		}
		if at(t, j) == ':' {
			begin := j + 1
			if at(t, begin) == '(' {
				if n := balanced(t, begin, '(', ')'); n > begin+2 && !strings.Contains(t[begin:n], " ") {
					return f.add(span{from: i, to: n, kind: Nesting})
				}
				return i
			}
			for j = begin; j < len(t) && isName(t[j]) && t[j] < utf8.RuneSelf; j++ {
			}
			for j > begin && t[j-1] == '.' {
				j--
			}
			if j > begin {
				return f.add(span{from: i, to: j, kind: Nesting})
			}
		}
		return i
	}
	// An address: what stands before the sign, and a host with a dot behind it.
	from := i
	for from > f.last && i-from < 64 && (isWord(t[from-1]) || strings.IndexByte(".+-", t[from-1]) >= 0) {
		from--
	}
	for from < i && (t[from] == '.' || t[from] == '-') {
		from++
	}
	if from == i {
		return i
	}
	j, dot := i+1, false
	for j < len(t) && j-i < maxField && (isLetter(t[j]) || isDigit(t[j]) || t[j] == '-' || t[j] == '.') {
		dot = dot || t[j] == '.' && isLetter(at(t, j+1))
		j++
	}
	for t[j-1] == '.' || t[j-1] == '-' {
		j--
	}
	if !dot || !isWord(at(t, i+1)) {
		return i
	}
	const mail = "mailto:"
	if from-len(mail) >= f.last && strings.EqualFold(t[from-len(mail):from], mail) {
		from -= len(mail)
	}
	return f.add(span{from: from, to: j, kind: Email})
}

// url looks for the address to which the colon at i belongs.
func (f *finder) url(i int) int {
	t := f.text
	if !strings.HasPrefix(t[i:], "://") {
		return i
	}
	from := i
	for from > f.last && i-from < 16 && (isLetter(t[from-1]) || isDigit(t[from-1]) || t[from-1] == '+' || t[from-1] == '-') {
		from--
	}
	for from < i && !isLetter(t[from]) {
		from++
	}
	n := urlEnd(t, i+3)
	if from == i || n == i+3 {
		return i
	}
	return f.add(span{from: from, to: n, kind: URL})
}

// urlEnd returns where the address ends that goes on at i: not with the sign that ends a
// sentence, nor with the bracket that it stands in. Scripts that put no blanks between
// words would go on with the sentence, so their letters are no part of it.
func urlEnd(t string, i int) int {
	j, round, square := i, 0, 0
	for j < len(t) {
		c := t[j]
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(t[j:])
			if !unicode.IsLetter(r) || unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Hangul, unicode.Thai, unicode.Lao, unicode.Khmer, unicode.Myanmar) {
				break
			}
			j += n
			continue
		}
		if !isWord(c) && strings.IndexByte("-._~:/?#[]@!$&'()*+,;=%", c) < 0 {
			break
		}
		switch c {
		case '(':
			round++
		case ')':
			if round--; round < 0 {
				return trimURL(t, i, j)
			}
		case '[':
			if bbcode().MatchString(t[j:min(len(t), j+maxField)]) {
				return trimURL(t, i, j)
			}
			square++
		case ']':
			if square--; square < 0 {
				return trimURL(t, i, j)
			}
		}
		j++
	}
	return trimURL(t, i, j)
}

func trimURL(t string, i, j int) int {
	for j > i && strings.IndexByte(".,;:!?'*_[]$&(", t[j-1]) >= 0 {
		j--
	}
	return j
}

// code looks for a code span (CommonMark 0.31, section 6.1), and a fenced block.
func (f *finder) code(i int) int {
	t := f.text
	n := 0
	for at(t, i+n) == '`' {
		n++
	}
	class := min(n, 3)
	if f.nofence[class] {
		return i + n
	}
	if n == 1 && strings.IndexByte(" \n\t'", at(t, i+1)) >= 0 {
		return i + 1 // prose: "the ` key", ``quoted''
	}
	for j := i + n; j < len(t); {
		k := strings.IndexByte(t[j:], '`')
		if k < 0 {
			break
		}
		j += k
		m := 0
		for at(t, j+m) == '`' {
			m++
		}
		if m == n {
			if n < 3 && strings.Contains(t[i:j], "\n\n") {
				return i + n
			}
			return f.add(span{from: i, to: j + n, kind: Code})
		}
		j += m
	}
	if n <= 3 {
		f.nofence[class] = true
	}
	return i + n
}

// entity looks for a character reference. In a text that is marked up those that stand for
// a letter, or for what every engine keeps, are read and so no placeholders.
func (f *finder) entity(i int) int {
	n := entityEnd(f.text, i)
	if n == i {
		if n = f.ownEntity(i); n == i {
			return i
		}
		return f.add(span{from: i, to: n, kind: Entity})
	}
	if f.o.Markup != Plain {
		if _, ok := readable(f.text[i:n], f.o.Markup); ok {
			return n
		}
	}
	return f.add(span{from: i, to: n, kind: Entity})
}

// afterNumber says whether a number is what t ends with, but for blanks.
func afterNumber(t string) bool {
	t = strings.TrimRight(t[max(0, len(t)-16):], " \u00a0\u202f")
	return t != "" && isDigit(t[len(t)-1])
}

// ownEntity looks for a reference to an entity that the document has of its own, as manuals
// have &product;. In prose R&D; is none.
func (f *finder) ownEntity(i int) int {
	t := f.text
	if i > 0 && f.o.Markup != XML && (isLetter(t[i-1]) || isDigit(t[i-1])) {
		return i
	}
	j := i + 1
	for j < len(t) && j-i < 64 && (isLetter(t[j]) || t[j] == '_' || j > i+1 && (isDigit(t[j]) || t[j] == '.' || t[j] == '-')) {
		j++
	}
	if at(t, j) != ';' || j < i+3 {
		return i
	}
	return j + 1
}

func entityEnd(t string, i int) int {
	j := i + 1
	if at(t, j) == '#' {
		j++
		begin := j
		if at(t, j)|0x20 == 'x' {
			j++
			begin++
			for j < len(t) && j-begin < 6 && (isDigit(t[j]) || t[j]|0x20 >= 'a' && t[j]|0x20 <= 'f') {
				j++
			}
		} else {
			for j < len(t) && j-begin < 7 && isDigit(t[j]) {
				j++
			}
		}
		if j > begin && at(t, j) == ';' {
			return j + 1
		}
		return i
	}
	for j < len(t) && j-i < 33 && (isLetter(t[j]) || isDigit(t[j])) {
		j++
	}
	if at(t, j) != ';' || j < i+3 {
		return i
	}
	if whole := t[i : j+1]; html.UnescapeString(whole) == whole || strings.HasSuffix(html.UnescapeString(whole), ";") {
		return i
	}
	return j + 1
}

// readable returns what an entity stands for, if engines are better shown that.
func readable(entity string, m Markup) (string, bool) {
	switch entity {
	case "&amp;":
		return "&", true
	case "&quot;", "&#34;":
		return `"`, true
	case "&apos;", "&#39;":
		return "'", true
	}
	if m == XML && entity[1] != '#' {
		return "", false // it may be declared otherwise
	}
	read := html.UnescapeString(entity)
	r, n := utf8.DecodeRuneInString(read)
	if n != len(read) || r < utf8.RuneSelf || r == 'х' || r == 'Х' {
		return "", false
	}
	return read, unicode.IsLetter(r) || strings.ContainsRune("–—…“”‘’«»¿¡", r)
}

var attribute = lazy.Regexp(`^(?:\s+[A-Za-z_:@#*\[(][\w:.@\-\])]*\s*=\s*(?:"[^"]*"|'[^']*'|[^\s"'<>` + "`" + `]+)|\s+(?:disabled|checked|hidden|required|readonly|selected|multiple|autofocus|async|defer|open|controls|loop|muted|autoplay|download|reversed|novalidate|allowfullscreen|ismap|itemscope))*\s*/?$`)

// angle looks for a tag, a comment, a declaration or an instruction.
func (f *finder) angle(i int) int {
	t := f.text
	for s := range Styles {
		if _, n := Style(s).parse(t, i); n > i {
			return f.add(span{from: i, to: n, kind: Mark})
		}
	}
	for k, frame := range frames {
		if strings.HasPrefix(t[i:], frame[0]) {
			from := i + len(frame[0])
			if f.framed[k] < from { // what was found for the one before stands behind this one as well
				f.framed[k] = len(t)
				if n := strings.Index(t[from:], frame[1]); n >= 0 {
					f.framed[k] = from + n
				}
			}
			if end := f.framed[k] + len(frame[1]); end <= min(len(t), i+16*maxTag) {
				return f.add(span{from: i, to: end, kind: Tag, role: lone})
			}
			return i
		}
	}
	if n := f.pod(i); n > i {
		return n
	}
	if n := f.chatted(i); n > i {
		return n
	}
	j := i + 1
	end := at(t, j) == '/'
	if end {
		j++
	}
	if at(t, j) == '!' && isLetter(at(t, j+1)) && f.o.Markup != Plain {
		j++
	}
	begin := j
	for j < len(t) && j-begin < 64 && (isName(t[j]) || t[j] == ':' && j > begin) {
		j++
	}
	name := t[begin:j]
	if name == "" || !isLetter(name[0]) && !isDigit(name[0]) && name[0] != '_' || at(t, j) == 0 {
		return i
	}
	if !end && (at(t, j) == '@' || strings.Contains(name, "://")) {
		return i
	}
	n := f.tagEnd(i, j)
	if n < 0 {
		return i
	}
	attributes := t[j : n-1]
	slash := strings.HasSuffix(attributes, "/")
	digits := strings.Trim(name, "0123456789") == ""
	if isDigit(name[0]) && !digits {
		return i
	}
	if f.o.Markup == Plain || digits {
		switch {
		case end && strings.TrimSpace(attributes) != "":
			return i
		case !attribute().MatchString(attributes):
			return i // "if a <b and c> d"
		}
	}
	s := span{from: i, to: n, kind: Tag, role: opens, name: name}
	if f.o.Markup != XML {
		s.name = strings.ToLower(name)
	}
	switch {
	case end:
		s.role = ends
	case slash, f.o.Markup != XML && void[s.name], t[i+1] == '!':
		s.role = lone
	default:
		s.ignore = f.o.ignores(s.name, attributes)
		if f.o.Markup != XML && (s.name == "script" || s.name == "style") {
			close := strings.Index(strings.ToLower(t[n:]), "</"+s.name)
			if close >= 0 {
				if m := strings.IndexByte(t[n+close:], '>'); m >= 0 {
					s.to, s.role = n+close+m+1, lone
				}
			}
		}
	}
	return f.add(s)
}

// tagEnd returns where the tag ends that began at i, whose name ends at j; -1 when it does not.
func (f *finder) tagEnd(i, j int) int {
	t := f.text
	for ; j < len(t) && j-i < maxTag; j++ {
		switch c := t[j]; c {
		case '>':
			return j + 1
		case '<':
			return -1
		case '"', '\'':
			q := &f.unquote[0]
			if c == '\'' {
				q = &f.unquote[1]
			}
			if j < *q {
				return -1 // no such sign up to there
			}
			limit := min(len(t), i+maxTag)
			n := strings.IndexByte(t[j+1:limit], c)
			if n < 0 {
				*q = limit
				return -1
			}
			j += n + 1
		}
	}
	return -1
}

// void are the elements without an end (WHATWG HTML standard, section 13.1.2).
var void = map[string]bool{
	"area": true, "base": true, "br": true, "col": true, "embed": true, "hr": true, "img": true, "input": true, "link": true, "meta": true,
	"source": true, "track": true, "wbr": true,
}

// native are the elements that hold code of another format: XLIFF 1.2, and Android's xliff:g,
// which says what is not to be translated.
var native = map[string]bool{"bpt": true, "ept": true, "ph": true, "it": true, "xliff:g": true}

var untranslated = lazy.Regexp(`(?i)\stranslate\s*=\s*["']?no\b|\smtype\s*=\s*["']protected["']|\sclass\s*=\s*(?:"[^"]*\bnotranslate\b|'[^']*\bnotranslate\b|notranslate\b)`)

// ignores says whether the content of an element is not to be translated.
func (o *Options) ignores(name, attributes string) bool {
	return slices.ContainsFunc(o.Ignore, func(n string) bool { return strings.EqualFold(n, name) }) || o.Markup != XML && (name == "code" || name == "kbd" || name == "samp" || name == "var") || o.Markup != HTML && native[name] ||
		attributes != "" && untranslated().MatchString(attributes)
}
