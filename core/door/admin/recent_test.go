package admin

import (
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/dragoman-mt/dragoman/core/door"
)

func TestWhatIsLookedBackAtIsChosenByTheQuery(t *testing.T) {
	at := time.Date(2026, 11, 30, 15, 0, 0, 0, time.UTC)
	admin := New(Options{Gatherer: prometheus.NewRegistry(), Log: zap.NewNop(), Recent: func() []door.Past {
		return []door.Past{
			{At: at, Reason: door.WasSlow, Request: "a-3", Client: "captions", Session: "tour", Stages: []door.StageTime{{Stage: "queue", MS: 1000}}},
			{At: at, Reason: door.HasFailed, Request: "a-2", Client: "captions", Failure: &door.Failure{Kind: "unavailable", Stage: "openai"}},
			{At: at, Reason: door.HasFailed, Request: "a-1", Client: "office"},
		}
	}})
	for query, want := range map[string]string{
		"":                             "a-3 a-2 a-1",
		"?limit=2":                     "a-3 a-2",
		"?reason=failed":               "a-2 a-1",
		"?reason=failed&client=office": "a-1",
		"?session=tour":                "a-3",
		"?request=-2":                  "a-2",
		"?request=none":                "",
		"?limit=0":                     "400 limit is a number from 1",
		"?reason=late":                 "400 reason is slow, failed, fell_over or refused",
		"?stage=a":                     "400 there are reason, session, client, request and limit",
		"?limit=1&limit=2":             "400 limit is given 2 times; a parameter is given once",
		"?%zz":                         "400 cannot be understood",
	} {
		w := httptest.NewRecorder()
		admin.ServeHTTP(w, httptest.NewRequest("GET", "/admin/recent"+query, nil))
		if why, bad := strings.CutPrefix(want, "400 "); bad {
			if w.Code != 400 || !strings.Contains(w.Body.String(), why) {
				t.Errorf("%s: %d %s, want %q", query, w.Code, w.Body, why)
			}
			continue
		}
		var ids []string
		for _, part := range strings.Split(w.Body.String(), `"request":"`)[1:] {
			id, _, _ := strings.Cut(part, `"`)
			ids = append(ids, id)
		}
		if got := strings.Join(ids, " "); w.Code != 200 || got != want || !strings.Contains(w.Body.String(), `"recent":[`) {
			t.Errorf("%s: %d %s, want %s", query, w.Code, w.Body, want)
		}
	}
}
