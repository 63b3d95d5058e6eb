package protect

// Config is what the stage `protect` can be told.
type Config struct {
	Patterns []string `json:"patterns" jsonschema_description:"Regular expressions (RE2) of what else comes back as it is, such as __\\w+__ for __name__. What every text format has, such as {name}, %s, <b> and addresses, is known."`
}

// Defaults returns the values used for what the file leaves out.
func Defaults() Config { return Config{} }
