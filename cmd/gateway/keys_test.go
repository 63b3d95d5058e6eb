package gateway

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/door"
)

const good1, good2 = "b1946ac92492d2347c6235b4", "591785b794601e212b260e25"

func TestKeysThatAnybodyWouldTryAreWarnedOf(t *testing.T) {
	known := func(string) bool { return false }
	for key, want := range map[string]string{
		"change-me": "placeholder", "changeme": "placeholder", "CHANGE_ME": "placeholder", "secret": "placeholder", "xxx": "placeholder", "xxxxxxxxxxxxxxxxxxxx": "placeholder",
		"your-key": "placeholder", "your-key-here": "placeholder", "<your-api-key>": "placeholder", "sk-your-key-goes-here-please": "placeholder", "aaaaaaaaaaaaaaaaaaaaaaa": "placeholder",
		"a": "placeholder", "secret123": "placeholder", "test": "placeholder", "1234567890123456789": "placeholder",
		"k7": "2 characters", "b1946ac92492d23": "15 characters",
		good1: "", "sk-4f1c9a5e7702bd31": "", "the-right-key-of-the-captions": "",
	} {
		var said []string
		keyWarnings(&door.Config{Keys: []door.Key{{Key: core.Secret(key)}, {Key: good2, Role: door.Operate}}}, known, func(format string, args ...any) { said = append(said, fmt.Sprintf(format, args...)) })
		if want == "" && len(said) > 0 || want != "" && (len(said) != 1 || !strings.Contains(said[0], want)) {
			t.Errorf("%s: warned of %q, want %q", key, said, want)
		}
		if len(key) > 4 && strings.Contains(strings.Join(said, " "), key) {
			t.Errorf("the warning shows the key: %q", said)
		}
	}
	for name, c := range map[string]struct {
		config door.Config
		want   string
	}{
		"no keys":                   {door.Config{}, ""},
		"no operator":               {door.Config{Keys: []door.Key{{Key: good1}}}, "off over HTTP"},
		"no operator, server.admin": {door.Config{Admin: "127.0.0.1:9090", Keys: []door.Key{{Key: good1}}}, "everybody on this machine"},
		"no operator, admin far":    {door.Config{Admin: "0.0.0.0:9090", Keys: []door.Key{{Key: good1}}}, "off over HTTP"},
		"an operator":               {door.Config{Keys: []door.Key{{Key: good1}, {Key: good2, Role: door.Operate}}}, ""},
		"the sum of a placeholder":  {door.Config{Keys: []door.Key{{SHA256: core.Secret(fmt.Sprintf("%x", sha256.Sum256([]byte("change-me")))), Role: door.Operate}}}, "sum of a placeholder"},
	} {
		var said []string
		keyWarnings(&c.config, known, func(format string, args ...any) { said = append(said, fmt.Sprintf(format, args...)) })
		if c.want == "" && len(said) > 0 || c.want != "" && (len(said) != 1 || !strings.Contains(said[0], c.want)) {
			t.Errorf("%s: warned of %q, want %q", name, said, c.want)
		}
	}
}

// What the variables hold that are not set, nobody knows offline: it is neither a
// placeholder, nor too short, nor missing.
func TestKeysInVariablesThatAreNotSetAreNoMistakeOffline(t *testing.T) {
	for _, keys := range []string{
		`["${YOUR_API_KEY}", {name: ops, key: ` + good1 + `, role: operate}]`, `[{name: a, key: "${UNSET}"}, {name: ops, key: "${UNSET2}", role: operate}]`,
		`[{name: a, key_sha256: "${UNSET}"}, {name: b, key: "${UNSET}", role: "${ROLE}"}]`, `["${A}", "${A}", {key: "${A}", role: operate}]`,
	} {
		file := write(t, "server:\n  listen: 0.0.0.0:8080\n  keys: "+keys+"\nproviders: {openai: {type: openai, api_key: x}}\nstages: [provider: {use: openai}]\n")
		if out, errs, status := commandHere(t, "", nil, "", "check", "--offline", "--config", file); status != 0 || errs != "" {
			t.Errorf("%s: status %d, output %q, errors:\n%s", keys, status, out, errs)
		}
	}
}

func TestSeveralKeysInOneTextAreComplainedOf(t *testing.T) {
	const several = "several keys are several items of the list: [KEY, KEY]"
	for keys, want := range map[string]string{
		`["${KEYS}"]`: "pipeline.yaml:3:10: server.keys[0]: holds a comma, and is one key; " + several, `["` + good1 + `, ` + good2 + `"]`: "pipeline.yaml:3:10: server.keys[0]: holds a comma, and is one key; " + several,
		`[` + good1 + `3, "a,b"]`: "pipeline.yaml:3:37: server.keys[1]: holds a comma, and is one key; " + several,
		`"${KEYS}"`:               "pipeline.yaml:3:9: server.keys: must be a list, got text; write one as [ITEM], two as [ITEM, ITEM]", `a,b`: "pipeline.yaml:3:9: server.keys: must be a list, got text; write one as [ITEM], two as [ITEM, ITEM]",
		`[{name: odd, key: "${KEYS}"}]`: "", // whoever gives it a name means it
	} {
		file := write(t, "server:\n  listen: 127.0.0.1:0\n  keys: "+keys+"\nproviders: {openai: {type: openai, api_key: x}}\nstages: [provider: {use: openai}]\n")
		_, errs, status := commandHere(t, "", []string{"KEYS=" + good1 + "," + good2}, "", "check", "--offline", "--config", file)
		if refused := want != ""; (status != 0) != refused || !strings.Contains(errs, want) || strings.Contains(errs, good1) || strings.Contains(errs, good2) {
			t.Errorf("%s: status %d, want %q, errors:\n%s", keys, status, want, errs)
		}
	}
}

func TestMistakesInKeysHaveTheirPlace(t *testing.T) {
	sum := fmt.Sprintf("%x", sha256.Sum256([]byte(good1)))
	file := write(t, `server:
  listen: 127.0.0.1:0
  keys:
    - `+good1+`
    - {name: one, key: `+good2+`1}
    - {name: one, key: `+good2+`2}
    - {name: two, key: `+good2+`3, key_sha256: `+sum+`}
    - {name: three}
    - {name: four, key_sha256: `+sum+`}
providers: {openai: {type: openai, api_key: x}}
stages: [provider: {use: openai}]
`)
	_, errs, status := commandHere(t, "", nil, "", "check", "--offline", "--config", file)
	want := strings.ReplaceAll(`FILE:6:14: server.keys[2].name: one is what keys[1] is called already; a name is one client's
FILE:7:7: server.keys[3]: has both key and key_sha256, which could differ; keep one of them
FILE:8:7: server.keys[4]: needs a key or a key_sha256, and neither is there, or it is empty; is the environment variable behind it set?
FILE:9:7: server.keys[5]: is the same key as keys[0]; a key has one name and one role
`, "FILE", file)
	if status != 1 || errs != want {
		t.Errorf("status %d:\n%s\nwant\n%s", status, errs, want)
	}
	bad := write(t, `server:
  keys:
    - {name: one, key: `+good2+`, role: admin}
    - {name: "two words", key_sha256: `+good1+`}
providers: {openai: {type: openai, api_key: x}}
stages: [provider: {use: openai}]
`)
	_, errs, status = commandHere(t, "", nil, "", "check", "--offline", "--config", bad)
	for _, want := range []string{":3:56: server.keys[0].role: must be one of translate, operate, got \"admin\"", ":4:14: server.keys[1].name: must be 1 to 64 letters", ":4:39: server.keys[1].key_sha256: must be a SHA-256 sum"} {
		if status != 1 || !strings.Contains(errs, want) || strings.Contains(errs, good1) {
			t.Errorf("status %d, want %s:\n%s", status, want, errs)
		}
	}
}

func TestMistakesInLimitsOfKeysHaveTheirPlace(t *testing.T) {
	file := write(t, `server:
  keys:
    - {name: a, key: `+good1+`1, characters_per_month: -5}
    - {name: b, key: `+good1+`2, requests_per_minute: 0}
    - {name: c, key: `+good1+`3, doors: [deepl, fax]}
    - {name: d, key: `+good1+`4, max_lane: fast}
    - {name: e, key: `+good1+`5, characters_per_month: 2.5}
    - {name: f, key: `+good1+`6, doors: []}
    - {name: g, key: `+good1+`7, doors: [deepl, deepl]}
    - {name: h, key: `+good1+`8, character_per_month: 7}
providers: {openai: {type: openai, api_key: x}}
stages: [provider: {use: openai}]
`)
	_, errs, status := commandHere(t, "", nil, "", "check", "--offline", "--config", file)
	for _, want := range []string{
		":3:71: server.keys[0].characters_per_month: must be at least 1, got -5",
		":4:70: server.keys[1].requests_per_minute: must be at least 1, got 0",
		":5:64: server.keys[2].doors[1]: must be one of native, live, deepl, libretranslate, openai, got \"fax\"",
		":6:59: server.keys[3].max_lane: must be one of final, partial, bulk, got \"fast\"",
		":7:71: server.keys[4].characters_per_month: must be a whole number, got 2.5",
		":8:56: server.keys[5].doors: must not be empty",
		":9:56: server.keys[6].doors: the items 0 and 1 are the same",
		":10:49: server.keys[7].character_per_month: there is no such key here; did you mean characters_per_month?",
	} {
		if status != 1 || !strings.Contains(errs, want) {
			t.Errorf("status %d, want %s:\n%s", status, want, errs)
		}
	}
	operator := write(t, `server:
  keys:
    - {name: ops, key: `+good1+`, role: operate, doors: [native]}
providers: {openai: {type: openai, api_key: x}}
stages: [provider: {use: openai}]
`)
	if _, errs, status := commandHere(t, "", nil, "", "check", "--offline", "--config", operator); status != 1 || !strings.Contains(errs, ":3:7: server.keys[0]: is an operator's key, which translates nothing") {
		t.Errorf("status %d:\n%s", status, errs)
	}
}

// While two clients ask, one with a key that goes and one with a key that stays.
func TestKeysRotateUnderLoadByAnEditAndAReload(t *testing.T) {
	s := simulate(t)
	yaml := func(key string) string {
		return "server: {keys: [stays-" + good1 + ", " + key + "]}\n" + pipeline(s, "pooled", "")
	}
	old, new := "old-"+good2, "new-"+good2
	g := serveAndEdit(t, yaml(old))
	var asked, failed, late atomic.Int64
	ask := func(key string, n int64) int {
		req, err := http.NewRequest(http.MethodPost, g.url+"/v1/translate", bytes.NewReader(fmt.Appendf(nil, `{"text":"Door %d is open.","source":"en","target":"es"}`, n%50)))
		if err != nil {
			t.Error(err)
			return 0
		}
		req.Header.Set("Authorization", "Bearer "+key)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Error(err)
			return 0
		}
		res.Body.Close()
		return res.StatusCode
	}
	stop := make(chan struct{})
	var rotated atomic.Bool
	var all sync.WaitGroup
	for i, key := range []string{"stays-" + good1, "stays-" + good1, old} {
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				before := rotated.Load()
				switch status := ask(key, asked.Add(1)); {
				case status == 200 && i == 2 && before:
					late.Add(1)
				case status != 200 && !(status == 401 && i == 2):
					failed.Add(1)
				}
			}
		})
	}
	for asked.Load() < 100 {
		time.Sleep(time.Millisecond)
	}
	g.edit(yaml(new))
	out, errs, status := command(t, filepath.Dir(g.file), nil, "", "reload")
	rotated.Store(true)
	if status != 0 {
		t.Errorf("dragoman reload: status %d: %s %s", status, out, errs)
	}
	if strings.Contains(out+errs, good2) {
		t.Errorf("it shows a key: %s %s", out, errs)
	}
	if got := ask(new, 1); got != 200 {
		t.Errorf("the new key: %d", got)
	}
	if got := ask(old, 1); got != 401 {
		t.Errorf("the old key: %d", got)
	}
	for n := asked.Load() + 100; asked.Load() < n; {
		time.Sleep(time.Millisecond)
	}
	close(stop)
	all.Wait()
	if failed.Load() > 0 || late.Load() > 0 {
		t.Errorf("of %d requests %d failed, and %d were served with the old key after it was gone", asked.Load(), failed.Load(), late.Load())
	}
	t.Logf("%d requests", asked.Load())
}

// On a disk that is full the gateway serves, says so, goes back from memory, and is
// found once there is room.
func TestAGatewayOnAFullDiskIsFoundOnceThereIsRoom(t *testing.T) {
	t.Parallel() // it waits most of the time
	dir := t.TempDir()
	if err := mountTiny(dir); err != nil {
		t.Skip("not tested: only root can mount a file system that is full: ", err)
	}
	t.Cleanup(func() { unmount(dir) })
	filler := filepath.Join(dir, "filler")
	os.WriteFile(filler, make([]byte, 1<<20), 0o600) // fails, and fills the disk
	s := simulate(t)
	env := []string{"XDG_STATE_HOME=" + filepath.Join(dir, "state")}
	g := serveAndEdit(t, pipeline(s, "pooled", ""), env...)
	g.see("do not find this gateway")
	if _, errs, status := command(t, filepath.Dir(g.file), env, "", "reload"); status != 1 || !strings.Contains(errs, "no gateway of this user runs") {
		t.Errorf("status %d %s", status, errs)
	}
	g.reload(pipeline(s, "direct", ""))
	if v := g.try("?previous=true"); v.Status != 200 || !strings.Contains(v.Text, "pool.mode direct -> pooled") {
		t.Errorf("back from memory: %d %s", v.Status, v.Text)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	g.see("find this gateway again")
	g.see("kept on disk again")
	out, errs, status := command(t, filepath.Dir(g.file), env, "", "reload", "--list")
	if status != 0 || strings.Count(out, "\n") != 2 || !strings.Contains(out, "serves now") || !strings.Contains(out, "pool.mode pooled -> direct") {
		t.Errorf("status %d %s %s", status, out, errs)
	}
	if out, errs, status := command(t, filepath.Dir(g.file), env, "", "reload", "--to", "9"); status != 1 || !strings.Contains(out, "there is no 9: what is kept is numbered from 1 to 2") {
		t.Errorf("status %d %s %s", status, out, errs)
	}
	if out, errs, status := command(t, filepath.Dir(g.file), env, "", "reload", "--to", "2", "--dry-run"); status != 0 || !strings.Contains(out, "a reload would change generation 3: pool.mode pooled -> direct") {
		t.Errorf("status %d %s %s", status, out, errs)
	}
	if got := g.metric("dragoman_generation "); got != "3" {
		t.Errorf("after a dry run generation %s serves", got)
	}
}
