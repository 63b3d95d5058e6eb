package openai

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/exchange"
	jsontext "github.com/dragoman-mt/dragoman/core/text/json"
)

// A chat (core.Chat) is sent as it was asked, but for the model and for what the
// server does not take, and its answer is handed on as it came. What is read of it is
// what the accounts, the cache and the log need.

var _ core.Chatter = (*Provider)(nil)

// ChatModel is the model that a chat asks which names none.
func (p *Provider) ChatModel() string { return p.cfg.Model }

// standard are the parameters of chat completions that are OpenAI's own. It is written
// to by nobody.
var standard = func() map[string]bool {
	known := map[string]bool{}
	for name := range strings.FieldsSeq(`audio frequency_penalty function_call functions logit_bias logprobs max_completion_tokens max_tokens messages
		metadata modalities n parallel_tool_calls prediction presence_penalty prompt_cache_key reasoning_effort response_format safety_identifier seed
		service_tier stop store temperature tool_choice tools top_logprobs top_p user verbosity web_search_options`) {
		known[name] = true
	}
	return known
}()

// droppable are the parameters without which a chat asks for the same, only less
// exactly. What a server says of others is for the client to hear.
var droppable = map[string]bool{
	"temperature": true, "top_p": true, "frequency_penalty": true, "presence_penalty": true, "reasoning_effort": true, "store": true, "seed": true,
	"max_tokens": true, "max_completion_tokens": true, "service_tier": true, "verbosity": true, "metadata": true, "user": true, "safety_identifier": true,
	"prompt_cache_key": true, "parallel_tool_calls": true, "stream_options": true, "top_k": true, "min_p": true, "repetition_penalty": true,
}

// A lesson is what chats have taught of models: which parameters, and which values of
// them, they do not take. The zero value knows nothing. It is safe for concurrent use.
type lesson struct {
	refused atomic.Pointer[map[string]bool]
}

// goodbye is how long the rest is waited for of a stream that has said why it ended:
// what it cost, and that it is done.
const goodbye = time.Second

// mostLearned bounds a lesson: clients choose what it is about.
const mostLearned = 256

// holds says whether model refuses name, or refuses it with value.
func (l *lesson) holds(model, name string, value []byte) bool {
	known := l.refused.Load()
	return known != nil && ((*known)[model+"\n"+name] || (*known)[model+"\n"+name+"\n"+string(value)])
}

func (l *lesson) learn(what string) {
	for {
		former := l.refused.Load()
		known := map[string]bool{what: true}
		if former != nil && len(*former) < mostLearned {
			maps.Copy(known, *former)
		}
		if l.refused.CompareAndSwap(former, &known) {
			return
		}
	}
}

// A sending is a chat as it goes to the server.
type sending struct {
	model string
	body  []byte
	// fields are the parameters that may be left out, as they were sent.
	fields map[string][]byte
	// vague says that something was left out, or changed, that decides the answer.
	vague bool
}

// chatted returns the chat of req as it is sent.
func (p *Provider) chatted(req *core.Request) *sending {
	c := req.Chat
	s := &sending{model: p.cfg.Model}
	if c.Provider == p.env.Name && c.Model != "" {
		s.model = c.Model
	}
	size := 128 + len(s.model)
	for _, f := range c.Fields {
		size += len(f.Name) + len(f.Value) + 4
	}
	s.body = append(make([]byte, 0, size), `{"model":`...)
	s.body = jsontext.AppendString(s.body, s.model)
	add := func(name string, value []byte) {
		s.body = append(append(jsontext.AppendString(append(s.body, ','), name), ':'), value...)
	}
	has := func(name string) bool {
		return slices.ContainsFunc(c.Fields, func(f core.ChatField) bool { return f.Name == name })
	}
	may := func(name string, value []byte) {
		switch {
		case slices.Contains(p.cfg.Request.Omit, name):
		case p.taught.holds(s.model, name, value):
			s.vague = s.vague || name == "temperature"
			other := map[string]string{"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}[name]
			if other == "" || has(other) || p.taught.holds(s.model, other, value) || slices.Contains(p.cfg.Request.Omit, other) {
				return
			}
			name = other
			fallthrough
		default:
			if droppable[name] {
				if s.fields == nil {
					s.fields = map[string][]byte{}
				}
				s.fields[name] = value
			}
			add(name, value)
		}
	}
	for _, f := range c.Fields {
		if f.Set || standard[f.Name] || p.cfg.Request.PassUnknown {
			may(f.Name, f.Value)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(p.extra)) {
		if !has(name) {
			may(name, p.extra[name])
		}
	}
	if isOpenAI(p.chat) && !has("store") {
		may("store", []byte("false")) // new accounts keep what passes unless they are told not to
	}
	if req.OnDelta != nil {
		add("stream", []byte("true"))
		may("stream_options", []byte(`{"include_usage":true}`))
	}
	s.body = append(s.body, '}')
	return s
}

// converse makes one call for a chat, and another at once for each thing that the
// server taught.
func (p *Provider) converse(ctx context.Context, req *core.Request) (*core.Result, error) {
	buf := p.buffers.Get().(*bytes.Buffer)
	defer func() {
		if buf.Cap() <= maxKept {
			p.buffers.Put(buf)
		}
	}()
	for round := 0; ; round++ {
		sent := p.chatted(req)
		res, usage, limits, err := p.exchange(ctx, req, sent, buf)
		if again, is := errors.AsType[*askAgain](err); is {
			if round < len(droppable) && ctx.Err() == nil {
				continue
			}
			err = again.failed
		}
		if err != nil {
			return nil, core.AsError(err, p.env.Name).Charged(usage, limits)
		}
		if len(res.Model) > 200 || !exchange.IsCode(res.Model) {
			res.Model = sent.model
		}
		res.Usage, res.Limits, res.NoStore = usage, limits, res.NoStore || sent.vague || !req.Chat.Keep
		return res, nil
	}
}

// exchange sends a chat once. The usage and the limits hold even when there is an
// error.
func (p *Provider) exchange(ctx context.Context, req *core.Request, sent *sending, buf *bytes.Buffer) (*core.Result, core.Usage, *core.Limits, error) {
	call, cancel := context.WithCancel(ctx)
	defer cancel()
	resp, err := p.env.Upstream.RoundTrip(p.post(call, req, sent.body))
	if err != nil {
		return nil, core.Usage{}, nil, p.broken(ctx, call, req, err)
	}
	exchange.Traced(req, resp.StatusCode)
	l := limits(resp.Header)
	good, streamed := exchange.IsGood(resp.StatusCode), false
	err = exchange.Unpack(resp)
	if err == nil && good && req.OnDelta != nil {
		streamed, err = isStream(resp)
	}
	if err != nil {
		resp.Body.Close()
		return nil, core.Usage{}, believed(l, core.Usage{}), p.broken(ctx, call, req, err)
	}
	if streamed {
		defer resp.Body.Close()
		res, usage, err := p.events(ctx, call, cancel, req, resp, buf)
		usage = possible(usage, sent.body, res)
		return res, usage, believed(l, usage), err
	}
	if err := receive(ctx, cancel, resp, buf); err != nil {
		return nil, core.Usage{}, believed(l, core.Usage{}), p.broken(ctx, call, req, err)
	}
	if !good {
		return nil, core.Usage{}, believed(l, core.Usage{}), p.declined(req, sent, resp.StatusCode, resp.Header, buf.Bytes())
	}
	res, usage, err := p.completion(req, sent, resp.Header, buf.Bytes())
	usage = possible(usage, sent.body, res)
	return res, usage, believed(l, usage), err
}

// How many tokens a chat may be said to have cost that cannot be known from its bytes: twice the
// window of 2 M that Gemini 1.5 Pro has, and the answers of 128,000 that GPT-5 gives, with their
// hidden reasoning (the models' pages of both vendors).
const (
	largestWindow = 4 << 20
	largestAnswer = 256 << 10
)

// possible returns u, made to be no more than a chat can have cost, like [Provider.bounded]:
// a token of a prompt is a byte at least, but for pictures, sound and files that the chat only
// names.
func possible(u core.Usage, sent []byte, res *core.Result) core.Usage {
	prompt, completion := len(sent)+unseen, largestAnswer
	for _, part := range []string{`"image_url"`, `"input_audio"`, `"file"`} { // a text holds no quotation mark without a backslash
		if bytes.Contains(sent, []byte(part)) {
			prompt = max(prompt, largestWindow)
		}
	}
	if res != nil {
		completion = max(completion, len(res.Text))
	}
	return capped(u, prompt, completion)
}

// completion reads the whole answer to a chat, which is handed on as it is.
func (p *Provider) completion(req *core.Request, sent *sending, h http.Header, body []byte) (*core.Result, core.Usage, error) {
	var a answer
	if !a.read(body) || len(a.Choices) == 0 {
		a = answer{}
		tree, ok := parse(body)
		if !ok {
			return nil, core.Usage{}, p.garbled("the provider's answer was not the JSON that was asked for", body)
		}
		if r := readTree(tree); r.isError {
			return nil, core.Usage{}, p.declined(req, sent, r.status(), h, body)
		}
		root, _ := tree.(map[string]any)
		if choices, _ := root["choices"].([]any); len(choices) == 0 || !json.Valid(body) {
			return nil, core.Usage{}, p.garbled("the provider's answer held no completion", body)
		}
		says, _ := loose(tree)
		a.Model = says.model
		a.Usage.PromptTokens, a.Usage.CompletionTokens = says.usage.PromptTokens, says.usage.CompletionTokens
	}
	answers(req, a.ID, &a.Usage)
	usage := a.Usage.counted()
	res := &core.Result{Text: string(body), Provider: p.env.Name, Model: a.Model, NoStore: true}
	if len(a.Choices) == 1 {
		res.Finish = ending(a.Choices[0].FinishReason)
		res.NoStore = !lasts(req, res.Finish, a.Choices[0].Message.Content)
	}
	return res, usage, nil
}

// lasts says whether an answer may be given to others later.
func lasts(req *core.Request, finish core.Finish, content string) bool {
	return finish == core.FinishStop && !blank(content) && (!req.Chat.JSON || json.Valid([]byte(content)))
}

// declined is the error of an answer that is none; one to ask again after when it says
// what the model would not take, and that is left out from now on. What is wrong with
// the chat itself its client hears, in the words of the server as far as they hold
// nothing of the chat.
func (p *Provider) declined(req *core.Request, sent *sending, status int, h http.Header, body []byte) error {
	failed := p.failed(req, status, h, body)
	if failed.Kind != core.ProviderFailed || status != http.StatusBadRequest && status != http.StatusUnprocessableEntity {
		return failed
	}
	r := readRefusal(body)
	r.Message = p.hush(req).Cut(r.Message)
	if p.teach(sent, r) {
		return &askAgain{failed}
	}
	e := *failed
	e.Kind, e.Detail = core.InvalidRequest, "the provider refuses the call"
	if said := p.hush(req).Message(r.Message); said != "" {
		e.Detail += ": " + said
	}
	if param := p.hush(req).Code(r.Param); param != "" && !strings.HasPrefix(param, "(") {
		e.Field = param
	}
	return &e
}

// unsupported says whether r is about what a model takes at all, not about a value
// that is wrong everywhere: of that nothing is learned, or one client's mistake would
// change the calls of all others.
func (r *refusal) unsupported() bool {
	switch r.Code {
	case "unsupported_parameter", "unsupported_value", "unknown_parameter":
		return true
	}
	return saysAny(strings.ToLower(r.Message), "unsupported", "unrecognized", "unrecognised", "not support", "n't support", "not permitted", "unexpected", "not available", "extra inputs", "extra fields", "deprecated", "no longer", "only the default")
}

// teach learns which parameters of what was sent r refuses, and says whether there are
// any.
func (p *Provider) teach(sent *sending, r refusal) bool {
	if !r.unsupported() {
		return false
	}
	learned := false
	for _, name := range r.refused(slices.Sorted(maps.Keys(sent.fields))) {
		what := sent.model + "\n" + name
		if r.ofValue() {
			what += "\n" + string(sent.fields[name])
		}
		p.taught.learn(what)
		p.env.Log.Info("the model refuses a parameter of chats, it is left out from now on", zap.String("parameter", name), zap.String("model", sent.model))
		learned = true
	}
	return learned
}

// events hands the events of a streamed answer to OnDelta of req as they come, each on
// a line of its own. An error from that ends it. The usage holds even when there is an
// error.
func (p *Provider) events(ctx, call context.Context, cancel func(), req *core.Request, resp *http.Response, buf *bytes.Buffer) (*core.Result, core.Usage, error) {
	buf.Reset()
	buf.Grow(4 << 10)
	in := newEvents(resp.Body, buf.AvailableBuffer())
	whole := assembly{keep: req.Chat.Keep}
	var timer *time.Timer // runs when all is said and only the end is missing
	defer func() {
		if timer != nil {
			timer.Stop()
		}
	}()
	wait := func(d time.Duration) {
		if timer == nil {
			timer = time.AfterFunc(d, cancel)
		} else {
			timer.Reset(d)
		}
	}
	said := false
	var c chunk // one for all events: a stream has hundreds
	for {
		data, err := in.next()
		if err == nil && bytes.Equal(data, done) {
			wait(exchange.Parting)
			io.Copy(io.Discard, io.LimitReader(resp.Body, maxKept)) // the connection needs the end to be used again
			break
		}
		if err != nil && whole.finish != "" && ctx.Err() == nil {
			break
		}
		switch {
		case err == io.EOF:
			return nil, whole.usage, p.again(core.ProviderFailed, "the provider's answer ended in its middle", nil)
		case err != nil:
			return nil, whole.usage, p.broken(ctx, call, req, err)
		}
		clear(c.Choices)
		c = chunk{Choices: c.Choices[:0]}
		if json.Unmarshal(data, &c) != nil && !json.Valid(data) {
			return nil, whole.usage, p.garbled("the provider's answer was not the JSON that was asked for", data)
		}
		if says(c.Error) || len(c.Choices) == 0 && c.Usage == nil {
			if r := readRefusal(data); r.isError {
				if !said {
					return nil, whole.usage, p.declined(req, p.chatted(req), r.status(), resp.Header, data)
				}
				return nil, whole.usage, p.interrupted(req, resp, r)
			}
		}
		whole.add(&c)
		answers(req, c.ID, c.Usage)
		if whole.finish != "" {
			wait(goodbye)
		}
		said = true
		if err := req.OnDelta(line(data)); err != nil {
			return nil, whole.usage, p.unwanted(err)
		}
	}
	res := &core.Result{Provider: p.env.Name, Model: whole.model, Finish: ending(whole.finish), NoStore: true}
	if whole.keep {
		res.Text = whole.completion()
		res.NoStore = !lasts(req, res.Finish, whole.text.String())
	}
	return res, whole.usage, nil
}

// line returns an event on a line of its own. In JSON a line end is but a blank.
func line(data []byte) string {
	if bytes.ContainsAny(data, "\r\n") {
		data = bytes.ReplaceAll(bytes.ReplaceAll(data, []byte("\r"), []byte(" ")), []byte("\n"), []byte(" "))
	}
	return string(data) + "\n"
}

// An assembly puts the answer together that a stream was.
type assembly struct {
	keep          bool // it is wanted
	model, finish string
	id, created   json.RawMessage
	text          strings.Builder
	seam          seam
	usage         core.Usage
}

func (a *assembly) add(c *chunk) {
	if c.Model != "" {
		a.model = c.Model
	}
	if c.Usage != nil {
		a.usage = c.Usage.counted()
	}
	if a.id == nil {
		a.id, a.created = bytes.Clone(c.ID), bytes.Clone(c.Created)
	}
	if len(c.Choices) == 0 {
		return
	}
	if c.Choices[0].FinishReason != "" {
		a.finish = c.Choices[0].FinishReason
	}
	if !a.keep {
		return
	}
	piece, _, err := a.seam.text(c.Choices[0].Delta.Content)
	if err != nil || len(c.Choices) > 1 || says(c.Choices[0].Delta.ToolCalls) || a.text.Len()+len(piece) > exchange.MaxAnswer {
		a.keep = false
		return
	}
	a.text.WriteString(piece)
}

// completion returns the whole as an answer that was not streamed.
func (a *assembly) completion() string {
	type message struct {
		Role    string `json:"role"`
		Content string `json:"content"`
	}
	type choice struct {
		Index   int     `json:"index"`
		Message message `json:"message"`
		Finish  string  `json:"finish_reason"`
	}
	type usage struct {
		Prompt     int `json:"prompt_tokens"`
		Completion int `json:"completion_tokens"`
		Total      int `json:"total_tokens"`
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(struct {
		ID      json.RawMessage `json:"id,omitempty"`
		Object  string          `json:"object"`
		Created json.RawMessage `json:"created,omitempty"`
		Model   string          `json:"model"`
		Choices []choice        `json:"choices"`
		Usage   usage           `json:"usage"`
	}{a.id, "chat.completion", a.created, a.model, []choice{{0, message{"assistant", a.text.String()}, a.finish}},
		usage{a.usage.PromptTokens, a.usage.CompletionTokens, a.usage.PromptTokens + a.usage.CompletionTokens}})
	if err != nil {
		panic(err) // strings and numbers can be written
	}
	return strings.TrimSpace(b.String())
}
