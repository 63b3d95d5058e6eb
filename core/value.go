package core

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// A Secret is a key or a token. It prints as [redacted] wherever it is printed;
// only Reveal gives it away.
type Secret string

const redacted = "[redacted]"

func (s Secret) String() string               { return s.show() }
func (s Secret) GoString() string             { return s.show() }
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.show()), nil }

// Format keeps every verb from printing the value.
func (s Secret) Format(f fmt.State, verb rune) { fmt.Fprint(f, s.show()) }

func (s Secret) show() string {
	if s == "" {
		return ""
	}
	return redacted
}

// Reveal returns the value itself.
func (s Secret) Reveal() string { return string(s) }

// A Path is the name of a file. In a configuration it starts at the folder of
// the file that names it; loading makes it absolute.
type Path string

// Names are one name, written as text, or several, written as a list.
type Names []string

// A Size is a number of bytes, written 64MiB, 1GiB, 500KB or 1024.
type Size int64

var sizeUnits = []struct {
	name  string
	bytes Size
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30},
	{"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"B", 1},
}

// ParseSize reads a size such as 64MiB.
func ParseSize(text string) (Size, error) {
	number, unit := strings.TrimSpace(text), Size(1)
	for _, u := range sizeUnits {
		if rest, ok := strings.CutSuffix(number, u.name); ok {
			number, unit = strings.TrimSpace(rest), u.bytes
			break
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%q is not a size: write a number and a unit, such as 64MiB", text)
	}
	if n > math.MaxInt64/int64(unit) {
		return 0, fmt.Errorf("%q is more bytes than can be counted", text)
	}
	return Size(n) * unit, nil
}

func (s *Size) UnmarshalText(text []byte) error {
	n, err := ParseSize(string(text))
	if err == nil {
		*s = n
	}
	return err
}

func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// String writes s in the largest binary unit that divides it.
func (s Size) String() string {
	for i := 2; i >= 0; i-- {
		if u := sizeUnits[i]; s != 0 && s%u.bytes == 0 {
			return strconv.FormatInt(int64(s/u.bytes), 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10)
}
