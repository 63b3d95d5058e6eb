package wire

import (
	"errors"
	"fmt"
	"syscall"
)

// Unstarted returns why a program could not be started, with what to do where the
// system's own word does not tell.
func Unstarted(err error) error {
	if errors.Is(err, syscall.ETXTBSY) {
		return fmt.Errorf("%w: somebody writes to the program at this moment; write a new build beside it and move it into place (mv), then reload", err)
	}
	return err
}
