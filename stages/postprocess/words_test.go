package postprocess

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/dragoman-mt/dragoman/core"
)

// The tables as the tests of this package name them.
var (
	known          = readable()
	assents        = slices.Concat(slices.Collect(maps.Values(known.assents.by))...)
	notes          = known.notes
	asides         = known.asides
	translateStems = known.translateStems
	refusals       = known.refusals
	announceKeys   = known.announceKeys
	announceWords  = known.announceWords
	languageNames  = known.languageNames
	functionWords  = known.functionWords
	apologies      = known.apologies
)

// readable returns the words that are shipped. Without them no test can run, so
// what is wrong with them is all that whoever corrects one hears.
func readable() *vocabulary {
	v, err := shipped()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return v
}

func findRefusal(text string) string { return known.findRefusal(text) }

// tables returns a copy of the files that are shipped.
func tables(t *testing.T) fstest.MapFS {
	all := fstest.MapFS{}
	names, err := fs.Glob(wordFiles, "words/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		data, err := wordFiles.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		all[name] = &fstest.MapFile{Data: data}
	}
	return all
}

// TestEveryTableIsOfALanguage sees that requests in a language find its file. What
// the files hold was read before; see readable.
func TestEveryTableIsOfALanguage(t *testing.T) {
	for name, file := range tables(t) {
		of, err := parseWords("stages/postprocess/"+name, string(file.Data))
		if err != nil {
			t.Fatal(err)
		}
		language := strings.TrimSuffix(path.Base(name), ".txt")
		if language == "und" {
			for _, list := range shared() {
				delete(of, list)
			}
			if len(of) > 0 {
				t.Errorf("%s: has lists that say something only of a language that is known: %v", name, slices.Sorted(maps.Keys(of)))
			}
			continue
		}
		if tag, err := core.ParseLanguage(language); err != nil || strings.Contains(string(tag), "-") {
			t.Errorf("%s: %q is no language without a region or a script: name the file by one, such as de.txt (%v)", name, language, err)
		}
	}
}

// TestAWrongTableIsToldByFileAndLine has a row for each thing that a table may
// have wrong.
func TestAWrongTableIsToldByFileAndLine(t *testing.T) {
	const file = "stages/postprocess/words/de.txt"
	for _, c := range []struct{ text, want string }{
		{"# German\n\nnotes: hinweis", `:3: "notes" is no list: begin the line with one of able, announcing,`},
		{"nicht helfen", `:1: "nicht helfen" is no list`},
		{"\ufeffnote: hinweis", `:1: "\ufeffnote" is no list`},
		{"note:  # nothing", `:1: note: has no entry`},
		{"note: Hinweis", `:1: note: "Hinweis" has a capital letter`},
		{"note: ÜBERSETZUNG", `has a capital letter`},
		{"\nnot: geht’s", `:2: not: "geht’s" has a curly apostrophe`},
		{"note: hinweis\nnote: erklärung hinweis", `:2: note: "hinweis" is there already`},
		{"note: hinweis hinweis", `:1: note: "hinweis" is there already`},
		{"note: hinweis$", `has a $, which this list does not know`},
		{"not: ni$e", `has a $ within`},
		{"not: $", `has no letter`},
		{"note: 12", `has no letter`},
		{"grammar: ich_bin", `:1: grammar: "ich_bin" is not one word`},
		{"announcing: van:", `is not one word`},
		{"note: _hinweis", `has a blank too many`},
		{"note: ein__hinweis", `has a blank too many`},
		{"note: \xff", `is no UTF-8`},
		{"note: " + strings.Repeat("a", maxEntry+1), `is longer than 40 bytes`},
		{"assent: gerne", `does not end in ! or .`},
		{"refusal-begins: leider", `: a refusal is found by all of refusal-begins, refusal-says and refusal-ends`},
		{"not: nie\nsome-not: nicht", `: not: is for a language whose words are known well`},
		{"able: helf", `: able: is asked only of a text that says something of the list not`},
		{"assent: klar!", `: assent: is for en.txt alone`},
	} {
		_, err := readWords(fstest.MapFS{"words/de.txt": {Data: []byte(c.text)}})
		if err == nil || !strings.HasPrefix(err.Error(), file) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: the error is %v, want %s…%s", c.text, err, file, c.want)
		}
	}
	for name, c := range map[string]struct {
		files fstest.MapFS
		want  string
	}{
		"no file at all": {fstest.MapFS{}, `finding the files stages/postprocess/words/*.txt: file does not exist`},
		"a name of two languages": {fstest.MapFS{"words/de.txt": {Data: []byte("names: german")}, "words/nl.txt": {Data: []byte("names: dutch german")}},
			`stages/postprocess/words/nl.txt: names: "german" is the name of the language de already`},
		"two wrong files": {fstest.MapFS{"words/de.txt": {Data: []byte("note:")}, "words/nl.txt": {Data: []byte("\nnote: Let")}},
			"stages/postprocess/words/de.txt:1: note: has no entry: write one behind the colon, or take the line out\nstages/postprocess/words/nl.txt:2: note: \"Let\" has"},
		"refusals that are looked for as another language's": {fstest.MapFS{"words/ms.txt": {Data: []byte("refusal-begins: maaf\nrefusal-says: tidak\nrefusal-ends: bantu")}},
			`stages/postprocess/words/ms.txt: a refusal in ms is taken for one in id: write its words to id.txt`},
	} {
		if _, err := readWords(c.files); err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: the error is %v, want %s", name, err, c.want)
		}
	}
}

// FuzzParseWords sees that any text is taken whole or refused with its place.
func FuzzParseWords(f *testing.F) {
	f.Add("# German\nnote: hinweis tut_mir_leid # x\nnot: nie$\n")
	f.Add("assent: gerne\r\n\xff: ’")
	f.Fuzz(func(t *testing.T, text string) {
		of, err := parseWords("words/x.txt", text)
		if err != nil {
			if of != nil || !regexp.MustCompile(`^words/x\.txt:[1-9]\d*: `).MatchString(err.Error()) {
				t.Fatalf("%v with the error %v", of, err)
			}
			return
		}
		for list, entries := range of {
			for _, entry := range entries {
				if wrong := misformed(strings.ReplaceAll(entry, " ", "_"), forms()[list]); wrong != "" {
					t.Errorf("%s: %q %s", list, entry, wrong)
				}
			}
		}
	})
}

// TestAWordThatIsAddedTakesEffect adds one entry to a list of a file as it is
// shipped, in each row, and sees an answer fare otherwise than before.
func TestAWordThatIsAddedTakesEffect(t *testing.T) {
	const hola = "Hola."
	rows := map[string]struct {
		file, entry    string
		source, target core.Language
		text, answer   string
		before, after  string // what is left of the answer, and its flags; or why it is refused
	}{
		"names":        {"es", "zzespa", "en", "es", "Hello.", "Zzespa: Hola.", "Zzespa: Hola.", hola},
		"translation":  {"es", "zztradu", "en", "es", "Hello.", "Zztradu:\nHola.", "Zztradu:\nHola.", hola},
		"announcing":   {"es", "zzaquí", "en", "es", "Hello.", "Zzaquí traducción: Hola.", "Zzaquí traducción: Hola.", hola},
		"translating":  {"es", "zzvert", "en", "es", "A zzvertmos.", "Traducción: hola.", "hola.", "Traducción: hola."},
		"assent":       {"en", "zzyes!", "en", "es", "Hello.", "Zzyes! Hola.", "Zzyes! Hola.", hola},
		"note":         {"es", "zz_nota", "en", "es", "Hello.", "Hola.\n\nZz nota: formal.", "Hola.\n\nZz nota: formal.", hola},
		"bracket-note": {"es", "zzliteral", "en", "es", "Hello.", "Hola. (zzliteral hola)", "Hola. (zzliteral hola)", hola},
		"aside":        {"es", "zz_espero_", "en", "es", "Hello.", "Hola.\n\nZz espero que ayude.", "Hola.\n\nZz espero que ayude.", hola},

		"refusal-begins": {"es", "zzsiento", "en", "fr", "The car is red.", "Zzsiento, no puedo ayudar.", "Zzsiento, no puedo ayudar.", "provider_refused"},
		"refusal-says":   {"es", "zzpuedo", "en", "fr", "The car is red.", "Lo siento, zzpuedo ayudar.", "Lo siento, zzpuedo ayudar.", "provider_refused"},
		"refusal-ends":   {"es", "zzayu", "en", "fr", "The car is red.", "Lo siento, no puedo zzayu.", "Lo siento, no puedo zzayu.", "provider_refused"},

		"sorry":      {"en", "zzsorr", "en", "es", "Zzsorry, the car is red.", "Lo siento, no puedo ayudar.", "provider_refused", "Lo siento, no puedo ayudar."},
		"not":        {"en", "zznot$", "en", "es", "The car is zznot red, can do.", "No puedo ayudar con eso.", "provider_refused", "No puedo ayudar con eso."},
		"able":       {"en", "zzable", "en", "es", "It is not zzable for me.", "Lo siento, no puedo ayudar.", "Lo siento, no puedo ayudar. [maybe_refused]", "Lo siento, no puedo ayudar."},
		"some-sorry": {"cy", "zzddrwg", "cy", "es", "Zzddrwg, y car coch.", "Lo siento, no puedo ayudar.", "Lo siento, no puedo ayudar. [maybe_refused]", "Lo siento, no puedo ayudar."},
		"some-not":   {"cy", "zznid", "cy", "es", "Zznid y car coch yma.", "No puedo ayudar con eso.", "No puedo ayudar con eso. [maybe_refused]", "No puedo ayudar con eso."},
		"model":      {"es", "zzmodelo", "en", "es", "I could not do it, no way.", "No puedo ayudar, zzmodelo.", "No puedo ayudar, zzmodelo.", "No puedo ayudar, zzmodelo. [maybe_refused]"},
		"grammar":    {"en", "zzthe", "en", "es", "Zzthe house and garden near river", "Zzthe house and garden near river", "Zzthe house and garden near river", "Zzthe house and garden near river [untranslated]"},
	}
	for _, list := range slices.Sorted(maps.Keys(forms())) {
		c, ok := rows[list]
		if !ok {
			t.Errorf("the list %s has no row", list)
			continue
		}
		t.Run(list, func(t *testing.T) {
			files := tables(t)
			file := files["words/"+c.file+".txt"]
			file.Data = append(slices.Clone(file.Data), "\n"+list+": "+c.entry+"\n"...)
			more, err := readWords(files)
			if err != nil {
				t.Fatal(err)
			}
			for _, look := range []struct {
				words *vocabulary
				want  string
			}{{words(), c.before}, {more, c.after}} {
				q := newQuestion(t.Context(), &core.Request{Source: c.source, Target: c.target, Text: c.text})
				q.words = look.words
				res, refusal := New("postprocess", Config{}).judged(q, &core.Result{Text: c.answer}, "")
				got := ""
				switch {
				case refusal != nil:
					got = string(refusal.Kind)
				case res.Flags != nil:
					got = res.Text + " [" + strings.Join(res.Flags, " ") + "]"
				default:
					got = res.Text
				}
				if got != look.want {
					t.Errorf("the answer is %q, want %q", got, look.want)
				}
			}
		})
	}
}

func BenchmarkReadWords(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := readWords(wordFiles); err != nil {
			b.Fatal(err)
		}
	}
}

// TestEveryListIsExplained holds the table of the README of the words against
// the lists.
func TestEveryListIsExplained(t *testing.T) {
	readme, err := os.ReadFile("words/README.md")
	if err != nil {
		t.Fatal(err)
	}
	var told []string
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z-]+)` \\|").FindAllSubmatch(readme, -1) {
		told = append(told, string(row[1]))
	}
	slices.Sort(told)
	if lists := slices.Sorted(maps.Keys(forms())); !slices.Equal(told, lists) {
		t.Errorf("words/README.md explains %v, want %v", told, lists)
	}
}
