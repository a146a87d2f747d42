package ricloudtest_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ricloudtest"
)

// outcome is what a client sees of a call.
type outcome struct {
	status int
	body   string
	err    error
}

func try(ctx context.Context, t *testing.T, rt http.RoundTripper, base, token string) outcome {
	t.Helper()
	r := request(ctx, t, http.MethodPost, "/users", token, `{"identifier":"u"}`)
	r.URL.Scheme, r.URL.Host, _ = strings.Cut(base, "://")
	res, err := rt.RoundTrip(r)
	if err != nil {
		return outcome{err: err}
	}
	defer res.Body.Close()
	body, err := readAll(res)
	return outcome{res.StatusCode, string(body), err}
}

// impatient gives up as soon as an answer has begun.
type impatient struct {
	http.RoundTripper
	giveUp func()
}

func (i impatient) RoundTrip(r *http.Request) (*http.Response, error) {
	defer i.giveUp()
	return i.RoundTripper.RoundTrip(r)
}

// Each fault has the same effect in memory and over a socket.
func TestFaults(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		fault     ricloudtest.Fault
		status    int
		body      string
		broken    error
		processed bool
	}{
		"none": {
			fault: ricloudtest.Fault{Nth: 2, Reset: true}, status: 201,
			body: `"resource":"user"`, broken: nil, processed: true,
		},
		"status": {
			fault:  ricloudtest.Fault{Status: 503, Header: http.Header{"retry-after": {"7"}}},
			status: 503, body: "", broken: nil, processed: false,
		},
		"status after": {
			fault: ricloudtest.Fault{
				Status: 502, After: true,
				Body: "<html>Bad gateway</html>",
			},
			status: 502, body: "<html>", broken: nil, processed: true,
		},
		"reset before": {
			fault: ricloudtest.Fault{Reset: true}, status: 0, body: "",
			broken: syscall.ECONNRESET, processed: false,
		},
		"reset after": {
			fault: ricloudtest.Fault{Reset: true, After: true}, status: 0, body: "",
			broken: syscall.ECONNRESET, processed: true,
		},
		"hang": {
			fault: ricloudtest.Fault{Hang: true}, status: 0, body: "", broken: context.Canceled,
			processed: false,
		},
		"truncated": {
			fault: ricloudtest.Fault{Truncate: 5}, status: 201, body: `{"`,
			broken: io.ErrUnexpectedEOF, processed: true,
		},
		"lying length, short": {
			fault: ricloudtest.Fault{ContentLength: 9}, status: 201, body: `{"`, broken: nil,
			processed: true,
		},
		"lying length, long": {
			fault: ricloudtest.Fault{ContentLength: 9999}, status: 201,
			body: `"resource":"user"`, broken: io.ErrUnexpectedEOF, processed: true,
		},
		"corrupt": {
			fault: ricloudtest.Fault{Corrupt: true}, status: 201, body: "", broken: nil,
			processed: true,
		},
		"drip": {
			fault: ricloudtest.Fault{Drip: time.Minute}, status: 201, body: "",
			broken: context.Canceled, processed: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, sockets := range []bool{false, true} {
				test.fault.Operation = "Users.Create"
				srv := newServer(t, ricloudtest.WithFaults(test.fault))
				base, rt := "https://api.ricloud.test", http.RoundTripper(srv)
				if sockets {
					wire := &http.Transport{}
					t.Cleanup(wire.CloseIdleConnections)
					base, rt = srv.URL(), wire
				}
				ctx, giveUp := context.WithCancel(t.Context())
				defer giveUp()
				switch {
				case test.fault.Hang:
					go func() {
						for srv.CountCalls("Users.Create") == 0 {
							runtime.Gosched()
						}
						giveUp()
					}()
				case test.fault.Drip > 0:
					rt = impatient{rt, giveUp}
				}
				got := try(ctx, t, rt, base, srv.Token())
				assert.Equal(t, test.status, got.status)
				assert.Contains(t, got.body, test.body)
				if test.broken == nil {
					require.NoError(t, got.err)
				} else if !errors.Is(got.err, test.broken) {
					// A socket may report the end of the stream before the reset.
					require.ErrorContains(t, got.err, "EOF", "%v", got.err)
				}
				users, err := srv.Client().Users.List(t.Context(), ricloud.UserListParams{})
				require.NoError(t, err)
				assert.Equal(t, test.processed, len(users.Data) == 1, "did it happen?")
				assert.Equal(t, 1, srv.CountCalls("Users.Create"))
			}
		})
	}
}

func TestFaultsStrikeTheCallsTheyName(t *testing.T) {
	t.Parallel()
	srv := newServer(t)
	status := func(path string) int {
		status, _ := send(t.Context(), t, srv, http.MethodGet, path, srv.Token(), "")
		return status
	}
	broken := ricloudtest.Fault{Operation: "Keys.Current", Nth: 2, Count: 2, Status: 500, Body: "{}"}
	require.NoError(t, srv.SetFaults(broken))
	assert.Equal(t, []int{200, 200, 500, 500, 200},
		[]int{status("/key"), status("/keys"), status("/key"), status("/key"), status("/key")})
	broken.Count = -1
	require.NoError(t, srv.SetFaults(broken))
	assert.Equal(t, []int{200, 500, 500, 500},
		[]int{status("/key"), status("/key"), status("/key"), status("/key")})
	require.NoError(t, srv.SetFaults(ricloudtest.Fault{Count: -1, Rate: 0.5, Status: 500, Body: "{}"}))
	failed := 0
	for range 400 {
		if status("/key") == http.StatusInternalServerError {
			failed++
		}
	}
	assert.InDelta(t, 200, failed, 60)
}

func TestDelayedAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv := newServer(t, ricloudtest.WithFaults(ricloudtest.Fault{Delay: time.Minute}))
		began := time.Now()
		got := try(t.Context(), t, srv, "https://api.ricloud.test", srv.Token())
		require.NoError(t, got.err)
		assert.Equal(t, http.StatusCreated, got.status)
		assert.Equal(t, time.Minute, time.Since(began))
	})
}

func TestReadFaults(t *testing.T) {
	t.Parallel()
	faults, err := ricloudtest.ReadFaults(strings.NewReader(
		`[{"operation":"Polls.Get","nth":3,"status":503,"header":{"Retry-After":["5"]},"delay":"1.5s"},` +
			`{"content_length":7,"drip":"10ms"}]`))
	require.NoError(t, err)
	assert.Equal(t, []ricloudtest.Fault{
		{
			Operation: "Polls.Get", Nth: 3, Status: 503,
			Header: http.Header{"Retry-After": {"5"}}, Delay: 1500 * time.Millisecond,
		},
		{ContentLength: 7, Drip: 10 * time.Millisecond},
	}, faults)
	for _, bad := range []string{`{}`, `[{"delay":"soon"}]`, `[{"what":1}]`} {
		_, err := ricloudtest.ReadFaults(strings.NewReader(bad))
		require.Error(t, err, bad)
	}
}

// The journal contains no token, password or signature.
func TestTheJournalHoldsNoSecrets(t *testing.T) {
	t.Parallel()
	srv := newServer(t)
	c := srv.Client()
	session := john(t.Context(), t, c)
	poll, err := c.Polls.Create(t.Context(), ricloud.PollCreateParams{
		Session: session.ID,
		Payload: ricloud.PollPayload{Files: []ricloud.ID{"7a10photo"}},
	})
	require.NoError(t, err)
	poll, err = c.Polls.Wait(t.Context(), poll.ID)
	require.NoError(t, err)
	res, err := fetch(t.Context(), srv, poll.Results.Data[0].SignedURL.URL.Reveal(), nil)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	assert.Equal(t, 1, srv.CountCalls(ricloudtest.StorageGet))
	for _, call := range srv.Calls() {
		assert.NotContains(t, call.Path+call.Query.Encode(), "signature")
		assert.NotZero(t, call.Status)
		assert.Contains(t, ricloudtest.Operations(), call.Operation)
	}
	srv.ResetCalls()
	assert.Zero(t, srv.CountCalls(""))
	assert.Empty(t, srv.Calls())
}
