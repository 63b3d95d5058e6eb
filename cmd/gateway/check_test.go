package gateway

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// eight is a file with eight different mistakes.
const eight = `version: 1
server:
  deadlin: 4s
pool:
  mode: poled
  max_connections: many
providers:
  openai:
    type: openai
    timeout: 3
stages:
  - cache: {max_size: 32MB!, ttl: 24h}
  - queue: {max_concurrent: 0}
  - provider: {use: opnai}
  - ratelimit
`

func TestCheckPrintsEveryMistakeWithItsPlace(t *testing.T) {
	file := write(t, eight)
	out, errs, status := commandHere(t, filepath.Dir(file), nil, "", "check", "--offline")
	if status != 1 || out != "" {
		t.Errorf("status %d, output %q", status, out)
	}
	if n := strings.Count(errs, "\n"); n != 8 {
		t.Errorf("%d lines, want 8", n)
	}
	golden(t, "eight_mistakes.txt", errs)
}

func TestTheShippedFileIsFineAndWarnsOfNothing(t *testing.T) {
	// Its plugin is built by make; TestAPluginServesAProviderOverConnectionsOfItsOwn has one of its own.
	out, errs, status := commandHere(t, repository(t), nil, "", "check", "--offline", "--no-plugins")
	if status != 0 || errs != "" || !strings.Contains(out, "pipeline.yaml is fine") {
		t.Errorf("status %d, output %q, errors:\n%s", status, out, errs)
	}
}

func TestCheckAsksTheProviders(t *testing.T) {
	s := simulate(t, "--key", "right")
	for key, want := range map[string]int{"right": 0, "wrong": 1} {
		file := write(t, strings.Replace(pipeline(s, "pooled", ""), "api_key: test", "api_key: "+key, 1))
		out, errs, status := commandHere(t, filepath.Dir(file), nil, "", "check")
		if status != want {
			t.Errorf("key %q: status %d, output %q, errors:\n%s", key, status, out, errs)
		}
		if strings.Contains(errs, "wrong") {
			t.Errorf("the key is printed:\n%s", errs)
		}
	}
	s.signal(15)
	s.wait()
	file := write(t, pipeline(s, "pooled", ""))
	_, errs, status := commandHere(t, filepath.Dir(file), nil, "", "check")
	if status != 0 || !strings.Contains(errs, "warning:") {
		t.Errorf("provider that cannot be reached: status %d, errors:\n%s", status, errs)
	}
}

// An address where nothing translates is a mistake, told with the address that was
// called; one that has no list of models is a warning; one that ends too late can be
// told without asking.
func TestCheckTellsABaseURLThatLeadsNowhere(t *testing.T) {
	t.Parallel() // it waits most of the time
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/v1/chat/completions" && r.Method == http.MethodPost:
			w.WriteHeader(http.StatusBadRequest)
			io.WriteString(w, `{"error":{"message":"you must provide a model parameter"}}`)
		case strings.HasPrefix(r.URL.Path, "/site"):
			io.WriteString(w, "<!doctype html><title>Welcome</title>")
		case strings.HasPrefix(r.URL.Path, "/silent"):
			<-r.Context().Done()
		default:
			http.NotFound(w, r)
		}
	}))
	defer server.Close()
	for path, c := range map[string]struct {
		offline bool
		status  int
		want    string
	}{
		"/v1":                  {false, 0, "does not tell about model"},
		"":                     {false, 1, "/chat/completions is answered with status 404, so nothing translates there; change providers.openai.base_url: it may lack /v1"},
		"/site/v1":             {false, 1, "/site/v1/chat/completions is answered with a web page"},
		"/silent/v1":           {false, 0, "warning: "},
		"/v1/chat/completions": {true, 1, "pipeline.yaml:2:36: providers.openai.base_url: base_url ends with /chat/completions, which is added to it; write " + server.URL + "/v1"},
	} {
		file := write(t, "providers:\n  openai: {type: openai, base_url: \""+server.URL+path+"\", api_key: x}\nstages: [provider: {use: openai}]\n")
		args := []string{"check"}
		if c.offline {
			args = append(args, "--offline")
		}
		soon(t, path, func() {
			out, errs, status := command(t, filepath.Dir(file), nil, "", args...)
			if status != c.status || !strings.Contains(errs, c.want) {
				t.Errorf("%s: status %d, want %d and %q; output %q, errors:\n%s", path, status, c.status, c.want, out, errs)
			}
		})
	}
}

func TestCheckWarnsOfValuesThatWorkBadlyTogether(t *testing.T) {
	file := write(t, `version: 1
pool: {max_connections: 8}
server: {deadline: 2s}
providers:
  openai: {type: openai, api_key: x, timeout: 2s}
stages:
  - ratelimit: {requests_per_minute: 4500}
  - queue: {max_concurrent: 12, min_interval: 50ms}
  - protect
  - provider: {use: openai, retries: 2}
`)
	_, errs, status := commandHere(t, filepath.Dir(file), nil, "", "check", "--offline")
	if status != 0 {
		t.Errorf("status %d", status)
	}
	golden(t, "warnings.txt", errs)
}

func TestExplainShowsWhatHoldsAndWhereItCameFrom(t *testing.T) {
	out, errs, status := commandHere(t, repository(t), []string{"OPENAI_BASE_URL=http://127.0.0.1:9/v1", "OPENAI_API_KEY=sk-very-secret"}, "",
		"explain", "--set", "stages.queue.max_concurrent=4")
	if status != 0 || errs != "" {
		t.Fatalf("status %d, errors:\n%s", status, errs)
	}
	if strings.Contains(out, "very-secret") {
		t.Error("the key is printed")
	}
	// The columns are as wide as the checkout's path makes them.
	out = regexp.MustCompile(`(\S) {2,}`).ReplaceAllString(strings.ReplaceAll(out, repository(t), "/repository"), "$1  ")
	golden(t, "explain.txt", out)
}

func TestExplainSaysWhatHoldsDeltasBack(t *testing.T) {
	file := write(t, `version: 1
server: {deadline: 4s}
providers:
  openai: {type: openai, api_key: x, timeout: 3s}
  own: {type: plugin, command: [./own]}
stages:
  - cache
  - plugin: {command: [./mask]}
    name: mask
  - provider: {use: own, fallback: [openai], retries: 0}
  - plugin: {command: [./tidy]}
    name: tidy
`)
	out, errs, status := commandHere(t, filepath.Dir(file), nil, "", "explain")
	if status != 0 || errs != "" {
		t.Fatalf("status %d, errors:\n%s", status, errs)
	}
	chain, rest, _ := strings.Cut(out, "\nVALUES\n")
	_, worst, _ := strings.Cut(rest, "\nWORST CASE")
	golden(t, "explain_plugins.txt", chain+"\nWORST CASE"+worst)
}

func TestTheSchemaFilesAreWhatTheCodeSays(t *testing.T) {
	for file, args := range map[string][]string{"pipeline.schema.json": {"schema"}, "pipeline_test.schema.json": {"schema", "--tests"}} {
		out, _, status := commandHere(t, repository(t), nil, "", args...)
		if status != 0 {
			t.Fatal(status)
		}
		have, err := os.ReadFile(filepath.Join(repository(t), file))
		if err != nil || string(have) != out {
			t.Errorf("%s is not what the code says: run `make schema` (%v)", file, err)
		}
	}
}

// golden compares got with testdata/name; DRAGOMAN_UPDATE=1 writes it.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if os.Getenv("DRAGOMAN_UPDATE") != "" {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s:\n--- got\n%s--- want\n%s", file, got, want)
	}
}
