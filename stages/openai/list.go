package openai

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/dragoman-mt/dragoman/core"
	jsontext "github.com/dragoman-mt/dragoman/core/text/json"
)

// Texts of one call of a client that nobody waits in front of go to the model in one
// completion: a list of texts with ids, which is answered by a list of translations with
// the same ids, as a JSON schema says. What came back under its id is taken; what is missing,
// or there twice, is asked for alone.

// Bounds of a list.
const (
	mostListed   = 40   // texts
	mostTokens   = 3000 // of its answer, as far as can be known before
	listOverhead = 14   // tokens that an item takes besides its text
	// firstSpeed is how many tokens a second a model is taken to answer with before one has
	// been timed, and listShare how much of the timeout a list may take at that speed.
	firstSpeed = 60
	listShare  = 0.6
	// unlistedFor is how long texts go alone after the server refused a list.
	unlistedFor = 10 * time.Minute
)

// lists is what was learned of how the model answers lists. It is safe for concurrent use.
type lists struct {
	speed atomic.Uint64             // tokens a second, as bits of a float64; 0 before the first
	until atomic.Pointer[time.Time] // texts go alone until then; nil for never
}

func (l *lists) tokensPerSecond() float64 {
	if bits := l.speed.Load(); bits != 0 {
		return math.Float64frombits(bits)
	}
	return firstSpeed
}

// timed notes that so many tokens took so long.
func (l *lists) timed(tokens int, took time.Duration) {
	if tokens < 16 || took <= 0 {
		return
	}
	l.speed.Store(math.Float64bits(0.7*l.tokensPerSecond() + 0.3*float64(tokens)/took.Seconds()))
}

var (
	_ core.Batcher      = (*Provider)(nil)
	_ core.BatchChooser = (*Provider)(nil)
)

// Batches says whether req may share a completion: bulk texts may, when the prompt is the
// provider's own. A final of a live session never waits for another text.
func (p *Provider) Batches(req *core.Request) bool {
	return req.Lane == core.LaneBulk && req.Session == "" && req.Chat == nil && req.OnDelta == nil && len(req.Context) == 0 &&
		p.template == nil && !p.lists.off()
}

// off says whether texts go alone for now.
func (l *lists) off() bool {
	until := l.until.Load()
	return until != nil && time.Now().Before(*until)
}

// Together returns how many of reqs fit into one completion: so many that its answer can be
// expected within the timeout.
func (p *Provider) Together(reqs []*core.Request) int {
	room := min(p.lists.tokensPerSecond()*p.cfg.Timeout.Seconds()*listShare, mostTokens, float64(p.cfg.Request.MaxOutput)/2)
	expected := 0.0
	for i, req := range reqs {
		expected += float64(tokens(req.Text) + listOverhead)
		if i > 0 && (i >= mostListed || expected > room || !p.Batches(req)) {
			return i
		}
	}
	return len(reqs)
}

// A listed text, or its translation.
type listed struct {
	ID   int    `json:"id"`
	Text string `json:"text"`
}

type listKey struct{}

// isList says whether the call of ctx is for a list.
func isList(ctx context.Context) bool { return ctx.Value(listKey{}) != nil }

// listRule is what the system message says besides, for a list.
const listRule = "\nThe user message is a JSON object with texts, each with an id. Translate each text by itself, never join or split them, " +
	`and answer with a JSON object alone: {"translations":[{"id":1,"text":"..."}]}, one item for each id.`

// listFormat is the schema of the answer.
const listFormat = `,"response_format":{"type":"json_schema","json_schema":{"name":"translations","strict":true,"schema":{"type":"object","properties":{"translations":` +
	`{"type":"array","items":{"type":"object","properties":{"id":{"type":"integer"},"text":{"type":"string"}},"required":["id","text"],"additionalProperties":false}}},` +
	`"required":["translations"],"additionalProperties":false}}}`

// TranslateAll translates all of reqs with one completion. Where a translation is missing the
// result is nil.
func (p *Provider) TranslateAll(ctx context.Context, reqs []*core.Request) ([]*core.Result, error) {
	if len(reqs) == 1 {
		res, err := p.Translate(ctx, reqs[0])
		if err != nil {
			return nil, err
		}
		return []*core.Result{res}, nil
	}
	if err := p.keyed(core.ProviderFailed); err != nil {
		return nil, err
	}
	one := *reqs[0]
	b := []byte(`{"texts":[`)
	for i, req := range reqs {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(strconv.AppendInt(append(b, `{"id":`...), int64(i+1), 10), `,"text":`...)
		b = append(jsontext.AppendString(b, req.Text), '}')
		one.Attempt = max(one.Attempt, req.Attempt)
		for _, term := range req.Terms {
			if i > 0 && !slices.Contains(one.Terms, term) {
				one.Terms = append(slices.Clip(one.Terms), term)
			}
		}
	}
	one.Text = string(append(b, "]}"...))
	begin := time.Now()
	res, err := p.translate(context.WithValue(ctx, listKey{}, true), &one, p.cfg.Timeout)
	if err != nil {
		if e, ok := errors.AsType[*core.Error](err); ok && e.Kind == core.ProviderFailed && !e.Retryable {
			until := time.Now().Add(unlistedFor)
			p.lists.until.Store(&until)
		}
		return nil, err
	}
	p.lists.timed(res.Usage.CompletionTokens, time.Since(begin))
	texts := readList(res.Text, len(reqs))
	results := make([]*core.Result, len(reqs))
	left, whole := res.Usage, len(one.Text)
	for i, text := range texts {
		// Each bears its part of the cost, and the first what is left of it.
		share := func(n int) int { return n * len(reqs[i].Text) / max(whole, 1) }
		u := core.Usage{PromptTokens: share(res.Usage.PromptTokens), CompletionTokens: share(res.Usage.CompletionTokens), CachedTokens: share(res.Usage.CachedTokens)}
		if blank(text) || i == 0 {
			u = core.Usage{}
		}
		left.PromptTokens, left.CompletionTokens, left.CachedTokens = left.PromptTokens-u.PromptTokens, left.CompletionTokens-u.CompletionTokens, left.CachedTokens-u.CachedTokens
		if !blank(text) {
			results[i] = &core.Result{Text: printable(text), Provider: res.Provider, Model: res.Model, Finish: core.FinishStop, Usage: u}
		}
	}
	for _, r := range results {
		if r != nil {
			r.Usage.PromptTokens += left.PromptTokens
			r.Usage.CompletionTokens += left.CompletionTokens
			r.Usage.CachedTokens += left.CachedTokens
			r.Limits = res.Limits
			return results, nil
		}
	}
	return nil, p.again(core.BadAnswer, "the model answered a list of texts with no list of translations", nil).Charged(res.Usage, res.Limits)
}

// readList returns the translations of n texts by their ids: what is there twice, or not
// at all, is empty. What stands round the JSON is passed by, and an answer that was cut is
// read up to there.
func readList(answer string, n int) []string {
	texts, seen := make([]string, n), make([]bool, n)
	at := strings.IndexAny(answer, "{[")
	if at < 0 {
		return texts
	}
	d := json.NewDecoder(strings.NewReader(answer[at:]))
	// To the first array: all before it is names and braces.
	for {
		token, err := d.Token()
		if err != nil {
			return texts
		}
		if token == json.Delim('[') {
			break
		}
	}
	for d.More() {
		var item struct {
			ID   json.RawMessage
			Text *string
		}
		if d.Decode(&item) != nil {
			return texts
		}
		id, err := strconv.Atoi(string(bytes.Trim(item.ID, `"`)))
		if err != nil || id < 1 || id > n || item.Text == nil {
			continue
		}
		if seen[id-1] {
			texts[id-1] = "" // nobody knows which of them is right
			continue
		}
		seen[id-1], texts[id-1] = true, *item.Text
	}
	return texts
}
