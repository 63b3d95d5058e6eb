package provider_test

import (
	"github.com/dragoman-mt/dragoman/core"
	"testing"

	"github.com/dragoman-mt/dragoman/core/coretest"
	"github.com/dragoman-mt/dragoman/stages/provider"
)

func TestConforms(t *testing.T) {
	config := provider.Kind().Config().(*provider.Config)
	config.Use = core.Names{"openai"}
	coretest.Stage(t, provider.Kind(), config)
}
