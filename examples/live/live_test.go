package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/door"
	"github.com/dragoman-mt/dragoman/core/door/doortest"
	livedoor "github.com/dragoman-mt/dragoman/core/door/live"
	"github.com/dragoman-mt/dragoman/core/live"
)

const said = "Good morning to you all.\nNow we begin with what is new. Is that right?\nThank you.\n"

var want = []string{"s1: GOOD MORNING TO YOU ALL.", "s2: NOW WE BEGIN WITH WHAT IS NEW. IS THAT RIGHT?", "s3: THANK YOU."}

// gateway returns the address of one whose first connection is cut in the middle.
func gateway(t *testing.T) string {
	t.Helper()
	url := doortest.Serve(t, door.Defaults(), doortest.Translator(func(_ context.Context, r *core.Request) (*core.Result, error) {
		return &core.Result{Text: strings.ToUpper(r.Text)}, nil
	}), func(s *door.Service, m *door.Metrics, log *zap.Logger) door.Dialect {
		c := live.Defaults()
		c.Context = 0
		d := livedoor.New(c, s, m, log)
		t.Cleanup(d.Close)
		return d.Dialect()
	})
	front, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { front.Close() })
	var once sync.Once
	go func() {
		for {
			in, err := front.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
			if err != nil {
				in.Close()
				continue
			}
			once.Do(func() { time.AfterFunc(500*time.Millisecond, func() { in.Close(); out.Close() }) })
			go func() { io.Copy(out, in); out.Close() }()
			go func() { io.Copy(in, out); in.Close() }()
		}
	}()
	return "ws://" + front.Addr().String() + "/v1/live"
}

func finals(out string) []string {
	return slices.DeleteFunc(strings.Split(strings.TrimSpace(out), "\n"), func(s string) bool { return s == "" })
}

func TestEveryClientHasEachFinalOnceThoughItsConnectionIsCut(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	t.Run("Go", func(t *testing.T) {
		var out bytes.Buffer
		if code := run(ctx, gateway(t), "en", "es", strings.NewReader(said), &out); code != 1000 {
			t.Fatalf("closed with %d", code)
		}
		if got := finals(out.String()); !slices.Equal(got, want) {
			t.Errorf("%q", got)
		}
		http.DefaultClient.CloseIdleConnections()
	})
	t.Run("Python", func(t *testing.T) {
		const python = "/usr/bin/python3" // Debian's, which has Debian's packages
		if err := exec.Command(python, "-c", "import websockets").Run(); err != nil {
			t.Skip("python3-websockets is not installed")
		}
		cmd := exec.CommandContext(ctx, python, "live.py", gateway(t), "en", "es")
		cmd.Stdin = strings.NewReader(said)
		var bad bytes.Buffer
		cmd.Stderr = &bad
		out, err := cmd.Output()
		if got := finals(string(out)); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q %v\n%s", got, err, bad.String())
		}
	})
	t.Run("JavaScript", func(t *testing.T) {
		script, err := os.ReadFile("live.mjs")
		if err != nil {
			t.Fatal(err)
		}
		// Its input and its arguments come from the test.
		body := strings.NewReplacer("process.argv.slice(2)", "process.env.ARGUMENTS.split(\" \")", "createInterface({ input: process.stdin })", "process.env.SAID.trim().split(\"\\n\")").Replace(string(script))
		out := doortest.Node(t, []string{"ws@8.18.0"}, body, "ARGUMENTS="+gateway(t)+" en es", "SAID="+said)
		if got := finals(out); !slices.Equal(got, want) {
			t.Errorf("%q", got)
		}
	})
}
