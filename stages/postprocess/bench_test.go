package postprocess

import (
	"strings"
	"testing"

	"github.com/dragoman-mt/dragoman/core"
)

func BenchmarkLook(b *testing.B) {
	long := pair{source: "en", target: "de",
		text:   "The committee met on Tuesday to discuss the budget for the coming year. After a long debate, the members agreed to spend more on schools and less on roads.",
		answer: "Das Komitee traf sich am Dienstag, um über den Haushalt des kommenden Jahres zu beraten. Nach langer Debatte beschlossen die Mitglieder, mehr für Schulen und weniger für Straßen auszugeben."}
	for _, bench := range []struct {
		name string
		pair pair
	}{
		{"Short", pair{source: "en", target: "es", text: "Good morning. The new car is very fast.", answer: "Buenos días. El coche nuevo es muy rápido."}},
		{"Sentence", long},
		{"Page", pair{source: "en", target: "de", text: strings.Repeat(long.text+" 1\n", 10) + "End", answer: strings.Repeat(long.answer+" 1\n", 10) + "Ende"}},
		{"Japanese", pair{source: "en", target: "ja", text: "To install the application, download the package from our website, open it and follow the instructions on the screen.", answer: "アプリケーションをインストールするには、当社のウェブサイトからパッケージをダウンロードして開き、画面の指示に従ってください。"}},
		{"Russian", pair{source: "en", target: "ru", text: "The museum was founded in 1872 by a group of merchants who wanted to show their collections to the public.", answer: "Музей был основан в 1872 году группой купцов, которые хотели показать свои коллекции публике."}},
	} {
		b.Run(bench.name, func(b *testing.B) {
			s := New("postprocess", Config{})
			req, res := bench.pair.request(), &core.Result{Text: bench.pair.answer}
			b.ReportAllocs()
			b.SetBytes(int64(len(res.Text)))
			for b.Loop() {
				if out, _ := s.look(req, res, ""); out != res {
					b.Fatal("the answer was changed")
				}
			}
		})
	}
}
