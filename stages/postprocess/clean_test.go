package postprocess

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dragoman-mt/dragoman/core"
)

// A pair is a text and a good translation of it.
type pair struct {
	name           string
	source, target core.Language
	text, answer   string
}

func (p pair) request() *core.Request {
	return &core.Request{Text: p.text, Source: p.source, Target: p.target}
}

// written reads testdata/clean.tsv: pairs that were written for this package.
func written(tb testing.TB) []pair {
	tb.Helper()
	return readPairs(tb, "clean.tsv")
}

// messages reads testdata/messages.tsv: what programs say, and what their translators
// made of it, in 71 languages.
func messages(tb testing.TB) []pair {
	tb.Helper()
	return readPairs(tb, "messages.tsv")
}

// readPairs reads a table of testdata.
func readPairs(tb testing.TB, name string) (all []pair) {
	tb.Helper()
	file, err := os.Open(filepath.Join("testdata", name))
	if err != nil {
		tb.Fatal(err)
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for n := 1; lines.Scan(); n++ {
		line := lines.Text()
		if line == "" || line[0] == '#' {
			continue
		}
		fields := strings.Split(strings.ReplaceAll(line, `\n`, "\n"), "\t")
		if len(fields) != 4 {
			tb.Fatalf("%s:%d: %d fields, want 4", name, n, len(fields))
		}
		p := pair{name: fmt.Sprintf("%s:%d", name, n), text: fields[2], answer: fields[3]}
		for i, l := range []*core.Language{&p.source, &p.target} {
			if *l, err = core.ParseLanguage(fields[i]); err != nil {
				tb.Fatalf("%s:%d: %v", name, n, err)
			}
		}
		all = append(all, p)
	}
	if err := lines.Err(); err != nil {
		tb.Fatal(err)
	}
	return all
}

// In each language: how a quotation is marked, a label for a note, the
// announcement of a translation, and a refusal.
var phrases = map[string]struct{ open, shut, note, here, refusal string }{
	"en": {"“", "”", "Note: ", "Here is the translation: ", "I'm sorry, but I can't help with that."},
	"es": {"«", "»", "Nota: ", "Aquí está la traducción: ", "Lo siento, pero no puedo ayudar con eso."},
	"fr": {"« ", " »", "Remarque : ", "Voici la traduction : ", "Je suis désolé, mais je ne peux pas vous aider."},
	"de": {"„", "“", "Hinweis: ", "Hier ist die Übersetzung: ", "Es tut mir leid, aber dabei kann ich nicht helfen."},
	"it": {"“", "”", "Nota: ", "Ecco la traduzione: ", "Mi dispiace, ma non posso aiutarti."},
	"pt": {"\"", "\"", "Nota: ", "Aqui está a tradução: ", "Desculpe, mas não posso ajudar com isso."},
	"nl": {"“", "”", "Opmerking: ", "Hier is de vertaling: ", "Het spijt me, maar daar kan ik niet bij helpen."},
	"pl": {"„", "”", "Uwaga: ", "Oto tłumaczenie: ", "Przykro mi, ale nie mogę w tym pomóc."},
	"ru": {"«", "»", "Примечание: ", "Вот перевод: ", "Извините, но я не могу с этим помочь."},
	"uk": {"«", "»", "Примітка: ", "Ось переклад: ", "Вибачте, але я не можу з цим допомогти."},
	"zh": {"“", "”", "注意：", "以下是翻译：", "抱歉，我无法协助处理此事。"},
	"ja": {"「", "」", "注：", "以下は翻訳です：", "申し訳ありませんが、それはお手伝いできません。"},
	"ko": {"\"", "\"", "참고: ", "다음은 번역입니다: ", "죄송하지만 도와드릴 수 없습니다."},
	"ar": {"«", "»", "ملاحظة: ", "إليك الترجمة: ", "عذرًا، لا يمكنني المساعدة في ذلك."},
}

// composed returns what becomes of all when each is put into a quotation, a
// letter, a list, a caption and so on, together with its translation.
func composed(all []pair) (more []pair) {
	last := map[[2]core.Language]pair{}
	for i, p := range all {
		add := func(name, text, answer string) {
			more = append(more, pair{p.name + ", " + name, p.source, p.target, text, answer})
		}
		both := func(name, before, after string) { add(name, before+p.text+after, before+p.answer+after) }
		languages := [2]core.Language{p.source, p.target}
		s, known := phrases[p.source.Base()]
		t, also := phrases[p.target.Base()]
		known = known && also && p.source.Base() != p.target.Base()
		switch i % 6 {
		case 0:
			both("as a caption", fmt.Sprintf("[00:%02d:%02d] ", i/60%60, i%60), "")
			both("with a smile", "", " 🙂")
		case 1:
			both("said by somebody", "Anna: ", "")
			both("as a line of a list", "- ", "")
		case 2:
			both("with an address", "", fmt.Sprintf(" https://example.com/%d", i))
			both("in a tag", "<b>", "</b>")
		case 3:
			both("as a heading", "## ", "")
			both("in a think block", "<think>", "</think>")
		case 4:
			both("in a fence", "```\n", "\n```")
			both("with space round it", "  ", "\n")
		case 5:
			both("in brackets", "(", ")")
			both("in bold", "**", "**")
		}
		if known {
			add("in quotation marks", s.open+p.text+s.shut, t.open+p.answer+t.shut)
			switch i % 3 {
			case 0:
				add("as a note", s.note+p.text, t.note+p.answer)
			case 1:
				add("announced", s.here+p.text, t.here+p.answer)
			case 2:
				add("behind a refusal", s.refusal+" "+p.text, t.refusal+" "+p.answer)
			}
		}
		if p.text == p.answer {
			continue // two of them would be a text that nobody translated
		}
		if q, ok := last[languages]; ok {
			add("after another", q.text+"\n"+p.text, q.answer+"\n"+p.answer)
		}
		last[languages] = p
	}
	return more
}

// TestCleanAnswersPassUnchanged is the promise of this stage: good translations, at
// least 3,000 of them by people who knew nothing of it, and each comes back as the very
// result that went in.
func TestCleanAnswersPassUnchanged(t *testing.T) {
	all := written(t)
	if len(all) < 250 {
		t.Errorf("clean.tsv has %d pairs, want at least 250", len(all))
	}
	found := messages(t)
	if len(found) < 3000 {
		t.Errorf("messages.tsv has %d pairs, want at least 3,000", len(found))
	}
	all = append(append(all, composed(all)...), found...)
	seen := map[pair]bool{}
	s := New("postprocess", Config{})
	for _, p := range all {
		key := p
		key.name = ""
		if seen[key] {
			t.Errorf("%s: there twice", p.name)
		}
		seen[key] = true
		for _, source := range []core.Language{p.source, ""} {
			req := p.request()
			req.Source = source
			in := &core.Result{Text: p.answer, Finish: core.FinishStop}
			out, err := s.look(req, in, "")
			switch {
			case err != nil:
				t.Errorf("%s: %s -> %s: %q: %q was refused: %v", p.name, source, p.target, p.text, p.answer, err)
			case out != in:
				t.Errorf("%s: %s -> %s: %q: %q became %q %v", p.name, source, p.target, p.text, p.answer, out.Text, out.Flags)
			}
		}
	}
	t.Logf("%d pairs: %d written, %d found, the others composed", len(seen), len(written(t)), len(found))
	if len(seen) < 4000 {
		t.Errorf("%d pairs, want at least 4,000", len(seen))
	}
}
