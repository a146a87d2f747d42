package s3_test

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/stretchr/testify/require"

	ricloud "github.com/reincubate/ricloud-go"
)

// BenchmarkManySmall saves 500 objects of 16 KiB, 8 at a time, in three ways that take turns: with
// SaveAll, and with the AWS SDK in loops that a user would write by hand. One gives the same
// result as SaveAll: verified, hashed, on disk, under its name in one step. The bare one only
// writes files to disk. The AWS client is as the SDK makes it, which asks for checksums, and the
// server sends them, as S3 does. The metrics are medians of what SaveAll takes by what the loop
// takes: wall time, CPU time and allocations, those of the server in this process included.
func BenchmarkManySmall(b *testing.B) {
	client := newS3(b, withChecksums)
	client = awss3.New(client.Options(), func(o *awss3.Options) {
		o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenSupported // the default
	})
	results := make([]*ricloud.Result, 500)
	for i := range results {
		results[i] = put(b, client, fmt.Sprintf("object-%d", i), smallObject(i))
	}
	c := newClient(b, client)
	saveAll := func(dir string) error {
		saved, err := c.Results.SaveAll(b.Context(), func(yield func(*ricloud.Result, error) bool) {
			for _, r := range results {
				if !yield(r, nil) {
					return
				}
			}
		}, dir, ricloud.WithParallel(8))
		if err == nil && len(saved) != len(results) {
			err = errors.New("results are missing")
		}
		return err
	}
	loop := func(save func(context.Context, *awss3.Client, *ricloud.Result, string) error) func(
		string) error {
		return func(dir string) error {
			return inParallel(results, func(r *ricloud.Result) error {
				return save(b.Context(), client, r, dir)
			})
		}
	}
	ways := []func(string) error{saveAll, loop(saveVerified), loop(saveBare)}
	measures := []string{"time", "cpu", "allocs"}
	ratios := map[string][]float64{}
	for round := 0; b.Loop(); round++ {
		var took [3][3]float64
		for turn := range ways {
			i := (round + turn) % len(ways)
			dir := b.TempDir()
			took[i] = measure(func() { require.NoError(b, ways[i](dir)) })
		}
		for m, name := range measures {
			ratios[name+"/verified"] = append(ratios[name+"/verified"], took[0][m]/took[1][m])
			ratios[name+"/bare"] = append(ratios[name+"/bare"], took[0][m]/took[2][m])
		}
	}
	for name, of := range ratios {
		b.ReportMetric(median(of), name)
	}
}

// measure returns the wall time, the CPU time and the number of allocations that f takes.
func measure(f func()) [3]float64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	cpu, begun := cpuTime(), time.Now()
	f()
	took := [3]float64{time.Since(begun).Seconds(), (cpuTime() - cpu).Seconds()}
	runtime.ReadMemStats(&after)
	took[2] = float64(after.Mallocs - before.Mallocs)
	return took
}

// withChecksums adds the checksum of an object to an answer if it is asked for. The objects are
// those of BenchmarkManySmall.
func withChecksums(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var i int
		if _, err := fmt.Sscanf(path.Base(r.URL.Path), "object-%d", &i); err == nil &&
			r.Header.Get("X-Amz-Checksum-Mode") == "ENABLED" {
			sum := crc32.ChecksumIEEE(smallObject(i))
			w.Header().Set("X-Amz-Checksum-Crc32",
				base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, sum)))
		}
		next.ServeHTTP(w, r)
	})
}

func smallObject(i int) []byte { return bytes.Repeat([]byte{byte(i)}, 16<<10) }

func median(of []float64) float64 {
	slices.Sort(of)
	return of[len(of)/2]
}

// inParallel works on all results, 8 at a time.
func inParallel(results []*ricloud.Result, work func(*ricloud.Result) error) error {
	queue, done := make(chan *ricloud.Result), make(chan error)
	const workers = 8
	for range workers {
		go func() {
			var failed error
			for r := range queue {
				failed = errors.Join(failed, work(r))
			}
			done <- failed
		}()
	}
	for _, r := range results {
		queue <- r
	}
	close(queue)
	var failed error
	for range workers {
		failed = errors.Join(failed, <-done)
	}
	return failed
}

// saveVerified saves a result as SaveAll does, with the AWS SDK alone.
func saveVerified(
	ctx context.Context, client *awss3.Client, r *ricloud.Result, dir string,
) error {
	if _, err := os.Lstat(filepath.Join(dir, r.Identifier)); err == nil {
		return os.ErrExist
	}
	out, err := client.GetObject(ctx,
		&awss3.GetObjectInput{Bucket: aws.String(bucket), Key: &r.Identifier})
	if err != nil {
		return err
	}
	defer out.Body.Close()
	f, err := os.CreateTemp(dir, ".part-")
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // after Sync
	sum, sha := md5.New(), sha256.New()
	size, err := io.Copy(io.MultiWriter(f, sum, sha), out.Body)
	if err != nil {
		return err
	}
	if size != r.Size || hex.EncodeToString(sum.Sum(nil)) != r.Checksum {
		return ricloud.ErrChecksum
	}
	_ = hex.EncodeToString(sha.Sum(nil))
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Link(f.Name(), filepath.Join(dir, r.Identifier)); err != nil { // overwrites nothing
		return err
	}
	return os.Remove(f.Name())
}

// saveBare writes an object to disk with the AWS SDK alone, and verifies nothing.
func saveBare(ctx context.Context, client *awss3.Client, r *ricloud.Result, dir string) error {
	out, err := client.GetObject(ctx,
		&awss3.GetObjectInput{Bucket: aws.String(bucket), Key: &r.Identifier})
	if err != nil {
		return err
	}
	defer out.Body.Close()
	f, err := os.Create(filepath.Join(dir, r.Identifier))
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // after Sync
	if _, err := io.Copy(f, out.Body); err != nil {
		return err
	}
	return f.Sync()
}
