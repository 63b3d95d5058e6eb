package protect

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// mended makes a text with every placeholder once, of an answer that has lost some, or has
// them where they must not be. The first fixed items stay. Each further try trusts the
// answer less; the last one is the source.
func (t *Text) mended(kept []item, fixed int) string {
	// What an engine made up would be a placeholder too many.
	for i := fixed; i < len(kept); i++ {
		if kept[i].mark == 0 {
			kept[i].text = t.without(kept[i].text)
		}
	}
	missing := len(t.marks)
	for _, it := range kept {
		if it.mark > 0 {
			missing--
		}
	}
	tries := []func() []item{
		func() []item {
			if missing > mostPlaced {
				return nil // each costs a walk through all
			}
			return t.placed(kept, fixed)
		},
		func() []item { return t.laid(kept, fixed) },
		func() []item { return apart(t.laid(bare(kept, fixed), fixed)) },
	}
	for _, try := range tries {
		items := try()
		st := t.state()
		ok := true
		for _, it := range items {
			ok = ok && (it.mark == 0 || st.take(it.mark))
		}
		if text := t.join(items, true); ok && st.over() && t.same(text) {
			return text
		}
	}
	return t.source
}

// mostPlaced is the most marks that are looked for their places one by one.
const mostPlaced = 100

// without returns text without the placeholders in it.
func (t *Text) without(text string) string {
	spans := find(text, t.o)
	if spans == nil {
		return text
	}
	var b strings.Builder
	end := 0
	for _, s := range spans {
		b.WriteString(text[end:s.from])
		if end = s.to; strings.HasSuffix(text[:s.from], " ") && strings.HasPrefix(text[end:], " ") {
			end++
		}
	}
	return b.String() + text[end:]
}

// bare returns items whose texts have nothing in them that a placeholder may be made of.
func bare(items []item, fixed int) []item {
	out := append([]item(nil), items...)
	for i := fixed; i < len(out); i++ {
		if out[i].mark == 0 {
			out[i].text = strings.Map(func(r rune) rune {
				if r < utf8.RuneSelf && !unicode.IsLetter(r) && !unicode.IsDigit(r) && !unicode.IsSpace(r) && !strings.ContainsRune(".,;?!", r) {
					return -1
				}
				return r
			}, out[i].text)
		}
	}
	return out
}

// words splits the texts of items from fixed on into words and white space, so that marks
// can be put between them.
func words(items []item, fixed int) []item {
	out := append([]item(nil), items[:fixed]...)
	for _, it := range items[fixed:] {
		if it.mark != 0 {
			out = append(out, it)
			continue
		}
		begin, was := 0, -1
		for i, r := range it.text {
			class := 1
			switch {
			case unicode.IsSpace(r):
				class = 0
			case unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Thai, unicode.Lao, unicode.Khmer, unicode.Myanmar):
				class = 2
			}
			if was >= 0 && class != was || was == 2 && !unicode.IsMark(r) {
				out = append(out, item{text: it.text[begin:i]})
				begin = i
			}
			was = class
		}
		if begin < len(it.text) {
			out = append(out, item{text: it.text[begin:]})
		}
	}
	return out
}

// letters counts what stands between marks in the source, roughly, for the places of those
// that are missing.
func letters(s string) (n int) {
	for _, r := range s {
		if unicode.IsLetter(r) || unicode.IsDigit(r) {
			n++
		}
	}
	return n
}

// placed puts the marks that are missing where their neighbours stand: next to the one that
// they touched, else as far between the two as they stood in the source.
func (t *Text) placed(kept []item, fixed int) []item {
	items := words(kept, fixed)
	at := make([]int, len(t.marks)+2) // where a mark stands, from 1; 0: nowhere
	locate := func() {
		clear(at)
		for i, it := range items {
			if it.mark > 0 {
				at[it.mark] = i + 1
			}
		}
	}
	for n := 1; n <= len(t.marks); n++ {
		locate()
		if at[n] > 0 {
			continue
		}
		from := max(at[n-1], fixed) // the index behind the mark before it
		next := n + 1
		for next <= len(t.marks) && at[next] == 0 {
			next++
		}
		to := len(items)
		if next <= len(t.marks) {
			to = at[next] - 1
		}
		if to < from {
			to = len(items)
		}
		before, after := letters(t.runs[n-1]), 0
		for k := n; k < next && k < len(t.runs); k++ {
			after += letters(t.runs[k])
		}
		switch {
		case before == 0 && n > 1:
			to = from
		case after == 0:
			from = to
		default:
			from += between(items[from:to], before, before+after)
			to = from
		}
		items = t.put(items, from, n)
	}
	return t.tidy(items, fixed)
}

// between returns after how many items share of whole of the letters have passed, at the
// beginning of a word.
func between(items []item, share, whole int) int {
	total := 0
	for _, it := range items {
		total += letters(it.text)
	}
	passed := 0
	best, off := len(items), abs(total*(whole-share)) // behind the last one
	for i, it := range items {
		if it.mark != 0 {
			continue
		}
		if d := abs(passed*whole - share*total); d < off && strings.TrimSpace(it.text) != "" {
			best, off = i, d
		}
		passed += letters(it.text)
	}
	return best
}

func abs(n int) int { return max(n, -n) }

// put inserts mark n at i. What ends an element stands behind the word, and not behind the
// blank that follows it.
func (t *Text) put(items []item, i, n int) []item {
	m := &t.marks[n-1]
	if m.structure && len(m.effects) > 0 && m.effects[0].ends && i > 0 && items[i-1].blank() {
		i--
	}
	it := item{mark: n, put: true}
	if i == len(items) {
		return append(items, it)
	}
	return append(items[:i:i], append([]item{it}, items[i:]...)...)
}

func (it item) blank() bool { return it.mark == 0 && strings.TrimSpace(it.text) == "" }

// tidy gives marks that were put the blanks that they had in the source, and leaves one of
// several.
func (t *Text) tidy(items []item, fixed int) []item {
	out := items[:fixed:fixed]
	for i, it := range items[fixed:] {
		last := len(out) - 1
		switch {
		case last < 0 || last < fixed:
		case it.blank() && out[last].blank():
			if strings.Contains(it.text, "\n") {
				out[last].text = it.text
			}
			continue
		case (it.put || out[last].put) && t.loose(out[last], it):
			out = append(out, item{text: " "})
		}
		if it.blank() && i == len(items)-fixed-1 && last >= 0 && out[last].put {
			break // no blank at the end that the answer had before what was put there
		}
		out = append(out, it)
	}
	return out
}

// loose says whether a and b, neither of them a blank, were apart in the source.
func (t *Text) loose(a, b item) bool {
	if a.blank() || b.blank() {
		return false
	}
	if a.mark == 0 {
		r, _ := utf8.DecodeLastRuneInString(a.text)
		return !strings.ContainsRune("([{«“‘¿¡", r) && t.spaced(b.mark-1, true)
	}
	if b.mark == 0 {
		r, _ := utf8.DecodeRuneInString(b.text)
		return (unicode.IsLetter(r) || unicode.IsDigit(r)) && t.spaced(a.mark, false)
	}
	return t.spaced(a.mark, false) && t.spaced(b.mark-1, true)
}

// spaced says whether run i has white space at its end, where a mark follows, or at its
// beginning, where one went before. Nothing touches a mark at an end of the text.
func (t *Text) spaced(i int, end bool) bool {
	run := t.runs[i]
	if run == "" {
		return end && i == 0 || !end && i == len(t.marks)
	}
	r, _ := utf8.DecodeRuneInString(run)
	if end {
		r, _ = utf8.DecodeLastRuneInString(run)
	}
	return unicode.IsSpace(r)
}

// laid puts all marks that have not left into the order of the source, as far along the
// text as they stood there: the order in which everything is nested as it was. What has
// begun ends first.
func (t *Text) laid(kept []item, fixed int) []item {
	st := t.state()
	for _, it := range kept[:fixed] {
		if it.mark > 0 {
			st.take(it.mark)
		}
	}
	var text []item
	for _, it := range kept[fixed:] {
		if it.mark == 0 {
			text = append(text, it)
		}
	}
	order := t.order(st)
	items := append([]item(nil), kept[:fixed]...)
	rest := words(text, 0)
	total := 0
	for _, it := range rest {
		total += letters(it.text)
	}
	whole, passed := 0, make([]int, len(t.marks)+1)
	for i, run := range t.runs {
		whole += letters(run)
		if i < len(t.marks) {
			passed[i+1] = whole
		}
	}
	done, i := 0, 0
	for _, n := range order {
		for i < len(rest) && (done*whole < passed[n]*total || strings.TrimSpace(rest[i].text) == "") {
			done += letters(rest[i].text)
			items = append(items, rest[i])
			i++
		}
		items = t.put(items, len(items), n)
	}
	return t.tidy(append(items, rest[i:]...), fixed)
}

// order returns the marks that st has not seen, in the order of the source, but for what
// must come first because of what is open: the rest of the innermost element, and its end.
func (t *Text) order(st *state) (order []int) {
	left := []int{}
	for n := 1; n <= len(t.marks); n++ {
		if !st.seen[n] {
			left = append(left, n)
		}
	}
	for len(left) > 0 {
		taken := -1
		for i, n := range left {
			if st.take(n) {
				taken = i
				break
			}
		}
		if taken < 0 {
			return append(order, left...) // cannot be right; who looks will see that
		}
		order = append(order, left[taken])
		left = append(left[:taken], left[taken+1:]...)
	}
	return order
}
