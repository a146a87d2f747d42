package ricloud_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jarcoal/httpmock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ricloudtest"
)

// dayAccount is what a service keeps of an account.
type dayAccount struct {
	i             int
	begun         time.Time
	session, poll ricloud.ID
	polling       bool // a poll may have been created
	done          bool
}

// dayNetwork loses answers and has an outage of each shape.
type dayNetwork struct {
	mu    sync.Mutex
	next  http.RoundTripper
	began time.Time
	every time.Duration // between outages
	dice  *rand.Rand
	n     int
}

func (d *dayNetwork) RoundTrip(r *http.Request) (*http.Response, error) {
	d.mu.Lock()
	d.n++
	after, lost := time.Since(d.began), d.dice.Float64() < 0.01
	d.mu.Unlock()
	if at := after % d.every; after > d.every && at < 8*time.Minute {
		switch int(after/d.every) % 5 {
		case 0:
			return httpmock.NewStringResponse(503, ""), nil
		case 1:
			return httpmock.NewStringResponse(200, "<html>maintenance</html>"), nil
		case 2:
			return httpmock.NewStringResponse(404, "<html>no site</html>"), nil
		case 3:
			return httpmock.NewStringResponse(429, `{"error":"rate-limited"}`), nil
		}
		return nil, errors.New("connection refused")
	}
	resp, err := d.next.RoundTrip(r)
	if err == nil && lost {
		_ = resp.Body.Close()
		return nil, errors.New("connection reset by peer")
	}
	return resp, err
}

// step does what is left to do for an account.
func (a *dayAccount) step(ctx context.Context, c *ricloud.Client) error {
	user, err := c.Users.Create(ctx, ricloud.UserCreateParams{Identifier: strconv.Itoa(a.i)})
	if err != nil {
		return err
	}
	params := fleetLogin(a.i, user.ID)
	if a.session == "" && !a.begun.IsZero() {
		find := ricloud.SessionFindParams{Source: params.Source, Since: a.begun}
		session, err := c.Sessions.Find(ctx, find)
		switch {
		case err == nil:
			a.session = session.ID
		case !errors.Is(err, ricloud.ErrNotFound):
			return err
		}
	}
	if a.session == "" {
		a.begun = time.Now()
		session, err := c.Sessions.Login(ctx, params, nil)
		if session != nil {
			a.session = session.ID
		}
		if err != nil {
			return err
		}
	} else if a.poll == "" {
		if _, err := c.Sessions.Wait(ctx, a.session); err != nil {
			return err
		}
	}
	if a.poll == "" && a.polling {
		for poll, err := range c.Polls.All(ctx, ricloud.PollListParams{Session: a.session}) {
			if err != nil {
				return err
			}
			a.poll = poll.ID
			break
		}
	}
	if a.poll == "" {
		a.polling = true
		payload := ricloud.PollPayload{DataTypes: dataTypes()}
		poll, err := c.Polls.Create(ctx, ricloud.PollCreateParams{Session: a.session, Payload: payload})
		if err != nil {
			return err
		}
		a.poll = poll.ID
	}
	var results []ricloud.ID
	for result, err := range c.Polls.Results(ctx, a.poll) {
		if err != nil {
			return err
		}
		results = append(results, result.ID)
	}
	if err := c.Results.AcknowledgeAll(ctx, results); err != nil {
		return err
	}
	a.done = true
	return nil
}

// A service's day: accounts arrive all the time, the network fails in every
// way, events get lost, and the process restarts three times. Nobody is logged
// in to twice and nobody is left behind. RICLOUD_TEST_FULL=1 runs the whole of
// it, else a tenth.
func TestDay(t *testing.T) {
	t.Parallel()
	accounts, day := 200, 144*time.Minute
	if os.Getenv("RICLOUD_TEST_FULL") != "" {
		accounts, day = 2000, 24*time.Hour
	}
	synctest.Test(t, func(t *testing.T) {
		var client *ricloud.Client
		hook, err := ricloud.NewWebhookHandler(func(_ context.Context, e *ricloud.Event) error {
			client.Notify(e)
			return nil
		})
		require.NoError(t, err)
		srv := ricloudtest.NewServer(
			ricloudtest.WithDelays(ricloudtest.Delays{
				Session: ricloudtest.Delay{Min: 2 * time.Second, Max: 9 * time.Second},
				Poll:    ricloudtest.Delay{Min: 5 * time.Second, Max: 60 * time.Second},
			}),
			ricloudtest.WithReceiver("https://hooks.example.com", hook),
			ricloudtest.WithWebhookFaults(ricloudtest.WebhookFaults{Drop: 0.2}),
		)
		defer srv.Close()
		network := &dayNetwork{
			next: srv, began: time.Now(), every: day / 6,
			dice: rand.New(rand.NewPCG(1, 2)),
		}
		start := func() *ricloud.Client {
			return srv.Client(
				ricloud.WithPolling(time.Second, time.Minute),
				ricloud.WithRateLimit(10_000, time.Hour), ricloud.WithTransport(network),
			)
		}
		client = start()
		_, err = client.WebhookConfigs.Ensure(t.Context(), ricloud.WebhookConfigEnsureParams{
			URL: "https://hooks.example.com", BeforeTest: hook.SetSecrets, MakeOrganisationDefault: true,
		})
		require.NoError(t, err)
		network.n = 0
		var process context.Context
		var kill context.CancelFunc
		var mu sync.Mutex // guards process and client between restarts
		process, kill = context.WithCancel(t.Context())
		for n := range 3 {
			time.AfterFunc(day*time.Duration(n+1)/4, func() {
				mu.Lock()
				defer mu.Unlock()
				kill()
				process, kill = context.WithCancel(t.Context()) //nolint:fatcontext // it does not nest
			})
		}
		all := make([]*dayAccount, accounts)
		var working sync.WaitGroup
		for i := range all {
			a := &dayAccount{i: i}
			all[i] = a
			working.Go(func() {
				for range 200 {
					mu.Lock()
					ctx := process
					mu.Unlock()
					if a.step(ctx, client) == nil {
						return
					}
					<-time.NewTimer(4 * time.Minute).C // as a service backs off
				}
			})
			<-time.NewTimer(day / time.Duration(accounts)).C
		}
		working.Wait()
		kill()
		requests := float64(network.n) / float64(accounts)
		ended := 0
		for _, a := range all {
			if a.done {
				ended++
			}
		}
		assert.Equal(t, accounts, ended, "nobody is lost")
		logins := map[ricloud.ID]int{}
		network.began = time.Now().Add(24 * time.Hour) // no more outages
		for session, err := range client.Sessions.All(t.Context(), ricloud.SessionListParams{}) {
			require.NoError(t, err)
			logins[session.Source.ID]++
		}
		for source, n := range logins {
			assert.Equal(t, 1, n, "logins of source %s", source)
		}
		t.Logf("%d accounts: %.2f requests per account", accounts, requests)
		if accounts == 2000 {
			assert.LessOrEqual(t, requests, 4.7, "virtual time leaves the order of events open")
		}
	})
}
