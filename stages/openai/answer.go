package openai

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/exchange"
	jsontext "github.com/dragoman-mt/dragoman/core/text/json"
)

// answer is what is read of a chat completion.
type answer struct {
	ID      []byte   `json:"-"` // as it is written
	Model   string   `json:"model"`
	Choices []choice `json:"choices"`
	Usage   usage    `json:"usage"`
}

type choice struct {
	FinishReason string  `json:"finish_reason"`
	Message      message `json:"message"`
}

type message struct {
	Content string `json:"content"`
	Refusal string `json:"refusal"`
}

type usage struct {
	PromptTokens     int `json:"prompt_tokens"`
	CompletionTokens int `json:"completion_tokens"`
	Details          struct {
		CachedTokens int `json:"cached_tokens"`
	} `json:"prompt_tokens_details"`
	Reasoning int `json:"-"` // part of CompletionTokens
}

func (u *usage) counted() core.Usage {
	return core.Usage{
		PromptTokens:     max(u.PromptTokens, 0),
		CompletionTokens: max(u.CompletionTokens, 0),
		CachedTokens:     max(u.Details.CachedTokens, 0),
	}
}

// unseen is how many tokens a server may add to a prompt that are not in what it
// was sent: marks of its template, rules of its own.
const unseen = 1024

// bounded returns u, made to be no more than a call can have cost: a token is a
// byte at least, of what was sent or of the answer, and an answer with its hidden
// reasoning has no more than max_output. A server that says otherwise is wrong, and
// what it says would be held against the account's limit.
func (p *Provider) bounded(u core.Usage, sent int64, res *core.Result) core.Usage {
	most := p.cfg.Request.MaxOutput
	if res != nil {
		most = max(most, len(res.Text))
	}
	return capped(u, int(sent)+unseen, most)
}

// capped returns u with no more tokens than those, and none below 0.
func capped(u core.Usage, prompt, completion int) core.Usage {
	u.PromptTokens = min(max(u.PromptTokens, 0), prompt)
	u.CompletionTokens = min(max(u.CompletionTokens, 0), completion)
	u.CachedTokens = min(max(u.CachedTokens, 0), u.PromptTokens)
	return u
}

// said is what an answer says, in one piece or streamed.
type said struct {
	text, refusal, finish, model string
	thought                      bool // it holds thoughts
	usage                        core.Usage
}

// read turns the body of an answer into a result. The usage holds even when there
// is an error.
func (p *Provider) read(req *core.Request, h http.Header, body []byte) (*core.Result, core.Usage, error) {
	var a answer
	if a.read(body) && len(a.Choices) > 0 && !blank(a.Choices[0].Message.Content) && a.Choices[0].FinishReason != "length" {
		answers(req, a.ID, &a.Usage)
		choice := &a.Choices[0]
		says := said{model: a.Model, usage: a.Usage.counted(), finish: choice.FinishReason, text: choice.Message.Content}
		res, err := p.result(says)
		return res, says.usage, err
	}
	tree, ok := parse(body)
	if !ok {
		return nil, core.Usage{}, p.garbled("the provider's answer was not the JSON that was asked for", body)
	}
	says, ok := loose(tree)
	if r := readTree(tree); (!ok || blank(says.text)) && r.isError {
		return nil, says.usage, p.failure(req, r.status(), h, r)
	}
	if !ok {
		return nil, says.usage, p.garbled("the provider's answer held no translation", body)
	}
	res, err := p.result(says)
	return res, says.usage, err
}

func blank(s string) bool { return strings.TrimSpace(s) == "" }

// loose reads a completion that is written otherwise than the API's own, and says
// whether it is one.
func loose(tree any) (says said, ok bool) {
	list, is := tree.([]any)
	switch {
	case !is:
		return looseOne(tree)
	case len(list) == 1:
		return looseOne(list[0])
	}
	// The pieces of a stream, in one list: some of them have no choice.
	var text strings.Builder
	for _, each := range list {
		piece, is := looseOne(each)
		if piece.usage != (core.Usage{}) {
			says.usage = piece.usage
		}
		if root, _ := each.(map[string]any); something(root["error"]) {
			return says, false
		}
		if !is {
			continue
		}
		ok = true
		text.WriteString(piece.text)
		says.thought = says.thought || piece.thought
		for _, field := range []struct{ to, from *string }{{&says.model, &piece.model}, {&says.finish, &piece.finish}, {&says.refusal, &piece.refusal}} {
			if *field.from != "" {
				*field.to = *field.from
			}
		}
	}
	says.text = text.String()
	if says.finish == "" {
		says.finish = string(failing) // the last piece is missing
	}
	return says, ok
}

// looseOne is loose of one completion, or of a piece of one.
func looseOne(tree any) (says said, ok bool) {
	root, _ := tree.(map[string]any)
	says.model, _ = root["model"].(string)
	if raw, err := json.Marshal(root["usage"]); err == nil && root["usage"] != nil {
		s := scan{Scanner: jsontext.Lenient(raw)}
		u := s.usage()
		says.usage = u.counted()
	}
	choices, _ := root["choices"].([]any)
	if len(choices) == 0 {
		return says, false
	}
	choice, _ := choices[0].(map[string]any)
	says.finish, _ = choice["finish_reason"].(string)
	message, is := choice["message"].(map[string]any)
	if !is {
		message, _ = choice["delta"].(map[string]any)
	}
	says.refusal, _ = message["refusal"].(string)
	says.text, says.thought = parts(message["content"], 0)
	if says.text == "" && message["content"] == nil {
		says.text, _ = choice["text"].(string)
	}
	for _, name := range thoughts {
		says.thought = says.thought || something(message[name])
	}
	if usage, _ := root["usage"].(map[string]any); usage != nil {
		details, _ := usage["completion_tokens_details"].(map[string]any)
		if spent, _ := details["reasoning_tokens"].(float64); spent > 0 {
			says.thought = true
		}
	}
	return says, true
}

// thoughts are the keys under which servers hand out what a model thinks. It is
// written to by nobody.
var thoughts = []string{"reasoning_content", "reasoning", "reasoning_details", "reasoning_text", "thinking", "thinking_blocks", "thought"}

// something says whether v is neither null nor empty.
func something(v any) bool {
	switch v := v.(type) {
	case nil:
		return false
	case string:
		return v != ""
	case []any:
		return len(v) > 0
	case map[string]any:
		return len(v) > 0
	}
	return true
}

// parts puts content together that may come in parts, of which some are thoughts.
func parts(content any, depth int) (text string, thought bool) {
	switch c := content.(type) {
	case string:
		return c, false
	case []any:
		var all strings.Builder
		for _, part := range c {
			if depth > 3 {
				break
			}
			t, th := parts(part, depth+1)
			all.WriteString(t)
			thought = thought || th
		}
		return all.String(), thought
	case map[string]any:
		kind, _ := c["type"].(string)
		switch kind {
		case "", "text", "output_text":
			return parts(c["text"], depth+1)
		case "thinking", "reasoning", "redacted_thinking", "thought":
			return "", true
		}
	}
	return text, thought
}

// result turns what a complete answer says into a result.
func (p *Provider) result(a said) (*core.Result, error) {
	finish := ending(a.finish)
	a.text = printable(a.text)
	if blank(a.text) {
		switch {
		case a.refusal != "":
			return nil, p.fail(core.ProviderRefused, "the model refused to translate this text", nil)
		case finish == core.FinishFiltered:
			return nil, p.fail(core.ProviderRefused, "the provider's content filter withheld the translation", nil)
		case finish == core.FinishLength, a.thought:
			return nil, p.again(core.ProviderFailed, "the model spent its whole output on thoughts; a higher request.max_output gives it more", errSpent)
		}
		return nil, p.again(core.ProviderFailed, "the provider's answer was empty", nil)
	}
	res := &core.Result{Text: a.text, Provider: p.env.Name, Model: a.model, Usage: a.usage, Finish: finish}
	switch finish {
	case core.FinishLength:
		res.NoStore, res.Flags = true, []string{core.FlagCut}
		if a.thought || opensThought(a.text) {
			return nil, &cutShort{res: res}
		}
	case core.FinishFiltered:
		res.NoStore = true
	case failing:
		return nil, p.again(core.ProviderFailed, "the provider broke its answer off", errors.New("the answer ended for no reason that is known as a good one"))
	}
	return res, nil
}

// errSpent is the cause of an empty answer that ended at its cap.
var errSpent = errors.New("the answer ended at its cap before it began")

// cutShort is an answer that was cut since thoughts took of its cap.
type cutShort struct {
	res   *core.Result
	heard bool // pieces of it were handed on
}

func (*cutShort) Error() string { return "thoughts took of the answer's cap" }

// marks are what stands round thoughts in a text. It is written to by nobody.
var marks = []struct{ open, shut string }{
	{"<think>", "</think>"}, {"<thinking>", "</thinking>"}, {"<thought>", "</thought>"}, {"<reasoning>", "</reasoning>"},
	{"[THINK]", "[/THINK]"}, {"<|channel|>analysis", "<|channel|>final"}, {"◁think▷", "◁/think▷"}, {"<seed:think>", "</seed:think>"},
	{"<|START_THINKING|>", "<|END_THINKING|>"}, {"<|begin_of_thought|>", "<|end_of_thought|>"}, {"<|thinking|>", "<|/thinking|>"},
}

// opensThought says whether text is thoughts that have no end, and nothing else.
func opensThought(text string) bool {
	text = strings.TrimSpace(text)
	for _, mark := range marks {
		if strings.HasPrefix(text, mark.open) {
			return !strings.Contains(text, mark.shut)
		}
	}
	return false
}

// opensMark says whether text begins with a mark of thoughts.
func opensMark(text string) bool {
	text = strings.TrimSpace(text)
	for _, mark := range marks {
		if strings.HasPrefix(text, mark.open) {
			return true
		}
	}
	return false
}

// An opening is the beginning of a text that comes in pieces, which may be thoughts.
type opening struct {
	at      int    // what is before it is not looked at again
	shut    string // what ends the thoughts; empty before they have begun
	thought bool   // they have ended
}

// end returns how much of the beginning of text, which grows from call to call, is
// thoughts, with the blanks behind them; -1 when that is not known before more of it
// has come.
func (o *opening) end(text string) int {
	blanks := func() { o.at = len(text) - len(strings.TrimLeft(text[o.at:], " \t\r\n")) }
	if o.shut == "" {
		blanks()
		begin := text[o.at:]
		for _, mark := range marks {
			if strings.HasPrefix(begin, mark.open) {
				o.shut = mark.shut
				break
			}
			if strings.HasPrefix(mark.open, begin) {
				return -1
			}
		}
		if o.shut == "" {
			return 0
		}
	}
	if !o.thought {
		i := strings.Index(text[o.at:], o.shut)
		if i < 0 {
			o.at = max(o.at, len(text)-len(o.shut))
			return -1
		}
		o.at, o.thought = o.at+i+len(o.shut), true
	}
	if blanks(); o.at == len(text) {
		return -1
	}
	return o.at
}

// failing is what ending says of a reason that is no good one.
const failing core.Finish = "failed"

// ending returns why an answer ended, of which servers have many words.
func ending(reason string) core.Finish {
	switch reason {
	case "":
		return core.FinishUnknown
	case "stop":
		return core.FinishStop
	}
	switch strings.ToLower(strings.ReplaceAll(reason, "-", "_")) {
	case "stop", "end_turn", "stop_sequence", "eos", "eos_token", "end", "complete", "completed", "done", "finish", "finished", "finish_reason_stop", "stop_token":
		return core.FinishStop
	case "length", "max_tokens", "max_output_tokens", "max_completion_tokens", "model_length", "token_limit", "max_length", "model_context_window_exceeded", "finish_reason_max_tokens", "incomplete":
		return core.FinishLength
	case "content_filter", "content_filtered", "safety", "recitation", "blocklist", "prohibited_content", "spii", "sensitive", "refusal", "moderation", "risk",
		"guardrail_intervened", "finish_reason_safety", "error_toxic", "language", "repetition_filter", "image_safety", "flagged", "blocked":
		return core.FinishFiltered
	case "null", "none":
		return core.FinishUnknown
	}
	return failing
}

// printable returns s without the control characters that no text holds: tab and
// line ends stay.
func printable(s string) string {
	for i := 0; i < len(s); i++ {
		if isControl(s[i]) {
			return strings.Map(func(r rune) rune {
				if r < ' ' && isControl(byte(r)) {
					return -1
				}
				return r
			}, s)
		}
	}
	return s
}

func isControl(c byte) bool { return c < ' ' && c != '\t' && c != '\n' && c != '\r' }

// named returns the model's name as the answer to req gave it, if that is one.
func (p *Provider) named(model string, req *core.Request) string {
	switch {
	case model == p.cfg.Model:
	case len(model) > 200 || !exchange.IsCode(model):
	case strings.HasPrefix(model, p.cfg.Model) && len(model) <= len(p.cfg.Model)+16:
		return model // with the date of its making
	case !p.hush(req).Holds(model):
		return model
	}
	return p.cfg.Model
}

// fail makes an error that another attempt would meet again; again makes one
// that it may not.
func (p *Provider) fail(kind core.ErrorKind, detail string, cause error) *core.Error {
	return &core.Error{Kind: kind, Stage: p.env.Name, Detail: detail, Cause: cause}
}

func (p *Provider) again(kind core.ErrorKind, detail string, cause error) *core.Error {
	return &core.Error{Kind: kind, Stage: p.env.Name, Detail: detail, Retryable: true, Cause: cause}
}

// garbled is an answer with a good status that cannot be used. What it says is
// not logged: it may be the translation of somebody's text.
func (p *Provider) garbled(detail string, body []byte) *core.Error {
	return p.again(core.ProviderFailed, detail, fmt.Errorf("%d bytes of %s", len(body), exchange.LooksLike(body)))
}

// cause tells the log what the upstream said: the status, the upstream's name for
// the request, and of the error type, code and location, and its message as far as it
// shares nothing with the request.
func (p *Provider) cause(req *core.Request, status int, h http.Header, r refusal) error {
	hush := p.hush(req)
	text := fmt.Sprintf("status %d", status)
	for _, part := range []struct{ name, value string }{
		{"upstream request", hush.Code(exchange.First(h, "X-Request-Id"))}, {"type", hush.Code(r.Type)}, {"code", hush.Code(r.Code)}, {"param", hush.Code(r.Param)},
		{"message", hush.Message(r.Message)},
	} {
		if part.value != "" {
			text += ", " + part.name + " " + part.value
		}
	}
	return errors.New(text)
}

// hush returns what keeps the texts of req, which is nil for a call without texts, out of
// what is logged.
func (p *Provider) hush(req *core.Request) exchange.Hush {
	if req == nil {
		return p.secrets.Hush()
	}
	return p.secrets.Hush(req)
}

// secrets finds what must never reach a log: the key and the values of headers
// that may be keys.
func (c *Config) secrets(base *url.URL) *exchange.Secrets {
	all := []string{c.APIKey.Reveal()}
	for _, value := range c.Headers {
		all = append(all, value.Reveal())
	}
	for name, values := range base.Query() {
		if mayBeKey(name) {
			all = append(all, values...)
		}
	}
	return exchange.NewSecrets(all...)
}
