package postprocess

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/language"

	"github.com/dragoman-mt/dragoman/core"
)

// misspelt finds letters that the target language is not written with. Letters
// which the text has as well do not count, nor do Latin names, addresses and
// code among others.
func misspelt(q *question, answer string) finding {
	a, ok := alphabetOf(q.req.Target)
	if q.spend(len(answer)); !ok || a.clean(answer) {
		return finding{}
	}
	q.spend(len(answer))
	native, foreign, latin, latinWords := 0, 0, 0, 0
	a.eachRun(answer, func(class letterClass, start, end, letters int) {
		run := answer[start:end]
		switch {
		case class == ownLetter:
			native += letters
		case q.writes(a, run):
		case class == foreignLetter:
			foreign += letters
		case letters >= 2 && run == strings.ToLower(run) && !technical(answer, start, end):
			latin += letters
			latinWords++
		}
	})
	switch {
	case foreign >= 3 && foreign > native, latinWords >= 3 && latin >= 12 && latin > 2*native:
		return finding{kind: core.BadAnswer, detail: "the answer is not in the alphabet of the target language", flag: FlagMixedScript}
	case foreign >= 2:
		return finding{flag: FlagMixedScript}
	}
	return finding{}
}

// eachRun calls each with every run of letters of one class in s, and where it
// stands. Marks belong to the letter before them.
func (a *alphabet) eachRun(s string, each func(class letterClass, start, end, letters int)) {
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		class := a.class(r)
		start, letters := i, 1
		i += size
		if class == noLetter {
			continue
		}
		for i < len(s) {
			r, size := utf8.DecodeRuneInString(s[i:])
			if c := a.class(r); c == class {
				letters++
			} else if !unicode.IsMark(r) {
				break
			}
			i += size
		}
		each(class, start, i, letters)
	}
}

// maxStrange is how many of the runs of letters that the text does not have as
// they are, are looked for in the middle of its own.
const maxStrange = 64

// writes says whether the text has run, or as far as that is looked for,
// something that run is a part of.
func (q *question) writes(a *alphabet, run string) bool {
	if q.runs == nil {
		q.spend(len(q.source))
		q.runs = map[string]bool{}
		a.eachRun(q.source, func(class letterClass, start, end, _ int) {
			if class != ownLetter {
				q.runs[q.source[start:end]] = true
			}
		})
	}
	has, known := q.runs[run]
	if known || q.strange == maxStrange {
		return has
	}
	q.strange++
	q.spend(len(q.source))
	has = strings.Contains(q.source, run)
	q.runs[run] = has
	return has
}

// technical says whether the letters from start to end are a part of an
// address, a path, a name in code or a unit.
func technical(s string, start, end int) bool {
	joins := func(c byte) bool { return strings.IndexByte("@/\\_=&#%$<>0123456789", c) >= 0 }
	if start > 0 && (joins(s[start-1]) || s[start-1] == '.') || end < len(s) && joins(s[end]) {
		return true
	}
	return end+1 < len(s) && (s[end] == '.' || s[end] == ':') && s[end+1] != ' ' && s[end+1] < utf8.RuneSelf
}

// An alphabet is what a language is written with. Where a language is written
// with several, and does not say with which, there is none.
type alphabet struct {
	tables []*unicode.RangeTable
	latin  bool
	lo, hi rune // the block that most letters are in
}

// What a character is to an alphabet.
type letterClass uint8

const (
	noLetter      letterClass = iota // no letter, or one of all alphabets
	ownLetter                        // of the alphabet
	latinLetter                      // Latin, which stands in texts of all alphabets
	foreignLetter                    // of another alphabet
)

var alphabets = map[string]*alphabet{
	"Latn": {tables: []*unicode.RangeTable{unicode.Latin}, latin: true, lo: 'a', hi: 'z'},
	"Cyrl": {tables: []*unicode.RangeTable{unicode.Cyrillic}, lo: 0x400, hi: 0x481},
	"Grek": {tables: []*unicode.RangeTable{unicode.Greek}, lo: 0x388, hi: 0x3ce},
	"Arab": {tables: []*unicode.RangeTable{unicode.Arabic}, lo: 0x620, hi: 0x64a},
	"Hebr": {tables: []*unicode.RangeTable{unicode.Hebrew}, lo: 0x5d0, hi: 0x5ea},
	"Hans": {tables: []*unicode.RangeTable{unicode.Han, unicode.Bopomofo}, lo: 0x4e00, hi: 0x9fff},
	"Hant": {tables: []*unicode.RangeTable{unicode.Han, unicode.Bopomofo}, lo: 0x4e00, hi: 0x9fff},
	"Jpan": {tables: []*unicode.RangeTable{unicode.Han, unicode.Hiragana, unicode.Katakana}, lo: 0x3041, hi: 0x3096},
	"Kore": {tables: []*unicode.RangeTable{unicode.Hangul, unicode.Han}, lo: 0xac00, hi: 0xd7a3},
	"Thai": {tables: []*unicode.RangeTable{unicode.Thai}, lo: 0xe01, hi: 0xe30},
	"Deva": {tables: []*unicode.RangeTable{unicode.Devanagari}, lo: 0x904, hi: 0x939},
	"Beng": {tables: []*unicode.RangeTable{unicode.Bengali}, lo: 0x985, hi: 0x9b9},
	"Taml": {tables: []*unicode.RangeTable{unicode.Tamil}, lo: 0xb85, hi: 0xbb9},
	"Telu": {tables: []*unicode.RangeTable{unicode.Telugu}, lo: 0xc05, hi: 0xc39},
	"Gujr": {tables: []*unicode.RangeTable{unicode.Gujarati}, lo: 0xa85, hi: 0xab9},
	"Knda": {tables: []*unicode.RangeTable{unicode.Kannada}, lo: 0xc85, hi: 0xcb9},
	"Mlym": {tables: []*unicode.RangeTable{unicode.Malayalam}, lo: 0xd05, hi: 0xd39},
	"Armn": {tables: []*unicode.RangeTable{unicode.Armenian}, lo: 0x531, hi: 0x587},
	"Geor": {tables: []*unicode.RangeTable{unicode.Georgian}, lo: 0x10d0, hi: 0x10fa},
	"Ethi": {tables: []*unicode.RangeTable{unicode.Ethiopic}, lo: 0x1200, hi: 0x135a},
	"Khmr": {tables: []*unicode.RangeTable{unicode.Khmer}, lo: 0x1780, hi: 0x17b3},
}

// alphabetOf returns what target is written with, by the likely subtags of
// CLDR; ok is false when that is not certain.
func alphabetOf(target core.Language) (a *alphabet, ok bool) {
	if a, ok = common[target]; ok {
		return a, true
	}
	a = lookUp(target)
	return a, a != nil
}

// common holds the alphabets of languages that are asked for most: parsing a
// tag costs more than all steps together.
var common = func() map[core.Language]*alphabet {
	all := map[core.Language]*alphabet{}
	for _, l := range strings.Fields(`en es fr de it pt nl sv da nb no nn fi is pl cs sk sl hr hu ro et lv lt tr vi id ms tl sw ca eu gl
		en-US en-GB es-MX es-419 fr-CA pt-BR pt-PT de-AT de-CH ru uk bg mk be el ar he fa ur hi mr ne bn ta te gu kn ml th ka hy am km
		ja ko zh zh-Hans zh-Hant zh-CN zh-TW zh-HK`) {
		if a := lookUp(core.Language(l)); a != nil {
			all[core.Language(l)] = a
		}
	}
	return all
}()

func lookUp(target core.Language) *alphabet {
	if target.Base() == "kk" { // on its way from Cyrillic to Latin
		return nil
	}
	script, confidence := target.Tag().Script()
	if confidence < language.High && target.Base() != "zh" {
		return nil
	}
	return alphabets[script.String()]
}

// clean says whether s needs no closer look, as nearly every answer in Latin
// letters.
func (a *alphabet) clean(s string) bool {
	if !a.latin {
		return false
	}
	for i := 0; i < len(s); i++ {
		if s[i] >= 0xcd { // U+0340, where Latin and its accents end
			return false
		}
	}
	return true
}

// class says what r is. Greek is no alphabet of its own here: its letters are
// signs in texts of all alphabets.
func (a *alphabet) class(r rune) letterClass {
	switch {
	case a.lo <= r && r <= a.hi:
		return ownLetter
	case r < utf8.RuneSelf:
		if c := r | 0x20; 'a' <= c && c <= 'z' {
			if a.latin {
				return ownLetter
			}
			return latinLetter
		}
		return noLetter
	case !unicode.IsLetter(r):
		return noLetter
	case unicode.In(r, a.tables...):
		return ownLetter
	case unicode.Is(unicode.Latin, r):
		return latinLetter
	case unicode.In(r, unicode.Common, unicode.Inherited, unicode.Greek):
		return noLetter
	}
	return foreignLetter
}
