package protect

import (
	"context"
	"errors"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/coretest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConforms(t *testing.T) {
	coretest.Stage(t, Kind(), nil)
	coretest.Stage(t, Kind(), &Config{Patterns: []string{`__\w+__`}})
}

// over returns the stage over an engine that answers what it makes of a text.
func over(t *testing.T, c Config, answer func(req *core.Request) (*core.Result, error)) core.Translator {
	t.Helper()
	built, err := Kind().Build(core.Env{Name: "protect", Log: zap.NewNop()}, &c)
	if err != nil {
		t.Fatal(err)
	}
	return built.(core.Stage).Wrap(core.TranslatorFunc(func(_ context.Context, req *core.Request) (*core.Result, error) { return answer(req) }))
}

func says(text string) (*core.Result, error) {
	return &core.Result{Text: text, Provider: "p", Finish: core.FinishStop, Usage: core.Usage{PromptTokens: 3}}, nil
}

func TestAnEngineSeesNoPlaceholder(t *testing.T) {
	var saw string
	stage := over(t, Config{Patterns: []string{`__\w+?__`}}, func(req *core.Request) (*core.Result, error) {
		saw = req.Text
		return says(strings.ReplaceAll(req.Text, "files", "archivos"))
	})
	req := &core.Request{Text: "__name__: {{count}} files in <b>%s</b>", Target: "es"}
	res, err := stage.Translate(t.Context(), req)
	if err != nil || res.Text != "__name__: {{count}} archivos en <b>%s</b>" && res.Text != "__name__: {{count}} archivos in <b>%s</b>" || res.NoStore || len(res.Flags) > 0 || res.Usage.PromptTokens != 3 {
		t.Errorf("%+v, %v", res, err)
	}
	if saw != "<x1/>: <x2/> files in <x3/>" || req.Text != "__name__: {{count}} files in <b>%s</b>" {
		t.Errorf("the engine saw %q", saw)
	}
}

func TestATextWithoutPlaceholdersPassesAsItIs(t *testing.T) {
	req := &core.Request{Text: "50 % of it, a < b"}
	var saw *core.Request
	answer, _ := says("50 % de ello, a < b %s")
	stage := over(t, Config{}, func(r *core.Request) (*core.Result, error) { saw = r; return answer, nil })
	if res, err := stage.Translate(t.Context(), req); res != answer || err != nil || saw != req {
		t.Errorf("%+v, %v", res, err)
	}
}

func TestATextOfPlaceholdersAloneIsItsOwnTranslation(t *testing.T) {
	stage := over(t, Config{}, func(*core.Request) (*core.Result, error) { t.Error("called"); return nil, nil })
	var heard string
	res, err := stage.Translate(t.Context(), &core.Request{Text: "<b>%s</b>: {x}", OnDelta: func(s string) error { heard += s; return nil }})
	if err != nil || res.Text != "<b>%s</b>: {x}" || heard != res.Text {
		t.Errorf("%+v, %v, heard %q", res, err, heard)
	}
}

// TestADamagedAnswerFailsItsAttemptAndBringsWhatCanBeMadeOfIt, and each further attempt has
// marks of another style.
func TestADamagedAnswerFailsItsAttemptAndBringsWhatCanBeMadeOfIt(t *testing.T) {
	var styles []string
	stage := over(t, Config{}, func(req *core.Request) (*core.Result, error) {
		_, mark, _ := strings.Cut(req.Text, " ")
		styles = append(styles, mark)
		return says("Abre ahora")
	})
	for attempt := range 3 {
		_, err := stage.Translate(t.Context(), &core.Request{Text: "Open {file}", Attempt: attempt})
		e, ok := errors.AsType[*core.Error](err)
		if !ok || e.Kind != core.BadAnswer || !e.Retryable || e.Usage.PromptTokens != 3 {
			t.Fatal(err)
		}
		if in := e.Instead; in == nil || in.Text != "Abre ahora {file}" || !in.NoStore || len(in.Flags) != 1 || in.Flags[0] != core.FlagPlaceholderMoved {
			t.Errorf("in its place: %+v", in)
		}
	}
	if got := strings.Join(styles, " "); got != "<x1/> XQ1X ⟦1⟧" {
		t.Error(got)
	}
}

// TestTheStyleThatAnEngineKeepsIsUsedFirst once it has been seen to lose others.
func TestTheStyleThatAnEngineKeepsIsUsedFirst(t *testing.T) {
	first := 0
	stage := over(t, Config{}, func(req *core.Request) (*core.Result, error) {
		if strings.Contains(req.Text, "<x") {
			return says("Abre")
		}
		return says(req.Text)
	})
	for range 60 {
		if _, err := stage.Translate(t.Context(), &core.Request{Text: "Open {file}"}); err == nil {
			first++
		} else if _, err := stage.Translate(t.Context(), &core.Request{Text: "Open {file}", Attempt: 1}); err != nil {
			t.Fatal(err)
		}
	}
	if first < 40 {
		t.Errorf("%d of 60 first attempts had marks that this engine keeps", first)
	}
}

// TestDeltasStayAlive whatever the pieces are: what has left is the beginning of the result.
func TestDeltasStayAlive(t *testing.T) {
	const text = "Click <b>here</b> to see {n} files. Then mail ann@example.com about %s."
	for _, c := range []struct{ answer, first, want string }{
		{"Clic <x1/>aquí<x2/> para ver <x3/> archivos. Luego escribe a <x4/> sobre <x5/>.", "Clic <b>aquí</b> para ver ", "Clic <b>aquí</b> para ver {n} archivos. Luego escribe a ann@example.com sobre %s."},
		{"Clic <x1/>aquí<x2/> para ver archivos. Luego escribe a < x 4 / > sobre <x5/>.", "Clic <b>aquí</b> para ver archivos. ", "Clic <b>aquí</b> para ver archivos. Luego escribe a ann@example.com sobre %s. {n}"},
		{"Clic aquí<x2/> para ver <x3/> archivos. Luego escribe a <x4/> sobre <x5/> y <x5/>.", "Clic ", ""},
	} {
		for size := 1; size < 12; size++ {
			var heard, before string
			stage := over(t, Config{}, func(req *core.Request) (*core.Result, error) {
				for rest := c.answer; rest != ""; {
					n := min(size, len(rest))
					if err := req.OnDelta(rest[:n]); err != nil {
						t.Fatal(err)
					}
					rest = rest[n:]
				}
				before = heard
				return says(c.answer)
			})
			res, err := stage.Translate(t.Context(), &core.Request{Text: text, OnDelta: func(s string) error { heard += s; return nil }})
			if err != nil || heard != res.Text || !strings.HasPrefix(before, c.first) {
				t.Fatalf("pieces of %d: heard %q, then all of %q; %+v, %v", size, before, heard, res, err)
			}
			if c.want != "" && res.Text != c.want {
				t.Errorf("%q, want %q", res.Text, c.want)
			}
			for _, p := range []string{"<b>", "</b>", "{n}", "ann@example.com", "%s"} {
				if strings.Count(res.Text, p) != 1 {
					t.Errorf("%q has not one %s", res.Text, p)
				}
			}
		}
	}
}

func TestAPatternThatCannotBeReadIsRefused(t *testing.T) {
	for pattern, want := range map[string]string{"(": "missing closing )", "x*": "at least one character"} {
		_, err := Kind().Build(core.Env{Name: "protect", Log: zap.NewNop()}, &Config{Patterns: []string{pattern}})
		if err == nil || !strings.Contains(err.Error(), "patterns[0]") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", pattern, err)
		}
	}
}
