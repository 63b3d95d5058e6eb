package native_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
	"time"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/door"
)

// The hit path over HTTP, and a bare handler that decodes and encodes the same
// JSON: what the door costs is the ratio of the two. The client is as lean as
// it gets, since it shares the processor.

const benchBody = `{"text": "The meeting begins at nine o'clock in the large room upstairs.", "source": "en", "target": "es"}`

var benchResult = &core.Result{
	Text: "La reunión empieza a las nueve en la sala grande de arriba.", Provider: "openai", Model: "gpt-5.4-nano", Cached: true,
}

func BenchmarkBareHandler(b *testing.B) {
	type request struct {
		Text, Source, Target string
	}
	type translation struct {
		Text     string   `json:"text"`
		Target   string   `json:"target"`
		Provider string   `json:"provider"`
		Model    string   `json:"model"`
		Cached   bool     `json:"cached"`
		Flags    []string `json:"flags"`
	}
	type timing struct {
		TotalMS  float64            `json:"total_ms"`
		Stages   map[string]float64 `json:"stages"`
		PacedMS  float64            `json:"paced_ms"`
		Attempts int                `json:"attempts"`
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var in request
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("X-Request-Id", "0123456789abcdef")
		json.NewEncoder(w).Encode(struct {
			Translations []translation `json:"translations"`
			RequestID    string        `json:"request_id"`
			Timing       timing        `json:"timing"`
		}{
			[]translation{{benchResult.Text, in.Target, benchResult.Provider, benchResult.Model, true, []string{}}},
			"0123456789abcdef", timing{TotalMS: 0.012, Stages: map[string]float64{"cache": 0.011}},
		})
	}))
	defer s.Close()
	ask(b, s.Listener.Addr().String())
}

func BenchmarkDoor(b *testing.B) {
	instant := core.TranslatorFunc(func(_ context.Context, req *core.Request) (*core.Result, error) {
		req.Trace.Add("cache", 11*time.Microsecond)
		return benchResult, nil
	})
	g := serve(b, door.Defaults(), instant)
	ask(b, g.addr)
}

// ask sends the same call over and over, from five connections a processor.
func ask(b *testing.B, addr string) {
	call := []byte("POST /v1/translate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: " +
		strconv.Itoa(len(benchBody)) + "\r\n\r\n" + benchBody)
	b.SetParallelism(5)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			b.Error(err)
			return
		}
		defer conn.Close()
		in := bufio.NewReader(conn)
		for pb.Next() {
			if _, err := conn.Write(call); err != nil {
				b.Error(err)
				return
			}
			res, err := http.ReadResponse(in, nil)
			if err != nil || res.StatusCode != http.StatusOK {
				b.Error(res, err)
				return
			}
			if _, err := io.Copy(io.Discard, res.Body); err != nil {
				b.Error(err)
				return
			}
		}
	})
}
