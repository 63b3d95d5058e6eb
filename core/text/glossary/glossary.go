// Package glossary holds terms that are to be translated in one way: it reads them from
// files, finds those that occur in a text, and says which of them a translation lacks. Its
// README is the manual.
package glossary

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/language"

	"github.com/dragoman-mt/dragoman/core"
)

// Bounds of a glossary.
const (
	MostTerm     = 1024    // bytes of one term
	mostConcepts = 100_000 // of one glossary
	mostFound    = 64      // terms that are found in one text
	mostTables   = 32      // pairs of languages that are kept ready
)

// A Glossary holds concepts, each with its terms in two or more languages. It is never
// changed, and safe for concurrent use.
type Glossary struct {
	// Name is empty for one that was made for a single call.
	Name string
	// Version is a hash of the content.
	Version string

	languages []core.Language
	concepts  []concept

	mu     sync.Mutex
	tables map[string]*Table
}

// A concept holds terms by the index of their language, the one to be used first.
type concept []named

type named struct {
	language int
	terms    []string
	source   []string // terms that are not to be used, and may be found in a text
}

// New makes a glossary of one pair of languages. The error, an invalid_request, names the
// number of the term at fault, counted from 1. Of the same term given twice the first
// holds.
func New(name string, source, target core.Language, terms []core.Pair) (*Glossary, error) {
	g := &Glossary{Name: name, languages: []core.Language{source, target}}
	for i, t := range terms {
		from, to := strings.TrimSpace(t.Source), strings.TrimSpace(t.Target)
		for _, term := range []string{from, to} {
			if err := CheckTerm(term); err != nil {
				return nil, fmt.Errorf("term %d: %w", i+1, err)
			}
		}
		g.concepts = append(g.concepts, concept{{language: 0, terms: []string{from}}, {language: 1, terms: []string{to}}})
	}
	g.seal()
	return g, nil
}

// CheckTerm says why term cannot be one.
func CheckTerm(term string) error {
	switch {
	case term == "":
		return fmt.Errorf("the term is empty")
	case len(term) > MostTerm:
		return fmt.Errorf("the term has %d bytes; at most %d are allowed", len(term), MostTerm)
	case !utf8.ValidString(term):
		return fmt.Errorf("the term is not valid UTF-8")
	case strings.ContainsFunc(term, func(r rune) bool { return unicode.IsControl(r) || r == '\u2028' || r == '\u2029' }):
		return fmt.Errorf("the term holds a line break or a control character")
	}
	return nil
}

// seal gives g its version.
func (g *Glossary) seal() {
	h := sha256.New()
	for _, l := range g.languages {
		fmt.Fprintf(h, "%s\x00", l)
	}
	for _, c := range g.concepts {
		for _, n := range c {
			fmt.Fprintf(h, "%d\x00%q\x00%q\x00", n.language, n.terms, n.source)
		}
		h.Write([]byte{1})
	}
	g.Version = hex.EncodeToString(h.Sum(nil)[:8])
}

// Join returns a glossary without a name in which each of all holds, the first before the
// next.
func Join(all ...*Glossary) *Glossary {
	if len(all) == 1 {
		return all[0]
	}
	joined := &Glossary{}
	for _, g := range all {
		at := make([]int, len(g.languages))
		for i, l := range g.languages {
			if at[i] = slices.Index(joined.languages, l); at[i] < 0 {
				at[i] = len(joined.languages)
				joined.languages = append(joined.languages, l)
			}
		}
		for _, c := range g.concepts {
			own := slices.Clone(c)
			for i := range own {
				own[i].language = at[own[i].language]
			}
			joined.concepts = append(joined.concepts, own)
		}
	}
	joined.seal()
	return joined
}

// Languages are those that g has terms in.
func (g *Glossary) Languages() []core.Language { return slices.Clone(g.languages) }

// Concepts is how many g has.
func (g *Glossary) Concepts() int { return len(g.concepts) }

// How well a language of a glossary fits the one of a text.
const (
	fitsNot    = iota
	fitsWider  // en-US for a text in en: taken when it is the only one
	fitsBroad  // en for a text in en-US
	fitsItself // en-US for en-US
)

func fit(have, want core.Language) int {
	switch {
	case have == want:
		return fitsItself
	case have == "": // of terms for a text whose language nobody said
		return fitsBroad
	case have.Base() != want.Base():
		return fitsNot
	case string(have) == have.Base() || strings.HasPrefix(string(want), string(have)+"-"):
		return fitsBroad
	}
	_, script, region := have.Tag().Raw()
	wants, sure := want.Tag().Script()
	switch {
	case region == (language.Region{}) && script == wants && sure != language.No:
		return fitsBroad // zh-Hans for zh-CN
	case strings.HasPrefix(string(have), string(want)+"-"):
		return fitsWider
	}
	return fitsNot
}

// columns are the indices of the languages that hold for want, the nearest first; all of
// them when it is not known.
func (g *Glossary) columns(want core.Language) (all []int) {
	var fits [fitsItself + 1][]int
	for i, have := range g.languages {
		how := fitsBroad
		if want != "" {
			how = fit(have, want)
		}
		fits[how] = append(fits[how], i)
	}
	all = append(fits[fitsItself], fits[fitsBroad]...)
	if len(all) == 0 && len(fits[fitsWider]) == 1 {
		all = fits[fitsWider]
	}
	return all
}

// For returns what g has for texts in source that are translated into target, nil for
// nothing. Source may be empty, for a text in any language.
func (g *Glossary) For(source, target core.Language) *Table {
	from, to := g.columns(source), g.columns(target)
	if len(from) == 0 || len(to) == 0 {
		return nil
	}
	key := fmt.Sprint(from, to)
	g.mu.Lock()
	defer g.mu.Unlock()
	if t, made := g.tables[key]; made {
		return t
	}
	t := g.table(from, to)
	if t.size == 0 {
		t = nil
	}
	if g.tables == nil || len(g.tables) >= mostTables {
		g.tables = map[string]*Table{} // clients choose languages
	}
	g.tables[key] = t
	return t
}

// Pairs returns the terms of one language with those of another, both of Languages, in the
// order in which they were read.
func (g *Glossary) Pairs(source, target core.Language) (all []core.Pair) {
	from, to := slices.Index(g.languages, source), slices.Index(g.languages, target)
	for _, c := range g.concepts {
		if a, b := c.in(from), c.in(to); a != nil && b != nil && len(b.terms) > 0 {
			for _, term := range a.terms {
				all = append(all, core.Pair{Source: term, Target: b.terms[0]})
			}
		}
	}
	return all
}

// table makes the table from the languages of from into the first of to that a concept has.
func (g *Glossary) table(from, to []int) *Table {
	t := &Table{}
	for _, f := range from {
		for _, c := range g.concepts {
			source, target := c.in(f), (*named)(nil)
			for _, i := range to {
				if target = c.in(i); target != nil && len(target.terms) > 0 {
					break
				}
			}
			if source == nil || target == nil || len(target.terms) == 0 || source.language == target.language {
				continue
			}
			for _, terms := range [][]string{source.terms, source.source} {
				for _, term := range terms {
					t.add(term, target.terms[0])
				}
			}
		}
	}
	return t
}

func (c concept) in(language int) *named {
	for i := range c {
		if c[i].language == language {
			return &c[i]
		}
	}
	return nil
}

// A Table holds the terms of one pair of languages by their words. It is not changed once
// it is made.
type Table struct {
	root node
	size int
}

// A node stands for the words that lead to it, folded.
type node struct {
	next map[string]*node
	here []entry
}

// An entry is a term that ends at its node.
type entry struct {
	source string // as it is written, words one after the other; empty for one in any case
	target string
	lower  bool // the term begins with a small letter
}

func (t *Table) add(term, target string) {
	var w words
	w.split(term)
	if len(w.all) == 0 {
		return
	}
	n := &t.root
	for i := range w.all {
		if n.next == nil {
			n.next = map[string]*node{}
		}
		below := n.next[string(w.folded(i))]
		if below == nil {
			below = &node{}
			n.next[string(w.folded(i))] = below
		}
		n = below
	}
	e := entry{target: target, lower: startsLower(term)}
	if asWritten(term) {
		e.source = w.written(0, len(w.all))
	}
	if slices.ContainsFunc(n.here, func(have entry) bool { return have.source == e.source }) {
		return // the first holds
	}
	n.here = append(n.here, e)
	t.size++
}

// asWritten says whether term is one that means something else in other letters: it has
// a capital that does not begin a word, as IT, iPhone and GmbH do.
func asWritten(term string) bool {
	inside := false
	for _, r := range term {
		if inside && unicode.IsUpper(r) {
			return true
		}
		inside = unicode.IsLetter(r) || unicode.IsMark(r) || unicode.IsDigit(r)
	}
	return false
}

func startsLower(s string) bool {
	r, _ := utf8.DecodeRuneInString(s)
	return unicode.IsLower(r)
}

// at returns the entry of n that words from i up to j are, if one is.
func (n *node) at(w *words, i, j int) *entry {
	var any *entry
	for k := range n.here {
		switch e := &n.here[k]; e.source {
		case "":
			any = e
		case w.written(i, j):
			return e
		}
	}
	return any
}

// each calls visit for every place of text in which a term occurs, in their order, until
// visit says that it is enough. Of two that overlap the first holds, and of two that begin
// at the same word the longer.
func (t *Table) each(text string, visit func(start, end int, e *entry) bool) {
	w := wordsOf(text)
	defer w.done()
	for i := 0; i < len(w.all); {
		e, end := (*entry)(nil), i
		for n, j := &t.root, i; !w.all[i].inner && j < len(w.all); j++ {
			if n = n.next[string(w.folded(j))]; n == nil {
				break
			}
			if len(n.here) > 0 {
				if one := n.at(w, i, j+1); one != nil {
					e, end = one, j+1
				}
			}
		}
		if e == nil {
			i++
			continue
		}
		if !visit(w.all[i].start, w.all[end-1].end, e) {
			return
		}
		i = end
	}
}

// Find returns the terms that occur in text, each as it is written there with the
// translation that is wanted, in the order in which they occur and none twice.
func (t *Table) Find(text string) (found []core.Pair) {
	t.each(text, func(start, end int, e *entry) bool {
		p := core.Pair{Source: text[start:end], Target: e.target}
		if !slices.Contains(found, p) {
			found = append(found, p)
		}
		return len(found) < mostFound
	})
	return found
}

// Mark returns text with what wrap makes of each place in which one of terms occurs, as
// Find found them.
func Mark(text string, terms []core.Pair, wrap func(term, translation string) string) string {
	var t Table
	for _, term := range terms {
		t.add(term.Source, term.Target)
	}
	var b strings.Builder
	done := 0
	t.each(text, func(start, end int, e *entry) bool {
		b.WriteString(text[done:start])
		b.WriteString(wrap(text[start:end], e.target))
		done = end
		return true
	})
	b.WriteString(text[done:])
	return b.String()
}

// Whole returns the translation of text when all of it is a term. It begins with a capital
// when the text does and the term does not, and is all capitals when the text is.
func (t *Table) Whole(text string, target core.Language) (translation string, ok bool) {
	w := wordsOf(text)
	defer w.done()
	n := &t.root
	for i := range w.all {
		if n = n.next[string(w.folded(i))]; n == nil {
			return "", false
		}
	}
	e := n.at(w, 0, len(w.all))
	switch {
	case e == nil || len(w.all) == 0:
		return "", false
	case e.source != "" || !e.lower || startsLower(text):
		return e.target, true
	case shouts(text):
		return cases.Upper(target.Tag()).String(e.target), true
	}
	_, n1 := utf8.DecodeRuneInString(e.target)
	return cases.Upper(target.Tag()).String(e.target[:n1]) + e.target[n1:], true
}

// shouts says whether text has two letters or more, and all of them capitals.
func shouts(text string) bool {
	letters := 0
	for _, r := range text {
		if unicode.IsLower(r) {
			return false
		}
		if unicode.IsUpper(r) {
			letters++
		}
	}
	return letters > 1
}
