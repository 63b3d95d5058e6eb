package format

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/dragoman-mt/dragoman/core/lazy"
)

// A jsonString is one string value of a JSON file, at its quotes.
type jsonString struct {
	path []string
	span span
	key  span // of the member's name, at its quotes; empty in an array
	text string
}

// jsonStrings finds all string values of a JSON file. encoding/json is what reads it; it says
// where each token ends.
func (r *reader) jsonStrings() (all []jsonString, err error) {
	d := json.NewDecoder(strings.NewReader(r.text))
	d.UseNumber()
	type level struct {
		object bool
		name   string
		named  span
		value  bool // a name came, and its value is next
		seen   map[string]bool
	}
	var levels []level
	var path []string
	at, whole := 0, false
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			where := at + r.skipped(at)
			if s, ok := errors.AsType[*json.SyntaxError](err); ok && int(s.Offset)-1 > where {
				where = int(s.Offset) - 1
			}
			if errors.Is(err, io.ErrUnexpectedEOF) {
				where = len(r.text)
			}
			return nil, r.fail(where, "this is no JSON: %v", err)
		}
		if whole {
			return nil, r.fail(at+r.skipped(at), "something follows the JSON value")
		}
		begin := at + r.skipped(at)
		at = int(d.InputOffset())
		var top *level
		if len(levels) > 0 {
			top = &levels[len(levels)-1]
		}
		if top != nil && top.object && !top.value {
			if name, ok := token.(string); ok {
				if top.seen[name] {
					return nil, r.fail(begin, "the key %.80q is there twice", name)
				}
				top.seen[name] = true
				top.name, top.named, top.value = name, span{begin, at}, true
				path = append(path, name)
				continue
			}
		}
		ended := func() {
			if len(levels) == 0 {
				whole = true
				return
			}
			if l := &levels[len(levels)-1]; l.object {
				l.value = false
				path = path[:len(path)-1]
			}
		}
		switch t := token.(type) {
		case json.Delim:
			switch t {
			case '{', '[':
				if len(levels) == maxDepth {
					return nil, r.fail(begin, "objects and arrays are nested more than %d deep", maxDepth)
				}
				levels = append(levels, level{object: t == '{', seen: map[string]bool{}})
			default:
				levels = levels[:len(levels)-1]
				ended()
			}
		case string:
			s := jsonString{path: slices.Clone(path), span: span{begin, at}, text: t}
			if top != nil && top.object {
				s.key = top.named
			}
			all = append(all, s)
			ended()
		default:
			ended()
		}
	}
	if len(levels) > 0 || !whole && strings.TrimSpace(r.text) != "" {
		return nil, r.fail(len(r.text), "the JSON ends too early")
	}
	if !whole {
		return nil, r.fail(0, "this is no JSON: the file is empty")
	}
	return all, nil
}

// skipped is how much stands between two tokens.
func (r *reader) skipped(at int) int {
	rest := r.text[at:]
	return len(rest) - len(strings.TrimLeft(rest, " \t\r\n,:"))
}

var (
	jsonCode  = lazy.Regexp(`^(?:[a-z][a-zA-Z0-9+.-]*://\S*|[^\s/]+(?:/[^\s/]+)+\.\w{1,5}|[#./][\w./#-]*|[\w-]+(?:\.[\w-]+){2,}|\d[\d.,:/-]*)$`)
	i18nextOf = lazy.Regexp(`^(.+)_(zero|one|two|few|many|other|plural)$`)
)

// readJSON reads the texts of a program: i18next's and other plain files, in which each
// string is one, and Chrome's messages.json, in which they are under "message".
func readJSON(r *reader) error {
	all, err := r.jsonStrings()
	if err != nil {
		return err
	}
	chrome := len(all) > 0 && slices.ContainsFunc(all, func(s jsonString) bool { return len(s.path) == 2 && s.path[1] == "message" })
	for _, s := range all {
		switch {
		case !chrome || len(s.path) == 2 && (s.path[1] == "message" || s.path[1] == "description"):
		case len(s.path) == 4 && s.path[1] == "placeholders":
		case len(s.path) == 1 && strings.HasPrefix(s.path[0], "@"), len(s.path) > 2, len(s.path) == 2 && s.path[1] == "hash":
		default:
			chrome = false
		}
	}
	notes := map[string]string{}
	if chrome {
		for _, s := range all {
			if len(s.path) == 2 && s.path[1] == "description" {
				notes[s.path[0]] = s.text
			}
		}
	}
	groups := map[string][]jsonString{}
	for _, s := range all {
		if base, form := i18nextForm(s); form != "" {
			groups[base] = append(groups[base], s)
		}
	}
	for _, s := range all {
		if chrome && (len(s.path) != 2 || s.path[1] != "message") {
			continue
		}
		if len(s.path) > 0 && (s.path[len(s.path)-1] == "$schema" || strings.HasPrefix(s.path[len(s.path)-1], "@@")) {
			continue
		}
		seg := Segment{ID: strings.Join(s.path, "."), Note: notes[first(s.path)]}
		if base, form := i18nextForm(s); form != "" && !chrome {
			if group := groups[base]; len(group) > 1 {
				seg.Plural = form
				r.jsonString(s, seg)
				if s.span == group[len(group)-1].span {
					r.i18nextForms(group, base)
				}
				continue
			}
		}
		r.jsonString(s, seg)
	}
	return nil
}

func first(path []string) string {
	if len(path) == 0 {
		return ""
	}
	return path[0]
}

// i18nextForm returns what s is a plural form of, with its path, and which.
func i18nextForm(s jsonString) (base, form string) {
	if len(s.path) == 0 || s.key == (span{}) {
		return "", ""
	}
	m := i18nextOf().FindStringSubmatch(s.path[len(s.path)-1])
	if m == nil || m[2] == "plural" {
		return "", ""
	}
	return strings.Join(append(slices.Clone(s.path[:len(s.path)-1]), m[1]), "\x00"), m[2]
}

// i18nextForms adds the plural forms that the target has, and the file has not: each is a
// member behind the last one of its group.
func (r *reader) i18nextForms(group []jsonString, base string) {
	if r.options.Target == "" {
		return
	}
	has := map[string]bool{}
	var other *jsonString
	for i := range group {
		_, form := i18nextForm(group[i])
		has[form] = true
		if form == "other" {
			other = &group[i]
		}
	}
	if other == nil || !strings.ContainsFunc(other.text, unicode.IsLetter) {
		return
	}
	last := group[len(group)-1]
	name := last.path[len(last.path)-1]
	stem := name[:strings.LastIndexByte(name, '_')]
	// The indentation and the colon are those of the last form.
	begin := strings.LastIndexByte(r.text[:last.key.start], '\n') + 1
	indent := r.text[begin:last.key.start]
	lead := r.eol + indent
	if strings.TrimSpace(indent) != "" || begin == 0 {
		lead = " "
	}
	colon := r.text[last.key.end:last.span.start]
	ascii := r.asciiJSON()
	for _, form := range categories(r.options.Target) {
		if has[form] {
			continue
		}
		key := quoteJSON(stem+"_"+form, ascii)
		s := Segment{ID: strings.Join(append(slices.Clone(last.path[:len(last.path)-1]), stem+"_"+form), "."), Text: other.text, Plural: form}
		s.put = func(answer string) []edit {
			return []edit{{last.span.end, last.span.end, "," + lead + key + colon + quoteJSON(answer, ascii)}}
		}
		r.doc.Segments = append(r.doc.Segments, s)
		r.at = append(r.at, other.span.start)
	}
}

// jsonString adds s, if it is language.
func (r *reader) jsonString(s jsonString, seg Segment) {
	text := strings.TrimSpace(s.text)
	if !strings.ContainsFunc(text, unicode.IsLetter) || jsonCode().MatchString(text) {
		return
	}
	ascii := r.asciiJSON()
	seg.Text = s.text
	if htmlInText().MatchString(s.text) {
		seg.Marks = HTML
	}
	r.add(s.span.start, seg, replace(s.span.start, s.span.end, func(answer string) string { return quoteJSON(answer, ascii) }))
}

// htmlInText finds a tag in a text that is none of a format of tags.
var htmlInText = lazy.Regexp(`</?[A-Za-z][A-Za-z0-9-]*(?:\s[^<>]*)?/?>|<\d+/?>|</\d+>`)

// asciiJSON says whether the file writes all that is not ASCII as escapes.
func (r *reader) asciiJSON() bool {
	if r.ascii == nil {
		plain := strings.IndexFunc(r.text, func(c rune) bool { return c >= utf8.RuneSelf }) < 0
		is := plain && strings.Contains(r.text, `\u`)
		r.ascii = &is
	}
	return *r.ascii
}

// quoteJSON writes text as a string.
func quoteJSON(text string, ascii bool) string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(text) // a string always has a JSON
	quoted := strings.TrimSuffix(b.String(), "\n")
	// What encoding/json escapes for the sake of JavaScript is what it is in JSON.
	quoted = strings.NewReplacer(`\u2028`, "\u2028", `\u2029`, "\u2029", `\\`, `\\`).Replace(quoted)
	if !ascii {
		return quoted
	}
	var out strings.Builder
	for _, c := range quoted {
		if c < utf8.RuneSelf {
			out.WriteRune(c)
			continue
		}
		for _, u := range utf16.Encode([]rune{c}) {
			out.WriteString(`\u`)
			const digits = "0123456789abcdef"
			for shift := 12; shift >= 0; shift -= 4 {
				out.WriteByte(digits[u>>shift&15])
			}
		}
	}
	return out.String()
}

// readARB reads an Application Resource Bundle, as Flutter has them: members whose names
// begin with @ say something about the others.
func readARB(r *reader) error {
	all, err := r.jsonStrings()
	if err != nil {
		return err
	}
	notes := map[string]string{}
	for _, s := range all {
		if len(s.path) == 2 && s.path[1] == "description" {
			notes[s.path[0]] = s.text
		}
	}
	for _, s := range all {
		if len(s.path) == 1 && !strings.HasPrefix(s.path[0], "@") {
			r.jsonString(s, Segment{ID: s.path[0], Note: notes["@"+s.path[0]]})
		}
	}
	return nil
}
