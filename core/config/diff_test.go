package config

import (
	"strings"
	"testing"
)

func TestDiffNamesWhatAnOperatorChanged(t *testing.T) {
	const base = "pool: {mode: pooled}\nproviders: {p: {type: openai, api_key: one}}\nstages: [cache: {}, queue: {}, provider: {use: p}]\n"
	for name, c := range map[string]struct{ with, want string }{
		"nothing":            {base, ""},
		"a comment":          {"# more\n" + base, ""},
		"a default, written": {strings.Replace(base, "queue: {}", "{queue: {}, enabled: true}", 1), ""},
		"a value":            {strings.Replace(base, "pooled", "direct", 1), "pool.mode pooled -> direct"},
		"a secret":           {strings.Replace(base, "one", "two", 1), "providers.p.api_key changed"},
		"a stage off":        {strings.Replace(base, "queue: {}", "{queue: {}, enabled: false}", 1), "stages.queue.enabled true -> false"},
		"a stage less":       {strings.Replace(base, "queue: {}, ", "", 1), "stages.queue removed"},
		"a provider more":    {strings.Replace(base, "providers: {", "providers: {q: {type: openai, api_key: three}, ", 1), "providers.q added"},
		"another order":      {strings.Replace(base, "cache: {}, queue: {}", "queue: {}, cache: {}", 1), "stages cache, queue, provider -> queue, cache, provider"},
		"a name for a stage": {strings.Replace(base, "queue: {}", "{queue: {}, name: slots}", 1), "stages.slots added; stages.queue removed"},
	} {
		var got []string
		for _, change := range Diff(mustLoad(t, base, Options{}), mustLoad(t, c.with, Options{})) {
			got = append(got, change.String())
		}
		if strings.Join(got, "; ") != c.want {
			t.Errorf("%s: got %q, want %q", name, strings.Join(got, "; "), c.want)
		}
	}
}

func TestContentIsLoadedInPlaceOfTheFile(t *testing.T) {
	f, err := testSchema().Load(Options{File: "/nowhere/pipeline.yaml", Content: []byte(with("pool: {mode: direct}\n"))})
	if err != nil || f.Path != "/nowhere/pipeline.yaml" || value(f, "pool.mode").Text != "direct" {
		t.Errorf("got %v, %v", f, err)
	}
}

func TestAnEditThatASetHidesIsTold(t *testing.T) {
	const base = "pool: {mode: pooled}\nproviders: {p: {type: openai, api_key: one}}\nstages: [cache: {}, {queue: {max_concurrent: 3}, enabled: true}, provider: {use: p}]\n"
	sets := []string{"pool.mode=direct", "stages.queue={max_concurrent: 7}", "stages.queue.enabled=false", "providers.p.api_key=kept"}
	for name, c := range map[string]struct{ with, want string }{
		"nothing":                         {base, ""},
		"a comment":                       {"# more\n" + base, ""},
		"a value that is spelt otherwise": {strings.Replace(base, "mode: pooled", "mode: 'pooled'", 1), ""},
		"what no --set gives":             {strings.Replace(base, "cache: {}", "cache: {ttl: 1h}", 1), ""},
		"a value":                         {strings.Replace(base, "mode: pooled", "mode: direct", 1), "pool.mode direct"},
		"one that goes":                   {strings.Replace(base, "pool: {mode: pooled}\n", "", 1), "pool.mode direct"},
		"one below a mapping":             {strings.Replace(base, "max_concurrent: 3", "max_concurrent: 5", 1), "stages.queue.max_concurrent 7"},
		"one that comes":                  {strings.Replace(base, "max_concurrent: 3", "", 1), "stages.queue.max_concurrent 7"},
		"whether a stage is on":           {strings.Replace(base, "enabled: true", "enabled: false", 1), "stages.queue.enabled false"},
		"a secret":                        {strings.Replace(base, "one", "two", 1), "providers.p.api_key [redacted]"},
	} {
		was, is := mustLoad(t, base, Options{Set: sets}), mustLoad(t, c.with, Options{Set: sets})
		var got []string
		for _, v := range Overruled(was, is) {
			got = append(got, v.Path+" "+v.Text)
		}
		if strings.Join(got, "; ") != c.want {
			t.Errorf("%s: got %q, want %q", name, strings.Join(got, "; "), c.want)
		}
		if hidden := Overruled(mustLoad(t, base, Options{}), mustLoad(t, c.with, Options{})); len(hidden) > 0 {
			t.Errorf("%s: without a --set: %v", name, hidden)
		}
	}
}
