//go:build !goexperiment.jsonv2

package wire

import (
	"encoding/json"
	"io"
)

// Stream reads a document token by token, and its records value by value.
type Stream = json.Decoder

// NewStream returns a Stream of r.
func NewStream(r io.Reader) *Stream { return json.NewDecoder(r) }
