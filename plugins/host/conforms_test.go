package host

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/coretest"
	"github.com/dragoman-mt/dragoman/core/coretest/executable"
)

// declared returns the kind of an item of the file, whose parts know where they
// were declared.
func (b *bench) declared(name string) (core.Kind, any) {
	b.Helper()
	for _, item := range append(b.file.Providers, b.file.Stages...) {
		if item.Name != name {
			continue
		}
		kind, origin := item.Kind, item.Origin
		build := kind.Build
		kind.Build = func(env core.Env, config any) (any, error) {
			env.Origin = origin
			return build(env, config)
		}
		return kind, item.Config
	}
	b.Fatalf("the file has no %s", name)
	return core.Kind{}, nil
}

func TestTheProviderConforms(t *testing.T) {
	kind, config := newBench(t, one).declared("odd")
	coretest.Provider(t, core.Env{Name: "odd", Log: zap.NewNop(), Deadline: 20 * time.Second}, kind, config)
}

func TestTheStageConforms(t *testing.T) {
	kind, config := newBench(t, "stages:\n  - plugin: {command: [SELF]}\n  - provider\n").declared("plugin")
	coretest.Stage(t, kind, config)
}

func TestAnswersOfAnotherProgramOrConfigurationAreOthers(t *testing.T) {
	script := filepath.Join(t.TempDir(), "script")
	write := func(text string) {
		executable.Write(t, script, text)
	}
	write("1")
	yaml := "providers:\n  odd: {type: plugin, command: [" + script + "], config: {a: 1}}\n" +
		"  even: {type: plugin, command: [" + script + "], config: {a: 2}}\nstages:\n  - provider: {use: odd}\n"
	b := newBench(t, yaml)
	first, same, other := b.build("odd").(provider), b.build("odd").(provider), b.build("even").(provider)
	was := first.Fingerprint()
	if same.Fingerprint() != was {
		t.Error("the same plugin has lost its answers")
	}
	if other.Fingerprint() == was {
		t.Error("another configuration has the same answers")
	}
	write("2")
	if first.Fingerprint() != was {
		t.Error("what a part is called changed while it serves")
	}
	if b.build("odd").(provider).Fingerprint() == was {
		t.Error("another program has the same answers")
	}
}

// Gateways of one group use each other's answers, wherever their plugins lie.
func TestAPluginHasTheSameAnswersInAnotherFolder(t *testing.T) {
	in := func(text, config string) string {
		dir := t.TempDir()
		for name, text := range map[string]string{"program": "the program", "script": text, "words": "its words"} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		sum := sha256.Sum256([]byte("its words"))
		b := newBench(t, fmt.Sprintf("providers:\n  odd: {type: plugin, command: [%[1]s/program, --fast, %[1]s/script], sha256: {%[1]s/words: %[2]x}, config: {%[3]s}}\nstages:\n  - provider: {use: odd}\n", dir, sum, config))
		return b.build("odd").(provider).Fingerprint()
	}
	was := in("1", "a: 1")
	if in("1", "a: 1") != was {
		t.Error("the same plugin has other answers in another folder")
	}
	if in("2", "a: 1") == was || in("1", "a: 2") == was {
		t.Error("another script, or another configuration, has the same answers")
	}
}
