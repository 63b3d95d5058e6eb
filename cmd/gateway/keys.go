package gateway

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"strings"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/door"
)

// shortestKey is how long a key has to be so that nobody finds it by trying: 16
// characters of base64 are 96 bits.
const shortestKey = 16

// placeholders are what people put in place of a key: until it is replaced, or for
// good. Compared without case, blanks, - and _.
var placeholders = []string{
	"changeme", "changethis", "replaceme", "secret", "yourkey", "yoursecret", "yourapikey", "mykey", "apikey", "token", "password", "passwd", "example", "placeholder",
	"dragoman", "default", "test", "todo", "dummy", "sample", "insertkeyhere", "key", "supersecret",
}

// placeholder says whether a key is one that anybody would guess.
func placeholder(key string) bool {
	bare := strings.NewReplacer("-", "", "_", "", ".", "", "<", "", ">", "").Replace(strings.ToLower(key))
	rest := strings.Trim(bare, "x0123456789*")
	for _, word := range placeholders {
		if bare == word || rest == word || rest == word+"here" || rest == "sk"+word || rest == word+word {
			return true
		}
	}
	return rest == "" || strings.Contains(bare, "yourkey") || strings.Contains(bare, "yourapikey") || strings.Contains(bare, "changeme") || strings.Trim(key, key[:1]) == ""
}

// keyWarnings are about server.keys that work, and should not. Of a key, or a role,
// that is unknown because its variable is not set, nothing is said.
func keyWarnings(c *door.Config, unknown func(path string) bool, warn func(format string, args ...any)) {
	operated := unknown("server.keys") && len(c.Keys) == 0
	for i, k := range c.Keys {
		at := fmt.Sprintf("server.keys[%d]", i)
		operated = operated || k.For(door.Operate) || unknown(at+".role")
		if unknown(at) {
			continue
		}
		shown := k.Key.Reveal()
		switch {
		case k.SHA256 != "":
			if sumOfPlaceholder(k.SHA256) {
				warn("server.keys[%d] is the sum of a placeholder that anybody would try; take a random key, such as `openssl rand -hex 24` prints", i)
			}
		case shown == "":
		case placeholder(shown):
			warn("server.keys[%d] is a placeholder that anybody would try; take a random one, such as `openssl rand -hex 24` prints", i)
		case len(shown) < shortestKey:
			warn("server.keys[%d] has %d characters, which can be found by trying; take a random one of %d or more, such as `openssl rand -hex 24` prints", i, len(shown), shortestKey)
		}
	}
	if len(c.Keys) > 0 && !operated {
		if host, _, err := net.SplitHostPort(c.Admin); err == nil && (host == "localhost" || net.ParseIP(host).IsLoopback()) {
			warn("none of server.keys has the role operate, so everybody on this machine who reaches server.admin (%s) may read and change what the gateway does; give one the role", c.Admin)
			return
		}
		warn("none of server.keys has the role operate, so /metrics and /admin/ are off over HTTP; give one the role, or set server.admin to an address of this machine (`dragoman status` and its like need neither)")
	}
}

func sumOfPlaceholder(sum core.Secret) bool {
	for _, word := range append([]string{"change-me"}, placeholders...) {
		of := sha256.Sum256([]byte(word))
		if strings.EqualFold(hex.EncodeToString(of[:]), sum.Reveal()) {
			return true
		}
	}
	return false
}
