package provider

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dragoman-mt/dragoman/core"
)

// What was spent of a day is spent after a restart too, and no longer than that day.
func TestWhatWasSpentOfADayOutlivesTheProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := func() *inn {
			return newInn(t, 100, Config{Use: core.Names{"main"}}, map[string][]answer{"main": {well}}, func(b *inn) { b.limits["main"] = core.Allowance{RequestsPerDay: 5} })
		}
		ask := func(b *inn, n int) (good int) {
			for range n {
				if _, err := b.ask(ends(t, time.Second), core.Request{}); err == nil {
					good++
				}
			}
			return good
		}
		b := start()
		if memory := b.stage.Remember(); memory != nil {
			t.Errorf("nothing was spent, and it remembers %s", memory)
		}
		if n := ask(b, 3); n != 3 {
			t.Fatalf("%d of 3", n)
		}
		memory := b.stage.Remember()
		if strings.Contains(string(memory), "main") {
			t.Errorf("the account is told: %s", memory)
		}
		time.Sleep(time.Hour) // while nothing runs
		b = start()
		if err := b.stage.Recall(memory); err != nil {
			t.Fatal(err)
		}
		if again := b.stage.Remember(); len(again) == 0 {
			t.Error("what was recalled is not remembered")
		}
		if n := ask(b, 5); n != 2 {
			t.Errorf("%d of 5 after a restart, want the 2 that are left", n)
		}
		time.Sleep(25 * time.Hour)
		if n := ask(b, 9); n != 5 {
			t.Errorf("%d of 9 a day later, want 5", n)
		}
	})
}

// An account that is limited later finds what was spent of it, and what nobody can have
// written is an error and no panic.
func TestWhatIsRecalledIsKeptForWhoComesLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimits()
		now := time.Now()
		l.set(map[string]core.Allowance{"a": {RequestsPerDay: 9}})
		for range 4 {
			req := &core.Request{Account: "a"}
			if ok, _ := l.Take(req, now); !ok {
				t.Fatal("not taken")
			}
			l.Give(req, core.Outcome{At: now})
		}
		l.Take(&core.Request{Account: "a"}, now) // it runs when the process ends
		memory := l.remember()
		heir := newLimits()
		if err := heir.recall(memory); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if again := heir.remember(); string(again) != string(memory) {
			t.Errorf("%s became %s", memory, again)
		}
		heir.set(map[string]core.Allowance{"a": {RequestsPerDay: 5}})
		if ok, _ := heir.free("a", &core.Request{}, time.Now()); ok {
			t.Error("5 were spent, and another is free")
		}
		for _, wrong := range []string{"", "[]", `{"a":"b"}`, `{"a":[[1]]}`, `{"x":[[-5,99999999999999],[9223372036854775807,1]]}`} {
			if err := newLimits().recall([]byte(wrong)); err == nil && wrong[0] != '{' {
				t.Errorf("%q is taken", wrong)
			}
		}
	})
}
