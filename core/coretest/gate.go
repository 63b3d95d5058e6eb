package coretest

import (
	"sync"
	"time"

	"github.com/dragoman-mt/dragoman/core"
)

// Gate checks a gate. It does what Kind does, and then takes and gives with a
// clock of its own.
//
// What was taken and given back can be taken again, whether the attempt went
// well, failed or was never made; of an attempt that was never made nothing
// remains. A Take that says no has taken nothing; its wait, when it names one,
// is worth waiting. Take and Give come back at once, leave the request alone,
// and stand Measure beside them.
func Gate(t T, kind core.Kind, config any) {
	t.Helper()
	if kind.Role != core.RoleGate {
		t.Fatalf("a part of role %s is no gate", kind.Role)
	}
	Kind(t, kind, config)
	p := newPart(t, kind, config)
	left := p.goroutines()
	for _, o := range []core.Outcome{
		{Usage: core.Usage{PromptTokens: 60, CompletionTokens: 20}},
		{Err: &core.Error{Kind: core.ProviderFailed}},
		{Err: &core.Error{Kind: core.Canceled}},
		{Err: &core.Error{Kind: core.DeadlineExceeded}},
		{Unused: true},
	} {
		p.balances(o)
	}
	p.forgets()
	p.standsMeasure()
	left("after Close")
}

// A desk takes and gives in one gate. It keeps the time, which begins when the
// gate was built: that may look at the clock too.
type desk struct {
	*part
	gate core.Gate
	now  time.Time
	held []watchedRequest
	n    int
}

func (p *part) desk() (d *desk, stop func()) {
	p.Helper()
	item, stop := p.start()
	return &desk{part: p, gate: item.(core.Gate), now: time.Now()}, stop
}

// take takes once.
func (d *desk) take() (ok bool, wait time.Duration) {
	d.Helper()
	d.n++
	w := watchRequest(request(d.n))
	d.soon("Take", func() { ok, wait = d.gate.Take(w.req, d.now) })
	if name := w.changed(); name != "" {
		d.Errorf("the gate changes %s of a request", name)
	}
	if ok {
		d.held = append(d.held, w)
	}
	if !ok && wait < 0 {
		d.Errorf("Take says no and to ask again %v ago", -wait)
	}
	return ok, wait
}

// limit is how much is taken at most: some gates never fill up when one waits.
const limit = 256

// fill takes until the gate is full, or limit is held, and waits as the gate
// says. It returns how much is held.
func (d *desk) fill() int {
	d.Helper()
	var waited time.Duration
	for len(d.held) < limit {
		ok, wait := d.take()
		if ok {
			waited = 0
			continue
		}
		if wait <= 0 {
			break
		}
		d.now = d.now.Add(wait)
		if waited += wait; waited > time.Hour {
			d.Errorf("Take says to ask again, and says so still after %v", waited)
			break
		}
	}
	return len(d.held)
}

// rush takes what there is at this moment.
func (d *desk) rush() int {
	d.Helper()
	for len(d.held) < limit {
		if ok, _ := d.take(); !ok {
			break
		}
	}
	return len(d.held)
}

// give gives back all that is held.
func (d *desk) give(o core.Outcome) {
	d.Helper()
	o.At = d.now
	for _, w := range d.held {
		d.soon("Give", func() { d.gate.Give(w.req, o) })
		if name := w.changed(); name != "" {
			d.Errorf("the gate changes %s of a request", name)
		}
	}
	d.held = nil
}

// balances fills the gate and empties it again, twice. The full gate is asked
// in vain in between.
func (p *part) balances(o core.Outcome) {
	p.Helper()
	d, stop := p.desk()
	defer stop()
	first := d.fill()
	if first == 0 {
		p.Errorf("an empty gate gives nothing")
		return
	}
	for round := range 2 {
		if first < limit {
			for range 100 {
				if ok, _ := d.take(); ok {
					p.Errorf("a full gate gives still")
					return
				}
			}
		}
		d.give(o)
		if again := d.fill(); again != first {
			p.Errorf("%d could be taken, and after all was given back (%s) %d, in round %d", first, outcomeName(o), again, round+1)
			return
		}
	}
	d.give(o)
}

func outcomeName(o core.Outcome) string {
	switch {
	case o.Unused:
		return "unused"
	case o.Err != nil:
		return string(o.Err.Kind)
	}
	return "used"
}

// forgets checks that an attempt that was never made leaves no trace, not even
// in what can be taken at the same moment.
func (p *part) forgets() {
	p.Helper()
	d, stop := p.desk()
	defer stop()
	first := d.rush()
	d.give(core.Outcome{Unused: true})
	if again := d.rush(); again != first {
		p.Errorf("%d could be taken at one moment, and %d at the same moment after all was given back unused", first, again)
	}
	d.give(core.Outcome{Unused: true})
}

// standsMeasure asks for measures while one goroutine, as the line does, takes
// and gives.
func (p *part) standsMeasure() {
	p.Helper()
	d, stop := p.desk()
	defer stop()
	done := make(chan struct{})
	var asking sync.WaitGroup
	asking.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
				measured(p, d.gate, true)
			}
		}
	})
	for range 50 {
		d.rush()
		d.give(core.Outcome{Usage: core.Usage{PromptTokens: 60, CompletionTokens: 20}})
		d.now = d.now.Add(time.Second)
	}
	close(done)
	asking.Wait()
}
