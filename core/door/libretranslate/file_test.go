package libretranslate_test

import (
	"archive/zip"
	"bytes"
	"io"
	"mime/multipart"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dragoman-mt/dragoman/core/door"
	"github.com/dragoman-mt/dragoman/core/door/doortest"
)

// upload returns a multipart body, and its type. A field that is called file has the name
// and the content of a file.
func upload(t *testing.T, fields ...string) (body, kind string) {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for i := 0; i < len(fields); i += 2 {
		if fields[i] != "file" {
			_ = w.WriteField(fields[i], fields[i+1])
			continue
		}
		name, content, _ := strings.Cut(fields[i+1], "|")
		part, err := w.CreateFormFile("file", name)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = part.Write([]byte(content))
	}
	_ = w.Close()
	return b.String(), w.FormDataContentType()
}

// TestFilesAreTranslated and fetched where the answer says.
func TestFilesAreTranslated(t *testing.T) {
	base := serve(t, door.Defaults(), doortest.Pseudo(new(atomic.Int64)))
	for _, c := range []struct{ name, content, want string }{
		{"a.txt", "One.\r\n\n  Two.\nThree", "[es] One.\r\n\n  [es] Two.\n[es] Three"},
		{"../b.HTML", `<p title="x">One &amp; <b>two</b></p><script>x</script>`, `<p title="[es] x">[es] One &amp; <b>two</b></p><script>x</script>`},
	} {
		body, kind := upload(t, "file", c.name+"|"+c.content, "source", "en", "target", "es", "api_key", "")
		res, answer := doortest.Do(t, "POST", base+"/translate_file", body, "Content-Type", kind)
		at, ok := strings.CutPrefix(answer, `{"translatedFileUrl":"`)
		at, _, _ = strings.Cut(at, `"`)
		if res.StatusCode != 200 || !ok || !strings.HasPrefix(at, base+"/download_file/") {
			t.Fatalf("%s: %d %s", c.name, res.StatusCode, answer)
		}
		res, got := doortest.Do(t, "GET", at, "")
		if name := strings.TrimPrefix(c.name, "../"); res.StatusCode != 200 || got != c.want || !strings.Contains(res.Header.Get("Content-Disposition"), name) {
			t.Errorf("%s: %d %v %q, want %q", c.name, res.StatusCode, res.Header, got, c.want)
		}
	}
	for _, c := range []struct {
		fields []string
		want   string
	}{
		{[]string{"file", "a.txt|x", "target", "es"}, "missing source parameter"},
		{[]string{"file", "a.txt|x", "source", "en"}, "missing target parameter"},
		{[]string{"source", "en", "target", "es"}, "missing file parameter"},
		{[]string{"file", "a.txt|", "source", "en", "target", "es"}, "empty file"},
		{[]string{"file", "a.odt|x", "source", "en", "target", "es"}, "file format not supported"},
		{[]string{"file", "a.docx|x", "source", "en", "target", "es"}, "this is no docx"},
		{[]string{"file", "a.txt|\xff", "source", "en", "target", "es"}, "1:1: the file is not UTF-8"},
		{[]string{"file", "a.txt|x", "source", "en", "target", "zz-zz-zz-1"}, "zz-zz-zz-1 is not supported"},
	} {
		body, kind := upload(t, c.fields...)
		if res, answer := doortest.Do(t, "POST", base+"/translate_file", body, "Content-Type", kind); res.StatusCode != 400 || !strings.Contains(answer, c.want) {
			t.Errorf("%v: %d %s", c.fields, res.StatusCode, answer)
		}
	}
	if _, answer := doortest.Do(t, "GET", base+"/frontend/settings", ""); !strings.Contains(answer, `"supportedFilesFormat":[".arb",".ass",`) {
		t.Errorf("%s", answer)
	}
}

// TestALinkHoldsOverARestart of the gateway, for a file of text and for one that is packed: its
// client may fetch it later. One that is too old is gone from the disk too.
func TestALinkHoldsOverARestart(t *testing.T) {
	folder := t.TempDir()
	base := serveFrom(t, folder, door.Defaults(), doortest.Pseudo(new(atomic.Int64)))
	var word bytes.Buffer
	archive := zip.NewWriter(&word)
	for _, f := range [][2]string{
		{"[Content_Types].xml", `<Types><Override PartName="/word/document.xml" ContentType="application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"/></Types>`},
		{"word/document.xml", `<w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"><w:p><w:r><w:t>One two</w:t></w:r></w:p></w:document>`},
	} {
		w, err := archive.Create(f[0])
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(w, f[1])
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	links := map[string]string{}
	for name, content := range map[string]string{"a.txt": "One.", "b.docx": word.String()} {
		body, kind := upload(t, "file", name+"|"+content, "source", "en", "target", "es")
		res, answer := doortest.Do(t, "POST", base+"/translate_file", body, "Content-Type", kind)
		_, at, ok := strings.Cut(answer, "/download_file/")
		if res.StatusCode != 200 || !ok {
			t.Fatalf("%s: %d %s", name, res.StatusCode, answer)
		}
		links[name], _, _ = strings.Cut(at, `"`)
	}
	again := serveFrom(t, folder, door.Defaults(), doortest.Pseudo(new(atomic.Int64)))
	if res, got := doortest.Do(t, "GET", again+"/download_file/"+links["a.txt"], ""); res.StatusCode != 200 || got != "[es] One." {
		t.Errorf("%d %q", res.StatusCode, got)
	}
	res, got := doortest.Do(t, "GET", again+"/download_file/"+links["b.docx"], "")
	packed, err := zip.NewReader(strings.NewReader(got), int64(len(got)))
	if err != nil || res.StatusCode != 200 {
		t.Fatalf("%d %v", res.StatusCode, err)
	}
	in, err := packed.Open("word/document.xml")
	if err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(in); err != nil || !strings.Contains(string(text), ">[es] One two</w:t>") {
		t.Errorf("%s %v", text, err)
	}
	old := time.Now().Add(-2 * time.Hour)
	if err := os.Chtimes(filepath.Join(folder, links["a.txt"]), old, old); err != nil {
		t.Fatal(err)
	}
	late := serveFrom(t, folder, door.Defaults(), doortest.Pseudo(new(atomic.Int64)))
	if res, _ := doortest.Do(t, "GET", late+"/download_file/"+links["a.txt"], ""); res.StatusCode != 404 {
		t.Errorf("one that is too old: %d", res.StatusCode)
	}
	if _, err := os.Stat(filepath.Join(folder, links["a.txt"])); !os.IsNotExist(err) {
		t.Errorf("it is still there: %v", err)
	}
}

// TestLibreTranslatesClientsRunUnmodified with nothing but another address.
func TestLibreTranslatesClientsRunUnmodified(t *testing.T) {
	base := serve(t, door.Defaults(), doortest.Pseudo(new(atomic.Int64)))
	got := doortest.Node(t, []string{"translate@3.1.0", "libretranslate@1.0.1"}, `
import {Translate} from 'translate';
import libre from 'libretranslate';
const translate = Translate({engine: 'libre', url: process.env.BASE + '/translate'});
console.log(await translate('Hello & good morning', {from: 'en', to: 'es'}));
console.log(await libre.translate({query: 'Good evening', source: 'en', target: 'es', apiurl: process.env.BASE}));
console.log(await libre.translate({query: '<p>Hi</p>', target: 'es', format: 'html', apiurl: process.env.BASE}));
await libre.translate({query: 'x', target: 'zz', apiurl: process.env.BASE}).catch(e => console.log(e.constructor.name));
`, "BASE="+base)
	if want := "[es] Hello & good morning\n[es] Good evening\n<p>[es] Hi</p>\nTypeError\n"; got != want {
		t.Errorf("it printed\n%s\nwant\n%s", got, want)
	}
}
