//go:build !linux && !windows

package download

import (
	"errors"
	"os"
)

// renameNew returns errors.ErrUnsupported: no rename here fails if the new name
// is taken.
func renameNew(*os.Root, string, string) error { return errors.ErrUnsupported }
