package core

// A Price is what a provider takes. Whoever declares a kind of provider puts a pointer
// to one, called Price, into its Config; the gateway then tells its clients' usage in
// money too.
type Price struct {
	Input       float64  `json:"input" jsonschema:"minimum=0,maximum=1000000" jsonschema_description:"For a million tokens of prompts, or characters of texts."`
	Output      float64  `json:"output" jsonschema:"minimum=0,maximum=1000000" jsonschema_description:"For a million tokens of answers, or characters of translations."`
	CachedInput *float64 `json:"cached_input" jsonschema:"minimum=0,maximum=1000000" jsonschema_description:"For a million tokens of prompts that the provider had cached. Left out: as input."`
	PerMillion  string   `json:"per_million" jsonschema:"enum=tokens,enum=characters,default=tokens" jsonschema_description:"What is counted: tokens, or characters (code points)."`
	Currency    string   `json:"currency" jsonschema:"pattern=^[A-Z]{3}$,default=USD" jsonschema_description:"The currency, by its three letters (ISO 4217). Left out: USD."`
}
