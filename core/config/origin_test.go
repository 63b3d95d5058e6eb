package config

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/dragoman-mt/dragoman/core/fields"
)

// told is the schema of another program, as it would tell it.
func told(t *testing.T) []byte {
	t.Helper()
	schema, err := json.Marshal(fields.Schema(&openaiConfig{Model: "m"}, "Another program."))
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

const other = `version: 1
providers:
  other:
    type: plugin
    command: [other]
    config:
      modell: big
      timeout: 5
      api_key: [sk-secret]
      request: {max_output: -1}
stages:
  - provider: {use: other}
`

func TestASchemaThatIsKnownLaterFindsTheSameMistakes(t *testing.T) {
	f := mustLoad(t, other, Options{File: "/etc/dragoman/pipeline.yaml", Set: []string{"providers.other.config={headers: 3}", "providers.other.config.api_key=1"}})
	err := f.Providers[0].Origin.Check("config", told(t))
	if err == nil {
		t.Fatal("no mistake was found")
	}
	want := []string{
		"/etc/dragoman/pipeline.yaml:7:7: providers.other.config.modell: there is no such key here; did you mean model?",
		"/etc/dragoman/pipeline.yaml:8:16: providers.other.config.timeout: must be a duration such as 300ms or 24h, got 5",
		"/etc/dragoman/pipeline.yaml:10:29: providers.other.config.request.max_output: must be at least 0, got -1",
		"--set providers.other.config: ",
	}
	for _, line := range want {
		if !strings.Contains(err.Error(), line) {
			t.Errorf("no %q in:\n%v", line, err)
		}
	}
	if strings.Contains(err.Error(), "sk-secret") {
		t.Errorf("a secret is repeated:\n%v", err)
	}
}

func TestAGoodConfigurationFitsASchemaThatIsKnownLater(t *testing.T) {
	f := mustLoad(t, strings.NewReplacer("modell", "model", "timeout: 5", "timeout: 5s", "[sk-secret]", "sk-secret", "-1", "1").Replace(other), Options{})
	for range 2 { // asking changes nothing
		if err := f.Providers[0].Origin.Check("config", told(t)); err != nil {
			t.Error(err)
		}
	}
	for _, v := range f.Values {
		if strings.Contains(v.Text, "sk-secret") {
			t.Errorf("%s shows %s: nobody knows yet which of these keys are secret", v.Path, v.Text)
		}
	}
}

func TestASchemaThatCannotBeUsedIsNobodysMistakeInTheFile(t *testing.T) {
	f := mustLoad(t, other, Options{})
	for name, schema := range map[string]string{
		"no JSON":       `{`,
		"no schema":     `{"properties": 3}`,
		"refers abroad": `{"properties": {"model": {"$ref": "file:///etc/passwd"}}}`,
		"too long":      `{"title": "` + strings.Repeat("x", maxSchema) + `"}`,
	} {
		err := f.Providers[0].Origin.Check("config", []byte(schema))
		if _, complaints := err.(Complaints); err == nil || complaints {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestOthersComplainWithAPlace(t *testing.T) {
	f := mustLoad(t, other, Options{File: "/etc/dragoman/pipeline.yaml"})
	o := f.Providers[0].Origin
	for path, want := range map[string]string{
		"config.request.max_output": "/etc/dragoman/pipeline.yaml:10:29: providers.other.config.request.max_output: is odd",
		"config.api_key[0]":         "/etc/dragoman/pipeline.yaml:9:17: providers.other.config.api_key[0]: is odd",
		"config.request.model":      "/etc/dragoman/pipeline.yaml:10:16: providers.other.config.request.model: is odd",
		"address":                   "/etc/dragoman/pipeline.yaml:3:3: providers.other.address: is odd",
	} {
		if got := o.Complain(path, "is odd").Error(); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	if o.Folder() != "/etc/dragoman" {
		t.Errorf("folder %q", o.Folder())
	}
}
