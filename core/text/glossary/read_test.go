package glossary

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/dragoman-mt/dragoman/core"
)

const tbx2008 = `<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE martif SYSTEM "TBXcoreStructV02.dtd">
<martif type="TBX" xml:lang="en"><martifHeader><fileDesc/></martifHeader><text><body>
 <termEntry id="1"><descrip type="subjectField">cars</descrip>
  <langSet xml:lang="en"><tig><term>car</term></tig><tig><term>automobile</term><termNote type="administrativeStatus">deprecatedTerm-admn-sts</termNote></tig></langSet>
  <langSet xml:lang="de"><ntig><termGrp><term>der  <hi>Wagen</hi></term></termGrp></ntig><tig><term>Auto</term></tig></langSet>
 </termEntry>
 <termEntry id="2"><langSet xml:lang="en"><tig><term>alone</term></tig></langSet></termEntry>
</body></text></martif>`

const tbx2019 = `<tbx style="dca" type="TBX-Basic" xml:lang="en" xmlns="urn:iso:std:iso:30042:ed-2"><text><body>
 <conceptEntry id="1">
  <langSec xml:lang="en"><termSec><term>car</term></termSec><termSec><term>automobile</term><termNote type="administrativeStatus">supersededTerm-admn-sts</termNote></termSec></langSec>
  <langSec xml:lang="de"><termSec><term>der Wagen</term></termSec><termSec><term>Auto</term></termSec></langSec>
 </conceptEntry></body></text></tbx>`

func TestEveryKindOfFileIsRead(t *testing.T) {
	for file, content := range map[string]string{
		"a.tsv": "\ufeffen\tde\r\ncar\tder Wagen\r\n\r\nautomobile\tder Wagen\r\n",
		"a.csv": "en,de\n\"car\",\"der Wagen\"\nautomobile,der Wagen",
		"b.CSV": "en;de\ncar;der Wagen\n\"automobile\";der Wagen\n",
		"a.tbx": tbx2008, "b.tbx": tbx2019,
	} {
		g, err := Read("g", file, []byte(content))
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		table := g.For("en", "de")
		for text, want := range map[string]string{"car": "der Wagen", "automobile": "der Wagen"} {
			if got, _ := table.Whole(text, "de"); got != want {
				t.Errorf("%s: %s is %q, want %q", file, text, got, want)
			}
		}
		if got, _ := g.For("de", "en").Whole("der Wagen", "en"); got != "car" {
			t.Errorf("%s: back it is %q", file, got)
		}
		if diff := cmp.Diff([]core.Language{"en", "de"}, g.Languages()); diff != "" {
			t.Errorf("%s: %s", file, diff)
		}
	}
	g, err := Read("g", "a.csv", []byte("en,de,fr\n\"a, \"\"b\"\"\",x,\nc,,z\n"))
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := g.For("en", "de").Whole(`a, "b"`, "de"); got != "x" {
		t.Errorf("quotation marks: %q", got)
	}
	if table := g.For("de", "fr"); table != nil {
		t.Errorf("no row has German and French, and there are %d terms", table.size)
	}
}

func TestAMistakeIsToldWithItsPlace(t *testing.T) {
	long := strings.Repeat("x", MostTerm+1)
	for _, c := range []struct{ file, content, want string }{
		{"a.tsv", "", "it is empty"},
		{"a.tsv", "en\tes\n", "there is no term in it"},
		{"a.tsv", "house\tcasa\n", "row 1, column 1: the first row names the language of each column"},
		{"a.tsv", "en\tklingonese\n", "row 1, column 2: the first row names the language"},
		{"a.tsv", "en,es\ncar,coche\n", "row 1: there is one column"},
		{"a.tsv", "en\tes\tEN\n", "row 1, column 3: en is the language of column 1 already"},
		{"a.tsv", "en\tes\ncar\tcoche\nbus\n", "row 3, column 1: the row ends with 1 of the 2 columns"},
		{"a.tsv", "en\tes\ncar\tcoche\tauto\n", "row 2, column 2: the row ends with 2 of the 2 columns of the first row, or has more"},
		{"a.tsv", "en\tes\n\ncar\t \n", "row 3, column 2: the term is empty"},
		{"a.tsv", "en\tes\ncar\t" + long + "\n", "row 2, column 2: the term has 1025 bytes; at most 1024 are allowed"},
		{"a.tsv", "en\tes\ncar\tco\xffche\n", "row 2, column 2: the term is not valid UTF-8"},
		{"a.tsv", "en\tes\ncar\tco\x00che\n", "row 2, column 2: the term holds a line break or a control character"},
		{"a.tsv", "en\tes\ncar\tcoche\nbus\tbus\nCAR\tauto\n", ""},
		{"a.tsv", "en\tes\ncar\tcoche\nbus\tbus\nCar\tauto\n", "row 4, column 1: the term stands in row 2 already"},
		{"a.csv", "en,es\n\"car,coche\n", "row 2, column 1: the quotation marks"},
		{"a.csv", "en,es\ncar,co\"che\n", "row 2, column 1: the quotation marks"},
		{"a.csv", "en,es\n\"a\nb\",x\n", "row 2, column 1: the term holds a line break"},
		{"a.tbx", "<a/>", "it is no TBX"},
		{"a.tbx", "<tbx><conceptEntry>", "line 1, column 20: it is no well-formed XML"},
		{"a.tbx", "<tbx>\n<conceptEntry><term>x</term></conceptEntry></tbx>", "line 2, column 29: a term stands in no langSet or langSec"},
		{"a.tbx", `<tbx><conceptEntry><langSec xml:lang="xx-none-such"/></conceptEntry></tbx>`, "line 1, column 54: xml:lang of langSec names no language"},
		{"a.tbx", `<?xml version="1.0" encoding="ISO-8859-1"?><tbx/>`, "line 1, column 44: it cannot be read"},
		{"a.tbx", `<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><tbx><conceptEntry><langSec xml:lang="en"><termSec><term>&x;</term></termSec></langSec></conceptEntry></tbx>`, "line 1, column 115: it is no well-formed XML"},
		{"a.tbx", strings.Repeat("<tbx>", 65), "line 1, column 326: elements stand in each other 65 deep"},
		{"a.xlsx", "x", "its name ends in none of .tsv, .csv and .tbx"},
	} {
		g, err := Read("g", c.file, []byte(c.content))
		switch {
		case c.want == "" && err == nil:
		case err == nil || c.want == "" || !strings.HasPrefix(err.Error(), c.want):
			t.Errorf("%s %.60q: %v, want %s...", c.file, c.content, err, c.want)
		case g != nil:
			t.Errorf("%.60q: a glossary and an error", c.content)
		}
	}
}

// FuzzRead proves that whatever a file holds is a glossary that can be used, or is refused.
func FuzzRead(f *testing.F) {
	f.Add(uint8(0), []byte("en\tes\ncar\tcoche\n\tx\n"))
	f.Add(uint8(1), []byte("en,es\n\"ca\"\"r\",coche\n"))
	f.Add(uint8(1), []byte("en;es\n;\n"))
	f.Add(uint8(2), []byte(tbx2008))
	f.Add(uint8(2), []byte(tbx2019))
	f.Fuzz(func(t *testing.T, kind uint8, content []byte) {
		g, err := Read("g", []string{"a.tsv", "a.csv", "a.tbx"}[int(kind)%3], content)
		if err != nil {
			if g != nil || !utf8.ValidString(err.Error()) || len(err.Error()) > 300 {
				t.Fatalf("%v, and %v", err, g)
			}
			return
		}
		few := g.Languages()[:min(3, len(g.languages))]
		for _, source := range few {
			for _, target := range few {
				table := g.For(source, target)
				if source == target || table == nil {
					continue
				}
				for _, c := range g.concepts[:min(10, len(g.concepts))] {
					for _, n := range c {
						for _, term := range n.terms {
							if err := CheckTerm(term); err != nil {
								t.Fatalf("%q: %v", term, err)
							}
							Missed(table.Find(term), target, term)
							table.Whole(term, target)
						}
					}
				}
			}
		}
	})
}
