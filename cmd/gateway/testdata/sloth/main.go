// Command sloth is a gateway with a stage that never returns from the call that its
// configuration names, whatever becomes of the context. Tests of the process serve with it.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/dragoman-mt/dragoman/cmd/gateway"
	"github.com/dragoman-mt/dragoman/core"
)

func main() { gateway.Main(kind()) }

type sloth struct{ at string }

type slothConfig struct {
	Hang string `json:"hang"`
}

func kind() core.Kind {
	return core.NewKind("sloth", core.RoleStage, "Never returns.", func() slothConfig { return slothConfig{} },
		func(_ core.Env, c *slothConfig) (any, error) {
			s := &sloth{c.Hang}
			s.hang("build")
			return s, nil
		})
}

func (s *sloth) hang(call string) {
	if s.at != call {
		return
	}
	fmt.Fprintln(os.Stderr, "sloth hangs at", call)
	select {}
}

func (s *sloth) Start(context.Context) error { s.hang("start"); return nil }
func (s *sloth) Probe(context.Context) error { s.hang("probe"); return nil }
func (s *sloth) Ready() error                { return nil }
func (s *sloth) Close() error                { s.hang("close"); return nil }
func (s *sloth) Outdated() bool              { s.hang("outdated"); return false }

func (s *sloth) Wrap(next core.Translator) core.Translator {
	return core.TranslatorFunc(func(ctx context.Context, req *core.Request) (*core.Result, error) {
		if req.Text == "endless" && s.at == "translate" {
			fmt.Fprintln(os.Stderr, "sloth hangs at translate")
			for { // a computation, not a wait
			}
		}
		return next.Translate(ctx, req)
	})
}
