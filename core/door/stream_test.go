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
	"testing/synctest"
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

// A slowReader is a client to which each write takes as long as it has bytes.
type slowReader struct {
	*httptest.ResponseRecorder
	perByte  time.Duration
	deadline time.Time
}

func (s *slowReader) SetWriteDeadline(at time.Time) error { s.deadline = at; return nil }

func (s *slowReader) Write(b []byte) (int, error) {
	time.Sleep(time.Duration(len(b)) * s.perByte)
	if time.Now().After(s.deadline) {
		return 0, os.ErrDeadlineExceeded
	}
	return s.ResponseRecorder.Write(b)
}

func TestAClientMayReadALongStreamAsSlowlyAsAPieceInItsTime(t *testing.T) {
	events := []byte("data: " + strings.Repeat("x", 50*piece) + "\n\n")
	for perByte, want := range map[time.Duration]error{Patience / piece: nil, Patience/piece + 1: os.ErrDeadlineExceeded} {
		synctest.Test(t, func(t *testing.T) {
			client := &slowReader{ResponseRecorder: httptest.NewRecorder(), perByte: perByte}
			s := NewStream(client, Patience)
			for range 2 {
				if err := s.Send(events); err != want {
					t.Fatalf("%v a byte: %v, want %v", perByte, err, want)
				}
			}
			if want == nil && client.Body.Len() != 2*len(events) {
				t.Errorf("%d bytes, want %d", client.Body.Len(), 2*len(events))
			}
		})
	}
}
