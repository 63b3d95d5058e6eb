package format

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// readProperties reads a file of java.util.Properties. No library that keeps bytes is known
// for it, so its few rules stand here (java.util.Properties.load).
func readProperties(r *reader) error {
	lines := r.lines()
	ascii := r.doc.code.code != nil || strings.IndexFunc(r.text, func(c rune) bool { return c >= utf8.RuneSelf }) < 0
	for i := 0; i < len(lines); i++ {
		l := r.trimmed(lines[i])
		l.end = lines[i].end // blanks behind a value belong to it
		text := r.of(l)
		if strings.TrimSpace(text) == "" || text[0] == '#' || text[0] == '!' {
			continue
		}
		// A line that ends with an odd number of backslashes goes on.
		end := l.end
		for continues(r.text[l.start:end]) && i+1 < len(lines) {
			i++
			end = lines[i].end
		}
		at := l.start
		for at < end && !strings.ContainsRune("=: \t\f", rune(r.text[at])) {
			if r.text[at] == '\\' {
				at++
			}
			at++
		}
		at = min(at, end)
		key := r.text[l.start:at]
		for at < end && strings.ContainsRune(" \t\f", rune(r.text[at])) {
			at++
		}
		if at < end && (r.text[at] == '=' || r.text[at] == ':') {
			at++
			for at < end && strings.ContainsRune(" \t\f", rune(r.text[at])) {
				at++
			}
		}
		value, where, err := unescapeProperty(r.text[at:end])
		if err != "" {
			return r.fail(at+where, "%s", err)
		}
		if !strings.ContainsFunc(value, unicode.IsLetter) || jsonCode().MatchString(value) {
			continue
		}
		name, _, _ := unescapeProperty(key)
		r.add(at, Segment{ID: name, Text: value}, replace(at, end, func(answer string) string { return escapeProperty(answer, ascii) }))
	}
	return nil
}

// continues says whether a logical line goes on behind text.
func continues(text string) bool {
	n := len(text) - len(strings.TrimRight(text, `\`))
	return n%2 == 1
}

func unescapeProperty(raw string) (text string, at int, fault string) {
	if !strings.Contains(raw, `\`) {
		return raw, 0, ""
	}
	var b strings.Builder
	high := rune(0)
	for i := 0; i < len(raw); i++ {
		if raw[i] != '\\' || i+1 == len(raw) {
			if raw[i] != '\\' {
				b.WriteByte(raw[i])
			}
			continue
		}
		i++
		switch c := raw[i]; c {
		case 'n':
			b.WriteByte('\n')
		case 't':
			b.WriteByte('\t')
		case 'r':
			b.WriteByte('\r')
		case 'f':
			b.WriteByte('\f')
		case '\r', '\n':
			for i+1 < len(raw) && strings.IndexByte("\n \t\f", raw[i+1]) >= 0 {
				i++
			}
		case 'u':
			var v rune
			if n, err := fmt.Sscanf(raw[i+1:min(i+5, len(raw))], "%04x", &v); n != 1 || err != nil || len(raw) < i+5 {
				return "", i - 1, `\u is followed by fewer than four hexadecimal digits`
			}
			i += 4
			switch {
			case v >= 0xd800 && v < 0xdc00:
				high = v
				continue
			case v >= 0xdc00 && v < 0xe000 && high != 0:
				v = (high-0xd800)<<10 + v - 0xdc00 + 0x10000
			}
			high = 0
			b.WriteRune(v)
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), 0, ""
}

func escapeProperty(text string, ascii bool) string {
	var b strings.Builder
	for i, c := range text {
		switch {
		case c == '\\':
			b.WriteString(`\\`)
		case c == '\n':
			b.WriteString(`\n`)
		case c == '\r':
			b.WriteString(`\r`)
		case c == '\t':
			b.WriteString(`\t`)
		case c == '\f':
			b.WriteString(`\f`)
		case c == ' ' && i == 0:
			b.WriteString(`\ `)
		case c >= utf8.RuneSelf && ascii:
			b.WriteString(escapeUnicode(c))
		default:
			b.WriteRune(c)
		}
	}
	return b.String()
}

// readStrings reads a .strings file of Apple's: "key" = "value"; with comments of C. No
// library that keeps bytes is known for it.
func readStrings(r *reader) error {
	at, note := 0, ""
	seen := map[string]bool{}
	// quoted reads a string, or a word without quotes, which a key may be.
	quoted := func() (s span, text string, err error) {
		begin := at
		if at >= len(r.text) || r.text[at] != '"' {
			for at < len(r.text) && (r.text[at] == '_' || r.text[at] == '.' || r.text[at] == '-' || r.text[at] == '$' || r.text[at] == '/' ||
				r.text[at] >= '0' && r.text[at] <= '9' || r.text[at] >= 'A' && r.text[at] <= 'Z' || r.text[at] >= 'a' && r.text[at] <= 'z') {
				at++
			}
			if at == begin {
				return s, "", r.fail(at, "want a string in quotes")
			}
			return span{begin, at}, r.text[begin:at], nil
		}
		var b strings.Builder
		for at++; at < len(r.text); at++ {
			switch c := r.text[at]; c {
			case '"':
				at++
				return span{begin, at}, b.String(), nil
			case '\\':
				at++
				if at == len(r.text) {
					return s, "", r.fail(begin, "the string has no end")
				}
				switch e := r.text[at]; e {
				case 'n':
					b.WriteByte('\n')
				case 't':
					b.WriteByte('\t')
				case 'r':
					b.WriteByte('\r')
				case 'U', 'u':
					var v rune
					if n, err := fmt.Sscanf(r.text[at+1:min(at+5, len(r.text))], "%04x", &v); n != 1 || err != nil || at+5 > len(r.text) {
						return s, "", r.fail(at-1, `\U is followed by fewer than four hexadecimal digits`)
					}
					at += 4
					b.WriteRune(v)
				default:
					b.WriteByte(e)
				}
			default:
				b.WriteByte(c)
			}
		}
		return s, "", r.fail(begin, "the string has no end")
	}
	// blank goes to the next token, and notes the last comment before it.
	blank := func() error {
		for at < len(r.text) {
			rest := r.text[at:]
			switch {
			case strings.IndexByte(" \t\r\n\v\f", rest[0]) >= 0:
				at++
			case strings.HasPrefix(rest, "//"):
				n := strings.IndexByte(rest, '\n')
				if n < 0 {
					n = len(rest)
				}
				note, at = strings.TrimSpace(rest[2:n]), at+n
			case strings.HasPrefix(rest, "/*"):
				n := strings.Index(rest[2:], "*/")
				if n < 0 {
					return r.fail(at, "the comment has no end")
				}
				note, at = strings.TrimSpace(rest[2:2+n]), at+n+4
			default:
				return nil
			}
		}
		return nil
	}
	want := func(c byte) error {
		if err := blank(); err != nil {
			return err
		}
		if at >= len(r.text) || r.text[at] != c {
			return r.fail(at, "want %q", c)
		}
		at++
		return blank()
	}
	for {
		if err := blank(); err != nil {
			return err
		}
		if at >= len(r.text) {
			return nil
		}
		begin := at
		_, key, err := quoted()
		if err != nil {
			return err
		}
		if seen[key] {
			return r.fail(begin, "the key %.80q is there twice", key)
		}
		seen[key] = true
		own := note
		if err := want('='); err != nil {
			return err
		}
		value, text, err := quoted()
		if err != nil {
			return err
		}
		if err := want(';'); err != nil {
			return err
		}
		note = ""
		if strings.ContainsFunc(text, unicode.IsLetter) && r.text[value.start] == '"' {
			r.add(value.start, Segment{ID: key, Text: text, Note: own}, replace(value.start, value.end, func(answer string) string {
				return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\r", `\r`, "\t", `\t`).Replace(answer) + `"`
			}))
		}
	}
}
