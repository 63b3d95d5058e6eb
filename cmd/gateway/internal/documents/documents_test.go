package documents_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dragoman-mt/dragoman/cmd/gateway/internal/documents"
	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/usage"
)

// A fake translates by putting the language before a text. It counts what it is asked.
type fake struct {
	mu       sync.Mutex
	calls    int
	asked    map[string]int
	fails    func(text string, times int) *core.Error
	rewrites func(text string) string
	flags    func(text string) []string
	each     func(calls int) // before each call
}

func (f *fake) Most() int { return 20 }

func (f *fake) Price(string) (usage.Price, bool) {
	return usage.Price{Input: 10, Output: 20, Characters: true, Currency: "EUR"}, true
}

func (f *fake) Ask(_ context.Context, source, target core.Language, around string, texts []string, told func(int, documents.Answer)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	if f.each != nil {
		f.each(f.calls)
	}
	if f.asked == nil {
		f.asked = map[string]int{}
	}
	all := make([]documents.Answer, len(texts))
	for i, text := range texts {
		if around != "" {
			text += " in " + around
		}
		key := string(target) + " " + text
		f.asked[key]++
		if f.fails != nil {
			if err := f.fails(text, f.asked[key]); err != nil {
				all[i].Err = err
				continue
			}
		}
		all[i] = documents.Answer{Text: "[" + string(target) + "] " + text, Provider: "fake"}
		if f.rewrites != nil {
			all[i].Text = f.rewrites(text)
		}
		if f.flags != nil {
			all[i].Flags = f.flags(text)
		}
	}
	for i, a := range all {
		told(i, a)
	}
}

// A desk is a folder with files, and what a job said.
type desk struct {
	t         *testing.T
	dir       string
	out, errs bytes.Buffer
}

func newDesk(t *testing.T, files map[string]string) *desk {
	d := &desk{t: t, dir: t.TempDir()}
	for name, content := range files {
		path := filepath.Join(d.dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

func (d *desk) path(name string) string { return filepath.Join(d.dir, name) }

func (d *desk) read(name string) string {
	d.t.Helper()
	content, err := os.ReadFile(d.path(name))
	if err != nil {
		d.t.Error(err)
	}
	return string(content)
}

func (d *desk) options() documents.Options {
	d.out.Reset()
	d.errs.Reset()
	return documents.Options{
		Source: "en", Targets: []core.Language{"es"}, Folder: d.path(".state"), In: strings.NewReader(""), Output: &d.out, Errs: &d.errs,
	}
}

func (d *desk) journals() int {
	names, _ := filepath.Glob(d.path(".state/*"))
	return len(names)
}

// TestAFolderIsTranslatedToWhereItIsSaid with all files of known formats below it, into
// several languages.
func TestAFolderIsTranslatedToWhereItIsSaid(t *testing.T) {
	d := newDesk(t, map[string]string{
		"site/index.html": "<p>Hello <b>you</b></p>\n", "site/a/strings.json": `{"k": "One"}`, "site/photo.png": "x", "site/.hidden/x.txt": "Hidden", "one.txt": "First\r\n\r\nLast",
	})
	o := d.options()
	o.Targets, o.Out = []core.Language{"es", "fr"}, d.path("out")
	if err := documents.New(o, []string{d.path("site"), d.path("one.txt")}).Translate(t.Context(), new(fake)); err != nil {
		t.Fatal(err, d.errs.String())
	}
	for name, want := range map[string]string{
		"out/es/index.html": "<p>[es] Hello <b>you</b></p>\n", "out/fr/a/strings.json": `{"k": "[fr] One"}`, "out/es/one.txt": "[es] First\r\n\r\n[es] Last",
	} {
		if got := d.read(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if all, _ := filepath.Glob(d.path("out/*/*")); len(all) != 6 {
		t.Errorf("%v was written", all)
	}

	o = d.options()
	o.Targets, o.Out = []core.Language{"es"}, d.path("{name}.{lang}{ext}")
	if err := documents.New(o, []string{d.path("one.txt")}).Translate(t.Context(), new(fake)); err != nil || d.read("one.es.txt") != "[es] First\r\n\r\n[es] Last" {
		t.Error(err, d.read("one.es.txt"))
	}
	o = d.options()
	o.InPlace = true
	if err := documents.New(o, []string{d.path("one.txt")}).Translate(t.Context(), new(fake)); err != nil || d.read("one.txt") != "[es] First\r\n\r\n[es] Last" {
		t.Error(err, d.read("one.txt"))
	}
	if info, err := os.Stat(d.path("one.txt")); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("its mode is %v, %v", info.Mode(), err)
	}
	if n := d.journals(); n != 0 {
		t.Errorf("%d journals are left", n)
	}
}

// TestABadFileIsToldWithItsPlaceAndNothingIsWrittenForIt while the others are translated.
func TestABadFileIsToldWithItsPlaceAndNothingIsWrittenForIt(t *testing.T) {
	d := newDesk(t, map[string]string{"bad.json": "{\"a\": \"x\",\n \"a\": \"y\"}", "good.txt": "One", "photo.png": "x", "note": "Two"})
	o := d.options()
	o.InPlace = true
	err := documents.New(o, []string{d.path("bad.json"), d.path("good.txt"), d.path("photo.png"), d.path("none.txt"), d.path("note")}).Translate(t.Context(), new(fake))
	if err != documents.ErrSaid {
		t.Error(err)
	}
	for _, want := range []string{`bad.json:2:2: the key "a" is there twice`, "photo.png: its ending is of no known format", "none.txt: no such file"} {
		if !strings.Contains(d.errs.String(), want) {
			t.Errorf("it said\n%s, and not %s", d.errs.String(), want)
		}
	}
	if d.read("bad.json") != "{\"a\": \"x\",\n \"a\": \"y\"}" || d.read("good.txt") != "[es] One" || d.read("note") != "[es] Two" {
		t.Errorf("%s %s %s", d.read("bad.json"), d.read("good.txt"), d.read("note"))
	}
	o = d.options()
	o.Out = d.path("{name}.out")
	d.read("good.txt")
	if err := documents.New(o, []string{d.path("good.txt"), d.path("good.txt")}).Translate(t.Context(), new(fake)); err != documents.ErrSaid || !strings.Contains(d.errs.String(), "would both be written to") {
		t.Error(err, d.errs.String())
	}
}

// TestAFileBeyondTheLimitIsRefusedUnread since it would fill the memory.
func TestAFileBeyondTheLimitIsRefusedUnread(t *testing.T) {
	d := newDesk(t, map[string]string{"big.txt": "x"})
	if err := os.Truncate(d.path("big.txt"), 2<<30); err != nil {
		t.Skip(err)
	}
	o := d.options()
	o.InPlace = true
	if err := documents.New(o, []string{d.path("big.txt")}).Translate(t.Context(), new(fake)); err != documents.ErrSaid || !strings.Contains(d.errs.String(), "has 2048 MiB; at most 64") {
		t.Error(err, d.errs.String())
	}
}

// TestARunThatWasKilledGoesOnWithoutAskingTwice: what was answered is on the disk at once.
func TestARunThatWasKilledGoesOnWithoutAskingTwice(t *testing.T) {
	var content strings.Builder
	for i := range 200 {
		fmt.Fprintf(&content, "Line %d of the text.\n", i)
	}
	d := newDesk(t, map[string]string{"a.txt": content.String()})
	o := d.options()
	o.InPlace = true
	ctx, kill := context.WithCancel(t.Context())
	first := &fake{each: func(calls int) {
		if calls == 5 {
			kill()
		}
	}}
	if err := documents.New(o, []string{d.path("a.txt")}).Translate(ctx, first); err == nil || !strings.Contains(err.Error(), "start it again to go on") {
		t.Fatal(err)
	}
	if d.read("a.txt") != content.String() || d.journals() != 1 {
		t.Errorf("the file has changed, or there are %d journals", d.journals())
	}
	// A kill may cut the last line off.
	names, _ := filepath.Glob(d.path(".state/*"))
	file, err := os.OpenFile(names[0], os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(file, `{"s":"Line 199 of the te`)
	file.Close()
	second := new(fake)
	o = d.options()
	o.InPlace = true
	if err := documents.New(o, []string{d.path("a.txt")}).Translate(t.Context(), second); err != nil {
		t.Fatal(err, d.errs.String())
	}
	for text, n := range second.asked {
		if n > 1 || first.asked[text] > 0 {
			t.Errorf("%s was asked for twice", text)
		}
	}
	if len(first.asked)+len(second.asked) != 200 || len(first.asked) == 0 || strings.Count(d.read("a.txt"), "[es] Line") != 200 || d.journals() != 0 {
		t.Errorf("%d and %d texts were asked for, %d journals are left", len(first.asked), len(second.asked), d.journals())
	}
}

// TestATextThatFailsStaysAndIsToldWithItsPlace and is asked for again before, if it may help.
func TestATextThatFailsStaysAndIsToldWithItsPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, map[string]string{"a.po": "msgid \"One\"\nmsgstr \"\"\n\nmsgid \"Two\"\nmsgstr \"\"\n\nmsgid \"Three\"\nmsgstr \"Tres\"\n\nmsgid \"Four\"\nmsgstr \"\"\n"})
		f := &fake{fails: func(text string, times int) *core.Error {
			switch {
			case text == "One":
				return &core.Error{Kind: core.ProviderRefused, Detail: "it would not"}
			case text == "Two" && times < 3:
				return &core.Error{Kind: core.RateLimited, RetryAfter: 5 * time.Second}
			}
			return nil
		}, flags: func(text string) []string {
			if text == "Four" {
				return []string{"placeholder_moved"}
			}
			return nil
		}}
		begin := time.Now()
		err := documents.New(d.options(), []string{d.path("a.po")}).Translate(t.Context(), f)
		if want := "msgid \"One\"\nmsgstr \"\"\n\nmsgid \"Two\"\nmsgstr \"[es] Two\"\n\nmsgid \"Three\"\nmsgstr \"Tres\"\n\nmsgid \"Four\"\nmsgstr \"[es] Four\"\n"; err != documents.ErrSaid || d.out.String() != want {
			t.Errorf("%v\n%s", err, d.out.String())
		}
		for _, want := range []string{"a.po:1:1: ", "it would not", "a.po:10:1: flagged placeholder_moved", "1 of 3 texts are flagged placeholder_moved", "1 of 3 texts were not translated"} {
			if !strings.Contains(d.errs.String(), want) {
				t.Errorf("it said\n%s and not %s", d.errs.String(), want)
			}
		}
		if time.Since(begin) != 10*time.Second {
			t.Errorf("it waited for %v", time.Since(begin))
		}
		if d.journals() != 1 {
			t.Error("what was answered is forgotten")
		}
	})
}

// TestAFileOfWhichNothingWasTranslatedIsNotWritten: a copy of the source under the name of a
// translation helps nobody. One of which a text was is, and the next run asks for the rest.
func TestAFileOfWhichNothingWasTranslatedIsNotWritten(t *testing.T) {
	refused := &fake{fails: func(text string, _ int) *core.Error {
		if strings.HasPrefix(text, "Good") {
			return nil
		}
		return &core.Error{Kind: core.ProviderRefused, Detail: "it would not"}
	}}
	d := newDesk(t, map[string]string{"none.txt": "Bad\n12\nWorse\n", "none.po": "msgid \"Bad\"\nmsgstr \"\"\n\nmsgid \"Kept\"\nmsgstr \"Guardado\"\n", "some.txt": "Good\nBad\n", "blank.txt": "12\n\n", "empty.txt": ""})
	o := d.options()
	o.Out = d.path("out")
	if err := documents.New(o, []string{d.path("none.txt"), d.path("none.po"), d.path("some.txt"), d.path("blank.txt"), d.path("empty.txt")}).Translate(t.Context(), refused); err != documents.ErrSaid {
		t.Error(err)
	}
	for _, name := range []string{"none.txt", "none.po"} {
		if _, err := os.Stat(d.path("out/" + name)); !os.IsNotExist(err) {
			t.Errorf("%s was written: %v", name, err)
		}
		if want := name + ": none of its texts was translated, so nothing is written"; !strings.Contains(d.errs.String(), want) {
			t.Errorf("it said\n%s and not %s", d.errs.String(), want)
		}
	}
	for name, want := range map[string]string{"some.txt": "[es] Good\nBad\n", "blank.txt": "12\n\n", "empty.txt": ""} {
		if got := d.read("out/" + name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	o = d.options()
	if err := documents.New(o, []string{d.path("none.txt")}).Translate(t.Context(), refused); err != documents.ErrSaid || d.out.Len() != 0 {
		t.Errorf("to standard output: %v, %q", err, d.out.String())
	}
}

// TestARunInVainIsStopped: with a wrong key no text of a thousand would be answered. What was
// answered before is kept; what an engine does not want of single texts stops nothing.
func TestARunInVainIsStopped(t *testing.T) {
	var content strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&content, "Line %d of the text.\n", i)
	}
	for kind, stops := range map[core.ErrorKind]bool{core.ProviderFailed: true, core.ProviderRefused: false} {
		d := newDesk(t, map[string]string{"a.txt": content.String()})
		f := &fake{fails: func(text string, _ int) *core.Error {
			if strings.HasPrefix(text, "Line 1 ") {
				return nil
			}
			return &core.Error{Kind: kind, Detail: "no such model"}
		}}
		o := d.options()
		o.InPlace = true
		err := documents.New(o, []string{d.path("a.txt")}).Translate(t.Context(), f)
		stopped := err != nil && strings.Contains(err.Error(), "texts in a row that failed") && strings.Contains(err.Error(), "no such model")
		if stopped != stops || stops && (len(f.asked) > 300 || d.read("a.txt") != content.String() || d.journals() != 1) || !stops && len(f.asked) != 1000 {
			t.Errorf("%s: %v, %d texts were asked for, %d journals", kind, err, len(f.asked), d.journals())
		}
	}
}

// TestMarksComeBackWhateverAnEngineMakesOfThem: then the texts between them are asked for.
func TestMarksComeBackWhateverAnEngineMakesOfThem(t *testing.T) {
	d := newDesk(t, map[string]string{"a.html": `<p>See <a href="x">the manual</a> &amp; <code>ls</code>.</p><p>5 &lt; 6 is true</p>`})
	f := &fake{rewrites: func(text string) string {
		return strings.ToUpper(text) // tags as well
	}}
	if err := documents.New(d.options(), []string{d.path("a.html")}).Translate(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	if got, want := d.out.String(), `<p>SEE <a href="x">THE MANUAL</a> &amp; <code>ls</code>.</p><p>5 &lt; 6 IS TRUE</p>`; got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}

// TestAMemoryIsTakenFromAndAddedTo so that no text is paid for twice.
func TestAMemoryIsTakenFromAndAddedTo(t *testing.T) {
	d := newDesk(t, map[string]string{"a.txt": "One\nTwo\nOne\n"})
	for run, asked := range []int{2, 0} {
		f := new(fake)
		o := d.options()
		o.Memory = d.path("m.tmx")
		if err := documents.New(o, []string{d.path("a.txt")}).Translate(t.Context(), f); err != nil || len(f.asked) != asked || d.out.String() != "[es] One\n[es] Two\n[es] One\n" {
			t.Errorf("run %d: %v, %d texts were asked for, %q", run, err, len(f.asked), d.out.String())
		}
	}
	if n := strings.Count(d.read("m.tmx"), "<tu>"); n != 2 {
		t.Errorf("%d units:\n%s", n, d.read("m.tmx"))
	}
}

// TestATextOfSeveralContextsHasATranslationInEach, as gettext tells messages apart by msgctxt;
// one that is there under a single context is asked for as it stands, with others in a call.
func TestATextOfSeveralContextsHasATranslationInEach(t *testing.T) {
	message := func(context, id string) string {
		if context != "" {
			context = "msgctxt \"" + context + "\"\n"
		}
		return "\n" + context + "msgid \"" + id + "\"\nmsgstr \"\"\n"
	}
	catalogue := "msgid \"\"\nmsgstr \"Content-Type: text/plain; charset=UTF-8\\n\"\n" +
		message("verb", "Open") + message("menu", "Save") + message("state\\tof a door", "Open") + message("", "Open") + message("", "Close")
	d := newDesk(t, map[string]string{"a.po": catalogue})
	o := d.options()
	o.Memory = d.path("m.tmx")
	ctx, kill := context.WithCancel(t.Context())
	first := &fake{each: func(calls int) {
		if calls == 2 {
			kill()
		}
	}}
	if err := documents.New(o, []string{d.path("a.po")}).Translate(ctx, first); err == nil {
		t.Fatal("it was not stopped")
	}
	second := new(fake)
	o = d.options()
	o.Memory = d.path("m.tmx")
	if err := documents.New(o, []string{d.path("a.po")}).Translate(t.Context(), second); err != nil {
		t.Fatal(err, d.errs.String())
	}
	for _, want := range []string{
		"msgctxt \"verb\"\nmsgid \"Open\"\nmsgstr \"[es] Open in verb\"", "msgctxt \"state\\tof a door\"\nmsgid \"Open\"\nmsgstr \"[es] Open in state of a door\"",
		"\n\nmsgid \"Open\"\nmsgstr \"[es] Open\"", "msgid \"Save\"\nmsgstr \"[es] Save\"", "msgid \"Close\"\nmsgstr \"[es] Close\"",
	} {
		if !strings.Contains(d.out.String(), want) {
			t.Errorf("%s is missing in\n%s", want, d.out.String())
		}
	}
	if n := len(first.asked) + len(second.asked); n != 5 || first.calls+second.calls != 3 {
		t.Errorf("%v and %v were asked for, in %d and %d calls", first.asked, second.asked, first.calls, second.calls)
	}
	if memory := d.read("m.tmx"); strings.Contains(memory, "Open in") || strings.Count(memory, "<tu>") != 3 {
		t.Errorf("the memory, which knows no contexts, holds\n%s", memory)
	}
}

// TestADryRunCountsAndAsksForNothing.
func TestADryRunCountsAndAsksForNothing(t *testing.T) {
	d := newDesk(t, map[string]string{"a.txt": "One\nTwo\nOne\n", "b.po": "msgid \"Four\"\nmsgstr \"Cuatro\"\n\nmsgid \"Three\"\nmsgstr \"\"\n"})
	f := new(fake)
	o := d.options()
	o.Offer = "fake"
	if err := documents.New(o, []string{d.path("a.txt"), d.path("b.po")}).Count(f); err != nil || f.calls != 0 {
		t.Error(err, f.calls)
	}
	words := strings.Join(strings.Fields(d.out.String()), " ")
	for _, want := range []string{"FILE TO TEXTS CHARACTERS KEPT KNOWN TO ASK", "a.txt es 3 9 0 1 2", "b.po es 1 5 1 0 1", "all 4 14 1 1 3", "about 0.0004 EUR with fake"} {
		if !strings.Contains(words, want) {
			t.Errorf("it says\n%s and not %s", d.out.String(), want)
		}
	}
	if d.journals() != 0 {
		t.Errorf("%d journals are left", d.journals())
	}
}

// TestLinesComeInTheirOrder as standard input gives them.
func TestLinesComeInTheirOrder(t *testing.T) {
	d := newDesk(t, nil)
	o := d.options()
	o.In = strings.NewReader("One\r\n\n  Two\nThree")
	if err := documents.Lines(t.Context(), o, new(fake)); err != nil || d.out.String() != "[es] One\r\n\n[es]   Two\n[es] Three" {
		t.Errorf("%v %q", err, d.out.String())
	}
}
