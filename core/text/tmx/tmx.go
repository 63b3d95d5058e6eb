// Package tmx reads and writes translation memories in TMX 1.4, the Localization Industry
// Standards Association's exchange format: texts with their translations. It takes of one
// what it needs, and adds to one without changing what is there.
package tmx

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/dragoman-mt/dragoman/core"
)

// MaxSize is the largest memory that is read, in bytes.
const MaxSize = 256 << 20

// A Unit is a text and what it is in another language.
type Unit struct{ Source, Target string }

// Read returns the units of a memory from source to target; source may be empty for any
// language but target. Of two units with one text the later holds. Units with marks inside
// are left out. An error has line and column.
func Read(content []byte, source, target core.Language) ([]Unit, error) {
	if len(content) > MaxSize {
		return nil, fmt.Errorf("the memory has %d MiB; at most %d are taken", len(content)>>20, MaxSize>>20)
	}
	d := xml.NewDecoder(bytes.NewReader(content))
	fail := func(format string, args ...any) error {
		line, column := d.InputPos()
		return fmt.Errorf("%d:%d: %s", line, column, fmt.Sprintf(format, args...))
	}
	var units []Unit
	type variant struct {
		language core.Language
		text     string
		marks    bool
	}
	var all []variant
	var text strings.Builder
	depth, inSeg, root := 0, 0, false
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			if s, ok := errors.AsType[*xml.SyntaxError](err); ok {
				return nil, fail("%s", s.Msg)
			}
			return nil, fail("%v", err)
		}
		switch t := token.(type) {
		case xml.Directive:
			if bytes.Contains(t, []byte("<!ENTITY")) || bytes.HasPrefix(t, []byte("ENTITY")) {
				return nil, fail("entities are declared, which are not taken")
			}
		case xml.StartElement:
			depth++
			if !root && t.Name.Local != "tmx" {
				return nil, fail("this is no TMX file: its root is <%s>", t.Name.Local)
			}
			root = true
			switch {
			case depth > 100:
				return nil, fail("elements are nested more than 100 deep")
			case inSeg > 0:
				inSeg++
				all[len(all)-1].marks = true
			case t.Name.Local == "tu":
				all = all[:0]
			case t.Name.Local == "tuv":
				v := variant{}
				for _, a := range t.Attr {
					if a.Name.Local == "lang" {
						v.language, _ = core.ParseLanguage(a.Value)
					}
				}
				all = append(all, v)
			case t.Name.Local == "seg" && len(all) > 0:
				inSeg = 1
				text.Reset()
			}
		case xml.EndElement:
			depth--
			if inSeg > 0 {
				if inSeg--; inSeg == 0 {
					all[len(all)-1].text = text.String()
				}
				continue
			}
			if t.Name.Local != "tu" {
				continue
			}
			var from, to *variant
			for i := range all {
				v := &all[i]
				switch {
				case v.language == "" || v.text == "" || v.marks:
				case v.language == target || to == nil && v.language.Base() == target.Base() && (source == "" || v.language.Base() != source.Base()):
					to = v
				case source == "" && from == nil, v.language == source, source != "" && from == nil && v.language.Base() == source.Base():
					from = v
				}
			}
			if from != nil && to != nil {
				units = append(units, Unit{from.text, to.text})
			}
		case xml.CharData:
			if inSeg > 0 {
				text.Write(t)
			}
		}
	}
	if !root {
		return nil, fail("this is no TMX file: it has no element")
	}
	return units, nil
}

// Add returns the memory content with units more; an empty content is a new one.
func Add(content []byte, source, target core.Language, units []Unit) ([]byte, error) {
	if len(bytes.TrimSpace(content)) == 0 {
		content = fmt.Appendf(nil, `<?xml version="1.0" encoding="UTF-8"?>
<tmx version="1.4">
<header creationtool="dragoman" creationtoolversion="1" segtype="block" o-tmf="dragoman" adminlang="en" srclang="%s" datatype="plaintext"/>
<body>
</body>
</tmx>
`, orAll(source))
	}
	at := bytes.LastIndex(content, []byte("</body>"))
	if at < 0 {
		return nil, errors.New("the memory has no </body>")
	}
	var b bytes.Buffer
	b.Grow(len(content) + 200*len(units))
	b.Write(content[:at])
	for _, u := range units {
		fmt.Fprintf(&b, "<tu><tuv xml:lang=\"%s\"><seg>%s</seg></tuv><tuv xml:lang=\"%s\"><seg>%s</seg></tuv></tu>\n", orAll(source), escape(u.Source), target, escape(u.Target))
	}
	b.Write(content[at:])
	return b.Bytes(), nil
}

// orAll is the language that a memory names for a text whose language nobody knows.
func orAll(l core.Language) string {
	if l == "" {
		return "und"
	}
	return string(l)
}

func escape(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a Builder takes all
	return b.String()
}
