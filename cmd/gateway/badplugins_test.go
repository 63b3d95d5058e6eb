package gateway

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dragoman-mt/dragoman/core/coretest/executable"
	"github.com/dragoman-mt/dragoman/core/coretest/property"
)

// A badPlugin is one way in which a plugin can misbehave, and what comes of it.
// The table in plugins/host/README.md says the same in words.
type badPlugin struct {
	does  string
	extra string // keys of the entry

	by      string // who answers when it is the provider in use; empty for first one and then the other
	state   string // that it comes to as a provider; empty for ready
	says    string // what the log holds then; that it died only if it did
	skipped bool   // as a stage with on_error skip it is tried as well, and passed over
}

var badPlugins = []badPlugin{
	{does: "hangs", by: "openai", state: "degraded", says: "does not answer how it is", skipped: true},
	{does: "hangs-in-calls", by: "openai", says: "the plugin did not answer in time", skipped: true},
	{does: "starts-never", by: "openai", state: "backoff", says: "it did not begin to serve"},
	{does: "noise", by: "openai", state: "backoff", says: "it did not begin to serve"},
	{does: "no-grpc", by: "openai", state: "backoff", says: "died and is started again"},
	{does: "newer", by: "openai", state: "backoff", says: "it speaks version 2 of the protocol, and this gateway version 1", skipped: true},
	{does: "prints", says: `more lines in a second than the 100 that are logged`},
	{does: "prints-over-grpc", says: `more lines in a second than the 100 that are logged`},
	{does: "forks", by: "openai", says: "it ended: exit status 1", skipped: true},
	{does: "grows", extra: ", max_memory: 80MiB", says: "of memory, and max_memory is 80MiB"},
	{does: "forgets", by: "openai", says: "does not know an instance that it was configured with", skipped: true},
	{does: "says-nothing", by: "openai", says: "neither a result nor an error", skipped: true},
	{does: "blank", by: "openai", says: "the plugin answered with nothing", skipped: true},
	{does: "nul", by: "openai", says: "holds a NUL", skipped: true},
	{does: "long", by: "openai", says: "longer than 8 MiB", skipped: true},
	{does: "of-another", by: "openai", says: "a text that it was not asked for"},
	{does: "unavailable", by: "openai", says: "my own upstream is down", skipped: true},
	{does: "cancelled", by: "openai", says: "I have let go", skipped: true},
	{does: "shouts", by: "openai", says: "the plugin failed", skipped: true},
	{does: "refused", by: "openai", says: "says that it is refused", skipped: true},
	{does: "unwell", by: "bad", state: "degraded", says: "answers that it is not well"},
	{does: "needs", extra: ", max_memory: 1MiB", by: "openai", state: "failed", says: "raise max_memory", skipped: true},
	{does: "decorates", by: "bad", says: "not all is taken of what the plugin answers"},
	{does: "escapes", by: "bad"},
	{does: "keeps", by: "bad", skipped: true},
	{does: "blank-after", by: "bad", skipped: true},
	{does: "nul-after", by: "bad", skipped: true},
}

// badProgram is the plugin. Where a test looks for its processes, it runs under a
// name that only that test has.
func badProgram(t *testing.T) string {
	t.Helper()
	property.WithoutRace(t)
	program := filepath.Join(t.TempDir(), "badplugin")
	if err := os.Link(filepath.Join(programs, "badplugin"), program); err != nil {
		t.Fatal(err)
	}
	return program
}

// TestABadPluginCostsItsRequestsNothingAndTheGatewayNothing lets a plugin
// misbehave in every way there is, as the provider in use with a fallback and as
// a stage that may be passed over.
func TestABadPluginCostsItsRequestsNothingAndTheGatewayNothing(t *testing.T) {
	if _, err := os.Stat("/proc/self/status"); err != nil {
		t.Skip("not tested: processes cannot be looked at here")
	}
	built := badProgram(t)
	sim := simulate(t, "--engine", "pseudo")
	for _, bad := range badPlugins {
		// What needs too much memory may answer before it is found to.
		may := func(a answer) bool { return bad.does == "needs" && a.Status == 200 }
		t.Run(bad.does+"/provider", func(t *testing.T) {
			t.Parallel()
			deadline := "2s"
			if bad.by == "bad" || bad.does == "grows" {
				deadline = "30s" // nobody else is to answer, however busy this machine is, but while the plugin starts
			}
			g := startBad(t, sim, built, deadline, "  bad: {type: plugin, command: [PROGRAM, "+bad.does+"]"+bad.extra+"}\n",
				"  - provider: {use: bad, fallback: [openai], breaker: {open_for: 200ms}}\n")
			g.endures(func(a answer) bool { return bad.by == "" || a.Translations[0].Provider == bad.by || may(a) })
			for end := time.Now().Add(60 * time.Second); bad.by == "" && g.ask("Are you done?").Translations[0].Provider != "bad"; {
				if time.Now().After(end) { // it answers when it has printed everything
					t.Fatalf("it does not come to an end:\n%s", last(g.output(), 4000))
				}
				time.Sleep(50 * time.Millisecond) // no event tells of that
			}
			if bad.says != "" {
				g.see(bad.says)
			}
			if bad.state == "" {
				bad.state = "ready"
			}
			g.comesTo(bad.state)
			g.endures(func(a answer) bool { return a.Status == 200 })
			if lives := []string{"", "ready", "degraded"}; slices.Contains(lives, bad.state) && !strings.Contains(bad.says, "it ended") && strings.Contains(g.output(), "the plugin died") {
				t.Error("it is said to have died, and lives")
			}
		})
		if !bad.skipped {
			continue
		}
		t.Run(bad.does+"/stage", func(t *testing.T) {
			t.Parallel()
			g := startBad(t, sim, built, "2s", "", "  - plugin: {command: [PROGRAM, "+bad.does+"], on_error: skip"+bad.extra+"}\n    name: bad\n  - provider: {use: openai}\n")
			g.endures(func(a answer) bool {
				return may(a) || a.Translations[0].Provider == "openai" && strings.Contains(fmt.Sprint(a.Translations[0].Flags), "plugin_skipped")
			})
		})
	}
}

// last returns the end of a long text.
func last(text string, n int) string { return text[max(len(text)-n, 0):] }

// A badGateway runs beside a bad plugin.
type badGateway struct {
	*gatewayProcess
	program string
	before  int // the most memory that the gateway had held before the first request, in bytes
	asked   int
}

func startBad(t *testing.T, sim *simulator, built, deadline, provider, stages string) *badGateway {
	t.Helper()
	b := &badGateway{program: filepath.Join(t.TempDir(), "badplugin")}
	if err := os.Link(built, b.program); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // after the gateway's end, which is registered later
		if left := running(b.program); len(left) > 0 {
			t.Errorf("after the gateway's end there are still %v", left)
		}
	})
	b.gatewayProcess = serveYAML(t, `version: 1
log: {level: debug}
server: {deadline: `+deadline+`}
providers:
  openai: {type: openai, base_url: "`+sim.base+`", api_key: test}
`+strings.ReplaceAll(provider+"stages:\n"+stages, "PROGRAM", b.program), nil)
	b.before = b.peak()
	return b
}

// endures asks for some texts: each is answered, as it should be, and the gateway
// holds no more than a bit more memory for it.
func (b *badGateway) endures(should func(answer) bool) {
	b.t.Helper()
	for range 8 {
		b.asked++
		a := b.ask(fmt.Sprintf("Bus number %d leaves now.", b.asked))
		if got, want := a.text(b.t), fmt.Sprintf("[es] Bus number %d leaves now.", b.asked); got != want {
			b.t.Errorf("got %q, want %q", got, want)
		}
		if !should(a) {
			b.t.Errorf("%+v", a)
		}
	}
	more := b.peak() - b.before
	b.t.Logf("the gateway has grown by %.1f MB", float64(more)/(1<<20))
	if more > 64<<20 { // of which most is garbage that heap.go allows: what decorates says unpacks to 15 MB a text
		b.t.Error("that is too much")
	}
}

// comesTo waits until the plugin is in a state.
func (b *badGateway) comesTo(want string) {
	b.t.Helper()
	state := ""
	if !comes(func() bool {
		var status struct {
			Plugins []struct{ Program, State string }
		}
		get(b.t, http.DefaultClient, b.url+"/admin/status", &status)
		if len(status.Plugins) != 1 || status.Plugins[0].Program != "badplugin" {
			b.t.Fatalf("/admin/status: %+v", status)
		}
		state = status.Plugins[0].State
		return state == want || want == "backoff" && state == "failed"
	}) {
		b.t.Errorf("it is %s and never came to %s", state, want)
	}
}

// peak is the most memory that the gateway has held, in bytes.
func (b *badGateway) peak() int {
	b.t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", b.cmd.Process.Pid))
	if err != nil {
		b.t.Fatal(err)
	}
	_, rest, _ := bytes.Cut(raw, []byte("VmHWM:"))
	kilobytes, err := strconv.Atoi(string(bytes.Fields(rest)[0]))
	if err != nil {
		b.t.Fatal(err)
	}
	return kilobytes << 10
}

// running returns the processes of a program, those that it has started itself
// included.
func running(program string) (pids []int) {
	all, _ := filepath.Glob("/proc/[0-9]*")
	for _, name := range all {
		raw, _ := os.ReadFile(name + "/cmdline") // empty of one that has ended
		if bytes.HasPrefix(raw, append([]byte(program), 0)) {
			pid, _ := strconv.Atoi(filepath.Base(name))
			pids = append(pids, pid)
		}
	}
	return pids
}

// TestAPluginThatTalksWithoutEndIsCutOff is about deltas: once one has left, no
// other provider may answer; what says nothing has not left.
func TestAPluginThatTalksWithoutEndIsCutOff(t *testing.T) {
	sim := simulate(t, "--engine", "pseudo")
	for does, want := range map[string]string{"talks": `"provider_failed"`, "mumbles": `"provider":"openai"`} {
		t.Run(does, func(t *testing.T) {
			t.Parallel()
			g := startBad(t, sim, badProgram(t), "2s", "  bad: {type: plugin, command: [PROGRAM, "+does+"]}\n", "  - provider: {use: bad, fallback: [openai]}\n")
			for range 3 {
				body, _ := json.Marshal(map[string]any{"text": "Who is there?", "source": "en", "target": "es", "stream": true})
				res, err := http.Post(g.url+"/v1/translate", "application/json", bytes.NewReader(body))
				if err != nil {
					t.Fatal(err)
				}
				var all bytes.Buffer
				n, err := all.ReadFrom(res.Body)
				res.Body.Close()
				if err != nil || n > 16<<20 || !strings.Contains(all.String()[max(all.Len()-1000, 0):], want) {
					t.Errorf("%d bytes, %v, and its end: %s", n, err, all.String()[max(all.Len()-300, 0):])
				}
			}
			g.comesTo("ready")
			g.endures(func(a answer) bool { return a.Status == 200 })
		})
	}
}

// TestAPluginThatHasBecomeAnotherFileIsNotStarted changes the file of a plugin
// that has a checksum, and kills its process.
func TestAPluginThatHasBecomeAnotherFileIsNotStarted(t *testing.T) {
	t.Parallel() // it is given up after 12 s of trying
	built := badProgram(t)
	raw, err := os.ReadFile(built)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(raw)
	sim := simulate(t, "--engine", "pseudo")
	g := startBad(t, sim, built, "30s", "  bad: {type: plugin, command: [PROGRAM, nothing], sha256: {PROGRAM: '"+hex.EncodeToString(sum[:])+"'}}\n",
		"  - provider: {use: bad, fallback: [openai]}\n")
	g.endures(func(a answer) bool { return a.Translations[0].Provider == "bad" })
	other := g.program + "~"
	executable.Write(t, other, string(raw)+"\x00")
	if err := os.Rename(other, g.program); err != nil {
		t.Fatal(err)
	}
	for _, pid := range running(g.program) {
		syscall.Kill(pid, syscall.SIGKILL)
	}
	g.see("is another file than sha256 says")
	g.endures(func(a answer) bool { return a.Translations[0].Provider == "openai" })
	g.comesTo("failed")
	if left := running(g.program); len(left) > 0 {
		t.Errorf("it was started: %v", left)
	}
	g.endures(func(a answer) bool { return a.Translations[0].Provider == "openai" })
}

// TestCheckFindsAPluginThatServeWouldRefuse is about what only the plugin knows.
func TestCheckFindsAPluginThatServeWouldRefuse(t *testing.T) {
	t.Parallel()
	built := badProgram(t)
	sim := simulate(t, "--engine", "pseudo")
	for name, chain := range map[string]string{
		"a stage":    "  openai: {type: openai, base_url: " + sim.base + ", api_key: test}\nstages:\n  - plugin: {command: [PROGRAM, DOES]}\n    name: bad\n  - provider: {use: openai}\n",
		"a provider": "  bad: {type: plugin, command: [PROGRAM, DOES]}\nstages:\n  - provider: {use: bad}\n",
	} {
		for does, want := range map[string]string{"refuses": "the model is not there", "knows-everything": "languages that cannot be taken", "nothing": ""} {
			if does == "knows-everything" && name == "a stage" {
				continue
			}
			file := write(t, "version: 1\nproviders:\n"+strings.NewReplacer("PROGRAM", built, "DOES", does).Replace(chain))
			for which, args := range map[string][]string{"check": {"check"}, "serve": {"serve", "--set", "server.listen=127.0.0.1:0"}} {
				if does == "nothing" && which == "serve" {
					continue
				}
				_, errs, status := command(t, filepath.Dir(file), nil, "", args...)
				if (status == 0) != (want == "") || !strings.Contains(errs, want) || want != "" && !regexp.MustCompile(`pipeline\.yaml:\d+:\d+: (providers\.bad|stages\[0\])`).MatchString(errs) {
					t.Errorf("%s that does %s, %s: status %d, %s", name, does, which, status, errs)
				}
			}
			if _, errs, status := command(t, filepath.Dir(file), nil, "", "check", "--offline"); status != 0 {
				t.Errorf("%s that does %s, check --offline: status %d, %s", name, does, status, errs)
			}
		}
	}
	if left := running(built); len(left) > 0 {
		t.Errorf("check has left %v", left)
	}
}
