package glossary

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/dragoman-mt/dragoman/core"
)

func made(t testing.TB, table string) *Glossary {
	t.Helper()
	g, err := Read("test", "test.tsv", []byte(table))
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestTermsAreFoundAsWholeWordsInAnyCase(t *testing.T) {
	for name, c := range map[string]struct {
		table, text string
		want        []core.Pair
	}{
		"a word":                          {"en\tes\ncar\tcoche\n", "The car, a red Car; carpets, scar, car-park.", []core.Pair{{Source: "car", Target: "coche"}, {Source: "Car", Target: "coche"}}},
		"several words, other blanks":     {"en\tes\nNew York\tNueva York\n", "in new\u00a0  york", []core.Pair{{Source: "new\u00a0  york", Target: "Nueva York"}}},
		"the longer one":                  {"en\tes\nbank\tbanco\nbank account\tcuenta\n", "A bank account at the bank.", []core.Pair{{Source: "bank account", Target: "cuenta"}, {Source: "bank", Target: "banco"}}},
		"the first of two that overlap":   {"en\tes\na b\t1\nb c\t2\n", "a b c", []core.Pair{{Source: "a b", Target: "1"}}},
		"an abbreviation as it is":        {"en\tes\nIT\tinformática\n", "it is IT", []core.Pair{{Source: "IT", Target: "informática"}}},
		"an abbreviation beside a word":   {"en\tes\nus\tnosotros\nUS\tEE. UU.\n", "us in the US", []core.Pair{{Source: "us", Target: "nosotros"}, {Source: "US", Target: "EE. UU."}}},
		"other bytes of the same letters": {"es\ten\ncaf\u00e9\tcoffee\n", "Un cafe\u0301.", []core.Pair{{Source: "cafe\u0301", Target: "coffee"}}},
		"a mark makes another word":       {"es\ten\nano\tanus\n", "un año", nil},
		"Turkish capitals":                {"tr\ten\nistanbul\tIstanbul\n", "İstanbul", []core.Pair{{Source: "İstanbul", Target: "Istanbul"}}},
		"behind an apostrophe":            {"fr\ten\nhôtel\thotel\n", "L'hôtel", []core.Pair{{Source: "hôtel", Target: "hotel"}}},
		"signs are a part of it":          {"en\tes\nC++\tC++\n", "In C++ and C.", []core.Pair{{Source: "C++", Target: "C++"}}},
		"Cyrillic":                        {"ru\ten\nдоговор\tcontract\n", "Договор и договоры", []core.Pair{{Source: "Договор", Target: "contract"}}},
		"Chinese, without blanks":         {"zh\ten\n服务器\tserver\n", "请重启服务器。", []core.Pair{{Source: "服务器", Target: "server"}}},
		"Japanese, katakana are a word":   {"ja\ten\nライン\tline\n", "オンラインのライン", []core.Pair{{Source: "ライン", Target: "line"}}},
		"Korean, with a particle":         {"ko\ten\n서울\tSeoul\n울에\tno\n", "서울에서 만나요", []core.Pair{{Source: "서울", Target: "Seoul"}}},
		"Thai":                            {"th\ten\nน้ำ\twater\n", "ขอน้ำหน่อย", []core.Pair{{Source: "น้ำ", Target: "water"}}},
		"Arabic":                          {"ar\ten\nعقد\tcontract\n", "هذا عقد جديد", []core.Pair{{Source: "عقد", Target: "contract"}}},
		"an identifier is one word":       {"en\tes\nmax\tmáx\n", "max_size", nil},
		"nothing":                         {"en\tes\ncar\tcoche\n", " … ", nil},
	} {
		g := made(t, c.table)
		if diff := cmp.Diff(c.want, g.For(g.languages[0], g.languages[1]).Find(c.text)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestATextThatIsATermIsAnsweredFromTheGlossary(t *testing.T) {
	table := made(t, "en\tde\nserver\tServer\nsave\tspeichern\nice cream\teis\nIT\tEDV\nThe Hague\tDen Haag\n").For("en", "de")
	for text, want := range map[string]string{
		"save": "speichern", "Save": "Speichern", "SAVE": "SPEICHERN", "Ice  cream": "Eis", "IT": "EDV", "the hague": "Den Haag", "SERVER": "SERVER",
		"it": "", "save it": "", "Save!": "", "": "", "ice": "",
	} {
		if got, ok := table.Whole(text, "de"); got != want || ok != (want != "") {
			t.Errorf("%q: %q, %v; want %q", text, got, ok, want)
		}
	}
}

// TestTheNearestLanguageHolds for the languages of a call and those of a glossary.
func TestTheNearestLanguageHolds(t *testing.T) {
	g := made(t, "en\tpt\tpt-BR\tzh-Hans\tde-AT\nbus\tautocarro\tônibus\t巴士\tBus\ntrain\tcomboio\t\t火车\tZug\n")
	for _, c := range []struct {
		source, target core.Language
		text, want     string
	}{
		{"en", "pt", "bus", "autocarro"}, {"en", "pt-BR", "bus", "ônibus"}, {"en", "pt-PT", "bus", "autocarro"}, {"en-GB", "pt-BR", "train", "comboio"},
		{"en", "zh-CN", "bus", "巴士"}, {"en", "zh-Hant", "bus", ""}, {"en", "zh-TW", "bus", ""}, {"en", "de", "train", "Zug"}, {"en", "de-CH", "train", ""},
		{"pt-BR", "en", "ônibus", "bus"}, {"pt-BR", "en", "comboio", "train"}, {"", "en", "ônibus", "bus"}, {"en", "fr", "bus", ""}, {"", "pt-BR", "train", "comboio"},
	} {
		got := ""
		if table := g.For(c.source, c.target); table != nil {
			got, _ = table.Whole(c.text, c.target)
		}
		if got != c.want {
			t.Errorf("%s to %s: %q is %q, want %q", c.source, c.target, c.text, got, c.want)
		}
	}
	if g.For("en", "pt") != g.For("en", "pt-PT") {
		t.Error("the same terms are kept twice")
	}
}

// TestATermThatAnEngineIgnoredIsFound in languages that inflect, and one that it heeded is not
// taken for missed.
func TestATermThatAnEngineIgnoredIsFound(t *testing.T) {
	for _, c := range []struct {
		target core.Language
		term   string
		heeded []string
		missed []string
	}{
		{"en", "contract", []string{"The contracts are signed.", "Contract-based work", "CONTRACT"}, []string{"The agreement is signed.", "The con is on."}},
		{"en", "policy", []string{"Our policies apply."}, []string{"Our rules apply."}},
		{"de", "Vertrag", []string{"Die Verträge sind da.", "des Vertrags", "den Verträgen", "Der Kaufvertrag gilt."}, []string{"Die Vereinbarung gilt.", "Er trägt es."}},
		{"de", "Haus", []string{"Die Häuser stehen leer."}, []string{"Das Gebäude steht leer."}},
		{"de", "Straße", []string{"DIE STRASSEN"}, []string{"Der Weg"}},
		{"es", "clave de acceso", []string{"Las claves de acceso caducan."}, []string{"La contraseña caduca.", "La clave caduca."}},
		{"es", "traducción", []string{"Las traducciones llegan."}, []string{"Las versiones llegan."}},
		{"ru", "договор", []string{"Он подписал договор.", "с договорами", "по договору"}, []string{"Он подписал соглашение."}},
		{"ru", "платёж", []string{"до платежа", "платежи"}, []string{"до оплаты"}},
		{"pl", "umowa", []string{"Podpisał umowę.", "w umowie", "tych umów"}, []string{"Podpisał kontrakt."}},
		{"cs", "smlouva", []string{"podle smlouvy", "ve smlouvě"}, []string{"podle dohody"}},
		{"fi", "sopimus", []string{"sopimuksen mukaan", "sopimuksissamme", "vuokrasopimus"}, []string{"sitoumuksen mukaan"}},
		{"hu", "szerződés", []string{"a szerződésekkel", "munkaszerződés"}, []string{"a megállapodásokkal"}},
		{"tr", "sözleşme", []string{"sözleşmelerimizde", "Sözleşmeyi imzaladı."}, []string{"anlaşmayı imzaladı"}},
		{"tr", "kitap", []string{"kitabı okudum"}, []string{"dergiyi okudum"}},
		{"ar", "عقد", []string{"وقع العقد", "بالعقد"}, []string{"وقع الاتفاق"}},
		{"he", "חוזה", []string{"בחוזה", "החוזים"}, []string{"ההסכם"}},
		{"ja", "サーバー", []string{"サーバーを再起動する"}, []string{"計算機を再起動する"}},
		{"zh", "服务器", []string{"请重启服务器。"}, []string{"请重启主机。"}},
		{"ko", "서버", []string{"서버를 다시 시작"}, []string{"컴퓨터를 다시 시작"}},
		{"th", "สัญญา", []string{"ลงนามในสัญญาแล้ว"}, []string{"ลงนามในข้อตกลงแล้ว"}},
		{"en", "→", []string{"a → b"}, []string{"a - b"}},
		{"en", "API 2", []string{"the API-2 is"}, []string{"the API 3 is"}},
	} {
		terms := []core.Pair{{Source: "x", Target: c.term}}
		for _, text := range c.heeded {
			if len(Missed(terms, c.target, text)) != 0 {
				t.Errorf("%s: %q is in %q, and was missed", c.target, c.term, text)
			}
		}
		for _, text := range c.missed {
			if len(Missed(terms, c.target, text)) != 1 {
				t.Errorf("%s: %q is not in %q, and was not missed", c.target, c.term, text)
			}
		}
	}
}

func TestTheVersionChangesWithTheTerms(t *testing.T) {
	a, b := made(t, "en\tes\ncar\tcoche\n"), made(t, "en\tes\r\n\r\n car \tcoche\r\n")
	c := made(t, "en\tes\ncar\tauto\n")
	if a.Version == "" || a.Version != b.Version || a.Version == c.Version {
		t.Errorf("versions %s, %s, %s: the first two have the same terms", a.Version, b.Version, c.Version)
	}
	if j, k := Join(a, c), Join(c, a); j.Version == k.Version || j.Version == a.Version {
		t.Errorf("joined %s and %s", j.Version, k.Version)
	}
	if got, _ := Join(a, c, made(t, "en\tes\nbus\tguagua\n")).For("en", "es").Whole("car", "es"); got != "coche" {
		t.Errorf("of the joined ones %q holds", got)
	}
}

// TestWhatIsFoundStandsInTheText, whatever terms and text are: each of the terms is written
// there, and none that stands there by itself is passed over.
func TestWhatIsFoundStandsInTheText(t *testing.T) {
	word := rapid.StringOfN(rapid.SampledFrom([]rune("abABéе漢カ서1-'")), 1, 3, -1)
	rapid.Check(t, func(t *rapid.T) {
		var terms []core.Pair
		for _, term := range rapid.SliceOfN(word, 1, 8).Draw(t, "terms") {
			terms = append(terms, core.Pair{Source: term, Target: "x"})
		}
		g, err := New("", "en", "es", terms)
		if err != nil {
			t.Fatal(err)
		}
		text := strings.Join(rapid.SliceOfN(word, 0, 8).Draw(t, "words"), rapid.SampledFrom([]string{" ", "", "\u00a0"}).Draw(t, "between"))
		table := g.For("en", "es")
		found := table.Find(text)
		for _, f := range found {
			if !strings.Contains(text, f.Source) {
				t.Fatalf("%q is not in %q", f.Source, text)
			}
		}
		alone := terms[0].Source
		if len(table.Find(alone)) == 0 {
			t.Fatalf("%q is not found in itself", alone)
		}
		if whole, ok := table.Whole(alone, "es"); !ok {
			t.Fatalf("%q is not all of itself: %q", alone, whole)
		}
		if marked := Mark(text, found, func(term, _ string) string { return term }); marked != text {
			t.Fatalf("marked with nothing %q is %q", text, marked)
		}
	})
}

// many is a glossary of n terms, of one or two words, in the manner of a company's.
func many(n int) (*Glossary, []string) {
	random := rand.New(rand.NewPCG(1, 2))
	syllables := strings.Fields("ka ter mo lin gra po ster vi don ul es per con tra fi ble nu sor de man")
	word := func() (s string) {
		for range 2 + random.IntN(3) {
			s += syllables[random.IntN(len(syllables))]
		}
		return s
	}
	var terms []core.Pair
	var words []string
	for i := range n {
		term := word()
		words = append(words, term)
		if i%2 == 0 {
			term += " " + word()
		}
		terms = append(terms, core.Pair{Source: term, Target: word()})
	}
	g, err := New("many", "en", "es", terms)
	if err != nil {
		panic(err)
	}
	return g, words
}

func BenchmarkTenThousandTerms(b *testing.B) {
	g, words := many(10_000)
	table := g.For("en", "es")
	var text strings.Builder
	for i := 0; text.Len() < 200; i++ {
		if i%4 == 3 {
			fmt.Fprintf(&text, "%s ", words[i])
		} else {
			text.WriteString("the other words ")
		}
	}
	for _, size := range []int{1, 10} {
		source := strings.Repeat(text.String(), size)
		translation := source
		b.Run(fmt.Sprintf("%d letters", utf8.RuneCountInString(source)), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, ok := table.Whole(source, "es"); ok {
					b.Fatal("it is no term")
				}
				found := table.Find(source)
				if len(found) == 0 {
					b.Fatal("no term was found")
				}
				Missed(found, "es", translation)
			}
		})
	}
}
