//go:build !unix

package file

import "os"

// lock does nothing where there is no advisory lock: the state directory's lock has to
// do.
func lock(*os.File) error { return nil }
