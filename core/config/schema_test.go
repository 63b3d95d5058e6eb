package config

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dragoman-mt/dragoman/core"
)

// The kinds below have the keys of the real ones, and every sort of value that
// a configuration can hold.

type serverConfig struct {
	Listen   string        `json:"listen" jsonschema:"minLength=1" jsonschema_description:"Address to listen on."`
	Admin    string        `json:"admin" jsonschema_description:"Address of the admin door; empty for none of its own."`
	Keys     []keyConfig   `json:"keys" jsonschema_description:"Keys that clients may use."`
	Deadline time.Duration `json:"deadline" jsonschema_extras:"minDuration=1ms,maxDuration=10m" jsonschema_description:"The longest a request may take."`
	MaxBody  core.Size     `json:"max_body" jsonschema_extras:"minSize=1KiB,maxSize=1GiB" jsonschema_description:"The largest body of a request."`
}

type keyConfig struct {
	Name string      `json:"name" jsonschema:"pattern=^[A-Za-z0-9._-]{1\\,64}$" jsonschema_description:"Whose it is."`
	Key  core.Secret `json:"key" short:"true" jsonschema_description:"The key itself."`
	Sum  core.Secret `json:"sum" jsonschema:"pattern=^[0-9a-fA-F]{64}$" jsonschema_description:"Its sum."`
	Role string      `json:"role" jsonschema:"enum=translate,enum=operate,default=translate" jsonschema_description:"What it may do."`
}

type poolConfig struct {
	Mode            string        `json:"mode" jsonschema:"enum=pooled,enum=direct" jsonschema_description:"How connections are used."`
	WarmConnections int           `json:"warm_connections" jsonschema:"minimum=0,maximum=64" jsonschema_description:"Connections kept ready."`
	MaxConnections  int           `json:"max_connections" jsonschema:"minimum=1,maximum=64" jsonschema_description:"The most connections to one origin."`
	IdleTimeout     time.Duration `json:"idle_timeout" jsonschema_description:"How long a connection may idle."`
	CAFile          core.Path     `json:"ca_file" jsonschema_description:"Further certificate authorities."`
	Proxy           string        `json:"proxy" jsonschema_description:"The proxy; empty for that of the environment."`
}

type openaiConfig struct {
	BaseURL string            `json:"base_url" jsonschema:"minLength=1" jsonschema_description:"Where the API is."`
	APIKey  core.Secret       `json:"api_key" jsonschema:"maxLength=200" jsonschema_description:"The key."`
	Model   string            `json:"model" jsonschema:"minLength=1,maxLength=100" jsonschema_description:"The model."`
	Timeout time.Duration     `json:"timeout" jsonschema_extras:"minDuration=10ms" jsonschema_description:"One attempt."`
	Headers map[string]string `json:"headers" jsonschema_description:"Further headers."`
	Request openaiRequest     `json:"request" jsonschema_description:"Options of the model."`
}

type openaiRequest struct {
	Temperature *float64 `json:"temperature,omitempty" jsonschema:"minimum=0,maximum=2" jsonschema_description:"Sampling temperature."`
	MaxOutput   int      `json:"max_output" jsonschema:"minimum=0" jsonschema_description:"Cap of tokens; 0 for one by the length of the text."`
}

type pluginConfig struct {
	Command    []string       `json:"command" jsonschema_description:"The program and its arguments."`
	ConfigFrom string         `json:"config_from" ref:"providers" jsonschema_description:"The provider whose keys it takes."`
	Folder     string         `json:"folder" path:"true" jsonschema_description:"Where it runs."`
	Config     map[string]any `json:"config" secret:"true" jsonschema_description:"Its own keys."`
}

type cacheConfig struct {
	MaxSize core.Size     `json:"max_size" jsonschema_extras:"minSize=64KiB,maxSize=64GiB" jsonschema_description:"Memory."`
	TTL     time.Duration `json:"ttl" jsonschema_extras:"minDuration=1s" jsonschema_description:"How long an answer is kept."`
	Preload []core.Path   `json:"preload" jsonschema_description:"Phrase tables."`
}

type ratelimitConfig struct {
	RequestsPerMinute int `json:"requests_per_minute" jsonschema:"minimum=1" jsonschema_description:"Requests."`
	TokensPerMinute   int `json:"tokens_per_minute" jsonschema:"minimum=0" jsonschema_description:"Tokens; 0 for no limit."`
}

type queueConfig struct {
	MaxConcurrent int           `json:"max_concurrent" jsonschema:"minimum=1,maximum=1000" jsonschema_description:"At once."`
	MinInterval   time.Duration `json:"min_interval" jsonschema_extras:"minDuration=0s,maxDuration=1m" jsonschema_description:"Between starts."`
	MaxWaiting    uint16        `json:"max_waiting" jsonschema_description:"Waiting at most."`
}

type providerConfig struct {
	Use      string   `json:"use" ref:"providers" jsonschema:"required,minLength=1" jsonschema_description:"Who translates."`
	Fallback []string `json:"fallback" ref:"providers" jsonschema_description:"Who does when that one cannot."`
	Retries  int      `json:"retries" jsonschema:"minimum=0,maximum=5" jsonschema_description:"Further attempts."`
	Hedge    bool     `json:"hedge" jsonschema_description:"Asks twice."`
}

type postprocessConfig struct {
	Skip []string `json:"skip" jsonschema:"enum=echo,enum=script,uniqueItems=true" jsonschema_description:"Steps to leave out."`
}

func testKind[C any](name string, role core.Role, defaults C) core.Kind {
	return core.NewKind(name, role, "Tests "+name+".", func() C { return defaults },
		func(core.Env, *C) (any, error) { return nil, nil })
}

func testSchema() Schema {
	return Schema{
		Sections: []Section{
			{Name: "server", Doc: "What clients talk to.", Config: func() any {
				return &serverConfig{Listen: "127.0.0.1:8080", Deadline: 4500 * time.Millisecond, MaxBody: 1 << 20}
			}},
			{Name: "pool", Doc: "Upstream connections.", Config: func() any {
				return &poolConfig{Mode: "pooled", WarmConnections: 6, MaxConnections: 10, IdleTimeout: 50 * time.Second}
			}},
		},
		Kinds: []core.Kind{
			testKind("openai", core.RoleProvider, openaiConfig{BaseURL: "https://api.openai.com/v1", Model: "gpt-5.4-nano", Timeout: 3 * time.Second}),
			testKind("plugin", core.RoleProvider, pluginConfig{}),
			testKind("cache", core.RoleLookup, cacheConfig{MaxSize: 32 << 20, TTL: 24 * time.Hour}),
			testKind("ratelimit", core.RoleGate, ratelimitConfig{RequestsPerMinute: 4500}),
			testKind("queue", core.RoleGate, queueConfig{MaxConcurrent: 6, MinInterval: 25 * time.Millisecond, MaxWaiting: 1000}),
			testKind("provider", core.RoleCaller, providerConfig{Retries: 1}),
			testKind("postprocess", core.RoleStage, postprocessConfig{}),
		},
	}
}

// What is checked, and what is secret, is read from a document as from the JSON that it is for others.
func TestADocumentIsReadAsItsJSON(t *testing.T) {
	for _, s := range []Schema{testSchema(), oddSchema(), vaultSchema()} {
		document := s.document()
		text, err := json.Marshal(document)
		if err != nil {
			t.Fatal(err)
		}
		var whole any
		if err := json.Unmarshal(text, &whole); err != nil {
			t.Fatal(err)
		}
		text, err = json.Marshal(raw(document))
		if err != nil {
			t.Fatal(err)
		}
		var got any
		if err := json.Unmarshal(text, &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(obeyed(whole), got); diff != "" {
			t.Errorf("(-JSON +document):\n%s", diff)
		}
	}
}

// obeyed is a schema less what is only for people.
func obeyed(s any) any {
	m, ok := s.(map[string]any)
	if !ok {
		return s
	}
	kept := map[string]any{}
	for key, value := range m {
		switch key {
		case "$schema", "title", "description", "default":
		case "properties", "patternProperties", "$defs":
			all := map[string]any{}
			for name, s := range value.(map[string]any) {
				all[name] = obeyed(s)
			}
			kept[key] = all
		case "allOf", "anyOf", "oneOf":
			var all []any
			for _, s := range value.([]any) {
				all = append(all, obeyed(s))
			}
			kept[key] = all
		case "items", "additionalProperties", "propertyNames":
			kept[key] = obeyed(value)
		default:
			kept[key] = value
		}
	}
	return kept
}
