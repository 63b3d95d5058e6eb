package openai

import (
	"bytes"
	"encoding/json"
	"slices"
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
		return job{"a", []string{text}, first}, nil
	}
	if j, ok := batch(text, a.format); ok {
		return j, nil
	}
	switch trimmed := strings.TrimSpace(text); {
	case a.format:
		return job{}, unsupported("the call wants an answer of a form that is no batch which is known here")
	case (trimmed[0] == '{' || trimmed[0] == '[') && json.Valid([]byte(trimmed)):
		return job{}, unsupported("the message is JSON of a form that is no batch which is known here")
	case strings.Contains(text, "==WEBLATE_PART=="):
		return job{}, unsupported("the message holds several texts of Weblate")
	case numbered(text):
		return job{}, unsupported("the message holds numbered blocks")
	}
	for _, mark := range [][2]string{{"🔤", "🔤"}, {`"""`, `"""`}, {"Source Text:", "Translated Text:"}} {
		if inside, ok := between(text, mark[0], mark[1]); ok {
			return job{"d", []string{inside}, first}, nil
		}
	}
	if !a.system || a.anywhere {
		if below, ok := instructed(text); ok {
			return job{"e", []string{below}, first}, nil
		}
	}
	if j, ok := separated(text); ok {
		return j, nil
	}
	return job{"g", []string{text}, first}, nil
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
		return job{"b", texts, func(t []string, _ func(int) string) string {
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
		return job{"b", texts, func(t []string, _ func(int) string) string {
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
		return job{"b", texts, func(t []string, source func(int) string) string {
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
	return job{}, false
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

// separated splits a text at lines that are %% and nothing else.
func separated(text string) (job, bool) {
	parts, ends := []string{""}, []string{}
	for line := range strings.Lines(text) {
		if strings.TrimSpace(line) == "%%" {
			ends = append(ends, line)
			parts = append(parts, "")
			continue
		}
		parts[len(parts)-1] += line
	}
	if len(ends) == 0 || len(parts) > mostBatch {
		return job{}, false
	}
	// The line end before a separator is its own, and not the text's.
	for i := range ends {
		cut := strings.TrimRight(parts[i], "\r\n")
		ends[i], parts[i] = parts[i][len(cut):]+ends[i], cut
	}
	return job{"f", parts, func(t []string, _ func(int) string) string {
		var b strings.Builder
		for i, one := range t {
			b.WriteString(one)
			if i < len(ends) {
				b.WriteString(ends[i])
			}
		}
		return b.String()
	}}, true
}
