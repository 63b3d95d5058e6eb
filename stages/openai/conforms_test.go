package openai

import (
	"testing"

	"go.uber.org/zap"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/coretest"
	"github.com/dragoman-mt/dragoman/core/pool"
	"github.com/dragoman-mt/dragoman/stages/openai/openaitest"
)

func TestConforms(t *testing.T) {
	sim, err := openaitest.Start(openaitest.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer sim.Close()
	upstream, err := pool.New(pool.Defaults(), zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	defer upstream.Close()
	config := Kind().Config().(*Config)
	config.BaseURL, config.APIKey = sim.URL(), "key"
	coretest.Provider(t, core.Env{Name: "openai", Log: zap.NewNop(), Upstream: upstream}, Kind(), config)
}
