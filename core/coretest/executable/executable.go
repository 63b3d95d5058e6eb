// Package executable writes the programs and scripts that tests start.
package executable

import (
	"os"
	"syscall"

	"testing"
)

// Write puts text into a file that every user may start, in place when it is there.
//
// Nothing is forked meanwhile. The child of another test would hold the file open for
// writing until it is another program, and a file that somebody writes cannot be
// started: "text file busy".
func Write(t testing.TB, file, text string) {
	t.Helper()
	syscall.ForkLock.RLock()
	err := os.WriteFile(file, []byte(text), 0o755)
	if err == nil {
		err = os.Chmod(file, 0o755) // whatever the umask is, and the mode of what was there
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		t.Fatal(err)
	}
}
