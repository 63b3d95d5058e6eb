package gateway

import (
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// endless are files that hold up, or feed for ever, whoever reads them as if they
// were regular ones, by what is said of them.
func endless(t *testing.T) map[string]string {
	t.Helper()
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o700); err != nil {
		t.Fatal(err)
	}
	return map[string]string{"a pipe": pipe, "a device": "/dev/zero"}
}

// soon fails the test when f takes longer than a program needs to start and to say
// no, on a busy machine.
func soon(t *testing.T, what string, f func()) {
	t.Helper()
	began := time.Now()
	f()
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("%s took %v", what, took)
	}
}

func TestAPipeOrADeviceIsRefusedAtOnceWhereverAFileIsNamed(t *testing.T) {
	for what, name := range endless(t) {
		for _, args := range [][]string{{"serve"}, {"check"}, {"check", "--offline"}, {"explain"}, {"test"}} {
			soon(t, strings.Join(args, " "), func() {
				_, errs, status := commandHere(t, t.TempDir(), nil, "", append(args, "--config", name)...)
				if status != 1 || !strings.Contains(errs, name+": the file cannot be read: this is "+what) {
					t.Errorf("%v of %s: status %d, errors:\n%s", args, what, status, errs)
				}
			})
		}
		for place, line := range map[string]string{
			"pool.ca_file":    "pool: {ca_file: " + name + "}\n",
			"glossaries.a":    "glossaries: {a: " + name + "}\n",
			"stages[0].cache": "x-preload: &preload {preload: [" + name + "]}\n",
		} {
			file := write(t, line+`version: 1
providers: {openai: {type: openai, api_key: x, base_url: "http://127.0.0.1:9/v1"}}
stages:
  - cache: {<<: [`+map[bool]string{true: "*preload"}[strings.HasPrefix(line, "x-")]+`]}
  - provider: {use: openai}
`)
			for _, args := range [][]string{{"serve", "--set", "server.listen=127.0.0.1:0"}, {"check"}, {"check", "--offline"}} {
				soon(t, strings.Join(args, " "), func() {
					_, errs, status := commandHere(t, filepath.Dir(file), nil, "", args...)
					if status != 1 || !strings.Contains(errs, place) || !strings.Contains(errs, name+": this is "+what) {
						t.Errorf("%v with %s as %s: status %d, errors:\n%s", args, what, place, status, errs)
					}
				})
			}
		}
	}
}

func TestAPipeInAReloadIsRefusedAndHoldsNoOtherUp(t *testing.T) {
	s := simulate(t, "--key", "good")
	good := strings.NewReplacer("BASE", s.base, "DIRECT", filepath.Join(programs, "openai-direct")).Replace(sound)
	g := serveAndEdit(t, good)
	if v := g.reload(strings.Replace(good, "max_concurrent: 6", "max_concurrent: 4", 1)); v.Status != http.StatusOK {
		t.Fatal(v.Text)
	}
	for what, name := range endless(t) {
		for _, edit := range [][2]string{{"max_connections: 16", "ca_file: " + name}, {"- cache", "- cache: {preload: [" + name + "]}"}} {
			soon(t, "the reload", func() {
				g.edit(strings.Replace(good, edit[0], edit[1], 1))
				if v := g.try(""); v.Status != http.StatusUnprocessableEntity || !strings.Contains(strings.Join(v.Errors, "\n"), "this is "+what) {
					t.Errorf("%s: %d %s", edit[1], v.Status, v.Text)
				}
			})
			g.ask("It serves on beside " + edit[1]).text(t)
		}
	}
	soon(t, "going back", func() {
		// The refused save is undone first, which was never served; then what serves.
		for _, want := range []string{"unchanged", "reloaded"} {
			if v := g.try("?previous=true"); v.Status != http.StatusOK || v.Outcome != want {
				t.Errorf("%d %q %s", v.Status, v.Outcome, v.Text)
			}
		}
	})
	soon(t, "the end", func() { g.signal(syscall.SIGTERM); g.wait() })
}
