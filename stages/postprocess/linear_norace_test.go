//go:build !race

package postprocess

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/coretest/property"
	"github.com/dragoman-mt/dragoman/stages/openai/openaitest"
)

// What is measured here is one goroutine's work: the race detector makes it many
// times as much, and finds nothing.

// TestWorkIsLinear counts what is looked at in answers that are made of what is
// looked for: as often as the answer is twice as long, at most twice as much.
// What a step did not count would be found by the time that it takes: 16 times as
// long an answer would take 256 times as long if anything were quadratic.
func TestWorkIsLinear(t *testing.T) {
	s := New("postprocess", Config{Skip: []Step{}})
	lax := New("postprocess", Config{Skip: []Step{Length}}) // so that nothing is refused for that
	for name, shape := range hostile {
		for _, s := range []*Stage{s, lax} {
			work := func(n int) (spent int, took time.Duration) {
				text, answer := shape(n)
				took = time.Hour
				for range 2 {
					q := newQuestion(t.Context(), &core.Request{Text: text, Target: "es"})
					before := property.ProcessorTime(t)
					s.judged(q, &core.Result{Text: answer}, "")
					took = min(took, property.ProcessorTime(t)-before)
					spent = q.spent
				}
				if most := maxWork * (len(text) + len(answer)); spent > most {
					t.Errorf("%s: %d bytes looked at for %d and %d", name, spent, len(text), len(answer))
				}
				return spent, took
			}
			_, little := work(4 << 10)
			_, much := work(64 << 10)
			if much > 200*time.Millisecond && much > 80*max(little, 100*time.Microsecond) {
				t.Errorf("%s: %v for 4 KiB, and %v for 64 KiB", name, little, much)
			}
		}
	}
}

// TestAMegabyteIsDoneInNoTime: so much is the most that a provider lets through.
func TestAMegabyteIsDoneInNoTime(t *testing.T) {
	s := New("postprocess", Config{Skip: []Step{Length}})
	for name, shape := range hostile {
		text, answer := shape(1 << 20)
		q := newQuestion(t.Context(), &core.Request{Text: text, Target: "es"})
		before := property.ProcessorTime(t)
		s.judged(q, &core.Result{Text: answer}, "")
		if took := property.ProcessorTime(t) - before; took > time.Second { // it takes a seventh of that, and took twice that when it was quadratic
			t.Errorf("%s: it took %v", name, took)
		} else {
			t.Logf("%s: %v, %d bytes for each", name, took, q.spent/(len(text)+len(answer)))
		}
	}
}

// TestDeltasAreLinear streams the same answers in small pieces.
func TestDeltasAreLinear(t *testing.T) {
	s := New("postprocess", Config{Skip: []Step{Length}})
	for name, shape := range hostile {
		for _, start := range []string{"", spanish + " "} {
			text, answer := shape(64 << 10)
			answer = start + answer
			req := &core.Request{Text: text, Target: "es", OnDelta: func(string) error { return nil }}
			p := &preview{stage: s, q: newQuestion(t.Context(), req), again: hold}
			before := property.ProcessorTime(t)
			for _, piece := range split(answer, []int{3}) {
				if p.hear(piece) != nil {
					break
				}
			}
			took := property.ProcessorTime(t) - before
			if most := maxDeltaWork * (len(text) + len(answer)); p.q.spent > most {
				t.Errorf("%s: %d bytes looked at for %d and %d", name, p.q.spent, len(text), len(answer))
			}
			if took > 2*time.Second { // brackets and no word took 5 s when each delta read their start again
				t.Errorf("%s: it took %v", name, took)
			} else {
				t.Logf("%s: %v, %d bytes for each", name, took, p.q.spent/(len(text)+len(answer)))
			}
		}
	}
}

// TestNoBadHabitIsHeardInAnySplit streams real answers with each habit, cut in
// two at every code point, and code point by code point.
func TestNoBadHabitIsHeardInAnySplit(t *testing.T) {
	sim, err := openaitest.Start(openaitest.Config{Engine: chatty, Seed: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer sim.Close()
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	s := New("postprocess", Config{})
	for kind, outcome := range habits {
		for _, p := range chatty {
			seen := map[string]bool{}
			for range 4 {
				sim.FailNext(1, kind)
				bad, err := ask(client, sim.URL(), p.request())
				if err != nil {
					t.Fatal(err)
				}
				if seen[bad.Text] {
					continue
				}
				seen[bad.Text] = true
				all := runes(bad.Text)
				splits := [][]string{all}
				for i := range all {
					splits = append(splits, []string{strings.Join(all[:i], ""), strings.Join(all[i:], "")})
				}
				for _, pieces := range splits {
					h := agrees(t, s, p.request(), bad.Text, bad.Finish, pieces)
					if outcome == repaired && (h.err != nil || h.text() != p.answer) {
						t.Errorf("%s: %q in %q: heard %q, got %v", kind, bad.Text, pieces, h.text(), h.err)
					}
				}
			}
		}
	}
}

// TestLongAnswersAreHeardCheaply holds a look at every delta to what is new: a
// megabyte in small pieces would take minutes otherwise.
func TestLongAnswersAreHeardCheaply(t *testing.T) {
	s := New("postprocess", Config{})
	req := sentence()
	req.Text = strings.Repeat(english+"\n", 4)
	for name, whole := range map[string]string{
		"clean":   strings.Repeat(spanish+"\n", 4<<10),
		"thought": "<think>" + strings.Repeat("This is long. ", 32<<10) + "</think>" + spanish,
		"fenced":  "```\n" + strings.Repeat(spanish+"\n", 4<<10) + "```",
		"noted":   strings.Repeat(spanish+"\n", 5) + "Note: " + strings.Repeat("this is a note. ", 32<<10),
		"runaway": strings.Repeat(spanish+"\n", 5) + "Y " + strings.Repeat("(", 256<<10),
		"bracket": strings.Repeat(spanish+"\n", 5) + "Y (nota: " + strings.Repeat("this is (a) note. ", 32<<10),
	} {
		heard := 0
		req.OnDelta = func(text string) error { heard += len(text); return nil }
		p := &preview{stage: s, q: newQuestion(t.Context(), req), again: hold}
		looked := 0
		for _, piece := range split(whole, []int{4}) {
			before := p.again
			if err := p.hear(piece); err != nil {
				t.Fatal(err)
			}
			if p.again != before {
				looked += p.answer.Len() - p.to // what a look reads, once something has left
			}
		}
		if looked > 40*len(whole) {
			t.Errorf("%s: %d bytes were looked at for %d", name, looked, len(whole))
		}
		if name == "clean" && heard < len(whole)-len(spanish) {
			t.Errorf("%d bytes of %d were heard", heard, len(whole))
		}
	}
}

// TestWorkEndsWithTheRequest: nobody waits for what is found after that.
func TestWorkEndsWithTheRequest(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	long := 0
	for name, shape := range hostile {
		text, answer := shape(256 << 10)
		req, s := &core.Request{Text: text, Target: "es"}, New("postprocess", Config{Skip: []Step{Length}})
		q := newQuestion(ctx, req)
		if _, err := s.judged(q, &core.Result{Text: answer}, ""); q.spent >= patience {
			if long++; core.KindOf(err) != core.Canceled || err.Stage != "postprocess" {
				t.Errorf("%s: got %v", name, err)
			}
		}
		all := newQuestion(t.Context(), req)
		s.judged(all, &core.Result{Text: answer}, "")
		if q.spent > 8*(len(text)+len(answer)) || q.spent > all.spent {
			t.Errorf("%s: %d bytes looked at of %d", name, q.spent, all.spent)
		}

		req.OnDelta = func(string) error { return nil }
		_, err := s.Wrap(core.TranslatorFunc(func(_ context.Context, req *core.Request) (*core.Result, error) {
			for _, piece := range split(answer, []int{1000}) {
				if err := req.OnDelta(piece); err != nil {
					return nil, err
				}
			}
			return &core.Result{Text: answer}, nil
		})).Translate(ctx, req)
		switch core.KindOf(err) {
		case "", core.Canceled, core.BadAnswer, core.ProviderRefused: // found before that, or not
		default:
			t.Errorf("%s: streamed, got %v", name, err)
		}
	}
	if long < len(hostile)/2 {
		t.Errorf("only %d answers took long enough", long)
	}
}
