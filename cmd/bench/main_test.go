package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestMain is also the roles: a row starts this program once more.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == roleFlag {
		os.Exit(play(os.Args[2:]))
	}
	os.Exit(m.Run())
}

func TestBothEchoesAnswer(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// A Unix socket's path is short.
	temp, err := os.MkdirTemp("", "bench")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(temp)
	var c closers
	defer c.close()
	ours, bare, err := (&lab{self: self, temp: temp}).echoes(t.Context(), &c)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := inTurns(t.Context(), 0, inFlight, 2*inFlight, ours, bare); err != nil {
		t.Error(err)
	}
}

func TestTheBareEchoEndsWithTheBench(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	theirs, ours, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	cmd := exec.CommandContext(t.Context(), self, roleFlag, "bare-echo")
	cmd.Env = []string{bareHandshake.MagicCookieKey + "=" + bareHandshake.MagicCookieValue, "PLUGIN_PROTOCOL_VERSIONS=1", "PLUGIN_UNIX_SOCKET_DIR=" + t.TempDir()}
	cmd.ExtraFiles = []*os.File{theirs}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(stdout).ReadString('\n'); !strings.HasPrefix(line, "1|1|unix|") {
		t.Fatalf("it does not serve: %q, %v", line, err)
	}
	ours.Close() // as the end of the bench does, whatever ended it
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != 1 {
		t.Errorf("it ended with %v, want exit status 1", err)
	}
}

func TestRowsAreChosenByName(t *testing.T) {
	var out, errs bytes.Buffer
	if status := run(t.Context(), []string{"-list", "-rows", "hit,noop"}, &out, &errs); status != 0 {
		t.Fatal(errs.String())
	}
	// In the order of their cost, whatever was asked for first.
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 2 || !strings.HasPrefix(lines[0], "noop ") || !strings.HasPrefix(lines[1], "hit ") {
		t.Errorf("%q", lines)
	}
	for _, wrong := range [][]string{{"-rows", "nope"}, {"argument"}, {"-wrong"}} {
		if status := run(t.Context(), wrong, &out, &errs); status != 2 {
			t.Errorf("%v: status %d", wrong, status)
		}
	}
}

func TestEveryRowIsInTheREADME(t *testing.T) {
	page, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range allRows() {
		if !strings.Contains(string(page), "| "+r.name+" |") && !strings.Contains(string(page), r.name+", ") && !strings.Contains(string(page), ", "+r.name) {
			t.Errorf("README.md does not tell of the row %s", r.name)
		}
	}
}

func TestABarIsJudgedByTheMedianAndOneThatMustNeverBeByTheWorst(t *testing.T) {
	figures := []float64{3, 1, 2}
	for _, c := range []struct {
		bar    bar
		missed int
	}{
		{bar{limit: 2}, 0},
		{bar{limit: 1.9}, 1},
		{bar{limit: 2, least: true}, 0},
		{bar{limit: 2.1, least: true}, 1},
		{bar{limit: 2, worst: true}, 1},
		{bar{limit: 3, worst: true}, 0},
		{bar{limit: 2, worst: true, least: true}, 1},
	} {
		r := row{name: "x", bars: []bar{c.bar}, open: func(context.Context, *lab, *closers) (round, error) {
			next := 0
			return func(context.Context) ([]float64, string, error) {
				next++
				return figures[next-1 : next], "", nil
			}, nil
		}}
		var out bytes.Buffer
		if missed := r.measure(t.Context(), nil, &out); missed != c.missed || strings.Contains(out.String(), "MISSED") != (c.missed == 1) {
			t.Errorf("%v of %v: %d missed\n%s", c.bar, figures, missed, out.String())
		}
	}
	for _, bars := range [][]bar{{{}, {}}, {{}}, nil} {
		r := row{name: "x", bars: bars, open: func(context.Context, *lab, *closers) (round, error) { return nil, errors.New("no") }}
		var out bytes.Buffer
		if missed := r.measure(t.Context(), nil, &out); missed != max(len(bars), 1) || !strings.Contains(out.String(), "NOT MEASURED: no") {
			t.Errorf("a row of %d bars that cannot be measured: %d missed\n%s", len(bars), missed, out.String())
		}
	}
}
