//go:build !goexperiment.jsonv2

package ricloud_test

import "io"

// jsonv2Loops returns no loops, because this build has no encoding/json/v2.
func jsonv2Loops() map[string]func(io.Reader) (int, error) { return nil }
