package sessions

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A lab is a gateway of its own with a simulated upstream of its own, both as
// child processes, so that what is measured is the program that is shipped.
type lab struct {
	dir       string
	upstream  *child
	gateway   *child
	url       string // of the gateway
	simulator string // its base URL without /v1
	rtt       time.Duration
	client    *http.Client // for questions to the simulator
}

//go:embed pipeline.yaml
var pipeline string

// Served returns the pipeline.yaml of a gateway that is started for a cell.
func (c Cell) Served(upstream, ca string) []byte {
	concurrent, interval := 6, 25*time.Millisecond
	if c.Preset == Before {
		concurrent, interval = 4, 50*time.Millisecond
	}
	if c.Slots > 0 {
		concurrent, interval = c.Slots, 0
	}
	return []byte(strings.NewReplacer(
		"{{.Mode}}", c.Mode, "{{.CA}}", ca, "{{.Upstream}}", upstream,
		"{{.MaxConcurrent}}", strconv.Itoa(concurrent), "{{.MinInterval}}", interval.String(),
		"{{.MaxConnections}}", strconv.Itoa(concurrent+4), "{{.PerMinute}}", strconv.Itoa(c.perMinute()),
	).Replace(pipeline))
}

// perMinute is the limit of the account, which does not bind where slots are given.
func (c Cell) perMinute() int {
	if c.Slots > 0 {
		return 1_000_000
	}
	return 4500
}

// newLab starts both programs. The caller closes the lab, also after an error.
func newLab(ctx context.Context, o Options, c Cell) (*lab, error) {
	dir, err := os.MkdirTemp("", "dragoman-sessions-")
	if err != nil {
		return nil, err
	}
	l := &lab{dir: dir}
	ca, config := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "pipeline.yaml")
	// The limits are those of the account that the gateway believes in.
	args := []string{"--listen", "127.0.0.1:0", "--tls", "--ca-out", ca, "--profile", o.Profile,
		"--rpm", strconv.Itoa(c.perMinute()), "--seed", strconv.FormatUint(o.Seed, 10), "--stop-with-stdin"}
	if o.Engine != "" {
		args = append(args, "--engine", o.Engine)
	}
	l.upstream, err = l.start("openai-sim", o, args...)
	if err != nil {
		return l, err
	}
	base, err := l.upstream.says(ctx, regexp.MustCompile(`^(https://\S+)/v1$`))
	if err != nil {
		return l, err
	}
	l.simulator = base
	pem, err := os.ReadFile(ca)
	if err != nil {
		return l, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	l.client = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	var told struct{ RTT string }
	if err := get(ctx, l.client, l.simulator+"/sim/config", "", &told); err != nil {
		return l, fmt.Errorf("openai-sim: %w", err)
	}
	if l.rtt, err = time.ParseDuration(told.RTT); err != nil {
		return l, fmt.Errorf("openai-sim: its round trip: %w", err)
	}

	if err := os.WriteFile(config, c.Served(base+"/v1", ca), 0o600); err != nil {
		return l, err
	}
	if l.gateway, err = l.start("dragoman", o, "serve", "--config", config); err != nil {
		return l, err
	}
	l.url, err = l.gateway.says(ctx, regexp.MustCompile(` at (http://\S+)$`))
	return l, err
}

func (l *lab) close() {
	if l == nil {
		return
	}
	if l.gateway != nil {
		l.gateway.end()
	}
	if l.upstream != nil {
		l.upstream.end()
	}
	if l.client != nil {
		l.client.CloseIdleConnections()
	}
	os.RemoveAll(l.dir)
}

// A book is what the simulator's book says of the calls that it answered, as far as
// it is read here; GET /sim/stats of openai-sim tells more.
type book struct {
	Chats    int64         `json:"chats"`
	Statuses map[int]int64 `json:"statuses"`
	InFlight int64         `json:"in_flight"`
	Records  []struct {
		ClientID string        `json:"client_id"`
		Took     time.Duration `json:"took_ns"`
	} `json:"records"`
}

// settled returns the simulator's book once nothing is in flight: it is closed
// a moment after the client has its answer.
func (l *lab) settled(ctx context.Context) (book, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		var s book
		if err := get(ctx, l.client, l.simulator+"/sim/stats?records=1", "", &s); err != nil {
			return s, fmt.Errorf("openai-sim: %w", err)
		}
		if s.InFlight == 0 {
			return s, nil
		}
		select {
		case <-ctx.Done():
			return s, errors.New("openai-sim: requests of the test are still in flight after all were answered")
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// A child is a program that was started here and ends with this one: when its
// standard input ends (openai-sim) or its parent dies (where the system can
// tell it).
type child struct {
	name  string
	cmd   *exec.Cmd
	stdin io.Closer
	lines chan string // of its standard output
	log   string      // file with its standard error
	done  chan struct{}
}

func (l *lab) start(name string, o Options, args ...string) (*child, error) {
	path, err := program(o, name)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("%s is not beside this program: `make build` builds both (%w)", name, err)
	}
	p := &child{name: name, cmd: exec.Command(path, args...), lines: make(chan string, 16), done: make(chan struct{}), log: filepath.Join(l.dir, name+".log")}
	// A file, not a pipe: nobody has to read it for the program to go on.
	log, err := os.Create(p.log)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p.cmd.Stderr = log
	p.cmd.Env = append(os.Environ(), "XDG_STATE_HOME="+l.dir) // nothing is left of it
	p.cmd.SysProcAttr = endWithParent()
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	go func() {
		defer close(p.done)
		for s := bufio.NewScanner(out); s.Scan(); {
			select {
			case p.lines <- s.Text():
			default: // nobody asks any more
			}
		}
		p.cmd.Wait()
	}()
	return p, nil
}

// program finds a program: the gateway is this very one, and the simulator
// stands beside it, unless a folder was given.
func program(o Options, name string) (string, error) {
	if o.Programs != "" {
		return filepath.Join(o.Programs, name), nil
	}
	self, err := os.Executable()
	if err != nil || name == "dragoman" {
		return self, err
	}
	return filepath.Join(filepath.Dir(self), name), nil
}

// says returns what re captures in a line that the program prints.
func (p *child) says(whole context.Context, re *regexp.Regexp) (string, error) {
	ctx, cancel := context.WithTimeout(whole, 30*time.Second)
	defer cancel()
	for {
		select {
		case line := <-p.lines:
			if m := re.FindStringSubmatch(line); m != nil {
				return m[1], nil
			}
		case <-p.done:
			return "", fmt.Errorf("%s ended at once:\n%s", p.name, p.lastWords())
		case <-ctx.Done():
			if whole.Err() != nil {
				return "", context.Cause(whole)
			}
			return "", fmt.Errorf("%s did not start in time:\n%s", p.name, p.lastWords())
		}
	}
}

// lastWords is the end of what the program wrote to its standard error.
func (p *child) lastWords() string {
	b, _ := os.ReadFile(p.log)
	b = b[max(0, len(b)-2000):]
	return strings.TrimSpace(string(b))
}

// end ends the program in order, and by force if it takes too long.
func (p *child) end() {
	p.stdin.Close()
	p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(15 * time.Second):
		p.cmd.Process.Kill()
		<-p.done
	}
}
