package provider

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/dragoman-mt/dragoman/core"
)

// engine translates up to most texts in one call, which takes a second. It notes how
// many texts each call had.
type engine struct {
	most  int
	fails func(call int, texts []string) error
	lacks string // the text that a list of several has no translation of
	alone bool   // no request waits for others

	mu    sync.Mutex
	calls [][]string
}

func (e *engine) Translate(ctx context.Context, req *core.Request) (*core.Result, error) {
	all, err := e.TranslateAll(ctx, []*core.Request{req})
	if err != nil {
		return nil, err
	}
	return all[0], nil
}

func (e *engine) Batches(*core.Request) bool { return !e.alone }

func (e *engine) Together(reqs []*core.Request) int { return min(e.most, len(reqs)) }

func (e *engine) TranslateAll(ctx context.Context, reqs []*core.Request) (all []*core.Result, err error) {
	var texts []string
	for _, req := range reqs {
		texts = append(texts, req.Text)
		res := &core.Result{Text: "[" + req.Text + "]"}
		if req.Text == e.lacks && len(reqs) > 1 {
			res = nil
		}
		all = append(all, res)
	}
	e.mu.Lock()
	e.calls = append(e.calls, texts)
	call := len(e.calls)
	e.mu.Unlock()
	select {
	case <-time.After(time.Second):
	case <-ctx.Done():
		return nil, core.ContextError(ctx, "engine")
	}
	if e.fails != nil {
		if err := e.fails(call, texts); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func (e *engine) sizes() (sizes []int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, texts := range e.calls {
		sizes = append(sizes, len(texts))
	}
	return sizes
}

// seatsGate is a gate with so many, and counts its turns.
type seatsGate struct {
	free  int
	turns atomic.Int64
}

func (s *seatsGate) Take(*core.Request, time.Time) (bool, time.Duration) {
	if s.free == 0 {
		return false, 0
	}
	s.free--
	return true, 0
}

func (s *seatsGate) Give(_ *core.Request, o core.Outcome) {
	s.free++
	if !o.Unused {
		s.turns.Add(1)
	}
}

func (*seatsGate) Scope() core.Scope { return core.ScopeAll }

// batched asks for texts as one call of a client, and returns what became of each.
// Change is done to each request, and below stands round the provider.
func batched(t *testing.T, e *engine, gate *seatsGate, texts []string, change func(i int, req *core.Request), below func(core.Translator) core.Translator) (results []*core.Result, errs []error) {
	t.Helper()
	s := New(core.Env{Name: "provider", Log: zap.NewNop(), Deadline: time.Minute}, func() Config {
		c := *Kind().Config().(*Config)
		configure(&c, "engine")
		return c
	}())
	top, err := s.Call(core.Below{
		Gates:    []core.Guard{{Name: "slots", Gate: gate}},
		Provider: func(name string) (core.Provider, bool) { return core.Provider{Name: name, Translator: e}, true },
		Around: func(p core.Provider) core.Translator {
			if below != nil {
				return below(p.Translator)
			}
			return p.Translator
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	results, errs = make([]*core.Result, len(texts)), make([]error, len(texts))
	seats := core.NewSeats(len(texts))
	var all sync.WaitGroup
	for i, text := range texts {
		all.Go(func() {
			defer seats[i].Settle()
			defer func() {
				if p := recover(); p != nil { // as the doors do
					errs[i] = fmt.Errorf("panic: %v", p)
				}
			}()
			req := &core.Request{ID: fmt.Sprint(i), Text: text, Source: "en", Target: "es", Batch: seats[i]}
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			if change != nil {
				change(i, req)
			}
			results[i], errs[i] = top.Translate(ctx, req)
		})
	}
	all.Wait()
	return results, errs
}

func numbered(n int) (texts []string) {
	for i := range n {
		texts = append(texts, fmt.Sprintf("text %d", i))
	}
	return texts
}

func TestTextsOfOneCallAreOneCallUpstream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, gate := &engine{most: 50}, &seatsGate{free: 1}
		begin := time.Now()
		texts := numbered(50)
		results, errs := batched(t, e, gate, texts, nil, nil)
		for i, res := range results {
			if errs[i] != nil || res.Text != "["+texts[i]+"]" {
				t.Errorf("%d: %+v, %v", i, res, errs[i])
			}
		}
		if sizes := e.sizes(); len(sizes) != 1 || sizes[0] != 50 || gate.turns.Load() != 1 || gate.free != 1 || time.Since(begin) > 1100*time.Millisecond {
			t.Errorf("calls of %v texts, %d turns, %d slots free, %v", sizes, gate.turns.Load(), gate.free, time.Since(begin))
		}
	})
}

func TestMoreThanFitGoInFurtherCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, gate := &engine{most: 50}, &seatsGate{free: 1}
		texts := numbered(120)
		results, errs := batched(t, e, gate, texts, nil, nil)
		for i, res := range results {
			if errs[i] != nil || res.Text != "["+texts[i]+"]" {
				t.Errorf("%d: %+v, %v", i, res, errs[i])
			}
		}
		if sizes := e.sizes(); fmt.Sprint(sizes) != "[50 50 20]" || gate.turns.Load() != 3 {
			t.Errorf("calls of %v texts, %d turns", sizes, gate.turns.Load())
		}
	})
}

func TestTextsThatDifferInMoreGoApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, gate := &engine{most: 50}, &seatsGate{free: 4}
		_, errs := batched(t, e, gate, numbered(20), func(i int, req *core.Request) {
			if i%2 == 1 {
				req.Target = "de"
			}
		}, nil)
		for i, err := range errs {
			if err != nil {
				t.Errorf("%d: %v", i, err)
			}
		}
		if sizes := e.sizes(); fmt.Sprint(sizes) != "[10 10]" {
			t.Errorf("calls of %v texts", sizes)
		}
	})
}

func TestNobodyWaitsForATextThatDoesNotCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, gate := &engine{most: 50}, &seatsGate{free: 1}
		begin := time.Now()
		_, errs := batched(t, e, gate, numbered(10), func(i int, req *core.Request) {
			if i >= 5 {
				time.Sleep(10 * time.Second) // as one that waits for something else
			}
		}, nil)
		for i, err := range errs {
			if err != nil {
				t.Errorf("%d: %v", i, err)
			}
		}
		if sizes := e.sizes(); fmt.Sprint(sizes) != "[5 5]" || time.Since(begin) > 12*time.Second {
			t.Errorf("calls of %v texts, %v", sizes, time.Since(begin))
		}
	})
}

func TestAStageRoundTheProviderMaySettleOneText(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, gate := &engine{most: 50}, &seatsGate{free: 1}
		results, errs := batched(t, e, gate, numbered(10), nil, func(next core.Translator) core.Translator {
			return core.TranslatorFunc(func(ctx context.Context, req *core.Request) (*core.Result, error) {
				switch req.Text {
				case "text 3":
					return &core.Result{Text: "known"}, nil
				case "text 4":
					return nil, &core.Error{Kind: core.InvalidRequest, Detail: "no"}
				case "text 5":
					panic("a stage that panics")
				}
				changed := *req
				changed.Text = strings.ToUpper(req.Text)
				return next.Translate(ctx, &changed)
			})
		})
		for i := range results {
			switch i {
			case 3:
				if errs[i] != nil || results[i].Text != "known" {
					t.Errorf("%d: %+v, %v", i, results[i], errs[i])
				}
			case 4:
				if core.KindOf(errs[i]) != core.InvalidRequest {
					t.Errorf("%d: %v", i, errs[i])
				}
			case 5:
			default:
				if errs[i] != nil || results[i].Text != fmt.Sprintf("[TEXT %d]", i) {
					t.Errorf("%d: %+v, %v", i, results[i], errs[i])
				}
			}
		}
		if gate.free != 1 {
			t.Errorf("%d slots are free", gate.free)
		}
	})
}

func TestACallThatFailsIsTriedAgainForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, gate := &engine{most: 50, fails: func(call int, _ []string) error {
			if call == 1 {
				return &core.Error{Kind: core.ProviderFailed, Retryable: true}
			}
			return nil
		}}, &seatsGate{free: 1}
		_, errs := batched(t, e, gate, numbered(50), nil, nil)
		for i, err := range errs {
			if err != nil {
				t.Errorf("%d: %v", i, err)
			}
		}
		if sizes := e.sizes(); fmt.Sprint(sizes) != "[50 50]" {
			t.Errorf("calls of %v texts", sizes)
		}
	})
}

func TestATextThatSpoilsTheCallFailsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, gate := &engine{most: 50, fails: func(_ int, texts []string) error {
			for _, text := range texts {
				if text == "text 7" {
					return &core.Error{Kind: core.ProviderRefused}
				}
			}
			return nil
		}}, &seatsGate{free: 4}
		_, errs := batched(t, e, gate, numbered(10), nil, nil)
		for i, err := range errs {
			if want := core.ErrorKind(""); i == 7 && core.KindOf(err) != core.ProviderRefused || i != 7 && core.KindOf(err) != want {
				t.Errorf("%d: %v", i, err)
			}
		}
	})
}

func TestAnEmptyAccountIsAskedOnceForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, gate := &engine{most: 50, fails: func(int, []string) error { return &core.Error{Kind: core.QuotaExceeded} }}, &seatsGate{free: 4}
		_, errs := batched(t, e, gate, numbered(50), nil, nil)
		for i, err := range errs {
			if core.KindOf(err) != core.QuotaExceeded {
				t.Errorf("%d: %v", i, err)
			}
		}
		if sizes := e.sizes(); len(sizes) != 1 {
			t.Errorf("calls of %v texts", sizes)
		}
	})
}

func TestACallerWhoLeavesLeavesTheOthersTheirAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, gate := &engine{most: 50}, &seatsGate{free: 1}
		var gone sync.Map
		_, errs := batched(t, e, gate, numbered(10), nil, func(next core.Translator) core.Translator {
			return core.TranslatorFunc(func(ctx context.Context, req *core.Request) (*core.Result, error) {
				if req.Text == "text 2" {
					gone.Store(req.Text, true)
					ctx, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
					defer cancel()
					return next.Translate(ctx, req)
				}
				return next.Translate(ctx, req)
			})
		})
		for i, err := range errs {
			if i != 2 && err != nil {
				t.Errorf("%d: %v", i, err)
			}
		}
		if gate.free != 1 {
			t.Errorf("%d slots are free", gate.free)
		}
	})
}

// configure makes name the provider in use.
func configure(c *Config, name string) { c.Use = []string{name} }

// TestATextThatIsMissingInAnAnswerIsAskedForAlone while the others have theirs, whichever of
// them it is.
func TestATextThatIsMissingInAnAnswerIsAskedForAlone(t *testing.T) {
	for _, lacks := range numbered(5) {
		synctest.Test(t, func(t *testing.T) {
			e := &engine{most: 10, lacks: lacks}
			results, errs := batched(t, e, &seatsGate{free: 10}, numbered(5), nil, nil)
			for i, r := range results {
				if errs[i] != nil || r.Text != "["+numbered(5)[i]+"]" {
					t.Errorf("%d: %v %v", i, r, errs[i])
				}
			}
			if sizes := e.sizes(); len(sizes) != 2 || sizes[0] != 5 || sizes[1] != 1 {
				t.Errorf("calls of %v texts", sizes)
			}
		})
	}
}

// TestTextsThatWaitForNobodyGoAtTheSameTime though their provider is able to take several.
func TestTextsThatWaitForNobodyGoAtTheSameTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, begin := &engine{most: 10, alone: true}, time.Now()
		_, errs := batched(t, e, &seatsGate{free: 10}, numbered(5), nil, nil)
		if err := errors.Join(errs...); err != nil || len(e.sizes()) != 5 || time.Since(begin) != time.Second {
			t.Errorf("%v, calls of %v texts in %v", err, e.sizes(), time.Since(begin))
		}
	})
}
