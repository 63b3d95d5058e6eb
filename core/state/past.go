package state

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
)

// A Past is what is kept of the contents that served, as a running gateway has it:
// on disk, and in memory what it has noted itself. So a disk that is full, or a
// folder that somebody removed, takes nothing from `dragoman reload --previous`,
// and is written again when that can be done.
type Past struct {
	Folder
	log *zap.Logger

	mu    sync.Mutex
	noted []held // by this process, latest first
	told  bool   // the log says that it cannot be written
}

// held is a content in memory.
type held struct {
	label
	content []byte
}

// NewPast returns the past that folder holds.
func NewPast(folder Folder, log *zap.Logger) *Past { return &Past{Folder: folder, log: log} }

// Note keeps content, which serves since at; back says that it was gone back to.
// What cannot be written is no reason not to serve.
func (p *Past) Note(content []byte, at time.Time, back bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := label{at: at.UTC(), hash: Hash(content)[:shortHash], back: back}
	if all, _ := p.all(); len(all) > 0 && !now.at.After(all[0].at) {
		now.at = all[0].at.Add(1) // the clock was set back
	}
	p.noted = slices.DeleteFunc(p.noted, func(h held) bool { return h.hash == now.hash })
	p.noted = slices.Insert(p.noted, 0, held{now, content})
	p.noted = p.noted[:min(len(p.noted), most)]
	p.write()
}

// Persist writes what could not be written before.
func (p *Past) Persist() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.write()
}

func (p *Past) write() {
	err := p.flush()
	switch {
	case err == nil && p.told:
		p.log.Info("what served is kept on disk again")
	case err != nil && !p.told:
		p.log.Warn("what served cannot be kept on disk; until it can, `dragoman reload --previous` works from memory, and `dragoman serve --last-good` will not find it", zap.Error(err))
	}
	p.told = err != nil
}

// flush brings to disk what is missing there.
func (p *Past) flush() error {
	root, err := p.open(true)
	if err != nil {
		return err
	}
	defer root.Close()
	for _, h := range slices.Backward(p.noted) {
		all, err := list(root)
		if err != nil {
			return err
		}
		if slices.Contains(all, h.label) || len(all) == most && all[most-1].at.After(h.at) {
			continue
		}
		// Another process may have noted the same content since.
		if i := slices.IndexFunc(all, func(x label) bool { return x.hash == h.hash }); i >= 0 && all[i].at.After(h.at) {
			continue
		}
		if err := h.place(root, h.content, all); err != nil {
			return fmt.Errorf("keeping the configuration in %s: %w", p.Path(), err)
		}
	}
	return tidy(root)
}

// all returns the names of what is kept, latest first.
func (p *Past) all() ([]label, error) {
	root, err := p.reading()
	var all []label
	if err == nil {
		defer root.Close()
		all, err = list(root)
	}
	for _, h := range p.noted {
		all = append(all, h.label)
	}
	slices.SortFunc(all, func(a, b label) int { return cmp.Compare(b.String(), a.String()) })
	all = once(all)
	if len(all) > 0 || errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return all, err
}

// once drops all but the latest of each content, and what is too old.
func once(all []label) (kept []label) {
	for _, x := range all {
		if len(kept) < most && !slices.ContainsFunc(kept, func(o label) bool { return o.hash == x.hash }) {
			kept = append(kept, x)
		}
	}
	return kept
}

// Before is the Folder's, and knows what is in memory.
func (p *Past) Before(hash string) (Kept, error) {
	return p.pick(func(all []label) (int, error) { return stepBack(all, hash), nil })
}

// Kept returns what is kept, latest first. What cannot be read has no content.
func (p *Past) Kept() ([]Kept, error) {
	p.mu.Lock()
	all, err := p.all()
	p.mu.Unlock()
	if err != nil {
		return nil, err
	}
	var kept []Kept
	for i, x := range all {
		k, err := p.pick(func(now []label) (int, error) {
			if i >= len(now) || now[i] != x {
				return 0, errMoved
			}
			return i, nil
		})
		switch {
		case errors.Is(err, errMoved):
			return p.Kept() // another process has noted something meanwhile
		case err != nil:
			k = Kept{Hash: x.hash, At: x.at}
		}
		kept = append(kept, k)
	}
	return kept, nil
}

var errMoved = errors.New("what is kept has changed")

// pick returns the content of which choose gives the place.
func (p *Past) pick(choose func([]label) (int, error)) (Kept, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for try := 0; ; try++ {
		all, err := p.all()
		if err != nil {
			return Kept{}, err
		}
		i, err := choose(all)
		if err != nil {
			return Kept{}, err
		}
		if i >= len(all) {
			return Kept{}, fmt.Errorf("%w in %s", ErrNothingOlder, p.Path())
		}
		x := all[i]
		if h := slices.IndexFunc(p.noted, func(h held) bool { return h.hash == x.hash }); h >= 0 {
			return Kept{Content: p.noted[h].content, Hash: Hash(p.noted[h].content), At: x.at}, nil
		}
		content, err := p.read(x)
		if errors.Is(err, fs.ErrNotExist) && try < 10 {
			continue // another process has moved it
		}
		if err != nil {
			return Kept{}, err
		}
		return Kept{Content: content, Hash: Hash(content), At: x.at}, nil
	}
}

func (p *Past) read(x label) ([]byte, error) {
	root, err := p.reading()
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return x.read(root)
}

// reading opens the folder, or that of an older version when there is none yet.
func (s Folder) reading() (*os.Root, error) {
	root, err := s.open(false)
	if older, has := s.older(); has && errors.Is(err, fs.ErrNotExist) {
		return older.open(false)
	}
	return root, err
}
