// Quickstart follows ricloud's getting-started guide from start to end: the
// organisation, a user, a login with a two-factor code, a storage config and a
// poll. It downloads, verifies and acknowledges the results, and receives the
// webhook events of the same run.
//
//	go run ./examples/quickstart
//
// It runs against a sandbox inside the program. With RICLOUD_TOKEN set, it runs
// against the live API and asks for the account on the terminal. Results are
// then published where the organisation says, which needs signed URLs for this
// program to read them, and no events are received: see examples/webhook.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ricloudtest"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1) //nolint:gocritic // no deferred call matters at the end
	}
}

func run(ctx context.Context) error {
	if os.Getenv("RICLOUD_TOKEN") == "" {
		return sandbox(ctx)
	}
	client, err := ricloud.NewClientFromEnv()
	if err != nil {
		return err
	}
	return (&journey{client: client, account: askAccount, code: askCode}).run(ctx)
}

// sandbox runs the journey offline. As in the guide, nothing is configured for the
// organisation yet.
func sandbox(ctx context.Context) error {
	server := ricloudtest.NewServer(ricloudtest.WithUnconfigured())
	defer server.Close()
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	stepf("sandbox", "%s, token %s", server.URL(), server.Token())
	return (&journey{
		client: server.Client(),
		account: func() (string, ricloud.Secret, error) {
			return "jane.appleseed@example.com", ricloud.NewSecret("hunter2"), nil
		},
		code: func(_ context.Context, c ricloud.CodeChallenge) (ricloud.Secret, error) {
			stepf("two-factor",
				"session %s ended in %s: code asked for, attempt %d, to be sent with a new create",
				c.Session.ID, c.Session.Error, c.Attempt)
			return ricloud.NewSecret("123456"), nil
		},
		storage: &ricloud.StorageConfigCreateParams{
			URL: "s3://quickstart/results",
			Credentials: ricloud.Credentials{
				"access_key_id":     ricloud.NewSecret("AKIAEXAMPLE"),
				"secret_access_key": ricloud.NewSecret("example"),
			},
			SignedURLsEnabled: new(true),
		},
		webhooks: listener,
	}).run(ctx)
}

// journey follows the guide, step by step.
type journey struct {
	client  *ricloud.Client
	account func() (identifier string, password ricloud.Secret, err error)
	code    func(context.Context, ricloud.CodeChallenge) (ricloud.Secret, error)
	storage *ricloud.StorageConfigCreateParams // nil: the organisation has its own

	// where events are received; nil: nowhere, as the live API cannot reach this machine
	webhooks net.Listener
}

func (j *journey) run(ctx context.Context) error {
	org, err := j.client.Organisation.Get(ctx)
	if err != nil {
		return err
	}
	stepf("Organisation.Get", "%s is %s", org.Name, org.State)

	user, err := j.client.Users.Create(ctx, ricloud.UserCreateParams{Identifier: "customer-42"})
	if err != nil {
		return err
	}
	stepf("Users.Create", "user %s is %s", user.ID, user.State)

	events, err := j.receiveEvents(ctx)
	if err != nil {
		return err
	}
	defer events.close()

	session, err := j.login(ctx, user.ID)
	if err != nil {
		return err
	}
	stepf("Sessions.Login", "session %s is %s", session.ID, session.State)

	if err := j.configureStorage(ctx); err != nil {
		return err
	}
	if err := j.poll(ctx, session.ID); err != nil {
		return err
	}
	return events.wait(ctx)
}

func (j *journey) login(ctx context.Context, user ricloud.ID) (*ricloud.Session, error) {
	identifier, password, err := j.account()
	if err != nil {
		return nil, err
	}
	return j.client.Sessions.Login(ctx, ricloud.SessionCreateParams{
		Source: ricloud.SourceParams{
			User: user, Type: ricloud.SourceICloudAccount,
			Identifier: identifier,
		},
		Payload: ricloud.SessionPayload{Password: password},
	}, j.code)
}

// configureStorage says where results are published, and tests it.
func (j *journey) configureStorage(ctx context.Context) error {
	if j.storage == nil {
		return nil
	}
	config, err := j.client.StorageConfigs.Create(ctx, *j.storage)
	if err != nil {
		return err
	}
	stepf("StorageConfigs.Create", "%s is %s", config.URL, config.State)
	task, err := j.client.StorageConfigs.Test(ctx, config.ID, ricloud.WithAwait(10*time.Second))
	if err != nil {
		return err
	}
	if task, err = j.client.Tasks.Wait(ctx, task.ID); err != nil {
		return err
	}
	stepf("StorageConfigs.Test", "task %s %s", task.ID, task.State)
	org, err := j.client.Organisation.Update(ctx,
		ricloud.OrganisationUpdateParams{StorageConfigDefault: &config.ID})
	if err != nil {
		return err
	}
	stepf("Organisation.Update", "%s is %s", org.Name, org.State)
	return nil
}

// poll asks for the account's calls and takes each result as it is published.
func (j *journey) poll(ctx context.Context, session ricloud.ID) error {
	poll, err := j.client.Polls.Create(ctx, ricloud.PollCreateParams{
		Session: session,
		Payload: ricloud.PollPayload{DataTypes: []string{"callkit.calls"}},
	})
	if err != nil {
		return err
	}
	stepf("Polls.Create", "poll %s is %s", poll.ID, poll.State)
	dir, err := os.MkdirTemp("", "ricloud-quickstart-")
	if err != nil {
		return err
	}
	for result, err := range j.client.Polls.Results(ctx, poll.ID) {
		if err != nil {
			return err
		}
		stepf("Polls.Results", "%s, %d bytes, is %s", result.Identifier, result.Size, result.State)
		saved, err := j.client.Results.Save(ctx, result, dir)
		if err != nil {
			return err
		}
		stepf("Results.Save", "size and MD5 %s verified: %s", saved.MD5, saved.Path)
		if result, err = j.client.Results.Acknowledge(ctx, result.ID); err != nil {
			return err
		}
		stepf("Results.Acknowledge", "result %s is %s", result.ID, result.State)
	}
	return nil
}

// events prints what the API delivers. It closes completed once the event that the
// poll has completed has arrived.
type events struct {
	server    *http.Server
	completed chan struct{}
}

// receiveEvents serves a webhook and has the API deliver to it.
func (j *journey) receiveEvents(ctx context.Context) (*events, error) {
	e := &events{completed: make(chan struct{})}
	if j.webhooks == nil {
		close(e.completed)
		return e, nil
	}
	var once sync.Once
	handler, err := ricloud.NewWebhookHandler(func(_ context.Context, event *ricloud.Event) error {
		stepf("webhook", "signature verified: %s, event %s", event.Name(), event.ID)
		if event.Name() == ricloud.EventPollCompleted {
			once.Do(func() { close(e.completed) })
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("/webhooks/", handler)
	e.server = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = e.server.Serve(j.webhooks) }()

	config, err := j.client.WebhookConfigs.Ensure(ctx, ricloud.WebhookConfigEnsureParams{
		URL:                     "http://" + j.webhooks.Addr().String() + "/webhooks",
		BeforeTest:              handler.SetSecrets, // the test is signed
		MakeOrganisationDefault: true,
	})
	if err != nil {
		return nil, err
	}
	stepf("WebhookConfigs.Ensure", "%s is %s", config.URL, config.State)
	return e, nil
}

func (e *events) wait(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 30*time.Second,
		errors.New("the event poll.completed did not arrive"))
	defer cancel()
	select {
	case <-e.completed:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (e *events) close() {
	if e.server != nil {
		_ = e.server.Close()
	}
}

// stepf prints one line: what was called, and what came back.
func stepf(what, format string, args ...any) {
	fmt.Printf("%-22s %s\n", what, fmt.Sprintf(format, args...))
}

func askAccount() (identifier string, password ricloud.Secret, err error) {
	if identifier, err = ask("iCloud account: "); err != nil {
		return "", ricloud.NewSecret(""), err
	}
	fmt.Print("Password: ")
	secret, err := term.ReadPassword(int(os.Stdin.Fd()))
	fmt.Println()
	return identifier, ricloud.NewSecret(string(secret)), err
}

func askCode(_ context.Context, c ricloud.CodeChallenge) (ricloud.Secret, error) {
	code, err := ask(fmt.Sprintf("Two-factor code (attempt %d): ", c.Attempt))
	return ricloud.NewSecret(code), err
}

func ask(question string) (string, error) {
	fmt.Print(question)
	line, err := bufio.NewReader(os.Stdin).ReadString('\n')
	return strings.TrimSpace(line), err
}
