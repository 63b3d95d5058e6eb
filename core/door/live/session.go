package live

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"go.uber.org/zap"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/door"
	"github.com/dragoman-mt/dragoman/core/live"
	"github.com/dragoman-mt/dragoman/core/usage"
)

// A session is one of package live with what drives it: it makes the calls, keeps the
// time, and tells its connection when there is something to write.
type session struct {
	door *Door
	owner
	epoch int64

	mu      sync.Mutex
	caller  caller
	live    *live.Session
	resume  string   // the token that continues it, as the client is told; empty before it is
	token   digest   // of that
	former  []former // continue it as well, until the client has spoken on its new connection
	conn    writer   // nil while there is none
	left    time.Time
	heard   time.Time // of the client
	cancels map[int64]context.CancelFunc
	timer   *time.Timer
	told    map[string]bool // fields that were passed over
	start   start
	over    bool
	counted live.Counters
	plain   string    // lets a client over plain HTTP speak; empty for a WebSocket's
	stats   time.Time // when they were sent last
	cost    usage.Cost
	kept    keeping
}

// A former token is one in whose place the client was sent another. Who shows it has not
// heard of that, so not of what came after the frame upto either.
type former struct {
	digest digest
	upto   int64
}

// maxFormer bounds the tokens of a session that are still good.
const maxFormer = 8

// A writer is a connection as its session sees it. Neither method waits.
type writer interface {
	// tell says that there is something to write.
	tell()
	// drop ends the connection with a close code.
	drop(code closeCode, reason string)
}

// start is what a client wants of a session.
type start struct {
	options   live.Options
	formality core.Formality
	glossary  string           // its name
	trace     string           // the client's own, as it came
	parent    core.SpanContext // in that; zero for none
	targets   bool             // were given
}

// readStart reads a frame of type start.
func (d *Door) readStart(f frame) (s start, name string, err *core.Error) {
	if err = f.name("session", &name); err != nil {
		return s, name, err
	}
	if s.options.Source, err = d.language(f, "source"); err != nil {
		return s, name, err
	}
	if s.options.Targets, err = d.targets(f, s.options.Source); err != nil {
		return s, name, err
	}
	s.targets = f.has("targets")
	if err = f.name("glossary", &s.glossary); err != nil {
		return s, name, err
	}
	if s.glossary != "" {
		if _, e := d.Service.Glossary(s.glossary, "glossary"); e != nil {
			return s, name, core.AsError(e, "live")
		}
	}
	if err = f.text("traceparent", &s.trace, 256); err != nil {
		return s, name, err
	}
	s.parent, _ = core.ParseTraceparent(s.trace, "") // who cannot be read is heard all the same
	tone := ""
	if err = f.text("formality", &tone, 16); err != nil {
		return s, name, err
	}
	switch tone {
	case "", "default":
	case "formal":
		s.formality = core.Formal
	case "informal":
		s.formality = core.Informal
	default:
		return s, name, invalid("formality", `formality must be "default", "formal" or "informal"`)
	}
	if s.options.Context, err = d.pairs(f); err != nil {
		return s, name, err
	}
	words := ""
	for _, read := range []*core.Error{
		f.flag("corrections", &s.options.Corrections), f.flag("acks", &s.options.Acks), f.text("words", &words, 16),
	} {
		if read != nil {
			return s, name, read
		}
	}
	switch words {
	case "", "cumulative":
	case "incremental":
		s.options.Incremental = true
	default:
		return s, name, invalid("words", `words must be "cumulative" or "incremental"`)
	}
	return s, name, nil
}

func (d *Door) language(f frame, field string) (core.Language, *core.Error) {
	tag := ""
	if err := f.text(field, &tag, 64); err != nil || tag == "" || strings.EqualFold(tag, "auto") {
		return "", err
	}
	l, err := d.Service.Language(tag, field)
	return l, core.AsError(err, "live")
}

// targets reads the languages wanted; none when the field was left out.
func (d *Door) targets(f frame, source core.Language) (all []core.Language, err *core.Error) {
	if !f.has("targets") {
		return nil, nil
	}
	var tags []string
	if decode(f.fields["targets"], &tags) != nil {
		return nil, invalid("targets", `targets must be an array of languages: ["es", "fr"]`)
	}
	if len(tags) == 0 {
		return nil, invalid("targets", "targets is empty; give at least one language")
	}
	if most := d.config.Load().MaxTargets; len(tags) > most {
		return nil, &core.Error{Kind: core.TooLarge, Stage: "live", Field: "targets", Detail: fmt.Sprintf("%d targets are asked for; at most %d are taken (live.max_targets)", len(tags), most)}
	}
	rules := d.Service.Rules()
	for i, tag := range tags {
		field := fmt.Sprintf("targets[%d]", i)
		l, e := d.Service.Language(tag, field)
		if e != nil {
			return nil, core.AsError(e, "live")
		}
		for j, had := range all {
			if had == l {
				return nil, invalid(field, "%s is the same language as targets[%d]", field, j)
			}
		}
		if e := rules.Offered(&core.Request{Source: source, Target: l}); e != nil {
			named := *core.AsError(e, "live")
			if named.Field == "target" {
				named.Field = field
			}
			return nil, &named
		}
		all = append(all, l)
	}
	return all, nil
}

// maxPairs bounds the context of a start.
const maxPairs = 100

func (d *Door) pairs(f frame) (all []core.Pair, err *core.Error) {
	if !f.has("context") {
		return nil, nil
	}
	var list []struct{ Source, Target *string }
	if decode(f.fields["context"], &list) != nil {
		return nil, invalid("context", `context must be an array of pairs: [{"source": "…", "target": "…"}]`)
	}
	if len(list) > maxPairs {
		return nil, &core.Error{Kind: core.TooLarge, Stage: "live", Field: "context", Detail: fmt.Sprintf("context has %d pairs; at most %d are taken", len(list), maxPairs)}
	}
	for i, p := range list {
		if p.Source == nil || p.Target == nil {
			return nil, invalid(fmt.Sprintf("context[%d]", i), "a pair has source and target")
		}
		if e := door.CheckText(*p.Source+*p.Target, fmt.Sprintf("context[%d]", i)); e != nil {
			return nil, core.AsError(e, "live")
		}
		all = append(all, core.Pair{Source: *p.Source, Target: *p.Target})
	}
	return all, nil
}

// readSource reads a frame of type source.
func (d *Door) readSource(f frame) (in live.Source, err *core.Error) {
	in.Stable = -1
	if err = f.name("segment", &in.Segment); err != nil {
		return in, err
	}
	if in.Segment == "" {
		return in, invalid("segment", "segment is missing; it names the utterance")
	}
	in.HasRevision = f.has("revision")
	if err = f.count("revision", &in.Revision); err != nil {
		return in, err
	}
	rules := d.Service.Rules()
	switch {
	case f.has("words") && f.has("text"):
		return in, invalid("words", "text and words are both given; give one of them")
	case f.has("words"):
		if in.Words, err = d.words(f); err != nil {
			return in, err
		}
	case !f.has("text"):
		return in, invalid("text", "text is missing; it is the whole text of the segment so far")
	}
	if err = f.text("text", &in.Text, rules.MaxText); err != nil {
		return in, err
	}
	whole := in.Text
	for _, w := range in.Words {
		whole += w.Text
	}
	if n := utf8.RuneCountInString(whole); n > rules.MaxText {
		return in, &core.Error{Kind: core.TooLarge, Stage: "live", Field: "words", Detail: fmt.Sprintf("the words have %d code points; at most %d are taken (server.max_text)", n, rules.MaxText)}
	}
	if e := door.CheckText(whole, "text"); e != nil {
		return in, core.AsError(e, "live")
	}
	if f.has("stable") {
		var n int64
		if err = f.count("stable", &n); err != nil {
			return in, err
		}
		in.Stable = int(min(n, 1<<30))
	}
	if err = f.flag("final", &in.Final); err != nil {
		return in, err
	}
	if err = f.name("speaker", &in.Speaker); err != nil {
		return in, err
	}
	if in.StartMS, err = f.moment("start_ms"); err != nil {
		return in, err
	}
	if in.EndMS, err = f.moment("end_ms"); err != nil {
		return in, err
	}
	in.Language, err = d.language(f, "language")
	return in, err
}

// maxWords bounds the words of a frame.
const maxWords = 10_000

func (d *Door) words(f frame) (all []live.Word, err *core.Error) {
	var list []struct {
		Text        *string `json:"text"`
		Final       bool    `json:"final"`
		IsFinal     bool    `json:"is_final"`
		WordIsFinal bool    `json:"word_is_final"`
	}
	if decode(f.fields["words"], &list) != nil || len(list) > maxWords {
		return nil, invalid("words", `words must be an array: [{"text": "so ", "final": true}]`)
	}
	all = make([]live.Word, 0, len(list))
	for i, w := range list {
		if w.Text == nil {
			return nil, invalid(fmt.Sprintf("words[%d].text", i), "a word has a text")
		}
		all = append(all, live.Word{Text: *w.Text, Final: w.Final || w.IsFinal || w.WordIsFinal})
	}
	return all, nil
}

// create begins a session for who, in place of the one with its name. Plain lets a client
// over plain HTTP speak.
func (d *Door) create(who caller, name string, s start, plain string) (*session, error) {
	if !s.targets {
		return nil, invalid("targets", `targets is missing; say into which languages: ["es"]`)
	}
	named := name != ""
	if !named {
		name = "live-" + door.NewID()
	}
	now := time.Now()
	s.options.Deadline = d.Service.Rules().Deadline
	n := &session{
		door: d, owner: owner{who.client, name}, caller: who, plain: plain, heard: now, left: now, stats: now,
		live: live.New(*d.config.Load(), s.options, now), cancels: map[int64]context.CancelFunc{}, told: map[string]bool{}, start: s,
	}
	n.resume = newToken(d.group.handle(n.owner))
	n.token = digestOf(n.resume)
	former, err := d.add(n)
	if err != nil {
		return nil, err
	}
	d.own(n, named)
	d.metrics.opened.Add(1)
	if former != nil {
		former.replace()
	}
	return n, nil
}

// attach makes conn the session's connection, whose client has received everything up to
// after. Shown is the token that it came with, empty for one that begins the session or
// needs none. The caller holds mu.
func (s *session) attach(conn writer, after int64, resumed bool, shown string) {
	if s.conn != nil && s.conn != conn {
		s.conn.drop(closeTaken, "the session goes on with another connection")
	}
	s.conn = conn
	if resumed {
		s.door.metrics.resumed.Add(1)
	}
	if shown != "" {
		// What it knows stays good until it speaks: it may be cut before it hears of the
		// next one, more than once, and its connections may be heard in another order.
		s.former = append(s.former, former{s.token, s.live.Out().Seq()})
		if len(s.former) > maxFormer {
			s.door.swap(&s.former[0].digest, nil, s)
			s.former = s.former[1:]
		}
		s.resume = newToken(s.door.group.handle(s.owner))
		s.token = digestOf(s.resume)
		s.door.swap(nil, &s.token, s)
	}
	s.heard = time.Now()
	s.live.Attach(after, &live.Ready{Head: live.Head{Type: "ready"}, Session: s.name, Epoch: s.epoch, Resumed: resumed, Resume: s.resume})
	s.turn()
}

// reach is the last frame that who shows a token can have heard; -1 for one that is not good.
func (s *session) reach(token string) int64 {
	shown := digestOf(token)
	if shown == s.token {
		return s.live.Out().Seq()
	}
	for _, old := range s.former {
		if shown == old.digest {
			return old.upto
		}
	}
	return -1
}

// spoke notes a frame of the client's on its present connection: it has its new token.
// What was still on its way on a former one says nothing.
func (s *session) spoke() {
	for _, old := range s.former {
		s.door.swap(&old.digest, nil, s)
	}
	s.former = nil
}

// detach notes that conn has ended.
func (s *session) detach(conn writer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != conn {
		return
	}
	s.conn, s.left = nil, time.Now()
	s.live.Out().Detach()
	if s.live.Ended() {
		s.endLocked()
	}
}

// take takes a frame of a session that has begun, which came over from; nil for plain HTTP.
// The error is the client's, and the session lives.
func (s *session) take(from writer, f frame) *core.Error {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.over:
		return invalid("session", "the session has ended")
	case s.replaced(from):
		return nil // the client has said it again, if it wants it, and perhaps more
	case from != nil && s.conn == from:
		s.spoke()
	}
	defer s.turn()
	s.heard = now
	s.live.Configure(*s.door.config.Load(), s.door.Service.Rules().Deadline)
	for _, name := range f.unknown {
		s.passOver(name)
	}
	switch f.kind {
	case "start":
		return invalid("type", "the session has started; update changes its targets")
	case "source":
		in, err := s.door.readSource(f)
		if err != nil {
			return err
		}
		err = s.live.Take(now, in)
		if err == nil {
			s.door.recorded(s.name, now, in)
		}
		return err
	case "update":
		targets, err := s.door.targets(f, s.start.options.Source)
		if err == nil && targets == nil {
			err = invalid("targets", "targets is missing; say into which languages")
		}
		if err != nil {
			return err
		}
		s.live.Retarget(now, targets)
	case "finalize":
		s.live.Finalize(now)
	case "end":
		s.live.End(now)
	}
	return nil
}

// replaced says whether there is another connection in the place of from; nil is plain HTTP,
// which has none.
func (s *session) replaced(from writer) bool { return from != nil && s.conn != nil && s.conn != from }

// maxTold bounds the names of fields that a session is told of.
const maxTold = 64

// passOver tells the client, once a name, that a field means nothing here.
func (s *session) passOver(name string) {
	if s.told[name] || len(s.told) >= maxTold {
		return
	}
	s.told[name] = true
	s.live.Say(&live.Notice{Head: live.Head{Type: "notice"}, Kind: "unknown_field", Detail: fmt.Sprintf("the field %q is not known and is passed over", name)})
}

// failed tells the client of its error on a connection.
func (s *session) failed(from writer, err *core.Error, segment string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.replaced(from) {
		return
	}
	s.live.Say(failure(err, segment, false))
	s.turn()
}

func failure(err error, segment string, fatal bool) *live.Failure {
	p := door.ProblemOf(err, "")
	return &live.Failure{Head: live.Head{Type: "error"}, Code: p.Kind, Message: p.Message, Field: p.Field, Segment: segment, Fatal: fatal}
}

// turn does what the session asks for. The caller holds mu.
func (s *session) turn() {
	if s.over {
		return
	}
	s.count()
	calls, cancels := s.live.Work()
	for _, c := range calls {
		s.call(c)
	}
	for _, id := range cancels {
		if cancel := s.cancels[id]; cancel != nil {
			cancel()
		}
	}
	if next := s.live.Next(); !next.IsZero() {
		wait := max(time.Until(next), time.Millisecond)
		if s.timer == nil {
			s.timer = time.AfterFunc(wait, s.tick)
		} else {
			s.timer.Reset(wait)
		}
	}
	s.record()
	out := s.live.Out()
	switch {
	case out.Overflows():
		if s.conn != nil {
			s.door.metrics.slow.Add(1)
			s.conn.drop(closeTryAgain, "the client does not read; resume later")
			s.conn, s.left = nil, time.Now()
			out.Detach()
		} else {
			s.endLocked() // nobody comes for it, and it cannot be continued
		}
	case s.conn != nil && (!out.Empty() || s.live.Ended()):
		s.conn.tell()
	}
}

// count adds what is new to the totals.
func (s *session) count() {
	is := s.live.Counters()
	s.door.metrics.add(is.Less(s.counted))
	s.counted = is
}

func (s *session) tick() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return
	}
	s.live.Tick(time.Now())
	s.turn()
}

// call makes a call of the session's, on a goroutine of its own.
func (s *session) call(c live.Call) {
	d, rules, from := s.door, s.door.Service.Rules(), s.live
	ctx, cancel := context.WithTimeout(context.Background(), rules.Deadline)
	if !c.By.IsZero() {
		cancel()
		ctx, cancel = context.WithDeadline(context.Background(), c.By)
	}
	s.cancels[c.ID] = cancel
	if !s.start.parent.IsZero() {
		ctx = door.WithParent(ctx, s.start.parent)
	}
	req := &core.Request{
		ID: door.NewID(), Text: c.Text, Source: c.Source, Target: c.Target, Context: c.Context, Formality: s.start.formality,
		Client: s.client, Session: s.name, Segment: c.Segment, Revision: c.Revision, Final: c.Lane == core.LaneFinal, Lane: c.Lane,
		Transient: !c.Final, Relieve: c.Relieve, Trace: core.NewTrace(nil),
	}
	d.work.Add(1)
	go func() {
		defer d.work.Done()
		defer cancel()
		item, cost := d.counted(ctx, rules, s.start.glossary, req)
		a := live.Answer{Err: item.Err, Waited: req.Trace.Waited, Attempts: req.Trace.Attempts}
		if r := item.Result; r != nil {
			a.Text, a.Flags, a.Cached, a.Usage = strings.TrimSpace(r.Text), r.Flags, r.Cached, r.Usage
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.over || s.live != from {
			return
		}
		delete(s.cancels, c.ID)
		if len(cost) > 0 {
			s.cost = s.cost.Plus(cost)
			s.live.Spent(s.cost)
		}
		s.live.Answer(time.Now(), c.ID, a)
		s.turn()
	}()
}

// counted asks for req, which counts for its key as any other text does, and returns what
// that cost as well.
func (d *Door) counted(ctx context.Context, rules *door.Rules, glossary string, req *core.Request) (door.Item, usage.Cost) {
	if glossary != "" {
		// A reload may have changed it, or taken it away.
		g, err := d.Service.Glossary(glossary, "glossary")
		if err != nil {
			return door.Item{Err: core.AsError(err, name)}, nil
		}
		rules = rules.Under(g)
	}
	var tab door.Tab
	if err := tab.Open(ctx, &d.Teller, rules, req.Client, time.Now(), int64(utf8.RuneCountInString(req.Text))); err != nil {
		return door.Item{Err: core.AsError(err, name)}, nil
	}
	defer tab.Close()
	item := d.One(ctx, &tab, req)
	cost := tab.Cost()
	tab.Settle()
	return item, cost
}

// statsEvery is how often a client that is connected hears of its measures.
const statsEvery = 30 * time.Second

// look ends the session when it is idle, has been left, or may not be any more.
func (s *session) look(now time.Time, config *live.Config, rules *door.Rules, changed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return
	}
	if changed {
		s.live.Configure(*config, rules.Deadline)
		if err := s.caller.still(rules); err != nil {
			if s.conn != nil {
				s.conn.drop(closePolicy, "the key is not good any more")
			}
			s.endLocked()
			return
		}
	}
	switch {
	case s.conn == nil && now.Sub(s.left) > config.ResumeWindow:
		s.endLocked()
	case s.conn != nil && now.Sub(s.heard) > config.Idle:
		s.conn.drop(closeGone, "the session was idle")
		s.endLocked()
	default:
		s.touch(now)
	}
	if s.over {
		return
	}
	switch {
	case s.conn != nil && now.Sub(s.stats) >= statsEvery && s.heard.After(s.stats):
		s.stats = now
		s.live.Say(s.live.Stats(now))
		s.turn()
	}
}

// replace ends a session in whose place there is another.
func (s *session) replace() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != nil {
		s.conn.drop(closeTaken, "a new session has this name")
	}
	s.endLocked()
}

// end ends the session, whatever it does.
func (s *session) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endLocked()
}

// leave ends the session here, and another gateway may go on with it.
func (s *session) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.disown()
	s.endLocked()
}

func (s *session) endLocked() {
	if s.over {
		return
	}
	s.over = true
	s.unrecord()
	for _, cancel := range s.cancels {
		cancel()
	}
	if s.timer != nil {
		s.timer.Stop()
	}
	if s.conn != nil {
		s.conn.tell()
	}
	t := s.live.Stats(time.Now())
	s.count()
	s.door.remove(s)
	log := s.door.log
	if !s.start.parent.IsZero() {
		log = log.With(zap.String("trace_id", s.start.parent.TraceID()))
	}
	log.Info("live session ended", zap.String("client", s.client), zap.String("session", s.name), zap.Float64("seconds", t.Seconds),
		zap.Int64("segments", t.Segments), zap.Int64("finals", t.Finals), zap.Int64("failed", t.Failed), zap.Int64("calls", t.Calls),
		zap.Float64("amplification", t.Amplification), zap.Float64("erasure", t.Erasure), zap.Float64("final_p99_ms", t.FinalLag.P99),
		zap.Int64("tokens", t.PromptTokens+t.CompletionTokens), zap.Stringer("cost", s.cost))
}
