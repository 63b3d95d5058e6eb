package door

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"
)

// streams serves f with a stream, on a server whose own deadline for writing
// has always passed.
func streams(t *testing.T, patience time.Duration, f func(*Stream)) *httptest.Server {
	t.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f(NewStream(w, patience))
	}))
	server.Config.WriteTimeout = 1
	server.Start()
	t.Cleanup(server.Close)
	return server
}

func TestAStreamOutlivesTheServersDeadlineForWriting(t *testing.T) {
	large := "data: " + strings.Repeat("x", 5*piece) + "\n\n"
	server := streams(t, Patience, func(s *Stream) {
		if err := s.Comment(); err != nil || s.Begun() {
			t.Errorf("a comment began the stream: %v", err)
		}
		for _, events := range []string{"data: 1\n\n", large} {
			if err := s.Send([]byte(events)); err != nil || !s.Begun() {
				t.Error(err)
			}
		}
		if err := s.Comment(); err != nil {
			t.Error(err)
		}
	})
	res, err := server.Client().Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	got, err := io.ReadAll(res.Body)
	if want := "data: 1\n\n" + large + ":\n\n"; err != nil || string(got) != want {
		t.Errorf("%d bytes, %v; want %d", len(got), err, len(want))
	}
}

func TestAStreamGivesUpAClientThatLeavesNoRoom(t *testing.T) {
	gaveUp := make(chan error, 1)
	server := streams(t, 100*time.Millisecond, func(s *Stream) {
		events := []byte("data: " + strings.Repeat("x", 1<<20) + "\n\n")
		for {
			if err := s.Send(events); err != nil {
				gaveUp <- err
				return
			}
		}
	})
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
	if err := <-gaveUp; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%v, want %v", err, os.ErrDeadlineExceeded)
	}
}
