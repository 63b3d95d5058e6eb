package coretest

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/dragoman-mt/dragoman/core"
)

// Provider checks a provider that can answer: config and env must lead to a
// server that does. It does what Kind does, over an upstream that answers
// nobody, and then asks over that of env.
//
// It answers, alone and 32 at once, changes no request, fails with a
// *core.Error, and lets a caller go who has left, before or while it works, or
// whose time is over.
func Provider(t T, env core.Env, kind core.Kind, config any) {
	t.Helper()
	if kind.Role != core.RoleProvider {
		t.Fatalf("a part of role %s is no provider", kind.Role)
	}
	Kind(t, kind, config)

	p := newPart(t, kind, config)
	p.env = env
	item, stop := p.start()
	defer stop()
	a := &asked{part: p, provider: item.(core.Translator), source: "en", target: "es"}
	if l, ok := item.(core.Languager); ok {
		if all := l.Languages(); len(all) > 0 && len(all[0].Targets) > 0 {
			a.source, a.target = all[0].Source, all[0].Targets[0]
		}
	}
	a.answers()
	a.servesMany()
	a.letsGo()
	measured(p, item, true)
}

// asked is a provider and the languages that it is asked for.
type asked struct {
	*part
	provider       core.Translator
	source, target core.Language
}

// ask asks once, and checks what holds for every end.
func (a *asked) ask(ctx context.Context, n int) (*core.Result, error) {
	req := request(n)
	req.Source, req.Target = a.source, a.target
	// What a provider obeys of these is its own.
	req.Context, req.Formality, req.Instructions = nil, core.FormalityDefault, nil
	w := watchRequest(req)
	res, err := a.provider.Translate(ctx, req)
	if (res == nil) == (err == nil) {
		a.Errorf("the provider gave %+v and %v, want exactly one", res, err)
	}
	if err != nil {
		if _, ok := errors.AsType[*core.Error](err); !ok {
			a.Errorf("the provider failed with a %T, want a *core.Error: %v", err, err)
		}
	}
	if res != nil && res.Text == "" {
		a.Errorf("the provider's answer is empty: %+v", res)
	}
	if name := w.changed(); name != "" {
		a.Errorf("the provider changes %s of the request", name)
	}
	return res, err
}

func (a *asked) answers() {
	a.Helper()
	for n := range 3 {
		a.soon("a call", func() {
			if _, err := a.ask(a.Context(), n); err != nil {
				a.Errorf("the provider failed, though its server works: %v", err)
			}
		})
	}
}

func (a *asked) servesMany() {
	a.Helper()
	a.soon("many calls", func() {
		var all sync.WaitGroup
		for n := range 32 {
			all.Go(func() {
				if _, err := a.ask(a.Context(), n); err != nil {
					a.Errorf("the provider failed, though its server works: %v", err)
				}
			})
		}
		all.Wait()
	})
}

// letsGo leaves before the call, at any moment of it, and when its time is
// over.
func (a *asked) letsGo() {
	a.Helper()
	gone, leave := context.WithCancel(a.Context())
	leave()
	over, cancel := context.WithDeadline(a.Context(), time.Now().Add(-time.Second))
	defer cancel()
	for ctx, want := range map[context.Context]core.ErrorKind{gone: core.Canceled, over: core.DeadlineExceeded} {
		a.soon("a call of a caller who left", func() {
			if _, err := a.ask(ctx, 1); core.KindOf(err) != want {
				a.Errorf("a call ended with %q, want %s: %v", core.KindOf(err), want, err)
			}
		})
	}
	a.soon("calls that are canceled", func() {
		var all sync.WaitGroup
		for n := range 32 {
			all.Go(func() {
				ctx, cancel := context.WithCancel(a.Context())
				timer := time.AfterFunc(time.Duration(n)*200*time.Microsecond, cancel)
				defer timer.Stop()
				defer cancel()
				if _, err := a.ask(ctx, n); err != nil && core.KindOf(err) != core.Canceled {
					a.Errorf("a call that was canceled ended with %q: %v", core.KindOf(err), err)
				}
			})
		}
		all.Wait()
	})
}
