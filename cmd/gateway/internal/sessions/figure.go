package sessions

import (
	"math"
	"slices"
	"strconv"
	"time"
)

// A figure is a number that may be unknown.
type figure float64

var unknown = figure(math.NaN())

func (f figure) known() bool { return !math.IsNaN(float64(f)) }

// MarshalJSON writes what is unknown as null.
func (f figure) MarshalJSON() ([]byte, error) {
	if !f.known() {
		return []byte("null"), nil
	}
	return strconv.AppendFloat(nil, math.Round(float64(f)*1000)/1000, 'f', -1, 64), nil
}

// with returns f with so many decimals; a dash when it is unknown.
func (f figure) with(decimals int) string {
	if !f.known() {
		return "–"
	}
	return strconv.FormatFloat(float64(f), 'f', decimals, 64)
}

func inMilliseconds(d time.Duration) figure { return figure(float64(d) / float64(time.Millisecond)) }

// percentile returns the p-th percentile (0 to 100) by nearest rank: the
// smallest of the values that at least p per cent of them do not exceed. It is
// one of the values, never between two. Sorted is in ascending order.
func percentile(sorted []time.Duration, p float64) figure {
	if len(sorted) == 0 {
		return unknown
	}
	// p/100 of n, without the error that makes 0.07*100 more than 7.
	rank := int(math.Ceil(math.Round(p*float64(len(sorted))*1e6) / 1e8))
	return inMilliseconds(sorted[min(max(rank, 1), len(sorted))-1])
}

func sorted(values []time.Duration) []time.Duration {
	out := slices.Clone(values)
	slices.Sort(out)
	return out
}
