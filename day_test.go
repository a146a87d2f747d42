package ricloud_test

import (
	"context"
	"errors"
	"maps"
	"math"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ricloudtest"
)

// dayAccount is what the service stores about one account.
type dayAccount struct {
	i             int
	user          ricloud.ID
	begun         time.Time    // when the last create of a session was sent
	failed        []ricloud.ID // sessions that asked for a code
	code          string
	session, poll ricloud.ID
	polling       bool // a poll may have been created
	known         time.Time
	done          bool
	waiting       bool // for a code from its owner
	troubled      bool // a step failed and was repeated later
}

const dayCode = "123456"

// givesCode reports whether an account asks for a code, and how long its owner takes to give it. 0
// means never.
func (a *dayAccount) givesCode() (asks bool, after time.Duration) {
	switch {
	case a.i%25 == 7:
		return true, 10*time.Minute + time.Duration(a.i)*time.Second/4
	case a.i%50 == 11:
		return true, 0
	}
	return false, 0
}

// dayNetwork loses some answers and has one outage of each shape.
type dayNetwork struct {
	mu       sync.Mutex
	next     http.RoundTripper
	began    time.Time
	every    time.Duration // between outages
	shapes   []string
	outages  map[string]ricloud.RoundTripFunc
	dice     *rand.Rand
	n, inOut int
}

// lies are outages that the client takes for a successful create: the answer has an ID, and nothing
// shows that it belongs to another resource.
//
//nolint:gochecknoglobals // a constant in all but name
var lies = map[string]bool{
	"another resource": true, "another kind": true, "the state is missing": true,
}

const dayOutage = 8 * time.Minute

// outage returns the shape of the outage at a time, or "" if there is none.
func (d *dayNetwork) outage(at time.Time) string {
	after := at.Sub(d.began)
	n := int(after / d.every)
	if n < 1 || n > len(d.shapes) || after%d.every >= dayOutage {
		return ""
	}
	return d.shapes[n-1]
}

// fails reports whether an outage overlaps the time between from and to.
func (d *dayNetwork) fails(from, to time.Time) bool {
	for at := from; at.Before(to); at = at.Add(time.Second) {
		if d.outage(at) != "" {
			return true
		}
	}
	return d.outage(to) != ""
}

func (d *dayNetwork) RoundTrip(r *http.Request) (*http.Response, error) {
	d.mu.Lock()
	d.n++
	shape, lost := d.outage(time.Now()), d.dice.Float64() < 0.01
	if shape != "" {
		d.inOut++
	}
	d.mu.Unlock()
	if shape != "" && (r.Method == http.MethodGet || !lies[shape]) {
		return d.outages[shape](r)
	}
	resp, err := d.next.RoundTrip(r)
	if err == nil && lost {
		_ = resp.Body.Close()
		return nil, errors.New("connection reset by peer")
	}
	return resp, err
}

// login returns nil once the account has an active session.
func (a *dayAccount) login(ctx context.Context, c *ricloud.Client) error {
	params := fleetLogin(a.i, a.user)
	params.Payload.Code = ricloud.NewSecret(a.code)
	if a.session == "" && !a.begun.IsZero() {
		session, err := c.Sessions.Find(ctx,
			ricloud.SessionFindParams{Source: params.Source, Since: a.begun, Known: a.failed})
		switch {
		case err == nil:
			a.session = session.ID
		case !errors.Is(err, ricloud.ErrNotFound):
			return err
		}
	}
	var session *ricloud.Session
	var err error
	if a.session != "" {
		session, err = c.Sessions.Wait(ctx, a.session)
	} else {
		a.begun = time.Now()
		session, err = c.Sessions.Login(ctx, params, nil)
	}
	if session != nil {
		a.session = session.ID
	}
	if errors.Is(err, ricloud.ErrCodeRequired) {
		a.failed, a.session = append(a.failed, a.session), ""
		a.begun, a.waiting = time.Time{}, true
	}
	return err
}

// step does the remaining work for an account.
func (a *dayAccount) step(ctx context.Context, c *ricloud.Client) error {
	if a.user == "" {
		user, err := c.Users.Create(ctx, ricloud.UserCreateParams{Identifier: strconv.Itoa(a.i)})
		if err != nil {
			return err
		}
		a.user = user.ID
	}
	if a.poll == "" {
		if err := a.login(ctx, c); err != nil {
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
	if a.known.IsZero() {
		a.known = time.Now()
	}
	if err := c.Results.AcknowledgeAll(ctx, results); err != nil {
		return err
	}
	a.done = true
	return nil
}

// dayProcess is the service process that is running at the moment.
type dayProcess struct {
	mu     sync.Mutex
	ctx    context.Context //nolint:containedctx // it ends with the process
	kill   context.CancelFunc
	client *ricloud.Client
}

func (p *dayProcess) now() (context.Context, *ricloud.Client) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ctx, p.client
}

// restart ends the process and starts another one, which remembers nothing.
func (p *dayProcess) restart(ctx context.Context, client *ricloud.Client) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.kill != nil {
		p.kill()
	}
	p.ctx, p.kill = context.WithCancel(ctx)
	p.client = client
}

// work completes the account, across restarts of the process.
func (a *dayAccount) work(process *dayProcess) {
	for range 200 {
		ctx, client := process.now()
		err := a.step(ctx, client)
		_, codeAfter := a.givesCode()
		switch {
		case err == nil, a.waiting && codeAfter == 0:
			return
		case a.waiting:
			<-time.NewTimer(codeAfter).C
			a.waiting, a.code = false, dayCode
		case ctx.Err() != nil: // the next process continues
			a.troubled = true
		default:
			a.troubled = true
			<-time.NewTimer(10 * time.Minute).C // the service's own backoff
		}
	}
}

// A day of a service: 2,000 accounts arrive over 24 hours. The network fails for eight minutes in
// each way of Outages, 1% of answers and 20% of events get lost, and the process restarts three
// times. No account is logged in to twice, and none is forgotten. Without RICLOUD_TEST_FULL=1 the
// test covers one hour, with the defaults only, and the requests during outages weigh more.
//
// Accounts arrive too far apart to share requests, and polls take 5 to 60 seconds. If every end is
// to be known within 20 seconds although its event is lost, which the default of WithPolling
// promises, a poll needs 1.1 reads on average, and an account 5.2 requests; the client leaves some
// room for late answers. docs/waiting.md recommends a longest interval of a minute to services that
// have webhooks, which makes two minutes of these 20 seconds.
func TestDay(t *testing.T) {
	t.Parallel()
	if os.Getenv("RICLOUD_TEST_FULL") == "" {
		shapes := []string{"429", "page with 200", "silence"}
		liveADay(t, 40, time.Hour, shapes, 10*time.Second, math.Inf(1))
		return
	}
	outages := ricloud.Outages()
	delete(outages, "framework's 404") // to a service, it is the gateway's once more
	shapes := slices.Sorted(maps.Keys(outages))
	for name, tc := range map[string]struct {
		longest      time.Duration
		mostRequests float64 // for an account, in outages and outside
	}{
		"with the defaults":                     {longest: 10 * time.Second, mostRequests: 6.6},
		"with a longest interval of one minute": {longest: time.Minute, mostRequests: 4.6},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			liveADay(t, 2000, 24*time.Hour, shapes, tc.longest, tc.mostRequests)
		})
	}
}

// liveADay runs the service for a day of the given length. longest is the longest interval of
// WithPolling.
func liveADay(
	t *testing.T, accounts int, day time.Duration, shapes []string, longest time.Duration,
	mostRequests float64,
) {
	t.Helper()
	all := ricloud.Outages()
	synctest.Test(t, func(t *testing.T) {
		var process dayProcess
		hook, err := ricloud.NewWebhookHandler(func(_ context.Context, e *ricloud.Event) error {
			_, client := process.now()
			client.Notify(e)
			return nil
		})
		require.NoError(t, err)
		states := []ricloudtest.Account{{Service: "mocks.mock"}} // every other identifier
		fleet := make([]*dayAccount, accounts)
		for i := range fleet {
			fleet[i] = &dayAccount{i: i}
			if asks, _ := fleet[i].givesCode(); asks {
				states = append(states, ricloudtest.Account{
					Service: "mocks.mock", Code: dayCode,
					Identifier: fleetLogin(i, "").Source.Identifier,
				})
			}
		}
		srv := ricloudtest.NewServer(
			ricloudtest.WithAccounts(states...),
			ricloudtest.WithDelays(ricloudtest.Delays{
				Session: ricloudtest.Delay{Min: 2 * time.Second, Max: 9 * time.Second},
				Poll:    ricloudtest.Delay{Min: 5 * time.Second, Max: 60 * time.Second},
			}),
			ricloudtest.WithReceiver("https://hooks.example.com", hook),
			ricloudtest.WithWebhookFaults(ricloudtest.WebhookFaults{Drop: 0.2}),
		)
		defer srv.Close()
		network := &dayNetwork{
			next: srv, began: time.Now(), every: day / time.Duration(len(shapes)+1),
			shapes: shapes, outages: all, dice: rand.New(rand.NewPCG(1, 2)),
		}
		start := func() *ricloud.Client {
			return srv.Client(
				ricloud.WithPolling(time.Second, longest),
				ricloud.WithRetryWait(500*time.Millisecond, 30*time.Second), // the defaults
				ricloud.WithRateLimit(10_000, time.Hour), ricloud.WithTransport(network),
			)
		}
		process.restart(t.Context(), start())
		_, client := process.now()
		_, err = client.WebhookConfigs.Ensure(t.Context(), ricloud.WebhookConfigEnsureParams{
			URL: "https://hooks.example.com", BeforeTest: hook.SetSecrets, MakeOrganisationDefault: true,
		})
		require.NoError(t, err)
		network.n = 0
		restarts := make([]time.Time, 3)
		for n := range restarts {
			after := day * time.Duration(n+1) / 4
			restarts[n] = time.Now().Add(after)
			time.AfterFunc(after, func() { process.restart(t.Context(), start()) })
		}
		var working sync.WaitGroup
		for _, a := range fleet {
			working.Go(func() { a.work(&process) })
			<-time.NewTimer(day / time.Duration(accounts)).C
		}
		working.Wait()
		process.kill()
		requests := float64(network.n) / float64(accounts)
		inOutages := float64(network.inOut) / float64(accounts)
		outages := network.every // no outage while the test reads the results
		network.every = 1000 * time.Hour
		logins := map[string]int{}
		for session, err := range client.Sessions.All(t.Context(), ricloud.SessionListParams{}) {
			require.NoError(t, err)
			logins[session.Source.Identifier]++
		}
		polls := map[ricloud.ID]time.Time{}
		for poll, err := range client.Polls.All(t.Context(), ricloud.PollListParams{}) {
			require.NoError(t, err)
			polls[poll.ID] = poll.DateCompleted
		}
		assert.Len(t, logins, accounts)
		network.every = outages
		var lag, calm time.Duration
		for _, a := range fleet {
			asks, codeAfter := a.givesCode()
			want := 1
			if asks && codeAfter > 0 {
				want = 2 // the second is the one with the code
			}
			assert.Equal(t, want, logins[fleetLogin(a.i, "").Source.Identifier], "logins of %d", a.i)
			if asks && codeAfter == 0 {
				assert.True(t, a.waiting, "account %d waits for its code", a.i)
				continue
			}
			assert.True(t, a.done, "account %d is lost", a.i)
			late := a.known.Sub(polls[a.poll])
			lag = max(lag, late)
			if !a.troubled && !network.fails(polls[a.poll], a.known) {
				calm = max(calm, late)
			}
		}
		assert.Len(t, polls, len(fleet)-len(waiting(fleet)), "no poll is repeated")
		t.Logf("%d accounts, %d shapes of outages: %.2f requests per account, %.2f of them in outages; "+
			"a poll's end is known %s late at worst, %s while nothing is wrong", accounts, len(shapes),
			requests, inOutages, lag, calm)
		assert.Less(t, calm, 2*longest, "two intervals")
		assert.LessOrEqual(t, requests, mostRequests, "requests an account, in outages and outside")
	})
}

// waiting returns the accounts that wait for a code.
func waiting(fleet []*dayAccount) (all []*dayAccount) {
	for _, a := range fleet {
		if a.waiting {
			all = append(all, a)
		}
	}
	return all
}
