package chain_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/chain"
)

// held is a caller whose requests wait at their gates for a while, and fail
// there when their text says so.
type held struct{}

func (held) Call(below core.Below) (core.Translator, error) {
	p, _ := below.Provider("p")
	next := below.Around(p)
	return core.TranslatorFunc(func(ctx context.Context, req *core.Request) (*core.Result, error) {
		for _, g := range below.Gates {
			req.Trace.Elsewhere(g.Name, time.Second)
			if req.Text == "refuse>a" {
				return nil, &core.Error{Kind: core.Overloaded, Stage: g.Name}
			}
		}
		time.Sleep(2 * time.Second) // of which one was at the gate
		own := *req
		fork, done := req.Trace.Fork()
		defer done()
		fork.Attempt = "first"
		own.Trace = fork
		begin := time.Now()
		res, err := next.Translate(ctx, &own)
		req.Trace.Merge(fork, time.Since(begin))
		if req.Text == "linger" {
			time.Sleep(2 * time.Second)
		}
		return res, err
	}), nil
}

// tapped links a chain in which something of everything passes.
func tapped(t testing.TB, watch *chain.Watch) *chain.Chain {
	t.Helper()
	c, err := chain.Link([]chain.Place{
		{Name: "a", Item: mark("a")}, {Name: "queue", Item: gate{}}, {Name: "provider", Item: held{}}, {Name: "post", Item: mark("z")},
	}, provider(func(_ context.Context, req *core.Request) (*core.Result, error) {
		time.Sleep(3 * time.Second)
		if strings.HasPrefix(req.Text, "fail") {
			return nil, &core.Error{Kind: core.ProviderFailed}
		}
		return &core.Result{Text: "ñ" + req.Text}, nil
	}), watch)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func open(t testing.TB, watch *chain.Watch, f chain.Filter) *chain.Tap {
	t.Helper()
	tap, err := watch.Tap(f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tap.Close)
	return tap
}

// read returns what waits to be read.
func read(tap *chain.Tap) (all []chain.Passing) {
	for {
		select {
		case p := <-tap.Passings():
			all = append(all, p)
		default:
			return all
		}
	}
}

func TestATapShowsARequestInEachStageThatItLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var watch chain.Watch
		c := tapped(t, &watch)
		tap, all := open(t, &watch, chain.Filter{}), open(t, &watch, chain.Filter{Texts: true})
		begin := time.Now()
		ask := func(text string) {
			req := &core.Request{ID: "id-" + text, Session: "s", Text: text, Source: "en", Target: "es", Lane: core.LaneBulk}
			c.Translate(t.Context(), req)
		}
		ask("x")
		ask("fail")
		ask("refuse")

		at := func(after time.Duration, id string, p chain.Passing) chain.Passing {
			p.At, p.Request, p.Session = begin.Add(after*time.Second), "id-"+id, "s"
			p.Source, p.Target, p.Lane = "en", "es", core.LaneBulk
			return p
		}
		const s = time.Second
		want := []chain.Passing{
			at(5, "x", chain.Passing{Stage: "providers/p", Attempt: "first", Ending: chain.Answered, Total: 3 * s, Self: 3 * s, In: 5, Out: 6, TextIn: "x>a>z", TextOut: "ñx>a>z"}),
			at(5, "x", chain.Passing{Stage: "post", Attempt: "first", Ending: chain.WentOn, Total: 3 * s, In: 3, Out: 8, TextIn: "x>a", TextOut: "ñx>a>z<z"}),
			at(5, "x", chain.Passing{Stage: "queue", Ending: chain.WentOn, Total: s, Self: s, In: 3, TextIn: "x>a"}),
			at(5, "x", chain.Passing{Stage: "provider", Ending: chain.WentOn, Total: 5 * s, Self: s, In: 3, Out: 8, TextIn: "x>a", TextOut: "ñx>a>z<z"}),
			at(5, "x", chain.Passing{Stage: "a", Ending: chain.WentOn, Total: 5 * s, In: 1, Out: 10, TextIn: "x", TextOut: "ñx>a>z<z<a"}),

			at(10, "fail", chain.Passing{Stage: "providers/p", Attempt: "first", Ending: chain.Failed, Kind: "provider_failed", Total: 3 * s, Self: 3 * s, In: 8, TextIn: "fail>a>z"}),
			at(10, "fail", chain.Passing{Stage: "post", Attempt: "first", Ending: chain.Failed, Kind: "provider_failed", From: "p", Total: 3 * s, In: 6, TextIn: "fail>a"}),
			at(10, "fail", chain.Passing{Stage: "queue", Ending: chain.WentOn, Total: s, Self: s, In: 6, TextIn: "fail>a"}),
			at(10, "fail", chain.Passing{Stage: "provider", Ending: chain.Failed, Kind: "provider_failed", From: "p", Total: 5 * s, Self: s, In: 6, TextIn: "fail>a"}),
			at(10, "fail", chain.Passing{Stage: "a", Ending: chain.Failed, Kind: "provider_failed", From: "p", Total: 5 * s, In: 4, TextIn: "fail"}),

			at(10, "refuse", chain.Passing{Stage: "queue", Ending: chain.Failed, Kind: "overloaded", Total: s, Self: s, In: 8, TextIn: "refuse>a"}),
			at(10, "refuse", chain.Passing{Stage: "provider", Ending: chain.Failed, Kind: "overloaded", From: "queue", In: 8, TextIn: "refuse>a"}),
			at(10, "refuse", chain.Passing{Stage: "a", Ending: chain.Failed, Kind: "overloaded", From: "queue", In: 6, TextIn: "refuse"}),
		}
		if diff := cmp.Diff(want, read(all)); diff != "" {
			t.Errorf("with texts (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(want, read(tap), cmpopts.IgnoreFields(chain.Passing{}, "TextIn", "TextOut")); diff != "" {
			t.Errorf("without texts (-want +got):\n%s", diff)
		}
		ask("x")
		for _, p := range read(tap) {
			if p.TextIn != "" || p.TextOut != "" {
				t.Errorf("nobody asked for texts: %+v", p)
			}
		}
		if diff := cmp.Diff([]string{"a", "queue", "provider", "post", "providers/p"}, c.Places()); diff != "" {
			t.Errorf("places (-want +got):\n%s", diff)
		}
	})
}

// quick links stages that pass a request on at once.
func quick(t testing.TB, watch *chain.Watch, stages ...string) *chain.Chain {
	t.Helper()
	var places []chain.Place
	for _, name := range stages {
		places = append(places, chain.Place{Name: name, Item: nothing{}})
	}
	res := &core.Result{Text: "y"}
	c, err := chain.Link(append(places, chain.Place{Name: "provider", Item: &once{}}),
		provider(func(context.Context, *core.Request) (*core.Result, error) { return res, nil }), watch)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func ask(t testing.TB, c *chain.Chain, req core.Request) {
	if _, err := c.Translate(context.Background(), &req); err != nil {
		t.Error(err)
	}
}

func TestATapShowsItsStageAndItsSessionOnly(t *testing.T) {
	var watch chain.Watch
	c := quick(t, &watch, "a", "b")
	stage, session := open(t, &watch, chain.Filter{Stage: "b"}), open(t, &watch, chain.Filter{Session: "two"})
	for _, s := range []string{"one", "two", ""} {
		ask(t, c, core.Request{ID: s, Session: s, Text: "x"})
	}
	names := func(all []chain.Passing) (got string) {
		for _, p := range all {
			got += p.Stage + "/" + p.Session + " "
		}
		return got
	}
	if got := names(read(stage)); got != "b/one b/two b/ " {
		t.Errorf("of stage b: %q", got)
	}
	if got := names(read(session)); got != "providers/p/two provider/two b/two a/two " {
		t.Errorf("of session two: %q", got)
	}
	if got := stage.Tally(); got != (chain.Tally{Seen: 3}) {
		t.Errorf("%+v", got)
	}
}

func TestATapGoesOnWhenAChainIsLinkedAnew(t *testing.T) {
	var watch chain.Watch
	ask(t, quick(t, &watch, "a"), core.Request{Text: "before there is a tap"})
	tap := open(t, &watch, chain.Filter{})
	ask(t, quick(t, &watch, "a"), core.Request{ID: "1", Text: "x"})
	ask(t, quick(t, &watch, "a", "b"), core.Request{ID: "2", Text: "x"})
	got := map[string]int{}
	for _, p := range read(tap) {
		got[p.Request]++
	}
	if got["1"] != 3 || got["2"] != 4 || len(got) != 2 {
		t.Error(got)
	}
	tap.Close()
	tap.Close()
	ask(t, quick(t, &watch, "a"), core.Request{ID: "3", Text: "x"})
	if late := read(tap); late != nil {
		t.Errorf("after it was closed: %+v", late)
	}
}

func TestAtMostFourTapsAreOpen(t *testing.T) {
	var watch chain.Watch
	var taps []*chain.Tap
	for range chain.MaxTaps {
		taps = append(taps, open(t, &watch, chain.Filter{}))
	}
	if _, err := watch.Tap(chain.Filter{}); core.KindOf(err) != core.Overloaded || !strings.Contains(err.Error(), "4 taps are open") {
		t.Errorf("a fifth: %v", err)
	}
	taps[2].Close()
	open(t, &watch, chain.Filter{})
}

// Nobody reads, and every request is answered all the same; what was shown to
// nobody is counted.
func TestATapThatNobodyReadsHoldsNoRequestUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var watch chain.Watch
		c := quick(t, &watch, "a")
		tap := open(t, &watch, chain.Filter{Stage: "a"})
		var all sync.WaitGroup
		begin := time.Now()
		for i := range 1000 {
			all.Go(func() { ask(t, c, core.Request{ID: fmt.Sprint(i), Text: "x"}) })
		}
		all.Wait()
		if took := time.Since(begin); took != 0 {
			t.Errorf("the requests waited for %v", took)
		}
		waiting := int64(len(read(tap)))
		if got := tap.Tally(); got.Seen != 1000 || waiting == 0 || got.LeftOut+got.Dropped+waiting != 1000 || got.Dropped == 0 {
			t.Errorf("%+v and %d to read", got, waiting)
		}
	})
}

// At thousands of requests a second some are chosen, and those are seen in every
// stage; about as many passings as one can follow are shown, whatever comes.
func TestOfManyRequestsSomeAreShownWhole(t *testing.T) {
	for _, rate := range []int{10, 60, 1000, 20_000} {
		synctest.Test(t, func(t *testing.T) {
			var watch chain.Watch
			c := quick(t, &watch, "a", "b") // with provider and providers/p: four passings each
			tap := open(t, &watch, chain.Filter{})
			shown, passings := map[string]int{}, 0
			const settle = 2
			seconds := min(20, 120_000/rate)
			for i := range seconds * rate {
				ask(t, c, core.Request{ID: fmt.Sprint("request-", i), Text: "x"})
				time.Sleep(time.Second / time.Duration(rate))
				for _, p := range read(tap) {
					if i >= settle*rate {
						shown[p.Request]++
						passings++
					}
				}
			}
			for id, n := range shown {
				if n != 4 {
					t.Errorf("at %d a second: %s was shown in %d of 4 stages", rate, id, n)
				}
			}
			least, most := min(4*rate, chain.PerSecond)*6/10, min(4*rate, chain.PerSecond)*15/10
			if got := passings / (seconds - settle); got < least || got > most {
				t.Errorf("at %d requests a second %d passings are shown, want %d to %d", rate, got, least, most)
			}
			tally := tap.Tally()
			if tally.Seen != int64(4*seconds*rate) || tally.Dropped != 0 {
				t.Errorf("at %d a second: %+v", rate, tally)
			}
		})
	}
}

// Requests come irregularly and take their time, so that some are on their way
// whenever the share could change.
func TestARequestThatTakesItsTimeIsShownWholeToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var watch chain.Watch
		c, err := chain.Link([]chain.Place{{Name: "a", Item: nothing{}}, {Name: "b", Item: nothing{}}, {Name: "provider", Item: held{}}},
			provider(func(context.Context, *core.Request) (*core.Result, error) { return &core.Result{Text: "y"}, nil }), &watch)
		if err != nil {
			t.Fatal(err)
		}
		tap := open(t, &watch, chain.Filter{})
		random := rand.New(rand.NewPCG(1, 2))
		shown := map[string]int{}
		var all sync.WaitGroup
		ctx := context.Background()
		for begin := time.Now(); time.Since(begin) < 40*time.Second; {
			// The share has settled by then, and what has come has left at the end.
			id := fmt.Sprint("counts not ", time.Since(begin))
			if at := time.Since(begin); at > 8*time.Second && at < 30*time.Second {
				id = fmt.Sprint("request-", at)
			}
			// It leaves the provider 2 s before it leaves the stages above.
			all.Go(func() { c.Translate(ctx, &core.Request{ID: id, Text: "linger"}) })
			time.Sleep(time.Duration(random.ExpFloat64() * float64(3*time.Millisecond)))
			for _, p := range read(tap) {
				shown[p.Request]++
			}
		}
		all.Wait()
		maps.DeleteFunc(shown, func(id string, _ int) bool { return strings.HasPrefix(id, "counts not") })
		torn := 0
		for _, n := range shown {
			if n != 4 {
				torn++
			}
		}
		if len(shown) < 500 || torn > len(shown)/50 {
			t.Errorf("%d of %d requests were shown in part", torn, len(shown))
		}
	})
}

// A client may give every request the same id, so that they are chosen all or
// none.
func TestOneIDForAllRequestsIsBoundedToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var watch chain.Watch
		c := quick(t, &watch)
		tap := open(t, &watch, chain.Filter{Stage: "provider"})
		shown := 0
		const seconds = 3
		for range seconds * 20_000 {
			ask(t, c, core.Request{ID: "same", Text: "x"})
			time.Sleep(time.Second / 20_000)
			shown += len(read(tap))
		}
		if most := seconds * 4 * 4 * chain.PerSecond; shown > most {
			t.Errorf("%d passings in %d s, want at most %d", shown, seconds, most)
		}
	})
}

func TestATextIsShownToItsBoundAndNotHalfACharacterMore(t *testing.T) {
	var watch chain.Watch
	c := quick(t, &watch)
	tap := open(t, &watch, chain.Filter{Stage: "provider", Texts: true})
	for _, n := range []int{chain.MaxTapped - 1, chain.MaxTapped, chain.MaxTapped + 1, 5 * chain.MaxTapped} {
		ask(t, c, core.Request{Text: strings.Repeat("語", n)})
		p := read(tap)[0]
		if want := strings.Repeat("語", min(n, chain.MaxTapped)); p.In != n || p.TextIn != want || p.TextOut != "y" || p.Out != 1 {
			t.Errorf("of %d code points %d bytes are shown, said to be %d", n, len(p.TextIn), p.In)
		}
	}
}

func TestNothingIsAllocatedWhileNobodyTaps(t *testing.T) {
	var watch chain.Watch
	c := quick(t, &watch, "a", "b")
	req := &core.Request{Text: "x", Trace: core.NewTrace(nil)}
	call := func() {
		if _, err := c.Translate(context.Background(), req); err != nil {
			t.Fatal(err)
		}
	}
	if n := testing.AllocsPerRun(100, call); n != 0 {
		t.Errorf("%v allocations before the first tap", n)
	}
	open(t, &watch, chain.Filter{}).Close()
	if n := testing.AllocsPerRun(100, call); n != 0 {
		t.Errorf("%v allocations after the last tap", n)
	}
}

func TestTapsComeAndGoWhileRequestsPass(t *testing.T) {
	var watch chain.Watch
	c := quick(t, &watch, "a")
	var passing, looking sync.WaitGroup
	stop := make(chan struct{})
	for range 4 {
		passing.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					ask(t, c, core.Request{ID: "x", Text: "x"})
				}
			}
		})
	}
	for range chain.MaxTaps {
		looking.Go(func() {
			for range 100 {
				tap, err := watch.Tap(chain.Filter{Texts: true})
				if err != nil {
					t.Error(err)
					return
				}
				<-tap.Passings()
				tap.Close()
			}
		})
	}
	looking.Wait()
	close(stop)
	passing.Wait()
}

// BenchmarkTapped is BenchmarkNothing while somebody taps and reads nothing.
func BenchmarkTapped(b *testing.B) {
	for name, f := range map[string]chain.Filter{"another": {Stage: "z"}, "all": {}} {
		b.Run(name, func(b *testing.B) {
			var watch chain.Watch
			c := quick(b, &watch, "a", "b", "c", "d", "e")
			open(b, &watch, f)
			req := &core.Request{ID: "x", Text: "x", Trace: core.NewTrace(nil)}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.Translate(b.Context(), req); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
