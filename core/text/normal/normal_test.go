package normal

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
	"pgregory.net/rapid"
)

func TestNormalForm(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"a clean text is kept", "Good morning, Ana.", "Good morning, Ana."},
		{"outer white space goes", " \n\tHello\u00a0\r\n", "Hello"},
		{"a run of blanks is one space", "a \t  b\u00a0\u3000c\u2009d", "a b c d"},
		{"line breaks stay what they are", "a\nb\r\nc\u2028d", "a\nb\r\nc\u2028d"},
		{"blanks round a line break stay one each", "a  \n  b", "a \n b"},
		{"composed and decomposed are one", "cafe\u0301", "caf\u00e9"},
		{"compatibility forms stay apart", "\ufb01n \u2460", "\ufb01n \u2460"},
		{"case stays", "Polish polish", "Polish polish"},
		{"a leading mark stays", "\u0301a", "\u0301a"},
		{"nothing stays nothing", " \t\n", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := String(c.in); got != c.want {
				t.Errorf("String(%q) = %q, want %q", c.in, got, c.want)
			}
		})
	}
}

func TestAppendNeverTouchesWhatStandsBefore(t *testing.T) {
	// An e before and a combining accent after must not meet.
	if got := string(Append([]byte("e"), "\u0301x")); got != "e\u0301x" {
		t.Errorf("got %q", got)
	}
}

func TestNormalFormIsItsOwnNormalForm(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.StringOf(rapid.SampledFrom([]rune("aeÅ \t\n\r\u00a0\u2000\u2028\u0301\u0327\u1100\u1161\u212b\U0001f600"))).Draw(t, "text")
		once := String(s)
		if twice := String(once); twice != once {
			t.Fatalf("%q -> %q -> %q", s, once, twice)
		}
		if !utf8.ValidString(once) {
			t.Fatalf("%q -> %q, which is not UTF-8", s, once)
		}
	})
}

func TestBlanksAreWhatUnicodeCallsSpaceSeparators(t *testing.T) {
	for r := rune(0); r <= unicode.MaxRune; r++ {
		if want := r == '\t' || unicode.Is(unicode.Zs, r); isBlank(r) != want {
			t.Errorf("isBlank(%U) = %v", r, !want)
		}
	}
}

func TestTextBeforeTheFirstMarkIsInFormC(t *testing.T) {
	for r := rune(0); r < firstMark; r++ {
		if p := norm.NFC.PropertiesString(string(r)); !norm.NFC.IsNormalString(string(r)) || p.CCC() != 0 || !p.BoundaryBefore() {
			t.Errorf("%U is not", r)
		}
	}
}

func TestNormalTextCostsNoAllocation(t *testing.T) {
	buf := make([]byte, 0, 256)
	for _, s := range []string{"Good morning. The new car is very fast.", "Él tomó el café, ¿verdad?"} {
		if n := testing.AllocsPerRun(100, func() { buf = Append(buf[:0], s) }); n != 0 {
			t.Errorf("%q: %v allocations", s, n)
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	for name, s := range map[string]string{
		"ascii":   "Good morning. The new car is fast, and it was not expensive.",
		"spanish": "Buenos días. El coche nuevo es rápido, y además salió barato.",
		// A text of nothing but what has to be put together: twice as long, twice the work.
		"marks":       strings.Repeat("a\u0315\u0300\u0327", 1<<13),
		"marks twice": strings.Repeat("a\u0315\u0300\u0327", 1<<14),
	} {
		b.Run(name, func(b *testing.B) {
			buf := make([]byte, 0, 256)
			for b.Loop() {
				buf = Append(buf[:0], s)
			}
		})
	}
}
