package config

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A fault that is no matter of the schema has the line and the column of the value
// that it is about, however deep that stands.
func TestAFaultOfASectionHasItsPlace(t *testing.T) {
	f := mustLoad(t, `version: 1
server:
  listen: 0.0.0.0:8080
  keys:
    - one
    - two
pool:
  mode: direct
providers: {p: {type: openai}}
stages: [provider: {use: p}]
`, Options{File: "p.yaml", Set: []string{"server.admin=x"}})
	for fault, want := range map[string]string{
		"server.listen: is odd":        "p.yaml:3:11: server.listen: is odd",
		"server.keys[1]: is odd: very": "p.yaml:6:7: server.keys[1]: is odd: very",
		"server.keys[1].role: is odd":  "p.yaml:6:7: server.keys[1].role: is odd", // of what is written as one word
		"server.deadline: is odd":      "p.yaml:2:1: server.deadline: is odd",     // a default
		"server.admin: is odd":         "--set server.admin: is odd",
		"pool: mode: is odd":           "p.yaml:8:9: pool.mode: is odd",
		"pool: is odd: very":           "p.yaml:7:1: pool: is odd: very",
		"log.level: is odd":            "p.yaml: log.level: is odd", // nobody declared it
		"everything is odd: very":      "p.yaml: everything is odd: very",
	} {
		if got := f.Place(errors.New(fault)).Error(); got != want {
			t.Errorf("%s: got %q, want %q", fault, got, want)
		}
	}
	all := f.Place(errors.Join(errors.New("pool: mode: b"), errors.New("server.listen: a"), errors.Join(errors.New("server.listen: a"))))
	if diff := cmp.Diff("p.yaml:3:11: server.listen: a\np.yaml:8:9: pool.mode: b", fmt.Sprint(all)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if f.Place(nil) != nil {
		t.Error("nothing is a complaint")
	}
}

func TestTheOperatorsOwnKeysHoldAnchors(t *testing.T) {
	f := mustLoad(t, `
x-slow: &slow {timeout: 9s}
x-anything: [1, {two: "${TWO:-2}"}]
providers:
  p: {type: openai, <<: *slow}
stages: [provider: {use: p}]
`, Options{})
	if got := value(f, "providers.p.timeout"); got.Text != "9s" {
		t.Errorf("got %+v", got)
	}
	if _, err := loadText(t, with("y-slow: 1\n"), Options{}); err == nil {
		t.Error("any key is accepted")
	}
}

// A list of keys that are in variables is no empty list, and what only such a
// variable decides is nobody's mistake.
func TestAVariableThatIsNotSetIsUnknownAndNotEmptyOffline(t *testing.T) {
	f := mustLoad(t, `
server: {listen: 0.0.0.0:80, admin: "${ADMIN}", keys: ["${KEY}", known]}
providers: {p: {type: openai, api_key: "${KEY}", headers: {A: "${KEY}"}}}
stages: [provider: {use: "${USE}"}]
`, Options{File: "p.yaml", Offline: true})
	if c := f.Sections["server"].(*serverConfig); len(c.Keys) != 2 || c.Keys[1].Key.Reveal() != "known" {
		t.Errorf("%d keys", len(c.Keys))
	}
	if c := f.Providers[0].Config.(*openaiConfig); c.APIKey != "" || len(c.Headers) != 0 {
		t.Errorf("got %+v", c)
	}
	for path, want := range map[string]bool{
		"server": true, "server.keys": true, "server.keys[0]": true, "server.keys[1]": false, "server.listen": false, "server.admin": true,
		"providers.p": true, "providers.p.api_key": true, "providers.p.model": false, "stages[0].provider.use": true, "stages[0].prov": false,
	} {
		if got := f.Unknown(path); got != want {
			t.Errorf("%s: unknown is %v", path, got)
		}
	}
	if err := f.Place(errors.Join(errors.New("server.keys[0]: is empty"), errors.New("server.admin: is odd"))); err != nil {
		t.Errorf("got %v", err)
	}
	if err := f.Place(errors.Join(errors.New("server.keys[0]: is empty"), errors.New("server.keys[1]: is odd"))); fmt.Sprint(err) != "p.yaml:2:66: server.keys[1]: is odd" {
		t.Errorf("got %v", err)
	}
}
