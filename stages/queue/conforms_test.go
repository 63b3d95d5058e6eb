package queue

import (
	"testing"

	"github.com/dragoman-mt/dragoman/core/coretest"
)

func TestConforms(t *testing.T) { coretest.Gate(t, Kind(), nil) }
