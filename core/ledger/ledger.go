// Package ledger counts what was spent of an allowance in the time just past, and what
// a call may cost. It has no lock: it belongs to the gate that keeps it.
package ledger

import (
	"time"
	"unicode/utf8"

	"github.com/dragoman-mt/dragoman/core"
)

// cells is how many cells cover the time of a ledger. One more is kept, wherever in
// its cell now lies.
const cells = 120

// A Ledger counts the units of the last Over, or up to one cell more, a cell being the
// 120th part. The zero value is empty, and of the last minute.
type Ledger struct {
	Over time.Duration // set before the first use; 0 is a minute

	sum   int64
	units [cells + 1]int64
	epoch time.Time // when cell 0 began
	last  int64     // the newest cell
}

func (l *Ledger) cell() time.Duration {
	if l.Over == 0 {
		return time.Minute / cells
	}
	return l.Over / cells
}

// Add counts n units at now.
func (l *Ledger) Add(n int64, now time.Time) {
	l.move(now)
	l.units[l.last%(cells+1)] += n
	l.sum += n
}

// Sum returns how many it holds at now.
func (l *Ledger) Sum(now time.Time) int64 {
	l.move(now)
	return l.sum
}

// Until returns in how long it will hold no more than room.
func (l *Ledger) Until(room int64, now time.Time) time.Duration {
	l.move(now)
	sum := l.sum
	for c := l.last + 1; sum > room; c++ { // c%(cells+1) is the oldest, and leaves when c begins
		if c > l.last+cells+1 {
			return l.Over // it will never hold less than nothing
		}
		if sum -= l.units[c%(cells+1)]; sum <= room {
			return l.epoch.Add(time.Duration(c) * l.cell()).Sub(now)
		}
	}
	return 0
}

// Each calls each with what every cell holds that holds something, oldest first, and the
// latest time at which that may have been added.
func (l *Ledger) Each(now time.Time, each func(n int64, at time.Time)) {
	l.move(now)
	for c := max(l.last-cells, 0); c <= l.last; c++ {
		if n := l.units[c%(cells+1)]; n > 0 {
			at := l.epoch.Add(time.Duration(c+1) * l.cell())
			if at.After(now) {
				at = now
			}
			each(n, at)
		}
	}
}

func (l *Ledger) move(now time.Time) {
	if l.epoch.IsZero() {
		l.epoch = now
	}
	to := int64(now.Sub(l.epoch) / l.cell())
	if to-l.last > cells+1 {
		*l = Ledger{Over: l.Over, epoch: l.epoch, last: to}
	}
	for l.last < to {
		l.last++
		l.sum -= l.units[l.last%(cells+1)]
		l.units[l.last%(cells+1)] = 0
	}
}

// Estimate returns the tokens that a call may cost: the prompt's own, the
// text's at three code points each, and the cap of the answer. Whoever asks for a chat
// says what it costs.
func Estimate(req *core.Request) int64 {
	if req.Chat != nil {
		return int64(max(req.Chat.Tokens, 1))
	}
	source := int64(utf8.RuneCountInString(req.Text)) / 3
	n := 120 + source + min(max(3*source+16, 32), 4096)
	for _, p := range req.Context {
		n += int64(utf8.RuneCountInString(p.Source)+utf8.RuneCountInString(p.Target)) / 3
	}
	return n
}

// Cost returns the tokens that u says, as far as that can be believed of a call
// that was estimated to cost n: no call costs a multiple of all that was asked
// for, whatever the upstream says.
func Cost(u core.Usage, n int64) int64 {
	const most = 1 << 40 // so that the sum cannot overflow
	said := int64(min(max(u.PromptTokens, 0), most)) + int64(min(max(u.CompletionTokens, 0), most))
	if said == 0 {
		return n // the provider did not say
	}
	return min(said, 8*n+8192)
}
