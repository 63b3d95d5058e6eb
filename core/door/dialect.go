package door

import (
	"net/http"
	"time"
)

// A Dialect is one inbound protocol, as far as package door has to know it: which
// calls are its own, and how those are answered that come no further than here. The
// rest, such as the shape of its errors, is between a dialect and its clients.
type Dialect struct {
	// Name is what logs and metrics call it.
	Name string
	// Takes says whether a call is its own. Nil takes every one that is left.
	Takes func(*http.Request) bool
	// Serve answers its calls.
	Serve http.Handler
	// Refuse answers a call that is turned away before Serve, in the words of the
	// dialect. Nil is WriteError.
	Refuse func(http.ResponseWriter, *http.Request, error)
	// Deadline is the longest that a call may take; nil for server.deadline.
	Deadline func() time.Duration
	// Pages says which web pages may call.
	Pages Pages
}

// Pages are the web pages that may call a door.
type Pages uint8

const (
	// Listed are those of server.origins.
	Listed Pages = iota
	// Keyed are, besides those, all that show a key of a client in a header: a page
	// that has none can do nothing.
	Keyed
	// Every page may call, as the protocol promises.
	Every
)

// Doors are the dialects of one gateway. A call goes to the first that takes it.
type Doors []Dialect

// of returns the dialect of a call, or nil.
func (d Doors) of(r *http.Request) *Dialect {
	for i := range d {
		if d[i].Takes == nil || d[i].Takes(r) {
			return &d[i]
		}
	}
	return nil
}

func (d Doors) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if own := d.of(r); own != nil {
		own.Serve.ServeHTTP(w, r)
		return
	}
	NotFound(w, r)
}

// refuse answers a call that d has turned away. A nil d speaks as the native door.
func (d *Dialect) refuse(w http.ResponseWriter, r *http.Request, err error) {
	if d == nil || d.Refuse == nil {
		WriteError(w, r, err)
		return
	}
	d.Refuse(w, r, err)
}

// deadline is the longest that a call of d may take.
func (d *Dialect) deadline(rules *Rules) time.Duration {
	if d == nil || d.Deadline == nil {
		return rules.Deadline
	}
	return d.Deadline()
}

func (d *Dialect) pages() Pages {
	if d == nil {
		return Listed
	}
	return d.Pages
}
