package native_test

import (
	"context"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/door"
	"github.com/dragoman-mt/dragoman/core/door/doortest"
	"github.com/dragoman-mt/dragoman/core/door/native"
)

// TestThisUsersCommandsTranslateWithoutAKey over the gateway's socket, with time for a file,
// and what they asked for goes on when they are killed.
func TestThisUsersCommandsTranslateWithoutAKey(t *testing.T) {
	c := door.Defaults()
	c.Listen, c.Keys = "127.0.0.1:0", []door.Key{{Name: "captions", Key: "secret-of-captions"}}
	asked := make(chan core.Request, 1)
	left := make(chan time.Duration, 1)
	service := door.New(c, doortest.Translator(func(ctx context.Context, req *core.Request) (*core.Result, error) {
		until, _ := ctx.Deadline()
		asked <- *req
		left <- time.Until(until)
		return &core.Result{Text: "Hola"}, nil
	}))
	metrics := door.NewMetrics(prometheus.NewRegistry())
	s := door.NewServer(door.Options{
		Config: c, Service: service, Doors: door.Doors{native.New(service, metrics, zap.NewNop()).Dialect()}, Admin: http.NotFoundHandler(), Metrics: metrics, Log: zap.NewNop(),
	})
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.Local(ln)
	doortest.Run(t, s)
	const body = `{"text": "Hello", "target": "es", "bulk": true}`
	if res, answer := doortest.Do(t, "POST", door.URL(s.Addr())+"/v1/translate", body); res.StatusCode != 401 {
		t.Errorf("without a key, over TCP: %d %s", res.StatusCode, answer)
	}
	if res, answer := doortest.Do(t, "POST", "http://"+ln.Addr().String()+"/v1/translate", body); res.StatusCode != 200 {
		t.Fatalf("over the socket: %d %s", res.StatusCode, answer)
	}
	req, within := <-asked, <-left
	if req.Client != door.CommandLine || req.Lane != core.LaneBulk || req.Linger < time.Minute || within < time.Minute || within > 3*time.Minute {
		t.Errorf("client %s, lane %v, it lingers %v, and has %v", req.Client, req.Lane, req.Linger, within)
	}
}
