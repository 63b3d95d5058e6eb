// Package phrases reads tables of finished translations: a cache starts with
// them, and a simulator answers from them.
package phrases

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/text/normal"
)

// A Phrase is a text and its translation.
type Phrase struct {
	Source, Target    core.Language
	Text, Translation string
}

// maxLine is the longest line taken, in bytes.
const maxLine = 64 << 10

// Read reads a table of phrases: UTF-8, one phrase a line, with tabs between
// source language, target language, text and translation. Blank lines and lines
// that begin with # are passed over; white space round a field is not part of
// it. A text that stands there twice for the same languages is refused, also
// when only its spaces or its accents are encoded differently. Errors name the
// line, counted from 1, and quote no text.
func Read(r io.Reader) ([]Phrase, error) {
	type key struct {
		source, target core.Language
		text           string
	}
	var (
		all   []Phrase
		seen  = map[key]int{}
		lines = bufio.NewScanner(r)
		n     = 0
	)
	lines.Buffer(make([]byte, 0, 4096), maxLine)
	for lines.Scan() {
		n++
		line := lines.Text()
		if n == 1 {
			line = strings.TrimPrefix(line, "\ufeff") // spreadsheets begin a file with it
		}
		if !utf8.ValidString(line) {
			return nil, fmt.Errorf("line %d: not valid UTF-8", n)
		}
		if strings.ContainsRune(line, 0) {
			return nil, fmt.Errorf("line %d: it holds a NUL", n)
		}
		if strings.TrimSpace(line) == "" || line[0] == '#' {
			continue
		}
		p, err := parse(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		k := key{p.Source, p.Target, normal.String(p.Text)}
		if first, twice := seen[k]; twice {
			return nil, fmt.Errorf("line %d: the same text as in line %d, from %s to %s", n, first, p.Source, p.Target)
		}
		seen[k] = n
		all = append(all, p)
	}
	if err := lines.Err(); errors.Is(err, bufio.ErrTooLong) {
		return nil, fmt.Errorf("line %d: longer than %d bytes", n+1, maxLine)
	} else if err != nil {
		return nil, fmt.Errorf("line %d: reading: %w", n+1, err)
	}
	return all, nil
}

func parse(line string) (Phrase, error) {
	fields := strings.Split(line, "\t")
	if len(fields) != 4 {
		return Phrase{}, fmt.Errorf("%d fields, want 4 with tabs between them: source language, target language, text, translation", len(fields))
	}
	for i := range fields {
		fields[i] = strings.TrimSpace(fields[i])
	}
	p := Phrase{Text: fields[2], Translation: fields[3]}
	var err error
	if p.Source, err = parseLanguage(fields[0]); err != nil {
		return Phrase{}, fmt.Errorf("source language: %w", err)
	}
	if p.Target, err = parseLanguage(fields[1]); err != nil {
		return Phrase{}, fmt.Errorf("target language: %w", err)
	}
	switch {
	case p.Source == p.Target:
		return Phrase{}, fmt.Errorf("source and target language are both %s", p.Source)
	case p.Text == "":
		return Phrase{}, errors.New("the text is empty")
	case p.Translation == "":
		return Phrase{}, errors.New("the translation is empty")
	}
	return p, nil
}

func parseLanguage(tag string) (core.Language, error) {
	l, err := core.ParseLanguage(tag)
	if e, ok := errors.AsType[*core.Error](err); ok {
		return "", errors.New(e.Detail)
	}
	return l, err
}
