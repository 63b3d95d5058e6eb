// Package detect guesses the language of a text, on this machine and without a call
// of anybody.
package detect

import (
	"strings"
	"sync"
	"unicode"

	"github.com/abadojack/whatlanggo"

	"github.com/dragoman-mt/dragoman/core"
)

// A Guess is what language a text seems to be in.
type Guess struct {
	// Language is empty when there is nothing to go by, such as a text without a letter.
	Language core.Language
	// Confidence is from 0 to 1. A short text, or one of several languages, has little.
	Confidence float64
}

// sure is the confidence from which a guess is better than none for whoever needs a
// language.
const sure = 0.5

// Sure says whether to act upon g.
func (g Guess) Sure() bool { return g.Language != "" && g.Confidence >= sure }

// most is how much of a text is looked at, in code points. Of more than these the library's
// measure makes no sense: a group of letters whose place is beyond it counts as farther from
// a language than one that the language does not have at all, and a confidence may come out
// below nothing.
const most = 300

// Usual are the languages that most engines know, as tags. No other is guessed: of a
// short text the rarest fits as well as any.
func Usual() []string {
	return strings.Fields("ar bg bn ca cs da de el en es et fa fi fr he hi hr hu id it ja ko lt lv ms nb nl pl pt pt-BR ro ru sk sl sr sv sw th tr uk ur vi zh-Hans zh-Hant")
}

// candidates are the languages of Usual as the library names them.
var candidates = sync.OnceValue(func() whatlanggo.Options {
	only := map[whatlanggo.Lang]bool{}
	for lang := range whatlanggo.Langs {
		for _, tag := range Usual() {
			if base, _, _ := strings.Cut(tag, "-"); base == lang.Iso6391() {
				only[lang] = true
			}
		}
	}
	return whatlanggo.Options{Whitelist: only}
})

// hardly is the confidence below which a guess says nothing.
const hardly = 0.1

// Of guesses the language of text by its script and its groups of three letters.
func Of(text string) Guess {
	if !Letters(text) {
		return Guess{}
	}
	seen := 0
	for i := range text {
		if seen++; seen > most {
			text = text[:i]
			break
		}
	}
	info := whatlanggo.DetectWithOptions(text, candidates())
	if info.Confidence < hardly && ascii(text) {
		return Guess{Language: "en"} // no letter is of another language, and most such texts are
	}
	tag := info.Lang.Iso6391()
	if tag == "" || !(info.Confidence > 0) {
		return Guess{} // where two fit as well, the library names now the one, now the other
	}
	l, err := core.ParseLanguage(tag)
	if err != nil {
		return Guess{}
	}
	return Guess{l, min(info.Confidence, 1)}
}

func ascii(text string) bool {
	return strings.IndexFunc(text, func(r rune) bool { return r > unicode.MaxASCII }) < 0
}

// Letters says whether there is anything to translate in text.
func Letters(text string) bool {
	for _, r := range text {
		if unicode.IsLetter(r) {
			return true
		}
	}
	return false
}
