package core_test

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/dragoman-mt/dragoman/core"
)

const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

func TestATraceparentIsReadAsItIsWrittenAndNothingElseIs(t *testing.T) {
	for in, want := range map[string]string{
		parent:                      parent,
		parent[:54] + "0":           parent[:54] + "0",
		parent[:53] + "03":          parent, // flags that nobody knows
		"01" + parent[2:]:           parent, // a later version
		"01" + parent[2:] + "-more": parent,
		parent + "-more":            "",
		"01" + parent[2:] + "more":  "",
		"ff" + parent[2:]:           "",
		strings.ToUpper(parent):     "",
		parent[:54]:                 "",
		"":                          "",
		"00-00000000000000000000000000000000-b7ad6b7169203331-01": "",
		"00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01": "",
		"00-0af7651916cd43dd8448eb211c80319g-b7ad6b7169203331-01": "",
		"00_0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01": "",
	} {
		c, ok := core.ParseTraceparent(in, "")
		if ok != (want != "") || ok && c.Traceparent() != want || !ok && c != (core.SpanContext{}) {
			t.Errorf("%q is %v, %v; want %q", in, c, ok, want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		c := core.SpanContext{Sampled: rapid.Bool().Draw(t, "sampled")}.Child()
		child := c.Child()
		if back, ok := core.ParseTraceparent(c.Traceparent(), ""); !ok || back != c || child.Trace != c.Trace || child.Span == c.Span || child.Sampled != c.Sampled {
			t.Fatalf("%v became %v, and %v its child", c, back, child)
		}
	})
}

func TestATracestateIsPassedOnAsItIsUnlessNoHeaderMayHoldIt(t *testing.T) {
	for state, want := range map[string]string{"vendor=1,other=2": "vendor=1,other=2", "": "", "a=\n": "", "é": "", strings.Repeat("a", 513): ""} {
		if c, ok := core.ParseTraceparent(parent, state); !ok || c.State != want || c.Child().State != want {
			t.Errorf("%q: %+v", state, c)
		}
	}
}

func FuzzParseTraceparent(f *testing.F) {
	f.Add(parent, "vendor=1")
	f.Add("01"+parent[2:]+"-more", "")
	f.Add("", "\x00")
	f.Fuzz(func(t *testing.T, in, state string) {
		c, ok := core.ParseTraceparent(in, state)
		if ok == c.IsZero() {
			t.Fatalf("%+v, %v", c, ok)
		}
		if ok && (c.TraceID() != in[3:35] || c.SpanID() != in[36:52]) {
			t.Errorf("%q is %+v", in, c)
		}
	})
}
