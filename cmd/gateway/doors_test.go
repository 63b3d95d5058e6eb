package gateway

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dragoman-mt/dragoman/core/coretest/property"
	"github.com/dragoman-mt/dragoman/core/door/doortest"
)

const doored = `
version: 1
providers:
  openai: {type: openai, api_key: x, base_url: "${OPENAI_BASE_URL}", model: gpt-5.4-nano, timeout: 9s}
stages:
  - cache
  - ratelimit: {requests_per_minute: 6000}
  - queue: {max_concurrent: 8}
  - provider: {use: openai}
`

// A foreign call is one text as a client of another service sends it, and what it reads.
type foreignCall struct{ door, path, body, read string }

func foreignCalls(text string) []foreignCall {
	return []foreignCall{
		{"libretranslate", "/translate", `{"q":["` + text + `"],"source":"en","target":"es"}`, `{"translatedText":["[es] ` + text + `"]}`},
		{"deepl", "/v2/translate", `{"text":["` + text + `"],"source_lang":"EN","target_lang":"ES"}`, `"text":"[es] ` + text + `"`},
		{"openai", "/v1/chat/completions", `{"model":"translate/en/es","messages":[{"role":"user","content":"` + text + `"}]}`, `"content":"[es] ` + text + `"`},
	}
}

func (c foreignCall) make(url string) (status int, body string, err error) {
	res, err := http.Post(url+c.path, "application/json", strings.NewReader(c.body))
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	return res.StatusCode, string(raw), err
}

// TestNobodyIsSwitchedOffWhileTheUpstreamPauses: for some seconds it answers every
// call with 429. Clients that drop a service for such a status see none, and get their
// texts, where their door's time allows at the first call.
func TestNobodyIsSwitchedOffWhileTheUpstreamPauses(t *testing.T) {
	s := simulate(t)
	g := serveFile(t, write(t, doored), []string{"OPENAI_BASE_URL=" + s.base})
	pause := time.Duration(property.Rounds(20, 6)) * time.Second
	s.configure(`{"faults":{"429-bare":1}}`)
	over := time.AfterFunc(pause, func() { s.configure(`{"faults":{}}`) })
	defer over.Stop()
	deadlines := map[string]time.Duration{"deepl": 4500 * time.Millisecond, "libretranslate": 9500 * time.Millisecond, "openai": 110 * time.Second, "chat": 110 * time.Second}
	var all sync.WaitGroup
	for n := range 3 {
		text := fmt.Sprintf("This is text number %d.", n)
		chat := foreignCall{"chat", "/v1/chat/completions", `{"model":"gpt-4o-mini","messages":[{"role":"system","content":"Translate to Spanish."},{"role":"user","content":"` + text + `\n%%\nAnother."}]}`, text}
		for _, call := range append(foreignCalls(text), chat) {
			all.Go(func() {
				begin := time.Now()
				for try := 1; ; try++ {
					status, body, err := call.make(g.url)
					switch {
					case err != nil:
						t.Errorf("%s: %v", call.door, err)
						return
					case status == 200:
						if !strings.Contains(body, call.read) {
							t.Errorf("%s: %s, want %s", call.door, body, call.read)
						}
						t.Logf("%s: answered at call %d, %s after the first", call.door, try, time.Since(begin).Round(100*time.Millisecond))
						if try > 1 && pause < deadlines[call.door] {
							t.Errorf("%s answered at call %d", call.door, try)
						}
						return
					case pause < deadlines[call.door] || status != 504 || try == 8:
						t.Errorf("%s: %d %s at call %d", call.door, status, body, try)
						return
					}
				}
			})
		}
	}
	if pause == 20*time.Second {
		// The official libraries, which have a patience of their own.
		for name, lib := range map[string]struct{ pack, script, want string }{
			"openai": {"openai@6.9.1", `import OpenAI from 'openai';
				const c = new OpenAI({apiKey: 'any', baseURL: process.env.URL + '/v1'});
				console.log((await c.chat.completions.create({model: 'translate/en/es', messages: [{role: 'user', content: 'From the library.'}]})).choices[0].message.content);`, "[es] From the library."},
			"deepl-node": {"deepl-node@1.27.0", `import * as deepl from 'deepl-node';
				console.log((await new deepl.Translator('any', {serverUrl: process.env.URL}).translateText('From the other.', 'en', 'es')).text);`, "[es] From the other."},
		} {
			all.Go(func() {
				t.Run(name, func(t *testing.T) {
					if got := strings.TrimSpace(doortest.Node(t, []string{lib.pack}, lib.script, "URL="+g.url)); got != lib.want {
						t.Errorf("it printed %q, want %q", got, lib.want)
					}
				})
			})
		}
	}
	all.Wait()
}

// TestACallThatIsRepeatedJoinsTheFirst: DeepL's libraries give up after 5 s and ask
// again, and what their first call began is what answers the second.
func TestACallThatIsRepeatedJoinsTheFirst(t *testing.T) {
	s := simulate(t, "--latency", "6s")
	g := serveFile(t, write(t, doored), []string{"OPENAI_BASE_URL=" + s.base})
	before, _ := s.asked()
	call := foreignCalls("The car is late.")[1]
	if status, body, err := call.make(g.url); err != nil || status != 504 {
		t.Fatalf("the first: %d %s, %v", status, body, err)
	}
	if status, body, err := call.make(g.url); err != nil || status != 200 || !strings.Contains(body, call.read) {
		t.Errorf("the second: %d %s, %v", status, body, err)
	}
	if after, _ := s.asked(); after-before != 1 {
		t.Errorf("%d calls upstream, want 1", after-before)
	}
}

// TestOneTextIsOneForAllDoors: what one door had translated is an answer at the others.
func TestOneTextIsOneForAllDoors(t *testing.T) {
	s := simulate(t)
	g := serveFile(t, write(t, doored), []string{"OPENAI_BASE_URL=" + s.base})
	before, _ := s.asked()
	for _, call := range foreignCalls("The train is late.") {
		if status, body, err := call.make(g.url); err != nil || status != 200 || !strings.Contains(body, call.read) {
			t.Errorf("%s: %d %s, %v", call.door, status, body, err)
		}
	}
	if after, _ := s.asked(); after-before != 1 {
		t.Errorf("%d calls upstream, want 1", after-before)
	}
}

// TestADoorIsClosedAndOpenedWhileTheGatewayRuns
func TestADoorIsClosedAndOpenedWhileTheGatewayRuns(t *testing.T) {
	s := simulate(t)
	file := write(t, doored)
	g := serveFile(t, file, []string{"OPENAI_BASE_URL=" + s.base})
	for i, content := range []string{doored + "doors: {deepl: false, libretranslate: {enabled: false}, openai: false}\n", doored} {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		g.see(fmt.Sprintf(`"?generation"?:? ?%d\b|generation %d`, i+2, i+2))
		for _, call := range foreignCalls("The bus is late.") {
			want := 404
			if i == 1 {
				want = 200
			}
			if status, body, err := call.make(g.url); err != nil || status != want {
				t.Errorf("%s: %d %s, %v; want %d", call.door, status, body, err, want)
			}
		}
	}
}
