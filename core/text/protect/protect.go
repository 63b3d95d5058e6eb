// Package protect takes what is not language out of a text before an engine sees it, and
// puts it back into the answer: placeholders, tags, addresses, code. Engines translate
// them, lose them, double them, and write blanks into them.
//
// What is taken out is replaced by marks, which engines keep better than what they stand
// for, and which carry a number, so that each can be found again whatever an engine did to
// it. Restore gives back a text in which each placeholder stands exactly once, byte for
// byte, nested as it was, or says that the answer does not tell where, with the best that
// can be made of it.
//
// A text without placeholders costs one pass and no allocation.
package protect

import (
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A Markup says what a text is written in. Tags are placeholders in all of them; where
// there is markup, character references are read, and what engines answer is escaped.
type Markup uint8

const (
	Plain Markup = iota
	HTML
	XML
)

// Options say what is a placeholder beside what always is one. They are not changed while
// they are used.
type Options struct {
	Markup Markup
	// Ignore are names of elements whose content comes back as it is.
	Ignore []string
	// Patterns match what else is a placeholder.
	Patterns []*regexp.Regexp
}

// A Text is a text with placeholders.
type Text struct {
	source    string
	o         *Options
	spans     []span
	elements  []element
	marks     []mark
	runs      []string // what stands before, between and behind the marks
	pre, post string   // what stands round all that
	begin     []effect // of pre
	end       []effect // of post
}

// An element is a pair of tags, or a message or one of its branches, that has words in it.
type element struct {
	parent int
	branch bool
}

// An effect is that an element begins or ends.
type effect struct {
	element int
	ends    bool
}

// A mark stands for one placeholder, or for several that touch.
type mark struct {
	text      string
	effects   []effect
	structure bool
	ordered   bool
	in        int // the branch that it must stay in; -1 for none
}

// Of finds the placeholders of text; nil when there are none and it is not marked up.
func Of(text string, o *Options) *Text {
	spans := find(text, o)
	if spans == nil && o.Markup == Plain {
		return nil
	}
	t := &Text{source: text, o: o, spans: spans}
	pair(spans)
	t.group(text)
	t.strip()
	return t
}

// Kinds are those of the placeholders, each as often as it stands in the text.
func (t *Text) Kinds() []Kind {
	kinds := make([]Kind, len(t.spans))
	for i, s := range t.spans {
		kinds[i] = s.kind
	}
	return kinds
}

// Nothing says that the text has nothing to translate.
func (t *Text) Nothing() bool { return !slices.ContainsFunc(t.runs, hasLetter) }

// Marks is how many marks are sent.
func (t *Text) Marks() int { return len(t.marks) }

func hasLetter(s string) bool { return strings.IndexFunc(s, unicode.IsLetter) >= 0 }

// pair finds the elements: a tag that has no partner stands by itself.
func pair(spans []span) {
	var open []int
	for i := range spans {
		s := &spans[i]
		switch s.role {
		case opens:
			open = append(open, i)
		case ends:
			at := len(open) - 1
			for at >= 0 && spans[open[at]].name != s.name {
				at--
			}
			if at < 0 {
				continue
			}
			spans[open[at]].partner, s.partner = i, open[at]
			open = open[:at]
		}
	}
	for i := range spans {
		if s := &spans[i]; s.partner < 0 && s.role != atom {
			s.role = lone
		}
	}
}

// group makes the marks: an element without words is one with all that is in it, and so are
// neighbours that touch.
func (t *Text) group(text string) {
	s := t.spans
	quiet := make([]int, len(s)+1) // how many gaps with letters stand before a span
	for i := range s {
		quiet[i+1] = quiet[i]
		if i+1 < len(s) && s[i].to < s[i+1].from && hasLetter(text[s[i].to:s[i+1].from]) {
			quiet[i+1]++
		}
	}
	whole := func(i int) int { // the last span of the mark that begins at i, when that is an element
		j := s[i].partner
		if s[i].role == opens && j > i && (quiet[j] == quiet[i] || s[i].ignore) {
			return j
		}
		return -1
	}
	numbers := make([]int, len(s))
	var stack []int
	end := 0
	for i := 0; i < len(s); {
		m := mark{in: -1}
		for _, e := range stack {
			if t.elements[e].branch {
				m.in = e
			}
		}
		j := whole(i)
		if j < 0 {
			m.structure = s[i].role != atom
			for j = i; ; j++ {
				if s[j].role == opens || s[j].role == ends {
					var e effect
					if s[j].role == opens {
						parent := -1
						if len(stack) > 0 {
							parent = stack[len(stack)-1]
						}
						e.element, numbers[j] = len(t.elements), len(t.elements)
						t.elements = append(t.elements, element{parent: parent, branch: s[j].branch})
						stack = append(stack, e.element)
					} else {
						e = effect{numbers[s[j].partner], true}
						stack = stack[:len(stack)-1]
					}
					m.effects = append(m.effects, e)
				}
				if j+1 == len(s) || s[j+1].from != s[j].to || (s[j+1].role == atom) == m.structure || whole(j+1) > 0 {
					break
				}
			}
		}
		for k := i; k <= j; k++ {
			m.ordered = m.ordered || s[k].ordered
		}
		m.text = text[s[i].from:s[j].to]
		t.runs = append(t.runs, text[end:s[i].from])
		t.marks = append(t.marks, m)
		i, end = j+1, s[j].to
	}
	t.runs = append(t.runs, text[end:])
}

// strip takes the structure off that stands round the whole text, and white space with it:
// no engine needs to see that.
func (t *Text) strip() {
	n := len(t.marks)
	lead, tail := 0, 0
	for lead < n && t.marks[lead].structure && !hasWord(t.runs[lead]) {
		lead++
	}
	for tail < n-lead && t.marks[n-1-tail].structure && !hasWord(t.runs[n-tail]) {
		tail++
	}
	for again := true; again; {
		again = false
		begun, ended := map[int]bool{}, map[int]bool{}
		for _, m := range t.marks[:lead] {
			for _, e := range m.effects {
				begun[e.element] = true
			}
		}
		for _, m := range t.marks[n-tail:] {
			for _, e := range m.effects {
				ended[e.element] = true
			}
		}
		both := func(m mark, other map[int]bool) bool {
			for _, e := range m.effects {
				el := t.elements[e.element]
				if !other[e.element] && !(el.branch && other[el.parent]) {
					return false
				}
			}
			return true
		}
		for i := range lead {
			if !both(t.marks[i], ended) {
				lead, again = i, true
				break
			}
		}
		for i := range tail {
			if !both(t.marks[n-1-i], begun) {
				tail, again = i, true
				break
			}
		}
	}
	var pre, post strings.Builder
	for i := range lead {
		pre.WriteString(t.runs[i] + t.marks[i].text)
		t.begin = append(t.begin, t.marks[i].effects...)
	}
	for i := n - tail; i < n; i++ {
		post.WriteString(t.marks[i].text + t.runs[i+1])
		t.end = append(t.end, t.marks[i].effects...)
	}
	t.marks, t.runs = t.marks[lead:n-tail], t.runs[lead:n-tail+1]
	first, last := &t.runs[0], &t.runs[len(t.runs)-1]
	bare := strings.TrimLeftFunc(*first, unicode.IsSpace)
	pre.WriteString((*first)[:len(*first)-len(bare)])
	*first = bare
	bare = strings.TrimRightFunc(*last, unicode.IsSpace)
	t.post = (*last)[len(bare):] + post.String()
	*last = bare
	t.pre = pre.String()
}

func hasWord(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return !unicode.IsSpace(r) }) >= 0
}

// Masked returns the text with marks of the style in place of its placeholders; false when
// the text has something in it that would be taken for such a mark.
func (t *Text) Masked(s Style) (string, bool) {
	if len(t.marks) > MaxMarks {
		return "", false
	}
	var b strings.Builder
	runs := make([]string, len(t.runs))
	for i, run := range t.runs {
		runs[i] = t.read(run)
		b.WriteString(runs[i])
		if i < len(t.marks) {
			b.WriteString(s.mark(i + 1))
		}
	}
	masked := b.String()
	got := s.items(masked)
	i := 0
	for k, run := range runs {
		if run != "" {
			if i == len(got) || got[i].mark != 0 || got[i].text != run {
				return "", false
			}
			i++
		}
		if k < len(t.marks) {
			if i == len(got) || got[i].mark != k+1 {
				return "", false
			}
			i++
		}
	}
	return masked, i == len(got)
}

// read returns what an engine is to see of marked-up text.
func (t *Text) read(run string) string {
	if t.o.Markup == Plain || !strings.Contains(run, "&") {
		return run
	}
	var b strings.Builder
	for i := 0; i < len(run); {
		if run[i] == '&' {
			if n := entityEnd(run, i); n > i {
				if c, ok := readable(run[i:n], t.o.Markup); ok {
					b.WriteString(c)
					i = n
					continue
				}
			}
		}
		b.WriteByte(run[i])
		i++
	}
	return b.String()
}

var escaper = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")

// written is the opposite of read, for what an engine answered.
func (t *Text) written(run string) string {
	if t.o.Markup == Plain {
		return run
	}
	return escaper.Replace(run)
}

// An item is a piece of an answer: text, or a mark when that is not 0.
type item struct {
	text string
	mark int
	odd  bool // the mark was not written as it was sent
	put  bool // it was missing, and put there
}

// items splits an answer.
func (s Style) items(answer string) (all []item) {
	begin := 0
	for i := 0; i < len(answer); {
		n, end := 0, i
		if triggers[answer[i]] || answer[i] >= utf8.RuneSelf {
			n, end = s.parse(answer, i)
		}
		if end == i {
			i++
			continue
		}
		if i > begin {
			all = append(all, item{text: answer[begin:i]})
		}
		it := item{text: answer[i:end], mark: n, odd: answer[i:end] != s.mark(n)}
		if n == 0 {
			it.mark = -1 // no mark of ours has that number
		}
		all = append(all, it)
		i, begin = end, end
	}
	if begin < len(answer) {
		all = append(all, item{text: answer[begin:]})
	}
	return all
}

// A state is where one is among the elements.
type state struct {
	t     *Text
	stack []int
	seen  []bool
	last  int // the last ordered mark
}

func (t *Text) state() *state {
	s := &state{t: t, seen: make([]bool, len(t.marks)+1)}
	s.run(t.begin)
	return s
}

// run applies effects, and says whether they fit.
func (s *state) run(effects []effect) bool {
	for _, e := range effects {
		top := -1
		if len(s.stack) > 0 {
			top = s.stack[len(s.stack)-1]
		}
		switch {
		case e.ends && top != e.element, !e.ends && top != s.t.elements[e.element].parent:
			return false
		case e.ends:
			s.stack = s.stack[:len(s.stack)-1]
		default:
			s.stack = append(s.stack, e.element)
		}
	}
	return true
}

// take notes that mark n stands here, and says whether it may.
func (s *state) take(n int) bool {
	if n < 1 || n > len(s.t.marks) || s.seen[n] {
		return false
	}
	m := &s.t.marks[n-1]
	if m.ordered && n < s.last || !s.in(m) {
		return false
	}
	if len(m.effects) > 0 {
		before := slices.Clone(s.stack)
		if !s.run(m.effects) {
			s.stack = before
			return false
		}
	}
	s.seen[n] = true
	if m.ordered {
		s.last = n
	}
	return true
}

// in says whether m may stand in the branch that is open.
func (s *state) in(m *mark) bool {
	in := -1
	for _, e := range s.stack {
		if s.t.elements[e].branch {
			in = e
		}
	}
	return in == m.in
}

// over says whether all marks were there and the structure ends where the text does.
func (s *state) over() bool {
	return !slices.Contains(s.seen[1:], false) && s.run(s.t.end) && len(s.stack) == 0
}

// A Finding is what was found in an answer.
type Finding uint8

const (
	Clean    Finding = iota // each mark once, as it was sent
	Repaired                // blanks, case, digits, doubles: it is plain what was meant
	Damaged                 // it does not tell where each placeholder belongs
)

// Restore puts the placeholders into answer, which is about Masked(s). When it finds
// Damaged, text is the best that can be made of the answer: what is missing stands where
// its neighbours do.
func (t *Text) Restore(answer string, s Style) (text string, found Finding) {
	text, found, _ = t.restore(s.items(answer), 0)
	return text, found
}

// restore puts the placeholders in. The first fixed items have left and stay as they are;
// sent is what they became.
func (t *Text) restore(items []item, fixed int) (text string, found Finding, sent string) {
	kept, fixed, found := t.keep(items, fixed)
	sent = t.join(kept[:fixed], false)
	if found != Damaged {
		if text = t.join(kept, true); t.same(text) {
			return text, found, sent
		}
		if fixed == 0 {
			if text = t.join(apart(kept), true); t.same(text) {
				return text, Repaired, sent
			}
		}
	}
	t.reorder(items, fixed)
	kept, fixed, _ = t.keep(items, fixed)
	return t.mended(kept, fixed), Damaged, sent
}

// keep returns the items that are where they may be, how many of these have left, and what
// was found.
func (t *Text) keep(items []item, fixed int) (kept []item, left int, found Finding) {
	st := t.state()
	whole, dropped := true, false
	blank := func() bool { // nothing stands before, or white space
		if len(kept) == 0 {
			return true
		}
		r, _ := utf8.DecodeLastRuneInString(kept[len(kept)-1].text)
		return kept[len(kept)-1].mark == 0 && unicode.IsSpace(r)
	}
	for i, it := range items {
		switch {
		case it.mark == 0:
			if dropped && blank() {
				it.text = strings.TrimLeft(it.text, " ")
			}
			dropped = false
			if it.text != "" {
				kept = append(kept, it)
			}
		case st.take(it.mark):
			if it.odd {
				found = max(found, Repaired)
			}
			dropped = false
			kept = append(kept, it)
		default: // a double, or a mark that nobody sent, unless it stands where it must not
			found, dropped = max(found, Repaired), true
			if it.mark > 0 && it.mark <= len(t.marks) && !st.seen[it.mark] {
				whole = false
			}
		}
		if i < fixed {
			left = len(kept)
		}
	}
	if n := len(kept) - 1; dropped && n >= left && kept[n].mark == 0 {
		kept[n].text = strings.TrimRight(kept[n].text, " ")
	}
	if !whole || !st.over() {
		found = Damaged
	}
	return kept, left, found
}

// reorder gives ordered marks that have not left the order of the source, since what fills
// them depends on that, and swaps the ends of elements that stand the wrong way round.
func (t *Text) reorder(items []item, fixed int) {
	var at, numbers []int
	for i := fixed; i < len(items); i++ {
		if n := items[i].mark; n > 0 && n <= len(t.marks) && t.marks[n-1].ordered && !slices.Contains(numbers, n) {
			at, numbers = append(at, i), append(numbers, n)
		}
	}
	slices.Sort(numbers)
	for k, i := range at {
		items[i].mark = numbers[k]
	}
	// An element that ends before it begins is the other way round.
	ended := map[int]int{} // where the end of an element stands
	for i := fixed; i < len(items); i++ {
		n := items[i].mark
		if n < 1 || n > len(t.marks) || len(t.marks[n-1].effects) != 1 {
			continue
		}
		e := t.marks[n-1].effects[0]
		switch other, ok := ended[e.element]; {
		case e.ends && !ok:
			ended[e.element] = i
		case !e.ends && ok:
			items[i].mark, items[other].mark = items[other].mark, n
			delete(ended, e.element)
		}
	}
}

// join writes items out.
func (t *Text) join(items []item, all bool) string {
	var b strings.Builder
	if all || len(items) > 0 {
		b.WriteString(t.pre)
	}
	for _, it := range items {
		if it.mark > 0 {
			b.WriteString(t.marks[it.mark-1].text)
		} else {
			b.WriteString(t.written(it.text))
		}
	}
	if all {
		b.WriteString(t.post)
	}
	return b.String()
}

// same says whether text has the placeholders of the source, each as often, and no others.
// Two may have become one where they met, or one with a word.
func (t *Text) same(text string) bool {
	got := find(text, t.o)
	want := counts(t.source, t.spans)
	for _, s := range got {
		what := text[s.from:s.to]
		n, known := want[what]
		switch {
		case s.kind == Entity && t.o.Markup != Plain && n <= 0:
			continue // an engine may write a sign that is escaped
		case !known || n == 0:
			return false
		}
		want[what] = n - 1
	}
	for _, n := range want {
		if n > 0 {
			return false
		}
	}
	return true
}

func counts(text string, spans []span) map[string]int {
	all := make(map[string]int, len(spans))
	for _, s := range spans {
		all[text[s.from:s.to]]++
	}
	return all
}

// apart returns items with a blank between each mark that stands for a word and what
// touches it.
func apart(items []item) (out []item) {
	for i, it := range items {
		if i > 0 && (it.mark > 0 || items[i-1].mark > 0) {
			out = append(out, item{text: " "})
		}
		out = append(out, it)
	}
	return out
}
