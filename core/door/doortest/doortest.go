// Package doortest serves a door to the tests of its dialect.
package doortest

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/door"
)

// A Translator is a function that translates.
type Translator func(context.Context, *core.Request) (*core.Result, error)

func (t Translator) Translate(ctx context.Context, req *core.Request) (*core.Result, error) {
	return t(ctx, req)
}

// Pseudo writes the target before the text, and counts the calls.
func Pseudo(calls *atomic.Int64) Translator {
	return func(_ context.Context, req *core.Request) (*core.Result, error) {
		calls.Add(1)
		return &core.Result{Text: "[" + string(req.Target) + "] " + req.Text, Provider: "pseudo", Usage: core.Usage{PromptTokens: 3, CompletionTokens: 2}}, nil
	}
}

// Limited is a translator that knows its languages.
type Limited struct {
	Translator
	Known []core.LanguageInfo
}

func (l Limited) Languages() []core.LanguageInfo { return l.Known }

// Serve serves the door that build returns, with c but for the address, until the test
// ends. It returns the URL.
func Serve(t testing.TB, c door.Config, translator core.Translator, build func(*door.Service, *door.Metrics, *zap.Logger) door.Dialect) string {
	t.Helper()
	c.Listen = "127.0.0.1:0"
	if err := c.Check(); err != nil {
		t.Fatal(err)
	}
	metrics, service := door.NewMetrics(prometheus.NewRegistry()), door.New(c, translator)
	s := door.NewServer(door.Options{
		Config: c, Service: service, Doors: door.Doors{build(service, metrics, zap.NewNop())}, Admin: http.NotFoundHandler(), Metrics: metrics, Log: zap.NewNop(),
	})
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	Run(t, s)
	return door.URL(s.Addr())
}

// Run runs s, which listens, until the test ends.
func Run(t testing.TB, s *door.Server) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// Do makes a call, with header as names and values in turn, and returns the answer and
// its body.
func Do(t testing.TB, method, url, body string, header ...string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(raw)
}
