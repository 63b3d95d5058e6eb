package live

import (
	"bytes"
	"context"
	"crypto/subtle"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/door"
	"github.com/dragoman-mt/dragoman/core/live"
)

// A begun is a session that was begun over plain HTTP.
type begun struct {
	Session string `json:"session"`
	Epoch   int64  `json:"epoch"`
	// Token may be sent in place of the key, to this session alone.
	Token  string `json:"token"`
	Source string `json:"source"` // to be posted to
	Events string `json:"events"` // to be read
}

// begin begins a session with a start.
func (d *Door) begin(who caller, raw []byte, r *http.Request) (*begun, error) {
	f, bad := parse(raw)
	switch {
	case !utf8.Valid(raw):
		return nil, errBytes
	case bad != nil:
		return nil, bad
	case f.kind != "start":
		return nil, invalid("type", "the body is a start")
	}
	want, name, bad := d.readStart(f)
	if bad == nil {
		name, bad = sessionIn(r.URL.Query(), name)
	}
	if bad != nil {
		return nil, bad
	}
	s, err := d.create(who, name, want, token())
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range f.unknown {
		s.passOver(name)
	}
	at := address(r, "http") + "/v1/live/" + url.PathEscape(s.name)
	return &begun{Session: s.name, Epoch: s.epoch, Token: s.plain, Source: at + "/source", Events: at}, nil
}

// plain serves what is below /v1/live/: SESSION and SESSION/source.
func (d *Door) plain(w http.ResponseWriter, r *http.Request, path string) {
	begin := time.Now()
	path = strings.TrimPrefix(r.URL.EscapedPath(), "/v1/live/")
	escaped, what, _ := strings.Cut(path, "/")
	name, err := url.PathUnescape(escaped)
	if err != nil || name == "" || what != "" && what != "source" {
		door.NotFound(w, r)
		return
	}
	method := http.MethodGet
	if what == "source" {
		method = http.MethodPost
	}
	if !door.Allow(w, r, method) {
		return
	}
	s, err := d.of(r, name)
	if err != nil {
		d.refuse(w, r, begin, err)
		return
	}
	if what == "source" {
		d.source(w, r, s)
		return
	}
	if r.Method == http.MethodHead {
		return
	}
	d.events(w, r, s)
}

// of returns the session of that name that the call may speak for.
func (d *Door) of(r *http.Request, name string) (*session, error) {
	shown := door.Bearer(r)
	rules := d.Service.Rules()
	client, keyed := rules.Client(r, shown, name)
	d.mu.Lock()
	var found *session
	for o, s := range d.sessions {
		if o.name == name && (keyed == nil && o.client == client || s.plain != "" && subtle.ConstantTimeCompare([]byte(s.plain), []byte(shown)) == 1) {
			found = s
			break
		}
	}
	d.mu.Unlock()
	switch {
	case found == nil && keyed != nil:
		return nil, keyed
	case found == nil:
		return nil, &core.Error{Kind: core.NotFound, Stage: "live", Detail: "there is no such session; POST /v1/live with a start begins one"}
	}
	found.mu.Lock()
	who := found.caller
	found.mu.Unlock()
	return found, who.still(rules)
}

// source takes frames: one, or one a line.
func (d *Door) source(w http.ResponseWriter, r *http.Request, s *session) {
	begin, id := time.Now(), door.RequestID(w, r)
	body, err := d.Service.Rules().Body(w, r, s.client)
	if err != nil {
		d.refuse(w, r, begin, err)
		return
	}
	defer body.Close()
	raw := bytes.TrimSpace(body.Bytes())
	lines := [][]byte{raw}
	if _, bad := parse(raw); bad == errSyntax {
		lines = bytes.Split(raw, []byte("\n"))
	}
	most := int(d.config.Load().MaxFrame)
	for i, line := range lines {
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		refuse := func(bad *core.Error) {
			if len(lines) > 1 {
				own := *bad
				own.Detail = fmt.Sprintf("line %d: %s; the lines before it were taken, and it and those behind it were not", i+1, bad.Detail)
				bad = &own
			}
			d.refuse(w, r, begin, bad)
		}
		if len(line) > most {
			refuse(&core.Error{Kind: core.TooLarge, Stage: "live", Detail: "a frame is larger than live.max_frame"})
			return
		}
		if !utf8.Valid(line) {
			refuse(errBytes)
			return
		}
		f, bad := parse(line)
		if f.kind == "" && f.fields != nil && f.fields["segment"] != nil && f.fields["type"] == nil {
			f, bad = parse(append([]byte(`{"type":"source",`), bytes.TrimPrefix(line, []byte("{"))...))
		}
		if bad == nil {
			bad = s.take(nil, f)
		}
		if bad != nil {
			refuse(bad)
			return
		}
	}
	d.Journal.Served(name, id, s.client, http.StatusAccepted, len(lines), time.Since(begin))
	w.WriteHeader(http.StatusAccepted)
}

// A reader is a client that reads events.
type reader struct {
	wake   chan struct{}
	closed onceCode
	cancel context.CancelFunc
}

func (c *reader) tell() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

func (c *reader) drop(code closeCode, reason string) {
	select {
	case <-c.closed.set:
	default:
		c.closed.code, c.closed.reason = code, reason
		close(c.closed.set)
		time.AfterFunc(time.Second, c.cancel)
	}
}

// events answers with all that the session has to say. Last-Event-ID says what the client
// has received.
func (d *Door) events(w http.ResponseWriter, r *http.Request, s *session) {
	after := int64(-1)
	if last := r.Header.Get("Last-Event-ID"); last != "" {
		n, err := strconv.ParseInt(last, 10, 64)
		if err != nil || n < 0 {
			door.WriteError(w, r, invalid("Last-Event-ID", "Last-Event-ID is the id of an event"))
			return
		}
		after = n
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	c := &reader{wake: make(chan struct{}, 1), cancel: cancel, closed: onceCode{set: make(chan struct{})}}
	s.mu.Lock()
	switch {
	case s.over:
		s.mu.Unlock()
		door.WriteError(w, r, &core.Error{Kind: core.NotFound, Stage: "live", Detail: "the session has ended"})
		return
	case after < 0 && s.live.Out().Seq() == 0:
		s.attach(c, 0, false, "")
	case s.live.Out().Provable(max(after, 0)):
		s.attach(c, max(after, 0), true, "")
	case s.conn != nil && s.live.Out().Stale(after):
		s.mu.Unlock()
		door.WriteError(w, r, invalid("Last-Event-ID", "the session was continued by a client that had more of it"))
		return
	default:
		// What is missing cannot be had: the session goes on as another one, and says so.
		s.renew()
		s.attach(c, 0, false, "")
	}
	s.mu.Unlock()
	defer s.detach(c)

	out := door.NewStream(w, door.Patience)
	silent := time.NewTimer(door.Heartbeat)
	defer silent.Stop()
	stopping := d.Service.Stopping()
	leaving := false
	var enough <-chan time.Time
	for {
		s.mu.Lock()
		var f live.Frame
		if s.conn == c {
			f = s.live.Out().Next(time.Now())
		}
		s.record()
		empty := s.live.Out().Empty()
		done := f == nil && empty && s.conn == c && s.live.Ended()
		quiet := f == nil && empty && leaving && s.live.Settled()
		seq, over := s.live.Out().Seq(), s.over
		s.mu.Unlock()
		if f != nil {
			event := append([]byte("id: "), strconv.FormatInt(seq, 10)...)
			event = append(append(event, "\ndata: "...), encode(f)...)
			if out.Send(append(event, "\n\n"...)) != nil {
				return
			}
			silent.Reset(door.Heartbeat)
			continue
		}
		if done {
			s.end()
		}
		if done || quiet || over {
			return
		}
		select {
		case <-c.wake:
		case <-silent.C:
			if out.Comment() != nil {
				return
			}
			silent.Reset(door.Heartbeat)
		case <-stopping:
			stopping, leaving = nil, true
			left := min(farewell, d.Service.Rules().DrainTimeout/2)
			enough = time.After(left)
			s.mu.Lock()
			s.live.Say(&live.GoAway{Head: live.Head{Type: "goaway"}, Reason: "stopping", TimeLeftMS: left.Milliseconds()})
			s.mu.Unlock()
		case <-enough:
			return
		case <-c.closed.set:
			return
		case <-ctx.Done():
			return
		}
	}
}

// renew begins the session anew, with what its start said. The caller holds mu.
func (s *session) renew() {
	for id, cancel := range s.cancels {
		cancel()
		delete(s.cancels, id)
	}
	s.count()
	s.counted = live.Counters{}
	now := time.Now()
	s.live = live.New(*s.door.config.Load(), s.start.options, now)
	if s.kept.handle != "" {
		s.live.Out().Keep()
	}
	s.door.mu.Lock()
	s.door.epochs[s.owner]++
	s.epoch = s.door.epochs[s.owner]
	s.door.mu.Unlock()
}
