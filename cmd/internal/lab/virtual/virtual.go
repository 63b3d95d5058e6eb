// Package virtual plays what was said through the policy of live sessions in virtual time,
// with a provider that is simulated: ten minutes of speech in less than a second.
package virtual

import (
	"container/heap"
	"math"
	"math/rand/v2"
	"time"

	"github.com/dragoman-mt/dragoman/cmd/internal/speech"
	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/live"
	"github.com/dragoman-mt/dragoman/core/live/livetest"
	"github.com/dragoman-mt/dragoman/core/live/traffic"
)

// A Provider is one that is simulated: log-normal between its median and its p99, and so
// far away. So many calls run at once; finals go first.
type Provider struct {
	P50, P99, RTT time.Duration
	Slots         int
	Seed          uint64
}

// Steady is the provider of the load tests.
func Steady() Provider {
	return Provider{P50: 300 * time.Millisecond, P99: 400 * time.Millisecond, RTT: 50 * time.Millisecond, Slots: 6, Seed: 1}
}

func (p Provider) latency(r *rand.Rand) time.Duration {
	sigma := math.Log(float64(p.P99)/float64(p.P50)) / 2.3263
	return p.RTT + time.Duration(float64(p.P50)*math.Exp(r.NormFloat64()*sigma))
}

// A clock is virtual time with what is due.
type clock struct {
	now  time.Duration
	next events
	n    int
}

type event struct {
	at time.Duration
	n  int // of two at the same time the one that was made first comes first
	do func()
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].n < e[j].n
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	old := *e
	last := old[len(old)-1]
	*e = old[:len(old)-1]
	return last
}

func (c *clock) at(at time.Duration, do func()) {
	c.n++
	heap.Push(&c.next, event{max(at, c.now), c.n, do})
}

func (c *clock) run() {
	for len(c.next) > 0 {
		e := heap.Pop(&c.next).(event)
		c.now = e.at
		e.do()
	}
}

// An upstream is the provider behind a cache, flights and a queue, as far as it matters
// to what is shown when.
type upstream struct {
	*clock
	provider Provider
	rand     *rand.Rand
	cache    map[question]string
	flights  map[question]*trip
	waiting  []*trip
	running  int
	calls    int
	sent     int
}

type question struct {
	text    string
	target  core.Language
	context string
}

type trip struct {
	question
	final  bool
	keep   bool
	begun  bool
	asked  time.Duration
	waited time.Duration
	riders []*rider
}

type rider struct {
	answer func(live.Answer)
	leader bool
	gone   bool
}

func newUpstream(c *clock, p Provider) *upstream {
	return &upstream{clock: c, provider: p, rand: rand.New(rand.NewPCG(p.Seed, 7)), cache: map[question]string{}, flights: map[question]*trip{}}
}

// ask answers later, and once. The function that it returns takes the question back.
func (u *upstream) ask(q question, final, keep bool, answer func(live.Answer)) (cancel func()) {
	if text, ok := u.cache[q]; ok {
		u.at(u.now+time.Millisecond, func() { answer(live.Answer{Text: text, Cached: true}) })
		return func() {}
	}
	t := u.flights[q]
	r := &rider{answer: answer}
	if t == nil {
		t = &trip{question: q, asked: u.now}
		u.flights[q] = t
		u.waiting = append(u.waiting, t)
		r.leader = true
	}
	t.final, t.keep = t.final || final, t.keep || keep
	t.riders = append(t.riders, r)
	u.dispatch()
	return func() {
		if r.gone {
			return
		}
		r.gone = true
		left := 0
		for _, o := range t.riders {
			if !o.gone {
				left++
			}
		}
		made := 0
		if t.begun && r.leader {
			made = 1
		}
		if left == 0 && u.flights[q] == t {
			delete(u.flights, q)
			if t.begun {
				u.running--
				u.dispatch()
			}
		}
		answer(live.Answer{Err: &core.Error{Kind: core.Canceled, Own: true}, Attempts: made})
	}
}

func (u *upstream) dispatch() {
	for u.running < u.provider.Slots {
		best := -1
		for i, t := range u.waiting {
			if u.flights[t.question] != t {
				continue
			}
			if best < 0 || t.final && !u.waiting[best].final {
				best = i
			}
		}
		if best < 0 {
			u.waiting = nil
			return
		}
		t := u.waiting[best]
		u.waiting = append(u.waiting[:best:best], u.waiting[best+1:]...)
		t.begun, t.waited = true, u.now-t.asked
		u.running++
		u.calls++
		u.sent += len([]rune(t.text))
		u.at(u.now+u.provider.latency(u.rand), func() {
			if u.flights[t.question] != t {
				return
			}
			delete(u.flights, t.question)
			u.running--
			text := livetest.Translated(t.text, t.target)
			if t.keep {
				u.cache[t.question] = text
			}
			for _, r := range t.riders {
				if r.gone {
					continue
				}
				r.gone = true
				a := live.Answer{Text: text, Cached: !r.leader}
				if r.leader {
					a.Attempts, a.Waited = 1, t.waited
				}
				r.answer(a)
			}
			u.dispatch()
		})
	}
}

// Play plays a plan with the provider of the load tests.
func Play(p speech.Plan) (all []speech.Played) {
	for _, run := range p.Runs {
		var m speech.Measured
		if run.Policy != nil {
			m = Live(p.Trace, *run.Policy, p.Targets, Steady(), p.Deadline)
		} else {
			m = Naive(p.Trace, p.Targets, Steady(), p.Deadline)
		}
		m.Name = run.Name
		all = append(all, speech.PlayedOf(m))
	}
	return all
}

// start is when virtual time begins; only differences count.
var start = time.Unix(0, 0)

// Live plays a trace through the policy of c.
func Live(trace []traffic.Event, c live.Config, targets []core.Language, p Provider, deadline time.Duration) speech.Measured {
	k := &clock{}
	u, s := newUpstream(k, p), speech.NewScreen()
	byName := map[string]*player{}
	var all []*player
	for _, e := range trace {
		l := byName[e.Session]
		if l == nil {
			l = &player{clock: k, upstream: u, screen: s, name: e.Session, cancels: map[int64]func(){}, seen: map[speech.Place]string{}}
			l.session = live.New(c, live.Options{Source: "en", Targets: targets, Deadline: deadline}, start)
			l.session.Attach(0, &live.Ready{})
			byName[e.Session] = l
			all = append(all, l)
		}
		k.at(e.At(), func() {
			for _, t := range targets {
				s.Heard(e, t, k.now)
			}
			l.session.Take(start.Add(k.now), live.Source{Segment: e.Segment, Revision: e.Revision, HasRevision: true, Text: e.Text, Final: e.Final, Stable: -1, Labels: live.Labels{Speaker: e.Speaker}})
			l.turn()
		})
	}
	k.run()
	wasted := 0
	for _, l := range all {
		wasted += int(l.session.Stats(start.Add(k.now)).Wasted)
	}
	m := s.Measure(u.calls, u.sent, 0, deadline, livetest.Translated)
	if u.calls > 0 {
		m.Wasted = float64(wasted) / float64(u.calls)
	}
	return m
}

// A player is a client of one session, and what drives the session.
type player struct {
	*clock
	*upstream
	screen  *speech.Screen
	session *live.Session
	name    string
	cancels map[int64]func()
	due     time.Duration
	seen    map[speech.Place]string // concluded
}

// turn does what the session asks for, until it asks for nothing.
func (l *player) turn() {
	now := start.Add(l.clock.now)
	for {
		calls, cancels := l.session.Work()
		for _, c := range calls {
			context := ""
			for _, p := range c.Context {
				context += p.Source + "\n" + p.Target + "\n"
			}
			l.cancels[c.ID] = l.ask(question{c.Text, c.Target, context}, c.Lane == core.LaneFinal, c.Final, func(a live.Answer) {
				delete(l.cancels, c.ID)
				l.session.Answer(start.Add(l.clock.now), c.ID, a)
				l.turn()
			})
		}
		for _, id := range cancels {
			if cancel := l.cancels[id]; cancel != nil {
				cancel()
			}
		}
		if len(calls)+len(cancels) == 0 {
			break
		}
	}
	for f := l.session.Out().Next(now); f != nil; f = l.session.Out().Next(now) {
		t, ok := f.(*live.Target)
		if !ok {
			continue
		}
		where := speech.Place{Session: l.name, Segment: t.Segment, Target: t.Target}
		l.seen[where] += t.Concluded
		if !t.Final {
			l.screen.Saw(where, l.clock.now, l.seen[where]+t.Tentative)
			continue
		}
		l.screen.Final(where, l.clock.now, t.Text, t.Last.Error != nil, t.Late, t.Corrected > 0)
		delete(l.seen, where)
	}
	if next := l.session.Next(); !next.IsZero() {
		if at := next.Sub(start); l.due <= l.clock.now || at < l.due {
			l.due = max(at, l.clock.now+time.Millisecond)
			l.clock.at(l.due, func() { l.session.Tick(start.Add(l.clock.now)); l.turn() })
		}
	}
}

// Naive plays a trace as a client does that asks for every revision, and shows each
// answer unless it has shown that of a newer one.
func Naive(trace []traffic.Event, targets []core.Language, p Provider, deadline time.Duration) speech.Measured {
	k := &clock{}
	u, s := newUpstream(k, p), speech.NewScreen()
	newest := map[speech.Place]int64{}
	for _, e := range trace {
		k.at(e.At(), func() {
			for _, t := range targets {
				s.Heard(e, t, k.now)
				where := speech.Place{Session: e.Session, Segment: e.Segment, Target: t}
				u.ask(question{e.Text, t, ""}, e.Final, e.Final, func(a live.Answer) {
					if a.Err != nil || e.Revision < newest[where] {
						return
					}
					newest[where] = e.Revision
					if e.Final {
						s.Final(where, k.now, a.Text, false, false, false)
					} else {
						s.Saw(where, k.now, a.Text)
					}
				})
			}
		})
	}
	k.run()
	return s.Measure(u.calls, u.sent, 0, deadline, livetest.Translated)
}
