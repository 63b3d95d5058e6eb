package usage

import (
	"fmt"
	"strings"
	"time"
)

// A window counts calls so that no 60 seconds, wherever they begin, have more than are
// allowed: those of the second that runs, and of the sixty before it.
type window struct {
	counts [61]int64
	sum    int64
	second int64 // that runs, in seconds since 1970
}

// take counts one call, or says how long it takes until there is room for one.
func (w *window) take(now time.Time, most int64) (wait time.Duration) {
	if wait = w.waits(now, most); wait == 0 {
		w.counts[w.second%int64(len(w.counts))]++
		w.sum++
	}
	return wait
}

// waits says how long it takes until there is room for a call.
func (w *window) waits(now time.Time, most int64) time.Duration {
	second := now.Unix()
	if second-w.second >= int64(len(w.counts)) || second < w.second-int64(len(w.counts)) {
		*w = window{second: second}
	}
	for w.second < second {
		w.second++
		at := w.second % int64(len(w.counts))
		w.sum -= w.counts[at]
		w.counts[at] = 0
	}
	if w.sum < most {
		return 0
	}
	// The oldest second with a call frees some when it is sixty-one seconds old.
	left, at := w.sum-most+1, w.second+1
	for ; ; at++ {
		if left -= w.counts[at%int64(len(w.counts))]; left <= 0 {
			break
		}
	}
	return time.Unix(at, 0).Sub(now)
}

// leaves writes what there is as n:ms,... where ms is in how long it is past; two seconds
// are told as one.
func (w *window) leaves(now time.Time) string {
	w.waits(now, 1) // what is past is gone then
	if w.sum == 0 {
		return ""
	}
	var b strings.Builder
	size := int64(len(w.counts))
	for at := w.second - size + 1; at <= w.second; at += 2 {
		n, last := w.counts[((at%size)+size)%size], at
		if at < w.second {
			last++
			n += w.counts[((last%size)+size)%size]
		}
		if n > 0 {
			fmt.Fprintf(&b, "%d:%d,", n, time.Unix(last+size, 0).Sub(now).Milliseconds()+1)
		}
	}
	return strings.TrimSuffix(b.String(), ",")
}
