package host

import (
	"slices"
	"sync"
	"syscall"
	"time"
)

// kin knows the processes of plugins and what these have started, whatever
// session or group that is in and whether its own parent lives: on Linux this
// process is a child subreaper, so orphans become its children, as they do
// anyway when it is process 1. It ends them with their plugin, and takes the
// status of those that have ended, which nobody else would.
//
// Whose an orphan is tells, in this order: that it was seen below a plugin, its
// process group, its environment, in which the plugin's folder for sockets
// stands. One that has left all of these, and our session as well, was started by
// some plugin that is no younger; it ends with the last of those that can have
// been it. Other children of this process are left alone.
//
// It is safe for concurrent use. Where processes cannot be looked at it knows
// nothing.
type kin struct {
	mu    sync.Mutex // held while a process is started, so that a look knows it
	ready bool
	mains map[int]*main
	seen  map[int]relative  // from the last look, by number
	late  map[int]time.Time // children that may be anybody's: when they were first seen to have ended
	at    time.Time         // of that look
}

// A main is the process of a plugin.
type main struct {
	pid   int
	start uint64 // when it was started, in the kernel's clock
	mark  string // what stands in the environment of all that it starts
}

// A relative is a process below this one that is no main.
type relative struct {
	proc
	of *main // nil for a stray: nobody knows which
}

// A proc is what the kernel says of a process.
type proc struct {
	pid, parent, group, session int
	start                       uint64
	ended                       bool // and nobody has taken its status
}

// lookEvery is how often what plugins have started is looked at, at most.
const lookEvery = time.Second

// born starts a process with start, which returns its number, and knows it from
// then on. What it starts has mark in its environment.
func (k *kin) born(mark string, start func() (pid int, err error)) (*main, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.ready {
		adopt()
		k.ready = true
		k.mains, k.seen, k.late = map[int]*main{}, map[int]relative{}, map[int]time.Time{}
	}
	pid, err := start()
	if err != nil {
		return nil, err
	}
	m := &main{pid: pid, mark: mark}
	if p, ok := look(pid); ok {
		m.start = p.start
	}
	k.mains[pid] = m
	return m, nil
}

// tend notes who is whose, and takes the status of orphans that have ended.
func (k *kin) tend(now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if now.Sub(k.at) >= lookEvery {
		k.at = now
		k.look()
	}
}

// kill ends all plugins and what they have started.
func (k *kin) kill() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.ready {
		return
	}
	k.look()
	for pid, m := range k.mains {
		if p, ok := look(pid); ok && p.start == m.start {
			syscall.Kill(-pid, syscall.SIGKILL)
		}
	}
	for _, r := range k.seen {
		kill(r.proc)
	}
}

// lateAfter is how long process 1 leaves a child that has ended to whoever may
// have started it in this program.
const lateAfter = 10 * time.Second

// look finds all relatives. The caller holds mu.
func (k *kin) look() {
	all := below()
	found, late, now := make(map[int]relative, len(all)), map[int]time.Time{}, time.Now()
	mine, session := self(), sessionOf(self())
	for _, p := range all { // parents before their children
		if k.mains[p.pid] != nil {
			continue
		}
		r := relative{proc: p}
		was, known := k.seen[p.pid]
		known = known && was.start == p.start
		if was.of != nil && k.mains[was.of.pid] != was.of {
			was.of = nil // it was waited for in vain
		}
		parent, below := found[p.parent]
		switch {
		case known && was.of != nil:
			r.of = was.of
		case k.mains[p.parent] != nil:
			r.of = k.mains[p.parent]
		case below:
			r.of = parent.of
		case p.parent != mine:
			continue // below a child of ours that is no plugin's
		case k.mains[p.group] != nil:
			r.of = k.mains[p.group]
		default:
			r.of = k.marked(p)
		}
		if r.of == nil && !known && !below && p.session == session {
			// Somebody else in this process has started it, or it is an orphan
			// that had ended before it was seen.
			if !p.ended || mine != 1 {
				continue
			}
			if since, ok := k.late[p.pid]; !ok || now.Sub(since) < lateAfter {
				if !ok {
					since = now
				}
				late[p.pid] = since
				continue
			}
		}
		if p.ended && p.parent == mine {
			reap(p.pid)
			continue
		}
		found[p.pid] = r
	}
	k.seen, k.late = found, late
}

// marked returns the main whose mark p has in its environment.
func (k *kin) marked(p proc) *main {
	if p.ended {
		return nil // it has none any more
	}
	in := environment(p.pid)
	for _, m := range k.mains {
		if m.mark != "" && slices.Contains(in, m.mark) {
			return m
		}
	}
	return nil
}

// belongs says whether the process pid is m or was started by it.
func (k *kin) belongs(pid int, m *main) bool {
	if pid == m.pid {
		return true
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.look()
	return k.seen[pid].of == m
}

// ended ends all that m has started, when m itself has ended, and forgets it.
// What the kernel does not let go is not waited for.
func (k *kin) ended(m *main) {
	for pause, late := time.Millisecond, time.Now().Add(2*time.Second); ; pause = min(2*pause, 50*time.Millisecond) {
		if k.finish(m) || time.Now().After(late) {
			break
		}
		time.Sleep(pause)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.mains, m.pid)
}

// finish kills all that m has started, and says whether there was nothing.
func (k *kin) finish(m *main) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.look()
	none := true
	for _, r := range k.seen {
		if r.of != m && !(r.of == nil && k.only(m, r)) {
			continue
		}
		none = false
		if !r.ended {
			kill(r.proc)
		}
	}
	return none
}

// only says whether no plugin but m can have started the stray r.
func (k *kin) only(m *main, r relative) bool {
	for _, other := range k.mains {
		if other != m && other.start <= r.start {
			return false
		}
	}
	return true
}
