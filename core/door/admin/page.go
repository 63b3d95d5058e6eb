package admin

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"fmt"
	"io/fs"
	"math"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/door"
	"github.com/dragoman-mt/dragoman/core/history"
)

// The page is HTML that is written here, so that what it tells can be read with scripts off;
// the scripts beside it keep it up to date and press its buttons.

//go:embed page
var files embed.FS

// policy lets the page's own files do what they do, and nothing else happen: no script or
// style in the markup, nobody asked but this gateway, no frame round it, and no text that
// becomes markup or a script.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// screens are those of the page, with their addresses.
var screens = []struct{ path, name string }{
	{"/", "Status"}, {"/admin/page/recent", "Recent"}, {"/admin/page/usage", "Usage"}, {"/admin/page/playground", "Playground"}, {"/admin/page/configuration", "Configuration"},
}

// handlePage adds the page to mux.
func (a *admin) handlePage(mux *http.ServeMux) {
	mux.Handle("/{$}", get(a.statusPage))
	mux.Handle("/admin/page/status", get(a.statusData))
	mux.Handle("/admin/page/history", get(a.historyData))
	mux.Handle("/admin/page/recent", get(a.recentPage))
	mux.Handle("/admin/page/usage", get(a.usagePage))
	mux.Handle("/admin/page/playground", get(a.playgroundPage))
	mux.Handle("/admin/page/configuration", get(a.configurationPage))
	mux.Handle(door.OpenPath+"sign-in", post(a.signIn))
	mux.Handle(door.OpenPath+"sign-out", post(a.signOut))
	for name, kind := range map[string]string{
		"page.css": "text/css; charset=utf-8", "uplot.css": "text/css; charset=utf-8", "page.js": "text/javascript; charset=utf-8",
		"uplot.js": "text/javascript; charset=utf-8", "icon.svg": "image/svg+xml",
	} {
		mux.Handle(door.OpenPath+name, get(static(name, kind)))
	}
}

// static serves a file of the page. Who has it asks whether it has changed: an update of the
// gateway shows at once.
func static(name, kind string) http.HandlerFunc {
	type served struct {
		raw, zipped []byte
		etag        string
	}
	load := sync.OnceValue(func() served {
		raw, err := fs.ReadFile(files, path.Join("page", name))
		if err != nil {
			panic(err) // it is part of the program
		}
		return served{raw, zip(raw), fmt.Sprintf(`"%x"`, sha256.Sum256(raw))[:18] + `"`}
	})
	return func(w http.ResponseWriter, r *http.Request) {
		f := load()
		h := w.Header()
		secure(h)
		h.Set("Cache-Control", "no-cache")
		h.Set("ETag", f.etag)
		if r.Header.Get("If-None-Match") == f.etag {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		h.Set("Content-Type", kind)
		send(w, r, http.StatusOK, f.raw, f.zipped)
	}
}

// secure sets what keeps other pages away from what is answered.
func secure(h http.Header) {
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "same-origin") // with none a browser would not say where a form was sent from
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
}

// zippers are used again: each has a megabyte of memory.
var zippers = sync.Pool{New: func() any { return gzip.NewWriter(nil) }}

func zip(body []byte) []byte {
	var b bytes.Buffer
	z := zippers.Get().(*gzip.Writer)
	defer zippers.Put(z)
	z.Reset(&b)
	z.Write(body) // into memory
	z.Close()
	return b.Bytes()
}

// send answers with body, or with zipped where the client takes that; nil is made now.
func send(w http.ResponseWriter, r *http.Request, status int, body, zipped []byte) {
	h := w.Header()
	h.Add("Vary", "Accept-Encoding")
	if takesGzip(r) {
		if zipped == nil {
			zipped = zip(body)
		}
		h.Set("Content-Encoding", "gzip")
		body = zipped
	}
	h.Set("Content-Length", fmt.Sprint(len(body)))
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		w.Write(body) // the client may have left
	}
}

// takesGzip says whether r names gzip among what its client takes. One that names it to refuse
// it, with a weight of 0, is no browser.
func takesGzip(r *http.Request) bool {
	for part := range strings.SplitSeq(r.Header.Get("Accept-Encoding"), ",") {
		if coding, weight, _ := strings.Cut(strings.TrimSpace(part), ";"); strings.EqualFold(coding, "gzip") && strings.TrimSpace(weight) != "q=0" {
			return true
		}
	}
	return false
}

// document answers with a page: the head that all have, and what body adds. At is the address
// of its screen, empty for a page that is none.
func (a *admin) document(w http.ResponseWriter, r *http.Request, status int, at, title string, body func(m *markup)) {
	if framed(r) {
		// Who reads the headers shows none of it in a frame. This is for who does not.
		door.WriteError(w, r, &core.Error{Kind: core.Forbidden, Detail: "the page is not shown inside another page; open its address by itself"})
		return
	}
	var m markup
	m.put(`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">
<title>%s – Dragoman</title>
<link rel="icon" href="/admin/open/icon.svg" type="image/svg+xml">
<link rel="stylesheet" href="/admin/open/uplot.css">
<link rel="stylesheet" href="/admin/open/page.css">
`, title)
	if at != "" {
		m.put(`<script defer src="/admin/open/uplot.js"></script>
<script type="module" src="/admin/open/page.js"></script>
`)
	}
	m.put(`</head>
<body>
<a class="skip" href="#main">Skip to the content</a>
<header><p class="brand"><img src="/admin/open/icon.svg" alt="" width="24" height="24">Dragoman</p>
`)
	if at != "" {
		m.put(`<nav aria-label="Screens"><ul>`)
		for _, s := range screens {
			current := raw("")
			if s.path == at {
				current = ` aria-current="page"`
			}
			m.put(`<li><a href="%s"%s>%s</a></li>`, s.path, current, s.name)
		}
		m.put(`</ul></nav>`)
		if a.o.Service != nil && a.o.Service.Rules().SignedIn(r) {
			m.put(`<form method="post" action="/admin/open/sign-out"><button class="quiet">Sign out</button></form>`)
		}
	}
	m.put("</header>\n<main id=\"main\">\n")
	body(&m)
	m.put("</main>\n</body>\n</html>\n")
	h := w.Header()
	secure(h)
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	send(w, r, status, m.Bytes(), nil)
}

// framed says whether a browser asks for r to show it inside another page.
func framed(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Dest") {
	case "iframe", "frame", "embed", "object", "fencedframe":
		return true
	}
	return false
}

// Refuse answers a call to the admin door that is not for it: with a page where a browser
// asked for one, which says why and how to sign in.
func Refuse(w http.ResponseWriter, r *http.Request, err error) {
	isPage := r.URL.Path == "/" || strings.HasPrefix(r.URL.Path, "/admin/page/")
	if !isPage || !strings.Contains(r.Header.Get("Accept"), "text/html") {
		door.WriteError(w, r, err)
		return
	}
	(&admin{}).refusal(w, r, err)
}

func (a *admin) refusal(w http.ResponseWriter, r *http.Request, err error) {
	p := door.ProblemOf(err, door.RequestID(w, r))
	p.Headers(w.Header())
	title := "This page is for operators"
	if p.Status != http.StatusUnauthorized && p.Status != http.StatusForbidden {
		title = "That cannot be shown"
	}
	a.document(w, r, p.Status, "", title, func(m *markup) {
		m.put(`<section class="panel door"><h1>%s</h1><p role="alert">%s.</p>`, title, sentence(p.Message))
		if p.Status == http.StatusUnauthorized || r.Method == http.MethodPost {
			m.put(`<form method="post" action="/admin/open/sign-in"><label for="key">Key of an operator</label>
<input id="key" name="key" type="password" autocomplete="current-password" required autofocus spellcheck="false">
<p class="soft">One of <code>server.keys</code> with <code>role: operate</code>. This browser stays signed in for twelve hours, or until the gateway is restarted.</p>
<button>Sign in</button></form>`)
		}
		m.put(`</section>`)
	})
}

// sentence is said as the beginning of a sentence.
func sentence(said string) string {
	if said == "" {
		return said
	}
	return strings.ToUpper(said[:1]) + strings.TrimSuffix(said[1:], ".")
}

// mostForm bounds the body of a form of the page, in bytes.
const mostForm = 4 << 10

// signIn serves POST /admin/open/sign-in, a form with a key.
func (a *admin) signIn(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, mostForm)
	if err := r.ParseForm(); err != nil || a.o.Service == nil {
		door.WriteError(w, r, &core.Error{Kind: core.InvalidRequest, Detail: "this address takes a form with the field key"})
		return
	}
	cookie, err := a.o.Service.SignIn(r, strings.TrimSpace(r.PostForm.Get("key")))
	if err != nil {
		a.refusal(w, r, err)
		return
	}
	http.SetCookie(w, cookie)
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

func (a *admin) signOut(w http.ResponseWriter, r *http.Request) {
	if a.o.Service != nil {
		http.SetCookie(w, a.o.Service.SignOut(r))
	}
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

// A view is what the screen of the status shows, and is asked for again every few seconds.
type view struct {
	Ready  bool   `json:"ready"`
	State  string `json:"state"` // in words
	Serves string `json:"serves"`
	// Notices are what should be looked at.
	Notices []string `json:"notices"`
	Now     []figure `json:"now"`
	Tables  []Table  `json:"tables"`
	Reload  *told    `json:"reload"`
}

// A figure is one number that stands by itself.
type figure struct {
	Name  string `json:"name"`
	Value string `json:"value"`
	Note  string `json:"note"`
	Bad   bool   `json:"bad,omitempty"`
}

// told is what came of a reload.
type told struct {
	Head string `json:"head"`
	Text string `json:"text"`
	Bad  bool   `json:"bad,omitempty"`
}

// mostShown is how many live sessions the page shows.
const mostShown = 50

func (a *admin) view() (v view, err error) {
	s := a.now()
	all, err := a.o.Gatherer.Gather()
	if len(all) == 0 && err != nil {
		return v, &core.Error{Kind: core.Unavailable, Detail: "the gateway's metrics cannot be read", Cause: err}
	}
	v.Ready, v.State, v.Notices = s.Ready, "Ready", []string{}
	if !s.Ready {
		v.State = "Not ready"
		v.Notices = append(v.Notices, s.NotReady)
	}
	if s.Notice != "" {
		v.Notices = append(v.Notices, s.Notice)
	}
	if s.FileDiffers {
		v.Notices = append(v.Notices, "The file on disk differs from what serves.")
	}
	v.Serves = fmt.Sprintf("%s, generation %d, loaded %s, up %v", s.Config, s.Generation, Clock(s.Loaded), time.Duration(s.UptimeSeconds)*time.Second)
	v.Tables = Overview(s, sampled(all))
	if a.o.Sessions != nil {
		if t := SessionsTable(a.o.Sessions()); len(t.Rows) > 0 {
			t.Rows = t.Rows[:min(len(t.Rows), mostShown)]
			v.Tables = append(v.Tables, t)
		}
	}
	for i, c := range v.Tables[0].Head[1:] {
		cell := v.Tables[0].Rows[0][i+1]
		v.Now = append(v.Now, figure{Name: c.Title, Value: cell.Text, Note: "since the start", Bad: cell.Bad})
	}
	if len(v.Now) > 0 {
		v.Now[0].Note = "now"
	}
	v.Tables = v.Tables[1:]
	if r := s.LastReload; r != nil {
		v.Reload = &told{fmt.Sprintf("%s at %s, by %s", r.Outcome, Clock(r.At), r.Trigger), strings.TrimSpace(r.Text), r.Outcome == "refused"}
	}
	return v, nil
}

func (a *admin) statusPage(w http.ResponseWriter, r *http.Request) {
	v, err := a.view()
	if err != nil {
		door.WriteError(w, r, err)
		return
	}
	a.document(w, r, http.StatusOK, "/", v.State, func(m *markup) {
		state := raw("good")
		if !v.Ready {
			state = "bad"
		}
		m.put(`<div class="top"><h1 id="state" class="state %s">%s</h1><p id="serves" class="soft">%s</p></div>`+"\n", state, v.State, v.Serves)
		m.put(`<ul id="notices" class="notices">`)
		for _, n := range v.Notices {
			m.put("<li>%s</li>", sentence(n))
		}
		m.put("</ul>\n<dl id=\"now\" class=\"cards\">")
		for _, f := range v.Now {
			m.put(`<div><dt>%s</dt><dd>%s</dd><dd class="soft">%s</dd></div>`, f.Name, f.Value, f.Note)
		}
		m.put("</dl>\n")
		a.plots(m)
		m.put(`<div id="tables" class="grid">` + "\n")
		for _, t := range v.Tables {
			if t.Head[0].Title != "PLUGIN" {
				m.table(t, nil)
				continue
			}
			m.table(t, func(row []Cell) {
				m.put(`<button type="button" class="quiet js-only" data-post="/admin/plugins/%s/restart">Restart<span class="hidden"> %s</span></button>`, segment(row[0].Text), row[0].Text)
			})
		}
		m.put("</div>\n")
		m.verdict()
		if t := v.Reload; t != nil {
			m.put(`<section class="panel"><h2>Last reload</h2><p>%s</p><pre>%s</pre></section>`, t.Head, t.Text)
		}
	})
}

func (a *admin) statusData(w http.ResponseWriter, r *http.Request) {
	v, err := a.view()
	if err != nil {
		door.WriteError(w, r, err)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	door.WriteJSON(w, http.StatusOK, v)
}

// coarse is how many readings of the history one row of its table takes: five minutes.
const coarse = int(5 * time.Minute / history.Every)

// plots adds the last hour: where scripts run, as curves; and as a table.
func (a *admin) plots(m *markup) {
	if a.o.History == nil {
		return
	}
	m.put(`<section class="panel"><h2>The last hour</h2><div class="plots"><figure><figcaption>Requests a second</figcaption><div id="plot-rate" class="plot" aria-hidden="true"></div></figure>
<figure><figcaption>Time to the answer, in milliseconds</figcaption><div id="plot-time" class="plot" aria-hidden="true"></div></figure>
<figure><figcaption>Requests at once</figcaption><div id="plot-load" class="plot" aria-hidden="true"></div></figure></div>
<details id="hour" open><summary>As a table</summary><div class="wide" role="region" aria-label="The last hour as a table" tabindex="0"><table id="t-hour"><thead><tr><th scope="col">until</th>`)
	for _, h := range hourHead {
		m.put(`<th scope="col">%s</th>`, h)
	}
	m.put("</tr></thead><tbody>")
	for _, row := range a.hour() {
		m.put(`<tr><th scope="row">%s</th>`, row[0])
		for _, cell := range row[1:] {
			m.put("<td>%s</td>", cell)
		}
		m.put("</tr>")
	}
	m.put("</tbody></table></div></details></section>\n")
}

var hourHead = []string{"translated", "failed", "refused", "from the cache", "p50", "p99", "at once", "waiting"}

// hour is the last hour as rows of its table, the newest first.
func (a *admin) hour() [][]string {
	rows := [][]string{}
	for _, p := range slices.Backward(a.o.History.Points(time.Time{}, coarse)) {
		rows = append(rows, []string{
			p.Until.Local().Format("15:04"),
			Count(p.Translated), Count(p.Failed), Count(p.Refused), Share(p.Stored, p.Translated), inMilliseconds(p.P50), inMilliseconds(p.P99), Count(p.InFlight), Count(p.Waiting),
		})
	}
	return rows
}

func inMilliseconds(seconds float64) string {
	if math.IsNaN(seconds) {
		return "-"
	}
	return fmt.Sprintf("%.0f ms", 1000*seconds)
}

// historyData answers with the points that ended after ?after=, in Unix milliseconds, each as a list of
// numbers: when it ended, how long it was, and what was counted in it; and with the whole hour as a table.
func (a *admin) historyData(w http.ResponseWriter, r *http.Request) {
	var after int64
	err := parameters(r.URL.RawQuery, func(name, value string) error {
		at, err := strconv.ParseInt(value, 10, 64)
		if name != "after" || err != nil {
			return wrong(name, "the one parameter is after=TIME, in milliseconds since 1970")
		}
		after = at
		return nil
	})
	if err != nil {
		door.WriteError(w, r, err)
		return
	}
	points, rows := [][]any{}, [][]string{}
	if a.o.History != nil {
		for _, p := range a.o.History.Points(time.UnixMilli(after), 1) {
			one := []any{p.Until.UnixMilli(), p.Seconds, p.Translated, p.Failed, p.Refused, p.Stored, nil, nil, p.InFlight, p.Waiting}
			if !math.IsNaN(p.P50) {
				one[6], one[7] = 1000*p.P50, 1000*p.P99
			}
			points = append(points, one)
		}
		rows = a.hour()
	}
	w.Header().Set("Cache-Control", "no-store")
	door.WriteJSON(w, http.StatusOK, map[string]any{"points": points, "table": rows})
}
