//go:build race

package ricloud_test

const raceEnabled = true
