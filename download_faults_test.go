package ricloud_test

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ricloudtest"
)

// proxy forwards TCP connections to a server, and cuts them after a random number of the server's
// bytes.
type proxy struct {
	net.Listener

	mu   sync.Mutex
	cuts int // how many cuts are left
	max  int64
	work sync.WaitGroup
}

func newProxy(t *testing.T, to string, cuts int, longest int64) *proxy {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &proxy{Listener: l, cuts: cuts, max: longest}
	p.work.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			p.work.Go(func() { p.serve(in, to) })
		}
	})
	return p
}

func (p *proxy) stop() {
	_ = p.Close()
	p.work.Wait()
}

func (p *proxy) serve(in net.Conn, to string) {
	defer func() { _ = in.Close() }()
	out, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", to)
	if err != nil {
		return
	}
	defer func() { _ = out.Close() }()
	p.work.Go(func() {
		_, _ = io.Copy(out, in)
		_ = out.Close()
	})
	p.mu.Lock()
	p.cuts--
	cut := p.cuts >= 0
	p.mu.Unlock()
	if cut {
		_, _ = io.CopyN(in, out, rand.Int64N(p.max))
		return
	}
	_, _ = io.Copy(in, out)
}

// contents serves objects by path, with Range and If-Match.
type contents map[string]ricloudtest.Content

func (c contents) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	content, ok := c[r.URL.Path]
	if !ok || r.Header.Get("Authorization") != "" {
		http.Error(w, "no", http.StatusBadRequest)
		return
	}
	w.Header().Set("ETag", `"`+r.URL.Path[1:]+`"`)
	http.ServeContent(w, r, "", time.Time{}, io.NewSectionReader(content, 0, content.Size()))
}

// publish serves content at a signed URL and returns a result that refers to it.
func (c contents) publish(
	t testing.TB, base, name string, content ricloudtest.Content,
) *ricloud.Result {
	t.Helper()
	hash := md5.New()
	_, err := io.Copy(hash, io.NewSectionReader(content, 0, content.Size()))
	require.NoError(t, err)
	c["/"+name] = content
	return &ricloud.Result{
		ID: ricloud.ID(name), Identifier: name, URL: "s3://bucket/" + name, Size: content.Size(),
		Checksum:  hex.EncodeToString(hash.Sum(nil)),
		SignedURL: ricloud.SignedURL{URL: ricloud.NewSecret(base + "/" + name + "?signature=canary")},
	}
}

func md5Of(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	defer func() { _ = f.Close() }()
	hash := md5.New()
	_, err = io.Copy(hash, f)
	require.NoError(t, err)
	return hex.EncodeToString(hash.Sum(nil))
}

// 200 files of 1 B to 200 MiB are saved intact through a proxy that cuts connections at random.
func TestSaveAllThroughACuttingProxy(t *testing.T) {
	t.Parallel()
	largest := int64(200 << 20)
	if testing.Short() || raceDetector {
		largest = 20 << 20
	}
	objects := contents{}
	origin := httptest.NewServer(objects)
	defer origin.Close()
	cutter := newProxy(t, origin.Listener.Addr().String(), 60, 1<<20)
	defer cutter.stop()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	client, err := ricloud.NewClient("token", ricloud.WithTransport(transport),
		ricloud.WithBaseURL(origin.URL), ricloud.WithRetries(50), ricloud.WithRetryWait(time.Millisecond,
			5*time.Millisecond))
	require.NoError(t, err)
	defer client.Close()

	var results []*ricloud.Result
	for i := range 200 {
		size := 1 + rand.Int64N(1<<uint(1+i%18))
		if i == 0 {
			size = 1
		}
		if i == 100 {
			size = largest
		}
		results = append(results, objects.publish(t, "http://"+cutter.Addr().String(),
			fmt.Sprintf("file-%d", i), ricloudtest.GenerateBytes(int64(i), size)))
	}
	saved, err := client.Results.SaveAll(t.Context(), sequence(results), t.TempDir(),
		ricloud.WithParallel(8))
	require.NoError(t, err)
	require.Len(t, saved, len(results))
	for i, s := range saved {
		assert.Equal(t, results[i].Checksum, md5Of(t, s.Path))
	}
	cutter.mu.Lock()
	defer cutter.mu.Unlock()
	assert.LessOrEqual(t, cutter.cuts, 0, "every cut was made")
}

// With every fault of the sandbox, each of 200 files is either saved intact or named in the error.
// No file is acknowledged unverified.
func TestSaveAllUnderEveryFault(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		account := fileAccount(200)
		sandbox := ricloudtest.NewServer(ricloudtest.WithAccounts(account), ricloudtest.WithSpeed(1000),
			ricloudtest.WithSeed(7))
		defer sandbox.Close()
		client := sandbox.Client(ricloud.WithPolling(time.Millisecond, 10*time.Millisecond),
			ricloud.WithRetryWait(time.Millisecond, time.Millisecond),
			ricloud.WithStallTimeout(100*time.Millisecond), ricloud.WithAttemptTimeout(200*time.Millisecond))
		defer client.Close()
		results := messagesAndFiles(t, client)
		require.Len(t, results, 201)
		require.NoError(t, sandbox.RemoveObject(results[7].ID))
		require.NoError(t,
			sandbox.ReplaceObject(results[8].ID, bytes.NewReader([]byte("another content"))))
		storage := func(f ricloudtest.Fault) ricloudtest.Fault {
			f.Operation, f.Count = ricloudtest.StorageGet, -1
			return f
		}
		require.NoError(t, sandbox.SetFaults(
			storage(ricloudtest.Fault{Rate: 0.05, After: true, Corrupt: true}),
			storage(ricloudtest.Fault{Rate: 0.1, After: true, Truncate: 7}),
			storage(ricloudtest.Fault{Rate: 0.05, After: true, ContentLength: 9}),
			storage(ricloudtest.Fault{Rate: 0.05, Reset: true}),
			storage(ricloudtest.Fault{Rate: 0.02, Hang: true}),
			storage(ricloudtest.Fault{Rate: 0.05, Status: http.StatusServiceUnavailable}),
			storage(ricloudtest.Fault{Rate: 0.05, Status: http.StatusForbidden}),
		))
		dir := t.TempDir()
		saved, err := client.Results.SaveAll(t.Context(), sequence(results), dir,
			ricloud.WithAcknowledge(), ricloud.WithParallel(8))
		require.ErrorIs(t, err, ricloud.ErrNotFound)
		assert.Less(t, len(saved), len(results), "a vanished and a replaced object cannot be saved")
		ok := map[ricloud.ID]bool{}
		for _, s := range saved {
			ok[s.Result.ID] = true
			assert.True(t, s.Acknowledged)
			assert.Equal(t, s.Result.Checksum, md5Of(t, s.Path))
		}
		acknowledged := map[ricloud.ID]bool{}
		for r, err := range client.Results.All(t.Context(),
			ricloud.ResultListParams{State: ricloud.ResultConsumed}) {
			require.NoError(t, err)
			acknowledged[r.ID] = true
		}
		assert.Equal(t, ok, acknowledged)
		for _, r := range results {
			if !ok[r.ID] {
				require.ErrorContains(t, err, "result "+string(r.ID)+" (", "every failure is named")
			}
		}
		require.NoError(t, sandbox.SetFaults()) // the next run saves all that still exist
		saved, err = client.Results.SaveAll(t.Context(), sequence(results), dir,
			ricloud.WithAcknowledge())
		require.Error(t, err)
		assert.Len(t, saved, len(results)-2)
	})
}

// killed is an environment variable of the process that TestSaveSurvivesKill kills.
const killed = "RICLOUD_TEST_KILLED"

// After a process is killed at any moment, the next one can continue in the same folder.
func TestSaveSurvivesKill(t *testing.T) {
	if base := os.Getenv(killed); base != "" {
		saveAllOf(t, base, os.Getenv(killed+"_DIR"))
		return
	}
	t.Parallel()
	objects := contents{}
	for i := range killedFiles {
		objects[fmt.Sprintf("/file-%d", i)] = ricloudtest.GenerateBytes(int64(i), killedSize)
	}
	server := httptest.NewServer(slowly{objects})
	defer server.Close()
	dir := t.TempDir()
	kills := 0
	for range 12 {
		//nolint:gosec // this very program
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestSaveSurvivesKill$",
			"-test.count=1")
		cmd.Env = append(os.Environ(), killed+"="+server.URL, killed+"_DIR="+dir)
		require.NoError(t, cmd.Start())
		timer := time.AfterFunc(50*time.Millisecond+rand.N(250*time.Millisecond), func() {
			_ = cmd.Process.Kill()
		})
		if cmd.Wait() != nil {
			kills++
		}
		timer.Stop()
	}
	assert.Positive(t, kills)
	saveAllOf(t, server.URL, dir)
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Len(t, entries, killedFiles, "nothing else is left")
}

const (
	killedFiles = 6
	killedSize  = 4 << 20
)

// slowly slows a transfer down, so that the process can be killed during it.
type slowly struct{ next http.Handler }

func (s slowly) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.next.ServeHTTP(slowWriter{w}, r)
}

type slowWriter struct{ http.ResponseWriter }

func (s slowWriter) Write(p []byte) (int, error) {
	timer := time.NewTimer(time.Millisecond)
	<-timer.C
	return s.ResponseWriter.Write(p)
}

func saveAllOf(t *testing.T, base, dir string) {
	t.Helper()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	client, err := ricloud.NewClient("token", ricloud.WithTransport(transport),
		ricloud.WithBaseURL(base))
	require.NoError(t, err)
	var results []*ricloud.Result
	for i := range killedFiles {
		results = append(results, contents{}.publish(t, base, fmt.Sprintf("file-%d", i),
			ricloudtest.GenerateBytes(int64(i), killedSize)))
	}
	saved, err := client.Results.SaveAll(t.Context(), sequence(results), dir)
	require.NoError(t, err)
	for i, s := range saved {
		assert.Equal(t, results[i].Checksum, md5Of(t, s.Path))
		assert.Equal(t, filepath.Join(dir, results[i].Identifier), s.Path)
	}
}

// repeated is a document of repeated records, of any size. It is generated while it is read.
type repeated struct {
	head, record, tail string
	count              int64
}

func (r repeated) Size() int64 {
	return int64(len(r.head)) + r.count*int64(len(r.record)) + int64(len(r.tail))
}

func (r repeated) ReadAt(p []byte, off int64) (n int, err error) {
	for n < len(p) {
		var rest string
		switch at := off + int64(n) - int64(len(r.head)); {
		case at < 0:
			rest = r.head[len(r.head)+int(at):]
		case at < r.count*int64(len(r.record)):
			rest = r.record[at%int64(len(r.record)):]
		case at < r.Size()-int64(len(r.head)):
			rest = r.tail[at-r.count*int64(len(r.record)):]
		default:
			return n, io.EOF
		}
		n += copy(p[n:], rest)
	}
	return n, nil
}

// Memory use does not grow with the size of a result. RICLOUD_TEST_LARGE=1 tests with 2 GiB.
func TestMemory(t *testing.T) { //nolint:paralleltest // it measures the whole process
	size := int64(64 << 20)
	if os.Getenv("RICLOUD_TEST_LARGE") != "" { // takes about a minute
		size = 2 << 30
	}
	record := `{"text":"` + strings.Repeat("x", 64<<10-13) + `"},`
	count := size / int64(len(record))
	document := repeated{
		`{"data":[`, record,
		fmt.Sprintf(`{"text":""}],"metadata":{"count":%d}}`, count+1), count,
	}
	objects := contents{}
	server := httptest.NewServer(objects)
	defer server.Close()
	result := objects.publish(t, server.URL, "large", document)
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	client, err := ricloud.NewClient("token", ricloud.WithTransport(transport),
		ricloud.WithBaseURL(server.URL))
	require.NoError(t, err)

	const limit = 16 << 20
	var before runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var grown uint64
	measure := func() {
		var now runtime.MemStats
		runtime.ReadMemStats(&now)
		if now.HeapAlloc > before.HeapAlloc {
			grown = max(grown, now.HeapAlloc-before.HeapAlloc)
		}
	}
	seen, next := int64(0), int64(0)
	progress := ricloud.WithProgress(func(p ricloud.Progress) {
		if seen++; seen >= next {
			measure()
			next = seen + 500
		}
		_ = p
	})
	saved, err := client.Results.Save(t.Context(), result, t.TempDir(), progress)
	require.NoError(t, err)
	info, err := os.Stat(saved.Path)
	require.NoError(t, err)
	assert.Equal(t, document.Size(), info.Size())

	f, err := client.Results.Open(t.Context(), result, progress)
	require.NoError(t, err)
	defer f.Close()
	records := int64(0)
	for _, err := range ricloud.Records[struct {
		Text string `json:"text"`
	}](f) {
		require.NoError(t, err)
		records++
	}
	assert.Equal(t, count+1, records)
	t.Logf("%d MiB: the heap grew by %.1f MiB", size>>20, float64(grown)/(1<<20))
	assert.LessOrEqual(t, grown, uint64(limit))
}
