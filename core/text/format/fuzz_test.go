package format

import (
	"slices"
	"testing"
)

// FuzzRead reads whatever a file may hold, as each format: it answers or complains, and what
// it writes is the file, or one that can be read again.
func FuzzRead(f *testing.F) {
	all := Names()
	for name, content := range samples(f) {
		f.Add(slices.Index(all, Of(name)), content, "Un texto: \"otro\" <b> & {x} | '#'")
	}
	f.Fuzz(func(t *testing.T, format int, content, answer string) {
		if format < 0 || format >= len(all) {
			t.Skip()
		}
		name := all[format]
		o := Options{Source: "en", Target: "ru"}
		doc, err := Read(name, []byte(content), o)
		if err != nil {
			return
		}
		if out, err := doc.Write(func(int) (string, bool) { return "", false }); err != nil || string(out) != content {
			t.Fatalf("%s: %q became %q, %v", name, content, out, err)
		}
		out, err := doc.Write(func(i int) (string, bool) {
			if s := doc.Segments[i]; s.Marks != NoMarks {
				return s.Text, true
			}
			return answer, true
		})
		if err != nil || name == "md" || name == "html" {
			return
		}
		if _, err := Read(name, out, o); err != nil {
			t.Fatalf("%s: %q was written as %q, which is refused: %v", name, content, out, err)
		}
	})
}
