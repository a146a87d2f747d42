package ricloud_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ricloud "github.com/reincubate/ricloud-go"
)

// Each event is delivered five times over real connections, in random order, and the handler
// sometimes fails. Each event takes effect once. To run the full load:
//
//	RICLOUD_LOAD_EVENTS=10000 go test -run UnderLoad -v .
func TestWebhookHandlerUnderLoad(t *testing.T) { //nolint:paralleltest // it measures memory
	const deliveriesOfEach, connections, failures = 5, 32, 0.05
	events := 400
	if n, err := strconv.Atoi(os.Getenv("RICLOUD_LOAD_EVENTS")); err == nil {
		events = n
	}
	effects := make([]atomic.Int32, events)
	var failed atomic.Int64
	h := newWebhook(t, func(_ context.Context, e *ricloud.Event) error {
		if rand.Float64() < failures {
			failed.Add(1)
			return errors.New("now and then")
		}
		runtime.Gosched() // lets a duplicate run first
		i, err := strconv.Atoi(string(e.ID))
		if err != nil {
			return err
		}
		effects[i].Add(1)
		return nil
	})
	server := httptest.NewServer(h)
	defer server.Close()
	transport := &http.Transport{MaxConnsPerHost: connections, MaxIdleConnsPerHost: connections}
	defer transport.CloseIdleConnections()

	queue := newLoad(events, deliveriesOfEach)
	begin, heap := time.Now(), heapInUse()
	var wg sync.WaitGroup
	for range connections {
		wg.Go(func() {
			for id, ok := queue.next(); ok; id, ok = queue.next() {
				status, err := post(t.Context(), transport, server.URL, id)
				if err != nil {
					t.Error(err)
					return
				}
				queue.answered(id, status)
			}
		})
	}
	wg.Wait()
	elapsed, grown := time.Since(begin), heapInUse()-heap

	for id := range effects {
		require.EqualValues(t, 1, effects[id].Load(), "event %d takes effect once", id)
	}
	assert.Equal(t, events*deliveriesOfEach, queue.statuses[http.StatusOK])
	assert.EqualValues(t, failed.Load(), queue.statuses[http.StatusInternalServerError])
	assert.Positive(t, failed.Load())
	assert.Less(t, grown, int64(1000*events+4<<20), "memory is what the deduplicator remembers")
	t.Logf("%d deliveries of %d events in %s (%.0f a second); answers %v; fn failed %d times; heap "+
		"grew by %d KiB",
		queue.sent, events, elapsed.Round(time.Millisecond), float64(queue.sent)/elapsed.Seconds(),
		queue.statuses, failed.Load(), grown>>10)
}

// load is a queue of deliveries. A delivery that is not answered with 200 is queued again.
type load struct {
	mu       sync.Mutex
	ids      []int
	sent     int
	statuses map[int]int
}

func newLoad(events, deliveriesOfEach int) *load {
	l := &load{statuses: map[int]int{}}
	for range deliveriesOfEach {
		for id := range events {
			l.ids = append(l.ids, id)
		}
	}
	rand.Shuffle(len(l.ids), func(i, j int) { l.ids[i], l.ids[j] = l.ids[j], l.ids[i] })
	return l
}

func (l *load) next() (id int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.ids) == 0 {
		return 0, false
	}
	last := len(l.ids) - 1
	id, l.ids = l.ids[last], l.ids[:last]
	l.sent++
	return id, true
}

func (l *load) answered(id, status int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.statuses[status]++
	if status != http.StatusOK {
		l.ids = append(l.ids, id)
	}
}

func post(ctx context.Context, rt http.RoundTripper, base string, id int) (status int, err error) {
	body := eventBody(strconv.Itoa(id))
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, base+"/webhooks/"+strconv.Itoa(id),
		bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set(ricloud.SignatureHeader, sign(webhookSecret, time.Now(), body))
	res, err := rt.RoundTrip(r)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	_, err = io.Copy(io.Discard, res.Body)
	return res.StatusCode, err
}

func heapInUse() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse)
}
