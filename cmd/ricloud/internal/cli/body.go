package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// maxInput bounds a body that is read from a file, in bytes.
const maxInput = 32 << 20

// apiBody returns the body of a request: the file's, or one made of fields, or nil.
func (a *app) apiBody(input string, fields []string) (any, error) {
	switch {
	case input != "" && len(fields) > 0:
		return nil, errors.New("use --input or --field, not both")
	case input != "":
		raw, err := a.readInput(input)
		if err != nil {
			return nil, err
		}
		if !json.Valid(raw) {
			return nil, fmt.Errorf("--input %s is not JSON", input)
		}
		return json.RawMessage(bytes.TrimSpace(raw)), nil
	case len(fields) == 0:
		return nil, nil //nolint:nilnil // no body is a valid body
	}
	body := map[string]any{}
	for _, pair := range fields {
		if err := setPath(body, pair); err != nil {
			return nil, err
		}
	}
	return body, nil
}

func (a *app) readInput(path string) ([]byte, error) {
	if path == "-" {
		return readAtMost(a.in, maxInput)
	}
	f, err := os.Open(path) //nolint:gosec // the user names the file
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	return readAtMost(f, maxInput)
}

func readAtMost(r io.Reader, limit int64) ([]byte, error) {
	return io.ReadAll(io.LimitReader(r, limit)) //nolint:forbidigo // bounded here
}

// setPath sets "data.state=completed" in fields. A value that is JSON is kept as it is, any other
// is a string.
func setPath(fields map[string]any, pair string) error {
	path, text, found := strings.Cut(pair, "=")
	if !found || path == "" {
		return fmt.Errorf("%q is not name=value", pair)
	}
	var value any = text
	var decoded any
	if json.Unmarshal([]byte(text), &decoded) == nil {
		value = decoded
	}
	names := strings.Split(path, ".")
	for _, name := range names[:len(names)-1] {
		inner, ok := fields[name].(map[string]any)
		if !ok {
			inner = map[string]any{}
			fields[name] = inner
		}
		fields = inner
	}
	fields[names[len(names)-1]] = value
	return nil
}
