package exchange

import (
	"strings"
	"testing"

	"github.com/dragoman-mt/dragoman/core"
)

func TestTheNearestCodeIsOneOfTheSameScript(t *testing.T) {
	codes := Codes([]string{"de", "en-GB", "en-US", "pt-BR", "pt-PT", "zh-CN", "zh-TW", "sr", "nb", "es", "es-419"}, Parse)
	for _, c := range []struct {
		l      core.Language
		target bool
		want   string
	}{
		{"de", true, "de"}, {"de-AT", true, "de"}, {"en", true, "en-US"}, {"en-AU", true, "en-GB"}, {"en-IE", true, "en-GB"}, {"pt-AO", true, "pt-PT"}, {"pt", true, "pt-BR"},
		{"zh", true, "zh-CN"}, {"zh-Hant", true, "zh-TW"}, {"zh-HK", true, "zh-TW"}, {"zh-SG", true, "zh-CN"}, {"no", true, "nb"}, {"es-AR", true, "es-419"}, {"es-ES", true, "es"},
		{"sr-Latn", true, ""}, {"sr-Latn", false, "sr"}, {"tlh", true, ""}, {"nn", true, ""}, {"dsb", true, ""},
	} {
		if got, _ := Find(c.l, codes, c.target); got != c.want {
			t.Errorf("%s (target %v): %q, want %q", c.l, c.target, got, c.want)
		}
	}
}

func FuzzReadFault(f *testing.F) {
	for _, s := range []string{`{"error":{"code":403,"message":"x","errors":[{"reason":"y"}]}}`, `[{"error":"z"}]`, `{"message":"a","detail":"b"}`, "\ufeff{}", `{"error":{"innererror":{"code":"1"}}}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		fault := ReadFault(raw)
		if len(fault.Message) > 2*longestSaid || len(fault.Codes) > mostCodes || fault.Status != 0 && (fault.Status < 400 || fault.Status > 599) {
			t.Errorf("%+v", fault)
		}
		for _, code := range fault.Codes {
			if code == "" || len(code) > longestCode || code != strings.ToLower(code) {
				t.Errorf("%q", code)
			}
		}
	})
}

func TestTooMuchOfAnErrorIsNotRead(t *testing.T) {
	deep := strings.Repeat(`{"error":`, 50) + `"x"` + strings.Repeat("}", 50)
	if f := ReadFault([]byte(deep)); f.Message != "" {
		t.Errorf("%q", f.Message)
	}
	wide := `{"errors":[` + strings.Repeat(`{"message":"`+strings.Repeat("a", 1000)+`","code":"b"},`, 100) + `{}]}`
	if f := ReadFault([]byte(wide)); len(f.Message) > 2*longestSaid || len(f.Codes) > mostCodes {
		t.Errorf("%d bytes, %d codes", len(f.Message), len(f.Codes))
	}
}
