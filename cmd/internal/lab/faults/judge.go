package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/door"
	"github.com/dragoman-mt/dragoman/stages/openai/openaitest"
)

// A finding is what became of a request.
type finding int

const (
	answered   finding = iota // and no call of its had met a fault that needed mending
	mended                    // answered, after a fault
	documented                // failed as its last fault does, which another attempt would meet again
	spent                     // failed as its last fault does, and so had every attempt
	shared                    // failed with the flight that it had joined
	unmended                  // failed though an attempt was left, or had met no fault
	astray                    // anything else, a wrong translation or none among it
	verdicts
)

func (v finding) String() string {
	return [...]string{
		"answered, met nothing that needed mending", "mended by another attempt", "failed as documented, at once",
		"failed as documented, after all attempts", "failed with the flight they shared", "could have been mended", "unaccounted for",
	}[v]
}

// mendedShare is the least share of the requests which met a fault that another
// attempt could mend, and had that attempt, that must have been answered.
const mendedShare = 0.9995

// fate returns that of the call. In a run with hedges a call may be given up
// because another was faster, which is no fault; in others, because it took too
// long by itself.
func (v visit) fate(all map[string]fate, hedged bool) fate {
	f := all[v.fault]
	switch {
	case f.kind == core.DeadlineExceeded && !v.left:
		return fate{} // it was in time, however slow
	case f.kind == "" && v.left && !hedged:
		return fate{kind: core.DeadlineExceeded, again: true}
	}
	return f
}

// failedAs says whether a is what a client is told of kind.
func (a answer) failedAs(kind core.ErrorKind) bool {
	row := door.Answer(kind)
	return kind != "" && a.status == row.Status && a.kind == string(row.Public)
}

// finding says what became of r, by its own calls alone. The calls are in order.
func (r *request) finding(all map[string]fate, hedged bool) finding {
	if len(r.visits) == 0 {
		if r.right {
			return answered // from the cache, or by the flight of another
		}
		return astray
	}
	// How the last call ended counts. Of two at once either may be the last.
	first := len(r.visits) - 1
	if hedged {
		first = 0
	}
	var clean, again, final, asLast bool
	tries := 0
	for i, v := range r.visits {
		f := v.fate(all, hedged)
		again = again || f.again
		tries = max(tries, v.attempt+1)
		if i >= first {
			clean = clean || f.kind == "" && !v.left
			final = final || f.kind != "" && !f.again
			asLast = asLast || r.failedAs(f.kind)
		}
	}
	switch {
	case r.right && final && !clean:
		return astray // where from?
	case r.right && again:
		return mended
	case r.right:
		return answered
	case final && asLast:
		return documented
	case again && (clean || tries < attempts):
		return unmended
	case again && asLast:
		return spent
	}
	return astray
}

// A check is one thing that must hold.
type check struct {
	what string
	ok   bool
	said string
}

// findings are what came of a run.
type findings struct {
	options
	verdicts [verdicts]int
	faults   map[string]*tally
	checks   []check
	examples []string // of what is not accounted for
}

// A tally is what became of the requests that met a kind of fault; one that met
// two is in both.
type tally struct{ calls, answered, failed int }

// maxExamples is how many requests a report tells about.
const maxExamples = 10

// judge holds everything against what is promised.
func judge(o options, b *book, up openaitest.Stats, before, after metrics, samples []sample) *findings {
	f := &findings{options: o, faults: map[string]*tally{}}
	f.answers(b)
	f.coverage(up, after)
	f.connections(b, up, after)
	f.rest(before, after)
	f.memory(samples)
	return f
}

func (f *findings) check(what string, ok bool, format string, args ...any) {
	f.checks = append(f.checks, check{what, ok, fmt.Sprintf(format, args...)})
}

func (f *findings) hedged() bool { return f.hedge != "never" }

// answers judges every request.
func (f *findings) answers(b *book) {
	all := fates()
	b.inOrder()
	failed := map[int][]int{} // by text: requests with calls of their own
	for i := range b.requests {
		if r := &b.requests[i]; len(r.visits) > 0 && !r.right {
			failed[textOf(i)] = append(failed[textOf(i)], i)
		}
	}
	lost, wrong := 0, 0
	for i := range b.requests {
		r := &b.requests[i]
		v := r.finding(all, f.hedged())
		if v == astray && len(r.visits) == 0 && slices.ContainsFunc(failed[textOf(i)], func(j int) bool { return b.requests[j].tells(r) }) {
			v = shared
		}
		f.verdicts[v]++
		switch {
		case r.status == 0:
			lost++
		case r.status == 200 && !r.right:
			wrong++
		}
		if v == unmended || v == astray {
			f.example(i, r)
		}
		for _, v := range r.visits {
			if v.fault == "" {
				continue
			}
			t := f.faults[v.fault]
			if t == nil {
				t = &tally{}
				f.faults[v.fault] = t
			}
			t.calls++
			if r.right {
				t.answered++
			} else {
				t.failed++
			}
		}
	}
	f.check("every answer is the translation of its own text", lost == 0 && wrong == 0,
		"%d answered, %d lost, %d wrong", f.verdicts[answered]+f.verdicts[mended], lost, wrong)
	share := 1.
	if could := f.verdicts[mended] + f.verdicts[unmended]; could > 0 {
		share = float64(f.verdicts[mended]) / float64(could)
	}
	f.check("what another attempt can mend is mended", share >= mendedShare,
		"%d of %d, %.2f %%; at least %.2f %%", f.verdicts[mended], f.verdicts[mended]+f.verdicts[unmended], 100*share, 100*mendedShare)
	f.check("what fails, fails as documented, and nothing else does", f.verdicts[astray] == 0,
		"%d at once, %d after all attempts, %d in the flight of another; %d in another way",
		f.verdicts[documented], f.verdicts[spent], f.verdicts[shared], f.verdicts[astray])
	f.check("every call upstream belongs to a request", b.strange == 0, "%d are not", b.strange)
}

// tells says whether joiner can have joined the flight that ended with r.
func (r *request) tells(joiner *request) bool {
	return r.status == joiner.status && r.kind == joiner.kind && r.begin < joiner.end && joiner.begin < r.end
}

func (f *findings) example(i int, r *request) {
	if len(f.examples) == maxExamples {
		return
	}
	var met []string
	for _, v := range r.visits {
		what := v.fault
		if what == "" {
			what = "no fault"
		}
		if v.left {
			what += ", given up"
		}
		met = append(met, fmt.Sprintf("attempt %d at %s: %s", v.attempt+1, (v.begin-r.begin).Round(time.Microsecond), what))
	}
	f.examples = append(f.examples, fmt.Sprintf("request %s: %s after %s; %d calls %v", idOf(i), r.answer, (r.end-r.begin).Round(time.Microsecond), len(r.visits), met))
}

// expected is from how many on a fault that was not met is no accident.
const expected = 20

// coverage says whether the run has tested what it is for.
func (f *findings) coverage(up openaitest.Stats, after metrics) {
	calls, met := 0, 0
	var missing []string
	kinds := rates(f.rate)
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		if t := f.faults[kind]; t != nil {
			calls += t.calls
			met++
		} else if kinds[kind]*float64(up.Chats) >= expected {
			missing = append(missing, kind)
		}
	}
	opened := after.sum("dragoman_provider_breaker_opened_total", "")
	f.check("the breaker stays shut", opened == 0, "opened %.0f times", opened)
	hits, joins := after.sum("dragoman_cache_hits_total", ""), after.sum("dragoman_cache_joins_total", "")
	said := fmt.Sprintf("%d calls, %d faults of %d kinds of %d, %.0f answers from the cache, %.0f flights joined, %.0f calls hedged, %.0f attempts denied by the budget", up.Chats, calls, met, len(kinds),
		hits, joins, after.sum("dragoman_provider_attempts_total", `reason="hedge"`), after.sum("dragoman_provider_retries_denied_total", ""))
	if len(missing) > 0 {
		said += ", never met: " + strings.Join(missing, " ")
	}
	f.check("the run met what it is to meet", len(missing) == 0 && calls > 0 && hits > 0 && joins > 0, "%s", said)
}

// maxSpent is the most connections that net/http may let go after a whole
// answer, as a share of the calls: it does when a busy machine keeps one from
// sending for 50 ms.
const maxSpent = 0.01

// connections holds the upstream's book of connections against the gateway's.
func (f *findings) connections(b *book, up openaitest.Stats, after metrics) {
	all := fates()
	broken, left := 0, 0
	for _, v := range b.last {
		if all[v.fault].ends {
			broken++
		}
	}
	for i := range b.requests {
		for _, v := range b.requests[i].visits {
			if v.left {
				left++
			}
		}
	}
	pool := func(counter string) int { return int(after.sum("dragoman_pool_"+counter+"_total", "")) }
	opened, ended := int(up.Connections), int(up.Connections-up.Open)
	givenUp, spent, retired := pool("cancelled"), pool("spent"), pool("retired")
	other := ended - broken - givenUp - spent - retired
	mostSpent := maxSpent * float64(up.Chats)
	ok := pool("dials") == opened && pool("dial_failures") == 0 && retired == 0
	if f.hedged() {
		// A call that lost against its hedge may have met a fault as well. The
		// upstream cannot see one that was given up before it was sent, which
		// keeps its connection, or as its answer ended, which may.
		ok = ok && -(broken+givenUp-left) <= other && other <= 0 && left <= givenUp
		mostSpent += after.sum("dragoman_provider_attempts_total", `reason="hedge"`)
	} else {
		ok = ok && other == 0 && left == givenUp
	}
	ok = ok && float64(spent) <= mostSpent
	f.check("connections are opened for those that faults broke, and no more", ok,
		"%d opened = %d needed + %d broken by a fault + %d given up with their call + %d let go by net/http + %d retired %+d (others, less those for two reasons); "+
			"the gateway dialled %d, %d in vain, and sent %d calls again; the upstream saw %d given up",
		opened, up.Open, broken, givenUp, spent, retired, other, pool("dials"), pool("dial_failures"), pool("resends"), left)
	limit := after.sum("dragoman_pool_idle_limit_seconds", "")
	f.check("no idle limit is learned from faults", limit == 0, "%.3f s, the server has none", limit)
}

// rest looks for what the load has left.
func (f *findings) rest(before, after metrics) {
	found := left(after, before, f.turns())
	f.check("nothing is left behind", len(found) == 0, "%s", strings.Join(append([]string{fmt.Sprintf(
		"at rest %.0f turns, %.0f flights, %.0f connections, %.0f goroutines (%.0f before), %.0f open files (%.0f before)",
		after.sum("dragoman_queue_in_flight", ""), after.sum("dragoman_cache_flights", ""), after.sum("dragoman_pool_connections", ""),
		after.sum("go_goroutines", ""), before.sum("go_goroutines", ""),
		after.sum("process_open_fds", ""), before.sum("process_open_fds", ""))}, found...), "; "))
}

// judgedFrom is from how many requests on memory is judged, and maxRise what it
// may rise by: the line through the samples, after the first fifth of the run,
// in which the cache fills up.
const (
	judgedFrom = 500_000
	maxRise    = 0.05
)

func (f *findings) memory(samples []sample) {
	const mb = 1 << 20
	first, last, rise, mean := 0., 0., 0., 0.
	var most float64
	slices.SortFunc(samples, func(a, b sample) int { return a.requests - b.requests })
	for _, s := range samples {
		most = max(most, s.bytes)
	}
	rest := samples[len(samples)/5:]
	if len(rest) > 1 {
		rise, mean = line(rest)
		first, last = mean-rise/2, mean+rise/2
	}
	said := fmt.Sprintf("from %.1f to %.1f MB by the line through %d samples, %.1f at most", first/mb, last/mb, len(rest), most/mb)
	if f.requests < judgedFrom {
		f.check("memory stays flat", true, "%s; not judged below %d requests", said, judgedFrom)
		return
	}
	f.check("memory stays flat", rise <= maxRise*mean, "%s, %+.1f %%; at most %+.0f %%", said, 100*rise/mean, 100*maxRise)
}

// line returns by how much the least-squares line through samples rises from
// the first to the last, and their mean.
func line(samples []sample) (rise, mean float64) {
	n := float64(len(samples))
	x, y := 0., 0.
	for _, s := range samples {
		x += float64(s.requests) / n
		y += s.bytes / n
	}
	xy, xx := 0., 0.
	for _, s := range samples {
		dx := float64(s.requests) - x
		xy += dx * (s.bytes - y)
		xx += dx * dx
	}
	return xy / xx * float64(samples[len(samples)-1].requests-samples[0].requests), y
}

// report writes the findings and says whether all holds.
func (f *findings) report(w io.Writer) (ok bool) {
	fmt.Fprintf(w, "%d requests, %d at a time, %g %% of the calls upstream meet a fault, hedge %s, seed %d\n\n",
		f.requests, asking, 100*f.rate, f.hedge, f.seed)
	for v, n := range f.verdicts {
		fmt.Fprintf(w, "  %9d %s\n", n, finding(v))
	}
	fmt.Fprintf(w, "\n  %-22s %8s %9s %8s\n", "fault", "calls", "answered", "failed")
	for _, kind := range slices.Sorted(maps.Keys(f.faults)) {
		t := f.faults[kind]
		fmt.Fprintf(w, "  %-22s %8d %9d %8d\n", kind, t.calls, t.answered, t.failed)
	}
	fmt.Fprintln(w)
	ok = true
	for _, c := range f.checks {
		mark := "ok  "
		if !c.ok {
			mark, ok = "FAIL", false
		}
		fmt.Fprintf(w, "%s %s: %s\n", mark, c.what, c.said)
	}
	for _, e := range f.examples {
		fmt.Fprintln(w, "     "+e)
	}
	return ok
}
