package engine

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/chain"
	"github.com/dragoman-mt/dragoman/core/config"
)

// A Fate is what a new configuration does to a part.
type Fate string

const (
	Keep    Fate = "kept"    // it serves on as it is
	Change  Fate = "changed" // in place, with everything that it holds
	Rebuild Fate = "rebuilt" // another takes its place
	Add     Fate = "added"
	Park    Fate = "parked" // out of the chain, with everything that it holds
	Remove  Fate = "removed"
	Idle    Fate = "idle" // a provider that the chain does not use, so it is not started
)

// A Step says what a new configuration does to the part at one place.
type Step struct {
	Place string // stages/queue, providers/openai, pool
	Fate  Fate
	// Files says that it is for files that changed, not for the configuration.
	Files bool
	// Heir says that what was rebuilt takes over what the former knew.
	Heir bool
}

// A shared part is one that was built, for all generations that it serves in.
type shared struct {
	item any
	// Guarded by Engine.sharing:
	generations int
	calls       int        // of Start, Probe and Outdated that run
	hung        *LateError // of the one that is late; nil for none
	orphan      bool       // no generation has it, and it is closed or will be
}

// A part is what stands at one place of a generation.
type part struct {
	*shared
	label    string // stage or provider
	name     string
	role     core.Role
	kind     string
	chats    bool          // it takes them
	digest   string        // of the configuration that it has here
	deadline time.Duration // that it was built with
	at       string        // file:line:column: path
	used     bool          // the chain needs it
	parked   bool          // its stage is disabled, and it is kept for later
	fresh    bool          // built for this generation
}

func (p *part) place() string { return p.label + "s/" + p.name }

// Build makes a generation from a checked configuration: what was there before
// is kept, or planned to be changed in place, where it can be. Nothing that
// serves is touched: Serve does that. Providers that the chain does not use are
// built, so that their mistakes are found, but never started.
//
// A generation is served, or closed, before another is built.
func (e *Engine) Build(file *config.File, deadline time.Duration) (*Generation, error) {
	return e.build(file, deadline, &progress{})
}

// Prepare makes the generation of what load returns, which is that of the file name,
// and of its deadline. It is bounded from outside, with a *LateError: nothing of it
// knows a context, and some of it is other people's code. It returns nil when the
// content is the same as what serves, and no file that a part names has changed.
func (e *Engine) Prepare(ctx context.Context, name string, same bool, load func() (*config.File, time.Duration, error)) (*Generation, error) {
	if err := e.late.full(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, planTimeout)
	defer cancel()
	type prepared struct {
		g   *Generation
		err error
	}
	doing := &progress{}
	p, err := within(ctx, &e.late, doing.String, func() (p prepared) {
		if same && !e.outdated(doing) {
			return p
		}
		doing.note(name, "checking")
		file, deadline, err := load()
		if err != nil {
			return prepared{err: err}
		}
		p.g, p.err = e.build(file, deadline, doing)
		return p
	}, func(p prepared) {
		if p.g != nil {
			p.g.Close()
		}
	})
	return p.g, cmp.Or(err, p.err)
}

func (e *Engine) build(file *config.File, deadline time.Duration, doing *progress) (*Generation, error) {
	g := newGeneration(e, file, doing)
	g.base = e.current.Load()
	if err := g.plan(deadline); err != nil {
		g.Close()
		return nil, err
	}
	return g, nil
}

func (g *Generation) plan(deadline time.Duration) error {
	if err := g.sections(); err != nil {
		return err
	}
	providers, parts := map[string]core.Provider{}, map[string]*part{}
	for _, item := range g.file.Providers {
		found, p, err := g.provider(item, deadline)
		if err != nil {
			return err
		}
		providers[item.Name], parts[item.Name] = found, p
	}
	var places []chain.Place
	for _, item := range g.file.Stages {
		if !item.Enabled {
			g.park(item)
			continue
		}
		p, err := g.part("stage", item, deadline)
		if err != nil {
			return err
		}
		places = append(places, chain.Place{Name: item.Name, Item: p.item, Digest: p.digest, Chats: item.Kind.Chats})
	}
	chats, err := g.chats(parts)
	if err != nil {
		return err
	}
	g.removals()
	g.doing.note("the chain", "linking")

	used := map[string]bool{}
	linked, err := chain.Link(places, func(name string) (core.Provider, bool) {
		p, ok := providers[name]
		if !ok {
			return core.Provider{}, false
		}
		if !used[name] {
			used[name] = true
			p = signed(p)
			providers[name] = p
		}
		return p, true
	}, g.engine.watch, chats...)
	if err != nil {
		return fmt.Errorf("%s: %w", g.file.Path, err)
	}
	g.chain = linked
	for _, p := range g.parts {
		p.used = p.label == "stage" && !p.parked || p.label == "provider" && used[entryOf(p.name)]
		if !p.used && !p.parked {
			for i := range g.Steps {
				if g.Steps[i].Place == p.place() {
					g.Steps[i] = Step{Place: p.place(), Fate: Idle}
				}
			}
		}
	}
	g.letIdle()
	return nil
}

// A ChatUser is a section of the configuration that names providers for chats. Each is
// told with the key that names it, without the section.
type ChatUser interface {
	ChatProviders(each func(key, provider string))
}

// chats returns the providers that sections name for chats.
func (g *Generation) chats(providers map[string]*part) (names []string, err error) {
	var refused []error
	for _, section := range slices.Sorted(maps.Keys(g.file.Sections)) {
		user, ok := g.file.Sections[section].(ChatUser)
		if !ok {
			continue
		}
		user.ChatProviders(func(key, name string) {
			p, there := providers[name]
			switch {
			case !there:
				refused = append(refused, fmt.Errorf("%s.%s: there is no provider %q; there are %s", section, key, name, strings.Join(slices.Sorted(maps.Keys(providers)), ", ")))
			case !p.chats:
				refused = append(refused, fmt.Errorf("%s.%s: the provider %q, of type %s, translates and takes no chats; name one that does, such as one of type openai", section, key, name, p.kind))
			case !slices.Contains(names, name):
				names = append(names, name)
			}
		})
	}
	return names, g.file.Place(errors.Join(refused...))
}

// provider finds or builds an entry of providers: the part, or one for each of its
// accounts, of which the first is returned.
func (g *Generation) provider(item config.Item, deadline time.Duration) (entry core.Provider, first *part, err error) {
	entry = core.Provider{Name: item.Name, Limits: item.Limits}
	if len(item.Accounts) == 0 {
		p, err := g.part("provider", item, deadline)
		if err != nil {
			return entry, nil, err
		}
		p.fill(&entry)
		return entry, p, nil
	}
	for i, account := range item.Accounts {
		p, err := g.part("provider", account, deadline)
		if err != nil {
			return entry, nil, err
		}
		if first == nil {
			first = p
		}
		share := core.Provider{Name: item.Name, Limits: item.Limits, Share: i + 1, Weight: account.Weight}
		p.fill(&share)
		entry.Shares = append(entry.Shares, share)
	}
	entry.Translator = entry.Shares[0].Translator
	return entry, first, nil
}

// fill puts into of what is known of the part, but for what a Fingerprinter says.
func (p *part) fill(of *core.Provider) {
	of.Translator, of.Fingerprint, of.Account = p.item.(core.Translator), p.digest, p.account()
}

// signed returns entry with the fingerprints that its parts say. It is for entries that
// the chain uses: a plugin reads its program for that, which takes as long as all else
// at the start.
func signed(entry core.Provider) core.Provider {
	sign := func(p *core.Provider) string {
		if f, is := p.Translator.(core.Fingerprinter); is {
			p.Fingerprint = f.Fingerprint()
		}
		return p.Fingerprint
	}
	if len(entry.Shares) == 0 {
		sign(&entry)
		return entry
	}
	entry.Shares = slices.Clone(entry.Shares)
	var answers []string
	for i := range entry.Shares {
		if answer := sign(&entry.Shares[i]); !slices.Contains(answers, answer) {
			answers = append(answers, answer)
		}
	}
	// They answer alike, whatever each would say of that.
	slices.Sort(answers)
	entry.Fingerprint = strings.Join(answers, " ")
	for i := range entry.Shares {
		entry.Shares[i].Fingerprint = entry.Fingerprint
	}
	return entry
}

// entryOf is the entry of providers that a part is of: openai for openai/2.
func entryOf(name string) string {
	entry, _, _ := strings.Cut(name, "/")
	return entry
}

// account names whom the upstream of a provider bills, and tells nothing: what
// the part says of it, hashed; or else the entry and its configuration.
func (p *part) account() string {
	of := p.name + " " + p.digest
	if a, ok := p.item.(core.Accounter); ok {
		of = a.Account()
	}
	sum := sha256.Sum256([]byte(of))
	return hex.EncodeToString(sum[:])
}

// letIdle drops what was kept and is not used any more, so that it is closed with
// the last generation that does: a plugin's process would go on for nobody.
func (g *Generation) letIdle() {
	g.engine.sharing.Lock()
	defer g.engine.sharing.Unlock()
	g.parts = slices.DeleteFunc(g.parts, func(p *part) bool {
		drop := !p.used && !p.parked && !p.fresh
		if drop {
			p.generations--
		}
		return drop
	})
}

// sections plans the changes of what lives outside generations.
func (g *Generation) sections() error {
	if g.base == nil {
		return nil
	}
	var refused []error
	for _, name := range slices.Sorted(maps.Keys(g.file.Sections)) {
		follows := slices.ContainsFunc(g.engine.sections, func(s section) bool { return s.name == name })
		if !follows && !reflect.DeepEqual(g.base.file.Sections[name], g.file.Sections[name]) {
			refused = append(refused, fmt.Errorf("%s: cannot change while the gateway runs; restart it", name))
		}
	}
	for _, s := range g.engine.sections {
		g.doing.note(s.name, "planning")
		was, is := g.base.file.Sections[s.name], g.file.Sections[s.name]
		same, files := reflect.DeepEqual(was, is), outdated(s.part)
		if same && !files {
			g.step(s.name, Keep, false, false)
			continue
		}
		apply, err := s.part.Plan(is)
		if err != nil {
			refused = append(refused, err)
			continue
		}
		g.applies = append(g.applies, change{s.name, apply})
		g.step(s.name, Change, same && files, false)
	}
	return g.file.Place(errors.Join(refused...))
}

// part finds or builds what stands at the place of item.
func (g *Generation) part(label string, item config.Item, deadline time.Duration) (*part, error) {
	p := &part{
		label: label, name: item.Name, role: item.Kind.Role, kind: item.Kind.Name, chats: item.Kind.Chats, digest: item.Digest, deadline: deadline,
		at: fmt.Sprintf("%s:%d:%d: %s", g.file.Path, item.Line, item.Column, item.Path),
	}
	former := g.former(p)
	if former == nil {
		g.step(p.place(), Add, false, false)
		return p, g.build(p, item)
	}
	g.doing.note(p.place(), "planning")
	planner, plans := former.item.(core.Planner)
	timed, takes := former.item.(core.Deadliner)
	same := former.digest == p.digest && (former.deadline == deadline || plans || takes)
	files := g.outdated(former)
	switch {
	case same && !files:
		g.step(p.place(), Keep, false, false)
		p.shared = former.shared
		if takes && former.deadline != deadline {
			g.applies = append(g.applies, change{p.place(), func() { timed.SetDeadline(deadline) }})
		}
	case plans:
		apply, err := planner.Plan(item.Config)
		if err != nil {
			return nil, p.placed(item.Origin, err)
		}
		g.applies = append(g.applies, change{p.place(), apply})
		if takes && former.deadline != deadline {
			g.applies = append(g.applies, change{p.place(), func() { timed.SetDeadline(deadline) }})
		}
		g.step(p.place(), Change, former.digest == p.digest, false)
		p.shared = former.shared
	default:
		if err := g.build(p, item); err != nil {
			return nil, err
		}
		heir, ok := p.item.(core.Heir)
		if ok {
			g.doing.note(p.place(), "inheriting")
			heir.Inherit(former.item)
		}
		g.step(p.place(), Rebuild, same && files, ok)
		return p, nil
	}
	g.hold(p)
	return p, nil
}

// placed gives err, which a part has of its configuration, its place in the file: that
// of the key which it names as its field, else that of the part.
func (p *part) placed(origin core.Origin, err error) error {
	if all := config.AsComplaints(err); all != nil {
		return all // they name their place, and better
	}
	errs := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		errs = joined.Unwrap()
	}
	var all config.Complaints
	for _, one := range errs {
		e, ok := errors.AsType[*core.Error](one)
		if !ok || e.Field == "" || origin == nil {
			return fmt.Errorf("%s: %w", p.at, err)
		}
		all = append(all, config.AsComplaints(origin.Complain(e.Field, cmp.Or(e.Detail, e.Error())))...)
	}
	if all == nil {
		return fmt.Errorf("%s: %w", p.at, err)
	}
	return all
}

func outdated(section any) bool {
	o, ok := section.(core.Outdater)
	return ok && o.Outdated()
}

// former returns what stood at the place of p and is of its kind, if it was in
// use or parked: what was not holds nothing.
func (g *Generation) former(p *part) *part {
	if g.base == nil {
		return nil
	}
	for _, f := range g.base.parts {
		if f.label == p.label && f.name == p.name && f.role == p.role && f.kind == p.kind && (f.used || f.parked) {
			return f
		}
	}
	return nil
}

func (g *Generation) build(p *part, item config.Item) error {
	g.doing.note(p.place(), "building")
	built, err := item.Kind.Build(core.Env{
		Name: entryOf(item.Name), Log: g.log.Named(item.Name), Upstream: g.engine.upstream, Deadline: p.deadline, Origin: item.Origin, Shared: g.engine.shared,
	}, item.Config)
	if err == nil {
		err = errors.Join(item.Kind.Fits(built), whole(built))
	}
	if err != nil {
		return p.placed(item.Origin, err)
	}
	p.shared, p.fresh = &shared{item: built}, true
	g.hold(p)
	return nil
}

// park keeps what stood at the place of a stage that is disabled, with the
// configuration that it has, if it can take another when it is enabled again.
// What cannot holds nothing.
func (g *Generation) park(item config.Item) {
	p := &part{label: "stage", name: item.Name, role: item.Kind.Role, kind: item.Kind.Name, parked: true}
	former := g.former(p)
	if former == nil {
		return
	}
	if _, plans := former.item.(core.Planner); !plans {
		return
	}
	p.shared, p.digest, p.deadline, p.at = former.shared, former.digest, former.deadline, former.at
	g.hold(p)
	g.step(p.place(), Park, false, false)
}

// hold makes p a part of g.
func (g *Generation) hold(p *part) {
	g.engine.sharing.Lock()
	defer g.engine.sharing.Unlock()
	p.generations++
	g.parts = append(g.parts, p)
}

// removals notes what the base has and g has not.
func (g *Generation) removals() {
	if g.base == nil {
		return
	}
	for _, f := range g.base.parts {
		if !slices.ContainsFunc(g.Steps, func(s Step) bool { return s.Place == f.place() }) {
			g.step(f.place(), Remove, false, false)
		}
	}
}

func (g *Generation) step(place string, fate Fate, files, heir bool) {
	g.Steps = append(g.Steps, Step{Place: place, Fate: fate, Files: files, Heir: heir})
}

// whole says that built has half of an ability, which would be passed over.
func whole(built any) error {
	if _, half := built.(interface{ Probe(context.Context) error }); half {
		if _, prober := built.(core.Prober); !prober {
			return fmt.Errorf("a %T can be probed, and has no Ready() error, which core.Prober asks for; one that returns nil will do", built)
		}
	}
	return nil
}
