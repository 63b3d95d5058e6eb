package door

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/dragoman-mt/dragoman/core"
)

// Options are what a Server is made of.
type Options struct {
	// Config has passed Check, and is what Service was made with.
	Config  Config
	Service *Service
	// Handed are listening sockets that the process was started with, by the key of Config in
	// whose place they are, "listen" or "admin": the values of these keys are their addresses.
	// The server closes none of them, and leaves in them whoever connects while it stops.
	Handed map[string]*os.File
	// Doors answers everything that is not of the admin door. When it is of the type
	// Doors, each dialect says how its calls are turned away.
	Doors http.Handler
	// Admin answers /healthz, /readyz, /metrics, the page at / and what is below /admin/, but for what
	// tries names. It is served where
	// Config.AdminPlace says, to operators, and by Local; what isHealth names is public, and
	// so is, where Admin is served, what is below OpenPath.
	Admin http.Handler
	// Refuse answers a call that Admin is not for; nil is WriteError.
	Refuse  func(http.ResponseWriter, *http.Request, error)
	Metrics *Metrics
	Log     *zap.Logger
}

// A Server listens, serves, and drains. Listen, then Serve, once each. Its
// addresses stay those of Options; everything else that it was told changes with
// Plan.
type Server struct {
	o       Options
	journal *Journal
	public  listening
	admin   listening // nothing unless Config.Admin is set

	localLock sync.Mutex
	local     []listening // of Local
	locals    sync.WaitGroup
	ended     bool

	ctx      context.Context         // of every call
	end      context.CancelCauseFunc // of every call in flight
	draining atomic.Bool
	calls    atomic.Int64  // of the doors, in flight
	early    atomic.Int64  // of those, the ones that came before draining
	idle     chan struct{} // told when calls has come to 0 while draining
	began    time.Time
	last     atomic.Int64 // when the doors were last busy, in nanoseconds since began
}

// A listening is one address with what serves it.
type listening struct {
	listener net.Listener // a *listener, but in tests
	server   *http.Server
}

// NewServer returns a server that does not listen yet.
func NewServer(o Options) *Server {
	o.Service.strangers.tell(o.Log)
	return &Server{o: o, journal: NewJournal(o.Log), idle: make(chan struct{}, 1), began: time.Now()}
}

// Bounds of a connection. A body may take as long as slowBody; keep-alive
// outlives that of the usual clients, so that it is they who close.
const (
	headerTimeout = 10 * time.Second
	slowBody      = 20 * time.Second
	idleTimeout   = 75 * time.Second
	maxHeader     = 16 << 10
)

// writeTimeout is counted from the head of a request to its answer.
func writeTimeout(deadline time.Duration) time.Duration { return slowBody + deadline + headerTimeout }

// Listen opens the listeners. The error is one line that says what to do.
func (s *Server) Listen() error {
	ctx, end := context.WithCancelCause(context.Background())
	s.ctx, s.end = ctx, end
	own := s.o.Config.AdminPlace() == AdminOwn
	if err := s.open(ctx, &s.public, "listen", s.o.Config.Listen, s.publicHandler()); err != nil {
		return err
	}
	if !own {
		return nil
	}
	if err := s.open(ctx, &s.admin, "admin", s.o.Config.Admin, s.adminHandler()); err != nil {
		s.public.listener.Close()
		return err
	}
	return nil
}

func (s *Server) open(ctx context.Context, l *listening, key, addr string, handler http.Handler) error {
	ln, err := listen(addr, s.o.Handed[key], s.busy)
	if err != nil {
		return &Fault{key, cannotListen("server."+key, addr, err)}
	}
	if loopback(addr) && !loopback(ln.Addr().String()) {
		ln.Close()
		return &Fault{key, fmt.Sprintf("%s means %s on this machine, which is beyond loopback; write 127.0.0.1", addr, ln.Addr())}
	}
	// A warning is the most that net/http has to say: a client's TLS or header
	// trouble, a write after the answer.
	errorLog, err := zap.NewStdLogAt(s.o.Log, zap.WarnLevel)
	if err != nil {
		ln.Close()
		return err
	}
	l.listener = ln
	var doors Doors
	if l == &s.public {
		doors, _ = s.o.Doors.(Doors)
	}
	l.server = &http.Server{
		ConnState: ln.became,
		Handler: &guard{
			next: handler, doors: doors, service: s.o.Service, private: loopback(addr), deadline: s.o.Config.Deadline,
			journal: s.journal, metrics: s.o.Metrics,
		},
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       slowBody + s.o.Config.Deadline, // net/http ends it with the body
		WriteTimeout:      writeTimeout(s.o.Config.Deadline),
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          errorLog,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		// `OPTIONS *` goes the way of every other call.
		DisableGeneralOptionsHandler: true,
	}
	// Clients that do nothing keep nobody away, least of all an operator: when there is
	// no descriptor for another connection, those that wait for a call are closed, as
	// every server may.
	ln.room = func() {
		l.server.SetKeepAlivesEnabled(false)
		l.server.SetKeepAlivesEnabled(true)
	}
	return nil
}

// cannotListen says why addr, the value of key, cannot be listened on, and what
// to do.
func cannotListen(key, addr string, err error) string {
	_, port, _ := net.SplitHostPort(addr)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return addr + " is in use by another program; stop that one, or listen elsewhere: --set " + key + "=127.0.0.1:0 takes a free port"
	case errors.Is(err, syscall.EACCES):
		return "this user may not listen on port " + port + "; take a port above 1023"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return addr + " is no address of this machine; 127.0.0.1 is one, 0.0.0.0 is all of them"
	}
	return fmt.Sprintf("cannot listen on %s: %v", addr, err)
}

// publicHandler serves the doors, whether the gateway lives and is ready, and
// the admin door, for whom it is, when it has no listener of its own.
func (s *Server) publicHandler() http.Handler {
	own := s.o.Config.AdminPlace() == AdminOwn
	admin := s.forOperators(false)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.draining.Load() {
			// The client hears with this answer that the connection ends, so it
			// sends no other call over it that would meet its end.
			w.Header().Set("Connection", "close")
		}
		switch path := r.URL.Path; {
		case isHealth(path):
			s.health(w, r)
		case !own && (path == "/metrics" || strings.HasPrefix(path+"/", "/admin/") || asksForPage(r)):
			admin.ServeHTTP(w, r)
		default:
			s.door(w, r)
		}
	})
}

// adminHandler serves the admin door on a listener of its own.
func (s *Server) adminHandler() http.Handler {
	admin := s.forOperators(true)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if isHealth(r.URL.Path) {
			s.health(w, r)
			return
		}
		admin.ServeHTTP(w, r)
	})
}

// OpenPath is where the admin door has what everybody may see who reaches it: how its page
// looks, and how to sign in.
const OpenPath = "/admin/open/"

// asksForPage says whether a browser asks for the page at /. Clients of the doors ask there
// for no HTML.
func asksForPage(r *http.Request) bool {
	return r.URL.Path == "/" && (r.Method == http.MethodGet || r.Method == http.MethodHead) && strings.Contains(r.Header.Get("Accept"), "text/html")
}

// isHealth says whether path is public everywhere. Clusters and platforms have several names
// for whether a process lives, and LibreTranslate's clients ask for /health as well.
func isHealth(path string) bool {
	switch path {
	case "/healthz", "/livez", "/health", "/readyz":
		return true
	}
	return false
}

// health answers what is public everywhere.
func (s *Server) health(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/readyz" && s.draining.Load() {
		WriteError(w, r, stopping())
		return
	}
	s.o.Admin.ServeHTTP(w, r)
}

// door counts the calls in flight.
func (s *Server) door(w http.ResponseWriter, r *http.Request) {
	s.calls.Add(1)
	early := !s.draining.Load()
	if early {
		s.early.Add(1)
	}
	s.o.Metrics.inFlight.Inc()
	defer func() {
		s.o.Metrics.inFlight.Dec()
		s.calls.Add(-1)
		if early {
			s.early.Add(-1)
		}
		s.busy()
	}()
	s.o.Doors.ServeHTTP(w, r)
}

// busy notes that somebody has connected, or that a call or its connection has
// ended.
func (s *Server) busy() {
	s.last.Store(int64(time.Since(s.began)))
	if s.draining.Load() {
		select {
		case s.idle <- struct{}{}:
		default:
		}
	}
}

func stopping() error { return errStopping }

// errStopping is one, so that whoever answers can tell it apart.
var errStopping = &core.Error{Kind: core.Unavailable, Stage: "door", Detail: "the gateway is stopping", Retryable: true}

// forOperators serves the admin door to whom mayOperate lets in.
func (s *Server) forOperators(own bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, OpenPath) && s.o.Config.AdminPlace() != AdminOff {
			s.o.Admin.ServeHTTP(w, r)
			return
		}
		if err := s.o.Service.Rules().mayOperate(r, own); err != nil {
			s.journal.Failed(RequestID(w, r), err)
			if s.o.Refuse != nil {
				s.o.Refuse(w, r, err)
			} else {
				WriteError(w, r, err)
			}
			return
		}
		if tries(r.URL.Path) {
			s.try(w, r)
			return
		}
		s.o.Admin.ServeHTTP(w, r)
	})
}

// Addr returns the address that the doors listen on, with the port chosen.
func (s *Server) Addr() string { return s.public.listener.Addr().String() }

// AdminAddr returns the address that serves /metrics and /admin/ over TCP; empty
// when none does.
func (s *Server) AdminAddr() string {
	switch s.o.Config.AdminPlace() {
	case AdminOwn:
		return s.admin.listener.Addr().String()
	case AdminPublic:
		return s.Addr()
	}
	return ""
}

// Close frees the listeners of a server that will not serve.
func (s *Server) Close() {
	for _, l := range []*listening{&s.public, &s.admin} {
		if l.server != nil {
			l.server.Close()
			l.listener.Close()
		}
	}
	if s.end != nil {
		s.end(nil)
	}
	past, cancel := context.WithCancel(context.Background())
	cancel()
	s.endLocal(past)
}

// Serve serves until ctx ends, and then drains: /readyz answers 503 while calls
// in flight, and those that still come, go on; once none is left, or after half
// of drain_timeout, nothing new is taken; at its end whatever is left is ended.
// It returns nil after that, and otherwise why it could not serve.
func (s *Server) Serve(ctx context.Context) error {
	failed := make(chan error, 2)
	var running sync.WaitGroup
	for _, l := range []*listening{&s.public, &s.admin} {
		if l.server != nil {
			running.Go(func() {
				if err := l.server.Serve(l.listener); !errors.Is(err, http.ErrServerClosed) {
					failed <- err
				}
			})
		}
	}
	var err error
	select {
	case <-ctx.Done():
		s.drain()
	case err = <-failed:
	}
	s.Close()
	running.Wait()
	return err
}

func (s *Server) drain() {
	begin, timeout := time.Now(), s.o.Service.Rules().DrainTimeout
	end := begin.Add(timeout + cutting)
	ctx, cancel := context.WithDeadline(context.Background(), begin.Add(timeout))
	defer cancel()
	s.draining.Store(true)
	s.o.Service.stop()
	s.o.Log.Info("stopping", zap.Int64("in_flight", s.calls.Load()), zap.Duration("drain_timeout", timeout))
	// Listening goes on, so that whoever routes calls here sees /readyz and turns
	// elsewhere. With calls that never stop coming, the second half of the time is
	// for those in flight.
	lame, cancel := context.WithDeadline(context.Background(), begin.Add(timeout/2))
	defer cancel()
	l, ok := s.public.listener.(*listener)
	handed := ok && l.handed
	if handed {
		// Whoever connects to a socket that stays open is answered by the next process, and
		// waits for it as long as this one takes. So it is left alone once the calls that a
		// next one could not answer are over, and who keeps a connection had time to hear
		// with an answer that it ends.
		s.quiet(lame, settle, func() bool { return time.Since(begin) >= settle && s.early.Load() == 0 })
	} else {
		s.quiet(lame, settle, nil)
	}
	// A server that shuts down drops the calls that it reads from then on, so those
	// of the last connections are waited for, also of one that has sent nothing yet.
	aside := aside
	if handed {
		aside = settle
	}
	if ok {
		l.end()
		s.quiet(ctx, aside, func() bool { return l.owed.Load() == 0 })
	}
	left := int64(0)
	if !s.shutdown(ctx, aside) {
		left = s.calls.Load()
		s.end(stopping())
	}
	// What was ended answers at once; what does not is cut. Whoever looks, through
	// the admin door, is told that it ends.
	last, cancel := context.WithDeadline(context.Background(), sooner(time.Now().Add(aside), end))
	defer cancel()
	if left > 0 {
		s.shutdown(last, aside)
	}
	if s.admin.server != nil {
		s.admin.server.Shutdown(last)
	}
	s.endLocal(last)
	s.o.Log.Info("stopped", zap.Int64("ended", left), zap.Duration("took", time.Since(begin)))
}

// aside is how long what is no call may hinder the end: a scrape that nobody
// reads, a head of which half has come.
const aside = time.Second

// cutting is how long after drain_timeout connections may still hinder the end:
// the process is to end within a second of it.
const cutting = 400 * time.Millisecond

func sooner(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// settle is how long the doors have nothing to do before the connections that
// clients keep are closed. While calls come, each answer tells its client that the
// connection ends with it; a connection that is closed without that
// may have the next call on its way.
const settle = 250 * time.Millisecond

// quiet returns when no call is in flight, and none has been for as long as
// settled, or over says that nobody is owed anything, or when ctx is done.
func (s *Server) quiet(ctx context.Context, settled time.Duration, over func() bool) {
	for ctx.Err() == nil && (over == nil || !over()) {
		wait := settled - (time.Since(s.began) - time.Duration(s.last.Load()))
		if s.calls.Load() == 0 && wait <= 0 {
			return
		}
		var enough <-chan time.Time
		if s.calls.Load() == 0 {
			timer := time.NewTimer(wait)
			defer timer.Stop()
			enough = timer.C
		}
		select {
		case <-s.idle:
		case <-enough:
		case <-ctx.Done():
		}
	}
}

// shutdown takes nothing new, and returns when no connection carries anything
// any more, or no call has been in flight for a while: true; or when ctx is
// done. Connections that carry no call may hinder it for as long as aside. Of a
// connection that a call took over, as a WebSocket does, net/http knows nothing any
// more, but the call is one.
func (s *Server) shutdown(ctx context.Context, aside time.Duration) bool {
	for {
		quiet := s.calls.Load() == 0
		wait, cancel := context.WithTimeout(ctx, aside)
		err := s.public.server.Shutdown(wait)
		cancel()
		none := s.calls.Load() == 0
		switch {
		case none && (err == nil || quiet && ctx.Err() == nil):
			return true
		case ctx.Err() != nil:
			return false
		case err == nil:
			s.quiet(ctx, 0, nil)
		}
	}
}

// URL returns addr as a client on this machine would write it.
func URL(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "http://" + addr
	}
	if host == "" || host == "0.0.0.0" || host == "::" {
		host = "127.0.0.1"
	}
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return "http://" + host + ":" + port
}
