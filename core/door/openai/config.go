package openai

import (
	"fmt"
	"strings"
	"time"

	"github.com/dragoman-mt/dragoman/core"
)

// Config is the key `openai` of the section `doors`.
type Config struct {
	Enabled   bool             `json:"enabled" short:"true" jsonschema_description:"Whether the door is open. false in place of the mapping closes it."`
	Deadline  time.Duration    `json:"deadline" jsonschema_extras:"minDuration=1ms,maxDuration=10m" jsonschema_description:"How long a call may take."`
	Default   string           `json:"default" jsonschema_description:"The model of calls that name none, or one that there is not, such as translate/es. Empty: those are refused."`
	Advertise []string         `json:"advertise" jsonschema_description:"Languages for which translate/LANGUAGE stands in the list of models. All others can be asked for as well."`
	Models    map[string]Model `json:"models" jsonschema_description:"Models by names of your own."`
}

// A Model is what a name of the operator's own stands for.
type Model struct {
	Translate Translate `json:"translate" jsonschema_description:"Translates what the call says."`
}

// Translate says how a model translates.
type Translate struct {
	Source    string `json:"source" jsonschema_description:"Language of the texts. Empty: left open."`
	Target    string `json:"target" jsonschema_description:"Language to translate into."`
	Formality string `json:"formality" jsonschema:"enum=,enum=formal,enum=informal" jsonschema_description:"How the reader is addressed."`
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
	if _, own := c.Models[c.Default]; c.Default != "" && !own {
		if _, target, ok := named(c.Default); !ok || target == "" {
			return "default", fmt.Sprintf("there is no model %q; name one of models, or translate/TARGET", c.Default)
		}
	}
	return "", ""
}
