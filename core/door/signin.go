package door

import (
	"crypto/rand"
	"crypto/sha256"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/dragoman-mt/dragoman/core"
)

// A browser that opens the admin door's page can put a key into no header. So it shows an
// operator's key once, in the body of a form, and gets a cookie that stands for it: a random
// number, which tells nothing, is good at this gateway alone, and is gone with the process.

const (
	// visitLong is how long a browser stays signed in.
	visitLong = 12 * time.Hour
	// mostVisits bounds how many are signed in; the one that came first goes first.
	mostVisits = 64
)

// visits are the browsers that are signed in. The zero value is ready; it is safe for
// concurrent use.
type visits struct {
	mu  sync.Mutex
	all []visit // by when they came
}

// A visit is known by the sum of what its cookie holds.
type visit struct {
	token, key [sha256.Size]byte
	until      time.Time
}

func (v *visits) begin(key [sha256.Size]byte, now time.Time) (token string) {
	token = rand.Text()
	v.mu.Lock()
	defer v.mu.Unlock()
	v.tidy(now)
	if len(v.all) == mostVisits {
		v.all = append(v.all[:0], v.all[1:]...)
	}
	v.all = append(v.all, visit{sha256.Sum256([]byte(token)), key, now.Add(visitLong)})
	return token
}

// tidy forgets those whose time is over. The caller holds mu.
func (v *visits) tidy(now time.Time) {
	kept := v.all[:0]
	for _, one := range v.all {
		if now.Before(one.until) {
			kept = append(kept, one)
		}
	}
	v.all = kept
}

// keyOf returns the sum of the key that a visit was begun with.
func (v *visits) keyOf(token string, now time.Time) (key [sha256.Size]byte, ok bool) {
	sum := sha256.Sum256([]byte(token)) // how long a comparison of sums takes tells nothing of the token
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, one := range v.all {
		if one.token == sum && now.Before(one.until) {
			return one.key, true
		}
	}
	return key, false
}

func (v *visits) end(token string) {
	sum := sha256.Sum256([]byte(token))
	v.mu.Lock()
	defer v.mu.Unlock()
	for i, one := range v.all {
		if one.token == sum {
			v.all = append(v.all[:i], v.all[i+1:]...)
			return
		}
	}
}

// cookieName has the port, for cookies are those of a host: two gateways of one machine sign
// nobody in or out at each other.
func cookieName(call *http.Request) string {
	_, port, err := net.SplitHostPort(call.Host)
	if err != nil {
		port = "default"
	}
	return "dragoman-" + port
}

// SignIn returns the cookie by which the browser of call operates from now on, for it has
// shown an operator's key. The error is forbidden or unauthorized, as for a key in a header.
func (s *Service) SignIn(call *http.Request, shown string) (*http.Cookie, error) {
	rules := s.Rules()
	if !rules.has(Operate) {
		return nil, notOperating("none of server.keys has the role operate, so nobody can sign in")
	}
	if why := elsewhere(call); why != "" {
		return nil, notOperating(why)
	}
	k, err := rules.identify(call, shown)
	if err != nil {
		return nil, err
	}
	if !k.operates {
		return nil, &core.Error{Kind: core.Forbidden, Detail: translatesOnly}
	}
	return &http.Cookie{
		Name: cookieName(call), Value: s.visits.begin(k.sum, time.Now()), Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode,
		// Behind a proxy that speaks TLS with the browser, the cookie is for that alone.
		Secure: call.TLS != nil || call.Header.Get("X-Forwarded-Proto") == "https",
	}, nil
}

// SignOut ends what SignIn began, and returns the cookie that the browser is to forget.
func (s *Service) SignOut(call *http.Request) *http.Cookie {
	if c, err := call.Cookie(cookieName(call)); err == nil {
		s.visits.end(c.Value)
	}
	return &http.Cookie{Name: cookieName(call), Path: "/", MaxAge: -1, HttpOnly: true, SameSite: http.SameSiteStrictMode}
}

// SignedIn says whether a call comes from a browser that is signed in.
func (r *Rules) SignedIn(call *http.Request) bool { return r.visitor(call) != nil }

// visitor returns the operator's key that a call's browser was signed in with, nil for none.
// A key that is not in the file any more signs nobody in.
func (r *Rules) visitor(call *http.Request) *key {
	c, err := call.Cookie(cookieName(call))
	if err != nil {
		return nil
	}
	sum, ok := r.service.visits.keyOf(c.Value, time.Now())
	if !ok {
		return nil
	}
	for i := range r.keys {
		if r.keys[i].sum == sum && r.keys[i].operates {
			return &r.keys[i]
		}
	}
	return nil
}

// elsewhere says what shows that a call was made by a web page which is not this gateway's own
// page, at the same address; empty when nothing does. What a browser says of that in
// Sec-Fetch-Site no page can change, and it holds behind a proxy that calls the gateway by
// another name than its browsers do. Others say where a page is from, or nothing.
func elsewhere(call *http.Request) string {
	switch call.Header.Get("Sec-Fetch-Site") {
	case "none", "same-origin":
		return ""
	case "":
		return otherOrigin(call)
	}
	return fromElsewhere
}

const fromElsewhere = "the call comes from a web page of another origin"

// otherOrigin says whether a call comes from a page of another address than the one it is for.
func otherOrigin(call *http.Request) string {
	origin := call.Header.Get("Origin")
	if origin == "" {
		return ""
	}
	if u, err := url.Parse(origin); err != nil || u.Host == "" || !strings.EqualFold(u.Host, call.Host) {
		return fromElsewhere
	}
	return ""
}

// fromPage says whether a browser tells that call comes from a page. Every browser does, of calls
// that change something.
func fromPage(call *http.Request) bool {
	return call.Header.Get("Origin") != "" || call.Header.Get("Sec-Fetch-Site") != ""
}

const translatesOnly = "the key may translate and not operate; send one of server.keys with the role operate"

// byVisit says why a call with a cookie may not operate. A cookie comes along with whatever
// a browser is made to send, so the call must come from the gateway's own page.
func byVisit(call *http.Request) error {
	if why := elsewhere(call); why != "" {
		return notOperating(why)
	}
	if call.Method != http.MethodGet && call.Method != http.MethodHead && !fromPage(call) {
		return notOperating("the browser does not say which page makes the call")
	}
	return nil
}

// OwnPage says why what changes the gateway may not come from where a call does: from a web page
// that is not the gateway's own.
func OwnPage(call *http.Request) error {
	if why := elsewhere(call); why != "" {
		return &core.Error{Kind: core.Forbidden, Detail: "a web page may not change what the gateway does, unless it is the gateway's own; use that one, the command line, or curl"}
	}
	return nil
}
