package trace

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/dragoman-mt/dragoman/core/files"
)

// mostBytes is what the spans that wait may hold together.
const mostBytes = 2 << 20

// maxCA is the longest file of authorities that is read, in bytes.
const maxCA = 1 << 20

// An exporter sends spans to one collector. Whoever adds one never waits: what does not fit
// is dropped and counted.
type exporter struct {
	t  *Tracer
	s  settings
	to *client

	mu      sync.Mutex
	waiting []*parcel // the last one is not full
	count   int       // of spans
	bytes   int
	spare   []byte // of one that was sent: room for the next
	closed  bool

	full  chan struct{} // told when there is a batch
	stop  chan struct{}
	abort context.CancelFunc
	ended chan struct{}
}

func newExporter(t *Tracer, s settings, to *client) *exporter {
	ctx, abort := context.WithCancel(context.Background())
	e := &exporter{t: t, s: s, to: to, full: make(chan struct{}, 1), stop: make(chan struct{}), abort: abort, ended: make(chan struct{})}
	go e.run(ctx)
	return e
}

func (e *exporter) add(s span) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed || e.count >= e.s.most || e.bytes+len(s) > mostBytes {
		e.t.dropped.Add(1)
		return
	}
	if n := len(e.waiting); n == 0 || e.waiting[n-1].spans >= e.s.batch {
		e.waiting = append(e.waiting, open(e.s.resource, e.spare))
		e.spare = nil
	}
	p := e.waiting[len(e.waiting)-1]
	e.bytes -= p.size()
	p.add(s)
	e.bytes += p.size()
	e.count++
	if e.count >= e.s.batch {
		select {
		case e.full <- struct{}{}:
		default:
		}
	}
}

// take takes a batch out of what waits, also one that is not full if all is wanted; nil when
// there is none.
func (e *exporter) take(all bool) *parcel {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.waiting) == 0 || !all && e.waiting[0].spans < e.s.batch {
		return nil
	}
	p := e.waiting[0]
	e.waiting[0] = nil
	if e.waiting = e.waiting[1:]; len(e.waiting) == 0 {
		e.waiting = nil
	}
	e.count -= p.spans
	e.bytes -= p.size()
	return p
}

// close sends what waits, for no longer than patience.
func (e *exporter) close(patience time.Duration) {
	e.mu.Lock()
	e.closed = true
	e.mu.Unlock()
	close(e.stop)
	timer := time.AfterFunc(patience, e.abort)
	defer timer.Stop()
	<-e.ended
}

func (e *exporter) run(ctx context.Context) {
	defer close(e.ended)
	defer e.to.CloseIdleConnections()
	defer e.abort()
	every := time.NewTicker(e.s.delay)
	defer every.Stop()
	lost := int64(0) // since it was told that spans are lost
	for stopping := false; ; {
		all := true
		select {
		case <-e.stop:
			stopping = true
		case <-every.C:
		case <-e.full:
			all = false // the rest is to become a batch as well
		}
		for {
			p := e.take(all)
			if p == nil {
				break
			}
			body := &loan{bytes: p.close()}
			refused, err := e.deliver(ctx, body)
			n := int64(p.spans)
			if err != nil {
				refused = n
			}
			refused = min(refused, n)
			e.t.sent.Add(n - refused)
			e.t.dropped.Add(refused)
			switch {
			case refused > 0 && lost == 0:
				if err == nil {
					err = errors.New("it does not take all of them")
				}
				e.t.log.Warn("the collector does not get all spans; requests go on, and this is told again when it has", zap.String("endpoint", e.place()), zap.Error(err))
			case refused == 0 && lost > 0:
				e.t.log.Info("the collector gets spans again", zap.String("endpoint", e.place()), zap.Int64("lost", lost))
				lost = 0
			}
			lost += refused
			if body.back() {
				e.mu.Lock()
				e.spare = p.bytes
				e.mu.Unlock()
			}
			if err != nil && stopping {
				e.t.dropped.Add(int64(e.left()))
				return // it is given up
			}
		}
		if stopping {
			return
		}
	}
}

func (e *exporter) left() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.count
}

// place is the endpoint as a log may have it.
func (e *exporter) place() string {
	u, err := url.Parse(e.s.url)
	if err != nil {
		return ""
	}
	return u.Scheme + "://" + u.Host + u.Path
}

// A later is a failure that passes, if one asks again after wait.
type later struct {
	error
	wait time.Duration
}

// deliver posts body, again while what it meets passes, for as long as a batch may take
// (opentelemetry.io/docs/specs/otlp, "Retryable Response Codes").
func (e *exporter) deliver(ctx context.Context, body *loan) (refused int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, e.s.timeout)
	defer cancel()
	for pause := time.Second; ; pause *= 2 {
		refused, err = e.to.post(ctx, body)
		passes, ok := errors.AsType[later](err)
		if !ok {
			return refused, err
		}
		timer := time.NewTimer(max(pause, passes.wait))
		select {
		case <-timer.C:
		case <-e.stop: // there is no time to wait any more
			timer.Stop()
			return refused, err
		case <-ctx.Done():
			timer.Stop()
			return refused, err
		}
	}
}

// A loan is a body whose room is used again once nobody reads it: a transport may do so for a
// while after it has brought the answer.
type loan struct {
	bytes []byte
	out   atomic.Int64 // readers that were not closed
}

// back says whether all who were lent it have given it back.
func (l *loan) back() bool { return l.out.Load() == 0 }

func (l *loan) lend() (io.ReadCloser, error) {
	l.out.Add(1)
	return &lent{of: l, rest: l.bytes}, nil
}

// A lent body is given back by Close, after which nothing is read of it: both may be called
// at the same time.
type lent struct {
	mu   sync.Mutex
	of   *loan // nil once it is closed
	rest []byte
}

func (l *lent) Read(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p, l.rest)
	l.rest = l.rest[n:]
	return n, nil
}

func (l *lent) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.of != nil {
		l.of.out.Add(-1)
		l.of, l.rest = nil, nil
	}
	return nil
}

// A client posts to one collector.
type client struct {
	http.Client
	s settings
}

// newClient returns what posts to the collector of s.
func newClient(s settings) (*client, error) {
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, MaxIdleConns: 1, IdleConnTimeout: time.Minute, TLSHandshakeTimeout: 5 * time.Second, ForceAttemptHTTP2: true,
	}
	if s.ca != "" {
		pem, err := files.Read(s.ca, maxCA)
		if err != nil {
			return nil, fmt.Errorf("trace.endpoint: OTEL_EXPORTER_OTLP_CERTIFICATE: %w", err)
		}
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("trace.endpoint: OTEL_EXPORTER_OTLP_CERTIFICATE: %s holds no certificate in PEM", s.ca)
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: pool}
	}
	c := &client{s: s}
	c.Transport = transport
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse } // headers are for this address
	return c, nil
}

// post sends one body, and returns how many spans of it were not taken.
func (c *client) post(ctx context.Context, body *loan) (refused int64, err error) {
	encoding := ""
	if c.s.gzip {
		var packed bytes.Buffer
		w := gzip.NewWriter(&packed)
		w.Write(body.bytes) // to memory
		w.Close()
		body, encoding = &loan{bytes: packed.Bytes()}, "gzip"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.s.url, nil)
	if err != nil {
		return 0, err
	}
	req.GetBody = body.lend
	req.Body, _ = body.lend()
	req.ContentLength = int64(len(body.bytes))
	req.Header = c.s.header.Clone()
	req.Header.Set("Content-Type", "application/x-protobuf")
	req.Header.Set("User-Agent", "dragoman")
	if encoding != "" {
		req.Header.Set("Content-Encoding", encoding)
	}
	res, err := c.Do(req)
	if err != nil {
		if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err // the address is told beside it, without what it may hold
		}
		return 0, later{err, 0}
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	if res.StatusCode/100 == 2 {
		return rejected(answer), err
	}
	said := fmt.Errorf("it answers %d %s", res.StatusCode, http.StatusText(res.StatusCode))
	switch res.StatusCode {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		wait, _ := strconv.Atoi(res.Header.Get("Retry-After"))
		return 0, later{said, time.Duration(min(max(wait, 0), 60)) * time.Second}
	}
	return 0, said
}
