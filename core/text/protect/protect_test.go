package protect

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// placeholders returns what is found in text, in order.
func placeholders(text string, o *Options) (all []string) {
	for _, s := range find(text, o) {
		all = append(all, text[s.from:s.to])
	}
	return all
}

// TestPlaceholdersAreFoundAsTheirFormatsDefineThem has, for each format, what its own
// documentation says that a placeholder is.
func TestPlaceholdersAreFoundAsTheirFormatsDefineThem(t *testing.T) {
	for _, c := range []struct{ format, text, want string }{
		{"C (ISO C 7.23.6.1)", "%d of %s, %5.2f %-10s %05d %+i %#x %lu %lld %zd %hhu %c %p %e %g.", "%d|%s|%5.2f|%-10s|%05d|%+i|%#x|%lu|%lld|%zd|%hhu|%c|%p|%e|%g"},
		{"POSIX printf, numbered", "%2$s has %1$d files, %1$*2$d", "%2$s|%1$d|%1$*2$d"},
		{"C, thousands and stars", "%'d of %*d, %.*f", "%'d|%*d|%.*f"},
		{"C, units that touch", "%dpx, %ss, %dth, %d%%", "%d|%s|%d|%d|%%"},
		{"Python, by name", "%(count)d files in %(dir name)s or %(path)s", "%(count)d|%(path)s"},
		{"Python, format", "{} {0} {name} {a.b} {a[0]} {x!r} {n:>10} {n:,.2f} {:>8}", "{}|{0}|{name}|{a.b}|{a[0]}|{x!r}|{n:>10}|{n:,.2f}|{:>8}"},
		{"Java, printf", "%1$tY-%1$tm %,d %n %tY", "%1$tY|%1$tm|%,d|%n|%tY"},
		{"Java and ICU, MessageFormat", "{0} {0,number} {1,date,short} {2, number, #,##0.00}", "{0}|{0,number}|{1,date,short}|{2, number, #,##0.00}"},
		{".NET", "{0:N2} {0,10} {0,-8:F2} {{literal}}", "{0:N2}|{0,10}|{0,-8:F2}|{{literal}}"},
		{"Objective-C and Swift", "%@ and %1$@, %#@files@, %ld", "%@|%1$@|%#@files@|%ld"},
		{"Ruby", "%{count} of %<total>d, #{name}", "%{count}|%<total>d|#{name}"},
		{"Go", "%v %+v %q %T %[1]d", "%v|%+v|%q|%T"},
		{"Qt", "File %1 of %2, %L1 and %n", "%1|%2|%L1|%n"},
		{"Object Pascal", "%0:s of %1:d", "%0:s|%1:d"},
		{"Symfony, Windows", "Hello %name%, see %PATH%!", "%name%|%PATH%"},
		{"strftime", "%Y-%m-%d %H:%M", "%Y|%m|%d|%H|%M"},
		{"i18next", "{{count}} items, {{ user.name }}, {{price, currency}}, $t(common.key), $t(a.b, {\"x\": 1})", "{{count}}|{{ user.name }}|{{price, currency}}|$t(common.key)|$t(a.b, {\"x\": 1})"},
		{"Vue I18n", "{name} @:common.key. @.lower:a.b @:(x.y)", "{name}|@:common.key|@.lower:a.b|@:(x.y)"},
		{"JavaScript, shells", "${name} and ${a.b()}", "${name}|${a.b()}"},
		{"Chrome", "Hello $USER$, $count$ new", "$USER$|$count$"},
		{"Handlebars, Mustache", "{{#if x}}Yes{{else}}No{{/if}} {{{raw}}}", "{{#if x}}|{{else}}|{{/if}}|{{{raw}}}"},
		{"Jinja, Liquid, Twig", "{% if a %}Yes{% endif %}{# note #} {{ a | upper }}", "{% if a %}|{% endif %}|{# note #}|{{ a | upper }}"},
		{"Fluent", "Hello { $user } and { -brand-name }", "{ $user }|{ -brand-name }"},
		{"Trans of react-i18next", "Click <0>here</0> or <1/>", "<0>|</0>|<1/>"},
		{"Weblate's", "@@PH1@@ of @@PH12@@", "@@PH1@@|@@PH12@@"},
		{"LiveCaptions-Translator's", "🔤Hello there🔤", "🔤|🔤"},
		{"Immersive Translate's", "<b0>Hello</b0> {1}", "<b0>|</b0>|{1}"},
		{"PDFMathTranslate's", "where {v1} and {{v2}} are", "{v1}|{{v2}}"},
		{"Weblate's for DeepL", `Hello <x id="1"></x>!`, `<x id="1">|</x>`},
		{"ICU, plural", "{n, plural, =0 {No files} one {# file} other {# files}}", "{n, plural,| =0 {|}| one {|#|}| other {|#|}|}"},
		{"ICU, select in words", "Seen by {who, select, female {her} other {them}}.", "{who, select,| female {|}| other {|}|}"},
		{"VS Code", "$(gear) Settings", "$(gear)"},
		{"addresses", "See https://example.com/a_(b)?c=d&e=%20#f, (http://x.org/), www.example.org. Mail Ann.Lee+x@mail.example.co.uk!", "https://example.com/a_(b)?c=d&e=%20#f|http://x.org/|www.example.org|Ann.Lee+x@mail.example.co.uk"},
		{"addresses among Chinese", "请看https://example.com/a和ann@example.cn谢谢", "https://example.com/a|ann@example.cn"},
		{"code spans", "Run `make test`, or ``a ` b``; ```\ncode\n```", "`make test`|``a ` b``|```\ncode\n```"},
		{"entities", "Tom &amp; Jerry&nbsp;&#169; &#xA9;", "&amp;|&nbsp;|&#169;|&#xA9;"},
		{"printf of whom something is", "%s: cannot verify %s's certificate, %1$s's nor %d'inci", "%s|%s|%1$s|%d"},
		{"entities of the document's own", "Use &product; (&my-lib.2;) on R&D; and &T;.", "&product;|&my-lib.2;"},
		{"HTML", `<b>Hi</b> <a href="/x?a>b" title='t'>there</a><br><br/><img src=x.png><!-- no --><p hidden>`, `<b>|</b>|<a href="/x?a>b" title='t'>|</a>|<br>|<br/>|<img src=x.png>|<!-- no -->|<p hidden>`},
		{"XML", `<ph name="N"/><g id="1">x</g><?xml version="1.0"?>`, `<ph name="N"/>|<g id="1">|</g>|<?xml version="1.0"?>`},
		{"marks of ours", "<x1/> XQ2X ⟦3⟧ < X 4 />", "<x1/>|XQ2X|⟦3⟧|< X 4 />"},
	} {
		if got := strings.Join(placeholders(c.text, &Options{}), "|"); got != c.want {
			t.Errorf("%s: in %q\n found %s\n  want %s", c.format, c.text, got, c.want)
		}
	}
}

func TestProseHasNoPlaceholders(t *testing.T) {
	for _, text := range []string{
		"50 % of it, 50% of it, 100%.", "A 5 % discount and 20%-30% more", "20%des", "100%ige Leistung", "50%of", "the %age of people, a %share", "5 %d'augmentation, 3 %",
		"a < b and c > d", "a<b && c>d", "if a <b and c> d", "1 < 2 > 0", "I <3 you", "x <- y, a <= b, c << d >> e", "<< quoted >>",
		"{a, b, c} is a set, {1, 2, 3} too", "{ this is prose }", "{see below}", "{}{"[2:], "} {", "{", "if (x) { return; }",
		"It costs $5, US$ 3 and $ 7", "C# and F#, #1, #hashtag", "@ann, ann@localhost, 3 @ 5", "R&D, AT&T; Q&A", "at 12:30: well://", "ftp :// x",
		"A$AP, 5$, US$ million, $5<$6", "\\o/ \\_ x\\y", "[i]t is [sic], [1], a[0], [b] above, [[", "if B<C and D>E, B<5 and C>3, A<b", "Plan B < Plan C > Plan D", "I [/b] you", "50%30%, 3%2%",
		"x > y ] z", "@everyone, @here, <@>, <#>, <!>", "he said: <grin> not"[:9], "\\(a and \\[b", "pre\\-fork", "and/or, either/or/both, 1/2, km/h, //, /, /s, w/o", "well --, a--b, 5--7 -- no, --", "12:30, a:b, C:, note: x",
		"``quoted'' and `quoted'", "the ` key", "Max and Alex, xQ", "xenon, Xerxes", "w, www, World. wwww.", "⟦ ⟧ ⟦a⟧", "3 % 2, 7 %2C", "50%", "%", "% ", "%%"[:1], "привет, хорошо, Хорошо",
	} {
		if got := placeholders(text, &Options{}); got != nil {
			t.Errorf("in %q was found %q", text, got)
		}
	}
}

// programs returns texts as programs have them, and what a program needs of each.
func programs(t testing.TB) (texts []string, kept [][]string) {
	t.Helper()
	raw, err := os.ReadFile("testdata/programs.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		line = strings.TrimSuffix(line, "\n")
		if list, ok := strings.CutPrefix(line, "\t"); ok {
			kept = append(kept, strings.Split(list, " ¦ "))
		} else {
			texts = append(texts, line)
		}
	}
	if len(texts) < 60 || len(texts) != len(kept) {
		t.Fatalf("%d texts and %d lists of what is kept", len(texts), len(kept))
	}
	return texts, kept
}

// TestWhatProgramsWriteIsFound has texts of frameworks, wikis, chats, manual pages.
func TestWhatProgramsWriteIsFound(t *testing.T) {
	texts, kept := programs(t)
	for i, text := range texts {
		got := placeholders(text, &Options{})
		for k := range kept[i] {
			kept[i][k] = strings.TrimSpace(kept[i][k])
		}
		for k := range got {
			got[k] = strings.TrimSpace(got[k])
		}
		if !slices.Equal(got, kept[i]) {
			t.Errorf("in %q\n found %q\n  want %q", text, got, kept[i])
		}
	}
}

// TestWhatLooksLikeAManualPageIsHTML: a letter before a tag is no formatting code.
func TestWhatLooksLikeAManualPageIsHTML(t *testing.T) {
	for text, want := range map[string]string{
		"Vitamin B<sub>12</sub> helps":      "<sub>|</sub>",
		"Plan B<br>Plan C<br/>Plan E":       "<br>|<br/>",
		"Class I<b>bold</b> and F<i>x</i>.": "<b>|</b>|<i>|</i>",
		"vector<int>, I<T>":                 "<int>|I<|>",
	} {
		if got := strings.Join(placeholders(text, &Options{}), "|"); got != want {
			t.Errorf("in %q found %s, want %s", text, got, want)
		}
	}
}

// TestWhatIsDeclaredIsFound is for __name__, which is bold in Markdown and a variable only
// where somebody says so.
func TestWhatIsDeclaredIsFound(t *testing.T) {
	o := &Options{Patterns: []*regexp.Regexp{regexp.MustCompile(`__\w+?__`)}}
	if got := placeholders("Hi __name__ and {x}: __a__", o); !slices.Equal(got, []string{"__name__", "{x}", "__a__"}) {
		t.Error(got)
	}
	if got := placeholders("Hi __name__", &Options{}); got != nil {
		t.Error(got)
	}
}

func TestWhatAnEngineIsSent(t *testing.T) {
	for _, c := range []struct {
		text, want string
		o          Options
	}{
		{text: "{{count}} files in <b>%s</b>", want: "<x1/> files in <x2/>"},
		{text: "<p>Hello, <b>world</b>!</p>", want: "Hello, <x1/>world<x2/>!"},
		{text: "🔤Hello there🔤", want: "Hello there"},
		{text: "  <br>Hello %s%d\n", want: "Hello <x1/>"},
		{text: "<b>One</b> two", want: "<x1/>One<x2/> two"},
		{text: "<i>a</i><b>c</b>", want: "<x1/>a<x2/>c<x3/>"},
		{text: `Keep <span translate="no">this one</span> and <code>a b</code>, <i class="x notranslate">that</i>.`, want: "Keep <x1/> and <x2/>, <x3/>."},
		{text: "Hi <keep>Ann</keep>, hello", want: "Hi <x1/>, hello", o: Options{Ignore: []string{"keep"}}},
		{text: "{n, plural, one {# file} other {# files}}", want: "<x1/> file<x2/><x3/> files"},
		{text: "<p>Caf&eacute; &amp; bar&nbsp;&lt; x &copy;</p>", want: "Café & bar<x1/> x <x2/>", o: Options{Markup: HTML}},
		{text: "<p>Caf&eacute; &amp; bar</p>", want: "Caf<x1/> & bar", o: Options{Markup: XML}},
	} {
		got, ok := Of(c.text, &c.o).Masked(Tags)
		if !ok || got != c.want {
			t.Errorf("of %q\n sent %q\n want %q", c.text, got, c.want)
		}
	}
	for _, text := range []string{"%s", "<b>{x}</b>: 5", "https://example.com"} {
		if !Of(text, &Options{}).Nothing() {
			t.Errorf("%q has something to translate", text)
		}
	}
}

func TestWhatComesBack(t *testing.T) {
	for _, c := range []struct {
		text, answer, want string
		found              Finding
		o                  Options
	}{
		{text: "{{count}} files in <b>%s</b>", answer: "<x1/> archivos en <x2/>", want: "{{count}} archivos en <b>%s</b>"},
		{text: "{{count}} files in <b>%s</b>", answer: "En <x2/> hay <x1/> archivos", want: "En <b>%s</b> hay {{count}} archivos"},
		{text: "{{count}} files in <b>%s</b>", answer: "< X1 /> archivos en <x 2>", want: "{{count}} archivos en <b>%s</b>", found: Repaired},
		{text: "{a} files", answer: "<x1></x1> archivos <x1/> <x7/>", want: "{a} archivos", found: Repaired},
		{text: "{a} files", answer: "<x١/> ملفات", want: "{a} ملفات", found: Repaired},
		{text: "{a} big files in {b}", answer: "archivos grandes en <x2/>", want: "{a} archivos grandes en {b}", found: Damaged},
		{text: "Open {a} files now", answer: "Abre archivos ahora", want: "Abre {a} archivos ahora", found: Damaged},
		{text: "Click <b>here</b> now", answer: "Haz clic aquí ahora", want: "Haz clic <b>aquí</b> ahora", found: Damaged},
		{text: "Click <b>here</b> now", answer: "Haz clic <x2/>aquí<x1/> ahora", want: "Haz clic <b>aquí</b> ahora", found: Damaged},
		{text: "%s of %d", answer: "<x2/> de <x1/>", want: "%s de %d", found: Damaged},
		{text: "%1$s of %2$d", answer: "<x2/> de <x1/>", want: "%2$d de %1$s"},
		{text: "Cost: $ {a}", answer: "Costo: $<x1/>", want: "Costo: $ {a}", found: Repaired},
		{text: "See http://x.org now", answer: "Mira<x1/>ahora", want: "Mira http://x.org ahora", found: Repaired},
		{text: "Tom &amp; <b>Jerry</b> x", answer: "Tom & <x1/>Jerry<x2/> <y>", want: "Tom &amp; <b>Jerry</b> &lt;y&gt;", o: Options{Markup: HTML}},
		{text: "Hi {a}", answer: "Hola %s <x1/>", want: "Hola {a}", found: Damaged},
	} {
		got, found := Of(c.text, &c.o).Restore(c.answer, Tags)
		if got != c.want || found != c.found {
			t.Errorf("%q, answered %q\n  got %q, %d\n want %q, %d", c.text, c.answer, got, found, c.want, c.found)
		}
	}
}

// intact says what is wrong with the placeholders of text, which is to have those of source.
func intact(source, text string, o *Options) error {
	want, got := placeholders(source, o), placeholders(text, o)
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(want, got) {
		return fmt.Errorf("has %q, want %q", got, want)
	}
	a, b := find(source, o), find(text, o)
	pair(a)
	pair(b)
	pairs := func(s []span) (n int) {
		for i := range s {
			if s[i].partner > i {
				n++
			}
		}
		return n
	}
	if pairs(a) != pairs(b) {
		return fmt.Errorf("has %d elements, want %d", pairs(b), pairs(a))
	}
	return nil
}

// FuzzRestore holds whatever an engine answers against each placeholder exactly once.
func FuzzRestore(f *testing.F) {
	f.Add("{{count}} files in <b>%s</b>", "<x1/> archivos %s <b> <x2/><x1/>", byte(0))
	f.Add("{n, plural, one {# file} other {# files}}", "x", byte(1))
	f.Add("<p>Caf&eacute; <i>a <b>b</b></i> http://x.org</p>", "<x3/><x2/> <x1/>a", byte(4))
	f.Add("%s of %d: `a` $t(x)", "⟦3⟧⟦2⟧ ⟦1⟧ `", byte(2))
	texts, _ := programs(f)
	for i, text := range texts {
		f.Add(text, "<x2/> uno <x1/>: B<x> [[a|b]] [b]c[/b] \\fB", byte(i%9))
	}
	f.Fuzz(func(t *testing.T, text, answer string, how byte) {
		o := &Options{Markup: Markup(how / 3 % 3)}
		p := Of(text, o)
		if p == nil || p.Marks() > MaxMarks {
			return
		}
		s := Style(how % 3)
		if masked, ok := p.Masked(s); ok {
			if back, found := p.Restore(masked, s); o.Markup == Plain && (back != text || found != Clean) {
				t.Fatalf("%q came back unchanged as %q (%d)", masked, back, found)
			}
		}
		back, _ := p.Restore(answer, s)
		if err := intact(text, back, o); err != nil {
			if o.Markup == Plain || !strings.Contains(err.Error(), "&") {
				t.Fatalf("%q, answered %q, is %q: %v", text, answer, back, err)
			}
		}
	})
}

var sink *Text

func BenchmarkNone(b *testing.B) {
	o := &Options{}
	const text = "The quick brown fox jumps over the lazy dog, and 50 % of all foxes do so every day at noon (or later)."
	b.ReportAllocs()
	for b.Loop() {
		sink = Of(text, o)
	}
}

func BenchmarkSome(b *testing.B) {
	o := &Options{}
	b.ReportAllocs()
	for b.Loop() {
		p := Of("{{count}} files in <b>%s</b> were deleted by <a href=\"/u\">%s</a>", o)
		m, _ := p.Masked(Tags)
		p.Restore(m, Tags)
	}
}
