package gateway

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/dragoman-mt/dragoman/core/exchange/exchangetest"
)

// TestAGatewayIsAnUpstreamOfAnother: its doors for DeepL's and LibreTranslate's clients
// are servers that the providers of these kinds were not written with.
func TestAGatewayIsAnUpstreamOfAnother(t *testing.T) {
	s := simulate(t)
	behind := serveFile(t, write(t, doored), []string{"OPENAI_BASE_URL=" + s.base})
	for _, kind := range []string{"deepl", "libretranslate"} {
		t.Run(kind, func(t *testing.T) {
			front := serveFile(t, write(t, fmt.Sprintf(`
version: 1
providers:
  engine: {type: %s, base_url: "%s"}
stages:
  - provider: {use: engine}
`, kind, behind.url)), nil)
			for _, call := range foreignCalls("The " + kind + " is \u00fcber 5 < 6 & fine.") {
				if status, body, err := call.make(front.url); err != nil || status != 200 || !strings.Contains(strings.NewReplacer(`\u003c`, "<", `\u0026`, "&").Replace(body), call.read) {
					t.Errorf("%s: %d %s, %v", call.door, status, body, err)
				}
			}
			// The source is found by one of both.
			status, body, err := foreignCall{path: "/v2/translate", body: `{"text":["Guten Morgen, wie geht es Ihnen heute?"],"target_lang":"ES"}`}.make(front.url)
			if err != nil || status != 200 || !strings.Contains(body, `"detected_source_language":"DE"`) {
				t.Errorf("%d %s, %v", status, body, err)
			}
			// What the one behind refuses for its upstream is a failure of this one's, soon.
			s.configure(`{"faults":{"insufficient_quota":1}}`)
			defer s.configure(`{"faults":{}}`)
			begun := time.Now()
			if status, body, _ := foreignCalls("Another text.")[0].make(front.url); status == 200 || time.Since(begun) > 9*time.Second {
				t.Errorf("%d %s after %v", status, body, time.Since(begun))
			}
		})
	}
}

// TestFiftyTextsOfACallAreOneCallOfTheEngine, through the whole chain and with fewer
// slots than texts.
func TestFiftyTextsOfACallAreOneCallOfTheEngine(t *testing.T) {
	for kind, engine := range map[string]struct {
		server *exchangetest.Server
		path   string
	}{
		"deepl": {exchangetest.DeepL(t), "/v2/translate"}, "libretranslate": {exchangetest.LibreTranslate(t), "/translate"},
		"google": {exchangetest.Google(t), "/language/translate/v2"}, "azure": {exchangetest.Azure(t), "/translate"},
	} {
		t.Run(kind, func(t *testing.T) {
			more := ""
			if kind == "azure" {
				more = ", region: westeurope"
			}
			g := serveFile(t, write(t, fmt.Sprintf(`
version: 1
providers:
  engine: {type: %s, base_url: "%s", api_key: %s%s}
stages:
  - cache
  - ratelimit: {requests_per_minute: 6000}
  - queue: {max_concurrent: 2}
  - provider: {use: engine}
  - postprocess
`, kind, engine.server.URL, exchangetest.Key, more)), nil)
			translated := func(first int) {
				t.Helper()
				var texts []string
				for i := range 50 {
					texts = append(texts, fmt.Sprintf("This is the text with number %d.", first+i))
				}
				body, _ := json.Marshal(map[string]any{"text": texts, "source_lang": "EN", "target_lang": "ES"})
				status, answer, err := foreignCall{path: "/v2/translate", body: string(body)}.make(g.url)
				if err != nil || status != 200 {
					t.Fatalf("%d %s, %v", status, answer, err)
				}
				var said struct{ Translations []struct{ Text string } }
				if err := json.Unmarshal([]byte(answer), &said); err != nil || len(said.Translations) != 50 {
					t.Fatalf("%v: %s", err, answer)
				}
				for i, one := range said.Translations {
					if one.Text != "[es] "+texts[i] {
						t.Errorf("%d: %q", i, one.Text)
					}
				}
			}
			texts := func() (n, calls int) {
				for _, call := range engine.server.Calls(engine.path) {
					if in := strings.Count(call.Body, "number"); in > 0 { // no knock
						n, calls = n+in, calls+1
					}
				}
				return n, calls
			}
			translated(0)
			if n, calls := texts(); n != 50 || calls != 1 {
				t.Errorf("%d texts in %d calls", n, calls)
			}
			translated(25) // half of them are known
			if n, calls := texts(); n != 25 || calls != 1 {
				t.Errorf("%d texts in %d calls", n, calls)
			}
		})
	}
}
