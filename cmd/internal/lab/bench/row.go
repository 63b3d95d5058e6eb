package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// A row is one line of the table of bars, or the few that one measurement
// gives.
type row struct {
	name string // as it is selected
	doc  string // what is measured
	bars []bar
	once bool // one round says enough, of what takes long and must never fail
	// open prepares the measurement; the row is closed by what it returns, also
	// when that is an error.
	open func(ctx context.Context, s *lab, c *closers) (round, error)
}

// A round measures once: a figure for each bar, and a remark for the reader or
// nothing.
type round func(ctx context.Context) (figures []float64, remark string, err error)

// A bar is what a figure is judged by.
type bar struct {
	what  string
	unit  string
	limit float64
	least bool // the figure is to be at least limit, else at most
	// worst judges the worst round rather than the median: for what must never
	// be.
	worst bool
}

func (b bar) String() string {
	sign := "<="
	if b.least {
		sign = ">="
	}
	return sign + " " + b.show(b.limit)
}

func (b bar) show(v float64) string {
	digits := 0
	switch {
	case v == float64(int64(v)):
	case v < 10:
		digits = 2
	case v < 100:
		digits = 1
	}
	return strings.TrimSpace(strconv.FormatFloat(v, 'f', digits, 64) + " " + b.unit)
}

// judge returns the figure that counts and whether it meets the bar.
func (b bar) judge(rounds []float64) (counts float64, met bool) {
	counts = median(rounds)
	if b.worst {
		counts = slices.Max(rounds)
		if b.least {
			counts = slices.Min(rounds)
		}
	}
	if b.least {
		return counts, counts >= b.limit
	}
	return counts, counts <= b.limit
}

// measure plays all rounds of r, prints its lines, and returns how many bars
// were missed. A row that cannot be measured has missed all of them, and one when
// it has none: it is no success.
func (r row) measure(ctx context.Context, s *lab, out io.Writer) (missed int) {
	fail := func(err error) int {
		fmt.Fprintf(out, "%-9s %s: NOT MEASURED: %v\n", r.name, r.doc, err)
		return max(len(r.bars), 1)
	}
	var c closers
	defer c.close()
	play, err := r.open(ctx, s, &c)
	if err != nil {
		return fail(err)
	}
	rounds := rounds
	if r.once {
		rounds = 1
	}
	figures := make([][]float64, len(r.bars))
	var remarks []string
	for n := range rounds {
		got, remark, err := play(ctx)
		if err != nil {
			return fail(fmt.Errorf("round %d: %w", n+1, err))
		}
		for i := range r.bars {
			figures[i] = append(figures[i], got[i])
		}
		if remark != "" {
			remarks = append(remarks, fmt.Sprintf("round %d: %s", n+1, remark))
		}
	}
	fmt.Fprintf(out, "%-9s %s\n", r.name, r.doc)
	for i, b := range r.bars {
		counts, met := b.judge(figures[i])
		verdict := "met"
		if !met {
			verdict = "MISSED"
			missed++
		}
		each := make([]string, rounds)
		for n, v := range figures[i] {
			each[n] = b.show(v)
		}
		how := "median"
		if b.worst {
			how = "worst"
		}
		fmt.Fprintf(out, "  %-6s  %-52s bar %-12s %s %-12s of %s\n", verdict, b.what, b.String(), how, b.show(counts), strings.Join(each, ", "))
	}
	for _, remark := range remarks {
		fmt.Fprintln(out, "          "+remark)
	}
	return missed
}

// closers are what a row has opened; they are closed in reverse.
type closers struct{ list []func() }

func (c *closers) add(f func()) { c.list = append(c.list, f) }

func (c *closers) close() {
	for _, f := range slices.Backward(c.list) {
		f()
	}
	c.list = nil
}

func median(v []float64) float64 { return quantile(v, 0.5) }

// quantile returns the q-quantile of v by the nearest rank, which does not
// flatter a tail by interpolation; the median of an even number is the mean of
// the middle two.
func quantile(v []float64, q float64) float64 {
	s := slices.Sorted(slices.Values(v))
	n := len(s)
	if n == 0 {
		return 0
	}
	if q == 0.5 && n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[min(int(q*float64(n)), n-1)]
}
