package doortest

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// A Browser is a headless Chromium, driven by its DevTools protocol.
type Browser struct {
	t       *testing.T
	ws      *websocket.Conn
	n       int
	session string
	// URLs are what it asked for.
	URLs []string
	// Complaints are errors of scripts, what the console was told of as an error, and what the
	// policy of a page turned down.
	Complaints []string
	// Bytes are those of answers, as they came over the wire, by address: of several answers the most.
	Bytes map[string]int
	// Answers are the statuses of answers by address, of several the last.
	Answers map[string]int

	urls  map[string]string // of what was asked for, by its id
	early map[string]int    // statuses that were told before what was asked for, by its id
}

// OpenBrowser starts one that lives as long as the test.
func OpenBrowser(t *testing.T) *Browser {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("chromium is not installed")
	}
	var address string
	for try := 1; address == ""; try++ {
		if address = launch(t, path); address == "" && try == 3 {
			t.Fatal("chromium does not start")
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	ws.SetReadLimit(-1)
	t.Cleanup(func() { ws.CloseNow() })
	b := &Browser{t: t, ws: ws, Bytes: map[string]int{}, Answers: map[string]int{}, urls: map[string]string{}, early: map[string]int{}}
	var target struct{ TargetID, SessionID string }
	b.do("", "Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	b.do("", "Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &target)
	b.session = target.SessionID
	b.do(b.session, "Network.enable", nil, nil)
	b.do(b.session, "Page.enable", nil, nil)
	b.do(b.session, "Runtime.enable", nil, nil)
	b.do(b.session, "Log.enable", nil, nil)
	b.First(`addEventListener("securitypolicyviolation", e => console.error("policy: " + e.violatedDirective + " " + e.blockedURI + " " + e.sample))`)
	return b
}

// launch starts a chromium that lives as long as the test, and returns where it is driven from; "" when it hangs
// or crashes as it starts, which was seen on a busy machine.
func launch(t *testing.T, path string) (address string) {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.Command(path, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-extensions", "--no-first-run",
		"--disable-background-networking", "--window-size=1000,900", "--user-data-dir="+dir, "--remote-debugging-port=0", "about:blank")
	// Its processes write into the folder as long as they live. All of them hold this output, so to wait for
	// its end is to wait for theirs.
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &said, &said, time.Minute
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		if err := cmd.Wait(); errors.Is(err, exec.ErrWaitDelay) {
			t.Error("a process that chromium has started goes on without it")
		}
		if t.Failed() {
			t.Logf("chromium: %s", said.Bytes()[max(said.Len()-2000, 0):])
		}
	})
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		raw, _ := os.ReadFile(filepath.Join(dir, "DevToolsActivePort"))
		if port, rest, ok := strings.Cut(strings.TrimSpace(string(raw)), "\n"); ok {
			return "ws://127.0.0.1:" + port + rest
		}
	}
	syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	return ""
}

func (b *Browser) do(session, method string, params any, into any) {
	b.t.Helper()
	if err := b.try(session, method, params, into); err != nil {
		b.t.Fatal(err)
	}
}

// try is do, with an error for what the browser did not do.
func (b *Browser) try(session, method string, params any, into any) error {
	b.t.Helper()
	b.n++
	if params == nil {
		params = map[string]any{}
	}
	ask := map[string]any{"id": b.n, "method": method, "params": params}
	if session != "" {
		ask["sessionId"] = session
	}
	raw, err := json.Marshal(ask)
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := b.ws.Write(ctx, websocket.MessageText, raw); err != nil {
		b.t.Fatal(err)
	}
	for {
		_, raw, err := b.ws.Read(ctx)
		if err != nil {
			b.t.Fatalf("%s: %v", method, err)
		}
		var m struct {
			ID     int
			Method string
			Params happened
			Result json.RawMessage
			Error  *struct{ Message string }
		}
		if err := json.Unmarshal(raw, &m); err != nil {
			b.t.Fatal(err)
		}
		b.note(m.Method, &m.Params)
		if m.ID != b.n {
			continue
		}
		if m.Error != nil {
			return fmt.Errorf("%s: %s", method, m.Error.Message)
		}
		if into != nil {
			if err := json.Unmarshal(m.Result, into); err != nil {
				b.t.Fatal(err)
			}
		}
		return nil
	}
}

// happened is what the browser tells by itself, as far as it is listened to.
type happened struct {
	RequestID         string
	Request           struct{ URL string }
	StatusCode        int
	EncodedDataLength float64
	Type              string // of console.error: error
	Args              []struct {
		Value       any
		Description string
	}
	Entry            struct{ Level, Text, URL string }
	ExceptionDetails struct {
		Text      string
		Exception struct{ Description string }
	}
}

func (b *Browser) note(method string, p *happened) {
	complain := func(format string, args ...any) {
		if len(b.Complaints) < 100 {
			b.Complaints = append(b.Complaints, fmt.Sprintf(format, args...))
		}
	}
	switch method {
	case "Network.requestWillBeSent":
		b.URLs = append(b.URLs, p.Request.URL)
		b.urls[p.RequestID] = p.Request.URL
		if status, early := b.early[p.RequestID]; early {
			b.Answers[p.Request.URL] = status
			delete(b.early, p.RequestID)
		}
	case "Network.responseReceivedExtraInfo": // also of what the page may not read
		if url, asked := b.urls[p.RequestID]; asked {
			b.Answers[url] = p.StatusCode
		} else {
			b.early[p.RequestID] = p.StatusCode
		}
	case "Network.loadingFinished":
		b.Bytes[b.urls[p.RequestID]] = max(b.Bytes[b.urls[p.RequestID]], int(p.EncodedDataLength))
	case "Runtime.consoleAPICalled":
		if p.Type == "error" || p.Type == "assert" {
			complain("console: %v", p.Args)
		}
	case "Runtime.exceptionThrown":
		complain("thrown: %s %s", p.ExceptionDetails.Text, p.ExceptionDetails.Exception.Description)
	case "Log.entryAdded":
		if p.Entry.Level == "error" {
			complain("log: %s %s", p.Entry.Text, p.Entry.URL)
		}
	}
}

// Scripts switches the scripts of pages that are opened from now on off and on.
func (b *Browser) Scripts(on bool) {
	b.t.Helper()
	b.do(b.session, "Emulation.setScriptExecutionDisabled", map[string]any{"value": !on}, nil)
}

// Eval runs a script in the page and returns what it comes to.
func (b *Browser) Eval(script string) string {
	b.t.Helper()
	value, err := b.eval(script)
	if err != nil {
		b.t.Fatal(err)
	}
	return value
}

func (b *Browser) eval(script string) (string, error) {
	b.t.Helper()
	var r struct {
		Result           struct{ Value any }
		ExceptionDetails *struct {
			Text      string
			Exception struct{ Description string }
		}
	}
	if err := b.try(b.session, "Runtime.evaluate", map[string]any{"expression": script, "awaitPromise": true, "returnByValue": true, "userGesture": true}, &r); err != nil {
		return "", err
	}
	if e := r.ExceptionDetails; e != nil {
		return "", fmt.Errorf("%s: %s %s", script, e.Text, e.Exception.Description)
	}
	return fmt.Sprint(r.Result.Value), nil
}

// Until waits for a script to come to true, in whatever page is there by then.
func (b *Browser) Until(script string) {
	b.t.Helper()
	for deadline := time.Now().Add(40 * time.Second); ; time.Sleep(30 * time.Millisecond) {
		// It is asked from here: a page that goes away takes its timers along, and one whose scripts
		// are off has none.
		value, err := b.eval(script)
		if err == nil && value == "true" {
			return
		}
		if time.Now().After(deadline) {
			b.t.Fatalf("waited for %s, which is %s, %v: %s", script, value, err, b.Eval(`document.body.innerText`))
		}
	}
}

// Go opens an address, and returns when it is there.
func (b *Browser) Go(url string) {
	b.t.Helper()
	b.do(b.session, "Page.navigate", map[string]any{"url": url}, nil)
	b.Until(`location.href !== "about:blank" && document.readyState === "complete"`)
}

// A Look is how a page is looked at.
type Look struct {
	Name          string
	Width, Height int
	Dark          bool
}

// Looks are those that every page is to look well in.
func Looks() []Look {
	return []Look{{"light", 1000, 900, false}, {"dark", 1000, 900, true}, {"phone", 375, 800, false}, {"phone-dark", 375, 800, true}}
}

// contrast returns the texts whose contrast with what is behind them is below 4.5 (WCAG 2.2
// success criterion 1.4.3), with their colours.
const contrast = `(() => {
  const parse = c => { const n = c.match(/[\d.]+/g).map(Number); return { rgb: n.slice(0, 3), a: n.length > 3 ? n[3] : 1 }; };
  const over = (top, back) => top.rgb.map((v, i) => v * top.a + back[i] * (1 - top.a));
  const lum = rgb => { const [r, g, b] = rgb.map(v => v / 255).map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4); return .2126 * r + .7152 * g + .0722 * b; };
  const behind = e => { if (!e) return [255, 255, 255]; const c = parse(getComputedStyle(e).backgroundColor); return c.a === 1 ? c.rgb : over(c, behind(e.parentElement)); };
  const bad = new Set();
  for (const e of document.querySelectorAll("body *")) {
    if (![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()) || !e.getClientRects().length || e.closest(":disabled")) continue;
    const s = getComputedStyle(e), back = behind(e), c = parse(e instanceof SVGElement ? s.fill : s.color);
    c.a *= Number(s.opacity);
    const [a, b] = [lum(over(c, back)), lum(back)].sort((x, y) => y - x), ratio = (a + .05) / (b + .05);
    if (ratio < 4.5) bad.add(e.tagName + " " + e.textContent.trim().slice(0, 20) + " " + ratio.toFixed(1));
  }
  return [...bad].slice(0, 5).join("; ");
})()`

// see makes the page look like l.
func (b *Browser) see(l Look) {
	b.t.Helper()
	b.do(b.session, "Emulation.setDeviceMetricsOverride", map[string]any{"width": l.Width, "height": l.Height, "deviceScaleFactor": 1, "mobile": l.Width < 500}, nil)
	scheme := "light"
	if l.Dark {
		scheme = "dark"
	}
	b.do(b.session, "Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{{"name": "prefers-color-scheme", "value": scheme}}}, nil)
}

// Picture writes what a window of that size shows into the folder DRAGOMAN_PICTURES, if there is one.
func (b *Browser) Picture(l Look) {
	b.t.Helper()
	if dir := os.Getenv("DRAGOMAN_PICTURES"); dir != "" {
		b.see(l)
		// Drawn anew in that size.
		b.Eval(`new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))`)
		b.shoot(filepath.Join(dir, l.Name+".png"), false)
	}
}

func (b *Browser) shoot(file string, whole bool) {
	b.t.Helper()
	var shot struct{ Data string }
	b.do(b.session, "Page.captureScreenshot", map[string]any{"captureBeyondViewport": whole}, &shot)
	raw, err := base64.StdEncoding.DecodeString(shot.Data)
	if err == nil {
		err = os.WriteFile(file, raw, 0o644)
	}
	if err != nil {
		b.t.Error(err)
	}
}

// LooksWell looks at the page in each of Looks: nothing may be wider than the window, or be
// hardly readable. With DRAGOMAN_PICTURES a picture of each is written into that folder.
func (b *Browser) LooksWell(name string) {
	b.t.Helper()
	for _, l := range Looks() {
		b.see(l)
		if wide := b.Eval(`document.documentElement.scrollWidth - document.documentElement.clientWidth`); wide != "0" {
			b.t.Errorf("%s, %s: the page is %s px wider than the window", name, l.Name, wide)
		}
		if bad := b.Eval(contrast); bad != "" {
			b.t.Errorf("%s, %s: hardly to be read: %s", name, l.Name, bad)
		}
		if dir := os.Getenv("DRAGOMAN_PICTURES"); dir != "" {
			b.shoot(filepath.Join(dir, name+"-"+l.Name+".png"), true)
		}
	}
}

// axe is what looks for what keeps people from using a page.
const axe = "axe-core@4.14.1"

// Accessible fails for each violation of WCAG 2.2 A and AA, and of good practice, that axe-core finds
// in the page, in the light and in the dark.
func (b *Browser) Accessible(name string) {
	b.t.Helper()
	program, err := os.ReadFile(filepath.Join(installed(b.t, []string{axe}), "node_modules/axe-core/axe.min.js"))
	if err != nil {
		b.t.Fatal(err)
	}
	for _, scheme := range []string{"light", "dark"} {
		b.do(b.session, "Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{{"name": "prefers-color-scheme", "value": scheme}}}, nil)
		if b.Eval(`typeof axe`) != "object" {
			b.do(b.session, "Runtime.evaluate", map[string]any{"expression": string(program)}, nil)
		}
		found := b.Eval(`axe.run().then(r => (r.passes.length ? "" : "nothing was checked") + r.violations.map(v => v.id + ": " + v.help + " " + v.nodes.slice(0, 3).map(n => n.html.slice(0, 160)).join(" | ")).join("\n"))`)
		if found != "" {
			b.t.Errorf("%s, %s: %s", name, scheme, found)
		}
	}
}

// Held is what the page holds after everything that nobody needs was thrown away: bytes of its
// scripts, and nodes of its documents.
func (b *Browser) Held() (bytes, nodes int) {
	b.t.Helper()
	b.do(b.session, "HeapProfiler.collectGarbage", nil, nil)
	var heap struct{ UsedSize float64 }
	b.do(b.session, "Runtime.getHeapUsage", nil, &heap)
	var counted struct{ Nodes int }
	b.do(b.session, "Memory.getDOMCounters", nil, &counted)
	return int(heap.UsedSize), counted.Nodes
}

// First runs a script in each page that is opened from now on, before its own.
func (b *Browser) First(script string) {
	b.t.Helper()
	b.do(b.session, "Page.addScriptToEvaluateOnNewDocument", map[string]any{"source": script}, nil)
}

// FirstPaint is how long after it was asked for the page showed something.
func (b *Browser) FirstPaint() time.Duration {
	b.t.Helper()
	b.Until(`performance.getEntriesByName("first-contentful-paint").length === 1`)
	ms, err := strconv.ParseFloat(b.Eval(`performance.getEntriesByName("first-contentful-paint")[0].startTime`), 64)
	if err != nil {
		b.t.Fatal(err)
	}
	return time.Duration(ms * float64(time.Millisecond))
}
