package sdk

import (
	"bufio"
	"io"
	"strings"
	"syscall"
	"testing"
)

func deadWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}

func TestItEndsWithItsParent(t *testing.T) {
	cmd := self(t, "DRAGOMAN_TEST_PARENT="+t.TempDir())
	if _, err := cmd.StdinPipe(); err != nil { // held open until the end
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	out := bufio.NewReader(stdout)
	if line, err := out.ReadString('\n'); err != nil || !strings.HasPrefix(line, "1|1|unix|") {
		t.Fatalf("%q, %v", line, err)
	}
	cmd.Process.Kill()
	// Standard output is shared with the plugin: it ends when that has ended too.
	io.Copy(io.Discard, out)
	cmd.Wait()
}
