// Package usage counts what the clients of a gateway use, and holds them to the limits
// of their keys. Its README is the manual.
package usage

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// A Book is what all clients of one gateway use, by the code point. It is safe for
// concurrent use.
//
// What is settled to last is in a journal before Settle returns, so that it outlives the
// process however that ends. Every few seconds what the journal holds is folded into a
// store, and the journal begins anew. On a disk that takes nothing the book goes on in
// memory, says so, and writes what it holds as soon as it can.
type Book struct {
	log *zap.Logger
	now func() time.Time

	mu       sync.Mutex
	clients  map[string]*client
	sessions map[sessionKey]*session
	pending  map[row]Use // in no store yet
	lines    []byte      // for the journal, not written yet
	added    int64       // how many lines there ever were
	notice   string      // why usage is not kept; empty when it is

	prices atomic.Pointer[map[string]Price]
	disk   *disk  // nil: nothing is kept
	group  *group // nil: nothing is shared
}

// A row is what is counted apart.
type row struct{ day, door, client, session string }

// A client is what is known of one in the month that is.
type client struct {
	month    string
	used     int64 // code points of that month
	reserved int64 // of texts that are under way
	minute   window
	// Since the process began, for metrics.
	total           Use
	refusedQuota    int64
	refusedRequests int64
}

// New returns a book that is kept nowhere.
func New() *Book {
	return &Book{
		log: zap.NewNop(), now: time.Now,
		clients: map[string]*client{}, sessions: map[sessionKey]*session{}, pending: map[row]Use{},
	}
}

// Limits are those of a key; 0 stands for none.
type Limits struct {
	CharactersPerMonth int64
	RequestsPerMinute  int64
}

// Exceeded is why a call is over a limit of its key.
type Exceeded struct {
	// Limit is CharactersPerMonth, CharactersHeld or RequestsPerMinute, and Most what it is
	// set to.
	Limit string
	Most  int64
	// Used is what counts against it, with what is under way, and Asked what the call
	// would have added.
	Used, Asked int64
	// Wait is how long it takes until there is room again.
	Wait time.Duration
}

// The limits, by the names of their keys.
const (
	CharactersPerMonth = "characters_per_month"
	RequestsPerMinute  = "requests_per_minute"
	// CharactersHeld is that of characters_per_month, of which something is left that this
	// gateway cannot have at the moment: others of its group hold it, or cannot be asked.
	CharactersHeld = "characters_held"
)

func (e *Exceeded) Error() string {
	return fmt.Sprintf("%s is %d, %d are used, and %d more are asked for", e.Limit, e.Most, e.Used, e.Asked)
}

// Enter counts one call of a client, and reserves the code points of its texts until
// they are settled or released. The error is an *Exceeded, and then nothing is counted.
// When gateways share what they count, and this one may have too little left, it waits for
// the store: 10 ms at the most, and no more than a tenth of the time that ctx has.
func (b *Book) Enter(ctx context.Context, name string, limits Limits, characters int64) error {
	if limits == (Limits{}) {
		return nil
	}
	if b.group != nil {
		return b.group.enter(ctx, name, limits, characters)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	c := b.client(name, now)
	// What a call asks for without a text, such as one of blanks, is over no limit.
	if most := limits.CharactersPerMonth; most > 0 && characters > 0 && c.used+c.reserved > most-characters {
		c.refusedQuota++
		return &Exceeded{CharactersPerMonth, most, c.used + c.reserved, characters, nextMonth(now).Sub(now)}
	}
	if most := limits.RequestsPerMinute; most > 0 {
		if wait := c.minute.take(now, most); wait > 0 {
			c.refusedRequests++
			return &Exceeded{RequestsPerMinute, most, most, 1, wait}
		}
	}
	if limits.CharactersPerMonth > 0 {
		c.reserved += characters
	}
	return nil
}

// Release gives back what Enter reserved of texts that were not answered.
func (b *Book) Release(name string, characters int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.client(name, b.now()).reserved -= characters
}

// Settle counts what texts cost that are about to be answered, in place of so many code
// points that Enter reserved for them. When they are to last, they are in the journal
// when it returns, or the book has said that it cannot be written.
func (b *Book) Settle(who Who, use Use, reserved int64, last bool) {
	b.mu.Lock()
	now := b.now()
	c := b.client(who.Client, now)
	c.reserved -= reserved
	c.used += use.Characters
	c.total = c.total.Plus(use)
	if b.group != nil {
		b.group.settled(who.Client, c, use.Characters)
	}
	r := row{now.UTC().Format(time.DateOnly), who.Door, who.Client, who.Session}
	if len(b.pending) >= mostPending || strings.IndexByte(r.session, 0) >= 0 {
		r.session = ""
	}
	b.pending[r] = b.pending[r].Plus(use)
	b.seen(r, use, now)
	line := int64(0)
	if last && b.disk != nil {
		b.lines = appendLine(b.lines, r, use)
		b.added++
		line = b.added
	}
	b.mu.Unlock()
	if line > 0 {
		b.disk.write(line)
	}
}

// Who is whose usage something is: a client at a door, and its session if it names one.
type Who struct{ Client, Door, Session string }

// client returns that of a name, in the month of now. The caller holds mu.
func (b *Book) client(name string, now time.Time) *client {
	c := b.clients[name]
	if c == nil {
		c = &client{}
		b.clients[name] = c
	}
	if month := now.UTC().Format(monthly); c.month != month {
		if b.group != nil {
			b.group.month(name, c.month)
		}
		c.month, c.used = month, 0
	}
	return c
}

const monthly = "2006-01"

// nextMonth is when the month after now begins, by UTC.
func nextMonth(now time.Time) time.Time {
	y, m, _ := now.UTC().Date()
	return time.Date(y, m+1, 1, 0, 0, 0, 0, time.UTC)
}

// Month returns the code points that a client has used in this month, at all gateways
// that share what they count.
func (b *Book) Month(name string) int64 {
	if b.group != nil {
		b.group.look(context.Background(), name)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used(name, b.client(name, b.now()))
}

// used is what a client used of the month in all, as far as is known. The caller holds mu.
func (b *Book) used(name string, c *client) int64 {
	if b.group == nil {
		return c.used
	}
	return b.group.used(c, b.group.part(name, c))
}

// Notice says why usage is not kept at the moment; empty when it is.
func (b *Book) Notice() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.notice
}
