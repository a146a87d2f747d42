//go:build !goexperiment.jsonv2

package wire

import (
	"encoding/json"
	"io"
)

// Stream reads a document token by token, and its records value by value.
type Stream = json.Decoder

// NewStream returns a Stream of r.
func NewStream(r io.Reader) *Stream { return json.NewDecoder(filling{r}) }

// filling reads as much as it is asked for. A json.Decoder looks at long white
// space from its beginning after every read, and asks for twice as much each
// time: small reads would take quadratic time.
type filling struct{ io.Reader }

func (f filling) Read(p []byte) (n int, err error) {
	for more := 1; n < len(p) && more > 0 && err == nil; n += more {
		more, err = f.Reader.Read(p[n:])
	}
	return n, err
}
