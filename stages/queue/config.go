package queue

import "time"

// Config is what the stage `queue` can be told.
type Config struct {
	MaxConcurrent int           `json:"max_concurrent" jsonschema:"minimum=1,maximum=10000" jsonschema_description:"How many upstream calls run at once. Above pool.max_connections the rest waits a second time, for a connection."`
	MinInterval   time.Duration `json:"min_interval" jsonschema_extras:"minDuration=0s,maxDuration=1m" jsonschema_description:"The least time between the starts of two upstream calls. 0s for none."`
	MaxWaiting    int           `json:"max_waiting" jsonschema:"minimum=0,maximum=1000000" jsonschema_description:"How many requests wait for their turn at most; more are refused as overloaded, bulk before partials before finals. 0 lets nobody wait."`
}

// Defaults returns the values used for what the file leaves out.
func Defaults() Config {
	return Config{MaxConcurrent: 6, MinInterval: 25 * time.Millisecond, MaxWaiting: 1000}
}
