package postprocess

import (
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/dragoman-mt/dragoman/core"
)

// echoed finds the text itself in place of its translation. Names, numbers,
// code and titles are the same in many languages, so equality says nothing by
// itself: what counts are words that belong to the grammar of the source
// language and not to that of the target's, among ordinary words.
func echoed(q *question, answer string) finding {
	if q.spend(len(answer)); !strings.EqualFold(q.source, answer) {
		return q.holds(answer)
	}
	if q.echo == nil {
		q.spend(4 * len(q.source))
		found := q.words.untranslated(q.req, q.source)
		q.echo = &found
	}
	return *q.echo
}

// holds finds the text, word for word, in an answer that has as much again, of which it
// cannot be told what the translation is. A name or a title may stand in its translation.
func (q *question) holds(answer string) finding {
	if len(answer) <= len(q.source) || !strings.Contains(answer, q.source) || !q.speaks() {
		return finding{}
	}
	q.spend(len(answer) + len(q.source))
	if own := weight(q.source); 2*(weight(answer)-own) < own {
		return finding{}
	}
	return finding{kind: core.BadAnswer, detail: "the answer holds the text itself", flag: FlagUntranslated}
}

// untranslated is what is found when source is its own translation.
func (v *vocabulary) untranslated(req *core.Request, source string) finding {
	from, to := req.Source.Base(), req.Target.Base()
	if from == to {
		return finding{}
	}
	if foreign, native := alien(source, req.Target); foreign >= 4 && foreign > native {
		if foreign >= 12 {
			return finding{kind: core.BadAnswer, detail: "the answer is the text itself", flag: FlagUntranslated}
		}
		return finding{flag: FlagUntranslated}
	}
	if looksLikeCode(source) {
		return finding{}
	}
	found := evidence{}
	if from != "" {
		found = v.grammarOf(source, from, to)
	} else {
		// Whether the text is in the target language already, only its own
		// words can tell.
		if v.grammarOf(source, to, "").words > 0 {
			return finding{}
		}
		_, found = v.guess(source, to)
	}
	switch certain := found.all >= 8 || found.all >= 6 && found.words >= 3; {
	case found.words < 2 || found.ordinary < 2 || found.all < 5:
		return finding{}
	case from == "", !certain, v.functionWords[to] == nil && sameAlphabet(req.Source, req.Target):
		return finding{flag: FlagUntranslated}
	}
	return finding{kind: core.BadAnswer, detail: "the answer is the text itself", flag: FlagUntranslated}
}

// guess returns the language other than that of the target that most words of
// text speak for, and what does.
func (v *vocabulary) guess(text, target string) (language string, found evidence) {
	for _, l := range slices.Sorted(maps.Keys(v.functionWords)) {
		if e := v.grammarOf(text, l, target); l != target && e.words > found.words {
			language, found = l, e
		}
	}
	return language, found
}

// echoing finds an answer that has been the text itself so far, if such a one is
// refused.
func echoing(q *question, answer string) finding {
	if q.spend(2 * len(answer)); !strings.EqualFold(firstRunes(q.source, utf8.RuneCountInString(answer)), answer) {
		return finding{}
	}
	return echoed(q, q.source)
}

// sameAlphabet says whether a and b are, or may be, written with the same.
func sameAlphabet(a, b core.Language) bool {
	one, ok := alphabetOf(a)
	other, also := alphabetOf(b)
	return !ok || !also || one == other
}

// alien counts the letters of text that are neither of the alphabet of target
// nor Latin, which is what names keep; and those that are of it.
func alien(text string, target core.Language) (foreign, native int) {
	a, ok := alphabetOf(target)
	if !ok {
		return 0, 0
	}
	for _, r := range text {
		switch a.class(r) {
		case ownLetter:
			native++
		case foreignLetter:
			foreign++
		}
	}
	return foreign, native
}

// looksLikeCode says whether text has signs that are rare outside of code,
// commands, paths and addresses.
func looksLikeCode(text string) bool {
	return strings.ContainsAny(text, "{}<>=_`\\$|;@") || strings.Contains(text, "()") || strings.Contains(text, "://") || strings.Contains(text, " -")
}

// evidence is what speaks for a text being written in a language.
type evidence struct {
	words    int // different function words
	ordinary int // other words in lower case, which names and titles have not
	all      int // words
}

// maxGrammar is how much of a text, in bytes, its language is told by.
const maxGrammar = 2 << 10

// grammarOf looks at the beginning of text for the function words of language
// that are none of other.
func (v *vocabulary) grammarOf(text, language, other string) (e evidence) {
	var seen []string
	text = text[:wholeRunes(text[:min(len(text), maxGrammar)])]
	for _, word := range strings.FieldsFunc(text, func(r rune) bool { return !isWordRune(r) }) {
		e.all++
		lower := lowerWord(word)
		switch {
		case slices.Contains(v.functionWords[language], lower):
			if !slices.Contains(v.functionWords[other], lower) && !slices.Contains(seen, lower) {
				seen = append(seen, lower)
			}
		case word == lower && utf8.RuneCountInString(word) > 2:
			e.ordinary++
		}
	}
	e.words = len(seen)
	return e
}
