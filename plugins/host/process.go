package host

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/go-plugin/runner"
)

// A process is one run of a plugin's program, in the form in which go-plugin
// drives it. It owns what go-plugin would not: the process group, a standard
// input that ends only with the gateway, the rest of standard output after the
// handshake, and standard error.
type process struct {
	cmd *exec.Cmd
	out *output

	stdin     *os.File // our end: held open, never written to
	handshake *io.PipeReader
	tell      *io.PipeWriter

	kin  *kin
	mark string // in the environment of all that it starts
	main *main  // since it was started
	link link   // to where it listens

	mu     sync.Mutex
	pid    int  // 0 before it was started
	unborn bool // it is to end, and was not started yet
	ours   bool // it was to end by our will before it had ended

	readers sync.WaitGroup
	exited  chan struct{} // closed when the process has ended, and its group with it
	gone    chan struct{} // closed when everything that belongs to it has ended as well
}

var _ runner.Runner = (*process)(nil)

func newProcess(cmd *exec.Cmd, out *output, k *kin) *process {
	p := &process{cmd: cmd, out: out, kin: k, exited: make(chan struct{}), gone: make(chan struct{})}
	p.link.admit = p.admit
	p.handshake, p.tell = io.Pipe()
	return p
}

// Start starts the program. The context is that of go-plugin's own time-out,
// which ends the process when it has passed; starting itself does not wait.
func (p *process) Start(context.Context) (err error) {
	var pipes [3][2]*os.File
	defer func() {
		for i, pipe := range pipes {
			theirs, ours := pipe[1], pipe[0]
			if i == 0 {
				theirs, ours = ours, theirs
			}
			theirs.Close() // a nil *os.File says no and no more
			if err != nil {
				ours.Close()
			}
		}
		if err != nil {
			p.tell.Close()
		}
	}()
	for i := range pipes {
		if pipes[i][0], pipes[i][1], err = os.Pipe(); err != nil {
			return err
		}
	}
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = pipes[0][0], pipes[1][1], pipes[2][1]
	p.cmd.SysProcAttr = attributes()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.unborn {
		return context.Canceled
	}
	p.main, err = p.kin.born(p.mark, func() (int, error) {
		if err := p.cmd.Start(); err != nil {
			return 0, err
		}
		return p.cmd.Process.Pid, nil
	})
	if err != nil {
		return err
	}
	p.pid = p.main.pid
	p.stdin = pipes[0][1]
	stdout, stderr := pipes[1][0], pipes[2][0]
	p.readers.Go(func() { p.readStdout(stdout) })
	p.readers.Go(func() { p.read(stderr) })
	go func() {
		defer close(p.gone)
		p.cmd.Wait()
		syscall.Kill(-p.pid, syscall.SIGKILL) // what it has started
		close(p.exited)
		p.kin.ended(p.main) // and what has left the group
		// What is in the pipes is read; who holds them open all the same is not
		// waited for.
		soon := time.Now().Add(lastWords)
		stdout.SetReadDeadline(soon)
		stderr.SetReadDeadline(soon)
		p.readers.Wait()
		stdout.Close()
		stderr.Close()
		p.stdin.Close()
	}()
	return nil
}

// lastWords is how long the output of a process is read after its end.
const lastWords = 200 * time.Millisecond

// readStdout hands the first line to go-plugin and logs what follows.
func (p *process) readStdout(stdout io.Reader) {
	r := bufio.NewReaderSize(stdout, maxLine)
	line, err := r.ReadSlice('\n') // a longer line is no handshake
	p.tell.Write(line)
	p.tell.Close()
	if err != nil || !bytes.HasPrefix(line, []byte("1|")) {
		p.out.line(bytes.TrimRight(line, "\r\n"), time.Now())
	}
	p.read(r)
}

func (p *process) read(from io.Reader) {
	s := &stream{out: p.out}
	io.Copy(s, from)
	s.flush()
}

// kill ends the process and all that it has started, now, or keeps it from being
// started at all.
func (p *process) kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pid == 0 {
		p.unborn = true
		return
	}
	select {
	case <-p.exited: // its number may be another's by now
	default:
		p.ours = true
		syscall.Kill(-p.pid, syscall.SIGKILL)
	}
}

// died says whether the process has ended by itself, or by somebody else's hand;
// call it after Kill.
func (p *process) died() bool {
	if p.ID() == "" {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	return !p.ours || ok && !(status.Signaled() && status.Signal() == syscall.SIGKILL)
}

// Kill is kill, and waits for the end.
func (p *process) Kill(context.Context) error {
	p.kill()
	if p.ID() != "" {
		<-p.gone
	}
	return nil
}

// Wait waits for the end.
func (p *process) Wait(context.Context) error {
	<-p.gone
	return nil
}

// how says how the process ended; call it after exited.
func (p *process) how() string { return p.cmd.ProcessState.String() }

func (p *process) Stdout() io.ReadCloser { return p.handshake }

// Stderr is empty: what comes there is logged by ourselves.
func (p *process) Stderr() io.ReadCloser { return io.NopCloser(strings.NewReader("")) }

func (p *process) Diagnose(context.Context) string { return "" }
func (p *process) Name() string                    { return p.cmd.Args[0] }

func (p *process) ID() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pid == 0 {
		return ""
	}
	return strconv.Itoa(p.pid)
}

// PluginToHost takes the address that the plugin has announced. A socket in a
// folder that only this user may enter is the one place where nobody else
// listens.
func (p *process) PluginToHost(network, address string) (string, string, error) {
	if network != "unix" {
		return "", "", fmt.Errorf("it listens on %s %s; a plugin listens on a Unix socket in $PLUGIN_UNIX_SOCKET_DIR", network, address)
	}
	p.link.network, p.link.address = network, address
	return network, address, nil
}

// admit says what is wrong with who listens where the plugin should: another
// process of this user may have taken the name of its socket.
func (p *process) admit(conn net.Conn) error {
	pid, known, err := peer(conn)
	if err != nil || !known || p.kin.belongs(pid, p.main) {
		return err
	}
	return fmt.Errorf("process %d listens on its socket, which it has not started; a plugin that somebody else starts is named by its address", pid)
}

func (p *process) HostToPlugin(network, address string) (string, string, error) {
	return network, address, nil
}
