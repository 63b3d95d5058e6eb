package host

import (
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/coretest"
)

// declared returns the kind of an item of the file, whose parts know where they
// were declared.
func (b *bench) declared(name string) (core.Kind, any) {
	b.Helper()
	for _, item := range append(b.file.Providers, b.file.Stages...) {
		if item.Name != name {
			continue
		}
		kind, origin := item.Kind, item.Origin
		build := kind.Build
		kind.Build = func(env core.Env, config any) (any, error) {
			env.Origin = origin
			return build(env, config)
		}
		return kind, item.Config
	}
	b.Fatalf("the file has no %s", name)
	return core.Kind{}, nil
}

func TestTheProviderConforms(t *testing.T) {
	kind, config := newBench(t, one).declared("odd")
	coretest.Provider(t, core.Env{Name: "odd", Log: zap.NewNop(), Deadline: 20 * time.Second}, kind, config)
}

func TestTheStageConforms(t *testing.T) {
	kind, config := newBench(t, "stages:\n  - plugin: {command: [SELF]}\n  - provider\n").declared("plugin")
	coretest.Stage(t, kind, config)
}
