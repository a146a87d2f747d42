package ingest_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ingest"
	"github.com/reincubate/ricloud-go/ricloudtest"
)

// A handler's error, or what it panics with, may hold the signed URL of its result, and the error
// of Handlers.Secret a password. The reason of the dead letter does not, nor does the log: both are
// kept, for others to read.
func TestDeadLettersHoldNoSecrets(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const accounts = 5
		there, here := fleet(accounts)
		b := newBench(t, ingest.Config{Memory: true}, ricloudtest.WithAccounts(there...),
			ricloudtest.WithDelays(delays()))
		var logged strings.Builder
		var secrets []string
		h := b.handlers()
		h.Concurrency, h.Attempts = 1, 2
		h.Logger = slog.New(slog.NewTextHandler(&logged, nil))
		h.Secret = func(_ context.Context, key string) (ricloud.Secret, error) {
			password := ricloud.NewSecret(password)
			if key == here[4].Key {
				return password, fmt.Errorf("the vault refused %s", password.Reveal())
			}
			return password, nil
		}
		h.Result = func(_ context.Context, r *ingest.Result) error {
			signed := r.SignedURL.URL.Reveal()
			u, err := url.Parse(signed)
			require.NoError(t, err)
			require.NotEmpty(t, u.RawQuery)
			secrets = append(secrets, u.RawQuery)
			for _, values := range u.Query() {
				if len(values[0]) > 16 {
					secrets = append(secrets, values[0])
				}
			}
			switch r.Account {
			case here[0].Key:
				return fmt.Errorf("cannot read %s: no route to host", signed)
			case here[1].Key:
				return errors.New("cannot read ?" + u.RawQuery)
			case here[2].Key:
				panic("cannot read " + signed)
			}
			return fmt.Errorf("cannot read %q", u.Query())
		}
		stop := b.run(h)
		b.submit(here...)
		b.wait(accounts-1, ingest.Dead)
		for i, want := range []string{
			"no route to host", "cannot read", "the handler panicked: cannot read", "cannot read",
			"the vault refused [redacted]",
		} {
			status, err := b.engine.Account(t.Context(), here[i].Key)
			require.NoError(t, err)
			assert.Contains(t, status.Reason, want)
			for _, secret := range append(secrets, password) {
				assert.NotContains(t, fmt.Sprintf("%+v", status), secret)
			}
		}
		stop()
		for _, secret := range append(secrets, password) {
			assert.NotContains(t, logged.String(), secret)
		}
		require.NotEmpty(t, secrets)
	})
}

// A password that this process was given stands in no reason, history or log, in whatever form an
// error or a panic of the same account's handlers holds it.
func TestErrorsHoldNoPassword(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const odd = `pa"ss&w\ord %1/ö`
		inJSON, err := json.Marshal(odd)
		require.NoError(t, err)
		forms := []string{
			odd, strconv.Quote(odd), string(inJSON), url.QueryEscape(odd), url.PathEscape(odd),
		}
		there, here := fleet(len(forms) + 3)
		for i := range there {
			there[i].Password = odd
		}
		panicking, stepping, withCode := len(forms), len(forms)+1, len(forms)+2
		there[withCode].Code = "731994"
		b := newBench(t, ingest.Config{Memory: true}, ricloudtest.WithAccounts(there...),
			ricloudtest.WithDelays(delays()))
		var logged strings.Builder
		h := b.handlers()
		h.Attempts, h.Concurrency = 2, 1
		h.Logger = slog.New(slog.NewTextHandler(&logged, nil))
		var given atomic.Int32
		h.Secret = func(_ context.Context, key string) (ricloud.Secret, error) {
			if key == here[withCode].Key && given.Add(1) > 1 {
				return ricloud.Secret{}, errors.New("it was " + odd + " the last time")
			}
			return ricloud.NewSecret(odd), nil
		}
		h.Result = func(_ context.Context, r *ingest.Result) error {
			switch r.Account {
			case here[panicking].Key:
				panic("the proxy refused " + odd)
			case here[stepping].Key:
				return errors.New("no secret here")
			}
			i := slices.IndexFunc(here, func(a ingest.Account) bool { return a.Key == r.Account })
			return errors.New("the proxy refused " + forms[i])
		}
		h.Step = func(_ context.Context, key string, _ ingest.Step) {
			if key == here[stepping].Key {
				panic("in Step: " + odd)
			}
		}
		stop := b.run(h)
		b.submit(here...)
		b.wait(1, ingest.CodeNeeded)
		require.ErrorContains(t, b.engine.Code(t.Context(), here[withCode].Key,
			ricloud.NewSecret("731994")), "it was [redacted] the last time")
		b.wait(len(here)-1, ingest.Dead)
		var all strings.Builder
		for status, err := range b.engine.Accounts(t.Context()) {
			require.NoError(t, err)
			fmt.Fprintf(&all, "%+v\n", status)
		}
		stop()
		said := all.String()
		assert.Equal(t, len(forms)+2, strings.Count(said, "Reason:results could not be handled"))
		assert.Contains(t, logged.String(), "in Step: [redacted]")
		for _, form := range forms {
			assert.NotContains(t, said, form)
			assert.NotContains(t, logged.String(), form)
		}
	})
}
