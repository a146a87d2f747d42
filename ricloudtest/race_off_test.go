//go:build !race

package ricloudtest_test

// raceDetector reports whether the race detector is on, which makes the tests many times slower.
const raceDetector = false
