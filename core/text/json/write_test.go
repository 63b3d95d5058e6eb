package jsontext

import (
	"encoding/json"
	"strings"
	"testing"
)

// FuzzAppendString proves that what is written is JSON that reads back the same.
func FuzzAppendString(f *testing.F) {
	for _, s := range []string{
		"", "plain", "a\"b\\c\n\t\x00\x1f\x7f", "\"\\\n\r\t\x00\x1f\x7f", "é😀\u2028", "日本語 😀", "\xff\xc3", "\xff\xfe", "\u2028\u2029", "<&>", "</script>", "\xed\xa0\x80",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		encoded := AppendString(nil, s)
		var got string
		if err := json.Unmarshal(encoded, &got); err != nil {
			t.Fatalf("%q became %s: %v", s, encoded, err)
		}
		if want := strings.ToValidUTF8(s, "\uFFFD"); got != want {
			t.Fatalf("%q became %q", s, got)
		}
	})
}

func BenchmarkAppendString(b *testing.B) {
	for name, s := range map[string]string{
		"ascii":  strings.Repeat("The meeting begins at nine o'clock. ", 4),
		"accent": strings.Repeat("La reunión empieza a las nueve. \n", 4),
		"wide":   strings.Repeat("会議は九時に始まります。", 8),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			into := make([]byte, 0, 1024)
			for b.Loop() {
				AppendString(into, s)
			}
		})
	}
}

func TestWhatIsNotPlainIsFoundWhereverItStands(t *testing.T) {
	for c := range 256 {
		plainly := c >= ' ' && c != '"' && c != '\\'
		for at := range 20 {
			for _, behind := range []byte("x!#[]\"\x00 \x80\xff") { // some differ in one bit from what is looked for
				b := []byte(strings.Repeat("x", at) + "z" + strings.Repeat("x", 20))
				b[at], b[at+1] = byte(c), behind
				want := at
				switch {
				case plainly && (behind == '"' || behind == 0):
					want = at + 1
				case plainly:
					want = len(b)
				}
				if got, also := plain(b), plain(string(b)); got != want || also != want {
					t.Fatalf("%q: %d and %d, want %d", b, got, also, want)
				}
			}
		}
	}
}
