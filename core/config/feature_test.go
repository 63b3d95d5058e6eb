package config

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dragoman-mt/dragoman/core"
)

func TestReferencesAreExpandedOnce(t *testing.T) {
	lookup := env("A", "one", "B", "${A} $$ $A", "EMPTY", "", "YAML", "x: [y, *z]", "N", "7")
	for _, tt := range []struct {
		name, in string
		want     any
	}{
		{"one", `"${A}"`, "one"},
		{"among text", `<${A}|${A}>`, "<one|one>"},
		{"what a variable holds stays", `"${B}"`, "${A} $$ $A"},
		{"default of a missing one", `"${NO:-else}"`, "else"},
		{"default of an empty one", `"${EMPTY:-else}"`, "else"},
		{"empty default", `"a${NO:-}"`, "a"},
		{"an empty variable is set", `"a${EMPTY}"`, "a"},
		{"default with a colon", `${NO:-http://h:1/}`, "http://h:1/"},
		{"dollar", `"$$"`, "$"},
		{"dollar before a brace", `$${A}`, "${A}"},
		{"dollar in a default", `"${NO:-$$5}"`, "$5"},
		{"lone dollars", `"$ $A 5$"`, "$ $A 5$"},
		{"block", "|-\n    a${A}", "aone"},
		{"what a variable holds is no YAML", `${YAML}`, "x: [y, *z]"},
		{"text from a number", `${N}`, "7"},
		{"quoted text from a number", `"${N}"`, "7"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := mustLoad(t, with("pool:\n  proxy: "+tt.in), Options{LookupEnv: lookup})
			if got := f.Sections["pool"].(*poolConfig).Proxy; got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestAPlainReferenceIsTypedAndOneAmongQuotedTextIsText(t *testing.T) {
	lookup := env("N", "7", "NO", "no")
	f := mustLoad(t, with("pool:\n  warm_connections: ${N}\n  max_connections: 1${N}\n"), Options{LookupEnv: lookup})
	if p := f.Sections["pool"].(*poolConfig); p.WarmConnections != 7 || p.MaxConnections != 17 {
		t.Errorf("got %+v", p)
	}
	_, err := loadText(t, with("pool: {warm_connections: \"${N}0\"}\n"), Options{File: "p", LookupEnv: lookup})
	if got, want := fmt.Sprint(err), `p:3:26: pool.warm_connections: must be a whole number, got "70"`; got != want {
		t.Errorf("got %q", got)
	}
}

func TestKeysAreNotExpanded(t *testing.T) {
	_, err := loadText(t, with("\"${A}\": 1\n"), Options{File: "p", LookupEnv: env("A", "pool")})
	if got, want := fmt.Sprint(err), "p:3:1: ${A}: there is no such key here; known are version, providers, stages, server, pool; a key of your own, such as one that holds anchors, begins with x-"; got != want {
		t.Errorf("got %q", got)
	}
}

func TestOfflineNeedsNoVariables(t *testing.T) {
	text := `
pool:
  warm_connections: ${WARM}
  mode: ${MODE}
providers:
  openai: {type: openai, api_key: "${KEY}", base_url: "https://${HOST}/v1", headers: {X-A: "${A}", X-B: b}}
stages:
  - cache: {preload: ["${FILE}", b.tsv]}
  - provider: {use: "${USE}", fallback: [openai]}
`
	if _, err := loadText(t, text, Options{}); len(err.(Complaints)) != 7 {
		t.Errorf("online:\n%v", err)
	}
	f := mustLoad(t, text, Options{Offline: true})
	if p := f.Sections["pool"].(*poolConfig); p.WarmConnections != 6 || p.Mode != "pooled" {
		t.Errorf("got %+v", p)
	}
	if c := f.Providers[0].Config.(*openaiConfig); c.BaseURL != "https://api.openai.com/v1" || !cmp.Equal(c.Headers, map[string]string{"X-B": "b"}) {
		t.Errorf("got %+v", c)
	}
	if c := f.Stages[0].Config.(*cacheConfig); !cmp.Equal(c.Preload, []core.Path{"/etc/dragoman/b.tsv"}) {
		t.Errorf("got %+v", c)
	}
	if got := value(f, "pool.warm_connections"); got.Text != "6" || got.From != "pipeline.yaml:3 via WARM (not set: the default)" {
		t.Errorf("got %+v", got)
	}

	_, err := loadText(t, with("pool: {warm_connections: '${W}', mode: no}\n"), Options{File: "p", Offline: true})
	if got, want := fmt.Sprint(err), `p:3:40: pool.mode: must be one of pooled, direct, got "no"`; got != want {
		t.Errorf("what is known is checked: got %q", got)
	}
	_, err = loadText(t, "providers: {p: {type: '${T}'}}\nstages: [provider: {use: p}]\n", Options{File: "p", Offline: true})
	if got, want := fmt.Sprint(err), "p:1:23: providers.p.type: comes from a variable that is not set, so nothing here can be checked; give it a default"; got != want {
		t.Errorf("got %q", got)
	}
}

func TestAnchorsAndMergeKeys(t *testing.T) {
	f := mustLoad(t, `
providers:
  a: &base {type: openai, model: m-a, timeout: &t 2s, headers: {X: a}}
  b:
    <<: *base
    model: m-b
  c: {<<: [{model: m-c, timeout: 1s}, *base]}
pool: {idle_timeout: *t}
stages:
  - provider: {use: a}
`, Options{})
	var got []string
	for _, p := range f.Providers {
		c := p.Config.(*openaiConfig)
		got = append(got, fmt.Sprint(p.Name, c.Model, c.Timeout, c.Headers))
	}
	want := []string{"a m-a 2s map[X:a]", "b m-b 2s map[X:a]", "c m-c 1s map[X:a]"}
	for i := range want {
		if strings.ReplaceAll(got[i], " ", "") != strings.ReplaceAll(want[i], " ", "") {
			t.Errorf("got %q, want %q", got[i], want[i])
		}
	}
	if d := f.Sections["pool"].(*poolConfig).IdleTimeout; d != 2*time.Second {
		t.Errorf("got %v", d)
	}
	if v := value(f, "providers.b.timeout"); v.From != "pipeline.yaml:3" {
		t.Errorf("a merged value is from where it was written: got %q", v.From)
	}

	_, err := loadText(t, with("pool: {<<: 3}\n"), Options{File: "p"})
	if got, want := fmt.Sprint(err), "p:3:12: pool: << merges mappings, and this is a number"; got != want {
		t.Errorf("got %q", got)
	}
}

func TestABillionLaughsAreRefused(t *testing.T) {
	var b strings.Builder
	b.WriteString("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n")
	for i := 1; i < 10; i++ {
		fmt.Fprintf(&b, "a%d: &a%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d, ", i-1), 10), ", "))
	}
	start := time.Now()
	_, err := loadText(t, b.String(), Options{File: "p"})
	if c, ok := err.(Complaints); !ok || len(c) != 1 || !strings.Contains(c[0].Message, "more than 10000 values once its aliases are followed") {
		t.Errorf("got %v", err)
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("took %v", took)
	}

	_, err = loadText(t, "a: &a ${BIG}\nb: ["+strings.Repeat("*a, ", 100)+"*a]\n", Options{File: "p", LookupEnv: env("BIG", strings.Repeat("x", 100_000))})
	if c, ok := err.(Complaints); !ok || len(c) != 1 || !strings.Contains(c[0].Message, "more than 4 MiB of text") {
		t.Errorf("got %v", err)
	}
}

func TestSetLiesOverTheFile(t *testing.T) {
	text := `
pool: {mode: pooled, warm_connections: 3}
providers:
  openai: {type: openai, model: m, headers: {X-A: a}}
  other: {type: openai}
stages:
  - cache
  - queue: {max_concurrent: 6}
    name: q-1
  - provider: {use: openai, fallback: [other]}
`
	for _, tt := range []struct{ set, path, want string }{
		{"pool.mode=direct", "pool.mode", "direct"},
		{"pool={mode: direct, max_connections: 7}", "pool.max_connections", "7"},
		{"pool={mode: direct}", "pool.warm_connections", "3"},
		{"server.deadline=2s", "server.deadline", "2s"},
		{"server.max_body=4096", "server.max_body", "4KiB"},
		{"server.keys=[a, b]", "server.keys", "[[redacted], [redacted]]"},
		{"stages.q-1.max_concurrent=4", "stages.q-1.max_concurrent", "4"},
		{"stages.cache.enabled=false", "stages.cache.enabled", "false"},
		{"providers.openai.model=gpt-5.4", "providers.openai.model", "gpt-5.4"},
		{"providers.openai.model=4", "providers.openai.model", "4"},
		{"providers.openai.model=a: #b", "providers.openai.model", "a: #b"},
		{"providers.openai.model=a=b", "providers.openai.model", "a=b"},
		{"providers.openai.model=\"5\"", "providers.openai.model", "5"},
		{"providers.openai.model=${HOME}", "providers.openai.model", "${HOME}"},
		{"providers.openai.api_key=", "providers.openai.api_key", `""`},
		{"providers.openai.request.temperature=0.5", "providers.openai.request.temperature", "0.5"},
		{"providers.openai.request={max_output: 9}", "providers.openai.request.max_output", "9"},
		{"providers.openai.headers.X-A=b", "providers.openai.headers.X-A", "b"},
		{"providers.openai.headers.X.Y=1", "providers.openai.headers.X.Y", "1"},
		{"providers.openai.headers={Z: 1}", "providers.openai.headers.Z", "1"},
		{"providers.other.type=plugin", "providers.other.type", "plugin"},
		{"stages.provider.fallback=[]", "stages.provider.fallback", "[]"},
		{"stages.provider.hedge=true", "stages.provider.hedge", "true"},
		{"stages.cache.preload=['a b.tsv', /c.tsv]", "stages.cache.preload", "[/etc/dragoman/a b.tsv, /c.tsv]"},
	} {
		t.Run(tt.set, func(t *testing.T) {
			f := mustLoad(t, text, Options{Set: []string{tt.set}})
			v := value(f, tt.path)
			if v.Text != tt.want {
				t.Errorf("got %q, want %q", v.Text, tt.want)
			}
			if v.From != "--set" && tt.path != "pool.warm_connections" {
				t.Errorf("from %q", v.From)
			}
		})
	}

	f := mustLoad(t, text, Options{Set: []string{"pool.mode=direct", "pool.mode=pooled", "stages.cache.enabled=false"}})
	if v := value(f, "pool.mode"); v.Text != "pooled" {
		t.Errorf("the last --set wins: got %q", v.Text)
	}
	if f.Stages[0].Enabled || !f.Stages[1].Enabled {
		t.Errorf("enabled: %v, %v", f.Stages[0].Enabled, f.Stages[1].Enabled)
	}
}

func TestSetMistakes(t *testing.T) {
	text := "providers: {openai: {type: openai}}\nstages:\n  - cache: {ttl: soon}\n  - provider: {use: openai}\n"
	for _, tt := range []struct{ set, want string }{
		{"pool.mode", "--set: write --set KEY=VALUE, such as --set pool.mode=direct"},
		{"=x", "--set: write --set KEY=VALUE, such as --set pool.mode=direct"},
		{"pool.mode=poolled", `--set pool.mode: must be one of pooled, direct, got "poolled"; did you mean pooled?`},
		{"pool.warm_connections=many", `--set pool.warm_connections: must be a whole number, got "many"`},
		{"pool.warm_connections='6'", `--set pool.warm_connections: must be a whole number, got "6"`},
		{"pool.warm_connections=.inf", `--set pool.warm_connections: this is not a finite number`},
		{"pool.mod=direct", "--set pool.mod: there is no such key here; did you mean mode?"},
		{"pool.mode.x=direct", "--set pool.mode.x: there is no key below a value that is not a mapping"},
		{"pool={mod: direct}", "--set pool: pool.mod: there is no such key here; did you mean mode?"},
		{"pool={mode: direct, mode: pooled}", "--set pool: pool.mode: the key stands here twice, first in line 1"},
		{"pool=direct", `--set pool: must be a mapping of keys to values, such as {key: value}, got "direct"`},
		{"pool={", "--set pool: the value is not YAML: a bracket or a quote has no partner, or stands where it may not"},
		{"pol.mode=direct", "--set pol.mode: there is no such key here; did you mean pool?"},
		{"version=2", "--set version: the version belongs to the file; change it there"},
		{"stages=[]", "--set stages: name one of them: --set stages.NAME.KEY=VALUE"},
		{"stages.cash.ttl=1s", "--set stages.cash.ttl: the file has no stage of this name; did you mean cache?"},
		{"stages.0.ttl=1s", "--set stages.0.ttl: the file has no stage of this name; known are cache, provider"},
		{"providers.oai.model=x", "--set providers.oai.model: the file has no provider of this name; known are openai"},
		{"stages.provider.use=other", `--set stages.provider.use: there is no provider "other"; known are openai`},
		{"stages.provider.enabled=0", "--set stages.provider.enabled: must be true or false, got 0"},
		{"providers.openai.type=opena", `--set providers.openai.type: must be one of openai, plugin, got "opena"; did you mean openai?`},
		{"providers.openai.api_key={a: s3cret}", "--set providers.openai.api_key: must be text, got a mapping"},
		{"pool.proxy=\x00", "--set pool.proxy: there is a NUL byte here; the file must be text in UTF-8"},
	} {
		t.Run(tt.set, func(t *testing.T) {
			_, err := loadText(t, text, Options{File: "p", Set: []string{tt.set}})
			got := strings.Split(fmt.Sprint(err), "\n")
			if want := `p:3:18: stages[0].cache.ttl: must be a duration such as 300ms or 24h, got "soon"`; got[0] != want {
				t.Errorf("the file's own mistake: got %q", got[0])
			}
			if diff := cmp.Diff([]string{tt.want}, got[1:]); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestSecretsAreNeverShown(t *testing.T) {
	const secret = "sk-do-not-show"
	f := mustLoad(t, with("server: {keys: ["+secret+"]}\npool: {proxy: 'http://me:"+secret+"@proxy:1'}\n"),
		Options{Set: []string{"providers.p.api_key=" + secret}})
	if got := f.Providers[0].Config.(*openaiConfig).APIKey.Reveal(); got != secret {
		t.Errorf("got %q", got)
	}
	f.Sections["pool"].(*poolConfig).Proxy = "" // a plain field, redacted in Values alone
	if shown := fmt.Sprintf("%v %+v %+v", f.Values, f.Sections["server"], f.Providers); strings.Contains(shown, secret) {
		t.Errorf("shown: %s", shown)
	}
	if v := value(f, "pool.proxy"); v.Text != "http://[redacted]@proxy:1" {
		t.Errorf("got %q", v.Text)
	}

	_, err := loadText(t, with("server:\n  keys: {a: "+secret+"}\nproviders2: {api_key: "+secret+"}\n"),
		Options{Set: []string{"providers.p.api_key=" + strings.Repeat(secret, 20), "providers.p.api_ky=" + secret, "providers.p.api_key=[" + secret}})
	if c, ok := err.(Complaints); !ok || len(c) != 5 || strings.Contains(err.Error(), secret) {
		t.Errorf("got %v", err)
	}
}

// A list of keys as it was always written, of mappings, or of both.
func TestTextMayStandForAMapping(t *testing.T) {
	const secret = "sk-do-not-show"
	f := mustLoad(t, with("server:\n  keys:\n    - "+secret+"\n    - ${NUMBER}\n    - {name: ops, key: '"+secret+"2', role: operate}\n    - key: ${NUMBER}\n"),
		Options{LookupEnv: env("NUMBER", "12345678")})
	want := []keyConfig{{Key: secret}, {Key: "12345678"}, {Name: "ops", Key: secret + "2", Role: "operate"}, {Key: "12345678"}}
	if got := f.Sections["server"].(*serverConfig).Keys; !slices.Equal(got, want) {
		t.Errorf("got %+v", got)
	}
	if got := value(f, "server.keys").Text; got != "[[redacted], [redacted], {name: ops, key: [redacted], role: operate}, [redacted]]" {
		t.Errorf("shown as %s", got)
	}
	other := mustLoad(t, with("server: {keys: [{key: "+secret+"3}]}"), Options{Set: []string{"server.keys=[{key: " + secret + ", role: operate}]"}})
	if got := other.Sections["server"].(*serverConfig).Keys; !slices.Equal(got, []keyConfig{{Key: secret, Role: "operate"}}) {
		t.Errorf("with --set: %+v", got)
	}
	_, err := loadText(t, with(`server:
  keys:
    - 12
    - [`+secret+`]
    - {name: "a b", key: `+secret+`}
    - {sum: `+secret+`, role: opperate}
    - {kee: `+secret+`}
    - {key: [`+secret+`]}
`), Options{File: "p.yaml"})
	if diff := cmp.Diff(`p.yaml:5:7: server.keys[0]: must be text or a mapping of keys to values; put it in quotes
p.yaml:6:7: server.keys[1]: must be text or a mapping of keys to values, got a list
p.yaml:7:14: server.keys[2].name: must be 1 to 64 letters, digits, dots, - and _, got "a b"
p.yaml:8:13: server.keys[3].sum: must be a SHA-256 sum, 64 hexadecimal digits, as `+"`printf %s KEY | sha256sum`"+` prints it
p.yaml:8:35: server.keys[3].role: must be one of translate, operate, got "opperate"; did you mean operate?
p.yaml:9:8: server.keys[4].kee: there is no such key here; did you mean key?
p.yaml:10:13: server.keys[5].key: must be text, got a list`, fmt.Sprint(err)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestDigestChangesWithTheEffectiveConfiguration(t *testing.T) {
	digest := func(provider string, set ...string) string {
		return mustLoad(t, "providers: {p: {type: openai, "+provider+"}}\nstages: [provider: {use: p}]\n", Options{Set: set}).Providers[0].Digest
	}
	base := digest("api_key: one")
	if digest("api_key: one, model: gpt-5.4-nano") != base {
		t.Error("writing the default changes it")
	}
	for name, other := range map[string]string{
		"another secret": digest("api_key: two"),
		"a setting":      digest("api_key: one", "providers.p.timeout=4s"),
		"a map":          digest("api_key: one, headers: {A: b}"),
		"a pointer":      digest("api_key: one, request: {temperature: 0}"),
	} {
		if other == base {
			t.Errorf("%s does not change it", name)
		}
	}
}

func TestHashChangesWithTheContentOfTheFile(t *testing.T) {
	a, b := mustLoad(t, with(""), Options{}), mustLoad(t, with("# more\n"), Options{})
	if a.Hash == b.Hash || a.Hash != mustLoad(t, with(""), Options{Set: []string{"pool.mode=direct"}}).Hash {
		t.Errorf("got %s, %s", a.Hash, b.Hash)
	}
}

func TestPathsStartAtTheFilesFolder(t *testing.T) {
	f := mustLoad(t, `
pool: {ca_file: ca.pem}
providers:
  p: {type: plugin, folder: ../run}
  q: {type: plugin, folder: /abs}
stages:
  - cache: {preload: [a.tsv, /b.tsv]}
  - provider: {use: p}
`, Options{File: "/etc/dragoman/pipeline.yaml"})
	got := []any{f.Sections["pool"].(*poolConfig).CAFile, f.Providers[0].Config.(*pluginConfig).Folder, f.Providers[1].Config.(*pluginConfig).Folder, f.Stages[0].Config.(*cacheConfig).Preload}
	want := []any{core.Path("/etc/dragoman/ca.pem"), "/etc/run", "/abs", []core.Path{"/etc/dragoman/a.tsv", "/b.tsv"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if v := value(mustLoad(t, with(""), Options{}), "pool.ca_file"); v.Text != `""` {
		t.Errorf("no path stays none: got %q", v.Text)
	}
}

func TestNothingUnderAKeyIsTheDefaults(t *testing.T) {
	f := mustLoad(t, "version:\n"[:0]+"pool:\nproviders: {p: {type: openai, headers: , request: }}\nstages:\n  - queue:\n  - cache: {preload: }\n  - provider: {use: p}\n", Options{})
	if c := f.Sections["pool"].(*poolConfig); c.Mode != "pooled" {
		t.Errorf("got %+v", c)
	}
	if c := f.Stages[0].Config.(*queueConfig); c.MaxConcurrent != 6 {
		t.Errorf("got %+v", c)
	}
}

func TestADisabledStageIsCheckedButNotLinked(t *testing.T) {
	f := mustLoad(t, `
providers: {p: {type: openai}}
stages:
  - provider: {use: p}
  - queue: {max_concurrent: 2}
    enabled: false
  - provider: {use: gone}
    name: old
    enabled: false
`, Options{})
	if f.Stages[1].Enabled || f.Stages[2].Enabled || f.Stages[1].Config.(*queueConfig).MaxConcurrent != 2 {
		t.Errorf("got %+v", f.Stages)
	}
}

func TestFreeFormKeysArriveAsTheyStand(t *testing.T) {
	f := mustLoad(t, `
providers:
  p:
    type: plugin
    config: {a.b: 1, "x::y": {z: [1, two, {three: 3.5}]}, on: true, nothing: }
stages: [provider: {use: p}]
`, Options{})
	want := map[string]any{"a.b": int64(1), "x::y": map[string]any{"z": []any{int64(1), "two", map[string]any{"three": 3.5}}}, "on": true, "nothing": nil}
	if diff := cmp.Diff(want, f.Providers[0].Config.(*pluginConfig).Config); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestNothingIsSharedBetweenLoads(t *testing.T) {
	o := Options{}
	first := mustLoad(t, with("pool: {mode: direct}\n"), o)
	second := mustLoad(t, with(""), o)
	if first.Sections["pool"].(*poolConfig).Mode != "direct" || second.Sections["pool"].(*poolConfig).Mode != "pooled" {
		t.Error("one load shows in the other")
	}
}
