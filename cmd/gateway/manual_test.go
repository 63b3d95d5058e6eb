package gateway

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func TestTheManualHasAPageForEveryCommandAndNothingOfATextIsTakenForARequest(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("SOURCE_DATE_EPOCH", "86400")
	root := program{}.root()
	root.SetArgs([]string{"manual", dir})
	if err := root.ExecuteContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	request := regexp.MustCompile(`^\.(TH|SH|TP|B|BR|nf|fi)( |$)`)
	pages := 0
	err := eachPage(root, func(c *cobra.Command) error {
		pages++
		raw, err := os.ReadFile(filepath.Join(dir, pageOf(c)+".1"))
		if err != nil {
			return err
		}
		page := string(raw)
		if !strings.Contains(page, `1 "1970-01-02"`) || !strings.Contains(page, roff(c.Short)) {
			t.Errorf("%s:\n%s", pageOf(c), page)
		}
		for line := range strings.Lines(page) {
			line = strings.TrimRight(line, "\n")
			if (strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'")) && !request.MatchString(line) {
				t.Errorf("%s: %s", pageOf(c), line)
			}
		}
		return nil
	})
	if err != nil || pages < 15 {
		t.Errorf("%d pages, %v", pages, err)
	}
	for text, want := range map[string]string{".so /etc/passwd": `\&.so /etc/passwd`, "'br": `\&'br`, `a\fBb`: `a\efBb`, "--x": `\-\-x`} {
		if got := roff(text); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}
