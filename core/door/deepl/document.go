package deepl

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"mime"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"golang.org/x/sync/errgroup"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/door"
)

// Bounds of documents.
const (
	mostDocuments = 50               // that are kept at one time
	documentTime  = 10 * time.Minute // for the translation of one
	documentKept  = time.Hour        // for the client to fetch it
	mostSegments  = 20_000           // texts of one
	together      = 8                // of them at the same time
)

// A document is one that a client sent. What is fixed comes first.
type document struct {
	id, key, client string
	name, kind      string // of the file that comes back
	characters      int    // of the file
	since           time.Time

	// Guarded by desk.mu.
	status  string // translating, done or error
	failure string
	content string
}

// A desk holds the documents of all clients, in memory: a client fetches each once.
type desk struct {
	ctx  context.Context
	end  context.CancelFunc
	work sync.WaitGroup

	mu   sync.Mutex
	docs map[string]*document
}

func newDesk() *desk {
	ctx, end := context.WithCancel(context.Background())
	return &desk{ctx: ctx, end: end, docs: map[string]*document{}}
}

// Close ends the translation of documents and waits for it.
func (d *Door) Close() {
	d.desk.end()
	d.desk.work.Wait()
}

// put adds doc, in place of what nobody fetched for too long. False when there is no
// room.
func (k *desk) put(doc *document) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	for id, old := range k.docs {
		if old.status != "translating" && time.Since(old.since) > documentKept {
			delete(k.docs, id)
		}
	}
	if len(k.docs) >= mostDocuments {
		return false
	}
	k.docs[doc.id] = doc
	return true
}

// take returns a document as it is now. One that is done is taken away with its result.
func (k *desk) take(client, id, key string, result bool) (document, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	doc := k.docs[id]
	if doc == nil || doc.client != client || doc.key != key {
		return document{}, false
	}
	if result && doc.status == "done" {
		delete(k.docs, id)
	}
	return *doc, true
}

// document takes a document and begins to translate it.
func (d *Door) document(w http.ResponseWriter, r *http.Request, c *door.Call) {
	file, ok := c.Params.File("file")
	name := file.Name
	if given := c.Params.Tag("filename"); given != "" {
		name = given
	}
	name = filepath.Base(filepath.Clean("/" + name))
	split := door.FormatOf(name)
	if !ok || split == nil || len(file.Content) == 0 || !utf8.Valid(file.Content) {
		d.bad(w, r, c, "Invalid file data.")
		return
	}
	wish, err := d.wish(c)
	if err != nil {
		d.fail(w, r, c, err)
		return
	}
	if wish.source == wish.target {
		d.bad(w, r, c, "Source and target language are equal.")
		return
	}
	segments, join := split(string(file.Content))
	if len(segments) > mostSegments {
		d.fail(w, r, c, &core.Error{Kind: core.TooLarge, Detail: "The document has more lines or pieces of text than are taken"})
		return
	}
	c.Rules = c.Rules.Within(documentTime)
	reqs := d.requests(c, wish, segments)
	n := utf8.RuneCount(file.Content)
	tab := new(door.Tab)
	err = tab.Open(&d.Teller, c.Rules, c.Client, c.Begin, int64(n))
	if err != nil {
		d.fail(w, r, c, err)
		return
	}
	doc := &document{
		id: random(16), key: random(32), client: c.Client, name: name, kind: mime.TypeByExtension(filepath.Ext(name)),
		characters: n, since: time.Now(), status: "translating",
	}
	if !d.desk.put(doc) {
		tab.Close()
		d.fail(w, r, c, &core.Error{Kind: core.Overloaded, Stage: "door", Detail: "more documents are kept than there is room for", Retryable: true, RetryAfter: time.Minute})
		return
	}
	d.desk.work.Go(func() {
		ctx, cancel := context.WithTimeout(d.desk.ctx, documentTime)
		defer cancel()
		defer tab.Close()
		cached, err := d.fill(ctx, tab, reqs, segments)
		if err == nil {
			tab.Answered(int64(n), cached)
			tab.Settle()
		}
		d.desk.mu.Lock()
		defer d.desk.mu.Unlock()
		if err != nil {
			doc.status, doc.failure = "error", door.Message(err)
			return
		}
		doc.status, doc.content = "done", join(segments)
	})
	door.WriteJSON(w, http.StatusOK, map[string]string{"document_id": doc.id, "document_key": doc.key})
}

// requests are those for the texts of a document.
func (d *Door) requests(c *door.Call, wish wish, segments []string) []core.Request {
	reqs := c.Requests(segments, wish.source, wish.target, 0)
	wish.put(reqs)
	for i := range reqs {
		reqs[i].Lane = core.LaneBulk
	}
	return reqs
}

// fill puts translations into the places of segments, some at a time, and says whether
// all were cached.
func (d *Door) fill(ctx context.Context, tab *door.Tab, reqs []core.Request, segments []string) (cached bool, err error) {
	var called atomic.Bool
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(together)
	for i := range reqs {
		group.Go(func() error {
			item := d.Piece(ctx, tab, &reqs[i])
			if item.Err != nil {
				return item.Err
			}
			segments[i] = item.Result.Text
			if !item.Result.Cached {
				called.Store(true)
			}
			return nil
		})
	}
	err = group.Wait()
	return !called.Load(), err
}

// documents serves the status and the result of a document.
func (d *Door) documents(w http.ResponseWriter, r *http.Request, c *door.Call, path string) {
	id, result := strings.CutSuffix(path, "/result")
	doc, ok := d.desk.take(c.Client, id, c.Params.Tag("document_key"), result)
	if !ok {
		d.fail(w, r, c, &core.Error{Kind: core.NotFound, Detail: "Document not found"})
		return
	}
	switch {
	case !result:
		status := map[string]any{"document_id": doc.id, "status": doc.status}
		switch doc.status {
		case "translating":
			status["seconds_remaining"] = 1
		case "done":
			status["billed_characters"] = doc.characters
		case "error":
			status["error_message"], status["message"] = doc.failure, doc.failure
		}
		door.WriteJSON(w, http.StatusOK, status)
	case doc.status != "done":
		// The libraries take this for a document that is not there yet.
		d.Failed(c.ID, c.Begin, errNotDone)
		door.WriteJSON(w, http.StatusServiceUnavailable, map[string]string{"message": "Document translation is not done"})
	default:
		w.Header().Set("Content-Type", doc.kind)
		w.Header().Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": doc.name}))
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Write([]byte(doc.content))
	}
}

var errNotDone = &core.Error{Kind: core.NotFound, Detail: "the document is not done", Cause: errors.New("it was fetched too early")}

func random(bytes int) string {
	b := make([]byte, bytes)
	rand.Read(b)
	return hex.EncodeToString(b)
}
