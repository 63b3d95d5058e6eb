package jsontext

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

// whole scans a body from end to end and returns what its strings say, one after the
// other, names among them.
func whole(s Scanner) ([]string, error) {
	var all []string
	var value func()
	value = func() {
		switch s.Next() {
		case '{':
			s.Open()
			for i := 0; s.More(i, '}'); i++ {
				// A name is as it is written; encoding/json has one U+FFFD for each byte that is no text.
				all = append(all, string([]rune(string(Unescaped(s.Name())))))
				s.Colon()
				value()
			}
		case '[':
			s.Open()
			for i := 0; s.More(i, ']'); i++ {
				value()
			}
		case '"':
			all = append(all, s.Text())
		default:
			s.Skip()
		}
	}
	value()
	if s.Next() != 0 {
		s.Broken("something follows")
	}
	return all, s.Err()
}

// reference returns what encoding/json says of the same.
func reference(t *testing.T, body []byte) (all []string) {
	dec := json.NewDecoder(strings.NewReader(string(body)))
	for {
		token, err := dec.Token()
		if err != nil {
			return all
		}
		if text, is := token.(string); is {
			all = append(all, text)
		}
	}
}

// depth returns how many values stand in one another.
func depth(body []byte) (most int) {
	dec := json.NewDecoder(strings.NewReader(string(body)))
	now := 0
	for {
		token, err := dec.Token()
		if err != nil {
			return most
		}
		switch token {
		case json.Delim('{'), json.Delim('['):
			if dec.More() { // what is empty holds nothing
				now++
				most = max(most, now)
			} else if _, err := dec.Token(); err != nil {
				return most
			}
		case json.Delim('}'), json.Delim(']'):
			now--
		}
	}
}

// FuzzScanner proves that what is taken is what encoding/json takes, and is read as
// encoding/json reads it; that skipping takes the same as reading; and that the strict
// one refuses, of all that, only what is no text.
func FuzzScanner(f *testing.F) {
	for _, s := range []string{
		``, `{}`, `null`, ` [ 1 , -0.5e+3 , true , false , null , "a\n\u00e9\ud83d\ude00\/" , { } , [ ] ] `, `{"a":{"b\u0022":["\\",{}]}}`,
		`["\ud800"]`, `["\udc00\ud800\u0041"]`, "[\"a\xff\xc3b\"]", `["\ufffd"]`, "[\"\x00\"]", "[1\x00]", "[\"\t\"]", `["\x"]`, `["\u12"]`, `["\`, `["`,
		`[1,]`, `[,1]`, `{"a":1,}`, `{"a" 1}`, `{a:1}`, `[01]`, `[-]`, `[1.]`, `[1e]`, `[+1]`, `[truefalse]`, `[nul]`, `[1 2]`, `{]`, `[}`, `{}x`, `12`,
		strings.Repeat("[", deepest) + "1" + strings.Repeat("]", deepest), strings.Repeat("[", deepest+1) + "1" + strings.Repeat("]", deepest+1),
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		got, err := whole(Lenient(body))
		if valid := json.Valid(body); valid && depth(body) > deepest != (err != nil) || !valid && err == nil {
			t.Fatalf("%q: %v; encoding/json says %v", body, err, valid)
		}
		skipped := Lenient(body)
		if skipped.Skip(); skipped.Next() == 0 && skipped.Err() == nil != (err == nil) {
			t.Fatalf("%q: read %v, skipped %v", body, err, skipped.Err())
		}
		strict, refused := whole(Strict(body))
		if refused != nil && !utf8.ValidString(refused.Error()) {
			t.Fatalf("%q: %q", body, refused)
		}
		if err != nil {
			if refused == nil {
				t.Fatalf("%q is taken by the strict one alone", body)
			}
			return
		}
		want := reference(t, body)
		if strings.Join(got, "\x00") != strings.Join(want, "\x00") {
			t.Fatalf("%q: read %q, encoding/json %q", body, got, want)
		}
		switch {
		case refused == nil && strings.Join(strict, "\x00") != strings.Join(want, "\x00"):
			t.Fatalf("%q: strictly read %q, encoding/json %q", body, strict, want)
		case refused != nil && !strings.Contains(strings.Join(want, ""), "\uFFFD"):
			t.Fatalf("%q: %v, and it is all text", body, refused)
		}
	})
}

func TestAnErrorSaysWhereTheJSONIsBroken(t *testing.T) {
	deep := strings.Repeat("[", deepest+1)
	for _, c := range []struct{ body, want string }{
		{"", "the JSON is broken at line 1, column 1: it ends where a value should be"},
		{"{\n\"é\": x}", "the JSON is broken at line 2, column 6: 'x' stands where a value should be"},
		{`{"a":1,}`, "the JSON is broken at line 1, column 8: '}' stands where the name of a field, in quotes, should be"},
		{`{"a" 1}`, "the JSON is broken at line 1, column 6: '1' stands where a colon should be"},
		{`{"a":1 "b":2}`, "the JSON is broken at line 1, column 8: '\"' stands where a comma or the closing brace should be"},
		{`[1 2]`, "the JSON is broken at line 1, column 4: '2' stands where a comma or the closing bracket should be"},
		{`[-x]`, "the JSON is broken at line 1, column 3: 'x' stands where a digit should be"},
		{`[1.x]`, "the JSON is broken at line 1, column 4: 'x' stands where a digit should be"},
		{`[-01]`, "the JSON is broken at line 1, column 3: a number begins with 0"},
		{"[\"\x01\"]", `the JSON is broken at line 1, column 3: a control character in a string; write it as \u0001`},
		{"[\"\x00\"]", "the JSON is broken at line 1, column 3: a NUL character, which is not text"},
		{"[\x00]", "the JSON is broken at line 1, column 2: a NUL character, which is not text"},
		{`["\u12"]`, `the JSON is broken at line 1, column 3: \u is followed by four hexadecimal digits`},
		{`["\x"]`, `the JSON is broken at line 1, column 3: a backslash is followed by one of " \ / b f n r t u`},
		{`["ab`, "the JSON is broken at line 1, column 5: it ends within a string"},
		{`["ab\`, "the JSON is broken at line 1, column 6: it ends within a string"},
		{`["a\ud800"]`, "the JSON is broken at line 1, column 4: half of a surrogate pair, which is no character"},
		{"[\"\n\xff\"]", "the body is not valid UTF-8 at line 2, column 1"},
		{deep, "the JSON is broken at line 1, column 102: more than 100 values stand in one another"},
	} {
		if _, err := whole(Strict([]byte(c.body))); err == nil || err.Error() != c.want {
			t.Errorf("%q: %v, want %s", c.body, err, c.want)
		}
	}
}
