// Package names says what a language is called in English and in Chinese.
//
// The names are those of the Unicode CLDR, as golang.org/x/text/language/display has
// them, which links and sets up the names in 260 languages: two megabytes of the
// program, and some milliseconds of each start, for the two languages that prompts are
// written in. A test holds the tables to it.
package names

import (
	_ "embed"
	"strings"

	"golang.org/x/text/language"
)

// The tables have a line for each language, script and region that has a name: its
// subtag, or its tag, a tab, and the name.
var (
	//go:embed en.tsv
	english string
	//go:embed zh.tsv
	chinese string
)

// English is what the language of tag is called in English: "Brazilian Portuguese",
// "Swiss High German", "Uzbek (Cyrillic)". Empty when it has no name.
func English(tag language.Tag) string { return name(english, tag) }

// Chinese is what the language of tag is called in Chinese, in simplified characters.
func Chinese(tag language.Tag) string { return name(chinese, tag) }

func name(table string, tag language.Tag) string {
	if c, err := (language.All &^ language.SuppressScript).Canonicalize(tag); err == nil {
		tag = c
	}
	_, script, region := tag.Raw()
	for of := tag; ; {
		said, rest := longest(table, of)
		if said != "" {
			if of != tag {
				rest = []string{subtag(script), subtag(region)}
			}
			var more []string
			for _, part := range rest {
				if part = find(table, part); part != "" {
					more = append(more, part)
				}
			}
			if len(more) > 0 {
				said += " (" + strings.Join(more, ", ") + ")"
			}
			return said
		}
		if of = of.Parent(); of == language.Und {
			return ""
		}
	}
}

// longest returns the name of tag with its script or its region, else of its language
// alone, and the subtags that are not in that name.
func longest(table string, tag language.Tag) (said string, rest []string) {
	base, script, region := tag.Raw()
	s, r := subtag(script), subtag(region)
	if s != "" {
		if said := find(table, base.String()+"-"+s); said != "" {
			return said, []string{"", r}
		}
	}
	if r != "" {
		if said := find(table, base.String()+"-"+r); said != "" {
			return said, []string{s, ""}
		}
	}
	return find(table, base.String()), []string{s, r}
}

// subtag writes a script or a region; nothing for none and for an unknown one.
func subtag(part interface{ String() string }) string {
	switch part := part.(type) {
	case language.Script:
		if part == (language.Script{}) || part.String() == "Zzzz" {
			return ""
		}
	case language.Region:
		if part == (language.Region{}) || part.String() == "ZZ" {
			return ""
		}
	}
	return part.String()
}

// find returns the name that stands behind key.
func find(table, key string) string {
	if key == "" {
		return ""
	}
	_, after, ok := strings.Cut(table, "\n"+key+"\t")
	if !ok {
		return ""
	}
	said, _, _ := strings.Cut(after, "\n")
	return said
}
