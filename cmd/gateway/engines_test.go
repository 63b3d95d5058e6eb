package gateway

import (
	"fmt"
	"strings"
	"testing"
	"time"
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
