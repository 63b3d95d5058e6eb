package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"unicode"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/door"
)

// answering is an admin door that answers as f says.
func answering(t *testing.T, key string, f http.HandlerFunc) *adminClient {
	t.Helper()
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	client, err := newAdminClient(server.URL+"/", key)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func TestTheAdminClientSendsItsKeyAndReadsJSON(t *testing.T) {
	c := answering(t, "k", func(w http.ResponseWriter, r *http.Request) {
		door.WriteJSON(w, http.StatusAccepted, map[string]string{"said": r.Method + " " + r.URL.String() + " " + r.Header.Get("Authorization")})
	})
	var got struct{ Said string }
	if err := c.getJSON(t.Context(), "/admin/status", nil, &got); err != nil || got.Said != "GET /admin/status Bearer k" {
		t.Errorf("%+v, %v", got, err)
	}
	if err := c.postJSON(t.Context(), "/admin/reload", url.Values{"previous": {"1 2"}}, &got); err != nil || got.Said != "POST /admin/reload?previous=1+2 Bearer k" {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestARefusalIsASentenceAndKeepsItsKind(t *testing.T) {
	refused := &core.Error{Kind: core.InvalidRequest, Field: "limit", Detail: "limit is wrong"}
	c := answering(t, "", func(w http.ResponseWriter, r *http.Request) { door.WriteError(w, r, refused) })
	_, err := c.post(t.Context(), "/admin/reload", nil)
	r, ok := errors.AsType[*refusal](err)
	if !ok || r.Kind != core.InvalidRequest || r.Field != "limit" || r.Status != 400 {
		t.Fatalf("%#v", err)
	}
	if want := "the gateway at " + c.base + " says: limit is wrong"; err.Error() != want {
		t.Errorf("%q, want %q", err, want)
	}
}

func TestWhateverElseAnswersIsNotTakenForAGateway(t *testing.T) {
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		want   string
	}{
		"another program":   {http.NotFound, "answers 404 Not Found, and not as a gateway would"},
		"JSON of another":   {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500); io.WriteString(w, `{"error":"no"}`) }, "answers 500"},
		"one that sends on": {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "http://127.0.0.1:1/", 302) }, "answers 302 Found"},
		"no JSON":           {func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") }, "cannot be understood"},
		"one that hangs up": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "no gateway answers at"},
	} {
		var v any
		if err := answering(t, "k", c.answer).getJSON(t.Context(), "/admin/status", nil, &v); err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestAnAdminCallEndsWithItsContext(t *testing.T) {
	c := answering(t, "", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := fmt.Errorf("enough")
	cancel(enough)
	if _, err := c.get(ctx, "/admin/status", nil); err != enough {
		t.Errorf("%v", err)
	}
}

// FuzzRefusal reads the answer of whatever listens where a gateway should.
func FuzzRefusal(f *testing.F) {
	whole, _ := json.Marshal(map[string]any{"error": door.Problem{Kind: core.Overloaded, Message: "later"}})
	f.Add(whole)
	f.Add([]byte(`{"error":{"kind":7}}`))
	f.Add([]byte(`{"error":{"kind":"overloaded","message":"\u001b[2J"}}`))
	f.Add([]byte("<html>"))
	f.Fuzz(func(t *testing.T, body []byte) {
		c := &adminClient{base: "http://127.0.0.1:8080"}
		err := c.refused(&http.Response{StatusCode: 503, Body: io.NopCloser(strings.NewReader(string(body)))})
		if err == nil || err.Error() == "" {
			t.Error("no error")
		} else if strings.ContainsFunc(err.Error(), func(r rune) bool { return !unicode.IsGraphic(r) && r != '\n' }) {
			t.Errorf("it would move the cursor: %q", err)
		}
	})
}
