package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dragoman-mt/dragoman/cmd/internal/binaries"
	"github.com/dragoman-mt/dragoman/cmd/internal/lab/virtual"
	"github.com/dragoman-mt/dragoman/cmd/internal/speech"
	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/live"
	"github.com/dragoman-mt/dragoman/core/live/traffic"
	"github.com/dragoman-mt/dragoman/plugins/apertium/engine"
)

// These tests run the built program.
var program string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "openai-sim")
	if err == nil {
		program = filepath.Join(dir, "openai-sim")
		err = binaries.Into(dir, "cmd/openai-sim")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	status := m.Run()
	os.RemoveAll(dir)
	os.Exit(status)
}

// A process is the program, running.
type process struct {
	*exec.Cmd
	stdin  io.WriteCloser
	url    string
	stderr bytes.Buffer // to be read after wait
	rest   chan string  // what followed the URL on standard output
}

func start(t *testing.T, args ...string) *process {
	t.Helper()
	p := &process{Cmd: exec.Command(program, append([]string{"--listen", "127.0.0.1:0"}, args...)...), rest: make(chan string, 1)}
	p.Stderr = &p.stderr
	in, err := p.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.stdin = in
	out, err := p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Process.Kill(); p.Wait() })
	r := bufio.NewReader(out)
	line, err := r.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	p.url = strings.TrimSuffix(line, "\n")
	go func() {
		rest, _ := io.ReadAll(r)
		p.rest <- string(rest)
	}()
	return p
}

// wait returns when the program has ended by itself.
func (p *process) wait(t *testing.T) {
	t.Helper()
	kill := time.AfterFunc(20*time.Second, func() { p.Process.Kill() })
	defer kill.Stop()
	rest := <-p.rest
	if err := p.Wait(); err != nil {
		t.Errorf("%v\n%s", err, p.stderr.String())
	}
	if rest != "" {
		t.Errorf("standard output went on: %q", rest)
	}
}

func ask(t *testing.T, hc *http.Client, url, key, text string) (status int, answer string) {
	t.Helper()
	body, _ := json.Marshal(map[string]any{"model": "gpt-5.4-nano", "messages": []map[string]string{
		{"role": "system", "content": "Translate from English (en) to Spanish (es)."}, {"role": "user", "content": text}}})
	req, err := http.NewRequestWithContext(t.Context(), "POST", url+"/chat/completions", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+key)
	req.Header.Set("X-Client-Request-Id", "ours")
	res, err := hc.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var c struct {
		Choices []struct{ Message struct{ Content string } }
	}
	if err := json.NewDecoder(res.Body).Decode(&c); err != nil {
		t.Fatal(err)
	}
	if len(c.Choices) > 0 {
		answer = c.Choices[0].Message.Content
	}
	return res.StatusCode, answer
}

func TestPrintsItsURLServesAndEndsOnSIGTERM(t *testing.T) {
	for _, signal := range []os.Signal{syscall.SIGTERM, os.Interrupt} {
		p := start(t)
		if status, got := ask(t, http.DefaultClient, p.url, "k", "Good morning"); status != 200 || got != "[es] Good morning" {
			t.Errorf("%d %q", status, got)
		}
		p.Process.Signal(signal)
		p.wait(t)
		if s := p.stderr.String(); s != "" {
			t.Errorf("standard error: %s", s)
		}
	}
}

func TestEndsWithItsInput(t *testing.T) {
	p := start(t, "--stop-with-stdin", "--faults", "stall=1")
	req, err := http.NewRequestWithContext(t.Context(), "POST", p.url+"/chat/completions",
		strings.NewReader(`{"model":"gpt-5.4-nano","messages":[{"role":"user","content":"x"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer k")
	res, err := http.DefaultClient.Do(req) // half an answer: the request is in flight from here on
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	p.stdin.Close()
	p.wait(t)
	if _, err := io.ReadAll(res.Body); err == nil {
		t.Error("the answer was whole")
	}
}

func TestServesTLSWithTheCAItWrote(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ca.pem")
	p := start(t, "--tls", "--ca-out", file)
	pem, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: x509.NewCertPool()}}
	defer tr.CloseIdleConnections()
	if !tr.TLSClientConfig.RootCAs.AppendCertsFromPEM(pem) {
		t.Fatalf("%s", pem)
	}
	if status, _ := ask(t, &http.Client{Transport: tr}, p.url, "k", "x"); status != 200 || !strings.HasPrefix(p.url, "https://127.0.0.1:") {
		t.Error(status, p.url)
	}
}

func TestFlagsAreObeyed(t *testing.T) {
	table := filepath.Join(t.TempDir(), "t.tsv")
	if err := os.WriteFile(table, []byte("en\tes\tGood morning\tBuenos días\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := start(t, "--engine", "table", "--table", table, "--key", "sk-a", "--key", "sk-b", "--profile", "rough", "--latency", "5ms",
		"--rtt", "1ms", "--idle-timeout", "5s", "--rpm", "600", "--tpm", "70000", "--faults", "500=0.25,hang=0", "--seed", "3")
	res, err := http.Get(strings.TrimSuffix(p.url, "/v1") + "/sim/config")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var cfg map[string]any
	if err := json.NewDecoder(res.Body).Decode(&cfg); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]any{"latency": "5ms", "latency_p99": "0s", "rtt": "1ms", "idle_timeout": "5s", "rpm": 600.0, "tpm": 70000.0} {
		if cfg[key] != want {
			t.Errorf("%s: %v, want %v", key, cfg[key], want)
		}
	}
	if status, _ := ask(t, http.DefaultClient, p.url, "sk-c", "x"); status != 401 {
		t.Error(status)
	}
	count := map[int]int{}
	for range 40 {
		status, got := ask(t, http.DefaultClient, p.url, "sk-b", "Good morning")
		count[status]++
		if status == 200 && got != "Buenos días" {
			t.Error(got)
		}
	}
	if count[500] < 2 || count[200] < 20 || count[200]+count[500] != 40 {
		t.Error(count)
	}
	p.Process.Signal(syscall.SIGTERM)
	p.wait(t)
	if log := p.stderr.String(); strings.Count(log, `"fault":"500"`) != count[500] || strings.Contains(log, "Good") || !strings.Contains(log, `"client_id":"ours"`) {
		t.Errorf("log: %s", log)
	}
}

func TestSpeaksSpanishWithApertium(t *testing.T) {
	if _, err := engine.Find(); err != nil {
		t.Skip("not tested: ", err)
	}
	p := start(t, "--engine", "apertium")
	if status, got := ask(t, http.DefaultClient, p.url, "k", "Good morning. The new car is very fast."); status != 200 || got != "Buenos días. El coche nuevo es muy rápido." {
		t.Errorf("%d %q", status, got)
	}
}

func TestNoProcessOutlivesIt(t *testing.T) {
	if _, err := engine.Find(); err != nil {
		t.Skip("not tested: ", err)
	}
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("not tested: no /proc")
	}
	for _, signal := range []os.Signal{syscall.SIGKILL, syscall.SIGTERM} {
		p := start(t, "--engine", "apertium")
		ask(t, http.DefaultClient, p.url, "k", "Good morning")
		children := childrenOf(p.Process.Pid)
		if len(children) < 5 {
			t.Fatalf("children %v", children)
		}
		p.Process.Signal(signal)
		<-p.rest
		for _, child := range children {
			for deadline := time.Now().Add(10 * time.Second); alive(child); time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("%v: process %s is still there", signal, child)
				}
			}
		}
	}
}

// stat returns state and parent of a process, as proc_pid_stat(5) has them.
func stat(pid string) (state, parent string) {
	data, _ := os.ReadFile("/proc/" + pid + "/stat")
	_, after, _ := strings.Cut(string(data), ") ")
	f := strings.Fields(after)
	if len(f) < 2 {
		return "", ""
	}
	return f[0], f[1]
}

func alive(pid string) bool {
	state, _ := stat(pid)
	return state != "" && state != "Z"
}

func childrenOf(pid int) (all []string) {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, d := range dirs {
		if _, parent := stat(filepath.Base(d)); parent == fmt.Sprint(pid) {
			all = append(all, filepath.Base(d))
		}
	}
	return all
}

func TestEachMistakeIsOneLine(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, c := range []struct {
		args   []string
		status int
		says   string
	}{
		{[]string{"--listen", taken.Addr().String()}, 1, "is taken"},
		{[]string{"--listen", "nonsense"}, 1, "nonsense"},
		{[]string{"--nonsense"}, 2, "--help"},
		{[]string{"nonsense"}, 2, "--help"},
		{[]string{"--engine", "nonsense"}, 2, "pseudo, flicker, table and apertium"},
		{[]string{"--engine", "table", "--table", "/nonsense"}, 1, "--table"},
		{[]string{"--profile", "nonsense"}, 2, "steady and rough"},
		{[]string{"--ca-out", "x"}, 2, "--tls"},
		{[]string{"--faults", "500=often"}, 2, "rate"},
		{[]string{"--faults", "nonsense=0.1"}, 1, "unknown kind"},
		{[]string{"--rpm", "-1"}, 1, "negative"},
	} {
		cmd := exec.Command(program, c.args...)
		out, _ := cmd.CombinedOutput()
		if cmd.ProcessState.ExitCode() != c.status || strings.Count(string(out), "\n") != 1 || !strings.Contains(string(out), c.says) {
			t.Errorf("%q: status %d, %q", c.args, cmd.ProcessState.ExitCode(), out)
		}
	}
}

func TestWhatIsPlayedComesBackAsItWasMeasured(t *testing.T) {
	policy := live.Defaults()
	policy.Growth, policy.Fillers = 3, []string{"Okay."}
	p := speech.Plan{
		Trace: traffic.Speech(2, 30*time.Second, 3), Targets: []core.Language{"zh"}, Deadline: 4500 * time.Millisecond,
		Runs: []speech.Run{{Name: "another growth", Policy: &policy}, {Name: "every revision"}},
	}
	is, err := p.PlayWith(t.Context(), program)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range virtual.Play(p) {
		want.Measured.Lags, want.Measured.Views = want.Lags, want.Views
		if !reflect.DeepEqual(is[i], want.Measured) || len(is[i].Lags) == 0 || len(is[i].Views) == 0 {
			t.Errorf("%s: the program says %+v, and in this process it is %+v", want.Name, is[i], want.Measured)
		}
	}
	if is[0].Calls >= is[1].Calls {
		t.Errorf("a policy makes %d calls, and asking for every revision %d", is[0].Calls, is[1].Calls)
	}
}

func TestAPlanThatIsNoneIsToldInOneLine(t *testing.T) {
	cmd := exec.Command(program, "play")
	cmd.Stdin = strings.NewReader("trace.jsonl")
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != 1 || !strings.HasPrefix(string(out), "openai-sim: standard input is no plan: ") {
		t.Errorf("%v: %s", err, out)
	}
	if _, err := (speech.Plan{}).PlayWith(t.Context(), filepath.Join(t.TempDir(), "openai-sim")); err == nil || !strings.Contains(err.Error(), "`make build` builds both") {
		t.Errorf("without the program: %v", err)
	}
}
