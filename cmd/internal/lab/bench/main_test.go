package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dragoman-mt/dragoman/cmd/internal/binaries"
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

// programs returns a lab with the real programs, built for the test.
func programs(t *testing.T) *lab {
	t.Helper()
	// A Unix socket's path is short.
	temp, err := os.MkdirTemp("", "bench")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(temp) })
	if err := binaries.Into(temp, "cmd/dragoman", "cmd/openai-sim", "plugins/openai-direct"); err != nil {
		t.Fatal(err)
	}
	return &lab{
		dragoman: filepath.Join(temp, "dragoman"), sim: filepath.Join(temp, "openai-sim"),
		direct: filepath.Join(temp, "openai-direct"), temp: temp,
	}
}

// play measures once.
func (s *lab) play(t *testing.T, open func(context.Context, *lab, *closers) (round, error)) (figures []float64, remark string) {
	t.Helper()
	var c closers
	defer c.close()
	play, err := open(t.Context(), s, &c)
	if err != nil {
		t.Fatal(err)
	}
	figures, remark, err = play(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Log(figures, remark)
	return figures, remark
}

func TestWhatChangesUnderLoadIsCountedToTheLastRequest(t *testing.T) {
	if testing.Short() {
		t.Skip("not tested: it takes some seconds")
	}
	s := programs(t)
	t.Run("reload", func(t *testing.T) {
		figures, remark := s.play(t, openReload(4, time.Second, 300*time.Millisecond))
		if !slices.Equal(figures, []float64{0, 0, 0}) {
			t.Errorf("%v: %s", figures, remark)
		}
	})
	t.Run("kill", func(t *testing.T) {
		// How long it takes is no test's business.
		figures, remark := s.play(t, openKill(2, 50))
		if figures[0] != 0 || figures[1] <= 0 {
			t.Errorf("%v: %s", figures, remark)
		}
	})
}

func TestAnAnswerOfAnotherTextIsAFailure(t *testing.T) {
	ours := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch body, _ := io.ReadAll(r.Body); {
		case bytes.Contains(body, []byte("right")):
			io.WriteString(w, `{"translations": [{"text": "[es] right", "provider": "openai"}]}`)
		case bytes.Contains(body, []byte("wrong")):
			io.WriteString(w, `{"translations": [{"text": "[es] right", "provider": "openai"}]}`)
		default:
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer ours.Close()
	g := &subject{&child{url: ours.URL}, ours.Client()}
	texts := []string{"right", "wrong", "refused"}
	traffic := g.send(t.Context(), time.Millisecond, func(n int64) string { return texts[min(n, 2)%3] })
	if err := traffic.answered(t.Context(), "openai", 2); err != nil {
		t.Fatal(err)
	}
	calls := traffic.end()
	if n, first := failures(calls); n != len(calls)-1 || first == nil {
		t.Errorf("%d of %d failed, the first with %v", n, len(calls), first)
	}
}

func TestARowOfOneRoundIsJudgedByIt(t *testing.T) {
	played := 0
	r := row{name: "x", once: true, bars: []bar{{limit: 1, worst: true}}, open: func(context.Context, *lab, *closers) (round, error) {
		return func(context.Context) ([]float64, string, error) { played++; return []float64{2}, "", nil }, nil
	}}
	var out bytes.Buffer
	if missed := r.measure(t.Context(), nil, &out); missed != 1 || played != 1 {
		t.Errorf("%d missed in %d rounds\n%s", missed, played, out.String())
	}
}
