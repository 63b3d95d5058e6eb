package main

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/dragoman-mt/dragoman/cmd/internal/binaries"
	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/coretest/property"
	"github.com/dragoman-mt/dragoman/stages/openai/openaitest"
)

// programs is the folder that TestMain built the gateway into.
var programs string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "dragoman-faults-")
	if err == nil {
		programs = dir
		err = binaries.Into(dir, "cmd/dragoman")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "building the gateway:", err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		os.RemoveAll(dir)
		os.Exit(code)
	}))
}

func TestEveryFaultOfASmallRunIsAccountedFor(t *testing.T) {
	property.WithoutRace(t)
	for _, hedge := range []string{"never", "300ms"} {
		t.Run("hedge "+hedge, func(t *testing.T) {
			var out, errs bytes.Buffer
			status := run(t.Context(), []string{"-requests", strconv.Itoa(property.Rounds(3000, 1200)), "-hedge", hedge,
				"-dragoman", filepath.Join(programs, "dragoman"), "-config", "../../../../pipeline.yaml"}, &out, &errs)
			if status != 0 {
				t.Errorf("status %d\n%s%s", status, &out, &errs)
			}
		})
	}
}

func TestACommandLineThatCannotBeObeyedIsRefused(t *testing.T) {
	for _, args := range [][]string{{"-wrong"}, {"argument"}, {"-requests", "10"}, {"-rate", "0"}, {"-rate", "0.6"}, {"-dragoman", "nowhere"}} {
		var out, errs bytes.Buffer
		if status := run(t.Context(), args, &out, &errs); status != 2 || errs.Len() == 0 {
			t.Errorf("%v: status %d, %q", args, status, &errs)
		}
	}
}

func TestEveryKindOfFaultHasItsFateAndItsShare(t *testing.T) {
	if got, want := slices.Sorted(maps.Keys(fates())), openaitest.Kinds(); !slices.Equal(got, want) {
		t.Errorf("fates of %v, the simulator knows %v", got, want)
	}
	sum := 0.0
	for kind, rate := range rates(0.02) {
		if rate < 0.02/400 {
			t.Errorf("%s: a rate of %v is hardly met", kind, rate)
		}
		sum += rate
	}
	if sum < 0.0199 || sum > 0.0201 {
		t.Errorf("the rates add up to %v", sum)
	}
}

func TestAnIdLeadsBackToItsRequest(t *testing.T) {
	for id, want := range map[string][2]int{"fault-0": {0, 0}, "fault-123456": {123456, 0}, "fault-7-1": {7, 1}} {
		i, attempt, err := numbersOf(id)
		if err != nil || i != want[0] || attempt != want[1] {
			t.Errorf("%s: request %d, attempt %d, %v", id, i, attempt, err)
		}
	}
	for _, id := range []string{"", "fault", "fault-", "fault-x", "fault-1-x", "fault--1", "other-1"} {
		if i, attempt, err := numbersOf(id); err == nil {
			t.Errorf("%q: request %d, attempt %d", id, i, attempt)
		}
	}
}

// Answers as they may come.
var (
	right   = answer{status: 200, right: true}
	wrong   = answer{status: 200}
	lost    = answer{}
	failed  = answer{status: 502, kind: "provider_failed"}
	refused = answer{status: 502, kind: "provider_refused"}
	large   = answer{status: 413, kind: "too_large"}
	late    = answer{status: 504, kind: "deadline_exceeded"}
	shut    = answer{status: 503, kind: "unavailable"}
)

func TestAnAnswerIsJudgedByWhatItsCallsMet(t *testing.T) {
	call := func(attempt int, fault string) visit { return visit{attempt: attempt, fault: fault} }
	given := func(attempt int, fault string) visit { return visit{attempt: attempt, fault: fault, left: true} }
	for _, c := range []struct {
		name   string
		answer answer
		visits []visit
		hedged bool
		want   finding
	}{
		{"from the cache", right, nil, false, answered},
		{"no fault", right, []visit{call(0, "")}, false, answered},
		{"a harmless one", right, []visit{call(0, openaitest.ChatterQuotes)}, false, answered},
		{"retried", right, []visit{call(0, openaitest.Error500), call(1, "")}, false, mended},
		{"sent again by the pool", right, []visit{call(0, openaitest.IdleClose), call(0, "")}, false, mended},
		{"retried after a hang", right, []visit{given(0, openaitest.Hang), call(1, "")}, false, mended},
		{"slow, but in time", right, []visit{call(0, openaitest.Drip)}, false, answered},
		{"final", large, []visit{call(0, openaitest.ContextLength)}, false, documented},
		{"final after a retry", refused, []visit{call(0, openaitest.Error500), call(1, openaitest.Refusal)}, false, documented},
		{"all attempts", failed, []visit{call(0, openaitest.Error500), call(1, openaitest.ChatterEcho)}, false, spent},
		{"all attempts, the last hung", late, []visit{call(0, openaitest.Error500), given(1, openaitest.Hang)}, false, spent},
		{"too slow twice without a fault", late, []visit{given(0, ""), given(1, "")}, false, spent},

		{"lost", lost, []visit{call(0, "")}, false, astray},
		{"lost after a fault", lost, []visit{call(0, openaitest.Error401)}, false, astray},
		{"wrong", wrong, []visit{call(0, "")}, false, astray},
		{"wrong from the cache", wrong, nil, false, astray},
		{"failed without a call", shut, nil, false, astray},
		{"failed without a fault", failed, []visit{call(0, "")}, false, astray},
		{"answered what is final", right, []visit{call(0, openaitest.Error401)}, false, astray},
		{"final, told otherwise", failed, []visit{call(0, openaitest.ContextLength)}, false, astray},
		{"all attempts, told otherwise", shut, []visit{call(0, openaitest.Error500), call(1, openaitest.Error500)}, false, astray},
		{"told of the first fault", failed, []visit{call(0, openaitest.Error500), given(1, openaitest.Hang)}, false, astray},
		{"not retried", failed, []visit{call(0, openaitest.Error500)}, false, unmended},
		{"sent again, not retried", failed, []visit{call(0, openaitest.IdleClose), call(0, openaitest.Cut)}, false, unmended},
		{"mended, not answered", failed, []visit{call(0, openaitest.Error500), call(1, "")}, false, unmended},

		{"the hedge was faster", right, []visit{given(0, ""), call(1, "")}, true, answered},
		{"the hedge was faster than a hang", right, []visit{given(0, openaitest.Hang), call(1, "")}, true, mended},
		{"the hedge met a fault", right, []visit{call(0, ""), call(1, openaitest.Error401)}, true, answered},
		{"the first was final", large, []visit{call(0, openaitest.ContextLength), given(1, "")}, true, documented},
		{"both failed", failed, []visit{call(0, openaitest.Cut), call(1, openaitest.Error500)}, true, spent},
		{"the hedge had the answer", failed, []visit{call(0, openaitest.Cut), call(1, "")}, true, unmended},
		{"a hedge, told otherwise", shut, []visit{call(0, openaitest.Cut), call(1, openaitest.Error500)}, true, astray},
	} {
		r := request{answer: c.answer, visits: c.visits}
		if got := r.finding(fates(), c.hedged); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// A situation is all that a run is judged by.
type situation struct {
	o             options
	book          *book
	up            openaitest.Stats
	before, after metrics
	samples       []sample
}

// sound returns one in which all is as it should be: of 40 requests on three
// connections one fault broke its connection and was mended, and one was final,
// for a request and for another that shared its flight.
func sound() *situation {
	s := &situation{o: options{requests: 40, rate: 0.02, hedge: "never"}}
	s.book = newBook(s.o)
	for i := range s.book.requests {
		s.book.requests[i].answer = answer{begin: time.Duration(i), end: time.Duration(i + 5), status: 200, right: true}
	}
	enter := func(i int, number int64, fault string, attempt int, after time.Duration) {
		id := idOf(i)
		if attempt > 0 {
			id += fmt.Sprint("-", attempt)
		}
		s.book.call(openaitest.Record{ClientID: id, Connection: number, Fault: fault, Start: s.book.opened.Add(after)})
	}
	enter(0, 1, openaitest.Cut, 0, 0)
	enter(0, 2, "", 1, 1)
	enter(26, 2, openaitest.ContextLength, 0, 2)
	enter(30, 3, "", 0, 3)
	for _, i := range []int{26, 27} { // 27 wants what 26 wants
		a := &s.book.requests[i].answer
		a.right, a.status, a.kind = false, 413, string(core.TooLarge)
	}
	s.up = openaitest.Stats{Chats: 4, Connections: 33, Open: 32}
	s.after = metrics{
		`dragoman_pool_dials_total{origin="o"}`: 33, `dragoman_pool_connections{state="ready"}`: 32,
		"dragoman_cache_hits_total": 36, "dragoman_cache_joins_total": 1, "go_goroutines": 40, "process_open_fds": 30,
	}
	s.before = maps.Clone(s.after)
	for i := range 10 {
		s.samples = append(s.samples, sample{i * 4, 100 << 20})
	}
	return s
}

func (s *situation) judged() (string, bool) {
	var b strings.Builder
	ok := judge(s.o, s.book, s.up, s.before, s.after, s.samples).report(&b)
	return b.String(), ok
}

func TestASoundRunIsFoundSound(t *testing.T) {
	if said, ok := sound().judged(); !ok {
		t.Error(said)
	}
}

func TestWhateverIsWrongIsFound(t *testing.T) {
	set := func(metric string, v float64) func(*situation) {
		return func(s *situation) { s.after[metric] = v }
	}
	for _, c := range []struct {
		what  string
		wrong func(*situation)
		found string // the check that fails
	}{
		{"an answer is lost", func(s *situation) { s.book.requests[3].answer = lost }, "every answer is"},
		{"an answer is another's", func(s *situation) { s.book.requests[3].answer = wrong }, "every answer is"},
		{"a retry was not made", func(s *situation) {
			r := &s.book.requests[0]
			r.right, r.status, r.kind, r.visits = false, 502, "provider_failed", r.visits[:1]
		}, "what another attempt can mend"},
		{"an error that nothing explains", func(s *situation) { s.book.requests[30].answer = shut }, "what fails"},
		{"an error of a flight that was over", func(s *situation) {
			s.book.requests[27].begin, s.book.requests[27].end = time.Second, 2*time.Second
		}, "what fails"},
		{"a call for nobody", func(s *situation) { s.book.call(openaitest.Record{ClientID: "other"}) }, "every call"},
		{"the breaker opened", set("dragoman_provider_breaker_opened_total", 1), "the breaker"},
		{"the cache took no part", set("dragoman_cache_hits_total", 0), "the run met"},
		{"no flight was joined", set("dragoman_cache_joins_total", 0), "the run met"},
		{"kinds that were never met", func(s *situation) { s.up.Chats = 1_000_000 }, "the run met"},
		{"a connection was replaced", func(s *situation) {
			s.up.Connections++
			s.after[`dragoman_pool_dials_total{origin="o"}`]++
		}, "connections are opened"},
		{"the books differ", func(s *situation) { s.after[`dragoman_pool_dials_total{origin="o"}`]++ }, "connections are opened"},
		{"a connection that a fault broke is open", func(s *situation) { s.up.Open++ }, "connections are opened"},
		{"a connection was retired", func(s *situation) {
			s.up.Connections++
			s.after[`dragoman_pool_dials_total{origin="o"}`]++
			s.after["dragoman_pool_retired_total"]++
		}, "connections are opened"},
		{"connections are let go after every answer", func(s *situation) {
			s.up.Connections += 2
			s.after[`dragoman_pool_dials_total{origin="o"}`] += 2
			s.after["dragoman_pool_spent_total"] += 2
		}, "connections are opened"},
		{"a dial failed", set("dragoman_pool_dial_failures_total", 1), "connections are opened"},
		{"a call was given up", set("dragoman_pool_cancelled_total", 1), "connections are opened"},
		{"a limit was learned", set(`dragoman_pool_idle_limit_seconds{used="before"}`, 1), "no idle limit"},
		{"a turn is left", set("dragoman_queue_in_flight", 1), "nothing is left"},
		{"a request waits", set("dragoman_line_waiting", 1), "nothing is left"},
		{"a flight is left", set("dragoman_cache_flights", 1), "nothing is left"},
		{"a connection too many", set(`dragoman_pool_connections{state="dialling"}`, 1), "nothing is left"},
		{"a goroutine is left", set("go_goroutines", 41), "nothing is left"},
		{"a file is left open", set("process_open_fds", 31), "nothing is left"},
		{"memory grows", func(s *situation) {
			s.o.requests = judgedFrom
			for i := range s.samples {
				s.samples[i].bytes += float64(i) * (1 << 20)
			}
		}, "memory stays flat"},
	} {
		s := sound()
		c.wrong(s)
		said, ok := s.judged()
		if ok || !strings.Contains(said, "FAIL "+c.found) {
			t.Errorf("%s: not found:\n%s", c.what, said)
		}
	}
}
