package format

import (
	"slices"
	"strings"
	"unicode"

	"github.com/dragoman-mt/dragoman/core"
)

// A cell is a field of a table: where it stands with its quotes, and what it says.
type cell struct {
	span
	text   string
	quoted bool
}

// rows reads a table. encoding/csv does not say where a quoted field ends, so its rules,
// those of RFC 4180, stand here.
func (r *reader) rows(comma byte) (all [][]cell, err error) {
	var row []cell
	for at := 0; at < len(r.text); {
		var c cell
		c.start = at
		if r.text[at] == '"' {
			c.quoted = true
			var b strings.Builder
			for at++; ; {
				n := strings.IndexByte(r.text[at:], '"')
				if n < 0 {
					return nil, r.fail(c.start, "the field has no closing quote")
				}
				b.WriteString(r.text[at : at+n])
				if at += n + 1; at < len(r.text) && r.text[at] == '"' {
					b.WriteByte('"')
					at++
					continue
				}
				break
			}
			c.text = b.String()
			if at < len(r.text) && r.text[at] != comma && r.text[at] != '\n' && r.text[at] != '\r' {
				return nil, r.fail(at, "something stands behind the closing quote")
			}
		} else {
			n := strings.IndexAny(r.text[at:], string(rune(comma))+"\r\n")
			if n < 0 {
				n = len(r.text) - at
			}
			at += n
			c.text = r.text[c.start:at]
		}
		c.end = at
		row = append(row, c)
		switch {
		case at < len(r.text) && r.text[at] == comma:
			if at++; at == len(r.text) {
				row = append(row, cell{span: span{at, at}})
			} else if r.text[at] == '\n' || r.text[at] == '\r' {
				row = append(row, cell{span: span{at, at}})
			} else {
				continue
			}
		}
		if at < len(r.text) && r.text[at] == '\r' {
			at++
		}
		if at < len(r.text) && r.text[at] == '\n' {
			at++
		}
		all = append(all, row)
		row = nil
	}
	if len(row) > 0 {
		all = append(all, row)
	}
	return all, nil
}

// readCSV reads a table whose first row names its columns: one with the texts, and one for
// the translations, which is filled. Without the latter the texts are replaced.
func readCSV(r *reader) error {
	head, _, _ := strings.Cut(r.text, "\n")
	comma := byte(',')
	for _, c := range []byte{';', '\t'} {
		if strings.Count(head, string(rune(c))) > strings.Count(head, string(rune(comma))) {
			comma = c
		}
	}
	if strings.TrimSpace(r.text) == "" {
		return nil
	}
	rows, err := r.rows(comma)
	if err != nil {
		return err
	}
	names := make([]string, len(rows[0]))
	for i, c := range rows[0] {
		names[i] = strings.ToLower(strings.TrimSpace(c.text))
	}
	named := func(all ...string) int {
		for _, name := range all {
			if i := slices.Index(names, name); i >= 0 && name != "" {
				return i
			}
		}
		return -1
	}
	of := func(l core.Language) int {
		if l == "" {
			return -1
		}
		return slices.IndexFunc(names, func(name string) bool {
			have, err := core.ParseLanguage(strings.ReplaceAll(name, "_", "-"))
			return err == nil && (len(name) == 2 || strings.ContainsAny(name, "-_")) && (have == l || have.Base() == l.Base())
		})
	}
	to := of(r.options.Target)
	from := of(r.options.Source)
	if from < 0 {
		from = named("source", "source_text", "sourcetext", "original", "msgid")
	}
	if to < 0 {
		to = named("target", "target_text", "targettext", "translation", "msgstr")
	}
	if from < 0 && to >= 0 {
		from = named("en", "en-us", "en_us", "text", "message", "string", "value")
	}
	if from < 0 {
		from = named("text", "message", "string", "value", "content", "sentence", "title", "description")
	}
	if from < 0 {
		return r.fail(0, "the first row names no column of texts: call it source, text or by its language's tag, and that for translations target or by its language's tag")
	}
	key := named("id", "key", "name", "identifier", "context")
	note := named("note", "notes", "comment", "comments", "description")
	limit := named("limit", "max_length", "maxlength")
	for _, row := range rows[1:] {
		if from >= len(row) {
			if len(row) == 1 && row[0].text == "" {
				continue
			}
			return r.fail(row[0].start, "the row has %d fields, and the first one names %d columns", len(row), len(names))
		}
		place := row[from]
		if !strings.ContainsFunc(place.text, unicode.IsLetter) {
			continue
		}
		if to >= 0 && to != from {
			if to >= len(row) {
				return r.fail(row[0].start, "the row has %d fields, and the first one names %d columns", len(row), len(names))
			}
			if strings.TrimSpace(row[to].text) != "" && !r.options.All {
				r.doc.Kept++
				continue
			}
		}
		s := Segment{Text: place.text}
		at := place
		for _, c := range []struct {
			column int
			into   *string
		}{{key, &s.ID}, {note, &s.Note}} {
			if c.column >= 0 && c.column < len(row) && c.column != from && c.column != to {
				*c.into = row[c.column].text
			}
		}
		if limit >= 0 && limit < len(row) {
			s.Limit = digits(row[limit].text)
		}
		if to >= 0 {
			at = row[to]
		}
		quoted, text := at.quoted || place.quoted && at.text == "", at.text
		put := func(answer string) []edit {
			if answer == text && (to < 0 || to == from) {
				return nil
			}
			return []edit{{at.start, at.end, quoteCSV(answer, comma, quoted)}}
		}
		s.put = put
		r.doc.Segments = append(r.doc.Segments, s)
		r.at = append(r.at, place.start)
	}
	return nil
}

func quoteCSV(text string, comma byte, quoted bool) string {
	if !quoted && !strings.ContainsAny(text, "\"\r\n"+string(rune(comma))) && !strings.HasPrefix(text, " ") && !strings.HasSuffix(text, " ") {
		return text
	}
	return `"` + strings.ReplaceAll(text, `"`, `""`) + `"`
}

// digits is the number that s is; 0 for none.
func digits(s string) (n int) {
	for _, c := range strings.TrimSpace(s) {
		if c < '0' || c > '9' || n > 1_000_000 {
			return 0
		}
		n = n*10 + int(c-'0')
	}
	return n
}
