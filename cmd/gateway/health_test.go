package gateway

import (
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dragoman-mt/dragoman/core/coretest/property"
)

// The gateway is one that may not operate anything over HTTP, and that another user asks for,
// who has no socket: as in an image whose files cannot be written.
func TestHealthNeedsNeitherCurlNorAKeyNorTheAdminDoor(t *testing.T) {
	property.WithoutRace(t)
	sim := simulate(t)
	yaml := "server: {listen: \"${HOST:-127.0.0.1}:${PORT:-8080}\", admin: \"127.0.0.1:0\", keys: [{name: ops, key: k, role: operate}, captions]}\n" + pipeline(sim, "pooled", "")
	file := write(t, yaml)
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(free.Addr().String())
	free.Close()
	env := []string{"PORT=" + port, "DRAGOMAN_CONFIG=" + file}
	dir, elsewhere := filepath.Dir(file), "XDG_STATE_HOME="+t.TempDir()
	out, errs, status := commandHere(t, dir, append(env, elsewhere), "", "health")
	if status != 1 || !strings.Contains(errs, "no gateway answers at http://127.0.0.1:"+port+"; is it running?") {
		t.Errorf("before it runs: %d %s%s", status, out, errs)
	}
	g := &gatewayProcess{process: start(t, dir, env, filepath.Join(programs, "dragoman"), "serve")}
	if g.url = g.see(`at (http://127\.0\.0\.1:\d+)`); g.url != "http://127.0.0.1:"+port {
		t.Errorf("it listens at %s, want port %s", g.url, port)
	}
	for _, c := range []struct {
		env  []string
		args []string
		want string
	}{
		{append(env, elsewhere), []string{"health"}, "it lives\n"},
		{append(env, elsewhere), []string{"health", "--ready"}, "ready\n"},
		{env, []string{"health"}, "it lives\n"}, // over its socket
		{[]string{elsewhere}, []string{"health", "--url", g.url, "--config", "/nowhere.yaml"}, "it lives\n"},
	} {
		if out, errs, status := commandHere(t, t.TempDir(), c.env, "", c.args...); status != 0 || out != c.want {
			t.Errorf("%q: %d %s%s, want %s", c.args, status, out, errs, c.want)
		}
	}
	for _, path := range []string{"/healthz", "/livez", "/health", "/readyz"} {
		res, err := http.Get(g.url + path)
		if err != nil {
			t.Fatal(err)
		}
		if res.Body.Close(); res.StatusCode != 200 {
			t.Errorf("%s: %d", path, res.StatusCode)
		}
	}
}

func TestHealthSaysWhatIsWrong(t *testing.T) {
	property.WithoutRace(t)
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	t.Cleanup(func() { silent.CloseClientConnections(); silent.Close() })
	unready := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
		w.Write([]byte(`{"error":{"kind":"unavailable","message":"not ready"}}`))
	}))
	t.Cleanup(unready.Close)
	for want, args := range map[string][]string{
		"has not answered within 50ms":      {"--url", silent.URL, "--timeout", "50ms"},
		"it lives, and could not translate": {"--url", unready.URL, "--ready"},
		"is not the address of a gateway":   {"--url", "localhost"},
		"--timeout: 0s is no time to wait":  {"--url", unready.URL, "--timeout", "0s"},
		"/nowhere.yaml":                     {"--config", "/nowhere.yaml"},
	} {
		if out, errs, status := commandHere(t, t.TempDir(), nil, "", append([]string{"health"}, args...)...); status == 0 || out != "" || !strings.Contains(errs, want) {
			t.Errorf("%q: %d %s%s, want %q", args, status, out, errs, want)
		}
	}
}
