package gateway

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// A reloaded is what POST /admin/reload answers.
type reloaded struct {
	Status          int
	Outcome, Text   string
	Generation, Was int64
	Changes         []string
	Carried         []string
	Warnings        []string
	Errors          []string
}

// A reloading is a gateway whose file is edited while it serves.
type reloading struct {
	*gatewayProcess
	file string
}

func serveAndEdit(t testing.TB, yaml string, env ...string) *reloading {
	t.Helper()
	file := write(t, yaml)
	return &reloading{serveFile(t, file, env), file}
}

// edit puts yaml in the place of the file, at once.
func (g *reloading) edit(yaml string) {
	g.t.Helper()
	if err := os.WriteFile(g.file+".new", []byte(yaml), 0o600); err != nil {
		g.t.Fatal(err)
	}
	if err := os.Rename(g.file+".new", g.file); err != nil {
		g.t.Fatal(err)
	}
}

// try asks for a reload, whatever comes of it.
func (g *reloading) try(query string) reloaded {
	g.t.Helper()
	v, err := askReload(g.url, query)
	if err != nil {
		g.t.Fatal(err)
	}
	return v
}

func askReload(url, query string) (v reloaded, err error) {
	res, err := http.Post(url+"/admin/reload"+query, "", nil)
	if err != nil {
		return v, err
	}
	defer res.Body.Close()
	v.Status = res.StatusCode
	return v, json.NewDecoder(res.Body).Decode(&v)
}

// reload serves yaml from now on. Whoever follows the file may come first.
func (g *reloading) reload(yaml string) reloaded {
	g.t.Helper()
	g.edit(yaml)
	v := g.try("")
	if v.Status != http.StatusOK {
		g.t.Fatalf("%d %s", v.Status, v.Text)
	}
	return v
}

// number returns the value of a metric, 0 for one that is not there.
func (g *gatewayProcess) number(metric string) float64 {
	g.t.Helper()
	n, _ := strconv.ParseFloat(g.metric(metric), 64)
	return n
}

// sinks waits until a metric is at most so much.
func (g *gatewayProcess) sinks(metric string, most float64) {
	g.t.Helper()
	n := 0.
	if !comes(func() bool { n = g.number(metric); return n <= most }) {
		g.t.Fatalf("%s is %v, and has not come down to %v", metric, n, most)
	}
}

// children returns the processes that the gateway has started and that have not
// ended.
func (g *gatewayProcess) children() (pids []int) {
	g.t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*")
	if err != nil || len(all) == 0 {
		g.t.Skip("not tested: there is no /proc")
	}
	for _, name := range all {
		raw, err := os.ReadFile(name + "/stat")
		if err != nil {
			continue // it has ended
		}
		_, rest, _ := strings.Cut(string(raw), ") ")
		var state string
		var parent int
		if fmt.Sscan(rest, &state, &parent); parent == g.cmd.Process.Pid && state != "Z" {
			pid, _ := strconv.Atoi(filepath.Base(name))
			pids = append(pids, pid)
		}
	}
	return pids
}

// keeps waits until the gateway has n child processes.
func (g *gatewayProcess) keeps(n int) {
	g.t.Helper()
	var there []int
	if !comes(func() bool { there = g.children(); return len(there) == n }) {
		g.t.Fatalf("the child processes are %v, want %d", there, n)
	}
}
