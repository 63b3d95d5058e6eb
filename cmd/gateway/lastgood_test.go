package gateway

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestLastGoodServesWhatServedLastWhateverIsWrongWithTheFile(t *testing.T) {
	s := simulate(t)
	good := pipeline(s, "pooled", "")
	broken := map[string]string{
		"it cannot be read":    "stages: [",
		"it cannot be checked": strings.Replace(good, "pooled", "poled", 1),
		"it cannot be built":   strings.Replace(good, "  - cache\n", "  - plugin: {}\n", 1),
		"it cannot be started": strings.Replace(good, "  - cache\n", "  - cache: {preload: [nowhere.tsv]}\n", 1),
	}
	for name, yaml := range broken {
		t.Run(name, func(t *testing.T) {
			file := write(t, good)
			env := []string{"XDG_STATE_HOME=" + t.TempDir()}
			args := []string{"serve", "--config", file, "--set", "server.listen=127.0.0.1:0"}
			_, none, status := commandHere(t, "", env, "", append(args, "--last-good", "--set", "pool.mode=no")...)
			if status != 1 || !strings.Contains(none, "--last-good finds nothing else to serve") {
				t.Errorf("with nothing kept: status %d\n%s", status, none)
			}
			g := serveFile(t, file, env)
			g.signal(syscall.SIGTERM)
			g.wait()

			if err := os.WriteFile(file, []byte(yaml), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, errs, status := commandHere(t, "", env, "", args...); status != 1 || !strings.Contains(errs, filepath.Base(file)+":") {
				t.Errorf("without --last-good: status %d\n%s", status, errs)
			}
			g = serveFile(t, file, env, "--last-good")
			if !strings.Contains(g.output(), "cannot be served, so what served at") {
				t.Error(g.output())
			}
			if a := g.ask("The kettle is boiling."); a.text(t) == "" {
				t.Errorf("%+v", a)
			}
			if got := g.metric("dragoman_config_file_differs"); got != "1" {
				t.Errorf("the file differs: %s", got)
			}
			// A mended file is taken over as always.
			if err := os.WriteFile(file, []byte(good+fmt.Sprintln("# mended")), 0o600); err != nil {
				t.Fatal(err)
			}
			g.see(`reloaded generation 2 \(was 1\)`)
		})
	}
}
