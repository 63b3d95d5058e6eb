package format

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// samples are files as people have them, one or more for each format: in testdata, named by
// their ending.
func samples(t testing.TB) map[string]string {
	t.Helper()
	all := map[string]string{}
	names, err := filepath.Glob("testdata/files/*")
	if err != nil || len(names) < len(kinds()) {
		t.Fatalf("%d samples: %v", len(names), err)
	}
	for _, name := range names {
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		all[name] = string(content)
	}
	return all
}

// shapes are the ways in which one and the same text is written.
func shapes(content string) map[string]string {
	return map[string]string{
		"as it is":               content,
		"Windows line ends":      strings.ReplaceAll(content, "\n", "\r\n"),
		"a byte order mark":      "\ufeff" + content,
		"no last line end":       strings.TrimRight(content, "\n"),
		"all of them":            "\ufeff" + strings.TrimRight(strings.ReplaceAll(content, "\n", "\r\n"), "\r\n"),
		"blank lines at its end": content + "\n\n",
	}
}

func read(t testing.TB, name, content string, all bool) *Document {
	t.Helper()
	doc, err := Read(Of(name), []byte(content), Options{Source: "en", Target: "es", All: all})
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return doc
}

// laidOut formats write the lines of a translation, or its plural forms, anew.
var laidOut = []string{"json", "srt", "vtt", "ass", "md", "properties"}

// bilingual formats hold a text and its translation: an answer that is the text is written.
func bilingual(name string) bool {
	return Of(name) == "po" || Of(name) == "xliff" || filepath.Base(name) == "terms.csv"
}

// subtitled formats tell by the first letter of a line whether a sentence goes on.
func subtitled(name string) bool { return slices.Contains([]string{"srt", "vtt", "ass"}, Of(name)) }

// TestAnAnswerThatIsTheTextChangesNoByte of a file, however it is written.
func TestAnAnswerThatIsTheTextChangesNoByte(t *testing.T) {
	for name, content := range samples(t) {
		for shape, content := range shapes(content) {
			doc := read(t, name, content, false)
			if len(doc.Segments) == 0 {
				t.Errorf("%s, %s: no text was found", name, shape)
			}
			if out, err := doc.Write(func(int) (string, bool) { return "", false }); err != nil || string(out) != content {
				t.Errorf("%s, %s: without an answer it became\n%q\n%v", name, shape, out, err)
			}
			if bilingual(name) {
				continue
			}
			if out, err := doc.Write(func(i int) (string, bool) { return doc.Segments[i].Text, true }); err != nil || string(out) != content {
				t.Errorf("%s, %s: it became\n%q\n%v", name, shape, out, err)
			}
		}
	}
}

// pseudo is a translation that can be told from its text: its words in capitals, and marks
// as they were.
func pseudo(s Segment) string {
	var b strings.Builder
	for raw, mark := range s.Marks.parts(s.Text) {
		if !mark && s.Marks != NoMarks && strings.ContainsRune(raw, '&') {
			mark = true
		}
		if !mark {
			raw = strings.ToUpper(raw)
		}
		b.WriteString(raw)
	}
	return b.String()
}

// TestAFileThatWasWrittenHoldsTheTranslations and nothing else of it has changed: it is read
// again, and has the same texts in the same places.
func TestAFileThatWasWrittenHoldsTheTranslations(t *testing.T) {
	for name, content := range samples(t) {
		for shape, content := range shapes(content) {
			doc := read(t, name, content, false)
			out, err := doc.Write(func(i int) (string, bool) { return pseudo(doc.Segments[i]), true })
			if err != nil {
				t.Errorf("%s, %s: %v", name, shape, err)
				continue
			}
			if !strings.EqualFold(strings.Join(strings.Fields(string(out)), " "), strings.Join(strings.Fields(content), " ")) && !bilingual(name) && !slices.Contains(laidOut, Of(name)) {
				t.Errorf("%s, %s: more than texts has changed:\n%s", name, shape, out)
			}
			if strings.Contains(shape, "Windows") && strings.Count(string(out), "\n") != strings.Count(string(out), "\r\n") {
				t.Errorf("%s, %s: a line end is not as the others: %q", name, shape, out)
			}
			again, err := Read(Of(name), out, Options{Source: "en", Target: "es", All: true})
			if err != nil {
				t.Errorf("%s, %s: what was written cannot be read: %v\n%s", name, shape, err, out)
				continue
			}
			if bilingual(name) {
				kept, err := Read(Of(name), out, Options{Source: "en", Target: "es"})
				if err != nil || len(kept.Segments) != 0 || kept.Kept == 0 {
					t.Errorf("%s, %s: %d texts are left, %d are kept, %v\n%s", name, shape, len(kept.Segments), kept.Kept, err, out)
				}
				continue
			}
			hold := func(doc *Document) (all string) {
				for _, s := range doc.Segments {
					if subtitled(name) {
						s.ID = ""
					}
					all += fmt.Sprintln(s.ID, strings.ToUpper(s.Text), s.Plural)
				}
				return all
			}
			want, got := hold(doc), hold(again)
			if strings.Join(strings.Fields(want), " ") != strings.Join(strings.Fields(got), " ") {
				t.Errorf("%s, %s: it holds\n%s\nwant\n%s", name, shape, got, want)
			}
		}
	}
}

// TestAFileThatIsNotWhatItIsCalledIsRefused with line and column.
func TestAFileThatIsNotWhatItIsCalledIsRefused(t *testing.T) {
	deep := func(open string, n int) string { return strings.Repeat(open, n) }
	for _, c := range []struct{ name, content, want string }{
		{"a.srt", "Hello\n", "1:1: this is no SRT file"},
		{"a.srt", "1\n00:00:05,000 --> 00:00:04,000\nHi\n", "2:1: the cue ends before it begins"},
		{"a.srt", "1\n00:00:05 -> 00:00:06\nHi\n", "no SRT file"},
		{"a.srt", "1\n00:00:01,000 --> 00:00:02,000\nHi\n\n2\n0:0:3 --> 4\nx\n", "6:1: the times of a cue"},
		{"a.vtt", "1\n00:00:01.000 --> 00:00:02.000\nHi\n", "1:1: this is no WebVTT"},
		{"a.vtt", "WEBVTT\n\n00:03.000 --> 00:02.000\nHi\n", "3:1: the cue ends"},
		{"a.vtt", "WEBVTT\n\n00:03,000 --> 00:04,000\nHi\n", "3:1: the times of a cue"},
		{"a.ass", "Hello\n", "1:1: this is no ASS"},
		{"a.ass", "[Events]\nDialogue: 0,x\n", "2:1: a Dialogue before"},
		{"a.ass", "[Events]\nFormat: Start, End, Text\nDialogue: 0:00:02.00,0:00:01.00,x\n", "3:1: the line ends before"},
		{"a.json", `{"a": "x", "a": "y"}`, `1:12: the key "a" is there twice`},
		{"a.json", "{\n  \"a\": x\n}", "2:8: this is no JSON"},
		{"a.json", `{"a": "x"} trailing`, "this is no JSON"},
		{"a.json", `{"a": "x"} {"b": "y"}`, "1:12: something follows"},
		{"a.json", `{"a": "x"`, "1:10: "},
		{"a.json", "", "the file is empty"},
		{"a.json", "<html>", "1:1: this is no JSON"},
		{"a.json", deep(`[`, 1_000_000), "nested more than 500 deep"},
		{"a.json", deep(`{"a":`, 1_000_000), "nested more than 500 deep"},
		{"a.yaml", "a: b\na: c\n", "the key \"a\" is there twice"},
		{"a.yaml", "a: [b\nc: d\n", "this is no YAML"},
		{"a.yaml", deep(`[`, 1_000_000), "this is no YAML"},
		{"a.yaml", "a: &x [b]\nb: " + deep(`[`, 600) + "x" + deep(`]`, 600), "nested more than 500 deep"},
		{"a.po", "Hello\n", "1:1: want msgctxt, msgid"},
		{"a.po", "msgid \"a\n", "1:7: the string has no end"},
		{"a.po", "msgid \"a\"\nmsgid \"b\"\nmsgstr \"\"\n", "1:1: the entry has no msgstr"},
		{"a.po", "msgid \"\"\nmsgstr \"\"\n\"Plural-Forms: nplurals=x; plural=n;\\n\"\n", "2:1: the header's Plural-Forms"},
		{"a.po", "msgid \"\"\nmsgstr \"broken header\"\n", "2:1: the header has no line"},
		{"a.po", "msgid \"a\" b\nmsgstr \"\"\n", "1:10: something stands behind"},
		{"a.po", "msgid \"\\q\"\nmsgstr \"\"\n", "1:9: \\q is no escape"},
		{"a.xml", "<a><b></a>", "1:7: this is no well-formed XML: </a>, and want </b>"},
		{"a.xml", "<a>", "<a> of line 1 has no end"},
		{"a.xml", "hello", "1:1: this is no XML"},
		{"a.xml", "<a/><b/>", "1:5: a second root"},
		{"a.xml", "<a>&unknown;</a>", "1:"},
		{"a.xml", "<!DOCTYPE a [<!ENTITY lol \"lol\"><!ENTITY lol2 \"&lol;&lol;\">]><a>&lol2;</a>", "1:1: the entity lol2 is made of other entities"},
		{"a.xml", "<!DOCTYPE a [\n<!ENTITY x SYSTEM \"file:///etc/passwd\">]>\n<a>&x;</a>", "1:1: the document declares the external entity x"},
		{"a.xml", "<!DOCTYPE a [<!ENTITY % x \"y\">]><a/>", "1:1: the document declares the parameter entity"},
		{"a.xml", deep("<a>", 1_000_000), "nested more than 500 deep"},
		{"a.xlf", "<a/>", "1:1: this is no XLIFF: its root is <a>"},
		{"a.xlf", `<xliff version="9"/>`, "1:1: XLIFF of version \"9\""},
		{"a.xlf", `<xliff version="1.2"><file target-language="de"><body/></file></xliff>`, "the file is for translations into de"},
		{"a.xlf", `<xliff version="1.2"><file><body><trans-unit id="1"/></body></file></xliff>`, "1:34: <trans-unit> has no <source>"},
		{"a.html", "just words\n", "1:1: this is no HTML"},
		{"a.html", deep("<div>", 200_000), "nested more than 100000 deep"},
		{"a.properties", "a=\\u12\n", "1:3: \\u is followed"},
		{"a.strings", "\"a\" = \"b\"", "1:10: want ';'"},
		{"a.strings", "\"a\" = \"b\";\n\"a\" = \"c\";", "2:1: the key \"a\" is there twice"},
		{"a.strings", "\"a\" = \"b", "1:7: the string has no end"},
		{"a.strings", "/* x", "1:1: the comment has no end"},
		{"a.csv", "a,b\n1,2\n", "1:1: the first row names no column"},
		{"a.csv", "source,target\n\"x,y\n", "2:1: the field has no closing quote"},
		{"a.csv", "source,target\n\"x\"y,z\n", "2:4: something stands behind"},
		{"a.csv", "source,target\nx\n", "2:1: the row has 1 fields"},
		{"a.md", deep("> ", 100_000) + "x", "nested more than"},
		{"a.txt", "a\x00b", "1:2: a NUL"},
		{"a.txt", "ab\nc\xffd", "2:2: the file is not UTF-8"},
		{"a.txt", "\xef\xbb\xbfa\xff", "1:2: the file is not the UTF-8"},
		{"a.srt", "\xff\xfe\x00\x00a\x00\x00\x00", "1:1: the file is in UTF-32"},
		{"a.xml", "<?xml version=\"1.0\" encoding=\"martian\"?><a>\xff</a>", "martian"},
	} {
		_, err := Read(Of(c.name), []byte(c.content), Options{Source: "en", Target: "es"})
		var e *Error
		if !errors.As(err, &e) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %.60q: %v, want %s", c.name, c.content, err, c.want)
		}
	}
	if _, err := Read("txt", make([]byte, MaxSize+1), Options{}); err == nil || !strings.Contains(err.Error(), "at most 64 are taken") {
		t.Errorf("a file of %d bytes: %v", MaxSize+1, err)
	}
	if _, err := Read("exe", nil, Options{}); err == nil || !strings.Contains(err.Error(), `no format "exe"`) {
		t.Errorf("%v", err)
	}
	if name := Of("photo.png"); name != "" {
		t.Errorf("photo.png is %s", name)
	}
}
