//go:build !race

package postprocess

import (
	"context"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/dragoman-mt/dragoman/core"
)

// triggers returns what the steps look for, from their own tables, and what may
// stand between.
func triggers() []string {
	all := []string{
		" ", "\n", "\t", "\u00a0", "a", "Hola ", "слово ", "言葉", "7", ".", "!", "?", ":", "：", "-", "—", "---", "***", "#", ">", "<", "</", "(", ")", "（", "）", "[", "]", "【", "•",
		"```", "~~~", "```text\n", "**", "\u0301", "\xff", "\x00", "Translation: ", "Here is the translation:\n", "Spanish: ", " (note: a)", " (literally: x)", "lit. ", "1. ", english, spanish,
	}
	for _, q := range quotes {
		all = append(all, q.open, q.shut)
	}
	for _, tags := range [][]string{thoughtTags[:], wrapTags} {
		for _, tag := range tags {
			all = append(all, "<"+tag+">", "</"+tag+">", "</"+tag+">\n", "<"+tag[:2])
		}
	}
	for _, word := range assents {
		all = append(all, word+" ")
	}
	for _, by := range []map[rune][]string{notes.by, asides.by, translateStems.by} {
		for _, words := range by {
			for _, word := range words {
				all = append(all, "\n"+word+": ", word)
			}
		}
	}
	for _, r := range refusals {
		all = append(all, r.opens[0]+" "+r.middles[0]+" "+r.ends[0]+". ")
	}
	for _, words := range []map[string]bool{announceKeys, announceWords} {
		for word := range words {
			all = append(all, word+" ", word+": ")
		}
	}
	for name := range languageNames {
		all = append(all, name+": ")
	}
	for language, words := range functionWords {
		all = append(all, language+": ", words[0]+" ")
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// A recipe makes an answer, and a text, of triggers: a beginning, a middle that is
// repeated up to a size, and an end. Each two bytes stand for one.
type recipe struct {
	text, start, middle, end []byte
	size                     int
}

func (r recipe) make(words []string) (text, answer string) {
	spell := func(recipe []byte) string {
		var b strings.Builder
		for ; len(recipe) > 1 && b.Len() < 4<<10; recipe = recipe[2:] {
			b.WriteString(words[(int(recipe[0])<<8|int(recipe[1]))%len(words)])
		}
		return b.String()
	}
	answer = spell(r.start)
	if unit := spell(r.middle); unit != "" {
		answer += strings.Repeat(unit, r.size/len(unit))
	}
	return spell(r.text), answer + spell(r.end)
}

// holds checks that the work on answer is linear, whole and in deltas, and that
// what is heard is what the whole is judged to be.
func holds(t rapid.TB, s *Stage, req *core.Request, answer string, piece int) {
	both := len(req.Text) + len(answer) + 1<<10
	q := newQuestion(context.Background(), req)
	s.judged(q, &core.Result{Text: answer}, "")
	if q.spent > maxWork*both {
		t.Errorf("%d bytes looked at for %d and %d", q.spent, len(req.Text), len(answer))
	}
	if most := 256 << 10; len(answer) > most { // deltas are looked at some 40 times, and a fuzz worker must be done within 10 s
		answer = answer[:wholeRunes(answer[:most])]
		both = len(req.Text) + len(answer) + 1<<10
	}
	pieces := split(answer, []int{max(piece, 1, len(answer)>>12)})
	heard := *req
	heard.OnDelta = func(string) error { return nil }
	p := &preview{stage: s, q: newQuestion(context.Background(), &heard), again: hold}
	for _, piece := range pieces {
		if p.hear(piece) != nil {
			break
		}
	}
	if p.q.spent > maxDeltaWork*both {
		t.Errorf("%d bytes looked at in deltas for %d and %d", p.q.spent, len(req.Text), len(answer))
	}
	if len(answer) <= 128<<10 { // it judges and hears all again
		agrees(t, s, req, answer, core.FinishStop, pieces)
	}
}

// TestAnyMixtureOfTriggersIsLinear draws recipes; FuzzTriggers looks for them.
func TestAnyMixtureOfTriggersIsLinear(t *testing.T) {
	words := triggers()
	stages := []*Stage{New("postprocess", Config{}), New("postprocess", Config{Skip: []Step{Length}})}
	rapid.Check(t, func(t *rapid.T) {
		some := func(most int, name string) []byte { return rapid.SliceOfN(rapid.Byte(), 0, 2*most).Draw(t, name) }
		r := recipe{some(4, "text"), some(3, "start"), some(4, "middle"), some(3, "end"), 1 << rapid.IntRange(0, 16).Draw(t, "size")}
		text, answer := r.make(words)
		if rapid.IntRange(0, 3).Draw(t, "alike") == 0 {
			text = answer[:wholeRunes(answer[:len(answer)/2])]
		}
		req := &core.Request{Text: text, Source: core.Language(rapid.SampledFrom([]string{"", "en", "de", "ru", "eu"}).Draw(t, "source")), Target: core.Language(rapid.SampledFrom([]string{"es", "en", "ja", "ru"}).Draw(t, "target"))}
		holds(t, rapid.SampledFrom(stages).Draw(t, "stage"), req, answer, rapid.IntRange(1, 200).Draw(t, "piece"))
	})
}

// FuzzTriggers makes answers of up to 1 MiB, and texts, of what the steps look
// for. However that is put together, the work is linear, and what is heard is
// what the whole is judged to be.
func FuzzTriggers(f *testing.F) {
	words := triggers()
	at := func(texts ...string) (recipe []byte) {
		for _, text := range texts {
			n, ok := slices.BinarySearch(words, text)
			if !ok {
				f.Fatalf("%q is no trigger", text)
			}
			recipe = append(recipe, byte(n>>8), byte(n))
		}
		return recipe
	}
	for _, middle := range [][]byte{
		at("Translation: "), at(" (note: a)"), at(" (literally: x)"), at("sure! "), at("<think>"), at("</think>"), at("<think>", "a", "</think>"), at("</think>\n"), at("(", "["), at(")"),
		at("```", "\n"), at("“", "«"), at("**"), at("\nnote: "), at("\nalternatively: "), at("<", "a"), at("1. ", "Translation: ", "\n"), at("a", "слово "), at("<answer>"),
		at("Translation: ", "“", "<think>", "(", "\nnote: ", "```", "Spanish: "), at(spanish, "\n"), at(english),
	} {
		f.Add(at(english), at(), middle, at("Hola "), uint32(70_000), uint16(3), "en", "es", false)
		f.Add(at("Hola "), at(spanish), middle, at(")"), uint32(3_000), uint16(1), "", "en", true)
		f.Add(middle, at("<think>"), middle, middle, uint32(1<<20), uint16(200), "ru", "ja", true)
	}
	all, lax := New("postprocess", Config{}), New("postprocess", Config{Skip: []Step{Length}})
	f.Fuzz(func(t *testing.T, text, start, middle, end []byte, size uint32, piece uint16, source, target string, refuse bool) {
		s := lax
		if refuse {
			s = all
		}
		asked, answer := recipe{text, start, middle, end, int(size % (1<<20 + 1))}.make(words)
		holds(t, s, &core.Request{Source: core.Language(source), Target: core.Language(target), Text: asked}, answer, int(piece))
	})
}
