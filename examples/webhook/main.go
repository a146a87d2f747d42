// Webhook is a complete receiver of events. It verifies them and handles each
// event once, even if the API delivers it several times or the program crashes. At
// its start and from time to time, it fetches the events that it missed.
//
//	go run ./examples/webhook
//
// It runs against a sandbox inside the program, which then delivers events to
// it. With RICLOUD_TOKEN set, it runs against the live API; -url then says
// where the API reaches it. The config for that URL is found or created, and
// its secret taken from there, unless RICLOUD_WEBHOOK_SECRET holds it.
package main

import (
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	_ "modernc.org/sqlite" // any database/sql driver will do

	ricloud "github.com/reincubate/ricloud-go"
	dedupesql "github.com/reincubate/ricloud-go/dedupe/sql"
	"github.com/reincubate/ricloud-go/ricloudtest"
)

type settings struct {
	addr, url, database string
	secret              ricloud.Secret
	handleTimeout       time.Duration // for one event
	replayEvery         time.Duration
}

const (
	remember = 7 * 24 * time.Hour // how long handled events stay in the database, or longer
	grace    = 10 * time.Second   // for events in flight when the program is to end
)

func main() {
	s := settings{secret: ricloud.NewSecret(os.Getenv("RICLOUD_WEBHOOK_SECRET"))}
	flag.StringVar(&s.addr, "addr", "127.0.0.1:8081", "`address` to listen on")
	flag.StringVar(&s.url, "url", "", "`URL` the API reaches /webhooks at (default: the address)")
	flag.StringVar(&s.database, "db", "webhook.db", "`file` of the SQLite database")
	flag.DurationVar(&s.handleTimeout, "timeout", time.Minute, "how long an event may take")
	flag.DurationVar(&s.replayEvery, "replay", 10*time.Minute, "how often to look for missed events")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := start(ctx, s); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1) //nolint:gocritic // no deferred call matters at the end
	}
}

// start runs a receiver against the live API or a sandbox.
func start(ctx context.Context, s settings) error {
	db, err := openDatabase(ctx, s.database)
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	if os.Getenv("RICLOUD_TOKEN") != "" {
		client, err := ricloud.NewClientFromEnv()
		if err != nil {
			return err
		}
		return run(ctx, client, db, s, report, nil)
	}
	// Each run has a new sandbox. With the same IDs, its events would seem to have
	// been handled in the run before.
	sandbox := ricloudtest.NewServer(ricloudtest.WithSeed(rand.Uint64())) //nolint:gosec // no secret
	defer sandbox.Close()
	client := sandbox.Client()
	return run(ctx, client, db, s, report, func() error { return cause(ctx, client) })
}

// report stands for the work of a real service. It is called again for an event
// only if it failed or the program died within it.
func report(_ context.Context, event *ricloud.Event) error {
	resource, err := event.Resource()
	if err != nil {
		return err // the API delivers it again, perhaps to a corrected version of this program
	}
	switch r := resource.(type) {
	case *ricloud.Poll:
		fmt.Printf("%s: poll %s is %s, with %d results\n", event.Name(), r.ID, r.State,
			len(r.Results.Data))
	case *ricloud.Task:
		fmt.Printf("%s: task %s, %s, is %s\n", event.Name(), r.ID, r.Type, r.State)
	case *ricloud.Session:
		fmt.Printf("%s: session %s is %s\n", event.Name(), r.ID, r.State)
	default:
		fmt.Printf("%s\n", event.Name())
	}
	return nil
}

// cause has the sandbox make some events.
func cause(ctx context.Context, client *ricloud.Client) error {
	user, err := client.Users.Create(ctx, ricloud.UserCreateParams{Identifier: "customer-42"})
	if err != nil {
		return err
	}
	session, err := client.Sessions.Login(ctx, ricloud.SessionCreateParams{
		Source: ricloud.SourceParams{
			User: user.ID, Type: ricloud.SourceICloudAccount,
			Identifier: "john.appleseed@example.com",
		},
		Payload: ricloud.SessionPayload{Password: ricloud.NewSecret("hunter2")},
	}, nil)
	if err != nil {
		return err
	}
	_, err = client.Polls.Create(ctx, ricloud.PollCreateParams{
		Session: session.ID, Payload: ricloud.PollPayload{DataTypes: []string{"callkit.calls"}},
	})
	return err
}

// run receives events until ctx ends. It calls ready, unless nil, once events
// can arrive.
func run(
	ctx context.Context, client *ricloud.Client, db *sql.DB, s settings,
	handle func(context.Context, *ricloud.Event) error, ready func() error,
) error {
	logger := slog.New(slog.NewTextHandler(os.Stderr, nil))
	dedupe, err := dedupesql.New(db, dedupesql.SQLite, dedupesql.WithLease(2*s.handleTimeout))
	if err != nil {
		return err
	}
	if err := dedupe.Migrate(ctx); err != nil {
		return err
	}
	handler, err := ricloud.NewWebhookHandler(handle,
		ricloud.WithWebhookDeduplicator(dedupe), ricloud.WithWebhookClient(client),
		ricloud.WithWebhookTimeout(s.handleTimeout), ricloud.WithWebhookLogger(logger))
	if err != nil {
		return err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", s.addr)
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler: routes(handler, db), ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout: time.Minute,
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	defer func() { // refuses new events and finishes those in flight
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
		defer cancel()
		_ = server.Shutdown(ctx)
	}()

	if s.url == "" {
		s.url = "http://" + listener.Addr().String() + "/webhooks"
	}
	if err := setUp(ctx, client, handler, s); err != nil {
		return err
	}
	fmt.Printf("Receiving events at %s\n", s.url)
	if ready != nil {
		if err := ready(); err != nil {
			return err
		}
	}
	tick := time.NewTicker(s.replayEvery)
	defer tick.Stop()
	for {
		// The next tick repeats what fails here.
		if n, err := handler.Replay(ctx, client); err != nil && ctx.Err() == nil {
			logger.WarnContext(ctx, "replay", slog.Int("handled", n), slog.Any("error", err))
		}
		if _, err := dedupe.Forget(ctx, remember); err != nil && ctx.Err() == nil {
			logger.WarnContext(ctx, "forgetting old events", slog.Any("error", err))
		}
		select {
		case <-ctx.Done():
			return nil
		case err := <-served:
			return err
		case <-tick.C:
		}
	}
}

// setUp makes the API deliver here, and the handler know the secret.
func setUp(
	ctx context.Context, client *ricloud.Client, handler *ricloud.WebhookHandler, s settings,
) error {
	if !s.secret.IsZero() {
		return handler.SetSecrets(s.secret)
	}
	_, err := client.WebhookConfigs.Ensure(ctx, ricloud.WebhookConfigEnsureParams{
		URL: s.url, BeforeTest: handler.AddSecrets, MakeKeyDefault: true,
	})
	return err
}

func routes(handler http.Handler, db *sql.DB) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/webhooks/", handler) // and all below: the API appends the event's id
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) {
		if err := db.PingContext(r.Context()); err != nil {
			http.Error(w, "the database does not answer", http.StatusServiceUnavailable)
		}
	})
	return mux
}

// openDatabase opens a SQLite database, which is created if it is not there.
func openDatabase(ctx context.Context, file string) (*sql.DB, error) {
	db, err := sql.Open("sqlite",
		"file:"+file+"?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1) // SQLite has one writer
	if err := db.PingContext(ctx); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}
