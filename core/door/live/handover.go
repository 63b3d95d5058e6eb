package live

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/live"
)

const (
	// storeWait is how long a frame waits for the record that holds it.
	storeWait = 5 * time.Millisecond
	// refresh is how often the record of a session in which nothing happens is told to stay,
	// and lasts how much longer than that, and than resume_window, it stays.
	refresh, lasts = 15 * time.Second, 30 * time.Second
	// largestRecord bounds a record as it is stored.
	largestRecord = 64 << 10
	// tries is how often a session is asked for whose owner changes its record meanwhile.
	tries = 3
)

// The record of a session lies in a hash of its own: v, whose it is (owner), the number under
// which he owns it (fence), that of his last write (n), how often there was a session of that
// name (epoch), and data. Whoever takes it writes a greater fence, and what comes with a
// smaller one is not written any more.
var (
	saveRecord = &core.Script{Source: `
local kind = redis.call('TYPE', KEYS[1]).ok
if kind ~= 'hash' and kind ~= 'none' then return {'foreign'} end
local is = redis.call('HMGET', KEYS[1], 'v', 'fence', 'owner', 'n')
local fence, mine, n = tonumber(is[2] or '0'), tonumber(ARGV[3]), tonumber(is[4] or '0')
if kind == 'hash' and is[1] ~= '1' or not fence or not n then return {'foreign'} end
if fence > mine or fence == mine and is[3] ~= ARGV[2] then return {'taken'} end
if ARGV[6] == '' then
  if fence < mine then return {'gone'} end
elseif fence < mine or n < tonumber(ARGV[4]) then
  redis.call('HSET', KEYS[1], 'v', '1', 'fence', ARGV[3], 'owner', ARGV[2], 'n', ARGV[4], 'epoch', ARGV[5], 'data', ARGV[6])
  if is[3] and is[3] ~= ARGV[2] then
    redis.call('PUBLISH', ARGV[1], 'live ' .. KEYS[1] .. ' ' .. ARGV[2] .. ' ' .. ARGV[3])
  end
end
redis.call('PEXPIRE', KEYS[1], ARGV[7])
return {'saved'}`}

	loadRecord = &core.Script{Source: `
local kind = redis.call('TYPE', KEYS[1]).ok
if kind == 'none' then return {'none'} end
if kind ~= 'hash' then return {'foreign'} end
local is = redis.call('HMGET', KEYS[1], 'v', 'fence', 'n', 'epoch', 'data')
if is[1] ~= '1' or not is[2] or not is[3] or not is[4] then return {'foreign'} end
return {'found', is[2], is[3], is[4], is[5] or ''}`}

	// takeRecord is for who goes on with a session, whose record is still as he read it; or,
	// with an empty fence, for who begins another one in its place.
	takeRecord = &core.Script{Source: `
local kind = redis.call('TYPE', KEYS[1]).ok
if kind ~= 'hash' and kind ~= 'none' then return {'foreign'} end
local is = redis.call('HMGET', KEYS[1], 'v', 'fence', 'n', 'epoch', 'owner')
local fence, epoch = tonumber(is[2] or '0'), tonumber(is[4] or '0')
if kind == 'hash' and is[1] ~= '1' or not fence or not epoch then return {'foreign'} end
if ARGV[3] ~= '' then
  if is[2] ~= ARGV[3] or is[3] ~= ARGV[4] then return {'changed'} end
else
  epoch = math.max(epoch, tonumber(ARGV[7])) + 1
  redis.call('HDEL', KEYS[1], 'data')
end
fence = string.format('%d', math.max(fence + 1, tonumber(ARGV[5])))
epoch = string.format('%d', epoch)
redis.call('HSET', KEYS[1], 'v', '1', 'fence', fence, 'owner', ARGV[2], 'n', '0', 'epoch', epoch)
redis.call('PEXPIRE', KEYS[1], ARGV[6])
if is[5] and is[5] ~= ARGV[2] then
  redis.call('PUBLISH', ARGV[1], 'live ' .. KEYS[1] .. ' ' .. ARGV[2] .. ' ' .. fence)
end
return {'taken', fence, epoch}`}

	// dropRecord leaves of a session that has ended how often there was one of its name.
	dropRecord = &core.Script{Source: `
if redis.call('TYPE', KEYS[1]).ok ~= 'hash' then return {} end
local is = redis.call('HMGET', KEYS[1], 'v', 'fence', 'owner')
if is[1] == '1' and is[2] == ARGV[3] and is[3] == ARGV[2] then redis.call('HDEL', KEYS[1], 'data') end
return {}`}
)

// A group is the gateways among which sessions are handed over; nil for a gateway by itself.
type group struct {
	shared core.Shared
	room   core.Room
	log    *zap.Logger
	wait   time.Duration // of a frame, for the record that holds it
	forget func()

	mu    sync.Mutex
	owned map[string]*session // by handle

	taken, fenced, refused, unstored atomic.Int64
	said                             sync.Once
}

// Share hands sessions over between this gateway and the others of its group. It is called
// before the first session.
func (d *Door) Share(shared core.Shared) {
	g := &group{shared: shared, room: shared.State(), log: d.log, wait: storeWait, owned: map[string]*session{}}
	g.forget = g.room.Hear("live", g.heard)
	d.group = g
}

// handleSize is that of the name of a session's record, in hexadecimal digits.
const handleSize = 32

// handle names the record of a session; it tells nothing of whose it is. Of a gateway by
// itself there is none.
func (g *group) handle(o owner) string {
	if g == nil {
		return ""
	}
	return g.shared.Name("live session\x00" + o.client + "\x00" + o.name)[:handleSize]
}

func shelf(handle string) string { return "live:{" + handle + "}" }

// A digest is what is kept of a token.
type digest [sha256.Size]byte

func digestOf(token string) digest { return sha256.Sum256([]byte(token)) }

// is compares in constant time.
func (d digest) is(o digest) bool { return subtle.ConstantTimeCompare(d[:], o[:]) == 1 }

// newToken returns a random token of the session with that handle; "" is of one of which no
// other gateway knows.
func newToken(handle string) string {
	if handle == "" {
		return token()
	}
	return token() + "." + handle
}

// handleOf is that of the session which a token continues.
func handleOf(token string) (handle string, ok bool) {
	_, handle, ok = strings.Cut(token, ".")
	return handle, ok && len(handle) == handleSize && strings.Trim(handle, "0123456789abcdef") == ""
}

// recordVersion is that of the records that this program writes.
const recordVersion = 1

// A record of a session as it is stored, sealed.
type stored struct {
	Version   int           `json:"v"`
	Client    string        `json:"client"`
	Session   string        `json:"session"`
	Tokens    []tokenRecord `json:"tokens"` // the latest last
	Source    core.Language `json:"source,omitempty"`
	Context   []core.Pair   `json:"context,omitempty"`
	Fixes     bool          `json:"corrections,omitempty"`
	Acks      bool          `json:"acks,omitempty"`
	Formality string        `json:"formality,omitempty"`
	Glossary  string        `json:"glossary,omitempty"`
	Parent    string        `json:"traceparent,omitempty"`
	Live      *live.Record  `json:"live"`
}

// A tokenRecord is a token that continues a session. Whoever shows it has heard no later
// frame than Upto: the next one came with another token. 0 is of the latest.
type tokenRecord struct {
	Digest digest `json:"digest"`
	Upto   int64  `json:"upto,omitempty"`
}

// keeping is what a session knows of its record.
type keeping struct {
	handle  string // empty for a session of which there is none
	fence   int64
	writes  int64
	saving  bool
	failed  bool // the last one was not stored: the next is made when something must be, or in a second
	slow    bool // the one under way takes too long: nothing waits for it
	waiting *time.Timer
	touched time.Time // when the record was written, or told to stay
}

// keep begins to make records of s. The caller holds mu.
func (s *session) keep(handle string, fence int64) {
	s.kept = keeping{handle: handle, fence: fence, touched: time.Now()}
	s.live.Out().Keep()
	g := s.door.group
	g.mu.Lock()
	defer g.mu.Unlock()
	g.owned[handle] = s
}

// own says whether s is to be recorded, and under which number. A session of words that come
// once is not: nobody could tell whether a record has the latest of them.
func (d *Door) own(s *session, named bool) {
	g := d.group
	if g == nil || s.start.options.Incremental {
		return
	}
	handle, now := g.handle(s.owner), time.Now().UnixMilli()
	var list []string
	if named { // there may be one of that name on another gateway, which ends with this
		list, _ = g.room.Ask(context.Background(), takeRecord, shelf(handle), g.shared.Self(), "", "", strconv.FormatInt(now, 10), s.lasting(), strconv.FormatInt(s.epoch-1, 10))
	}
	fence, epoch := now, s.epoch
	if len(list) == 3 {
		fence, _ = strconv.ParseInt(list[1], 10, 64) // it is this program's script that
		epoch, _ = strconv.ParseInt(list[2], 10, 64) // has written them
	} else if len(list) > 0 {
		g.foreign(nil)
		return
	}
	d.mu.Lock()
	d.epochs[s.owner] = max(d.epochs[s.owner], epoch)
	d.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.epoch = epoch
	if !s.over {
		s.keep(handle, fence)
	}
}

// foreign says once that there is something which must stay as it is.
func (g *group) foreign(err error) {
	why := "another program or a later version wrote it"
	if err != nil {
		why = err.Error()
	}
	g.said.Do(func() {
		g.log.Warn("the record of a live session in the shared store cannot be used; it is left as it is, and no other gateway can go on with the session of this one", zap.String("why", why))
	})
}

// lasting is how long a record stays, in milliseconds.
func (s *session) lasting() string {
	return strconv.FormatInt((s.door.config.Load().ResumeWindow + refresh + lasts).Milliseconds(), 10)
}

// record sees to it that what has changed is stored, and that nothing waits for that too
// long. The caller holds mu.
func (s *session) record() {
	k, out := &s.kept, s.live.Out()
	if k.handle == "" || s.over {
		return
	}
	up := s.door.group.room.Up()
	if out.Held() && (!up || k.slow) {
		s.letGo()
	}
	held := out.Held()
	if !held && k.waiting != nil {
		k.waiting.Stop()
		k.waiting = nil
	}
	if held && k.waiting == nil {
		k.waiting = time.AfterFunc(s.door.group.wait, s.late)
	}
	if up && !k.saving && out.Unsaved() && (held || !k.failed) {
		s.save()
	}
}

// letGo sends what is held back without a record. The caller holds mu.
func (s *session) letGo() {
	if s.kept.waiting != nil {
		s.kept.waiting.Stop()
		s.kept.waiting = nil
	}
	if s.live.Out().Held() {
		s.live.Out().LetGo()
		s.door.group.unstored.Add(1)
		if s.conn != nil {
			s.conn.tell()
		}
	}
}

// late is when frames have waited long enough.
func (s *session) late() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept.waiting = nil
	if !s.over && s.live.Out().Held() {
		s.kept.slow = true
		s.letGo()
	}
}

// save stores a record of s as it is now. The caller holds mu.
func (s *session) save() {
	k, g, of := &s.kept, s.door.group, s.live
	k.saving = true
	k.writes++
	now := time.Now()
	o := s.start.options
	what := stored{
		Version: recordVersion, Client: s.client, Session: s.name, Source: o.Source, Context: o.Context[max(0, len(o.Context)-10):], Fixes: o.Corrections, Acks: o.Acks,
		Formality: string(s.start.formality), Glossary: s.start.glossary, Parent: s.start.trace, Live: s.live.Record(now, largestRecord*3/4),
	}
	for _, f := range s.former {
		what.Tokens = append(what.Tokens, tokenRecord{f.digest, f.upto})
	}
	what.Tokens = append(what.Tokens, tokenRecord{Digest: s.token})
	key, args := shelf(k.handle), []string{g.shared.Self(), strconv.FormatInt(k.fence, 10), strconv.FormatInt(k.writes, 10), strconv.FormatInt(s.epoch, 10)}
	lasting := s.lasting()
	s.door.work.Add(1)
	go func() {
		defer s.door.work.Done()
		raw := encode(what)
		state, err := "", errors.New("it is too large")
		if len(raw) <= largestRecord {
			var list []string
			list, err = g.room.Run(context.Background(), saveRecord, key, append(args, string(g.shared.Seal(key, raw)), lasting)...)
			if len(list) > 0 {
				state = list[0]
			}
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		k.saving, k.slow = false, false
		if s.over {
			return
		}
		switch {
		case state == "saved":
			k.failed, k.touched = false, now
			of.Out().Saved(what.Live)
			if s.conn != nil {
				s.conn.tell()
			}
		case state == "taken":
			s.fenced()
			return
		case err == nil:
			g.foreign(nil)
			s.unkept()
			return
		default:
			k.failed = true
			s.letGo()
		}
		s.record()
	}()
}

// unkept goes on with s as with one of which there is no record. The caller holds mu.
func (s *session) unkept() {
	s.letGo()
	s.live.Out().Forgo()
	s.disown()
	if s.conn != nil {
		s.conn.tell()
	}
}

// disown forgets that s has a record.
func (s *session) disown() {
	g := s.door.group
	if s.kept.handle == "" {
		return
	}
	g.mu.Lock()
	if g.owned[s.kept.handle] == s {
		delete(g.owned, s.kept.handle)
	}
	g.mu.Unlock()
	s.kept.handle = ""
}

// fenced ends s, which is another gateway's now. The caller holds mu.
func (s *session) fenced() {
	s.door.group.fenced.Add(1)
	s.disown() // the record is not this gateway's
	if s.conn != nil {
		s.conn.drop(closeTaken, "the session goes on with another connection")
	}
	s.endLocked()
}

// touch tells the record of s to stay, and stores what was not. The caller holds mu.
func (s *session) touch(now time.Time) {
	k := &s.kept
	if k.handle == "" || !s.door.group.room.Up() {
		return
	}
	k.failed = false
	s.record()
	if k.saving || now.Sub(k.touched) < refresh {
		return
	}
	k.saving = true
	g := s.door.group
	args := []string{g.shared.Self(), strconv.FormatInt(k.fence, 10), "0", "0", "", s.lasting()}
	key := shelf(k.handle)
	s.door.work.Add(1)
	go func() {
		defer s.door.work.Done()
		list, err := g.room.Run(context.Background(), saveRecord, key, args...)
		s.mu.Lock()
		defer s.mu.Unlock()
		k.saving = false
		if s.over || err != nil || len(list) == 0 {
			return
		}
		switch list[0] {
		case "saved":
			k.touched = now
		case "gone": // the store was emptied
			s.live.Out().Change()
		case "taken":
			s.fenced()
			return
		default:
			g.foreign(nil)
			s.unkept()
			return
		}
		s.record()
	}()
}

// heard is told that a gateway has taken a session.
func (g *group) heard(message string) {
	parts := strings.Fields(message)
	if len(parts) != 3 || parts[1] == g.shared.Self() {
		return
	}
	_, handle, _ := strings.Cut(parts[0], "{")
	fence, err := strconv.ParseInt(parts[2], 10, 64)
	g.mu.Lock()
	s := g.owned[strings.TrimSuffix(handle, "}")]
	g.mu.Unlock()
	if s == nil || err != nil {
		return
	}
	d := s.door
	d.mu.Lock()
	closed := d.closed // then Close waits for what goes on, and nothing may begin
	if !closed {
		d.work.Add(1)
	}
	d.mu.Unlock()
	if closed {
		return
	}
	go func() {
		defer d.work.Done()
		s.mu.Lock()
		defer s.mu.Unlock()
		if !s.over && s.kept.handle != "" && s.kept.fence < fence {
			s.fenced()
		}
	}()
}

// A found is the record of a session that another gateway made.
type found struct {
	handle   string
	fence, n string
	epoch    int64
	stored
}

var (
	errNone    = errors.New("there is none")
	errForeign = errors.New("another program or a later version wrote it")
)

// look returns the record of that name.
func (g *group) look(ctx context.Context, handle string) (*found, error) {
	if !g.room.Up() {
		return nil, errNone
	}
	key := shelf(handle)
	list, err := g.room.Run(ctx, loadRecord, key)
	switch {
	case err != nil:
		return nil, err
	case len(list) == 1 && list[0] == "none", len(list) == 5 && list[4] == "":
		return nil, errNone
	case len(list) != 5 || list[0] != "found":
		g.foreign(nil)
		return nil, errForeign
	}
	f := &found{handle: handle, fence: list[1], n: list[2]}
	raw, err := g.shared.Open(key, []byte(list[4]))
	if err == nil {
		f.epoch, err = strconv.ParseInt(list[3], 10, 64)
	}
	if err == nil {
		f.stored, err = readStored(raw)
	}
	if err != nil {
		g.foreign(err)
		return nil, errForeign
	}
	return f, nil
}

// readStored reads what was stored, of which restore says whether it can be.
func readStored(raw []byte) (w stored, err error) {
	if len(raw) > largestRecord {
		return w, errors.New("it is too large")
	}
	if err := json.Unmarshal(raw, &w); err != nil {
		return w, errForeign // and nothing of what it holds
	}
	if w.Version != recordVersion || w.Live == nil || w.Session == "" || len(w.Tokens) == 0 || len(w.Tokens) > maxFormer+1 {
		return w, errForeign
	}
	return w, nil
}

// shows returns until which frame the holder of a token can have heard, and whether the token
// is the latest.
func (w *stored) shows(token string) (upto int64, latest, ok bool) {
	shown := digestOf(token)
	for i, t := range w.Tokens {
		if t.Digest.is(shown) {
			latest = i == len(w.Tokens)-1
			if upto = t.Upto; latest {
				upto = w.Live.Out.Upto
			}
			return upto, latest, true
		}
	}
	return 0, false, false
}

// restore makes of a record the session that it is of.
func (d *Door) restore(w *stored, now time.Time) (*session, error) {
	s := &session{
		door: d, owner: owner{w.Client, w.Session}, heard: now, left: now, stats: now,
		cancels: map[int64]context.CancelFunc{}, told: map[string]bool{},
		start: start{
			options:  live.Options{Source: w.Source, Context: w.Context, Corrections: w.Fixes, Acks: w.Acks, Deadline: d.Service.Rules().Deadline},
			glossary: w.Glossary, targets: true, trace: w.Parent,
		},
	}
	s.start.parent, _ = core.ParseTraceparent(w.Parent, "")
	switch f := core.Formality(w.Formality); f {
	case "", core.Formal, core.Informal:
		s.start.formality = f
	default:
		return nil, errForeign
	}
	if w.Source != "" {
		if _, err := d.Service.Language(string(w.Source), "source"); err != nil {
			return nil, err
		}
	}
	var err error
	if s.live, err = live.Restore(*d.config.Load(), s.start.options, w.Live, now); err != nil {
		return nil, err
	}
	s.start.options.Targets = s.live.Targets()
	for _, l := range s.start.options.Targets {
		if _, err := d.Service.Language(string(l), "targets"); err != nil {
			return nil, err
		}
	}
	for _, t := range w.Tokens {
		if t.Upto == 0 {
			t.Upto = w.Live.Out.Upto
		}
		s.former = append(s.former, former{t.Digest, t.Upto})
	}
	last := len(s.former) - 1
	s.token, s.former = s.former[last].digest, s.former[:last]
	return s, nil
}

// adopt makes this gateway go on with a session of another one, whose client has everything
// up to after and shows a token. What cannot be proved to be whole is returned as a session
// that has ended; nil is that nothing is known of one.
func (c *connection) adopt(ctx context.Context, token string, after int64) (*session, error) {
	d := c.door
	g := d.group
	handle, ok := handleOf(token)
	if g == nil || !ok {
		return nil, nil
	}
	for range tries {
		f, err := g.look(ctx, handle)
		if err != nil {
			break
		}
		upto, latest, shown := f.shows(token)
		switch {
		case !shown:
			g.refused.Add(1)
			return nil, nil
		case f.Client != c.caller.client:
			return nil, errOthers
		case !latest && c.ahead == nil:
			if !c.present(ctx) {
				return nil, errGone
			}
			continue // it may have changed meanwhile
		}
		s, changed, err := d.adopt(ctx, f, c.caller, func(out *live.Outbox) bool { return after <= upto && out.Provable(after) })
		if !changed {
			return s, err
		}
	}
	g.refused.Add(1)
	return nil, nil
}

// adopt goes on with the session of f, if it has all that is missing. It was changed when
// another gateway did something with it meanwhile.
func (d *Door) adopt(ctx context.Context, f *found, who caller, whole func(*live.Outbox) bool) (s *session, changed bool, err error) {
	g, now := d.group, time.Now()
	s, err = d.restore(&f.stored, now)
	if err != nil {
		g.foreign(fmt.Errorf("it cannot be: %w", err))
		g.refused.Add(1)
		return nil, false, nil
	}
	s.caller, s.epoch = who, f.epoch
	if !whole(s.live.Out()) {
		g.refused.Add(1)
		s.over = true
		return s, false, nil
	}
	if d.full(s.owner) {
		return nil, false, errFull
	}
	list, err := g.room.Run(ctx, takeRecord, shelf(f.handle), g.shared.Self(), f.fence, f.n, strconv.FormatInt(now.UnixMilli(), 10), s.lasting(), "0")
	if err == nil && len(list) == 1 && list[0] == "changed" {
		return nil, true, nil
	}
	fence := int64(0)
	if err == nil && len(list) == 3 {
		fence, err = strconv.ParseInt(list[1], 10, 64)
	}
	if err != nil || fence == 0 {
		g.refused.Add(1)
		s.over = true
		return s, false, nil
	}
	previous, err := d.add(s)
	if err != nil {
		return nil, false, err
	}
	s.mu.Lock()
	s.keep(f.handle, fence)
	s.live.Resume(now)
	s.mu.Unlock()
	g.taken.Add(1)
	if previous != nil {
		previous.replace()
	}
	return s, false, nil
}

// unrecord says that a session has ended. The caller holds mu.
func (s *session) unrecord() {
	if s.kept.waiting != nil {
		s.kept.waiting.Stop()
	}
	if handle := s.kept.handle; handle != "" {
		g := s.door.group
		g.room.Later(dropRecord, shelf(handle), g.shared.Self(), strconv.FormatInt(s.kept.fence, 10))
		s.disown()
	}
}

// leave ends what the group is told, once all sessions have ended.
func (g *group) leave() {
	if g != nil {
		g.forget()
	}
}

func (g *group) measure(emit func(core.Measure)) {
	for _, m := range []struct {
		name, help string
		n          *atomic.Int64
	}{
		{"live_taken_over_total", "Live sessions of another gateway that went on with this one.", &g.taken},
		{"live_handed_over_total", "Live sessions of this gateway that went on with another one, or began anew there.", &g.fenced},
		{"live_takeovers_refused_total", "Clients that came with a session of another gateway, and had to begin another one: there was no record, or it did not prove that it has all that is missing.", &g.refused},
		{"live_unstored_total", "Times that frames were sent without a record that holds them, since the store was away or took longer than 5 ms.", &g.unstored},
	} {
		emit(core.Measure{Name: m.name, Help: m.help, Counter: true, Value: float64(m.n.Load())})
	}
}
