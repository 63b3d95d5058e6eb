package traffic

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

func FuzzRead(f *testing.F) {
	f.Add([]byte(`{"at_ms":1,"session":"a","segment":"s","text":"x"}`))
	f.Add([]byte("\n\n{}"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		all, err := Read(bytes.NewReader(raw))
		if err == nil && len(all) == 0 {
			t.Fatal("no error, and nothing")
		}
	})
}
