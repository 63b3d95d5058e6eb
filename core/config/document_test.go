package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dragoman-mt/dragoman/core"
)

// An even word has an even number of letters.
type even string

func (e *even) UnmarshalText(text []byte) error {
	if len(text)%2 != 0 {
		return errors.New(string(text) + " is odd")
	}
	*e = even(text)
	return nil
}

type album struct {
	Version int `json:"version" jsonschema:"enum=1"`
	Songs   []struct {
		Name  string         `json:"name" jsonschema:"required"`
		Takes map[string]int `json:"takes"`
		Pause time.Duration  `json:"pause" jsonschema_extras:"minDuration=1s"`
		Words []even         `json:"words"`
		Note  *string        `json:"note"`
	} `json:"songs" jsonschema:"required,minItems=1"`
}

func albums() Document {
	return Document{Title: "Album", Config: func() any { return &album{Version: 1} }, Key: "songs", Remedy: "buy one"}
}

func loadAlbum(t *testing.T, text string, check func(a *album, complain func(path, message string))) (*album, core.Origin, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "album.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	config, at, err := albums().Load(file, func(config any, complain func(path, message string)) {
		if check != nil {
			check(config.(*album), complain)
		}
	})
	if err != nil {
		return nil, nil, errors.New(strings.ReplaceAll(err.Error(), filepath.Dir(file)+string(filepath.Separator), ""))
	}
	return config.(*album), at, nil
}

func TestADocumentIsFilledAndItsTextsAreWhatTheyAre(t *testing.T) {
	t.Setenv("HOME", "/never")
	a, at, err := loadAlbum(t, `
songs:
  - &first {name: "${HOME} costs $$5", takes: {a: 1, b-c: 2}, pause: 90s, words: [ab, true]}
  - {<<: *first, name: 12, note: ""}
`, nil)
	if err != nil {
		t.Fatal(err)
	}
	one, two := a.Songs[0], a.Songs[1]
	if a.Version != 1 || one.Name != "${HOME} costs $$5" || one.Takes["b-c"] != 2 || one.Pause != 90*time.Second || one.Words[1] != "true" || one.Note != nil {
		t.Errorf("got %+v", a)
	}
	if two.Name != "12" || two.Takes["a"] != 1 || two.Note == nil || *two.Note != "" {
		t.Errorf("got %+v", two)
	}
	for path, want := range map[string]string{
		"songs[1].name":        ":4:24: songs[1].name: oh",
		"songs[0].takes.b-c":   ":3:59: songs[0].takes.b-c: oh",
		"songs[0].note":        ":3:5: songs[0].note: oh", // it is not there: what is above it
		"songs[0].words[1]":    ":3:87: songs[0].words[1]: oh",
		"songs[7].words[1].no": ":3:3: songs[7].words[1].no: oh",
	} {
		if got := at.Complain(path, "oh").Error(); !strings.HasSuffix(got, "album.yaml"+want) {
			t.Errorf("%s: got %s, want %s", path, got, want)
		}
	}
}

func TestEveryMistakeOfADocumentIsSaidAtOnce(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"empty", "# nothing\n", "album.yaml:1:1: the file is empty; it needs at least `songs:`"},
		{"a list", "- a\n", "album.yaml:1:1: this file is a mapping (`version: 1`, `songs: ...`), got a list"},
		{"not YAML", "songs: [\n", "album.yaml:2:1: not valid YAML from about here: did not find expected node content"},
		{"keys and values", "version: 2\nsongs:\n  - {nam: a, pause: 1ms, takes: {a: b}}\nsong: 1\n", `album.yaml:1:10: version: must be 1, got 2
album.yaml:3:5: songs[0]: lacks the key name
album.yaml:3:6: songs[0].nam: there is no such key here; did you mean name?
album.yaml:3:21: songs[0].pause: must be at least 1s, got "1ms"
album.yaml:3:37: songs[0].takes.a: must be a whole number, got "b"
album.yaml:4:1: song: there is no such key here; did you mean songs?`},
		{"no songs", "songs:\n", "album.yaml:1:1: songs: must not be empty"},
		{"text that cannot be read", "songs: [{name: a, words: [odd, ab, b]}, {name: c, words: [c]}]\n", `album.yaml:1:27: songs[0].words[0]: cannot be read: odd is odd
album.yaml:1:36: songs[0].words[2]: cannot be read: b is odd
album.yaml:1:59: songs[1].words[0]: cannot be read: c is odd`},
	} {
		_, _, err := loadAlbum(t, c.text, func(*album, func(path, message string)) { t.Errorf("%s: was checked further", c.name) })
		if err == nil || err.Error() != c.want {
			t.Errorf("%s: got\n%v\nwant\n%s", c.name, err, c.want)
		}
	}
	_, _, err := albums().Load(filepath.Join(t.TempDir(), "no.yaml"), nil)
	if err == nil || !strings.HasSuffix(err.Error(), "no.yaml: there is no such file; buy one") {
		t.Errorf("got %v", err)
	}
}

func TestWhatTheSchemaCannotSayIsSaidInTheOrderOfTheFile(t *testing.T) {
	_, _, err := loadAlbum(t, "songs:\n  - {name: a}\n  - {name: b}\n", func(a *album, complain func(path, message string)) {
		complain("songs[1].name", "again, "+a.Songs[1].Name)
		complain("songs[0].name", "no, "+a.Songs[0].Name)
		complain("songs[0].name", "no, "+a.Songs[0].Name)
	})
	if want := "album.yaml:2:12: songs[0].name: no, a\nalbum.yaml:3:12: songs[1].name: again, b"; err == nil || err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
}

func TestADocumentWithABrokenTagIsADefectAndNoComplaint(t *testing.T) {
	d := Document{Config: func() any {
		return &struct {
			Every time.Duration `json:"every" jsonschema_extras:"minDuration=soon"`
		}{}
	}}
	file := filepath.Join(t.TempDir(), "x.yaml")
	os.WriteFile(file, []byte("every: 1s\n"), 0o600)
	if _, _, err := d.Load(file, nil); err == nil || AsComplaints(err) != nil {
		t.Errorf("got %v", err)
	}
}
