package config

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/dragoman-mt/dragoman/core/lazy"
)

// An expander replaces the references in the scalars of one file.
type expander struct {
	lookup  func(string) (string, bool)
	offline bool
	folder  string            // where relative paths of files start
	files   map[string]*named // that were read, by path: each once
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

// text expands ${NAME}, ${file:PATH}, each with a :-default or without, and $$,
// once: what a variable or a file holds is never looked at again. As in a shell, an
// empty variable has its default. A dollar before anything else is a dollar. It also
// returns the names of the variables, and file:PATH of the files, that gave something.
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
		if ref, isFile := strings.CutPrefix(name, prefixFile); isFile {
			if strings.Contains(inner, "${") {
				return "", via, errors.New("references do not nest; a file in a folder that a variable names is ${file:$NAME/FILE}, without braces of its own")
			}
			value, absent, err := e.file(ref, hasDefault, fallback)
			switch {
			case err != nil:
				return "", via, err
			case absent != "":
				missing = append(missing, absent)
			default:
				via = append(via, name)
			}
			b.WriteString(value)
			continue
		}
		if !variable.MatchString(name) {
			return "", via, errors.New("a reference is ${NAME}, ${NAME:-default} or ${file:PATH}; write $${ for the two characters themselves")
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

// foreign matches references as other programs write them: LiteLLM, Caddy, shells,
// Windows, Kubernetes, templates, GitHub Actions, OpenTelemetry, Python and Node. Each
// group is a name. As the whole of a value they are surely meant as references, and
// would be sent on as they stand.
var foreign = lazy.Regexp(strings.NewReplacer("NAME", "([A-Za-z_][A-Za-z0-9_]*)", " ", `\s*`).Replace(
	`^(?:` + strings.Join([]string{
		`(?:os\.environ|process\.env|env|secrets)[./:]NAME`,
		`(?:os\.environ|process\.env|os\.getenv|os\.Getenv|getenv|env) [\[(] ["']?NAME["']? [\])]`,
		`\{\{ (?:env\.|secrets\.|\.Env\.|\$|\.)?NAME \}\}`,
		"\\{\\{ (?:get)?env [\"'`]NAME[\"'`] \\}\\}",
		`\{ (?:env[.:]|\$)NAME \}`, `\{([A-Z_][A-Z0-9_]*)\}`,
		`\$\{\{ (?:[A-Za-z]+\.)*NAME \}\}`, `\$\{ env[.:]NAME \}`,
		`\$(?:env:|Env:)NAME`, `\$\(NAME\)`, `\$NAME`, `%NAME%`,
	}, "|") + `)$`))

// likely is how the names of variables look that hold keys.
var likely = regexp.MustCompile(`^[A-Z][A-Z0-9]*(_[A-Z0-9]+)+$`)

// misspelt says how the reference is written that raw, all of a value, spells as
// another program would; "" when it is none. Of a secret it repeats only what is
// surely the name of a variable: a password may begin with a dollar.
func (e expander) misspelt(raw string, secret bool) string {
	name := ""
	if found := foreign().FindStringSubmatch(strings.TrimSpace(raw)); found != nil {
		name = cmp.Or(found[1:]...)
	}
	if name == "" || len(name) > maxShown {
		return ""
	}
	literal := ""
	if strings.HasPrefix(raw, "$") && !strings.HasPrefix(raw, "${") {
		literal = "; a dollar that is meant as one is $$"
	}
	_, set := e.lookup(name)
	if secret && !set && !likely.MatchString(name) {
		return "looks like a reference of another program and would be taken as it stands; a reference to a variable is written ${NAME}" + literal
	}
	return fmt.Sprintf("looks like a reference of another program and would be taken as it stands; write ${%s}%s", name, literal)
}
