package format

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

// TestASentenceThatRunsOverCuesIsOneText and its translation is laid out over the same ones.
func TestASentenceThatRunsOverCuesIsOneText(t *testing.T) {
	content := "1\n00:00:01,000 --> 00:00:03,000\nI have never seen\nsuch a big house,\n\n2\n00:00:03,100 --> 00:00:05,000\nbut I want to buy it.\n\n" +
		"3\n00:00:05,100 --> 00:00:06,000\nAnother sentence.\n\n4\n00:00:07,000 --> 00:00:08,000\nToo late to\n\n5\n00:00:20,000 --> 00:00:21,000\nbe the same.\n"
	doc := read(t, "a.srt", content, false)
	var texts []string
	for _, s := range doc.Segments {
		texts = append(texts, s.ID+" "+s.Text)
	}
	if got, want := strings.Join(texts, "|"), "1-2 I have never seen such a big house, but I want to buy it.|3 Another sentence.|4 Too late to|5 be the same."; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	out, err := doc.Write(func(i int) (string, bool) {
		return "Nunca he visto una casa tan grande, pero la quiero comprar.", i == 0
	})
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Replace(strings.Replace(content, "I have never seen\nsuch a big house,", "Nunca he visto una casa tan grande,", 1), "but I want to buy it.", "pero la quiero comprar.", 1)
	if string(out) != want {
		t.Errorf("got\n%s\nwant\n%s", out, want)
	}
}

// TestNoLineIsLongerThanAsked and nothing of a translation is lost, for any text and any
// number of cues.
func TestNoLineIsLongerThanAsked(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cues := rapid.IntRange(1, 6).Draw(t, "cues")
		most := rapid.IntRange(10, 60).Draw(t, "most")
		words := rapid.SliceOfN(rapid.StringMatching(`[a-záñ,.]{1,70}|[漢字かなー。「」]{1,30}|\p{Thai}{1,20}`), 1, 60).Draw(t, "words")
		answer := strings.Join(words, " ")
		var b strings.Builder
		for i := range cues {
			end := ","
			if i == cues-1 {
				end = "."
			}
			fmt.Fprintf(&b, "%d\n00:00:%02d,000 --> 00:00:%02d,900\n%s%s\n\n", i+1, i, i, rapid.StringMatching(`[a-z]{1,20} [a-z]{1,20}`).Draw(t, "text"), end)
		}
		doc, err := Read("srt", []byte(b.String()), Options{Line: most})
		if err != nil || len(doc.Segments) != 1 {
			t.Fatalf("%d segments: %v", len(doc.Segments), err)
		}
		out, err := doc.Write(func(int) (string, bool) { return answer, true })
		if err != nil {
			t.Fatal(err)
		}
		blocks := strings.Split(strings.TrimSuffix(string(out), "\n\n"), "\n\n")
		if len(blocks) != cues {
			t.Fatalf("%d cues became %d:\n%s", cues, len(blocks), out)
		}
		got := ""
		for i, block := range blocks {
			lines := strings.Split(block, "\n")
			if want := strings.Split(strings.Split(b.String(), "\n\n")[i], "\n")[1]; lines[1] != want {
				t.Errorf("the times %s became %s", want, lines[1])
			}
			for _, l := range lines[2:] {
				if n := utf8.RuneCountInString(l); n > most {
					t.Errorf("a line of %d, and %d were asked: %q", n, most, l)
				}
			}
			got += strings.Join(lines[2:], "")
		}
		bare := func(s string) string { return strings.ReplaceAll(s, " ", "") }
		if !strings.HasPrefix(bare(got), bare(answer)) { // the last part may be shown again
			t.Errorf("%q became %q", answer, got)
		}
	})
}
