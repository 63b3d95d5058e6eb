package cache

import (
	"time"

	"github.com/dragoman-mt/dragoman/core"
)

// Config is what the stage `cache` can be told.
type Config struct {
	MaxSize core.Size     `json:"max_size" jsonschema_extras:"minSize=1MiB,maxSize=64GiB" jsonschema_description:"How much memory the stored translations may take. When it is full, those asked for least go first."`
	TTL     time.Duration `json:"ttl" jsonschema_extras:"minDuration=1s,maxDuration=8760h" jsonschema_description:"How long a stored translation may be used."`
	Preload []core.Path   `json:"preload" jsonschema_description:"Tables of finished translations that are answered before anything else and never evicted, whatever provider is in use: UTF-8, on each line source language, target language, text, translation, with tabs between them. Of two tables with the same text the later one holds."`
}

// Defaults returns the values used for what the file leaves out.
func Defaults() Config {
	return Config{MaxSize: 32 << 20, TTL: 24 * time.Hour}
}

// Kind declares the stage `cache`.
func Kind() core.Kind {
	return core.NewKind("cache", core.RoleLookup,
		"Answers what was answered before, and lets requests that want the same answer share one upstream call.",
		Defaults, func(env core.Env, c *Config) (any, error) { return New(env, *c), nil }).WithChats()
}
