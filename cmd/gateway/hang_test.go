package gateway

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"maps"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A rawUpstream answers requests with what its scripts say, byte by byte, and then
// keeps the connection until the test ends, unless it is told to go on.
type rawUpstream struct {
	base string // with /v1
	ca   string // file, when it speaks TLS

	mu    sync.Mutex
	probe func(net.Conn) (again bool) // answers GET /v1/models/...; nil: usual
	open  []net.Conn
}

// The text of a request says how it is answered: "MODE:name ...".
var answers = map[string]func(c net.Conn){
	"101":               says("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"),
	"101-bare":          says("HTTP/1.1 101 Switching Protocols\r\n\r\n"),
	"101-answer":        says("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n" + usualAnswer),
	"204":               says("HTTP/1.1 204 No Content\r\n\r\n"),
	"205":               says("HTTP/1.1 205 Reset Content\r\n\r\n"),
	"304":               says("HTTP/1.1 304 Not Modified\r\n\r\n"),
	"0.9":               says(`{"choices":[{"message":{"content":"hi"}}]}` + "\n"),
	"nothing":           says(""),
	"half-head":         says("HTTP/1.1 200 OK\r\nContent-Ty"),
	"endless-after":     says("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(usualJSON)),
	"longer-than-said":  says("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9999\r\n\r\n" + usualJSON),
	"trailer":           says("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\nTrailer: X-A\r\n\r\n" + chunked(usualJSON) + "0\r\nX-A: "),
	"endless-error":     says("HTTP/1.1 500 Internal Server Error\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(`{"error":`)),
	"upgrade-on-200":    says(strings.Replace(usualAnswer, "\r\n", "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n", 1)),
	"stream-of-nothing": drips("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n", ": ping\n\n"),
	"1xx-flood":         drips("", "HTTP/1.1 102 Processing\r\n\r\n"),
	"drip":              drips("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9999\r\n\r\n", " "),
}

// The text may also be written back, as it came or as a JSON string.
var echoes = map[string]func(raw, quoted string) string{
	"echo-error": func(_, quoted string) string {
		body := fmt.Sprintf(`{"error":{"message":%s,"type":%[1]s,"code":%[1]s,"param":%[1]s}}`, quoted)
		return fmt.Sprintf("HTTP/1.1 400 Bad Request\r\nContent-Length: %d\r\nX-Request-Id: %s\r\n\r\n%s", len(body), canary, body)
	},
	"echo-word": func(string, string) string {
		body := fmt.Sprintf(`{"error":{"type":%q,"code":%[1]q,"param":%[1]q}}`, canary)
		return fmt.Sprintf("HTTP/1.1 500 %s\r\nContent-Length: %d\r\n\r\n%s", canary, len(body), body)
	},
	"echo-page":    func(raw, _ string) string { return "HTTP/1.1 502 Bad Gateway\r\nConnection: close\r\n\r\n<html>" + raw },
	"echo-raw":     func(raw, _ string) string { return raw + "\r\n\r\n" },
	"echo-unasked": func(raw, _ string) string { return usualAnswer + raw },
}

const canary = "Canarybird"

const usualJSON = `{"id":"x","object":"chat.completion","model":"gpt-5.4-nano","choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":"Hola."}}],"usage":{"prompt_tokens":9,"completion_tokens":3}}`

var usualAnswer = fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(usualJSON), usualJSON)

func chunked(s string) string { return fmt.Sprintf("%x\r\n%s\r\n", len(s), s) }

func says(what string) func(net.Conn) {
	return func(c net.Conn) { io.WriteString(c, what) }
}

// drips says head, and then piece for as long as anybody hears it.
func drips(head, piece string) func(net.Conn) {
	return func(c net.Conn) {
		_, err := io.WriteString(c, head)
		for err == nil {
			time.Sleep(100 * time.Millisecond) // it is that slow
			_, err = io.WriteString(c, piece)
		}
	}
}

func startRaw(t *testing.T, secure bool) *rawUpstream {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	u := &rawUpstream{base: "http://" + listener.Addr().String() + "/v1"}
	if secure {
		u.base = "https" + strings.TrimPrefix(u.base, "http")
		var cert tls.Certificate
		cert, u.ca = authority(t)
		listener = tls.NewListener(listener, &tls.Config{Certificates: []tls.Certificate{cert}})
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			u.mu.Lock()
			u.open = append(u.open, c)
			u.mu.Unlock()
			serving.Go(func() { u.serve(c) })
		}
	})
	t.Cleanup(func() {
		listener.Close()
		u.mu.Lock()
		for _, c := range u.open {
			c.Close()
		}
		u.mu.Unlock()
		serving.Wait()
	})
	return u
}

var mode = regexp.MustCompile(`MODE:([a-z0-9.-]+)`)

func (u *rawUpstream) serve(c net.Conn) {
	in := bufio.NewReader(c)
	for {
		req, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return
		}
		u.mu.Lock()
		probe := u.probe
		u.mu.Unlock()
		m := mode.FindSubmatch(body)
		switch {
		case req.Method == http.MethodGet && probe != nil:
			if !probe(c) {
				io.Copy(io.Discard, in)
				return
			}
		case req.Method == http.MethodGet:
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
		case m != nil:
			name := string(m[1])
			if echo, is := echoes[name]; is {
				text, _ := json.Marshal(string(body))
				io.WriteString(c, echo(string(body), string(text)))
				return
			}
			answers[name](c)
			switch name {
			case "204", "304", "upgrade-on-200":
				continue // these are whole, and the connection goes on
			}
			io.Copy(io.Discard, in) // until the other side has had enough
			return
		default:
			io.WriteString(c, usualAnswer)
		}
	}
}

// asked makes probe answer from now on.
func (u *rawUpstream) answersProbes(probe func(net.Conn) bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.probe = probe
}

// authority returns a certificate for 127.0.0.1 and the file of its authority.
func authority(t *testing.T) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, file
}

// config is a chain with u behind it, and another stage first.
func (u *rawUpstream) config(first, provider string) string {
	ca := ""
	if u.ca != "" {
		ca = ", ca_file: " + u.ca
	}
	return fmt.Sprintf(`version: 1
server: {drain_timeout: 2s}
pool: {mode: pooled%s}
providers:
  openai: {type: openai, base_url: "%s", api_key: test, timeout: 1s}
stages:%s
  - cache
  - ratelimit
  - queue: {min_interval: 0s}
  - provider: %s
  - postprocess
`, ca, u.base, first, provider)
}

// six asks for six texts that are answered so, at the same time, and returns what
// came of them.
func (g *gatewayProcess) six(name string) (statuses []int) {
	var (
		asked sync.WaitGroup
		mu    sync.Mutex
	)
	for i := range 6 {
		asked.Go(func() {
			a := g.ask(fmt.Sprintf("MODE:%s number %d", name, i))
			mu.Lock()
			defer mu.Unlock()
			statuses = append(statuses, a.Status)
		})
	}
	asked.Wait()
	return statuses
}

// next asks for a text that is answered well.
func (g *gatewayProcess) next(text string) {
	g.t.Helper()
	begun := time.Now()
	if a := g.ask(text); a.Status != 200 || time.Since(begun) > 2*time.Second {
		g.t.Errorf("the next text, after %v: %+v", time.Since(begun), a)
	}
	if n := g.metric(`dragoman_queue_in_flight`); n != "0" {
		g.t.Errorf("in flight: %s", n)
	}
}

func TestAfterSixAnswersThatAreNoneTheNextTextIsTranslatedAtOnce(t *testing.T) {
	t.Parallel()
	for kind, secure := range map[string]bool{"plain": false, "secure": true} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			u := startRaw(t, secure)
			g := serveYAML(t, u.config("", "{use: openai}"), nil)
			for _, name := range []string{"101", "101-bare", "101-answer", "204", "205", "304"} {
				begun := time.Now()
				for _, status := range g.six(name) {
					if status != http.StatusBadGateway {
						t.Errorf("%s: status %d", name, status)
					}
				}
				if took := time.Since(begun); took > 3*time.Second {
					t.Errorf("%s: six took %v", name, took)
				}
				g.next("Good morning after " + name)
			}
		})
	}
}

// Whatever an upstream does with six calls, their slots are free when the time of
// an attempt is over.
func TestNoAnswerHoldsASlotForLongerThanItsTime(t *testing.T) {
	t.Parallel()
	for kind, secure := range map[string]bool{"plain": false, "secure": true} {
		// Each takes its second: some gateways share them.
		for part := range slices.Chunk(slices.Sorted(maps.Keys(answers)), 12) {
			t.Run(kind+" from "+part[0], func(t *testing.T) {
				t.Parallel()
				u := startRaw(t, secure)
				g := serveYAML(t, u.config("", "{use: openai, retries: 0, breaker: {failures: 0}}"), nil)
				for _, name := range part {
					begun, good := time.Now(), 0
					for _, status := range g.six(name) {
						if status == http.StatusOK {
							good++
						}
					}
					if took := time.Since(begun); took > 4*time.Second {
						t.Errorf("%s: six took %v", name, took)
					}
					switch name {
					case "upgrade-on-200", "endless-after", "longer-than-said", "trailer":
						if good != 6 { // the answer is whole, only its end is missing
							t.Errorf("%s: %d of 6 were answered", name, good)
						}
					default:
						if good != 0 {
							t.Errorf("%s: %d of 6 were answered", name, good)
						}
					}
					g.next("Good morning after " + name)
				}
			})
		}
	}
}

// serveLazy serves yaml with a gateway that has a stage which never returns from one
// of its calls.
func serveLazy(t *testing.T, yaml string) *gatewayProcess {
	t.Helper()
	file := write(t, yaml)
	g := &gatewayProcess{process: start(t, filepath.Dir(file), nil, filepath.Join(programs, "sloth"), "serve", "--config", file, "--set", "server.listen=127.0.0.1:0")}
	t.Cleanup(func() { g.signal(syscall.SIGKILL) }) // it may be past hearing
	return g
}

func (g *gatewayProcess) ready() *gatewayProcess {
	g.t.Helper()
	g.url = g.see(`at (http://127\.0\.0\.1:\d+)`)
	return g
}

// ends sends SIGTERM and wants the process to have ended drain_timeout, of 2s, and
// a second later.
func (g *gatewayProcess) ends(status int, says string) {
	g.t.Helper()
	begun := time.Now()
	g.signal(syscall.SIGTERM)
	got := g.wait()
	if took := time.Since(begun); took > 3*time.Second {
		g.t.Errorf("ended %v after SIGTERM", took)
	}
	if got != status {
		g.t.Errorf("exit status %d, want %d:\n%s", got, status, g.output())
	}
	if out := g.output(); !strings.Contains(out, says) {
		g.t.Errorf("nothing about %q in:\n%s", says, out)
	}
}

func sloth(at string) string { return "\n  - sloth: {hang: " + at + "}" }

func TestTheProcessEndsInTimeWhateverStillRuns(t *testing.T) {
	t.Parallel()
	t.Run("six answers that are none", func(t *testing.T) {
		t.Parallel()
		u := startRaw(t, false)
		g := serveYAML(t, u.config("", "{use: openai}"), nil)
		g.six("101")
		g.ends(0, "stopped")
	})
	t.Run("six calls under way that are never answered", func(t *testing.T) {
		t.Parallel()
		u := startRaw(t, false)
		g := serveYAML(t, strings.Replace(u.config("", "{use: openai}"), "timeout: 1s", "timeout: 60s", 1), nil)
		for i := range 6 {
			go http.Post(g.url+"/v1/translate", "application/json", strings.NewReader(fmt.Sprintf(`{"text":"MODE:nothing %d","target":"es","deadline_ms":60000}`, i)))
		}
		g.sees(`dragoman_queue_in_flight`, "6")
		g.ends(0, "stopped")
	})
	t.Run("a probe that the upstream never answers", func(t *testing.T) {
		t.Parallel()
		u := startRaw(t, false)
		u.answersProbes(func(net.Conn) bool { return false })
		serveYAML(t, u.config("", "{use: openai}"), nil).ends(0, "stopped")
	})
	t.Run("a start that hangs", func(t *testing.T) {
		t.Parallel()
		u := startRaw(t, false)
		g := serveLazy(t, u.config(sloth("start"), "{use: openai}"))
		g.reaches("start")
		g.ends(1, "stages/sloth: starting")
	})
	t.Run("a build that hangs", func(t *testing.T) {
		t.Parallel()
		u := startRaw(t, false)
		g := serveLazy(t, u.config(sloth("build"), "{use: openai}"))
		g.reaches("build")
		g.ends(1, "building what ")
	})
	for _, at := range []string{"probe", "close"} {
		t.Run("a "+at+" that hangs", func(t *testing.T) {
			t.Parallel()
			u := startRaw(t, false)
			g := serveLazy(t, u.config(sloth(at), "{use: openai}")).ready()
			g.ends(1, "stages/sloth: ")
		})
	}
	t.Run("a probe that hangs in a reload", func(t *testing.T) {
		t.Parallel()
		u := startRaw(t, false)
		g := serveLazy(t, u.config("", "{use: openai}")).ready()
		file := g.cmd.Args[3]
		if err := os.WriteFile(file, []byte(u.config(sloth("probe"), "{use: openai}")), 0o600); err != nil {
			t.Fatal(err)
		}
		go http.Post(g.url+"/admin/reload", "", nil)
		g.reaches("probe")
		g.ends(1, "stages/sloth: probing")
	})
	for name, first := range map[string]string{"with": "", "without": "cache"} {
		t.Run("an endless computation "+name+" the cache", func(t *testing.T) {
			t.Parallel()
			u := startRaw(t, false)
			// It keeps a processor busy until the end, which therefore comes early.
			yaml := strings.Replace(u.config("", "{use: openai}"), "drain_timeout: 2s", "drain_timeout: 200ms", 1)
			if first != "" {
				yaml = strings.Replace(yaml, "  - cache\n", "", 1)
			}
			yaml = strings.Replace(yaml, "  - ratelimit\n", "  - ratelimit"+sloth("translate")+"\n", 1)
			g := serveLazy(t, yaml).ready()
			go http.Post(g.url+"/v1/translate", "application/json", strings.NewReader(`{"text":"endless","target":"es"}`))
			g.reaches("translate")
			g.ends(1, "running")
		})
	}
}

// reaches waits until the sloth hangs there.
func (g *gatewayProcess) reaches(call string) { g.t.Helper(); g.see("sloth hangs at (" + call + ")") }

// sees waits until a metric has that value.
func (g *gatewayProcess) sees(name, value string) {
	g.t.Helper()
	got := ""
	if !comes(func() bool { got = g.metric(name); return got == value }) {
		g.t.Fatalf("%s is %s, want %s", name, got, value)
	}
}

// Every way to reload, behind one that hangs.
func TestNoReloadWaitsBehindOneThatHangs(t *testing.T) {
	t.Parallel()
	u := startRaw(t, false)
	usual := u.config("", "{use: openai}")
	g := serveLazy(t, usual).ready()
	file := g.cmd.Args[3]
	save := func(yaml string) {
		t.Helper()
		err := os.WriteFile(file+".new", []byte(yaml), 0o600)
		if err == nil {
			err = os.Rename(file+".new", file)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	generation := func() string { return g.metric("dragoman_generation") }
	// A second generation, so that there is a previous one.
	save(strings.Replace(usual, "min_interval: 0s", "min_interval: 1ms", 1))
	g.sees("dragoman_generation", "2")
	for _, by := range []string{"file", "SIGHUP", "admin"} {
		was := generation()
		refused := func() int { return strings.Count(g.output(), "stages/sloth: probing has not returned after") }
		before := refused()
		save(u.config(sloth("probe"), "{use: openai}"))
		switch by {
		case "SIGHUP":
			g.signal(syscall.SIGHUP)
		case "admin":
			go http.Post(g.url+"/admin/reload", "", nil)
		}
		// It is refused within seconds, by name.
		asked := time.Now()
		until(t, func() bool { return refused() > before })
		if took := time.Since(asked); took > 20*time.Second {
			t.Errorf("the one by %s was refused after %v", by, took)
		}
		begun := time.Now()
		if a := g.admin("reload?previous=true"); !strings.Contains(a, `"unchanged"`) || !strings.Contains(a, "nothing to undo: the file was refused") {
			t.Errorf("behind one by %s: %s", by, a)
		}
		if a := g.admin("reload?previous=true"); !strings.Contains(a, `"reloaded"`) {
			t.Errorf("behind one by %s, asked again: %s", by, a)
		}
		if took := time.Since(begun); took > 3*time.Second {
			t.Errorf("behind one by %s: took %v", by, took)
		}
		if now := generation(); now == was {
			t.Errorf("generation %s serves, and %s did before", now, was)
		}
		g.next("Good morning behind one by " + by)
		was = generation()
		save(strings.Replace(usual, "min_interval: 0s", "min_interval: "+fmt.Sprint(len(by))+"ms", 1))
		g.signal(syscall.SIGHUP)
		asked = time.Now()
		until(t, func() bool { return generation() != was })
		if took := time.Since(asked); took > 5*time.Second {
			t.Errorf("the reload behind one by %s came after %v", by, took)
		}
	}
	if n := g.metric("dragoman_late_calls"); n == "0" || n == "" {
		t.Errorf("late calls: %q", n)
	}
	g.ends(1, "stages/sloth: probing")
}

// admin posts to the admin door and returns what it says.
func (g *gatewayProcess) admin(call string) string {
	g.t.Helper()
	client := http.Client{Timeout: 15 * time.Second}
	res, err := client.Post(g.url+"/admin/"+call, "", nil)
	if err != nil {
		g.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		g.t.Fatal(err)
	}
	return string(text)
}

// What an upstream does when it is asked how it is.
func TestAReloadIsDoneWithinSecondsWhateverTheProbeMeets(t *testing.T) {
	t.Parallel()
	for name, probe := range map[string]func(net.Conn) bool{
		"101":      func(c net.Conn) bool { answers["101"](c); return false },
		"silence":  func(net.Conn) bool { return false },
		"endless":  func(c net.Conn) bool { answers["stream-of-nothing"](c); return false },
		"1xx":      func(c net.Conn) bool { answers["1xx-flood"](c); return false },
		"0.9":      func(c net.Conn) bool { answers["0.9"](c); return false },
		"an error": func(c net.Conn) bool { answers["endless-error"](c); return false },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := startRaw(t, false)
			usual := u.config("", "{use: openai}")
			g := serveYAML(t, usual, nil)
			u.answersProbes(probe)
			file := g.cmd.Args[3]
			if err := os.WriteFile(file, []byte(strings.Replace(usual, "api_key: test", "api_key: test2", 1)), 0o600); err != nil {
				t.Fatal(err)
			}
			begun := time.Now()
			g.admin("reload")
			if a := g.admin("reload?previous=true"); !strings.Contains(a, `"reloaded"`) {
				t.Errorf("back: %s", a)
			}
			if took := time.Since(begun); took > 13*time.Second {
				t.Errorf("there and back took %v", took)
			}
			g.next("Good morning.")
			g.ends(0, "stopped")
		})
	}
}

// At no level, in no number and in no status.
func TestNoTextIsLoggedWhateverTheUpstreamWritesBack(t *testing.T) {
	t.Parallel()
	u := startRaw(t, false)
	yaml := strings.Replace(u.config("", "{use: openai, breaker: {failures: 0}}"), "server:", "log: {level: debug}\nserver:", 1)
	g := serveYAML(t, yaml, nil)
	for name := range echoes {
		g.ask("MODE:" + name + " " + canary + " sings for John Smith")
	}
	said := g.output()
	for _, path := range []string{"/metrics", "/admin/status", "/readyz"} {
		res, err := http.Get(g.url + path)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		said += string(text)
	}
	for _, word := range []string{canary, strings.ToLower(canary), "MODE:", "sings", "Smith"} {
		if i := strings.Index(said, word); i >= 0 {
			t.Errorf("%q is in %q", word, said[max(0, i-200):min(len(said), i+100)])
		}
	}
	if !strings.Contains(said, "status 400") {
		t.Error("the log tells nothing of the errors at all")
	}
}
