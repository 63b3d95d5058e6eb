package gateway

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestIdleClientsKeepNobodyAway: with descriptors for some forty connections, a hundred
// clients that have been answered and now hold theirs do not keep a new client waiting,
// nor an operator.
func TestIdleClientsKeepNobodyAway(t *testing.T) {
	file := write(t, "providers: {openai: {type: openai, base_url: 'http://127.0.0.1:9/v1', api_key: x}}\nstages: [provider: {use: openai}]\n")
	g := &gatewayProcess{process: start(t, filepath.Dir(file), nil, "/bin/sh", "-c",
		`ulimit -n 64; exec "$0" serve --config "$1" --set server.listen=127.0.0.1:0`, filepath.Join(programs, "dragoman"), file)}
	g.url = g.see(`at (http://127\.0\.0\.1:\d+)`)
	address := strings.TrimPrefix(g.url, "http://")
	for i := range 100 {
		conn, err := net.DialTimeout("tcp", address, patience)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(patience))
		if _, err := io.WriteString(conn, "GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"); err != nil {
			t.Fatalf("client %d: %v", i, err)
		}
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil || res.StatusCode != http.StatusOK {
			t.Fatalf("client %d: %v, %v", i, res, err)
		}
	}
	// It says that nobody answers upstream, which is so.
	if out, errs, _ := command(t, filepath.Dir(file), nil, "", "status", "--config", file); !strings.Contains(out, " serves /") {
		t.Errorf("dragoman status: %s%s", out, errs)
	}
}
