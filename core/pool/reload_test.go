package pool

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/dragoman-mt/dragoman/core/coretest/property"
)

// plan has p prepare for its configuration, changed.
func plan(t testing.TB, p *Pool, change func(*Config)) (apply func()) {
	t.Helper()
	p.mu.RLock()
	cfg := p.cfg
	p.mu.RUnlock()
	change(&cfg)
	apply, err := p.Plan(&cfg)
	if err != nil {
		t.Fatal(err)
	}
	return apply
}

func reload(t testing.TB, p *Pool, change func(*Config)) {
	t.Helper()
	plan(t, p, change)()
}

func toDirect(c *Config) { c.Mode = Direct }
func toPooled(c *Config) { c.Mode = Pooled }
func toHTTP1(c *Config)  { c.Protocol = HTTP1 }
func toHTTP2(c *Config)  { c.Protocol = HTTP2 }

// proxyless runs play in a bubble in which the environment names no proxy: a
// reload asks it again.
func proxyless(t *testing.T, play func(t *testing.T)) {
	t.Helper()
	t.Setenv("NO_PROXY", "*")
	synctest.Test(t, play)
}

func (n *pipeNet) openNow() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.open)
}

// A crowd is calls that run at once.
type crowd struct {
	sync.WaitGroup
	mu    sync.Mutex
	begun time.Time
	took  []time.Duration // of each, in the order in which they ended
}

// gather starts n calls; one that fails fails the test.
func gather(t *testing.T, p *Pool, origin string, n int) *crowd {
	c := &crowd{begun: time.Now()}
	for range n {
		c.Go(func() {
			if text, err := post(t.Context(), p, origin); err != nil || text != "hello" {
				t.Errorf("got %q, %v", text, err)
			}
			c.mu.Lock()
			defer c.mu.Unlock()
			c.took = append(c.took, time.Since(c.begun))
		})
	}
	return c
}

func (c *crowd) wait() []time.Duration { c.Wait(); return c.took }

// What may be a password is told neither when a proxy is refused nor when it fails.
func TestAProxysPasswordIsInNoError(t *testing.T) {
	for _, proxy := range []string{
		"user:sEcReT@127.0.0.1:9", "http://user:p@ss/sEcReT@127.0.0.1:9", "http://user:sEcReT/w@127.0.0.1:9", "http://sEcReT:p@127.0.0.1:1/", "socks5://user:sEcReT@127.0.0.1:1",
		"http://user:p%40sEcReT@127.0.0.1:1", "ftp://user:sEcReT@127.0.0.1:9", "http://user:sEcReT@", "http://user:sEcReT@127.0.0.1:x", "http://user:p@127.0.0.1:1?sEcReT@h", "%zz:sEcReT@h",
	} {
		for _, from := range []string{"file", "environment"} {
			cfg := Defaults()
			cfg.WarmConnections, cfg.DialTimeout = 0, 100*time.Millisecond
			t.Setenv("HTTPS_PROXY", "")
			if from == "file" {
				cfg.Proxy = proxy
			} else {
				t.Setenv("HTTPS_PROXY", proxy)
			}
			p, err := New(cfg, nil)
			if err == nil {
				r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://192.0.2.1/", nil)
				if from == "environment" && !strings.Contains(proxy, "127.0.0.1:") {
					p.Close() // what is no URL is passed over there, and the call would be made without it
					continue
				}
				_, err = p.RoundTrip(r)
				p.Close()
			}
			if err == nil || strings.Contains(err.Error(), "sEcReT") {
				t.Errorf("%s from the %s: got %v", proxy, from, err)
			}
		}
	}
}

func TestPlanRefusesWhatCannotBeAndChangesNothing(t *testing.T) {
	u := startUpstream(t, echo)
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := tlsPool(t, u, nil)
	defer warm(t, p, u.url)()
	until(t, p, "6 ready", func(s OriginStats) bool { return s.Ready == 6 })
	cfg, before := p.cfg, only(t, p)
	for want, change := range map[string]func(*Config){
		"pool: warm_connections: 6 is more than max_connections, which is 5": func(c *Config) { c.MaxConnections = 5 },
		"pool: mode: must be pooled or direct":                               func(c *Config) { c.Mode = "poold" },
		"pool: max_age: must be more than 0s":                                func(c *Config) { c.MaxAge = 0 },
		"pool: ca_file: open /nowhere/ca.pem":                                func(c *Config) { c.CAFile = "/nowhere/ca.pem" },
		"pool: ca_file: open /dev/zero: this is a device":                    func(c *Config) { c.CAFile = "/dev/zero" },
		"holds no certificate":                                               func(c *Config) { c.CAFile = empty },
		"pool: proxy: must start with http://":                               func(c *Config) { c.Proxy = "ftp://x" },
	} {
		c := cfg
		change(&c)
		if apply, err := p.Plan(&c); apply != nil || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	for _, other := range []any{cfg, (*Config)(nil), nil, "pooled"} {
		if apply, err := p.Plan(other); apply != nil || err == nil || !strings.Contains(err.Error(), "want a *pool.Config") {
			t.Errorf("planned with %T: %v", other, err)
		}
	}
	plan(t, p, func(c *Config) {
		c.Mode, c.Protocol, c.WarmConnections, c.Proxy = Direct, HTTP2, 1, "http://127.0.0.1:1"
	})
	if _, err := post(t.Context(), p, u.url); err != nil {
		t.Error(err)
	}
	after := only(t, p)
	if p.cfg != cfg || after.Cold != 0 || after.Dials > before.Dials+1 || after.Retired != 0 {
		t.Errorf("planning alone changed something: %+v, then %+v", before, after)
	}
}

func TestPlanKeepsItsOwnCopy(t *testing.T) {
	p := newPool(t, nil)
	cfg := Defaults()
	cfg.MaxConnections = 20
	apply, err := p.Plan(&cfg)
	if err != nil {
		t.Fatal(err)
	}
	cfg.MaxConnections = 0
	apply()
	if p.cfg.MaxConnections != 20 {
		t.Errorf("max_connections is %d, want the 20 that was planned", p.cfg.MaxConnections)
	}
}

func TestNumbersChangeInPlaceAndEveryConnectionStays(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"nothing":          func(*Config) {},
		"warm_connections": func(c *Config) { c.WarmConnections = 4 },
		"max_connections":  func(c *Config) { c.MaxConnections = 20 },
		"idle_timeout":     func(c *Config) { c.IdleTimeout = time.Minute },
		"max_age":          func(c *Config) { c.MaxAge = time.Hour },
		"dial_timeout":     func(c *Config) { c.DialTimeout = time.Second },
	} {
		t.Run(name, func(t *testing.T) {
			proxyless(t, func(t *testing.T) {
				n := startPipeNet(t, &http.Server{Handler: http.HandlerFunc(slow), ReadHeaderTimeout: 10 * time.Second})
				p := pipePool(t, n, nil)
				warm(t, p, pipeOrigin)
				time.Sleep(12 * time.Second) // the limit is learned
				calls := gather(t, p, pipeOrigin, 4)
				time.Sleep(100 * time.Millisecond)
				before := only(t, p)
				if before.InUse != 4 || before.Ready != 6 || before.IdleLimitNew == 0 {
					t.Fatalf("got %+v; want 4 calls in flight, their replacements and a limit", before)
				}
				reload(t, p, change)
				calls.wait()
				synctest.Wait()
				after := only(t, p)
				before.Ready, before.InUse = before.Ready+before.InUse, 0
				if after != before {
					t.Errorf("got %+v; want every connection back and all else as it was: %+v", after, before)
				}
			})
		})
	}
}

func TestARaisedMaximumServesWhoWaitsAtOnce(t *testing.T) {
	proxyless(t, func(t *testing.T) {
		n := startPipeNet(t, &http.Server{Handler: http.HandlerFunc(slow)})
		p := pipePool(t, n, func(c *Config) { c.WarmConnections, c.MaxConnections = 2, 2 })
		warm(t, p, pipeOrigin)
		time.Sleep(time.Second)
		calls := gather(t, p, pipeOrigin, 6)
		time.Sleep(100 * time.Millisecond)
		if s := only(t, p); s.Waiting != 4 {
			t.Fatalf("%d wait, want 4", s.Waiting)
		}
		reload(t, p, func(c *Config) { c.MaxConnections = 6 })
		took := calls.wait()
		if want := 450 * time.Millisecond; took[5] != want { // one dial after the change, and the answer
			t.Errorf("the calls took %s; want the last to take %s", took, want)
		}
		if s := only(t, p); s.Dials != 6 || s.Waits != 4 || s.Cold != 0 {
			t.Errorf("got %+v; want 6 dials and the 4 waits there were", s)
		}
	})
}

func TestALoweredMaximumClosesWhatIsIdleAtOnce(t *testing.T) {
	proxyless(t, func(t *testing.T) {
		n := startPipeNet(t, &http.Server{Handler: http.HandlerFunc(slow)})
		p := pipePool(t, n, nil)
		warm(t, p, pipeOrigin)
		time.Sleep(time.Second)
		reload(t, p, func(c *Config) { c.WarmConnections, c.MaxConnections = 2, 2 })
		synctest.Wait()
		if s := only(t, p); s.Ready != 2 || s.Open != 2 || n.openNow() != 2 || s.Retired != 4 {
			t.Errorf("got %+v and %d open; want 2", s, n.openNow())
		}
	})
}

func TestALoweredMaximumLetsWhatIsInUseGoAsItComesBack(t *testing.T) {
	proxyless(t, func(t *testing.T) {
		n := startPipeNet(t, &http.Server{Handler: http.HandlerFunc(slow)})
		p := pipePool(t, n, func(c *Config) { c.MaxConnections = 6 })
		warm(t, p, pipeOrigin)
		time.Sleep(time.Second)
		calls := gather(t, p, pipeOrigin, 20)
		time.Sleep(100 * time.Millisecond)
		reload(t, p, func(c *Config) { c.WarmConnections, c.MaxConnections = 2, 2 })
		synctest.Wait()
		if s := only(t, p); s.InUse != 6 || s.Waiting != 14 {
			t.Errorf("got %+v; want 6 in use until they end", s)
		}
		time.Sleep(250 * time.Millisecond) // all six have come back, and others wait for them
		if s := only(t, p); s.InUse != 2 || s.Open != 2 || s.Waiting != 12 || n.openNow() != 2 {
			t.Errorf("got %+v and %d open; want two in use and none beside them", s, n.openNow())
		}
		calls.wait()
		if s := only(t, p); s.Dials != 6 || s.Cold != 0 {
			t.Errorf("got %+v; want no dial for it", s)
		}
	})
}

// Connections that carry many calls need never be idle, so the surplus is given
// no more.
func TestALoweredMaximumHoldsForSharedConnectionsUnderLoad(t *testing.T) {
	proxyless(t, func(t *testing.T) {
		n, p := twoPool(t, &http.Server{Handler: http.HandlerFunc(slow), HTTP2: &http.HTTP2Config{MaxConcurrentStreams: 3}}, nil)
		warm(t, p, twoOrigin)
		time.Sleep(time.Second)
		var load sync.WaitGroup
		for i := range 100 { // ten at once
			load.Go(func() {
				time.Sleep(time.Duration(i) * 30 * time.Millisecond)
				if text, err := post(t.Context(), p, twoOrigin); err != nil || text != "hello" {
					t.Errorf("got %q, %v", text, err)
				}
			})
		}
		time.Sleep(time.Second)
		if s := only(t, p); s.Open < 3 {
			t.Fatalf("%d open, want the load to take 3 at least", s.Open)
		}
		reload(t, p, func(c *Config) { c.WarmConnections, c.MaxConnections = 1, 1 })
		time.Sleep(400 * time.Millisecond)
		if s := only(t, p); s.Open != 1 || n.openNow() != 1 || s.Waiting == 0 {
			t.Errorf("got %+v and %d open; want one, for which others wait", s, n.openNow())
		}
		load.Wait()
	})
}

func TestRaisedWarmConnectionsAreDialledAtOnce(t *testing.T) {
	proxyless(t, func(t *testing.T) {
		n := startPipeNet(t, &http.Server{Handler: http.HandlerFunc(slow)})
		p := pipePool(t, n, func(c *Config) { c.WarmConnections = 2 })
		warm(t, p, pipeOrigin)
		time.Sleep(time.Second)
		reload(t, p, func(c *Config) { c.WarmConnections = 9 })
		time.Sleep(51 * time.Millisecond) // a dial takes 50
		if s := only(t, p); s.Ready != 9 || s.Dials != 9 {
			t.Errorf("got %+v; want 9 ready", s)
		}
	})
}

func TestOtherTimesHoldForTheConnectionsThereAre(t *testing.T) {
	for _, test := range []struct {
		name          string
		before, after func(*Config)
		dials         int // 25 s after the start, with a change after 8
	}{
		{"idle_timeout longer", func(c *Config) { c.IdleTimeout = 10 * time.Second }, func(c *Config) { c.IdleTimeout = time.Hour }, 6},
		{"idle_timeout shorter", func(c *Config) { c.IdleTimeout = time.Hour }, func(c *Config) { c.IdleTimeout = 18 * time.Second }, 12},
		{"max_age longer", func(c *Config) { c.MaxAge = 10 * time.Second }, func(c *Config) { c.MaxAge = time.Hour }, 6},
		{"max_age shorter", func(c *Config) { c.MaxAge = time.Hour }, func(c *Config) { c.MaxAge = 18 * time.Second }, 12},
	} {
		t.Run(test.name, func(t *testing.T) {
			proxyless(t, func(t *testing.T) {
				n := startPipeNet(t, &http.Server{Handler: http.HandlerFunc(slow)})
				p := pipePool(t, n, func(c *Config) { c.IdleTimeout, c.MaxAge = time.Hour, time.Hour; test.before(c) })
				warm(t, p, pipeOrigin)
				time.Sleep(8 * time.Second)
				reload(t, p, test.after)
				time.Sleep(17 * time.Second)
				if got := n.dialled(); got != test.dials {
					t.Errorf("%d dials, want %d", got, test.dials)
				}
			})
		})
	}
	t.Run("dial_timeout", func(t *testing.T) {
		for _, mode := range []string{Pooled, Direct} {
			proxyless(t, func(t *testing.T) {
				n := startPipeNet(t, &http.Server{Handler: http.HandlerFunc(slow)})
				p := pipePool(t, n, func(c *Config) { c.Mode, c.DialTimeout = mode, 20*time.Millisecond })
				if _, err := post(t.Context(), p, pipeOrigin); err == nil {
					t.Errorf("%s: a dial of 50 ms succeeded within 20", mode)
				}
				reload(t, p, func(c *Config) { c.DialTimeout = time.Second })
				time.Sleep(time.Second)
				burst(t, p, 1)
			})
		}
	})
}

func TestDirectClosesWhatIsIdleAtOnce(t *testing.T) {
	proxyless(t, func(t *testing.T) {
		n := startPipeNet(t, &http.Server{Handler: http.HandlerFunc(slow)})
		p := pipePool(t, n, nil)
		warm(t, p, pipeOrigin)
		time.Sleep(time.Second)
		reload(t, p, toDirect)
		synctest.Wait()
		if s := only(t, p); s.Open != 0 || s.Ready != 0 || n.openNow() != 0 {
			t.Errorf("got %+v and %d open; want none", s, n.openNow())
		}
		burst(t, p, 3)
		burst(t, p, 3)
		synctest.Wait()
		if s := only(t, p); s.Dials != 12 || s.Cold != 6 || s.Open != 0 || n.openNow() != 0 {
			t.Errorf("got %+v; want a dial for each call and nothing open", s)
		}
	})
}

func TestDirectSendsWhoWaitsOnAndLetsTheOthersFinish(t *testing.T) {
	six := func(c *Config) { c.WarmConnections, c.MaxConnections = 6, 6 }
	for protocol, origin := range map[string]string{HTTP1: pipeOrigin, HTTP2: twoOrigin} {
		t.Run(protocol, func(t *testing.T) {
			proxyless(t, func(t *testing.T) {
				server := &http.Server{Handler: http.HandlerFunc(slow), HTTP2: &http.HTTP2Config{MaxConcurrentStreams: 1}}
				var n *pipeNet
				var p *Pool
				if protocol == HTTP2 {
					n, p = twoPool(t, server, six)
				} else {
					n = startPipeNet(t, server)
					p = pipePool(t, n, six)
				}
				warm(t, p, origin)
				time.Sleep(time.Second)
				burstTo(t, p, origin, 1)
				time.Sleep(time.Second)
				before := only(t, p)
				calls := gather(t, p, origin, 10)
				time.Sleep(100 * time.Millisecond)
				if s := only(t, p); s.InUse != 6 || s.Waiting != 4 {
					t.Fatalf("got %+v; want 6 in use and 4 waiting", s)
				}
				reload(t, p, toDirect)
				time.Sleep(225 * time.Millisecond) // the six are over
				if s := only(t, p); s.InUse != 4 || s.Open != 4 || s.Waiting != 0 || n.openNow() != 4 {
					t.Errorf("got %+v and %d open; want the four that waited", s, n.openNow())
				}
				took := calls.wait()
				if took[5] != 300*time.Millisecond || took[6] != 450*time.Millisecond || took[9] != 450*time.Millisecond {
					t.Errorf("the calls took %s; want six of 300ms, and four of 450ms with a dial after 100ms", took)
				}
				synctest.Wait()
				s := only(t, p)
				if s.Open != 0 || n.openNow() != 0 || s.Dials != before.Dials+4 || s.DialFailures != 0 || s.Resends != 0 || s.Cancelled != 0 {
					t.Errorf("got %+v and %d open; want 4 more dials and nothing left: %+v", s, n.openNow(), before)
				}
				if s.Waits+s.Cold != before.Waits+before.Cold+4 {
					t.Errorf("got %+v; want each of the four counted once", s)
				}
			})
		})
	}
}

func TestPooledWarmsEveryOriginThatIsHeld(t *testing.T) {
	proxyless(t, func(t *testing.T) {
		n := startPipeNet(t, &http.Server{Handler: http.HandlerFunc(slow)})
		p := pipePool(t, n, nil)
		warm(t, p, "http://one.test")
		time.Sleep(time.Second)
		reload(t, p, toDirect)
		release := warm(t, p, "http://two.test")
		burstTo(t, p, "http://three.test", 1)
		time.Sleep(time.Hour) // holds outlive an origin that nobody holds
		if stats := p.Stats(); len(stats) != 2 || stats[0].Open+stats[1].Open != 0 {
			t.Errorf("got %+v; want two origins without a connection", stats)
		}
		burstTo(t, p, "http://three.test", 1)
		reload(t, p, toPooled)
		time.Sleep(51 * time.Millisecond)
		for _, s := range p.Stats() {
			want := 6
			if s.Origin == "http://three.test" {
				want = 0
			}
			if s.Ready != want || s.Open != want {
				t.Errorf("%s has %d ready, want %d", s.Origin, s.Ready, want)
			}
		}
		burstTo(t, p, "http://two.test", 6)
		if s := p.Stats()[2]; s.Origin != "http://two.test" || s.Cold != 0 {
			t.Errorf("got %+v; want none cold", s)
		}
		release()
		time.Sleep(time.Hour)
		if stats := p.Stats(); len(stats) != 1 || stats[0].Origin != "http://one.test" {
			t.Errorf("got %+v; want the one that is held", stats)
		}
	})
}

func TestPooledLetsDirectCallsFinishBesideItsOwnConnections(t *testing.T) {
	proxyless(t, func(t *testing.T) {
		n := startPipeNet(t, &http.Server{Handler: http.HandlerFunc(slow)})
		p := pipePool(t, n, toDirect)
		warm(t, p, pipeOrigin)
		calls := gather(t, p, pipeOrigin, 30)
		time.Sleep(100 * time.Millisecond)
		reload(t, p, toPooled)
		time.Sleep(51 * time.Millisecond)
		if s := only(t, p); s.Ready != 6 || s.InUse != 30 {
			t.Errorf("got %+v; want 6 ready beside 30 that finish", s)
		}
		if took := calls.wait(); took[29] != 350*time.Millisecond {
			t.Errorf("the calls took %s, want a dial and an answer", took)
		}
		synctest.Wait()
		if s := only(t, p); s.Open != 6 || n.openNow() != 6 || s.Dials != 36 || s.Cold != 30 || s.Spent != 0 {
			t.Errorf("got %+v and %d open; want the 6 that are ready", s, n.openNow())
		}
	})
}

// What a connection was learned from may be kept only of the same server.
func TestLearnedLimitsAreKeptUntilAnotherServerMayBeThere(t *testing.T) {
	for _, test := range []struct {
		name    string
		changes []func(*Config)
		kept    bool
	}{
		{"to direct and back", []func(*Config){toDirect, toPooled}, true},
		{"protocol", []func(*Config){toHTTP2}, false},
		{"ca_file", []func(*Config){func(c *Config) { c.CAFile = "" }}, false},
		{"proxy", []func(*Config){func(c *Config) { c.Proxy = "http://proxy.test:1" }}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, caFile := certificate(t)
			proxyless(t, func(t *testing.T) {
				n := startPipeNet(t, &http.Server{Handler: http.HandlerFunc(slow), ReadHeaderTimeout: 10 * time.Second})
				p := pipePool(t, n, func(c *Config) { c.CAFile = caFile })
				warm(t, p, pipeOrigin)
				time.Sleep(15 * time.Second)
				before := only(t, p).IdleLimitNew
				if before < 9*time.Second || before > 11*time.Second {
					t.Fatalf("learned %s, want 10s", before)
				}
				for _, change := range test.changes {
					reload(t, p, change)
				}
				if after := only(t, p).IdleLimitNew; (after == before) != test.kept || (after == 0) == test.kept {
					t.Errorf("believes %s, where it was %s; kept: %v", after, before, test.kept)
				}
			})
		})
	}
}

// A call that was in flight keeps the rules of resending, and what it meets on
// its connection says nothing of the new ones.
func TestACallInFlightIsResentOnTheNewTerms(t *testing.T) {
	for name, change := range map[string]func(*Config){"direct": toDirect, "protocol": toHTTP2} {
		t.Run(name, func(t *testing.T) {
			proxyless(t, func(t *testing.T) {
				var calls atomic.Int32
				closing := make(chan bool)
				n := startPipeNet(t, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if calls.Add(1) <= 3 {
						<-closing
						panic(http.ErrAbortHandler)
					}
					slow(w, r)
				})})
				p := pipePool(t, n, nil)
				warm(t, p, pipeOrigin)
				time.Sleep(10 * time.Second)
				posts := gather(t, p, pipeOrigin, 3)
				synctest.Wait()
				if calls.Load() != 3 {
					t.Fatalf("%d calls arrived", calls.Load())
				}
				reload(t, p, change)
				synctest.Wait()
				close(closing)
				took := posts.wait()
				synctest.Wait()
				s := only(t, p)
				if calls.Load() != 6 || s.Resends != 3 || s.DialFailures != 0 {
					t.Errorf("got %+v and %d calls; want each sent again once", s, calls.Load())
				}
				if took[2] != 350*time.Millisecond {
					t.Errorf("took %s, want a dial and an answer", took)
				}
				if s.IdleLimitNew != 0 || s.IdleLimitUsed != 0 {
					t.Errorf("learned %s and %s from connections of former terms", s.IdleLimitNew, s.IdleLimitUsed)
				}
			})
		})
	}
}

// A tracing server knows by which connection each call came.
type tracing struct {
	*upstream
	conns    atomic.Int64 // accepted
	mu       sync.Mutex
	came     map[string]int64 // by the call's name, the number of its connection
	repeated []string
	arrived  chan string // named "hang-..."
	finish   chan bool   // lets those go
}

type connNumber struct{}

// startTracing starts one that takes so many calls over one connection.
func startTracing(t testing.TB, streams int) *tracing {
	v := &tracing{came: map[string]int64{}, arrived: make(chan string, 100), finish: make(chan bool)}
	v.upstream = startTwo(t, v.serve, func(s *http.Server) {
		s.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: streams}
		s.ConnContext = func(ctx context.Context, _ net.Conn) context.Context {
			return context.WithValue(ctx, connNumber{}, v.conns.Add(1))
		}
	})
	return v
}

func (v *tracing) serve(w http.ResponseWriter, r *http.Request) {
	b, _ := io.ReadAll(r.Body)
	call := string(b)
	v.mu.Lock()
	if v.came[call] != 0 {
		v.repeated = append(v.repeated, call)
	}
	v.came[call] = r.Context().Value(connNumber{}).(int64)
	v.mu.Unlock()
	if strings.HasPrefix(call, "hang") {
		v.arrived <- call
		<-v.finish
	}
	io.WriteString(w, call+" over "+r.Proto)
}

// next returns the next call that hangs.
func (v *tracing) next(t testing.TB) string {
	t.Helper()
	select {
	case call := <-v.arrived:
		return call
	case <-time.After(10 * time.Second):
		t.Fatal("no call came")
		return ""
	}
}

func (v *tracing) connOf(call string) int64 {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.came[call]
}

func (v *tracing) openNow() int {
	v.upstream.mu.Lock()
	defer v.upstream.mu.Unlock()
	return len(v.open)
}

// say makes a call of that name.
func say(ctx context.Context, p *Pool, url, name string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, "POST", url, strings.NewReader(name))
	if err != nil {
		return "", err
	}
	return read(p.RoundTrip(req))
}

func TestOtherTermsCarryEveryLaterCallOverNewConnections(t *testing.T) {
	other := filepath.Join(t.TempDir(), "other.pem")
	first, second := startProxy(t, "http", tls.Certificate{}), startProxy(t, "socks5", tls.Certificate{})
	for _, test := range []struct {
		name          string
		before, after func(*Config)
		proto         string
		through       *proxy
	}{
		{"http1 to http2", toHTTP1, toHTTP2, "HTTP/2.0", nil},
		{"http2 to http1", toHTTP2, toHTTP1, "HTTP/1.1", nil},
		{"another ca_file", toHTTP1, func(c *Config) { c.CAFile = other }, "HTTP/1.1", nil},
		{"another ca_file over http2", toHTTP2, func(c *Config) { c.CAFile = other }, "HTTP/2.0", nil},
		{"ca_file holds more", func(c *Config) { c.CAFile = other }, func(*Config) { extend(t, other) }, "HTTP/1.1", nil},
		{"a proxy", toHTTP1, func(c *Config) { c.Proxy = first.url }, "HTTP/1.1", first},
		{"another proxy", func(c *Config) { c.Proxy = first.url }, func(c *Config) { c.Proxy = second.url }, "HTTP/1.1", second},
		{"no proxy any more", func(c *Config) { c.Proxy = first.url }, func(c *Config) { c.Proxy = "" }, "HTTP/1.1", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			v := startTracing(t, 20)
			copyFile(t, v.caFile, other)
			finish := sync.OnceFunc(func() { close(v.finish) })
			defer finish()
			p := tlsPool(t, v.upstream, func(c *Config) { c.WarmConnections, c.MaxConnections = 2, 2; test.before(c) })
			defer warm(t, p, v.url)()
			until(t, p, "2 ready", func(s OriginStats) bool { return s.Ready == 2 })
			if _, err := say(t.Context(), p, v.url, "first"); err != nil {
				t.Fatal(err)
			}
			until(t, p, "2 ready", func(s OriginStats) bool { return s.Ready == 2 && s.InUse == 0 })

			// Two calls use what there is, and two wait, or use it as well.
			waiting := 2
			if p.cfg.Protocol == HTTP2 {
				waiting = 0
			}
			answers := make(chan error, 4)
			hang := func(name string) {
				go func() {
					text, err := say(t.Context(), p, v.url, name)
					if err == nil && !strings.HasPrefix(text, name+" over ") {
						err = fmt.Errorf("got %q", text)
					}
					answers <- err
				}()
			}
			hang("hang-1")
			hang("hang-2")
			v.next(t)
			v.next(t)
			hang("hang-3")
			hang("hang-4")
			if waiting == 0 {
				v.next(t)
				v.next(t)
			}
			until(t, p, "they wait", func(s OriginStats) bool { return s.Waiting == waiting })
			used := int64(0)
			if test.through != nil {
				used = test.through.used.Load()
			}
			mark, before := v.conns.Load(), only(t, p)
			reload(t, p, test.after)

			// Those that waited come over new connections while the others hang.
			for range waiting {
				if name := v.next(t); v.connOf(name) <= mark {
					t.Errorf("%s came over a connection of the former terms", name)
				}
			}
			until(t, p, "none waits", func(s OriginStats) bool { return s.InUse >= 1+waiting && s.Waiting == 0 })
			finish()
			for range 4 {
				if err := <-answers; err != nil {
					t.Error(err)
				}
			}
			until(t, p, "2 ready", func(s OriginStats) bool { return s.Ready == 2 && s.Open == 2 && s.Dialling == 0 })

			// Now idle ones are closed, and no call uses them.
			reload(t, p, test.before)
			reload(t, p, test.after)
			mark = v.conns.Load()
			reload(t, p, func(c *Config) { c.Mode = Direct })
			reload(t, p, func(c *Config) { c.Mode = Pooled })
			text, err := say(t.Context(), p, v.url, "last")
			if err != nil || text != "last over "+test.proto || v.connOf("last") <= mark {
				t.Errorf("got %q, %v, by connection %d; want %s over one after %d", text, err, v.connOf("last"), test.proto, mark)
			}
			if test.through != nil && test.through.used.Load() < used+2 {
				t.Errorf("the proxy saw %d connections more, want 2 at least", test.through.used.Load()-used)
			}
			s := only(t, p)
			if s.Resends != 0 || s.DialFailures != 0 || s.Dials < before.Dials+2 || s.Waits != int64(waiting) {
				t.Errorf("got %+v; want no failure and none resent", s)
			}
			if len(v.repeated) > 0 {
				t.Errorf("came twice: %v", v.repeated)
			}
			p.Close()
			eventually(t, "the server has no connection left", func() bool { return v.openNow() == 0 })
		})
	}
}

func copyFile(t testing.TB, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// extend adds an authority to file.
func extend(t testing.TB, file string) {
	t.Helper()
	cert, _ := certificate(t)
	b, err := os.ReadFile(file)
	if err == nil {
		b = append(b, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]})...)
		err = os.WriteFile(file, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// eventually waits for what the other end does, of which there is no event.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !is() {
		if time.Now().After(deadline) {
			t.Fatalf("never came: %s", what)
		}
		time.Sleep(200 * time.Microsecond)
	}
}

func TestAuthoritiesThatAreTakenAwayAreTrustedNoMore(t *testing.T) {
	for _, mode := range []string{Pooled, Direct} {
		u := startUpstream(t, echo)
		_, stranger := certificate(t)
		p := tlsPool(t, u, func(c *Config) { c.Mode, c.WarmConnections = mode, 0 })
		for range 2 {
			if _, err := post(t.Context(), p, u.url); err != nil {
				t.Fatal(err)
			}
		}
		reload(t, p, func(c *Config) { c.CAFile = stranger })
		if _, err := post(t.Context(), p, u.url); err == nil || !strings.Contains(err.Error(), "unknown authority") {
			t.Errorf("%s: got %v; want that the authority is unknown", mode, err)
		}
		reload(t, p, func(c *Config) { c.CAFile = u.caFile })
		if _, err := post(t.Context(), p, u.url); err != nil {
			t.Errorf("%s: trusted again: %v", mode, err)
		}
	}
}

func TestNoSessionIsResumedOnOtherTerms(t *testing.T) {
	u := startUpstream(t, echo)
	other := filepath.Join(t.TempDir(), "other.pem")
	copyFile(t, u.caFile, other)
	p := tlsPool(t, u, toDirect)
	for i, test := range []struct {
		change      func(*Config)
		resumptions int64
	}{
		{func(*Config) {}, 0},
		{func(c *Config) { c.DialTimeout = time.Minute }, 1},
		{func(c *Config) { c.CAFile = other }, 1},
		{func(*Config) {}, 2},
	} {
		reload(t, p, test.change)
		if _, err := post(t.Context(), p, u.url); err != nil {
			t.Fatal(err)
		}
		if s := only(t, p); s.Resumptions != test.resumptions {
			t.Errorf("%d sessions were resumed after call %d, want %d", s.Resumptions, i+1, test.resumptions)
		}
	}
}

// What hangs, such as a proxy that does not answer, is given up with its terms,
// and delays nobody.
func TestADialOnFormerTermsIsGivenUpAndFailsNoCall(t *testing.T) {
	for _, mode := range []string{Pooled, Direct} {
		t.Run(mode, func(t *testing.T) {
			proxyless(t, func(t *testing.T) {
				n := startPipeNet(t, &http.Server{Handler: http.HandlerFunc(slow)})
				p := pipePool(t, n, func(c *Config) { c.Mode, c.DialTimeout = mode, time.Minute })
				var hangs atomic.Int32
				hangs.Store(5)
				p.dial = func(ctx context.Context, network, address string) (net.Conn, error) {
					if hangs.Add(-1) >= 0 {
						<-ctx.Done()
						return nil, ctx.Err()
					}
					return n.Dial(ctx, network, address)
				}
				calls := gather(t, p, pipeOrigin, 5)
				time.Sleep(100 * time.Millisecond)
				reload(t, p, toHTTP2)
				took := calls.wait()
				if took[4] != 450*time.Millisecond {
					t.Errorf("the calls took %s, want a dial and an answer after the 100ms", took)
				}
				if s := only(t, p); s.Dials != 10 || s.DialFailures != 0 || s.Dialling != 0 || s.Cold != 5 || s.Waits != 0 {
					t.Errorf("got %+v; want 5 dials given up and 5 others", s)
				}
			})
		})
	}
}

// Also one that cannot be given up delays nobody, and what comes of it is not
// used.
func TestAConnectionThatComesTooLateForItsTermsIsNotUsed(t *testing.T) {
	proxyless(t, func(t *testing.T) {
		n := startPipeNet(t, &http.Server{Handler: http.HandlerFunc(slow)})
		p := pipePool(t, n, func(c *Config) { c.WarmConnections, c.MaxConnections = 2, 2 })
		late, held := make(chan bool), atomic.Int32{}
		held.Store(2)
		p.dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			if held.Add(-1) >= 0 {
				<-late
				ctx = context.WithoutCancel(ctx)
			}
			return n.Dial(ctx, network, address)
		}
		warm(t, p, pipeOrigin)
		calls := gather(t, p, pipeOrigin, 2)
		time.Sleep(100 * time.Millisecond)
		reload(t, p, toHTTP2)
		time.Sleep(75 * time.Millisecond)
		if s := only(t, p); s.InUse != 2 || s.Dialling != 2 {
			t.Errorf("got %+v; want 2 in use though 2 former dials hang", s)
		}
		close(late)
		calls.wait()
		synctest.Wait()
		if s := only(t, p); s.Open != 2 || n.openNow() != 2 || s.Dialling != 0 || s.Dials != 4 || s.DialFailures != 0 {
			t.Errorf("got %+v and %d open; want the two of the new terms", s, n.openNow())
		}
	})
}

func TestAServerThatWasDownIsTriedAtOnceOnNewTerms(t *testing.T) {
	proxyless(t, func(t *testing.T) {
		n := startPipeNet(t, &http.Server{Handler: http.HandlerFunc(slow)})
		n.fail(syscall.ECONNREFUSED)
		p := pipePool(t, n, nil)
		warm(t, p, pipeOrigin)
		time.Sleep(10 * time.Minute)
		n.dial.Store(nil)
		reload(t, p, toHTTP2)
		time.Sleep(51 * time.Millisecond)
		if s := only(t, p); s.Ready != 6 {
			t.Errorf("got %+v; want 6 ready after one dial", s)
		}
	})
}

// A stuckConn takes as long to close as it is told.
type stuckConn struct {
	net.Conn
	free <-chan bool
}

func (c *stuckConn) Close() error { <-c.free; return c.Conn.Close() }

func TestApplyWaitsForNoConnection(t *testing.T) {
	proxyless(t, func(t *testing.T) {
		n := startPipeNet(t, &http.Server{Handler: http.HandlerFunc(slow)})
		p := pipePool(t, n, nil)
		free := make(chan bool)
		p.dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			c, err := n.Dial(ctx, network, address)
			return &stuckConn{c, free}, err
		}
		warm(t, p, pipeOrigin)
		time.Sleep(time.Second)
		begun := time.Now()
		time.AfterFunc(time.Second, func() { close(free) })
		reload(t, p, toDirect)
		if took := time.Since(begun); took > 0 {
			t.Errorf("apply took %s", took)
		}
		synctest.Wait()
		time.Sleep(2 * time.Second)
		if n.openNow() != 0 {
			t.Errorf("%d open, want none", n.openNow())
		}
	})
}

func TestTheLatestChangeHoldsHoweverTheyMeet(t *testing.T) {
	u := startUpstream(t, echo)
	p := tlsPool(t, u, nil)
	defer warm(t, p, u.url)()
	pooled, direct := plan(t, p, toPooled), plan(t, p, toDirect)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(pooled)
		wg.Go(direct)
		wg.Go(func() {
			if text, err := post(t.Context(), p, u.url); err != nil || text != "hello" {
				t.Errorf("got %q, %v", text, err)
			}
		})
	}
	wg.Wait()
	// A plan that was made before others may be applied after them, and again.
	direct()
	until(t, p, "nothing open", func(s OriginStats) bool { return s.Open == 0 && s.Dialling == 0 })
	pooled()
	until(t, p, "6 ready", func(s OriginStats) bool { return s.Ready == 6 && s.Open == 6 })
}

func TestAChangeThatMeetsCloseLeavesNothingBehind(t *testing.T) {
	for range 20 {
		v := startTracing(t, 20)
		p := tlsPool(t, v.upstream, nil)
		warm(t, p, v.url)
		until(t, p, "some ready", func(s OriginStats) bool { return s.Ready > 0 })
		direct, two := plan(t, p, toDirect), plan(t, p, toHTTP2)
		var wg sync.WaitGroup
		for i := range 10 {
			wg.Go(func() {
				if _, err := say(t.Context(), p, v.url, fmt.Sprint("call ", i)); err != nil && !errors.Is(err, ErrClosed) {
					t.Error(err)
				}
			})
		}
		wg.Go(direct)
		wg.Go(two)
		wg.Go(func() { p.Close() })
		wg.Wait()
		direct()
		if _, err := say(t.Context(), p, v.url, "late"); !errors.Is(err, ErrClosed) {
			t.Errorf("a call after Close got %v, want ErrClosed", err)
		}
		if s := only(t, p); s.Open != 0 || s.Dialling != 0 || s.Waiting != 0 || p.Holds() != "" {
			t.Errorf("left: %+v", s)
		}
		eventually(t, "the server has no connection left", func() bool { return v.openNow() == 0 })
	}
}

func TestOutdatedIsSaidOfTheFileThatWasRead(t *testing.T) {
	u := startUpstream(t, echo)
	file := filepath.Join(t.TempDir(), "ca.pem")
	copyFile(t, u.caFile, file)
	p := newPool(t, func(c *Config) { c.CAFile = file })
	is := func(want bool, when string) {
		t.Helper()
		if p.Outdated() != want {
			t.Errorf("outdated: %v %s", !want, when)
		}
	}
	is(false, "though nothing changed")
	copyFile(t, u.caFile, file)
	is(false, "though the file holds what it did")
	extend(t, file)
	is(true, "though the file holds more, want")
	apply := plan(t, p, func(*Config) {})
	is(true, "by planning alone")
	apply()
	is(false, "after a reload")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	is(true, "though the file is gone")
	if _, err := p.Plan(&p.cfg); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("got %v; want the file that is gone", err)
	}
	reload(t, p, func(c *Config) { c.CAFile = "" })
	is(false, "without a file")
}

func TestHoldsCountsConnections(t *testing.T) {
	u := startUpstream(t, echo)
	p := tlsPool(t, u, func(c *Config) { c.WarmConnections = 1 })
	if got := p.Holds(); got != "" {
		t.Errorf("holds %q before the first call", got)
	}
	defer warm(t, p, u.url)()
	until(t, p, "1 ready", func(s OriginStats) bool { return s.Ready == 1 })
	if got := p.Holds(); got != "1 connection" {
		t.Errorf("holds %q", got)
	}
	reload(t, p, func(c *Config) { c.WarmConnections = 6 })
	until(t, p, "6 ready", func(s OriginStats) bool { return s.Ready == 6 })
	if got := p.Holds(); got != "6 connections" {
		t.Errorf("holds %q", got)
	}
}

// lower names the counters of s that are below those of before.
func (s OriginStats) lower(before OriginStats) []string {
	var names []string
	for name, pair := range map[string][2]int64{
		"dials": {before.Dials, s.Dials}, "dial failures": {before.DialFailures, s.DialFailures},
		"handshakes": {before.Handshakes, s.Handshakes}, "resumptions": {before.Resumptions, s.Resumptions},
		"resends": {before.Resends, s.Resends}, "waits": {before.Waits, s.Waits}, "cold": {before.Cold, s.Cold},
		"cancelled": {before.Cancelled, s.Cancelled}, "spent": {before.Spent, s.Spent}, "retired": {before.Retired, s.Retired},
	} {
		if pair[1] < pair[0] {
			names = append(names, fmt.Sprint(name, " from ", pair[0], " to ", pair[1]))
		}
	}
	slices.Sort(names)
	return names
}

// anyChange draws a configuration.
func anyChange(pick func(n int) int, files, proxies []string) func(*Config) {
	times := []time.Duration{100 * time.Millisecond, time.Second, time.Minute}
	most := 1 + pick(6)
	cfg := Config{
		Mode: []string{Pooled, Pooled, Direct}[pick(3)], Protocol: []string{HTTP1, HTTP2}[pick(2)],
		MaxConnections: most, WarmConnections: pick(most + 1),
		IdleTimeout: times[pick(3)], MaxAge: times[1+pick(2)], DialTimeout: 10*time.Second + times[pick(3)],
		CAFile: files[pick(len(files))], Proxy: proxies[pick(len(proxies))],
	}
	return func(c *Config) { *c = cfg }
}

// The server counts each call once, whatever is changed under it.
func TestReloadsUnderLoadLoseNoCall(t *testing.T) {
	v := startTracing(t, 20)
	other := filepath.Join(t.TempDir(), "other.pem")
	copyFile(t, v.caFile, other)
	files := []string{v.caFile, other}
	proxies := []string{"", startProxy(t, "http", v.cert).url, startProxy(t, "socks5", v.cert).url}
	seed := uint64(time.Now().UnixNano())
	t.Log("seed", seed)
	random := rand.New(rand.NewPCG(seed, 0))

	p := tlsPool(t, v.upstream, nil)
	release := warm(t, p, v.url)
	var made, mark atomic.Int64 // calls, and the last connection of former terms
	var stop atomic.Bool
	done := make(chan bool)
	var load sync.WaitGroup
	for range 12 {
		load.Go(func() {
			for !stop.Load() {
				former := mark.Load()
				name := fmt.Sprint("call ", made.Add(1))
				text, err := say(t.Context(), p, v.url, name)
				if err != nil || !strings.HasPrefix(text, name+" over ") {
					t.Errorf("got %q, %v", text, err)
				}
				if c := v.connOf(name); err == nil && c <= former {
					t.Errorf("%s came over connection %d, but those up to %d are of former terms", name, c, former)
				}
				select {
				case done <- true:
				default:
				}
			}
		})
	}
	before := only(t, p)
	for i := range 60 {
		for range random.IntN(12) {
			<-done
		}
		if random.IntN(10) == 0 {
			extend(t, other)
		}
		former := p.terms
		apply := plan(t, p, anyChange(random.IntN, files, proxies))
		last := v.conns.Load()
		apply()
		if p.terms.way != former.way {
			mark.Store(last)
		}
		s := only(t, p)
		if lower := s.lower(before); len(lower) > 0 {
			t.Errorf("after %d changes: %v", i+1, lower)
		}
		before = s
	}
	stop.Store(true)
	load.Wait()
	release()
	p.Close()
	v.mu.Lock()
	came, repeated := int64(len(v.came)), v.repeated
	v.mu.Unlock()
	s := only(t, p)
	if came != made.Load() || len(repeated) > 0 || s.DialFailures != 0 || s.Cancelled != 0 {
		t.Errorf("%d calls came of %d that were made, twice %v: %+v", came, made.Load(), repeated, s)
	}
	if s.Open != 0 || s.Dialling != 0 || s.Waiting != 0 {
		t.Errorf("left after Close: %+v", s)
	}
	eventually(t, "the server has no connection left", func() bool { return v.openNow() == 0 })
	t.Logf("%d calls, %d dials, %d resent, %d waited", made.Load(), s.Dials, s.Resends, s.Waits)
}

func TestWhateverIsReloadedTheCountsHold(t *testing.T) {
	property.Few(t, 35)
	t.Setenv("NO_PROXY", "*")
	property.InBubbles(t, func(t *testing.T, r *rapid.T) {
		server := &http.Server{Handler: http.HandlerFunc(slow), IdleTimeout: 5 * time.Second, HTTP2: &http.HTTP2Config{MaxConcurrentStreams: rapid.IntRange(1, 4).Draw(r, "streams")}}
		many := rapid.Bool().Draw(r, "http2")
		var n *pipeNet
		var p *Pool
		origin := pipeOrigin
		if many {
			n, p = twoPool(t, server, nil)
			origin = twoOrigin
		} else {
			server.ReadHeaderTimeout = 8 * time.Second
			n = startPipeNet(t, server)
			p = pipePool(t, n, nil)
		}
		pick := func(n int) int { return rapid.IntRange(0, n-1).Draw(r, "pick") }
		release := warm(t, p, origin)
		o := p.all()[0]
		before := only(t, p)
		var wg sync.WaitGroup
		for range rapid.IntRange(1, 30).Draw(r, "steps") {
			switch rapid.IntRange(0, 7).Draw(r, "step") {
			case 0, 1:
				patience := time.Duration(rapid.IntRange(1, 2000).Draw(r, "patience")) * time.Millisecond
				for range rapid.IntRange(1, 10).Draw(r, "calls") {
					wg.Go(func() {
						ctx, cancel := context.WithTimeout(t.Context(), patience)
						defer cancel()
						post(ctx, p, origin)
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
			default:
				change := anyChange(pick, []string{p.cfg.CAFile}, []string{""})
				reload(t, p, func(c *Config) {
					change(c)
					if many {
						// With HTTP/1.1 both ends close at once, and TLS over a pipe
						// then waits for itself.
						c.Protocol = HTTP2
					}
				})
			}
			synctest.Wait()
			s := only(t, p)
			if lower := s.lower(before); len(lower) > 0 {
				r.Errorf("lower than before: %v", lower)
			}
			before = s
			o.mu.Lock()
			for _, c := range o.stack {
				if c.phase != ready || !c.current() {
					r.Errorf("one on the stack in state %d, current: %v", c.phase, c.current())
				}
			}
			for _, c := range o.shared {
				if c.calls == 0 || c.phase != busy || !c.current() {
					r.Errorf("a shared connection with %d calls in state %d, current: %v", c.calls, c.phase, c.current())
				}
			}
			if o.open < len(o.stack)+len(o.shared) || o.leaving < 0 || o.stale < 0 || o.dialling < 0 || len(o.closing) > 0 || o.retiring < 0 || o.retiring > o.open {
				r.Errorf("%d open, %d on the stack, %d shared, %d retiring, %d leaving, %d and %d dialling, %d closing",
					o.open, len(o.stack), len(o.shared), o.retiring, o.leaving, o.dialling, o.stale, len(o.closing))
			}
			o.mu.Unlock()
		}
		wg.Wait()
		n.dial.Store(nil)
		reload(t, p, func(c *Config) { c.Mode, c.IdleTimeout, c.MaxAge = Pooled, 20*time.Second, time.Hour })
		time.Sleep(30 * time.Second)
		for only(t, p).Dialling > 0 { // the server may close one at this moment, before its limit is known
			time.Sleep(50 * time.Millisecond)
		}
		if s := only(t, p); s.InUse != 0 || s.Waiting != 0 || s.Ready < p.cfg.WarmConnections || s.Open > p.cfg.MaxConnections+1 || s.Open != n.openNow() {
			r.Fatalf("at rest, with %d open: %+v", n.openNow(), s)
		}
		release()
		time.Sleep(time.Minute)
		if s := only(t, p); s.Open != 0 || s.Dialling != 0 || n.openNow() != 0 {
			r.Fatalf("after release, with %d open: %+v", n.openNow(), s)
		}
		p.Close()
		n.closeAll()
	})
}
