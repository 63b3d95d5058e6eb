package gateway

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dragoman-mt/dragoman/core/door/doortest"
	"github.com/dragoman-mt/dragoman/stages/openai/openaitest"
)

// mostPage is what the page may weigh with all its screens, as it comes over the wire.
const mostPage = 60 << 10

// mostPaint is how much later than the smallest page the page may show something.
const mostPaint = 100 * time.Millisecond

// An operator signs in with a key, looks at every screen, tries a text, takes a configuration over,
// undoes that, and starts a plugin anew. Nothing complains meanwhile: no script, no policy, nobody who
// cannot see; and nobody else is asked.
func TestAnOperatorDoesEverythingOnThePage(t *testing.T) {
	main := upstream(t, openaitest.Config{Latency: 120 * time.Millisecond})
	yaml := `version: 1
server: {admin: "127.0.0.1:0", keys: [{name: captions, key: translator-key}, {name: ops, key: operator-key, role: operate}]}
log: {slow: 100ms}
providers:
  main: {type: openai, base_url: "` + main.URL() + `", api_key: test-key, price: {currency: EUR, input: 0.05, output: 0.4}}
  direct: {type: plugin, command: ["` + filepath.Join(programs, "openai-direct") + `"], config_from: main}
stages: [cache, {ratelimit: {requests_per_minute: 4500}}, {queue: {max_concurrent: 6}}, {provider: {use: main, fallback: [direct]}}, postprocess, protect]
`
	g := serveYAML(t, yaml, nil)
	file := filepath.Join(g.cmd.Dir, "pipeline.yaml")
	admin := g.see(`metrics and status at (http://127\.0\.0\.1:\d+)`)
	translate := func(text string) {
		body := fmt.Sprintf(`{"text": %q, "source": "en", "target": "es"}`, text)
		if res, said := doortest.Do(t, "POST", g.url+"/v1/translate", body, "Authorization", "Bearer translator-key"); res.StatusCode != 200 {
			t.Fatalf("%d %s", res.StatusCode, said)
		}
	}
	for i := range 12 {
		translate(fmt.Sprintf("The train to platform %d is late.", i%8))
	}
	main.FailNext(2, openaitest.Error500)
	translate("This one falls over.")

	b := doortest.OpenBrowser(t)
	looks := func(name string) {
		t.Helper()
		b.LooksWell("page-" + name)
		b.Accessible(name)
	}
	b.Go(admin + "/")
	b.Until(`document.querySelector("[role=alert]").textContent.includes("key is needed")`)
	signIn := func(key string) {
		b.Eval(`document.getElementById("key").value = "` + key + `"; document.querySelector("form").requestSubmit()`)
	}
	signIn("translator-key")
	b.Until(`document.readyState === "complete" && document.querySelector("[role=alert]")?.textContent.includes("may translate and not operate")`)
	looks("sign-in")
	b.Complaints = nil // the browser says of an answer of 401 or 403 that it is one
	signIn("operator-key")
	b.Until(`document.getElementById("state")?.textContent === "Ready"`)
	if at := b.Eval(`location.href`); at != admin+"/" {
		t.Errorf("signed in at %s", at)
	}

	b.Until(`document.querySelectorAll(".uplot").length === 3`)
	// What a page of one word takes is the browser's own, and the machine's with all that it does beside.
	bare := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		io.WriteString(w, "<!doctype html><title>Bare</title><p>Bare")
	}))
	defer bare.Close()
	least, own := time.Hour, time.Hour
	for range 5 {
		b.Go(bare.URL)
		least = min(least, b.FirstPaint())
		b.Go(admin + "/")
		own = min(own, b.FirstPaint())
	}
	t.Logf("the status is painted after %v, a page of one word after %v", own, least)
	if own-least > mostPaint {
		t.Errorf("the status is painted %v later than a page of one word, want at most %v", own-least, mostPaint)
	}
	b.Until(`document.querySelectorAll(".uplot").length === 3`)
	b.Until(`document.querySelector("#t-chain tbody").textContent.includes("cache")`)
	translate("One more, seen without loading the page again.")
	b.Until(`document.querySelector("#now div:nth-child(2) dd").textContent === "14"`)
	looks("status")
	b.Eval(`document.querySelector("#t-plugin button").click()`)
	b.Until(`document.querySelector("#verdict pre").textContent.includes("restarted in")`)

	screen := func(name, until string) {
		t.Helper()
		b.Go(admin + "/admin/page/" + name)
		b.Until(until)
		looks(name)
	}
	b.Go(admin + "/admin/page/recent")
	b.Until(`document.querySelectorAll("td details").length > 3`)
	b.Eval(`document.querySelectorAll("td details").forEach((d, i) => { d.open = i < 3; })`)
	looks("recent")
	if said := b.Eval(`document.body.textContent`); !strings.Contains(said, "direct") || strings.Contains(said, "platform") {
		t.Errorf("what fell over is not shown, or a text is: %s", said)
	}
	screen("usage", `document.querySelector("#t-key tbody").textContent.includes("captions")`)

	b.Go(admin + "/admin/page/playground")
	b.Until(`document.documentElement.classList.contains("js")`)
	b.Eval(`(() => { document.getElementById("text").value = "Good evening, ladies and gentlemen. The session begins in five minutes."; document.getElementById("each").checked = true; document.getElementById("try").requestSubmit(); })()`)
	b.Until(`document.querySelectorAll("#answers section:not([aria-busy]) .text").length === 2 && [...document.querySelectorAll("#answers section")].every(s => s.querySelectorAll(".attempts li").length > 2)`)
	if said := b.Eval(`[...document.querySelectorAll("#answers section")].map(s => s.querySelector("h2").textContent + "=" + s.querySelector(".facts dd").textContent + "=" + s.querySelector(".text").textContent.slice(0, 9)).join()`); said != "main=main=[es] Good,direct=direct=[es] Good" {
		t.Errorf("side by side: %s", said)
	}
	looks("playground")
	b.Eval(`(() => { document.getElementById("each").checked = false; document.getElementById("try").requestSubmit(); })()`)
	b.Until(`document.getElementById("announce").textContent.startsWith("Answer: [es]")`)
	b.Eval(`document.getElementById("try").requestSubmit()`)
	b.Until(`document.querySelector("#answers .facts")?.textContent.includes("cachehit")`)

	// A file that is saved is taken over by itself; here the button is faster, or has nothing left to do.
	if err := os.WriteFile(file, []byte(strings.Replace(yaml, "max_concurrent: 6", "max_concurrent: 9", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	b.Go(admin + "/admin/page/configuration")
	click := func(label, until string) {
		t.Helper()
		b.Eval(`[...document.querySelectorAll("button")].find(b => b.textContent === "` + label + `").click()`)
		b.Until(`document.readyState === "complete" && ` + until)
	}
	concurrent := `[...document.querySelectorAll("#values tr")].find(r => r.textContent.startsWith("stages.queue.max_concurrent"))?.cells[1].textContent`
	click("Reload the file", concurrent+` === "9" && /reloaded|nothing to do/.test(document.querySelector("#verdict pre").textContent)`)
	click("Undo the last change", concurrent+` === "6" && document.querySelector("#verdict pre").textContent.includes("reloaded")`)
	looks("configuration")
	click("What would a reload do?", `document.querySelector("#verdict pre").textContent.includes("max_concurrent")`)
	b.Eval(`(() => { const f = document.getElementById("find"); f.value = "max_conc"; f.dispatchEvent(new Event("input")); })()`)
	b.Until(`[...document.querySelectorAll("#values tbody tr")].every(r => r.hidden !== r.textContent.includes("max_conc"))`)
	if said := b.Eval(`document.body.textContent`); strings.Contains(said, "operator-key") || strings.Contains(said, "test-key") {
		t.Error("the page shows a key")
	}

	for _, c := range b.Complaints {
		t.Error(c)
	}
	weight, once := 0, map[string]bool{}
	for url, n := range b.Bytes {
		path, _, _ := strings.Cut(strings.TrimPrefix(url, admin), "?")
		if strings.HasPrefix(url, bare.URL) {
			continue
		}
		if !strings.HasPrefix(url, admin) {
			t.Errorf("the page asked for %s", url)
		}
		if strings.Contains(url, "operator-key") || strings.Contains(url, "translator-key") {
			t.Errorf("a key is in an address: %s", url)
		}
		if isData := strings.HasPrefix(path, "/admin/v1/") || path == "/admin/page/status" || path == "/admin/page/history" || path == "/admin/reload"; !isData && !once[path] {
			once[path] = true
			weight += n
		}
	}
	t.Logf("%d addresses, %d bytes", len(once), weight)
	if weight > mostPage || weight < 20<<10 {
		t.Errorf("the page weighs %d bytes, want at most %d", weight, mostPage)
	}

	b.Eval(`[...document.querySelectorAll("button")].find(b => b.textContent === "Sign out").click()`)
	b.Until(`document.querySelector("[role=alert]")?.textContent.includes("key is needed")`)
}

// With scripts off the status can be read, where nobody needs a key.
func TestTheStatusIsReadWithScriptsOff(t *testing.T) {
	up := upstream(t, openaitest.Config{})
	g := serveYAML(t, `version: 1
providers:
  main: {type: openai, base_url: "`+up.URL()+`", api_key: test}
stages: [cache, {queue: {max_concurrent: 3}}, {provider: {use: main}}]
`, nil)
	g.ask("Good evening.").text(t)
	b := doortest.OpenBrowser(t)
	b.Scripts(false)
	b.Go(g.url + "/")
	said := b.Eval(`document.body.innerText`)
	for _, want := range []string{"Ready", "translated", "Chain", "0 of 3 running", "Providers", "closed", "Pool", "As a table", "from the cache"} {
		if !strings.Contains(said, want) {
			t.Errorf("no %q in\n%s", want, said)
		}
	}
	b.LooksWell("page-plain")
	for _, c := range b.Complaints {
		t.Error(c)
	}
}

// Whoever may not see the page is refused, and told why: without a key, with a client's, from a page of
// another origin, in a frame, and under a name that a page may have bound to this address.
func TestThePageIsRefusedToWhomItIsNotForAndSaysSo(t *testing.T) {
	const providers = "providers: {openai: {type: openai, base_url: 'http://127.0.0.1:9/v1', api_key: x}}\nstages: [provider: {use: openai}]\n"
	open := serveYAML(t, providers, nil).url
	keyed := serveYAML(t, "server: {admin: '127.0.0.1:0', keys: [{key: translator}, {name: ops, key: operator, role: operate}]}\n"+providers, nil).see(`metrics and status at (http://127\.0\.0\.1:\d+)`)
	html := []string{"Accept", "text/html,*/*"}
	for _, c := range []struct {
		url, method, path string
		header            []string
		status            int
		says              string
	}{
		{open, "GET", "/", nil, 200, "<h1"},
		{open, "GET", "/", []string{"Sec-Fetch-Site", "cross-site"}, 403, "another origin"},
		{open, "GET", "/", []string{"Sec-Fetch-Dest", "iframe", "Sec-Fetch-Site", "same-origin"}, 403, "inside another page"},
		{open, "GET", "/", []string{"Host", "evil.example"}, 403, "does not go by the name"},
		{open, "POST", "/admin/reload", []string{"Origin", "https://evil.example"}, 403, "another origin"},
		{open, "POST", "/admin/reload", []string{"Origin", open, "Sec-Fetch-Site", "same-origin"}, 200, "serves this already"},
		{open, "POST", "/admin/v1/translate", []string{"Origin", "http://localhost:1", "Sec-Fetch-Site", "same-site"}, 403, "another origin"},
		{keyed, "GET", "/", nil, 401, "a key is needed"},
		{keyed, "GET", "/", nil, 401, `action="/admin/open/sign-in"`},
		{keyed, "GET", "/admin/page/configuration", nil, 401, "This page is for operators"},
		{keyed, "GET", "/", []string{"Authorization", "Bearer translator"}, 403, "may translate and not operate"},
		{keyed, "GET", "/", []string{"Authorization", "Bearer operator"}, 200, "<h1"},
		{keyed, "GET", "/?key=operator", nil, 401, "A key is needed"},
		{keyed, "POST", "/admin/reload", nil, 401, "a key is needed"},
		{keyed, "POST", "/admin/open/sign-in", nil, 401, "A key is needed"},
		{keyed, "GET", "/admin/open/sign-in", nil, 405, "POST"},
		{keyed, "POST", "/admin/v1/translate", nil, 401, "a key is needed"},
		{keyed, "POST", "/admin/v1/chat/completions", []string{"Authorization", "Bearer operator"}, 404, "nothing at this address"},
	} {
		r, err := http.NewRequest(c.method, c.url+c.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		header := append(html[:len(html):len(html)], c.header...)
		for i := 0; i < len(header); i += 2 {
			if r.Header.Set(header[i], header[i+1]); header[i] == "Host" {
				r.Host = header[i+1]
			}
		}
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		body := string(raw)
		if res.StatusCode != c.status || !strings.Contains(strings.ToLower(body), strings.ToLower(c.says)) {
			t.Errorf("%s %s %v: %d %s", c.method, c.path, c.header, res.StatusCode, body)
		}
		if strings.Contains(res.Header.Get("Content-Type"), "html") && !strings.Contains(res.Header.Get("Content-Security-Policy"), "frame-ancestors 'none'") {
			t.Errorf("%s %s may be framed: %v", c.method, c.path, res.Header)
		}
	}
}

// A browser shows the page in no frame, and a page of another origin neither reads nor does anything with
// it, though the gateway serves this machine without keys.
func TestAPageOfAnotherOriginNeitherFramesTheOperatorsPageNorActsThroughIt(t *testing.T) {
	g := serveYAML(t, "providers: {openai: {type: openai, base_url: 'http://127.0.0.1:9/v1', api_key: x}}\nstages: [provider: {use: openai}]\n", nil)
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		io.WriteString(w, "<!doctype html><title>Elsewhere</title><p>Free prizes.")
	}))
	defer elsewhere.Close()
	silent := hushed(t, g.url)
	for name, origin := range map[string]string{"another port": elsewhere.URL, "another site": strings.Replace(elsewhere.URL, "127.0.0.1", "localhost", 1)} {
		t.Run(name, func(t *testing.T) {
			b := doortest.OpenBrowser(t)
			b.Go(silent.URL + "/")
			// A page by itself asks.
			b.Until(`performance.getEntriesByType("resource").some(e => e.name.endsWith("/admin/page/status"))`)
			b.Go(origin + "/")
			frame := func(url string) {
				b.Eval(`new Promise(done => { const f = document.createElement("iframe"); f.onload = () => done(true); f.src = "` + url + `"; document.body.append(f); })`)
			}
			frame(origin + "/own")
			frame(g.url + "/")
			if own, theirs := b.Answers[origin+"/own"], b.Answers[g.url+"/"]; own != http.StatusOK || theirs != http.StatusForbidden {
				t.Errorf("a frame of its own is answered with %d, one of the gateway with %d", own, theirs)
			}
			// A browser that does not say where a page is to be shown has the policy of the page itself:
			// of what it frames nothing more is asked for.
			silent.asked()
			frame(silent.URL + "/")
			if asked := silent.asked(); !slices.Equal(asked, []string{"/"}) {
				t.Errorf("a frame has asked for %v", asked)
			}
			for _, c := range []struct{ call, path string }{
				{`fetch(URL)`, "/admin/status"},
				{`fetch(URL, {credentials: "include"})`, "/admin/page/status"},
				{`fetch(URL, {method: "POST"})`, "/admin/reload"},
				{`fetch(URL, {method: "POST", headers: {"Content-Type": "application/json"}, body: "{}"})`, "/admin/v1/translate"},
			} {
				if said := b.Eval(strings.Replace(c.call, "URL", `"`+g.url+c.path+`"`, 1) + `.then(r => r.text(), () => "refused")`); said != "refused" {
					t.Errorf("%s of %s is told %s", c.call, c.path, said)
				}
			}
			// What needs no leave is sent, and nothing comes of it.
			b.Eval(`fetch("` + g.url + `/admin/reload?previous=true", {method: "POST", mode: "no-cors"}).then(() => 1, () => 0)`)
			b.Eval(`(() => { const f = document.createElement("form"); f.method = "post"; f.action = "` + g.url + `/admin/reload?dry_run=true"; document.body.append(f); f.submit(); })()`)
			b.Until(`location.href.includes("dry_run")`)
			for _, path := range []string{"/admin/reload?previous=true", "/admin/reload?dry_run=true"} {
				// The browser tells of an answer when it comes to it.
				for begun := time.Now(); b.Answers[g.url+path] == 0 && time.Since(begun) < 10*time.Second; {
					b.Eval(`new Promise(done => setTimeout(() => done(1), 20))`)
				}
				if status := b.Answers[g.url+path]; status != http.StatusForbidden {
					t.Errorf("%s: %d, want 403", path, status)
				}
			}
			if said := b.Eval(`document.body.innerText`); !strings.Contains(said, "another origin") {
				t.Errorf("who is refused is told %s", said)
			}
		})
	}
}

// A silentProxy passes calls on without what a browser says of where their answer goes.
type silentProxy struct {
	*httptest.Server
	mu    sync.Mutex
	paths []string
}

func hushed(t *testing.T, to string) *silentProxy {
	target, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	p := &silentProxy{}
	p.Server = httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		p.mu.Lock()
		p.paths = append(p.paths, r.In.URL.Path)
		p.mu.Unlock()
		r.SetURL(target)
		for name := range r.Out.Header {
			if strings.HasPrefix(name, "Sec-Fetch-") {
				r.Out.Header.Del(name)
			}
		}
	}})
	t.Cleanup(p.Close)
	return p
}

// asked are the paths that were asked for since the last time.
func (p *silentProxy) asked() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	asked := p.paths
	p.paths = nil
	return asked
}
