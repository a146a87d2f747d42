package ricloud

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

const (
	maxReadable  = 100 // bytes of an identifier that a file name keeps
	maxExtension = 8   // longer than that, it is no extension
	nameDigest   = 10  // bytes of SHA-256 in a file name
)

// FileName returns the name under which Results.Save keeps a result. An
// identifier of lower-case letters, digits, ".", "_" and "-" is its own name.
// Any other has "_" for what a file name should not hold, and "~" with 20
// digits of its SHA-256 before the extension:
//
//	callkit.calls     → callkit.calls
//	data:info.account → data_info~471d33c5e073091fa90b.account
//	../../etc/passwd  → __.._etc_passwd~3754d6cb3a38e1185e5b
//
// So no two identifiers share a name, even where a file system ignores case.
// Unsafe are also a leading "." or "-", a trailing ".", more than 100 bytes,
// and what Windows takes for a device.
func FileName(identifier string) string {
	if isPlain(identifier) {
		return identifier
	}
	return label(identifier, identifier)
}

func isPlain(name string) bool {
	return name != "" && len(name) <= maxReadable && strings.IndexFunc(name, unsafe) < 0 && name == strings.ToLower(name) &&
		name[0] != '.' && name[0] != '-' && name[len(name)-1] != '.' && !isDevice(name)
}

// label returns what is readable of identifier, with a digest of distinct.
func label(identifier, distinct string) string {
	readable := strings.Map(func(r rune) rune {
		if unsafe(r) {
			return '_'
		}
		return r
	}, identifier[:min(len(identifier), maxReadable)])
	extension := ""
	if dot := strings.LastIndexByte(readable, '.'); dot > 0 && len(readable)-dot-1 <= maxExtension && len(identifier) <= maxReadable {
		readable, extension = readable[:dot], strings.TrimRight(readable[dot:], ".")
	}
	if readable == "" || readable[0] == '.' || readable[0] == '-' || isDevice(readable) {
		readable = "_" + strings.TrimLeft(readable, ".-")
	}
	digest := sha256.Sum256([]byte(distinct))
	return readable + "~" + hex.EncodeToString(digest[:nameDigest]) + extension
}

func unsafe(r rune) bool {
	return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '.' || r == '_' || r == '-')
}

// isDevice reports whether Windows opens a device for name, whatever follows
// its first dot.
func isDevice(name string) bool {
	stem, _, _ := strings.Cut(strings.ToLower(name), ".")
	switch stem {
	case "con", "prn", "aux", "nul", "conin$", "conout$":
		return true
	}
	return len(stem) == 4 && (stem[:3] == "com" || stem[:3] == "lpt") && '0' <= stem[3] && stem[3] <= '9'
}
