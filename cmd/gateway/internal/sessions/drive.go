package sessions

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// A sample is what became of one arrival.
type sample struct {
	session int
	at      time.Duration // when it was to be sent, after the start
	late    time.Duration // by how much it was sent later than that
	took    time.Duration // from sending to the end of the answer

	id       string        // the request's, by which the simulator's book knows it
	inside   time.Duration // that the gateway says its provider stage took
	paced    time.Duration // that it waited for the interval between two starts
	attempts int
	cached   bool
	text     string
	failed   string // the kind of failure; empty when it was translated

	upstream time.Duration // what the upstream took by itself
	known    bool          // whether that is known
}

// drive sends every arrival at its time, however long earlier answers take: a
// slow gateway gets no lighter load, and its delays are all seen. It returns
// when the last has been answered, with a sample for each arrival in their
// order; or when ctx ends, with its error. Done is called after each answer.
func drive(ctx context.Context, all []arrival, send func(context.Context, arrival) sample, done func(sample)) ([]sample, error) {
	out := make([]sample, len(all))
	var answers sync.WaitGroup
	defer answers.Wait()
	begin := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	<-timer.C
	for i, a := range all {
		timer.Reset(time.Until(begin.Add(a.at)))
		select {
		case <-timer.C:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		answers.Go(func() {
			late := time.Since(begin) - a.at
			s := send(ctx, a)
			s.session, s.at, s.late = a.session, a.at, late
			out[i] = s
			done(s)
		})
	}
	answers.Wait()
	return out, context.Cause(ctx)
}

// A client is the listeners of all sessions of a cell: each has connections of
// its own to the gateway, as callers of their own would.
type client struct {
	url, key string
	sessions []*http.Client
}

func newClient(url, key string, sessions int) *client {
	c := &client{url: url, key: key}
	for range sessions {
		c.sessions = append(c.sessions, &http.Client{
			Timeout:   time.Minute,
			Transport: &http.Transport{MaxIdleConnsPerHost: 8, IdleConnTimeout: 55 * time.Second},
		})
	}
	return c
}

func (c *client) close() {
	for _, s := range c.sessions {
		s.CloseIdleConnections()
	}
}

// failures that are the client's own words; the others are the gateway's kinds.
const (
	unreadable = "unreadable" // no answer, or none of the native door's
	wrong      = "wrong_text" // the translation of something else
)

// send asks for one translation.
func (c *client) send(ctx context.Context, a arrival) (s sample) {
	body, err := json.Marshal(map[string]any{"text": a.text, "source": "en", "target": "es", "session": "session " + strconv.Itoa(a.session+1)})
	if err != nil {
		panic(err) // strings alone
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url+"/v1/translate", bytes.NewReader(body))
	if err != nil {
		return sample{failed: unreadable}
	}
	req.Header.Set("Content-Type", "application/json")
	if c.key != "" {
		req.Header.Set("Authorization", "Bearer "+c.key)
	}
	begin := time.Now()
	res, err := c.sessions[a.session].Do(req)
	if err != nil {
		return sample{failed: unreadable, took: time.Since(begin)}
	}
	raw, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	s.took = time.Since(begin)
	res.Body.Close()
	var answer struct {
		Translations []struct {
			Text   string
			Cached bool
		}
		RequestID string `json:"request_id"`
		Timing    struct {
			Stages   map[string]float64
			PacedMS  float64 `json:"paced_ms"`
			Attempts int
		}
		Error *struct {
			Kind      string
			RequestID string `json:"request_id"`
		}
	}
	if err == nil {
		err = json.Unmarshal(raw, &answer)
	}
	switch {
	case err != nil:
		s.failed = unreadable
	case answer.Error != nil && answer.Error.Kind != "":
		s.failed, s.id = answer.Error.Kind, answer.Error.RequestID
	case res.StatusCode != http.StatusOK || len(answer.Translations) != 1:
		s.failed = unreadable
	default:
		t := answer.Translations[0]
		s.id, s.text, s.cached = answer.RequestID, t.Text, t.Cached
		s.paced = milliseconds(answer.Timing.PacedMS)
		s.inside, s.attempts = milliseconds(answer.Timing.Stages["provider"]), answer.Timing.Attempts
	}
	return s
}

func milliseconds(ms float64) time.Duration { return time.Duration(ms * float64(time.Millisecond)) }

// get reads the JSON, or the text when into is an io.Writer, at url.
func get(ctx context.Context, c *http.Client, url, key string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	res, err := c.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		io.Copy(io.Discard, io.LimitReader(res.Body, 1<<16))
		return fmt.Errorf("%s answers %s", url, res.Status)
	}
	if w, ok := into.(io.Writer); ok {
		_, err = io.Copy(w, io.LimitReader(res.Body, 16<<20))
		return err
	}
	return json.NewDecoder(res.Body).Decode(into)
}
