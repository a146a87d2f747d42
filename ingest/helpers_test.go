package ingest_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ingest"
	"github.com/reincubate/ricloud-go/ricloudtest"
)

const (
	password = "hunter2-canary-password"
	hookURL  = "https://hooks.example.com/in"
)

// fleet returns n accounts for the sandbox, and the same accounts for the engine.
func fleet(n int) ([]ricloudtest.Account, []ingest.Account) {
	there, here := make([]ricloudtest.Account, n), make([]ingest.Account, n)
	for i := range n {
		identifier := fmt.Sprintf("customer-%d@example.com", i)
		there[i] = ricloudtest.Account{
			Identifier: identifier, Password: password,
			Data: map[string]ricloudtest.Content{
				"callkit.calls": ricloudtest.Records(map[string]int{"call": i}),
			},
		}
		here[i] = ingest.Account{
			Key:    fmt.Sprintf("customer-%d", i),
			Source: ricloud.SourceParams{Type: ricloud.SourceICloudAccount, Identifier: identifier},
			Poll:   ricloud.PollPayload{DataTypes: []string{"callkit.calls"}},
		}
	}
	return there, here
}

func delays() ricloudtest.Delays {
	return ricloudtest.Delays{
		Session: ricloudtest.Delay{Min: 3 * time.Second, Max: 40 * time.Second},
		Poll:    ricloudtest.Delay{Min: 30 * time.Second, Max: 600 * time.Second},
	}
}

// handled counts how often each result was handled.
type handled struct {
	mu      sync.Mutex
	results map[string]int
}

func (h *handled) add(r *ingest.Result) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.results == nil {
		h.results = map[string]int{}
	}
	h.results[r.Key(-1)]++
}

func secret(context.Context, string) (ricloud.Secret, error) {
	return ricloud.NewSecret(password), nil
}

// read reads all records of a result.
func read(ctx context.Context, r *ingest.Result) error {
	file, err := r.Open(ctx)
	if err != nil {
		return err
	}
	defer file.Close()
	for _, err := range ricloud.Records[map[string]int](file) {
		if err != nil {
			return err
		}
	}
	return nil
}

// bench is a sandbox, an engine and a client.
type bench struct {
	t        *testing.T
	sandbox  *ricloudtest.Server
	engine   *ingest.Engine
	client   *ricloud.Client
	handled  handled
	poll     time.Duration // interval of wait
	patience time.Duration
	hook     atomic.Pointer[ricloud.WebhookHandler]
	secret   ricloud.Secret
	answered sync.Map // every status that deliveries got
}

// statusWriter records the status of an answer.
type statusWriter struct {
	http.ResponseWriter

	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

func newBench(t *testing.T, cfg ingest.Config, opts ...ricloudtest.Option) *bench {
	t.Helper()
	b := &bench{t: t, poll: 10 * time.Second, patience: 6 * time.Hour}
	b.sandbox = ricloudtest.NewServer(append(opts, ricloudtest.WithReceiver(hookURL, b))...)
	t.Cleanup(b.sandbox.Close)
	b.open(cfg)
	return b
}

func (b *bench) open(cfg ingest.Config) {
	b.t.Helper()
	engine, err := ingest.Open(b.t.Context(), cfg)
	require.NoError(b.t, err)
	b.engine = engine
	b.client = b.sandbox.Client(ricloud.WithPacer(engine.Pacer()))
}

func (b *bench) handlers() ingest.Handlers {
	return ingest.Handlers{
		Secret: secret,
		Result: func(ctx context.Context, r *ingest.Result) error {
			if err := read(ctx, r); err != nil {
				return err
			}
			b.handled.add(r)
			return nil
		},
	}
}

// run runs the engine until stop is called or the test ends.
func (b *bench) run(h ingest.Handlers) (stop func()) {
	ctx, cancel := context.WithCancel(b.t.Context())
	ended := make(chan error, 1)
	engine := b.engine
	go func() { ended <- engine.Run(ctx, b.client, h) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			assert.NoError(b.t, <-ended)
			assert.NoError(b.t, engine.Close())
		})
	}
	return stop
}

func (b *bench) submit(accounts ...ingest.Account) {
	b.t.Helper()
	for _, a := range accounts {
		require.NoError(b.t, b.engine.Submit(b.t.Context(), a))
	}
}

// wait waits until n accounts are in one of the states.
func (b *bench) wait(n int, states ...ingest.State) {
	b.t.Helper()
	deadline := time.Now().Add(b.patience)
	for {
		count := 0
		for _, err := range b.engine.Accounts(b.t.Context(), states...) {
			require.NoError(b.t, err)
			count++
		}
		if count >= n {
			return
		}
		if time.Now().After(deadline) {
			for a, err := range b.engine.Accounts(b.t.Context()) {
				if err == nil && !slices.Contains(states, a.State) {
					b.t.Logf("%s %s %s %v", a.Account.Key, a.State, a.Reason, a.History)
				}
			}
			b.t.Fatalf("%d of %d accounts are %v", count, n, states)
		}
		<-time.NewTimer(b.poll).C
	}
}

// receive makes the sandbox deliver its events to the engine.
func (b *bench) receive() {
	b.t.Helper()
	handler, err := b.engine.WebhookHandler()
	require.NoError(b.t, err)
	b.hook.Store(handler)
	hook, err := b.client.WebhookConfigs.Ensure(b.t.Context(), ricloud.WebhookConfigEnsureParams{
		URL: hookURL, BeforeTest: handler.SetSecrets, MakeOrganisationDefault: true,
	})
	require.NoError(b.t, err)
	b.secret = hook.Secret
}

// ServeHTTP passes events to the engine once it has a webhook handler.
func (b *bench) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if handler := b.hook.Load(); handler != nil {
		seen := &statusWriter{ResponseWriter: w, status: http.StatusOK}
		handler.ServeHTTP(seen, r)
		b.answered.Store(seen.status, true)
		return
	}
	w.WriteHeader(http.StatusServiceUnavailable)
}
