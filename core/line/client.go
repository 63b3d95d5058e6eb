package line

import "github.com/dragoman-mt/dragoman/core"

func newClient(name string) *client {
	c := &client{name: name}
	c.inWeights.of = c
	for i := range c.rows {
		c.rows[i].of = c
		c.rows[i].inRing.of = &c.rows[i]
	}
	return c
}

// youngest returns who came last of those in the lowest lane in which c has
// somebody waiting.
func (c *client) youngest() *waiter {
	for i := core.Lanes - 1; ; i-- {
		if n := c.rows[i].arrivals.back; n != nil {
			return n.of
		}
	}
}

// weights holds the clients by how many each has waiting: those with n are in
// lists[n].
type weights struct {
	lists []list[*client]
	most  int // the greatest n of which there is one
}

// add changes how many c has waiting by one, up or down.
func (w *weights) add(c *client, n int) {
	if c.waiting > 0 {
		w.lists[c.waiting].remove(&c.inWeights)
	}
	c.waiting += n
	for len(w.lists) <= c.waiting {
		w.lists = append(w.lists, list[*client]{})
	}
	if c.waiting > 0 {
		w.lists[c.waiting].pushBack(&c.inWeights)
	}
	w.most = max(w.most, c.waiting)
	if w.lists[w.most].n == 0 && w.most > 0 {
		w.most-- // one place down, which is where c is now, or nobody waits
	}
}

// heaviest returns a client of which nobody has more waiting, or nil.
func (w *weights) heaviest() *client {
	if w.most == 0 {
		return nil
	}
	return w.lists[w.most].back.of
}
