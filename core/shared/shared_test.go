package shared_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/shared"
	"github.com/dragoman-mt/dragoman/core/shared/sharedtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var echo = &core.Script{Source: `return {ARGV[2]}`}
var publish = &core.Script{Source: `redis.call('PUBLISH', ARGV[1], ARGV[2]) return {}`}
var keep = &core.Script{Source: `redis.call('SET', KEYS[1], ARGV[2]) return {}`}
var fetch = &core.Script{Source: `return {redis.call('GET', KEYS[1]) or 'none'}`}

func join(t testing.TB, c shared.Config) (*shared.Store, *observer.ObservedLogs) {
	t.Helper()
	if c.Prefix == "" {
		c.Prefix = "test"
	}
	seen, logs := observer.New(zap.DebugLevel)
	s, err := shared.New(c, "machine", zap.New(seen))
	if err != nil {
		t.Fatal(err)
	}
	s.Start(shared.Member{PID: os.Getpid(), Started: time.Now()})
	t.Cleanup(s.Close)
	return s, logs
}

// until waits for what is to become so.
func until(t testing.TB, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !is(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}

// answers waits until the store answers, which a busy machine may hold up.
func answers(t *testing.T, s *shared.Store, logs *observer.ObservedLogs) {
	t.Helper()
	var list []string
	var err error
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if list, err = s.Answers().Ask(t.Context(), echo, "x", "hello"); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%v: %v", err, logs.All())
		}
	}
	if !slices.Equal(list, []string{"hello"}) {
		t.Errorf("%q", list)
	}
}

// Whatever befalls the store, a request waits 10 ms for it at the most, and not at all once
// it is known to be away; and it is used again when it is back.
func TestNoRequestWaitsForAStoreThatIsAway(t *testing.T) {
	r := sharedtest.Start(t)
	w := r.Wire()
	for _, tc := range []struct {
		name       string
		hurt, mend func()
	}{
		{"stopped in its tracks", r.Pause, r.Resume},
		{"a black hole", w.Cut, w.Join},
		{"200 ms slow", func() { w.Slow(200 * time.Millisecond) }, func() { w.Slow(0) }},
		{"killed", r.Stop, r.Begin},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, logs := join(t, shared.Config{URL: w.URL})
			room := s.Answers()
			until(t, "it is up", room.Up)
			said := func(what string) int { return logs.FilterMessageSnippet(what).Len() }
			// On a busy machine it may have been late, and back, before.
			aways, backs := said("store is away"), said("store is back")
			tc.hurt()
			// How long a call waited, if it was the fastest of those that the machine did not hold up.
			waited := func(calls func() bool) time.Duration {
				fastest := time.Hour
				for calls() {
					at := time.Now()
					if _, err := room.Ask(t.Context(), echo, "x", "hello"); err != nil {
						fastest = min(fastest, time.Since(at))
					}
				}
				return fastest
			}
			began := time.Now()
			if d := waited(func() bool { return room.Up() && time.Since(began) < 10*time.Second }); room.Up() || d < time.Hour && d > 100*time.Millisecond {
				t.Errorf("up: %v; each call waited %v or longer, and 10 ms is the most", room.Up(), d)
			}
			n := 0
			if d := waited(func() bool { n++; return n < 1000 }); d > 200*time.Microsecond {
				t.Errorf("a call of a store that is known to be away took %v", d)
			}
			if n := said("store is away") - aways; n > 1 || said("store is away") == 0 {
				t.Errorf("%d lines say that it is away: %v", n, logs.All())
			}
			tc.mend()
			until(t, "it is used again", func() bool { _, err := room.Ask(t.Context(), echo, "x", "hello"); return err == nil })
			until(t, "a line says so", func() bool { return said("store is back") > backs })
		})
	}
}

func TestAGatewayStartsWithoutItsStore(t *testing.T) {
	began := time.Now()
	s, logs := join(t, shared.Config{URL: "redis://user:hunter2@127.0.0.1:1"})
	if d := time.Since(began); d > 10*time.Second { // half a second, and what a busy machine adds
		t.Errorf("the start took %v", d)
	}
	if _, err := s.Answers().Ask(t.Context(), echo, "x", "hello"); err == nil {
		t.Error("nobody answers")
	}
	if all := fmt.Sprint(logs.All()); strings.Contains(all, "hunter2") || !strings.Contains(all, "is away") {
		t.Error(all)
	}
}

// A call takes no more than a tenth of the time that a request has left, and one that has
// no time says nothing of the store.
func TestATenthOfTheDeadlineIsTheMost(t *testing.T) {
	r := sharedtest.Start(t)
	s, _ := join(t, shared.Config{URL: r.URL})
	until(t, "it is up", s.Answers().Up)
	r.Pause()
	defer r.Resume()
	fastest := time.Hour // of those that the machine did not hold up
	for range 20 {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
		began := time.Now()
		if _, err := s.Answers().Ask(ctx, echo, "x", "hello"); err == nil {
			t.Error("it answers")
		}
		fastest = min(fastest, time.Since(began))
		cancel()
	}
	if fastest > 25*time.Millisecond {
		t.Errorf("each call took %v or longer", fastest)
	}
	if !s.Answers().Up() {
		t.Error("calls that had too little time opened the breaker")
	}
}

// What is wrong with a store is one line that says what to do, and nothing of a password.
func TestWhatIsWrongWithAStoreIsSaidInOneLine(t *testing.T) {
	primary := sharedtest.Start(t)
	password := sharedtest.Start(t, "--requirepass", "correct horse")
	full := sharedtest.Start(t, "--maxmemory", "1b")
	replica := sharedtest.Start(t, "--replicaof", "127.0.0.1", "1", "--replica-serve-stale-data", "yes")
	guarded := sharedtest.Start(t)
	guarded.Do("ACL", "SETUSER", "reader", "on", ">secret words", "~*", "&*", "+@read", "+@connection", "+@scripting")
	for name, tc := range map[string]struct{ url, want string }{
		"a wrong password": {strings.Replace(password.URL, "unix://", "unix://:hunter2@", 1), "refuses the user or the password"},
		"no password":      {password.URL, "refuses the user or the password"},
		"a replica":        {replica.URL, "is a replica"},
		"a full store":     {full.URL, "memory is full"},
		"a mere reader":    {strings.Replace(guarded.URL, "unix://", "unix://reader:secret%20words@", 1), "may not do what is needed"},
		"no Redis":         {"redis://hunter2:hunter2@127.0.0.1:1", "connection refused"},
	} {
		t.Run(name, func(t *testing.T) {
			_, logs := join(t, shared.Config{URL: tc.url})
			lines := logs.FilterMessageSnippet("away").All()
			if all := fmt.Sprint(logs.All()); len(lines) != 1 || !strings.Contains(all, tc.want) || strings.Contains(all, "hunter2") || strings.Contains(all, "secret") {
				t.Errorf("%d lines: %s", len(lines), all)
			}
			if name == "a full store" {
				return // Look says more of it
			}
			if _, err := shared.Look(t.Context(), shared.Config{URL: tc.url, Prefix: "test"}); err == nil || !strings.Contains(err.Error(), tc.want) && name != "a replica" {
				t.Errorf("Look: %v", err)
			}
		})
	}
	t.Run("a value of another program", func(t *testing.T) {
		s, logs := join(t, shared.Config{URL: primary.URL})
		primary.Do("LPUSH", "test:theirs", "x")
		for range 10 {
			if list, err := s.Answers().Ask(t.Context(), fetch, "theirs"); err == nil {
				t.Errorf("%q", list)
			}
		}
		if !s.Answers().Up() || logs.FilterMessageSnippet("cannot be used").Len() != 1 {
			t.Errorf("up %v: %v", s.Answers().Up(), logs.All())
		}
		if n := primary.Do("LLEN", "test:theirs"); n != "1" {
			t.Errorf("their list has %s elements", n)
		}
	})
}

func TestAnUnusableConfigurationIsRefusedAndTellsNoSecret(t *testing.T) {
	for _, tc := range []struct{ url, state, prefix, encrypt, want string }{
		{url: "http://hunter2@x", want: "shared.url: must be redis://"},
		{url: "hunter2", want: "shared.url: must be redis://"},
		{url: "redis://:hunter2%zz@x", want: "shared.url: is no URL"},
		{url: "redis://:hunter2#@x", want: "shared.url"},
		{url: "redis://", want: "names no host"},
		{url: "redis://x/hunter2", want: "not the number of a database"},
		{url: "redis://x/1/2", want: "not the number of a database"},
		{url: "redis://x?skip_verify=true", want: "?skip_verify, which is unknown"},
		{url: "redis://x?addr=nonsense", want: "?addr= that is not HOST:PORT"},
		{url: "unix://run/redis.sock", want: "by its whole path"},
		{url: "unix:///run/redis.sock?master_set=x", want: "does not go with a socket"},
		{url: "redis://x", state: "ftp://hunter2@y", want: "shared.url_state: must be"},
		{state: "redis://y", want: "shared.url is empty"},
		{url: "redis://x", prefix: "a b", want: "shared.prefix: must be"},
		{url: "redis://x", prefix: strings.Repeat("a", 65), want: "shared.prefix: must be"},
		{url: "redis://x", encrypt: "hunter2", want: "shared.encrypt: is 7 bytes"},
	} {
		c := shared.Config{URL: tc.url, URLState: tc.state, Prefix: tc.prefix, Encrypt: core.Secret(tc.encrypt)}
		if c.Prefix == "" {
			c.Prefix = "p"
		}
		err := c.Check()
		if err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%+v: %v, want %s", tc, err, tc.want)
		}
		if s, err := shared.New(c, "m", zap.NewNop()); err == nil {
			t.Errorf("%+v: made %v", tc, s)
		}
	}
	for _, good := range []string{"redis://x", "redis://u:p@x:1/3", "rediss://[::1]:6379", "unix:///run/redis.sock?db=2", "redis://a:1?addr=b:1&addr=c:1", "redis://a:1?master_set=main"} {
		if err := (shared.Config{URL: good, Prefix: "captions-1"}).Check(); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	if s, err := shared.New(shared.Defaults(), "m", zap.NewNop()); s != nil || err != nil {
		t.Errorf("nothing is shared by default: %v, %v", s, err)
	}
}

func FuzzAddress(f *testing.F) {
	for _, s := range []string{"redis://u:p@x:1/3", "unix:///s", "rediss://x?addr=y:1", "redis://:a%zz@x", ":"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, address string) {
		err := shared.Config{URL: "redis://name:verysecret@" + address, Prefix: "p"}.Check()
		if err != nil && strings.Contains(err.Error(), "verysecret") && !strings.Contains(address, "verysecret") {
			t.Errorf("%q: %v", address, err)
		}
		shared.Config{URL: address, Prefix: "p"}.Check()
	})
}

// Only who knows the secret can read a value, or tell which text a name is of; and a value
// is read under its own name alone.
func TestWhatIsSealedIsReadByTheGroupAlone(t *testing.T) {
	with := func(secret string) *shared.Store {
		s, err := shared.New(shared.Config{URL: "redis://x", Prefix: "p", Encrypt: core.Secret(secret)}, "m", zap.NewNop())
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	ours, others, theirs, none := with("0123456789abcdef"), with("0123456789abcdef"), with("fedcba9876543210"), with("")
	sealed, plain := ours.Seal("a", []byte("Guten Tag")), none.Seal("a", []byte("Guten Tag"))
	if strings.Contains(string(sealed), "Guten") || slices.Equal(sealed, ours.Seal("a", []byte("Guten Tag"))) {
		t.Errorf("sealed: %q", sealed)
	}
	for _, tc := range []struct {
		by    *shared.Store
		name  string
		value []byte
		opens bool
	}{
		{others, "a", sealed, true}, {none, "a", plain, true},
		{others, "b", sealed, false}, {theirs, "a", sealed, false}, {none, "a", sealed, false}, {ours, "a", plain, false},
		{ours, "a", sealed[:len(sealed)-1], false}, {ours, "a", sealed[:5], false}, {ours, "a", nil, false}, {none, "a", []byte("x"), false},
	} {
		if got, err := tc.by.Open(tc.name, tc.value); (err == nil) != tc.opens || tc.opens && string(got) != "Guten Tag" {
			t.Errorf("%q under %s: %q, %v", tc.value, tc.name, got, err)
		}
	}
	if ours.Name("x") != others.Name("x") || ours.Name("x") == theirs.Name("x") || ours.Name("x") == none.Name("x") || ours.Name("x") == ours.Name("y") {
		t.Error("names do not depend on the key and the secret alone")
	}
}

func TestWhatOnePublishesAllHear(t *testing.T) {
	r := sharedtest.Start(t)
	a, _ := join(t, shared.Config{URL: r.URL})
	b, _ := join(t, shared.Config{URL: r.URL})
	heard := make(chan string, 100)
	for _, s := range []*shared.Store{a, b} {
		defer s.State().Hear("pause", func(m string) {
			select {
			case heard <- m:
			default:
			}
		})()
	}
	// Until both have subscribed what is published is not heard by both.
	until(t, "both hear", func() bool {
		a.State().Run(t.Context(), publish, "x", "pause account 20")
		time.Sleep(5 * time.Millisecond)
		n := len(heard)
		for range n {
			if m := <-heard; m != "account 20" {
				t.Errorf("heard %q", m)
			}
		}
		return n >= 2
	})
}

func TestEveryGatewaySeesTheOthersUntilTheyLeave(t *testing.T) {
	r := sharedtest.Start(t)
	a, logs := join(t, shared.Config{URL: r.URL})
	b, _ := join(t, shared.Config{URL: r.URL})
	other, _ := join(t, shared.Config{URL: r.URL, Prefix: "other"})
	a.Tell(func(m *shared.Member) { m.Answers, m.Lease = "one prompt", 7 })
	b.Tell(func(m *shared.Member) { m.Answers = "another prompt" })
	until(t, "both are there", func() bool { return len(a.Report().Members) == 2 && len(b.Report().Members) == 2 })
	until(t, "a line says that they answer otherwise", func() bool { return logs.FilterMessageSnippet("other providers, models or prompts").Len() == 1 })
	if n := len(other.Report().Members); n > 1 {
		t.Errorf("%d gateways of another prefix", n)
	}
	b.Close()
	until(t, "one is left", func() bool { return len(a.Report().Members) == 1 })
}

// What waits to be written is bounded, and dropped while the store is away.
func TestWritesThatWaitAreBounded(t *testing.T) {
	r := sharedtest.Start(t)
	s, _ := join(t, shared.Config{URL: r.URL})
	until(t, "it is up", s.Answers().Up)
	s.Answers().Later(keep, "k", "v")
	until(t, "it is written", func() bool { return r.Do("GET", "test:k") == "v" })
	r.Pause()
	for range 3000 {
		s.Answers().Later(keep, "k", strings.Repeat("x", 10<<10))
	}
	r.Resume()
	rooms := s.Report().Rooms
	if len(rooms) != 2 || rooms[1].Name != "answers" || rooms[1].Dropped < 2000 || rooms[0].Dropped > 0 {
		t.Errorf("%+v", rooms)
	}
}

func TestAStoreThatWasEmptiedIsUsedOn(t *testing.T) {
	r := sharedtest.Start(t)
	s, logs := join(t, shared.Config{URL: r.URL})
	until(t, "it is up", s.Answers().Up)
	for _, command := range [][]string{{"FLUSHALL"}, {"SCRIPT", "FLUSH"}} {
		r.Do(command...)
		answers(t, s, logs)
	}
}

// certificate writes one for localhost, and returns its files.
func certificate(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for name, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "EC PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

func TestTLSWithAUserAndAPassword(t *testing.T) {
	cert, key := certificate(t)
	t.Setenv("SSL_CERT_FILE", cert)
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(free.Addr().String())
	free.Close()
	r := sharedtest.Start(t, "--tls-port", port, "--tls-cert-file", cert, "--tls-key-file", key, "--tls-auth-clients", "no")
	r.Do("ACL", "SETUSER", "captions", "on", ">p@ss/word#1", "~test:*", "&test:*", "+@read", "+@write", "+@scripting", "+@pubsub", "+@connection", "+time")
	s, logs := join(t, shared.Config{URL: "rediss://captions:p%40ss%2Fword%231@localhost:" + port + "/0"})
	answers(t, s, logs)
	until(t, "it is a member", func() bool { return len(s.Report().Members) == 1 })
	s.Answers().Run(t.Context(), keep, "k", "v")
	if got := r.Do("GET", "test:k"); got != "v" {
		t.Errorf("kept %q", got)
	}
}

// One node is a cluster of its own here: what differs is the client.
func TestAClusterIsUsedAsOneStore(t *testing.T) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(free.Addr().String())
	free.Close()
	r := sharedtest.Start(t, "--port", port, "--cluster-enabled", "yes", "--cluster-port", "0")
	if !strings.Contains(r.Do("INFO", "cluster"), "cluster_enabled:1") {
		t.Fatal("it is no cluster")
	}
	r.Do("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
	until(t, "the cluster is whole", func() bool { return strings.Contains(r.Do("CLUSTER", "INFO"), "cluster_state:ok") })
	at := "127.0.0.1:" + port
	s, logs := join(t, shared.Config{URL: "redis://" + at + "?addr=" + at})
	answers(t, s, logs)
	until(t, "it is a member", func() bool { return len(s.Report().Members) == 1 })
}

func TestLookSaysWhatAnOperatorShouldKnow(t *testing.T) {
	for _, tc := range []struct {
		args []string
		want string
	}{
		{[]string{"--maxmemory", "50mb", "--maxmemory-policy", "allkeys-lru"}, "eviction policy allkeys-lru may delete"},
		{[]string{"--maxmemory", "50mb", "--maxmemory-policy", "volatile-ttl"}, "volatile-ttl deletes first"},
		{[]string{"--maxmemory", "50mb", "--maxmemory-policy", "noeviction"}, "is noeviction"},
		{nil, "its memory has no bound"},
		{[]string{"--maxmemory", "50mb", "--maxmemory-policy", "volatile-lru"}, ""},
		{[]string{"--maxmemory", "50mb", "--maxmemory-policy", "volatile-lru", "--save", "3600 1"}, "it saves its data to disk"},
		{[]string{"--maxmemory", "50mb", "--maxmemory-policy", "volatile-lru", "--appendonly", "yes"}, "it saves its data to disk"},
	} {
		r := sharedtest.Start(t, tc.args...)
		all, err := shared.Look(t.Context(), shared.Config{URL: r.URL, Prefix: "p"})
		if err != nil || tc.want == "" && len(all) > 0 || tc.want != "" && (len(all) != 1 || !strings.Contains(all[0], tc.want)) {
			t.Errorf("%v: %q, %v; want %q", tc.args, all, err, tc.want)
		}
	}
}

// An old one, and one whose clock goes wrong, are hard to come by: a program of our own answers
// as they do.
func TestLookFindsAnOldStoreAndAWrongClock(t *testing.T) {
	const info = "role:%s\r\nredis_version:%s\r\nmaxmemory:1000000\r\nmaxmemory_policy:volatile-lru\r\n"
	for _, tc := range []struct {
		version, role string
		ahead         time.Duration
		want          string
	}{
		{"5.0.7", "master", 0, "it is Redis 5.0.7, and needs to be 6.0 or newer"},
		{"6.0.0", "master", 0, ""},
		{"10.1.0", "master", 0, ""},
		{"7.0.15", "master", -time.Hour, "its clock is -1h0m0s away"},
		{"7.0.15", "master", 20 * time.Second, "its clock is 20s away"},
		{"7.0.15", "slave", 0, "it is a replica"},
	} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		var serving sync.WaitGroup
		serve := func(conn net.Conn) {
			defer conn.Close()
			in := bufio.NewReader(conn)
			for {
				words, err := command(in)
				if err != nil {
					return
				}
				switch strings.ToUpper(words[0]) {
				case "HELLO":
					fmt.Fprint(conn, "%1\r\n+version\r\n+"+tc.version+"\r\n")
				case "INFO":
					text := fmt.Sprintf(info, tc.role, tc.version)
					fmt.Fprintf(conn, "$%d\r\n%s\r\n", len(text), text)
				case "TIME":
					seconds := fmt.Sprint(time.Now().Add(tc.ahead).Unix())
					fmt.Fprintf(conn, "*2\r\n$%d\r\n%s\r\n$1\r\n0\r\n", len(seconds), seconds)
				case "CONFIG":
					fmt.Fprint(conn, "-NOPERM this user has no permissions\r\n")
				default:
					fmt.Fprint(conn, "+OK\r\n")
				}
			}
		}
		serving.Go(func() {
			for {
				conn, err := ln.Accept()
				if err != nil {
					return
				}
				serving.Go(func() { serve(conn) })
			}
		})
		all, err := shared.Look(t.Context(), shared.Config{URL: "redis://" + ln.Addr().String(), Prefix: "p"})
		if err != nil {
			all = append(all, err.Error())
		}
		if tc.want == "" && len(all) > 0 || tc.want != "" && (len(all) != 1 || !strings.Contains(all[0], tc.want)) {
			t.Errorf("%+v: %q", tc, all)
		}
		ln.Close()
		serving.Wait()
	}
}

// command reads one as clients send it.
func command(in *bufio.Reader) (words []string, err error) {
	line := func() (n int, err error) {
		s, err := in.ReadString('\n')
		if err != nil {
			return 0, err
		}
		return strconv.Atoi(strings.TrimSpace(s[1:]))
	}
	n, err := line()
	for range n {
		size, err := line()
		if err != nil {
			return nil, err
		}
		word := make([]byte, size+2)
		if _, err := io.ReadFull(in, word); err != nil {
			return nil, err
		}
		words = append(words, string(word[:size]))
	}
	return words, err
}

func TestPassesThroughTheWire(t *testing.T) { // what the tests above rely on
	r := sharedtest.Start(t)
	w := r.Wire()
	conn, err := net.Dial("tcp", w.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "PING\r\n")
	answer := make([]byte, 7)
	if _, err := io.ReadFull(conn, answer); err != nil || string(answer) != "+PONG\r\n" {
		t.Errorf("%q, %v", answer, err)
	}
}
