package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/dragoman-mt/dragoman/stages/openai/openaitest"
)

// A child is a program that was started and has said where it listens.
type child struct {
	cmd  *exec.Cmd
	url  string
	said *tail
	read sync.WaitGroup // of its standard output
}

// startTimeout is how long a program may take to say where it listens.
const startTimeout = 20 * time.Second

// start runs a program until c is closed. Where it listens is the first word
// of its first line that begins with http.
func start(ctx context.Context, c *closers, name string, env []string, args ...string) (*child, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	cmd.Env = append(os.Environ(), env...)
	p := &child{cmd: cmd, said: &tail{}}
	cmd.Stderr = p.said
	// Roles and simulator end when their standard input does, so that nothing
	// outlives a bench that was killed.
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	c.add(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		stdin.Close()
		kill := time.AfterFunc(5*time.Second, func() { cmd.Process.Kill() })
		p.read.Wait()
		cmd.Wait()
		kill.Stop()
	})
	first := make(chan string, 1)
	p.read.Go(func() {
		lines := bufio.NewScanner(stdout)
		if lines.Scan() {
			first <- lines.Text()
		}
		close(first)
		io.Copy(io.Discard, stdout)
	})
	timer := time.NewTimer(startTimeout)
	defer timer.Stop()
	select {
	case line := <-first:
		for word := range strings.FieldsSeq(line) {
			if strings.HasPrefix(word, "http") {
				p.url = word
				return p, nil
			}
		}
		return nil, fmt.Errorf("%s did not say where it listens: %q %s", filepath.Base(name), line, p.said)
	case <-timer.C:
		return nil, fmt.Errorf("%s did not listen within %s: %s", filepath.Base(name), startTimeout, p.said)
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// A tail keeps the beginning of what a child says on standard error.
type tail struct {
	mu   sync.Mutex
	text []byte
}

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, b[:min(len(b), 4096-len(t.text))]...)
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(t.text))
}

// role starts this program once more, as a part of a measurement.
func (s *lab) role(ctx context.Context, c *closers, args ...string) (*child, error) {
	return start(ctx, c, s.self, nil, append([]string{roleFlag}, args...)...)
}

// A subject is a running dragoman: what is measured.
type subject struct {
	*child
	http *http.Client
}

// subject starts a gateway as begin does, and returns when it has asked its
// provider and is ready.
func (s *lab) subject(ctx context.Context, c *closers, base, ca string, set ...string) (*subject, error) {
	g, err := s.begin(ctx, c, base, ca, set...)
	if err != nil {
		return nil, err
	}
	return g, g.ready(ctx)
}

// begin starts `dragoman serve` with the checkout's pipeline.yaml, for the
// upstream at base, with values set over the file.
func (s *lab) begin(ctx context.Context, c *closers, base, ca string, set ...string) (*subject, error) {
	args := []string{"serve", "--config", s.pipeline, "--set", "server.listen=127.0.0.1:0"}
	if ca != "" {
		set = append(set, "pool.ca_file="+ca)
	}
	for _, v := range set {
		args = append(args, "--set", v)
	}
	p, err := start(ctx, c, s.dragoman, []string{"OPENAI_BASE_URL=" + base, "OPENAI_API_KEY=bench", "XDG_STATE_HOME=" + s.temp}, args...)
	if err != nil {
		return nil, err
	}
	t := &http.Transport{MaxIdleConnsPerHost: 64}
	c.add(t.CloseIdleConnections)
	return &subject{p, &http.Client{Transport: t, Timeout: 30 * time.Second}}, nil
}

// ready waits until the gateway has asked its provider.
func (g *subject) ready(ctx context.Context) error {
	for deadline := time.Now().Add(startTimeout); ; {
		resp, err := g.http.Get(g.url + "/readyz")
		if err == nil {
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the gateway is not ready after %s: %s", startTimeout, g.said)
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// An answer is what is read of the gateway's.
type answer struct {
	ID           string `json:"request_id"`
	Translations []struct {
		Text     string `json:"text"`
		Provider string `json:"provider"`
		Cached   bool   `json:"cached"`
	} `json:"translations"`
	Timing struct {
		Total  float64            `json:"total_ms"`
		Paced  float64            `json:"paced_ms"`
		Stages map[string]float64 `json:"stages"`
	} `json:"timing"`
}

// A refusal is an answer of the gateway that is no translation.
type refusal struct {
	status int
	said   []byte
}

func (r *refusal) Error() string { return fmt.Sprintf("status %d: %s", r.status, r.said) }

// translate asks for one text and returns the answer and how long it took. Any
// status but 200 is a *refusal.
func (g *subject) translate(ctx context.Context, text, session string) (*answer, time.Duration, error) {
	body, err := json.Marshal(map[string]string{"text": text, "source": "en", "target": "es", "session": session})
	if err != nil {
		return nil, 0, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, g.url+"/v1/translate", bytes.NewReader(body))
	if err != nil {
		return nil, 0, err
	}
	begin := time.Now()
	resp, err := g.http.Do(r)
	if err != nil {
		return nil, 0, err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	took := time.Since(begin)
	if err != nil {
		return nil, 0, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, 0, &refusal{resp.StatusCode, got}
	}
	var a answer
	if err := json.Unmarshal(got, &a); err != nil {
		return nil, 0, err
	}
	if len(a.Translations) != 1 {
		return nil, 0, fmt.Errorf("%d translations in the answer to one text", len(a.Translations))
	}
	return &a, took, nil
}

// metrics returns the sum of each of the gateway's metrics over its labels, by
// name without the program's prefix.
func (g *subject) metrics() (map[string]float64, error) {
	resp, err := g.http.Get(g.url + "/metrics")
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	sums := map[string]float64{}
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		line := lines.Text()
		at := strings.LastIndexByte(line, ' ')
		if strings.HasPrefix(line, "#") || at < 0 {
			continue
		}
		name, _, _ := strings.Cut(line[:at], "{")
		if v, err := strconv.ParseFloat(line[at+1:], 64); err == nil {
			sums[strings.TrimPrefix(name, "dragoman_")] += v
		}
	}
	return sums, lines.Err()
}

// A simulator is a running openai-sim.
type simulator struct {
	*child
	ca   string // file; empty without TLS
	http *http.Client
}

var simulators atomic.Int64

// simulator starts openai-sim under TLS with flags.
func (s *lab) simulator(ctx context.Context, c *closers, flags ...string) (*simulator, error) {
	ca := filepath.Join(s.temp, fmt.Sprintf("ca-%d.pem", simulators.Add(1)))
	m, err := s.plain(ctx, c, append([]string{"--tls", "--ca-out", ca}, flags...)...)
	if err != nil {
		return nil, err
	}
	pem, err := os.ReadFile(ca)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	t := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, MaxIdleConnsPerHost: 64}
	c.add(t.CloseIdleConnections)
	m.ca, m.http.Transport = ca, t
	return m, nil
}

// plain starts openai-sim without TLS, with flags.
func (s *lab) plain(ctx context.Context, c *closers, flags ...string) (*simulator, error) {
	p, err := start(ctx, c, s.sim, nil, append([]string{"--listen", "127.0.0.1:0", "--stop-with-stdin"}, flags...)...)
	if err != nil {
		return nil, err
	}
	t := &http.Transport{MaxIdleConnsPerHost: 64}
	c.add(t.CloseIdleConnections)
	return &simulator{child: p, http: &http.Client{Transport: t, Timeout: 30 * time.Second}}, nil
}

// stats returns what the simulator has seen, with its last chat requests.
func (m *simulator) stats() (st openaitest.Stats, err error) {
	return st, m.call(http.MethodGet, "/sim/stats?records=1", "", &st)
}

// complete makes a chat completion under id, as a client without a gateway
// does.
func (m *simulator) complete(ctx context.Context, id, text string) error {
	body := strings.NewReader(`{"model":"gpt-5.4-nano","messages":[{"role":"system","content":"Translate from English (en) to Spanish (es)."},` +
		`{"role":"user","content":"` + text + `"}]}`)
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, m.url+"/chat/completions", body)
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer bench")
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-Client-Request-Id", id)
	resp, err := m.http.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("openai-sim: status %d", resp.StatusCode)
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

// call speaks to the simulator itself.
func (m *simulator) call(method, path, body string, into any) error {
	r, err := http.NewRequest(method, strings.TrimSuffix(m.url, "/v1")+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := m.http.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return err
	case resp.StatusCode >= 300:
		return fmt.Errorf("openai-sim: %s %s: status %d: %s", method, path, resp.StatusCode, got)
	case into == nil:
		return nil
	}
	return json.Unmarshal(got, into)
}

// cpu returns the processor time that the child has used.
func (p *child) cpu() (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	// The name may hold blanks; what follows it does not (proc(5)).
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(f) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat is not understood", p.cmd.Process.Pid)
	}
	user, err1 := strconv.ParseInt(f[11], 10, 64)
	system, err2 := strconv.ParseInt(f[12], 10, 64)
	if err1 != nil || err2 != nil {
		return 0, fmt.Errorf("/proc/%d/stat is not understood", p.cmd.Process.Pid)
	}
	const tick = time.Second / 100 // USER_HZ is 100 on every Linux that Go runs on
	return time.Duration(user+system) * tick, nil
}

// resident returns the memory that the child holds now, in MB of 2^20 bytes.
func (p *child) resident() (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 64)
			return kb / 1024, err
		}
	}
	return 0, fmt.Errorf("/proc/%d/status has no VmRSS", p.cmd.Process.Pid)
}
