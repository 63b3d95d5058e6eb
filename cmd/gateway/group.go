package gateway

import (
	"math"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/door/admin"
	"github.com/dragoman-mt/dragoman/core/shared"
	"github.com/dragoman-mt/dragoman/core/usage"
)

// tell fills in what the others are to know of this gateway by now.
func (g *gateway) tell(m *shared.Member) {
	m.Answers = g.engine.Fingerprint()
	limit, left := 0., 0.
	g.engine.Measure(func(x core.Measure) {
		requests := len(x.Labels) >= 2 && x.Labels[len(x.Labels)-2] == "unit" && x.Labels[len(x.Labels)-1] == "requests"
		switch {
		case x.Name == "ratelimit_lease_left":
			m.Lease = int64(x.Value)
		case x.Name == "ratelimit_lease_share":
			m.Alone = x.Value > 0
		case x.Name == "ratelimit_limit" && requests:
			limit = x.Value
		case x.Name == "ratelimit_left" && requests:
			left = x.Value
		}
	})
	m.Used = int64(math.Max(limit-left, 0))
}

// group is what /admin/cluster tells, with what keys used by book; nil when nothing is shared.
func (g *gateway) group(book *usage.Book) *admin.Group {
	if g.shared == nil {
		return nil
	}
	rep := g.shared.Report()
	told := &admin.Group{Self: rep.Self, Members: []admin.GroupMember{}, Usage: []admin.GroupUsage{}}
	for _, m := range rep.Members {
		told.Members = append(told.Members, admin.GroupMember{
			Self: m.Self, Machine: m.Machine, PID: m.PID, Version: m.Program, Listen: m.Listen, Started: m.Started,
			Answers: m.Answers, Lease: m.Lease, Used: m.Used, Alone: m.Alone,
		})
	}
	for _, r := range rep.Rooms {
		told.Stores = append(told.Stores, admin.GroupStore{
			For: r.Name, Up: r.Up, Why: r.Why, Answered: r.Answered, Failed: r.Failed, Refused: r.Refused, Dropped: r.Dropped, MeanMS: r.Mean,
		})
	}
	for _, s := range book.Group() {
		age := int64(-1)
		if s.Age >= 0 {
			age = s.Age.Milliseconds()
		}
		told.Usage = append(told.Usage, admin.GroupUsage{Key: s.Key, Characters: s.Characters, Here: s.Here, Limit: s.Limit, Left: s.Left, AgeMS: age})
	}
	return told
}
