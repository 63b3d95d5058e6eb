package openaitest

import (
	"context"
	"strings"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/text/phrases"
)

// An Engine makes the answers. It is called from many goroutines at once.
// Source is empty when the request does not say, and so is target. An error of
// kind core.UnsupportedLanguage is answered with 400, any other with 500.
type Engine interface {
	Translate(ctx context.Context, text string, source, target core.Language) (string, error)
}

// Pseudo answers with the text itself behind the target language: "[es] …".
type Pseudo struct{}

func (Pseudo) Translate(_ context.Context, text string, _, target core.Language) (string, error) {
	if target == "" {
		target = "?"
	}
	return "[" + string(target) + "] " + text, nil
}

// A Table answers with the translations that it knows. A text that it does not
// know is answered as Pseudo does, with a mark: "[es?] …".
type Table map[question]string

type question struct {
	source, target core.Language // base languages; source may be unknown
	text           string
}

// NewTable makes a Table of phrases. Of two for the same text the later holds.
func NewTable(list []phrases.Phrase) Table {
	t := Table{}
	for _, p := range list {
		for _, source := range []core.Language{base(p.Source), ""} {
			t[question{source, base(p.Target), strings.TrimSpace(p.Text)}] = p.Translation
		}
	}
	return t
}

func base(l core.Language) core.Language { return core.Language(l.Base()) }

// Translate looks text up in the base languages: es-MX is answered with what
// the table has for es. A source that is not known fits all.
func (t Table) Translate(ctx context.Context, text string, source, target core.Language) (string, error) {
	if found, ok := t[question{base(source), base(target), strings.TrimSpace(text)}]; ok {
		return found, nil
	}
	return Pseudo{}.Translate(ctx, text, source, target+"?")
}
