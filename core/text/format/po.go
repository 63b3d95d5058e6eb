package format

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/dragoman-mt/dragoman/core/lazy"
)

// A field of a PO entry: its keyword, where it stands, and its text.
type poField struct {
	keyword string
	index   string // of msgstr[0]
	whole   span   // from the keyword to the end of its last line
	strings span   // from the first quote to behind the last one
	several bool   // it is written on several lines
	text    string
}

// A poEntry is a message.
type poEntry struct {
	fields  []poField
	notes   []string
	flags   []span // the lines of #,
	fuzzy   bool
	context string
}

func (e *poEntry) field(keyword string) *poField {
	for i := range e.fields {
		if e.fields[i].keyword == keyword {
			return &e.fields[i]
		}
	}
	return nil
}

var poKeyword = lazy.Regexp(`^(msgctxt|msgid_plural|msgid|msgstr)(?:\[(\d{1,2})\])?[ \t]*"`)

// readPO reads a catalogue of GNU gettext, .po or .pot.
func readPO(r *reader) error {
	var e poEntry
	plural, err := parsePlural(pluralForms(r.options.Target))
	if err != nil {
		return err
	}
	headed := false
	contexts := map[string]poContexts{}
	finish := func() error {
		defer func() { e = poEntry{} }()
		if len(e.fields) == 0 {
			return nil
		}
		id := e.field("msgid")
		if id == nil {
			return r.fail(e.fields[0].whole.start, "the entry has no msgid")
		}
		if e.field("msgstr") == nil {
			return r.fail(id.whole.start, "the entry has no msgstr")
		}
		if ctx := e.field("msgctxt"); ctx != nil {
			e.context = ctx.text
		}
		if id.text == "" && e.context == "" && e.field("msgctxt") == nil {
			if headed {
				return r.fail(id.whole.start, "a second header: its msgid is empty, too")
			}
			headed = true
			own := e
			return r.poHeader(&own, &plural)
		}
		own := e
		had, again := contexts[id.text]
		contexts[id.text] = poContexts{e.context, again && (had.several || had.one != e.context)}
		r.poMessage(&own, plural)
		return nil
	}
	var last *poField
	for _, line := range r.lines() {
		l := r.trimmed(line)
		text := r.of(l)
		switch {
		case text == "":
			// An entry ends with the next one's first line; blank ones say nothing.
			last = nil
		case text[0] == '#':
			if len(e.fields) > 0 {
				if err := finish(); err != nil {
					return err
				}
			}
			last = nil
			switch {
			case strings.HasPrefix(text, "#."):
				e.notes = append(e.notes, strings.TrimSpace(text[2:]))
			case strings.HasPrefix(text, "#,"):
				e.flags = append(e.flags, l)
				e.fuzzy = e.fuzzy || slices.ContainsFunc(strings.Split(text[2:], ","), func(f string) bool { return strings.TrimSpace(f) == "fuzzy" })
			}
		case text[0] == '"':
			if last == nil {
				return r.fail(l.start, "a string that belongs to no keyword")
			}
			s, err := r.poString(l)
			if err != nil {
				return err
			}
			last.text, last.several = last.text+s, true
			last.whole.end, last.strings.end = l.end, l.end
		default:
			m := poKeyword().FindStringSubmatchIndex(text)
			if m == nil {
				return r.fail(l.start, "want msgctxt, msgid, msgid_plural or msgstr and a string in quotes, or a comment")
			}
			f := poField{keyword: text[m[2]:m[3]], whole: l, strings: span{l.start + m[1] - 1, l.end}}
			if m[4] >= 0 {
				f.index = text[m[4]:m[5]]
			}
			if (f.keyword == "msgid" || f.keyword == "msgctxt") && e.field("msgid") != nil {
				if err := finish(); err != nil {
					return err
				}
			}
			if f.keyword != "msgid" && f.keyword != "msgctxt" && e.field("msgid") == nil {
				return r.fail(l.start, "%s before its msgid", f.keyword)
			}
			if f.keyword != "msgstr" && e.field(f.keyword) != nil {
				return r.fail(l.start, "%s is there twice", f.keyword)
			}
			var err error
			if f.text, err = r.poString(f.strings); err != nil {
				return err
			}
			e.fields = append(e.fields, f)
			last = &e.fields[len(e.fields)-1]
		}
	}
	if err := finish(); err != nil {
		return err
	}
	for i := range r.doc.Segments {
		if s := &r.doc.Segments[i]; contexts[s.of].several {
			s.Context = poContext(s.ID)
		}
	}
	return nil
}

// poContexts is what is known of the contexts of a msgid.
type poContexts struct {
	one     string
	several bool
}

// poContext is a msgctxt as it can be told to an engine.
func poContext(s string) string {
	runes := []rune(strings.Join(strings.FieldsFunc(strings.ToValidUTF8(s, ""), func(r rune) bool { return unicode.IsControl(r) || unicode.IsSpace(r) }), " "))
	return string(runes[:min(len(runes), mostPOContext)])
}

// mostPOContext bounds what of a msgctxt is told, in code points.
const mostPOContext = 500

// poString reads the one string that s is.
func (r *reader) poString(s span) (string, error) {
	raw := r.of(s)
	var b strings.Builder
	for i := 1; i < len(raw); i++ {
		switch c := raw[i]; c {
		case '"':
			if i != len(raw)-1 {
				return "", r.fail(s.start+i+1, "something stands behind the string")
			}
			return b.String(), nil
		case '\\':
			i++
			if i == len(raw) {
				return "", r.fail(s.start, "the string has no end")
			}
			switch raw[i] {
			case 'n':
				b.WriteByte('\n')
			case 't':
				b.WriteByte('\t')
			case 'r':
				b.WriteByte('\r')
			case 'a', 'b', 'v', 'f':
				b.WriteByte(map[byte]byte{'a': 7, 'b': 8, 'v': 11, 'f': 12}[raw[i]])
			case 'x':
				end := i + 1
				for end < len(raw) && end < i+3 && strings.IndexByte("0123456789abcdefABCDEF", raw[end]) >= 0 {
					end++
				}
				v, err := strconv.ParseUint(raw[i+1:end], 16, 8)
				if err != nil {
					return "", r.fail(s.start+i, "\\x is followed by no hexadecimal digit")
				}
				b.WriteByte(byte(v))
				i = end - 1
			case '"', '\\', '\'', '?':
				b.WriteByte(raw[i])
			default:
				if raw[i] < '0' || raw[i] > '7' {
					return "", r.fail(s.start+i, "\\%c is no escape", raw[i])
				}
				v := 0
				for k := 0; k < 3 && i < len(raw) && raw[i] >= '0' && raw[i] <= '7'; k++ {
					v = v*8 + int(raw[i]-'0')
					i++
				}
				i--
				b.WriteByte(byte(v))
			}
		default:
			b.WriteByte(c)
		}
	}
	return "", r.fail(s.start, "the string has no end")
}

// poQuote writes text as the strings of a PO file: on one line, or where it is long and
// several says that lines are broken, on several.
func (r *reader) poQuote(text string, several bool) string {
	escape := func(s string) string {
		var b strings.Builder
		for i := 0; i < len(s); i++ {
			switch c := s[i]; c {
			case '"', '\\':
				b.WriteByte('\\')
				b.WriteByte(c)
			case '\n':
				b.WriteString(`\n`)
			case '\t':
				b.WriteString(`\t`)
			case '\r':
				b.WriteString(`\r`)
			case 7, 8, 11, 12:
				b.WriteString(map[byte]string{7: `\a`, 8: `\b`, 11: `\v`, 12: `\f`}[c])
			default:
				if c < ' ' || c == 0x7f {
					fmt.Fprintf(&b, `\%03o`, c)
				} else {
					b.WriteByte(c)
				}
			}
		}
		return b.String()
	}
	if whole := escape(text); !several || strings.Count(text, "\n") == 0 && utf8.RuneCountInString(whole) < 72 {
		return `"` + whole + `"`
	}
	var b strings.Builder
	b.WriteString(`""`)
	for line := range strings.Lines(text) {
		for line != "" {
			n, width := 0, 0
			for n < len(line) {
				end := strings.IndexFunc(line[n:], unicode.IsSpace)
				if end < 0 {
					end = len(line)
				} else {
					_, size := utf8.DecodeRuneInString(line[n+end:])
					end += n + size
				}
				w := utf8.RuneCountInString(escape(line[n:end]))
				if n > 0 && width+w > 76 {
					break
				}
				n, width = end, width+w
			}
			b.WriteString(r.eol + `"` + escape(line[:n]) + `"`)
			line = line[n:]
		}
	}
	return b.String()
}

// poHeader takes what the header says, and gives it what a template leaves open.
func (r *reader) poHeader(e *poEntry, p *plan) error {
	f := e.field("msgstr")
	if f.index != "" || e.field("msgid_plural") != nil {
		return r.fail(f.whole.start, "the header has plural forms")
	}
	value := func(name string) (string, bool) {
		for line := range strings.Lines(f.text) {
			if key, v, ok := strings.Cut(line, ":"); ok && strings.EqualFold(strings.TrimSpace(key), name) {
				return strings.TrimSpace(v), true
			}
		}
		return "", false
	}
	if f.text != "" && !strings.Contains(f.text, ":") {
		return r.fail(f.whole.start, "the header has no line such as Content-Type: text/plain; charset=UTF-8")
	}
	if kind, ok := value("Content-Type"); ok {
		_, charset, _ := strings.Cut(strings.ToLower(kind), "charset=")
		charset, _, _ = strings.Cut(charset, ";")
		charset = strings.Trim(charset, " \t")
		if charset != "" && charset != "charset" && charset != "utf-8" && charset != "utf8" && r.doc.code.code == nil && strings.IndexFunc(r.text, func(c rune) bool { return c > 127 }) >= 0 {
			return r.fail(f.whole.start, "the header says %s, and the file is UTF-8", charset)
		}
	}
	edits := map[string]string{}
	language, hasLanguage := value("Language")
	forms, hasForms := value("Plural-Forms")
	template := !hasForms || strings.Contains(forms, "INTEGER") || strings.Contains(forms, "EXPRESSION")
	target := strings.ReplaceAll(string(r.options.Target), "-", "_")
	same := strings.EqualFold(strings.ReplaceAll(language, "-", "_"), target) || target == "" ||
		strings.EqualFold(strings.SplitN(strings.ReplaceAll(language, "-", "_"), "_", 2)[0], r.options.Target.Base())
	if !template && (same || language == "") {
		own, err := parsePlural(forms)
		if err != nil {
			return r.fail(f.whole.start, "the header's Plural-Forms: %v", err)
		}
		*p = own
	} else if template || !same {
		if hasForms || r.plurals() {
			edits["Plural-Forms"] = pluralForms(r.options.Target)
		}
	}
	if target != "" && (!hasLanguage || !same) {
		edits["Language"] = target
	}
	if kind, ok := value("Content-Type"); ok && strings.Contains(kind, "charset=CHARSET") {
		edits["Content-Type"] = "text/plain; charset=UTF-8"
	}
	if len(edits) == 0 || f.text == "" {
		return nil
	}
	// The lines of the header that change; a missing one is added at its end.
	raw := r.of(f.strings)
	out := raw
	for _, name := range []string{"Language", "Content-Type", "Plural-Forms"} {
		v, ok := edits[name]
		if !ok {
			continue
		}
		line := regexp.MustCompile(`(?i)(["n]|^)(` + regexp.QuoteMeta(name) + `:)(?:[^"\\]|\\[^n]|"[ \t\r\n]*")*\\n`)
		if m := line.FindStringSubmatchIndex(out); m != nil {
			out = out[:m[5]] + " " + v + `\n` + out[m[1]:]
		} else {
			out += r.eol + `"` + name + ": " + v + `\n"`
		}
	}
	if out != raw {
		r.doc.always = append(r.doc.always, edit{f.strings.start, f.strings.end, out})
	}
	// A header of a template is fuzzy, and msgfmt passes such entries by.
	if template && e.fuzzy {
		r.doc.always = append(r.doc.always, r.unfuzzy(e)...)
	}
	return nil
}

// plurals says whether any message of the file has plural forms.
func (r *reader) plurals() bool { return strings.Contains(r.text, "\nmsgid_plural") }

// unfuzzy takes the flag fuzzy off an entry.
func (r *reader) unfuzzy(e *poEntry) (edits []edit) {
	for _, l := range e.flags {
		var kept []string
		for _, f := range strings.Split(r.of(l)[2:], ",") {
			if strings.TrimSpace(f) != "fuzzy" {
				kept = append(kept, f)
			}
		}
		if len(kept) == len(strings.Split(r.of(l)[2:], ",")) {
			continue
		}
		if len(kept) > 0 {
			edits = append(edits, edit{l.start, l.end, "#," + strings.Join(kept, ",")})
			continue
		}
		end := l.end
		if n := strings.IndexByte(r.text[end:], '\n'); n >= 0 {
			end += n + 1
		}
		edits = append(edits, edit{l.start, end, ""})
	}
	return edits
}

// poMessage adds what an entry has to translate.
func (r *reader) poMessage(e *poEntry, p plan) {
	id, many := e.field("msgid"), e.field("msgid_plural")
	var have []*poField
	for i := range e.fields {
		if e.fields[i].keyword == "msgstr" {
			have = append(have, &e.fields[i])
		}
	}
	done := !e.fuzzy
	for _, f := range have {
		done = done && f.text != ""
	}
	if done && !r.options.All && (many == nil || len(have) >= p.forms) {
		r.doc.Kept++
		return
	}
	name := e.context
	add := func(from *poField, form string, put func(string) []edit) {
		if strings.TrimSpace(from.text) == "" {
			return
		}
		s := Segment{ID: name, of: e.field("msgid").text, Text: from.text, Note: strings.Join(e.notes, "\n"), Plural: form}
		first := form == "" || form == "0"
		// An answer that is the text is written, too: nothing stands in its place yet.
		s.put = func(answer string) (edits []edit) {
			if first && e.fuzzy {
				edits = r.unfuzzy(e)
			}
			return append(edits, put(edges(from.text, answer))...)
		}
		r.doc.Segments = append(r.doc.Segments, s)
		r.at = append(r.at, from.whole.start)
	}
	if many == nil {
		f := have[0]
		add(id, "", func(answer string) []edit {
			if answer == f.text {
				return nil
			}
			return []edit{{f.strings.start, f.strings.end, r.poQuote(answer, id.several || f.several)}}
		})
		return
	}
	for form := range p.forms {
		from := many
		if form == p.single && p.forms > 1 {
			from = id
		}
		n := fmt.Sprint(form)
		at := slices.IndexFunc(have, func(f *poField) bool { return f.index == n })
		add(from, n, func(answer string) []edit {
			if at >= 0 {
				f := have[at]
				return []edit{{f.strings.start, f.strings.end, r.poQuote(answer, f.several)}}
			}
			end := have[len(have)-1].whole.end
			return []edit{{end, end, r.eol + "msgstr[" + n + "] " + r.poQuote(answer, false)}}
		})
	}
	// Forms that the language does not have go with the translation of the others.
	for _, f := range have {
		var i int
		if _, err := fmt.Sscan(f.index, &i); err == nil && i >= p.forms && len(r.doc.Segments) > 0 {
			s := &r.doc.Segments[len(r.doc.Segments)-1]
			put, whole := s.put, f.whole
			if whole.start > 0 && r.text[whole.start-1] == '\n' {
				whole.start-- // with the end of the line before
				if whole.start > 0 && r.text[whole.start-1] == '\r' {
					whole.start--
				}
			}
			s.put = func(answer string) []edit { return append(put(answer), edit{whole.start, whole.end, ""}) }
		}
	}
}

// edges gives answer the line ends that text begins and ends with, which msgfmt holds
// against each other.
func edges(text, answer string) string {
	const ends = "\n"
	bare := strings.Trim(answer, ends)
	return text[:len(text)-len(strings.TrimLeft(text, ends))] + bare + text[len(strings.TrimRight(text, ends)):]
}
