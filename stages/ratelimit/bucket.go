package ratelimit

import (
	"math"
	"time"

	"github.com/dragoman-mt/dragoman/core/ledger"
)

// A bucket is an allowance of units a minute: requests, or tokens. It paces,
// and it keeps a ledger.
//
// It paces: it holds burst units and gains (limit - burst) / 60 a second, so
// that no 60 seconds see more than limit taken. It holds more only while one
// call that needs more waits for it.
//
// It keeps a ledger: the upstream counts a call at some time between its start
// and its end, so a call stands against the limit from its start until a minute
// after its end. That holds whatever the network does, across a change of the
// limit, and for what a call really cost. At a steady pace the ledger never
// refuses what pacing allows.
type bucket struct {
	limit, burst float64 // limit is 0 when none is known
	scale        float64 // of the rate, from 0 to 1; lower after a 429
	level        float64 // below 0 is debt
	at           time.Time
	shut         time.Time // the upstream said that nothing is back before
	held         int64     // units of calls that run
	ended        ledger.Ledger
}

// rate is what the bucket gains a second. After a 429 it is less, but one a
// second if the limit allows that.
func (b *bucket) rate() float64 {
	full := (b.limit - b.burst) / 60
	if b.limit < 10 {
		full = b.limit / 60 // a burst would be much of it: the ledger alone keeps it
	}
	return max(full*b.scale, min(full, 1))
}

// refill adds what was gained since the last time, until the level is full.
func (b *bucket) refill(full float64, now time.Time) {
	if now.After(b.at) {
		b.gain(b.rate()*now.Sub(b.at).Seconds(), full)
		b.at = now
	}
}

func (b *bucket) gain(n, full float64) { b.level = max(b.level, min(b.level+n, full)) }

// set changes the limit. What was spent stays spent.
func (b *bucket) set(limit, burst float64, now time.Time) {
	b.refill(b.burst, now)
	if b.limit == 0 {
		b.level = burst
	}
	b.limit, b.burst = limit, burst
	b.level = min(b.level, burst)
}

// ask says whether n units may be taken, and if not, in how long; 0 is when
// another call has ended. What needs more than the limit waits for all of it.
func (b *bucket) ask(n int64, now time.Time) (ok bool, wait time.Duration) {
	if b.limit == 0 {
		return true, 0
	}
	need := min(float64(n), b.limit)
	b.refill(max(b.burst, need), now)
	const grain = 1e-6 // what floating point may lose
	if short := need - b.level; short > grain {
		wait = b.at.Sub(now) + time.Duration(math.Ceil(short/b.rate()*1e9))
	}
	wait = max(wait, b.shut.Sub(now))
	room := int64(b.limit) - b.held - int64(need)
	if room < 0 {
		return false, wait
	}
	wait = max(wait, b.ended.Until(room, now))
	return wait == 0, wait
}

func (b *bucket) take(n int64) {
	b.level -= float64(n)
	b.held += n
}

// restore undoes a take.
func (b *bucket) restore(n int64, now time.Time) {
	b.level += float64(n)
	b.held -= n
	b.refill(b.burst, now)
}

// settle ends a take of n that really cost cost.
func (b *bucket) settle(n, cost int64, now time.Time) {
	b.refill(b.burst, now)
	b.held -= n
	if more := float64(n - cost); more > 0 {
		b.gain(more, b.burst)
	} else {
		// A call that cost more than was thought is a debt, of at most what a
		// minute gives: the ledger keeps the rest.
		b.level = min(b.level, max(b.level+more, -b.limit))
	}
	b.ended.Add(cost, now)
}

// heed lowers the level to what the upstream says is left, less the calls that
// run: it may not have counted them yet. When that leaves nothing, more comes
// evenly, or all at once at reset; a server that refills evenly over a minute
// tells by a reset that grows with what is missing.
func (b *bucket) heed(left int64, reset time.Duration, now time.Time) {
	b.refill(b.burst, now)
	left -= b.held
	b.level = min(b.level, float64(left))
	if left > 0 {
		return
	}
	missing := b.limit - float64(left+b.held)
	period := reset.Seconds() * b.limit / max(missing, 1)
	if math.Abs(period-60) > 6 {
		b.shut = now.Add(min(reset, time.Minute))
	}
}
