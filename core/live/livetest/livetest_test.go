package livetest

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestATraceComesBackAsItWasWritten(t *testing.T) {
	all := Speech(2, 20*time.Second, 7)
	var b bytes.Buffer
	if err := Write(&b, all); err != nil {
		t.Fatal(err)
	}
	got, err := Read(&b)
	if err != nil || !slices.Equal(got, all) {
		t.Errorf("%d of %d events, %v", len(got), len(all), err)
	}
}

func TestATraceThatIsNoneSaysWhere(t *testing.T) {
	for trace, want := range map[string]string{
		"": "empty", "{}\n": "line 1 has no segment", "{\"segment\":\"a\"}\nx\n": "line 2 is no event",
		"{\"segment\":\"a\",\"at_ms\":5}\n{\"segment\":\"a\",\"at_ms\":4}\n": "line 2: at_ms goes back",
	} {
		if _, err := Read(strings.NewReader(trace)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", trace, err, want)
		}
	}
}

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

func FuzzRead(f *testing.F) {
	f.Add([]byte(`{"at_ms":1,"session":"a","segment":"s","text":"x"}`))
	f.Add([]byte("\n\n{}"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		all, err := Read(bytes.NewReader(raw))
		if err == nil && len(all) == 0 {
			t.Fatal("no error, and nothing")
		}
		Translated(string(raw), "es")
	})
}
