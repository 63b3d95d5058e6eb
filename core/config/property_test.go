package config

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
	"pgregory.net/rapid"

	"github.com/dragoman-mt/dragoman/core"
)

// text draws what an operator may write as text.
var anyText = rapid.OneOf(
	rapid.SampledFrom([]string{"", "a", "on", "null", "~", "007", "1e3", "a: b", "#", "- x", "[x", "$", "it's", "\"", " x ", "a,b", "äß→", "line\nbreak", "2024-01-01", "\ttab", "\\", "<<", "!x", "&a", "*a", "%", "@", "`"}),
	rapid.StringMatching(`[ -~]{0,12}`),
)

func anyDuration(least, most time.Duration) *rapid.Generator[time.Duration] {
	return rapid.Map(rapid.Int64Range(int64(least), int64(most)), func(n int64) time.Duration { return time.Duration(n) })
}

// escaped is s as the file must write it to mean s.
func escaped(s string) string { return strings.ReplaceAll(s, "$", "$$") }

func escapedAll(list []string) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = escaped(s)
	}
	return out
}

// A valid configuration, written by another YAML writer than ours, loads as
// what it says, and its Values, given as `--set`, make it anew.
func TestValidConfigurationsSurvive(t *testing.T) {
	checker := testSchema().checker()
	load := func(t *rapid.T, data []byte, set []string) *File {
		f, err := testSchema().loadBytes(data, checker, Options{File: "/etc/p.yaml", LookupEnv: env(), Set: set})
		if err != nil {
			t.Fatalf("%s\n%v", data, err)
		}
		return f
	}
	rapid.Check(t, func(t *rapid.T) {
		server := &serverConfig{
			Listen:   "x" + anyText.Draw(t, "listen"),
			Admin:    anyText.Draw(t, "admin"),
			Deadline: anyDuration(time.Millisecond, 10*time.Minute).Draw(t, "deadline"),
			MaxBody:  core.Size(rapid.Int64Range(1<<10, 1<<30).Draw(t, "max_body")),
		}
		queue := &queueConfig{
			MaxConcurrent: rapid.IntRange(1, 1000).Draw(t, "max_concurrent"),
			MinInterval:   anyDuration(0, time.Minute).Draw(t, "min_interval"),
			MaxWaiting:    rapid.Uint16().Draw(t, "max_waiting"),
		}
		temperature := rapid.Float64Range(0, 2).Draw(t, "temperature")
		openai := &openaiConfig{
			BaseURL: "x" + anyText.Draw(t, "base_url"), Model: "m" + anyText.Draw(t, "model"),
			Timeout: anyDuration(10*time.Millisecond, time.Hour).Draw(t, "timeout"),
			Headers: rapid.MapOf(rapid.StringMatching(`[A-Za-z][A-Za-z.:-]{0,8}`), anyText).Draw(t, "headers"),
			Request: openaiRequest{Temperature: &temperature, MaxOutput: rapid.IntRange(0, 1<<40).Draw(t, "max_output")},
		}
		plugin := &pluginConfig{Command: rapid.SliceOfN(anyText, 0, 4).Draw(t, "command"), ConfigFrom: "a"}

		headers := map[string]string{}
		for k, v := range openai.Headers {
			headers[k] = escaped(v)
		}
		tree := map[string]any{
			"server": map[string]any{"listen": escaped(server.Listen), "admin": escaped(server.Admin), "deadline": server.Deadline.String(), "max_body": int64(server.MaxBody)},
			"providers": map[string]any{
				"a": map[string]any{"type": "openai", "base_url": escaped(openai.BaseURL), "model": escaped(openai.Model), "timeout": openai.Timeout.String(),
					"headers": headers, "request": map[string]any{"temperature": temperature, "max_output": openai.Request.MaxOutput}},
				"b": map[string]any{"type": "plugin", "command": escapedAll(plugin.Command), "config_from": "a"},
			},
			"stages": []any{
				map[string]any{"queue": map[string]any{"max_concurrent": queue.MaxConcurrent, "min_interval": queue.MinInterval.String(), "max_waiting": queue.MaxWaiting}},
				map[string]any{"provider": map[string]any{"use": "a"}},
			},
		}
		data, err := yaml.Marshal(tree)
		if err != nil {
			t.Fatal(err)
		}
		f := load(t, data, nil)
		got := []any{f.Sections["server"], f.Stages[0].Config, f.Providers[0].Config, f.Providers[1].Config}
		if diff := cmp.Diff([]any{server, queue, openai, plugin}, got, cmp.FilterValues(emptyBoth, cmp.Ignore())); diff != "" {
			t.Fatalf("%s\n(-want +got):\n%s", data, diff)
		}

		var set []string
		for _, v := range f.Values {
			if v.Path != "version" && !strings.Contains(v.Text, "[redacted]") {
				set = append(set, v.Path+"="+v.Text)
			}
		}
		again := load(t, []byte("providers: {a: {type: openai}, b: {type: openai}}\nstages: [queue, provider: {use: a}]\n"), set)
		if diff := cmp.Diff(texts(f), texts(again)); diff != "" {
			t.Fatalf("Values given as --set: (-want +got):\n%s", diff)
		}
	})
}

func texts(f *File) []string {
	var list []string
	for _, v := range f.Values {
		list = append(list, v.Path+"="+v.Text)
	}
	slices.Sort(list)
	return list
}

// What Load lets pass is what the schema for editors lets pass.
func TestTheSchemaForEditorsIsTheChecker(t *testing.T) {
	checker := testSchema().checker()
	values := []any{0, 1, 6, -1, 70000, 2.5, true, "", "x", "pooled", "direct", "5s", "1ns", "1MiB", "3TiB", "echo",
		[]any{}, []any{"echo"}, []any{"echo", "echo"}, []any{1}, map[string]any{}, map[string]any{"temperature": 1}, map[string]any{"x": "y"}}
	fitting := map[string]any{
		"listen": "x", "keys": []any{"x"}, "deadline": "5s", "max_body": "1MiB", "mode": "direct", "warm_connections": 6, "idle_timeout": "0",
		"ca_file": "", "model": "x", "headers": map[string]any{"x": "y"}, "request": map[string]any{"temperature": 1}, "timeout": "5s",
		"max_concurrent": 6, "min_interval": "5s", "max_waiting": 1.0, "retries": 0, "hedge": true, "skip": []any{"echo"},
	}
	keys := func(names ...string) *rapid.Generator[map[string]any] {
		return rapid.Custom(func(t *rapid.T) map[string]any {
			m := map[string]any{}
			for _, name := range rapid.SliceOfNDistinct(rapid.SampledFrom(names), 0, 2, rapid.ID).Draw(t, "keys") {
				m[name] = fitting[name]
				if rapid.IntRange(0, 9).Draw(t, "any value") == 0 {
					m[name] = rapid.SampledFrom(values).Draw(t, name)
				}
			}
			return m
		})
	}
	with := func(m map[string]any, key string, value any) map[string]any { m[key] = value; return m }
	bad, good := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		tree := map[string]any{
			"server":    keys("listen", "keys", "deadline", "max_body", "nothing").Draw(t, "server"),
			"pool":      keys("mode", "warm_connections", "idle_timeout", "ca_file").Draw(t, "pool"),
			"providers": map[string]any{"p": with(keys("model", "headers", "request", "timeout").Draw(t, "openai"), "type", rapid.SampledFrom([]any{"openai", "openai", "openai", "openai", "openai", "cache", 1}).Draw(t, "type"))},
			"stages": []any{
				rapid.SampledFrom([]any{"cache", "ratelimit", map[string]any{"cache": nil}, "cache", "ratelimit", "cash", 1}).Draw(t, "bare"),
				map[string]any{"queue": keys("max_concurrent", "min_interval", "max_waiting").Draw(t, "queue"), "name": rapid.SampledFrom([]any{"q", "q-1", "2", "w_3", "Q", 1}).Draw(t, "name")},
				with(map[string]any{"provider": with(keys("retries", "hedge").Draw(t, "provider"), "use", "p")}, "enabled", true),
				map[string]any{"postprocess": keys("skip").Draw(t, "postprocess")},
			},
		}
		data, err := yaml.Marshal(tree)
		if err != nil {
			t.Fatal(err)
		}
		plain, err := json.Marshal(tree)
		if err != nil {
			t.Fatal(err)
		}
		var read any
		if err := json.Unmarshal(plain, &read); err != nil {
			t.Fatal(err)
		}
		invalid, err := checker.check("", read)
		if err != nil {
			t.Fatal(err)
		}
		_, complaints := testSchema().loadBytes(data, checker, Options{File: "p.yaml", LookupEnv: env()})
		if (complaints == nil) != (invalid == nil) {
			t.Fatalf("%s\nLoad: %v\nschema: %v", data, complaints, invalid)
		}
		if invalid == nil {
			good++
		} else {
			bad++
		}
	})
	if good == 0 || bad == 0 {
		t.Errorf("%d good and %d bad: the test proves nothing", good, bad)
	}
	t.Logf("%d good, %d bad", good, bad)
}

func FuzzLoad(f *testing.F) {
	for _, name := range []string{"testdata/pipeline.yaml", "testdata/mistakes.yaml"} {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data, "pool.mode=direct", false)
	}
	f.Add([]byte("a: &a [*a]\nb: {<<: *a}\n"), "stages.queue={max_concurrent: 4}", true)
	f.Add([]byte("providers: {p: {type: openai, model: ${NO}}}\r\nstages: [provider: {use: p}]"), "providers.p.headers.X=[", true)
	checker := testSchema().checker()
	f.Fuzz(func(t *testing.T, data []byte, set string, offline bool) {
		o := Options{File: "p.yaml", LookupEnv: env("A", "b", "N", "1"), Offline: offline}
		if set != "" {
			o.Set = []string{set}
		}
		file, err := testSchema().loadBytes(data, checker, o)
		if err == nil {
			if len(file.Stages) == 0 || len(file.Values) == 0 {
				t.Fatal("loaded, but nothing in it")
			}
			return
		}
		complaints, ok := err.(Complaints)
		if !ok || len(complaints) == 0 || file != nil {
			t.Fatalf("got %v, %#v", file, err)
		}
		lines := splitLines(string(data))
		seen := map[Complaint]bool{}
		for _, c := range complaints {
			if seen[c] {
				t.Errorf("said twice: %v", c)
			}
			seen[c] = true
			if c.Message == "" || !utf8.ValidString(c.String()) && utf8.Valid(data) && utf8.ValidString(set) {
				t.Errorf("%+v", c)
			}
			if c.Line == 0 {
				if !strings.HasPrefix(c.File, "--set") {
					t.Errorf("no place: %v", c)
				}
				continue
			}
			if c.Line > len(lines) || c.Column < 1 || c.Column > len([]rune(lines[c.Line-1]))+1 {
				t.Errorf("outside the file of %d lines: %v", len(lines), c)
			}
		}
	})
}

func FuzzReference(f *testing.F) {
	for _, s := range []string{"", "$", "$$", "${A}", "${A:-b}", "${B}", "${NO}", "${", "${A", "$${A}", "${NO:-$$}", "a${A}b${B}c", "${A:-${B}}"} {
		f.Add(s, "x")
	}
	f.Fuzz(func(t *testing.T, s, held string) {
		lookups := 0
		e := expander{lookup: func(name string) (string, bool) {
			lookups++
			if !variable.MatchString(name) {
				t.Errorf("looked up %q", name)
			}
			return held, name == "A" || name == "B"
		}}
		text, via, err := e.text(s)
		if lookups > strings.Count(s, "${") {
			t.Errorf("%q: %d lookups", s, lookups)
		}
		if err != nil {
			return
		}
		if !strings.Contains(s, "$") && text != s {
			t.Errorf("%q became %q", s, text)
		}
		if len(via) > lookups {
			t.Errorf("%q: via %v", s, via)
		}
		// Escaped, any text is itself.
		if back, via, err := e.text(escaped(s)); err != nil || back != s || via != nil {
			t.Errorf("%q escaped became %q, %v, %v", s, back, via, err)
		}
		// Once: what a variable holds is not looked at.
		if utf8.ValidString(held) && !strings.ContainsRune(held, 0) && held != "" {
			if got, _, err := e.text(fmt.Sprint("<${A}>")); err != nil || got != "<"+held+">" {
				t.Errorf("%q became %q, %v", held, got, err)
			}
		}
	})
}
