// Package chain links stages round a provider. It is the only place that knows
// the order: what stands before the stage `provider` wraps it, gates are handed
// to it, and what stands after it is wrapped round each attempt, the first
// listed innermost.
//
// Every stage is linked through an observing wrapper, so authors write no
// metrics, no timing and no recovery: the wrapper counts calls, answers, own
// errors and self time, turns a panic into an `internal` error, and makes sure
// that exactly one of result and error comes back. It costs no allocation. When
// somebody looks, it shows what passes (see Tap).
//
// What an answer depends on below a place is the place's fingerprint. A stage
// finds it on the `next` that it wraps (see Fingerprint); requests are not
// stamped with it, which would cost a copy of each.
package chain

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/dragoman-mt/dragoman/core"
)

// A Place is one item of the list, built.
type Place struct {
	// Name is unique in the chain.
	Name string
	// Item is what Build returned: a Stage, Hooks, a Gate or a Caller.
	Item any
	// Chats says that the item knows what a chat is; chats pass all others by.
	Chats bool
	// Digest changes with the item's configuration. It stands in for the
	// fingerprint of an item that has none of its own.
	Digest string
}

// A Chain is a linked list of stages. It is itself a translator, safe for
// concurrent use, and immutable.
type Chain struct {
	top       core.Translator
	places    []string
	languages core.Languager
	chats     []core.ChatModel
}

var _ core.Translator = (*Chain)(nil)

// Link links places, in the order of the file, and counts what passes in watch. Chats
// are providers that chats are for, whether or not they translate.
func Link(places []Place, provider func(name string) (core.Provider, bool), watch *Watch, chats ...string) (*Chain, error) {
	caller := -1
	for i, p := range places {
		if _, ok := p.Item.(core.Caller); ok {
			if caller >= 0 {
				return nil, fmt.Errorf("stage %q: the chain has a stage that calls providers already, %q", p.Name, places[caller].Name)
			}
			caller = i
		}
	}
	if caller < 0 {
		return nil, fmt.Errorf("the chain has no stage that calls a provider; add `- provider: {use: NAME}`")
	}

	var gates []core.Guard
	for i, p := range places {
		gate, ok := p.Item.(core.Gate)
		switch {
		case ok && i > caller:
			return nil, fmt.Errorf("stage %q: a gate guards the attempts of the stage that calls providers, so it stands before %q", p.Name, places[caller].Name)
		case ok:
			gates = append(gates, core.Guard{Name: p.Name, Gate: gate})
		}
	}

	// depth numbers the stages from the top, so that a trace can tell how far
	// down a request went.
	after := places[caller+1:]
	c := &Chain{}
	for _, p := range places {
		c.places = append(c.places, p.Name)
	}
	around := func(p core.Provider) core.Translator {
		place := "providers/" + p.Place()
		c.places = append(c.places, place)
		var t core.Translator = &link{
			name: p.Name, place: place, span: places[caller].Name, depth: len(places) + 1,
			inner: p.Translator, below: single(digest("provider", p.Name, p.Fingerprint)),
			stats: watch.of(place), taps: &watch.taps,
		}
		for i, place := range after {
			t = wrap(place, t, len(places)-i, watch)
		}
		return t
	}

	last := places[caller]
	bottom, err := last.Item.(core.Caller).Call(core.Below{Gates: gates, Provider: provider, Around: around, Chats: chats})
	if err != nil {
		return nil, fmt.Errorf("stage %q: %w", last.Name, err)
	}
	c.top = &link{
		name: last.Name, place: last.Name, span: last.Name, depth: caller + 1,
		inner: bottom, below: waysOf(bottom), stats: watch.of(last.Name), taps: &watch.taps, gates: gates,
	}
	for i := caller - 1; i >= 0; i-- {
		if _, ok := places[i].Item.(core.Gate); ok {
			continue
		}
		c.top = wrap(places[i], c.top, i+1, watch)
	}
	c.languages, _ = bottom.(core.Languager)
	if b, ok := bottom.(interface{ Chats() []core.ChatModel }); ok {
		c.chats = b.Chats()
	}
	return c, nil
}

// Translate sends req through the chain. A trace is added when it has none.
func (c *Chain) Translate(ctx context.Context, req *core.Request) (*core.Result, error) {
	if req.Trace == nil {
		traced := *req
		traced.Trace = core.NewTrace(nil)
		req = &traced
	}
	return c.top.Translate(ctx, req)
}

// Places returns the names of the stages in the order of the file, gates among
// them, and then of the providers that they call: "providers/NAME".
func (c *Chain) Places() []string { return c.places }

// Fingerprint names everything that changes what the chain answers.
func (c *Chain) Fingerprint() string { return Fingerprint(c.top) }

// Routes names it for each way that requests go, from the top down.
func (c *Chain) Routes() []string { return waysOf(c.top).each }

// Languages returns what the preferred provider can translate; nil means any
// language to any other.
func (c *Chain) Languages() []core.LanguageInfo {
	if c.languages == nil {
		return nil
	}
	return c.languages.Languages()
}

// Chats returns the models that answer chats, that of the preferred provider first.
func (c *Chain) Chats() []core.ChatModel { return c.chats }

// Fingerprint returns the fingerprint of t, the `next` of a stage: what changes
// when anything below that stage would answer another way. It is empty for a
// translator without one.
func Fingerprint(t core.Translator) string {
	if f, ok := t.(core.Fingerprinter); ok {
		return f.Fingerprint()
	}
	return ""
}

// wrap links one stage above next.
func wrap(p Place, next core.Translator, depth int, watch *Watch) core.Translator {
	stage, ok := p.Item.(core.Stage)
	if hooks, is := p.Item.(core.Beforer); !ok && is {
		stage, ok = hooked{p.Name, hooks}, true
	}
	if !ok {
		// Build's result is checked against its kind's role before linking.
		panic(fmt.Sprintf("chain: stage %q is a %T, which is neither a stage, hooks, a gate nor a caller", p.Name, p.Item))
	}
	own := p.Digest
	if f, is := p.Item.(core.Fingerprinter); is {
		own = f.Fingerprint()
	}
	var past core.Translator
	if !p.Chats {
		past = next
	}
	return &link{
		name: p.Name, place: p.Name, span: p.Name, depth: depth,
		inner: stage.Wrap(next), past: past, below: waysOf(next).under(own), stats: watch.of(p.Name), taps: &watch.taps,
	}
}

// ways are those that requests go from a place down.
type ways struct {
	all    string      // the fingerprint of everything
	each   []string    // of each way
	router core.Router // nil: there is one way
}

func single(fingerprint string) ways { return ways{fingerprint, []string{fingerprint}, nil} }

func waysOf(t core.Translator) ways {
	r, ok := t.(core.Router)
	if !ok {
		return single(Fingerprint(t))
	}
	return ways{r.Fingerprint(), r.Routes(), r}
}

// under returns the ways below a stage that is fingerprinted as own, empty for one that
// changes no answer. One that changes answers may change requests as well, and with
// that their way: then nobody above can tell which way one goes, and what any of them
// is made of counts for all.
func (w ways) under(own string) ways {
	if own == "" {
		return w
	}
	changed := ways{all: digest("stage", own, w.all), router: w.router}
	for _, one := range w.each {
		if w.router != nil {
			one = digest(one, w.all)
		}
		changed.each = append(changed.each, digest("stage", own, one))
	}
	return changed
}

func digest(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:12])
}
