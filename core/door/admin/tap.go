package admin

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"go.uber.org/zap"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/chain"
	"github.com/dragoman-mt/dragoman/core/door"
)

// TapHeartbeat is how often a tap says how it stands, so that either end notices
// when the other has gone.
const TapHeartbeat = 5 * time.Second

// A TapLine is one line of what /admin/tap answers: a passing, or a tally when
// Tally is set.
type TapLine struct {
	Tally *TapTally `json:"tally"`
	TapPassing
}

// A TapPassing is one request that left one stage; see chain.Passing.
type TapPassing struct {
	Time    time.Time `json:"time"`
	Request string    `json:"request"`
	Session string    `json:"session,omitempty"`
	Stage   string    `json:"stage"`
	Source  string    `json:"source,omitempty"`
	Target  string    `json:"target"`
	Lane    string    `json:"lane"`
	Attempt string    `json:"attempt,omitempty"`
	Outcome string    `json:"outcome"` // went_on, answered or failed
	Error   string    `json:"error,omitempty"`
	From    string    `json:"from,omitempty"`
	TotalMS float64   `json:"total_ms"`
	SelfMS  float64   `json:"self_ms"`
	In      int       `json:"in"`
	Out     int       `json:"out"`
	TextIn  string    `json:"text_in,omitempty"`
	TextOut string    `json:"text_out,omitempty"`
}

// A TapTally counts from the tap's beginning. Of what was seen, Shown passings
// were sent so far.
type TapTally struct {
	Seen    int64 `json:"seen"`
	Shown   int64 `json:"shown"`
	LeftOut int64 `json:"left_out"`
	Dropped int64 `json:"dropped"`
	// End is limit or stopping in the last line.
	End string `json:"end,omitempty"`
}

// Why a tap ends by itself.
const (
	TapLimit    = "limit"
	TapStopping = "stopping"
)

// tap streams what passes, as lines of JSON, until the client leaves.
func (a *admin) tap(w http.ResponseWriter, r *http.Request) {
	if err := foreign(r); err != nil {
		door.WriteError(w, r, err)
		return
	}
	filter, limit, err := tapQuery(r.URL.RawQuery)
	if err != nil {
		door.WriteError(w, r, err)
		return
	}
	tap, err := a.o.Tap(filter)
	if err != nil {
		door.WriteError(w, r, err)
		return
	}
	defer tap.Close()

	h := w.Header()
	h.Set("Content-Type", "application/x-ndjson")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // nginx would hold the lines back
	h.Set("X-Content-Type-Options", "nosniff")
	if r.Method == http.MethodHead {
		return
	}
	if filter.Texts {
		a.o.Log.Info("somebody taps texts", zap.String("request", door.RequestID(w, r)), zap.String("from", r.RemoteAddr), zap.String("stage", filter.Stage))
	}
	s := &tapStream{w: w, control: http.NewResponseController(w), tap: tap}
	s.lines = json.NewEncoder(s)
	s.lines.SetEscapeHTML(false)
	s.run(r, a.o.Stopping, limit)
}

// foreign refuses web pages of other origins, those in server.origins too: they
// may translate, and what others translate is none of their business.
func foreign(r *http.Request) error {
	site := r.Header.Get("Sec-Fetch-Site")
	if r.Header.Get("Origin") == "" && (site == "" || site == "none" || site == "same-origin") {
		return nil
	}
	return &core.Error{Kind: core.Forbidden, Detail: "a tap is not for web pages"}
}

// tapQuery reads what is asked for; limit 0 is none.
func tapQuery(raw string) (f chain.Filter, limit int64, err error) {
	err = parameters(raw, func(name, value string) (err error) {
		switch name {
		case "stage":
			f.Stage = value
		case "session":
			f.Session = value
		case "texts":
			if f.Texts, err = strconv.ParseBool(value); err != nil {
				return wrong(name, "texts is 1 or 0, not %.40q", value)
			}
		case "limit":
			if limit, err = strconv.ParseInt(value, 10, 64); err != nil || limit < 1 {
				return wrong(name, "limit is a number of passings from 1, not %.40q", value)
			}
		default:
			return wrong("", "there is no %.40q to ask for; there are stage, session, texts and limit", name)
		}
		return nil
	})
	return f, limit, err
}

// A tapStream is the answer to one tap.
type tapStream struct {
	w       http.ResponseWriter
	control *http.ResponseController
	tap     *chain.Tap
	lines   *json.Encoder
	shown   int64
}

// Write gives the client so long to take one line, in place of the deadline that
// the listener has for a whole answer.
func (s *tapStream) Write(line []byte) (int, error) {
	if err := s.control.SetWriteDeadline(time.Now().Add(door.Patience)); err != nil {
		return 0, err
	}
	return s.w.Write(line)
}

// run returns when the client has left or does not read, when stopping is
// closed, and after limit passings.
func (s *tapStream) run(r *http.Request, stopping <-chan struct{}, limit int64) {
	heartbeat := time.NewTicker(TapHeartbeat)
	defer heartbeat.Stop()
	err := s.tally("")
	for err == nil {
		select {
		case <-r.Context().Done():
			return
		case <-stopping:
			s.tally(TapStopping)
			return
		case <-heartbeat.C:
			err = s.tally("")
		case p := <-s.tap.Passings():
			err = s.passing(p)
			if err == nil && s.shown == limit {
				s.tally(TapLimit)
				return
			}
		}
	}
}

func (s *tapStream) passing(p chain.Passing) error {
	s.shown++
	err := s.lines.Encode(TapPassing{
		Time: p.At.UTC(), Request: p.Request, Session: p.Session, Stage: p.Stage,
		Source: string(p.Source), Target: string(p.Target), Lane: p.Lane.String(), Attempt: p.Attempt,
		Outcome: string(p.Ending), Error: string(p.Kind), From: p.From,
		TotalMS: door.Milliseconds(p.Total), SelfMS: door.Milliseconds(p.Self), In: p.In, Out: p.Out, TextIn: p.TextIn, TextOut: p.TextOut,
	})
	if err != nil || len(s.tap.Passings()) > 0 {
		return err // with more to come at once, it leaves with that
	}
	return s.control.Flush()
}

func (s *tapStream) tally(end string) error {
	t := s.tap.Tally()
	err := s.lines.Encode(struct {
		Tally TapTally `json:"tally"`
	}{TapTally{Seen: t.Seen, Shown: s.shown, LeftOut: t.LeftOut, Dropped: t.Dropped, End: end}})
	if err != nil {
		return err
	}
	return s.control.Flush()
}
