// Package enginetest holds parts for tests of what keeps, changes and closes parts: stages
// that note what becomes of them, and stages that do not return.
package enginetest

import (
	"errors"
	"net/http"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/config"
)

// Nowhere is an upstream that no test calls.
type Nowhere struct{}

func (Nowhere) RoundTrip(*http.Request) (*http.Response, error) {
	return nil, errors.New("no upstream")
}
func (Nowhere) Warm(string) (func(), error) { return func() {}, nil }

// fake is a provider whose life a test watches.
// Calling is a caller that uses the providers it names.
type Calling []string

func (c Calling) Call(below core.Below) (core.Translator, error) {
	var first core.Translator
	for _, name := range c {
		p, ok := below.Provider(name)
		if !ok {
			return nil, errors.New("no provider " + name)
		}
		if t := below.Around(p); first == nil {
			first = t
		}
	}
	return first, nil
}

func Item(name string, role core.Role, build func() any) config.Item {
	kind := core.NewKind(name, role, "", func() struct{} { return struct{}{} }, func(core.Env, *struct{}) (any, error) { return build(), nil })
	return config.Item{Name: name, Kind: kind, Config: kind.Config(), Enabled: true, Path: "x." + name, Line: 3, Column: 5}
}
