package line

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/dragoman-mt/dragoman/core"
)

// What a request pays when nobody waits.
func BenchmarkFreeTurn(b *testing.B) {
	l, gates := New(10), guard(&door{slots: 6}, &door{slots: 6})
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	req := &core.Request{Client: "x"}
	b.ReportAllocs()
	for b.Loop() {
		turn, err := l.Turn(ctx, req, gates, How{})
		if err != nil {
			b.Fatal(err)
		}
		turn.Give(core.Outcome{})
	}
}

// One start and one arrival while 10,000 wait, in sessions of ten.
func BenchmarkTenThousandWaiting(b *testing.B) {
	l, gates := New(1<<20), guard(&door{slots: 1})
	reqs := make([]*core.Request, 10000)
	for i := range reqs {
		reqs[i] = &core.Request{Client: fmt.Sprint(i % 1000)}
	}
	held, err := l.Turn(context.Background(), reqs[0], gates, How{})
	if err != nil {
		b.Fatal(err)
	}
	// The waiters have no goroutines: what is measured is the line's own work.
	deadline := time.Now().Add(time.Hour)
	var queue []*waiter
	ask := func(i int) {
		w, _, err := l.ask(reqs[i%len(reqs)], gates, How{}, deadline)
		if err != nil {
			b.Fatal(err)
		}
		queue = append(queue, w)
	}
	for i := range reqs {
		ask(i)
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		held.Give(core.Outcome{})
		held = &queue[i].Turn
		if !queue[i].over {
			b.Fatal("somebody else started")
		}
		queue[i] = nil
		ask(i)
		i++
	}
}

// 10,000 waiters come and leave.
func BenchmarkLeave(b *testing.B) {
	l, gates := New(1<<20), guard(&door{})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	reqs := make([]*core.Request, 10000)
	for i := range reqs {
		reqs[i] = &core.Request{Client: fmt.Sprint(i % 1000), Session: "s", Segment: fmt.Sprint(i)}
	}
	for _, req := range reqs {
		l.ask(req, gates, How{}, time.Time{})
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		w, _, _ := l.ask(reqs[i%len(reqs)], gates, How{}, time.Time{})
		l.leave(ctx, w)
		i++
	}
}
