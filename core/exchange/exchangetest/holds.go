package exchangetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/coretest"
	"github.com/dragoman-mt/dragoman/core/exchange"
	"github.com/dragoman-mt/dragoman/core/pool"
)

// A Provider is what the engines are.
type Provider interface {
	core.Translator
	core.Batcher
	core.Starter
	core.Prober
	core.Closer
	core.Languager
	Notice() string
}

// Conforms holds what kind builds of config to everything that a chain relies on.
func Conforms(t *testing.T, kind core.Kind, config any) {
	conns, err := pool.New(pool.Defaults(), zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	defer conns.Close()
	coretest.Provider(t, core.Env{Name: kind.Name, Log: zap.NewNop(), Upstream: conns}, kind, config)
}

// FuzzAnswer gives d answers and lists of languages, beginning with seeds.
func FuzzAnswer(f *testing.F, d exchange.Dialect, seeds []string) {
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if all, err := d.Read(raw, 1); err == nil && len(all) > len(raw) {
			t.Errorf("%d translations of %d bytes", len(all), len(raw))
		}
		if o, err := d.ReadLists([][]byte{raw, raw}); err == nil {
			for _, pair := range o.Pairs {
				if pair.Source == "" || len(pair.Targets) == 0 {
					t.Errorf("a pair without languages: %+v", pair)
				}
			}
		}
	})
}

// Build returns what kind builds of config over a pool of its own, started, and what it
// logs.
func Build(t testing.TB, kind core.Kind, config any) (Provider, *observer.ObservedLogs) {
	t.Helper()
	conns, err := pool.New(pool.Defaults(), zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conns.Close() })
	seen, logs := observer.New(zapcore.DebugLevel)
	built, err := kind.Build(core.Env{Name: "engine", Log: zap.New(seen), Upstream: conns}, config)
	if err != nil {
		t.Fatal(err)
	}
	p := built.(Provider)
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p, logs
}

// Ask returns a request for text.
func Ask(text string, source, target core.Language) *core.Request {
	return &core.Request{ID: "1", Text: text, Source: source, Target: target, Trace: core.NewTrace(nil)}
}

// An Answer is what a server says in place of a translation, and what must come of it.
type Answer struct {
	Name   string
	Status int
	Header map[string]string
	Body   string
	Kind   core.ErrorKind
	Field  string
	Wait   time.Duration
	Again  bool // it may be tried again
	Odd    bool
}

// Secret stands in texts that no log or error may have.
const Secret = "Zwetschgenknödel"

// hostile are answers of any server.
var hostile = []Answer{
	{Name: "a web page", Status: 200, Header: map[string]string{"Content-Type": "text/html"}, Body: "<!doctype html><title>Welcome</title>", Kind: core.ProviderFailed, Again: true},
	{Name: "nothing", Status: 200, Kind: core.ProviderFailed, Again: true},
	{Name: "no content", Status: 204, Kind: core.ProviderFailed, Odd: true},
	{Name: "JSON that is cut", Status: 200, Body: `{"translations":[{"te`, Kind: core.ProviderFailed, Again: true},
	{Name: "JSON of another shape", Status: 200, Body: `{"ok":true}`, Kind: core.ProviderFailed, Again: true},
	{Name: "null", Status: 200, Body: `null`, Kind: core.ProviderFailed, Again: true},
	{Name: "a list of lists", Status: 200, Body: `[[[]]]`, Kind: core.ProviderFailed, Again: true},
	{Name: "an error in a 200", Status: 200, Body: `{"error":{"code":429,"message":"slow down"}}`, Kind: core.RateLimited, Again: true},
	{Name: "a redirect", Status: 302, Header: map[string]string{"Location": "http://127.0.0.1:1/"}, Kind: core.ProviderFailed, Odd: true},
	{Name: "a key that is refused", Status: 401, Body: `{}`, Kind: core.Unauthorized},
	{Name: "a path that is not there", Status: 404, Body: `404 page not found`, Kind: core.NotFound},
	{Name: "too large", Status: 413, Kind: core.TooLarge},
	{Name: "a limit, with a wait", Status: 429, Header: map[string]string{"Retry-After": "7"}, Kind: core.RateLimited, Wait: 7 * time.Second, Again: true},
	{Name: "a limit, without", Status: 429, Body: `<html>slow down</html>`, Kind: core.RateLimited, Again: true},
	{Name: "no money", Status: 402, Kind: core.QuotaExceeded},
	{Name: "a failure", Status: 500, Body: "\x00\xff" + `{"error":`, Kind: core.ProviderFailed, Again: true},
	{Name: "away, with a wait", Status: 503, Header: map[string]string{"Retry-After": "2"}, Kind: core.ProviderFailed, Wait: 2 * time.Second, Again: true},
	{Name: "a gateway's timeout", Status: 504, Body: "<html>", Kind: core.ProviderFailed, Again: true},
}

// Holds checks what every engine promises: server is its server, own are failures in the
// words of its own, and config leads to server.
func Holds(t *testing.T, kind core.Kind, config any, server *Server, own []Answer) {
	t.Run("probe", func(t *testing.T) {
		p, _ := Build(t, kind, config)
		if p.Languages() != nil {
			t.Error("it knows languages of a server that it has not asked")
		}
		if err := p.Probe(t.Context()); err != nil || p.Notice() != "" {
			t.Errorf("it is not ready: %v, %q", err, p.Notice())
		}
		if len(p.Languages()) == 0 {
			t.Error("it has not learned the languages")
		}
	})
	for _, known := range []bool{false, true} {
		p, _ := Build(t, kind, config)
		if known {
			if err := p.Probe(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		t.Run(fmt.Sprintf("translates, known=%v", known), func(t *testing.T) {
			text := "It's \"5 < 6\" & <b>ü</b>\n日本語\t🙂"
			res, err := p.Translate(t.Context(), Ask(text, "en", "es"))
			if err != nil || res.Text != "[es] "+text || res.Source != "" || res.Usage.Characters != len([]rune(text)) {
				t.Errorf("%+v, %v", res, err)
			}
			if res, err = p.Translate(t.Context(), Ask("Hello", "", "es")); err != nil || res.Text != "[es] Hello" || res.Source == "" {
				t.Errorf("without a source: %+v, %v", res, err)
			}
			_, err = p.Translate(t.Context(), Ask("Hello", "en", "tlh"))
			if e := core.AsError(err, ""); err == nil || e.Kind != core.UnsupportedLanguage || e.Retryable {
				t.Errorf("a target that nobody has: %v", err)
			}
			_, err = p.Translate(t.Context(), Ask("Hello", "tlh", "es"))
			if core.KindOf(err) != core.UnsupportedLanguage {
				t.Errorf("a source that nobody has: %v", err)
			}
		})
	}
	p, logs := Build(t, kind, config)
	t.Run("several texts", func(t *testing.T) {
		var reqs []*core.Request
		for i := range 40 {
			reqs = append(reqs, Ask(fmt.Sprintf("text %d", i), "en", "es"))
		}
		if n := p.Together(reqs); n != len(reqs) {
			t.Fatalf("%d of %d fit into one call", n, len(reqs))
		}
		all, err := p.TranslateAll(t.Context(), reqs)
		if err != nil || len(all) != len(reqs) {
			t.Fatalf("%d results, %v", len(all), err)
		}
		for i, res := range all {
			if res.Text != fmt.Sprintf("[es] text %d", i) {
				t.Errorf("text %d: %q", i, res.Text)
			}
		}
		reqs[3] = Ask("other", "en", "de")
		if n := p.Together(reqs); n != 3 {
			t.Errorf("%d texts fit, want 3: the fourth goes to another language", n)
		}
	})
	for _, c := range append(hostile, own...) {
		t.Run(c.Name, func(t *testing.T) {
			server.Fail(func(w http.ResponseWriter, r *http.Request) {
				for name, value := range c.Header {
					w.Header().Set(name, value)
				}
				w.WriteHeader(c.Status)
				io.WriteString(w, c.Body)
			})
			defer server.Fail(nil)
			_, err := p.Translate(t.Context(), Ask("He eats "+Secret+" and a daily limit", "en", "es"))
			e, ok := errors.AsType[*core.Error](err)
			if !ok {
				t.Fatalf("no failure: %v", err)
			}
			if e.Kind != c.Kind || e.Field != c.Field || e.RetryAfter != c.Wait || e.Retryable != c.Again || e.Odd != c.Odd {
				t.Errorf("kind %s, field %q, wait %v, again %v, odd %v; want %+v (%v)", e.Kind, e.Field, e.RetryAfter, e.Retryable, e.Odd, c, e)
			}
			if strings.Contains(e.Error(), Key) || strings.Contains(e.Error(), Secret) {
				t.Errorf("the error tells too much: %v", e)
			}
		})
	}
	t.Run("an error quotes", func(t *testing.T) {
		server.Fail(func(w http.ResponseWriter, r *http.Request) {
			raw, _ := io.ReadAll(r.Body)
			said := fmt.Sprintf("bad: %s %v", raw, r.Header)
			say(w, 400, map[string]any{"message": said, "error": map[string]any{"message": said, "code": said}})
		})
		defer server.Fail(nil)
		_, err := p.Translate(t.Context(), Ask("He eats "+Secret, "en", "es"))
		if err == nil || strings.Contains(err.Error(), Key) || strings.Contains(err.Error(), Secret) {
			t.Errorf("%v", err)
		}
	})
	t.Run("an answer without an end", func(t *testing.T) {
		server.Fail(func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 64<<10)); err != nil {
					return
				}
			}
		})
		defer server.Fail(nil)
		begin := time.Now()
		if _, err := p.Translate(t.Context(), Ask("Hello", "en", "es")); core.KindOf(err) != core.ProviderFailed || time.Since(begin) > 4*time.Second {
			t.Errorf("after %v: %v", time.Since(begin), err)
		}
	})
	t.Run("a caller who leaves", func(t *testing.T) {
		server.Fail(func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		defer server.Fail(nil)
		ctx, leave := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer leave()
		if _, err := p.Translate(ctx, Ask("Hello", "en", "es")); core.KindOf(err) != core.DeadlineExceeded || !core.AsError(err, "").Own {
			t.Errorf("%v", err)
		}
	})
	for _, entry := range logs.All() {
		if said := fmt.Sprint(entry.Message, entry.ContextMap()); strings.Contains(said, Key) || strings.Contains(said, Secret) {
			t.Errorf("the log tells too much: %s", said)
		}
	}
}
