// Package reload is the way of a changed pipeline.yaml into a running gateway: it follows
// the file, checks what it holds, has the engine build, start and probe it, and says in one
// verdict what came of that. It goes back to what served before, too. It knows the engine
// and the state folder; nobody of core knows it.
package reload

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/config"
	"github.com/dragoman-mt/dragoman/core/engine"
	"github.com/dragoman-mt/dragoman/core/state"
)

// A Reloader takes configurations, one at a time, from wherever they come, and
// serves those that are good. It is the only path on which a running gateway's
// configuration changes. It is safe for concurrent use.
type Reloader struct {
	o    Options
	past *state.Past

	turn     chan struct{} // holds one while nobody loads
	disk     string        // hash of what the file held when it was last loaded, whatever came of it; for who has the turn
	refused  bool          // that was refused, and nobody was told that there is nothing to undo; for who has the turn
	warned   []string      // what Warnings says of what serves; for who has the turn
	content  []byte        // that serves; for who has the turn
	mu       sync.Mutex
	state    Serving
	reloads  [3]atomic.Int64 // by outcome
	lastGood atomic.Int64    // unix nanoseconds
}

// Options are what a Reloader is made of.
type Options struct {
	Engine *engine.Engine
	// File is the configuration's file.
	File string
	// Load checks content, as that of File; nil is what File holds now.
	Load func(content []byte) (*config.File, error)
	// Times returns what a request may take with the configuration, and how
	// long those that entered the generation before may go on.
	Times func(*config.File) (deadline, drain time.Duration)
	// Served is told of each configuration that serves from now on; nil for nobody.
	Served func(*config.File)
	// Loading is told when a configuration is about to be built and started, and Loaded when
	// it serves, or does not; nil for nobody.
	Loading, Loaded func()
	// Warnings are what an operator should know of a good configuration.
	Warnings func(*config.File) []string
	// Processes are the numbers of the plugins' processes now.
	Processes func() []int
	// Past keeps the contents that served.
	Past state.Folder
	Log  *zap.Logger
}

// Serving is what serves, and what came of the last reload.
type Serving struct {
	Hash string // of the content that serves
	// Since is when it began to serve.
	Since time.Time
	// File is what serves.
	File *config.File
	// Last is the last verdict that says something: that a file serves already
	// does not hide how it came to. It is nil before the first reload.
	Last *Report
	// At is when it was reached.
	At time.Time
	// Differs says that the file on disk is not what serves.
	Differs bool
}

// An Outcome is what came of a reload.
type Outcome string

const (
	Reloaded  Outcome = "reloaded"
	Unchanged Outcome = "unchanged" // what was to be loaded serves already
	Refused   Outcome = "refused"   // the former one serves on
	Would     Outcome = "would"     // it was only asked what would be done
)

var outcomes = []Outcome{Reloaded, Unchanged, Refused}

// A Report is the verdict of one reload, as operators read it.
type Report struct {
	Outcome Outcome
	// Trigger says what asked for it: "SIGHUP".
	Trigger string
	// Generation serves now, and Was did before.
	Generation, Was int64
	Took            time.Duration
	Changes         []config.Change
	// Files are the places that changed because files of theirs did.
	Files []string
	// Carried is what was kept: "cache 48,112 entries".
	Carried  []string
	Warnings []string
	// DryRun says that it was only asked what would be done. Steps are what would
	// become of each part.
	DryRun bool
	Steps  []engine.Step
	// Note says why there was nothing to do, when it is not that what was asked for
	// serves already.
	Note string
	// Err says why it was refused.
	Err error
	// Since is when what was gone back to served, or since when what is unchanged
	// serves; else zero.
	Since time.Time
	// Differs says that the file on disk is not what serves now.
	Differs bool
	Hash    string

	stale bool // it was told of too late, and is not worth a word
}

// String is the verdict in one line; that of a refused one has a line more for
// each mistake.
func (v Report) String() string {
	differs := ""
	if v.Differs {
		differs = "; the file on disk differs from what serves"
	}
	switch {
	case v.Note != "":
		return fmt.Sprintf("%s; generation %d serves on%s", v.Note, v.Generation, differs)
	case v.Outcome == Unchanged:
		return fmt.Sprintf("nothing to do: generation %d serves this already, since %s%s", v.Generation, v.Since.Local().Format(time.TimeOnly), differs)
	case v.Outcome == Refused && v.DryRun:
		return fmt.Sprintf("a reload would be refused, and generation %d serve on%s:\n%v", v.Generation, differs, v.Err)
	case v.Outcome == Refused:
		return fmt.Sprintf("refused after %v, generation %d serves on%s:\n%v", round(v.Took), v.Generation, differs, v.Err)
	}
	var what []string
	for _, c := range v.Changes {
		what = append(what, c.String())
	}
	for _, place := range v.Files {
		what = append(what, "files of "+place+" changed")
	}
	if len(what) == 0 {
		what = []string{"no value changed"}
	}
	const most = 8
	if more := len(what) - most; more > 1 {
		what = append(what[:most:most], fmt.Sprintf("%d more", more))
	}
	line := fmt.Sprintf("reloaded generation %d (was %d) in %v: %s", v.Generation, v.Was, round(v.Took), strings.Join(what, ", "))
	if v.Outcome == Would {
		line = fmt.Sprintf("a reload would change generation %d: %s", v.Generation, strings.Join(what, ", "))
	}
	if !v.Since.IsZero() {
		line += "; back to what served at " + v.Since.Local().Format("15:04:05 on 2006-01-02")
	}
	for _, fate := range []engine.Fate{engine.Change, engine.Rebuild, engine.Add, engine.Park, engine.Remove} {
		var places []string
		for _, s := range v.Steps {
			if s.Fate == fate {
				places = append(places, s.Place)
			}
		}
		if len(places) > 0 {
			line += "; " + string(fate) + ": " + strings.Join(places, ", ")
		}
	}
	if len(v.Carried) > 0 {
		line += "; carried over: " + strings.Join(v.Carried, ", ")
	}
	return line + differs
}

func round(d time.Duration) time.Duration {
	if d < 10*time.Millisecond {
		return d.Round(100 * time.Microsecond)
	}
	return d.Round(time.Millisecond)
}

// reloadTimeout bounds the start and the probes of what is new.
const reloadTimeout = 30 * time.Second

// New returns a reloader for an engine that serves file already, whose
// content is content: that of the file, or one that was gone back to.
func New(o Options, file *config.File, content []byte, back bool) *Reloader {
	r := &Reloader{o: o, past: state.NewPast(o.Past, o.Log), turn: make(chan struct{}, 1), content: content}
	r.turn <- struct{}{}
	now := time.Now()
	r.state = Serving{Hash: state.Hash(content), Since: now, File: file}
	if !back {
		r.disk = r.state.Hash
	}
	r.lastGood.Store(now.UnixNano())
	r.warned = o.Warnings(file) // whoever starts a gateway says them
	r.past.Note(content, now, back)
	return r
}

// Serving returns what serves.
func (r *Reloader) Serving() Serving {
	r.mu.Lock()
	s := r.state
	r.mu.Unlock()
	s.Differs = r.differs(s.Hash)
	return s
}

func (r *Reloader) differs(hash string) bool {
	content, err := read(r.o.File)
	return err != nil || state.Hash(content) != hash
}

// Reload serves what the file holds now. It waits for a reload that runs.
func (r *Reloader) Reload(ctx context.Context, trigger string) Report {
	return r.reload(ctx, trigger, func(ctx context.Context, v *Report) ([]byte, error) {
		content, err := read(r.o.File)
		if err == nil {
			r.disk = state.Hash(content)
			err = r.load(ctx, content, v)
		} else {
			err = fmt.Errorf("%s: %w; what serves goes on", r.o.File, err)
		}
		r.refused = err != nil
		return content, err
	})
}

// Content serves content, which the file held a moment ago. Who follows the file
// learns of a change after a while: when somebody has asked for that content
// before, and perhaps for another one since, nothing is done and nothing said.
func (r *Reloader) Content(ctx context.Context, trigger string, content []byte) Report {
	return r.reload(ctx, trigger, func(ctx context.Context, v *Report) ([]byte, error) {
		hash := state.Hash(content)
		if hash == r.disk {
			v.Outcome, v.Since, v.stale = Unchanged, r.state.Since, true
			return content, nil
		}
		r.disk = hash
		err := r.load(ctx, content, v)
		r.refused = err != nil
		return content, err
	})
}

// Named is for a file that content names with ${file:PATH}, content being what the
// configuration's file held a moment ago: it may hold something else by now. What
// serves is read anew if it was made from what that held before, be it content or
// another that was gone back to; and content, if it was refused.
func (r *Reloader) Named(ctx context.Context, trigger string, content []byte) Report {
	return r.reload(ctx, trigger, func(ctx context.Context, v *Report) ([]byte, error) {
		switch {
		case r.refused && state.Hash(content) == r.disk:
			err := r.load(ctx, content, v)
			r.refused = err != nil
			return content, err
		case r.state.File.Outdated():
			return r.content, r.load(ctx, r.content, v)
		}
		v.Outcome, v.Since, v.stale = Unchanged, r.state.Since, true
		return content, nil
	})
}

// A Target is what a reload is to serve.
type Target struct {
	Previous bool // what served before what serves now
	To       int  // what stands there in the list of Kept, from 1
}

// Serve serves what to names: what the file holds now, when it names nothing.
func (r *Reloader) Serve(ctx context.Context, trigger string, to Target) Report {
	switch {
	case to.To != 0:
		return r.reload(ctx, trigger, func(ctx context.Context, v *Report) ([]byte, error) {
			kept, err := r.numbered(to.To)
			if err != nil {
				return nil, err
			}
			v.Since = kept.At
			return kept.Content, r.load(ctx, kept.Content, v)
		})
	case to.Previous:
		return r.Previous(ctx, trigger)
	}
	return r.Reload(ctx, trigger)
}

// Previous serves what served before what serves now. A content that cannot be
// served any more is passed over, with a warning. Right after the file was refused
// there is nothing to undo, which is said once.
func (r *Reloader) Previous(ctx context.Context, trigger string) Report {
	return r.reload(ctx, trigger, func(ctx context.Context, v *Report) ([]byte, error) {
		if r.refused {
			r.refused = false
			v.Outcome, v.Note = Unchanged, nothingToUndo
			return nil, nil
		}
		var passed []string
		for hash := r.state.Hash; ; {
			kept, err := r.past.Before(hash)
			if err != nil {
				return nil, errors.Join(append([]error{err}, said(passed)...)...)
			}
			v.Since = kept.At
			if err = r.load(ctx, kept.Content, v); err == nil {
				v.Warnings = append(v.Warnings, passed...)
				return kept.Content, nil
			}
			passed = append(passed, fmt.Sprintf("what served at %s cannot be served any more: %v", kept.At.Local().Format(time.DateTime), err))
			if ctx.Err() != nil || hash == kept.Hash {
				return nil, err
			}
			hash = kept.Hash
		}
	})
}

const nothingToUndo = "nothing to undo: the file was refused, so what served before it serves still; mend the file and save it, or ask again to go further back"

// Rehearse says what Serve would do, and does nothing: no part is started or asked.
func (r *Reloader) Rehearse(ctx context.Context, to Target) Report {
	return r.reload(ctx, "", func(ctx context.Context, v *Report) ([]byte, error) {
		v.DryRun, v.Hash, v.Differs = true, r.state.Hash, r.differs(r.state.Hash)
		return nil, r.rehearse(ctx, to, v)
	})
}

func (r *Reloader) rehearse(ctx context.Context, to Target, v *Report) error {
	var kept state.Kept
	var err error
	switch {
	case to.To != 0:
		kept, err = r.numbered(to.To)
	case to.Previous && r.refused:
		v.Outcome, v.Note = Unchanged, nothingToUndo
		return nil
	case to.Previous:
		kept, err = r.past.Before(r.state.Hash)
	default:
		kept.Content, err = read(r.o.File)
	}
	if err != nil {
		return err
	}
	g, err := r.prepared(ctx, kept.Content)
	switch {
	case err != nil:
		return err
	case g == nil:
		v.Outcome, v.Since = Unchanged, r.state.Since
		return nil
	}
	defer g.Close()
	v.Outcome, v.Since = Would, kept.At
	r.tell(g, v)
	v.Steps = g.Steps
	v.Warnings, _ = r.news(g.File())
	return nil
}

// tell says in v what g changes.
func (r *Reloader) tell(g *engine.Generation, v *Report) {
	v.Changes = g.Changes()
	for _, s := range g.Steps {
		if s.Files {
			v.Files = append(v.Files, s.Place)
		}
	}
}

// news are the warnings about file that do not hold for what serves already, those
// about this change of it included, and all that may hold for the next as well.
func (r *Reloader) news(file *config.File) (fresh, all []string) {
	all = r.o.Warnings(file)
	for _, w := range all {
		if !slices.Contains(r.warned, w) {
			fresh = append(fresh, w)
		}
	}
	for _, v := range config.Overruled(r.state.File, file) {
		fresh = append(fresh, fmt.Sprintf("what the file says about %s changed, and it stays %s by a --set that this gateway was started with; start it without that for the file to count", v.Path, v.Text))
	}
	return fresh, all
}

// A Listed content is one that is kept, as it compares with what serves.
type Listed struct {
	state.Kept
	Serves  bool
	Changes []config.Change // from what serves to this
	Err     error           // why it cannot be served now
}

// Kept lists what can be gone back to, latest first.
func (r *Reloader) Kept() ([]Listed, error) {
	all, err := r.past.Kept()
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	serving := r.state
	r.mu.Unlock()
	var list []Listed
	for _, k := range all {
		l := Listed{Kept: k, Serves: k.Hash == serving.Hash}
		switch {
		case l.Serves:
		case k.Content == nil:
			l.Err = errUnreadable
		default:
			var file *config.File
			if file, l.Err = r.o.Load(k.Content); l.Err == nil {
				l.Changes = config.Diff(serving.File, file)
			}
		}
		list = append(list, l)
	}
	return list, nil
}

var errUnreadable = errors.New("it cannot be read, or was changed since it served")

// numbered returns the n-th of what is kept.
func (r *Reloader) numbered(n int) (state.Kept, error) {
	all, err := r.past.Kept()
	switch {
	case err != nil:
		return state.Kept{}, err
	case len(all) == 0:
		return state.Kept{}, state.ErrNothingOlder
	case n < 1 || n > len(all):
		return state.Kept{}, fmt.Errorf("there is no %d: what is kept is numbered from 1 to %d, latest first; `dragoman reload --list` shows it", n, len(all))
	case all[n-1].Content == nil:
		return state.Kept{}, fmt.Errorf("number %d: %w", n, errUnreadable)
	}
	return all[n-1], nil
}

func said(lines []string) []error {
	var all []error
	for _, line := range lines {
		all = append(all, errors.New(line))
	}
	return all
}

func (r *Reloader) reload(ctx context.Context, trigger string, load func(context.Context, *Report) ([]byte, error)) Report {
	select {
	case <-r.turn:
	case <-ctx.Done():
		return Report{Outcome: Refused, Trigger: trigger, Generation: r.o.Engine.Number(), Err: fmt.Errorf("another reload is running: %w", context.Cause(ctx))}
	}
	defer func() { r.turn <- struct{}{} }()
	ctx, cancel := context.WithTimeout(ctx, reloadTimeout)
	defer cancel()

	began := time.Now()
	v := Report{Trigger: trigger, Was: r.o.Engine.Number()}
	content, err := load(ctx, &v)
	if err != nil {
		v.Outcome, v.Err, v.Since = Refused, err, time.Time{}
	}
	v.Generation, v.Took = r.o.Engine.Number(), time.Since(began)
	if !v.stale && !v.DryRun {
		r.note(&v, content)
	}
	return v
}

// prepared is the generation of data that nothing was started for yet; nil when
// nothing is to be done.
func (r *Reloader) prepared(ctx context.Context, data []byte) (*engine.Generation, error) {
	same := r.state.Hash == state.Hash(data) && !r.state.File.Outdated()
	return r.o.Engine.Prepare(ctx, r.o.File, same, func() (*config.File, time.Duration, error) {
		file, err := r.o.Load(data)
		if err != nil {
			return nil, 0, err
		}
		deadline, _ := r.o.Times(file)
		return file, deadline, nil
	})
}

// load serves data, and fills in v.
func (r *Reloader) load(ctx context.Context, data []byte, v *Report) error {
	if r.o.Loading != nil {
		r.o.Loading()
		defer r.o.Loaded()
	}
	g, err := r.prepared(ctx, data)
	switch {
	case err != nil:
		return err
	case g == nil:
		v.Outcome, v.Since = Unchanged, r.state.Since
		return nil
	}
	file := g.File()
	before := r.o.Processes()
	if err := g.Start(ctx); err != nil {
		return err
	}
	warnings, err := engine.Unwell(g.Probe(ctx))
	if err != nil {
		g.Close()
		return err
	}
	if ctx.Err() != nil {
		g.Close()
		return fmt.Errorf("it took too long, or nobody waits for it any more: %w", context.Cause(ctx))
	}
	v.Outcome = Reloaded
	r.tell(g, v)
	fresh, all := r.news(file)
	v.Warnings, r.warned = append(warnings, fresh...), all
	_, drain := r.o.Times(file)
	r.o.Engine.Serve(g, drain)
	if r.o.Served != nil {
		r.o.Served(file)
	}
	g.Watch()
	v.Carried = g.Holds()
	kept := 0
	now := r.o.Processes()
	for _, pid := range before {
		if slices.Contains(now, pid) {
			kept++
		}
	}
	switch kept {
	case 0:
	case 1:
		v.Carried = append(v.Carried, "1 plugin")
	default:
		v.Carried = append(v.Carried, fmt.Sprintf("%d plugins", kept))
	}
	r.mu.Lock()
	r.state.File = file
	r.mu.Unlock()
	return nil
}

// note keeps, logs and counts v.
func (r *Reloader) note(v *Report, data []byte) {
	now := time.Now()
	r.mu.Lock()
	if v.Outcome == Reloaded {
		r.state.Hash, r.state.Since, r.content = state.Hash(data), now, data
		r.lastGood.Store(now.UnixNano())
	}
	v.Hash = r.state.Hash
	r.mu.Unlock()
	v.Differs = r.differs(v.Hash)
	last := *v
	r.mu.Lock()
	if was := r.state.Last; v.Note == "" && (v.Outcome != Unchanged || was == nil || was.Outcome == Refused) {
		r.state.Last, r.state.At = &last, now
	}
	r.mu.Unlock()
	r.reloads[slices.Index(outcomes, v.Outcome)].Add(1)

	log := r.o.Log.With(zap.String("trigger", v.Trigger))
	switch v.Outcome {
	case Refused:
		log.Error(v.String())
	default:
		log.Info(v.String())
	}
	for _, w := range v.Warnings {
		log.Warn(w)
	}
	if v.Outcome == Reloaded {
		r.past.Note(data, now, !v.Since.IsZero())
	}
}

// Persist writes to disk what served and could not be written before. It is to be
// called from time to time.
func (r *Reloader) Persist() { r.past.Persist() }

// Measure reports what came of reloads.
func (r *Reloader) Measure(emit func(core.Measure)) {
	s := r.Serving()
	is := func(b bool) float64 {
		if b {
			return 1
		}
		return 0
	}
	for i, o := range outcomes {
		emit(core.Measure{Name: "reloads_total", Help: "Reloads of the configuration, by what came of them.", Counter: true, Value: float64(r.reloads[i].Load()), Labels: []string{"outcome", string(o)}})
	}
	emit(core.Measure{Name: "config_info", Help: "The configuration that serves, by the hash of its file; the value is 1.", Value: 1, Labels: []string{"hash", s.Hash[:12]}})
	emit(core.Measure{Name: "config_last_reload_success", Help: "Whether the last reload was not refused.", Value: is(s.Last == nil || s.Last.Outcome != Refused)})
	emit(core.Measure{Name: "config_serving_since_seconds", Help: "When what serves was loaded, as Unix time.", Value: float64(r.lastGood.Load()) / 1e9})
	emit(core.Measure{Name: "config_file_differs", Help: "Whether the file on disk is not what serves.", Value: is(s.Differs)})
}
