package config

import (
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dragoman-mt/dragoman/core"
)

var update = flag.Bool("update", false, "write the golden files anew")

func golden(t *testing.T, name, got string) {
	t.Helper()
	name = filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

// env looks variables up in pairs of name and value.
func env(pairs ...string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		for i := 0; i+1 < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1], true
			}
		}
		return "", false
	}
}

// loadText loads text as pipeline.yaml in the folder /etc/dragoman.
func loadText(t testing.TB, text string, o Options) (*File, error) {
	t.Helper()
	if o.File == "" {
		o.File = "/etc/dragoman/pipeline.yaml"
	}
	if o.LookupEnv == nil {
		o.LookupEnv = env()
	}
	return testSchema().loadBytes([]byte(text), testChecker(), o)
}

// testChecker compiles the schema once: it takes a while, and never changes.
var testChecker = sync.OnceValue(func() *checker { return testSchema().checker() })

func mustLoad(t testing.TB, text string, o Options) *File {
	t.Helper()
	f, err := loadText(t, text, o)
	if err != nil {
		t.Fatalf("loading:\n%s\n%v", text, err)
	}
	return f
}

// with adds text to the smallest file there is.
func with(text string) string {
	return "providers: {p: {type: openai}}\nstages: [provider: {use: p}]\n" + text
}

func value(f *File, path string) Value {
	for _, v := range f.Values {
		if v.Path == path {
			return v
		}
	}
	return Value{}
}

func TestAFileBecomesCheckedValues(t *testing.T) {
	folder, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	f, err := testSchema().Load(Options{
		File: "testdata/pipeline.yaml", Set: []string{"stages.queue.max_concurrent=4"},
		LookupEnv: env("OPENAI_API_KEY", "sk-secret", "OPENAI_BASE_URL", "http://127.0.0.1:9/v1"),
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []any{
		&serverConfig{Listen: "127.0.0.1:8080", Deadline: 4500 * time.Millisecond, MaxBody: 1 << 20, Keys: nil},
		&poolConfig{Mode: "pooled", WarmConnections: 6, MaxConnections: 10, IdleTimeout: 50 * time.Second},
		&openaiConfig{BaseURL: "http://127.0.0.1:9/v1", APIKey: "sk-secret", Model: "gpt-5.4-nano", Timeout: 3 * time.Second},
		&pluginConfig{Command: []string{"bin/plugins/openai-direct"}, ConfigFrom: "openai"},
		&cacheConfig{MaxSize: 32 << 20, TTL: 24 * time.Hour, Preload: []core.Path{core.Path(folder + "/examples/phrases.tsv")}},
		&ratelimitConfig{RequestsPerMinute: 4500},
		&queueConfig{MaxConcurrent: 4, MinInterval: 25 * time.Millisecond, MaxWaiting: 1000},
		&providerConfig{Use: "openai", Fallback: []string{"openai-direct"}, Retries: 1},
		&postprocessConfig{},
	}
	got := []any{f.Sections["server"], f.Sections["pool"]}
	var places []string
	for _, item := range append(f.Providers, f.Stages...) {
		got = append(got, item.Config)
		places = append(places, fmt.Sprintf("%s = %s at %d:%d", item.Path, item.Kind.Name, item.Line, item.Column))
		if !item.Enabled || item.Digest == "" {
			t.Errorf("%s: enabled %v, digest %q", item.Path, item.Enabled, item.Digest)
		}
	}
	// A secret compares as what it is, not as what it prints.
	reveal := cmp.Comparer(func(a, b core.Secret) bool { return a.Reveal() == b.Reveal() })
	if diff := cmp.Diff(want, got, reveal, cmp.FilterValues(emptyBoth, cmp.Ignore())); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{
		"providers.openai = openai at 12:3",
		"providers.openai-direct = plugin at 18:3",
		"stages[0].cache = cache at 23:5",
		"stages[1].ratelimit = ratelimit at 24:5",
		"stages[2].queue = queue at 25:5",
		"stages[3].provider = provider at 26:5",
		"stages[4].postprocess = postprocess at 27:5",
	}, places); diff != "" {
		t.Errorf("places (-want +got):\n%s", diff)
	}

	var b strings.Builder
	for _, v := range f.Values {
		fmt.Fprintf(&b, "%-38s %-32s %s\n", v.Path, strings.ReplaceAll(v.Text, folder, "FOLDER"), v.From)
	}
	golden(t, "values.golden", b.String())
}

// emptyBoth says that neither list or map has anything in it, nil or not.
func emptyBoth(a, b any) bool {
	x, y := reflect.ValueOf(a), reflect.ValueOf(b)
	for _, v := range []reflect.Value{x, y} {
		if k := v.Kind(); k != reflect.Slice && k != reflect.Map || v.Len() > 0 {
			return false
		}
	}
	return true
}

func TestEightMistakesAreEightLines(t *testing.T) {
	_, err := testSchema().Load(Options{File: "testdata/mistakes.yaml", LookupEnv: env()})
	if n := len(err.(Complaints)); n != 8 {
		t.Errorf("%d complaints, want 8", n)
	}
	golden(t, "mistakes.golden", err.Error()+"\n")
}

func TestSchemaForEditors(t *testing.T) {
	first, err := testSchema().JSONSchema()
	if err != nil {
		t.Fatal(err)
	}
	second, err := testSchema().JSONSchema()
	if err != nil {
		t.Fatal(err)
	}
	if string(first) != string(second) {
		t.Error("two runs differ")
	}
	golden(t, "pipeline.schema.json", string(first))
}

func TestASchemaWithABrokenTagIsADefectAndNoComplaint(t *testing.T) {
	s := testSchema()
	s.Sections = append(s.Sections, Section{Name: "log", Config: func() any {
		return &struct {
			Every time.Duration `json:"every" jsonschema_extras:"minDuration=soon"`
		}{}
	}})
	_, told := s.JSONSchema()
	_, met := s.Load(Options{File: "testdata/pipeline.yaml", LookupEnv: env(), Set: []string{"log.every=1s"}})
	for _, err := range []error{told, met} {
		if _, is := errors.AsType[Complaints](err); err == nil || is || !strings.Contains(err.Error(), "the schema is broken") {
			t.Errorf("got %v", err)
		}
	}
}

func TestUnreadableFilesSayWhatToDo(t *testing.T) {
	folder := t.TempDir()
	for name, want := range map[string]string{
		filepath.Join(folder, "no.yaml"): "there is no such file; name a file with --config FILE",
		folder:                           "this is a folder; name a file with --config FILE",
	} {
		_, err := testSchema().Load(Options{File: name})
		if got := fmt.Sprint(err); got != name+": "+want {
			t.Errorf("got %q", got)
		}
	}
}

// oddConfig has the bounds that testSchema has not.
type oddConfig struct {
	Share   float64       `json:"share" jsonschema:"exclusiveMinimum=0,exclusiveMaximum=1"`
	Rate    float64       `json:"rate" jsonschema:"minimum=0.5,maximum=2.5"`
	Step    int8          `json:"step" jsonschema:"multipleOf=5"`
	Code    string        `json:"code" jsonschema:"pattern=^[A-Z]+$"`
	Word    string        `json:"word" jsonschema:"minLength=3,maxLength=5"`
	Some    []string      `json:"some" jsonschema:"minItems=1,maxItems=2"`
	Waits   []pause       `json:"waits" jsonschema:"minItems=2"`
	Address netip.Addr    `json:"address"`
	At      oddTime       `json:"at"`
	Pause   *pause        `json:"pause"`
	Ignored string        `json:"-"`
	Waiting time.Duration `json:"waiting" jsonschema_extras:"maxDuration=1h"`
}

type pause struct {
	For time.Duration `json:"for" jsonschema_extras:"minDuration=1s"`
}

// oddTime reads its own text.
type oddTime struct{ hour int }

func (o *oddTime) UnmarshalText(text []byte) error {
	_, err := fmt.Sscanf(string(text), "%d o'clock", &o.hour)
	if err != nil {
		return errors.New("write 7 o'clock")
	}
	return nil
}

func (o oddTime) MarshalText() ([]byte, error) { return fmt.Appendf(nil, "%d o'clock", o.hour), nil }

func oddSchema() Schema {
	s := testSchema()
	s.Sections = append(s.Sections, Section{Name: "odd", Config: func() any {
		return &oddConfig{Share: 0.5, Rate: 1, Code: "A", Word: "abc", Some: []string{"x"}, At: oddTime{7}, Waits: []pause{{1}, {2}}}
	}})
	return s
}

func TestEveryBoundHasItsWords(t *testing.T) {
	checker := oddSchema().checker()
	for in, want := range map[string]string{
		"share: 0":                     "1:14: odd.share: must be more than 0, got 0",
		"share: 1.0":                   "1:14: odd.share: must be less than 1, got 1.0",
		"rate: 0.1":                    "1:13: odd.rate: must be at least 0.5, got 0.1",
		"rate: 3":                      "1:13: odd.rate: must be at most 2.5, got 3",
		"step: 7":                      "1:13: odd.step: must be a multiple of 5, got 7",
		"step: 130":                    "1:13: odd.step: must be at most 127, got 130",
		"step: -130":                   "1:13: odd.step: must be at least -128, got -130",
		"code: a":                      "1:13: odd.code: must match ^[A-Z]+$, got \"a\"",
		"word: ab":                     "1:13: odd.word: must have at least 3 characters, has 2",
		"word: abcdef":                 "1:13: odd.word: must have at most 5 characters, has 6",
		"some: []":                     "1:13: odd.some: must not be empty",
		"some: [a, b, c]":              "1:13: odd.some: must have at most 2 items, has 3",
		"waits: [{for: 1s}]":           "1:14: odd.waits: must have at least 2 items, has 1",
		"waits: [{for: 1s},{for: 0s}]": "1:31: odd.waits[1].for: must be at least 1s, got \"0s\"",
		"waits: [{for: 1s},{fro: 2s}]": "1:26: odd.waits[1].fro: there is no such key here; known are for",
		"pause: {for: 0s}":             "1:20: odd.pause.for: must be at least 1s, got \"0s\"",
		"waiting: 2h":                  "1:16: odd.waiting: must be at most 1h, got \"2h\"",
		"at: noon":                     "1:11: odd.at: cannot be read: write 7 o'clock",
		"ignored: x":                   "1:7: odd.ignored: there is no such key here; known are share, rate, step, code, word, some, waits, address, at, pause, waiting",
	} {
		text := "odd: {" + in + "}\nproviders: {p: {type: openai}}\nstages: [provider: {use: p}]\n"
		_, err := oddSchema().loadBytes([]byte(text), checker, Options{File: "p", LookupEnv: env()})
		if got := fmt.Sprint(err); got != "p:"+want {
			t.Errorf("%s\n got %s\nwant p:%s", in, got, want)
		}
	}
	text := "odd: {address: 127.0.0.1, at: 9 o'clock, pause: {for: 2s}, waits: [{for: 3s}, {for: 4s}]}\nproviders: {p: {type: openai}}\nstages: [provider: {use: p}]\n"
	f, err := oddSchema().loadBytes([]byte(text), checker, Options{File: "p", LookupEnv: env()})
	if err != nil {
		t.Fatal(err)
	}
	plain, err := oddSchema().loadBytes([]byte(with("")), checker, Options{File: "p", LookupEnv: env()})
	if err != nil {
		t.Fatal(err)
	}
	if v := value(plain, "odd.at"); v.Text != "7 o'clock" {
		t.Errorf("the default: got %q", v.Text)
	}
	want := map[string]string{
		"odd.address": "127.0.0.1", "odd.at": "9 o'clock", "odd.pause.for": "2s",
		"odd.waits": "[{for: 3s}, {for: 4s}]", "odd.some": "[x]", "odd.share": "0.5", "odd.waiting": "0s",
	}
	for path, text := range want {
		if v := value(f, path); v.Text != text {
			t.Errorf("%s: got %q, want %q", path, v.Text, text)
		}
	}
}

func TestComplaints(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		// What is no configuration at all.
		{"empty", "", "1:1: the file is empty; it needs at least `providers:` and `stages:`"},
		{"comments only", "# nothing\n", "1:1: the file is empty; it needs at least `providers:` and `stages:`"},
		{"null", "---\n", "1:1: the file is empty; it needs at least `providers:` and `stages:`"},
		{"list", "- cache\n", "1:1: a configuration is a mapping (`version: 1`, `stages: ...`), got a list"},
		{"NUL", "a: b\nc: \x00", "2:4: there is a NUL byte here; the file must be text in UTF-8"},
		{"not UTF-8", "a: ä\xff", "1:5: this is not valid UTF-8; save the file in UTF-8"},
		{"too large", strings.Repeat("#", MaxFile+1), "1:1: the file is larger than 1024 KiB"},
		{"tab", "server:\n\tlisten: x\n", "2:1: a tab; YAML is indented with blanks"},
		{"syntax", "server: {listen: x\nstages: []\n", "2:1: not valid YAML from about here: did not find expected ',' or '}'"},
		{"two documents", with("---\nversion: 1\n"), "3:1: a second document starts here; a file is one document, without ---"},
		{"syntax below", with("server:\n  listen: [a\n  admin: b\n"), "4:1: not valid YAML from about here: did not find expected ',' or ']'"},
		{"scanner", with("server:\n  listen: a: b\n"), "4:1: not valid YAML from about here: mapping values are not allowed in this context"},
		{"own alias", with("server: &a\n  keys: [*a]\n"), "4:10: server.keys[0]: the alias *a stands inside what it repeats"},
		{"unknown alias", with("server: *a\n"), "3:9: there is no anchor of this name above this alias; quote text that begins with *"},
		{"deep", with("server: {keys: " + strings.Repeat("[", 40) + strings.Repeat("]", 40) + "}"), "3:17: server.keys[0]: must be text or a mapping of keys to values, got a list\n3:47: server.keys" + strings.Repeat("[0]", 31) + ": more than 32 levels deep"},
		{"tag", with("server: !secret {}\npool: {mode: !!binary aaaa}\n"), "3:9: server: a tag, a word that begins with !, means nothing here; quote text that begins with !\n4:14: pool.mode: a tag, a word that begins with !, means nothing here; quote text that begins with !"},
		{"key", with("server: {[a]: b}\n"), "3:10: server: a key must be a word"},
		{"numbers", with("pool: {warm_connections: .inf, max_connections: 99999999999999999999}\nserver: {keys: [18446744073709551615]}"),
			"3:26: pool.warm_connections: this is not a finite number\n3:49: pool.max_connections: the number is too large\n4:17: server.keys[0]: the number is too large"},

		// Keys.
		{"unknown at the top", with("sever: {}\nother: 1\n"), "3:1: sever: there is no such key here; did you mean server?\n4:1: other: there is no such key here; known are version, providers, stages, server, pool; a key of your own, such as one that holds anchors, begins with x-"},
		{"unknown below", with("pool:\n  mod: direct\n  warm: 3\n  size: 3\n"),
			"4:3: pool.mod: there is no such key here; did you mean mode?\n5:3: pool.warm: there is no such key here; did you mean warm_connections?\n6:3: pool.size: there is no such key here; known are mode, warm_connections, max_connections, idle_timeout, ca_file, proxy"},
		{"twice", with("pool: {mode: direct}\nserver: {}\npool: {mode: pooled}\n"), "5:1: pool: the key stands here twice, first in line 3"},
		{"nested", "providers: {p: {type: openai, request: {temperatur: 1}}}\nstages: [provider: {use: p}]\n", "1:41: providers.p.request.temperatur: there is no such key here; did you mean temperature?"},

		// Values.
		{"version", with("version: 2\n"), "3:10: version: must be 1, the only version there is, got 2"},
		{"section", with("pool: direct\n"), `3:7: pool: must be a mapping of keys to values, got "direct"`},
		{"types", with("pool:\n  mode: 3\n  warm_connections: '6'\n  max_connections: 2.5\n  idle_timeout: 50\n  proxy: true\n  ca_file:\n"),
			"4:9: pool.mode: must be text, got 3; put it in quotes\n" +
				"5:21: pool.warm_connections: must be a whole number, got \"6\"\n" +
				"6:20: pool.max_connections: must be a whole number, got 2.5\n" +
				"7:17: pool.idle_timeout: must be a duration such as 300ms or 24h, got 50\n" +
				"8:10: pool.proxy: must be text, got true; put it in quotes\n" +
				"9:3: pool.ca_file: must be text, got nothing"},
		{"enum", with("pool: {mode: Direct}\n"), `3:14: pool.mode: must be one of pooled, direct, got "Direct"; did you mean direct?`},
		{"bounds", with("pool: {warm_connections: -1, max_connections: 65}\nserver: {deadline: 1ns, max_body: 2GiB, listen: ''}\n"),
			"3:26: pool.warm_connections: must be at least 0, got -1\n3:47: pool.max_connections: must be at most 64, got 65\n" +
				"4:20: server.deadline: must be at least 1ms, got \"1ns\"\n4:35: server.max_body: must be at most 1GiB, got \"2GiB\"\n4:49: server.listen: must not be empty"},
		{"size", with("server: {max_body: -5}\n"), "3:20: server.max_body: must be at least 0, got -5"},
		{"overflow", "providers: {p: {type: openai}}\nstages: [queue: {max_waiting: 70000}, provider: {use: p, retries: 1e30}]\n",
			"2:31: stages[0].queue.max_waiting: must be at most 65535, got 70000\n2:67: stages[1].provider.retries: the number is too large"},
		{"duration", with("pool: {idle_timeout: 9999999999h}\n"), `3:22: pool.idle_timeout: must be a duration such as 300ms or 24h, got "9999999999h"`},
		{"list", "providers: {p: {type: openai}}\nstages: [provider: {use: p}, postprocess: {skip: [echo, sript, echo]}, postprocess: {skip: echo}]\n",
			"2:50: stages[1].postprocess.skip: the items 0 and 2 are the same\n" +
				"2:57: stages[1].postprocess.skip[1]: must be one of echo, script, got \"sript\"; did you mean script?\n" +
				"2:72: stages[2].postprocess: the stage in line 2 is called \"postprocess\" already; give this one a `name:` of its own\n" +
				"2:92: stages[2].postprocess.skip: must be a list, got \"echo\"; write one as [ITEM], two as [ITEM, ITEM]"},
		{"secret", "providers: {p: {type: openai, api_key: " + strings.Repeat("s", 201) + "}}\nstages: [provider: {use: p}]\n", "1:40: providers.p.api_key: must have at most 200 characters, has 201"},
		{"secret number", "providers: {p: {type: openai, api_key: 12345}}\nstages: [provider: {use: p}]\n", "1:40: providers.p.api_key: must be text; put it in quotes"},
		{"password", with("pool: {mode: 'http://me:pass@proxy'}\n"), `3:14: pool.mode: must be one of pooled, direct, got "http://[redacted]@proxy"`},
		{"one mistake under two names", with("x: &x {mode: no}\npool: *x\n"),
			"3:1: x: there is no such key here; known are version, providers, stages, server, pool; a key of your own, such as one that holds anchors, begins with x-\n3:14: pool.mode: must be one of pooled, direct, got \"no\""},

		// Providers.
		{"no mapping", "providers: [openai]\nstages: [provider: {use: p}]\n", "1:12: providers: must be a mapping of names to providers, got a list"},
		{"no type", "providers: {p: {}}\nstages: [provider: {use: p}]\n", "1:13: providers.p: has no `type:`; known are openai, plugin"},
		{"wrong type", "providers: {p: {type: opnai}}\nstages: [provider: {use: p}]\n", `1:23: providers.p.type: must be one of openai, plugin, got "opnai"; did you mean openai?`},
		{"stage as provider", "providers: {p: {type: cache}}\nstages: [provider: {use: p}]\n", "1:23: providers.p.type: cache is a stage; it stands in `stages:`"},
		{"scalar as provider", "providers: {p: openai}\nstages: [provider: {use: p}]\n", "1:16: providers.p: must be a mapping with a `type:`, got text"},
		{"name", "providers: {P.1: {type: openai}}\nstages: [provider: {use: P.1}]\n", "1:13: providers.P.1: a name is 1 to 64 of a-z, 0-9, - and _"},

		// Stages.
		{"no stages", "version: 1\n", "1:1: stages: the chain has no end; add the stage that calls a provider: `- provider: {...}`"},
		{"no caller", "stages:\n  - cache\n", "1:1: stages: the chain has no end; add the stage that calls a provider: `- provider: {...}`"},
		{"disabled caller", "providers: {p: {type: openai}}\nstages:\n  - provider: {use: p}\n    enabled: false\n", "2:1: stages: the chain has no end; add the stage that calls a provider: `- provider: {...}`"},
		{"mapping", "stages: {cache: {}}\n", "1:9: stages: must be a list, one `- stage` a line, got a mapping"},
		{"unknown", with("")[:31] + "stages:\n  - cash\n  - queu: {}\n  - provider: {use: p}\n", "3:5: stages[0].cash: there is no stage of this kind; did you mean cache?\n4:5: stages[1].queu: there is no stage of this kind; did you mean queue?"},
		{"unknown, and a reference", "stages:\n  - cash\n  - provider: {use: p}\n", "2:5: stages[0].cash: there is no stage of this kind; did you mean cache?\n3:21: stages[1].provider.use: there is no provider \"p\""},
		{"provider as stage", with("")[:31] + "stages:\n  - openai: {}\n  - p\n", "3:5: stages[0].openai: openai is a type of provider; it stands in `providers:`, and the stage `provider` calls it\n4:5: stages[1].p: p is one of `providers:`; the stage `provider` calls it"},
		{"no stage", with("")[:31] + "stages:\n  - 3\n  -\n  - []\n  - {name: x}\n",
			"3:5: stages[0]: must be a stage, such as `- postprocess` or `- cache: {...}`, got 3\n4:4: stages[1]: must be a stage, such as `- postprocess` or `- cache: {...}`, got nothing\n" +
				"5:5: stages[2]: must be a stage, such as `- postprocess` or `- cache: {...}`, got a list\n6:5: stages[3]: names no stage; known are cache, ratelimit, queue, provider, postprocess"},
		{"badly indented", with("")[:31] + "stages:\n  - queue:\n    max_concurrent: 4\n  - provider: {use: p}\n", "4:5: stages[0].max_concurrent: is a key of queue; indent it to stand below"},
		{"two in one", with("")[:31] + "stages:\n  - cache: {}\n    queue: {}\n  - provider: {use: p}\n", "4:5: stages[0].queue: an item is one stage, and this is its second; begin a new one with `- `"},
		{"name and enabled", with("")[:31] + "stages:\n  - cache: {}\n    name: A\n    enabled: 1\n    nam: x\n  - provider: {use: p}\n",
			"4:11: stages[0].name: a name is 1 to 64 of a-z, 0-9, - and _\n5:14: stages[0].enabled: must be true or false, got 1\n6:5: stages[0].nam: there is no such key here; did you mean name?"},
		{"lacks a key", with("")[:31] + "stages:\n  - provider\n", "3:5: stages[0].provider: lacks the key use"},
		{"lacks a key below", with("")[:31] + "stages:\n  - provider: {retries: 1}\n", "3:15: stages[0].provider: lacks the key use"},
		{"two callers", with("")[:31] + "stages:\n  - provider: {use: p}\n  - provider: {use: p}\n    name: again\n", "4:5: stages[1].provider: a chain ends once, and the stage \"provider\" in line 3 ends it already"},
		{"order", with("")[:31] + "stages:\n  - provider: {use: p}\n  - cache\n  - queue\n  - postprocess\n",
			"4:5: stages[1].cache: answers without going on, so it must stand before the stage \"provider\", above line 3\n" +
				"5:5: stages[2].queue: guards every attempt of the stage \"provider\", so it must stand before it, above line 3"},
		{"references", "providers:\n  openai: {type: openai}\n  direct: {type: plugin, config_from: opena}\nstages:\n  - provider: {use: diret, fallback: [openai, x]}\n",
			"3:39: providers.direct.config_from: there is no provider \"opena\"; did you mean openai?\n" +
				"5:21: stages[0].provider.use: there is no provider \"diret\"; did you mean direct?\n" +
				"5:47: stages[0].provider.fallback[1]: there is no provider \"x\"; known are openai, direct"},

		{"wrong in two ways", "providers: {p: {type: openai}}\nstages: [provider: {use: ''}]\n", "2:26: stages[0].provider.use: must not be empty"},

		// References to variables.
		{"missing", "providers: {p: {type: openai, api_key: \"${KEY}\", model: \"${A}${B}\"}}\nstages: [provider: {use: p}]\n",
			"1:40: providers.p.api_key: the variable KEY is not set; set it, or give a default: ${KEY:-...}\n1:57: providers.p.model: the variables A, B are not set; set them, or give defaults"},
		{"unterminated", with("server: {listen: '${HOST'}\n"), "3:18: server.listen: a reference ${ has no }; write $${ for the two characters themselves"},
		{"malformed", with("server: {listen: '${}', admin: '${A-b}', keys: ['${1}', '${A:-${B}}']}\n"),
			"3:18: server.listen: a reference is ${NAME}, ${NAME:-default} or ${file:PATH}; write $${ for the two characters themselves\n" +
				"3:32: server.admin: a reference is ${NAME}, ${NAME:-default} or ${file:PATH}; write $${ for the two characters themselves\n" +
				"3:49: server.keys[0]: a reference is ${NAME}, ${NAME:-default} or ${file:PATH}; write $${ for the two characters themselves\n" +
				"3:57: server.keys[1]: the default of ${A} holds another reference; references do not nest"},
		{"unquoted within braces", with("pool: {mode: ${WORD}}\n"), "3:1: not valid YAML from about here: did not find expected ',' or '}'; within { } or [ ], quote a reference: \"${NAME}\""},
		{"binary variable", with("server: {listen: '${BIN}'}\n"), "3:18: server.listen: the variable BIN is not text in UTF-8"},
		{"typed after expansion", with("pool:\n  warm_connections: ${WORD}\n  max_connections: ${NONE:-}\n"),
			"4:21: pool.warm_connections: must be a whole number, got \"many\"\n5:20: pool.max_connections: must be a whole number, got nothing"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f, err := loadText(t, tt.text, Options{File: "p.yaml", LookupEnv: env("WORD", "many", "BIN", "\xff")})
			if f != nil || err == nil {
				t.Fatal("no complaint")
			}
			want := "p.yaml:" + strings.ReplaceAll(tt.want, "\n", "\np.yaml:")
			if diff := cmp.Diff(want, err.Error()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestASectionIsFoundByWhatItWasDeclaredAs(t *testing.T) {
	type size struct {
		Rows int `json:"rows"`
	}
	declared := NewSection("table", "", func() size { return size{Rows: 3} })
	for name, c := range map[string]struct {
		file *File
		want int
	}{
		"said":                 {&File{Sections: map[string]any{"table": &size{Rows: 5}}}, 5},
		"loaded without it":    {&File{}, 3},
		"of somebody else":     {&File{Sections: map[string]any{"table": "5"}}, 3},
		"of no value whatever": {&File{Sections: map[string]any{"table": nil}}, 3},
	} {
		if got := declared.Of(c.file).Rows; got != c.want {
			t.Errorf("%s: %d rows, want %d", name, got, c.want)
		}
	}
}

// BenchmarkLoad loads a file that is right, which is a part of every start.
func BenchmarkLoad(b *testing.B) {
	text, err := os.ReadFile("testdata/pipeline.yaml")
	if err != nil {
		b.Fatal(err)
	}
	o := Options{File: "/etc/p.yaml", LookupEnv: env("OPENAI_API_KEY", "x"), Content: text}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := testSchema().Load(o); err != nil {
			b.Fatal(err)
		}
	}
}
