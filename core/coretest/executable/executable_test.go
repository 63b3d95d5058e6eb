package executable

import (
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// TestWhatIsWrittenCanBeStartedAtOnce has other programs be started all the while.
func TestWhatIsWrittenCanBeStartedAtOnce(t *testing.T) {
	dir := t.TempDir()
	long := "#!/bin/sh\necho started\nexit\n" + strings.Repeat("#", 1<<20) // it takes long to write
	var all sync.WaitGroup
	for name := range 4 {
		all.Go(func() {
			for range 10 {
				file := filepath.Join(dir, string(rune('a'+name)))
				Write(t, file, long)
				if out, err := exec.Command(file).Output(); err != nil || string(out) != "started\n" {
					t.Errorf("%q, %v", out, err)
				}
			}
		})
	}
	all.Wait()
}
