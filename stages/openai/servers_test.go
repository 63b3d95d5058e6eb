package openai

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/dragoman-mt/dragoman/core"
)

// This file has further examples of the kinds of kinds_test.go: how other servers do the
// same. Each row is named by its server.

func TestOtherServersRefuseAParameterInTheirWay(t *testing.T) {
	for _, c := range []struct {
		server, refused string
		status          int
		body            string
		streamed        bool
	}{
		{"Fireworks", "stream_options", 400, `{"error":{"object":"error","type":"invalid_request_error","code":"invalid_request_error","message":"Extra inputs are not permitted, field: 'stream_options', value: {'include_usage': True}"}}`, true},
		{"Cerebras", "max_completion_tokens", 400, `{"message":"body.max_completion_tokens: property 'body.max_completion_tokens' is unsupported","type":"invalid_request_error","param":"validation_error","code":"wrong_api_format"}`, false},
		{"Cohere", "reasoning_effort", 422, `{"id":"1","message":"unknown field: parameter 'reasoning_effort' is not a valid field"}`, false},
		{"vLLM, an old one", "max_completion_tokens", 400, `{"object":"error","message":"[{'type': 'extra_forbidden', 'loc': ('body', 'max_completion_tokens'), 'msg': 'Extra inputs are not permitted', 'input': 800}]","type":"BadRequestError","param":null,"code":400}`, false},
		{"vLLM, a value", "reasoning_effort", 400, `{"error":{"message":"[{'type': 'literal_error', 'loc': ('body', 'reasoning_effort'), 'msg': \"Input should be 'low', 'medium' or 'high'\", 'input': 'none'}]","type":"Bad Request","param":null,"code":400}}`, false},
		{"SGLang", "reasoning_effort", 400, `{"object":"error","message":"1 validation error:\n  {'type': 'literal_error', 'loc': ('body', 'reasoning_effort'), 'msg': \"Input should be 'low', 'medium' or 'high'\"}","type":"BadRequestError","param":null,"code":400}`, false},
		{"TGI", "reasoning_effort", 422, "Failed to deserialize the JSON body into the target type: unknown field `reasoning_effort`, expected one of `messages`, `model`, `temperature`, `max_completion_tokens`, `max_tokens`, `stream` at line 1 column 99", false},
		{"DeepSeek", "reasoning_effort", 400, "{\"error\":{\"message\":\"Failed to deserialize the JSON body into the target type: reasoning_effort: unknown variant `none`, expected one of `low`, `medium`, `high` at line 1 column 301\",\"type\":\"invalid_request_error\"}}", false},
		{"LiteLLM", "max_completion_tokens", 400, `{"error":{"message":"litellm.UnsupportedParamsError: zai does not support parameters: ['max_completion_tokens'], for model=glm-5.2. To drop these, set litellm.drop_params=True","type":"None","param":"None","code":"400"}}`, false},
		{"LiteLLM over xAI", "reasoning_effort", 400, `{"error":{"message":"litellm.BadRequestError: XaiException - {\"code\":\"Client specified an invalid argument\",\"error\":\"Argument not supported on this model: reasoningEffort\"}","type":null,"param":null,"code":"400"}}`, false},
		{"OpenRouter", "reasoning_effort", 400, `{"error":{"message":"Reasoning is mandatory for this endpoint and cannot be disabled.","code":400}}`, false},
		{"OpenRouter over another", "temperature", 400, `{"error":{"message":"Provider returned error","code":400,"metadata":{"raw":"{\"error\":{\"message\":\"Unsupported parameter: 'temperature' is not supported with this model.\",\"param\":\"temperature\"}}","provider_name":"Azure"}}}`, false},
		{"Bedrock", "temperature", 400, `{"message":"The model returned the following errors: #: extraneous key [temperature] is not permitted, please reformat your input and try again."}`, false},
		{"Anthropic", "temperature", 400, "{\"type\":\"error\",\"error\":{\"type\":\"invalid_request_error\",\"message\":\"`temperature` is deprecated for this model.\"}}", false},
		{"Perplexity", "reasoning_effort", 400, `{"error":{"message":"[\"At body -> reasoning_effort: Input should be 'minimal', 'low', 'medium' or 'high'\"]","type":"bad_request","code":400}}`, false},
		{"GitHub Models", "max_completion_tokens", 400, `{"error":{"message":"Unsupported parameter: 'max_completion_tokens' is not supported with this model. Use 'max_tokens' instead.","type":"invalid_request_error","param":"max_completion_tokens","code":"unsupported_parameter"}}`, false},
		{"Azure AI Foundry", "max_completion_tokens", 422, `{"error":{"code":"Invalid input","status":422,"message":"invalid input error","details":[{"type":"extra_forbidden","loc":["body","max_completion_tokens"],"msg":"Extra inputs are not permitted","input":32}]}}`, false},
		{"Databricks", "reasoning_effort", 400, `{"error_code":"BAD_REQUEST","message":"BAD_REQUEST: json: unknown field \"reasoning_effort\""}`, false},
		{"MiniMax", "temperature", 200, `{"id":"","choices":null,"base_resp":{"status_code":2013,"status_msg":"invalid params, temperature must be in (0,1]"}}`, false},
		{"Zhipu", "temperature", 400, `{"error":{"code":"1214","message":"temperature 参数非法。请检查文档。"}}`, false},
		{"DashScope", "temperature", 400, `{"error":{"code":"invalid_parameter_error","param":null,"message":"'temperature' must be Float and greater than 0","type":"invalid_request_error"}}`, false},
		{"NVIDIA NIM", "reasoning_effort", 400, `{"type":"about:blank","status":400,"title":"Bad Request","detail":"Unsupported parameter(s): ` + "`reasoning_effort`" + `"}`, false},
		{"watsonx", "max_completion_tokens", 400, `{"errors":[{"code":"json_validation_error","message":"Json document validation error: extra field 'max_completion_tokens' is not allowed","more_info":"https://example.com/temperature"}],"trace":"1","status_code":400}`, false},
		{"Snowflake", "stream_options", 400, `{"message":"unrecognized field: stream_options","request_id":"1"}`, true},
		{"Together", "reasoning_effort", 400, `{"id":"1","error":{"message":"Input validation error: body/reasoning_effort must be equal to one of the allowed values","type":"invalid_request_error","param":null,"code":null}}`, false},
		{"an Express server", "max_completion_tokens", 400, `{"issues":[{"code":"unrecognized_keys","keys":["max_completion_tokens"],"path":[],"message":"Unrecognized key(s) in object: 'max_completion_tokens'"}],"name":"ZodError"}`, false},
		{"an ASP.NET server", "reasoning_effort", 400, `{"title":"One or more validation errors occurred.","status":400,"errors":{"reasoningEffort":["The JSON value could not be converted."]}}`, false},
		{"a Spring server", "max_completion_tokens", 400, `{"timestamp":"2026-01-01","status":400,"error":"Bad Request","message":"JSON parse error: Unrecognized field \"max_completion_tokens\" (class ChatRequest), not marked as ignorable (3 known properties: \"temperature\", \"messages\", \"model\")"}`, false},
		{"a gRPC gateway", "max_completion_tokens", 400, `{"code":3,"message":"proto: (line 1:70): unknown field \"maxCompletionTokens\"","details":[]}`, false},
	} {
		t.Run(c.server, func(t *testing.T) {
			learnsToLeaveOut(t, c.refused, c.streamed, answered{c.status, []string{"Content-Type", "application/json"}, c.body})
		})
	}
}

func TestOtherServersWithoutASystemRole(t *testing.T) {
	for server, a := range map[string]answered{
		"LM Studio":          {400, nil, `{"error":"Error rendering prompt with jinja template: \"Only user and assistant roles are supported!\". This is usually an issue with the model's prompt template."}`},
		"LM Studio, a newer": {500, nil, `{"error":{"message":"Only user, assistant and tool roles are supported, got system.","type":"internal_error"}}`},
		"TGI":                {422, nil, `{"error":"Template error: invalid operation: Conversation roles must alternate user/assistant/user/assistant/... (in <string>:1)","error_type":"template_error"}`},
		"DashScope":          {400, nil, `{"error":{"code":"invalid_parameter_error","message":"<400> InternalError.Algo.InvalidParameter: Role must be in [user, assistant]","type":"invalid_request_error"}}`},
		"Bedrock":            {400, nil, `{"message":"This model doesn't support system messages. Try again without a system message or use a model that supports system messages."}`},
		"llama.cpp":          {500, nil, `{"error":{"code":500,"message":"Value is not callable: null at row 1: raise_exception('System role not supported')","type":"server_error"}}`},
		"MiniMax":            {200, nil, `{"choices":null,"base_resp":{"status_code":2013,"status_msg":"invalid params, invalid chat role: system"}}`},
		"an array of faults": {422, nil, `{"detail":[{"type":"literal_error","loc":["body","messages",0,"role"],"msg":"Input should be 'user' or 'assistant'","input":"system"}]}`},
	} {
		t.Run(server, func(t *testing.T) { learnsOfNoSystemRole(t, a) })
	}
}

func TestWhatOtherServersErrorsSay(t *testing.T) {
	for _, c := range []struct {
		server string
		status int
		body   string
		kind   core.ErrorKind
		again  bool
		wait   time.Duration
	}{
		{"OpenRouter, an error in a choice", 200, `{"id":"1","choices":[{"index":0,"finish_reason":"error","error":{"code":429,"message":"Rate limited, try again in 3s"},"message":{"role":"assistant","content":""}}]}`, core.RateLimited, true, 3 * time.Second},
		{"OpenRouter, an error in a piece", 200, `data: {"id":"1","choices":[{"index":0,"delta":{"content":""},"finish_reason":"error","error":{"code":503,"message":"no capacity"}}]}` + "\n\n" + end + "\n\n", core.ProviderFailed, true, 0},
		{"Cloudflare", 200, `{"result":null,"success":false,"errors":[{"code":3040,"message":"Capacity temporarily exceeded, please try again."}],"messages":[]}`, core.ProviderFailed, true, 0},
		{"MiniMax, its limit", 200, `{"choices":null,"base_resp":{"status_code":1002,"status_msg":"rate limit exceeded"}}`, core.RateLimited, true, 0},
		{"MiniMax, its balance", 200, `{"choices":null,"base_resp":{"status_code":1008,"status_msg":"insufficient balance"}}`, core.QuotaExceeded, false, 0},
		{"MiniMax, its moderation", 200, `{"choices":null,"input_sensitive":true,"base_resp":{"status_code":1026,"status_msg":"input new_sensitive"}}`, core.ProviderRefused, false, 0},
		{"SiliconFlow", 503, `{"code":50505,"message":"Model service overloaded. Please try again later.","data":null}`, core.ProviderFailed, true, 0},
		{"Anthropic, its load", 529, `{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}`, core.ProviderFailed, true, 0},
		{"Anthropic, in a stream", 200, "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"rate_limit_error\",\"message\":\"slow down\"}}\n\n", core.RateLimited, true, 0},
		{"GitHub Models, its day", 429, `{"error":{"code":"RateLimitReached","message":"Rate limit of 150 per 86400s exceeded for UserByModelByDay. Please wait 3600 seconds before retrying.","details":"x"}}`, core.RateLimited, true, time.Hour},
		{"Groq, its minute", 429, `{"error":{"message":"Rate limit reached for model in organization on tokens per minute (TPM): Limit 6000, Used 5900, Requested 300. Please try again in 2.04s.","type":"tokens","code":"rate_limit_exceeded"}}`, core.RateLimited, true, 2040 * time.Millisecond},
		{"Azure, in words", 429, `{"error":{"code":"429","message":"Requests to the ChatCompletions_Create Operation have exceeded the call rate limit. Please retry after 26 seconds."}}`, core.RateLimited, true, 26 * time.Second},
		{"Hugging Face, it loads", 503, `{"error":"Model is currently loading","estimated_time":20.5}`, core.ProviderFailed, true, 20500 * time.Millisecond},
		{"Anthropic's balance", 400, `{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low to access the API."}}`, core.QuotaExceeded, false, 0},
		{"Cohere's trial", 429, `{"id":"1","message":"You are using a Trial key, which is limited to 1000 API calls / month. You can continue to use the Trial key for free or upgrade to a Production key."}`, core.QuotaExceeded, false, 0},
		{"Together's balance", 402, `{"error":{"message":"Credit limit exceeded","type":"credit_limit","param":null,"code":null}}`, core.QuotaExceeded, false, 0},
		{"Fireworks' balance", 412, `{"error":"Account me is suspended, possibly due to reaching the monthly spending limit or failure to pay past invoices"}`, core.QuotaExceeded, false, 0},
		{"Hugging Face's credits", 402, `{"error":"You have exceeded your monthly included credits for Inference Providers."}`, core.QuotaExceeded, false, 0},
		{"Zhipu's balance", 429, `{"error":{"code":"1113","message":"您的账户已欠费，请充值后重试。"}}`, core.QuotaExceeded, false, 0},
		{"Volcengine's balance", 403, `{"error":{"code":"AccountOverdueError","message":"The request failed because your account has an overdue balance.","type":"Forbidden"}}`, core.QuotaExceeded, false, 0},
		{"Perplexity's balance", 401, `{"error":{"message":"You exceeded your current quota, please check your plan and billing details.","type":"insufficient_quota","code":401}}`, core.QuotaExceeded, false, 0},
		{"LiteLLM's budget", 400, `{"error":{"message":"Budget has been exceeded! Current cost: 10.2, Max budget: 10.0","type":"budget_exceeded","param":null,"code":"400"}}`, core.QuotaExceeded, false, 0},
		{"OpenAI's safety", 400, `{"error":{"message":"Invalid prompt: your prompt was flagged as potentially violating our usage policy.","type":"invalid_request_error","code":"invalid_prompt"}}`, core.ProviderRefused, false, 0},
		{"Anthropic's filter", 400, `{"type":"error","error":{"type":"invalid_request_error","message":"Output blocked by content filtering policy"}}`, core.ProviderRefused, false, 0},
		{"StepFun's filter", 451, `{"error":{"message":"The content you provided or machine outputted is blocked.","type":"censorship_blocked"}}`, core.ProviderRefused, false, 0},
		{"Spark's filter", 400, `{"error":{"message":"input content audit failed, violating regulations","type":"api_error","code":"10013"}}`, core.ProviderRefused, false, 0},
		{"Vertex's filter", 400, `[{"error":{"code":400,"message":"The prompt could not be submitted. This prompt contains sensitive words that violate Google's Responsible AI practices.","status":"INVALID_ARGUMENT"}}]`, core.ProviderRefused, false, 0},
		{"LiteLLM's filter", 400, `{"error":{"message":"litellm.BadRequestError: litellm.ContentPolicyViolationError: x","type":null,"param":null,"code":"400"}}`, core.ProviderRefused, false, 0},
		{"Portkey's guardrail", 446, `{"error":{"message":"The guardrail checks defined in the config failed.","type":"hooks_failed"}}`, core.ProviderRefused, false, 0},
		{"Cloudflare's guardrail", 424, `{"success":false,"errors":[{"code":2016,"message":"Prompt blocked due to security configurations"}]}`, core.ProviderRefused, false, 0},
		{"TGI's context", 422, "{\"error\":\"Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000 `inputs` tokens and 32 `max_new_tokens`\",\"error_type\":\"validation\"}", core.TooLarge, false, 0},
		{"SGLang's context", 400, `{"object":"error","message":"The input (9000 tokens) is longer than the model's context length (8192 tokens).","type":"BadRequestError","code":400}`, core.TooLarge, false, 0},
		{"Mistral's context", 400, `{"object":"error","message":"Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum context length","type":"invalid_request_prompt","code":"3051"}`, core.TooLarge, false, 0},
		{"Anthropic's context", 400, `{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 210000 tokens > 200000 maximum"}}`, core.TooLarge, false, 0},
		{"LM Studio's context", 400, `{"error":"Trying to keep the first 5000 tokens when context the overflows. However, the model is loaded with context length of only 4096 tokens"}`, core.TooLarge, false, 0},
		{"Cloudflare's context", 400, `{"success":false,"errors":[{"code":5021,"message":"The estimated number of input and maximum output tokens (9000) exceeded this model context window limit (8192)."}]}`, core.TooLarge, false, 0},
		{"Groq's request", 413, `{"error":{"message":"Request too large for model on tokens per minute (TPM): Limit 6000, Requested 9000, please reduce your message size and try again.","type":"tokens","code":"rate_limit_exceeded"}}`, core.TooLarge, false, 0},
		{"Bedrock's context", 400, `{"message":"Input is too long for requested model."}`, core.TooLarge, false, 0},
		{"a page of a proxy", 200, "<html><body>Sign in</body></html>", core.ProviderFailed, true, 0},
		{"a gateway's timeout", 504, "<html><body>504 Gateway Time-out</body></html>", core.ProviderFailed, true, 0},
	} {
		t.Run(c.server, func(t *testing.T) { fails(t, answered{c.status, nil, c.body}, c.kind, c.again, c.wait) })
	}
}

func TestOtherFramesOfAnAnswer(t *testing.T) {
	a, b := `{"choices":[{"delta":{"content":"ho"}}]}`, `{"choices":[{"delta":{"content":"la"},"finish_reason":"stop"}]}`
	for name, answer := range map[string]answered{
		"gzip that no header tells":       {200, nil, packed(t, "gzip", fine)},
		"a stream in gzip without header": {200, nil, packed(t, "gzip", "data: "+a+"\n\ndata: "+b+"\n\n"+end)},
		"lines of JSON":                   {200, []string{"Content-Type", "application/x-ndjson"}, a + "\n" + b + "\n"},
		"a list of pieces":                {200, nil, "[" + a + ",\n" + b + "]"},
		"a list of one answer":            {200, nil, "[" + fine + "]"},
		"text beside the delta":           {200, nil, `data: {"choices":[{"text":"ho"}]}` + "\n\n" + `data: {"choices":[{"text":"la","finish_reason":"stop"}]}` + "\n\n" + end},
		"text in place of a message":      {200, nil, `{"choices":[{"text":"hola","finish_reason":"stop"}]}`},
		"carriage returns":                {200, nil, "data: " + a + "\r\rdata: " + b + "\r\r"},
		"no blank behind data":            {200, nil, "data:" + a + "\n\ndata:" + b + "\n\ndata:[DONE]\n\n"},
		"names of events":                 {200, nil, "event: chunk\nid: 1\ndata: " + a + "\n\nevent: chunk\nid: 2\ndata: " + b + "\n\nevent: done\ndata: [DONE]\n\n"},
		"heartbeats":                      {200, nil, ": ping\n\nevent: ping\ndata: {}\n\ndata: " + a + "\n\n: ping\n\ndata: " + b + "\n\n" + end},
		"an empty role first":             {200, nil, `data: {"choices":[{"delta":{"role":"assistant","content":null}}]}` + "\n\ndata: " + a + "\n\ndata: " + b + "\n\n" + end},
		"filter results first":            {200, nil, `data: {"choices":[],"prompt_filter_results":[{"prompt_index":0}]}` + "\n\ndata: " + a + "\n\ndata: " + b + "\n\n" + end},
		"a status that says well":         {200, nil, `{"choices":[{"finish_reason":"stop","message":{"content":"hola"}}],"base_resp":{"status_code":0,"status_msg":"success"},"error":null}`},
		"202":                             {202, nil, fine},
		"a finish of COMPLETE":            {200, nil, `{"choices":[{"finish_reason":"COMPLETE","message":{"content":"hola"}}]}`},
		"a finish of eos_token":           {200, nil, `{"choices":[{"finish_reason":"eos_token","message":{"content":"hola"}}]}`},
		"usage in strings":                {200, nil, `{"choices":[{"finish_reason":"stop","message":{"content":"hola"}}],"usage":{"prompt_tokens":"12","completion_tokens":null}}`},
		"usage as a list":                 {200, nil, `{"choices":[{"finish_reason":"stop","message":{"content":"hola"}}],"usage":[]}`},
		"parts with a summary":            {200, nil, `{"choices":[{"finish_reason":"stop","message":{"content":[{"type":"reasoning","summary":[{"text":"hm"}]},{"type":"text","text":"hola","annotations":[]}]}}]}`},
		"parts in an object":              {200, nil, `{"choices":[{"finish_reason":"stop","message":{"content":{"type":"text","text":"hola"}}}]}`},
	} {
		t.Run(name, func(t *testing.T) { isRead(t, answer) })
	}
}

// A stream that says all that it has said so far with each piece is one answer: so do
// Qwen-MT's larger models.
func TestPiecesThatGrowAreNotPutTogether(t *testing.T) {
	body := ""
	for _, text := range []string{"I", "I did", "I didn't", "I didn't laugh.", "I didn't laugh."} {
		body += fmt.Sprintf("data: {\"choices\":[{\"delta\":{\"content\":%q}}]}\n\n", text)
	}
	srv := talk(t, func(map[string]any, int) answered { return answered{200, nil, body + stop + "\n\n" + end} })
	p := provide(t, srv.URL, nil, func(c *Config) { c.Model, c.Prompt.Template = "qwen-mt-plus", "qwen-mt" })
	req, deltas := heard("No me reí.")
	if res, err := p.Translate(t.Context(), req); err != nil || res.Text != "I didn't laugh." || strings.Join(*deltas, "") != res.Text || len(*deltas) != 4 {
		t.Errorf("got %+v, %v, heard %q", res, err, *deltas)
	}
}

// Half a sentence is no translation, however it is said that it is one half.
func TestOtherReasonsToEnd(t *testing.T) {
	for reason, want := range map[string]core.ErrorKind{
		"COMPLETE": "", "eos_token": "", "stop_sequence": "", "FINISH_REASON_STOP": "",
		"ERROR": core.ProviderFailed, "timeout": core.ProviderFailed, "USER_CANCEL": core.ProviderFailed, "server_error": core.ProviderFailed, "OTHER": core.ProviderFailed, "malformed_response": core.ProviderFailed, "function_call": core.ProviderFailed, "pause_turn": core.ProviderFailed,
	} {
		if _, err := ended(t, reason); core.KindOf(err) != want {
			t.Errorf("%s: %v, want %q", reason, err, want)
		}
	}
	for reason, want := range map[string]core.Finish{"ERROR_TOXIC": core.FinishFiltered, "content-filter": core.FinishFiltered, "guardrail_intervened": core.FinishFiltered, "model_length": core.FinishLength, "model_context_window_exceeded": core.FinishLength, "MAX-TOKENS": core.FinishLength} {
		if res, err := ended(t, reason); err != nil || res.Finish != want || !res.NoStore {
			t.Errorf("%s: %+v, %v", reason, res, err)
		}
	}
}

func TestOtherModelsThatThinkGetRoom(t *testing.T) {
	for name, spent := range map[string]string{
		"it says stop":          `{"choices":[{"finish_reason":"stop","message":{"content":"","reasoning_content":"Okay"}}]}`,
		"counted alone":         `{"choices":[{"finish_reason":"stop","message":{"content":""}}],"usage":{"prompt_tokens":9,"completion_tokens":32,"completion_tokens_details":{"reasoning_tokens":32}}}`,
		"Ollama":                `{"choices":[{"finish_reason":"length","message":{"content":"","thinking":"Okay"}}]}`,
		"OpenRouter's details":  `{"choices":[{"finish_reason":"length","message":{"content":null,"reasoning_details":[{"type":"reasoning.encrypted","data":"x"}]}}]}`,
		"LiteLLM's blocks":      `{"choices":[{"finish_reason":"length","message":{"content":"","thinking_blocks":[{"type":"thinking","thinking":"Okay"}]}}]}`,
		"Magistral's marks":     `{"choices":[{"finish_reason":"length","message":{"content":"[THINK]Okay, the user"}}]}`,
		"gpt-oss's channel":     `{"choices":[{"finish_reason":"length","message":{"content":"<|channel|>analysis<|message|>We need"}}]}`,
		"Seed's tags":           `{"choices":[{"finish_reason":"length","message":{"content":"<seed:think>Okay"}}]}`,
		"Kimi's marks":          `{"choices":[{"finish_reason":"length","message":{"content":"◁think▷Okay"}}]}`,
		"Command A's tokens":    `{"choices":[{"finish_reason":"MAX_TOKENS","message":{"content":"<|START_THINKING|>Okay"}}]}`,
		"its parts":             `{"choices":[{"finish_reason":"length","message":{"content":[{"type":"reasoning","text":"Okay"}]}}]}`,
		"a stream of reasoning": `data: {"choices":[{"delta":{"reasoning":"Okay"}}]}` + "\n\n" + `data: {"choices":[{"delta":{"content":""},"finish_reason":"length"}]}` + "\n\n" + end + "\n\n",
		"a stream in tags":      `data: {"choices":[{"delta":{"content":"<think>"}}]}` + "\n\n" + `data: {"choices":[{"delta":{"content":"Okay"},"finish_reason":"length"}]}` + "\n\n" + end + "\n\n",
	} {
		t.Run(name, func(t *testing.T) { getsRoom(t, spent, 300) })
	}
}

// A list of models that is closed in other words keeps nobody from translating.
func TestOtherClosedListsOfModels(t *testing.T) {
	for server, list := range map[string]answered{
		"a scope that is missing":   {401, nil, `{"error":{"message":"You have insufficient permissions for this operation. Missing scopes: api.model.read","type":"invalid_request_error"}}`},
		"a permission of a policy":  {403, nil, `{"Message":"User is not authorized to perform: bedrock:ListFoundationModels"}`},
		"a route that is missing":   {404, nil, `{"detail":"Not Found"}`},
		"a method that is wrong":    {405, nil, `{"detail":"Method Not Allowed"}`},
		"a method it does not have": {501, nil, `{"error":"not implemented"}`},
	} {
		srv := talk(t, func(body map[string]any, _ int) answered {
			if body["messages"] != nil {
				return answered{200, nil, fine}
			}
			return answered{400, nil, `{"error":{"message":"messages is required"}}`}
		})
		chats := srv.Config.Handler
		srv.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet {
				w.WriteHeader(list.status)
				io.WriteString(w, list.body)
				return
			}
			chats.ServeHTTP(w, r)
		})
		p := provide(t, srv.URL, nil, nil)
		if err := p.Probe(t.Context()); err != nil || p.Notice() == "" {
			t.Errorf("%s: %v, notice %q", server, err, p.Notice())
		}
	}
}
