package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/dragoman-mt/dragoman/cmd/gateway/internal/documents"
	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/door"
	"github.com/dragoman-mt/dragoman/core/state"
	"github.com/dragoman-mt/dragoman/core/text/glossary"
	"github.com/dragoman-mt/dragoman/core/usage"
)

// A gatewayChain is that of a running gateway, which translates by its native door.
type gatewayChain struct {
	client   *adminClient
	prices   map[string]usage.Price
	first    string
	glossary string             // one that the gateway has
	terms    *glossary.Glossary // one that it has not
}

// newGatewayChain returns the gateway that c reaches, if it translates for who asks. The
// error is a usageError when it has not the glossary that t names.
func newGatewayChain(ctx context.Context, c *adminClient, t *translation) (*gatewayChain, error) {
	if t, ok := c.http.Transport.(*http.Transport); ok {
		t.DisableKeepAlives = false // many calls follow
		t.MaxIdleConnsPerHost = 64
		t.ResponseHeaderTimeout = unhurried + 30*time.Second
	}
	var languages struct{ Any *bool }
	if err := c.getJSON(ctx, "/v1/languages", nil, &languages); err != nil {
		return nil, err
	}
	if languages.Any == nil {
		return nil, fmt.Errorf("%s is no gateway: its answer to GET /v1/languages has no \"any\"", c.name)
	}
	g := &gatewayChain{client: c, terms: t.terms}
	if t.terms == nil && t.glossary != "" {
		g.glossary = t.glossary
		if err := g.ask(ctx, "", t.targets[0], "", []string{""}, nil)[0].Err; err != nil && err.Kind == core.InvalidRequest {
			return nil, noGlossary(err)
		}
	}
	return g, nil
}

// terms are those of table, which may be nil, that occur in texts.
func terms(table *glossary.Table, texts []string) map[string]string {
	if table == nil {
		return nil
	}
	found := map[string]string{}
	for _, text := range texts {
		for _, p := range table.Find(text) {
			if len(found) < door.MostTerms {
				found[p.Source] = p.Target
			}
		}
	}
	return found
}

func socketDial(past state.Folder, at state.Address) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, _, _ string) (net.Conn, error) { return past.Dial(ctx, at) }
}

// most is what a gateway takes without being told otherwise.
func (g *gatewayChain) Most() int { return door.Defaults().MaxTexts }

func (g *gatewayChain) close() { g.client.http.CloseIdleConnections() }

func (g *gatewayChain) Price(provider string) (usage.Price, bool) {
	if provider == "" {
		provider = g.first
	}
	p, ok := g.prices[provider]
	return p, ok
}

func (g *gatewayChain) Ask(ctx context.Context, source, target core.Language, around string, texts []string, told func(int, documents.Answer)) {
	var table *glossary.Table
	if g.terms != nil {
		table = g.terms.For(source, target)
	}
	var rest []string
	var places []int
	for i, text := range texts {
		if table != nil {
			// The gateway hears of terms as they are written in texts, and so cannot tell
			// which capitals are the text's.
			if whole, ok := table.Whole(text, target); ok {
				told(i, documents.Answer{Text: whole, Flags: []string{core.FlagGlossary}, Cached: true})
				continue
			}
		}
		rest, places = append(rest, text), append(places, i)
	}
	if len(rest) == 0 {
		return
	}
	for i, a := range g.ask(ctx, source, target, around, rest, terms(table, rest)) {
		told(places[i], a)
	}
}

// ask makes one call for texts, which stand in the context around, bound to terms of its own or else to the glossary of g.
func (g *gatewayChain) ask(ctx context.Context, source, target core.Language, around string, texts []string, terms map[string]string) []documents.Answer {
	answers := make([]documents.Answer, len(texts))
	all := func(err *core.Error) []documents.Answer {
		for i := range answers {
			answers[i] = documents.Answer{Err: err}
		}
		return answers
	}
	var bound any
	switch {
	case len(terms) > 0:
		bound = terms
	case g.glossary != "":
		bound = g.glossary
	}
	body, err := json.Marshal(struct {
		Text     []string      `json:"text"`
		Source   core.Language `json:"source,omitempty"`
		Target   core.Language `json:"target"`
		Context  string        `json:"context,omitempty"`
		Bulk     bool          `json:"bulk"`
		Glossary any           `json:"glossary,omitempty"`
	}{texts, source, target, around, true, bound})
	if err != nil {
		return all(&core.Error{Kind: core.Internal, Cause: err})
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, g.client.base+"/v1/translate", bytes.NewReader(body))
	if err != nil {
		return all(&core.Error{Kind: core.Internal, Cause: err})
	}
	req.Header.Set("Content-Type", "application/json")
	if g.client.key != "" {
		req.Header.Set("Authorization", "Bearer "+g.client.key)
	}
	res, err := g.client.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return all(core.ContextError(ctx, ""))
		}
		return all(&core.Error{Kind: core.Unavailable, Detail: g.client.unanswered(ctx, err).Error(), Retryable: true})
	}
	defer res.Body.Close()
	type problem struct {
		Kind         core.ErrorKind
		Message      string
		RetryAfterMS int64 `json:"retry_after_ms"`
	}
	failed := func(p *problem) *core.Error {
		row := door.Answer(p.Kind)
		return &core.Error{
			Kind: p.Kind, Detail: printable(p.Message), RetryAfter: time.Duration(p.RetryAfterMS) * time.Millisecond,
			Retryable: row.Wait > 0 || p.Kind == core.ProviderFailed,
		}
	}
	var told struct {
		Translations []struct {
			Text     *string
			Provider string
			Cached   bool
			Flags    []string
			Usage    struct {
				PromptTokens     int `json:"prompt_tokens"`
				CompletionTokens int `json:"completion_tokens"`
				CachedTokens     int `json:"cached_tokens"`
			}
			Error *problem
		}
		Error *problem
	}
	if err := g.client.decode(res, nil, &told); err != nil {
		return all(&core.Error{Kind: core.ProviderFailed, Detail: err.Error()})
	}
	if len(told.Translations) != len(texts) {
		if told.Error == nil {
			return all(&core.Error{Kind: core.ProviderFailed, Detail: fmt.Sprintf("%s answers %d texts with %d translations", g.client.name, len(texts), len(told.Translations))})
		}
		return all(failed(told.Error))
	}
	for i, t := range told.Translations {
		switch {
		case t.Error != nil:
			answers[i].Err = failed(t.Error)
		case t.Text == nil:
			answers[i].Err = &core.Error{Kind: core.ProviderFailed, Detail: g.client.name + " answers with neither a text nor an error"}
		default:
			answers[i] = documents.Answer{Text: *t.Text, Flags: t.Flags, Provider: t.Provider, Cached: t.Cached,
				Usage: core.Usage{PromptTokens: t.Usage.PromptTokens, CompletionTokens: t.Usage.CompletionTokens, CachedTokens: t.Usage.CachedTokens}}
		}
	}
	return answers
}
