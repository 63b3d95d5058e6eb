package core_test

import (
	"testing"

	"github.com/dragoman-mt/dragoman/core"
)

func TestATraceThatIsUsedAgainKnowsNothingOfItsFormerRequest(t *testing.T) {
	var traces core.Traces
	trace := traces.Take()
	trace.Attempts, trace.Attempt, trace.Joined = 2, "hedge", true
	trace.End(trace.Begin(3), "cache")
	trace.Elsewhere("queue", 5)
	trace.Failed(&core.Error{Kind: core.Internal})
	trace.Made(&core.Attempted{Provider: "a"})
	trace.Follow(&core.Traced{Detail: true}, nil)
	spans := trace.Spans()
	traces.Return(trace)
	for range 2 { // one that was returned, if it is still there, and a new one
		again := traces.Take()
		for range again.AttemptsMade() {
			t.Error("it has an attempt")
		}
		if again.Attempts != 0 || again.Attempt != "" || again.Joined || again.Deepest() != 0 || len(again.Spans()) != 0 || again.Traced() != nil || again.Failed(nil) != true {
			t.Errorf("it holds %+v", again)
		}
	}
	if len(spans) != 2 {
		t.Errorf("the trace had %d spans, want 2", len(spans))
	}
}

func TestEnteredIsWhenTheLastStageWasEntered(t *testing.T) {
	var none *core.Trace
	before := core.Clock()
	for name, trace := range map[string]*core.Trace{"no trace": none, "one that has entered nothing": {}} {
		if at := trace.Entered(); at < before || at > core.Clock() {
			t.Errorf("%s: Entered is %v, want the time now", name, at)
		}
	}
	trace := new(core.Trace)
	trace.Begin(1)
	first := trace.Entered()
	trace.Begin(2)
	if second := trace.Entered(); first < before || second < first || second > core.Clock() {
		t.Errorf("entered at %v, then %v, of %v to %v", first, second, before, core.Clock())
	}
}
