//go:build !race

package ricloud_test

// raceDetector says that the tests run many times slower than without it.
const raceDetector = false
