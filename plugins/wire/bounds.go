package wire

import (
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/dragoman-mt/dragoman/core"
)

// Bounds of what a plugin says beside texts, whatever it says.
const (
	// MaxName is the longest name, version or model, in code points.
	MaxName = 100
	// MaxFlags and MaxFlag are how many flags a result has, and how long one is.
	// A flag is made of lower-case letters, digits and the signs _ - . and :
	MaxFlags, MaxFlag = 16, 40
	// MaxParts is how many parts a program may describe.
	MaxParts = 8
	// MaxSchema is the longest schema of a configuration, in bytes.
	MaxSchema = 1 << 20
	// MaxComplaints is how many mistakes of a configuration are told.
	MaxComplaints = 32
	// MaxSources and MaxPairs are how many languages a provider may offer, and
	// how many pairs these make.
	MaxSources, MaxPairs = 2_000, 200_000
	// MaxEvents is how many events one text may have.
	MaxEvents = 100_000

	maxTokens = 1_000_000_000 // more than anything costs
	maxPause  = 24 * time.Hour
)

// Bound cuts the names in d, and says what else of it is too much.
func Bound(d *Description) error {
	d.Name, d.Version = name(d.GetName()), name(d.GetVersion())
	if n := len(d.GetParts()); n > MaxParts {
		return fmt.Errorf("it describes %d parts, and %d are the most", n, MaxParts)
	}
	for _, part := range d.GetParts() {
		part.Name, part.Doc = name(part.GetName()), clip(part.GetDoc(), maxDetail)
		if n := len(part.GetConfigSchema()); n > MaxSchema {
			return fmt.Errorf("the schema of its configuration has %d bytes, and %d are the most", n, MaxSchema)
		}
	}
	return nil
}

// Excess says what of r DecodeResult leaves out, or nil.
func Excess(r *Result) error {
	if model := r.GetModel(); name(model) != model {
		return fmt.Errorf("the model's name has %d bytes, or what cannot be printed: at most %d characters on one line are kept", len(model), MaxName)
	}
	if n := len(r.GetFlags()); n > MaxFlags {
		return fmt.Errorf("the answer has %d flags: the first %d are kept", n, MaxFlags)
	}
	for _, f := range r.GetFlags() {
		if !isFlag(f) {
			return fmt.Errorf("the answer has a flag of %d bytes that is none: at most %d lower-case letters, digits and the signs _ - . : make one", len(f), MaxFlag)
		}
	}
	return nil
}

// flags returns those that are.
func flags(said []string) (kept []string) {
	for _, f := range said[:min(len(said), MaxFlags)] {
		if isFlag(f) {
			kept = append(kept, strings.Clone(f)) // the message is not kept with it
		}
	}
	return kept
}

func isFlag(f string) bool {
	if f == "" || len(f) > MaxFlag {
		return false
	}
	for _, c := range []byte(f) {
		if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || strings.IndexByte("_-.:", c) >= 0) {
			return false
		}
	}
	return true
}

// name returns what can be printed of s, on one line and not too much of it.
func name(s string) string {
	if short(s) {
		return s
	}
	return clip(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, s[:min(len(s), 16*MaxName)]), MaxName)
}

// short says whether s is a name as nearly all are.
func short(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return len(s) <= MaxName
}

// languages reads tags, each of which stands there many times.
type languages map[string]core.Language

func (l languages) parse(tag string) (core.Language, error) {
	if known, ok := l[tag]; ok {
		return known, nil
	}
	language, err := core.ParseLanguage(tag)
	if err == nil {
		l[tag] = language
	}
	return language, err
}
