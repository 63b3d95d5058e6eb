package pool

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/net/http/httpproxy"

	"github.com/dragoman-mt/dragoman/core/files"
)

// The values of Config.Protocol.
const (
	HTTP1 = "http1" // a connection carries one call at a time
	HTTP2 = "http2" // it carries many, where the server can
)

// The values of Config.Mode.
const (
	Pooled = "pooled" // connections are kept, and ready before they are needed
	Direct = "direct" // a new connection for each call, closed after it
)

// Config holds the keys of `pool:`. Start from Defaults.
type Config struct {
	Mode            string        `json:"mode" jsonschema:"enum=pooled,enum=direct" jsonschema_description:"pooled keeps connections ready; direct opens a new one for each call and closes it after."`
	Protocol        string        `json:"protocol" jsonschema:"enum=http1,enum=http2" jsonschema_description:"http1 is the faster. With http2 a call that is given up does not cost its connection, and a connection carries many calls, so that 2 warm and 4 at most are enough; an upstream that does not speak it is called with http1."`
	WarmConnections int           `json:"warm_connections" jsonschema:"minimum=0,maximum=1000" jsonschema_description:"Connections kept dialled and handshaken before they are needed, for each upstream in use. At most max_connections."`
	MaxConnections  int           `json:"max_connections" jsonschema:"minimum=1,maximum=1000" jsonschema_description:"Most connections open to one upstream; a call beyond them waits. One more may be open while an ageing one is replaced, or kept aside to see how long the server keeps it. Direct mode has no maximum."`
	IdleTimeout     time.Duration `json:"idle_timeout" jsonschema_extras:"minDuration=100ms,maxDuration=1h" jsonschema_description:"Longest time a connection stays unused. When the server closes idle ones sooner, that is learned and kept below."`
	MaxAge          time.Duration `json:"max_age" jsonschema_extras:"minDuration=1s,maxDuration=24h" jsonschema_description:"Age at which a connection is replaced, so that a change in DNS is followed."`
	DialTimeout     time.Duration `json:"dial_timeout" jsonschema_extras:"minDuration=10ms,maxDuration=1m" jsonschema_description:"Longest time for DNS, TCP, proxy and TLS together."`
	CAFile          string        `json:"ca_file" path:"true" jsonschema_description:"PEM file of certificate authorities to trust beside the system's; empty for none."`
	Proxy           string        `json:"proxy" credentials:"true" jsonschema_description:"http, https or socks5 URL of the proxy for every upstream connection; empty takes HTTPS_PROXY, HTTP_PROXY and NO_PROXY from the environment."`
}

// Defaults returns what holds for the keys that a file leaves out.
func Defaults() Config {
	return Config{
		Mode:            Pooled,
		Protocol:        HTTP1,
		WarmConnections: 6,
		MaxConnections:  10,
		IdleTimeout:     50 * time.Second,
		MaxAge:          10 * time.Minute,
		DialTimeout:     3 * time.Second,
	}
}

// check returns everything that is wrong with c by itself, each with its key.
func (c Config) check() error {
	var wrong []error
	complain := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }
	if c.Mode != Pooled && c.Mode != Direct {
		complain("mode: must be %s or %s, got %q", Pooled, Direct, c.Mode)
	}
	if c.Protocol != HTTP1 && c.Protocol != HTTP2 {
		complain("protocol: must be %s or %s, got %q", HTTP1, HTTP2, c.Protocol)
	}
	if c.MaxConnections < 1 {
		complain("max_connections: must be at least 1, got %d", c.MaxConnections)
	}
	if c.WarmConnections < 0 {
		complain("warm_connections: must be at least 0, got %d", c.WarmConnections)
	}
	if c.WarmConnections > c.MaxConnections {
		complain("warm_connections: %d is more than max_connections, which is %d", c.WarmConnections, c.MaxConnections)
	}
	for _, d := range []struct {
		key   string
		value time.Duration
	}{{"idle_timeout", c.IdleTimeout}, {"max_age", c.MaxAge}, {"dial_timeout", c.DialTimeout}} {
		if d.value <= 0 {
			complain("%s: must be more than 0s, got %s", d.key, d.value)
		}
	}
	return errors.Join(wrong...)
}

// maxCAFile is the longest ca_file that is read, in bytes: some forty times what all
// public authorities take.
const maxCAFile = 8 << 20

// roots returns the system's authorities and those of ca_file, and what that
// holds; nil means the system's alone.
func (c Config) roots() (roots *x509.CertPool, held string, err error) {
	if c.CAFile == "" {
		return nil, "", nil
	}
	pem, err := files.Read(c.CAFile, maxCAFile)
	if err != nil {
		return nil, "", fmt.Errorf("ca_file: %w", err)
	}
	roots, err = x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	if !roots.AppendCertsFromPEM(pem) {
		return nil, "", fmt.Errorf("ca_file: %s holds no certificate in PEM form", c.CAFile)
	}
	return roots, string(pem), nil
}

// proxy returns what finds the proxy of an origin, where nil is no proxy, and
// what the environment says if that is asked. It is read once, here.
func (c Config) proxy() (find func(*url.URL) (*url.URL, error), from httpproxy.Config, err error) {
	if c.Proxy == "" {
		from = *httpproxy.FromEnvironment()
		choose := from.ProxyFunc()
		return func(origin *url.URL) (*url.URL, error) {
			u, err := choose(origin)
			if err == nil && u != nil && !wholeProxy(u) {
				err = errors.New("the proxy that the environment names" + notWhole)
			}
			return u, err
		}, from, nil
	}
	// What is wrong with it is not repeated: any part of it may be a password.
	u, err := url.Parse(c.Proxy)
	if err != nil {
		return nil, from, errors.New("proxy: is not a URL; write http://host:port, https://host:port or socks5://host:port, and in a name or a password %40 for @, %2F for / and %3A for :")
	}
	switch u.Scheme {
	case "http", "https", "socks5", "socks5h":
	default:
		return nil, from, errors.New("proxy: must start with http://, https:// or socks5://")
	}
	if u.Hostname() == "" {
		return nil, from, errors.New("proxy: names no host")
	}
	if !wholeProxy(u) {
		return nil, from, errors.New("proxy:" + notWhole)
	}
	return func(*url.URL) (*url.URL, error) { return u, nil }, from, nil
}

// wholeProxy says whether u is what its author meant: what follows a / in a password
// is none of it to a URL, and would be taken for a path.
func wholeProxy(u *url.URL) bool {
	return !strings.ContainsRune(u.Path+u.RawQuery+u.Fragment, '@')
}

const notWhole = " has an @ after its host; write %2F for a / in its password, %40 for an @, %3F for a ? and %23 for a #"

// protocols is what connections may negotiate. HTTP/1.1 always is among them.
func protocols(two bool) *http.Protocols {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	p.SetHTTP2(two)
	return p
}
