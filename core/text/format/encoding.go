package format

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	xencoding "golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/htmlindex"
	"golang.org/x/text/encoding/unicode"

	"github.com/dragoman-mt/dragoman/core/lazy"
)

// An encoding is how a file holds its text. The zero value is UTF-8.
type encoding struct {
	mark    string // the byte order mark
	name    string
	code    xencoding.Encoding // nil for UTF-8
	foreign func(rune) string  // how the format writes a character that code does not have
}

// encode is the inverse of decode.
func (e encoding) encode(text string) ([]byte, error) {
	if e.code == nil {
		return []byte(e.mark + text), nil
	}
	enc := e.code.NewEncoder()
	out, err := enc.Bytes([]byte(text))
	if err != nil {
		// One of the translation's characters is not in it: find it, or write it otherwise.
		var b bytes.Buffer
		for _, c := range text {
			one, err := e.code.NewEncoder().String(string(c))
			switch {
			case err == nil:
				b.WriteString(one)
			case e.foreign != nil:
				b.WriteString(e.foreign(c))
			default:
				return nil, fmt.Errorf("the file is in %s, which has no %q: convert it to UTF-8", e.name, c)
			}
		}
		out = b.Bytes()
	}
	return append([]byte(e.mark), out...), nil
}

// decode finds the encoding of a file: its byte order mark, else UTF-8, else the one that it
// declares. What cannot be encoded again as it was is refused by name.
func decode(content []byte, format string) (string, encoding, error) {
	for _, m := range []struct {
		mark, name string
		code       xencoding.Encoding
	}{
		{"\xef\xbb\xbf", "UTF-8", nil},
		{"\xff\xfe\x00\x00", "UTF-32", charmap.Windows1252}, {"\x00\x00\xfe\xff", "UTF-32", charmap.Windows1252},
		{"\xff\xfe", "UTF-16LE", unicode.UTF16(unicode.LittleEndian, unicode.IgnoreBOM)},
		{"\xfe\xff", "UTF-16BE", unicode.UTF16(unicode.BigEndian, unicode.IgnoreBOM)},
	} {
		if !bytes.HasPrefix(content, []byte(m.mark)) {
			continue
		}
		if m.name == "UTF-32" {
			return "", encoding{}, &Error{Line: 1, Column: 1, Detail: "the file is in UTF-32: convert it to UTF-8"}
		}
		e := encoding{mark: m.mark, name: m.name, code: m.code}
		return e.decode(content[len(m.mark):])
	}
	if utf8.Valid(content) {
		return string(content), encoding{name: "UTF-8"}, nil
	}
	name := declared(content, format)
	if name == "" {
		return "", encoding{}, notUTF8(content, "the file is not UTF-8, and does not say what else it is: convert it to UTF-8")
	}
	code, err := htmlindex.Get(name)
	if err != nil || strings.EqualFold(name, "utf-8") {
		return "", encoding{}, notUTF8(content, fmt.Sprintf("the file says that it is in %q, and is not, or that is not known: convert it to UTF-8", name))
	}
	if strings.EqualFold(name, "iso-8859-1") {
		code = charmap.ISO8859_1 // and not what browsers take it for, which does not hold every byte
	}
	e := encoding{name: name, code: code}
	switch format {
	case "html", "xml", "xliff":
		e.foreign = func(c rune) string { return fmt.Sprintf("&#%d;", c) }
	case "properties":
		e.foreign = escapeUnicode
	}
	return e.decode(content)
}

func (e encoding) decode(content []byte) (string, encoding, error) {
	if e.code == nil {
		if !utf8.Valid(content) {
			return "", e, notUTF8(content, "the file is not the UTF-8 that its first bytes promise: convert it")
		}
		return string(content), e, nil
	}
	text, err := e.code.NewDecoder().Bytes(content)
	if err == nil && !strings.ContainsRune(string(text), utf8.RuneError) {
		if back, err := e.code.NewEncoder().Bytes(text); err == nil && bytes.Equal(back, content) {
			return string(text), e, nil
		}
	}
	return "", e, &Error{Line: 1, Column: 1, Detail: fmt.Sprintf("the file is not the %s that it says it is: convert it to UTF-8", e.name)}
}

// notUTF8 is a complaint at the first byte that is not UTF-8.
func notUTF8(content []byte, detail string) error {
	at := 0
	for at < len(content) {
		c, n := utf8.DecodeRune(content[at:])
		if c == utf8.RuneError && n <= 1 {
			break
		}
		at += n
	}
	before := content[:at]
	begin := bytes.LastIndexByte(before, '\n') + 1
	return &Error{Line: bytes.Count(before, []byte("\n")) + 1, Column: utf8.RuneCount(before[begin:]) + 1, Detail: detail}
}

var (
	htmlCharset = lazy.Regexp(`(?i)<meta[^>]{0,200}charset\s*=\s*["']?\s*([a-z0-9_:-]{2,40})`)
	xmlCharset  = lazy.Regexp(`(?i)^\s*<\?xml[^>]{0,200}encoding\s*=\s*["']([a-z0-9_.:-]{2,40})["']`)
	poCharset   = lazy.Regexp(`(?i)"Content-Type:[^"]{0,200}charset=([a-z0-9_.:-]{2,40})`)
)

// declared returns what a file that is not UTF-8 says it is.
func declared(content []byte, format string) string {
	head := content[:min(len(content), 4096)]
	find := func(re *regexp.Regexp) string {
		if m := re.FindSubmatch(head); m != nil {
			return string(m[1])
		}
		return ""
	}
	switch format {
	case "html":
		if name := find(htmlCharset()); name != "" {
			return name
		}
		return find(xmlCharset())
	case "xml", "xliff":
		return find(xmlCharset())
	case "po":
		return find(poCharset())
	case "properties":
		return "iso-8859-1" // java.util.Properties, before Java 9 the only one
	}
	return ""
}

// escapeUnicode is how Java writes a character by its number.
func escapeUnicode(c rune) string {
	var b strings.Builder
	for _, u := range utf16.Encode([]rune{c}) {
		fmt.Fprintf(&b, `\u%04X`, u)
	}
	return b.String()
}
