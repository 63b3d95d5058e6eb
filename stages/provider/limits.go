package provider

import (
	"slices"
	"sync"
	"time"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/ledger"
)

// limits is the gate that keeps each account within the limits that its entry of
// providers carries. In no 60 seconds, and in no 24 hours, are there more calls than
// these say: one counts from its start until so long after its end, for the upstream
// may count it at any time between. It does not pace: what is left may be used at once.
// It is safe for concurrent use.
type limits struct {
	mu       sync.Mutex
	accounts map[string]*spent
	waits    []core.Line // that were refused
}

// spent is what was spent of one account.
type spent struct {
	most        core.Allowance
	calls       int   // that run
	held        int64 // tokens that they may cost
	minute, day ledger.Ledger
	tokens      ledger.Ledger
	used        time.Time // last
}

var (
	_ core.Gate   = (*limits)(nil)
	_ core.Scoper = (*limits)(nil)
	_ core.Opener = (*limits)(nil)
)

// guardName is what the gate is called in errors and traces.
const guardName = "limits"

// spentKept is how many accounts are kept beside those that a chain uses.
const spentKept = 64

func newLimits() *limits { return &limits{accounts: map[string]*spent{}} }

// Scope is the account.
func (l *limits) Scope() core.Scope { return core.ScopeAccount }

// Take takes a call and the tokens that it may cost, of the account of req.
func (l *limits) Take(req *core.Request, now time.Time) (ok bool, wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.accounts[req.Account]
	if s == nil {
		return true, 0
	}
	if ok, wait := s.room(req, now); !ok {
		return false, wait
	}
	s.calls++
	s.held += ledger.Estimate(req)
	s.used = now
	return true, 0
}

// room says whether req may start, and if not, in how long; 0 is when a call has ended.
func (s *spent) room(req *core.Request, now time.Time) (ok bool, wait time.Duration) {
	if s.most.MaxConcurrent > 0 && s.calls >= s.most.MaxConcurrent {
		return false, 0
	}
	for _, of := range [...]struct {
		most       int
		need, held int64
		ledger     *ledger.Ledger
	}{
		{s.most.RequestsPerMinute, 1, int64(s.calls), &s.minute},
		{s.most.TokensPerMinute, ledger.Estimate(req), s.held, &s.tokens},
		{s.most.RequestsPerDay, 1, int64(s.calls), &s.day},
	} {
		if of.most == 0 {
			continue
		}
		// What needs more than the limit waits for all of it.
		room := int64(of.most) - of.held - min(of.need, int64(of.most))
		if room < 0 {
			return false, 0
		}
		wait = max(wait, of.ledger.Until(room, now))
	}
	return wait == 0, wait
}

// Give counts what the call cost. What was not used goes back.
func (l *limits) Give(req *core.Request, o core.Outcome) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.accounts[req.Account]
	if s == nil || s.calls == 0 {
		return // it began before anything was limited
	}
	n := ledger.Estimate(req)
	s.calls--
	s.held = max(s.held-n, 0)
	if o.Unused {
		return
	}
	at := o.At
	if at.IsZero() {
		at = time.Now()
	}
	s.minute.Add(1, at)
	s.day.Add(1, at)
	s.tokens.Add(ledger.Cost(o.Usage, n), at)
}

// free says when req could start with account: now, or in how long; 0 is when a call
// has ended.
func (l *limits) free(account string, req *core.Request, now time.Time) (ok bool, wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.accounts[account]; s != nil {
		return s.room(req, now)
	}
	return true, 0
}

// Refused notes which line waits.
func (l *limits) Refused(line core.Line) (again bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if slices.Contains(l.waits, line) {
		return false
	}
	l.waits = append(l.waits, line)
	if len(l.waits) > 8 {
		l.waits = slices.Delete(l.waits, 0, 1)
	}
	return true
}

// set takes other limits, by account. What was spent stays spent.
func (l *limits) set(most map[string]core.Allowance) {
	l.mu.Lock()
	now := time.Now()
	others := 0
	for account, s := range l.accounts {
		if _, is := most[account]; is {
			continue
		}
		s.most = core.Allowance{}
		if others++; s.calls == 0 && (others > spentKept || now.Sub(s.used) > 24*time.Hour) {
			delete(l.accounts, account)
		}
	}
	for account, allowance := range most {
		s := l.accounts[account]
		if s == nil {
			s = &spent{day: ledger.Ledger{Over: 24 * time.Hour}, used: now}
			l.accounts[account] = s
		}
		s.most = allowance
	}
	waits := slices.Clone(l.waits)
	l.mu.Unlock()
	for _, w := range waits {
		w.Wake()
	}
}

// lower returns the lower of two allowances: that of two entries with one account.
func lower(a, b core.Allowance) core.Allowance {
	one := func(a, b int) int {
		if a == 0 || b > 0 && b < a {
			return b
		}
		return a
	}
	return core.Allowance{
		RequestsPerMinute: one(a.RequestsPerMinute, b.RequestsPerMinute), TokensPerMinute: one(a.TokensPerMinute, b.TokensPerMinute),
		RequestsPerDay: one(a.RequestsPerDay, b.RequestsPerDay), MaxConcurrent: one(a.MaxConcurrent, b.MaxConcurrent),
	}
}
