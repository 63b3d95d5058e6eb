package postprocess

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/dragoman-mt/dragoman/core"
)

// withoutJSON returns the translation in an answer that is a JSON object or array, unless
// the text is written so as well: its one string, beside the text itself and names of
// languages, or the one that is called a translation.
func withoutJSON(q *question, answer string) string {
	tree, ok := asJSON(q, answer)
	if !ok {
		return answer
	}
	var all, named []string
	q.stringsIn(tree, "", 0, func(key, s string) bool {
		switch {
		case !hasWord(s), strings.EqualFold(strings.TrimSpace(s), q.source), q.isLanguage(s) && !q.isLanguage(q.source):
			return true
		case q.isTranslation(key):
			named = append(named, s)
		}
		all = append(all, s)
		return len(all) < maxStrings
	})
	switch {
	case len(all) == 1:
		return all[0]
	case len(named) == 1 && len(all) < maxStrings:
		return named[0]
	}
	return answer
}

// unclear finds an answer that is JSON still: which of its strings is the translation
// cannot be told.
func unclear(q *question, answer string) finding {
	if _, ok := asJSON(q, answer); ok {
		return finding{kind: core.BadAnswer, detail: "the answer is JSON, of which it cannot be told what the translation is", flag: FlagWrapped}
	}
	return finding{}
}

// asJSON parses an answer that is written as JSON, or as Python writes the same, if the
// text is not.
func asJSON(q *question, answer string) (tree any, ok bool) {
	if len(answer) < 4 || !opensJSON(q, answer) {
		return nil, false
	}
	if last := answer[len(answer)-1]; last != '}' && last != ']' {
		return nil, false
	}
	q.spend(4 * len(answer))
	var read any // whose place is asked for no earlier: hardly any answer is JSON
	if json.Unmarshal([]byte(answer), &read) == nil {
		return read, true
	}
	if first := strings.TrimLeft(answer[1:], " \t\r\n"); first != "" && first[0] == '\'' && !strings.Contains(answer, `"`) {
		err := json.Unmarshal([]byte(strings.NewReplacer(`\'`, "'", "'", `"`).Replace(answer)), &read)
		return read, err == nil
	}
	return nil, false
}

const (
	deepestJSON = 4  // how many objects and arrays models put round a translation
	maxStrings  = 16 // how many strings are looked at
)

// stringsIn calls each with every string of tree and its key, until it is false.
func (q *question) stringsIn(tree any, key string, depth int, each func(key, s string) bool) bool {
	switch v := tree.(type) {
	case string:
		return each(key, v)
	case []any:
		for _, inner := range v {
			if depth < deepestJSON && !q.stringsIn(inner, key, depth+1, each) {
				return false
			}
		}
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(v)) {
			if depth < deepestJSON && !q.stringsIn(v[name], name, depth+1, each) {
				return false
			}
		}
	}
	return true
}

// isTranslation says whether the key of a string says that it is the translation.
func (q *question) isTranslation(key string) bool {
	word, _, _ := strings.Cut(strings.ReplaceAll(lowerWord(key), "_", " "), " ")
	return strings.HasPrefix(word, "translat") || word == "target" || q.names(word)
}

// isLanguage says whether s is the name or the code of a language of the request.
func (q *question) isLanguage(s string) bool {
	s = lowerWord(strings.TrimSpace(s))
	for _, l := range [...]core.Language{q.req.Source, q.req.Target} {
		if l != "" && (s == strings.ToLower(string(l)) || s == l.Base()) {
			return true
		}
	}
	name, _, _ := strings.Cut(s, " ")
	return q.words.languageNames[name] != "" || s == "auto"
}

// opensJSON says whether answer begins like JSON, and the text does not.
func opensJSON(q *question, answer string) bool {
	if answer == "" || answer[0] != '{' && answer[0] != '[' || strings.HasPrefix(q.source, answer[:1]) {
		return false
	}
	switch rest := strings.TrimLeft(answer[1:], " \t\r\n"); {
	case rest == "":
		return true
	case answer[0] == '{':
		return rest[0] == '"' || rest[0] == '\''
	default:
		return strings.IndexByte("\"'{[", rest[0]) >= 0
	}
}
