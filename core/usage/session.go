package usage

import (
	"slices"
	"time"
)

// mostSessions bounds the sessions that are known at one time; of more, those that were
// used longest ago are forgotten. What they used stays in the rows of their clients.
const mostSessions = 10_000

type sessionKey struct{ client, session string }

// A session is what one has used since it was first seen.
type session struct {
	use  Use
	last time.Time
}

// seen adds to the session of r. The caller holds mu.
func (b *Book) seen(r row, use Use, now time.Time) {
	if r.session == "" {
		return
	}
	k := sessionKey{r.client, r.session}
	s := b.sessions[k]
	if s == nil {
		if len(b.sessions) >= mostSessions {
			for _, old := range oldest(b.sessions, mostSessions/10) {
				delete(b.sessions, old)
			}
		}
		s = &session{}
		b.sessions[k] = s
	}
	s.use, s.last = s.use.Plus(use), now
}

// oldest returns the n of all that were used longest ago.
func oldest(all map[sessionKey]*session, n int) []sessionKey {
	keys := make([]sessionKey, 0, len(all))
	for k := range all {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b sessionKey) int { return all[a].last.Compare(all[b].last) })
	return keys[:max(0, min(n, len(keys)))]
}

// Session returns what a session of a client has used since it was first seen.
func (b *Book) Session(client, name string) Use {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s := b.sessions[sessionKey{client, name}]; s != nil {
		return s.use
	}
	return Use{}
}
