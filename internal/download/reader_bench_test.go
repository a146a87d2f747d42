package download

import (
	"crypto/md5"
	"crypto/sha256"
	"hash"
	"io"
	"testing"

	"github.com/stretchr/testify/require"
)

// BenchmarkHashes reads a file with MD5 alone and with SHA-256 in addition, and computes the same
// hashes without a reader. The difference between the two should be the same with and without a
// reader.
func BenchmarkHashes(b *testing.B) {
	o := &object{content: random(16 << 20)}
	read := func(both bool) func(b *testing.B) {
		return func(b *testing.B) {
			file := o.file()
			file.SHA256 = both
			b.SetBytes(int64(len(o.content)))
			b.ReportAllocs()
			for b.Loop() {
				_, err := io.Copy(io.Discard, NewReader(b.Context(), limits(), file))
				require.NoError(b, err)
			}
		}
	}
	byHand := func(hashes ...func() hash.Hash) func(b *testing.B) {
		return func(b *testing.B) {
			b.SetBytes(int64(len(o.content)))
			b.ReportAllocs()
			for b.Loop() {
				var sums []hash.Hash
				for _, begin := range hashes {
					sums = append(sums, begin())
				}
				for rest := o.content; len(rest) > 0; {
					n := min(copyBuffer, len(rest))
					for _, sum := range sums {
						_, _ = sum.Write(rest[:n])
					}
					rest = rest[n:]
				}
			}
		}
	}
	b.Run("reader/md5", read(false))
	b.Run("hand/md5", byHand(md5.New))
	b.Run("reader/both", read(true))
	b.Run("hand/both", byHand(md5.New, sha256.New))
}
