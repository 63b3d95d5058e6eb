package engine

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestASentenceIsToldFromAnAbbreviation(t *testing.T) {
	for text, want := range map[string][]string{
		"Good morning. The doors are open.  Go!":     {"Good morning. ", "The doors are open.  ", "Go!"},
		"Is it \"red\"? (It is.) Mr. Smith says so.": {"Is it \"red\"? ", "(It is.) ", "Mr. Smith says so."},
		"it costs 3.50 euros, i.e. less. than that":  {"it costs 3.50 euros, i.e. less. than that"},
		"a line\n  another\n\nand. more\n":           {"a line\n  ", "another\n\n", "and. more\n"},
		"no end":                                     {"no end"},
	} {
		if got := slices.Collect(sentences(text)); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestPiecesAreFewAndNothingIsLost(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := strings.Repeat(rapid.StringOfN(rapid.SampledFrom([]rune("aA.!? \n\"é漢")), 0, 60, -1).Draw(t, "text"), rapid.IntRange(1, 300).Draw(t, "times"))
		all := slices.Collect(sentences(text))
		if strings.Join(all, "") != text || slices.Contains(all, "") {
			t.Fatalf("%q became %q", text, all)
		}
		if most := maxPieces + 1 + 2*len(text)/maxPart + 1; len(all) > most {
			t.Fatalf("%d pieces of %d bytes, more than %d", len(all), len(text), most)
		}
	})
}

func TestAnAnswerIsHeardSentenceBySentence(t *testing.T) {
	e := spanish(t, Options{})
	var heard []string
	hear := func(text string) error { heard = append(heard, text); return nil }
	got, err := e.Stream(t.Context(), "Good morning. The house is red.\n\nThe car is blue.", "en", "es", hear)
	if want := "Buenos días. La casa es roja.\n\nEl coche es azul."; err != nil || got != want {
		t.Errorf("%q, %v", got, err)
	}
	if len(heard) != 3 || strings.Join(heard, "") != got {
		t.Errorf("heard %q", heard)
	}
	enough := errors.New("enough")
	if _, err := e.Stream(t.Context(), "Good morning. The house is red.", "en", "es", func(string) error { return enough }); err != enough {
		t.Errorf("an error of who hears: %v", err)
	}
	if got := translate(t, e, "Good morning"); got != "Buenos días" {
		t.Errorf("after somebody who had enough: %q", got)
	}
}
