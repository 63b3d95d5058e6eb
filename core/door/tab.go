package door

import (
	"context"
	"fmt"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/usage"
)

// A Tab is what one call costs its key. What its texts will count is reserved before any
// of them is asked for, and what they did count is settled before they are answered, so
// that a key is held to its limits to the character. A Tab is opened once, and closed.
type Tab struct {
	teller *Teller
	rules  *Rules
	begin  time.Time
	client string
	key    *key // nil without keys that translate

	mu       sync.Mutex
	session  string
	reserved int64 // code points
	noted    usage.Use
}

// Open opens tab for a call of client, as Rules.Client named it, that arrived at begin
// and whose texts have so many code points. When they, or the call itself, are more than
// the key may use, the error says so, and nothing is to be asked for. Ctx has the deadline of
// the call: gateways that share a limit may have to ask each other, for 10 ms at the most.
func (tab *Tab) Open(ctx context.Context, t *Teller, rules *Rules, client string, begin time.Time, characters int64) error {
	tab.teller, tab.rules, tab.client, tab.begin = t, rules, client, begin
	if tab.key = rules.byName[client]; tab.key == nil {
		return nil
	}
	if g := rules.service.Glossaries()[tab.key.glossary]; g != nil && rules.glossary == nil {
		tab.rules = rules.Under(g)
	}
	if err := rules.service.usage.Enter(ctx, client, tab.key.limits, characters); err != nil {
		return overLimit(err)
	}
	if tab.key.limits.CharactersPerMonth > 0 {
		tab.reserved = characters
	}
	return nil
}

// Characters returns the code points of all texts of reqs.
func Characters(reqs []core.Request) (n int64) {
	for i := range reqs {
		n += int64(reqs[i].Characters())
	}
	return n
}

// Answered notes that a text of so many code points has its answer: Cached when no call
// was made for any of it.
func (tab *Tab) Answered(characters int64, cached bool) {
	tab.mu.Lock()
	defer tab.mu.Unlock()
	tab.noted.Texts++
	tab.noted.Characters += characters
	if cached {
		tab.noted.CachedTexts++
		tab.noted.CachedCharacters += characters
	}
}

// AsItIs answers req with its own text, which counts as any other.
func (tab *Tab) AsItIs(req *core.Request) Item {
	tab.Answered(int64(req.Characters()), true)
	return Item{Result: &core.Result{Text: req.Text, Cached: true}}
}

// spent notes what req cost upstream, whatever became of it, and returns that: nothing for
// one that had its answer from the call of another.
func (tab *Tab) spent(req *core.Request, item Item) (use usage.Use) {
	tab.mu.Lock()
	defer tab.mu.Unlock()
	tab.session = req.Session
	var u core.Usage
	provider, translated := "", 0
	switch {
	case req.Trace.Attempts == 0: // a call was made for another, if at all
	case item.Err != nil:
		u, provider = item.Err.Usage, item.Err.Stage
	case !item.Result.Cached:
		u, provider, translated = item.Result.Usage, item.Result.Provider, utf8.RuneCountInString(item.Result.Text)
	}
	if provider == "" {
		return use
	}
	use = usage.Use{PromptTokens: int64(u.PromptTokens), CompletionTokens: int64(u.CompletionTokens), CachedTokens: int64(u.CachedTokens)}
	sent := int64(0)
	if item.Err == nil {
		sent = int64(req.Characters())
	}
	use.Cost = tab.rules.service.usage.Cost(provider, use, sent, int64(translated))
	tab.noted = tab.noted.Plus(use)
	return use
}

// Cost is what upstream calls cost since the last Settle.
func (tab *Tab) Cost() usage.Cost {
	tab.mu.Lock()
	defer tab.mu.Unlock()
	return tab.noted.Cost
}

// Settle counts what was noted since the last time. It comes before the answer.
func (tab *Tab) Settle() {
	tab.mu.Lock()
	use, session := tab.noted, tab.session
	tab.noted = usage.Use{}
	reserved := min(use.Characters, tab.reserved)
	tab.reserved -= reserved
	tab.mu.Unlock()
	if use.IsZero() {
		return
	}
	who := usage.Who{Door: tab.teller.Door, Session: session}
	if tab.key != nil {
		who.Client = tab.client
	}
	tab.rules.service.usage.Settle(who, use, reserved, tab.key != nil)
}

// Whole is for a call that is answered as a whole or not at all: it returns the first
// failure of items, and then nothing is counted but what they cost upstream; or nil, and
// they are settled.
func (tab *Tab) Whole(items []Item) *core.Error {
	for _, it := range items {
		if it.Err != nil {
			tab.drop()
			return it.Err
		}
	}
	tab.Settle()
	return nil
}

// drop settles what was spent, and no text.
func (tab *Tab) drop() {
	tab.mu.Lock()
	n := &tab.noted
	n.Texts, n.Characters, n.CachedTexts, n.CachedCharacters = 0, 0, 0, 0
	tab.mu.Unlock()
	tab.Settle()
}

// Close gives back what was reserved for texts that had no answer.
func (tab *Tab) Close() {
	if tab.rules == nil {
		return
	}
	tab.drop()
	tab.mu.Lock()
	left := tab.reserved
	tab.reserved = 0
	tab.mu.Unlock()
	if left > 0 {
		tab.rules.service.usage.Release(tab.client, left)
	}
}

// Used returns the code points that client has used in this month, and the most that it
// may; 0 for any number.
func (r *Rules) Used(client string) (used, most int64) {
	if k := r.byName[client]; k != nil {
		return r.service.usage.Month(client), k.limits.CharactersPerMonth
	}
	return r.service.usage.Month(""), 0
}

// SessionUsed returns what a session of client has used since it was first seen.
func (r *Rules) SessionUsed(client, session string) usage.Use {
	if r.byName[client] == nil {
		client = ""
	}
	return r.service.usage.Session(client, session)
}

// overLimit is a call that is over a limit of its key.
func overLimit(err error) *core.Error {
	over, ok := err.(*usage.Exceeded)
	if !ok {
		return core.AsError(err, "usage")
	}
	e := &core.Error{Stage: "usage", Own: true, RetryAfter: over.Wait, Cause: over}
	switch over.Limit {
	case usage.RequestsPerMinute:
		e.Kind = core.RateLimited
		e.Detail = fmt.Sprintf("the key may make %d calls a minute (requests_per_minute), and has made them", over.Most)
	case usage.CharactersHeld:
		e.Kind = core.RateLimited
		e.Detail = fmt.Sprintf("the key may use %d characters a month (characters_per_month), of which %d are used or under way, and this call has %d; what is left is held by other gateways at the moment, or they cannot be asked", over.Most, over.Used, over.Asked)
	default:
		e.Kind = core.QuotaExceeded
		e.Detail = fmt.Sprintf("the key may use %d characters a month (characters_per_month), of which %d are used or under way, and this call has %d; the month ends at 00:00 UTC on the first", over.Most, over.Used, over.Asked)
	}
	return e
}

// OwnLimit returns the limit of its own key that err is about; nil when it is about
// something else, such as a provider's limit.
func OwnLimit(err error) *usage.Exceeded {
	if e := core.AsError(err, "door"); e != nil {
		over, _ := e.Cause.(*usage.Exceeded)
		return over
	}
	return nil
}
