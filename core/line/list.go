package line

// A list is a doubly linked list of nodes that lie inside what is listed, so
// that whatever knows its node leaves in O(1) and nothing is allocated.
type list[T any] struct {
	front, back *node[T]
	n           int
}

type node[T any] struct {
	prev, next *node[T]
	of         T
}

func (l *list[T]) pushBack(n *node[T]) { l.insertBefore(nil, n) }

// insertBefore puts n before mark, or at the back when mark is nil.
func (l *list[T]) insertBefore(mark, n *node[T]) {
	n.next = mark
	if mark == nil {
		n.prev, l.back = l.back, n
	} else {
		n.prev, mark.prev = mark.prev, n
	}
	if n.prev == nil {
		l.front = n
	} else {
		n.prev.next = n
	}
	l.n++
}

func (l *list[T]) remove(n *node[T]) {
	if n.prev == nil {
		l.front = n.next
	} else {
		n.prev.next = n.next
	}
	if n.next == nil {
		l.back = n.prev
	} else {
		n.next.prev = n.prev
	}
	n.prev, n.next = nil, nil
	l.n--
}
