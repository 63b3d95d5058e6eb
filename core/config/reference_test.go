package config

import (
	"fmt"
	"strings"
	"testing"
)

func TestAReferenceOfAnotherProgramIsComplainedOfAndNotSentOn(t *testing.T) {
	spellings := map[string]string{ // as written, as it is right
		`os.environ/MY_KEY`: "MY_KEY", `"os.environ/MY_KEY"`: "MY_KEY", `"os.environ['MY_KEY']"`: "MY_KEY", `os.getenv("MY_KEY")`: "MY_KEY",
		`env.MY_KEY`: "MY_KEY", `"{env.MY_KEY}"`: "MY_KEY", `{env.MY_KEY}`: "MY_KEY", `"{$MY_KEY}"`: "MY_KEY", `{$MY_KEY}`: "MY_KEY", `env:MY_KEY`: "MY_KEY", `"{MY_KEY}"`: "MY_KEY",
		`$MY_KEY`: "MY_KEY", `"$MY_KEY"`: "MY_KEY", `$(MY_KEY)`: "MY_KEY", `$env:MY_KEY`: "MY_KEY", `"%MY_KEY%"`: "MY_KEY",
		`"{{ .MY_KEY }}"`: "MY_KEY", `"{{.Env.MY_KEY}}"`: "MY_KEY", `'{{ env "MY_KEY" }}'`: "MY_KEY", `"{{MY_KEY}}"`: "MY_KEY", `"{{ secrets.MY_KEY }}"`: "MY_KEY",
		`"${{ secrets.MY_KEY }}"`: "MY_KEY", `"${{ env.MY_KEY }}"`: "MY_KEY", `"${env:MY_KEY}"`: "MY_KEY", `process.env.MY_KEY`: "MY_KEY",
		`%MY_KEY%`: "NAME", `{{ .MY_KEY }}`: "NAME", // no YAML without quotes
	}
	for _, file := range []string{
		"providers:\n  p:\n    type: openai\n    api_key: VALUE\nstages: [provider: {use: p}]\n",
		"providers:\n  p:\n    type: openai\n    base_url: VALUE\nstages: [provider: {use: p}]\n",
		"providers:\n  p:\n    type: openai\n    model: VALUE\nstages: [provider: {use: p}]\n",
		"providers:\n  p:\n    type: openai\n    headers:\n      X-Key: VALUE\nstages: [provider: {use: p}]\n",
		"providers: {p: {type: openai}}\npool:\n  proxy: VALUE\nstages: [provider: {use: p}]\n",
		"providers: {p: {type: openai}}\npool:\n  mode: VALUE\nstages: [provider: {use: p}]\n",
		"providers: {p: {type: openai}}\npool:\n  max_connections: VALUE\nstages: [provider: {use: p}]\n",
		"providers: {p: {type: openai}}\npool:\n  idle_timeout: VALUE\nstages: [provider: {use: p}]\n",
		"server:\n  keys:\n    - VALUE\nproviders: {p: {type: openai}}\nstages: [provider: {use: p}]\n",
		"providers: {p: {type: openai}}\nstages:\n  - provider:\n      use: VALUE\n",
		"providers: {p: {type: openai}}\nstages:\n  - provider:\n      use: p\n      fallback:\n        - VALUE\n",
	} {
		before, _, _ := strings.Cut(file, "VALUE")
		lines := strings.Split(before, "\n")
		for written, name := range spellings {
			_, err := loadText(t, strings.Replace(file, "VALUE", written, 1), Options{File: "p.yaml"})
			said := fmt.Sprint(err)
			place := fmt.Sprintf("p.yaml:%d:%d: ", len(lines), len(lines[len(lines)-1])+1)
			if !strings.HasPrefix(said, place) || !strings.Contains(said, "${"+name+"}") || strings.Count(said, "\n") > 0 {
				t.Errorf("%s%s\nis answered with %s, want %s... ${%s}", before, written, said, place, name)
			}
		}
	}
}

func TestAProviderNamedByAVariableThatIsWrittenWronglyIsComplainedOfWithBothWaysToNameIt(t *testing.T) {
	const file = "providers: {p: {type: openai}, q: {type: openai}}\nstages:\n  - provider: {use: USE, fallback: [FALLBACK]}\n"
	for _, c := range []struct{ use, fallback, want string }{
		{"$p", "q", "stages[0].provider.use: names no provider; write p for the one of that name, and ${p} for the one that a variable names"},
		{"p", "$q", "stages[0].provider.fallback[0]: names no provider; write q for the one of that name, and ${q} for the one that a variable names"},
		{"$ENGINE", "q", "stages[0].provider.use: looks like a reference of another program and would be taken as it stands; write ${ENGINE}; a dollar that is meant as one is $$"},
		{"'${ENGINE}'", "q", `stages[0].provider.use: there is no provider "pp", as the variable ENGINE says; `},
		{"p", "'${ENGINE}'", `stages[0].provider.fallback[0]: there is no provider "pp", as the variable ENGINE says; `},
		{"'${NONE}'", "q", "stages[0].provider.use: the variable NONE is not set; set it, or give a default: ${NONE:-...}"},
	} {
		_, err := loadText(t, strings.NewReplacer("USE", c.use, "FALLBACK", c.fallback).Replace(file), Options{File: "p.yaml", LookupEnv: env("ENGINE", "pp")})
		if said := fmt.Sprint(err); !strings.Contains(said, c.want) || strings.Count(said, "\n") > 0 {
			t.Errorf("use: %s, fallback: [%s]: %s, want %s", c.use, c.fallback, said, c.want)
		}
	}
}

func TestWhatOnlyLooksLikeAReferenceIsTakenAsItStands(t *testing.T) {
	for written, want := range map[string]string{
		`"$$MY_KEY"`: "$MY_KEY", `"a $MY_KEY"`: "a $MY_KEY", `"50%"`: "50%", `"%20%20%"`: "%20%20%", `environment`: "environment", `"$5"`: "$5", `"$"`: "$", `"{}"`: "{}", `"{json}"`: "{json}",
		`"${MY_KEY}"`: "$FROM_A_VARIABLE", `env.example.com`: "env.example.com", `sk-$MY_KEY`: "sk-$MY_KEY",
	} {
		f, err := loadText(t, with("pool: {proxy: "+written+"}\n"), Options{LookupEnv: env("MY_KEY", "$FROM_A_VARIABLE")})
		if err != nil {
			t.Errorf("%s: %v", written, err)
			continue
		}
		if got := f.Sections["pool"].(*poolConfig).Proxy; got != want {
			t.Errorf("%s: got %q, want %q", written, got, want)
		}
	}
}

// A password may begin with a dollar: what follows is repeated when it is surely the
// name of a variable.
func TestASecretThatLooksLikeAReferenceIsNotRepeated(t *testing.T) {
	for written, shown := range map[string]bool{`"$hunter2"`: false, `"%hunter2%"`: false, `"${{hunter2}}"`: false, `"{env.hunter2}"`: false, `"$known"`: true} {
		_, err := loadText(t, "providers: {p: {type: openai, api_key: "+written+"}}\nstages: [provider: {use: p}]\n", Options{LookupEnv: env("known", "x")})
		said := fmt.Sprint(err)
		if !strings.Contains(said, "looks like a reference") || strings.Contains(said, "hunter2") || strings.Contains(said, "${known}") != shown {
			t.Errorf("%s: %s", written, said)
		}
	}
}

// What is said of a reference without quotes within { } is true: with quotes it has
// the type that is wanted.
func TestAReferenceInQuotesStandsForANumberWithinBraces(t *testing.T) {
	_, err := loadText(t, with("pool: {max_connections: ${N}}\n"), Options{})
	const advice = `within { } or [ ], quote a reference: "${NAME}"`
	if !strings.Contains(fmt.Sprint(err), advice) {
		t.Fatalf("got %v", err)
	}
	_, quoted, _ := strings.Cut(advice, "a reference: ")
	lookup := env("N", "7", "F", "7.0", "D", "9s", "ON", "true", "WORD", "seven", "VERSION", "1")
	reference := func(name string) string { return strings.Replace(quoted, "NAME", name, 1) }
	for _, written := range []string{reference("N"), reference("F"), reference("NO:-7"), "'${N}'"} {
		f := mustLoad(t, with("pool: {max_connections: "+written+", idle_timeout: "+reference("D")+"}\n"), Options{LookupEnv: lookup})
		if p := f.Sections["pool"].(*poolConfig); p.MaxConnections != 7 || p.IdleTimeout.String() != "9s" {
			t.Errorf("%s: got %+v", written, p)
		}
	}
	f := mustLoad(t, "version: "+reference("VERSION")+"\nproviders: {p: {type: openai}}\nstages: [{cache: {}, enabled: "+reference("OFF:-false")+"}, {provider: {use: p}}]\n", Options{LookupEnv: lookup})
	if f.Stages[0].Enabled {
		t.Error("the stage is enabled")
	}
	for written, want := range map[string]string{
		reference("WORD"): `pool.max_connections: must be a whole number, got "seven"`, reference("ON"): "pool.max_connections: must be a whole number, got true",
		`"7"`: `must be a whole number, got "7"`, `"${N}0"`: `must be a whole number, got "70"`, reference("NO:-"): `must be a whole number, got ""`,
	} {
		_, err := loadText(t, with("pool: {max_connections: "+written+"}\n"), Options{LookupEnv: lookup})
		if !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%s: got %v, want %s", written, err, want)
		}
	}
}

func TestASecretInPlaceOfAKeyIsNotRepeated(t *testing.T) {
	for written, want := range map[string]string{
		"[sk-hunter2: ops]": "p.yaml:1:17: server.keys[0]: holds a key that is none of name, key, sum, role", "[{names: a, key: b}]": "p.yaml:1:18: server.keys[0].names: there is no such key here; did you mean name?",
	} {
		_, err := loadText(t, "server: {keys: "+written+"}\nproviders: {p: {type: openai}}\nstages: [provider: {use: p}]\n", Options{File: "p.yaml"})
		if got := fmt.Sprint(err); got != want {
			t.Errorf("%s: got %s, want %s", written, got, want)
		}
	}
}
