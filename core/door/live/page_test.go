package live

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
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/dragoman-mt/dragoman/core/door"
)

// A browser is a headless Chromium, driven by its DevTools protocol.
type browser struct {
	t       *testing.T
	ws      *websocket.Conn
	n       int
	session string
	// urls are what it asked for.
	urls []string
}

func open(t *testing.T) *browser {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("chromium is not installed")
	}
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
	var lines []string
	for deadline := time.Now().Add(time.Minute); len(lines) < 2; time.Sleep(20 * time.Millisecond) {
		raw, _ := os.ReadFile(filepath.Join(dir, "DevToolsActivePort"))
		lines = strings.Split(strings.TrimSpace(string(raw)), "\n")
		if time.Now().After(deadline) {
			t.Fatal("chromium does not start")
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, "ws://127.0.0.1:"+lines[0]+lines[1], nil)
	if err != nil {
		t.Fatal(err)
	}
	ws.SetReadLimit(-1)
	t.Cleanup(func() { ws.CloseNow() })
	b := &browser{t: t, ws: ws}
	var target struct{ TargetID, SessionID string }
	b.do("", "Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	b.do("", "Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &target)
	b.session = target.SessionID
	b.do(b.session, "Network.enable", nil, nil)
	b.do(b.session, "Page.enable", nil, nil)
	return b
}

func (b *browser) do(session, method string, params any, into any) {
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
			Params struct{ Request struct{ URL string } }
			Result json.RawMessage
			Error  *struct{ Message string }
		}
		if err := json.Unmarshal(raw, &m); err != nil {
			b.t.Fatal(err)
		}
		if m.Method == "Network.requestWillBeSent" {
			b.urls = append(b.urls, m.Params.Request.URL)
		}
		if m.ID != b.n {
			continue
		}
		if m.Error != nil {
			b.t.Fatalf("%s: %s", method, m.Error.Message)
		}
		if into != nil {
			if err := json.Unmarshal(m.Result, into); err != nil {
				b.t.Fatal(err)
			}
		}
		return
	}
}

// eval runs a script in the page and returns what it comes to.
func (b *browser) eval(script string) string {
	b.t.Helper()
	var r struct {
		Result           struct{ Value any }
		ExceptionDetails *struct {
			Text      string
			Exception struct{ Description string }
		}
	}
	b.do(b.session, "Runtime.evaluate", map[string]any{"expression": script, "awaitPromise": true, "returnByValue": true, "userGesture": true}, &r)
	if e := r.ExceptionDetails; e != nil {
		b.t.Fatalf("%s: %s %s", script, e.Text, e.Exception.Description)
	}
	return fmt.Sprint(r.Result.Value)
}

// until waits for a script to come to true.
func (b *browser) until(script string) {
	b.t.Helper()
	b.eval(`(async () => { for (let i = 0; i < 600; i++) { if (` + script + `) return; await new Promise(r => setTimeout(r, 50)); } throw new Error("waited for ` + strings.ReplaceAll(script, `"`, `'`) + `: " + document.body.innerText); })()`)
}

// What is typed and what is played appears in both languages; only what is concluded is
// announced; nobody but the gateway is asked.
func TestThePageShowsWhatIsConcludedAndWhatIsNot(t *testing.T) {
	g := serve(t, door.Defaults(), plain(), shout)
	b := open(t)
	b.do(b.session, "Page.navigate", map[string]any{"url": g.url + "/live"}, nil)
	b.until(`document.readyState === "complete" && document.getElementById("play")`)
	b.eval(`document.getElementById("target1").value = "ar"`)
	b.eval(`play("we begin with a long sentence that is said one word after another. Then it is over.", 60)`)
	b.until(`document.querySelectorAll("section").length === 2`)
	b.until(`[...document.querySelectorAll("[role=log]")].every(e => e.innerText.includes("ONE WORD AFTER ANOTHER./") && e.innerText.includes("THEN IT IS OVER./"))`)
	for script, want := range map[string]string{
		`document.querySelectorAll("[aria-live]").length`:                                                               "2",
		`document.querySelectorAll(".tentative[aria-live], .tentative [aria-live]").length`:                             "0",
		`[...document.querySelectorAll("[role=log]")].map(e => e.lang + ":" + e.dir).join()`:                            "es:ltr,ar:rtl",
		`document.querySelectorAll("[role=log] p").length`:                                                              "4",
		`[...document.querySelectorAll("input,textarea,button")].filter(e => !e.labels?.length && !e.innerText).length`: "0",
		`document.getElementById("speech").innerText.startsWith("Speaking is off")`:                                     "true",
	} {
		if got := b.eval(script); got != want {
			t.Errorf("%s: %s, want %s", script, got, want)
		}
	}
	b.eval(`(() => { const t = document.getElementById("text"); t.value = "so this is what somebody types here"; t.dispatchEvent(new Event("input")); })()`)
	b.until(`[...document.querySelectorAll(".tentative")].every(e => e.innerText.includes("SO THIS"))`)
	if dir := os.Getenv("DRAGOMAN_PICTURES"); dir != "" {
		var shot struct{ Data string }
		b.do(b.session, "Page.captureScreenshot", nil, &shot)
		raw, err := base64.StdEncoding.DecodeString(shot.Data)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, "live.png"), raw, 0o644)
		}
		if err != nil {
			t.Error(err)
		}
	}
	b.eval(`document.getElementById("stop").click()`)
	b.until(`document.getElementById("status").innerText === "The session has ended."`)
	if got := b.eval(`document.getElementById("measures").innerText`); !strings.Contains(got, "amplification") {
		t.Errorf("no summary: %s", got)
	}
	for _, u := range b.urls {
		if !strings.HasPrefix(u, g.url) && !strings.HasPrefix(u, "about:") {
			t.Errorf("the page asked for %s", u)
		}
	}
}
