package door

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/dragoman-mt/dragoman/core"
)

// Params are the fields of a call of a foreign door, however its client sent them: as
// a JSON object, as a form, as multipart, or in the query. What its first byte is
// decides, for many clients name no content type, or a wrong one. Fields that nobody
// asks for are passed over; one that is null or empty counts as left out.
type Params struct {
	object map[string]json.RawMessage // nil unless the body is JSON
	form   url.Values
	query  url.Values
	files  map[string]File
	list   []byte
}

// A File is one that came with a call.
type File struct {
	Name    string
	Content []byte
}

// Bounds of the parts of a multipart body, and of the fields of a form.
const (
	maxParts  = 100
	maxFields = 10000
)

// ReadParams reads the fields of call, whose body was received. What it returns may
// share memory with body. The error is an invalid_request.
func ReadParams(call *http.Request, body []byte) (*Params, error) {
	p := &Params{query: readForm(call.URL.RawQuery)}
	start := bytes.TrimLeft(bytes.TrimPrefix(body, []byte("\uFEFF")), " \t\r\n")
	kind, attributes, _ := mime.ParseMediaType(call.Header.Get("Content-Type"))
	switch {
	case len(start) == 0:
	case kind == "multipart/form-data" && start[0] != '{' && start[0] != '[':
		return p, p.readParts(body, attributes["boundary"])
	case !utf8.Valid(body):
		return nil, &core.Error{Kind: core.InvalidRequest, Detail: "the body is not valid UTF-8"}
	case start[0] == '{':
		if err := json.Unmarshal(start, &p.object); err != nil {
			return nil, brokenJSON()
		}
	case start[0] == '[':
		if !json.Valid(start) {
			return nil, brokenJSON()
		}
		p.list = start
	case strings.HasSuffix(kind, "json"):
		return nil, brokenJSON()
	default:
		if bytes.Count(body, []byte("&")) >= maxFields {
			return nil, &core.Error{Kind: core.InvalidRequest, Detail: fmt.Sprintf("the form has more than %d fields", maxFields)}
		}
		form := readForm(string(bytes.TrimSpace(body)))
		for _, values := range form {
			for _, v := range values {
				if !utf8.ValidString(v) {
					return nil, &core.Error{Kind: core.InvalidRequest, Detail: "the form is not valid UTF-8"}
				}
			}
		}
		p.form = form
	}
	return p, nil
}

// readForm reads a form, or a query, as the servers of these protocols do (WHATWG URL
// standard, section 5.1): nothing of it can be broken. A percent sign that no two digits
// follow is one, and a semicolon is a character of a text.
func readForm(s string) url.Values {
	form := url.Values{}
	for field := range strings.SplitSeq(s, "&") {
		if field != "" {
			name, value, _ := strings.Cut(field, "=")
			form.Add(unescaped(name), unescaped(value))
		}
	}
	return form
}

func unescaped(s string) string {
	if !strings.ContainsAny(s, "%+") {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '+':
			b = append(b, ' ')
			continue
		case s[i] == '%' && i+2 < len(s):
			if c, err := hex.DecodeString(s[i+1 : i+3]); err == nil {
				b = append(b, c[0])
				i += 2
				continue
			}
		}
		b = append(b, s[i])
	}
	return string(b)
}

func brokenJSON() error {
	return &core.Error{Kind: core.InvalidRequest, Detail: "Invalid JSON format"}
}

func (p *Params) readParts(body []byte, boundary string) error {
	broken := &core.Error{Kind: core.InvalidRequest, Detail: "the multipart body is broken, or cut off"}
	if boundary == "" {
		return broken
	}
	p.form, p.files = url.Values{}, map[string]File{}
	parts := multipart.NewReader(bytes.NewReader(body), boundary)
	for n := 0; ; n++ {
		part, err := parts.NextRawPart()
		if err == io.EOF {
			return nil
		}
		if err != nil || n == maxParts {
			return broken
		}
		content, err := io.ReadAll(part)
		if err != nil {
			return broken
		}
		if part.FileName() != "" || part.FormName() == "file" {
			p.files[part.FormName()] = File{part.FileName(), content}
			continue
		}
		if !utf8.Valid(content) {
			return broken
		}
		p.form.Add(part.FormName(), string(content))
	}
}

// IsJSON says whether the fields came as a JSON object.
func (p *Params) IsJSON() bool { return p.object != nil }

// List returns the body when it is a JSON array, else nil.
func (p *Params) List() json.RawMessage { return p.list }

// File returns the file of that field.
func (p *Params) File(name string) (File, bool) {
	f, ok := p.files[name]
	return f, ok
}

// Names returns the names of all fields of a body, sorted.
func (p *Params) Names() (names []string) {
	for name := range p.object {
		names = append(names, name)
	}
	for name := range p.form {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Raw returns a field of a JSON object as it was written; nil when it is null or was
// left out.
func (p *Params) Raw(name string) json.RawMessage {
	raw := p.object[name]
	if bytes.Equal(bytes.TrimSpace(raw), []byte("null")) {
		return nil
	}
	return raw
}

// values returns what a form or the query says of name.
func (p *Params) values(name string) []string {
	if v, ok := p.form[name]; ok {
		return v
	}
	return p.query[name]
}

// Has says whether a field was given, and is not null. An empty one was.
func (p *Params) Has(name string) bool {
	return p.Raw(name) != nil || len(p.values(name)) > 0
}

// Text returns a field as text: a number or a boolean as it is written in JSON, the
// first of several, empty for what was left out, is null, or is an object.
func (p *Params) Text(name string) string {
	if raw := p.Raw(name); raw != nil {
		return scalar(raw)
	}
	if v := p.values(name); len(v) > 0 {
		return v[0]
	}
	return ""
}

// Tag is Text for a code: without white space round it.
func (p *Params) Tag(name string) string { return strings.TrimSpace(p.Text(name)) }

// Texts returns a field that may hold several texts, and whether it is a JSON array
// or was repeated. Ok is false for what is neither text nor a list of texts.
func (p *Params) Texts(name string) (texts []string, several, ok bool) {
	raw := p.Raw(name)
	if raw == nil {
		texts = p.values(name)
		return texts, len(texts) > 1, true
	}
	switch raw[0] {
	case '[':
		var items []json.RawMessage
		if json.Unmarshal(raw, &items) != nil {
			return nil, true, false
		}
		texts = make([]string, len(items))
		for i, item := range items {
			if len(item) == 0 || item[0] == '{' || item[0] == '[' || string(item) == "null" {
				return nil, true, false
			}
			texts[i] = scalar(item)
		}
		return texts, true, true
	case '{':
		return nil, false, false
	}
	return []string{scalar(raw)}, false, true
}

// Flag returns a field that is a boolean: true, 1 and "1" are, in any case.
func (p *Params) Flag(name string) bool {
	switch strings.ToLower(p.Tag(name)) {
	case "true", "1", "yes", "on":
		return true
	}
	return false
}

func scalar(raw json.RawMessage) string {
	if len(raw) == 0 {
		return ""
	}
	switch raw[0] {
	case '"':
		var s string
		if json.Unmarshal(raw, &s) != nil {
			return ""
		}
		return s
	case '[':
		var items []json.RawMessage
		if json.Unmarshal(raw, &items) != nil || len(items) == 0 {
			return ""
		}
		return scalar(items[0])
	case '{', 'n':
		return ""
	}
	return string(raw)
}
