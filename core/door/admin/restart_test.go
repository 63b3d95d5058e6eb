package admin_test

import (
	"context"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/door/admin"
)

func TestAPluginIsRestartedByNameAndNeverByAWebPage(t *testing.T) {
	var asked []string
	h := admin.New(admin.Options{
		Gatherer: prometheus.NewRegistry(), Log: zap.NewNop(),
		Restart: func(_ context.Context, name string) (admin.Restart, error) {
			asked = append(asked, name)
			switch name {
			case "good", "unix:/run/p.sock":
				return admin.Restart{Outcome: "restarted", Text: name + " restarted", Was: []int{4711}, Now: []int{4812}}, nil
			case "broken":
				return admin.Restart{Outcome: "failed", Text: "it exits at once", Was: []int{4711}, Now: []int{4711}}, nil
			}
			return admin.Restart{}, &core.Error{Kind: core.NotFound, Field: "name", Detail: "there are good, broken"}
		},
	})
	for _, c := range []struct {
		method, path, origin string
		status               int
		says                 string
	}{
		{"POST", "/admin/plugins/good/restart", "", 200, `"was":[4711],"now":[4812]`},
		{"POST", "/admin/plugins/unix:%2Frun%2Fp.sock/restart", "", 200, `unix:/run/p.sock restarted`},
		{"POST", "/admin/plugins/broken/restart", "", 422, "it exits at once"},
		{"POST", "/admin/plugins/absent/restart", "", 404, "there are good, broken"},
		{"POST", "/admin/plugins/good/restart?force=1", "", 400, "no parameters"},
		{"GET", "/admin/plugins/good/restart", "", 405, ""},
		{"POST", "/admin/plugins/good/restart", "http://localhost:8080", 403, "web page"},
	} {
		r := httptest.NewRequest(c.method, c.path, nil)
		if c.origin != "" {
			r.Header.Set("Origin", c.origin)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.says) {
			t.Errorf("%s %s %s: %d %s", c.method, c.path, c.origin, w.Code, w.Body)
		}
	}
	if got := strings.Join(asked, " "); got != "good unix:/run/p.sock broken absent" {
		t.Errorf("asked for %s", got)
	}
}
