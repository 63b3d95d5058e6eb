package live

import (
	"sync/atomic"
	"time"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/live"
)

// measures are what all sessions did; never one by itself.
type measures struct {
	opened, resumed, slow                                            atomic.Int64
	revisions, finals, failed, late, corrected, calls, wasted, asked atomic.Int64
}

// add adds what a session did since it was asked last.
func (m *measures) add(c live.Counters) {
	m.revisions.Add(c.Revisions)
	m.finals.Add(c.Finals)
	m.failed.Add(c.Failed)
	m.late.Add(c.Late)
	m.corrected.Add(c.Corrected)
	m.calls.Add(c.Calls)
	m.wasted.Add(c.Wasted)
	m.asked.Add(c.Asked)
}

// Measure reports on all sessions.
func (d *Door) Measure(emit func(core.Measure)) {
	m := d.metrics
	for _, v := range []struct {
		name, help string
		value      *atomic.Int64
	}{
		{"live_sessions_opened_total", "Live sessions that were begun.", &m.opened},
		{"live_resumes_total", "Times that a client came back to its session.", &m.resumed},
		{"live_slow_clients_total", "Connections that were closed since their client did not read.", &m.slow},
		{"live_revisions_total", "Revisions that live sessions took.", &m.revisions},
		{"live_finals_total", "Finals that live sessions gave, one for each target.", &m.finals},
		{"live_finals_failed_total", "Finals without a text.", &m.failed},
		{"live_finals_late_total", "Finals that were overtaken by a later one.", &m.late},
		{"live_finals_corrected_total", "Finals that changed what was concluded before.", &m.corrected},
		{"live_asked_total", "Translations that live sessions asked for.", &m.asked},
		{"live_calls_total", "Upstream calls made for live sessions.", &m.calls},
		{"live_calls_wasted_total", "Upstream calls whose output was not shown, or for less than 300 ms.", &m.wasted},
	} {
		emit(core.Measure{Name: v.name, Help: v.help, Counter: true, Value: float64(v.value.Load())})
	}
	var inferred live.Inferred
	d.plainly.do(func(of *live.Inference) { inferred = of.Counts(time.Now()) })
	for _, v := range []core.Measure{
		{Name: "live_inferred_revisions_total", Help: "Texts of clients without sessions that were taken for a revision of one that grows.", Counter: true, Value: float64(inferred.Revisions)},
		{Name: "live_inferred_asked_total", Help: "Those of them that were asked for.", Counter: true, Value: float64(inferred.Calls)},
		{Name: "live_inferred_spared_total", Help: "Those of them that were answered with the translation of another revision, without a call.", Counter: true, Value: float64(inferred.Spared)},
		{Name: "live_inferred_sessions", Help: "Clients without sessions that are taken for speakers.", Value: float64(inferred.Sessions)},
	} {
		emit(v)
	}
	if d.group != nil {
		d.group.measure(emit)
	}
	d.mu.Lock()
	open := len(d.sessions)
	d.mu.Unlock()
	emit(core.Measure{Name: "live_sessions", Help: "Live sessions that are open.", Value: float64(open)})
}
