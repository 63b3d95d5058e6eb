package live

import (
	"context"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/door"
)

// schemas are those of the protocol, by type of frame.
func schemas(t *testing.T) func(name string, frame []byte) error {
	t.Helper()
	raw, err := os.ReadFile("asyncapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var document map[string]any
	if err := yaml.Unmarshal(raw, &document); err != nil {
		t.Fatal(err)
	}
	plain, err := json.Marshal(document)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := jsonschema.UnmarshalJSON(strings.NewReader(string(plain)))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("asyncapi.json", parsed); err != nil {
		t.Fatal(err)
	}
	return func(name string, frame []byte) error {
		schema, err := c.Compile("asyncapi.json#/components/schemas/" + name)
		if err != nil {
			return err
		}
		value, err := jsonschema.UnmarshalJSON(strings.NewReader(string(frame)))
		if err != nil {
			return err
		}
		return schema.Validate(value)
	}
}

// The description for machines says what is sent, field by field, and takes what is taken.
func TestTheFramesAreThoseOfTheDescription(t *testing.T) {
	valid := schemas(t)
	g := serve(t, door.Defaults(), plain(), func(ctx context.Context, r *core.Request) (*core.Result, error) {
		if strings.Contains(r.Text, "fails") {
			return nil, &core.Error{Kind: core.ProviderFailed, Detail: "no"}
		}
		return shout(ctx, r)
	})
	c := g.dial()
	for _, f := range []string{
		`{"type":"start","session":"s","source":"en","targets":["es"],"acks":true,"corrections":true,"strange":1,"context":[{"source":"a","target":"b"}]}`,
		`{"type":"source","segment":"a","revision":1,"text":"so we begin it now","speaker":"A","start_ms":1,"end_ms":2,"language":"en"}`,
		`{"type":"source","segment":"a","revision":2,"text":"so we begin it now and","stable":10}`,
		`{"type":"source","segment":"a","words":[{"text":"It ","is_final":true},{"text":"is."}],"final":true}`,
		`{"type":"source","segment":"b","text":"It fails.","final":true}`,
		`{"type":"keepalive"}`, `{"type":"update","targets":["es","fr"]}`, `{"type":"finalize"}`,
	} {
		var head struct{ Type string }
		json.Unmarshal([]byte(f), &head)
		if err := valid(head.Type, []byte(f)); err != nil {
			t.Errorf("%s: %v", f, err)
		}
		c.say(f)
	}
	c.say(`{"type":"sauce"}`, `{"type":"end"}`)
	seen := map[string]int{}
	for {
		_, raw, err := c.ws.Read(t.Context())
		if err != nil {
			break
		}
		var head struct{ Type string }
		json.Unmarshal(raw, &head)
		seen[head.Type]++
		if err := valid(head.Type, raw); err != nil {
			t.Errorf("%s: %v", raw, err)
		}
	}
	for _, kind := range []string{"ready", "target", "notice", "error", "ack", "stats", "end"} {
		if seen[kind] == 0 {
			t.Errorf("no %s was seen: %v", kind, seen)
		}
	}
	if err := valid("ready", []byte(`{"type":"ready","seq":1}`)); err == nil {
		t.Error("anything is taken")
	}
}
