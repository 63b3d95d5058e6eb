// Package host runs plugins: programs that serve a provider or a stage out of
// process, over plugins/wire. It declares the kinds `plugin`, starts and watches
// their processes, and restarts those that die.
//
// Entries with the same program share one process, as instances of it. A process
// is started with its first instance and ended with its last, so a plugin that
// nothing uses is never run. Every process has a process group and a socket
// folder of its own, and the environment that the file says.
//
// See README.md for what operators see.
package host

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/dragoman-mt/dragoman/core"
)

// A Mode says what a Host does with plugins.
type Mode int

const (
	// Run starts plugins and keeps them running.
	Run Mode = iota
	// Describe starts each plugin in use once, without an environment, asks
	// what it is, checks its configuration by that, and ends it.
	Describe
	// Ignore starts none: what their configuration says is not checked.
	Ignore
)

// A Host owns the plugin processes of a gateway. It is safe for concurrent use.
type Host struct {
	mu      sync.Mutex
	mode    Mode
	sockets *sockets
	plugins map[string]*plugin // by identity
	next    int                // instances so far
}

// New returns a host that has started nothing.
func New() *Host { return &Host{plugins: map[string]*plugin{}} }

// SetMode says what Start of a part that is built from now on does.
func (h *Host) SetMode(m Mode) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.mode = m
}

// Close removes what is left when every part was closed.
func (h *Host) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.sockets == nil {
		return nil
	}
	err := h.sockets.close()
	h.sockets = nil
	return err
}

// folder returns the folder for the sockets of this process, made at the first
// call.
func (h *Host) folder(log *zap.Logger) (string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.sockets == nil {
		s, err := newSockets(os.TempDir(), log)
		if err != nil {
			return "", fmt.Errorf("making a folder for the sockets of plugins: %w", err)
		}
		h.sockets = s
	}
	return h.sockets.dir, nil
}

// join makes in an instance of the plugin that is what its program says now,
// which is started when it is not running.
func (h *Host) join(in *instance) (*plugin, error) {
	made, err := in.program.version(in.folder)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.next++
	in.id = in.name + "#" + strconv.Itoa(h.next)
	p, ok := h.plugins[made.identity]
	if !ok {
		p = newPlugin(h, made, in)
		h.plugins[p.id] = p
	}
	p.add(in)
	if !ok {
		p.start()
	}
	return p, nil
}

// leave ends an instance, and with the last one its plugin.
func (h *Host) leave(p *plugin, in *instance) {
	h.mu.Lock()
	last := p.remove(in)
	if last {
		delete(h.plugins, p.id)
	}
	h.mu.Unlock()
	if last {
		p.end()
		return
	}
	p.release(in)
}

// rekey notes that p runs another version than it was made for.
func (h *Host) rekey(p *plugin, identity string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if p.id == identity || h.plugins[p.id] != p {
		return
	}
	delete(h.plugins, p.id)
	if _, taken := h.plugins[identity]; taken {
		h.next++
		identity += " " + strconv.Itoa(h.next) // it shares its process with nobody who comes
	}
	p.id = identity
	h.plugins[identity] = p
}

// Restart starts another process of the plugin called name, an entry of the file
// or a program, from the files as they are now. The new process is started and
// configured first and takes over then; the calls in the former end there. When it
// does not start, or refuses what the former took, the former serves on. A plugin
// that was given up is started again. It returns when the new process serves.
func (h *Host) Restart(ctx context.Context, name string) error {
	h.mu.Lock()
	var entries, programs []*plugin
	names := map[string]bool{}
	for _, p := range h.plugins {
		s := p.status()
		names[s.Program] = true
		for _, entry := range s.Serves {
			names[entry] = true
		}
		switch {
		case slices.Contains(s.Serves, name):
			entries = append(entries, p)
		case s.Program == name:
			programs = append(programs, p)
		}
	}
	h.mu.Unlock()
	which := entries
	if len(which) == 0 {
		which = programs
	}
	if len(which) == 0 {
		detail := fmt.Sprintf("no plugin in use is called %q", name)
		if len(names) > 0 {
			detail += "; there are " + strings.Join(slices.Sorted(maps.Keys(names)), ", ")
		}
		return &core.Error{Kind: core.NotFound, Field: "name", Detail: detail}
	}
	var failed []error
	for _, p := range which {
		if err := p.restart(ctx); err != nil {
			failed = append(failed, fmt.Errorf("restarting %s: %w", p.program.name(), err))
		}
	}
	return errors.Join(failed...)
}

// sockets is the folder in which the plugins of one process have their sockets.
// It is locked as long as the process lives, so that another can tell that it
// was left over.
type sockets struct {
	dir  string
	lock *os.File
}

const lockFile = "lock"

// newSockets makes a folder below dir, and removes those that processes of this
// user have left there.
func newSockets(dir string, log *zap.Logger) (*sockets, error) {
	prefix := fmt.Sprintf("dragoman-%d-", os.Getuid())
	sweep(filepath.Join(dir, prefix+"*"), log)
	made, err := os.MkdirTemp(dir, prefix)
	if err != nil {
		return nil, err
	}
	// The longest that may stand in a Unix socket's address is 104 to 108 bytes,
	// and the folder of one plugin and its socket are to come.
	if room := 104 - 2*len("/plugin-dir0123456789"); len(made) > room {
		os.Remove(made)
		return nil, fmt.Errorf("%s is too long a name for sockets in it; set TMPDIR to a shorter one", made)
	}
	// It has its name only once it is locked: whoever sweeps at the same moment
	// would else take the folder for one that was left.
	name := filepath.Join(made, lockFile)
	lock, err := os.OpenFile(name+"~", os.O_CREATE|os.O_RDWR, 0o600)
	if err == nil {
		if err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err == nil {
			err = os.Rename(name+"~", name)
		}
	}
	if err != nil {
		os.RemoveAll(made)
		return nil, err
	}
	return &sockets{made, lock}, nil
}

// young is how long a folder without a lock may be one that is being made.
const young = time.Minute

func sweep(pattern string, log *zap.Logger) {
	found, _ := filepath.Glob(pattern) // the pattern is a good one
	for _, dir := range found {
		info, err := os.Lstat(dir)
		if err != nil || !info.IsDir() || info.Sys().(*syscall.Stat_t).Uid != uint32(os.Getuid()) {
			continue
		}
		lock, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_RDWR, 0)
		switch {
		case err == nil && syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil:
			lock.Close()
			continue // its process lives
		case err == nil:
			lock.Close()
		case !os.IsNotExist(err) || time.Since(info.ModTime()) < young:
			continue
		}
		if err := os.RemoveAll(dir); err == nil {
			log.Info("removed the sockets that another process has left", zap.String("folder", dir))
		}
	}
}

func (s *sockets) close() error {
	err := os.RemoveAll(s.dir)
	s.lock.Close()
	return err
}
