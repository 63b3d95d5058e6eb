package admin

import (
	"context"
	"net/http"
	"time"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/door"
)

// Restart is what came of POST /admin/plugins/NAME/restart.
type Restart struct {
	// Outcome is restarted or failed. A failed one answers 422, and what served
	// before serves on.
	Outcome string `json:"outcome"`
	// Text is the whole in words, as the command line prints it.
	Text   string  `json:"text"`
	TookMS float64 `json:"took_ms"`
	// Was and Now are the numbers of its processes, before and after.
	Was []int `json:"was,omitempty"`
	Now []int `json:"now,omitempty"`
}

// restart serves POST /admin/plugins/NAME/restart.
func (a *admin) restart(w http.ResponseWriter, r *http.Request) {
	if r.URL.RawQuery != "" {
		door.WriteError(w, r, &core.Error{Kind: core.InvalidRequest, Detail: "a restart has no parameters; the plugin is named in the path"})
		return
	}
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(reloadTimeout))
	// Whoever asked may leave; a restart that has begun is finished.
	answer, err := a.o.Restart(context.WithoutCancel(r.Context()), r.PathValue("name"))
	if err != nil {
		door.WriteError(w, r, err)
		return
	}
	status := http.StatusOK
	if answer.Outcome != "restarted" {
		status = http.StatusUnprocessableEntity
	}
	door.WriteJSON(w, status, answer)
}
