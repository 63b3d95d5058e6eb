package core_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/dragoman-mt/dragoman/"

// arrows says which packages of ours a package may import, by longest matching
// prefix. A pattern that ends in / stands for everything below it. What is not
// listed may import nothing of ours; cmd/ may import everything.
var arrows = []struct {
	from string
	to   []string
}{
	{"core", nil},
	{"core/chain", []string{"core"}},
	{"core/line", []string{"core"}},
	{"core/ledger", []string{"core"}},
	{"core/pool", []string{"core/files"}},
	{"core/exchange", []string{"core"}},
	{"core/exchange/exchangetest", []string{"core", "core/coretest", "core/exchange", "core/pool"}}, // servers for the tests of those who call them
	{"core/files", nil}, // and whoever reads a file that a configuration names, or replaces one, may import it: there is one way to do that
	{"core/config", []string{"core", "core/fields", "core/files", "core/lazy", "core/schema"}},
	{"core/fields", []string{"core"}},
	{"core/lazy", nil},
	{"core/schema", []string{"core", "core/fields", "core/lazy"}},
	{"core/engine", []string{"core", "core/chain", "core/config"}},
	{"core/engine/enginetest", []string{"core", "core/config"}}, // parts for tests, of what keeps and closes parts
	{"core/reload", []string{"core", "core/config", "core/engine", "core/files", "core/state"}},
	{"core/state", []string{"core/config"}},
	{"core/text/", []string{"core", "core/lazy", "core/text/"}},
	{"core/usage", []string{"core"}},
	{"core/history", nil},
	{"core/heap", nil},
	{"core/trace", []string{"core", "core/files"}},
	{"core/shared", []string{"core", "core/lazy"}},
	{"core/shared/sharedtest", nil}, // a Redis for tests
	{"core/trace/tracetest", nil},   // a collector for tests
	{"core/door", []string{"core", "core/lazy", "core/text/", "core/trace", "core/usage"}},
	{"core/door/", []string{"core", "core/door", "core/files", "core/lazy", "core/text/", "core/usage"}}, // files, for what they keep in the state folder
	{"core/door/admin", []string{"core", "core/chain", "core/door", "core/history", "core/usage"}},       // it shows what a tap sees
	{"core/door/live", []string{"core", "core/door", "core/live", "core/text/", "core/usage"}},
	{"core/live", []string{"core", "core/text/"}},
	{"core/live/livetest", []string{"core"}},
	{"core/live/traffic", nil},
	{"core/coretest", []string{"core", "core/chain"}},
	{"core/coretest/executable", nil},
	{"core/coretest/property", nil},
	{"stages", []string{"core", "stages/"}},
	{"stages/", []string{"core", "core/exchange", "core/files", "core/lazy", "core/ledger", "core/line", "core/pool", "core/text/"}},
	{"stages/openai/openaitest", []string{"core", "core/text/", "plugins/apertium/engine"}},
	{"plugins/apertium", []string{"core", "plugins/apertium/engine", "plugins/sdk"}},
	{"plugins/apertium/engine", []string{"core", "core/files"}},
	{"plugins/wire", []string{"core"}},
	{"plugins/openai-direct", []string{"core", "core/pool", "plugins/sdk", "stages/openai"}},
	{"plugins/host", []string{"core", "core/files", "plugins/wire"}},
	{"plugins/scaffold", []string{"core/lazy"}},
	{"plugins/plugintest", []string{"core/coretest/property"}},
	{"plugins/verify", []string{"core", "core/schema", "plugins/wire"}},
	{"plugins/sdk", []string{"core", "core/fields", "core/heap", "plugins/wire"}},
	{"examples/", []string{"core"}},
	{"examples/mask/mask-plugin", []string{"examples/mask", "plugins/sdk"}},
	{"cmd/", []string{""}},
}

func matches(pattern, path string) bool {
	return pattern == "" || path == pattern || strings.HasSuffix(pattern, "/") && strings.HasPrefix(path, pattern)
}

func allowed(from, to string) bool {
	best := -1
	for i, a := range arrows {
		if matches(a.from, from) && (best < 0 || len(a.from) > len(arrows[best].from)) {
			best = i
		}
	}
	if best < 0 {
		return false
	}
	for _, pattern := range arrows[best].to {
		if matches(pattern, to) {
			return true
		}
	}
	return false
}

// TestImportsFollowTheArrows fails when a package knows what it should not.
func TestImportsFollowTheArrows(t *testing.T) {
	list := exec.Command("go", "list", "-f", `{{.ImportPath}}:{{range .Imports}} {{.}}{{end}}`, module+"...")
	out, err := list.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	packages := 0
	for line := range strings.Lines(string(out)) {
		from, imports, _ := strings.Cut(strings.TrimSpace(line), ":")
		from, ours := strings.CutPrefix(from, module)
		if !ours {
			continue
		}
		packages++
		for _, to := range strings.Fields(imports) {
			if to, ours := strings.CutPrefix(to, module); ours && !allowed(from, to) {
				t.Errorf("%s imports %s, which no arrow allows: move the code, or argue for the arrow here", from, to)
			}
		}
	}
	if packages < 10 {
		t.Errorf("go list named %d packages of ours: the test looks at nothing", packages)
	}
}

// TestTheLinkerCanLeaveOutWhatNobodyCalls fails when a part of the product imports a
// package that calls methods by names which it reads: then the linker keeps every method
// of every type, and the program is 5 MB larger.
func TestTheLinkerCanLeaveOutWhatNobodyCalls(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "-f", `{{if not .Standard}}{{.ImportPath}}:{{range .Imports}} {{.}}{{end}}{{end}}`, "-tags=grpcnotrace", module+"cmd/dragoman").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	for line := range strings.Lines(string(out)) {
		from, imports, _ := strings.Cut(strings.TrimSpace(line), ":")
		for _, to := range strings.Fields(imports) {
			// cobra does, in functions that nobody calls here.
			if (to == "text/template" || to == "html/template") && from != "github.com/spf13/cobra" {
				t.Errorf("%s imports %s", from, to)
			}
		}
	}
}

// TestTheProductHoldsNoSimulator fails when bin/dragoman would hold what pretends to be
// something else, for tests and for measurements.
func TestTheProductHoldsNoSimulator(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", module+"cmd/dragoman").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	parts := 0
	for path := range strings.Lines(string(out)) {
		path, ours := strings.CutPrefix(strings.TrimSpace(path), module)
		if !ours {
			continue
		}
		parts++
		if strings.HasSuffix(path, "test") || strings.HasPrefix(path, "cmd/internal/lab/") || strings.HasPrefix(path, "examples/") {
			t.Errorf("cmd/dragoman holds %s", path)
		}
	}
	if parts < 10 {
		t.Errorf("go list named %d packages of ours: the test looks at nothing", parts)
	}
}

// TestEveryRoomIsInTheTable holds the rooms that doc.go lists against the tree.
func TestEveryRoomIsInTheTable(t *testing.T) {
	raw, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(raw), "// # Rooms\n")
	rooms := map[string]int{}
	for line := range strings.Lines(table) {
		if fields := strings.Fields(strings.TrimPrefix(line, "//\t")); strings.HasPrefix(line, "//\t") && len(fields) > 2 {
			rooms[fields[0]] = 0
		}
	}
	out, err := exec.Command("go", "list", module+"...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	for path := range strings.Lines(string(out)) {
		path = strings.TrimPrefix(strings.TrimSpace(path), module)
		room := path
		for _, is := rooms[room]; !is && strings.Contains(room, "/"); _, is = rooms[room] {
			room = room[:strings.LastIndex(room, "/")]
		}
		if _, is := rooms[room]; !is || room == "core" && path != "core" {
			t.Errorf("%s is in no room that the table in doc.go lists", path)
		}
		rooms[room]++
	}
	for room, packages := range rooms {
		if packages == 0 {
			t.Errorf("the table in doc.go lists %s, which is not there", room)
		}
	}
}

// TestAnArrowTheWrongWayIsRefused proves that the table above refuses at all.
func TestAnArrowTheWrongWayIsRefused(t *testing.T) {
	for _, wrong := range [][2]string{
		{"core", "core/chain"}, {"core/pool", "core"}, {"core/line", "core/pool"},
		{"stages/cache", "stages/queue"}, {"stages/cache", "core/chain"}, {"stages/openai", "core/config"},
		{"core/door/native", "core/engine"}, {"core/door", "core/door/native"}, {"plugins/host", "stages/cache"},
		{"core/engine", "stages/cache"}, {"core/somewhere", "core"}, {"plugins/sdk", "core/config"},
	} {
		if allowed(wrong[0], wrong[1]) {
			t.Errorf("%s -> %s is allowed", wrong[0], wrong[1])
		}
	}
	for _, right := range [][2]string{{"cmd/gateway", "stages/openai"}, {"stages/cache", "core"}, {"stages/provider", "core/line"}, {"core/door/native", "core/door"}} {
		if !allowed(right[0], right[1]) {
			t.Errorf("%s -> %s is refused", right[0], right[1])
		}
	}
}
