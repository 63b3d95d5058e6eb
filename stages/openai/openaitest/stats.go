package openaitest

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"
)

// keptRecords is how many of the last chat requests Stats tells about.
const keptRecords = 16384

// Stats is what happened since Start, or since Reset.
type Stats struct {
	// Requests counts all requests to the API; Paths counts them by path
	// ("/v1/chat/completions", "/v1/models/{model}", "other"); Statuses by the status answered, 0 for
	// none. Requests to /sim are not counted.
	Requests int64            `json:"requests"`
	Paths    map[string]int64 `json:"paths"`
	Statuses map[int]int64    `json:"statuses"`
	// Chats counts chat requests, the ones that cost money.
	Chats int64 `json:"chats"`
	// InFlight counts chat requests that are being answered.
	InFlight    int64 `json:"in_flight"`
	MaxInFlight int64 `json:"max_in_flight"`
	// Aborted counts requests whose client left before the answer was complete.
	Aborted int64 `json:"aborted"`
	// Faults counts chat requests by the fault that they met.
	Faults map[string]int64 `json:"faults"`
	// Connections counts those accepted; Open those that are open now.
	Connections int64 `json:"connections"`
	Open        int64 `json:"open"`
	// Forgotten counts connections that were written to after the firewall on
	// the way had forgotten them. What was written is in no other count.
	Forgotten int64 `json:"forgotten"`
	// Handshakes counts TLS handshakes, Resumptions those of them that resumed
	// a session.
	Handshakes  int64 `json:"handshakes"`
	Resumptions int64 `json:"resumptions"`
	// Records are the last 16,384 chat requests, in the order in which they
	// began.
	Records []Record `json:"records,omitempty"`
}

// A Record is one chat request.
type Record struct {
	// ID is the x-request-id answered, ClientID the X-Client-Request-Id sent.
	ID       string `json:"id"`
	ClientID string `json:"client_id,omitempty"`
	// Connection is the number of the connection, from 1; Reused says that it
	// had carried a request before.
	Connection int64 `json:"connection"`
	Reused     bool  `json:"reused"`
	// Start is when its headers had been read; Took is until its end, 0 while
	// it runs.
	Start time.Time     `json:"start"`
	Took  time.Duration `json:"took_ns"`
	// Status is 0 when nothing was answered.
	Status  int    `json:"status"`
	Fault   string `json:"fault,omitempty"`
	Stream  bool   `json:"stream,omitempty"`
	Aborted bool   `json:"aborted,omitempty"`
}

// ShortestSpan returns the least time in which n requests kept, in a row,
// began: from the first of them to the last. It is 0 with fewer.
func (s Stats) ShortestSpan(n int) time.Duration {
	shortest := time.Duration(0)
	for i := n - 1; i < len(s.Records); i++ {
		d := s.Records[i].Start.Sub(s.Records[i-n+1].Start)
		if i == n-1 || d < shortest {
			shortest = d
		}
	}
	return shortest
}

// MostTogether returns the most requests kept that were in flight at once for
// longer than d. A client that ends one and begins another at once may be seen
// to do so in the other order, for as long as the ways of the two differ.
func (s Stats) MostTogether(d time.Duration) int {
	type change struct {
		at time.Time
		by int
	}
	var changes []change
	for _, r := range s.Records {
		if r.Took > 0 && r.Took <= d {
			continue
		}
		changes = append(changes, change{r.Start, 1})
		if r.Took > 0 {
			changes = append(changes, change{r.Start.Add(r.Took - d), -1})
		}
	}
	slices.SortFunc(changes, func(a, b change) int { return cmp.Or(a.at.Compare(b.at), a.by-b.by) })
	most, now := 0, 0
	for _, c := range changes {
		now += c.by
		most = max(most, now)
	}
	return most
}

// MostWithin returns the most requests that began within any window of length
// d.
func (s Stats) MostWithin(d time.Duration) int {
	most, first := 0, 0
	for i, r := range s.Records {
		for r.Start.Sub(s.Records[first].Start) >= d {
			first++
		}
		most = max(most, i-first+1)
	}
	return most
}

// counters are Stats as they are kept: records in a ring, from oldest on.
type counters struct {
	Stats
	ring   []*Record
	oldest int
}

func (c *counters) add(r *Record) {
	if len(c.ring) < keptRecords {
		c.ring = append(c.ring, r)
		return
	}
	c.ring[c.oldest] = r
	c.oldest = (c.oldest + 1) % keptRecords
}

// Stats returns what happened so far.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.stats.Stats
	out.Paths, out.Statuses, out.Faults = maps.Clone(out.Paths), maps.Clone(out.Statuses), maps.Clone(out.Faults)
	out.Records = make([]Record, 0, len(s.stats.ring))
	for _, part := range [][]*Record{s.stats.ring[s.stats.oldest:], s.stats.ring[:s.stats.oldest]} {
		for _, r := range part {
			out.Records = append(out.Records, *r)
		}
	}
	slices.SortStableFunc(out.Records, func(a, b Record) int { return a.Start.Compare(b.Start) })
	return out
}

// Settled returns the stats as soon as no chat request is in flight: the book
// on a request is closed a moment after its client has the answer.
func (s *Server) Settled(ctx context.Context) (Stats, error) {
	for {
		s.mu.Lock()
		still, wake := s.stats.InFlight, s.settled
		s.mu.Unlock()
		if still == 0 {
			return s.Stats(), nil
		}
		select {
		case <-wake:
		case <-ctx.Done():
			return Stats{}, ctx.Err()
		}
	}
}

// ResetStats starts counting anew. Connections that are open and requests in
// flight stay counted as such.
func (s *Server) ResetStats() {
	s.mu.Lock()
	defer s.mu.Unlock()
	open, inFlight := s.stats.Open, s.stats.InFlight
	s.stats = counters{}
	s.stats.Open, s.stats.InFlight, s.stats.MaxInFlight = open, inFlight, inFlight
}

func (s *Server) countHandshake(resumed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.Handshakes++
	if resumed {
		s.stats.Resumptions++
	}
}

// inc counts key in m, which may not exist yet.
func inc[K comparable](m *map[K]int64, key K) {
	if *m == nil {
		*m = map[K]int64{}
	}
	(*m)[key]++
}
