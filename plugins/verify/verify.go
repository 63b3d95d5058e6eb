// Package verify looks at a plugin from outside, as the gateway does: a program
// in any language, by its command alone. It is what `dragoman plugin verify`
// runs. Each check says in one line what is wrong and what to do about it.
//
// The plugin gets texts to translate, so a provider that costs money is given a
// test account, or a simulated upstream.
package verify

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/plugins/wire"
)

// Options say what is looked at.
type Options struct {
	// Command is the program and its arguments.
	Command []string
	// Dir is its working directory; empty for that of this process.
	Dir string
	// Env is its environment, NAME=VALUE, beside what every plugin gets. It
	// inherits nothing.
	Env []string
	// Config is its configuration, a JSON object; nil for an empty one.
	Config []byte
	// Source and Target are the languages to ask for; what the plugin offers
	// first, or en to es, when they are empty.
	Source, Target core.Language
}

// A Result is how one check went.
type Result struct {
	Name string
	// Detail is what was seen; of a check that failed, what is wrong and what
	// to do.
	Detail string
	// Failed and Skipped are false for a check that passed.
	Failed, Skipped bool
}

// Run makes every check, one after the other, and reports each when it is done.
// It returns how many failed. The error is that of ctx, or of this machine, and
// not the plugin's. Nothing that it has started is left when it returns.
func Run(ctx context.Context, o Options, report func(Result)) (failed int, err error) {
	return run(ctx, o, checks(), report)
}

func run(ctx context.Context, o Options, checks []check, report func(Result)) (failed int, err error) {
	k, err := newKit(o)
	if err != nil {
		return 0, err
	}
	defer k.close()
	for _, c := range checks {
		if k.known < c.needs {
			report(Result{Name: c.name, Detail: "not looked at, since " + k.stuck + " failed", Skipped: true})
			continue
		}
		detail, err := c.look(k, ctx)
		if ctx.Err() != nil {
			return failed, context.Cause(ctx)
		}
		if _, ours := errors.AsType[machineError](err); ours {
			return failed, err
		}
		if err != nil {
			k.stopAll() // what it does from here on may come of that
			failed++
			if k.known < c.gives {
				k.stuck = c.name
			}
			report(Result{Name: c.name, Detail: err.Error(), Failed: true})
			continue
		}
		k.known = max(k.known, c.gives)
		report(Result{Name: c.name, Detail: detail})
	}
	return failed, nil
}

// A machineError is a failure that is not the plugin's.
type machineError struct{ error }

// What is known of a plugin: a check needs some of it, and may give more.
type knowledge int

const (
	nothing knowledge = iota
	serves
	described
	configured
)

type check struct {
	name         string
	needs, gives knowledge
	look         func(*kit, context.Context) (detail string, err error)
}

func checks() []check {
	return []check{
		{"handshake", nothing, serves, (*kit).handshake},
		{"stdout", serves, nothing, (*kit).stdout},
		{"describe", serves, described, (*kit).describe},
		{"health", described, nothing, (*kit).health},
		{"started by hand", nothing, nothing, (*kit).byHand},
		{"configure", described, configured, (*kit).configure},
		{"bad configuration", described, nothing, (*kit).badConfiguration},
		{"instances", configured, nothing, (*kit).instances},
		{"texts", configured, nothing, (*kit).texts},
		{"long texts", configured, nothing, (*kit).longTexts},
		{"cancel", configured, nothing, (*kit).cancel},
		{"crash", configured, nothing, (*kit).crash},
		{"sigterm", configured, nothing, (*kit).sigterm},
		{"double shutdown", configured, nothing, (*kit).shutdown},
		{"host death", configured, nothing, (*kit).hostDeath},
	}
}

// What the gateway waits for, and how much longer this kit does, so that it can
// say how long it took.
const (
	startLimit  = 5 * time.Second
	startWait   = 15 * time.Second
	healthLimit = 2 * time.Second
	endLimit    = 3 * time.Second
	callWait    = 30 * time.Second
	longWait    = 5 * time.Second
	maxTexts    = 32
)

// handshake starts the plugin as `dragoman check` does, with no environment.
func (k *kit) handshake(ctx context.Context) (string, error) {
	p, err := k.borrow(ctx, bare)
	if err != nil {
		return "", err
	}
	k.noise = p.noise
	if p.took > startLimit {
		return "", fmt.Errorf("it took %v to serve, and the gateway waits %v: print the line as soon as you listen, and load models in Configure", p.took.Round(10*time.Millisecond), startLimit)
	}
	return fmt.Sprintf("after %v", p.took.Round(time.Millisecond)), nil
}

func (k *kit) stdout(context.Context) (string, error) {
	if len(k.noise) > 0 {
		return "", fmt.Errorf("it printed %q before the handshake, which then is none: print to standard error, and look at what libraries print", k.noise[0])
	}
	return "", nil
}

func (k *kit) describe(ctx context.Context) (string, error) {
	p, err := k.borrow(ctx, bare)
	if err != nil {
		return "", err
	}
	defer k.spend(p)
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	d, err := p.plugin.Describe(ctx, &wire.DescribeRequest{})
	if err != nil {
		return "", p.fault("Describe", err, "it is asked without an environment and without a configuration, and only says what the program is")
	}
	if err := judge(d); err != nil {
		return "", err
	}
	k.about = d
	detail := strings.TrimSpace(d.GetName()+" "+d.GetVersion()) + ":"
	for _, part := range d.GetParts() {
		detail += " " + roleName(part.GetRole()) + " " + part.GetName()
	}
	return detail, nil
}

func (k *kit) health(ctx context.Context) (string, error) {
	p, err := k.borrow(ctx, fresh)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, healthLimit)
	defer cancel()
	if err := p.serving(ctx); err != nil {
		return "", err
	}
	if _, err := p.plugin.Health(ctx, &wire.Instance{}); err != nil {
		return "", p.fault("Health with an empty id", err, fmt.Sprintf("answer it within %v whatever else goes on; it is asked every second", healthLimit))
	}
	return p.strangers(ctx)
}

// strangers calls the plugin as another process of the same user would, without
// the secret that it was given.
func (p *program) strangers(ctx context.Context) (string, error) {
	conn, err := grpc.NewClient("unix:"+p.socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return "", machineError{err}
	}
	defer conn.Close()
	_, describe := wire.NewPluginClient(conn).Describe(ctx, &wire.DescribeRequest{})
	_, health := wire.NewPluginClient(conn).Health(ctx, &wire.Instance{})
	open := 0
	for _, err := range []error{describe, health} {
		switch status.Code(err) {
		case codes.OK:
			open++
		case codes.Unauthenticated:
		default:
			return "", p.fault("a call without the secret", err, "refuse it with UNAUTHENTICATED")
		}
	}
	switch open {
	case 0:
		return "", nil
	case 2:
		// Plugins of before know of no secret, and are none the worse.
		return fmt.Sprintf("it answers any process of this user: better read the secret from the descriptor in %s, and refuse calls that do not carry it as %s", wire.SecretKey, wire.SecretHeader), nil
	}
	return "", errors.New("it refuses some calls without the secret and answers others: refuse all")
}

func (k *kit) configure(ctx context.Context) (string, error) {
	if err := k.fits(); err != nil {
		return "", err
	}
	_, err := k.borrow(ctx, ready)
	return "", err
}

// texts asks for one text and then for many at once.
func (k *kit) texts(ctx context.Context) (string, error) {
	p, err := k.borrow(ctx, ready)
	if err != nil {
		return "", err
	}
	began := time.Now()
	for _, part := range k.about.GetParts() {
		a, err := k.ask(ctx, p, part, "one", sentence)
		if err == nil {
			err = a.failed()
		}
		if err != nil {
			return "", err
		}
	}
	took := time.Since(began)
	faults := make(chan error, maxTexts*len(k.about.GetParts()))
	for _, part := range k.about.GetParts() {
		for n := range maxTexts {
			go func() {
				a, err := k.ask(ctx, p, part, fmt.Sprint("of many ", n), sentence)
				if err == nil && a.err != nil && !overloaded(a.err) {
					err = a.failed()
				}
				faults <- err
			}()
		}
	}
	for range cap(faults) {
		err = errors.Join(err, <-faults)
	}
	if err != nil {
		return "", fmt.Errorf("one at a time it answers; of %d at once not all: %w", maxTexts, first(err))
	}
	return fmt.Sprintf("the first after %v, %d at once", took.Round(time.Millisecond), maxTexts), nil
}

// longTexts asks for a text that many servers would refuse unless told
// otherwise, and for one that the protocol does not allow.
func (k *kit) longTexts(ctx context.Context) (string, error) {
	p, err := k.borrow(ctx, ready)
	if err != nil {
		return "", err
	}
	for _, part := range k.about.GetParts() {
		size := 6 << 20
		if part.GetAfter() {
			size = 3 << 20 // After gets the text and its translation
		}
		// A plugin may work on it for longer than anybody would wait.
		call, leave := context.WithTimeout(ctx, longWait)
		_, err := k.ask(call, p, part, "long", long(size))
		late := call.Err() != nil
		leave()
		if err != nil && !late {
			return "", fmt.Errorf("%w: a text of %d MiB is answered, with a result or with an error such as too_large, which the SDKs give by themselves for an answer that no message holds (without one, or with an SDK of before: let the gRPC server take and send messages of %d MiB, and answer too_large where yours would be longer)", err, size>>20, wire.MaxMessage>>20)
		}
		// Whether it takes a message that is longer than any that the gateway
		// sends is its own affair, as long as it lives.
		k.ask(ctx, p, part, "too long", long(16<<20))
		a, err := k.ask(ctx, p, part, "after", sentence)
		if err == nil {
			err = a.failed()
		}
		if err != nil {
			return "", fmt.Errorf("after a message of 16 MiB: %w: refuse such a message and go on", err)
		}
	}
	return "", nil
}

// crash kills the plugin while it works, and starts it again.
func (k *kit) crash(ctx context.Context) (string, error) {
	p, err := k.borrow(ctx, ready)
	if err != nil {
		return "", err
	}
	defer k.spend(p)
	states := map[wire.Role][]byte{}
	answers := map[wire.Role]answer{}
	for _, part := range k.about.GetParts() {
		if part.GetRole() != wire.Role_ROLE_STAGE {
			continue
		}
		down, state, err := k.before(ctx, p, part, "crash", sentence)
		if err != nil {
			return "", err
		}
		states[part.GetRole()] = state
		if answers[part.GetRole()], err = k.after(ctx, p, part, "crash", sentence, down, state); err != nil {
			return "", err
		}
	}
	inside := make(chan struct{})
	for range maxTexts {
		go func() {
			for _, part := range k.about.GetParts() {
				k.ask(ctx, p, part, "in mid-stream", sentence)
			}
			inside <- struct{}{}
		}()
	}
	<-inside // one is through, the others are under way
	p.kill()
	for range maxTexts - 1 {
		<-inside
	}

	k.spend(p)
	again, err := k.borrow(ctx, ready)
	if err != nil {
		return "", fmt.Errorf("it was killed while it worked, and started again: %w: do not rely on what a process before has left or cleaned up", err)
	}
	for _, part := range k.about.GetParts() {
		if part.GetRole() != wire.Role_ROLE_STAGE {
			if _, err := k.ask(ctx, again, part, "after a crash", sentence); err != nil {
				return "", err
			}
			continue
		}
		down, _, err := k.before(ctx, again, part, "crash", sentence)
		if err != nil {
			return "", err
		}
		a, err := k.after(ctx, again, part, "crash", sentence, down, states[part.GetRole()])
		if err != nil {
			return "", err
		}
		if was := answers[part.GetRole()]; a.text != was.text {
			return "", fmt.Errorf("a process that was started between Before and After answers otherwise than the one before: what After needs belongs into the state, which the gateway keeps, not into memory or a file")
		}
	}
	return "", nil
}
