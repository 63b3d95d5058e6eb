package glossary

import (
	"bytes"
	"encoding/csv"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/dragoman-mt/dragoman/core"
)

// MostFile is the longest file of a glossary, in bytes.
const MostFile = 10 << 20

// Read reads what the file of that name holds, by the ending of its name: .tsv, .csv or
// .tbx. The error says the row and the column, or of TBX the line, and quotes no term.
func Read(name, file string, content []byte) (*Glossary, error) {
	content = bytes.TrimPrefix(content, []byte("\ufeff")) // spreadsheets begin a file with it
	g := &Glossary{Name: name}
	var err error
	switch ending := strings.ToLower(filepath.Ext(file)); ending {
	case ".tsv", ".tab":
		err = g.rows(tabs(content))
	case ".csv":
		err = g.rows(commas(content))
	case ".tbx":
		err = g.tbx(content)
	default:
		err = errors.New("its name ends in none of .tsv, .csv and .tbx, so it is not known how to read it")
	}
	if err == nil && len(g.concepts) == 0 {
		err = errors.New("there is no term in it")
	}
	if err != nil {
		return nil, err
	}
	g.seal()
	return g, nil
}

// A row is a line of a table, with its number from 1.
type row struct {
	number int
	cells  []string
}

// A rowReader returns one row after the other, then io.EOF.
type rowReader func() (row, error)

// tabs reads cells with tabs between them.
func tabs(content []byte) rowReader {
	number := 0
	return func() (row, error) {
		for len(content) > 0 {
			var line []byte
			line, content, _ = bytes.Cut(content, []byte("\n"))
			number++
			text := strings.TrimSuffix(string(line), "\r")
			if strings.TrimSpace(text) != "" {
				return row{number, strings.Split(text, "\t")}, nil
			}
		}
		return row{}, io.EOF
	}
}

// commas reads cells as RFC 4180 writes them, with commas between them, or semicolons when
// the first row has no comma.
func commas(content []byte) rowReader {
	r := csv.NewReader(bytes.NewReader(content))
	r.FieldsPerRecord = -1
	first, _, _ := bytes.Cut(content, []byte("\n"))
	if !bytes.ContainsRune(first, ',') && bytes.ContainsRune(first, ';') {
		r.Comma = ';'
	}
	return func() (row, error) {
		cells, err := r.Read()
		if broken, is := errors.AsType[*csv.ParseError](err); is {
			what := "the quotation marks are not closed, or stand within a cell; write \"\" for one in quotes"
			return row{}, fmt.Errorf("row %d, column %d: %s", broken.Line, max(len(cells), 1), what)
		}
		if err != nil {
			return row{}, err
		}
		number, _ := r.FieldPos(0)
		return row{number, cells}, nil
	}
}

// rows reads a table whose first row says the languages of its columns.
func (g *Glossary) rows(next rowReader) error {
	head, err := next()
	if err == io.EOF {
		return errors.New("it is empty; the first row names the language of each column, such as en and de")
	}
	if err != nil {
		return err
	}
	if len(head.cells) < 2 {
		return fmt.Errorf("row %d: there is one column; the first row names the language of each column, such as en and de, with a tab (.tsv) or a comma (.csv) between them", head.number)
	}
	for i, tag := range head.cells {
		l, err := core.ParseLanguage(strings.TrimSpace(tag))
		if err != nil {
			return fmt.Errorf("row %d, column %d: the first row names the language of each column, such as en and de, and this is none", head.number, i+1)
		}
		if j := slices.Index(g.languages, l); j >= 0 {
			return fmt.Errorf("row %d, column %d: %s is the language of column %d already", head.number, i+1, l, j+1)
		}
		g.languages = append(g.languages, l)
	}
	seen := map[string]int{}
	for {
		r, err := next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if len(r.cells) != len(g.languages) {
			return fmt.Errorf("row %d, column %d: the row ends with %d of the %d columns of the first row, or has more", r.number, min(len(r.cells), len(g.languages)), min(len(r.cells), len(g.languages)), len(g.languages))
		}
		var c concept
		empty := 0
		for i, cell := range r.cells {
			cell = strings.TrimSpace(cell)
			if cell == "" {
				empty = i + 1
				continue
			}
			if err := CheckTerm(cell); err != nil {
				return fmt.Errorf("row %d, column %d: %w", r.number, i+1, err)
			}
			c = append(c, named{language: i, terms: []string{cell}})
		}
		if len(c) < 2 {
			return fmt.Errorf("row %d, column %d: the term is empty; a row needs terms in two languages", r.number, empty)
		}
		if c[0].language == 0 {
			key := same(c[0].terms[0])
			if first, twice := seen[key]; twice {
				return fmt.Errorf("row %d, column 1: the term stands in row %d already; leave one of them out", r.number, first)
			}
			seen[key] = r.number
		}
		if g.concepts = append(g.concepts, c); len(g.concepts) > mostConcepts {
			return fmt.Errorf("row %d: there are more than %d rows; make several glossaries of it", r.number, mostConcepts)
		}
	}
}

// same returns what two terms have in common when no text could tell them apart.
func same(term string) string {
	var w words
	w.split(term)
	if asWritten(term) {
		return "=" + w.written(0, len(w.all))
	}
	all := make([]string, len(w.all))
	for i := range all {
		all[i] = string(w.folded(i))
	}
	return strings.Join(all, " ")
}

// mostDepth is how deep elements of TBX may stand in each other.
const mostDepth = 64

// tbx reads TBX, of ISO 30042:2008 or of 2019, whatever its dialect. Entities of its own
// and other files are not read.
func (g *Glossary) tbx(content []byte) error {
	d := xml.NewDecoder(bytes.NewReader(content))
	fail := func(format string, args ...any) error {
		line, column := d.InputPos()
		return fmt.Errorf("line %d, column %d: %s", line, column, fmt.Sprintf(format, args...))
	}
	var (
		depth    int
		known    bool // it is TBX
		c        concept
		language = -1
		term     *strings.Builder // of the element term, while it is open
		terms    []string         // of this place
		note     *strings.Builder
		unwanted bool
	)
	put := func() {
		if language < 0 || len(terms) == 0 {
			return
		}
		n := c.in(language)
		if n == nil {
			c = append(c, named{language: language})
			n = &c[len(c)-1]
		}
		if unwanted {
			n.source = append(n.source, terms...)
		} else {
			n.terms = append(n.terms, terms...)
		}
		terms, unwanted = nil, false
	}
	for {
		token, err := d.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			if syntax, is := errors.AsType[*xml.SyntaxError](err); is {
				return fail("it is no well-formed XML: %s", short(syntax.Msg))
			}
			return fail("it cannot be read: %s; it must be UTF-8", short(err.Error()))
		}
		switch t := token.(type) {
		case xml.StartElement:
			if depth++; depth > mostDepth {
				return fail("elements stand in each other %d deep", depth)
			}
			switch t.Name.Local {
			case "martif", "tbx":
				known = true
			case "termEntry", "conceptEntry":
				c = nil
			case "langSet", "langSec":
				tag := ""
				for _, a := range t.Attr {
					if a.Name.Local == "lang" {
						tag = a.Value
					}
				}
				l, err := core.ParseLanguage(tag)
				if err != nil {
					return fail("xml:lang of %s names no language that is known here", t.Name.Local)
				}
				if language = slices.Index(g.languages, l); language < 0 {
					language = len(g.languages)
					g.languages = append(g.languages, l)
				}
			case "tig", "ntig", "termSec":
				put()
			case "term":
				term = &strings.Builder{}
			case "termNote", "administrativeStatus", "admnSts":
				note = &strings.Builder{}
			}
		case xml.EndElement:
			depth--
			switch t.Name.Local {
			case "term":
				if term == nil {
					break
				}
				text := strings.Join(strings.Fields(term.String()), " ")
				term = nil
				if language < 0 {
					return fail("a term stands in no langSet or langSec, which says its language")
				}
				if err := CheckTerm(text); err != nil {
					return fail("%v", err)
				}
				terms = append(terms, text)
			case "termNote", "administrativeStatus", "admnSts":
				if note != nil {
					said := strings.ToLower(note.String())
					unwanted = unwanted || strings.Contains(said, "deprecated") || strings.Contains(said, "superseded")
					note = nil
				}
			case "tig", "ntig", "termSec":
				put()
			case "langSet", "langSec":
				put()
				language = -1
			case "termEntry", "conceptEntry":
				if len(c) >= 2 {
					g.concepts = append(g.concepts, c)
				}
				if c = nil; len(g.concepts) > mostConcepts {
					return fail("there are more than %d entries; make several glossaries of it", mostConcepts)
				}
			}
		case xml.CharData:
			if term != nil {
				term.Write(t)
			}
			if note != nil {
				note.Write(t)
			}
		}
	}
	if !known {
		return errors.New("it is no TBX: there is neither an element martif nor tbx")
	}
	return nil
}

// short is the beginning of a message that may quote the file.
func short(message string) string {
	if !utf8.ValidString(message) {
		return "it is not valid UTF-8"
	}
	for i := range message {
		if i > 80 {
			return message[:i] + "…"
		}
	}
	return message
}
