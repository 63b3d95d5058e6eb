package postprocess

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"github.com/dragoman-mt/dragoman/core"
)

// wordFiles are the tables of words, a file for each language. Its README says
// what each list is for, and how to correct one.
//
//go:embed words/*.txt
var wordFiles embed.FS

// shipped returns the words of wordFiles, which are read when they are first
// asked for: a gateway without this stage has none in memory.
var shipped = sync.OnceValues(func() (*vocabulary, error) { return readWords(wordFiles) })

// words returns what shipped does. Its error ends the building of a stage, so
// there is none where answers are looked at.
func words() *vocabulary {
	v, err := shipped()
	if err != nil {
		panic(err)
	}
	return v
}

// A vocabulary holds the words of all languages. It is never changed. All words
// are in lower case, with straight apostrophes.
type vocabulary struct {
	languageNames  map[string]string // the languages, by what they are called
	announceKeys   map[string]bool   // one of which every announcement has
	announceWords  map[string]bool   // of which the rest of one is made
	translateStems *prefixes         // how languages speak of translating
	assents        *prefixes         // what an assistant says before it does what it was asked
	notes          *prefixes         // introduce a note to the reader, before a colon
	asides         *prefixes         // begin what an assistant says of its own translation
	bracketNotes   []string          // introduce a note in brackets without a colon
	models         []string          // what models call themselves

	refusals []*refusal
	openings map[rune][]opening // the beginnings of all refusals by their first character

	// Apologies, of all languages, and negations, by language, are what a text
	// says in some way if its translation reads like a refusal. Abilities are how
	// languages say that one can do something, beside the words of their
	// refusals.
	apologies            []string
	negations, abilities map[string][]string
	few                  map[string]*fewWords

	// Function words carry grammar, by language. A word that two languages share
	// says nothing about either; see grammarOf.
	functionWords map[string][]string
}

// A refusal in a language: it begins with one of opens, says one of middles and
// then one of ends.
type refusal struct {
	language             string
	opens, middles, ends []string
}

type opening struct {
	words string
	of    *refusal
}

// Few words are what is known of a language of which not all is known that a
// refusal may be translated from: what has none of them may be one still.
type fewWords struct{ apologies, negations []string }

// A form is what the entries of a list are compared with, and so what they may
// look like.
type form int

const (
	word   form = iota // one word of the text, whole
	phrase             // the beginning of a text, or a part of one
	stem               // the beginning of a word, or a whole word with a $ behind it
	cry                // a phrase that ends in "!" or "."
)

// forms are the lists that a file may have.
func forms() map[string]form {
	return map[string]form{
		"names": word, "translation": word, "announcing": word, "grammar": word,
		"translating": phrase, "note": phrase, "bracket-note": phrase, "aside": phrase,
		"refusal-begins": phrase, "refusal-says": phrase, "refusal-ends": phrase,
		"sorry": stem, "not": stem, "able": stem, "some-sorry": stem, "some-not": stem, "model": stem,
		"assent": cry,
	}
}

// readWords reads the tables in the folder words of files. Its error has a line
// for each file that is wrong.
func readWords(files fs.FS) (*vocabulary, error) {
	names, err := fs.Glob(files, "words/*.txt")
	if err == nil && names == nil {
		err = fs.ErrNotExist
	}
	if err != nil {
		return nil, fmt.Errorf("finding the files stages/postprocess/words/*.txt: %w", err)
	}
	v := &vocabulary{
		languageNames: map[string]string{},
		negations:     map[string][]string{}, abilities: map[string][]string{}, few: map[string]*fewWords{}, functionWords: map[string][]string{},
	}
	var wrong []error
	var all lists               // those that languages share
	once := map[string]string{} // the entries, each in one copy
	for _, name := range names {
		text, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, fmt.Errorf("reading a table of words: %w", err)
		}
		file := "stages/postprocess/" + name
		of, err := parseWords(file, string(text))
		if err == nil {
			of.compact(once)
			err = v.add(file, strings.TrimSuffix(path.Base(name), ".txt"), of)
		}
		if err != nil {
			wrong = append(wrong, err)
		}
		all = all.with(of)
	}
	if wrong != nil {
		return nil, errors.Join(wrong...)
	}
	v.translateStems, v.assents, v.notes, v.asides = prefixesOf(all["translating"]), prefixesOf(all["assent"]), prefixesOf(all["note"]), prefixesOf(all["aside"])
	v.announceKeys, v.announceWords = set(all["translation"]), set(all["announcing"])
	v.bracketNotes, v.models, v.apologies = all["bracket-note"], all["model"], all["sorry"]
	v.openings = map[rune][]opening{}
	for _, r := range v.refusals {
		for _, words := range r.opens {
			first, _ := utf8.DecodeRuneInString(words)
			v.openings[first] = append(v.openings[first], opening{words, r})
		}
	}
	return v, nil
}

// add takes the lists of a language that are its own, and looks at all of them.
func (v *vocabulary) add(file, language string, of lists) error {
	for _, name := range of["names"] {
		if other := v.languageNames[name]; other != "" {
			return fmt.Errorf("%s: names: %q is the name of the language %s already, by %s.txt: take it out of one of them", file, name, other, other)
		}
		v.languageNames[name] = language
	}
	if of["assent"] != nil && language != "en" {
		return fmt.Errorf("%s: assent: is for en.txt alone: models say it in English before an answer in another language", file)
	}
	r := &refusal{language, of["refusal-begins"], of["refusal-says"], of["refusal-ends"]}
	switch {
	case r.opens != nil && r.middles != nil && r.ends != nil:
		if other := related(core.Language(language)); other != language {
			return fmt.Errorf("%s: a refusal in %s is taken for one in %s: write its words to %s.txt", file, language, other, other)
		}
		v.refusals = append(v.refusals, r)
	case r.opens != nil || r.middles != nil || r.ends != nil:
		return fmt.Errorf("%s: a refusal is found by all of refusal-begins, refusal-says and refusal-ends: write the missing ones, or none of them", file)
	}
	if of["not"] != nil {
		v.negations[language] = of["not"]
	}
	if of["able"] != nil {
		if of["not"] == nil {
			return fmt.Errorf("%s: able: is asked only of a text that says something of the list not: write that list as well", file)
		}
		v.abilities[language] = of["able"]
	}
	if of["grammar"] != nil {
		v.functionWords[language] = of["grammar"]
	}
	if sorry, not := of["some-sorry"], of["some-not"]; sorry != nil || not != nil {
		if of["not"] != nil {
			return fmt.Errorf("%s: not: is for a language whose words are known well, some-sorry and some-not are for others: move their words to sorry and not", file)
		}
		v.few[language] = &fewWords{sorry, not}
	}
	return nil
}

// shared are the lists that are looked through whatever the language is.
func shared() []string {
	return []string{"translation", "announcing", "translating", "assent", "note", "bracket-note", "aside", "model", "sorry"}
}

// Lists are the lists of one file, or of several, by their names.
type lists map[string][]string

// compact makes l small, for it stays in memory: without room to grow, and with
// entries of their own, where parts of a file's text would keep all of it.
func (l lists) compact(once map[string]string) {
	for list, entries := range l {
		entries = slices.Clone(entries)
		for i, entry := range entries {
			if once[entry] == "" {
				entry = strings.Clone(entry)
				once[entry] = entry
			}
			entries[i] = once[entry]
		}
		l[list] = entries
	}
}

// with returns l with what more has and l has not.
func (l lists) with(more lists) lists {
	if l == nil {
		l = lists{}
	}
	for _, list := range shared() {
		for _, entry := range more[list] {
			if !slices.Contains(l[list], entry) {
				l[list] = append(l[list], entry)
			}
		}
	}
	return l
}

func set(words []string) map[string]bool {
	s := map[string]bool{}
	for _, word := range words {
		s[word] = true
	}
	return s
}

// parseWords returns the lists of a file. Each line is the name of a list, a
// colon, and entries with white space between them; a list may have several
// lines. Everything from a # on is a comment.
func parseWords(file, text string) (lists, error) {
	all, known, n := lists{}, forms(), 0
	for line := range strings.Lines(text) {
		n++
		fail := func(format string, a ...any) (lists, error) {
			return nil, fmt.Errorf("%s:%d: %s", file, n, fmt.Sprintf(format, a...))
		}
		line, _, _ = strings.Cut(line, "#")
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		list, entries, ok := strings.Cut(line, ":")
		of, is := known[list]
		if !ok || !is {
			names := make([]string, 0, len(known))
			for name := range known {
				names = append(names, name)
			}
			slices.Sort(names)
			return fail("%q is no list: begin the line with one of %s, and a colon", list, strings.Join(names, ", "))
		}
		fields := strings.Fields(entries)
		if len(fields) == 0 {
			return fail("%s: has no entry: write one behind the colon, or take the line out", list)
		}
		for _, entry := range fields {
			if wrong := misformed(entry, of); wrong != "" {
				return fail("%s: %q %s", list, entry, wrong)
			}
			spaced := strings.ReplaceAll(entry, "_", " ")
			if slices.Contains(all[list], spaced) {
				return fail("%s: %q is there already: take one out", list, entry)
			}
			all[list] = append(all[list], spaced)
		}
	}
	return all, nil
}

// misformed says why an entry of a list of that form would never be found, and
// what to do.
func misformed(entry string, of form) string {
	switch {
	case !utf8.ValidString(entry):
		return "is no UTF-8: save the file as UTF-8"
	case strings.Contains(entry, "’"):
		return "has a curly apostrophe: write ', which stands for both"
	case strings.ToLower(entry) != entry:
		return "has a capital letter: write all in small letters, which stand for both"
	case strings.HasPrefix(entry, "_") || strings.Contains(entry, "__"):
		return "has a blank too many: write one _ between two words, and none before the first"
	case len(entry) > maxEntry:
		return fmt.Sprintf("is longer than %d bytes: write a part of it", maxEntry)
	}
	bare := entry
	if of == stem {
		bare = strings.TrimSuffix(entry, "$")
	}
	switch {
	case bare == "":
		return "has no letter: write one before the $"
	case strings.Contains(bare, "$") && of == stem:
		return "has a $ within: write it at the end, where the word must end"
	case strings.Contains(bare, "$"):
		return "has a $, which this list does not know: leave it out"
	case of == cry && !strings.HasSuffix(entry, "!") && !strings.HasSuffix(entry, "."):
		return "does not end in ! or .: write it with its mark"
	case of == word && strings.ContainsFunc(entry, func(r rune) bool { return !isWordRune(r) }):
		return "is not one word: write letters, ' and - alone, for this list is compared with single words"
	case !strings.ContainsFunc(entry, unicode.IsLetter):
		return "has no letter: write a word"
	}
	return ""
}

// maxEntry is the longest entry, in bytes. A longer word is in no announcement.
const maxEntry = 40

// scripts are those that tell a language of which words are known.
var scripts = []struct {
	table    *unicode.RangeTable
	language string
}{
	{unicode.Han, "zh"}, {unicode.Hiragana, "ja"}, {unicode.Katakana, "ja"}, {unicode.Hangul, "ko"}, {unicode.Thai, "th"}, {unicode.Hebrew, "he"}, {unicode.Greek, "el"},
	{unicode.Bengali, "bn"}, {unicode.Tamil, "ta"}, {unicode.Telugu, "te"}, {unicode.Kannada, "kn"}, {unicode.Malayalam, "ml"}, {unicode.Gujarati, "gu"}, {unicode.Gurmukhi, "pa"}, {unicode.Sinhala, "si"},
	{unicode.Georgian, "ka"}, {unicode.Armenian, "hy"}, {unicode.Ethiopic, "am"}, {unicode.Khmer, "km"}, {unicode.Lao, "lo"}, {unicode.Myanmar, "my"},
}
