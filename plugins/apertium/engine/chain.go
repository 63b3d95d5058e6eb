package engine

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// A chain is the running commands of one mode. One text is in flight at a
// time; a chain that did anything but answer it, once and in time, is killed.
type chain struct {
	commands []*exec.Cmd
	in, out  *os.File
	answers  chan []byte   // one for each NUL; closed when the chain's output ends
	killed   chan struct{} // closed by kill
	reader   sync.WaitGroup
	idle     *time.Timer // guarded by Engine.mu
}

// maxAnswer bounds what a chain may write for one text.
const maxAnswer = 1 << 20

// startChain starts the commands of m in a process group of their own. They die
// with this process: by the signal that Linux sends then, and since the first
// of them reads the end of its input.
func startChain(m Mode) (*chain, error) {
	c := &chain{answers: make(chan []byte, 1), killed: make(chan struct{})}
	in, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	c.in = w
	group := 0
	for _, words := range m.Commands {
		var r *os.File
		if r, w, err = os.Pipe(); err != nil {
			break
		}
		cmd := exec.Command(words[0], words[1:]...)
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C.UTF-8"}
		cmd.Stdin, cmd.Stdout = in, w
		cmd.SysProcAttr = childOf(group)
		err = cmd.Start()
		in.Close()
		w.Close()
		in = r
		if err != nil {
			break
		}
		c.commands = append(c.commands, cmd)
		group = c.commands[0].Process.Pid
	}
	c.out = in
	c.reader.Go(c.read)
	if err != nil {
		c.kill()
		return nil, err
	}
	return c, nil
}

// read cuts the chain's output at its NULs.
func (c *chain) read() {
	defer close(c.answers)
	r := bufio.NewReader(c.out)
	var answer []byte
	for {
		part, err := r.ReadSlice(0)
		if len(answer)+len(part) > maxAnswer {
			return
		}
		answer = append(answer, part...)
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if err != nil {
			return
		}
		select {
		case c.answers <- answer[:len(answer)-1]:
		case <-c.killed:
			return
		}
		answer = nil
	}
}

var (
	errDied = errors.New("the process chain ended")
	errLate = errors.New("the process chain did not answer in time")
	errMore = errors.New("the process chain wrote without being asked")
)

// fit says whether the chain may be given a text: it lives and has been silent
// since its last answer.
func (c *chain) fit() error {
	select {
	case _, ok := <-c.answers:
		if !ok {
			return errDied
		}
		return errMore
	default:
		return nil
	}
}

// exchange sends one text and returns its translation. After any error the
// chain must be killed.
func (c *chain) exchange(ctx context.Context, f *frame, within time.Duration) (string, error) {
	if err := c.fit(); err != nil {
		return "", err
	}
	end := time.Now().Add(within)
	if err := c.in.SetWriteDeadline(end); err != nil {
		return "", err
	}
	if _, err := c.in.Write(append(f.encode(), 0)); err != nil {
		switch {
		case errors.Is(err, syscall.EPIPE):
			return "", errDied
		case errors.Is(err, os.ErrDeadlineExceeded):
			return "", errLate
		}
		return "", fmt.Errorf("write to the process chain: %w", err)
	}
	late := time.NewTimer(time.Until(end))
	defer late.Stop()
	select {
	case answer, ok := <-c.answers:
		if !ok {
			return "", errDied
		}
		return f.decode(answer)
	case <-late.C:
		return "", errLate
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}

// kill ends all commands and returns when they are gone. It is called once.
func (c *chain) kill() {
	close(c.killed)
	if len(c.commands) > 0 {
		// None has been waited for, so the group's number is still theirs.
		syscall.Kill(-c.commands[0].Process.Pid, syscall.SIGKILL)
	}
	c.in.Close()
	for _, cmd := range c.commands {
		cmd.Wait()
	}
	c.out.Close()
	c.reader.Wait()
}
