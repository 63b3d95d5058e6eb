package openai

import (
	"encoding/json"
	"fmt"
	"math"
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
		{`{"usage": {"prompt_tokens": 1.5.5}}`, false},
		{`{"usage": {"prompt_tokens": 01}}`, false},
		{`{"usage": {"prompt_tokens": "1}}`, false},
		{`{"usage": {"prompt_tokens": 1e}}`, false},
		{`{"usage": {"prompt_tokens_details": {]}}`, false},
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

func TestACountIsTheNearestIntHoweverItIsWritten(t *testing.T) {
	for written, want := range map[string]int{
		`7`: 7, `-7`: -7, `0`: 0, `12.0`: 12, `12.9`: 12, `1.2e1`: 12, `"12"`: 12, `"12.0"`: 12,
		`1e30`: math.MaxInt, `-1e30`: math.MinInt, `1e999`: math.MaxInt, `-1e999`: math.MinInt,
		`9223372036854775807`: math.MaxInt, `9223372036854775808`: math.MaxInt, `99999999999999999999`: math.MaxInt,
		`"99999999999999999999"`: math.MaxInt,
		`null`:                   0, `true`: 0, `""`: 0, `"many"`: 0, `"NaN"`: 0, `"Infinity"`: 0, `"0x10"`: 0, `" 12"`: 0, `"null"`: 0,
		`[12]`: 0, `{"tokens": 12}`: 0,
	} {
		var whole answer
		body := fmt.Sprintf(`{"usage": {"prompt_tokens": %s, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": %[1]s}}}`, written)
		if !whole.read([]byte(body)) {
			t.Errorf("not read: %s", body)
		}
		var piece chunk
		if err := json.Unmarshal([]byte(body), &piece); err != nil {
			t.Errorf("%v: %s", err, body)
		} else if *piece.Usage != whole.Usage {
			t.Errorf("streamed %+v, whole %+v: %s", *piece.Usage, whole.Usage, body)
		}
		if u := whole.Usage; u.PromptTokens != want || u.Details.CachedTokens != want || u.CompletionTokens != 5 {
			t.Errorf("%s is read as %+v, want %d", written, u, want)
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
