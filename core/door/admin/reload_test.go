package admin

import (
	"context"
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

func TestAReloadAnswersWithItsVerdict(t *testing.T) {
	var asked []ReloadAsked
	door := New(Options{Gatherer: prometheus.NewRegistry(), Log: zap.NewNop(), Reload: func(ctx context.Context, ask ReloadAsked) Reload {
		if _, ends := ctx.Deadline(); ends || ctx.Done() != nil {
			t.Error("a reload would end with the call that asked for it")
		}
		asked = append(asked, ask)
		if ask.Previous {
			return Reload{Outcome: "refused", Text: "refused: no", Errors: []string{"no"}}
		}
		return Reload{Outcome: "reloaded", Text: "reloaded generation 2", Generation: 2, Was: 1}
	}})
	for _, c := range []struct {
		method, path, origin string
		status               int
		says                 string
		asked                bool
	}{
		{"POST", "/admin/reload", "", 200, "reloaded generation 2", true},
		{"POST", "/admin/reload?previous=false", "", 200, "reloaded generation 2", true},
		{"POST", "/admin/reload?previous=true", "", 422, "refused: no", true},
		{"POST", "/admin/reload?to=2&dry_run=true", "", 200, "reloaded generation 2", true},
		{"POST", "/admin/reload?to=0", "", 400, "from 1", false},
		{"POST", "/admin/reload?to=x", "", 400, "from 1", false},
		{"POST", "/admin/reload?to=1&to=2", "", 400, "given once", false},
		{"POST", "/admin/reload?to=1&previous=true", "", 400, "either previous or to", false},
		{"POST", "/admin/reload?dry_run=1", "", 400, "dry_run=true", false},
		{"POST", "/admin/reload?previous=yes", "", 400, "previous=true", false},
		{"POST", "/admin/reload?back=true", "", 400, "previous=true", false},
		{"POST", "/admin/reload", "https://app.example.com", 403, "a web page may not", false},
		{"GET", "/admin/reload", "", 405, "", false},
	} {
		asked = nil
		r := httptest.NewRequest(c.method, c.path, nil)
		if c.origin != "" {
			r.Header.Set("Origin", c.origin)
		}
		w := httptest.NewRecorder()
		door.ServeHTTP(w, r)
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.says) || (len(asked) == 1) != c.asked {
			t.Errorf("%s %s %s: %d %s, asked %v", c.method, c.path, c.origin, w.Code, w.Body, asked)
		}
		var v Reload
		if c.asked && (json.Unmarshal(w.Body.Bytes(), &v) != nil || v.Text != c.says) {
			t.Errorf("%s: %s", c.path, w.Body)
		}
		if strings.HasSuffix(c.path, "to=2&dry_run=true") && asked[0] != (ReloadAsked{To: 2, DryRun: true}) {
			t.Errorf("%s: asked %+v", c.path, asked)
		}
	}
}

func TestWhatIsKeptIsListed(t *testing.T) {
	door := New(Options{Gatherer: prometheus.NewRegistry(), Log: zap.NewNop(), Kept: func() ([]Kept, error) {
		return []Kept{{Number: 1, Hash: "ab", Serves: true}, {Number: 2, Hash: "cd", Changes: []string{"pool.mode pooled -> direct"}}}, nil
	}})
	w := httptest.NewRecorder()
	door.ServeHTTP(w, httptest.NewRequest("GET", "/admin/kept", nil))
	if want := `{"number":2,"at":"0001-01-01T00:00:00Z","hash":"cd","serves":false,"changes":["pool.mode pooled -> direct"]}`; w.Code != 200 || !strings.Contains(w.Body.String(), want) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
