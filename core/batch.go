package core

import "sync"

// A Seat is the place of one request among those that came in one call. A provider that
// translates several texts in one call gets those together that are there at the same
// time, and everybody knows by the seats for whom it is worth to wait. It is safe for
// concurrent use.
type Seat struct {
	batch *batch
	once  sync.Once
}

type batch struct {
	mu   sync.Mutex
	left int
	all  chan struct{}
}

// NewSeats returns the seats of n requests of one call; nil for one alone.
func NewSeats(n int) []*Seat {
	if n < 2 {
		return nil
	}
	b, seats := &batch{left: n, all: make(chan struct{})}, make([]*Seat, n)
	for i := range seats {
		seats[i] = &Seat{batch: b}
	}
	return seats
}

// Settle says that the request is where it waits for the others, or that it has ended,
// or that it waits for something else: nobody is to wait for it. It may be said again.
func (s *Seat) Settle() {
	s.once.Do(func() {
		s.batch.mu.Lock()
		defer s.batch.mu.Unlock()
		if s.batch.left--; s.batch.left == 0 {
			close(s.batch.all)
		}
	})
}

// Settled is closed when all seats of the call are.
func (s *Seat) Settled() <-chan struct{} { return s.batch.all }

// Together says whether the requests of both seats came in one call.
func (s *Seat) Together(other *Seat) bool { return other != nil && s.batch == other.batch }
