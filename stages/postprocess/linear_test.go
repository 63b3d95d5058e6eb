package postprocess

import (
	"context"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dragoman-mt/dragoman/core"
)

// hostile are answers that are made of what the steps look for, n bytes long,
// and texts that they answer.
var hostile = map[string]func(n int) (text, answer string){
	"announcements":           of("Hello", "Translation: ", "Hola"),
	"announcements of a text": of("Translation: a\nTranslation: b: (c)", "Translation: ", "Hola"),
	"lines of announcements":  of("Hello", "Here is the translation:\n", "Hola"),
	"assents":                 of("Hello", "Sure! ", "Hola"),
	"names of the language":   of("Hello", "Spanish: ", "Hola"),
	"names, and a line":       of("Hello", "Spanish: ", "Hola\na"),
	"notes in brackets":       of("Hello", " (note: a)", ""),
	"notes behind a word":     after("Hola", of("Hello", " (note: a)", "")),
	"literally":               after("Hola", of("Hello", " (literally: x)", "")),
	"notes in notes":          after("Hola ", of("Hello", "(note: ", "")),
	"notes that close":        after("Hola ", both("Hello", "(note: ", ")")),
	"brackets that open":      after("Hola ", of("Hello", "(", "x")),
	"brackets that close":     after("Hola ", of("Hello", ")", "")),
	"brackets":                after("Hola ", both("Hello", "[", "]")),
	"lines of notes":          after("Hola", of("Hello", "\nNote: a", "")),
	"notes of too few labels": after("Hola", of("a: b\nc: d\ne", "\nNote:x", "")),
	"asides":                  after("Hola", of("One. Two. Three.", "\nI used x", "")),
	"rules":                   after("Hola", of("Hello", "\n---", "")),
	"quotation marks":         both("Hello", "\"“«'", "'»”\""),
	"one quotation mark":      both("Hello", "\"", "\""),
	"quotation marks in one":  after("\"", of("Hello", "Hola \"", "")),
	"bold":                    both("Hello", "**", "**"),
	"fences":                  both("Hello", "```\n", "\n```"),
	"lines in a fence":        after("```\n", of("Hello", "Hola\n", "```")),
	"tags":                    both("Hello", "<answer><output>", "</output></answer>"),
	"think tags":              of("Hello", "<think>", "Hola"),
	"think tags in between":   after("Hola", of("Hello", "<think>a</think>b", "")),
	"think tags that close":   of("Hello", "</think>", "\nHola"),
	"lines of closing tags":   of("Hello", "</think>\n", "Hola"),
	"think blocks":            of("Hello", "<think>a</think>", "Hola"),
	"think tags of all kinds": of("Hello", "<think><reasoning>a</think>", "Hola"),
	"tags in tags":            both("Hello", "<thi", "<think>nk>"),
	"tags that the text has":  of("Hello <think>", "<think>", "Hola"),
	"angles":                  of("Hello", "<", "Hola"),
	"empty lines":             after("Hola", of("Hello", "\n", "a")),
	"blanks":                  after("Hola", of("Hello", " ", "(note: a)")),
	"colons":                  of("Hello", ":", "a"),
	"numbered lines":          of("Hello", "1. Translation: Hola\n", "a"),
	"leads":                   after("Hola\n", of("Hello", "#*", "Note: a")),
	"dashes before notes":     after(strings.Repeat("-", 1000), of("Hello", " (note: a)", "")),
	"letters of two scripts":  of("Hello", "a Ж ", "a"),
	"strange words":           different(" слово"),
	"no letters":              of("Hello", "-", ""),
	"one word":                of("Hello", "a", ""),
	"apologies":               of("Hello", "I'm sorry, but I can't help with that. ", ""),
	"loops":                   of("Hello", "lo sabes que ", ""),
	"marks":                   of("Hello", "a\u0301\u0302", ""),
	"all":                     of("Hello", "Translation: \"Sure! (note: <think>a</think>```\n**Spanish: «b» [lit. c]\nNote: ", "Hola"),
	"alternating":             both("Hello", "\"Translation: ", " (note: a)\""),
	"the text itself":         same("The cat and the dog are in the house. "),
	"the text and notes":      same("(note: a) Translation: b\n<think>c</think> \"d\" "),
	"lines of the text":       same("Note: a: (b)\nSure! Translation: c\n"),
	"strange text":            same("слово и дело "),
}

// of repeats unit up to n bytes before end, as the answer to text.
func of(text, unit, end string) func(int) (string, string) {
	return func(n int) (string, string) { return text, strings.Repeat(unit, n/len(unit)) + end }
}

// both puts as many before as after round a word.
func both(text, before, after string) func(int) (string, string) {
	return func(n int) (string, string) {
		times := n / (len(before) + len(after))
		return text, strings.Repeat(before, times) + "Hola" + strings.Repeat(after, times)
	}
}

// after puts start before the answer.
func after(start string, of func(int) (string, string)) func(int) (string, string) {
	return func(n int) (string, string) {
		text, answer := of(n)
		return text, start + answer
	}
}

// same is a text that comes back with all of it twice.
func same(unit string) func(int) (string, string) {
	return func(n int) (string, string) {
		text := strings.Repeat(unit, n/len(unit)/2)
		return text, "Translation: " + text + "\nNote: " + text
	}
}

// different is an answer of different words.
func different(unit string) func(int) (string, string) {
	return func(n int) (string, string) {
		var b strings.Builder
		for i := 0; b.Len() < n; i++ {
			b.WriteString(unit)
			for shift := range 4 {
				b.WriteRune('а' + rune(i>>(4*shift)&15))
			}
		}
		return strings.Repeat("Hello, world. ", n/14), b.String()
	}
}

// maxWork is how many bytes are looked at for each of a text and its answer, at
// the very most: 16 rounds of four repairs, and all else.
const maxWork = 150

// maxDeltaWork is that for deltas: what is held back is looked at each time that
// a 16th of it has come, and as a whole in the end.
const maxDeltaWork = 500

// TestWorkIsLinear counts what is looked at in answers that are made of what is
// looked for: as often as the answer is twice as long, at most twice as much.
// What a step did not count would be found by the time that it takes: 16 times as
// long an answer would take 256 times as long if anything were quadratic.
func TestWorkIsLinear(t *testing.T) {
	s := New("postprocess", Config{Skip: []Step{}})
	lax := New("postprocess", Config{Skip: []Step{Length}}) // so that nothing is refused for that
	for name, shape := range hostile {
		for _, s := range []*Stage{s, lax} {
			work := func(n int) (spent int, took time.Duration) {
				text, answer := shape(n)
				took = time.Hour
				for range 2 {
					q := newQuestion(t.Context(), &core.Request{Text: text, Target: "es"})
					before := processorTime(t)
					s.judged(q, &core.Result{Text: answer}, "")
					took = min(took, processorTime(t)-before)
					spent = q.spent
				}
				if most := maxWork * (len(text) + len(answer)); spent > most {
					t.Errorf("%s: %d bytes looked at for %d and %d", name, spent, len(text), len(answer))
				}
				return spent, took
			}
			_, little := work(4 << 10)
			_, much := work(64 << 10)
			if much > 200*time.Millisecond && much > 80*max(little, 100*time.Microsecond) {
				t.Errorf("%s: %v for 4 KiB, and %v for 64 KiB", name, little, much)
			}
		}
	}
}

// TestAMegabyteIsDoneInNoTime: so much is the most that a provider lets through.
func TestAMegabyteIsDoneInNoTime(t *testing.T) {
	s := New("postprocess", Config{Skip: []Step{Length}})
	for name, shape := range hostile {
		text, answer := shape(1 << 20)
		q := newQuestion(t.Context(), &core.Request{Text: text, Target: "es"})
		before := processorTime(t)
		s.judged(q, &core.Result{Text: answer}, "")
		if took := processorTime(t) - before; took > 3*time.Second { // it takes a twentieth of that
			t.Errorf("%s: it took %v", name, took)
		} else {
			t.Logf("%s: %v, %d bytes for each", name, took, q.spent/(len(text)+len(answer)))
		}
	}
}

// processorTime is what this process has had of the processors; other processes
// do not count.
func processorTime(tb testing.TB) time.Duration {
	tb.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// TestDeltasAreLinear streams the same answers in small pieces.
func TestDeltasAreLinear(t *testing.T) {
	s := New("postprocess", Config{Skip: []Step{Length}})
	for name, shape := range hostile {
		for _, start := range []string{"", spanish + " "} {
			text, answer := shape(64 << 10)
			answer = start + answer
			req := &core.Request{Text: text, Target: "es", OnDelta: func(string) error { return nil }}
			p := &preview{stage: s, q: newQuestion(t.Context(), req), again: hold}
			before := processorTime(t)
			for _, piece := range split(answer, []int{3}) {
				if p.hear(piece) != nil {
					break
				}
			}
			took := processorTime(t) - before
			if most := maxDeltaWork * (len(text) + len(answer)); p.q.spent > most {
				t.Errorf("%s: %d bytes looked at for %d and %d", name, p.q.spent, len(text), len(answer))
			}
			if took > 3*time.Second {
				t.Errorf("%s: it took %v", name, took)
			} else {
				t.Logf("%s: %v, %d bytes for each", name, took, p.q.spent/(len(text)+len(answer)))
			}
		}
	}
}

// TestWorkEndsWithTheRequest: nobody waits for what is found after that.
func TestWorkEndsWithTheRequest(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	long := 0
	for name, shape := range hostile {
		text, answer := shape(256 << 10)
		req, s := &core.Request{Text: text, Target: "es"}, New("postprocess", Config{Skip: []Step{Length}})
		q := newQuestion(ctx, req)
		if _, err := s.judged(q, &core.Result{Text: answer}, ""); q.spent >= patience {
			if long++; core.KindOf(err) != core.Canceled || err.Stage != "postprocess" {
				t.Errorf("%s: got %v", name, err)
			}
		}
		all := newQuestion(t.Context(), req)
		s.judged(all, &core.Result{Text: answer}, "")
		if q.spent > 8*(len(text)+len(answer)) || q.spent > all.spent {
			t.Errorf("%s: %d bytes looked at of %d", name, q.spent, all.spent)
		}

		req.OnDelta = func(string) error { return nil }
		_, err := s.Wrap(core.TranslatorFunc(func(_ context.Context, req *core.Request) (*core.Result, error) {
			for _, piece := range split(answer, []int{1000}) {
				if err := req.OnDelta(piece); err != nil {
					return nil, err
				}
			}
			return &core.Result{Text: answer}, nil
		})).Translate(ctx, req)
		switch core.KindOf(err) {
		case "", core.Canceled, core.BadAnswer, core.ProviderRefused: // found before that, or not
		default:
			t.Errorf("%s: streamed, got %v", name, err)
		}
	}
	if long < len(hostile)/2 {
		t.Errorf("only %d answers took long enough", long)
	}
}

func BenchmarkHostile(b *testing.B) {
	s := New("postprocess", Config{Skip: []Step{Length}})
	for name, shape := range hostile {
		for _, n := range []int{64 << 10, 128 << 10} {
			text, answer := shape(n)
			b.Run(name, func(b *testing.B) {
				b.SetBytes(int64(len(answer)))
				for b.Loop() {
					s.judged(newQuestion(b.Context(), &core.Request{Text: text, Target: "es"}), &core.Result{Text: answer}, "")
				}
			})
		}
	}
}
