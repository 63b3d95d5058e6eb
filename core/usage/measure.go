package usage

import (
	"maps"
	"slices"
)

// A Measured is what one key has used since the process began, and in this month.
type Measured struct {
	Name                     string
	Total                    Use
	Month, Limit             int64
	OverQuota, OverPerMinute int64 // calls that were refused
}

// Measures tells of the clients of names, in their order, and of those without a key.
func (b *Book) Measures(limits map[string]Limits) (all []Measured) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	names := slices.Sorted(maps.Keys(limits))
	if _, used := b.clients[""]; used {
		names = append(names, "")
	}
	for _, name := range names {
		c := b.client(name, now)
		all = append(all, Measured{name, c.total, b.used(name, c), limits[name].CharactersPerMonth, c.refusedQuota, c.refusedRequests})
	}
	return all
}
