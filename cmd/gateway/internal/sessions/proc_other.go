//go:build !linux

package sessions

import (
	"errors"
	"syscall"
	"time"
)

func endWithParent() *syscall.SysProcAttr { return nil }

func usage(int) (cpu time.Duration, resident int64, err error) { return 0, 0, errors.ErrUnsupported }

func load() figure { return unknown }
