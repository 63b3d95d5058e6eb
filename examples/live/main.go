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
	"slices"
	"strings"
	"time"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"
)

type frame = map[string]any

func main() { run(context.Background(), os.Args[1], os.Args[2], os.Args[3], os.Stdin, os.Stdout) }

func run(ctx context.Context, url, source, target string, in io.Reader, out io.Writer) websocket.StatusCode {
	start, frames := frame{"type": "start", "source": source, "targets": []string{target}}, make(chan frame)
	go speak(bufio.NewScanner(in), frames)
	go connect(ctx, url, frames)
	var open []frame // the latest revision of each segment without a final target
	for ws, said := (*websocket.Conn)(nil), false; ; {
		f := <-frames
		write := func(f frame) { wsjson.Write(ctx, ws, f) } // what is lost is said again
		this := func(o frame) bool { return o["segment"] == f["segment"] }
		if f["seq"] != nil {
			start["after"] = f["seq"]
		}
		switch f["type"] {
		case "connected":
			wsjson.Write(ctx, f["ws"].(*websocket.Conn), start)
		case "ready":
			start["resume"], ws = f["resume"], f["ws"].(*websocket.Conn)
			for _, o := range open { // what it has already it passes over
				write(o)
			}
		case "source":
			if open = append(slices.DeleteFunc(open, this), f); ws != nil {
				write(f)
			}
		case "target":
			if f["final"] == true {
				fmt.Fprintf(out, "%s: %s\n", f["segment"], f["text"]) // or f["error"], and no text
				open = slices.DeleteFunc(open, this)
			}
		case "said":
			said = true
		case "lost":
			if ws = nil; f["code"] == 1000 || f["code"] == 1008 || f["code"] == 4401 {
				return websocket.StatusCode(f["code"].(int))
			}
		}
		if said && len(open) == 0 && ws != nil {
			write(frame{"type": "end"})
		}
	}
}

func speak(lines *bufio.Scanner, to chan<- frame) {
	for n := 1; lines.Scan(); n++ {
		words := strings.Fields(lines.Text())
		for i := range words {
			to <- frame{"type": "source", "segment": fmt.Sprint("s", n), "revision": i + 1, "text": strings.Join(words[:i+1], " "), "final": i == len(words)-1}
			time.Sleep(40 * time.Millisecond)
		}
	}
	to <- frame{"type": "said"}
}

func connect(ctx context.Context, url string, to chan<- frame) {
	for ; ctx.Err() == nil; time.Sleep(300 * time.Millisecond) {
		ws, _, err := websocket.Dial(ctx, url, &websocket.DialOptions{Subprotocols: []string{"dragoman.live.v1"}, HTTPHeader: http.Header{"Authorization": {"Bearer " + os.Getenv("DRAGOMAN_KEY")}}})
		for f := (frame{"type": "connected"}); err == nil; err = wsjson.Read(ctx, ws, &f) {
			f["ws"] = ws
			to <- f
			f = nil
		}
		to <- frame{"type": "lost", "code": int(websocket.CloseStatus(err))}
	}
}
