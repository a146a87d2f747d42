package ricloudtest_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/reincubate/ricloud-go/ricloudtest"
)

// If an option has an invalid value, every call fails with an error that says why.
func TestOptionsThatCannotWork(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		opt  ricloudtest.Option
		want string
	}{
		"nil":                      {opt: nil, want: "option 0 is nil"},
		"no token":                 {opt: ricloudtest.WithToken(""), want: "token"},
		"a token with a space":     {opt: ricloudtest.WithToken("a b"), want: "token"},
		"a token that is no ASCII": {opt: ricloudtest.WithToken("schlüssel"), want: "token"},
		"no speed":                 {opt: ricloudtest.WithSpeed(0), want: "speed"},
		"a negative speed":         {opt: ricloudtest.WithSpeed(-1), want: "speed"},
		"a generation":             {opt: ricloudtest.WithGeneration(9), want: "generation 9"},
		"a rate limit":             {opt: ricloudtest.WithRateLimit(-1, time.Hour), want: "rate limit"},
		"a limit of no time":       {opt: ricloudtest.WithRateLimit(5, 0), want: "rate limit"},
		"polls in flight":          {opt: ricloudtest.WithInFlightLimit(-1), want: "in-flight"},
		"a lifetime":               {opt: ricloudtest.WithSessionLifetime(-1), want: "lifetime"},
		"a delay": {
			opt:  ricloudtest.WithDelays(ricloudtest.Delays{Task: ricloudtest.Fixed(-1)}),
			want: "task",
		},
		"retries":   {opt: ricloudtest.WithWebhookRetries(-1), want: "retries"},
		"a webhook": {opt: ricloudtest.WithWebhooks("receiver"), want: "receiver"},
		"a webhook rate": {
			opt:  ricloudtest.WithWebhookFaults(ricloudtest.WebhookFaults{Drop: 1.5}),
			want: "1.5",
		},
		"a receiver":    {opt: ricloudtest.WithReceiver("https://x", nil), want: "https://x"},
		"a transport":   {opt: ricloudtest.WithWebhookTransport(nil), want: "transport"},
		"a publisher":   {opt: ricloudtest.WithPublisher(nil), want: "publisher"},
		"a folder":      {opt: ricloudtest.WithLocalStorage(""), want: "folder"},
		"a logger":      {opt: ricloudtest.WithLogger(nil), want: "logger"},
		"a storage key": {opt: ricloudtest.WithStorageKey("id", ""), want: "storage key"},
		"a public URL":  {opt: ricloudtest.WithPublicURLs("sandbox", ""), want: "public URL"},
		"with a query": {
			opt: ricloudtest.WithPublicURLs("https://a.example?b", ""), want: "public URL",
		},
		"with a part": {
			opt: ricloudtest.WithPublicURLs("", "https://a.example#b"), want: "public URL",
		},
		"with a user": {
			opt: ricloudtest.WithPublicURLs("https://u:p@a.example", ""), want: "public URL",
		},
		"an origin": {opt: ricloudtest.WithCORS("https://x/y"), want: "https://x/y"},
		"a scope": {
			opt: ricloudtest.WithScopes(ricloudtest.Scopes{"calls": nil}), want: "calls",
		},
		"a limit's level": {
			opt:  ricloudtest.WithScopes(ricloudtest.Scopes{"data_type:x": {{Level: "world"}}}),
			want: "world",
		},
		"a fault": {
			opt:  ricloudtest.WithFaults(ricloudtest.Fault{Operation: "Pols.Get", Status: 500}),
			want: "Pols.Get",
		},
		"a service": {
			opt:  ricloudtest.WithAccounts(ricloudtest.Account{Service: "skype", Identifier: "x"}),
			want: "skype",
		},
		"a relay without code": {
			opt: ricloudtest.WithAccounts(ricloudtest.Account{
				Service: "rirelay.instance", Identifier: "x",
			}),
			want: "pairing",
		},
		"nobody's account": {
			opt: ricloudtest.WithAccounts(ricloudtest.Account{}), want: "without an identifier",
		},
		"a bad child": {
			opt: ricloudtest.WithAccounts(ricloudtest.Account{
				Identifier: "x",
				Children:   []ricloudtest.Account{{}},
			}),
			want: "identifier",
		},
		"wrong codes": {
			opt:  ricloudtest.WithAccounts(ricloudtest.Account{Identifier: "x", WrongCodes: -1}),
			want: "the number of wrong codes, -1, is negative",
		},
		"twins": {
			opt: ricloudtest.WithAccounts(ricloudtest.Account{Identifier: "x"},
				ricloudtest.Account{Identifier: "x"}),
			want: "two",
		},
		"a dump": {opt: ricloudtest.WithState([]byte("{}")), want: "version"},
	} {
		srv := newServer(t, test.opt)
		require.ErrorContains(t, srv.Err(), test.want, name)
		require.ErrorContains(t, srv.Start(), test.want, name)
		_, err := srv.Client().Keys.Current(t.Context())
		require.ErrorContains(t, err, test.want, name)
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://127.0.0.1/key",
			http.NoBody)
		require.NoError(t, err)
		got := serve(srv, r)
		assert.Equal(t, http.StatusInternalServerError, got.status, name)
		assert.Contains(t, got.body.String(), "internal-error", name)
	}
	require.NoError(t, newServer(t).Err())
}

// A misspelt operation is refused, and CountCalls returns -1 instead of 0.
func TestMisspeltOperations(t *testing.T) {
	t.Parallel()
	srv := newServer(t)
	assert.Equal(t, 0, srv.CountCalls("Polls.Create"))
	assert.Equal(t, -1, srv.CountCalls("Pols.Create"))
	require.Error(t, srv.SetFaults(ricloudtest.Fault{Operation: "Pols.Create", Status: 500}))
	assert.Empty(t, srv.Faults())
	require.Error(t, srv.ExpireSession("x", "nonsense"))
}

// A client of a sandbox that answers 500 uses all its retries within milliseconds.
func TestRetriesTakeNoTime(t *testing.T) {
	t.Parallel()
	srv := newServer(t, ricloudtest.WithFaults(ricloudtest.Fault{Status: 500, Count: -1}))
	began := time.Now()
	_, err := srv.Client().Keys.Current(t.Context())
	require.Error(t, err)
	assert.Greater(t, srv.CountCalls("Keys.Current"), 2, "it was tried again")
	assert.Less(t, time.Since(began), 500*time.Millisecond)
}
