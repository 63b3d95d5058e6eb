package openai

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/textproto"
	"net/url"
	"strings"
	"time"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/exchange"
	"github.com/dragoman-mt/dragoman/core/lazy"
)

// Config is an entry of `providers:` of type openai.
type Config struct {
	BaseURL      string                 `json:"base_url" credentials:"true" jsonschema:"minLength=1" jsonschema_description:"Where the API is, up to and including its version: /chat/completions is added to its path. A query stays behind it."`
	APIKey       core.Secret            `json:"api_key" jsonschema_description:"The key of your account, usually ${OPENAI_API_KEY:-}, sent as Authorization: Bearer. Empty: not sent, as servers of your own want it; api.openai.com needs one as soon as something uses this provider."`
	Model        string                 `json:"model" jsonschema:"minLength=1,maxLength=200" jsonschema_description:"The model that translates."`
	Timeout      time.Duration          `json:"timeout" jsonschema_extras:"minDuration=10ms,maxDuration=10m" jsonschema_description:"The longest that one attempt may take, from the first byte sent to the last one received."`
	Organization string                 `json:"organization" jsonschema:"maxLength=200" jsonschema_description:"Sent as OpenAI-Organization; empty: not sent."`
	Project      string                 `json:"project" jsonschema:"maxLength=200" jsonschema_description:"Sent as OpenAI-Project; empty: not sent."`
	Headers      map[string]core.Secret `json:"headers" jsonschema_description:"More headers for every request, for gateways and compatible servers that want them, such as api-key, or Authorization without api_key. Values are never shown."`
	Instructions string                 `json:"instructions" jsonschema:"maxLength=8000" jsonschema_description:"Added to the prompt of every translation: domain, tone, terms. Keep it short, every request pays for it."`
	Prompt       Prompt                 `json:"prompt" jsonschema_description:"How the model is told what to do."`
	Warm         time.Duration          `json:"warm" jsonschema_extras:"minDuration=0s,maxDuration=24h" jsonschema_description:"For a model that is loaded on demand: a call is made at start, and whenever there was none for so long, such as 60s, so that no request waits for the load. 0: never."`
	Request      Request                `json:"request" jsonschema_description:"Parameters of the request. Those that the model refuses are left out from then on."`
	Price        *core.Price            `json:"price" jsonschema_description:"What the provider takes, so that usage is told in money too."`
}

// Prompt says how the model is told what to do.
type Prompt struct {
	Roles     string `json:"roles" jsonschema:"enum=system,enum=user-only" jsonschema_description:"Which roles the messages have. user-only: everything is said in the first user message, for models that know no system role; those that say so get it by themselves."`
	Template  string `json:"template" jsonschema:"maxLength=8000" jsonschema_description:"One user message in place of the provider's own prompt, for models that were made for translation: with {text}, and {source}, {target}, {source_code}, {target_code}, {instructions} where they belong. Or the name of one that is shipped: qwen-mt, hunyuan-mt, translategemma."`
	Languages string `json:"languages" jsonschema:"enum=,enum=names,enum=codes" jsonschema_description:"How languages are written: names (Brazilian Portuguese), codes (pt-BR); empty: both in the provider's own prompt, names in a template."`
}

// Request holds parameters that are sent with every request.
type Request struct {
	Temperature     float64        `json:"temperature" jsonschema:"minimum=0,maximum=2" jsonschema_description:"0 gives the same answer to the same text, as far as the model can."`
	ReasoningEffort string         `json:"reasoning_effort" jsonschema:"maxLength=32" jsonschema_description:"How long a reasoning model thinks first. none is fastest; empty: not sent."`
	MaxOutput       int            `json:"max_output" jsonschema:"minimum=32,maximum=131072" jsonschema_description:"The most tokens that one answer may have. The cap of each request is lower, it follows the length of the text."`
	Omit            []string       `json:"omit" jsonschema:"enum=temperature,enum=reasoning_effort,enum=store,enum=max_completion_tokens,enum=max_tokens,enum=stream,enum=stream_options" jsonschema_description:"Parameters that are never sent."`
	PassUnknown     bool           `json:"pass_unknown" jsonschema_description:"Whether chats may bring parameters that are not OpenAI's, such as enable_thinking or top_k: for vLLM, Ollama and their like. Else those are left out."`
	Extra           map[string]any `json:"extra" jsonschema_description:"More of the body of every request, as the server wants it. A key of it stands in place of the provider's own; messages, model and stream cannot be replaced."`
}

func defaults() Config {
	return Config{
		BaseURL: "https://api.openai.com/v1",
		Model:   "gpt-5.4-nano",
		Timeout: 3 * time.Second,
		Prompt:  Prompt{Roles: "system"},
		Request: Request{ReasoningEffort: "none", MaxOutput: 4096},
	}
}

// Longest returns how long one attempt may take.
func (c *Config) Longest() time.Duration { return c.Timeout }

// Kind declares the provider kind `openai`.
func Kind() core.Kind {
	return core.NewKind("openai", core.RoleProvider, "Translates with chat completions, by OpenAI or any server that speaks its API.", defaults, build).WithChats()
}

// replaced matches what other programs replace in a prompt: a known word in braces, so
// that no honest text is taken for one.
var replaced = lazy.Regexp(`(?i)\{\{?\s*[$.]?(?:` +
	`(?:source|target|src|tgt|from|to|input|output|dest)[ _-]?(?:lang|language|locale|text)(?:[ _-]?(?:code|name))?|` +
	`source|target|src|tgt|lang|language|texts?` +
	`)\s*\}\}?|\{\{\s*[$.]?(?:from|to|input|content|context)\s*\}\}|%\((?:(?:source|target|src|tgt)_)?(?:lang|language|text)\)s`)

// placeholder returns the first placeholder in the instructions: nothing would
// replace it.
func (c *Config) placeholder() string { return replaced().FindString(c.Instructions) }

// base reads base_url.
func (c *Config) base() (*url.URL, error) {
	u, err := exchange.Base(c.BaseURL, "https://api.openai.com/v1")
	if err != nil {
		return nil, err
	}
	if before, ok := strings.CutSuffix(strings.TrimRight(u.Path, "/"), "/chat/completions"); ok {
		u.Path, u.RawPath = before, ""
		return nil, fmt.Errorf("base_url ends with /chat/completions, which is added to it; write %s", u)
	}
	return u, nil
}

// isOpenAI says whether u is an address of OpenAI's own: there a key is needed.
func isOpenAI(u *url.URL) bool {
	host := strings.ToLower(u.Hostname())
	return host == "api.openai.com" || strings.HasSuffix(host, ".api.openai.com")
}

// mayBeKey says whether a header or a part of a query is named like what says who
// calls.
func mayBeKey(name string) bool {
	name = strings.ToLower(name)
	for _, word := range []string{"auth", "key", "token", "secret", "cookie", "sig"} {
		if strings.Contains(name, word) {
			return true
		}
	}
	return false
}

// extra returns request.extra, encoded, by its keys. The key at fault is named with
// an error.
func (r *Request) extra() (encoded map[string]json.RawMessage, at string, err error) {
	for name, value := range r.Extra {
		switch name {
		case "messages", "model", "stream":
			return nil, name, fmt.Errorf("must not be replaced: the provider sets it itself")
		case "":
			return nil, name, fmt.Errorf("a key must have a name")
		}
		raw, err := json.Marshal(value)
		switch {
		case err != nil:
			return nil, name, fmt.Errorf("cannot be written as JSON")
		case len(raw) > maxExtra:
			return nil, name, fmt.Errorf("is longer than %d bytes", maxExtra)
		}
		if encoded == nil {
			encoded = make(map[string]json.RawMessage, len(r.Extra))
		}
		encoded[name] = raw
	}
	return encoded, "", nil
}

// maxExtra is the longest value in request.extra, in bytes of JSON.
const maxExtra = 64 << 10

// header returns what every request carries. Its value slices are shared by
// all requests and never changed.
func (c *Config) header() (http.Header, error) {
	h := http.Header{
		"Content-Type": {"application/json"},
		"Accept":       {"application/json"},
		"User-Agent":   {"dragoman"},
		// Answers are a few hundred bytes: unpacking would cost more than it saves.
		"Accept-Encoding": {"identity"},
	}
	for name, secret := range c.Headers {
		value := secret.Reveal()
		canonical := textproto.CanonicalMIMEHeaderKey(name)
		switch {
		case !exchange.IsToken(name):
			return nil, fmt.Errorf("headers: %q is not the name of a header", name)
		case canonical == "Authorization" && strings.TrimSpace(c.APIKey.Reveal()) != "":
			return nil, fmt.Errorf("headers: Authorization is what api_key is sent as; leave one of them out")
		case isOurs(canonical):
			return nil, fmt.Errorf("headers: %s is set by the provider itself; use its own key", canonical)
		case !exchange.IsFieldValue(value):
			return nil, fmt.Errorf("headers.%s: the value holds a character that no header may hold", name)
		}
		h[canonical] = []string{value}
	}
	for _, own := range []struct{ key, header, value string }{
		{"api_key", "Authorization", c.APIKey.Reveal()},
		{"organization", "Openai-Organization", c.Organization},
		{"project", "Openai-Project", c.Project},
	} {
		value := strings.TrimSpace(own.value)
		if !exchange.IsFieldValue(value) {
			return nil, fmt.Errorf("%s holds a character that no header may hold", own.key)
		}
		if own.header == "Authorization" {
			value = "Bearer " + value
		}
		if strings.TrimSpace(own.value) != "" {
			h[own.header] = []string{value}
		}
	}
	return h, nil
}

// isOurs says whether the provider or the connection sets the header itself.
func isOurs(canonical string) bool {
	switch canonical {
	case "Content-Type", "Content-Length", "Accept", "Accept-Encoding",
		"Host", "Connection", "Transfer-Encoding", "Trailer", "Te", "Upgrade", "Expect",
		"X-Client-Request-Id", "Openai-Organization", "Openai-Project":
		return true
	}
	return false
}
