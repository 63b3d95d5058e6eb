package door

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/dragoman-mt/dragoman/core"
)

// TestADialectAnswersWhatIsTurnedAwayInItsOwnWords holds for what the guard refuses and
// for a panic.
func TestADialectAnswersWhatIsTurnedAwayInItsOwnWords(t *testing.T) {
	c := Defaults()
	c.Listen = "127.0.0.1:0"
	doors := Doors{
		{
			Name: "foreign", Takes: func(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, "/foreign") },
			Serve: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { panic("no text of a client") }),
			Refuse: func(w http.ResponseWriter, r *http.Request, err error) {
				w.WriteHeader(AsForeign(err).Status)
				io.WriteString(w, "foreign: "+string(core.KindOf(err)))
			},
		},
		{Name: "native", Serve: text("native")},
	}
	s := NewServer(Options{Config: c, Service: New(c, nil), Doors: doors, Admin: text(""), Metrics: NewMetrics(prometheus.NewRegistry()), Log: zap.NewNop()})
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	r := &running{Server: s, t: t}
	for _, call := range []struct {
		path, header, value, want string
		status                    int
	}{
		{"/foreign", "Host", "evil.example", "foreign: forbidden", 403},
		{"/foreign", "", "", "foreign: internal", 500},
		{"/other", "", "", "native", 200},
		{"/other", "Host", "evil.example", `"kind":"forbidden"`, 403},
	} {
		var header []string
		if call.header != "" {
			header = []string{call.header, call.value}
		}
		if status, body := r.get(s.Addr(), call.path, header...); status != call.status || !strings.Contains(body, call.want) {
			t.Errorf("%s %s: %d %s, want %d with %q", call.path, call.value, status, body, call.status, call.want)
		}
	}
	select {
	case <-s.o.Service.Stopping():
		t.Error("it says that it stops")
	default:
	}
	stop()
	<-s.o.Service.Stopping()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestPagesCallAsTheirDoorAllows is the table of README.md.
func TestPagesCallAsTheirDoorAllows(t *testing.T) {
	const listed, extension, other = "https://app.example.com", "chrome-extension://abcdefghijklmnop", "https://other.example"
	for name, call := range map[string]struct {
		pages   Pages
		keys    []Key
		origins []string
		origin  string
		key     string
		ask     bool // a preflight
		allowed string
	}{
		"a listed page":                         {Listed, nil, []string{listed}, listed, "", false, listed},
		"another page":                          {Listed, nil, []string{listed}, other, "", false, "403"},
		"another page with a key":               {Listed, []Key{{Key: "k"}}, nil, other, "k", false, "403"},
		"an extension that is listed":           {Listed, nil, []string{extension}, extension, "", false, extension},
		"any extension":                         {Listed, nil, []string{"chrome-extension://*"}, extension, "", false, extension},
		"an extension of another browser":       {Listed, nil, []string{"moz-extension://*"}, extension, "", false, "403"},
		"a desktop program":                     {Listed, nil, []string{"tauri://localhost"}, "tauri://localhost", "", false, "tauri://localhost"},
		"keyed: a page with a key":              {Keyed, []Key{{Key: "k"}}, nil, other, "k", false, other},
		"keyed: its preflight":                  {Keyed, []Key{{Key: "k"}}, nil, other, "", true, other},
		"keyed: a wrong key":                    {Keyed, []Key{{Key: "k"}}, nil, other, "x", false, "403"},
		"keyed: an operator's key":              {Keyed, []Key{{Key: "k"}, {Key: "o", Role: Operate, Name: "o"}}, nil, other, "o", false, "403"},
		"keyed: no keys, so none can be shown":  {Keyed, nil, nil, other, "k", false, "403"},
		"keyed: no keys, and no preflight pass": {Keyed, nil, nil, other, "", true, "403"},
		"every page":                            {Every, nil, nil, other, "", false, "*"},
		"every page's preflight":                {Every, nil, nil, other, "", true, "*"},
	} {
		t.Run(name, func(t *testing.T) {
			c := Defaults()
			c.Keys, c.Origins = call.keys, call.origins
			if err := c.Check(); err != nil {
				t.Fatal(err)
			}
			g := &guard{
				next: text("served"), doors: Doors{{Pages: call.pages, Serve: text("")}}, service: New(c, nil), private: true, deadline: time.Hour,
				journal: NewJournal(zap.NewNop()), metrics: NewMetrics(prometheus.NewRegistry()),
			}
			r := httptest.NewRequest(http.MethodPost, "http://localhost/", nil)
			if call.ask {
				r.Method = http.MethodOptions
				r.Header.Set("Access-Control-Request-Method", "POST")
				r.Header.Set("Access-Control-Request-Headers", "x-stainless-os, api-key")
				r.Header.Set("Access-Control-Request-Private-Network", "true")
			}
			r.Header.Set("Origin", call.origin)
			if call.key != "" {
				r.Header.Set("Api-Key", call.key)
			}
			w := httptest.NewRecorder()
			g.ServeHTTP(w, r)
			if got := w.Header().Get("Access-Control-Allow-Private-Network"); (got == "true") != (call.ask && call.allowed != "403") {
				t.Errorf("calls of what is at home are allowed: %q", got)
			}
			if call.allowed == "403" {
				if w.Code != 403 || w.Header().Get("Access-Control-Allow-Origin") != "" {
					t.Errorf("%d, allowed for %q", w.Code, w.Header().Get("Access-Control-Allow-Origin"))
				}
				return
			}
			if got := w.Header().Get("Access-Control-Allow-Origin"); w.Code >= 300 || got != call.allowed {
				t.Errorf("%d, allowed for %q, want %q", w.Code, got, call.allowed)
			}
			if call.ask && w.Header().Get("Access-Control-Allow-Headers") != "x-stainless-os, api-key" {
				t.Errorf("the page may send %q", w.Header().Get("Access-Control-Allow-Headers"))
			}
		})
	}
}

// TestSlashesOfAnAddressAreNoQuestionForAUser: a door sees each once, and the admin door is
// as closed as it is.
func TestSlashesOfAnAddressAreNoQuestionForAUser(t *testing.T) {
	seen := ""
	g := &guard{
		next:    http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen = r.URL.Path + "?" + r.URL.RawQuery }),
		service: New(Defaults(), nil), private: true, deadline: time.Hour, journal: NewJournal(zap.NewNop()), metrics: NewMetrics(prometheus.NewRegistry()),
	}
	for path, want := range map[string]string{
		"/v1/models": "/v1/models?", "//v1/models": "/v1/models?", "/v1//models/?a=//": "/v1/models?a=//", "/": "/?", "///": "/?",
		"/v1/models//translate%2F/es/": "/v1/models/translate/es?", "//admin//status/": "/admin/status?", "/a%2F%2Fb": "/a/b?",
	} {
		r := httptest.NewRequest(http.MethodGet, "http://localhost"+path, nil)
		g.ServeHTTP(httptest.NewRecorder(), r)
		if seen != want {
			t.Errorf("%s is served as %s, want %s", path, seen, want)
		}
	}
}

type translator func(context.Context, *core.Request) (*core.Result, error)

func (t translator) Translate(ctx context.Context, req *core.Request) (*core.Result, error) {
	return t(ctx, req)
}

func teller(c Config, t core.Translator) (*Teller, *observer.ObservedLogs) {
	seen, logs := observer.New(zap.DebugLevel)
	return &Teller{Door: "foreign", Service: New(c, t), Metrics: NewMetrics(prometheus.NewRegistry()), Journal: NewJournal(zap.New(seen))}, logs
}

// tab opens one for a call without a key.
func tab(t *testing.T, tell *Teller, begin time.Time) *Tab {
	tab := new(Tab)
	if err := tab.Open(t.Context(), tell, tell.Service.Rules(), "", begin, 0); err != nil {
		t.Fatal(err)
	}
	return tab
}

func requests(texts ...string) []core.Request {
	reqs := make([]core.Request, len(texts))
	for i, text := range texts {
		reqs[i] = core.Request{Text: text, Source: "en", Target: "es", Trace: core.NewTrace(nil)}
	}
	return reqs
}

// TestATextThatPanicsFailsAlone, and the log tells of it without its text.
func TestATextThatPanicsFailsAlone(t *testing.T) {
	tell, logs := teller(Defaults(), translator(func(_ context.Context, req *core.Request) (*core.Result, error) {
		if strings.HasPrefix(req.Text, "bad") {
			var none *core.Result
			return &core.Result{Text: none.Text}, nil
		}
		return &core.Result{Text: "[" + req.Text + "]"}, nil
	}))
	for _, texts := range [][]string{{"bad secret"}, {"one", "bad secret", "three"}} {
		items := tell.Each(t.Context(), tab(t, tell, time.Now()), requests(texts...))
		for i, it := range items {
			if bad := strings.HasPrefix(texts[i], "bad"); bad != (it.Err != nil) || !bad && it.Result.Text != "["+texts[i]+"]" || bad && it.Err.Kind != core.Internal {
				t.Errorf("%q: %+v, %v", texts[i], it.Result, it.Err)
			}
		}
	}
	told := 0
	for _, line := range logs.All() {
		for _, f := range line.Context {
			if strings.Contains(f.String, "secret") {
				t.Errorf("the log holds a text: %+v", line)
			}
		}
		if line.Level == zap.ErrorLevel {
			told++
		}
	}
	if told != 2 {
		t.Errorf("%d panics were logged, want 2", told)
	}
}

// TestAForeignDoorIsLateRatherThanRefusing: what passes is waited for within the time
// of the call, and what does not pass is answered at once.
func TestAForeignDoorIsLateRatherThanRefusing(t *testing.T) {
	for name, way := range map[string]struct {
		err     *core.Error
		passes  time.Duration // when it does
		stops   time.Duration // when the gateway does
		took    time.Duration
		kind    core.ErrorKind
		patient bool
	}{
		"a pause that ends in time":          {&core.Error{Kind: core.RateLimited, RetryAfter: 2 * time.Second}, time.Second, 0, 2 * time.Second, "", true},
		"a pause of unknown length":          {&core.Error{Kind: core.Unavailable}, 700 * time.Millisecond, 0, time.Second, "", true},
		"a pause longer than the time":       {&core.Error{Kind: core.RateLimited, RetryAfter: 20 * time.Second}, time.Hour, 0, 4500*time.Millisecond - patienceEnd, core.RateLimited, true},
		"one that ended sooner than it said": {&core.Error{Kind: core.Overloaded, RetryAfter: 20 * time.Second}, 4 * time.Second, 0, 4500*time.Millisecond - patienceEnd, "", true},
		"a bad answer":                       {&core.Error{Kind: core.ProviderFailed, RetryAfter: time.Second}, time.Hour, 0, 0, core.ProviderFailed, true},
		"a gateway that stops":               {&core.Error{Kind: core.RateLimited, RetryAfter: 2 * time.Second}, time.Hour, time.Second, time.Second, core.RateLimited, true},
		"the native door":                    {&core.Error{Kind: core.RateLimited, RetryAfter: time.Second}, time.Hour, 0, 0, core.RateLimited, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begin := time.Now()
				tell, _ := teller(Defaults(), translator(func(context.Context, *core.Request) (*core.Result, error) {
					if time.Since(begin) < way.passes {
						return nil, way.err
					}
					return &core.Result{Text: "there"}, nil
				}))
				tell.Patient = way.patient
				ctx, cancel := context.WithTimeout(t.Context(), 4500*time.Millisecond)
				defer cancel()
				if way.stops > 0 {
					time.AfterFunc(way.stops, tell.Service.stop)
				}
				it := tell.Each(ctx, tab(t, tell, begin), requests("text"))[0]
				kind := core.ErrorKind("")
				if it.Err != nil {
					kind = it.Err.Kind
				}
				if kind != way.kind || it.Took != way.took {
					t.Errorf("%s after %s, want %q after %s", kind, it.Took, way.kind, way.took)
				}
			})
		})
	}
}

// TestNoForeignClientIsSwitchedOff: of all kinds only a client's own faults, and a
// gateway that stops, are answered with what switches clients off.
func TestNoForeignClientIsSwitchedOff(t *testing.T) {
	for _, row := range Table() {
		status := AsForeign(&core.Error{Kind: row.Kind}).Status
		switch row.Kind {
		case core.Unauthorized, core.Forbidden:
			continue
		}
		switch status {
		case 401, 403, 429, 456, 503:
			t.Errorf("%s is answered with %d", row.Kind, status)
		}
	}
	if status := AsForeign(stopping()).Status; status != 503 {
		t.Errorf("a gateway that stops answers %d", status)
	}
	if AsForeign(errors.New("odd")).Status != 500 {
		t.Error("a defect is no other status")
	}
}

// TestWhatIsOfferedIsConcreteAndRefusedBeforeItIsPaid: a provider that takes any language
// is listed with some, and what server.languages leaves out costs nothing.
func TestWhatIsOfferedIsConcreteAndRefusedBeforeItIsPaid(t *testing.T) {
	calls := 0
	any := translator(func(context.Context, *core.Request) (*core.Result, error) {
		calls++
		return &core.Result{Text: "x"}, nil
	})
	c := Defaults()
	free := New(c, any)
	if o := free.Rules().Offer(); len(o.Pairs) < 20 || len(o.Targets) < 20 || o.Default != "es" {
		t.Errorf("without a word about languages: %+v", o)
	}
	c.Languages = Languages{Target: []string{"DE", "pt_br"}, DefaultTarget: "de"}
	if err := c.Check(); err != nil {
		t.Fatal(err)
	}
	some := New(c, any)
	if o := some.Rules().Offer(); len(o.Targets) != 2 || o.Targets[0] != "de" || o.Targets[1] != "pt-BR" || o.Default != "de" || len(o.Pairs) < 20 {
		t.Errorf("offered: %+v", o)
	}
	for target, want := range map[core.Language]core.ErrorKind{"de": "", "de-AT": "", "pt-BR": "", "pt": core.UnsupportedLanguage, "es": core.UnsupportedLanguage} {
		calls = 0
		_, err := some.Translate(t.Context(), &core.Request{Text: "text", Target: target})
		if core.KindOf(err) != want || (calls == 0) != (want != "") {
			t.Errorf("%s: %v after %d calls, want %q", target, err, calls, want)
		}
	}
	for _, wrong := range []Languages{{Target: []string{"klingonisch"}}, {Source: []string{""}}, {Target: []string{"de"}, DefaultTarget: "fr"}, {DefaultTarget: "!"}} {
		c.Languages = wrong
		if c.Check() == nil {
			t.Errorf("%+v is taken", wrong)
		}
	}
}

func TestLanguagesAreReadAsClientsWriteThem(t *testing.T) {
	s := New(Defaults(), nil)
	for written, want := range map[string]core.Language{
		"ES": "es", "zh-hans": "zh-Hans", "zh_CN": "zh-CN", "__es__": "es", " de ": "de", "es-419": "es-419", "English": "en", "Traditional Chinese": "zh-Hant",
		"brazilian portuguese": "pt-BR", "Ukrainian": "uk", "PT": "pt", "": "", "zz": "", "Klingon!": "",
	} {
		if got, err := s.LenientLanguage(written, "target"); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", written, got, err)
		}
	}
}

// TestParamsAreReadAsClientsSendThem, whatever the content type says.
func TestParamsAreReadAsClientsSendThem(t *testing.T) {
	const parts = "--b\r\nContent-Disposition: form-data; name=\"q\"\r\n\r\none\r\n--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.txt\"\r\n\r\n\xff\x00\r\n--b--\r\n"
	for name, call := range map[string]struct {
		kind, body, query string
		q                 string
		several, broken   bool
	}{
		"JSON":                      {"application/json", `{"q":"one","x":{"y":[1]}}`, "", "one", false, false},
		"JSON as text":              {"text/plain", ` {"q":"one"}`, "", "one", false, false},
		"JSON without a type":       {"", "\uFEFF{\"q\":\"one\"}", "", "one", false, false},
		"an array":                  {"", `{"q":["one","two"]}`, "", "one|two", true, false},
		"a number":                  {"", `{"q":1.50}`, "", "1.50", false, false},
		"null":                      {"", `{"q":null}`, "", "", false, false},
		"a form":                    {"application/x-www-form-urlencoded", "q=one", "", "one", false, false},
		"a form without a type":     {"", "q=one+two", "", "one two", false, false},
		"a form, repeated":          {"", "q=one&q=two", "", "one|two", true, false},
		"the query":                 {"", "", "q=one", "one", false, false},
		"the body before the query": {"", "q=one", "q=two", "one", false, false},
		"multipart":                 {"multipart/form-data; boundary=b", parts, "", "one", false, false},
		"multipart, cut":            {"multipart/form-data; boundary=b", parts[:60], "", "", false, true},
		"multipart, no boundary":    {"multipart/form-data", parts, "", "", false, true},
		"broken JSON":               {"application/json", `{"q":`, "", "", false, true},
		"no JSON":                   {"application/json", `q=one`, "", "", false, true},
		"a form with bare signs":    {"", "q=100% of %zz; a%3Bb+%2B&&x", "", "100% of %zz; a;b +", false, false},
		"a query with bare signs":   {"", "", "q=5%;y", "5%;y", false, false},
		"a form without an end":     {"", "q=%e", "", "%e", false, false},
		"a form of many fields":     {"", strings.Repeat("q&", maxFields), "", "", false, true},
		"JSON that says multipart":  {"multipart/form-data; boundary=b", `{"q":"one"}`, "", "one", false, false},
		"JSON as parts, no UTF-8":   {"multipart/form-data", "{\"q\":\"\xff\"}", "", "", false, true},
		"no UTF-8":                  {"", "q=\xff", "", "", false, true},
		"no UTF-8 in a form":        {"", "q=%ff", "", "", false, true},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodPost, "/?"+call.query, nil)
			r.Header.Set("Content-Type", call.kind)
			p, err := ReadParams(r, []byte(call.body))
			if call.broken {
				if core.KindOf(err) != core.InvalidRequest {
					t.Fatalf("read %+v, %v", p, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if texts, several, ok := p.Texts("q"); !ok || several != call.several || strings.Join(texts, "|") != call.q {
				t.Errorf("read %q, %v, %v", texts, several, ok)
			}
		})
	}
}

func FuzzParams(f *testing.F) {
	for _, seed := range []string{`{"q":["a",1,null],"x":{}}`, "q=a&q=b", "q=5%;%z+%2B&&=&%", "--b\r\nContent-Disposition: form-data; name=\"q\"\r\n\r\none\r\n--b--\r\n", "[1]", "{"} {
		f.Add("application/json", seed)
		f.Add("multipart/form-data; boundary=b", seed)
	}
	f.Fuzz(func(t *testing.T, kind, body string) {
		r := httptest.NewRequest(http.MethodPost, "/", nil)
		r.Header.Set("Content-Type", kind)
		p, err := ReadParams(r, []byte(body))
		if err != nil {
			if core.KindOf(err) != core.InvalidRequest {
				t.Error(err)
			}
			return
		}
		for _, name := range append(p.Names(), "q") {
			p.Text(name)
			p.Texts(name)
			p.Flag(name)
			p.Has(name)
		}
		Keys(r, p)
	})
}
