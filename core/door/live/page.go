package live

import (
	"embed"
	"io/fs"
	"net/http"
	"strings"

	"github.com/dragoman-mt/dragoman/core/door"
)

//go:embed page
var files embed.FS

// page serves the page at /live, which asks nobody but this gateway.
func (d *Door) page(w http.ResponseWriter, r *http.Request) {
	if !door.Allow(w, r, http.MethodGet) {
		return
	}
	kind := map[string]string{"index.html": "text/html; charset=utf-8", "live.css": "text/css; charset=utf-8", "live.js": "text/javascript; charset=utf-8"}
	name := strings.TrimPrefix(strings.TrimPrefix(r.URL.Path, "/live"), "/")
	if name == "" {
		name = "index.html"
	}
	raw, err := fs.ReadFile(files, "page/"+name)
	if err != nil || kind[name] == "" {
		door.NotFound(w, r)
		return
	}
	h := w.Header()
	h.Set("Content-Type", kind[name])
	h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self' ws: wss:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-cache")
	if r.Method == http.MethodHead {
		return
	}
	w.Write(raw) // the client may have left
}
