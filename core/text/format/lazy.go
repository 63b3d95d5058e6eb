package format

import (
	"regexp"
	"sync"
)

// lazy compiles expr when it is used first: a program that reads no file spends neither
// the time nor the memory.
func lazy(expr string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expr) })
}
