package usage

import "time"

// A window counts calls so that no 60 seconds, wherever they begin, have more than are
// allowed: those of the second that runs, and of the sixty before it.
type window struct {
	counts [61]int64
	sum    int64
	second int64 // that runs, in seconds since 1970
}

// take counts one call, or says how long it takes until there is room for one.
func (w *window) take(now time.Time, most int64) (wait time.Duration) {
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
		w.counts[w.second%int64(len(w.counts))]++
		w.sum++
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
