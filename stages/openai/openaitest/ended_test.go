package openaitest

import (
	"slices"
	"sync"
	"testing"
)

func TestEndedIsToldOfEveryChatRequestBeforeTheServerHasSettled(t *testing.T) {
	var mu sync.Mutex
	var told []string
	s := start(t, Config{TLS: true, Ended: func(r Record) {
		mu.Lock()
		defer mu.Unlock()
		if r.Took <= 0 || r.Connection == 0 {
			t.Errorf("incomplete: %+v", r)
		}
		told = append(told, r.ClientID+" "+r.Fault)
	}})
	hc := client(t, s, http1)
	s.FailNext(1, ResetBefore)
	s.FailNext(1, Error500)
	if err := s.Configure(func(c *Config) { c.Models = DefaultModels()[:1] }); err != nil { // it is told still
		t.Fatal(err)
	}
	for _, text := range []string{"one", "two", "three"} {
		post(t, t.Context(), hc, s, text, nil) // the first is answered by a reset
	}
	res, err := hc.Get(s.URL() + "/models") // no chat
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	settled(t, s)
	mu.Lock()
	defer mu.Unlock()
	if want := []string{"client-one reset-before", "client-two 500", "client-three "}; !slices.Equal(told, want) {
		t.Errorf("told of %q, want %q", told, want)
	}
}
