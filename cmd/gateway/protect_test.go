package gateway

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/dragoman-mt/dragoman/stages/openai/openaitest"
)

// TestMarkupSurvivesOnEveryDoorInOneCall is whole sentences for the engine, and every tag in
// its place for the client.
func TestMarkupSurvivesOnEveryDoorInOneCall(t *testing.T) {
	sim, err := openaitest.Start(openaitest.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sim.Close() })
	base := indoors(t, `version: 1
log: {level: error}
providers:
  main: {type: openai, api_key: x, base_url: "`+sim.URL()+`"}
stages:
  - cache
  - provider: {use: main}
  - postprocess
  - protect
`)
	for _, c := range []struct{ name, path, kind, body, want string }{
		{"native, html", "/v1/translate", "application/json", `{"text":"<p>Caf&eacute; &amp; <b>bar</b> are open <!-- x --> now, {name}.</p>","target":"es","format":"html"}`,
			`<p>[es] Café &amp; <b>bar</b> are open <!-- x --> now, {name}.</p>`},
		{"native, xml", "/v1/translate", "application/json", `{"text":"<g id=\"1\">Open <x id=\"2\"/> the</g> file <g id=\"3\">now</g>","target":"es","format":"xml"}`,
			`[es] <g id=\"1\">Open <x id=\"2\"/> the</g> file <g id=\"3\">now</g>`},
		{"native, text", "/v1/translate", "application/json", `{"text":"{{count}} files in <b>%s</b>","target":"es"}`, `[es] {{count}} files in <b>%s</b>`},
		{"native, streamed", "/v1/translate", "application/json", `{"text":"<p>Hello <b>there</b> all</p>","target":"es","format":"html","stream":true}`, `<p>[es] Hello <b>there</b> all</p>`},
		{"deepl", "/v2/translate", "application/x-www-form-urlencoded", `text=Press+%3CKey%3EEsc+now%3C%2FKey%3E+to+%3Cb%3Eleave+it%3C%2Fb%3E&target_lang=ES&tag_handling=xml&ignore_tags=key`,
			`[es] Press <Key>Esc now</Key> to <b>leave it</b>`},
		{"libretranslate", "/translate", "application/json", `{"q":"<p>Read <a href=\"/x\">this page</a> first</p>","source":"en","target":"es","format":"html"}`,
			`<p>[es] Read <a href=\"/x\">this page</a> first</p>`},
	} {
		res, err := http.Post(base+c.path, c.kind, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		raw, err := io.ReadAll(res.Body)
		res.Body.Close()
		if got := strings.NewReplacer(`\u003c`, "<", `\u003e`, ">", `\u0026`, "&").Replace(string(raw)); err != nil || res.StatusCode != 200 || !strings.Contains(got, `"`+c.want+`"`) {
			t.Errorf("%s: %d %s\nwant %s", c.name, res.StatusCode, got, c.want)
		}
	}
	if stats := sim.Stats(); stats.Requests != 6 {
		t.Errorf("%d calls upstream for 6 texts", stats.Requests)
	}
}
