package history

import (
	"context"
	"math"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestADayOfTrafficKeepsAnHourAndNoMoreMemory: what is told goes an hour back, and adds up to
// what was counted in it.
func TestADayOfTrafficKeepsAnHourAndNoMoreMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		bounds := []float64{0.1, 1}
		h := New(bounds, func() Reading {
			n := uint64(10 * time.Since(begin).Seconds())
			return Reading{Translated: float64(n), Failed: float64(n / 10), Within: []uint64{n / 2, n, n}, InFlight: 3}
		})
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); h.Run(ctx) }()
		time.Sleep(2*time.Hour + time.Millisecond)
		held := heap()
		time.Sleep(22 * time.Hour)
		if more := heap() - held; more > 64<<10 {
			t.Errorf("22 hours more hold %d bytes more", more)
		}
		all := h.Points(time.Time{}, 1)
		if len(all) != most || all[0].Until.Before(time.Now().Add(-Long-Every)) || time.Since(all[len(all)-1].Until) > Every {
			t.Fatalf("%d points", len(all))
		}
		total := 0.0
		for _, p := range all {
			total += p.Translated
			if p.P50 != 0.1 || math.Abs(p.P99-0.982) > 1e-9 || p.InFlight != 3 || p.Seconds != 5 {
				t.Fatalf("%+v", p)
			}
		}
		if total != 36000 {
			t.Errorf("%v in an hour, want 36000", total)
		}
		if together := h.Points(time.Time{}, 60); len(together) < 12 || len(together) > 13 || together[1].Translated != 3000 {
			t.Errorf("of five minutes: %d points, %+v", len(together), together[1])
		}
		if latest := h.Points(all[len(all)-3].Until, 1); len(latest) != 2 {
			t.Errorf("%d points after the last but two", len(latest))
		}
		stop()
		<-done
	})
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// A counter that goes away with its part and comes again from nothing takes nothing back.
func TestACounterThatBeginsAnewIsNeverLess(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := time.UnixMilli(1e12)
		var r Reading
		h := New([]float64{1}, func() Reading { return r })
		h.Note(now)
		sum := 0.0
		for _, gained := range rapid.SliceOfN(rapid.IntRange(-1, 50), 1, 60).Draw(t, "gained") {
			if gained < 0 {
				r = Reading{}
				gained = 0
			}
			r.Translated += float64(gained)
			r.Within = []uint64{uint64(r.Translated), uint64(r.Translated)}
			sum += float64(gained)
			now = now.Add(Every)
			h.Note(now)
		}
		for _, n := range []int{1, 7, 60} {
			got := 0.0
			for _, p := range h.Points(time.Time{}, n) {
				got += p.Translated
				if (p.Translated > 0) == math.IsNaN(p.P50) {
					t.Fatalf("%+v", p)
				}
			}
			if got != sum {
				t.Fatalf("by %d: %v, want %v", n, got, sum)
			}
		}
	})
}
