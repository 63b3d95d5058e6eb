package wire

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/dragoman-mt/dragoman/core"
)

// travel sends a message over the wire.
func travel[M proto.Message](t *testing.T, m M) M {
	t.Helper()
	raw, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	out := m.ProtoReflect().New().Interface().(M)
	if err := proto.Unmarshal(raw, out); err != nil {
		t.Fatal(err)
	}
	return out
}

func full() *core.Request {
	return &core.Request{
		ID: "r1", Text: "Hello.", Source: "en", Target: "pt-BR", Context: []core.Pair{{Source: "a", Target: "b"}},
		Formality: core.Formal, Glossary: "g", Instructions: []string{"short"}, Client: "c", Session: "s", Segment: "seg", Revision: 7,
		Final: true, Lane: core.LaneBulk, NoCache: true, Attempt: 2, GlossaryVersion: "v", Terms: []core.Pair{{Source: "c", Target: "d"}},
	}
}

func TestARequestArrivesAsItWasSent(t *testing.T) {
	want := full()
	got := DecodeRequest(travel(t, EncodeRequest(want)))
	if got.Trace == nil {
		t.Error("it has no trace")
	}
	got.Trace = nil
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	streaming := full()
	streaming.OnDelta = func(string) error { return nil }
	if EncodeRequest(want).Deltas || !EncodeRequest(streaming).Deltas {
		t.Error("that deltas are wanted does not travel")
	}
}

// A plugin that was made before a gateway told it of terms has no place for them in its
// answer, and its change is not meant to lose them.
func TestAStageThatKnowsNoTermsLosesNone(t *testing.T) {
	req := full()
	old := EncodeRequest(req)
	old.Text, old.GlossaryVersion, old.Terms = "Changed.", "", nil
	changed, err := Change(req, travel(t, old))
	if err != nil || changed.Text != "Changed." || changed.GlossaryVersion != "v" || len(changed.Terms) != 1 {
		t.Errorf("got %+v, %v", changed, err)
	}
	old.Glossary = ""
	if changed, err = Change(req, travel(t, old)); err != nil || changed.Glossary != "" || changed.GlossaryVersion != "" || changed.Terms != nil {
		t.Errorf("without a glossary: %+v, %v", changed, err)
	}
}

func TestTheNearerDeadlineCounts(t *testing.T) {
	none := t.Context()
	near, cancel := context.WithTimeout(none, time.Minute)
	defer cancel()
	for name, c := range map[string]struct {
		ctx     context.Context
		longest time.Duration
		want    time.Duration
	}{
		"none":    {none, time.Second, time.Second},
		"nearer":  {near, time.Hour, time.Minute},
		"farther": {near, time.Second, time.Second},
	} {
		ctx, end := Within(c.ctx, c.longest)
		at, has := ctx.Deadline()
		if left := time.Until(at); !has || left > c.want || left < c.want-time.Second/2 {
			t.Errorf("%s: %v are left, want %v", name, left, c.want)
		}
		end()
		if c.ctx.Err() != nil || ctx != c.ctx && ctx.Err() == nil {
			t.Errorf("%s: afterwards the caller's context is %v, and the call's %v", name, c.ctx.Err(), ctx.Err())
		}
	}
}

// TestEveryFieldOfARequestTravelsOrIsNamedHere fails when core.Request gets a
// field that nobody thought of here.
func TestEveryFieldOfARequestTravelsOrIsNamedHere(t *testing.T) {
	stays := map[string]bool{
		"Account": true, "Backed": true, "Batch": true, "Chat": true, "Fallback": true, "Flight": true, "Linger": true, "Markup": true, "OnDelta": true, "Only": true, "Relieve": true, "Since": true, "Trace": true, "Transient": true,
	}
	v := reflect.ValueOf(*full())
	for i := range v.NumField() {
		if name := v.Type().Field(i).Name; v.Field(i).IsZero() != stays[name] {
			t.Errorf("%s: it travels: %v, it is named as one that stays: %v", name, !v.Field(i).IsZero(), stays[name])
		}
	}
}

func TestAResultArrivesAsItWasSent(t *testing.T) {
	want := &core.Result{
		Text: "Olá.", Source: "en", Provider: "p", Model: "m", Finish: core.FinishLength, Flags: []string{"f"},
		Usage: core.Usage{PromptTokens: 1, CompletionTokens: 2, CachedTokens: 3}, Cached: true, NoStore: true,
	}
	if got := DecodeResult(travel(t, EncodeResult(want))); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	odd := DecodeResult(&Result{Text: "x", Source: "no language", Finish: "tired", Usage: &Usage{PromptTokens: -5}})
	if odd.Source != "" || odd.Finish != core.FinishUnknown || odd.Usage != (core.Usage{}) {
		t.Errorf("nonsense is believed: %+v", odd)
	}
}

func TestLimitsArriveAsTheyWereSent(t *testing.T) {
	for _, want := range []*core.Limits{
		nil,
		{Requests: core.Limit{Known: true, Limit: 60, Remaining: 0, Reset: time.Second}},
		{Requests: core.Limit{Known: true, Limit: 60, Remaining: 59}, Tokens: core.Limit{Known: true, Limit: 9, Remaining: 3, Reset: time.Minute}},
	} {
		var sent *Limits
		if e := EncodeLimits(want); e != nil {
			sent = travel(t, e)
		}
		if got := DecodeLimits(sent); !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
}

func TestAnErrorOfEachKindArrivesAsItWasSent(t *testing.T) {
	for _, kind := range kinds() {
		want := &core.Error{Kind: kind, Stage: "p", Field: "targets[1]", Detail: "why", Retryable: true, RetryAfter: time.Second, Cause: errors.New("deep")}
		got := DecodeError(travel(t, EncodeError(want)), "p")
		if got.Cause == nil || got.Cause.Error() != "deep" {
			t.Fatalf("%s: cause %v", kind, got.Cause)
		}
		got.Cause = want.Cause
		if *got != *want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
	if EncodeError(nil) != nil {
		t.Error("no error became one")
	}
}

func TestWhatAPluginWritesInAnErrorIsBounded(t *testing.T) {
	long := strings.Repeat("é\x1b[31m\n", 10_000)
	e := DecodeError(&Error{Kind: "made_up", Field: long, Detail: long, Cause: long}, "p")
	if e.Kind != core.ProviderFailed {
		t.Errorf("kind %q", e.Kind)
	}
	for _, s := range []string{e.Field, e.Detail, e.Cause.Error()} {
		if len(s) > 4*maxDetail || strings.ContainsAny(s, "\x1b\n") {
			t.Errorf("%d bytes: %.40q", len(s), s)
		}
	}
	if DecodeError(nil, "p").Detail == "" {
		t.Error("an error without words says nothing")
	}
}

func TestAStageChangesTheTextAndNotWhoAsks(t *testing.T) {
	req := full()
	changed, err := Change(req, &Text{Id: "other", Text: "masked", Source: "en", Target: "es", Client: "somebody else", Lane: Lane_LANE_FINAL, Revision: 99})
	if err != nil {
		t.Fatal(err)
	}
	want := *full()
	want.Text, want.Target, want.Context, want.Formality, want.Glossary, want.Instructions, want.NoCache = "masked", "es", nil, "", "", nil, false
	want.GlossaryVersion, want.Terms = "", nil
	if !reflect.DeepEqual(*changed, want) {
		t.Errorf("got %+v\nwant %+v", *changed, want)
	}
	if req.Text != "Hello." {
		t.Error("the request itself was changed")
	}
	for name, bad := range map[string]*Text{
		"blank text":     {Text: "  ", Target: "es"},
		"NUL":            {Text: "a\x00", Target: "es"},
		"no target":      {Text: "a"},
		"not a language": {Text: "a", Target: "not a language"},
	} {
		if _, err := Change(req, bad); core.AsError(err, "") == nil || core.AsError(err, "").Field == "" {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestLanguagesArriveAsTheyWereSent(t *testing.T) {
	want := []core.LanguageInfo{{Source: "en", Targets: []core.Language{"es", "pt-BR"}}, {Source: "es"}}
	got, err := DecodeLanguages(EncodeLanguages(want))
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := DecodeLanguages([]*Languages{{Source: "??"}}); core.KindOf(err) != core.UnsupportedLanguage {
		t.Errorf("got %v", err)
	}
}
