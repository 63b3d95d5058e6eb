// Package spec is unit tests for a configuration: what stands in
// pipeline_test.yaml, and what runs it. A test puts requests to the chain as it
// is configured, with the answers of its providers given by the test, and holds
// what comes back against what it expects. README.md describes the format.
package spec

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/config"
)

// A File is what one test file says.
type File struct {
	// Path is the file's name, as complaints write it.
	Path  string
	Tests []Test

	origin core.Origin
}

type contents struct {
	Version int    `json:"version" jsonschema:"enum=1" jsonschema_description:"The version of this format."`
	Tests   []Test `json:"tests" jsonschema:"required,minItems=1" jsonschema_description:"The tests, run in this order, each with a chain of its own that knows nothing yet."`
}

// A Test is one step, or several that follow each other through one chain.
type Test struct {
	Name  string   `json:"name" jsonschema:"required,minLength=1,maxLength=200" jsonschema_description:"What is promised: a sentence. No two tests of a file have the same."`
	Set   []string `json:"set" jsonschema_description:"What this test lays over the configuration, each KEY=VALUE as --set takes it, such as stages.provider.fallback=[openai-direct]."`
	Step           // of a test with one
	Steps []Step   `json:"steps" jsonschema:"minItems=1" jsonschema_description:"Several requests in turn, instead of one. What the chain has learned from one it knows at the next: the cache, pauses, breakers."`
}

// A Step is one request, what the providers answer to it, and what is to come of
// it.
type Step struct {
	Times     int                 `json:"times" jsonschema:"minimum=1,maximum=100" jsonschema_description:"Make the request so many times, one after the other; each is to meet what is expected. 1 by default."`
	Request   *Request            `json:"request" jsonschema_description:"What is asked."`
	Providers map[string][]Answer `json:"providers" jsonschema_description:"What each entry of providers answers when it is called in this step, in turn. All of it must be asked for, and nothing more."`
	Expect    *Expect             `json:"expect" jsonschema_description:"What is to come back. What is left out may be anything, but an error must be expected."`
}

// A Request is what a client would send.
type Request struct {
	Text         string        `json:"text" jsonschema:"required" jsonschema_description:"The text, white space round it included."`
	Source       string        `json:"source" jsonschema_description:"Its language, a BCP-47 tag; left out when the client does not say."`
	Target       string        `json:"target" jsonschema:"required" jsonschema_description:"The language wanted."`
	Formality    string        `json:"formality" jsonschema:"enum=formal,enum=informal" jsonschema_description:"How the reader is addressed."`
	Instructions []string      `json:"instructions" jsonschema_description:"The client's wishes about style."`
	Session      string        `json:"session" jsonschema_description:"The live speaker or conversation."`
	NoCache      bool          `json:"no_cache" jsonschema_description:"Ask for a new answer."`
	Stream       bool          `json:"stream" jsonschema_description:"Hear the answer in pieces."`
	Deadline     time.Duration `json:"deadline" jsonschema_extras:"minDuration=1ms" jsonschema_description:"How long the client waits; server.deadline by default, and at most."`
}

// An Answer is what a provider says when it is called: a text, or an error.
type Answer struct {
	Times  int           `json:"times" jsonschema:"minimum=1,maximum=100" jsonschema_description:"Give this answer so many times. 1 by default."`
	Delay  time.Duration `json:"delay" jsonschema_extras:"minDuration=1ms,maxDuration=30s" jsonschema_description:"Real time that passes before it."`
	Text   *string       `json:"text" jsonschema_description:"The text; what the deltas make together, by default."`
	Deltas []string      `json:"deltas" jsonschema_description:"Pieces that come before it when the request hears them."`

	Finish string   `json:"finish" jsonschema:"enum=stop,enum=length,enum=content_filter" jsonschema_description:"Why the answer ended: it was complete (stop, the default), cut at the output limit, or withheld in part."`
	Model  string   `json:"model" jsonschema_description:"The model that it names."`
	Flags  []string `json:"flags" jsonschema_description:"Flags that it carries."`
	Usage  Usage    `json:"usage" jsonschema_description:"The tokens that it costs."`

	Error      string        `json:"error" jsonschema:"enum=invalid_request,enum=unsupported_language,enum=unsupported_encoding,enum=too_large,enum=unauthorized,enum=forbidden,enum=not_found,enum=superseded,enum=overloaded,enum=unavailable,enum=rate_limited,enum=quota_exceeded,enum=deadline_exceeded,enum=provider_failed,enum=provider_refused,enum=bad_answer,enum=canceled,enum=internal" jsonschema_description:"Fail with an error of this kind; with deltas, after them."`
	Retryable  *bool         `json:"retryable" jsonschema_description:"Whether another attempt may succeed. By default it may after rate_limited, unavailable, deadline_exceeded, provider_failed and bad_answer."`
	RetryAfter time.Duration `json:"retry_after" jsonschema_extras:"minDuration=1ms" jsonschema_description:"How long the provider wants to be left alone."`
}

// Usage counts tokens.
type Usage struct {
	Prompt     int `json:"prompt" jsonschema:"minimum=0" jsonschema_description:"Tokens of the prompt."`
	Completion int `json:"completion" jsonschema:"minimum=0" jsonschema_description:"Tokens of the answer."`
	Cached     int `json:"cached" jsonschema:"minimum=0" jsonschema_description:"The part of the prompt that the provider had cached."`
}

// Expect is what is to come back. Nil and empty are what may be anything.
type Expect struct {
	Text     *string   `json:"text" jsonschema_description:"The translation."`
	Error    string    `json:"error" jsonschema:"enum=invalid_request,enum=unsupported_language,enum=unsupported_encoding,enum=too_large,enum=unauthorized,enum=forbidden,enum=not_found,enum=superseded,enum=overloaded,enum=unavailable,enum=rate_limited,enum=quota_exceeded,enum=deadline_exceeded,enum=provider_failed,enum=provider_refused,enum=bad_answer,enum=canceled,enum=internal" jsonschema_description:"The kind of the error that comes instead."`
	Flags    []string  `json:"flags" jsonschema_description:"All flags of the answer, in any order; [] for none."`
	Provider string    `json:"provider" ref:"providers" jsonschema_description:"The entry of providers that answered."`
	Model    string    `json:"model" jsonschema_description:"The model that answered."`
	Cached   *bool     `json:"cached" jsonschema_description:"Whether it came without a call."`
	Finish   string    `json:"finish" jsonschema:"enum=stop,enum=length,enum=content_filter" jsonschema_description:"Why the answer ended."`
	Usage    *Usage    `json:"usage" jsonschema_description:"The tokens that the answer cost."`
	Attempts []Attempt `json:"attempts" jsonschema_description:"The calls of providers, in order: NAME, NAME REASON or NAME REASON OUTCOME, such as openai retry bad_answer. [] for none. A reason is first, retry, hedge or fallback, an outcome ok or the kind of an error."`
	Upstream *string   `json:"upstream" jsonschema_description:"The text as the providers saw it."`
	Streamed *string   `json:"streamed" jsonschema_description:"The pieces that the client heard, put together."`
}

// An Attempt is one call of a provider, as the stage provider counts it. Of what
// is expected, the reason and the outcome may be empty, for any.
type Attempt struct{ Provider, Reason, Outcome string }

func (a Attempt) String() string {
	return strings.TrimSpace(a.Provider + " " + strings.TrimSpace(a.Reason+" "+a.Outcome))
}

// UnmarshalText reads what String writes. Reason and outcome may be left out.
func (a *Attempt) UnmarshalText(text []byte) error {
	words := strings.Fields(string(text))
	if len(words) == 0 || len(words) > 3 {
		return fmt.Errorf("an attempt is NAME, NAME REASON or NAME REASON OUTCOME, such as openai retry bad_answer")
	}
	*a = Attempt{Provider: words[0]}
	if len(words) > 1 {
		if a.Reason = words[1]; !slices.Contains(reasons(), a.Reason) {
			return fmt.Errorf("%q is not why an attempt is made; %s", a.Reason, config.Unknown(a.Reason, reasons()))
		}
	}
	if len(words) > 2 {
		if a.Outcome = words[2]; !slices.Contains(outcomes(), a.Outcome) {
			return fmt.Errorf("%q is not how an attempt ends; %s", a.Outcome, config.Unknown(a.Outcome, outcomes()))
		}
	}
	return nil
}

// MarshalText is the inverse of UnmarshalText.
func (a Attempt) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

func reasons() []string { return []string{"first", "retry", "hedge", "fallback"} }

func outcomes() []string {
	return []string{
		"ok", "invalid_request", "unsupported_language", "unsupported_encoding", "too_large", "unauthorized", "forbidden", "not_found", "superseded", "overloaded", "unavailable",
		"rate_limited", "quota_exceeded", "deadline_exceeded", "provider_failed", "provider_refused", "bad_answer", "canceled", "internal",
	}
}

// meets says whether got is an attempt such as a.
func (a Attempt) meets(got Attempt) bool {
	return a.Provider == got.Provider && (a.Reason == "" || a.Reason == got.Reason) && (a.Outcome == "" || a.Outcome == got.Outcome)
}

// Document is the format.
func Document() config.Document {
	return config.Document{
		Title: "Dragoman tests of a pipeline",
		Doc:   "pipeline_test.yaml: what pipeline.yaml is to make of requests and of its providers' answers. `dragoman test` runs it.",
		Key:   "tests", Remedy: "write one beside the configuration, or name the tests: dragoman test FILE",
		Config: func() any { return &contents{Version: 1} },
	}
}

// Load reads and checks the tests of a configuration that has these providers.
// The error is a config.Complaints.
func Load(path string, providers []string) (*File, error) {
	read, origin, err := Document().Load(path, (&checker{providers: providers}).check)
	if err != nil {
		return nil, err
	}
	return &File{Path: path, Tests: read.(*contents).Tests, origin: origin}, nil
}

// place returns where path stands in the file, or what is nearest above it.
func (f *File) place(path string) config.Complaint {
	all := config.AsComplaints(f.origin.Complain(path, ""))
	return all[0]
}

// A checker finds what the schema lets pass.
type checker struct {
	providers []string
	complain  func(path, message string)
}

func (c *checker) check(read any, complain func(path, message string)) {
	c.complain = complain
	names := map[string]bool{}
	for i := range read.(*contents).Tests {
		t, path := &read.(*contents).Tests[i], fmt.Sprintf("tests[%d]", i)
		if strings.ContainsFunc(t.Name, func(r rune) bool { return r < ' ' }) {
			complain(path+".name", "a name is one line")
		}
		if names[t.Name] {
			complain(path+".name", "another test has this name already")
		}
		names[t.Name] = true
		switch {
		case t.Steps == nil:
			c.step(path, &t.Step)
			continue
		case t.Request != nil:
			complain(path+".request", "stands beside `steps:`; put it into one of them")
		case t.Providers != nil:
			complain(path+".providers", "stands beside `steps:`; put it into the step that it belongs to")
		case t.Expect != nil:
			complain(path+".expect", "stands beside `steps:`; put it into the step that it belongs to")
		case t.Times > 0:
			complain(path+".times", "stands beside `steps:`; put it into the step that it belongs to")
		}
		for j := range t.Steps {
			c.step(fmt.Sprintf("%s.steps[%d]", path, j), &t.Steps[j])
		}
	}
}

func (c *checker) step(path string, s *Step) {
	if s.Request == nil {
		c.complain(path, "asks nothing; it lacks the key request")
	} else {
		c.language(path+".request.target", s.Request.Target)
		if s.Request.Source != "" {
			c.language(path+".request.source", s.Request.Source)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.Providers)) {
		below := path + ".providers." + name
		c.provider(below, name)
		for i, a := range s.Providers[name] {
			c.answer(fmt.Sprintf("%s[%d]", below, i), &a)
		}
	}
	if s.Expect == nil {
		c.complain(path, "proves nothing; it lacks the key expect")
		return
	}
	c.expect(path+".expect", s)
}

func (c *checker) language(path, tag string) {
	if _, err := core.ParseLanguage(tag); err != nil {
		c.complain(path, core.AsError(err, "").Detail)
	}
}

func (c *checker) provider(path, name string) {
	if !slices.Contains(c.providers, name) {
		c.complain(path, strings.TrimSuffix(fmt.Sprintf("the configuration has no provider %q; %s", name, config.Unknown(name, c.providers)), "; "))
	}
}

func (c *checker) answer(path string, a *Answer) {
	switch {
	case a.Error == "" && a.Text == nil && a.Deltas == nil:
		c.complain(path, "says nothing; give it a text, deltas or an error")
	case a.Error != "" && a.Text != nil:
		c.complain(path+".error", "stands beside `text:`; an answer is one of them")
	case a.Error != "" && (a.Finish != "" || a.Model != "" || a.Flags != nil || a.Usage != Usage{}):
		c.complain(path+".error", "an error has no finish, model, flags or usage")
	case a.Error == "" && a.Retryable != nil:
		c.complain(path+".retryable", "belongs to an error")
	case a.Error == "" && a.RetryAfter != 0:
		c.complain(path+".retry_after", "belongs to an error")
	}
}

func (c *checker) expect(path string, s *Step) {
	e := s.Expect
	switch {
	case e.Error != "" && e.Text != nil:
		c.complain(path+".error", "stands beside `text:`; there will be one of them")
	case e.Error != "" && (e.Flags != nil || e.Provider != "" || e.Model != "" || e.Cached != nil || e.Finish != "" || e.Usage != nil):
		c.complain(path+".error", "an error has no flags, provider, model, cached, finish or usage")
	case e.Streamed != nil && s.Request != nil && !s.Request.Stream:
		c.complain(path+".streamed", "nothing is heard of a request without `stream: true`")
	case e.nothing():
		c.complain(path, "expects nothing, so it proves nothing; give it a text or an error")
	}
	if e.Provider != "" {
		c.provider(path+".provider", e.Provider)
	}
	for i, a := range e.Attempts {
		c.provider(fmt.Sprintf("%s.attempts[%d]", path, i), a.Provider)
	}
}

func (e *Expect) nothing() bool {
	return e.Text == nil && e.Error == "" && e.Flags == nil && e.Provider == "" && e.Model == "" && e.Cached == nil && e.Finish == "" &&
		e.Usage == nil && e.Attempts == nil && e.Upstream == nil && e.Streamed == nil
}
