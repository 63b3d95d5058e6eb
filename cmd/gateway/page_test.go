package gateway

import (
	"testing"

	"github.com/dragoman-mt/dragoman/core/door/doortest"
	"github.com/dragoman-mt/dragoman/stages/openai/openaitest"
)

// operated is a gateway with some past: texts that were translated, were in the cache, failed
// and fell over.
func operated(t *testing.T, server string) *gatewayProcess {
	t.Helper()
	main, spare := upstream(t, openaitest.Config{}), upstream(t, openaitest.Config{})
	return serveYAML(t, `version: 1
server: {`+server+`}
providers:
  main: {type: openai, base_url: "`+main.URL()+`", api_key: test, price: {currency: EUR, input: 0.05, output: 0.4}}
  spare: {type: openai, base_url: "`+spare.URL()+`", api_key: test}
stages: [cache, {ratelimit: {requests_per_minute: 4500}}, {queue: {max_concurrent: 6}}, {provider: {use: main, fallback: [spare]}}, postprocess, protect]
`, nil)
}

func TestThePageShowsTheStatusWithAndWithoutScripts(t *testing.T) {
	g := operated(t, "")
	for range 3 {
		g.ask("Good evening.").text(t)
	}
	b := doortest.OpenBrowser(t)
	b.Scripts(false)
	b.Go(g.url + "/")
	b.LooksWell("page-plain")
	b.Scripts(true)
	b.Go(g.url + "/")
	b.Until(`document.querySelectorAll(".uplot").length === 3`)
	b.LooksWell("page-status")
	for _, c := range b.Complaints {
		t.Error(c)
	}
}
