package ricloud_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ricloudtest"
)

// remoteQuota is a Pacer that gets its turns from another process, which counts the requests of all
// processes.
type remoteQuota struct {
	base   string
	client *http.Client
}

// Wait asks for a turn and returns when the request may be sent. If ctx ends first, so does the
// request to the quota server, and no turn is used.
func (q *remoteQuota) Wait(ctx context.Context, p ricloud.Priority) error {
	target := q.base + "/turn?priority=" + strconv.Itoa(int(p))
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, http.NoBody)
	if err != nil {
		return err
	}
	resp, err := q.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("quota: %s", resp.Status)
	}
	return nil
}

// Pause tells the quota server that the API asks for a pause. It does not wait for an answer.
func (q *remoteQuota) Pause(d time.Duration) {
	go func() {
		//nolint:noctx // nothing waits for it
		resp, err := q.client.PostForm(q.base+"/pause", url.Values{"for": {d.String()}})
		if err == nil {
			resp.Body.Close()
		}
	}()
}

// newQuota serves 100 turns a second for all processes together, and counts them. A production
// server would let foreground requests go first.
func newQuota(turns *atomic.Int64) *httptest.Server {
	limit := rate.NewLimiter(100, 1)
	var paused atomic.Int64 // end of the pause, as Unix time in nanoseconds
	mux := http.NewServeMux()
	mux.HandleFunc("GET /turn", func(_ http.ResponseWriter, r *http.Request) {
		pause := time.NewTimer(time.Until(time.Unix(0, paused.Load())))
		defer pause.Stop()
		select {
		case <-pause.C:
		case <-r.Context().Done():
			return
		}
		if limit.Wait(r.Context()) == nil {
			turns.Add(1)
		}
	})
	mux.HandleFunc("POST /pause", func(_ http.ResponseWriter, r *http.Request) {
		if d, err := time.ParseDuration(r.FormValue("for")); err == nil {
			paused.Store(time.Now().Add(d).UnixNano())
		}
	})
	return httptest.NewServer(mux)
}

// Two clients share one quota, which another process counts.
func ExampleWithPacer() {
	var turns atomic.Int64
	quota := newQuota(&turns)
	defer quota.Close()
	sandbox := ricloudtest.NewServer()
	defer sandbox.Close()
	ctx := context.Background()

	for range 2 {
		pacer := &remoteQuota{base: quota.URL, client: quota.Client()}
		client := sandbox.Client(ricloud.WithPacer(pacer))
		for range 3 {
			if _, err := client.Organisation.Get(ctx); err != nil {
				fmt.Println(err)
				return
			}
		}
	}
	fmt.Println("turns taken:", turns.Load())
	// Output: turns taken: 6
}
