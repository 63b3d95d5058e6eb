package openai

import (
	"testing"

	"go.uber.org/zap"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/pool"
	"github.com/dragoman-mt/dragoman/stages/openai/openaitest"
)

// An upstream that closes an idle connection in the moment of its reuse fails
// nobody: the pool sends the call again, which takes a body that it can ask for.
func TestAnIdleCloseInTheMomentOfReuseFailsNobody(t *testing.T) {
	sim := simulate(t, openaitest.Config{})
	conns, err := pool.New(pool.Defaults(), zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	defer conns.Close()
	cfg := defaults()
	cfg.BaseURL, cfg.APIKey = sim.URL(), key
	built, err := Kind().Build(core.Env{Name: "main", Log: zap.NewNop(), Upstream: conns}, &cfg)
	if err != nil {
		t.Fatal(err)
	}
	p := built.(*Provider)
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	// The fault waits for a connection that was used before, and the pool may still be making new ones.
	for i := 0; i < 20 || i < 1000 && sim.Stats().Faults[openaitest.IdleClose] == 0; i++ {
		if i == 10 {
			sim.FailNext(1, openaitest.IdleClose)
		}
		if _, err := p.Translate(t.Context(), ask("hello")); err != nil {
			t.Errorf("call %d: %v", i, err)
		}
	}
	if n := sim.Stats().Faults[openaitest.IdleClose]; n != 1 {
		t.Errorf("the fault happened %d times, want once", n)
	}
}
