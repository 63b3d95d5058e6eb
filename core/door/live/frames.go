package live

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"net/url"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/dragoman-mt/dragoman/core"
)

// A frame is what a client says, with what it did not say left nil.
type frame struct {
	kind    string
	fields  map[string]json.RawMessage
	unknown []string
}

// maxFields bounds the fields of a frame.
const maxFields = 64

// errSyntax is of a frame that is not JSON, or no object. It ends the connection.
var errSyntax = &core.Error{Kind: core.InvalidRequest, Stage: "live", Detail: "a frame is one JSON object"}

// errBytes is of a frame over plain HTTP that no text can have come from.
var errBytes = &core.Error{Kind: core.InvalidRequest, Stage: "live", Detail: "a frame is UTF-8, and this one is not"}

// fieldsOf are those that each type of frame may have.
var fieldsOf = map[string]string{
	"start":     " session source targets glossary formality context corrections acks traceparent resume after words ",
	"source":    " segment revision text final speaker start_ms end_ms language stable words ",
	"update":    " targets ",
	"finalize":  " ",
	"keepalive": " ",
	"end":       " ",
}

// parse reads a frame: errSyntax when it is none at all, else an error that names the
// field, with as much of the frame as can be told.
func parse(raw []byte) (f frame, err *core.Error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	if t, e := dec.Token(); e != nil || t != json.Delim('{') {
		return f, errSyntax
	}
	f.fields = map[string]json.RawMessage{}
	var twice string
	for dec.More() {
		t, e := dec.Token()
		name, is := t.(string)
		if e != nil || !is {
			return f, errSyntax
		}
		var value json.RawMessage
		if dec.Decode(&value) != nil {
			return f, errSyntax
		}
		if _, is := f.fields[name]; is && twice == "" {
			twice = name
		}
		if len(f.fields) < maxFields {
			f.fields[name] = value
		}
	}
	if _, e := dec.Token(); e != nil || dec.More() {
		return f, errSyntax
	}
	if rest, e := dec.Token(); e == nil {
		return f, errSyntax
	} else if rest != nil {
		return f, errSyntax
	}
	for name, value := range f.fields {
		if string(value) == "null" {
			delete(f.fields, name)
		}
	}
	if err := f.text("type", &f.kind, 64); err != nil {
		return f, err
	}
	known, is := fieldsOf[f.kind]
	switch {
	case twice != "":
		return f, invalid(brief(twice), "the field is given twice")
	case f.fields["type"] == nil:
		return f, invalid("type", "type is missing; there are start, source, update, finalize, keepalive and end")
	case !is:
		return f, invalid("type", "there is no such type; there are start, source, update, finalize, keepalive and end")
	}
	for name := range f.fields {
		if name != "type" && !strings.Contains(known, " "+name+" ") {
			f.unknown = append(f.unknown, brief(name))
		}
	}
	return f, nil
}

// brief bounds a name that a client gave.
func brief(name string) string {
	if len(name) > 64 {
		return strings.ToValidUTF8(name[:64], "") + "…"
	}
	return name
}

func invalid(field, detail string, args ...any) *core.Error {
	return &core.Error{Kind: core.InvalidRequest, Stage: "live", Field: field, Detail: fmt.Sprintf(detail, args...)}
}

// has says whether a field was given, and is not null.
func (f frame) has(name string) bool { return f.fields[name] != nil }

// text reads a field of text of so many code points at most.
func (f frame) text(name string, to *string, most int) *core.Error {
	raw := f.fields[name]
	if raw == nil {
		return nil
	}
	if json.Unmarshal(raw, to) != nil || raw[0] != '"' {
		return invalid(name, "%s must be text", name)
	}
	if n := utf8.RuneCountInString(*to); n > most {
		return &core.Error{Kind: core.TooLarge, Stage: "live", Field: name, Detail: fmt.Sprintf("%s has %d code points; at most %d are taken", name, n, most)}
	}
	return nil
}

// name reads a field that names something: no longer than maxName, without control
// characters.
func (f frame) name(name string, to *string) *core.Error {
	if err := f.text(name, to, maxName); err != nil {
		return err
	}
	if strings.ContainsFunc(*to, unicode.IsControl) {
		return invalid(name, "%s holds a control character", name)
	}
	return nil
}

// sessionIn returns the name of a session which its start or the query of its address gives. A
// balancer sees the latter alone.
func sessionIn(query url.Values, name string) (string, *core.Error) {
	asked := query.Get("session")
	switch {
	case asked == "" || asked == name:
		return name, nil
	case name != "":
		return "", invalid("session", "session is one name in the query of the address, and another one in start")
	case !utf8.ValidString(asked) || utf8.RuneCountInString(asked) > maxName || strings.ContainsFunc(asked, unicode.IsControl):
		return "", invalid("session", "session in the query of the address must be text of at most %d code points, without control characters", maxName)
	}
	return asked, nil
}

func (f frame) flag(name string, to *bool) *core.Error {
	switch string(f.fields[name]) {
	case "":
	case "true":
		*to = true
	case "false":
		*to = false
	default:
		return invalid(name, "%s must be true or false", name)
	}
	return nil
}

// count reads a field that is a whole number, not below 0.
func (f frame) count(name string, to *int64) *core.Error {
	raw := f.fields[name]
	if raw == nil {
		return nil
	}
	n, err := strconv.ParseInt(string(raw), 10, 64)
	if err != nil {
		// Some clients write whole numbers as 3.0 or 1e3.
		x, e := strconv.ParseFloat(string(raw), 64)
		if e != nil || x != math.Trunc(x) || x < 0 || x > 1<<53 {
			return invalid(name, "%s must be a whole number, 0 or more", name)
		}
		n = int64(x)
	}
	if n < 0 {
		return invalid(name, "%s must be a whole number, 0 or more", name)
	}
	*to = n
	return nil
}

// moment reads a time that comes back as it is.
func (f frame) moment(name string) (*int64, *core.Error) {
	if !f.has(name) {
		return nil, nil
	}
	var n int64
	err := f.count(name, &n)
	return &n, err
}
