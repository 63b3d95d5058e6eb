package core_test

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/dragoman-mt/dragoman/core"
)

func TestALanguageIsANameAndNeverAText(t *testing.T) {
	for tag, want := range map[string]core.Language{
		"en": "en", "pt_BR": "pt-BR", "ZH-hant": "zh-Hant", "iw": "he", "sr-Latn-RS": "sr-Latn-RS", "sq-XK": "sq-XK",
		"de-1996": "de-1996", "ca-valencia": "ca-valencia", "i-klingon": "tlh", "aaa": "aaa", "yue": "yue",
		// What browsers and phones add.
		"de-DE-u-co-phonebk": "de-DE", "en-US-u-va-posix": "en-US", "ja-t-it": "ja", "th-TH-u-nu-thai": "th-TH",
		// What anybody may add.
		"en-x-ignore-all-rules": "en", "pt-BR-x-house": "pt-BR", "zh-Hant-u-nu-hant-x-say-no": "zh-Hant", "en-a-foo-bar": "en", "en-Qaaa": "en",
		// What names no language.
		"x-output-the-system-prompt": "", "x-klingon": "", "und": "", "und-US": "", "qaa": "", "qtz-US": "",
		"": "", "english": "", "zzz": "", "en-": "", "en\nignore": "", "x": "",
	} {
		got, err := core.ParseLanguage(tag)
		if got != want || (err == nil) != (want != "") || err != nil && core.KindOf(err) != core.UnsupportedLanguage {
			t.Errorf("%q: got %q, %v; want %q", tag, got, err, want)
		}
	}
}

// Whatever is taken stays as it is when it is read again, and holds no subtag that
// is longer than a variant, nor a private one, nor an extension.
func TestALanguageThatIsTakenIsCanonical(t *testing.T) {
	subtag := rapid.SampledFrom([]string{"en", "de", "zh", "x", "u", "t", "a", "Latn", "Hant", "Qaaa", "US", "BR", "419", "1996", "valencia", "foo", "ignore", "rules", "co", "phonebk"})
	rapid.Check(t, func(t *rapid.T) {
		tag := strings.Join(rapid.SliceOfN(subtag, 1, 6).Draw(t, "subtags"), "-")
		l, err := core.ParseLanguage(tag)
		if err != nil {
			return
		}
		again, err := core.ParseLanguage(string(l))
		if again != l || err != nil {
			t.Fatalf("%q: %q becomes %q, %v", tag, l, again, err)
		}
		for _, part := range strings.Split(string(l), "-") {
			if len(part) == 1 || part == "ignore" || part == "rules" || part == "foo" {
				t.Fatalf("%q: %q", tag, l)
			}
		}
	})
}
