package openai

import (
	"bytes"
	"encoding/json"
	"strings"
)

// Answers that pass are changed where they have to be and nowhere else, so they are
// not taken apart and put together anew. What these functions are given is JSON that
// the provider has read; of anything else they find nothing. So they look for where
// things stand, and check nothing: core/text/json is for what has to be checked.

// A member is a key of an object, as it is written, with its value, and where they
// stand.
type member struct {
	key, value []byte
	from, to   int // of the value
	// begin and end are what goes with it when it goes: the comma on one side.
	begin, end int
}

// each tells of the members of object, until told says false.
func each(object []byte, told func(member) bool) {
	i := blank(object, 0)
	if i >= len(object) || object[i] != '{' {
		return
	}
	for comma := -1; ; {
		start := blank(object, i+1)
		if start >= len(object) || object[start] != '"' {
			return
		}
		after := past(object, start)
		colon := blank(object, after)
		if colon >= len(object) || object[colon] != ':' || after < start+2 {
			return
		}
		from := blank(object, colon+1)
		to := past(object, from)
		i = blank(object, to)
		if i >= len(object) || to <= from {
			return
		}
		m := member{key: object[start+1 : after-1], value: object[from:to], from: from, to: to, begin: start, end: to}
		switch {
		case comma >= 0:
			m.begin = comma
		case object[i] == ',':
			m.end = i + 1
		}
		if !told(m) || object[i] != ',' {
			return
		}
		comma = i
	}
}

// find returns the member of object that is called key.
func find(object []byte, key string) (found member, ok bool) {
	each(object, func(m member) bool {
		if ok = string(m.key) == key; ok {
			found = m
		}
		return !ok
	})
	return found, ok
}

// blank returns the first place from i on that holds no white space.
func blank(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\r' || b[i] == '\t') {
		i++
	}
	return i
}

// past returns where the value ends that begins at i.
func past(b []byte, i int) int {
	depth := 0
	for ; i < len(b); i++ {
		switch b[i] {
		case '"':
			for i++; i < len(b) && b[i] != '"'; i++ {
				if b[i] == '\\' {
					i++
				}
			}
			if depth == 0 {
				return min(i+1, len(b))
			}
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth < 0 {
				return i
			}
			if depth == 0 {
				return i + 1
			}
		case ',', ' ', '\n', '\r', '\t':
			if depth == 0 {
				return i
			}
		}
	}
	return len(b)
}

// replaced returns object with value under key, if there is anything.
func replaced(object []byte, key string, value []byte) []byte {
	if m, ok := find(object, key); ok {
		return put(object, m.from, m.to, value)
	}
	return object
}

func put(b []byte, from, to int, value []byte) []byte {
	out := make([]byte, 0, len(b)+len(value))
	return append(append(append(out, b[:from]...), value...), b[to:]...)
}

// without returns object without key.
func without(object []byte, key string) []byte {
	if m, ok := find(object, key); ok {
		return put(object, m.begin, m.end, nil)
	}
	return object
}

// change returns object with another text at the path, of which "0" is the first of a
// list; with what change returns, if there is a text.
func change(object []byte, path []string, by func(string) string) []byte {
	from, to := 0, len(object)
	for _, step := range path {
		part := object[from:to]
		at, end := 0, 0
		if step == "0" {
			open := blank(part, 0)
			if open >= len(part) || part[open] != '[' {
				return object
			}
			at = blank(part, open+1)
			end = past(part, at)
		} else {
			m, ok := find(part, step)
			if !ok {
				return object
			}
			at, end = m.from, m.to
		}
		from, to = from+at, from+end
	}
	var text string
	if to <= from || object[from] != '"' || json.Unmarshal(object[from:to], &text) != nil {
		return object
	}
	now := by(text)
	if now == text {
		return object
	}
	return put(object, from, to, []byte(encode(now)))
}

const opens, shuts = "<think>", "</think>"

// stripped returns text without thoughts, and without the white space round what is
// left of it where there were some.
func stripped(text string) string {
	var t thoughts
	return t.piece(text) + t.rest()
}

func strippedAnswer(body []byte) []byte {
	return change(body, []string{"choices", "0", "message", "content"}, stripped)
}

// thoughts takes what stands between <think> and </think> out of a text that comes in
// pieces. The zero value is ready.
type thoughts struct {
	held   string // may be the begin of a mark
	inside bool
	trim   bool // white space that follows goes with the thoughts
}

// piece returns what is to be shown of one more piece.
func (t *thoughts) piece(text string) string {
	var out strings.Builder
	text, t.held = t.held+text, ""
	for text != "" {
		if t.inside {
			_, after, ends := strings.Cut(text, shuts)
			if !ends {
				t.held = tail(text, shuts)
				break
			}
			text, t.inside, t.trim = after, false, true
			continue
		}
		if t.trim {
			if text = strings.TrimLeft(text, " \t\r\n"); text == "" {
				break
			}
			t.trim = false
		}
		before, after, begins := strings.Cut(text, opens)
		if !begins {
			t.held = tail(text, opens)
			out.WriteString(text[:len(text)-len(t.held)])
			break
		}
		out.WriteString(before)
		text, t.inside = after, true
	}
	return out.String()
}

// tail returns the end of text that may be the begin of mark.
func tail(text, mark string) string {
	for n := min(len(mark)-1, len(text)); n > 0; n-- {
		if strings.HasSuffix(text, mark[:n]) {
			return text[len(text)-n:]
		}
	}
	return ""
}

// rest returns what was held back and is no mark after all, for no more comes.
// Thoughts without an end are all that there is of them: nothing.
func (t *thoughts) rest() string {
	held := t.held
	t.held = ""
	if t.inside {
		return ""
	}
	return held
}

// event takes the thoughts out of one event of a stream.
func (t *thoughts) event(data []byte) []byte {
	data = change(data, []string{"choices", "0", "delta", "content"}, t.piece)
	// What is held back comes with the end, if that is in this event.
	if t.held != "" && !t.inside && bytes.Contains(data, []byte(`"finish_reason":"`)) {
		data = change(data, []string{"choices", "0", "delta", "content"}, func(text string) string { return text + t.rest() })
	}
	return data
}
