package gateway

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dragoman-mt/dragoman/stages/openai/openaitest"
)

// most is the largest resident memory that a process ever had, in MiB.
func most(t *testing.T, pid int) int {
	t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(raw)
	if m == nil {
		t.Fatalf("no VmHWM in %s", raw)
	}
	n, _ := strconv.Atoi(string(m[1]))
	return n >> 10
}

// stall opens a call with this key, which sends what is said to be nearly all of its
// body and then nothing, until ctx ends. It returns the status that it is answered with,
// 0 for none.
func (g *gatewayProcess) stall(ctx context.Context, key, header string, body []byte) int {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", strings.TrimPrefix(g.url, "http://"))
	if err != nil {
		return 0
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	conn.(*net.TCPConn).SetWriteBuffer(64 << 10) // what is on its way is memory too, and not the gateway's
	go func() {
		fmt.Fprintf(conn, "POST /v1/translate HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\n%s\r\n\r\n", key, header)
		conn.Write(body)
	}()
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0
	}
	res.Body.Close()
	return res.StatusCode
}

// Six hundred calls, each with a body that never ends, of one client and of twenty: they
// share a room of a fixed size, and whoever else calls is answered as ever.
func TestSixHundredBodiesThatStallTakeBoundedMemoryAndNobodyElsesTurn(t *testing.T) {
	const (
		calls = 600
		size  = 1 << 20
		room  = 400 // MiB: 64 of bodies, some times that of what they outgrew and nobody has collected yet, and the process itself
	)
	plain := []byte(`{"target":"es","text":"` + strings.Repeat("x", size-500))
	var packed bytes.Buffer
	noise := make([]byte, size/2-100)
	rand.Read(noise)
	writer := gzip.NewWriter(&packed)
	io.WriteString(writer, `{"target":"es","text":"`+hex.EncodeToString(noise))
	writer.Flush()
	for name, b := range map[string]struct {
		clients int
		header  string
		body    []byte
	}{
		"announced, of one client":       {1, fmt.Sprintf("Content-Length: %d", size), plain},
		"without a length, of twenty":    {20, "Transfer-Encoding: chunked", fmt.Appendf(nil, "%x\r\n%s", size, plain)},
		"that are packed, of one client": {1, fmt.Sprintf("Content-Encoding: gzip\r\nContent-Length: %d", size), packed.Bytes()},
	} {
		t.Run(name, func(t *testing.T) {
			clients := b.clients
			t.Parallel()
			sim := upstream(t, openaitest.Config{})
			keys := []string{"another-client"}
			for i := range clients {
				keys = append(keys, fmt.Sprintf("greedy-client-%d", i))
			}
			g := serveYAML(t, `version: 1
log: {level: error}
server: {drain_timeout: 2s, keys: [`+strings.Join(keys, ", ")+`, {name: ops, key: an-operators-key, role: operate}]}
providers:
  main: {type: openai, base_url: "`+sim.URL()+`", api_key: test}
stages: [{provider: {use: main}}]
`, nil)
			ctx, leave := context.WithCancel(t.Context())
			statuses := make(chan int, calls)
			var all sync.WaitGroup
			defer all.Wait()
			defer leave()
			for i := range calls {
				all.Go(func() { statuses <- g.stall(ctx, keys[1+i%clients], b.header, b.body) })
			}
			// The first refusal says that the room is full.
			if status := <-statuses; status != http.StatusServiceUnavailable {
				t.Fatalf("the first to be answered got %d", status)
			}
			others := []string{keys[0]}
			if clients == 1 {
				others = append(others, keys[1]) // what is small has its own room
			}
			for _, key := range others {
				a, took, err := g.as(t.Context(), key, map[string]any{"text": "Good morning, says " + key + "."})
				if err != nil {
					t.Fatal(err)
				}
				if a.text(t); took > 2*time.Second {
					t.Errorf("%s was answered after %v", key, took)
				}
			}
			// One client cannot take all of it: there is room for a large one of another.
			if clients == 1 {
				large := strings.NewReader(`{"target":"es","text":"Good evening."` + strings.Repeat(" ", size-100) + `}`)
				req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, g.url+"/v1/translate", large)
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("Authorization", "Bearer "+keys[0])
				began := time.Now()
				res, err := http.DefaultClient.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				res.Body.Close()
				if took := time.Since(began); res.StatusCode != 200 || took > 2*time.Second {
					t.Errorf("a large body of another client: %d after %v", res.StatusCode, took)
				}
			}
			// Most of them have come to their end, for want of room or of the rest, so all
			// have taken what they could.
			met := map[int]int{http.StatusServiceUnavailable: 1}
			for range calls / 2 {
				met[<-statuses]++
			}
			for status, n := range met {
				if status != http.StatusServiceUnavailable && status != http.StatusGatewayTimeout {
					t.Errorf("%d were answered %d", n, status)
				}
			}
			rss := most(t, g.cmd.Process.Pid)
			t.Logf("%d MiB at most, answers %v", rss, met)
			if rss > room {
				t.Errorf("the gateway had %d MiB in memory, want %d at most", rss, room)
			}
		})
	}
}
