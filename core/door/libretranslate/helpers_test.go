package libretranslate_test

import (
	"context"
	stdjson "encoding/json"
	"testing"
)

type ctx = context.Context

func quoted(s string) string {
	raw, err := stdjson.Marshal(s)
	if err != nil {
		panic(err)
	}
	return string(raw)
}

// read returns the translation of an answer.
func read(t *testing.T, body string) string {
	t.Helper()
	var answer struct{ TranslatedText string }
	if err := stdjson.Unmarshal([]byte(body), &answer); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	return answer.TranslatedText
}
