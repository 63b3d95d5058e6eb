package format

import (
	"html"
	"slices"
	"strings"
	"unicode"

	markup "golang.org/x/net/html"

	"github.com/dragoman-mt/dragoman/core/lazy"
)

// inline are the elements that stand within a text (WHATWG HTML standard, section 4.5, and
// what was before it). Every other tag ends one. It is written to by nobody.
var inline = map[string]bool{
	"a": true, "abbr": true, "acronym": true, "b": true, "bdi": true, "bdo": true, "big": true, "cite": true, "code": true, "data": true,
	"del": true, "dfn": true, "em": true, "font": true, "i": true, "img": true, "ins": true, "kbd": true, "label": true, "mark": true,
	"nobr": true, "q": true, "s": true, "samp": true, "small": true, "span": true, "strike": true, "strong": true, "sub": true,
	"sup": true, "time": true, "tt": true, "u": true, "var": true, "wbr": true,
}

// mute are the elements whose content is no language, or must keep its shape.
var mute = map[string]bool{
	"script": true, "style": true, "pre": true, "textarea": true, "svg": true, "math": true, "template": true, "object": true, "iframe": true, "noembed": true, "xmp": true,
}

var (
	htmlAttribute = lazy.Regexp(`(?i)\s(alt|title|placeholder|aria-label|aria-description|content|value|label)\s*=\s*(?:"([^"]*)"|'([^']*)')`)
	metaTexts     = lazy.Regexp(`(?i)\s(?:name|property)\s*=\s*["']?(?:description|(?:og|twitter):(?:title|description)|title)\b`)
	buttonTypes   = lazy.Regexp(`(?i)\stype\s*=\s*["']?(?:submit|button|reset)\b`)
)

// readHTML reads HTML by the tokenizer of golang.org/x/net, which says what each token was.
func readHTML(r *reader) error {
	z := markup.NewTokenizer(strings.NewReader(r.text))
	at, run := 0, -1
	muted, depth, nested := "", 0, 0
	tags := 0
	var attributes []span // of values, and which of them
	flush := func(end int) {
		if run >= 0 {
			r.markedRun(span{run, end}, HTML)
		}
		run = -1
	}
	for {
		kind := z.Next()
		begin := at
		at += len(z.Raw())
		if kind == markup.ErrorToken {
			flush(begin)
			break
		}
		if muted != "" {
			if kind == markup.StartTagToken || kind == markup.EndTagToken {
				name, _ := z.TagName()
				switch {
				case string(name) != muted:
				case kind == markup.StartTagToken:
					depth++
				default:
					depth--
				}
				if depth == 0 {
					muted = ""
				}
			}
			continue
		}
		switch kind {
		case markup.TextToken:
			if run < 0 {
				run = begin
			}
		case markup.StartTagToken, markup.SelfClosingTagToken, markup.EndTagToken:
			tags++
			raw := r.text[begin:at]
			b, _ := z.TagName()
			name := string(b)
			if kind == markup.StartTagToken && !void[name] {
				if nested++; nested > 100_000 {
					return r.fail(begin, "elements are nested more than 100000 deep")
				}
			} else if kind == markup.EndTagToken {
				nested = max(0, nested-1)
			}
			stays := kind == markup.StartTagToken && !void[name] && (mute[name] || untranslated(raw))
			if !inline[name] || stays {
				flush(begin)
			} else if run < 0 {
				run = begin
			}
			if stays {
				muted, depth = name, 1
				continue
			}
			if kind != markup.EndTagToken {
				for _, m := range htmlAttribute().FindAllStringSubmatchIndex(raw, -1) {
					which := strings.ToLower(raw[m[2]:m[3]])
					value := span{m[4], m[5]}
					if m[4] < 0 {
						value = span{m[6], m[7]}
					}
					switch {
					case which == "content" && !(name == "meta" && metaTexts().MatchString(raw)),
						which == "value" && !(name == "input" && buttonTypes().MatchString(raw)),
						which == "label" && name != "track" && name != "option" && name != "optgroup":
						continue
					}
					attributes = append(attributes, span{begin + value.start, begin + value.end})
				}
			}
		default:
			// A comment within a text stays within it; a doctype is none.
			if kind != markup.CommentToken {
				flush(begin)
			}
		}
	}
	if at != len(r.text) {
		return r.fail(at, "the HTML cannot be read from here on")
	}
	if tags == 0 && strings.TrimSpace(r.text) != "" {
		return r.fail(0, "this is no HTML: it has no tag; is it a text (--format txt)?")
	}
	r.attributes(attributes)
	return nil
}

// untranslated says whether the start tag raw says that what it holds is not translated.
func untranslated(raw string) bool {
	return noTranslate().MatchString(raw)
}

var noTranslate = lazy.Regexp(`(?i)\stranslate\s*=\s*["']?no\b|\sclass\s*=\s*(?:"[^"]*\bnotranslate\b|'[^']*\bnotranslate\b|notranslate\b)`)

// attributes adds the values of attributes that are texts, but for those within a text that
// was added: there a tag is a mark, and comes back as it was.
func (r *reader) attributes(all []span) {
	var taken []span
	for i, s := range r.doc.Segments {
		if s.Marks != NoMarks {
			taken = append(taken, span{r.at[i], r.at[i] + s.size})
		}
	}
	for _, a := range all {
		i, _ := slices.BinarySearchFunc(taken, a.start, func(t span, at int) int { return t.end - at })
		if i < len(taken) && taken[i].start <= a.start && a.end <= taken[i].end {
			continue
		}
		a = r.trimmed(a)
		raw := r.of(a)
		text := html.UnescapeString(raw)
		if !strings.ContainsFunc(text, unicode.IsLetter) {
			continue
		}
		r.add(a.start, Segment{Text: strings.Join(strings.Fields(text), " ")}, replace(a.start, a.end, func(answer string) string {
			return strings.NewReplacer("&", "&amp;", "<", "&lt;", `"`, "&quot;", "'", "&#39;").Replace(answer)
		}))
	}
}

// markedRun adds a run of text and inline tags, without what stands round its text.
func (r *reader) markedRun(run span, m Marks) {
	run = r.bareRun(run, m)
	raw := r.of(run)
	pieces, _ := m.Split(raw)
	if len(pieces) == 0 {
		return
	}
	s := Segment{Text: strings.Join(strings.Fields(raw), " "), size: len(raw)}
	if strings.ContainsAny(raw, "<&") {
		s.Marks = m
	}
	r.add(run.start, s, replace(run.start, run.end, func(answer string) string { return wellFormed(s, answer) }))
}

// bareRun leaves out white space, and tags that hold all of the text.
func (r *reader) bareRun(run span, m Marks) span {
	type part struct {
		span
		mark bool
	}
	var parts []part
	at := run.start
	for raw, mark := range m.parts(r.of(run)) {
		if mark || strings.TrimSpace(raw) != "" {
			parts = append(parts, part{span{at, at + len(raw)}, mark})
		}
		at += len(raw)
	}
	opens := func(i int) bool {
		raw := r.of(parts[i].span)
		name := tagName(raw)
		return parts[i].mark && name != "" && raw[1] != '/' && !strings.HasSuffix(raw, "/>") && !(m == HTML && void[name]) && !strings.Contains(raw[1:], "<")
	}
	shuts := func(i int) bool { return parts[i].mark && strings.HasPrefix(r.of(parts[i].span), "</") }
	ends := map[int]int{} // what ends the element that a part opens
	var open []int
	for i := range parts {
		switch {
		case opens(i):
			open = append(open, i)
		case shuts(i) && len(open) > 0:
			ends[open[len(open)-1]] = i
			open = open[:len(open)-1]
		}
	}
	first, last := 0, len(parts)-1
	for first <= last {
		switch {
		case parts[first].mark && !opens(first): // a void element, a comment, code, or the end of what began before
			first++
			continue
		case parts[last].mark && !shuts(last):
			last--
			continue
		}
		if !parts[first].mark || !parts[last].mark || tagName(r.of(parts[first].span)) != tagName(r.of(parts[last].span)) {
			break
		}
		// They hold all of it when nothing in between ends the first one.
		if end, ended := ends[first]; ended && end < last {
			break
		}
		first, last = first+1, last-1
	}
	if first > last {
		return span{run.start, run.start}
	}
	return r.trimmed(span{parts[first].start, parts[last].end})
}

var entity = lazy.Regexp(`^&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});`)

// wellFormed escapes what an answer has of markup: all but the marks of s, when they are all
// there. So no answer can break what it stands in.
func wellFormed(s Segment, answer string) string {
	answer = legal(answer)
	if !strings.ContainsAny(answer, "<>&") {
		return answer
	}
	if s.Marks == NoMarks || !s.Marks.Same(s.Text, answer) {
		return escapeMarkup(answer)
	}
	var b strings.Builder
	for raw, mark := range s.Marks.parts(answer) {
		if mark {
			b.WriteString(raw)
			continue
		}
		for i := 0; i < len(raw); i++ {
			switch {
			case raw[i] == '<':
				b.WriteString("&lt;")
			case raw[i] == '>':
				b.WriteString("&gt;")
			case raw[i] == '&' && !entity().MatchString(raw[i:]):
				b.WriteString("&amp;")
			default:
				b.WriteByte(raw[i])
			}
		}
	}
	return b.String()
}
