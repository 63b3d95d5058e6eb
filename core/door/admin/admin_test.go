package admin_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/door/admin"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// measurer reports what a test gives it.
type measurer func(emit func(core.Measure))

func (m measurer) Measure(emit func(core.Measure)) { m(emit) }

func get(t *testing.T, h http.Handler, method, path string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, path, nil))
	return w.Code, w.Body.String()
}

func TestMetricsAreAskedForAtEveryScrape(t *testing.T) {
	reg := admin.NewRegistry()
	var parts []core.Measurer
	reg.MustRegister(admin.Collector(func() []core.Measurer { return parts }))
	h := admin.New(admin.Options{Gatherer: reg, Log: zap.NewNop()})
	if status, body := get(t, h, "GET", "/metrics"); status != 200 || !strings.Contains(body, "go_goroutines") || strings.Contains(body, "dragoman_") {
		t.Errorf("%d %s", status, body)
	}
	n := 0.0
	parts = []core.Measurer{measurer(func(emit func(core.Measure)) {
		n++
		emit(core.Measure{Name: "queue_starts_total", Help: "Starts.", Counter: true, Value: n, Labels: []string{"stage", "queue"}})
		emit(core.Measure{Name: "queue_waiting", Help: "Waiting.", Value: 7, Labels: []string{"stage", "queue", "lane", "final"}})
	})}
	for _, want := range []string{
		"# TYPE dragoman_queue_starts_total counter\ndragoman_queue_starts_total{stage=\"queue\"} 1\n",
		"# TYPE dragoman_queue_waiting gauge\ndragoman_queue_waiting{lane=\"final\",stage=\"queue\"} 7\n",
	} {
		n = 0
		if _, body := get(t, h, "GET", "/metrics"); !strings.Contains(body, want) {
			t.Errorf("no %q in\n%s", want, body)
		}
	}
}

func TestOneBadMeasureDoesNotHideTheOthers(t *testing.T) {
	seen, logs := observer.New(zap.WarnLevel)
	reg := prometheus.NewRegistry()
	reg.MustRegister(admin.Collector(func() []core.Measurer {
		return []core.Measurer{
			measurer(func(func(core.Measure)) { panic("a defect") }),
			measurer(func(emit func(core.Measure)) {
				emit(core.Measure{Name: "odd", Labels: []string{"stage"}})
				emit(core.Measure{Name: "not a name"})
				emit(core.Measure{Name: "twice"})
				emit(core.Measure{Name: "twice"})
				emit(core.Measure{Name: "good", Help: "Good.", Value: 1})
			}),
		}
	}))
	h := admin.New(admin.Options{Gatherer: reg, Log: zap.New(seen)})
	status, body := get(t, h, "GET", "/metrics")
	if status != 200 || !strings.Contains(body, "dragoman_good 1") || !strings.Contains(body, "dragoman_twice 0") || strings.Contains(body, "odd") {
		t.Errorf("%d %s", status, body)
	}
	if logs.Len() == 0 || !strings.Contains(fmt.Sprint(logs.All()), "a defect") {
		t.Errorf("the log does not tell: %v", logs.All())
	}
}

func TestReadyzTellsEverybodyThatAndOperatorsWhy(t *testing.T) {
	var ready error
	h := admin.New(admin.Options{
		Gatherer: prometheus.NewRegistry(), Ready: func() error { return ready }, Log: zap.NewNop(),
		Status: func() admin.Status { return admin.Status{} },
	})
	if status, body := get(t, h, "GET", "/readyz"); status != 200 || body != `{"status":"ready"}`+"\n" {
		t.Errorf("%d %s", status, body)
	}
	key := &core.Error{Kind: core.Unauthorized, Stage: "openai", Detail: "the key was refused", Cause: errors.New("sk-secret")}
	for _, c := range []struct {
		err error
		why string
	}{
		{key, "openai: the key was refused"},
		{fmt.Errorf("providers/openai: %w", key), "providers/openai: the key was refused"},
		{errors.Join(fmt.Errorf("providers/openai: %w", key), fmt.Errorf("providers/b: %w", key)), "providers/openai: the key was refused; providers/b: the key was refused"},
		{errors.New("sk-secret"), "an internal error; the log tells more under this request's id"},
	} {
		ready = c.err
		status, body := get(t, h, "GET", "/readyz")
		var a struct {
			Error struct{ Kind, Message string }
		}
		if err := json.Unmarshal([]byte(body), &a); err != nil || status != 503 || a.Error.Kind != "unavailable" || !strings.HasPrefix(a.Error.Message, "not ready: ") {
			t.Errorf("%d %s", status, body)
		}
		if strings.Contains(body, "openai") || strings.Contains(body, "refused") || strings.Contains(body, "sk-") {
			t.Errorf("everybody reads %s", body)
		}
		var s admin.Status
		if _, body = get(t, h, "GET", "/admin/status"); json.Unmarshal([]byte(body), &s) != nil || s.Ready || s.NotReady != c.why {
			t.Errorf("operators read %s, want %q", body, c.why)
		}
	}
	if status, body := get(t, h, "GET", "/healthz"); status != 200 || body != `{"status":"ok"}`+"\n" {
		t.Errorf("/healthz: %d %s", status, body)
	}
}

func TestStatusTellsWhatIsServed(t *testing.T) {
	h := admin.New(admin.Options{
		Gatherer: prometheus.NewRegistry(), Log: zap.NewNop(),
		Ready:  func() error { return nil },
		Status: func() admin.Status { return admin.Status{Version: "v1", Config: "/etc/pipeline.yaml", Generation: 3} },
	})
	status, body := get(t, h, "GET", "/admin/status")
	var s admin.Status
	if err := json.Unmarshal([]byte(body), &s); err != nil || status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	if s.Version != "v1" || s.Config != "/etc/pipeline.yaml" || s.Generation != 3 || !s.Ready || s.Started.IsZero() {
		t.Errorf("%s", body)
	}
}

func TestAdminChangesNothing(t *testing.T) {
	h := admin.New(admin.Options{Gatherer: prometheus.NewRegistry(), Log: zap.NewNop(), Ready: func() error { return nil }})
	for _, path := range []string{"/metrics", "/healthz", "/readyz", "/admin/status"} {
		if status, _ := get(t, h, "POST", path); status != http.StatusMethodNotAllowed {
			t.Errorf("POST %s: %d", path, status)
		}
	}
	if status, _ := get(t, h, "GET", "/admin/"); status != http.StatusNotFound {
		t.Errorf("/admin/: %d", status)
	}
}

func TestARecordingIsALineForEachRevisionAndEndsWithIt(t *testing.T) {
	events := make(chan admin.Recorded, 2)
	events <- admin.Recorded{AtMS: 5, Session: "room", Segment: "s1", Revision: 1, CodePoints: 4}
	events <- admin.Recorded{AtMS: 9, Session: "room", Segment: "s1", Revision: 2, CodePoints: 8, Final: true}
	close(events)
	stopped := false
	h := admin.New(admin.Options{Gatherer: prometheus.NewRegistry(), Log: zap.NewNop(), Record: func(session string, texts bool) (*admin.Recording, error) {
		if session != "room" || texts {
			t.Errorf("asked for %q, %v", session, texts)
		}
		return &admin.Recording{Events: events, Stop: func() { stopped = true }}, nil
	}})
	status, body := get(t, h, "GET", "/admin/record?session=room&texts=false")
	if lines := strings.Split(strings.TrimSpace(body), "\n"); status != 200 || len(lines) != 2 || !strings.Contains(lines[1], `"code_points":8`) || !stopped {
		t.Errorf("%d %s, stopped %v", status, body, stopped)
	}
	if status, body := get(t, h, "GET", "/admin/record?texts=perhaps"); status != 400 || !strings.Contains(body, "texts") {
		t.Errorf("%d %s", status, body)
	}
}
