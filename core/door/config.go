package door

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/dragoman-mt/dragoman/core"
)

// Config is the section `server` of pipeline.yaml.
type Config struct {
	Listen       string        `json:"listen" jsonschema:"minLength=1" jsonschema_description:"Address and port to listen on. Beyond loopback (127.0.0.1, ::1, localhost) only with keys that translate."`
	Admin        string        `json:"admin" jsonschema_description:"Address and port for /metrics and /admin/, for operators. Empty: they are on the public listener, for keys with the role operate; without any keys, for calls from this machine that no proxy passes on."`
	Keys         []Key         `json:"keys" jsonschema_description:"Keys that clients send as 'Authorization: Bearer KEY': text, or a mapping with a name and a role. None that translates: everybody who reaches the listener may translate."`
	Origins      []string      `json:"origins" jsonschema_description:"Web pages that may call from a browser, such as https://app.example.com, whose host names are accepted in the Host header too; extensions and desktop programs too, such as chrome-extension://ID, or chrome-extension://* for all of them."`
	Deadline     time.Duration `json:"deadline" jsonschema_extras:"minDuration=1ms,maxDuration=10m" jsonschema_description:"How long a request may take: the default, and the most that a client may ask for."`
	DrainTimeout time.Duration `json:"drain_timeout" jsonschema_extras:"minDuration=0s,maxDuration=10m" jsonschema_description:"How long requests in flight may go on after the gateway was told to stop. The process ends within a second of it; docker stop kills after 10s."`
	MaxBody      core.Size     `json:"max_body" jsonschema_extras:"minSize=1KiB,maxSize=64MiB" jsonschema_description:"Largest body of a request."`
	MaxTexts     int           `json:"max_texts" jsonschema:"minimum=1,maximum=1000" jsonschema_description:"Most translations that one call may ask for: its texts times its targets."`
	Instructions string        `json:"instructions" jsonschema:"enum=on,enum=off" jsonschema_description:"Whether the instructions of clients reach the provider. off: they are left out, and the answers to those who gave some carry the flag instructions_ignored."`
	Languages    Languages     `json:"languages" jsonschema_description:"Which languages are offered. Without it: whatever the providers take."`
	MaxText      int           `json:"max_text" jsonschema:"minimum=1,maximum=1000000" jsonschema_description:"Longest text, in code points."`
}

// Defaults returns the values of the keys that a file leaves out.
func Defaults() Config {
	return Config{
		Listen:       "127.0.0.1:8080",
		Deadline:     4500 * time.Millisecond,
		DrainTimeout: 8 * time.Second,
		MaxBody:      1 << 20,
		MaxTexts:     50,
		MaxText:      10_000,
		Instructions: instructionsOn,
	}
}

// A Fault is a key of the section `server` whose value cannot be served.
type Fault struct {
	Key    string // "listen", "keys[1]"
	Detail string
}

func (f *Fault) Error() string { return "server." + f.Key + ": " + f.Detail }

// Check finds what no bound of a single key can: it returns all faults joined,
// each a *Fault.
func (c Config) Check() error { return errors.Join(c.faults()...) }

func (c Config) faults() (faults []error) {
	fault := func(key, format string, args ...any) {
		faults = append(faults, &Fault{key, fmt.Sprintf(format, args...)})
	}
	beyond := func(key, addr string) bool {
		if err := checkAddress(addr); err != nil {
			fault(key, "%v", err)
			return false
		}
		return !loopback(addr)
	}
	if beyond("listen", c.Listen) && !c.has(Translate) {
		fault("listen", "%s can be reached from other machines, and without keys everybody there could translate at your cost; set server.keys, or listen on 127.0.0.1", c.Listen)
	}
	if c.Admin != "" {
		if beyond("admin", c.Admin) && len(c.Keys) == 0 {
			fault("admin", "%s can be reached from other machines, and without an operator's key everybody there could read and change what the gateway does; give one of server.keys the role operate, or listen on 127.0.0.1", c.Admin)
		}
		if _, port, _ := net.SplitHostPort(c.Admin); c.Admin == c.Listen && port != "0" {
			fault("admin", "is the same address as server.listen; leave it empty to have both on one listener")
		}
	}
	keyFaults(c.Keys, fault)
	for _, list := range []struct {
		key  string
		tags []string
	}{{"source", c.Languages.Source}, {"target", c.Languages.Target}} {
		for i, tag := range list.tags {
			if _, err := core.ParseLanguage(tag); err != nil {
				fault(fmt.Sprintf("languages.%s[%d]", list.key, i), "%s", core.AsError(err, "").Detail)
			}
		}
	}
	if d := c.Languages.DefaultTarget; d != "" {
		if l, err := core.ParseLanguage(d); err != nil {
			fault("languages.default_target", "%s", core.AsError(err, "").Detail)
		} else if len(c.Languages.Target) > 0 && !slices.Contains(parsed(c.Languages.Target), l) {
			fault("languages.default_target", "%s is not one of server.languages.target", d)
		}
	}
	for i, o := range c.Origins {
		if err := checkOrigin(o); err != nil {
			fault(fmt.Sprintf("origins[%d]", i), "%v", err)
		}
	}
	return faults
}

// checkAddress refuses what cannot be listened on, whatever the machine.
func checkAddress(addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil || port == "" {
		return fmt.Errorf("%q is not an address and a port; write one such as 127.0.0.1:8080", addr)
	}
	if _, err := net.LookupPort("tcp", port); err != nil {
		return fmt.Errorf("%q has no port that there is; a port is a number from 1 to 65535, or 0 for any that is free", addr)
	}
	_, err = netip.ParseAddr(host)
	switch {
	case err == nil || host == "":
		return nil
	case host == "*":
		return fmt.Errorf("%q is not an address; 0.0.0.0:%s or :%[2]s stands for every one of this machine", addr, port)
	case strings.ContainsFunc(host, func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '.' || r == '-' || r == '_')
	}):
		return fmt.Errorf("%q begins with neither an address nor the name of a host; write one such as 127.0.0.1:8080", addr)
	}
	return nil
}

// checkOrigin refuses what no browser would send in an Origin header
// (RFC 6454 section 6.2), since it would silently never match.
func checkOrigin(o string) error {
	u, err := url.Parse(o)
	switch {
	case strings.Contains(o, "@"): // what stands before it may be a password
		return errors.New("an origin holds no @, name or password; leave only scheme, host and port, such as https://app.example.com")
	case err == nil && shells[u.Scheme] && o == u.Scheme+"://*":
		return nil
	case err != nil || (u.Scheme != "https" && u.Scheme != "http" && !shells[u.Scheme]) || u.Host == "" || !shells[u.Scheme] && o != strings.ToLower(o) || strings.Contains(o, "*"):
		return fmt.Errorf("%q is not the origin of a page; write scheme and host in lower case, such as https://app.example.com", o)
	case u.User != nil || u.Path != "" || u.RawQuery != "" || u.Fragment != "":
		return fmt.Errorf("%q is more than an origin; leave only %s://%s", o, u.Scheme, u.Host)
	}
	return http.NewCrossOriginProtection().AddTrustedOrigin(o)
}

// shells are the schemes of the origins of browsers' extensions and of programs that
// are pages in a window of their own. Of each "SCHEME://*" stands for all.
var shells = map[string]bool{
	"chrome-extension": true, "moz-extension": true, "safari-web-extension": true, "tauri": true, "app": true,
}

// loopback says whether only this machine can reach addr (host:port).
func loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	return err == nil && loopbackHost(host)
}

// loopbackHost says whether host is a loopback address or a name that never
// leaves the machine (RFC 6761 section 6.3).
func loopbackHost(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && ip.Unmap().IsLoopback()
}
