package openai

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/door"
)

// A passage is how the calls of one model pass.
type passage struct {
	Chat
	model core.ChatModel // who answers
	set   []core.ChatField
}

// chatModel returns the one of the provider of that name.
func (d *Door) chatModel(provider string) (core.ChatModel, error) {
	for _, m := range d.Service.Chats() {
		if m.Provider == provider {
			return m, nil
		}
	}
	// A file that names one that there is not is refused, so another file is about to
	// serve, or has just begun to.
	return core.ChatModel{}, &core.Error{Kind: core.Unavailable, Field: "model", Detail: "the provider of this model is not there at the moment", Retryable: true}
}

// passes returns how the calls of a model pass that is called name; nil when it
// translates. It is looked for among the names of the operator's own, then those that
// mean a translation, then those of the providers' models. What nobody knows is what
// the door has as its default, or else the one provider that takes chats.
func (d *Door) passes(name string) (*passage, error) {
	c := d.config.Load()
	if own, ok := c.Models[name]; ok {
		if own.Chat.Provider == "" {
			return nil, nil
		}
		m, err := d.chatModel(own.Chat.Provider)
		if err != nil {
			return nil, err
		}
		set, err := own.Chat.set()
		if err != nil {
			return nil, &core.Error{Kind: core.Internal, Cause: err} // it was checked
		}
		return &passage{own.Chat, m, set}, nil
	}
	if _, _, says := named(name); says {
		return nil, nil
	}
	models := d.Service.Chats()
	for _, m := range models {
		if m.Model == name {
			return &passage{model: m}, nil
		}
	}
	if c.Default != "" {
		if _, own := c.Models[c.Default]; own && c.Default != name {
			return d.passes(c.Default)
		}
		if _, _, says := named(c.Default); says {
			return nil, nil
		}
		m, err := d.chatModel(c.Default)
		return &passage{model: m}, err
	}
	if len(models) == 1 {
		return &passage{model: models[0]}, nil
	}
	return nil, nil
}

// ours are fields of a body that are for the gateway, or that it sets itself.
var ours = map[string]bool{
	"model": true, "messages": true, "stream": true, "stream_options": true, "api_key": true, "auth_key": true, "translation_options": true,
}

// aside are parameters that change nothing of what an answer says.
var aside = map[string]bool{
	"user": true, "metadata": true, "store": true, "service_tier": true, "safety_identifier": true, "prompt_cache_key": true,
}

// kept are the keys of a message that are sent on: there are clients that add some of
// their own, which OpenAI refuses.
var kept = map[string]bool{
	"role": true, "content": true, "name": true, "tool_calls": true, "tool_call_id": true, "refusal": true, "audio": true, "function_call": true,
}

// cleaned returns messages without the keys that are nobody's, what the last one of the
// user begins with, and the code points of all their texts.
func cleaned(raw json.RawMessage) (messages json.RawMessage, begins byte, characters int, err error) {
	var all []json.RawMessage
	if raw == nil || json.Unmarshal(raw, &all) != nil || len(all) == 0 {
		return nil, 0, 0, badMessages()
	}
	odd := false
	for i, m := range all {
		if m[0] != '{' {
			return nil, 0, 0, badMessages()
		}
		role, content := []byte(nil), []byte(nil)
		each(m, func(m member) bool {
			switch {
			case !kept[string(m.key)]:
				odd = true
				all[i] = without(all[i], string(m.key))
			case string(m.key) == "role":
				role = m.value
			case string(m.key) == "content":
				content = m.value
			}
			return true
		})
		characters += utf8.RuneCountInString(message{Content: content}.text())
		if string(role) == `"user"` {
			begins = firstOf(content)
		}
	}
	if !odd {
		return raw, begins, characters, nil
	}
	clean, err := json.Marshal(all)
	return clean, begins, characters, err
}

func badMessages() error {
	return &core.Error{Kind: core.InvalidRequest, Field: "messages", Detail: "messages must be a list of messages with at least one"}
}

// firstOf returns the first character of a text, if that is what content is.
func firstOf(content json.RawMessage) byte {
	if len(content) > 1 && content[0] == '"' {
		rest := content[1:]
		for {
			short, cut := bytes.CutPrefix(rest, []byte(`\n`))
			if !cut {
				short, cut = bytes.CutPrefix(rest, []byte(" "))
			}
			if !cut {
				return rest[0]
			}
			rest = short
		}
	}
	return 0
}

// bound is what a chat is taken to answer that names no limit, and the most that is
// believed of one that does, in tokens.
const (
	usualAnswer = 1024
	mostAnswer  = 16384
)

// ask returns the chat that a call asks for.
func (p *passage) ask(k *call, c *door.Call) (*core.Chat, error) {
	messages, begins, characters, err := cleaned(k.rawMessages)
	if err != nil {
		return nil, err
	}
	chat := &core.Chat{Provider: p.model.Provider, Model: p.Model, Characters: characters, Fields: []core.ChatField{{Name: "messages", Value: messages}}}
	field := func(name string) []byte {
		for _, f := range chat.Fields {
			if f.Name == name {
				return f.Value
			}
		}
		return nil
	}
	for _, f := range k.parameters(c.Params) {
		own := slices.ContainsFunc(p.set, func(s core.ChatField) bool { return s.Name == f.Name })
		if !own && !slices.Contains(p.Drop, f.Name) {
			chat.Fields = append(chat.Fields, f)
		}
	}
	chat.Fields = append(chat.Fields, p.set...)

	format := struct{ Type string }{}
	_ = json.Unmarshal(field("response_format"), &format)
	chat.JSON = format.Type != "" && format.Type != "text" || begins == '{' || begins == '['
	answer := usualAnswer
	for _, name := range []string{"max_tokens", "max_completion_tokens"} {
		if n, err := strconv.Atoi(string(field(name))); err == nil && n > 0 {
			answer = min(n, mostAnswer)
		}
	}
	chat.Tokens = len(messages)/3 + answer

	temperature, err := strconv.ParseFloat(string(field("temperature")), 64)
	n := string(field("n"))
	chat.Keep = p.Cache != "off" && (p.Cache == "always" || err == nil && temperature == 0) && (n == "" || n == "1") &&
		field("tools") == nil && field("functions") == nil && field("audio") == nil && field("web_search_options") == nil
	return chat, nil
}

// key gives chat the key of all that decides its answer. One that may not be kept is
// shared with nobody but the same client that asks for the same again.
func (p *passage) key(chat *core.Chat, client string, streamed bool) {
	sum := sha256.New()
	part := func(b string) {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(b)))
		sum.Write(n[:])
		sum.Write([]byte(b))
	}
	part(p.model.Provider)
	part(p.model.Fingerprint)
	part(chat.Model)
	for _, f := range chat.Fields {
		if aside[f.Name] && chat.Keep {
			continue
		}
		part(f.Name)
		part(string(f.Value))
	}
	if !chat.Keep {
		part(client)
		part(strconv.FormatBool(streamed))
	}
	chat.Key = string(sum.Sum(nil))
}

// chat passes a call on, and its answer back.
func (d *Door) chat(w http.ResponseWriter, r *http.Request, c *door.Call, k *call, p *passage) {
	chat, err := p.ask(k, c)
	if err != nil {
		d.fail(w, r, c, err)
		return
	}
	req := &core.Request{
		ID: c.ID, Client: c.Client, Final: true, Lane: core.LaneFinal, Since: c.Begin, Trace: core.NewTrace(nil), Chat: chat,
		Linger: linger(r),
	}
	if p.Lane == "bulk" {
		req.Lane = core.LaneBulk
	}
	for word := range strings.SplitSeq(strings.ToLower(r.Header.Get("Cache-Control")), ",") {
		switch strings.TrimSpace(word) {
		case "no-cache":
			req.NoCache = true
		case "no-store":
			chat.Keep = false
		}
	}
	p.key(chat, c.Client, k.stream)
	if chat.Keep && chat.JSON && d.repeats.again(c.Client, chat.Key, c.Begin) {
		req.NoCache = true // the answer that it had was of no use to it
	}
	ctx, cancel := c.Context(r.Context())
	defer cancel()
	if p.Deadline > 0 {
		ctx, cancel = context.WithDeadline(ctx, c.Begin.Add(p.Deadline))
		defer cancel()
	}
	tab, err := c.Open(ctx, &d.Teller, []core.Request{*req})
	if err != nil {
		d.fail(w, r, c, err)
		return
	}
	defer tab.Close()
	relay := d.newRelay(w, k, c, p, req)
	defer relay.end()
	if k.stream {
		req.OnDelta = relay.events
	}
	it := d.One(ctx, tab, req)
	tab.Settle()
	if it.Err != nil {
		relay.fail(r, refusedText(it.Err))
		return
	}
	if relay.answer(it.Result) && chat.Keep && chat.JSON {
		d.repeats.note(c.Client, chat.Key, time.Now())
	}
	d.Journal.Served(name, c.ID, c.Client, http.StatusOK, 1, time.Since(c.Begin))
}

// refusedText returns err as the client's own failure when its chat is what a content
// filter would not take: asking again would not help.
func refusedText(err *core.Error) error {
	if err.Kind != core.ProviderRefused {
		return err
	}
	e := *err
	e.Kind, e.Field = core.InvalidRequest, fieldFiltered
	return &e
}

// repeats remembers who was given which answer of late. The zero value is ready; it is
// safe for concurrent use.
type repeats struct {
	mu    sync.Mutex
	given map[repeat]time.Time
	ring  [1024]repeat // what was given last; the oldest is forgotten
	next  int
}

type repeat struct{ client, key string }

// useful is how long a client that asks for the same again is taken to be unhappy with
// the answer that it had.
const useful = time.Minute

func (r *repeats) again(client, key string, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	at, was := r.given[repeat{client, key}]
	return was && now.Sub(at) < useful
}

func (r *repeats) note(client, key string, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.given == nil {
		r.given = map[repeat]time.Time{}
	}
	one := repeat{client, key}
	if _, was := r.given[one]; !was {
		delete(r.given, r.ring[r.next])
		r.ring[r.next] = one
		r.next = (r.next + 1) % len(r.ring)
	}
	r.given[one] = now
}
