package core

import (
	"context"
	"fmt"
	"time"
)

// A Translator turns a request into a result. Exactly one of result and error
// is non-nil. It is safe for concurrent use, ends soon after ctx is done, and
// leaves no work behind that nobody waits for.
type Translator interface {
	Translate(ctx context.Context, req *Request) (*Result, error)
}

// TranslatorFunc is a function as a Translator.
type TranslatorFunc func(ctx context.Context, req *Request) (*Result, error)

func (f TranslatorFunc) Translate(ctx context.Context, req *Request) (*Result, error) {
	return f(ctx, req)
}

// A Stage is one item of a chain. Wrap is called once for every place, provider
// and generation; what it returns holds no state of its own, for it lives as
// long as a generation, while the Stage may live longer.
//
// The next that Wrap gets is a Router: what it names is everything below that changes
// an answer.
type Stage interface {
	Wrap(next Translator) Translator
}

// A Gate is a condition under which an upstream call may start: a free slot,
// enough tokens, no pause. It is asked by the line, under the line's lock: it
// never blocks and never calls back into the line. Gates are compared with ==, so
// they are pointers.
//
// A refusal holds for everybody behind it: nobody whom it is about (see Scope) is
// asked for before the one that was refused, whatever they need. What is
// about one request alone, or is to be answered and not waited for, such as a
// client's quota, is therefore no gate but a stage.
//
// What else the line asks of a gate are the abilities Scoper and Opener.
type Gate interface {
	// Take takes what req needs, or says when to ask again: after wait, or,
	// when wait is 0, after the next Give. A Take that says no has taken nothing.
	Take(req *Request, now time.Time) (ok bool, wait time.Duration)
	// Give ends what Take began: it frees, settles, learns limits and pauses.
	// There is one Give for every Take that said ok, with the same req.
	Give(req *Request, o Outcome)
}

// A Scope is whom the refusal of a gate is about. Nobody of them is asked for
// while one was refused who came before, so that what needs much is not starved
// by what needs little; all others are.
type Scope int

const (
	// ScopeClient is the client of the request that was refused. It is what a
	// gate means that does not say.
	ScopeClient Scope = iota
	// ScopeAccount is every request that goes to the same account.
	ScopeAccount
	// ScopeAll is everybody.
	ScopeAll
)

// A Scoper is a gate that says whom its refusals are about. A gate that lets
// nobody in while it is full says ScopeAll; without that each client that waits
// is asked for after every Give.
type Scoper interface{ Scope() Scope }

// An Opener is a gate that may open sooner than it said, because it was given
// other limits. It is told the line that waits for it, under the line's lock,
// and calls Wake on that one later, without holding a lock that Take needs. It
// returns true when it did not know the line: it may have been given other
// limits since it refused, and is asked again.
type Opener interface {
	Refused(by Line) (again bool)
}

// A Line is where requests wait for the gates, as a gate knows it. Lines are
// compared with ==.
type Line interface {
	// Wake asks the gates again.
	Wake()
}

// An Outcome is how an attempt ended, as the gates hear of it.
type Outcome struct {
	// Unused says that the attempt never started: all that Take took goes back
	// as if it had not been.
	Unused bool
	// Provider is the entry of `providers:` that was called, and Account is what
	// its upstream bills and limits (see Provider.Account). Err, Usage and Limits
	// are theirs.
	Provider, Account string
	// At is when the attempt ended.
	At time.Time
	// Err is nil after a good answer.
	Err *Error
	// Usage is what the attempt cost; zero when the provider did not say.
	Usage Usage
	// Limits is what the upstream said about its limits.
	Limits Limits
}

// Limits is what an upstream said of its limits in one answer.
type Limits struct {
	Requests, Tokens Limit
}

// A Limit is one upstream allowance. What the upstream left out is zero, and
// Known says whether it said anything.
type Limit struct {
	Known     bool
	Limit     int           // allowed a minute
	Remaining int           // left now
	Reset     time.Duration // until Remaining is Limit again
}

// A Guard is a gate and the name of its place, as linking hands it on.
type Guard struct {
	Name string
	Gate Gate
}

// Hooks is a stage in two halves, the form that also works out of process.
// Before is called on the way down. After is called on the way up, once for
// every Before that went on and got an answer; state is what Before returned. What
// the answer cost, and what the upstream said of its limits, stay as they are,
// also when After rejects it.
type Hooks interface {
	Beforer
	After(ctx context.Context, req *Request, res *Result, state []byte) (*Result, error)
}

// A Beforer is the first half of Hooks, alone: a stage that changes, answers or
// refuses requests, and lets every answer pass as it is, its deltas too. Its kind is
// OneWay. What Verdict.State it returns goes nowhere.
type Beforer interface {
	Before(ctx context.Context, req *Request) (Verdict, error)
}

// A Streamer is Hooks that let the deltas of an answer pass. Without it they are
// held back, for After may change or reject what they are a preview of.
type Streamer interface {
	// Deltas is asked when deltas are wanted and Before went on; state is what
	// Before returned. With ok they pass: each as what each makes of it, which may
	// be nothing for now, or as it is when each is nil, as is right when After
	// changes no text. Each is called from one goroutine at a time, for the pieces
	// of one attempt after the other's; an error of it ends the call.
	Deltas(req *Request, state []byte) (each func(text string) (string, error), ok bool)
}

// A Verdict is what Before decided: to answer with Result when that is set,
// else to go on with Request, or with the request as it came when that is nil.
type Verdict struct {
	Request *Request
	Result  *Result
	// State is handed to After; at most 64 KiB.
	State []byte
}

// A Provider is an entry of `providers:` that was built.
type Provider struct {
	Name       string
	Translator Translator
	// Fingerprint changes when the same request may get another answer.
	Fingerprint string
	// Account is what the upstream bills and limits: two providers with the same
	// address and key have one. It is made to be compared, tells nothing, and is
	// never shown. Empty stands for an account of this entry alone.
	Account string
	// Limits is what may be spent of each account of the entry.
	Limits Allowance
	// Shares are the accounts of an entry that has several, each as a provider of its
	// own: they answer alike, and Translator is nobody's. Share says which of them one
	// is, from 1, and Weight how much of the calls it takes beside the others.
	Shares []Provider
	Share  int
	Weight int
}

// Place is how the provider is told apart in metrics and logs: by the name of its
// entry, and the number of its account if that has several.
func (p Provider) Place() string {
	if p.Share == 0 {
		return p.Name
	}
	return fmt.Sprintf("%s/%d", p.Name, p.Share)
}

// An Allowance bounds what is spent of an account; 0 is without a bound.
type Allowance struct {
	RequestsPerMinute int `json:"requests_per_minute" jsonschema:"minimum=0,maximum=10000000" jsonschema_description:"How many calls may be made in any 60 seconds. 0: not bounded here."`
	TokensPerMinute   int `json:"tokens_per_minute" jsonschema:"minimum=0,maximum=10000000000" jsonschema_description:"How many tokens calls may use in any 60 seconds. 0: not bounded here."`
	RequestsPerDay    int `json:"requests_per_day" jsonschema:"minimum=0,maximum=1000000000" jsonschema_description:"How many calls may be made in any 24 hours, also after a restart. 0: not bounded here."`
	MaxConcurrent     int `json:"max_concurrent" jsonschema:"minimum=0,maximum=100000" jsonschema_description:"How many calls may run at once. 0: not bounded here."`
}

// Below is what linking hands to the stage that ends the chain.
type Below struct {
	// Gates guard every attempt, in the order of the file.
	Gates []Guard
	// Provider finds an entry of `providers:`.
	Provider func(name string) (Provider, bool)
	// Chats are the entries of `providers:` that chats are for, besides those that
	// translate.
	Chats []string
	// Around links what stands after this stage round a provider, the first
	// listed innermost. What it returns is a Fingerprinter.
	Around func(Provider) Translator
}

// A Caller ends a chain: it makes attempts with providers. What Call returns is
// a Fingerprinter: it names what the preferred provider, linked, would answer. When
// that is not the same for all requests, it is a Router.
// As with Wrap, state lives in the Caller.
type Caller interface {
	Call(below Below) (Translator, error)
}

// Optional abilities, found by assertion on what Build returned.
type (
	// A Starter does the I/O that Build must not do. Start returns soon after
	// ctx is done: what does not is left behind, and what it was started for
	// fails.
	Starter interface {
		Start(ctx context.Context) error
	}
	// A Closer frees everything. It works after a Start that failed or was
	// never called, and more than once. It is not called while Start or Probe
	// runs, and not waited for longer than some seconds.
	Closer interface{ Close() error }
	// A Prober says how the thing is.
	Prober interface {
		// Probe asks whether it could serve now. The error's kind tells:
		// unauthorized and not_found will not mend by themselves, all others may.
		// What was found well is not asked again.
		Probe(ctx context.Context) error
		// Ready says at any time, at once and without asking anybody, why it cannot
		// serve now, or nil, since what Probe said once may have changed. It is nil
		// for what hears of that only by being called: how the calls of a provider
		// go, the stage that calls it knows.
		Ready() error
	}
	// A Planner can take another configuration in place: Plan checks and may
	// fail, apply does and cannot.
	Planner interface {
		Plan(config any) (apply func(), err error)
	}
	// A Deadliner takes another Env.Deadline in place, while it serves. A part that
	// is neither this nor a Planner is rebuilt for it.
	Deadliner interface{ SetDeadline(longest time.Duration) }
	// An Outdater knows whether anything that it was made from beside its
	// configuration, such as a file that this names, is another by now. A reload
	// then changes or rebuilds it though its configuration is the same.
	Outdater interface{ Outdated() bool }
	// An Heir takes over what former knew, the part of the same kind that stood
	// in its place under another configuration: state that is worth more than
	// a fresh start. It is called before Start. Former goes on working beside
	// it, and alone when the reload fails.
	Heir interface{ Inherit(former any) }
	// A Holder says in a few words what a reload would keep in it, such as
	// "48,112 entries"; empty for nothing.
	Holder interface{ Holds() string }
	// A Rememberer knows something that must outlive the process, such as what was
	// spent of a day's allowance. Remember returns it, JSON of some kilobytes at most, or
	// nil for nothing; it is asked every few seconds. Recall takes back what a former
	// process remembered, before the first request comes.
	Rememberer interface {
		Remember() []byte
		Recall(memory []byte) error
	}
	// A Fingerprinter names everything in its configuration that changes an
	// answer, with the content of the files that do, such as a plugin's program. It
	// may read them, and it never says of one part now this and now that unless it
	// took another configuration. What has no such ability is fingerprinted by its
	// whole configuration.
	Fingerprinter interface{ Fingerprint() string }
	// A Router is a Fingerprinter below which not all requests go the same way. Routes
	// names for each way everything that changes an answer there, at least one, and
	// Route says which of them req goes: it is quick, and the same for the same
	// request.
	Router interface {
		Fingerprinter
		Routes() []string
		Route(req *Request) int
	}
	// An Accounter is a provider that names whom its upstream bills and limits,
	// such as by address and key. Whoever asks keeps only a hash of it.
	Accounter interface{ Account() string }
	// A Chatter is a provider that answers chats (Request.Chat) as well. ChatModel is
	// the one that it asks.
	Chatter interface{ ChatModel() string }
	// A Languager knows its languages. Nil means any language to any other.
	Languager interface{ Languages() []LanguageInfo }
	// A Batcher is a provider that translates several texts in one call. Together
	// says how many of reqs, from the first on, one call may hold: at least one.
	// TranslateAll translates so many, in their order; an error is that of all, and a text
	// whose result is nil is asked for alone.
	Batcher interface {
		Together(reqs []*Request) int
		TranslateAll(ctx context.Context, reqs []*Request) ([]*Result, error)
	}
	// A BatchChooser is a Batcher that takes some requests alone: those of which Batches
	// does not say that they may wait for others.
	BatchChooser interface{ Batches(req *Request) bool }
	// A Measurer reports its counters and gauges, when they are asked for. It
	// may be called at any time from any goroutine.
	Measurer interface{ Measure(emit func(Measure)) }
)

// LanguageInfo is a source language and the targets it can be translated to.
type LanguageInfo struct {
	Source  Language
	Targets []Language
}

// A Measure is one number that operators see. Names are in snake case without
// the program's prefix; counters end in _total, durations in _seconds.
type Measure struct {
	Name, Help string
	Counter    bool // else a gauge
	Value      float64
	// Histogram, when there is one, makes it neither: Value is not looked at.
	Histogram *Histogram
	// Labels are names and values in turn, from a small fixed set: never a
	// session, a text or a client. The engine adds where the part stands:
	// stage or provider.
	Labels []string
}

// A Histogram counts observations by their size.
type Histogram struct {
	Count   uint64
	Sum     float64
	Buckets map[float64]uint64 // upper bound -> how many are at most that large
	// Exemplars are observations of which a trace tells more, at most one a bucket.
	Exemplars []Exemplar
}

// An Exemplar is one observation that is part of a distributed trace.
type Exemplar struct {
	Value   float64
	At      time.Time
	TraceID string // hexadecimal digits
}
