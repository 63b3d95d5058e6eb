package gateway

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dragoman-mt/dragoman/core/config"
	"github.com/dragoman-mt/dragoman/plugins/host"
)

// initialise runs `dragoman init` in this process.
func initialise(t *testing.T, stdin string, args ...string) (file, out string, err error) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "pipeline.yaml")
	var b bytes.Buffer
	root := program{}.root()
	root.SetArgs(append([]string{"init", "--config", file}, args...))
	root.SetIn(strings.NewReader(stdin))
	root.SetOut(&b)
	root.SetErr(&b)
	err = root.ExecuteContext(t.Context())
	return file, b.String(), err
}

func TestWhateverInitIsAnsweredItsFileCanBeServed(t *testing.T) {
	t.Setenv("DRAGOMAN_KEY", "a-key-of-clients")
	cases := [][3]string{}
	for _, upstream := range append(upstreamNames(), "https://api.example.com/v1 some-model", "http://127.0.0.1:11434/v1 qwen3:4b") {
		cases = append(cases, [3]string{upstream, "", ""}, [3]string{upstream, "MY_KEY", "network"})
	}
	for _, listen := range []string{"machine", "127.0.0.1:1234", "[::1]:1234", "[::]:80", ":80", "localhost:8080", "0.0.0.0:9"} {
		cases = append(cases, [3]string{"", "none", listen})
	}
	for _, c := range cases {
		file, out, err := initialise(t, strings.Join(c[:], "\n")+"\n")
		if err != nil {
			t.Errorf("%q: %v", c, err)
			continue
		}
		loaded, err := program{}.load(config.Options{File: file, Offline: true}, host.New())
		if err == nil {
			err = serverSection.Of(loaded.File).Check()
		}
		if err != nil {
			t.Errorf("%q: %v", c, err)
		}
		if !strings.Contains(out, file+" is written") || (c[1] == "MY_KEY") != strings.Contains(out, "into the variable MY_KEY") {
			t.Errorf("%q: %s", c, out)
		}
	}
}

func TestInitAsksNothingThatAFlagAnswersAndTakesTheDefaultWhereNobodyAnswers(t *testing.T) {
	file, out, err := initialise(t, "", "--upstream", "deepl", "--key", "DEEPL", "--listen", "network")
	raw, _ := os.ReadFile(file)
	if err != nil || strings.Contains(out, "?") || !strings.Contains(string(raw), "type: deepl") || !strings.Contains(string(raw), "${DEEPL:-}") || !strings.Contains(string(raw), `"${HOST:-0.0.0.0}:${PORT:-8080}"`) {
		t.Errorf("%v %s\n%s", err, out, raw)
	}
	file, out, err = initialise(t, "")
	raw, _ = os.ReadFile(file)
	if err != nil || strings.Count(out, "?") != 1 || !strings.Contains(string(raw), "${OPENAI_API_KEY:-}") || !strings.Contains(string(raw), "127.0.0.1") {
		t.Errorf("%v %s\n%s", err, out, raw)
	}
}

func TestInitRefusesWhatCannotBeAndWritesNothing(t *testing.T) {
	const secret = "sk-proj-1234"
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"no service":              {[]string{"--upstream", "babelfish"}, "none of openai, deepl, google, azure, libretranslate, and no URL"},
		"a scheme that is none":   {[]string{"--upstream", "ftp://example.com", "--model", "m"}, "no URL such as"},
		"a password in the URL":   {[]string{"--upstream", "https://me:" + secret + "@example.com/v1", "--model", "m"}, "does not belong into a file"},
		"a server without models": {[]string{"--upstream", "https://example.com/v1"}, "needs the name of a model"},
		"a model of none":         {[]string{"--upstream", "deepl", "--model", "m"}, "deepl has no models to choose"},
		"the key itself":          {[]string{"--key", secret}, "is no name of a variable"},
		"no address":              {[]string{"--listen", "everywhere"}, `"everywhere" is neither machine nor network`},
		"no port":                 {[]string{"--listen", "127.0.0.1:x"}, "nor an address and a port such as"},
	} {
		file, out, err := initialise(t, "", c.args...)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error()+out, secret) {
			t.Errorf("%s: %v %s, want %s", name, err, out, c.want)
		}
		if _, err := os.Lstat(file); err == nil {
			t.Errorf("%s: a file is written", name)
		}
	}
	dir := t.TempDir()
	mine := filepath.Join(dir, "mine.yaml")
	if err := os.WriteFile(mine, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	dangling := filepath.Join(dir, "dangling.yaml")
	if err := os.Symlink(filepath.Join(dir, "elsewhere"), dangling); err != nil {
		t.Fatal(err)
	}
	for _, there := range []string{mine, dangling, dir} {
		if _, _, err := initialise(t, "", "--config", there); err == nil || !strings.Contains(err.Error(), "exists and is left as it is") {
			t.Errorf("%s: %v", there, err)
		}
	}
	if raw, _ := os.ReadFile(mine); string(raw) != "mine" {
		t.Errorf("it was overwritten: %s", raw)
	}
}
