package core

import (
	"fmt"
	"net/http"
	"time"

	"go.uber.org/zap"
)

// A Role says where a part may stand.
type Role string

const (
	// RoleStage stands before or after the stage `provider`. Build returns a
	// Stage or Hooks, or a Beforer when the kind is OneWay.
	RoleStage Role = "stage"
	// RoleLookup answers without going on, so it stands before the stage
	// `provider`. Build returns a Stage.
	RoleLookup Role = "lookup"
	// RoleGate guards attempts, so it stands before the stage `provider`.
	// Build returns a Gate.
	RoleGate Role = "gate"
	// RoleCaller ends the chain and stands in it exactly once. Build returns a
	// Caller.
	RoleCaller Role = "caller"
	// RoleProvider is an entry of `providers:`. Build returns a Translator.
	RoleProvider Role = "provider"
)

// A Kind declares a part that a configuration can name.
//
// The struct that Config points to is the only source of its keys, defaults,
// bounds and help. Tags: `json` names the key; `jsonschema:"required"` says that it must be there, and
// every other may be left out and has the value that Config put there; `jsonschema` also bounds it
// (minimum=1,maximum=64,enum=a,enum=b, after a comma behind required); `jsonschema_extras` bounds a duration or a size
// (minDuration=1ms,maxDuration=1h,minSize=1MiB,maxSize=1GiB); `jsonschema_description` helps; `ref:"providers"`
// says that the value names an entry of that section; `short:"true"` on a field of a
// struct says that its value may stand in place of the whole mapping; `secret:"true"` that it is never shown, whatever
// its type; `credentials:"true"` that it may be an address with a name and a password before an @, which are not shown. Durations are
// time.Duration, sizes are Size, keys are Secret, paths are Path.
type Kind struct {
	Name string
	Role Role
	// Doc says in one line what it does.
	Doc string
	// Chats says that its parts know what a chat is: see Request.Chat. Chats pass all
	// other stages by, and other providers are not asked for them.
	Chats bool
	// OneWay says that Build returns a Beforer: a stage that never sees an answer, so
	// that an answer can be heard while it comes. A plugin says so before it is
	// configured, and that is why the kind has to know.
	OneWay bool
	// Config returns a pointer to a struct that holds the defaults, new each
	// time.
	Config func() any
	// Build makes the part from a checked configuration. It does no I/O and
	// starts no goroutine: Start does that.
	Build func(Env, any) (any, error)
}

// NewKind declares a part whose configuration is a C.
func NewKind[C any](name string, role Role, doc string, defaults func() C, build func(Env, *C) (any, error)) Kind {
	return Kind{
		Name: name, Role: role, Doc: doc,
		Config: func() any { c := defaults(); return &c },
		Build: func(env Env, config any) (any, error) {
			c, ok := config.(*C)
			if !ok {
				return nil, fmt.Errorf("%s: built with a %T, want a %T", name, config, c)
			}
			return build(env, c)
		},
	}
}

// WithChats returns k as a kind whose parts know what a chat is.
func (k Kind) WithChats() Kind {
	k.Chats = true
	return k
}

// Fits says what is wrong with what Build returned: that it is not what the kind's
// role promises.
func (k Kind) Fits(built any) error {
	var is bool
	want := ""
	switch k.Role {
	case RoleProvider:
		_, is = built.(Translator)
		want = "Translator"
	case RoleGate:
		_, is = built.(Gate)
		want = "Gate"
	case RoleCaller:
		_, is = built.(Caller)
		want = "Caller"
	case RoleLookup:
		_, is = built.(Stage)
		want = "Stage"
	case RoleStage:
		_, stage := built.(Stage)
		_, hooks := built.(Hooks)
		_, before := built.(Beforer)
		switch {
		case k.OneWay && hooks:
			return fmt.Errorf("%s built a %T, whose After would never be called: the kind says that it is OneWay", k.Name, built)
		case before && !hooks && !stage && !k.OneWay:
			return fmt.Errorf("%s built a %T, which has a Before and no After: say so with Kind.WithoutAfter, or give it the other half of core.Hooks", k.Name, built)
		case k.OneWay:
			is, want = before, "Beforer"
		default:
			is, want = stage || hooks, "Stage or Hooks"
		}
	default:
		return fmt.Errorf("there is no role %q", k.Role)
	}
	if !is {
		return fmt.Errorf("a kind of role %s built a %T, which is no core.%s", k.Role, built, want)
	}
	return nil
}

// WithoutAfter returns k as a kind that is OneWay.
func (k Kind) WithoutAfter() Kind {
	k.OneWay = true
	return k
}

// Env is what a part gets from the process when it is built.
type Env struct {
	// Name is where the part stands: "openai" in providers, "queue" in stages.
	Name string
	// Log carries that name. Texts are never logged.
	Log *zap.Logger
	// Upstream is the process's pool of upstream connections.
	Upstream Upstream
	// Deadline is the longest time that a request may take.
	Deadline time.Duration
	// Origin is where the part's configuration stands; nil when it came from
	// Go code.
	Origin Origin
	// Shared is what the gateways of one group have in common; nil when nothing is
	// shared, and in a plugin.
	Shared Shared
}

// An Origin is where in a file a part was declared. It is for parts whose
// configuration is checked by somebody else than the loader, such as a plugin.
// It is safe for concurrent use.
type Origin interface {
	// Folder is the folder of the file, absolute.
	Folder() string
	// Check holds the value of key against a JSON Schema that has become known
	// only now. The error names every mistake, each with file, line and column.
	Check(key string, schema []byte) error
	// Complain returns an error that says message about the value at path,
	// such as "config.models[1]", with file, line and column.
	Complain(path, message string) error
}

// Upstream sends requests over the process's upstream connections.
type Upstream interface {
	http.RoundTripper
	// Warm keeps connections ready for the scheme, host and port of origin,
	// from now until release is called. It returns at once.
	Warm(origin string) (release func(), err error)
}
