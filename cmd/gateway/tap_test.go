package gateway

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
	"unicode"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dragoman-mt/dragoman/core/chain"
	"github.com/dragoman-mt/dragoman/core/door/admin"
	"github.com/dragoman-mt/dragoman/stages/openai/openaitest"
)

func recorded(t testing.TB) []byte {
	t.Helper()
	raw, err := os.ReadFile("testdata/tap.ndjson")
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// The stream was recorded from a gateway whose provider fails and hangs now and
// then; its last lines were added.
func TestATapIsReadableInATerminal(t *testing.T) {
	for name, columns := range map[string]int{"tap_80.txt": 80, "tap_120.txt": 120, "tap_file.txt": 0} {
		var out, errs bytes.Buffer
		p := &tapTable{out: &out, columns: columns, colour: columns == 120, zone: time.UTC}
		last, err := readTap(bytes.NewReader(recorded(t)), p, time.NewTimer(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		summarize(&errs, last, 6400*time.Millisecond)
		golden(t, name, out.String()+errs.String())
		for line := range strings.Lines(out.String()) {
			if strings.HasPrefix(line, "    ") || columns == 0 {
				continue // a text, which may wrap
			}
			line = strings.NewReplacer("\x1b[31m", "", "\x1b[0m", "").Replace(line)
			if n := len([]rune(strings.TrimSuffix(line, "\n"))); n > columns {
				t.Errorf("%d columns in a terminal of %d: %s", n, columns, line)
			}
		}
	}
}

func TestATapPrintsItsLinesOfJSONAsTheyCame(t *testing.T) {
	var out bytes.Buffer
	if _, err := readTap(bytes.NewReader(recorded(t)), rawLines{&out}, time.NewTimer(time.Hour)); err != nil || !bytes.Equal(out.Bytes(), recorded(t)) {
		t.Errorf("%v, %d bytes of %d", err, out.Len(), len(recorded(t)))
	}
}

func TestATapThatBreaksOffFails(t *testing.T) {
	const passing = `{"time":"2026-11-23T22:13:05Z","request":"1","stage":"cache","target":"es","lane":"final","outcome":"went_on"}` + "\n"
	for stream, want := range map[string]string{
		"":                                "the connection to the gateway ended",
		passing:                           "the connection to the gateway ended",
		passing[:40]:                      "cannot be understood",
		passing + "<html>\n":              "cannot be understood",
		"{}\n":                            "neither a passing nor a tally",
		strings.Repeat(" ", 1<<17) + "{}": "token too long",
	} {
		if _, err := readTap(strings.NewReader(stream), rawLines{io.Discard}, time.NewTimer(time.Hour)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: %v, want %q", stream, err, want)
		}
	}
}

func TestATapGivesUpAGatewayThatSaysNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer far.Close()
		client, err := newAdminClient("http://127.0.0.1:8080", "")
		if err != nil {
			t.Fatal(err)
		}
		client.http.Transport = &http.Transport{
			DisableKeepAlives: true, DialContext: func(context.Context, string, string) (net.Conn, error) { return near, nil },
		}
		go func() {
			if _, err := http.ReadRequest(bufio.NewReader(far)); err == nil {
				io.WriteString(far, "HTTP/1.1 200 OK\r\n\r\n"+`{"tally":{"seen":7}}`+"\n")
				time.Sleep(silence - time.Second)
				io.WriteString(far, `{"tally":{"seen":8}}`+"\n")
			}
		}()
		var errs bytes.Buffer
		begin := time.Now()
		err = tap(t.Context(), client, nil, &tapTable{out: io.Discard}, &errs)
		if took := time.Since(begin); err != errSilent || took != 2*silence-time.Second {
			t.Errorf("after %v: %v", took, err)
		}
	})
}

// FuzzTapLine reads what a gateway, or whatever listens in its place, may send.
// What is printed of it moves no cursor.
func FuzzTapLine(f *testing.F) {
	for line := range bytes.Lines(recorded(f)) {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		line, err := parseTapLine(raw)
		if err != nil {
			if strings.ContainsFunc(err.Error(), func(r rune) bool { return unicode.IsControl(r) }) {
				t.Errorf("the error has a control character: %q", err)
			}
			return
		}
		var out bytes.Buffer
		p := &tapTable{out: &out, columns: 80, zone: time.UTC, headed: true}
		if err := p.print(raw, line); err != nil {
			t.Fatal(err)
		}
		lines := 0
		for text := range strings.Lines(out.String()) {
			lines++
			if strings.ContainsFunc(strings.TrimSuffix(text, "\n"), func(r rune) bool { return !unicode.IsGraphic(r) }) {
				t.Errorf("printed: %q", text)
			}
		}
		if lines > 3 {
			t.Errorf("%d lines: %q", lines, out.String())
		}
		summarize(&out, admin.TapTally{}, 0)
	})
}

// tapProcess runs `dragoman tap` against g.
func tapProcess(t *testing.T, g *gatewayProcess, args ...string) *process {
	t.Helper()
	p := start(t, t.TempDir(), nil, programs+"/dragoman", append([]string{"tap", "--json", "--url", g.url}, args...)...)
	p.see(`("tally")`) // the tap is open
	return p
}

// passings returns what a tap has shown.
func passings(t *testing.T, output string) (all []admin.TapLine) {
	t.Helper()
	for line := range strings.Lines(output) {
		if !strings.HasPrefix(line, "{") {
			continue
		}
		var l admin.TapLine
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if l.Tally == nil {
			all = append(all, l)
		}
	}
	return all
}

func TestATapDuringLoadShowsItsStageAndItsSessionAndNoTexts(t *testing.T) {
	s := simulate(t)
	g := serveYAML(t, pipeline(s, "pooled", ""), nil)
	stage := tapProcess(t, g, "--stage", "providers/openai", "--limit", "40")
	session := tapProcess(t, g, "--session", "stage-left", "--texts", "--stage", "cache", "--limit", "1")
	whole := tapProcess(t, g)
	if got := g.texts(40); len(got) != 40 {
		t.Fatalf("%d answers", len(got))
	}
	g.post(`{"text":"The curtain rises.","source":"en","target":"es","session":"stage-left"}`)

	if status := stage.wait(); status != 0 || !strings.Contains(stage.output(), "40 shown in ") {
		t.Errorf("status %d:\n%s", status, stage.output())
	}
	ids := map[string]bool{}
	for _, p := range passings(t, stage.output()) {
		ids[p.Request] = true
		if p.Stage != "providers/openai" || p.Outcome != "answered" || p.Attempt != "first" || p.Source != "en" || p.Target != "es" || p.In < 30 || p.Out < 30 || p.TotalMS <= 0 {
			t.Errorf("%+v", p)
		}
	}
	if len(ids) != 40 {
		t.Errorf("%d different requests were shown, want 40", len(ids))
	}
	whole.see(`(stage-left","stage":"cache")`) // the last that passed
	for _, p := range []*process{stage, whole} {
		for _, word := range []string{"Train", "platform", "curtain"} {
			if strings.Contains(p.output(), word) {
				t.Errorf("%q of a text is in a tap without texts:\n%s", word, p.output())
			}
		}
	}

	if status := session.wait(); status != 0 {
		t.Errorf("status %d", status)
	}
	if got := passings(t, session.output()); len(got) != 1 || got[0].Session != "stage-left" || got[0].TextIn != "The curtain rises." || got[0].TextOut != "[es] The curtain rises." {
		t.Errorf("%+v", got)
	}
	if strings.Count(g.output(), "somebody taps texts") != 1 || strings.Contains(g.output(), "curtain") {
		t.Errorf("the gateway's log: %s", g.output())
	}

	whole.signal(syscall.SIGINT)
	if status := whole.wait(); status != 0 || !strings.Contains(whole.output(), "shown in ") {
		t.Errorf("after Ctrl-C: status %d:\n%s", status, whole.output())
	}
}

// A stop does not wait for those who look, and they are told.
func TestAGatewayThatStopsEndsItsTaps(t *testing.T) {
	s := simulate(t)
	g := serveYAML(t, pipeline(s, "pooled", ""), nil, "--set", "server.admin=127.0.0.1:0")
	own := g.see(`status at (http://127\.0\.0\.1:\d+)`)
	_, errs, status := commandHere(t, t.TempDir(), nil, "", "tap", "--url", g.url)
	if status != 1 || !strings.Contains(errs, "is the admin door at another address (server.admin)") {
		t.Errorf("on the public listener: status %d, %s", status, errs)
	}
	tap := tapProcess(t, &gatewayProcess{process: g.process, url: own})
	g.signal(syscall.SIGTERM)
	if status := tap.wait(); status != 0 || !strings.Contains(tap.output(), "; the gateway is stopping\n") {
		t.Errorf("status %d:\n%s", status, tap.output())
	}
	if status := g.wait(); status != 0 {
		t.Errorf("the gateway: status %d:\n%s", status, g.output())
	}
}

func TestATapThatCannotBeOpenedSaysWhy(t *testing.T) {
	s := simulate(t)
	g := serveYAML(t, pipeline(s, "pooled", ""), nil)
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody.Close()
	free := "http://" + nobody.Addr().String()
	for _, c := range []struct {
		args   []string
		status int
		want   string
	}{
		{[]string{"--url", free}, 1, "no gateway answers at " + free + "; is it running?\n"},
		{[]string{"--url", g.url, "--stage", "cash"}, 1, `there is no stage "cash"; there are cache, ratelimit, queue, provider, postprocess, providers/openai` + "\n"},
		{[]string{"--url", strings.TrimSuffix(s.base, "/v1")}, 1, "not as a gateway would"},
		{[]string{"--url", "localhost:8080"}, 2, "write one such as http://127.0.0.1:8080"},
		{[]string{"--url", g.url, "--limit", "0"}, 2, "--limit: 0 is too small"},
		{[]string{"--stages", "cache"}, 2, "dragoman tap --help"},
	} {
		out, errs, status := commandHere(t, t.TempDir(), nil, "", append([]string{"tap"}, c.args...)...)
		if status != c.status || out != "" || !strings.Contains(errs, c.want) || strings.Count(errs, "\n") != 1 {
			t.Errorf("%v: status %d, %q, %q, want %q", c.args, status, out, errs, c.want)
		}
	}
	for range 4 {
		tapProcess(t, g)
	}
	if _, errs, status := commandHere(t, t.TempDir(), nil, "", "tap", "--url", g.url); status != 1 || !strings.Contains(errs, "4 taps are open, which is the most at once; end one of them first") {
		t.Errorf("a fifth: status %d, %s", status, errs)
	}
}

func TestATapOfAGatewayWithKeysNeedsOne(t *testing.T) {
	s := simulate(t)
	g := serveYAML(t, "server: {keys: [the-key-of-a-client, {name: ops, key: the-key, role: operate}]}\n"+pipeline(s, "pooled", ""), nil)
	for key, want := range map[string]string{
		"":                    "set DRAGOMAN_KEY, or --key, to one of server.keys with the role operate",
		"another":             "DRAGOMAN_KEY, or --key, is another",
		"the-key-of-a-client": "the key may translate and not operate",
	} {
		if _, errs, status := commandHere(t, t.TempDir(), []string{"DRAGOMAN_KEY=" + key}, "", "tap", "--url", g.url); status != 1 || !strings.Contains(errs, want) {
			t.Errorf("key %q: status %d, %s", key, status, errs)
		}
	}
	p := start(t, t.TempDir(), []string{"DRAGOMAN_KEY=the-key"}, programs+"/dragoman", "tap", "--json", "--url", g.url)
	p.see(`("tally")`)
	p.signal(syscall.SIGINT)
	if status := p.wait(); status != 0 {
		t.Errorf("status %d: %s", status, p.output())
	}
}

// tappedInside serves the admin door of a gateway in this process, whose taps come
// over the channel.
func tappedInside(t *testing.T) (*inside, *adminClient, <-chan *chain.Tap) {
	in := newInside(t, openaitest.Config{}, small)
	taps := make(chan *chain.Tap, chain.MaxTaps)
	open := func(f chain.Filter) (*chain.Tap, error) {
		tap, err := in.engine.Tap(f)
		if err == nil {
			taps <- tap
		}
		return tap, err
	}
	server := httptest.NewUnstartedServer(admin.New(admin.Options{Gatherer: prometheus.NewRegistry(), Tap: open, Log: in.log}))
	server.Config.ConnState = func(c net.Conn, state http.ConnState) {
		if state == http.StateNew {
			c.(*net.TCPConn).SetWriteBuffer(4096) // so that one who does not read is noticed soon
		}
	}
	server.Start()
	t.Cleanup(server.Close) // waits for what it serves; afterwards nothing is left (see newInside)
	client, err := newAdminClient(server.URL, "")
	if err != nil {
		t.Fatal(err)
	}
	return in, client, taps
}

// Somebody asks for everything and reads nothing, over a real socket: every
// request is answered, and who reads at last is told how many were dropped.
func TestATapThatIsNotReadDelaysNoRequest(t *testing.T) {
	in, client, taps := tappedInside(t)
	res, err := client.get(t.Context(), "/admin/tap", map[string][]string{"texts": {"1"}})
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text := strings.Repeat("🚂", 1500) // 4 bytes each: fills what the sockets hold
	if a, _, err := in.ask(t.Context(), text); err != nil || a.Status != 200 {
		t.Fatalf("%+v, %v", a, err)
	}
	// No longer than is needed: one who reads nothing for door.Patience is cut off.
	tap := <-taps
	var all sync.WaitGroup
	var asked atomic.Int64
	for range 8 {
		all.Go(func() {
			for tap.Tally().Dropped == 0 {
				if asked.Add(1) > 10_000 {
					t.Error("what is not read is never dropped")
					return
				}
				if a, _, err := in.ask(t.Context(), text); err != nil || a.Status != 200 || !a.Translations[0].Cached {
					t.Errorf("%+v, %v", a, err)
					return
				}
			}
		})
	}
	all.Wait()
	lines := bufio.NewScanner(res.Body)
	lines.Buffer(nil, maxTapLine)
	for lines.Scan() {
		line, err := parseTapLine(lines.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		if line.Tally != nil && line.Tally.Dropped > 0 {
			if line.Tally.Seen < asked.Load() {
				t.Errorf("%+v", line.Tally)
			}
			return
		}
	}
	t.Errorf("the stream ended without a word of what was dropped: %v", lines.Err())
}

// Taps that come and go while texts pass leave nothing behind: newInside looks.
func TestTapsLeaveNothingBehind(t *testing.T) {
	in, client, taps := tappedInside(t)
	for i := range 8 {
		ctx, end := context.WithCancel(t.Context())
		reader, writer := io.Pipe()
		ended := make(chan error, 1)
		go func() { ended <- tap(ctx, client, nil, rawLines{writer}, io.Discard); writer.Close() }()
		lines := bufio.NewReader(reader)
		if _, err := lines.ReadString('\n'); err != nil { // it is open
			t.Fatal(err)
		}
		<-taps
		go in.ask(t.Context(), fmt.Sprint("Train number ", i, " leaves."))
		// What left the last stages of the text before may come first.
		for line := ""; !strings.Contains(line, `"stage":"providers/openai"`); {
			var err error
			if line, err = lines.ReadString('\n'); err != nil {
				t.Fatal(err)
			}
		}
		end()
		io.Copy(io.Discard, lines)
		if err := receive(t, ended); err != nil {
			t.Errorf("after Ctrl-C: %v", err)
		}
	}
}
