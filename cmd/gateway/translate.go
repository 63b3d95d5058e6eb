package gateway

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/dragoman-mt/dragoman/cmd/gateway/internal/documents"
	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/config"
	"github.com/dragoman-mt/dragoman/core/door"
	"github.com/dragoman-mt/dragoman/core/files"
	"github.com/dragoman-mt/dragoman/core/state"
	"github.com/dragoman-mt/dragoman/core/text/format"
	"github.com/dragoman-mt/dragoman/core/text/glossary"
	"github.com/dragoman-mt/dragoman/core/usage"
	"github.com/dragoman-mt/dragoman/stages/provider"
)

// A translation is what the command line asks for.
type translation struct {
	*flags
	from, provider   string
	to               []string
	format           string
	inPlace          bool
	out              string
	all, dryRun      bool
	line             int
	memory, url, key string
	glossary         string

	source  core.Language
	targets []core.Language
	terms   *glossary.Glossary // of a file that --glossary names
}

func (p program) translateCommand() *cobra.Command {
	t := &translation{flags: p.flags()}
	cmd := &cobra.Command{
		Use:   "translate --to LANG[,LANG...] [--from LANG] [--in-place | --out DIR|PATTERN] [FILE|DIR...|-]",
		Short: "Translate files, folders or standard input",
		Long: `Translate files through the running gateway, with its cache and its limits, or by
this program itself when none runs. Of each file the texts are translated, and
everything else stays as it is, byte for byte. The format is that of the file's name,
or --format: ` + strings.Join(format.Names(), ", ") + `.
What a file has translated already (PO, XLIFF, CSV) stays, unless --all is given.

Without --out and --in-place translations go to standard output. --out names a folder,
in which files have the names they have now (below a folder for each language when there
are several), or a pattern with {lang}, {name} (the file's name without its ending),
{ext} (that ending) and {dir} (its folder), such as locales/{lang}.json. A folder is
translated with all files below it that have a known ending. Files are replaced in one
step, when all their texts are there.

Standard input without --format is translated line by line, as it comes.

What was answered is kept in the state folder until its file is done: a run that was
interrupted, however hard, goes on where it was when it is started again. With
--memory, texts that the translation memory has are not asked for, and new ones are
added to it.

A text that cannot be translated is reported on standard error with its place, and
stands in the output as it was. A file of which no text could be is not written.

--glossary names one of the configuration's glossaries, or a file (.tsv, .csv, .tbx): its
terms are translated as it says. A text whose translation lacks one is told of.

The gateway is the one that runs with the configuration file, or that at --url. --set and
--provider are for this program's own chain. --dry-run counts and asks for nothing.

Exit status: 0 when every text was translated, 1 when one was not, a file was refused or
nothing could be started, 2 when the command line cannot be understood.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := t.understand(args); err != nil {
				return usageError{err}
			}
			if len(args) == 0 {
				args = []string{"-"}
			}
			return t.run(cmd, args)
		},
	}
	t.add(cmd)
	f := cmd.Flags()
	f.StringVar(&t.from, "from", "", "the `LANG` of the texts; without it each file's is guessed, or the provider decides")
	f.StringSliceVar(&t.to, "to", nil, "the `LANG` wanted; several with commas")
	f.StringVar(&t.provider, "provider", "", "use the provider `NAME` of the file")
	f.StringVar(&t.format, "format", "", "the `FORMAT` of all files, whatever their names")
	f.BoolVar(&t.inPlace, "in-place", false, "write each file over itself")
	f.StringVar(&t.out, "out", "", "write to this `DIR`, or to names of this PATTERN")
	f.BoolVar(&t.all, "all", false, "translate also what is translated already")
	f.IntVar(&t.line, "line-length", 42, "the longest `LINE` of a subtitle, in characters")
	f.BoolVar(&t.dryRun, "dry-run", false, "tell what there is to translate and what it may cost")
	f.StringVar(&t.memory, "memory", "", "the translation memory `FILE` (TMX) to take from and add to")
	f.StringVar(&t.glossary, "glossary", "", "the `NAME` of a glossary of the configuration, or a file of terms")
	f.StringVar(&t.url, "url", "", "the `URL` of the gateway to translate through")
	f.StringVar(&t.key, "key", "", "a `KEY` of that gateway; better in DRAGOMAN_KEY, which nobody sees in a list of processes")
	return cmd
}

// understand reads what the command line says.
func (t *translation) understand(args []string) error {
	if len(t.to) == 0 {
		return errors.New("--to is missing: name the language wanted, such as --to es")
	}
	for _, tag := range t.to {
		l, err := core.ParseLanguage(tag)
		if err != nil {
			return fmt.Errorf("--to: %s", core.AsError(err, "").Detail)
		}
		if slices.Contains(t.targets, l) {
			return fmt.Errorf("--to names %s twice", l)
		}
		t.targets = append(t.targets, l)
	}
	if t.from != "" {
		var err error
		if t.source, err = core.ParseLanguage(t.from); err != nil {
			return fmt.Errorf("--from: %s", core.AsError(err, "").Detail)
		}
	}
	switch {
	case t.format != "" && !slices.Contains(format.Names(), t.format):
		return fmt.Errorf("--format: there is no %q; there are %s", t.format, strings.Join(format.Names(), ", "))
	case t.inPlace && t.out != "":
		return errors.New("--in-place and --out say two places; give one of them")
	case t.inPlace && len(t.targets) > 1:
		return errors.New("--in-place writes one translation over a file, and --to names several languages; give --out")
	case t.inPlace && (len(args) == 0 || slices.Contains(args, "-")):
		return errors.New("--in-place needs files, and standard input is none")
	case len(t.targets) > 1 && t.out == "" && !t.dryRun:
		return errors.New("--to names several languages; say where to with --out, such as --out {name}.{lang}{ext}")
	case len(t.targets) > 1 && strings.Contains(t.out, "{") && !strings.Contains(t.out, "{lang}"):
		return errors.New("--to names several languages, and the pattern of --out has no {lang}: all would be one file")
	case t.line < 10 || t.line > 500:
		return errors.New("--line-length is from 10 to 500")
	case t.url != "" && (t.provider != "" || len(t.set) > 0):
		return errors.New("--provider and --set are for a chain of this program's own; leave out --url")
	}
	return nil
}

// run translates args: lines of standard input, and files.
func (t *translation) run(cmd *cobra.Command, args []string) error {
	if os.Getenv("GOMEMLIMIT") == "" {
		// A large file leaves garbage that is cheaper to collect than to keep.
		debug.SetMemoryLimit(memoryWanted)
	}
	past, err := state.Of(t.file, os.LookupEnv)
	if err != nil {
		return err
	}
	if err := t.readTerms(); err != nil {
		return err
	}
	o := documents.Options{
		Source: t.source, Targets: t.targets, Format: t.format, InPlace: t.inPlace, Out: t.out, All: t.all, Line: t.line, Memory: t.memory,
		Folder: filepath.Join(past.Path(), "translations"), Chain: t.answers(),
		In: cmd.InOrStdin(), Output: cmd.OutOrStdout(), Errs: cmd.ErrOrStderr(),
	}
	if stderr, ok := o.Errs.(*os.File); ok && term.IsTerminal(int(stderr.Fd())) {
		o.Progress = stderr
	}
	said := func(err error) error {
		if errors.Is(err, documents.ErrSaid) {
			return errSaid
		}
		return err
	}
	if t.dryRun {
		own := &ownChain{}
		if file, err := t.load(true); err == nil { // else nobody knows what it costs
			own.prices, own.first = pricesOf(file.File), choose(file.File).use()
		}
		o.Offer = own.first
		return said(documents.New(o, args).Count(own))
	}
	// Lines of standard input come one by one, and go so.
	lines := t.format == "" && slices.Contains(args, "-") && t.out == ""
	if lines {
		args = slices.DeleteFunc(slices.Clone(args), func(a string) bool { return a == "-" })
	}
	job := documents.New(o, args)
	if job.Files() == 0 && !lines {
		return said(job.Translate(cmd.Context(), nil))
	}
	who, err := t.asker(cmd.Context())
	if err != nil {
		return err
	}
	defer who.close()
	if lines {
		err = documents.Lines(cmd.Context(), o, who)
	}
	if len(args) > 0 && (err == nil || errors.Is(err, documents.ErrSaid)) {
		err = errors.Join(err, job.Translate(cmd.Context(), who))
	}
	return said(err)
}

// readTerms reads the file that --glossary names, if it does.
func (t *translation) readTerms() error {
	switch strings.ToLower(filepath.Ext(t.glossary)) {
	case ".tsv", ".tab", ".csv", ".tbx":
	default:
		return nil // a name
	}
	content, err := files.Read(t.glossary, glossary.MostFile)
	if err == nil {
		t.terms, err = glossary.Read("", t.glossary, content)
	}
	if err != nil {
		return fmt.Errorf("--glossary: %s: %w", t.glossary, err)
	}
	return nil
}

// answers is what tells the answers of one chain from those of another: what was begun
// with other terms is not gone on with.
func (t *translation) answers() string {
	of := t.provider + " " + t.url
	switch {
	case t.terms != nil:
		of += " terms " + t.terms.Version
	case t.glossary != "":
		of += " glossary " + t.glossary
	}
	return of
}

// asker returns who translates: the running gateway, else this program's own chain.
func (t *translation) asker(ctx context.Context) (translator, error) {
	key := t.key
	if key == "" {
		key = os.Getenv("DRAGOMAN_KEY")
	}
	if t.url != "" {
		c, err := newAdminClient(t.url, key)
		if err != nil {
			return nil, usageError{fmt.Errorf("--url: %w", err)}
		}
		return newGatewayChain(ctx, c, t)
	}
	if t.provider == "" && len(t.set) == 0 {
		if past, err := state.Of(t.file, os.LookupEnv); err == nil {
			at, err := past.Find()
			if err == nil && at.Socket != "" {
				c := newSocketClient(fmt.Sprintf("process %d", at.PID), socketDial(past, at))
				if g, err := newGatewayChain(ctx, c, t); err == nil {
					if file, err := t.load(true); err == nil {
						g.prices, g.first = pricesOf(file.File), choose(file.File).use()
					}
					return g, nil
				} else if _, wrong := errors.AsType[usageError](err); wrong {
					return nil, err
				}
				// It is older than this command, or about to end.
			}
		}
	}
	file, err := t.load(false)
	if err != nil {
		if _, missing := os.Stat(t.file); errors.Is(missing, fs.ErrNotExist) {
			err = fmt.Errorf("%w, or a running gateway with --url URL", err)
		}
		return nil, err
	}
	if t.provider != "" {
		if err := use(file.File, t.provider); err != nil {
			return nil, usageError{err}
		}
	}
	g, err := build(file)
	if err != nil {
		return nil, err
	}
	if err := g.start(ctx); err != nil {
		g.close(time.Second)
		return nil, err
	}
	c := *g.server
	c.Deadline = max(c.Deadline, unhurried)
	c.MaxText = max(c.MaxText, 100_000)
	service := door.New(c, g.engine)
	service.UseGlossaries(g.glossaries.all)
	terms := t.terms
	if terms == nil && t.glossary != "" {
		if terms, err = service.Glossary(t.glossary, "glossary"); err != nil {
			g.close(time.Second)
			return nil, noGlossary(err)
		}
	}
	return &ownChain{gateway: g, rules: service.Rules().Under(terms), prices: pricesOf(file.File), first: choose(file.File).use()}, nil
}

// noGlossary is what is wrong with a name that --glossary gives.
func noGlossary(err error) error {
	return usageError{fmt.Errorf("--glossary: %s", core.AsError(err, "").Detail)}
}

// memoryWanted is what the collector tries to stay below while files are translated.
const memoryWanted = 140 << 20

// unhurried is how long a text may take of which nobody waits for the answer.
const unhurried = 2 * time.Minute

// use makes the chain of file call the provider name.
func use(file *config.File, name string) error {
	var known []string
	for _, p := range file.Providers {
		known = append(known, p.Name)
		if p.Name != name {
			continue
		}
		for _, s := range file.Stages {
			if c, ok := s.Config.(*provider.Config); ok {
				c.Use, c.Routes = core.Names{name}, nil
				c.Fallback = without(c.Fallback, name)
			}
		}
		return nil
	}
	return fmt.Errorf("--provider: %s has no provider %q; it has %s", file.Path, name, strings.Join(known, ", "))
}

func without(names []string, name string) []string {
	var out []string
	for _, n := range names {
		if n != name {
			out = append(out, n)
		}
	}
	return out
}

// A translator is who translates.
type translator interface {
	documents.Asker
	close()
}

// An ownChain is a chain that this program runs itself.
type ownChain struct {
	*gateway
	rules  *door.Rules
	prices map[string]usage.Price
	first  string
}

func (o *ownChain) Most() int { return o.rules.MaxTexts }

func (o *ownChain) close() { o.gateway.close(time.Second) }

func (o *ownChain) Price(provider string) (usage.Price, bool) {
	if provider == "" {
		provider = o.first
	}
	p, ok := o.prices[provider]
	return p, ok
}

func (o *ownChain) Ask(ctx context.Context, source, target core.Language, around string, texts []string, told func(int, documents.Answer)) {
	stands := o.rules.Around(around)
	seats := core.NewSeats(len(texts))
	reqs, places := make([]core.Request, len(texts)), make(map[*core.Request]int, len(texts))
	for i, text := range texts {
		reqs[i] = core.Request{
			ID: door.NewID(), Text: text, Source: source, Target: target, Context: stands, Client: door.CommandLine, Final: true, Lane: core.LaneBulk,
		}
		if seats != nil {
			reqs[i].Batch = seats[i]
		}
		places[&reqs[i]] = i
	}
	said := make([]bool, len(texts))
	for i, item := range door.Items(reqs, func(req *core.Request) door.Item {
		if req.Batch != nil {
			defer req.Batch.Settle()
		}
		r, err := o.rules.Translate(ctx, req)
		i := places[req]
		said[i] = true
		if err != nil {
			told(i, documents.Answer{Err: core.AsError(err, "")})
		} else {
			told(i, documents.Answer{Text: r.Text, Flags: r.Flags, Provider: r.Provider, Usage: r.Usage, Cached: r.Cached})
		}
		return door.Item{}
	}) {
		if !said[i] { // it panicked
			told(i, documents.Answer{Err: item.Err})
		}
	}
}
