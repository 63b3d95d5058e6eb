package libretranslate

import "time"

// Config is the key `libretranslate` of the section `doors`.
type Config struct {
	Enabled  bool          `json:"enabled" short:"true" jsonschema_description:"Whether the door is open. false in place of the mapping closes it."`
	Deadline time.Duration `json:"deadline" jsonschema_extras:"minDuration=1ms,maxDuration=10m" jsonschema_description:"How long a call may take. The shortest patience of its clients is 10s."`
}

// Defaults returns the values of the keys that a file leaves out.
func Defaults() Config { return Config{Enabled: true, Deadline: 9500 * time.Millisecond} }
