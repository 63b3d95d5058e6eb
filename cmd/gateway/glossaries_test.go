package gateway

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestAGlossaryHoldsUntilAReloadBringsAnother: through a running gateway, its cache and an engine
// that heeds no term.
func TestAGlossaryHoldsUntilAReloadBringsAnother(t *testing.T) {
	s := simulate(t, "--latency", "1ms", "--rtt", "0s")
	file := write(t, `version: 1
glossaries: {house: house.csv}
doors: {openai: {models: {captions: {translate: {source: en, target: es, glossary: house}}}}}
providers: {sim: {type: openai, base_url: "`+s.base+`", api_key: x}}
stages: [cache, provider: {use: sim}, postprocess]
`)
	terms := filepath.Join(filepath.Dir(file), "house.csv")
	put := func(content string) {
		if err := os.WriteFile(terms, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("en,es\ncar,coche\ntrain,open\n")
	g := serveFile(t, file, []string{"NO_PROXY=*"})
	const call = `{"text":["The car is open.","Car","The train is open.","Nothing of it."],"source":"en","target":"es","glossary":"house"}`
	check := func(what string, want ...string) {
		t.Helper()
		a := g.post(call)
		if a.Status != 200 {
			t.Fatalf("%s: %+v", what, a)
		}
		for i, tr := range a.Translations {
			got := strings.Join(append([]string{tr.Text}, tr.Flags...), " + ")
			if tr.Cached {
				got += " (cached)"
			}
			if got != want[i] {
				t.Errorf("%s: %q, want %q", what, got, want[i])
			}
		}
	}
	check("at first", "[es] The car is open. + glossary_missed", "Coche + glossary (cached)", "[es] The train is open.", "[es] Nothing of it.")
	check("again", "[es] The car is open. + glossary_missed (cached)", "Coche + glossary (cached)", "[es] The train is open. (cached)", "[es] Nothing of it. (cached)")
	if a := g.post(strings.Replace(call, `,"glossary":"house"`, "", 1)); a.Translations[0].Cached || len(a.Translations[0].Flags) > 0 {
		t.Errorf("a call without a glossary has the answer of one with it: %+v", a.Translations[0])
	}

	put("en,es\ncar\n")
	out, errs, status := commandHere(t, filepath.Dir(file), nil, "", "reload")
	if all := out + errs; status != 1 || !strings.Contains(all, "pipeline.yaml:2:21: glossaries.house: house.csv: row 2, column 1: ") {
		t.Errorf("a broken file: status %d\n%s", status, all)
	}
	check("with a file that was refused", "[es] The car is open. + glossary_missed (cached)", "Coche + glossary (cached)", "[es] The train is open. (cached)", "[es] Nothing of it. (cached)")

	put("en,es\ncar,the\n")
	if out, errs, status := commandHere(t, filepath.Dir(file), nil, "", "reload"); status != 0 {
		t.Fatalf("status %d\n%s%s", status, out, errs)
	}
	check("after a reload", "[es] The car is open.", "The + glossary (cached)", "[es] The train is open.", "[es] Nothing of it.")

	if _, errs, status := commandHere(t, filepath.Dir(file), nil, "", "check", "--offline", "--set", "glossaries.house=nowhere.tsv"); status != 1 || !strings.Contains(errs, "glossaries.house: ") {
		t.Errorf("a file that is not there: status %d\n%s", status, errs)
	}
	bad := strings.Replace(string(must(os.ReadFile(file))), "glossary: house}", "glossary: hause}", 1)
	if _, errs, status := commandHere(t, filepath.Dir(file), nil, "", "check", "--offline", "--config", write(t, strings.Replace(bad, "house.csv", terms, 1))); status != 1 || !strings.Contains(errs, `there is no glossary "hause"`) {
		t.Errorf("a model with a glossary that is not there: status %d\n%s", status, errs)
	}
	if all := g.output(); slices.ContainsFunc([]string{"coche", "train is"}, func(s string) bool { return strings.Contains(all, s) }) {
		t.Errorf("the log holds terms or texts:\n%s", all)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// TestAKeysGlossaryHoldsWhereAClientCannotNameOne: LibreTranslate's protocol has no field
// for it, and no call of another key has it.
func TestAKeysGlossaryHoldsWhereAClientCannotNameOne(t *testing.T) {
	s := simulate(t, "--latency", "1ms", "--rtt", "0s")
	const content = `version: 1
server:
  keys:
  - {name: house, key: sk-house-0123456789abcdef, glossary: house}
  - {name: other, key: sk-other-0123456789abcdef}
glossaries: {house: house.csv, second: second.csv}
providers: {sim: {type: openai, base_url: "BASE", api_key: x}}
stages: [cache, provider: {use: sim}]
`
	file := write(t, strings.Replace(content, "BASE", s.base, 1))
	for name, terms := range map[string]string{"house.csv": "en,es\ncar,coche\n", "second.csv": "en,es\ncar,carro\n"} {
		if err := os.WriteFile(filepath.Join(filepath.Dir(file), name), []byte(terms), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	g := serveFile(t, file, []string{"NO_PROXY=*"})
	for _, c := range []struct{ path, key, body, want string }{
		{"/translate", "house", `{"q":"Car","source":"en","target":"es","api_key":"KEY"}`, `"translatedText":"Coche"`},
		{"/translate", "other", `{"q":"Car","source":"en","target":"es","api_key":"KEY"}`, `"translatedText":"[es] Car"`},
		{"/v2/translate", "house", `{"text":["Car"],"source_lang":"EN","target_lang":"ES"}`, `"text":"Coche"`},
		{"/v1/chat/completions", "house", `{"model":"translate/en/es","messages":[{"role":"user","content":"Car"}]}`, `"content":"Coche"`},
		{"/v1/translate", "house", `{"text":"Car","source":"en","target":"es"}`, `"text":"Coche"`},
		{"/v1/translate", "house", `{"text":"Car","source":"en","target":"es","glossary":"second"}`, `"text":"Carro"`},
		{"/v1/translate", "house", `{"text":"Car","source":"en","target":"es","glossary":{"car":"auto"}}`, `"text":"Auto"`},
		{"/v1/translate", "other", `{"text":"Car","source":"en","target":"es"}`, `"text":"[es] Car"`},
	} {
		key := "sk-" + c.key + "-0123456789abcdef"
		req := must(http.NewRequest(http.MethodPost, g.url+c.path, strings.NewReader(strings.Replace(c.body, "KEY", key, 1))))
		if !strings.Contains(c.body, "KEY") {
			req.Header.Set("Authorization", "Bearer "+key)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body := must(io.ReadAll(res.Body))
		res.Body.Close()
		if !strings.Contains(string(body), c.want) {
			t.Errorf("%s as %s, %s: %d %s, want %s", c.path, c.key, c.body, res.StatusCode, body, c.want)
		}
	}

	// What names a glossary that is gone is refused, with its place, by check and by a reload.
	gone := strings.Replace(strings.Replace(content, "BASE", s.base, 1), "house: house.csv, ", "", 1)
	if err := os.WriteFile(file, []byte(gone), 0o600); err != nil {
		t.Fatal(err)
	}
	const want = `pipeline.yaml:4:61: server.keys[0].glossary: there is no glossary "house"; there are second`
	for _, verb := range [][]string{{"check", "--offline"}, {"reload"}} {
		if out, errs, status := commandHere(t, filepath.Dir(file), nil, "", verb...); status != 1 || !strings.Contains(out+errs, want) {
			t.Errorf("%s: status %d\n%s%s", verb[0], status, out, errs)
		}
	}
}

// TestFilesAreTranslatedWithAGlossary of the running gateway, of the program's own chain, or
// of a file of terms.
func TestFilesAreTranslatedWithAGlossary(t *testing.T) {
	s := simulate(t, "--latency", "1ms", "--rtt", "0s")
	file := write(t, `version: 1
glossaries: {house: house.csv}
providers: {sim: {type: openai, base_url: "`+s.base+`", api_key: x}}
stages: [cache, provider: {use: sim}]
`)
	dir := filepath.Dir(file)
	for name, content := range map[string]string{"house.csv": "en,es\ncar,coche\n", "own.tsv": "en\tes\ncar\tcarro\n", "bad.tsv": "en\tes\ncar\n", "a.json": `{"a": "Car", "b": "A bus."}`} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	env := []string{"NO_PROXY=*"}
	look := func(who string) {
		t.Helper()
		for _, c := range []struct {
			glossary, want string
			status         int
		}{
			{"house", `{"a": "Coche", "b": "[es] A bus."}`, 0},
			{"own.tsv", `{"a": "Carro", "b": "[es] A bus."}`, 0},
			{"hause", `--glossary: there is no glossary "hause"; there are house`, 2},
			{"bad.tsv", `--glossary: bad.tsv: row 2, column 1: `, 1},
			{"none.tsv", `--glossary: none.tsv: `, 1},
		} {
			out, errs, status := commandHere(t, dir, env, "", "translate", "--from", "en", "--to", "es", "--glossary", c.glossary, "a.json")
			if status != c.status || !strings.Contains(out+errs, c.want) {
				t.Errorf("%s, %s: status %d, want %d with %s\n%s%s", who, c.glossary, status, c.status, c.want, out, errs)
			}
			if c.status == 0 && errs != "" && strings.Contains(errs, "flagged") {
				t.Errorf("%s, %s: %s", who, c.glossary, errs)
			}
		}
		if out, errs, status := commandHere(t, dir, env, "Car\nA bus.\n", "translate", "--from", "en", "--to", "es", "--glossary", "house"); status != 0 || out != "Coche\n[es] A bus.\n" {
			t.Errorf("%s, lines: status %d\n%s%s", who, status, out, errs)
		}
	}
	look("by itself")
	serveFile(t, file, env)
	look("through the gateway")
}
