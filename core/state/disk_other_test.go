//go:build !linux

package state

import "errors"

func mountSmall(string) (unmount func(), err error) { return nil, errors.ErrUnsupported }
