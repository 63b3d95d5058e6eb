// Package lazy keeps what hardly any run of a program needs from costing each of them time and memory.
package lazy

import (
	"regexp"
	"sync"
)

// Regexp compiles expr when it is used first.
func Regexp(expr string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expr) })
}
