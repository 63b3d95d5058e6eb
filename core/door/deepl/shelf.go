package deepl

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"go.uber.org/zap"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/files"
)

// A shelf keeps the glossaries of all clients: in memory, and each in a file of its own
// that is there before its client hears so. A glossary on it is never changed.
type shelf struct {
	folder string // empty: in memory alone

	mu   sync.Mutex
	kept map[string]*glossary // by id
}

// newShelf takes what folder holds. A file that cannot be read stays where it is, and
// the log says so.
func newShelf(folder string, log *zap.Logger) *shelf {
	s := &shelf{folder: folder, kept: map[string]*glossary{}}
	if folder == "" {
		return s
	}
	names, err := filepath.Glob(filepath.Join(folder, "*.json"))
	if err != nil {
		log.Warn("glossaries cannot be listed", zap.Error(err))
	}
	for _, name := range names {
		raw, err := os.ReadFile(name)
		g := new(glossary)
		if err == nil {
			err = json.Unmarshal(raw, g)
		}
		if err == nil && g.ID+".json" != filepath.Base(name) {
			err = fmt.Errorf("it is not the glossary that its name says")
		}
		if err != nil {
			log.Warn("a glossary cannot be read, and is left where it is", zap.String("file", name), zap.Error(err))
			continue
		}
		g.made = new(made)
		s.kept[g.ID] = g
	}
	return s
}

func (s *shelf) get(client, id string) *glossary {
	s.mu.Lock()
	defer s.mu.Unlock()
	if g := s.kept[id]; g != nil && g.Client == client {
		return g
	}
	return nil
}

// all returns the glossaries of client, oldest first.
func (s *shelf) all(client string) (all []*glossary) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.kept {
		if g.Client == client {
			all = append(all, g)
		}
	}
	slices.SortFunc(all, func(a, b *glossary) int {
		if c := a.Created.Compare(b.Created); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return all
}

// add stores a glossary that is new.
func (s *shelf) add(g *glossary) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	count := 0
	for _, other := range s.kept {
		if other.Client == g.Client {
			count++
		}
	}
	if count >= mostGlossaries {
		return &core.Error{Kind: core.InvalidRequest, Detail: fmt.Sprintf("There are %d glossaries already, which is the most that a key may have", count)}
	}
	return s.put(g)
}

// change stores what edit makes of a copy of the glossary of that id, as it is now, and
// returns that. The lock is held until it is written, so that of two who change one
// glossary neither undoes what the other did.
func (s *shelf) change(id string, edit func(*glossary) error) (*glossary, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.kept[id]
	if now == nil {
		return nil, &core.Error{Kind: core.NotFound, Detail: "Glossary not found"}
	}
	next := *now
	next.Pairs = slices.Clone(now.Pairs)
	if err := edit(&next); err != nil {
		return nil, err
	}
	return &next, s.put(&next)
}

// put writes g and keeps it. The caller holds mu.
func (s *shelf) put(g *glossary) error {
	if err := s.write(g); err != nil {
		return &core.Error{Kind: core.Internal, Stage: "door", Detail: "the glossary could not be stored", Cause: err}
	}
	g.made = new(made)
	s.kept[g.ID] = g
	return nil
}

func (s *shelf) remove(g *glossary) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.folder != "" {
		if err := os.Remove(s.path(g.ID)); err != nil && !os.IsNotExist(err) {
			return &core.Error{Kind: core.Internal, Stage: "door", Detail: "the glossary could not be removed", Cause: err}
		}
	}
	delete(s.kept, g.ID)
	return nil
}

func (s *shelf) path(id string) string { return filepath.Join(s.folder, id+".json") }

// write puts g into its file in one step: whoever reads it finds all of it, or what
// was there before.
func (s *shelf) write(g *glossary) error {
	if s.folder == "" {
		return nil
	}
	raw, err := json.Marshal(g)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(s.folder, 0o700); err != nil {
		return err
	}
	return files.Replace(s.path(g.ID), raw, 0o600)
}

func newUUID() string {
	var id [16]byte
	rand.Read(id[:])
	return asUUID(id)
}

func asUUID(id [16]byte) string {
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
}
