package gateway

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// The tests of this file run examples/word-by-word, a provider in Python.

// wordByWord returns the example's folder, and skips the test where Python has
// not what the SDK needs.
func wordByWord(t *testing.T) string {
	t.Helper()
	needPython(t)
	return filepath.Join(repository(t), "examples", "word-by-word")
}

// words waits for a process of the example that is not former.
func (g *gatewayProcess) words(former int) int {
	g.t.Helper()
	pid := 0
	if !comes(func() bool {
		pid = int(g.number(`dragoman_plugin_pid{provider="words"}`))
		return pid != 0 && pid != former
	}) {
		g.t.Fatalf("there is no process of the plugin:\n%s", g.output())
	}
	return pid
}

func TestAPythonProviderTranslatesAndComesBackWhenItIsKilled(t *testing.T) {
	t.Parallel()
	g := serveFile(t, filepath.Join(wordByWord(t), "pipeline.yaml"), nil)
	a := g.ask("Good morning, my new xylophone.")
	if got := a.text(t); got != "Bueno mañana, mi nuevo [xylophone]." || a.Translations[0].Provider != "words" || strings.Join(a.Translations[0].Flags, " ") != "word_by_word" {
		t.Errorf("%q, %+v", got, a)
	}
	if a := g.post(`{"text": "Good morning", "source": "en", "target": "ja"}`); a.Error == nil || a.Error.Kind != "unsupported_language" {
		t.Errorf("a language that it does not know: %+v", a)
	}
	pid := g.words(0)
	for i := range 3 {
		syscall.Kill(pid, syscall.SIGKILL)
		pid = g.words(pid)
		if got := g.ask(fmt.Sprintf("Good night %d", i)).text(t); got != fmt.Sprintf("Bueno noche %d", i) {
			t.Errorf("after the kill: %q", got)
		}
	}
	g.signal(syscall.SIGTERM)
	if status := g.wait(); status != 0 || !ended(pid) {
		t.Errorf("status %d, the plugin has ended: %v\n%s", status, ended(pid), g.output())
	}
}

func TestAPythonProviderSpeaksBeforeItHasFinished(t *testing.T) {
	g := serveFile(t, filepath.Join(wordByWord(t), "pipeline.yaml"), nil)
	body, _ := json.Marshal(map[string]any{"text": "Where is my red car?", "source": "en", "target": "es", "stream": true})
	res, err := http.Post(g.url+"/v1/translate", "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	deltas, result := (&reading{t: t, lines: bufio.NewScanner(res.Body)}).rest()
	// How many they are is the door's to say: what came while it wrote goes at once.
	if len(deltas) == 0 || strings.Join(deltas, "") != "Dónde es mi rojo coche?" || result.Text != "Dónde es mi rojo coche?" {
		t.Errorf("%q, %+v", deltas, result)
	}
}

func TestAWrongKeyOfAPythonPluginHasItsPlace(t *testing.T) {
	t.Parallel()
	folder := wordByWord(t)
	yaml := `version: 1
providers:
  words:
    type: plugin
    command: [/usr/bin/python3, ` + filepath.Join(folder, "word_by_word.py") + `]
    config:
      words: %s
      %s
stages:
  - provider: {use: words}
`
	for name, c := range map[string]struct{ words, line, want string }{
		"a key":               {"words.tsv", "unknwon: keep", "pipeline.yaml:8:7: providers.words.config.unknwon: there is no such key here; did you mean unknown?"},
		"a value":             {"words.tsv", "unknown: guess", "pipeline.yaml:8:16: providers.words.config.unknown: must be one of mark, keep, fail, got \"guess\""},
		"a file, when served": {"absent.tsv", "unknown: keep", "pipeline.yaml:7:14: providers.words.config.words: [Errno 2] No such file or directory: 'absent.tsv'"},
	} {
		file := write(t, fmt.Sprintf(yaml, c.words, c.line))
		commands := [][]string{{"serve", "--set", "server.listen=127.0.0.1:0"}}
		if c.words == "words.tsv" {
			commands = append(commands, []string{"check", "--offline"})
		}
		for _, args := range commands {
			if _, errs, status := command(t, filepath.Dir(file), nil, "", args...); status != 1 || !strings.Contains(errs, c.want) {
				t.Errorf("%s, %s: status %d, no %q in:\n%s", name, args[0], status, c.want, errs)
			}
		}
	}
}

// TestAScriptWithAChecksumRunsAndFindsWhatStandsBesideIt matters because what
// is executed then is a file of another name.
func TestAScriptWithAChecksumRunsAndFindsWhatStandsBesideIt(t *testing.T) {
	folder := wordByWord(t)
	raw, err := os.ReadFile(filepath.Join(folder, "word_by_word.py"))
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(raw)
	script, list := filepath.Join(folder, "word_by_word.py"), filepath.Join(folder, "words.tsv")
	g := serveYAML(t, `version: 1
providers:
  words:
    type: plugin
    command: [/usr/bin/python3, `+script+`]
    sha256: {`+script+`: `+hex.EncodeToString(sum[:])+`}
    config: {words: `+list+`}
stages:
  - provider: {use: words}
`, nil)
	if got := g.ask("Good morning").text(t); got != "Bueno mañana" {
		t.Errorf("got %q\n%s", got, g.output())
	}
	if !strings.Contains(g.output(), `"name": "word_by_word"`) {
		t.Errorf("it has lost its name:\n%s", g.output())
	}
}
