package gateway

import (
	"context"
	"fmt"
	"os"

	"github.com/dragoman-mt/dragoman/core"
)

// A lazy is a stage that never returns from the call that its configuration names, whatever
// becomes of the context. The program of these tests is a gateway with it when it is called
// sloth: another one would have to be linked, for seconds.
type lazy struct{ at string }

type lazyConfig struct {
	Hang string `json:"hang"`
}

func lazyKind() core.Kind {
	return core.NewKind("sloth", core.RoleStage, "Never returns.", func() lazyConfig { return lazyConfig{} },
		func(_ core.Env, c *lazyConfig) (any, error) {
			s := &lazy{c.Hang}
			s.hang("build")
			return s, nil
		})
}

func (s *lazy) hang(call string) {
	if s.at != call {
		return
	}
	fmt.Fprintln(os.Stderr, "sloth hangs at", call)
	select {}
}

func (s *lazy) Start(context.Context) error { s.hang("start"); return nil }
func (s *lazy) Probe(context.Context) error { s.hang("probe"); return nil }
func (s *lazy) Ready() error                { return nil }
func (s *lazy) Close() error                { s.hang("close"); return nil }
func (s *lazy) Outdated() bool              { s.hang("outdated"); return false }

func (s *lazy) Wrap(next core.Translator) core.Translator {
	return core.TranslatorFunc(func(ctx context.Context, req *core.Request) (*core.Result, error) {
		if req.Text == "endless" && s.at == "translate" {
			fmt.Fprintln(os.Stderr, "sloth hangs at translate")
			for { // a computation, not a wait
			}
		}
		return next.Translate(ctx, req)
	})
}
