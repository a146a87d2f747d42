//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd || windows)

package download

import (
	"errors"
	"os"
)

// lockFile says that there are no locks: every Save then has a partial file of
// its own.
func lockFile(*os.File) (bool, error) { return false, errors.ErrUnsupported }
