package openai

import (
	"testing"
	"time"

	"github.com/dragoman-mt/dragoman/core"
)

// Whoever bills is the server and the key; what is asked for there is not.
func TestAnAccountIsAServerAndAKey(t *testing.T) {
	const base = "https://api.test/v1"
	account := func(change func(*Config)) string { return provide(t, base, nil, change).Account() }
	of := account(nil)
	for what, c := range map[string]struct {
		change func(*Config)
		same   bool
	}{
		"another model":              {func(c *Config) { c.Model = "another" }, true},
		"another time-out":           {func(c *Config) { c.Timeout = time.Second }, true},
		"other instructions":         {func(c *Config) { c.Instructions = "Be brief." }, true},
		"the server in capitals":     {func(c *Config) { c.BaseURL = "https://API.test/v1" }, true},
		"another path of the server": {func(c *Config) { c.BaseURL = "https://api.test/v2/" }, true},
		"another key":                {func(c *Config) { c.APIKey = "sk-another" }, false},
		"another server":             {func(c *Config) { c.BaseURL = "https://other.test/v1" }, false},
		"another port":               {func(c *Config) { c.BaseURL = "https://api.test:8443/v1" }, false},
		"a header that says who":     {func(c *Config) { c.Headers = map[string]core.Secret{"X-Tenant": "two"} }, false},
	} {
		if same := account(c.change) == of; same != c.same {
			t.Errorf("%s: the same account is %v", what, same)
		}
	}
}
