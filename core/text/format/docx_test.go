package format

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"encoding/xml"
	"io"
	"runtime"
	"slices"
	"strings"
	"testing"
)

const (
	wordTypes = `<?xml version="1.0" encoding="UTF-8" standalone="yes"?><Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"><Default Extension="png" ContentType="image/png"/>` +
		`<Override PartName="/word/document.xml" ContentType="application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"/>` +
		`<Override PartName="/word/header1.xml" ContentType="application/vnd.openxmlformats-officedocument.wordprocessingml.header+xml"/>` +
		`<Override PartName="/word/styles.xml" ContentType="application/vnd.openxmlformats-officedocument.wordprocessingml.styles+xml"/></Types>`
	wordSpace = ` xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"`
	bold      = `<w:rPr><w:b/></w:rPr>`
)

func wordRun(text string) string { return `<w:r><w:t xml:space="preserve">` + text + `</w:t></w:r>` }

// wordBody is a document with everything that stands in and among texts.
var wordBody = `<w:document` + wordSpace + `><w:body>` +
	`<w:p w:rsidR="1"><w:pPr><w:pStyle w:val="Title"/></w:pPr><w:bookmarkStart w:id="0" w:name="top"/>` + wordRun("The ti") + `<w:proofErr w:type="spellStart"/><w:r w:rsidR="2"><w:rPr><w:lang w:val="en-GB"/></w:rPr><w:t>tle</w:t></w:r><w:bookmarkEnd w:id="0"/></w:p>` +
	`<w:p>` + wordRun("Press the ") + `<w:r>` + bold + `<w:t>red</w:t></w:r>` + wordRun(" button &amp; wait ") + `<w:hyperlink r:id="rId4">` + wordRun("as told here") + `</w:hyperlink>` + wordRun(".") + `<w:r><w:footnoteReference w:id="2"/></w:r></w:p>` +
	`<w:tbl><w:tr><w:tc><w:p>` + wordRun("A cell") + `</w:p></w:tc><w:tc><w:p>` + wordRun("42") + `</w:p></w:tc></w:tr></w:tbl>` +
	`<w:p><w:r><w:t>Name:</w:t><w:tab/><w:t>value</w:t></w:r><w:r><w:br/></w:r><w:r><w:t>next</w:t></w:r></w:p>` +
	`<w:p>` + wordRun("Page ") + `<w:r><w:fldChar w:fldCharType="begin"/></w:r><w:r><w:instrText>PAGE</w:instrText></w:r><w:r><w:fldChar w:fldCharType="separate"/></w:r>` + wordRun("seven") + `<w:r><w:fldChar w:fldCharType="end"/></w:r>` + wordRun(" of it") + `</w:p>` +
	`<w:p>` + wordRun("See ") + `<w:r><w:fldChar w:fldCharType="begin"/><w:instrText>HYPERLINK "http://x.org"</w:instrText><w:fldChar w:fldCharType="separate"/></w:r>` + wordRun("this") + `<w:r><w:fldChar w:fldCharType="end"/></w:r>` + wordRun(" now") + `</w:p>` +
	`<w:p><w:r><w:fldChar w:fldCharType="begin"/></w:r><w:r><w:instrText>TOC</w:instrText></w:r><w:r><w:fldChar w:fldCharType="separate"/></w:r>` + wordRun("Contents one") + `</w:p><w:p>` + wordRun("Contents two") + `<w:r><w:fldChar w:fldCharType="end"/></w:r></w:p>` +
	`<w:p>` + wordRun("Before the box ") + `<w:r><w:pict><v:textbox><w:txbxContent><w:p>` + wordRun("In the box") + `</w:p></w:txbxContent></v:textbox></w:pict></w:r>` + wordRun(" behind it") + `</w:p>` +
	`<w:p><w:ins w:id="5">` + wordRun("An added one") + `</w:ins><w:del w:id="6"><w:r><w:delText>gone</w:delText></w:r></w:del>` + wordRun(" stays") + `</w:p>` +
	`<w:p><w:sdt><w:sdtPr><w:id w:val="1"/></w:sdtPr><w:sdtContent>` + wordRun("A field to fill in") + `</w:sdtContent></w:sdt></w:p>` +
	`<a:p><a:r><a:t>no text of Word</a:t></a:r></a:p><w:p/></w:body></w:document>`

// docx packs files, by their names in order.
func docx(t testing.TB, files ...string) []byte {
	t.Helper()
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	for i := 0; i+1 < len(files); i += 2 {
		f, err := w.Create(files[i])
		if err == nil {
			_, err = io.WriteString(f, files[i+1])
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func wordFile(t testing.TB) []byte {
	return docx(t, "[Content_Types].xml", wordTypes, "word/media/a.png", "\x89PNG"+strings.Repeat("x", 500), "word/document.xml", wordBody,
		"word/header1.xml", `<w:hdr`+wordSpace+`><w:p>`+wordRun("A header")+`</w:p></w:hdr>`, "word/styles.xml", `<w:styles`+wordSpace+`><w:style><w:p>`+wordRun("no text")+`</w:p></w:style></w:styles>`)
}

// held is what an archive holds: by name, what is packed as it is, and what that is.
func held(t testing.TB, content []byte) (packed, texts map[string]string, order []string) {
	t.Helper()
	r, err := zip.NewReader(bytes.NewReader(content), int64(len(content)))
	if err != nil {
		t.Fatal(err)
	}
	packed, texts = map[string]string{}, map[string]string{}
	for _, f := range r.File {
		raw, err := f.OpenRaw()
		if err != nil {
			t.Fatal(err)
		}
		all, err := io.ReadAll(raw)
		if err != nil {
			t.Fatal(err)
		}
		in, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(in) // which holds it against its sum
		if err != nil {
			t.Fatal(f.Name, err)
		}
		packed[f.Name], texts[f.Name], order = string(all), string(text), append(order, f.Name)
	}
	return packed, texts, order
}

// outline is what encoding/xml finds in a part but for runs and texts, and all its text.
func outline(t testing.TB, part string) (elements []string, said string) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(part))
	in := ""
	for {
		token, err := d.Token()
		if err == io.EOF {
			return elements, said
		}
		if err != nil {
			t.Fatalf("%v in %s", err, part)
		}
		switch n := token.(type) {
		case xml.StartElement:
			if in = n.Name.Local; !slices.Contains([]string{"r", "t", "rPr", "b", "lang", "proofErr"}, in) {
				elements = append(elements, in)
			}
		case xml.EndElement:
			in = ""
		case xml.CharData:
			if in == "t" {
				said += string(n)
			}
		}
	}
}

// TestADocxKeepsEverythingButItsTexts: what has none is copied as it was packed, and of the
// rest another parser finds the same in the same places.
func TestADocxKeepsEverythingButItsTexts(t *testing.T) {
	content := wordFile(t)
	doc, err := Read("docx", content, Options{Source: "en", Target: "es"})
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	for _, s := range doc.Segments {
		texts = append(texts, s.Text)
	}
	want := []string{
		"The title", "Press the <w1>red</w1> button &amp; wait <w2>as told here</w2>.", "A cell", "Name:<w1/>value<w2/>next", "Page <w1/> of it", "See <w1>this</w1> now",
		"Contents one", "Contents two", "Before the box", "behind it", "In the box", "<w1>An added one</w1><w2/> stays", "A field to fill in", "A header",
	}
	if !slices.Equal(texts, want) {
		t.Errorf("found\n%s\nwant\n%s", strings.Join(texts, "\n"), strings.Join(want, "\n"))
	}
	for _, answer := range []func(i int) (string, bool){func(int) (string, bool) { return "", false }, func(i int) (string, bool) { return texts[i], true }} {
		if out, err := doc.Write(answer); err != nil || !bytes.Equal(out, content) {
			t.Errorf("an answer that is the text changes the file: %v", err)
		}
	}
	out, err := doc.Write(func(i int) (string, bool) { return pseudo(doc.Segments[i]), true })
	if err != nil {
		t.Fatal(err)
	}
	was, wasText, order := held(t, content)
	is, isText, now := held(t, out)
	if !slices.Equal(order, now) {
		t.Errorf("it holds %q, and held %q", now, order)
	}
	for _, name := range order {
		if name != "word/document.xml" && name != "word/header1.xml" {
			if was[name] != is[name] {
				t.Errorf("%s has changed", name)
			}
			continue
		}
		a, said := outline(t, wasText[name])
		b, says := outline(t, isText[name])
		if !slices.Equal(a, b) {
			t.Errorf("%s: its structure was\n%q and is\n%q", name, a, b)
		}
		if !strings.EqualFold(said, says) || said == says {
			t.Errorf("%s: it says\n%s\nand said\n%s", name, says, said)
		}
	}
	for _, part := range []string{
		`<w:r>` + bold + `<w:t xml:space="preserve">RED</w:t></w:r>`, `<w:hyperlink r:id="rId4">` + wordRun("AS TOLD HERE") + `</w:hyperlink>` + wordRun(".") + `<w:r><w:footnoteReference w:id="2"/></w:r></w:p>`,
		wordRun(" button &amp; wait "), wordRun("THE TITLE") + `<w:bookmarkEnd w:id="0"/>`, "<w:t xml:space=\"preserve\">seven</w:t>", "<a:t>no text of Word</a:t>", "<w:delText>gone</w:delText>",
	} {
		if !strings.Contains(isText["word/document.xml"], part) {
			t.Errorf("the document lacks\n%s\nin\n%s", part, isText["word/document.xml"])
		}
	}
	if again, err := Read("docx", out, Options{}); err != nil || len(again.Segments) != len(doc.Segments) {
		t.Errorf("it cannot be read again: %v", err)
	}
}

// TestFormatsGoWithTheirWords when a translation has them in another order, and nothing is
// written that would break the file.
func TestFormatsGoWithTheirWords(t *testing.T) {
	body := func(p string) []byte {
		return docx(t, "[Content_Types].xml", wordTypes, "word/header1.xml", `<w:hdr`+wordSpace+`/>`, "word/document.xml", `<w:document`+wordSpace+`><w:body><w:p>`+p+`</w:p></w:body></w:document>`)
	}
	link := `<w:hyperlink r:id="a">` + wordRun("one") + `</w:hyperlink>` + wordRun(" and ") + `<w:hyperlink r:id="b">` + wordRun("two") + `</w:hyperlink>`
	for _, c := range []struct{ name, p, answer, want string }{
		{"moved", wordRun("The ") + `<w:r>` + bold + `<w:t>red</w:t></w:r>` + wordRun(" car"), "El coche <w1>rojo</w1>", wordRun("El coche ") + `<w:r>` + bold + `<w:t xml:space="preserve">rojo</w:t></w:r>`},
		{"a mark is missing", wordRun("The ") + `<w:r>` + bold + `<w:t>red</w:t></w:r>` + wordRun(" car"), "El coche rojo", ""},
		{"a link in a link", link, "<w1>uno y <w2>dos</w2></w1>", ""},
		{"links that have changed places", link, "<w2>dos</w2> y <w1>uno</w1>", `<w:hyperlink r:id="b">` + wordRun("dos") + `</w:hyperlink>` + wordRun(" y ") + `<w:hyperlink r:id="a">` + wordRun("uno") + `</w:hyperlink>`},
		{"signs", wordRun("One"), "A < B & \"C\"\n<w:p/>", wordRun(`A &lt; B &amp; "C" &lt;w:p/&gt;`)},
		{"what no XML holds", wordRun("One"), "U\x01n\xffo\ufffe", wordRun("Uno")},
		{"blanks round it", wordRun("  One "), "Uno", wordRun("  Uno ")},
	} {
		content := body(c.p)
		doc, err := Read("docx", content, Options{})
		if err != nil || len(doc.Segments) != 1 {
			t.Fatalf("%s: %+v, %v", c.name, doc, err)
		}
		out, err := doc.Write(func(int) (string, bool) { return c.answer, true })
		if err != nil {
			t.Fatal(err)
		}
		_, texts, _ := held(t, out)
		want := c.want
		if want == "" {
			want = c.p
		}
		_, got, _ := strings.Cut(texts["word/document.xml"], "<w:p>")
		got, _, _ = strings.Cut(got, "</w:p></w:body>")
		if got != want {
			t.Errorf("%s: it is\n%s\nwant\n%s", c.name, got, want)
		}
	}
}

// TestWhatIsNoDocxIsRefused and nothing in it can take more memory than a file may.
func TestWhatIsNoDocxIsRefused(t *testing.T) {
	with := func(document string) []byte {
		return docx(t, "[Content_Types].xml", wordTypes, "word/header1.xml", `<w:hdr`+wordSpace+`/>`, "word/document.xml", document)
	}
	lying := with("<w:document" + wordSpace + ">" + strings.Repeat(" ", 1000) + "</w:document>")
	for name, c := range map[string]struct {
		content []byte
		want    string
	}{
		"a text":              {[]byte("Hello"), "this is no docx: zip: not a valid zip file"},
		"nothing":             {nil, "this is no docx"},
		"an old one":          {[]byte("\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"), "it is encrypted, or an old .doc"},
		"another archive":     {docx(t, "a.txt", "x"), `"[Content_Types].xml" is not in the archive`},
		"a spreadsheet":       {docx(t, "[Content_Types].xml", strings.ReplaceAll(wordTypes, "wordprocessingml", "spreadsheetml")), "holds no document of Word"},
		"no document":         {docx(t, "[Content_Types].xml", wordTypes), `"word/document.xml" is not in the archive`},
		"a name twice":        {docx(t, "[Content_Types].xml", wordTypes, "a", "", "a", ""), `holds "a" twice`},
		"a bomb":              {bomb(t, MaxSize+1), "more than 64 MiB"},
		"a bomb that lies":    {bomb(t, 1000), "this is no docx"},
		"a bomb of entities":  {with(`<!DOCTYPE a [<!ENTITY a "x"><!ENTITY b "&a;&a;">]><w:document` + wordSpace + `>&b;</w:document>`), "word/document.xml: the entity b is made of other entities"},
		"an external entity":  {with(`<!DOCTYPE a [<!ENTITY a SYSTEM "file:///etc/passwd">]><w:document` + wordSpace + `>&a;</w:document>`), "never loaded"},
		"depth":               {with(strings.Repeat("<a>", 1000)), "nested more than 500 deep"},
		"another encoding":    {with("\xff\xfe<\x00"), "is not UTF-8"},
		"no XML":              {with("Hello"), "word/document.xml: this is no XML"},
		"another prefix":      {with(`<x:document xmlns:x="http://schemas.openxmlformats.org/wordprocessingml/2006/main"/>`), "the prefix w: stands for"},
		"cut off":             {wordFile(t)[:1500], "this is no docx"},
		"what is packed lies": {bytes.ReplaceAll(lying, []byte("PK\x07\x08"), []byte("PK\x07\x09")), "this is no docx"},
	} {
		doc, err := Read("docx", c.content, Options{})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, %v, want %s", name, doc, err, c.want)
		}
	}
}

// bomb packs more than MaxSize as a document of which the archive says that it has so many
// bytes.
func bomb(t *testing.T, says uint64) []byte {
	t.Helper()
	var packed, out bytes.Buffer
	w, err := flate.NewWriter(&packed, flate.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(w, strings.Repeat(" ", 1<<20))
	w.Flush() // whole bytes, which refer to nothing before them
	piece := bytes.Repeat(packed.Bytes(), MaxSize>>20+1)
	archive := zip.NewWriter(&out)
	types, err := archive.Create("[Content_Types].xml")
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(types, wordTypes)
	document, err := archive.CreateRaw(&zip.FileHeader{Name: "word/document.xml", Method: zip.Deflate, UncompressedSize64: says, CompressedSize64: uint64(len(piece))})
	if err != nil {
		t.Fatal(err)
	}
	document.Write(piece)
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// FuzzDocx reads whatever the document in a docx may hold: what it writes can be read again.
func FuzzDocx(f *testing.F) {
	f.Add(wordBody, "Un <w1>texto</w1> <w2/>")
	f.Add(`<w:document`+wordSpace+`><w:p><w:r><w:t>a b</w:t></w:r></w:p></w:document>`, "x & <y>")
	f.Fuzz(func(t *testing.T, body, answer string) {
		content := docx(t, "[Content_Types].xml", wordTypes, "word/header1.xml", `<w:hdr`+wordSpace+`/>`, "word/document.xml", body)
		doc, err := Read("docx", content, Options{})
		if err != nil {
			return
		}
		for _, answers := range []func(s Segment) string{func(Segment) string { return answer }, func(s Segment) string { return strings.ReplaceAll(s.Text, "a", "ä") }} {
			out, err := doc.Write(func(i int) (string, bool) { return answers(doc.Segments[i]), true })
			if err != nil {
				t.Fatal(err)
			}
			again, err := Read("docx", out, Options{})
			if err != nil {
				_, texts, _ := held(t, out)
				t.Fatalf("%q was written as %q, which is refused: %v", body, texts["word/document.xml"], err)
			}
			if len(again.Segments) > len(doc.Segments) {
				t.Fatalf("%q has %d texts, and then %d", body, len(doc.Segments), len(again.Segments))
			}
		}
	})
}

// What a docx takes to be read is a multiple of its size, however its runs are cut and
// whatever their formats weigh.
func TestADocxTakesNoMoreThanItsSize(t *testing.T) {
	heavy := `<w:rPr>` + strings.Repeat(`<w:b/>`, 20_000) + `</w:rPr>`
	for name, run := range map[string]string{
		"one run of many texts":    strings.Repeat(`<w:t>a </w:t>`, 20_000),
		"many pieces, one format":  heavy + strings.Repeat(`<w:t>a </w:t><w:tab/>`, 20_000),
		"a field with a long code": `<w:fldChar w:fldCharType="begin"/>` + strings.Repeat(`<w:instrText>code</w:instrText>`, 20_000),
	} {
		body := `<w:document` + wordSpace + `><w:body><w:p>` + wordRun("Good morning") + `<w:r>` + run + `</w:r></w:p></w:body></w:document>`
		file := docx(t, "[Content_Types].xml", wordTypes, "word/header1.xml", `<w:hdr`+wordSpace+`/>`, "word/document.xml", body)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := Read("docx", file, Options{})
		runtime.ReadMemStats(&after)
		if took := after.TotalAlloc - before.TotalAlloc; err != nil || took > MaxSize+100*uint64(len(body)) {
			t.Errorf("%s: %d MiB for a document of %d KiB: %v", name, took>>20, len(body)>>10, err)
		}
	}
}
