package exchange

import (
	"slices"

	"golang.org/x/text/language"

	"github.com/dragoman-mt/dragoman/core"
)

// A Code is a language as a server writes it.
type Code struct {
	Name     string
	Language core.Language
}

// Find returns the code among codes for l: the same language, else the nearest of those
// that differ in their region alone. A source may be written in another script as well,
// for many servers name the language alone; a target may not.
func Find(l core.Language, codes []Code, target bool) (string, bool) {
	var near []Code
	for _, c := range codes {
		switch {
		case c.Language == l:
			return c.Name, true
		case c.Language.Base() == l.Base() || norwegian(c.Language) && norwegian(l):
			near = append(near, c)
		}
	}
	same := slices.DeleteFunc(slices.Clone(near), func(c Code) bool { return !sameScript(c.Language, l) })
	if len(same) > 0 {
		near = same
	} else if target {
		return "", false
	}
	switch len(near) {
	case 0:
		return "", false
	case 1:
		return near[0].Name, true
	}
	tags := make([]language.Tag, len(near))
	for i, c := range near {
		tags[i] = c.Language.Tag()
	}
	_, at, _ := language.NewMatcher(tags).Match(l.Tag())
	return near[at].Name, true
}

// sameScript says whether a and b are written in one script, as far as is known.
func sameScript(a, b core.Language) bool {
	one, _ := a.Tag().Script()
	other, _ := b.Tag().Script()
	return one == other
}

// norwegian says whether l is what most servers mean by Norwegian.
func norwegian(l core.Language) bool { return l.Base() == "no" || l.Base() == "nb" }

// An Offer is what a server was found to translate.
type Offer struct {
	Sources, Targets []Code
	// Pairs are the same, as core.Languager has it.
	Pairs []core.LanguageInfo
	// Characters is the longest text that the server takes, in code points; 0 when it
	// does not say.
	Characters int
}

// mostCodesOffered bounds a list of languages.
const mostCodesOffered = 1000

// Every returns the offer of a server that translates each of sources to each of
// targets.
func Every(sources, targets []Code) *Offer {
	o := &Offer{Sources: sources, Targets: targets}
	for _, s := range sources {
		var to []core.Language
		for _, t := range targets {
			if t.Language != s.Language {
				to = append(to, t.Language)
			}
		}
		o.Add(s.Language, to)
	}
	return o
}

// Add adds a source with its targets to the pairs. Norwegian is there by both its
// codes.
func (o *Offer) Add(source core.Language, targets []core.Language) {
	if len(targets) == 0 {
		return
	}
	if slices.ContainsFunc(targets, norwegian) && !norwegian(source) {
		targets = append(targets, "nb", "no")
	}
	slices.Sort(targets)
	targets = slices.Compact(targets)
	if norwegian(source) {
		o.add("no", targets)
		source = "nb"
	}
	o.add(source, targets)
}

func (o *Offer) add(source core.Language, targets []core.Language) {
	if slices.ContainsFunc(o.Pairs, func(p core.LanguageInfo) bool { return p.Source == source }) {
		return
	}
	o.Pairs = append(o.Pairs, core.LanguageInfo{Source: source, Targets: targets})
}

// Codes reads names, codes of languages, with parse; what that does not know is left
// out.
func Codes(names []string, parse func(string) core.Language) (all []Code) {
	for _, name := range names[:min(len(names), mostCodesOffered)] {
		if l := parse(name); l != "" {
			all = append(all, Code{name, l})
		}
	}
	return all
}

// Parse reads a code as BCP-47 has it; empty for one that it has not.
func Parse(code string) core.Language {
	l, err := core.ParseLanguage(code)
	if err != nil {
		return ""
	}
	return l
}
