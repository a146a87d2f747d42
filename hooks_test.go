package ricloud_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
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

// watcher is a hook that records what it is told.
type watcher struct {
	mu    sync.Mutex
	lines []string
}

func (w *watcher) sayf(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lines = append(w.lines, fmt.Sprintf(format, args...))
}

func (w *watcher) all() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(w.lines, "\n")
}

type nested struct{}

func (w *watcher) Call(
	ctx context.Context, info ricloud.CallInfo,
) (context.Context, func(ricloud.CallResult)) {
	w.sayf("call %s %s %s background=%v waits=%v", info.Operation, info.Method, info.Path,
		info.Background, len(info.Waits) > 0)
	return ctx, func(r ricloud.CallResult) {
		w.sayf("call ended %s %d after %d err=%v", info.Operation, r.StatusCode, r.Attempts, r.Err != nil)
	}
}

func (w *watcher) Attempt(
	ctx context.Context, info ricloud.AttemptInfo,
) (context.Context, func(ricloud.AttemptResult)) {
	w.sayf("attempt %s %s %s %d", info.Operation, info.Method, info.Path, info.Number)
	if info.Header != nil {
		info.Header.Set("Traceparent", "00-trace")
		info.Header.Set("Authorization", "Token stolen") // must not replace the client's own token
	}
	return context.WithValue(ctx, nested{}, info.Operation), func(r ricloud.AttemptResult) {
		w.sayf("attempt ended %d %v", r.StatusCode, r.Err != nil)
	}
}

func (w *watcher) Download(
	ctx context.Context, info ricloud.DownloadInfo,
) (context.Context, func(ricloud.DownloadResult)) {
	w.sayf("download %s %s %d", info.Operation, info.Scheme, info.Size)
	return ctx, func(r ricloud.DownloadResult) {
		w.sayf("download ended %d bytes verified=%v found=%v err=%v", r.Done, r.Verified, r.Found,
			r.Err != nil)
	}
}

func (w *watcher) Wait(
	ctx context.Context, info ricloud.WaitInfo,
) (context.Context, func(ricloud.WaitResult)) {
	w.sayf("wait %s", info.Resource)
	return ctx, func(r ricloud.WaitResult) { w.sayf("wait ended %s err=%v", r.State, r.Err != nil) }
}

// mockPoll logs in and creates a poll.
func mockPoll(t *testing.T, client *ricloud.Client) *ricloud.Poll {
	t.Helper()
	ctx := t.Context()
	user, err := client.Users.Create(ctx, ricloud.UserCreateParams{Identifier: "customer"})
	require.NoError(t, err)
	session, err := client.Sessions.Login(ctx, ricloud.SessionCreateParams{
		Source:  ricloud.SourceParams{User: user.ID, Type: ricloud.SourceMock, Identifier: "anyone"},
		Payload: ricloud.SessionPayload{Password: ricloud.NewSecret("canary-password")},
	}, nil)
	require.NoError(t, err)
	poll, err := client.Polls.Create(ctx, ricloud.PollCreateParams{
		Session: session.ID, Payload: ricloud.PollPayload{DataTypes: []string{"callkit.calls"}},
	})
	require.NoError(t, err)
	return poll
}

// journey logs in, creates a poll and returns its first result.
func journey(t *testing.T, client *ricloud.Client) *ricloud.Result {
	t.Helper()
	for result, err := range client.Polls.Results(t.Context(), mockPoll(t, client).ID) {
		require.NoError(t, err)
		return result
	}
	t.Fatal("the poll has no result")
	return nil
}

// sentHeaders keeps the headers of the last request to each host.
type sentHeaders struct {
	next http.RoundTripper

	mu     sync.Mutex
	byHost map[string]http.Header
}

func (s *sentHeaders) RoundTrip(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	if s.byHost == nil {
		s.byHost = map[string]http.Header{}
	}
	s.byHost[r.URL.Host] = r.Header.Clone()
	s.mu.Unlock()
	return s.next.RoundTrip(r)
}

func TestHooksSeeAJourney(t *testing.T) {
	t.Parallel()
	hook := &watcher{}
	server := ricloudtest.NewServer(ricloudtest.WithDelays(ricloudtest.Delays{}))
	t.Cleanup(server.Close)
	sent := &sentHeaders{next: server}
	client := server.Client(ricloud.WithHooks(hook), ricloud.WithTransport(sent))

	result := journey(t, client)
	saved, err := client.Results.Save(t.Context(), result, t.TempDir())
	require.NoError(t, err)
	object, err := client.Results.Open(t.Context(), result)
	require.NoError(t, err)
	_, err = io.Copy(io.Discard, object)
	require.NoError(t, err)
	require.NoError(t, object.Close())
	_, err = client.Users.Get(t.Context(), "nobody")
	require.ErrorIs(t, err, ricloud.ErrNotFound)

	require.NoError(t,
		client.Call(t.Context(), http.MethodGet, "/organisation?secret=canary-query", nil, nil))

	seen := hook.all()
	assert.NotContains(t, seen, "canary-query")
	for _, line := range []string{
		"call Users.Create POST /users background=false waits=false",
		"call ended Users.Create 201 after 1 err=false",
		"call ended Users.Get 404 after 1 err=true",
		"call Polls.Get GET /polls/{id} background=true waits=true",
		"call Call GET  background=false waits=false",
		"attempt Users.Create POST /users 1",
		"attempt Sessions.Create POST /sessions 1",
		"attempt Polls.Create POST /polls 1",
		"attempt ended 201 false",
		"attempt ended 404 false",
		fmt.Sprintf("download Results.Save s3 %d", saved.Result.Size),
		fmt.Sprintf("download ended %d bytes verified=true found=false err=false", saved.Result.Size),
		"attempt Results.Open GET  1",
		"wait session",
		"wait ended active err=false",
		"wait poll",
	} {
		assert.Contains(t, seen, line)
	}
	assert.NotContains(t, seen, "canary-password")
	assert.NotContains(t, seen, "X-Amz-Signature")

	for host, header := range sent.byHost {
		storage := host == "storage.ricloud.test"
		assert.Equal(t, storage, header.Get("Traceparent") == "", "%s: storage gets no header of a hook",
			host)
		assert.NotContains(t, header.Get("Authorization"), "stolen")
	}

	stats := client.Stats()
	assert.Positive(t, stats.Sent)
	assert.Equal(t, stats.Sent, stats.Succeeded+stats.Refused)
	assert.Equal(t, int64(1), stats.Refused)
	assert.Equal(t, int64(2), stats.Verified)
	assert.Equal(t, 2*saved.Result.Size, stats.BytesDownloaded)
	assert.Equal(t, 10_000-stats.Sent, stats.QuotaLeft)
	assert.Zero(t, stats.InFlight+stats.TurnsWaiting+stats.Waits+stats.Downloads)
}

// panicking is a hook that panics at the beginning or at the end of an operation.
type panicking struct{ atEnd bool }

func (p panicking) Attempt(
	ctx context.Context, _ ricloud.AttemptInfo,
) (context.Context, func(ricloud.AttemptResult)) {
	if !p.atEnd {
		panic("a hook of the user's")
	}
	return ctx, func(ricloud.AttemptResult) { panic("a hook of the user's") }
}

func (p panicking) Wait(
	context.Context, ricloud.WaitInfo,
) (context.Context, func(ricloud.WaitResult)) {
	return nil, func(ricloud.WaitResult) { panic("a hook of the user's") }
}

func TestAPanickingHookLosesNothing(t *testing.T) {
	t.Parallel()
	for _, atEnd := range []bool{false, true} {
		var log strings.Builder
		server := ricloudtest.NewServer(ricloudtest.WithDelays(ricloudtest.Delays{}))
		t.Cleanup(server.Close)
		after := &watcher{}
		client := server.Client(ricloud.WithHooks(panicking{atEnd}, after),
			ricloud.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
		org, err := client.Organisation.Get(t.Context())
		require.NoError(t, err)
		assert.NotEmpty(t, org.ID)
		assert.Contains(t, after.all(), "attempt ended 200", "the hooks behind it are still called")
		assert.Contains(t, log.String(), "ricloud hook panicked")
	}
}

func TestUnknownHooksAreRefused(t *testing.T) {
	t.Parallel()
	for name, hook := range map[string]ricloud.Hook{
		"nil": nil, "a string": "hook", "no method that is known": struct{ io.Reader }{},
		"a nil function": (func())(nil), "a nil pointer": (*watcher)(nil),
	} {
		_, err := ricloud.NewClient("token", ricloud.WithHooks(hook))
		refused, ok := errors.AsType[*ricloud.ParamError](err)
		require.True(t, ok, name)
		assert.Equal(t, "WithHooks", refused.Field, name)
	}
}

// stray is a hook whose contexts do not end with those it is given.
type stray struct{}

func (stray) Call(
	context.Context, ricloud.CallInfo,
) (context.Context, func(ricloud.CallResult)) {
	return context.Background(), nil
}

func (stray) Attempt(
	ctx context.Context, _ ricloud.AttemptInfo,
) (context.Context, func(ricloud.AttemptResult)) {
	return context.WithoutCancel(ctx), nil
}

func (stray) Wait(
	context.Context, ricloud.WaitInfo,
) (context.Context, func(ricloud.WaitResult)) {
	return context.Background(), nil
}

// A hook cannot keep a call or a wait from ending with its context.
func TestHooksCannotDetachAContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client, err := ricloud.NewClient("token", ricloud.WithHooks(stray{}),
			ricloud.WithTransport(roundTripper(func(r *http.Request) (*http.Response, error) {
				<-r.Context().Done()
				return nil, r.Context().Err()
			})))
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = client.Polls.Get(ctx, "1")
		require.ErrorIs(t, err, context.DeadlineExceeded)
		_, err = client.Polls.Wait(ctx, "1")
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
}

// waitHook observes waits only.
type waitHook struct{}

func (waitHook) Wait(
	context.Context, ricloud.WaitInfo,
) (context.Context, func(ricloud.WaitResult)) {
	return nil, nil
}

//nolint:paralleltest // AllocsPerRun counts all goroutines
func TestHooksThatDoNotLookCostNothing(t *testing.T) {
	cost := func(opts ...ricloud.Option) float64 {
		server := ricloudtest.NewServer()
		defer server.Close()
		client := server.Client(opts...)
		return testing.AllocsPerRun(200, func() { _, _ = client.Organisation.Get(context.Background()) })
	}
	delta := 0.9
	if raceDetector { // the race detector itself allocates sometimes
		delta = 5
	}
	assert.InDelta(t, cost(), cost(ricloud.WithHooks(waitHook{})), delta)
}

func TestStatsCountRetriesAndTurns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := ricloudtest.NewServer(ricloudtest.WithFaults(
			ricloudtest.Fault{Operation: "Organisation.Get", Status: 503, Nth: 1}))
		defer server.Close()
		client := server.Client(ricloud.WithRetryWait(time.Millisecond, time.Millisecond),
			ricloud.WithRateLimit(3600, time.Hour))
		_, err := client.Organisation.Get(t.Context())
		require.NoError(t, err)
		stats := client.Stats()
		assert.Equal(t, int64(2), stats.Sent)
		assert.Equal(t, int64(1), stats.Retries)
		assert.Equal(t, int64(1), stats.ServerErrors)
		assert.Equal(t, int64(3598), stats.QuotaLeft)
	})
}

func (w *watcher) Webhook(
	ctx context.Context, info ricloud.WebhookInfo,
) (context.Context, func(ricloud.WebhookResult)) {
	w.sayf("webhook %s aged=%v", info.Name, info.Age > 0)
	return context.WithValue(ctx, nested{}, info.Name), func(r ricloud.WebhookResult) {
		w.sayf("webhook ended %s %d err=%v", r.Outcome, r.StatusCode, r.Err != nil)
	}
}

func TestHooksSeeDeliveries(t *testing.T) {
	t.Parallel()
	hook, fail := &watcher{}, true
	secret := ricloud.NewSecret("whsec_canary")
	handler, err := ricloud.NewWebhookHandler(func(ctx context.Context, event *ricloud.Event) error {
		assert.Equal(t, event.Name(), ctx.Value(nested{}), "the handler runs in the hook's context")
		if fail {
			return errors.New("not now")
		}
		return nil
	}, ricloud.WithWebhookSecrets(secret), ricloud.WithWebhookHooks(hook))
	require.NoError(t, err)
	body := `{"id":"e1","type":"poll","action":"completed","data":{"id":"p1"},` +
		`"date_created":"2020-01-02T03:04:05Z"}`
	deliver := func(signature string) int {
		req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/webhooks/e1",
			strings.NewReader(body))
		req.Header.Set(ricloud.SignatureHeader, signature)
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, req)
		return w.Code
	}
	signature := ricloudtest.SignWebhook(secret.Reveal(), time.Now(), []byte(body))
	assert.Equal(t, http.StatusInternalServerError, deliver(signature))
	fail = false
	assert.Equal(t, http.StatusOK, deliver(signature))
	assert.Equal(t, http.StatusOK, deliver(signature))
	assert.Equal(t, http.StatusUnauthorized, deliver("t=1,s=nonsense"))

	assert.Equal(t, []string{
		"webhook poll.completed aged=true", "webhook ended failed 500 err=true",
		"webhook poll.completed aged=true", "webhook ended handled 200 err=false",
		"webhook poll.completed aged=true", "webhook ended duplicate 200 err=false",
		"webhook  aged=false", "webhook ended refused 401 err=true",
	}, strings.Split(hook.all(), "\n"))
	assert.NotContains(t, hook.all(), "canary")
}

func TestHooksOfOtherThingsAreRefusedForWebhooks(t *testing.T) {
	t.Parallel()
	for _, hook := range []ricloud.Hook{waitHook{}, nil, (*watcher)(nil)} {
		_, err := ricloud.NewWebhookHandler(ignore, ricloud.WithWebhookHooks(hook))
		_, ok := errors.AsType[*ricloud.ParamError](err)
		assert.True(t, ok, "%T", hook)
	}
}

// A hook is told the end of a delivery whose handler does not return.
func TestHooksSeeADeliveryThatExits(t *testing.T) {
	t.Parallel()
	hook := &watcher{}
	handler := newWebhook(t, func(context.Context, *ricloud.Event) error {
		runtime.Goexit()
		return nil
	}, ricloud.WithWebhookHooks(hook))
	var gone sync.WaitGroup
	gone.Go(func() { serve(handler, delivery(t, eventBody("e1"))) })
	gone.Wait()
	assert.Contains(t, hook.all(), "webhook ended failed 500 err=true")
}

// panickingWebhook is a hook that panics.
type panickingWebhook struct{}

func (panickingWebhook) Webhook(
	context.Context, ricloud.WebhookInfo,
) (context.Context, func(ricloud.WebhookResult)) {
	panic("hook-canary")
}

// A hook's panic loses no event, and is seen where net/http logs.
func TestAPanickingWebhookHookIsLogged(t *testing.T) {
	t.Parallel()
	calls := 0
	handler := newWebhook(t, func(context.Context, *ricloud.Event) error { calls++; return nil },
		ricloud.WithWebhookHooks(panickingWebhook{}))
	r, logged := logOf(delivery(t, eventBody("e1")))
	assert.Equal(t, http.StatusOK, serve(handler, r).Code)
	assert.Equal(t, 1, calls)
	assert.Contains(t, logged.String(), "ricloud hook panicked: hook-canary")
}

// Two waits for one poll share their reads, and an event makes the last read unnecessary.
func TestStatsCountSharedReadsAndEvents(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := ricloudtest.NewServer()
		defer server.Close()
		hook := &watcher{}
		client := server.Client(ricloud.WithHooks(hook), ricloud.WithPolling(time.Second, time.Second))
		poll := mockPoll(t, client)
		var waiting sync.WaitGroup
		for range 2 {
			waiting.Go(func() {
				_, err := client.Polls.Wait(t.Context(), poll.ID)
				assert.NoError(t, err)
			})
		}
		waiting.Wait()
		stats := client.Stats()
		assert.Positive(t, stats.ReadsByShare)
		assert.Positive(t, stats.ReadsByEvents, "what Create returned spared the first read")
	})
}

// records decodes a log of JSON lines and drops the times.
func records(t *testing.T, log string) []map[string]any {
	t.Helper()
	var all []map[string]any
	for line := range strings.Lines(log) {
		record := map[string]any{}
		require.NoError(t, json.Unmarshal([]byte(line), &record))
		delete(record, "time")
		all = append(all, record)
	}
	return all
}

// A download that is refused and then breaks off is logged like a call: each attempt once, with the
// documented fields, and at warn if another attempt follows.
func TestLogOfADownload(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		hook := &watcher{}
		server := ricloudtest.NewServer(ricloudtest.WithDelays(ricloudtest.Delays{}))
		defer server.Close()
		logger := slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		client := server.Client(ricloud.WithLogger(logger.With(slog.String("tenant", "acme"))),
			ricloud.WithHooks(hook), ricloud.WithRetryWait(time.Second, time.Second))
		result := journey(t, client)
		log.Reset()
		hook.lines = nil
		require.NoError(t, server.SetFaults(
			ricloudtest.Fault{Operation: ricloudtest.StorageGet, Status: http.StatusServiceUnavailable},
			ricloudtest.Fault{Operation: ricloudtest.StorageGet, Nth: 2, Truncate: 10},
		))
		_, err := client.Results.Save(t.Context(), result, t.TempDir())
		require.NoError(t, err)

		found := records(t, log.String())
		require.Len(t, found, 4)
		for i, want := range []map[string]any{
			{"level": "WARN", "msg": "ricloud attempt", "attempt": 1.0, "offset": 0.0, "status": 503.0},
			{"level": "DEBUG", "msg": "ricloud attempt", "attempt": 2.0, "offset": 0.0, "status": 200.0},
			{"level": "WARN", "msg": "ricloud resume", "attempt": 2.0, "offset": 10.0},
			{"level": "DEBUG", "msg": "ricloud attempt", "attempt": 3.0, "offset": 10.0, "status": 206.0},
		} {
			want["operation"], want["method"] = "Results.Save", "GET"
			want["host"], want["tenant"] = "storage.ricloud.test", "acme"
			if want["msg"] == "ricloud attempt" {
				want["duration"] = 0.0
			}
			if want["level"] == "WARN" {
				assert.Contains(t, found[i], "wait")
				assert.NotEmpty(t, found[i]["cause"])
				delete(found[i], "wait")
				delete(found[i], "cause")
			}
			assert.Equal(t, want, found[i])
		}
		assert.Equal(t, 3, strings.Count(hook.all(), "attempt ended"), "hooks see each once, too")
		assert.Equal(t, int64(1), client.Stats().Resumes)
		_, query, _ := strings.Cut(result.SignedURL.URL.Reveal(), "?")
		assert.NotContains(t, log.String(), query)
	})
}

// The last attempt of a failed download is logged at debug, because the caller gets the error.
func TestLogOfADownloadThatFails(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	server := ricloudtest.NewServer(ricloudtest.WithDelays(ricloudtest.Delays{}))
	t.Cleanup(server.Close)
	client := server.Client(ricloud.WithRetries(1),
		ricloud.WithRetryWait(time.Millisecond, time.Millisecond),
		ricloud.WithLogger(slog.New(slog.NewJSONHandler(&log,
			&slog.HandlerOptions{Level: slog.LevelDebug}))))
	result := journey(t, client)
	log.Reset()
	require.NoError(t, server.SetFaults(ricloudtest.Fault{
		Operation: ricloudtest.StorageGet, Status: http.StatusServiceUnavailable, Count: -1,
	}))
	_, err := client.Results.Open(t.Context(), result)
	require.Error(t, err)
	found := records(t, log.String())
	require.Len(t, found, 2)
	assert.Equal(t, "WARN", found[0]["level"])
	assert.Equal(t, "DEBUG", found[1]["level"])
	assert.NotEmpty(t, found[1]["cause"])
}

// The path that is passed to Client.Call may contain an ID or a secret, so it is not logged.
func TestLogOfACustomCall(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	server := ricloudtest.NewServer()
	t.Cleanup(server.Close)
	client := server.Client(ricloud.WithLogger(slog.New(slog.NewJSONHandler(&log,
		&slog.HandlerOptions{Level: slog.LevelDebug}))))
	require.NoError(t,
		client.Call(t.Context(), http.MethodGet, "/organisation?secret=canary", nil, nil))
	found := records(t, log.String())
	require.Len(t, found, 1)
	assert.Equal(t, "Call", found[0]["operation"])
	assert.Empty(t, found[0]["path"])
	assert.NotContains(t, log.String(), "canary")
}
