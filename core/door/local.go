package door

import (
	"context"
	"errors"
	"net"
	"net/http"
	"slices"

	"go.uber.org/zap"
)

// Local serves the admin door on ln, without a key, until the server ends: who can
// reach ln, a socket in a folder of this user's, is the gateway's user or root. It
// returns at once. Who closes ln ends it for new calls; ln is closed when the server
// ends, or has ended already.
func (s *Server) Local(ln net.Listener) {
	admin := s.o.Admin
	server := &http.Server{
		Handler: &guard{
			next: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/healthz" || r.URL.Path == "/readyz" {
					s.health(w, r)
					return
				}
				admin.ServeHTTP(w, r)
			}),
			service: s.o.Service, deadline: s.o.Config.Deadline, journal: s.journal, metrics: s.o.Metrics,
		},
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       slowBody + s.o.Config.Deadline,
		WriteTimeout:      writeTimeout(s.o.Config.Deadline),
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          zap.NewStdLog(s.o.Log),
		BaseContext:       func(net.Listener) context.Context { return s.ctx },
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
