package door

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/usage"
)

func TestATextIsLookedBackAtForOneReasonAndHoldsNoText(t *testing.T) {
	fine := &core.Result{Text: "geheim", Provider: "main"}
	spare := &core.Result{Text: "geheim", Provider: "spare", Flags: []string{core.FlagFallback}}
	for name, c := range map[string]struct {
		asked Asked
		slow  time.Duration
		want  Reason // empty: it is not kept
	}{
		"quick":                 {asked(time.Second-1, fine, nil), time.Second, ""},
		"slow":                  {asked(time.Second, fine, nil), time.Second, WasSlow},
		"slow, and nobody asks": {asked(time.Hour, fine, nil), 0, ""},
		"fell over, slow":       {asked(time.Hour, spare, nil), time.Second, FellOver},
		"the provider failed":   {asked(1, nil, &core.Error{Kind: core.ProviderFailed, Stage: "main", Cause: errors.New("status 500")}), 0, HasFailed},
		"a defect":              {asked(1, nil, &core.Error{Kind: core.Internal, Cause: errors.New("panic: geheim")}), 0, HasFailed},
		"too late":              {asked(1, nil, &core.Error{Kind: core.DeadlineExceeded, Stage: "queue"}), 0, HasFailed},
		"the client's mistake":  {asked(1, nil, &core.Error{Kind: core.InvalidRequest, Field: "geheim", Detail: "geheim"}), 0, WasRefused},
		"over its own limit":    {asked(1, nil, &core.Error{Kind: core.QuotaExceeded, Cause: &usage.Exceeded{}}), 0, WasRefused},
		"replaced":              {asked(1, nil, &core.Error{Kind: core.Superseded}), 0, ""},
		"the client left":       {asked(time.Hour, nil, &core.Error{Kind: core.Canceled}), time.Second, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var r Recent
			r.asked(&c.asked, c.slow)
			all := r.All()
			if c.want == "" {
				if len(all) > 0 {
					t.Errorf("%+v", all)
				}
				return
			}
			if len(all) != 1 || all[0].Reason != c.want || all[0].Request != "id-1" || all[0].Characters != 8 || fmt.Sprint(all[0].Stages) != "[{queue 30}]" {
				t.Fatalf("%+v", all)
			}
			raw, err := json.Marshal(all)
			if err != nil || strings.Contains(string(raw), "geheim") {
				t.Errorf("%s, %v", raw, err)
			}
		})
	}
}

func TestAFloodOfOneReasonPushesOutNothingElse(t *testing.T) {
	var r Recent
	slow := asked(time.Second, &core.Result{Provider: "main"}, nil)
	r.asked(&slow, time.Second)
	for i := range 10 * MostRecent {
		a := asked(1, nil, &core.Error{Kind: core.Unavailable})
		a.Request.ID = fmt.Sprint(i)
		r.asked(&a, 0)
		r.failed("native", "call", "", 1, &core.Error{Kind: core.Unauthorized}, nil)
	}
	of := map[Reason]int{}
	for i, p := range r.All() {
		of[p.Reason]++
		if p.Reason == HasFailed {
			if i > 0 && p.At.After(r.All()[0].At) {
				t.Error("they are not in order")
			}
			if n := 0; p.Request != "" {
				fmt.Sscan(p.Request, &n)
				if n < 9*MostRecent {
					t.Errorf("%s was kept, and later ones were not", p.Request)
				}
			}
		}
	}
	if of[WasSlow] != 1 || of[HasFailed] != MostRecent || of[WasRefused] != MostRecent {
		t.Errorf("%v", of)
	}
}

func TestTheAttemptsOfATextAreBoundedAndTold(t *testing.T) {
	a := asked(time.Second, nil, &core.Error{Kind: core.ProviderFailed, Stage: "main"})
	var made *core.Attempted
	for range 2 * mostAttempts {
		made = (&core.Attempted{Provider: "main", Why: "retry", Start: time.Now(), Took: 20 * time.Millisecond, Err: &core.Error{Kind: core.ProviderFailed, Cause: errors.New(strings.Repeat("é", mostCause) + "\nstack")}}).Before(made)
	}
	a.Request.Trace.Made(made)
	var r Recent
	r.asked(&a, 0)
	p := r.All()[0]
	if len(p.Attempts) != mostAttempts || p.Attempts[0].TookMS != 20 || p.Attempts[0].Failure.Kind != core.ProviderFailed {
		t.Errorf("%d attempts, %+v", len(p.Attempts), p.Attempts[0])
	}
	if cause := p.Attempts[0].Failure.Cause; len(cause) > mostCause || strings.Contains(cause, "stack") || !strings.HasPrefix(cause, "é") {
		t.Errorf("the cause is %q", cause)
	}
}
