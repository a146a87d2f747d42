// Package signaturetest has no code, only tests: it reads and writes with
// storage/s3 against a server that checks signatures and conditions.
package signaturetest
