package openaitest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"github.com/dragoman-mt/dragoman/core"
)

// A prompt is what a chat request asks for.
type prompt struct {
	model          string
	text           string // the last user message
	source, target core.Language
	tokens         int // of all messages
	maxTokens      int // 0 for no cap
	stream         bool
	includeUsage   bool
}

// known are the parameters of a chat request.
var known = strings.Fields(`model messages temperature top_p n stream stream_options stop max_tokens
	max_completion_tokens presence_penalty frequency_penalty logit_bias logprobs top_logprobs user seed store
	metadata service_tier prediction response_format reasoning_effort verbosity tools tool_choice
	parallel_tool_calls functions function_call modalities audio web_search_options prompt_cache_key
	prompt_cache_retention safety_identifier`)

// parsePrompt reads and checks the body of a chat request.
func parsePrompt(body []byte, cfg *Config) (*prompt, *apiError) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(body, &fields); err != nil || fields == nil {
		return nil, badRequest("", "", "We could not parse the JSON body of your request. The OpenAI API expects a JSON payload.")
	}
	for name := range fields {
		if !slices.Contains(known, name) {
			return nil, badRequest(short(name), "unknown_parameter", fmt.Sprintf("Unknown parameter: '%s'.", short(name)))
		}
	}
	p := &prompt{}
	var messages []struct {
		Role    string          `json:"role"`
		Content json.RawMessage `json:"content"`
	}
	var options struct {
		IncludeUsage bool `json:"include_usage"`
	}
	var temperature float64
	var choices, oldMax int
	for _, f := range []struct {
		name string
		into any
		want string
	}{
		{"model", &p.model, "a string"}, {"messages", &messages, "an array of objects"},
		{"stream", &p.stream, "a boolean"}, {"stream_options", &options, "an object"},
		{"temperature", &temperature, "a decimal"}, {"n", &choices, "an integer"},
		{"max_completion_tokens", &p.maxTokens, "an integer"}, {"max_tokens", &oldMax, "an integer"},
	} {
		if raw, ok := fields[f.name]; ok && json.Unmarshal(raw, f.into) != nil {
			return nil, badRequest(f.name, "invalid_type", fmt.Sprintf("Invalid type for '%s': expected %s.", f.name, f.want))
		}
	}
	switch {
	case p.model == "":
		return nil, badRequest("model", "missing_required_parameter", "You must provide a model parameter.")
	case fields["messages"] == nil:
		return nil, badRequest("messages", "missing_required_parameter", "Missing required parameter: 'messages'.")
	case len(messages) == 0:
		return nil, badRequest("messages", "empty_array", "Invalid 'messages': empty array. Expected an array with minimum length 1.")
	case temperature < 0 || temperature > 2:
		return nil, badRequest("temperature", "decimal_out_of_range", "Invalid 'temperature': expected a value between 0 and 2.")
	case choices > 1:
		return nil, badRequest("n", "unsupported_value", "Unsupported value: 'n' must be 1.")
	case fields["stream_options"] != nil && !p.stream:
		return nil, badRequest("stream_options", "", "The 'stream_options' parameter is only allowed when 'stream' is enabled.")
	}
	for name, v := range map[string]int{"max_completion_tokens": p.maxTokens, "max_tokens": oldMax} {
		if raw, given := fields[name]; given && string(raw) != "null" && v < 1 {
			return nil, badRequest(name, "integer_below_min_value", fmt.Sprintf("Invalid '%s': expected a value >= 1.", name))
		}
	}
	p.maxTokens = max(p.maxTokens, oldMax)
	p.includeUsage = options.IncludeUsage

	model, ok := cfg.model(p.model)
	if !ok {
		return nil, noModel(short(p.model))
	}
	for _, refused := range model.Refuses {
		name, value, narrow := strings.Cut(refused, "=")
		raw, given := fields[name]
		if !given {
			continue
		}
		if !narrow {
			return nil, badRequest(name, "unsupported_parameter",
				fmt.Sprintf("Unsupported parameter: '%s' is not supported with this model.", name))
		}
		if strings.Trim(string(raw), `"`) == value {
			return nil, badRequest(name, "unsupported_value",
				fmt.Sprintf("Unsupported value: '%s' does not support %s with this model.", name, value))
		}
	}
	system := ""
	for i, m := range messages {
		text, ok := content(m.Content)
		if !ok {
			where := fmt.Sprintf("messages[%d].content", i)
			return nil, badRequest(where, "invalid_type", fmt.Sprintf("Invalid type for '%s'.", where))
		}
		p.tokens += 4 + tokensOf(text)
		switch m.Role {
		case "system", "developer":
			system += text + "\n"
		case "user":
			p.text = text
		case "assistant", "tool", "function":
		default:
			where := fmt.Sprintf("messages[%d].role", i)
			return nil, badRequest(where, "invalid_value", fmt.Sprintf("Invalid value: '%s'.", short(m.Role)))
		}
	}
	limit := model.ContextTokens
	if limit == 0 {
		limit = 128_000
	}
	if p.tokens > limit {
		return nil, contextLength(limit, p.tokens)
	}
	p.source, p.target = languages(system)
	return p, nil
}

// short bounds what a client sees of its own words.
func short(s string) string {
	if len(s) > 64 {
		return strings.ToValidUTF8(s[:64], "") + "…"
	}
	return s
}

// content reads the content of a message: a string, null, or parts of which
// those of type text count.
func content(raw json.RawMessage) (string, bool) {
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 || string(raw) == "null" {
		return "", true
	}
	var text string
	if raw[0] == '"' {
		return text, json.Unmarshal(raw, &text) == nil
	}
	var parts []struct {
		Type string `json:"type"`
		Text string `json:"text"`
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	if dec.Decode(&parts) != nil || dec.More() {
		return "", false
	}
	if _, err := dec.Token(); err != io.EOF {
		return "", false
	}
	for _, part := range parts {
		if part.Type == "text" || part.Type == "refusal" {
			text += part.Text
		}
	}
	return text, true
}

// tag finds what may be a language tag in parentheses. A name may have
// parentheses of its own: "Serbian (Latin, Serbia) (sr-Latn-RS)".
var tag = regexp.MustCompile(`\(([A-Za-z]{2,3}(?:[-_][A-Za-z0-9]{1,8})*)\)`)

var (
	toNext  = regexp.MustCompile(`^[\s,]*(?:in)?to\s`)
	toFirst = regexp.MustCompile(`(?is)(?:^|\W)(?:in)?to\s[^()]*(?:\([^()]*\)[^()]*)?$`)
)

// languages reads "from English (en) to Spanish (es)", or "to Spanish (es)",
// out of a system message. What is not there is empty.
func languages(system string) (source, target core.Language) {
	type place struct {
		lang       core.Language
		start, end int
	}
	var found []place
	for _, m := range tag.FindAllStringSubmatchIndex(system, 16) {
		if l, err := core.ParseLanguage(system[m[2]:m[3]]); err == nil {
			found = append(found, place{l, m[0], m[1]})
		}
	}
	for i := range max(0, len(found)-1) {
		if toNext.MatchString(system[found[i].end:found[i+1].start]) {
			return found[i].lang, found[i+1].lang
		}
	}
	before := 0
	for _, f := range found {
		if toFirst.MatchString(system[before:f.start]) {
			return "", f.lang
		}
		before = f.end
	}
	return "", ""
}
