package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"
)

// chatRows measure chats that pass through the door for OpenAI's clients.
func chatRows() []row {
	return []row{
		{
			name: "chat", doc: "chats a second that pass to the upstream, 10 at a time, against httputil.ReverseProxy",
			bars: []bar{{what: "gateway / ReverseProxy", unit: "x", limit: 0.9, least: true}, {what: "processor time, gateway / ReverseProxy", unit: "x", limit: 1.2}},
			open: openChat,
		},
		{
			name: "chat-stream", doc: "chats that are streamed, against the upstream without a gateway and against httputil.ReverseProxy, one at a time; then 500 at once",
			// On two cores a bare proxy alone adds more than a millisecond at p99: the ratio says what is the gateway's.
			bars: []bar{{what: "p99 time to the first token, added", unit: "ms", limit: 1}, {what: "p99 time to the first token, gateway / ReverseProxy", unit: "x", limit: 1.25}, {what: "500 streams: those that stalled for a second or lack an event", unit: "", limit: 0, worst: true}},
			open: openChatStream,
		},
	}
}

const chatPath = "/v1/chat/completions"

// appendChat appends the n-th chat, as clients that translate send it.
func appendChat(b []byte, n int64, streamed bool) []byte {
	b = append(b, `{"model":"gpt-4o-mini","messages":[{"role":"system","content":"You are a professional translator. Translate the text from English to Spanish. Output the translation only."},{"role":"user","content":"`...)
	b = appendText(b, n)
	b = append(b, `"}],"temperature":1,"stream":`...)
	return append(strconv.AppendBool(b, streamed), '}')
}

func openChat(ctx context.Context, s *lab, c *closers) (round, error) {
	up, err := s.role(ctx, c, "upstream")
	if err != nil {
		return nil, err
	}
	g, err := s.subject(ctx, c, up.url+"/v1", "", unlimited...)
	if err != nil {
		return nil, err
	}
	p, err := s.role(ctx, c, "proxy", up.url)
	if err != nil {
		return nil, err
	}
	play, err := inTurn(ctx, c, g.child, p, atATime, chatPath, func(n int64, b []byte) []byte { return appendChat(b, n, false) })
	if err == nil {
		c.add(s.record(g.child, "chat"))
	}
	return play, err
}

const (
	streams      = 500 // at once
	streamEvents = 20  // of each
	streamPause  = 50 * time.Millisecond
	streamTurn   = 1000 // one at a time: fewer have no 99th percentile worth the name
	// streamThought is how long the second token of a quick stream is in coming: a model
	// takes some milliseconds for each, and what it sends meanwhile would contend with the
	// first for the same two cores.
	streamThought = 5 * time.Millisecond
)

// streaming is the role of an upstream whose answers are streams: the first token at
// once, and another every streamPause, or all others after streamThought.
func streaming(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet {
		upstream(w, r)
		return
	}
	body, _ := io.ReadAll(r.Body)
	pause := streamPause
	if bytes.Contains(body, []byte(`"x-quick"`)) {
		pause = 0
	}
	w.Header().Set("Content-Type", "text/event-stream")
	event := func(choices string) {
		fmt.Fprintf(w, `data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1741569952,"model":"gpt-5.4-nano","choices":[%s],"usage":null}`+"\n\n", choices)
		w.(http.Flusher).Flush()
	}
	for i := range streamEvents {
		switch {
		case i > 0 && pause > 0:
			time.Sleep(pause)
		case i == 1:
			time.Sleep(streamThought)
		}
		event(`{"index":0,"delta":{"content":"` + strconv.Itoa(i) + ` "},"finish_reason":null}`)
	}
	event(`{"index":0,"delta":{},"finish_reason":"stop"}`)
	io.WriteString(w, "data: [DONE]\n\n")
}

func openChatStream(ctx context.Context, s *lab, c *closers) (round, error) {
	up, err := s.role(ctx, c, "streaming")
	if err != nil {
		return nil, err
	}
	g, err := s.subject(ctx, c, up.url+"/v1", "", append(unlimited[:len(unlimited):len(unlimited)],
		"stages.queue.max_concurrent=600", "pool.max_connections=600", "stages.queue.max_waiting=1000", "server.deadline=30s")...)
	if err != nil {
		return nil, err
	}
	ours, err := newListener(c, g.url)
	if err != nil {
		return nil, err
	}
	direct, err := newListener(c, up.url)
	if err != nil {
		return nil, err
	}
	p, err := s.role(ctx, c, "proxy", up.url)
	if err != nil {
		return nil, err
	}
	bare, err := newListener(c, p.url)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) ([]float64, string, error) {
		// The three in turn: what one leaves for later is not always at the cost of the same
		// other.
		var with, without, proxied []float64
		ways := []struct {
			l   *listener
			all *[]float64
		}{{ours, &with}, {direct, &without}, {bare, &proxied}}
		for i := range streamTurn {
			for _, k := range rand.Perm(len(ways)) {
				h, err := ways[k].l.listen(ctx, int64(i), true)
				if err != nil {
					return nil, "", err
				}
				*ways[k].all = append(*ways[k].all, float64(h.first)/float64(time.Millisecond))
			}
		}
		var all sync.WaitGroup
		var mu sync.Mutex
		stalled, firsts := 0, []float64{}
		for i := range streams {
			all.Go(func() {
				l, err := newListener(c, g.url)
				h := heard{}
				if err == nil {
					h, err = l.listen(ctx, int64(i), false)
				}
				mu.Lock()
				defer mu.Unlock()
				firsts = append(firsts, float64(h.first)/float64(time.Millisecond))
				if err != nil || h.gap > time.Second || h.events != streamEvents+1 || !h.done {
					stalled++
				}
			})
		}
		all.Wait()
		remark := fmt.Sprintf("first token after %.2f ms, through ReverseProxy %.2f, direct %.2f (p50); %.2f, %.2f, %.2f (p99); of 500 at once p99 %.0f ms",
			median(with), median(proxied), median(without), quantile(with, 0.99), quantile(proxied, 0.99), quantile(without, 0.99), quantile(firsts, 0.99))
		first := quantile(with, 0.99)
		return []float64{first - quantile(without, 0.99), first / quantile(proxied, 0.99), float64(stalled)}, remark, nil
	}, nil
}

// A listener is one connection on which streams are asked for.
type listener struct {
	host string
	conn net.Conn
	in   *bufio.Reader
}

func newListener(c *closers, base string) (*listener, error) {
	u, err := url.Parse(base)
	if err != nil {
		return nil, err
	}
	conn, err := net.Dial("tcp", u.Host)
	if err != nil {
		return nil, err
	}
	c.add(func() { conn.Close() })
	return &listener{u.Host, conn, bufio.NewReader(conn)}, nil
}

// heard is what came of a stream.
type heard struct {
	first, gap time.Duration // to the first event; the longest between two
	events     int
	done       bool
}

func (l *listener) listen(ctx context.Context, n int64, quick bool) (h heard, err error) {
	body := appendChat(nil, n, true)
	if quick {
		body = append(body[:len(body)-1], `,"user":"x-quick"}`...)
	}
	begin := time.Now()
	if _, err := fmt.Fprintf(l.conn, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", chatPath, l.host, len(body), body); err != nil {
		return h, err
	}
	resp, err := http.ReadResponse(l.in, nil)
	if err != nil {
		return h, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return h, fmt.Errorf("status %d", resp.StatusCode)
	}
	last := begin
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		switch line := lines.Bytes(); {
		case bytes.HasPrefix(line, []byte("data: {")):
			now := time.Now()
			if h.events++; h.events == 1 {
				h.first = now.Sub(begin)
			} else {
				h.gap = max(h.gap, now.Sub(last))
			}
			last = now
		case string(line) == "data: [DONE]":
			h.done = true
		}
	}
	return h, context.Cause(ctx)
}
