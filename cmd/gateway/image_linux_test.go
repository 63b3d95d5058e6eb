package gateway

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/dragoman-mt/dragoman/core/coretest/executable"
	"github.com/dragoman-mt/dragoman/core/coretest/property"
)

// The last stage of the Dockerfile, done by hand: what it copies is all that there is, the user
// is the image's, the root is read-only for it, and the temporary folder executes nothing.
func TestTheImageServesFromScratchAsAnotherUserAndSaysThatItIsHealthy(t *testing.T) {
	property.WithoutRace(t)
	if os.Geteuid() != 0 {
		t.Skip("not tested: only root may change its root and user")
	}
	sim := simulate(t)
	root := t.TempDir()
	if err := os.Chmod(root, 0o755); err != nil {
		t.Fatal(err)
	}
	_, last, _ := strings.Cut(deployed(t, "container/Dockerfile"), "\nFROM scratch\n")
	var env []string
	var user int
	lists := map[string][]string{}
	put := func(to string, raw []byte, mode os.FileMode) {
		t.Helper()
		to = filepath.Join(root, to)
		if err := errors.Join(os.MkdirAll(filepath.Dir(to), 0o755), os.WriteFile(to, raw, mode)); err != nil {
			t.Fatal(err)
		}
	}
	for line := range strings.Lines(last) {
		verb, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch verb {
		case "COPY":
			words := strings.Fields(strings.TrimPrefix(rest, "--from=build "))
			from := map[string]string{
				"/etc/ssl/certs/ca-certificates.crt":      "/etc/ssl/certs/ca-certificates.crt",
				"/out/dragoman":                           filepath.Join(programs, "dragoman"),
				"examples/deploy/container/pipeline.yaml": filepath.Join(repository(t), "examples/deploy/container/pipeline.yaml"),
			}[words[0]]
			raw, err := os.ReadFile(from)
			if err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			put(words[1], nil, 0o755)
			executable.Write(t, filepath.Join(root, words[1]), string(raw))
		case "ENV":
			env = append(env, rest)
		case "USER":
			if _, err := fmt.Sscanf(rest, "%d:", &user); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
		case "HEALTHCHECK", "ENTRYPOINT", "CMD":
			var list []string
			if err := json.Unmarshal([]byte(strings.TrimPrefix(rest, "CMD ")), &list); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			lists[verb] = list
		}
	}
	_, port, _ := net.SplitHostPort(freeAddress(t))
	for name, secret := range map[string]string{"dragoman_key": "a-key-of-clients", "operator_key": "a-key-of-operators", "openai_key": "x"} {
		put("/run/secrets/"+name, []byte(secret+"\n"), 0o644)
	}
	// What -e and --tmpfs of `docker run` give.
	env = append(env, "PORT="+port, "HOST=127.0.0.1", "OPENAI_BASE_URL="+sim.base)
	if err := os.Mkdir(filepath.Join(root, "tmp"), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Chmod(filepath.Join(root, "tmp"), 0o1777)); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", filepath.Join(root, "tmp"), "tmpfs", syscall.MS_NOEXEC|syscall.MS_NOSUID|syscall.MS_NODEV, "size=16m"); err != nil {
		t.Logf("the temporary folder may execute: %v", err)
	} else {
		t.Cleanup(func() { syscall.Unmount(filepath.Join(root, "tmp"), syscall.MNT_DETACH) })
	}
	inside := &syscall.SysProcAttr{Setpgid: true, Chroot: root, Credential: &syscall.Credential{Uid: uint32(user), Gid: uint32(user)}}
	g := &gatewayProcess{process: prepare(t, "/", nil, lists["ENTRYPOINT"][0], lists["CMD"]...), url: "http://127.0.0.1:" + port}
	g.cmd.Env, g.cmd.SysProcAttr = env, inside
	g.begin()
	g.see("Dragoman serves /etc/dragoman/pipeline.yaml at " + g.url)
	health := func() string {
		cmd := exec.Command(lists["HEALTHCHECK"][0], lists["HEALTHCHECK"][1:]...)
		cmd.Dir, cmd.Env, cmd.SysProcAttr = "/", env, inside
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Sprintf("%v %s", err, out)
		}
		return string(out)
	}
	if got := health(); got != "it lives\n" {
		t.Errorf("healthy: %s", got)
	}
	req, err := http.NewRequest(http.MethodPost, g.url+"/v1/translate", strings.NewReader(`{"text":"The kettle is boiling.","source":"en","target":"es"}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer a-key-of-clients")
	res, err := http.DefaultClient.Do(req)
	if err != nil || res.StatusCode != 200 {
		t.Errorf("%v %v\n%s", res, err, g.output())
	}
	g.signal(syscall.SIGTERM)
	if status := g.wait(); status != 0 {
		t.Errorf("%d:\n%s", status, g.output())
	}
	if got := health(); !strings.Contains(got, "no gateway answers") {
		t.Errorf("healthy though it has ended: %s", got)
	}
}
