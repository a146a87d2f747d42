package ingest_test

import (
	"context"
	"errors"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync"
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

func isParamError(err error) bool {
	_, ok := errors.AsType[*ricloud.ParamError](err)
	return ok
}

// Two processes submit the same key at once: for the same account both succeed, and for two
// accounts one does, whose account is stored.
func TestTwoProcessesSubmitOneKey(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		shared := store.NewMemory()
		var engines []*ingest.Engine
		for range 2 {
			engine, err := ingest.OpenOn(t.Context(), ingest.Config{Memory: true}, shared)
			require.NoError(t, err)
			engines = append(engines, engine)
		}
		_, here := fleet(2)
		same, other := here[0], here[1]
		other.Key = same.Key
		for name, accounts := range map[string][]ingest.Account{
			"same": {same, same}, "another source": {same, other},
		} {
			var errs [2]error
			var both sync.WaitGroup
			for i, engine := range engines {
				a := accounts[i]
				a.Key += name
				both.Go(func() { errs[i] = engine.Submit(t.Context(), a) })
			}
			both.Wait()
			status, err := engines[0].Account(t.Context(), same.Key+name)
			require.NoError(t, err)
			for i, err := range errs {
				if accounts[i].Source == status.Account.Source {
					require.NoError(t, err, name)
				} else {
					require.True(t, isParamError(err), "%s: %v", name, err)
				}
			}
		}
		for _, engine := range engines {
			require.NoError(t, engine.Close())
		}
	})
}

// An account that cannot work is refused, with the name of the field.
func TestSubmitRefusesWhatCannotWork(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, ingest.Config{Memory: true})
		_, here := fleet(1)
		for field, change := range map[string]func(*ingest.Account){
			"Key":            func(a *ingest.Account) { a.Key = "" },
			"Key is longer":  func(a *ingest.Account) { a.Key = string(make([]byte, 300)) },
			"Key is no text": func(a *ingest.Account) { a.Key = "\xff" },
			"Identifier":     func(a *ingest.Account) { a.Source.Identifier = "\xff" },
			"Poll.Since": func(a *ingest.Account) {
				a.Poll.Since = time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC)
			},
			"Source.User":       func(a *ingest.Account) { a.Source.User = "1" },
			"Source.Type":       func(a *ingest.Account) { a.Source.Type = "" },
			"Source.Type relay": func(a *ingest.Account) { a.Source.Type = ricloud.SourceRelayInstance },
			"Source.Identifier": func(a *ingest.Account) { a.Source.Identifier = "" },
			"Poll":              func(a *ingest.Account) { a.Poll = ricloud.PollPayload{} },
			"Every":             func(a *ingest.Account) { a.Every = -time.Second },
			"Every too long":    func(a *ingest.Account) { a.Every = math.MaxInt64 },
			"DataTypes":         func(a *ingest.Account) { a.Poll.DataTypes = []string{"a.b", " "} },
			"InfoTypes":         func(a *ingest.Account) { a.Poll.InfoTypes = []string{""} },
			"InfoTypes no text": func(a *ingest.Account) { a.Poll.InfoTypes = []string{"\xff"} },
			"Files":             func(a *ingest.Account) { a.Poll.Files = []ricloud.ID{"	"} },
			"Source.Type blank": func(a *ingest.Account) { a.Source.Type = " " },
			"Poll.Until": func(a *ingest.Account) {
				a.Poll.Since = time.Now()
				a.Poll.Until = a.Poll.Since.Add(-time.Second)
			},
			"large type": func(a *ingest.Account) {
				a.Poll.DataTypes = []string{strings.Repeat("x", 100<<10)}
			},
			"many files": func(a *ingest.Account) {
				a.Poll.Files = slices.Repeat([]ricloud.ID{"file-of-some-record"}, 10<<10)
			},
			"large identifier": func(a *ingest.Account) {
				a.Source.Identifier = strings.Repeat("\n", 60<<10) + "x" // two bytes each in JSON
			},
		} {
			a := here[0]
			change(&a)
			assert.True(t, isParamError(b.engine.Submit(t.Context(), a)), field)
		}
		for _, cfg := range []ingest.Config{
			{},
			{Memory: true, Dir: "x"},
			{Memory: true, Name: "a.b"},
			{Memory: true, Replicas: 3},
			{URL: "nats://a", Replicas: 9},
			{Memory: true, Requests: -1},
			{Memory: true, Per: -1},
			{Memory: true, Lease: time.Millisecond},
			{Memory: true, MaxBytes: 1},
		} {
			_, err := ingest.Open(t.Context(), cfg)
			assert.True(t, isParamError(err), "%+v: %v", cfg, err)
		}
		run := func(h ingest.Handlers) error { return b.engine.Run(t.Context(), b.client, h) }
		assert.True(t, isParamError(run(ingest.Handlers{})))
		assert.True(t, isParamError(run(ingest.Handlers{Secret: secret})))
		h := b.handlers()
		h.Attempts = -1
		assert.True(t, isParamError(run(h)))
		assert.True(t, isParamError(b.engine.Run(t.Context(), nil, b.handlers())))
		require.NoError(t, b.engine.Close())
	})
}

// A code that is given twice, at once and by two processes, is used once.
func TestACodeGivenTwiceIsUsedOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		there, here := fleet(1)
		there[0].Code = "731994"
		c := newCompany(t, 2, each, ricloudtest.WithAccounts(there...),
			ricloudtest.WithDelays(delays()))
		stop := c.start(func(int) ingest.Handlers { return c.handlers() })
		c.submit(here...)
		c.wait(1, ingest.CodeNeeded)
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		err := c.engine.Code(ended, here[0].Key, ricloud.NewSecret("731994"))
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorContains(t, err, "the code was not used")
		var used atomic.Int32
		var givers sync.WaitGroup
		for _, engine := range c.engines {
			for range 3 {
				givers.Go(func() {
					err := engine.Code(t.Context(), here[0].Key, ricloud.NewSecret("731994"))
					if err == nil {
						used.Add(1)
					} else {
						assert.ErrorContains(t, err, "no code is wanted")
					}
				})
			}
		}
		givers.Wait()
		assert.EqualValues(t, 1, used.Load())
		c.wait(1, ingest.Done)
		stop()
		assert.Equal(t, 2, c.sandbox.CountCalls("Sessions.Create"))
	})
}

// A Code whose context ends while the login waits says that the code may have been used.
func TestACodeWhoseContextEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		there, here := fleet(1)
		there[0].Code = "731994"
		b := newBench(t, ingest.Config{Memory: true}, ricloudtest.WithAccounts(there...),
			ricloudtest.WithDelays(delays()))
		stop := b.run(b.handlers())
		b.submit(here...)
		b.wait(1, ingest.CodeNeeded)
		b.engine.Pacer().Pause(time.Minute)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := b.engine.Code(ctx, here[0].Key, ricloud.NewSecret("731994"))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorContains(t, err, "the code may have been used")
		b.wait(1, ingest.Done)
		stop()
	})
}

// A storm of 429 answers pauses all processes and makes no dead letter. No login is made twice.
func TestAStormOf429(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const accounts = 20
		there, here := fleet(accounts)
		c := newCompany(t, 3, each, ricloudtest.WithAccounts(there...),
			ricloudtest.WithDelays(delays()),
			ricloudtest.WithFaults(ricloudtest.Fault{
				Status: http.StatusTooManyRequests, Rate: 0.5, Count: -1,
			}))
		stop := c.start(func(int) ingest.Handlers { return c.handlers() })
		c.submit(here...)
		c.wait(accounts, ingest.Done)
		stop()
		sessions := 0
		require.NoError(t, c.sandbox.SetFaults())
		for _, err := range c.sandbox.Client().Sessions.All(t.Context(), ricloud.SessionListParams{}) {
			require.NoError(t, err)
			sessions++
		}
		assert.Equal(t, accounts, sessions)
	})
}

// An account whose record cannot be read is left alone, until its record is written anew. It stops
// no other, and its step is not tried again and again.
func TestARecordThatCannotBeReadIsLeftAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		there, here := fleet(2)
		c := newCompany(t, 1, each, ricloudtest.WithAccounts(there...),
			ricloudtest.WithDelays(delays()))
		c.submit(here...)
		var poll any
		c.change(here[0].Key, func(record map[string]any) {
			account, ok := record["account"].(map[string]any)
			require.True(t, ok)
			poll, account["poll"] = account["poll"], 7
		})
		stop := c.start(func(int) ingest.Handlers { return c.handlers() })
		<-time.NewTimer(time.Hour).C
		status, err := c.engine.Account(t.Context(), here[1].Key)
		require.NoError(t, err)
		assert.Equal(t, ingest.Done, status.State)
		_, err = c.engine.Account(t.Context(), here[0].Key)
		require.ErrorContains(t, err, "cannot be read")

		c.change(here[0].Key, func(record map[string]any) {
			account, ok := record["account"].(map[string]any)
			require.True(t, ok)
			account["poll"] = poll
		})
		c.wait(2, ingest.Done)
		stop()
	})
}

// The clock of a process that was far ahead has left its times in the state. They hold nobody up
// for longer than a step's longest pause.
func TestTimesFromAClockThatIsAhead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		there, here := fleet(2)
		c := newCompany(t, 1, each, ricloudtest.WithAccounts(there...),
			ricloudtest.WithDelays(delays()))
		c.submit(here...)
		user, err := c.client.Users.Create(t.Context(),
			ricloud.UserCreateParams{Identifier: here[1].Key})
		require.NoError(t, err)
		ahead := time.Now().Add(365 * 24 * time.Hour)
		c.change(here[0].Key, func(record map[string]any) { record["due"] = ahead })
		c.change(here[1].Key, func(record map[string]any) {
			record["state"], record["begun"] = ingest.LoggingIn, ahead
			record["user"] = user.ID
		})
		began := time.Now()
		stop := c.start(func(int) ingest.Handlers { return c.handlers() })
		c.wait(2, ingest.Done)
		stop()
		assert.Less(t, time.Since(began), time.Hour)
	})
}

// A password that cannot be sent is a mistake of who gave it: it is asked for again, and no code
// counts as wrong.
func TestPasswordsThatCannotBeSent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		there, here := fleet(2)
		there[1].Code = "731994"
		b := newBench(t, ingest.Config{Memory: true}, ricloudtest.WithAccounts(there...),
			ricloudtest.WithDelays(delays()))
		h := b.handlers()
		var asked [2]atomic.Int32
		h.Secret = func(ctx context.Context, key string) (ricloud.Secret, error) {
			i := slices.IndexFunc(here, func(a ingest.Account) bool { return a.Key == key })
			n := asked[i].Add(1)
			if i == 0 && n <= 2 || i == 1 && n >= 2 && n <= 5 {
				return ricloud.NewSecret(password + "\xff"), nil
			}
			return secret(ctx, key)
		}
		stop := b.run(h)
		b.submit(here...)
		b.wait(1, ingest.Done)
		b.wait(1, ingest.CodeNeeded)
		code := ricloud.NewSecret("731994")
		for range 4 {
			err := b.engine.Code(t.Context(), here[1].Key, code)
			require.ErrorContains(t, err, "the password or the code cannot be sent")
			require.NotContains(t, err.Error(), password)
			<-time.NewTimer(10 * time.Minute).C
		}
		require.NoError(t, b.engine.Code(t.Context(), here[1].Key, code))
		b.wait(2, ingest.Done)
		stop()
		assert.Equal(t, 3, b.sandbox.CountCalls("Sessions.Create"))
	})
}

// Since stays however many steps an account makes in its state. A record of an older version says
// it as far as its history goes back.
func TestSinceOutlivesTheHistory(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		there, here := fleet(1)
		here[0].Every = time.Minute
		c := newCompany(t, 1, each, ricloudtest.WithAccounts(there...),
			ricloudtest.WithDelays(delays()))
		stop := c.start(func(int) ingest.Handlers { return c.handlers() })
		c.submit(here...)
		c.wait(1, ingest.Subscribed)
		first, err := c.engine.Account(t.Context(), here[0].Key)
		require.NoError(t, err)
		<-time.NewTimer(40 * time.Minute).C
		later, err := c.engine.Account(t.Context(), here[0].Key)
		require.NoError(t, err)
		require.Equal(t, ingest.Subscribed, later.State)
		require.Len(t, later.History, 24, "its middle is cut")
		assert.Equal(t, first.Since, later.Since)

		c.change(here[0].Key, func(record map[string]any) { delete(record, "since") })
		older, err := c.engine.Account(t.Context(), here[0].Key)
		require.NoError(t, err)
		i := slices.IndexFunc(older.History, func(s ingest.Step) bool {
			return s.Time.Equal(older.Since)
		})
		require.Positive(t, i)
		assert.NotEqual(t, ingest.Subscribed, older.History[i-1].State)
		stop()
	})
}
