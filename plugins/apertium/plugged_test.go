package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/config"
	"github.com/dragoman-mt/dragoman/plugins/apertium/engine"
	"github.com/dragoman-mt/dragoman/plugins/host"
)

// needApertium skips a test where Apertium, or its English and Spanish, is not
// installed.
func needApertium(t *testing.T) {
	t.Helper()
	found, err := engine.Find()
	if err != nil {
		t.Skip("not tested: ", err)
	}
	for _, m := range found.Modes {
		if m.Source == "en" && m.Target == "es" {
			return
		}
	}
	t.Skip("not tested: apertium-eng-spa is not installed")
}

type useConfig struct {
	Use string `json:"use" ref:"providers"`
}

// plugged starts this program as the gateway would, without an environment, and
// returns the provider that a chain sees.
func plugged(t *testing.T, settings string) core.Translator {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "pipeline.yaml")
	yaml := "version: 1\nproviders:\n  rough: {type: plugin, command: [" + self + "], env: {GORACE: atexit_sleep_ms=0}, config: " + settings + "}\nstages:\n  - provider: {use: rough}\n"
	if err := os.WriteFile(name, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	h := host.New()
	t.Cleanup(func() { h.Close() })
	caller := core.NewKind("provider", core.RoleCaller, "", func() useConfig { return useConfig{} }, func(core.Env, *useConfig) (any, error) { return nil, nil })
	file, err := config.Schema{Kinds: append(h.Kinds(), caller)}.Load(config.Options{File: name})
	if err != nil {
		t.Fatal(err)
	}
	item := file.Providers[0]
	built, err := item.Kind.Build(core.Env{Name: item.Name, Log: zap.NewNop(), Deadline: time.Minute, Origin: item.Origin}, item.Config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { built.(core.Closer).Close() })
	if err := built.(core.Starter).Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return built.(core.Translator)
}

func ask(ctx context.Context, p core.Translator, text string, source, target core.Language) (string, error) {
	res, err := p.Translate(ctx, &core.Request{ID: "r", Text: text, Source: source, Target: target, Trace: core.NewTrace(nil)})
	if err != nil {
		return "", err
	}
	return res.Text, nil
}

func TestEveryInstalledPairIsOfferedAndNoOther(t *testing.T) {
	needApertium(t)
	p := plugged(t, "{}")
	found, err := engine.Find()
	if err != nil {
		t.Fatal(err)
	}
	offered := map[string]bool{}
	for _, l := range p.(core.Languager).Languages() {
		for _, target := range l.Targets {
			offered[string(l.Source+" "+target)] = true
		}
	}
	for _, m := range found.Modes {
		if !offered[string(m.Source+" "+m.Target)] {
			t.Errorf("%s to %s is installed and not offered: %v", m.Source, m.Target, offered)
		}
		delete(offered, string(m.Source+" "+m.Target))
	}
	if len(offered) > 0 {
		t.Errorf("offered and not installed: %v", offered)
	}
	if got, err := ask(t.Context(), p, "Good morning. The new car is very fast.", "en", "es"); got != "Buenos días. El coche nuevo es muy rápido." {
		t.Errorf("%q, %v", got, err)
	}
	for _, c := range []struct{ source, target, says core.Language }{{"en", "fr", "en to fr"}, {"", "es", "source"}} {
		_, err := ask(t.Context(), p, "x", c.source, c.target)
		e, ok := errors.AsType[*core.Error](err)
		if !ok || e.Kind != core.UnsupportedLanguage || !strings.Contains(e.Detail, string(c.says)) {
			t.Errorf("%q to %q: %v", c.source, c.target, err)
		}
	}
}

// commands returns the numbers of the processes that the plugin has started
// for its chains, by name.
func commands(t *testing.T, p core.Translator) map[string][]int {
	t.Helper()
	plugin := 0
	p.(core.Measurer).Measure(func(m core.Measure) {
		if m.Name == "plugin_pid" {
			plugin = int(m.Value)
		}
	})
	processes, err := filepath.Glob("/proc/[0-9]*")
	if plugin == 0 || err != nil {
		t.Skip("not tested: processes cannot be listed here")
	}
	all := map[string][]int{}
	for _, name := range processes {
		raw, err := os.ReadFile(name + "/stat")
		if err != nil {
			continue // it has ended since
		}
		open, end := bytes.IndexByte(raw, '('), bytes.LastIndexByte(raw, ')')
		rest := strings.Fields(string(raw[end+1:]))
		if rest[1] == strconv.Itoa(plugin) && rest[0] != "Z" {
			pid, _ := strconv.Atoi(strings.TrimSpace(string(raw[:open])))
			all[string(raw[open+1:end])] = append(all[string(raw[open+1:end])], pid)
		}
	}
	return all
}

// special is a random text of the characters that mean something to Apertium,
// with some words between.
func special(rng *rand.Rand) string {
	parts := []string{`\`, "[", "]", "{", "}", "^", "$", "/", "@", "<", ">", "~", "*", "#", "+", "|", "&", ".", ".[]", "[]", "[[", "\\[", "^a<n>$",
		"\\0", "\n", "\t", " ", " ", "the", "new car", "is fast.", "?", "…", "é", "日本", "👋🏽", "\u00a0", "'", "\"", "don't", "\r\n", "\ufeff"}
	var b strings.Builder
	for range rng.IntN(20) {
		b.WriteString(parts[rng.IntN(len(parts))])
	}
	return b.String()
}

// TestEachAnswerBelongsToItsQuestion lets 50 clients send texts of the
// characters that the stream of Apertium uses, each with a word that no
// dictionary knows: it alone must come back. The engine has a test with more of them.
func TestEachAnswerBelongsToItsQuestion(t *testing.T) {
	needApertium(t)
	p := plugged(t, "{chains: 3}")
	const clients, texts = 50, 1
	var all sync.WaitGroup
	for client := range clients {
		all.Go(func() {
			rng := rand.New(rand.NewPCG(2, uint64(client)))
			for n := range texts {
				word := fmt.Sprintf("qz%dx%dk", client, n)
				text := special(rng) + " " + word + " " + special(rng)
				got, err := ask(t.Context(), p, text, "en", "es")
				if err != nil {
					t.Errorf("%q: %v", text, err)
					return
				}
				if strings.Count(got, "qz") != 1 || !strings.Contains(got, word) || strings.Contains(got, "dragoman") {
					t.Errorf("%q came back as %q", text, got)
				}
				if a, b := strings.Count(text, "\n"), strings.Count(got, "\n"); a != b {
					t.Errorf("%q: %d lines became %d: %q", text, a, b, got)
				}
			}
		})
	}
	all.Wait()
	found, err := engine.Find()
	if err != nil {
		t.Fatal(err)
	}
	ahead := min(mostWarm, len(found.Modes)) - 1 // of other pairs
	if n := len(commands(t, p)["lrx-proc"]); n < 1 || n > 3+ahead {
		t.Errorf("%d chains are running, want at most as many as configured, 3, and %d that were started ahead", n, ahead)
	}
}

// TestAChainKilledInMidTextMixesNothing kills a command of the only chain while
// texts wait for it and are in it: some may fail, and are asked for again; none
// may come back as another.
func TestAChainKilledInMidTextMixesNothing(t *testing.T) {
	needApertium(t)
	p := plugged(t, "{chains: 1}")
	if _, err := ask(t.Context(), p, "Good morning", "en", "es"); err != nil {
		t.Fatal(err)
	}
	const clients, texts, kills = 4, 3, 1
	var killed, failed atomic.Int64
	var all sync.WaitGroup
	for client := range clients {
		all.Go(func() {
			for n := range texts {
				word := fmt.Sprintf("qz%dx%dk", client, n)
				for {
					got, err := ask(t.Context(), p, "The car is red, "+word+".", "en", "es")
					if e, ok := errors.AsType[*core.Error](err); ok && e.Kind == core.Unavailable && e.Retryable {
						failed.Add(1)
						continue
					}
					if err != nil || got != "El coche es rojo, "+word+"." {
						t.Errorf("%q, %v came back for %s", got, err, word)
					}
					break
				}
				if client == 0 && killed.Load() < kills {
					for _, pid := range commands(t, p)["lrx-proc"] {
						syscall.Kill(pid, syscall.SIGKILL)
						killed.Add(1)
					}
				}
			}
		})
	}
	all.Wait()
	t.Logf("%d commands killed, %d texts failed and were asked for again", killed.Load(), failed.Load())
	if killed.Load() == 0 {
		t.Error("no chain was killed")
	}
}

// TestNoChainOutlivesThePlugin kills the plugin with a chain at rest.
func TestNoChainOutlivesThePlugin(t *testing.T) {
	needApertium(t)
	p := plugged(t, "{}")
	if _, err := ask(t.Context(), p, "Good morning", "en", "es"); err != nil {
		t.Fatal(err)
	}
	var chain []int
	for _, pids := range commands(t, p) {
		chain = append(chain, pids...)
	}
	if len(chain) < 5 {
		t.Fatalf("the chain has %d processes", len(chain))
	}
	p.(core.Measurer).Measure(func(m core.Measure) {
		if m.Name == "plugin_pid" {
			syscall.Kill(int(m.Value), syscall.SIGKILL)
		}
	})
	deadline := time.Now().Add(30 * time.Second)
	for _, pid := range chain {
		for alive(pid) {
			if time.Now().After(deadline) {
				t.Fatalf("process %d goes on", pid)
			}
			time.Sleep(time.Millisecond)
		}
	}
}

// alive says whether a process runs; one that nobody has reaped does not.
func alive(pid int) bool {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := strings.Cut(string(raw), ") ")
	return err == nil && !strings.HasPrefix(rest, "Z")
}
