package cache

import (
	"bytes"
	"fmt"
	"reflect"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/plugins/wire"
)

// sorted says of every field of a request whether another value is another
// request to the cache, and whether plugins get to know it. Whoever adds a field
// decides that here: one that changes answers and is not in the key gives a
// client another's answer, and one that is not on the wire is lost below a
// plugin.
var sorted = map[string]struct{ key, wire bool }{
	"ID":              {false, true},
	"Text":            {true, true},
	"Markup":          {true, false}, // the host keeps it
	"Source":          {true, true},
	"Target":          {true, true},
	"Context":         {true, true},
	"Context.Source":  {true, true},
	"Context.Target":  {true, true},
	"Formality":       {true, true},
	"Glossary":        {true, true},
	"GlossaryVersion": {true, true},
	"Terms":           {false, true}, // Text and GlossaryVersion decide them
	"Terms.Source":    {false, true},
	"Terms.Target":    {false, true},
	"Instructions":    {true, true},
	"Chat":            {true, false}, // plugins are passed by
	"Client":          {false, true},
	"Session":         {false, true},
	"Segment":         {false, true},
	"Revision":        {false, true},
	"Final":           {false, true},
	"Lane":            {false, true},
	"Since":           {false, false}, // the line is the gateway's
	"NoCache":         {false, true},
	"Transient":       {false, false}, // the cache is the gateway's
	"Relieve":         {false, false}, // the stage provider heeds it
	"Only":            {false, false}, // the stage provider heeds it; it comes with NoCache
	"Linger":          {false, false}, // a plugin's call ends when it is to
	"Attempt":         {false, true},
	"Account":         {false, false}, // it is a provider's
	"Backed":          {false, false}, // the host heeds it
	"Fallback":        {false, false}, // the gates heed it
	"OnDelta":         {false, true},  // whether there is one
	"Flight":          {false, false},
	"Batch":           {false, false}, // who came with it
	"Trace":           {false, false},
}

// full is a request with a value in every field.
func full() *core.Request {
	return &core.Request{
		ID: "id", Text: "text", Source: "en", Target: "es", Context: []core.Pair{{Source: "a", Target: "b"}}, Formality: core.Formal,
		Glossary: "g", GlossaryVersion: "1", Terms: []core.Pair{{Source: "c", Target: "d"}}, Instructions: []string{"i"}, Client: "c", Session: "s", Segment: "g", Revision: 1, Lane: core.LanePartial,
		Since: time.Unix(1, 0), Linger: time.Second, Attempt: 1, Account: "a", Trace: core.NewTrace(nil),
	}
}

// change gives v, a field or a part of one, another value; of a list the part is
// that of its first item.
func change(t *testing.T, v reflect.Value) {
	switch v.Interface().(type) {
	case time.Time:
		v.Set(reflect.ValueOf(time.Unix(2, 0)))
		return
	case func(string) error:
		v.Set(reflect.ValueOf(func(string) error { return nil }))
		return
	case *core.Markup:
		v.Set(reflect.ValueOf(&core.Markup{XML: true}))
		return
	case *core.Chat:
		v.Set(reflect.ValueOf(&core.Chat{Key: "k"}))
		return
	case *core.Seat:
		v.Set(reflect.ValueOf(new(core.Seat)))
		return
	case *core.Trace:
		v.Set(reflect.ValueOf(core.NewTrace(nil)))
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(v.String() + "x")
	case reflect.Bool:
		v.SetBool(!v.Bool())
	case reflect.Int, reflect.Int64:
		v.SetInt(v.Int() + 1)
	case reflect.Uint8:
		v.SetUint(v.Uint() + 1)
	case reflect.Slice:
		v.Set(reflect.Append(v, v.Index(0)))
	case reflect.Interface:
		v.Set(reflect.ValueOf(&bid{}))
	default:
		t.Fatalf("the test cannot change a %s: teach it", v.Type())
	}
}

func TestEveryFieldOfARequestIsSorted(t *testing.T) {
	seen := map[string]bool{}
	check := func(name string, find func(*core.Request) reflect.Value) {
		seen[name] = true
		want, known := sorted[name]
		if !known {
			t.Errorf("nobody has said whether core.Request.%s is in the cache's key and on the wire: sort it in this file, and make it so in key.go and plugins/wire", name)
			return
		}
		was, is := full(), full()
		change(t, find(is))
		if reflect.DeepEqual(find(was).Interface(), find(is).Interface()) && name != "Trace" && name != "OnDelta" {
			t.Fatalf("the test has not changed %s", name)
		}
		if got := !bytes.Equal(appendKey(nil, was), appendKey(nil, is)); got != want.key {
			t.Errorf("core.Request.%s is in the cache's key: %v, want %v", name, got, want.key)
		}
		sent := wire.EncodeRequest(is)
		if got := !proto.Equal(wire.EncodeRequest(was), sent); got != want.wire {
			t.Errorf("core.Request.%s is on the wire: %v, want %v", name, got, want.wire)
		}
		if want.wire && name != "OnDelta" {
			if got := find(wire.DecodeRequest(sent)).Interface(); !reflect.DeepEqual(got, find(is).Interface()) {
				t.Errorf("core.Request.%s arrives as %s, sent was %s", name, fmt.Sprint(got), fmt.Sprint(find(is).Interface()))
			}
		}
	}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[core.Request]()) {
		field := func(r *core.Request) reflect.Value { return reflect.ValueOf(r).Elem().FieldByIndex(f.Index) }
		check(f.Name, field)
		if f.Type.Kind() == reflect.Slice && f.Type.Elem().Kind() == reflect.Struct {
			for i := range f.Type.Elem().NumField() {
				check(f.Name+"."+f.Type.Elem().Field(i).Name, func(r *core.Request) reflect.Value { return field(r).Index(0).Field(i) })
			}
		}
	}
	for name := range sorted {
		if !seen[name] {
			t.Errorf("core.Request has no field %s any more", name)
		}
	}
}
