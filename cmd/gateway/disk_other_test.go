//go:build !linux

package gateway

import "errors"

func mountTiny(string) error { return errors.ErrUnsupported }

func unmount(string) {}
