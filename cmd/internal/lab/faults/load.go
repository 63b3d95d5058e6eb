package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// text returns the n-th text: two numbers give two texts. It has enough words
// for the gateway to tell it from its translation, and nothing that a
// translation must keep.
func text(n int) string {
	return "The train number " + strconv.Itoa(n) + " leaves from the old station at noon, and nobody knows why it is late."
}

// popular is how many texts are asked for again and again.
const popular = 100

// textOf returns the number of the text that request i asks for: one in twenty
// wants what the one before it wants, and so meets its flight or the cache, and
// one in twenty wants a popular one. All others want a text of their own.
func textOf(i int) int {
	switch i % 20 {
	case 7:
		return i - 1
	case 13:
		return i / 20 % popular * 20
	}
	return i
}

// translated is what the simulator makes of a text.
func translated(text string) string { return "[es] " + text }

// idOf returns the X-Request-Id of request i. The gateway hands it on, with
// "-1" behind it for the second attempt.
func idOf(i int) string { return idPrefix + strconv.Itoa(i) }

const idPrefix = "fault-"

// numbersOf returns the request and the attempt, from 0, that an id handed on
// stands for.
func numbersOf(id string) (i, attempt int, err error) {
	rest, ok := strings.CutPrefix(id, idPrefix)
	number, after, again := strings.Cut(rest, "-")
	i, err = strconv.Atoi(number)
	if again && err == nil {
		attempt, err = strconv.Atoi(after)
	}
	if !ok || i < 0 || attempt < 0 {
		err = fmt.Errorf("%q is no id of this program's", id)
	}
	return i, attempt, err
}

// An answer is what came back for a request.
type answer struct {
	begin, end time.Duration // since the book was opened
	status     int           // 0: lost
	err        error         // why it is
	kind       string        // of the failure
	right      bool          // the translation of its own text, under its own id
}

// A sample is the gateway's resident memory after a number of requests.
type sample struct {
	requests int
	bytes    float64
}

// samplings is how often memory is looked at in a run.
const samplings = 200

// A load asks for all texts.
type load struct {
	*subject
	book    *book
	samples []sample
}

// run asks, a fixed number of requests at a time, and returns when all are
// answered. The error is that of a gateway that cannot be asked.
func (l *load) run(ctx context.Context) error {
	requests := len(l.book.requests)
	each := max(requests/samplings, 1)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var mu sync.Mutex
	var all sync.WaitGroup
	for range asking {
		all.Go(func() {
			// A connection of its own: one that is shared may lie idle until the
			// gateway closes it in the moment of its use.
			client := &http.Client{Timeout: 2 * time.Minute, Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			for i := int(next.Add(1)) - 1; i < requests && ctx.Err() == nil; i = int(next.Add(1)) - 1 {
				if i%each == 0 {
					m, err := l.metrics(ctx)
					if err != nil {
						cancel(err)
						return
					}
					mu.Lock()
					l.samples = append(l.samples, sample{i, m.sum("process_resident_memory_bytes", "")})
					mu.Unlock()
				}
				l.book.answered(i, l.ask(ctx, client, i))
			}
		})
	}
	all.Wait()
	return context.Cause(ctx)
}

// ask asks for the text of request i.
func (l *load) ask(ctx context.Context, client *http.Client, i int) (a answer) {
	a.begin = l.book.now()
	defer func() { a.end = l.book.now() }()
	want := text(textOf(i))
	body, _ := json.Marshal(map[string]string{"text": want, "source": "en", "target": "es"}) // strings alone: it cannot fail
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, l.url+"/v1/translate", bytes.NewReader(body))
	if err != nil {
		a.err = err
		return a
	}
	r.Header.Set("X-Request-Id", idOf(i))
	resp, err := client.Do(r)
	if err != nil {
		a.err = err
		return a
	}
	defer resp.Body.Close()
	var got struct {
		ID           string `json:"request_id"`
		Translations []struct {
			Text, Target string
		}
		Error struct{ Kind string }
	}
	if a.err = json.NewDecoder(resp.Body).Decode(&got); a.err == nil {
		_, a.err = io.Copy(io.Discard, resp.Body) // to its end, or the connection is not used again
	}
	if a.err != nil {
		return a
	}
	a.status, a.kind = resp.StatusCode, got.Error.Kind
	a.right = resp.StatusCode == http.StatusOK && got.ID == idOf(i) && len(got.Translations) == 1 &&
		got.Translations[0].Text == translated(want) && got.Translations[0].Target == "es"
	return a
}

func (a answer) String() string {
	switch {
	case a.status == 0:
		return fmt.Sprintf("lost (%v)", a.err)
	case a.right:
		return "answered"
	case a.status == http.StatusOK:
		return "a wrong translation"
	}
	return fmt.Sprintf("%d %s", a.status, a.kind)
}
