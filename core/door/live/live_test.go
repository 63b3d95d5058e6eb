package live

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/door"
	"github.com/dragoman-mt/dragoman/core/live"
	"github.com/dragoman-mt/dragoman/core/text/glossary"
	"github.com/dragoman-mt/dragoman/core/usage"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// A gateway is the door on a real listener.
type gateway struct {
	t      testing.TB
	door   *Door
	server *door.Server
	config door.Config
	url    string
	stop   func() // returns when it has stopped
}

type translator func(context.Context, *core.Request) (*core.Result, error)

func (f translator) Translate(ctx context.Context, r *core.Request) (*core.Result, error) {
	return f(ctx, r)
}

// shout translates at once.
func shout(_ context.Context, r *core.Request) (*core.Result, error) {
	return &core.Result{Text: strings.ToUpper(r.Text) + "/" + string(r.Target)}, nil
}

func plain() live.Config {
	c := live.Defaults()
	c.Context = 0
	c.Agreement, c.TailWords, c.Mask = 2, 1, 2 // two revisions are enough for a draft
	return c
}

func serve(t testing.TB, c door.Config, l live.Config, f translator) *gateway {
	t.Helper()
	return serveLogged(t, zap.NewNop(), c, l, f)
}

func serveLogged(t testing.TB, log *zap.Logger, c door.Config, l live.Config, f translator, group ...core.Shared) *gateway {
	t.Helper()
	c.Listen = "127.0.0.1:0"
	if c.DrainTimeout == door.Defaults().DrainTimeout {
		c.DrainTimeout = 2 * time.Second
	}
	if err := c.Check(); err != nil {
		t.Fatal(err)
	}
	metrics, service := door.NewMetrics(prometheus.NewRegistry()), door.New(c, f)
	d := New(l, service, metrics, log)
	for _, with := range group {
		d.Share(with)
	}
	s := door.NewServer(door.Options{Config: c, Service: service, Doors: door.Doors{d.Dialect()}, Admin: http.NotFoundHandler(), Metrics: metrics, Log: zap.NewNop()})
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.Serve(ctx); err != nil {
			t.Error(err)
		}
		d.Close()
	}()
	g := &gateway{t: t, door: d, server: s, config: c, url: door.URL(s.Addr()), stop: func() { cancel(); <-done }}
	t.Cleanup(func() { http.DefaultClient.CloseIdleConnections(); g.stop() })
	return g
}

// A client is one WebSocket.
type client struct {
	t    testing.TB
	ws   *websocket.Conn
	last got
	seq  int64
	far  bool // numbers of frames may be left out, as they are when a store is slow
}

// got is any frame of the server's.
type got struct {
	Type, Session, Resume, Segment, Target, Concluded, Tentative, Text, Code, Message, Field, Kind, Detail, Reason, Speaker string
	Seq, Epoch, Revision, Corrected                                                                                         int64
	Resumed, Final, Fatal                                                                                                   bool
	Late                                                                                                                    any
	Flags                                                                                                                   []string
	Error                                                                                                                   *struct{ Code, Message string }
	Cost                                                                                                                    usage.Cost
}

const patiently = 20 * time.Second

func (g *gateway) dial(header ...string) *client {
	g.t.Helper()
	c, err := g.try([]string{Protocol}, header...)
	if err != nil {
		g.t.Fatal(err)
	}
	return c
}

func (g *gateway) try(protocols []string, header ...string) (*client, error) {
	h := http.Header{}
	for i := 0; i < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	ctx, cancel := context.WithTimeout(context.Background(), patiently)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, strings.Replace(g.url, "http", "ws", 1)+"/v1/live", &websocket.DialOptions{Subprotocols: protocols, HTTPHeader: h})
	if err != nil {
		return nil, err
	}
	ws.SetReadLimit(-1)
	g.t.Cleanup(func() { ws.CloseNow() })
	return &client{t: g.t, ws: ws}, nil
}

func (c *client) say(frames ...string) *client {
	c.t.Helper()
	for _, f := range frames {
		ctx, cancel := context.WithTimeout(context.Background(), patiently)
		err := c.ws.Write(ctx, websocket.MessageText, []byte(f))
		cancel()
		if err != nil {
			c.t.Fatal(err)
		}
	}
	return c
}

// next returns the next frame, or the close code.
func (c *client) next() (f got, code websocket.StatusCode) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patiently)
	defer cancel()
	_, raw, err := c.ws.Read(ctx)
	if err != nil {
		return f, websocket.CloseStatus(err)
	}
	if err := json.Unmarshal(raw, &f); err != nil {
		c.t.Fatalf("%s: %v", raw, err)
	}
	if f.Type != "ack" {
		if c.seq != 0 && (f.Seq <= c.seq || f.Seq != c.seq+1 && !c.far) {
			c.t.Errorf("frame %d after %d", f.Seq, c.seq)
		}
		c.seq = f.Seq
	}
	c.last = f
	return f, 0
}

// until returns the first frame of that type.
func (c *client) until(kind string) got {
	c.t.Helper()
	for {
		f, code := c.next()
		if code != 0 {
			c.t.Fatalf("closed with %d before a %s", code, kind)
		}
		if f.Type == kind {
			return f
		}
	}
}

func (c *client) final() got {
	c.t.Helper()
	for {
		if f := c.until("target"); f.Final {
			return f
		}
	}
}

// closes reads until the end, and returns the code.
func (c *client) closes() websocket.StatusCode {
	c.t.Helper()
	for {
		if _, code := c.next(); code != 0 {
			return code
		}
	}
}

const begin = `{"type":"start","session":"room","source":"en","targets":["es"]}`

func source(segment, text string, final bool) string {
	return fmt.Sprintf(`{"type":"source","segment":%q,"text":%q,"final":%v}`, segment, text, final)
}

func TestASessionTranslatesPartialsAndFinalsAndEnds(t *testing.T) {
	g := serve(t, door.Defaults(), plain(), shout)
	c := g.dial()
	c.say(`{"type":"start","session":"room-7","source":"en","targets":["es","fr"],"acks":true,"new_field":1}`)
	if r := c.until("ready"); r.Session != "room-7" || r.Epoch != 1 || r.Resumed || r.Resume == "" || r.Seq != 1 {
		t.Fatalf("%+v", r)
	}
	if n := c.until("notice"); !strings.Contains(n.Detail, "new_field") {
		t.Errorf("%+v", n)
	}
	c.say(`{"type":"source","segment":"s1","revision":1,"text":"we will begin it now or","speaker":"A","start_ms":5}`, `{"type":"source","segment":"s1","revision":2,"text":"we will begin it now or never"}`)
	if f := c.until("target"); f.Final || f.Tentative == "" || f.Speaker != "A" {
		t.Errorf("%+v", f)
	}
	c.say(`{"type":"source","segment":"s1","revision":3,"text":"We will begin it now or never. Yes.","final":true}`)
	for range 2 {
		f := c.final()
		if want := "WE WILL BEGIN IT NOW OR NEVER./" + f.Target + " YES./" + f.Target; f.Text != want || f.Concluded != want || f.Revision != 3 || f.Flags == nil {
			t.Errorf("%+v", f)
		}
	}
	c.say(source("s2", "so this is open", false), `{"type":"end"}`)
	for range 2 {
		if f := c.final(); f.Segment != "s2" || f.Text == "" {
			t.Errorf("%+v", f)
		}
	}
	ends := 0
	for f, code := c.next(); ; f, code = c.next() {
		if code != 0 {
			if code != 1000 || ends != 3 || c.last.Type != "end" || c.last.Target != "" {
				t.Errorf("closed with %d after %d ends, the last %+v", code, ends, c.last)
			}
			return
		}
		if f.Type == "end" {
			ends++
		}
	}
}

// What is wrong with a frame is an error that names the field, and the session lives.
func TestABadFrameGetsAnErrorAndTheSessionLives(t *testing.T) {
	l := plain()
	l.MaxTargets, l.MaxSegments = 2, 8
	g := serve(t, door.Defaults(), l, shout)
	c := g.dial().say(begin)
	c.until("ready")
	c.say(source("over", "It is over.", true))
	c.final()
	c.say(`{"type":"source","segment":"open","revision":5,"text":"a"}`)
	for _, row := range []struct{ frame, field string }{
		{`{}`, "type"},
		{`{"type":null}`, "type"},
		{`{"type":7}`, "type"},
		{`{"type":"sauce"}`, "type"},
		{begin, "type"},
		{`{"type":"source","text":"a"}`, "segment"},
		{`{"type":"source","segment":"","text":"a"}`, "segment"},
		{`{"type":"source","segment":7,"text":"a"}`, "segment"},
		{`{"type":"source","segment":"a\u0000b","text":"a"}`, "segment"},
		{`{"type":"source","segment":"` + strings.Repeat("x", 129) + `","text":"a"}`, "segment"},
		{`{"type":"source","segment":"s"}`, "text"},
		{`{"type":"source","segment":"s","text":null}`, "text"},
		{`{"type":"source","segment":"s","text":["a"]}`, "text"},
		{`{"type":"source","segment":"s","text":"a\u0000"}`, "text"},
		{`{"type":"source","segment":"s","text":"` + strings.Repeat("x", 10_001) + `"}`, "text"},
		{`{"type":"source","segment":"s","text":"a","words":[]}`, "words"},
		{`{"type":"source","segment":"s","words":"a"}`, "words"},
		{`{"type":"source","segment":"s","words":[{"final":true}]}`, "words[0].text"},
		{`{"type":"source","segment":"s","text":"a","revision":-1}`, "revision"},
		{`{"type":"source","segment":"s","text":"a","revision":1.5}`, "revision"},
		{`{"type":"source","segment":"s","text":"a","revision":"1"}`, "revision"},
		{`{"type":"source","segment":"open","revision":4,"text":"a"}`, "revision"},
		{`{"type":"source","segment":"over","text":"It is over, is it."}`, "segment"},
		{`{"type":"source","segment":"s","text":"a","text":"b"}`, "text"},
		{`{"type":"source","segment":"s","text":"a","final":"yes"}`, "final"},
		{`{"type":"source","segment":"s","text":"a","stable":-3}`, "stable"},
		{`{"type":"source","segment":"s","text":"a","language":"not a language"}`, "language"},
		{`{"type":"source","segment":"s","text":"a","start_ms":"now"}`, "start_ms"},
		{`{"type":"update"}`, "targets"},
		{`{"type":"update","targets":[]}`, "targets"},
		{`{"type":"update","targets":["es","es"]}`, "targets[1]"},
		{`{"type":"update","targets":["es","klingon!"]}`, "targets[1]"},
		{`{"type":"update","targets":["es","fr","de"]}`, "targets"},
	} {
		c.say(row.frame)
		if e := c.until("error"); e.Field != row.field || e.Fatal || e.Code == "" || e.Message == "" {
			t.Errorf("%s: %+v, want field %s", row.frame, e, row.field)
		}
	}
	for i := range 8 {
		c.say(source(fmt.Sprint("o", i), "a", false))
	}
	if e := c.until("error"); e.Field != "segment" || e.Code != "too_large" || e.Segment != "o7" {
		t.Errorf("%+v", e)
	}
	c.say(`{"type":"keepalive"}`, `{"type":"finalize"}`)
	for range 8 {
		c.final()
	}
	c.say(source("last", "It lives.", true))
	if f := c.final(); f.Segment != "last" {
		t.Errorf("%+v", f)
	}
}

func TestABadStartIsFatal(t *testing.T) {
	g := serve(t, door.Defaults(), plain(), shout)
	for _, row := range []struct {
		frame, field string
		code         websocket.StatusCode
	}{
		{source("s", "a", true), "type", 1008},
		{`{"type":"start"}`, "targets", 1008},
		{`{"type":"start","targets":["es","nonsense!"]}`, "targets[1]", 1008},
		{`{"type":"start","targets":["es"],"source":"!"}`, "source", 1008},
		{`{"type":"start","targets":["es"],"formality":"rude"}`, "formality", 1008},
		{`{"type":"start","targets":["es"],"glossary":"g"}`, "glossary", 1008},
		{`{"type":"start","targets":["es"],"context":"c"}`, "context", 1008},
		{`{"type":"start","targets":["es"],"words":"all"}`, "words", 1008},
		{`{"type":"start","targets":["es"],"session":"a","session":"b"}`, "session", 1008},
	} {
		c := g.dial().say(row.frame)
		if e := c.until("error"); e.Field != row.field || !e.Fatal {
			t.Errorf("%s: %+v", row.frame, e)
		}
		if code := c.closes(); code != row.code {
			t.Errorf("%s: closed with %d", row.frame, code)
		}
	}
}

// raw is a WebSocket by hand.
type raw struct {
	net.Conn
	in *bufio.Reader
}

func (g *gateway) raw() raw {
	g.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(g.url, "http://"))
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patiently))
	fmt.Fprintf(conn, "GET /v1/live HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\nSec-WebSocket-Protocol: %s\r\n\r\n",
		base64.StdEncoding.EncodeToString(make([]byte, 16)), Protocol)
	in := bufio.NewReader(conn)
	res, err := http.ReadResponse(in, nil)
	if err != nil || res.StatusCode != http.StatusSwitchingProtocols || res.Header.Get("Sec-WebSocket-Protocol") != Protocol {
		g.t.Fatalf("%v %v", res, err)
	}
	return raw{conn, in}
}

// A frame of RFC 6455: its first byte, and what it carries, masked.
func masked(first byte, payload string) []byte {
	b := []byte{first}
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	mask := []byte{1, 2, 3, 4}
	b = append(b, mask...)
	for i := range len(payload) {
		b = append(b, payload[i]^mask[i%4])
	}
	return b
}

// ends reads until a close frame and returns its code, and whether a final came before.
func (r raw) ends() (code int, final bool) {
	for {
		head := make([]byte, 2)
		if _, err := io.ReadFull(r.in, head); err != nil {
			return -1, final
		}
		n := uint64(head[1] & 0x7f)
		switch n {
		case 126:
			var b [2]byte
			io.ReadFull(r.in, b[:])
			n = uint64(binary.BigEndian.Uint16(b[:]))
		case 127:
			var b [8]byte
			io.ReadFull(r.in, b[:])
			n = binary.BigEndian.Uint64(b[:])
		}
		payload := make([]byte, n)
		if _, err := io.ReadFull(r.in, payload); err != nil {
			return -1, final
		}
		if head[0]&0x0f == 8 {
			if len(payload) < 2 {
				return 1005, final
			}
			if !utf8.Valid(payload[2:]) {
				return 1007, final // which is what a client says that looks
			}
			return int(binary.BigEndian.Uint16(payload)), final
		}
		final = final || bytes.Contains(payload, []byte(`"final":true`))
	}
}

func TestRawFramesAreAnsweredWithTheCodesOfTheProtocol(t *testing.T) {
	g := serve(t, door.Defaults(), plain(), shout)
	start := masked(0x81, begin)
	say := source("s", "Año nuevo.", true)
	cut := strings.Index(say, "ñ") + 1
	end := masked(0x81, `{"type":"end"}`)
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	for _, row := range []struct {
		what   string
		frames []byte
		code   int
		final  bool
	}{
		{"text, then end", join(start, masked(0x81, say), end), 1000, true},
		{"fragments with a ping between, UTF-8 split over them", join(start, masked(0x01, say[:cut]), masked(0x89, "ping"), masked(0x00, say[cut:cut+1]), masked(0x80, say[cut+1:]), end), 1000, true},
		{"binary", join(start, masked(0x82, say)), 1003, false},
		{"not UTF-8", join(start, masked(0x81, "{\"type\":\"source\",\"segment\":\"s\",\"text\":\"\xff\"}")), 1007, false},
		{"not JSON", join(start, masked(0x81, `hello`)), 1007, false},
		{"two objects", join(start, masked(0x81, `{} {}`)), 1007, false},
		{"an array", join(start, masked(0x81, `[]`)), 1007, false},
		{"cut JSON", join(start, masked(0x81, `{"type":`)), 1007, false},
		{"first not JSON", masked(0x81, `hello`), 1007, false},
		{"first binary", masked(0x82, begin), 1003, false},
		{"over the limit", join(start, masked(0x81, strings.Repeat(" ", 70_000))), 1009, false},
		{"over the limit in fragments", join(start, masked(0x01, "{"), bytes.Repeat(masked(0x00, strings.Repeat(" ", 1000)), 70), masked(0x80, "}")), 1009, false},
		{"a start over the limit", masked(0x81, begin+strings.Repeat(" ", 70_000)), 1009, false},
		{"a start with a fault whose words end within a letter", masked(0x81, `{"type":"start","targets":["es"],"glossary":"a`+strings.Repeat("é", 60)+`"}`), 1008, false},
		{"a start with a fault whose words end within a letter, one further", masked(0x81, `{"type":"start","targets":["es"],"glossary":"`+strings.Repeat("é", 60)+`"}`), 1008, false},
		{"a reserved bit", join(start, masked(0xc1, say)), 1002, false},
		{"unmasked", join(start, []byte{0x81, 2, '{', '}'}), 1002, false},
		{"a reserved opcode", join(start, masked(0x83, say)), 1002, false},
		{"a continuation of nothing", join(start, masked(0x80, say)), 1002, false},
		{"a long ping", join(start, masked(0x89, strings.Repeat("x", 126))), 1002, false},
		{"a fragmented ping", join(start, masked(0x09, "x")), 1002, false},
		{"a close", join(start, masked(0x88, "\x03\xe8bye")), 1000, false},
	} {
		t.Run(row.what, func(t *testing.T) {
			r := g.raw()
			if _, err := r.Write(row.frames); err != nil {
				t.Fatal(err)
			}
			code, final := r.ends()
			if code != row.code || final != row.final {
				t.Errorf("closed with %d, final %v; want %d, %v", code, final, row.code, row.final)
			}
		})
	}
}

func TestASessionIsContinuedAndNothingFinalIsLostOrSentTwice(t *testing.T) {
	hold, asked := make(chan struct{}), make(chan struct{})
	g := serve(t, door.Defaults(), plain(), func(ctx context.Context, r *core.Request) (*core.Result, error) {
		if strings.Contains(r.Text, "slow") {
			close(asked)
			select {
			case <-hold:
			case <-ctx.Done():
			}
		}
		return shout(ctx, r)
	})
	c := g.dial().say(begin)
	ready := c.until("ready")
	c.say(source("a", "One.", true), source("b", "It is slow.", true))
	first := c.final()
	<-asked // a frame that a cut overtakes was never taken, and its sender knows from no ack
	c.ws.CloseNow()
	close(hold) // what is answered while nobody is there waits

	again := g.dial().say(fmt.Sprintf(`{"type":"start","resume":%q,"after":%d}`, ready.Resume, first.Seq))
	r := again.until("ready")
	if !r.Resumed || r.Epoch != 1 || r.Resume == ready.Resume || r.Session != "room" {
		t.Fatalf("%+v", r)
	}
	if f := again.final(); f.Segment != "b" || f.Text != "IT IS SLOW./es" || f.Concluded != f.Text {
		t.Errorf("%+v", f)
	}
	// A cut before ready locks nobody out: the former token is good until the client speaks.
	third := g.dial().say(fmt.Sprintf(`{"type":"start","resume":%q,"after":%d}`, ready.Resume, first.Seq))
	if r := third.until("ready"); !r.Resumed {
		t.Fatalf("%+v", r)
	}
	if code := again.closes(); code != 4409 {
		t.Errorf("the connection that was taken over is closed with %d", code)
	}
	if f := third.final(); f.Segment != "b" {
		t.Errorf("%+v", f)
	}
	// What was never sent proves nothing, and neither does a token that is not known.
	for _, start := range []string{
		fmt.Sprintf(`{"type":"start","resume":%q,"after":9999,"session":"room","targets":["es"]}`, ready.Resume),
		`{"type":"start","resume":"nonsense","after":1,"session":"room","targets":["es"]}`,
	} {
		c := g.dial().say(start)
		if r := c.until("ready"); r.Resumed || r.Epoch < 2 {
			t.Errorf("%s: %+v", start, r)
		}
	}
	if code := third.closes(); code != 4409 {
		t.Errorf("the former session is closed with %d", code)
	}
}

// A client gives up a connection before it was heard, and its next one is heard first: what
// it left behind takes nothing from it.
func TestAConnectionThatItsClientGaveUpTakesNothing(t *testing.T) {
	g := serve(t, door.Defaults(), plain(), shout)
	for _, row := range []struct {
		what   string
		resume bool // the client had come back on the connection that it left
		spoke  bool // and had spoken on the one after it
	}{
		{"which began the session", false, true},
		{"with a token that is still good", true, false},
		{"with a token that is not good any more", true, true},
	} {
		t.Run(row.what, func(t *testing.T) {
			left := g.raw()
			c := g.dial().say(begin)
			token, epoch := c.until("ready").Resume, c.last.Epoch
			start := begin
			if row.resume {
				c.say(source("a", "One.", true)).final()
				start = fmt.Sprintf(`{"type":"start","session":"room","targets":["es"],"resume":%q,"after":%d}`, token, c.seq)
				c.ws.CloseNow()
				c = g.dial().say(start)
				if r := c.until("ready"); !r.Resumed {
					t.Fatalf("%+v", r)
				}
			}
			if row.spoke {
				c.say(source("b", "Two.", true)).final()
			}
			if _, err := left.Write(masked(0x81, start)); err != nil {
				t.Fatal(err)
			}
			left.Conn.(*net.TCPConn).CloseWrite()
			left.ends() // it was heard
			if f := c.say(source("c", "Three.", true)).final(); f.Text != "THREE./es" {
				t.Errorf("%+v", f)
			}
			if all := g.door.Sessions(); len(all) != 1 || all[0].Epoch != epoch || !all[0].Connected {
				t.Errorf("%+v", all)
			}
		})
	}
}

func keyed(names ...string) door.Config {
	c := door.Defaults()
	for _, n := range names {
		c.Keys = append(c.Keys, door.Key{Name: n, Key: core.Secret("key-of-" + n + "-which-is-long")})
	}
	return c
}

func bearerOf(name string) []string {
	return []string{"Authorization", "Bearer key-of-" + name + "-which-is-long"}
}

func TestSessionsBelongToTheirKey(t *testing.T) {
	g := serve(t, keyed("a", "b"), plain(), shout)
	if _, err := g.try([]string{Protocol}); err == nil || !strings.Contains(err.Error(), "401") {
		t.Errorf("without a key: %v", err)
	}
	a := g.dial(bearerOf("a")...).say(begin)
	ready := a.until("ready")
	b := g.dial(bearerOf("b")...).say(begin)
	if r := b.until("ready"); r.Epoch != 1 {
		t.Errorf("%+v", r)
	}
	thief := g.dial(bearerOf("b")...).say(fmt.Sprintf(`{"type":"start","resume":%q,"after":1}`, ready.Resume))
	if code := thief.closes(); code != 4401 {
		t.Errorf("closed with %d", code)
	}
	a.say(source("s", "It lives.", true))
	a.final()

	// The key is withdrawn.
	c := g.config
	c.Keys = keyed("b").Keys
	apply, err := g.server.Plan(&c)
	if err != nil {
		t.Fatal(err)
	}
	apply()
	if code := a.closes(); code != 1008 {
		t.Errorf("closed with %d", code)
	}
	b.say(source("s", "It lives.", true))
	b.final()
}

// A glossary that start names holds for each text of the session; after a reload that has it
// no more, finals say so.
func TestAGlossaryOfTheStartHoldsForTheSession(t *testing.T) {
	terms, err := glossary.New("house", "en", "es", []core.Pair{{Source: "gateway", Target: "pasarela"}})
	if err != nil {
		t.Fatal(err)
	}
	g := serve(t, door.Defaults(), plain(), func(ctx context.Context, r *core.Request) (*core.Result, error) {
		if len(r.Terms) != 1 || r.Glossary != "house" {
			t.Errorf("asked with %q and %v", r.Glossary, r.Terms)
		}
		return shout(ctx, r)
	})
	g.door.Service.UseGlossaries(door.Glossaries{"house": terms})
	c := g.dial().say(strings.Replace(begin, "{", `{"glossary":"house","traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",`, 1))
	c.until("ready")
	if f := c.say(source("a", "The gateway is open.", true)).final(); f.Text == "" || !slices.Contains(f.Flags, core.FlagGlossaryMissed) {
		t.Errorf("%+v", f)
	}
	g.door.Service.UseGlossaries(nil)
	if f := c.say(source("b", "The gateway is shut.", true)).final(); f.Error == nil || !strings.Contains(f.Error.Message, "no glossary") {
		t.Errorf("%+v", f)
	}
}

// A hundred sessions are open, with finals under way, when the file is read anew and the
// gateway stops: every final comes, each client is told why, and the next gateway says
// truthfully that it cannot continue.
func TestStoppingWithAHundredSessionsLosesNoFinal(t *testing.T) {
	const sessions = 100
	c := door.Defaults()
	c.DrainTimeout = 20 * time.Second
	var under sync.WaitGroup
	under.Add(sessions)
	g := serve(t, c, plain(), func(ctx context.Context, r *core.Request) (*core.Result, error) {
		if strings.HasPrefix(r.Text, "Last") {
			under.Done()
			select {
			case <-time.After(300 * time.Millisecond):
			case <-ctx.Done():
				return nil, core.ContextError(ctx, "test")
			}
		}
		return shout(ctx, r)
	})
	next := serve(t, c, plain(), shout)
	var all sync.WaitGroup
	for n := range sessions {
		all.Go(func() {
			c, err := g.try([]string{Protocol})
			if err != nil {
				t.Error(err)
				return
			}
			start := strings.Replace(begin, "room", fmt.Sprint("room-", n), 1)
			c.say(start, source("a", "First one.", true), source("b", fmt.Sprintf("Last %d.", n), true))
			finals, goaway, resume := map[string]string{}, 0, ""
			for {
				f, code := c.next()
				switch {
				case f.Type == "ready":
					resume = f.Resume
				case f.Type == "goaway":
					goaway++
				case f.Type == "target" && f.Final:
					if finals[f.Segment] != "" {
						t.Errorf("room-%d: %s comes twice", n, f.Segment)
					}
					finals[f.Segment] = f.Text
				}
				if code == 0 {
					continue
				}
				if want := fmt.Sprintf("LAST %d./es", n); code != 1012 || goaway != 1 || finals["a"] != "FIRST ONE./es" || finals["b"] != want {
					t.Errorf("room-%d is closed with %d after %v and %d goaway", n, code, finals, goaway)
				}
				break
			}
			again, err := next.try([]string{Protocol})
			if err != nil {
				t.Error(err)
				return
			}
			if r := again.say(strings.Replace(start, "{", fmt.Sprintf(`{"resume":%q,"after":%d,`, resume, c.seq), 1)).until("ready"); r.Resumed {
				t.Errorf("room-%d: the next gateway says %+v", n, r)
			}
		})
	}
	under.Wait()
	server, err := g.server.Plan(&g.config)
	if err != nil {
		t.Fatal(err)
	}
	server()
	l := plain()
	l.Mask = 3
	own, err := g.door.Plan(&l)
	if err != nil {
		t.Fatal(err)
	}
	own()
	if n := len(g.door.Sessions()); n != sessions {
		t.Errorf("%d sessions after the reload", n)
	}
	g.stop()
	all.Wait()
}

func TestABrowserComesWithATokenOnce(t *testing.T) {
	g := serve(t, keyed("a"), plain(), shout)
	ask := func(body string, header ...string) (*http.Response, string) {
		r, _ := http.NewRequest(http.MethodPost, g.url+"/v1/live", strings.NewReader(body))
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		raw, _ := io.ReadAll(res.Body)
		return res, string(raw)
	}
	if res, _ := ask(""); res.StatusCode != 401 {
		t.Errorf("without a key: %d", res.StatusCode)
	}
	res, body := ask("", bearerOf("a")...)
	var ticket struct{ URL, Token, Expires string }
	if err := json.Unmarshal([]byte(body), &ticket); err != nil || res.StatusCode != 200 || !strings.HasPrefix(ticket.URL, "ws://") || ticket.Token == "" {
		t.Fatalf("%s %v", body, err)
	}
	c, err := g.try([]string{Protocol, "bearer." + ticket.Token})
	if err != nil {
		t.Fatal(err)
	}
	if c.ws.Subprotocol() != Protocol {
		t.Errorf("subprotocol %q", c.ws.Subprotocol())
	}
	c.say(begin).until("ready")
	if again, err := g.try([]string{Protocol, "bearer." + ticket.Token}); err != nil {
		t.Error(err)
	} else if code := again.closes(); code != 4401 {
		t.Errorf("a token used twice: closed with %d", code)
	}
}

func TestAClientThatDoesNotReadIsClosedAndMayComeBack(t *testing.T) {
	g := serve(t, door.Defaults(), plain(), func(_ context.Context, r *core.Request) (*core.Result, error) {
		return &core.Result{Text: strings.Repeat(r.Text+" ", 60)}, nil
	})
	c := g.dial().say(begin)
	c.until("ready")
	other := g.dial().say(strings.Replace(begin, "room", "other", 1))
	other.until("ready")
	text := strings.Repeat("long words ", 300)
	written := make(chan struct{})
	go func() {
		defer close(written)
		for i := 0; ; i++ {
			ctx, cancel := context.WithTimeout(context.Background(), patiently)
			err := c.ws.Write(ctx, websocket.MessageText, []byte(source(fmt.Sprint(i), text+fmt.Sprint(i), true)))
			cancel()
			if err != nil {
				return
			}
		}
	}()
	for i := 0; g.door.metrics.slow.Load() == 0; i++ {
		other.say(source(fmt.Sprint(i), fmt.Sprintf("Number %d.", i), true))
		other.final()
	}
	select {
	case <-written:
	case <-time.After(patiently):
		t.Error("its connection is open")
	}
}

func TestAGatewayThatStopsDeliversFinalsAndSaysGoodbye(t *testing.T) {
	begun := make(chan struct{}, 1)
	g := serve(t, door.Defaults(), plain(), func(ctx context.Context, r *core.Request) (*core.Result, error) {
		begun <- struct{}{}
		time.Sleep(300 * time.Millisecond)
		return shout(ctx, r)
	})
	c := g.dial().say(begin)
	c.until("ready")
	c.say(source("s", "It is not lost.", true))
	<-begun
	go g.stop()
	if f := c.until("goaway"); f.Reason != "stopping" {
		t.Errorf("%+v", f)
	}
	if f := c.final(); f.Text != "IT IS NOT LOST./es" {
		t.Errorf("%+v", f)
	}
	if code := c.closes(); code != 1012 {
		t.Errorf("closed with %d", code)
	}
}

func TestTheSameSessionOverPlainHTTP(t *testing.T) {
	g := serve(t, keyed("a"), plain(), shout)
	do := func(method, url, body string, header ...string) *http.Response {
		r, _ := http.NewRequest(method, url, strings.NewReader(body))
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { res.Body.Close() })
		return res
	}
	res := do("POST", g.url+"/v1/live", begin, bearerOf("a")...)
	var s begun
	if err := json.NewDecoder(res.Body).Decode(&s); err != nil || s.Session != "room" || s.Token == "" {
		t.Fatalf("%+v %v", s, err)
	}
	res.Body.Close()
	token := []string{"Authorization", "Bearer " + s.Token}
	if res := do("GET", s.Events, ""); res.StatusCode != 401 {
		t.Errorf("without a key: %d", res.StatusCode)
	}
	events := do("GET", s.Events, "", token...)
	if events.StatusCode != 200 || events.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatal(events.Status)
	}
	read := func(in *bufio.Reader) (f got, id string) {
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				return f, ""
			}
			if after, is := strings.CutPrefix(line, "id: "); is {
				id = strings.TrimSpace(after)
			}
			if after, is := strings.CutPrefix(line, "data: "); is {
				if err := json.Unmarshal([]byte(after), &f); err != nil {
					t.Fatal(err)
				}
				return f, id
			}
		}
	}
	in := bufio.NewReader(events.Body)
	if f, id := read(in); f.Type != "ready" || f.Resumed || id != "1" {
		t.Fatalf("%+v %s", f, id)
	}
	if res := do("POST", s.Source, `{"segment":"s1","text":"Hello.","final":true}`, token...); res.StatusCode != 202 {
		t.Errorf("%s", res.Status)
	}
	f, id := read(in)
	if f.Text != "HELLO./es" {
		t.Errorf("%+v", f)
	}
	events.Body.Close()
	if res := do("POST", s.Source, source("s2", "And.", true)+"\n"+source("s3", "Off.", true), token...); res.StatusCode != 202 {
		t.Errorf("%s", res.Status)
	}
	if res := do("POST", s.Source, `{"type":"source","text":"no"}`, token...); res.StatusCode != 400 {
		t.Errorf("%s", res.Status)
	}
	if res := do("POST", s.Source, `{"type":"keepalive"}`+"\n\n"+`{"text":"no"}`+"\n"+source("s4", "Never.", true), token...); res.StatusCode != 400 {
		t.Errorf("%s", res.Status)
	} else if raw, _ := io.ReadAll(res.Body); !strings.Contains(string(raw), "line 3: ") || !strings.Contains(string(raw), "were taken") {
		t.Errorf("which line is wrong is not said: %s", raw)
	}
	// JSON has no other encoding, and what reads it writes U+FFFD for what is none.
	for _, body := range []string{"{\"segment\":\"s5\",\"text\":\"\xff\",\"final\":true}", "\xff"} {
		if res := do("POST", s.Source, body, token...); res.StatusCode != 400 {
			t.Errorf("%q: %s", body, res.Status)
		} else if raw, _ := io.ReadAll(res.Body); !strings.Contains(string(raw), "UTF-8") {
			t.Errorf("%q: %s", body, raw)
		}
	}
	if res := do("POST", g.url+"/v1/live", "{\"type\":\"start\",\"session\":\"\xff\",\"targets\":[\"es\"]}", bearerOf("a")...); res.StatusCode != 400 {
		t.Errorf("a start that is not UTF-8: %s", res.Status)
	}
	events = do("GET", s.Events, "", append(token, "Last-Event-ID", id)...)
	defer events.Body.Close()
	in = bufio.NewReader(events.Body)
	if f, _ := read(in); !f.Resumed {
		t.Errorf("%+v", f)
	}
	for _, want := range []string{"AND./es", "OFF./es"} {
		if f, _ := read(in); f.Text != want {
			t.Errorf("%+v", f)
		}
	}
	do("POST", s.Source, `{"type":"end"}`, token...)
	last := got{}
	for f, _ := read(in); f.Type != ""; f, _ = read(in) {
		last = f
	}
	if last.Type != "end" {
		t.Errorf("%+v", last)
	}
}

func TestSessionsAreBounded(t *testing.T) {
	l := plain()
	l.MaxSessions = 1
	g := serve(t, door.Defaults(), l, shout)
	g.dial().say(begin).until("ready")
	c := g.dial().say(strings.Replace(begin, "room", "other", 1))
	if code := c.closes(); code != 4429 || !strings.Contains(c.last.Message, "live.max_sessions") {
		t.Errorf("closed with %d after %+v", code, c.last)
	}
	g.dial().say(begin).until("ready") // in the place of the first
}

func TestALateFinalIsAnErrorAndNotSilence(t *testing.T) {
	var calls atomic.Int64
	c := door.Defaults()
	c.Deadline = 100 * time.Millisecond
	g := serve(t, c, plain(), func(ctx context.Context, r *core.Request) (*core.Result, error) {
		calls.Add(1)
		<-ctx.Done()
		return nil, core.ContextError(ctx, "test")
	})
	w := g.dial().say(begin)
	w.until("ready")
	w.say(source("s", "It never comes.", true))
	if f := w.final(); f.Error == nil || f.Error.Code != "deadline_exceeded" || f.Text != "" {
		t.Errorf("%+v", f)
	}
}

// What a session has cost is in its stats, in the list of sessions, and in the line that is
// written at its end, at the prices of the configuration; what the cache answers costs nothing.
func TestWhatASessionCostsIsToldAndWrittenAtItsEnd(t *testing.T) {
	lines, log := observer.New(zap.InfoLevel)
	g := serveLogged(t, zap.New(lines), door.Defaults(), plain(), func(ctx context.Context, r *core.Request) (*core.Result, error) {
		res, err := shout(ctx, r)
		if res.Cached = strings.Contains(r.Text, "known"); !res.Cached {
			r.Trace.Attempts = 1
			res.Provider, res.Usage = "priced", core.Usage{PromptTokens: 100, CompletionTokens: 10}
		}
		return res, err
	})
	g.door.Service.Usage().SetPrices(map[string]usage.Price{"priced": {Input: 1, Output: 4, Currency: "EUR"}})
	c := g.dial().say(begin)
	c.until("ready")
	c.say(source("a", "It is new.", true), source("b", "It is known.", true), source("c", "So is this. Is it?", true))
	for range 3 {
		c.final()
	}
	const cost = "0.000420 EUR" // three sentences of 100 and 10 tokens
	if all := g.door.Sessions(); len(all) != 1 || all[0].Cost.String() != cost {
		t.Errorf("%+v", all)
	}
	c.say(`{"type":"end"}`)
	c.until("stats")
	if want := (usage.Cost{{Currency: "EUR", Billionths: 420_000}}); !slices.Equal(c.last.Cost, want) {
		t.Errorf("stats say %+v", c.last.Cost)
	}
	if code := c.closes(); code != 1000 {
		t.Errorf("closed with %d", code)
	}
	said := log.FilterMessage("live session ended").All()
	if len(said) != 1 || said[0].ContextMap()["cost"] != cost || said[0].ContextMap()["tokens"] != int64(330) || said[0].ContextMap()["session"] != "room" {
		t.Errorf("%+v", said)
	}
}

// When calls wait too long, finals ask the cache and fallbacks alone, the client is told, and
// what neither has is the source, flagged.
func TestWhenCallsWaitTooLongFinalsLeaveTheProviderAlone(t *testing.T) {
	c := door.Defaults()
	c.Deadline = 3 * time.Second
	g := serve(t, c, plain(), func(ctx context.Context, r *core.Request) (*core.Result, error) {
		if !r.Relieve {
			r.Trace.Waited = 6 * time.Second
			return shout(ctx, r)
		}
		if strings.Contains(r.Text, "backed") {
			return &core.Result{Text: "a fallback's", Flags: []string{core.FlagFallback}}, nil
		}
		return nil, &core.Error{Kind: core.Overloaded}
	})
	w := g.dial().say(begin)
	w.until("ready")
	w.say(source("s", "It waits.", true))
	if f := w.final(); f.Text != "IT WAITS./es" {
		t.Errorf("%+v", f)
	}
	w.say(source("t", "It is backed.", true), source("u", "It is not.", true))
	if f := w.final(); f.Text != "a fallback's" || !slices.Equal(f.Flags, []string{core.FlagFallback}) {
		t.Errorf("%+v", f)
	}
	if f := w.final(); f.Text != "It is not." || !slices.Equal(f.Flags, []string{live.FlagSource}) || f.Error != nil {
		t.Errorf("%+v", f)
	}
}

func FuzzFrames(f *testing.F) {
	for _, s := range []string{begin, source("s", "a", true), `{"type":"source","words":[{"text":"a","is_final":true}]}`, `{"a":1,"a":2}`, `{}`, `[`, `{"type":"start","context":[{"source":"a","target":"b"}]}`} {
		f.Add([]byte(s))
	}
	d := New(plain(), door.New(door.Defaults(), translator(shout)), door.NewMetrics(prometheus.NewRegistry()), zap.NewNop())
	f.Fuzz(func(t *testing.T, raw []byte) {
		frame, err := parse(raw)
		if err == nil && !json.Valid(raw) {
			t.Fatal("it is no JSON")
		}
		if err == errSyntax && json.Valid(raw) && bytes.HasPrefix(bytes.TrimSpace(raw), []byte("{")) {
			t.Fatal("it is an object")
		}
		if err != nil {
			return
		}
		for _, read := range []func() *core.Error{
			func() *core.Error { _, _, err := d.readStart(frame); return err },
			func() *core.Error { _, err := d.readSource(frame); return err },
		} {
			if err := read(); err != nil && (err.Kind == core.Internal || err.Kind == "") {
				t.Fatal(err)
			}
		}
	})
}

func TestSessionsAreListedWithTheirMeasures(t *testing.T) {
	g := serve(t, door.Defaults(), plain(), shout)
	c := g.dial().say(begin)
	c.until("ready")
	c.say(source("s", "It is said.", true))
	c.final()
	all := g.door.Sessions()
	if len(all) != 1 || all[0].Session != "room" || !all[0].Connected || all[0].Finals != 1 || all[0].Targets[0] != "es" {
		t.Errorf("%+v", all)
	}
	totals := map[string]float64{}
	g.door.Measure(func(m core.Measure) { totals[m.Name] = m.Value })
	if totals["live_sessions"] != 1 || totals["live_finals_total"] != 1 || totals["live_asked_total"] != 1 {
		t.Errorf("%v", totals)
	}
}

func TestWhatIsRecordedHasTextsOnlyWhenAskedFor(t *testing.T) {
	g := serve(t, door.Defaults(), plain(), shout)
	with, stopWith, err := g.door.Record("room", true)
	if err != nil {
		t.Fatal(err)
	}
	without, stop, err := g.door.Record("", false)
	if err != nil {
		t.Fatal(err)
	}
	other, stopOther, err := g.door.Record("elsewhere", true)
	if err != nil {
		t.Fatal(err)
	}
	c := g.dial().say(begin)
	c.until("ready")
	c.say(source("s", "It is said.", true))
	c.final()
	if e := <-with; e.Text != "It is said." || e.Session != "room" || !e.Final {
		t.Errorf("%+v", e)
	}
	if e := <-without; e.Text != "" || e.CodePoints != 11 {
		t.Errorf("%+v", e)
	}
	stopWith()
	stop()
	stopOther()
	stop() // again
	if e, open := <-other; open {
		t.Errorf("%+v", e)
	}
	// Who does not read loses the recording, and nobody waits.
	unread, _, err := g.door.Record("", true)
	if err != nil {
		t.Fatal(err)
	}
	for i := range maxUnread + 1 {
		c.say(fmt.Sprintf(`{"type":"source","segment":"p","revision":%d,"text":"a"}`, i+1))
	}
	c.say(source("t", "It goes on.", true))
	c.final()
	n := 0
	for range unread {
		n++
	}
	if n != maxUnread {
		t.Errorf("%d were kept", n)
	}
}
