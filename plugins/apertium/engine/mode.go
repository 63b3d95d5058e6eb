package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/files"
)

// A Mode is one direction that Apertium can translate in: a chain of commands,
// each reading what the one before it writes.
type Mode struct {
	Name           string // "eng-spa"
	Source, Target core.Language
	Commands       [][]string
}

// Installed is what was found on this machine.
type Installed struct{ Modes []Mode }

// A Pair is a direction.
type Pair struct{ Source, Target core.Language }

// Find reads the mode files in dirs, or where Apertium installs them when
// there are none. A file that cannot be used is left out. The error is of kind
// unavailable and says so when there is nothing to use.
func Find(dirs ...string) (*Installed, error) {
	if len(dirs) == 0 {
		dirs = []string{"/usr/share/apertium/modes", "/usr/local/share/apertium/modes"}
	}
	found := &Installed{}
	var problems []error
	for _, dir := range dirs {
		files, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			problems = append(problems, err)
		}
		for _, f := range files {
			name, isMode := strings.CutSuffix(f.Name(), ".mode")
			if !isMode {
				continue
			}
			m, err := readMode(name, filepath.Join(dir, f.Name()))
			if err != nil {
				problems = append(problems, err)
				continue
			}
			found.Modes = append(found.Modes, m)
		}
	}
	if len(found.Modes) == 0 {
		return nil, &core.Error{Kind: core.Unavailable, Cause: errors.Join(problems...),
			Detail: "Apertium is not installed here: it needs the packages apertium and, for example, apertium-eng-spa"}
	}
	return found, nil
}

const maxModeFile = 64 << 10

func readMode(name, path string) (Mode, error) {
	m := Mode{Name: name}
	source, target, _ := strings.Cut(name, "-")
	var err error
	if m.Source, err = core.ParseLanguage(source); err != nil {
		return m, fmt.Errorf("%s: %w", path, err)
	}
	if m.Target, err = core.ParseLanguage(target); err != nil {
		return m, fmt.Errorf("%s: %w", path, err)
	}
	text, err := files.Head(path, maxModeFile+1)
	if err != nil {
		return m, err
	}
	if m.Commands, err = parseMode(string(text)); err != nil {
		return m, fmt.Errorf("%s: %w", path, err)
	}
	return m, nil
}

// programs are those of Apertium that flush at a NUL when given -z, beside all
// whose name begins with "apertium-". Nothing else is run.
var programs = []string{"lt-proc", "lsx-proc", "lrx-proc", "rtx-proc", "cg-proc", "hfst-proc"}

// parseMode reads the pipeline in a mode file and makes each command flush at
// a NUL. The file is written for a shell, but needs little of one: words,
// quotes, bars, and the parameters $1 (what the generator does with unknown
// words: here -n, no marks) and $2 (options of the tagger: here none). Whatever
// else a shell could do is refused.
func parseMode(text string) ([][]string, error) {
	if len(text) > maxModeFile {
		return nil, errors.New("the mode file is too long")
	}
	var commands [][]string
	var words []string
	end := func() error {
		c, err := command(words)
		commands, words = append(commands, c), nil
		return err
	}
	for text = strings.TrimSpace(text); text != ""; text = strings.TrimLeft(text, " \t\r\n") {
		switch {
		case text[0] == '|':
			if err := end(); err != nil {
				return nil, err
			}
			text = text[1:]
		case strings.HasPrefix(text, "$1"):
			words, text = append(words, "-n"), text[2:]
		case strings.HasPrefix(text, "$2"):
			text = text[2:]
		case text[0] == '\'' || text[0] == '"':
			i := strings.IndexByte(text[1:], text[0])
			if i < 0 {
				return nil, errors.New("a quote does not end")
			}
			word := text[1 : 1+i]
			if text[0] == '"' && strings.ContainsAny(word, "$`\\") || strings.ContainsRune(word, 0) {
				return nil, fmt.Errorf("%q is more than a plain word", word)
			}
			words, text = append(words, word), text[i+2:]
		default:
			i := strings.IndexFunc(text, func(r rune) bool { return !plain(r) })
			if i < 0 {
				i = len(text)
			}
			if i == 0 {
				return nil, fmt.Errorf("%.10q is more than a plain word", text)
			}
			words, text = append(words, text[:i]), text[i:]
		}
	}
	if err := end(); err != nil {
		return nil, err
	}
	return commands, nil
}

func plain(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_./=+:,@%-", r)
}

// command checks one command and puts -z into it.
func command(words []string) ([]string, error) {
	if len(words) == 0 {
		return nil, errors.New("a command is empty")
	}
	name := words[0]
	if strings.ContainsRune(name, '/') || !strings.HasPrefix(name, "apertium-") && !slices.Contains(programs, name) {
		return nil, fmt.Errorf("%q is not a program of Apertium's that is known here", name)
	}
	if slices.Contains(words, "-z") || slices.Contains(words, "--null-flush") {
		return words, nil
	}
	return slices.Insert(words, 1, "-z"), nil
}

// find returns the best mode for a pair: the target as asked, else its base
// language, else another variant of that.
func (in *Installed) find(source, target core.Language) (Mode, bool) {
	best, bestScore := Mode{}, 0
	score := func(asked, has core.Language) int {
		switch {
		case asked == has:
			return 3
		case asked.Base() != has.Base():
			return 0
		case has == core.Language(has.Base()):
			return 2
		}
		return 1
	}
	for _, m := range in.Modes {
		s, t := score(source, m.Source), score(target, m.Target)
		if s > 0 && t > 0 && 4*t+s > bestScore {
			best, bestScore = m, 4*t+s
		}
	}
	return best, bestScore > 0
}
