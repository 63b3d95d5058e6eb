package sessions

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/dragoman-mt/dragoman/cmd/internal/binaries"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestAPercentileIsTheSmallestValueThatEnoughDoNotExceed(t *testing.T) {
	hundred := make([]time.Duration, 100)
	for i := range hundred {
		hundred[i] = time.Duration(i+1) * time.Millisecond
	}
	for p, want := range map[float64]figure{0: 1, 1: 1, 7: 7, 50: 50, 95: 95, 99: 99, 100: 100} {
		if got := percentile(hundred, p); got != want {
			t.Errorf("p%v of 1 to 100: %v, want %v", p, got, want)
		}
	}
	if percentile(nil, 50).known() {
		t.Error("nothing has a median")
	}
	rapid.Check(t, func(t *rapid.T) {
		values := sorted(rapid.SliceOfN(rapid.Map(rapid.Int64Range(0, 1e10), func(n int64) time.Duration { return time.Duration(n) }), 1, 300).Draw(t, "values"))
		p := rapid.Float64Range(0.1, 100).Draw(t, "p")
		got := percentile(values, p)
		within, below := 0, 0
		for _, v := range values {
			if inMilliseconds(v) <= got {
				within++
			}
			if inMilliseconds(v) < got {
				below++
			}
		}
		share := p / 100 * float64(len(values))
		if float64(within) < share-1e-6 || float64(below) >= share+1e-6 && below > 0 {
			t.Errorf("p%v of %d values: %d within, %d below", p, len(values), within, below)
		}
	})
}

func TestArrivalsAreTheSameForTheSameSeedAndInTheirTime(t *testing.T) {
	o := Defaults()
	o.Rate, o.Duration = 600, time.Minute
	all := o.schedule(4)
	if !slices.Equal(all, o.schedule(4)) {
		t.Error("two schedules of one seed differ")
	}
	count, texts := map[int]int{}, map[string]bool{}
	for i, a := range all {
		count[a.session]++
		texts[a.text] = true
		if a.at < settling || a.at >= settling+o.Duration || i > 0 && a.at < all[i-1].at {
			t.Fatalf("arrival %d at %v", i, a.at)
		}
	}
	if len(texts) != len(all) {
		t.Errorf("%d texts for %d requests that are to be misses", len(texts), len(all))
	}
	for s := range 4 { // a Poisson process of 600: 4 standard deviations
		if math.Abs(float64(count[s])-600) > 4*math.Sqrt(600) {
			t.Errorf("session %d has %d requests, want about 600", s, count[s])
		}
	}
	o.Requests = 1001
	if got := len(o.schedule(4)); got != 1001 {
		t.Errorf("%d requests, want 1001", got)
	}
	o.Repeats = 1
	texts = map[string]bool{}
	for _, a := range o.schedule(2) {
		texts[a.text] = true
	}
	if len(texts) != 1 {
		t.Errorf("%d texts when all repeat the first", len(texts))
	}
}

func TestRequestsAreSentAtTheirTimeHoweverSlowAnswersAre(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := Defaults()
		o.Rate = 600
		plan := o.schedule(3)
		begin := time.Now()
		out, err := drive(t.Context(), plan, func(_ context.Context, a arrival) sample {
			if at := time.Since(begin); at != a.at {
				t.Errorf("sent at %v, planned for %v", at, a.at)
			}
			time.Sleep(5 * time.Second) // of the fake clock: an answer that is slow
			return sample{took: 5 * time.Second}
		}, func(sample) {})
		if err != nil || len(out) != len(plan) {
			t.Fatal(len(out), err)
		}
		for i, s := range out {
			if s.at != plan[i].at || s.session != plan[i].session || s.took != 5*time.Second {
				t.Fatalf("sample %d is %+v", i, s)
			}
		}
	})
}

func TestBadOptionsAreNamedByTheirFlag(t *testing.T) {
	for flag, change := range map[string]func(*Options){
		"--sessions": func(o *Options) { o.Sessions = []int{0} },
		"--mode":     func(o *Options) { o.Modes = []string{"both"} },
		"--preset":   func(o *Options) { o.Presets = []string{"after", "after"} },
		"--profile":  func(o *Options) { o.Profile = "smooth" },
		"--rate":     func(o *Options) { o.Rate = math.NaN() },
		"--duration": func(o *Options) { o.Duration = 0 },
		"--requests": func(o *Options) { o.Requests = -1 },
		"--repeats":  func(o *Options) { o.Repeats = 2 },
		"--at-once":  func(o *Options) { o.AtOnce = -1 },
		"--url":      func(o *Options) { o.URL = "localhost:8080" },
		"--admin":    func(o *Options) { o.Admin = "http://127.0.0.1:1" },
	} {
		o := Defaults()
		change(&o)
		if err := o.Check(); err == nil || !strings.HasPrefix(err.Error(), flag+":") {
			t.Errorf("%s: %v", flag, err)
		}
	}
	if err := Defaults().Check(); err != nil {
		t.Error(err)
	}
}

// fixed is a report of figures that no run made.
func fixed() *Report {
	r := &Report{Options: Defaults(), Began: time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC), CPUs: 2, LoadBefore: 0.5, LoadAfter: unknown}
	for i, mode := range []string{Pooled, Direct} {
		row := Row{N: 1000, P50: 304 + figure(100*i), P95: 350, P99: 400 + figure(150*i), Max: 900, AddedP50: 0.5, AddedP99: 2, PacedP99: 20}
		m := Measured{Cell: Cell{Sessions: 2, Mode: mode, Preset: After}, Worst: row, All: row, Facts: Facts{CPU: 0.6, MB: 30, Calls: 1000, RateLimited: 0, Dialled: 9, Cold: 0, Late: 0.1}}
		m.Worst.Name, m.All.Name = "worst", "all"
		for n := range 1000 {
			m.samples = append(m.samples, sample{session: n % 2, at: time.Duration(n) * time.Second, took: time.Duration(300+100*i+n%100) * time.Millisecond})
		}
		m.Rows = []Row{m.Worst, m.Worst}
		m.Rows[0].Name, m.Rows[1].Name = "1", "2"
		r.Cells = append(r.Cells, m)
	}
	r.judge()
	return r
}

func TestCriteriaAreJudged(t *testing.T) {
	r := fixed()
	if !r.Met {
		t.Errorf("%+v", r.Criteria)
	}
	for name, change := range map[string]func(*Measured){
		worstP99:  func(m *Measured) { m.Worst.P99 = 500 },
		lessCPU:   func(m *Measured) { m.CPU = 20 },
		lessMB:    func(m *Measured) { m.MB = unknown },
		noLimits:  func(m *Measured) { m.RateLimited = 1 },
		noFailure: func(m *Measured) { m.All.Failed = 1 },
		belowP50:  func(m *Measured) { m.All.P50 = 330 },
	} {
		r := fixed()
		r.Criteria = nil
		change(&r.Cells[0])
		r.judge()
		c := r.of(Cell{Sessions: 2, Mode: Pooled, Preset: After}, name)
		if r.Met || c == nil || c.Met || !c.Asked {
			t.Errorf("%s: %+v", name, c)
		}
	}
	// Direct connections are what pooled ones are compared with: slow is fine.
	r = fixed()
	r.Criteria = nil
	r.Cells[1].Worst.P99 = 5000
	if r.judge(); !r.Met {
		t.Errorf("%+v", r.Criteria)
	}
}

func TestTheTableIsAsItWas(t *testing.T) {
	var out bytes.Buffer
	if err := fixed().WriteTable(&out); err != nil {
		t.Fatal(err)
	}
	out.WriteString("\n")
	if err := fixed().WriteMarkdown(&out); err != nil {
		t.Fatal(err)
	}
	const file = "testdata/table.txt"
	if os.Getenv("DRAGOMAN_UPDATE") != "" {
		if err := errors.Join(os.MkdirAll("testdata", 0o755), os.WriteFile(file, out.Bytes(), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil || out.String() != string(want) {
		t.Errorf("%v\n%s", err, out.String())
	}
}

func TestTheTableGoesBetweenItsMarks(t *testing.T) {
	file := filepath.Join(t.TempDir(), "README.md")
	page := "before\n" + tableBegins + "\nwhat stood there\n" + tableEnds + "\nafter\n"
	if err := os.WriteFile(file, []byte(page), 0o644); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := fixed().UpdateReadme(file); err != nil {
			t.Fatal(err)
		}
	}
	got, _ := os.ReadFile(file)
	if s := string(got); !strings.HasPrefix(s, "before\n"+tableBegins) || !strings.HasSuffix(s, tableEnds+"\nafter\n") || strings.Contains(s, "what stood there") || strings.Count(s, "| 2 | pooled") != 1 {
		t.Error(s)
	}
	os.WriteFile(file, []byte("no marks\n"), 0o644)
	if err := fixed().UpdateReadme(file); err == nil || !strings.Contains(err.Error(), tableBegins) {
		t.Errorf("%v", err)
	}
}

func TestThePageIsWellFormedAndNeedsNothingFromOutside(t *testing.T) {
	r := fixed()
	r.Cells[0].samples[3].failed = "unavailable"
	r.Cells[0].samples = r.Cells[0].samples[:4]
	r.Cells[1].samples = nil
	for name, r := range map[string]*Report{"whole": fixed(), "nearly empty": r} {
		page := r.page()
		if strings.Contains(page, "{{") {
			t.Errorf("%s: a place of the page was not filled in", name)
		}
		if out := regexp.MustCompile(`(?i)(src|href|url\(|@import|https?:)`).FindString(page); out != "" {
			t.Errorf("%s: the page asks for something outside: %q", name, out)
		}
		if strings.Contains(page, "NaN") || strings.Contains(page, "Inf") {
			t.Errorf("%s: the page holds a number that is none", name)
		}
		if n := strings.Count(page, "<svg"); n != 3 {
			t.Errorf("%s: %d charts, want 3", name, n)
		}
		d := xml.NewDecoder(strings.NewReader(page))
		d.Strict, d.AutoClose, d.Entity = false, []string{"meta"}, xml.HTMLEntity
		for {
			if _, err := d.Token(); err == io.EOF {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
	}
}

// TestARealRunAddsUp drives real programs for a moment and looks at counts, not
// at times.
func TestARealRunAddsUp(t *testing.T) {
	dir := t.TempDir()
	if err := binaries.Into(dir, "cmd/dragoman", "cmd/openai-sim"); err != nil {
		t.Fatal(err)
	}
	o := Defaults()
	o.Programs, o.Sessions, o.Presets, o.Rate, o.Requests = dir, []int{2}, []string{After}, 120, 12
	answers := make(chan Progress, 1000)
	r, err := Run(t.Context(), o, func(p Progress) { answers <- p })
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Cells) != 2 || len(answers) != 24 {
		t.Fatalf("%d cells, %d answers", len(r.Cells), len(answers))
	}
	for _, m := range r.Cells {
		failed := 0
		for _, n := range m.Failures {
			failed += n
		}
		if m.All.N+m.All.Failed != 12 || m.All.Failed != failed || m.Rows[0].N+m.Rows[1].N != m.All.N {
			t.Errorf("%s: %+v %+v", m.Cell, m.All, m.Rows)
		}
		if failed == 0 && (m.Calls < 12 || m.Mode == Direct && m.Dialled < 12 || m.Mode == Pooled && m.Dialled > 11) {
			t.Errorf("%s: %v calls over %v connections", m.Cell, m.Calls, m.Dialled)
		}
		if !m.CPU.known() || m.MB < 5 {
			t.Errorf("%s: CPU %v, %v MB", m.Cell, m.CPU, m.MB)
		}
	}
	var out bytes.Buffer
	if err := r.WriteJSON(&out); err != nil || !json.Valid(out.Bytes()) {
		t.Errorf("%v %s", err, fmt.Sprint(out.Len()))
	}
}

// A gateway that runs already has a cache that nobody empties: a load that it
// has had would measure that.
func TestAGatewayThatRunsAlreadyIsAskedForTextsThatItHasNotHad(t *testing.T) {
	var mu sync.Mutex
	had := map[string]int{}
	gateway := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/translate" {
			io.WriteString(w, "{}")
			return
		}
		var asked struct{ Text string }
		if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
			t.Error(err)
		}
		mu.Lock()
		had[asked.Text]++
		mu.Unlock()
		fmt.Fprintf(w, `{"translations": [{"text": %q}], "timing": {"stages": {"provider": 1}, "attempts": 1}}`, asked.Text)
	}))
	defer gateway.Close()
	o := Defaults()
	o.URL, o.Sessions, o.Rate, o.Requests = gateway.URL, []int{1, 2}, 60_000, 20
	for run := 1; run <= 2; run++ {
		r, err := Run(t.Context(), o, nil)
		if err != nil {
			t.Fatal(err)
		}
		if len(had) != run*40 {
			t.Errorf("run %d: %d different texts so far, want %d", run, len(had), run*40)
		}
		if r.URL != gateway.URL || r.Profile != "" {
			t.Errorf("the report tells of %q, and of a simulated upstream %q", r.URL, r.Profile)
		}
	}
	o.Sessions, o.Repeats = []int{1}, 0.5
	if _, err := Run(t.Context(), o, nil); err != nil {
		t.Fatal(err)
	}
	repeated := 0
	for _, n := range had {
		repeated += n - 1
	}
	if repeated == 0 {
		t.Error("repeats were asked for, and none was sent")
	}
}
