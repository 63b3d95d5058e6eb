package line

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/dragoman-mt/dragoman/core"
)

// An accounts gate lets each account have so many at once, and notes who heard
// what.
type accounts struct {
	most  map[string]int
	held  map[string]int
	heard []string
}

func (a *accounts) Scope() core.Scope { return core.ScopeAccount }

func (a *accounts) Take(req *core.Request, _ time.Time) (bool, time.Duration) {
	if a.held[req.Account] >= a.most[req.Account] {
		return false, 0
	}
	a.held[req.Account]++
	return true, 0
}

func (a *accounts) Give(req *core.Request, o core.Outcome) {
	a.held[req.Account]--
	a.heard = append(a.heard, req.Account+" "+heard(o))
}

func heard(o core.Outcome) string {
	switch {
	case o.Unused:
		return "unused"
	case o.Err != nil:
		return string(o.Err.Kind)
	}
	return "ok"
}

// What is passed on keeps its slot; each account hears of its own call, and the
// slot of the first that was made, once.
func TestATurnThatIsPassedOnKeepsItsSlot(t *testing.T) {
	failed := core.Outcome{Err: &core.Error{Kind: core.ProviderFailed}}
	for _, c := range []struct {
		name     string
		first    core.Outcome
		most     int // of the other account
		ok       bool
		accounts []string
		slot     string
	}{
		{"after a call that failed", failed, 1, true, []string{"a provider_failed", "b ok"}, "provider_failed"},
		{"before any call", core.Outcome{Unused: true}, 1, true, []string{"a unused", "b ok"}, "ok"},
		{"to an account that is shut, after a call", failed, 0, false, []string{"a provider_failed"}, "provider_failed"},
		{"to an account that is shut, before any", core.Outcome{Unused: true}, 0, false, []string{"a unused"}, "unused"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				by := &accounts{most: map[string]int{"a": 1, "b": c.most}, held: map[string]int{}}
				slot := &one{}
				l, gates := New(10), guard(by, slot)
				turn, err := l.Turn(t.Context(), &core.Request{Account: "a"}, gates, How{})
				if err != nil {
					t.Fatal(err)
				}
				// Whoever waits for a's place is let in once that is given back, and for
				// the slot not before the end.
				next := make(chan *Turn, 1)
				go func() {
					turn, err := l.Turn(t.Context(), &core.Request{Account: "a"}, gates, How{})
					if err != nil {
						t.Error(err)
					}
					next <- turn
				}()
				synctest.Wait()
				if ok := turn.Pass(&core.Request{Account: "b"}, c.first); ok != c.ok {
					t.Fatalf("passed on: %v", ok)
				}
				synctest.Wait()
				if c.ok && (len(next) > 0 || !slot.taken) {
					t.Error("the slot is not held any more")
				}
				turn.Give(core.Outcome{})
				turn.Give(failed) // once only
				if turn.Pass(&core.Request{Account: "b"}, failed) {
					t.Error("passed on after its end")
				}
				n := <-next
				if got := slot.heard; len(got) != 1 || got[0] != c.slot {
					t.Errorf("the slot heard %v, want %s", got, c.slot)
				}
				var got []string
				for _, h := range by.heard {
					if h != "a unused" || c.first.Unused {
						got = append(got, h)
					}
				}
				if len(got) < len(c.accounts) || got[0] != c.accounts[0] || got[len(got)-1] != c.accounts[len(c.accounts)-1] {
					t.Errorf("the accounts heard %v, want %v", got, c.accounts)
				}
				n.Give(core.Outcome{})
				if by.held["a"] != 0 || by.held["b"] != 0 || slot.taken || l.Waiting() != 0 {
					t.Errorf("held %v, the slot %v, %d wait", by.held, slot.taken, l.Waiting())
				}
			})
		})
	}
}

// One is a slot for all.
type one struct {
	taken bool
	heard []string
}

func (*one) Scope() core.Scope { return core.ScopeAll }

func (o *one) Take(*core.Request, time.Time) (bool, time.Duration) {
	if o.taken {
		return false, 0
	}
	o.taken = true
	return true, 0
}

func (o *one) Give(_ *core.Request, out core.Outcome) {
	o.taken = false
	o.heard = append(o.heard, heard(out))
}
