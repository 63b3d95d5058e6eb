package live

import (
	"time"
	"unicode/utf8"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/live"
)

// A Recorded is one revision that a session took.
type Recorded struct {
	At         time.Duration // since the recording began
	Session    string
	Segment    string
	Revision   int64
	Text       string // empty unless texts were asked for
	CodePoints int
	Final      bool
	Speaker    string
}

// A record is one recording that goes on.
type record struct {
	session string // empty for all
	texts   bool
	began   time.Time
	events  chan Recorded
}

const (
	maxRecords = 4
	// maxUnread is how many revisions wait for who records.
	maxUnread = 1024
)

// Record records what the sessions of that name take from now on, all when it is empty.
// The channel is closed when nobody reads it, and by stop.
func (d *Door) Record(session string, texts bool) (events <-chan Recorded, stop func(), err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.records) >= maxRecords {
		return nil, nil, &core.Error{Kind: core.Overloaded, Stage: "live", Detail: "four recordings go on already; end one of them"}
	}
	r := &record{session, texts, time.Now(), make(chan Recorded, maxUnread)}
	d.records[r] = true
	d.recording.Add(1)
	return r.events, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.unrecord(r)
	}, nil
}

// unrecord ends r. The caller holds mu.
func (d *Door) unrecord(r *record) {
	if d.records[r] {
		delete(d.records, r)
		d.recording.Add(-1)
		close(r.events)
	}
}

// recorded tells those who record of a revision.
func (d *Door) recorded(session string, now time.Time, in live.Source) {
	if d.recording.Load() == 0 {
		return
	}
	text := in.Text
	for _, w := range in.Words {
		text += w.Text
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for r := range d.records {
		if r.session != "" && r.session != session {
			continue
		}
		e := Recorded{At: now.Sub(r.began), Session: session, Segment: in.Segment, Revision: in.Revision, CodePoints: utf8.RuneCountInString(text), Final: in.Final, Speaker: in.Speaker}
		if r.texts {
			e.Text = text
		}
		select {
		case r.events <- e:
		default:
			d.unrecord(r)
		}
	}
}
