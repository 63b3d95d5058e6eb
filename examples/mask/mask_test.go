package mask

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"pgregory.net/rapid"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/config"
	"github.com/dragoman-mt/dragoman/core/coretest"
	"github.com/dragoman-mt/dragoman/core/coretest/property"
	"github.com/dragoman-mt/dragoman/core/engine"
	"github.com/dragoman-mt/dragoman/plugins/host"
	"github.com/dragoman-mt/dragoman/plugins/sdk"
	"github.com/dragoman-mt/dragoman/plugins/wire"
	"github.com/dragoman-mt/dragoman/stages"
)

// TestMain is also the plugin itself: the tests start this program as one.
func TestMain(m *testing.M) {
	if os.Getenv(wire.CookieKey) != "" {
		sdk.Serve(Kinds()...)
	}
	goleak.VerifyTestMain(m)
}

func TestConforms(t *testing.T) { coretest.Stage(t, Kinds()[0], nil) }

func before(t interface{ Fatal(...any) }, req *core.Request) (core.Verdict, *core.Request) {
	v, err := stage{}.Before(context.Background(), req)
	if err != nil {
		t.Fatal(err)
	}
	if v.Request == nil {
		return v, req
	}
	return v, v.Request
}

func TestWhatIsHidden(t *testing.T) {
	for text, want := range map[string]string{
		"Write to ann@example.com.":                           "Write to {{1}}.",
		"<Ann.Lee+x@mail.example.co.uk>, or müller@bücher.de": "<{{1}}>, or {{2}}",
		"a@b.example a@b.example c@d.example":                 "{{1}} {{1}} {{2}}",
		"请写信给ann@example.cn谢谢":                                "请写信给{{1}}谢谢",
		"почта иван@пример.рф":                                "почта {{1}}",
		"4111 1111 1111 1111":                                 "{{1}}",
		"4111-1111-1111-1111, 5500005555555559.":              "{{1}}, {{2}}.",
		"exp 4111 1111 1111 1111 12/28":                       "exp {{1}} 12/28",
		"order 77 4111 1111 1111 1111":                        "order 77 {{1}}",
		"3782 822463 10005 (amex)":                            "{{1}} (amex)",
		"4111111111111111@example.com":                        "{{1}}",
		"{{1}} and {{ 2 }} for a@b.example":                   "{{1}} and {{ 2 }} for {{3}}",
		"4111 1111 1111 1112":                                 "4111 1111 1111 1112",
		"41111111111111114111111111111111":                    "41111111111111114111111111111111",
		"12:30, 3.14, +34 600 123 456, @ann, ann@localhost":   "12:30, 3.14, +34 600 123 456, @ann, ann@localhost",
	} {
		if _, got := before(t, &core.Request{Text: text}); got.Text != want {
			t.Errorf("%q goes on as %q, want %q", text, got.Text, want)
		}
	}
}

// card draws a number that is a card's, written in one of the usual ways.
func card(t *rapid.T) string {
	n := rapid.IntRange(minCard, maxCard).Draw(t, "digits")
	digits := rapid.SliceOfN(rapid.IntRange(0, 9), n-1, n-1).Draw(t, "number")
	at := make([]int, n)
	raw := make([]byte, n)
	for i := range at {
		at[i] = i
		if i < n-1 {
			raw[i] = byte('0' + digits[i])
		}
	}
	for raw[n-1] = '0'; !luhn(string(raw), at); raw[n-1]++ {
	}
	separator := rapid.SampledFrom([]string{"", " ", "-", "\u00a0"}).Draw(t, "separator")
	var b strings.Builder
	for i, c := range raw {
		if i > 0 && i%4 == 0 {
			b.WriteString(separator)
		}
		b.WriteByte(c)
	}
	return b.String()
}

var address = rapid.StringMatching(`[a-zA-Zé_][a-z0-9._+{}-]{0,8}@[a-z0-9-]{1,6}(\.[a-zü]{2,4}){1,2}`)

// hiding draws a text and the values in it that must not be seen.
func hiding(t *rapid.T) (text string, values []string) {
	var b strings.Builder
	for range rapid.IntRange(0, 8).Draw(t, "parts") {
		value := ""
		switch rapid.IntRange(0, 3).Draw(t, "sort") {
		case 0:
			value = address.Draw(t, "address")
		case 1:
			value = card(t)
		case 2:
			b.WriteString(rapid.SampledFrom([]string{"{{1}}", "{{", "}}", "{", "}", "{{ 2 }}", "{{3", "@", ".", "4111", "日本", "👋🏽", "\n", "\\", "\""}).Draw(t, "sign"))
		default:
			b.WriteString(rapid.StringN(0, 12, -1).Draw(t, "words"))
		}
		if value != "" {
			values = append(values, value)
			// A card's number is one when no digit touches it.
			b.WriteString(rapid.SampledFrom([]string{" ", ",", "(", "\n", "é"}).Draw(t, "left") + value + rapid.SampledFrom([]string{" ", ",", ")", "\n"}).Draw(t, "right"))
		}
	}
	return b.String(), values
}

// TestNothingIsSeenAndAllComesBack hides what is in random texts, and gives
// them to a translator that changes nothing.
func TestNothingIsSeenAndAllComesBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text, values := hiding(t)
		said, more := hiding(t)
		wish, most := hiding(t)
		req := &core.Request{Text: text, Context: []core.Pair{{Source: said, Target: wish}}, Instructions: []string{wish}}
		v, down := before(t, req)
		for _, value := range slices.Concat(values, more, most) {
			for _, seen := range []string{down.Text, down.Context[0].Source, down.Context[0].Target, down.Instructions[0]} {
				if strings.Contains(seen, value) {
					t.Fatalf("%q is seen in %q", value, seen)
				}
			}
		}
		res, err := stage{}.After(context.Background(), req, &core.Result{Text: down.Text}, v.State)
		if err != nil || res.Text != text {
			t.Fatalf("%+v, %v came back for %q, by way of %q", res, err, text, down.Text)
		}
		if req.Text != text || req.Context[0].Source != said {
			t.Fatal("the request was changed")
		}
	})
}

func TestAnAnswerThatHasLostAValueIsABadOne(t *testing.T) {
	req := &core.Request{Text: "Ann: ann@example.com", Context: []core.Pair{{Source: "x@example.co", Target: "y"}}}
	v, _ := before(t, req)
	for answer, want := range map[string]string{
		"Ann: {{ 1 }}":        "Ann: ann@example.com",
		"{{1}}, {{1}} {{9}}":  "ann@example.com, ann@example.com {{9}}",
		"{{1}}, not {{2}}":    "ann@example.com, not x@example.co",
		"Ann: {{2}}":          "",
		"Ann: {1}":            "",
		"Ann: {{1000000000}}": "",
	} {
		res, err := stage{}.After(t.Context(), req, &core.Result{Text: answer, Model: "m"}, v.State)
		if want == "" {
			if e, ok := errors.AsType[*core.Error](err); !ok || e.Kind != core.BadAnswer || !e.Retryable {
				t.Errorf("%q: %v, %v", answer, res, err)
			}
		} else if err != nil || res.Text != want || res.Model != "m" {
			t.Errorf("%q: %+v, %v", answer, res, err)
		}
	}
}

func TestMoreThanCanBeKeptIsRefused(t *testing.T) {
	var b strings.Builder
	for i := range 4000 {
		fmt.Fprintf(&b, "someone%d@example.com ", i)
	}
	_, err := stage{}.Before(t.Context(), &core.Request{Text: b.String()})
	if e, ok := errors.AsType[*core.Error](err); !ok || e.Kind != core.TooLarge || e.Field != "text" {
		t.Error(err)
	}
}

// A seen is what passed a place, written down.
type seen struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (s *seen) note(req *core.Request, res *core.Result) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintln(&s.all, req.Text, req.Context, req.Instructions)
	if res != nil {
		fmt.Fprintln(&s.all, res.Text)
	}
}

// tap is a stage that writes down what passes: here, what the cache stands
// below.
type tap struct{ *seen }

func (s tap) Wrap(next core.Translator) core.Translator {
	return core.TranslatorFunc(func(ctx context.Context, req *core.Request) (*core.Result, error) {
		res, err := next.Translate(ctx, req)
		s.note(req, res)
		return res, err
	})
}

// upstream is a provider that writes down what it is asked, and does something
// before it answers: that is, between Before and After.
type upstream struct {
	*seen
	meanwhile func()
	calls     int
}

func (u *upstream) Translate(_ context.Context, req *core.Request) (*core.Result, error) {
	u.note(req, nil)
	u.calls++
	if u.meanwhile != nil {
		u.meanwhile()
	}
	return &core.Result{Text: "[es] " + req.Text, Finish: core.FinishStop}, nil
}

type none struct{}

// gateway is a chain with this program as a plugin above the cache.
func gateway(t *testing.T, up *upstream, past *seen) *engine.Engine {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "pipeline.yaml")
	yaml := `version: 1
providers:
  up: {type: upstream}
stages:
  - {name: mask, plugin: {command: [` + self + `], env: {GORACE: atexit_sleep_ms=0}}}
  - tap
  - cache
  - provider: {use: up, retries: 0}
`
	if err := os.WriteFile(name, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	h := host.New()
	kinds := append(stages.Kinds(), h.Kinds()...)
	kinds = append(kinds,
		core.NewKind("upstream", core.RoleProvider, "", func() none { return none{} }, func(core.Env, *none) (any, error) { return up, nil }),
		core.NewKind("tap", core.RoleStage, "", func() none { return none{} }, func(core.Env, *none) (any, error) { return tap{past}, nil }))
	file, err := config.Schema{Kinds: kinds}.Load(config.Options{File: name})
	if err != nil {
		t.Fatal(err)
	}
	e := engine.New(nil, zap.NewNop())
	g, err := e.Build(file, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	e.Serve(g, 0)
	t.Cleanup(func() {
		e.Close(context.Background())
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

func ask(t *testing.T, e *engine.Engine, text string) *core.Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	res, err := e.Translate(ctx, &core.Request{ID: "r", Text: text, Source: "en", Target: "es", Final: true})
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// pid is the plugin's process; 0 while it does not serve.
func pid(e *engine.Engine) (n int) {
	serves := false
	e.Measure(func(m core.Measure) {
		switch {
		case m.Name == "plugin_pid":
			n = int(m.Value)
		case m.Name == "plugin_state" && m.Value == 1:
			serves = slices.Contains(m.Labels, "ready")
		}
	})
	if !serves {
		return 0
	}
	return n
}

// TestNoAddressIsLostOrSeenWhenThePluginIsKilled kills the plugin twenty times
// between Before and After: twice each of ten plugins, since one that keeps
// dying is given up.
func TestNoAddressIsLostOrSeenWhenThePluginIsKilled(t *testing.T) {
	property.WithoutRace(t) // with which the plugin, which is this program, starts thirty times
	killed := 0
	for round := range 10 {
		up, past := &upstream{seen: &seen{}}, &seen{}
		e := gateway(t, up, past)
		up.meanwhile = func() {
			was := pid(e)
			if err := syscall.Kill(was, syscall.SIGKILL); err != nil {
				t.Errorf("kill: %v", err)
			}
			killed++
			for late := time.Now().Add(time.Minute); pid(e) == 0 || pid(e) == was; time.Sleep(time.Millisecond) {
				if time.Now().After(late) {
					t.Error("the plugin has not come back")
					return
				}
			}
		}
		for n := range 2 {
			private := fmt.Sprintf("ann%d.%d@example.com", round, n)
			text := fmt.Sprintf("Gate %d: write to %s or charge 4111 1111 1111 1111.", n, private)
			if res := ask(t, e, text); res.Text != "[es] "+text || res.Cached {
				t.Errorf("%+v", res)
			}
		}
		for place, s := range map[string]*seen{"upstream": up.seen, "by the cache": past} {
			if all := s.all.String(); strings.Contains(all, "ann") || strings.Contains(all, "4111") || strings.Count(all, "Gate") == 0 {
				t.Errorf("seen %s:\n%s", place, all)
			}
		}
	}
	if killed != 20 {
		t.Errorf("%d kills, want 20", killed)
	}
}

// TestASentenceIsAskedForOnceWhoeverItIsAbout is what hiding saves.
func TestASentenceIsAskedForOnceWhoeverItIsAbout(t *testing.T) {
	up := &upstream{seen: &seen{}}
	e := gateway(t, up, &seen{})
	for i, who := range []string{"ann@example.com", "bob@example.org"} {
		if res := ask(t, e, "Write to "+who+"."); res.Text != "[es] Write to "+who+"." || res.Cached != (i > 0) {
			t.Errorf("%+v", res)
		}
	}
	if up.calls != 1 {
		t.Errorf("%d calls upstream, want 1", up.calls)
	}
}
