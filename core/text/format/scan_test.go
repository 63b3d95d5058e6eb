package format

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/dragoman-mt/dragoman/core/coretest/property"
)

// What marks of HTML and XML are, as expressions say it.
var (
	htmlMarks = regexp.MustCompile(`(?is)<!--.*?-->|<(?:code[\s>].*?</code|kbd[\s>].*?</kbd|samp[\s>].*?</samp|var[\s>].*?</var|tt[\s>].*?</tt|script[\s>].*?</script|style[\s>].*?</style|svg[\s>].*?</svg|math[\s>].*?</math)\s*>|</?[a-z](?:[^<>"']|"[^"]*"|'[^']*')*>|<\d[\d:.]*>`)
	xmlMarks  = regexp.MustCompile(`(?s)<!--.*?-->|<\?.*?\?>|<!\[CDATA\[.*?\]\]>|</?[\pL_:](?:[^<>"']|"[^"]*"|'[^']*')*>|&[\pL_:][\pL\pN_:.\-]*;`)
)

func TestMarksAreWhatTheirExpressionsSay(t *testing.T) {
	tokens := strings.Split(`< > " ' / & ; - ! ? a b é 1 : . = _|<!-- --> <? ?> <![CDATA[ ]]> <b> </b> <a href=" "> <code> <Code < /code> </code </code > <svg </svg> <1:2> &amp; &nbsp; <br/>`, " ")
	property.Few(t, 3000) // they are cheap, and most marks seldom whole
	property.Check(t, func(t *rapid.T) {
		text := strings.ReplaceAll(strings.Join(rapid.SliceOfN(rapid.SampledFrom(tokens), 0, 14).Draw(t, "text"), ""), "|", " ")
		for m, re := range map[Marks]*regexp.Regexp{HTML: htmlMarks, XML: xmlMarks} {
			want := slices.DeleteFunc(re.FindAllString(text, -1), func(of string) bool { return slices.Contains(characters, of) })
			var got []string
			whole := ""
			for raw, mark := range m.parts(text) {
				if whole += raw; mark {
					got = append(got, raw)
				}
			}
			if !slices.Equal(got, want) || whole != text {
				t.Errorf("%s %q: %q, want %q", m, text, got, want)
			}
		}
	})
}

// A byte of a text is looked at for what ends a mark as often as there are kinds of it,
// and not as often as there are marks.
func TestWhatEndsAMarkIsLookedForOnce(t *testing.T) {
	looks := 0
	s := newScan(strings.Repeat("<!--<code ><b>", 1000), HTML)
	for _, what := range []string{"-->", "code"} {
		for from := range s.text {
			s.find(from, what, func(int) int { looks++; return -1 })
		}
	}
	if looks != 2 {
		t.Errorf("%d looks", looks)
	}
}
