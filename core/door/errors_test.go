package door

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/dragoman-mt/dragoman/core"
)

func TestEveryKindOfFailureHasItsRow(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "../error.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	kinds := 0
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || fmt.Sprint(spec.Type) != "ErrorKind" {
			return true
		}
		kinds++
		kind, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
		if err != nil {
			t.Fatal(err)
		}
		if row := Answer(core.ErrorKind(kind)); row.Kind != core.ErrorKind(kind) || row.Status < 400 || row.Meaning == "" {
			t.Errorf("%s: %+v", kind, row)
		}
		return true
	})
	if kinds != len(Table()) {
		t.Errorf("%d kinds in core, %d rows", kinds, len(Table()))
	}
}

func TestTheManualShowsTheTable(t *testing.T) {
	var b strings.Builder
	b.WriteString("| kind | status | `Retry-After` | meaning |\n|---|---|---|---|\n")
	for _, r := range Table() {
		kind, wait := "`"+string(r.Kind)+"`", ""
		if r.Public != r.Kind {
			kind += ", answered as `" + string(r.Public) + "`"
		}
		if r.Wait > 0 {
			wait = fmt.Sprintf("yes, %.0f s when unknown", r.Wait.Seconds())
		}
		fmt.Fprintf(&b, "| %s | %d | %s | %s |\n", kind, r.Status, wait, r.Meaning)
	}
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(readme), b.String()) {
		t.Errorf("README.md does not hold the table of the code:\n%s", b.String())
	}
}

func TestAProblemTellsNothingOfItsCause(t *testing.T) {
	p := ProblemOf(fmt.Errorf("deep: %w", errors.New("sk-secret")), "id")
	if p.Kind != core.Internal || p.Status != 500 || strings.Contains(p.Message, "secret") || p.Message == "" {
		t.Errorf("%+v", p)
	}
	p = ProblemOf(&core.Error{Kind: core.Overloaded, Cause: errors.New("sk-secret")}, "id")
	if p.Message != Answer(core.Overloaded).Meaning || p.RetryAfterMS != 1000 {
		t.Errorf("%+v", p)
	}
	if p := ProblemOf(&core.Error{Kind: "unheard_of"}, ""); p.Kind != core.Internal {
		t.Errorf("%+v", p)
	}
}
