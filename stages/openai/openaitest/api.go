package openaitest

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
)

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/chat/completions", s.api("/v1/chat/completions", (*call).chat))
	mux.HandleFunc("GET /v1/models", s.api("/v1/models", (*call).models))
	mux.HandleFunc("GET /v1/models/{model...}", s.api("/v1/models/{model}", (*call).model))
	mux.HandleFunc("/", s.api("other", (*call).unknown))
	mux.HandleFunc("GET /sim/config", s.getConfig)
	mux.HandleFunc("POST /sim/config", s.postConfig)
	mux.HandleFunc("GET /sim/stats", s.getStats)
	mux.HandleFunc("DELETE /sim/stats", func(w http.ResponseWriter, _ *http.Request) {
		s.ResetStats()
		w.WriteHeader(http.StatusNoContent)
	})
	return mux
}

// A call is one request to the API.
type call struct {
	s      *Server
	cfg    *Config
	w      *recorder
	r      *http.Request
	rng    *rand.Rand
	conn   *conn
	reused bool
	chatty bool // a chat request
	rec    *Record
	body   []byte
	ours   bool // the server ended it, not the client
}

// A recorder notes the status answered.
type recorder struct {
	http.ResponseWriter
	status int
}

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(p []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	return r.ResponseWriter.Write(p)
}

func (r *recorder) flush() { r.ResponseWriter.(http.Flusher).Flush() }

// api makes a handler that counts, numbers and logs what answer does.
func (s *Server) api(path string, answer func(*call)) http.HandlerFunc {
	chat := path == "/v1/chat/completions"
	return func(w http.ResponseWriter, r *http.Request) {
		c := s.begin(w, r, path, chat)
		defer c.end()
		if age := c.cfg.MaxAge; age > 0 && time.Since(c.conn.born) > age {
			w.Header().Set("Connection", "close") // GOAWAY on HTTP/2
		}
		if stale := c.cfg.Stale; stale > 0 && time.Since(c.conn.born) > stale {
			c.rec.Fault = "stale"
			c.ours = true
			c.conn.abort()
			return
		}
		if !c.cfg.Bare {
			w.Header().Set("x-request-id", c.rec.ID)
			w.Header().Set("openai-version", "2020-10-01")
			w.Header().Set("openai-organization", "org-sim")
		}
		answer(c)
	}
}

func (s *Server) begin(w http.ResponseWriter, r *http.Request, path string, chat bool) *call {
	now := time.Now()
	c := &call{s: s, cfg: s.config(), w: &recorder{ResponseWriter: w}, r: r, chatty: chat,
		conn: r.Context().Value(connKey{}).(*conn),
		rec:  &Record{Start: now, ClientID: printable(r.Header.Get("X-Client-Request-Id"))}}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.Requests++
	inc(&s.stats.Paths, path)
	c.reused = c.conn.requests > 0
	c.conn.requests++
	c.rec.Connection, c.rec.Reused = c.conn.number, c.reused
	number := uint64(s.stats.Requests) | 1<<63
	if chat {
		s.chats++
		number = uint64(s.chats)
		s.stats.Chats++
		s.stats.InFlight++
		s.stats.MaxInFlight = max(s.stats.MaxInFlight, s.stats.InFlight)
		s.stats.add(c.rec)
	}
	c.rng = newRand(s.key, number)
	c.rec.ID = fmt.Sprintf("req_%016x%016x", c.rng.Uint64(), c.rng.Uint64())
	return c
}

// printable bounds what a client may put into records and logs.
func printable(id string) string {
	if len(id) > 128 {
		id = id[:128]
	}
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r > 0x7e {
			return '?'
		}
		return r
	}, id)
}

// end keeps the book, also of a handler that panicked to abort.
func (c *call) end() {
	left := c.r.Context().Err() != nil && !c.ours && c.s.ctx.Err() == nil
	c.s.mu.Lock()
	c.rec.Took = max(time.Since(c.rec.Start), 1)
	c.rec.Status, c.rec.Aborted = c.w.status, left
	inc(&c.s.stats.Statuses, c.w.status)
	if left {
		c.s.stats.Aborted++
	}
	if c.chatty && c.rec.Fault != "" {
		inc(&c.s.stats.Faults, c.rec.Fault)
	}
	rec := *c.rec
	c.s.mu.Unlock()
	if c.chatty {
		if c.cfg.Ended != nil {
			c.cfg.Ended(rec)
		}
		c.s.mu.Lock()
		if c.s.stats.InFlight--; c.s.stats.InFlight == 0 {
			close(c.s.settled)
			c.s.settled = make(chan struct{})
		}
		c.s.mu.Unlock()
	}
	if log := c.cfg.Log; log != nil {
		level := zap.DebugLevel
		if rec.Fault != "" {
			level = zap.InfoLevel
		}
		log.Log(level, "request", zap.String("id", rec.ID), zap.String("client_id", rec.ClientID),
			zap.String("path", c.r.URL.EscapedPath()), zap.Int("status", rec.Status), zap.String("fault", rec.Fault),
			zap.Int64("connection", rec.Connection), zap.Duration("took", rec.Took), zap.Bool("aborted", rec.Aborted))
	}
	if c.w.status == 0 {
		panic(http.ErrAbortHandler) // or net/http would answer 200
	}
}

// fault chooses what this request meets.
func (c *call) fault() string {
	draw := c.rng.Float64() // always, so that a schedule shifts no other choice
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if steps := c.s.schedule; len(steps) > 0 {
		kind := steps[0].Kind
		if kind == IdleClose && !c.reused {
			return ""
		}
		left := steps[0].Count - 1
		if left == 0 {
			c.s.schedule = steps[1:]
		} else {
			c.s.schedule = append([]Step{{kind, left}}, steps[1:]...)
		}
		return kind
	}
	for _, kind := range slices.Sorted(maps.Keys(c.cfg.Faults)) { // in one order, or a seed would mean nothing
		rate := c.cfg.Faults[kind]
		if draw < rate {
			if kind == IdleClose && !c.reused {
				return ""
			}
			return kind
		}
		draw -= rate
	}
	return ""
}

// latency is the time to the first byte of the answer.
func (c *call) latency() time.Duration {
	p50, p99 := c.cfg.Latency, c.cfg.LatencyP99
	z := c.rng.NormFloat64()
	if p99 <= p50 || p50 <= 0 {
		return p50
	}
	const z99 = 2.3263478740408408 // the standard normal's 99th percentile
	return time.Duration(float64(p50) * math.Exp(z*math.Log(float64(p99)/float64(p50))/z99))
}

// until waits for t and says whether the client is still there then.
func (c *call) until(t time.Time) bool {
	wait := time.Until(t)
	if wait <= 0 {
		return c.r.Context().Err() == nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-c.r.Context().Done():
		return false
	case <-c.s.ctx.Done():
		return false
	}
}

// gone waits until the client has left or the server closes.
func (c *call) gone() {
	select {
	case <-c.r.Context().Done():
	case <-c.s.ctx.Done():
	}
}

// reset ends the connection under the client.
func (c *call) reset() {
	c.ours = true
	c.conn.abort()
}

// close ends the connection in order.
func (c *call) close() {
	c.ours = true
	c.s.mu.Lock()
	outer := c.conn.outer
	c.s.mu.Unlock()
	outer.Close()
}

// read takes the body in. When it cannot, it has answered if that was
// possible.
func (c *call) read() bool {
	body, err := io.ReadAll(http.MaxBytesReader(c.w, c.r.Body, maxBody))
	if err == nil {
		c.body = body
		return true
	}
	if _, tooLarge := err.(*http.MaxBytesError); tooLarge {
		c.refuse(errorOf(http.StatusRequestEntityTooLarge, invalid, "", "", "The request body is too large."))
	}
	return false
}

func (c *call) refuse(e *apiError) { e.write(c.w) }

// authorized checks the API key, and answers when it is not taken.
func (c *call) authorized() bool {
	key, ok := strings.CutPrefix(c.r.Header.Get("Authorization"), "Bearer ")
	switch {
	case !ok || strings.TrimSpace(key) == "":
		c.refuse(errorOf(http.StatusUnauthorized, invalid, "", "", "You didn't provide an API key."))
		return false
	case len(c.s.keys) > 0 && !c.s.keys[key]:
		c.refuse(wrongKey())
		return false
	}
	return true
}

// modelObject is a model as the API shows it.
type modelObject struct {
	ID           string  `json:"id"`
	Object       string  `json:"object"`
	Created      int64   `json:"created"`
	OwnedBy      string  `json:"owned_by"`
	ShutdownDate *string `json:"shutdown_date"`
}

func (m Model) object() modelObject {
	o := modelObject{ID: m.ID, Object: "model", Created: 1767225600, OwnedBy: "system"}
	if m.ShutdownDate != "" {
		o.ShutdownDate = &m.ShutdownDate
	}
	return o
}

func (c *call) models() {
	if !c.modelsServed() {
		return
	}
	list := struct {
		Object string        `json:"object"`
		Data   []modelObject `json:"data"`
	}{Object: "list"}
	for _, m := range c.cfg.Models {
		list.Data = append(list.Data, m.object())
	}
	c.json(list)
}

func (c *call) model() {
	if !c.modelsServed() {
		return
	}
	m, ok := c.cfg.model(c.r.PathValue("model"))
	if !ok {
		e := noModel(c.r.PathValue("model"))
		e.body.Message = "The model '" + c.r.PathValue("model") + "' does not exist"
		param := "model"
		e.body.Param = &param
		c.refuse(e)
		return
	}
	c.json(m.object())
}

// modelsServed answers when /models has none of its own to give.
func (c *call) modelsServed() bool {
	if c.cfg.NoModels {
		http.NotFound(c.w, c.r)
		return false
	}
	if kind := c.cfg.ModelsFault; kind != "" {
		c.rec.Fault = kind
		if e := errorFault(kind, c.r.PathValue("model"), c.cfg); e != nil {
			c.refuse(e)
			return false
		}
		switch kind {
		case ResetBefore, ResetAfter, Cut:
			c.reset()
			return false
		case IdleClose:
			c.close()
			return false
		case Hang, Stall, Drip:
			c.gone()
			return false
		case Truncated, Garbage, Empty:
			c.w.Header().Set("Content-Type", "application/json")
			io.WriteString(c.w, `{"id": "gpt`)
			return false
		}
	}
	return c.authorized()
}

func (c *call) unknown() {
	status, what := http.StatusNotFound, "Invalid URL"
	if c.r.URL.Path == "/v1/chat/completions" || strings.HasPrefix(c.r.URL.Path, "/v1/models") {
		status, what = http.StatusMethodNotAllowed, "Not allowed"
	}
	c.refuse(errorOf(status, invalid, "", "", fmt.Sprintf("%s (%s %s)", what, c.r.Method, c.r.URL.Path)))
}

func (c *call) json(v any) {
	c.w.Header().Set("Content-Type", "application/json")
	enc := json.NewEncoder(c.w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	enc.Encode(v)
}

func (s *Server) getConfig(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	cfg := s.config().clone()
	cfg.Schedule = append([]Step(nil), s.schedule...)
	s.mu.Unlock()
	body, err := cfg.encode()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write(append(body, '\n'))
}

func (s *Server) postConfig(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
	if err == nil {
		err = s.configure(func(c *Config) error { return c.decode(body) })
	}
	if err != nil {
		badRequest("", "", err.Error()).write(w)
		return
	}
	s.getConfig(w, r)
}

// getStats answers with Stats; with the records only when asked for
// (?records=1), since they are many.
func (s *Server) getStats(w http.ResponseWriter, r *http.Request) {
	stats := s.Stats()
	if r.URL.Query().Get("records") == "" {
		stats.Records = nil
	}
	w.Header().Set("Content-Type", "application/json")
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.Encode(stats)
}

// newRand makes the choices of the n-th request.
func newRand(seed, n uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, n*0x9e3779b97f4a7c15)) }
