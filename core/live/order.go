package live

import (
	"fmt"
	"slices"
	"time"

	"github.com/dragoman-mt/dragoman/core"
)

// release lets finals go, for each language in the order in which their segments began.
// One whose source has come and whose answer has not holds up those behind it, until
// they have waited for reorder_wait.
func (s *Session) release(now time.Time) {
	for again := true; again; {
		again = false
		for _, t := range s.targets {
			if s.releaseOne(t, now) {
				again = true
			}
		}
	}
	if s.ending && !s.ended && len(s.order) == 0 {
		s.ended = true
		for _, t := range s.targets {
			if !t.gone {
				s.out.say(&End{Head{Type: "end"}, t.language}, true, nil, 0)
			}
		}
		s.out.say(s.Stats(now), false, nil, 0)
		s.out.say(&End{Head: Head{Type: "end"}}, true, nil, 0)
	}
}

// releaseOne lets one final into t go, if one may.
func (s *Session) releaseOne(t *target, now time.Time) bool {
	var late []*track
	for _, g := range s.order {
		if !g.final {
			continue
		}
		i := slices.IndexFunc(g.tracks, func(k *track) bool { return k.target == t })
		if i < 0 || g.tracks[i].done {
			continue
		}
		k := g.tracks[i]
		if k.ready == nil {
			late = append(late, k)
			continue
		}
		if len(late) > 0 && now.Sub(k.readyAt) < s.config.ReorderWait {
			return false // those behind it have not waited longer
		}
		for _, o := range late {
			o.overdue = true
		}
		s.emit(k, now)
		return true
	}
	return false
}

// emit gives the client a final.
func (s *Session) emit(k *track, now time.Time) {
	g, f := k.segment, k.ready
	k.done = true
	f.LatencyMS = now.Sub(g.finalAt).Milliseconds()
	f.Late = k.overdue
	if f.Corrected > 0 && s.options.Corrections {
		s.out.say(&Correction{Head{Type: "correction"}, f.Target, f.Segment, f.Revision, f.Text, f.Corrected}, true, nil, len(f.Text))
	}
	s.stats.final(k, now, s.options.Deadline)
	s.out.say(f, true, &k.slot, 2*len(f.Text)+len(f.Segment))
	if f.Last.Error == nil && f.Text != "" {
		k.target.pairs = boundedPairs(s.config, append(k.target.pairs, core.Pair{Source: g.text, Target: f.Text}))
	}
	if !slices.ContainsFunc(g.tracks, func(k *track) bool { return !k.done }) {
		s.close(g, now)
	}
	k.shed()
}

// shed lets go of all that made the final, which is kept for who comes back.
func (k *track) shed() {
	k.segment, k.drafts, k.last, k.ready, k.measure = nil, nil, nil, nil, meter{}
	k.slot.frame, k.slot.saw = nil, nil
}

// calm is how long without news of the queue it is taken to be empty.
const calm = 3 * time.Second

// hear learns how long calls wait for their turn.
func (s *Session) hear(now time.Time, a Answer) {
	if a.Cached {
		return
	}
	waited := a.Waited
	if a.Err != nil && (a.Err.Kind == core.Overloaded || a.Err.Kind == core.RateLimited) {
		waited = max(waited, 2*s.config.QueueBudget)
	}
	s.delay, s.delayed = (s.delay+waited)/2, now
	s.relevel(now)
}

// relevel goes up or down the ladder: a step down wants half of what a step up does.
func (s *Session) relevel(now time.Time) {
	level := s.level
	budget := s.config.QueueBudget
	switch late := max(2*budget, s.options.Deadline*3/4); {
	case s.options.Deadline > 0 && s.delay > late:
		level = 3
	case level == 3 && s.delay > late/2:
	case s.delay > 2*budget:
		level = 2
	case s.delay > budget:
		level = max(level, 1)
	case s.delay < budget/2:
		level = 0
	}
	if level == s.level {
		return
	}
	s.level, s.levelled = level, now
	s.notice()
	if level == 0 {
		for _, g := range s.order {
			s.advance(g, now)
		}
	}
}

func (s *Session) notice() {
	n := &Notice{Head: Head{Type: "notice"}, Kind: "degraded"}
	switch s.level {
	case 0:
		n.Kind, n.Detail = "recovered", "partials and finals"
	case 1:
		n.Detail = fmt.Sprintf("fewer partials: queue delay %.1fs", s.delay.Seconds())
	case 2:
		n.Detail = fmt.Sprintf("finals only: queue delay %.1fs", s.delay.Seconds())
	case 3:
		n.Detail = fmt.Sprintf("cache and fallbacks only, else finals as they were said: queue delay %.1fs", s.delay.Seconds())
	}
	s.Say(n)
}
