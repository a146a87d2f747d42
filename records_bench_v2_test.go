//go:build goexperiment.jsonv2

package ricloud_test

import (
	"encoding/json/jsontext"
	"encoding/json/v2"
	"io"
)

// jsonv2Loops returns the loops over encoding/json/v2.
func jsonv2Loops() map[string]func(io.Reader) (int, error) {
	return map[string]func(io.Reader) (int, error){
		"typed/jsonv2": countDecodedV2[call], "raw/jsonv2": countDecodedV2[jsontext.Value],
	}
}

func countDecodedV2[T any](r io.Reader) (n int, err error) {
	d := jsontext.NewDecoder(r)
	for range 3 { // {"data":[
		if _, err := d.ReadToken(); err != nil {
			return 0, err
		}
	}
	for ; d.PeekKind() != ']'; n++ {
		var v T
		if err := json.UnmarshalDecode(d, &v); err != nil {
			return n, err
		}
	}
	return n, nil
}
