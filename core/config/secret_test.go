package config

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
	"pgregory.net/rapid"

	"github.com/dragoman-mt/dragoman/core"
)

// A vault has a secret in every place that a struct can have one.
type vault struct {
	Key    core.Secret            `json:"key" jsonschema:"maxLength=20"`
	Keys   []core.Secret          `json:"keys"`
	Named  map[string]core.Secret `json:"named"`
	Free   map[string]any         `json:"free" secret:"true"`
	Proxy  string                 `json:"proxy" credentials:"true"`
	Nested struct {
		Key core.Secret `json:"key" jsonschema:"enum=right"`
	} `json:"nested"`
	Rows []struct {
		Name string      `json:"name"`
		Key  core.Secret `json:"key"`
		Hint string      `json:"hint" secret:"true"`
	} `json:"rows"`
	Pin int `json:"pin" secret:"true" jsonschema:"minimum=1,maximum=9999"`
}

func vaultSchema() Schema {
	return Schema{
		Sections: []Section{{Name: "vault", Config: func() any { return &vault{} }}},
		Kinds: []core.Kind{
			testKind("safe", core.RoleProvider, vault{}), testKind("plugin", core.RoleProvider, pluginConfig{}),
			testKind("guard", core.RoleStage, vault{}), testKind("provider", core.RoleCaller, providerConfig{}),
		},
	}
}

// canary stands in the texts, canaryNumber in the numbers that may not be seen.
const (
	canary       = "cAnArY"
	canaryNumber = 7734773477
)

// secrets draws something with canaries in it, of any shape.
func secrets(depth int) *rapid.Generator[any] {
	return rapid.Custom(func(t *rapid.T) any {
		text := rapid.SampledFrom([]string{canary, "sk-" + canary + "-1", canary + ": x", "!" + canary, "*" + canary, "&" + canary, "{" + canary, "user:" + canary + "@h:1",
			"http://u:" + canary + "@h", "http://u:p@" + canary + "/w@h:1", canary + "\n", "${SECRET}", "<${SECRET}>", "${SECRET}${NO}", "[${SECRET}]", "\"" + canary, "'" + canary, "righ" + canary, " - " + canary, "\t" + canary})
		kinds := []string{"text", "text", "number", "list", "map"}
		if depth == 0 {
			kinds = kinds[:3]
		}
		switch rapid.SampledFrom(kinds).Draw(t, "kind") {
		case "number":
			return rapid.SampledFrom([]any{canaryNumber, -canaryNumber, canaryNumber + 0.5}).Draw(t, "number")
		case "list":
			return rapid.SliceOfN(secrets(depth-1), 0, 3).Draw(t, "list")
		case "map":
			m := map[string]any{}
			for range rapid.IntRange(0, 3).Draw(t, "entries") {
				key := rapid.SampledFrom([]string{"key", "keys", "hint", "more", "0"}).Draw(t, "key")
				m[key] = secrets(depth-1).Draw(t, "value")
			}
			return m
		}
		return text.Draw(t, "text")
	})
}

// unquoted writes what YAML would have quoted as a person does, who forgets that.
func unquoted(value any) string {
	switch value := value.(type) {
	case []any:
		var items []string
		for _, item := range value {
			items = append(items, unquoted(item))
		}
		return "[" + strings.Join(items, ", ") + "]"
	case map[string]any:
		var entries []string
		for key, value := range value {
			entries = append(entries, key+":"+strings.Repeat(" ", len(key)%2)+unquoted(value))
		}
		slices.Sort(entries)
		return "{" + strings.Join(entries, ", ") + "}"
	}
	return fmt.Sprint(value)
}

// Wherever a secret is wanted, whatever stands there is not repeated: not when it is
// right, not when it has the wrong shape, not when the file is no YAML for it.
func TestWhatStandsInThePlaceOfASecretIsNeverShown(t *testing.T) {
	checker := vaultSchema().checker()
	lookup := env("SECRET", "env-"+canary, "N", fmt.Sprint(canaryNumber))
	loaded, refused := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		key := rapid.SampledFrom([]string{"key", "keys", "named", "free", "proxy", "nested", "rows", "pin", ""}).Draw(t, "key")
		var value any = secrets(3).Draw(t, "value")
		if key == "proxy" { // of which only what stands before an @ is secret
			value = rapid.SampledFrom([]string{"user:" + canary + "@h:1", "http://u:" + canary + "@h", "http://u:p@" + canary + "/w@h:1", "socks5://" + canary + "@h"}).Draw(t, "proxy")
			if rapid.Bool().Draw(t, "in a list") {
				value = []any{value}
			}
		} else if rapid.Bool().Draw(t, "fits") {
			value = map[string]any{
				"key": canary, "keys": []any{canary, "b"}, "named": map[string]any{"a": canary}, "free": map[string]any{"a": []any{canary, canaryNumber}},
				"nested": map[string]any{"key": "right"},
				"rows":   []any{map[string]any{"name": "a", "key": canary, "hint": canary}}, "pin": 4242, "": map[string]any{"key": canary},
			}[key]
		}
		written := unquoted(value)
		if rapid.Bool().Draw(t, "quoted") {
			text, err := json.Marshal(value) // which YAML reads
			if err != nil {
				t.Fatal(err)
			}
			written = string(text)
		}
		entry := map[bool]string{true: written, false: "{" + key + ": " + written + "}"}[key == ""]
		files := map[string]string{
			"section":  "vault: " + entry + "\nproviders: {p: {type: safe}}\nstages: [{provider: {use: p}}]\n",
			"provider": "providers: {p: {<<: " + entry + ", type: safe}}\nstages: [{provider: {use: p}}]\n",
			"stage":    "providers: {p: {type: safe}}\nstages: [{guard: " + entry + "}, {provider: {use: p}}]\n",
			"block":    "providers: {p: {type: safe}}\nvault:\n  " + key + ":" + rapid.SampledFrom([]string{" ", ""}).Draw(t, "blank") + written + "\nstages: [{provider: {use: p}}]\n",
			"--set":    "providers: {p: {type: safe}}\nstages: [{provider: {use: p}}]\n",
		}
		for _, place := range slices.Sorted(maps.Keys(files)) {
			if (strings.Contains(written, "["+canary+": x") || strings.Contains(written, ", "+canary+": x")) && (key == "rows" || place == "provider" && key == "") {
				continue // YAML reads a mapping with an unknown key, and such a slip is shown
			}
			file := files[place]
			o := Options{File: "p.yaml", LookupEnv: lookup, Offline: rapid.Bool().Draw(t, "offline")}
			if place == "--set" {
				o.Set = []string{strings.TrimSuffix("vault."+key, ".") + "=" + written}
			}
			f, err := vaultSchema().loadBytes([]byte(file), checker, o)
			said := fmt.Sprint(err)
			if err == nil {
				loaded++
				empty, err := vaultSchema().loadBytes([]byte(files["--set"]), checker, Options{File: "p.yaml", LookupEnv: lookup})
				if err != nil {
					t.Fatal(err)
				}
				said = fmt.Sprint(f.Values, Diff(empty, f), Diff(f, empty), f.Place(fmt.Errorf("vault.key: is odd")))
			} else {
				refused++
			}
			if strings.Contains(said, canary) || strings.Contains(said, fmt.Sprint(canaryNumber)) {
				t.Fatalf("%s:\n%s\nis answered with\n%s", place, file, said)
			}
		}
	})
	if loaded == 0 || refused == 0 {
		t.Errorf("%d loaded, %d refused: the test proves nothing", loaded, refused)
	}
}

// What another program's schema marks is hidden as well, however it says so, and
// what it does not mark is shown.
func TestASchemaThatIsKnownLaterHidesWhatItMarks(t *testing.T) {
	const open = "plain-to-see"
	for name, schema := range map[string]string{
		"directly":    `{"properties": {"k": {"type": "array", "items": {"type": "string", "writeOnly": true}}, "o": {"type": "integer"}}}`,
		"the whole":   `{"properties": {"k": {"type": "object", "writeOnly": true}, "o": {"type": "integer"}}}`,
		"a reference": `{"$defs": {"a/b": {"type": "integer", "writeOnly": true}}, "properties": {"k": {"$ref": "#/$defs/a~1b"}, "o": {"type": "integer"}}}`,
		"one of":      `{"properties": {"k": {"oneOf": [{"type": "integer"}, {"type": "boolean", "writeOnly": true}]}, "o": {"type": "integer"}}}`,
		"a pattern":   `{"patternProperties": {"^k": {"type": "integer", "writeOnly": true}}, "properties": {"o": {"type": "integer"}}}`,
		"all others":  `{"additionalProperties": {"type": "integer", "writeOnly": true}, "properties": {"o": {"type": "integer"}}}`,
		"several":     `{"properties": {"k": {"type": ["integer", "null"], "writeOnly": true}, "o": {"type": "integer"}}}`,
		"below":       `{"properties": {"k": {"type": "object", "properties": {"a": {"type": "string", "writeOnly": true}}}, "o": {"type": "integer"}}}`,
	} {
		t.Run(name, func(t *testing.T) {
			f := mustLoad(t, "providers:\n  p: {type: plugin, config: {k: "+canary+", o: "+open+"}}\nstages: [provider: {use: p}]\n", Options{})
			err := f.Providers[0].Origin.Check("config", []byte(schema))
			if err == nil || strings.Contains(err.Error(), canary) {
				t.Errorf("k: got %v", err)
			}
			if !strings.Contains(fmt.Sprint(err), open) {
				t.Errorf("o, which is no secret, is not shown: %v", err)
			}
		})
	}
}

func TestPasswordsInAddressesAreHiddenAndNothingElseIs(t *testing.T) {
	for in, want := range map[string]string{
		"http://user:pw@host:1":                "http://[redacted]@host:1",
		"http://user:p@ss/w0rd@host":           "http://[redacted]@host",
		"http://user:p/w@host/v1":              "http://[redacted]@host/v1",
		"http://user:p?w#x@host/v1":            "http://[redacted]@host/v1",
		"http://token@host":                    "http://[redacted]@host",
		"socks5://u:p%40ss%2Fw@[::1]:1":        "socks5://[redacted]@[::1]:1",
		"see http://u:p@a and http://u:p@b/x":  "see http://[redacted]@a and http://[redacted]@b/x",
		"https://api.example.com:8443/@x/v1":   "https://api.example.com:8443/@x/v1",
		"https://[::1]:80/a@b":                 "https://[::1]:80/a@b",
		"https://host/?to=me@there":            "https://host/?to=me@there",
		"llama3:8b@sha256:abc":                 "llama3:8b@sha256:abc",
		"Ask me@example.com, or http://h/":     "Ask me@example.com, or http://h/",
		"https://h/v1?key=k":                   "https://h/v1?key=[redacted]",
		"https://h/?api-version=1&API_KEY=k&x": "https://h/?api-version=1&API_KEY=[redacted]&x",
		"https://u:p@h/?access_token=k#part":   "https://[redacted]@h/?access_token=[redacted]#part",
		"https://h/?code=k&subscription-key=":  "https://h/?code=[redacted]&subscription-key=",
		"https://h/?encoding=utf-8&design=1":   "https://h/?encoding=utf-8&design=1",
		"which key=value, ?":                   "which key=value, ?",
		"":                                     "",
	} {
		if got := withoutPassword(in); got != want {
			t.Errorf("%s: got %s, want %s", in, got, want)
		}
	}
	for in, want := range map[string]string{
		"user:pw@host:1": "[redacted]@host:1", "http://u:p@ss/w0rd@host": "http://[redacted]@host", "u/x:pw@h": "[redacted]@h",
		"https://h/v1?key=k": "https://h/v1?key=[redacted]", "h/v1?sig=k&v=2": "h/v1?sig=[redacted]&v=2",
		"socks5://u@h": "socks5://[redacted]@h", "http://host:1/": "http://host:1/", "host:1": "host:1", "http://to/ken@h": "http://[redacted]@h",
	} {
		if got := withoutUser(in); got != want {
			t.Errorf("%s: got %s, want %s", in, got, want)
		}
	}
}

// Explain shows what is no secret, beside what is one.
func TestNothingButSecretsIsRedacted(t *testing.T) {
	f, err := vaultSchema().loadBytes([]byte(`
vault: {key: x, named: {a: x}, proxy: "http://proxy:3128", rows: [{name: mine, key: x}], nested: {key: right}}
providers: {p: {type: plugin, command: [run, "--to=me@host"], folder: /a@b}}
stages: [{provider: {use: p}}]
`), mustCheck(t), Options{File: "/p.yaml", LookupEnv: env()})
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"vault.key": "[redacted]", "vault.named.a": "[redacted]", "vault.keys": "[]", "vault.pin": "0", "vault.proxy": "http://proxy:3128",
		"vault.rows":          `[{name: mine, key: [redacted], hint: ""}]`,
		"providers.p.command": `[run, "--to=me@host"]`, "providers.p.folder": "/a@b", "stages.provider.use": "p",
	} {
		if got := value(f, path).Text; got != want {
			t.Errorf("%s: got %s, want %s", path, got, want)
		}
	}
}

func mustCheck(t *testing.T) *checker {
	t.Helper()
	c := vaultSchema().checker()
	return c
}

func FuzzSecrets(f *testing.F) {
	f.Add("["+canary+"]", 0)
	f.Add("{a: !"+canary+", b: *"+canary+"}", 3)
	f.Add("\n  - "+canary+"\n  -"+canary, 1)
	f.Add("{0"+canary+":0}", 0)
	f.Add("{a: {"+canary+":}}", 1)
	f.Add("{"+canary+"}", 2)
	checker := vaultSchema().checker()
	names := []string{}
	for i := range reflect.TypeFor[vault]().NumField() {
		names = append(names, reflect.TypeFor[vault]().Field(i).Tag.Get("json"))
	}
	f.Fuzz(func(t *testing.T, value string, key int) {
		name := names[(key%len(names)+len(names))%len(names)]
		// What is not the value of the key is the fuzzer's own.
		var whole map[string]yaml.Node
		file := "providers: {p: {type: safe}}\nstages: [{provider: {use: p}}]\nvault:\n  " + name + ": " + value
		if strings.Contains(value, "\n") && yaml.Unmarshal([]byte(file), &whole) == nil && len(whole) != 3 {
			t.Skip()
		}
		for _, line := range strings.Split(value, "\n")[1:] {
			if len(line) < 3 || line[:3] != "   " {
				t.Skip() // not below the key
			}
		}
		loaded, err := vaultSchema().loadBytes([]byte(file), checker, Options{File: "p.yaml", LookupEnv: env()})
		said := fmt.Sprint(err)
		if err == nil {
			said = fmt.Sprint(loaded.Values)
		}
		// A slip of a key is shown, and so is the host of a proxy.
		if strings.Contains(said, canary) && name != "rows" && name != "nested" && name != "proxy" {
			t.Errorf("%s\nis answered with\n%s", file, said)
		}
	})
}
