// Package shared is what the gateways of one group have in common, over Redis or Valkey:
// core.Shared. Each gateway writes only what is its own, and in absolute values, so that a
// call that is lost or repeated changes nothing, and a store that was emptied fills by itself.
package shared

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/dragoman-mt/dragoman/core"
)

// A Store is what one gateway has of the group. It is safe for concurrent use.
type Store struct {
	self, machine  string
	state, answers *part // of the same room when there is one URL
	log            *zap.Logger

	names []byte      // what Name hashes with; nil without a secret
	seal  cipher.AEAD // nil without a secret

	mu      sync.Mutex
	me      Member
	fill    func(*Member) // see Tell; nil for nothing
	members []Member
	apart   string // the members that answer otherwise, as it was logged last
	stop    context.CancelFunc
	beating sync.WaitGroup
}

var (
	_ core.Shared   = (*Store)(nil)
	_ core.Measurer = (*Store)(nil)
)

// New returns what c describes, or nil when nothing is to be shared. Nothing is connected
// before Start. Machine names where this process runs, the same after a restart.
func New(c Config, machine string, log *zap.Logger) (*Store, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	if !c.On() {
		return nil, nil
	}
	s := &Store{self: rand.Text(), machine: machine, log: log}
	o, err := option(c.URL)
	if err != nil {
		return nil, fmt.Errorf("shared.url: %w", err)
	}
	if c.URLState == "" || c.URLState == c.URL {
		both := newRoom("state and answers", c.Prefix, o, log)
		s.state, s.answers = both.serves("state"), both.serves("answers")
	} else {
		s.answers = newRoom("answers", c.Prefix, o, log).serves("answers")
		if o, err = option(c.URLState); err != nil {
			return nil, fmt.Errorf("shared.url_state: %w", err)
		}
		s.state = newRoom("state", c.Prefix, o, log).serves("state")
	}
	if secret := c.Encrypt.Reveal(); secret != "" {
		if err := s.encrypt(secret, c.Prefix); err != nil {
			return nil, fmt.Errorf("shared.encrypt: %w", err)
		}
	}
	return s, nil
}

// encrypt makes the keys: one for names, one for values.
func (s *Store) encrypt(secret, prefix string) error {
	keys, err := hkdf.Key(sha256.New, []byte(secret), []byte(prefix), "dragoman shared answers 1", 64)
	if err != nil {
		return err
	}
	block, err := aes.NewCipher(keys[:32])
	if err != nil {
		return err
	}
	s.names = keys[32:]
	s.seal, err = cipher.NewGCM(block)
	return err
}

// rooms are those that there are, each once.
func (s *Store) rooms() []*room {
	if s.state.room == s.answers.room {
		return []*room{s.state.room}
	}
	return []*room{s.state.room, s.answers.room}
}

func (s *Store) parts() []*part { return []*part{s.state, s.answers} }

// Start connects, and tells the others that me is there. It takes half a second at the
// most, and does not fail: a store that is away is asked for until it is back.
func (s *Store) Start(me Member) {
	var starting sync.WaitGroup
	for _, r := range s.rooms() {
		starting.Go(r.start)
	}
	starting.Wait()
	me.Self, me.Machine, me.Version = s.self, s.machine, memberVersion
	s.me = me
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.beating.Go(func() { s.beat(ctx) })
}

// Close tells the others that this gateway leaves, and closes everything. What uses the
// store is closed before.
func (s *Store) Close() {
	if s.stop != nil {
		s.stop()
		s.beating.Wait()
		if s.state.Up() {
			_, _ = s.state.Run(context.Background(), leave, membersKey, s.self) // the record expires if not
		}
	}
	for _, r := range s.rooms() {
		r.end()
	}
}

func (s *Store) Self() string       { return s.self }
func (s *Store) Machine() string    { return s.machine }
func (s *Store) State() core.Room   { return s.state }
func (s *Store) Answers() core.Room { return s.answers }

// Name is a hash of key, with the secret if there is one: whoever reads the store can then
// not even try whether a text that he guesses is there.
func (s *Store) Name(key string) string {
	if s.names == nil {
		sum := sha256.Sum256([]byte(key))
		return hex.EncodeToString(sum[:])
	}
	mac := hmac.New(sha256.New, s.names)
	mac.Write([]byte(key))
	return hex.EncodeToString(mac.Sum(nil))
}

// The first byte of what Seal returns.
const (
	plain  = 'p'
	sealed = 'e'
)

func (s *Store) Seal(name string, value []byte) []byte {
	if s.seal == nil {
		return append([]byte{plain}, value...)
	}
	nonce := make([]byte, s.seal.NonceSize(), 1+s.seal.NonceSize()+len(value)+s.seal.Overhead())
	_, _ = rand.Read(nonce) // it never fails
	out := append([]byte{sealed}, nonce...)
	return s.seal.Seal(out, nonce, value, []byte(name))
}

func (s *Store) Open(name string, value []byte) ([]byte, error) {
	switch {
	case len(value) == 0:
		return nil, errors.New("it is empty")
	case value[0] == plain && s.seal == nil:
		return value[1:], nil
	case value[0] == plain:
		return nil, errors.New("it is not encrypted, and shared.encrypt is set")
	case value[0] != sealed:
		return nil, errors.New("another program or a newer version wrote it")
	case s.seal == nil:
		return nil, errors.New("it is encrypted, and shared.encrypt is not set")
	}
	size := s.seal.NonceSize()
	if len(value) < 1+size {
		return nil, errors.New("it is cut off")
	}
	opened, err := s.seal.Open(nil, value[1:1+size], value[1+size:], []byte(name))
	if err != nil {
		return nil, errors.New("shared.encrypt is another than that of the gateway that wrote it")
	}
	return opened, nil
}

// A Member is a gateway of the group.
type Member struct {
	Version int       `json:"v"`
	Self    string    `json:"self"`
	Machine string    `json:"machine"`
	PID     int       `json:"pid"`
	Program string    `json:"program,omitempty"` // its version
	Listen  string    `json:"listen,omitempty"`
	Started time.Time `json:"started"`
	// Answers changes with anything that changes an answer: gateways with different ones
	// cannot use each other's.
	Answers string `json:"answers,omitempty"`
	// Lease is how many requests it may start before it asks again, Used how many it has
	// started of the last minute's, of the account in use, and Alone says that it keeps to its
	// part of the limit.
	Lease int64 `json:"lease"`
	Used  int64 `json:"used"`
	Alone bool  `json:"alone"`
}

// memberVersion is that of the records of members that this program writes.
const memberVersion = 1

const (
	membersKey = "members"
	beat       = 2 * time.Second
	// gone is after how long without a word a gateway is not told of any more, in milliseconds.
	gone = "10000"
)

var present = &core.Script{Source: `
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
redis.call('HSET', KEYS[1], ARGV[2], string.format('%d ', now + ARGV[3]) .. ARGV[4])
redis.call('PEXPIRE', KEYS[1], 3600000)
local all = redis.call('HGETALL', KEYS[1])
local out = {}
for i = 1, #all, 2 do
  local till, record = string.match(all[i + 1], '^(%d+) (.*)$')
  if till and tonumber(till) >= now then
    if #out < 256 then out[#out + 1] = record end
  else
    redis.call('HDEL', KEYS[1], all[i])
  end
end
return out`}

var leave = &core.Script{Source: `redis.call('HDEL', KEYS[1], ARGV[2]) return {}`}

// beat tells the others that this gateway is there, and hears who else is.
func (s *Store) beat(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		s.mu.Lock()
		me, fill := s.me, s.fill
		s.mu.Unlock()
		if fill != nil {
			if fill(&me); me.Answers != "" {
				sum := sha256.Sum256([]byte(me.Answers))
				me.Answers = hex.EncodeToString(sum[:6])
			}
		}
		if record, err := json.Marshal(me); err == nil && s.state.Up() {
			if all, err := s.state.Run(ctx, present, membersKey, s.self, gone, string(record)); err == nil {
				s.heard(me, all)
			}
		}
		timer.Reset(beat)
	}
}

func (s *Store) heard(me Member, records []string) {
	var all []Member
	var apart []string
	for _, record := range records {
		var m Member
		if json.Unmarshal([]byte(record), &m) != nil || m.Self == "" {
			continue
		}
		all = append(all, m)
		if m.Self != s.self && m.Answers != "" && me.Answers != "" && m.Answers != me.Answers {
			apart = append(apart, m.Machine)
		}
	}
	slices.SortFunc(all, func(a, b Member) int { return strings.Compare(a.Machine+a.Self, b.Machine+b.Self) })
	slices.Sort(apart)
	said := strings.Join(apart, ", ")
	s.mu.Lock()
	s.members = all
	again := said == s.apart
	s.apart = said
	s.mu.Unlock()
	if said != "" && !again {
		s.log.Warn("gateways with the same shared.prefix have other providers, models or prompts: they share limits, and no answers", zap.Strings("gateways", apart))
	}
}

// Tell has fill say what else the others are to know of this gateway, every few seconds.
// What it puts into Answers may be long: the others see a hash.
func (s *Store) Tell(fill func(*Member)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fill = fill
}

// A Report is what `dragoman status` tells of the group.
type Report struct {
	Self    string       `json:"self"`
	Members []Member     `json:"members"`
	Rooms   []RoomReport `json:"rooms"`
}

// A RoomReport is how the store is for one purpose, and what that has cost since the start.
type RoomReport struct {
	Name     string `json:"name"`
	Up       bool   `json:"up"`
	Why      string `json:"why,omitempty"` // it is not
	Answered int64  `json:"answered"`
	Failed   int64  `json:"failed"`
	Refused  int64  `json:"refused"`
	Dropped  int64  `json:"dropped"`
	// Mean is how long a call took.
	Mean float64 `json:"mean_ms"`
}

// Report says who is there, and how the store is.
func (s *Store) Report() Report {
	s.mu.Lock()
	rep := Report{Self: s.self, Members: slices.Clone(s.members)}
	s.mu.Unlock()
	for _, p := range s.parts() {
		p.mu.Lock()
		why := p.said
		p.mu.Unlock()
		one := RoomReport{Name: p.of, Up: p.up.Load(), Why: why, Answered: p.answered.Load(), Failed: p.failed.Load(), Refused: p.refused.Load(), Dropped: p.dropped.Load()}
		if calls := one.Answered + one.Failed; calls > 0 {
			one.Mean = time.Duration(p.spent.Load()/calls).Seconds() * 1000
		}
		rep.Rooms = append(rep.Rooms, one)
	}
	return rep
}

// Measure reports how the store is, and what it costs.
func (s *Store) Measure(emit func(core.Measure)) {
	for _, p := range s.parts() {
		label := []string{"for", p.of}
		up := 0.
		if p.up.Load() {
			up = 1
		}
		emit(core.Measure{Name: "shared_up", Help: "1 while the shared store answers, 0 while this gateway goes on by itself.", Value: up, Labels: label})
		for outcome, n := range map[string]int64{"answered": p.answered.Load(), "failed": p.failed.Load(), "refused": p.refused.Load(), "dropped": p.dropped.Load()} {
			emit(core.Measure{Name: "shared_calls_total", Help: "Calls of the shared store: answered, failed, refused at once while it was away, and writes that were dropped.", Counter: true, Value: float64(n), Labels: append([]string{"outcome", outcome}, label...)})
		}
		emit(core.Measure{Name: "shared_call_seconds_total", Help: "Time that calls of the shared store took.", Counter: true, Value: time.Duration(p.spent.Load()).Seconds(), Labels: label})
	}
	s.mu.Lock()
	members := len(s.members)
	s.mu.Unlock()
	emit(core.Measure{Name: "shared_members", Help: "Gateways of the group that are there, this one included.", Value: float64(members)})
}
