package pool

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/dragoman-mt/dragoman/core/coretest/property"
)

func noProxy(*url.URL) (*url.URL, error) { return nil, nil }

// slow answers after the 300 ms that a translation takes.
func slow(w http.ResponseWriter, r *http.Request) {
	time.Sleep(300 * time.Millisecond)
	echo(w, r)
}

func TestBurstsAfterIdleGapsAreNeverCold(t *testing.T) {
	for _, idle := range []time.Duration{5 * time.Second, 30 * time.Second} {
		for _, fresh := range []time.Duration{0, 10 * time.Second, 60 * time.Second} {
			t.Run(fmt.Sprintf("server closes used ones after %s, new ones after %s", idle, fresh), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					n := startPipeNet(t, &http.Server{Handler: http.HandlerFunc(slow), IdleTimeout: idle, ReadHeaderTimeout: fresh})
					p := pipePool(t, n, nil)
					warm(t, p, pipeOrigin)
					time.Sleep(time.Second)
					burst(t, p, 6)
					if s := only(t, p); s.Cold != 0 {
						t.Errorf("%d of the first burst were cold", s.Cold)
					}
					time.Sleep(2*idle + 2*fresh) // the first gap teaches
					before := only(t, p)
					for range 3 {
						for _, gap := range []time.Duration{4, 5, 30, 60} {
							time.Sleep(gap * time.Second)
							burst(t, p, 6)
						}
					}
					s := only(t, p)
					if s.Cold != before.Cold || s.Resends != before.Resends || s.Waits != 0 {
						t.Errorf("got %d cold, %d resent, %d waited; want none: %+v", s.Cold-before.Cold, s.Resends-before.Resends, s.Waits, s)
					}
					if most := n.mostOpen(); most > 11 {
						t.Errorf("%d connections were open at once, want at most 11", most)
					}
				})
			})
		}
	}
}

func TestTwoIdleLimitsAreLearned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := startPipeNet(t, &http.Server{Handler: http.HandlerFunc(slow), IdleTimeout: 5 * time.Second, ReadHeaderTimeout: 20 * time.Second})
		p := pipePool(t, n, nil)
		warm(t, p, pipeOrigin)
		time.Sleep(time.Second)
		burst(t, p, 2)
		time.Sleep(time.Minute)
		s := only(t, p)
		near := func(got, want time.Duration) bool { return got > want*95/100 && got < want*105/100 }
		if !near(s.IdleLimitUsed, 5*time.Second) || !near(s.IdleLimitNew, 20*time.Second) {
			t.Errorf("learned %s for used ones and %s for new ones, want 5s and 20s", s.IdleLimitUsed, s.IdleLimitNew)
		}
	})
}

func TestConnectionThatCameBackUnusedKeepsItsIdleTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := startPipeNet(t, &http.Server{Handler: http.HandlerFunc(slow), ReadHeaderTimeout: 10 * time.Second})
		p := pipePool(t, n, func(c *Config) { c.WarmConnections, c.MaxConnections = 2, 2 })
		warm(t, p, pipeOrigin)
		time.Sleep(5 * time.Second)
		req, _ := http.NewRequestWithContext(t.Context(), "GET", pipeOrigin, nil)
		req.Header["bad name"] = []string{"x"}
		if _, err := p.RoundTrip(req); err == nil {
			t.Error("a header with a space in its name was sent")
		}
		time.Sleep(6 * time.Second)
		if s := only(t, p); s.IdleLimitNew < 9*time.Second {
			t.Errorf("learned %s, want 10s", s.IdleLimitNew)
		}
	})
}

func TestReplacementIsReadyBeforeAConnectionRetires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := startPipeNet(t, &http.Server{Handler: http.HandlerFunc(slow), ReadHeaderTimeout: 10 * time.Second})
		p := pipePool(t, n, nil)
		warm(t, p, pipeOrigin)
		time.Sleep(15 * time.Second) // the server has closed the first ones
		dials := n.dialled()
		for range 6000 {
			time.Sleep(10 * time.Millisecond)
			synctest.Wait()
			if s := only(t, p); s.Ready < 6 {
				t.Fatalf("only %d are ready: %+v", s.Ready, s)
			}
		}
		if n.dialled() == dials {
			t.Error("no connection was ever replaced")
		}
	})
}

func TestMaximumIsExceededByOneAtMostWhileReplacing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := startPipeNet(t, &http.Server{Handler: http.HandlerFunc(slow), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 7 * time.Second})
		p := pipePool(t, n, func(c *Config) { c.WarmConnections, c.MaxConnections = 4, 4 })
		farAway := func() error { time.Sleep(500 * time.Millisecond); return nil }
		n.dial.Store(&farAway) // so that several are due while one is dialled
		warm(t, p, pipeOrigin)
		for range 30 {
			time.Sleep(9 * time.Second)
			burst(t, p, 5)
		}
		if most := n.mostOpen(); most > 5 {
			t.Errorf("%d were open at once, want at most 5", most)
		}
	})
}

// room are the two ways to configure a maximum: with room for a probe beside
// the warm connections, and without.
var room = []int{10, 6}

func TestTheFirstIdleGapTeachesTheLimit(t *testing.T) {
	for _, most := range room {
		for _, idle := range []time.Duration{5 * time.Second, 30 * time.Second} {
			t.Run(fmt.Sprintf("%s, at most %d", idle, most), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					n := startPipeNet(t, &http.Server{Handler: http.HandlerFunc(slow), IdleTimeout: idle, ReadHeaderTimeout: time.Hour})
					p := pipePool(t, n, func(c *Config) { c.MaxConnections = most })
					warm(t, p, pipeOrigin)
					time.Sleep(time.Second)
					burst(t, p, 6)
					time.Sleep(idle + time.Second)
					if s := only(t, p); s.IdleLimitUsed < idle*9/10 || s.IdleLimitUsed > idle*11/10 {
						t.Errorf("learned %s", s.IdleLimitUsed)
					}
				})
			})
		}
	}
}

// A server may close a single connection for reasons of its own.
func TestOneOddCloseTeachesNothing(t *testing.T) {
	for _, most := range room {
		t.Run(fmt.Sprintf("at most %d", most), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := startPipeNet(t, &http.Server{Handler: http.HandlerFunc(slow)})
				p := pipePool(t, n, func(c *Config) { c.MaxConnections, c.IdleTimeout, c.MaxAge = most, time.Hour, time.Hour })
				warm(t, p, pipeOrigin)
				for _, idle := range []time.Duration{1, 5, 25, 125, 625} { // no two ages agree
					time.Sleep(idle * time.Second)
					n.closeSome(1)
					synctest.Wait()
					if s := only(t, p); s.IdleLimitNew != 0 {
						t.Errorf("learned %s", s.IdleLimitNew)
					}
				}
				time.Sleep(20 * time.Minute)
				if got := n.dialled(); got != 6+5 {
					t.Errorf("dialled %d times, want once for each of 6 connections and of 5 that were closed", got)
				}
			})
		})
	}
}

// What closes in the moment of reuse, while others that idled as long serve, is
// at fault itself: nothing is replaced for it.
func TestAFaultInTheMomentOfReuseIsNoIdleLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var served atomic.Int64
		n := startPipeNet(t, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if served.Add(1)%7 > 0 {
				slow(w, r)
				return
			}
			c, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			c.Close()
		})})
		p := pipePool(t, n, func(c *Config) { c.MaxConnections, c.IdleTimeout, c.MaxAge = 6, time.Hour, time.Hour })
		warm(t, p, pipeOrigin)
		for range 20 {
			time.Sleep(time.Second) // all idle as long
			burst(t, p, 6)
		}
		s := only(t, p)
		if s.Resends < 5 {
			t.Fatalf("%d resends: the server closed nothing", s.Resends)
		}
		if s.IdleLimitUsed != 0 || s.IdleLimitNew != 0 || n.dialled() != 6+int(s.Resends) {
			t.Errorf("%d dials after %d closes, learned %s and %s", n.dialled(), s.Resends, s.IdleLimitNew, s.IdleLimitUsed)
		}
	})
}

// lateEnd is a context that ends after its end was asked for once.
type lateEnd struct {
	context.Context
	asked atomic.Int64
}

func (c *lateEnd) Err() error {
	if c.asked.Add(1) == 1 {
		return nil
	}
	return c.Context.Err()
}

func TestACallGivenUpBeforeItWasSentTeachesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := startPipeNet(t, &http.Server{Handler: http.HandlerFunc(slow)})
		p := pipePool(t, n, func(c *Config) { c.IdleTimeout, c.MaxAge = time.Hour, time.Hour })
		warm(t, p, pipeOrigin)
		for range 3 {
			time.Sleep(time.Second)
			for range 10 {
				ctx, cancel := context.WithCancel(t.Context())
				cancel()
				if _, err := post(&lateEnd{Context: ctx}, p, pipeOrigin); !errors.Is(err, context.Canceled) {
					t.Fatalf("got %v, want that it was given up", err)
				}
			}
			synctest.Wait()
		}
		s := only(t, p)
		if s.Cancelled == 0 {
			t.Fatal("no call cost its connection")
		}
		if s.IdleLimitNew != 0 || s.Retired != 0 {
			t.Errorf("learned %s, retired %d", s.IdleLimitNew, s.Retired)
		}
	})
}

// A server that restarts closes everything at some age that means nothing.
func TestAServerThatBeganToWorkIsNotAskedTwice(t *testing.T) {
	for _, c := range []struct {
		works time.Duration
		asked int32
	}{
		{0, 2},                      // it had closed the connection, as far as one can tell
		{200 * time.Millisecond, 1}, // it had the request, and hung up over it
	} {
		t.Run(c.works.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var asked atomic.Int32
				n := startPipeNet(t, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if asked.Add(1) == 1 {
						time.Sleep(c.works)
						panic(http.ErrAbortHandler)
					}
					echo(w, r)
				})})
				p := pipePool(t, n, nil)
				warm(t, p, pipeOrigin)
				time.Sleep(10 * time.Second)
				_, err := post(t.Context(), p, pipeOrigin)
				if asked.Load() != c.asked || (err == nil) != (c.asked == 2) {
					t.Errorf("asked %d times, %v; want %d times", asked.Load(), err, c.asked)
				}
			})
		})
	}
}

func TestALimitLearnedFromARestartIsUnlearned(t *testing.T) {
	for _, most := range room {
		t.Run(fmt.Sprintf("at most %d", most), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := startPipeNet(t, &http.Server{Handler: http.HandlerFunc(slow), ReadHeaderTimeout: time.Minute})
				p := pipePool(t, n, func(c *Config) { c.MaxConnections = most })
				warm(t, p, pipeOrigin)
				time.Sleep(150 * time.Millisecond)
				n.closeAll()
				synctest.Wait()
				if s := only(t, p); s.IdleLimitNew == 0 || s.IdleLimitNew > time.Second {
					t.Fatalf("learned %s, want some 100ms", s.IdleLimitNew)
				}
				before := n.dialled()
				time.Sleep(time.Minute)
				if s := only(t, p); s.IdleLimitNew > 0 && s.IdleLimitNew < 40*time.Second {
					t.Errorf("still believes that the server closes after %s", s.IdleLimitNew)
				}
				if dials := n.dialled() - before; dials > 100 {
					t.Errorf("dialled %d times in that minute", dials)
				}
				before = n.dialled()
				time.Sleep(10 * time.Minute)
				if dials := n.dialled() - before; dials > 6*(600/45+1) {
					t.Errorf("dialled %d times in 10 quiet minutes", dials)
				}
				if got := n.mostOpen(); got > most+1 {
					t.Errorf("%d were open at once, want at most %d", got, most+1)
				}
			})
		})
	}
}

// A request that is served by a connection which had idled for longer proves
// that a limit is none.
func TestALimitIsForgottenWhenAConnectionOutlivesIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := startPipeNet(t, &http.Server{Handler: http.HandlerFunc(slow)})
		p := pipePool(t, n, func(c *Config) { c.MaxConnections = 6 })
		warm(t, p, pipeOrigin)
		time.Sleep(150 * time.Millisecond)
		n.closeAll()
		time.Sleep(time.Second) // those that wait for a replacement idle on
		if s := only(t, p); s.IdleLimitNew == 0 || s.Probing != 1 {
			t.Fatalf("learned %s from the restart, %d kept aside", s.IdleLimitNew, s.Probing)
		}
		burst(t, p, 6)
		synctest.Wait()
		if s := only(t, p); s.IdleLimitNew != 0 || s.Probing != 0 {
			t.Errorf("still believes that the server closes after %s, %d kept aside", s.IdleLimitNew, s.Probing)
		}
		dials := n.dialled()
		time.Sleep(30 * time.Second)
		burst(t, p, 6)
		if got := n.dialled() - dials; got > 6 {
			t.Errorf("dialled %d times in 30 quiet seconds", got)
		}
	})
}

func TestIdleTimeoutAndMaxAgeReplaceConnections(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*Config)
	}{
		{"idle_timeout", func(c *Config) { c.IdleTimeout = 10 * time.Second }},
		{"max_age", func(c *Config) { c.MaxAge = 10 * time.Second }},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := startPipeNet(t, &http.Server{Handler: http.HandlerFunc(slow)})
				p := pipePool(t, n, test.change)
				warm(t, p, pipeOrigin)
				time.Sleep(8900 * time.Millisecond) // 10 s, less at most 10 %
				if got := n.dialled(); got != 6 {
					t.Errorf("%d dials before the time, want 6", got)
				}
				time.Sleep(1200 * time.Millisecond)
				if got := n.dialled(); got != 12 {
					t.Errorf("%d dials after the time, want 12", got)
				}
			})
		})
	}
}

func TestABusyConnectionIsReplacedAtMaxAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := startPipeNet(t, &http.Server{Handler: http.HandlerFunc(slow)})
		p := pipePool(t, n, func(c *Config) { c.WarmConnections, c.MaxConnections, c.MaxAge = 1, 2, 10*time.Second })
		warm(t, p, pipeOrigin)
		time.Sleep(time.Second)
		for range 100 { // 30 s without a pause
			burst(t, p, 1)
		}
		if s := only(t, p); s.Dials < 5 || s.Dials > 10 || s.Cold != 0 || s.Waits != 0 {
			t.Errorf("got %d dials, %d cold and %d waits; want two every 9 to 10 s, and none", s.Dials, s.Cold, s.Waits)
		}
	})
}

func TestLatestConnectionIsTakenFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type connection struct{}
		used := map[net.Conn]int{} // calls come one after the other
		n := startPipeNet(t, &http.Server{
			ConnContext: func(ctx context.Context, c net.Conn) context.Context {
				return context.WithValue(ctx, connection{}, c)
			},
			Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				used[r.Context().Value(connection{}).(net.Conn)]++
				slow(w, r)
			}),
		})
		p := pipePool(t, n, nil)
		warm(t, p, pipeOrigin)
		time.Sleep(time.Second)
		burst(t, p, 1)
		time.Sleep(time.Second)
		for range 10 {
			burst(t, p, 1)
		}
		if len(used) != 1 {
			t.Errorf("calls by connection: %v; want all on the one that came back last", used)
		}
	})
}

func TestWaitersAreServedInOrderAndLeaveAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := startPipeNet(t, &http.Server{Handler: http.HandlerFunc(slow)})
		p := pipePool(t, n, func(c *Config) { c.WarmConnections, c.MaxConnections = 1, 1 })
		warm(t, p, pipeOrigin)
		time.Sleep(time.Second)
		var mu sync.Mutex
		var order []int
		var wg sync.WaitGroup
		for i := range 6 {
			ctx, cancel := context.WithCancelCause(t.Context())
			wg.Go(func() {
				_, err := post(ctx, p, pipeOrigin)
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil:
					order = append(order, i)
				case i != 3:
					t.Errorf("call %d: %v", i, err)
				}
			})
			synctest.Wait()
			if i == 3 {
				leave := errors.New("the caller left")
				start := time.Now()
				cancel(leave)
				synctest.Wait()
				if s := only(t, p); s.Waiting != 2 || !time.Now().Equal(start) {
					t.Errorf("%d wait after one of 3 left", s.Waiting)
				}
			}
			defer cancel(nil)
		}
		wg.Wait()
		if got, want := fmt.Sprint(order), "[0 1 2 4 5]"; got != want {
			t.Errorf("served in order %s, want %s", got, want)
		}
		if s := only(t, p); s.Waits != 5 || s.Cold != 0 || s.Cancelled != 0 || s.Dials != 1 {
			t.Errorf("got %+v; want 5 waits, and no cold, cancelled or second dial", s)
		}
	})
}

func TestWaitingEndsWithTheContextAndSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := startPipeNet(t, &http.Server{Handler: http.HandlerFunc(slow)})
		p := pipePool(t, n, func(c *Config) { c.WarmConnections, c.MaxConnections = 1, 1 })
		go post(t.Context(), p, pipeOrigin)
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		_, err := post(ctx, p, pipeOrigin)
		failure, ok := errors.AsType[*CallError](err)
		if !ok || failure.Written || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v; want a CallError with nothing written, of the deadline", err)
		}
		time.Sleep(time.Second)
	})
}

func TestServerDownIsToldSoonAndNeverStormed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := startPipeNet(t, &http.Server{Handler: http.HandlerFunc(slow)})
		n.fail(syscall.ECONNREFUSED)
		p := pipePool(t, n, nil)
		warm(t, p, pipeOrigin)
		time.Sleep(10 * time.Minute)
		if got := n.dialled(); got > 6+120 {
			t.Errorf("%d dials in 10 minutes that nobody asked", got)
		}

		before := n.dialled()
		for range 20 {
			var wg sync.WaitGroup
			for range 50 {
				wg.Go(func() {
					start := time.Now()
					_, err := post(t.Context(), p, pipeOrigin)
					if failure, ok := errors.AsType[*DialError](err); !ok || !errors.Is(err, syscall.ECONNREFUSED) {
						t.Errorf("got %v (%v); want a DialError", err, failure)
					}
					if took := time.Since(start); took > 200*time.Millisecond {
						t.Errorf("told after %s", took)
					}
				})
			}
			wg.Wait()
		}
		if got := n.dialled() - before; got > 40 {
			t.Errorf("%d dials for 20 rounds of callers", got)
		}

		n.dial.Store(nil)
		burst(t, p, 1) // served at once, whatever the background waits for
		time.Sleep(time.Second)
		if s := only(t, p); s.Ready < 6 {
			t.Errorf("%d ready a second after the server was back", s.Ready)
		}
	})
}

func TestDialTimeoutIsADialErrorNotTheCallersDeadline(t *testing.T) {
	for _, mode := range []string{Pooled, Direct} {
		synctest.Test(t, func(t *testing.T) {
			n := startPipeNet(t, &http.Server{Handler: http.HandlerFunc(slow)})
			p := pipePool(t, n, func(c *Config) { c.Mode, c.DialTimeout = mode, 20*time.Millisecond })
			_, err := post(t.Context(), p, pipeOrigin)
			if _, ok := errors.AsType[*DialError](err); !ok || errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: got %v; want a DialError of its own", mode, err)
			}
		})
	}
}

func TestServerThatClosesNewConnectionsIsNotStormed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := startPipeNet(t, &http.Server{Handler: http.HandlerFunc(slow), ReadHeaderTimeout: time.Millisecond})
		p := pipePool(t, n, nil)
		warm(t, p, pipeOrigin)
		time.Sleep(10 * time.Minute)
		if got := n.dialled(); got > 1000 {
			t.Errorf("%d dials in 10 minutes", got)
		}
		if s := only(t, p); s.IdleLimitNew != 0 {
			t.Errorf("learned a limit of %s from it", s.IdleLimitNew)
		}
	})
}

func TestOriginNobodyUsesIsLetGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := startPipeNet(t, &http.Server{Handler: http.HandlerFunc(slow)})
		p := pipePool(t, n, nil)
		release := warm(t, p, pipeOrigin)
		time.Sleep(time.Hour)
		if s := only(t, p); s.Ready != 6 {
			t.Errorf("%d ready after an hour, want 6", s.Ready)
		}
		release()
		release()
		time.Sleep(time.Minute)
		if s := only(t, p); s.Open != 0 {
			t.Errorf("%d open a minute after release", s.Open)
		}
		time.Sleep(10 * time.Minute)
		if s := p.Stats(); len(s) != 0 {
			t.Errorf("still there: %+v", s)
		}
		burst(t, p, 3) // and comes back
		if s := only(t, p); s.Dials != 3 || s.Cold != 3 {
			t.Errorf("got %+v; want 3 dials for 3 calls, all cold", s)
		}
	})
}

func TestWhateverHappensTheCountsHold(t *testing.T) {
	property.InBubbles(t, func(t *testing.T, r *rapid.T) {
		maximum := rapid.IntRange(1, 6).Draw(r, "max_connections")
		n := startPipeNet(t, &http.Server{Handler: http.HandlerFunc(slow), IdleTimeout: 5 * time.Second, ReadHeaderTimeout: 8 * time.Second})
		p := pipePool(t, n, func(c *Config) {
			c.MaxConnections = maximum
			c.WarmConnections = rapid.IntRange(0, maximum).Draw(r, "warm_connections")
			c.IdleTimeout = 20 * time.Second
		})
		release := warm(t, p, pipeOrigin)
		var wg sync.WaitGroup
		for range rapid.IntRange(1, 30).Draw(r, "steps") {
			switch rapid.IntRange(0, 5).Draw(r, "step") {
			case 0, 1:
				patience := time.Duration(rapid.IntRange(1, 2000).Draw(r, "patience")) * time.Millisecond
				for range rapid.IntRange(1, 10).Draw(r, "calls") {
					wg.Go(func() {
						ctx, cancel := context.WithTimeout(t.Context(), patience)
						defer cancel()
						post(ctx, p, pipeOrigin)
					})
				}
			case 2:
				n.closeAll()
			case 3:
				n.fail(syscall.ECONNREFUSED)
			case 4:
				n.dial.Store(nil)
			case 5:
				time.Sleep(time.Duration(rapid.IntRange(1, 9000).Draw(r, "pause")) * time.Millisecond)
			}
			synctest.Wait()
			s := only(t, p)
			if s.Open > maximum+1 || s.Ready < 0 || s.InUse < 0 || s.Ready+s.InUse > s.Open || s.InUse > maximum+1 || n.mostOpen() > maximum+1 {
				r.Fatalf("of at most %d: %+v; %d were open at once", maximum, s, n.mostOpen())
			}
		}
		wg.Wait()
		n.dial.Store(nil)
		time.Sleep(30 * time.Second)
		for only(t, p).Dialling > 0 { // the server may close one at this moment, before its limit is known
			time.Sleep(50 * time.Millisecond)
		}
		if s := only(t, p); s.InUse != 0 || s.Waiting != 0 || s.Ready < p.cfg.WarmConnections {
			r.Fatalf("at rest: %+v", s)
		}
		release()
		time.Sleep(time.Minute)
		if s := only(t, p); s.Open != 0 || s.Dialling != 0 {
			r.Fatalf("after release: %+v", s)
		}
		p.Close()
		n.closeAll()
	})
}
