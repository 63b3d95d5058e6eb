package provider_test

import (
	"testing"

	"github.com/dragoman-mt/dragoman/core/coretest"
	"github.com/dragoman-mt/dragoman/stages/provider"
)

func TestConforms(t *testing.T) {
	config := provider.Kind().Config().(*provider.Config)
	config.Use = "openai"
	coretest.Stage(t, provider.Kind(), config)
}
