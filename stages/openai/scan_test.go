package openai

import (
	"encoding/json"
	"reflect"
	"testing"

	"pgregory.net/rapid"
)

// What encoding/json writes is read as it was, whatever stands round it.
func TestCompletionIsReadAsWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var want answer
		want.Model = rapid.String().Draw(t, "model")
		for range rapid.IntRange(0, 3).Draw(t, "choices") {
			want.Choices = append(want.Choices, choice{
				FinishReason: rapid.String().Draw(t, "finish"),
				Message:      message{rapid.String().Draw(t, "content"), rapid.String().Draw(t, "refusal")},
			})
		}
		want.Usage.PromptTokens = rapid.Int().Draw(t, "prompt")
		want.Usage.CompletionTokens = rapid.Int().Draw(t, "completion")
		want.Usage.Details.CachedTokens = rapid.Int().Draw(t, "cached")

		// Through a map the keys are in another order, and others between.
		body, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		var all map[string]any
		if rapid.Bool().Draw(t, "more") && json.Unmarshal(body, &all) == nil {
			all["logprobs"] = []any{nil, map[string]any{"a": []any{}, "content": `\"}]`}, 1.5, true}
			all["an id"] = map[string]any{"model": "not this one"}
			all["usage"] = want.Usage // a float64 would have lost digits
			if body, err = json.MarshalIndent(all, " ", "\t"); err != nil {
				t.Fatal(err)
			}
		}
		var got answer
		if !got.read(body) {
			t.Fatalf("not read: %s", body)
		}
		if len(got.Choices) == 0 {
			got.Choices = nil
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("read %+v, want %+v, from %s", got, want, body)
		}
	})
}

func TestOddCompletionsAreNoneAndNullIsNothing(t *testing.T) {
	for _, c := range []struct {
		body string
		ok   bool
	}{
		{``, false},
		{`{`, false},
		{`{} x`, false},
		{`[]`, false},
		{`"text"`, false},
		{`{"model": 5}`, false},
		{`{"choices": {}}`, false},
		{`{"choices": ["x"]}`, false},
		{`{"choices": [{"message": {"content": ["x"]}}]}`, false},
		{`{"usage": {"prompt_tokens": 1.5}}`, false},
		{`{"usage": {"prompt_tokens": "1"}}`, false},
		{`{"usage": {"prompt_tokens": 99999999999999999999}}`, false},
		{`{}`, true},
		{`null`, true},
		{`{"model": null, "choices": null, "usage": null}`, true},
		{` {"choices" : [ null , {"message" : {"content" : null , "refusal" : null}, "finish_reason" : null} ] , "usage" : {"prompt_tokens" : null , "prompt_tokens_details" : null} } `, true},
	} {
		if got := new(answer).read([]byte(c.body)); got != c.ok {
			t.Errorf("%s: read %v, want %v", c.body, got, c.ok)
		}
	}
}

// FuzzCompletion reads what no server should send.
func FuzzCompletion(f *testing.F) {
	f.Add([]byte(`{"model":"m","choices":[{"message":{"content":"a\n\u00e9"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1}}`))
	f.Add([]byte(`{"choices":[{"message":{"content":"\ud83d"}},[],{}],"x":[[{"\\\"":"]"}]]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		var a answer
		if a.read(body) && !json.Valid(body) {
			t.Fatal("read what is no JSON")
		}
	})
}
