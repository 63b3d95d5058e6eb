// Command live is a client of dragoman.live.v1 in Go: live URL SOURCE TARGET < text
// Each line of its input is said word by word, as a recogniser would; finals are printed.
// It comes back when its connection is lost.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
)

type frame struct {
	Type     string                    `json:"type"`
	Seq      int64                     `json:"seq,omitempty"`
	Source   string                    `json:"source,omitempty"`
	Targets  []string                  `json:"targets,omitempty"`
	Resume   string                    `json:"resume,omitempty"`
	After    int64                     `json:"after,omitempty"`
	Target   string                    `json:"target,omitempty"`
	Segment  string                    `json:"segment,omitempty"`
	Revision int64                     `json:"revision,omitempty"`
	Text     string                    `json:"text,omitempty"`
	Final    bool                      `json:"final,omitempty"`
	Message  string                    `json:"message,omitempty"`
	Error    *struct{ Message string } `json:"error,omitempty"`
}

type client struct {
	url, source, target string
	out                 io.Writer

	mu         sync.Mutex
	ws         *websocket.Conn // nil while there is none
	seq        int64
	resume     string
	unfinished []frame // the latest revision of each segment without a final target, in the order they began
}

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "live URL SOURCE TARGET < text")
		os.Exit(2)
	}
	if err := run(context.Background(), os.Args[1], os.Args[2], os.Args[3], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, url, source, target string, in io.Reader, out io.Writer) error {
	c := &client{url: url, source: source, target: target, out: out}
	done := make(chan error, 1)
	go func() { done <- c.session(ctx) }()
	lines := bufio.NewScanner(in)
	for n := 1; lines.Scan(); n++ {
		words := strings.Split(lines.Text(), " ")
		for i := range words {
			c.say(ctx, frame{Type: "source", Segment: fmt.Sprint("s", n), Revision: int64(i + 1), Text: strings.Join(words[:i+1], " "), Final: i == len(words)-1})
			time.Sleep(40 * time.Millisecond)
		}
	}
	for {
		select {
		case err := <-done:
			return err
		case <-time.After(20 * time.Millisecond):
			c.mu.Lock()
			if len(c.unfinished) == 0 && c.ws != nil {
				c.send(ctx, c.ws, frame{Type: "end"})
			}
			c.mu.Unlock()
		}
	}
}

// session keeps a connection until the session has ended.
func (c *client) session(ctx context.Context) error {
	for ; ; time.Sleep(300 * time.Millisecond) {
		h := http.Header{}
		if key := os.Getenv("DRAGOMAN_KEY"); key != "" {
			h.Set("Authorization", "Bearer "+key)
		}
		ws, _, err := websocket.Dial(ctx, c.url, &websocket.DialOptions{Subprotocols: []string{"dragoman.live.v1"}, HTTPHeader: h})
		if err != nil {
			continue
		}
		c.send(ctx, ws, frame{Type: "start", Source: c.source, Targets: []string{c.target}, Resume: c.resume, After: c.seq})
		for {
			_, raw, err := ws.Read(ctx)
			if err != nil {
				c.mu.Lock()
				c.ws = nil
				c.mu.Unlock()
				switch websocket.CloseStatus(err) {
				case websocket.StatusNormalClosure:
					return nil
				case websocket.StatusPolicyViolation, 4401:
					return err
				}
				break
			}
			var f frame
			if err := json.Unmarshal(raw, &f); err == nil {
				c.take(ctx, ws, f)
			}
		}
	}
}

func (c *client) take(ctx context.Context, ws *websocket.Conn, f frame) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seq = max(c.seq, f.Seq)
	switch {
	case f.Type == "ready":
		c.ws, c.resume, c.seq = ws, f.Resume, f.Seq
		for _, said := range c.unfinished { // what it has already it passes over
			c.send(ctx, ws, said)
		}
	case f.Type == "error":
		fmt.Fprintln(os.Stderr, f.Message)
	case f.Type == "target" && f.Final:
		c.unfinished = slices.DeleteFunc(c.unfinished, func(said frame) bool { return said.Segment == f.Segment })
		if f.Error != nil {
			f.Text = f.Error.Message
		}
		fmt.Fprintf(c.out, "%s: %s\n", f.Segment, f.Text)
	}
}

func (c *client) say(ctx context.Context, f frame) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if i := slices.IndexFunc(c.unfinished, func(said frame) bool { return said.Segment == f.Segment }); i >= 0 {
		c.unfinished[i] = f
	} else {
		c.unfinished = append(c.unfinished, f)
	}
	if c.ws != nil {
		c.send(ctx, c.ws, f)
	}
}

// send sends f; whether it arrived shows when the connection is read.
func (c *client) send(ctx context.Context, ws *websocket.Conn, f frame) {
	if raw, err := json.Marshal(f); err == nil {
		ws.Write(ctx, websocket.MessageText, raw)
	}
}
