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

// genParameter is the attribute of what is sent to a model as name, as chat completions have
// it, and says whether that is an int; empty for none. Stop sequences are left out: they are
// texts.
func genParameter(name string) (attribute string, whole bool) {
	switch name {
	case "temperature":
		return "gen_ai.request.temperature", false
	case "top_p":
		return "gen_ai.request.top_p", false
	case "top_k":
		return "gen_ai.request.top_k", false
	case "frequency_penalty":
		return "gen_ai.request.frequency_penalty", false
	case "presence_penalty":
		return "gen_ai.request.presence_penalty", false
	case "max_tokens", "max_completion_tokens":
		return "gen_ai.request.max_tokens", true
	case "seed":
		return "gen_ai.request.seed", true
	case "n":
		return genChoices, true
	case "response_format":
		return genOutput, false
	}
	return "", false
}
