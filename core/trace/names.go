package trace

// The names of attributes. Those that begin with gen_ai are of OpenTelemetry's conventions
// for generative AI, which are in development:
// https://github.com/open-telemetry/semantic-conventions-genai, as of its commit 002c8a6.
// Nothing else in the gateway writes one.
const (
	serviceName       = "service.name"
	serviceVersion    = "service.version"
	serviceInstanceID = "service.instance.id"

	errorType     = "error.type"
	serverAddress = "server.address"
	serverPort    = "server.port"
	httpMethod    = "http.request.method"
	httpStatus    = "http.response.status_code"

	genOperation      = "gen_ai.operation.name"
	genProvider       = "gen_ai.provider.name"
	genModel          = "gen_ai.request.model"
	genStream         = "gen_ai.request.stream"
	genChoices        = "gen_ai.request.choice.count"
	genOutput         = "gen_ai.output.type" // text or json
	genResponseModel  = "gen_ai.response.model"
	genResponseID     = "gen_ai.response.id"
	genFinishReasons  = "gen_ai.response.finish_reasons"
	genFirstChunk     = "gen_ai.response.time_to_first_chunk" // seconds
	genInputTokens    = "gen_ai.usage.input_tokens"
	genOutputTokens   = "gen_ai.usage.output_tokens"
	genCachedTokens   = "gen_ai.usage.cache_read.input_tokens"
	genReasoning      = "gen_ai.usage.reasoning.output_tokens"
	billedCharacters  = "dragoman.usage.characters"
	dragomanDoor      = "dragoman.door"
	dragomanRequest   = "dragoman.request.id"
	dragomanClient    = "dragoman.client"
	dragomanSession   = "dragoman.session"
	dragomanSource    = "dragoman.source"
	dragomanTarget    = "dragoman.target"
	dragomanLane      = "dragoman.lane"
	dragomanLength    = "dragoman.characters"
	dragomanCache     = "dragoman.cache" // hit, joined or miss
	dragomanProvider  = "dragoman.provider"
	dragomanAttempts  = "dragoman.attempts"
	dragomanAttempt   = "dragoman.attempt" // first, retry, hedge, fallback or moved
	dragomanLost      = "dragoman.lost"
	dragomanFlags     = "dragoman.flags"
	dragomanStage     = "dragoman.stage"
	dragomanFailedAt  = "dragoman.failed_at"
	dragomanWaited    = "dragoman.waited_ms"
	dragomanStageTime = "dragoman.stage_ms." // and the name of a stage
)

// genParameters are the attributes of what is sent to a model, by the names that chat
// completions have for it. Stop sequences are left out: they are texts.
var genParameters = map[string]struct {
	name  string
	whole bool // it is an int
}{
	"temperature":           {"gen_ai.request.temperature", false},
	"top_p":                 {"gen_ai.request.top_p", false},
	"top_k":                 {"gen_ai.request.top_k", false},
	"frequency_penalty":     {"gen_ai.request.frequency_penalty", false},
	"presence_penalty":      {"gen_ai.request.presence_penalty", false},
	"max_tokens":            {"gen_ai.request.max_tokens", true},
	"max_completion_tokens": {"gen_ai.request.max_tokens", true},
	"seed":                  {"gen_ai.request.seed", true},
	"n":                     {genChoices, true},
	"response_format":       {genOutput, false},
}
