package exchange

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"

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
		if len(fault.Message) > longestSaid || len(fault.Codes) > mostCodes || fault.Status != 0 && (fault.Status < 400 || fault.Status > 599) {
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
	if f := ReadFault([]byte(wide)); len(f.Message) > longestSaid || len(f.Codes) > mostCodes {
		t.Errorf("%d bytes, %d codes", len(f.Message), len(f.Codes))
	}
}

// An answer that stays open behind its last bracket is one, however many blanks stood
// between its brackets: they are not looked at again with each that comes.
func TestBlanksDoNotHideThatAnAnswerIsWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		body, server := io.Pipe()
		context.AfterFunc(ctx, func() { server.CloseWithError(context.Canceled) })
		looks := 0
		go io.Copy(server, iotest.OneByteReader(strings.NewReader(`{"a":{}`+strings.Repeat(" ", 100)+"}")))
		var buf bytes.Buffer
		err := Receive(t.Context(), cancel, &http.Response{StatusCode: http.StatusOK, Body: body}, &buf, func(b []byte) bool {
			looks++
			return bytes.HasSuffix(b, []byte(" }"))
		})
		if err != nil || looks > 3 {
			t.Errorf("%v after %d looks at %d bytes", err, looks, buf.Len())
		}
	})
}

func TestAnAnswerThatIsPackedTwiceIsNotUnpacked(t *testing.T) {
	for encoding, want := range map[string]error{"gzip": nil, "identity, gzip": nil, "gzip, gzip": errPackedTwice, "deflate, x-gzip": errPackedTwice, "br": errPacked} {
		resp := &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Encoding": {encoding}}, Body: http.NoBody}
		if err := Unpack(resp); err != want {
			t.Errorf("%s: %v, want %v", encoding, err, want)
		}
	}
}
