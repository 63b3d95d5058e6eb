package format

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"unicode"

	"github.com/dragoman-mt/dragoman/core/lazy"
)

// A node is an element of an XML file, with its place.
type node struct {
	name     string // without its prefix
	attr     []xml.Attr
	tag      span // the start tag
	content  span
	end      int
	children []*node
	text     bool // it has text of its own
	cdata    int  // how many CDATA sections it has
	empty    bool // it is written <a/>
}

func (n *node) get(name string) string {
	for _, a := range n.attr {
		if a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}

func (n *node) child(name string) *node {
	for _, c := range n.children {
		if c.name == name {
			return c
		}
	}
	return nil
}

const maxNodes = 1_000_000

// entityDeclared finds an entity that a document type declares.
var entityDeclared = lazy.Regexp(`<!ENTITY\s+(%\s+)?([^\s"'<>]+)\s+(SYSTEM|PUBLIC|"[^"]*"|'[^']*')`)

// xmlTree reads XML. encoding/xml is what reads it, and says where each token ends; it
// expands no entity that a document declares.
func (r *reader) xmlTree() (*node, error) {
	d := xml.NewDecoder(strings.NewReader(r.text))
	d.CharsetReader = func(_ string, in io.Reader) (io.Reader, error) { return in, nil } // it is decoded
	entities := map[string]string{}
	d.Entity = entities
	var root *node
	var open []*node
	at, nodes := 0, 0
	for {
		token, err := d.RawToken()
		begin := at
		at = int(d.InputOffset())
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			what := err.Error()
			if s, ok := errors.AsType[*xml.SyntaxError](err); ok {
				what = s.Msg
			}
			return nil, r.fail(at, "this is no well-formed XML: %.120s", what)
		}
		switch t := token.(type) {
		case xml.Directive:
			for _, m := range entityDeclared().FindAllStringSubmatch("<!"+string(t)+">", -1) {
				switch {
				case m[1] != "":
					return nil, r.fail(begin, "the document declares the parameter entity %s, which is not taken", m[2])
				case m[3] == "SYSTEM" || m[3] == "PUBLIC":
					return nil, r.fail(begin, "the document declares the external entity %s, which is never loaded: put its text into the file", m[2])
				case strings.Contains(m[3], "&") && !strings.HasPrefix(m[3][1:], "&#"):
					return nil, r.fail(begin, "the entity %s is made of other entities, which grows without bounds: put its text into the file", m[2])
				}
				entities[m[2]] = "" // its text is not looked at
			}
		case xml.StartElement:
			if nodes++; nodes > maxNodes {
				return nil, r.fail(begin, "the document has more than %d elements", maxNodes)
			}
			if len(open) == maxDepth {
				return nil, r.fail(begin, "elements are nested more than %d deep", maxDepth)
			}
			if root != nil && len(open) == 0 {
				return nil, r.fail(begin, "a second root, <%s>: a document has one", t.Name.Local)
			}
			n := &node{name: t.Name.Local, attr: t.Attr, tag: span{begin, at}, content: span{at, at}, empty: strings.HasSuffix(r.text[begin:at], "/>")}
			if len(open) > 0 {
				parent := open[len(open)-1]
				parent.children = append(parent.children, n)
			} else {
				root = n
			}
			open = append(open, n)
		case xml.EndElement:
			if len(open) == 0 || open[len(open)-1].name != t.Name.Local {
				want := "there is nothing to end"
				if len(open) > 0 {
					want = "want </" + open[len(open)-1].name + ">"
				}
				return nil, r.fail(begin, "this is no well-formed XML: </%s>, and %s", t.Name.Local, want)
			}
			n := open[len(open)-1]
			n.content.end, n.end = begin, at
			open = open[:len(open)-1]
		case xml.CharData:
			if len(open) == 0 {
				if strings.TrimSpace(string(t)) != "" {
					return nil, r.fail(begin, "this is no XML: text outside of its root")
				}
				continue
			}
			n := open[len(open)-1]
			raw := r.text[begin:at]
			if strings.HasPrefix(raw, "<![CDATA[") {
				n.cdata++
			}
			n.text = n.text || strings.TrimSpace(raw) != ""
		}
	}
	switch {
	case len(open) > 0:
		return nil, r.fail(len(r.text), "this is no well-formed XML: <%s> of line %d has no end", open[len(open)-1].name, strings.Count(r.text[:open[len(open)-1].tag.start], "\n")+1)
	case root == nil:
		return nil, r.fail(0, "this is no XML: it has no element")
	}
	return root, nil
}

// readXML reads any XML: an element that has text of its own is a text, with the elements in
// it. Android's string resources have escapes of their own.
func readXML(r *reader) error {
	root, err := r.xmlTree()
	if err != nil {
		return err
	}
	android := root.name == "resources"
	var walk func(n *node, id string)
	walk = func(n *node, id string) {
		if n.get("translatable") == "false" || n.get("translate") == "no" {
			return
		}
		for _, name := range []string{"name", "id", "key"} {
			if v := n.get(name); v != "" {
				id = v
			}
		}
		if !n.text {
			for _, c := range n.children {
				walk(c, id)
			}
			return
		}
		r.element(n, Segment{ID: id, Plural: n.get("quantity")}, android)
	}
	walk(root, "")
	return nil
}

// element adds the content of an element.
func (r *reader) element(n *node, s Segment, android bool) {
	content := r.trimmed(n.content)
	raw := r.of(content)
	const open, shut = "<![CDATA[", "]]>"
	if n.cdata == 1 && strings.HasPrefix(raw, open) && strings.HasSuffix(raw, shut) && strings.Count(raw, open) == 1 {
		inner := r.trimmed(span{content.start + len(open), content.end - len(shut)})
		s.Text = r.of(inner)
		if !strings.ContainsFunc(s.Text, unicode.IsLetter) {
			return
		}
		if htmlInText().MatchString(s.Text) {
			s.Marks = HTML
		}
		r.add(inner.start, s, replace(inner.start, inner.end, func(answer string) string {
			return strings.ReplaceAll(legal(answer), shut, "]]]]><![CDATA[>")
		}))
		return
	}
	run := r.bareRun(content, XML)
	raw = r.of(run)
	if pieces, _ := XML.Split(raw); len(pieces) == 0 {
		return
	}
	s.Text = strings.Join(strings.Fields(raw), " ")
	if android {
		if strings.HasPrefix(s.Text, "@") || strings.HasPrefix(s.Text, "?") {
			return // a reference
		}
		s.Text = androidText(s.Text)
	}
	if strings.ContainsAny(raw, "<&") {
		s.Marks = XML
	}
	r.add(run.start, s, replace(run.start, run.end, func(answer string) string {
		answer = wellFormed(s, answer)
		if android {
			answer = androidEscape(answer)
		}
		return answer
	}))
}

// androidText takes Android's escapes out of the text between tags.
func androidText(raw string) string {
	if len(raw) > 1 && raw[0] == '"' && raw[len(raw)-1] == '"' && !strings.Contains(raw, "<") {
		raw = raw[1 : len(raw)-1]
	}
	return strings.NewReplacer(`\'`, "'", `\"`, `"`, `\n`, "\n", `\t`, "\t", `\@`, "@", `\?`, "?").Replace(raw)
}

func androidEscape(answer string) string {
	var b strings.Builder
	for raw, mark := range XML.parts(answer) {
		if !mark {
			raw = strings.NewReplacer(`'`, `\'`, `"`, `\"`, "\n", `\n`, "\t", `\t`).Replace(raw)
		}
		b.WriteString(raw)
	}
	s := b.String()
	if strings.HasPrefix(s, "@") || strings.HasPrefix(s, "?") {
		s = `\` + s
	}
	return s
}

// readXLIFF reads XLIFF 1.2 and 2.0, which hold a text and its translation.
func readXLIFF(r *reader) error {
	root, err := r.xmlTree()
	if err != nil {
		return err
	}
	if root.name != "xliff" {
		return r.fail(root.tag.start, "this is no XLIFF: its root is <%s>", root.name)
	}
	version := root.get("version")
	if !strings.HasPrefix(version, "1.") && !strings.HasPrefix(version, "2.") {
		return r.fail(root.tag.start, "XLIFF of version %.20q is not taken; 1.2 and 2.0 are", version)
	}
	second := strings.HasPrefix(version, "2.")
	target := string(r.options.Target)
	// named holds the language that an element names against the one that is wanted.
	named := func(n *node, attribute string) error {
		have := n.get(attribute)
		if have == "" {
			if target != "" {
				at := n.tag.end - 1
				if n.empty {
					at--
				}
				r.doc.always = append(r.doc.always, edit{at, at, " " + attribute + `="` + target + `"`})
			}
			return nil
		}
		base, _, _ := strings.Cut(strings.ReplaceAll(have, "_", "-"), "-")
		if target != "" && !strings.EqualFold(base, r.options.Target.Base()) {
			return r.fail(n.tag.start, "the file is for translations into %s, and %s is wanted", have, target)
		}
		return nil
	}
	if second {
		if err := named(root, "trgLang"); err != nil {
			return err
		}
	}
	var walk func(n *node, id string, note string) error
	walk = func(n *node, id, note string) error {
		if n.get("translate") == "no" {
			return nil
		}
		switch n.name {
		case "file":
			if !second {
				if err := named(n, "target-language"); err != nil {
					return err
				}
			}
		case "alt-trans", "matches", "skeleton", "glossary", "notes", "note":
			return nil
		case "unit", "trans-unit":
			id, note = n.get("id"), r.notesOf(n)
			if n.name == "trans-unit" {
				return r.unit(n, id, note, second)
			}
		case "segment":
			return r.unit(n, id, note, second)
		}
		for _, c := range n.children {
			if err := walk(c, id, note); err != nil {
				return err
			}
		}
		return nil
	}
	return walk(root, "", "")
}

func (r *reader) notesOf(n *node) string {
	var notes []string
	for _, c := range n.children {
		if c.name == "note" {
			notes = append(notes, strings.Join(strings.Fields(r.of(c.content)), " "))
		}
		if c.name == "notes" {
			if inner := r.notesOf(c); inner != "" {
				notes = append(notes, inner)
			}
		}
	}
	return strings.Join(notes, "\n")
}

// unit adds what holds one source and its target.
func (r *reader) unit(n *node, id, note string, second bool) error {
	source, target := n.child("source"), n.child("target")
	if source == nil {
		return r.fail(n.tag.start, "<%s> has no <source>", n.name)
	}
	run := r.trimmed(source.content)
	raw := r.of(run)
	if pieces, _ := XML.Split(raw); len(pieces) == 0 {
		return nil
	}
	state := n.get("state")
	if !second && target != nil {
		state = target.get("state")
	}
	open := state == "initial" || state == "new" || strings.HasPrefix(state, "needs-")
	if target != nil && strings.TrimSpace(r.of(target.content)) != "" && !open && !r.options.All {
		r.doc.Kept++
		return nil
	}
	s := Segment{ID: id, Note: note, Text: strings.Join(strings.Fields(raw), " "), size: len(raw)}
	if strings.ContainsAny(raw, "<&") {
		s.Marks = XML
	}
	if unit := n.get("size-unit"); unit == "char" {
		s.Limit = digits(n.get("maxwidth"))
	}
	// The state says that there is a translation now.
	translated := func() (edits []edit) {
		where := n.tag
		if !second && target != nil {
			where = target.tag
		}
		if m := stateOf().FindStringSubmatchIndex(r.of(where)); m != nil && open {
			edits = append(edits, edit{where.start + m[2], where.start + m[3], "translated"})
		}
		return edits
	}
	s.put = func(answer string) []edit {
		answer = wellFormed(s, answer)
		switch {
		case target == nil:
			after := source
			if seg := n.child("seg-source"); seg != nil {
				after = seg
			}
			begin := strings.LastIndexByte(r.text[:source.tag.start], '\n') + 1
			lead := r.text[begin:source.tag.start]
			if strings.TrimSpace(lead) != "" || begin == 0 {
				lead = ""
			} else {
				lead = r.eol + lead
			}
			prefix := ""
			if name := r.text[source.tag.start+1 : source.tag.end]; strings.Contains(strings.SplitN(name, "source", 2)[0], ":") {
				prefix = strings.SplitN(name, "source", 2)[0]
			}
			return append(translated(), edit{after.end, after.end, lead + "<" + prefix + "target>" + answer + "</" + prefix + "target>"})
		case target.empty:
			tag := r.of(target.tag)
			name := strings.TrimRight(tag[1:len(tag)-2], " \t\r\n")
			element, _, _ := strings.Cut(name, " ")
			return []edit{{target.tag.start, target.end, "<" + stateOf().ReplaceAllString(name, ` state="translated"`) + ">" + answer + "</" + element + ">"}}
		default:
			return append(translated(), edit{target.content.start, target.content.end, answer})
		}
	}
	r.doc.Segments = append(r.doc.Segments, s)
	r.at = append(r.at, run.start)
	return nil
}

var stateOf = lazy.Regexp(`\sstate\s*=\s*["']([^"']*)["']`)
