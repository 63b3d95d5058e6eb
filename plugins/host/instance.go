package host

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/plugins/wire"
)

// An instance is one entry of the configuration that a plugin serves: the part
// that a chain sees, whatever process is behind it at the moment.
type instance struct {
	host    *Host
	env     core.Env
	name    string // where it stands
	folder  string
	program *Program
	role    wire.Role
	config  map[string]any
	derived bool // config is another provider's: what the plugin does not know is left out

	id string // in the plugin; set by join

	longest atomic.Int64 // that a request may take, a time.Duration; SetDeadline changes it

	mu        sync.Mutex
	plugin    *plugin        // since Start
	informing sync.WaitGroup // what SetDeadline began
	inform    context.Context
	ended     context.CancelFunc // of inform
	setup     atomic.Pointer[setup]

	fingerprint func() string // the same at every call

	refused atomic.Bool // the plugin has said that it is, and not answered since

	calls  atomic.Int64
	failed atomic.Int64
	again  atomic.Int64
	spent  atomic.Int64 // nanoseconds in calls
}

// A setup is what came of configuring an instance.
type setup struct {
	refused       error // nil when it serves
	languages     []core.LanguageInfo
	before, after bool
}

func newInstance(h *Host, env core.Env, role wire.Role, program *Program, config map[string]any) (*instance, error) {
	if env.Origin == nil {
		return nil, errors.New("a plugin is declared in a file, whose folder it runs in")
	}
	if err := program.check(); err != nil {
		return nil, err
	}
	in := &instance{host: h, env: env, name: env.Name, folder: env.Origin.Folder(), program: program, role: role, config: config}
	in.longest.Store(int64(env.Deadline))
	in.inform, in.ended = context.WithCancel(context.Background())
	in.fingerprint = sync.OnceValue(in.sum)
	return in, nil
}

// Start makes sure that the plugin runs and takes the configuration. A plugin
// that does not start is an error of kind unavailable, and is started again in
// the background until Close: a gateway that has nothing better serves with it,
// and says that it is not ready. Errors of other kinds do not mend by themselves:
// a configuration that the plugin refuses, a program that is not there or not the
// right one.
func (in *instance) Start(ctx context.Context) error {
	in.host.mu.Lock()
	mode := in.host.mode
	in.host.mu.Unlock()
	switch mode {
	case Ignore:
		return nil
	case Describe:
		return in.describe(ctx)
	case Try:
		return in.try(ctx)
	}
	p, err := in.join()
	if err != nil {
		return in.complain(in.key(), err.Error())
	}
	return p.settle(ctx, in)
}

func (in *instance) join() (p *plugin, err error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.plugin == nil {
		in.plugin, err = in.host.join(in)
	}
	return in.plugin, err
}

// process returns the plugin, nil before Start and after Close.
func (in *instance) process() *plugin {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.plugin
}

// deadline is the longest that a request may take.
func (in *instance) deadline() time.Duration { return time.Duration(in.longest.Load()) }

// SetDeadline takes another deadline in place: breakers, latencies and counters stay.
// A plugin bounds its calls as well, by what it was configured with, so it hears of a
// longer one; a shorter one is kept here.
func (in *instance) SetDeadline(longest time.Duration) {
	was := time.Duration(in.longest.Swap(int64(longest)))
	in.mu.Lock()
	defer in.mu.Unlock()
	if p := in.plugin; p != nil && longest > was {
		in.informing.Go(func() { p.inform(in.inform, in) })
	}
}

// Close ends the instance.
func (in *instance) Close() error {
	in.mu.Lock()
	p := in.plugin
	in.plugin = nil
	in.mu.Unlock()
	in.ended()
	in.informing.Wait()
	if p != nil {
		in.host.leave(p, in)
	}
	return nil
}

// describe starts the program only to hear what it is.
func (in *instance) describe(ctx context.Context) error {
	out := &output{log: in.env.Log}
	sockets, err := in.host.folder(in.env.Log)
	if err != nil {
		return err
	}
	r, err := launch(ctx, in.program, in.folder, sockets, &in.host.kin, out, false, version{})
	if err != nil {
		return in.complain(in.key(), err.Error())
	}
	defer r.stop()
	_, err = in.fits(r)
	return err
}

// try starts the program as if it were to serve, configures it, asks whether it
// could serve, and ends it. A plugin that somebody else has started gets an
// instance of its own, which nobody else has and which is released.
func (in *instance) try(ctx context.Context) error {
	out := &output{log: in.env.Log}
	sockets, err := in.host.folder(in.env.Log)
	if err != nil {
		return err
	}
	r, err := launch(ctx, in.program, in.folder, sockets, &in.host.kin, out, true, version{})
	if err != nil {
		return in.complain(in.key(), err.Error())
	}
	defer r.stop()
	in.host.mu.Lock()
	in.host.name(in)
	in.host.mu.Unlock()
	v, err := in.configure(ctx, r)
	switch {
	case err != nil:
		return in.complain(in.key(), err.Error())
	case v.refused != nil:
		return v.refused
	}
	ctx, cancel := context.WithTimeout(ctx, releaseTimeout)
	defer cancel()
	if _, err := r.plugin.Release(ctx, &wire.Instance{Id: in.id}); err != nil {
		in.env.Log.Warn("releasing an instance", zap.Error(spoken(err)))
	}
	return nil
}

// key is what the program is named by.
func (in *instance) key() string {
	if in.program.Address != "" {
		return "address"
	}
	return "command"
}

func (in *instance) complain(path, message string) error {
	return in.env.Origin.Complain(path, message)
}

// fits returns what the plugin says about this role, or what is wrong with the
// configuration by its schema.
func (in *instance) fits(r *running) (*wire.Part, error) {
	part := r.part(in.role)
	if part == nil {
		serves := map[wire.Role]string{wire.Role_ROLE_PROVIDER: "provider", wire.Role_ROLE_STAGE: "stage"}[in.role]
		return nil, in.complain(in.key(), fmt.Sprintf("%s serves no %s", r.about.GetName(), serves))
	}
	if in.derived || len(part.GetConfigSchema()) == 0 {
		return part, nil
	}
	return part, in.env.Origin.Check("config", part.GetConfigSchema())
}

// configure configures the instance in r and returns what came of that. The
// error is that of the connection; that the configuration is refused is in the setup.
func (in *instance) configure(ctx context.Context, r *running) (*setup, error) {
	part, err := in.fits(r)
	if err != nil {
		return &setup{refused: err}, nil
	}
	config, err := json.Marshal(in.values(part.GetConfigSchema()))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, configureTimeout)
	defer cancel()
	reply, err := r.plugin.Configure(ctx, &wire.Config{
		Instance: in.id, Role: in.role, Name: in.name, Config: config, Deadline: durationpb.New(in.deadline()),
	})
	if err != nil {
		return nil, fmt.Errorf("it cannot be configured: %w", spoken(err))
	}
	if len(reply.GetErrors()) > 0 {
		return &setup{refused: in.refusal(reply.GetErrors())}, nil
	}
	languages, err := wire.DecodeLanguages(reply.GetLanguages())
	if err != nil {
		return &setup{refused: in.complain(in.key(), fmt.Sprintf("%s offers languages that cannot be taken: %v", r.about.GetName(), err))}, nil
	}
	return &setup{languages: languages, before: part.GetBefore(), after: part.GetAfter()}, nil
}

// refusal says where in the file the plugin's complaints belong.
func (in *instance) refusal(all []*wire.ConfigError) error {
	var said []error
	for _, e := range all[:min(len(all), wire.MaxComplaints)] {
		path, message := "config", clip(e.GetDetail(), lastLine)
		switch {
		case in.derived:
			path = "config_from"
			if e.GetField() != "" {
				message = clip(e.GetField(), lastLine) + ": " + message
			}
		case e.GetField() != "":
			path += "." + clip(e.GetField(), lastLine)
		}
		said = append(said, in.complain(path, message))
	}
	if len(said) == 1 {
		return said[0]
	}
	return errors.Join(said...)
}

// values returns the configuration as the plugin gets it.
func (in *instance) values(schema []byte) map[string]any {
	var known struct {
		Properties           map[string]json.RawMessage `json:"properties"`
		AdditionalProperties any                        `json:"additionalProperties"`
	}
	if in.config == nil {
		return map[string]any{}
	}
	if !in.derived || json.Unmarshal(schema, &known) != nil || known.AdditionalProperties != false {
		return in.config
	}
	values := map[string]any{}
	for key, value := range in.config {
		if _, ok := known.Properties[key]; ok {
			values[key] = value
		}
	}
	return values
}

// Languages returns what the plugin can translate, as far as it is known.
func (in *instance) Languages() []core.LanguageInfo {
	if v := in.setup.Load(); v != nil {
		return v.languages
	}
	return nil
}

// Probe asks whether the instance could serve now.
func (in *instance) Probe(ctx context.Context) error {
	if in.process() == nil {
		return nil // nobody started it, as is right when a file is only checked
	}
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	r, leave, err := in.enter(ctx, nil, short)
	if err != nil {
		return err
	}
	defer leave()
	v := visit{running: r, ended: r.link.ended()}
	state, failed := r.plugin.Health(ctx, &wire.Instance{Id: in.id})
	switch {
	case failed != nil:
		err, _ := in.broken(ctx, ctx, v, failed)
		return err
	case state.GetError() != nil:
		return wire.DecodeError(state.GetError(), in.name)
	}
	return nil
}

// Ready says why there is no process that serves the instance at this moment.
func (in *instance) Ready() error {
	p := in.process()
	if p == nil {
		return nil // as in Probe
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.current != nil {
		return nil
	}
	err := p.away()
	err.Stage = in.name
	return err
}

// Outdated says whether the files of the program have another content than those
// that its process was made of.
func (in *instance) Outdated() bool {
	p := in.process()
	return p != nil && p.outdated()
}

// enter returns the process that serves the instance now, another than dead. It
// is waited for as long as most says.
func (in *instance) enter(ctx context.Context, dead *running, most patience) (*running, func(), *core.Error) {
	p := in.process()
	if p == nil {
		return nil, nil, &core.Error{Kind: core.Unavailable, Stage: in.name, Detail: "the plugin was not started"}
	}
	r, leave, err := p.enter(ctx, dead, most)
	if err != nil {
		err.Stage = in.name
		return nil, nil, err
	}
	if v := in.setup.Load(); v == nil || v.refused != nil {
		leave()
		err := &core.Error{Kind: core.Unavailable, Stage: in.name, Detail: "the plugin refuses its configuration"}
		if v != nil {
			err.Cause = v.refused
		}
		return nil, nil, err
	}
	return r, leave, nil
}

// send makes a call. When its process died under it, and nothing of the answer
// has left, it is made once more, in the next process: that another one takes
// over is not the caller's business, as it is not when a connection breaks. All
// this unless the caller, who knows somebody else to ask, has no patience.
func (in *instance) send(ctx context.Context, most patience, about private, call func(visit) (err *core.Error, died bool)) *core.Error {
	var dead *running
	for {
		r, leave, err := in.enter(ctx, dead, most)
		if err != nil {
			return err
		}
		began := time.Now()
		r.called.Store(true)
		err, died := call(visit{r, r.link.ended(), about})
		leave()
		in.calls.Add(1)
		in.spent.Add(int64(time.Since(began)))
		if err == nil {
			return nil
		}
		in.failed.Add(1)
		if !died || dead != nil || most == none {
			return err
		}
		in.again.Add(1)
		dead = r
	}
}

// A visit is one call into a process.
type visit struct {
	*running
	ended int64 // connections that had ended when it began
	private
}

// broken turns the failure of a call into an error: of the request, when that is
// over; of the attempt, when it took too long; else of the plugin. Died says
// that the process is gone, or its connection.
func (in *instance) broken(ctx, call context.Context, r visit, err error) (e *core.Error, died bool) {
	said := errors.New(without(spoken(err).Error(), r.texts()))
	e = &core.Error{Stage: in.name, Cause: said}
	switch code := status.Code(err); {
	case ctx.Err() != nil:
		return core.ContextError(ctx, in.name), false
	case call.Err() != nil || code == codes.DeadlineExceeded:
		e.Kind, e.Detail, e.Retryable = core.DeadlineExceeded, "the plugin did not answer in time", true
	case (code == codes.Unavailable || code == codes.Canceled) && r.died(r.ended):
		died = true
		e.Kind, e.Detail, e.Retryable = core.Unavailable, "the plugin went away", true
		e.RetryAfter = in.soon()
		if r.process == nil {
			r.drop(death{errors.New("its connection broke")})
		}
	case code == codes.Unavailable || code == codes.Canceled: // it lives, and answers that
		e.Kind, e.Detail, e.Retryable = core.Unavailable, "the plugin cannot answer at the moment", true
	case code == codes.NotFound:
		r.drop(fmt.Errorf("it does not know an instance that it was configured with: %w", said))
		e.Kind, e.Detail, e.Retryable, e.RetryAfter = core.Unavailable, "the plugin has lost its configuration", true, in.soon()
	case code == codes.ResourceExhausted && strings.Contains(said.Error(), "message larger than max"): // as gRPC says it on either side
		e.Kind, e.Detail = core.ProviderFailed, fmt.Sprintf("a message to or from the plugin is longer than %d MiB", wire.MaxMessage>>20)
	default:
		e.Kind, e.Detail, e.Retryable = core.ProviderFailed, "the plugin failed", true
	}
	return e, died
}

func (in *instance) soon() time.Duration {
	p := in.process()
	if p == nil {
		return 0
	}
	return p.soon()
}

// said turns what a plugin answered into an error of this place. That it panicked
// or that nobody waits any more, which is not so, is the plugin's failure. So is
// that somebody refuses the plugin, or knows not what it asks for: those kinds
// are about who calls, and the client has called the gateway, not what the plugin
// calls.
func (in *instance) said(ctx context.Context, e *wire.Error, about private) *core.Error {
	err, texts := wire.DecodeError(e, in.name), about.texts()
	err.Field, err.Detail = without(err.Field, texts), without(err.Detail, texts)
	if err.Cause != nil {
		err.Cause = errors.New(without(err.Cause.Error(), texts))
	}
	switch {
	case ctx.Err() != nil:
		return core.ContextError(ctx, in.name)
	case err.Kind == core.Internal || err.Kind == core.Canceled:
		err.Kind, err.Retryable = core.ProviderFailed, true
	case err.Kind == core.Unauthorized || err.Kind == core.Forbidden || err.Kind == core.NotFound:
		why := string(err.Kind) + ": " + err.Detail
		if err.Cause != nil {
			why += ": " + err.Cause.Error()
		}
		err.Kind, err.Field, err.Cause = core.ProviderFailed, "", errors.New(why)
		err.Detail = "the plugin is refused by what it asks; see its key and what it may do"
		if !in.refused.Swap(true) {
			in.env.Log.Warn("the plugin says that it is refused, which is said once until it answers again", zap.Error(err.Cause))
		}
	}
	return err
}

// well notes that the plugin has answered.
func (in *instance) well() {
	if in.refused.Load() {
		in.refused.Store(false)
	}
}

// excess tells, once for a process, of what beside a text is not taken as it
// came.
func (in *instance) excess(r visit, res *wire.Result) {
	if r.told.Load() {
		return
	}
	if err := wire.Excess(res); err != nil && !r.told.Swap(true) {
		in.env.Log.Warn("not all is taken of what the plugin answers beside the text", zap.Error(err))
	}
}

// Measure reports the plugin and the calls of this instance.
func (in *instance) Measure(emit func(core.Measure)) {
	p := in.process()
	if p == nil {
		return
	}
	now := p.status()
	for _, s := range phases {
		value := 0.0
		if s == now.State {
			value = 1
		}
		emit(core.Measure{Name: "plugin_state", Help: "What the plugin is doing: 1 for its state.", Value: value, Labels: []string{"state", string(s)}})
	}
	emit(core.Measure{Name: "plugin_pid", Help: "Number of the plugin's process; 0 when there is none of ours.", Value: float64(now.PID)})
	emit(core.Measure{Name: "plugin_memory_bytes", Help: "Resident memory of the plugin's process.", Value: float64(now.Memory)})
	for _, c := range []struct {
		name, help string
		value      float64
	}{
		{"plugin_restarts_total", "Starts of the plugin after its first.", float64(now.Restarts)},
		{"plugin_calls_total", "Calls to the plugin.", float64(in.calls.Load())},
		{"plugin_failed_calls_total", "Calls that the plugin did not answer, whatever the answer.", float64(in.failed.Load())},
		{"plugin_resends_total", "Calls that were made again because the process died under them.", float64(in.again.Load())},
		{"plugin_call_seconds_total", "Time spent in calls to the plugin.", time.Duration(in.spent.Load()).Seconds()},
	} {
		emit(core.Measure{Name: c.name, Help: c.help, Counter: true, Value: c.value})
	}
}

// Fingerprint names the program, by the content of its files as they were when
// this was first asked, and what it is configured with: it is the same on another
// machine, where the files may lie elsewhere. Of files that cannot be read Start says so.
func (in *instance) Fingerprint() string { return in.fingerprint() }

func (in *instance) sum() string {
	version, err := in.program.version(in.folder)
	if err != nil {
		version.answers = strings.Join(in.program.Command, " ")
	}
	config, err := json.Marshal(in.config)
	if err != nil {
		config = nil // Start says so: it sends the same
	}
	sum := sha256.Sum256(append([]byte(version.answers+"\x00"), config...))
	return hex.EncodeToString(sum[:])
}
