// Package pool is the process's upstream connections: an http.RoundTripper that
// keeps handshakes off the path of a request.
//
// Connections are made by (*http.Transport).NewClientConn, which dials,
// handshakes, speaks proxies and HTTP and notices a peer that closes. What
// is here is the rest: for each origin a last-in-first-out stack of ready
// connections, a keeper that dials and retires ahead of need, and a waiting
// list. An origin is a scheme, host and port; proxy and authorities follow from
// it, for a Pool has one configuration at a time. Plan takes another in place.
//
// # Retirement
//
// A server closes connections that idle too long, and a request that meets that
// moment is lost. So the pool learns the server's limit from the idle closes it
// sees, one for connections that never carried a request and one for those that
// did, and replaces a connection at 80 % of it (72 to 80 %, each by its own
// draw), dialling the replacement first.
//
// A single close may have any reason, and a fault in the moment of reuse looks
// like one. Two whose idle times agree within a tenth are a limit, unless a
// connection that had idled as long served between them: the first gap in which
// a server closes several connections teaches. Two may agree for another reason,
// such as a server's restart. So a limit is given up when a connection serves
// that has idled for longer, and after one was learned one retired connection is
// kept aside, out of use, as a probe. While it lives the limit grows with its
// age; when the peer closes it the limit is certain.
//
// # Resending
//
// A request of which 0 bytes were written is sent again, and one of which the
// server said that it did nothing with it. So is, once and on a connection
// dialled since, one whose connection had been idle and turns out to be closed by
// the peer, before a byte of the answer and no later than a round trip takes: a
// server that hangs up later has begun to work on it. All need a body that
// GetBody gives again. Everything else fails.
//
// # HTTP/2
//
// A connection carries many calls, and one that is given up leaves it to the
// others. Calls go to the connection that was idle last, else to the one with
// the fewest calls of those with room, which is the server's to say. One that
// the server sends away (GOAWAY), that is due, or over which a call heard nothing
// until its deadline is given no more calls, no longer counts, and closes after
// its last. The Pool's counters count connections, however many calls they carry.
package pool

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/net/idna"
)

// A Pool sends requests over connections that it keeps. It is safe for
// concurrent use and must be closed.
type Pool struct {
	log  *zap.Logger
	dial func(ctx context.Context, network, address string) (net.Conn, error)

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup // keepers and dials

	adopting sync.Mutex // held while terms change, round the others

	mu      sync.RWMutex // never held together with an origin's
	*terms               // in force; every origin has them, or is about to
	closed  bool
	origins map[key]*origin
}

var _ http.RoundTripper = (*Pool)(nil)

// key is an origin in canonical form.
type key struct{ scheme, address string }

// New returns a pool with no connection; Warm and calls make them. It reads
// cfg.CAFile and, without cfg.Proxy, the environment. The error names the keys
// at fault.
func New(cfg Config, log *zap.Logger) (*Pool, error) {
	d, err := newDraft(cfg)
	if err != nil {
		return nil, err
	}
	if log == nil {
		log = zap.NewNop()
	}
	// A peer that vanished without a word is noticed within 25 s.
	dialer := &net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 10 * time.Second, Interval: 5 * time.Second, Count: 3}}
	p := &Pool{log: log, dial: dialer.DialContext, origins: map[key]*origin{}}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.terms = p.newTerms(d, nil)
	return p, nil
}

// pingAfter and pingWait bound how long a peer that vanished keeps a connection
// with calls on it: one that was silent for so long is asked for a sign of life,
// and given so long for it. TCP's own probes are for idle connections.
const pingAfter, pingWait = 15 * time.Second, 5 * time.Second

// RoundTrip sends req and returns its answer. The connection serves the next
// call once the answer's body has been read to its end; with HTTP/1.1 a body
// closed before that costs its connection, as does a context that ends before.
// An answer that is packed stays packed unless the caller unpacks it.
//
// The error is a *DialError when no connection could be made, else a
// *CallError. A call waits for a connection as long as its context lasts, but
// no longer than it takes to learn that none can be made. Reading a body ends
// with the context, and closing one takes closeWait at most, whatever the server
// does. Nobody asks a server to leave HTTP: of one that does (status 101) there is
// no body, and the connection is closed.
func (p *Pool) RoundTrip(req *http.Request) (*http.Response, error) {
	res, err := p.roundTrip(req)
	if err != nil && req.Body != nil {
		req.Body.Close()
	}
	return res, err
}

// maxTries bounds how often a request is sent when nothing of it is ever
// written, or the server refuses it, and maxAway when the server sends its
// connection away each time. A refusal does not count on a connection whose
// server had not said yet how many calls it takes: a call meets each connection
// in that state once at most.
const maxTries, maxAway = 3, 6

// atOnce is how soon a request must have met the end of its connection to be
// sent again, or else as soon as the connection was made: that takes a round
// trip at least, and on a busy machine both take longer.
const atOnce = 50 * time.Millisecond

func (p *Pool) roundTrip(req *http.Request) (*http.Response, error) {
	k, err := keyOf(req.URL)
	if err != nil {
		return nil, &CallError{Origin: k.name(), Err: err}
	}
	ctx, send := req.Context(), req
	var since uint64 // what a connection must be younger than; 0 for any
	again, resent := false, false
	for try := 1; ; try++ {
		t, err := p.take(ctx, k, since, again)
		if err != nil {
			return nil, err
		}
		c := t.c
		written, read := c.wire.written.Load(), c.wire.read.Load()
		var res *http.Response
		begun, at := true, time.Time{}
		if c.multi {
			at = time.Now()
			res, begun, err = c.exchange(send)
		} else {
			at = c.taken
			res, err = c.cc.RoundTrip(send)
		}
		if err == nil {
			res.Request = req
			if res.StatusCode == http.StatusSwitchingProtocols {
				// What net/http hands over as the body is the connection itself,
				// which a read keeps for as long as the peer likes, whatever
				// becomes of the context.
				res.Body.Close()
				res.Body = http.NoBody
				c.o.lost(c, false, false, false)
				return res, nil
			}
			if res.Body == http.NoBody || req.Method == http.MethodHead || c.multi && res.ContentLength == 0 {
				c.o.ended(c, true, false)
			} else {
				res.Body = newBody(res, c, ctx)
			}
			return res, nil
		}

		wrote, heard := begun && c.wire.written.Load() > written, c.wire.read.Load() > read
		failure := &CallError{Origin: c.o.name, Written: wrote, Err: err}
		spent, refused, peer := c.judge(ctx, at, err, wrote, heard)
		idled := t.idle && (!wrote || peer && time.Since(at) <= max(c.took, atOnce))
		most := maxTries
		if refused && spent {
			most = maxAway
		} else if refused {
			c.o.refused(c)
			if !t.told {
				try-- // it was one too many, and neither could know
			}
		}
		again = false
		switch {
		case ctx.Err() != nil || try >= most:
		case !spent:
			// The connection is as it was. The request was at fault, unless the
			// server says that it did nothing with it.
			again = refused
		case refused || !wrote:
			again = true
			if try > 1 {
				since = t.seq
			}
		case idled && !resent:
			again, resent = true, true
			since = t.seq
		}
		if again {
			send, again = rewound(req)
		}
		gaveUp := ctx.Err() != nil
		if spent {
			c.o.lost(c, gaveUp, !gaveUp && idled, again)
		} else {
			c.o.kept(c, wrote, gaveUp, again)
		}
		if !again {
			return nil, failure
		}
	}
}

// judge says what err, of a call that got no answer, means: that its connection
// can carry no more, that the server did nothing with the request, and that it
// hung up before it answered. at is when the call began.
func (c *conn) judge(ctx context.Context, at time.Time, err error, wrote, heard bool) (spent, refused, peer bool) {
	if !c.multi {
		return c.spent(), false, errorPeerClosed(err, heard)
	}
	refused, away := errorRefused(err)
	unable := !wrote && c.cc.Available() == 0
	dead := !heard && late(ctx) && time.Since(at) >= silence
	return away || unable || dead || c.spent(), refused, errorPeerLeft(err)
}

// late reports whether ctx ended for a deadline: its own, or one that its owner
// cancelled it for, such as that of many callers together.
func late(ctx context.Context) bool {
	return errors.Is(ctx.Err(), context.DeadlineExceeded) || errors.Is(context.Cause(ctx), context.DeadlineExceeded)
}

// rewound returns req with its body at the beginning, and whether it can be
// had.
func rewound(req *http.Request) (*http.Request, bool) {
	if req.Body == nil || req.Body == http.NoBody {
		return req, true
	}
	if req.GetBody == nil {
		return nil, false
	}
	b, err := req.GetBody()
	if err != nil {
		return nil, false
	}
	r := *req
	r.Body = b
	return &r, true
}

// take returns a connection that the caller owns.
func (p *Pool) take(ctx context.Context, k key, since uint64, again bool) (call, error) {
	for {
		if ctx.Err() != nil {
			return call{}, &CallError{Origin: k.name(), Err: context.Cause(ctx)}
		}
		o, err := p.origin(k)
		if err != nil {
			return call{}, err
		}
		t, err := o.take(ctx, since, again)
		switch {
		case err == errGone:
			p.forget(o)
		case err == errMoved:
			again = true
		case err != nil:
			return call{}, err
		case t.c.cc.Err() != nil:
			o.lost(t.c, false, t.idle, false)
			again = true
		default:
			return t, nil
		}
	}
}

// Warm keeps connections ready for the scheme, host and port of origin, a URL,
// from now until release is called. It returns at once. In direct mode there is
// nothing to keep, until a reload changes that.
func (p *Pool) Warm(origin string) (release func(), err error) {
	u, err := url.Parse(origin)
	if err != nil {
		return nil, fmt.Errorf("pool: %w", err)
	}
	k, err := keyOf(u)
	if err != nil {
		return nil, fmt.Errorf("pool: %w", err)
	}
	for {
		o, err := p.origin(k)
		if err != nil {
			return nil, err
		}
		if o.hold(1) {
			return sync.OnceFunc(func() { o.hold(-1) }), nil
		}
		p.forget(o)
	}
}

// Stats returns what there is and what happened, by origin in order of name. An
// origin that nobody keeps warm is forgotten, with its counters, some minutes
// after its last connection.
func (p *Pool) Stats() []OriginStats {
	p.mu.RLock()
	origins := p.all()
	p.mu.RUnlock()
	stats := make([]OriginStats, len(origins))
	for i, o := range origins {
		stats[i] = o.stats()
	}
	sort.Slice(stats, func(i, j int) bool { return stats[i].Origin < stats[j].Origin })
	return stats
}

// Close closes the connections that nobody uses and waits for the pool's
// goroutines. Calls that have a connection end by themselves and close it then;
// calls that wait for one, and all later ones, fail with ErrClosed. More calls
// of Close do nothing.
func (p *Pool) Close() error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.cancel()
	p.wg.Wait()
	return nil
}

// origin returns the origin of k, made when there is none.
func (p *Pool) origin(k key) (*origin, error) {
	p.mu.RLock()
	o, shut := p.origins[k], p.closed
	p.mu.RUnlock()
	if o != nil && !shut {
		return o, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, &CallError{Origin: k.name(), Err: ErrClosed}
	}
	if there := p.origins[k]; there != nil {
		return there, nil
	}
	o = newOrigin(p, k)
	p.origins[k] = o
	p.wg.Go(o.keep)
	return o, nil
}

// all returns the origins there are; p.mu is held.
func (p *Pool) all() []*origin { return slices.Collect(maps.Values(p.origins)) }

func (p *Pool) forget(o *origin) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.origins[o.key] == o {
		delete(p.origins, o.key)
	}
}

// keyOf returns the origin of u: lower case, in ASCII, with a port.
func keyOf(u *url.URL) (key, error) {
	if u == nil {
		return key{}, fmt.Errorf("a request without a URL")
	}
	k := key{u.Scheme, u.Host}
	if k.scheme != "https" && k.scheme != "http" {
		return k, fmt.Errorf("%q is not an upstream: it must start with https:// or http://", u.Redacted())
	}
	host, port := u.Hostname(), u.Port()
	if host == "" {
		return k, fmt.Errorf("%q names no host", u.Redacted())
	}
	ascii, lower := plain(k.address)
	if ascii && lower && port != "" {
		return k, nil
	}
	if port == "" {
		port = defaultPort(k.scheme)
	}
	host = strings.ToLower(host)
	if !ascii {
		var err error
		if host, err = idna.Lookup.ToASCII(host); err != nil {
			return k, fmt.Errorf("%q is not the name of a host: %w", u.Hostname(), err)
		}
	}
	k.address = net.JoinHostPort(host, port)
	return k, nil
}

func plain(host string) (ascii, lower bool) {
	ascii, lower = true, true
	for i := 0; i < len(host); i++ {
		ascii = ascii && host[i] < 0x80
		lower = lower && (host[i] < 'A' || host[i] > 'Z')
	}
	return ascii, lower
}

func defaultPort(scheme string) string {
	if scheme == "https" {
		return "443"
	}
	return "80"
}

// name is the origin as people write it.
func (k key) name() string {
	return k.scheme + "://" + strings.TrimSuffix(k.address, ":"+defaultPort(k.scheme))
}
