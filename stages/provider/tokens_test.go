package provider

import (
	"context"
	"math"
	"testing"

	"github.com/dragoman-mt/dragoman/core"
)

// An upstream may say what it likes: the counters of tokens only grow, and by no
// more than a call can cost.
func TestNoAnswerMakesTheCountersOfTokensOverflow(t *testing.T) {
	for name, u := range map[string]core.Usage{
		"as many as can be said": {PromptTokens: math.MaxInt, CompletionTokens: math.MaxInt, CachedTokens: math.MaxInt},
		"fewer than none":        {PromptTokens: math.MinInt, CompletionTokens: -1, CachedTokens: math.MinInt},
		"an ordinary answer":     {PromptTokens: 100, CompletionTokens: 20, CachedTokens: 64},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(Config{}, []answer{func(context.Context, *core.Request) (*core.Result, error) {
				return &core.Result{Text: "hola", Usage: u}, nil
			}})
			const calls = 20
			for range calls {
				if _, err := b.ask(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			want := map[string]float64{}
			for what, n := range map[string]int{"prompt": u.PromptTokens, "completion": u.CompletionTokens, "cached": u.CachedTokens} {
				want[what] = calls * float64(min(max(n, 0), mostTokens))
			}
			seen := 0
			b.stage.Measure(func(m core.Measure) {
				if m.Name != "provider_tokens_total" {
					return
				}
				seen++
				if what := m.Labels[3]; m.Value != want[what] {
					t.Errorf("%s: %v, want %v", what, m.Value, want[what])
				}
			})
			if seen != len(want) {
				t.Errorf("%d counters", seen)
			}
		})
	}
}
