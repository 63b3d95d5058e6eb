package provider

import (
	"time"

	"github.com/dragoman-mt/dragoman/core"
)

// Config is the stage `provider` in pipeline.yaml.
type Config struct {
	Use      string   `json:"use" ref:"providers" jsonschema:"required,minLength=1" jsonschema_description:"The entry of providers that translates."`
	Fallback []string `json:"fallback" ref:"providers" jsonschema:"maxItems=8" jsonschema_description:"Entries of providers that are asked, in this order, when the one in use cannot answer. Their answers are flagged and not cached."`
	Retries  int      `json:"retries" jsonschema:"minimum=0,maximum=5" jsonschema_description:"How many more times the provider in use is asked after a failure that may pass, within the deadline and a tenth of all calls."`
	Breaker  Breaker  `json:"breaker" jsonschema_description:"When a provider is left alone because it keeps failing."`
	Hedge    Hedge    `json:"hedge" jsonschema_description:"When a provider that takes long is asked a second time, beside the first."`
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
		func(env core.Env, cfg *Config) (any, error) { return New(env, *cfg), nil }).WithChats()
}
