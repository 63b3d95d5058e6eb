package ratelimit

// Config is what the stage `ratelimit` can be told.
type Config struct {
	RequestsPerMinute int    `json:"requests_per_minute" jsonschema:"minimum=1,maximum=10000000" jsonschema_description:"How many upstream calls your account may make in a minute. In no 60 seconds are more started; the upstream's own headers lower it."`
	TokensPerMinute   int    `json:"tokens_per_minute" jsonschema:"minimum=0,maximum=10000000000" jsonschema_description:"How many tokens your account may use in a minute. 0 when you do not know: then only the upstream's own headers limit it."`
	WhenUnreachable   string `json:"when_unreachable" jsonschema:"enum=share,enum=stop" jsonschema_description:"With a shared store (shared.url), what to do while it is away. share: go on with the limit divided by the number of gateways that there were, paced. stop: start nothing, so that the account's limit holds whatever happens."`
}

// What a gateway does while the store that it shares with others is away.
const (
	Share = "share"
	Stop  = "stop"
)

// Defaults returns the values used for what the file leaves out.
func Defaults() Config { return Config{RequestsPerMinute: 4500, WhenUnreachable: Share} }
