package door

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/usage"
)

func asked(took time.Duration, res *core.Result, err *core.Error) Asked {
	trace := core.NewTrace(nil)
	trace.Attempts = 2
	trace.Add("queue", 30*time.Millisecond)
	return Asked{Door: "native", Result: res, Err: err, Took: took, Request: &core.Request{
		ID: "id-1", Text: "geheim é", Source: "de", Target: "es", Client: "key-1", Session: "s-1", Instructions: []string{"geheim"}, Trace: trace,
	}}
}

func TestASlowAFailedAndAFailedOverTextLeaveOneLineEachAndNoText(t *testing.T) {
	fine := &core.Result{Text: "geheim", Provider: "main"}
	spare := &core.Result{Text: "geheim", Provider: "spare", Flags: []string{core.FlagFallback}}
	for name, c := range map[string]struct {
		asked Asked
		slow  time.Duration
		level zapcore.Level
		want  string // empty: nothing at info
	}{
		"quick":                 {asked(time.Second-1, fine, nil), time.Second, 0, ""},
		"slow":                  {asked(time.Second, fine, nil), time.Second, zap.InfoLevel, "request was slow"},
		"slow, and nobody asks": {asked(time.Hour, fine, nil), 0, 0, ""},
		"failed over":           {asked(time.Millisecond, spare, nil), time.Second, zap.InfoLevel, "a fallback answered"},
		"failed over, slow":     {asked(time.Hour, spare, nil), time.Second, zap.InfoLevel, "a fallback answered"},
		"too late":              {asked(1, nil, &core.Error{Kind: core.DeadlineExceeded, Stage: "queue"}), 0, zap.InfoLevel, "request failed"},
		"too many":              {asked(1, nil, &core.Error{Kind: core.Overloaded, Stage: "queue"}), 0, zap.InfoLevel, "request failed"},
		"paused":                {asked(1, nil, &core.Error{Kind: core.RateLimited, Stage: "ratelimit"}), 0, zap.InfoLevel, "request failed"},
		"the provider failed":   {asked(1, nil, &core.Error{Kind: core.ProviderFailed, Stage: "main", Cause: errors.New("status 500")}), 0, zap.WarnLevel, "provider failed"},
		"a defect":              {asked(1, nil, &core.Error{Kind: core.Internal, Cause: errors.New("oops")}), 0, zap.ErrorLevel, "internal error"},
		"the client's mistake":  {asked(1, nil, &core.Error{Kind: core.InvalidRequest, Field: "geheim", Detail: "geheim"}), 0, 0, ""},
		"replaced":              {asked(1, nil, &core.Error{Kind: core.Superseded}), 0, 0, ""},
		"the client left":       {asked(time.Hour, nil, &core.Error{Kind: core.Canceled}), time.Second, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			seen, logs := observer.New(zap.InfoLevel)
			NewJournal(zap.New(seen)).Asked(c.asked, c.slow)
			if c.want == "" {
				if logs.Len() > 0 {
					t.Errorf("%v", logs.All())
				}
				return
			}
			if logs.Len() != 1 {
				t.Fatalf("%d lines: %v", logs.Len(), logs.All())
			}
			line := logs.All()[0]
			said := line.ContextMap()
			if line.Message != c.want || line.Level != c.level {
				t.Errorf("%s %q, want %s %q", line.Level, line.Message, c.level, c.want)
			}
			for key, want := range map[string]string{"request": "id-1", "door": "native", "client": "key-1", "session": "s-1", "source": "de", "target": "es", "code_points": "8", "attempts": "2", "stages": "map[queue:30ms]"} {
				if got := fmt.Sprint(said[key]); got != want {
					t.Errorf("%s is %q, want %q", key, got, want)
				}
			}
			if c.asked.Err == nil && said["provider"] != c.asked.Result.Provider {
				t.Errorf("the provider is %v", said["provider"])
			}
			if strings.Contains(fmt.Sprint(said), "geheim") {
				t.Errorf("the line holds a text: %v", said)
			}
		})
	}
}

func TestAFloodOfFailuresDoesNotFloodTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seen, logs := observer.New(zap.InfoLevel)
		j := NewJournal(zap.New(seen))
		for range 1000 {
			j.Asked(asked(time.Hour, &core.Result{}, nil), time.Second)
			j.Asked(asked(1, nil, &core.Error{Kind: core.DeadlineExceeded}), time.Second)
			j.Failed("id", &core.Error{Kind: core.Overloaded})
			time.Sleep(time.Millisecond)
		}
		if n := logs.Len(); n < 10 || n > 100 {
			t.Errorf("%d lines about 3,000 in a second", n)
		}
	})
}

func TestTheAccessLogSaysWhoAskedWhatItCostAndNoText(t *testing.T) {
	for name, c := range map[string]struct {
		asked Asked
		want  map[string]string
	}{
		"answered": {asked(20*time.Millisecond, &core.Result{Text: "geheim", Provider: "main", Model: "m"}, nil), map[string]string{"kind": "ok", "provider": "main", "model": "m", "cached": "false", "prompt_tokens": "7", "cost": "0.000000050", "currency": "USD"}},
		"failed":   {asked(20*time.Millisecond, nil, &core.Error{Kind: core.InvalidRequest, Stage: "door", Detail: "geheim"}), map[string]string{"kind": "invalid_request", "stage": "door"}},
	} {
		seen, logs := observer.New(zap.InfoLevel)
		c.asked.access(zap.New(seen), usage.Use{PromptTokens: 7, Cost: usage.Cost{{Currency: "USD", Billionths: 50}}})
		if logs.Len() != 1 {
			t.Fatalf("%s: %v", name, logs.All())
		}
		said := logs.All()[0].ContextMap()
		c.want["client"], c.want["session"], c.want["characters"], c.want["took"], c.want["stages"] = "key-1", "s-1", "8", "20ms", "map[queue:30ms]"
		for key, want := range c.want {
			if got := fmt.Sprint(said[key]); got != want {
				t.Errorf("%s: %s is %q, want %q", name, key, got, want)
			}
		}
		if strings.Contains(fmt.Sprint(said), "geheim") {
			t.Errorf("%s: the line holds a text: %v", name, said)
		}
	}
}
