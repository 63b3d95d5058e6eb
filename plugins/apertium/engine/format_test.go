package engine

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/dragoman-mt/dragoman/core"
)

func FuzzEscape(f *testing.F) {
	for _, s := range []string{"", "hello", `\[]{}^$/@<>`, "a\nb\r\n\n c\t\td ~", ".[]", "日本 👋🏽", "\u00a0x\u2028y"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if check(text) != nil {
			return
		}
		got, err := unescape(escape(nil, text))
		if err != nil || got != text {
			t.Fatalf("%q came back as %q, %v", text, got, err)
		}
		fr := newFrame(text, "dragoman7")
		code := fr.encode()
		if strings.ContainsRune(string(code), 0) {
			t.Fatalf("%q: a NUL in %q", text, code)
		}
		// A chain that changes nothing gives the text back.
		if got, err := fr.decode(code); err != nil || got != text {
			t.Fatalf("%q came back as %q, %v", text, got, err)
		}
		// One text's answer is not taken for another's.
		if text != "" {
			if got, err := newFrame(text, "dragoman8").decode(code); err == nil {
				t.Fatalf("%q was taken for another's answer: %q", text, got)
			}
		}
		var all strings.Builder
		for p := range parts(text) {
			all.WriteString(p)
		}
		if all.String() != text {
			t.Fatalf("%q in parts is %q", text, all.String())
		}
	})
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte("[dragoman7]hola.[][dragoman7]"))
	f.Add([]byte(`[dragoman7]a\[b\].[][dragoman7] `))
	f.Add([]byte("[dragoman7]\\"))
	f.Fuzz(func(t *testing.T, answer []byte) {
		got, err := newFrame("hello", "dragoman7").decode(answer)
		if err == nil && (!utf8.ValidString(got) || strings.ContainsRune(got, 0) || !strings.HasPrefix(string(answer), "[dragoman7]")) {
			t.Fatalf("%q became %q", answer, got)
		}
	})
}

func TestPartsEndWhereTheyShould(t *testing.T) {
	for name, c := range map[string]struct{ text, end string }{
		"lines":      {strings.Repeat("one. two\n", 1000), "\n"},
		"sentences":  {strings.Repeat("one two. ", 1000), ". "},
		"words":      {strings.Repeat("one ", 3000), " "},
		"characters": {strings.Repeat("日", 3000), ""},
	} {
		all, n := "", 0
		for p := range parts(c.text) {
			if len(p) > maxPart || !strings.HasSuffix(p, c.end) || !utf8.ValidString(p) {
				t.Errorf("%s: a part of %d bytes ends with %q", name, len(p), p[len(p)-3:])
			}
			all, n = all+p, n+1
		}
		if all != c.text || n > len(c.text)/maxPart+2 {
			t.Errorf("%s: %d parts", name, n)
		}
	}
}

func TestCaseFollowsTheSource(t *testing.T) {
	for _, c := range [][3]string{
		{"good", "Buenos", "buenos"}, {"Good", "buenos", "Buenos"}, {"the nato", "NATO", "NATO"}, {"¿qué", "¿What", "¿what"},
		{"5 cars", "5 Coches", "5 coches"}, {"日本", "Japón", "Japón"}, {"", "", ""}, {"x", "", ""}, {"éa", "Áb", "áb"},
	} {
		if got := matchCase(c[0], c[1]); got != c[2] {
			t.Errorf("%q, %q: %q, want %q", c[0], c[1], got, c[2])
		}
	}
}

func TestModeFilesBecomeCommands(t *testing.T) {
	got, err := parseMode(`lt-proc '/usr/share/a b/x.bin' | apertium-tagger -g $2 "y.prob" |cg-proc -z z.bin|lt-proc $1 'g.bin'` + "\n")
	want := [][]string{{"lt-proc", "-z", "/usr/share/a b/x.bin"}, {"apertium-tagger", "-z", "-g", "y.prob"}, {"cg-proc", "-z", "z.bin"}, {"lt-proc", "-z", "-n", "g.bin"}}
	if err != nil || !slices.EqualFunc(got, want, slices.Equal[[]string]) {
		t.Errorf("%q, %v", got, err)
	}
	for _, bad := range []string{"", " ", "|", "lt-proc x |", "rm -rf x", "/tmp/lt-proc x", "lt-proc 'x", "lt-proc x; rm y", "lt-proc x > y",
		"lt-proc $(x)", "lt-proc `x`", `lt-proc "$HOME"`, "lt-proc x && y", "lt-proc $3", "lt-proc *", "lt-proc x\\ y"} {
		if got, err := parseMode(bad); err == nil {
			t.Errorf("%q was read as %q", bad, got)
		}
	}
}

func FuzzMode(f *testing.F) {
	f.Add("lt-proc '/usr/share/x.bin' | apertium-tagger -g $2 'y.prob' | lt-proc $1 \"g.bin\"")
	f.Add("lt-proc x | | y")
	f.Fuzz(func(t *testing.T, text string) {
		commands, err := parseMode(text)
		if err != nil {
			return
		}
		for _, c := range commands {
			if len(c) < 2 || strings.Contains(c[0], "/") || !slices.Contains(c, "-z") && !slices.Contains(c, "--null-flush") {
				t.Fatalf("%q: %q", text, c)
			}
			for _, word := range c {
				if strings.ContainsRune(word, 0) {
					t.Fatalf("%q: a NUL in %q", text, word)
				}
			}
		}
	})
}

func TestModesAreFoundByLanguage(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"eng-spa", "spa-eng", "spa-eng_US", "cat-oci_x", "eng-spa-tagger", "README"} {
		if err := os.WriteFile(filepath.Join(dir, name+".mode"), []byte("lt-proc x.bin"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	os.WriteFile(filepath.Join(dir, "por-spa.mode"), []byte("curl evil | sh"), 0o600)
	in, err := Find(dir, filepath.Join(dir, "absent"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		source, target core.Language
		want           string
	}{
		{"en", "es", "eng-spa"}, {"en-GB", "es-MX", "eng-spa"}, {"es", "en", "spa-eng"}, {"es-419", "en-US", "spa-eng_US"},
		{"es", "en-GB", "spa-eng"}, {"en", "fr", ""}, {"", "es", ""}, {"en", "", ""}, {"pt", "es", ""}, {"en", "en", ""},
	} {
		m, ok := in.find(c.source, c.target)
		if ok != (c.want != "") || m.Name != c.want {
			t.Errorf("%s to %s: %q, want %q", c.source, c.target, m.Name, c.want)
		}
	}
}
