package provider

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dragoman-mt/dragoman/core"
)

var _ core.Prober = (*Stage)(nil)

// failsInARow is after how many calls in a row a provider counts as one that cannot
// translate; recently is for how long after the last of them: then somebody has to
// try whether it can again, and whoever looks at readiness may be who sends calls.
const (
	failsInARow = 3
	recently    = 10 * time.Second
)

// health is how the last calls of a provider went, for those who ask whether a
// text could be translated now. It is stricter than a breaker, which may be
// switched off and waits for more, and keeps nothing from the provider.
type health struct {
	mu     sync.Mutex
	row    int // failures since the last answer
	last   time.Time
	why    string    // the last failure
	paused time.Time // until when the provider wants to be left alone
}

// note hears of a call that says something about the provider.
func (h *health) note(failed *core.Error) {
	now := time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	if failed == nil {
		h.row, h.paused = 0, time.Time{}
		return
	}
	switch failed.Kind {
	case core.ProviderFailed, core.Unavailable, core.DeadlineExceeded, core.QuotaExceeded,
		core.Internal:
		h.row++
		h.last, h.why = now, string(failed.Kind)
		if failed.Detail != "" {
			h.why += ": " + failed.Detail
		}
	case core.RateLimited:
		h.paused = now.Add(failed.RetryAfter)
	case core.ProviderRefused:
		h.row = 0 // it works, but would not translate that text
	}
}

// unwell says why the provider cannot translate now, or nil. A pause is no reason
// as long as it leaves requests some of their deadline.
func (h *health) unwell(deadline time.Duration) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if left := time.Until(h.paused); left > 0 && left >= deadline {
		return fmt.Errorf("it is not to be called for another %v", left.Round(time.Second))
	}
	if h.row >= failsInARow && time.Since(h.last) < recently {
		return fmt.Errorf("its last %d calls failed, the last with %s", h.row, h.why)
	}
	return nil
}

// Probe asks nobody: each provider is asked by itself, and Ready says the rest.
func (s *Stage) Probe(context.Context) error { return nil }

// Ready says whether one of the providers could translate a text now, as far as
// the last calls tell. It returns nil as soon as a call would be let through to one
// of which nothing bad is known.
func (s *Stage) Ready() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var why []string
	for _, name := range s.cfg.Names() {
		var serving []*record
		for _, r := range s.serving {
			if r.entry == name {
				serving = append(serving, r)
			}
		}
		if serving == nil {
			return nil // nobody has called it since it was taken in use
		}
		slices.SortFunc(serving, func(a, b *record) int { return strings.Compare(a.name, b.name) })
		for _, r := range serving {
			err := r.breaker.health.unwell(time.Duration(s.deadline.Load()))
			if kind, left, trying := r.pause.on(time.Now()); kind == core.QuotaExceeded {
				err = fmt.Errorf("quota_exceeded: its account is asked again in %v", left.Round(time.Second))
				if trying != nil {
					err = errors.New("quota_exceeded: its account is asked again at this moment")
				}
			}
			if shut, left := r.breaker.shut(); shut {
				err = fmt.Errorf("it keeps failing and is left alone for another %v", left.Round(time.Second))
			}
			if err == nil {
				return nil
			}
			why = append(why, r.name+": "+err.Error())
		}
	}
	return &core.Error{Kind: core.Unavailable, Detail: strings.Join(why, "; ")}
}
