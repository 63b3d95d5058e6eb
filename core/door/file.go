package door

import (
	"context"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/text/detect"
	"github.com/dragoman-mt/dragoman/core/text/format"
)

// Formats returns the endings of names of files that can be translated, sorted.
func Formats() []string { return format.Endings() }

// MostSegments is how many texts a file of a client may have.
const MostSegments = 20_000

// ReadFile reads a file that a client wants translated. The error says what is wrong with it,
// and where.
func ReadFile(name string, content []byte, source, target core.Language) (*format.Document, error) {
	of := format.Of(name)
	if of == "" {
		return nil, &core.Error{Kind: core.InvalidRequest, Field: "file", Detail: "the file's ending is of no known format: " + strings.Join(Formats(), " ")}
	}
	doc, err := format.Read(of, content, format.Options{Source: source, Target: target})
	if err != nil {
		return nil, &core.Error{Kind: core.InvalidRequest, Field: "file", Detail: err.Error()}
	}
	if len(doc.Segments) > MostSegments {
		return nil, &core.Error{Kind: core.TooLarge, Field: "file", Detail: "the file has more texts than are taken"}
	}
	return doc, nil
}

// LanguageOf guesses the language of the texts of doc; empty when that is not sure.
func LanguageOf(doc *format.Document) core.Language {
	var sample strings.Builder
	for i := range doc.Segments {
		if sample.Len() > 2000 {
			break
		}
		sample.WriteString(doc.Segments[i].Text + "\n")
	}
	if g := detect.Of(sample.String()); g.Sure() {
		return g.Language
	}
	return ""
}

const (
	// chunk is how many texts of a file are asked for at once, so that they may share a call
	// upstream, and chunks how many of those at the same time.
	chunk  = 40
	chunks = 2
)

// Fill asks for the texts of doc, which known has not. Requests makes those for some of them,
// and noted, which may be nil, hears of each text that was answered, from one goroutine at
// a time; its error ends the work. It returns the translations, in order, and whether all were
// cached: all of them or an error.
func (t *Teller) Fill(ctx context.Context, tab *Tab, doc *format.Document, known map[int]string, requests func(texts []string) []core.Request, noted func(i int, text string) error) (all []string, cached bool, err error) {
	all, cached = make([]string, len(doc.Segments)), true
	var left []int
	for i := range doc.Segments {
		if text, ok := known[i]; ok {
			all[i] = text
		} else if all[i] = doc.Segments[i].Text; detect.Letters(all[i]) {
			left = append(left, i)
		}
	}
	var mu sync.Mutex
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(chunks)
	for begin := 0; begin < len(left); begin += chunk {
		some := left[begin:min(begin+chunk, len(left))]
		group.Go(func() error {
			if ctx.Err() != nil {
				return core.ContextError(ctx, "door")
			}
			texts := make([]string, len(some))
			for k, i := range some {
				texts[k] = doc.Segments[i].Text
			}
			reqs := requests(texts)
			places := make(map[*core.Request]int, len(some))
			for k := range reqs {
				places[&reqs[k]] = some[k]
				if around := tab.rules.Around(doc.Segments[some[k]].Context); around != nil {
					reqs[k].Context = append(slices.Clone(reqs[k].Context), around...)
				}
			}
			for _, item := range Items(reqs, func(req *core.Request) Item {
				i := places[req]
				item := t.segment(ctx, tab, req, doc.Segments[i].Marks)
				if item.Err != nil {
					return item
				}
				mu.Lock()
				defer mu.Unlock()
				all[i] = item.Result.Text
				cached = cached && item.Result.Cached
				if noted != nil {
					if err := noted(i, all[i]); err != nil {
						return Item{Err: core.AsError(err, "door")}
					}
				}
				return item
			}) {
				if item.Err != nil {
					return item.Err
				}
			}
			return nil
		})
	}
	err = group.Wait()
	return all, cached, err
}

// segment asks for one text of a file: the whole first, and when its marks do not come back,
// the texts between them.
func (t *Teller) segment(ctx context.Context, tab *Tab, req *core.Request, m format.Marks) Item {
	pieces, join := []string{req.Text}, func(all []string) string { return all[0] }
	if m != format.NoMarks {
		pieces, join = m.Split(req.Text)
	}
	if len(pieces) != 1 {
		whole := t.Piece(ctx, tab, req)
		if whole.Err == nil && m.Same(req.Text, whole.Result.Text) || whole.Err != nil && !t.piecesMayDo(whole.Err) {
			return whole
		}
	} else if pieces[0] == req.Text {
		return t.Piece(ctx, tab, req)
	}
	if req.Batch != nil {
		req.Batch.Settle() // the pieces go on by themselves
	}
	reqs := make([]core.Request, len(pieces))
	for i, text := range pieces {
		reqs[i] = *req
		reqs[i].Text, reqs[i].Trace, reqs[i].Batch = text, nil, nil
	}
	out := core.Result{Cached: true}
	for i, item := range Items(reqs, func(req *core.Request) Item { return t.Piece(ctx, tab, req) }) {
		if item.Err != nil {
			return item
		}
		pieces[i] = item.Result.Text
		out.Cached = out.Cached && item.Result.Cached
	}
	out.Text = join(pieces)
	return Item{Result: &out}
}

// Written returns doc with translations in the places of its texts.
func Written(doc *format.Document, all []string) ([]byte, error) {
	content, err := doc.Write(func(i int) (string, bool) { return all[i], true })
	if err != nil {
		return nil, &core.Error{Kind: core.InvalidRequest, Field: "file", Detail: err.Error()}
	}
	return content, nil
}
