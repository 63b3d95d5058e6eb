// Command live is a client of dragoman.live.v1: live URL SOURCE TARGET < text. Each line is said
// word by word, finals are printed, and it comes back when its connection is lost.
package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"
)

type frame = map[string]any

func main() { run(context.Background(), os.Args[1], os.Args[2], os.Args[3], os.Stdin, os.Stdout) }

func run(ctx context.Context, url, source, target string, in io.Reader, out io.Writer) (code websocket.StatusCode) {
	var mu sync.Mutex
	var ready *websocket.Conn // the connection whose session is ready, if there is one
	var said []frame          // the latest revision of each segment; nil with its final target
	tell := func(n int, f frame) {
		mu.Lock()
		defer mu.Unlock()
		if said = append(said[:n], f); ready != nil {
			wsjson.Write(ctx, ready, f) // what is lost is told again
		}
	}
	go func() {
		n := 0
		for lines := bufio.NewScanner(in); lines.Scan(); {
			words := strings.Fields(lines.Text())
			for i := range words {
				tell(n, frame{"type": "source", "segment": fmt.Sprint("s", n+1), "revision": i + 1, "text": strings.Join(words[:i+1], " "), "final": i == len(words)-1})
				time.Sleep(40 * time.Millisecond)
			}
			n += min(len(words), 1)
		}
		tell(n, frame{"type": "end"})
	}()
	header, start := http.Header{"Authorization": {"Bearer " + os.Getenv("DRAGOMAN_KEY")}}, frame{"type": "start", "source": source, "targets": []string{target}}
	for ; ctx.Err() == nil && code != 1000 && code != 1008 && code != 4401; time.Sleep(300 * time.Millisecond) {
		ws, _, err := websocket.Dial(ctx, url, &websocket.DialOptions{Subprotocols: []string{"dragoman.live.v1"}, HTTPHeader: header})
		for f := (frame{"type": "connected"}); err == nil; err = wsjson.Read(ctx, ws, &f) {
			mu.Lock()
			if f["seq"] != nil {
				start["after"] = f["seq"]
			}
			switch n := 0; f["type"] {
			case "connected":
				wsjson.Write(ctx, ws, start)
			case "ready":
				start["resume"], ready = f["resume"], ws
				for _, s := range said { // what it has already it passes over
					if s != nil {
						wsjson.Write(ctx, ws, s)
					}
				}
			case "target":
				if f["final"] == true {
					fmt.Fprintf(out, "%s: %s\n", f["segment"], f["text"]) // or f["error"], and no text
					fmt.Sscanf(f["segment"].(string), "s%d", &n)
					said[n-1] = nil
				}
			}
			mu.Unlock()
			f = nil
		}
		mu.Lock()
		ready, code = nil, websocket.CloseStatus(err)
		mu.Unlock()
	}
	return code
}
