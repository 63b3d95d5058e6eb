package provider

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dragoman-mt/dragoman/core"
)

// Config is the stage `provider` in pipeline.yaml.
type Config struct {
	Use      core.Names    `json:"use" ref:"providers" jsonschema:"required" jsonschema_description:"The entry of providers that translates; or a list of entries that stand for each other: the one with the fewest calls is asked, and one that keeps failing, or is over its limits, is left out."`
	Fallback []string      `json:"fallback" ref:"providers" jsonschema:"maxItems=8" jsonschema_description:"Entries of providers that are asked, in this order, when the one in use cannot answer. Their answers are flagged and not cached."`
	Routes   []Route       `json:"routes" jsonschema:"maxItems=64" jsonschema_description:"Which requests other providers than those of use translate. The first that takes a request counts."`
	Retries  int           `json:"retries" jsonschema:"minimum=0,maximum=5" jsonschema_description:"How many more times the provider in use is asked after a failure that may pass, within the deadline and a tenth of all calls."`
	First    time.Duration `json:"first" jsonschema_extras:"minDuration=0s,maxDuration=10m" jsonschema_description:"How long a call may take until its first token or byte, when another provider may be asked: then that one is. 0: as long as the call itself may take."`
	Breaker  Breaker       `json:"breaker" jsonschema_description:"When a provider is left alone because it keeps failing."`
	Hedge    Hedge         `json:"hedge" jsonschema_description:"When a provider that takes long is asked a second time, beside the first."`
}

// A Route is a way for some of the requests. What is left out does not matter.
type Route struct {
	Sources []string   `json:"sources" jsonschema:"maxItems=200" jsonschema_description:"Languages of the text, such as de, which stands for de-AT too. A request whose language is not known matches none."`
	Targets []string   `json:"targets" jsonschema:"maxItems=200" jsonschema_description:"Languages to translate to, such as pt-BR."`
	Lane    string     `json:"lane" jsonschema:"enum=final,enum=partial,enum=bulk" jsonschema_description:"The lane of the request: final, partial or bulk."`
	Client  string     `json:"client" jsonschema:"maxLength=200" jsonschema_description:"The name of the key, among server.keys, that the request came with."`
	Use     core.Names `json:"use" ref:"providers" jsonschema:"required" jsonschema_description:"The entry of providers, or the list of entries, that translates."`
	Private bool       `json:"private" jsonschema_description:"true: what this route takes goes to no provider but those of its own use. Fallbacks are not asked."`
}

// Breaker says when a provider is left alone.
type Breaker struct {
	Failures int           `json:"failures" jsonschema:"minimum=0,maximum=1000" jsonschema_description:"So many failures in a row open the breaker of a provider. 0: never."`
	OpenFor  time.Duration `json:"open_for" jsonschema_extras:"minDuration=100ms,maxDuration=10m" jsonschema_description:"How long an open breaker keeps calls away. Then one call tries whether the provider is back."`
}

// Hedge says when a provider is asked a second time while the first call runs.
type Hedge struct {
	After string `json:"after" jsonschema:"pattern=^(never|p95|[1-9][0-9]*ms|[1-9][0-9]*s)$,maxLength=16" jsonschema_description:"When nothing has been heard of a call for so long, the same provider is asked once more, if a turn is free at that moment; the first answer wins and the other call is ended. p95: as long as 95 in 100 of its last calls took. Or a time such as 400ms. never: not at all. Each hedge may cost a second call; they are part of the tenth of all calls that retries may be."`
}

func defaults() Config {
	return Config{Retries: 1, Hedge: Hedge{After: hedgeNever}, Breaker: Breaker{Failures: 5, OpenFor: 10 * time.Second}}
}

// Kind declares the stage `provider`.
func Kind() core.Kind {
	return core.NewKind("provider", core.RoleCaller, "Calls the provider in use, again or another one when it fails.", defaults,
		func(env core.Env, cfg *Config) (any, error) {
			if err := cfg.check(env.Origin); err != nil {
				return nil, err
			}
			return New(env, *cfg), nil
		}).WithChats()
}

// Names returns the entries of providers that requests may be sent to, each once: those
// of use, the fallbacks, those of the routes.
func (c *Config) Names() []string {
	var all []string
	add := func(names []string) {
		for _, name := range names {
			if !slices.Contains(all, name) {
				all = append(all, name)
			}
		}
	}
	add(c.Use)
	add(c.Fallback)
	for _, r := range c.Routes {
		add(r.Use)
	}
	return all
}

// check finds what no bound of a single key can: languages that there are not, and
// routes that can never match.
func (c *Config) check(origin core.Origin) error {
	var faults []error
	fault := func(path, format string, args ...any) {
		faults = append(faults, complain(origin, path, fmt.Sprintf(format, args...)))
	}
	for i, r := range c.Routes {
		for _, list := range []struct {
			key  string
			tags []string
		}{{"sources", r.Sources}, {"targets", r.Targets}} {
			for j, tag := range list.tags {
				if _, err := core.ParseLanguage(tag); err != nil {
					fault(fmt.Sprintf("routes[%d].%s[%d]", i, list.key, j), "%s", core.AsError(err, "").Detail)
				}
			}
		}
	}
	if faults == nil {
		var former []matcher
		for i, r := range c.Routes {
			m := r.matcher()
			if by := m.coveredBy(former); by != nil {
				fault(fmt.Sprintf("routes[%d]", i), "can never match: %s takes all that it would; move it up, or leave it out", routesNamed(by))
			}
			former = append(former, m)
		}
	}
	return errors.Join(faults...)
}

// complain gives message the place of path in the file, if there is one.
func complain(origin core.Origin, path, message string) error {
	if origin == nil {
		return fmt.Errorf("%s: %s", path, message)
	}
	return origin.Complain(path, message)
}
