package admin

import (
	"crypto/sha256"
	"fmt"
	"html"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"pgregory.net/rapid"
)

// uPlot is the one part of the page that others wrote: version 1.6.32 as npm serves it, dist/uPlot.iife.min.js
// and dist/uPlot.min.css.
func TestWhatOthersWroteIsWhatTheyPublished(t *testing.T) {
	for name, want := range map[string]string{
		"page/uplot.js":  "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
		"page/uplot.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
	} {
		raw, err := fs.ReadFile(files, name)
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("%x", sha256.Sum256(raw)); got != want {
			t.Errorf("%s is %s", name, got)
		}
	}
}

// TestNoValueBecomesMarkup: whatever a name or an error holds, it stands on the page as text.
func TestNoValueBecomesMarkup(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		value := rapid.StringOf(rapid.RuneFrom([]rune(`<>"'&;=/ aé`+"\x00\n"))).Draw(t, "value")
		var m markup
		m.table(Table{Head: numbers("CHAIN", value), Rows: [][]Cell{{good(value), {value, true}}}}, nil)
		m.put(`<a title="%s">%s</a>`, value, value)
		got := m.String()
		for _, c := range []string{"<", ">", `"`, "'"} {
			var plain markup
			plain.table(Table{Head: numbers("CHAIN", ""), Rows: [][]Cell{{good(""), {"", true}}}}, nil)
			plain.put(`<a title="%s">%s</a>`, "", "")
			if strings.Count(got, c) != strings.Count(plain.String(), c) {
				t.Fatalf("%q puts a %s in:\n%s", value, c, got)
			}
		}
		if !strings.Contains(html.UnescapeString(got), value) {
			t.Fatalf("%q is not to be read in\n%s", value, got)
		}
	})
}

// TestThePageIsShownInNoOtherPage: by what its headers say to a browser, and in case one does not
// obey them, by an answer.
func TestThePageIsShownInNoOtherPage(t *testing.T) {
	h := New(Options{Gatherer: prometheus.NewRegistry(), Log: zap.NewNop(), Status: func() Status { return Status{} }, Ready: func() error { return nil }})
	for _, dest := range []string{"", "document", "iframe", "frame", "embed", "object"} {
		r := httptest.NewRequest("GET", "/", nil)
		if dest != "" {
			r.Header.Set("Sec-Fetch-Dest", dest)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		framed := dest != "" && dest != "document"
		if framed != (w.Code == http.StatusForbidden) || framed && !strings.Contains(w.Body.String(), "not shown inside another page") {
			t.Errorf("%s: %d %s", dest, w.Code, w.Body)
		}
		if !framed && (!strings.Contains(w.Header().Get("Content-Security-Policy"), "default-src 'none'") || !strings.Contains(w.Header().Get("Content-Security-Policy"), "frame-ancestors 'none'")) {
			t.Errorf("%v", w.Header())
		}
	}
}
