// Package coretest is the conformance suite that every part of a chain passes:
//
//	func TestConforms(t *testing.T) { coretest.Stage(t, mask.Kind(), nil) }
//
// Stage is for what wraps, looks up or calls, Gate for gates, Provider for
// entries of `providers:`. Each begins with Kind, which looks at the
// declaration and at the life of what it builds.
//
// The suite counts goroutines, so a test that calls it must not run in parallel
// with others. Run it under the race detector: a part of it calls the thing
// from many goroutines at once and looks at nothing but what that detector sees.
package coretest

import (
	"context"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"sync/atomic"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/dragoman-mt/dragoman/core"
)

// T is what the suite needs of a *testing.T.
type T interface {
	Helper()
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
	Context() context.Context
}

// patience is how long the suite waits for what should happen at once. It is
// long, so that a slow machine fails nothing.
const patience = 20 * time.Second

// A part is a kind under test.
type part struct {
	T
	env    core.Env
	kind   core.Kind
	config any // as a checked file would give it; nil for the defaults
	calls  *upstream
}

func newPart(t T, kind core.Kind, config any) *part {
	p := &part{T: t, kind: kind, config: config, calls: &upstream{}}
	p.env = core.Env{Name: kind.Name, Log: zap.NewNop(), Upstream: p.calls, Deadline: patience}
	return p
}

// upstream stands where a pool would, for parts that should need none. It
// counts who asks and answers nobody.
type upstream struct{ asked atomic.Int64 }

func (u *upstream) RoundTrip(*http.Request) (*http.Response, error) {
	u.asked.Add(1)
	return nil, fmt.Errorf("there is no upstream in this test")
}

func (u *upstream) Warm(string) (release func(), err error) {
	u.asked.Add(1)
	return func() {}, nil
}

// fresh returns a configuration of its own.
func (p *part) fresh() any {
	if p.config == nil {
		return p.kind.Config()
	}
	copied := reflect.New(reflect.TypeOf(p.config).Elem())
	copied.Elem().Set(reflect.ValueOf(p.config).Elem())
	return copied.Interface()
}

// build returns a new item, not started.
func (p *part) build() any {
	p.Helper()
	item, err := p.kind.Build(p.env, p.fresh())
	if err != nil {
		p.Fatalf("build: %v", err)
	}
	if item == nil {
		p.Fatalf("build: it gave neither an item nor an error")
	}
	return item
}

// start builds an item and starts it; stop closes it.
func (p *part) start() (item any, stop func()) {
	p.Helper()
	item = p.build()
	if s, ok := item.(core.Starter); ok {
		if err := s.Start(p.Context()); err != nil {
			p.close(item)
			p.Fatalf("start: %v", err)
		}
	}
	return item, func() { p.close(item) }
}

func (p *part) close(item any) {
	p.Helper()
	if c, ok := item.(core.Closer); ok {
		p.soon("close", func() {
			if err := c.Close(); err != nil {
				p.Errorf("close: %v", err)
			}
		})
	}
}

// soon fails when f takes longer than anything here should. f must not call
// Fatalf.
func (p *part) soon(what string, f func()) {
	p.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(patience):
		p.Fatalf("%s: it has not come back after %v", what, patience)
	}
}

// goroutines notes which run now; left fails when there are more later on.
func (p *part) goroutines() (left func(when string)) {
	now := goleak.IgnoreCurrent()
	return func(when string) {
		p.Helper()
		if err := goleak.Find(now); err != nil {
			p.Errorf("%s: goroutines are left behind: %v", when, err)
		}
	}
}

// mark stands in every text, session and client of the suite, so that they are
// recognised where they must not be.
const mark = "coretest-private"

// request returns a request that differs from those with another n, with every
// field set that a stage may read.
func request(n int) *core.Request {
	return &core.Request{
		ID: fmt.Sprintf("coretest-%d", n), Text: fmt.Sprintf("Good morning, %s. The new car number %d is very fast.", mark, n),
		Source: "en", Target: "es",
		Context:   []core.Pair{{Source: "Hello.", Target: "Hola."}},
		Formality: core.Formal, Instructions: []string{"Keep it short."},
		Client: mark + "-client", Session: fmt.Sprintf("%s-session-%d", mark, n%8), Segment: fmt.Sprintf("s%d", n), Revision: 1, Final: true,
		Trace: core.NewTrace(nil),
	}
}

// A watched value is compared with what it was.
type watchedRequest struct{ req, was *core.Request }

func watchRequest(req *core.Request) watchedRequest { return watchedRequest{req, cloneRequest(req)} }

func cloneRequest(req *core.Request) *core.Request {
	c := *req
	c.Context, c.Instructions = slices.Clone(req.Context), slices.Clone(req.Instructions)
	return &c
}

// changed says which field of the request is not what it was. The trace is
// there to be written.
func (w watchedRequest) changed() string {
	return difference(reflect.ValueOf(*w.was), reflect.ValueOf(*w.req), "Trace", "OnDelta")
}

// difference names the first field in which two structs of one type differ.
func difference(a, b reflect.Value, but ...string) string {
	for i := range a.NumField() {
		name := a.Type().Field(i).Name
		if !slices.Contains(but, name) && !reflect.DeepEqual(a.Field(i).Interface(), b.Field(i).Interface()) {
			return name
		}
	}
	return ""
}
