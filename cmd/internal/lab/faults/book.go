package main

import (
	"slices"
	"sync"
	"time"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/stages/openai/openaitest"
)

// A fate is what is documented of a kind of fault: in stages/openai/README.md,
// stages/postprocess/README.md and core/door/README.md.
type fate struct {
	kind  core.ErrorKind // the failure that it is, "" when there is none
	again bool           // another attempt may mend it
	ends  bool           // the upstream closes the connection
	slow  bool           // it stops all calls for a second, or one until its time is over
}

// fates returns that of every kind of fault.
func fates() map[string]fate {
	failed := fate{kind: core.ProviderFailed, again: true}
	final := fate{kind: core.ProviderFailed}
	broken := fate{kind: core.ProviderFailed, again: true, ends: true}
	// That the gateway closes the connection of a call that takes too long is
	// seen by the simulator as a call that was given up.
	hangs := fate{kind: core.DeadlineExceeded, again: true, slow: true}
	bad := fate{kind: core.BadAnswer, again: true}
	refused := fate{kind: core.ProviderRefused}
	return map[string]fate{
		openaitest.Error500:          failed,
		openaitest.Error502:          failed,
		openaitest.Error503:          failed,
		openaitest.Error504:          failed,
		openaitest.RateLimit:         {kind: core.RateLimited, again: true},
		openaitest.RateLimitBare:     {kind: core.RateLimited, again: true, slow: true},
		openaitest.InsufficientQuota: {kind: core.QuotaExceeded},
		openaitest.Error401:          final,
		openaitest.Error404:          final,
		openaitest.ContextLength:     {kind: core.TooLarge},
		openaitest.RefusedParameter:  final, // unless something is left to be left out: then it is asked again at once
		openaitest.Moderated:         refused,
		openaitest.NoBalance:         {kind: core.QuotaExceeded},
		openaitest.ErrorIn200:        failed,
		openaitest.PackedError:       failed,

		openaitest.Empty:         failed,
		openaitest.Thoughts:      failed, // and asked again at once while more room can be given
		openaitest.Refusal:       refused,
		openaitest.Length:        bad,
		openaitest.ContentFilter: refused,
		openaitest.Truncated:     failed,
		openaitest.Garbage:       failed,
		openaitest.StreamError:   failed,
		openaitest.Comments:      {},

		openaitest.ResetBefore: broken,
		openaitest.ResetAfter:  broken,
		openaitest.Cut:         broken,
		openaitest.IdleClose:   broken,
		openaitest.Hang:        hangs,
		openaitest.Stall:       hangs,
		openaitest.Drip:        hangs,

		openaitest.ChatterQuotes:      {},
		openaitest.ChatterPrefix:      {},
		openaitest.ChatterThink:       {},
		openaitest.ChatterFence:       {},
		openaitest.ChatterNote:        {},
		openaitest.ChatterPlaceholder: {}, // the texts have none
		openaitest.ChatterDrop:        {},
		openaitest.ChatterTranslate:   {},
		openaitest.ChatterDouble:      {},
		openaitest.ChatterReorder:     {},
		openaitest.ChatterSpace:       {},
		openaitest.ChatterBoth:        bad, // what the simulator makes of a text holds it
		openaitest.ChatterJSON:        {},
		openaitest.ChatterToken:       {},
		openaitest.ChatterRefusal:     refused,
		openaitest.ChatterEcho:        bad,
		openaitest.ChatterWrongScript: bad,
		openaitest.ChatterRepetition:  bad,
	}
}

// slowShare is how often a fault that takes long comes, to one that does not.
const slowShare = 1. / 8

// rates spreads rate over all kinds of faults, less of those that take long.
func rates(rate float64) map[string]float64 {
	weights, sum := map[string]float64{}, 0.0
	for kind, f := range fates() {
		weights[kind] = 1
		if f.slow {
			weights[kind] = slowShare
		}
		sum += weights[kind]
	}
	for kind := range weights {
		weights[kind] *= rate / sum
	}
	return weights
}

// A visit is a call upstream that was made for a request.
type visit struct {
	begin   time.Duration // since the book was opened
	fault   string        // "" for none
	attempt int           // from 0; the pool may make two calls for one
	left    bool          // the gateway gave it up
}

// A request is one text that was asked for, the answer, and its calls.
type request struct {
	answer
	visits []visit
}

// A book holds all requests of a run, by number, and what became of the
// upstream's connections.
type book struct {
	opened time.Time

	mu       sync.Mutex
	requests []request
	last     map[int64]visit // on each connection
	strange  int             // calls that are for no request
}

func newBook(o options) *book {
	return &book{opened: time.Now(), requests: make([]request, o.requests), last: map[int64]visit{}}
}

func (b *book) now() time.Duration { return time.Since(b.opened) }

func (b *book) answered(i int, a answer) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.requests[i].answer = a
}

// call enters a call upstream.
func (b *book) call(r openaitest.Record) {
	i, attempt, err := numbersOf(r.ClientID)
	v := visit{begin: r.Start.Sub(b.opened), fault: r.Fault, attempt: attempt, left: r.Aborted}
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil || i >= len(b.requests) {
		b.strange++
		return
	}
	b.requests[i].visits = append(b.requests[i].visits, v)
	// One call at a time is on a connection.
	b.last[r.Connection] = v
}

// inOrder sorts every request's calls by their beginning.
func (b *book) inOrder() {
	for i := range b.requests {
		slices.SortFunc(b.requests[i].visits, func(x, y visit) int { return int(x.begin - y.begin) })
	}
}
