package gateway

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/stages/openai/openaitest"
)

// The upstream counts by itself: with retries of what fails and hedges beside
// what hangs it never has more calls at once than there are slots. Calls that
// were given up are left out, since it hears of that later than the gateway.
func TestTheUpstreamNeverSeesMoreCallsAtOnceThanSlots(t *testing.T) {
	const slots = 2
	in := newInside(t, openaitest.Config{
		Latency: 20 * time.Millisecond, LatencyP99: 80 * time.Millisecond,
		Faults: map[string]float64{openaitest.Error500: 0.1, openaitest.Hang: 0.05},
	}, strings.Replace(small, "breaker: {failures: 100}", "breaker: {failures: 0}, hedge: {after: 60ms}", 1))
	// Nothing is free for a hedge, and then one slot is.
	for _, crowd := range []struct{ callers, each int }{{8, 10}, {1, 40}} {
		var all sync.WaitGroup
		for caller := range crowd.callers {
			all.Go(func() {
				for n := range crowd.each {
					if _, _, err := in.ask(t.Context(), fmt.Sprintf("Text number %d of caller %d of %d.", n, caller, crowd.callers)); err != nil {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
	}
	st, err := in.sim.Settled(patiently(t))
	if err != nil {
		t.Fatal(err)
	}
	made := map[string]float64{}
	in.engine.Measure(func(m core.Measure) {
		if m.Name == "provider_attempts_total" {
			made[m.Labels[slices.Index(m.Labels, "reason")+1]] += m.Value
		}
	})
	if made["retry"] == 0 || made["hedge"] == 0 || st.Aborted == 0 {
		t.Errorf("%v attempts, %d given up: the test proves less than it says", made, st.Aborted)
	}
	st.Records = slices.DeleteFunc(st.Records, func(r openaitest.Record) bool { return r.Aborted })
	if n := st.MostTogether(0); n != slots {
		t.Errorf("%d calls at once, there are %d slots", n, slots)
	}
}

// The upstream allows a hundred calls a minute, and the configuration thousands.
// Its first headers tell, and it has not one to refuse.
func TestAnUpstreamThatAllowsLessNeedNotRefuse(t *testing.T) {
	in := newInside(t, openaitest.Config{RPM: 100}, strings.Replace(small, "max_concurrent: 2", "max_concurrent: 6", 1))
	const offered = 400
	var all sync.WaitGroup
	for n := range offered {
		all.Go(func() {
			// Most of them cannot be served in time, and are told so.
			if _, _, err := in.ask(t.Context(), fmt.Sprintf("Text number %d of many.", n)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	st, err := in.sim.Settled(patiently(t))
	if err != nil {
		t.Fatal(err)
	}
	if st.Statuses[http.StatusTooManyRequests] != 0 || st.Chats == 0 || st.Chats == offered {
		t.Errorf("%d calls for %d texts, answered %v; want that none is refused", st.Chats, offered, st.Statuses)
	}
}
