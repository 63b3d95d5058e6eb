package usage

import (
	"cmp"
	"context"
	"crypto/rand"
	_ "embed"
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/dragoman-mt/dragoman/core"
)

//go:embed group.lua
var tellSource string

//go:embed refill.lua
var refillSource string

//go:embed rows.lua
var rowsSource string

var (
	// tellScript tells what keys of this gateway have used, and leases what they may use.
	tellScript = &core.Script{Source: tellSource}
	// refillScript tells what lies in the folder of others who counted there.
	refillScript = &core.Script{Source: refillSource}
	// rowsScript tells what was used of a day, and what all told of it.
	rowsScript = &core.Script{Source: rowsSource}
)

const (
	// leased is how long a lease may be spent, from before it was asked for; and waitsFor
	// bounds what a call waits for the store. Both are promised by the README.
	leased   = 10 * time.Second
	waitsFor = 10 * time.Millisecond
	// A gateway tells what is new so often, and that it is there; and at the most, when
	// somebody found too little left.
	tells, present, hastily = time.Second, 2 * time.Second, 300 * time.Millisecond
	// stands is how long after its last call a key has a lease that waits for the next.
	stands = 10 * time.Minute
	// leastLease is the smallest that is wished for, in code points.
	leastLease = 4000
	// dries is for how long a call that did not fit is not asked for again.
	dries = 200 * time.Millisecond
	// atOnce is how many keys are told in one call.
	atOnce = 100
	// fewest is how many gateways there are as long as nobody has said: who shares is not
	// alone.
	fewest, mostMembers = 2, 1000
	// highest is beyond what a month can have, and what the store can count exactly.
	highest = 1 << 52
)

// A group is what a book has in common with those of other gateways. Each counts under a
// name of its own, which outlives the process, and tells how much that is in all; the sum
// is what the keys have used. The mu of the book guards it, but for turn.
//
// A key with a limit has a lease: how far it may go here. Calls take from it in memory, and
// it is renewed beside them. Only a call that it has no room for asks the store, and
// while that does not answer, there is the share.
type group struct {
	book *Book
	core.Shared

	writer string // under which this gateway counts
	taken  int64  // how often that name was taken
	turn   chan struct{}
	seq    int64 // of the call that is made; whoever has the turn

	members int
	heard   time.Time // when the store answered last
	sent    time.Time
	alone   bool // it does not, or says what cannot be understood
	newer   bool // it does not say what others use, whoever asks
	parts   map[string]*part
	late    map[late]int64  // what was used of months that are over, untold
	rows    map[told]Use    // for reports, untold
	refill  bool            // the store does not know what lies in the folder
	stamp   int64           // of the rows that were told last
	said    map[string]bool // what was logged once
	kick    chan struct{}   // has an element when a lease ends
	end     context.CancelFunc
	running sync.WaitGroup
}

type late struct{ month, client string }

// newGroup returns what b has in common over shared. It counts under a name that is new,
// until the folder has one.
func newGroup(b *Book, shared core.Shared) *group {
	return &group{
		book: b, Shared: shared, writer: rand.Text(), taken: 1, turn: make(chan struct{}, 1), kick: make(chan struct{}, 1), members: fewest, refill: true,
		parts: map[string]*part{}, late: map[late]int64{}, rows: map[told]Use{}, said: map[string]bool{},
	}
}

// A part is what one gateway has of a client that a group shares, in the month that is.
// Everything is absolute, in code points of this gateway's own total.
type part struct {
	own    int64 // used under the name of this gateway
	told   int64 // of it, as the store has answered, or a former process has told; it is in the journal
	sent   int64 // of it, as the store may know
	others int64 // used under other names
	theirs int64 // how much more the others may use
	cap    int64 // how far own and what is under way may go while the lease holds
	far    int64 // how far they may go while the store does not answer
	base   int64 // own when the share was not agreed on any more
	agreed bool  // far was agreed on
	until  time.Time
	heard  time.Time // zero: not in this month
	active time.Time // the last call
	limits Limits
	need   int64 // of calls that wait
	taken  int64 // since the last tell
	rate   float64
	dry    time.Time // until then nothing of dried and more is to be had
	dried  int64

	// Calls of the minute past.
	calls       int64 // that may be made while the lease holds
	othersCalls int64
	callNeed    int64
	callTaken   int64
	callStarted int64 // since the tell that is not answered
	callRate    float64
	callDry     time.Time
	callWait    time.Duration
}

// share is how far own may go while the store does not answer. Others cannot have that,
// unless it was never agreed on: then it is a quarter of this gateway's part of what is
// left, as far as it knows.
func (g *group) share(c *client, p *part) int64 {
	if !p.agreed {
		left := max(p.limits.CharactersPerMonth-g.elsewhere(c, p)-p.base, 0)
		return p.base + left/int64(4*g.members)
	}
	return p.far
}

// elsewhere is the least that was used under other names: as the store said, or as lies in
// the folder of this gateway.
func (g *group) elsewhere(c *client, p *part) int64 { return max(p.others, c.used-p.own) }

// holds says whether what was leased may still be spent.
func (p *part) holds(now time.Time) bool { return now.Before(p.until) }

// A lack is what keeps a call from being made: for good, or as far as is known here.
type lack int

const (
	fits  lack = iota
	asks       // the store may have room
	lacks      // it has none, or does not say
)

// quota says whether n more code points fit.
func (g *group) quota(c *client, p *part, n int64, now time.Time, asked bool) (lack, *Exceeded) {
	most := p.limits.CharactersPerMonth
	if most == 0 || n <= 0 {
		return fits, nil
	}
	at := p.own + c.reserved
	used := g.elsewhere(c, p) + at
	switch {
	case used > most-n:
		return lacks, &Exceeded{CharactersPerMonth, most, used, n, nextMonth(now).Sub(now)}
	case p.holds(now) && at <= p.cap-n:
		return fits, nil
	}
	held := &Exceeded{CharactersHeld, most, used, n, time.Second}
	switch within := at <= g.share(c, p)-n; {
	case now.Before(p.dry) && n >= p.dried:
	case g.alone && p.agreed && within:
		return fits, nil
	case !asked && !g.newer && g.State().Up():
		return asks, held
	case g.answers(p, now):
		p.dry, p.dried = now.Add(dries), n
	case within:
		return fits, nil
	default:
		held.Wait = leased
	}
	return lacks, held
}

// answers says whether the store answered just now.
func (g *group) answers(p *part, now time.Time) bool {
	return !g.alone && now.Sub(p.heard) < dries
}

// minute says whether a call fits.
func (g *group) minute(c *client, p *part, now time.Time, asked bool) (lack, *Exceeded) {
	most := p.limits.RequestsPerMinute
	if most == 0 {
		return fits, nil
	}
	over := &Exceeded{RequestsPerMinute, most, most, 1, max(min(p.callWait, time.Minute), time.Second)}
	if wait := c.minute.waits(now, most); wait > 0 {
		over.Wait = wait
		return lacks, over
	}
	up := g.State().Up() && p.agreed
	switch {
	case p.holds(now) && p.calls > 0:
		return fits, nil
	case up && now.Before(p.callDry):
	case !asked && !g.newer && g.State().Up():
		return asks, over
	case up:
		p.callDry = now.Add(dries)
	default:
		// Nobody can say what the others take.
		if over.Wait = c.minute.waits(now, max(1, most/int64(g.members))); over.Wait == 0 {
			return fits, nil
		}
	}
	return lacks, over
}

// enter is Book.Enter for a group.
func (g *group) enter(ctx context.Context, name string, limits Limits, characters int64) error {
	b := g.book
	b.mu.Lock()
	defer b.mu.Unlock()
	for asked := false; ; asked = true {
		now := b.now()
		c := b.client(name, now)
		p := g.part(name, c)
		p.limits, p.active = limits, now
		chars, over := g.quota(c, p, characters, now, asked)
		calls, hasty := g.minute(c, p, now, asked)
		switch {
		case chars == lacks:
			c.refusedQuota++
			return over
		case calls == lacks:
			c.refusedRequests++
			return hasty
		case chars == fits && calls == fits:
			if limits.CharactersPerMonth > 0 && p.cap-p.own-c.reserved < leastLease/2 || limits.RequestsPerMinute > 0 && p.calls < 2 {
				g.hurry()
			}
			p.taken += max(characters, 0)
			if limits.RequestsPerMinute > 0 {
				c.minute.take(now, limits.RequestsPerMinute)
				p.calls--
				p.callTaken++
				p.callStarted++
			}
			if limits.CharactersPerMonth > 0 {
				c.reserved += characters
			}
			return nil
		}
		if chars == asks {
			p.need += characters
		}
		if calls == asks {
			p.callNeed++
		}
		b.mu.Unlock()
		g.ask(ctx, name, characters, true)
		b.mu.Lock()
		if chars == asks {
			p.need -= characters
		}
		if calls == asks {
			p.callNeed--
		}
	}
}

// hurry has the group told soon: a lease ends.
func (g *group) hurry() {
	select {
	case g.kick <- struct{}{}:
	default:
	}
}

// part returns that of a client.
func (g *group) part(name string, c *client) *part {
	p := g.parts[name]
	if p == nil {
		p = &part{}
		g.parts[name] = p
	}
	return p
}

// month begins another month for a client. What was not told of the one before is told
// later.
func (g *group) month(name, was string) {
	if p := g.parts[name]; p != nil {
		if was != "" && p.own > p.told && len(g.late) < mostPending {
			g.late[late{was, name}] = p.own
		}
		g.parts[name] = &part{limits: p.limits, active: p.active, rate: p.rate, callRate: p.callRate}
	}
}

// ask asks the store for room for calls that wait, of which the one that asks has so many
// characters, or only what the others used: 10 ms at the most.
func (g *group) ask(ctx context.Context, name string, characters int64, room bool) {
	deadline := time.Now().Add(waitsFor)
	timer := time.NewTimer(waitsFor)
	defer timer.Stop()
	select {
	case g.turn <- struct{}{}:
	case <-timer.C:
		return
	case <-ctx.Done():
		return
	}
	defer func() { <-g.turn }()
	// Who had the turn before may have asked for this one as well.
	b := g.book
	b.mu.Lock()
	now := b.now()
	c := b.client(name, now)
	p := g.part(name, c)
	if room && p.holds(now) && p.cap-p.own-c.reserved >= p.need && p.calls >= p.callNeed {
		b.mu.Unlock()
		return
	}
	t := g.request([]string{name}, now, characters, false, false)
	b.mu.Unlock()
	// The room waits for a tenth of the time that there is.
	ctx, cancel := context.WithDeadline(ctx, time.Now().Add(10*time.Until(deadline)))
	defer cancel()
	list, err := g.State().Ask(ctx, tellScript, t.key, t.args...)
	g.answered(t, list, err)
}

// A telling is one call of the script.
type telling struct {
	key, month string
	names      []string
	parts      []*part
	told       []int64
	args       []string
	at         time.Time
}

// request returns the call that tells of names; enough is how many characters are of use to
// who waits, 0 for those of all who do, and whole says whether all that they have used is in
// the journal. From now on only what it keeps may be spent, until it was answered.
// The caller holds mu and has the turn.
func (g *group) request(names []string, now time.Time, enough int64, whole, bye bool) *telling {
	month := now.UTC().Format(monthly)
	t := &telling{key: "usage:" + month, month: month, names: names, at: now}
	what := "tell"
	if bye {
		what = "bye"
	}
	g.seq = max(g.seq+1, now.UnixMilli())
	t.args = []string{g.writer, g.Self(), blank.Replace(g.Machine()), strconv.FormatInt(g.taken, 10), strconv.FormatInt(g.seq, 10), what, strconv.Itoa(g.members)}
	number := func(n int64) { t.args = append(t.args, strconv.FormatInt(n, 10)) }
	for _, name := range names {
		c := g.book.client(name, now)
		p := g.part(name, c)
		total := p.told
		if whole {
			total = p.own
			passed := min(max(now.Sub(g.sent), tells), leased).Seconds()
			p.rate += (float64(p.taken)/passed - p.rate) / 2
			p.callRate += (float64(p.callTaken)/passed - p.callRate) / 2
			p.taken, p.callTaken = 0, 0
		}
		p.sent = max(p.sent, total)
		want, calls := int64(0), int64(0)
		if now.Sub(p.active) < stands && !bye {
			if p.limits.CharactersPerMonth > 0 {
				want = max(int64(math.Ceil(p.rate*3)), leastLease)
			}
			if p.limits.RequestsPerMinute > 0 {
				calls = max(int64(math.Ceil(p.callRate*3)), 2)
			}
		}
		keep, callKeep := int64(0), int64(0)
		free := max(p.limits.CharactersPerMonth-g.elsewhere(c, p)-p.theirs-p.own-c.reserved, 0)
		if p.holds(now) {
			// The block shrinks with what is left.
			keep = max(min(p.cap-p.own-c.reserved, want, free/int64(4*g.members)), 0)
			callKeep = max(min(p.calls, calls), 0)
		}
		// What is kept for when the store is away shrinks with it.
		spare := int64(0)
		if want > 0 {
			spare = max(min(p.far-p.own-c.reserved-keep, free/int64(4*g.members)), 0)
		}
		p.cap = p.own + max(c.reserved, 0) + keep
		p.far = p.cap + spare
		p.calls, p.callStarted = callKeep, 0
		t.parts, t.told = append(t.parts, p), append(t.told, total)
		t.args = append(t.args, name)
		number(total)
		number(p.cap)
		number(p.far)
		number(p.need)
		number(max(min(cmp.Or(enough, p.need), p.need)-keep, 0))
		number(max(want-keep, 0))
		number(p.limits.CharactersPerMonth)
		number(p.others)
		number(p.theirs)
		number(p.limits.RequestsPerMinute)
		number(callKeep)
		number(p.callNeed)
		number(max(calls-callKeep, 0))
		known := int64(-1)
		if now.Sub(p.heard) < leased {
			known = p.othersCalls
		}
		number(known)
		list := ""
		if p.limits.RequestsPerMinute > 0 {
			list = c.minute.leaves(now)
		}
		t.args = append(t.args, list)
	}
	if whole {
		g.sent = now
	}
	return t
}

// blank keeps a name from being several.
var blank = strings.NewReplacer(" ", "_", "\t", "_", "\n", "_", "\r", "_")

// An agreement is what the store said.
type agreement struct {
	state   string // "", new, newer, stale, copied
	machine string // of the other one, when copied
	taken   int64
	members int64
	parts   []agreed
}

// agreed is of one key.
type agreed struct{ own, others, theirs, cap, far, othersCalls, calls, wait int64 }

const agreedNumbers = 8

var errStrange = errors.New("the shared store answered with something that is no usage")

func parseAgreement(list []string, keys int) (a agreement, err error) {
	if len(list) > 0 {
		a.state = list[0]
	}
	switch {
	case a.state == "stale" && len(list) == 1:
		return a, nil
	case a.state == "copied" && len(list) == 2:
		a.machine = list[1]
		return a, nil
	case a.state != "" && a.state != "new" && a.state != "newer", len(list) != 3+keys*agreedNumbers:
		return a, errStrange
	}
	numbers := make([]int64, len(list)-1)
	for i := range numbers {
		if numbers[i], err = strconv.ParseInt(list[1+i], 10, 64); err != nil || numbers[i] < 0 || numbers[i] > highest {
			return a, errStrange
		}
	}
	a.taken, a.members = numbers[0], min(max(numbers[1], 1), mostMembers)
	for n := range slices.Chunk(numbers[2:], agreedNumbers) {
		a.parts = append(a.parts, agreed{n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7]})
	}
	return a, nil
}

// answered takes over what the store said to t. The caller has the turn.
func (g *group) answered(t *telling, list []string, err error) {
	var a agreement
	if err == nil {
		a, err = parseAgreement(list, len(t.names))
	}
	b := g.book
	b.mu.Lock()
	defer b.mu.Unlock()
	if g.alone = err != nil || a.state == "newer"; err != nil {
		if errors.Is(err, errStrange) {
			g.say(err.Error())
		}
		return
	}
	now := b.now()
	g.newer = a.state == "newer"
	switch a.state {
	case "stale":
		g.alone = true
		return
	case "copied":
		g.alone = true
		g.rename(a.machine, now)
		return
	case "newer":
		g.say("a gateway of a later version is in the group, or another program writes under shared.prefix: what it tells of used characters cannot be understood, so this gateway keeps its keys to its share of their limits until that one is gone or this one is as new")
	case "new":
		g.refill = true
	}
	g.taken, g.members, g.heard = a.taken, int(a.members), now
	for i, x := range a.parts {
		p := t.parts[i]
		c := b.client(t.names[i], now)
		if g.parts[t.names[i]] != p {
			if t.told[i] >= g.late[late{t.month, t.names[i]}] {
				delete(g.late, late{t.month, t.names[i]})
			}
			continue // another month has begun
		}
		if x.own > p.sent {
			// More was counted under this name than lies in the folder: a machine lost its power,
			// or the folder is one that was kept earlier.
			g.adopt(t.names[i], c, p, x.own-p.sent, now)
		}
		p.told = max(p.told, t.told[i], min(x.own, p.sent))
		p.others, p.theirs = max(p.others, x.others), x.theirs
		p.othersCalls = x.othersCalls
		p.heard = now
		p.callWait = time.Duration(x.wait) * time.Millisecond
		if a.state == "newer" {
			if p.agreed {
				p.agreed, p.base = false, p.own
			}
			continue
		}
		p.agreed = true
		p.until = t.at.Add(leased)
		p.cap, p.far = max(p.cap, x.cap), max(p.far, x.far)
		p.calls = x.calls - p.callStarted
		p.callStarted = 0
	}
}

// adopt counts what the group knows that was used under the name of this gateway.
func (g *group) adopt(name string, c *client, p *part, n int64, now time.Time) {
	b := g.book
	p.own += n
	p.sent += n
	c.used += n
	r := row{day: now.UTC().Format(time.DateOnly), client: name}
	b.pending[r] = b.pending[r].Plus(Use{Characters: n})
	if name != "" && !g.said["adopted"] { // what no key used is in no journal
		g.said["adopted"] = true
		b.log.Warn("the group knows more of what was used here than is kept in the state folder, as after a loss of power or of the folder; it counts", zap.String("key", name), zap.Int64("characters", n))
	}
}

// say logs a reason to go on alone, once.
func (g *group) say(why string) {
	if !g.said[why] && len(g.said) < 16 {
		g.said[why] = true
		g.book.log.Warn(why)
	}
}

// settled counts what a client used. The caller holds mu.
func (g *group) settled(name string, c *client, characters int64) {
	g.part(name, c).own += characters
}

// Join begins to share what is counted, where that is to be. It is called once, when the
// store has been connected to, and before anything is served. Limits are those of the keys:
// what they may use is leased before the first call.
func (b *Book) Join(limits map[string]Limits) {
	g := b.group
	if g == nil {
		return
	}
	b.mu.Lock()
	now := b.now()
	for name, l := range limits {
		if l != (Limits{}) {
			p := g.part(name, b.client(name, now))
			p.limits, p.active = l, now
		}
	}
	b.mu.Unlock()
	g.begin()
}

// begin tells of this gateway before it serves, and goes on telling.
func (g *group) begin() {
	ctx, end := context.WithCancel(context.Background())
	g.end = end
	// A busy machine may have no answer in time at first. Nobody waits yet.
	for try := 0; try < 4 && g.State().Up(); try++ {
		missed := false
		for _, names := range g.due(false) {
			missed = !g.call(ctx, names, false) || missed
		}
		if !missed {
			break
		}
	}
	g.running.Go(func() {
		every := time.NewTicker(hastily)
		defer every.Stop()
		for n, hasty := 1, false; ; n++ {
			select {
			case <-ctx.Done():
				return
			case <-g.kick:
				hasty = true
				n--
				continue
			case <-every.C:
			}
			if hasty || n >= int(tells/hastily) {
				g.tell(ctx)
				n, hasty = 0, false
			}
		}
	})
}

// close gives back what is leased.
func (g *group) close() {
	if g.end == nil {
		return
	}
	g.end()
	g.running.Wait()
	if !g.State().Up() {
		return
	}
	for _, names := range g.due(true) {
		g.call(context.Background(), names, true)
	}
	g.tellLate(context.Background())
	g.tellRows(context.Background())
}

// tell tells the group what is new.
func (g *group) tell(ctx context.Context) {
	if !g.State().Up() {
		g.book.mu.Lock()
		g.alone = true
		g.book.mu.Unlock()
		return
	}
	for _, names := range g.due(false) {
		if !g.call(ctx, names, false) {
			return
		}
	}
	g.book.mu.Lock()
	alone, refill := g.alone, g.refill
	g.refill = false
	g.book.mu.Unlock()
	if alone {
		return
	}
	if refill {
		if err := g.refold(ctx); err != nil {
			g.book.mu.Lock()
			g.refill = true
			g.book.mu.Unlock()
		}
	}
	g.tellLate(ctx)
	g.tellRows(ctx)
}

// call tells of names, and says whether the store answered.
func (g *group) call(ctx context.Context, names []string, bye bool) bool {
	b := g.book
	select {
	case g.turn <- struct{}{}:
	case <-ctx.Done():
		return false
	}
	defer func() { <-g.turn }()
	b.mu.Lock()
	lines := b.added
	t := g.request(names, b.now(), 0, true, bye)
	b.mu.Unlock()
	// What the group knows is in the journal first: a kill can take back neither.
	if b.disk != nil && lines > 0 {
		b.disk.write(lines)
	}
	list, err := g.State().Run(ctx, tellScript, t.key, t.args...)
	g.answered(t, list, err)
	return err == nil
}

// due returns the keys of which there is something to tell, or to hear.
func (g *group) due(all bool) (calls [][]string) {
	b := g.book
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	var names, stale []string
	for name, c := range b.clients {
		if strings.ContainsAny(name, " \t\r\n\x00") {
			continue // no key is called so
		}
		c = b.client(name, now)
		p := g.part(name, c)
		switch running := now.Sub(p.active) < stands && (p.limits != Limits{}); {
		case all, p.own > p.told, p.heard.IsZero(), p.taken > 0, p.callTaken > 0, running && p.until.Sub(now) < leased-2*tells:
			names = append(names, name)
		case now.Sub(p.heard) > present:
			stale = append(stale, name)
		}
	}
	if len(names) == 0 && now.Sub(g.sent) < present {
		return nil
	}
	slices.Sort(names)
	if more := atOnce/2 - len(names); more > 0 {
		slices.SortFunc(stale, func(a, b string) int { return g.parts[a].heard.Compare(g.parts[b].heard) })
		names = append(names, stale[:min(more, len(stale))]...)
	}
	calls = slices.Collect(slices.Chunk(names, atOnce))
	if len(calls) == 0 {
		calls = [][]string{{}}
	}
	return calls
}

// tellLate tells what was used of months that are over.
func (g *group) tellLate(ctx context.Context) {
	b := g.book
	b.mu.Lock()
	if len(g.late) == 0 {
		b.mu.Unlock()
		return
	}
	left, writer, lines := map[late]int64{}, g.writer, b.added
	for l, n := range g.late {
		left[l] = n
	}
	b.mu.Unlock()
	if b.disk != nil && lines > 0 {
		b.disk.write(lines)
	}
	for l, n := range left {
		if _, err := g.State().Run(ctx, refillScript, "usage:"+l.month, writer, l.client, strconv.FormatInt(n, 10)); err != nil {
			return
		}
		b.mu.Lock()
		if g.late[l] == n {
			delete(g.late, l)
		}
		b.mu.Unlock()
	}
}

// A Standing is what this gateway knows of a key that the group shares.
type Standing struct {
	Key string
	// Characters are those of the month, of all gateways; Here is the part of this one.
	Characters, Here int64
	Limit            int64 // 0: none
	// Left is how many may be used here before the group is asked.
	Left int64
	// Age is how long ago the group said what the others used; negative: it never did.
	Age time.Duration
}

// Group says how the keys stand that the group shares; nil when nothing is shared.
func (b *Book) Group() (all []Standing) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.group == nil {
		return nil
	}
	now := b.now()
	for name := range b.clients {
		c := b.client(name, now)
		p := b.group.part(name, c)
		s := Standing{Key: name, Characters: b.group.used(c, p), Here: p.own, Limit: p.limits.CharactersPerMonth, Age: -1}
		if !p.heard.IsZero() {
			s.Age = now.Sub(p.heard)
		}
		if p.holds(now) && s.Limit > 0 {
			s.Left = max(p.cap-p.own-c.reserved, 0)
		}
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b Standing) int { return strings.Compare(a.Key, b.Key) })
	return all
}

// used is what the client used of the month in all, as far as is known.
func (g *group) used(c *client, p *part) int64 { return p.own + g.elsewhere(c, p) }

// Shares says whether the book shares what it counts.
func (b *Book) Shares() bool { return b.group != nil }

// Alone says whether what others used is not known at the moment: the store that the group
// shares is away, or says what is not understood. Without a group it is false.
func (b *Book) Alone() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.group != nil && b.group.away(b.now())
}

func (g *group) away(now time.Time) bool {
	return g.alone || g.heard.IsZero() || now.Sub(g.heard) > 2*present
}

// look asks what the others used of a client, when that is not known of just now.
func (g *group) look(ctx context.Context, name string) {
	b := g.book
	b.mu.Lock()
	p := g.part(name, b.client(name, b.now()))
	fresh := b.now().Sub(p.heard) < tells
	b.mu.Unlock()
	if !fresh && g.State().Up() {
		g.ask(ctx, name, 0, false)
	}
}
