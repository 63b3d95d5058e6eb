package openai

import (
	"bytes"
	"encoding/json"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/dragoman-mt/dragoman/core"
)

// A job is what a call of a translate model asks for: the texts, and how their
// translations are put together to an answer.
type job struct {
	rule  string // which of the rules below found them: "a" to "g"
	texts []string
	join  func(translations []string, source func(i int) string) string
	// earlier are pairs that the message itself brings as context.
	earlier []core.Pair
	// keeps says whether a translation has all that its text wants to have back; nil
	// when there is nothing to look for.
	keeps func(i int, translation string) bool
}

// An asked is what a call says, as far as extraction looks at it.
type asked struct {
	text     string // the last message of the user
	options  bool   // translation_options says that the message is the text
	system   bool   // there is a message of the system
	tools    bool
	format   bool // response_format wants JSON
	anywhere bool // rule e holds in spite of a message of the system
}

// unsupported is a prompt that asks for something other than a translation. It is
// never guessed at.
func unsupported(why string) error {
	return &core.Error{Kind: core.InvalidRequest, Field: fieldPrompt, Detail: why + "; this model translates texts: use a chat model for it, or switch batching off in the client"}
}

// fieldPrompt is the field of an error about a prompt that a translate model cannot
// take.
const fieldPrompt = "messages"

// fieldFiltered marks an error about a chat that a content filter would not take.
const fieldFiltered = "messages (filtered)"

// first returns the one translation.
func first(translations []string, _ func(int) string) string { return translations[0] }

// extract finds what is to be translated. The first rule that fits holds; README.md
// lists them.
func extract(a asked) (job, error) {
	text := a.text
	if strings.TrimSpace(text) == "" {
		return job{}, &core.Error{Kind: core.InvalidRequest, Field: fieldPrompt, Detail: "the last message of the user is empty"}
	}
	if a.tools {
		return job{}, unsupported("the call brings tools")
	}
	if a.options {
		return job{rule: "a", texts: []string{text}, join: first}, nil
	}
	if j, ok := batch(text, a.format); ok {
		return j, nil
	}
	switch trimmed := strings.TrimSpace(text); {
	case a.format:
		return job{}, unsupported("the call wants an answer of a form that is no batch which is known here")
	case isJSON(unfenced(trimmed)):
		return job{}, unsupported("the message is JSON of a form that is no batch which is known here")
	case numbered(text):
		return job{}, unsupported("the message holds numbered blocks")
	}
	for _, mark := range [][2]string{{"🔤", "🔤"}, {`"""`, `"""`}, {"Source Text:", "Translated Text:"}} {
		if inside, ok := between(text, mark[0], mark[1]); ok {
			return job{rule: "d", texts: []string{inside}, join: first}, nil
		}
	}
	if !a.system || a.anywhere {
		if below, ok := instructed(text); ok {
			return job{rule: "e", texts: []string{below}, join: first}, nil
		}
	}
	if j, ok := separated(text); ok {
		return j, nil
	}
	return job{rule: "g", texts: []string{text}, join: first}, nil
}

// isJSON says whether text is an object or an array, or objects on a line each.
func isJSON(text string) bool {
	if text == "" || text[0] != '{' && text[0] != '[' {
		return false
	}
	if json.Valid([]byte(text)) {
		return true
	}
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" && (line[0] != '{' || !json.Valid([]byte(line))) {
			return false
		}
	}
	return true
}

// unfenced returns what stands in a code fence that is the whole of text, else text.
func unfenced(text string) string {
	inside, begins := strings.CutPrefix(text, "```")
	inside, ends := strings.CutSuffix(inside, "```")
	if _, below, ok := strings.Cut(inside, "\n"); begins && ends && ok {
		return strings.TrimSpace(below)
	}
	return text
}

// mostBatch bounds the texts of one prompt.
const mostBatch = 1000

// batch reads the shapes in which clients pack several texts into one message, each of
// which has an answer of the same shape, with the same ids in the same order.
func batch(text string, object bool) (job, bool) {
	raw := []byte(strings.TrimSpace(text))
	var plain []*string
	if json.Unmarshal(raw, &plain) == nil && len(plain) > 0 && !slices.Contains(plain, nil) {
		texts := make([]string, len(plain))
		for i := range plain {
			texts[i] = *plain[i]
		}
		return job{rule: "b", texts: texts, join: func(t []string, _ func(int) string) string {
			if object {
				return encode(map[string]any{"translations": t})
			}
			return encode(t)
		}}, len(texts) <= mostBatch
	}
	var lines []struct {
		Position json.RawMessage `json:"position"`
		Line     *string         `json:"line"`
	}
	if json.Unmarshal(raw, &lines) == nil && len(lines) > 0 {
		var texts []string
		for _, l := range lines {
			if l.Position == nil || l.Line == nil {
				return job{}, false
			}
			texts = append(texts, *l.Line)
		}
		return job{rule: "b", texts: texts, join: func(t []string, _ func(int) string) string {
			type line struct {
				Position json.RawMessage `json:"position"`
				Line     string          `json:"line"`
			}
			out := make([]line, len(t))
			for i := range t {
				out[i] = line{lines[i].Position, t[i]}
			}
			if object {
				return encode(map[string]any{"translations": out})
			}
			return encode(out)
		}}, len(texts) <= mostBatch
	}
	var kiss struct {
		Target   *string `json:"targetLanguage"`
		Segments []struct {
			ID   json.RawMessage `json:"id"`
			Text *string         `json:"text"`
		} `json:"segments"`
	}
	if json.Unmarshal(raw, &kiss) == nil && kiss.Target != nil && len(kiss.Segments) > 0 {
		var texts []string
		for _, s := range kiss.Segments {
			if s.ID == nil || s.Text == nil {
				return job{}, false
			}
			texts = append(texts, *s.Text)
		}
		return job{rule: "b", texts: texts, join: func(t []string, source func(int) string) string {
			type segment struct {
				ID     json.RawMessage `json:"id"`
				Text   string          `json:"text"`
				Source string          `json:"sourceLanguage"`
			}
			out := make([]segment, len(t))
			for i := range t {
				out[i] = segment{kiss.Segments[i].ID, t[i], source(i)}
			}
			return encode(map[string]any{"translations": out})
		}}, len(texts) <= mostBatch
	}
	var subtitles struct {
		History []struct {
			Source      string `json:"source"`
			Translation string `json:"translation"`
		} `json:"history"`
		Lines []struct {
			N    *int    `json:"n"`
			Text *string `json:"text"`
		} `json:"lines"`
	}
	if json.Unmarshal(raw, &subtitles) == nil && len(subtitles.Lines) > 0 {
		var texts []string
		seen := map[int]bool{}
		for _, l := range subtitles.Lines {
			if l.N == nil || l.Text == nil || seen[*l.N] {
				return job{}, false
			}
			seen[*l.N] = true
			texts = append(texts, *l.Text)
		}
		j := job{rule: "b", texts: texts, join: func(t []string, _ func(int) string) string {
			var b strings.Builder
			for i := range t {
				b.WriteByte("{,"[min(i, 1)])
				b.WriteString(strconv.Quote(strconv.Itoa(*subtitles.Lines[i].N)) + ":" + encode(t[i]))
			}
			return b.String() + "}"
		}}
		for _, p := range subtitles.History {
			if p.Source != "" && p.Translation != "" {
				j.earlier = append(j.earlier, core.Pair{Source: p.Source, Target: p.Translation})
			}
		}
		return j, len(texts) <= mostBatch
	}
	var weblate struct {
		Target  *string `json:"target_language"`
		Strings []struct {
			Source *string `json:"source"`
		} `json:"strings"`
	}
	if json.Unmarshal(raw, &weblate) == nil && weblate.Target != nil && len(weblate.Strings) > 0 && !object {
		var texts []string
		for _, s := range weblate.Strings {
			if s.Source == nil {
				return job{}, false
			}
			texts = append(texts, *s.Source)
		}
		return job{rule: "b", texts: texts, join: func(t []string, _ func(int) string) string { return encode(t) }, keeps: func(i int, translation string) bool {
			return slices.Equal(placeholders(texts[i]), placeholders(translation))
		}}, len(texts) <= mostBatch
	}
	return job{}, false
}

// placeholder matches what stands for a part of one of Weblate's texts, and has to come
// back as it is.
var placeholder = regexp.MustCompile(`@@PH[0-9]+@@`)

// placeholders returns those of text, sorted.
func placeholders(text string) []string {
	found := placeholder.FindAllString(text, -1)
	slices.Sort(found)
	return found
}

func encode(v any) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(err) // texts and ids that were read can be written
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// numbered says whether text holds the blocks of llm-subtrans: #1, and Original> below
// it.
func numbered(text string) bool {
	block := false
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		switch {
		case len(line) > 1 && line[0] == '#' && strings.Trim(line[1:], "0123456789") == "":
			block = true
		case block && strings.HasPrefix(line, "Original>"):
			return true
		}
	}
	return false
}

// between returns what stands between two marks that occur once each.
func between(text, begin, end string) (string, bool) {
	if begin == end && strings.Count(text, begin) != 2 || begin != end && (strings.Count(text, begin) != 1 || strings.Count(text, end) != 1) {
		return "", false
	}
	_, rest, _ := strings.Cut(text, begin)
	inside, _, ok := strings.Cut(rest, end)
	inside = strings.TrimSpace(inside)
	return inside, ok && inside != ""
}

// mostInstruction is the longest paragraph that is taken for an instruction, in code
// points.
const mostInstruction = 600

// instructed returns what follows an instruction that ends in a colon and a blank line.
func instructed(text string) (string, bool) {
	text = strings.ReplaceAll(text, "\r\n", "\n")
	head, below, ok := strings.Cut(strings.TrimLeft(text, "\n "), "\n\n")
	head, below = strings.TrimSpace(head), strings.Trim(below, "\n")
	if !ok || strings.TrimSpace(below) == "" || utf8.RuneCountInString(head) > mostInstruction {
		return "", false
	}
	return below, strings.HasSuffix(head, ":") || strings.HasSuffix(head, "：")
}

// separator says whether line is one that clients put between texts, and look for in
// the answer.
func separator(line string) bool {
	line = strings.TrimSpace(line)
	return line == "%%" || line == "==WEBLATE_PART=="
}

// separated splits a text at lines that are a separator and nothing else.
func separated(text string) (job, bool) {
	var parts, ends []string
	begin, at := 0, 0
	for line := range strings.Lines(text) {
		if separator(line) {
			parts, ends = append(parts, text[begin:at]), append(ends, line)
			begin = at + len(line)
		}
		at += len(line)
	}
	parts = append(parts, text[begin:])
	if len(ends) == 0 || len(parts) > mostBatch {
		return job{}, false
	}
	// The line end before a separator is its own, and not the text's.
	for i := range ends {
		cut := strings.TrimRight(parts[i], "\r\n")
		ends[i], parts[i] = parts[i][len(cut):]+ends[i], cut
	}
	return job{rule: "f", texts: parts, join: func(t []string, _ func(int) string) string {
		var b strings.Builder
		for i, one := range t {
			b.WriteString(one)
			if i < len(ends) {
				b.WriteString(ends[i])
			}
		}
		return b.String()
	}, keeps: func(_ int, translation string) bool {
		// A line of that kind in a translation would be one text more.
		for line := range strings.Lines(translation) {
			if separator(line) {
				return false
			}
		}
		return true
	}}, true
}
