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
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
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
	// Try starts each plugin in use once, with its environment, configures it, and
	// ends it: it says what Run would refuse, and nothing serves.
	Try
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
	mark    string             // in the names of its instances: a plugin at an address may serve other hosts too
	kin     kin
}

// New returns a host that has started nothing.
func New() *Host { return &Host{plugins: map[string]*plugin{}, mark: rand.Text()[:8]} }

// name gives in the name by which a plugin knows it. The caller holds mu.
func (h *Host) name(in *instance) {
	h.next++
	in.id = fmt.Sprintf("%s#%d-%s", in.name, h.next, h.mark)
}

// SetMode says what Start of a part that is built from now on does.
func (h *Host) SetMode(m Mode) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.mode = m
}

// Kill ends every process of a plugin and what it has started, now and without a
// word: for a program that ends although a part does not let itself be closed.
func (h *Host) Kill() { h.kin.kill() }

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
			return "", fmt.Errorf("making a folder for the sockets of plugins: %w; set TMPDIR to a folder that can be written to", err)
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
	h.name(in)
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
	sweep(dir, prefix, log)
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

// sweep removes from dir the folders that newSockets has made for processes of
// this user that are gone, and nothing else: those that have a name that MkdirTemp
// gives after prefix, and are ours alone.
func sweep(dir, prefix string, log *zap.Logger) {
	made := regexp.MustCompile("^" + regexp.QuoteMeta(prefix) + "[0-9]{1,10}$")
	found, err := os.ReadDir(dir)
	if err != nil {
		return // to make one there will say it better
	}
	for _, entry := range found {
		if !made.MatchString(entry.Name()) {
			continue
		}
		path := filepath.Join(dir, entry.Name())
		info, err := os.Lstat(path)
		if err != nil || info.Mode() != fs.ModeDir|0o700 || info.Sys().(*syscall.Stat_t).Uid != uint32(os.Getuid()) {
			continue
		}
		if !left(path, info.ModTime()) {
			continue
		}
		if killed := orphans(path); killed > 0 {
			log.Warn("ended processes that the plugins of another gateway, which is gone, have left", zap.Int("processes", killed))
		}
		if err := os.RemoveAll(path); err == nil {
			log.Info("removed the sockets that another process has left", zap.String("folder", path))
		}
	}
}

// left says whether the process that has made the folder is gone.
func left(folder string, modified time.Time) bool {
	lock, err := os.OpenFile(filepath.Join(folder, lockFile), os.O_RDWR|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err == nil {
		defer lock.Close()
		return syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil
	}
	if !os.IsNotExist(err) || time.Since(modified) < young {
		return false
	}
	// It died while it made the folder, in which there is nothing else then.
	inside, err := os.ReadDir(folder)
	return err == nil && (len(inside) == 0 || len(inside) == 1 && inside[0].Name() == lockFile+"~")
}

func (s *sockets) close() error {
	err := os.RemoveAll(s.dir)
	s.lock.Close()
	return err
}
