package openaitest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// A Server is one that runs. Its methods may be called from any goroutine.
type Server struct {
	url     string
	ca      []byte
	key     uint64 // the seed of every choice
	keys    map[string]bool
	current atomic.Pointer[Config]
	http    *http.Server
	ctx     context.Context // over when the server closes
	stop    context.CancelFunc
	running sync.WaitGroup // the accept loop and every connection
	closing sync.Once

	mu       sync.Mutex // guards what follows, and changes of current
	schedule []Step
	accepts  int64 // connections so far
	chats    int64 // chat requests so far
	conns    map[*conn]struct{}
	requests bucket
	tokens   bucket
	stats    counters
	settled  chan struct{} // closed when InFlight falls to 0; a new one each time
}

// Bounds of what a client may send.
const (
	maxBody   = 8 << 20
	maxHeader = 64 << 10
)

// Start runs a server until Close.
func Start(cfg Config) (*Server, error) {
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("openaitest: %w", err)
	}
	if cfg.Listen == "" {
		cfg.Listen = "127.0.0.1:0"
	}
	if cfg.Engine == nil {
		cfg.Engine = Pseudo{}
	}
	s := &Server{key: cfg.Seed, keys: map[string]bool{}, conns: map[*conn]struct{}{}, settled: make(chan struct{})}
	for _, k := range cfg.Keys {
		s.keys[k] = true
	}
	s.schedule, cfg.Schedule = cfg.Schedule, nil
	s.current.Store(&cfg)

	var cert tls.Certificate
	if cfg.TLS {
		var err error
		if cert, s.ca, err = newCertificate(time.Now()); err != nil {
			return nil, fmt.Errorf("openaitest: make a certificate: %w", err)
		}
	}
	ln, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		return nil, err
	}
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.http = &http.Server{
		Handler:           s.handler(),
		MaxHeaderBytes:    maxHeader,
		ReadHeaderTimeout: time.Minute,
		ErrorLog:          log.New(io.Discard, "", 0),
		ConnState:         s.connState,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, connOf(c))
		},
		TLSConfig: &tls.Config{
			Certificates: []tls.Certificate{cert},
			VerifyConnection: func(state tls.ConnectionState) error {
				s.countHandshake(state.DidResume)
				return nil
			},
		},
	}
	scheme, serve := "http", s.http.Serve
	if cfg.TLS {
		scheme = "https"
		serve = func(l net.Listener) error { return s.http.ServeTLS(l, "", "") }
	}
	s.url = scheme + "://" + ln.Addr().String() + "/v1"
	s.running.Go(func() { serve(&listener{ln, s}) })
	return s, nil
}

// URL is the base URL that clients are configured with:
// "https://127.0.0.1:port/v1".
func (s *Server) URL() string { return s.url }

// CA returns the certificate of the CA that signed the server's own, as PEM;
// nil without TLS.
func (s *Server) CA() []byte { return s.ca }

// Configure changes the server's behaviour from the next request on; RTT from
// the next connection on. When change leaves something that cannot be obeyed,
// nothing changes.
func (s *Server) Configure(change func(*Config)) error {
	return s.configure(func(c *Config) error { change(c); return nil })
}

func (s *Server) configure(change func(*Config) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	cfg := s.config().clone()
	cfg.Schedule = append([]Step(nil), s.schedule...)
	if err := change(&cfg); err != nil {
		return err
	}
	if err := cfg.check(); err != nil {
		return err
	}
	old := s.config()
	cfg.Listen, cfg.TLS, cfg.Seed, cfg.Keys = old.Listen, old.TLS, old.Seed, old.Keys
	cfg.Engine, cfg.Log, cfg.Observe, cfg.Ended = old.Engine, old.Log, old.Observe, old.Ended
	s.schedule, cfg.Schedule = cfg.Schedule, nil
	s.current.Store(&cfg)
	return nil
}

// FailNext makes the next n chat requests meet the fault kind, after those
// that were asked for before; kind "" is no fault. It panics on a kind that
// does not exist, since that is a defect of the test.
func (s *Server) FailNext(n int, kind string) {
	err := s.Configure(func(c *Config) { c.Schedule = append(c.Schedule, Step{kind, n}) })
	if err != nil {
		panic("openaitest: FailNext: " + err.Error())
	}
}

// CloseIdle closes the connections that carry no request at the moment, as a
// server does that restarts, and returns how many there were.
func (s *Server) CloseIdle() int {
	s.mu.Lock()
	var idle []net.Conn
	for c := range s.conns {
		if !c.active {
			idle = append(idle, c.outer)
		}
	}
	s.mu.Unlock()
	for _, c := range idle {
		c.Close()
	}
	return len(idle)
}

// Close ends every connection and returns when nothing of the server runs any
// more.
func (s *Server) Close() error {
	var err error
	s.closing.Do(func() {
		s.stop()
		err = s.http.Close()
		s.mu.Lock()
		for c := range s.conns {
			c.idle.Stop()
			c.Close()
		}
		s.mu.Unlock()
	})
	s.running.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// config is what holds now. It is never changed in place.
func (s *Server) config() *Config { return s.current.Load() }
