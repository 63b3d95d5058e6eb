package line

import (
	"hash/maphash"
	"math"
	"math/bits"
	"time"

	"github.com/dragoman-mt/dragoman/core"
)

const (
	// memory is how long what was seen counts. In an average it fades: what was
	// seen memory ago weighs 1/e.
	memory = 10 * time.Second
	// evidence is how much must have been seen for an estimate. Below it nothing
	// is known, so after a quiet time nobody is refused.
	evidence = 8
	// clearly is how many times the time left an estimate must be before a
	// request is refused for it.
	clearly = 1.5
	// excuse lets one in so many of the requests that would be refused for an
	// estimate through, so that the estimate can be proven wrong.
	excuse = 10
)

// A history is how long calls took, by what makes them alike. Nothing of it is
// an average, for one that takes long says nothing about the others: it is how
// long most of them took at least.
//
// What one client's calls take tells whether another call of that client can
// make its deadline. What those of all clients take tells how long a line lasts.
type history struct {
	began time.Time
	last  time.Time // that something was added
	seed  maphash.Seed
	own   [kinds]record
	all   [core.Lanes][classes]record
}

// kinds is for how many kinds of calls of single clients there is room. What is
// not found there is not known, which refuses nobody.
const kinds = 64

// kind is what makes calls of a client alike.
type kind struct {
	account, client string
	lane            core.Lane
	class           uint8
}

type record struct {
	of kind
	lengths
}

// classes is how many there are by length of text; each is up to twice as long
// as the one before.
const classes = 20

func classOf(text string) uint8 { return uint8(min(bits.Len(uint(len(text))), classes-1)) }

func newHistory() *history { return &history{began: time.Now(), seed: maphash.MakeSeed()} }

// add notes that the call of t took d, or longer and was cut off then. What was
// cut off by a deadline may lower an estimate, but never raises it above what
// calls take.
func (h *history) add(t *Turn, d time.Duration, now time.Time) {
	h.last = now
	req := t.req
	if t.other != nil {
		req = t.other
	}
	at, class := now.Sub(h.began), classOf(req.Text)
	k := kind{req.Account, req.Client, t.lane, class}
	own := h.place(k)
	if own.of != k {
		*own = record{of: k}
	}
	own.add(d, at)

	all := &h.all[t.lane][class]
	if all.of.account != k.account {
		*all = record{of: kind{account: k.account}}
	}
	all.add(d, at)
}

// fresh says whether anything was seen of late.
func (h *history) fresh(now time.Time) bool { return now.Sub(h.last) < memory }

func (h *history) place(k kind) *record {
	n := maphash.String(h.seed, k.client) ^ maphash.String(h.seed, k.account)*31
	return &h.own[(n^uint64(k.lane)<<5^uint64(k.class))%kinds]
}

// client returns how long nearly all and how long most calls like req take of
// this client, or 0 when that is not known.
func (h *history) client(req *core.Request, lane core.Lane, now time.Time) (nearly, most time.Duration) {
	k := kind{req.Account, req.Client, lane, classOf(req.Text)}
	if own := h.place(k); own.of == k && own.known(now.Sub(h.began)) {
		return own.nearly, own.most
	}
	return 0, 0
}

// everybody returns how long most calls like req take of whatever client, or 0
// when that is not known.
func (h *history) everybody(req *core.Request, lane core.Lane, now time.Time) time.Duration {
	if all := &h.all[lane][classOf(req.Text)]; all.of.account == req.Account && all.known(now.Sub(h.began)) {
		return all.most
	}
	return 0
}

// lengths are how long the last calls took.
type lengths struct {
	last [4 * evidence]length
	n    int // ever
	// nearly is what seven in eight of them took at least, and most what three in
	// four did.
	nearly, most time.Duration
}

type length struct{ took, at time.Duration }

func (l *lengths) add(d, at time.Duration) {
	l.last[l.n%len(l.last)] = length{d, at}
	l.n++
	if l.n%evidence != 0 && d >= l.nearly/2 {
		return
	}
	var sorted [4 * evidence]time.Duration
	n := 0
	for _, x := range l.last[:min(l.n, len(l.last))] {
		if x.at < at-memory {
			continue
		}
		i := n
		for ; i > 0 && sorted[i-1] > x.took; i-- {
			sorted[i] = sorted[i-1]
		}
		sorted[i] = x.took
		n++
	}
	l.nearly, l.most = sorted[n/8], sorted[n/4]
}

// known says whether enough was seen of late.
func (l *lengths) known(at time.Duration) bool {
	return l.n >= evidence && l.last[(l.n-evidence)%len(l.last)].at >= at-memory
}

// paces is the mean time between two starts for which a gate named a time, such
// as the pace of an account's limit. Those of another account say nothing.
type paces struct {
	account     string
	sum, weight float64 // nanoseconds, and how many they are of
	at          time.Time
}

func (p *paces) add(account string, d time.Duration, now time.Time) {
	if p.account != account {
		*p = paces{account: account}
	}
	fade := math.Exp(-float64(now.Sub(p.at)) / float64(memory))
	p.sum = p.sum*fade + float64(d)
	p.weight = p.weight*fade + 1
	p.at = now
}

// value returns the average, or 0 when too little is known.
func (p *paces) value(account string, now time.Time) time.Duration {
	if p.account != account || p.weight < evidence || p.weight*math.Exp(-float64(now.Sub(p.at))/float64(memory)) < evidence {
		return 0
	}
	return time.Duration(p.sum / p.weight)
}
