// Package exchange is a call of an upstream as every provider makes it: an answer is
// read up to a bound and told by how it begins, waiting times are believed within
// reason, and neither a key nor a text reaches a log.
//
// An Engine is a whole provider, for servers of machine translation that take a list of
// texts and give a list of translations: what is particular to one of them is its
// Dialect.
//
// A provider that asks a model is none of these, and makes its calls itself of the same
// parts: its answer may come as a stream, of which each piece goes on at once; what a call
// may hold is learned from what the server refuses and from the room of the model; a chat
// passes as it is; a batch is a list that the model is told to keep, and texts are asked
// again by themselves where it did not. An Engine that could do that would have a branch
// for it in each step, and its dialects nothing in common but the name.
package exchange

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/dragoman-mt/dragoman/core"
)

// Base reads the address of a server, which looks like example.
func Base(raw, example string) (*url.URL, error) {
	u, err := url.Parse(strings.TrimSpace(raw))
	switch {
	case strings.ContainsAny(raw, "{}<>"), err == nil && strings.Contains(u.Host, "$"):
		return nil, fmt.Errorf("base_url holds a character that no address has; a reference to a variable is written ${NAME}")
	case err != nil:
		return nil, fmt.Errorf("base_url is not a URL")
	case u.Scheme != "http" && u.Scheme != "https", u.Host == "", u.Opaque != "":
		return nil, fmt.Errorf("base_url must look like %s", example)
	case u.User != nil:
		return nil, fmt.Errorf("base_url must not hold a user name or a password: a key belongs into api_key")
	case u.Fragment != "":
		return nil, fmt.Errorf("base_url must end with its path or query, without #")
	}
	return u, nil
}

// A Fault is what an answer says that is no translation.
type Fault struct {
	// Codes are its codes, reasons and types, in lower case, the outermost first.
	Codes []string
	// Message is all that it says in words.
	Message string
	// Status is the HTTP status that it names as its code; 0 for none.
	Status int
}

const (
	longestSaid = 4 << 10 // of an error's words that is read, in bytes
	mostCodes   = 16
	mostDepth   = 6
)

// ReadFault reads as much of an error's body as it can. An answer that is none of the
// usual shapes has an empty one.
func ReadFault(body []byte) (f Fault) {
	var tree any
	if json.Unmarshal(bytes.Trim(body, " \t\r\n\ufeff"), &tree) == nil {
		f.read(tree, 0)
	}
	return f
}

func (f *Fault) read(v any, depth int) {
	if depth > mostDepth {
		return
	}
	switch v := v.(type) {
	case string:
		f.say(v)
	case []any:
		for _, each := range v[:min(len(v), mostCodes)] {
			f.read(each, depth+1)
		}
	case map[string]any:
		for _, name := range []string{"code", "status", "reason", "type"} {
			f.note(v[name])
		}
		for _, name := range []string{"error", "innererror", "innerError", "errors", "details", "message", "msg", "detail", "error_description", "explanation"} {
			if inner, is := v[name]; is {
				f.read(inner, depth+1)
			}
		}
	}
}

func (f *Fault) note(v any) {
	code := ""
	switch v := v.(type) {
	case string:
		code = strings.ToLower(v)
	case float64:
		code = strconv.FormatFloat(v, 'f', -1, 64)
	}
	if code == "" || len(code) > longestCode || len(f.Codes) == mostCodes {
		return
	}
	f.Codes = append(f.Codes, code)
	if n, err := strconv.Atoi(code); err == nil && 400 <= n && n < 600 && f.Status == 0 {
		f.Status = n
	}
}

func (f *Fault) say(s string) {
	if s = strings.TrimSpace(s); s == "" {
		return
	}
	if f.Message != "" {
		s = " " + s
	}
	if room := longestSaid - len(f.Message); len(s) > room {
		s = strings.ToValidUTF8(s[:room], "")
	}
	f.Message += s
}

// Is says whether one of codes is among those of f.
func (f Fault) Is(codes ...string) bool {
	for _, has := range f.Codes {
		for _, code := range codes {
			if has == code {
				return true
			}
		}
	}
	return false
}

// Says says whether one of phrases, in lower case, stands in the words of f.
func (f Fault) Says(phrases ...string) bool {
	said := strings.ToLower(f.Message)
	for _, phrase := range phrases {
		if strings.Contains(said, phrase) {
			return true
		}
	}
	return false
}

// JSON returns the call that posts v to path.
func JSON(path string, v any) (Call, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return Call{}, fmt.Errorf("writing the body of a call: %w", err)
	}
	return Call{Path: path, Body: b.Bytes()}, nil
}

// About gives err the place of key, of which it speaks, if there is a file.
func About(env core.Env, key string, err error) error {
	if env.Origin == nil {
		return err
	}
	return env.Origin.Complain(key, err.Error())
}
