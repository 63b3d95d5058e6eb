package main

import (
	"os"
	"reflect"
	"strings"
	"syscall"
	"testing"
)

// TestTheProviderIsRolledBackByHandAndBack edits the file, as an operator does,
// and starts the gateway again.
func TestTheProviderIsRolledBackByHandAndBack(t *testing.T) {
	s := simulate(t, "--tls")
	pooled := direct(s, "{use: openai}")
	file := write(t, pooled)
	serve := func() (texts map[string]string, calls, connections int) {
		t.Helper()
		g := serveFile(t, file, nil)
		calls, connections = s.asked()
		texts = g.texts(40)
		calls2, connections2 := s.asked()
		g.signal(syscall.SIGTERM)
		if g.wait() != 0 {
			t.Error(g.output())
		}
		return texts, calls2 - calls, connections2 - connections - 1 // that of the question itself
	}
	edit := func(yaml string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(yaml), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	before, calls, connections := serve()
	if calls != 40 || connections >= calls {
		t.Errorf("pooled: %d connections for %d calls", connections, calls)
	}
	edit(strings.Replace(pooled, "{use: openai}", "{use: direct}", 1))
	during, calls, connections := serve()
	// The question at the start may come just before or after that of the test.
	if calls != 40 || connections < calls || connections > calls+1 {
		t.Errorf("direct: %d connections for %d calls", connections, calls)
	}
	edit(pooled)
	after, calls, connections := serve()
	if calls != 40 || connections >= calls {
		t.Errorf("pooled again: %d connections for %d calls", connections, calls)
	}
	if !reflect.DeepEqual(before, during) || !reflect.DeepEqual(before, after) {
		t.Errorf("other texts:\n%q\n%q\n%q", before, during, after)
	}
}
