package door

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/lazy"
	"github.com/dragoman-mt/dragoman/core/usage"
)

// A Key is one of server.keys: text, which is the key itself, or a mapping.
type Key struct {
	Name               string      `json:"name" jsonschema:"pattern=^[A-Za-z0-9._-]{1\\,64}$" jsonschema_description:"What its client is called in the log and in metrics. Without a name: key- and the first 8 hexadecimal digits of its SHA-256 sum."`
	Key                core.Secret `json:"key" short:"true" jsonschema_description:"The key itself."`
	SHA256             core.Secret `json:"key_sha256" jsonschema:"pattern=^[0-9a-fA-F]{64}$" jsonschema_description:"In place of the key its SHA-256 sum, 64 hexadecimal digits, so that the file does not hold the key."`
	CharactersPerMonth int64       `json:"characters_per_month" jsonschema:"minimum=1" jsonschema_description:"The most characters (code points) of texts that may be translated for it in a month, which ends by UTC. Left out: any number."`
	RequestsPerMinute  int64       `json:"requests_per_minute" jsonschema:"minimum=1,maximum=1000000" jsonschema_description:"The most calls that it may make in any 60 seconds. Left out: any number."`
	MaxLane            string      `json:"max_lane" jsonschema:"enum=final,enum=partial,enum=bulk,default=final" jsonschema_description:"The highest lane of its texts: what would be in a higher one waits in this. final is the highest, bulk the lowest."`
	Doors              []string    `json:"doors" jsonschema:"minItems=1,uniqueItems=true,enum=native,enum=live,enum=deepl,enum=libretranslate,enum=openai" jsonschema_description:"The doors that it opens: native, live, deepl, libretranslate, openai. Left out: all."`
	Glossary           string      `json:"glossary" jsonschema_description:"One of glossaries, which holds for the texts of its calls that name none and bring no terms, at every door: for clients that cannot name one. Empty: none."`
	Role               Role        `json:"role" jsonschema:"enum=translate,enum=operate,default=translate" jsonschema_description:"translate: for clients. operate: for /metrics, /admin/ and what watches and changes the gateway; it does not translate."`
}

// A Role says what a key is for. Empty is Translate.
type Role string

const (
	Translate Role = "translate"
	Operate   Role = "operate"
)

// For says whether k is for role.
func (k Key) For(role Role) bool {
	return k.Role == role || k.Role == "" && role == Translate
}

func (k Key) is(o Key) bool { return reflect.DeepEqual(k, o) }

// has says whether any key is for role.
func (c Config) has(role Role) bool {
	for _, k := range c.Keys {
		if k.For(role) {
			return true
		}
	}
	return false
}

// sum is the SHA-256 sum of a key that passed the check.
func (k Key) sum() (sum [sha256.Size]byte) {
	if k.SHA256 == "" {
		return sha256.Sum256([]byte(k.Key.Reveal()))
	}
	hex.Decode(sum[:], []byte(k.SHA256.Reveal()))
	return sum
}

// client is what who shows the key is called.
func (k Key) client() string {
	if k.Name != "" {
		return k.Name
	}
	sum := k.sum()
	return "key-" + hex.EncodeToString(sum[:4])
}

var (
	keyName = lazy.Regexp(`^[A-Za-z0-9._-]{1,64}$`)
	keySum  = lazy.Regexp(`^[0-9a-fA-F]{64}$`)
)

// check returns what is wrong with k itself.
func (k Key) check() (below, why string) {
	switch {
	case k.Name != "" && !keyName().MatchString(k.Name):
		return ".name", "a name is 1 to 64 letters, digits, dots, - and _"
	case k.Role != "" && k.Role != Translate && k.Role != Operate:
		return ".role", fmt.Sprintf("must be translate or operate, got %.40q", string(k.Role))
	case k.Key != "" && k.SHA256 != "":
		return "", "has both key and key_sha256, which could differ; keep one of them"
	case k.is(Key{}):
		return "", "the key is empty; is the environment variable behind it set?"
	case k.Key == "" && k.SHA256 == "":
		return "", "needs a key or a key_sha256, and neither is there, or it is empty; is the environment variable behind it set?"
	case k.SHA256 != "" && !keySum().MatchString(k.SHA256.Reveal()):
		return ".key_sha256", "must be a SHA-256 sum, 64 hexadecimal digits, as `printf %s KEY | sha256sum` prints it"
	case k.CharactersPerMonth < 0:
		return ".characters_per_month", "must be at least 1; leave it out for any number"
	case k.RequestsPerMinute < 0:
		return ".requests_per_minute", "must be at least 1; leave it out for any number"
	case k.MaxLane != "" && !slices.Contains(lanes, k.MaxLane):
		return ".max_lane", fmt.Sprintf("must be one of %s, got %.40q", strings.Join(lanes, ", "), k.MaxLane)
	case k.For(Operate) && !k.is(Key{Name: k.Name, Key: k.Key, SHA256: k.SHA256, Role: k.Role}):
		return "", "is an operator's key, which translates nothing: it can have neither characters_per_month, requests_per_minute, max_lane, glossary nor doors"
	case k.is(Key{Key: k.Key}) && strings.Contains(k.Key.Reveal(), ","):
		return "", "holds a comma, and is one key; several keys are several items of the list: [KEY, KEY]. A key that has a comma is written {name: NAME, key: KEY}"
	case strings.ContainsFunc(k.Key.Reveal(), func(r rune) bool { return r <= ' ' || r > '~' }):
		return "", "a key is made of printable ASCII characters without blanks, since it travels in a header"
	}
	return "", ""
}

// keyFaults tells what is wrong with keys, one by one and among each other.
func keyFaults(keys []Key, fault func(key, format string, args ...any)) {
	names, sums := map[string]int{}, map[[sha256.Size]byte]int{}
	for i, k := range keys {
		if below, why := k.check(); why != "" {
			fault(fmt.Sprintf("keys[%d]%s", i, below), "%s", why)
			continue
		}
		// Text twice was always taken, and means nothing.
		plain := k.is(Key{Key: k.Key})
		if j, twice := sums[k.sum()]; twice {
			if !plain || !keys[j].is(Key{Key: keys[j].Key}) {
				fault(fmt.Sprintf("keys[%d]", i), "is the same key as keys[%d]; a key has one name and one role", j)
			}
			continue
		}
		sums[k.sum()] = i
		if j, twice := names[k.client()]; twice {
			fault(fmt.Sprintf("keys[%d].name", i), "%s is what keys[%d] is called already; a name is one client's", k.client(), j)
			continue
		}
		names[k.client()] = i
	}
}

// A key is a Key as calls are held against it.
type key struct {
	sum      [sha256.Size]byte
	client   string
	operates bool
	limits   usage.Limits
	lane     core.Lane
	doors    []string // empty: all
	glossary string   // of calls that name none; empty: none
}

// lanes are the values of max_lane, as core.Lane counts them.
var lanes = []string{core.LaneFinal.String(), core.LanePartial.String(), core.LaneBulk.String()}

func newKeys(keys []Key) (all []key) {
	for _, k := range keys {
		all = append(all, key{
			sum: k.sum(), client: k.client(), operates: k.For(Operate), doors: k.Doors, glossary: k.Glossary,
			limits: usage.Limits{CharactersPerMonth: k.CharactersPerMonth, RequestsPerMinute: k.RequestsPerMinute},
			lane:   core.Lane(max(0, slices.Index(lanes, k.MaxLane))),
		})
	}
	return all
}

// known returns the key that a call carries, or nil. How long it takes does not
// tell which key was nearly right.
func (r *Rules) known(shown string) *key {
	sum := sha256.Sum256([]byte(shown))
	var found *key
	for i := range r.keys {
		if subtle.ConstantTimeCompare(sum[:], r.keys[i].sum[:]) == 1 {
			found = &r.keys[i]
		}
	}
	return found
}

// Client says who is billed for a call at a door, which carries key: the key's name, or
// "key-" and 8 hex digits of its SHA-256; without keys that translate, the
// address of the client; CommandLine for this user's commands, and Playground for an operator who tries. The error is unauthorized, or forbidden for a key that
// is an operator's, or for other doors.
func (r *Rules) Client(from *http.Request, key, door string) (string, error) {
	if isLocal(from) {
		return CommandLine, nil
	}
	if isTrial(from) {
		return Playground, nil
	}
	if !r.has(Translate) {
		return host(from.RemoteAddr), nil
	}
	k, err := r.identify(from, key)
	if err != nil {
		return "", err
	}
	if k.operates {
		return "", &core.Error{Kind: core.Forbidden, Detail: "the key is an operator's, which does not translate; send a key of the role translate"}
	}
	if len(k.doors) > 0 && !slices.Contains(k.doors, door) {
		return "", &core.Error{Kind: core.Forbidden, Detail: "the key is for other doors than " + door + " (doors of its entry in server.keys)"}
	}
	return k.client, nil
}

// identify returns the key that a call shows.
func (r *Rules) identify(from *http.Request, shown string) (*key, error) {
	if shown == "" {
		return nil, &core.Error{Kind: core.Unauthorized, Detail: "a key is needed: send the header Authorization: Bearer KEY"}
	}
	k := r.known(shown)
	if k == nil {
		r.service.strangers.knocked(host(from.RemoteAddr))
		return nil, &core.Error{Kind: core.Unauthorized, Detail: "the key is not one of server.keys"}
	}
	return k, nil
}

func host(addr string) string {
	if host, _, err := net.SplitHostPort(addr); err == nil {
		return host
	}
	return addr
}

// strangers tells the log of calls with wrong keys: one line, and then one for
// all that came in strangersEvery. Never a key, for it may be nearly right.
type strangers struct {
	mu     sync.Mutex
	log    *zap.Logger // nil until a server has one
	said   time.Time
	untold int
}

const strangersEvery = 10 * time.Second

func (s *strangers) knocked(from string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.untold++
	now := time.Now()
	if s.log == nil || now.Sub(s.said) < strangersEvery {
		return
	}
	s.log.Warn("a key is refused that is not one of server.keys", zap.Int("calls", s.untold), zap.String("last_from", from))
	s.said, s.untold = now, 0
}

func (s *strangers) tell(log *zap.Logger) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log = log
}
