package sharedtest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// port is one that nobody listens on.
func port(t testing.TB) string {
	t.Helper()
	for {
		free, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		free.Close()
		// A node of a cluster listens 10,000 higher as well.
		if n := free.Addr().(*net.TCPAddr).Port; n < 55_000 {
			return fmt.Sprint(n)
		}
	}
}

// until waits for what is to become so.
func until(t testing.TB, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 30 s: %s", what)
		}
	}
}

// Sentinel starts a primary with a replica, and a Sentinel that has the replica take over when
// the primary is stopped.
func Sentinel(t testing.TB) (url string, primary, replica *Redis) {
	t.Helper()
	first, second, at := port(t), port(t), port(t)
	primary = Start(t, "--port", first)
	replica = Start(t, "--port", second, "--replicaof", "127.0.0.1", first, "--repl-diskless-sync-delay", "0")
	until(t, "the replica follows", func() bool { return strings.Contains(replica.Do("INFO", "replication"), "master_link_status:up") })
	dir := filepath.Dir(primary.socket)
	file := filepath.Join(dir, "sentinel.conf")
	conf := fmt.Sprintf("port %s\nbind 127.0.0.1\ndir %s\nlogfile %s/sentinel.log\nsentinel monitor main 127.0.0.1 %s 1\nsentinel down-after-milliseconds main 500\nsentinel failover-timeout main 3000\n", at, dir, dir, first)
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(primary.args[0], file, "--sentinel")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	ask := func(args ...string) string {
		out, _ := exec.Command("redis-cli", append([]string{"-p", at}, args...)...).CombinedOutput()
		return string(out)
	}
	until(t, "the Sentinel knows the replica", func() bool { return strings.Contains(ask("SENTINEL", "REPLICAS", "main"), second) })
	return "redis://127.0.0.1:" + at + "?addr=127.0.0.1:" + at + "&master_set=main", primary, replica
}

// Cluster starts three nodes with a replica each, which take over when their node is stopped.
func Cluster(t testing.TB) (url string, nodes []*Redis) {
	t.Helper()
	var at []string
	for range 6 {
		p := port(t)
		at = append(at, "127.0.0.1:"+p)
		nodes = append(nodes, Start(t, "--port", p, "--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf", "--cluster-node-timeout", "1000", "--repl-diskless-sync-delay", "0"))
	}
	out, err := exec.Command("redis-cli", append(append([]string{"--cluster", "create"}, at...), "--cluster-replicas", "1", "--cluster-yes")...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, n := range nodes {
		until(t, "the cluster is whole", func() bool { return strings.Contains(n.Do("CLUSTER", "INFO"), "cluster_state:ok") })
	}
	until(t, "the replicas follow", func() bool {
		n := 0
		for _, node := range nodes {
			if strings.Contains(node.Do("INFO", "replication"), "master_link_status:up") {
				n++
			}
		}
		return n == 3
	})
	return "redis://" + at[0] + "?addr=" + at[1] + "&addr=" + at[2], nodes
}
