package gateway

import (
	"bytes"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/dragoman-mt/dragoman/core/engine"
	"github.com/dragoman-mt/dragoman/core/state"
)

// A memory keeps in the state folder what parts of a gateway know that must outlive it.
// After a kill what they learned in the last rememberEvery is missing.
type memory struct {
	folder state.Folder
	engine *engine.Engine
	log    *zap.Logger

	kept []byte
	told bool // the log says that it cannot be written
}

// rememberEvery is how often what has changed is written.
const rememberEvery = 2 * time.Second

// begin hands the parts what a former gateway remembered, and keeps what they know until
// end is called.
func (m *memory) begin() (end func()) {
	if err := m.recall(); err != nil {
		m.log.Warn("what a former gateway has spent is not known, it is counted anew", zap.Error(err))
	}
	stop := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		every := time.NewTicker(rememberEvery)
		defer every.Stop()
		for {
			select {
			case <-stop:
				m.remember()
				return
			case <-every.C:
				m.remember()
			}
		}
	})
	return func() { close(stop); running.Wait() }
}

func (m *memory) recall() error {
	kept, err := m.folder.Recall()
	if err != nil || kept == nil {
		return err
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(kept, &all); err != nil {
		return fmt.Errorf("reading what is kept in %s: %w", m.folder.Path(), err)
	}
	m.kept = kept
	return m.engine.Recall(all)
}

// remember writes what the parts know, if that has changed.
func (m *memory) remember() {
	all := m.engine.Remember()
	if all == nil {
		return // nothing, or no generation serves any more
	}
	now, err := json.Marshal(all)
	if err == nil && bytes.Equal(now, m.kept) {
		return
	}
	if err == nil {
		err = m.folder.Remember(now)
	}
	switch {
	case err == nil && m.told:
		m.log.Info("what is spent is kept on disk again")
	case err != nil && !m.told:
		m.log.Warn("what is spent cannot be kept on disk; until it can, requests_per_day begins anew with the gateway", zap.Error(err))
	}
	if m.told = err != nil; err == nil {
		m.kept = now
	}
}
