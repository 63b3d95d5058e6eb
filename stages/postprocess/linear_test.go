package postprocess

import (
	"strings"
	"testing"

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
	"brackets and no word":    of("The car is fast.", "([", "Hola"),
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
