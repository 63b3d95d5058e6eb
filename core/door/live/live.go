// Package live is the door for live sessions: the protocol dragoman.live.v1 over a
// WebSocket, and the same session over plain HTTP with server-sent events. Its README is
// the manual.
package live

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/zap"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/door"
	"github.com/dragoman-mt/dragoman/core/live"
	"github.com/dragoman-mt/dragoman/core/usage"
)

// name is this door's in logs and metrics.
const name = "live"

// Protocol is the subprotocol of a WebSocket; a browser's token comes as the second one,
// behind bearer.
const (
	Protocol = "dragoman.live.v1"
	bearer   = "bearer."
)

// maxName bounds the names of sessions, segments and speakers, in code points.
const maxName = 128

const (
	// ticketLife is how long a browser's token is good for, once.
	ticketLife = time.Minute
	// maxTickets bounds those that nobody has used.
	maxTickets = 4096
	// hello is how long a connection may be silent before its start.
	hello = 10 * time.Second
)

// A Door is the handler of the live door. It is safe for concurrent use.
type Door struct {
	door.Teller
	config  atomic.Pointer[live.Config]
	metrics *measures
	log     *zap.Logger

	mu        sync.Mutex
	sessions  map[owner]*session
	resumes   map[digest]*session // by token, also former ones
	tickets   map[string]ticket
	epochs    map[owner]int64
	records   map[*record]bool
	recording atomic.Int64 // how many records
	plainly   inference
	group     *group         // nil without others
	keeping   bool           // the keeper runs
	work      sync.WaitGroup // of sessions, and the keeper
	closing   chan struct{}
	closed    bool
}

// An owner is whose session it is: the same name under another key is another session.
type owner struct{ client, name string }

// A ticket lets a browser open one WebSocket.
type ticket struct {
	caller
	until time.Time
}

// A caller is who calls, and what he showed: it is looked at again with every frame.
type caller struct {
	client string
	call   *http.Request
	shown  string
}

// still says whether the caller may still do what he does.
func (c caller) still(rules *door.Rules) error {
	client, err := rules.Client(c.call, c.shown, name)
	if err == nil && client != c.client {
		err = &core.Error{Kind: core.Unauthorized, Detail: "the key has another name now"}
	}
	return err
}

// New returns a door to service.
func New(c live.Config, service *door.Service, metrics *door.Metrics, log *zap.Logger) *Door {
	d := &Door{
		Teller:  door.Teller{Door: name, Service: service, Metrics: metrics, Journal: door.NewJournal(log)},
		metrics: &measures{}, log: log,
		sessions: map[owner]*session{}, resumes: map[digest]*session{}, tickets: map[string]ticket{}, epochs: map[owner]int64{}, records: map[*record]bool{},
		closing: make(chan struct{}),
	}
	d.config.Store(&c)
	d.plainly.of = live.NewInference()
	return d
}

// Plan takes another section `live` in place, also for the sessions that are open.
func (d *Door) Plan(config any) (apply func(), err error) {
	c, ok := config.(*live.Config)
	if !ok {
		return nil, fmt.Errorf("live: planned with a %T, want a %T", config, c)
	}
	return func() { d.config.Store(c) }, nil
}

// Close ends all sessions, and waits for what they do.
func (d *Door) Close() {
	d.mu.Lock()
	if !d.closed {
		d.closed = true
		close(d.closing)
	}
	var all []*session
	for _, s := range d.sessions {
		all = append(all, s)
	}
	d.mu.Unlock()
	for _, s := range all {
		s.leave()
	}
	d.work.Wait()
	d.group.leave()
}

// Dialect returns d as one of the gateway's doors.
func (d *Door) Dialect() door.Dialect {
	return door.Dialect{
		Name: name, Serve: d,
		Takes: func(r *http.Request) bool {
			return r.URL.Path == "/v1/live" || r.URL.Path == "/live" || strings.HasPrefix(r.URL.Path, "/v1/live/") || strings.HasPrefix(r.URL.Path, "/live/")
		},
	}
}

func (d *Door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := r.URL.Path
	switch {
	case path == "/live" || strings.HasPrefix(path, "/live/"):
		d.page(w, r)
	case path != "/v1/live":
		d.plain(w, r, strings.TrimPrefix(path, "/v1/live/"))
	case r.Method == http.MethodGet && r.Header.Get("Upgrade") != "":
		d.socket(w, r)
	case r.Method == http.MethodPost:
		d.open(w, r)
	default:
		w.Header().Set("Upgrade", "websocket")
		door.Allow(w, r, http.MethodPost)
	}
}

func (d *Door) refuse(w http.ResponseWriter, r *http.Request, begin time.Time, err error) {
	d.Failed(r, door.RequestID(w, r), "", begin, err)
	door.WriteError(w, r, err)
}

// stopping says whether the gateway ends.
func (d *Door) stopping() bool {
	select {
	case <-d.Service.Stopping():
		return true
	case <-d.closing:
		return true
	default:
		return false
	}
}

func unavailable() error {
	return &core.Error{Kind: core.Unavailable, Stage: "live", Detail: "the gateway is stopping", Retryable: true}
}

// token returns a random one.
func token() string {
	var b [24]byte
	rand.Read(b[:])
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// open gives a browser its token, or, with a start as its body, begins a session over
// plain HTTP.
func (d *Door) open(w http.ResponseWriter, r *http.Request) {
	begin, id := time.Now(), door.RequestID(w, r)
	rules := d.Service.Rules()
	key := door.Bearer(r)
	client, err := rules.Client(r, key, name)
	if err != nil {
		d.refuse(w, r, begin, err)
		return
	}
	if d.stopping() {
		d.refuse(w, r, begin, unavailable())
		return
	}
	who := caller{client, r.Clone(context.Background()), key}
	who.call.Body = nil
	body, err := rules.Body(w, r, client)
	if err != nil {
		d.refuse(w, r, begin, err)
		return
	}
	defer body.Close()
	if strings.TrimSpace(string(body.Bytes())) == "" {
		d.ticket(w, r, who)
		return
	}
	answer, err := d.begin(who, body.Bytes(), r)
	if err != nil {
		d.refuse(w, r, begin, err)
		return
	}
	d.Journal.Served(name, id, client, http.StatusOK, 0, time.Since(begin))
	door.WriteJSON(w, http.StatusOK, answer)
}

func (d *Door) ticket(w http.ResponseWriter, r *http.Request, who caller) {
	t := ticket{who, time.Now().Add(ticketLife)}
	secret := token()
	d.mu.Lock()
	for k, o := range d.tickets {
		if time.Now().After(o.until) {
			delete(d.tickets, k)
		}
	}
	full := len(d.tickets) >= maxTickets
	if !full {
		d.tickets[secret] = t
	}
	d.mu.Unlock()
	if full {
		door.WriteError(w, r, &core.Error{Kind: core.Overloaded, Stage: "live", Detail: "too many tokens wait to be used; ask again in a minute", RetryAfter: ticketLife})
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	door.WriteJSON(w, http.StatusOK, struct {
		URL     string    `json:"url"`
		Token   string    `json:"token"`
		Expires time.Time `json:"expires"`
	}{address(r, "ws") + "/v1/live", secret, t.until.UTC().Truncate(time.Second)})
}

// address is that of this gateway as its client sees it.
func address(r *http.Request, scheme string) string {
	if r.TLS != nil || strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https") {
		scheme += "s"
	}
	return scheme + "://" + r.Host
}

// redeem takes a browser's token, once.
func (d *Door) redeem(secret string) (who caller, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	t, ok := d.tickets[secret]
	delete(d.tickets, secret)
	return t.caller, ok && time.Now().Before(t.until)
}

// socket serves a WebSocket.
func (d *Door) socket(w http.ResponseWriter, r *http.Request) {
	begin := time.Now()
	if d.stopping() {
		d.refuse(w, r, begin, unavailable())
		return
	}
	secret := ""
	offered := strings.FieldsFunc(strings.Join(r.Header.Values("Sec-WebSocket-Protocol"), ","), func(c rune) bool { return c == ',' || c == ' ' || c == '\t' })
	for _, p := range offered {
		if after, is := strings.CutPrefix(p, bearer); is {
			secret = after
		}
	}
	who := caller{call: r.Clone(context.Background()), shown: door.Bearer(r)}
	who.call.Body = nil
	var refused error
	if secret != "" && who.shown == "" {
		var ok bool
		if who, ok = d.redeem(secret); !ok {
			refused = &core.Error{Kind: core.Unauthorized, Detail: "the token is wrong, was used, or is older than 60 s; POST /v1/live gives another"}
		}
	} else {
		var err error
		if who.client, err = d.Service.Rules().Client(r, who.shown, name); err != nil {
			d.refuse(w, r, begin, err)
			return
		}
	}
	// The origin was checked by the guard before every door, which knows server.origins.
	taken := &hijacker{ResponseWriter: w}
	conn, err := websocket.Accept(taken, r, &websocket.AcceptOptions{Subprotocols: []string{Protocol}, InsecureSkipVerify: true, CompressionMode: websocket.CompressionDisabled})
	if err != nil {
		d.Failed(r, door.RequestID(w, r), who.client, begin, &core.Error{Kind: core.InvalidRequest, Stage: "live", Detail: "no WebSocket", Cause: err})
		return // it has answered
	}
	c := &connection{door: d, ws: conn, under: taken.conn, caller: who, query: r.URL.Query(), wake: make(chan struct{}, 1), read: make(chan struct{})}
	if refused != nil {
		c.fail(refused, true)
		c.shut(closeUnauthorized, "the token is not good")
		return
	}
	c.serve(r.Context())
}

// keep looks after all sessions while there are any: what ended, what is idle, whose key
// was withdrawn.
func (d *Door) keep() {
	defer d.work.Done()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	rules, config := d.Service.Rules(), d.config.Load()
	for {
		select {
		case <-d.closing:
			return
		case <-tick.C:
		}
		d.mu.Lock()
		if len(d.sessions) == 0 {
			d.keeping = false
			d.mu.Unlock()
			return
		}
		all := make([]*session, 0, len(d.sessions))
		for _, s := range d.sessions {
			all = append(all, s)
		}
		d.mu.Unlock()
		now := time.Now()
		is, conf := d.Service.Rules(), d.config.Load()
		for _, s := range all {
			s.look(now, conf, is, is != rules || conf != config)
		}
		rules, config = is, conf
	}
}

// add makes s known, in the place of the one with its name, which is returned. The error
// is that there are too many.
func (d *Door) add(s *session) (former *session, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, unavailable()
	}
	former = d.sessions[s.owner]
	if d.fullLocked(s.owner) {
		return nil, errFull
	}
	if s.epoch == 0 {
		s.epoch = d.epochs[s.owner] + 1
	}
	d.epochs[s.owner] = max(d.epochs[s.owner], s.epoch)
	for o := range d.epochs { // of names that are gone some are remembered
		if len(d.epochs) <= 2*d.config.Load().MaxSessions {
			break
		}
		if d.sessions[o] == nil && o != s.owner {
			delete(d.epochs, o)
		}
	}
	d.sessions[s.owner] = s
	d.resumes[s.token] = s
	for _, f := range s.former {
		d.resumes[f.digest] = s
	}
	if !d.keeping {
		d.keeping = true
		d.work.Add(1)
		go d.keep()
	}
	return former, nil
}

var errFull = &core.Error{Kind: core.Overloaded, Stage: "live", Detail: "as many sessions are open as may be (live.max_sessions)", Retryable: true, RetryAfter: 10 * time.Second}

// full says whether there is no room for a session of that name.
func (d *Door) full(o owner) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.fullLocked(o)
}

func (d *Door) fullLocked(o owner) bool {
	return d.sessions[o] == nil && len(d.sessions) >= d.config.Load().MaxSessions
}

// remove forgets s, whose lock is held.
func (d *Door) remove(s *session) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.sessions[s.owner] == s {
		delete(d.sessions, s.owner)
	}
	delete(d.resumes, s.token)
	for _, old := range s.former {
		delete(d.resumes, old.digest)
	}
}

// find returns the session that a token continues.
func (d *Door) find(token string) *session {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.resumes[digestOf(token)]
}

// contested says whether a start would take a session from a connection that may be a later
// one of the same client. Who shows the latest token has heard the latest connection.
func (d *Door) contested(o owner, resume string) bool {
	s := d.find(resume)
	if s == nil {
		return d.named(o) != nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return digestOf(resume) != s.token
}

// named returns the session of that name.
func (d *Door) named(o owner) *session {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.sessions[o]
}

// swap lets another token continue s.
func (d *Door) swap(drop, add *digest, s *session) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if drop != nil {
		delete(d.resumes, *drop)
	}
	if add != nil && d.sessions[s.owner] == s {
		d.resumes[*add] = s
	}
}

func encode(f any) []byte {
	raw, err := json.Marshal(f)
	if err != nil {
		panic(err) // the frames are ours
	}
	return raw
}

// A Status is what an operator is told of one session.
type Status struct {
	Client, Session string
	Epoch           int64
	Targets         []core.Language
	Connected       bool
	Cost            usage.Cost
	*live.Stats
}

// Sessions tells of all that are open, by client and name.
func (d *Door) Sessions() (all []Status) {
	d.mu.Lock()
	open := make([]*session, 0, len(d.sessions))
	for _, s := range d.sessions {
		open = append(open, s)
	}
	d.mu.Unlock()
	now := time.Now()
	for _, s := range open {
		s.mu.Lock()
		if !s.over {
			all = append(all, Status{s.client, s.name, s.epoch, s.live.Targets(), s.conn != nil, s.cost, s.live.Stats(now)})
		}
		s.mu.Unlock()
	}
	slices.SortFunc(all, func(a, b Status) int {
		return cmp.Or(cmp.Compare(a.Client, b.Client), cmp.Compare(a.Session, b.Session))
	})
	return all
}
