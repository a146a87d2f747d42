package ricloud_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"text/tabwriter"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ricloudtest"
)

// way is one way to take a fleet of accounts from a user to acknowledged results.
type way struct {
	name     string
	accounts int
	run      func(context.Context, *ricloud.Client, int, *journal) error
	webhooks bool
	noise    ricloudtest.WebhookFaults

	requests        float64       // for each account of a thousand, at most
	sessions, polls time.Duration // median lag, at most
	worst           time.Duration // worst lag, at most; 0: not checked
}

// journal records when a client learned of each change.
type journal struct {
	mu              sync.Mutex
	sessions, polls map[ricloud.ID]time.Time
}

func (j *journal) know(of map[ricloud.ID]time.Time, id ricloud.ID) {
	j.mu.Lock()
	defer j.mu.Unlock()
	of[id] = time.Now()
}

const resultsEach = 10

func dataTypes() []string {
	types := make([]string, resultsEach)
	for i := range types {
		types[i] = "type." + strconv.Itoa(i)
	}
	return types
}

func fleetLogin(i int, user ricloud.ID) ricloud.SessionCreateParams {
	return ricloud.SessionCreateParams{
		Source: ricloud.SourceParams{
			User: user, Type: "mocks.mock",
			Identifier: fmt.Sprintf("customer-%d@example.com", i),
		},
		Payload: ricloud.SessionPayload{Password: ricloud.NewSecret("hunter2")},
	}
}

// ours processes one account as a user of the SDK would.
func ours(ctx context.Context, c *ricloud.Client, i int, j *journal) error {
	user, err := c.Users.Create(ctx, ricloud.UserCreateParams{Identifier: strconv.Itoa(i)})
	if err != nil {
		return err
	}
	session, err := c.Sessions.Login(ctx, fleetLogin(i, user.ID), nil)
	if err != nil {
		return err
	}
	j.know(j.sessions, session.ID)
	poll, err := c.Polls.Create(ctx, ricloud.PollCreateParams{
		Session: session.ID,
		Payload: ricloud.PollPayload{DataTypes: dataTypes()},
	})
	if err != nil {
		return err
	}
	var results []ricloud.ID
	for result, err := range c.Polls.Results(ctx, poll.ID) {
		if err != nil {
			return err
		}
		results = append(results, result.ID)
	}
	j.know(j.polls, poll.ID)
	if len(results) != resultsEach {
		return fmt.Errorf("%d results", len(results))
	}
	return c.Results.AcknowledgeAll(ctx, results)
}

// plain does what the vendor's Python client does: it reads once a second for each wait and
// acknowledges results one by one.
func plain(ctx context.Context, c *ricloud.Client, i int, j *journal) error {
	user, err := c.Users.Create(ctx, ricloud.UserCreateParams{Identifier: strconv.Itoa(i)})
	if err != nil {
		return err
	}
	session, err := c.Sessions.Create(ctx, fleetLogin(i, user.ID))
	for err == nil && session.State == ricloud.SessionPending {
		<-time.NewTimer(time.Second).C
		session, err = c.Sessions.Get(ctx, session.ID)
	}
	if err != nil {
		return err
	}
	j.know(j.sessions, session.ID)
	poll, err := c.Polls.Create(ctx, ricloud.PollCreateParams{
		Session: session.ID,
		Payload: ricloud.PollPayload{DataTypes: dataTypes()},
	})
	for err == nil && !poll.State.Ended() {
		<-time.NewTimer(time.Second).C
		poll, err = c.Polls.Get(ctx, poll.ID)
	}
	if err != nil {
		return err
	}
	j.know(j.polls, poll.ID)
	for _, result := range poll.Results.Data {
		if _, err := c.Results.Acknowledge(ctx, result.ID); err != nil {
			return err
		}
	}
	return nil
}

// A thousand accounts start evenly over ten minutes. The test measures how many requests of the
// quota each account needs, and how long after the fact the client learns of its completion.
func TestFleet(t *testing.T) {
	t.Parallel()
	accounts := 200
	switch {
	case raceDetector:
		accounts = 100
	case os.Getenv("RICLOUD_TEST_FULL") != "":
		accounts = 1000
	}
	second := time.Second
	ways := []way{
		{
			name: "a GET a second a wait, single acks", accounts: accounts / 10, run: plain, requests: 400,
			sessions: second, polls: second,
		},
		{
			name: "ours, no webhooks", accounts: accounts, run: ours, requests: 6, sessions: 3 * second,
			polls: 6 * second,
		},
		{
			name: "ours, webhooks delivered", accounts: accounts, run: ours, webhooks: true, requests: 4.2,
			sessions: second / 10, polls: second / 10,
		},
		{
			name: "ours, webhooks, 20 % dropped, doubled, late", accounts: accounts, run: ours,
			webhooks: true,
			noise:    ricloudtest.WebhookFaults{Drop: 0.2, Duplicate: 0.2, Reorder: 0.2},
			requests: 4.5, sessions: 3 * second, polls: 6 * second, worst: 20 * second,
		},
	}
	var mu sync.Mutex
	rows := make([]string, len(ways))
	t.Cleanup(func() {
		var table bytes.Buffer
		w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
		_, _ = fmt.Fprintln(w,
			"way\trequests an account\tmedian lag: sessions\tpolls\tworst lag: sessions\tpolls")
		for _, row := range rows {
			_, _ = fmt.Fprintln(w, row)
		}
		assert.NoError(t, w.Flush())
		t.Logf("\n%s", &table)
	})
	for i, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				requests, sessions, polls := way.measure(t)
				middle, last := way.accounts/2, way.accounts-1
				mu.Lock()
				rows[i] = fmt.Sprintf("%s\t%.2f\t%v\t%v\t%v\t%v", way.name, requests, sessions[middle],
					polls[middle], sessions[last], polls[last])
				mu.Unlock()
				// Waits share requests, so each account of a smaller fleet needs more.
				assert.LessOrEqual(t, requests, way.requests+400/float64(way.accounts)-0.4)
				if way.worst > 0 {
					assert.Less(t, max(sessions[last], polls[last]), way.worst, "two intervals")
				}
				assert.LessOrEqual(t, sessions[middle], way.sessions)
				assert.LessOrEqual(t, polls[middle], way.polls)
			})
		})
	}
}

// measure runs the fleet. It returns the requests for each account, and the sorted lags between the
// end of each session and poll and the client learning of it.
func (w way) measure(t *testing.T) (requests float64, sessions, polls []time.Duration) {
	var client *ricloud.Client
	hook, err := ricloud.NewWebhookHandler(func(_ context.Context, e *ricloud.Event) error {
		client.Notify(e)
		return nil
	})
	require.NoError(t, err)
	srv := ricloudtest.NewServer(
		ricloudtest.WithSeed(7),
		ricloudtest.WithDelays(ricloudtest.Delays{
			Session: ricloudtest.Delay{Min: 3 * time.Second, Max: 40 * time.Second},
			Poll:    ricloudtest.Delay{Min: 30 * time.Second, Max: 600 * time.Second},
		}),
		ricloudtest.WithReceiver("https://hooks.example.com", hook),
		ricloudtest.WithWebhookFaults(w.noise),
	)
	defer srv.Close()
	client = srv.Client(ricloud.WithPolling(time.Second, 10*time.Second)) // as for the live API
	ctx := t.Context()
	if w.webhooks {
		_, err := client.WebhookConfigs.Ensure(ctx, ricloud.WebhookConfigEnsureParams{
			URL: "https://hooks.example.com", BeforeTest: hook.SetSecrets, MakeOrganisationDefault: true,
		})
		require.NoError(t, err)
	}
	srv.ResetCalls()

	known := journal{sessions: map[ricloud.ID]time.Time{}, polls: map[ricloud.ID]time.Time{}}
	var all sync.WaitGroup
	for i := range w.accounts {
		all.Go(func() { assert.NoError(t, w.run(ctx, client, i, &known)) })
		<-time.NewTimer(10 * time.Minute / time.Duration(w.accounts)).C
	}
	all.Wait()
	requests = float64(srv.CountCalls("")) / float64(w.accounts)

	for task, err := range client.Tasks.All(ctx, ricloud.TaskListParams{}) {
		require.NoError(t, err)
		if at, ok := known.sessions[task.Session]; ok && task.Poll == "" {
			sessions = append(sessions, at.Sub(task.DateCompleted).Round(time.Millisecond))
		}
	}
	for poll, err := range client.Polls.All(ctx, ricloud.PollListParams{}) {
		require.NoError(t, err)
		polls = append(polls, known.polls[poll.ID].Sub(poll.DateCompleted).Round(time.Millisecond))
		for i := range poll.Results.Data {
			assert.Equal(t, ricloud.ResultConsumed, poll.Results.Data[i].State, "nothing is lost")
		}
	}
	require.Len(t, sessions, w.accounts)
	require.Len(t, polls, w.accounts)
	slices.Sort(sessions)
	slices.Sort(polls)
	return requests, sessions, polls
}
