package detect_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/text/detect"
)

// TestSentencesAreTold for the scripts and the languages that clients ask for most.
func TestSentencesAreTold(t *testing.T) {
	for text, want := range map[string]core.Language{
		"The weather is very nice today, and we are going to walk along the river with the children.": "en",
		"El tiempo es muy bueno hoy y vamos a caminar por el río con los niños de la escuela.":        "es",
		"Das Wetter ist heute sehr schön, und wir gehen mit den Kindern am Fluss spazieren.":          "de",
		"Le temps est très beau aujourd'hui et nous allons nous promener le long de la rivière.":      "fr",
		"Сегодня очень хорошая погода, и мы пойдём гулять вдоль реки с детьми.":                       "ru",
		"今日はとても天気がいいので、子供たちと川沿いを散歩します。":                                                               "ja",
		"오늘은 날씨가 아주 좋아서 아이들과 함께 강을 따라 걸을 것입니다.":                                                       "ko",
		"今天天气很好，我们要和孩子们一起沿着河边散步。":                                                                     "zh",
	} {
		if g := detect.Of(text); g.Language != want || !g.Sure() {
			t.Errorf("%q: %+v, want %s", text, g, want)
		}
	}
}

func TestWhatSaysNothingIsUnknown(t *testing.T) {
	for _, text := range []string{"", "   ", "12:30", "🔤 🎉", "…!?"} {
		if g := detect.Of(text); g.Language != "" || g.Sure() {
			t.Errorf("%q: %+v", text, g)
		}
	}
}

func FuzzOf(f *testing.F) {
	f.Add("Good morning")
	f.Add("да")
	f.Add(strings.Repeat("日本", 2000))
	f.Fuzz(func(t *testing.T, text string) {
		g := detect.Of(text)
		if !(g.Confidence >= 0 && g.Confidence <= 1) {
			t.Errorf("%+v", g)
		}
		if again := detect.Of(text); again != g {
			t.Errorf("%+v, and then %+v", g, again)
		}
	})
}

// TestOneTextIsAlwaysGuessedTheSame, also where two languages fit as well: the guess is a
// part of what a translation is kept under.
func TestOneTextIsAlwaysGuessedTheSame(t *testing.T) {
	for _, text := range []string{"ди", "науб", "ади", "нажл", "наб", "ok", "ça"} {
		g := detect.Of(text)
		for range 20 {
			if again := detect.Of(text); again != g {
				t.Errorf("%.20q: %+v, and then %+v", text, g, again)
			}
		}
	}
}

// TestAShortTextIsNoRareLanguage: three letters fit the rarest as well as any.
func TestAShortTextIsNoRareLanguage(t *testing.T) {
	for text, want := range map[string]core.Language{"Good morning": "en", "Bonjour": "fr", "Dzień dobry": "pl", "OK": "en"} {
		if got := detect.Of(text).Language; got != want {
			t.Errorf("%q seems to be %s, want %s", text, got, want)
		}
	}
	for _, text := range []string{"Bye", "Hola", "Ciao", "Obrigado", "Save file", "x"} {
		if got := detect.Of(text).Language; !slices.Contains(detect.Usual(), string(got)) {
			t.Errorf("%q seems to be %s", text, got)
		}
	}
}
