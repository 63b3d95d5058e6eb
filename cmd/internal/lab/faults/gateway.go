package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/dragoman-mt/dragoman/stages/openai/openaitest"
)

// turns is how many calls upstream run at once, each on its connection: fewer
// than are asked for, so that the line has work, unless hedges need free turns.
func (o options) turns() int {
	if o.hedge != "never" {
		return asking + asking/4
	}
	return asking / 2
}

// attempts is the most that are made for a request: pipeline.yaml's retries.
const attempts = 2

// set are the values that the gateway is given over pipeline.yaml: its address
// and upstream, the load that it may carry, and times. Nothing is to fail or be
// replaced because it took long: only faults are looked at.
func (o options) set(ca string) []string {
	turns := strconv.Itoa(o.turns())
	return []string{
		"server.listen=127.0.0.1:0", "server.deadline=1m",
		"pool.ca_file=" + ca, "pool.idle_timeout=1h", "pool.max_age=24h",
		// As many as there are turns: the pool has no room to spare.
		"pool.warm_connections=" + turns, "pool.max_connections=" + turns,
		"providers.openai.timeout=" + patience.String(),
		"stages.cache.max_size=4MiB", // full after a few thousand texts
		"stages.ratelimit.requests_per_minute=10000000",
		"stages.queue.max_concurrent=" + turns, "stages.queue.min_interval=0s",
		"stages.provider.hedge.after=" + o.hedge,
	}
}

// patience is how long a call upstream may take; those that hang take it. No
// other does, unless the machine has no time at all for this.
const patience = 5 * time.Second

// simulate starts the upstream. It answers at once, and writes every call into
// b.
func simulate(o options, b *book) (*openaitest.Server, error) {
	return openaitest.Start(openaitest.Config{
		TLS: true, Seed: o.seed, Faults: rates(o.rate), RetryAfter: 20 * time.Millisecond, Ended: b.call,
	})
}

// A subject is a running `dragoman serve`.
type subject struct {
	cmd    *exec.Cmd
	url    string
	warm   int // connections that it keeps
	temp   string
	log    string         // file
	client *http.Client   // for /metrics: its connection is one more whenever it is looked
	out    sync.WaitGroup // reads its standard output
}

// startTimeout is how long the gateway may take to say where it listens, and
// restTimeout how long after its last answer it may take to be at rest.
const startTimeout, restTimeout = 20 * time.Second, 20 * time.Second

// serve starts a gateway in front of sim.
func serve(ctx context.Context, o options, sim *openaitest.Server) (g *subject, err error) {
	g = &subject{warm: o.turns(), client: &http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true}}}
	if g.temp, err = os.MkdirTemp("", "dragoman-faults-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			g.end()
		}
	}()
	ca := filepath.Join(g.temp, "ca.pem")
	if err := os.WriteFile(ca, sim.CA(), 0o600); err != nil {
		return nil, err
	}
	args := []string{"serve", "--config", o.pipeline}
	for _, v := range o.set(ca) {
		args = append(args, "--set", v)
	}
	g.cmd = exec.CommandContext(ctx, o.dragoman, args...)
	g.cmd.Cancel = func() error { return g.cmd.Process.Signal(syscall.SIGTERM) }
	g.cmd.Env = append(clean(os.Environ()), "OPENAI_BASE_URL="+sim.URL(), "OPENAI_API_KEY=simulated", "XDG_STATE_HOME="+g.temp)
	g.log = filepath.Join(g.temp, "log")
	log, err := os.Create(g.log)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	g.cmd.Stderr = log
	stdout, err := g.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := g.cmd.Start(); err != nil {
		return nil, err
	}
	greeting := make(chan string, 1)
	g.out.Go(func() {
		lines := bufio.NewScanner(stdout)
		lines.Scan()
		greeting <- lines.Text()
		io.Copy(io.Discard, stdout)
	})
	select {
	case line := <-greeting:
		_, url, ok := strings.Cut(line, " at http://")
		if !ok {
			return nil, fmt.Errorf("the gateway did not say where it listens: %q\n%s", line, g.said())
		}
		g.url = "http://" + url
	case <-time.After(startTimeout):
		return nil, fmt.Errorf("the gateway did not listen within %s\n%s", startTimeout, g.said())
	}
	return g, nil
}

// clean drops what would reach the gateway from whoever runs this.
func clean(env []string) []string {
	return slices.DeleteFunc(slices.Clone(env), func(kv string) bool {
		name, _, _ := strings.Cut(strings.ToUpper(kv), "=")
		return strings.HasPrefix(name, "OPENAI_") || strings.HasPrefix(name, "DRAGOMAN_") || strings.HasSuffix(name, "_PROXY")
	})
}

// said is the end of what the gateway logged.
func (g *subject) said() string {
	b, _ := os.ReadFile(g.log)
	return string(bytes.TrimSpace(b[max(0, len(b)-2000):]))
}

// end ends the gateway, by force if it takes too long, and leaves no file.
func (g *subject) end() {
	if g.cmd != nil && g.cmd.Process != nil {
		g.cmd.Process.Signal(syscall.SIGTERM)
		kill := time.AfterFunc(startTimeout, func() { g.cmd.Process.Kill() })
		g.out.Wait()
		g.cmd.Wait()
		kill.Stop()
	}
	os.RemoveAll(g.temp)
}

// metrics are the lines of /metrics: name and labels to value.
type metrics map[string]float64

func (g *subject) metrics(ctx context.Context) (metrics, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, g.url+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	resp, err := g.client.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	m := metrics{}
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		line := lines.Text()
		at := strings.LastIndexByte(line, ' ')
		if strings.HasPrefix(line, "#") || at < 0 {
			continue
		}
		if v, err := strconv.ParseFloat(line[at+1:], 64); err == nil {
			m[line[:at]] = v
		}
	}
	return m, lines.Err()
}

// sum adds up what name counts, over the lines that hold label; all for "".
func (m metrics) sum(name, label string) float64 {
	sum := 0.0
	for line, v := range m {
		if is, labels, _ := strings.Cut(line, "{"); is == name && strings.Contains(labels, label) {
			sum += v
		}
	}
	return sum
}

// left says what is there at rest that should not be. What differs from process
// to process is compared with the rest before the load.
func left(now, before metrics, warm int) []string {
	var found []string
	most := func(n float64, what, metric, label string) {
		if got := now.sum(metric, label); got > n {
			found = append(found, fmt.Sprintf("%.0f %s, at most %.0f expected", got, what, n))
		}
	}
	most(0, "turns taken", "dragoman_queue_in_flight", "")
	most(0, "requests in the line", "dragoman_line_waiting", "")
	most(0, "flights", "dragoman_cache_flights", "")
	most(0, "calls that wait for a connection", "dragoman_pool_waiting", "")
	most(0, "connections in use", "dragoman_pool_connections", `state="in_use"`)
	most(float64(warm), "connections", "dragoman_pool_connections", "")
	most(before.sum("go_goroutines", ""), "goroutines", "go_goroutines", "")
	most(before.sum("process_open_fds", ""), "open files", "process_open_fds", "")
	return found
}

// rest waits until the gateway is at rest, with all warm connections ready, and
// returns its metrics then. When something is left after restTimeout, that is
// what the metrics show. Before is nil for the first rest.
func (g *subject) rest(ctx context.Context, sim *openaitest.Server, before metrics) (metrics, error) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(restTimeout); ; {
		now, err := g.metrics(ctx)
		if err != nil {
			return nil, fmt.Errorf("%w\n%s", err, g.said())
		}
		base := before
		if base == nil {
			base = now
		}
		ready := now.sum("dragoman_pool_connections", `state="ready"`) == float64(g.warm) && sim.Stats().Open == int64(g.warm)
		if ready && len(left(now, base, g.warm)) == 0 {
			return now, nil
		}
		if time.Now().After(deadline) {
			if before == nil {
				return nil, fmt.Errorf("the gateway is not ready after %s\n%s", restTimeout, g.said())
			}
			return now, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}
