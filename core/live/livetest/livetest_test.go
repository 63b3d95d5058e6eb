package livetest

import (
	"strings"
	"testing"
)

// The translation of a text is that of its sentences, and changes while one grows.
func TestFlickerWorksSentenceBySentence(t *testing.T) {
	a, b := "We will see what comes of it now.", "That is all there is to say."
	if got, want := Translated(a+" "+b, "es"), Translated(a, "es")+" "+Translated(b, "es"); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	changed := 0
	words := strings.Fields(strings.TrimSuffix(a+" "+b, "."))
	for i := 1; i < len(words); i++ {
		if !strings.HasPrefix(Translated(strings.Join(words[:i+1], " "), "es"), Translated(strings.Join(words[:i], " "), "es")) {
			changed++
		}
	}
	if changed < 2 {
		t.Errorf("it changed %d times", changed)
	}
}
