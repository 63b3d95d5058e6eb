package provider

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dragoman-mt/dragoman/core"
)

// readiness asks n texts and returns what the stage says after it.
func (b *bench) readiness(t *testing.T, n int) error {
	for range n {
		ctx, cancel := context.WithTimeout(t.Context(), 4500*time.Millisecond)
		b.ask(ctx)
		cancel()
	}
	return b.stage.Ready()
}

func TestAStageIsReadyWhileATextCouldBeTranslated(t *testing.T) {
	broken := fails(core.ProviderFailed, never) // as a 404 for every call is
	for name, c := range map[string]struct {
		config    Config
		main      []answer
		fallbacks [][]answer
		calls     int
		want      string // empty: ready
	}{
		"nobody has called":                   {defaults(), []answer{broken}, nil, 0, ""},
		"all is well":                         {defaults(), []answer{well}, nil, 5, ""},
		"one failure":                         {defaults(), []answer{broken}, nil, 1, ""},
		"every call fails":                    {defaults(), []answer{broken}, nil, 3, "main: its last 3 calls failed, the last with provider_failed"},
		"no breaker at all":                   {Config{}, []answer{broken}, nil, 3, "main: its last 3 calls failed"},
		"the key is refused":                  {Config{}, []answer{fails(core.Unauthorized, never)}, nil, 3, "provider_failed: the provider does not accept this gateway's key"},
		"the money is gone":                   {Config{}, []answer{fails(core.QuotaExceeded, never)}, nil, 3, "quota_exceeded"},
		"its breaker is open":                 {defaults(), []answer{broken}, nil, 9, "main: it keeps failing and is left alone for another 10s"},
		"it answers now and then":             {Config{}, []answer{broken, broken, well, broken, broken}, nil, 5, ""},
		"it would not say such":               {Config{}, []answer{fails(core.ProviderRefused, never)}, nil, 9, ""},
		"the text is at fault":                {Config{}, []answer{fails(core.InvalidRequest, never)}, nil, 9, ""},
		"a fallback answers":                  {defaults(), []answer{broken}, [][]answer{{well}}, 9, ""},
		"the fallbacks fail as well":          {defaults(), []answer{broken}, [][]answer{{broken}, {broken}}, 9, "; spare2: it keeps failing"},
		"a pause that requests have time for": {Config{}, []answer{fails(core.RateLimited, never, 3*time.Second)}, nil, 1, ""},
		"a pause that outlasts the deadline":  {Config{}, []answer{fails(core.RateLimited, never, 5*time.Minute)}, nil, 1, "main: it is not to be called for another 5m0s"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(c.config, c.main, c.fallbacks...)
				b.stage.SetDeadline(4500 * time.Millisecond)
				err := b.readiness(t, c.calls)
				if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
					t.Errorf("%v, want %q", err, c.want)
				}
				if err != nil && core.KindOf(err) != core.Unavailable {
					t.Errorf("%v is of kind %s", err, core.KindOf(err))
				}
			})
		})
	}
}

func TestAStageIsReadyAgainAsSoonAsATextCouldBe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := fails(core.ProviderFailed, never)
		b := newBench(Config{}, []answer{broken, broken, broken, well})
		b.stage.SetDeadline(time.Second)
		if b.readiness(t, 3) == nil {
			t.Error("ready though every call fails")
		}
		if err := b.readiness(t, 1); err != nil {
			t.Errorf("a call went well, and %v", err)
		}
		// Who looks at readiness may be who sends the calls.
		b = newBench(defaults(), []answer{broken})
		if b.readiness(t, 9) == nil {
			t.Error("ready though the breaker is open")
		}
		time.Sleep(max(defaults().Breaker.OpenFor, recently))
		if err := b.stage.Ready(); err != nil {
			t.Errorf("the breaker lets a call through, and %v", err)
		}
		b = newBench(Config{}, []answer{fails(core.RateLimited, never, time.Minute)})
		b.stage.SetDeadline(10 * time.Second)
		if b.readiness(t, 1) == nil {
			t.Error("ready though nothing may be asked for a minute")
		}
		time.Sleep(51 * time.Second)
		if err := b.stage.Ready(); err != nil {
			t.Errorf("a text would wait for 9 s of its 10, and %v", err)
		}
	})
}

func TestAClientThatLeavesSaysNothingAboutReadiness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(Config{}, []answer{hangs(time.Minute)})
		for range 9 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			b.ask(ctx)
			cancel()
		}
		if err := b.stage.Ready(); err != nil {
			t.Error(err)
		}
	})
}

func TestAProviderThatWasJustTakenInUseIsReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(Config{}, []answer{fails(core.ProviderFailed, never)})
		if b.readiness(t, 3) == nil {
			t.Fatal("ready though every call fails")
		}
		heir := New(core.Env{Name: "provider"}, Config{Use: core.Names{"other"}})
		heir.Inherit(b.stage)
		if err := heir.Ready(); err != nil {
			t.Errorf("what main did is held against other: %v", err)
		}
	})
}
