package deepl

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"mime"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/door"
	"github.com/dragoman-mt/dragoman/core/files"
	"github.com/dragoman-mt/dragoman/core/text/format"
)

// Bounds of documents.
const (
	mostDocuments = 50               // that are kept at one time
	documentTime  = 10 * time.Minute // for the translation of one
	documentKept  = time.Hour        // for the client to fetch it
	mostParts     = 8 * format.MaxSize
)

// A document is one that a client sent. It is kept in files of its own until it is fetched, so
// that a gateway that is started again goes on with it: what it is, what it holds, what was
// answered of it, and what became of it.
type document struct {
	ID         string    `json:"id"`
	Key        string    `json:"key"`
	Client     string    `json:"client"`
	Name       string    `json:"name"` // of the file that comes back
	Characters int64     `json:"characters"`
	Since      time.Time `json:"since"`

	Source       core.Language  `json:"source"`
	Target       core.Language  `json:"target"`
	Formality    core.Formality `json:"formality,omitempty"`
	Instructions []string       `json:"instructions,omitempty"`
	Ignored      bool           `json:"ignored,omitempty"`
	Glossaries   []string       `json:"glossaries,omitempty"` // their ids

	// Guarded by desk.mu.
	Status  string `json:"status"` // translating, done or error
	Failure string `json:"failure,omitempty"`

	content, result []byte // of one that is kept in memory alone
}

// A desk holds the documents of all clients: a client fetches each once.
type desk struct {
	folder string // empty: in memory alone
	ctx    context.Context
	end    context.CancelFunc
	work   sync.WaitGroup

	mu   sync.Mutex
	docs map[string]*document
}

// newDesk takes what folder holds. A document that cannot be read stays where it is.
func newDesk(folder string, log *zap.Logger) *desk {
	ctx, end := context.WithCancel(context.Background())
	k := &desk{folder: folder, ctx: ctx, end: end, docs: map[string]*document{}}
	if folder == "" {
		return k
	}
	names, err := filepath.Glob(filepath.Join(folder, "*.json"))
	if err != nil {
		log.Warn("documents cannot be listed", zap.Error(err))
	}
	for _, name := range names {
		raw, err := os.ReadFile(name)
		doc := new(document)
		if err == nil {
			err = json.Unmarshal(raw, doc)
		}
		if err == nil && doc.ID+".json" != filepath.Base(name) {
			err = errors.New("it is not the document that its name says")
		}
		if err != nil {
			log.Warn("a document cannot be read, and is left where it is", zap.String("file", name), zap.Error(err))
			continue
		}
		k.docs[doc.ID] = doc
	}
	return k
}

// Resume goes on with the documents that a former process has begun. It is called once the
// gateway serves.
func (d *Door) Resume() {
	d.desk.mu.Lock()
	defer d.desk.mu.Unlock()
	for _, doc := range d.desk.docs {
		if doc.Status == "translating" {
			d.desk.work.Go(func() { d.resume(doc) })
		}
	}
}

func (d *Door) resume(doc *document) {
	c := &door.Call{Begin: time.Now(), ID: door.NewID(), Client: doc.Client, Rules: d.Service.Rules().Within(documentTime)}
	w := wish{source: doc.Source, target: doc.Target, formality: doc.Formality, instructions: doc.Instructions, ignored: doc.Ignored}
	w.glossaries = doc.Glossaries
	if err := d.consult(c, w); err != nil {
		d.desk.finish(doc, nil, err)
		return
	}
	content, err := d.desk.read(doc, ".in")
	if err != nil {
		d.desk.finish(doc, nil, &core.Error{Kind: core.Internal, Stage: "door", Cause: err})
		return
	}
	parsed, err := door.ReadFile(doc.Name, content, doc.Source, doc.Target)
	if err != nil {
		d.desk.finish(doc, nil, err)
		return
	}
	tab := new(door.Tab)
	if err := tab.Open(context.Background(), &d.Teller, c.Rules, c.Client, c.Begin, doc.Characters); err != nil {
		d.desk.finish(doc, nil, err)
		return
	}
	d.work(c, w, doc, parsed, tab)
}

// Close ends the translation of documents and waits for it. Those that are kept in files go
// on when the gateway is started again.
func (d *Door) Close() {
	d.desk.end()
	d.desk.work.Wait()
}

func (k *desk) path(doc *document, ending string) string {
	return filepath.Join(k.folder, doc.ID+ending)
}

func (k *desk) read(doc *document, ending string) ([]byte, error) {
	if k.folder != "" {
		return os.ReadFile(k.path(doc, ending))
	}
	if ending == ".in" {
		return doc.content, nil
	}
	return doc.result, nil
}

// write keeps content of doc in a file that is there whole or not at all.
func (k *desk) write(doc *document, ending string, content []byte) error {
	if k.folder == "" {
		if ending == ".in" {
			doc.content = content
		} else if ending == ".out" {
			doc.result = content
		}
		return nil
	}
	return files.Replace(k.path(doc, ending), content, 0o600)
}

// note writes what doc is now. The caller holds mu.
func (k *desk) note(doc *document) error {
	raw, err := json.Marshal(doc)
	if err != nil {
		return err
	}
	return k.write(doc, ".json", raw)
}

// drop forgets doc. The caller holds mu.
func (k *desk) drop(doc *document) {
	delete(k.docs, doc.ID)
	if k.folder == "" {
		return
	}
	for _, ending := range []string{".json", ".in", ".part", ".out"} { // what names the others goes first
		_ = os.Remove(k.path(doc, ending)) // some are not there
	}
}

// put adds doc, which holds content, in place of what nobody fetched for too long.
func (k *desk) put(doc *document, content []byte) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, old := range k.docs {
		if old.Status != "translating" && time.Since(old.Since) > documentKept {
			k.drop(old)
		}
	}
	if len(k.docs) >= mostDocuments {
		return &core.Error{Kind: core.Overloaded, Stage: "door", Detail: "more documents are kept than there is room for", Retryable: true, RetryAfter: time.Minute}
	}
	var err error
	if k.folder != "" {
		err = os.MkdirAll(k.folder, 0o700)
	}
	if err == nil {
		err = k.write(doc, ".in", content)
	}
	if err == nil {
		err = k.note(doc)
	}
	if err != nil {
		k.drop(doc)
		return &core.Error{Kind: core.Internal, Stage: "door", Detail: "the document could not be stored", Cause: err}
	}
	k.docs[doc.ID] = doc
	return nil
}

// finish notes what became of doc. One whose work ended with the gateway goes on with the
// next one.
func (k *desk) finish(doc *document, result []byte, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err != nil && k.ctx.Err() != nil {
		return
	}
	doc.Status = "done"
	if err == nil {
		err = k.write(doc, ".out", result)
	}
	if err != nil {
		doc.Status, doc.Failure = "error", door.Message(err)
	}
	_ = k.note(doc) // else the next process does it again
	if k.folder != "" {
		_ = os.Remove(k.path(doc, ".part"))
	}
}

// take returns a document as it is now, and its content if result says so and it is done:
// then it is taken away.
func (k *desk) take(client, id, key string, result bool) (doc document, content []byte, ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	kept := k.docs[id]
	if kept == nil || kept.Client != client || subtle.ConstantTimeCompare([]byte(kept.Key), []byte(key)) != 1 {
		return document{}, nil, false
	}
	doc = *kept
	if result && doc.Status == "done" {
		var err error
		if content, err = k.read(kept, ".out"); err != nil {
			return document{}, nil, false
		}
		k.drop(kept)
	}
	return doc, content, true
}

// document takes a document and begins to translate it.
func (d *Door) document(w http.ResponseWriter, r *http.Request, c *door.Call) {
	file, ok := c.Params.File("file")
	name := file.Name
	if given := c.Params.Tag("filename"); given != "" {
		name = given
	}
	name = filepath.Base(filepath.Clean("/" + name))
	wish, err := d.wish(c)
	switch {
	case !ok || len(file.Content) == 0:
		d.bad(w, r, c, "Invalid file data.")
		return
	case err != nil:
		d.fail(w, r, c, err)
		return
	case wish.source == wish.target:
		d.bad(w, r, c, "Source and target language are equal.")
		return
	}
	parsed, err := door.ReadFile(name, file.Content, wish.source, wish.target)
	if err != nil {
		if e := core.AsError(err, "door"); e.Kind == core.InvalidRequest {
			d.bad(w, r, c, "Invalid file data. "+e.Detail)
			return
		}
		d.fail(w, r, c, err)
		return
	}
	c.Rules = c.Rules.Within(documentTime)
	doc := &document{
		ID: random(16), Key: random(32), Client: c.Client, Name: name, Characters: parsed.Characters, Since: time.Now(), Status: "translating",
		Source: wish.source, Target: wish.target, Formality: wish.formality, Instructions: wish.instructions, Ignored: wish.ignored, Glossaries: wish.glossaries,
	}
	tab := new(door.Tab)
	if err := tab.Open(context.Background(), &d.Teller, c.Rules, c.Client, c.Begin, doc.Characters); err != nil {
		d.fail(w, r, c, err)
		return
	}
	if err := d.desk.put(doc, file.Content); err != nil {
		tab.Close()
		d.fail(w, r, c, err)
		return
	}
	d.desk.work.Go(func() { d.work(c, wish, doc, parsed, tab) })
	door.WriteJSON(w, http.StatusOK, map[string]string{"document_id": doc.ID, "document_key": doc.Key})
}

// work translates doc, beginning where a former process stopped.
func (d *Door) work(c *door.Call, wish wish, doc *document, parsed *format.Document, tab *door.Tab) {
	ctx, cancel := context.WithTimeout(d.desk.ctx, documentTime)
	defer cancel()
	defer tab.Close()
	known, noted, done, err := d.desk.progress(doc, len(parsed.Segments))
	if err != nil {
		d.desk.finish(doc, nil, &core.Error{Kind: core.Internal, Stage: "door", Cause: err})
		return
	}
	defer done()
	all, cached, err := d.Fill(ctx, tab, parsed, known, func(texts []string) []core.Request { return d.requests(c, wish, texts) }, noted)
	var content []byte
	if err == nil {
		content, err = door.Written(parsed, all)
	}
	if err == nil {
		tab.Answered(doc.Characters, cached && len(known) == 0)
		tab.Settle()
	}
	d.desk.finish(doc, content, err)
}

// A part is what one text of a document became, a line of a file.
type part struct {
	Place int    `json:"i"`
	Text  string `json:"t"`
}

// progress returns what was answered of doc, and who notes what is.
func (k *desk) progress(doc *document, texts int) (known map[int]string, noted func(int, string) error, done func(), err error) {
	if k.folder == "" {
		return nil, nil, func() {}, nil
	}
	journal, parts, err := files.OpenJournal[part](k.path(doc, ".part"), mostParts)
	if err != nil {
		return nil, nil, nil, err
	}
	known = map[int]string{}
	for _, p := range parts {
		if p.Place >= 0 && p.Place < texts {
			known[p.Place] = p.Text
		}
	}
	noted = func(i int, text string) error {
		if err := journal.Add(part{i, text}); err != nil {
			return &core.Error{Kind: core.Internal, Stage: "door", Detail: "what was answered could not be stored", Cause: err}
		}
		return nil
	}
	return known, noted, func() { journal.Close() }, nil
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

// documents serves the status and the result of a document.
func (d *Door) documents(w http.ResponseWriter, r *http.Request, c *door.Call, path string) {
	id, result := strings.CutSuffix(path, "/result")
	doc, content, ok := d.desk.take(c.Client, id, c.Params.Tag("document_key"), result)
	if !ok {
		d.fail(w, r, c, &core.Error{Kind: core.NotFound, Detail: "Document not found"})
		return
	}
	switch {
	case !result:
		status := map[string]any{"document_id": doc.ID, "status": doc.Status}
		switch doc.Status {
		case "translating":
			status["seconds_remaining"] = 1
		case "done":
			status["billed_characters"] = doc.Characters
		case "error":
			status["error_message"], status["message"] = doc.Failure, doc.Failure
		}
		door.WriteJSON(w, http.StatusOK, status)
	case doc.Status != "done":
		// The libraries take this for a document that is not there yet.
		d.Failed(r, c.ID, c.Client, c.Begin, errNotDone)
		door.WriteJSON(w, http.StatusServiceUnavailable, map[string]string{"message": "Document translation is not done"})
	default:
		w.Header().Set("Content-Type", mime.TypeByExtension(filepath.Ext(doc.Name)))
		w.Header().Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": doc.Name}))
		w.Header().Set("X-Content-Type-Options", "nosniff")
		_, _ = w.Write(content) // a client that has left gets nothing
	}
}

var errNotDone = &core.Error{Kind: core.NotFound, Detail: "the document is not done", Cause: errors.New("it was fetched too early")}

func random(bytes int) string {
	b := make([]byte, bytes)
	rand.Read(b)
	return hex.EncodeToString(b)
}
