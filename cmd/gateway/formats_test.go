package gateway

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"github.com/dragoman-mt/dragoman/core/coretest/property"
	"github.com/dragoman-mt/dragoman/core/text/format"
)

// opened is what the parser of somebody else finds in a file.
type opened struct {
	File           string
	Texts          []string
	Outline        []any
	Missing, Fault string
}

// TestAFileOfEachFormatIsStillOneToTheParsersOfOthers when Apertium has translated it: these
// are the libraries that programs read such files with, and find the same in the same
// places, but for its texts. Msgfmt checks catalogues.
func TestAFileOfEachFormatIsStillOneToTheParsersOfOthers(t *testing.T) {
	const python = "/usr/bin/python3" // Debian's, which has Debian's packages
	if _, err := os.Stat("/usr/share/apertium/modes/eng-spa.mode"); err != nil {
		t.Skip("not tested: Apertium is not installed")
	}
	if _, err := os.Stat(python); err != nil {
		t.Skip("not tested: there is no", python)
	}
	property.WithoutRace(t)
	t.Parallel()
	dir := t.TempDir()
	in, out := filepath.Join(dir, "in"), filepath.Join(dir, "out")
	do(t, os.CopyFS(in, os.DirFS("../../core/text/format/testdata/files")))
	script, err := filepath.Abs("testdata/second_reader.py")
	do(t, err)
	run := func(args ...string) []byte {
		t.Helper()
		cmd := exec.Command(python, append([]string{script}, args...)...)
		var bad bytes.Buffer
		cmd.Stderr = &bad
		said, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v: %v\n%s", args, err, bad.String())
		}
		return said
	}
	open := func(folder string) map[string]opened {
		all := map[string]opened{}
		lines := bufio.NewScanner(bytes.NewReader(run(folder)))
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			var o opened
			do(t, json.Unmarshal(lines.Bytes(), &o))
			all[o.File] = o
		}
		return all
	}
	run("make", in)
	was := open(in)
	config := write(t, `version: 1
providers:
  apertium: {type: plugin, command: [`+filepath.Join(programs, "apertium")+`]}
stages:
  - provider: {use: apertium}
  - postprocess
  - protect
`)
	if _, errs, status := command(t, filepath.Dir(config), nil, "", "translate", "--from", "en", "--to", "es", "--out", out, in); status != 0 {
		t.Fatalf("status %d:\n%s", status, errs)
	}
	is := open(out)
	var looked []string
	for name, before := range was {
		after := is[name]
		switch {
		case before.Missing != "":
			t.Logf("%s is not looked at: %s is not installed", name, before.Missing)
			continue
		case before.Fault != "" || after.Fault != "" || after.File == "":
			t.Errorf("%s cannot be opened: before %q, translated %q", name, before.Fault, after.Fault)
			continue
		case !reflect.DeepEqual(before.Outline, after.Outline):
			t.Errorf("%s has another outline:\n%v\nit was\n%v", name, after.Outline, before.Outline)
		case reflect.DeepEqual(before.Texts, after.Texts):
			t.Errorf("%s is not translated: %q", name, after.Texts)
		}
		looked = append(looked, format.Of(name))
	}
	slices.Sort(looked)
	t.Logf("opened again: %v", slices.Compact(looked))
}
