package gateway

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/dragoman-mt/dragoman/core/config"
	"github.com/dragoman-mt/dragoman/plugins/host"
)

// Every file that this project has shipped, as its history holds them, loads, and
// says what it said: whoever has one need not touch it.
func TestFilesOfFormerVersionsLoadAndMeanTheSame(t *testing.T) {
	names, err := filepath.Glob("testdata/former/*.yaml")
	if err != nil || len(names) < 6 {
		t.Fatalf("%d files, %v", len(names), err)
	}
	var all strings.Builder
	for _, name := range names {
		file, err := program{}.schema(host.New()).Load(config.Options{File: name, Offline: true, LookupEnv: func(string) (string, bool) { return "", false }})
		if err != nil {
			t.Errorf("%v", err)
			continue
		}
		all.WriteString(filepath.Base(name) + "\n")
		folder, err := filepath.Abs("testdata/former")
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range file.Values {
			// What a file leaves out may get another default; what it says stays.
			if v.From != "default" {
				all.WriteString("  " + v.Path + " " + strings.ReplaceAll(v.Text, folder, "FOLDER") + "\n")
			}
		}
	}
	golden(t, "former.txt", all.String())
}
