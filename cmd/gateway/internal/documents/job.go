// Package documents translates files: it finds them, asks for their texts, some at a time,
// keeps what was answered until the file is written, and tells what became of it.
package documents

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/files"
	"github.com/dragoman-mt/dragoman/core/text/detect"
	"github.com/dragoman-mt/dragoman/core/text/format"
	"github.com/dragoman-mt/dragoman/core/text/tmx"
	"github.com/dragoman-mt/dragoman/core/usage"
)

// Options say what is wanted.
type Options struct {
	Source  core.Language   // empty: each file's is guessed
	Targets []core.Language // at least one
	Format  string          // of all files; empty: by their names
	InPlace bool
	Out     string // a folder, or a pattern
	All     bool   // also what is translated already
	Line    int    // longest line of a subtitle
	Memory  string // a file; empty for none
	Folder  string // for what is kept of runs that are not done
	Chain   string // what tells one chain from another, for those
	Offer   string // the provider that is asked first

	In       io.Reader
	Output   io.Writer
	Errs     io.Writer
	Progress *os.File // a terminal; nil when nobody looks
}

// An Asker translates texts. It is safe for concurrent use.
type Asker interface {
	// Ask translates texts, and tells what became of each as soon as it is known, from any
	// goroutine and in any order. Around is what tells them apart from the same texts
	// elsewhere, empty for nothing.
	Ask(ctx context.Context, source, target core.Language, around string, texts []string, told func(i int, a Answer))
	// Most is how many texts one call of Ask may have.
	Most() int
	// Price is what a provider costs; the one that is asked first for an empty name.
	Price(provider string) (usage.Price, bool)
}

// An Answer is what became of a text.
type Answer struct {
	Text     string
	Flags    []string
	Provider string
	Usage    core.Usage
	Cached   bool
	Err      *core.Error
}

// again says whether who asks for the text once more may have another answer.
func (a *Answer) again() bool {
	e := a.Err
	return e != nil && (e.Retryable || e.Kind == core.RateLimited || e.Kind == core.Overloaded || e.Kind == core.DeadlineExceeded)
}

// hopeless says whether the failure may have another cause than the text, so that all others
// fail as well: a wrong key, a model that is not there, an upstream that does not answer.
func (a *Answer) hopeless() bool {
	switch a.Err.Kind {
	case core.BadAnswer, core.ProviderRefused, core.InvalidRequest, core.TooLarge, core.UnsupportedLanguage:
		return false
	}
	return true
}

// ErrSaid fails a job that has printed why already.
var ErrSaid = errors.New("said")

// A Job is the translation of files. It is used once, by one goroutine.
type Job struct {
	Options
	asker Asker
	ctx   context.Context

	known   map[core.Language]map[string]string // by target
	learned map[core.Language][]tmx.Unit

	papers  []paper
	refused int

	total, done, answered, failed int
	begun, shown                  time.Time
	flagged                       map[string]int
	places                        int   // of flags that were told
	inVain                        int   // texts that failed since one was answered
	last                          error // of those
	cost                          float64
	currency                      string
	now                           string // the file at work
}

// A paper is one file in one language.
type paper struct {
	name   string // of the file, or "-"
	below  string // its place below the folder that was named
	format string
	target core.Language
	to     string // where it is written; empty for standard output
	texts  int
}

// mostFiles bounds what a folder may hold.
const mostFiles = 10_000

// New finds the files that args name, "-" for standard input, and returns the job to translate
// them. What is refused is told, and the rest is done.
func New(o Options, args []string) *Job {
	j := &Job{Options: o, flagged: map[string]int{}}
	j.papers, j.refused = j.gather(args)
	return j
}

// Files is how many there are, once for each language.
func (j *Job) Files() int { return len(j.papers) }

// gather finds the files that args name, and says which of them are refused.
func (j *Job) gather(args []string) (papers []paper, refused int) {
	type input struct{ name, below, format string }
	var inputs []input
	refuse := func(err error) {
		refused++
		fmt.Fprintln(j.Errs, err)
	}
	for _, arg := range args {
		if arg == "-" {
			name := j.Format
			if name == "" {
				name = "txt"
			}
			inputs = append(inputs, input{"-", "stdin", name})
			continue
		}
		info, err := os.Stat(arg)
		switch {
		case err != nil:
			refuse(err)
		case info.IsDir():
			n := len(inputs)
			err := filepath.WalkDir(arg, func(path string, d fs.DirEntry, err error) error {
				switch {
				case err != nil:
					return err
				case path != arg && strings.HasPrefix(d.Name(), "."):
					if d.IsDir() {
						return filepath.SkipDir
					}
					return nil
				case !d.Type().IsRegular() || format.Of(d.Name()) == "" && j.Format == "":
					return nil
				case len(inputs)-n >= mostFiles:
					return fmt.Errorf("%s holds more than %d files", arg, mostFiles)
				}
				below, err := filepath.Rel(arg, path)
				if err != nil {
					return err
				}
				inputs = append(inputs, input{path, below, j.formatOf(path)})
				return nil
			})
			if err != nil {
				refuse(err)
			}
		case j.formatOf(arg) == "":
			refuse(fmt.Errorf("%s: its ending is of no known format (%s); name one with --format", arg, strings.Join(format.Endings(), " ")))
		default:
			inputs = append(inputs, input{arg, filepath.Base(arg), j.formatOf(arg)})
		}
	}
	taken := map[string]string{}
	for _, in := range inputs {
		for _, target := range j.Targets {
			p := paper{name: in.name, below: in.below, format: in.format, target: target}
			p.to = j.place(&p)
			if p.to != "" {
				if other, twice := taken[p.to]; twice {
					refuse(fmt.Errorf("%s and %s would both be written to %s", other, in.name, p.to))
					continue
				}
				taken[p.to] = in.name
			}
			papers = append(papers, p)
		}
	}
	return papers, refused
}

func (j *Job) formatOf(name string) string {
	if j.Format != "" {
		return j.Format
	}
	if filepath.Ext(name) == "" {
		return "txt" // a name without an ending says nothing else
	}
	return format.Of(name)
}

// place is where a paper is written.
func (j *Job) place(p *paper) string {
	switch out := j.Options.Out; {
	case j.InPlace:
		return p.name
	case out == "":
		return ""
	case strings.Contains(out, "{"):
		ext := filepath.Ext(p.below)
		dir := filepath.Dir(p.name)
		if p.name == "-" {
			dir = "."
		}
		return filepath.Clean(strings.NewReplacer("{lang}", string(p.target), "{name}", strings.TrimSuffix(filepath.Base(p.below), ext), "{ext}", ext, "{dir}", dir).Replace(out))
	case len(j.Targets) > 1:
		return filepath.Join(out, string(p.target), p.below)
	default:
		return filepath.Join(out, p.below)
	}
}

// A question is what is asked for: a text, and what tells it apart from the same text
// elsewhere in its file.
type question struct{ text, context string }

func questionOf(s *format.Segment) question { return question{s.Text, s.Context} }

// read reads the document of a paper. An error names the file, and the place in it.
func (j *Job) read(p *paper) (*format.Document, core.Language, error) {
	in, name := j.In, j.called(p)
	if p.name != "-" {
		file, err := os.Open(p.name)
		if err != nil {
			return nil, "", err
		}
		defer file.Close()
		if info, err := file.Stat(); err == nil && info.Size() > format.MaxSize {
			return nil, "", fmt.Errorf("%s: the file has %d MiB; at most %d are taken", name, info.Size()>>20, format.MaxSize>>20)
		}
		in = file
	}
	content, err := io.ReadAll(io.LimitReader(in, format.MaxSize+1))
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", name, err)
	}
	doc, err := format.Read(p.format, content, format.Options{Source: j.Source, Target: p.target, All: j.All, Line: j.Line})
	if err != nil {
		if e, ok := errors.AsType[*format.Error](err); ok && e.Line > 0 {
			return nil, "", fmt.Errorf("%s:%w", name, e)
		}
		return nil, "", fmt.Errorf("%s: %w", name, err)
	}
	source := j.Source
	if source == "" {
		var sample strings.Builder
		for _, s := range doc.Segments {
			if sample.Len() > 2000 {
				break
			}
			sample.WriteString(s.Text)
			sample.WriteByte('\n')
		}
		if g := detect.Of(sample.String()); g.Sure() {
			source = g.Language
		}
	}
	return doc, source, nil
}

// remember loads the translation memory.
func (j *Job) remember() error {
	j.known, j.learned = map[core.Language]map[string]string{}, map[core.Language][]tmx.Unit{}
	for _, target := range j.Targets {
		j.known[target] = map[string]string{}
	}
	if j.Memory == "" {
		return nil
	}
	content, err := files.Read(j.Memory, tmx.MaxSize)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it is made
	}
	if err != nil {
		return err
	}
	for _, target := range j.Targets {
		units, err := tmx.Read(content, j.Source, target)
		if err != nil {
			return fmt.Errorf("%s:%w", j.Memory, err)
		}
		for _, u := range units {
			j.known[target][u.Source] = u.Target
		}
	}
	return nil
}

// memorize adds what was learned to the translation memory.
func (j *Job) memorize() error {
	if j.Memory == "" {
		return nil
	}
	content, err := files.Read(j.Memory, tmx.MaxSize)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	added := false
	for _, target := range j.Targets {
		if len(j.learned[target]) == 0 {
			continue
		}
		added = true
		if content, err = tmx.Add(content, j.Source, target, j.learned[target]); err != nil {
			return fmt.Errorf("%s: %w", j.Memory, err)
		}
	}
	if !added {
		return nil
	}
	return replaceFile(j.Memory, content)
}

// journalOf opens the journal of a paper.
func (j *Job) journalOf(p *paper) (*journal, []remembered, error) {
	name, err := filepath.Abs(p.name)
	if err != nil {
		return nil, nil, err
	}
	return openJournal(j.Folder, name, p.format, string(j.Source), string(p.target), j.Chain)
}

// Count tells what there is to do, and asks for nothing.
func (j *Job) Count(asker Asker) error {
	j.asker = asker
	if err := j.remember(); err != nil {
		return err
	}
	w := tabwriter.NewWriter(j.Output, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "FILE\tTO\tTEXTS\tCHARACTERS\tKEPT\tKNOWN\tTO ASK")
	var all struct{ texts, characters, kept, known, asked, askedCharacters int }
	refused := j.refused
	for i := range j.papers {
		p := &j.papers[i]
		doc, _, err := j.read(p)
		if err != nil {
			fmt.Fprintln(j.Errs, err)
			refused++
			continue
		}
		known := j.knownOf(p)
		seen := map[question]bool{}
		texts, characters, have, asked := len(doc.Segments), 0, 0, 0
		for _, s := range doc.Segments {
			n := utf8.RuneCountInString(s.Text)
			characters += n
			q := questionOf(&s)
			switch _, ok := known[q]; {
			case ok || seen[q]:
				have++
			default:
				seen[q] = true
				asked++
				all.askedCharacters += n
			}
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t%d\t%d\n", p.name, p.target, texts, characters, doc.Kept, have, asked)
		all.texts, all.characters, all.kept, all.known, all.asked = all.texts+texts, all.characters+characters, all.kept+doc.Kept, all.known+have, all.asked+asked
	}
	fmt.Fprintf(w, "all\t\t%d\t%d\t%d\t%d\t%d\n", all.texts, all.characters, all.kept, all.known, all.asked)
	if err := w.Flush(); err != nil {
		return err
	}
	if price, ok := j.asker.Price(""); ok {
		in, out := float64(all.askedCharacters), float64(all.askedCharacters)*1.15
		if !price.Characters {
			// Four characters are about a token, and a prompt says some more.
			in, out = in/4+float64(all.asked)*15, out/4
		}
		fmt.Fprintf(j.Output, "about %.4f %s with %s\n", (in*price.Input+out*price.Output)/1e6, price.Currency, j.Offer)
	} else {
		fmt.Fprintln(j.Output, "what it costs is not known: the provider in use has no price")
	}
	if refused > 0 {
		return ErrSaid
	}
	return nil
}

// known is what needs no call for a paper: what the memory has, and what an interrupted run
// was answered.
func (j *Job) knownOf(p *paper) map[question]remembered {
	journal, all, err := j.journalOf(p)
	if err == nil {
		_ = journal.close(len(all) == 0)
	}
	return j.with(p, all)
}

// with is what the memory has for a paper, and those that were answered before. A memory
// knows nothing of contexts.
func (j *Job) with(p *paper, before []remembered) map[question]remembered {
	known := map[question]remembered{}
	for source, target := range j.known[p.target] {
		known[question{text: source}] = remembered{Text: source, Translation: target}
	}
	for _, n := range before {
		known[question{n.Text, n.Context}] = n
	}
	return known
}

// Translate translates the files, one after the other.
func (j *Job) Translate(ctx context.Context, asker Asker) error {
	j.ctx, j.asker = ctx, asker
	if len(j.papers) == 0 {
		if j.refused > 0 {
			return ErrSaid
		}
		return errors.New("there is no file to translate: no name has an ending of a known format")
	}
	if err := j.remember(); err != nil {
		return err
	}
	// What cannot be read is found before anything is paid for.
	refused := j.refused
	good := j.papers[:0]
	for _, p := range j.papers {
		if p.name != "-" {
			doc, _, err := j.read(&p)
			if err != nil {
				fmt.Fprintln(j.Errs, err)
				refused++
				continue
			}
			p.texts = len(doc.Segments)
			j.total += p.texts
		}
		good = append(good, p)
	}
	j.begun = time.Now()
	var stopped error
	for i := range good {
		if stopped = j.one(&good[i]); stopped != nil {
			break
		}
	}
	j.erase()
	err := j.memorize()
	for _, flag := range slices.Sorted(keysOf(j.flagged)) {
		fmt.Fprintf(j.Errs, "%d of %d texts are flagged %s\n", j.flagged[flag], j.done, flag)
	}
	if j.failed > 0 {
		fmt.Fprintf(j.Errs, "%d of %d texts were not translated\n", j.failed, j.done)
	}
	if j.Progress != nil && stopped == nil {
		fmt.Fprintf(j.Progress, "%d texts of %d files in %s%s\n", j.done, len(good), time.Since(j.begun).Round(100*time.Millisecond), j.money())
	}
	switch {
	case stopped != nil:
		return errors.Join(stopped, err)
	case err != nil:
		return err
	case j.failed > 0 || refused > 0:
		return ErrSaid
	}
	return nil
}

func keysOf[V any](m map[string]V) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// one translates a paper and writes it.
func (j *Job) one(p *paper) error {
	doc, source, err := j.read(p)
	if err != nil {
		return err
	}
	if p.name == "-" {
		j.total += len(doc.Segments)
	}
	j.now = p.name
	notes, before, err := j.journalOf(p)
	if err != nil {
		return fmt.Errorf("noting what was answered, so that it need not be asked for again: %w", err)
	}
	a := &paperwork{Job: j, source: source, target: p.target, journal: notes, known: j.with(p, before), failed: map[question]*core.Error{}}
	said, err := a.document(doc)
	whole := err == nil
	if err == nil {
		failed := j.failed
		j.tell(p, doc, said)
		if whole = j.failed == failed; whole || translated(doc, said) {
			err = j.write(p, doc, said)
		} else {
			// It would be a copy of the source under the name of a translation.
			j.erase()
			fmt.Fprintf(j.Errs, "%s: none of its texts was translated, so nothing is written\n", j.called(p))
		}
	}
	return errors.Join(err, notes.close(err == nil && whole))
}

// translated says whether one of the texts of doc was.
func translated(doc *format.Document, said []Answer) bool {
	for i := range said {
		if said[i].Err == nil && detect.Letters(doc.Segments[i].Text) {
			return true
		}
	}
	return false
}

// called is how a paper is called in what is said to the user.
func (j *Job) called(p *paper) string {
	if p.name == "-" {
		return "standard input"
	}
	return p.name
}

// tell reports what failed and what is flagged in a paper.
func (j *Job) tell(p *paper, doc *format.Document, said []Answer) {
	name := j.called(p)
	for i, a := range said {
		s := &doc.Segments[i]
		flags := a.Flags
		if a.Err == nil && s.Limit > 0 && utf8.RuneCountInString(a.Text) > s.Limit {
			flags = append(slices.Clone(flags), "too_long")
		}
		for _, flag := range flags {
			if flag == core.FlagSameLanguage || flag == core.FlagGlossary { // as it should be
				continue
			}
			j.flagged[flag]++
			if j.places++; j.places <= 20 {
				j.erase()
				fmt.Fprintf(j.Errs, "%s:%d:%d: flagged %s\n", name, s.Line, s.Column, flag)
			}
		}
		if a.Err != nil {
			j.failed++
			j.erase()
			fmt.Fprintf(j.Errs, "%s:%d:%d: %v\n", name, s.Line, s.Column, a.Err)
		}
	}
}

// write writes a paper to its place.
func (j *Job) write(p *paper, doc *format.Document, said []Answer) error {
	content, err := doc.Write(func(i int) (string, bool) { return said[i].Text, said[i].Err == nil })
	if err != nil {
		return fmt.Errorf("%s: %w", p.name, err)
	}
	if p.to == "" {
		j.erase()
		_, err = j.Output.Write(content)
		return err
	}
	if err := os.MkdirAll(filepath.Dir(p.to), 0o755); err != nil {
		return err
	}
	return replaceFile(p.to, content)
}

// A paperwork is what is known of the texts of one paper.
type paperwork struct {
	*Job
	source, target core.Language
	journal        *journal
	known          map[question]remembered
	failed         map[question]*core.Error
}

// document returns what becomes of each text of doc.
func (a *paperwork) document(doc *format.Document) ([]Answer, error) {
	// With marks inside, the whole is asked for first: a sentence makes more sense than its
	// pieces. When they do not come back as they were, the pieces are asked for.
	var wanted []question
	for i := range doc.Segments {
		s := &doc.Segments[i]
		if s.Marks != format.NoMarks {
			if pieces, _ := s.Marks.Split(s.Text); len(pieces) < 2 {
				for _, piece := range pieces {
					wanted = append(wanted, question{piece, s.Context})
				}
				continue
			}
		}
		wanted = append(wanted, questionOf(s))
	}
	if err := a.resolve(wanted); err != nil {
		return nil, err
	}
	wanted = nil
	apart := map[int]bool{}
	for i := range doc.Segments {
		s := &doc.Segments[i]
		if s.Marks == format.NoMarks {
			continue
		}
		pieces, _ := s.Marks.Split(s.Text)
		n, ok := a.known[questionOf(s)]
		if len(pieces) < 2 || ok && s.Marks.Same(s.Text, n.Translation) {
			continue
		}
		if f := a.failed[questionOf(s)]; f == nil || f.Kind == core.BadAnswer || f.Kind == core.ProviderFailed {
			apart[i] = true
			for _, piece := range pieces {
				wanted = append(wanted, question{piece, s.Context})
			}
		}
	}
	a.total += len(apart)
	if err := a.resolve(wanted); err != nil {
		return nil, err
	}
	said := make([]Answer, len(doc.Segments))
	for i := range doc.Segments {
		s := &doc.Segments[i]
		pieces, join := []string{s.Text}, func(all []string) string { return all[0] }
		if s.Marks != format.NoMarks {
			if some, put := s.Marks.Split(s.Text); apart[i] || len(some) < 2 {
				pieces, join = some, put
			}
		}
		translations := make([]string, len(pieces))
		for k, piece := range pieces {
			q := question{piece, s.Context}
			n, ok := a.known[q]
			if !ok {
				n = remembered{Translation: piece}
				said[i].Err = a.failed[q]
			}
			translations[k] = n.Translation
			for _, flag := range n.Flags {
				if !slices.Contains(said[i].Flags, flag) {
					said[i].Flags = append(said[i].Flags, flag)
				}
			}
		}
		said[i].Text = join(translations)
	}
	a.done += len(doc.Segments)
	return said, nil
}

const (
	// flights is how many calls are under way at once. Their texts wait in the gateway's own
	// line, so it need only be more than any queue lets through.
	flights = 4
	// mostCharacters bounds the texts of one call.
	mostCharacters = 8000
	// mostInVain is how many texts may fail one after the other for no fault of theirs before
	// the others are left.
	mostInVain = 100
	// mostTexts bounds them, too: a list that a model is given has no more.
	mostTexts = 40
)

// resolve asks for those of wanted that are not known.
func (a *paperwork) resolve(wanted []question) error {
	var left []question
	seen := map[question]bool{}
	for _, q := range wanted {
		if _, ok := a.known[q]; ok || seen[q] {
			continue
		}
		seen[q] = true
		if !detect.Letters(q.text) {
			a.known[q] = remembered{Text: q.text, Translation: q.text, Context: q.context}
			continue
		}
		left = append(left, q)
	}
	// A call has one context.
	slices.SortStableFunc(left, func(a, b question) int { return strings.Compare(a.context, b.context) })
	a.answered = a.Job.done + len(wanted) - len(left)
	most := min(a.asker.Most(), mostTexts)
	for try := 1; len(left) > 0; try++ {
		var again []question
		var wait time.Duration
		var mu sync.Mutex
		var noting error
		gaveUp := 0
		var all sync.WaitGroup
		turns := make(chan struct{}, flights)
		for len(left) > 0 && a.ctx.Err() == nil {
			mu.Lock()
			texts, vain := most, a.inVain
			mu.Unlock()
			if vain >= mostInVain {
				gaveUp = vain // a call that is under way may still be answered
				break
			}
			n, characters := 0, 0
			var some []string
			for n < len(left) && n < texts && left[n].context == left[0].context && (n == 0 || characters+len(left[n].text) <= mostCharacters) {
				characters += len(left[n].text)
				some = append(some, left[n].text)
				n++
			}
			asked := left[:n]
			left = left[n:]
			turns <- struct{}{}
			all.Go(func() {
				defer func() { <-turns }()
				a.asker.Ask(a.ctx, a.source, a.target, asked[0].context, some, func(i int, g Answer) {
					mu.Lock()
					defer mu.Unlock()
					switch {
					case g.Err == nil:
						a.inVain = 0
						n := remembered{Text: some[i], Context: asked[i].context, Translation: g.Text, Flags: g.Flags}
						a.known[asked[i]] = n
						delete(a.failed, asked[i])
						noting = errors.Join(noting, a.journal.note(n))
						a.answered++
						a.pay(&g, some[i])
						if len(g.Flags) == 0 && g.Text != "" && a.Memory != "" && n.Context == "" {
							a.learned[a.target] = append(a.learned[a.target], tmx.Unit{Source: some[i], Target: g.Text})
						}
					case g.again() && try < tries:
						again = append(again, asked[i])
						wait = max(wait, g.Err.RetryAfter, time.Second)
						a.failed[asked[i]] = g.Err
						if g.Err.Kind == core.DeadlineExceeded {
							most = max(1, len(some)/2)
						}
					default:
						a.answered++
						a.failed[asked[i]] = g.Err
						if g.hopeless() {
							a.inVain++
							a.last = g.Err
						}
					}
					a.show()
				})
			})
		}
		all.Wait()
		if noting != nil {
			return noting
		}
		switch {
		case a.ctx.Err() != nil:
			return errors.New("stopped; what was answered is kept, start it again to go on")
		case max(gaveUp, a.inVain) >= mostInVain:
			return fmt.Errorf("stopped after %d texts in a row that failed, the last one with: %w; what was answered is kept, start it again to go on", max(gaveUp, a.inVain), a.last)
		}
		left = again
		if len(left) > 0 {
			timer := time.NewTimer(min(wait, time.Minute))
			select {
			case <-timer.C:
			case <-a.ctx.Done():
				timer.Stop()
			}
		}
	}
	return nil
}

// pay notes what an answer cost.
func (j *Job) pay(a *Answer, text string) {
	price, ok := j.asker.Price(a.Provider)
	if !ok || a.Cached || a.Provider == "" {
		return
	}
	u := a.Usage
	in := float64(u.PromptTokens-u.CachedTokens)*price.Input + float64(u.CachedTokens)*price.CachedInput
	out := float64(u.CompletionTokens) * price.Output
	if price.Characters {
		in, out = float64(utf8.RuneCountInString(text))*price.Input, float64(utf8.RuneCountInString(a.Text))*price.Output
	}
	j.cost += (in + out) / 1e6
	j.currency = price.Currency
}

func (j *Job) money() string {
	if j.currency == "" {
		return ""
	}
	return fmt.Sprintf(", %.4f %s", j.cost, j.currency)
}

// show tells how far it is, five times a second, on a terminal alone.
func (j *Job) show() {
	now := time.Now()
	if j.Progress == nil || now.Sub(j.shown) < 200*time.Millisecond {
		return
	}
	j.shown = now
	took := now.Sub(j.begun)
	line := fmt.Sprintf("%d of %d texts", min(j.answered, j.total), j.total)
	if rate := float64(j.answered) / took.Seconds(); took > time.Second && rate > 0 {
		left := time.Duration(float64(j.total-min(j.answered, j.total)) / rate * float64(time.Second))
		line += fmt.Sprintf(", %.0f/s, %s left", rate, left.Round(time.Second))
	}
	line += j.money()
	name := j.now
	if utf8.RuneCountInString(name) > 30 {
		runes := []rune(name)
		name = "…" + string(runes[len(runes)-29:])
	}
	fmt.Fprintf(j.Progress, "\r\033[K%s: %s", name, line)
}

func (j *Job) erase() {
	if j.Progress != nil {
		fmt.Fprint(j.Progress, "\r\033[K")
	}
}
