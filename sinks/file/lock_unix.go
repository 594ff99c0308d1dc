//go:build unix

package file

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/tailrace/tailrace/sinks"
)

// lock takes the file for this process; the lock ends with the process.
func lock(f *os.File) error {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return fmt.Errorf("%w: %s is written by another process; stop it, or name another file",
			sinks.ErrHeld, f.Name())
	}
	return err
}
