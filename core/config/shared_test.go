package config

import (
	"fmt"
	"strings"
	"testing"

	"github.com/dragoman-mt/dragoman/core"
)

func TestAnEntryOfProvidersCarriesLimitsAndAccountsWhateverItsType(t *testing.T) {
	const file = `providers:
  p:
    type: openai
    model: small
    limits: {requests_per_minute: 20, max_concurrent: 3}
    accounts:
      - {api_key: "${KEY}"}
      - {api_key: sk-two, base_url: "https://eu.example.com/v1", weight: 3}
      - {weight: 0}
  q: {type: plugin, command: [x], limits: {requests_per_day: 5}}
stages: [provider: {use: p}]
`
	f := mustLoad(t, file, Options{LookupEnv: env("KEY", "sk-one"), Set: []string{"providers.p.limits.requests_per_minute=30"}})
	p, q := f.Providers[0], f.Providers[1]
	if p.Limits != (core.Allowance{RequestsPerMinute: 30, MaxConcurrent: 3}) || q.Limits != (core.Allowance{RequestsPerDay: 5}) || len(q.Accounts) != 0 {
		t.Errorf("limits: %+v, %+v", p.Limits, q.Limits)
	}
	if len(p.Accounts) != 3 {
		t.Fatalf("%d accounts", len(p.Accounts))
	}
	digests := map[string]bool{}
	for i, want := range []struct {
		key, base string
		weight    int
	}{{"sk-one", p.Config.(*openaiConfig).BaseURL, 1}, {"sk-two", "https://eu.example.com/v1", 3}, {"", p.Config.(*openaiConfig).BaseURL, 0}} {
		a := p.Accounts[i]
		c := a.Config.(*openaiConfig)
		if a.Name != fmt.Sprintf("p/%d", i+1) || a.Weight != want.weight || c.APIKey.Reveal() != want.key || c.BaseURL != want.base || c.Model != "small" || a.Limits != p.Limits {
			t.Errorf("account %d: %+v of %s, weight %d", i, c, a.Name, a.Weight)
		}
		digests[a.Digest] = true
	}
	if len(digests) != 3 {
		t.Errorf("%d digests of 3 accounts", len(digests))
	}
	if v := value(f, "providers.p.accounts"); !strings.Contains(v.Text, "weight: 3") || strings.Contains(v.Text, "sk-") {
		t.Errorf("explain shows %+v", v)
	}
	if v := value(f, "providers.p.limits.requests_per_minute"); v.Text != "30" || v.From != "--set" {
		t.Errorf("explain shows %+v", v)
	}
	err := p.Accounts[1].Origin.Complain("base_url", "is wrong")
	if got := fmt.Sprint(err); !strings.HasPrefix(got, "/etc/dragoman/pipeline.yaml:8:37: providers.p.accounts[1].base_url: is wrong") {
		t.Errorf("a complaint of the second account: %s", got)
	}
	for bad, want := range map[string]string{
		"accounts: [{weight: 0}, {api_key: x, weight: 0}]": "p.yaml:3:15: providers.p.accounts: the weights of all accounts are 0, so none of them would be called; give one a weight",
		"accounts: [{model: x}]":                           "p.yaml:3:17: providers.p.accounts[0].model: there is no such key here",
		"accounts: [{weight: -1}]":                         "p.yaml:3:25: providers.p.accounts[0].weight: must be at least 0",
		"accounts: []":                                     "p.yaml:3:15: providers.p.accounts: must not be empty",
		"accounts: hunter2":                                "p.yaml:3:15: providers.p.accounts: must be a list",
		"limits: {requests_per_second: 3}":                 "p.yaml:3:14: providers.p.limits.requests_per_second: there is no such key here",
		"limits: {requests_per_minute: -3}":                "p.yaml:3:35: providers.p.limits.requests_per_minute: must be at least 0",
		"limits: 20":                                       "p.yaml:3:13: providers.p.limits: must be a mapping of keys to values",
	} {
		_, err := loadText(t, "providers:\n  p: {type: openai,\n    "+bad+"}\nstages: [provider: {use: p}]\n", Options{File: "p.yaml"})
		if got := fmt.Sprint(err); !strings.HasPrefix(got, want) || strings.Contains(got, "hunter2") {
			t.Errorf("%s\ngot  %s\nwant %s", bad, got, want)
		}
	}
}
