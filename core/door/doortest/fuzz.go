package doortest

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/dragoman-mt/dragoman/core/door"
)

// FuzzCalls sends calls to the door that build returns, to one of paths, each of which is a
// method and a path: whatever they say they are answered, in JSON or in events, and no failure
// is the gateway's own. Bodies are what the corpus begins with, for each of paths.
func FuzzCalls(f *testing.F, build func(*door.Service, *door.Metrics, *zap.Logger) door.Dialect, paths, bodies []string) {
	for n := range paths {
		for _, body := range bodies {
			f.Add(uint8(n), "application/json", "", body)
		}
		f.Add(uint8(n), "application/x-www-form-urlencoded", "api-version=3.0&to=es&q=a", "q=a&text=b&target=es&target_lang=ES&%=;&q=5%")
		f.Add(uint8(n), "multipart/form-data; boundary=b", "", "--b\r\nContent-Disposition: form-data; name=\"q\"\r\n\r\none\r\n--b--\r\n")
	}
	d := build(door.New(door.Defaults(), Pseudo(new(atomic.Int64))), door.NewMetrics(prometheus.NewRegistry()), zap.NewNop())
	f.Fuzz(func(t *testing.T, path uint8, kind, query, body string) {
		method, at, _ := strings.Cut(paths[int(path)%len(paths)], " ")
		r := httptest.NewRequest(method, at, strings.NewReader(body))
		r.URL.RawQuery = query
		r.Header.Set("Content-Type", kind)
		w := httptest.NewRecorder()
		d.Serve.ServeHTTP(w, r)
		answer, is := w.Body.String(), w.Header().Get("Content-Type")
		switch {
		case w.Code == http.StatusInternalServerError:
			t.Errorf("%s %s: %d %s", at, body, w.Code, answer)
		case strings.HasPrefix(is, "text/event-stream"):
			for line := range strings.Lines(answer) {
				line = strings.TrimSuffix(line, "\n")
				data, ok := strings.CutPrefix(line, "data: ")
				if ok && data != "[DONE]" && !json.Valid([]byte(data)) || !ok && line != "" && !strings.HasPrefix(line, "event: ") {
					t.Errorf("%s %s: %q", at, body, line)
				}
			}
		case w.Code != http.StatusNoContent && (!strings.HasPrefix(is, "application/json") || !json.Valid(w.Body.Bytes())):
			t.Errorf("%s %s: %d %s %q", at, body, w.Code, is, answer)
		}
	})
}
