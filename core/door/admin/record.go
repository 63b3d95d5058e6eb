package admin

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/door"
)

// A Recorded is one revision that a live session took, as a line of /admin/record.
type Recorded struct {
	AtMS       int64  `json:"at_ms"` // since the recording began
	Session    string `json:"session"`
	Segment    string `json:"segment"`
	Revision   int64  `json:"revision"`
	Text       string `json:"text"`
	CodePoints int    `json:"code_points,omitempty"` // in place of a text that was not asked for
	Final      bool   `json:"final,omitempty"`
	Speaker    string `json:"speaker,omitempty"`
}

// A Recording is what live sessions take from now on.
type Recording struct {
	// Events is closed when one could not be kept, since nobody read.
	Events <-chan Recorded
	// Stop ends it.
	Stop func()
}

// recordPatience is how long a reader may take for one line.
const recordPatience = 5 * time.Second

// record answers with a line for each revision, until its reader leaves.
func (a *admin) record(w http.ResponseWriter, r *http.Request) {
	texts, err := strconv.ParseBool(r.URL.Query().Get("texts"))
	if err != nil && r.URL.Query().Has("texts") {
		door.WriteError(w, r, &core.Error{Kind: core.InvalidRequest, Field: "texts", Detail: "texts is true or false"})
		return
	}
	rec, err := a.o.Record(r.URL.Query().Get("session"), texts)
	if err != nil {
		door.WriteError(w, r, err)
		return
	}
	defer rec.Stop()
	w.Header().Set("Content-Type", "application/x-ndjson")
	control := http.NewResponseController(w)
	flush := func() bool {
		_ = control.SetWriteDeadline(time.Now().Add(recordPatience)) // where none can be set, the listener's own holds
		return control.Flush() == nil
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	beat := time.NewTicker(TapHeartbeat)
	defer beat.Stop()
	if !flush() {
		return
	}
	for {
		select {
		case e, open := <-rec.Events:
			if !open || enc.Encode(e) != nil || !flush() {
				return
			}
		case <-beat.C:
			if _, err := w.Write([]byte("\n")); err != nil || !flush() {
				return
			}
		case <-r.Context().Done():
			return
		case <-a.o.Stopping:
			return
		}
	}
}
