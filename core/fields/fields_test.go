package fields

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/dragoman-mt/dragoman/core"
)

type inner struct {
	Limit int `json:"limit"`
}

type sample struct {
	inner
	Key   core.Secret            `json:"key"`
	Wait  time.Duration          `json:"wait"`
	Size  core.Size              `json:"size"`
	List  []string               `json:"list"`
	Heads map[string]core.Secret `json:"heads"`
	Deep  inner                  `json:"deep"`
}

func full() sample {
	return sample{inner{1}, "sk", 1500 * time.Millisecond, 64 << 20, []string{"a", "b"}, map[string]core.Secret{"h": "v"}, inner{2}}
}

// TestAConfigurationSurvivesTheWayThroughJSON is what a plugin's configuration
// goes through.
func TestAConfigurationSurvivesTheWayThroughJSON(t *testing.T) {
	want := full()
	raw, err := json.Marshal(Plain(&want))
	if err != nil {
		t.Fatal(err)
	}
	var values map[string]any
	if err := json.Unmarshal(raw, &values); err != nil {
		t.Fatal(err)
	}
	var got sample
	if err := Decode(values, &got); err != nil {
		t.Fatalf("%s: %v", raw, err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s became\n%+v, want\n%+v", raw, got, want)
	}
	if !reflect.DeepEqual(want, full()) {
		t.Errorf("the configuration itself was changed: %+v", want)
	}
}

func TestWhatIsLeftOutKeepsItsDefault(t *testing.T) {
	got := full()
	if err := Decode(map[string]any{"list": []any{"z"}, "heads": map[string]any{"i": "w"}, "deep": map[string]any{}}, &got); err != nil {
		t.Fatal(err)
	}
	want := full()
	want.List, want.Heads = []string{"z"}, map[string]core.Secret{"h": "v", "i": "w"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestWhatDoesNotFitIsRefused(t *testing.T) {
	for _, values := range []map[string]any{
		{"wait": "soon"}, {"size": "much"}, {"list": "a"}, {"deep": map[string]any{"limit": "many"}}, {"unknown": 1},
	} {
		got := full()
		if err := Decode(values, &got); err == nil {
			t.Errorf("%v passes: %+v", values, got)
		}
	}
}
