package format

import (
	"archive/zip"
	"bytes"
	"errors"
	"fmt"
	"html"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/dragoman-mt/dragoman/core/lazy"
)

// A file of Word is a folder of XML files in a zip archive (ECMA-376). Those with texts are read
// one behind the other, with a NUL between, which XML cannot hold; all others are copied as they
// are, compressed.

// wordParts are the content types of the parts of a docx that have texts, but for what they begin
// and end with.
var wordParts = []string{"document.main", "document.macroEnabled.main", "template.main", "header", "footer", "footnotes", "endnotes"}

// maxEntries bounds what an archive may hold.
const maxEntries = 10_000

// unpack returns the texts of a docx, and what puts them back.
func unpack(content []byte) (parts []part, pack func(texts []string) ([]byte, error), err error) {
	if bytes.HasPrefix(content, []byte("\xd0\xcf\x11\xe0")) {
		return nil, nil, &Error{Detail: "this is no docx: it is encrypted, or an old .doc; save it as .docx without a password"}
	}
	archive, err := zip.NewReader(bytes.NewReader(content), int64(len(content)))
	if err != nil {
		return nil, nil, &Error{Detail: fmt.Sprintf("this is no docx: %v", err)}
	}
	if len(archive.File) > maxEntries {
		return nil, nil, &Error{Detail: fmt.Sprintf("this is no docx: the archive holds %d files; at most %d are taken", len(archive.File), maxEntries)}
	}
	entries := map[string]*zip.File{}
	for _, f := range archive.File {
		if entries[f.Name] != nil {
			return nil, nil, &Error{Detail: fmt.Sprintf("this is no docx: the archive holds %.80q twice", f.Name)}
		}
		entries[f.Name] = f
	}
	left := int64(MaxSize)
	read := func(name string) (string, error) {
		f := entries[name]
		if f == nil {
			return "", &Error{Detail: fmt.Sprintf("this is no docx: %.80q is not in the archive", name)}
		}
		tooLarge := &Error{Detail: fmt.Sprintf("what is packed in the file has more than %d MiB", MaxSize>>20)}
		if f.UncompressedSize64 > uint64(left) {
			return "", tooLarge
		}
		in, err := f.Open()
		if err != nil {
			return "", &Error{Detail: fmt.Sprintf("this is no docx: %.80q: %v", name, err)}
		}
		defer in.Close()
		raw, err := io.ReadAll(io.LimitReader(in, left+1)) // the archive may lie about its size
		switch {
		case int64(len(raw)) > left:
			return "", tooLarge
		case err != nil:
			return "", &Error{Detail: fmt.Sprintf("this is no docx: %.80q: %v", name, err)}
		case !utf8.Valid(raw):
			return "", &Error{Detail: fmt.Sprintf("%.80q is not UTF-8, in which Word writes", name)}
		case bytes.IndexByte(raw, 0) >= 0:
			return "", &Error{Detail: fmt.Sprintf("%.80q: a NUL character, which no text has", name)}
		}
		left -= int64(len(raw))
		return string(raw), nil
	}
	types, err := read("[Content_Types].xml")
	if err != nil {
		return nil, nil, err
	}
	root, err := (&reader{text: types}).xmlTree()
	if err != nil {
		return nil, nil, named("[Content_Types].xml", err)
	}
	main := false
	for _, n := range root.children {
		kind := n.get("ContentType")
		kind, is := strings.CutPrefix(kind, "application/vnd.")
		kind, xml := strings.CutSuffix(kind, "+xml")
		if _, of, found := strings.Cut(kind, "wordprocessingml."); found {
			kind = of
		}
		kind = strings.TrimPrefix(kind, "ms-word.")
		if n.name != "Override" || !is || !xml || !slices.Contains(wordParts, kind) {
			continue
		}
		main = main || strings.HasSuffix(kind, ".main")
		name := strings.TrimPrefix(path.Clean(n.get("PartName")), "/")
		text, err := read(name)
		if err != nil {
			return nil, nil, err
		}
		parts = append(parts, part{name, text})
	}
	if !main {
		return nil, nil, &Error{Detail: "this is no docx: the archive holds no document of Word"}
	}
	pack = func(texts []string) ([]byte, error) {
		var out bytes.Buffer
		w := zip.NewWriter(&out)
		for _, f := range archive.File {
			at := slices.IndexFunc(parts, func(p part) bool { return p.name == f.Name })
			if at < 0 || texts[at] == parts[at].text {
				if err := w.Copy(f); err != nil {
					return nil, err
				}
				continue
			}
			to, err := w.CreateHeader(&zip.FileHeader{Name: f.Name, Comment: f.Comment, Method: f.Method, Modified: f.Modified, ExternalAttrs: f.ExternalAttrs})
			if err == nil {
				_, err = io.WriteString(to, texts[at])
			}
			if err != nil {
				return nil, err
			}
		}
		if err := errors.Join(w.SetComment(archive.Comment), w.Close()); err != nil {
			return nil, err
		}
		return out.Bytes(), nil
	}
	return parts, pack, nil
}

// A part is a file in a docx.
type part struct{ name, text string }

// named says in which part something is wrong.
func named(part string, err error) error {
	if e, ok := errors.AsType[*Error](err); ok {
		return &Error{e.Line, e.Column, part + ": " + e.Detail}
	}
	return err
}

// readDOCX reads the paragraphs of all parts. What is said of the place of a text is the
// number of its paragraph.
func readDOCX(content []byte, o Options) (*Document, error) {
	parts, pack, err := unpack(content)
	if err != nil {
		return nil, err
	}
	doc := &Document{}
	texts := make([]string, len(parts))
	for i, p := range parts {
		texts[i] = p.text
	}
	doc.text = strings.Join(texts, "\x00")
	doc.pack = func(written string) ([]byte, error) {
		if written == doc.text {
			return content, nil
		}
		return pack(strings.Split(written, "\x00"))
	}
	base, room := 0, MaxSize
	for _, p := range parts {
		r := &reader{text: p.text, options: o, doc: doc}
		root, err := r.xmlTree()
		if err != nil {
			return nil, named(p.name, err)
		}
		if space := root.get("w"); !slices.Contains(wordSpaces, space) {
			return nil, &Error{Detail: fmt.Sprintf("%s: the prefix w: stands for %.80q and not for Word's elements: save the file with Word or LibreOffice", p.name, space)}
		}
		w := &word{reader: r, base: base, room: &room}
		w.walk(root)
		base += len(p.text) + 1
	}
	for i := range doc.Segments {
		doc.Characters += int64(utf8.RuneCountInString(doc.Segments[i].Text))
	}
	return doc, doc.bounded()
}

// wordSpaces are what the prefix w: stands for: what Word writes, and the strict form of it.
var wordSpaces = []string{"http://schemas.openxmlformats.org/wordprocessingml/2006/main", "http://purl.oclc.org/ooxml/wordprocessingml/main"}

// A word reads a part of a docx.
type word struct {
	*reader
	base       int // where the part begins in the text of the document
	paragraphs int
	// room is how many bytes of formats may still be written again: a run of many pieces
	// has its own with each. What goes beyond stays as it is.
	room *int
}

// called is the name of n as it is written, with its prefix.
func (w *word) called(n *node) string {
	tag := w.text[n.tag.start+1 : n.tag.end]
	return tag[:strings.IndexAny(tag, " \t\r\n/>")]
}

// is says whether n is the element of Word's that is called name.
func (w *word) is(n *node, name string) bool {
	return n.name == name && strings.TrimSuffix(w.called(n), name) == "w:"
}

// walk finds the paragraphs below n, those in text boxes of others too.
func (w *word) walk(n *node) {
	if w.is(n, "p") {
		w.paragraphs++
		w.paragraph(n)
	}
	for _, c := range n.children {
		w.walk(c)
	}
}

// has says whether an element name of Word's stands below n.
func (w *word) has(n *node, name string) bool {
	return slices.ContainsFunc(n.children, func(c *node) bool { return w.is(c, name) || w.has(c, name) })
}

// A piece is what a paragraph is made of: text in one format, or something that stays.
type piece struct {
	kind       byte   // 't' for text, '<' and '>' for what holds others, '.' for what stands by itself, '|' for what ends a text
	text       string // of 't'
	raw        string // as it is written anew
	format     string // of 't': its properties
	look       string // and what is seen of them
	start, end int    // of the whole run, or of what stands by itself
	shared     bool   // its run has others
	field      string // of '.': begin, separate or end, and instr
}

// pieces returns those of n.
func (w *word) pieces(n *node) (all []piece) {
	for _, c := range n.children {
		raw := w.text[c.tag.start:c.end]
		switch name := strings.TrimPrefix(w.called(c), "w:"); {
		case w.is(c, "pPr"), w.is(c, "proofErr"):
		case w.is(c, "r"):
			if w.has(c, "p") {
				all = append(all, piece{kind: '|', start: c.tag.start, end: c.end})
				continue
			}
			all = append(all, w.run(c)...)
		case w.is(c, name) && slices.Contains([]string{"hyperlink", "ins", "moveTo", "smartTag", "customXml", "dir", "bdo", "sdt"}, name) && !c.empty:
			inner := c
			if name == "sdt" {
				if inner = c.child("sdtContent"); inner == nil || inner.empty {
					all = append(all, piece{kind: '.', raw: raw, start: c.tag.start, end: c.end})
					continue
				}
			}
			within := w.pieces(inner)
			if slices.ContainsFunc(within, func(p piece) bool { return p.kind == '|' }) {
				all = append(all, piece{kind: '|', start: c.tag.start, end: c.end})
				continue
			}
			all = append(all, piece{kind: '<', raw: w.text[c.tag.start:inner.content.start], start: c.tag.start, end: inner.content.start})
			all = append(all, within...)
			all = append(all, piece{kind: '>', raw: w.text[inner.content.end:c.end], start: inner.content.end, end: c.end})
		case w.has(c, "p"):
			all = append(all, piece{kind: '|', start: c.tag.start, end: c.end})
		default:
			all = append(all, piece{kind: '.', raw: raw, start: c.tag.start, end: c.end})
		}
	}
	return all
}

// run returns the pieces of a run.
func (w *word) run(n *node) (all []piece) {
	format := ""
	add := func(p piece) {
		p.start, p.end = n.tag.start, n.end
		all = append(all, p)
	}
	for _, c := range n.children {
		switch {
		case w.is(c, "rPr"):
			format = w.text[c.tag.start:c.end]
		case w.is(c, "t"):
			text := strings.NewReplacer("<![CDATA[", "", "]]>", "").Replace(w.of(c.content))
			if c.cdata == 0 {
				text = html.UnescapeString(w.of(c.content))
			}
			add(piece{kind: 't', text: text})
		case w.is(c, "noBreakHyphen"):
			add(piece{kind: 't', text: "\u2011"})
		case w.is(c, "softHyphen"), w.is(c, "lastRenderedPageBreak"):
		case w.is(c, "fldChar"):
			kind := ""
			for _, a := range c.attr {
				if a.Name.Local == "fldCharType" {
					kind = a.Value
				}
			}
			add(piece{kind: '.', raw: w.text[c.tag.start:c.end], field: kind})
		case w.is(c, "instrText"):
			add(piece{kind: '.', raw: w.text[c.tag.start:c.end], text: strings.TrimSpace(w.of(c.content)), field: "instr"})
		default:
			add(piece{kind: '.', raw: w.text[c.tag.start:c.end]})
		}
	}
	all = grouped(all, func(a, b *piece) bool { return a.kind == b.kind && a.field == "" && b.field == "" })
	if *w.room -= len(format) * (len(all) - 1); *w.room < 0 {
		return []piece{{kind: '.', raw: w.text[n.tag.start:n.end], start: n.tag.start, end: n.end}}
	}
	look := unseen(format)
	for i := range all {
		all[i].format, all[i].look, all[i].shared = format, look, len(all) > 1
		if all[i].kind == '.' {
			all[i].raw = "<w:r>" + format + all[i].raw + "</w:r>"
		}
	}
	return all
}

// grouped makes one piece of those that follow one another and are of one kind, as same
// says of the first of them and another.
func grouped(all []piece, same func(a, b *piece) bool) (out []piece) {
	for i := 0; i < len(all); {
		end := i + 1
		for end < len(all) && same(&all[i], &all[end]) {
			end++
		}
		p := all[i]
		if end > i+1 {
			var text, raw strings.Builder
			for _, one := range all[i:end] {
				text.WriteString(one.text)
				raw.WriteString(one.raw)
			}
			p.text, p.raw, p.end = text.String(), raw.String(), all[end-1].end
		}
		out, i = append(out, p), end
	}
	return out
}

// hyperlink is what the code of a field begins with that is a link.
const hyperlink = "HYPERLINK"

// fields makes one piece of each field, whose text Word makes itself; a link is one that holds
// its text. False says that a field goes on in another paragraph.
func fields(all []piece) (out []piece, whole bool) {
	for i := 0; i < len(all); i++ {
		if all[i].field == "" {
			out = append(out, all[i])
			continue
		}
		depth, separate, code, j := 0, -1, "", i
		for ; j < len(all); j++ {
			switch all[j].field {
			case "begin":
				depth++
			case "separate":
				if depth == 1 && separate < 0 {
					separate = j
				}
			case "instr":
				if depth == 1 && len(code) < len(hyperlink) {
					code += all[j].text
				}
			case "end":
				depth--
			}
			if depth <= 0 {
				break
			}
		}
		if j == len(all) || depth < 0 || all[i].field != "begin" {
			return nil, false
		}
		join := func(from, to int, kind byte) {
			var raw strings.Builder
			for _, one := range all[from : to+1] {
				if one.kind == 't' {
					one.raw = runOf(one.format, one.text)
				}
				raw.WriteString(one.raw)
			}
			out = append(out, piece{kind: kind, raw: raw.String(), start: all[from].start, end: all[to].end, shared: all[from].shared || all[to].shared})
		}
		if !closed(all[i : j+1]) {
			return nil, false
		}
		if separate > 0 && strings.HasPrefix(code, hyperlink) && closed(all[i:separate+1]) && !slices.ContainsFunc(all[separate+1:j], func(p piece) bool { return p.field != "" }) {
			join(i, separate, '<')
			out = append(out, all[separate+1:j]...)
			join(j, j, '>')
		} else {
			join(i, j, '.')
		}
		i = j
	}
	return out, true
}

// closed says whether what begins in all ends there.
func closed(all []piece) bool {
	depth := 0
	for _, p := range all {
		switch p.kind {
		case '<':
			depth++
		case '>':
			if depth--; depth < 0 {
				return false
			}
		}
	}
	return depth == 0
}

// runOf is a run of Word's with a text.
func runOf(format, text string) string {
	return "<w:r>" + format + `<w:t xml:space="preserve">` + escapeMarkup(text) + "</w:t></w:r>"
}

// paragraph adds the texts of a paragraph: mostly one.
func (w *word) paragraph(n *node) {
	all := w.pieces(n)
	for len(all) > 0 {
		end := slices.IndexFunc(all, func(p piece) bool { return p.kind == '|' })
		if end < 0 {
			end = len(all)
		}
		if some, whole := fields(all[:end]); whole {
			w.segment(some)
		} else {
			// Each text by itself: then nothing can change its place.
			for _, p := range all[:end] {
				if p.kind == 't' && !p.shared {
					w.segment([]piece{p})
				}
			}
		}
		all = all[min(end+1, len(all)):]
	}
}

// segment adds the text that pieces make, without what stands round it.
func (w *word) segment(all []piece) {
	for {
		last := len(all) - 1
		stays := func(p piece) bool { return p.kind != 't' && !p.shared }
		switch {
		case last < 0:
			return
		case all[0].kind == '.' && stays(all[0]):
			all = all[1:]
			continue
		case all[last].kind == '.' && stays(all[last]):
			all = all[:last]
			continue
		}
		if all[0].kind != '<' || all[last].kind != '>' || all[0].shared || all[last].shared || partner(all, 0) != last {
			break
		}
		all = all[1:last]
	}
	all = grouped(all, func(a, b *piece) bool {
		return a.kind == b.kind && (a.kind == '.' || a.kind == 't' && a.look == b.look)
	})
	// The format of most letters needs no mark.
	letters := map[string]int{}
	usual := ""
	for _, p := range all {
		if p.kind == 't' {
			letters[p.format] += utf8.RuneCountInString(p.text)
			if letters[p.format] > letters[usual] || usual == "" && letters[usual] == 0 {
				usual = p.format
			}
		}
	}
	var text strings.Builder
	marks := map[string]piece{} // by what stands for them
	number, bare := 0, true
	var open []string
	look := unseen(usual)
	for _, p := range all {
		switch p.kind {
		case 't':
			bare = bare && !strings.ContainsFunc(p.text, unicode.IsLetter)
			if p.look == look {
				text.WriteString(escapeMarkup(p.text))
				continue
			}
			number++
			name := "w" + strconv.Itoa(number)
			marks["<"+name+">"] = p
			text.WriteString("<" + name + ">" + escapeMarkup(p.text) + "</" + name + ">")
			continue
		case '<':
			number++
			open = append(open, "w"+strconv.Itoa(number))
			name := "<" + open[len(open)-1] + ">"
			marks[name] = p
			text.WriteString(name)
		case '>':
			name := "</" + open[len(open)-1] + ">"
			open = open[:len(open)-1]
			marks[name] = p
			text.WriteString(name)
		default:
			number++
			name := "<w" + strconv.Itoa(number) + "/>"
			marks[name] = p
			text.WriteString(name)
		}
	}
	if bare {
		return
	}
	full := text.String()
	s := Segment{Text: strings.TrimSpace(full), Line: w.paragraphs, Column: 1}
	if strings.ContainsAny(s.Text, "<&") {
		s.Marks = XML
	}
	before, after, _ := strings.Cut(full, s.Text)
	start, end := w.base+all[0].start, w.base+all[len(all)-1].end
	w.add(start, s, func(answer string) []edit {
		if s.Marks == NoMarks {
			answer = escapeMarkup(answer)
		} else if !s.Marks.Same(s.Text, answer) || !slices.Equal(holders(s.Text, marks), holders(answer, marks)) {
			return nil // nobody could tell what is in which format, and a link holds no other
		}
		var b strings.Builder
		formats := []string{usual}
		for raw, mark := range XML.parts(before + oneLine(answer) + after) {
			p, known := marks[raw]
			switch {
			case !mark:
				b.WriteString(runOf(formats[len(formats)-1], html.UnescapeString(raw)))
			case known && p.kind == 't':
				formats = append(formats, p.format)
			case known:
				b.WriteString(p.raw)
			default:
				formats = formats[:len(formats)-1]
			}
		}
		return []edit{{start, end, b.String()}}
	})
}

// holders returns for each mark that holds others in which other one it stands, sorted.
func holders(text string, marks map[string]piece) (all []string) {
	in := []string{""}
	for raw, mark := range XML.parts(text) {
		p := marks[raw]
		switch {
		case !mark:
		case p.kind == '<':
			all = append(all, in[len(in)-1]+raw)
			in = append(in, raw)
		case p.kind == '>' && len(in) > 1:
			in = in[:len(in)-1]
		}
	}
	slices.Sort(all)
	return all
}

// partner is where what begins at i ends.
func partner(all []piece, i int) int {
	depth := 0
	for j := i; j < len(all); j++ {
		switch all[j].kind {
		case '<':
			depth++
		case '>':
			if depth--; depth == 0 {
				return j
			}
		}
	}
	return -1
}

// unseen is format without what is not seen: Word notes in which language it has looked at
// the spelling.
func unseen(format string) string {
	if strings.Contains(format, "<w:lang ") || strings.Contains(format, "<w:noProof") {
		format = spelling().ReplaceAllString(format, "")
	}
	if format == "<w:rPr></w:rPr>" || format == "<w:rPr/>" {
		return ""
	}
	return format
}

var spelling = lazy.Regexp(`<w:(?:lang |noProof)[^>]*/>`)
