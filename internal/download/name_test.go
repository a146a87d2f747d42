package download

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestFileName(t *testing.T) {
	t.Parallel()
	for identifier, want := range map[string]string{
		"callkit.calls":          "callkit.calls",
		"a-b_c.0":                "a-b_c.0",
		"data:info.account":      "data_info~",
		"IMG_0001.JPG":           "IMG_0001~",
		"":                       "_~",
		".":                      "_~",
		"..":                     "_~",
		"../../etc/passwd":       "__.._etc_passwd~",
		".hidden":                "_hidden~",
		"-rf":                    "_rf~",
		"end.":                   "end~",
		"nul":                    "_nul~",
		"con.txt":                "_con~",
		"LPT1":                   "_LPT1~",
		"a\x00b":                 "a_b~",
		`C:\x`:                   "C__x~",
		"naïve":                  "na_ve~",
		"a~00000000000000000000": "a_00000000000000000000~",
		strings.Repeat("x", 500): strings.Repeat("x", 100) + "~",
	} {
		got := FileName(identifier)
		if strings.HasSuffix(want, "~") {
			assert.True(t, strings.HasPrefix(got, want), "%q became %q", identifier, got)
		} else {
			assert.Equal(t, want, got)
		}
	}
	assert.Equal(t, "IMG_0001~c8ae06e33f1ec5d2151f.JPG", FileName("IMG_0001.JPG"))
}

func FuzzFileName(f *testing.F) {
	for _, s := range []string{
		"callkit.calls", "CALLKIT.calls", "../x", "a/b", "a\\b", "con", "",
		"a~b", "x.y.", "é", "e\u0301",
	} {
		f.Add(s, strings.ToUpper(s))
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		nameA, nameB := FileName(a), FileName(b)
		assert.True(t, filepath.IsLocal(nameA), "%q", nameA)
		assert.Equal(t, nameA, filepath.Base(nameA))
		assert.LessOrEqual(t, len(nameA), 143)
		assert.NotContains(t, nameA, "\\")
		assert.NotEqual(t, byte('.'), nameA[0])
		assert.False(t, isDevice(nameA), "%q", nameA)
		if a != b {
			assert.False(t, strings.EqualFold(nameA, nameB), "%q and %q share %q", a, b, nameA)
		}
	})
}
