package ricloud

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
)

// ErrRecordCount is a document whose metadata counts other than what came.
var ErrRecordCount = errors.New("ricloud: the number of records is not what metadata.count says")

// RecordError is what is wrong with a document of records.
type RecordError struct {
	Index  int   // of the record, from 0; the number of records behind the last
	Offset int64 // where in the document it begins, in bytes
	Err    error
}

// Error names the record and its place, and none of its values.
func (e *RecordError) Error() string {
	cause := e.Err
	if mismatch, ok := errors.AsType[*json.UnmarshalTypeError](cause); ok {
		kind, _, _ := strings.Cut(mismatch.Value, " ") // without the number itself
		cause = fmt.Errorf("%s does not fit %s %s", kind, mismatch.Field, mismatch.Type)
	}
	return fmt.Sprintf("ricloud: record %d, at byte %d: %s", e.Index, e.Offset, strings.TrimPrefix(cause.Error(), "ricloud: "))
}

// Unwrap returns what is wrong.
func (e *RecordError) Unwrap() error { return e.Err }

// Records reads the records of a data result, {"data": […], "metadata":
// {"count": n}}, one after the other: memory holds one record, however long
// the document. T is a type of yours, or json.RawMessage for records as they
// came.
//
//	file, err := client.Results.Open(ctx, result)
//	…
//	defer file.Close()
//	for call, err := range ricloud.Records[Call](file) { … }
//
// A record that does not fit T is yielded as a *RecordError, and the next ones
// follow. Everything else that is wrong ends the iteration with its error: a
// document that breaks off, ErrRecordCount, and, as it reads to the end of r,
// the ErrChecksum of a result that turns out damaged. Records that came before
// such an error are not verified.
func Records[T any](r io.Reader) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		d := document{Decoder: json.NewDecoder(r)}
		err := d.read(func() (stop bool, err error) {
			var v, zero T
			begin := d.next()
			if err := d.Decode(&v); err != nil {
				if d.InputOffset() <= begin { // not even JSON
					return true, err
				}
				return !yield(zero, &RecordError{d.index, begin, err}), nil
			}
			return !yield(v, nil), nil
		})
		if err != nil && !errors.Is(err, errStopped) {
			var zero T
			yield(zero, &RecordError{d.index, d.InputOffset(), err})
		}
	}
}

// document is the JSON of a data result.
type document struct {
	*json.Decoder

	index int
	count *int
}

var errStopped = errors.New("stopped")

// next is where the next element of an array begins.
func (d *document) next() int64 {
	if d.index > 0 {
		return d.InputOffset() + 1 // behind the comma
	}
	return d.InputOffset()
}

// read calls record at each record; record decodes it.
func (d *document) read(record func() (stop bool, err error)) error {
	if err := d.expect('{'); err != nil {
		return err
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return err
		}
		switch name {
		case "data":
			err = d.records(record)
		case "metadata":
			err = d.metadata()
		default:
			err = d.skip()
		}
		if err != nil {
			return err
		}
	}
	if err := d.expect('}'); err != nil {
		return err
	}
	if d.count != nil && *d.count != d.index {
		return fmt.Errorf("%w: %d came, it says %d", ErrRecordCount, d.index, *d.count)
	}
	switch _, err := d.Token(); {
	case err == nil:
		return errors.New("something follows the document")
	case errors.Is(err, io.EOF): // the reader, too, says all is well
		return nil
	default:
		return err
	}
}

func (d *document) expect(want json.Delim) error {
	token, err := d.Token()
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	if err == nil && token != want {
		return fmt.Errorf("%q was expected", want)
	}
	return err
}

func (d *document) records(record func() (stop bool, err error)) error {
	token, err := d.Token()
	if err != nil || token == nil { // null: none
		return err
	}
	if token != json.Delim('[') {
		return errors.New(`"data" is no array`)
	}
	for d.More() {
		stop, err := record()
		if err != nil {
			return err
		}
		d.index++
		if stop {
			return errStopped
		}
	}
	return d.expect(']')
}

// metadata reads the count, if there is one that can be read.
func (d *document) metadata() error {
	var fields map[string]json.RawMessage
	begin := d.InputOffset()
	if err := d.Decode(&fields); err != nil && d.InputOffset() <= begin+1 {
		return err
	}
	var count int
	if raw, ok := fields["count"]; ok && json.Unmarshal(raw, &count) == nil {
		d.count = &count
	}
	return nil
}

// skip passes over a value of any size.
func (d *document) skip() error {
	for depth := 0; ; {
		token, err := d.Token()
		if err != nil {
			return err
		}
		switch token {
		case json.Delim('['), json.Delim('{'):
			depth++
		case json.Delim(']'), json.Delim('}'):
			depth--
		}
		if depth == 0 {
			return nil
		}
	}
}
