package sdk

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/go-viper/mapstructure/v2"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/fields"
	"github.com/dragoman-mt/dragoman/plugins/wire"
)

// A server answers the calls of plugins/wire with the kinds of one program.
type server struct {
	wire.UnimplementedPluginServer
	wire.UnimplementedProviderServer
	wire.UnimplementedStageServer

	name  string
	kinds map[wire.Role]core.Kind
	log   *zap.Logger

	mu        sync.Mutex
	instances map[string]*instance
}

// An instance is a part that was built, and the calls inside it.
type instance struct {
	log      *zap.Logger
	item     any
	role     wire.Role
	config   *wire.Config   // that it was built with
	deadline atomic.Int64   // the longest that a request may take, a time.Duration
	calls    sync.WaitGroup // added to under server.mu, while the server knows it
}

func newServer(name string, kinds []core.Kind, log *zap.Logger) (*server, error) {
	s := &server{name: name, kinds: map[wire.Role]core.Kind{}, log: log, instances: map[string]*instance{}}
	for _, kind := range kinds {
		role := wire.Role_ROLE_STAGE
		switch kind.Role {
		case core.RoleProvider:
			role = wire.Role_ROLE_PROVIDER
		case core.RoleStage:
		default:
			return nil, fmt.Errorf("%s has the role %s; a plugin serves roles %s and %s", kind.Name, kind.Role, core.RoleProvider, core.RoleStage)
		}
		if first, taken := s.kinds[role]; taken {
			return nil, fmt.Errorf("%s and %s have both the role %s; a plugin serves one kind of each", first.Name, kind.Name, kind.Role)
		}
		s.kinds[role] = kind
	}
	if len(s.kinds) == 0 {
		return nil, errors.New("the program serves no kind")
	}
	return s, nil
}

// register makes g serve s.
func (s *server) register(g *grpc.Server) {
	wire.RegisterPluginServer(g, s)
	wire.RegisterProviderServer(g, s)
	wire.RegisterStageServer(g, s)
}

// close closes what no Release has closed.
func (s *server) close() {
	s.mu.Lock()
	left := s.instances
	s.instances = map[string]*instance{}
	s.mu.Unlock()
	for _, in := range left {
		in.close()
	}
}

func (s *server) Describe(context.Context, *wire.DescribeRequest) (*wire.Description, error) {
	d := &wire.Description{Name: s.name, Version: version(), Protocol: wire.Protocol}
	for _, role := range []wire.Role{wire.Role_ROLE_PROVIDER, wire.Role_ROLE_STAGE} {
		kind, ok := s.kinds[role]
		if !ok {
			continue
		}
		schema, err := json.Marshal(fields.Schema(kind.Config(), kind.Doc))
		if err != nil {
			return nil, status.Errorf(codes.Internal, "the schema of %s: %v", kind.Name, err)
		}
		hooks := role == wire.Role_ROLE_STAGE
		d.Parts = append(d.Parts, &wire.Part{Role: role, Name: kind.Name, Doc: kind.Doc, ConfigSchema: schema, Before: hooks, After: hooks && !kind.OneWay})
	}
	return d, nil
}

// version is what the program was built from.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		return cmp.Or(info.Main.Version, "(devel)")
	}
	return "(devel)"
}

func (s *server) Configure(ctx context.Context, c *wire.Config) (reply *wire.ConfigReply, err error) {
	reply = &wire.ConfigReply{}
	if in := s.takes(c); in != nil {
		if l, ok := in.item.(core.Languager); ok {
			reply.Languages = wire.EncodeLanguages(l.Languages())
		}
		return reply, nil
	}
	in, err := s.build(ctx, c)
	if err != nil {
		reply.Errors = configErrors(err)
		return reply, nil
	}
	if l, ok := in.item.(core.Languager); ok {
		reply.Languages = wire.EncodeLanguages(l.Languages())
	}
	s.mu.Lock()
	former := s.instances[c.GetInstance()]
	s.instances[c.GetInstance()] = in
	s.mu.Unlock()
	if former != nil {
		former.calls.Wait()
		former.close()
	}
	return reply, nil
}

// takes returns the instance that c describes, when it is there already and takes
// another deadline in place: what it has learned stays.
func (s *server) takes(c *wire.Config) *instance {
	s.mu.Lock()
	defer s.mu.Unlock()
	in := s.instances[c.GetInstance()]
	if in == nil {
		return nil
	}
	timed, ok := in.item.(core.Deadliner)
	same := proto.CloneOf(c)
	same.Deadline = in.config.GetDeadline()
	if !ok || !proto.Equal(same, in.config) {
		return nil
	}
	longest := wire.Deadline(c.GetDeadline())
	timed.SetDeadline(longest)
	in.deadline.Store(int64(longest))
	in.config = c
	return in
}

// build makes and starts the part that c describes.
func (s *server) build(ctx context.Context, c *wire.Config) (in *instance, err error) {
	kind, ok := s.kinds[c.GetRole()]
	if !ok {
		return nil, fmt.Errorf("%s serves no %s", s.name, map[wire.Role]string{wire.Role_ROLE_PROVIDER: "provider", wire.Role_ROLE_STAGE: "stage"}[c.GetRole()])
	}
	values := map[string]any{}
	if len(c.GetConfig()) > 0 {
		if err := json.Unmarshal(c.GetConfig(), &values); err != nil {
			return nil, fmt.Errorf("the configuration is no JSON object: %w", err)
		}
	}
	config := kind.Config()
	if err := fields.Decode(values, config); err != nil {
		return nil, err
	}
	in = &instance{log: s.log.Named(c.GetName()), role: c.GetRole(), config: c}
	longest := wire.Deadline(c.GetDeadline())
	in.deadline.Store(int64(longest))
	err = in.protect(func() error {
		env := core.Env{Name: c.GetName(), Log: in.log, Deadline: longest}
		if in.item, err = kind.Build(env, config); err != nil {
			return err
		}
		if starter, ok := in.item.(core.Starter); ok {
			return starter.Start(ctx)
		}
		return nil
	})
	if err == nil {
		err = kind.Fits(in.item)
	}
	if err == nil && in.translator() == nil && in.hooks() == nil {
		err = fmt.Errorf("the kind %s of role %s built a %T, which cannot be called from another process", kind.Name, kind.Role, in.item)
	}
	if err != nil {
		in.close()
		return nil, err
	}
	return in, nil
}

// configErrors names the keys that err is about.
func configErrors(err error) []*wire.ConfigError {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var all []*wire.ConfigError
		for _, err := range joined.Unwrap() {
			all = append(all, configErrors(err)...)
		}
		return all
	}
	if e, ok := errors.AsType[*mapstructure.DecodeError](err); ok {
		field := strings.TrimPrefix(strings.TrimPrefix(e.Name(), fields.Root), ".")
		return []*wire.ConfigError{{Field: field, Detail: e.Unwrap().Error()}}
	}
	if e, ok := errors.AsType[*core.Error](err); ok {
		return []*wire.ConfigError{{Field: e.Field, Detail: cmp.Or(e.Detail, e.Error())}}
	}
	return []*wire.ConfigError{{Detail: err.Error()}}
}

func (s *server) Health(ctx context.Context, i *wire.Instance) (*wire.State, error) {
	if i.GetId() == "" {
		return &wire.State{}, nil
	}
	in, leave, err := s.enter(i.GetId(), wire.Role_ROLE_UNSPECIFIED)
	if err != nil {
		return nil, err
	}
	defer leave()
	// Of core.Prober only this half crosses the wire: the other may ask nobody, and
	// the gateway knows by itself whether a plugin is there.
	prober, ok := in.item.(interface{ Probe(context.Context) error })
	if !ok {
		return &wire.State{}, nil
	}
	err = in.protect(func() error { return prober.Probe(ctx) })
	return &wire.State{Error: wire.EncodeError(err)}, nil
}

func (s *server) Release(_ context.Context, i *wire.Instance) (*wire.Released, error) {
	s.mu.Lock()
	in, ok := s.instances[i.GetId()]
	delete(s.instances, i.GetId())
	s.mu.Unlock()
	if ok {
		in.calls.Wait()
		in.close()
	}
	return &wire.Released{}, nil
}

// enter returns the instance id, which stays open until leave is called.
func (s *server) enter(id string, role wire.Role) (in *instance, leave func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	in, ok := s.instances[id]
	if !ok || role != wire.Role_ROLE_UNSPECIFIED && in.role != role {
		return nil, nil, status.Errorf(codes.NotFound, "there is no such instance here, configure it first: %q", id)
	}
	in.calls.Add(1)
	return in, in.calls.Done, nil
}

func (in *instance) translator() core.Translator {
	t, _ := in.item.(core.Translator)
	if in.role != wire.Role_ROLE_PROVIDER {
		return nil
	}
	return t
}

func (in *instance) hooks() core.Beforer {
	h, _ := in.item.(core.Beforer)
	if in.role != wire.Role_ROLE_STAGE {
		return nil
	}
	return h
}

func (in *instance) close() {
	if c, ok := in.item.(core.Closer); ok {
		if err := in.protect(c.Close); err != nil {
			in.log.Warn("closing", zap.Error(err))
		}
	}
}

func (s *server) Answer(ctx context.Context, v *wire.Visit) (*wire.Event, error) {
	in, leave, err := s.enter(v.GetInstance(), wire.Role_ROLE_PROVIDER)
	if err != nil {
		return nil, err
	}
	defer leave()
	ctx, cancel := wire.Within(ctx, time.Duration(in.deadline.Load()))
	defer cancel()
	return in.answer(ctx, v.GetText(), nil), nil
}

func (s *server) Translate(call *wire.Call, stream grpc.ServerStreamingServer[wire.Event]) error {
	in, leave, err := s.enter(call.GetInstance(), wire.Role_ROLE_PROVIDER)
	if err != nil {
		return err
	}
	defer leave()
	ctx, cancel := wire.Within(stream.Context(), time.Duration(in.deadline.Load()))
	defer cancel()
	var sending sync.Mutex
	send := func(e *wire.Event) error {
		sending.Lock()
		defer sending.Unlock()
		return stream.Send(e)
	}
	if len(call.GetTexts()) == 1 {
		return in.translate(ctx, 0, call.Texts[0], send)
	}
	var all sync.WaitGroup
	failed := make([]error, len(call.GetTexts()))
	for i, text := range call.GetTexts() {
		all.Go(func() { failed[i] = in.translate(ctx, uint32(i), text, send) })
	}
	all.Wait()
	return errors.Join(failed...)
}

// translate sends the events of one text. The error is that of send.
func (in *instance) translate(ctx context.Context, index uint32, text *wire.Text, send func(*wire.Event) error) error {
	var onDelta func(string) error
	if text.GetDeltas() {
		onDelta = func(delta string) error {
			if !utf8.ValidString(delta) {
				return notText
			}
			event := &wire.Event{Index: index, What: &wire.Event_Delta{Delta: delta}}
			if e := tooLong(event); e != nil {
				return wire.DecodeError(e, "")
			}
			return send(event)
		}
	}
	last := in.answer(ctx, text, onDelta)
	last.Index = index
	return send(last)
}

// tooLong is the error that goes out in place of a reply which no message can
// hold; nil for one that fits. Without it gRPC would fail the call, and the author
// could neither see nor mend that.
func tooLong(reply proto.Message) *wire.Error {
	n := proto.Size(reply)
	if n <= wire.MaxMessage {
		return nil
	}
	return wire.EncodeError(&core.Error{Kind: core.TooLarge, Field: "text",
		Detail: fmt.Sprintf("the plugin's answer to it has %d bytes, and a message of the protocol holds %d", n, wire.MaxMessage)})
}

// answer returns the last event of one text.
func (in *instance) answer(ctx context.Context, text *wire.Text, onDelta func(string) error) *wire.Event {
	req := wire.DecodeRequest(text)
	req.OnDelta, req.Trace = onDelta, wire.TraceOf(ctx)
	res, err := in.result(ctx, req)
	if err != nil {
		e := core.AsError(err, "")
		return &wire.Event{What: &wire.Event_Error{Error: wire.EncodeError(e)}, Limits: wire.EncodeLimits(e.Limits), Spent: wire.EncodeUsage(e.Usage)}
	}
	last := &wire.Event{What: &wire.Event_Result{Result: wire.EncodeResult(res)}, Limits: wire.EncodeLimits(res.Limits)}
	if e := tooLong(last); e != nil {
		last.What, last.Spent = &wire.Event_Error{Error: e}, wire.EncodeUsage(res.Usage)
	}
	return last
}

// notText refuses what cannot travel as text.
var notText = &core.Error{Kind: core.BadAnswer, Detail: "the answer is not valid UTF-8", Retryable: true}

func (in *instance) result(ctx context.Context, req *core.Request) (res *core.Result, err error) {
	err = in.protect(func() (err error) {
		res, err = in.translator().Translate(ctx, req)
		return err
	})
	switch {
	case err != nil:
		return nil, err
	case res == nil:
		return nil, &core.Error{Kind: core.Internal, Detail: "the plugin gave neither a result nor an error"}
	case !utf8.ValidString(res.Text):
		return nil, notText
	}
	return res, nil
}

func (s *server) Before(ctx context.Context, v *wire.Visit) (reply *wire.Verdict, err error) {
	in, leave, err := s.enter(v.GetInstance(), wire.Role_ROLE_STAGE)
	if err != nil {
		return nil, err
	}
	defer leave()
	ctx, cancel := wire.Within(ctx, time.Duration(in.deadline.Load()))
	defer cancel()
	defer func() {
		if e := tooLong(reply); err == nil && e != nil {
			reply = &wire.Verdict{What: &wire.Verdict_Error{Error: e}}
		}
	}()
	var verdict core.Verdict
	err = in.protect(func() (err error) {
		req := wire.DecodeRequest(v.GetText())
		req.Trace = wire.TraceOf(ctx)
		verdict, err = in.hooks().Before(ctx, req)
		return err
	})
	switch {
	case err != nil:
		return &wire.Verdict{What: &wire.Verdict_Error{Error: wire.EncodeError(err)}}, nil
	case verdict.Result != nil:
		return &wire.Verdict{What: &wire.Verdict_Result{Result: wire.EncodeResult(verdict.Result)}}, nil
	case verdict.Request != nil:
		return &wire.Verdict{What: &wire.Verdict_Request{Request: wire.EncodeRequest(verdict.Request)}, State: verdict.State}, nil
	}
	return &wire.Verdict{State: verdict.State}, nil
}

func (s *server) After(ctx context.Context, d *wire.Done) (*wire.Reply, error) {
	in, leave, err := s.enter(d.GetInstance(), wire.Role_ROLE_STAGE)
	if err != nil {
		return nil, err
	}
	defer leave()
	ctx, cancel := wire.Within(ctx, time.Duration(in.deadline.Load()))
	defer cancel()
	var res *core.Result
	err = in.protect(func() (err error) {
		both, ok := in.hooks().(core.Hooks)
		if !ok {
			return &core.Error{Kind: core.Internal, Detail: "the plugin has no After, as its Description says"}
		}
		req := wire.DecodeRequest(d.GetText())
		req.Trace = wire.TraceOf(ctx)
		res, err = both.After(ctx, req, wire.DecodeResult(d.GetResult()), d.GetState())
		return err
	})
	if err == nil && res == nil {
		err = &core.Error{Kind: core.Internal, Detail: "the plugin gave neither a result nor an error"}
	}
	if err != nil {
		return &wire.Reply{What: &wire.Reply_Error{Error: wire.EncodeError(err)}}, nil
	}
	reply := &wire.Reply{What: &wire.Reply_Result{Result: wire.EncodeResult(res)}}
	if e := tooLong(reply); e != nil {
		reply.What = &wire.Reply_Error{Error: e}
	}
	return reply, nil
}

// protect turns a panic of f into its error, and logs where it was.
func (in *instance) protect(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			in.log.Error("panic", zap.Any("panic", p), zap.Stack("stack"))
			err = &core.Error{Kind: core.Internal, Detail: "the plugin panicked; its log tells more", Cause: fmt.Errorf("panic: %v", p)}
		}
	}()
	return f()
}
