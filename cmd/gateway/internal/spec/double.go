package spec

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/dragoman-mt/dragoman/core"
)

// A Double stands in for every provider of one chain, and for the plugins that
// are not to be started. It says what the step of the test gives it to say, and
// notes what it was asked. It is safe for concurrent use.
type Double struct {
	mu      sync.Mutex
	path    string             // of the step
	left    map[string][]given // by provider: what was not asked for yet
	calls   []called           // of the request
	busy    int                // calls that have not ended
	cut     string             // the provider whose call was ended by its caller
	beyond  []failure          // calls that the step has no answer for
	missing []string           // plugins that were needed
	counted func()             // notes the attempts that have ended
}

// given is an answer, and where it stands.
type given struct {
	Answer
	path string
}

// called is one call of a provider.
type called struct{ provider, text string }

// Provider returns a kind that stands in for kind, which has the role provider.
func (d *Double) Provider(kind core.Kind) core.Kind {
	kind.Build = func(env core.Env, _ any) (any, error) {
		return core.TranslatorFunc(func(ctx context.Context, req *core.Request) (*core.Result, error) {
			return d.answer(ctx, env.Name, req)
		}), nil
	}
	return kind
}

// Absent returns a kind that stands in for kind, that of a stage which is not to
// be started. A test that reaches it cannot be judged.
func (d *Double) Absent(kind core.Kind) core.Kind {
	kind.Build = func(env core.Env, _ any) (any, error) { return &absent{d, env.Name}, nil }
	return kind
}

type absent struct {
	double *Double
	name   string
}

func (a *absent) Wrap(core.Translator) core.Translator {
	return core.TranslatorFunc(func(context.Context, *core.Request) (*core.Result, error) {
		a.double.mu.Lock()
		defer a.double.mu.Unlock()
		a.double.missing = append(a.double.missing, a.name)
		return nil, &core.Error{Kind: core.Internal, Stage: a.name, Detail: "the plugin was not started"}
	})
}

// begin gives d the answers of the step at path. Counted is called before each
// call.
func (d *Double) begin(path string, s *Step, counted func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.path, d.left, d.counted = path, map[string][]given{}, counted
	for name, answers := range s.Providers {
		for i, a := range answers {
			for range max(a.Times, 1) {
				d.left[name] = append(d.left[name], given{a, fmt.Sprintf("%s.providers.%s[%d]", path, name, i)})
			}
		}
	}
}

// again forgets the calls so far: the request is made once more.
func (d *Double) again() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls, d.cut = nil, ""
}

// take returns the next answer of the provider name.
func (d *Double) take(name, text string) (given, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.counted != nil {
		d.counted()
	}
	d.calls = append(d.calls, called{name, text})
	left := d.left[name]
	if len(left) == 0 {
		d.beyond = append(d.beyond, failure{path: d.path + ".providers." + name, want: "no further call of " + name, got: "one, and the step has no answer for it"})
		return given{}, false
	}
	d.left[name] = left[1:]
	d.busy++
	return left[0], true
}

func (d *Double) ended() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.busy--
}

// answer is a call of the provider name.
func (d *Double) answer(ctx context.Context, name string, req *core.Request) (*core.Result, error) {
	a, ok := d.take(name, req.Text)
	if !ok {
		return nil, &core.Error{Kind: core.Internal, Stage: name, Detail: "the test has no answer for this call"}
	}
	defer d.ended()
	if a.Delay > 0 {
		timer := time.NewTimer(a.Delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			d.mu.Lock()
			d.cut = name
			d.mu.Unlock()
			return nil, core.ContextError(ctx, name)
		}
	}
	if req.OnDelta != nil {
		for _, delta := range a.Deltas {
			if err := req.OnDelta(delta); err != nil {
				return nil, err
			}
		}
	}
	if a.Error != "" {
		return nil, &core.Error{
			Kind: core.ErrorKind(a.Error), Stage: name, Detail: "the test says so",
			Retryable: a.retryable(), RetryAfter: a.RetryAfter,
		}
	}
	return a.result(name), nil
}

func (a *Answer) retryable() bool {
	if a.Retryable != nil {
		return *a.Retryable
	}
	switch core.ErrorKind(a.Error) {
	case core.RateLimited, core.Unavailable, core.DeadlineExceeded, core.ProviderFailed, core.BadAnswer:
		return true
	}
	return false
}

// result is the answer as the provider openai would hand it on.
func (a *Answer) result(name string) *core.Result {
	res := &core.Result{
		Text: strings.Join(a.Deltas, ""), Provider: name, Model: a.Model, Finish: core.FinishStop, Flags: a.Flags,
		Usage: core.Usage{PromptTokens: a.Usage.Prompt, CompletionTokens: a.Usage.Completion, CachedTokens: a.Usage.Cached},
	}
	if a.Text != nil {
		res.Text = *a.Text
	}
	switch core.Finish(a.Finish) {
	case core.FinishLength:
		res.Finish, res.NoStore = core.FinishLength, true
		res.Flags = append(append([]string(nil), a.Flags...), core.FlagCut)
	case core.FinishFiltered:
		res.Finish, res.NoStore = core.FinishFiltered, true
	}
	return res
}
