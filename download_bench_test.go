package ricloud_test

import (
	"bufio"
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	ricloud "github.com/reincubate/ricloud-go"
)

// inMemory answers every request with the same bytes. Its body is read in pieces, like a
// connection.
type inMemory []byte

func (m inMemory) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: http.StatusOK, ContentLength: int64(len(m)),
		Body: io.NopCloser(struct{ io.Reader }{bytes.NewReader(m)}), Header: http.Header{},
	}, nil
}

// served is an environment variable of the process that BenchmarkOpen reads from. A separate
// process keeps the server's CPU time out of the measurement.
const served = "RICLOUD_BENCH_SERVED"

const servedSize = 64 << 20

// BenchmarkOpen reads a large result with Open and, for comparison, with net/http and MD5 alone. It
// does so from memory and over loopback. The cpu-ns/op of Open should be at most 1.05 times that of
// get.
func BenchmarkOpen(b *testing.B) {
	if os.Getenv(served) != "" {
		serveUntilKilled(b)
		return
	}
	body := make(inMemory, servedSize)
	b.Run("memory", func(b *testing.B) {
		benchmarkOpen(b, body, "https://storage.test", body)
	})
	b.Run("loopback", func(b *testing.B) {
		transport := &http.Transport{DisableCompression: true}
		defer transport.CloseIdleConnections()
		benchmarkOpen(b, transport, startServing(b), body)
	})
}

func benchmarkOpen(b *testing.B, transport http.RoundTripper, base string, body inMemory) {
	b.Helper()
	result := contents{}.publish(b, base, "large", bytes.NewReader(body))
	client, err := ricloud.NewClient("token", ricloud.WithTransport(transport),
		ricloud.WithBaseURL(strings.Replace(base, "storage.test", "api.test", 1)))
	require.NoError(b, err)
	b.Run("open", func(b *testing.B) {
		measureCPU(b, servedSize, func() {
			f, err := client.Results.Open(b.Context(), result)
			require.NoError(b, err)
			_, err = io.Copy(io.Discard, f)
			require.NoError(b, err)
			require.NoError(b, f.Close())
		})
	})
	b.Run("get", func(b *testing.B) {
		byHand := &http.Client{Transport: transport}
		measureCPU(b, servedSize, func() {
			req, err := http.NewRequestWithContext(b.Context(), http.MethodGet, base+"/large", http.NoBody)
			require.NoError(b, err)
			resp, err := byHand.Do(req)
			require.NoError(b, err)
			hash := md5.New()
			_, err = io.Copy(hash, resp.Body)
			require.NoError(b, err)
			require.NoError(b, resp.Body.Close())
			require.Equal(b, result.Checksum, hex.EncodeToString(hash.Sum(nil)))
		})
	})
}

// measureCPU runs f and reports its CPU time. size is the number of bytes that f processes.
func measureCPU(b *testing.B, size int64, f func()) {
	b.Helper()
	b.SetBytes(size)
	b.ReportAllocs()
	before := cpuTime()
	for b.Loop() {
		f()
	}
	b.ReportMetric(float64(cpuTime()-before)/float64(b.N), "cpu-ns/op")
}

// startServing starts the server in a separate process and returns its URL.
func startServing(b *testing.B) string {
	b.Helper()
	//nolint:gosec // this very program
	cmd := exec.CommandContext(b.Context(), os.Args[0], "-test.run=^$", "-test.bench=^BenchmarkOpen$",
		"-test.benchtime=1x")
	cmd.Env = append(os.Environ(), served+"=yes")
	output, err := cmd.StdoutPipe()
	require.NoError(b, err)
	input, err := cmd.StdinPipe()
	require.NoError(b, err)
	require.NoError(b, cmd.Start())
	b.Cleanup(func() {
		_ = input.Close()
		_, _ = io.Copy(io.Discard, output)
		_ = cmd.Wait()
	})
	for lines := bufio.NewScanner(output); lines.Scan(); {
		if _, url, ok := strings.Cut(lines.Text(), "serving "); ok {
			return url
		}
	}
	require.FailNow(b, "the server did not start")
	return ""
}

// serveUntilKilled serves until standard input is closed.
func serveUntilKilled(b *testing.B) {
	b.Helper()
	server := httptest.NewServer(contents{"/large": bytes.NewReader(make([]byte, servedSize))})
	defer server.Close()
	fmt.Println("serving " + server.URL)
	_, _ = io.Copy(io.Discard, os.Stdin)
}
