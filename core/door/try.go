package door

import (
	"context"
	"net/http"
	"net/url"
	"strings"
)

// tries says whether an operator asks for what clients do: /admin/v1/translate and
// /admin/v1/languages are those of the native door, for the client Playground. Operators are
// no clients, and need no key of one to see how a text fares.
func tries(path string) bool { return path == "/admin/v1/translate" || path == "/admin/v1/languages" }

// Playground is the client of a call by which an operator tries something. No key has that
// name, for a name has no blank.
const Playground = "the page"

// A trial is what an operator's call asks for besides what a client may.
type trial struct{ only string }

type trialKey struct{}

func trialOf(call *http.Request) *trial {
	t, _ := call.Context().Value(trialKey{}).(*trial)
	return t
}

func isTrial(call *http.Request) bool { return trialOf(call) != nil }

// OnlyOf is the provider that alone is to answer a call, as an operator may ask with
// ?provider=NAME; empty for whom the routes say.
func OnlyOf(call *http.Request) string {
	if t := trialOf(call); t != nil {
		return t.only
	}
	return ""
}

// try passes an operator's call on to the doors.
func (s *Server) try(w http.ResponseWriter, r *http.Request) {
	if err := OwnPage(r); err != nil {
		WriteError(w, r, err)
		return
	}
	inner := r.Clone(context.WithValue(r.Context(), trialKey{}, &trial{r.URL.Query().Get("provider")}))
	inner.URL = &url.URL{Path: "/v1/" + strings.TrimPrefix(r.URL.Path, "/admin/v1/")}
	inner.RequestURI = inner.URL.Path
	s.door(w, inner)
}
