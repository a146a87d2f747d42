// Package jsonerror says in words what is wrong with JSON that a person wrote: encoding/json's
// errors name Go types.
package jsonerror

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
)

// Describer is a type that says in words which JSON it reads, such as `a duration such as "1.5s"`.
type Describer interface{ JSON() string }

// InWords returns the error of a decoder of encoding/json in words, or any other error as it is.
func InWords(err error) error {
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		field := wrong.Field
		if field == "" {
			field = "the JSON"
		}
		return fmt.Errorf("%s: want %s, got %s", field, kind(wrong.Type), wrong.Value)
	}
	if err == nil {
		return nil
	}
	if name, found := strings.CutPrefix(err.Error(), "json: unknown field "); found {
		return fmt.Errorf("there is no field %s", name)
	}
	return err
}

// kind returns the JSON that a Go type is read from.
func kind(t reflect.Type) string {
	if d, ok := reflect.TypeAssert[Describer](reflect.Zero(t)); ok {
		return d.JSON()
	}
	switch t.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return "a whole number"
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return "a whole number that is not negative"
	case reflect.Float32, reflect.Float64:
		return "a number"
	case reflect.Slice, reflect.Array:
		return "an array"
	case reflect.Pointer:
		return kind(t.Elem())
	default:
		return "an object"
	}
}
