package provider

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
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
	waits    []core.Line        // that were refused
	former   map[string][]entry // what a former process has spent of days, by memoryOf
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

// left calls each with every limit of account and how much of it is left.
func (l *limits) left(account string, now time.Time, each func(unit string, most int, left int64)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.accounts[account]
	if s == nil {
		return
	}
	for _, of := range [...]struct {
		unit  string
		most  int
		spent int64
	}{
		{"requests a minute", s.most.RequestsPerMinute, s.minute.Sum(now) + int64(s.calls)},
		{"tokens a minute", s.most.TokensPerMinute, s.tokens.Sum(now) + s.held},
		{"requests a day", s.most.RequestsPerDay, s.day.Sum(now) + int64(s.calls)},
		{"calls at once", s.most.MaxConcurrent, int64(s.calls)},
	} {
		if of.most > 0 {
			each(of.unit, of.most, max(int64(of.most)-of.spent, 0))
		}
	}
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
			s = &spent{day: ledger.Ledger{Over: day}, used: now}
			l.accounts[account] = s
			l.recalled(account, s, now)
		}
		s.most = allowance
	}
	waits := slices.Clone(l.waits)
	l.mu.Unlock()
	for _, w := range waits {
		w.Wake()
	}
}

// day is that of RequestsPerDay: any 24 hours.
const day = 24 * time.Hour

// An entry is how many calls there were, and when the last of them was at latest, in
// Unix seconds.
type entry [2]int64

// memoryOf is the name of an account in what is kept: the account holds its key.
func memoryOf(account string) string {
	sum := sha256.Sum256([]byte(account))
	return hex.EncodeToString(sum[:12])
}

// remember returns what was spent of the accounts whose calls a day are bounded, calls
// that run included; nil for nothing.
func (l *limits) remember() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	all := map[string][]entry{}
	for name, entries := range l.former { // of accounts that no chain uses at present
		for _, e := range entries {
			if now.Sub(time.Unix(e[1], 0)) < day {
				all[name] = append(all[name], e)
			}
		}
	}
	for account, s := range l.accounts {
		if s.most.RequestsPerDay == 0 {
			continue
		}
		var entries []entry
		s.day.Each(now, func(n int64, at time.Time) { entries = append(entries, entry{n, at.Unix()}) })
		if s.calls > 0 {
			entries = append(entries, entry{int64(s.calls), now.Unix()})
		}
		if entries != nil {
			all[memoryOf(account)] = entries
		}
	}
	if len(all) == 0 {
		return nil
	}
	memory, err := json.Marshal(all)
	if err != nil {
		return nil // maps of numbers are JSON
	}
	return memory
}

// recall counts what a former process has spent, and has for accounts that are limited
// later.
func (l *limits) recall(memory []byte) error {
	var all map[string][]entry
	if err := json.Unmarshal(memory, &all); err != nil {
		return fmt.Errorf("reading what was spent of requests_per_day: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.former = all
	now := time.Now()
	for account, s := range l.accounts {
		l.recalled(account, s, now)
	}
	return nil
}

// recalled adds what a former process has spent of account.
func (l *limits) recalled(account string, s *spent, now time.Time) {
	name := memoryOf(account)
	entries := l.former[name]
	delete(l.former, name)
	slices.SortFunc(entries, func(a, b entry) int { return cmp.Compare(a[1], b[1]) })
	for _, e := range entries {
		at := time.Unix(e[1], 0)
		if at.After(now) {
			at = now // the clock was set back
		}
		if e[0] > 0 && e[0] <= 1<<40 && now.Sub(at) < day {
			s.day.Add(e[0], at)
		}
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
