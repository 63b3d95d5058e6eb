package spec

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/config"
)

// A Rig is a chain that was started for one test.
type Rig struct {
	// Translator is the chain as a door calls it.
	Translator core.Translator
	// Measure reports its counters.
	Measure func(emit func(core.Measure))
	// Close ends it.
	Close func()
}

// A Runner runs tests, one at a time.
type Runner struct {
	// Open builds and starts the configuration, with set over it, and with d in
	// the place of its providers.
	Open func(ctx context.Context, set []string, d *Double) (*Rig, error)
	// Limit is how long one test may take, its start included.
	Limit time.Duration
}

// A Grade is how a test ended.
type Grade int

const (
	Passed Grade = iota
	Failed
	Skipped
)

// An Outcome is what came of one test.
type Outcome struct {
	Grade Grade

	name     string
	reason   string // of a test that was skipped
	failures []failure
	came     []string // one line for each request
	took     time.Duration
}

// A failure is one thing that is not as expected.
type failure struct {
	path      string           // in the test file
	place     config.Complaint // where that is; it says nothing
	want, got string
	note      string
}

var errLimit = errors.New("the test took too long")

// grace is how much longer a test that has taken too long may take to notice.
const grace = 2 * time.Second

// Run runs test i of f. A test that does not end in time has failed, and is left
// behind when it does not even end then.
func (r *Runner) Run(ctx context.Context, f *File, i int) Outcome {
	start := time.Now()
	limited, cancel := context.WithTimeoutCause(ctx, r.Limit, errLimit)
	defer cancel()
	t := &trial{file: f, test: &f.Tests[i], path: fmt.Sprintf("tests[%d]", i), double: &Double{}}
	t.at(t.path, "the start of the chain")
	done := make(chan Outcome, 1)
	go func() { done <- t.run(limited, r.Open) }()

	var o Outcome
	select {
	case o = <-done:
	case <-limited.Done():
		timer := time.NewTimer(grace)
		defer timer.Stop()
		select {
		case o = <-done:
		case <-timer.C:
		}
		if errors.Is(context.Cause(limited), errLimit) {
			path, what := t.where()
			o = Outcome{Grade: Failed, came: o.came, failures: []failure{{
				path: path, want: fmt.Sprintf("an end within %v", r.Limit), got: "none; the time passed during " + what,
			}}}
		}
	}
	o.name, o.took = t.test.Name, time.Since(start)
	for i := range o.failures {
		o.failures[i].place = f.place(o.failures[i].path)
	}
	slices.SortStableFunc(o.failures, func(a, b failure) int {
		return cmp.Or(cmp.Compare(a.place.Line, b.place.Line), cmp.Compare(a.place.Column, b.place.Column))
	})
	return o
}

// A trial is one run of one test.
type trial struct {
	file   *File
	test   *Test
	path   string
	double *Double
	rig    *Rig

	// Guarded by double.mu: the attempts of the request, as the stage provider
	// has counted them, in the order of their ends.
	counted  map[Attempt]int
	attempts []Attempt

	mu     sync.Mutex
	atPath string
	atWhat string
}

// at notes how far the trial is.
func (t *trial) at(path, what string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.atPath, t.atWhat = path, what
}

func (t *trial) where() (path, what string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.double.mu.Lock()
	defer t.double.mu.Unlock()
	if t.double.cut != "" {
		return t.atPath, t.atWhat + ", in a call of " + t.double.cut
	}
	return t.atPath, t.atWhat
}

func (t *trial) run(ctx context.Context, open func(context.Context, []string, *Double) (*Rig, error)) (o Outcome) {
	fail := func(failures ...failure) Outcome {
		o.Grade, o.failures = Failed, failures
		return o
	}
	rig, err := open(ctx, t.test.Set, t.double)
	if err != nil {
		path := t.path
		if all := config.AsComplaints(err); len(all) > 0 && strings.HasPrefix(all[0].File, "--set") && t.test.Set != nil {
			path += ".set"
		}
		return fail(failure{path: path, want: "a chain that starts", got: err.Error()})
	}
	t.rig = rig
	defer func() {
		if ctx.Err() == nil {
			t.at(t.path, "the end of the chain")
		}
		rig.Close()
	}()
	t.counted = t.counters()

	steps, path := t.test.Steps, t.path+".steps[%d]"
	if steps == nil {
		steps, path = []Step{t.test.Step}, t.path+"%.d"
	}
	for i := range steps {
		s, path := &steps[i], fmt.Sprintf(path, i)
		t.double.begin(path, s, t.note)
		for n := range max(s.Times, 1) {
			t.at(path+".request", "the request")
			came := t.ask(ctx, s.Request)
			if ctx.Err() != nil {
				return fail() // Run says why
			}
			if plugins := t.double.absent(); plugins != "" {
				return Outcome{Grade: Skipped, reason: plugins, came: o.came}
			}
			o.came = append(o.came, came.String())
			failures := t.double.surplus()
			if len(failures) == 0 {
				failures = judge(path+".expect", s, came)
			}
			if s.Times > 1 && len(failures) > 0 {
				failures[0].note = fmt.Sprintf("in request %d of %d", n+1, s.Times)
			}
			if n+1 == max(s.Times, 1) {
				failures = append(failures, t.double.unasked()...)
			}
			if len(failures) > 0 {
				return fail(failures...)
			}
		}
	}
	return o
}

// came is what came of one request.
type came struct {
	result   *core.Result
	err      error
	attempts []Attempt
	calls    []called
	streamed string
}

// ask makes one request and waits until everything that it began has ended.
func (t *trial) ask(ctx context.Context, r *Request) came {
	t.double.again()
	req := &core.Request{
		ID: "test", Text: r.Text, Formality: core.Formality(r.Formality), Instructions: r.Instructions,
		Client: "test", Session: r.Session, NoCache: r.NoCache, Final: true, Lane: core.LaneFinal,
	}
	req.Source, req.Target = parsed(r.Source), parsed(r.Target)
	var c came
	if r.Stream {
		req.OnDelta = func(text string) error {
			c.streamed += text
			return nil
		}
	}
	asked := ctx
	if r.Deadline > 0 {
		var cancel context.CancelFunc
		asked, cancel = context.WithTimeout(ctx, r.Deadline)
		defer cancel()
	}
	c.result, c.err = t.rig.Translator.Translate(asked, req)
	c.attempts, c.calls = t.settle(ctx)
	return c
}

// parsed is a tag that was checked when the file was loaded.
func parsed(tag string) core.Language {
	l, _ := core.ParseLanguage(tag)
	return l
}

// settle waits until every call has ended and was counted: a request that has
// its answer may leave one behind for a moment, such as a hedge that has lost.
func (t *trial) settle(ctx context.Context) ([]Attempt, []called) {
	for {
		t.double.mu.Lock()
		t.note()
		quiet := t.double.busy == 0 && len(t.attempts) >= len(t.double.calls)
		attempts, calls := t.attempts, t.double.calls
		if quiet || ctx.Err() != nil {
			t.attempts = nil
			t.double.mu.Unlock()
			// They were noted as they ended. A hedge begins after the first call
			// and before all others.
			slices.SortStableFunc(attempts, func(a, b Attempt) int { return cmp.Compare(rank(a), rank(b)) })
			return attempts, calls
		}
		t.double.mu.Unlock()
		timer := time.NewTimer(time.Millisecond)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
	}
}

func rank(a Attempt) int {
	switch a.Reason {
	case "first":
		return 0
	case "hedge":
		return 1
	}
	return 2
}

// note finds the attempts that have ended since it was called last. The caller
// holds double.mu.
func (t *trial) note() {
	now := t.counters()
	for _, a := range slices.SortedFunc(maps.Keys(now), func(a, b Attempt) int { return strings.Compare(a.String(), b.String()) }) {
		for range now[a] - t.counted[a] {
			t.attempts = append(t.attempts, a)
		}
	}
	t.counted = now
}

// counters reads what the stage provider has counted.
func (t *trial) counters() map[Attempt]int {
	all := map[Attempt]int{}
	t.rig.Measure(func(m core.Measure) {
		if m.Name != "provider_attempts_total" {
			return
		}
		var a Attempt
		for i := 0; i+1 < len(m.Labels); i += 2 {
			switch m.Labels[i] {
			case "provider":
				a.Provider = m.Labels[i+1]
			case "reason":
				a.Reason = m.Labels[i+1]
			case "outcome":
				a.Outcome = m.Labels[i+1]
			}
		}
		all[a] += int(m.Value)
	})
	return all
}

// absent names the plugins that were needed and not started.
func (d *Double) absent() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.missing == nil {
		return ""
	}
	return "it needs the plugin " + d.missing[0] + ", and no plugin is started"
}

// surplus says which calls the step has no answer for.
func (d *Double) surplus() []failure {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.beyond
}

// unasked says which answers of the step nobody asked for.
func (d *Double) unasked() []failure {
	d.mu.Lock()
	defer d.mu.Unlock()
	var failures []failure
	for _, name := range slices.Sorted(maps.Keys(d.left)) {
		if n := len(d.left[name]); n > 0 {
			failures = append(failures, failure{
				path: d.left[name][0].path, want: "a call of " + name + " that has this answer", got: fmt.Sprintf("none; answers of %s that are left: %d", name, n),
			})
		}
	}
	return failures
}
