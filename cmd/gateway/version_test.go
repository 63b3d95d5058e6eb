package gateway

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"github.com/dragoman-mt/dragoman/plugins/wire"
)

func TestVersionTellsWhatItWasBuiltFrom(t *testing.T) {
	say := func(args ...string) string {
		var out bytes.Buffer
		root := program{}.root()
		root.SetArgs(append([]string{"version"}, args...))
		root.SetOut(&out)
		if err := root.Execute(); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	var got built
	if err := json.Unmarshal([]byte(say("--json")), &got); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, builtFrom()) || got.Version == "" || got.Go != runtime.Version() || got.OS != runtime.GOOS || got.Arch != runtime.GOARCH || got.PluginProtocol != wire.Protocol {
		t.Errorf("%+v", got)
	}
	text := say()
	for _, want := range []string{"dragoman " + got.Version, runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH, fmt.Sprintf("plugin protocol %d", wire.Protocol)} {
		if !strings.Contains(text, want) {
			t.Errorf("%q does not say %q", text, want)
		}
	}
}
