package gateway

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"github.com/dragoman-mt/dragoman/core/coretest/property"
)

// What examples/deploy holds is for other people's machines: it is held against the gateway,
// and checked by the programs that it is for, where these are installed.

func deployed(t testing.TB, name string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(repository(t), "examples", "deploy", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// debian is a program of a Debian package; without it the test is left out.
func debian(t testing.TB, program, where string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		if path = filepath.Join("/usr/sbin", program); !exists(path) {
			t.Skipf("not tested: %s is not installed (apt-get install %s; `make test` does it where it may)", program, where)
		}
	}
	return path
}

// An expression of PromQL that stands somewhere.
type expression struct{ place, text string }

// dashboardExpressions are those of the panels, and of what fills the variables.
func dashboardExpressions(t testing.TB) (all []expression) {
	t.Helper()
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
		Templating struct {
			List []struct{ Name, Definition string }
		}
		Annotations struct{ List []struct{ Name, Expr string } }
	}
	if err := json.Unmarshal([]byte(deployed(t, "mixin/dashboard.json")), &dashboard); err != nil {
		t.Fatal(err)
	}
	for _, p := range dashboard.Panels {
		for _, target := range p.Targets {
			all = append(all, expression{"panel " + p.Title, target.Expr})
		}
	}
	for _, a := range dashboard.Annotations.List {
		all = append(all, expression{"annotation " + a.Name, a.Expr})
	}
	for _, v := range dashboard.Templating.List {
		if series, ok := strings.CutPrefix(v.Definition, "label_values("); ok {
			all = append(all, expression{"variable " + v.Name, series[:strings.LastIndex(series, ",")]})
		}
	}
	return all
}

// alertExpressions are those of the rules, by their names.
func alertExpressions(t testing.TB) (all []expression) {
	t.Helper()
	rules := deployed(t, "mixin/alerts.yaml")
	for _, m := range regexp.MustCompile(`(?s)- alert: (\w+)\n(?: +#[^\n]*\n)* +expr: (?:\|\n)?(.*?)\n +(?:for|labels):`).FindAllStringSubmatch(rules, -1) {
		all = append(all, expression{"alert " + m[1], m[2]})
	}
	if n := strings.Count(rules, "- alert:"); len(all) != n || n == 0 {
		t.Fatalf("%d expressions of %d alerts were found", len(all), n)
	}
	return all
}

// promQL is what an expression may say beside names of metrics.
var promQL = []string{"sum", "max", "min", "rate", "changes", "histogram_quantile"}

var (
	quoted    = regexp.MustCompile(`"[^"]*"`)
	matchers  = regexp.MustCompile(`\{[^}]*\}`)
	durations = regexp.MustCompile(`\[[^\]]*\]`)
	grouping  = regexp.MustCompile(`\b(by|without|on|ignoring) *\([^)]*\)`)
	words     = regexp.MustCompile(`[a-zA-Z_:][a-zA-Z0-9_:]*`)
)

// namesOfMetrics are the names of metrics in an expression.
func namesOfMetrics(text string) (all []string) {
	for _, cut := range []*regexp.Regexp{quoted, matchers, durations, grouping} {
		text = cut.ReplaceAllString(text, "")
	}
	for _, word := range words.FindAllString(text, -1) {
		if !slices.Contains(promQL, word) && !slices.Contains(all, word) {
			all = append(all, word)
		}
	}
	return all
}

// The gateway has a plugin and has taken a call: some metrics are there only then.
func TestEveryMetricOfTheAlertsAndTheDashboardExists(t *testing.T) {
	property.WithoutRace(t)
	sim := simulate(t)
	g := serveYAML(t, strings.Replace(pipeline(sim, "pooled", "  direct: {type: plugin, command: ["+filepath.Join(programs, "openai-direct")+"], config_from: openai}\n"),
		"use: openai", "use: direct, fallback: [openai]", 1), nil)
	g.ask("The kettle is boiling.").text(t)
	res, err := http.Get(g.url + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	there, err := readSample(res)
	if err != nil {
		t.Fatal(err)
	}
	exists := func(name string) bool {
		for _, suffix := range []string{"", "_bucket", "_count", "_sum"} {
			if base, ok := strings.CutSuffix(name, suffix); ok && there[base] != nil {
				return true
			}
		}
		return name == "up" // Prometheus has it of every target
	}
	if exists("dragoman_nothing") || len(namesOfMetrics(`sum by (a) (rate(x_total{job="y"}[5m])) / z`)) != 2 {
		t.Fatal("the test looks at nothing")
	}
	seen := 0
	for _, e := range slices.Concat(alertExpressions(t), dashboardExpressions(t)) {
		for _, name := range namesOfMetrics(e.text) {
			if seen++; !exists(name) {
				t.Errorf("%s: there is no metric %s in /metrics: %s", e.place, name, e.text)
			}
		}
	}
	if seen < 40 {
		t.Errorf("%d names were looked for: the test looks at nothing", seen)
	}
}

func TestPromtoolChecksTheRulesAndTheDashboardAndTheAlertsSayWhatTheyShould(t *testing.T) {
	t.Parallel()
	property.WithoutRace(t)
	promtool := debian(t, "promtool", "prometheus")
	mixin := filepath.Join(repository(t), "examples", "deploy", "mixin")
	// Of Grafana's expressions promtool sees the same, as rules.
	var rules strings.Builder
	rules.WriteString("groups:\n- name: dashboard\n  rules:\n")
	grafana := strings.NewReplacer("$__rate_interval", "1m", "$job", ".+", "$instance", ".+")
	for i, e := range dashboardExpressions(t) {
		fmt.Fprintf(&rules, "  - {record: %q, expr: %q}\n", fmt.Sprintf("panel:%d", i), grafana.Replace(e.text))
	}
	panels := filepath.Join(t.TempDir(), "panels.yaml")
	if err := os.WriteFile(panels, []byte(rules.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"check", "rules", "alerts.yaml", panels}, {"test", "rules", "alerts_test.yaml"}} {
		cmd := exec.Command(promtool, args...)
		cmd.Dir = mixin
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "SUCCESS") {
			t.Errorf("promtool %q: %v\n%s", args, err, out)
		}
	}
}

// Each alert is tested to speak and to be silent, and sends whoever is woken to a section.
func TestEveryAlertHasARunbookAndTests(t *testing.T) {
	rules, tests, books := deployed(t, "mixin/alerts.yaml"), deployed(t, "mixin/alerts_test.yaml"), deployed(t, "mixin/RUNBOOKS.md")
	named := map[string]bool{}
	for _, e := range alertExpressions(t) {
		name := strings.TrimPrefix(e.place, "alert ")
		named[name] = true
		if !strings.Contains(rules, "runbook_url: https://github.com/dragoman-mt/dragoman/blob/main/examples/deploy/mixin/RUNBOOKS.md#"+strings.ToLower(name)+"\n") {
			t.Errorf("%s names no runbook", name)
		}
		if !strings.Contains(tests, "- name: "+name+"\n") || !strings.Contains(tests, "- name: "+name+" is silent\n") {
			t.Errorf("%s is not tested to speak and to be silent", name)
		}
	}
	for _, m := range regexp.MustCompile(`(?m)^## (\w+)$`).FindAllStringSubmatch(books, -1) {
		if !named[m[1]] {
			t.Errorf("the runbook %s is of no alert", m[1])
		}
		delete(named, m[1])
	}
	for _, name := range slices.Sorted(maps.Keys(named)) {
		t.Errorf("%s has no runbook", name)
	}
}

// What the pages and units of examples/deploy tell people to type exists.
func TestEveryCommandThatTheDeploymentsNameExists(t *testing.T) {
	seen := 0
	err := filepath.WalkDir(filepath.Join(repository(t), "examples", "deploy"), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, m := range regexp.MustCompile("(?:`|/usr/bin/|\\$ )dragoman((?: +[a-z][a-z-]*)+)((?: +--?[a-z-]+(?:[= ][^-` \n][^` \n]*)?)*)").FindAllStringSubmatch(string(raw), -1) {
			if strings.HasPrefix(strings.TrimSpace(m[1]), "is ") {
				continue
			}
			root := program{}.root()
			cmd, rest, err := root.Find(strings.Fields(m[1]))
			if err != nil || cmd == root {
				t.Errorf("%s: there is no `dragoman%s`", path, m[1])
				continue
			}
			seen++
			flags := strings.Fields(m[2])
			if err := cmd.ParseFlags(append(rest, flags...)); err != nil {
				t.Errorf("%s: `dragoman%s%s`: %v", path, m[1], m[2], err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen < 5 {
		t.Errorf("%d commands were found: the test looks at nothing", seen)
	}
}

// The units are held against Debian 12's systemd. Verify exits with 0 whatever it says.
func TestTheUnitsAreHardenedAndSystemdHasNothingToSayOfThem(t *testing.T) {
	t.Parallel()
	property.WithoutRace(t)
	analyze := debian(t, "systemd-analyze", "systemd")
	dir := t.TempDir()
	for _, name := range []string{"dragoman.service", "dragoman.socket"} {
		unit := strings.ReplaceAll(deployed(t, "systemd/"+name), "/usr/bin/dragoman", filepath.Join(programs, "dragoman"))
		if err := os.WriteFile(filepath.Join(dir, name), []byte(unit), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	service, socket := filepath.Join(dir, "dragoman.service"), filepath.Join(dir, "dragoman.socket")
	if out, err := exec.Command(analyze, "verify", "--man=no", service, socket).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
	// 15 is an exposure of 1.5.
	if out, err := exec.Command(analyze, "security", "--offline=yes", "--threshold=15", service).CombinedOutput(); err != nil {
		t.Errorf("systemd-analyze security: %v\n%s", err, out)
	}
	for name, want := range map[string]string{"dragoman.service": "Type=notify\n", "dragoman.socket": "FileDescriptorName=public\n"} {
		if !strings.Contains(deployed(t, "systemd/"+name), want) {
			t.Errorf("%s does not say %s", name, want)
		}
	}
}

// freeAddress is one of this machine that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// certificateFiles are a certificate for 127.0.0.1 and its key, as the proxies read them.
func certificateFiles(t *testing.T) (cert, key string) {
	t.Helper()
	pair, _ := authority(t)
	der, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	var chain bytes.Buffer
	for _, c := range pair.Certificate {
		pem.Encode(&chain, &pem.Block{Type: "CERTIFICATE", Bytes: c})
	}
	if err := errors.Join(os.WriteFile(cert, chain.Bytes(), 0o600), os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600)); err != nil {
		t.Fatal(err)
	}
	return cert, key
}

// The configurations are run as they are, but for addresses, certificates and the folders of
// one who is not root: a text, a stream, a live session, and no operator's door.
func TestTheGatewayBehindTheProxiesThatThePagesShow(t *testing.T) {
	property.WithoutRace(t)
	heard := make(chan struct{}) // a client has a first piece
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if !strings.Contains(string(body), "in pieces") {
			io.WriteString(w, `{"model":"m","choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":"Todo de una vez."}}]}`)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		io.WriteString(w, `data: {"choices":[{"index":0,"delta":{"content":"La primera parte, "}}]}`+"\n\n")
		w.(http.Flusher).Flush()
		select {
		case <-heard:
		case <-r.Context().Done():
		}
		io.WriteString(w, `data: {"choices":[{"index":0,"delta":{"content":"y la segunda."},"finish_reason":"stop"}]}`+"\n\ndata: [DONE]\n\n")
	}))
	t.Cleanup(func() { upstream.CloseClientConnections(); upstream.Close() })
	g := serveYAML(t, "version: 1\nserver: {deadline: 60s}\npool: {warm_connections: 0}\nproviders: {main: {type: openai, base_url: '"+upstream.URL+"/v1', api_key: x, model: m, timeout: 60s}}\nstages: [{provider: {use: main}}]\n", nil)
	gateway := strings.TrimPrefix(g.url, "http://")
	cert, key := certificateFiles(t)
	for name, run := range map[string]func(t *testing.T, dir, addr string){
		"nginx": func(t *testing.T, dir, addr string) {
			program := debian(t, "nginx", "nginx-light")
			user := ""
			if os.Geteuid() == 0 {
				user = "user root;"
			}
			site := strings.NewReplacer("127.0.0.1:8080", gateway, "443 ssl", addr+" ssl", "/etc/ssl/translate.example.com.pem", cert, "/etc/ssl/private/translate.example.com.key", key).Replace(deployed(t, "proxy/nginx.conf"))
			conf := fmt.Sprintf("daemon off; pid %[1]s/pid; error_log stderr; %[2]s events {} http { access_log off; client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/fastcgi; uwsgi_temp_path %[1]s/uwsgi; scgi_temp_path %[1]s/scgi;\n%[3]s}\n", dir, user, site)
			file := filepath.Join(dir, "nginx.conf")
			if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
				t.Fatal(err)
			}
			start(t, dir, nil, program, "-c", file)
		},
		"Caddy": func(t *testing.T, dir, addr string) {
			program := debian(t, "caddy", "caddy")
			site := strings.NewReplacer("127.0.0.1:8080", gateway, "translate.example.com {", "https://"+addr+" {\n\ttls "+cert+" "+key).Replace(deployed(t, "proxy/Caddyfile"))
			file := filepath.Join(dir, "Caddyfile")
			if err := os.WriteFile(file, []byte("{\n\tadmin off\n\tauto_https disable_redirects\n}\n"+site), 0o600); err != nil {
				t.Fatal(err)
			}
			start(t, dir, []string{"HOME=" + dir, "XDG_DATA_HOME=" + dir, "XDG_CONFIG_HOME=" + dir}, program, "run", "--adapter", "caddyfile", "--config", file)
		},
	} {
		t.Run(name, func(t *testing.T) {
			addr := freeAddress(t)
			run(t, t.TempDir(), addr)
			until(t, func() bool {
				conn, err := net.Dial("tcp", addr)
				if err == nil {
					conn.Close()
				}
				return err == nil
			})
			client := &http.Client{Timeout: patience, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
			defer client.CloseIdleConnections()
			if err := translated(client, "https://"+addr, "Todo de una vez."); err != nil {
				t.Error(err)
			}
			res, err := client.Post("https://"+addr+"/v1/translate", "application/json", strings.NewReader(`{"text":"A stream that comes in pieces behind `+name+`.","source":"en","target":"es","stream":true}`))
			if err != nil {
				t.Fatal(err)
			}
			// The upstream says no more until the first piece is here: one that a proxy keeps back
			// never comes.
			events, said := bufio.NewScanner(res.Body), ""
			for told := false; events.Scan(); {
				said += events.Text() + "\n"
				if !told && strings.Contains(said, "La primera parte") {
					told = true
					heard <- struct{}{}
				}
			}
			res.Body.Close()
			if !strings.Contains(said, "y la segunda.") || !strings.Contains(said, "event: done") {
				t.Errorf("a stream: %v %s", events.Err(), said)
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			socket, _, err := websocket.Dial(ctx, "wss://"+addr+"/v1/live", &websocket.DialOptions{HTTPClient: client})
			if err != nil {
				t.Fatalf("a live session: %v", err)
			}
			for _, frame := range []string{
				`{"type":"start","session":"room","source":"en","targets":["es"]}`,
				`{"type":"source","segment":"1","revision":1,"text":"The kettle is boiling.","final":true}`,
			} {
				if err := socket.Write(ctx, websocket.MessageText, []byte(frame)); err != nil {
					t.Error(err)
				}
			}
			for frames := ""; !strings.Contains(frames, "Todo de una vez."); {
				_, said, err := socket.Read(ctx)
				if err != nil {
					t.Fatalf("a live session: %v after %s", err, frames)
				}
				frames += string(said)
			}
			socket.CloseNow()
			for _, path := range []string{"/admin/status", "/metrics"} {
				res, err := client.Get("https://" + addr + path)
				if err != nil {
					t.Fatal(err)
				}
				if res.Body.Close(); res.StatusCode != http.StatusNotFound {
					t.Errorf("%s: %d for the world", path, res.StatusCode)
				}
			}
		})
	}
}

// translated asks for one text with a body that net/http cannot send again.
func translated(client *http.Client, url, text string) error {
	body, _ := json.Marshal(map[string]string{"text": text, "source": "en", "target": "es"})
	req, err := http.NewRequest(http.MethodPost, url+"/v1/translate", io.MultiReader(strings.NewReader(string(body))))
	if err != nil {
		return err
	}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err == nil && (res.StatusCode != 200 || !strings.Contains(string(raw), text)) {
		err = fmt.Errorf("%s %s", res.Status, raw)
	}
	return err
}
