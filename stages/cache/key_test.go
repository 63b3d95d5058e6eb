package cache

import (
	"bytes"
	"testing"

	"github.com/dragoman-mt/dragoman/core"
)

// TestBlanksMatterWhereTheyComeBack: an answer has the placeholders, the tags and the code of
// its text byte for byte, so a text that differs in them is another.
func TestBlanksMatterWhereTheyComeBack(t *testing.T) {
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{"Good  morning", "Good morning", true},
		{" Hi {name} ", " Hi {name} ", true},
		{"Hi {{ name }}", "Hi {{  name }}", false},
		{"Run `a  b`", "Run `a b`", false},
		{"<a  href='x'>y</a>", "<a href='x'>y</a>", false},
	} {
		if same := bytes.Equal(appendKey(nil, &core.Request{Text: c.a}), appendKey(nil, &core.Request{Text: c.b})); same != c.same {
			t.Errorf("%q and %q are the same text: %v", c.a, c.b, same)
		}
	}
}
