package admin

import (
	"bytes"
	"fmt"
	"html"
	"net/url"
	"strings"
)

// A markup is HTML that grows. With html/template the linker would keep every method of
// every type, 5 MB of the program; here each value is escaped as it is put in, so formats
// hold the markup and values never do.
type markup struct{ bytes.Buffer }

// put adds format, with each value as text that stands for itself, in a text or in an
// attribute with double quotes round it.
func (m *markup) put(format string, values ...any) {
	for i, v := range values {
		switch v := v.(type) {
		case int, int64, float64, raw:
		case string:
			values[i] = html.EscapeString(v)
		default:
			values[i] = html.EscapeString(fmt.Sprint(v))
		}
	}
	fmt.Fprintf(m, format, values...)
}

// titles are what a table is called on the page, and its first column.
var titles = map[string][2]string{
	"REQUESTS": {"Requests", "period"}, "CHAIN": {"Chain", "stage"}, "LINE": {"Line", "queue"}, "POOL": {"Pool", "origin"}, "PROVIDER": {"Providers", "provider"},
	"ACCOUNT": {"Accounts", "account"}, "ROUTE": {"Routes", "route"}, "PLUGIN": {"Plugins", "program"}, "LIVE": {"Live sessions", "session"},
	"KEY": {"By key", "key"}, "DAY": {"By day", "day"}, "DOOR": {"By door", "door"}, "SESSION": {"By session", "session"},
}

// title is what t is called on the page, first what its first column holds, and id what it is
// called there in scripts.
func (t *Table) title() (title, first, id string) {
	name := t.Head[0].Title
	known, ok := titles[name]
	if !ok {
		known = [2]string{name, name}
	}
	return known[0], known[1], "t-" + strings.ToLower(name)
}

// table adds t as a section of its own. Button, when it is set, is what can be done about a
// row, by its first cell.
func (m *markup) table(t Table, button func(row []Cell)) {
	title, first, id := t.title()
	m.put(`<section class="panel"><h2 id="%s-h">%s</h2><div class="wide" role="region" aria-labelledby="%s-h" tabindex="0"><table id="%s" aria-labelledby="%s-h"><thead><tr><th scope="col">%s</th>`, id, title, id, id, id, first)
	for _, c := range t.Head[1:] {
		m.put(`<th scope="col"%s>%s</th>`, class(c.Words), c.Title)
	}
	if button != nil {
		m.put(`<th scope="col" class="w"><span class="hidden">action</span></th>`)
	}
	m.put("</tr></thead><tbody>")
	for _, row := range t.Rows {
		m.put(`<tr><th scope="row">%s</th>`, row[0].Text)
		for i, c := range row[1:] {
			m.put(`<td%s>`, class(t.Head[i+1].Words))
			if c.Bad {
				m.put(`<strong class="bad">%s</strong>`, c.Text)
			} else {
				m.put(`%s`, c.Text)
			}
			m.put("</td>")
		}
		if button != nil {
			m.put(`<td class="w">`)
			button(row)
			m.put("</td>")
		}
		m.put("</tr>")
	}
	m.put("</tbody></table></div></section>\n")
}

// raw is markup that is no value.
type raw string

// class is that of a column of words.
func class(words bool) raw {
	if words {
		return ` class="w"`
	}
	return ""
}

// segment is a name as a part of a path.
func segment(name string) string { return url.PathEscape(name) }

// verdict adds where scripts put what came of a button.
func (m *markup) verdict() {
	m.put(`<section class="panel" id="verdict" hidden><h2>What came of it</h2><pre role="status"></pre></section>` + "\n")
}
