package download

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

// FileName returns a file name for an identifier: the identifier itself where
// it is safe as one, else what is readable of it with a digest. No two
// identifiers share a name, even where a file system ignores case, and no name
// is longer than 143 bytes, the limit of some encrypting file systems.
func FileName(identifier string) string {
	if isPlain(identifier) {
		return identifier
	}
	return label(identifier, identifier)
}

// otherName returns the name of a second file of the same identifier.
func otherName(identifier string, md5 []byte) string {
	return label(identifier, identifier+"\x00"+string(md5))
}

func isPlain(name string) bool {
	return name != "" && len(name) <= maxReadable && strings.IndexFunc(name, isUnsafe) < 0 &&
		name == strings.ToLower(name) && name[0] != '.' && name[0] != '-' &&
		name[len(name)-1] != '.' && !isDevice(name)
}

// label returns what is readable of identifier, with a digest of distinct.
func label(identifier, distinct string) string {
	readable := strings.Map(func(r rune) rune {
		if isUnsafe(r) {
			return '_'
		}
		return r
	}, identifier[:min(len(identifier), maxReadable)])
	extension := ""
	dot := strings.LastIndexByte(readable, '.')
	if dot > 0 && len(readable)-dot-1 <= maxExtension && len(identifier) <= maxReadable {
		readable, extension = readable[:dot], strings.TrimRight(readable[dot:], ".")
	}
	if readable == "" || readable[0] == '.' || readable[0] == '-' || isDevice(readable) {
		readable = "_" + strings.TrimLeft(readable, ".-")
	}
	digest := sha256.Sum256([]byte(distinct))
	return readable + "~" + hex.EncodeToString(digest[:nameDigest]) + extension
}

func isUnsafe(r rune) bool {
	return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' ||
		r == '.' || r == '_' || r == '-')
}

// isDevice reports whether Windows opens a device for name, whatever follows
// its first dot.
func isDevice(name string) bool {
	stem, _, _ := strings.Cut(strings.ToLower(name), ".")
	switch stem {
	case "con", "prn", "aux", "nul", "conin$", "conout$":
		return true
	}
	return len(stem) == 4 && (stem[:3] == "com" || stem[:3] == "lpt") &&
		'0' <= stem[3] && stem[3] <= '9'
}
