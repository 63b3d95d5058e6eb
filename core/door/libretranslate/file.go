package libretranslate

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"mime"
	"net/http"
	"net/url"
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

// Bounds of files.
const (
	fileTime  = 5 * time.Minute // for the translation of one: its client waits
	fileKept  = time.Hour       // for the client to fetch it
	mostFiles = 50              // that are kept at one time; of more the oldest go
)

// A shelf keeps translated files under names that nobody can guess: each in a file of
// folder, so that a link that was given holds when the gateway is started again. It is safe for
// concurrent use.
type shelf struct {
	folder string // empty: in memory alone

	mu    sync.Mutex
	files map[string]translated
}

type translated struct {
	content []byte // nil for one in the folder
	since   time.Time
}

// newShelf takes what folder holds.
func newShelf(folder string, log *zap.Logger) *shelf {
	s := &shelf{folder: folder, files: map[string]translated{}}
	if folder == "" {
		return s
	}
	all, err := os.ReadDir(folder)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		log.Warn("translated files cannot be listed", zap.Error(err))
	}
	for _, e := range all {
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() && !strings.HasPrefix(e.Name(), ".") {
			s.files[e.Name()] = translated{since: info.ModTime()}
		}
	}
	s.tidy()
	return s
}

// tidy drops what is too old. The caller holds mu, or is alone.
func (s *shelf) tidy() {
	for n, f := range s.files {
		if time.Since(f.since) > fileKept {
			s.drop(n)
		}
	}
}

func (s *shelf) drop(name string) {
	delete(s.files, name)
	if s.folder != "" {
		_ = os.Remove(filepath.Join(s.folder, name)) // it is not offered any more
	}
}

// put keeps content and returns the name under which it is.
func (s *shelf) put(name string, content []byte) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tidy()
	if len(s.files) >= mostFiles {
		oldest := ""
		for n, f := range s.files {
			if oldest == "" || f.since.Before(s.files[oldest].since) {
				oldest = n
			}
		}
		s.drop(oldest)
	}
	if len(name) > 100 {
		ext := filepath.Ext(name)
		name = strings.ToValidUTF8(name[:100-len(ext)], "") + ext
	}
	name = strings.ToLower(rand.Text()) + "." + name
	kept := translated{content: content, since: time.Now()}
	if s.folder != "" {
		if err := os.MkdirAll(s.folder, 0o700); err != nil {
			return "", err
		}
		if err := files.Replace(filepath.Join(s.folder, name), content, 0o600); err != nil {
			return "", err
		}
		kept.content = nil
	}
	s.files[name] = kept
	return name, nil
}

func (s *shelf) get(name string) (content []byte, ok bool) {
	s.mu.Lock()
	f, ok := s.files[name]
	s.mu.Unlock()
	if !ok || time.Since(f.since) > fileKept {
		return nil, false
	}
	if f.content != nil || s.folder == "" {
		return f.content, true
	}
	content, err := os.ReadFile(filepath.Join(s.folder, name))
	return content, err == nil
}

// translateFile translates a file and says where it can be fetched.
func (d *Door) translateFile(w http.ResponseWriter, r *http.Request) {
	c := d.receive(w, r)
	if c == nil {
		return
	}
	// The call may take longer than others of this door.
	_ = http.NewResponseController(w).SetWriteDeadline(c.Begin.Add(fileTime + 10*time.Second))
	c.Rules = c.Rules.Within(fileTime)
	p := c.Params
	source, target := p.Tag("source"), p.Tag("target")
	for _, f := range []struct{ name, value string }{{"source", source}, {"target", target}} {
		if f.value == "" {
			d.wrong(w, r, c, core.InvalidRequest, "Invalid request: missing "+f.name+" parameter")
			return
		}
	}
	file, ok := p.File("file")
	if !ok {
		d.wrong(w, r, c, core.InvalidRequest, "Invalid request: missing file parameter")
		return
	}
	if file.Name == "" || len(file.Content) == 0 {
		d.wrong(w, r, c, core.InvalidRequest, "Invalid request: empty file")
		return
	}
	called := filepath.Base(filepath.Clean("/" + file.Name))
	offer := c.Rules.Offer()
	from := core.Language("")
	if !strings.EqualFold(source, "auto") {
		if from, ok = d.language(source, sources(offer)); !ok {
			d.wrong(w, r, c, core.UnsupportedLanguage, source+" is not supported")
			return
		}
	}
	to, ok := d.language(target, offer.Targets)
	if !ok {
		d.wrong(w, r, c, core.UnsupportedLanguage, target+" is not supported")
		return
	}
	doc, err := door.ReadFile(called, file.Content, from, to)
	if err != nil {
		e := core.AsError(err, "door")
		if e.Detail = "Invalid request: " + e.Detail; format.Of(called) == "" {
			e.Detail = "Invalid request: file format not supported"
		}
		d.wrong(w, r, c, e.Kind, e.Detail)
		return
	}
	if from == "" {
		from = door.LanguageOf(doc)
	}
	content, err := d.fill(r, c, doc, doc.Characters, from, to)
	if err != nil {
		refuse(w, r, err)
		return
	}
	kept, err := d.shelf.put(called, content)
	if err != nil {
		err := &core.Error{Kind: core.Internal, Stage: "door", Cause: err}
		d.Failed(r, c.ID, c.Client, c.Begin, err)
		refuse(w, r, err)
		return
	}
	scheme := "http"
	if r.Header.Get("X-Forwarded-Proto") == "https" {
		scheme = "https"
	}
	at := url.URL{Scheme: scheme, Host: r.Host, Path: "/download_file/" + kept}
	door.WriteJSON(w, http.StatusOK, map[string]string{"translatedFileUrl": at.String()})
	d.Journal.Served(name, c.ID, c.Client, http.StatusOK, len(doc.Segments), time.Since(c.Begin))
}

// fill translates a file, which counts as so many characters: all of it or nothing.
func (d *Door) fill(r *http.Request, c *door.Call, doc *format.Document, characters int64, from, to core.Language) ([]byte, error) {
	ctx, cancel := c.Context(r.Context())
	defer cancel()
	tab := new(door.Tab)
	if err := tab.Open(ctx, &d.Teller, c.Rules, c.Client, c.Begin, characters); err != nil {
		d.Failed(r, c.ID, c.Client, c.Begin, err)
		return nil, err
	}
	defer tab.Close()
	all, cached, err := d.Fill(ctx, tab, doc, nil, func(texts []string) []core.Request {
		reqs := c.Requests(texts, from, to, 0)
		for i := range reqs {
			reqs[i].Lane = core.LaneBulk
		}
		return reqs
	}, nil)
	if err != nil {
		return nil, err
	}
	content, err := door.Written(doc, all)
	if err != nil {
		return nil, err
	}
	tab.Answered(characters, cached)
	tab.Settle()
	return content, nil
}

// download serves a file that was translated. Its name is what nobody else knows, so no
// key is asked for, as browsers follow the link.
func (d *Door) download(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimPrefix(r.URL.Path, "/download_file/")
	content, ok := d.shelf.get(name)
	if !ok {
		say(w, http.StatusNotFound, "404 Not Found")
		return
	}
	_, plain, _ := strings.Cut(name, ".")
	h := w.Header()
	h.Set("Content-Type", mime.TypeByExtension(filepath.Ext(name)))
	h.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": plain}))
	h.Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write(content) // a client that has left gets nothing
}
