package door

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dragoman-mt/dragoman/core"
)

// operatorsRules are those of a listener beyond loopback with both kinds of keys.
func operatorsService() *Service {
	c := Defaults()
	c.Listen, c.Admin = "127.0.0.1:8080", "0.0.0.0:9090"
	c.Keys = []Key{{Key: "translator"}, {Name: "ops", Key: "operator", Role: Operate}}
	return New(c, nil)
}

// pageCall is a call that the gateway's own page makes.
func pageCall(method string, cookie *http.Cookie, header ...string) *http.Request {
	r := httptest.NewRequest(method, "http://gateway.example:9090/admin/reload", nil)
	r.Header.Set("Origin", "http://gateway.example:9090")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	for i := 0; i < len(header); i += 2 {
		r.Header.Del(header[i])
		if header[i+1] != "" {
			r.Header.Set(header[i], header[i+1])
		}
	}
	if cookie != nil {
		r.AddCookie(cookie)
	}
	return r
}

// TestABrowserThatHasShownAnOperatorsKeyOperatesFromTheGatewaysOwnPageOnly: the cookie comes along with
// whatever a browser is made to send.
func TestABrowserThatHasShownAnOperatorsKeyOperatesFromTheGatewaysOwnPageOnly(t *testing.T) {
	s := operatorsService()
	for key, want := range map[string]core.ErrorKind{"": core.Unauthorized, "operato": core.Unauthorized, "translator": core.Forbidden} {
		if _, err := s.SignIn(pageCall("POST", nil), key); core.KindOf(err) != want {
			t.Errorf("%q: %v", key, err)
		}
	}
	if _, err := s.SignIn(pageCall("POST", nil, "Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site"), "operator"); core.KindOf(err) != core.Forbidden {
		t.Errorf("another page signs in: %v", err)
	}
	cookie, err := s.SignIn(pageCall("POST", nil), "operator")
	if err != nil {
		t.Fatal(err)
	}
	if !cookie.HttpOnly || cookie.SameSite != http.SameSiteStrictMode || len(cookie.Value) < 26 || strings.Contains(cookie.Value, "operator") {
		t.Errorf("%+v", cookie)
	}
	forged := *cookie
	forged.Value = strings.Repeat("A", len(cookie.Value))
	for name, c := range map[string]struct {
		call *http.Request
		kind core.ErrorKind
	}{
		"its own page":                       {pageCall("POST", cookie), ""},
		"its own page, to look":              {pageCall("GET", cookie, "Origin", ""), ""},
		"an old browser's page":              {pageCall("POST", cookie, "Sec-Fetch-Site", ""), ""},
		"an address that is typed":           {pageCall("GET", cookie, "Origin", "", "Sec-Fetch-Site", "none"), ""},
		"its own page behind a proxy":        {pageCall("POST", cookie, "Origin", "https://ops.example"), ""},
		"no cookie":                          {pageCall("POST", nil), core.Unauthorized},
		"a forged cookie":                    {pageCall("POST", &forged), core.Unauthorized},
		"another page":                       {pageCall("POST", cookie, "Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site"), core.Forbidden},
		"another page of an old browser":     {pageCall("POST", cookie, "Origin", "https://evil.example", "Sec-Fetch-Site", ""), core.Forbidden},
		"another port":                       {pageCall("POST", cookie, "Origin", "http://gateway.example:8080", "Sec-Fetch-Site", "same-site"), core.Forbidden},
		"another page that looks":            {pageCall("GET", cookie, "Origin", "", "Sec-Fetch-Site", "cross-site"), core.Forbidden},
		"a page without an origin":           {pageCall("POST", cookie, "Origin", "null", "Sec-Fetch-Site", ""), core.Forbidden},
		"a browser that tells nothing":       {pageCall("POST", cookie, "Origin", "", "Sec-Fetch-Site", ""), core.Forbidden},
		"the key in a header, as ever":       {pageCall("POST", nil, "Authorization", "Bearer operator"), ""},
		"a wrong key in spite of the cookie": {pageCall("POST", cookie, "Authorization", "Bearer wrong"), core.Unauthorized},
	} {
		if err := s.Rules().mayOperate(c.call, true); core.KindOf(err) != c.kind {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A cookie translates nothing, and a key that has gone from the file takes it along.
	if _, err := s.Rules().Client(pageCall("POST", cookie), "", "native"); core.KindOf(err) != core.Unauthorized {
		t.Errorf("it translates: %v", err)
	}
	other := s.Rules().Config
	other.Keys = []Key{{Key: "translator"}, {Name: "new", Key: "another", Role: Operate}}
	s.rules.Store(s.newRules(other))
	if err := s.Rules().mayOperate(pageCall("POST", cookie), true); core.KindOf(err) != core.Unauthorized {
		t.Errorf("its key is gone: %v", err)
	}
}

func TestSignedInEndsWithItsTimeOrWithSigningOutAndIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := operatorsService()
		in := func() *http.Cookie {
			cookie, err := s.SignIn(pageCall("POST", nil), "operator")
			if err != nil {
				t.Fatal(err)
			}
			return cookie
		}
		is := func(c *http.Cookie) bool { return s.Rules().SignedIn(pageCall("GET", c)) }
		first, second := in(), in()
		s.SignOut(pageCall("POST", first))
		if is(first) || !is(second) {
			t.Error("signing out is for one browser")
		}
		time.Sleep(visitLong - time.Second)
		if !is(second) {
			t.Error("it ends too early")
		}
		time.Sleep(time.Second)
		if is(second) {
			t.Error("it never ends")
		}
		third := in()
		for range 10 * mostVisits {
			in()
		}
		if is(third) || len(s.visits.all) != mostVisits {
			t.Errorf("%d are signed in", len(s.visits.all))
		}
	})
}
