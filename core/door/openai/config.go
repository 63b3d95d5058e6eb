package openai

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dragoman-mt/dragoman/core"
)

// Config is the key `openai` of the section `doors`.
type Config struct {
	Enabled   bool             `json:"enabled" short:"true" jsonschema_description:"Whether the door is open. false in place of the mapping closes it."`
	Deadline  time.Duration    `json:"deadline" jsonschema_extras:"minDuration=1ms,maxDuration=10m" jsonschema_description:"How long a call may take."`
	Default   string           `json:"default" jsonschema_description:"What answers calls that name no model, or one that there is not: one of models, translate/LANGUAGE such as translate/es, or a provider that takes chats. Empty: the one provider in use that takes chats; when there are more or none, such calls are refused."`
	Advertise []string         `json:"advertise" jsonschema_description:"Languages for which translate/LANGUAGE stands in the list of models. All others can be asked for as well."`
	Models    map[string]Model `json:"models" jsonschema_description:"Models by names of your own."`
}

// A Model is what a name of the operator's own stands for.
type Model struct {
	Translate Translate `json:"translate" jsonschema_description:"Translates what the call says."`
	Chat      Chat      `json:"chat" jsonschema_description:"Passes the call to a provider as it is, and its answer back. In place of translate."`
}

// Chat says how the calls of a model pass.
type Chat struct {
	Provider string         `json:"provider" ref:"providers" jsonschema_description:"The entry of providers that answers: one of type openai. It need not be one that translates."`
	Model    string         `json:"model" jsonschema:"maxLength=200" jsonschema_description:"The model that is asked. Empty: that of the provider."`
	Set      map[string]any `json:"set" jsonschema_description:"Parameters that stand in place of the client's, such as temperature: 0 or reasoning_effort: none."`
	Drop     []string       `json:"drop" jsonschema_description:"Parameters of the client that are left out."`
	Strip    []string       `json:"strip" jsonschema:"enum=think" jsonschema_description:"What is taken out of answers. think: the thoughts between <think> and </think>."`
	Cache    string         `json:"cache" jsonschema:"enum=,enum=deterministic,enum=always,enum=off" jsonschema_description:"Which answers are stored. deterministic, or empty: those with temperature 0. always: also others. off: none."`
	Lane     string         `json:"lane" jsonschema:"enum=,enum=final,enum=bulk" jsonschema_description:"bulk: its calls let all others go first."`
	Deadline time.Duration  `json:"deadline" jsonschema_extras:"maxDuration=10m" jsonschema_description:"How long a call may take, when that is less than the deadline of the door. 0: as long as that."`
}

// Translate says how a model translates.
type Translate struct {
	Source    string `json:"source" jsonschema_description:"Language of the texts. Empty: left open."`
	Target    string `json:"target" jsonschema_description:"Language to translate into."`
	Formality string `json:"formality" jsonschema:"enum=,enum=formal,enum=informal" jsonschema_description:"How the reader is addressed."`
	Glossary  string `json:"glossary" jsonschema_description:"One of glossaries, which holds for the texts. Empty: none."`
}

// Defaults returns the values of the keys that a file leaves out.
func Defaults() Config { return Config{Enabled: true, Deadline: 110 * time.Second} }

// Check returns what no bound of a single key can find: the key at fault below
// `doors.openai`, and why.
func (c Config) Check() (key, why string) {
	for name, m := range c.Models {
		if name == "" || strings.HasPrefix(name, prefix) || name == "translate" {
			return "models", fmt.Sprintf("%q cannot be the name of a model: translate and what begins with translate/ mean something already", name)
		}
		if m.Chat.Provider != "" {
			if m.Translate != (Translate{}) {
				return "models", fmt.Sprintf("%s: has chat and translate; leave one of them out", name)
			}
			if _, err := m.Chat.set(); err != nil {
				return "models", fmt.Sprintf("%s.chat.set: %v", name, err)
			}
			continue
		}
		if m.Translate.Target == "" {
			return "models", fmt.Sprintf("%s: says neither what it translates into nor who answers; give it translate.target, or chat.provider", name)
		}
		if _, err := core.ParseLanguage(m.Translate.Target); err != nil {
			return "models", fmt.Sprintf("%s.translate.target: %s", name, core.AsError(err, "").Detail)
		}
		if m.Translate.Source != "" {
			if _, err := core.ParseLanguage(m.Translate.Source); err != nil {
				return "models", fmt.Sprintf("%s.translate.source: %s", name, core.AsError(err, "").Detail)
			}
		}
	}
	for _, tag := range c.Advertise {
		if _, err := core.ParseLanguage(tag); err != nil {
			return "advertise", core.AsError(err, "").Detail
		}
	}
	if _, own := c.Models[c.Default]; !own {
		if _, target, ok := named(c.Default); ok && target == "" {
			return "default", fmt.Sprintf("%q does not say into which language; write translate/TARGET, such as translate/es", c.Default)
		}
	}
	return "", ""
}

// Providers tells each of the providers that are named for chats, and the key that
// names it.
func (c Config) Providers(each func(key, provider string)) {
	for _, name := range slices.Sorted(maps.Keys(c.Models)) {
		if p := c.Models[name].Chat.Provider; p != "" {
			each("models."+name+".chat.provider", p)
		}
	}
	if _, own := c.Models[c.Default]; c.Default != "" && !own {
		if _, _, ok := named(c.Default); !ok {
			each("default", c.Default)
		}
	}
}

// set returns what the operator wants of every call.
func (c *Chat) set() (fields []core.ChatField, err error) {
	for _, name := range slices.Sorted(maps.Keys(c.Set)) {
		switch name {
		case "messages", "model", "stream", "stream_options":
			return nil, fmt.Errorf("%s cannot be set: it is the client's, or the key model", name)
		}
		raw, err := json.Marshal(c.Set[name])
		if err != nil {
			return nil, fmt.Errorf("%s cannot be written as JSON", name)
		}
		fields = append(fields, core.ChatField{Name: name, Value: raw, Set: true})
	}
	return fields, nil
}
