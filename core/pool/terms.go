package pool

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"golang.org/x/net/http/httpproxy"

	"github.com/dragoman-mt/dragoman/core/files"
)

// terms are a configuration and what was made from it. They never change: a
// reload puts others in their place.
type terms struct {
	cfg Config
	*way
}

// A way is how connections are made. When another takes its place, those that
// were made in it carry no further call. Terms that differ in numbers alone
// share one.
type way struct {
	via       via
	proxy     func(*url.URL) (*url.URL, error)
	transport *http.Transport // of HTTP/1.1
	http2     *http.Transport // nil unless asked for
	// over ends with the way, and its dials with it. It does not end with the
	// pool: calls of direct mode that are dialling then go on.
	over context.Context
	end  context.CancelFunc
}

// A via is what a connection passes through and what it trusts. What was learned
// of a server holds as long as that stays.
type via struct {
	protocol    string
	caFile, pem string // the file and what it held
	proxy       string
	environment httpproxy.Config // read when there is no proxy
}

// A draft is a configuration that was found good, with all that can fail done.
type draft struct {
	cfg   Config
	via   via
	roots *x509.CertPool
	proxy func(*url.URL) (*url.URL, error)
}

func newDraft(cfg Config) (draft, error) {
	d := draft{cfg: cfg, via: via{protocol: cfg.Protocol, caFile: cfg.CAFile, proxy: cfg.Proxy}}
	err := cfg.check()
	if err == nil {
		d.roots, d.via.pem, err = cfg.roots()
	}
	if err == nil {
		d.proxy, d.via.environment, err = cfg.proxy()
	}
	if err != nil {
		return draft{}, named(err)
	}
	return d, nil
}

// named puts the section before each error that err joins; they begin with their
// keys.
func named(err error) error {
	all := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		all = joined.Unwrap()
	}
	var named []error
	for _, err := range all {
		named = append(named, fmt.Errorf("pool: %w", err))
	}
	return errors.Join(named...)
}

// newTerms makes terms of d that keep the way of former, which may be nil, if
// it is the same.
func (p *Pool) newTerms(d draft, former *terms) *terms {
	if former != nil && d.cfg.Mode == former.cfg.Mode && d.via == former.via {
		return &terms{d.cfg, former.way}
	}
	w := &way{via: d.via, proxy: d.proxy, transport: p.newTransport(d)}
	w.over, w.end = context.WithCancel(context.Background())
	if d.cfg.Protocol == HTTP2 {
		w.http2 = p.newTransport(d)
		w.http2.Protocols = protocols(true)
		w.http2.HTTP2 = &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingWait}
	}
	return &terms{d.cfg, w}
}

// newTransport begins without TLS sessions: resuming one takes over what was
// verified when it was opened, and that was under other authorities, or for what
// another proxy led to.
func (p *Pool) newTransport(d draft) *http.Transport {
	return &http.Transport{
		Proxy:             proxyOf,
		DialContext:       p.open,
		Protocols:         protocols(false),
		DisableKeepAlives: d.cfg.Mode == Direct,
		// Answers are a few hundred bytes: unpacking costs more than it saves.
		DisableCompression:     true,
		MaxResponseHeaderBytes: 64 << 10,
		TLSClientConfig: &tls.Config{
			MinVersion:         tls.VersionTLS12,
			RootCAs:            d.roots,
			ClientSessionCache: tls.NewLRUClientSessionCache(64),
		},
	}
}

// Plan prepares to take another configuration, a *Config, in place. It checks
// and reads everything that can fail, and changes nothing. Calls may run while
// apply does; none fails for it.
//
// Where numbers alone change (warm_connections, max_connections, idle_timeout,
// max_age, dial_timeout), all connections stay. A change of mode, protocol,
// ca_file or what it holds, or proxy closes the idle ones and keeps the others
// from further calls, so that every call that begins after apply has returned is
// carried on the new terms; so are those that wait. What was learned of a server
// is kept unless another may be there now: it is forgotten with the protocol, the
// authorities or the proxy.
func (p *Pool) Plan(config any) (apply func(), err error) {
	cfg, ok := config.(*Config)
	if !ok || cfg == nil {
		return nil, fmt.Errorf("pool: planned with a %T, want a %T", config, cfg)
	}
	d, err := newDraft(*cfg)
	if err != nil {
		return nil, err
	}
	return func() { p.adopt(d) }, nil
}

// adopt puts d in force for every origin. It closes nothing itself: that can
// take time, and is the keepers' work.
func (p *Pool) adopt(d draft) {
	p.adopting.Lock()
	defer p.adopting.Unlock()
	p.mu.Lock()
	former := p.terms
	p.terms = p.newTerms(d, former)
	now := p.terms
	origins := p.all()
	p.mu.Unlock()
	for _, o := range origins {
		o.adopt(now)
	}
	if now.way != former.way {
		former.end()
	}
}

// Outdated reports whether ca_file holds something else than when it was read,
// or cannot be read any more. Plan with the same configuration reads it again.
func (p *Pool) Outdated() bool {
	p.mu.RLock()
	v := p.via
	p.mu.RUnlock()
	if v.caFile == "" {
		return false
	}
	pem, err := files.Read(v.caFile, maxCAFile)
	return err != nil || !bytes.Equal(pem, []byte(v.pem))
}

// Holds says what a reload keeps: the open connections, or nothing.
func (p *Pool) Holds() string {
	open := 0
	for _, s := range p.Stats() {
		open += s.Open
	}
	switch open {
	case 0:
		return ""
	case 1:
		return "1 connection"
	}
	return fmt.Sprintf("%d connections", open)
}

// A route is the way of one origin: what each of its connections remembers of
// the terms that it was dialled on.
type route struct {
	terms     *terms
	transport *http.Transport // dials, and says which protocols are offered
	proxy     *url.URL        // nil for none
	err       error           // why no proxy could be chosen
}

func newRoute(t *terms, k key) route {
	r := route{terms: t, transport: t.transport}
	r.proxy, r.err = t.proxy(&url.URL{Scheme: k.scheme, Host: k.address})
	// A transport that offers HTTP/2 offers it to a proxy behind TLS as well,
	// and would not speak it there.
	if t.http2 != nil && k.scheme == "https" && (r.proxy == nil || r.proxy.Scheme != "https") {
		r.transport = t.http2
	}
	return r
}

// many reports whether HTTP/2 is offered.
func (r route) many() bool { return r.transport == r.terms.http2 }

// errMoved tells a call that the terms changed while it got its connection: it
// is to ask again.
var errMoved = errors.New("the terms changed")

// adopt puts t in force.
func (o *origin) adopt(t *terms) {
	o.mu.Lock()
	defer o.mu.Unlock()
	former := o.terms
	if t.way == former.way {
		o.terms = t
		o.nudge()
		return
	}
	for len(o.stack) > 0 {
		o.closing = append(o.closing, o.retire(len(o.stack)-1))
	}
	for len(o.shared) > 0 {
		o.leave(o.shared[0])
	}
	// What is still open is in use over HTTP/1.1 and stands in no list. It leaves
	// like the others, and is known by its terms.
	o.leaving += o.open
	o.open = 0
	o.stale += o.dialling
	o.dialling = 0
	for kind, c := range o.probes {
		if c != nil {
			o.limits[kind].after = o.limitAt(kind, time.Now())
			o.closing = append(o.closing, o.endProbe(kind))
		}
	}
	if t.via != former.via {
		o.limits, o.warned = [2]limit{}, false
	}
	o.route = newRoute(t, o.key)
	o.multi = o.many()
	// A server that could not be reached may be now.
	o.failures, o.early, o.lastErr = 0, 0, nil
	if t.cfg.Mode == Direct {
		for o.waiting.Len() > 0 {
			o.answer(o.waiting.Front().Value.(*waiter), grant{err: errMoved})
		}
	}
	o.nudge()
}

// current reports whether c may carry further calls as far as the terms go.
func (c *conn) current() bool { return c.terms.way == c.o.terms.way }
