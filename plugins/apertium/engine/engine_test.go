package engine

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/coretest/executable"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// spanish returns an engine over the real Apertium.
func spanish(t testing.TB, o Options) *Engine {
	t.Helper()
	e, err := New(o)
	if err != nil {
		t.Skip("not tested: ", err)
	}
	if _, ok := e.options.Installed.find("en", "es"); !ok {
		t.Skip("not tested: apertium-eng-spa is not installed")
	}
	t.Cleanup(func() { e.Close() })
	return e
}

func translate(t testing.TB, e *Engine, text string) string {
	t.Helper()
	got, err := e.Translate(t.Context(), text, "en", "es")
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return got
}

func TestTranslatesRealSentences(t *testing.T) {
	e := spanish(t, Options{})
	for text, want := range map[string]string{
		"Good morning. The new car is very fast.": "Buenos días. El coche nuevo es muy rápido.",
		"good morning": "buenos días",
		"GOOD MORNING": "BUENOS DÍAS",
		"line one":     "línea un",
		"The house is red.\n\n  The car is blue.\r\n\tGood morning\n": "La casa es roja.\n\n  El coche es azul.\r\n\tBuenos días\n",
		"  Good morning  ": "  Buenos días  ",
		"The car (new) is [very] fast; 5 < 6 & {x} = ^2$ / @home ~ \\o/": "",
		"the zzqx9 is red": "el zzqx9 es rojo",
		" \n\t":            " \n\t",
		"":                 "",
	} {
		got := translate(t, e, text)
		if want != "" && got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
		if want == "" && text != "" {
			for _, c := range "()[];<&{}=^$/@~\\" {
				if strings.Count(got, string(c)) != strings.Count(text, string(c)) {
					t.Errorf("%q: %q in %q", text, c, got)
				}
			}
		}
	}
	if got, err := e.Translate(t.Context(), "El coche nuevo es muy rápido.", "es-MX", "en"); err != nil || got != "The new car is very fast." {
		t.Errorf("%q, %v", got, err)
	}
}

func TestALongTextGoesInParts(t *testing.T) {
	e := spanish(t, Options{})
	got := translate(t, e, strings.Repeat("The house is red. ", 1000)+"\n"+strings.Repeat("x", 6000)+"\n")
	if n := strings.Count(got, "La casa es roja. "); n != 1000 || strings.Count(got, "\n") != 2 || strings.Count(got, "x") != 6000 {
		t.Errorf("%d sentences: %.200q", n, got)
	}
}

func TestWhatCannotBeTranslatedIsRefused(t *testing.T) {
	e := spanish(t, Options{})
	for _, c := range []struct {
		text           string
		source, target core.Language
		kind           core.ErrorKind
		says           string
	}{
		{"x", "en", "fr", core.UnsupportedLanguage, "en to fr"},
		{"x", "", "es", core.UnsupportedLanguage, "source"},
		{"a\x00b", "en", "es", core.InvalidRequest, "NUL"},
		{"a\xff", "en", "es", core.InvalidRequest, "UTF-8"},
		{strings.Repeat("a", MaxText+1), "en", "es", core.TooLarge, "bytes"},
	} {
		_, err := e.Translate(t.Context(), c.text, c.source, c.target)
		got, ok := errors.AsType[*core.Error](err)
		if !ok || got.Kind != c.kind || !strings.Contains(got.Detail, c.says) || got.Retryable {
			t.Errorf("%.10q %s %s: %v", c.text, c.source, c.target, err)
		}
	}
}

// What must hold above all: nobody gets another one's text. 50 clients send
// texts full of the characters that the stream format uses; in each is a word
// that no dictionary knows, and it alone must come back.
func TestEachAnswerBelongsToItsQuestion(t *testing.T) {
	e := spanish(t, Options{Chains: 2})
	const clients, texts = 50, 5
	var all sync.WaitGroup
	for client := range clients {
		all.Go(func() {
			rng := rand.New(rand.NewPCG(1, uint64(client)))
			for n := range texts {
				word := fmt.Sprintf("qz%dx%dk", client, n)
				text := special(rng) + " " + word + " " + special(rng)
				got, err := e.Translate(t.Context(), text, "en", "es")
				if err != nil {
					t.Errorf("%q: %v", text, err)
					return
				}
				if strings.Count(got, "qz") != 1 || !strings.Contains(got, word) {
					t.Errorf("%q came back as %q", text, got)
				}
				if a, b := strings.Count(text, "\n"), strings.Count(got, "\n"); a != b {
					t.Errorf("%q: %d lines became %d: %q", text, a, b, got)
				}
				if strings.Contains(got, "dragoman") {
					t.Errorf("%q: the frame shows in %q", text, got)
				}
			}
		})
	}
	all.Wait()
	if n := e.started.Load(); n > 2 {
		t.Errorf("%d chains were started where 2 do: some misbehaved", n)
	}
}

// special is a random text of the characters that mean something to Apertium,
// with some words between.
func special(rng *rand.Rand) string {
	parts := []string{`\`, "[", "]", "{", "}", "^", "$", "/", "@", "<", ">", "~", "*", "#", "+", "|", "&", "_", "-", ".", ".[]", "[]",
		"[[", "]]", "\\[", "^a<n>$", "<n>", "\\0", "\n", "\t", "  ", " ", " ", "the", "new car", "is fast.", "?", "!", "…", "é", "日本", "👋🏽", "\u00a0", "\u200d", "'", "\"", "don't", "5%", "\r\n", "a/b", "\ufeff"}
	var b strings.Builder
	for range rng.IntN(20) {
		b.WriteString(parts[rng.IntN(len(parts))])
	}
	return b.String()
}

// running returns the process groups of the chains that rest.
func resting(e *Engine, mode string) (pids [][]int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, c := range e.pairs[mode].idle {
		var of []int
		for _, cmd := range c.commands {
			of = append(of, cmd.Process.Pid)
		}
		pids = append(pids, of)
	}
	return pids
}

func TestAChainThatDiedIsReplaced(t *testing.T) {
	e := spanish(t, Options{Chains: 1})
	translate(t, e, "Good morning")
	for _, i := range []int{0, 5, 10} { // whichever of its commands dies
		syscall.Kill(resting(e, "eng-spa")[0][i], syscall.SIGKILL)
		got, err := e.Translate(t.Context(), "Good morning", "en", "es")
		if err != nil {
			// Its death was not noticed before the text was sent: that text fails,
			// the next one does not.
			if e, ok := errors.AsType[*core.Error](err); !ok || e.Kind != core.Unavailable || !e.Retryable {
				t.Fatal(err)
			}
			got = translate(t, e, "Good morning")
		}
		if got != "Buenos días" {
			t.Errorf("%q after command %d died", got, i)
		}
	}
}

// Chains are killed all the time while texts are in them: texts may fail, none
// may come back as another.
func TestAChainKilledInMidTextMixesNothing(t *testing.T) {
	e := spanish(t, Options{Chains: 2})
	translate(t, e, "Good morning")
	ctx, stop := context.WithCancel(t.Context())
	var killer, all sync.WaitGroup
	turn := make(chan struct{}, 1)
	killer.Go(func() {
		for {
			select {
			case <-turn:
				e.mu.Lock()
				idle := slices.Clone(e.pairs["eng-spa"].idle)
				e.mu.Unlock()
				for _, c := range idle { // with clients waiting, most have the next text by now
					c.commands[3].Process.Kill()
				}
			case <-ctx.Done():
				return
			}
		}
	})
	var mu sync.Mutex
	right, failed := 0, 0
	for client := range 8 {
		all.Go(func() {
			for n := range 3 {
				word := fmt.Sprintf("qz%dx%dk", client, n)
				got, err := e.Translate(ctx, "The car is red, "+word+".", "en", "es")
				if n%3 == 0 {
					select {
					case turn <- struct{}{}:
					default:
					}
				}
				mu.Lock()
				switch {
				case err != nil:
					failed++
				case got == "El coche es rojo, "+word+".":
					right++
				default:
					t.Errorf("%q came back for %s", got, word)
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
	stop()
	killer.Wait()
	if right == 0 {
		t.Error("nothing was translated")
	}
	t.Logf("%d right, %d failed, %d chains", right, failed, e.started.Load())
	for range 3 { // at most one attempt for each chain that died unnoticed
		if got, err := e.Translate(t.Context(), "Good morning", "en", "es"); err == nil && got == "Buenos días" {
			return
		}
	}
	t.Error("the engine did not recover")
}

// fake returns an engine whose only chain is a program of this test.
func fake(t *testing.T, o Options, script string) *Engine {
	t.Helper()
	dir := t.TempDir()
	bin := filepath.Join(dir, "lt-proc")
	executable.Write(t, bin, "#!/bin/sh\n"+script)
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	o.Installed = &Installed{Modes: []Mode{{Name: "eng-spa", Source: "en", Target: "es", Commands: [][]string{{"lt-proc", "-z"}, {"cat"}}}}}
	e, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

func TestTheFirstTextFindsAChainThatWasStartedAhead(t *testing.T) {
	e := fake(t, Options{}, "cat")
	// idle is how many chains wait for work.
	idle := func() int {
		e.mu.Lock()
		defer e.mu.Unlock()
		return len(e.pairs["eng-spa"].idle)
	}
	e.Warm(0)
	e.Warm(1)
	for deadline := time.Now().Add(60 * time.Second); idle() == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("no chain was started")
		}
	}
	if _, err := e.Translate(t.Context(), "x", "en", "es"); err != nil {
		t.Fatal(err)
	}
	if n := e.started.Load(); n != 1 {
		t.Errorf("%d chains were started, want the one that was started ahead", n)
	}
	e.Close()
	e.Warm(1)
	if n := e.started.Load(); n != 1 || idle() > 0 {
		t.Errorf("after Close: %d chains were started, %d are left", n, idle())
	}
}

func TestAChainThatMisbehavesIsKilled(t *testing.T) {
	// Each script answers the first, empty text as it should.
	const good = "head -z -n 1\n"
	for name, script := range map[string]string{
		"silent":             good + "cat >/dev/null",
		"dies":               good + "head -z -n 1 >/dev/null",
		"no token":           good + "head -z -n 1 >/dev/null; printf 'hola\\0'; cat >/dev/null",
		"dies in mid answer": good + "head -z -n 1 >/dev/null; printf '[dragoman2]ho'",
		"a NUL too few":      good + "head -z -n 1 | tr -d '\\0'; cat >/dev/null",
		"text before":        good + "head -z -n 1 >/dev/null; printf 'other text[dragoman2]hola.[][dragoman2]\\0'; cat >/dev/null",
		"text after":         good + "head -z -n 1 >/dev/null; printf '[dragoman2]hola.[][dragoman2]other text\\0'; cat >/dev/null",
		"old token":          good + "head -z -n 1 >/dev/null; printf '[dragoman1]hola.[][dragoman1]\\0'; cat >/dev/null",
		"a flood":            good + "head -z -n 1 >/dev/null; head -c 3000000 /dev/zero | tr '\\0' x; cat >/dev/null",
		"never starts":       "exit 3",
	} {
		t.Run(name, func(t *testing.T) {
			e := fake(t, Options{Timeout: 300 * time.Millisecond}, script)
			got, err := e.Translate(t.Context(), "hello", "en", "es")
			c, ok := errors.AsType[*core.Error](err)
			if !ok || c.Kind != core.Unavailable || !c.Retryable {
				t.Fatalf("%q, %v", got, err)
			}
			if left := resting(e, "eng-spa"); len(left) != 0 {
				t.Errorf("it was kept: %v", left)
			}
		})
	}
}

func TestAnAnswerTooManyIsNoticedBeforeTheNextText(t *testing.T) {
	e := fake(t, Options{}, `head -z -n 1; head -z -n 1; printf 'other\0'; cat`)
	if got := translate(t, e, "hello"); got != "hello" {
		t.Fatal(got)
	}
	before := resting(e, "eng-spa")[0][0]
	// What is too much arrives before the next text or with it. Either way that
	// text is not answered with it.
	got, err := e.Translate(t.Context(), "world", "en", "es")
	if err == nil && got != "world" {
		t.Fatalf("%q", got)
	}
	for _, pids := range resting(e, "eng-spa") {
		if pids[0] == before {
			t.Error("the chain was kept")
		}
	}
}

func TestNothingIsLeftBehind(t *testing.T) {
	e := spanish(t, Options{Chains: 2})
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() { e.Translate(t.Context(), "Good morning", "en", "es") })
	}
	all.Wait()
	pids := resting(e, "eng-spa")
	if len(pids) == 0 {
		t.Fatal("no chain rests")
	}
	e.Close()
	for _, of := range pids {
		for _, pid := range of {
			if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
				t.Errorf("process %d: %v", pid, err)
			}
		}
	}
	if _, err := e.Translate(t.Context(), "Good morning", "en", "es"); core.KindOf(err) != core.Unavailable {
		t.Error(err)
	}
}

func TestIdleChainsEnd(t *testing.T) {
	e := fake(t, Options{Idle: time.Millisecond}, "cat")
	translate(t, e, "hello")
	e.mu.Lock()
	idle := slices.Clone(e.pairs["eng-spa"].idle)
	e.mu.Unlock()
	for _, c := range idle {
		select {
		case <-c.killed:
		case <-time.After(10 * time.Second):
			t.Fatal("it is still there")
		}
	}
	if got := translate(t, e, "hello"); got != "hello" {
		t.Error(got)
	}
}

func TestACallerThatLeavesCostsNoChain(t *testing.T) {
	e := fake(t, Options{Chains: 1}, "head -z -n 1; head -z -n 1; read wait < "+fifo(t)+"; cat")
	translate(t, e, "first") // the chain waits at the fifo from here on
	ctx, leave := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := e.Translate(ctx, "second", "en", "es")
		done <- err
	}()
	leave()
	if err := <-done; core.KindOf(err) != core.Canceled {
		t.Fatal(err)
	}
	if err := os.WriteFile(os.Getenv("FIFO"), []byte("go\n"), 0); err != nil {
		t.Fatal(err)
	}
	if got := translate(t, e, "third"); got != "third" || e.started.Load() != 1 {
		t.Errorf("%q, %d chains", got, e.started.Load())
	}
}

func fifo(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("FIFO", path)
	return path
}

func TestNotInstalledSaysWhatToInstall(t *testing.T) {
	_, err := Find(t.TempDir())
	e, ok := errors.AsType[*core.Error](err)
	if !ok || e.Kind != core.Unavailable || !strings.Contains(e.Detail, "apertium-eng-spa") {
		t.Error(err)
	}
}

func BenchmarkSentence(b *testing.B) {
	e := spanish(b, Options{})
	translate(b, e, "Good morning")
	for b.Loop() {
		translate(b, e, "Good morning. The new car is very fast.")
	}
}
