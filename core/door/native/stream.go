package native

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/door"
	jsontext "github.com/dragoman-mt/dragoman/core/text/json"
)

const (
	// maxUnsent is the most of the deltas of a call that waits for its client to
	// read, in bytes.
	maxUnsent = 256 << 10
	// batch is how much is put together before it is sent, in bytes; a single
	// event may be larger.
	batch = 32 << 10
)

// takesStream says whether the client takes events and, as far as it tells, no
// JSON. Weights are not looked at.
func takesStream(r *http.Request) bool {
	takes := false
	for _, accept := range r.Header["Accept"] {
		for entry := range strings.SplitSeq(accept, ",") {
			media, _, _ := strings.Cut(entry, ";")
			switch strings.ToLower(strings.TrimSpace(media)) {
			case "text/event-stream":
				takes = true
			case "application/json":
				return false
			}
		}
	}
	return takes
}

// stream answers with events as the items go on, and returns the status for the
// log. Only this goroutine, the handler's, ever waits for the client.
func (d *Door) stream(ctx context.Context, w http.ResponseWriter, r *http.Request, id string, p *plan, begin time.Time) int {
	ctx, cancel := context.WithCancel(ctx)
	items, f := make([]door.Item, len(p.requests)), newFeed(len(p.requests))
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	for i := range items {
		p.requests[i].OnDelta = func(text string) error { f.delta(i, text); return nil }
		all.Go(func() {
			defer f.end(i)
			items[i] = d.one(ctx, p, &p.requests[i])
			p.settle(&items[i], i)
			p.tab.Settle()
		})
	}

	out := door.NewStream(w, d.patience)
	silent := time.NewTimer(d.heartbeat)
	defer silent.Stop()
	var (
		b     []byte
		ended []int
		left  bool  // the client has, as far as the items know
		err   error // of sending
	)
	for open := len(items); open > 0 && err == nil; silent.Reset(d.heartbeat) {
		select {
		case <-f.news:
		case <-silent.C:
			err = out.Comment()
			continue
		}
		b, ended = f.take(b[:0], ended[:0])
		if len(items) == 1 && len(ended) == 1 && items[0].Err != nil && len(b) == 0 && !out.Begun() {
			return d.answer(w, r, id, p, items, begin)
		}
		for _, i := range ended {
			left = left || items[i].Err != nil && items[i].Err.Kind == core.Canceled
			b = strconv.AppendInt(append(b, "event: result\ndata: {\"index\":"...), int64(i), 10)
			b = append(p.appendFields(append(b, ','), i, &items[i]), "}\n\n"...)
			if len(b) >= batch {
				if err = out.Send(b); err != nil {
					break
				}
				b = b[:0]
			}
		}
		if open -= len(ended); open == 0 {
			b = append(p.appendEnd(append(b, "event: done\ndata: {"...), id, items, begin), "}\n\n"...)
		}
		if len(b) > 0 && err == nil {
			err = out.Send(b)
		}
	}
	if left || err != nil {
		return door.Answer(core.Canceled).Status
	}
	return http.StatusOK
}

// A feed holds what the items of a call have to tell their client until it is
// sent. Whoever adds to it never waits.
type feed struct {
	news chan struct{} // holds one when there is something to take

	mu    sync.Mutex
	room  int // how many bytes of deltas may still be added
	items []pending
	next  []int // those that have something to take, in the order in which they got it
}

// A pending is what one item has to tell.
type pending struct {
	text   []byte // of deltas that were not taken yet
	cut    bool   // a delta found no room: those after it would leave a gap
	ended  bool
	queued bool // in next
}

func newFeed(items int) *feed {
	return &feed{news: make(chan struct{}, 1), room: maxUnsent, items: make([]pending, items)}
}

// delta adds a piece of the translation of item i, unless the client is so far
// behind that there is no room: then it gets no more of this one before its
// result.
func (f *feed) delta(i int, text string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := &f.items[i]
	if p.cut = p.cut || len(text) > f.room; p.cut || text == "" {
		return
	}
	f.room -= len(text)
	p.text = append(p.text, text...)
	f.tell(i)
}

// end notes that what became of item i is known.
func (f *feed) end(i int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.items[i].ended = true
	f.tell(i)
}

// tell queues item i. The caller holds mu.
func (f *feed) tell(i int) {
	if p := &f.items[i]; !p.queued {
		p.queued = true
		f.next = append(f.next, i)
	}
	select {
	case f.news <- struct{}{}:
	default:
	}
}

// take empties the feed. It appends an event to b for each item with new text,
// and to ended the items that have ended, of which nothing more will come.
func (f *feed) take(b []byte, ended []int) ([]byte, []int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, i := range f.next {
		p := &f.items[i]
		if len(p.text) > 0 {
			b = strconv.AppendInt(append(b, "event: delta\ndata: {\"index\":"...), int64(i), 10)
			b = append(jsontext.AppendString(append(b, `,"text":`...), string(p.text)), "}\n\n"...)
			f.room += len(p.text)
			p.text = nil
		}
		if p.ended {
			ended = append(ended, i)
		}
		p.queued = false
	}
	f.next = f.next[:0]
	return b, ended
}
