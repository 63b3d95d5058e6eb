package deepl

import "time"

// Config is the key `deepl` of the section `doors`.
type Config struct {
	Enabled  bool          `json:"enabled" short:"true" jsonschema_description:"Whether the door is open. false in place of the mapping closes it."`
	Deadline time.Duration `json:"deadline" jsonschema_extras:"minDuration=1ms,maxDuration=10m" jsonschema_description:"How long a call may take. The official libraries ask again after 5s."`
}

// Defaults returns the values of the keys that a file leaves out.
func Defaults() Config { return Config{Enabled: true, Deadline: 4500 * time.Millisecond} }
