package openai

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/exchange"
	"github.com/dragoman-mt/dragoman/core/lazy"
)

// refusal is what an answer says that is none. OpenAI writes an object `error` with
// message, type, param and code; other servers write the same in many shapes.
type refusal struct {
	Type, Param, Code string
	// Message is all that it says in words, with the names of what is at fault.
	Message string
	// Status is the number that it gives as its code, if that is an HTTP status.
	Status int
	// Wait is how long it wants to be left alone; 0 when it does not say.
	Wait time.Duration

	places  []string // where the fault is: the names on the way there
	isError bool
}

// longestSaid bounds what is read of an error's words, in bytes.
const longestSaid = 4 << 10

// readRefusal reads as much of an error's body as it can.
func readRefusal(body []byte) refusal {
	tree, ok := parse(body)
	if !ok {
		r := refusal{}
		if plain := bytes.TrimSpace(body[:min(len(body), longestSaid)]); utf8.Valid(plain) && len(plain) > 0 && strings.IndexByte("<{[", plain[0]) < 0 {
			r.say(string(plain), 0)
		}
		return r
	}
	return readTree(tree)
}

// readTree reads an error that is JSON. What it says of the request itself, such as
// the input that it complains about, is passed over.
func readTree(tree any) (r refusal) {
	r.read(tree, 0)
	root, _ := tree.(map[string]any)
	if list, is := tree.([]any); is && len(list) > 0 {
		root, _ = list[0].(map[string]any)
		for _, each := range list[:min(len(list), maxPieces)] {
			if piece, _ := each.(map[string]any); something(piece["error"]) {
				root = piece
			}
		}
	}
	kind, _ := root["object"].(string)
	choices := something(root["choices"])
	r.isError = something(root["error"]) || kind == "error" || !choices && (r.Message != "" || r.Code != "")
	if list, _ := root["choices"].([]any); len(list) > 0 && !r.isError {
		if choice, _ := list[0].(map[string]any); something(choice["error"]) {
			r = refusal{isError: true}
			r.read(choice["error"], 0)
		}
	}
	return r
}

// maxPieces is how many pieces of an answer that is a list are looked through for an
// error.
const maxPieces = 4096

func (r *refusal) read(v any, depth int) {
	if depth > 8 {
		return
	}
	switch v := v.(type) {
	case string:
		r.say(v, depth)
	case []any:
		for _, each := range v[:min(len(v), 16)] {
			r.read(each, depth+1)
		}
	case map[string]any:
		if inner, is := v["error"]; is && inner != nil {
			r.read(inner, depth+1) // it is nearer to the cause
		}
		r.note(v)
		for _, name := range []string{"message", "msg", "detail", "details", "error_msg", "errorMessage", "error_message", "error_description", "reason", "title", "errors", "metadata", "raw", "innererror", "inner_error", "base_resp", "status_msg", "issues"} {
			inner, is := v[name]
			if !is || v["status_code"] == 0.0 { // MiniMax says so of what went well
				continue
			}
			if fields, is := inner.(map[string]any); is && name == "errors" {
				// ASP.NET names what is at fault in keys.
				for _, field := range slices.Sorted(maps.Keys(fields)) {
					r.places = append(r.places, field)
					r.read(fields[field], depth+1)
				}
				continue
			}
			r.read(inner, depth+1)
		}
	}
}

// say adds what s says, which may be JSON again.
func (r *refusal) say(s string, depth int) {
	s = strings.TrimSpace(s)
	if s == "" {
		return
	}
	if s[0] == '{' || s[0] == '[' {
		var tree any
		if len(s) <= longestSaid && json.Unmarshal([]byte(s), &tree) == nil {
			r.read(tree, depth+1)
			return
		}
	}
	if r.Message != "" {
		s = " " + s
	}
	if room := longestSaid - len(r.Message); len(s) > room {
		s = strings.ToValidUTF8(s[:room], "")
	}
	r.Message += s
}

// note reads the keys of an error that are codes.
func (r *refusal) note(v map[string]any) {
	fill := func(field *string, name string) {
		if s, is := v[name].(string); is && *field == "" {
			*field = s
		}
	}
	fill(&r.Code, "code")
	fill(&r.Code, "error_code")
	fill(&r.Type, "type")
	fill(&r.Type, "status")
	fill(&r.Param, "param")
	for _, name := range []string{"code", "status", "status_code", "statusCode", "http_code", "error_code"} {
		number := 0
		switch n := v[name].(type) {
		case float64:
			if n == float64(int(n)) {
				number = int(n)
			}
		case string:
			number, _ = strconv.Atoi(n)
		}
		switch {
		case 400 <= number && number < 600:
			if r.Status == 0 {
				r.Status = number
			}
		case number != 0 && r.Code == "":
			r.Code = strconv.Itoa(number)
		}
	}
	if at, is := v["loc"].([]any); is {
		var path []string
		for _, step := range at[:min(len(at), 16)] {
			path = append(path, fmt.Sprint(step))
			if name, is := step.(string); is && name != "body" {
				r.places = append(r.places, name)
			}
		}
		if r.Param == "" {
			r.Param = strings.Join(path, ".")
		}
	}
	if at, is := v["field"].(string); is {
		r.places = append(r.places, at)
	}
	if r.Wait == 0 {
		for _, name := range []string{"retryDelay", "retry_delay", "retry_after", "retryAfter", "retry_after_seconds", "estimated_time"} {
			switch d := v[name].(type) {
			case string:
				r.Wait, _ = exchange.Wait(d)
			case float64:
				r.Wait, _ = exchange.Wait(strconv.FormatFloat(d, 'f', -1, 64))
			}
			if r.Wait > 0 {
				break
			}
		}
		if ms, is := v["retry_after_ms"].(float64); is && r.Wait == 0 && ms > 0 && ms <= float64(exchange.LongestWait/time.Millisecond) {
			r.Wait = time.Duration(ms * float64(time.Millisecond))
		}
	}
}

// status returns the status of an error that came with another.
func (r *refusal) status() int {
	if r.Status != 0 {
		return r.Status
	}
	switch said := r.words(); {
	case saysAny(said, "rate_limit", "rate limit", "ratelimit", "too_many_requests", "too many requests", "resource_exhausted"):
		return http.StatusTooManyRequests
	case saysAny(said, "invalid_argument", "invalid_request", "invalid_param", "invalid param", "badrequest", "bad request", "bad_request"),
		r.isModerated(http.StatusBadRequest), r.isTooLong(http.StatusBadRequest):
		return http.StatusBadRequest
	case saysAny(said, "overloaded", "unavailable"):
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// words returns all that r says, in lower case.
func (r *refusal) words() string {
	return strings.ToLower(r.Code + " " + r.Type + " " + r.Message)
}

func saysAny(said string, phrases ...string) bool {
	for _, phrase := range phrases {
		if strings.Contains(said, phrase) {
			return true
		}
	}
	return false
}

// waitIn finds "try again in 6m0s" and its like.
var waitIn = lazy.Regexp(`(?i)(?:retry|again|wait)(?: (?:in|after|for))? (?:about |at least )?((?:[0-9]+h)?(?:[0-9]+m)?[0-9.]+s\b|(?:[0-9.]+ ?(?:ms|milliseconds?|seconds?|secs?|s|minutes?|mins?|m|hours?|hrs?|h)\b ?)+)`)

// waitUnit finds the parts of what waitIn found.
var waitUnit = regexp.MustCompile(`([0-9.]+) ?([a-z]+)`)

// toWait returns how long r wants to be left alone.
func (r *refusal) toWait() time.Duration {
	if r.Wait > 0 {
		return r.Wait
	}
	found := waitIn().FindStringSubmatch(r.Message)
	if found == nil {
		return 0
	}
	var all time.Duration
	for _, part := range waitUnit.FindAllStringSubmatch(strings.ToLower(found[1]), -1) {
		unit := part[2]
		switch {
		case unit == "ms" || strings.HasPrefix(unit, "milli"):
			unit = "ms"
		default:
			unit = unit[:1]
		}
		d, ok := exchange.Wait(strings.Trim(part[1], ".") + unit)
		if !ok {
			return 0
		}
		all += d
	}
	return min(all, exchange.LongestWait)
}

// isBroke says whether the account has no money or quota left.
func (r *refusal) isBroke(status int) bool {
	if status == http.StatusPaymentRequired {
		return true
	}
	if status >= 500 && r.Status == 0 && r.Code == "" && r.Type == "" {
		return false
	}
	said := r.words()
	if saysAny(said, "insufficient_quota", "insufficient_balance", "insufficient_user_quota", "insufficient_credit", "insufficient_funds", "billing_hard_limit", "billing_not_active", "exceeded_current_quota", "quota_exceeded_error",
		"arrearage", "overdue", "payment_required", "insufficient balance", "insufficient account balance", "insufficient credit", "insufficient fund", "insufficient quota",
		"not enough credit", "not enough balance", "out of credit", "no credits", "credit balance is too low", "credits have been", "available credits", "spending limit", "balance is not enough",
		"balance is insufficient", "payment required", "requires more credits", "add credits", "calls / month", "budget_exceeded", "budget has been exceeded", "top up", "recharge", "余额不足", "额度不足", "欠费", "无可用资源包") {
		return true
	}
	// A limit a minute is called so as well, but tells when it ends.
	return saysAny(said, "exceeded your current quota", "check your plan and billing") && r.toWait() == 0
}

// isModerated says whether the text is what the server would not take.
func (r *refusal) isModerated(status int) bool {
	switch {
	case status == http.StatusUnavailableForLegalReasons:
		return true
	case status == http.StatusInternalServerError, status == http.StatusTooManyRequests:
		if !saysAny(r.words(), "content_filter", "content_policy", "datainspectionfailed", "data_inspection_failed") {
			return false
		}
	case status < http.StatusBadRequest, status > http.StatusInternalServerError, status == http.StatusUnauthorized, status == http.StatusPaymentRequired, status == http.StatusNotFound:
		return false
	}
	if r.Code == "1301" || r.Code == "sensitive" {
		return true
	}
	return saysAny(strings.NewReplacer("case-sensitive", "", "case sensitive", "").Replace(r.words()), "content_filter", "content filter", "contentfilter", "content_policy", "content policy", "content management policy", "contentpolicy", "responsibleaipolicy",
		"data_inspection_failed", "datainspectionfailed", "content exists risk", "content risk", "inappropriate", "usage guidelines", "usage polic", "safety_check", "safety check", "safety system", "safety filter", "safety setting",
		"moderation", "moderated", "flagged", "prohibited_content", "prohibited content", "sensitive", "considered high risk", "harmful", "unsafe", "terms of service violation", "content violat", "violates our", "sexual", "guardrail", "prompt blocked", "outputted is blocked", "censorship", "audit failed", "敏感", "违规", "不安全")
}

// isTooLong says whether the prompt and its answer do not fit into the model.
func (r *refusal) isTooLong(status int) bool {
	if status == http.StatusRequestEntityTooLarge {
		return true
	}
	if status == http.StatusTooManyRequests || status == http.StatusUnauthorized || status == http.StatusForbidden || status > http.StatusInternalServerError {
		return false
	}
	return saysAny(r.words(), "context_length_exceeded", "string_above_max_length", "exceed_context_size", "context_window_exceeded", "context length", "context_length", "context window", "context size", "max_seq_len", "max_model_len", "maximum sequence length",
		"prompt is too long", "prompt too long", "prompt_too_long", "input is too long", "input too long", "input length", "too many tokens", "too many input tokens", "reduce the length", "token count", "exceeds the maximum number of tokens", "max input tokens", "maximum input", "max_new_tokens` must be", "larger than the maximum")
}

// refusing are words that make the name of a parameter one that is refused.
var refusing = []string{"unsupported", "unrecognized", "unrecognised", "unknown", "unexpected", "not support", "n't support", "not permitted", "not allowed", "not accept", "not a valid", "not available", "not recognized", "not implemented",
	"invalid", "must ", "only ", "extra ", "extra_", "cannot", "can't", "range", "deprecated", "no longer", "not enabled", "does not take", "not compatible", "incompatible", "required to be", "should be", "should not", "not expected", "additional propert", "could not be converted", "remove ", "非法", "不支持", "无效", "不合法", "有误"}

// listing are words behind which an error tells what would have been right. It is written
// to by nobody.
var listing = []string{"expected one of", "expected `", "known properties", "supported parameters are", "allowed parameters", "valid parameters", "valid fields", "to drop these"}

// aliases are other names of parameters, as foldName leaves them. It is written to by
// nobody.
var aliases = map[string]string{
	"maxoutputtokens": "max_completion_tokens", "thinkingbudget": "reasoning_effort", "thinkinglevel": "reasoning_effort", "thinkingconfig": "reasoning_effort",
	"thinking": "reasoning_effort", "think": "reasoning_effort", "effort": "reasoning_effort", "reasoning": "reasoning_effort", "budget": "reasoning_effort",
	"streaming": "stream", "includeusage": "stream_options",
}

// foldName makes a name in snake or camel case one that compares.
func foldName(s string) string { return strings.ToLower(strings.ReplaceAll(s, "_", "")) }

// nameIn finds words that may be names of parameters.
var nameIn = regexp.MustCompile(`[A-Za-z][A-Za-z0-9_]*`)

// refused returns those of names, the parameters that were sent, that r complains
// about.
func (r *refusal) refused(names []string) (found []string) {
	if r.isTooLong(0) || r.isModerated(http.StatusBadRequest) || r.isBroke(0) {
		return nil
	}
	sent := make(map[string]string, len(names))
	for _, name := range names {
		sent[foldName(name)] = name
	}
	add := func(word string, plain bool) {
		word = foldName(word)
		name, is := sent[word]
		if alias := aliases[word]; !is && alias != "" && plain {
			if name, is = sent[foldName(alias)]; !is && alias == "max_completion_tokens" {
				name, is = sent["maxtokens"]
			}
		}
		if !is {
			return
		}
		for _, known := range found {
			if known == name {
				return
			}
		}
		found = append(found, name)
	}
	for _, place := range append([]string{r.Param}, r.places...) {
		for step := range strings.FieldsFuncSeq(place, func(c rune) bool { return c == '.' || c == '[' || c == ']' || c == '/' }) {
			if step == "messages" || step == "content" {
				return nil // the text is at fault, or its role
			}
			add(step, false)
		}
	}
	if len(found) > 0 {
		return found
	}
	said := r.Message
	low := strings.ToLower(said)
	complains := saysAny(low, refusing...)
	for _, word := range listing {
		if at := strings.Index(low, word); at >= 0 && len(low) == len(said) {
			low, said = low[:at], said[:at]
		}
	}
	for _, at := range nameIn.FindAllStringIndex(said, -1) {
		word := said[at[0]:at[1]]
		// "store" and "stream" are words of English as well.
		if complains || strings.Contains(word, "_") || strings.ToLower(word) != word {
			add(word, complains)
		}
	}
	return found
}

// ofValue says whether it is the value of a parameter that is refused.
func (r *refusal) ofValue() bool {
	return r.Code == "unsupported_value" || saysAny(strings.ToLower(r.Message), "value", "must be", "one of", "only", "budget", "range", "thinking mode", "allowed")
}

// noSystem says whether the model knows no system role.
func (r *refusal) noSystem(status int) bool {
	if status != http.StatusBadRequest && status != http.StatusUnprocessableEntity && status != http.StatusInternalServerError {
		return false
	}
	said := strings.ToLower(r.Message)
	if strings.HasSuffix(r.Param, ".role") && strings.Contains(r.Param, "messages") {
		return true
	}
	if saysAny(said, "only user and assistant roles", "only user, assistant", "role must be in", "roles must alternate", "must start with a user", "first message must be", "must start with user", "first role must be user") {
		return true
	}
	if !saysAny(said, "system", "developer") || !saysAny(said, "role", "message", "prompt", "instruction") {
		return false
	}
	return saysAny(said, "not support", "n't support", "unsupported", "not enabled", "not allowed", "not permitted", "not accept", "invalid", "unknown", "unexpected", "only ", "must be")
}

// failed turns an answer to req that is no translation into an error.
func (p *Provider) failed(req *core.Request, status int, h http.Header, body []byte) *core.Error {
	return p.failure(req, status, h, readRefusal(body))
}

// failure turns what an answer says into an error.
func (p *Provider) failure(req *core.Request, status int, h http.Header, r refusal) *core.Error {
	cause := p.cause(req, status, h, r)
	r.Message = p.hush(req).Cut(r.Message) // a text does not tell what kind of error it met
	wait := func(e *core.Error) *core.Error {
		if e.RetryAfter = exchange.RetryAfter(h, time.Now()); e.RetryAfter == 0 {
			e.RetryAfter = r.toWait()
		}
		return e
	}
	switch {
	case r.isBroke(status):
		return p.fail(core.QuotaExceeded, "the provider's account has no quota left", cause)
	case r.isModerated(status):
		return p.fail(core.ProviderRefused, "the provider's content filter refused the text", cause)
	case r.isTooLong(status):
		return p.fail(core.TooLarge, "the text, with its context and instructions, is too long for the model", cause)
	case status == http.StatusTooManyRequests:
		return wait(p.again(core.RateLimited, "the provider's account has reached its limit", cause))
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return p.fail(core.ProviderFailed, "the provider does not accept this gateway's key", cause)
	case status == http.StatusNotFound, status == http.StatusMethodNotAllowed:
		return p.fail(core.ProviderFailed, "the provider does not know the model or the address", fmt.Errorf("%w; POST %s was called%s", cause, p.address(), p.addressHint()))
	case status >= 500:
		return wait(p.again(core.ProviderFailed, fmt.Sprintf("the provider answered with status %d", status), cause))
	case status == http.StatusRequestTimeout, status == http.StatusConflict, status == http.StatusTooEarly:
		return p.again(core.ProviderFailed, fmt.Sprintf("the provider answered with status %d", status), cause)
	case status < http.StatusBadRequest:
		e := p.fail(core.ProviderFailed, fmt.Sprintf("the provider answered with status %d, which is neither an answer nor an error", status), cause)
		e.Odd = true
		return e
	}
	return p.fail(core.ProviderFailed, fmt.Sprintf("the provider answered with status %d", status), cause)
}

// address is where translations are asked for, without the query: that may hold a key.
func (p *Provider) address() string {
	return p.chat.Scheme + "://" + p.chat.Host + p.chat.EscapedPath()
}

// addressHint says what may be odd about the address that was called.
func (p *Provider) addressHint() string {
	if versioned.MatchString(p.chat.Path) {
		return ""
	}
	return "; base_url may want a version at its end, such as /v1"
}

// versioned finds a version in a path, such as /v1 or /v1beta, or Azure's name for a
// model.
var versioned = regexp.MustCompile(`/(v[0-9]+[a-z0-9]*|deployments)(/|$)`)
