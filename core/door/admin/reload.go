package admin

import (
	"context"
	"net/http"
	"time"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/door"
)

// Reload is what came of a reload, as POST /admin/reload answers.
type Reload struct {
	// Outcome is reloaded, unchanged or refused. A refused one answers 422, and
	// what served before serves on.
	Outcome string `json:"outcome"`
	// Text is the whole in words, as the command line prints it.
	Text string `json:"text"`
	// Trigger is what asked for it: file, SIGHUP, admin.
	Trigger string `json:"trigger"`
	// Generation serves now; Was did before.
	Generation int64     `json:"generation"`
	Was        int64     `json:"was"`
	At         time.Time `json:"at"`
	TookMS     float64   `json:"took_ms"`
	Changes    []string  `json:"changes,omitempty"`
	Carried    []string  `json:"carried,omitempty"`
	Warnings   []string  `json:"warnings,omitempty"`
	// Errors are why it was refused, one for each mistake.
	Errors []string `json:"errors,omitempty"`
	// FileDiffers says that the file on disk is not what serves.
	FileDiffers bool `json:"file_differs"`
}

// reloadTimeout is how long an answer to a reload may take: one that runs already,
// and its own start of plugins.
const reloadTimeout = 2 * time.Minute

// reload serves POST /admin/reload, with ?previous=true for what served before.
func (a *admin) reload(w http.ResponseWriter, r *http.Request) {
	previous := false
	for name, values := range r.URL.Query() {
		if name != "previous" || len(values) != 1 || values[0] != "true" && values[0] != "false" {
			door.WriteError(w, r, &core.Error{Kind: core.InvalidRequest, Field: name, Detail: "the only parameter is previous=true"})
			return
		}
		previous = values[0] == "true"
	}
	// The listener's own time for an answer is for translations; where none can be
	// set, it holds.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(reloadTimeout))
	// Whoever asked may leave; a reload that has begun is finished.
	answer := a.o.Reload(context.WithoutCancel(r.Context()), previous)
	status := http.StatusOK
	if answer.Outcome == "refused" {
		status = http.StatusUnprocessableEntity
	}
	door.WriteJSON(w, status, answer)
}

// post lets POST calls through that no web page makes: a page that may translate
// may not operate the gateway.
func post(h http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !door.Allow(w, r, http.MethodPost) {
			return
		}
		if r.Header.Get("Origin") != "" {
			door.WriteError(w, r, &core.Error{Kind: core.Forbidden, Detail: "a web page may not change what the gateway does; use the command line, or curl"})
			return
		}
		h(w, r)
	})
}
