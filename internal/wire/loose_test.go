package wire

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestText(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		`"x"`: "x", `" x\n"`: "x", `7`: "7", `true`: "true",
		`null`: "", `{}`: "", `["x"]`: "", ``: "", `""`: "",
	} {
		assert.Equal(t, want, Text(json.RawMessage(raw)), raw)
	}
}

func TestCount(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]int{
		`5`: 5, `"5"`: 5, `5.0`: 5, `"5.0"`: 5, `0`: 0,
		`-1`: 0, `1e300`: 0, `"NaN"`: 0, `"x"`: 0, `null`: 0, `[]`: 0, `true`: 0,
	} {
		assert.Equal(t, want, Count(json.RawMessage(raw)), raw)
	}
}

func TestTime(t *testing.T) {
	t.Parallel()
	want := time.Date(2020, 2, 25, 10, 25, 5, 0, time.UTC)
	for _, raw := range []string{
		`"2020-02-25T10:25:05Z"`, `"2020-02-25 10:25:05"`, `"2020-02-25T10:25:05+00:00"`,
		`1582626305`, `"1582626305"`, `1582626305.0`,
	} {
		assert.True(t, want.Equal(Time(json.RawMessage(raw))), raw)
	}
	for _, raw := range []string{`null`, `""`, `0`, `-1`, `false`, `"never"`, `{}`, `[1]`, `1e300`} {
		assert.True(t, Time(json.RawMessage(raw)).IsZero(), raw)
	}
}

func TestCode(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		"": "", "null": "", "false": "", "0": "", `""`: "", "{}": "", "[]": "", "[null,{}]": "",
		`"x"`: "x", `"0"`: "0", `"false"`: "false", "true": "true", "7": "7",
		`{"code":"x","error":"y"}`: "x", `{"error":{"type":"z"}}`: "z", `[null,"x","y"]`: "x",
		`{"message":"m"}`: `{"message":"m"}`,
	} {
		assert.Equal(t, want, Code([]byte(raw)), raw)
	}
}
