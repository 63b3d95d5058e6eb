package gateway

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// publicName is what the proxy is called outside.
const publicName = "translate.example.com"

// proxies are the ways in which people put nginx in front of a gateway on the same
// machine. None of them says for whom it calls.
var proxies = map[string]string{
	"as it is without settings":         ``,
	"with the public name as Host":      `proxy_set_header Host $host;`,
	"with HTTP/1.1":                     `proxy_http_version 1.1;`,
	"with HTTP/1.1, kept alive":         `proxy_http_version 1.1; proxy_set_header Connection "";`,
	"with HTTP/1.1 and the public name": `proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host;`,
	"with the headers of the manual":    `proxy_http_version 1.1; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;`,
}

// behindNginx starts nginx in front of the gateway at url, with one listener for
// each of proxies, and returns their addresses.
func behindNginx(t *testing.T, url string) map[string]string {
	t.Helper()
	program, err := exec.LookPath("nginx")
	if err != nil {
		if program = "/usr/sbin/nginx"; !exists(program) {
			t.Skip("not tested: nginx is not installed (apt-get install nginx-light; `make test` does it where it may)")
		}
	}
	dir := t.TempDir()
	var servers strings.Builder
	found := map[string]string{}
	var taken []net.Listener
	for name, settings := range proxies {
		free, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		taken = append(taken, free) // so that each gets another
		found[name] = free.Addr().String()
		fmt.Fprintf(&servers, "server { listen %s; location / { proxy_pass %s; %s } }\n", found[name], url, settings)
	}
	for _, free := range taken {
		free.Close()
	}
	user := ""
	if os.Geteuid() == 0 {
		user = "user nobody nogroup;" // as every packaged nginx has one of its own
	}
	conf := filepath.Join(dir, "nginx.conf")
	text := fmt.Sprintf(`daemon off; pid %[1]s/pid; error_log stderr; %[2]s
events {}
http {
  access_log off;
  client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/fastcgi; uwsgi_temp_path %[1]s/uwsgi; scgi_temp_path %[1]s/scgi;
%[3]s}
`, dir, user, servers.String())
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	start(t, dir, nil, program, "-c", conf)
	for name, addr := range found {
		var err error
		if !comes(func() bool {
			var conn net.Conn
			if conn, err = net.Dial("tcp", addr); err == nil {
				conn.Close()
			}
			return err == nil
		}) {
			t.Fatalf("nginx does not listen, %s: %v", name, err)
		}
	}
	return found
}

func exists(path string) bool { _, err := os.Stat(path); return err == nil }

// through asks the gateway through a proxy, as a client of the public name does.
func through(t *testing.T, addr, method, path, body string, header ...string) (int, string) {
	t.Helper()
	req, err := http.NewRequest(method, "http://"+addr+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Host = publicName
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(answer)
}

// Whatever the proxy sends, who is behind it translates and does not operate.
func TestBehindNginxOnTheSameMachineNobodyOperatesWithoutAnOperatorsKey(t *testing.T) {
	const translating, operating = "a-key-that-translates", "a-key-that-operates"
	sim := simulate(t)
	for name, c := range map[string]struct {
		keys     string
		with     string // what translates
		operates string // what operates, if anything does
	}{
		"without keys":                 {"", "", ""},
		"keys that translate":          {"keys: [" + translating + "], ", translating, ""},
		"keys with roles":              {"keys: [" + translating + ", {name: ops, key: " + operating + ", role: operate}], ", translating, operating},
		"an operator's key, else none": {"keys: [{name: ops, key: " + operating + ", role: operate}], ", "", operating},
	} {
		t.Run(name, func(t *testing.T) {
			g := serveYAML(t, "server: {"+c.keys+"origins: [https://"+publicName+"]}\n"+pipeline(sim, "pooled", ""), nil)
			for proxy, addr := range behindNginx(t, g.url) {
				if strings.Contains(proxy, "HTTP/1.1") && strings.Contains(name, "without keys") && os.Geteuid() != 0 {
					t.Logf("not tested, %s: only root can give nginx a user of its own", proxy)
					continue
				}
				bearer := []string{"Content-Type", "application/json"}
				if c.with != "" {
					bearer = append(bearer, "Authorization", "Bearer "+c.with)
				}
				if status, body := through(t, addr, http.MethodPost, "/v1/translate", `{"text":"Open the door.","source":"en","target":"es"}`, bearer...); status != 200 {
					t.Errorf("%s: a translation: %d %s", proxy, status, body)
				}
				if status, _ := through(t, addr, http.MethodGet, "/healthz", ""); status != 200 {
					t.Errorf("%s: /healthz: %d", proxy, status)
				}
				for _, call := range []struct{ method, path string }{
					{"GET", "/metrics"}, {"GET", "/admin/status"}, {"GET", "/admin/tap?texts=1&limit=1"}, {"POST", "/admin/reload"}, {"POST", "/admin/reload?previous=true"},
					{"POST", "/admin/plugins/openai/restart"},
				} {
					for _, key := range []string{"", translating, "another"} {
						status, body := through(t, addr, call.method, call.path, "", "Authorization", "Bearer "+key)
						if status != 401 && status != 403 {
							t.Errorf("%s: %s %s with the key %q: %d %.200s", proxy, call.method, call.path, key, status, body)
						}
					}
				}
				if c.operates != "" {
					if status, body := through(t, addr, http.MethodGet, "/metrics", "", "Authorization", "Bearer "+c.operates); status != 200 || !strings.Contains(body, "dragoman_requests_total") {
						t.Errorf("%s: an operator: %d %.200s", proxy, status, body)
					}
				}
			}
			// The user of the gateway needs no key, and whoever runs a proxy does.
			if out, errs, status := command(t, filepath.Dir(g.cmd.Dir+"/x"), nil, "", "status"); status != 0 || !strings.Contains(out, "serves") {
				t.Errorf("dragoman status: %d %s %s", status, out, errs)
			}
		})
	}
}
