package ingest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ingest"
	"github.com/reincubate/ricloud-go/ingest/internal/store"
	"github.com/reincubate/ricloud-go/ricloudtest"
)

// If the answer to a create is lost, the engine finds what was created and does not create it
// again.
func TestLostAnswersMakeNothingTwice(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		there, here := fleet(100)
		lost := func(operation string) ricloudtest.Fault {
			return ricloudtest.Fault{Operation: operation, Rate: 0.3, Count: -1, After: true, Reset: true}
		}
		b := newBench(t, ingest.Config{Memory: true}, ricloudtest.WithAccounts(there...),
			ricloudtest.WithDelays(delays()),
			ricloudtest.WithFaults(lost("Sessions.Create"), lost("Polls.Create"), lost("Users.Create"),
				lost("Results.AcknowledgeAll")))
		stop := b.run(b.handlers())
		b.submit(here...)
		b.wait(100, ingest.Done)
		stop()
		assert.Equal(t, 100, b.sandbox.CountCalls("Sessions.Create"))
		assert.Equal(t, 100, b.sandbox.CountCalls("Polls.Create"))
		assert.Len(t, b.handled.results, 100)
	})
}

// The page of a proxy in place of an answer says nothing of what the API did: the engine looks
// before it sends anything again.
func TestAProxysPageMakesNothingTwice(t *testing.T) {
	t.Parallel()
	for _, operation := range []string{"Sessions.Create", "Polls.Create", "Subscriptions.Create"} {
		for _, status := range []int{400, 401, 403, 404, 407, 409, 422, 429, 451, 502} {
			t.Run(fmt.Sprint(operation, status), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					there, here := fleet(1)
					b := newBench(t, ingest.Config{Memory: true}, ricloudtest.WithAccounts(there...))
					state := ingest.Done
					if operation == "Subscriptions.Create" {
						b.receive()
						here[0].Every, state = time.Hour, ingest.Subscribed
					}
					require.NoError(t, b.sandbox.SetFaults(ricloudtest.Fault{
						Operation: operation, After: true, Status: status, Body: "<html>blocked", Count: 1,
					}))
					stop := b.run(b.handlers())
					b.submit(here...)
					b.wait(1, state)
					stop()
					assert.Equal(t, 1, b.sandbox.CountCalls(operation))
				})
			})
		}
	}
}

// An outage of several minutes does not make any account a dead letter.
func TestAnOutageWritesNobodyOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		there, here := fleet(40)
		b := newBench(t, ingest.Config{Memory: true}, ricloudtest.WithAccounts(there...),
			ricloudtest.WithDelays(delays()))
		stop := b.run(b.handlers())
		b.submit(here...)
		for _, status := range []int{
			http.StatusServiceUnavailable, http.StatusTooManyRequests,
			http.StatusInternalServerError,
		} {
			<-time.NewTimer(5 * time.Second).C
			require.NoError(t, b.sandbox.SetFaults(ricloudtest.Fault{Status: status, Count: -1}))
			<-time.NewTimer(3 * time.Minute).C
			require.NoError(t, b.sandbox.SetFaults())
		}
		b.wait(40, ingest.Done)
		stop()
		assert.Len(t, b.handled.results, 40)
	})
}

// cutOff is a store that a dead process can no longer reach.
type cutOff struct {
	store.Store

	dead atomic.Bool
}

var errDead = errors.New("this process is dead")

func (c *cutOff) Put(ctx context.Context, e store.Entry, ttl time.Duration) (uint64, error) {
	if c.dead.Load() {
		select {
		case <-ctx.Done():
		case <-time.NewTimer(10 * time.Second).C:
		}
		return 0, errDead
	}
	return c.Store.Put(ctx, e, ttl)
}

func (c *cutOff) Remove(ctx context.Context, key string, revision uint64) error {
	if c.dead.Load() {
		return errDead
	}
	return c.Store.Remove(ctx, key, revision)
}

// dying forwards requests up to the nth login. It then kills the process, before or after the API
// receives that login.
type dying struct {
	next  http.RoundTripper
	store *cutOff
	after bool
	left  atomic.Int32
}

func (d *dying) RoundTrip(r *http.Request) (*http.Response, error) {
	if d.store.dead.Load() {
		return nil, io.ErrUnexpectedEOF
	}
	if r.Method == http.MethodPost && r.URL.Path == "/sessions" && d.left.Add(-1) == 0 {
		if d.after {
			if resp, err := d.next.RoundTrip(r); err == nil {
				_ = resp.Body.Close()
			}
		}
		d.store.dead.Store(true)
		return nil, io.ErrUnexpectedEOF
	}
	return d.next.RoundTrip(r)
}

// unfiltered is an API that does not know the filters of its lists of sources and sessions.
type unfiltered struct{ next http.RoundTripper }

func (u unfiltered) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method == http.MethodGet && (r.URL.Path == "/sources" || r.URL.Path == "/sessions") {
		r = r.Clone(r.Context())
		query := r.URL.Query()
		query.Del("user")
		query.Del("source")
		r.URL.RawQuery = query.Encode()
	}
	return u.next.RoundTrip(r)
}

// A process dies during a login. Another process looks for the session of that login before it logs
// in again, and takes no other account's session for it.
func TestALoginInADyingProcess(t *testing.T) {
	t.Parallel()
	for name, after := range map[string]bool{"before the API has it": false, "after": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				there, here := fleet(20)
				sandbox := ricloudtest.NewServer(ricloudtest.WithAccounts(there...),
					ricloudtest.WithDelays(delays()))
				defer sandbox.Close()
				shared := store.NewMemory()
				b := &bench{t: t, sandbox: sandbox, poll: 10 * time.Second, patience: time.Hour}

				first := &cutOff{Store: shared}
				engine, err := ingest.OpenOn(t.Context(), ingest.Config{Memory: true}, first)
				require.NoError(t, err)
				transport := &dying{next: sandbox, store: first, after: after}
				transport.left.Store(8)
				ctx, cancel := context.WithCancel(t.Context())
				ended := make(chan error, 1)
				go func() {
					ended <- engine.Run(ctx, sandbox.Client(ricloud.WithTransport(transport),
						ricloud.WithPacer(engine.Pacer())), b.handlers())
				}()
				b.engine = engine
				b.submit(here...)
				for !first.dead.Load() {
					<-time.NewTimer(time.Second).C
				}

				second, err := ingest.OpenOn(t.Context(), ingest.Config{Memory: true}, shared)
				require.NoError(t, err)
				b.engine, b.client = second, sandbox.Client(
					ricloud.WithTransport(unfiltered{next: sandbox}), ricloud.WithPacer(second.Pacer()),
				)
				stop := b.run(b.handlers())
				b.wait(20, ingest.Done)
				stop()
				cancel()
				require.NoError(t, <-ended)
				require.NoError(t, engine.Close())
				assert.Equal(t, 20, sandbox.CountCalls("Sessions.Create"))
				assert.Len(t, b.handled.results, 20)
			})
		})
	}
}

// Codes can be sent from any process. A wrong code is asked for again, and the third wrong code
// makes the account a dead letter.
func TestCodes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		there, here := fleet(3)
		there[0].Code, there[1].Code = "111111", "222222"
		b := newBench(t, ingest.Config{Memory: true}, ricloudtest.WithAccounts(there...),
			ricloudtest.WithDelays(delays()))
		stop := b.run(b.handlers())
		b.submit(here...)
		b.wait(2, ingest.CodeNeeded)
		ctx := t.Context()
		for _, blank := range []string{"", " ", "-", "\x00", "\n\u200b", "731\xff994"} {
			_, isParam := errors.AsType[*ricloud.ParamError](
				b.engine.Code(ctx, here[0].Key, ricloud.NewSecret(blank)))
			assert.True(t, isParam, "%q", blank)
		}
		require.NoError(t, b.engine.Code(ctx, here[0].Key, ricloud.NewSecret("111111")))
		require.NoError(t, b.engine.Code(ctx, here[1].Key, ricloud.NewSecret("000000")))
		b.wait(1, ingest.CodeNeeded)
		require.NoError(t, b.engine.Code(ctx, here[1].Key, ricloud.NewSecret("000001")))
		b.wait(1, ingest.CodeNeeded)
		require.NoError(t, b.engine.Code(ctx, here[1].Key, ricloud.NewSecret("000002")))
		b.wait(1, ingest.Dead)
		b.wait(2, ingest.Done)
		require.ErrorContains(t, b.engine.Code(ctx, here[2].Key, ricloud.NewSecret("333333")),
			"no code is wanted")

		// Retry asks the account's owner for a code once more.
		require.NoError(t, b.engine.Retry(ctx, here[1].Key))
		b.wait(1, ingest.CodeNeeded)
		require.NoError(t, b.engine.Code(ctx, here[1].Key, ricloud.NewSecret("222222")))
		b.wait(3, ingest.Done)
		status, err := b.engine.Account(ctx, here[1].Key)
		require.NoError(t, err)
		var states []string
		for _, step := range status.History {
			states = append(states, string(step.State))
		}
		assert.Contains(t, strings.Join(states, " "),
			"submitted logging-in connecting code-needed logging-in")
		stop()
		assert.Equal(t, 9, b.sandbox.CountCalls("Sessions.Create"))
	})
}

// A problem that only a person can solve makes the account a dead letter. Its reason says why, and
// Retry continues it.
func TestDeadLetters(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		there, here := fleet(5)
		there[0].Locked = true
		there[1].Password = "another"
		there[2].Fail = map[string]string{"callkit.calls": "data-unavailable"}
		b := newBench(t, ingest.Config{Memory: true}, ricloudtest.WithAccounts(there...),
			ricloudtest.WithDelays(delays()))
		h := b.handlers()
		var mend atomic.Bool
		var tries atomic.Int32
		h.Result = func(ctx context.Context, r *ingest.Result) error {
			if r.Account == here[3].Key && !mend.Load() {
				tries.Add(1)
				return errors.New("no room in the database")
			}
			if r.Account == here[4].Key && !mend.Load() {
				panic("a record that the handler does not expect")
			}
			return b.handlers().Result(ctx, r)
		}
		h.Attempts = 3
		stop := b.run(h)
		b.submit(here...)
		b.wait(5, ingest.Dead)
		ctx := t.Context()
		for i, want := range []string{
			"source-locked", "the login failed", "tasks of poll",
			"no room in the database", "the handler panicked",
		} {
			status, err := b.engine.Account(ctx, here[i].Key)
			require.NoError(t, err)
			assert.Contains(t, status.Reason, want)
			assert.NotContains(t, status.Reason, password)
		}
		assert.EqualValues(t, 3, tries.Load())
		assert.Equal(t, 5, b.sandbox.CountCalls("Sessions.Create"),
			"nobody is logged in to again by itself")

		mend.Store(true)
		require.NoError(t, b.sandbox.LockAccount(ricloud.SourceICloudAccount, there[0].Identifier, false))
		for _, i := range []int{0, 3, 4} {
			require.NoError(t, b.engine.Retry(ctx, here[i].Key))
		}
		b.wait(3, ingest.Done)
		require.Error(t, b.engine.Retry(ctx, here[0].Key))
		assert.Len(t, b.handled.results, 3)
		require.NoError(t, b.engine.Forget(ctx, here[0].Key))
		_, err := b.engine.Account(ctx, here[0].Key)
		require.ErrorIs(t, err, ricloud.ErrNotFound)
		stop()
	})
}

// A poll is a success only if nothing in it failed.
func TestFailureOf(t *testing.T) {
	t.Parallel()
	for poll, want := range map[string]string{
		`"completed","tasks_succeeded":[1]}`: "",
		`"completed","tasks_pending":[4],"tasks_processing":[5]}`: "poll 1 has completed, and tasks " +
			"of it have not ended: [4 5]",
		`"completed","errors":{"data":[],"has_more":false}}`:   "",
		`"failed","error":"x","errors":["y"]}`:                 "poll 1 failed: x",
		`"completed","tasks_suspended":[1],"errors":["y"]}`:    "1 tasks of poll 1 did not succeed: y",
		`"completed","errors":{"data":[{"code":"y"}, "z"]}}`:   "poll 1 completed with errors: y, z",
		`"completed","errors":{"data":[],"has_more":true}}`:    "poll 1 completed with errors",
		`"completed","error":"session-expired","errors":null}`: "poll 1 completed with errors",
	} {
		var p ricloud.Poll
		require.NoError(t, json.Unmarshal([]byte(`{"id":1,"state":`+poll), &p))
		assert.Equal(t, want, ingest.FailureOf(&p))
	}
}

// early is an API that says that polls are completed before it says so of their tasks.
type early struct {
	next http.RoundTripper
	ever bool // it never says so of the tasks
}

func (e early) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := e.next.RoundTrip(r)
	if err != nil || r.Method != http.MethodGet || !strings.HasPrefix(r.URL.Path, "/polls") {
		return resp, err
	}
	body, err := io.ReadAll(resp.Body) //nolint:forbidigo // of the sandbox
	if err != nil {
		return nil, err
	}
	body = bytes.ReplaceAll(body, []byte(`"state":"processing"`), []byte(`"state":"completed"`))
	if e.ever {
		body = bytes.ReplaceAll(body, []byte(`"tasks_succeeded"`), []byte(`"tasks_pending"`))
	}
	resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	resp.Header.Del("Content-Length")
	return resp, resp.Body.Close()
}

// A poll whose tasks are open has not ended, whatever its state says. If that lasts, the account is
// a dead letter that names the tasks.
func TestAPollThatIsCompletedEarly(t *testing.T) {
	t.Parallel()
	for _, ever := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			there, here := fleet(1)
			here[0].Poll.DataTypes = append(here[0].Poll.DataTypes, "photos.photos")
			b := newBench(t, ingest.Config{Memory: true}, ricloudtest.WithAccounts(there...),
				ricloudtest.WithDelays(ricloudtest.Delays{
					Task: ricloudtest.Delay{Min: 5 * time.Minute, Max: 10 * time.Minute},
				}))
			b.client = b.sandbox.Client(ricloud.WithPacer(b.engine.Pacer()),
				ricloud.WithTransport(early{b.sandbox, ever}))
			stop := b.run(b.handlers())
			b.submit(here...)
			if ever {
				b.wait(1, ingest.Dead)
				status, err := b.engine.Account(t.Context(), here[0].Key)
				require.NoError(t, err)
				assert.Contains(t, status.Reason, "tasks of it have not ended")
			} else {
				b.wait(1, ingest.Done)
				assert.Len(t, b.handled.results, 2)
			}
			stop()
		})
	}
}

// Only the API knows that something is gone. A proxy's page with 404 says nothing.
func TestIsGone(t *testing.T) {
	t.Parallel()
	for want, errs := range map[bool][]error{
		true: {
			&ricloud.Error{StatusCode: http.StatusNotFound, Code: "not-found"},
			&ricloud.Error{StatusCode: http.StatusGone, Code: "gone"},
		},
		false: {
			nil, io.ErrUnexpectedEOF,
			&ricloud.Error{StatusCode: http.StatusNotFound, Body: []byte("<html>Not found</html>")},
			&ricloud.Error{StatusCode: http.StatusGone},
			&ricloud.Error{StatusCode: http.StatusForbidden, Code: "forbidden"},
		},
	} {
		for _, err := range errs {
			assert.Equal(t, want, ingest.IsGone(err), "%v", err)
		}
	}
}

// A damaged file is never acknowledged, whatever the handler returns.
func TestWhatIsNotVerifiedIsNotAcknowledged(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		there, here := fleet(2)
		b := newBench(t, ingest.Config{Memory: true}, ricloudtest.WithAccounts(there...),
			ricloudtest.WithDelays(delays()),
			ricloudtest.WithFaults(ricloudtest.Fault{
				Operation: ricloudtest.StorageGet, Nth: 1,
				Count: 1 << 20, Corrupt: true,
			}))
		h := b.handlers()
		h.Attempts = 2
		h.Result = func(context.Context, *ingest.Result) error { return nil } // does not read the result
		stop := b.run(h)
		b.submit(here...)
		b.wait(2, ingest.Dead)
		for result, err := range b.sandbox.Client().Results.All(t.Context(), ricloud.ResultListParams{}) {
			require.NoError(t, err)
			assert.Equal(t, ricloud.ResultAvailable, result.State)
		}
		require.NoError(t, b.sandbox.SetFaults())
		for _, a := range here {
			require.NoError(t, b.engine.Retry(t.Context(), a.Key))
		}
		b.wait(2, ingest.Done)
		stop()
	})
}

// A handler that never returns occupies one of the concurrent slots. Its account still completes,
// and the shutdown does not wait for the handler.
func TestAHandlerThatHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		there, here := fleet(6)
		b := newBench(t, ingest.Config{Memory: true}, ricloudtest.WithAccounts(there...),
			ricloudtest.WithDelays(delays()))
		h := b.handlers()
		release := make(chan struct{})
		var hung atomic.Int32
		h.Concurrency, h.Timeout = 2, time.Minute
		h.Result = func(ctx context.Context, r *ingest.Result) error {
			if r.Account == here[0].Key && hung.Add(1) == 1 {
				<-release // ignores its context
			}
			return b.handlers().Result(ctx, r)
		}
		stop := b.run(h)
		b.submit(here...)
		b.wait(6, ingest.Done)
		began := time.Now()
		close(release)
		stop()
		assert.Less(t, time.Since(began), 10*time.Second)
		assert.Len(t, b.handled.results, 6)
	})
}

// An account with an interval is polled repeatedly.
func TestSubscriptions(t *testing.T) {
	t.Parallel()
	for name, webhooks := range map[string]bool{"with webhooks": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				there, here := fleet(5)
				for i := range here {
					here[i].Every = 10 * time.Minute
				}
				b := newBench(t, ingest.Config{Memory: true}, ricloudtest.WithAccounts(there...),
					ricloudtest.WithDelays(delays()))
				b.receive() // a subscription requires a webhook config
				if !webhooks {
					b.hook.Store(nil)
				}
				stop := b.run(b.handlers())
				b.submit(here...)
				<-time.NewTimer(55 * time.Minute).C
				b.wait(5, ingest.Subscribed)
				stop()
				b.handled.mu.Lock()
				defer b.handled.mu.Unlock()
				assert.GreaterOrEqual(t, len(b.handled.results), 25)
				for id, n := range b.handled.results {
					assert.Equal(t, 1, n, id)
				}
			})
		})
	}
}

// An account may have more results than fit on one page or in one job.
func TestManyResults(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		there, here := fleet(1)
		for range 130 {
			here[0].Poll.DataTypes = append(here[0].Poll.DataTypes,
				"type."+string(rune('a'+len(here[0].Poll.DataTypes)%26))+strings.Repeat("x",
					len(here[0].Poll.DataTypes)/26))
		}
		b := newBench(t, ingest.Config{Memory: true}, ricloudtest.WithAccounts(there...),
			ricloudtest.WithDelays(delays()))
		stop := b.run(b.handlers())
		b.submit(here...)
		b.wait(1, ingest.Done)
		stop()
		assert.Len(t, b.handled.results, 131)
		for result, err := range b.sandbox.Client().Results.All(t.Context(),
			ricloud.ResultListParams{State: ricloud.ResultConsumed}) {
			require.NoError(t, err)
			assert.Equal(t, ricloud.ResultConsumed, result.State)
		}
	})
}

// If the API refuses the token, Run returns an error and no account changes its state.
func TestARefusedToken(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		there, here := fleet(3)
		b := newBench(t, ingest.Config{Memory: true}, ricloudtest.WithAccounts(there...),
			ricloudtest.WithFaults(ricloudtest.Fault{Status: http.StatusUnauthorized, Count: -1}))
		b.submit(here...)
		err := b.engine.Run(t.Context(), b.client, b.handlers())
		require.ErrorIs(t, err, ricloud.ErrUnauthorized)
		b.wait(3, ingest.Submitted)
		require.NoError(t, b.engine.Close())
	})
}
