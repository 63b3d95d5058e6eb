package tmx_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dragoman-mt/dragoman/core/text/tmx"
)

const memory = `<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE tmx SYSTEM "tmx14.dtd">
<tmx version="1.4"><header srclang="en-US"/>
<body>
 <tu tuid="1"><tuv xml:lang="en-US"><seg>Salt &amp; pepper</seg></tuv><tuv xml:lang="es-ES"><seg>Sal y pimienta</seg></tuv><tuv xml:lang="fr"><seg>Sel et poivre</seg></tuv></tu>
 <tu><tuv xml:lang="EN"><seg>With <bpt i="1"/>marks</seg></tuv><tuv xml:lang="es"><seg>Con marcas</seg></tuv></tu>
</body></tmx>
`

// TestAMemoryHoldsWhatWasAdded beside what it held before, byte for byte.
func TestAMemoryHoldsWhatWasAdded(t *testing.T) {
	units := []tmx.Unit{{"One < two", "Uno < \"dos\""}, {"Three\nlines", "Tres\nlíneas"}}
	for name, c := range map[string]struct {
		before string
		want   []tmx.Unit
	}{
		"new": {"", units}, "there": {memory, append([]tmx.Unit{{"Salt & pepper", "Sal y pimienta"}}, units...)},
	} {
		out, err := tmx.Add([]byte(c.before), "en", "es", units)
		if err != nil {
			t.Fatal(err)
		}
		got, err := tmx.Read(out, "en", "es")
		if diff := cmp.Diff(c.want, got); err != nil || diff != "" {
			t.Errorf("%s: %v %s", name, err, diff)
		}
		head, _, _ := strings.Cut(c.before, "</body>")
		if !strings.HasPrefix(string(out), head) {
			t.Errorf("%s: what was there has changed:\n%s", name, out)
		}
	}
	if got, err := tmx.Read([]byte(memory), "", "fr"); err != nil || len(got) != 1 || got[0].Target != "Sel et poivre" {
		t.Errorf("%v %v", got, err)
	}
}

// TestWhatIsNoMemoryIsRefused with line and column.
func TestWhatIsNoMemoryIsRefused(t *testing.T) {
	for content, want := range map[string]string{
		"":                                     "no TMX file",
		"<html/>":                              "1:8: this is no TMX file: its root is <html>",
		"<tmx><body>\n<tu></body>":             "2:12:",
		`<!DOCTYPE t [<!ENTITY a "b">]><tmx/>`: "entities are declared",
		"<tmx>" + strings.Repeat("<a>", 1000):  "nested more than 100 deep",
	} {
		if _, err := tmx.Read([]byte(content), "en", "es"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v, want %s", content, err, want)
		}
	}
}

// FuzzRead reads whatever a file may hold as a memory.
func FuzzRead(f *testing.F) {
	f.Add(memory)
	f.Fuzz(func(t *testing.T, content string) {
		if _, err := tmx.Read([]byte(content), "en", "es"); err != nil {
			return
		}
		out, err := tmx.Add([]byte(content), "en", "es", []tmx.Unit{{"a", "b"}})
		if err == nil {
			_, _ = tmx.Read(out, "en", "es") // </body> may stand in a comment
		}
	})
}
