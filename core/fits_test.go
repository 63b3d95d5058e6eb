package core_test

import (
	"context"
	"strings"
	"testing"

	"github.com/dragoman-mt/dragoman/core"
)

type first struct{}

func (first) Before(context.Context, *core.Request) (core.Verdict, error) { return core.Verdict{}, nil }

type both struct{ first }

func (both) After(_ context.Context, _ *core.Request, res *core.Result, _ []byte) (*core.Result, error) {
	return res, nil
}

func TestAKindIsWhatItSays(t *testing.T) {
	nobody := core.TranslatorFunc(nil)
	for name, c := range map[string]struct {
		role   core.Role
		oneWay bool
		built  any
		want   string // in the error; empty for none
	}{
		"hooks":                         {core.RoleStage, false, both{}, ""},
		"a first half that says so":     {core.RoleStage, true, first{}, ""},
		"a first half that does not":    {core.RoleStage, false, first{}, "no After: say so with Kind.WithoutAfter"},
		"an After that is never called": {core.RoleStage, true, both{}, "whose After would never be called"},
		"a translator":                  {core.RoleProvider, false, nobody, ""},
		"no translator":                 {core.RoleProvider, false, both{}, "no core.Translator"},
		"no gate":                       {core.RoleGate, false, nobody, "no core.Gate"},
		"no caller":                     {core.RoleCaller, false, nobody, "no core.Caller"},
		"no stage that looks up":        {core.RoleLookup, false, both{}, "no core.Stage"},
		"nothing":                       {core.RoleStage, false, nil, "no core.Stage or Hooks"},
	} {
		kind := core.Kind{Name: "k", Role: c.role}
		if c.oneWay {
			kind = kind.WithoutAfter()
		}
		switch err := kind.Fits(c.built); {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}
