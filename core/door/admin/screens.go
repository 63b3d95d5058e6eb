package admin

import (
	"cmp"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/dragoman-mt/dragoman/core/door"
	"github.com/dragoman-mt/dragoman/core/usage"
)

// A Configuration is what serves, explained.
type Configuration struct {
	// Chain is how it is linked, in lines for a terminal.
	Chain string
	// Called are the providers that answer requests, in the order in which they are asked.
	Called []string
	// Values are those that hold, without what is secret.
	Values []Value
}

// A Value is one of a configuration.
type Value struct {
	Path, Text string
	// From is where it comes from: a file and a line, with the variable that it names, or a default.
	From string
}

// words writes a reason.
func words(r door.Reason) string { return strings.ReplaceAll(string(r), "_", " ") }

// given is the query of a form, which sends what was left empty too.
func given(r *http.Request) url.Values {
	query := r.URL.Query()
	for name, values := range query {
		if len(values) == 1 && values[0] == "" {
			query.Del(name)
		}
	}
	return query
}

func (a *admin) recentPage(w http.ResponseWriter, r *http.Request) {
	query := given(r)
	keep, limit, err := recentQuery(query.Encode())
	if err != nil {
		a.refusal(w, r, err)
		return
	}
	var all []door.Past
	if a.o.Recent != nil {
		all = slices.DeleteFunc(a.o.Recent(), func(p door.Past) bool { return !keep(p) })
	}
	if limit > 0 {
		all = all[:min(len(all), limit)]
	}
	a.document(w, r, http.StatusOK, "/admin/page/recent", "Recent", func(m *markup) {
		m.put(`<div class="top"><h1>Recent</h1><p class="soft">The last texts that were slow, failed, fell over or were refused, without the texts.</p></div>
<form class="bar" method="get"><label>Reason <select name="reason"><option value="">any</option>`)
		for _, reason := range door.Reasons {
			selected := raw("")
			if query.Get("reason") == string(reason) {
				selected = " selected"
			}
			m.put(`<option value="%s"%s>%s</option>`, string(reason), selected, words(reason))
		}
		m.put(`</select></label>`)
		for _, name := range []string{"client", "session", "request"} {
			m.put(`<label>%s <input name="%s" value="%s" size="12" spellcheck="false" autocomplete="off"></label>`, sentence(name), name, query.Get(name))
		}
		m.put(`<button class="quiet">Show</button></form>` + "\n")
		if len(all) == 0 {
			m.put(`<section class="panel empty"><p>Nothing of that kind has happened since the gateway was started.</p></section>`)
			return
		}
		m.put(`<section class="panel"><h2 id="recent-h">%s kept, latest first</h2><div class="wide" role="region" aria-labelledby="recent-h" tabindex="0"><table class="stack" aria-labelledby="recent-h"><thead><tr><th scope="col">time</th><th scope="col" class="w">reason</th><th scope="col" class="w">door</th><th scope="col" class="w">client</th><th scope="col" class="w">languages</th><th scope="col">took</th><th scope="col" class="w">what</th></tr></thead><tbody>`, Count(float64(len(all))))
		for _, p := range all {
			m.past(p)
		}
		m.put("</tbody></table></div></section>\n")
	})
}

// past adds a text that is looked back at.
func (m *markup) past(p door.Past) {
	at := p.At.Local()
	shown := at.Format("15:04:05")
	if time.Since(at) > 20*time.Hour {
		shown = at.Format(time.DateTime)
	}
	pair := "-"
	if p.Target != "" {
		pair = cmp.Or(p.Source, "?") + " → " + p.Target
	}
	m.put(`<tr><th scope="row"><time datetime="%s">%s</time></th><td class="w n"><span class="tag %s">%s</span></td><td class="w n">%s</td><td class="w n">%s</td><td class="w n">%s</td><td>%.1f ms</td><td class="w">`,
		at.Format(time.RFC3339Nano), shown, string(p.Reason), words(p.Reason), p.Door, cmp.Or(p.Client, "-"), pair, p.TookMS)
	switch {
	case p.Failure != nil:
		m.put("%s", p.Failure)
	case p.Provider != "":
		m.put("answered by %s", p.Provider)
	}
	if p.Joined {
		m.put(", in the flight of another")
	}
	m.put(`<details><summary>Request %s</summary><dl class="facts">`, p.Request)
	for _, fact := range [][2]string{
		{"session", p.Session}, {"trace", p.TraceID}, {"lane", p.Lane}, {"model", p.Model}, {"flags", strings.Join(p.Flags, ", ")},
	} {
		if fact[1] != "" {
			m.put("<div><dt>%s</dt><dd>%s</dd></div>", fact[0], fact[1])
		}
	}
	if p.Characters > 0 {
		m.put("<div><dt>characters</dt><dd>%s</dd></div>", Count(float64(p.Characters)))
	}
	for _, s := range p.Stages {
		m.put("<div><dt>in %s</dt><dd>%.1f ms</dd></div>", s.Stage, s.MS)
	}
	m.put("</dl>")
	if len(p.Attempts) > 0 {
		m.put(`<ol class="attempts">`)
		whole := p.TookMS
		for _, made := range p.Attempts {
			whole = max(whole, made.AfterMS+made.TookMS)
		}
		for _, made := range p.Attempts {
			said, how := "answered", raw("good")
			switch {
			case made.Lost:
				said, how = "called off, another was faster", "lost"
			case made.Failure != nil:
				said, how = made.Failure.String(), "bad"
			}
			// Where it lies in the whole.
			from, long := share(made.AfterMS, whole), max(share(made.TookMS, whole), 0.5)
			m.put(`<li><span class="of">%s, %s</span><svg viewBox="0 0 100 4" preserveAspectRatio="none" aria-hidden="true"><rect class="all" width="100" height="4"/><rect class="%s" x="%.1f" width="%.1f" height="4"/></svg><span class="soft">after %.1f ms, %.1f ms long: %s</span></li>`,
				made.Why, made.Provider, how, from, long, made.AfterMS, made.TookMS, said)
		}
		m.put("</ol>")
	}
	m.put("</details></td></tr>")
}

// share is part of a whole in hundredths.
func share(part, whole float64) float64 {
	if whole <= 0 {
		return 0
	}
	return math.Min(100*part/whole, 100)
}

func (a *admin) usagePage(w http.ResponseWriter, r *http.Request) {
	by, month, err := usageQuery(given(r).Encode())
	if err != nil {
		a.refusal(w, r, err)
		return
	}
	by = cmp.Or(by, usage.ByKey)
	var report usage.Report
	if a.o.Usage != nil {
		report, err = a.o.Usage(by, month)
	}
	a.document(w, r, http.StatusOK, "/admin/page/usage", "Usage", func(m *markup) {
		m.put(`<div class="top"><h1>Usage</h1><p class="soft">What clients have used, in months by UTC. Of sessions, since each began.</p></div>
<form class="bar" method="get"><label>By <select name="by">`)
		for _, one := range []string{usage.ByKey, usage.ByDay, usage.ByDoor, usage.BySession} {
			selected := raw("")
			if one == by {
				selected = " selected"
			}
			m.put(`<option%s>%s</option>`, selected, one)
		}
		m.put(`</select></label><label>Month <input name="month" value="%s" size="8" placeholder="2026-11" pattern="[0-9]{4}-[0-9]{2}"></label><button class="quiet">Show</button></form>`+"\n", cmp.Or(month, report.Month))
		if err != nil {
			m.put(`<ul class="notices"><li>%s</li></ul>`, sentence(err.Error()))
			return
		}
		if report.Notice != "" {
			m.put(`<ul class="notices"><li>%s</li></ul>`, sentence(report.Notice))
		}
		if report.Alone != "" {
			m.put(`<ul class="notices"><li>%s</li></ul>`, sentence(report.Alone))
		}
		if len(report.Rows) == 0 {
			m.put(`<section class="panel empty"><p>Nothing was used.</p></section>`)
			return
		}
		m.table(UsageTable(report), nil)
	})
}

func (a *admin) configurationPage(w http.ResponseWriter, r *http.Request) {
	s := a.now()
	kept, keptErr := a.o.Kept()
	a.document(w, r, http.StatusOK, "/admin/page/configuration", "Configuration", func(m *markup) {
		m.put(`<div class="top"><h1>Configuration</h1><p class="soft">%s serves as generation %d since %s, content %.12s.</p></div>`+"\n", s.Config, s.Generation, Clock(s.Loaded), s.Hash)
		if s.FileDiffers {
			m.put(`<ul class="notices"><li>The file on disk differs from what serves.</li></ul>`)
		}
		m.put(`<p class="bar js-only"><button type="button" data-post="/admin/reload">Reload the file</button> <button type="button" class="quiet" data-post="/admin/reload?dry_run=true">What would a reload do?</button> <button type="button" class="quiet" data-post="/admin/reload?previous=true">Undo the last change</button></p>` + "\n")
		m.verdict()
		if keptErr != nil {
			m.put(`<ul class="notices"><li>What is kept cannot be read: %s</li></ul>`, keptErr)
		}
		if len(kept) > 0 {
			m.put(`<section class="panel"><h2 id="kept-h">What can be gone back to</h2><div class="wide" role="region" aria-labelledby="kept-h" tabindex="0"><table id="kept" aria-labelledby="kept-h"><thead><tr><th scope="col">number</th><th scope="col" class="w">served until</th><th scope="col" class="w">content</th><th scope="col" class="w">what differs from what serves</th><th scope="col" class="w"><span class="hidden">action</span></th></tr></thead><tbody>`)
			for _, k := range kept {
				m.put(`<tr><th scope="row">%d</th><td class="w n">%s</td><td class="w n"><code>%.12s</code></td><td class="w">%s</td><td class="w n">`, k.Number, k.At.Local().Format(time.DateTime), k.Hash, k.Differs())
				if !k.Serves {
					m.put(`<button type="button" class="quiet js-only" data-post="/admin/reload?to=%d">Serve<span class="hidden"> number %d</span></button> <button type="button" class="quiet js-only" data-post="/admin/reload?to=%d&amp;dry_run=true">Try<span class="hidden"> number %d</span></button>`, k.Number, k.Number, k.Number, k.Number)
				}
				m.put("</td></tr>")
			}
			m.put("</tbody></table></div></section>\n")
		}
		if a.o.Configuration == nil {
			return
		}
		c := a.o.Configuration()
		m.put(`<section class="panel"><h2>The chain: a request walks down, its answer walks back up</h2><pre tabindex="0">%s</pre></section>`+"\n", strings.Trim(c.Chain, "\n"))
		m.put(`<section class="panel"><div class="bar"><h2 id="values-h">Every value, and where it comes from</h2><label class="js-only">Find <input id="find" type="search" size="18" autocomplete="off" spellcheck="false"></label></div><div class="wide" role="region" aria-labelledby="values-h" tabindex="0"><table id="values" aria-labelledby="values-h"><thead><tr><th scope="col">key</th><th scope="col" class="w">value</th><th scope="col" class="w">from</th></tr></thead><tbody>`)
		for _, v := range c.Values {
			from := raw("")
			if v.From == "default" {
				from = " soft"
			}
			m.put(`<tr><th scope="row"><code>%s</code></th><td class="w"><code>%s</code></td><td class="w%s">%s</td></tr>`, v.Path, v.Text, from, v.From)
		}
		m.put("</tbody></table></div></section>\n")
	})
}

// mostChanges is how many differences of one content are listed.
const mostChanges = 6

// Differs says what is different about k.
func (k Kept) Differs() string {
	switch n := len(k.Changes); {
	case k.Serves:
		return "serves now"
	case k.Error != "":
		first, _, _ := strings.Cut(k.Error, "\n")
		return "cannot be served: " + first
	case n == 0:
		return "no value differs from what serves"
	case n > mostChanges:
		return fmt.Sprintf("%s, %d more", strings.Join(k.Changes[:mostChanges], ", "), n-mostChanges)
	}
	return strings.Join(k.Changes, ", ")
}

// playgroundPage is for trying. Its texts are what an operator types, and are kept nowhere.
func (a *admin) playgroundPage(w http.ResponseWriter, r *http.Request) {
	var called []string
	if a.o.Configuration != nil {
		called = a.o.Configuration().Called
	}
	a.document(w, r, http.StatusOK, "/admin/page/playground", "Playground", func(m *markup) {
		m.put(`<div class="top"><h1>Playground</h1><p class="soft">A text goes the way of every client's, as the client “%s”. Nothing is kept of it here.</p></div>
<noscript><ul class="notices"><li>This screen needs scripts. POST /v1/translate does the same for a client, and <code>dragoman translate</code> in a terminal.</li></ul></noscript>
<form id="try" class="panel js-only"><div class="bar"><label>From <input id="source" value="en" size="8" autocomplete="off" spellcheck="false"></label><label>into <input id="target" value="es" size="8" required autocomplete="off" spellcheck="false"></label><label><input id="fresh" type="checkbox"> a new answer, not a stored one</label>`, door.Playground)
		if len(called) > 1 {
			m.put(`<label><input id="each" type="checkbox" data-providers="%s"> every provider side by side</label>`, strings.Join(called, " "))
		}
		m.put(`</div><label for="text" class="hidden">Text</label><textarea id="text" rows="4" required placeholder="What is to be translated"></textarea><p class="bar"><button>Translate</button> <span class="soft">or Ctrl and Enter</span></p></form>
<div id="answers" class="answers"></div><p id="announce" role="status" class="hidden"></p>`)
	})
}
