//go:build !unix && !windows

package download

import (
	"errors"
	"io/fs"
	"os"
)

const nonBlocking = 0

func countNames(*os.File, fs.FileInfo) (uint64, error) { return 0, errors.ErrUnsupported }

func cannotSync(error) bool { return true }
