//go:build !race

package openaitest

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
)

// These tests ask the official client whether this server is what it expects.

func official(t *testing.T, s *Server, more ...option.RequestOption) openai.Client {
	t.Helper()
	return openai.NewClient(append([]option.RequestOption{
		option.WithBaseURL(s.URL()), option.WithAPIKey("sk-test"), option.WithHTTPClient(client(t, s)), option.WithMaxRetries(0),
	}, more...)...)
}

func ask(text string) openai.ChatCompletionNewParams {
	return openai.ChatCompletionNewParams{
		Model: "gpt-5.4-nano",
		Messages: []openai.ChatCompletionMessageParamUnion{
			openai.SystemMessage(system), openai.UserMessage("Good evening"), openai.AssistantMessage("Buenas tardes"), openai.UserMessage(text),
		},
		Temperature:         openai.Float(0),
		MaxCompletionTokens: openai.Int(256),
	}
}

func TestOfficialClientGetsACompletion(t *testing.T) {
	for _, secure := range []bool{false, true} {
		s := start(t, Config{TLS: secure, RPM: 600, TPM: 60000})
		c := official(t, s)
		var raw *http.Response
		got, err := c.Chat.Completions.New(t.Context(), ask(`Say "hi" <b>now</b> & ¿qué?`), option.WithResponseInto(&raw))
		if err != nil {
			t.Fatal(err)
		}
		if text := got.Choices[0].Message.Content; text != `[es] Say "hi" <b>now</b> & ¿qué?` {
			t.Error(text)
		}
		if got.Choices[0].FinishReason != "stop" || got.Model != "gpt-5.4-nano" || string(got.Object) != "chat.completion" ||
			got.ID == "" || got.Created == 0 || got.Usage.TotalTokens == 0 || !got.Usage.JSON.PromptTokensDetails.Valid() {
			t.Error(got.RawJSON())
		}
		for header, want := range map[string]string{
			"x-ratelimit-limit-requests": "600", "x-ratelimit-remaining-requests": "599", "x-ratelimit-reset-requests": "100ms",
			"x-ratelimit-limit-tokens": "60000", "x-ratelimit-remaining-tokens": "59744", "x-ratelimit-reset-tokens": "256ms",
		} {
			if got := raw.Header.Get(header); got != want {
				t.Errorf("%s: %q, want %q", header, got, want)
			}
		}
		if raw.Header.Get("x-request-id") == "" || raw.Header.Get("openai-processing-ms") == "" {
			t.Error(raw.Header)
		}
	}
}

func TestOfficialClientGetsAStream(t *testing.T) {
	for _, kind := range []string{"", Comments, Drip} {
		s := start(t, Config{Drip: time.Microsecond})
		s.FailNext(1, kind)
		params := ask("The new car is very fast.")
		params.StreamOptions.IncludeUsage = openai.Bool(true)
		c := official(t, s)
		stream := c.Chat.Completions.NewStreaming(t.Context(), params)
		var all openai.ChatCompletionAccumulator
		deltas := 0
		for stream.Next() {
			if !all.AddChunk(stream.Current()) {
				t.Fatal("a chunk does not fit the ones before")
			}
			if c := stream.Current().Choices; len(c) > 0 && c[0].Delta.Content != "" {
				deltas++
			}
		}
		if err := stream.Err(); err != nil {
			t.Fatal(kind, err)
		}
		if got := all.Choices[0]; got.Message.Content != "[es] The new car is very fast." || got.FinishReason != "stop" || deltas < 5 {
			t.Errorf("%s: %+v in %d deltas", kind, got, deltas)
		}
		if all.Usage.TotalTokens == 0 {
			t.Error("no usage")
		}
		stream.Close()
	}
}

func TestOfficialClientSeesFaultsOfAStream(t *testing.T) {
	for kind, want := range map[string]func(text, refusal, finish string, err error) bool{
		StreamError: func(text, _, _ string, err error) bool { return text != "" && err != nil },
		Cut:         func(text, _, _ string, err error) bool { return text != "" && err != nil },
		Truncated:   func(text, _, finish string, _ error) bool { return text != "" && finish == "" },
		Garbage:     func(_, _, _ string, err error) bool { return err != nil },
		Refusal:     func(text, refusal, _ string, err error) bool { return text == "" && refusal != "" && err == nil },
		Length:      func(text, _, finish string, err error) bool { return text != "" && finish == "length" && err == nil },
		Empty:       func(text, _, finish string, err error) bool { return text == "" && finish == "stop" && err == nil },
		Error500:    func(_, _, _ string, err error) bool { return isAPI(err, 500, "") },
	} {
		s := start(t, Config{TLS: true})
		s.FailNext(1, kind)
		c := official(t, s)
		stream := c.Chat.Completions.NewStreaming(t.Context(), ask("The new car is very fast."))
		var text, refusal, finish string
		for stream.Next() {
			for _, c := range stream.Current().Choices {
				text += c.Delta.Content
				refusal += c.Delta.Refusal
				finish += c.FinishReason
			}
		}
		if !want(text, refusal, finish, stream.Err()) {
			t.Errorf("%s: text %q, refusal %q, finish %q, error %v", kind, text, refusal, finish, stream.Err())
		}
		stream.Close()
	}
}

func isAPI(err error, status int, code string) bool {
	e, ok := errors.AsType[*openai.Error](err)
	return ok && e.StatusCode == status && e.Code == code
}

func TestOfficialClientGetsTypedErrors(t *testing.T) {
	s := start(t, Config{Keys: []string{"sk-right"}, Models: []Model{
		{ID: "gpt-5.4-nano", Refuses: []string{"seed", "reasoning_effort=none"}, ContextTokens: 500}}})
	params := func(change func(*openai.ChatCompletionNewParams)) openai.ChatCompletionNewParams {
		p := ask("x")
		change(&p)
		return p
	}
	for _, c := range []struct {
		name, key   string
		params      openai.ChatCompletionNewParams
		status      int
		code, param string
	}{
		{"wrong key", "sk-wrong", ask("x"), 401, "invalid_api_key", ""},
		{"unknown model", "sk-right", params(func(p *openai.ChatCompletionNewParams) { p.Model = "gpt-4.1-nano" }), 404, "model_not_found", ""},
		{"refused parameter", "sk-right", params(func(p *openai.ChatCompletionNewParams) { p.Seed = openai.Int(1) }), 400, "unsupported_parameter", "seed"},
		{"refused value", "sk-right", params(func(p *openai.ChatCompletionNewParams) { p.ReasoningEffort = "none" }), 400, "unsupported_value", "reasoning_effort"},
		{"other value", "sk-right", params(func(p *openai.ChatCompletionNewParams) { p.ReasoningEffort = "low" }), 200, "", ""},
		{"too long", "sk-right", ask(strings.Repeat("word ", 1000)), 400, "context_length_exceeded", "messages"},
		{"no messages", "sk-right", openai.ChatCompletionNewParams{Model: "gpt-5.4-nano", Messages: []openai.ChatCompletionMessageParamUnion{}}, 400, "empty_array", "messages"},
		{"cap of nothing", "sk-right", params(func(p *openai.ChatCompletionNewParams) { p.MaxCompletionTokens = openai.Int(0) }), 400, "integer_below_min_value", "max_completion_tokens"},
	} {
		t.Run(c.name, func(t *testing.T) {
			api := official(t, s, option.WithAPIKey(c.key))
			_, err := api.Chat.Completions.New(t.Context(), c.params)
			if c.status == 200 {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			e, ok := errors.AsType[*openai.Error](err)
			if !ok || e.StatusCode != c.status || e.Code != c.code || e.Param != c.param {
				t.Errorf("%v: %+v", err, e)
			} else if strings.Contains(e.Message, "sk-") {
				t.Errorf("the key is in %q", e.Message)
			}
		})
	}
}

func TestOfficialClientRetriesWhatItShould(t *testing.T) {
	for _, c := range []struct {
		kind  string
		times int
		calls int64
	}{{Error500, 1, 2}, {RateLimit, 1, 2}, {Error503, 1, 2}, {ResetBefore, 1, 2}, {Error401, 1, 1}, {ContextLength, 1, 1}, {Error500, 3, 2}} {
		s := start(t, Config{RetryAfter: 5 * time.Millisecond})
		s.FailNext(c.times, c.kind)
		api := official(t, s, option.WithMaxRetries(1))
		_, err := api.Chat.Completions.New(t.Context(), ask("x"))
		if succeeded := err == nil; succeeded != (c.calls > 1 && c.times == 1) {
			t.Errorf("%s: %v", c.kind, err)
		}
		if stats := settled(t, s); stats.Chats != c.calls {
			t.Errorf("%s: %d calls, want %d", c.kind, stats.Chats, c.calls)
		}
	}
}

func TestOfficialClientSeesModels(t *testing.T) {
	s := start(t, Config{})
	c := official(t, s)
	got, err := c.Models.Get(t.Context(), "gpt-4o-mini")
	if err != nil || got.ID != "gpt-4o-mini" || !strings.Contains(got.RawJSON(), `"shutdown_date": "2027-01-14"`) {
		t.Error(err, got)
	}
	if _, err := c.Models.Get(t.Context(), "gpt-4.1-nano"); !isAPI(err, 404, "model_not_found") {
		t.Error(err)
	}
	page, err := c.Models.List(t.Context())
	if err != nil || len(page.Data) != len(DefaultModels()) {
		t.Error(err, page)
	}
	if err := s.Configure(func(c *Config) { c.ModelsFault = Error503 }); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Models.Get(t.Context(), "gpt-4o-mini"); !isAPI(err, 503, "") {
		t.Error(err)
	}
	if stats := s.Stats(); stats.Chats != 0 || stats.Paths["/v1/models/{model}"] != 3 || stats.Paths["/v1/models"] != 1 {
		t.Errorf("%+v", stats)
	}
}

func TestOutputCapCuts(t *testing.T) {
	s := start(t, Config{})
	params := ask(strings.Repeat("word ", 100))
	params.MaxCompletionTokens = openai.Int(16)
	c := official(t, s)
	got, err := c.Chat.Completions.New(t.Context(), params)
	if err != nil || got.Choices[0].FinishReason != "length" || got.Usage.CompletionTokens > 16 || got.Choices[0].Message.Content == "" {
		t.Error(err, got)
	}
}

func TestTokensTakeTheirTime(t *testing.T) {
	s := start(t, Config{TokensPerSecond: 100})
	for _, stream := range []bool{false, true} {
		began := time.Now()
		_, data, err := post(t, t.Context(), client(t, s), s, "one two three four five six seven eight nine ten", map[string]any{"stream": stream})
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took < 100*time.Millisecond {
			t.Errorf("stream %v: %d bytes took %v", stream, len(data), took)
		}
	}
}
