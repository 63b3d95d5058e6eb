package glossary

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"github.com/dragoman-mt/dragoman/core"
)

// A grammar says what forms of a word the languages of one class have, as far as the
// check of a translation goes.
type grammar struct {
	// longer is by how many letters a form may be longer than the term.
	longer int
	// within says that a word may be a part of a longer one, as in German.
	within bool
	// before are the letters that may stand before a word and belong to it, such as the
	// article of Arabic.
	before string
}

// usual holds for every language that has no other.
var usual = grammar{longer: 4}

var grammars = func() map[string]grammar {
	all := map[string]grammar{}
	for languages, g := range map[string]grammar{
		"de nl sv da nb nn no is af lb fy": {longer: 4, within: true},
		"fi et hu":                         {longer: 12, within: true},
		"tr az kk ky uz tk tt eu ka ta te ml kn mn qu sw zu xh eo": {longer: 12},
		"ar fa ur": {longer: 4, before: "الوفبك"},
		"he yi":    {longer: 4, before: "הובלכשמ"},
	} {
		for _, l := range strings.Fields(languages) {
			all[l] = g
		}
	}
	return all
}()

// mostBefore is how many letters may stand before a word and belong to it.
const mostBefore = 3

// Missed returns those of terms whose translation does not occur in translation, a text
// in target. The README says which forms of a word are taken for it.
func Missed(terms []core.Pair, target core.Language, translation string) (missed []core.Pair) {
	g, ok := grammars[target.Base()]
	if !ok {
		g = usual
	}
	in, have := forms{}, false
	for _, t := range terms {
		want := forms{}
		want.of(t.Target)
		if len(want.all) == 0 { // signs alone
			if !strings.Contains(translation, t.Target) {
				missed = append(missed, t)
			}
			continue
		}
		if !have {
			in.of(translation)
			have = true
		}
		if !g.occur(want.all, in.all) {
			missed = append(missed, t)
		}
	}
	return missed
}

// forms are the words of a text, without its signs.
type forms struct {
	all   []form
	runes []rune // of all
}

// A form is a word without case and accents.
type form struct {
	letters []rune
	kind    kind
}

func (f *forms) of(text string) {
	w := wordsOf(text)
	defer w.done()
	f.all, f.runes = make([]form, 0, len(w.all)), make([]rune, 0, len(w.fold))
	for i := range w.all {
		if w.all[i].kind != sign {
			from := len(f.runes)
			f.bare(w.folded(i))
			f.all = append(f.all, form{f.runes[from:len(f.runes):len(f.runes)], w.all[i].kind})
		}
	}
}

// bare takes a folded word without its accents, which change from form to form: Haus,
// Häuser; umowa, umów.
func (f *forms) bare(folded []byte) {
	for i := 0; i < len(folded); {
		r, n := utf8.DecodeRune(folded[i:])
		if r < utf8.RuneSelf {
			f.runes = append(f.runes, r)
			i += n
			continue
		}
		decomposed := norm.NFD.Properties(folded[i:]).Decomposition()
		if decomposed == nil {
			decomposed = folded[i : i+n]
		}
		i += n
		for len(decomposed) > 0 {
			r, n := utf8.DecodeRune(decomposed)
			decomposed = decomposed[n:]
			switch {
			case unicode.Is(unicode.Mn, r):
			case r == 'ß':
				f.runes = append(f.runes, 's', 's')
			case r == 'ı':
				f.runes = append(f.runes, 'i')
			default:
				f.runes = append(f.runes, r)
			}
		}
	}
}

// occur says whether want occurs in words, one word after the other.
func (g grammar) occur(want, words []form) bool {
	for i := 0; i+len(want) <= len(words); i++ {
		all := true
		for j := range want {
			if all = g.alike(want[j], words[i+j]); !all {
				break
			}
		}
		if all {
			return true
		}
	}
	return false
}

// alike says whether have may be a form of the term's word want.
func (g grammar) alike(want, have form) bool {
	if want.kind != letters || have.kind != letters {
		return slices.Equal(want.letters, have.letters)
	}
	stem := want.letters[:len(want.letters)-ending(len(want.letters))]
	for n := 0; n <= mostBefore && n < len(have.letters); n++ {
		if n > 0 && (g.before == "" || !strings.ContainsRune(g.before, have.letters[n-1])) {
			break
		}
		rest := have.letters[n:]
		if len(rest) <= len(want.letters)+g.longer && begins(rest, stem) {
			return true
		}
	}
	if !g.within || len(stem) < 4 {
		return false
	}
	for i := 0; i+len(stem) <= len(have.letters); i++ {
		if begins(have.letters[i:], stem) {
			return true
		}
	}
	return false
}

func begins(letters, with []rune) bool {
	return len(letters) >= len(with) && slices.Equal(letters[:len(with)], with)
}

// ending is how many letters at the end of a word of n may change from form to form.
func ending(n int) int {
	switch {
	case n <= 3:
		return 0
	case n <= 5:
		return 1
	case n <= 7:
		return 2
	}
	return 3
}
