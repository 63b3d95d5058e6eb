package door

import (
	"context"
	"flag"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/dragoman-mt/dragoman/core"
)

var update = flag.Bool("update", false, "write the golden files")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got; -update writes it):\n%s", file, diff)
	}
}

func translated(f func(text string) string) core.Translator {
	return core.TranslatorFunc(func(_ context.Context, req *core.Request) (*core.Result, error) {
		return &core.Result{Text: f(req.Text)}, nil
	})
}

func TestWhiteSpaceRoundATextStaysAndNeverReachesTheTranslator(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		space := rapid.StringOfN(rapid.RuneFrom([]rune(" \t\r\n\u00a0\u2003\u3000")), 0, 4, -1)
		before, after := space.Draw(t, "before"), space.Draw(t, "after")
		text := rapid.StringMatching(`[^\s\x00\p{Z}]([^\x00]{0,9}[^\s\x00\p{Z}])?`).Draw(t, "text")
		if text != strings.TrimSpace(text) {
			t.Skip("U+0085 is white space too")
		}
		s := New(Defaults(), translated(func(got string) string {
			if got != text {
				t.Errorf("the translator got %q, want %q", got, text)
			}
			return "[" + got + "]"
		}))
		res, err := s.Translate(context.Background(), &core.Request{Text: before + text + after, Target: "es"})
		if err != nil {
			t.Fatal(err)
		}
		if want := before + "[" + text + "]" + after; res.Text != want {
			t.Errorf("%q, want %q", res.Text, want)
		}
	})
}

func TestASharedResultIsNotChanged(t *testing.T) {
	shared := &core.Result{Text: "hola"}
	s := New(Defaults(), core.TranslatorFunc(func(context.Context, *core.Request) (*core.Result, error) { return shared, nil }))
	req := &core.Request{Text: " hello ", Target: "es"}
	res, err := s.Translate(context.Background(), req)
	if err != nil || res.Text != " hola " || shared.Text != "hola" || req.Text != " hello " || req.Trace != nil {
		t.Errorf("%+v %v, shared %+v, request %+v", res, err, shared, req)
	}
}

func TestTheDeadlineOfTheServerIsDefaultAndMaximum(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var left time.Duration
		s := New(Defaults(), core.TranslatorFunc(func(ctx context.Context, _ *core.Request) (*core.Result, error) {
			until, _ := ctx.Deadline()
			left = time.Until(until)
			return &core.Result{}, nil
		}))
		for asked, want := range map[time.Duration]time.Duration{0: 4500 * time.Millisecond, time.Second: time.Second, time.Hour: 4500 * time.Millisecond} {
			ctx, cancel := context.Background(), func() {}
			if asked > 0 {
				ctx, cancel = context.WithTimeout(ctx, asked)
			}
			if _, err := s.Translate(ctx, &core.Request{Text: "a", Target: "es"}); err != nil || left != want {
				t.Errorf("asked for %v: %v left, want %v (%v)", asked, left, want, err)
			}
			cancel()
		}
	})
}

func TestARequestWithoutTimeLeftMakesNoCall(t *testing.T) {
	s := New(Defaults(), translated(func(string) string { t.Error("called"); return "" }))
	ctx, cancel := context.WithDeadline(context.Background(), time.Now().Add(-time.Second))
	defer cancel()
	if _, err := s.Translate(ctx, &core.Request{Text: "a", Target: "es"}); core.KindOf(err) != core.DeadlineExceeded {
		t.Error(err)
	}
}

func TestAGatewayThatStopsIsNotAClientThatLeft(t *testing.T) {
	ctx, end := context.WithCancelCause(context.Background())
	s := New(Defaults(), core.TranslatorFunc(func(ctx context.Context, _ *core.Request) (*core.Result, error) {
		end(stopping())
		<-ctx.Done()
		return nil, ctx.Err() // as code that knows nothing of causes does
	}))
	if _, err := s.Translate(ctx, &core.Request{Text: "a", Target: "es"}); core.KindOf(err) != core.Unavailable {
		t.Error(err)
	}
}

func TestAClientIsItsKeyOrItsAddress(t *testing.T) {
	c := Defaults()
	open := New(c, nil)
	c.Keys = []Key{{Key: "one"}, {Key: "two"}}
	closed := New(c, nil)
	r := &http.Request{RemoteAddr: "[::1]:4000"}
	if got, err := open.Rules().Client(r, "whatever", "native"); got != "::1" || err != nil {
		t.Errorf("without keys: %q %v", got, err)
	}
	// printf two | sha256sum
	if got, err := closed.Rules().Client(r, "two", "native"); got != "key-3fc4ccfe" || err != nil {
		t.Errorf("with a key: %q %v", got, err)
	}
	for _, key := range []string{"", "three", "one ", "onetwo"} {
		if got, err := closed.Rules().Client(r, key, "native"); got != "" || core.KindOf(err) != core.Unauthorized {
			t.Errorf("%q: %q %v", key, got, err)
		}
	}
}
