package libretranslate

import (
	"crypto/rand"
	"mime"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"golang.org/x/sync/errgroup"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/door"
	"github.com/dragoman-mt/dragoman/core/text/detect"
)

// Bounds of files.
const (
	fileTime     = 5 * time.Minute // for the translation of one: its client waits
	fileKept     = time.Hour       // for the client to fetch it
	mostFiles    = 50              // that are kept at one time; of more the oldest go
	mostSegments = 20_000          // texts of one
	together     = 8               // of them at the same time
)

// A shelf keeps translated files in memory, under names that nobody can guess. The zero
// value is ready; it is safe for concurrent use.
type shelf struct {
	mu    sync.Mutex
	files map[string]translated
}

type translated struct {
	content string
	since   time.Time
}

// put keeps content and returns the name under which it is.
func (s *shelf) put(name, content string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.files == nil {
		s.files = map[string]translated{}
	}
	now, oldest := time.Now(), ""
	for n, f := range s.files {
		if now.Sub(f.since) > fileKept {
			delete(s.files, n)
		} else if oldest == "" || f.since.Before(s.files[oldest].since) {
			oldest = n
		}
	}
	if len(s.files) >= mostFiles {
		delete(s.files, oldest)
	}
	name = strings.ToLower(rand.Text()) + "." + name
	s.files[name] = translated{content, now}
	return name
}

func (s *shelf) get(name string) (content string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, ok := s.files[name]
	return f.content, ok && time.Since(f.since) <= fileKept
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
			d.wrong(w, c, core.InvalidRequest, "Invalid request: missing "+f.name+" parameter")
			return
		}
	}
	file, ok := p.File("file")
	if !ok {
		d.wrong(w, c, core.InvalidRequest, "Invalid request: missing file parameter")
		return
	}
	if file.Name == "" || len(file.Content) == 0 {
		d.wrong(w, c, core.InvalidRequest, "Invalid request: empty file")
		return
	}
	called := filepath.Base(filepath.Clean("/" + file.Name))
	format := door.FormatOf(called)
	if format == nil {
		d.wrong(w, c, core.InvalidRequest, "Invalid request: file format not supported")
		return
	}
	if !utf8.Valid(file.Content) {
		d.wrong(w, c, core.InvalidRequest, "Invalid request: the file is not UTF-8")
		return
	}
	content, offer := string(file.Content), c.Rules.Offer()
	from := core.Language("")
	if strings.EqualFold(source, "auto") {
		if g := detect.Of(content); g.Sure() {
			from = g.Language
		}
	} else if from, ok = d.language(source, sources(offer)); !ok {
		d.wrong(w, c, core.UnsupportedLanguage, source+" is not supported")
		return
	}
	to, ok := d.language(target, offer.Targets)
	if !ok {
		d.wrong(w, c, core.UnsupportedLanguage, target+" is not supported")
		return
	}
	texts, join := format(content)
	if len(texts) > mostSegments {
		d.wrong(w, c, core.TooLarge, "Invalid request: request ("+strconv.Itoa(len(texts))+") exceeds text limit ("+strconv.Itoa(mostSegments)+")")
		return
	}
	if err := d.fill(r, c, texts, from, to); err != nil {
		refuse(w, r, err)
		return
	}
	scheme := "http"
	if r.Header.Get("X-Forwarded-Proto") == "https" {
		scheme = "https"
	}
	at := url.URL{Scheme: scheme, Host: r.Host, Path: "/download_file/" + d.shelf.put(called, join(texts))}
	door.WriteJSON(w, http.StatusOK, map[string]string{"translatedFileUrl": at.String()})
	d.Journal.Served(name, c.ID, c.Client, http.StatusOK, len(texts), time.Since(c.Begin))
}

// fill puts translations into the places of texts, some at a time: all of them or none.
func (d *Door) fill(r *http.Request, c *door.Call, texts []string, from, to core.Language) error {
	ctx, cancel := c.Context(r.Context())
	defer cancel()
	reqs := c.Requests(texts, from, to, 0)
	tab, err := c.Open(&d.Teller, reqs)
	if err != nil {
		d.Failed(c.ID, c.Begin, err)
		return err
	}
	defer tab.Close()
	items := make([]door.Item, len(reqs))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(together)
	for i := range reqs {
		reqs[i].Lane = core.LaneBulk
		group.Go(func() error {
			if !detect.Letters(reqs[i].Text) {
				items[i] = tab.AsItIs(&reqs[i])
			} else if items[i] = d.One(ctx, tab, &reqs[i]); items[i].Err != nil {
				return items[i].Err
			}
			texts[i] = items[i].Result.Text
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if err := tab.Whole(items); err != nil {
		return err
	}
	return nil
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
	_, _ = w.Write([]byte(content)) // a client that has left gets nothing
}
