// Package plugintest is for tests that start their own program as a plugin.
package plugintest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/dragoman-mt/dragoman/core/coretest/property"
)

// Main runs the tests of a package whose TestMain is also the main of plugins, and ends
// the process. Before, it puts into twin where the program is that tests are to start: this
// one, or when the race detector is in it, the same without, which starts several times as
// fast. What a plugin's side of the protocol does wrong the detector finds in plugins/sdk.
func Main(m *testing.M, twin *string) {
	dir, err := os.MkdirTemp("", "dragoman-twin-")
	if err == nil {
		*twin, err = build(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "building the plugin:", err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		os.RemoveAll(dir)
		os.Exit(code)
	}))
}

// build returns the program of the tests in the working folder, without race detector.
func build(dir string) (string, error) {
	if !property.Raced {
		return os.Executable()
	}
	twin := filepath.Join(dir, "plugin")
	cmd := exec.Command("go", "test", "-c", "-ldflags=-w", "-o", twin, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	cmd.Stderr = os.Stderr
	return twin, cmd.Run()
}
