package names

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/text/language"
	"golang.org/x/text/language/display"
)

var update = flag.Bool("update", false, "write the tables anew")

var tables = []struct {
	file  string
	names func(language.Tag) string
	table *string
	cldr  *display.Dictionary
}{
	{"en.tsv", English, &english, display.English},
	{"zh.tsv", Chinese, &chinese, display.Chinese},
}

// The tables say what golang.org/x/text says: `go test ./core/text/names -update` writes
// them anew when that learns of other names.
func TestTheTablesAreThoseOfCLDR(t *testing.T) {
	for _, of := range tables {
		languages, scripts, regions := of.cldr.Languages(), of.cldr.Scripts(), of.cldr.Regions()
		var lines []string
		add := func(key, name string) {
			if name != "" {
				lines = append(lines, key+"\t"+name)
			}
		}
		for _, tag := range display.Values.Tags() {
			// What has no name of its own has its parent's.
			if said := languages.Name(tag); tag.Parent() == language.Und || said != languages.Name(tag.Parent()) {
				add(tag.String(), said)
			}
		}
		for _, script := range display.Values.Scripts() {
			add(script.String(), scripts.Name(script))
		}
		for _, region := range display.Values.Regions() {
			add(region.String(), regions.Name(region))
		}
		slices.Sort(lines)
		want := "\n" + strings.Join(lines, "\n") + "\n"
		if *update {
			if err := os.WriteFile(of.file, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
		} else if *of.table != want {
			t.Errorf("%s is not what golang.org/x/text says; run go test ./core/text/names -update", of.file)
		}
	}
}

func TestALanguageIsCalledAsInCLDR(t *testing.T) {
	more := []string{"", "-valencia", "-Latn", "-Zzzz", "-Qaaa", "-ZZ", "-Latn-001", "-Cyrl-ME", "-Arab-AF", "-Hans-HK", "-Hant", "-419", "-AT", "-BR", "-CA", "-GB", "-MX", "-US"}
	for _, of := range tables {
		names, languages := of.cldr.Tags(), of.cldr.Languages()
		for n, base := range display.Values.Tags() {
			for i, rest := range more {
				if i > 0 && i%4 != n%4 {
					continue // each language with some of them is enough
				}
				b, _, _ := base.Raw()
				tag, err := language.Raw.Parse(b.String() + rest)
				if err != nil {
					continue
				}
				want, got := names.Name(tag), of.names(tag)
				if want == "" && strings.HasPrefix(got, languages.Name(b)+" (") {
					continue // it stops at az-Arab, which has a place in its tables and no name there
				}
				if got != want {
					t.Fatalf("%s: %s is called %q, want %q", of.file, tag, got, want)
				}
			}
		}
	}
}

func ExampleEnglish() {
	for _, tag := range []string{"de", "pt-BR", "zh-Hant", "uz-Cyrl", "de-CH"} {
		fmt.Printf("%q\n", English(language.Make(tag)))
	}
	// Output:
	// "German"
	// "Brazilian Portuguese"
	// "Traditional Chinese"
	// "Uzbek (Cyrillic)"
	// "Swiss High German"
}
