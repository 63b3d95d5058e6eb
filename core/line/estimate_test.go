package line

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dragoman-mt/dragoman/core"
)

// Captions that take 20 ms are answered beside and after work of another kind
// that takes long, though they have less time than that work takes.
func TestSlowWorkGetsNoCaptionRefused(t *testing.T) {
	type work struct {
		client, text string
		lane         core.Lane
	}
	captions := work{"live", "caption", core.LaneFinal}
	for _, tc := range []struct {
		name    string
		bulk    work
		jobs    int // of bulk, at once
		takes   time.Duration
		within  time.Duration // that bulk has
		slots   int
		every   time.Duration
		left    time.Duration // that captions have
		account string        // of captions
	}{
		{name: "of one client", bulk: work{"live", "a bulk text", core.LaneBulk}, jobs: 12, takes: 8 * time.Second, slots: 20, every: 1400 * time.Millisecond, left: 4500 * time.Millisecond},
		{name: "fast captions", bulk: work{"live", "a bulk text", core.LaneBulk}, jobs: 12, takes: 8 * time.Second, slots: 20, every: 50 * time.Millisecond, left: 4500 * time.Millisecond},
		{name: "of another client", bulk: work{"jobs", "a bulk text", core.LaneBulk}, jobs: 12, takes: 8 * time.Second, slots: 20, every: 1400 * time.Millisecond, left: 4500 * time.Millisecond},
		{name: "of another client that claims to be live", bulk: work{"jobs", "caption", core.LaneFinal}, jobs: 12, takes: 8 * time.Second, slots: 20, every: 1400 * time.Millisecond, left: 4500 * time.Millisecond},
		{name: "of another client, short", bulk: work{"jobs", "caption", core.LaneFinal}, jobs: 8, takes: 2500 * time.Millisecond, slots: 20, every: 1400 * time.Millisecond, left: time.Second},
		{name: "long texts of the same lane", bulk: work{"live", strings.Repeat("long ", 200), core.LaneFinal}, jobs: 12, takes: 8 * time.Second, slots: 20, every: 1400 * time.Millisecond, left: 4500 * time.Millisecond},
		{name: "alike in all, with captions in between", bulk: captions, jobs: 12, takes: 8 * time.Second, slots: 20, every: 1400 * time.Millisecond, left: 4500 * time.Millisecond},
		{name: "cut off by deadlines of their own", bulk: work{"jobs", "caption", core.LaneFinal}, jobs: 12, takes: time.Minute, within: 3 * time.Second, slots: 20, every: 1400 * time.Millisecond, left: time.Second},
		{name: "of a provider that was replaced", bulk: captions, jobs: 12, takes: 8 * time.Second, slots: 20, every: 1400 * time.Millisecond, left: 4500 * time.Millisecond, account: "new"},
		{name: "as many as there are slots, and one", bulk: work{"live", "a bulk text", core.LaneBulk}, jobs: 19, takes: 8 * time.Second, slots: 20, every: 1400 * time.Millisecond, left: 4500 * time.Millisecond},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l, gates := New(1000), guard(&door{slots: tc.slots})
				if tc.within == 0 {
					tc.within = time.Minute
				}
				stop := make(chan struct{})
				var all sync.WaitGroup
				for range tc.jobs {
					all.Go(func() {
						for {
							select {
							case <-stop:
								return
							default:
								serve(t, l, gates, &core.Request{Client: tc.bulk.client, Text: tc.bulk.text, Lane: tc.bulk.lane}, tc.within, tc.takes)
							}
						}
					})
				}
				caption := func(i int) {
					req := &core.Request{Client: captions.client, Text: captions.text, Lane: captions.lane, Account: tc.account}
					if d, err := serve(t, l, gates, req, tc.left, 20*time.Millisecond); err != nil || d > tc.left {
						t.Errorf("caption %d: %v after %v", i, err, d)
					}
					time.Sleep(tc.every)
				}
				if tc.bulk != captions || tc.account != "" {
					time.Sleep(30 * time.Second) // the captions find it going on
				}
				for i := range 100 {
					caption(i)
				}
				close(stop)
				all.Wait()
				for i := range 20 { // right after it
					caption(100 + i)
				}
				newCrowd(t, l).empty()
			})
		})
	}
}

// A burst of captions that has to wait, for a moment, while and after slow work
// had all slots is not refused for how slowly that went.
func TestABurstIsNotRefusedForHowLongOthersCallsTook(t *testing.T) {
	bulk := &core.Request{Client: "jobs", Text: "a text of bulk", Lane: core.LaneBulk}
	alike := &core.Request{Client: "jobs", Text: "caption", Lane: core.LaneFinal}
	for _, tc := range []struct {
		name  string
		work  *core.Request
		jobs  int
		comes time.Duration // the burst; the work is over after jobs / 6 * 3 s
	}{
		{"while bulk has all slots", bulk, 90, 30100 * time.Millisecond},
		{"right after bulk", bulk, 60, 30100 * time.Millisecond},
		{"right after another client's work of the same kind", alike, 60, 30100 * time.Millisecond},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l, gates := New(1000), guard(&door{slots: 6})
				var all sync.WaitGroup
				for i := range tc.jobs {
					all.Go(func() {
						time.Sleep(time.Duration(i) * time.Millisecond)
						serve(t, l, gates, tc.work, 0, 3*time.Second)
					})
				}
				time.Sleep(tc.comes)
				for i := range 20 {
					all.Go(func() {
						req := &core.Request{Client: "live", Session: fmt.Sprint(i), Text: "caption", Lane: core.LaneFinal}
						if d, err := serve(t, l, gates, req, 4500*time.Millisecond, 20*time.Millisecond); err != nil {
							t.Errorf("caption %d: %v after %v", i, err, d)
						}
					})
				}
				all.Wait()
				newCrowd(t, l).empty()
			})
		})
	}
}

// What ended at a deadline took at least so long: as a length it would be too
// short, and as one of another client it says nothing.
func TestADeadlineOfOneClientIsNoFailureOfAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, gates := New(100), guard(&door{slots: 100})
		for i := range 40 {
			serve(t, l, gates, &core.Request{Client: fmt.Sprint("hurried", i%2), Text: "text"}, time.Second, time.Minute)
			if _, err := serve(t, l, gates, &core.Request{Client: "other", Text: "text"}, 500*time.Millisecond, 400*time.Millisecond); err != nil {
				t.Fatalf("after %d: %v", i+1, err)
			}
		}
	})
}

// That the next start is not due within the deadline is no limit of an account.
func TestPacingThatDoesNotFitADeadlineIsNotRateLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(10)
		c := newCrowd(t, l, &owner{door: door{slots: 9, interval: 10 * time.Second}, line: l})
		c.ask(bg, "first", core.Request{}, How{})
		ctx, cancel := context.WithTimeout(bg, 2*time.Second)
		defer cancel()
		c.ask(ctx, "second", core.Request{}, How{})
		if e := c.refused("second", core.Overloaded, "gate1"); e.RetryAfter != 10*time.Second || !e.Retryable {
			t.Errorf("retryable %v after %v, want 10s", e.Retryable, e.RetryAfter)
		}
		c.ask(bg, "third", core.Request{}, How{})
		c.ask(ctx, "fourth", core.Request{}, How{})
		c.refused("fourth", core.Overloaded, "gate1")
		time.Sleep(10 * time.Second)
		synctest.Wait()
		c.drain()
		c.empty()
	})
}

// A gate that lets one start in a while says how long a line takes, whatever the
// calls take.
func TestALineThatAPaceMakesTooLongIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, New(100), &door{slots: 100, interval: 200 * time.Millisecond})
		for i := range 80 {
			c.ask(bg, fmt.Sprint("waits", i), core.Request{Client: fmt.Sprint(i)}, How{})
		}
		time.Sleep(6 * time.Second)
		synctest.Wait()
		ctx, cancel := context.WithTimeout(bg, 3*time.Second)
		defer cancel()
		c.ask(ctx, "late", core.Request{Client: "late"}, How{})
		c.refused("late", core.Overloaded, "gate1")
		c.ask(ctx, "another account", core.Request{Client: "late", Account: "new"}, How{})
		c.waits("another account") // of which nothing is known
		time.Sleep(30 * time.Second)
		synctest.Wait()
		c.drain()
	})
}
