package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// A load is a closed loop: each of a fixed number of keep-alive connections
// sends the next request when it has read the answer to the last. It writes
// requests by itself and reads answers with net/http, which costs a fraction of
// an http.Client: the less the generator takes of the machine, the more a
// comparison says about the programs compared.
type load struct {
	host  string
	path  string
	conns []net.Conn
	in    []*bufio.Reader
	body  func(n int64, b []byte) []byte // appends the n-th request's body to b
	sent  atomic.Int64
}

// translatePath is that of the native door.
const translatePath = "/v1/translate"

// newLoad connects to the server at base. What body appends to its second
// argument is the body of request n, counted from 0 over the life of the load.
func newLoad(c *closers, base, path string, connections int, body func(n int64, b []byte) []byte) (*load, error) {
	u, err := url.Parse(base)
	if err != nil {
		return nil, err
	}
	l := &load{host: u.Host, path: path, body: body}
	for range connections {
		conn, err := net.Dial("tcp", u.Host)
		if err != nil {
			return nil, err
		}
		c.add(func() { conn.Close() })
		l.conns = append(l.conns, conn)
		l.in = append(l.in, bufio.NewReader(conn))
	}
	return l, nil
}

// sample is what a number of requests took.
type sample struct {
	wall  time.Duration
	calls []float64 // each call, in ms, in no order
}

func (s sample) rate() float64 { return float64(len(s.calls)) / s.wall.Seconds() }

// run makes n calls. Any status but 200 is an error.
func (l *load) run(ctx context.Context, n int) (sample, error) {
	first := l.sent.Add(int64(n)) - int64(n)
	var next atomic.Int64
	var all sync.WaitGroup
	var mu sync.Mutex
	var failed error
	took := make([]float64, n)
	begin := time.Now()
	for i := range l.conns {
		all.Go(func() {
			w := worker{load: l, conn: l.conns[i], in: l.in[i]}
			for {
				k := next.Add(1) - 1
				if k >= int64(n) {
					return
				}
				at := time.Now()
				err := w.call(first + k)
				took[k] = float64(time.Since(at)) / float64(time.Millisecond)
				if err == nil {
					err = context.Cause(ctx)
				}
				if err != nil {
					mu.Lock()
					failed = err
					mu.Unlock()
					next.Store(int64(n))
					return
				}
			}
		})
	}
	all.Wait()
	return sample{time.Since(begin), took}, failed
}

// A worker is one connection at work.
type worker struct {
	load *load
	conn net.Conn
	in   *bufio.Reader
	body []byte
	out  []byte
}

func (w *worker) call(n int64) error {
	w.body = w.load.body(n, w.body[:0])
	w.out = append(w.out[:0], "POST "...)
	w.out = append(w.out, w.load.path...)
	w.out = append(w.out, " HTTP/1.1\r\nHost: "...)
	w.out = append(w.out, w.load.host...)
	w.out = append(w.out, "\r\nContent-Type: application/json\r\nContent-Length: "...)
	w.out = strconv.AppendInt(w.out, int64(len(w.body)), 10)
	w.out = append(w.out, "\r\n\r\n"...)
	w.out = append(w.out, w.body...)
	if _, err := w.conn.Write(w.out); err != nil {
		return err
	}
	resp, err := http.ReadResponse(w.in, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		said, _ := io.ReadAll(io.LimitReader(resp.Body, 300))
		return fmt.Errorf("status %d: %s", resp.StatusCode, said)
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

// appendText appends the n-th of the texts, each of 62 characters. Two numbers
// give two texts.
func appendText(b []byte, n int64) []byte {
	b = append(b, "The train number "...)
	begin := len(b)
	b = strconv.AppendInt(b, n, 10)
	for len(b)-begin < 10 {
		b = append(b, ' ', 'x')
	}
	b = b[:begin+10]
	return append(b, " leaves platform 3 at 7.45 in snow."...)
}

// appendRequest appends the call for the n-th text, as the native door takes
// it.
func appendRequest(b []byte, n int64) []byte {
	b = append(b, `{"text":"`...)
	b = appendText(b, n)
	return append(b, `","source":"en","target":"es"}`...)
}
