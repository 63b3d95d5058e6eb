package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/engine/enginetest"
)

// A probe that hangs is one goroutine, however often it would be asked again.
func TestAHungProbeIsNotAskedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &enginetest.Den{Free: make(chan struct{})}
		e := New(enginetest.Nowhere{}, zap.NewNop())
		g := serve(t, e, (&enginetest.House{}).File(d.Stage("hard", "probe")))
		g.Watch()
		time.Sleep(10 * time.Minute)
		if late := e.Late(); len(late) != 1 || !strings.HasPrefix(late[0], "stages/a: probing, for 10m") {
			t.Errorf("late: %q", late)
		}
		if err := g.Ready(); err == nil || !strings.Contains(err.Error(), "has not returned") {
			t.Errorf("ready: %v", err)
		}
		close(d.Free)
		time.Sleep(probeSlowest + time.Second)
		if err := g.Ready(); err != nil {
			t.Errorf("it has returned, and %v", err)
		}
		e.Close(t.Context())
	})
}

func TestTheEndWaitsForNoPart(t *testing.T) {
	for _, hangs := range []string{"probe", "close"} {
		t.Run(hangs, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := &enginetest.Den{Free: make(chan struct{})}
				e := New(enginetest.Nowhere{}, zap.NewNop())
				g := serve(t, e, (&enginetest.House{}).File(d.Stage("hard", hangs)))
				g.Watch()
				synctest.Wait()
				ctx, cancel := context.WithTimeout(t.Context(), 0)
				defer cancel()
				begun := time.Now()
				e.Close(ctx)
				if took := time.Since(begun); took > closeTimeout+2*patience {
					t.Errorf("took %v", took)
				}
				if late := e.Late(); len(late) != 1 {
					t.Errorf("late: %q", late)
				}
				close(d.Free)
				synctest.Wait()
				if closed := d.Closed(); closed[0] != 1 {
					t.Errorf("closed %d times", closed[0])
				}
			})
		})
	}
}

// A generation that drains for long is not waited for at the end.
func TestTheEndWaitsForNoFormerGeneration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var events, others []string
		inside, leave := make(chan struct{}), make(chan struct{})
		a := &fake{name: "a", events: &events, do: func(context.Context, *core.Request) (*core.Result, error) {
			close(inside)
			<-leave
			return &core.Result{}, nil
		}}
		e := serving(t, file([]string{"a"}, a))
		var calls sync.WaitGroup
		calls.Go(func() { e.Translate(t.Context(), &core.Request{Text: "x"}) })
		<-inside
		serve(t, e, file([]string{"b"}, &fake{name: "b", events: &others}))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begun := time.Now()
		e.Close(ctx)
		if took := time.Since(begun); took > 2*time.Second {
			t.Errorf("took %v", took)
		}
		if left := e.Unfinished(); len(left) != 1 || !strings.HasPrefix(left[0], "generation 1: requests inside (1), for ") {
			t.Errorf("unfinished: %q", left)
		}
		close(leave)
		calls.Wait()
		if left := e.Unfinished(); left != nil {
			t.Errorf("unfinished: %q", left)
		}
	})
}

func TestALateCallIsToldApartFromAFailedOne(t *testing.T) {
	_, err := Unwell(errors.Join(fmt.Errorf("p.yaml:1:1: x: %w", &LateError{What: "x: probing", Waited: time.Second})))
	if _, late := errors.AsType[*LateError](err); !late {
		t.Errorf("got %v, want a refusal", err)
	}
}
