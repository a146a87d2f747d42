// Package browsertest tests the sandbox's page in a real Chromium. It is a module of its own, so
// that nobody who uses the SDK downloads what drives a browser. The gate's step "browser" runs it.
package browsertest
