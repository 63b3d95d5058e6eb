package door

import (
	"context"
	"html"
	"slices"
	"strings"
	"unicode/utf8"

	markup "golang.org/x/net/html"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/text/detect"
)

// A Markup is a text with tags. Its tags come back as they are, each in the order and
// the nesting that makes it well-formed.
type Markup struct {
	// XML says that entities other than its five are left as they are.
	XML bool
	// Ignore are names of elements whose content comes back as it is.
	Ignore []string
	// Splitting are names of tags that no text goes across: what stands between two of
	// them is asked for by itself.
	Splitting []string
}

// A fragment of a marked-up text is markup, or text between two tags.
type fragment struct {
	raw       string
	tag       bool // it is markup, or ignored
	splits    bool // it is a splitting tag
	open, end string
}

// pieces splits text. What it returns, put together, is text.
func (m Markup) pieces(text string) (all []fragment) {
	z := markup.NewTokenizer(strings.NewReader(text))
	ignored, depth := "", 0
	for {
		kind := z.Next()
		raw := string(z.Raw())
		if kind == markup.ErrorToken {
			if raw != "" {
				all = append(all, fragment{raw: raw, tag: true})
			}
			return all
		}
		p := fragment{raw: raw, tag: kind != markup.TextToken || ignored != ""}
		if kind == markup.StartTagToken || kind == markup.EndTagToken || kind == markup.SelfClosingTagToken {
			token := z.Token()
			p.splits = ignored == "" && hasTag(m.Splitting, token.Data)
			switch {
			case kind == markup.StartTagToken && !void[token.Data]:
				p.open = token.Data
			case kind == markup.EndTagToken:
				p.end = token.Data
			}
			switch {
			case ignored == "" && p.open != "" && m.ignores(token):
				ignored, depth = p.open, 1
			case ignored != "" && p.open == ignored:
				depth++
			case ignored != "" && p.end == ignored:
				if depth--; depth == 0 {
					ignored = ""
				}
			}
		}
		all = append(all, p)
	}
}

// void are the elements without an end (WHATWG HTML standard, section 13.1.2).
var void = map[string]bool{
	"area": true, "base": true, "br": true, "col": true, "embed": true, "hr": true, "img": true, "input": true, "link": true, "meta": true,
	"source": true, "track": true, "wbr": true,
}

// hasTag says whether list names tag, of which the tokenizer has made small letters.
func hasTag(list []string, tag string) bool {
	return slices.ContainsFunc(list, func(name string) bool { return strings.EqualFold(name, tag) })
}

// ignores says whether the content of an element is not to be translated.
func (m Markup) ignores(token markup.Token) bool {
	if hasTag(m.Ignore, token.Data) || !m.XML && (token.Data == "script" || token.Data == "style") {
		return true
	}
	for _, a := range token.Attr {
		if a.Key == "translate" && a.Val == "no" || a.Key == "class" && slices.Contains(strings.Fields(a.Val), "notranslate") {
			return true
		}
	}
	return false
}

// same says whether answer has the tags of text, and what is ignored in it, and is
// nested as well.
func (m Markup) same(text, answer string) bool {
	var want, got, open []string
	for _, p := range m.pieces(text) {
		if p.tag {
			want = append(want, p.raw)
		}
	}
	for _, p := range m.pieces(answer) {
		if !p.tag {
			continue
		}
		got = append(got, p.raw)
		switch {
		case p.open != "":
			open = append(open, p.open)
		case p.end != "" && (len(open) == 0 || open[len(open)-1] != p.end):
			return false
		case p.end != "":
			open = open[:len(open)-1]
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	return len(open) == 0 && slices.Equal(want, got)
}

// OneMarked asks for a text with markup. The whole is asked for first, since a
// sentence makes more sense than its pieces; when its tags do not come back, the text
// between two tags is asked for by itself, so that the tags are in their places by
// construction.
func (t *Teller) OneMarked(ctx context.Context, tab *Tab, req *core.Request, m Markup) Item {
	item := t.marked(ctx, tab, req, m)
	if item.Err == nil {
		tab.Answered(int64(utf8.RuneCountInString(req.Text)), item.Result.Cached)
	}
	return item
}

func (t *Teller) marked(ctx context.Context, tab *Tab, req *core.Request, m Markup) Item {
	all := m.pieces(req.Text)
	if slices.ContainsFunc(all, func(p fragment) bool { return p.splits }) {
		return t.sections(ctx, tab, req, m, all)
	}
	tags, texts := 0, 0
	for _, p := range all {
		switch {
		case p.tag:
			tags++
		case detect.Letters(p.raw):
			texts++
		}
	}
	if texts == 0 {
		return Item{Result: &core.Result{Text: req.Text}}
	}
	if tags > 0 && tags <= mostTags && texts > 1 {
		own := *req
		own.Markup, own.OnDelta = &core.Markup{XML: m.XML, Ignore: m.Ignore}, nil
		whole := t.Piece(ctx, tab, &own)
		if whole.Err == nil && m.same(req.Text, whole.Result.Text) || whole.Err != nil && !t.piecesMayDo(whole.Err) {
			return whole
		}
	}
	pieces, join := m.Split(req.Text)
	reqs := make([]core.Request, len(pieces))
	for i, text := range pieces {
		reqs[i] = *req
		reqs[i].Text, reqs[i].Trace, reqs[i].OnDelta = text, nil, nil
	}
	items := Items(reqs, func(req *core.Request) Item { return t.Piece(ctx, tab, req) })
	for _, it := range items {
		if it.Err != nil {
			return Item{Err: it.Err, Took: items[0].Took}
		}
	}
	out := *items[0].Result
	for i, it := range items {
		pieces[i] = it.Result.Text
		out.Cached = out.Cached && it.Result.Cached
	}
	out.Text = join(pieces)
	return Item{Result: &out, Took: items[0].Took}
}

// sections asks for what stands between splitting tags, each part with the tags in it.
func (t *Teller) sections(ctx context.Context, tab *Tab, req *core.Request, m Markup, all []fragment) Item {
	m.Splitting = nil
	var parts []string
	var at []int // which of them are asked for
	letters := false
	for i, p := range all {
		if p.splits || i == 0 || all[i-1].splits {
			parts, letters = append(parts, ""), false
		}
		parts[len(parts)-1] += p.raw
		if !p.tag && !letters && detect.Letters(p.raw) {
			at, letters = append(at, len(parts)-1), true
		}
	}
	if len(at) == 0 {
		return Item{Result: &core.Result{Text: req.Text}}
	}
	if req.Batch != nil {
		req.Batch.Settle() // the parts go on by themselves
	}
	seats := core.NewSeats(len(at))
	reqs := make([]core.Request, len(at))
	for i, part := range at {
		reqs[i] = *req
		reqs[i].Text, reqs[i].Trace, reqs[i].OnDelta, reqs[i].Batch = parts[part], nil, nil, nil
		if seats != nil {
			reqs[i].Batch = seats[i]
		}
	}
	items := Items(reqs, func(req *core.Request) Item {
		if req.Batch != nil {
			defer req.Batch.Settle()
		}
		return t.marked(ctx, tab, req, m)
	})
	out := core.Result{Cached: true}
	for i, it := range items {
		if it.Err != nil {
			return Item{Err: it.Err, Took: items[0].Took}
		}
		if i == 0 {
			out = *it.Result
		}
		out.Cached = out.Cached && it.Result.Cached
		for _, flag := range it.Result.Flags {
			if !slices.Contains(out.Flags, flag) {
				out = *out.WithFlag(flag)
			}
		}
		parts[at[i]] = it.Result.Text
	}
	out.Text = strings.Join(parts, "")
	return Item{Result: &out, Took: items[0].Took}
}

// mostTags is how many tags a text may have that is asked for as a whole.
const mostTags = 500

// Split returns the texts between tags that have something to translate, and what puts
// their translations into the places where they were.
func (m Markup) Split(text string) (pieces []string, join func([]string) string) {
	all := m.pieces(text)
	var at []int
	for i, p := range all {
		if !p.tag && detect.Letters(p.raw) {
			pieces, at = append(pieces, html.UnescapeString(p.raw)), append(at, i)
		}
	}
	return pieces, func(translations []string) string {
		for i, translation := range translations {
			all[at[i]].raw = escape(translation)
		}
		var b strings.Builder
		for _, p := range all {
			b.WriteString(p.raw)
		}
		return b.String()
	}
}

// piecesMayDo says whether a text that failed as a whole may come back in pieces.
func (t *Teller) piecesMayDo(err *core.Error) bool { return err.Kind == core.BadAnswer }

var escape = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace
