package shared

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/lazy"
)

// Config holds the keys of `shared:`. Without a url nothing is shared.
type Config struct {
	URL      string      `json:"url" credentials:"true" jsonschema_description:"The Redis or Valkey that the gateways of one group share: redis://USER:PASSWORD@HOST:PORT/DB, rediss:// over TLS, unix:///PATH. ?addr=HOST:PORT, once for each further one, names the nodes of a cluster; with &master_set=NAME as well they are Sentinels. Empty: nothing is shared."`
	URLState string      `json:"url_state" credentials:"true" jsonschema_description:"Another one for leases and pauses, which must not be evicted to make room for answers. Empty: that of url."`
	Prefix   string      `json:"prefix" jsonschema_description:"What the names of all keys begin with: gateways with the same prefix are one group. Letters, digits, and - _ . in between."`
	Encrypt  core.Secret `json:"encrypt" jsonschema_description:"A secret of 16 characters or more, the same for the whole group, with which answers are encrypted before they are stored. Empty: they lie there as they are."`
}

// Defaults is a Config in which nothing is shared.
func Defaults() Config { return Config{Prefix: "dragoman"} }

// On says whether anything is shared.
func (c Config) On() bool { return c.URL != "" }

var goodPrefix = lazy.Regexp(`^[A-Za-z0-9]([A-Za-z0-9_.-]{0,62}[A-Za-z0-9])?$`)

// shortestSecret is the shortest that `encrypt` may be, in bytes.
const shortestSecret = 16

// Check returns what no bound of a single key can find. Its errors begin with the key.
func (c Config) Check() error {
	var wrong []error
	for key, value := range map[string]string{"url": c.URL, "url_state": c.URLState} {
		if value == "" {
			continue
		}
		if _, err := option(value); err != nil {
			wrong = append(wrong, fmt.Errorf("shared.%s: %w", key, err))
		}
	}
	if !c.On() && c.URLState != "" {
		wrong = append(wrong, errors.New("shared.url_state: says where state is shared, and shared.url is empty, so nothing is; set shared.url as well"))
	}
	if !goodPrefix().MatchString(c.Prefix) {
		wrong = append(wrong, errors.New("shared.prefix: must be 1 to 64 letters and digits, with - _ . in between, such as captions-prod"))
	}
	if n := len(c.Encrypt.Reveal()); n > 0 && n < shortestSecret {
		wrong = append(wrong, fmt.Errorf("shared.encrypt: is %d bytes long and must be at least %d, of a random generator; `openssl rand -base64 32` makes one", n, shortestSecret))
	}
	return errors.Join(wrong...)
}

const urlForms = "redis://USER:PASSWORD@HOST:PORT/DB, rediss://... over TLS, or unix:///PATH"

// option is how to reach what address names. The errors say nothing of what it holds.
func option(address string) (o rueidis.ClientOption, err error) {
	u, err := url.Parse(address)
	if err != nil {
		return o, errors.New("is no URL: it must be " + urlForms + "; a password with one of / ? # % @ has these percent-encoded")
	}
	switch u.Scheme {
	case "unix":
		if u.Host != "" || !path.IsAbs(u.Path) {
			return o, errors.New("must name a socket by its whole path, such as unix:///run/redis/redis.sock")
		}
	case "redis", "rediss", "valkey", "valkeys":
		if u.Hostname() == "" {
			return o, errors.New("names no host: it must be " + urlForms)
		}
		if db := strings.TrimPrefix(u.Path, "/"); db != "" {
			if n, err := strconv.Atoi(db); err != nil || n < 0 {
				return o, errors.New("has behind the host something that is not the number of a database: it must be " + urlForms)
			}
		}
	default:
		return o, errors.New("must be " + urlForms)
	}
	if u.Fragment != "" {
		return o, errors.New("has a # in it, behind which nothing is read: write %23 where it belongs to a password")
	}
	q, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return o, errors.New("has a query that cannot be read: it may be ?addr=HOST:PORT, &master_set=NAME and &db=NUMBER")
	}
	for _, key := range slices.Sorted(maps.Keys(q)) {
		switch {
		case key == "addr" || key == "master_set":
			if u.Scheme == "unix" {
				return o, fmt.Errorf("has ?%s, which does not go with a socket", key)
			}
		case key != "db":
			return o, fmt.Errorf("has ?%.40s, which is unknown: there are addr (further nodes of a cluster, or further Sentinels), master_set (of Sentinels) and db", key)
		}
	}
	for _, addr := range q["addr"] {
		if host, port, err := net.SplitHostPort(addr); err != nil || host == "" || port == "" {
			return o, errors.New("has an ?addr= that is not HOST:PORT")
		}
	}
	if o, err = rueidis.ParseURL(address); err != nil {
		return o, errors.New("cannot be understood: it must be " + urlForms)
	}
	// What rueidis does without being told is to retry reads as long as they have time, to keep
	// half a megabyte for each direction of four connections, and to cut a connection off
	// for one call that took too long.
	o.DisableRetry, o.DisableCache, o.AlwaysPipelining, o.PipelineMultiplex = true, true, true, 0
	o.RingScaleEachConn, o.ReadBufferEachConn, o.WriteBufferEachConn = 8, 32<<10, 32<<10
	o.Dialer.Timeout, o.Dialer.KeepAlive, o.ConnWriteTimeout = patience, 400*time.Millisecond, patience
	o.BlockingPoolSize = 2
	o.ClientSetInfo = rueidis.DisableClientSetInfo
	o.ForceSingleClient = len(o.InitAddress) == 1 && o.Sentinel.MasterSet == ""
	if o.Sentinel.MasterSet != "" {
		o.Sentinel.Dialer, o.Sentinel.TLSConfig = o.Dialer, o.TLSConfig
		o.Sentinel.TopologyRefreshInterval = 5 * time.Second
	}
	o.ClientName = "dragoman"
	return o, nil
}
