package config

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"
)

// An expander replaces the references in one scalar.
type expander struct {
	lookup  func(string) (string, bool)
	offline bool
}

// A missingError names the variables that are not set and have no default.
type missingError []string

func (m missingError) Error() string {
	if len(m) == 1 {
		return fmt.Sprintf("the variable %s is not set; set it, or give a default: ${%s:-...}", m[0], m[0])
	}
	return fmt.Sprintf("the variables %s are not set; set them, or give defaults", strings.Join(m, ", "))
}

var variable = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// text expands ${NAME}, ${NAME:-default} and $$, once: what a variable holds is
// never looked at again. As in a shell, an empty variable has its default. A
// dollar before anything else is a dollar. It also returns the names of the
// variables that gave something.
func (e expander) text(s string) (text string, via []string, err error) {
	var b strings.Builder
	var missing missingError
	for {
		i := strings.IndexByte(s, '$')
		if i < 0 || i+1 == len(s) {
			b.WriteString(s)
			break
		}
		b.WriteString(s[:i])
		switch s[i+1] {
		case '$':
			b.WriteByte('$')
			s = s[i+2:]
			continue
		case '{':
			s = s[i+2:]
		default:
			b.WriteByte('$')
			s = s[i+1:]
			continue
		}
		inner, rest, closed := strings.Cut(s, "}")
		if !closed {
			return "", via, errors.New("a reference ${ has no }; write $${ for the two characters themselves")
		}
		s = rest
		name, fallback, hasDefault := strings.Cut(inner, ":-")
		if !variable.MatchString(name) {
			return "", via, errors.New("a reference is ${NAME} or ${NAME:-default}; write $${ for the two characters themselves")
		}
		if strings.Contains(fallback, "${") {
			return "", via, fmt.Errorf("the default of ${%s} holds another reference; references do not nest", name)
		}
		value, set := e.lookup(name)
		switch {
		case hasDefault && value == "":
			value = strings.ReplaceAll(fallback, "$$", "$")
		case !set:
			missing = append(missing, name)
		default:
			via = append(via, name)
		}
		if !utf8.ValidString(value) || strings.ContainsRune(value, 0) {
			return "", via, fmt.Errorf("the variable %s is not text in UTF-8", name)
		}
		b.WriteString(value)
	}
	if len(missing) > 0 {
		return "", via, missing
	}
	return b.String(), via, nil
}
