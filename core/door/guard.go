package door

import (
	"fmt"
	"net"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/trace"
)

// A guard stands before every door: it gives the call its id, turns away pages
// of other origins and names that a page may have bound to this address, and
// keeps a panic from ending more than its own call.
type guard struct {
	next     http.Handler
	doors    Doors // behind next, to which what they say of themselves applies
	service  *Service
	private  bool          // the listener is on loopback
	deadline time.Duration // for which its connections' bounds were made
	journal  *Journal
	metrics  *Metrics
}

func (g *guard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	begin, id := time.Now(), RequestID(w, r)
	r = tidied(r)
	own := g.doors.of(r)
	defer func() {
		if p := recover(); p != nil {
			if p == http.ErrAbortHandler {
				panic(p)
			}
			err := &core.Error{Kind: core.Internal, Stage: "door", Cause: fmt.Errorf("panic: %v\n%s", p, debug.Stack())}
			g.journal.Failed(id, err)
			own.refuse(w, r, err)
		}
	}()
	rules := g.service.Rules()
	if deadline := own.deadline(rules); deadline > g.deadline {
		// A running http.Server keeps its bounds. The one for the answer was
		// made for a shorter deadline, so this call gets its own; made for a
		// longer one, it only lets a slow client go on a little longer.
		_ = http.NewResponseController(w).SetWriteDeadline(begin.Add(writeTimeout(deadline)))
	}
	if err := g.refuses(rules, own.pages(), w, r); err != nil {
		e, took := core.AsError(err, "door"), time.Since(begin)
		span := g.service.tracer.Refused(trace.Call{Door: "guard", ID: id, Method: r.Method, Parent: parentOf(traced(g.service.tracer, r).Context()), Err: e, Begin: begin, Took: took})
		g.journal.Failed(id, err, spanFields(span)...)
		g.metrics.count("guard", e.Kind, took, span)
		own.refuse(w, r, err)
		return
	}
	if preflight(r) {
		h := w.Header()
		h.Set("Access-Control-Allow-Methods", "GET, POST")
		h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, X-Request-Id")
		if own.pages() != Listed {
			h.Set("Access-Control-Allow-Methods", "GET, POST, PUT, PATCH, DELETE")
			if asked := r.Header.Get("Access-Control-Request-Headers"); asked != "" {
				// Clients of other services bring headers of their own, and none of them
				// says more than the call itself.
				h.Set("Access-Control-Allow-Headers", asked)
			}
		}
		if r.Header.Get("Access-Control-Request-Private-Network") != "" {
			// Browsers may ask before a page of the internet calls what is at home (Private
			// Network Access); the page is one that may call.
			h.Set("Access-Control-Allow-Private-Network", "true")
		}
		h.Set("Access-Control-Max-Age", "600")
		w.WriteHeader(http.StatusNoContent)
		return
	}
	if r.Method == http.MethodOptions && r.RequestURI == "*" {
		// It asks what the server as a whole can do (RFC 9110 section 9.3.7), and
		// says nothing of a door.
		w.Header().Set("Content-Length", "0")
		return
	}
	g.next.ServeHTTP(w, traced(g.service.tracer, r))
}

// tidied returns r with an address that has each slash once, and none at its end. Clients
// put an address together from what their user typed and a path of their own, and whether
// one ends in a slash or the other begins with one is no question for a user.
func tidied(r *http.Request) *http.Request {
	path := r.URL.Path
	if !strings.Contains(path, "//") && (!strings.HasSuffix(path, "/") || path == "/") {
		return r
	}
	path = "/" + strings.Join(strings.FieldsFunc(path, func(c rune) bool { return c == '/' }), "/")
	tidy, to := *r, *r.URL
	to.Path, to.RawPath = path, ""
	tidy.URL = &to
	return &tidy
}

// preflight says whether a browser asks what a page may send (Fetch standard,
// section 3.2.2).
func preflight(r *http.Request) bool {
	return r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != ""
}

// refuses returns why r is turned away, or sets what a browser needs to let the
// page read the answer (the CORS protocol, Fetch standard section 3.2).
func (g *guard) refuses(rules *Rules, pages Pages, w http.ResponseWriter, r *http.Request) error {
	if g.private && !rules.hostKnown(r.Host) {
		return &core.Error{Kind: core.Forbidden, Detail: fmt.Sprintf("this gateway serves its own machine alone and does not go by the name %.80q; use localhost, or add the page's origin to server.origins", r.Host)}
	}
	h := w.Header()
	if pages == Every {
		h.Set("Access-Control-Allow-Origin", "*")
		h.Set("Access-Control-Expose-Headers", "Authorization, X-Request-Id, Retry-After")
		return nil
	}
	origin := r.Header.Get("Origin")
	if origin == "" {
		if rules.check(r) != nil && !(pages == Keyed && rules.keyed(r)) {
			return crossOrigin()
		}
		return nil
	}
	h.Add("Vary", "Origin")
	trusted := rules.trusts(origin) || pages == Keyed && rules.keyed(r)
	if !trusted && (rules.check(r) != nil || r.Method == http.MethodOptions) {
		return crossOrigin()
	}
	if trusted {
		h.Set("Access-Control-Allow-Origin", origin)
		h.Set("Access-Control-Expose-Headers", "X-Request-Id, Retry-After")
		if pages == Keyed {
			h.Set("Access-Control-Expose-Headers", "*")
		}
	}
	return nil
}

// trusts says whether a page of that origin may call.
func (r *Rules) trusts(origin string) bool {
	if slices.Contains(r.Origins, origin) {
		return true
	}
	scheme, _, _ := strings.Cut(origin, "://")
	return shells[scheme] && slices.Contains(r.Origins, scheme+"://*")
}

// keyed says whether a call shows a key that translates, in a header. A browser asks
// whether a page may send one before it lets it.
func (r *Rules) keyed(call *http.Request) bool {
	if !r.has(Translate) {
		return false
	}
	if preflight(call) {
		return true
	}
	for _, shown := range HeaderKeys(call) {
		if k := r.known(shown); k != nil && !k.operates {
			return true
		}
	}
	return false
}

// check refuses what a page of another origin asks for, unless it is a GET whose
// answer its browser keeps from it. A GET that takes the connection over, as a
// WebSocket does, is none of those: browsers open one for every page, and leave it
// to the server to look at the origin (RFC 6455 section 10.2).
func (r *Rules) check(call *http.Request) error {
	if call.Header.Get("Upgrade") == "" {
		return r.cross.Check(call)
	}
	asked := *call
	asked.Method = http.MethodPost
	return r.cross.Check(&asked)
}

func crossOrigin() error {
	return &core.Error{Kind: core.Forbidden, Detail: "the call comes from a web page of another origin; to allow the page, add its origin to server.origins"}
}

// hostKnown keeps a page from reaching a loopback listener under a name of its
// own that it has bound to 127.0.0.1 (DNS rebinding): the browser would take
// the answer for the page's own. A call without a name, as HTTP/1.0 allows,
// comes from no browser.
func (r *Rules) hostKnown(host string) bool {
	if host == "" {
		return true
	}
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	if loopbackHost(host) {
		return true
	}
	host = strings.Trim(strings.ToLower(host), "[]")
	return slices.Contains(r.hosts, host)
}
