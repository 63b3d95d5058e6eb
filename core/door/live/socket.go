package live

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/live"
)

// A closeCode ends a WebSocket (RFC 6455 section 7.4, and the registry of its codes).
type closeCode = websocket.StatusCode

const (
	closeNormal       = websocket.StatusNormalClosure           // 1000
	closeGone         = websocket.StatusGoingAway               // 1001
	closeProtocol     = websocket.StatusProtocolError           // 1002
	closeBinary       = websocket.StatusUnsupportedData         // 1003
	closeBroken       = websocket.StatusInvalidFramePayloadData // 1007
	closePolicy       = websocket.StatusPolicyViolation         // 1008
	closeLarge        = websocket.StatusMessageTooBig           // 1009
	closeRestart      = websocket.StatusServiceRestart          // 1012
	closeTryAgain     = websocket.StatusTryAgainLater           // 1013
	closeUnauthorized = closeCode(4401)
	closeTaken        = closeCode(4409)
	closeMany         = closeCode(4429)
)

const (
	pingEvery = 20 * time.Second
	pongWait  = 10 * time.Second
	// patience is how long one frame may take to be written.
	patience = 10 * time.Second
	// closing is how long a client has to answer a close.
	closing = time.Second
	// farewell is how long a stopping gateway waits for finals.
	farewell = 5 * time.Second
	// spreadOver is the time over which connections are closed then, so that their
	// clients do not come back all at once.
	spreadOver = time.Second
)

// A connection is one WebSocket.
type connection struct {
	door    *Door
	ws      *websocket.Conn
	under   net.Conn // of ws, whose own close waits for the client
	caller  caller
	query   url.Values // of the address that it came to
	session *session
	wake    chan struct{}
	read    chan struct{} // closed when nothing is read of it any more
	ahead   chan []byte   // what was read while its client was asked whether it is there; nil for none

	cancel context.CancelFunc
	closed onceCode
}

// A hijacker remembers the connection that was taken over.
type hijacker struct {
	http.ResponseWriter
	conn net.Conn
}

func (h *hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(h.ResponseWriter).Hijack()
	h.conn = conn
	return conn, rw, err
}

// onceCode keeps the first reason to close.
type onceCode struct {
	set    chan struct{}
	code   closeCode
	reason string
}

func (c *connection) tell() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// drop ends the connection: whoever writes it closes it. The session's lock is held, so
// the first call counts.
func (c *connection) drop(code closeCode, reason string) {
	select {
	case <-c.closed.set:
		return
	default:
	}
	c.closed.code, c.closed.reason = code, reason
	close(c.closed.set)
	// A client that does not read holds up the writer, which is to be cut.
	time.AfterFunc(time.Second, c.cancel)
}

// fail sends an error outside of a session.
func (c *connection) fail(err error, fatal bool) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c.ws.Write(ctx, websocket.MessageText, encode(failure(err, "", fatal))) // the close that follows says the rest
}

// shut closes the connection, with so much of reason as a close frame has room for. A client
// that does not answer the close is cut.
func (c *connection) shut(code closeCode, reason string) {
	reason = strings.ToValidUTF8(reason[:min(len(reason), 120)], "") // it may end within a letter
	cut := time.AfterFunc(closing, func() { c.under.Close() })
	defer cut.Stop()
	c.ws.Close(code, reason)
}

// serve serves the connection until its end.
func (c *connection) serve(ctx context.Context) {
	ctx, c.cancel = context.WithCancel(ctx)
	defer c.cancel()
	defer c.ws.CloseNow()
	c.closed.set = make(chan struct{})
	c.ws.SetReadLimit(-1) // message has one, which a reload may change
	first, err := c.first(ctx)
	if err != nil {
		return
	}
	if code, err := c.begin(ctx, first); err != nil {
		c.fail(err, true)
		c.shut(code, core.AsError(err, "live").Detail)
		return
	}
	written := make(chan struct{})
	go func() {
		defer close(written)
		defer c.cancel()
		c.write(ctx)
	}()
	c.listen(ctx)
	close(c.read)
	c.session.detach(c)
	c.cancel()
	<-written
}

// first returns the first frame, which has to be a start, and come soon.
func (c *connection) first(ctx context.Context) (frame, error) {
	timer := time.AfterFunc(hello, func() { c.shut(closePolicy, "no start came") })
	defer timer.Stop()
	raw, err := c.message(ctx)
	if err != nil {
		return frame{}, err
	}
	f, bad := parse(raw)
	switch {
	case bad == errSyntax:
		c.shut(closeBroken, bad.Detail)
		return f, bad
	case bad == nil && f.kind != "start":
		bad = invalid("type", "the first frame has to be a start")
	}
	if bad != nil {
		c.fail(bad, true)
		c.shut(closePolicy, "no start")
		return f, bad
	}
	return f, nil
}

// message reads one message of text. On an error the connection is closed.
func (c *connection) message(ctx context.Context) ([]byte, error) {
	kind, r, err := c.ws.Reader(ctx)
	if err != nil {
		if lost := net.Error(nil); websocket.CloseStatus(err) < 0 && ctx.Err() == nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.As(err, &lost) {
			c.shut(closeProtocol, "frames are those of RFC 6455, and a client's are masked")
		}
		return nil, err
	}
	if kind != websocket.MessageText {
		c.shut(closeBinary, "frames are text")
		return nil, errors.New("binary")
	}
	most := int64(c.door.config.Load().MaxFrame)
	raw, err := io.ReadAll(io.LimitReader(r, most+1))
	if err != nil {
		return nil, err
	}
	if int64(len(raw)) > most {
		c.shut(closeLarge, fmt.Sprintf("a frame has at most %d bytes (live.max_frame)", most))
		return nil, errors.New("too large")
	}
	if !utf8.Valid(raw) {
		c.shut(closeBroken, "frames are UTF-8")
		return nil, errors.New("not UTF-8")
	}
	return raw, nil
}

// errGone is of a client that has closed its connection before it was heard.
var errGone = &core.Error{Kind: core.Canceled, Stage: "live", Detail: "the client is not there any more"}

// begin begins the session, or goes on with one.
func (c *connection) begin(ctx context.Context, f frame) (closeCode, error) {
	d := c.door
	if err := c.caller.still(d.Service.Rules()); err != nil {
		return closeUnauthorized, err
	}
	want, name, bad := d.readStart(f)
	if bad == nil {
		name, bad = sessionIn(c.query, name)
	}
	var resume string
	var after int64
	if bad == nil {
		bad = f.text("resume", &resume, 256)
	}
	if bad == nil {
		bad = f.count("after", &after)
	}
	if bad != nil {
		return closePolicy, bad
	}
	if d.contested(owner{c.caller.client, name}, resume) && !c.present(ctx) {
		return closeGone, errGone
	}
	if resume != "" {
		s := d.find(resume)
		if s == nil {
			var err error
			if s, err = c.adopt(ctx, resume, after); err != nil {
				return codeOf(err), err
			}
		}
		if s != nil {
			if s.client != c.caller.client {
				return closeUnauthorized, errOthers
			}
			if c.resume(s, after, resume, want, f) {
				return 0, nil
			}
			if name == "" {
				name = s.name
			}
			if !want.targets {
				want.options.Targets, want.targets = s.start.options.Targets, true
			}
		}
	}
	s, err := d.create(c.caller, name, want, "")
	if err != nil {
		return codeOf(err), err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c.session = s
	s.attach(c, 0, false, "")
	for _, name := range f.unknown {
		s.passOver(name)
	}
	s.turn()
	return 0, nil
}

// errOthers is for who shows a token of another key's session.
var errOthers = &core.Error{Kind: core.Forbidden, Stage: "live", Field: "resume", Detail: "the session belongs to another key"}

// codeOf closes the connection of a session that did not begin.
func codeOf(err error) closeCode {
	switch core.KindOf(err) {
	case core.Overloaded:
		return closeMany
	case core.Forbidden:
		return closeUnauthorized
	case core.Canceled:
		return closeGone
	}
	return closePolicy
}

// lastWords is how long a connection in whose place there is another one has to be read to
// its end. When the client has closed it that takes no time at all.
const lastWords = 250 * time.Millisecond

// resume goes on with s, when all that the client has missed can be sent.
func (c *connection) resume(s *session, after int64, token string, want start, f frame) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for waited := map[writer]bool{}; ; {
		if s.over || s.live.Ended() && s.live.Out().Empty() || after > s.reach(token) || !s.live.Out().Provable(after) {
			return false
		}
		// What the client said on its former connection comes before what it says on this one.
		o, is := s.conn.(*connection)
		if !is || waited[o] {
			break
		}
		waited[o] = true
		o.drop(closeTaken, "the session goes on with another connection")
		s.mu.Unlock()
		select {
		case <-o.read:
		case <-time.After(lastWords):
		}
		s.mu.Lock()
	}
	c.session, s.caller = s, c.caller
	s.attach(c, after, true, token)
	for _, name := range f.unknown {
		s.passOver(name)
	}
	if want.targets {
		s.live.Retarget(time.Now(), want.options.Targets)
	}
	s.turn()
	return true
}

// present says whether the client is still there. It may have given this connection up and
// made another one, which was heard first: what goes on there is not to be taken from it.
// A client that answers no ping counts as present, unless it has closed its connection.
func (c *connection) present(ctx context.Context) bool {
	if c.ahead != nil {
		return true // it was asked
	}
	ping, cancel := context.WithTimeout(ctx, lastWords)
	defer cancel()
	c.ahead = make(chan []byte, maxAhead)
	go func() { // a pong is heard by who reads
		defer close(c.ahead)
		defer cancel()
		for {
			raw, err := c.message(ctx)
			if err != nil {
				return
			}
			select {
			case c.ahead <- raw:
			case <-ctx.Done():
				return
			}
		}
	}()
	return c.ws.Ping(ping) == nil || errors.Is(ping.Err(), context.DeadlineExceeded)
}

// maxAhead is how many frames are read while it is not known yet whose they are.
const maxAhead = 64

// next returns the next frame. On an error the connection is closed.
func (c *connection) next(ctx context.Context) ([]byte, error) {
	if c.ahead == nil {
		return c.message(ctx)
	}
	raw, open := <-c.ahead
	if !open {
		return nil, io.EOF
	}
	return raw, nil
}

// listen takes frames until the connection ends.
func (c *connection) listen(ctx context.Context) {
	for {
		raw, err := c.next(ctx)
		if err != nil {
			return
		}
		if err := c.caller.still(c.door.Service.Rules()); err != nil {
			c.session.mu.Lock()
			c.drop(closePolicy, "the key is not good any more")
			c.session.endLocked()
			c.session.mu.Unlock()
			return
		}
		f, bad := parse(raw)
		if bad == errSyntax {
			c.shut(closeBroken, bad.Detail)
			return
		}
		if bad == nil {
			bad = c.session.take(c, f)
		}
		if bad != nil {
			c.session.failed(c, bad, segmentOf(f))
		}
	}
}

func segmentOf(f frame) (id string) {
	if f.name("segment", &id) != nil {
		return ""
	}
	return id
}

// write writes what the session has, until there is nothing to write any more.
func (c *connection) write(ctx context.Context) {
	s := c.session
	ping := time.AfterFunc(pingEvery, func() {})
	ping.Stop()
	var pinging func()
	pinging = func() {
		alive, cancel := context.WithTimeout(ctx, pongWait)
		defer cancel()
		if c.ws.Ping(alive) != nil {
			c.ws.CloseNow()
			return
		}
		if ctx.Err() == nil {
			ping.Reset(pingEvery)
		}
	}
	ping = time.AfterFunc(pingEvery, pinging)
	defer ping.Stop()
	stopping := c.door.Service.Stopping()
	var enough <-chan time.Time
	leaving := false
	for {
		for {
			s.mu.Lock()
			f := live.Frame(nil)
			if s.conn == c {
				f = s.live.Out().Next(time.Now())
			}
			s.record()
			empty := s.live.Out().Empty()
			done := f == nil && empty && s.conn == c && s.live.Ended()
			quiet := f == nil && empty && leaving && s.live.Settled()
			over := s.over
			s.mu.Unlock()
			if f == nil {
				switch {
				case done:
					s.end()
					c.shut(closeNormal, "")
					return
				case quiet:
					c.goodbye(ctx)
					return
				case over && !c.dropped():
					c.shut(closeGone, "the session has ended")
					return
				}
				break
			}
			if c.dropped() {
				break
			}
			w, cancel := context.WithTimeout(ctx, patience)
			err := c.ws.Write(w, websocket.MessageText, encode(f))
			cancel()
			if err != nil {
				if c.dropped() {
					c.ws.CloseNow()
				}
				return
			}
		}
		select {
		case <-c.wake:
		case <-c.closed.set:
			c.shut(c.closed.code, c.closed.reason)
			return
		case <-stopping:
			stopping, leaving = nil, true
			enough = time.After(min(farewell, c.door.Service.Rules().DrainTimeout/2))
			s.mu.Lock()
			s.live.Say(&live.GoAway{Head: live.Head{Type: "goaway"}, Reason: "stopping", TimeLeftMS: min(farewell, c.door.Service.Rules().DrainTimeout/2).Milliseconds()})
			s.mu.Unlock()
		case <-enough:
			c.goodbye(ctx)
			return
		case <-ctx.Done():
			return
		}
	}
}

func (c *connection) dropped() bool {
	select {
	case <-c.closed.set:
		return true
	default:
		return false
	}
}

// goodbye closes the connection of a gateway that stops.
func (c *connection) goodbye(ctx context.Context) {
	select {
	case <-time.After(rand.N(spreadOver)):
	case <-ctx.Done():
	}
	c.shut(closeRestart, "the gateway is stopping")
}

func decode(raw []byte, to any) error { return json.Unmarshal(raw, to) }
