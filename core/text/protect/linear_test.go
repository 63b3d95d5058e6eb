//go:build unix && !race

package protect

import (
	"strings"
	"testing"
	"time"

	"github.com/dragoman-mt/dragoman/core/coretest/property"
)

// hostile are texts of nothing but beginnings of placeholders, of which most have no end:
// whoever looks for each from where it begins to the end of the text does so for ever.
var hostile = map[string]string{
	"braces": "{", "braces in each other": "{a {", "double braces": "{{a", "dollars": "${a", "percent": "%(a", "angles": "<", "tags that do not end": "<b ", "tags": "<b>", "ends": "</b>",
	"attributes": `<a b="`, "comments": "<!--", "instructions": "<?", "sections": "<![CDATA[", "entities": "&amp", "entities of its own": "&a.b-", "backticks": "`a ", "fences": "```\n", "dollars of formulas": "$x<", "brackets": "[[a", "forums": "[b]",
	"plurals": "{n, plural, one {", "plurals with quotes": "{n, plural, one {'", "nesting": "$t(", "addresses": "http://", "mail": "a@", "mail with dots": "a.a.a@a.", "pods": "B<a ", "troff": `\fB`, "formulas": `\(a`, "folders": "/a", "options": "--a", "printf": "%1$", "marks": "<x1", "marks of letters": "XQ1", "marks of brackets": "⟦1", "slack": "<@", "templates": "{% if %}", "code": "<code>", "no translation": `<i translate="no">`,
}

// TestWorkIsLinear: sixteen times as long a text takes sixteen times as long, be it all
// beginnings, and its marks too when they come back in whatever order.
func TestWorkIsLinear(t *testing.T) {
	o := &Options{}
	work := func(text string) time.Duration {
		took := time.Hour
		for range 2 {
			before := property.ProcessorTime(t)
			if p := Of(text, o); p != nil {
				if masked, ok := p.Masked(Tags); ok {
					p.Restore(masked, Tags)
				}
			}
			took = min(took, property.ProcessorTime(t)-before)
		}
		return took
	}
	for name, piece := range hostile {
		text := strings.Repeat(piece, 2<<10/len(piece))
		little, much := work(text), work(strings.Repeat(text, 16))
		if much > 20*time.Millisecond && much > 120*max(little, 100*time.Microsecond) { // 256 times, were it quadratic
			t.Errorf("%s: %v for 2 KiB, and %v for 32 KiB", name, little, much)
		}
	}
}
