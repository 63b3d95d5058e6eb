package provider

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dragoman-mt/dragoman/core"
)

// mended is a bad answer that a stage has made something of.
func mended(text string) answer {
	return func(context.Context, *core.Request) (*core.Result, error) {
		in := &core.Result{Text: text, Flags: []string{core.FlagPlaceholderMoved}, NoStore: true}
		return nil, &core.Error{Kind: core.BadAnswer, Stage: "protect", Retryable: true, Instead: in}
	}
}

// TestWhatWasMadeOfABadAnswerIsGivenWhenNoneIsBetter and never before all were asked who may be.
func TestWhatWasMadeOfABadAnswerIsGivenWhenNoneIsBetter(t *testing.T) {
	for name, c := range map[string]struct {
		retries int
		main    []answer
		back    []answer
		limit   time.Duration
		want    string
		flags   []string
	}{
		"without a retry":              {main: []answer{mended("a")}, want: "a", flags: []string{core.FlagPlaceholderMoved}},
		"a retry does better":          {retries: 1, main: []answer{mended("a"), well}, want: "hola"},
		"a retry does as badly":        {retries: 1, main: []answer{mended("a"), mended("b")}, want: "a", flags: []string{core.FlagPlaceholderMoved}},
		"a retry fails":                {retries: 1, main: []answer{mended("a"), fails(core.ProviderFailed)}, want: "a", flags: []string{core.FlagPlaceholderMoved}},
		"the time is over":             {retries: 1, main: []answer{mended("a"), hangs(time.Hour)}, limit: time.Second, want: "a", flags: []string{core.FlagPlaceholderMoved}},
		"a fallback does better":       {main: []answer{mended("a")}, back: []answer{well}, want: "hola", flags: []string{core.FlagFallback}},
		"a fallback does as badly":     {main: []answer{mended("a")}, back: []answer{mended("b")}, want: "a", flags: []string{core.FlagPlaceholderMoved}},
		"only a fallback has answered": {main: []answer{fails(core.ProviderFailed, never)}, back: []answer{mended("b")}, want: "b", flags: []string{core.FlagPlaceholderMoved, core.FlagFallback}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := Config{Retries: c.retries}
				var b *bench
				if c.back == nil {
					b = newBench(cfg, c.main)
				} else {
					b = newBench(cfg, c.main, c.back)
				}
				ctx := t.Context()
				if c.limit > 0 {
					ctx = ends(t, c.limit)
				}
				res, err := b.ask(ctx)
				if err != nil || res.Text != c.want || !slices.Equal(res.Flags, c.flags) || res.NoStore != (c.flags != nil) {
					t.Errorf("%+v, %v", res, err)
				}
				b.balanced(t)
			})
		})
	}
}
