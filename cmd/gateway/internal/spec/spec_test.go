package spec

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/config"
	"github.com/dragoman-mt/dragoman/core/door"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// load reads tests of a configuration with the providers a and b.
func load(t testing.TB, text string) (*File, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "x_test.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return Load(file, []string{"a", "b"})
}

func must(t testing.TB, text string) *File {
	t.Helper()
	f, err := load(t, text)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// bare is a chain that is the provider a alone: what a test of the runner needs.
func bare(translate func(ctx context.Context, req *core.Request, a core.Translator) (*core.Result, error)) func(context.Context, []string, *Double) (*Rig, error) {
	return func(_ context.Context, _ []string, d *Double) (*Rig, error) {
		built, err := d.Provider(core.Kind{Name: "x"}).Build(core.Env{Name: "a"}, nil)
		if err != nil {
			return nil, err
		}
		ok := 0
		return &Rig{
			Translator: core.TranslatorFunc(func(ctx context.Context, req *core.Request) (*core.Result, error) {
				defer func() { ok++ }()
				return translate(ctx, req, built.(core.Translator))
			}),
			Measure: func(emit func(core.Measure)) {
				emit(core.Measure{Name: "provider_attempts_total", Value: float64(ok), Labels: []string{"stage", "provider", "provider", "a", "reason", "first", "outcome", "ok"}})
			},
			Close: func() {},
		}, nil
	}
}

func direct(ctx context.Context, req *core.Request, a core.Translator) (*core.Result, error) {
	return a.Translate(ctx, req)
}

const greeting = `
tests:
  - name: greets
    request: {text: hello, target: es}
    providers: {a: [{text: hola, delay: 9s}]}
    expect: {text: hola, attempts: [a first ok]}
`

func written(o Outcome) string {
	var b strings.Builder
	o.Write(&b, false)
	return b.String()
}

func TestATestHasItsTime(t *testing.T) {
	f := must(t, greeting)
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		o := (&Runner{Open: bare(direct), Limit: 10 * time.Second}).Run(t.Context(), f, 0)
		if took := time.Since(begin).Round(time.Second); o.Grade != Passed || took != 9*time.Second {
			t.Errorf("%v after %v\n%s", o.Grade, took, written(o))
		}
	})
}

func TestATestThatHangsFailsAndSaysWhere(t *testing.T) {
	f := must(t, greeting)
	for _, c := range []struct {
		name  string
		open  func(release <-chan struct{}) func(context.Context, []string, *Double) (*Rig, error)
		after time.Duration
		want  string
	}{
		{"a provider that is slow", func(<-chan struct{}) func(context.Context, []string, *Double) (*Rig, error) {
			return bare(direct)
		}, 5 * time.Second, ":4:14: tests[0].request\n        want an end within 5s\n        got  none; the time passed during the request, in a call of a\n"},
		{"a chain that listens to nobody", func(release <-chan struct{}) func(context.Context, []string, *Double) (*Rig, error) {
			return bare(func(context.Context, *core.Request, core.Translator) (*core.Result, error) {
				<-release
				return nil, errors.New("at last")
			})
		}, 5*time.Second + grace, ":4:14: tests[0].request\n        want an end within 5s\n        got  none; the time passed during the request\n"},
		{"a start that does not end", func(<-chan struct{}) func(context.Context, []string, *Double) (*Rig, error) {
			return func(ctx context.Context, _ []string, _ *Double) (*Rig, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			}
		}, 5 * time.Second, ":3:5: tests[0]\n        want an end within 5s\n        got  none; the time passed during the start of the chain\n"},
		{"an end that does not end", func(release <-chan struct{}) func(context.Context, []string, *Double) (*Rig, error) {
			return func(context.Context, []string, *Double) (*Rig, error) {
				g, err := bare(func(context.Context, *core.Request, core.Translator) (*core.Result, error) {
					return &core.Result{Text: "adiós"}, nil
				})(nil, nil, &Double{})
				g.Close = func() { <-release }
				return g, err
			}
		}, 5*time.Second + grace, ":3:5: tests[0]\n        want an end within 5s\n        got  none; the time passed during the end of the chain\n"},
	} {
		synctest.Test(t, func(t *testing.T) {
			release := make(chan struct{})
			defer close(release)
			begin := time.Now()
			o := (&Runner{Open: c.open(release), Limit: 5 * time.Second}).Run(t.Context(), f, 0)
			if took := time.Since(begin); o.Grade != Failed || took != c.after || !strings.HasSuffix(written(o), c.want) {
				t.Errorf("%s: after %v, want %v\n%s", c.name, took, c.after, written(o))
			}
		})
	}
}

// A call that outlives its request, as a hedge does that has lost, belongs to
// that request and not to the next.
func TestWhatARequestBeganIsWaitedFor(t *testing.T) {
	f := must(t, `
tests:
  - name: leaves a call behind
    steps:
      - request: {text: one, target: es}
        providers: {a: [{text: late, delay: 3s}]}
        expect: {text: early, upstream: one}
      - request: {text: two, target: es}
        providers: {a: [{text: late, delay: 3s}]}
        expect: {text: early, upstream: two}
`)
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		o := (&Runner{Limit: time.Minute, Open: bare(func(ctx context.Context, req *core.Request, a core.Translator) (*core.Result, error) {
			go a.Translate(context.WithoutCancel(ctx), req)
			synctest.Wait()
			return &core.Result{Text: "early"}, nil
		})}).Run(t.Context(), f, 0)
		if took := time.Since(begin).Round(time.Second); o.Grade != Passed || took != 6*time.Second {
			t.Errorf("after %v\n%s", took, written(o))
		}
	})
}

func TestEveryKindOfErrorCanBeGivenAndExpected(t *testing.T) {
	var kinds []string
	for _, row := range door.Table() {
		kinds = append(kinds, string(row.Kind))
	}
	slices.Sort(kinds)
	if have := slices.Sorted(slices.Values(outcomes()[1:])); !slices.Equal(have, kinds) {
		t.Errorf("outcomes are %v, kinds %v", have, kinds)
	}
	for _, of := range []any{Answer{}, Expect{}} {
		field, _ := reflect.TypeOf(of).FieldByName("Error")
		have := strings.Split(strings.ReplaceAll(field.Tag.Get("jsonschema"), "enum=", ""), ",")
		if slices.Sort(have); !slices.Equal(have, kinds) {
			t.Errorf("%T takes %v, kinds are %v", of, have, kinds)
		}
	}
}

func TestAttemptsReadBackAsTheyAreWritten(t *testing.T) {
	for _, a := range []Attempt{{"a", "", ""}, {"a-b", "retry", ""}, {"a", "fallback", "bad_answer"}} {
		var b Attempt
		if err := b.UnmarshalText([]byte(a.String())); err != nil || a != b {
			t.Errorf("%v: %v, %v", a, b, err)
		}
	}
}

// FuzzLoad asserts that every input is either tests that can be run or
// complaints with places inside the file.
func FuzzLoad(f *testing.F) {
	for _, name := range []string{"../../../../pipeline_test.yaml", "../../testdata/test/failures_test.yaml", "../../testdata/test/mistakes_test.yaml"} {
		raw, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(raw))
	}
	f.Add(greeting)
	f.Add("tests: [{name: a, steps: [{}]}]")
	f.Add("tests: [{name: a, steps: [null, {times: 1, providers: {a: null, b: [null]}}], set: [null], expect: }]")
	f.Add("tests: [{name: a, request: {text: a, target: es}, providers: {a.b: [{text: a}]}, expect: {attempts: [a, 1, null, [], {a: first}]}}]")
	f.Fuzz(func(t *testing.T, text string) {
		tests, err := load(t, text)
		if err != nil {
			all := config.AsComplaints(err)
			if len(all) == 0 {
				t.Fatalf("no complaint: %v", err)
			}
			lines := strings.Count(text, "\n") + strings.Count(text, "\r") + strings.Count(text, "\u0085") + strings.Count(text, "\u2028") + strings.Count(text, "\u2029") + 1
			for _, c := range all {
				if c.Line < 1 || c.Line > lines || c.Column < 1 || c.Message == "" {
					t.Errorf("%v of %d lines", c, lines)
				}
			}
			return
		}
		for i, test := range tests.Tests {
			steps := test.Steps
			if steps == nil {
				steps = []Step{test.Step}
			}
			for _, s := range steps {
				if s.Request == nil || s.Expect == nil {
					t.Fatalf("test %d cannot be run: %+v", i, test)
				}
			}
			if test.Name == "" {
				t.Error("a test without a name")
			}
			if c := tests.place(fmt.Sprintf("tests[%d].expect", i)); c.Line < 1 {
				t.Errorf("test %d has no place: %v", i, c)
			}
		}
	})
}
