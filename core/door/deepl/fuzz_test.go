package deepl

import (
	"strings"
	"testing"
)

// FuzzEntries: whatever is taken is a list of terms that can be written and read again.
func FuzzEntries(f *testing.F) {
	f.Add("a\tb\nc\td")
	f.Add("\"a, b\",\"c\"\n")
	f.Fuzz(func(t *testing.T, entries string) {
		terms, err := readTSV(entries)
		if err == nil {
			again, err := readTSV(dictionary{Terms: terms}.tsv())
			if err != nil || len(again) != len(terms) {
				t.Errorf("%q: %v, %v", entries, again, err)
			}
		}
		terms, err = readCSV(entries, "en", "de")
		for _, one := range terms {
			if err == nil && (strings.TrimSpace(one.Source) == "" || one.Target == "") {
				t.Errorf("%q: %+v", entries, terms)
			}
		}
	})
}
