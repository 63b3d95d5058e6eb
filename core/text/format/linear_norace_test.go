//go:build !race

package format

import (
	"strings"
	"testing"
	"time"

	"github.com/dragoman-mt/dragoman/core/coretest/property"
)

// What is measured here is one goroutine's work: the race detector makes it many times as
// much, and finds nothing.

// A file of 400 KB is read in a moment, however its texts stand in it. What is looked through
// from its start for each text takes 10 s and more.
func TestALargeFileIsReadInATimeThatIsLinearInIt(t *testing.T) {
	const size = 400 << 10
	fill := func(unit string) string { return strings.Repeat(unit, size/len(unit)) }
	for name, content := range map[string]string{
		"many.properties":   fill("a.key = A text of one line\n"),
		"blank.properties":  fill("\n \n# a comment\na = b\n"),
		"folded.properties": fill("a = one \\\n  two \\\n  three\n"),
		"line.html":         "<html><body>" + fill("<p>One</p>") + "</body></html>",
		"line.xliff":        `<xliff version="1.2"><file source-language="en" target-language="es" datatype="plaintext" original="x"><body>` + fill(`<trans-unit id="1"><source>One</source></trans-unit>`) + "</body></file></xliff>",
		"line.json":         "[" + fill(`"One",`) + `"Two"]`,
		"many.po":           fill("msgid \"a\"\nmsgstr \"\"\n\n"),
		"many.srt":          fill("1\n00:00:01,000 --> 00:00:02,000\nOne\n\n"),
		"many.vtt":          "WEBVTT\n\n" + fill("00:01.000 --> 00:02.000\nOne\n\n"),
		"many.md":           fill("One [two](three) *four*\n\n"),
		"line.md":           fill("One [two](three) *four* "),
		"many.csv":          "source,es\n" + fill("one,\n"),
		"many.yaml":         fill("- One\n"),
		"comments.html":     "<html><body><p>" + fill("<!--") + "</p></body></html>",
		"open.html":         "<html><body><p>" + fill("<code >") + "</p></body></html>",
	} {
		before := property.ProcessorTime(t)
		document, err := Read(Of(name), []byte(content), Options{})
		texts := 0
		if err == nil {
			texts = len(document.Segments)
		}
		took := property.ProcessorTime(t) - before
		if t.Logf("%s: %v, %d texts, %v", name, took, texts, err); took > 2*time.Second {
			t.Errorf("%s: it took %v of a processor", name, took)
		}
	}
}
