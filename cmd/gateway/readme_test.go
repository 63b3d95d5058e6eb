package gateway

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A snippet is a fenced block of a README.
type snippet struct {
	place    string // file:line
	language string
	text     string
}

// snippets returns every fenced block of the repository's Markdown.
func snippets(t *testing.T) []snippet {
	t.Helper()
	top := repository(t)
	var all []snippet
	err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && strings.HasPrefix(d.Name(), ".") && path != top {
			return filepath.SkipDir
		}
		if filepath.Ext(path) != ".md" {
			return nil
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(top, path)
		number, open := 0, false
		var s snippet
		for line := range strings.Lines(string(raw)) {
			number++
			fence, is := strings.CutPrefix(strings.TrimSpace(line), "```")
			switch {
			case is && !open:
				open, s = true, snippet{place: fmt.Sprintf("%s:%d", name, number), language: strings.TrimSpace(fence)}
			case is:
				open = false
				all = append(all, s)
			case open:
				s.text += line
			}
		}
		if open {
			return fmt.Errorf("%s: the block is never closed", s.place)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestEveryYAMLSnippetIsAConfiguration loads every ```yaml block as a whole
// pipeline.yaml, with the folder examples beside it. The plugins that some name are not.
func TestEveryYAMLSnippetIsAConfiguration(t *testing.T) {
	checked := 0
	for _, s := range snippets(t) {
		if s.language != "yaml" {
			continue
		}
		checked++
		file := write(t, s.text)
		if err := os.Symlink(filepath.Join(repository(t), "examples"), filepath.Join(filepath.Dir(file), "examples")); err != nil {
			t.Fatal(err)
		}
		if out, errs, status := commandHere(t, "", nil, "", "check", "--offline", "--no-plugins", "--config", file); status != 0 {
			t.Errorf("%s: status %d\n%s%s", s.place, status, out, errs)
		}
	}
	if checked < 5 {
		t.Errorf("%d blocks were checked: the test looks at nothing", checked)
	}
}

// TestEveryShellSnippetRuns runs every ```sh block in the checkout, with a
// gateway where the block expects one.
func TestEveryShellSnippetRuns(t *testing.T) {
	s := simulate(t)
	env := []string{"OPENAI_BASE_URL=" + s.base, "OPENAI_API_KEY=x"}
	g := serveFile(t, filepath.Join(repository(t), "pipeline.yaml"), env)
	address := strings.TrimPrefix(g.url, "http://")
	ran := 0
	for _, s := range snippets(t) {
		if s.language != "sh" && s.language != "bash" {
			continue
		}
		ran++
		text := strings.NewReplacer("localhost:8080", address, "127.0.0.1:8080", address, "bin/dragoman", filepath.Join(programs, "dragoman"),
			"bin/openai-sim", filepath.Join(programs, "openai-sim")).Replace(s.text)
		// -f makes curl fail when the gateway refuses.
		cmd := exec.Command("bash", "-euo", "pipefail", "-c", "curl() { command curl -f \"$@\"; }\n"+text)
		cmd.Dir = repository(t)
		cmd.Env = append(clean(os.Environ()), env...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s%s", s.place, err, s.text, out)
		}
	}
	if ran < 3 {
		t.Errorf("%d blocks were run: the test looks at nothing", ran)
	}
}

// TestMakeRunServesAndAnswers is the first five minutes of a newcomer: make
// run, the printed curl, Ctrl-C.
func TestMakeRunServesAndAnswers(t *testing.T) {
	if os.Getenv("MAKELEVEL") == "" {
		if _, err := exec.LookPath("make"); err != nil {
			t.Skip("make is not installed")
		}
	}
	run := start(t, repository(t), []string{"PATH=" + os.Getenv("PATH")}, "make", "run", "ARGS=--set server.listen=127.0.0.1:0 --set server.deadline=60s")
	url := run.see(`at (http://127\.0\.0\.1:\d+)`)
	before, _, _ := strings.Cut(run.output(), "Dragoman serves")
	said := 0
	for line := range strings.Lines(before) {
		switch {
		case strings.HasPrefix(line, "installing Debian packages"), strings.HasPrefix(line, "Apertium is not installed"):
		case strings.Contains(line, "the plugin serves"):
		case strings.HasPrefix(line, "answers: "):
			said++
		default:
			t.Errorf("before the address stands %q", line)
		}
	}
	if said != 1 {
		t.Errorf("%d lines before the address say what answers, want one:\n%s", said, before)
	}
	g := &gatewayProcess{process: run, url: url}
	const text = "Good morning. The new car is very fast."
	first, second := g.ask(text), g.ask(text)
	if _, err := os.Stat("/usr/share/apertium/modes/eng-spa.mode"); err == nil && (first.text(t) != "Buenos días. El coche nuevo es muy rápido." || first.Translations[0].Provider != "apertium") {
		t.Errorf("Apertium is installed, and the answer is %+v", first)
	}
	if first.text(t) != second.text(t) || !second.Translations[0].Cached {
		t.Errorf("%+v then %+v", first, second)
	}
	streamed := false
	for _, s := range snippets(t) {
		if !strings.HasPrefix(s.place, "README.md:") || !strings.Contains(s.text, `"stream":true`) {
			continue
		}
		streamed = true
		out, err := exec.Command("bash", "-c", strings.ReplaceAll(s.text, "localhost:8080", strings.TrimPrefix(url, "http://"))).Output()
		if pieces := strings.Count(string(out), "event: delta"); err != nil || first.Translations[0].Provider == "apertium" && pieces < 2 {
			t.Errorf("%s: the answer came in %d pieces, %v:\n%s", s.place, pieces, err, out)
		}
	}
	if !streamed {
		t.Error("the README shows no call that streams")
	}
	syscall.Kill(-run.cmd.Process.Pid, syscall.SIGINT)
	run.wait()
	left, _ := exec.Command("pgrep", "-g", fmt.Sprint(run.cmd.Process.Pid)).Output()
	if len(left) > 0 {
		t.Errorf("processes are left: %s", left)
	}
}
