// Package format finds the texts of a file that are to be translated, and puts their
// translations into their places. Everything else of the file comes back byte for byte:
// a document is what the file holds and a list of places in it, and writing it replaces
// those places and nothing else.
//
// Read refuses what is not what it is called, with line and column. It loads nothing that a
// file names, expands no entity, and is bounded in size, depth and number of texts.
package format

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/dragoman-mt/dragoman/core"
)

// Bounds of one file.
const (
	MaxSize     = 64 << 20 // bytes
	maxSegments = 500_000
	maxDepth    = 500 // of what is nested
)

// Options say what is wanted of a file.
type Options struct {
	// Source is the language of the texts; empty when it is not known. Target is the one
	// wanted, which decides how many plural forms a message has.
	Source, Target core.Language
	// All says that what is translated already is translated again.
	All bool
	// Line is the longest line of a subtitle, in code points; 0 for 42.
	Line int
}

// A Segment is one text of a file.
type Segment struct {
	// ID is what the file calls it: a key, a message's context, a cue; empty for none.
	ID string
	// Text is what to translate, without the escapes of its format; with Marks, what stands
	// between the marks and the marks are one text.
	Text  string
	Marks Marks
	// Context tells it apart from the same text elsewhere in the file, which may have another
	// translation there; empty for a text that has one translation.
	Context string
	// Note is what the file tells a translator about it.
	Note string
	// Limit is the most code points that a translation may have; 0 for no limit.
	Limit int
	// Plural is the plural form that this is, as its format names it; empty for none.
	Plural string
	// Line and Column are where it begins, from 1, in code points.
	Line, Column int

	of   string // what names its message with its ID, in PO
	size int    // in bytes of the file, of one with marks
	put  func(answer string) []edit
}

// A Document is a file that was read.
type Document struct {
	// Segments are its texts, in their order, without those that are kept.
	Segments []Segment
	// Kept counts those that are translated already and stay.
	Kept int
	// Characters are the code points of the file; of one that is packed, those of its texts.
	Characters int64

	text   string
	code   encoding
	always []edit                               // what changes when anything does
	check  func(written string) error           // that the file still is what it was; nil for no doubt
	pack   func(written string) ([]byte, error) // of a file that is packed; nil for others
}

// An edit replaces what stands from start to end, in bytes.
type edit struct {
	start, end int
	text       string
}

// An Error is what is wrong with a file. Line and Column begin at 1, and count code points.
type Error struct {
	Line, Column int
	Detail       string
}

func (e *Error) Error() string {
	if e.Line == 0 {
		return e.Detail
	}
	return fmt.Sprintf("%d:%d: %s", e.Line, e.Column, e.Detail)
}

// A kind is one format.
type kind struct {
	name    string
	endings []string
	read    func(*reader) error
}

// kinds returns all formats, in the order in which they are listed.
func kinds() []kind {
	return []kind{
		{"txt", []string{".txt", ".text"}, readText},
		{"md", []string{".md", ".markdown"}, readMarkdown},
		{"html", []string{".html", ".htm", ".xhtml"}, readHTML},
		{"xml", []string{".xml"}, readXML},
		{"srt", []string{".srt"}, readSRT},
		{"vtt", []string{".vtt"}, readVTT},
		{"ass", []string{".ass", ".ssa"}, readASS},
		{"json", []string{".json"}, readJSON},
		{"arb", []string{".arb"}, readARB},
		{"yaml", []string{".yaml", ".yml"}, readYAML},
		{"po", []string{".po", ".pot"}, readPO},
		{"xliff", []string{".xlf", ".xliff"}, readXLIFF},
		{"properties", []string{".properties"}, readProperties},
		{"strings", []string{".strings"}, readStrings},
		{"csv", []string{".csv", ".tsv"}, readCSV},
		{"docx", []string{".docx"}, nil}, // it is no text
	}
}

// Names returns the names of all formats.
func Names() (names []string) {
	for _, k := range kinds() {
		names = append(names, k.name)
	}
	return names
}

// Endings returns the endings of files that can be translated, sorted.
func Endings() (endings []string) {
	for _, k := range kinds() {
		endings = append(endings, k.endings...)
	}
	slices.Sort(endings)
	return endings
}

// Of returns the name of the format of a file by the file's name; empty for one that cannot
// be translated.
func Of(name string) string {
	ending := strings.ToLower(filepath.Ext(name))
	for _, k := range kinds() {
		if slices.Contains(k.endings, ending) {
			return k.name
		}
	}
	return ""
}

// Read reads a file of the format name. The error is an *Error.
func Read(name string, content []byte, o Options) (*Document, error) {
	if len(content) > MaxSize {
		return nil, &Error{Detail: fmt.Sprintf("the file has %d MiB; at most %d are taken", len(content)>>20, MaxSize>>20)}
	}
	all := kinds()
	at := slices.IndexFunc(all, func(k kind) bool { return k.name == name })
	if at < 0 {
		return nil, &Error{Detail: fmt.Sprintf("there is no format %q; there are %s", name, strings.Join(Names(), ", "))}
	}
	if name == "docx" {
		return readDOCX(content, o)
	}
	text, code, err := decode(content, name)
	if err != nil {
		return nil, err
	}
	r := &reader{text: text, options: o, doc: &Document{text: text, code: code, Characters: int64(utf8.RuneCountInString(text))}}
	if o.Line <= 0 {
		r.options.Line = 42
	}
	if i := strings.IndexByte(text, 0); i >= 0 {
		return nil, r.fail(i, "a NUL character, which no text has")
	}
	r.eol = "\n"
	if i := strings.IndexByte(text, '\n'); i > 0 && text[i-1] == '\r' {
		r.eol = "\r\n"
	}
	if err := all[at].read(r); err != nil {
		return nil, err
	}
	if err := r.doc.bounded(); err != nil {
		return nil, err
	}
	r.places()
	return r.doc, nil
}

func (d *Document) bounded() error {
	if len(d.Segments)+d.Kept > maxSegments {
		return &Error{Detail: fmt.Sprintf("the file has more than %d texts", maxSegments)}
	}
	return nil
}

// Write returns the file with the translations that answer has; where it has none the file
// stays as it is. The error says which character the file's encoding does not have.
func (d *Document) Write(answer func(i int) (string, bool)) ([]byte, error) {
	var edits []edit
	for i := range d.Segments {
		s := &d.Segments[i]
		a, ok := answer(i)
		if !ok || s.put == nil {
			continue
		}
		a = strings.ReplaceAll(strings.ToValidUTF8(a, ""), "\x00", "") // what is no text is left out
		edits = append(edits, s.put(a)...)
	}
	if len(edits) > 0 {
		edits = append(edits, d.always...)
	}
	slices.SortStableFunc(edits, func(a, b edit) int {
		if a.start != b.start {
			return a.start - b.start
		}
		return a.end - b.end // what is put in comes before what is replaced
	})
	var b strings.Builder
	b.Grow(len(d.text) + len(d.text)/4)
	at := 0
	for _, e := range edits {
		if e.start < at {
			return nil, fmt.Errorf("two translations would stand in the same place, at byte %d", e.start)
		}
		b.WriteString(d.text[at:e.start])
		b.WriteString(e.text)
		at = e.end
	}
	b.WriteString(d.text[at:])
	written := b.String()
	if d.check != nil && len(edits) > 0 {
		if err := d.check(written); err != nil {
			return nil, err
		}
	}
	if d.pack != nil {
		return d.pack(written)
	}
	return d.code.encode(written)
}

// A reader is what a format reads from.
type reader struct {
	text    string
	eol     string
	options Options
	doc     *Document
	at      []int // where each segment begins, in bytes
	ascii   *bool // of JSON: what is not ASCII is escaped; nil before anybody asked
}

// add adds a segment that begins at the byte at. An answer that is its text changes nothing.
func (r *reader) add(at int, s Segment, put func(answer string) []edit) {
	text := s.Text
	s.put = func(answer string) []edit {
		if answer == text {
			return nil
		}
		return put(answer)
	}
	r.doc.Segments = append(r.doc.Segments, s)
	r.at = append(r.at, at)
}

// replace is what most segments do: escape the answer and put it from start to end.
func replace(start, end int, escape func(string) string) func(string) []edit {
	return func(answer string) []edit { return []edit{{start, end, escape(answer)}} }
}

// places finds line and column of all segments, in one pass.
func (r *reader) places() {
	order := make([]int, len(r.at))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return r.at[a] - r.at[b] })
	line, column, at := 1, 1, 0
	for _, i := range order {
		for {
			n := strings.IndexByte(r.text[at:r.at[i]], '\n')
			if n < 0 {
				break
			}
			at += n + 1
			line, column = line+1, 1
		}
		column += utf8.RuneCountInString(r.text[at:r.at[i]])
		at = r.at[i]
		s := &r.doc.Segments[i]
		s.Line, s.Column = line, column
	}
}

// fail says what is wrong at the byte at.
func (r *reader) fail(at int, format string, args ...any) error {
	at = min(max(at, 0), len(r.text))
	before := r.text[:at]
	begin := strings.LastIndexByte(before, '\n') + 1
	return &Error{Line: strings.Count(before, "\n") + 1, Column: utf8.RuneCountInString(before[begin:]) + 1, Detail: fmt.Sprintf(format, args...)}
}

// A span is a part of a file, in bytes.
type span struct{ start, end int }

func (r *reader) of(s span) string { return r.text[s.start:s.end] }

// lines returns the lines of the file without their ends.
func (r *reader) lines() (all []span) {
	for at := 0; at < len(r.text); {
		end, next := len(r.text), len(r.text)
		if n := strings.IndexByte(r.text[at:], '\n'); n >= 0 {
			end, next = at+n, at+n+1
		}
		if end > at && r.text[end-1] == '\r' {
			end--
		}
		all = append(all, span{at, end})
		at = next
	}
	return all
}

// trimmed is s without the white space round it.
func (r *reader) trimmed(s span) span {
	text := r.of(s)
	left := strings.TrimLeft(text, " \t\r\n\v\f")
	s.start += len(text) - len(left)
	s.end = s.start + len(strings.TrimRight(left, " \t\r\n\v\f"))
	return s
}

// oneLine makes one line of an answer, for places where a line ends what it is in.
func oneLine(answer string) string {
	if !strings.ContainsAny(answer, "\r\n") {
		return answer
	}
	return strings.Join(strings.FieldsFunc(answer, func(c rune) bool { return c == '\r' || c == '\n' }), " ")
}

// readText reads a plain text: each line is one.
func readText(r *reader) error {
	for _, line := range r.lines() {
		if s := r.trimmed(line); s.end > s.start {
			r.add(s.start, Segment{Text: r.of(s)}, replace(s.start, s.end, oneLine))
		}
	}
	return nil
}
