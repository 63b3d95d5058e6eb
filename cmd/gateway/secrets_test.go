package gateway

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
)

// A keyed upstream answers with the Authorization that it was sent, and refuses
// all but the one that it wants, if it wants one.
func keyed(t *testing.T) (url string, wants *atomic.Pointer[string]) {
	wants = &atomic.Pointer[string]{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got := r.Header.Get("Authorization")
		if want := wants.Load(); want != nil && got != *want {
			http.Error(w, `{"error": {"message": "no"}}`, http.StatusUnauthorized)
			return
		}
		if got == "" {
			got = "keyless"
		}
		content, _ := json.Marshal("by " + got)
		w.Header().Set("Content-Type", "application/json")
		w.Write([]byte(`{"model": "m", "choices": [{"finish_reason": "stop", "message": {"role": "assistant", "content": ` + string(content) + `}}]}`))
	}))
	t.Cleanup(s.Close)
	return s.URL + "/v1", wants
}

// A server without keys serves with its address and nothing else. A key that an edit
// adds, in a file, is used from then on, and so is each that takes its place there;
// when it is gone, what serves goes on.
func TestAKeyComesByAnEditAndChangesWithItsFile(t *testing.T) {
	t.Parallel()
	url, wants := keyed(t)
	yaml := func(key string) string {
		return strings.NewReplacer("URL", url, "KEY", key).Replace(`version: 1
server: {listen: "127.0.0.1:0"}
providers:
  own: {type: openai, base_url: "URL"KEY}
stages:
  - cache
  - queue
  - provider: {use: own, retries: 0}
`)
	}
	g := serveAndEdit(t, yaml(""))
	if got := g.ask("Without a key.").text(t); got != "by keyless" {
		t.Errorf("got %q", got)
	}
	key := filepath.Join(filepath.Dir(g.file), "key")
	put(t, key, "sk-hunter-one\n")
	g.edit(yaml(`, api_key: "${file:key}"`))
	g.see(`reloaded generation 2 \(was 1\) in \S+: providers\.own\.api_key "" -> \[redacted\]`)
	one := "Bearer sk-hunter-one"
	wants.Store(&one)
	if got := g.ask("With a key.").text(t); got != "by Bearer sk-hunter-one" {
		t.Errorf("got %q", got)
	}

	two := "Bearer sk-hunter-two"
	wants.Store(&two)
	put(t, key+".new", "sk-hunter-two\n")
	do(t, os.Rename(key+".new", key))
	g.see(`reloaded generation 3 \(was 2\) in \S+: providers\.own\.api_key changed`)
	if got := g.ask("With another.").text(t); got != "by Bearer sk-hunter-two" {
		t.Errorf("got %q", got)
	}

	do(t, os.Remove(key))
	g.see(`refused after \S+, generation 3 serves on:(?s:.*)providers\.own\.api_key: the file \S+/key is not there; create it`)
	if got := g.ask("Without the file.").text(t); got != "by Bearer sk-hunter-two" {
		t.Errorf("got %q", got)
	}
	put(t, key, "sk-hunter-two\n")
	put(t, key, "sk-hunter-three\n")
	three := "Bearer sk-hunter-three"
	wants.Store(&three)
	g.signal(syscall.SIGHUP) // who asks need not wait
	g.see(`reloaded generation 4 \(was 3\) in \S+: providers\.own\.api_key changed`)
	if got := g.ask("With the third.").text(t); got != "by Bearer sk-hunter-three" {
		t.Errorf("got %q", got)
	}

	// A file that is not there yet: the edit is refused, and done once it is.
	g.edit(yaml(`, api_key: "${file:later}"`))
	g.see(`refused after \S+, generation 4 serves on; the file on disk differs from what serves:(?s:.*)/later is not there`)
	put(t, filepath.Join(filepath.Dir(g.file), "later"), "sk-hunter-three")
	g.see(`reloaded generation 5 \(was 4\) in \S+: no value changed`)
	if log := g.output(); strings.Contains(log, "hunter") {
		t.Errorf("the log tells a key:\n%s", log)
	}
	for _, where := range [][]string{{"explain"}, {"status"}} {
		out, errs, status := command(t, filepath.Dir(g.file), g.cmd.Env, "", where...)
		if status != 0 || strings.Contains(out+errs, "hunter") {
			t.Errorf("%s: status %d\n%s%s", where, status, out, errs)
		}
	}
}

func TestACredentialOfSystemdIsReadAndCheckedAndNeedsNoneOffline(t *testing.T) {
	url, wants := keyed(t)
	want := "Bearer sk-credential"
	wants.Store(&want)
	file := write(t, strings.ReplaceAll(`version: 1
providers:
  own:
    type: openai
    base_url: "URL"
    api_key: ${file:$CREDENTIALS_DIRECTORY/upstream}
stages:
  - provider: {use: own}
`, "URL", url))
	dir := filepath.Dir(file)
	credentials := t.TempDir()
	put(t, filepath.Join(credentials, "upstream"), "sk-credential\n")
	for _, c := range []struct {
		env    string
		args   []string
		status int
		said   string
	}{
		{"CREDENTIALS_DIRECTORY=" + credentials, []string{"check"}, 0, "is fine"},
		{"CREDENTIALS_DIRECTORY=", []string{"check"}, 1, "pipeline.yaml:6:14: providers.own.api_key: the variable CREDENTIALS_DIRECTORY is not set; systemd sets it for a service with LoadCredential=upstream:PATH"},
		{"CREDENTIALS_DIRECTORY=" + dir, []string{"check"}, 1, "pipeline.yaml:6:14: providers.own.api_key: the file " + dir + "/upstream is not there"},
		{"CREDENTIALS_DIRECTORY=", []string{"check", "--offline"}, 0, "is fine"},
		{"CREDENTIALS_DIRECTORY=" + dir, []string{"check", "--offline"}, 0, "is fine"},
		{"CREDENTIALS_DIRECTORY=" + credentials, []string{"translate", "--from", "en", "--to", "es"}, 0, "by Bearer sk-credential"},
	} {
		out, errs, status := commandHere(t, dir, []string{c.env}, "Hello.\n", c.args...)
		if status != c.status || !strings.Contains(out+errs, c.said) {
			t.Errorf("%s, %v: status %d, want %d and %q\n%s%s", c.env, c.args, status, c.status, c.said, out, errs)
		}
	}
}
