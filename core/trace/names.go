package trace

// The names of attributes. Those that begin with gen_ai are of OpenTelemetry's conventions
// for generative AI, which are in development:
// https://github.com/open-telemetry/semantic-conventions-genai, as of October 2026. Nothing
// else in the gateway writes one.
const (
	serviceName       = "service.name"
	serviceVersion    = "service.version"
	serviceInstanceID = "service.instance.id"

	errorType     = "error.type"
	serverAddress = "server.address"
	serverPort    = "server.port"
	httpStatus    = "http.response.status_code"

	genOperation      = "gen_ai.operation.name"
	genProvider       = "gen_ai.provider.name"
	genModel          = "gen_ai.request.model"
	genStream         = "gen_ai.request.stream"
	genResponseModel  = "gen_ai.response.model"
	genFinishReasons  = "gen_ai.response.finish_reasons"
	genFirstChunk     = "gen_ai.response.time_to_first_chunk" // seconds
	genInputTokens    = "gen_ai.usage.input_tokens"
	genOutputTokens   = "gen_ai.usage.output_tokens"
	genCachedTokens   = "gen_ai.usage.cache_read.input_tokens"
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
