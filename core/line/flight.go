package line

import (
	"time"

	"github.com/dragoman-mt/dragoman/core"
)

// board tells the flight of t, if it is part of one, that everything was taken
// for it. Of those that stand in the line for one flight only the first starts:
// with an error t is another, what was taken has gone back, and its client has
// not had its turn.
func (t *Turn) board(now time.Time) error {
	if t.req.Flight == nil {
		return nil
	}
	err := t.req.Flight.Starts()
	if err != nil {
		for _, g := range t.gates {
			g.Gate.Give(t.req, core.Outcome{Unused: true, At: now})
		}
	}
	return err
}
