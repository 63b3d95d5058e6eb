package format

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/text/feature/plural"
	"golang.org/x/text/language"

	"github.com/dragoman-mt/dragoman/core"
)

// categories are the plural forms that whole numbers of a language have, as the Unicode CLDR
// names them, in its order.
func categories(l core.Language) (names []string) {
	tag, err := language.Parse(string(l))
	if err != nil {
		return []string{"one", "other"}
	}
	all := []string{"zero", "one", "two", "few", "many", "other"}
	forms := []plural.Form{plural.Zero, plural.One, plural.Two, plural.Few, plural.Many, plural.Other}
	has := map[plural.Form]bool{plural.Other: true}
	for n := range 201 {
		has[plural.Cardinal.MatchPlural(tag, n, 0, 0, 0, 0)] = true
	}
	has[plural.Cardinal.MatchPlural(tag, 1_000_000, 0, 0, 0, 0)] = true
	for i, f := range forms {
		if has[f] {
			names = append(names, all[i])
		}
	}
	return names
}

// gettext are the plural forms of languages as GNU gettext's manual lists them. It is
// written to by nobody.
var gettext = map[string]string{
	"ja": "nplurals=1; plural=0;", "ko": "nplurals=1; plural=0;", "zh": "nplurals=1; plural=0;", "vi": "nplurals=1; plural=0;",
	"th": "nplurals=1; plural=0;", "id": "nplurals=1; plural=0;", "ms": "nplurals=1; plural=0;", "lo": "nplurals=1; plural=0;",
	"km": "nplurals=1; plural=0;", "my": "nplurals=1; plural=0;", "ka": "nplurals=1; plural=0;",
	"fr": "nplurals=2; plural=(n > 1);", "pt-BR": "nplurals=2; plural=(n > 1);", "oc": "nplurals=2; plural=(n > 1);", "tr": "nplurals=2; plural=(n > 1);", "fa": "nplurals=2; plural=(n > 1);", "hy": "nplurals=2; plural=(n > 1);",
	"lv": "nplurals=3; plural=(n%10==1 && n%100!=11 ? 0 : n != 0 ? 1 : 2);",
	"ga": "nplurals=5; plural=(n==1 ? 0 : n==2 ? 1 : n<7 ? 2 : n<11 ? 3 : 4);",
	"gd": "nplurals=4; plural=(n==1 || n==11) ? 0 : (n==2 || n==12) ? 1 : (n > 2 && n < 20) ? 2 : 3;",
	"ro": "nplurals=3; plural=(n==1 ? 0 : (n==0 || (n%100 > 0 && n%100 < 20)) ? 1 : 2);",
	"lt": "nplurals=3; plural=(n%10==1 && n%100!=11 ? 0 : n%10>=2 && (n%100<10 || n%100>=20) ? 1 : 2);",
	"ru": slavic, "uk": slavic, "be": slavic, "sr": slavic, "hr": slavic, "bs": slavic,
	"cs": "nplurals=3; plural=(n==1) ? 0 : (n>=2 && n<=4) ? 1 : 2;", "sk": "nplurals=3; plural=(n==1) ? 0 : (n>=2 && n<=4) ? 1 : 2;",
	"pl": "nplurals=3; plural=(n==1 ? 0 : n%10>=2 && n%10<=4 && (n%100<10 || n%100>=20) ? 1 : 2);",
	"sl": "nplurals=4; plural=(n%100==1 ? 0 : n%100==2 ? 1 : n%100==3 || n%100==4 ? 2 : 3);",
	"ar": "nplurals=6; plural=(n==0 ? 0 : n==1 ? 1 : n==2 ? 2 : n%100>=3 && n%100<=10 ? 3 : n%100>=11 ? 4 : 5);",
	"cy": "nplurals=4; plural=(n==1) ? 0 : (n==2) ? 1 : (n != 8 && n != 11) ? 2 : 3;",
	"mt": "nplurals=4; plural=(n==1 ? 0 : n==0 || ( n%100>1 && n%100<11) ? 1 : (n%100>10 && n%100<20 ) ? 2 : 3);",
	"is": "nplurals=2; plural=(n%10!=1 || n%100==11);", "mk": "nplurals=2; plural= n==1 || n%10==1 ? 0 : 1;",
}

const slavic = "nplurals=3; plural=(n%10==1 && n%100!=11 ? 0 : n%10>=2 && n%10<=4 && (n%100<10 || n%100>=20) ? 1 : 2);"

// pluralForms is the header Plural-Forms of a language.
func pluralForms(l core.Language) string {
	if f, ok := gettext[string(l)]; ok {
		return f
	}
	if f, ok := gettext[l.Base()]; ok {
		return f
	}
	return "nplurals=2; plural=(n != 1);"
}

// A plan says how many plural forms a PO file has, and which one is for a single thing.
type plan struct{ forms, single int }

// parsePlural reads the value of the header Plural-Forms.
func parsePlural(header string) (plan, error) {
	var p plan
	var rule string
	for _, part := range strings.Split(header, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		switch strings.TrimSpace(name) {
		case "nplurals":
			n, err := strconv.Atoi(strings.TrimSpace(value))
			if err != nil || n < 1 || n > 10 {
				return p, fmt.Errorf("nplurals must be a number from 1 to 10, got %.40q", value)
			}
			p.forms = n
		case "plural":
			rule = value
		}
	}
	if p.forms == 0 || rule == "" {
		return p, fmt.Errorf("want nplurals=N; plural=EXPRESSION;, got %.80q", header)
	}
	e := expression{text: rule, n: 1}
	single := e.ternary()
	e.blanks()
	if e.bad || e.at < len(e.text) {
		return p, fmt.Errorf("the expression of plural cannot be read at %.40q", e.text[min(e.at, len(e.text)):])
	}
	if p.single = single; single < 0 || single >= p.forms {
		return p, fmt.Errorf("plural gives form %d, and nplurals is %d", single, p.forms)
	}
	return p, nil
}

// An expression is one of C, as Plural-Forms has them, for a given n.
type expression struct {
	text  string
	at, n int
	depth int
	bad   bool
}

func (e *expression) blanks() {
	for e.at < len(e.text) && strings.IndexByte(" \t\r\n", e.text[e.at]) >= 0 {
		e.at++
	}
}

func (e *expression) take(tokens ...string) string {
	e.blanks()
	for _, t := range tokens {
		if strings.HasPrefix(e.text[e.at:], t) {
			e.at += len(t)
			return t
		}
	}
	return ""
}

func (e *expression) ternary() int {
	if e.depth++; e.depth > 100 {
		e.bad = true
	}
	defer func() { e.depth-- }()
	if e.bad {
		return 0
	}
	c := e.binary(0)
	if e.take("?") == "" {
		return c
	}
	a := e.ternary()
	if e.take(":") == "" {
		e.bad = true
		return 0
	}
	b := e.ternary()
	if c != 0 {
		return a
	}
	return b
}

// levels are the operators of C by how they bind, the loosest first.
func levels() [][]string {
	return [][]string{{"||"}, {"&&"}, {"==", "!="}, {"<=", ">=", "<", ">"}, {"+", "-"}, {"*", "/", "%"}}
}

func (e *expression) binary(level int) int {
	all := levels()
	if level == len(all) {
		return e.unary()
	}
	a := e.binary(level + 1)
	for !e.bad {
		op := e.take(all[level]...)
		if op == "" {
			return a
		}
		b := e.binary(level + 1)
		truth := func(v bool) int {
			if v {
				return 1
			}
			return 0
		}
		switch op {
		case "||":
			a = truth(a != 0 || b != 0)
		case "&&":
			a = truth(a != 0 && b != 0)
		case "==":
			a = truth(a == b)
		case "!=":
			a = truth(a != b)
		case "<=":
			a = truth(a <= b)
		case ">=":
			a = truth(a >= b)
		case "<":
			a = truth(a < b)
		case ">":
			a = truth(a > b)
		case "+":
			a += b
		case "-":
			a -= b
		case "*":
			a *= b
		case "/", "%":
			if b == 0 {
				e.bad = true
				return 0
			}
			if op == "/" {
				a /= b
			} else {
				a %= b
			}
		}
	}
	return a
}

func (e *expression) unary() int {
	if e.depth++; e.depth > 100 {
		e.bad = true
		return 0
	}
	defer func() { e.depth-- }()
	switch {
	case e.take("!") != "":
		if e.unary() == 0 {
			return 1
		}
		return 0
	case e.take("(") != "":
		v := e.ternary()
		e.bad = e.bad || e.take(")") == ""
		return v
	case e.take("n") != "":
		return e.n
	}
	e.blanks()
	begin := e.at
	for e.at < len(e.text) && e.text[e.at] >= '0' && e.text[e.at] <= '9' {
		e.at++
	}
	v, err := strconv.Atoi(e.text[begin:e.at])
	e.bad = e.bad || err != nil
	return v
}

// isPlural says whether name is a category of the CLDR.
func isPlural(name string) bool {
	return slices.Contains([]string{"zero", "one", "two", "few", "many", "other"}, name)
}
