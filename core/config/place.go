package config

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Place returns err as a Complaints, nil for nil and when all of it is about what is
// Unknown. Err, or each error that it
// joins, begins with the key at fault: what a part that a section configures finds
// wrong beyond the schema, such as "server.keys[1].role: ..." or, with the section
// and the key apart, "pool: ca_file: ...". What begins with none has no line.
func (f *File) Place(err error) error {
	if err == nil {
		return nil
	}
	all := slices.DeleteFunc(f.placed(err), func(c Complaint) bool { return f.Unknown(c.Path) })
	if len(all) == 0 {
		return nil
	}
	all.sort()
	return slices.Compact(all)
}

// Unknown says whether the value at path, or a part of it, is in a variable that is
// not set, which Options.Offline lets pass. Nobody can say what is wrong with it.
func (f *File) Unknown(path string) bool {
	return slices.ContainsFunc(f.unknown, func(at string) bool {
		rest, ok := strings.CutPrefix(at, path)
		return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
	})
}

// eachMissing calls visit with the path of every value at or below n, which stands
// at path, that is not known.
func (n *node) eachMissing(path string, visit func(string)) {
	if n == nil {
		return
	}
	if n.missing {
		visit(path)
	}
	for i, item := range n.items {
		item.eachMissing(fmt.Sprintf("%s[%d]", path, i), visit)
	}
	for _, e := range n.entries {
		e.value.eachMissing(join(path, e.name), visit)
	}
}

func (f *File) placed(err error) Complaints {
	if all := AsComplaints(err); all != nil {
		return all
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var all Complaints
		for _, err := range joined.Unwrap() {
			all = append(all, f.placed(err)...)
		}
		return all
	}
	text := err.Error()
	key, message, _ := strings.Cut(text, ": ")
	section, path, _ := strings.Cut(key, ".")
	switch o := f.Origins[section]; {
	case !isKey.MatchString(key):
		return Complaints{{File: f.Path, Message: text}}
	case o == nil:
		return Complaints{{File: f.Path, Path: key, Message: message}}
	default:
		if first, rest, ok := strings.Cut(message, ": "); ok && path == "" && isKey.MatchString(first) {
			path, message = first, rest
		}
		return AsComplaints(o.Complain(path, message))
	}
}

// isKey says whether a text is a key, or the path of one.
var isKey = regexp.MustCompile(`^[a-z][a-z0-9_]*(\.[^\s:]+|\[[0-9]+\])*$`)
