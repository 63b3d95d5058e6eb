package door

import (
	"context"
	"errors"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
)

// Local serves the admin door on ln, and what is below /v1/ as the doors do, without a key,
// until the server ends: who can reach ln, a socket in a folder of this user's, is the
// gateway's user or root. Whom it translates for is CommandLine, and may take localDeadline,
// as nobody waits in front of a file. It returns at once. Who closes ln ends it for new calls; ln is closed when the server
// ends, or has ended already.
func (s *Server) Local(ln net.Listener) {
	admin := s.o.Admin
	server := &http.Server{
		Handler: &guard{
			next: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if isHealth(r.URL.Path) {
					s.health(w, r)
					return
				}
				if strings.HasPrefix(r.URL.Path, "/v1/") && s.o.Doors != nil {
					s.o.Doors.ServeHTTP(w, r)
					return
				}
				admin.ServeHTTP(w, r)
			}),
			service: s.o.Service, deadline: localDeadline, journal: s.journal, metrics: s.o.Metrics,
		},
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       slowBody + localDeadline,
		WriteTimeout:      writeTimeout(localDeadline),
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          zap.NewStdLog(s.o.Log),
		BaseContext:       func(net.Listener) context.Context { return context.WithValue(s.ctx, localKey{}, true) },
	}
	s.localLock.Lock()
	defer s.localLock.Unlock()
	if s.ended {
		ln.Close()
		return
	}
	s.local = append(s.local, listening{ln, server})
	s.locals.Go(func() {
		if err := server.Serve(ln); !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
			s.o.Log.Warn("this user's commands are not heard any more", zap.Error(err))
		}
		s.localLock.Lock()
		defer s.localLock.Unlock()
		s.local = slices.DeleteFunc(s.local, func(l listening) bool { return l.server == server && !s.ended })
	})
}

// CommandLine is the client of a call that came by the socket of this user's commands. No key
// has that name, for a name has no blank.
const CommandLine = "command line"

// localDeadline is how long a call of this user's commands may take.
const localDeadline = 2 * time.Minute

type localKey struct{}

// isLocal says whether a call came by the socket of this user's commands.
func isLocal(call *http.Request) bool { return call.Context().Value(localKey{}) != nil }

// LingerOf is how long the work for a call goes on after its client has left: one of this
// user's commands that was killed is started again, and finds what it had asked for.
func LingerOf(call *http.Request) time.Duration {
	if isLocal(call) {
		return localDeadline
	}
	return 0
}

// For returns the rules that hold for a call: r, with more time for this user's commands.
func (r *Rules) For(call *http.Request) *Rules {
	if !isLocal(call) {
		return r
	}
	return r.Within(max(r.Deadline, localDeadline))
}

// endLocal ends what Local began. Whoever looks is told, as long as ctx allows.
func (s *Server) endLocal(ctx context.Context) {
	s.localLock.Lock()
	s.ended = true
	all := s.local
	s.localLock.Unlock()
	for _, l := range all {
		l.server.Shutdown(ctx)
		l.server.Close()
	}
	s.locals.Wait()
}
