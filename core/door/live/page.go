package live

import (
	"net/http"

	"github.com/dragoman-mt/dragoman/core/door"
)

// page serves the page at /live.
func (d *Door) page(w http.ResponseWriter, r *http.Request) { door.NotFound(w, r) }
