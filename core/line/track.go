package line

import (
	"slices"
	"time"

	"github.com/dragoman-mt/dragoman/core"
)

// A track is one list of gates and what they said last. All who wait have the
// same gates and go to the same account, and there is one track; except after a
// reload that changed gates or account, and while fallbacks have accounts of
// their own. With a gate whose refusals are about one client each client has a
// track.
type track struct {
	gates   []core.Guard
	scopes  []core.Scope // of gates
	room    [4]core.Scope
	account string
	client  string // that it is for, when alone
	alone   bool
	waiting int

	closed bool      // a gate refused, and nothing has changed since
	by     int       // the place of the gate that refused last
	until  time.Time // when to ask it again; zero is after the next Give
	timed  bool      // it named a time
	paces  bool      // it refused for the interval between two starts alone
	asked  *waiter   // who was refused; nil when it was one of another track
	swept  time.Time // everybody was failed whose deadline comes before

	// waited is how long each gate has kept this track waiting in all, and
	// paced how much of that was the interval. A waiter notes them when it
	// comes and subtracts when it goes, which costs nothing while it waits.
	waited  []time.Duration
	paced   time.Duration
	tallied time.Time
}

// tally adds the time since the last call to the gate that refused.
func (t *track) tally(now time.Time) {
	if d := now.Sub(t.tallied); len(t.gates) > 0 && d > 0 {
		t.waited[t.by] += d
		if t.paces {
			t.paced += d
		}
	}
	t.tallied = now
}

func (t *track) name() string { return nameOf(t.gates, t.by) }

// place returns where gate stands among t's gates, or -1.
func (t *track) place(gate core.Gate) int { return placeOf(gate, t.gates) }

func placeOf(gate core.Gate, gates []core.Guard) int {
	for i := range gates {
		if gates[i].Gate == gate {
			return i
		}
	}
	return -1
}

// holds says whether the refusal that closed t is also about a request with
// these gates, of this client, to this account.
func (t *track) holds(gates []core.Guard, account, client string) bool {
	return t.by < len(t.gates) && t.concerns(t.gates[t.by].Gate, t.scopes[t.by], gates, account, client)
}

// concerns says whether a refusal that one of t met by gate is about the request.
func (t *track) concerns(gate core.Gate, scope core.Scope, gates []core.Guard, account, client string) bool {
	switch {
	case scope == core.ScopeAccount && t.account != account:
		return false
	case scope == core.ScopeClient && t.client != client:
		return false
	}
	return placeOf(gate, gates) >= 0
}

// runs says whether w's track is open, or closed by what also holds rival.
func (t *track) runs(rival *track) bool {
	return !t.closed || rival != nil && t.holds(rival.gates, rival.account, rival.client)
}

func scopeOf(gate core.Gate) core.Scope {
	if s, ok := gate.(core.Scoper); ok {
		return s.Scope()
	}
	return core.ScopeClient
}

// trackOf returns the track of such requests, or nil when none of them waits.
func (l *Line) trackOf(req *core.Request, gates []core.Guard) *track {
	for _, t := range l.tracks {
		if t.account == req.Account && (!t.alone || t.client == req.Client) && slices.Equal(t.gates, gates) {
			return t
		}
	}
	return nil
}

func (l *Line) trackFor(req *core.Request, gates []core.Guard, now time.Time) *track {
	t := l.trackOf(req, gates)
	if t != nil {
		return t
	}
	t = &track{gates: gates, account: req.Account, waited: make([]time.Duration, len(gates)), tallied: now}
	t.scopes = t.room[:0]
	for _, g := range gates {
		scope := scopeOf(g.Gate)
		if scope == core.ScopeClient {
			t.alone, t.client = true, req.Client
		}
		t.scopes = append(t.scopes, scope)
	}
	// Who comes to a gate that has refused others of its scope waits with them.
	for _, o := range l.tracks {
		if o.closed && o.holds(gates, t.account, t.client) {
			t.closed, t.by, t.until, t.timed, t.paces = true, t.place(o.gates[o.by].Gate), o.until, o.timed, o.paces
			break
		}
	}
	l.tracks = append(l.tracks, t)
	return t
}

// drop forgets t, for which nobody waits any more.
func (l *Line) drop(t *track) {
	l.tracks = slices.DeleteFunc(l.tracks, func(o *track) bool { return o == t })
}
