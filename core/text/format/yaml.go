package format

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/dragoman-mt/dragoman/core/lazy"
)

// A scalar is a string of a YAML file, and the place of what is written for it.
type scalar struct {
	span
	node   *yaml.Node
	path   []string
	header int // of a block scalar: where its first line ends
	indent string
}

var yamlLine = lazy.Regexp(`line (\d+)`)

// readYAML reads YAML by go.yaml.in/yaml, which says where each scalar begins. Where one ends
// stands here, and what is written is read again and held against what it should be. Aliases
// are not followed.
func readYAML(r *reader) error {
	all, err := r.yamlStrings(r.text)
	if err != nil {
		return err
	}
	r.doc.check = func(written string) error {
		back, err := (&reader{text: written, doc: &Document{}}).yamlStrings(written)
		if err != nil || len(back) != len(all) {
			return fmt.Errorf("a translation cannot be written here as YAML: %v", err)
		}
		for i := range back {
			if !slices.Equal(back[i].path, all[i].path) {
				return fmt.Errorf("a translation cannot be written at %s as YAML", strings.Join(all[i].path, "."))
			}
		}
		return nil
	}
	for _, s := range all {
		value := strings.TrimRight(s.node.Value, "\n")
		if !strings.ContainsFunc(value, unicode.IsLetter) || jsonCode().MatchString(value) {
			continue
		}
		seg := Segment{ID: strings.Join(s.path, "."), Text: value}
		if htmlInText().MatchString(value) {
			seg.Marks = HTML
		}
		if n := len(s.path); n > 0 && isPlural(s.path[n-1]) {
			seg.Plural = s.path[n-1]
		}
		r.add(s.start, seg, func(answer string) []edit { return []edit{{s.start, s.end, r.writeYAML(s, answer)}} })
	}
	return nil
}

// yamlStrings finds the strings of text.
func (r *reader) yamlStrings(text string) (all []scalar, err error) {
	starts := yamlStarts(text)
	d := yaml.NewDecoder(strings.NewReader(text))
	seen := 0
	for {
		var doc yaml.Node
		err := d.Decode(&doc)
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			at := 0
			if m := yamlLine().FindStringSubmatch(err.Error()); m != nil {
				if n, _ := strconv.Atoi(m[1]); n >= 1 && n <= len(starts) {
					at = starts[n-1]
				}
			}
			return nil, r.fail(at, "this is no YAML: %s", strings.TrimPrefix(err.Error(), "yaml: "))
		}
		var walk func(n *yaml.Node, path []string, depth int, value bool) error
		walk = func(n *yaml.Node, path []string, depth int, value bool) error {
			if seen++; depth > maxDepth {
				return r.fail(0, "mappings and lists are nested more than %d deep, at line %d", maxDepth, n.Line)
			}
			switch n.Kind {
			case yaml.DocumentNode, yaml.SequenceNode:
				for _, c := range n.Content {
					if err := walk(c, path, depth+1, n.Kind == yaml.SequenceNode); err != nil {
						return err
					}
				}
			case yaml.MappingNode:
				keys := map[string]bool{}
				for i := 0; i+1 < len(n.Content); i += 2 {
					k := n.Content[i]
					if k.Kind == yaml.ScalarNode {
						if keys[k.Value] && k.Tag != "!!merge" {
							return r.fail(starts[min(k.Line, len(starts))-1], "the key %.80q is there twice", k.Value)
						}
						keys[k.Value] = true
					}
					if err := walk(n.Content[i+1], append(slices.Clone(path), k.Value), depth+1, true); err != nil {
						return err
					}
				}
			case yaml.ScalarNode:
				if !value || n.ShortTag() != "!!str" || n.Line < 1 || n.Line > len(starts) {
					return nil
				}
				if s, ok := place(text, starts, n); ok {
					s.path = path
					all = append(all, s)
				}
			}
			return nil
		}
		if err := walk(&doc, nil, 0, false); err != nil {
			return nil, err
		}
	}
}

// yamlStarts returns where the lines of text begin, as YAML counts them.
func yamlStarts(text string) []int {
	starts := []int{0}
	for i, c := range text {
		switch c {
		case '\r':
			if strings.HasPrefix(text[i+1:], "\n") {
				continue
			}
		case '\n', '\u0085', '\u2028', '\u2029':
		default:
			continue
		}
		starts = append(starts, i+utf8.RuneLen(c))
	}
	return starts
}

// place finds what is written for n; false for what is not understood, which stays.
func place(text string, starts []int, n *yaml.Node) (s scalar, ok bool) {
	at := starts[n.Line-1]
	for range n.Column - 1 {
		_, size := utf8.DecodeRuneInString(text[at:])
		at += size
	}
	for at < len(text) && (text[at] == '&' || text[at] == '!') { // an anchor, a tag
		end := strings.IndexAny(text[at:], " \t\r\n")
		if end < 0 {
			return s, false
		}
		at += end
		at += len(text[at:]) - len(strings.TrimLeft(text[at:], " \t"))
	}
	if at >= len(text) {
		return s, false
	}
	s = scalar{span: span{at, at}, node: n}
	switch {
	case n.Style&yaml.DoubleQuotedStyle != 0:
		if text[at] != '"' {
			return s, false
		}
		for i := at + 1; i < len(text); i++ {
			switch text[i] {
			case '\\':
				i++
			case '"':
				s.end = i + 1
				return s, true
			}
		}
	case n.Style&yaml.SingleQuotedStyle != 0:
		if text[at] != '\'' {
			return s, false
		}
		for i := at + 1; i < len(text); i++ {
			if text[i] == '\'' {
				if i+1 < len(text) && text[i+1] == '\'' {
					i++
					continue
				}
				s.end = i + 1
				return s, true
			}
		}
	case n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0:
		line := strings.IndexByte(text[at:], '\n')
		if line < 0 || text[at] != '|' && text[at] != '>' || strings.ContainsAny(strings.SplitN(text[at:at+line], "#", 2)[0], "123456789") {
			return s, false
		}
		s.header = at + line + 1
		end := s.header
		for i := s.header; i < len(text); {
			next := len(text)
			if n := strings.IndexByte(text[i:], '\n'); n >= 0 {
				next = i + n + 1
			}
			raw := strings.TrimRight(text[i:next], "\r\n")
			if strings.TrimSpace(raw) != "" {
				lead := raw[:len(raw)-len(strings.TrimLeft(raw, " "))]
				if s.indent == "" {
					s.indent = lead
				}
				if lead == "" || len(lead) < len(s.indent) {
					break
				}
				end = i + len(raw)
			}
			i = next
		}
		if s.indent == "" {
			return s, false
		}
		s.start, s.end = s.header, end
		return s, true
	default: // plain, on one line or on several
		value := n.Value
		for value != "" {
			c, size := utf8.DecodeRuneInString(value)
			if c == ' ' || c == '\n' {
				blank := len(text[at:]) - len(strings.TrimLeft(text[at:], " \t\r\n"))
				if blank == 0 {
					return s, false
				}
				at += blank
				value = strings.TrimLeft(value, " \n")
				continue
			}
			if !strings.HasPrefix(text[at:], value[:size]) {
				return s, false
			}
			at, value = at+size, value[size:]
		}
		s.end = at
		return s, s.end > s.start
	}
	return s, false
}

// writeYAML writes answer in the way of s, where that can be.
func (r *reader) writeYAML(s scalar, answer string) string {
	double := func() string { return quoteJSON(answer, false) }
	style := s.node.Style
	switch {
	case style&yaml.DoubleQuotedStyle != 0:
		return double()
	case style&yaml.SingleQuotedStyle != 0:
		if strings.ContainsAny(answer, "\r\n\t") || strings.ContainsFunc(answer, unicode.IsControl) {
			return double()
		}
		return "'" + strings.ReplaceAll(answer, "'", "''") + "'"
	case style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0:
		lines := strings.Split(strings.Trim(strings.ReplaceAll(answer, "\r\n", "\n"), "\n"), "\n")
		between := r.eol
		if style&yaml.FoldedStyle != 0 {
			between += r.eol
		}
		var b strings.Builder
		for i, l := range lines {
			if i == 0 || style&yaml.FoldedStyle != 0 {
				l = strings.TrimLeft(l, " \t") // what begins with a blank is read otherwise
			}
			if i > 0 {
				if style&yaml.FoldedStyle != 0 && l == "" {
					b.WriteString(r.eol)
					continue
				}
				b.WriteString(between)
			}
			if l != "" {
				b.WriteString(s.indent + l)
			}
		}
		return b.String()
	}
	if plainYAML(answer) {
		return answer
	}
	return double()
}

// plainYAML says whether text is the string that it is without quotes, wherever it stands.
func plainYAML(text string) bool {
	if text == "" || text != strings.TrimSpace(text) || strings.ContainsAny(text, "\r\n\t,[]{}") || strings.Contains(text, ": ") || strings.Contains(text, " #") || strings.HasSuffix(text, ":") {
		return false
	}
	var back []yaml.Node
	if yaml.Unmarshal(fmt.Appendf(nil, "- %s\n- {a: %[1]s}\n", text), &back) != nil || len(back) != 2 || len(back[1].Content) != 2 {
		return false
	}
	sound := func(n *yaml.Node) bool {
		return n.Kind == yaml.ScalarNode && n.Style == 0 && n.Value == text && n.ShortTag() == "!!str" && !old11(text)
	}
	return sound(&back[0]) && sound(back[1].Content[1])
}

// old11 says whether text was a truth value in YAML 1.1, which many readers still are.
func old11(text string) bool {
	return slices.Contains([]string{"y", "n", "yes", "no", "on", "off"}, strings.ToLower(text))
}
