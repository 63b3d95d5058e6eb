package gateway

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestTheNightInTheREADMEIsAsItHappens runs the README's console block, command
// by command in one shell, in a folder with the shipped pipeline.yaml, and holds
// what is printed against the page. Numbers and times are others.
func TestTheNightInTheREADMEIsAsItHappens(t *testing.T) {
	t.Parallel() // it waits most of the time
	var page []string
	for _, s := range snippets(t) {
		if s.language == "console" && strings.HasPrefix(s.place, "README.md") {
			page = strings.Split(strings.TrimSpace(s.text), "\n")
		}
	}
	if len(page) < 20 {
		t.Fatalf("the README's transcript has %d lines", len(page))
	}

	s := simulate(t, "--engine", "pseudo")
	dir := t.TempDir()
	raw, err := os.ReadFile(filepath.Join(repository(t), "pipeline.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	port := freePort(t)
	here := func(s string) string { return strings.ReplaceAll(s, "8080", port) }
	if err := os.WriteFile(filepath.Join(dir, "pipeline.yaml"), []byte(here(string(raw))), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(repository(t), "examples"), filepath.Join(dir, "examples")); err != nil {
		t.Fatal(err)
	}

	sh := newShell(t, dir, "PATH="+programs+":"+os.Getenv("PATH"), "OPENAI_BASE_URL="+s.base, "OPENAI_API_KEY=x", "XDG_STATE_HOME="+t.TempDir())
	broken := false
	for i := 0; i < len(page); {
		command, ok := strings.CutPrefix(page[i], "$ ")
		if !ok {
			t.Fatalf("line %d is no command: %s", i+1, page[i])
		}
		want := ""
		for i++; i < len(page) && !strings.HasPrefix(page[i], "$ "); i++ {
			want += page[i] + "\n"
		}
		switch {
		case strings.Contains(command, "Stand clear") && !broken:
			// From here on connections that idle are lost on the way.
			broken = true
			s.configure(`{"forget": "1ms"}`)
		case strings.Contains(command, "/mode: direct/"):
			// So they still are. A connection of its own may wait a while for its
			// request where the machine is busy.
			s.configure(`{"forget": "2s"}`)
		case strings.Contains(command, "the network is mended"):
			s.configure(`{"forget": "0s"}`)
		}
		got := sh.run(here(command), strings.Count(want, "\n"))
		if masked(got) == masked(here(want)) {
			continue
		}
		// The gateway may have followed the file before it was told to.
		log, _ := os.ReadFile(filepath.Join(dir, "gateway.log"))
		if strings.HasPrefix(got, "nothing to do: ") && strings.Contains(masked(string(log)), strings.TrimSpace(masked(here(want)))) {
			continue
		}
		t.Fatalf("$ %s\ngot  %s\nwant %s\nlog:\n%s", command, got, want, log)
	}
	answer, err := os.ReadFile(filepath.Join(dir, "answer"))
	if err != nil || !bytes.Contains(answer, []byte("[es] Stand clear of the doors.")) {
		t.Errorf("%s, %v", answer, err)
	}
}

// masked is text without what differs from one night to the next.
func masked(text string) string {
	text = regexp.MustCompile(`\d\d\d\d-\d\d-\d\d|\d\d:\d\d:\d\d`).ReplaceAllString(text, "TIME")
	text = regexp.MustCompile(`[0-9.]+(µs|ms|s\b| s\b)`).ReplaceAllString(text, "SO LONG")
	return regexp.MustCompile(`\d+ (connections?|entry|entries)`).ReplaceAllString(text, "N $1")
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// A shell is one bash that a test types commands into.
type shell struct {
	t     *testing.T
	in    io.Writer
	lines chan string
}

func newShell(t *testing.T, dir string, env ...string) *shell {
	t.Helper()
	cmd := exec.Command("bash", "--norc")
	cmd.Dir, cmd.Env = dir, append(clean(os.Environ()), env...)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	s := &shell{t, in, make(chan string, 100)}
	go func() {
		defer close(s.lines)
		for scan := bufio.NewScanner(out); scan.Scan(); {
			s.lines <- scan.Text()
		}
	}()
	t.Cleanup(func() {
		io.WriteString(in, "kill $(jobs -p) 2>/dev/null; wait; exit\n")
		in.Close()
		for range s.lines { // until the last that holds it has ended
		}
		cmd.Wait()
		out.Close()
	})
	return s
}

// run types a command and returns what is printed until it has ended, and, of
// one in the background, its first lines.
func (s *shell) run(command string, lines int) string {
	s.t.Helper()
	const end = "-- ended --"
	io.WriteString(s.in, command+"\necho '"+end+"'\n")
	got, deadline := "", time.After(30*time.Second)
	for ended := false; !ended || strings.HasSuffix(command, "&") && lines > 0; {
		select {
		case line, ok := <-s.lines:
			switch {
			case !ok:
				s.t.Fatalf("the shell ended in %s\n%s", command, got)
			case line == end:
				ended = true
			default:
				got += line + "\n"
				lines--
			}
		case <-deadline:
			s.t.Fatalf("$ %s: after 30 s there is only\n%s", command, got)
		}
	}
	return got
}
