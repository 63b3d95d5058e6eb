package libretranslate_test

import (
	"os"
	"os/exec"
	"sync/atomic"
	"testing"

	"github.com/dragoman-mt/dragoman/core/door"
	"github.com/dragoman-mt/dragoman/core/door/doortest"
)

// libretranslatepy makes the calls of that package, version 2.1.4, as it makes them: by urllib,
// a form whatever the method is, and a key in it. The package itself is in none of the registries
// that the tests can reach.
const libretranslatepy = `
import json, os, sys, urllib.error, urllib.parse, urllib.request

def call(path, fields, key, method=None):
    if key is not None:
        fields["api_key"] = key
    request = urllib.request.Request(os.environ["BASE"] + "/" + path, data=urllib.parse.urlencode(fields).encode(), method=method)
    return json.loads(urllib.request.urlopen(request).read().decode())

for key in ("right", None, "wrong"):
    try:
        print(call("translate", {"q": "Hello & good morning, señor", "source": "en", "target": "es"}, key)["translatedText"])
        print(call("translate", {"q": "Hello\nyou", "source": "auto", "target": "zt"}, key)["translatedText"])
        print(call("detect", {"q": "The weather is very nice today, and we walk along the river."}, key)[0]["language"])
        print([l["name"] for l in call("languages", {}, key, "GET") if l["code"] == "es"])
        call("translate", {"q": "x", "source": "en", "target": "zz"}, key)
    except urllib.error.HTTPError as e:
        print(e.code, json.loads(e.read())["error"])
`

// TestLibretranslatepysCallsAreAnswered as it reads them.
func TestLibretranslatepysCallsAreAnswered(t *testing.T) {
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("python3 is not installed")
	}
	c := door.Defaults()
	c.Keys = []door.Key{{Name: "app", Key: "right"}}
	run := exec.Command("python3", "-c", libretranslatepy)
	run.Env = append(os.Environ(), "BASE="+serve(t, c, doortest.Pseudo(new(atomic.Int64))), "PYTHONIOENCODING=utf-8", "no_proxy=*")
	out, err := run.CombinedOutput()
	if want := "[es] Hello & good morning, señor\n[zh-Hant] Hello\nyou\nen\n['Spanish']\n400 zz is not supported\n" +
		"400 Please contact the server operator to get an API key\n403 Invalid API key\n"; err != nil || string(out) != want {
		t.Errorf("%v: it printed\n%s\nwant\n%s", err, out, want)
	}
}
