package gateway

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestAGlossaryHoldsUntilAReloadBringsAnother: through a running gateway, its cache and an engine
// that heeds no term.
func TestAGlossaryHoldsUntilAReloadBringsAnother(t *testing.T) {
	t.Parallel()
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
	out, errs, status := command(t, filepath.Dir(file), nil, "", "reload")
	if all := out + errs; status != 1 || !strings.Contains(all, "pipeline.yaml:2:21: glossaries.house: house.csv: row 2, column 1: ") {
		t.Errorf("a broken file: status %d\n%s", status, all)
	}
	check("with a file that was refused", "[es] The car is open. + glossary_missed (cached)", "Coche + glossary (cached)", "[es] The train is open. (cached)", "[es] Nothing of it. (cached)")

	put("en,es\ncar,the\n")
	if out, errs, status := command(t, filepath.Dir(file), nil, "", "reload"); status != 0 {
		t.Fatalf("status %d\n%s%s", status, out, errs)
	}
	check("after a reload", "[es] The car is open.", "The + glossary (cached)", "[es] The train is open.", "[es] Nothing of it.")

	if _, errs, status := command(t, filepath.Dir(file), nil, "", "check", "--offline", "--set", "glossaries.house=nowhere.tsv"); status != 1 || !strings.Contains(errs, "glossaries.house: ") {
		t.Errorf("a file that is not there: status %d\n%s", status, errs)
	}
	bad := strings.Replace(string(must(os.ReadFile(file))), "glossary: house}", "glossary: hause}", 1)
	if _, errs, status := command(t, filepath.Dir(file), nil, "", "check", "--offline", "--config", write(t, strings.Replace(bad, "house.csv", terms, 1))); status != 1 || !strings.Contains(errs, `there is no glossary "hause"`) {
		t.Errorf("a model with a glossary that is not there: status %d\n%s", status, errs)
	}
	if all := g.output(); slices.ContainsFunc([]string{"coche", "train is"}, func(s string) bool { return strings.Contains(all, s) }) {
		t.Errorf("the log holds terms or texts:\n%s", all)
	}
}

func must(raw []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return raw
}
