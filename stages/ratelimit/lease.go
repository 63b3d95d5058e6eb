package ratelimit

import (
	_ "embed"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/ledger"
)

//go:embed lease.lua
var leaseSource string

// leaseScript is what gateways of one group agree with on what each may spend.
var leaseScript = &core.Script{Source: leaseSource}

const (
	// granted is how long what was granted may be spent, from before it was asked for. It
	// is that of the script.
	granted = 2 * time.Second
	// answersIn is how long the script may take: the bound of core.Room.Run.
	answersIn = 250 * time.Millisecond
	// A lease is renewed so often while nothing is asked for, while something is, and at
	// the most.
	idly, busily, hastily = time.Second, 500 * time.Millisecond, 300 * time.Millisecond
	// fewest is how many gateways there are as long as nobody has said: who shares is not
	// alone.
	fewest = 2
)

// A lease is what one gateway may spend of an account that a group shares. It is guarded
// by Stage.mu. Who spends asks nobody: what is granted lies here, and is renewed beside
// the line.
type lease struct {
	key string // in the store
	seq int64

	known int64     // the number of the last renewal that was answered
	heard time.Time // when that was sent

	until   time.Time // what is left may be spent before
	left    [units]int64
	members int  // at the last answer
	before  int  // when leases were last given
	shares  bool // what the others have spent is not known: each keeps to its share

	sent    time.Time // the last renewal
	asking  bool      // it has not been answered
	started [units]int64
	failing bool // the last one was not answered

	// Since the last renewal:
	taken   [units]int64
	starved [units]int64 // the most that one needed who found too little left
	lane    core.Lane    // the most urgent that asked

	since time.Time // since when they find too little, and nobody starts; zero for no time

	rate [units]float64 // taken a second, smoothed

	learned [units]time.Time // when the upstream last said its limit
	news    news             // to be told with the next renewal
	telling news             // with the one that was sent
	hurry   bool             // the next renewal is due at once
	probing bool             // this gateway asks whether the pause is over
	probe   *core.Request    // the one that does, while it runs
	waits   bool             // for the end of a pause, or for whoever probes
}

// news are what others must hear at once.
type news struct {
	shut time.Time // until when the upstream has shut the account; zero for nothing
	open bool      // it is open again
}

// mostMembers is how many gateways can share an account.
const mostMembers = 1000

// units are requests and tokens.
const units = 2

// newLease returns one of which nothing is said. Its calls are numbered from now on, so that
// what this process said of the account before, and forgot, is older.
func newLease(key string, members int, now time.Time) *lease {
	return &lease{key: key, seq: now.UnixMilli(), members: max(members, fewest), before: max(members, fewest), shares: true, lane: core.LaneBulk}
}

// holds says whether what was granted may still be spent.
func (l *lease) holds(now time.Time) bool { return now.Before(l.until) }

// allows says whether need may start, and if not, what it is short of is wanted.
func (l *lease) allows(a *account, need [units]int64, lane core.Lane, now time.Time) bool {
	if lane < l.lane {
		l.lane = lane
	}
	if !l.holds(now) && !l.asking {
		l.alone(a, now)
	}
	if l.shares && !l.asking {
		return true // its share is all that holds it back
	}
	ok := !l.waits && (!l.probing || l.probe == nil && l.left[0] > 0)
	if !ok {
		l.starved[0] = max(l.starved[0], need[0])
	}
	for u, b := range a.buckets() {
		if n := min(need[u], int64(max(b.limit, 1))); b.limit > 0 && n > l.left[u] {
			ok = false
			l.starved[u] = max(l.starved[u], n)
		}
	}
	if !ok && l.since.IsZero() {
		l.since = now
	}
	return ok
}

// alone is for when the store is away: the gateway goes on with its share.
func (l *lease) alone(a *account, now time.Time) {
	if !l.shares {
		l.shares, l.waits, l.probing = true, false, false
		a.limit(a.config, now)
	}
}

// share is the part of a limit that each gateway keeps to while nobody can say what the
// others spend; of none it is none.
func (l *lease) share(limit float64) float64 {
	if limit == 0 {
		return 0
	}
	return max(1, math.Floor(limit/float64(l.members)))
}

// take counts what starts.
func (l *lease) take(req *core.Request, n [units]int64) {
	if l.probing && !l.shares {
		l.probe = req
	}
	l.since = time.Time{}
	for u := range n {
		l.left[u] -= n[u]
		l.taken[u] += n[u]
		if l.asking {
			l.started[u] += n[u]
		}
	}
}

// restore undoes a take.
func (l *lease) restore(req *core.Request, n [units]int64) {
	if l.probe == req {
		l.probe = nil
	}
	for u := range n {
		l.left[u] += n[u]
		l.taken[u] = max(l.taken[u]-n[u], 0)
		if l.asking {
			l.started[u] -= n[u]
		}
	}
}

// due says when the lease is to be renewed next.
func (l *lease) due() time.Time {
	switch {
	case l.asking:
		return l.sent.Add(time.Hour)
	case l.failing:
		return l.sent.Add(busily)
	case l.hurry || l.news != (news{}):
		return l.sent // at once
	case l.hungry() || l.running():
		return l.sent.Add(hastily)
	case l.taken[0] > 0:
		return l.sent.Add(busily)
	}
	return l.sent.Add(idly)
}

// hungry says whether somebody found too little left.
func (l *lease) hungry() bool { return l.starved != [units]int64{} }

// running says whether less is left than is taken in half a second.
func (l *lease) running() bool {
	return l.taken[0] > 0 && float64(l.left[0]) < l.rate[0]/2
}

// urgency is how much more than bulk each lane is worth to the group.
var urgency = [core.Lanes]float64{core.LaneFinal: 8, core.LanePartial: 4, core.LaneBulk: 1}

// request returns the arguments of a renewal that is sent now. From now on only what they
// keep may be spent, until it was answered.
func (l *lease) request(a *account, shared core.Shared, longest time.Duration, now time.Time, bye bool) []string {
	what, open := "renew", ""
	if bye {
		what = "bye"
	}
	if l.news.open {
		open = "open"
	}
	pause := time.Duration(0)
	if !l.news.shut.IsZero() {
		pause = max(l.news.shut.Sub(now), 0)
	}
	l.telling, l.news, l.hurry = l.news, news{}, false
	weight := urgency[min(l.lane, core.LaneBulk)]
	if !l.hungry() {
		l.since = time.Time{}
	} else if !l.since.IsZero() {
		weight *= 1 + now.Sub(l.since).Seconds()
	}
	passed := max(now.Sub(l.sent), hastily).Seconds()
	held := l.holds(now)
	l.seq++
	args := []string{
		shared.Self(), shared.Machine(), strconv.FormatInt(l.seq, 10), what, open,
		strconv.FormatInt(pause.Milliseconds(), 10), strconv.FormatInt(longest.Milliseconds(), 10),
		strconv.FormatFloat(weight, 'f', 2, 64), "0",
	}
	if now.Sub(l.heard) < time.Minute { // a record is kept for longer than that
		args[len(args)-1] = strconv.FormatInt(l.known, 10)
	}
	theirs := [units]int{a.theirs.RequestsPerMinute, a.theirs.TokensPerMinute}
	configured := a.configured()
	for u, b := range a.buckets() {
		l.rate[u] += (float64(l.taken[u])/passed - l.rate[u]) / 2
		want := int64(math.Ceil(max(l.rate[u], float64(l.taken[u])/passed) * 0.75))
		if second := int64(math.Ceil(b.limit / 60)); l.starved[u] > 0 {
			// What it got says nothing of what it would take, and all who want more
			// want the same: else who has much would get ever more.
			want = max(second, l.starved[u])
		} else if b.limit > 0 {
			want = min(want, max(second, 1))
		}
		if b.limit >= 60 {
			want = max(want, int64(b.limit/120/float64(l.members)), 1)
		}
		if b.limit == 0 {
			want = 0
			if u == 0 { // it may be paused, and then asks who probes
				want = l.taken[u] + l.starved[u]
			}
		}
		if l.waits && u == 0 && l.starved[u] == 0 {
			want = 0 // nobody is there who would probe
		}
		keep := min(max(l.left[u], 0), want)
		if !held || l.shares {
			// It has only its share to keep to, and starts no more of that than comes
			// until it is answered.
			keep = int64(math.Ceil(b.rate()*answersIn.Seconds())) + 1
			if b.limit > 0 {
				keep = max(min(keep, int64(b.limit)-b.held-b.ended.Sum(now)), 0)
			}
		}
		l.left[u] = keep
		said := 0
		if now.Sub(l.learned[u]) < time.Minute {
			said = theirs[u]
		}
		args = append(args, strconv.Itoa(configured[u]), strconv.Itoa(said), strconv.FormatInt(b.held, 10),
			strconv.FormatInt(keep, 10), strconv.FormatInt(want, 10), leaves(&b.ended, now))
		l.taken[u], l.starved[u], l.started[u] = 0, 0, 0
	}
	l.sent, l.asking, l.lane = now, true, core.LaneBulk
	return args
}

// leaves writes what a ledger holds, by the second in which it leaves it: n:ms,...
func leaves(of *ledger.Ledger, now time.Time) string {
	var b strings.Builder
	var sum int64
	var last time.Duration
	flush := func() {
		if sum > 0 {
			fmt.Fprintf(&b, "%d:%d,", sum, last.Milliseconds()+1)
		}
	}
	of.Each(now, func(n int64, at time.Time) {
		in := at.Add(time.Minute).Sub(now)
		if sum > 0 && in-last > 600*time.Millisecond {
			flush()
			sum = 0
		} else if sum > 0 && in/time.Second != last/time.Second {
			flush()
			sum = 0
		}
		sum, last = sum+n, in
	})
	flush()
	return b.String()
}

// An agreement is what the store said.
type agreement struct {
	state   string // "", share, paused, probe, stale
	wait    time.Duration
	members int
	grant   [units]int64
	limit   [units]int64
	newer   bool // a gateway of a later version is in the group, whose record nobody here understands
}

var errStrange = errors.New("the shared store answered with something that is no lease")

func parseAgreement(list []string) (g agreement, err error) {
	if len(list) == 1 && list[0] == "stale" {
		return agreement{state: "stale"}, nil
	}
	if len(list) < 3+2*units {
		return g, errStrange
	}
	g.state = list[0]
	numbers := make([]int64, 2+2*units)
	for i := range numbers {
		if numbers[i], err = strconv.ParseInt(list[1+i], 10, 64); err != nil || numbers[i] < 0 || numbers[i] > highest*10 {
			return g, errStrange
		}
	}
	g.wait = min(time.Duration(numbers[0])*time.Millisecond, longestPause)
	g.members = int(min(max(numbers[1], 1), mostMembers))
	for u := range units {
		g.grant[u], g.limit[u] = numbers[2+2*u], numbers[3+2*u]
	}
	g.newer = len(list) > 3+2*units && list[3+2*units] == "newer"
	switch g.state {
	case "", "share", "paused", "probe":
		return g, nil
	}
	return g, errStrange
}

// answered takes over what the group agreed on at the renewal that was sent last. Longer is
// for how much longer the account is shut than this gateway knew.
func (l *lease) answered(a *account, g agreement, now time.Time) (longer time.Duration) {
	l.asking, l.failing = false, false
	if g.state == "stale" {
		return 0
	}
	l.telling, l.known, l.heard = news{}, l.seq, l.sent
	was, members := l.shares, l.members
	l.members, l.shares, l.probing, l.waits = g.members, g.state == "share", g.state == "probe", g.state == "paused"
	if l.shares { // some may not have said yet that they are there
		l.members = max(l.before, g.members)
	} else {
		l.before = g.members
	}
	l.until = l.sent.Add(granted)
	for u := range units {
		l.left[u] = g.grant[u] - l.started[u]
	}
	switch {
	case l.waits:
		l.left = [units]int64{}
		if now.Add(g.wait).After(a.until.Add(lag)) && g.wait > prober {
			longer = a.pause(g.wait, now)
		}
	case l.probing:
		l.left[0] = 1 - l.started[0]
	case a.until.Sub(now) > lag: // it was not told yet, or was forgotten
		l.news.shut = a.until
		l.shut()
	}
	if was != l.shares || l.shares && members != l.members || g.limit != a.agreed {
		a.agreed = g.limit
		a.limit(a.config, now)
	}
	return longer
}

const (
	// lag is by how much what two gateways know of the end of one pause may differ.
	lag = 50 * time.Millisecond
	// prober is how long the script has one wait while another probes.
	prober = 250 * time.Millisecond
)

// unanswered notes that the store did not answer the renewal that was sent last.
func (l *lease) unanswered(a *account, now time.Time) {
	l.asking, l.failing = false, true
	if l.telling.shut.After(l.news.shut) && l.telling.shut.After(now) {
		l.news.shut = l.telling.shut
	}
	l.news.open = l.news.open || l.telling.open && l.news.shut.IsZero()
	l.telling = news{}
	if !l.holds(now) {
		l.alone(a, now)
	}
}

// shut is for an account that was found to be paused, by this gateway or another.
func (l *lease) shut() {
	l.waits, l.probing, l.left = true, false, [units]int64{}
}
