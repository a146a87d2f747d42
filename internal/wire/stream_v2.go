//go:build goexperiment.jsonv2

package wire

import (
	"encoding/json"
	"encoding/json/jsontext"
	jsonv2 "encoding/json/v2"
	"errors"
	"io"
	"reflect"
	"strconv"
	"strings"
)

// Stream is json.Decoder with the same results. It decodes a value in one pass,
// where that of a build with GOEXPERIMENT=jsonv2 takes three (BenchmarkRecords).
type Stream struct {
	decoder *jsontext.Decoder
	err     error // the last one, where the document cannot be read any further
	at      int64 // where the value begins that cannot be read
}

// NewStream returns a Stream of r.
func NewStream(r io.Reader) *Stream {
	return &Stream{decoder: jsontext.NewDecoder(
		struct{ io.Reader }{r}, // never a *bytes.Buffer, which would have to stay as it is
		json.DefaultOptionsV1(), json.ReportErrorsWithLegacySemantics(false),
	)}
}

// More reports whether the array or object has another element, or cannot be
// read any further.
func (s *Stream) More() bool {
	kind := s.decoder.PeekKind()
	return kind != jsontext.KindEndArray && kind != jsontext.KindEndObject
}

// Token returns the next token. A number is a json.Number.
func (s *Stream) Token() (json.Token, error) {
	if s.err != nil {
		return nil, s.err
	}
	token, err := s.decoder.ReadToken()
	if err != nil {
		return nil, s.fail(s.decoder.InputOffset(), err)
	}
	switch kind := token.Kind(); kind {
	case jsontext.KindNull:
		return nil, nil //nolint:nilnil // as json.Decoder has it
	case jsontext.KindFalse, jsontext.KindTrue:
		return token.Bool(), nil
	case jsontext.KindString:
		return token.String(), nil
	case jsontext.KindNumber:
		return json.Number(token.String()), nil
	default:
		return json.Delim(kind), nil
	}
}

// Decode decodes the next value. If it does not fit v, the Stream is past it.
func (s *Stream) Decode(v any) error {
	if s.err != nil {
		return s.err
	}
	before, begin, depth := s.decoder.InputOffset(), s.next(','), s.decoder.StackDepth()
	err := jsonv2.UnmarshalDecode(s.decoder, v)
	if err == nil {
		return nil
	}
	if mismatch, ok := err.(*jsonv2.SemanticError); ok { //nolint:errorlint // bare, of this package
		if err = s.leave(before, depth); err == nil {
			return classic(mismatch, v, depth)
		}
	}
	return s.fail(begin, err)
}

// leave reads to the end of the value that begins after an offset, at a depth.
func (s *Stream) leave(before int64, depth int) error {
	if s.decoder.InputOffset() == before {
		return s.decoder.SkipValue()
	}
	for s.decoder.StackDepth() > depth {
		if _, err := s.decoder.ReadToken(); err != nil {
			return err
		}
	}
	return nil
}

// InputOffset returns where the next token begins, or the comma before it.
func (s *Stream) InputOffset() int64 {
	if s.err != nil {
		return s.at
	}
	return s.next(' ')
}

// next returns the offset after white space and, if need be, another character.
func (s *Stream) next(after byte) int64 {
	offset := s.decoder.InputOffset()
	for _, c := range s.decoder.UnreadBuffer() {
		if c != ' ' && c != '\t' && c != '\r' && c != '\n' && c != after {
			break
		}
		offset++
	}
	return offset
}

// fail keeps an error that ends the document, without the names in it.
func (s *Stream) fail(at int64, err error) error {
	syntax, ok := errors.AsType[*jsontext.SyntacticError](err)
	switch {
	case ok:
		err = syntax.Err
	case err != io.EOF && errors.Unwrap(err) != nil: //nolint:errorlint // bare, of jsontext
		err = errors.Unwrap(err) // of the reader
	}
	s.err, s.at = err, at
	return err
}

// classic returns the error that encoding/json has for a value that does not fit.
func classic(e *jsonv2.SemanticError, v any, depth int) error {
	if e.Err != nil && !errors.Is(e.Err, strconv.ErrRange) && !errors.Is(e.Err, strconv.ErrSyntax) {
		return e.Err // of a type's own UnmarshalJSON
	}
	value := map[jsontext.Kind]string{
		jsontext.KindNull: "null", jsontext.KindString: "string", jsontext.KindNumber: "number",
		jsontext.KindFalse: "bool", jsontext.KindTrue: "bool",
		jsontext.KindBeginArray: "array", jsontext.KindEndArray: "array",
		jsontext.KindBeginObject: "object", jsontext.KindEndObject: "object",
	}[e.JSONKind]
	field := "" // the outermost one: what is within may be keys of a map, which are data
	path := strings.Split(string(e.JSONPointer), "/")
	if reflect.TypeOf(v).Elem().Kind() == reflect.Struct && len(path) > depth+1 {
		field = path[depth+1]
	}
	return &json.UnmarshalTypeError{Value: value, Type: e.GoType, Offset: e.ByteOffset, Field: field}
}
