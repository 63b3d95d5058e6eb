package speech

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/live/traffic"
)

// A Client drives a running gateway.
type Client struct {
	URL, Key string
	Targets  []core.Language
	// Run makes the names of sessions those of this run alone.
	Run string
	// Deaf is how many of a hundred sessions read nothing of what they are sent.
	Deaf int
}

// givenUp is how long after its last words a client that reads nothing waits to be closed.
const givenUp = time.Minute

// patience is how long the last finals are waited for.
const patience = 15 * time.Second

// Live plays a trace as a client of live sessions. Calls and code points sent upstream are
// what the sessions say themselves.
func (c Client) Live(ctx context.Context, trace []traffic.Event, deadline time.Duration) (Measured, error) {
	s, begin := NewScreen(), time.Now()
	var mu sync.Mutex
	var failed error
	var all sync.WaitGroup
	calls, sent, wasted := 0, 0.0, 0
	deaf, cut := 0, 0
	for i, events := range bySession(trace) {
		if (i+1)*c.Deaf/100 > i*c.Deaf/100 {
			deaf++
			all.Go(func() {
				err := c.deaf(ctx, events, begin)
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					cut++
				} else if failed == nil {
					failed = err
				}
			})
			continue
		}
		all.Go(func() {
			stats, err := c.session(ctx, events, s, &mu, begin)
			mu.Lock()
			defer mu.Unlock()
			if err != nil && failed == nil {
				failed = err
			}
			calls, wasted = calls+stats.Calls, wasted+stats.Wasted
			sent += stats.Amplification * float64(spoken(events)*len(c.Targets))
		})
	}
	all.Wait()
	m := s.Measure(calls, int(sent), 0, deadline, nil)
	m.Wasted, m.Deaf, m.Cut = ratio(wasted, calls), deaf, cut
	return m, failed
}

// deaf plays one session whose client reads nothing, and returns when it has been cut.
func (c Client) deaf(ctx context.Context, events []traffic.Event, begin time.Time) error {
	ws, err := c.dial(ctx)
	if err != nil {
		return err
	}
	defer ws.CloseNow()
	name := events[0].Session
	if err := say(ctx, ws, map[string]any{"type": "start", "session": name + c.Run, "source": "en", "targets": c.Targets}); err != nil {
		return err
	}
	for _, e := range events {
		if err := sleep(ctx, time.Until(begin.Add(e.At()))); err != nil {
			return err
		}
		if say(ctx, ws, sourceOf(e)) != nil {
			return nil
		}
	}
	for end := time.Now().Add(givenUp); time.Now().Before(end); {
		if err := sleep(ctx, time.Second); err != nil {
			return err
		}
		if say(ctx, ws, map[string]any{"type": "keepalive"}) != nil {
			return nil
		}
	}
	return fmt.Errorf("session %s reads nothing and is not cut", name)
}

func (c Client) dial(ctx context.Context) (*websocket.Conn, error) {
	h := http.Header{}
	if c.Key != "" {
		h.Set("Authorization", "Bearer "+c.Key)
	}
	ws, _, err := websocket.Dial(ctx, strings.Replace(c.URL, "http", "ws", 1)+"/v1/live", &websocket.DialOptions{Subprotocols: []string{"dragoman.live.v1"}, HTTPHeader: h})
	if err != nil {
		return nil, fmt.Errorf("no live session at %s: %w", c.URL, err)
	}
	return ws, nil
}

func say(ctx context.Context, ws *websocket.Conn, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return ws.Write(ctx, websocket.MessageText, raw)
}

func sourceOf(e traffic.Event) map[string]any {
	return map[string]any{"type": "source", "segment": e.Segment, "revision": e.Revision, "text": e.Text, "final": e.Final}
}

func bySession(trace []traffic.Event) (all [][]traffic.Event) {
	at := map[string]int{}
	for _, e := range trace {
		i, is := at[e.Session]
		if !is {
			i = len(all)
			at[e.Session] = i
			all = append(all, nil)
		}
		all[i] = append(all[i], e)
	}
	return all
}

func spoken(events []traffic.Event) (n int) {
	for _, e := range events {
		if e.Final {
			n += len([]rune(e.Text))
		}
	}
	return n
}

type stats struct {
	Calls, Wasted int
	Amplification float64
}

// session plays one session.
func (c Client) session(ctx context.Context, events []traffic.Event, s *Screen, mu *sync.Mutex, begin time.Time) (last stats, err error) {
	ws, err := c.dial(ctx)
	if err != nil {
		return last, err
	}
	defer ws.CloseNow()
	ws.SetReadLimit(4 << 20)
	name := events[0].Session
	if err := say(ctx, ws, map[string]any{"type": "start", "session": name + c.Run, "source": "en", "targets": c.Targets}); err != nil {
		return last, err
	}
	read := make(chan error, 1)
	go func() { read <- c.read(ctx, ws, name, s, mu, begin, &last) }()
	for _, e := range events {
		if err := sleep(ctx, time.Until(begin.Add(e.At()))); err != nil {
			return last, err
		}
		at := time.Since(begin)
		mu.Lock()
		for _, t := range c.Targets {
			s.Heard(e, t, at)
		}
		mu.Unlock()
		if err := say(ctx, ws, sourceOf(e)); err != nil {
			return last, fmt.Errorf("session %s: %w", name, errors.Join(err, <-read))
		}
	}
	if err := say(ctx, ws, map[string]any{"type": "end"}); err != nil {
		return last, err
	}
	select {
	case err = <-read:
	case <-time.After(patience):
		ws.CloseNow()
		<-read
		err = fmt.Errorf("session %s does not end", name)
	}
	return last, err
}

// read takes frames until the end of a session.
func (c Client) read(ctx context.Context, ws *websocket.Conn, session string, s *Screen, mu *sync.Mutex, begin time.Time, last *stats) error {
	concluded := map[Place]string{}
	for {
		_, raw, err := ws.Read(ctx)
		at := time.Since(begin)
		switch {
		case websocket.CloseStatus(err) == websocket.StatusNormalClosure:
			return nil
		case err != nil:
			return fmt.Errorf("session %s: %w", session, err)
		}
		var f struct {
			Type, Segment, Concluded, Tentative, Text, Message string
			Target                                             core.Language
			Final, Fatal                                       bool
			Late                                               any
			Corrected                                          any
			Error                                              any
			stats
		}
		if err := json.Unmarshal(raw, &f); err != nil {
			return err
		}
		switch f.Type {
		case "error":
			return fmt.Errorf("session %s: the gateway says: %.200s", session, f.Message)
		case "stats":
			var t stats
			if err := json.Unmarshal(raw, &t); err != nil {
				return err
			}
			*last = t
		case "target":
			where := Place{session, f.Segment, f.Target}
			mu.Lock()
			concluded[where] += f.Concluded
			if f.Final {
				s.Final(where, at, f.Text, f.Error != nil, f.Late == true, f.Corrected != nil)
				delete(concluded, where)
			} else {
				s.Saw(where, at, concluded[where]+f.Tentative)
			}
			mu.Unlock()
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Naive plays a trace as a client that asks the native door for every revision.
func (c Client) Naive(ctx context.Context, trace []traffic.Event, deadline time.Duration) (Measured, error) {
	s, begin := NewScreen(), time.Now()
	var mu sync.Mutex
	var all sync.WaitGroup
	var failed error
	newest := map[Place]int64{}
	calls, sent := 0, 0
	web := &http.Client{Timeout: time.Minute, Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	defer web.CloseIdleConnections()
	for _, e := range trace {
		if err := sleep(ctx, time.Until(begin.Add(e.At()))); err != nil {
			return Measured{}, err
		}
		for _, t := range c.Targets {
			where := Place{e.Session, e.Segment, t}
			mu.Lock()
			s.Heard(e, t, time.Since(begin))
			mu.Unlock()
			all.Go(func() {
				text, cached, err := c.ask(ctx, web, e, t)
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err != nil && failed == nil:
					failed = err
				case err == nil && !cached:
					calls++
					sent += len([]rune(e.Text))
				}
				if text == "" && !e.Final || e.Revision < newest[where] {
					return
				}
				newest[where] = e.Revision
				if e.Final {
					s.Final(where, time.Since(begin), text, text == "", false, false)
				} else {
					s.Saw(where, time.Since(begin), text)
				}
			})
		}
	}
	all.Wait()
	return s.Measure(calls, sent, 0, deadline, nil), failed
}

// ask returns an empty text when the gateway has none, for a revision that was superseded
// among others.
func (c Client) ask(ctx context.Context, web *http.Client, e traffic.Event, target core.Language) (text string, cached bool, err error) {
	body, err := json.Marshal(map[string]any{
		"text": e.Text, "source": "en", "target": target, "session": e.Session + c.Run, "segment": e.Segment, "revision": e.Revision, "final": e.Final,
	})
	if err != nil {
		return "", false, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.URL+"/v1/translate", bytes.NewReader(body))
	if err != nil {
		return "", false, err
	}
	if c.Key != "" {
		req.Header.Set("Authorization", "Bearer "+c.Key)
	}
	res, err := web.Do(req)
	if err != nil {
		return "", false, err
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		return "", false, err
	}
	var answer struct {
		Translations []struct {
			Text   string
			Cached bool
		}
	}
	if err := json.Unmarshal(raw, &answer); err != nil || len(answer.Translations) != 1 {
		return "", true, nil
	}
	return answer.Translations[0].Text, answer.Translations[0].Cached, nil
}
