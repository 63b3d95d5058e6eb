package openaitest

import (
	"context"
	"encoding/json"

	"github.com/dragoman-mt/dragoman/core"
)

// A list is a user message of several texts with ids, which a model answers with a list of
// translations.
type list struct {
	Texts []listed `json:"texts"`
}

type listed struct {
	ID   int    `json:"id"`
	Text string `json:"text"`
}

// translate answers text, each of its texts by itself if it is a list.
func translate(ctx context.Context, e Engine, text string, source, target core.Language) (string, error) {
	var l list
	if json.Unmarshal([]byte(text), &l) != nil || len(l.Texts) == 0 {
		return e.Translate(ctx, text, source, target)
	}
	for i := range l.Texts {
		t, err := e.Translate(ctx, l.Texts[i].Text, source, target)
		if err != nil {
			return "", err
		}
		l.Texts[i].Text = t
	}
	return string(encode(map[string]any{"translations": l.Texts})), nil
}
