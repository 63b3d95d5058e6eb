package door

import (
	"path/filepath"
	"slices"
	"strings"
)

// A Format finds the texts of a file that are to be translated, and puts their
// translations into their places.
type Format func(content string) (texts []string, join func([]string) string)

// formats are the files that can be translated. It is written to by nobody.
var formats = map[string]Format{".txt": lines, ".html": Markup{}.Split, ".htm": Markup{}.Split}

// FormatOf returns that of a file, by its name; nil for one that cannot be translated.
func FormatOf(name string) Format { return formats[strings.ToLower(filepath.Ext(name))] }

// Formats returns the endings of names of files that can be translated, sorted.
func Formats() (endings []string) {
	for ending := range formats {
		endings = append(endings, ending)
	}
	slices.Sort(endings)
	return endings
}

// lines splits a text into its lines.
func lines(text string) (all []string, join func([]string) string) {
	var ends []string
	for line := range strings.Lines(text) {
		bare := strings.TrimRight(line, "\r\n")
		all, ends = append(all, bare), append(ends, line[len(bare):])
	}
	return all, func(translations []string) string {
		var b strings.Builder
		for i, t := range translations {
			b.WriteString(t)
			b.WriteString(ends[i])
		}
		return b.String()
	}
}
