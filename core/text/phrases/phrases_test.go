package phrases

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/dragoman-mt/dragoman/core/text/normal"
)

func TestReadTakesATable(t *testing.T) {
	got, err := Read(strings.NewReader("\ufeff# languages, text, translation\r\n" +
		"\n" +
		"EN\tpt_br\tThank you \t Obrigado\r\n" +
		"en\tpt-BR\tthank you\tobrigado\n" + // case tells texts apart
		"es\ten\tGracias # no\tThanks # no")) // no newline at the end
	if err != nil {
		t.Fatal(err)
	}
	want := []Phrase{
		{"en", "pt-BR", "Thank you", "Obrigado"},
		{"en", "pt-BR", "thank you", "obrigado"},
		{"es", "en", "Gracias # no", "Thanks # no"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestReadNamesTheLineOfAMistake(t *testing.T) {
	const good = "en\tes\tYes\tSí\n"
	for _, c := range []struct{ name, table, want string }{
		{"too few fields", good + "en\tes\tNo\n", "line 2: 3 fields, want 4"},
		{"too many fields", good + "en\tes\tNo\tNo\t\n", "line 2: 5 fields, want 4"},
		{"unknown source", good + "xq\tes\tNo\tNo\n", `line 2: source language: "xq" is not a language`},
		{"empty source", good + "\tes\tNo\tNo\n", "line 2: source language: the language is empty"},
		{"unknown target", good + "en\tes es\tNo\tNo\n", `line 2: target language: "es es" is not a language tag`},
		{"same language", good + "es\tes\tNo\tNo\n", "line 2: source and target language are both es"},
		{"empty text", good + "en\tes\t \tNo\n", "line 2: the text is empty"},
		{"empty translation", good + "en\tes\tNo\t\n", "line 2: the translation is empty"},
		{"invalid UTF-8", good + "en\tes\tNo\xff\tNo\n", "line 2: not valid UTF-8"},
		{"invalid UTF-8 in a comment", good + "# \xff\n", "line 2: not valid UTF-8"},
		{"NUL", good + "en\tes\tN\x00o\tNo\n", "line 2: it holds a NUL"},
		{"duplicate", good + "# again\n" + good, "line 3: the same text as in line 1, from en to es"},
		{"duplicate in other bytes", "es\ten\tel  cafe\u0301\tthe coffee\nes\ten\tel caf\u00e9\tthe café\n", "line 2: the same text as in line 1"},
		{"long line", good + "en\tes\t" + strings.Repeat("a", maxLine) + "\tNo\n", "line 2: longer than 65536 bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Read(strings.NewReader(c.table))
			if err == nil || !strings.HasPrefix(err.Error(), c.want) {
				t.Fatalf("error %v, want %s...", err, c.want)
			}
			if got != nil {
				t.Errorf("an error and %d phrases", len(got))
			}
		})
	}
}

func TestReadPassesOnWhatTheReaderSays(t *testing.T) {
	broken := errors.New("disk on fire")
	if _, err := Read(iotest.ErrReader(broken)); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

func TestShippedPhrasesAreATable(t *testing.T) {
	f, err := os.Open("../../../examples/phrases.tsv")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	all, err := Read(f)
	if err != nil {
		t.Fatal(err)
	}
	pairs := map[string]int{}
	for _, p := range all {
		pairs[string(p.Source)+">"+string(p.Target)]++
		if normal.String(p.Text) != p.Text || normal.String(p.Translation) != p.Translation {
			t.Errorf("%q: not in normal form", p.Text)
		}
	}
	for _, pair := range []string{"en>es", "en>fr", "en>de", "es>en"} {
		if pairs[pair] < 10 {
			t.Errorf("%s: %d phrases", pair, pairs[pair])
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte("en\tes\tYes\tSí\n# c\n\nen\tfr\tYes\tOui"))
	f.Add([]byte("en\tes\tYes\n"))
	f.Add([]byte("\xef\xbb\xbfen\tes\tA\u0301\tb\r\n"))
	f.Fuzz(func(t *testing.T, table []byte) {
		all, err := Read(bytes.NewReader(table))
		if err != nil {
			if !strings.HasPrefix(err.Error(), "line ") {
				t.Fatalf("%v names no line", err)
			}
			return
		}
		for _, p := range all {
			if p.Source == "" || p.Target == "" || p.Source == p.Target || p.Text == "" || p.Translation == "" ||
				!utf8.ValidString(p.Text+p.Translation) || strings.ContainsAny(p.Text+p.Translation, "\x00\t\n") {
				t.Fatalf("%q", p)
			}
		}
	})
}
