package native

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"github.com/agnivade/levenshtein"

	"github.com/dragoman-mt/dragoman/core"
	jsontext "github.com/dragoman-mt/dragoman/core/text/json"
)

// A call is the body of POST /v1/translate as it was written. What was left
// out, or is null, has its default.
type call struct {
	texts        []string
	source       string
	target       string
	targets      []string
	formality    string
	format       string
	glossary     string
	terms        []core.Pair // of this call alone, in place of a name
	around       string      // context that is one text
	earlier      []core.Pair // context that is pairs
	instructions []string
	session      string
	segment      string
	revision     int64
	final        bool
	bulk         bool
	deadlineMS   int64
	noCache      bool
	stream       bool
	sessionUsage bool

	several bool // text is an array
	given   uint32
}

// A field is a key of the body.
type field uint8

const (
	fText field = iota
	fSource
	fTarget
	fTargets
	fFormat
	fFormality
	fGlossary
	fContext
	fInstructions
	fSession
	fSegment
	fRevision
	fFinal
	fBulk
	fDeadline
	fNoCache
	fStream
	fSessionUsage
	fields // how many there are
)

var names = [fields]string{
	"text", "source", "target", "targets", "format", "formality", "glossary", "context", "instructions",
	"session", "segment", "revision", "final", "bulk", "deadline_ms", "no_cache", "stream", "session_usage",
}

// has says whether f was given, and was not null.
func (c *call) has(f field) bool { return c.given&(1<<f) != 0 }

// decode reads a body. It is stricter than encoding/json, which would let a
// misspelt or repeated key, half a surrogate pair or broken UTF-8 pass, and it
// does in one pass what would take three there. Every error names its place or
// its field. What it returns shares no memory with body.
func decode(body []byte) (*call, error) {
	c := &call{final: true}
	s := &scanner{jsontext.Strict(body)}
	s.object(c)
	if s.Next() != 0 {
		s.Broken("something follows the object")
	}
	switch err := s.Err().(type) {
	case nil:
		return c, nil
	case *core.Error:
		return nil, err
	default:
		return nil, &core.Error{Kind: core.InvalidRequest, Detail: err.Error()}
	}
}

// A scanner walks through a body.
type scanner struct{ jsontext.Scanner }

const example = `{"text": "Good morning", "target": "es"}`

func (s *scanner) object(c *call) {
	switch c := s.Next(); c {
	case '{':
		s.Open()
	case 0:
		s.Fail(&core.Error{Kind: core.InvalidRequest, Detail: "the body is empty; send JSON such as " + example})
		return
	case '[', '"':
		s.Fail(&core.Error{Kind: core.InvalidRequest, Detail: "the body is " + s.Kind() + "; send an object such as " + example})
		return
	default:
		s.Expected("an object, such as " + example + ",")
		return
	}
	var seen uint32
	for i := 0; s.More(i, '}'); i++ {
		s.Next()
		at := s.Offset()
		name := jsontext.Unescaped(s.Name())
		if s.Err() != nil {
			return
		}
		f, ok := lookUp(name)
		if !ok {
			s.Fail(unknown(string(name)))
			return
		}
		if seen&(1<<f) != 0 {
			s.Fail(&core.Error{Kind: core.InvalidRequest, Field: names[f], Detail: names[f] + " is given a second time at " + s.Place(at)})
			return
		}
		seen |= 1 << f
		s.Colon()
		s.value(c, f)
	}
}

func lookUp(name []byte) (field, bool) {
	for f, n := range names {
		if string(name) == n {
			return field(f), true
		}
	}
	return 0, false
}

// elsewhere are names that other services give to fields of this call.
var elsewhere = map[string]field{
	"q": fText, "texts": fText, "input": fText,
	"source_lang": fSource, "source_language": fSource, "from": fSource, "sl": fSource,
	"target_lang": fTarget, "target_language": fTarget, "target_langs": fTargets, "to": fTarget, "tl": fTarget,
	"glossary_id": fGlossary,
}

func unknown(name string) *core.Error {
	shown := name
	if r := []rune(shown); len(r) > 40 {
		shown = string(r[:40]) + "…"
	}
	e := &core.Error{Kind: core.InvalidRequest, Field: shown, Detail: fmt.Sprintf("%q is not a field of this call", shown)}
	if len(name) > 40 {
		return e
	}
	switch strings.ToLower(name) {
	case "api_key", "auth_key":
		e.Detail += "; a key travels in the header Authorization: Bearer KEY"
		return e
	}
	if f, ok := elsewhere[strings.ToLower(name)]; ok {
		e.Detail += fmt.Sprintf("; here it is called %q", names[f])
		return e
	}
	best, distance := "", 4
	for _, n := range names {
		if d := levenshtein.ComputeDistance(strings.ToLower(name), n); d < distance && d <= (len(n)+1)/2 {
			best, distance = n, d
		}
	}
	if best != "" {
		e.Detail += fmt.Sprintf("; did you mean %q?", best)
	}
	return e
}

// value reads the value of f into c.
func (s *scanner) value(c *call, f field) {
	if s.Err() != nil {
		return
	}
	if s.Next() == 'n' {
		s.Literal("null")
		return
	}
	switch f {
	case fText:
		if s.Next() == '[' {
			c.several = true
			c.texts = s.strings(f)
		} else {
			c.texts = []string{s.string(f, "a string or an array of strings")}
		}
	case fSource:
		c.source = s.string(f, "a string")
	case fTarget:
		c.target = s.string(f, "a string")
	case fTargets:
		c.targets = s.strings(f)
	case fFormality:
		c.formality = s.string(f, "a string")
	case fInstructions:
		c.instructions = s.strings(f)
	case fSession:
		c.session = s.string(f, "a string")
	case fSegment:
		c.segment = s.string(f, "a string")
	case fRevision:
		c.revision = s.integer(f)
	case fFinal:
		c.final = s.bool(f)
	case fBulk:
		c.bulk = s.bool(f)
	case fDeadline:
		c.deadlineMS = s.integer(f)
	case fNoCache:
		c.noCache = s.bool(f)
	case fFormat:
		c.format = s.string(f, "a string")
	case fStream:
		c.stream = s.bool(f)
	case fSessionUsage:
		c.sessionUsage = s.bool(f)
	case fGlossary:
		if s.Next() == '{' {
			c.terms = s.terms()
		} else {
			c.glossary = s.string(f, "the name of a glossary, or an object of terms and their translations")
		}
	case fContext:
		if s.Next() == '[' {
			c.earlier = s.pairs()
		} else {
			c.around = s.string(f, "a string, or an array of pairs of source and target")
		}
	}
	c.given |= 1 << f
}

func (s *scanner) wrongType(name, want string) {
	got := s.Kind()
	if got == "" {
		s.Expected("a value")
		return
	}
	s.Fail(&core.Error{Kind: core.InvalidRequest, Field: name, Detail: name + " is " + got + "; it must be " + want})
}

func (s *scanner) string(f field, want string) string {
	if s.Next() != '"' {
		s.wrongType(names[f], want)
		return ""
	}
	return s.Text()
}

func (s *scanner) strings(f field) []string {
	if s.Next() != '[' {
		s.wrongType(names[f], "an array of strings")
		return nil
	}
	list := []string{}
	s.Open()
	for i := 0; s.More(i, ']'); i++ {
		if s.Next() != '"' {
			s.wrongType(names[f]+"["+strconv.Itoa(i)+"]", "a string")
			return nil
		}
		list = append(list, s.Text())
	}
	return list
}

// terms reads an object of terms and their translations. No term is given twice.
func (s *scanner) terms() (all []core.Pair) {
	seen := map[string]bool{}
	s.Open()
	for i := 0; s.More(i, '}'); i++ {
		term := string(jsontext.Unescaped(s.Name()))
		if s.Err() != nil {
			return nil
		}
		field := names[fGlossary] + "[" + strconv.Itoa(i) + "]"
		if seen[term] {
			s.Fail(&core.Error{Kind: core.InvalidRequest, Field: field, Detail: field + ": the term is given a second time"})
			return nil
		}
		seen[term] = true
		s.Colon()
		if s.Next() != '"' {
			s.wrongType(field, "a string, the translation of the term")
			return nil
		}
		all = append(all, core.Pair{Source: term, Target: s.Text()})
	}
	return all
}

// pairs reads an array of objects with source and target.
func (s *scanner) pairs() (all []core.Pair) {
	s.Open()
	for i := 0; s.More(i, ']'); i++ {
		field := names[fContext] + "[" + strconv.Itoa(i) + "]"
		if s.Next() != '{' {
			s.wrongType(field, `an object such as {"source": "Hello.", "target": "Hola."}`)
			return nil
		}
		var p core.Pair
		var given [2]bool
		s.Open()
		for j := 0; s.More(j, '}'); j++ {
			s.Next()
			name := string(jsontext.Unescaped(s.Name()))
			if s.Err() != nil {
				return nil
			}
			into, k := &p.Source, 0
			switch name {
			case "source":
			case "target":
				into, k = &p.Target, 1
			default:
				s.Fail(&core.Error{Kind: core.InvalidRequest, Field: field, Detail: field + " has a key that is neither source nor target"})
				return nil
			}
			if given[k] {
				s.Fail(&core.Error{Kind: core.InvalidRequest, Field: field + "." + name, Detail: field + "." + name + " is given a second time"})
				return nil
			}
			given[k] = true
			s.Colon()
			if s.Next() != '"' {
				s.wrongType(field+"."+name, "a string")
				return nil
			}
			*into = s.Text()
		}
		if s.Err() != nil {
			return nil
		}
		if !given[0] || !given[1] {
			s.Fail(&core.Error{Kind: core.InvalidRequest, Field: field, Detail: field + " needs source and target: a text and its translation"})
			return nil
		}
		all = append(all, p)
	}
	return all
}

func (s *scanner) bool(f field) bool {
	switch s.Next() {
	case 't':
		s.Literal("true")
		return true
	case 'f':
		s.Literal("false")
		return false
	}
	s.wrongType(names[f], "true or false")
	return false
}

// integer reads a whole number. More digits than an int64 is sure to hold are
// refused.
func (s *scanner) integer(f field) int64 {
	if s.Kind() != "a number" {
		s.wrongType(names[f], "a whole number")
		return 0
	}
	raw := s.Whole()
	if s.Err() != nil {
		return 0
	}
	if len(bytes.TrimPrefix(raw, []byte("-"))) > 18 {
		s.Fail(&core.Error{Kind: core.InvalidRequest, Field: names[f], Detail: names[f] + " is a larger number than is taken"})
		return 0
	}
	if next := s.Peek(); next == '.' || next|0x20 == 'e' {
		s.Fail(&core.Error{Kind: core.InvalidRequest, Field: names[f], Detail: names[f] + " must be a whole number"})
		return 0
	}
	n, err := strconv.ParseInt(string(raw), 10, 64)
	if err != nil {
		s.Broken("not a number")
	}
	return n
}
