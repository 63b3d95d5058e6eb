package main

import (
	"errors"
	"os"
	"slices"
	"testing"

	"go.uber.org/goleak"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/coretest"
	"github.com/dragoman-mt/dragoman/plugins/apertium/engine"
	"github.com/dragoman-mt/dragoman/plugins/wire"
)

// TestMain is also the plugin itself: the tests start this program as one.
func TestMain(m *testing.M) {
	if os.Getenv(wire.CookieKey) != "" {
		main()
	}
	goleak.VerifyTestMain(m)
}

func TestConforms(t *testing.T) {
	if _, err := engine.Find(); err != nil {
		t.Skip("not tested: ", err)
	}
	coretest.Provider(t, core.Env{Name: "apertium"}, kind(), nil)
}

func TestItTellsThePairsThatAreInstalled(t *testing.T) {
	if _, err := engine.Find(); err != nil {
		t.Skip("not tested: ", err)
	}
	p := &provider{cfg: *kind().Config().(*Config)}
	if p.Languages() != nil {
		t.Error("it knows languages before it was started")
	}
	p.Start(t.Context())
	defer p.Close()
	found := false
	var sources []core.Language
	for _, l := range p.Languages() {
		sources = append(sources, l.Source)
		found = found || l.Source == "en" && slices.Contains(l.Targets, "es")
	}
	if !found || len(slices.Compact(slices.Clone(sources))) != len(sources) {
		t.Errorf("languages: %+v", p.Languages())
	}
}

func TestThatNothingIsInstalledIsSaidToWhoeverAsks(t *testing.T) {
	p := &provider{absent: errors.New("nothing here")}
	if err := p.Probe(t.Context()); err != p.absent {
		t.Errorf("the probe: %v", err)
	}
	if _, err := p.Translate(t.Context(), &core.Request{Text: "x"}); err != p.absent {
		t.Errorf("a call: %v", err)
	}
	if p.Languages() != nil || p.Close() != nil {
		t.Error("it knows languages, or cannot be closed")
	}
}
