//go:build unix

package download

import (
	"net"
	"syscall"
)

func addOddThings(odd map[string]func(string) error) {
	odd["pipe"] = func(path string) error { return syscall.Mkfifo(path, 0o600) }
	odd["socket"] = func(path string) error {
		if len(path) > 100 { // longer paths are not valid for a socket
			return syscall.Mkfifo(path, 0o600)
		}
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			return err
		}
		l.SetUnlinkOnClose(false)
		return l.Close()
	}
}
