package ingest_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
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
