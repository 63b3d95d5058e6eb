package virtual

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dragoman-mt/dragoman/cmd/internal/speech"
	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/door/doortest"
	"github.com/dragoman-mt/dragoman/core/live"
	"github.com/dragoman-mt/dragoman/core/live/traffic"
)

var update = flag.Bool("update", false, "write the traces and the pages anew")

// fixed is a trace of four speakers that does not change.
func fixed(t testing.TB) []traffic.Event {
	t.Helper()
	const name = "testdata/four-speakers.jsonl"
	if *update {
		f, err := os.Create(name)
		if err == nil {
			err = traffic.Write(f, traffic.Speech(4, 100*time.Second, 1))
		}
		if err == nil {
			err = f.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	trace, err := traffic.Read(f)
	if err != nil {
		t.Fatal(err)
	}
	return trace
}

// context0 is what is shipped, without context: only then can finals be told to the letter.
func context0() live.Config {
	c := live.Defaults()
	c.Context = 0
	return c
}

const deadline = 4500 * time.Millisecond

// What live sessions promise, against a client that asks for every revision.
func TestALiveSessionIsStableEarlyAndPaidForOnce(t *testing.T) {
	for _, run := range []struct {
		name  string
		trace []traffic.Event
	}{
		{"the fixed trace", fixed(t)},
		{"another", traffic.Speech(4, 10*time.Minute, 42)},
	} {
		targets := []core.Language{"es"}
		naive := Naive(run.trace, targets, Steady(), deadline)
		is := Live(run.trace, context0(), targets, Steady(), deadline)
		t.Logf("%s: naive %+v", run.name, brief(naive))
		t.Logf("%s: live %+v", run.name, brief(is))
		for _, c := range []struct {
			what      string
			got, most float64
		}{
			{"share of the naive calls", share(is.Calls, naive.Calls), .35},
			{"amplification", is.Ampl, 1.6},
			{"normalised erasure", is.Erasure, .2},
			{"its share of the naive one", is.Erasure / naive.Erasure, 1. / 3},
			{"first draft p50", is.Draft.P50, 1600},
			{"final lag p99", is.Final.P99, 600},
			{"share of finals that are corrected", share(is.Corrected, is.Segments), .05},
			{"finals that differ from their sentences translated alone", float64(is.Differing), 0},
			{"dropped", float64(is.Dropped), 0}, {"inverted", float64(is.Inverted), 0}, {"doubled", float64(is.Doubled), 0}, {"failed", float64(is.Failed), 0},
		} {
			if c.got > c.most {
				t.Errorf("%s: %s is %.3f, may be %.3f", run.name, c.what, c.got, c.most)
			}
		}
		// What it is compared with is what was measured of such a client.
		if naive.Ampl < 5 || naive.Erasure < 1 {
			t.Errorf("%s: the naive client is none: %+v", run.name, brief(naive))
		}
	}
}

func share(of, all int) float64 { return float64(of) / float64(all) }

func brief(m speech.Measured) speech.Measured { m.Lags, m.Views = nil, nil; return m }

// A client that sends fifty revisions a second costs only itself.
func TestAFloodOfRevisionsDoesNotDelayTheFinalsOfOthers(t *testing.T) {
	calm := traffic.Speech(3, 3*time.Minute, 3)
	var flood []traffic.Event
	revision := 0
	words := strings.Fields(strings.Repeat("so this one goes on and on and says the same thing once more in other words ", 4))
	for at := time.Duration(0); at < 3*time.Minute; at += 20 * time.Millisecond {
		revision++
		n := revision%len(words) + 1
		flood = append(flood, traffic.Event{
			AtMS: at.Milliseconds(), Session: "flood", Segment: fmt.Sprint(revision / len(words)), Revision: int64(revision),
			Text: strings.Join(words[:n], " "), Final: n == len(words),
		})
	}
	both := append(slices.Clone(calm), flood...)
	slices.SortStableFunc(both, func(a, b traffic.Event) int { return int(a.AtMS - b.AtMS) })
	p99 := func(trace []traffic.Event) float64 {
		m := Live(trace, context0(), []core.Language{"es"}, Steady(), deadline)
		if m.Dropped+m.Inverted+m.Doubled+m.Failed > 0 {
			t.Errorf("%+v", brief(m))
		}
		var lags []float64
		for _, l := range m.Lags {
			if l.Session != "flood" {
				lags = append(lags, l.Lag.Seconds()*1000)
			}
		}
		slices.Sort(lags)
		return lags[len(lags)*99/100]
	}
	alone, beside := p99(calm), p99(both)
	t.Logf("p99 of the calm ones: %.0f ms alone, %.0f ms beside the flood", alone, beside)
	if beside > 1.1*alone {
		t.Errorf("the p99 of three calm sessions is %.0f ms beside a flood, and %.0f ms without", beside, alone)
	}
}

// The page with the plots is read in the light and in the dark, and on a phone; it has what was
// on screen beside what the client that asks for every revision showed, and asks for nothing.
func TestThePageOfPlotsLooksWell(t *testing.T) {
	targets := []core.Language{"es"}
	naive, is := Naive(fixed(t), targets, Steady(), deadline), Live(fixed(t), context0(), targets, Steady(), deadline)
	naive.Name, is.Name = "naive, 4", "live, 4"
	name := filepath.Join(t.TempDir(), "plots.html")
	if err := (speech.Report{What: "In virtual time.", Runs: []speech.Measured{is, naive}}).WritePage(name); err != nil {
		t.Fatal(err)
	}
	b := doortest.OpenBrowser(t)
	b.Go("file://" + name)
	for script, least := range map[string]int{`document.querySelectorAll("svg").length`: 2, `document.querySelectorAll("circle").length`: 80, `document.querySelectorAll("ol li").length`: 20, `document.querySelectorAll("del").length`: 5} {
		if got := 0; func() bool { fmt.Sscan(b.Eval(script), &got); return got < least }() {
			t.Errorf("%s is %d, want %d at least", script, got, least)
		}
	}
	b.LooksWell("plots")
	for _, u := range b.URLs {
		if u != "file://"+name {
			t.Errorf("the page asked for %s", u)
		}
	}
}
