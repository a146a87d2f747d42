//go:build race

package ingest_test

// raceDetector says that the tests run many times slower than without it.
const raceDetector = true
