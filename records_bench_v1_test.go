//go:build !goexperiment.jsonv2

package ricloud_test

import "io"

// jsonv2Loops returns the loops over encoding/json/v2, which this build lacks.
func jsonv2Loops() map[string]func(io.Reader) (int, error) { return nil }
