package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"

	"github.com/dragoman-mt/dragoman/plugins/scaffold"
)

// self is the module of the gateway.
const self = "github.com/dragoman-mt/dragoman"

func buildCommand() *cobra.Command {
	var (
		with   []string
		output string
	)
	cmd := &cobra.Command{
		Use:   "build --with MODULE[@VERSION|=FOLDER]... [--output FILE]",
		Short: "Build a gateway with further stages and providers linked into it",
		Long: `Build a gateway that has further stages and providers linked into it, beside all
that this one has. What a plugin does in a process of its own they do in the
gateway's, at the price of a function call.

Each --with names a Go package by its import path, which exports
"func Kinds() []core.Kind". A version is what "go get" takes; with =FOLDER its
module is the one in that folder. Dragoman's own sources are found from where
this program or the working directory is; --with ` + self + `=FOLDER
names them, and --with ` + self + `@VERSION a published version.

The gateway is built with Go, which must be in PATH. FILE is replaced in one step,
so a gateway that runs from it is not disturbed.

Exit status: 0 when FILE is there and its kinds can be told apart, 1 when not, 2
when the command line cannot be understood.`,
		Example: "  dragoman build --with example.com/acme/redact --output ./gateway\n" +
			"  dragoman build --with example.com/acme/redact=../redact",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			b := builder{output: output}
			for _, w := range with {
				if err := b.take(w); err != nil {
					return usageError{fmt.Errorf("--with %s: %w", w, err)}
				}
			}
			if len(b.linked) == 0 {
				return usageError{errors.New("--with names what is to be linked, and is missing; see `dragoman build --help`")}
			}
			if err := b.build(cmd.Context()); err != nil {
				if cmd.Context().Err() != nil {
					return fmt.Errorf("interrupted; %s is as it was", output)
				}
				return err
			}
			var paths []string
			for _, l := range b.linked {
				paths = append(paths, l.path)
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s is a gateway with %s\n", b.output, strings.Join(paths, ", "))
			return err
		},
	}
	cmd.Flags().StringArrayVar(&with, "with", nil, "link the package `MODULE[@VERSION|=FOLDER]`; may be repeated")
	cmd.Flags().StringVarP(&output, "output", "o", "dragoman", "the `FILE` to write")
	return cmd
}

// A source is where a Go package comes from: a version of its module, or the folder
// that its module is in; neither when the gateway's own module has it, or go finds it.
type source struct {
	path, version, folder string
}

// A builder makes one gateway.
type builder struct {
	linked []source
	own    source // where the gateway's own sources are from
	output string
	temp   string
}

// take adds what one --with says.
func (b *builder) take(with string) error {
	s := source{path: with}
	if path, folder, ok := strings.Cut(with, "="); ok {
		absolute, err := filepath.Abs(folder)
		if err != nil {
			return err
		}
		s = source{path: path, folder: absolute}
	} else if path, version, ok := strings.Cut(with, "@"); ok {
		s = source{path: path, version: version}
		if version == "" {
			return errors.New("the version after @ is missing")
		}
	}
	if err := module.CheckImportPath(s.path); err != nil {
		return fmt.Errorf("want the import path of a Go package: %w", err)
	}
	if s.path == self {
		b.own = s
		return nil
	}
	if slices.ContainsFunc(b.linked, func(o source) bool { return o.path == s.path }) {
		return errors.New("it is named twice")
	}
	b.linked = append(b.linked, s)
	return nil
}

func (b *builder) build(ctx context.Context) (err error) {
	if _, err := exec.LookPath("go"); err != nil {
		return errors.New("a gateway is built with Go, and there is no go in PATH: install it from https://go.dev/dl/")
	}
	if info, err := os.Stat(b.output); err == nil && info.IsDir() {
		return fmt.Errorf("--output %s: it is a folder; name a file", b.output)
	}
	if b.temp, err = os.MkdirTemp("", "dragoman-build-"); err != nil {
		return err
	}
	defer os.RemoveAll(b.temp)
	if err := b.module(); err != nil {
		return err
	}
	for _, s := range append([]source{b.own}, b.linked...) {
		if s.version == "" {
			continue
		}
		if out, err := b.run(ctx, "get", s.path+"@"+s.version); err != nil {
			return fmt.Errorf("%s@%s cannot be had: %s", s.path, s.version, why(out, err))
		}
	}
	if err := os.WriteFile(filepath.Join(b.temp, "main.go"), b.main(), 0o600); err != nil {
		return err
	}
	// Beside its place, so that it can be moved there in one step.
	made, err := filepath.Abs(b.output)
	if err != nil {
		return err
	}
	made += ".new"
	defer os.Remove(made)
	flags := []string{"build", "-mod=mod", "-trimpath", "-buildvcs=false", "-o", made}
	if !strings.Contains(os.Getenv("GOFLAGS"), "-tags") {
		flags = append(flags, "-tags=grpcnotrace") // as make does, see there
	}
	if out, err := b.run(ctx, append(flags, ".")...); err != nil {
		return b.blame(out, err)
	}
	// What it says of its kinds it says before any command, and of their schemas with this one.
	if out, err := exec.CommandContext(ctx, made, "schema").CombinedOutput(); err != nil {
		return errors.New(why(out, err))
	}
	return os.Rename(made, b.output)
}

// module writes a go.mod that has every version which the gateway is tested with, so
// that nothing is looked up that need not be.
func (b *builder) module() error {
	m := &modfile.File{}
	if err := m.AddModuleStmt("dragoman-with"); err != nil {
		return err
	}
	var sums []byte
	if b.own.version == "" {
		checkout, err := b.checkout()
		if err != nil {
			return err
		}
		theirs, err := readModule(checkout)
		if err != nil {
			return err
		}
		if sums, err = os.ReadFile(filepath.Join(checkout, "go.sum")); err != nil {
			return err
		}
		if err := m.AddGoStmt(theirs.Go.Version); err != nil {
			return err
		}
		for _, r := range theirs.Require {
			m.AddNewRequire(r.Mod.Path, r.Mod.Version, r.Indirect)
		}
		m.AddNewRequire(self, unpublished, false)
		if err := m.AddReplace(self, "", checkout, ""); err != nil {
			return err
		}
	} else if err := m.AddGoStmt(strings.TrimPrefix(runtime.Version(), "go")); err != nil {
		return err
	}
	for _, s := range b.linked {
		if s.folder == "" {
			continue
		}
		theirs, err := readModule(s.folder)
		if err != nil {
			return fmt.Errorf("--with %s: %w", s.path, err)
		}
		path := theirs.Module.Mod.Path
		if path != s.path && !strings.HasPrefix(s.path, path+"/") {
			return fmt.Errorf("--with %s: the module in %s is %s", s.path, s.folder, path)
		}
		place := filepath.Join(s.folder, strings.TrimPrefix(s.path, path))
		found, err := os.ReadDir(place)
		if err != nil || !slices.ContainsFunc(found, func(f os.DirEntry) bool { return strings.HasSuffix(f.Name(), ".go") }) {
			return fmt.Errorf("--with %s: there is no Go file in %s", s.path, place)
		}
		if err := m.AddRequire(path, unpublished); err != nil {
			return err
		}
		if err := m.AddReplace(path, "", s.folder, ""); err != nil {
			return err
		}
		more, err := os.ReadFile(filepath.Join(s.folder, "go.sum"))
		if err == nil {
			sums = append(sums, more...)
		}
	}
	content, err := m.Format()
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(b.temp, "go.sum"), sums, 0o600); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(b.temp, "go.mod"), content, 0o600)
}

// unpublished stands for the version of a module that a folder replaces.
const unpublished = "v0.0.0-00010101000000-000000000000"

// checkout is the folder of the gateway's own sources.
func (b *builder) checkout() (string, error) {
	places := []string{b.own.folder}
	if b.own.folder == "" {
		program, _ := os.Executable()
		folder, _ := os.Getwd()
		places = []string{program, folder, sourceFile()}
	}
	dir, err := scaffold.Checkout(places...)
	if err != nil {
		return "", fmt.Errorf("there are no sources of Dragoman in %s; name their folder with --with %s=FOLDER", strings.Join(places, ", "), self)
	}
	return dir, nil
}

func readModule(folder string) (*modfile.File, error) {
	name := filepath.Join(folder, "go.mod")
	content, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("%s is no folder of a Go module: %w", folder, err)
	}
	m, err := modfile.Parse(name, content, nil)
	if err == nil && (m.Module == nil || m.Go == nil) {
		err = fmt.Errorf("%s names no module, or no version of Go", name)
	}
	return m, err
}

// firstKinds is the line of main that names the Kinds of the first package linked; each
// of the others has the next.
const firstKinds = 3

// main is the source of the program. Its lines tell whose package is at fault.
func (b *builder) main() []byte {
	var out bytes.Buffer
	out.WriteString("package main\n\n")
	for i, s := range b.linked {
		fmt.Fprintf(&out, "import k%d %s\n", i, strconv.Quote(s.path))
	}
	fmt.Fprintf(&out, "import %s\nimport %s\n\nfunc main() {\n\tvar kinds []core.Kind\n\tfor _, more := range []func() []core.Kind{\n",
		strconv.Quote(self+"/core"), strconv.Quote(self+"/cmd/gateway"))
	for i := range b.linked {
		fmt.Fprintf(&out, "\t\tk%d.Kinds,\n", i)
	}
	out.WriteString("\t} {\n\t\tkinds = append(kinds, more()...)\n\t}\n\tgateway.Main(kinds...)\n}\n")
	return out.Bytes()
}

// ofMain finds the line that a complaint of the compiler is about.
var ofMain = regexp.MustCompile(`(?m)^(?:\./)?main\.go:(\d+):\d+: (.*)$`)

// blame makes one line of what the compiler has said.
func (b *builder) blame(out []byte, err error) error {
	if found := ofMain.FindSubmatch(out); found != nil {
		line, _ := strconv.Atoi(string(found[1]))
		i := line - firstKinds
		if i >= len(b.linked) {
			i = line - (firstKinds + len(b.linked) + 6)
		}
		if 0 <= i && i < len(b.linked) {
			path, said := b.linked[i].path, string(found[2])
			switch {
			case strings.Contains(said, "undefined: ") && strings.Contains(said, "Kinds"):
				return fmt.Errorf("%s exports no Kinds: a package that can be linked has \"func Kinds() []core.Kind\"", path)
			case strings.Contains(said, ".Kinds"):
				return fmt.Errorf("%s: its Kinds must be \"func Kinds() []core.Kind\": %s", path, said)
			}
			return fmt.Errorf("%s cannot be linked: %s", path, remedied(said, said))
		}
	}
	return fmt.Errorf("the gateway cannot be built: %s", b.placed(why(out, err)))
}

// placed is what the compiler said, with the place of a file as it can be found from
// anywhere: from the folder that it worked in, which is gone then.
func (b *builder) placed(said string) string {
	if file, rest, ok := strings.Cut(said, ":"); ok && strings.HasSuffix(file, ".go") && !filepath.IsAbs(file) {
		return filepath.Join(b.temp, file) + ":" + rest
	}
	return said
}

// why is what a program said last, in one line.
func why(out []byte, err error) string {
	lines := slices.DeleteFunc(strings.Split(string(out), "\n"), func(line string) bool {
		line = strings.TrimSpace(line)
		return line == "" || strings.HasPrefix(line, "#") || strings.HasPrefix(line, "go: downloading") || strings.HasPrefix(line, "go: finding")
	})
	if len(lines) == 0 {
		return err.Error()
	}
	return remedied(strings.TrimSpace(lines[0]), string(out))
}

// remedied is said, with what to do where the network was missing, as all tells.
func remedied(said, all string) string {
	for _, sign := range []string{"dial tcp", "GOPROXY", "no such host", "connection refused"} {
		if strings.Contains(all, sign) {
			return said + "; connect to the network, or name a folder with MODULE=FOLDER"
		}
	}
	return said
}

func (b *builder) run(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = b.temp
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off")
	return cmd.CombinedOutput()
}
