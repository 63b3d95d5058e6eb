//go:build unix && !linux

package host

import (
	"io/fs"
	"os"
)

// pathOf returns a name for the file that a child inherits as descriptor fd:
// there is none here, so what is executed is what has the name at that moment.
func pathOf(int) (string, bool) { return "", false }

// sealed returns nil: there is no such thing here.
func sealed(*os.File, fs.FileInfo, bool, int64) (*os.File, error) { return nil, nil }
