// Package openai is the door for the clients of OpenAI's chat completions: the name of
// the model says into which language to translate. Its README is the manual.
package openai

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/door"
	"github.com/dragoman-mt/dragoman/core/text/glossary"
	"github.com/dragoman-mt/dragoman/core/usage"
)

// name is this door's in logs and metrics.
const name = "openai"

// prefix begins the names of models that say their languages.
const prefix = "translate/"

// A Door is the handler of the door. It is safe for concurrent use.
type Door struct {
	door.Teller
	config  atomic.Pointer[Config]
	started time.Time
	repeats repeats
}

// New returns a door to service.
func New(c Config, service *door.Service, metrics *door.Metrics, log *zap.Logger) *Door {
	d := &Door{
		Teller:  door.Teller{Door: name, Service: service, Metrics: metrics, Journal: door.NewJournal(log), Patient: true},
		started: time.Now(),
	}
	d.Use(c)
	return d
}

// Use makes c hold for calls that arrive from now on.
func (d *Door) Use(c Config) { d.config.Store(&c) }

// Dialect returns d as one of the gateway's doors.
func (d *Door) Dialect() door.Dialect {
	return door.Dialect{
		Name: name, Serve: d, Pages: door.Keyed, Refuse: refuse,
		Takes:    func(r *http.Request) bool { return d.config.Load().Enabled && takes(r.URL.Path) },
		Deadline: func() time.Duration { return d.config.Load().Deadline },
	}
}

// takes says whether a path is this door's. What stands before the last part of one is
// what a user typed as the address: with /v1 or without, twice, or a whole address to
// which his client has added the path once more.
func takes(path string) bool {
	_, lists := listed(path)
	return lists || chats(path) || responds(path) || door.Under(path, "/v1/completions", "/v1/embeddings", "/v1/moderations", "/v1/audio/", "/v1/images/", "/v1/files", "/v1/chat", "/v1/chat/", "/openai/")
}

func chats(path string) bool    { return strings.HasSuffix(path, "/chat/completions") }
func responds(path string) bool { return strings.HasSuffix(path, "/responses") }

// listed says whether a path is that of the list of models, or of one of them, which it
// names.
func listed(path string) (id string, ok bool) {
	_, after, ok := strings.Cut(path, "/models")
	id, of := strings.CutPrefix(after, "/")
	return id, ok && (of || after == "")
}

func (d *Door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c, keyed, err := d.Receive(w, r, d.config.Load().Deadline, d.Service.Rules().MaxBody)
	if err == nil {
		err = keyed
	}
	if err != nil {
		d.fail(w, r, c, err)
		return
	}
	path, post := r.URL.Path, r.Method == http.MethodPost
	id, lists := listed(path)
	switch {
	case post && (chats(path) || responds(path)):
		d.complete(w, r, c, responds(path))
	case chats(path) || responds(path):
		d.method(w, r, c, http.MethodPost)
	case lists && (r.Method == http.MethodGet || r.Method == http.MethodHead):
		d.models(w, r, c, id)
	case lists:
		d.method(w, r, c, http.MethodGet)
	default:
		d.fail(w, r, c, &core.Error{Kind: core.NotFound, Detail: "Not found: this gateway serves POST /v1/chat/completions, POST /v1/responses and GET /v1/models"})
	}
}

// method answers a call of another method than the one that its path takes.
func (d *Door) method(w http.ResponseWriter, r *http.Request, c *door.Call, takes string) {
	d.Failed(r, c.ID, c.Client, c.Begin, &core.Error{Kind: core.InvalidRequest})
	w.Header().Set("Allow", takes)
	write(w, http.StatusMethodNotAllowed, failure{Message: "Not allowed: chats and responses are POST, models are GET", Type: invalidRequest})
}

// A failure is the error of an answer.
type failure struct {
	Message string  `json:"message"`
	Type    string  `json:"type"`
	Param   *string `json:"param"`
	Code    *string `json:"code"`
}

const invalidRequest = "invalid_request_error"

func write(w http.ResponseWriter, status int, f failure) {
	again := status >= 500 || f.Code != nil && *f.Code == "rate_limit_exceeded"
	w.Header().Set("X-Should-Retry", strconv.FormatBool(again))
	door.WriteJSON(w, status, map[string]failure{"error": f})
}

func (d *Door) fail(w http.ResponseWriter, r *http.Request, c *door.Call, err error) {
	d.Failed(r, c.ID, c.Client, c.Begin, err)
	refuse(w, r, err)
}

// failed returns err as this protocol tells it.
func failed(err error) (door.Row, failure) {
	e := *core.AsError(err, "door")
	row := door.AsForeign(err)
	f := failure{Message: door.Message(err), Type: "server_error"}
	code := ""
	if over := door.OwnLimit(err); over != nil {
		f.Type, code = "requests", "rate_limit_exceeded"
		if over.Limit == usage.CharactersPerMonth {
			f.Type, code = "insufficient_quota", "insufficient_quota"
		}
		f.Code = &code
		return row, f
	}
	switch e.Kind {
	case core.Unauthorized:
		f.Type, code = invalidRequest, "invalid_api_key"
	case core.Forbidden:
		f.Type, code = invalidRequest, "forbidden"
	case core.NotFound:
		f.Type, code = invalidRequest, "not_found"
		if e.Field == "model" {
			code = "model_not_found"
		}
	case core.InvalidRequest, core.UnsupportedLanguage, core.UnsupportedEncoding:
		f.Type = invalidRequest
		if e.Field == fieldPrompt && strings.Contains(e.Detail, "this model translates texts") {
			code = "unsupported_prompt"
		}
		if e.Field == fieldFiltered {
			code, e.Field = "content_filter", "messages"
		}
		if e.Field == "target" || e.Field == "source" {
			code = "unsupported_language"
		}
	case core.TooLarge:
		f.Type, code, row.Status = invalidRequest, "context_length_exceeded", http.StatusBadRequest
	case core.DeadlineExceeded, core.Overloaded, core.RateLimited:
		code = "timeout"
	case core.Internal:
	case core.Unavailable:
		code = "upstream_error"
		if row.Status == http.StatusServiceUnavailable {
			code = "service_unavailable"
		}
	default:
		code = "upstream_error"
	}
	if code != "" {
		f.Code = &code
	}
	if e.Field != "" && row.Status < 500 {
		f.Param = &e.Field
	}
	return row, f
}

func refuse(w http.ResponseWriter, _ *http.Request, err error) {
	row, f := failed(err)
	if row.Wait > 0 {
		door.RetryAfter(w.Header(), row.Wait)
		w.Header().Set("Retry-After-Ms", strconv.FormatInt(row.Wait.Milliseconds(), 10))
	}
	write(w, row.Status, f)
}

// names are what the list of models holds, in its order.
func (d *Door) names() []string {
	c := d.config.Load()
	all := []string{}
	for model := range c.Models {
		all = append(all, model)
	}
	slices.Sort(all)
	all = append(all, "translate")
	for _, tag := range c.Advertise {
		if l, err := core.ParseLanguage(tag); err == nil {
			all = append(all, prefix+string(l))
		}
	}
	for _, m := range d.Service.Chats() {
		if !slices.Contains(all, m.Model) {
			all = append(all, m.Model)
		}
	}
	return all
}

func (d *Door) models(w http.ResponseWriter, r *http.Request, c *door.Call, id string) {
	type model struct {
		ID      string `json:"id"`
		Object  string `json:"object"`
		Created int64  `json:"created"`
		Owner   string `json:"owned_by"`
	}
	if id != "" {
		if _, err := d.model(id, options{}); err != nil && !slices.Contains(d.names(), id) {
			d.fail(w, r, c, err)
			return
		}
		door.WriteJSON(w, http.StatusOK, model{id, "model", d.started.Unix(), "dragoman"})
		return
	}
	all := []model{}
	for _, id := range d.names() {
		all = append(all, model{id, "model", d.started.Unix(), "dragoman"})
	}
	door.WriteJSON(w, http.StatusOK, struct {
		Object string  `json:"object"`
		Data   []model `json:"data"`
	}{"list", all})
}

// named splits the name of a model, in any case, into the languages that it says.
func named(model string) (source, target string, ok bool) {
	if strings.EqualFold(model, "translate") {
		return "", "", true
	}
	if len(model) < len(prefix) || !strings.EqualFold(model[:len(prefix)], prefix) {
		return "", "", false
	}
	rest := model[len(prefix):]
	if before, after, two := strings.Cut(rest, "/"); two {
		return before, after, true
	}
	return "", rest, true
}

// options are Qwen-MT's, which several clients send.
type options struct {
	Source  string `json:"source_lang"`
	Target  string `json:"target_lang"`
	Domains string `json:"domains"`
	Terms   []struct {
		Source string `json:"source"`
		Target string `json:"target"`
	} `json:"terms"`
}

// A way is how a model translates.
type way struct {
	source, target core.Language
	formality      core.Formality
	glossary       string
}

// model returns what a name stands for.
func (d *Door) model(model string, o options) (way, error) {
	c := d.config.Load()
	own, ok := c.Models[model]
	source, target, says := named(model)
	if !ok && !says && c.Default != "" {
		model = c.Default
		own, ok = c.Models[model]
		source, target, says = named(model)
	}
	if !ok && !says {
		return way{}, &core.Error{Kind: core.NotFound, Field: "model", Detail: fmt.Sprintf("the model %.80q does not exist here; there are %s, translate/TARGET and translate/SOURCE/TARGET", model, strings.Join(d.names(), ", "))}
	}
	w := way{}
	if ok {
		source, target, w.formality = own.Translate.Source, own.Translate.Target, core.Formality(own.Translate.Formality)
		w.glossary = own.Translate.Glossary
	}
	if source == "" && !strings.EqualFold(o.Source, "auto") {
		source = o.Source
	}
	if target == "" {
		target = o.Target
	}
	none := func(language, option string) error {
		if language == option {
			return &core.Error{Kind: core.InvalidRequest, Field: "translation_options", Detail: fmt.Sprintf("%.40q in translation_options is no language", language)}
		}
		return &core.Error{Kind: core.NotFound, Field: "model", Detail: fmt.Sprintf("the model %.80q does not exist here: %.40q is no language", model, language)}
	}
	if target == "" {
		return way{}, &core.Error{Kind: core.InvalidRequest, Field: "model", Detail: "the target language is not said: name the model translate/TARGET, such as translate/es, or send translation_options with target_lang"}
	}
	var err error
	if w.target, err = d.Service.LenientLanguage(target, "target"); err != nil {
		return way{}, none(target, o.Target)
	}
	if source != "" && !strings.EqualFold(source, "auto") {
		if w.source, err = d.Service.LenientLanguage(source, "source"); err != nil {
			return way{}, none(source, o.Source)
		}
	}
	// Of a provider that says what it knows, the variant that it knows will do.
	if d.Service.Languages() != nil {
		if near := door.Match(w.target, d.Service.Rules().Offer().Targets); near != "" {
			w.target = near
		}
	}
	return w, nil
}

// A message is one of a chat. Keys that are not OpenAI's are passed over.
type message struct {
	Role    string          `json:"role"`
	Content json.RawMessage `json:"content"`
}

// text returns what a message says: its text, or its parts of text one after the other.
func (m message) text() string {
	var s string
	if json.Unmarshal(m.Content, &s) == nil {
		return s
	}
	var parts []struct {
		Type string `json:"type"`
		Text string `json:"text"`
	}
	if json.Unmarshal(m.Content, &parts) != nil {
		return ""
	}
	for _, p := range parts {
		if strings.HasSuffix(p.Type, "text") {
			s += p.Text
		}
	}
	return s
}

// A call is what a client asks for, of chat completions or of responses.
type call struct {
	model       string
	rawMessages json.RawMessage // of chat completions
	messages    []message
	asked       asked
	options     options
	stream      bool
	usage       bool // a chunk with the usage is wanted
	responses   bool
}

// read reads what a call says of itself; texts says what it is about. What these do not
// name is passed over by models that translate.
func (d *Door) read(r *http.Request, c *door.Call, responses bool) (*call, error) {
	p := c.Params
	if !p.IsJSON() {
		return nil, &core.Error{Kind: core.InvalidRequest, Detail: "the body is not a JSON object"}
	}
	k := &call{model: p.Tag("model"), stream: p.Flag("stream"), responses: responses}
	if rest, ok := strings.CutPrefix(r.URL.Path, "/openai/deployments/"); ok && !responses {
		k.model = strings.TrimSuffix(strings.TrimSuffix(rest, "/chat/completions"), "/v1")
	}
	if k.model == "" {
		k.model = d.config.Load().Default
	}
	if raw := p.Raw("stream_options"); raw != nil {
		var options struct {
			Usage bool `json:"include_usage"`
		}
		_ = json.Unmarshal(raw, &options)
		k.usage = options.Usage
	}
	k.rawMessages = p.Raw("messages")
	return k, nil
}

// texts reads what a call is about.
func (k *call) texts(p *door.Params) error {
	raw, key := k.rawMessages, "messages"
	if k.responses {
		raw, key = p.Raw("input"), "input"
		if text := p.Text("input"); text != "" && len(raw) > 0 && raw[0] == '"' {
			k.messages = []message{{Role: "user", Content: raw}}
			raw = nil
		}
		k.asked.system, k.asked.anywhere = p.Tag("instructions") != "", true
	}
	if raw != nil && json.Unmarshal(raw, &k.messages) != nil || len(k.messages) == 0 {
		return &core.Error{Kind: core.InvalidRequest, Field: key, Detail: key + " must be a list of messages with at least one"}
	}
	if raw := p.Raw("translation_options"); raw != nil {
		if json.Unmarshal(raw, &k.options) != nil {
			return &core.Error{Kind: core.InvalidRequest, Field: "translation_options", Detail: "translation_options must be an object"}
		}
		k.asked.options = true
	}
	var some struct {
		Tools  []json.RawMessage
		Format struct{ Type string }
	}
	_ = json.Unmarshal(p.Raw("tools"), &some.Tools)
	_ = json.Unmarshal(p.Raw("response_format"), &some.Format)
	k.asked.tools = len(some.Tools) > 0
	k.asked.format = some.Format.Type != "" && some.Format.Type != "text"
	return nil
}

// parameters returns what a chat sends along, besides its messages.
func (k *call) parameters(p *door.Params) (fields []core.ChatField) {
	add := func(name string, value json.RawMessage) {
		if value != nil {
			fields = append(fields, core.ChatField{Name: name, Value: value})
		}
	}
	if !k.responses {
		for _, name := range p.Names() {
			if !ours[name] {
				add(name, p.Raw(name))
			}
		}
		return fields
	}
	add("temperature", p.Raw("temperature"))
	add("top_p", p.Raw("top_p"))
	add("max_completion_tokens", p.Raw("max_output_tokens"))
	var reasoning struct{ Effort json.RawMessage }
	_ = json.Unmarshal(p.Raw("reasoning"), &reasoning)
	add("reasoning_effort", reasoning.Effort)
	return fields
}

// asChat makes the input of a response the messages of a chat.
func (k *call) asChat(p *door.Params) error {
	if err := k.texts(p); err != nil {
		return err
	}
	if k.asked.tools {
		return &core.Error{Kind: core.InvalidRequest, Field: "tools", Detail: "responses are answered without tools here; chat completions take them"}
	}
	type plain struct {
		Role    string `json:"role"`
		Content string `json:"content"`
	}
	var all []plain
	if s := p.Text("instructions"); s != "" {
		all = append(all, plain{"system", s})
	}
	for _, m := range k.messages {
		if text := m.text(); text != "" {
			all = append(all, plain{m.Role, text})
		}
	}
	raw, err := json.Marshal(all)
	k.rawMessages = raw
	return err
}

// conversation returns the last message of the user, and the turns before it. What the
// assistant is to begin its answer with is passed over.
func (k *call) conversation() (earlier []core.Pair) {
	last := -1
	for i, m := range k.messages {
		switch m.Role {
		case "system", "developer":
			k.asked.system = true
		case "user":
			last = i
		}
	}
	if last < 0 {
		return nil
	}
	k.asked.text = k.messages[last].text()
	for i := 0; i+1 < last; i++ {
		if k.messages[i].Role != "user" || k.messages[i+1].Role != "assistant" {
			continue
		}
		said := asked{text: k.messages[i].text(), system: k.asked.system}
		j, err := extract(said)
		answer := strings.TrimSpace(k.messages[i+1].text())
		if err != nil || len(j.texts) != 1 || answer == "" {
			continue
		}
		if inside, ok := between(answer, "🔤", "🔤"); ok {
			answer = inside
		}
		earlier = append(earlier, core.Pair{Source: j.texts[0], Target: answer})
	}
	return earlier[max(0, len(earlier)-mostEarlier):]
}

// mostEarlier bounds the earlier turns that reach a prompt.
const mostEarlier = 10

// wishes returns the domain of a call as an instruction.
func (d *Door) wishes(rules *door.Rules, o options) ([]string, error) {
	if o.Domains == "" {
		return nil, nil
	}
	taken, _, err := rules.ClientInstructions([]string{o.Domains}, "translation_options")
	return taken, err
}

// glossary returns rules with the terms that a call brings, and those of its model.
func (d *Door) glossary(rules *door.Rules, w way, o options) (*door.Rules, error) {
	var all []*glossary.Glossary
	if len(o.Terms) > 0 {
		terms := make([]core.Pair, len(o.Terms))
		for i, t := range o.Terms {
			terms[i] = core.Pair{Source: t.Source, Target: t.Target}
		}
		g, ignored, err := rules.ClientTerms(terms, w.source, w.target, "translation_options.terms")
		if err != nil {
			return nil, err
		}
		if !ignored {
			all = append(all, g)
		}
	}
	if w.glossary != "" {
		g, err := d.Service.Glossary(w.glossary, "model")
		if err != nil {
			return nil, err
		}
		all = append(all, g)
	}
	if len(all) == 0 {
		return rules, nil
	}
	return rules.Under(glossary.Join(all...)), nil
}

func (d *Door) complete(w http.ResponseWriter, r *http.Request, c *door.Call, responses bool) {
	k, err := d.read(r, c, responses)
	if err != nil {
		d.fail(w, r, c, err)
		return
	}
	passage, err := d.passes(k.model)
	switch {
	case err != nil:
	case passage == nil:
		err = k.texts(c.Params)
	case responses:
		err = k.asChat(c.Params)
	}
	if err != nil {
		d.fail(w, r, c, err)
		return
	}
	if passage != nil {
		d.chat(w, r, c, k, passage)
		return
	}
	way, err := d.model(k.model, k.options)
	if err != nil {
		d.fail(w, r, c, err)
		return
	}
	earlier := k.conversation()
	j, err := extract(k.asked)
	if err != nil {
		d.fail(w, r, c, err)
		return
	}
	instructions, err := d.wishes(c.Rules, k.options)
	if err == nil {
		c.Rules, err = d.glossary(c.Rules, way, k.options)
	}
	if err != nil {
		d.fail(w, r, c, err)
		return
	}
	earlier = append(earlier, j.earlier...)
	earlier = earlier[max(0, len(earlier)-mostEarlier):]
	w.Header().Set("X-Dragoman-Extract", j.rule)
	reqs := c.Requests(j.texts, way.source, way.target, linger(r))
	for i := range reqs {
		reqs[i].Formality, reqs[i].Context, reqs[i].Instructions = way.formality, earlier, instructions
	}
	s := d.newSending(w, k, c)
	tab, err := c.Open(r.Context(), &d.Teller, reqs)
	if err != nil {
		d.fail(w, r, c, err)
		return
	}
	defer tab.Close()
	ctx, cancel := c.Context(r.Context())
	defer cancel()
	if s.streams(j) {
		reqs[0].OnDelta = s.show(ctx)
	}
	items := s.while(func() []door.Item {
		at := map[*core.Request]int{}
		for i := range reqs {
			at[&reqs[i]] = i
		}
		return door.Items(reqs, func(req *core.Request) door.Item {
			ask := func(req *core.Request, i int) door.Item {
				it := d.One(ctx, tab, req)
				if it.Err == nil && j.keeps != nil && !j.keeps(i, it.Result.Text) {
					it = door.Item{Err: &core.Error{Kind: core.BadAnswer, Stage: "door", Detail: "the translation lacks a placeholder of the text, or holds a line that parts texts"}, Took: it.Took}
				}
				return it
			}
			i := at[req]
			it := ask(req, i)
			if it.Err != nil && (len(reqs) > 1 || j.keeps != nil) && it.Err.Kind != core.Canceled && it.Err.Kind != core.DeadlineExceeded {
				again := *req
				again.Trace, again.NoCache = nil, it.Err.Kind == core.BadAnswer
				it = ask(&again, i)
			}
			return it
		})
	})
	if err := tab.Whole(items); err != nil {
		s.fail(w, r, err)
		return
	}
	if _, ok := s.rest(items[0].Result.Text); !ok {
		s.fail(w, r, &core.Error{Kind: core.ProviderFailed, Detail: "the answer is another than the one that was begun"})
		return
	}
	texts := make([]string, len(items))
	usage := core.Usage{}
	for i, it := range items {
		texts[i] = it.Result.Text
		if !it.Result.Cached {
			usage.PromptTokens += it.Result.Usage.PromptTokens
			usage.CompletionTokens += it.Result.Usage.CompletionTokens
		}
	}
	h := w.Header()
	door.TellFlags(h, items)
	h.Set("X-Dragoman-Model", items[0].Result.Model)
	s.answer(j.join(texts, func(i int) string {
		l, _ := door.Detected(&reqs[i], items[i].Result)
		return string(l)
	}), usage)
	d.Journal.Served(name, c.ID, c.Client, http.StatusOK, len(items), time.Since(c.Begin))
}

// linger is how long a call goes on after its client has left: the official libraries
// come back after half a second, and others leave on purpose.
func linger(r *http.Request) time.Duration {
	for header := range r.Header {
		if strings.HasPrefix(header, "X-Stainless-") {
			return lingerSDK
		}
	}
	return 0
}

// lingerSDK is how long a call of an official library goes on after it has left.
const lingerSDK = 2 * time.Second
