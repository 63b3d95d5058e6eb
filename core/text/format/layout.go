package format

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// A unit is what a line is not broken within: a word with its punctuation, or a character
// of a script that is written without blanks.
type unit struct {
	text  string
	space bool // a blank stands before it
}

// units splits text where a line may break.
func units(text string, most int) (all []unit) {
	for i, word := range strings.Fields(text) {
		space, begin, n := i > 0, 0, 0
		var before rune
		for at, c := range word {
			if at > begin && (n >= most || spaceless(before) && !clings(c) && !opens(before) || spaceless(c) && !opens(before) && !unicode.IsPunct(before)) {
				all = append(all, unit{word[begin:at], space})
				space, begin, n = false, at, 0
			}
			before, n = c, n+1
		}
		all = append(all, unit{word[begin:], space})
	}
	return all
}

// spaceless says whether c is of a script that is written without blanks between words.
func spaceless(c rune) bool {
	return c >= 0x0e00 && unicode.In(c, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Thai, unicode.Lao, unicode.Khmer, unicode.Myanmar)
}

// clings says whether no line begins with c: what ends a clause, and marks on a letter.
func clings(c rune) bool {
	return unicode.In(c, unicode.Mn, unicode.Mc, unicode.Pe, unicode.Pf, unicode.Po, unicode.Lm) || strings.ContainsRune("ぁぃぅぇぉっゃゅょァィゥェォッャュョー", c)
}

func opens(c rune) bool { return unicode.In(c, unicode.Ps, unicode.Pi) }

func joined(all []unit) string {
	var b strings.Builder
	for i, u := range all {
		if i > 0 && u.space {
			b.WriteByte(' ')
		}
		b.WriteString(u.text)
	}
	return b.String()
}

func width(all []unit) (n int) {
	for i, u := range all {
		if i > 0 && u.space {
			n++
		}
		n += utf8.RuneCountInString(u.text)
	}
	return n
}

// share lays a text out over places of which each has had so much: in their order, broken
// where its parts are nearest to that, behind punctuation rather. Where there are more places
// than units the last one is shown again.
func share(text string, had []int, most int) []string {
	all := units(text, most)
	total, whole := 0, width(all)
	for _, n := range had {
		total += max(n, 1)
	}
	out := make([]string, len(had))
	at, sum := 0, 0
	for i, n := range had {
		sum += max(n, 1)
		if i == len(had)-1 {
			out[i] = joined(all[at:])
		} else {
			want := whole * sum / total
			end := min(at+1, len(all))
			last := len(all) - (len(had) - 1 - i) // so that something is left for each
			best := 1 << 30
			for k := end; k <= max(last, end) && k <= len(all); k++ {
				off := width(all[:k]) - want
				if off > 2*most {
					break
				}
				if off < 0 {
					off = -off
				}
				if k > at && ends(all[k-1].text) {
					off -= 6
				}
				if off < best {
					best, end = off, k
				}
			}
			out[i] = joined(all[at:end])
			at = end
		}
		if out[i] == "" && i > 0 {
			out[i] = out[i-1]
		}
	}
	return out
}

// ends says whether a line is well broken after word.
func ends(word string) bool {
	c, _ := utf8.DecodeLastRuneInString(word)
	return strings.ContainsRune(",;:.!?…、。，！？", c)
}

// wrap breaks text into lines of at most most code points: as few as it takes, of about the
// same length.
func wrap(text string, most int) (lines []string) {
	all := units(text, most)
	narrow := most
	if w := width(all); w > most {
		n := len(fill(all, most))
		for narrow = min(most, (w+n-1)/n); narrow < most && len(fill(all, narrow)) > n; narrow++ {
		}
	}
	for _, line := range fill(all, narrow) {
		lines = append(lines, joined(line))
	}
	return lines
}

// fill puts units into lines, as many into each as fit.
func fill(all []unit, most int) (lines [][]unit) {
	begin, n := 0, 0
	for i, u := range all {
		w := utf8.RuneCountInString(u.text)
		if u.space && i > begin {
			w++
		}
		if i > begin && n+w > most {
			lines = append(lines, all[begin:i])
			begin, n = i, 0
			w = utf8.RuneCountInString(u.text)
		}
		n += w
	}
	return append(lines, all[begin:])
}
