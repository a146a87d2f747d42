//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package ricloud

import "os"

// lock does nothing where the standard library has no file locks.
func lock(*os.File) (bool, error) { return true, nil }

// syncFolder does nothing where folders cannot be synced.
func syncFolder(*os.Root) error { return nil }
