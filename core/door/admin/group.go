package admin

import (
	"fmt"
	"net/http"
	"time"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/door"
)

// A Group is the gateways that share something with this one, as GET /admin/cluster tells it.
type Group struct {
	// Self is which of them answers.
	Self    string        `json:"self"`
	Members []GroupMember `json:"members"`
	Stores  []GroupStore  `json:"stores"`
	Usage   []GroupUsage  `json:"usage"`
}

// A GroupUsage is a key that the gateways count together, in this month.
type GroupUsage struct {
	Key string `json:"key"` // empty for calls without one
	// Characters are those of all gateways, and Here the part of this one.
	Characters int64 `json:"characters"`
	Here       int64 `json:"here"`
	Limit      int64 `json:"characters_per_month,omitempty"`
	// Left is how many may be used here before the others are asked.
	Left int64 `json:"left"`
	// AgeMS is how long ago the store said what others used; -1: it never did.
	AgeMS int64 `json:"age_ms"`
}

// stale is after how long what others used is shown to be old.
const stale = 8 * time.Second

// A GroupMember is one gateway, as it said itself a few seconds ago.
type GroupMember struct {
	Self    string    `json:"self"`
	Machine string    `json:"machine"`
	PID     int       `json:"pid"`
	Version string    `json:"version"`
	Listen  string    `json:"listen"`
	Started time.Time `json:"started"`
	// Answers is equal for gateways that can use each other's answers.
	Answers string `json:"answers,omitempty"`
	// Lease is how many requests it may start before it asks again, and Used how many it has
	// started of the last minute's, of the account in use; Alone says that it keeps to its part
	// of the limit, since it cannot know what the others spend.
	Lease int64 `json:"lease"`
	Used  int64 `json:"used"`
	Alone bool  `json:"alone"`
}

// A GroupStore is how the shared store is for one purpose, and what that has cost since the start.
type GroupStore struct {
	For      string  `json:"for"`
	Up       bool    `json:"up"`
	Why      string  `json:"why,omitempty"`
	Answered int64   `json:"answered"`
	Failed   int64   `json:"failed"`
	Refused  int64   `json:"refused"`
	Dropped  int64   `json:"dropped"`
	MeanMS   float64 `json:"mean_ms"`
}

// group answers GET /admin/cluster.
func (a *admin) group(w http.ResponseWriter, r *http.Request) {
	if g := a.o.Group(); g != nil {
		door.WriteJSON(w, http.StatusOK, g)
		return
	}
	door.WriteError(w, r, &core.Error{Kind: core.NotFound, Detail: "this gateway shares nothing: shared.url in its configuration names a store that a group has in common"})
}

// GroupTables show a group: who is there, and how the store is.
func GroupTables(g Group) []Table {
	members := Table{Head: numbers("GROUP", "listens at", "pid", "version", "lease", "used", "alone", "answers")}
	for _, m := range g.Members {
		machine := m.Machine
		if m.Self == g.Self {
			machine += " (this)"
		}
		alone := good("no")
		if m.Alone {
			alone = Cell{"yes", true}
		}
		members.Rows = append(members.Rows, []Cell{
			good(machine), good(m.Listen), good(fmt.Sprint(m.PID)), good(m.Version), good(Count(float64(m.Lease))), good(Count(float64(m.Used))), alone, good(m.Answers),
		})
	}
	stores := Table{Head: numbers("STORE", "is", "answered", "failed", "refused", "dropped", "mean")}
	for _, s := range g.Stores {
		is := good("up")
		if !s.Up {
			is = Cell{"AWAY", true}
		}
		stores.Rows = append(stores.Rows, []Cell{
			good(s.For), is, good(Count(float64(s.Answered))), good(Count(float64(s.Failed))), good(Count(float64(s.Refused))), good(Count(float64(s.Dropped))), good(fmt.Sprintf("%.2f ms", s.MeanMS)),
		})
	}
	keys := Table{Head: numbers("KEY this month", "characters", "here", "limit", "left here", "others known")}
	for _, u := range g.Usage {
		name, limit, left, known := u.Key, good("-"), good("-"), Cell{"never", true}
		if name == "" {
			name = "-"
		}
		if u.Limit > 0 {
			limit, left = Cell{Count(float64(u.Limit)), u.Characters >= u.Limit}, good(Count(float64(u.Left)))
		}
		if age := time.Duration(u.AgeMS) * time.Millisecond; age >= 0 {
			known = Cell{fmt.Sprintf("%v ago", age.Round(time.Second)), age > stale}
		}
		keys.Rows = append(keys.Rows, []Cell{good(name), good(Count(float64(u.Characters))), good(Count(float64(u.Here))), limit, left, known})
	}
	return []Table{members, stores, keys}
}
