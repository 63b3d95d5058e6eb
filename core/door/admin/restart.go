package admin

import (
	"context"
	"net/http"
	"time"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/door"
)

// Restart is what came of restarting a plugin, as POST
// /admin/plugins/NAME/restart answers.
type Restart struct {
	Name   string  `json:"name"`
	TookMS float64 `json:"took_ms"`
	// Before and After are the processes that serve it: one, but where several
	// entries of the file have programs of the same name.
	Before []int `json:"before"`
	After  []int `json:"after"`
}

// restart serves POST /admin/plugins/NAME/restart.
func (a *admin) restart(w http.ResponseWriter, r *http.Request) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(reloadTimeout))
	// Whoever asked may leave; a restart that has begun is finished.
	answer, err := a.o.Restart(context.WithoutCancel(r.Context()), r.PathValue("name"))
	if err != nil {
		if core.KindOf(err) != core.NotFound {
			// What a plugin printed before it died is for operators, and they ask.
			err = &core.Error{Kind: core.Unavailable, Detail: err.Error(), Cause: err}
		}
		door.WriteError(w, r, err)
		return
	}
	door.WriteJSON(w, http.StatusOK, answer)
}
