package main

import (
	"fmt"
	"testing"

	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/coretest"
	"github.com/dragoman-mt/dragoman/stages/openai/openaitest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func configured(t *testing.T) (*Config, *openaitest.Server) {
	t.Helper()
	sim, err := openaitest.Start(openaitest.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sim.Close() })
	config := kind().Config().(*Config)
	config.BaseURL, config.APIKey = sim.URL(), "key"
	return config, sim
}

func TestConforms(t *testing.T) {
	config, _ := configured(t)
	coretest.Provider(t, core.Env{Name: "openai-direct", Log: zap.NewNop()}, kind(), config)
}

func TestEachCallHasAConnectionOfItsOwn(t *testing.T) {
	config, sim := configured(t)
	built, err := kind().Build(core.Env{Name: "openai-direct", Log: zap.NewNop()}, config)
	if err != nil {
		t.Fatal(err)
	}
	p := built.(*provider)
	defer p.Close()
	for i := range 5 {
		if _, err := p.Translate(t.Context(), &core.Request{Text: fmt.Sprint("Train number ", i), Source: "en", Target: "es", Trace: core.NewTrace(nil)}); err != nil {
			t.Fatal(err)
		}
	}
	if s := sim.Stats(); s.Connections != 5 {
		t.Errorf("%d connections for 5 calls", s.Connections)
	}
}

func TestAMistakeIsOneOfTheProvidersKeys(t *testing.T) {
	config, _ := configured(t)
	config.CAFile = "/there/is/no/such.pem"
	if _, err := kind().Build(core.Env{Name: "x", Log: zap.NewNop()}, config); err == nil {
		t.Error("a ca_file that is not there passes")
	}
	config.CAFile, config.BaseURL = "", "ftp://x"
	if _, err := kind().Build(core.Env{Name: "x", Log: zap.NewNop()}, config); err == nil {
		t.Error("a base_url that is none passes")
	}
}
