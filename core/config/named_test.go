package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// keptAt writes files into a folder of their own.
func keptAt(t *testing.T, contents map[string]string) (folder string) {
	t.Helper()
	folder = t.TempDir()
	for name, content := range contents {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return folder
}

func proxyOf(f *File) string { return f.Sections["pool"].(*poolConfig).Proxy }

func TestAFileThatAReferenceNamesGivesWhatItHoldsWithoutTheLineEndBehindIt(t *testing.T) {
	folder := keptAt(t, map[string]string{
		"plain": "sk-1", "line": "sk-1\n", "windows": "sk-1\r\n", "lines": "sk-1\n\n", "marked": "\uFEFFsk-1\n", "blank": " sk-1 \n", "dollar": "${A} $$\n",
		"number": "007\n", "inner": "a\nb\n", "empty": "\n", "with space": "sk-1",
	})
	lookup := env("CREDENTIALS_DIRECTORY", folder, "HERE", ".")
	for written, want := range map[string]string{
		"${file:plain}": "sk-1", "${file:line}": "sk-1", "${file:windows}": "sk-1", "${file:lines}": "sk-1", "${file:marked}": "sk-1", "${file:blank}": " sk-1 ",
		"${file:" + folder + "/line}": "sk-1", "${file:./../" + filepath.Base(folder) + "/line}": "sk-1", "'${file:with space}'": "sk-1",
		"${file:$CREDENTIALS_DIRECTORY/line}": "sk-1", "${file:$HERE/line}": "sk-1", "'${file:line}'": "sk-1", "Bearer ${file:line}!": "Bearer sk-1!",
		"${file:dollar}": "${A} $$", "${file:number}": "007", "${file:inner}": "a\nb",
		"${file:nowhere:-else}": "else", "${file:empty:-else}": "else", "'${file:nowhere:-}'": "", "${file:line:-else}": "sk-1", "'$${file:line}'": "${file:line}",
	} {
		f, err := loadText(t, with("pool:\n  proxy: "+written), Options{File: filepath.Join(folder, "pipeline.yaml"), LookupEnv: lookup})
		if err != nil {
			t.Errorf("%s: %v", written, err)
		} else if got := proxyOf(f); got != want {
			t.Errorf("%s: got %q, want %q", written, got, want)
		}
	}
}

func TestAFileThatCannotBeUsedIsComplainedOfWhereItIsNamed(t *testing.T) {
	folder := keptAt(t, map[string]string{
		"empty": "", "newline": "\n\r\n", "large": strings.Repeat("x", MaxNamed+1), "binary": "a\x00b", "latin": "caf\xe9", "secret": "hunter2",
	})
	if err := syscall.Mkfifo(filepath.Join(folder, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(folder, "folder"), 0o700); err != nil {
		t.Fatal(err)
	}
	for written, want := range map[string]string{
		"${file:none}":                       "the file FOLDER/none is not there; create it, or give a default: ${file:none:-...}",
		"${file:empty}":                      "the file FOLDER/empty is empty; write the value into it, or give a default: ${file:empty:-...}",
		"${file:newline}":                    "the file FOLDER/newline is empty; write the value into it, or give a default: ${file:newline:-...}",
		"${file:folder}":                     "the file FOLDER/folder cannot be read: this is a folder, so it is not a regular file",
		"${file:pipe}":                       "the file FOLDER/pipe cannot be read: this is a pipe, so it is not a regular file",
		"${file:/dev/zero}":                  "the file /dev/zero cannot be read: this is a device, so it is not a regular file",
		"${file:large}":                      "the file FOLDER/large cannot be read: it is longer than the 65536 bytes that such a file may have",
		"${file:binary}":                     "the file FOLDER/binary is not text in UTF-8",
		"${file:latin}":                      "the file FOLDER/latin is not text in UTF-8",
		"${file:folder:-else}":               "the file FOLDER/folder cannot be read: this is a folder, so it is not a regular file",
		"${file:}":                           "a reference to a file is ${file:PATH}",
		"${file:$NONE/x}":                    "the variable NONE is not set, or empty; it names the folder of a file",
		"${file:$HERE}":                      "a file in a folder that a variable names is ${file:$NAME/FILE}",
		"${file:$HERE/}":                     "a file in a folder that a variable names is ${file:$NAME/FILE}",
		"${file:$CREDENTIALS_DIRECTORY/key}": "the variable CREDENTIALS_DIRECTORY is not set; systemd sets it for a service with LoadCredential=key:PATH or the like in its unit",
		"${file:${HERE}/secret}":             "references do not nest; a file in a folder that a variable names is ${file:$NAME/FILE}, without braces of its own",
	} {
		_, err := loadText(t, with("pool:\n  proxy: '"+written+"'"), Options{File: filepath.Join(folder, "p.yaml"), LookupEnv: env("HERE", folder)})
		got := strings.ReplaceAll(fmt.Sprint(err), folder, "FOLDER")
		if want := "FOLDER/p.yaml:4:10: pool.proxy: " + want; got != want {
			t.Errorf("%s\ngot  %s\nwant %s", written, got, want)
		}
	}
}

// Whatever key it stands under: an address from a file may hold a password.
func TestWhatComesFromAFileIsNeverShown(t *testing.T) {
	folder := keptAt(t, map[string]string{"secret": "hunter2\n", "number": "-31337\n"})
	o := Options{File: filepath.Join(folder, "p.yaml"), LookupEnv: env()}
	f, err := loadText(t, with("pool:\n  proxy: x${file:secret}\n"), o)
	if err != nil {
		t.Fatal(err)
	}
	v := value(f, "pool.proxy")
	if v.Text != redacted || v.From != "p.yaml:4 via file:secret" {
		t.Errorf("explain shows %+v", v)
	}
	if err := os.WriteFile(filepath.Join(folder, "secret"), []byte("hunter3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if !f.Outdated() {
		t.Error("another content is not noticed")
	}
	again, err := loadText(t, with("pool:\n  proxy: x${file:secret}\n"), o)
	if err != nil {
		t.Fatal(err)
	}
	if again.Outdated() {
		t.Error("the same content is another")
	}
	if changes := Diff(f, again); len(changes) != 1 || changes[0].String() != "pool.proxy changed" {
		t.Errorf("the difference is told as %v", changes)
	}
	for _, text := range []string{
		"pool:\n  mode: ${file:secret}\n", "pool:\n  max_connections: '${file:secret}'\n", "pool:\n  max_connections: ${file:number}\n",
		"pool: ${file:secret}\n", "pool:\n  idle_timeout: ${file:secret}\n", "pool:\n  idle_timeout: [\"${file:secret}\"]\n", "server: {keys: {'${file:secret}': \"${file:secret}\"}}\n",
	} {
		_, err := loadText(t, with(text), o)
		if said := fmt.Sprint(err); err == nil || strings.Contains(said, "hunter") || strings.Contains(said, "31337") {
			t.Errorf("%sis answered with %s", text, said)
		}
	}
	_, err = loadText(t, "providers: {p: {type: openai}}\nstages: [provider: {use: '${file:secret}'}]\n", o)
	if said := fmt.Sprint(err); err == nil || strings.Contains(said, "hunter") {
		t.Errorf("a provider named by a file: %s", said)
	}
}

func TestOfflineAFileThatIsNotThereIsAsUnknownAsAVariableThatIsNotSet(t *testing.T) {
	for _, written := range []string{"${file:/nowhere/at/all}", "${file:$CREDENTIALS_DIRECTORY/key}", "${file:/}"} {
		text := "providers:\n  p: {type: openai, api_key: \"" + written + "\"}\nstages: [provider: {use: p}]\n"
		f, err := loadText(t, text, Options{Offline: true})
		if err != nil {
			t.Errorf("%s: %v", written, err)
			continue
		}
		if !f.Unknown("providers.p.api_key") {
			t.Errorf("%s: the key is known", written)
		}
		if v := value(f, "providers.p.api_key"); !strings.Contains(v.From, "not set: the default") {
			t.Errorf("%s: explain says %+v", written, v)
		}
	}
	if _, err := loadText(t, with("pool: {proxy: '${file:}'}\n"), Options{Offline: true}); err == nil {
		t.Error("a reference without a path passes, though no file could mend it")
	}
}

func TestAFileIsOutdatedWhenWhatItNamesComesGoesOrChanges(t *testing.T) {
	folder := keptAt(t, map[string]string{"key": "one\n"})
	key := filepath.Join(folder, "key")
	load := func() *File {
		return mustLoad(t, with("pool:\n  proxy: ${file:key:-none}\n"), Options{File: filepath.Join(folder, "p.yaml")})
	}
	f := load()
	for step, change := range []func() error{
		func() error { return os.WriteFile(key, []byte("two\n"), 0o600) },
		func() error { return os.Remove(key) },
		func() error { return os.WriteFile(key, []byte("two\n"), 0o600) },
	} {
		if f.Outdated() {
			t.Errorf("step %d: nothing has changed yet", step)
		}
		if err := change(); err != nil {
			t.Fatal(err)
		}
		if !f.Outdated() {
			t.Errorf("step %d: the change is not noticed", step)
		}
		f = load()
	}
	if (&File{}).Outdated() {
		t.Error("what names no file is outdated")
	}
}

func TestTheFilesToFollowAreThoseThatAnyReferenceNames(t *testing.T) {
	got := Named([]byte("a: ${file:one} ${file:/two:-x}${file:one}\n# ${file:$DIR/three}\nb: ${A} ${file:$NONE/x} ${file:} ${file:${A}/x}\n: not [YAML"), "/etc/p.yaml", env("DIR", "/run"))
	if want := "[/etc/one /two /run/three]"; fmt.Sprint(got) != want {
		t.Errorf("got %v, want %s", got, want)
	}
	many := strings.Builder{}
	for i := range 2 * maxFollowedFiles {
		fmt.Fprintf(&many, "${file:/f%d}", i)
	}
	if got := Named([]byte(many.String()), "/etc/p.yaml", env()); len(got) != maxFollowedFiles {
		t.Errorf("%d files are followed", len(got))
	}
}

func FuzzNamed(f *testing.F) {
	folder := f.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "key"), []byte("hunter2\n"), 0o600); err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{"key", "$DIR/key", "./key:-x", "", "$", "$DIR", "${DIR}/key", "key}${file:key", "/dev/full", "a\x00b", "~/key", "../../../../etc/passwd:-"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, ref string) {
		e := expander{lookup: env("DIR", folder), folder: folder, files: map[string]*named{}}
		written := "${file:" + ref + "}"
		text, via, err := e.text(written)
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Fatalf("%q: the error tells what a file holds: %v", ref, err)
		}
		if err == nil && len(via) > 0 && len(e.files) == 0 {
			t.Fatalf("%q: gave %q without reading a file", ref, text)
		}
		for path := range e.files {
			if !filepath.IsAbs(path) {
				t.Fatalf("%q: reads %q, which is not absolute", ref, path)
			}
		}
		Named([]byte(written), filepath.Join(folder, "p.yaml"), env())
	})
}
