package admin

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/door"
)

// Reload is what came of a reload, as POST /admin/reload answers.
type Reload struct {
	// Outcome is reloaded, unchanged or refused, and of a dry run would, unchanged or
	// refused. A refused one answers 422, and what served before serves on.
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

// ReloadAsked is what a reload is asked for: by itself, to serve what the file
// holds now.
type ReloadAsked struct {
	Previous bool // what served before what serves now
	To       int  // what has that number in the list of Kept
	DryRun   bool // say what it would do, and do nothing
}

// A Kept configuration can be gone back to.
type Kept struct {
	Number int       `json:"number"` // from 1, latest first
	At     time.Time `json:"at"`     // when it served last
	Hash   string    `json:"hash"`
	Serves bool      `json:"serves"` // now
	// Changes are what differs from what serves, if that can be told.
	Changes []string `json:"changes,omitempty"`
	// Error says why it could not be served now.
	Error string `json:"error,omitempty"`
}

// kept serves GET /admin/kept.
func (a *admin) kept(w http.ResponseWriter, r *http.Request) {
	all, err := a.o.Kept()
	if err != nil {
		door.WriteError(w, r, &core.Error{Kind: core.Unavailable, Detail: "what is kept cannot be read: " + err.Error(), Cause: err})
		return
	}
	door.WriteJSON(w, http.StatusOK, map[string]any{"kept": append([]Kept{}, all...)})
}

// asked reads the parameters of a reload.
func asked(r *http.Request) (ask ReloadAsked, err error) {
	err = parameters(r.URL.RawQuery, func(name, value string) (err error) {
		switch {
		case name == "to":
			if ask.To, err = strconv.Atoi(value); err != nil || ask.To < 1 {
				return wrong(name, "to is a number of what /admin/kept lists, from 1")
			}
		case name != "previous" && name != "dry_run" || value != "true" && value != "false":
			return wrong(name, "the parameters are previous=true, to=NUMBER and dry_run=true")
		case name == "previous":
			ask.Previous = value == "true"
		default:
			ask.DryRun = value == "true"
		}
		return nil
	})
	if err == nil && ask.Previous && ask.To > 0 {
		err = wrong("to", "either previous or to names what to serve")
	}
	return ask, err
}

// reload serves POST /admin/reload.
func (a *admin) reload(w http.ResponseWriter, r *http.Request) {
	ask, err := asked(r)
	if err != nil {
		door.WriteError(w, r, err)
		return
	}
	// The listener's own time for an answer is for translations; where none can be
	// set, it holds.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(reloadTimeout))
	// Whoever asked may leave; a reload that has begun is finished.
	answer := a.o.Reload(context.WithoutCancel(r.Context()), ask)
	status := http.StatusOK
	if answer.Outcome == "refused" {
		status = http.StatusUnprocessableEntity
	}
	door.WriteJSON(w, status, answer)
}

// post lets POST calls through that no web page makes but the gateway's own: a page that may
// translate may not operate the gateway.
func post(h http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !door.Allow(w, r, http.MethodPost) {
			return
		}
		if err := door.OwnPage(r); err != nil {
			door.WriteError(w, r, err)
			return
		}
		h(w, r)
	})
}
